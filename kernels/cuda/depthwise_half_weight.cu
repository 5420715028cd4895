/* depthwise_half_weight.cu - gradients of convolutions of groups with one channel with respect to the weight (src/ops/conv.c has the
 * formulas), of float16 and bfloat16 images that lie channels last; the result is float32 and plain.
 *
 * Strips as in depthwise_half.cu, a row of the kernel a block; other kernels an element of the result a block. The sum is cut into
 * shares (how many depends on sizes alone), each with results of its own in the workspace, which a second kernel adds in order.
 * NormConvGradWeight (half_norm.cuh): strips alone. */
#include "kernels/cuda/depthwise_half.cuh"

/* dw: block x is a row of the kernel (those that read the same strips run beside each other), y a share of the strips, z a slab.
 * to: [shares, channels, K * K]. N: the norm of x. */
template <class E, int K, int S, class N>
__global__ static void __launch_bounds__(CUDA_THREADS) half_strip_weight_kernel(const __grid_constant__ half_depth c, float *to, int share)
{
    constexpr int SPAN = (STRIP - 1) * S + K, WARPS = CUDA_THREADS / 32;
    __shared__ float part[WARPS][K][PIECES * 8];
    const int piece = (int)threadIdx.x & (c.slab - 1), channel = ((int)blockIdx.z * c.slab + piece) * 8, r = (int)blockIdx.x;
    const int64_t begin = (int64_t)blockIdx.y * share, end = begin + share < c.count ? begin + share : c.count;
    float sum[K][8] = {};
    norm_eight norm = {};
    if (N::IS && channel < c.s.channels)
        norm = norms_at(c, channel);
    for (int64_t item = begin + threadIdx.x / c.slab; channel < c.s.channels && item < end; item += CUDA_THREADS / c.slab) {
        int strip, row, line = divide((int)item, c.strips, &strip);
        const int image = divide(line, c.rows, &row), y = row * S - c.s.pad[1] + r, x0 = strip * STRIP * S - c.s.pad[2];
        float g[STRIP][8] = {};
        if ((unsigned)y >= (unsigned)c.s.in[1])
            continue;
        UNROLL
        for (int o = 0; o < STRIP; o++)
            if (strip * STRIP + o < c.s.out[2])
                eight_at<E>(g[o], c.y, ((int64_t)line * c.s.out[2] + strip * STRIP + o) * c.s.channels + channel);
        const int64_t from = ((int64_t)image * c.s.in[1] + y) * c.s.in[2];
        UNROLL
        for (int i = 0; i < SPAN; i++) {
            float x[8];
            if ((unsigned)(x0 + i) >= (unsigned)c.s.in[2])
                continue;
            eight_in<E, N>(x, c, norm, (from + x0 + i) * c.s.channels + channel);
            UNROLL
            for (int o = 0; o < STRIP; o++)
                if (i - o * S >= 0 && i - o * S < K)
                    UNROLL
                    for (int j = 0; j < 8; j++)
                        sum[i - o * S][j] += g[o][j] * x[j];
        }
    }
    UNROLL
    for (int t = 0; t < K; t++)
        UNROLL
        for (int j = 0; j < 8; j++) {
            float v = sum[t][j]; /* of the warp's threads with this piece */
            for (int m = 16; m >= c.slab; m >>= 1)
                v += __shfl_xor_sync(FULL_WARP, v, m);
            if (((int)threadIdx.x & 31) < c.slab)
                part[threadIdx.x / 32][t][piece * 8 + j] = v;
        }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < K * c.slab * 8; i += CUDA_THREADS) {
        const int k = i / K, t = i - k * K, of = (int)blockIdx.z * c.slab * 8 + k;
        float v = 0;
        for (int w = 0; w < WARPS; w++)
            v += part[w][t][k];
        if (of < c.s.channels)
            to[((int64_t)blockIdx.y * c.s.channels + of) * (K * K) + r * K + t] = v;
    }
}
__global__ static void half_join_kernel(float *out, const float *shares, int64_t n, int count)
{
    GRID_STRIDE(i, n)
    {
        float v = 0;
        for (int s = 0; s < count; s++)
            v += shares[s * n + i];
        out[i] = v;
    }
}

/* Block x counts elements of dw, y a share of the windows of all images. to: [shares, outputs * taps]. */
template <class E> __global__ static void half_one_weight_kernel(const __grid_constant__ half_depth c, float *to, int share)
{
    __shared__ float part[32];
    const conv_sizes &s = c.s;
    const int each = s.outputs / s.channels;
    const int64_t begin = (int64_t)blockIdx.y * share, end = begin + share < c.count ? begin + share : c.count;
    for (int64_t i = blockIdx.x; i < (int64_t)s.outputs * c.taps; i += gridDim.x) {
        const int k = (int)(i / c.taps), t = (int)(i - (int64_t)k * c.taps), line = t / s.kernel[2];
        const int tw = t - line * s.kernel[2], td = line / s.kernel[1], th = line - td * s.kernel[1];
        float sum = 0;
        for (int64_t at = begin + threadIdx.x; at < end; at += CUDA_THREADS) {
            int px, py, pz, rest = divide((int)at, c.strips, &px);
            rest = divide(rest, c.rows, &py);
            const int64_t image = divide(rest, c.deep, &pz);
            const int z = pz * s.stride[0] - s.pad[0] + td * s.dilation[0], y = py * s.stride[1] - s.pad[1] + th * s.dilation[1];
            const int x = px * s.stride[2] - s.pad[2] + tw * s.dilation[2];
            if ((unsigned)z < (unsigned)s.in[0] && (unsigned)y < (unsigned)s.in[1] && (unsigned)x < (unsigned)s.in[2])
                sum += as_float(((const E *)c.y)[at * s.outputs + k]) *
                       as_float(((const E *)c.x)[(((image * s.in[0] + z) * s.in[1] + y) * s.in[2] + x) * s.channels + k / each]);
        }
        sum = block_sum(sum, part);
        if (threadIdx.x == 0)
            to[(int64_t)blockIdx.y * s.outputs * c.taps + i] = sum;
    }
}

/* ---- launchers ---- */

/* Shares of `items` of every one of `blocks`: so that the device is full, each with work for all its threads. */
static int shares_of(int64_t blocks, int64_t items, int64_t least)
{
    const int64_t full = 1056, most = 128;
    int64_t n = blocks > 0 ? full / blocks : 1, can = items / least;
    n = n < can ? n : can;
    n = n < most ? n : most;
    return n < 1 ? 1 : (int)n;
}
/* How the weight's gradient is cut; by sizes alone. */
static half_depth weight_cut(const kernel_args *a, int *width, int *shares)
{
    half_depth c = depth_of(a, sizes_of((const conv_attrs *)a->attr, &a->in[0].sh, &a->in[1].sh));
    const int64_t pieces = (c.s.channels / 8 + c.slab - 1) / c.slab;
    c.y = a->in[1].data;
    c.w = c.bias = NULL;
    c.norm = norm_in_of(a, 2);
    *width = by_eight(c.s) ? strip_width(c.s, false) : 0;
    walk_of(&c, c.s.n, c.s.out, *width ? STRIP : 1);
    *shares = *width ? shares_of(pieces * *width, c.count, 4 * CUDA_THREADS / c.slab)
                     : shares_of((int64_t)c.s.outputs * c.taps, c.count, 4 * CUDA_THREADS);
    return c;
}
static size_t weight_workspace(const kernel_args *a)
{
    int width, shares;
    weight_cut(a, &width, &shares);
    return shares > 1 ? (size_t)shape_count(&a->out[0].sh) * (size_t)shares * sizeof(float) : 0;
}
template <class E, class N> static void strips_launch(const kernel_args *a, const half_depth &c, dim3 grid, float *to, int share)
{
#define STRIP_RUN(K, S)                                                                                                \
    if constexpr (!N::IS || K <= NORM_WIDEST)                                                                          \
        if (c.s.kernel[2] == K && c.s.stride[2] == S)                                                                  \
            LAUNCH((half_strip_weight_kernel<E, K, S, N>), grid, CUDA_THREADS, 0, a->queue, c, to, share);
    STRIP_KERNELS(STRIP_RUN)
#undef STRIP_RUN
}
template <class E> static void weight_run(const kernel_args *a)
{
    int width, shares;
    half_depth c = weight_cut(a, &width, &shares);
    const int64_t n = shape_count(&a->out[0].sh);
    float *to = (float *)(shares > 1 ? a->work : a->out[0].data);
    int share = (int)((c.count + shares - 1) / shares);
    if (n == 0)
        return;
    if (width && ((is_vector(c.x) && is_vector(c.y)) || c.norm.mean)) {
        const dim3 grid((unsigned)width, (unsigned)shares, (unsigned)((c.s.channels / 8 + c.slab - 1) / c.slab));
        if (c.norm.mean)
            strips_launch<E, norm_of<E>>(a, c, grid, to, share);
        else
            strips_launch<E, no_norm>(a, c, grid, to, share);
    } else {
        walk_of(&c, c.s.n, c.s.out, 1);
        share = (int)((c.count + shares - 1) / shares);
        LAUNCH((half_one_weight_kernel<E>), dim3((unsigned)(n < 65535 ? n : 65535), (unsigned)shares), CUDA_THREADS, 0, a->queue, c, to,
               share);
    }
    if (shares > 1)
        LAUNCH(half_join_kernel, grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, (float *)a->out[0].data, to, n, shares);
}

static bool takes_normed(const kernel_args *a)
{
    return takes_strips(a, &a->in[1].sh, true);
}

#define ROWS(type_, E)                                                                                                 \
    {.op = OP_CONV_GRAD_WEIGHT, .type = type_, .name = "depthwise grad weight " #E, .run = weight_run<E>,              \
     .workspace = weight_workspace, .takes = takes, .blocked_in = 1 | 1 << 1},                                         \
    {.op = OP_NORM_CONV_GRAD_WEIGHT, .type = type_, .name = "depthwise norm grad weight " #E, .run = weight_run<E>,    \
     .workspace = weight_workspace, .takes = takes_normed, .blocked_in = 1 | 1 << 1}
CUDA_TABLE(depthwise_half_weight) = {ROWS(DTYPE_F16, __half), ROWS(DTYPE_BF16, __nv_bfloat16), KERNEL_END};
