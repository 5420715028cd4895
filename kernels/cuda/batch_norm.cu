/* batch_norm.cu - batch norm in inference and training, its gradient and its running statistics; formulas in src/ops/norm.c.
 *
 * x is [n, c, s]. Statistics are taken of d = x - pivot, the pivot being the channel's first element, so that numbers far from
 * zero lose nothing; every thread joins mean and squares of a few elements at a time (Chan, Golub, LeVeque 1983), so that no
 * difference of large sums is taken. A channel of up to CHANNEL_ALONE elements is one block's, which sums and applies in one
 * launch; else one launch leaves the sums of pieces in the workspace and the next one joins them and applies. */
#include "kernels/cuda/channels.cuh"

static channel_span span_of(const shape *x, bool aligned)
{
    int64_t s = 1;
    for (int i = 2; i < x->rank; i++)
        s *= x->dim[i];
    return channel_span_of(x->dim[0], x->dim[1], s, aligned);
}
static const float *input(const kernel_args *a, int i)
{
    return i < a->n_in ? (const float *)a->in[i].data : NULL;
}
static float *output(const kernel_args *a, int i)
{
    return i < a->n_out ? (float *)a->out[i].data : NULL;
}

/* What follows the norm: y = min(max(y, 0), ceiling). */
struct after_norm {
    int relu;
    float ceiling; /* inf: none */
};
static after_norm after_norm_of(const batch_norm_attrs *at)
{
    return {at->relu != 0, at->relu && at->ceiling > 0 ? (float)at->ceiling : INFINITY};
}
__device__ static inline float follow(const after_norm &f, float v)
{
    if (f.relu && v < 0)
        v = 0;
    return v > f.ceiling ? f.ceiling : v;
}
__device__ static inline bool flat(const after_norm &f, float y)
{
    return f.relu && (!(y > 0) || !(y < f.ceiling));
}

/* ---- inference ---- */

struct infer_args {
    const float *x, *scale, *bias, *mean, *var, *residual; /* residual: NULL allowed */
    float *y;
    int64_t n, places, channels; /* n and places in items */
    float epsilon;
    after_norm after;
};

/* INDEX: what the elements are counted with; 64 bits are slow to divide. */
template <int V, class INDEX> __global__ static void batch_norm_kernel(infer_args g)
{
    GRID_STRIDE(i, g.n)
    {
        const INDEX row = (INDEX)i / (INDEX)g.places, c = row % (INDEX)g.channels;
        const float mean = g.mean[c], factor = g.scale[c] / sqrtf(g.var[c] + g.epsilon), bias = g.bias[c];
        floats<V> v = floats_at<V>(g.x, i), more = {};
        if (g.residual)
            more = floats_at<V>(g.residual, i);
        for (int j = 0; j < V; j++)
            v.v[j] = follow(g.after, (v.v[j] - mean) * factor + bias + more.v[j]);
        floats_put<V>(g.y, i, v);
    }
}

static void infer_any(const kernel_args *a, const float *residual)
{
    const batch_norm_attrs *at = (const batch_norm_attrs *)a->attr;
    infer_args g = {.x = input(a, 0), .scale = input(a, 1), .bias = input(a, 2), .mean = input(a, 3), .var = input(a, 4),
                    .residual = residual, .y = output(a, 0), .n = shape_count(&a->in[0].sh), .places = 1,
                    .channels = a->in[0].sh.dim[1], .epsilon = (float)at->epsilon, .after = after_norm_of(at)};
    if (g.n == 0)
        return;
    for (int i = 2; i < a->in[0].sh.rank; i++)
        g.places *= a->in[0].sh.dim[i];
    const bool narrow = g.n < (int64_t)1 << 31;
    if (narrow && g.places % 4 == 0 && is_vector(g.x) && is_vector(g.y) && is_vector(residual)) {
        g.n /= 4;
        g.places /= 4;
        LAUNCH((batch_norm_kernel<4, uint32_t>), grid_for(a->queue, g.n, 1), CUDA_THREADS, 0, a->queue, g);
    } else if (narrow) {
        LAUNCH((batch_norm_kernel<1, uint32_t>), grid_for(a->queue, g.n, 2), CUDA_THREADS, 0, a->queue, g);
    } else {
        LAUNCH((batch_norm_kernel<1, uint64_t>), grid_for(a->queue, g.n, 2), CUDA_THREADS, 0, a->queue, g);
    }
}

static void infer_run(const kernel_args *a)
{
    infer_any(a, NULL);
}
static void apply_run(const kernel_args *a)
{
    infer_any(a, input(a, 5));
}

/* ---- statistics of the batch, and what is done with them ---- */

struct moments {
    float n, mean, m2; /* elements, their mean, sum of squared distances from it */
};
__device__ static inline void moments_join(moments &a, const moments &b)
{
    const float n = a.n + b.n, delta = b.mean - a.mean, share = b.n / n;
    a.m2 += b.m2 + delta * delta * a.n * share;
    a.mean += delta * share;
    a.n = n;
}

struct train_args {
    const float *x, *residual, *scale, *bias;
    float *y, *mean, *var; /* y: NULL when only the statistics are wanted; mean, var: NULL allowed */
    const float *old_mean, *old_var; /* not NULL: mean = keep * old_mean + (1 - keep) * the batch's */
    float4 *part;                    /* [channels, pieces]: pivot, mean, m2, n */
    float epsilon, keep;
    after_norm after;
    channel_span s;
};

#define BUNCH 4 /* items whose moments are taken at once */

template <int V, bool COLUMNS> __device__ static inline moments thread_moments(const train_args &g, const channel_spot &p, float pivot)
{
    moments all = {0, 0, 0};
    channel_cursor k = channel_begin<COLUMNS>(g.s, p);
    while (k.item < k.end) {
        floats<V> d[BUNCH];
        moments some = {0, 0, 0};
        int got = 0;
        for (int u = 0; u < BUNCH; u++)
            if (k.item < k.end) {
                d[u] = floats_at<V>(g.x, k.at);
                channel_next<COLUMNS>(g.s, k);
                got++;
            }
        some.n = (float)(got * V);
        for (int u = 0; u < BUNCH; u++)
            for (int j = 0; j < V && u < got; j++)
                some.mean += d[u].v[j] -= pivot;
        some.mean /= some.n;
        for (int u = 0; u < BUNCH; u++)
            for (int j = 0; j < V && u < got; j++)
                some.m2 += (d[u].v[j] - some.mean) * (d[u].v[j] - some.mean);
        moments_join(all, some);
    }
    return all;
}

/* Of the block's piece. */
template <int V, bool COLUMNS> __device__ static inline moments piece_moments(const train_args &g, const channel_spot &p, float pivot, float *part)
{
    const int64_t from = (int64_t)p.piece * g.s.length, to = from + g.s.length < g.s.count ? from + g.s.length : g.s.count;
    const moments own = thread_moments<V, COLUMNS>(g, p, pivot);
    moments all = {(float)((to - from) * V), 0, 0};
    all.mean = channel_sum<COLUMNS>(own.n * own.mean, part) / all.n;
    const float off = own.mean - all.mean;
    all.m2 = channel_sum<COLUMNS>(own.n > 0 ? own.m2 + own.n * off * off : 0, part);
    return all;
}

template <bool COLUMNS> __device__ static inline moments join_pieces(const train_args &g, const channel_spot &p)
{
    const float4 *part = g.part + (p.there ? p.c : 0) * g.s.pieces;
    moments all = {0, 0, 0};
    EACH_PIECE(i, g.s)
    {
        all.n += part[i].w;
        all.mean += part[i].w * part[i].y;
    }
    all.n = over_pieces<COLUMNS>(all.n);
    all.mean = over_pieces<COLUMNS>(all.mean) / all.n;
    EACH_PIECE(i, g.s)
        all.m2 += part[i].z + part[i].w * (part[i].y - all.mean) * (part[i].y - all.mean);
    all.m2 = over_pieces<COLUMNS>(all.m2);
    return all;
}

template <int V, bool COLUMNS, int PHASE> __global__ static void __launch_bounds__(CHANNEL_THREADS) batch_norm_train_kernel(train_args g)
{
    __shared__ float part[CHANNEL_THREADS];
    const channel_spot p = channel_spot_of<COLUMNS>(g.s);
    float4 *const left = g.part + (p.there ? p.c : 0) * g.s.pieces;
    float pivot = 0;
    moments m;
    if (PHASE & PHASE_SUMS) {
        pivot = p.there ? g.x[p.c * g.s.places * V] : 0; /* before anything is written over it: channel_sum waits for all */
        m = piece_moments<V, COLUMNS>(g, p, pivot, part);
        if (PHASE == PHASE_SUMS) {
            if (p.there && p.t == 0)
                left[p.piece] = make_float4(pivot, m.mean, m.m2, m.n);
            return;
        }
    } else {
        pivot = left[0].x;
        m = join_pieces<COLUMNS>(g, p);
    }
    const float var = m.m2 / m.n;
    if (p.writes && g.mean)
        g.mean[p.c] = g.old_mean ? g.keep * g.old_mean[p.c] + (1 - g.keep) * (pivot + m.mean) : pivot + m.mean;
    if (p.writes && g.var)
        g.var[p.c] = g.old_var ? g.keep * g.old_var[p.c] + (1 - g.keep) * var : var;
    if (!g.y || !p.there)
        return;
    const float factor = g.scale[p.c] / sqrtf(var + g.epsilon), shift = g.bias[p.c] - m.mean * factor;
    EACH_ITEM(k, g.s, p)
    {
        floats<V> v = floats_at<V>(g.x, k.at), r;
        if (g.residual)
            r = floats_at<V>(g.residual, k.at);
        for (int j = 0; j < V; j++) {
            const float y = (v.v[j] - pivot) * factor + shift;
            v.v[j] = follow(g.after, g.residual ? y + r.v[j] : y);
        }
        floats_put<V>(g.y, k.at, v);
    }
}

static size_t train_work(const kernel_args *a)
{
    const channel_span one = span_of(&a->in[0].sh, false), four = span_of(&a->in[0].sh, true);
    const int pieces = one.pieces > four.pieces ? one.pieces : four.pieces;
    return pieces > 1 ? (size_t)a->in[0].sh.dim[1] * (size_t)pieces * sizeof(float4) : 0;
}

static void train_with(const kernel_args *a, train_args *g)
{
    g->x = input(a, 0);
    g->part = (float4 *)a->work;
    g->s = span_of(&a->in[0].sh, is_vector(g->x) && is_vector(g->y) && is_vector(g->residual));
    if (g->s.pieces == 1) {
        LAUNCH_CHANNELS(batch_norm_train_kernel, PHASE_BOTH, g->s, a->queue, *g);
        return;
    }
    LAUNCH_CHANNELS(batch_norm_train_kernel, PHASE_SUMS, g->s, a->queue, *g);
    LAUNCH_CHANNELS(batch_norm_train_kernel, PHASE_APPLY, g->s, a->queue, *g);
}

static void train_run(const kernel_args *a)
{
    const batch_norm_attrs *at = (const batch_norm_attrs *)a->attr;
    train_args g = {.residual = input(a, 3), .scale = input(a, 1), .bias = input(a, 2), .y = output(a, 0),
                    .mean = output(a, 1), .var = output(a, 2), .epsilon = (float)at->epsilon, .after = after_norm_of(at)};
    train_with(a, &g);
}

static void batch_norm_run(const kernel_args *a)
{
    const batch_norm_attrs *at = (const batch_norm_attrs *)a->attr;
    if (!at->training_mode) {
        infer_run(a);
        return;
    }
    train_args g = {.scale = input(a, 1), .bias = input(a, 2), .y = output(a, 0), .mean = output(a, 1), .var = output(a, 2),
                    .old_mean = input(a, 3), .old_var = input(a, 4), .epsilon = (float)at->epsilon,
                    .keep = (float)at->momentum, .after = after_norm_of(at)};
    train_with(a, &g);
}

static void moments_run(const kernel_args *a)
{
    train_args g = {.mean = output(a, 0), .var = output(a, 1)};
    train_with(a, &g);
}

/* ---- gradient ---- */

struct grad_args {
    const float *dy, *x, *scale, *mean, *var, *y, *shift; /* y, shift: NULL allowed */
    float *dx, *dscale, *dbias, *dresidual;               /* all but dx: NULL allowed */
    float2 *part;                                         /* [channels, pieces]: sum dy, sum dy * xhat */
    float epsilon, count;                                 /* count: 0 when the statistics are constants */
    after_norm after;
    channel_span s;
};

/* Of one item: dy where the relu is not flat, and xhat. */
template <int V> __device__ static inline void grad_item(const grad_args &g, int64_t at, float mean, float inv, float scale,
                                                         float shift, floats<V> &dy, floats<V> &xhat)
{
    dy = floats_at<V>(g.dy, at);
    xhat = floats_at<V>(g.x, at);
    for (int j = 0; j < V; j++)
        xhat.v[j] = (xhat.v[j] - mean) * inv;
    if (!g.after.relu)
        return;
    floats<V> y;
    if (g.shift)
        for (int j = 0; j < V; j++)
            y.v[j] = xhat.v[j] * scale + shift;
    else
        y = floats_at<V>(g.y, at);
    for (int j = 0; j < V; j++)
        dy.v[j] = flat(g.after, y.v[j]) ? 0 : dy.v[j];
}

template <int V, bool COLUMNS, int PHASE> __global__ static void __launch_bounds__(CHANNEL_THREADS) batch_norm_grad_kernel(grad_args g)
{
    __shared__ float part[CHANNEL_THREADS];
    const channel_spot p = channel_spot_of<COLUMNS>(g.s);
    const int64_t c = p.there ? p.c : 0;
    const float mean = g.mean[c], inv = 1 / sqrtf(g.var[c] + g.epsilon), scale = g.scale[c], shift = g.shift ? g.shift[c] : 0;
    float2 *const left = g.part + c * g.s.pieces;
    float sum = 0, sum_xhat = 0;
    if (PHASE & PHASE_SUMS) {
        EACH_ITEM(k, g.s, p)
        {
            floats<V> dy, xhat;
            float some = 0, some_xhat = 0;
            grad_item<V>(g, k.at, mean, inv, scale, shift, dy, xhat);
            for (int j = 0; j < V; j++) {
                some += dy.v[j];
                some_xhat += dy.v[j] * xhat.v[j];
            }
            sum += some;
            sum_xhat += some_xhat;
        }
        sum = channel_sum<COLUMNS>(sum, part);
        sum_xhat = channel_sum<COLUMNS>(sum_xhat, part);
        if (PHASE == PHASE_SUMS) {
            if (p.there && p.t == 0)
                left[p.piece] = make_float2(sum, sum_xhat);
            return;
        }
    } else {
        EACH_PIECE(i, g.s)
        {
            sum += left[i].x;
            sum_xhat += left[i].y;
        }
        sum = over_pieces<COLUMNS>(sum);
        sum_xhat = over_pieces<COLUMNS>(sum_xhat);
    }
    if (p.writes && g.dscale)
        g.dscale[c] = sum_xhat;
    if (p.writes && g.dbias)
        g.dbias[c] = sum;
    const float even = g.count > 0 ? sum / g.count : 0, slope = g.count > 0 ? sum_xhat / g.count : 0, factor = scale * inv;
    EACH_ITEM(k, g.s, p)
    {
        floats<V> dy, xhat;
        grad_item<V>(g, k.at, mean, inv, scale, shift, dy, xhat);
        if (g.dresidual)
            floats_put<V>(g.dresidual, k.at, dy);
        for (int j = 0; j < V; j++)
            dy.v[j] = factor * (dy.v[j] - even - xhat.v[j] * slope);
        floats_put<V>(g.dx, k.at, dy);
    }
}

static size_t grad_work(const kernel_args *a)
{
    const channel_span one = span_of(&a->in[1].sh, false), four = span_of(&a->in[1].sh, true);
    const int pieces = one.pieces > four.pieces ? one.pieces : four.pieces;
    return pieces > 1 ? (size_t)a->in[1].sh.dim[1] * (size_t)pieces * sizeof(float2) : 0;
}

static void grad_run(const kernel_args *a)
{
    const batch_norm_attrs *at = (const batch_norm_attrs *)a->attr;
    const shape *x = &a->in[1].sh;
    grad_args g = {.dy = input(a, 0), .x = input(a, 1), .scale = input(a, 2), .mean = input(a, 3), .var = input(a, 4),
                   .y = input(a, 5), .shift = input(a, 6), .dx = output(a, 0), .dscale = output(a, 1),
                   .dbias = output(a, 2), .dresidual = output(a, 3), .part = (float2 *)a->work,
                   .epsilon = (float)at->epsilon, .after = after_norm_of(at)};
    if (at->training_mode)
        g.count = (float)(x->dim[1] ? shape_count(x) / x->dim[1] : 0);
    g.s = span_of(x, is_vector(g.dy) && is_vector(g.x) && is_vector(g.y) && is_vector(g.dx) && is_vector(g.dresidual));
    if (g.s.pieces == 1) {
        LAUNCH_CHANNELS(batch_norm_grad_kernel, PHASE_BOTH, g.s, a->queue, g);
        return;
    }
    LAUNCH_CHANNELS(batch_norm_grad_kernel, PHASE_SUMS, g.s, a->queue, g);
    LAUNCH_CHANNELS(batch_norm_grad_kernel, PHASE_APPLY, g.s, a->queue, g);
}

/* BatchNormGradApply: of given sums. */
__global__ static void grad_apply_kernel(const grad_args g, int64_t n, int64_t places, int64_t channels)
{
    GRID_STRIDE(i, n)
    {
        const int64_t c = i / places % channels;
        const float inv = 1 / sqrtf(g.var[c] + g.epsilon);
        float v = g.dy[i];
        if (g.count > 0)
            v -= g.dbias[c] / g.count + (g.x[i] - g.mean[c]) * inv * g.dscale[c] / g.count;
        g.dx[i] = g.scale[c] * inv * v;
    }
}
static void grad_apply_run(const kernel_args *a)
{
    const batch_norm_attrs *at = (const batch_norm_attrs *)a->attr;
    const shape *x = &a->in[1].sh;
    const int64_t n = shape_count(x), channels = x->dim[1], each = channels ? n / channels : 0;
    const grad_args g = {.dy = input(a, 0), .x = input(a, 1), .scale = input(a, 2), .mean = input(a, 3), .var = input(a, 4),
                         .dx = output(a, 0), .dscale = (float *)a->in[5].data, .dbias = (float *)a->in[6].data,
                         .epsilon = (float)at->epsilon, .count = at->training_mode ? (float)each : 0};
    if (n)
        LAUNCH(grad_apply_kernel, grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, g, n, each / x->dim[0], channels);
}

/* ---- running statistics ---- */

__global__ static void batch_norm_stats_kernel(float *running_mean, float *running_var, const float *mean, const float *var,
                                               int64_t n, float momentum, float factor)
{
    GRID_STRIDE(c, n)
    {
        if (!(fabsf(mean[c]) < INFINITY) || !(fabsf(var[c]) < INFINITY))
            continue;
        running_mean[c] += momentum * (mean[c] - running_mean[c]);
        running_var[c] += momentum * (factor * var[c] - running_var[c]);
    }
}

static void stats_run(const kernel_args *a)
{
    const batch_norm_attrs *at = (const batch_norm_attrs *)a->attr;
    const double n = (double)at->count;
    const float factor = at->unbiased && at->count > 1 ? (float)(n / (n - 1)) : 1;
    const int64_t count = shape_count(&a->in[0].sh);
    LAUNCH(batch_norm_stats_kernel, grid_for(a->queue, count, 1), CUDA_THREADS, 0, a->queue, (float *)a->in[0].data,
           (float *)a->in[1].data, input(a, 2), input(a, 3), count, (float)at->momentum, factor);
}

CUDA_TABLE(batch_norm) = {
    {.op = OP_BATCH_NORM, .type = DTYPE_F32, .name = "batch norm", .run = batch_norm_run, .workspace = train_work},
    {.op = OP_BATCH_NORM_TRAIN, .type = DTYPE_F32, .name = "batch norm train", .run = train_run, .workspace = train_work},
    {.op = OP_BATCH_NORM_MOMENTS, .type = DTYPE_F32, .name = "batch norm moments", .run = moments_run, .workspace = train_work},
    {.op = OP_BATCH_NORM_APPLY, .type = DTYPE_F32, .name = "batch norm apply", .run = apply_run},
    {.op = OP_BATCH_NORM_GRAD, .type = DTYPE_F32, .name = "batch norm grad", .run = grad_run, .workspace = grad_work},
    {.op = OP_BATCH_NORM_GRAD_APPLY, .type = DTYPE_F32, .name = "batch norm grad apply", .run = grad_apply_run},
    {.op = OP_BATCH_NORM_STATS, .type = DTYPE_F32, .name = "batch norm stats", .run = stats_run},
    KERNEL_END};
