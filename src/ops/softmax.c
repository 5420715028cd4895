/* softmax.c - Softmax and LogSoftmax along one axis (Softmax-13, LogSoftmax-13).
 *
 *   Softmax: y = exp(x - max) / sum exp(x - max);   dx = y * (dy - sum(dy * y))
 *   LogSoftmax: y = x - max - log sum exp(x - max); dx = dy - exp(y) * sum(dy)
 * The maximum is taken off first, so that no exponential overflows. */
#include "ops/common.h"

static status softmax_infer(graph *g, node *n)
{
    int axis;
    TRY(op_check_float(g, n, 0));
    TRY(op_axis(n, ((const axis_attrs *)n->attr)->axis, op_in(g, n, 0)->sh.rank, &axis));
    return op_infer_same(g, n);
}

static status softmax_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    return graph_add1(g, OP_SOFTMAX_GRAD, n->attr, dy[0], n->out[0], 0, &dx[0]);
}

static status log_softmax_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    return graph_add1(g, OP_LOG_SOFTMAX_GRAD, n->attr, dy[0], n->out[0], 0, &dx[0]);
}

static const attr_desc softmax_rows[] = {{ATTR(axis_attrs, axis), .type = ATTR_INT, .def = -1}, {0}};
#define SOFTMAX_ATTRS .attrs = softmax_rows, .attr_size = sizeof(axis_attrs)

const op_desc op_softmax = {
    .name = "Softmax", .in = {1, 1}, .out = {1, 1}, .flags = OP_INPLACE | OP_PORTABLE, SOFTMAX_ATTRS,
    .infer = softmax_infer, .grad = softmax_grad,
};
const op_desc op_log_softmax = {
    .name = "LogSoftmax", .in = {1, 1}, .out = {1, 1}, .flags = OP_INPLACE, SOFTMAX_ATTRS, .infer = softmax_infer,
    .grad = log_softmax_grad,
};

/* SoftmaxGrad, LogSoftmaxGrad: inputs dy, y; output dx. */
static status softmax_grad_infer(graph *g, node *n)
{
    TRY(op_check_same_type(g, n, 0, 1));
    TRY(op_check_same_shape(g, n, 0, 1));
    return softmax_infer(g, n);
}

const op_desc op_softmax_grad = {
    .name = "SoftmaxGrad", .in = {2, 2}, .out = {1, 1}, .flags = OP_INPLACE | OP_INTERNAL, SOFTMAX_ATTRS,
    .infer = softmax_grad_infer, NO_GRAD("second derivatives of Softmax are not needed"),
};
const op_desc op_log_softmax_grad = {
    .name = "LogSoftmaxGrad", .in = {2, 2}, .out = {1, 1}, .flags = OP_INPLACE | OP_INTERNAL, SOFTMAX_ATTRS,
    .infer = softmax_grad_infer, NO_GRAD("second derivatives of LogSoftmax are not needed"),
};
