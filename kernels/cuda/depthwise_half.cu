/* depthwise_half.cu - convolutions of groups with one channel (src/ops/conv.c has the formulas) of float16 and bfloat16 images
 * that lie channels last, and their gradients with respect to the data (the weight's: depthwise_half_weight.cu); weights, bias and
 * sums are float32.
 *
 * They move more than they compute. A thread has eight neighbouring channels (16 bytes); a block has a slab of up to 64, whose
 * weights it keeps in shared memory by taps. Square kernels of 3, 5 and 7 with stride 1 or 2 are done in strips of four windows
 * of a row, so that data are read once for several of them; other kernels a window at a time; channels that are no multiple of
 * eight, or that have several outputs each, an element at a time. NormConv (half_norm.cuh): strips alone. */
#include "kernels/cuda/depthwise_half.cuh"
#include "kernels/cuda/moments.cuh"

#define COUNTED_BLOCKS 2048 /* that make moments or sums, about */

/* What a kernel makes besides: moments of what it wrote (ConvMoments); the sums of the norm behind it (ConvGradDataSums). */
typedef enum half_extra { NOTHING, MOMENTS, SUMS } half_extra;

/* The weights of the block's slab, [taps][slab * 8]. Ends behind a barrier. */
__device__ static inline void bring_weights(float *to, const half_depth &c)
{
    const int first = (int)blockIdx.y * c.slab * 8, wide = c.slab * 8, have = c.s.channels - first < wide ? c.s.channels - first : wide;
    for (int i = (int)threadIdx.x; i < have * c.taps; i += CUDA_THREADS) {
        const int channel = i / c.taps, t = i - channel * c.taps;
        to[(c.flipped ? c.taps - 1 - t : t) * wide + channel] = c.w[(int64_t)first * c.taps + i];
    }
    __syncthreads();
}
/* Eight weights of a tap. */
__device__ static inline void eight_of(float (&v)[8], const float *w)
{
    const float4 a = reinterpret_cast<const float4 *>(w)[0], b = reinterpret_cast<const float4 *>(w)[1];
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
    v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
}
/* y = max(sum + bias + residual, 0); at: of the first of eight channels. sum becomes what was written. */
template <class E> __device__ static inline void finish_eight(const half_depth &c, float (&sum)[8], int64_t at, int channel)
{
    float more[8] = {};
    if (c.residual)
        eight_at<E>(more, c.residual, at);
    UNROLL
    for (int j = 0; j < 8; j++) {
        sum[j] += c.bias ? c.bias[channel + j] : 0;
        sum[j] += more[j];
        sum[j] = c.relu && sum[j] < 0 ? 0 : sum[j];
    }
    const uint4 packed = half_pack<E>(sum);
    *reinterpret_cast<uint4 *>((E *)c.y + at) = packed;
    half_unpack<E>(sum, packed);
}

/* ---- moments of what was written ---- */

/* Of the strip's first `windows` ones, taken at once. */
__device__ static inline void count_strip(moments<8> &all, const float (&v)[STRIP][8], int windows)
{
    const float each = 1 / (float)windows;
    moments<8> some = {};
    some.n = (float)windows;
    UNROLL
    for (int j = 0; j < 8; j++) {
        UNROLL
        for (int o = 0; o < STRIP; o++)
            some.mean[j] += o < windows ? v[o][j] : 0;
        some.mean[j] *= each;
        UNROLL
        for (int o = 0; o < STRIP; o++) {
            const float off = o < windows ? v[o][j] - some.mean[j] : 0;
            some.m2[j] += off * off;
        }
    }
    moments_join(all, some);
}
/* The block's. To be called by all threads. */
__device__ static inline void leave_moments(const half_depth &c, moments<8> &m)
{
    constexpr int WARPS = CUDA_THREADS / 32;
    __shared__ float part[WARPS][3][PIECES * 8];
    const int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x / 32, k = (int)threadIdx.x, channel = (int)blockIdx.y * c.slab * 8 + k;
    moments_join_lanes(m, c.slab);
    if (lane < c.slab) {
        UNROLL
        for (int j = 0; j < 8; j++) {
            part[warp][0][lane * 8 + j] = m.n;
            part[warp][1][lane * 8 + j] = m.mean[j];
            part[warp][2][lane * 8 + j] = m.m2[j];
        }
    }
    __syncthreads();
    if (k >= c.slab * 8 || channel >= c.s.channels)
        return;
    moments<1> all = {};
    for (int w = 0; w < WARPS; w++) {
        const moments<1> one = {part[w][0][k], {part[w][1][k]}, {part[w][2][k]}};
        moments_join(all, one);
    }
    c.part[(int64_t)channel * gridDim.x + blockIdx.x] = make_float2(all.mean[0], all.m2[0]);
    if (channel == 0)
        c.counts[blockIdx.x] = all.n;
}

/* ---- sums of the norm behind ---- */

struct half_sums {
    float sum[8], far[8];
};
/* Of the slab's channels mean, factor and bias, [3][PIECES * 8]. */
__device__ static inline float *slab_facts()
{
    __shared__ float4 space[3 * PIECES * 2];
    return reinterpret_cast<float *>(space);
}
/* To be called by all threads, before bring_weights. */
__device__ static inline void bring_facts(const half_depth &c)
{
    float *const facts = slab_facts();
    const int k = (int)threadIdx.x, channel = (int)blockIdx.y * c.slab * 8 + k;
    if (k >= c.slab * 8 || channel >= c.s.channels)
        return;
    const norm_facts one = norm_facts_of(c.behind, channel);
    facts[k] = one.mean;
    facts[PIECES * 8 + k] = one.factor;
    facts[2 * PIECES * 8 + k] = one.bias;
}
/* The gradient of eight channels, facts of which stand from `of` on: v where the relu is not flat. */
template <class E>
__device__ static inline void finish_summed(const half_depth &c, float (&v)[8], int64_t at, const float *of, half_sums &sums)
{
    float far[8], factor[8], bias[8];
    eight_at<E>(far, c.behind.x, at);
    eight_of(factor, of);
    UNROLL
    for (int j = 0; j < 8; j++)
        far[j] -= factor[j];
    eight_of(factor, of + PIECES * 8);
    eight_of(bias, of + 2 * PIECES * 8);
    UNROLL
    for (int j = 0; j < 8; j++)
        v[j] = norm_lives(far[j], factor[j], bias[j], c.behind.ceiling) ? v[j] : 0;
    const uint4 packed = half_pack<E>(v);
    *reinterpret_cast<uint4 *>((E *)c.y + at) = packed;
    half_unpack<E>(v, packed);
    UNROLL
    for (int j = 0; j < 8; j++) {
        sums.sum[j] += v[j];
        sums.far[j] += v[j] * far[j];
    }
}
/* The block's. To be called by all threads. */
__device__ static inline void leave_sums(const half_depth &c, half_sums &sums)
{
    constexpr int WARPS = CUDA_THREADS / 32;
    __shared__ float part[WARPS][2][PIECES * 8];
    const int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x / 32, k = (int)threadIdx.x, channel = (int)blockIdx.y * c.slab * 8 + k;
    for (int m = 16; m >= c.slab; m >>= 1) {
        UNROLL
        for (int j = 0; j < 8; j++) {
            sums.sum[j] += __shfl_xor_sync(FULL_WARP, sums.sum[j], m);
            sums.far[j] += __shfl_xor_sync(FULL_WARP, sums.far[j], m);
        }
    }
    if (lane < c.slab) {
        UNROLL
        for (int j = 0; j < 8; j++) {
            part[warp][0][lane * 8 + j] = sums.sum[j];
            part[warp][1][lane * 8 + j] = sums.far[j];
        }
    }
    __syncthreads();
    if (k >= c.slab * 8 || channel >= c.s.channels)
        return;
    float2 all = make_float2(0, 0);
    for (int w = 0; w < WARPS; w++) {
        all.x += part[w][0][k];
        all.y += part[w][1][k];
    }
    c.behind.part[(int64_t)channel * c.behind.most + blockIdx.x] = all;
}

/* ---- strips; block y is a slab. MOMENTS: where c.part is there; N: the norm of x ---- */

template <class E, int K, int S, half_extra EXTRA, class N>
__global__ static void __launch_bounds__(CUDA_THREADS) half_strip_kernel(const __grid_constant__ half_depth c)
{
    constexpr int SPAN = (STRIP - 1) * S + K;
    __shared__ float4 space[K * K * PIECES * 2];
    float *const weights = reinterpret_cast<float *>(space);
    const int piece = (int)threadIdx.x & (c.slab - 1), channel = ((int)blockIdx.y * c.slab + piece) * 8, each = CUDA_THREADS / c.slab;
    const float *const own = weights + piece * 8;
    const bool there = channel < c.s.channels;
    moments<8> all = {};
    norm_eight norm = {};
    half_sums sums = {};
    if (N::IS && there)
        norm = norms_at(c, channel);
    if constexpr (EXTRA == SUMS)
        bring_facts(c);
    bring_weights(weights, c);
    for (int64_t item = (int64_t)blockIdx.x * each + threadIdx.x / c.slab; there && item < c.count; item += (int64_t)gridDim.x * each) {
        int strip, row, line = divide((int)item, c.strips, &strip);
        const int image = divide(line, c.rows, &row), y0 = row * S - c.s.pad[1], x0 = strip * STRIP * S - c.s.pad[2];
        float sum[STRIP][8] = {};
        UNROLL
        for (int r = 0; r < K; r++) {
            if ((unsigned)(y0 + r) >= (unsigned)c.s.in[1])
                continue;
            const int64_t from = ((int64_t)image * c.s.in[1] + y0 + r) * c.s.in[2];
            UNROLL
            for (int i = 0; i < SPAN; i++) {
                float x[8];
                if ((unsigned)(x0 + i) >= (unsigned)c.s.in[2])
                    continue;
                eight_in<E, N>(x, c, norm, (from + x0 + i) * c.s.channels + channel);
                UNROLL
                for (int o = 0; o < STRIP; o++)
                    if (i - o * S >= 0 && i - o * S < K) {
                        float w[8];
                        eight_of(w, own + (r * K + i - o * S) * c.slab * 8);
                        UNROLL
                        for (int j = 0; j < 8; j++)
                            sum[o][j] += w[j] * x[j];
                    }
            }
        }
        UNROLL
        for (int o = 0; o < STRIP; o++)
            if (strip * STRIP + o < c.s.out[2]) {
                const int64_t at = ((int64_t)line * c.s.out[2] + strip * STRIP + o) * c.s.channels + channel;
                if constexpr (EXTRA == SUMS)
                    finish_summed<E>(c, sum[o], at, slab_facts() + piece * 8, sums);
                else
                    finish_eight<E>(c, sum[o], at, channel);
            }
        if (EXTRA == MOMENTS && c.part)
            count_strip(all, sum, c.s.out[2] - strip * STRIP < STRIP ? c.s.out[2] - strip * STRIP : STRIP);
    }
    if constexpr (EXTRA == MOMENTS) {
        if (c.part)
            leave_moments(c, all);
    }
    if constexpr (EXTRA == SUMS)
        leave_sums(c, sums);
}

/* ---- any kernel, a window (a pixel of the data) at a time; block y is a slab ---- */

/* The first tap of axis i that may lie at pixel `at`, and from one such to the next. */
__device__ static inline int first_tap(const conv_sizes &s, int i, int at)
{
    return s.dilation[i] == 1 && s.stride[i] > 1 ? (at + s.pad[i]) % s.stride[i] : 0;
}
__device__ static inline int next_tap(const conv_sizes &s, int i)
{
    return s.dilation[i] == 1 ? s.stride[i] : 1;
}
/* The window of axis i whose tap t lies at pixel `at`; -1: none. */
__device__ static inline int window_at(const conv_sizes &s, int i, int at, int t)
{
    const int from = at + s.pad[i] - t * s.dilation[i];
    if (from < 0 || (s.stride[i] > 1 && from % s.stride[i]))
        return -1;
    const int o = s.stride[i] > 1 ? from / s.stride[i] : from;
    return o < s.out[i] ? o : -1;
}

/* DATA: x are gradients of windows, y of the data. SUMMED: with the sums of the norm behind. */
template <class E, bool DATA, bool SUMMED>
__global__ static void __launch_bounds__(CUDA_THREADS) half_eight_kernel(const __grid_constant__ half_depth c)
{
    SHARED_DYNAMIC(float, weights);
    const conv_sizes &s = c.s;
    const int piece = (int)threadIdx.x & (c.slab - 1), channel = ((int)blockIdx.y * c.slab + piece) * 8, each = CUDA_THREADS / c.slab;
    const float *const own = weights + piece * 8;
    const bool there = channel < s.channels;
    half_sums sums = {};
    if constexpr (SUMMED)
        bring_facts(c);
    bring_weights(weights, c);
    for (int64_t item = (int64_t)blockIdx.x * each + threadIdx.x / c.slab; there && item < c.count; item += (int64_t)gridDim.x * each) {
        int px, py, pz, rest = divide((int)item, c.strips, &px);
        rest = divide(rest, c.rows, &py);
        const int64_t image = divide(rest, c.deep, &pz);
        const int first_d = DATA ? first_tap(s, 0, pz) : 0, first_h = DATA ? first_tap(s, 1, py) : 0, first_w = DATA ? first_tap(s, 2, px) : 0;
        float sum[8] = {};
        for (int d = first_d; d < s.kernel[0]; d += DATA ? next_tap(s, 0) : 1) {
            const int z = DATA ? window_at(s, 0, pz, d) : pz * s.stride[0] - s.pad[0] + d * s.dilation[0];
            if ((unsigned)z >= (unsigned)(DATA ? s.out[0] : s.in[0]))
                continue;
            for (int h = first_h; h < s.kernel[1]; h += DATA ? next_tap(s, 1) : 1) {
                const int y = DATA ? window_at(s, 1, py, h) : py * s.stride[1] - s.pad[1] + h * s.dilation[1];
                if ((unsigned)y >= (unsigned)(DATA ? s.out[1] : s.in[1]))
                    continue;
                const int64_t line = DATA ? ((image * s.out[0] + z) * s.out[1] + y) * s.out[2] : ((image * s.in[0] + z) * s.in[1] + y) * s.in[2];
                for (int w = first_w; w < s.kernel[2]; w += DATA ? next_tap(s, 2) : 1) {
                    const int x = DATA ? window_at(s, 2, px, w) : px * s.stride[2] - s.pad[2] + w * s.dilation[2];
                    float v[8], f[8];
                    if ((unsigned)x >= (unsigned)(DATA ? s.out[2] : s.in[2]))
                        continue;
                    eight_at<E>(v, c.x, (line + x) * s.channels + channel);
                    eight_of(f, own + ((d * s.kernel[1] + h) * s.kernel[2] + w) * c.slab * 8);
                    UNROLL
                    for (int j = 0; j < 8; j++)
                        sum[j] += f[j] * v[j];
                }
            }
        }
        if constexpr (SUMMED)
            finish_summed<E>(c, sum, item * s.channels + channel, slab_facts() + piece * 8, sums);
        else
            finish_eight<E>(c, sum, item * s.channels + channel, channel);
    }
    if constexpr (SUMMED)
        leave_sums(c, sums);
}

/* ---- an element at a time ---- */

template <class E> __global__ static void half_one_kernel(const __grid_constant__ half_depth c)
{
    const conv_sizes &s = c.s;
    const int each = s.outputs / s.channels;
    GRID_STRIDE(i, c.count * s.outputs)
    {
        const int64_t item = i / s.outputs;
        const int k = (int)(i - item * s.outputs);
        int px, py, pz, rest = divide((int)item, c.strips, &px);
        rest = divide(rest, c.rows, &py);
        const int64_t image = divide(rest, c.deep, &pz);
        const float *tap = c.w + (int64_t)k * c.taps;
        float sum = c.bias ? c.bias[k] : 0;
        for (int d = 0; d < s.kernel[0]; d++)
            for (int h = 0; h < s.kernel[1]; h++)
                for (int w = 0; w < s.kernel[2]; w++, tap++) {
                    const int z = pz * s.stride[0] - s.pad[0] + d * s.dilation[0], y = py * s.stride[1] - s.pad[1] + h * s.dilation[1];
                    const int x = px * s.stride[2] - s.pad[2] + w * s.dilation[2];
                    if ((unsigned)z < (unsigned)s.in[0] && (unsigned)y < (unsigned)s.in[1] && (unsigned)x < (unsigned)s.in[2])
                        sum += *tap * as_float(((const E *)c.x)[(((image * s.in[0] + z) * s.in[1] + y) * s.in[2] + x) * s.channels + k / each]);
                }
        sum += c.residual ? as_float(((const E *)c.residual)[i]) : 0;
        ((E *)c.y)[i] = from_float<E>(c.relu && sum < 0 ? 0 : sum);
    }
}
template <class E> __global__ static void half_one_data_kernel(const __grid_constant__ half_depth c)
{
    const conv_sizes &s = c.s;
    const int each = s.outputs / s.channels;
    GRID_STRIDE(i, c.count * s.channels)
    {
        const int64_t item = i / s.channels;
        const int channel = (int)(i - item * s.channels);
        int px, py, pz, rest = divide((int)item, c.strips, &px);
        rest = divide(rest, c.rows, &py);
        const int64_t image = divide(rest, c.deep, &pz);
        float sum = c.bias ? c.bias[channel] : 0;
        for (int t = 0; t < c.taps; t++) {
            const int line = t / s.kernel[2], w = t - line * s.kernel[2], d = line / s.kernel[1], h = line - d * s.kernel[1];
            const int z = window_at(s, 0, pz, d), y = window_at(s, 1, py, h), x = window_at(s, 2, px, w);
            if (z < 0 || y < 0 || x < 0)
                continue;
            const E *from = (const E *)c.x + (((image * s.out[0] + z) * s.out[1] + y) * s.out[2] + x) * s.outputs + (int64_t)channel * each;
            for (int m = 0; m < each; m++)
                sum += c.w[((int64_t)channel * each + m) * c.taps + t] * as_float(from[m]);
        }
        ((E *)c.y)[i] = from_float<E>(sum);
    }
}

/* ---- launchers ---- */

static dim3 grid_of(const kernel_args *a, const half_depth &c)
{
    dim3 grid = grid_for(a->queue, c.count * c.slab, 1);
    grid.y = (unsigned)((c.s.channels / 8 + c.slab - 1) / c.slab);
    return grid;
}

template <class E, half_extra EXTRA, class N> static void strips_launch(const kernel_args *a, const half_depth &c, dim3 grid)
{
#define STRIP_RUN(K, S)                                                                                                \
    if constexpr (!N::IS || K <= NORM_WIDEST)                                                                          \
        if (c.s.kernel[2] == K && c.s.stride[2] == S)                                                                  \
            LAUNCH((half_strip_kernel<E, K, S, EXTRA, N>), grid, CUDA_THREADS, 0, a->queue, c);
    STRIP_KERNELS(STRIP_RUN)
#undef STRIP_RUN
}
template <class E> static void strips_run(const kernel_args *a, half_depth c)
{
    walk_of(&c, c.s.n, c.s.out, STRIP);
    if (c.norm.mean) /* as a rule another norm follows: there are kernels for that alone */
        strips_launch<E, MOMENTS, norm_of<E>>(a, c, grid_of(a, c));
    else
        strips_launch<E, NOTHING, no_norm>(a, c, grid_of(a, c));
}
/* With moments or sums: the blocks depend on sizes alone. */
static dim3 counted_grid(const half_depth &c)
{
    const int each = CUDA_THREADS / c.slab, slabs = (c.s.channels / 8 + c.slab - 1) / c.slab;
    const int64_t all = (c.count + each - 1) / each, most = COUNTED_BLOCKS / slabs;
    return dim3((unsigned)(most < 1 ? 1 : all < most ? all : most), (unsigned)slabs);
}
template <class E> static void counted_strips_run(const kernel_args *a, half_depth c)
{
    walk_of(&c, c.s.n, c.s.out, STRIP);
    const dim3 grid = counted_grid(c);
    c.part = (float2 *)a->work;
    c.counts = (float *)(c.part + (int64_t)c.s.channels * grid.x);
    if (c.norm.mean)
        strips_launch<E, MOMENTS, norm_of<E>>(a, c, grid);
    else
        strips_launch<E, MOMENTS, no_norm>(a, c, grid);
    moments_finish(a, (float *)a->out[1].data, (float *)a->out[2].data, {c.part, c.counts, c.s.channels, (int)grid.x, 0, 0});
}
/* Whether a slab's weights go into shared memory. */
static bool fits_shared(const half_depth &c, size_t besides = 0)
{
    return (size_t)c.taps * c.slab * 8 * sizeof(float) + besides <= 48 << 10;
}
static size_t shared_of(const half_depth &c)
{
    return (size_t)c.taps * c.slab * 8 * sizeof(float);
}

template <class E> static void forward_run(const kernel_args *a)
{
    const conv_attrs *at = (const conv_attrs *)a->attr;
    half_depth c = depth_of(a, sizes_of(at, &a->in[0].sh, &a->out[0].sh));
    const int64_t n = shape_count(&a->out[0].sh);
    c.residual = optional(a, 3);
    c.relu = at->relu != 0;
    walk_of(&c, c.s.n, c.s.out, 1);
    const bool vector = by_eight(c.s) && is_vector(c.x) && is_vector(c.y) && is_vector(c.residual);
    if (n == 0)
        return;
    if (vector && strip_width(c.s, false))
        strips_run<E>(a, c);
    else if (vector && fits_shared(c))
        LAUNCH((half_eight_kernel<E, false, false>), grid_of(a, c), CUDA_THREADS, shared_of(c), a->queue, c);
    else
        LAUNCH((half_one_kernel<E>), grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, c);
}

/* ConvMoments and NormConv: strips alone. */
template <class E, bool COUNTED> static void strips_forward(const kernel_args *a)
{
    const conv_attrs *at = (const conv_attrs *)a->attr;
    half_depth c = depth_of(a, sizes_of(at, &a->in[0].sh, &a->out[0].sh));
    c.residual = optional(a, 3);
    c.relu = at->relu != 0;
    c.norm = norm_in_of(a, 4);
    if (COUNTED)
        counted_strips_run<E>(a, c);
    else
        strips_run<E>(a, c);
}
static size_t moments_workspace(const kernel_args *a)
{
    half_depth c = depth_of(a, sizes_of((const conv_attrs *)a->attr, &a->in[0].sh, &a->out[0].sh));
    walk_of(&c, c.s.n, c.s.out, STRIP);
    return (size_t)counted_grid(c).x * ((size_t)c.s.channels * sizeof(float2) + sizeof(float));
}

/* Without a stride the data's gradient is a convolution with the kernel turned round. */
static void turn_round(half_depth *c)
{
    for (int i = 1; i < 3; i++) {
        const int in = c->s.in[i];
        c->s.in[i] = c->s.out[i];
        c->s.out[i] = in;
        c->s.pad[i] = c->s.kernel[i] - 1 - c->s.pad[i];
    }
    c->flipped = true;
}

/* ConvGradDataSums; *strips: whether it is done in strips. */
static half_depth sums_depth(const kernel_args *a, bool *strips)
{
    half_depth c = depth_of(a, sizes_of((const conv_attrs *)a->attr, &a->out[0].sh, &a->in[0].sh));
    *strips = strip_width(c.s, true) != 0;
    if (*strips)
        turn_round(&c);
    walk_of(&c, c.s.n, *strips ? c.s.out : c.s.in, *strips ? STRIP : 1);
    c.bias = NULL;
    c.behind = norm_behind_of(a, (int)counted_grid(c).x);
    return c;
}
template <class E> static void sums_run(const kernel_args *a)
{
    bool strips;
    const half_depth c = sums_depth(a, &strips);
    const dim3 grid = counted_grid(c);
    if (!strips)
        LAUNCH((half_eight_kernel<E, true, true>), grid, CUDA_THREADS, shared_of(c), a->queue, c);
    else if (c.s.kernel[2] == 3)
        LAUNCH((half_strip_kernel<E, 3, 1, SUMS, no_norm>), grid, CUDA_THREADS, 0, a->queue, c);
    else if (c.s.kernel[2] == 5)
        LAUNCH((half_strip_kernel<E, 5, 1, SUMS, no_norm>), grid, CUDA_THREADS, 0, a->queue, c);
    else
        LAUNCH((half_strip_kernel<E, 7, 1, SUMS, no_norm>), grid, CUDA_THREADS, 0, a->queue, c);
    grad_sums_finish(a, c.behind, c.s.channels, (int)grid.x);
}
static size_t sums_workspace(const kernel_args *a)
{
    bool strips;
    const half_depth c = sums_depth(a, &strips);
    return (size_t)c.s.channels * (size_t)c.behind.most * sizeof(float2);
}

/* ConvGradData, and ConvTranspose with its bias. */
template <class E> static void data_run(const kernel_args *a)
{
    half_depth c = depth_of(a, sizes_of((const conv_attrs *)a->attr, &a->out[0].sh, &a->in[0].sh));
    const int64_t n = shape_count(&a->out[0].sh);
    const bool vector = by_eight(c.s) && is_vector(c.x) && is_vector(c.y);
    walk_of(&c, c.s.n, c.s.in, 1);
    if (n == 0)
        return;
    if (vector && strip_width(c.s, true)) {
        turn_round(&c);
        strips_run<E>(a, c);
    } else if (vector && fits_shared(c)) {
        LAUNCH((half_eight_kernel<E, true, false>), grid_of(a, c), CUDA_THREADS, shared_of(c), a->queue, c);
    } else {
        LAUNCH((half_one_data_kernel<E>), grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, c);
    }
}

static bool takes_moments(const kernel_args *a)
{
    return takes_strips(a, &a->out[0].sh, a->n_in > 4);
}
static bool takes_normed(const kernel_args *a)
{
    return takes_strips(a, &a->out[0].sh, true);
}
static bool takes_data(const kernel_args *a)
{
    return conv_depthwise((const conv_attrs *)a->attr, &a->out[0].sh) && counts(a);
}
/* Eight channels at a time alone. */
static bool takes_sums(const kernel_args *a)
{
    if (!takes_data(a))
        return false;
    const half_depth c = depth_of(a, sizes_of((const conv_attrs *)a->attr, &a->out[0].sh, &a->in[0].sh));
    return by_eight(c.s) && (strip_width(c.s, true) || fits_shared(c, 8 << 10));
}

#define ROWS(type_, E)                                                                                                 \
    {.op = OP_CONV, .type = type_, .name = "depthwise " #E, .run = forward_run<E>, .takes = takes, .blocked_in = 1 | 1 << 3, \
     .blocked_out = 1},                                                                                                \
    {.op = OP_NORM_CONV, .type = type_, .name = "depthwise norm " #E, .run = strips_forward<E, false>, .takes = takes_normed, \
     .blocked_in = 1 | 1 << 3, .blocked_out = 1},                                                                      \
    {.op = OP_CONV_MOMENTS, .type = type_, .name = "depthwise moments " #E, .run = strips_forward<E, true>,            \
     .workspace = moments_workspace, .takes = takes_moments, .blocked_in = 1 | 1 << 3, .blocked_out = 1},              \
    {.op = OP_CONV_GRAD_DATA, .type = type_, .name = "depthwise grad data " #E, .run = data_run<E>, .takes = takes_data, \
     .blocked_in = 1, .blocked_out = 1},                                                                               \
    {.op = OP_CONV_GRAD_DATA_SUMS, .type = type_, .name = "depthwise grad data sums " #E, .run = sums_run<E>,          \
     .workspace = sums_workspace, .takes = takes_sums, .blocked_in = 1 | 1 << 2, .blocked_out = 1},                    \
    {.op = OP_CONV_TRANSPOSE, .type = type_, .name = "depthwise transpose " #E, .run = data_run<E>, .takes = takes_data, \
     .blocked_in = 1, .blocked_out = 1}
CUDA_TABLE(depthwise_half) = {ROWS(DTYPE_F16, __half), ROWS(DTYPE_BF16, __nv_bfloat16), KERNEL_END};
