/* fake_quant.h - the quantiser of one scale, as reference and fast kernels share it; `real` is the type. The formulas are
 * in src/ops/fake_quant.c. */
#ifndef DISTILL_KERNELS_FAKE_QUANT_H
#define DISTILL_KERNELS_FAKE_QUANT_H

#include "kernels/cpu/refmath.h"

typedef struct quantizer {
    real scale;     /* NaN when it is no positive finite number */
    real inverse;   /* 1 / scale where that is exact (powers of two), else 0 */
    real low, high; /* of q without the zero point: what clamping leaves */
    real below;     /* q under it was clamped: low, but for relu, whose zeros come of the relu */
    real multiple, offset;
    bool relu;
} quantizer;

static inline quantizer quantizer_of(const fake_quant_attrs *at, real scale, real zero)
{
    const bool valid = scale > 0 && scale <= (real)3e38;
    quantizer q = {.scale = valid ? scale : C(NAN), .multiple = (real)at->multiple, .offset = (real)at->offset, .relu = at->relu != 0};
    int exponent;
#if defined(REAL_F64)
    bool power = valid && frexp(scale, &exponent) == 0.5;
#else
    bool power = valid && frexpf(scale, &exponent) == 0.5f;
#endif
    q.inverse = power && exponent > -100 && exponent < 100 ? 1 / scale : 0; /* both normal */
    q.low = q.below = C(at->qmin) - zero;
    q.high = C(at->qmax) - zero;
    q.low = q.relu && q.low < 0 ? 0 : q.low;
    return q;
}

/* x / scale; q before it is clamped. */
static inline real quantizer_ratio(const quantizer *q, real x)
{
    return q->inverse != 0 ? x * q->inverse : x / q->scale;
}
static inline real quantizer_round(const quantizer *q, real ratio)
{
    if (q->multiple == 1)
        return RINT(ratio);
    return RINT((ratio - q->offset) / q->multiple) * q->multiple + q->offset;
}
static inline real quantizer_clamp(const quantizer *q, real r)
{
    r = r < q->low ? q->low : r; /* NaN stays */
    return r > q->high ? q->high : r;
}
static inline bool quantizer_inside(const quantizer *q, real x, real r)
{
    return r >= q->below && r <= q->high && !(q->relu && x <= 0);
}

/* The tensor as [outer, scales, inner]; one scale: [1, 1, all]. */
typedef struct quant_rows {
    int64_t outer, scales, inner;
} quant_rows;

static inline quant_rows quant_rows_of(const kernel_tensor *x, const kernel_tensor *scale, const fake_quant_attrs *at)
{
    quant_rows r = {1, shape_count(&scale->sh), 1};
    if (r.scales == 1 && scale->sh.rank == 0) {
        r.inner = kernel_elements(x);
        return r;
    }
    int axis = shape_axis(&x->sh, at->axis);
    for (int i = 0; i < axis; i++)
        r.outer *= x->sh.dim[i];
    for (int i = axis + 1; i < x->sh.rank; i++)
        r.inner *= x->sh.dim[i];
    return r;
}

/* The quantiser of scale number k; scale, zero (NULL: 0): the operands. */
static inline quantizer quantizer_at(const fake_quant_attrs *at, const kernel_tensor *scale, const kernel_tensor *zero, int64_t k)
{
    const real *z = zero ? zero->data : NULL;
    return quantizer_of(at, ((const real *)scale->data)[k], z ? z[k] : 0);
}

#endif
