/* decide.c - facts of each variant in, one rollout out (decide_rollout.h); then what is said of it, and what would change it. */
#include "matrix/decide.h"
#include "matrix/decide_rollout.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define LINES 24

/* ---- texts ---- */

const char *decide_size(int64_t bytes, char buf[24])
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
    else if (fabs(v->drop) < 5e-5)
        text_add(t, " (as fp32)");
    else
        text_printf(t, " (%.4f %s than fp32%s%s)", fabs(v->drop), v->drop < 0 ? "more" : "less",
                    v->pair.paired ? (v->pair.beyond ? ", " : ", within chance, ") : "", v->pair.paired ? pair_text(&v->pair, said) : "");
}

static void add_variant(const facts *f, const option_facts *v, text *t)
{
    char buf[24];
    text_printf(t, "%s: ", v->variant);
    add_accuracy(f, v, t);
    text_printf(t, ", %s", decide_size(v->bytes, buf));
    if (!isnan(v->p50_ms))
        text_printf(t, ", %.3g ms in %s", v->p50_ms, f->m->rows[f->timed].runtime);
    if (v->ran)
        text_printf(t, "; %s %zu of %zu row%s that ran it", v->kind == OPTION_PORTABLE ? "bit-identical in" : "right in", v->ran - v->wrong, v->ran,
                    v->ran == 1 ? "" : "s");
    else
        text_add(t, "; no row ran it");
    if (*v->wrong_in)
        text_printf(t, ", wrong or broken in %s", v->wrong_in);
}

static status say_because(const facts *f, const rollout *p, decision *d)
{
    text t = {0};
    status st = ST_OK;
    if (f->platforms)
        text_printf(&t, "%lld platform%s", (long long)f->platforms, f->platforms == 1 ? "" : "s");
    else
        text_printf(&t, "platforms are not known (%s); all %zu rows that ran count",
                    f->o->n_devices ? "a [device NAME] names no runtime" : "[device NAME] sections or matrix.platforms would say", f->n_targets);
    for (size_t i = 0; f->named && i < f->n_targets; i++)
        text_printf(&t, "%s%s", i ? ", " : ": ", f->m->rows[f->target[i]].runtime);
    st = add_line(f, &d->because, &d->n_because, &t);
    for (size_t i = 0; i < f->n && st == ST_OK; i++) {
        t.n = 0;
        add_variant(f, &f->at[i], &t);
        st = add_line(f, &d->because, &d->n_because, &t);
    }
    if (p->rule == RULE_FEW && st == ST_OK) {
        rollout each;
        t.n = 0;
        st = rollout_make(f, RULE_TWO, &each);
        if (st == ST_OK) {
            text_printf(&t, "validating what is quantised for each row takes %.2g min an update; matrix.minutes allows ", rollout_minutes(f, &each));
            text_printf(&t, f->o->minutes > 0 ? "%.4g" : "any", f->o->minutes);
            st = add_line(f, &d->because, &d->n_because, &t);
        }
    }
    text_free(&t);
    return st;
}

static status say_summary(const facts *f, const rollout *p, decision *d)
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
        text_printf(&t, ", %s, %s %zu of %zu rows", decide_size(v->bytes, buf), v->kind == OPTION_PORTABLE ? "the same bits in" : "right in", v->fit,
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

static bool same_plan(const facts *f, const rollout *a, const rollout *b)
{
    return a->one == b->one && memcmp(a->for_row, b->for_row, f->n_targets * sizeof *a->for_row) == 0;
}

static void add_plan(const facts *f, const rollout *p, text *t)
{
    if (p->one != NONE)
        text_add(t, f->at[p->one].variant);
    for (size_t i = 0; p->one == NONE && i < f->n_targets && i < 4; i++)
        text_printf(t, "%s%s in %s", i ? ", " : "", p->for_row[i] == NONE ? "nothing" : f->at[p->for_row[i]].variant, f->m->rows[f->target[i]].runtime);
    if (p->one == NONE && f->n_targets > 4)
        text_add(t, ", ...");
}

/* Without devices nobody knows which rows two platforms would be: the row for times stands for one. */
static status say_unnamed(const facts *f, const rollout *p, decision *d)
{
    text t = {0};
    rollout q;
    status st = rollout_make(f, RULE_ONE, &q);
    for (size_t i = 0; st == ST_OK && p->rule == RULE_MANY && i < f->n_targets; i++)
        if (f->target[i] == f->timed && q.for_row[i] != NONE) {
            text_printf(&t, "with one platform: quantised for it, in %s: %s", f->m->rows[f->timed].runtime, f->at[q.for_row[i]].variant);
            st = add_line(f, &d->would_change, &d->n_would_change, &t);
        }
    t.n = 0;
    if (p->rule == RULE_MANY)
        text_add(&t, "with two platforms: quantised for each; with three or four: too, as far as matrix.minutes allows");
    else
        text_add(&t, "with five or more platforms: distilled float, or portable INT8 where it is bit-identical");
    if (st == ST_OK)
        st = add_line(f, &d->would_change, &d->n_would_change, &t);
    text_free(&t);
    return st;
}

static status say_other_numbers(const facts *f, const rollout *p, decision *d)
{
    static const struct {
        rule_id rule;
        const char *what;
    } others[] = {{RULE_ONE, "one platform"}, {RULE_TWO, "two platforms"}, {RULE_FEW, "three or four platforms"}, {RULE_MANY, "five or more platforms"}};
    status st = ST_OK;
    if (!f->named)
        return say_unnamed(f, p, d);
    for (size_t i = 0; i < 4 && st == ST_OK; i++) {
        rollout q;
        text t = {0};
        if (others[i].rule == p->rule)
            continue;
        TRY(rollout_make(f, others[i].rule, &q));
        if (same_plan(f, p, &q))
            continue;
        text_printf(&t, "with %s: ", others[i].what);
        add_plan(f, &q, &t);
        st = add_line(f, &d->would_change, &d->n_would_change, &t);
        text_free(&t);
    }
    return st;
}

static status say_limits(const facts *f, const rollout *p, decision *d)
{
    text t = {0};
    status st = ST_OK;
    for (size_t i = 0; i < f->n && st == ST_OK; i++) { /* accuracy that keeps a smaller variant out */
        const option_facts *v = &f->at[i];
        if (i == p->one || !rollout_is_int8(v) || !(v->drop > f->o->loss) || (v->pair.paired && !v->pair.beyond))
            continue;
        t.n = 0;
        text_printf(&t, "matrix.loss of %.4f or more (now %.4g): %s would count", v->drop, f->o->loss, v->variant);
        st = add_line(f, &d->would_change, &d->n_would_change, &t);
    }
    for (size_t i = 0; i < f->n && st == ST_OK; i++) { /* rows that keep portable INT8 from being the same everywhere */
        const option_facts *v = &f->at[i];
        if (i != rollout_portable(f, false) || !*v->wrong_in)
            continue;
        t.n = 0;
        text_printf(&t, "if %s were right in %s: it would ship there too, without a validation of its own", v->variant, v->wrong_in);
        st = add_line(f, &d->would_change, &d->n_would_change, &t);
    }
    if (st == ST_OK && p->rule == RULE_FEW && f->o->minutes > 0) {
        rollout each;
        st = rollout_make(f, RULE_TWO, &each);
        t.n = 0;
        text_printf(&t, "matrix.minutes %s %.3g: %s", p->costly ? "of at least" : "below", rollout_minutes(f, &each),
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

static status count_costs(const facts *f, const rollout *p, decision *d)
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

static void add_way(decision *d, const facts *f, const char *name, const rollout *p, bool bits)
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
    rollout p;
    size_t portable = rollout_portable(f, false);
    TRY(arena_alloc(f->mem, &d->ways, 3, sizeof *d->ways));
    TRY(rollout_make(f, RULE_NOTHING, &p));
    if (f->fp32 < f->n && f->at[f->fp32].fit) {
        rollout_ship_one(f, &p, f->fp32, false);
        add_way(d, f, "distilled float", &p, true);
    }
    if (portable != NONE) {
        rollout_ship_one(f, &p, portable, false);
        add_way(d, f, "portable INT8", &p, true);
    }
    rollout_ship_each(f, &p, false);
    bool any = false;
    for (size_t i = 0; i < f->n_targets; i++)
        any = any || (p.for_row[i] != NONE && rollout_is_int8(&f->at[p.for_row[i]]));
    if (any)
        add_way(d, f, "quantised for each", &p, false);
    return ST_OK;
}

/* ---- the whole ---- */

static status decide_all(const matrix *m, const decide_options *o, decision *d)
{
    facts f;
    rollout p;
    TRY(facts_find(m, o, &d->mem, &f));
    TRY(rollout_make(&f, rule_for(&f, f.platforms), &p));
    TRY(arena_strdup(&d->mem, &d->rule, rule_text(p.rule)));
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
    return decide_devices(&f, &p, d);
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
