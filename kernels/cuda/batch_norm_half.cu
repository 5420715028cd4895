/* batch_norm_half.cu - batch norm on images in float16 or bfloat16, channels last (last.cuh); formulas in src/ops/norm.c.
 * Statistics, scales and sums are float32.
 *
 * Statistics of pieces of the rows are taken by joining mean and squares of a few rows at a time (Chan, Golub, LeVeque 1983),
 * so that no difference of large sums is taken; a second launch joins the pieces in a fixed order, a third one applies. Where
 * one piece is all, its block writes the statistics itself. The gradient goes the same way. */
#include "kernels/cuda/half_norm.cuh"
#include "kernels/cuda/last.cuh"
#include "kernels/cuda/moments.cuh"

#define JOIN_CHANNELS 8                               /* of a block that joins pieces */
#define JOIN_LINES    (LAST_THREADS / JOIN_CHANNELS) /* pieces that it reads at once */

static const float *number_in(const kernel_args *a, int i)
{
    return i < a->n_in ? (const float *)a->in[i].data : NULL;
}
static float *number_out(const kernel_args *a, int i)
{
    return i < a->n_out ? (float *)a->out[i].data : NULL;
}
template <class T> static const T *image_in(const kernel_args *a, int i)
{
    return i < a->n_in ? (const T *)a->in[i].data : NULL;
}
template <class T> static T *image_out(const kernel_args *a, int i)
{
    return i < a->n_out ? (T *)a->out[i].data : NULL;
}

static after_norm after_norm_of(const kernel_args *a)
{
    const batch_norm_attrs *at = (const batch_norm_attrs *)a->attr;
    return after_norm_as(a->in[0].type, at->relu != 0, at->ceiling);
}

/* ---- statistics of the batch ---- */

/* Over the lines of a block, in line 0. part: (2 V + 1) LAST_THREADS floats. */
template <int V> __device__ static inline void moments_join_lines(moments<V> &m, float *part, int line, int lines, int width)
{
    for (int n = lines, half; n > 1; n = half) {
        half = (n + 1) / 2;
        __syncthreads();
        if (line >= half && line < n) {
            part[threadIdx.x] = m.n;
            UNROLL
            for (int j = 0; j < V; j++) {
                part[(2 * j + 1) * LAST_THREADS + threadIdx.x] = m.mean[j];
                part[(2 * j + 2) * LAST_THREADS + threadIdx.x] = m.m2[j];
            }
        }
        __syncthreads();
        if (line + half < n) {
            const int from = (int)threadIdx.x + half * width;
            moments<V> other;
            other.n = part[from];
            UNROLL
            for (int j = 0; j < V; j++) {
                other.mean[j] = part[(2 * j + 1) * LAST_THREADS + from];
                other.m2[j] = part[(2 * j + 2) * LAST_THREADS + from];
            }
            moments_join(m, other);
        }
    }
}

/* Where statistics go. */
struct stats_args {
    float *mean, *var;               /* [C], NULL allowed */
    const float *old_mean, *old_var; /* not NULL: mean = keep * old_mean + (1 - keep) * the batch's */
    float keep;
    float2 *batch;      /* [C]: mean and variance of the batch, for what is applied */
    float2 *part;       /* [pieces, C]: mean, m2 */
};
__device__ static inline void write_stats(const stats_args &g, int64_t c, float mean, float var)
{
    g.batch[c] = make_float2(mean, var);
    if (g.mean)
        g.mean[c] = g.old_mean ? g.keep * g.old_mean[c] + (1 - g.keep) * mean : mean;
    if (g.var)
        g.var[c] = g.old_var ? g.keep * g.old_var[c] + (1 - g.keep) * var : var;
}

#define BUNCH 4 /* rows whose moments are taken at once */

template <class T, int V>
__global__ static void __launch_bounds__(LAST_THREADS) half_moments_kernel(const T *x, const stats_args g, const last_span s)
{
    __shared__ float part[(2 * V + 1) * LAST_THREADS];
    const last_spot p = last_spot_of(s);
    moments<V> all = {};
    for (int64_t row = p.row; row < p.end; row += (int64_t)BUNCH * s.lines) {
        pack<T, V> d[BUNCH];
        moments<V> some = {};
        int got = 0;
        UNROLL
        for (int u = 0; u < BUNCH; u++) {
            const int64_t at = row + (int64_t)u * s.lines;
            if (at < p.end) {
                d[u] = item_load<T, V>(x, at * s.columns + p.column);
                got++;
            }
        }
        some.n = (float)got;
        const float each = 1 / some.n;
        UNROLL
        for (int j = 0; j < V; j++) {
            UNROLL
            for (int u = 0; u < BUNCH; u++)
                some.mean[j] += u < got ? as_float(d[u].at[j]) : 0;
            some.mean[j] *= each;
            UNROLL
            for (int u = 0; u < BUNCH; u++) {
                const float off = u < got ? as_float(d[u].at[j]) - some.mean[j] : 0;
                some.m2[j] += off * off;
            }
        }
        moments_join(all, some);
    }
    moments_join_lines(all, part, p.line, s.lines, s.width);
    if (!p.there || p.line)
        return;
    for (int j = 0; j < V; j++) {
        const int64_t c = (int64_t)p.column * V + j;
        if (s.pieces == 1)
            write_stats(g, c, all.mean[j], all.m2[j] / all.n);
        else
            g.part[p.piece * s.columns * V + c] = make_float2(all.mean[j], all.m2[j]);
    }
}

/* The pieces of JOIN_CHANNELS channels a block. */
__global__ static void __launch_bounds__(LAST_THREADS)
half_moments_join_kernel(const stats_args g, int64_t channels, int pieces, int64_t length, int64_t rows)
{
    __shared__ float part[3 * LAST_THREADS];
    const int64_t c = (int64_t)blockIdx.x * JOIN_CHANNELS + threadIdx.x % JOIN_CHANNELS;
    const int line = (int)threadIdx.x / JOIN_CHANNELS;
    moments<1> all = {};
    for (int i = line; i < pieces && c < channels; i += JOIN_LINES) {
        const float2 one = g.part[(int64_t)i * channels + c];
        const int64_t n = rows - i * length < length ? rows - i * length : length;
        const moments<1> m = {(float)n, {one.x}, {one.y}};
        moments_join(all, m);
    }
    moments_join_lines(all, part, line, JOIN_LINES, JOIN_CHANNELS);
    if (line == 0 && c < channels)
        write_stats(g, c, all.mean[0], all.m2[0] / all.n);
}

static dim3 join_grid(int64_t channels)
{
    return dim3((unsigned)((channels + JOIN_CHANNELS - 1) / JOIN_CHANNELS));
}

/* The workspace: results of the channels [C], then of pieces [pieces, C], all float2. */
static size_t half_norm_work(const shape *x)
{
    const last_span eight = last_span_of(last_rows(x), x->dim[1], 8), one = last_span_of(last_rows(x), x->dim[1], 1);
    const int pieces = one.pieces > eight.pieces ? one.pieces : eight.pieces;
    return (size_t)x->dim[1] * (size_t)(pieces + 1) * sizeof(float2);
}
static size_t train_work(const kernel_args *a)
{
    return half_norm_work(&a->in[0].sh);
}
static size_t grad_work(const kernel_args *a)
{
    return half_norm_work(&a->in[1].sh);
}

template <class T> static void take_stats(const kernel_args *a, stats_args g)
{
    const shape *sh = &a->in[0].sh;
    const int64_t channels = sh->dim[1], rows = last_rows(sh);
    const T *x = (const T *)a->in[0].data;
    const int v = last_vector(channels, is_vector(x));
    const last_span s = last_span_of(rows, channels, v);
    g.part = g.batch + channels;
    if (v == 8)
        LAUNCH((half_moments_kernel<T, 8>), last_grid(&s), LAST_THREADS, 0, a->queue, x, g, s);
    else
        LAUNCH((half_moments_kernel<T, 1>), last_grid(&s), LAST_THREADS, 0, a->queue, x, g, s);
    if (s.pieces > 1)
        LAUNCH(half_moments_join_kernel, join_grid(channels), LAST_THREADS, 0, a->queue, g, channels, s.pieces, s.length, rows);
}

/* ---- the norm ---- */

template <class T> struct apply_args {
    const T *x, *residual;
    T *y;
    const float *scale, *bias, *mean, *var;
    const float2 *batch; /* not NULL: instead of mean and var */
    float epsilon;
    after_norm after;
};

template <class T, int V> __global__ static void __launch_bounds__(LAST_THREADS) half_norm_kernel(const apply_args<T> g, const last_span s)
{
    const last_spot p = last_spot_of(s);
    float factor[V], shift[V];
    if (!p.there)
        return;
    UNROLL
    for (int j = 0; j < V; j++) {
        const int c = p.column * V + j;
        const float2 batch = g.batch ? g.batch[c] : make_float2(g.mean[c], g.var[c]);
        factor[j] = g.scale[c] / sqrtf(batch.y + g.epsilon);
        shift[j] = g.bias[c] - batch.x * factor[j];
    }
    for (int64_t row = p.row; row < p.end; row += (int64_t)BUNCH * s.lines) {
        pack<T, V> v[BUNCH], r[BUNCH];
        UNROLL
        for (int u = 0; u < BUNCH; u++) {
            const int64_t own = row + (int64_t)u * s.lines, at = own * s.columns + p.column;
            if (own < p.end) {
                v[u] = item_load<T, V>(g.x, at);
                if (g.residual)
                    r[u] = item_load<T, V>(g.residual, at);
            }
        }
        UNROLL
        for (int u = 0; u < BUNCH; u++) {
            const int64_t own = row + (int64_t)u * s.lines;
            if (own >= p.end)
                break;
            UNROLL
            for (int j = 0; j < V; j++) {
                const float y = as_float(v[u].at[j]) * factor[j] + shift[j];
                v[u].at[j] = from_float<T>(follow(g.after, g.residual ? y + as_float(r[u].at[j]) : y));
            }
            item_store<T, V>(g.y, own * s.columns + p.column, v[u]);
        }
    }
}

template <class T> static void apply(const kernel_args *a, apply_args<T> g)
{
    const batch_norm_attrs *at = (const batch_norm_attrs *)a->attr;
    const shape *sh = &a->in[0].sh;
    g.x = (const T *)a->in[0].data;
    g.y = (T *)a->out[0].data;
    g.scale = number_in(a, 1);
    g.bias = number_in(a, 2);
    g.epsilon = (float)at->epsilon;
    g.after = after_norm_of(a);
    const int v = last_vector(sh->dim[1], is_vector(g.x) && is_vector(g.y) && is_vector(g.residual));
    const last_span s = last_span_of(last_rows(sh), sh->dim[1], v);
    if (v == 8)
        LAUNCH((half_norm_kernel<T, 8>), last_grid(&s), LAST_THREADS, 0, a->queue, g, s);
    else
        LAUNCH((half_norm_kernel<T, 1>), last_grid(&s), LAST_THREADS, 0, a->queue, g, s);
}

template <class T> static void train_run(const kernel_args *a)
{
    float2 *batch = (float2 *)a->work;
    take_stats<T>(a, {.mean = number_out(a, 1), .var = number_out(a, 2), .batch = batch});
    apply<T>(a, {.residual = image_in<T>(a, 3), .batch = batch});
}

template <class T> static void norm_run(const kernel_args *a)
{
    const batch_norm_attrs *at = (const batch_norm_attrs *)a->attr;
    float2 *batch = (float2 *)a->work;
    if (!at->training_mode) {
        apply<T>(a, {.mean = number_in(a, 3), .var = number_in(a, 4)});
        return;
    }
    take_stats<T>(a, {.mean = number_out(a, 1), .var = number_out(a, 2), .old_mean = number_in(a, 3), .old_var = number_in(a, 4),
                      .keep = (float)at->momentum, .batch = batch});
    apply<T>(a, {.batch = batch});
}

template <class T> static void apply_run(const kernel_args *a)
{
    apply<T>(a, {.residual = image_in<T>(a, 5), .mean = number_in(a, 3), .var = number_in(a, 4)});
}

template <class T> static void moments_run(const kernel_args *a)
{
    take_stats<T>(a, {.mean = number_out(a, 0), .var = number_out(a, 1), .batch = (float2 *)a->work});
}

/* ---- gradient ---- */

template <class T> struct grad_args {
    const T *dy, *x, *y; /* y: NULL where it is not read */
    T *dx, *dresidual;   /* dresidual: NULL allowed */
    const float *scale, *mean, *var, *shift;
    float *dscale, *dbias; /* NULL allowed where they are not read */
    float2 *sums;          /* [C]: sum dy, sum dy * xhat; NULL: dbias and dscale are these */
    float2 *part;          /* [pieces, C]: sum dy, sum dy * (x - mean) */
    float epsilon, count;  /* count: 0 when the statistics are constants */
    after_norm after;
};
/* Of one item. */
template <class T, int V> struct grad_item {
    pack<T, V> dy, x, y;
};
template <class T, int V> __device__ static inline grad_item<T, V> grad_item_at(const grad_args<T> &g, int64_t at)
{
    grad_item<T, V> k;
    k.dy = item_load<T, V>(g.dy, at);
    k.x = item_load<T, V>(g.x, at);
    if (g.y)
        k.y = item_load<T, V>(g.y, at);
    return k;
}
/* dy of channel j where the relu is not flat. far: x - mean; the norm of x is far * factor + shift. */
template <class T, int V>
__device__ static inline float live_dy(const grad_args<T> &g, const grad_item<T, V> &k, int j, float far, float factor, float shift)
{
    const float dy = as_float(k.dy.at[j]);
    if (!g.after.relu)
        return dy;
    const float y = g.y ? as_float(k.y.at[j]) : far * factor + shift;
    return y > 0 && y < (g.y ? g.after.top : g.after.ceiling) ? dy : 0;
}

#define GRAD_BUNCH 2 /* items a thread reads at once */

template <class T> __device__ static inline void write_sums(const grad_args<T> &g, int64_t c, float sum, float sum_far)
{
    const float sum_xhat = sum_far / sqrtf(g.var[c] + g.epsilon);
    g.sums[c] = make_float2(sum, sum_xhat);
    if (g.dbias)
        g.dbias[c] = sum;
    if (g.dscale)
        g.dscale[c] = sum_xhat;
}

template <class T, int V> __global__ static void __launch_bounds__(LAST_THREADS) half_grad_sums_kernel(const grad_args<T> g, const last_span s)
{
    __shared__ float part[2 * V * LAST_THREADS];
    const last_spot p = last_spot_of(s);
    float mean[V], factor[V], shift[V], sum[2 * V] = {};
    UNROLL
    for (int j = 0; j < V; j++) {
        const int c = p.there ? p.column * V + j : 0;
        mean[j] = g.mean[c];
        factor[j] = g.scale[c] / sqrtf(g.var[c] + g.epsilon);
        shift[j] = g.shift ? g.shift[c] : 0;
    }
    for (int64_t row = p.row; row < p.end; row += (int64_t)GRAD_BUNCH * s.lines) {
        grad_item<T, V> k[GRAD_BUNCH];
        UNROLL
        for (int u = 0; u < GRAD_BUNCH; u++) {
            const int64_t own = row + (int64_t)u * s.lines;
            if (own < p.end)
                k[u] = grad_item_at<T, V>(g, own * s.columns + p.column);
        }
        UNROLL
        for (int u = 0; u < GRAD_BUNCH; u++) {
            UNROLL
            for (int j = 0; j < V && row + (int64_t)u * s.lines < p.end; j++) {
                const float far = as_float(k[u].x.at[j]) - mean[j], dy = live_dy(g, k[u], j, far, factor[j], shift[j]);
                sum[2 * j] += dy;
                sum[2 * j + 1] += dy * far;
            }
        }
    }
    join_lines<sums, 2 * V>(sum, part, p.line, s.lines, s.width);
    if (!p.there || p.line)
        return;
    for (int j = 0; j < V; j++) {
        const int64_t c = (int64_t)p.column * V + j;
        if (s.pieces == 1)
            write_sums(g, c, sum[2 * j], sum[2 * j + 1]);
        else
            g.part[p.piece * s.columns * V + c] = make_float2(sum[2 * j], sum[2 * j + 1]);
    }
}

template <class T> __global__ static void __launch_bounds__(LAST_THREADS) half_grad_join_kernel(const grad_args<T> g, int64_t channels, int pieces)
{
    __shared__ float part[2 * LAST_THREADS];
    const int64_t c = (int64_t)blockIdx.x * JOIN_CHANNELS + threadIdx.x % JOIN_CHANNELS;
    const int line = (int)threadIdx.x / JOIN_CHANNELS;
    float sum[2] = {};
    for (int i = line; i < pieces && c < channels; i += JOIN_LINES) {
        const float2 one = g.part[(int64_t)i * channels + c];
        sum[0] += one.x;
        sum[1] += one.y;
    }
    join_lines<sums, 2>(sum, part, line, JOIN_LINES, JOIN_CHANNELS);
    if (line == 0 && c < channels)
        write_sums(g, c, sum[0], sum[1]);
}

/* dx = factor * dy - even - (x - mean) * slope */
template <class T, int V> __global__ static void __launch_bounds__(LAST_THREADS) half_grad_kernel(const grad_args<T> g, const last_span s)
{
    const last_spot p = last_spot_of(s);
    float mean[V], factor[V], shift[V], even[V] = {}, slope[V] = {};
    if (!p.there)
        return;
    UNROLL
    for (int j = 0; j < V; j++) {
        const int c = p.column * V + j;
        const float inv = 1 / sqrtf(g.var[c] + g.epsilon);
        mean[j] = g.mean[c];
        factor[j] = g.scale[c] * inv;
        shift[j] = g.shift ? g.shift[c] : 0;
        if (g.count > 0) {
            const float2 sums = g.sums ? g.sums[c] : make_float2(g.dbias[c], g.dscale[c]);
            even[j] = factor[j] * sums.x / g.count;
            slope[j] = factor[j] * inv * sums.y / g.count;
        }
    }
    for (int64_t row = p.row; row < p.end; row += (int64_t)GRAD_BUNCH * s.lines) {
        grad_item<T, V> k[GRAD_BUNCH];
        UNROLL
        for (int u = 0; u < GRAD_BUNCH; u++) {
            const int64_t own = row + (int64_t)u * s.lines;
            if (own < p.end)
                k[u] = grad_item_at<T, V>(g, own * s.columns + p.column);
        }
        UNROLL
        for (int u = 0; u < GRAD_BUNCH; u++) {
            const int64_t own = row + (int64_t)u * s.lines, at = own * s.columns + p.column;
            if (own >= p.end)
                break;
            UNROLL
            for (int j = 0; j < V; j++) {
                const float far = as_float(k[u].x.at[j]) - mean[j], dy = live_dy(g, k[u], j, far, factor[j], shift[j]);
                k[u].dy.at[j] = from_float<T>(dy);
                k[u].x.at[j] = from_float<T>(factor[j] * dy - even[j] - far * slope[j]);
            }
            if (g.dresidual)
                item_store<T, V>(g.dresidual, at, k[u].dy);
            item_store<T, V>(g.dx, at, k[u].x);
        }
    }
}

template <class T, int V> static void grad_by(const kernel_args *a, const grad_args<T> &g, const last_span &s)
{
    const int64_t channels = a->in[1].sh.dim[1];
    if (g.sums && (g.count > 0 || g.dscale || g.dbias)) {
        LAUNCH((half_grad_sums_kernel<T, V>), last_grid(&s), LAST_THREADS, 0, a->queue, g, s);
        if (s.pieces > 1)
            LAUNCH((half_grad_join_kernel<T>), join_grid(channels), LAST_THREADS, 0, a->queue, g, channels, s.pieces);
    }
    LAUNCH((half_grad_kernel<T, V>), last_grid(&s), LAST_THREADS, 0, a->queue, g, s);
}

template <class T> static void grad_with(const kernel_args *a, grad_args<T> g)
{
    const shape *x = &a->in[1].sh;
    if (((const batch_norm_attrs *)a->attr)->training_mode)
        g.count = (float)last_rows(x);
    const int v = last_vector(x->dim[1], is_vector(g.dy) && is_vector(g.x) && is_vector(g.y) && is_vector(g.dx) && is_vector(g.dresidual));
    const last_span s = last_span_of(last_rows(x), x->dim[1], v);
    if (v == 8)
        grad_by<T, 8>(a, g, s);
    else
        grad_by<T, 1>(a, g, s);
}

template <class T> static void grad_run(const kernel_args *a)
{
    const batch_norm_attrs *at = (const batch_norm_attrs *)a->attr;
    grad_args<T> g = {.dy = image_in<T>(a, 0), .x = image_in<T>(a, 1), .y = image_in<T>(a, 5), .dx = image_out<T>(a, 0),
                      .dresidual = image_out<T>(a, 3), .scale = number_in(a, 2), .mean = number_in(a, 3), .var = number_in(a, 4),
                      .shift = number_in(a, 6), .dscale = number_out(a, 1), .dbias = number_out(a, 2), .sums = (float2 *)a->work,
                      .epsilon = (float)at->epsilon, .after = after_norm_of(a)};
    g.part = g.sums + a->in[1].sh.dim[1];
    if (g.shift)
        g.y = NULL;
    grad_with<T>(a, g);
}

/* BatchNormGradApply: dy is 0 already where the relu is flat. */
template <class T> static void grad_apply_run(const kernel_args *a)
{
    const batch_norm_attrs *at = (const batch_norm_attrs *)a->attr;
    grad_with<T>(a, {.dy = image_in<T>(a, 0), .x = image_in<T>(a, 1), .dx = image_out<T>(a, 0), .scale = number_in(a, 2),
                     .mean = number_in(a, 3), .var = number_in(a, 4), .dscale = (float *)a->in[5].data, .dbias = (float *)a->in[6].data,
                     .epsilon = (float)at->epsilon});
}

static bool takes_any(const kernel_args *a)
{
    return shape_count(&a->in[0].sh) > 0;
}

#define NORM_ROWS(E, T)                                                                                                \
    {.op = OP_BATCH_NORM, .type = DTYPE_##E, .name = "batch norm " #E, .run = norm_run<T>, .workspace = train_work,    \
     .takes = takes_any, .blocked_in = 1, .blocked_out = 1},                                                           \
    {.op = OP_BATCH_NORM_TRAIN, .type = DTYPE_##E, .name = "batch norm train " #E, .run = train_run<T>,                \
     .workspace = train_work, .takes = takes_any, .blocked_in = 1 | 1 << 3, .blocked_out = 1},                         \
    {.op = OP_BATCH_NORM_APPLY, .type = DTYPE_##E, .name = "batch norm apply " #E, .run = apply_run<T>, .takes = takes_any, \
     .blocked_in = 1 | 1 << 5, .blocked_out = 1},                                                                      \
    {.op = OP_BATCH_NORM_MOMENTS, .type = DTYPE_##E, .name = "batch norm moments " #E, .run = moments_run<T>,          \
     .workspace = train_work, .takes = takes_any, .blocked_in = 1},                                                    \
    {.op = OP_BATCH_NORM_GRAD, .type = DTYPE_##E, .name = "batch norm grad " #E, .run = grad_run<T>,                   \
     .workspace = grad_work, .takes = takes_any, .blocked_in = 1 | 1 << 1 | 1 << 5, .blocked_out = 1 | 1 << 3},        \
    {.op = OP_BATCH_NORM_GRAD_APPLY, .type = DTYPE_##E, .name = "batch norm grad apply " #E, .run = grad_apply_run<T>, \
     .takes = takes_any, .blocked_in = 1 | 1 << 1, .blocked_out = 1},

CUDA_TABLE(batch_norm_half) = {NORM_ROWS(F16, __half) NORM_ROWS(BF16, __nv_bfloat16) KERNEL_END};
