/* decide_device.c - what each device gets: the rollout's variant where it fits, else the best that does. */
#include "matrix/decide_rollout.h"
#include "quant/places.h"

#include <math.h>
#include <string.h>

/* ---- devices ---- */

/* The first operator of the file that the device does not cover; NULL: it covers all, or nothing is known. */
static const char *uncovered(const device_profile *d, const option_facts *v)
{
    for (size_t i = 0; v->operators_known && d->n_operators && i < v->n_operators; i++) {
        bool covered = false;
        for (size_t k = 0; k < d->n_operators; k++)
            covered = covered || pattern_matches(d->operators[k], v->operators[i]);
        if (!covered)
            return v->operators[i];
    }
    return NULL;
}

/* Does the variant fit the device in that row? `why` says what is missing, or what it needs and what is not known. */
static bool fits_device(const facts *f, const device_profile *d, const option_facts *v, size_t row, bool first_row, text *why)
{
    const matrix_cell *c = facts_cell(f, v, row);
    int64_t bytes = c->bytes >= 0 ? c->bytes : v->bytes; /* of the form that this runtime reads */
    bool away = c->host && strcmp(c->host, "here") != 0;
    char buf[24];
    const char *op = first_row ? uncovered(d, v) : NULL; /* operators are those of its own runtime */
    why->n = 0;
    if (c->state == CELL_NOT_RUN)
        text_printf(why, "%s did not run in %s; `distill matrix pack --for TARGET` takes it there", v->variant, f->m->rows[row].runtime);
    else if (c->state != CELL_OK)
        text_printf(why, "%s: %s in %s", v->variant, cell_state_name(c->state), f->m->rows[row].runtime);
    else if (!facts_fits(f, v, row))
        text_printf(why, "%s loses more than matrix.loss = %.4g in %s", v->variant, f->o->loss, f->m->rows[row].runtime);
    else if (bytes >= 0 && (double)bytes / MIB > d->flash_mb)
        text_printf(why, "%s takes %s of flash, %.4g MiB are there", v->variant, decide_size(bytes, buf), d->flash_mb);
    else if ((double)bytes / MIB > d->memory_mb || (away && c->peak_mb * 1e6 / MIB > d->memory_mb))
        text_printf(why, "%s takes more than %.4g MiB of memory", v->variant, d->memory_mb);
    else if (!c->emulated && c->p90_ms > d->latency_ms)
        text_printf(why, "%s takes %.3g ms in %s%s, %.4g are allowed", v->variant, c->p90_ms, f->m->rows[row].runtime, away ? "" : " on this machine", d->latency_ms);
    else if (op)
        text_printf(why, "%s has the operator %s, which the device does not cover", v->variant, op);
    else {
        text_printf(why, "%s", decide_size(bytes, buf));
        if (!isnan(d->flash_mb))
            text_printf(why, " of %.4g MiB", d->flash_mb);
        if (!c->emulated && !isnan(c->p90_ms))
            text_printf(why, ", p90 %.3g ms%s", c->p90_ms, away ? "" : " on this machine");
        if (!isnan(d->latency_ms) && (c->emulated || isnan(c->p90_ms)))
            text_add(why, ", its time there is not known");
        if (!isnan(d->memory_mb) && !away)
            text_add(why, ", its memory there is not known");
        if (d->n_operators && !v->operators_known)
            text_add(why, ", its operators are not known");
        return true;
    }
    return false;
}

/* In one row: the variant that the rollout has there, else the best one that fits. */
static status choose_in_row(const facts *f, const rollout *p, const device_profile *d, size_t row, bool first_row, device_choice *c, text *missing)
{
    size_t planned = p->one, best = NONE;
    bool ran = false;
    text why = {0};
    for (size_t i = 0; i < f->n; i++)
        ran = ran || facts_cell(f, &f->at[i], row)->state != CELL_NOT_RUN;
    if (!ran) {
        text_printf(missing, "%snothing ran in %s; `distill matrix pack --for TARGET` takes it there", missing->n ? "; " : "", f->m->rows[row].runtime);
        return missing->st;
    }
    for (size_t i = 0; i < f->n_targets; i++)
        if (f->target[i] == row)
            planned = p->for_row[i];
    for (size_t i = 0; i < f->n; i++) {
        bool fits = fits_device(f, d, &f->at[i], row, first_row, &why);
        if (fits && (best == NONE || i == planned || (best != planned && rollout_better(f, &f->at[i], &f->at[best], row))))
            best = i;
        if (!fits && missing->n < 400)
            text_printf(missing, "%s%s", missing->n ? "; " : "", why.s ? why.s : "");
    }
    status st = why.st;
    if (st == ST_OK && best != NONE) {
        (void)fits_device(f, d, &f->at[best], row, first_row, &why);
        c->runtime = f->m->rows[row].runtime;
        c->variant = f->at[best].variant;
        st = why.st == ST_OK ? arena_strdup(f->mem, &c->why, why.s) : why.st;
    }
    text_free(&why);
    return st;
}

static size_t find_row(const matrix *m, const char *runtime)
{
    for (size_t i = 0; i < m->n_rows; i++)
        if (strcmp(m->rows[i].runtime, runtime) == 0)
            return i;
    return NONE;
}

static status choose_for_device(const facts *f, const rollout *p, const device_profile *d, device_choice *c)
{
    text missing = {0};
    status st = ST_OK;
    *c = (device_choice){0};
    TRY(arena_strdup(f->mem, &c->device, d->name));
    if (d->runtime && *d->runtime)
        TRY(arena_strdup(f->mem, &c->runtime, d->runtime));
    if (c->runtime) {
        st = choose_in_row(f, p, d, find_row(f->m, d->runtime), true, c, &missing);
    } else {
        for (size_t i = 0; i < f->n_targets && !c->variant && st == ST_OK; i++)
            st = choose_in_row(f, p, d, f->target[i], true, c, &missing);
    }
    for (size_t i = 0; i < d->n_fallbacks && !c->variant && st == ST_OK; i++) {
        size_t row = find_row(f->m, d->fallbacks[i]);
        if (row == NONE)
            st = fail(ST_CONFIG, "[device %s]: fallbacks: the matrix has no row '%s'", d->name, d->fallbacks[i]);
        else
            st = choose_in_row(f, p, d, row, false, c, &missing);
    }
    if (st == ST_OK)
        st = missing.st;
    if (st == ST_OK && !c->variant)
        st = arena_strdup(f->mem, &c->why, missing.s ? missing.s : "nothing was measured");
    text_free(&missing);
    return st;
}

/* Without devices: rows where something else ships. */
static status choose_for_rows(const facts *f, const rollout *p, decision *d)
{
    TRY(arena_alloc(f->mem, &d->choices, f->n_targets, sizeof *d->choices));
    for (size_t i = 0; i < f->n_targets && p->rule != RULE_NOTHING; i++) {
        if (p->for_row[i] == p->one && p->one != NONE)
            continue;
        const char *row = f->m->rows[f->target[i]].runtime;
        device_choice *c = &d->choices[d->n_choices++];
        *c = (device_choice){.device = row, .runtime = row, .variant = p->for_row[i] == NONE ? NULL : f->at[p->for_row[i]].variant};
        if (p->one != NONE)
            TRY(arena_printf(f->mem, &c->why, "%s: %s there", f->at[p->one].variant, cell_state_name(facts_cell(f, &f->at[p->one], f->target[i])->state)));
        else
            TRY(arena_strdup(f->mem, &c->why, c->variant ? "the best that holds there" : "nothing that was measured holds there"));
    }
    return ST_OK;
}

status decide_devices(const facts *f, const rollout *p, decision *d)
{
    if (!f->o->n_devices)
        return choose_for_rows(f, p, d);
    TRY(arena_alloc(f->mem, &d->choices, f->o->n_devices, sizeof *d->choices));
    for (size_t i = 0; i < f->o->n_devices; i++)
        TRY(choose_for_device(f, p, &f->o->devices[i], &d->choices[d->n_choices++]));
    return ST_OK;
}
