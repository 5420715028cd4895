/* hint.c - FitNets hints: regressor, matching of grids, automatic pairs. */
#include "base/rng.h"
#include "distill/train_graph.h"
#include "ops/attrs.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A regressor's parameter, started as PyTorch starts Conv2d and Linear: uniform in +-1/sqrt(fan in). */
static status add_weight(graph *g, const hint_spec *h, const char *what, shape sh, int64_t fan_in, uint64_t seed,
                         value_id *out)
{
    char name[512];
    float *data;
    int64_t n = shape_count(&sh);
    double bound = 1.0 / sqrt((double)fan_in);
    uint64_t key = 5381;
    snprintf(name, sizeof name, "hint.%s.%s", h->name, what);
    for (const char *s = name; *s; s++)
        key = key * 33 + (unsigned char)*s;
    rng r = rng_make(seed, RNG_INIT, key & 0xffffffffffffu, 0);
    TRY(arena_alloc(&g->mem, &data, (size_t)n, sizeof *data));
    for (int64_t i = 0; i < n; i++)
        data[i] = (float)((2 * rng_uniform(&r) - 1) * bound);
    TRY(graph_add_data(g, name, VALUE_PARAM, DTYPE_F32, sh, data, out));
    if (sh.rank == 1)
        g->value[*out].flags |= VALUE_NO_DECAY_BIAS;
    return ST_OK;
}

static status average_to(graph *g, value_id v, const int64_t *k, int64_t n, value_id *out)
{
    pool_attrs at;
    op_default_attrs(OP_AVERAGE_POOL, &at);
    at.kernel_shape = at.strides = (attr_ints){n, k};
    return graph_add1(g, OP_AVERAGE_POOL, &at, v, 0, 0, out);
}

static status do_not_fit(const graph *g, const hint_spec *h, value_id s, value_id t, const char *why)
{
    char a[200], b[200];
    return fail(ST_CONFIG, "[hint %s]: student '%s' %s and teacher '%s' %s do not fit: %s", h->name, h->student,
                shape_print(&g->value[s].sh, a), h->teacher, shape_print(&g->value[t].sh, b), why);
}

/* Brings two maps onto the coarser of their grids by averaging; factors must be whole. */
static status match_grids(graph *g, const hint_spec *h, value_id *s, value_id *t)
{
    int64_t f[2] = {1, 1}, back[2] = {1, 1};
    int n = g->value[*s].sh.rank - 2;
    for (int i = 0; i < n; i++) {
        int64_t a = g->value[*s].sh.dim[2 + i], b = g->value[*t].sh.dim[2 + i];
        if (a <= 0 || b <= 0 || (a % b && b % a))
            return do_not_fit(g, h, *s, *t, "one grid must be a whole multiple of the other");
        f[i] = a > b ? a / b : 1;
        back[i] = b > a ? b / a : 1;
    }
    if (f[0] * f[1] > 1)
        TRY(average_to(g, *s, f, n, s));
    if (back[0] * back[1] > 1)
        TRY(average_to(g, *t, back, n, t));
    return ST_OK;
}

static status regress_maps(graph *g, const hint_spec *h, uint64_t seed, int64_t c_in, int64_t c_out, value_id *s)
{
    value_id w, b;
    conv_attrs at;
    shape kernel = {.rank = g->value[*s].sh.rank, .dim = {c_out, c_in, 1, 1}};
    op_default_attrs(OP_CONV, &at);
    TRY(add_weight(g, h, "weight", kernel, c_in, seed, &w));
    TRY(add_weight(g, h, "bias", SHAPE(c_out), c_in, seed, &b));
    return graph_add1(g, OP_CONV, &at, *s, w, b, s);
}

static status regress_rows(graph *g, const hint_spec *h, uint64_t seed, int64_t c_in, int64_t c_out, value_id *s)
{
    value_id w, b;
    TRY(add_weight(g, h, "weight", SHAPE(c_in, c_out), c_in, seed, &w));
    TRY(add_weight(g, h, "bias", SHAPE(c_out), c_in, seed, &b));
    TRY(graph_add1(g, OP_MATMUL, NULL, *s, w, 0, s));
    return graph_add1(g, OP_ADD, NULL, *s, b, 0, s);
}

/* Channels of a feature: maps [B, C, H, W] and [B, C, L] have them first, rows [B, F] and [B, T, F] last. What has three
 * dimensions is taken for rows unless the regressor says, or the shapes leave only, maps. */
static bool is_map(const graph *g, const hint_spec *h, value_id s, value_id t)
{
    const shape *a = &g->value[s].sh, *b = &g->value[t].sh;
    if (a->rank != 3)
        return a->rank == 4;
    return h->regressor == REGRESSOR_CONV1X1 ||
           (h->regressor == REGRESSOR_AUTO && a->dim[1] != b->dim[1] && a->dim[2] == b->dim[2]);
}

status hint_build(graph *g, const hint_spec *h, uint64_t seed, value_id tap, value_id *loss)
{
    value_id s = graph_find(g, h->student), t = tap;
    if (!s)
        return fail(ST_CONFIG, "[hint %s]: the student has no value '%s'; `distill inspect` lists them", h->name,
                    h->student);
    int rank = g->value[s].sh.rank;
    if (rank != g->value[t].sh.rank || rank < 2)
        return do_not_fit(g, h, s, t, "they must have the same rank, 2 or more");
    bool map = is_map(g, h, s, t);
    if (map)
        TRY(match_grids(g, h, &s, &t));
    int channel = map ? 1 : rank - 1;
    int64_t c_in = g->value[s].sh.dim[channel], c_out = g->value[t].sh.dim[channel];
    if (rank == 4 && h->regressor == REGRESSOR_LINEAR)
        return do_not_fit(g, h, s, t, "a linear regressor takes features without a grid; use conv1x1");
    if (!map && h->regressor == REGRESSOR_CONV1X1)
        return do_not_fit(g, h, s, t, "conv1x1 takes features with a grid; use linear");
    if (h->regressor == REGRESSOR_NONE && c_in != c_out)
        return do_not_fit(g, h, s, t, "without a regressor the channels must be equal");
    if (h->regressor != REGRESSOR_NONE)
        TRY(map ? regress_maps(g, h, seed, c_in, c_out, &s) : regress_rows(g, h, seed, c_in, c_out, &s));
    if (!shape_equal(&g->value[s].sh, &g->value[t].sh))
        return do_not_fit(g, h, s, t, "the shapes differ after the regressor");
    static const int64_t kinds[] = {[HINT_LOSS_MSE] = REGRESSION_MSE, [HINT_LOSS_L1] = REGRESSION_L1,
                                    [HINT_LOSS_SMOOTH_L1] = REGRESSION_SMOOTH_L1};
    regression_loss_attrs at = {.kind = kinds[h->loss]};
    char name[512];
    const char *names[] = {name};
    value_id in[2] = {s, t};
    snprintf(name, sizeof name, "loss.hint.%s", h->name);
    return graph_add_named(g, name, OP_REGRESSION_LOSS, &at, in, 2, names, loss, 1);
}

/* ---- automatic pairs ---- */

/* The last rank-4 value made on each grid size, in execution order: where a stage ends. */
static status find_stages(const graph *g, value_id **stage, size_t *n)
{
    size_t cap = 0;
    *stage = NULL;
    *n = 0;
    for (size_t k = 1; k < g->n_node; k++) {
        value_id v = g->node[k].n_out ? g->node[k].out[0] : 0;
        const shape *sh = &g->value[v].sh;
        if (!v || g->node[k].when != PHASE_MAIN || sh->rank != 4 || sh->dim[2] * sh->dim[3] <= 1)
            continue;
        const shape *last = *n ? &g->value[(*stage)[*n - 1]].sh : NULL;
        if (last && last->dim[2] == sh->dim[2] && last->dim[3] == sh->dim[3]) {
            (*stage)[*n - 1] = v;
            continue;
        }
        bool again = false; /* a side branch on an earlier grid is no new stage */
        for (size_t i = 0; i < *n; i++)
            again |= g->value[(*stage)[i]].sh.dim[2] == sh->dim[2];
        if (again)
            continue;
        TRY(mem_push(stage, &cap, *n, sizeof **stage));
        (*stage)[(*n)++] = v;
    }
    return ST_OK;
}

status hint_pairs(const graph *student, const graph *teacher, size_t k, hint_spec *out, size_t *n)
{
    value_id *s = NULL, *t = NULL;
    size_t n_s = 0, n_t = 0;
    status st = ST_OK;
    *n = 0;
    TRY_DONE(find_stages(student, &s, &n_s));
    TRY_DONE(find_stages(teacher, &t, &n_t));
    if (n_s == 0 || n_t == 0) {
        st = fail(ST_CONFIG, "[hint auto]: no stages found in the %s; name the values in a [hint NAME] section",
                  n_s ? "teacher" : "student");
        goto done;
    }
    k = k > n_s ? n_s : k;
    for (size_t i = 1; i <= k; i++) { /* stage i of K is paired with the teacher stage at the same fraction */
        value_id sv = s[(i * n_s + k - 1) / k - 1], tv = t[(i * n_t + k - 1) / k - 1];
        out[(*n)++] = (hint_spec){.student = student->value[sv].name, .teacher = teacher->value[tv].name,
                                  .loss = HINT_LOSS_MSE, .regressor = REGRESSOR_AUTO,
                                  .tap = teacher->value[tv].sh};
    }
done:
    mem_free(s);
    mem_free(t);
    return st;
}
