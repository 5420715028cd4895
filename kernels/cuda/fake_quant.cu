/* fake_quant.cu - FakeQuant, its gradient, its range and its cap; formulas in src/ops/fake_quant.c.
 *
 * The tensor is [outer, scales, inner] and is cut like the channels of a norm (channels.cuh): a block has elements of one
 * scale, or of 32 that lie beside each other. Divisions are IEEE's, so that integers are those of the CPU. Ranges and the sums for
 * a scale that learns are left by every piece, and joined in order by a second launch. */
#include "kernels/cuda/channels.cuh"

struct quant_args {
    const float *x, *dy, *scale, *zero; /* zero: NULL allowed */
    float *y, *lo, *hi, *dscale;        /* lo, hi, dscale: NULL allowed */
    float2 *part;                       /* [scales, pieces]: lo, hi; or the sum */
    float qmin, qmax, multiple, offset, scale_grad;
    int relu;
    channel_span s;
};

struct quantizer {
    float scale;     /* NaN when it is no positive finite number */
    float inverse;   /* 1 / scale where that is exact (powers of two), else 0 */
    float low, high; /* of q without the zero point: what clamping leaves */
    float below;     /* q under it was clamped: low, but for relu, whose zeros come of the relu */
};
__device__ static inline quantizer quantizer_of(const quant_args &g, const channel_spot &p)
{
    const int64_t c = p.there ? p.c : 0;
    const float scale = g.scale[c], zero = g.zero ? g.zero[c] : 0;
    const bool valid = scale > 0 && scale <= 3e38f;
    int exponent;
    quantizer q = {valid ? scale : NAN, 0, g.qmin - zero, g.qmax - zero, g.qmin - zero};
    if (valid && frexpf(scale, &exponent) == 0.5f && exponent > -100 && exponent < 100)
        q.inverse = 1 / scale;
    q.low = g.relu && q.low < 0 ? 0 : q.low;
    return q;
}
__device__ static inline float ratio_of(const quantizer &q, float x)
{
    return q.inverse != 0 ? x * q.inverse : x / q.scale;
}
__device__ static inline float rounded(const quant_args &g, float ratio)
{
    return g.multiple == 1 ? rintf(ratio) : rintf((ratio - g.offset) / g.multiple) * g.multiple + g.offset;
}
__device__ static inline float clamped(const quantizer &q, float r)
{
    r = r < q.low ? q.low : r; /* NaN stays */
    return r > q.high ? q.high : r;
}

/* Joins the range of `v`; a NaN stays. */
__device__ static inline void range_join(float2 &r, float low, float high)
{
    r.x = low < r.x || low != low ? low : r.x;
    r.y = high > r.y || high != high ? high : r.y;
}
/* Over the block's threads of each channel: every thread has it afterwards. */
template <bool COLUMNS> __device__ static inline float2 channel_range(float2 r, float2 *part)
{
    __syncthreads();
    part[threadIdx.x] = r;
    __syncthreads();
    for (int i = COLUMNS ? (int)(threadIdx.x & 31) : 0; i < CHANNEL_THREADS; i += COLUMNS ? 32 : 1)
        range_join(r, part[i].x, part[i].y);
    return r;
}
template <> __device__ inline float2 channel_range<false>(float2 r, float2 *part)
{
    for (int m = 16; m; m >>= 1) {
        const float low = __shfl_xor_sync(FULL_WARP, r.x, m), high = __shfl_xor_sync(FULL_WARP, r.y, m);
        range_join(r, low, high);
    }
    __syncthreads();
    if ((threadIdx.x & 31) == 0)
        part[threadIdx.x >> 5] = r;
    __syncthreads();
    for (int i = 0; i < CHANNEL_THREADS / 32; i++)
        range_join(r, part[i].x, part[i].y);
    return r;
}

/* PHASE_SUMS: rounds, and leaves ranges of the pieces; PHASE_BOTH: they are the result; PHASE_APPLY: no range is wanted. */
template <int V, bool COLUMNS, int PHASE> __global__ static void __launch_bounds__(CHANNEL_THREADS) fake_quant_kernel(quant_args g)
{
    __shared__ float2 part[CHANNEL_THREADS];
    const channel_spot p = channel_spot_of<COLUMNS>(g.s);
    const quantizer q = quantizer_of(g, p);
    float2 range = make_float2(0, 0);
    EACH_ITEM(k, g.s, p)
    {
        floats<V> v = floats_at<V>(g.x, k.at);
        for (int j = 0; j < V; j++) {
            const float x = g.relu && v.v[j] < 0 ? 0 : v.v[j];
            if (PHASE != PHASE_APPLY)
                range_join(range, x, x);
            v.v[j] = clamped(q, rounded(g, ratio_of(q, v.v[j]))) * q.scale;
        }
        floats_put<V>(g.y, k.at, v);
    }
    if (PHASE == PHASE_APPLY)
        return;
    range = channel_range<COLUMNS>(range, part);
    if (!p.there || p.t != 0)
        return;
    if (PHASE == PHASE_SUMS) {
        g.part[p.c * g.s.pieces + p.piece] = range;
        return;
    }
    if (g.lo)
        g.lo[p.c] = range.x;
    if (g.hi)
        g.hi[p.c] = range.y;
}

/* The result lies over x, which may be what dy is; PHASE as above, with the scale's sum for ranges. */
template <int V, bool COLUMNS, int PHASE> __global__ static void __launch_bounds__(CHANNEL_THREADS) fake_quant_grad_kernel(quant_args g)
{
    __shared__ float part[CHANNEL_THREADS];
    const channel_spot p = channel_spot_of<COLUMNS>(g.s);
    const quantizer q = quantizer_of(g, p);
    float sum = 0;
    EACH_ITEM(k, g.s, p)
    {
        const floats<V> v = floats_at<V>(g.x, k.at);
        floats<V> dy = floats_at<V>(g.dy, k.at);
        float some = 0;
        for (int j = 0; j < V; j++) {
            const float ratio = ratio_of(q, v.v[j]), r = rounded(g, ratio);
            const bool inside = r >= q.below && r <= q.high && !(g.relu && v.v[j] <= 0);
            if (PHASE != PHASE_APPLY)
                some += dy.v[j] * (inside ? r - ratio : clamped(q, r));
            dy.v[j] = inside ? dy.v[j] : 0;
        }
        sum += some;
        floats_put<V>(g.y, k.at, dy);
    }
    if (PHASE == PHASE_APPLY)
        return;
    sum = channel_sum<COLUMNS>(sum, part);
    if (!p.there || p.t != 0)
        return;
    if (PHASE == PHASE_SUMS)
        g.part[p.c * g.s.pieces + p.piece] = make_float2(sum, 0);
    else
        g.dscale[p.c] = g.scale_grad * sum;
}

/* A warp for each scale joins what its pieces left. */
__global__ static void __launch_bounds__(CUDA_THREADS) fake_quant_join(quant_args g)
{
    const int64_t c = (int64_t)blockIdx.x * (CUDA_THREADS / 32) + (threadIdx.x >> 5);
    const int lane = (int)(threadIdx.x & 31);
    if (c >= g.s.channels)
        return;
    const float2 *part = g.part + c * g.s.pieces;
    float2 range = make_float2(0, 0);
    float sum = 0;
    for (int i = lane; i < g.s.pieces; i += 32)
        if (g.dscale)
            sum += part[i].x;
        else
            range_join(range, part[i].x, part[i].y);
    if (g.dscale) {
        sum = warp_sum(sum);
        if (lane == 0)
            g.dscale[c] = g.scale_grad * sum;
        return;
    }
    for (int m = 16; m; m >>= 1) {
        const float low = __shfl_xor_sync(FULL_WARP, range.x, m), high = __shfl_xor_sync(FULL_WARP, range.y, m);
        range_join(range, low, high);
    }
    if (lane == 0 && g.lo)
        g.lo[c] = range.x;
    if (lane == 0 && g.hi)
        g.hi[c] = range.y;
}

static channel_span span_of(const kernel_args *a, int x, bool aligned)
{
    const fake_quant_attrs *at = (const fake_quant_attrs *)a->attr;
    const shape *sh = &a->in[x].sh, *scale = &a->in[x + 1].sh;
    int64_t outer = 1, inner = 1;
    if (shape_count(scale) == 1 && scale->rank == 0)
        return channel_span_of(1, 1, shape_count(sh), aligned);
    const int axis = shape_axis(sh, at->axis);
    for (int i = 0; i < axis; i++)
        outer *= sh->dim[i];
    for (int i = axis + 1; i < sh->rank; i++)
        inner *= sh->dim[i];
    return channel_span_of(outer, sh->dim[axis], inner, aligned);
}

static size_t work_of(const kernel_args *a, int x)
{
    const channel_span one = span_of(a, x, false), four = span_of(a, x, true);
    const int pieces = one.pieces > four.pieces ? one.pieces : four.pieces;
    return a->n_out > 1 && pieces > 1 ? (size_t)(one.channels * pieces) * sizeof(float2) : 0;
}
static size_t forward_work(const kernel_args *a)
{
    return work_of(a, 0);
}
static size_t backward_work(const kernel_args *a)
{
    return work_of(a, 1);
}

static quant_args quant_args_of(const kernel_args *a, int x)
{
    const fake_quant_attrs *at = (const fake_quant_attrs *)a->attr;
    return {.x = (const float *)a->in[x].data, .dy = NULL, .scale = (const float *)a->in[x + 1].data,
            .zero = x + 2 < a->n_in ? (const float *)a->in[x + 2].data : NULL, .y = (float *)a->out[0].data,
            .part = (float2 *)a->work, .qmin = (float)at->qmin, .qmax = (float)at->qmax, .multiple = (float)at->multiple,
            .offset = (float)at->offset, .scale_grad = (float)at->scale_grad, .relu = at->relu != 0};
}

static void join(const kernel_args *a, const quant_args *g)
{
    const int64_t blocks = (g->s.channels + CUDA_THREADS / 32 - 1) / (CUDA_THREADS / 32);
    LAUNCH(fake_quant_join, dim3((unsigned)blocks), CUDA_THREADS, 0, a->queue, *g);
}

static void forward_run(const kernel_args *a)
{
    quant_args g = quant_args_of(a, 0);
    g.lo = a->n_out > 1 ? (float *)a->out[1].data : NULL;
    g.hi = a->n_out > 2 ? (float *)a->out[2].data : NULL;
    g.s = span_of(a, 0, is_vector(g.x) && is_vector(g.y));
    if (!g.lo && !g.hi) {
        LAUNCH_CHANNELS(fake_quant_kernel, PHASE_APPLY, g.s, a->queue, g);
    } else if (g.s.pieces == 1) {
        LAUNCH_CHANNELS(fake_quant_kernel, PHASE_BOTH, g.s, a->queue, g);
    } else {
        LAUNCH_CHANNELS(fake_quant_kernel, PHASE_SUMS, g.s, a->queue, g);
        join(a, &g);
    }
}

static void backward_run(const kernel_args *a)
{
    quant_args g = quant_args_of(a, 1);
    g.dy = (const float *)a->in[0].data;
    g.dscale = a->n_out > 1 ? (float *)a->out[1].data : NULL;
    g.s = span_of(a, 1, is_vector(g.x) && is_vector(g.y) && is_vector(g.dy));
    if (!g.dscale) {
        LAUNCH_CHANNELS(fake_quant_grad_kernel, PHASE_APPLY, g.s, a->queue, g);
    } else if (g.s.pieces == 1) {
        LAUNCH_CHANNELS(fake_quant_grad_kernel, PHASE_BOTH, g.s, a->queue, g);
    } else {
        LAUNCH_CHANNELS(fake_quant_grad_kernel, PHASE_SUMS, g.s, a->queue, g);
        join(a, &g);
    }
}

/* ---- what a step does to ranges and weights ---- */

struct range_args {
    float *lo, *hi, *scale, *zero;
    const float *low, *high;
    int64_t n;
    double momentum, qmin, qmax;
    int fixed_zero;
};
__global__ static void fake_quant_range_kernel(range_args g)
{
    GRID_STRIDE(i, g.n)
    {
        if (!(fabsf(g.low[i]) < INFINITY) || !(fabsf(g.high[i]) < INFINITY))
            continue;
        const double m = g.momentum, l = (1 - m) * (double)g.lo[i] + m * (double)g.low[i];
        const double h = (1 - m) * (double)g.hi[i] + m * (double)g.high[i], z = (double)g.zero[i];
        double s = (h - l) / (g.qmax - g.qmin);
        g.lo[i] = (float)l;
        g.hi[i] = (float)h;
        if (g.fixed_zero) {
            const double up = g.qmax > z ? h / (g.qmax - z) : 0, down = z > g.qmin ? -l / (z - g.qmin) : 0;
            s = up > down ? up : down;
        }
        if (!(s >= 1.2e-38) || !(s < (double)INFINITY))
            continue;
        g.scale[i] = (float)s;
        if (!g.fixed_zero)
            g.zero[i] = (float)fmin(fmax(rint(g.qmin - l / s), g.qmin), g.qmax);
    }
}

static void range_run(const kernel_args *a)
{
    const fake_quant_attrs *at = (const fake_quant_attrs *)a->attr;
    const range_args g = {(float *)a->in[0].data, (float *)a->in[1].data, (float *)a->in[2].data, (float *)a->in[3].data,
                          (const float *)a->in[4].data, (const float *)a->in[5].data, shape_count(&a->in[0].sh),
                          at->momentum, at->qmin, at->qmax, at->fixed_zero != 0};
    LAUNCH(fake_quant_range_kernel, grid_for(a->queue, g.n, 1), CUDA_THREADS, 0, a->queue, g);
}

struct cap_args {
    float *x;
    const float *scale;
    int64_t scale_step; /* 0: one for all */
    float most;
    channel_span s;
};
/* One piece a channel, whatever its length: weights are small. */
template <int V, bool COLUMNS, int PHASE> __global__ static void __launch_bounds__(CHANNEL_THREADS) fake_quant_cap_kernel(cap_args g)
{
    __shared__ float part[CHANNEL_THREADS];
    const channel_spot p = channel_spot_of<COLUMNS>(g.s);
    float sum = 0;
    EACH_ITEM(k, g.s, p)
    {
        const floats<V> v = floats_at<V>(g.x, k.at);
        float some = 0;
        for (int j = 0; j < V; j++)
            some += fabsf(v.v[j]);
        sum += some;
    }
    sum = channel_sum<COLUMNS>(sum, part) / g.scale[p.there ? p.c * g.scale_step : 0];
    if (!(sum > g.most) || !(sum < INFINITY))
        return;
    const float factor = g.most / sum;
    EACH_ITEM(k, g.s, p)
    {
        floats<V> v = floats_at<V>(g.x, k.at);
        for (int j = 0; j < V; j++)
            v.v[j] *= factor;
        floats_put<V>(g.x, k.at, v);
    }
}

static void cap_run(const kernel_args *a)
{
    const fake_quant_attrs *at = (const fake_quant_attrs *)a->attr;
    const shape *sh = &a->in[0].sh;
    const int axis = shape_axis(sh, at->axis);
    int64_t outer = 1, inner = 1;
    for (int i = 0; i < sh->rank; i++)
        *(i < axis ? &outer : &inner) *= i == axis ? 1 : sh->dim[i];
    cap_args g = {(float *)a->in[0].data, (const float *)a->in[1].data, shape_count(&a->in[1].sh) > 1 ? 1 : 0, (float)at->qmax, {}};
    g.s = channel_span_of(outer, sh->dim[axis], inner, is_vector(g.x));
    g.s.pieces = 1;
    g.s.length = g.s.count;
    LAUNCH_CHANNELS(fake_quant_cap_kernel, PHASE_BOTH, g.s, a->queue, g);
}

CUDA_TABLE(fake_quant) = {
    {.op = OP_FAKE_QUANT, .type = DTYPE_F32, .name = "fake quant", .run = forward_run, .workspace = forward_work},
    {.op = OP_FAKE_QUANT_GRAD, .type = DTYPE_F32, .name = "fake quant grad", .run = backward_run, .workspace = backward_work},
    {.op = OP_FAKE_QUANT_RANGE, .type = DTYPE_F32, .name = "fake quant range", .run = range_run},
    {.op = OP_FAKE_QUANT_CAP, .type = DTYPE_F32, .name = "fake quant cap", .run = cap_run},
    KERNEL_END};
