/* unary.cuh - what the expressions of ops/unary.def are made of, in float. */
#ifndef DISTILL_KERNELS_CUDA_UNARY_CUH
#define DISTILL_KERNELS_CUDA_UNARY_CUH

#include "kernels/cuda/broadcast.cuh"

/* Like functions: the operators' enum values have some of the names. */
#define C(number)             ((float)(number))
#define EXP(x)                expf(x)
#define EXPM1(x)              expm1f(x)
#define LOG(x)                logf(x)
#define TANH(x)               tanhf(x)
#define ERF(x)                erff(x)
#define SQRT(x)               sqrtf(x)
#define SIN(x)                sinf(x)
#define COS(x)                cosf(x)
#define FLOOR(x)              floorf(x)
#define CEIL(x)               ceilf(x)
#define RINT(x)               rintf(x)
#define ABS(x)                fabsf(x)
#define SIGMOID(x)            (1 / (1 + expf(-(x))))
#define SOFTPLUS(x)           ((x) > 0 ? (x) + log1pf(expf(-(x))) : log1pf(expf(x)))
#define GELU(x)               (0.5f * (x) * (1 + erff((x) * 0.70710678f)))
#define GELU_BY_TANH(x)       gelu_by_tanh(x)
#define GELU_SLOPE(x)         (0.5f * (1 + erff((x) * 0.70710678f)) + (x) * 0.39894228f * expf(-0.5f * (x) * (x)))
#define GELU_BY_TANH_SLOPE(x) gelu_by_tanh_slope(x)

typedef float real;

__device__ static inline float gelu_by_tanh(float x)
{
    return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
}
__device__ static inline float gelu_by_tanh_slope(float x)
{
    float t = tanhf(0.79788456f * (x + 0.044715f * x * x * x));
    return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * 0.79788456f * (1 + 3 * 0.044715f * x * x);
}

struct no_attrs {
    int none;
};
#define TYPE_none         no_attrs
#define TYPE_alpha        alpha_attrs
#define TYPE_clip         clip_attrs
#define TYPE_hard_sigmoid hard_sigmoid_attrs
#define TYPE_gelu         gelu_attrs
#define GIVE_none         const no_attrs at = {0};
#define GIVE_alpha        AT_alpha
#define GIVE_clip         AT_clip
#define GIVE_hard_sigmoid AT_hard_sigmoid
#define GIVE_gelu         AT_gelu

#endif
