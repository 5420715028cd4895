/* reduce.c - reductions over axes, and their gradients.
 *
 * ONNX ReduceSum-13, ReduceMean/Max/Min/Prod-18/20: axes not given or empty means all, or, with noop_with_empty_axes, none.
 * Over no elements: sum 0, product 1, max the least and min the greatest number, mean NaN. */
#include "ops/common.h"

/* Bit i: axis i is summed over. */
static status reduced_axes(const graph *g, const node *n, uint32_t *mask)
{
    const reduce_attrs *at = n->attr;
    int rank = op_in(g, n, 0)->sh.rank;
    TRY(op_axes(n, at->axes, rank, mask));
    if (at->axes.n == 0 && !at->noop_with_empty_axes)
        *mask = (1u << rank) - 1;
    return ST_OK;
}

static shape reduced_shape(const shape *x, uint32_t mask, bool keep)
{
    shape y = {0};
    for (int i = 0; i < x->rank; i++)
        if (keep || !(mask >> i & 1))
            y.dim[y.rank++] = mask >> i & 1 ? 1 : x->dim[i];
    return y;
}

static status reduce_infer(graph *g, node *n)
{
    const reduce_attrs *at = n->attr;
    const value *x = op_in(g, n, 0);
    uint32_t mask;
    TRY(reduced_axes(g, n, &mask));
    op_set_out(g, n, 0, x->type, reduced_shape(&x->sh, mask, at->keepdims));
    return ST_OK;
}

static status reduce_numbers_infer(graph *g, node *n)
{
    const value *x = op_in(g, n, 0);
    if (x->type == DTYPE_BOOL)
        return op_fail(n, "input '%s' is bool; a number type is needed", x->name);
    return reduce_infer(g, n);
}

/* v (dy or y, without the reduced axes when keepdims = 0) with every axis of x, so that it broadcasts to it. */
static status with_all_axes(graph *g, const node *n, value_id v, value_id *out)
{
    uint32_t mask;
    TRY(reduced_axes(g, n, &mask));
    shape want = reduced_shape(&op_in(g, n, 0)->sh, mask, true);
    *out = v;
    return shape_equal(&want, &graph_value(g, v)->sh) ? ST_OK : op_add_reshape(g, v, want, out);
}

static status expand_to_input(graph *g, const node *n, value_id v, value_id *out)
{
    shape sh = op_in(g, n, 0)->sh;
    shape_attrs to = {.shape = {sh.rank, sh.dim}};
    TRY(with_all_axes(g, n, v, &v));
    return graph_add1(g, OP_EXPAND, &to, v, 0, 0, out);
}

/* ReduceSum: dx = dy, repeated. */
static status reduce_sum_backward(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    return expand_to_input(g, n, dy[0], &dx[0]);
}

/* ReduceMean over k elements: dx = dy / k, repeated. */
static status reduce_mean_backward(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    const value *x = op_in(g, n, 0), *y = graph_value(g, n->out[0]);
    int64_t all = shape_count(&x->sh), outs = shape_count(&y->sh);
    value_id k, share;
    TRY(graph_add_fill(g, x->type, (shape){0}, all ? (double)outs / (double)all : 0, &k));
    TRY(graph_add1(g, OP_MUL, NULL, dy[0], k, 0, &share));
    return expand_to_input(g, n, share, &dx[0]);
}

static status saved_backward(graph *g, const node *n, op_id op, const value_id *dy, value_id *dx)
{
    value_id d, y;
    TRY(with_all_axes(g, n, dy[0], &d));
    TRY(with_all_axes(g, n, n->out[0], &y));
    return graph_add1(g, op, NULL, d, n->in[0], y, &dx[0]);
}

/* ReduceMax, ReduceMin: dy goes to the elements that attain the extremum, in equal shares (as torch.amax). */
static status reduce_minmax_backward(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    return saved_backward(g, n, OP_REDUCE_MINMAX_GRAD, dy, dx);
}

/* ReduceProd: dx = dy times the product of the other elements. */
static status reduce_prod_backward(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    return saved_backward(g, n, OP_REDUCE_PROD_GRAD, dy, dx);
}

/* ReduceMinMaxGrad, ReduceProdGrad (dy, x, y): dy and y have the axes of x, 1 where it was reduced. */
static status reduce_grad_infer(graph *g, node *n)
{
    TRY(op_check_float(g, n, 0));
    TRY(op_check_same_type(g, n, 0, 1));
    TRY(op_check_same_type(g, n, 0, 2));
    TRY(op_check_same_shape(g, n, 0, 2));
    const value *dy = op_in(g, n, 0), *x = op_in(g, n, 1);
    for (int i = 0; i < x->sh.rank; i++)
        if (dy->sh.rank != x->sh.rank || (dy->sh.dim[i] != x->sh.dim[i] && dy->sh.dim[i] != 1))
            return op_fail(n, "'%s' is no reduction of '%s'", dy->name, x->name);
    op_set_out(g, n, 0, x->type, x->sh);
    return ST_OK;
}

/* ArgMax: the index, along one axis, of the greatest element; of equal ones the first (or the last). */
static status arg_max_infer(graph *g, node *n)
{
    const arg_attrs *at = n->attr;
    const value *x = op_in(g, n, 0);
    int axis;
    if (x->type == DTYPE_BOOL)
        return op_fail(n, "input '%s' is bool; a number type is needed", x->name);
    TRY(op_axis(n, at->axis, x->sh.rank, &axis));
    if (x->sh.dim[axis] == 0)
        return op_fail(n, "axis %d of '%s' has no elements", axis, x->name);
    op_set_out(g, n, 0, DTYPE_I64, reduced_shape(&x->sh, 1u << axis, at->keepdims));
    return ST_OK;
}

static const attr_desc reduce_rows[] = {
    {ATTR(reduce_attrs, axes), .type = ATTR_INTS, .from_input = 2},
    {ATTR(reduce_attrs, keepdims), .type = ATTR_INT, .def = 1, .min = 0, .max = 1},
    {ATTR(reduce_attrs, noop_with_empty_axes), .type = ATTR_INT, .def = 0, .min = 0, .max = 1},
    {0}};
static const attr_desc arg_rows[] = {
    {ATTR(arg_attrs, axis), .type = ATTR_INT, .def = 0},
    {ATTR(arg_attrs, keepdims), .type = ATTR_INT, .def = 1, .min = 0, .max = 1},
    {ATTR(arg_attrs, select_last_index), .type = ATTR_INT, .def = 0, .min = 0, .max = 1},
    {0}};

#define REDUCE(object, text, inference, backward)                                                                 \
    const op_desc op_##object = {.name = text, .in = {1, 1}, .out = {1, 1}, .attrs = reduce_rows,                 \
                                 .attr_size = sizeof(reduce_attrs), .infer = inference, .grad = backward};
REDUCE(reduce_sum, "ReduceSum", reduce_numbers_infer, reduce_sum_backward)
REDUCE(reduce_mean, "ReduceMean", reduce_numbers_infer, reduce_mean_backward)
REDUCE(reduce_max, "ReduceMax", reduce_infer, reduce_minmax_backward)
REDUCE(reduce_min, "ReduceMin", reduce_infer, reduce_minmax_backward)
REDUCE(reduce_prod, "ReduceProd", reduce_numbers_infer, reduce_prod_backward)

#define REDUCE_GRAD(object, text)                                                                                 \
    const op_desc op_##object = {.name = text, .in = {3, 3}, .out = {1, 1}, .flags = OP_INTERNAL,                 \
                                 .infer = reduce_grad_infer, NO_GRAD("second derivatives are not supported")};
REDUCE_GRAD(reduce_minmax_grad, "ReduceMinMaxGrad")
REDUCE_GRAD(reduce_prod_grad, "ReduceProdGrad")

const op_desc op_arg_max = {.name = "ArgMax", .in = {1, 1}, .out = {1, 1}, .attrs = arg_rows,
                            .attr_size = sizeof(arg_attrs), .infer = arg_max_infer, NO_GRAD("its result is an index")};
