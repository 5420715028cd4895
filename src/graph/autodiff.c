/* autodiff.c - gradients as ordinary nodes.
 *
 * Walks the nodes backwards from the loss and asks each operator's grad rule for the gradients of its inputs. A value
 * used more than once gets the sum of its gradients, in a fixed order (last use first); a gradient that is broader than
 * its value is summed over the broadcast axes. Both happen only here. */
#include "graph/graph.h"
#include "ops/attrs.h"

#include <string.h>

/* Sums `grad` down to the shape of value v (the reverse of broadcasting). */
static status sum_to_shape(graph *g, value_id v, value_id *grad)
{
    shape want = g->value[v].sh, have = g->value[*grad].sh;
    if (shape_equal(&want, &have))
        return ST_OK;
    int64_t axes[RANK_MAX], n = 0;
    int extra = have.rank - want.rank;
    for (int i = 0; i < have.rank; i++)
        if (i < extra || (want.dim[i - extra] == 1 && have.dim[i] != 1))
            axes[n++] = i;
    if (n > 0) {
        reduce_attrs sum = {.axes = {n, axes}, .keepdims = 1};
        TRY(graph_add1(g, OP_REDUCE_SUM, &sum, *grad, 0, 0, grad));
    }
    if (extra != 0) {
        reshape_attrs to = {.shape = {want.rank, want.dim}, .allowzero = 1};
        if (want.rank == 0)
            to.shape.v = axes; /* given and empty: a scalar */
        TRY(graph_add1(g, OP_RESHAPE, &to, *grad, 0, 0, grad));
    }
    if (!shape_equal(&g->value[*grad].sh, &want))
        return fail(ST_INTERNAL, "gradient of '%s' does not broadcast to its shape", g->value[v].name);
    return ST_OK;
}

static status accumulate(graph *g, value_id *total, value_id more)
{
    if (!*total) {
        *total = more;
        return ST_OK;
    }
    return graph_add1(g, OP_ADD, NULL, *total, more, 0, total);
}

/* depends[v]: v is, or is computed from, one of wrt. */
static status mark_dependents(const graph *g, const value_id *wrt, size_t n, uint8_t **depends)
{
    TRY(mem_alloc(depends, g->n_value, 1));
    for (size_t i = 0; i < n; i++)
        (*depends)[wrt[i]] = 1;
    (*depends)[0] = 0;
    for (size_t k = 1; k < g->n_node; k++) {
        bool any = false;
        for (int i = 0; i < g->node[k].n_in; i++)
            any |= (*depends)[g->node[k].in[i]];
        for (int i = 0; any && i < g->node[k].n_out; i++)
            if (g->node[k].out[i] && dtype_of(g->value[g->node[k].out[i]].type)->is_float)
                (*depends)[g->node[k].out[i]] = 1;
    }
    (*depends)[0] = 0;
    return ST_OK;
}

/* Gradients of the inputs of one node, added onto total[]. `dy`, `dx` have room for the node's outputs and inputs. */
static status backward_node(graph *g, node_id k, const uint8_t *depends, value_id *total, size_t n_total, value_id *dy,
                            value_id *dx)
{
    node n = g->node[k]; /* a copy: the rule adds nodes, and the array may move */
    const op_desc *d = op_of(n.op);
    bool arrives = false, wanted = false;
    for (int i = 0; i < n.n_out; i++) {
        dy[i] = n.out[i] ? total[n.out[i]] : 0;
        arrives |= dy[i] != 0;
    }
    for (int i = 0; i < n.n_in; i++) {
        dx[i] = 0;
        wanted |= depends[n.in[i]];
    }
    if (!arrives || !wanted)
        return ST_OK;
    if (!d->grad)
        return fail(ST_BAD_DATA, "node '%s': operator %s has no gradient: %s", n.name, d->name, d->no_grad);
    TRY(d->grad(g, &n, dy, dx));
    for (int i = 0; i < n.n_in; i++) {
        if (!dx[i] || n.in[i] >= n_total || !depends[n.in[i]])
            continue;
        TRY(sum_to_shape(g, n.in[i], &dx[i]));
        TRY(accumulate(g, &total[n.in[i]], dx[i]));
    }
    return ST_OK;
}

status graph_gradients(graph *g, value_id loss, const value_id *wrt, size_t n, value_id *grad)
{
    return graph_gradients_from(g, loss, 0, wrt, n, grad);
}

status graph_gradients_from(graph *g, value_id loss, value_id seed, const value_id *wrt, size_t n, value_id *grad)
{
    uint8_t *depends = NULL;
    value_id *total = NULL, *dy = NULL, *dx = NULL;
    size_t n_value = g->n_value, n_node = g->n_node, widest = 1;
    status st = ST_OK;
    if (shape_count(&g->value[loss].sh) != 1)
        return fail(ST_INTERNAL, "the loss '%s' is not one number", g->value[loss].name);
    for (size_t k = 1; k < n_node; k++) {
        widest = g->node[k].n_in > widest ? g->node[k].n_in : widest;
        widest = g->node[k].n_out > widest ? g->node[k].n_out : widest;
    }
    TRY_DONE(mark_dependents(g, wrt, n, &depends));
    TRY_DONE(mem_alloc(&total, n_value, sizeof *total));
    TRY_DONE(mem_alloc(&dy, widest, sizeof *dy));
    TRY_DONE(mem_alloc(&dx, widest, sizeof *dx));
    total[loss] = seed;
    if (!seed)
        TRY_DONE(graph_add_fill(g, g->value[loss].type, g->value[loss].sh, 1.0, &total[loss]));
    for (size_t k = n_node; k-- > 1;)
        TRY_DONE(backward_node(g, (node_id)k, depends, total, n_value, dy, dx));
    for (size_t i = 0; i < n; i++)
        grad[i] = total[wrt[i]];
done:
    mem_free(dx);
    mem_free(dy);
    mem_free(total);
    mem_free(depends);
    return st;
}
