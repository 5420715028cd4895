/* fuse_add.c - additions behind convolutions of a training step, in half precision.
 *
 * In: a lowered graph in its final layouts. Where images that a Conv makes are read by one Add of narrow images alone, the other operand
 *     becomes the convolution's residual, which is added before the sum is rounded; it moves to where the Add stood. (Frozen graphs
 *     have that from pass_fuse_epilogues.) A norm of the sum may then have its statistics from it: fuse_moments.c. */
#include "exec/internal.h"
#include "ops/attrs.h"

#include <string.h>

enum { OPERANDS = 4 };

/* The convolution that makes v for the Add alone, with room for a residual; 0: none. */
static node_id sole_conv(const graph *g, const uint32_t *uses, value_id v, phase when)
{
    const node_id k = g->value[v].from;
    const node *n = &g->node[k];
    if (!k || uses[v] != 1 || n->op != OP_CONV || n->when != when || n->n_in > 3 || ((const conv_attrs *)n->attr)->relu)
        return 0;
    return k;
}

static bool lies_like(const value *a, const value *b)
{
    return a->block == b->block && a->narrow == b->narrow && a->type == b->type && shape_equal(&a->sh, &b->sh);
}

/* Convolution k takes over the Add's other operand, and its place. */
static status take_over(graph *g, const backend *b, node *add, node_id k, value_id other)
{
    node made = g->node[k];
    value_id *in;
    TRY(arena_alloc(&g->mem, &in, OPERANDS, sizeof *in));
    memset(in, 0, OPERANDS * sizeof *in);
    memcpy(in, made.in, (size_t)made.n_in * sizeof *in);
    in[3] = other;
    made.in = in;
    made.n_in = OPERANDS;
    made.out = add->out;
    if (!plan_same_method(g, b, &g->node[k], &made))
        return ST_OK;
    g->node[k].op = OP_NONE;
    *add = made;
    return ST_OK;
}

static status fuse_at(graph *g, const backend *b, const uint32_t *uses, node *n)
{
    if (n->op != OP_ADD || !g->value[n->out[0]].narrow)
        return ST_OK;
    for (int i = 0; i < 2 && n->op == OP_ADD; i++) {
        const node_id k = sole_conv(g, uses, n->in[i], n->when);
        const value *y = &g->value[n->out[0]];
        if (k && lies_like(y, &g->value[n->in[0]]) && lies_like(y, &g->value[n->in[1]]))
            TRY(take_over(g, b, n, k, n->in[1 - i]));
    }
    return ST_OK;
}

status pass_adds_into_convs(graph *g, const backend *b)
{
    uint32_t *uses = NULL;
    status st = ST_OK;
    if (!b->narrow)
        return ST_OK;
    TRY_DONE(graph_count_uses(g, &uses));
    for (size_t k = 1; k < g->n_node; k++)
        TRY_DONE(fuse_at(g, b, uses, &g->node[k]));
    graph_sweep(g);
done:
    mem_free(uses);
    return st;
}
