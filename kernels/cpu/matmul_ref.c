/* matmul_ref.c - Gemm, MatMul and Linear as their definitions read (src/ops/matmul.c), a row of the result at a time. */
#include "kernels/cpu/half.h"
#include "kernels/cpu/matrix.h"
#include "kernels/cpu/refmath.h"

/* y [M, N] = alpha * A B, A and B with any row and column steps. */
static void product(real *y, const real *x, const real *w, const matrix_sizes *s, real alpha, int threads)
{
#pragma omp parallel for num_threads(threads) schedule(static) if (s->m * s->n * s->k > 1 << 15)
    for (int64_t i = 0; i < s->m; i++) {
        real *row = y + i * s->n;
        for (int64_t j = 0; j < s->n; j++)
            row[j] = 0;
        for (int64_t k = 0; k < s->k; k++)
            for (int64_t j = 0; j < s->n; j++)
                row[j] += x[i * s->a_row + k * s->a_col] * w[k * s->b_row + j * s->b_col];
        for (int64_t j = 0; j < s->n; j++)
            row[j] *= alpha;
    }
}

static void gemm(const kernel_args *a)
{
    const gemm_attrs *at = a->attr;
    matrix_sizes s = gemm_sizes(at, &a->in[0].sh, &a->in[1].sh);
    const real *c = a->n_in > 2 ? a->in[2].data : NULL;
    real *y = a->out[0].data;
    product(y, a->in[0].data, a->in[1].data, &s, (real)at->alpha, a->threads);
    if (!c || at->beta == 0)
        return;
    bias_steps step = gemm_bias_steps(&a->in[2].sh);
    for (int64_t i = 0; i < s.m; i++)
        for (int64_t j = 0; j < s.n; j++)
            y[i * s.n + j] += (real)at->beta * c[i * step.row + j * step.col];
}

static void matmul(const kernel_args *a)
{
    const real *x = a->in[0].data, *w = a->in[1].data;
    real *y = a->out[0].data;
    matmul_batch b = matmul_batch_of(a->attr, &a->in[0].sh, &a->in[1].sh);
    for (int64_t i = 0; i < b.count; i++)
        product(y + i * b.each.m * b.each.n, x + matmul_offset(&b, b.a_step, i), w + matmul_offset(&b, b.b_step, i), &b.each,
                1, a->threads);
}

static real activate(int64_t activation, real x)
{
    switch (activation) {
    case ACTIVATION_RELU:
        return x < 0 ? 0 : x;
    case ACTIVATION_GELU:
        return GELU(x);
    case ACTIVATION_GELU_TANH:
        return GELU_BY_TANH(x);
    case ACTIVATION_TANH:
        return TANH(x);
    default:
        return x;
    }
}

static inline float rounded(int64_t precision, float v)
{
    return precision == PRECISION_BF16 ? half_load_BF16(half_store_BF16(v)) : half_load_F16(half_store_F16(v));
}

/* As product, with both matrices rounded first. */
static void rounded_product(real *y, const real *x, const real *w, const matrix_sizes *s, real alpha, int64_t precision)
{
    for (int64_t i = 0; i < s->m; i++)
        for (int64_t j = 0; j < s->n; j++) {
            real sum = 0;
            for (int64_t k = 0; k < s->k; k++)
                sum += (real)rounded(precision, (float)x[i * s->a_row + k * s->a_col]) *
                       (real)rounded(precision, (float)w[k * s->b_row + j * s->b_col]);
            y[i * s->n + j] = alpha * sum;
        }
}

static void linear(const kernel_args *a)
{
    const linear_attrs *at = a->attr;
    matrix_sizes s = linear_sizes(at, &a->in[0].sh, &a->in[1].sh);
    const real *bias = a->n_in > 2 ? a->in[2].data : NULL, *residual = a->n_in > 3 ? a->in[3].data : NULL;
    real *y = a->out[0].data, *pre = a->n_out > 1 ? a->out[1].data : NULL;
    if (at->precision != PRECISION_FP32)
        rounded_product(y, a->in[0].data, a->in[1].data, &s, (real)at->alpha, at->precision);
    else
        product(y, a->in[0].data, a->in[1].data, &s, (real)at->alpha, a->threads);
    for (int64_t i = 0; i < s.m * s.n; i++) {
        real v = y[i];
        v += bias ? bias[i % s.n] : 0;
        v += residual ? residual[i] : 0;
        if (pre)
            pre[i] = v;
        y[i] = activate(at->activation, v);
    }
}

KERNEL_TABLE(matmul) = {
    {OP_GEMM, REAL_DTYPE, REAL_ISA, "gemm_ref", gemm, NULL, NULL},
    {OP_MATMUL, REAL_DTYPE, REAL_ISA, "matmul_ref", matmul, NULL, NULL},
    {OP_LINEAR, REAL_DTYPE, REAL_ISA, "linear_ref", linear, NULL, NULL},
    KERNEL_END};
