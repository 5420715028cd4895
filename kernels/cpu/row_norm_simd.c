/* row_norm_simd.c - layer norm, softmax and log-softmax: fast float32. Rows are read several times while they lie in the
 * cache. A row is one unit of work; sums over rows (layer norm's dScale, dB) go by fixed groups of rows. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vmath.h"

#include <math.h>
#include <string.h>

/* ---- layer norm: x [rows, d] ---- */

typedef struct row_stats {
    float mean, inv;
} row_stats;

/* Sums are float within a piece of PIECE elements, double over the pieces. */
#define PIECE 1024

static row_stats stats_of(const float *x, int64_t d, double epsilon)
{
    double sum = 0, off = 0, square = 0;
    for (int64_t p = 0; p < d; p += PIECE) {
        const int64_t end = p + PIECE < d ? p + PIECE : d;
        float part = 0;
        PRAGMA(omp simd reduction(+ : part))
        for (int64_t i = p; i < end; i++)
            part += x[i];
        sum += (double)part;
    }
    const float pivot = (float)(sum / (double)d); /* the mean but for its rounding, which `off` then takes out */
    for (int64_t p = 0; p < d; p += PIECE) {
        const int64_t end = p + PIECE < d ? p + PIECE : d;
        float part = 0, part2 = 0;
        PRAGMA(omp simd reduction(+ : part, part2))
        for (int64_t i = p; i < end; i++) {
            float e = x[i] - pivot;
            part += e;
            part2 += e * e;
        }
        off += (double)part;
        square += (double)part2;
    }
    double shift = off / (double)d, var = square / (double)d - shift * shift;
    return (row_stats){(float)((double)pivot + shift), (float)(1 / sqrt(var + epsilon))};
}

static int64_t row_length(const shape *x, int64_t axis)
{
    int64_t d = 1;
    for (int i = shape_axis(x, axis); i < x->rank; i++)
        d *= x->dim[i];
    return d;
}

static void layer_norm(const kernel_args *a)
{
    const layer_norm_attrs *at = a->attr;
    const float *x = a->in[0].data, *scale = a->in[1].data, *bias = a->n_in > 2 ? a->in[2].data : NULL;
    float *y = a->out[0].data, *means = a->n_out > 1 ? a->out[1].data : NULL;
    float *invs = a->n_out > 2 ? a->out[2].data : NULL;
    int64_t d = row_length(&a->in[0].sh, at->axis), rows = d ? shape_count(&a->in[0].sh) / d : 0;
    PARALLEL_FOR(r, rows, a->threads, rows * d)
    {
        const row_stats s = stats_of(x + r * d, d, at->epsilon);
        const float *from = x + r * d;
        float *to = y + r * d;
        if (bias)
            PRAGMA(omp simd)
            for (int64_t i = 0; i < d; i++)
                to[i] = (from[i] - s.mean) * s.inv * scale[i] + bias[i];
        else
            PRAGMA(omp simd)
            for (int64_t i = 0; i < d; i++)
                to[i] = (from[i] - s.mean) * s.inv * scale[i];
        if (means)
            means[r] = s.mean;
        if (invs)
            invs[r] = s.inv;
    }
}

/* dScale and dB: at most GROUPS groups of rows, each summed on its own: FLUSH rows in float, those sums in double. */
#define GROUPS 64
#define FLUSH  32

static int64_t group_rows(int64_t rows)
{
    int64_t each = block_count(rows, GROUPS);
    return each < FLUSH ? FLUSH : each;
}

static size_t layer_norm_grad_work(const kernel_args *a)
{
    int64_t d = shape_count(&a->in[2].sh), rows = d ? shape_count(&a->in[1].sh) / d : 0;
    return (size_t)block_count(rows, group_rows(rows)) * (size_t)d * 2 * (sizeof(double) + sizeof(float));
}

static void add_up(double *total, float *part, int64_t n)
{
    PRAGMA(omp simd)
    for (int64_t i = 0; i < n; i++) {
        total[i] += (double)part[i];
        part[i] = 0;
    }
}

/* One row; adds to part [2][d] = dScale, dB. */
static void layer_norm_grad_row(const float *dy, const float *x, const float *scale, const float *more, float *dx,
                                float *part, int64_t d, double epsilon)
{
    const row_stats s = stats_of(x, d, epsilon);
    float *dscale = part, *dbias = part + d;
    double all = 0, all_xhat = 0;
    for (int64_t p = 0; p < d; p += PIECE) {
        const int64_t end = p + PIECE < d ? p + PIECE : d;
        float sum = 0, sum_xhat = 0;
        PRAGMA(omp simd reduction(+ : sum, sum_xhat))
        for (int64_t i = p; i < end; i++) {
            float xhat = (x[i] - s.mean) * s.inv, g = dy[i] * scale[i];
            dscale[i] += dy[i] * xhat;
            dbias[i] += dy[i];
            sum += g;
            sum_xhat += g * xhat;
        }
        all += (double)sum;
        all_xhat += (double)sum_xhat;
    }
    const float m = (float)(all / (double)d), k = (float)(all_xhat / (double)d);
    if (more)
        PRAGMA(omp simd)
        for (int64_t i = 0; i < d; i++)
            dx[i] = s.inv * (dy[i] * scale[i] - m - (x[i] - s.mean) * s.inv * k) + more[i];
    else
        PRAGMA(omp simd)
        for (int64_t i = 0; i < d; i++)
            dx[i] = s.inv * (dy[i] * scale[i] - m - (x[i] - s.mean) * s.inv * k);
}

static void layer_norm_grad(const kernel_args *a)
{
    const layer_norm_attrs *at = a->attr;
    const float *dy = a->in[0].data, *x = a->in[1].data, *scale = a->in[2].data, *more = a->n_in > 3 ? a->in[3].data : NULL;
    float *dx = a->out[0].data;
    int64_t d = shape_count(&a->in[2].sh), rows = d ? shape_count(&a->in[1].sh) / d : 0;
    int64_t each = group_rows(rows), groups = block_count(rows, each);
    double *total = a->work; /* [groups][2][d], then parts of the same shape in float */
    float *parts = (float *)(total + groups * 2 * d);
    PARALLEL_FOR(k, groups, a->threads, rows * d)
    {
        double *mine = total + k * 2 * d;
        float *part = parts + k * 2 * d;
        memset(mine, 0, (size_t)d * 2 * sizeof *mine);
        memset(part, 0, (size_t)d * 2 * sizeof *part);
        for (int64_t r = k * each; r < block_end(k, rows, each); r++) {
            layer_norm_grad_row(dy + r * d, x + r * d, scale, more ? more + r * d : NULL, dx + r * d, part, d, at->epsilon);
            if ((r + 1 - k * each) % FLUSH == 0)
                add_up(mine, part, 2 * d);
        }
        add_up(mine, part, 2 * d);
    }
    for (int o = 1; o < 3; o++) {
        float *to = o < a->n_out ? a->out[o].data : NULL;
        for (int64_t i = 0; to && i < d; i++) {
            double sum = 0;
            for (int64_t k = 0; k < groups; k++)
                sum += total[(k * 2 + o - 1) * d + i];
            to[i] = (float)sum;
        }
    }
}

/* ---- softmax: x as [outer, d, inner] ---- */

typedef struct softmax_shape {
    int64_t outer, d, inner;
} softmax_shape;

static softmax_shape softmax_of(const kernel_args *a)
{
    const shape *x = &a->in[0].sh;
    int axis = shape_axis(x, ((const axis_attrs *)a->attr)->axis);
    softmax_shape s = {1, x->dim[axis], 1};
    for (int i = 0; i < axis; i++)
        s.outer *= x->dim[i];
    for (int i = axis + 1; i < x->rank; i++)
        s.inner *= x->dim[i];
    return s;
}

/* Rows with inner = 1. y (which may be x) becomes exp(x - max); returns the sum and the maximum. */
static float row_exp(const float *x, float *y, int64_t d, float *max)
{
    float m = -INFINITY, sum = 0;
    PRAGMA(omp simd reduction(max : m))
    for (int64_t i = 0; i < d; i++)
        m = x[i] > m ? x[i] : m;
    PRAGMA(omp simd reduction(+ : sum))
    for (int64_t i = 0; i < d; i++) {
        float e = v_exp(x[i] - m);
        y[i] = e;
        sum += e;
    }
    *max = m;
    return sum;
}

static float row_exp_sum(const float *x, int64_t d, float *max)
{
    float m = -INFINITY, sum = 0;
    PRAGMA(omp simd reduction(max : m))
    for (int64_t i = 0; i < d; i++)
        m = x[i] > m ? x[i] : m;
    PRAGMA(omp simd reduction(+ : sum))
    for (int64_t i = 0; i < d; i++)
        sum += v_exp(x[i] - m);
    *max = m;
    return sum;
}

static void softmax_row(const float *x, const float *none, float *y, int64_t d)
{
    (void)none;
    float max;
    const float sum = row_exp(x, y, d, &max), over = 1 / sum;
    PRAGMA(omp simd)
    for (int64_t i = 0; i < d; i++)
        y[i] *= over;
}

static void log_softmax_row(const float *x, const float *none, float *y, int64_t d)
{
    (void)none;
    float max;
    const float sum = row_exp_sum(x, d, &max), log_sum = v_log(sum), top = max;
    PRAGMA(omp simd)
    for (int64_t i = 0; i < d; i++)
        y[i] = (x[i] - top) - log_sum;
}

static void softmax_grad_row(const float *dy, const float *y, float *dx, int64_t d)
{
    float dot = 0;
    PRAGMA(omp simd reduction(+ : dot))
    for (int64_t i = 0; i < d; i++)
        dot += dy[i] * y[i];
    PRAGMA(omp simd)
    for (int64_t i = 0; i < d; i++)
        dx[i] = y[i] * (dy[i] - dot);
}

static void log_softmax_grad_row(const float *dy, const float *y, float *dx, int64_t d)
{
    float sum = 0;
    PRAGMA(omp simd reduction(+ : sum))
    for (int64_t i = 0; i < d; i++)
        sum += dy[i];
    PRAGMA(omp simd)
    for (int64_t i = 0; i < d; i++)
        dx[i] = dy[i] - v_exp(y[i]) * sum;
}

/* Strips of w <= STRIP neighbours (inner > 1), d elements each, `step` apart. */
#define STRIP 64

static void strip_exp_sum(const float *x, int64_t d, int64_t step, int64_t w, float *max, float *sum)
{
    for (int64_t j = 0; j < w; j++) {
        max[j] = -INFINITY;
        sum[j] = 0;
    }
    for (int64_t i = 0; i < d; i++)
        PRAGMA(omp simd)
        for (int64_t j = 0; j < w; j++)
            max[j] = x[i * step + j] > max[j] ? x[i * step + j] : max[j];
    for (int64_t i = 0; i < d; i++)
        PRAGMA(omp simd)
        for (int64_t j = 0; j < w; j++)
            sum[j] += v_exp(x[i * step + j] - max[j]);
}

static void softmax_strip(const float *x, const float *none, float *y, int64_t d, int64_t step, int64_t w)
{
    float max[STRIP], sum[STRIP];
    (void)none;
    strip_exp_sum(x, d, step, w, max, sum);
    for (int64_t i = 0; i < d; i++)
        PRAGMA(omp simd)
        for (int64_t j = 0; j < w; j++)
            y[i * step + j] = v_exp(x[i * step + j] - max[j]) / sum[j];
}

static void log_softmax_strip(const float *x, const float *none, float *y, int64_t d, int64_t step, int64_t w)
{
    float max[STRIP], sum[STRIP];
    (void)none;
    strip_exp_sum(x, d, step, w, max, sum);
    for (int64_t j = 0; j < w; j++)
        sum[j] = v_log(sum[j]);
    for (int64_t i = 0; i < d; i++)
        PRAGMA(omp simd)
        for (int64_t j = 0; j < w; j++)
            y[i * step + j] = (x[i * step + j] - max[j]) - sum[j];
}

static void softmax_grad_strip(const float *dy, const float *y, float *dx, int64_t d, int64_t step, int64_t w)
{
    float dot[STRIP] = {0};
    for (int64_t i = 0; i < d; i++)
        PRAGMA(omp simd)
        for (int64_t j = 0; j < w; j++)
            dot[j] += dy[i * step + j] * y[i * step + j];
    for (int64_t i = 0; i < d; i++)
        PRAGMA(omp simd)
        for (int64_t j = 0; j < w; j++)
            dx[i * step + j] = y[i * step + j] * (dy[i * step + j] - dot[j]);
}

static void log_softmax_grad_strip(const float *dy, const float *y, float *dx, int64_t d, int64_t step, int64_t w)
{
    float sum[STRIP] = {0};
    for (int64_t i = 0; i < d; i++)
        PRAGMA(omp simd)
        for (int64_t j = 0; j < w; j++)
            sum[j] += dy[i * step + j];
    for (int64_t i = 0; i < d; i++)
        PRAGMA(omp simd)
        for (int64_t j = 0; j < w; j++)
            dx[i * step + j] = dy[i * step + j] - v_exp(y[i * step + j]) * sum[j];
}

typedef void row_fn(const float *p, const float *q, float *out, int64_t d);
typedef void strip_fn(const float *p, const float *q, float *out, int64_t d, int64_t step, int64_t w);

static void run(const kernel_args *a, row_fn *row, strip_fn *strip)
{
    const softmax_shape s = softmax_of(a);
    const float *p = a->in[0].data, *q = a->n_in > 1 ? a->in[1].data : NULL;
    float *out = a->out[0].data;
    int64_t strips = block_count(s.inner, STRIP);
    PARALLEL_FOR(u, s.outer * strips, a->threads, s.outer * s.d * s.inner * 4)
    {
        int64_t from = u % strips * STRIP, at = u / strips * s.d * s.inner + from;
        if (s.inner == 1)
            row(p + at, q ? q + at : NULL, out + at, s.d);
        else
            strip(p + at, q ? q + at : NULL, out + at, s.d, s.inner, s.inner - from < STRIP ? s.inner - from : STRIP);
    }
}

static void softmax(const kernel_args *a)
{
    run(a, softmax_row, softmax_strip);
}
static void log_softmax(const kernel_args *a)
{
    run(a, log_softmax_row, log_softmax_strip);
}
static void softmax_grad(const kernel_args *a)
{
    run(a, softmax_grad_row, softmax_grad_strip);
}
static void log_softmax_grad(const kernel_args *a)
{
    run(a, log_softmax_grad_row, log_softmax_grad_strip);
}

KERNEL_TABLE(row_norm) = {
    {OP_LAYER_NORM, REAL_DTYPE, REAL_ISA, "layer_norm_f32", layer_norm},
    {OP_LAYER_NORM_GRAD, REAL_DTYPE, REAL_ISA, "layer_norm_grad_f32", layer_norm_grad, layer_norm_grad_work},
    {OP_SOFTMAX, REAL_DTYPE, REAL_ISA, "softmax_f32", softmax},
    {OP_LOG_SOFTMAX, REAL_DTYPE, REAL_ISA, "log_softmax_f32", log_softmax},
    {OP_SOFTMAX_GRAD, REAL_DTYPE, REAL_ISA, "softmax_grad_f32", softmax_grad},
    {OP_LOG_SOFTMAX_GRAD, REAL_DTYPE, REAL_ISA, "log_softmax_grad_f32", log_softmax_grad},
    KERNEL_END,
};
