/* decide_facts.c - see decide_facts.h. */
#include "matrix/decide_facts.h"
#include "graph/graph.h"
#include "matrix/runtimes.h"
#include "onnx/import.h"

#include <math.h>
#include <string.h>

bool facts_ran(const matrix_cell *c)
{
    return c->state == CELL_OK || c->state == CELL_DIFFERS;
}

const matrix_cell *facts_cell(const facts *f, const option_facts *v, size_t row)
{
    return matrix_at(f->m, row, v->column);
}

bool facts_identical(const option_facts *v)
{
    return v->kind == OPTION_PORTABLE && v->ran > 0 && v->wrong == 0;
}

static double figure(const matrix *m, const matrix_cell *c)
{
    return m->numbers ? c->error : c->accuracy;
}

/* ---- losses ---- */

/* fp32 in that row, else in the reference row; NULL: nothing to compare with. */
static const matrix_cell *float_cell(const facts *f, size_t row)
{
    if (f->fp32 == f->n)
        return NULL;
    const matrix_cell *c = facts_cell(f, &f->at[f->fp32], row);
    if (facts_ran(c) && !isnan(figure(f->m, c)))
        return c;
    c = f->reference == SIZE_MAX ? NULL : facts_cell(f, &f->at[f->fp32], f->reference);
    return c && facts_ran(c) && !isnan(figure(f->m, c)) ? c : NULL;
}

/* How much worse than float; *counts: more than is allowed, and not by chance. NAN: not known. */
static double loss_in(const facts *f, const option_facts *v, size_t row, pair_result *pair, bool *counts)
{
    const matrix_cell *c = facts_cell(f, v, row), *from = float_cell(f, row);
    double drop = (double)NAN;
    *pair = (pair_result){.p = (double)NAN, .low = (double)NAN, .high = (double)NAN};
    *counts = false;
    if (!from || !facts_ran(c))
        return drop;
    if (f->m->numbers) {
        drop = c->error / from->error - 1;
        *counts = drop > f->o->loss;
        return drop;
    }
    *pair = pair_compare(from, c, true);
    *counts = pair->drop > f->o->loss && pair->beyond;
    return pair->drop;
}

bool facts_fits(const facts *f, const option_facts *v, size_t row)
{
    pair_result pair;
    bool counts;
    if (facts_cell(f, v, row)->state != CELL_OK)
        return false;
    (void)loss_in(f, v, row, &pair, &counts);
    return !counts;
}

/* ---- operators ---- */

static void add_operator(option_facts *v, const char *name)
{
    for (size_t i = 0; i < v->n_operators; i++)
        if (strcmp(v->operators[i], name) == 0)
            return;
    v->operators[v->n_operators++] = name;
}

/* What cannot be read costs the knowledge only. */
static status read_operators(const facts *f, option_facts *v)
{
    const matrix_column *c = &f->m->columns[v->column];
    const char *path = NULL;
    onnx_model *model = NULL;
    graph *g = NULL;
    for (size_t i = 0; i < c->n_files && !path; i++)
        if (strcmp(c->files[i].form, "onnx") == 0)
            TRY(arena_printf(f->mem, &path, "%s%s%s", *c->files[i].path == '/' ? "" : f->o->run_dir, *c->files[i].path == '/' ? "" : "/",
                             c->files[i].path));
    status st = path ? onnx_open(path, NULL, &model) : ST_NO_INPUT;
    if (st == ST_OK)
        st = onnx_import(model, &(import_options){.batch = 1}, &g);
    if (st == ST_OK)
        st = arena_alloc(f->mem, &v->operators, OP_COUNT, sizeof *v->operators);
    for (size_t i = 1; st == ST_OK && i < g->n_node; i++)
        if (g->node[i].op)
            add_operator(v, op_of(g->node[i].op)->name);
    v->operators_known = st == ST_OK;
    graph_free(g);
    onnx_close(model);
    return st == ST_OOM ? st : ST_OK;
}

/* ---- rows ---- */

static void add_target(facts *f, size_t row)
{
    for (size_t i = 0; i < f->n_targets; i++)
        if (f->target[i] == row)
            return;
    f->target[f->n_targets++] = row;
}

static size_t row_of(const matrix *m, const char *runtime)
{
    for (size_t i = 0; runtime && i < m->n_rows; i++)
        if (strcmp(m->rows[i].runtime, runtime) == 0)
            return i;
    return SIZE_MAX;
}

static bool row_ran(const facts *f, size_t row)
{
    for (size_t i = 0; i < f->n; i++)
        if (facts_ran(facts_cell(f, &f->at[i], row)))
            return true;
    return false;
}

/* Row own in another precision: no platform of its own, unless a device names it. */
static bool is_narrow(const char *runtime)
{
    const runtime_row *r = runtimes_find(runtime);
    return r && r->bf16;
}

/* Rows that devices name; where one names none, the platforms are not known and all rows that ran count. */
static status find_targets(facts *f)
{
    bool known = f->o->n_devices > 0;
    TRY(arena_alloc(f->mem, &f->target, f->m->n_rows + 1, sizeof *f->target));
    for (size_t i = 0; i < f->o->n_devices; i++) {
        const char *runtime = f->o->devices[i].runtime;
        size_t row = row_of(f->m, runtime);
        if (runtime && *runtime && row == SIZE_MAX)
            return fail(ST_CONFIG, "[device %s]: the matrix has no row '%s'; `distill matrix --list` names them", f->o->devices[i].name, runtime);
        known = known && row != SIZE_MAX;
        if (row != SIZE_MAX)
            add_target(f, row);
    }
    f->named = known;
    f->platforms = f->o->platforms ? f->o->platforms : known ? (int64_t)f->n_targets : 0;
    if (known)
        return ST_OK;
    f->n_targets = 0;
    for (size_t i = 0; i < f->m->n_rows; i++)
        if (row_ran(f, i) && !is_narrow(f->m->rows[i].runtime))
            add_target(f, i);
    return ST_OK;
}

/* Accuracies are those of the own row where it ran, times those of ONNX Runtime, else of the first that was timed. */
static void find_reference(facts *f)
{
    f->reference = f->timed = SIZE_MAX;
    size_t own = row_of(f->m, "own"), ort = row_of(f->m, "ort");
    if (own != SIZE_MAX && row_ran(f, own))
        f->reference = own;
    for (size_t i = 0; i < f->n_targets && f->reference == SIZE_MAX; i++)
        if (row_ran(f, f->target[i]))
            f->reference = f->target[i];
    for (size_t i = 0; i < f->n_targets + 1; i++) {
        size_t row = i < f->n_targets ? f->target[i] : ort;
        if (row == SIZE_MAX || f->m->rows[row].emulated || (f->timed != SIZE_MAX && (row != ort || f->named)))
            continue;
        const matrix_cell *c = f->fp32 < f->n ? facts_cell(f, &f->at[f->fp32], row) : NULL;
        if (c && !isnan(c->p50_ms) && !c->emulated)
            f->timed = row;
    }
}

/* ---- columns ---- */

static option_kind kind_of(const matrix_column *c)
{
    if (c->portable || strncmp(c->variant, "portable", 8) == 0)
        return OPTION_PORTABLE;
    if (strstr(c->variant, "int8"))
        return OPTION_INT8;
    return strstr(c->variant, "16") ? OPTION_HALF : OPTION_FLOAT;
}

static status find_columns(facts *f)
{
    TRY(arena_alloc(f->mem, &f->at, f->m->n_columns, sizeof *f->at));
    for (size_t k = 0; k < f->m->n_columns; k++) {
        const matrix_column *c = &f->m->columns[k];
        if (c->model && strcmp(c->model, "teacher") == 0)
            continue;
        option_facts *v = &f->at[f->n++];
        *v = (option_facts){.column = k, .kind = kind_of(c), .variant = c->variant, .bytes = c->n_files ? c->files[0].bytes : -1, .wrong_in = ""};
        for (size_t i = 0; i < f->m->n_rows && v->bytes < 0; i++)
            v->bytes = matrix_at(f->m, i, k)->bytes;
        if (f->o->run_dir)
            TRY(read_operators(f, v));
    }
    f->fp32 = f->n;
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->at[i].variant, "fp32") == 0)
            f->fp32 = i;
    return ST_OK;
}

static status count(facts *f, option_facts *v)
{
    text wrong = {0};
    bool counts;
    for (size_t i = 0; i < f->n_targets; i++) {
        const matrix_cell *c = facts_cell(f, v, f->target[i]);
        bool broken = c->state == CELL_CRASH || c->state == CELL_TIMEOUT;
        v->ran += facts_ran(c);
        v->fit += facts_fits(f, v, f->target[i]);
        v->wrong += c->state == CELL_DIFFERS;
        v->failed += broken || c->state == CELL_UNSUPPORTED;
        v->absent += c->state == CELL_NOT_RUN;
        v->minutes += isnan(c->seconds) ? 0 : c->seconds / 60;
        if (broken || c->state == CELL_DIFFERS)
            text_printf(&wrong, "%s%s", wrong.n ? ", " : "", f->m->rows[f->target[i]].runtime);
    }
    v->accuracy = v->drop = v->p50_ms = (double)NAN;
    if (f->reference != SIZE_MAX) {
        v->accuracy = figure(f->m, facts_cell(f, v, f->reference));
        v->drop = loss_in(f, v, f->reference, &v->pair, &counts);
    }
    if (f->timed != SIZE_MAX)
        v->p50_ms = facts_cell(f, v, f->timed)->p50_ms;
    status st = wrong.st;
    if (st == ST_OK && wrong.n)
        st = arena_strdup(f->mem, &v->wrong_in, wrong.s);
    text_free(&wrong);
    return st;
}

status facts_find(const matrix *m, const decide_options *o, arena *mem, facts *out)
{
    *out = (facts){.m = m, .o = o, .mem = mem};
    TRY(find_columns(out));
    TRY(find_targets(out));
    find_reference(out);
    for (size_t i = 0; i < out->n; i++)
        TRY(count(out, &out->at[i]));
    return ST_OK;
}
