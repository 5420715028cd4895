/* slope.cuh - gradients of the activations that end a product (ACTIVATION_*), as ops/unary.def has them. */
#ifndef DISTILL_KERNELS_CUDA_SLOPE_CUH
#define DISTILL_KERNELS_CUDA_SLOPE_CUH

#include "kernels/cuda/unary.cuh"

/* dy times the slope; kept: y of relu and tanh, x of both gelus. */
__device__ static inline float sloped(int activation, float dy, float kept)
{
    if (activation == ACTIVATION_RELU)
        return kept > 0 ? dy : 0;
    if (activation == ACTIVATION_GELU)
        return dy * GELU_SLOPE(kept);
    if (activation == ACTIVATION_GELU_TANH)
        return dy * GELU_BY_TANH_SLOPE(kept);
    return activation == ACTIVATION_TANH ? dy * (1 - kept * kept) : dy;
}
__device__ static inline float4 sloped(int activation, float4 dy, float4 kept)
{
    return make_float4(sloped(activation, dy.x, kept.x), sloped(activation, dy.y, kept.y), sloped(activation, dy.z, kept.z),
                       sloped(activation, dy.w, kept.w));
}

#endif
