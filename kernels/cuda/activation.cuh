/* activation.cuh - the activations of Linear (ops/attrs.h: ACTIVATION_*). */
#ifndef DISTILL_KERNELS_CUDA_ACTIVATION_CUH
#define DISTILL_KERNELS_CUDA_ACTIVATION_CUH

#include "kernels/cuda/cuda.cuh"

__device__ static inline float activation_result(int activation, float x)
{
    if (activation == ACTIVATION_NONE)
        return x;
    if (activation == ACTIVATION_RELU)
        return x < 0 ? 0 : x;
    if (activation == ACTIVATION_GELU)
        return 0.5f * x * (1 + erff(x * 0.70710678f));
    const float t = tanhf(activation == ACTIVATION_TANH ? x : 0.79788456f * (x + 0.044715f * x * x * x)); /* one call serves two */
    return activation == ACTIVATION_TANH ? t : 0.5f * x * (1 + t);
}
__device__ static inline float4 activation_result(int activation, float4 x)
{
    return make_float4(activation_result(activation, x.x), activation_result(activation, x.y), activation_result(activation, x.z),
                       activation_result(activation, x.w));
}

#endif
