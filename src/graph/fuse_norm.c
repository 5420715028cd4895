/* fuse_norm.c - BatchNormTrain takes over the addition and the relu behind it.
 *
 *     relu(BatchNormTrain(x) + residual)   Relu, or Clip from 0 on; with or without the addition
 *
 * becomes one node: one pass over memory forward instead of three, and one backward, since autodiff (which runs later)
 * then makes one BatchNormGrad of it. Values that somebody else reads stay. Value ids do not change. */
#include "graph/graph.h"
#include "ops/attrs.h"

#include <math.h>
#include <string.h>

typedef struct fusion {
    graph *g;
    uint32_t *uses;
} fusion;

/* The node of this operator that makes v for one reader alone; 0: there is none. */
static node_id sole_maker(const fusion *f, value_id v, op_id op)
{
    node_id k = f->g->value[v].from;
    return k && f->uses[v] == 1 && f->g->node[k].op == op && f->g->node[k].out[0] == v ? k : 0;
}

/* What a relu lets through at most: 0 for no limit; negative: the node is no relu. */
static double relu_ceiling(const node *n)
{
    if (n->op == OP_RELU)
        return 0;
    if (n->op != OP_CLIP)
        return -1;
    const clip_attrs *at = n->attr;
    return at->min == 0 && at->max > 0 ? (isinf(at->max) ? 0 : at->max) : -1;
}

/* Node k becomes the batch norm `bn` with what follows it; the nodes between are left without a purpose. */
static status take_over(fusion *f, node_id k, node_id bn, node_id add, value_id residual, double ceiling)
{
    graph *g = f->g;
    value_id *in, *out, y = g->node[k].out[0];
    batch_norm_attrs *at;
    TRY(arena_alloc(&g->mem, &in, 4, sizeof *in));
    TRY(arena_alloc(&g->mem, &out, 3, sizeof *out));
    TRY(arena_alloc(&g->mem, &at, 1, sizeof *at));
    node n = g->node[bn];
    *at = *(const batch_norm_attrs *)n.attr;
    at->relu = 1;
    at->ceiling = ceiling;
    memcpy(in, n.in, 3 * sizeof *in);
    in[3] = residual;
    memcpy(out, n.out, 3 * sizeof *out);
    out[0] = y;
    n.in = in;
    n.n_in = residual ? 4 : 3;
    n.out = out;
    n.attr = at;
    g->node[k] = n;
    g->node[bn].op = OP_NONE;
    if (add)
        g->node[add].op = OP_NONE;
    return ST_OK;
}

static status fuse_at(fusion *f, node_id k)
{
    const graph *g = f->g;
    const node *n = &g->node[k];
    double ceiling = relu_ceiling(n);
    if (ceiling < 0)
        return ST_OK;
    value_id x = n->in[0], residual = 0;
    node_id add = sole_maker(f, x, OP_ADD), bn = sole_maker(f, x, OP_BATCH_NORM_TRAIN);
    for (int i = 0; add && !bn && i < 2; i++) {
        value_id other = g->node[add].in[1 - i];
        node_id maker = sole_maker(f, g->node[add].in[i], OP_BATCH_NORM_TRAIN);
        if (!maker || !shape_equal(&g->value[other].sh, &g->value[x].sh))
            continue;
        bn = maker;
        residual = other;
    }
    const batch_norm_attrs *at = bn ? g->node[bn].attr : NULL;
    if (!bn || at->relu || g->node[bn].n_in > 3)
        return ST_OK;
    return take_over(f, k, bn, residual ? add : 0, residual, ceiling);
}

status pass_fuse_norms(graph *g)
{
    fusion f = {.g = g};
    status st = ST_OK;
    TRY_DONE(graph_count_uses(g, &f.uses));
    for (node_id k = 1; k < g->n_node; k++)
        TRY_DONE(fuse_at(&f, k));
    graph_sweep(g);
done:
    mem_free(f.uses);
    return st;
}
