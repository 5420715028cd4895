/* dead.c - what nobody uses leaves a graph: nodes without a wanted result, values without a reader. */
#include "graph/graph.h"

/* Drops the values for which keep[v] is 0 and renumbers the rest. */
static void compact_values(graph *g, uint32_t *keep)
{
    uint32_t next = 1;
    for (size_t v = 1; v < g->n_value; v++)
        if (keep[v]) {
            g->value[next] = g->value[v];
            keep[v] = next++;
        }
    keep[0] = 0;
    for (size_t k = 1; k < g->n_node; k++) {
        for (int i = 0; i < g->node[k].n_in; i++)
            g->node[k].in[i] = keep[g->node[k].in[i]];
        for (int i = 0; i < g->node[k].n_out; i++)
            g->node[k].out[i] = keep[g->node[k].out[i]];
    }
    for (size_t i = 0; i < g->n_input; i++)
        g->input[i] = keep[g->input[i]];
    for (size_t i = 0; i < g->n_output; i++)
        g->output[i] = keep[g->output[i]];
    g->n_value = next;
    graph_index_names(g);
}

status pass_unused_values(graph *g)
{
    uint32_t *keep;
    TRY(graph_count_uses(g, &keep));
    for (size_t k = 1; k < g->n_node; k++)
        for (int i = 0; i < g->node[k].n_out; i++)
            keep[g->node[k].out[i]] = 1;
    for (size_t i = 0; i < g->n_input; i++)
        keep[g->input[i]] = 1;
    compact_values(g, keep);
    mem_free(keep);
    return ST_OK;
}

/* Nodes are moved by passes: values remember their new places. */
void graph_refresh_from(graph *g)
{
    for (size_t v = 1; v < g->n_value; v++)
        g->value[v].from = 0;
    for (size_t k = 1; k < g->n_node; k++)
        for (int i = 0; i < g->node[k].n_out; i++)
            if (g->node[k].out[i])
                g->value[g->node[k].out[i]].from = (node_id)k;
}

void graph_sweep(graph *g)
{
    size_t next = 1;
    for (size_t k = 1; k < g->n_node; k++)
        if (g->node[k].op != OP_NONE)
            g->node[next++] = g->node[k];
    g->n_node = next;
    graph_refresh_from(g);
}

status pass_dead_nodes(graph *g)
{
    uint8_t *live;
    TRY(mem_alloc(&live, g->n_value, 1));
    for (size_t i = 0; i < g->n_output; i++)
        live[g->output[i]] = 1;
    for (size_t k = g->n_node; k-- > 1;) {
        node *n = &g->node[k];
        bool wanted = (op_of(n->op)->flags & OP_MUTATES) != 0;
        for (int i = 0; i < n->n_out; i++)
            wanted |= n->out[i] && live[n->out[i]];
        if (!wanted)
            n->op = OP_NONE;
        for (int i = 0; wanted && i < n->n_in; i++)
            live[n->in[i]] = 1;
    }
    mem_free(live);
    graph_sweep(g);
    return pass_unused_values(g);
}
