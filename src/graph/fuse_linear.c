/* fuse_linear.c - matrix products and what follows them become one node, so that sums leave the cache once: Gemm or MatMul
 * with one matrix on the right, then + bias, + residual, then an activation. Frozen graphs, and training graphs after
 * their gradients: what a gradient still reads of the sum before the activation is the Linear's second output.
 * The Gelu that exporters below opset 20 write as x * 0.5 * (1 + Erf(x / sqrt 2)) becomes one node first. */
#include "graph/graph.h"
#include "ops/attrs.h"

#include <math.h>
#include <string.h>

/* What later samples may have more than those whose ranges were looked at; it costs one of the 15 powers of 2 that E4M3 has at full
 * precision. */
#define HEADROOM 2

typedef struct finder {
    graph *g;
    uint32_t *uses;  /* of every value, by nodes and outputs */
    node_id *reader; /* [n_value] the last node that reads it */
} finder;

static void finder_close(finder *f)
{
    mem_free(f->uses);
    mem_free(f->reader);
}

static status finder_open(finder *f, graph *g)
{
    status st = ST_OK;
    *f = (finder){.g = g};
    TRY_DONE(graph_count_uses(g, &f->uses));
    TRY_DONE(mem_alloc(&f->reader, g->n_value, sizeof *f->reader));
    for (size_t k = 1; k < g->n_node; k++)
        for (int i = 0; i < g->node[k].n_in; i++)
            f->reader[g->node[k].in[i]] = (node_id)k;
done:
    if (st != ST_OK)
        finder_close(f);
    return st;
}

/* Debug and test builds look at the whole graph after each pass. */
static status finish(finder *f)
{
    const graph *g = f->g;
    finder_close(f);
#ifdef NDEBUG
    (void)g;
    return ST_OK;
#else
    return graph_validate(g);
#endif
}

/* ---- Gelu ---- */

/* Whether v is a constant whose elements all are `number`, roughly as float32 holds it. */
static bool is_number(const graph *g, value_id v, double number)
{
    const value *x = &g->value[v];
    if (!v || x->kind != VALUE_CONST || shape_count(&x->sh) != 1)
        return false;
    return fabs(dtype_load(x->type, x->data, 0) - number) <= 1e-6 * fabs(number);
}

/* The only node that reads v, when it is `op` and v no output; *other: its other operand. */
static node_id next_is(const finder *f, value_id v, op_id op, value_id *other)
{
    node_id k = f->uses[v] == 1 ? f->reader[v] : 0;
    if (!k || f->g->node[k].op != op || f->g->node[k].n_in != 2)
        return 0;
    const node *n = &f->g->node[k];
    *other = n->in[0] == v ? n->in[1] : n->in[0];
    return k;
}

/* v is x / sqrt 2 or x * sqrt(1/2): gives x, else 0. */
static value_id halved(const graph *g, value_id v)
{
    node_id k = g->value[v].from;
    if (!k || g->node[k].n_in != 2)
        return 0;
    const node *n = &g->node[k];
    if (n->op == OP_DIV && is_number(g, n->in[1], sqrt(2)))
        return n->in[0];
    for (int i = 0; i < 2; i++)
        if (n->op == OP_MUL && is_number(g, n->in[i], sqrt(0.5)))
            return n->in[1 - i];
    return 0;
}

/* x * 0.5 or 0.5 * x */
static bool is_half_of(const graph *g, value_id v, value_id x)
{
    node_id k = g->value[v].from;
    if (!k || g->node[k].op != OP_MUL)
        return false;
    const node *n = &g->node[k];
    return (n->in[0] == x && is_number(g, n->in[1], 0.5)) || (n->in[1] == x && is_number(g, n->in[0], 0.5));
}

/* The node that ends the chain which begins with this Erf, and its x; 0: there is none. */
static node_id match_gelu(const finder *f, node_id erf, value_id *x)
{
    const graph *g = f->g;
    value_id other;
    *x = halved(g, g->node[erf].in[0]);
    node_id k = *x ? next_is(f, g->node[erf].out[0], OP_ADD, &other) : 0;
    if (!k || !is_number(g, other, 1) || !(k = next_is(f, g->node[k].out[0], OP_MUL, &other)))
        return 0;
    if (is_half_of(g, other, *x))
        return k;
    bool half = is_number(g, other, 0.5);
    if (!half && other != *x)
        return 0;
    k = next_is(f, g->node[k].out[0], OP_MUL, &other);
    return k && (half ? other == *x : is_number(g, other, 0.5)) ? k : 0;
}

status pass_join_gelu(graph *g)
{
    finder f;
    TRY(finder_open(&f, g));
    for (size_t k = 1; k < g->n_node; k++) {
        value_id x;
        node_id last = g->node[k].op == OP_ERF ? match_gelu(&f, (node_id)k, &x) : 0;
        if (!last || !shape_equal(&g->value[x].sh, &g->value[g->node[last].out[0]].sh))
            continue;
        static const gelu_attrs exact = {.approximate = GELU_NONE};
        node *n = &g->node[last];
        n->op = OP_GELU;
        n->attr = &exact;
        n->in[0] = x;
        n->n_in = 1;
    }
    return finish(&f);
}

/* ---- Linear ---- */

static bool is_bias(const graph *g, value_id v, int64_t n)
{
    const shape *s = &g->value[v].sh;
    return v && shape_count(s) == n && s->rank >= 1 && s->dim[s->rank - 1] == n;
}

static status set_linear(finder *f, node *n, const linear_attrs *at, value_id bias, value_id residual)
{
    graph *g = f->g;
    linear_attrs *copy;
    value_id *in;
    TRY(arena_alloc(&g->mem, &copy, 1, sizeof *copy));
    TRY(arena_alloc(&g->mem, &in, 4, sizeof *in));
    *copy = *at;
    in[0] = n->in[0];
    in[1] = n->in[1];
    in[2] = bias;
    in[3] = residual;
    n->op = OP_LINEAR;
    n->attr = copy;
    n->in = in;
    n->n_in = residual ? 4 : bias ? 3 : 2;
    return ST_OK;
}

/* A Gemm that is a Linear already, up to its name. */
static status from_gemm(finder *f, node_id k)
{
    node *n = &f->g->node[k];
    const gemm_attrs *a = n->attr;
    value_id c = n->n_in > 2 ? n->in[2] : 0;
    if (c && (a->beta != 1 || !is_bias(f->g, c, f->g->value[n->out[0]].sh.dim[1])))
        return ST_OK;
    linear_attrs at = {.alpha = a->alpha, .transA = a->transA != 0, .transB = a->transB != 0};
    return set_linear(f, n, &at, c, 0);
}

static status from_matmul(finder *f, node_id k)
{
    node *n = &f->g->node[k];
    const matmul_attrs *a = n->attr;
    int left = f->g->value[n->in[0]].sh.rank, right = f->g->value[n->in[1]].sh.rank;
    if (right != 2 || left < 2 || (a->transA && left != 2))
        return ST_OK;
    linear_attrs at = {.alpha = 1, .transA = a->transA != 0, .transB = a->transB != 0};
    return set_linear(f, n, &at, 0, 0);
}

/* Whether v is there when node k runs. */
static bool is_there(const graph *g, value_id v, node_id k)
{
    return g->value[v].kind != VALUE_TEMP || g->value[v].from < k;
}

/* Node `next` has become part of Linear k, which makes its result now; `pre`: what the Linear made so far is still
 * wanted. */
static status take_over(finder *f, node_id k, node_id next, bool pre)
{
    graph *g = f->g;
    node *n = &g->node[k];
    value_id *out;
    TRY(arena_alloc(&g->mem, &out, 2, sizeof *out));
    out[0] = g->node[next].out[0];
    out[1] = pre ? n->out[0] : 0;
    g->value[out[0]].from = k;
    n->out = out;
    n->n_out = pre ? 2 : 1;
    g->node[next].n_out = 0; /* nothing depends on it: it goes */
    return ST_OK;
}

/* Linear + bias or residual. */
static status take_add(finder *f, node_id k, bool *taken)
{
    graph *g = f->g;
    const node *n = &g->node[k];
    value_id y = n->out[0], other;
    const linear_attrs at = *(const linear_attrs *)n->attr;
    node_id next = next_is(f, y, OP_ADD, &other);
    if (!next || g->node[next].when != n->when || at.activation != ACTIVATION_NONE || n->n_in > 3 || n->n_out > 1 ||
        !is_there(g, other, k) || g->value[other].type != g->value[y].type)
        return ST_OK;
    const shape sh = g->value[y].sh;
    bool bias = n->n_in == 2 && is_bias(g, other, sh.dim[sh.rank - 1]);
    bool residual = !bias && shape_equal(&sh, &g->value[other].sh);
    if ((!bias && !residual) || !shape_equal(&sh, &g->value[g->node[next].out[0]].sh))
        return ST_OK;
    value_id b = n->n_in > 2 ? n->in[2] : 0;
    TRY(set_linear(f, &g->node[k], &at, bias ? other : b, bias ? 0 : other));
    *taken = true;
    return take_over(f, k, next, false);
}

static int64_t activation_of(const node *n)
{
    static const int64_t plain[OP_COUNT] = {[OP_RELU] = ACTIVATION_RELU, [OP_TANH] = ACTIVATION_TANH};
    if (n->op == OP_GELU)
        return ((const gelu_attrs *)n->attr)->approximate ? ACTIVATION_GELU_TANH : ACTIVATION_GELU;
    return plain[n->op];
}

/* Linear, then the activation that reads it; others (its gradient) may read the sum too. */
static status take_activation(finder *f, node_id k, bool *taken)
{
    graph *g = f->g;
    const node *n = &g->node[k];
    value_id y = n->out[0];
    linear_attrs at = *(const linear_attrs *)n->attr;
    if (at.activation != ACTIVATION_NONE || n->n_out > 1)
        return ST_OK;
    for (size_t j = k + 1; j < g->n_node && f->uses[y] <= 2; j++) {
        const node *next = &g->node[j];
        if (next->n_in < 1 || next->in[0] != y || next->n_out < 1)
            continue;
        at.activation = activation_of(next);
        if (at.activation == ACTIVATION_NONE || next->when != n->when)
            continue;
        TRY(set_linear(f, &g->node[k], &at, n->n_in > 2 ? n->in[2] : 0, n->n_in > 3 ? n->in[3] : 0));
        *taken = true;
        return take_over(f, k, (node_id)j, f->uses[y] > 1);
    }
    return ST_OK;
}

status pass_fuse_linear(graph *g)
{
    static status (*const rule[OP_COUNT])(finder *, node_id) = {[OP_GEMM] = from_gemm, [OP_MATMUL] = from_matmul};
    finder f;
    status st = ST_OK;
    TRY(pass_dead_nodes(g)); /* they read nothing */
    TRY(finder_open(&f, g));
    for (node_id k = 1; k < g->n_node; k++) {
        if (!rule[g->node[k].op] || g->node[k].n_out != 1)
            continue;
        TRY_DONE(rule[g->node[k].op](&f, k));
        for (bool taken = true; taken && g->node[k].op == OP_LINEAR;) {
            taken = false;
            TRY_DONE(take_add(&f, k, &taken));
            if (!taken)
                TRY_DONE(take_activation(&f, k, &taken));
        }
    }
    TRY_DONE(pass_dead_nodes(g));
    return finish(&f);
done:
    finder_close(&f);
    return st;
}

static status set_precision(graph *g, node *n, int64_t precision)
{
    linear_attrs *at;
    TRY(arena_alloc(&g->mem, &at, 1, sizeof *at));
    *at = *(const linear_attrs *)n->attr;
    at->precision = precision;
    n->attr = at;
    return ST_OK;
}

status pass_linear_bf16(graph *g)
{
    for (size_t k = 1; k < g->n_node; k++) {
        node *n = &g->node[k];
        if (n->op == OP_LINEAR && g->value[n->in[1]].kind == VALUE_CONST && g->value[n->in[0]].type == DTYPE_F32 &&
            !((const linear_attrs *)n->attr)->transA)
            TRY(set_precision(g, n, PRECISION_BF16));
    }
    return ST_OK;
}

status pass_product_precision(graph *g, dtype t)
{
    const int64_t precision = t == DTYPE_F16 ? PRECISION_F16 : t == DTYPE_BF16 ? PRECISION_BF16 : PRECISION_FP32;
    for (size_t k = 1; k < g->n_node; k++)
        if (g->node[k].op == OP_LINEAR && g->value[g->node[k].in[0]].type == DTYPE_F32)
            TRY(set_precision(g, &g->node[k], precision));
    return ST_OK;
}

/* The largest absolute value of a constant; 0 where its data is not there. */
static float range_of(const value *v)
{
    const float *x = v->data;
    float most = 0;
    for (int64_t i = 0; x && i < shape_count(&v->sh); i++)
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

/* Numbers that can be scaled, there and back (op_linear). */
static bool is_range(double r)
{
    return r >= 1e-15 && r <= 1e15;
}

status pass_linear_fp8(graph *g, const float *range, size_t n_range, size_t *made)
{
    *made = 0;
    if (g->n_value != n_range)
        return fail(ST_INTERNAL, "fp8: ranges of %zu values for a graph of %zu", n_range, g->n_value);
    for (size_t k = 1; k < g->n_node; k++) {
        node *n = &g->node[k];
        linear_attrs *at;
        if (n->op != OP_LINEAR || g->value[n->in[1]].kind != VALUE_CONST || g->value[n->in[0]].type != DTYPE_F32 ||
            ((const linear_attrs *)n->attr)->transA)
            continue;
        const double a = HEADROOM * (double)range[n->in[0]], b = (double)range_of(&g->value[n->in[1]]);
        if (!is_range(a) || !is_range(b))
            continue;
        TRY(arena_alloc(&g->mem, &at, 1, sizeof *at));
        *at = *(const linear_attrs *)n->attr;
        at->precision = PRECISION_FP8;
        at->a_range = a;
        at->b_range = b;
        n->attr = at;
        ++*made;
    }
    return ST_OK;
}

bool linear_is_bf16(const node *n)
{
    return n->op == OP_LINEAR && ((const linear_attrs *)n->attr)->precision == PRECISION_BF16;
}
