/* update.c - what an optimizer step does to persistent values. All internal; they write into their inputs and have no
 * outputs (GradNorm and LossScale apart). Learning rate, gradient scale and step number are scalar inputs, so that a plan serves a
 * whole run. An update takes any number of parameters that share its attributes: one node, one pass over the memory of
 * all of them.
 *
 * `scale` multiplies the gradient (clipping, GradNorm makes it); when it is not finite nothing at all is written: a step
 * with a NaN in some gradient is skipped as a whole. An absent scale is 1. */
#include "ops/common.h"

#include <inttypes.h>
#include <math.h>

/* A gradient may come by rows: `place` [rows of the parameter] says which row of the gradient belongs to each row of the
 * parameter; -1: zeros do (GatherRows makes both). The result is that of the whole gradient, bit for bit.
 *
 * Input i, when present, has the type of input 0 and the shape of input `as`; `needed`: it must be present. */
static status check_operand(const graph *g, const node *n, int i, int as, bool needed)
{
    if (!op_in(g, n, i))
        return needed ? op_fail(n, "input %d is missing", i) : ST_OK;
    TRY(op_check_same_type(g, n, 0, i));
    return op_check_same_shape(g, n, as, i);
}

/* Inputs 0 .. count-1 are numbers; those of the mask `needed` must be present. */
static status check_scalars(const graph *g, const node *n, int count, uint32_t needed)
{
    TRY(op_check_float(g, n, 0));
    for (int i = 0; i < count; i++) {
        const value *v = op_in(g, n, i);
        if (!v && needed >> i & 1)
            return op_fail(n, "input %d is missing", i);
        TRY(op_check_same_type(g, n, 0, i));
        if (v && shape_count(&v->sh) != 1)
            return op_fail(n, "input '%s' is not one number", v->name);
    }
    return ST_OK;
}

/* Gradient `grad` belongs to input `as`, whole or by the rows of `place`. */
static status check_gradient(const graph *g, const node *n, int grad, int place, int as)
{
    const value *rows = op_in(g, n, grad), *where = op_in(g, n, place), *to = op_in(g, n, as);
    if (!rows || !where)
        return check_operand(g, n, grad, as, true);
    TRY(op_check_same_type(g, n, as, grad));
    bool fits = where->type == DTYPE_I32 && where->sh.rank == 1 && to->sh.rank >= 1 && rows->sh.rank == to->sh.rank &&
                where->sh.dim[0] == to->sh.dim[0];
    for (int i = 1; fits && i < to->sh.rank; i++)
        fits = rows->sh.dim[i] == to->sh.dim[i];
    return fits ? ST_OK : op_fail(n, "rows '%s' and their places '%s' do not fit '%s'", rows->name, where->name, to->name);
}

/* Copies are made by the executor of a device alone: nobody else has values that lie in a narrow type. */
static status check_copy(const graph *g, const node *n, int i)
{
    if (op_in(g, n, i) && !op_in(g, n, i)->narrow)
        return op_fail(n, "the copy '%s' does not lie in a narrow type", op_in(g, n, i)->name);
    return ST_OK;
}

/* Every tuple behind the scalars: its operands look like the parameter; those of the mask `needed` must be present. */
static status check_tuples(const graph *g, const node *n, uint32_t needed)
{
    const op_desc *d = op_of(n->op);
    if (n->n_in <= d->head)
        return op_fail(n, "no parameter");
    for (int first = d->head; first < n->n_in; first += d->tuple) {
        if (!op_in(g, n, first))
            return op_fail(n, "input %d is missing", first);
        for (int i = UPDATE_EMA; i < d->tuple - 1; i++)
            TRY(check_operand(g, n, first + i, first, needed >> i & 1));
        TRY(check_copy(g, n, first + d->copy));
        TRY(op_check_same_type(g, n, 0, first));
        TRY(check_gradient(g, n, first + UPDATE_GRAD, first + d->tuple - 1, first)); /* the places stand last */
    }
    return ST_OK;
}

static status check_range(const node *n, const char *what, double v, double lo, double below)
{
    if (!(v >= lo && v < below))
        return op_fail(n, "%s %g is outside [%g, %g)", what, v, lo, below);
    return ST_OK;
}

#define MUTATOR .out = {0, 0}, .flags = OP_MUTATES | OP_INTERNAL, NO_GRAD("updates are not differentiated")
#define WRITES(head, operand) (1u << ((head) + (operand)))

/* SgdUpdate: inputs lr, scale, then for each parameter: param p (written), grad g, average e (written; absent when ema =
 * 0), momentum buffer b (written; absent when momentum = 0), copy of p (written; may be absent, op_desc.copy), place.
 *   g = scale * g;  decoupled: p *= 1 - lr * wd, else g += wd * p
 *   b = momentum * b + g;  nesterov: g += momentum * b, else g = b;  p -= lr * g;  e = ema * e + (1 - ema) * p
 * torch.optim.SGD with dampening 0; a buffer that starts as zeros makes its first step equal to PyTorch's. */
static status sgd_infer(graph *g, node *n)
{
    const sgd_attrs *at = n->attr;
    TRY(check_scalars(g, n, SGD_HEAD, 1 << UPDATE_LR));
    TRY(check_tuples(g, n, (at->ema != 0) << UPDATE_EMA | (at->momentum != 0) << SGD_MOMENTUM));
    TRY(check_range(n, "momentum", at->momentum, 0, HUGE_VAL));
    TRY(check_range(n, "weight_decay", at->weight_decay, 0, HUGE_VAL));
    TRY(check_range(n, "ema", at->ema, 0, 1));
    if (at->nesterov && at->momentum == 0)
        return op_fail(n, "nesterov needs a momentum");
    return ST_OK;
}

static const attr_desc sgd_rows[] = {
    {ATTR(sgd_attrs, momentum), .type = ATTR_FLOAT, .def = 0},
    {ATTR(sgd_attrs, weight_decay), .type = ATTR_FLOAT, .def = 0},
    {ATTR(sgd_attrs, nesterov), .type = ATTR_INT, .def = 0, .min = 0, .max = 1},
    {ATTR(sgd_attrs, decoupled), .type = ATTR_INT, .def = 0, .min = 0, .max = 1},
    {ATTR(sgd_attrs, ema), .type = ATTR_FLOAT, .def = 0},
    {0},
};
const op_desc op_sgd_update = {
    .name = "SgdUpdate", .in = {1, -1}, MUTATOR, .attrs = sgd_rows, .attr_size = sizeof(sgd_attrs),
    .infer = sgd_infer, .head = SGD_HEAD, .tuple = SGD_TUPLE, .copy = SGD_COPY,
    .mutates = WRITES(SGD_HEAD, UPDATE_PARAM) | WRITES(SGD_HEAD, UPDATE_EMA) | WRITES(SGD_HEAD, SGD_MOMENTUM) |
               WRITES(SGD_HEAD, SGD_COPY),
};

/* AdamUpdate: inputs lr, scale, step (number of this step, from 1), then for each parameter: param p (written), grad g,
 * average e (written; absent when ema = 0), m and v (written), copy of p (written; may be absent, op_desc.copy), place.
 *   g = scale * g;  decoupled: p *= 1 - lr * wd (AdamW), else g += wd * p
 *   m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g^2
 *   p -= lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + eps);  e = ema * e + (1 - ema) * p
 * torch.optim.Adam and AdamW (Kingma, Ba 2015, algorithm 1; Loshchilov, Hutter 2019). */
static status adam_infer(graph *g, node *n)
{
    const adam_attrs *at = n->attr;
    TRY(check_scalars(g, n, ADAM_HEAD, 1 << UPDATE_LR | 1 << UPDATE_STEP));
    TRY(check_tuples(g, n, (at->ema != 0) << UPDATE_EMA | 1 << ADAM_M | 1 << ADAM_V));
    TRY(check_range(n, "beta1", at->beta1, 0, 1));
    TRY(check_range(n, "beta2", at->beta2, 0, 1));
    TRY(check_range(n, "eps", at->eps, 0, HUGE_VAL));
    TRY(check_range(n, "ema", at->ema, 0, 1));
    return check_range(n, "weight_decay", at->weight_decay, 0, HUGE_VAL);
}

static const attr_desc adam_rows[] = {
    {ATTR(adam_attrs, beta1), .type = ATTR_FLOAT, .def = 0.9},
    {ATTR(adam_attrs, beta2), .type = ATTR_FLOAT, .def = 0.999},
    {ATTR(adam_attrs, eps), .type = ATTR_FLOAT, .def = 1e-8},
    {ATTR(adam_attrs, weight_decay), .type = ATTR_FLOAT, .def = 0},
    {ATTR(adam_attrs, decoupled), .type = ATTR_INT, .def = 0, .min = 0, .max = 1},
    {ATTR(adam_attrs, ema), .type = ATTR_FLOAT, .def = 0},
    {0},
};
const op_desc op_adam_update = {
    .name = "AdamUpdate", .in = {1, -1}, MUTATOR, .attrs = adam_rows, .attr_size = sizeof(adam_attrs),
    .infer = adam_infer, .head = ADAM_HEAD, .tuple = ADAM_TUPLE, .copy = ADAM_COPY,
    .mutates = WRITES(ADAM_HEAD, UPDATE_PARAM) | WRITES(ADAM_HEAD, UPDATE_EMA) | WRITES(ADAM_HEAD, ADAM_M) |
               WRITES(ADAM_HEAD, ADAM_V) | WRITES(ADAM_HEAD, ADAM_COPY),
};

/* GradNorm: inputs gradients; outputs 0 scale, 1 (optional) norm = sqrt(sum of all squares).
 *   scale = min(1, max_norm / (norm + 1e-6)), NaN when the norm is not finite   (torch.nn.utils.clip_grad_norm_) */
static status grad_norm_infer(graph *g, node *n)
{
    TRY(op_check_float(g, n, 0));
    for (int i = 1; i < n->n_in; i++) {
        if (!op_in(g, n, i))
            return op_fail(n, "input %d is missing", i);
        TRY(op_check_same_type(g, n, 0, i));
    }
    if (!(((const grad_norm_attrs *)n->attr)->max_norm > 0))
        return op_fail(n, "max_norm %g", ((const grad_norm_attrs *)n->attr)->max_norm);
    for (int i = 0; i < n->n_out; i++)
        op_set_out(g, n, i, op_in(g, n, 0)->type, (shape){0});
    return ST_OK;
}

static const attr_desc grad_norm_rows[] = {
    {ATTR(grad_norm_attrs, max_norm), .type = ATTR_FLOAT, .def = HUGE_VAL},
    {0},
};
const op_desc op_grad_norm = {
    .name = "GradNorm", .in = {1, -1}, .out = {1, 2}, .flags = OP_INTERNAL, .attrs = grad_norm_rows,
    .attr_size = sizeof(grad_norm_attrs), .infer = grad_norm_infer, NO_GRAD("updates are not differentiated"),
};

/* LossScale: dynamic loss scaling (Micikevicius et al., "Mixed precision training", 2018, section 3.2; torch.amp.GradScaler).
 * The gradients were multiplied by S, so that small ones do not vanish in float16; updates divide it out again.
 * Inputs norm of the scaled gradients; scale S, good steps in a row G, steps skipped K so far (scalars, all written); step, the
 * number of this step (may be absent).
 *   norm finite:  outputs min(1, max_norm / (norm / S + 1e-6)) / S and norm / S;
 *                 G += 1, and at `interval`: S *= growth, G = 0
 *   not finite:   outputs NaN (which skips the updates) and norm;  S *= shrink, G = 0, K += 1
 * S stays within [smallest, largest]. Further outputs: S and K as they are now, and step less the steps that were skipped before
 * it: what an optimizer counts. */
static status loss_scale_infer(graph *g, node *n)
{
    const loss_scale_attrs *at = n->attr;
    TRY(check_scalars(g, n, n->n_in, 1 << LOSS_SCALE_NORM | 1 << LOSS_SCALE_SCALE | 1 << LOSS_SCALE_GOOD | 1 << LOSS_SCALE_SKIPPED));
    if (!(at->max_norm > 0))
        return op_fail(n, "max_norm %g", at->max_norm);
    TRY(check_range(n, "growth", at->growth, 1, HUGE_VAL));
    TRY(check_range(n, "shrink", at->shrink, 0, 1));
    TRY(check_range(n, "smallest", at->smallest, 1e-30, 1e30));
    TRY(check_range(n, "largest", at->largest, at->smallest, 1e30));
    if (n->n_out > LOSS_SCALE_TRUE_STEP && n->out[LOSS_SCALE_TRUE_STEP] && !op_in(g, n, LOSS_SCALE_STEP))
        return op_fail(n, "input %d is missing", LOSS_SCALE_STEP);
    for (int i = 0; i < n->n_out; i++)
        op_set_out(g, n, i, op_in(g, n, 0)->type, (shape){0});
    return ST_OK;
}

static const attr_desc loss_scale_rows[] = {
    {ATTR(loss_scale_attrs, max_norm), .type = ATTR_FLOAT, .def = HUGE_VAL},
    {ATTR(loss_scale_attrs, growth), .type = ATTR_FLOAT, .def = 2},
    {ATTR(loss_scale_attrs, shrink), .type = ATTR_FLOAT, .def = 0.5},
    {ATTR(loss_scale_attrs, smallest), .type = ATTR_FLOAT, .def = 1},
    {ATTR(loss_scale_attrs, largest), .type = ATTR_FLOAT, .def = 16777216},
    {ATTR(loss_scale_attrs, interval), .type = ATTR_INT, .def = 2000, .min = 1, .max = 1 << 20},
    {0},
};
const op_desc op_loss_scale = {
    .name = "LossScale", .in = {4, LOSS_SCALE_INPUTS}, .out = {1, LOSS_SCALE_OUTPUTS}, .flags = OP_MUTATES | OP_INTERNAL,
    .attrs = loss_scale_rows, .attr_size = sizeof(loss_scale_attrs), .infer = loss_scale_infer,
    .mutates = 1 << LOSS_SCALE_SCALE | 1 << LOSS_SCALE_GOOD | 1 << LOSS_SCALE_SKIPPED, NO_GRAD("updates are not differentiated"),
};

/* Accumulate: inputs sum s (written), grad g, share (scalar, absent: 1), place.  s += share * g */
static status accumulate_infer(graph *g, node *n)
{
    TRY(op_check_float(g, n, 0));
    TRY(check_gradient(g, n, ACCUMULATE_GRAD, ACCUMULATE_PLACE, ACCUMULATE_SUM));
    if (op_in(g, n, 2) && shape_count(&op_in(g, n, 2)->sh) != 1)
        return op_fail(n, "input '%s' is not one number", op_in(g, n, 2)->name);
    return op_check_same_type(g, n, 0, 2);
}

const op_desc op_accumulate = {
    .name = "Accumulate", .in = {2, 4}, MUTATOR, .infer = accumulate_infer, .mutates = 1 << 0,
};

/* Clear: its inputs become zeros. */
static status clear_infer(graph *g, node *n)
{
    for (int i = 0; i < n->n_in; i++)
        TRY(op_check_float(g, n, i));
    return ST_OK;
}

const op_desc op_clear = {
    .name = "Clear", .in = {1, -1}, MUTATOR, .infer = clear_infer, .tuple = 1, .mutates = 1 << 0,
};
