/* dropout.c - dropout while training. (Dropout in evaluation, ONNX's operator, is a view: view.c.) */
#include "ops/common.h"

/* DropoutTrain(x, counter): y = x / (1 - ratio) where a random number is at least ratio, else 0 (Srivastava et al. 2014,
 * inverted as in PyTorch). The mask is a function of (seed, counter, place of the element), so that nothing is kept for
 * the backward pass: dx is the same function of dy. counter: one int64, another one for every run. */
static status dropout_train_infer(graph *g, node *n)
{
    const dropout_attrs *at = n->attr;
    const value *x = op_in(g, n, 0), *counter = op_in(g, n, 1);
    TRY(op_check_float(g, n, 0));
    if (counter->type != DTYPE_I64 || shape_count(&counter->sh) != 1)
        return op_fail(n, "the counter '%s' is not one int64", counter->name);
    if (!(at->ratio >= 0 && at->ratio < 1))
        return op_fail(n, "ratio %g is outside [0, 1)", at->ratio);
    op_set_out(g, n, 0, x->type, x->sh);
    return ST_OK;
}

static status dropout_train_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    return graph_add1(g, OP_DROPOUT_TRAIN, n->attr, dy[0], n->in[1], 0, &dx[0]);
}

static const attr_desc dropout_train_rows[] = {
    {ATTR(dropout_attrs, ratio), .type = ATTR_FLOAT},
    {ATTR(dropout_attrs, seed), .type = ATTR_INT},
    {0},
};
const op_desc op_dropout_train = {
    .name = "DropoutTrain", .in = {2, 2}, .out = {1, 1}, .flags = OP_INTERNAL | OP_INPLACE, .attrs = dropout_train_rows,
    .attr_size = sizeof(dropout_attrs), .infer = dropout_train_infer, .grad = dropout_train_grad,
};
