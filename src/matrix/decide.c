/* decide.c - the rule table: facts of each variant in, one plan out; then what would change it, and a choice for each device. */
#include "matrix/decide.h"
#include "matrix/decide_facts.h"
#include "quant/places.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB   1048576.0
#define LINES 24

typedef enum rule_id { RULE_NOTHING, RULE_MEMORY, RULE_ONE, RULE_TWO, RULE_FEW, RULE_MANY } rule_id;
static const char *const rule_text[] = {
    [RULE_NOTHING] = "nothing was measured",
    [RULE_MEMORY] = "memory budget first: what does not fit a device is out",
    [RULE_ONE] = "one platform: quantise for it",
    [RULE_TWO] = "two platforms: quantise for each, with validation across both",
    [RULE_FEW] = "three or four platforms: measured both, the cost of validation decides",
    [RULE_MANY] = "five and more platforms, or unknown ones: distilled float, or portable INT8 where it is bit-identical",
};

#define NONE SIZE_MAX

typedef struct plan {
    rule_id rule;
    size_t one;          /* the variant for all; NONE: for_row says */
    size_t *for_row;     /* [n_targets]; NONE: nothing serves there */
    bool costly;         /* RULE_FEW: quantising for each costs more than matrix.minutes */
} plan;

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

static bool is_int8(const option_facts *v)
{
    return v->kind == OPTION_INT8 || v->kind == OPTION_PORTABLE;
}

/* Of two that serve a row: the faster there by more than a tenth, else the smaller, else the more accurate. */
static bool better(const facts *f, const option_facts *a, const option_facts *b, size_t row)
{
    const matrix_cell *x = facts_cell(f, a, row), *y = facts_cell(f, b, row);
    bool timed = !x->emulated && !y->emulated && x->p50_ms > 0 && y->p50_ms > 0;
    if (timed && (x->p50_ms < 0.9 * y->p50_ms || y->p50_ms < 0.9 * x->p50_ms))
        return x->p50_ms < y->p50_ms;
    if (a->bytes != b->bytes && a->bytes >= 0 && b->bytes >= 0 && llabs(a->bytes - b->bytes) * 50 > b->bytes)
        return a->bytes < b->bytes;
    return f->m->numbers ? x->error < y->error : x->accuracy > y->accuracy;
}

/* The best in a row among 8-bit variants (`any`: among all) that fit; NONE. */
static size_t best_in(const facts *f, size_t row, bool any, bool small)
{
    size_t best = NONE;
    for (size_t i = 0; i < f->n; i++) {
        const option_facts *v = &f->at[i];
        if ((any || is_int8(v)) && (!small || fits_devices(f, v)) && facts_fits(f, v, row) &&
            (best == NONE || better(f, v, &f->at[best], row)))
            best = i;
    }
    return best;
}

/* Portable INT8 that is bit-identical in more rows than it is wrong in; the one that serves most. */
static size_t best_portable(const facts *f, bool small)
{
    size_t best = NONE;
    for (size_t i = 0; i < f->n; i++) {
        const option_facts *v = &f->at[i];
        if (v->kind != OPTION_PORTABLE || v->fit == 0 || v->fit <= v->wrong || (small && !fits_devices(f, v)))
            continue;
        if (best == NONE || v->fit > f->at[best].fit || (v->fit == f->at[best].fit && v->accuracy > f->at[best].accuracy))
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

/* One variant for all, another only in rows that it does not serve. */
static void ship_one(const facts *f, plan *p, size_t variant, bool small)
{
    p->one = variant;
    for (size_t i = 0; i < f->n_targets; i++) {
        size_t row = f->target[i];
        p->for_row[i] = facts_fits(f, &f->at[variant], row) ? variant : small ? best_in(f, row, true, true) : float_in(f, row);
    }
}

static void ship_each(const facts *f, plan *p, bool small)
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

static void ship_broadly(const facts *f, plan *p, bool small)
{
    size_t portable = best_portable(f, small);
    if (portable != NONE)
        ship_one(f, p, portable, small);
    else if (!small && f->fp32 < f->n && f->at[f->fp32].fit)
        ship_one(f, p, f->fp32, false);
    else
        ship_each(f, p, small);
}

static double minutes_of(const facts *f, const plan *p)
{
    double sum = 0;
    for (size_t i = 0; i < f->n_targets; i++) {
        double s = p->for_row[i] == NONE ? 0 : facts_cell(f, &f->at[p->for_row[i]], f->target[i])->seconds;
        sum += isnan(s) ? 0 : s / 60;
    }
    return sum;
}

static rule_id rule_for(const facts *f, int64_t platforms)
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

static status make_plan(const facts *f, rule_id rule, plan *p)
{
    *p = (plan){.rule = rule, .one = NONE};
    TRY(arena_alloc(f->mem, &p->for_row, f->n_targets, sizeof *p->for_row));
    for (size_t i = 0; i < f->n_targets; i++)
        p->for_row[i] = NONE;
    if (rule == RULE_MEMORY || rule == RULE_MANY) {
        ship_broadly(f, p, rule == RULE_MEMORY);
    } else if (rule != RULE_NOTHING) {
        ship_each(f, p, false);
        p->costly = rule == RULE_FEW && f->o->minutes > 0 && minutes_of(f, p) > f->o->minutes;
        if (p->costly)
            ship_broadly(f, p, false);
    }
    return ST_OK;
}

/* ---- texts ---- */

static const char *size_text(int64_t bytes, char buf[24])
{
    if (bytes < 0)
        snprintf(buf, 24, "unknown size");
    else
        human_bytes((double)bytes, buf);
    return buf;
}

static status add_line(const facts *f, const char ***lines, size_t *n, const text *t)
{
    TRY(t->st);
    if (!*lines)
        TRY(arena_alloc(f->mem, lines, LINES, sizeof **lines));
    return *n < LINES ? arena_strdup(f->mem, &(*lines)[(*n)++], t->s ? t->s : "") : ST_OK;
}

/* "0.8987 (0.0018 less than fp32, p = 0.12: ...)" */
static void add_accuracy(const facts *f, const option_facts *v, text *t)
{
    char said[PAIR_ROOM];
    if (isnan(v->accuracy)) {
        text_add(t, "not measured");
        return;
    }
    text_printf(t, f->m->numbers ? "error %.5g" : "accuracy %.4f", v->accuracy);
    if (isnan(v->drop) || v == &f->at[f->fp32])
        return;
    if (f->m->numbers)
        text_printf(t, " (%+.2f %% against fp32)", 100 * v->drop);
    else
        text_printf(t, " (%.4f %s than fp32%s%s)", fabs(v->drop), v->drop < 0 ? "more" : "less",
                    v->pair.paired ? (v->pair.beyond ? ", " : ", within chance, ") : "", v->pair.paired ? pair_text(&v->pair, said) : "");
}

static void add_variant(const facts *f, const option_facts *v, text *t)
{
    char buf[24];
    text_printf(t, "%s: ", v->variant);
    add_accuracy(f, v, t);
    text_printf(t, ", %s", size_text(v->bytes, buf));
    if (!isnan(v->p50_ms))
        text_printf(t, ", %.3g ms in %s", v->p50_ms, f->m->rows[f->timed].runtime);
    text_printf(t, "; %s %zu of %zu rows that ran it", v->kind == OPTION_PORTABLE ? "bit-identical in" : "right in", v->ran - v->wrong, v->ran);
    if (*v->wrong_in)
        text_printf(t, ", wrong or broken in %s", v->wrong_in);
}

static status say_because(const facts *f, const plan *p, decision *d)
{
    text t = {0};
    status st = ST_OK;
    if (f->platforms)
        text_printf(&t, "%lld platform%s", (long long)f->platforms, f->platforms == 1 ? "" : "s");
    else
        text_printf(&t, "platforms are not known ([device NAME] sections or matrix.platforms would say); all %zu rows that ran count", f->n_targets);
    for (size_t i = 0; f->named && i < f->n_targets; i++)
        text_printf(&t, "%s%s", i ? ", " : ": ", f->m->rows[f->target[i]].runtime);
    st = add_line(f, &d->because, &d->n_because, &t);
    for (size_t i = 0; i < f->n && st == ST_OK; i++) {
        t.n = 0;
        add_variant(f, &f->at[i], &t);
        st = add_line(f, &d->because, &d->n_because, &t);
    }
    if (p->rule == RULE_FEW && st == ST_OK) {
        plan each;
        t.n = 0;
        st = make_plan(f, RULE_TWO, &each);
        if (st == ST_OK) {
            text_printf(&t, "validating what is quantised for each row takes %.2g min an update; matrix.minutes allows ", minutes_of(f, &each));
            text_printf(&t, f->o->minutes > 0 ? "%.4g" : "any", f->o->minutes);
            st = add_line(f, &d->because, &d->n_because, &t);
        }
    }
    text_free(&t);
    return st;
}

static status say_summary(const facts *f, const plan *p, decision *d)
{
    text t = {0};
    char buf[24];
    size_t other = 0, none = 0;
    for (size_t i = 0; i < f->n_targets; i++) {
        other += p->for_row[i] != NONE && p->for_row[i] != p->one;
        none += p->for_row[i] == NONE;
    }
    if (p->rule == RULE_NOTHING) {
        text_add(&t, "No variant of the student ran; `distill matrix` measures them.");
    } else if (p->one != NONE) {
        const option_facts *v = &f->at[p->one];
        text_printf(&t, "Ship %s: ", v->variant);
        add_accuracy(f, v, &t);
        text_printf(&t, ", %s, %s %zu of %zu rows", size_text(v->bytes, buf), v->kind == OPTION_PORTABLE ? "the same bits in" : "right in", v->fit,
                    f->n_targets);
        if (other)
            text_printf(&t, "; %zu row%s another variant", other, other == 1 ? " needs" : "s need");
        text_add(&t, ".");
    } else {
        text_add(&t, "Ship per platform: ");
        for (size_t i = 0; i < f->n_targets && t.n < 300; i++)
            text_printf(&t, "%s%s in %s", i ? ", " : "", p->for_row[i] == NONE ? "nothing" : f->at[p->for_row[i]].variant,
                        f->m->rows[f->target[i]].runtime);
        text_add(&t, ".");
    }
    if (none && p->rule != RULE_NOTHING)
        text_printf(&t, " Nothing that was measured serves %zu row%s.", none, none == 1 ? "" : "s");
    status st = t.st == ST_OK ? arena_strdup(f->mem, &d->summary, t.s) : t.st;
    text_free(&t);
    return st;
}

/* ---- what would change it ---- */

static bool same_plan(const facts *f, const plan *a, const plan *b)
{
    return a->one == b->one && memcmp(a->for_row, b->for_row, f->n_targets * sizeof *a->for_row) == 0;
}

static void add_plan(const facts *f, const plan *p, text *t)
{
    if (p->one != NONE)
        text_add(t, f->at[p->one].variant);
    for (size_t i = 0; p->one == NONE && i < f->n_targets && i < 4; i++)
        text_printf(t, "%s%s in %s", i ? ", " : "", p->for_row[i] == NONE ? "nothing" : f->at[p->for_row[i]].variant, f->m->rows[f->target[i]].runtime);
    if (p->one == NONE && f->n_targets > 4)
        text_add(t, ", ...");
}

static status say_other_numbers(const facts *f, const plan *p, decision *d)
{
    static const struct {
        rule_id rule;
        const char *what;
    } others[] = {{RULE_ONE, "one platform"}, {RULE_TWO, "two platforms"}, {RULE_FEW, "three or four platforms"}, {RULE_MANY, "five or more platforms"}};
    status st = ST_OK;
    for (size_t i = 0; i < 4 && st == ST_OK; i++) {
        plan q;
        text t = {0};
        if (others[i].rule == p->rule)
            continue;
        TRY(make_plan(f, others[i].rule, &q));
        if (same_plan(f, p, &q))
            continue;
        text_printf(&t, "with %s: ", others[i].what);
        add_plan(f, &q, &t);
        st = add_line(f, &d->would_change, &d->n_would_change, &t);
        text_free(&t);
    }
    return st;
}

static status say_limits(const facts *f, const plan *p, decision *d)
{
    text t = {0};
    status st = ST_OK;
    for (size_t i = 0; i < f->n && st == ST_OK; i++) { /* accuracy that keeps a smaller variant out */
        const option_facts *v = &f->at[i];
        if (i == p->one || !is_int8(v) || !(v->drop > f->o->loss) || (v->pair.paired && !v->pair.beyond))
            continue;
        t.n = 0;
        text_printf(&t, "matrix.loss of %.4f or more (now %.4g): %s would count", v->drop, f->o->loss, v->variant);
        st = add_line(f, &d->would_change, &d->n_would_change, &t);
    }
    for (size_t i = 0; i < f->n && st == ST_OK; i++) { /* rows that keep portable INT8 from being the same everywhere */
        const option_facts *v = &f->at[i];
        if (v->kind != OPTION_PORTABLE || !v->wrong)
            continue;
        t.n = 0;
        text_printf(&t, "if %s were right in %s: one file, proven once, for %s row%s more", v->variant, v->wrong_in, v->wrong == 1 ? "that" : "those",
                    v->wrong == 1 ? "" : "s");
        st = add_line(f, &d->would_change, &d->n_would_change, &t);
    }
    if (st == ST_OK && p->rule == RULE_FEW && f->o->minutes > 0) {
        plan each;
        st = make_plan(f, RULE_TWO, &each);
        t.n = 0;
        text_printf(&t, "matrix.minutes %s %.3g: %s", p->costly ? "of at least" : "below", minutes_of(f, &each),
                    p->costly ? "quantised for each" : "one variant for all");
        if (st == ST_OK)
            st = add_line(f, &d->would_change, &d->n_would_change, &t);
    }
    if (st == ST_OK && p->one != NONE && f->at[p->one].bytes > 0) {
        t.n = 0;
        text_printf(&t, "a device with less than %.3g MiB for the model: the memory budget decides", (double)f->at[p->one].bytes / MIB);
        st = add_line(f, &d->would_change, &d->n_would_change, &t);
    }
    text_free(&t);
    return st;
}

/* ---- what it costs ---- */

static status count_costs(const facts *f, const plan *p, decision *d)
{
    bool proven = false;
    TRY(arena_alloc(f->mem, &d->costs, f->n_targets, sizeof *d->costs));
    for (size_t i = 0; i < f->n_targets && p->rule != RULE_NOTHING; i++) {
        decision_cost *c = &d->costs[d->n_costs++];
        *c = (decision_cost){.runtime = f->m->rows[f->target[i]].runtime, .minutes = (double)NAN, .bytes = -1};
        if (p->for_row[i] == NONE)
            continue;
        const option_facts *v = &f->at[p->for_row[i]];
        const matrix_cell *cell = facts_cell(f, v, f->target[i]);
        bool free_run = v->kind == OPTION_PORTABLE && proven;
        proven = proven || v->kind == OPTION_PORTABLE;
        *c = (decision_cost){c->runtime, v->variant, free_run ? 0 : 1, free_run ? 0 : cell->seconds / 60, cell->bytes >= 0 ? cell->bytes : v->bytes};
    }
    return ST_OK;
}

static void add_way(decision *d, const facts *f, const char *name, const plan *p, bool bits)
{
    decision_way *w = &d->ways[d->n_ways++];
    *w = (decision_way){.way = name};
    for (size_t i = 0; i < f->n_targets; i++) {
        bool seen = false;
        if (p->for_row[i] == NONE)
            continue;
        const option_facts *v = &f->at[p->for_row[i]];
        double s = facts_cell(f, v, f->target[i])->seconds;
        for (size_t k = 0; k < i; k++)
            seen = seen || p->for_row[k] == p->for_row[i];
        if (!seen || !bits) { /* quantised for each: a file of its own in each row, although the matrix has one calibration */
            w->files += !bits || !seen;
            w->bytes += v->bytes > 0 ? v->bytes : 0;
        }
        if (!(bits && v->kind == OPTION_PORTABLE && seen)) {
            w->runs++;
            w->minutes += isnan(s) ? 0 : s / 60;
        }
    }
}

static status count_ways(const facts *f, decision *d)
{
    plan p;
    size_t portable = best_portable(f, false);
    TRY(arena_alloc(f->mem, &d->ways, 3, sizeof *d->ways));
    TRY(make_plan(f, RULE_NOTHING, &p));
    if (f->fp32 < f->n && f->at[f->fp32].fit) {
        ship_one(f, &p, f->fp32, false);
        add_way(d, f, "distilled float", &p, true);
    }
    if (portable != NONE) {
        ship_one(f, &p, portable, false);
        add_way(d, f, "portable INT8", &p, true);
    }
    ship_each(f, &p, false);
    bool any = false;
    for (size_t i = 0; i < f->n_targets; i++)
        any = any || (p.for_row[i] != NONE && is_int8(&f->at[p.for_row[i]]));
    if (any)
        add_way(d, f, "quantised for each", &p, false);
    return ST_OK;
}

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

/* Does the variant fit the device in that row? `why` says what is missing, or what it needs; `near` what is not known. */
static bool fits_device(const facts *f, const device_profile *d, const option_facts *v, size_t row, bool first_row, text *why)
{
    const matrix_cell *c = facts_cell(f, v, row);
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
    else if (v->bytes >= 0 && (double)v->bytes / MIB > d->flash_mb)
        text_printf(why, "%s takes %s of flash, %.4g MiB are there", v->variant, size_text(v->bytes, buf), d->flash_mb);
    else if ((double)v->bytes / MIB > d->memory_mb || (away && c->peak_mb * 1e6 / MIB > d->memory_mb))
        text_printf(why, "%s takes more than %.4g MiB of memory", v->variant, d->memory_mb);
    else if (!c->emulated && c->p90_ms > d->latency_ms)
        text_printf(why, "%s takes %.3g ms in %s%s, %.4g are allowed", v->variant, c->p90_ms, f->m->rows[row].runtime, away ? "" : " on this machine", d->latency_ms);
    else if (op)
        text_printf(why, "%s has the operator %s, which the device does not cover", v->variant, op);
    else {
        text_printf(why, "%s", size_text(v->bytes, buf));
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

/* In one row: the variant that the plan ships there, else the best one that fits. */
static status choose_in_row(const facts *f, const plan *p, const device_profile *d, size_t row, bool first_row, device_choice *c, text *missing)
{
    size_t planned = p->one, best = NONE;
    text why = {0};
    for (size_t i = 0; i < f->n_targets; i++)
        if (f->target[i] == row)
            planned = p->for_row[i];
    for (size_t i = 0; i < f->n; i++) {
        bool fits = fits_device(f, d, &f->at[i], row, first_row, &why);
        if (fits && (best == NONE || i == planned || (best != planned && better(f, &f->at[i], &f->at[best], row))))
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

static status choose_for_device(const facts *f, const plan *p, const device_profile *d, device_choice *c)
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
static status choose_for_rows(const facts *f, const plan *p, decision *d)
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

/* ---- the whole ---- */

static status decide_all(const matrix *m, const decide_options *o, decision *d)
{
    facts f;
    plan p;
    TRY(facts_find(m, o, &d->mem, &f));
    TRY(make_plan(&f, rule_for(&f, f.platforms), &p));
    TRY(arena_strdup(&d->mem, &d->rule, rule_text[p.rule]));
    d->variant = p.one == NONE ? NULL : f.at[p.one].variant;
    TRY(say_summary(&f, &p, d));
    TRY(say_because(&f, &p, d));
    if (p.rule != RULE_NOTHING) {
        if (p.rule != RULE_MEMORY)
            TRY(say_other_numbers(&f, &p, d));
        TRY(say_limits(&f, &p, d));
        TRY(count_costs(&f, &p, d));
        TRY(count_ways(&f, d));
    }
    if (!o->n_devices)
        return choose_for_rows(&f, &p, d);
    TRY(arena_alloc(&d->mem, &d->choices, o->n_devices, sizeof *d->choices));
    for (size_t i = 0; i < o->n_devices; i++)
        TRY(choose_for_device(&f, &p, &o->devices[i], &d->choices[d->n_choices++]));
    return ST_OK;
}

status decide(const matrix *m, const decide_options *o, decision *out)
{
    *out = (decision){0};
    return decide_all(m, o, out);
}

void decision_free(decision *d)
{
    arena_free(&d->mem);
    *d = (decision){0};
}

status decide_for_job(const job *j, const char *run_dir, const matrix *m, decision *out)
{
    device_profile *devices;
    *out = (decision){0};
    TRY(arena_alloc(&out->mem, &devices, j->n_device, sizeof *devices));
    for (size_t i = 0; i < j->n_device; i++) {
        const job_device *d = &j->device[i];
        devices[i] = (device_profile){.name = d->name, .runtime = d->runtime, .memory_mb = d->memory, .flash_mb = d->flash,
                                      .latency_ms = d->latency, .operators = d->operators.at, .n_operators = d->operators.n,
                                      .fallbacks = d->fallbacks.at, .n_fallbacks = d->fallbacks.n};
    }
    const decide_options o = {.devices = devices, .n_devices = j->n_device, .platforms = j->matrix.platforms, .minutes = j->matrix.minutes,
                              .loss = j->matrix.loss, .run_dir = run_dir};
    return decide_all(m, &o, out);
}
