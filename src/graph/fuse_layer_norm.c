/* fuse_layer_norm.c - LayerNormGrad takes over the addition behind it.
 *
 *     Add(more, LayerNormGrad(dy, x, Scale).dx)
 *
 * is what autodiff makes where a sum is normalised and also goes on as it is (a block that normalises its input):
 * one pass over memory less. Runs on the graph with its gradients; value ids do not change.
 *
 * Forward, the addition in front of a layer norm is best taken by the matrix product before it (pass_fuse_linear): product
 * with residual, then norm, moves four tensors (residual in, sum out, sum in, result out), product, then a norm that adds,
 * five, because the gradient needs the sum in memory in either case. */
#include "graph/graph.h"

#include <string.h>

/* Whether v is there before node k runs. */
static bool made_before(const graph *g, value_id v, node_id k)
{
    return g->value[v].kind != VALUE_TEMP || g->value[v].from < k;
}

static status take_over(graph *g, node_id norm, node_id add, value_id more)
{
    node *n = &g->node[norm];
    value_id *in, *out;
    TRY(arena_alloc(&g->mem, &in, 4, sizeof *in));
    TRY(arena_alloc(&g->mem, &out, n->n_out, sizeof *out));
    memcpy(in, n->in, 3 * sizeof *in);
    in[3] = more;
    memcpy(out, n->out, n->n_out * sizeof *out);
    out[0] = g->node[add].out[0];
    n->in = in;
    n->n_in = 4;
    n->out = out;
    g->node[add].op = OP_NONE;
    return ST_OK;
}

static status fuse_at(graph *g, const uint32_t *uses, node_id add)
{
    const node *n = &g->node[add];
    if (n->op != OP_ADD || !shape_equal(&g->value[n->in[0]].sh, &g->value[n->in[1]].sh))
        return ST_OK;
    for (int i = 0; i < 2; i++) {
        value_id dx = n->in[i], more = n->in[1 - i];
        node_id norm = g->value[dx].from;
        const node *m = &g->node[norm];
        if (norm && m->op == OP_LAYER_NORM_GRAD && m->out[0] == dx && m->n_in == 3 && uses[dx] == 1 && more != dx &&
            made_before(g, more, norm))
            return take_over(g, norm, add, more);
    }
    return ST_OK;
}

status pass_fuse_norm_grads(graph *g)
{
    uint32_t *uses = NULL;
    status st = ST_OK;
    TRY(graph_count_uses(g, &uses));
    for (node_id k = 1; k < g->n_node; k++)
        TRY_DONE(fuse_at(g, uses, k));
    graph_sweep(g);
done:
    mem_free(uses);
    return st;
}
