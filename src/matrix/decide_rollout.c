/* decide_rollout.c - see decide_rollout.h. */
#include "matrix/decide_rollout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const texts[] = {
    [RULE_NOTHING] = "nothing was measured",
    [RULE_MEMORY] = "memory budget first: what does not fit a device is out",
    [RULE_ONE] = "one platform: quantise for it",
    [RULE_TWO] = "two platforms: quantise for each, with validation across both",
    [RULE_FEW] = "three or four platforms: measured both, the cost of validation decides",
    [RULE_MANY] = "five and more platforms, or unknown ones: distilled float, or portable INT8 where it is bit-identical",
};

const char *rule_text(rule_id rule)
{
    return texts[rule];
}

/* ---- which variant ---- */

/* Does the file fit the flash and memory of all devices? */
static bool fits_devices(const facts *f, const option_facts *v)
{
    for (size_t i = 0; i < f->o->n_devices; i++) {
        const device_profile *d = &f->o->devices[i];
        double size = (double)v->bytes / MIB;
        if (v->bytes >= 0 && ((!isnan(d->flash_mb) && size > d->flash_mb) || (!isnan(d->memory_mb) && size > d->memory_mb)))
            return false;
    }
    return true;
}

bool rollout_is_int8(const option_facts *v)
{
    return v->kind == OPTION_INT8 || v->kind == OPTION_PORTABLE;
}

bool rollout_better(const facts *f, const option_facts *a, const option_facts *b, size_t row)
{
    const matrix_cell *x = facts_cell(f, a, row), *y = facts_cell(f, b, row);
    bool timed = !x->emulated && !y->emulated && x->p50_ms > 0 && y->p50_ms > 0;
    if (timed && (x->p50_ms < 0.9 * y->p50_ms || y->p50_ms < 0.9 * x->p50_ms))
        return x->p50_ms < y->p50_ms;
    if (a->bytes != b->bytes && a->bytes >= 0 && b->bytes >= 0 && llabs(a->bytes - b->bytes) * 10 > b->bytes)
        return a->bytes < b->bytes;
    return f->m->numbers ? x->error < y->error : x->accuracy > y->accuracy;
}

/* The best in a row among 8-bit variants (`any`: among all) that fit; NONE. */
static size_t best_in(const facts *f, size_t row, bool any, bool small)
{
    size_t best = NONE;
    for (size_t i = 0; i < f->n; i++) {
        const option_facts *v = &f->at[i];
        if ((any || rollout_is_int8(v)) && (!small || fits_devices(f, v)) && facts_fits(f, v, row) &&
            (best == NONE || rollout_better(f, v, &f->at[best], row)))
            best = i;
    }
    return best;
}

/* Portable INT8 that is bit-identical in more rows than it is wrong in; the one that serves most. */
size_t rollout_portable(const facts *f, bool small)
{
    size_t best = NONE;
    for (size_t i = 0; i < f->n; i++) {
        const option_facts *v = &f->at[i];
        if (v->kind != OPTION_PORTABLE || v->fit == 0 || v->fit <= v->wrong || (small && !fits_devices(f, v)))
            continue;
        size_t row = f->timed != SIZE_MAX ? f->timed : f->reference;
        if (best == NONE || v->fit > f->at[best].fit || (v->fit == f->at[best].fit && rollout_better(f, v, &f->at[best], row)))
            best = i;
    }
    return best;
}

/* ---- plans ---- */

static size_t float_in(const facts *f, size_t row)
{
    if (f->fp32 < f->n && facts_fits(f, &f->at[f->fp32], row))
        return f->fp32;
    return best_in(f, row, true, false);
}

void rollout_ship_one(const facts *f, rollout *p, size_t variant, bool small)
{
    p->one = variant;
    for (size_t i = 0; i < f->n_targets; i++) {
        size_t row = f->target[i];
        p->for_row[i] = facts_fits(f, &f->at[variant], row) ? variant : small ? best_in(f, row, true, true) : float_in(f, row);
    }
}

void rollout_ship_each(const facts *f, rollout *p, bool small)
{
    bool same = true;
    for (size_t i = 0; i < f->n_targets; i++) {
        p->for_row[i] = best_in(f, f->target[i], false, small);
        if (p->for_row[i] == NONE)
            p->for_row[i] = small ? best_in(f, f->target[i], true, true) : float_in(f, f->target[i]);
        same = same && p->for_row[i] == p->for_row[0];
    }
    p->one = same && f->n_targets ? p->for_row[0] : NONE;
}

static void ship_broadly(const facts *f, rollout *p, bool small)
{
    size_t portable = rollout_portable(f, small);
    if (portable != NONE)
        rollout_ship_one(f, p, portable, small);
    else if (!small && f->fp32 < f->n && f->at[f->fp32].fit)
        rollout_ship_one(f, p, f->fp32, false);
    else
        rollout_ship_each(f, p, small);
}

double rollout_minutes(const facts *f, const rollout *p)
{
    double sum = 0;
    for (size_t i = 0; i < f->n_targets; i++) {
        double s = p->for_row[i] == NONE ? 0 : facts_cell(f, &f->at[p->for_row[i]], f->target[i])->seconds;
        sum += isnan(s) ? 0 : s / 60;
    }
    return sum;
}

rule_id rule_for(const facts *f, int64_t platforms)
{
    bool any = false, too_large = f->fp32 < f->n && !fits_devices(f, &f->at[f->fp32]);
    for (size_t i = 0; i < f->n; i++)
        any = any || f->at[i].ran;
    if (!any)
        return RULE_NOTHING;
    if (too_large)
        return RULE_MEMORY;
    return platforms == 1 ? RULE_ONE : platforms == 2 ? RULE_TWO : platforms == 3 || platforms == 4 ? RULE_FEW : RULE_MANY;
}

status rollout_make(const facts *f, rule_id rule, rollout *p)
{
    *p = (rollout){.rule = rule, .one = NONE};
    TRY(arena_alloc(f->mem, &p->for_row, f->n_targets, sizeof *p->for_row));
    for (size_t i = 0; i < f->n_targets; i++)
        p->for_row[i] = NONE;
    if (rule == RULE_MEMORY || rule == RULE_MANY) {
        ship_broadly(f, p, rule == RULE_MEMORY);
    } else if (rule != RULE_NOTHING) {
        rollout_ship_each(f, p, false);
        p->costly = rule == RULE_FEW && f->o->minutes > 0 && rollout_minutes(f, p) > f->o->minutes;
        if (p->costly)
            ship_broadly(f, p, false);
    }
    return ST_OK;
}
