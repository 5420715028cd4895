/* divisor.cuh - division of indices by sizes known before. */
#ifndef DISTILL_KERNELS_CUDA_DIVISOR_CUH
#define DISTILL_KERNELS_CUDA_DIVISOR_CUH

#include "kernels/cuda/cuda.cuh"

/* Division of numbers below 2^31 by a number known before: Granlund and Montgomery, "Division by invariant integers using
 * multiplication", 1994, with one multiplication since the dividend has a spare bit. */
typedef struct divisor {
    unsigned by, factor, shift;
} divisor;
__host__ __device__ static inline divisor divisor_of(int64_t by)
{
    divisor d = {(unsigned)by, 0, 0};
    while ((1u << d.shift) < d.by)
        d.shift++;
    d.factor = d.by > 1 ? (unsigned)((((uint64_t)1 << (31 + d.shift)) + d.by - 1) / d.by) : 0;
    d.shift -= d.by > 1;
    return d;
}
/* i / d.by; *rest = i % d.by */
__device__ static inline int divide(int i, divisor d, int *rest)
{
    unsigned q = d.by > 1 ? __umulhi((unsigned)i, d.factor) >> d.shift : (unsigned)i;
    *rest = (int)((unsigned)i - q * d.by);
    return (int)q;
}

#endif
