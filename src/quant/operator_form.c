/* operator_form.c - see operator_form.h. */
#include "quant/operator_form.h"
#include "onnx/export.h"
#include "ops/attrs.h"

#include <stdio.h>
#include <string.h>

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

/* ---- products as convolutions of one pixel: the same sums, and OpenCV 4.6 knows them, where QGemm is none of its operators ---- */

static bool fits(const graph *g, const node *n)
{
    static const bool multiplies[OP_COUNT] = {[OP_QGEMM] = true};
    if (!multiplies[n->op] || n->n_in < 9 || !n->in[7] || !n->in[8] || is_output(g, n->out[0]))
        return false;
    const value *w = graph_value(g, n->in[3]);
    return w->kind == VALUE_CONST && graph_value(g, n->in[0])->sh.rank == 2 && !((const gemm_attrs *)n->attr)->transA;
}

/* b [K, N], or [N, K] where transB, as weights [N, K, 1, 1]. */
static status make_weights(graph *g, value_id b, bool transposed, value_id *out)
{
    const value *from = graph_value(g, b);
    const char *name = from->name, *data = from->data; /* bytes */
    const dtype type = from->type;
    const int64_t n = from->sh.dim[transposed ? 0 : 1], k = from->sh.dim[transposed ? 1 : 0];
    char *to;
    TRY(mem_alloc(&to, (size_t)(n * k), 1));
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < k; j++)
            to[i * k + j] = data[transposed ? i * k + j : j * n + i];
    status st = graph_add_data(g, name, VALUE_CONST, type, SHAPE(n, k, 1, 1), to, out);
    mem_free(to);
    return st;
}

static status reshape(graph *g, value_id x, const int64_t *dims, int64_t n, value_id *out)
{
    int64_t *kept;
    TRY(graph_alloc_data(g, (size_t)n * sizeof *kept, &kept));
    memcpy(kept, dims, (size_t)n * sizeof *kept);
    return graph_add1(g, OP_RESHAPE, &(reshape_attrs){.shape = {n, kept}}, x, 0, 0, out);
}

/* Three nodes at the end of g that give what node k gives. */
static status add_convolution(graph *g, node_id k, value_id *out)
{
    value_id in[9], x, w, y;
    int64_t *ones;
    conv_attrs at;
    memcpy(in, graph_node(g, k)->in, sizeof in);
    const bool transposed = ((const gemm_attrs *)graph_node(g, k)->attr)->transB != 0;
    TRY(graph_alloc_data(g, 4 * sizeof *ones, &ones));
    ones[0] = ones[1] = 1;
    TRY(make_weights(g, in[3], transposed, &w));
    const shape sh = graph_value(g, w)->sh;
    TRY(reshape(g, in[0], (const int64_t[]){-1, sh.dim[1], 1, 1}, 4, &x));
    op_default_attrs(OP_QLINEAR_CONV, &at);
    at.kernel_shape = at.strides = at.dilations = (attr_ints){2, ones};
    TRY(graph_alloc_data(g, 4 * sizeof *ones, &ones)); /* zeros */
    at.pads = (attr_ints){4, ones};
    TRY(graph_add(g, OP_QLINEAR_CONV, &at, (const value_id[]){x, in[1], in[2], w, in[4], in[5], in[7], in[8], in[6]}, in[6] ? 9 : 8, &y, 1));
    return reshape(g, y, (const int64_t[]){-1, sh.dim[0]}, 2, out);
}

static status gemms_to_convolutions(graph *g)
{
    for (node_id k = 1; k < g->n_node; k++) {
        node made[3];
        value_id y;
        const size_t n = g->n_node;
        if (!fits(g, graph_node(g, k)))
            continue;
        TRY(add_convolution(g, k, &y));
        graph_replace(g, graph_node(g, k)->out[0], y);
        memcpy(made, &g->node[n], sizeof made); /* right behind node k, which is dead now */
        memmove(&g->node[k + 4], &g->node[k + 1], (n - k - 1) * sizeof *g->node);
        memcpy(&g->node[k + 1], made, sizeof made);
        k += 3;
    }
    graph_refresh_from(g);
    return pass_dead_nodes(g);
}

/* ---- names ---- */

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
    TRY(gemms_to_convolutions(g));
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
