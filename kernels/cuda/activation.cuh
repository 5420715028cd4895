/* activation.cuh - the activations of Linear (ops/attrs.h: ACTIVATION_*). */
#ifndef DISTILL_KERNELS_CUDA_ACTIVATION_CUH
#define DISTILL_KERNELS_CUDA_ACTIVATION_CUH

#include "kernels/cuda/cuda.cuh"

__device__ static inline float activation_result(int activation, float x)
{
    switch (activation) {
    case ACTIVATION_RELU:
        return x < 0 ? 0 : x;
    case ACTIVATION_GELU:
        return 0.5f * x * (1 + erff(x * 0.70710678f));
    case ACTIVATION_GELU_TANH:
        return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    case ACTIVATION_TANH:
        return tanhf(x);
    default:
        return x;
    }
}

#endif
