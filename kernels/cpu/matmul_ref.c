/* matmul_ref.c - Gemm, MatMul, Linear and its gradients as their definitions read (src/ops/matmul.c), a row of the result at a time. */
#include "kernels/cpu/half.h"
#include "kernels/cpu/matrix.h"
#include "kernels/cpu/refmath.h"
#include "kernels/e4m3.h"

#include <string.h>

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

static inline float rounded(int64_t precision, float v, float scale)
{
    if (precision == PRECISION_FP8)
        return e4m3_value(e4m3_of(v * scale));
    return precision == PRECISION_BF16 ? half_load_BF16(half_store_BF16(v)) : half_load_F16(half_store_F16(v));
}

/* As product, with both matrices rounded first. */
static void rounded_product(real *y, const real *x, const real *w, const matrix_sizes *s, real alpha, int64_t precision,
                            float a_scale, float b_scale)
{
    for (int64_t i = 0; i < s->m; i++)
        for (int64_t j = 0; j < s->n; j++) {
            real sum = 0;
            for (int64_t k = 0; k < s->k; k++)
                sum += (real)rounded(precision, (float)x[i * s->a_row + k * s->a_col], a_scale) *
                       (real)rounded(precision, (float)w[k * s->b_row + j * s->b_col], b_scale);
            y[i * s->n + j] = alpha * sum;
        }
}

static void linear(const kernel_args *a)
{
    const linear_attrs *at = a->attr;
    matrix_sizes s = linear_sizes(at, &a->in[0].sh, &a->in[1].sh);
    const real *bias = a->n_in > 2 ? a->in[2].data : NULL, *residual = a->n_in > 3 ? a->in[3].data : NULL;
    real *y = a->out[0].data, *pre = a->n_out > 1 ? a->out[1].data : NULL;
    if (at->precision == PRECISION_FP8)
        rounded_product(y, a->in[0].data, a->in[1].data, &s, (real)e4m3_alpha(at->alpha, at->a_range, at->b_range), PRECISION_FP8,
                        e4m3_scale(at->a_range), e4m3_scale(at->b_range));
    else if (at->precision != PRECISION_FP32)
        rounded_product(y, a->in[0].data, a->in[1].data, &s, (real)at->alpha, at->precision, 1, 1);
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

static void linear_masked(const kernel_args *a)
{
    kernel_args plain = *a;
    const int64_t cols = a->out[0].sh.dim[a->out[0].sh.rank - 1], count = shape_count(&a->out[0].sh);
    const real *y = a->out[0].data;
    unsigned char *mask = a->out[1].data;
    plain.n_out = 1;
    linear(&plain);
    memset(mask, 0, (size_t)shape_count(&a->out[1].sh));
    for (int64_t i = 0; i < count; i++)
        if (y[i] > 0) {
            const int64_t row = i / cols, col = i % cols;
            unsigned char *at = &mask[row * linear_mask_bytes(cols) + col / 8];
            *at = (unsigned char)(*at | 1 << col % 8);
        }
}

/* y [m, n] = alpha * A B, rounded first where that is asked for. */
static void grad_product(const kernel_args *a, const matrix_sizes *s)
{
    const linear_grad_attrs *at = a->attr;
    if (at->precision != PRECISION_FP32)
        rounded_product(a->out[0].data, a->in[0].data, a->in[1].data, s, (real)at->alpha, at->precision, 1, 1);
    else
        product(a->out[0].data, a->in[0].data, a->in[1].data, s, (real)at->alpha, a->threads);
}

/* dy times the slope of the activation that kept this. */
static real sloped(int64_t activation, real dy, real kept)
{
    switch (activation) {
    case ACTIVATION_RELU:
        return kept > 0 ? dy : 0;
    case ACTIVATION_GELU:
        return dy * GELU_SLOPE(kept);
    case ACTIVATION_GELU_TANH:
        return dy * GELU_BY_TANH_SLOPE(kept);
    case ACTIVATION_TANH:
        return dy * (1 - kept * kept);
    default:
        return dy;
    }
}

static void linear_grad_data(const kernel_args *a)
{
    const linear_grad_attrs *at = a->attr;
    const linear_attrs as = {.transB = at->transB};
    const matrix_sizes s = linear_sizes(&as, &a->in[0].sh, &a->in[1].sh);
    const bool masked = a->in[2].type == DTYPE_U8;
    const real *kept = masked ? NULL : a->in[2].data, *residual = a->n_in > 3 ? a->in[3].data : NULL;
    const unsigned char *mask = masked ? a->in[2].data : NULL;
    real *dx = a->out[0].data;
    grad_product(a, &s);
    for (int64_t i = 0; i < s.m * s.n; i++) {
        const int64_t col = i % s.n;
        const real was = masked ? (real)(mask[i / s.n * linear_mask_bytes(s.n) + col / 8] >> col % 8 & 1) : kept[i];
        dx[i] = sloped(at->activation, dx[i] + (residual ? residual[i] : 0), was);
    }
}

static void linear_grad_weight(const kernel_args *a)
{
    const linear_grad_attrs *at = a->attr;
    const int64_t m = a->out[0].sh.dim[0], n = a->out[0].sh.dim[1];
    int64_t rows = 1;
    for (int i = 0; i < a->in[0].sh.rank - 1; i++)
        rows *= a->in[0].sh.dim[i];
    const matrix_sizes s = matrix_sizes_of(rows, m, true, rows, n, false);
    const real *from = a->in[at->sums_of].data;
    real *sums = a->out[1].data;
    const int64_t cols = at->sums_of ? n : m;
    grad_product(a, &s);
    for (int64_t j = 0; j < cols; j++)
        sums[j] = 0;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            sums[j] += from[i * cols + j];
}

KERNEL_TABLE(matmul) = {
    {OP_GEMM, REAL_DTYPE, REAL_ISA, "gemm_ref", gemm, NULL, NULL},
    {OP_MATMUL, REAL_DTYPE, REAL_ISA, "matmul_ref", matmul, NULL, NULL},
    {OP_LINEAR, REAL_DTYPE, REAL_ISA, "linear_ref", linear, NULL, NULL},
    {OP_LINEAR_MASKED, REAL_DTYPE, REAL_ISA, "linear_masked_ref", linear_masked, NULL, NULL},
    {OP_LINEAR_GRAD_DATA, REAL_DTYPE, REAL_ISA, "linear_grad_data_ref", linear_grad_data, NULL, NULL},
    {OP_LINEAR_GRAD_WEIGHT, REAL_DTYPE, REAL_ISA, "linear_grad_weight_ref", linear_grad_weight, NULL, NULL},
    KERNEL_END};
