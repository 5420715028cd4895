/* quant.h - scales, zero points and the one rounding of quantised kernels.
 *
 * Everything is float32 in a fixed order and without fused multiply-add, so that every instruction set gives the same
 * integers; in double graphs (tests) too. */
#ifndef DISTILL_KERNELS_QUANT_H
#define DISTILL_KERNELS_QUANT_H

#include "kernels/cpu/cpu.h"

#include <math.h>

/* Range of the type, as float; int32's upper end is the largest float below 2^31. */
typedef struct quant_range {
    float lo, hi;
} quant_range;
static inline quant_range quant_range_of(dtype t)
{
    switch (t) {
    case DTYPE_I8: return (quant_range){-128, 127};
    case DTYPE_U16: return (quant_range){0, 65535};
    case DTYPE_I16: return (quant_range){-32768, 32767};
    case DTYPE_I32: return (quant_range){-0x1p31f, 2147483520};
    default: return (quant_range){0, 255};
    }
}

static inline bool quant_present(const kernel_args *a, int i)
{
    return i < a->n_in && a->in[i].type != DTYPE_NONE;
}

/* Parameter c of input i: the only one, or that of channel c; 0 when absent. */
static inline int64_t quant_place(const kernel_tensor *t, int64_t c)
{
    return shape_count(&t->sh) > 1 ? c : 0;
}
static inline float quant_scale(const kernel_args *a, int i, int64_t c)
{
    const kernel_tensor *t = &a->in[i];
    return (float)dtype_load(t->type, t->data, quant_place(t, c));
}
static inline int32_t quant_zero(const kernel_args *a, int i, int64_t c)
{
    return quant_present(a, i) ? (int32_t)dtype_load(a->in[i].type, a->in[i].data, quant_place(&a->in[i], c)) : 0;
}
static inline int32_t quant_byte(const kernel_tensor *t, int64_t i)
{
    return t->type == DTYPE_I8 ? ((const int8_t *)t->data)[i] : ((const uint8_t *)t->data)[i];
}
static inline void quant_store_byte(const kernel_tensor *t, int64_t i, int32_t v)
{
    ((uint8_t *)t->data)[i] = (uint8_t)v; /* the bits of an int8 are the same */
}

/* saturate(round half to even(v) + zero); NaN gives the lower end. */
static inline int32_t quant_round(float v, int32_t zero, quant_range r)
{
    float lo = r.lo - (float)zero, hi = r.hi - (float)zero;
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    return (int32_t)rintf(v) + zero;
}

#endif
