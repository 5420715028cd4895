/* gate.c - rules on the cells of a matrix, and the table of margins. */
#include "matrix/gate.h"
#include "matrix/gate_rule.h"
#include "matrix/pair.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define ROUNDING 1e-12 /* 0.92 - 0.915 is not more than 0.005 */

typedef struct gate {
    const matrix *m, *champion;
    gate_result *out;
    size_t cap;
} gate;

/* ---- margins ---- */

static void judge(const gate_rule *r, gate_margin *g)
{
    bool most = r->op == GATE_LE || r->op == GATE_LT, open = r->op == GATE_GT || r->op == GATE_LT;
    g->rule = r->text;
    g->limit = r->limit;
    g->margin = most ? r->limit - g->value : g->value - r->limit;
    if (fabs(g->margin) < ROUNDING)
        g->margin = 0;
    g->held = open ? g->margin > 0 : g->margin >= 0; /* false for NAN */
}

/* margins is a block while it grows (gate_apply hands it to the arena). */
static status add(gate *x, const gate_margin *g)
{
    TRY(mem_push(&x->out->margins, &x->cap, x->out->n, sizeof *g));
    x->out->margins[x->out->n++] = *g;
    return ST_OK;
}

/* ---- the cell that a change is measured from ---- */

static bool in_column(const matrix_column *c, const char *model, const char *variant)
{
    bool teacher = c->model && strcmp(c->model, "teacher") == 0;
    return teacher == (strcmp(model, "teacher") == 0) && strcmp(c->variant, variant) == 0;
}

static const matrix_cell *known_cell(const gate_rule *r, const matrix *m, size_t row, size_t column)
{
    const matrix_cell *c = matrix_at(m, row, column);
    bool ran = c->state == CELL_OK || c->state == CELL_DIFFERS;
    return ran && !isnan(r->metric->get(m, c)) ? c : NULL;
}

/* The float32 column of a model in this row, else in the own row, else in the first that has it. */
static const matrix_cell *find_float(const gate_rule *r, const matrix *m, size_t row, bool teacher)
{
    const char *model = teacher ? "teacher" : "student", *variant = teacher ? "teacher-fp32" : "fp32";
    for (size_t k = 0; k < m->n_columns; k++) {
        if (!in_column(&m->columns[k], model, variant))
            continue;
        const matrix_cell *c = known_cell(r, m, row, k);
        for (size_t i = 0; i < m->n_rows && !c && r->metric->kind != GATE_TIME; i++)
            if (strcmp(m->rows[i].runtime, "own") == 0)
                c = known_cell(r, m, i, k);
        for (size_t i = 0; i < m->n_rows && !c && r->metric->kind != GATE_TIME; i++)
            c = known_cell(r, m, i, k);
        return c;
    }
    return NULL;
}

static const matrix_cell *find_reference(const gate *x, const gate_rule *r, size_t row, size_t column)
{
    const matrix_column *c = &x->m->columns[column];
    if (r->against == GATE_TEACHER)
        return find_float(r, x->m, row, true);
    if (r->against == GATE_FP32)
        return find_float(r, x->m, row, c->model && strcmp(c->model, "teacher") == 0);
    const matrix_cell *was = x->champion ? matrix_find(x->champion, x->m->rows[row].runtime, c->variant) : NULL;
    return was && (was->state == CELL_OK || was->state == CELL_DIFFERS) && !isnan(r->metric->get(x->champion, was)) ? was : NULL;
}

static bool same_set(const gate *x, const gate_rule *r)
{
    const char *a = x->m->set, *b = r->against == GATE_CHAMPION ? x->champion->set : a;
    return a && b && strcmp(a, b) == 0;
}

/* The value of a rule on drop or rise. */
static status measure_change(const gate *x, const gate_rule *r, size_t row, size_t column, gate_margin *g)
{
    arena *mem = &x->out->mem;
    const matrix_cell *c = matrix_at(x->m, row, column), *ref = find_reference(x, r, row, column);
    char said[PAIR_ROOM];
    g->value = (double)NAN;
    if (!ref && r->against == GATE_CHAMPION) {
        judge(r, g);
        g->held = true;
        return arena_strdup(mem, &g->note, x->champion ? "the champion has no such figure" : "there is no champion yet");
    }
    if (!ref) {
        judge(r, g);
        return arena_strdup(mem, &g->note, r->against == GATE_TEACHER ? "no figure of the teacher to compare with" : "no figure of fp32 to compare with");
    }
    const matrix *of = r->against == GATE_CHAMPION ? x->champion : x->m;
    double before = r->metric->get(of, ref), now = r->metric->get(x->m, c);
    g->value = r->metric->kind == GATE_SHARE ? before - now : now - before;
    if (r->metric->kind != GATE_ACCURACY) {
        judge(r, g);
        return arena_printf(mem, &g->note, "%.6g against %.6g", now, before);
    }
    pair_result p = pair_compare(ref, c, same_set(x, r));
    g->value = p.drop;
    judge(r, g);
    bool chance = !g->held && !isnan(p.drop) && !p.beyond && !r->strict;
    g->held = g->held || chance;
    return arena_printf(mem, &g->note, "%s%s", chance ? "within chance, " : "", pair_text(&p, said));
}

/* ---- rules on cells ---- */

static bool has_no_run(const matrix_cell *c)
{
    return c->state == CELL_NOT_RUN || c->state == CELL_UNSUPPORTED;
}

static status measure(const gate *x, const gate_rule *r, size_t row, size_t column, gate_margin *g)
{
    arena *mem = &x->out->mem;
    const matrix_cell *c = matrix_at(x->m, row, column);
    *g = (gate_margin){.value = (double)NAN};
    TRY(arena_strdup(mem, &g->runtime, x->m->rows[row].runtime));
    TRY(arena_strdup(mem, &g->variant, x->m->columns[column].variant));
    bool ran = c->state == CELL_OK || c->state == CELL_DIFFERS, timeless = r->metric->kind == GATE_TIME && c->emulated;
    if ((ran || r->metric->kind == GATE_FILE) && !timeless)
        g->value = r->metric->get(x->m, c);
    if (!isnan(g->value) && r->change)
        return measure_change(x, r, row, column, g);
    judge(r, g);
    if (!isnan(g->value))
        return ST_OK;
    if (!ran)
        return arena_printf(mem, &g->note, "%s%s%.200s", cell_state_name(c->state), c->reason ? ": " : "", c->reason ? c->reason : "");
    if (timeless)
        return arena_strdup(mem, &g->note, "emulated: its time has no meaning");
    return arena_strdup(mem, &g->note, x->m->numbers && r->metric->kind <= GATE_SHARE ? "outputs are numbers: a rule on 'error' fits" : "not measured");
}

static bool worse(const gate_margin *a, const gate_margin *b)
{
    if (a->held != b->held)
        return !a->held;
    return isnan(a->margin) ? !isnan(b->margin) : a->margin < b->margin;
}

/* `on all`: the worst cell stands for all. */
static status keep_worst(gate *x, size_t from)
{
    gate_margin *at = x->out->margins, *w = NULL;
    for (size_t i = from; i < x->out->n; i++)
        w = !w || worse(&at[i], w) ? &at[i] : w;
    if (!w)
        return ST_OK;
    gate_margin g = *w;
    TRY(arena_printf(&x->out->mem, &g.note, "worst of %zu: %s/%s%s%s", x->out->n - from, g.runtime, g.variant, g.note ? ", " : "",
                     g.note ? g.note : ""));
    g.runtime = g.variant = NULL;
    at[from] = g;
    x->out->n = from + 1;
    return ST_OK;
}

static status apply_to_cells(gate *x, const gate_rule *r)
{
    size_t from = x->out->n;
    gate_margin g;
    for (size_t row = 0; row < x->m->n_rows; row++)
        for (size_t column = 0; column < x->m->n_columns; column++) {
            const matrix_cell *c = matrix_at(x->m, row, column);
            int covers = gate_rule_covers(r, x->m, row, column);
            if (!covers || (covers < 2 && (has_no_run(c) || (r->metric->kind == GATE_TIME && c->emulated))))
                continue;
            TRY(measure(x, r, row, column, &g));
            TRY(add(x, &g));
        }
    return r->all ? keep_worst(x, from) : ST_OK;
}

/* ---- rules on several cells ---- */

typedef struct spread {
    double value;
    size_t low, high; /* rows */
    pair_result pair;
    size_t cells;
    bool beyond;
} spread;

/* Differences beyond chance go before larger ones that are not. Pairs are compared over the samples that both ran. */
static spread spread_of(const gate *x, const gate_rule *r, size_t column)
{
    spread s = {.value = (double)NAN};
    for (size_t a = 0; a < x->m->n_rows; a++) {
        const matrix_cell *c = matrix_at(x->m, a, column);
        if (!gate_rule_covers(r, x->m, a, column) || has_no_run(c) || isnan(c->accuracy))
            continue;
        s.cells++;
        if (s.cells == 1)
            s.value = 0, s.low = s.high = a;
        for (size_t b = 0; b < a; b++) {
            const matrix_cell *d = matrix_at(x->m, b, column);
            if (!gate_rule_covers(r, x->m, b, column) || has_no_run(d) || isnan(d->accuracy))
                continue;
            pair_result p = pair_compare(c, d, true);
            bool beyond = p.beyond || r->strict;
            if (beyond > s.beyond || (beyond == s.beyond && fabs(p.drop) > s.value))
                s = (spread){fabs(p.drop), p.drop > 0 ? b : a, p.drop > 0 ? a : b, p, s.cells, beyond};
        }
    }
    return s;
}

static status apply_spread(gate *x, const gate_rule *r)
{
    arena *mem = &x->out->mem;
    char said[PAIR_ROOM];
    size_t from = x->out->n;
    for (size_t k = 0; k < x->m->n_columns; k++) {
        spread s = spread_of(x, r, k);
        gate_margin g = {.value = s.value};
        if (!s.cells)
            continue;
        TRY(arena_strdup(mem, &g.variant, x->m->columns[k].variant));
        judge(r, &g);
        bool chance = !g.held && !s.beyond;
        g.held = g.held || chance;
        if (s.value > 0)
            TRY(arena_printf(mem, &g.note, "%s%s above %s, %s", chance ? "within chance: " : "", x->m->rows[s.high].runtime,
                             x->m->rows[s.low].runtime, pair_text(&s.pair, said)));
        TRY(add(x, &g));
    }
    for (size_t i = from; r->all && i < x->out->n; i++)
        x->out->margins[i].runtime = "all"; /* keep_worst names RUNTIME/VARIANT */
    return r->all ? keep_worst(x, from) : ST_OK;
}

static status apply_broken(gate *x, const gate_rule *r)
{
    gate_margin g = {0};
    text t = {0};
    size_t cells = 0;
    for (size_t row = 0; row < x->m->n_rows; row++)
        for (size_t k = 0; k < x->m->n_columns; k++) {
            const matrix_cell *c = matrix_at(x->m, row, k);
            if (!gate_rule_covers(r, x->m, row, k) || has_no_run(c))
                continue;
            cells++;
            if (c->state == CELL_OK)
                continue;
            if (t.n < 200)
                text_printf(&t, "%s%s/%s %s", t.n ? ", " : "", x->m->rows[row].runtime, x->m->columns[k].variant, cell_state_name(c->state));
            g.value++;
        }
    status st = t.st;
    if (!cells)
        g.value = (double)NAN;
    judge(r, &g);
    if (st == ST_OK && (t.n || !cells))
        st = arena_strdup(&x->out->mem, &g.note, cells ? t.s : "no cell ran");
    text_free(&t);
    return st == ST_OK ? add(x, &g) : st;
}

/* ---- the whole ---- */

static status apply_rule(gate *x, const char *rule)
{
    gate_rule r;
    size_t from = x->out->n;
    TRY(gate_rule_read(rule, &x->out->mem, &r));
    TRY(gate_rule_fits(&r, x->m));
    if (r.metric->kind == GATE_BROKEN)
        TRY(apply_broken(x, &r));
    else if (r.metric->kind == GATE_SPREAD)
        TRY(apply_spread(x, &r));
    else
        TRY(apply_to_cells(x, &r));
    if (x->out->n > from)
        return ST_OK;
    gate_margin none = {.value = (double)NAN, .note = "no cell that it covers ran"};
    judge(&r, &none);
    return add(x, &none);
}

status gate_apply(const matrix *m, const matrix *champion, const char *const *rules, size_t n, gate_result *out)
{
    gate x = {.m = m, .champion = champion, .out = out};
    gate_margin *kept = NULL;
    status st = ST_OK;
    *out = (gate_result){.held = true};
    for (size_t i = 0; i < n && st == ST_OK; i++)
        st = apply_rule(&x, rules[i]);
    gate_margin *grown = out->margins;
    if (st == ST_OK)
        st = arena_alloc(&out->mem, &kept, out->n, sizeof *kept);
    if (st == ST_OK && out->n)
        memcpy(kept, grown, out->n * sizeof *kept);
    for (size_t i = 0; st == ST_OK && i < out->n; i++)
        out->held = out->held && kept[i].held;
    mem_free(grown);
    out->margins = kept;
    if (st != ST_OK)
        out->n = 0, out->held = false;
    return st;
}

void gate_free(gate_result *g)
{
    arena_free(&g->mem);
    *g = (gate_result){0};
}

status gate_check_rule(const char *rule)
{
    arena mem = {0};
    gate_rule r;
    status st = gate_rule_read(rule, &mem, &r);
    arena_free(&mem);
    return st;
}

status gate_rules_of(const job *j, arena *mem, const char *const **rules, size_t *n)
{
    const char **at;
    TRY(arena_alloc(mem, &at, j->gate.n_free, sizeof *at));
    for (size_t i = 0; i < j->gate.n_free; i++) {
        const free_key *k = &j->gate.free[i];
        at[i] = strpbrk(k->key, "<>") ? k->key : k->value;
        status st = gate_check_rule(at[i]);
        if (st == ST_CONFIG)
            return config_fault(&k->from, "%s", status_message());
        TRY(st);
    }
    *rules = at;
    *n = j->gate.n_free;
    return ST_OK;
}
