/* loss.c - losses. All internal; every one gives a scalar, and reductions are said here.
 *
 * Distillation and classification are one node, KdLoss, because both need the row's softmax and one pass over the logits
 * gives the losses and their gradient. */
#include "ops/common.h"

#include <inttypes.h>
#include <math.h>

/* ---- KdLoss ----
 * Inputs: 0 logits z [B.., C], 1 teacher logits t [B.., C] or absent, 2 labels int64 [B..] or absent, 3 second labels
 *   and 4 their share's complement lambda [B..] (mixup) or absent, 5 weights [3] = {w_task, w_kd, T}, a tensor so that
 *   schedules change it without a new plan. R rows, each a sample (or a token) of C classes.
 * Outputs: 0 total = w_task * CE + w_kd * KL, 1 CE, 2 KL, 3 d total / d z [B.., C], 4 (optional) the number of labelled
 *   rows whose largest logit is the label's, 5 (optional) the number of rows whose largest logit is the teacher's largest.
 *
 * KL = T^2 / R * sum_r sum_c p_t (log p_t - log p_s), p = softmax(. / T): "batchmean" (Hinton, Vinyals, Dean 2015,
 *   section 2: the factor T^2 keeps the gradient's size when T changes). d KL / d z = T / R * (p_s - p_t).
 * CE = 1 / D * sum over labelled rows of sum_c q_c * -log softmax(z)_c with
 *   q_c = (1 - eps) * w_y [c = y] + eps / C * w_c    smoothing eps and class weights w as torch.nn.CrossEntropyLoss
 *   q of a mixed row = lambda * q(label) + (1 - lambda) * q(second label)   (Zhang et al., "mixup", 2018)
 *   D = R, so that one label does not outweigh a batch; with per_labelled D = sum over labelled rows of w_y (of the number
 *   of rows without class weights), PyTorch's 'mean'.
 * A row is labelled when every label with a share is >= 0. A label >= C makes losses and the row's gradient NaN: data
 * that wrong must not train. A weight of 0 takes its part out of total and gradient altogether. Ties: the first class.
 * The teacher and the labels get no gradient; neither do outputs 1, 2, 4 and 5 give one. */
static status check_rows(const graph *g, const node *n, int i, shape rows, dtype type, const char *what)
{
    const value *v = op_in(g, n, i);
    if (v && v->type != type)
        return op_fail(n, "%s '%s' is %s; %s is needed", what, v->name, dtype_of(v->type)->name,
                       dtype_of(type)->name);
    return op_check_shape(g, n, i, rows, what);
}

static status check_kd_attrs(const node *n, int64_t classes)
{
    const kd_loss_attrs *at = n->attr;
    if (!(at->label_smoothing >= 0 && at->label_smoothing < 1))
        return op_fail(n, "label_smoothing %g is outside [0, 1)", at->label_smoothing);
    if (at->class_weights.v && at->class_weights.n != classes)
        return op_fail(n, "%" PRId64 " class weights for %" PRId64 " classes", at->class_weights.n, classes);
    for (int64_t c = 0; at->class_weights.v && c < classes; c++)
        if (!(at->class_weights.v[c] >= 0) || isinf(at->class_weights.v[c]))
            return op_fail(n, "class weight %g of class %" PRId64, at->class_weights.v[c], c);
    return ST_OK;
}

static status kd_loss_infer(graph *g, node *n)
{
    const value *z = op_in(g, n, 0);
    TRY(op_check_float(g, n, 0));
    if (z->sh.rank < 2 || shape_count(&z->sh) == 0)
        return op_fail(n, "logits '%s' have no rows of classes", z->name);
    shape rows = z->sh;
    int64_t classes = rows.dim[--rows.rank];
    rows.dim[rows.rank] = 0;
    TRY(op_check_same_type(g, n, 0, 1));
    TRY(op_check_same_shape(g, n, 0, 1));
    TRY(check_rows(g, n, 2, rows, DTYPE_I64, "labels"));
    TRY(check_rows(g, n, 3, rows, DTYPE_I64, "second labels"));
    TRY(check_rows(g, n, 4, rows, z->type, "lambda"));
    TRY(check_rows(g, n, 5, SHAPE(3), z->type, "weights"));
    TRY(check_kd_attrs(n, classes));
    if (!op_in(g, n, 1) && !op_in(g, n, 2))
        return op_fail(n, "neither labels nor teacher logits");
    if (!op_in(g, n, 5))
        return op_fail(n, "the weights are missing");
    if ((op_in(g, n, 3) != NULL) != (op_in(g, n, 4) != NULL) || (op_in(g, n, 3) && !op_in(g, n, 2)))
        return op_fail(n, "mixed labels need labels, second labels and lambda");
    shape full = z->sh;
    for (int i = 0; i < n->n_out; i++)
        op_set_out(g, n, i, z->type, i == 3 ? full : (shape){0});
    return ST_OK;
}

static bool is_one(const value *v)
{
    return v->kind == VALUE_CONST && shape_count(&v->sh) == 1 && dtype_load(v->type, v->data, 0) == 1.0;
}

static status kd_loss_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    for (int i = 1; i < n->n_out; i++)
        if (dy[i])
            return op_fail(n, "only the total carries a gradient");
    dx[0] = n->out[3];
    return is_one(&g->value[dy[0]]) ? ST_OK : graph_add1(g, OP_MUL, NULL, dy[0], n->out[3], 0, &dx[0]);
}

static const attr_desc kd_loss_rows[] = {
    {ATTR(kd_loss_attrs, label_smoothing), .type = ATTR_FLOAT, .def = 0},
    {ATTR(kd_loss_attrs, per_labelled), .type = ATTR_INT, .def = 0, .min = 0, .max = 1},
    {ATTR(kd_loss_attrs, class_weights), .type = ATTR_FLOATS},
    {0},
};
const op_desc op_kd_loss = {
    .name = "KdLoss", .in = {1, 6}, .out = {4, 6}, .flags = OP_INTERNAL, .attrs = kd_loss_rows,
    .attr_size = sizeof(kd_loss_attrs), .infer = kd_loss_infer, .grad = kd_loss_grad,
};

/* ---- binary cross entropy and regression ----
 * A sample is a slice along dimension 0. A sample with a NaN in its target is unlabelled: it adds nothing, and the mean
 * is over the elements of the labelled samples (0 when there is none). */

static status pair_infer(graph *g, node *n, int first)
{
    const value *a = op_in(g, n, first);
    TRY(op_check_float(g, n, first));
    TRY(op_check_same_type(g, n, first, first + 1));
    TRY(op_check_same_shape(g, n, first, first + 1));
    if (shape_count(&a->sh) == 0)
        return op_fail(n, "the mean over no element");
    if (first == 0) {
        op_set_out(g, n, 0, a->type, (shape){0});
        return ST_OK;
    }
    TRY(op_check_same_type(g, n, 0, first));
    TRY(op_check_shape(g, n, 0, (shape){0}, "gradient of the loss"));
    op_set_out(g, n, 0, a->type, a->sh);
    return ST_OK;
}

static status loss_infer(graph *g, node *n)
{
    return pair_infer(g, n, 0);
}

static status loss_grad_infer(graph *g, node *n)
{
    return pair_infer(g, n, 1);
}

/* BceLoss: inputs logits z, targets t in [0, 1] (not differentiated); with the sigmoid inside, stable for any z:
 *   loss = mean of max(z, 0) - z t + log(1 + exp(-|z|)),  dz = (sigmoid(z) - t) / count   (torch.nn.BCEWithLogitsLoss) */
static status bce_loss_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    return graph_add1(g, OP_BCE_LOSS_GRAD, NULL, dy[0], n->in[0], n->in[1], &dx[0]);
}

const op_desc op_bce_loss = {
    .name = "BceLoss", .in = {2, 2}, .out = {1, 1}, .flags = OP_INTERNAL, .infer = loss_infer, .grad = bce_loss_grad,
};
/* BceLossGrad: inputs dy (scalar), logits, targets; output dz. */
const op_desc op_bce_loss_grad = {
    .name = "BceLossGrad", .in = {3, 3}, .out = {1, 1}, .flags = OP_INPLACE | OP_INTERNAL, .infer = loss_grad_infer,
    NO_GRAD("second derivatives of a loss are not needed"),
};

/* RegressionLoss: inputs a, b of one shape; mean over all elements of, with d = a - b,
 *   mse: d^2    l1: |d|    smooth_l1: d^2 / 2 where |d| < 1, else |d| - 1/2
 * (torch.nn.MSELoss, L1Loss, SmoothL1Loss with beta 1). Both get a gradient; at d = 0 that of l1 is 0. `masked`: b is a
 * target that may be unlabelled (above); without it a NaN shows in the loss. */
static status regression_infer(graph *g, node *n)
{
    const regression_loss_attrs *at = n->attr;
    if (at->kind < REGRESSION_MSE || at->kind > REGRESSION_SMOOTH_L1)
        return op_fail(n, "kind %" PRId64, at->kind);
    return pair_infer(g, n, n->op == OP_REGRESSION_LOSS ? 0 : 1);
}

static status regression_loss_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    const regression_loss_attrs *at = n->attr;
    TRY(graph_add1(g, OP_REGRESSION_LOSS_GRAD, at, dy[0], n->in[0], n->in[1], &dx[0]));
    return graph_add1(g, OP_NEG, NULL, dx[0], 0, 0, &dx[1]); /* a dead node when b is a tap or a target */
}

static const attr_desc regression_rows[] = {
    {ATTR(regression_loss_attrs, kind), .type = ATTR_CHOICE, .def = REGRESSION_MSE, .choices = "mse l1 smooth_l1"},
    {ATTR(regression_loss_attrs, masked), .type = ATTR_INT, .def = 0, .min = 0, .max = 1},
    {0},
};
const op_desc op_regression_loss = {
    .name = "RegressionLoss", .in = {2, 2}, .out = {1, 1}, .flags = OP_INTERNAL, .attrs = regression_rows,
    .attr_size = sizeof(regression_loss_attrs), .infer = regression_infer, .grad = regression_loss_grad,
};
/* RegressionLossGrad: inputs dy (scalar), a, b; output da. */
const op_desc op_regression_loss_grad = {
    .name = "RegressionLossGrad", .in = {3, 3}, .out = {1, 1}, .flags = OP_INPLACE | OP_INTERNAL,
    .attrs = regression_rows, .attr_size = sizeof(regression_loss_attrs), .infer = regression_infer,
    NO_GRAD("second derivatives of a loss are not needed"),
};
