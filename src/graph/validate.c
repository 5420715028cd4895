/* validate.c - whether a graph is what every other part takes for granted. Run after each pass in debug and test
 * builds. */
#include "graph/graph.h"

#include <string.h>

static status check_operands(const graph *g, node_id k, const uint8_t *made)
{
    const node *n = &g->node[k];
    const op_desc *d = op_of(n->op);
    if ((int)n->n_in < d->in.min || (d->in.max >= 0 && (int)n->n_in > d->in.max) || (int)n->n_out < d->out.min ||
        (d->out.max >= 0 && (int)n->n_out > d->out.max))
        return fail(ST_INTERNAL, "graph: node '%s' (%s) has %d inputs and %d outputs", n->name, d->name, n->n_in,
                    n->n_out);
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i] >= g->n_value)
            return fail(ST_INTERNAL, "graph: node '%s' uses a value that does not exist", n->name);
        if (n->in[i] && !made[n->in[i]])
            return fail(ST_INTERNAL, "graph: node '%s' uses '%s' before it is made", n->name, g->value[n->in[i]].name);
    }
    for (int i = 0; i < n->n_out; i++) {
        if (n->out[i] >= g->n_value)
            return fail(ST_INTERNAL, "graph: node '%s' makes a value that does not exist", n->name);
        if (n->out[i] && (g->value[n->out[i]].kind != VALUE_TEMP || g->value[n->out[i]].from != k))
            return fail(ST_INTERNAL, "graph: node '%s' and its output '%s' disagree", n->name,
                        g->value[n->out[i]].name);
    }
    return ST_OK;
}

/* Shapes and types are what inference gives. */
static status check_inference(graph *g, node_id k)
{
    node n = g->node[k];
    for (int i = 0; i < n.n_out; i++) {
        if (!n.out[i])
            continue;
        value was = g->value[n.out[i]];
        TRY(op_of(n.op)->infer(g, &n));
        value now = g->value[n.out[i]];
        g->value[n.out[i]].type = was.type;
        g->value[n.out[i]].sh = was.sh;
        if (was.type != now.type || !shape_equal(&was.sh, &now.sh))
            return fail(ST_INTERNAL, "graph: node '%s': output '%s' does not have the inferred type and shape", n.name,
                        was.name);
    }
    return ST_OK;
}

status graph_validate(const graph *g)
{
    uint8_t *made = NULL, *changed = NULL;
    status st = ST_OK;
    TRY_DONE(mem_alloc(&made, g->n_value, 1));
    TRY_DONE(mem_alloc(&changed, g->n_value, 1));
    for (size_t v = 1; v < g->n_value; v++) {
        made[v] = g->value[v].kind != VALUE_TEMP;
        if (graph_find(g, g->value[v].name) != v) {
            st = fail(ST_INTERNAL, "graph: the name '%s' does not lead to its value", g->value[v].name);
            goto done;
        }
    }
    for (size_t k = 1; k < g->n_node; k++) {
        const node *n = &g->node[k];
        const op_desc *d = op_of(n->op);
        TRY_DONE(check_operands(g, (node_id)k, made));
        TRY_DONE(check_inference((graph *)(uintptr_t)g, (node_id)k)); /* puts back what it touches */
        for (int i = 0; i < n->n_in; i++) {
            bool writes = op_writes(d, i);
            value_kind kind = g->value[n->in[i]].kind;
            if (writes && n->in[i] && kind != VALUE_PARAM && kind != VALUE_STATE)
                st = fail(ST_INTERNAL, "graph: node '%s' writes '%s', which is not persistent", n->name,
                          g->value[n->in[i]].name);
            else if (changed[n->in[i]] == n->when + 1 && !(d->flags & OP_MUTATES))
                st = fail(ST_INTERNAL, "graph: node '%s' reads '%s' after it was updated", n->name,
                          g->value[n->in[i]].name);
            if (st != ST_OK)
                goto done;
            if (writes) /* a later phase may read it: the sum of gradients over micro batches */
                changed[n->in[i]] = (uint8_t)(n->when + 1);
        }
        for (int i = 0; i < n->n_out; i++)
            made[n->out[i]] = 1;
    }
    for (size_t i = 0; i < g->n_output; i++)
        if (!made[g->output[i]]) {
            st = fail(ST_INTERNAL, "graph: output '%s' is not made", g->value[g->output[i]].name);
            goto done;
        }
done:
    mem_free(changed);
    mem_free(made);
    return st;
}
