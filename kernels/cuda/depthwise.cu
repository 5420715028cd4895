/* depthwise.cu - convolutions of groups with one channel (src/ops/conv.c has the formulas), in all three directions.
 *
 * They move more than they compute. Square kernels of 3, 5 and 7 with stride 1 or 2: a thread makes a strip of four results
 * of a row (forward: several rows), reads a row of data once, 16 bytes at a time where it may, and holds the kernel in
 * registers. Other kernels: a thread a result. */
#include "kernels/cuda/conv.cuh"
#include "kernels/cuda/index.cuh"

/* ---- a strip: four neighbouring windows of a row ---- */

/* The data below four windows of K taps and stride S, of which the first tap of the first lies at x0: entries [x0, x0 + SPAN)
 * of a row of `width`, zeros beside it. vector: the row may be read 16 bytes at a time, and x0 + K/2 is a multiple of 4. */
template <int K, int S> struct strip {
    static constexpr int SPAN = 3 * S + K, MIDDLE = K / 2, WHOLE = S * 4;
    float v[SPAN];
    __device__ void load(const float *row, int x0, int width, bool vector)
    {
        if (vector) {
            UNROLL
            for (int i = 0; i < WHOLE; i += 4) { /* 4 divides the width: in or out as one */
                const float4 u = x0 + MIDDLE + i < width ? *reinterpret_cast<const float4 *>(row + x0 + MIDDLE + i)
                                                         : make_float4(0, 0, 0, 0);
                v[MIDDLE + i] = u.x;
                if (MIDDLE + i + 1 < SPAN)
                    v[MIDDLE + i + 1] = u.y;
                if (MIDDLE + i + 2 < SPAN)
                    v[MIDDLE + i + 2] = u.z;
                if (MIDDLE + i + 3 < SPAN)
                    v[MIDDLE + i + 3] = u.w;
            }
        }
        UNROLL
        for (int i = 0; i < SPAN; i++)
            if (!vector || i < MIDDLE || i >= MIDDLE + WHOLE)
                v[i] = (unsigned)(x0 + i) < (unsigned)width ? row[x0 + i] : 0;
    }
};

/* What strip kernels need of the sizes: a plane of data, a plane of windows. */
typedef struct strip_sizes {
    int outputs, channels, each;           /* each: outputs of a channel */
    int in_h, in_w, out_h, out_w, pad_h, pad_w;
    divider strips, rows;                  /* of a plane: along the row; groups of rows */
    int64_t count;                         /* all strips */
    bool vector_in, vector_out;
} strip_sizes;

/* y = max(correlation + bias + residual, 0); flipped: the kernel is turned round (the data's gradient, stride 1). */
template <int K, int S, int ROWS>
__global__ static void __launch_bounds__(CUDA_THREADS) strip_kernel(strip_sizes s, float *y, const float *x, const float *w,
                                                                    const float *bias, const float *residual, bool relu, bool flipped)
{
    GRID_STRIDE(item, s.count)
    {
        int column, group, k;
        const int line = divide((int)item, s.strips, &column), plane = divide(line, s.rows, &group), image = plane / s.outputs;
        k = plane - image * s.outputs;
        const float *from = x + ((int64_t)image * s.channels + k / s.each) * s.in_h * s.in_w;
        float tap[K * K], sum[ROWS][4];
        UNROLL
        for (int i = 0; i < K * K; i++)
            tap[i] = w[(int64_t)k * (K * K) + (flipped ? K * K - 1 - i : i)];
        const float b = bias ? bias[k] : 0;
        UNROLL
        for (int o = 0; o < ROWS; o++)
            UNROLL
            for (int c = 0; c < 4; c++)
                sum[o][c] = b;
        const int y0 = group * ROWS * S - s.pad_h, x0 = column * 4 * S - s.pad_w;
        UNROLL
        for (int r = 0; r < (ROWS - 1) * S + K; r++) {
            if ((unsigned)(y0 + r) >= (unsigned)s.in_h)
                continue;
            strip<K, S> data;
            data.load(from + (int64_t)(y0 + r) * s.in_w, x0, s.in_w, s.vector_in);
            UNROLL
            for (int o = 0; o < ROWS; o++)
                if (r - o * S >= 0 && r - o * S < K)
                    UNROLL
                    for (int c = 0; c < 4; c++)
                        UNROLL
                        for (int t = 0; t < K; t++)
                            sum[o][c] += tap[(r - o * S) * K + t] * data.v[c * S + t];
        }
        UNROLL
        for (int o = 0; o < ROWS; o++) {
            if (group * ROWS + o >= s.out_h)
                continue;
            const int64_t at = ((int64_t)plane * s.out_h + group * ROWS + o) * s.out_w + column * 4;
            if (s.vector_out) {
                float4 v = make_float4(sum[o][0], sum[o][1], sum[o][2], sum[o][3]);
                if (residual) {
                    const float4 u = *reinterpret_cast<const float4 *>(residual + at);
                    v = make_float4(v.x + u.x, v.y + u.y, v.z + u.z, v.w + u.w);
                }
                if (relu)
                    v = make_float4(v.x < 0 ? 0 : v.x, v.y < 0 ? 0 : v.y, v.z < 0 ? 0 : v.z, v.w < 0 ? 0 : v.w);
                *reinterpret_cast<float4 *>(y + at) = v;
                continue;
            }
            UNROLL
            for (int c = 0; c < 4; c++)
                if (column * 4 + c < s.out_w) {
                    const float v = residual ? sum[o][c] + residual[at + c] : sum[o][c];
                    y[at + c] = relu && v < 0 ? 0 : v;
                }
        }
    }
}

/* dw: block x is an output, y a share of its strips in all images. to: [shares, outputs, K * K]. */
template <int K, int S>
__global__ static void __launch_bounds__(CUDA_THREADS) strip_weight_kernel(strip_sizes s, float *to, const float *x, const float *dy,
                                                                           int share)
{
    __shared__ float part[CUDA_THREADS / 32][K * K];
    const int k = (int)blockIdx.x, begin = (int)blockIdx.y * share, end = begin + share < s.count ? begin + share : (int)s.count;
    float sum[K * K];
    UNROLL
    for (int i = 0; i < K * K; i++)
        sum[i] = 0;
    for (int item = begin + (int)threadIdx.x; item < end; item += CUDA_THREADS) {
        int column, row;
        const int line = divide(item, s.strips, &column), image = divide(line, s.rows, &row), x0 = column * 4 * S - s.pad_w;
        const float *from = x + ((int64_t)image * s.channels + k / s.each) * s.in_h * s.in_w;
        const float *given = dy + (((int64_t)image * s.outputs + k) * s.out_h + row) * s.out_w + column * 4;
        float g[4];
        if (s.vector_out) {
            const float4 u = *reinterpret_cast<const float4 *>(given);
            g[0] = u.x, g[1] = u.y, g[2] = u.z, g[3] = u.w;
        } else {
            UNROLL
            for (int c = 0; c < 4; c++)
                g[c] = column * 4 + c < s.out_w ? given[c] : 0;
        }
        UNROLL
        for (int r = 0; r < K; r++) {
            const int at = row * S - s.pad_h + r;
            if ((unsigned)at >= (unsigned)s.in_h)
                continue;
            strip<K, S> data;
            data.load(from + (int64_t)at * s.in_w, x0, s.in_w, s.vector_in);
            UNROLL
            for (int t = 0; t < K; t++)
                UNROLL
                for (int c = 0; c < 4; c++)
                    sum[r * K + t] += g[c] * data.v[c * S + t];
        }
    }
    UNROLL
    for (int i = 0; i < K * K; i++) {
        const float v = warp_sum(sum[i]);
        if ((threadIdx.x & 31) == 0)
            part[threadIdx.x >> 5][i] = v;
    }
    __syncthreads();
    if (threadIdx.x < K * K) {
        float v = 0;
        for (int i = 0; i < CUDA_THREADS / 32; i++)
            v += part[i][threadIdx.x];
        to[((int64_t)blockIdx.y * s.outputs + k) * (K * K) + threadIdx.x] = v;
    }
}
__global__ static void join_kernel(float *out, const float *shares, int64_t n, int count)
{
    GRID_STRIDE(i, n)
    {
        float v = 0;
        for (int s = 0; s < count; s++)
            v += shares[s * n + i];
        out[i] = v;
    }
}

/* ---- any kernel: a thread a result ---- */

__global__ static void any_kernel(conv_sizes s, float *y, const float *x, const float *w, const float *bias, const float *residual,
                                  bool relu, int64_t n)
{
    const int each = s.outputs / s.channels, taps = volume(s.kernel);
    GRID_STRIDE(i, n)
    {
        int64_t rest = i / s.out[2];
        const int ow = (int)(i - rest * s.out[2]), w0 = ow * s.stride[2] - s.pad[2];
        const int h0 = (int)(rest % s.out[1]) * s.stride[1] - s.pad[1];
        rest /= s.out[1];
        const int d0 = (int)(rest % s.out[0]) * s.stride[0] - s.pad[0];
        rest /= s.out[0];
        const int64_t image = rest / s.outputs;
        const int k = (int)(rest - image * s.outputs);
        const float *from = x + (image * s.channels + k / each) * volume(s.in), *tap = w + (int64_t)k * taps;
        float sum = bias ? bias[k] : 0;
        for (int a = 0; a < s.kernel[0]; a++)
            for (int b = 0; b < s.kernel[1]; b++)
                for (int c = 0; c < s.kernel[2]; c++, tap++) {
                    const int d = d0 + a * s.dilation[0], h = h0 + b * s.dilation[1], v = w0 + c * s.dilation[2];
                    if ((unsigned)d < (unsigned)s.in[0] && (unsigned)h < (unsigned)s.in[1] && (unsigned)v < (unsigned)s.in[2])
                        sum += *tap * from[((int64_t)d * s.in[1] + h) * s.in[2] + v];
                }
        sum = residual ? sum + residual[i] : sum;
        y[i] = relu && sum < 0 ? 0 : sum;
    }
}

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
__global__ static void any_data_kernel(conv_sizes s, float *dx, const float *dy, const float *w, const float *bias, int64_t n)
{
    const int each = s.outputs / s.channels, taps = volume(s.kernel);
    GRID_STRIDE(i, n)
    {
        int64_t rest = i / s.in[2];
        const int x = (int)(i - rest * s.in[2]), y = (int)(rest % s.in[1]);
        rest /= s.in[1];
        const int z = (int)(rest % s.in[0]);
        rest /= s.in[0];
        const int64_t image = rest / s.channels;
        const int channel = (int)(rest - image * s.channels);
        const float *from = dy + (image * s.outputs + (int64_t)channel * each) * volume(s.out);
        const float *tap = w + (int64_t)channel * each * taps;
        float sum = bias ? bias[channel] : 0;
        const int first_h = first_tap(s, 1, y), first_w = first_tap(s, 2, x);
        for (int a = first_tap(s, 0, z); a < s.kernel[0]; a += next_tap(s, 0)) {
            const int d = window_at(s, 0, z, a);
            for (int b = first_h; d >= 0 && b < s.kernel[1]; b += next_tap(s, 1)) {
                const int h = window_at(s, 1, y, b);
                for (int c = first_w; h >= 0 && c < s.kernel[2]; c += next_tap(s, 2)) {
                    const int v = window_at(s, 2, x, c);
                    const int64_t at = ((int64_t)d * s.out[1] + h) * s.out[2] + v;
                    const int t = (a * s.kernel[1] + b) * s.kernel[2] + c;
                    for (int m = 0; v >= 0 && m < each; m++)
                        sum += tap[m * taps + t] * from[(int64_t)m * volume(s.out) + at];
                }
            }
        }
        dx[i] = sum;
    }
}

/* Block x is an element of dw, y a share of the windows of all images. to: [shares, outputs * taps]. */
__global__ static void any_weight_kernel(conv_sizes s, float *to, const float *x, const float *dy, int share)
{
    __shared__ float part[32];
    const int taps = volume(s.kernel), plane = volume(s.out), all = s.n * plane, each = s.outputs / s.channels;
    const int begin = (int)blockIdx.y * share, end = begin + share < all ? begin + share : all;
    for (int64_t i = blockIdx.x; i < (int64_t)s.outputs * taps; i += gridDim.x) {
        const int k = (int)(i / taps), t = (int)(i - (int64_t)k * taps), line = t / s.kernel[2];
        const int tw = t - line * s.kernel[2], td = line / s.kernel[1], th = line - td * s.kernel[1];
        float sum = 0;
        for (int at = begin + (int)threadIdx.x; at < end; at += CUDA_THREADS) {
            const int image = at / plane, pixel = at - image * plane, row = pixel / s.out[2], deep = row / s.out[1];
            const int w = (pixel - row * s.out[2]) * s.stride[2] - s.pad[2] + tw * s.dilation[2];
            const int h = (row - deep * s.out[1]) * s.stride[1] - s.pad[1] + th * s.dilation[1];
            const int d = deep * s.stride[0] - s.pad[0] + td * s.dilation[0];
            if ((unsigned)d < (unsigned)s.in[0] && (unsigned)h < (unsigned)s.in[1] && (unsigned)w < (unsigned)s.in[2])
                sum += dy[((int64_t)image * s.outputs + k) * plane + pixel] *
                       x[((int64_t)image * s.channels + k / each) * volume(s.in) + ((int64_t)d * s.in[1] + h) * s.in[2] + w];
        }
        sum = block_sum(sum, part);
        if (threadIdx.x == 0)
            to[(int64_t)blockIdx.y * s.outputs * taps + i] = sum;
    }
}

/* ---- launchers ---- */

/* The kernel's width where strips serve it, else 0; data: its gradient with respect to the data. */
static int strip_width(const conv_sizes &s, bool data)
{
    const int k = s.kernel[2], stride = s.stride[2];
    bool fits = s.kernel[0] == 1 && s.in[0] == 1 && s.out[0] == 1 && s.stride[0] == 1 && s.pad[0] == 0 && s.kernel[1] == k &&
                s.stride[1] == stride && stride <= 2 && s.dilation[1] == 1 && s.dilation[2] == 1;
    fits &= !data || (stride == 1 && s.outputs == s.channels && s.pad[1] < k && s.pad[2] < k);
    fits &= k == 3 || k == 5 || k == 7;
    return fits && (int64_t)s.n * s.outputs * s.out[1] * ((s.out[2] + 3) / 4) < INT32_MAX - 4096 ? k : 0;
}
static strip_sizes strips_of(const conv_sizes &s, int rows)
{
    strip_sizes r = {s.outputs, s.channels, s.outputs / s.channels, s.in[1], s.in[2], s.out[1], s.out[2], s.pad[1], s.pad[2],
                     divider_of((s.out[2] + 3) / 4), divider_of((s.out[1] + rows - 1) / rows), 0, false, false};
    r.count = (int64_t)s.n * s.outputs * r.rows.d * r.strips.d;
    return r;
}

/* f(K, S) for the kernels there are */
#define STRIP_KERNELS(f) f(3, 1) f(3, 2) f(5, 1) f(5, 2) f(7, 1) f(7, 2)

/* Rows of results a thread makes: what a row of data serves. */
#define STRIP_ROWS(S) ((S) == 1 ? 4 : 2)

static void strip_run(const kernel_args *a, const conv_sizes &s, const float *bias, const float *residual, bool relu, bool flipped)
{
    const float *x = (const float *)a->in[0].data, *w = (const float *)a->in[1].data;
    float *y = (float *)a->out[0].data;
    const int k = s.kernel[2], stride = s.stride[2];
    strip_sizes r = strips_of(s, STRIP_ROWS(stride));
    if (r.count == 0)
        return;
    r.vector_in = s.in[2] % 4 == 0 && s.pad[2] == k / 2 && is_vector(x);
    r.vector_out = s.out[2] % 4 == 0 && is_vector(y) && is_vector(residual);
#define STRIP(K, S) \
    if (k == K && stride == S) \
        LAUNCH((strip_kernel<K, S, STRIP_ROWS(S)>), grid_for(a->queue, r.count, 1), CUDA_THREADS, 0, a->queue, r, y, x, w, bias, \
               residual, relu, flipped);
    STRIP_KERNELS(STRIP)
#undef STRIP
}

static void forward_run(const kernel_args *a)
{
    const conv_attrs *at = (const conv_attrs *)a->attr;
    const conv_sizes s = sizes_of(at, &a->in[0].sh, &a->out[0].sh);
    const int64_t n = shape_count(&a->out[0].sh);
    if (strip_width(s, false))
        strip_run(a, s, optional(a, 2), optional(a, 3), at->relu != 0, false);
    else if (n > 0)
        LAUNCH(any_kernel, grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, s, (float *)a->out[0].data,
               (const float *)a->in[0].data, (const float *)a->in[1].data, optional(a, 2), optional(a, 3), at->relu != 0, n);
}

/* ConvGradData, and ConvTranspose with its bias. Without a stride it is a convolution with the kernel turned round. */
static void data_run(const kernel_args *a)
{
    const conv_sizes s = sizes_of((const conv_attrs *)a->attr, &a->out[0].sh, &a->in[0].sh);
    const int64_t n = shape_count(&a->out[0].sh);
    if (strip_width(s, true)) {
        conv_sizes turned = s;
        for (int i = 1; i < 3; i++) {
            turned.in[i] = s.out[i];
            turned.out[i] = s.in[i];
            turned.pad[i] = s.kernel[i] - 1 - s.pad[i];
        }
        strip_run(a, turned, optional(a, 2), NULL, false, true);
    } else if (n > 0) {
        LAUNCH(any_data_kernel, grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, s, (float *)a->out[0].data,
               (const float *)a->in[0].data, (const float *)a->in[1].data, optional(a, 2), n);
    }
}

/* Shares of `items` of every one of `blocks`: so that the device is full, each with work for all its threads. */
static int shares_of(int64_t blocks, int64_t items)
{
    const int64_t full = 1056, least = 4 * CUDA_THREADS, most = 64;
    int64_t n = blocks > 0 ? full / blocks : 1, can = items / least;
    n = n < can ? n : can;
    n = n < most ? n : most;
    return n < 1 ? 1 : (int)n;
}
/* How the weight's gradient is cut. */
typedef struct weight_cut {
    conv_sizes s;
    int width, shares;
    int64_t items, elements;
} weight_cut;
static weight_cut cut_of(const kernel_args *a)
{
    weight_cut c = {};
    c.s = sizes_of((const conv_attrs *)a->attr, &a->in[0].sh, &a->in[1].sh);
    c.width = strip_width(c.s, false);
    c.elements = shape_count(&a->out[0].sh);
    c.items = (int64_t)c.s.n * (c.width ? c.s.out[1] * ((c.s.out[2] + 3) / 4) : volume(c.s.out));
    c.shares = shares_of(c.width ? c.s.outputs : c.elements, c.items);
    return c;
}
static size_t weight_workspace(const kernel_args *a)
{
    const weight_cut c = cut_of(a);
    return c.shares > 1 ? (size_t)(c.shares * c.elements) * sizeof(float) : 0;
}
static void weight_run(const kernel_args *a)
{
    const weight_cut c = cut_of(a);
    const float *x = (const float *)a->in[0].data, *dy = (const float *)a->in[1].data;
    float *to = (float *)(c.shares > 1 ? a->work : a->out[0].data);
    const int share = (int)((c.items + c.shares - 1) / c.shares), k = c.width, stride = c.s.stride[2];
    if (c.elements == 0)
        return;
    if (c.width) {
        strip_sizes r = strips_of(c.s, 1);
        r.count = c.items;
        r.vector_in = c.s.in[2] % 4 == 0 && c.s.pad[2] == k / 2 && is_vector(x);
        r.vector_out = c.s.out[2] % 4 == 0 && is_vector(dy);
#define STRIP(K, S) \
    if (k == K && stride == S) \
        LAUNCH((strip_weight_kernel<K, S>), dim3((unsigned)c.s.outputs, (unsigned)c.shares), CUDA_THREADS, 0, a->queue, r, to, x, dy, share);
        STRIP_KERNELS(STRIP)
#undef STRIP
    } else {
        LAUNCH(any_weight_kernel, dim3((unsigned)(c.elements < 65535 ? c.elements : 65535), (unsigned)c.shares), CUDA_THREADS, 0,
               a->queue, c.s, to, x, dy, share);
    }
    if (c.shares > 1)
        LAUNCH(join_kernel, grid_for(a->queue, c.elements, 1), CUDA_THREADS, 0, a->queue, (float *)a->out[0].data, to, c.elements,
               c.shares);
}

static bool takes(const kernel_args *a)
{
    return conv_depthwise((const conv_attrs *)a->attr, &a->in[0].sh) && conv_counts(&a->in[0]) && conv_counts(&a->in[1]) &&
           conv_counts(&a->out[0]);
}
static bool takes_data(const kernel_args *a)
{
    return conv_depthwise((const conv_attrs *)a->attr, &a->out[0].sh) && conv_counts(&a->in[0]) && conv_counts(&a->in[1]) &&
           conv_counts(&a->out[0]);
}

CUDA_TABLE(depthwise) = {
    {.op = OP_CONV, .type = DTYPE_F32, .name = "depthwise", .run = forward_run, .takes = takes},
    {.op = OP_CONV_GRAD_DATA, .type = DTYPE_F32, .name = "depthwise grad data", .run = data_run, .takes = takes_data},
    {.op = OP_CONV_GRAD_WEIGHT, .type = DTYPE_F32, .name = "depthwise grad weight", .run = weight_run,
     .workspace = weight_workspace, .takes = takes},
    {.op = OP_CONV_TRANSPOSE, .type = DTYPE_F32, .name = "depthwise transpose", .run = data_run, .takes = takes_data},
    KERNEL_END};
