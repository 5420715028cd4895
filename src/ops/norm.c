/* norm.c - normalisation: BatchNormalization and its training form, LayerNormalization, InstanceNormalization.
 *
 * Inference and training are different operators. BatchNormalization is what models are imported and exported with; a
 * student trains with BatchNormTrain, which also gives the batch statistics, and BatchNormStats, which moves the running
 * ones (pass_training_mode puts the two in its place). Statistics accumulate in double in every kernel. */
#include "ops/common.h"

#include <inttypes.h>
#include <math.h>

static status check_epsilon(const node *n, double epsilon)
{
    if (!(epsilon >= 0) || isinf(epsilon))
        return op_fail(n, "epsilon %g", epsilon);
    return ST_OK;
}

/* ---- batch norm: x [N, C, ...], everything else [C] ---- */

/* x is input `at` and has a channel axis; inputs first .. last are [C] and of x's type. */
static status check_channels(const graph *g, const node *n, int at, int first, int last)
{
    const value *x = op_in(g, n, at);
    TRY(op_check_float(g, n, at));
    TRY(check_epsilon(n, ((const batch_norm_attrs *)n->attr)->epsilon));
    if (x->sh.rank < 2)
        return op_fail(n, "input '%s' of rank %d has no channels; rank 2 or more is needed", x->name, x->sh.rank);
    for (int i = first; i <= last; i++) {
        if (!op_in(g, n, i))
            return op_fail(n, "input %d is missing", i);
        TRY(op_check_same_type(g, n, at, i));
        TRY(op_check_shape(g, n, i, SHAPE(x->sh.dim[1]), "operand of the channels"));
    }
    return ST_OK;
}

static int64_t per_channel(const shape *x)
{
    return x->dim[1] ? shape_count(x) / x->dim[1] : 0;
}

/* BatchNormalization (BatchNormalization-15). Inputs X, scale, B, input_mean, input_var.
 *   y = (x - mean[c]) / sqrt(var[c] + epsilon) * scale[c] + B[c]
 * With training_mode mean and var are those of the batch (population variance), and the outputs 1 and 2 are
 * running = input * momentum + batch * (1 - momentum). */
static status batch_norm_infer(graph *g, node *n)
{
    const batch_norm_attrs *at = n->attr;
    TRY(check_channels(g, n, 0, 1, 4));
    const value *x = op_in(g, n, 0);
    if (!at->training_mode && n->n_out > 1 && (n->out[1] || (n->n_out > 2 && n->out[2])))
        return op_fail(n, "outputs beside Y exist with training_mode = 1 only");
    if (at->training_mode && per_channel(&x->sh) == 0)
        return op_fail(n, "training_mode with no element per channel");
    op_set_out(g, n, 0, x->type, x->sh);
    for (int i = 1; i < 3; i++)
        op_set_out(g, n, i, x->type, SHAPE(x->sh.dim[1]));
    return ST_OK;
}

static status batch_norm_backward(graph *g, const node *n, value_id dy, value_id mean, value_id var, bool training,
                                  value_id *dx)
{
    batch_norm_attrs at = *(const batch_norm_attrs *)n->attr;
    at.training_mode = training;
    bool residual = training && n->n_in == 4 && n->in[3];
    value_id in[] = {dy, n->in[0], n->in[1], mean, var, at.relu ? n->out[0] : 0, residual ? 0 : n->in[2]};
    if (residual && !at.relu)
        dx[3] = dy;
    return graph_add(g, OP_BATCH_NORM_GRAD, &at, in, at.relu ? 7 : 5, dx, residual && at.relu ? 4 : 3);
}

/* Statistics given as input are constants of the step: no gradient goes to them. In training mode the batch statistics
 * are no output, so they are computed once more. */
static status batch_norm_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    const batch_norm_attrs *at = n->attr;
    if ((n->n_out > 1 && dy[1]) || (n->n_out > 2 && dy[2]))
        return op_fail(n, "running statistics carry no gradient");
    if (!at->training_mode)
        return batch_norm_backward(g, n, dy[0], n->in[3], n->in[4], false, dx);
    value_id stats[3];
    TRY(graph_add(g, OP_BATCH_NORM_TRAIN, at, n->in, 3, stats, 3));
    return batch_norm_backward(g, n, dy[0], stats[1], stats[2], true, dx);
}

static const attr_desc batch_norm_rows[] = {
    {ATTR(batch_norm_attrs, epsilon), .type = ATTR_FLOAT, .def = 1e-5},
    {ATTR(batch_norm_attrs, momentum), .type = ATTR_FLOAT, .def = 0.9},
    {ATTR(batch_norm_attrs, training_mode), .type = ATTR_INT, .def = 0, .min = 0, .max = 1},
    {ATTR(batch_norm_attrs, unbiased), .type = ATTR_INT, .def = 0, .flags = ATTR_HIDDEN},
    {ATTR(batch_norm_attrs, count), .type = ATTR_INT, .def = 0, .flags = ATTR_HIDDEN},
    {ATTR(batch_norm_attrs, relu), .type = ATTR_INT, .def = 0, .flags = ATTR_HIDDEN},
    {ATTR(batch_norm_attrs, ceiling), .type = ATTR_FLOAT, .def = 0, .flags = ATTR_HIDDEN},
    {0},
};
#define BATCH_NORM_ATTRS .attrs = batch_norm_rows, .attr_size = sizeof(batch_norm_attrs)

const op_desc op_batch_norm = {
    .name = "BatchNormalization", .in = {5, 5}, .out = {1, 3}, .flags = OP_INPLACE | OP_PORTABLE, BATCH_NORM_ATTRS,
    .infer = batch_norm_infer, .grad = batch_norm_grad, .params = 1 << 1 | 1 << 2, .states = 1 << 3 | 1 << 4,
};

/* BatchNormTrain: inputs x, scale, bias, residual (like x, optional: is added before the relu); outputs y, mean [C],
 * var [C] of the batch (var divides by the count). */
static status batch_norm_train_infer(graph *g, node *n)
{
    TRY(check_channels(g, n, 0, 1, 2));
    if (op_in(g, n, 3)) {
        TRY(op_check_same_type(g, n, 0, 3));
        TRY(op_check_same_shape(g, n, 0, 3));
    }
    const value *x = op_in(g, n, 0);
    if (per_channel(&x->sh) < 2)
        return op_fail(n, "batch norm cannot train on %" PRId64 " element per channel; use a larger batch",
                       per_channel(&x->sh));
    op_set_out(g, n, 0, x->type, x->sh);
    for (int i = 1; i < 3; i++)
        op_set_out(g, n, i, x->type, SHAPE(x->sh.dim[1]));
    return ST_OK;
}

static status batch_norm_train_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    if (dy[1] || dy[2])
        return op_fail(n, "batch statistics carry no gradient");
    return batch_norm_backward(g, n, dy[0], n->out[1], n->out[2], true, dx);
}

const op_desc op_batch_norm_train = {
    .name = "BatchNormTrain", .in = {3, 4}, .out = {3, 3}, .flags = OP_INPLACE | OP_INTERNAL, BATCH_NORM_ATTRS,
    .infer = batch_norm_train_infer, .grad = batch_norm_train_grad, .params = 1 << 1 | 1 << 2,
};

/* BatchNormMoments: input x; outputs mean [C], var [C] of the batch, as BatchNormTrain gives them (exec/fuse_conv.c). */
static status batch_norm_moments_infer(graph *g, node *n)
{
    const value *x = op_in(g, n, 0);
    TRY(op_check_float(g, n, 0));
    if (x->sh.rank < 2 || per_channel(&x->sh) < 1)
        return op_fail(n, "input '%s' has no element per channel", x->name);
    for (int i = 0; i < 2; i++)
        op_set_out(g, n, i, x->type, SHAPE(x->sh.dim[1]));
    return ST_OK;
}

const op_desc op_batch_norm_moments = {
    .name = "BatchNormMoments", .in = {1, 1}, .out = {2, 2}, .flags = OP_INTERNAL, .infer = batch_norm_moments_infer,
    NO_GRAD("it is made after the gradients"),
};

/* BatchNormApply: inputs x, scale, bias, mean, var, residual (optional); output y as BatchNormTrain gives it where these are the
 * statistics of the batch (exec/fuse_moments.c). */
static status batch_norm_apply_infer(graph *g, node *n)
{
    TRY(check_channels(g, n, 0, 1, 4));
    TRY(op_check_same_type(g, n, 0, 5));
    TRY(op_check_same_shape(g, n, 0, 5));
    op_set_out(g, n, 0, op_in(g, n, 0)->type, op_in(g, n, 0)->sh);
    return ST_OK;
}

const op_desc op_batch_norm_apply = {
    .name = "BatchNormApply", .in = {5, 6}, .out = {1, 1}, .flags = OP_INPLACE | OP_INTERNAL, BATCH_NORM_ATTRS,
    .infer = batch_norm_apply_infer, NO_GRAD("it is made after the gradients"),
};

/* BatchNormGrad: inputs dy, x, scale, mean, var, y (with relu), bias (optional, with relu and without a residual: where the
 * relu is flat may be computed from x instead of read from y, which then may be absent); outputs dx, dscale, dbias, dresidual. dy is 0 where the relu
 * is flat, which makes dresidual of it. With
 * xhat = (x - mean) / sqrt(var + epsilon) and m elements per channel (Ioffe and Szegedy 2015, section 3):
 *   dbias = sum dy,  dscale = sum dy * xhat,
 *   dx = scale / sqrt(var + epsilon) * (dy - dbias / m - xhat * dscale / m)     training_mode: statistics of the batch
 *   dx = scale / sqrt(var + epsilon) * dy                                       else: statistics are constants */
static status batch_norm_grad_infer(graph *g, node *n)
{
    TRY(check_channels(g, n, 1, 2, 4));
    TRY(op_check_same_type(g, n, 0, 1));
    TRY(op_check_same_shape(g, n, 0, 1));
    if (((const batch_norm_attrs *)n->attr)->relu) {
        if (!op_in(g, n, 5) && (!op_in(g, n, 6) || (n->n_out > 3 && n->out[3])))
            return op_fail(n, "input 5, the result of the forward direction, is missing");
        TRY(op_check_same_type(g, n, 5, 1));
        TRY(op_check_same_shape(g, n, 5, 1));
        TRY(op_check_same_type(g, n, 6, 2));
        TRY(op_check_same_shape(g, n, 6, 2));
    }
    const value *x = op_in(g, n, 1);
    op_set_out(g, n, 0, x->type, x->sh);
    for (int i = 1; i < 3; i++)
        op_set_out(g, n, i, x->type, SHAPE(x->sh.dim[1]));
    op_set_out(g, n, 3, x->type, x->sh);
    return ST_OK;
}

const op_desc op_batch_norm_grad = {
    .name = "BatchNormGrad", .in = {5, 7}, .out = {1, 4}, .flags = OP_INPLACE | OP_INTERNAL, BATCH_NORM_ATTRS,
    .infer = batch_norm_grad_infer, NO_GRAD("second derivatives of batch norm are not needed"),
};

/* BatchNormGradApply: inputs dy (0 where the relu is flat), x, scale, mean, var, dscale, dbias; output dx by the formulas of
 * BatchNormGrad, of which ConvGradDataSums made the rest (exec/fuse_grad_sums.c). */
static status batch_norm_grad_apply_infer(graph *g, node *n)
{
    TRY(check_channels(g, n, 1, 2, 6));
    TRY(op_check_same_type(g, n, 0, 1));
    TRY(op_check_same_shape(g, n, 0, 1));
    op_set_out(g, n, 0, op_in(g, n, 1)->type, op_in(g, n, 1)->sh);
    return ST_OK;
}

const op_desc op_batch_norm_grad_apply = {
    .name = "BatchNormGradApply", .in = {7, 7}, .out = {1, 1}, .flags = OP_INPLACE | OP_INTERNAL, BATCH_NORM_ATTRS,
    .infer = batch_norm_grad_apply_infer, NO_GRAD("it is made after the gradients"),
};

/* BatchNormStats: inputs running_mean, running_var (both written), mean, var of a batch with `count` elements a channel.
 *   running = (1 - momentum) * running + momentum * batch;  unbiased: var * count / (count - 1) goes in
 * PyTorch's rule and momentum (torch.nn.BatchNorm2d: 0.1). A channel whose batch statistics are not finite is left as it
 * is: one bad step must not spoil the model that is exported. */
static status batch_norm_stats_infer(graph *g, node *n)
{
    const batch_norm_attrs *at = n->attr;
    TRY(op_check_float(g, n, 0));
    for (int i = 1; i < 4; i++) {
        TRY(op_check_same_type(g, n, 0, i));
        TRY(op_check_same_shape(g, n, 0, i));
    }
    if (!(at->momentum >= 0 && at->momentum <= 1))
        return op_fail(n, "momentum %g is outside [0, 1]", at->momentum);
    return ST_OK;
}

const op_desc op_batch_norm_stats = {
    .name = "BatchNormStats", .in = {4, 4}, .out = {0, 0}, .flags = OP_MUTATES | OP_INTERNAL,
    .mutates = 1 << 0 | 1 << 1, .states = 1 << 0 | 1 << 1, BATCH_NORM_ATTRS, .infer = batch_norm_stats_infer,
    NO_GRAD("running statistics carry no gradient"),
};

/* ---- layer norm (LayerNormalization-17): over the axes from `axis` on ----
 *   y = (x - mean) / sqrt(var + epsilon) * Scale + B;  optional outputs mean and 1 / sqrt(var + epsilon)
 * Ba, Kiros, Hinton 2016. Scale and B have the shape of the normalised axes (ones in front allowed). */

/* Input i, when present, has the normalised shape. */
static status check_scale(const graph *g, const node *n, int i, const shape *x, int axis)
{
    const value *s = op_in(g, n, i);
    char one[200], two[200];
    if (!s)
        return ST_OK;
    TRY(op_check_same_type(g, n, 0, i));
    int extra = s->sh.rank - (x->rank - axis);
    bool fits = extra >= 0;
    for (int k = 0; fits && k < s->sh.rank; k++)
        fits = s->sh.dim[k] == (k < extra ? 1 : x->dim[axis + k - extra]);
    if (!fits)
        return op_fail(n, "operand '%s' %s does not have the shape of the axes from %d on of %s", s->name,
                       shape_print(&s->sh, one), axis, shape_print(x, two));
    return ST_OK;
}

static status layer_norm_infer(graph *g, node *n)
{
    const layer_norm_attrs *at = n->attr;
    const value *x = op_in(g, n, 0);
    int axis;
    TRY(op_check_float(g, n, 0));
    TRY(check_epsilon(n, at->epsilon));
    TRY(op_axis(n, at->axis, x->sh.rank, &axis));
    TRY(check_scale(g, n, 1, &x->sh, axis));
    TRY(check_scale(g, n, 2, &x->sh, axis));
    op_set_out(g, n, 0, x->type, x->sh);
    shape rows = x->sh;
    for (int i = axis; i < rows.rank; i++)
        rows.dim[i] = 1;
    for (int i = 1; i < 3; i++)
        op_set_out(g, n, i, x->type == DTYPE_F64 ? DTYPE_F64 : DTYPE_F32, rows);
    return ST_OK;
}

static status layer_norm_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    bool bias = n->n_in > 2 && n->in[2];
    value_id made[3];
    if ((n->n_out > 1 && dy[1]) || (n->n_out > 2 && dy[2]))
        return op_fail(n, "mean and inverse deviation carry no gradient");
    shape rank_of_bias = bias ? g->value[n->in[2]].sh : (shape){0};
    TRY(graph_add(g, OP_LAYER_NORM_GRAD, n->attr, (value_id[]){dy[0], n->in[0], n->in[1]}, 3, made, bias ? 3 : 2));
    dx[0] = made[0];
    dx[1] = made[1];
    if (bias && shape_equal(&rank_of_bias, &g->value[made[2]].sh))
        dx[2] = made[2];
    else if (bias)
        TRY(op_add_reshape(g, made[2], rank_of_bias, &dx[2]));
    return ST_OK;
}

static const attr_desc layer_norm_rows[] = {
    {ATTR(layer_norm_attrs, axis), .type = ATTR_INT, .def = -1},
    {ATTR(layer_norm_attrs, epsilon), .type = ATTR_FLOAT, .def = 1e-5},
    {ATTR(layer_norm_attrs, stash_type), .type = ATTR_INT, .def = 1},
    {0},
};
const op_desc op_layer_norm = {
    .name = "LayerNormalization", .in = {2, 3}, .out = {1, 3}, .flags = OP_INPLACE, .attrs = layer_norm_rows,
    .attr_size = sizeof(layer_norm_attrs), .infer = layer_norm_infer, .grad = layer_norm_grad,
    .params = 1 << 1 | 1 << 2,
};

/* LayerNormGrad: inputs dy, x, Scale, more (optional, added to dx: pass_fuse_norm_grads); outputs dx, dScale, dB (the shape of Scale). The statistics are computed once more
 * from the row of x, which has to be read anyway. With g = dy * Scale, d elements a row:
 *   dx = (g - sum(g) / d - xhat * sum(g * xhat) / d) / sqrt(var + epsilon), dScale = sum dy * xhat, dB = sum dy */
static status layer_norm_grad_infer(graph *g, node *n)
{
    const layer_norm_attrs *at = n->attr;
    const value *x = op_in(g, n, 1);
    int axis;
    TRY(op_check_float(g, n, 0));
    TRY(op_check_same_type(g, n, 0, 1));
    TRY(op_check_same_shape(g, n, 0, 1));
    TRY(op_check_same_type(g, n, 0, 3));
    TRY(op_check_same_shape(g, n, 0, 3));
    TRY(op_axis(n, at->axis, x->sh.rank, &axis));
    TRY(check_scale(g, n, 2, &x->sh, axis));
    op_set_out(g, n, 0, x->type, x->sh);
    for (int i = 1; i < 3; i++)
        op_set_out(g, n, i, x->type, op_in(g, n, 2)->sh);
    return ST_OK;
}

const op_desc op_layer_norm_grad = {
    .name = "LayerNormGrad", .in = {3, 4}, .out = {1, 3}, .flags = OP_INPLACE | OP_INTERNAL, .attrs = layer_norm_rows,
    .attr_size = sizeof(layer_norm_attrs), .infer = layer_norm_grad_infer,
    NO_GRAD("second derivatives of layer norm are not needed"),
};

/* ---- instance norm (InstanceNormalization-22): batch norm of every sample alone ---- */

static status instance_norm_infer(graph *g, node *n)
{
    const value *x = op_in(g, n, 0);
    TRY(op_check_float(g, n, 0));
    TRY(check_epsilon(n, ((const instance_norm_attrs *)n->attr)->epsilon));
    if (x->sh.rank < 3)
        return op_fail(n, "input '%s' of rank %d; rank 3 or more is needed", x->name, x->sh.rank);
    for (int i = 1; i < 3; i++) {
        TRY(op_check_same_type(g, n, 0, i));
        TRY(op_check_shape(g, n, i, SHAPE(x->sh.dim[1]), "operand of the channels"));
    }
    op_set_out(g, n, 0, x->type, x->sh);
    return ST_OK;
}

/* As x [N, C, S] is the batch norm of [1, N*C, S] with the scale repeated N times, its gradient serves. */
static status instance_norm_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    shape x = g->value[n->in[0]].sh;
    int64_t rows = x.dim[0] * x.dim[1], each = rows ? shape_count(&x) / rows : 0;
    batch_norm_attrs at = {.epsilon = ((const instance_norm_attrs *)n->attr)->epsilon, .training_mode = 1};
    value_id one_x, one_dy, scale, zero, stats[3], made[3];
    tile_attrs repeat = {.repeats = {1, &x.dim[0]}};
    reduce_attrs sum = {.axes = {1, (const int64_t[]){0}}, .keepdims = 0};
    TRY(op_add_reshape(g, n->in[0], SHAPE(1, rows, each), &one_x));
    TRY(op_add_reshape(g, dy[0], SHAPE(1, rows, each), &one_dy));
    TRY(graph_add1(g, OP_TILE, &repeat, n->in[1], 0, 0, &scale));
    TRY(graph_add_fill(g, g->value[n->in[0]].type, SHAPE(rows), 0, &zero));
    TRY(graph_add(g, OP_BATCH_NORM_TRAIN, &at, (value_id[]){one_x, scale, zero}, 3, stats, 3));
    TRY(graph_add(g, OP_BATCH_NORM_GRAD, &at, (value_id[]){one_dy, one_x, scale, stats[1], stats[2]}, 5, made, 3));
    TRY(op_add_reshape(g, made[0], x, &dx[0]));
    for (int i = 1; i < 3; i++) {
        TRY(op_add_reshape(g, made[i], SHAPE(x.dim[0], x.dim[1]), &made[i]));
        TRY(graph_add1(g, OP_REDUCE_SUM, &sum, made[i], 0, 0, &dx[i]));
    }
    return ST_OK;
}

static const attr_desc instance_norm_rows[] = {
    {ATTR(instance_norm_attrs, epsilon), .type = ATTR_FLOAT, .def = 1e-5},
    {0},
};
const op_desc op_instance_norm = {
    .name = "InstanceNormalization", .in = {3, 3}, .out = {1, 1}, .flags = OP_INPLACE, .attrs = instance_norm_rows,
    .attr_size = sizeof(instance_norm_attrs), .infer = instance_norm_infer, .grad = instance_norm_grad,
    .params = 1 << 1 | 1 << 2,
};
