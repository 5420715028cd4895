/* norm_ref.c - reference of normalisation and softmax. Statistics in two passes and in double; formulas in src/ops/norm.c
 * and src/ops/softmax.c. */
#include "kernels/cpu/cpu.h"

#include <math.h>

/* x as [n, c, s]: sample, channel, place. */
typedef struct layout {
    int64_t n, c, s;
} layout;

static layout layout_of(const shape *x)
{
    layout l = {x->dim[0], x->dim[1], 1};
    for (int i = 2; i < x->rank; i++)
        l.s *= x->dim[i];
    return l;
}

/* Mean and (population) variance of channel c; x [n, c, s]. */
static void channel_stats(const real *x, layout l, int64_t c, double *mean, double *var)
{
    double sum = 0, square = 0, count = (double)(l.n * l.s);
    for (int64_t n = 0; n < l.n; n++)
        for (int64_t i = 0; i < l.s; i++)
            sum += (double)x[(n * l.c + c) * l.s + i];
    *mean = sum / count;
    for (int64_t n = 0; n < l.n; n++)
        for (int64_t i = 0; i < l.s; i++) {
            double d = (double)x[(n * l.c + c) * l.s + i] - *mean;
            square += d * d;
        }
    *var = square / count;
}

/* What follows batch norm in the same pass (batch_norm_attrs). */
static real after_norm(const batch_norm_attrs *at, double v, const real *residual, int64_t i)
{
    v += residual ? (double)residual[i] : 0;
    if (at->relu && v < 0)
        v = 0;
    return (real)(at->relu && at->ceiling > 0 && v > at->ceiling ? at->ceiling : v);
}

/* The gradient before it, from the one after it and the result y. */
static double before_relu(const batch_norm_attrs *at, double dy, double y)
{
    bool flat = at->relu && (!(y > 0) || (at->ceiling > 0 && !(y < at->ceiling)));
    return flat ? 0 : dy;
}

/* at: NULL for a norm with nothing behind it. */
static void channel_apply(const real *x, const real *residual, real *y, layout l, int64_t c, double mean, double var,
                          double eps, double scale, double bias, const batch_norm_attrs *at)
{
    const batch_norm_attrs none = {0};
    double inv = 1 / sqrt(var + eps);
    for (int64_t n = 0; n < l.n; n++)
        for (int64_t i = 0; i < l.s; i++) {
            int64_t k = (n * l.c + c) * l.s + i;
            y[k] = after_norm(at ? at : &none, ((double)x[k] - mean) * inv * scale + bias, residual, k);
        }
}

static void batch_norm(const kernel_args *a)
{
    const batch_norm_attrs *at = a->attr;
    const real *x = a->in[0].data, *scale = a->in[1].data, *bias = a->in[2].data, *mean = a->in[3].data,
               *var = a->in[4].data;
    layout l = layout_of(&a->in[0].sh);
    for (int64_t c = 0; c < l.c; c++) {
        double m = (double)mean[c], v = (double)var[c];
        if (at->training_mode) {
            channel_stats(x, l, c, &m, &v);
            if (a->n_out > 1 && a->out[1].data)
                ((real *)a->out[1].data)[c] = (real)((double)mean[c] * at->momentum + m * (1 - at->momentum));
            if (a->n_out > 2 && a->out[2].data)
                ((real *)a->out[2].data)[c] = (real)((double)var[c] * at->momentum + v * (1 - at->momentum));
        }
        channel_apply(x, NULL, a->out[0].data, l, c, m, v, at->epsilon, (double)scale[c], (double)bias[c], at);
    }
}

static void batch_norm_train(const kernel_args *a)
{
    const batch_norm_attrs *at = a->attr;
    const real *x = a->in[0].data, *scale = a->in[1].data, *bias = a->in[2].data,
               *residual = a->n_in > 3 ? a->in[3].data : NULL;
    real *y = a->out[0].data, *mean = a->out[1].data, *var = a->out[2].data;
    layout l = layout_of(&a->in[0].sh);
    for (int64_t c = 0; c < l.c; c++) {
        double m, v;
        channel_stats(x, l, c, &m, &v);
        mean[c] = (real)m;
        var[c] = (real)v;
        channel_apply(x, residual, y, l, c, m, v, at->epsilon, (double)scale[c], (double)bias[c], at);
    }
}

static void batch_norm_apply(const kernel_args *a)
{
    const batch_norm_attrs *at = a->attr;
    const real *x = a->in[0].data, *scale = a->in[1].data, *bias = a->in[2].data, *mean = a->in[3].data, *var = a->in[4].data,
               *residual = a->n_in > 5 ? a->in[5].data : NULL;
    layout l = layout_of(&a->in[0].sh);
    for (int64_t c = 0; c < l.c; c++)
        channel_apply(x, residual, a->out[0].data, l, c, (double)mean[c], (double)var[c], at->epsilon, (double)scale[c],
                      (double)bias[c], at);
}

static void batch_norm_moments(const kernel_args *a)
{
    real *mean = a->out[0].data, *var = a->out[1].data;
    layout l = layout_of(&a->in[0].sh);
    for (int64_t c = 0; c < l.c; c++) {
        double m, v;
        channel_stats(a->in[0].data, l, c, &m, &v);
        mean[c] = (real)m;
        var[c] = (real)v;
    }
}

static void batch_norm_grad(const kernel_args *a)
{
    const batch_norm_attrs *at = a->attr;
    const real *dy = a->in[0].data, *x = a->in[1].data, *scale = a->in[2].data, *mean = a->in[3].data,
               *var = a->in[4].data, *y = a->n_in > 5 ? a->in[5].data : NULL;
    real *dx = a->out[0].data, *dscale = a->n_out > 1 ? a->out[1].data : NULL,
         *dbias = a->n_out > 2 ? a->out[2].data : NULL, *dresidual = a->n_out > 3 ? a->out[3].data : NULL;
    const real *shift = a->n_in > 6 ? a->in[6].data : NULL;
    layout l = layout_of(&a->in[1].sh);
    for (int64_t c = 0; c < l.c; c++) {
        double inv = 1 / sqrt((double)var[c] + at->epsilon), m = (double)mean[c], count = (double)(l.n * l.s);
        double sum = 0, sum_xhat = 0;
        for (int64_t n = 0; n < l.n; n++)
            for (int64_t i = 0; i < l.s; i++) {
                int64_t k = (n * l.c + c) * l.s + i;
                double made = shift ? ((double)x[k] - m) * inv * (double)scale[c] + (double)shift[c] : 0;
                double g = before_relu(at, (double)dy[k], y ? (double)y[k] : made);
                sum += g;
                sum_xhat += g * ((double)x[k] - m) * inv;
            }
        for (int64_t n = 0; n < l.n; n++)
            for (int64_t i = 0; i < l.s; i++) {
                int64_t k = (n * l.c + c) * l.s + i;
                double made = shift ? ((double)x[k] - m) * inv * (double)scale[c] + (double)shift[c] : 0;
                double g = before_relu(at, (double)dy[k], y ? (double)y[k] : made);
                if (dresidual)
                    dresidual[k] = (real)g;
                if (at->training_mode)
                    g -= sum / count + ((double)x[k] - m) * inv * sum_xhat / count;
                dx[k] = (real)((double)scale[c] * inv * g);
            }
        if (dscale)
            dscale[c] = (real)sum_xhat;
        if (dbias)
            dbias[c] = (real)sum;
    }
}

static void batch_norm_grad_apply(const kernel_args *a)
{
    const batch_norm_attrs *at = a->attr;
    const real *dy = a->in[0].data, *x = a->in[1].data, *scale = a->in[2].data, *mean = a->in[3].data, *var = a->in[4].data,
               *dscale = a->in[5].data, *dbias = a->in[6].data;
    real *dx = a->out[0].data;
    layout l = layout_of(&a->in[1].sh);
    for (int64_t c = 0; c < l.c; c++) {
        double inv = 1 / sqrt((double)var[c] + at->epsilon), m = (double)mean[c], count = (double)(l.n * l.s);
        for (int64_t n = 0; n < l.n; n++)
            for (int64_t k = (n * l.c + c) * l.s; k < (n * l.c + c + 1) * l.s; k++) {
                double g = (double)dy[k];
                if (at->training_mode)
                    g -= (double)dbias[c] / count + ((double)x[k] - m) * inv * (double)dscale[c] / count;
                dx[k] = (real)((double)scale[c] * inv * g);
            }
    }
}

static void batch_norm_stats(const kernel_args *a)
{
    const batch_norm_attrs *at = a->attr;
    real *running_mean = a->in[0].data, *running_var = a->in[1].data;
    const real *mean = a->in[2].data, *var = a->in[3].data;
    double m = at->momentum, n = (double)at->count, factor = at->unbiased && at->count > 1 ? n / (n - 1) : 1;
    int64_t count = shape_count(&a->in[0].sh);
    for (int64_t c = 0; c < count; c++) {
        if (!isfinite(mean[c]) || !isfinite(var[c]))
            continue;
        running_mean[c] = (real)((1 - m) * (double)running_mean[c] + m * (double)mean[c]);
        running_var[c] = (real)((1 - m) * (double)running_var[c] + m * factor * (double)var[c]);
    }
}

/* ---- layer norm: rows of d elements ---- */

static int64_t row_length(const shape *x, int64_t axis)
{
    int64_t d = 1;
    for (int i = shape_axis(x, axis); i < x->rank; i++)
        d *= x->dim[i];
    return d;
}

static void row_stats(const real *x, int64_t d, double epsilon, double *mean, double *inv)
{
    layout one = {1, 1, d};
    double var;
    channel_stats(x, one, 0, mean, &var);
    *inv = 1 / sqrt(var + epsilon);
}

static void layer_norm(const kernel_args *a)
{
    const layer_norm_attrs *at = a->attr;
    const real *x = a->in[0].data, *scale = a->in[1].data, *bias = a->n_in > 2 ? a->in[2].data : NULL;
    real *y = a->out[0].data, *means = a->n_out > 1 ? a->out[1].data : NULL;
    real *invs = a->n_out > 2 ? a->out[2].data : NULL;
    int64_t d = row_length(&a->in[0].sh, at->axis), rows = d ? shape_count(&a->in[0].sh) / d : 0;
    for (int64_t r = 0; r < rows; r++) {
        double mean, inv;
        row_stats(x + r * d, d, at->epsilon, &mean, &inv);
        for (int64_t i = 0; i < d; i++)
            y[r * d + i] =
                (real)(((double)x[r * d + i] - mean) * inv * (double)scale[i] + (bias ? (double)bias[i] : 0));
        if (means)
            means[r] = (real)mean;
        if (invs)
            invs[r] = (real)inv;
    }
}

static size_t layer_norm_grad_work(const kernel_args *a)
{
    return (size_t)shape_count(&a->in[2].sh) * 2 * sizeof(double);
}

static void layer_norm_grad(const kernel_args *a)
{
    const layer_norm_attrs *at = a->attr;
    const real *dy = a->in[0].data, *x = a->in[1].data, *scale = a->in[2].data, *more = a->n_in > 3 ? a->in[3].data : NULL;
    real *dx = a->out[0].data;
    int64_t d = shape_count(&a->in[2].sh), rows = d ? shape_count(&a->in[1].sh) / d : 0;
    double *sum_scale = a->work, *sum_bias = sum_scale + d;
    for (int64_t i = 0; i < 2 * d; i++)
        sum_scale[i] = 0;
    for (int64_t r = 0; r < rows; r++) {
        double mean, inv, sum = 0, sum_xhat = 0;
        row_stats(x + r * d, d, at->epsilon, &mean, &inv);
        for (int64_t i = 0; i < d; i++) {
            double g = (double)dy[r * d + i], xhat = ((double)x[r * d + i] - mean) * inv;
            sum_scale[i] += g * xhat;
            sum_bias[i] += g;
            sum += g * (double)scale[i];
            sum_xhat += g * (double)scale[i] * xhat;
        }
        for (int64_t i = 0; i < d; i++) {
            double g = (double)dy[r * d + i] * (double)scale[i], xhat = ((double)x[r * d + i] - mean) * inv;
            dx[r * d + i] = (real)(inv * (g - sum / (double)d - xhat * sum_xhat / (double)d) +
                                   (more ? (double)more[r * d + i] : 0));
        }
    }
    for (int64_t i = 0; i < d; i++) {
        if (a->n_out > 1 && a->out[1].data)
            ((real *)a->out[1].data)[i] = (real)sum_scale[i];
        if (a->n_out > 2 && a->out[2].data)
            ((real *)a->out[2].data)[i] = (real)sum_bias[i];
    }
}

static void instance_norm(const kernel_args *a)
{
    double epsilon = ((const instance_norm_attrs *)a->attr)->epsilon;
    const real *x = a->in[0].data, *scale = a->in[1].data, *bias = a->in[2].data;
    real *y = a->out[0].data;
    layout l = layout_of(&a->in[0].sh), one = {1, 1, l.s};
    for (int64_t r = 0; r < l.n * l.c; r++) {
        double mean, var;
        channel_stats(x + r * l.s, one, 0, &mean, &var);
        channel_apply(x + r * l.s, NULL, y + r * l.s, one, 0, mean, var, epsilon, (double)scale[r % l.c],
                      (double)bias[r % l.c], NULL);
    }
}

/* ---- softmax: x as [outer, d, inner] ---- */

typedef void softmax_row(const real *p, const real *q, real *out, int64_t d, int64_t step);

static void each_row(const kernel_args *a, softmax_row *row)
{
    const shape *x = &a->in[0].sh;
    int axis = shape_axis(x, ((const axis_attrs *)a->attr)->axis);
    int64_t outer = 1, inner = 1, d = x->dim[axis];
    for (int i = 0; i < axis; i++)
        outer *= x->dim[i];
    for (int i = axis + 1; i < x->rank; i++)
        inner *= x->dim[i];
    const real *p = a->in[0].data, *q = a->n_in > 1 ? a->in[1].data : NULL;
    real *out = a->out[0].data;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++) {
            int64_t at = o * d * inner + i;
            row(p + at, q ? q + at : NULL, out + at, d, inner);
        }
}

/* The largest element and sum exp(x - largest). */
static void exp_sum(const real *x, int64_t d, int64_t step, double *max, double *sum)
{
    *max = -INFINITY;
    *sum = 0;
    for (int64_t i = 0; i < d; i++)
        *max = (double)x[i * step] > *max ? (double)x[i * step] : *max;
    for (int64_t i = 0; i < d; i++)
        *sum += exp((double)x[i * step] - *max);
}

static void softmax_one(const real *x, const real *none, real *y, int64_t d, int64_t step)
{
    (void)none;
    double max, sum;
    exp_sum(x, d, step, &max, &sum);
    for (int64_t i = 0; i < d; i++)
        y[i * step] = (real)(exp((double)x[i * step] - max) / sum);
}

static void log_softmax_one(const real *x, const real *none, real *y, int64_t d, int64_t step)
{
    (void)none;
    double max, sum;
    exp_sum(x, d, step, &max, &sum);
    for (int64_t i = 0; i < d; i++)
        y[i * step] = (real)((double)x[i * step] - max - log(sum));
}

static void softmax_grad_one(const real *dy, const real *y, real *dx, int64_t d, int64_t step)
{
    double dot = 0;
    for (int64_t i = 0; i < d; i++)
        dot += (double)dy[i * step] * (double)y[i * step];
    for (int64_t i = 0; i < d; i++)
        dx[i * step] = (real)((double)y[i * step] * ((double)dy[i * step] - dot));
}

static void log_softmax_grad_one(const real *dy, const real *y, real *dx, int64_t d, int64_t step)
{
    double sum = 0;
    for (int64_t i = 0; i < d; i++)
        sum += (double)dy[i * step];
    for (int64_t i = 0; i < d; i++)
        dx[i * step] = (real)((double)dy[i * step] - exp((double)y[i * step]) * sum);
}

static void softmax(const kernel_args *a)
{
    each_row(a, softmax_one);
}
static void log_softmax(const kernel_args *a)
{
    each_row(a, log_softmax_one);
}
static void softmax_grad(const kernel_args *a)
{
    each_row(a, softmax_grad_one);
}
static void log_softmax_grad(const kernel_args *a)
{
    each_row(a, log_softmax_grad_one);
}

KERNEL_TABLE(norm) = {
    {OP_BATCH_NORM, REAL_DTYPE, REAL_ISA, "batch_norm_ref", batch_norm},
    {OP_BATCH_NORM_TRAIN, REAL_DTYPE, REAL_ISA, "batch_norm_train_ref", batch_norm_train},
    {OP_BATCH_NORM_GRAD, REAL_DTYPE, REAL_ISA, "batch_norm_grad_ref", batch_norm_grad},
    {OP_BATCH_NORM_MOMENTS, REAL_DTYPE, REAL_ISA, "batch_norm_moments_ref", batch_norm_moments},
    {OP_BATCH_NORM_APPLY, REAL_DTYPE, REAL_ISA, "batch_norm_apply_ref", batch_norm_apply},
    {OP_BATCH_NORM_GRAD_APPLY, REAL_DTYPE, REAL_ISA, "batch_norm_grad_apply_ref", batch_norm_grad_apply},
    {OP_BATCH_NORM_STATS, REAL_DTYPE, REAL_ISA, "batch_norm_stats_ref", batch_norm_stats},
    {OP_LAYER_NORM, REAL_DTYPE, REAL_ISA, "layer_norm_ref", layer_norm},
    {OP_LAYER_NORM_GRAD, REAL_DTYPE, REAL_ISA, "layer_norm_grad_ref", layer_norm_grad, layer_norm_grad_work},
    {OP_INSTANCE_NORM, REAL_DTYPE, REAL_ISA, "instance_norm_ref", instance_norm},
    {OP_SOFTMAX, REAL_DTYPE, REAL_ISA, "softmax_ref", softmax},
    {OP_LOG_SOFTMAX, REAL_DTYPE, REAL_ISA, "log_softmax_ref", log_softmax},
    {OP_SOFTMAX_GRAD, REAL_DTYPE, REAL_ISA, "softmax_grad_ref", softmax_grad},
    {OP_LOG_SOFTMAX_GRAD, REAL_DTYPE, REAL_ISA, "log_softmax_grad_ref", log_softmax_grad},
    KERNEL_END,
};
