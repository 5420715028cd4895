/* pool.c - MaxPool, AveragePool and their gradients; GlobalAveragePool, GlobalMaxPool.
 *
 * x [N, C, spatial...] with 1 to 3 spatial axes (the global pools: any number). */
#include "ops/window.h"

#include <inttypes.h>
#include <stddef.h>

#define WINDOW_ROWS(required)                                                                                     \
    {ATTR(pool_attrs, kernel_shape), .type = ATTR_INTS, .flags = (required), .min = 1, .max = INT32_MAX},         \
    {ATTR(pool_attrs, strides), .type = ATTR_INTS, .min = 1, .max = INT32_MAX},                                   \
    {ATTR(pool_attrs, dilations), .type = ATTR_INTS, .min = 1, .max = INT32_MAX},                                 \
    {ATTR(pool_attrs, pads), .type = ATTR_INTS, .min = 0, .max = INT32_MAX},                                      \
    {ATTR(pool_attrs, auto_pad), .type = ATTR_CHOICE, .choices = "NOTSET SAME_UPPER SAME_LOWER VALID"},           \
    {ATTR(pool_attrs, ceil_mode), .type = ATTR_INT, .min = 0, .max = 1}

static const attr_desc max_pool_rows[] = {
    WINDOW_ROWS(ATTR_REQUIRED), {ATTR(pool_attrs, storage_order), .type = ATTR_INT, .min = 0, .max = 1}, {0}};
static const attr_desc average_pool_rows[] = {
    WINDOW_ROWS(ATTR_REQUIRED), {ATTR(pool_attrs, count_include_pad), .type = ATTR_INT, .min = 0, .max = 1},
    {ATTR(pool_attrs, data_shape), .type = ATTR_INTS, .flags = ATTR_HIDDEN}, {0}};

static pool_attrs *own_attrs(const node *n)
{
    return (pool_attrs *)(uintptr_t)n->attr;
}

/* Completes the windows over data of shape x and gives the shape of the result. */
static status pool_shape(graph *g, const node *n, const shape *x, shape *y)
{
    pool_attrs *a = own_attrs(n);
    if (x->rank < 3 || x->rank > 2 + SPATIAL_MAX)
        return op_fail(n, "the data have rank %d; 3 to %d are supported (batch, channels, 1 to %d spatial axes)",
                       x->rank, 2 + SPATIAL_MAX, SPATIAL_MAX);
    window w = WINDOW_OF(a, x->rank - 2, x->dim + 2);
    TRY(window_complete(g, n, &w));
    for (int i = 0; i < w.spatial; i++)
        if (a->pads.v[i] >= window_extent(&w, i) || a->pads.v[i + w.spatial] >= window_extent(&w, i))
            return op_fail(n, "pads of spatial axis %d must be smaller than the kernel, %" PRId64, i,
                           window_extent(&w, i));
    *y = (shape){.rank = x->rank, .dim = {x->dim[0], x->dim[1]}};
    return window_outputs(n, &w, a->ceil_mode != 0, y->dim + 2);
}

/* ---- MaxPool: y = max over the window (ONNX MaxPool-22), padding excluded ----
 * Optional second output: the index of the maximum in the flattened data (storage_order 1: last two axes swapped).
 * Gradient: to the first maximum of a window in row-major order, as in PyTorch. */

static status max_pool_infer(graph *g, node *n)
{
    const value *x = op_in(g, n, 0);
    dtype t = x->type;
    shape y;
    if (!dtype_of(t)->is_float && t != DTYPE_I8 && t != DTYPE_U8)
        return op_fail(n, "input '%s' is %s; float types, int8 and uint8 are supported", x->name, dtype_of(t)->name);
    TRY(pool_shape(g, n, &x->sh, &y));
    op_set_out(g, n, 0, t, y);
    op_set_out(g, n, 1, DTYPE_I64, y);
    return ST_OK;
}

static status max_pool_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    return dy[0] ? graph_add1(g, OP_MAX_POOL_GRAD, n->attr, dy[0], n->in[0], 0, &dx[0]) : ST_OK;
}

const op_desc op_max_pool = {.name = "MaxPool", .in = {1, 1}, .out = {1, 2}, .flags = OP_PORTABLE,
                             .attrs = max_pool_rows, .attr_size = sizeof(pool_attrs), .infer = max_pool_infer,
                             .grad = max_pool_grad};

/* MaxPoolGrad (dy, x) -> dx: every dy is added where its window has its first maximum. */
static status max_pool_grad_infer(graph *g, node *n)
{
    TRY(op_check_float(g, n, 0));
    TRY(op_check_same_type(g, n, 0, 1));
    if (!op_in(g, n, 1))
        return op_fail(n, "input 1 is missing");
    shape x = op_in(g, n, 1)->sh, y;
    TRY(pool_shape(g, n, &x, &y));
    TRY(op_check_shape(g, n, 0, y, "gradient"));
    op_set_out(g, n, 0, op_in(g, n, 0)->type, x);
    return ST_OK;
}

const op_desc op_max_pool_grad = {.name = "MaxPoolGrad", .in = {2, 2}, .out = {1, 1}, .flags = OP_INTERNAL,
                                  .attrs = max_pool_rows, .attr_size = sizeof(pool_attrs),
                                  .infer = max_pool_grad_infer,
                                  NO_GRAD("second derivatives through MaxPool are not supported")};

/* ---- AveragePool: y = sum over the window / count (ONNX AveragePool-22) ----
 * count: taps inside the data, or with count_include_pad inside the data and their padding. */

static status average_pool_infer(graph *g, node *n)
{
    shape y;
    TRY(op_check_float(g, n, 0));
    shape x = op_in(g, n, 0)->sh;
    TRY(pool_shape(g, n, &x, &y));
    op_set_out(g, n, 0, op_in(g, n, 0)->type, y);
    return ST_OK;
}

static status average_pool_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    pool_attrs a = *(const pool_attrs *)n->attr;
    shape x = g->value[n->in[0]].sh;
    a.data_shape = (attr_ints){x.rank, x.dim};
    return graph_add1(g, OP_AVERAGE_POOL_GRAD, &a, dy[0], 0, 0, &dx[0]);
}

const op_desc op_average_pool = {.name = "AveragePool", .in = {1, 1}, .out = {1, 1}, .flags = OP_PORTABLE,
                                 .attrs = average_pool_rows, .attr_size = sizeof(pool_attrs),
                                 .infer = average_pool_infer, .grad = average_pool_grad};

/* AveragePoolGrad (dy) -> dx of shape data_shape: every dy / count is added to all taps of its window. */
static status average_pool_grad_infer(graph *g, node *n)
{
    const pool_attrs *a = n->attr;
    shape y;
    TRY(op_check_float(g, n, 0));
    TRY(window_check_list(n, "data_shape", a->data_shape, op_in(g, n, 0)->sh.rank, 0));
    shape x = shape_from(a->data_shape.v, (size_t)a->data_shape.n);
    TRY(pool_shape(g, n, &x, &y));
    TRY(op_check_shape(g, n, 0, y, "gradient"));
    op_set_out(g, n, 0, op_in(g, n, 0)->type, x);
    return ST_OK;
}

/* Linear: the gradient of <ddx, dx> with respect to dy is the AveragePool of ddx. */
static status average_pool_grad_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    pool_attrs a = *(const pool_attrs *)n->attr;
    a.data_shape = (attr_ints){0};
    return graph_add1(g, OP_AVERAGE_POOL, &a, dy[0], 0, 0, &dx[0]);
}

const op_desc op_average_pool_grad = {.name = "AveragePoolGrad", .in = {1, 1}, .out = {1, 1}, .flags = OP_INTERNAL,
                                      .attrs = average_pool_rows, .attr_size = sizeof(pool_attrs),
                                      .infer = average_pool_grad_infer, .grad = average_pool_grad_grad};

/* ---- GlobalAveragePool, GlobalMaxPool: over all spatial axes, which stay with length 1 ---- */

static status global_pool_infer(graph *g, node *n)
{
    TRY(op_check_float(g, n, 0));
    const value *x = op_in(g, n, 0);
    shape y = x->sh;
    if (y.rank < 2)
        return op_fail(n, "input '%s' has rank %d; it needs batch and channels", x->name, y.rank);
    for (int i = 2; i < y.rank; i++) {
        if (y.dim[i] == 0)
            return op_fail(n, "input '%s' has an empty spatial axis", x->name);
        y.dim[i] = 1;
    }
    op_set_out(g, n, 0, x->type, y);
    return ST_OK;
}

/* dx = dy / count, spread over the image. */
static status global_average_pool_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    shape x = g->value[n->in[0]].sh;
    double count = 1;
    value_id factor, each;
    for (int i = 2; i < x.rank; i++)
        count *= (double)x.dim[i];
    TRY(graph_add_fill(g, g->value[dy[0]].type, (shape){0}, 1 / count, &factor));
    TRY(graph_add1(g, OP_MUL, NULL, dy[0], factor, 0, &each));
    return graph_add1(g, OP_EXPAND, &(shape_attrs){.shape = {x.rank, x.dim}}, each, 0, 0, &dx[0]);
}

/* A MaxPool with one window over everything. */
static status global_max_pool_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    shape x = g->value[n->in[0]].sh;
    if (x.rank < 3 || x.rank > 2 + SPATIAL_MAX)
        return op_fail(n, "no gradient for %d spatial axes", x.rank - 2);
    pool_attrs a = {.kernel_shape = {x.rank - 2, x.dim + 2}};
    return graph_add1(g, OP_MAX_POOL_GRAD, &a, dy[0], n->in[0], 0, &dx[0]);
}

const op_desc op_global_average_pool = {.name = "GlobalAveragePool", .in = {1, 1}, .out = {1, 1},
                                        .flags = OP_PORTABLE, .infer = global_pool_infer,
                                        .grad = global_average_pool_grad};
const op_desc op_global_max_pool = {.name = "GlobalMaxPool", .in = {1, 1}, .out = {1, 1}, .flags = OP_PORTABLE,
                                    .infer = global_pool_infer, .grad = global_max_pool_grad};
