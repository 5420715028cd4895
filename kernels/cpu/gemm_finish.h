/* gemm_finish.h - what happens to the sums of a matrix product before they leave the cache:
 * pre = alpha * sum + beta * C + residual, y = activation(pre). */
#ifndef DISTILL_KERNELS_GEMM_FINISH_H
#define DISTILL_KERNELS_GEMM_FINISH_H

#include "kernels/cpu/matrix.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/vmath.h"

typedef struct gemm_finish {
    float alpha, beta;
    const float *c;        /* NULL: none */
    bias_steps c_step;
    const float *residual; /* [m, n] like y, or NULL */
    float *pre;            /* [m, n] like y, or NULL: not wanted */
    int64_t activation;
} gemm_finish;

static inline bool gemm_finish_needed(const gemm_finish *f)
{
    return f->alpha != 1 || f->c || f->residual || f->pre || f->activation != ACTIVATION_NONE;
}

static void activate_none(float *y, int64_t n)
{
    (void)y, (void)n;
}
#define ACTIVATE(name, ...)                                                                                       \
    static void activate_##name(float *y, int64_t n)                                                              \
    {                                                                                                             \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                                       \
        {                                                                                                         \
            const float x = y[i];                                                                                 \
            y[i] = __VA_ARGS__;                                                                                   \
        }                                                                                                         \
    }
ACTIVATE(relu, x < 0 ? 0 : x)
ACTIVATE(gelu, v_gelu(x))
ACTIVATE(gelu_tanh, v_gelu_tanh(x))
ACTIVATE(tanh, v_tanh(x))
static void (*const activations[])(float *y, int64_t n) = {
    [ACTIVATION_NONE] = activate_none, [ACTIVATION_RELU] = activate_relu, [ACTIVATION_GELU] = activate_gelu,
    [ACTIVATION_GELU_TANH] = activate_gelu_tanh, [ACTIVATION_TANH] = activate_tanh};

/* sums [n] of row `row`, columns from `col` on: finished in place; `at`: where they lie in y. */
static inline void gemm_finish_row(const gemm_finish *f, float *sums, int64_t n, int64_t row, int64_t col, int64_t at)
{
    const float alpha = f->alpha, beta = f->beta;
    if (f->c && f->c_step.col) {
        const float *c = f->c + row * f->c_step.row + col;
        for (int64_t i = 0; i < n; i++)
            sums[i] = alpha * sums[i] + beta * c[i];
    } else if (f->c) {
        const float c = beta * f->c[row * f->c_step.row];
        for (int64_t i = 0; i < n; i++)
            sums[i] = alpha * sums[i] + c;
    } else if (alpha != 1) {
        for (int64_t i = 0; i < n; i++)
            sums[i] = alpha * sums[i];
    }
    for (int64_t i = 0; f->residual && i < n; i++)
        sums[i] += f->residual[at + i];
    if (f->pre)
        copy_floats(f->pre + at, sums, n);
    activations[f->activation](sums, n);
}

#endif
