/* fake_quant.c - numbers rounded to integers and back, in float: what a quantised model computes, while it trains.
 *
 * All internal: a trained graph leaves with QuantizeLinear and DequantizeLinear of the same numbers in their place. */
#include "ops/common.h"

#include <math.h>

/* FakeQuant: inputs x, scale s (one number, or one for each entry of `axis`), zero_point z (like s, float, an integer;
 * absent: 0); outputs y like x, and (optional, like s) lo = min(0, min x), hi = max(0, max x): what the range of a batch is.
 *
 *   q = round((x / s - offset) / multiple) * multiple + offset,   half to even (QuantizeLinear-19)
 *   y = (clamp(q + z, qmin, qmax) - z) * s                        = DequantizeLinear(QuantizeLinear(x)) where the grid is 1, 0
 *
 * with relu: x = max(x, 0) first. Gradient: straight through (Bengio et al. 2013): dx = dy where qmin <= q + z <= qmax (and
 * x > 0 with relu), else 0; z has none. With scale_grad = c != 0 the scale learns (LSQ, Esser et al. 2020, eq. 3 and section 2.2):
 *   ds = c * sum dy * ((inside ? q - x / s : clamp(q + z, qmin, qmax) - z)),   c = 1 / sqrt(n * qmax)
 *
 * NaN stays NaN and has no gradient; infinities are clamped. A scale that is not a positive finite number is refused where it
 * is a constant; where it becomes so in training all of y is NaN (the step is then skipped and names the tensor). */
static status check_attrs(const node *n)
{
    const fake_quant_attrs *at = n->attr;
    if (!(at->qmin < at->qmax) || at->qmin < -2147483648.0 || at->qmax > 2147483647.0)
        return op_fail(n, "integers from %g to %g", at->qmin, at->qmax);
    if (at->offset >= at->multiple)
        return op_fail(n, "offset %lld of a grid of multiples of %lld", (long long)at->offset, (long long)at->multiple);
    if (!isfinite(at->scale_grad))
        return op_fail(n, "scale_grad %g", at->scale_grad);
    return ST_OK;
}

static status check_constant(const graph *g, const node *n, int scale)
{
    const value *s = op_in(g, n, scale), *z = op_in(g, n, scale + 1);
    const fake_quant_attrs *at = n->attr;
    for (int64_t i = 0; s->kind == VALUE_CONST && i < shape_count(&s->sh); i++) {
        double x = dtype_load(s->type, s->data, i);
        if (!(x > 0) || isinf(x))
            return op_fail(n, "scale '%s' is %g at place %lld; a positive number is needed", s->name, x, (long long)i);
    }
    for (int64_t i = 0; z && z->kind == VALUE_CONST && i < shape_count(&z->sh); i++) {
        double x = dtype_load(z->type, z->data, i);
        if (!(x >= at->qmin && x <= at->qmax) || floor(x) != x)
            return op_fail(n, "zero point '%s' is %g; an integer from %g to %g is needed", z->name, x, at->qmin, at->qmax);
    }
    return ST_OK;
}

/* x is input `at`, scale and zero point are the two after it. */
static status check_operands(const graph *g, const node *n, int at)
{
    const value *x = op_in(g, n, at), *s = op_in(g, n, at + 1);
    TRY(op_check_float(g, n, at));
    TRY(op_check_float(g, n, at + 1));
    TRY(op_check_same_type(g, n, at, at + 1));
    TRY(op_check_same_type(g, n, at, at + 2));
    TRY(op_check_same_shape(g, n, at + 1, at + 2));
    if (shape_count(&s->sh) != 1 || s->sh.rank > 0) {
        int axis;
        TRY(op_axis(n, ((const fake_quant_attrs *)n->attr)->axis, x->sh.rank, &axis));
        TRY(op_check_shape(g, n, at + 1, SHAPE(x->sh.dim[axis]), "scale"));
    }
    TRY(check_attrs(n));
    return check_constant(g, n, at + 1);
}

static status fake_quant_infer(graph *g, node *n)
{
    TRY(check_operands(g, n, 0));
    const value *x = op_in(g, n, 0), *s = op_in(g, n, 1);
    op_set_out(g, n, 0, x->type, x->sh);
    for (int i = 1; i < 3; i++)
        op_set_out(g, n, i, s->type, s->sh);
    return ST_OK;
}

static status fake_quant_backward(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    const fake_quant_attrs *at = n->attr;
    const value_id in[4] = {dy[0], n->in[0], n->in[1], n->n_in > 2 ? n->in[2] : 0};
    if ((n->n_out > 1 && dy[1]) || (n->n_out > 2 && dy[2]))
        return op_fail(n, "ranges carry no gradient");
    return graph_add(g, OP_FAKE_QUANT_GRAD, at, in, 4, dx, at->scale_grad != 0 ? 2 : 1);
}

static const attr_desc fake_quant_rows[] = {
    {ATTR(fake_quant_attrs, axis), .type = ATTR_INT, .def = 0},
    {ATTR(fake_quant_attrs, qmin), .type = ATTR_FLOAT, .def = -128},
    {ATTR(fake_quant_attrs, qmax), .type = ATTR_FLOAT, .def = 127},
    {ATTR(fake_quant_attrs, multiple), .type = ATTR_INT, .def = 1, .min = 1, .max = 256},
    {ATTR(fake_quant_attrs, offset), .type = ATTR_INT, .def = 0, .min = 0, .max = 255},
    {ATTR(fake_quant_attrs, relu), .type = ATTR_INT, .def = 0, .flags = ATTR_HIDDEN},
    {ATTR(fake_quant_attrs, scale_grad), .type = ATTR_FLOAT, .def = 0},
    {ATTR(fake_quant_attrs, momentum), .type = ATTR_FLOAT, .def = 1},
    {ATTR(fake_quant_attrs, fixed_zero), .type = ATTR_INT, .def = 0},
    {0},
};
#define FAKE_QUANT_ATTRS .attrs = fake_quant_rows, .attr_size = sizeof(fake_quant_attrs)

const op_desc op_fake_quant = {
    .name = "FakeQuant", .in = {2, 3}, .out = {1, 3}, .flags = OP_INPLACE | OP_INTERNAL, FAKE_QUANT_ATTRS,
    .infer = fake_quant_infer, .grad = fake_quant_backward,
};

/* FakeQuantGrad: inputs dy, x, scale, zero_point; outputs dx and, where the scale learns, dscale. */
static status fake_quant_grad_infer(graph *g, node *n)
{
    TRY(check_operands(g, n, 1));
    TRY(op_check_same_type(g, n, 0, 1));
    TRY(op_check_same_shape(g, n, 0, 1));
    const value *x = op_in(g, n, 1), *s = op_in(g, n, 2);
    op_set_out(g, n, 0, x->type, x->sh);
    op_set_out(g, n, 1, s->type, s->sh);
    return ST_OK;
}

const op_desc op_fake_quant_grad = {
    .name = "FakeQuantGrad", .in = {3, 4}, .out = {1, 2}, .flags = OP_INPLACE | OP_INTERNAL, FAKE_QUANT_ATTRS,
    .infer = fake_quant_grad_infer, NO_GRAD("second derivatives of a rounding are not needed"),
};

/* FakeQuantRange: inputs range_lo, range_hi, scale, zero_point (all written), lo, hi of a batch (FakeQuant's outputs); one
 * shape. Entries whose lo or hi is not finite stay as they are.
 *   range = (1 - momentum) * range + momentum * batch
 *   scale = (range_hi - range_lo) / (qmax - qmin),  zero_point = clamp(round(qmin - range_lo / scale), qmin, qmax)
 * fixed_zero: the zero point z stays and scale = max(range_hi / (qmax - z), -range_lo / (z - qmin)), the second one where
 * z > qmin only. A scale that would not be positive and normal stays as it was. */
static status fake_quant_range_infer(graph *g, node *n)
{
    const fake_quant_attrs *at = n->attr;
    for (int i = 0; i < 6; i++) {
        TRY(op_check_float(g, n, i));
        TRY(op_check_same_type(g, n, 0, i));
        TRY(op_check_same_shape(g, n, 0, i));
    }
    if (!(at->momentum > 0 && at->momentum <= 1))
        return op_fail(n, "momentum %g is outside (0, 1]", at->momentum);
    return check_attrs(n);
}

const op_desc op_fake_quant_range = {
    .name = "FakeQuantRange", .in = {6, 6}, .out = {0, 0}, .flags = OP_MUTATES | OP_INTERNAL, FAKE_QUANT_ATTRS,
    .infer = fake_quant_range_infer, .mutates = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3,
    NO_GRAD("updates are not differentiated"),
};

/* FakeQuantCap: inputs x (written) and a scale as of FakeQuant, or one number; `axis` of x: its output channels, whatever the scale's.
 * A channel whose sum |x| / scale is above qmax is made smaller until it is qmax: the nearest point but for its direction, and
 * averages of such channels keep the bound. A sum that is not finite changes nothing. */
static status fake_quant_cap_infer(graph *g, node *n)
{
    const fake_quant_attrs *at = n->attr;
    const value *x = op_in(g, n, 0), *s = op_in(g, n, 1);
    int axis;
    TRY(op_check_float(g, n, 0));
    TRY(op_check_same_type(g, n, 0, 1));
    TRY(op_axis(n, at->axis, x->sh.rank, &axis));
    if (shape_count(&s->sh) != 1 || s->sh.rank > 0)
        TRY(op_check_shape(g, n, 1, SHAPE(x->sh.dim[axis]), "scale"));
    return at->qmax > 0 ? ST_OK : op_fail(n, "a largest sum of %g", at->qmax);
}

const op_desc op_fake_quant_cap = {
    .name = "FakeQuantCap", .in = {2, 2}, .out = {0, 0}, .flags = OP_MUTATES | OP_INTERNAL, FAKE_QUANT_ATTRS,
    .infer = fake_quant_cap_infer, .mutates = 1 << 0, NO_GRAD("updates are not differentiated"),
};
