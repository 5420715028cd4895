/* unary.cu - elementwise operators with one input; what is computed is in ops/unary.def. The result may lie over an input. */
#include "kernels/cuda/cuda.cuh"

#define C(number)             ((float)(number))
#define EXP                   expf
#define EXPM1                 expm1f
#define LOG                   logf
#define TANH                  tanhf
#define ERF                   erff
#define SQRT                  sqrtf
#define SIN                   sinf
#define COS                   cosf
#define FLOOR                 floorf
#define CEIL                  ceilf
#define RINT                  rintf
#define ABS                   fabsf
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

#define UNARY(E, object, text, flags, types, A, rows, ...)                                                             \
    __global__ static void object##_kernel(float *out, const float *in, int64_t n, TYPE_##A at)                        \
    {                                                                                                                  \
        const bool variant = VARIANT_##A;                                                                              \
        GRID_STRIDE(i, n)                                                                                              \
        {                                                                                                              \
            const float x = in[i];                                                                                     \
            (void)variant;                                                                                             \
            out[i] = __VA_ARGS__;                                                                                      \
        }                                                                                                              \
        (void)at;                                                                                                      \
    }                                                                                                                  \
    static void object##_run(const kernel_args *a)                                                                     \
    {                                                                                                                  \
        GIVE_##A const int64_t n = kernel_elements(&a->out[0]);                                                        \
        LAUNCH(object##_kernel, grid_for(a->queue, n, 4), CUDA_THREADS, 0, a->queue, (float *)a->out[0].data,          \
               (const float *)a->in[0].data, n, at);                                                                   \
    }
#define UNARY_GRAD(E, object, text, reads, A, rows, ...)                                                               \
    __global__ static void object##_grad_kernel(float *out, const float *grad, const float *kept, int64_t n, TYPE_##A at) \
    {                                                                                                                  \
        const bool variant = VARIANT_##A;                                                                              \
        GRID_STRIDE(i, n)                                                                                              \
        {                                                                                                              \
            const float dy = grad[i], reads = kept[i];                                                                 \
            (void)variant;                                                                                             \
            out[i] = __VA_ARGS__;                                                                                      \
        }                                                                                                              \
        (void)at;                                                                                                      \
    }                                                                                                                  \
    static void object##_grad_run(const kernel_args *a)                                                                \
    {                                                                                                                  \
        GIVE_##A const int64_t n = kernel_elements(&a->out[0]);                                                        \
        LAUNCH(object##_grad_kernel, grid_for(a->queue, n, 4), CUDA_THREADS, 0, a->queue, (float *)a->out[0].data,     \
               (const float *)a->in[0].data, (const float *)a->in[1].data, n, at);                                     \
    }
#include "ops/unary.def"

CUDA_TABLE(unary) = {
#define UNARY(E, object, text, flags, types, A, rows, ...) \
    {.op = OP_##E, .type = DTYPE_F32, .name = #object, .run = object##_run},
#define UNARY_GRAD(E, object, text, reads, A, rows, ...) \
    {.op = OP_##E##_GRAD, .type = DTYPE_F32, .name = #object " grad", .run = object##_grad_run},
#include "ops/unary.def"
    KERNEL_END};
