/* operator_form.c - see operator_form.h. */
#include "quant/operator_form.h"
#include "onnx/export.h"

#include <stdio.h>

enum { NAME_ROOM = 512 };

/* Which input of an operator is its result's scale; the zero point follows. 0: it has none of its own. */
static const uint8_t scale_at[OP_COUNT] = {[OP_QUANTIZE_LINEAR] = 1, [OP_QLINEAR_CONV] = 6, [OP_QLINEAR_MATMUL] = 6, [OP_QLINEAR_ADD] = 6,
                                           [OP_QGEMM] = 7};

static bool is_output(const graph *g, value_id v)
{
    for (size_t i = 0; i < g->n_output; i++)
        if (g->output[i] == v)
            return true;
    return false;
}

static bool is_free(const graph *g, const char *base, const char *ending)
{
    char name[NAME_ROOM + 32];
    snprintf(name, sizeof name, "%s%s", base, ending);
    return graph_find(g, name) == 0;
}

/* NAME, or NAME_2 and so on where something has one of the three names. */
static void find_base(const graph *g, const char *name, char base[NAME_ROOM])
{
    int n = snprintf(base, NAME_ROOM, "%.*s", NAME_ROOM - 16, name);
    for (unsigned i = 2; !is_free(g, base, "_quantized") || !is_free(g, base, "_scale") || !is_free(g, base, "_zero_point"); i++)
        snprintf(base + n, NAME_ROOM - (size_t)n, "_%u", i);
}

static status copy_constant(graph *g, const char *base, const char *ending, value_id *v)
{
    char name[NAME_ROOM + 32];
    const value *x = graph_value(g, *v);
    if (x->kind != VALUE_CONST)
        return ST_OK;
    snprintf(name, sizeof name, "%s%s", base, ending);
    return graph_add_data(g, name, VALUE_CONST, x->type, x->sh, x->data, v);
}

static status name_result(graph *g, node_id k)
{
    const value_id v = graph_node(g, k)->out[0];
    const int at = scale_at[graph_node(g, k)->op];
    char base[NAME_ROOM], name[NAME_ROOM + 32];
    value_id scale, zero;
    find_base(g, graph_value(g, v)->name, base);
    if (at) {
        if (graph_node(g, k)->n_in <= at + 1 || !graph_node(g, k)->in[at + 1])
            return ST_OK;
        scale = graph_node(g, k)->in[at];
        zero = graph_node(g, k)->in[at + 1];
        TRY(copy_constant(g, base, "_scale", &scale));
        TRY(copy_constant(g, base, "_zero_point", &zero));
        graph_node(g, k)->in[at] = scale;
        graph_node(g, k)->in[at + 1] = zero;
    }
    snprintf(name, sizeof name, "%s_quantized", base);
    return graph_rename(g, v, name);
}

status operator_form(graph *g)
{
    TRY(pass_drop_identity(g));
    TRY(pass_integer_groups(g));
    for (node_id k = 1; k < g->n_node; k++) {
        const node *n = graph_node(g, k);
        const value *y = n->n_out == 1 && n->out[0] ? graph_value(g, n->out[0]) : NULL;
        if (y && (y->type == DTYPE_I8 || y->type == DTYPE_U8) && !is_output(g, n->out[0]))
            TRY(name_result(g, k));
    }
    return ST_OK;
}

status operator_form_write(const graph *g, const char *path)
{
    graph *copy = NULL;
    status st = graph_clone(g, &copy);
    if (st == ST_OK)
        st = operator_form(copy);
    if (st == ST_OK)
        st = onnx_export_file(copy, &(export_options){0}, path);
    graph_free(copy);
    return st;
}
