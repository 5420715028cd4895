/* update_simd.c - optimizer updates: fast float32. One pass over the operands of a parameter; formulas in
 * src/ops/update.c. The scalars are combined in double, as PyTorch does, and rounded once. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/parallel.h"

#include <math.h>
#include <string.h>

static double scalar(const kernel_args *a, int i, double absent)
{
    return i < a->n_in && a->in[i].data ? (double)*(const float *)a->in[i].data : absent;
}

/* keep: 1 - lr * wd when the decay is decoupled, else 1; decay: wd when it is not, else 0. */
typedef struct sgd_step {
    float lr, scale, momentum, keep, decay;
} sgd_step;

static void sgd_plain(float *p, const float *grad, int64_t n, sgd_step s)
{
    PRAGMA(omp simd)
    for (int64_t i = 0; i < n; i++) {
        float g = s.scale * grad[i] + s.decay * p[i];
        p[i] = s.keep * p[i] - s.lr * g;
    }
}

static void sgd_momentum(float *p, const float *grad, float *buffer, int64_t n, sgd_step s)
{
    PRAGMA(omp simd)
    for (int64_t i = 0; i < n; i++) {
        float b = s.momentum * buffer[i] + (s.scale * grad[i] + s.decay * p[i]);
        buffer[i] = b;
        p[i] = s.keep * p[i] - s.lr * b;
    }
}

static void sgd_nesterov(float *p, const float *grad, float *buffer, int64_t n, sgd_step s)
{
    PRAGMA(omp simd)
    for (int64_t i = 0; i < n; i++) {
        float g = s.scale * grad[i] + s.decay * p[i];
        float b = s.momentum * buffer[i] + g;
        buffer[i] = b;
        p[i] = s.keep * p[i] - s.lr * (g + s.momentum * b);
    }
}

static void sgd(const kernel_args *a)
{
    const sgd_attrs *at = a->attr;
    float *p = a->in[0].data, *buffer = a->in[2].data;
    const float *grad = a->in[1].data;
    const int64_t n = shape_count(&a->in[0].sh);
    double lr = scalar(a, 3, 0), scale = scalar(a, 4, 1);
    const sgd_step s = {.lr = (float)lr, .scale = (float)scale, .momentum = (float)at->momentum,
                        .keep = at->decoupled ? (float)(1 - lr * at->weight_decay) : 1,
                        .decay = at->decoupled ? 0 : (float)at->weight_decay};
    if (!isfinite(scale))
        return;
    PARALLEL_FOR(b, block_count(n, BLOCK_ELEMENTS), a->threads, n)
    {
        const int64_t i = b * BLOCK_ELEMENTS, count = block_end(b, n, BLOCK_ELEMENTS) - i;
        if (!buffer)
            sgd_plain(p + i, grad + i, count, s);
        else if (at->nesterov)
            sgd_nesterov(p + i, grad + i, buffer + i, count, s);
        else
            sgd_momentum(p + i, grad + i, buffer + i, count, s);
    }
}

typedef struct adam_step {
    float scale, keep, decay, keep1, take1, keep2, take2, size, over_c2, eps;
} adam_step;

static void adam_block(float *p, const float *grad, float *m, float *v, int64_t n, adam_step s)
{
    PRAGMA(omp simd)
    for (int64_t i = 0; i < n; i++) {
        float g = s.scale * grad[i] + s.decay * p[i];
        float mean = s.keep1 * m[i] + s.take1 * g;
        float square = s.keep2 * v[i] + s.take2 * (g * g);
        m[i] = mean;
        v[i] = square;
        p[i] = s.keep * p[i] - s.size * mean / (sqrtf(square) * s.over_c2 + s.eps);
    }
}

static void adam(const kernel_args *a)
{
    const adam_attrs *at = a->attr;
    const int64_t n = shape_count(&a->in[0].sh);
    double lr = scalar(a, 4, 0), scale = scalar(a, 5, 1), step = scalar(a, 6, 1);
    const adam_step s = {.scale = (float)scale,
                         .keep = at->decoupled ? (float)(1 - lr * at->weight_decay) : 1,
                         .decay = at->decoupled ? 0 : (float)at->weight_decay,
                         .keep1 = (float)at->beta1, .take1 = (float)(1 - at->beta1),
                         .keep2 = (float)at->beta2, .take2 = (float)(1 - at->beta2),
                         .size = (float)(lr / (1 - pow(at->beta1, step))),
                         .over_c2 = (float)(1 / sqrt(1 - pow(at->beta2, step))), .eps = (float)at->eps};
    if (!isfinite(scale))
        return;
    PARALLEL_FOR(b, block_count(n, BLOCK_ELEMENTS), a->threads, n)
    {
        const int64_t i = b * BLOCK_ELEMENTS;
        adam_block((float *)a->in[0].data + i, (const float *)a->in[1].data + i, (float *)a->in[2].data + i,
                   (float *)a->in[3].data + i, block_end(b, n, BLOCK_ELEMENTS) - i, s);
    }
}

/* y = keep * y + take * x */
static void blend(float *y, const float *x, int64_t n, float keep, float take, int threads)
{
    PARALLEL_FOR(b, block_count(n, BLOCK_ELEMENTS), threads, n)
    {
        const int64_t end = block_end(b, n, BLOCK_ELEMENTS);
        PRAGMA(omp simd)
        for (int64_t i = b * BLOCK_ELEMENTS; i < end; i++)
            y[i] = keep * y[i] + take * x[i];
    }
}

static void ema(const kernel_args *a)
{
    double d = ((const ema_attrs *)a->attr)->decay;
    if (isfinite(scalar(a, 2, 1)))
        blend(a->in[0].data, a->in[1].data, shape_count(&a->in[0].sh), (float)d, (float)(1 - d), a->threads);
}

static void accumulate(const kernel_args *a)
{
    blend(a->in[0].data, a->in[1].data, shape_count(&a->in[0].sh), 1, (float)scalar(a, 2, 1), a->threads);
}

static void clear(const kernel_args *a)
{
    memset(a->in[0].data, 0, (size_t)shape_count(&a->in[0].sh) * sizeof(float));
}

/* Sums of squares of blocks of all gradients, in double, in the workspace; then joined in their order. */
static int64_t norm_blocks(const kernel_args *a)
{
    int64_t blocks = 0;
    for (int k = 0; k < a->n_in; k++)
        blocks += block_count(shape_count(&a->in[k].sh), BLOCK_ELEMENTS);
    return blocks;
}

static size_t grad_norm_work(const kernel_args *a)
{
    return (size_t)norm_blocks(a) * sizeof(double);
}

static double square_sum(const float *g, int64_t n)
{
    double sum = 0;
    PRAGMA(omp simd reduction(+ : sum))
    for (int64_t i = 0; i < n; i++)
        sum += (double)g[i] * (double)g[i];
    return sum;
}

static void grad_norm(const kernel_args *a)
{
    double *part = a->work, sum = 0, limit = ((const grad_norm_attrs *)a->attr)->max_norm;
    const int64_t blocks = norm_blocks(a);
    int64_t first = 0;
    for (int k = 0; k < a->n_in; k++) {
        const float *g = a->in[k].data;
        const int64_t n = shape_count(&a->in[k].sh), count = block_count(n, BLOCK_ELEMENTS);
        PARALLEL_FOR(b, count, a->threads, n)
        part[first + b] = square_sum(g + b * BLOCK_ELEMENTS, block_end(b, n, BLOCK_ELEMENTS) - b * BLOCK_ELEMENTS);
        first += count;
    }
    for (int64_t b = 0; b < blocks; b++)
        sum += part[b];
    double norm = sqrt(sum), scale = limit / (norm + 1e-6);
    *(float *)a->out[0].data = (float)(!isfinite(norm) ? (double)NAN : scale < 1 ? scale : 1);
    if (a->n_out > 1 && a->out[1].data)
        *(float *)a->out[1].data = (float)norm;
}

KERNEL_TABLE(update) = {
    {OP_SGD_UPDATE, REAL_DTYPE, REAL_ISA, "sgd_update_f32", sgd},
    {OP_ADAM_UPDATE, REAL_DTYPE, REAL_ISA, "adam_update_f32", adam},
    {OP_EMA_UPDATE, REAL_DTYPE, REAL_ISA, "ema_update_f32", ema},
    {OP_GRAD_NORM, REAL_DTYPE, REAL_ISA, "grad_norm_f32", grad_norm, grad_norm_work},
    {OP_ACCUMULATE, REAL_DTYPE, REAL_ISA, "accumulate_f32", accumulate},
    {OP_CLEAR, REAL_DTYPE, REAL_ISA, "clear_f32", clear},
    KERNEL_END,
};
