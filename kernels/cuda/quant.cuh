/* quant.cuh - scales, zero points and the one rounding of quantised kernels on a device (kernels/cpu/quant.h).
 *
 * Everything is float32 in a fixed order and nothing is fused, so that the integers are those of the CPU. */
#ifndef DISTILL_KERNELS_CUDA_QUANT_CUH
#define DISTILL_KERNELS_CUDA_QUANT_CUH

#include "kernels/cuda/index.cuh"

/* Scales or zero points: one, or one a channel. No data: the operand is absent. */
typedef struct numbers {
    const void *data;
    dtype type;
    bool many;
} numbers;
static inline numbers numbers_of(const kernel_args *a, int i)
{
    numbers n = {.data = nullptr, .type = DTYPE_NONE, .many = false};
    if (i < a->n_in && a->in[i].type != DTYPE_NONE)
        n = {.data = a->in[i].data, .type = a->in[i].type, .many = shape_count(&a->in[i].sh) > 1};
    return n;
}
__device__ static inline float scale_at(const numbers &n, int64_t c)
{
    c = n.many ? c : 0;
    switch (n.type) {
    case DTYPE_NONE:
        return 1;
    case DTYPE_F16:
        return __half2float(((const __half *)n.data)[c]);
    case DTYPE_BF16:
        return __bfloat162float(((const __nv_bfloat16 *)n.data)[c]);
    case DTYPE_F64:
        return (float)((const double *)n.data)[c];
    default:
        return ((const float *)n.data)[c];
    }
}
__device__ static inline int zero_at(const numbers &n, int64_t c)
{
    c = n.many ? c : 0;
    switch (n.type) {
    case DTYPE_NONE:
        return 0;
    case DTYPE_I8:
        return ((const int8_t *)n.data)[c];
    case DTYPE_I16:
        return ((const int16_t *)n.data)[c];
    case DTYPE_U16:
        return ((const uint16_t *)n.data)[c];
    case DTYPE_I32:
        return ((const int32_t *)n.data)[c];
    default:
        return ((const uint8_t *)n.data)[c];
    }
}

/* Range of a type as float; int32's upper end is the largest float below 2^31. */
typedef struct quant_range {
    float lo, hi;
} quant_range;
static inline quant_range quant_range_of(dtype t)
{
    switch (t) {
    case DTYPE_I8:
        return {-128, 127};
    case DTYPE_U16:
        return {0, 65535};
    case DTYPE_I16:
        return {-32768, 32767};
    case DTYPE_I32:
        return {-0x1p31f, 2147483520.0f};
    default:
        return {0, 255};
    }
}
/* saturate(round half to even(v) + zero); NaN gives the lower end. */
__device__ static inline int quant_round(float v, int zero, quant_range r)
{
    const float lo = r.lo - (float)zero, hi = r.hi - (float)zero;
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    return (int)rintf(v) + zero;
}

#endif
