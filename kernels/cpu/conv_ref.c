/* conv_ref.c - convolutions as their definitions read, one tap after the other (src/ops/conv.c has the formulas).
 *
 * The innermost loop runs along a row of windows, so that double precision is usable on real batches. */
#include "kernels/cpu/spatial.h"

#include <math.h>

/* What one tap does with a row of windows y and the row of data x below it (every step-th element). */
typedef void row_fn(real *y, real *x, real *w, int64_t count, int64_t step);

static void row_forward(real *y, real *x, real *w, int64_t count, int64_t step)
{
    for (int64_t i = 0; i < count; i++)
        y[i] += *w * x[i * step];
}
static void row_data(real *y, real *x, real *w, int64_t count, int64_t step)
{
    for (int64_t i = 0; i < count; i++)
        x[i * step] += *w * y[i];
}
static void row_weight(real *y, real *x, real *w, int64_t count, int64_t step)
{
    real sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += y[i] * x[i * step];
    *w += sum;
}

/* Calls `fn` for every tap of w and every row it touches, of one plane of windows y and one plane of data x. */
static inline void each_row(const spatial *s, real *y, real *x, real *w, row_fn *fn)
{
    for (int64_t kd = 0; kd < s->kernel[0]; kd++)
        for (int64_t kh = 0; kh < s->kernel[1]; kh++)
            for (int64_t kw = 0; kw < s->kernel[2]; kw++, w++) {
                range d = windows_of_tap(s, 0, kd), h = windows_of_tap(s, 1, kh), r = windows_of_tap(s, 2, kw);
                int64_t iw = r.begin * s->stride[2] + kw * s->dilation[2] - s->pad[2], count = r.end - r.begin;
                for (int64_t od = d.begin; count && od < d.end; od++)
                    for (int64_t oh = h.begin; oh < h.end; oh++) {
                        int64_t id = od * s->stride[0] + kd * s->dilation[0] - s->pad[0];
                        int64_t ih = oh * s->stride[1] + kh * s->dilation[1] - s->pad[1];
                        fn(y + (od * s->out[1] + oh) * s->out[2] + r.begin, x + (id * s->in[1] + ih) * s->in[2] + iw, w,
                           count, s->stride[2]);
                    }
            }
}

static void fill(real *y, int64_t count, real number)
{
    for (int64_t i = 0; i < count; i++)
        y[i] = number;
}

/* x [N, C, in], w [M, C/g, k], b [M], residual like y -> y [N, M, out] */
static void conv_forward(const kernel_args *a)
{
    const conv_attrs *at = a->attr;
    spatial s = conv_spatial(at, &a->in[0].sh, &a->out[0].sh);
    int64_t c = s.channels / s.group, m = s.outputs / s.group, in = spatial_in(&s), out = spatial_out(&s);
    real *x = a->in[0].data, *w = a->in[1].data, *y = a->out[0].data;
    const real *b = a->n_in > 2 ? a->in[2].data : NULL, *residual = a->n_in > 3 ? a->in[3].data : NULL;
#pragma omp parallel for num_threads(a->threads) schedule(static)
    for (int64_t p = 0; p < s.n * s.outputs; p++) {
        int64_t k = p % s.outputs, first = p / s.outputs * s.channels + k / m * c;
        fill(y + p * out, out, b ? b[k] : 0);
        for (int64_t j = 0; j < c; j++)
            each_row(&s, y + p * out, x + (first + j) * in, w + (k * c + j) * spatial_taps(&s), row_forward);
        for (int64_t i = p * out; i < (p + 1) * out; i++) {
            real v = residual ? y[i] + residual[i] : y[i];
            y[i] = at->relu && v < 0 ? 0 : v;
        }
    }
}

/* dy [N, M, out], w [M, C/g, k], b [C] -> dx [N, C, in]: ConvGradData, and ConvTranspose with its bias b */
static void conv_data(const kernel_args *a)
{
    spatial s = conv_spatial(a->attr, &a->out[0].sh, &a->in[0].sh);
    int64_t c = s.channels / s.group, m = s.outputs / s.group, in = spatial_in(&s), out = spatial_out(&s);
    real *dy = a->in[0].data, *w = a->in[1].data, *dx = a->out[0].data;
    const real *b = a->n_in > 2 ? a->in[2].data : NULL;
#pragma omp parallel for num_threads(a->threads) schedule(static)
    for (int64_t p = 0; p < s.n * s.channels; p++) {
        int64_t j = p % s.channels, first = j / c * m, image = p / s.channels * s.outputs;
        fill(dx + p * in, in, b ? b[j] : 0);
        for (int64_t k = first; k < first + m; k++)
            each_row(&s, dy + (image + k) * out, dx + p * in, w + (k * c + j % c) * spatial_taps(&s), row_data);
    }
}

/* x [N, C, in], dy [N, M, out] -> dw [M, C/g, k] */
static void conv_weight(const kernel_args *a)
{
    spatial s = conv_spatial(a->attr, &a->in[0].sh, &a->in[1].sh);
    int64_t c = s.channels / s.group, m = s.outputs / s.group, in = spatial_in(&s), out = spatial_out(&s);
    real *x = a->in[0].data, *dy = a->in[1].data, *dw = a->out[0].data;
#pragma omp parallel for num_threads(a->threads) schedule(static)
    for (int64_t p = 0; p < s.outputs * c; p++) {
        int64_t k = p / c, j = k / m * c + p % c;
        fill(dw + p * spatial_taps(&s), spatial_taps(&s), 0);
        for (int64_t i = 0; i < s.n; i++)
            each_row(&s, dy + (i * s.outputs + k) * out, x + (i * s.channels + j) * in, dw + p * spatial_taps(&s),
                     row_weight);
    }
}

/* NormConv, NormConvGradWeight: the same with the norm of x, made in the workspace; operands mean, var, scale, bias [C]
 * from `first` on. */
static void run_normed(const kernel_args *a, int first, void (*run)(const kernel_args *a))
{
    enum { MOST = 4 };
    const conv_attrs *at = a->attr;
    const real *x = a->in[0].data, *mean = a->in[first].data, *var = a->in[first + 1].data, *scale = a->in[first + 2].data,
               *bias = a->in[first + 3].data;
    int64_t planes = a->in[0].sh.dim[0] * a->in[0].sh.dim[1], channels = a->in[0].sh.dim[1];
    int64_t pixels = planes ? shape_count(&a->in[0].sh) / planes : 0;
    kernel_tensor in[MOST];
    kernel_args b = *a;
    real *y = a->work;
    for (int64_t p = 0; p < planes; p++) {
        int64_t c = p % channels;
        double each = (double)scale[c] / sqrt((double)var[c] + at->norm_epsilon);
        for (int64_t i = p * pixels; i < (p + 1) * pixels; i++) {
            double v = ((double)x[i] - (double)mean[c]) * each + (double)bias[c];
            v = at->norm_relu && v < 0 ? 0 : v;
            y[i] = (real)(at->norm_relu && at->norm_ceiling > 0 && v > at->norm_ceiling ? at->norm_ceiling : v);
        }
    }
    for (int i = 0; i < first; i++)
        in[i] = a->in[i];
    in[0].data = y;
    b.in = in;
    b.n_in = first;
    run(&b);
}

static void norm_conv(const kernel_args *a)
{
    run_normed(a, 4, conv_forward);
}
static void norm_conv_weight(const kernel_args *a)
{
    run_normed(a, 2, conv_weight);
}
/* ConvMoments: one of the two, then mean and variance of what was made. */
static void conv_moments(const kernel_args *a)
{
    const shape *s = &a->out[0].sh;
    const real *y = a->out[0].data;
    real *mean = a->out[1].data, *var = a->out[2].data;
    int64_t channels = s->dim[1], pixels = shape_count(s) / (s->dim[0] * channels);
    double count = (double)(s->dim[0] * pixels);
    a->n_in > 4 ? norm_conv(a) : conv_forward(a);
    for (int64_t c = 0; c < channels; c++) {
        double sum = 0, square = 0;
        for (int64_t n = 0; n < s->dim[0]; n++)
            for (int64_t i = 0; i < pixels; i++)
                sum += (double)y[(n * channels + c) * pixels + i];
        for (int64_t n = 0; n < s->dim[0]; n++)
            for (int64_t i = 0; i < pixels; i++) {
                double d = (double)y[(n * channels + c) * pixels + i] - sum / count;
                square += d * d;
            }
        mean[c] = (real)(sum / count);
        var[c] = (real)(square / count);
    }
}
/* ConvGradDataSums: ConvGradData, then the mask and the sums. */
static void conv_data_sums(const kernel_args *a)
{
    const conv_attrs *at = a->attr;
    const shape *s = &a->out[0].sh;
    const real *x = a->in[2].data, *scale = a->in[3].data, *mean = a->in[4].data, *var = a->in[5].data,
               *bias = a->n_in > 6 ? a->in[6].data : NULL;
    real *g = a->out[0].data, *dscale = a->out[1].data, *dbias = a->out[2].data;
    int64_t channels = s->dim[1], pixels = shape_count(s) / (s->dim[0] * channels);
    kernel_args plain = *a;
    plain.n_in = 2;
    conv_data(&plain);
    for (int64_t c = 0; c < channels; c++) {
        double inv = 1 / sqrt((double)var[c] + at->norm_epsilon), sum = 0, sum_xhat = 0;
        for (int64_t n = 0; n < s->dim[0]; n++)
            for (int64_t i = (n * channels + c) * pixels; i < (n * channels + c + 1) * pixels; i++) {
                double xhat = ((double)x[i] - (double)mean[c]) * inv, y = xhat * (double)scale[c] + (bias ? (double)bias[c] : 0);
                if (at->norm_relu && (!(y > 0) || (at->norm_ceiling > 0 && !(y < at->norm_ceiling))))
                    g[i] = 0;
                sum += (double)g[i];
                sum_xhat += (double)g[i] * xhat;
            }
        dscale[c] = (real)sum_xhat;
        dbias[c] = (real)sum;
    }
}
static size_t norm_workspace(const kernel_args *a)
{
    return (size_t)shape_count(&a->in[0].sh) * sizeof(real);
}

KERNEL_TABLE(conv) = {
    {OP_CONV, REAL_DTYPE, REAL_ISA, "conv_ref", conv_forward, NULL, NULL},
    {OP_CONV_GRAD_DATA, REAL_DTYPE, REAL_ISA, "conv_grad_data_ref", conv_data, NULL, NULL},
    {OP_CONV_GRAD_WEIGHT, REAL_DTYPE, REAL_ISA, "conv_grad_weight_ref", conv_weight, NULL, NULL},
    {OP_CONV_TRANSPOSE, REAL_DTYPE, REAL_ISA, "conv_transpose_ref", conv_data, NULL, NULL},
    {OP_NORM_CONV, REAL_DTYPE, REAL_ISA, "norm_conv_ref", norm_conv, norm_workspace},
    {OP_NORM_CONV_GRAD_WEIGHT, REAL_DTYPE, REAL_ISA, "norm_conv_grad_weight_ref", norm_conv_weight, norm_workspace},
    {OP_CONV_MOMENTS, REAL_DTYPE, REAL_ISA, "conv_moments_ref", conv_moments, norm_workspace},
    {OP_CONV_GRAD_DATA_SUMS, REAL_DTYPE, REAL_ISA, "conv_grad_data_sums_ref", conv_data_sums},
    KERNEL_END};
