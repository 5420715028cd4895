/* conv_half_weight.cu - gradients of convolutions with respect to the weight, of float16 and bfloat16 images that lie channels
 * last; the result is float32 and plain:
 *
 *     dw' [taps * C/g, M/g] = windows of x [taps * C/g, pixels of dy] times dy [pixels of dy, M/g],   dw = dw' transposed
 *
 * for every group. Pixels are many and results few: the sum is cut into shares (how many depends on sizes alone), each with
 * results of its own in the workspace, which a second kernel adds in order. NormConvGradWeight: half_norm.cuh. */
#include "kernels/cuda/half_norm.cuh"

#define NOWHERE (INT32_MIN / 2) /* a coordinate that no pixel brings inside */

typedef struct half_weight {
    const uint16_t *x, *dy;
    float *dw, *partial;          /* partial: [group][splits][rows][columns], used where splits > 1 */
    conv_sizes s;
    divider channels, across, wide; /* of a group of x; taps: of the two inner axes, of the innermost */
    divider pixels, lines, line;    /* windows: of an image, of the two inner axes, of the innermost */
    int taps, rows, columns, k;
    int tiles_n, splits, share;
    norm_in norm; /* of x */
} half_weight;

typedef struct __align__(16) tap_place {
    int offset, d, h, w; /* in elements from the window's corner; along the axes */
} tap_place;
__device__ static inline tap_place place_of(const half_weight &c, int row)
{
    int channel, tap = divide(row < c.rows ? row : 0, c.channels, &channel);
    const int d = divide(tap, c.across, &tap) * c.s.dilation[0], h = divide(tap, c.wide, &tap) * c.s.dilation[1];
    const int w = tap * c.s.dilation[2];
    const tap_place p = {((d * c.s.in[1] + h) * c.s.in[2] + w) * c.s.channels + channel, row < c.rows ? d : NOWHERE, h, w};
    return p;
}

/* Rows tap * channels + channel; k = window of the batch. N: the norm of x. */
template <class P, bool VECTOR, class N = no_norm> struct tap_rows {
    static constexpr bool ALONG_K = false, CHANGES = VECTOR && N::IS;
    static constexpr int PIECES = P::M / 8, STEP = P::THREADS / PIECES, EACH = P::K / STEP;
    static_assert(P::K % STEP == 0, "every thread has pixels");
    const half_weight &c;
    const uint16_t *p;      /* first image, the group's first channel */
    const tap_place *table; /* of the rows, in shared memory; not VECTOR */
    const float2 *norms;    /* likewise */
    tap_place own;          /* of the piece; VECTOR */
    norm_eight norm;        /* likewise */
    pieces_there<EACH, P::STAGES> there;

    __device__ tap_rows(const half_weight &weight, const tap_place *places, const float2 *norms_of, int group, int row0)
        : c(weight), p(weight.x + group * (int)weight.channels.d), table(places), norms(norms_of)
    {
        const int row = row0 + (int)threadIdx.x % PIECES * 8;
        if (VECTOR)
            own = place_of(c, row);
        if constexpr (CHANGES) {
            int channel;
            divide(row < c.rows ? row : 0, c.channels, &channel);
            UNROLL
            for (int e = 0; e < 8; e++) {
                const float2 of = norm_of_channel(c.norm, group * (int)c.channels.d + channel + e);
                norm.factor[e] = of.x;
                norm.add[e] = of.y;
            }
        }
    }
    __device__ bool inside(int z, int y, int x, const tap_place &t) const
    {
        return (unsigned)(z + t.d) < (unsigned)c.s.in[0] && (unsigned)(y + t.h) < (unsigned)c.s.in[1] &&
               (unsigned)(x + t.w) < (unsigned)c.s.in[2];
    }
    __device__ void load(uint4 *to, int k, int end)
    {
        const int piece = (int)threadIdx.x % PIECES, first = (int)threadIdx.x / PIECES;
        const int64_t image = (int64_t)volume(c.s.in) * c.s.channels;
        uint32_t in_all = 0;
        UNROLL
        for (int i = 0; i < EACH; i++) {
            const int row = first + i * STEP, at = k + row;
            int x, n = divide(at < end ? at : 0, c.pixels, &x), z = divide(x, c.lines, &x), y = divide(x, c.line, &x);
            z = z * c.s.stride[0] - c.s.pad[0];
            y = y * c.s.stride[1] - c.s.pad[1];
            x = x * c.s.stride[2] - c.s.pad[2];
            const uint16_t *const from = p + n * image;
            const int corner = ((z * c.s.in[1] + y) * c.s.in[2] + x) * c.s.channels;
            if (VECTOR) {
                const bool in = at < end && inside(z, y, x, own);
                copy_begin(to + half_place<PIECES>(row, piece), in ? from + (corner + own.offset) : c.x, in);
                in_all |= (uint32_t)in << i;
            } else {
                uint32_t pair[4] = {};
                UNROLL
                for (int e = 0; e < 8; e++) {
                    const tap_place t = table[piece * 8 + e];
                    if (at < end && inside(z, y, x, t)) {
                        const uint16_t v = from[corner + t.offset];
                        pair[e / 2] |= (uint32_t)(N::IS ? normed<typename N::E>(v, norms[piece * 8 + e], c.norm.after) : v) << e % 2 * 16;
                    }
                }
                to[half_place<PIECES>(row, piece)] = make_uint4(pair[0], pair[1], pair[2], pair[3]);
            }
        }
        if (CHANGES)
            there.push(in_all);
    }
    __device__ void change(uint4 *at, int, int)
    {
        const int piece = (int)threadIdx.x % PIECES, first = (int)threadIdx.x / PIECES;
        const uint32_t in = there.pop();
        UNROLL
        for (int i = 0; i < EACH; i++)
            if (in >> i & 1) {
                uint4 *const one = at + half_place<PIECES>(first + i * STEP, piece);
                *one = normed<typename N::E>(*one, norm, c.norm.after);
            }
    }
};

/* Columns: outputs of a group; k = window of the batch. */
template <class P, bool VECTOR> struct output_columns {
    static constexpr bool ALONG_K = false, CHANGES = false;
    static constexpr int PIECES = P::N / 8, STEP = P::THREADS / PIECES, EACH = (P::K + STEP - 1) / STEP;
    const uint16_t *p; /* first pixel, this tile's first column */
    int step, columns; /* columns: from there on */
    __device__ void load(uint4 *to, int k, int end) const
    {
        const int piece = (int)threadIdx.x % PIECES, have = columns - piece * 8;
        UNROLL
        for (int i = 0; i < EACH; i++) {
            const int row = (int)threadIdx.x / PIECES + i * STEP;
            if (EACH * STEP != P::K && row >= P::K)
                break;
            const bool in = k + row < end && have > 0;
            const uint16_t *const from = p + (int64_t)(k + row) * step + piece * 8;
            if (VECTOR) {
                copy_begin(to + half_place<PIECES>(row, piece), in ? from : p, in);
            } else {
                uint32_t pair[4] = {};
                UNROLL
                for (int e = 0; e < 8; e++)
                    if (in && e < have)
                        pair[e / 2] |= (uint32_t)from[e] << e % 2 * 16;
                to[half_place<PIECES>(row, piece)] = make_uint4(pair[0], pair[1], pair[2], pair[3]);
            }
        }
    }
};

/* Where result (row, column) of a group lies in dw [M, C/g, taps]. */
__device__ static inline int64_t weight_at(const half_weight &c, int group, int row, int column)
{
    int channel, tap = divide(row, c.channels, &channel);
    return (((int64_t)group * c.columns + column) * (int)c.channels.d + channel) * c.taps + tap;
}

struct weight_result {
    const half_weight &c;
    int row0, column0, group;
    __device__ void put(int r, int column, const float (&v)[8]) const
    {
        const int row = row0 + r, at = column0 + column, have = c.columns - at;
        if (row >= c.rows || have <= 0)
            return;
        if (c.splits == 1) {
            UNROLL
            for (int i = 0; i < 8; i++)
                if (i < have)
                    c.dw[weight_at(c, group, row, at + i)] = v[i];
            return;
        }
        float *const to = c.partial + (((int64_t)group * c.splits + blockIdx.z) * c.rows + row) * c.columns + at;
        if (c.columns % 8 == 0) {
            reinterpret_cast<float4 *>(to)[0] = make_float4(v[0], v[1], v[2], v[3]);
            reinterpret_cast<float4 *>(to)[1] = make_float4(v[4], v[5], v[6], v[7]);
            return;
        }
        UNROLL
        for (int i = 0; i < 8; i++)
            if (i < have)
                to[i] = v[i];
    }
};

template <int N> __device__ static inline tap_place *place_space()
{
    __shared__ tap_place places[N];
    return places;
}
template <int N> __device__ static inline float2 *norm_space()
{
    __shared__ float2 norms[N];
    return norms;
}

/* Block x is a tile, y counts groups, z shares. X, DY: whether the operand is read 16 bytes at a time. N: the norm of x. */
template <class P, class E, bool X, bool DY, class N>
__global__ static void __launch_bounds__(P::THREADS, P::BLOCKS) half_weight_kernel(const __grid_constant__ half_weight c)
{
    tap_place *places = NULL;
    float2 *norms = NULL;
    const int tile = (int)blockIdx.x, row0 = tile / c.tiles_n * P::M, column0 = tile % c.tiles_n * P::N;
    const int begin = (int)blockIdx.z * c.share, end = begin + c.share < c.k ? begin + c.share : c.k;
    if constexpr (!X) {
        places = place_space<P::M>();
        for (int i = (int)threadIdx.x; i < P::M; i += P::THREADS)
            places[i] = place_of(c, row0 + i);
        __syncthreads();
    }
    for (int group = (int)blockIdx.y; group < c.s.group; group += (int)gridDim.y) {
        if constexpr (N::IS && !X) { /* half_product begins with a barrier, and ends with one */
            norms = norm_space<P::M>();
            for (int i = (int)threadIdx.x; i < P::M; i += P::THREADS) {
                int channel;
                divide(row0 + i < c.rows ? row0 + i : 0, c.channels, &channel);
                norms[i] = norm_of_channel(c.norm, group * (int)c.channels.d + channel);
            }
        }
        tap_rows<P, X, N> a(c, places, norms, group, row0);
        const output_columns<P, DY> b = {c.dy + group * c.columns + column0, c.s.outputs, c.columns - column0};
        float sum[P::FM][P::FN][4];
        half_product<P, E>(a, b, begin, end, sum);
        half_finish<P>(sum, weight_result{c, row0, column0, group});
    }
}

#define JOIN_SLICES (CUDA_THREADS / 32)
/* dw = the sum of the shares: eight sums of every eighth of them, then these in order. */
__global__ static void half_weight_join(const __grid_constant__ half_weight c)
{
    __shared__ float part[JOIN_SLICES][32];
    const int64_t each = (int64_t)c.rows * c.columns, all = each * c.s.group;
    const int lane = (int)threadIdx.x % 32, slice = (int)threadIdx.x / 32;
    for (int64_t first = (int64_t)blockIdx.x * 32; first < all; first += (int64_t)gridDim.x * 32) {
        const int64_t i = first + lane, group = i / each, at = i - group * each;
        float sum = 0;
        if (i < all) {
            const float *from = c.partial + group * c.splits * each + at;
            for (int s = slice; s < c.splits; s += JOIN_SLICES)
                sum += from[s * each];
        }
        part[slice][lane] = sum;
        __syncthreads();
        if (slice == 0 && i < all) {
            for (int s = 1; s < JOIN_SLICES; s++)
                sum += part[s][lane];
            c.dw[weight_at(c, (int)group, (int)(at / c.columns), (int)(at % c.columns))] = sum;
        }
        __syncthreads();
    }
}

/* ---- launchers ---- */

static const int64_t BLOCKS_WANTED = 264, SHARES_MOST = 128, SHARE_LEAST = 256; /* SHARE_LEAST: entries of the sum */

template <class P> static void cut(half_weight *c)
{
    const int64_t blocks = (int64_t)((c->rows + P::M - 1) / P::M) * ((c->columns + P::N - 1) / P::N) * c->s.group;
    int64_t splits = blocks > 0 ? BLOCKS_WANTED / blocks : 1, most = c->k / SHARE_LEAST;
    splits = splits < most ? splits : most;
    splits = splits < SHARES_MOST ? splits : SHARES_MOST;
    c->splits = 1;
    c->share = c->k;
    if (splits > 1) {
        c->share = (int)(((c->k + splits - 1) / splits + P::K - 1) / P::K * P::K);
        c->splits = (c->k + c->share - 1) / c->share;
    }
}
static half_kind kind_of(const half_weight &c)
{
    return c.columns <= 16 ? HALF_THIN : c.columns <= 32 ? HALF_TALL : c.rows <= 64 ? HALF_SMALL
           : c.columns <= 64                                                        ? HALF_MEDIUM : HALF_LARGE;
}

static half_weight weight_of(const kernel_args *a)
{
    half_weight c = {};
    c.s = sizes_of((const conv_attrs *)a->attr, &a->in[0].sh, &a->in[1].sh);
    c.x = (const uint16_t *)a->in[0].data;
    c.dy = (const uint16_t *)a->in[1].data;
    c.dw = (float *)a->out[0].data;
    c.partial = (float *)a->work;
    c.norm = norm_in_of(a, 2);
    c.channels = divider_of(c.s.channels / c.s.group);
    c.across = divider_of(c.s.kernel[1] * c.s.kernel[2]);
    c.wide = divider_of(c.s.kernel[2]);
    c.pixels = divider_of(volume(c.s.out));
    c.lines = divider_of(c.s.out[1] * c.s.out[2]);
    c.line = divider_of(c.s.out[2]);
    c.taps = volume(c.s.kernel);
    c.rows = c.taps * (c.s.channels / c.s.group);
    c.columns = c.s.outputs / c.s.group;
    c.k = c.s.n * volume(c.s.out);
    switch (kind_of(c)) {
    case HALF_LARGE: cut<half_large>(&c); break;
    case HALF_MEDIUM: cut<half_medium>(&c); break;
    case HALF_SMALL: cut<half_small>(&c); break;
    case HALF_TALL: cut<half_tall>(&c); break;
    case HALF_THIN: cut<half_thin>(&c); break;
    }
    return c;
}

template <class P, class E, bool X, bool DY> static void start(const kernel_args *a, half_weight c)
{
    c.tiles_n = (c.columns + P::N - 1) / P::N;
    const dim3 grid((unsigned)((c.rows + P::M - 1) / P::M * c.tiles_n), (unsigned)(c.s.group < 65535 ? c.s.group : 65535),
                    (unsigned)c.splits);
    if (c.norm.mean)
        LAUNCH((half_weight_kernel<typename normed_shape<P>::shape, E, X, DY, norm_of<E>>), grid, P::THREADS, 0, a->queue, c);
    else
        LAUNCH((half_weight_kernel<P, E, X, DY, no_norm>), grid, P::THREADS, 0, a->queue, c);
}
template <class E> static void start_any(const kernel_args *a, const half_weight &c)
{
    const bool x = c.channels.d % 8 == 0 && is_vector(c.x), dy = c.columns % 8 == 0 && is_vector(c.dy);
    if (!dy)
        return start<half_small, E, false, false>(a, c);
    if (!x)
        return start<half_small, E, false, true>(a, c);
    switch (kind_of(c)) {
    case HALF_LARGE: return start<half_large, E, true, true>(a, c);
    case HALF_MEDIUM: return start<half_medium, E, true, true>(a, c);
    case HALF_SMALL: return start<half_small, E, true, true>(a, c);
    case HALF_TALL: return start<half_tall, E, true, true>(a, c);
    case HALF_THIN: return start<half_thin, E, true, true>(a, c);
    }
}

template <class E> static void run(const kernel_args *a)
{
    const half_weight c = weight_of(a);
    const int64_t n = shape_count(&a->out[0].sh);
    if (n == 0)
        return;
    start_any<E>(a, c);
    if (c.splits > 1)
        LAUNCH(half_weight_join, grid_for(a->queue, n * JOIN_SLICES, 1), CUDA_THREADS, 0, a->queue, c);
}
static size_t workspace(const kernel_args *a)
{
    const half_weight c = weight_of(a);
    return c.splits > 1 ? (size_t)shape_count(&a->out[0].sh) * (size_t)c.splits * sizeof(float) : 0;
}
static bool takes(const kernel_args *a)
{
    const conv_attrs *at = (const conv_attrs *)a->attr;
    return has_tensor_cores(a) && at->exact == 0 && !conv_depthwise(at, &a->in[0].sh) && a->in[1].type == a->in[0].type &&
           conv_counts(&a->in[0]) && conv_counts(&a->in[1]) && conv_counts(&a->out[0]);
}

/* NormConvGradWeight. Where cuDNN makes the plain gradient, only its own kernels can be better. */
static bool takes_normed(const kernel_args *a)
{
    const half_weight c = weight_of(a);
    return !a->queue->dnn && takes(a) && norm_pays(c.s, kind_of(c));
}

#define ROW(type_, E)                                                                                                  \
    {.op = OP_CONV_GRAD_WEIGHT, .type = type_, .name = "conv grad weight " #E, .run = run<E>, .workspace = workspace,  \
     .takes = takes, .blocked_in = 1 | 1 << 1},                                                                        \
    {.op = OP_NORM_CONV_GRAD_WEIGHT, .type = type_, .name = "norm conv grad weight " #E, .run = run<E>,                \
     .workspace = workspace, .takes = takes_normed, .blocked_in = 1 | 1 << 1}
CUDA_TABLE(conv_half_weight) = {ROW(DTYPE_F16, __half), ROW(DTYPE_BF16, __nv_bfloat16), KERNEL_END};
