/* update.c - what an optimizer step does to persistent values. All internal; they write into their inputs and have no
 * outputs (GradNorm apart). Learning rate, gradient scale and step number are scalar inputs, so that a plan serves a
 * whole run.
 *
 * `scale` multiplies the gradient (clipping, GradNorm makes it); when it is not finite nothing at all is written: a step
 * with a NaN in some gradient is skipped as a whole. An absent scale is 1. */
#include "ops/common.h"

#include <inttypes.h>
#include <math.h>

/* Inputs first .. last, where present, have the type and shape of input 0; `needed` (bits) must be present. */
static status check_like(const graph *g, const node *n, int first, int last, uint32_t needed)
{
    TRY(op_check_float(g, n, 0));
    for (int i = first; i <= last; i++) {
        if (needed >> i & 1 && !op_in(g, n, i))
            return op_fail(n, "input %d is missing", i);
        TRY(op_check_same_type(g, n, 0, i));
        TRY(op_check_same_shape(g, n, 0, i));
    }
    return ST_OK;
}

static status check_scalars(const graph *g, const node *n, int first, int last, uint32_t needed)
{
    for (int i = first; i <= last; i++) {
        const value *v = op_in(g, n, i);
        if (!v && needed >> i & 1)
            return op_fail(n, "input %d is missing", i);
        TRY(op_check_same_type(g, n, 0, i));
        if (v && shape_count(&v->sh) != 1)
            return op_fail(n, "input '%s' is not one number", v->name);
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

/* SgdUpdate: inputs param p (written), grad g, momentum buffer b (written; absent when momentum = 0), lr, scale.
 *   g = scale * g;  decoupled: p *= 1 - lr * wd, else g += wd * p
 *   b = momentum * b + g;  nesterov: g += momentum * b, else g = b;  p -= lr * g
 * torch.optim.SGD with dampening 0; a buffer that starts as zeros makes its first step equal to PyTorch's. */
static status sgd_infer(graph *g, node *n)
{
    const sgd_attrs *at = n->attr;
    TRY(check_like(g, n, 1, 2, 1 << 1 | (at->momentum != 0) << 2));
    TRY(check_scalars(g, n, 3, 4, 1 << 3));
    TRY(check_range(n, "momentum", at->momentum, 0, HUGE_VAL));
    TRY(check_range(n, "weight_decay", at->weight_decay, 0, HUGE_VAL));
    if (at->nesterov && at->momentum == 0)
        return op_fail(n, "nesterov needs a momentum");
    return ST_OK;
}

static const attr_desc sgd_rows[] = {
    {ATTR(sgd_attrs, momentum), .type = ATTR_FLOAT, .def = 0},
    {ATTR(sgd_attrs, weight_decay), .type = ATTR_FLOAT, .def = 0},
    {ATTR(sgd_attrs, nesterov), .type = ATTR_INT, .def = 0, .min = 0, .max = 1},
    {ATTR(sgd_attrs, decoupled), .type = ATTR_INT, .def = 0, .min = 0, .max = 1},
    {0},
};
const op_desc op_sgd_update = {
    .name = "SgdUpdate", .in = {2, 5}, MUTATOR, .attrs = sgd_rows, .attr_size = sizeof(sgd_attrs),
    .infer = sgd_infer, .mutates = 1 << 0 | 1 << 2,
};

/* AdamUpdate: inputs param p (written), grad g, m and v (written), lr, scale, step (number of this step, from 1).
 *   g = scale * g;  decoupled: p *= 1 - lr * wd (AdamW), else g += wd * p
 *   m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g^2
 *   p -= lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + eps)
 * torch.optim.Adam and AdamW (Kingma, Ba 2015, algorithm 1; Loshchilov, Hutter 2019). */
static status adam_infer(graph *g, node *n)
{
    const adam_attrs *at = n->attr;
    TRY(check_like(g, n, 1, 3, 1 << 1 | 1 << 2 | 1 << 3));
    TRY(check_scalars(g, n, 4, 6, 1 << 4 | 1 << 6));
    TRY(check_range(n, "beta1", at->beta1, 0, 1));
    TRY(check_range(n, "beta2", at->beta2, 0, 1));
    TRY(check_range(n, "eps", at->eps, 0, HUGE_VAL));
    return check_range(n, "weight_decay", at->weight_decay, 0, HUGE_VAL);
}

static const attr_desc adam_rows[] = {
    {ATTR(adam_attrs, beta1), .type = ATTR_FLOAT, .def = 0.9},
    {ATTR(adam_attrs, beta2), .type = ATTR_FLOAT, .def = 0.999},
    {ATTR(adam_attrs, eps), .type = ATTR_FLOAT, .def = 1e-8},
    {ATTR(adam_attrs, weight_decay), .type = ATTR_FLOAT, .def = 0},
    {ATTR(adam_attrs, decoupled), .type = ATTR_INT, .def = 0, .min = 0, .max = 1},
    {0},
};
const op_desc op_adam_update = {
    .name = "AdamUpdate", .in = {4, 7}, MUTATOR, .attrs = adam_rows, .attr_size = sizeof(adam_attrs),
    .infer = adam_infer, .mutates = 1 << 0 | 1 << 2 | 1 << 3,
};

/* EmaUpdate: inputs average e (written), param p, scale.  e = decay * e + (1 - decay) * p; scale only says whether the
 * step counts. */
static status ema_infer(graph *g, node *n)
{
    TRY(check_like(g, n, 1, 1, 1 << 1));
    TRY(check_scalars(g, n, 2, 2, 0));
    return check_range(n, "decay", ((const ema_attrs *)n->attr)->decay, 0, 1);
}

static const attr_desc ema_rows[] = {{ATTR(ema_attrs, decay), .type = ATTR_FLOAT, .def = 0.999}, {0}};
const op_desc op_ema_update = {
    .name = "EmaUpdate", .in = {2, 3}, MUTATOR, .attrs = ema_rows, .attr_size = sizeof(ema_attrs),
    .infer = ema_infer, .mutates = 1 << 0,
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

/* Accumulate: inputs sum s (written), grad g, share (scalar, absent: 1).  s += share * g */
static status accumulate_infer(graph *g, node *n)
{
    TRY(check_like(g, n, 1, 1, 1 << 1));
    return check_scalars(g, n, 2, 2, 0);
}

const op_desc op_accumulate = {
    .name = "Accumulate", .in = {2, 3}, MUTATOR, .infer = accumulate_infer, .mutates = 1 << 0,
};

/* Clear: its input becomes zeros. */
static status clear_infer(graph *g, node *n)
{
    return op_check_float(g, n, 0);
}

const op_desc op_clear = {.name = "Clear", .in = {1, 1}, MUTATOR, .infer = clear_infer, .mutates = 1 << 0};
