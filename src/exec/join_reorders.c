/* join_reorders.c - the weights that a step rounds to a narrow type (keep_copies.c: those that no update writes in it) change together,
 * those of convolutions, channels last, and those of matrix products, as they lie.
 *
 * In: a graph after the layout and the passes behind it, in which every such weight has a Reorder of its own. Out: one node makes up
 * to 32 of either kind, where the first of them stood; parameters are there from the beginning of a run, whoever wrote them. */
#include "exec/internal.h"

#define JOINED 32 /* bits of the masks of kernel.h */

static bool is_joined(const graph *g, const node *n, bool plain)
{
    return n->op == OP_REORDER && n->when == PHASE_MAIN && n->n_in == 1 && g->value[n->in[0]].kind == VALUE_PARAM &&
           (g->value[n->out[0]].block == 0) == plain && g->value[n->out[0]].narrow;
}

/* The node at k takes the weights of those of its kind after it, which become nothing (OP_NONE). */
static status join_from(graph *g, node_id k, bool plain)
{
    value_id *in, *out;
    uint16_t n = 0;
    TRY(arena_alloc(&g->mem, &in, JOINED, sizeof *in));
    TRY(arena_alloc(&g->mem, &out, JOINED, sizeof *out));
    for (node_id i = k; i < g->n_node && n < JOINED; i++)
        if (is_joined(g, &g->node[i], plain)) {
            in[n] = g->node[i].in[0];
            out[n++] = g->node[i].out[0];
            if (i > k)
                g->node[i].op = OP_NONE;
        }
    g->node[k].in = in;
    g->node[k].out = out;
    g->node[k].n_in = g->node[k].n_out = n;
    return ST_OK;
}

status pass_join_reorders(graph *g, const backend *b)
{
    if (!b->narrow || b->block != BLOCK_ALL)
        return ST_OK;
    for (node_id k = 1; k < g->n_node; k++)
        for (int plain = 0; plain < 2; plain++)
            if (is_joined(g, &g->node[k], plain != 0))
                TRY(join_from(g, k, plain != 0));
    graph_sweep(g);
    return ST_OK;
}
