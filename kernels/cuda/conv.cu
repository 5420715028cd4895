/* conv.cu - convolutions (src/ops/conv.c has the formulas) without a library: implicit matrix products on the tiles of
 * kernels/cuda/tile.cuh. No matrix of windows is written; what a tile needs of it is read where the data lie.
 *
 *     forward   y  [M/g, pixels of y]  = w  [M/g, C/g * taps] times windows of x  [C/g * taps, pixels]
 *     data      dx [C/g, pixels of dx] = w' [C/g, M/g * taps] times windows of dy [M/g * taps, pixels]
 *     weight    dw [M/g, C/g * taps]   = dy [M/g, pixels of dy] times windows of x [pixels, C/g * taps]
 *
 * for every group; pixels are those of the whole batch. With strides only every stride-th tap reaches a pixel of dx: pixels
 * with the same remainders (a phase) have the same taps, and each phase is a product of its own without a stride. */
#include "kernels/cuda/conv.cuh"
#include "kernels/cuda/tile.cuh"

/* ---- sides ---- */

/* Windows of `source` [.., channels, limit...]: the tile's columns are pixels, k = channel * taps + tap. A thread has one column. */
template <class T> struct window_side {
    static constexpr int STEP = T::THREADS / T::N, EACH = T::K / STEP;
    static_assert(T::THREADS % T::N == 0 && T::K % STEP == 0, "a thread has one column");
    const geometry &g;
    const float *p; /* the first of the group's channels of this column's image; NULL: no such column */
    int64_t plane;
    int d, h, w;
    float v[EACH];

    /* source: first image, the group's first channel. */
    __device__ window_side(const geometry &where, const float *source, int64_t image_size, int64_t col0, int64_t columns)
        : g(where), p(NULL), plane((int64_t)g.limit[0] * g.limit[1] * g.limit[2]), d(0), h(0), w(0)
    {
        int each = volume(g.count), col = (int)(col0 + threadIdx.x % T::N);
        if (col < columns) {
            int image = col / each, rest = col - image * each, line = rest / g.count[2];
            p = source + image * image_size;
            w = (rest - line * g.count[2]) * g.step[2] + g.base[2];
            d = line / g.count[1];
            h = (line - d * g.count[1]) * g.step[1] + g.base[1];
            d = d * g.step[0] + g.base[0];
        }
    }
    __device__ void load(int64_t k, int64_t end)
    {
        UNROLL
        for (int i = 0; i < EACH; i++) {
            int at = (int)k + (int)threadIdx.x / T::N + i * STEP, c, td, th, tw;
            v[i] = 0;
            if (!p || at >= end)
                continue;
            c = divide(at, g.all, &td);
            td = divide(td, g.across, &th);
            th = divide(th, g.wide, &tw);
            const int z = d + td * g.tap_step[0], y = h + th * g.tap_step[1], x = w + tw * g.tap_step[2];
            if ((unsigned)z < (unsigned)g.limit[0] && (unsigned)y < (unsigned)g.limit[1] && (unsigned)x < (unsigned)g.limit[2])
                v[i] = p[c * plane + (z * g.limit[1] + y) * g.limit[2] + x];
        }
    }
    __device__ void store(float *to) const
    {
        UNROLL
        for (int i = 0; i < EACH; i++)
            to[((int)threadIdx.x / T::N + i * STEP) * (T::N + TILE_PAD) + (int)threadIdx.x % T::N] = v[i];
    }
};

/* The transposed weight [C/g, M/g * taps of the phase]: row c, k = m * taps + tap lies at (m * C/g + c) * all taps + tap. */
template <class T> struct weight_side {
    static constexpr int STEP = T::THREADS / T::K, EACH = T::M / STEP;
    static_assert(T::THREADS % T::K == 0 && T::M % STEP == 0, "a thread has one k");
    const geometry &g;
    const conv_sizes &s;
    const float *p; /* of the group */
    int64_t first, rows;
    float v[EACH];

    __device__ weight_side(const geometry &where, const conv_sizes &sizes, const float *weight, int64_t row0, int64_t count)
        : g(where), s(sizes), p(weight), first(row0), rows(count)
    {
    }
    __device__ void load(int64_t k, int64_t end)
    {
        int at = (int)k + (int)threadIdx.x % T::K, m, td, th, tw;
        m = divide(at, g.all, &td);
        td = g.tap_first[0] + divide(td, g.across, &th) * g.tap_jump[0];
        th = g.tap_first[1] + divide(th, g.wide, &tw) * g.tap_jump[1];
        const int tap = (td * s.kernel[1] + th) * s.kernel[2] + g.tap_first[2] + tw * g.tap_jump[2], all = volume(s.kernel);
        UNROLL
        for (int i = 0; i < EACH; i++) {
            int64_t r = first + (int)threadIdx.x / T::K + i * STEP;
            v[i] = at < end && r < rows ? p[(m * rows + r) * all + tap] : 0;
        }
    }
    __device__ void store(float *to) const
    {
        UNROLL
        for (int i = 0; i < EACH; i++)
            to[(int)threadIdx.x % T::K * (T::M + TILE_PAD) + (int)threadIdx.x / T::K + i * STEP] = v[i];
    }
};

/* Gradients dy [n, outputs, plane] of one group: row m, k = pixel of the batch. */
template <class T> struct pixel_side {
    static constexpr int STEP = T::THREADS / T::K, EACH = T::M / STEP;
    const float *p; /* first image, the group's first output */
    int64_t first, rows, image_size;
    divider plane;
    float v[EACH];

    __device__ void load(int64_t k, int64_t end)
    {
        int at = (int)k + (int)threadIdx.x % T::K, rest;
        const int64_t image = divide(at, plane, &rest);
        const float *from = p + image * image_size + rest;
        UNROLL
        for (int i = 0; i < EACH; i++) {
            int64_t r = first + (int)threadIdx.x / T::K + i * STEP;
            v[i] = at < end && r < rows ? from[r * plane.d] : 0;
        }
    }
    __device__ void store(float *to) const
    {
        UNROLL
        for (int i = 0; i < EACH; i++)
            to[(int)threadIdx.x % T::K * (T::M + TILE_PAD) + (int)threadIdx.x / T::K + i * STEP] = v[i];
    }
};

/* Windows of x with k = pixel of the batch; the tile's columns are c * taps + tap, whose places are kept in shared memory. */
typedef struct __align__(16) tap_place {
    int offset, d, h, w; /* in elements from the window's corner; along the axes */
} tap_place;
template <class T> struct tap_side {
    static constexpr int STEP = T::THREADS / T::K, EACH = T::N / STEP;
    const float *p; /* first image, the group's first channel */
    const tap_place *place;
    const conv_sizes &s;
    int64_t image_size;
    divider plane, wide, across;
    float v[EACH];

    /* place: T::N of shared memory. Ends behind a barrier. */
    __device__ tap_side(const conv_sizes &sizes, const float *x, tap_place *shared, int64_t col0, int64_t columns)
        : p(x), place(shared), s(sizes), image_size((int64_t)sizes.channels * volume(sizes.in)),
          plane(divider_of(volume(sizes.out))), wide(divider_of(sizes.out[2])), across(divider_of(sizes.out[1] * sizes.out[2]))
    {
        const int taps = volume(s.kernel);
        for (int i = (int)threadIdx.x; i < T::N; i += T::THREADS) {
            int64_t col = col0 + i, c = col / taps;
            int t = (int)(col - c * taps), line = t / s.kernel[2];
            int w = (t - line * s.kernel[2]) * s.dilation[2], h = line % s.kernel[1] * s.dilation[1];
            int d = line / s.kernel[1] * s.dilation[0];
            tap_place to = {(int)(c * volume(s.in) + ((int64_t)d * s.in[1] + h) * s.in[2] + w), d, h, w};
            if (col >= columns)
                to.d = INT32_MIN / 2; /* outside everywhere */
            shared[i] = to;
        }
        __syncthreads();
    }
    __device__ void load(int64_t k, int64_t end)
    {
        int at = (int)k + (int)threadIdx.x % T::K, d, h, w;
        const int64_t image = divide(at, plane, &d);
        d = divide(d, across, &h);
        h = divide(h, wide, &w);
        d = d * s.stride[0] - s.pad[0];
        h = h * s.stride[1] - s.pad[1];
        w = w * s.stride[2] - s.pad[2];
        const float *from = p + image * image_size + (((int64_t)d * s.in[1] + h) * s.in[2] + w);
        UNROLL
        for (int i = 0; i < EACH; i++) {
            const tap_place t = place[(int)threadIdx.x / T::K + i * STEP];
            v[i] = at < end && (unsigned)(d + t.d) < (unsigned)s.in[0] && (unsigned)(h + t.h) < (unsigned)s.in[1] &&
                           (unsigned)(w + t.w) < (unsigned)s.in[2] ? from[t.offset] : 0;
        }
    }
    __device__ void store(float *to) const
    {
        UNROLL
        for (int i = 0; i < EACH; i++)
            to[(int)threadIdx.x % T::K * (T::N + TILE_PAD) + (int)threadIdx.x / T::K + i * STEP] = v[i];
    }
};

/* ---- what happens to a sum: y = max(sum + bias + residual, 0) ---- */

struct conv_finish {
    float *y;                      /* [n, channels, size...] */
    const float *bias, *residual;  /* NULL: none; residual lies like y */
    int channels, each, size[3];   /* each: channels of a group */
    bool relu, vector;             /* vector: an image's pixels may be written four at a time */
    geometry g;

    struct column {
        int64_t at[4];
        int channel;
        bool together;
        __device__ column(const conv_finish &f, int64_t group, int64_t col, int64_t have) : channel((int)group * f.each)
        {
            const int pixels = volume(f.g.count), plane = volume(f.size);
            together = f.vector && have >= 4;
            UNROLL
            for (int i = 0; i < 4; i++) {
                at[i] = 0;
                if (i >= have || (together && i > 0))
                    continue;
                int image = ((int)col + i) / pixels, rest = (int)col + i - image * pixels, line = rest / f.g.count[2];
                int w = rest - line * f.g.count[2], d = line / f.g.count[1], h = line - d * f.g.count[1];
                w = f.g.first[2] + w * f.g.jump[2];
                h = f.g.first[1] + h * f.g.jump[1];
                d = f.g.first[0] + d * f.g.jump[0];
                at[i] = (int64_t)image * f.channels * plane + ((int64_t)d * f.size[1] + h) * f.size[2] + w;
            }
        }
        __device__ void put(const conv_finish &f, int64_t row, float4 v, int64_t have) const
        {
            const int64_t c = channel + row, from = c * volume(f.size);
            const float b = f.bias ? f.bias[c] : 0;
            float x[4] = {v.x + b, v.y + b, v.z + b, v.w + b};
            if (together) {
                float4 r = f.residual ? fetch4(f.residual + from + at[0], 4, true) : make_float4(0, 0, 0, 0);
                v = make_float4(x[0] + r.x, x[1] + r.y, x[2] + r.z, x[3] + r.w);
                if (f.relu)
                    v = make_float4(v.x < 0 ? 0 : v.x, v.y < 0 ? 0 : v.y, v.z < 0 ? 0 : v.z, v.w < 0 ? 0 : v.w);
                put4(f.y + from + at[0], v, 4, true);
                return;
            }
            UNROLL
            for (int i = 0; i < 4; i++)
                if (i < have) {
                    float u = f.residual ? x[i] + f.residual[from + at[i]] : x[i];
                    f.y[from + at[i]] = f.relu && u < 0 ? 0 : u;
                }
        }
    };
};

/* dw [outputs, channels / group * taps] */
struct weight_finish {
    float *dw;
    int64_t rows, columns; /* of a group */
    bool vector;
    struct column {
        int64_t at;
        __device__ column(const weight_finish &f, int64_t group, int64_t col, int64_t) : at(group * f.rows * f.columns + col) {}
        __device__ void put(const weight_finish &f, int64_t row, float4 v, int64_t have) const
        {
            put4(f.dw + at + row * f.columns, v, have, f.vector);
        }
    };
};

/* ---- kernels ---- */

/* w of one group [rows, k] lies densely, so that the product's own side reads it. */
template <class T>
__global__ static void __launch_bounds__(T::THREADS, T::BLOCKS) forward_kernel(conv_sizes s, const float *x, const float *w, product_size p,
                                                                    conv_finish finish, bool vector)
{
    const tile_place<T> place;
    const int64_t tile_n = blockIdx.x / p.tiles_m, row0 = (blockIdx.x - tile_n * p.tiles_m) * T::M, col0 = tile_n * T::N;
    const int64_t begin = blockIdx.z * p.share, end = begin + p.share < p.k ? begin + p.share : p.k;
    const int64_t plane = volume(s.in), image = s.channels * plane;
    for (int64_t group = blockIdx.y; group < s.group; group += gridDim.y) {
        matrix_side<T, T::M, true> a = {w + group * p.m * p.k, p.k, row0, p.m, vector, PRECISION_FP32, {}};
        window_side<T> b(finish.g, x + group * (s.channels / s.group) * plane, image, col0, p.n);
        float sum[T::TM][T::TN];
        tile_product<T>(a, b, begin, end, place, sum);
        tile_finish<T>(p, place, row0, col0, group, sum, finish);
    }
}

template <class T>
__device__ static inline void data_tile_product(const conv_sizes &s, const float *dy, const float *w, const product_size &p,
                                                int64_t group, const conv_finish &finish)
{
    const tile_place<T> place;
    const int64_t tile_n = blockIdx.x / p.tiles_m, row0 = (blockIdx.x - tile_n * p.tiles_m) * T::M, col0 = tile_n * T::N;
    const int64_t plane = volume(s.out), outputs = s.outputs / s.group;
    const int64_t begin = blockIdx.z * p.share, end = begin + p.share < p.k ? begin + p.share : p.k;
    if (col0 >= p.n)
        return;
    weight_side<T> a(finish.g, s, w + group * outputs * p.m * volume(s.kernel), row0, p.m);
    window_side<T> b(finish.g, dy + group * outputs * plane, s.outputs * plane, col0, p.n);
    float sum[T::TM][T::TN];
    tile_product<T>(a, b, begin, end, place, sum);
    tile_finish<T>(p, place, row0, col0, group, sum, finish);
}
/* No strides: one phase. */
template <class T>
__global__ static void __launch_bounds__(T::THREADS, T::BLOCKS) data_kernel(conv_sizes s, const float *dy, const float *w,
                                                                            product_size p, conv_finish finish)
{
    for (int64_t group = blockIdx.y; group < s.group; group += gridDim.y)
        data_tile_product<T>(s, dy, w, p, group, finish);
}
/* Block y counts phases of groups. */
template <class T>
__global__ static void __launch_bounds__(T::THREADS, T::BLOCKS) phase_kernel(conv_sizes s, int phases, const float *dy, const float *w,
                                                                             product_size p, conv_finish finish)
{
    __shared__ conv_finish here;
    for (int64_t i = blockIdx.y; i < (int64_t)s.group * phases; i += gridDim.y) {
        const int64_t group = i / phases;
        __syncthreads();
        if (threadIdx.x == 0) {
            here = finish;
            here.g = data_geometry(s, (int)(i - group * phases));
        }
        __syncthreads();
        p.n = (int64_t)s.n * volume(here.g.count);
        p.k = p.share = (int64_t)(s.outputs / s.group) * volume(here.g.taps);
        data_tile_product<T>(s, dy, w, p, group, here);
    }
}

template <class T>
__global__ static void __launch_bounds__(T::THREADS, T::BLOCKS) weight_kernel(conv_sizes s, const float *x, const float *dy, product_size p,
                                                                   weight_finish finish)
{
    __shared__ tap_place taps[T::N];
    const tile_place<T> place;
    const int64_t tile_n = blockIdx.x / p.tiles_m, row0 = (blockIdx.x - tile_n * p.tiles_m) * T::M, col0 = tile_n * T::N;
    const int64_t begin = blockIdx.z * p.share, end = begin + p.share < p.k ? begin + p.share : p.k;
    const int64_t plane = volume(s.out);
    for (int64_t group = blockIdx.y; group < s.group; group += gridDim.y) {
        pixel_side<T> a = {dy + group * p.m * plane, row0, p.m, s.outputs * plane, divider_of(plane), {}};
        tap_side<T> b(s, x + group * (s.channels / s.group) * volume(s.in), taps, col0, p.n);
        float sum[T::TM][T::TN];
        tile_product<T>(a, b, begin, end, place, sum);
        tile_finish<T>(p, place, row0, col0, group, sum, finish);
    }
}

/* ---- launchers: with `launch` false only sizes, of which the workspace follows ---- */

/* Runs run<tile>(...) with the tile for these sizes. */
#define WITH_TILE(m, n, batches, run, ...) \
    switch (tile_choose((m), (n), (batches))) { \
    case TILE_LARGE: \
        return run<tile_large>(__VA_ARGS__); \
    case TILE_MEDIUM: \
        return run<tile_medium>(__VA_ARGS__); \
    case TILE_TALL: \
        return run<tile_tall>(__VA_ARGS__); \
    case TILE_WIDE: \
        return run<tile_wide>(__VA_ARGS__); \
    case TILE_SMALL: \
        return run<tile_small>(__VA_ARGS__); \
    } \
    return product_size()

static conv_finish finish_of(const kernel_args *a, const conv_sizes &s, bool data)
{
    conv_finish f = {};
    f.y = (float *)a->out[0].data;
    f.bias = optional(a, 2);
    f.channels = data ? s.channels : s.outputs;
    f.each = f.channels / s.group;
    for (int i = 0; i < 3; i++)
        f.size[i] = data ? s.in[i] : s.out[i];
    return f;
}

template <class T> static product_size forward_tile(const kernel_args *a, const conv_sizes &s, const conv_finish &f, bool launch)
{
    const int64_t k = (int64_t)(s.channels / s.group) * volume(s.kernel);
    product_size p = product_of<T>(f.each, (int64_t)s.n * volume(s.out), k, s.group, a->work);
    if (!launch || p.m * p.n == 0)
        return p;
    LAUNCH((forward_kernel<T>), product_grid<T>(&p), T::THREADS, 0, a->queue, s, (const float *)a->in[0].data,
           (const float *)a->in[1].data, p, f, k % 4 == 0 && is_vector(a->in[1].data));
    if (p.splits > 1)
        LAUNCH((product_join<conv_finish>), grid_for(a->queue, p.m * p.n * p.batches, 1), CUDA_THREADS, 0, a->queue, p, f);
    return p;
}
static product_size forward(const kernel_args *a, bool launch)
{
    const conv_attrs *at = (const conv_attrs *)a->attr;
    const conv_sizes s = sizes_of(at, &a->in[0].sh, &a->out[0].sh);
    conv_finish f = finish_of(a, s, false);
    f.g = forward_geometry(s);
    f.residual = optional(a, 3);
    f.relu = at->relu != 0;
    f.vector = volume(s.out) % 4 == 0 && is_vector(f.y) && is_vector(f.residual);
    WITH_TILE(f.each, (int64_t)s.n * volume(s.out), s.group, forward_tile, a, s, f, launch);
}

template <class T> static product_size data_tile(const kernel_args *a, const conv_sizes &s, const conv_finish &f, int phases,
                                                 bool launch)
{
    const int64_t k = (int64_t)(s.outputs / s.group) * volume(f.g.taps);
    product_size p = product_of<T>(f.each, (int64_t)s.n * volume(f.g.count), k, (int64_t)s.group * phases, a->work);
    if (phases > 1) {
        p.splits = 1;
        p.share = k;
    }
    if (!launch || p.m * p.n == 0)
        return p;
    const float *dy = (const float *)a->in[0].data, *w = (const float *)a->in[1].data;
    if (phases > 1)
        LAUNCH((phase_kernel<T>), product_grid<T>(&p), T::THREADS, 0, a->queue, s, phases, dy, w, p, f);
    else
        LAUNCH((data_kernel<T>), product_grid<T>(&p), T::THREADS, 0, a->queue, s, dy, w, p, f);
    if (p.splits > 1)
        LAUNCH((product_join<conv_finish>), grid_for(a->queue, p.m * p.n * p.batches, 1), CUDA_THREADS, 0, a->queue, p, f);
    return p;
}
/* ConvGradData, and ConvTranspose with its bias. */
static product_size data(const kernel_args *a, bool launch)
{
    const conv_sizes s = sizes_of((const conv_attrs *)a->attr, &a->out[0].sh, &a->in[0].sh);
    const int phases = phases_of(s, 0) * phases_of(s, 1) * phases_of(s, 2);
    conv_finish f = finish_of(a, s, true);
    if (shape_count(&a->out[0].sh) == 0)
        return product_size();
    f.g = data_geometry(s, 0);
    f.vector = phases == 1 && volume(s.in) % 4 == 0 && is_vector(f.y);
    for (int i = 0; i < 3; i++) /* one pixel of several is no phase of all */
        f.vector &= f.g.count[i] == s.in[i];
    WITH_TILE(f.each, (int64_t)s.n * volume(f.g.count), (int64_t)s.group * phases, data_tile, a, s, f, phases, launch);
}

template <class T> static product_size weight_tile(const kernel_args *a, const conv_sizes &s, const weight_finish &f, bool launch)
{
    product_size p = product_of<T>(f.rows, f.columns, (int64_t)s.n * volume(s.out), s.group, a->work);
    if (!launch || p.m * p.n == 0)
        return p;
    LAUNCH((weight_kernel<T>), product_grid<T>(&p), T::THREADS, 0, a->queue, s, (const float *)a->in[0].data,
           (const float *)a->in[1].data, p, f);
    if (p.splits > 1)
        LAUNCH((product_join<weight_finish>), grid_for(a->queue, p.m * p.n * p.batches, 1), CUDA_THREADS, 0, a->queue, p, f);
    return p;
}
static product_size weight(const kernel_args *a, bool launch)
{
    const conv_sizes s = sizes_of((const conv_attrs *)a->attr, &a->in[0].sh, &a->in[1].sh);
    weight_finish f = {(float *)a->out[0].data, s.outputs / s.group, (int64_t)(s.channels / s.group) * volume(s.kernel), false};
    f.vector = f.columns % 4 == 0 && is_vector(f.dw);
    WITH_TILE(f.rows, f.columns, s.group, weight_tile, a, s, f, launch);
}

static bool takes_any(const kernel_args *a)
{
    return conv_counts(&a->in[0]) && conv_counts(&a->in[1]) && conv_counts(&a->out[0]);
}
static bool takes(const kernel_args *a)
{
    return !conv_depthwise((const conv_attrs *)a->attr, &a->in[0].sh) && takes_any(a);
}
static bool takes_data(const kernel_args *a)
{
    return !conv_depthwise((const conv_attrs *)a->attr, &a->out[0].sh) && takes_any(a);
}

#define OPERATOR(name) \
    static void name##_run(const kernel_args *a) { name(a, true); } \
    static size_t name##_workspace(const kernel_args *a) \
    { \
        product_size p = name(a, false); \
        return product_workspace(&p); \
    }
OPERATOR(forward)
OPERATOR(data)
OPERATOR(weight)

/* ---- NormConv, NormConvGradWeight: the same with the norm of x, made in the workspace ---- */

__global__ static void norm_kernel(float *y, const float *x, const float *mean, const float *var, const float *scale,
                                   const float *bias, int64_t n, int64_t channels, int64_t plane, float epsilon, bool relu, float ceiling)
{
    GRID_STRIDE(i, n)
    {
        const int64_t c = i / plane % channels;
        float v = (x[i] - mean[c]) * (scale[c] / sqrtf(var[c] + epsilon)) + bias[c];
        v = relu && v < 0 ? 0 : v;
        y[i] = relu && v > ceiling ? ceiling : v;
    }
}
static size_t norm_bytes(const kernel_args *a)
{
    return ((size_t)shape_count(&a->in[0].sh) * sizeof(float) + 255) / 256 * 256;
}
/* The operands of the norm stand from `first` on. */
static void run_normed(const kernel_args *a, int first, void (*run)(const kernel_args *a))
{
    enum { MOST = 4 };
    const conv_attrs *at = (const conv_attrs *)a->attr;
    const shape *x = &a->in[0].sh;
    const int64_t n = shape_count(x), planes = x->dim[0] * x->dim[1];
    kernel_tensor in[MOST];
    kernel_args inner = *a;
    for (int i = 0; i < first; i++)
        in[i] = a->in[i];
    in[0].data = a->work;
    inner.in = in;
    inner.n_in = first;
    inner.work = (char *)a->work + norm_bytes(a);
    inner.work_size = a->work_size - norm_bytes(a);
    if (n > 0)
        LAUNCH(norm_kernel, grid_for(a->queue, n, 4), CUDA_THREADS, 0, a->queue, (float *)a->work, (const float *)a->in[0].data,
               optional(a, first), optional(a, first + 1), optional(a, first + 2), optional(a, first + 3), n, x->dim[1],
               n / planes, (float)at->norm_epsilon, at->norm_relu != 0,
               at->norm_ceiling > 0 ? (float)at->norm_ceiling : INFINITY);
    run(&inner);
}
static void norm_forward_run(const kernel_args *a)
{
    run_normed(a, 4, forward_run);
}
static void norm_weight_run(const kernel_args *a)
{
    run_normed(a, 2, weight_run);
}
static size_t norm_forward_workspace(const kernel_args *a)
{
    return norm_bytes(a) + forward_workspace(a);
}

/* ConvMoments: one of the two, then a block for each channel, which reads it twice. Nothing but tests asks for it: of plain images
 * statistics are no cheaper so. */
__global__ static void __launch_bounds__(CUDA_THREADS)
moments_kernel(float *mean, float *var, const float *y, int64_t images, int64_t channels, int64_t pixels)
{
    __shared__ float part[32];
    for (int64_t c = blockIdx.x; c < channels; c += gridDim.x) {
        const float count = (float)(images * pixels), pivot = y[c * pixels];
        float sum = 0, square = 0;
        for (int64_t i = threadIdx.x; i < images * pixels; i += blockDim.x)
            sum += y[(i / pixels * channels + c) * pixels + i % pixels] - pivot;
        sum = block_sum(sum, part) / count;
        for (int64_t i = threadIdx.x; i < images * pixels; i += blockDim.x) {
            const float far = y[(i / pixels * channels + c) * pixels + i % pixels] - pivot - sum;
            square += far * far;
        }
        square = block_sum(square, part) / count;
        if (threadIdx.x == 0) {
            mean[c] = pivot + sum;
            var[c] = square;
        }
    }
}
static bool has_norm(const kernel_args *a)
{
    return a->n_in > 4;
}
static void moments_run(const kernel_args *a)
{
    const shape *s = &a->out[0].sh;
    if (has_norm(a))
        norm_forward_run(a);
    else
        forward_run(a);
    LAUNCH(moments_kernel, (unsigned)(s->dim[1] < 65535 ? s->dim[1] : 65535), CUDA_THREADS, 0, a->queue, (float *)a->out[1].data,
           (float *)a->out[2].data, (const float *)a->out[0].data, s->dim[0], s->dim[1], shape_count(s) / (s->dim[0] * s->dim[1]));
}
static size_t moments_workspace(const kernel_args *a)
{
    return has_norm(a) ? norm_forward_workspace(a) : forward_workspace(a);
}
/* ConvGradDataSums: the data's gradient, then a block for each channel. Nothing but tests asks for it. */
typedef struct sums_args {
    float *g, *dscale, *dbias;
    const float *x, *scale, *mean, *var, *bias; /* bias: NULL where nothing is flat */
    int64_t images, channels, pixels;
    float epsilon, ceiling;
} sums_args;
__global__ static void __launch_bounds__(CUDA_THREADS) data_sums_kernel(const sums_args s)
{
    __shared__ float part[32];
    for (int64_t c = blockIdx.x; c < s.channels; c += gridDim.x) {
        const float mean = s.mean[c], inv = 1 / sqrtf(s.var[c] + s.epsilon), scale = s.scale[c], bias = s.bias ? s.bias[c] : 0;
        float sum = 0, sum_xhat = 0;
        for (int64_t i = threadIdx.x; i < s.images * s.pixels; i += blockDim.x) {
            const int64_t at = (i / s.pixels * s.channels + c) * s.pixels + i % s.pixels;
            const float xhat = (s.x[at] - mean) * inv, y = xhat * scale + bias;
            float g = s.g[at];
            if (s.bias && !(y > 0 && y < s.ceiling))
                s.g[at] = g = 0;
            sum += g;
            sum_xhat += g * xhat;
        }
        sum = block_sum(sum, part);
        sum_xhat = block_sum(sum_xhat, part);
        if (threadIdx.x == 0) {
            s.dscale[c] = sum_xhat;
            s.dbias[c] = sum;
        }
    }
}
static void data_sums_run(const kernel_args *a)
{
    const conv_attrs *at = (const conv_attrs *)a->attr;
    const shape *sh = &a->out[0].sh;
    const sums_args s = {(float *)a->out[0].data, (float *)a->out[1].data, (float *)a->out[2].data, optional(a, 2), optional(a, 3),
                         optional(a, 4), optional(a, 5), at->norm_relu ? optional(a, 6) : NULL, sh->dim[0], sh->dim[1],
                         shape_count(sh) / (sh->dim[0] * sh->dim[1]), (float)at->norm_epsilon,
                         at->norm_ceiling > 0 ? (float)at->norm_ceiling : INFINITY};
    kernel_args plain = *a;
    plain.n_in = 2;
    data_run(&plain);
    LAUNCH(data_sums_kernel, (unsigned)(s.channels < 65535 ? s.channels : 65535), CUDA_THREADS, 0, a->queue, s);
}
static size_t data_sums_workspace(const kernel_args *a)
{
    return data_workspace(a);
}
static size_t norm_weight_workspace(const kernel_args *a)
{
    return norm_bytes(a) + weight_workspace(a);
}

#define ROW(operator, text, function, sizes) \
    {.op = operator, .type = DTYPE_F32, .name = text, .run = function##_run, .workspace = function##_workspace, .takes = sizes}
CUDA_TABLE(conv) = {
    ROW(OP_CONV, "conv", forward, takes),
    ROW(OP_CONV_GRAD_DATA, "conv grad data", data, takes_data),
    ROW(OP_CONV_GRAD_WEIGHT, "conv grad weight", weight, takes),
    ROW(OP_CONV_TRANSPOSE, "conv transpose", data, takes_data),
    ROW(OP_NORM_CONV, "norm conv", norm_forward, takes_any),
    ROW(OP_NORM_CONV_GRAD_WEIGHT, "norm conv grad weight", norm_weight, takes_any),
    ROW(OP_CONV_MOMENTS, "conv moments", moments, takes_any),
    ROW(OP_CONV_GRAD_DATA_SUMS, "conv grad data sums", data_sums, takes_any),
    KERNEL_END};
