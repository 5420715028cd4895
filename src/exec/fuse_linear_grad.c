/* fuse_linear_grad.c - what stands beside the gradients of linear layers becomes part of these products, on a device.
 *
 * In: a lowered graph. Of a Linear that is a plain product (no bias, no activation)
 *     dy = A B, then the gradient of an activation of dy         becomes LinearGradData: dy is never written; cuBLASLt's gradient of
 *                                                                relu reads a mask that the forward product makes (LinearMasked)
 *     dw = A^T B beside the sum over all rows of A or of B       becomes LinearGradWeight: the rows are read once
 * where the backend has kernels for it, of the library that does the product if one does. A sum's node stays as a view of what the product makes, right after it. */
#include "base/mem.h"
#include "exec/internal.h"
#include "ops/attrs.h"

#include <string.h>

enum { MOVED_MOST = 4 };

typedef struct fusion {
    graph *g;
    const backend *b;
    size_t n_value;  /* before the pass */
    uint32_t *uses;  /* [n_value] */
    node_id *sum_of; /* [n_value]: the ReduceSum of all its rows; 0: none */
    node_id *after;  /* [n_node]: the node right after which it is to stand; 0: where it is */
} fusion;

static bool is_view(const node *n)
{
    return (op_of(n->op)->flags & OP_VIEW) != 0;
}

/* The same numbers in another type. */
static bool is_rounding(const graph *g, const node *n)
{
    return n->op == OP_REORDER && n->n_in == 1 && !g->value[n->in[0]].block && !g->value[n->out[0]].block;
}

/* The value that v is a view of, or was rounded from: sums may be of rounded numbers. */
static value_id root_of(const graph *g, value_id v)
{
    for (node_id k = g->value[v].from; k && (is_view(&g->node[k]) || is_rounding(g, &g->node[k])); k = g->value[v].from)
        v = g->node[k].in[0];
    return v;
}

static int64_t columns_of(const shape *s)
{
    return s->rank ? s->dim[s->rank - 1] : 0;
}

static bool is_there(const graph *g, value_id v, node_id k)
{
    return g->value[v].kind != VALUE_TEMP || (g->value[v].from && g->value[v].from < k);
}

/* A product without anything that follows it. */
static bool is_plain_product(const graph *g, const node *n)
{
    const linear_attrs *at = n->attr;
    return n->op == OP_LINEAR && at->activation == ACTIVATION_NONE && (n->n_in < 3 || !n->in[2]) && (n->n_out < 2 || !n->out[1]) &&
           g->value[n->out[0]].type == DTYPE_F32;
}

/* A kernel of the method that does the product alone: a library's product is not given up for what stands beside it. */
static bool has_kernel(const fusion *f, const node *product, const node *made)
{
    const kernel_row *alone = plan_row(f->g, f->b, product), *all = plan_row(f->g, f->b, made);
    return alone && all && (!alone->method || (all->method && strcmp(alone->method, all->method) == 0));
}

static status set_node(graph *g, node_id k, const node *made, const linear_grad_attrs *at)
{
    node *n = &g->node[k];
    linear_grad_attrs *attr;
    value_id *in, *out;
    TRY(arena_alloc(&g->mem, &attr, 1, sizeof *attr));
    TRY(arena_alloc(&g->mem, &in, made->n_in, sizeof *in));
    TRY(arena_alloc(&g->mem, &out, made->n_out, sizeof *out));
    *attr = *at;
    memcpy(in, made->in, made->n_in * sizeof *in);
    memcpy(out, made->out, made->n_out * sizeof *out);
    *n = *made;
    n->in = in;
    n->out = out;
    n->attr = attr;
    for (int i = 0; i < n->n_out; i++)
        g->value[out[i]].from = k;
    return ST_OK;
}

/* ---- the slope of an activation ---- */

/* Whose gradient this is, when it can be part of a product. */
static int64_t slope_of(const node *n)
{
    static const int64_t plain[OP_COUNT] = {[OP_RELU_GRAD] = ACTIVATION_RELU, [OP_TANH_GRAD] = ACTIVATION_TANH};
    if (n->op == OP_GELU_GRAD)
        return ((const gelu_attrs *)n->attr)->approximate ? ACTIVATION_GELU_TANH : ACTIVATION_GELU;
    return plain[n->op];
}

/* The product `made` of p, with the gradient of a relu, reads a mask in place of y; the Linear that makes y makes the mask too,
 * where one library does both. `in`: the inputs of `made`. */
static status take_mask(fusion *f, node_id p, const node *made, value_id *in, bool *taken)
{
    graph *g = f->g;
    const value_id y = in[2];
    const node_id k = g->value[y].from;
    if (!k || g->node[k].op != OP_LINEAR || g->node[k].when != made->when || (g->node[k].n_out > 1 && g->node[k].out[1]) ||
        ((const linear_attrs *)g->node[k].attr)->activation != ACTIVATION_RELU ||
        !shape_equal(&g->value[g->node[p].out[0]].sh, &g->value[made->out[0]].sh))
        return ST_OK;
    const shape *s = &g->value[y].sh;
    const int64_t columns = columns_of(s);
    value_id *out;
    TRY(arena_alloc(&g->mem, &out, 2, sizeof *out));
    out[0] = y;
    TRY(graph_add_value(g, NULL, DTYPE_U8, SHAPE(columns ? shape_count(s) / columns : 0, linear_mask_bytes(columns)), VALUE_TEMP, &out[1]));
    node masked = g->node[k];
    masked.op = OP_LINEAR_MASKED;
    masked.out = out;
    masked.n_out = 2;
    in[2] = out[1];
    if (!has_kernel(f, &g->node[k], &masked) || !has_kernel(f, &g->node[p], made))
        return ST_OK;
    g->node[k] = masked;
    g->value[out[1]].from = k;
    *taken = true;
    return ST_OK;
}

static status take_slope(fusion *f, node_id k, int64_t activation)
{
    graph *g = f->g;
    const node *slope = &g->node[k];
    value_id dy = slope->in[0], kept = slope->in[1];
    while (f->uses[dy] == 1 && g->value[dy].from && is_view(&g->node[g->value[dy].from]))
        dy = g->node[g->value[dy].from].in[0];
    const node_id p = g->value[dy].from;
    if (!p || f->uses[dy] != 1 || g->node[p].when != slope->when || !is_plain_product(g, &g->node[p]) || !is_there(g, kept, p))
        return ST_OK;
    const node *product = &g->node[p];
    const linear_attrs *from = product->attr;
    const linear_grad_attrs at = {.alpha = from->alpha, .transB = from->transB, .activation = activation, .precision = from->precision};
    const shape *s = &g->value[kept].sh;
    if (from->transA || columns_of(s) != columns_of(&g->value[dy].sh) || shape_count(s) != shape_count(&g->value[dy].sh))
        return ST_OK;
    value_id in[4] = {product->in[0], product->in[1], kept, product->n_in > 3 ? product->in[3] : 0}, out = slope->out[0];
    node made = *product;
    made.op = OP_LINEAR_GRAD_DATA;
    made.attr = &at;
    made.in = in;
    made.out = &out;
    made.n_in = in[3] ? 4 : 3;
    made.n_out = 1;
    bool taken = has_kernel(f, product, &made);
    if (!taken && activation == ACTIVATION_RELU)
        TRY(take_mask(f, p, &made, in, &taken));
    if (!taken)
        return ST_OK;
    for (value_id v = slope->in[0]; v != dy; v = g->node[g->value[v].from].in[0]) /* views that nobody reads now */
        g->node[g->value[v].from].op = OP_NONE;
    g->node[k].op = OP_NONE;
    return set_node(g, p, &made, &at);
}

/* ---- the sum of an operand's rows ---- */

/* A ReduceSum over all axes but the last. */
static bool sums_rows(const graph *g, const node *n)
{
    if (n->op != OP_REDUCE_SUM || g->value[n->in[0]].type != DTYPE_F32 || g->value[n->in[0]].block || g->value[n->out[0]].block ||
        g->value[n->out[0]].narrow)
        return false;
    const shape *x = &g->value[n->in[0]].sh, *y = &g->value[n->out[0]].sh;
    const reduce_attrs *at = n->attr;
    const int64_t columns = columns_of(x);
    for (int64_t i = 0; i < at->axes.n; i++)
        if ((at->axes.v[i] == -1 || at->axes.v[i] == x->rank - 1) && columns != 1)
            return false;
    return x->rank > 1 && shape_count(x) > 0 && shape_count(y) == columns && shape_count(x) > columns && columns_of(y) == columns;
}

/* The nodes that read v before node p, which have to stand after it: views alone. false: there are others, or too many. */
static bool list_moved(const graph *g, value_id v, node_id p, node_id *moved, int *n)
{
    for (node_id k = g->value[v].from + 1; k < p; k++)
        for (int i = 0; i < g->node[k].n_in; i++) {
            if (g->node[k].op == OP_NONE || g->node[k].in[i] != v)
                continue;
            if (!is_view(&g->node[k]) || *n == MOVED_MOST)
                return false;
            moved[(*n)++] = k;
        }
    return true;
}

static status make_view(graph *g, node_id k, value_id of)
{
    const shape *s = &g->value[g->node[k].out[0]].sh;
    reshape_attrs *at;
    int64_t *dims;
    value_id *in;
    TRY(arena_alloc(&g->mem, &at, 1, sizeof *at));
    TRY(arena_alloc(&g->mem, &dims, (size_t)s->rank + 1, sizeof *dims));
    TRY(arena_alloc(&g->mem, &in, 1, sizeof *in));
    memcpy(dims, s->dim, (size_t)s->rank * sizeof *dims);
    *at = (reshape_attrs){.shape = {s->rank, dims}, .allowzero = 1};
    in[0] = of;
    g->node[k].op = OP_RESHAPE;
    g->node[k].attr = at;
    g->node[k].in = in;
    g->node[k].n_in = 1;
    return ST_OK;
}

/* Product p with the sum of its operand `side`, which node r makes. */
static status take_sum(fusion *f, node_id p, int side, node_id r, bool *taken)
{
    graph *g = f->g;
    const node *product = &g->node[p];
    const linear_attrs *from = product->attr;
    const linear_grad_attrs at = {.alpha = from->alpha, .sums_of = side, .precision = from->precision};
    const int64_t columns = columns_of(&g->value[product->in[side]].sh);
    node_id moved[MOVED_MOST] = {r};
    int n_moved = 1;
    if (columns != columns_of(&g->value[g->node[r].in[0]].sh) || g->node[r].when != product->when)
        return ST_OK;
    for (int i = 0; r < p && i < n_moved; i++)
        if (!list_moved(g, g->node[moved[i]].out[0], p, moved, &n_moved))
            return ST_OK;
    value_id out[2] = {product->out[0], 0}, in[2] = {product->in[0], product->in[1]};
    node made = *product;
    TRY(graph_add_value(g, NULL, DTYPE_F32, SHAPE(columns), VALUE_TEMP, &out[1]));
    made.op = OP_LINEAR_GRAD_WEIGHT;
    made.attr = &at;
    made.in = in;
    made.out = out;
    made.n_in = made.n_out = 2;
    if (!has_kernel(f, product, &made))
        return ST_OK;
    for (int i = 0; r < p && i < n_moved; i++)
        f->after[moved[i]] = p;
    *taken = true;
    TRY(set_node(g, p, &made, &at));
    return make_view(g, r, out[1]);
}

static status take_sums(fusion *f)
{
    graph *g = f->g;
    for (node_id k = 1; k < g->n_node; k++)
        if (sums_rows(g, &g->node[k]))
            f->sum_of[root_of(g, g->node[k].in[0])] = k;
    for (node_id p = 1; p < g->n_node; p++) {
        const node *n = &g->node[p];
        bool taken = false;
        if (!is_plain_product(g, n) || n->n_in > 3 || !((const linear_attrs *)n->attr)->transA || ((const linear_attrs *)n->attr)->transB)
            continue;
        for (int side = 1; side >= 0 && !taken; side--) {
            const value_id root = root_of(g, g->node[p].in[side]);
            if (root >= f->n_value || !f->sum_of[root])
                continue;
            TRY(take_sum(f, p, side, f->sum_of[root], &taken));
            if (taken)
                f->sum_of[root] = 0;
        }
    }
    return ST_OK;
}

/* Leaves out what has become part of another node, and puts nodes where they belong. */
static status rebuild(fusion *f)
{
    graph *g = f->g;
    node *to = NULL;
    size_t n = 0, cap = 0;
    status st = ST_OK;
    for (node_id k = 0; k < g->n_node; k++) {
        if (k && (g->node[k].op == OP_NONE || f->after[k]))
            continue;
        TRY_DONE(mem_push(&to, &cap, n, sizeof *to));
        to[n++] = g->node[k];
        if (g->node[k].op != OP_LINEAR_GRAD_WEIGHT)
            continue;
        for (node_id m = 1; m < k; m++)
            if (f->after[m] == k) {
                TRY_DONE(mem_push(&to, &cap, n, sizeof *to));
                to[n++] = g->node[m];
            }
    }
    mem_free(g->node);
    g->node = to;
    g->n_node = n;
    g->cap_node = cap;
    to = NULL;
    graph_refresh_from(g);
done:
    mem_free(to);
    return st;
}

status pass_fuse_linear_grads(graph *g, const backend *b)
{
    fusion f = {.g = g, .b = b, .n_value = g->n_value};
    status st = ST_OK;
    if (!b->remote) /* the CPU reads rows twice from its cache */
        return ST_OK;
    TRY_DONE(graph_count_uses(g, &f.uses));
    TRY_DONE(mem_alloc(&f.sum_of, f.n_value, sizeof *f.sum_of));
    TRY_DONE(mem_alloc(&f.after, g->n_node, sizeof *f.after));
    for (node_id k = 1; k < g->n_node; k++) {
        const int64_t activation = slope_of(&g->node[k]);
        if (activation != ACTIVATION_NONE)
            TRY_DONE(take_slope(&f, k, activation));
    }
    TRY_DONE(take_sums(&f));
    TRY_DONE(rebuild(&f));
done:
    mem_free(f.uses);
    mem_free(f.sum_of);
    mem_free(f.after);
    return st;
}
