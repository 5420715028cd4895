/* conv_half.cu - convolutions of float16 and bfloat16 images that lie channels last, and their gradients with respect to the
 * data (src/ops/conv.c has the formulas): implicit matrix products on tensor cores (half_tile.cuh), sums in float32.
 *
 *     forward  y  [pixels of y, M/g]  = windows of x  [pixels of y, taps * C/g]  times w [M/g, taps * C/g] transposed
 *     data     dx [pixels of dx, C/g] = windows of dy [pixels of dx, taps * M/g] times w [M/g, taps, C/g] by taps and M/g
 *
 * for every group; weights lie [M, taps, C/g] in the same type; bias is float32. Where the channels of a group are a multiple of
 * eight, a tap's channels are read 16 bytes at a time. Phases of strided gradients: conv.cuh. NormConv: half_norm.cuh. What is
 * counted on the way out (ConvMoments: moments.cuh, ConvGradDataSums: grad_sums.cuh) has kernels of its own: it takes registers. */
#include "kernels/cuda/grad_sums.cuh"
#include "kernels/cuda/half_norm.cuh"
#include "kernels/cuda/moments.cuh"

#define NOWHERE (INT32_MIN / 2) /* a coordinate that no tap brings inside */
#define PHASES  4               /* of a launch */

/* One phase (the forward direction has one). */
typedef struct half_phase {
    geometry g;
    divider pixels, lines, line; /* positions: of an image, of the two inner axes, of the innermost */
    int rows, k;                 /* positions of the batch; taps times channels */
    int piece;                   /* the first one of its sums */
} half_phase;
typedef struct half_conv {
    const uint16_t *source, *weight;
    void *y;
    const void *residual; /* NULL: none; lies like y */
    const float *bias;    /* NULL: none */
    divider channels;     /* of a group of the source */
    int group, step, each;            /* step: channels of the source; each: columns, the channels of a group of y */
    int taps, kernel[3];              /* of the weight */
    int size[3], columns;             /* of y; columns: channels of y */
    bool relu, dense, vector;         /* dense: rows are pixels of y in order; vector: y can be written 16 bytes at a time */
    float2 *part; /* [columns, pieces]: mean, squared distances of the tiles' rows; NULL: not wanted */
    int pieces;   /* tiles of rows */
    int tiles_n, phases;
    norm_in norm;         /* of the source */
    norm_behind behind;   /* of y */
    half_phase phase[PHASES];
} half_conv;

/* ---- sides ---- */

/* Rows: windows at positions; k = tap * channels + channel. N: the norm of what they show. */
template <class P, bool VECTOR, class N = no_norm> struct window_rows {
    static constexpr bool ALONG_K = true, CHANGES = VECTOR && N::IS;
    static constexpr int STEP = P::THREADS / 4, EACH = P::M / STEP;
    static_assert(P::M % STEP == 0, "every thread has rows");
    const half_conv &c;
    const half_phase &f;
    const float *norms; /* the table */
    const uint16_t *image[EACH]; /* of the row, the group's first channel */
    int d[EACH], h[EACH], w[EACH], channel0;
    pieces_there<EACH, P::STAGES> there;

    __device__ window_rows(const half_conv &conv, const half_phase &phase, int group, int row0, const float *table = NULL)
        : c(conv), f(phase), norms(table), channel0(group * (int)conv.channels.d)
    {
        const geometry &g = f.g;
        const int64_t size = (int64_t)volume(g.limit) * c.step;
        UNROLL
        for (int i = 0; i < EACH; i++) {
            const int row = row0 + (int)threadIdx.x / 4 + i * STEP;
            int at, n = divide(row < f.rows ? row : 0, f.pixels, &at);
            int z = divide(at, f.lines, &at), y = divide(at, f.line, &at);
            image[i] = c.source + n * size + group * (int)c.channels.d;
            d[i] = row < f.rows ? z * g.step[0] + g.base[0] : NOWHERE;
            h[i] = y * g.step[1] + g.base[1];
            w[i] = at * g.step[2] + g.base[2];
        }
    }
    /* Entry k: where it lies seen from a row's window, and its tap's place. */
    __device__ int offset_of(int k, int *z, int *y, int *x) const
    {
        const geometry &g = f.g;
        int channel, tap = divide(k, c.channels, &channel);
        *z = divide(tap, g.across, &tap) * g.tap_step[0];
        *y = divide(tap, g.wide, &tap) * g.tap_step[1];
        *x = tap * g.tap_step[2];
        return ((*z * g.limit[1] + *y) * g.limit[2] + *x) * c.step + channel;
    }
    __device__ bool inside(int i, int z, int y, int x, int *at) const
    {
        const geometry &g = f.g;
        const bool in = (unsigned)(d[i] + z) < (unsigned)g.limit[0] && (unsigned)(h[i] + y) < (unsigned)g.limit[1] &&
                        (unsigned)(w[i] + x) < (unsigned)g.limit[2];
        *at = in ? ((d[i] * g.limit[1] + h[i]) * g.limit[2] + w[i]) * c.step : 0;
        return in;
    }
    __device__ int channel_of(int k) const
    {
        int channel;
        divide(k, c.channels, &channel);
        return channel0 + channel;
    }
    __device__ void load(uint4 *to, int k, int end)
    {
        const int piece = (int)threadIdx.x % 4, first = (int)threadIdx.x / 4, begin = k + piece * 8;
        int z = 0, y = 0, x = 0, at;
        if (VECTOR) {
            const int offset = begin < end ? offset_of(begin, &z, &y, &x) : 0;
            uint32_t in_all = 0;
            UNROLL
            for (int i = 0; i < EACH; i++) {
                const bool in = inside(i, z, y, x, &at) && begin < end;
                copy_begin(to + half_place<4>(first + i * STEP, piece), in ? image[i] + (at + offset) : c.source, in);
                in_all |= (uint32_t)in << i;
            }
            if (N::IS)
                there.push(in_all);
        } else {
            uint32_t pair[EACH][4] = {};
            UNROLL
            for (int e = 0; e < 8; e++) {
                const int offset = begin + e < end ? offset_of(begin + e, &z, &y, &x) : 0;
                float2 norm = {};
                if (N::IS && begin + e < end)
                    norm = norm_table_one(norms, channel_of(begin + e));
                UNROLL
                for (int i = 0; i < EACH; i++)
                    if (inside(i, z, y, x, &at) && begin + e < end) {
                        const uint16_t v = image[i][at + offset];
                        pair[i][e / 2] |= (uint32_t)(N::IS ? normed<typename N::E>(v, norm, c.norm.after) : v) << e % 2 * 16;
                    }
            }
            UNROLL
            for (int i = 0; i < EACH; i++)
                to[half_place<4>(first + i * STEP, piece)] = make_uint4(pair[i][0], pair[i][1], pair[i][2], pair[i][3]);
        }
    }
    __device__ void change(uint4 *at, int k, int)
    {
        const int piece = (int)threadIdx.x % 4, first = (int)threadIdx.x / 4;
        const uint32_t in = there.pop();
        if (in == 0)
            return;
        const norm_eight norm = norm_table_eight(norms, channel_of(k + piece * 8));
        UNROLL
        for (int i = 0; i < EACH; i++)
            if (in >> i & 1) {
                uint4 *const one = at + half_place<4>(first + i * STEP, piece);
                *one = normed<typename N::E>(*one, norm, c.norm.after);
            }
    }
};

/* Eight numbers at p, `have` of them there. */
__device__ static inline uint4 fetch8(const uint16_t *p, int have)
{
    uint32_t pair[4] = {};
    UNROLL
    for (int e = 0; e < 8; e++)
        if (e < have)
            pair[e / 2] |= (uint32_t)p[e] << e % 2 * 16;
    return make_uint4(pair[0], pair[1], pair[2], pair[3]);
}

/* The weight of the forward direction: a row is a column of the result, its entries lie in order. */
template <class P, bool VECTOR> struct weight_rows {
    static constexpr bool ALONG_K = true, CHANGES = false;
    static constexpr int STEP = P::THREADS / 4, EACH = (P::N + STEP - 1) / STEP;
    const uint16_t *p; /* the group's, at this tile's first row */
    int64_t step;
    int rows;
    __device__ void load(uint4 *to, int k, int end) const
    {
        const int piece = (int)threadIdx.x % 4, at = k + piece * 8;
        UNROLL
        for (int i = 0; i < EACH; i++) {
            const int row = (int)threadIdx.x / 4 + i * STEP;
            if (EACH * STEP != P::N && row >= P::N)
                break;
            const bool in = row < rows && at < end;
            if (VECTOR)
                copy_begin(to + half_place<4>(row, piece), in ? p + row * step + at : p, in);
            else
                to[half_place<4>(row, piece)] = fetch8(p + row * step + at, in ? end - at : 0);
        }
    }
};

/* The weight of the data's direction: k = tap * outputs + output; its columns lie in order. */
template <class P, bool VECTOR> struct weight_columns {
    static constexpr bool ALONG_K = false, CHANGES = false;
    static constexpr int PIECES = P::N / 8, STEP = P::THREADS / PIECES, EACH = (P::K + STEP - 1) / STEP;
    const half_conv &c;
    const geometry &g;
    const uint16_t *p; /* the group's, at this tile's first column */
    int columns;       /* from there on */
    __device__ void load(uint4 *to, int k, int end) const
    {
        const int piece = (int)threadIdx.x % PIECES;
        UNROLL
        for (int i = 0; i < EACH; i++) {
            const int row = (int)threadIdx.x / PIECES + i * STEP;
            if (EACH * STEP != P::K && row >= P::K)
                break;
            const bool in = k + row < end && piece * 8 < columns;
            int output, tap = divide(in ? k + row : 0, c.channels, &output);
            const int z = g.tap_first[0] + divide(tap, g.across, &tap) * g.tap_jump[0];
            const int y = g.tap_first[1] + divide(tap, g.wide, &tap) * g.tap_jump[1];
            tap = (z * c.kernel[1] + y) * c.kernel[2] + g.tap_first[2] + tap * g.tap_jump[2];
            const uint16_t *from = p + ((int64_t)output * c.taps + tap) * c.each + piece * 8;
            if (VECTOR)
                copy_begin(to + half_place<PIECES>(row, piece), in ? from : c.weight, in);
            else
                to[half_place<PIECES>(row, piece)] = fetch8(from, in ? columns - piece * 8 : 0);
        }
    }
};

/* ---- y = max(sum + bias + residual, 0) ---- */

template <class E> struct half_result {
    const half_conv &c;
    const half_phase &f;
    int row0, column0, group;

    /* Where in y a row of the phase begins. */
    __device__ int64_t place(int row) const
    {
        int64_t at = row;
        if (!c.dense) {
            int in, n = divide(row, f.pixels, &in), z = divide(in, f.lines, &in), y = divide(in, f.line, &in);
            z = f.g.first[0] + z * f.g.jump[0];
            y = f.g.first[1] + y * f.g.jump[1];
            at = (((int64_t)n * c.size[0] + z) * c.size[1] + y) * c.size[2] + f.g.first[2] + in * f.g.jump[2];
        }
        return at * c.columns;
    }
    /* v becomes what was written, where there is such a place. */
    __device__ void put(int r, int column, float (&v)[8]) const
    {
        const int row = row0 + r, own = column0 + column, have = c.each - own, channel = group * c.each + own;
        if (row >= f.rows || have <= 0)
            return;
        const int64_t at = place(row) + channel;
        E *const to = (E *)c.y + at;
        const E *const residual = c.residual ? (const E *)c.residual + at : NULL;
        UNROLL
        for (int i = 0; i < 8; i++)
            if (c.bias && i < have)
                v[i] += c.bias[channel + i];
        if (c.vector) {
            float more[8] = {};
            if (residual)
                half_unpack<E>(more, *reinterpret_cast<const uint4 *>(residual));
            UNROLL
            for (int i = 0; i < 8; i++) {
                v[i] += more[i];
                v[i] = c.relu && v[i] < 0 ? 0 : v[i];
            }
            const uint4 packed = half_pack<E>(v);
            *reinterpret_cast<uint4 *>(to) = packed;
            half_unpack<E>(v, packed);
            return;
        }
        UNROLL
        for (int i = 0; i < 8; i++)
            if (i < have) {
                const float u = residual ? v[i] + as_float(residual[i]) : v[i];
                to[i] = from_float<E>(c.relu && u < 0 ? 0 : u);
                v[i] = as_float(to[i]);
            }
    }
};

/* The same, and the moments of what was written, of a tile's rows by column. A lane has a column of its warp, or half of it. */
template <class P, class E> struct counted_result {
    static constexpr int ROWS = 16 * P::WN / 32; /* of 16 that a lane has */
    const half_result<E> to;
    moments<1> m;

    __device__ void put(int r, int column, float (&v)[8]) const { to.put(r, column, v); }
    __device__ void count(const float *slab, int i)
    {
        const int lane = (int)threadIdx.x % 32, first = lane / P::WN * ROWS;
        const int left = to.f.rows - to.row0 - half_warp_row<P>() - i * 16 - first, have = left < ROWS ? left : ROWS;
        const float *v = slab + first * P::SLAB + lane % P::WN;
        moments<1> some = {(float)have, {0}, {0}};
        if (have <= 0)
            return;
        UNROLL
        for (int r = 0; r < ROWS; r++)
            some.mean[0] += r < have ? v[r * P::SLAB] : 0;
        some.mean[0] /= some.n;
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            const float far = r < have ? v[r * P::SLAB] - some.mean[0] : 0;
            some.m2[0] += far * far;
        }
        moments_join(m, some);
    }
    /* To be called by all threads. */
    __device__ void leave()
    {
        float2 *const part = reinterpret_cast<float2 *>(half_space<P>()); /* [warps along the rows, N] */
        const int lane = (int)threadIdx.x % 32, column = (int)threadIdx.x, own = to.column0 + column;
        moments_join_lanes(m, P::WN);
        __syncthreads(); /* results have left */
        if (lane < P::WN)
            part[half_warp_row<P>() / P::WM * P::N + half_warp_column<P>() + lane] = make_float2(m.mean[0], m.m2[0]);
        __syncthreads();
        if (column >= P::N || own >= to.c.each)
            return;
        moments<1> all = {};
        for (int w = 0; w < P::M / P::WM; w++) {
            const int left = to.f.rows - to.row0 - w * P::WM, n = left < P::WM ? left : P::WM;
            const moments<1> one = {n > 0 ? (float)n : 0.0f, {part[w * P::N + column].x}, {part[w * P::N + column].y}};
            moments_join(all, one);
        }
        to.c.part[(int64_t)(to.group * to.c.each + own) * to.c.pieces + to.row0 / P::M] = make_float2(all.mean[0], all.m2[0]);
    }
};

/* The gradient where the relu of the norm behind is not flat, and the sums of what was written, of a tile's rows by column. All
 * that a lane is given lies in the same eight columns. */
template <class P, class E> struct summed_result {
    static constexpr int SLABS = P::WARPS * 16 * P::SLAB, LINES = P::M / P::WM; /* LINES: of warps along the rows */
    static_assert(32 % P::FN == 0 && SLABS % 2 == 0, "a lane's columns");
    static_assert((SLABS + 3 * P::N + 2 * LINES * P::N) * 4 <= P::STAGES * P::STAGE * 16, "all is in the stages' memory");
    const half_result<E> to;
    float sum[8], sum_far[8];

    __device__ static float *facts() { return reinterpret_cast<float *>(half_space<P>()) + SLABS; } /* [3, N] */
    /* To be called by all threads before the results come. */
    __device__ void begin()
    {
        const int own = to.column0 + (int)threadIdx.x;
        UNROLL
        for (int i = 0; i < 8; i++)
            sum[i] = sum_far[i] = 0;
        if (threadIdx.x < P::N) {
            norm_facts one = {0, 0, 0};
            if (own < to.c.each)
                one = norm_facts_of(to.c.behind, to.group * to.c.each + own);
            facts()[threadIdx.x] = one.mean;
            facts()[P::N + threadIdx.x] = one.factor;
            facts()[2 * P::N + threadIdx.x] = one.bias;
        }
        __syncthreads();
    }
    __device__ void put(int r, int column, float (&v)[8])
    {
        const int row = to.row0 + r, own = to.column0 + column, have = to.c.each - own, channel = to.group * to.c.each + own;
        if (row >= to.f.rows || have <= 0)
            return;
        const int64_t at = to.place(row) + channel;
        E *const g = (E *)to.c.y + at;
        const E *const x = (const E *)to.c.behind.x + at;
        const float *const of = facts() + column, ceiling = to.c.behind.ceiling;
        float far[8] = {};
        if (to.c.vector) {
            half_unpack<E>(far, *reinterpret_cast<const uint4 *>(x));
        } else {
            UNROLL
            for (int i = 0; i < 8; i++)
                if (i < have)
                    far[i] = as_float(x[i]);
        }
        UNROLL
        for (int i = 0; i < 8; i++) {
            far[i] -= of[i];
            v[i] = i < have && norm_lives(far[i], of[P::N + i], of[2 * P::N + i], ceiling) ? v[i] : 0;
        }
        const uint4 packed = half_pack<E>(v);
        half_unpack<E>(v, packed);
        if (to.c.vector) {
            *reinterpret_cast<uint4 *>(g) = packed;
        } else {
            UNROLL
            for (int i = 0; i < 8; i++)
                if (i < have)
                    g[i] = from_float<E>(v[i]);
        }
        UNROLL
        for (int i = 0; i < 8; i++) {
            sum[i] += v[i];
            sum_far[i] += v[i] * far[i];
        }
    }
    /* To be called by all threads. */
    __device__ void leave()
    {
        float2 *const part = reinterpret_cast<float2 *>(facts() + 3 * P::N); /* [LINES, N] */
        const int lane = (int)threadIdx.x % 32, column = (int)threadIdx.x, own = to.column0 + column;
        UNROLL
        for (int i = 0; i < 8; i++) {
            UNROLL
            for (int d = 16; d >= P::FN; d /= 2) {
                sum[i] += __shfl_xor_sync(FULL_WARP, sum[i], d);
                sum_far[i] += __shfl_xor_sync(FULL_WARP, sum_far[i], d);
            }
            if (lane < P::FN)
                part[half_warp_row<P>() / P::WM * P::N + half_warp_column<P>() + lane * 8 + i] = make_float2(sum[i], sum_far[i]);
        }
        __syncthreads();
        if (column >= P::N || own >= to.c.each)
            return;
        float2 all = part[column];
        for (int w = 1; w < LINES; w++) {
            all.x += part[w * P::N + column].x;
            all.y += part[w * P::N + column].y;
        }
        to.c.behind.part[(int64_t)(to.group * to.c.each + own) * to.c.behind.most + to.f.piece + to.row0 / P::M] = all;
    }
};

/* ---- kernels: block x is a tile, y counts phases of groups ---- */

template <class P, class E, bool VECTOR, class N, bool COUNTED>
__global__ static void __launch_bounds__(P::THREADS, P::BLOCKS) half_forward_kernel(const __grid_constant__ half_conv c)
{
    const int tile = (int)blockIdx.x, row0 = tile / c.tiles_n * P::M, column0 = tile % c.tiles_n * P::N;
    const half_phase &f = c.phase[0];
    const float *norms = NULL;
    if constexpr (N::IS) {
        SHARED_DYNAMIC(float, table);
        norm_table_fill(table, c.norm, c.step); /* half_product begins with a barrier */
        norms = table;
    }
    for (int group = (int)blockIdx.y; group < c.group; group += (int)gridDim.y) {
        window_rows<P, VECTOR, N> a(c, f, group, row0, norms);
        const weight_rows<P, VECTOR> b = {c.weight + ((int64_t)group * c.each + column0) * f.k, f.k, c.each - column0};
        float sum[P::FM][P::FN][4];
        half_product<P, E>(a, b, 0, f.k, sum);
        if constexpr (COUNTED) {
            counted_result<P, E> out = {{c, f, row0, column0, group}, {}};
            half_finish<P, true>(sum, out);
            out.leave();
        } else {
            half_finish<P>(sum, half_result<E>{c, f, row0, column0, group});
        }
    }
}

template <class P, class E, bool VECTOR, bool SUMMED>
__global__ static void __launch_bounds__(P::THREADS, P::BLOCKS) half_data_kernel(const __grid_constant__ half_conv c)
{
    const int tile = (int)blockIdx.x, row0 = tile / c.tiles_n * P::M, column0 = tile % c.tiles_n * P::N;
    for (int i = (int)blockIdx.y; i < c.group * c.phases; i += (int)gridDim.y) {
        const int group = i / c.phases;
        const half_phase &f = c.phase[i - group * c.phases];
        if (row0 >= f.rows)
            continue;
        window_rows<P, VECTOR> a(c, f, group, row0);
        const weight_columns<P, VECTOR> b = {c, f.g, c.weight + (int64_t)group * (int)c.channels.d * c.taps * c.each + column0,
                                             c.each - column0};
        float sum[P::FM][P::FN][4];
        half_product<P, E>(a, b, 0, f.k, sum);
        if constexpr (SUMMED) {
            summed_result<P, E> out = {{c, f, row0, column0, group}, {}, {}};
            out.begin();
            half_finish<P>(sum, out);
            out.leave();
        } else {
            half_finish<P>(sum, half_result<E>{c, f, row0, column0, group});
        }
    }
}

/* ---- launchers ---- */

static half_phase phase_of(const geometry &g, int images, int channels)
{
    half_phase f = {};
    f.g = g;
    f.pixels = divider_of(volume(g.count));
    f.lines = divider_of(g.count[1] * g.count[2]);
    f.line = divider_of(g.count[2]);
    f.rows = images * volume(g.count);
    f.k = volume(g.taps) * channels;
    return f;
}

static half_conv half_of(const kernel_args *a, const conv_sizes &s, bool data)
{
    half_conv c = {};
    const int from = data ? s.outputs : s.channels;
    c.source = (const uint16_t *)a->in[0].data;
    c.weight = (const uint16_t *)a->in[1].data;
    c.y = a->out[0].data;
    c.channels = divider_of(from / s.group);
    c.group = s.group;
    c.step = from;
    c.columns = data ? s.channels : s.outputs;
    c.each = c.columns / s.group;
    c.taps = volume(s.kernel);
    for (int i = 0; i < 3; i++) {
        c.kernel[i] = s.kernel[i];
        c.size[i] = data ? s.in[i] : s.out[i];
    }
    return c;
}

/* The same with room for the table of norms among what a block gets of shared memory. */
template <class P> struct tabled_shape {
    typedef typename normed_shape<P>::shape shape;
};
template <> struct tabled_shape<half_large> {
    typedef half_shape<128, 128, 64, 32, 2, 2> shape;
};
template <> struct tabled_shape<half_medium> {
    typedef half_shape<128, 64, 64, 32, 3, 3> shape;
};

template <class P, class E, bool VECTOR> static void start_normed(const kernel_args *a, const half_conv &c, dim3 grid)
{
    static_assert(P::STAGES * P::STAGE * 16 + NORM_CHANNELS * 8 <= 48 << 10, "no kernel asks for more");
    if (c.part)
        LAUNCH((half_forward_kernel<P, E, VECTOR, norm_of<E>, true>), grid, P::THREADS, norm_table_bytes(c.step), a->queue, c);
    else
        LAUNCH((half_forward_kernel<P, E, VECTOR, norm_of<E>, false>), grid, P::THREADS, norm_table_bytes(c.step), a->queue, c);
}
/* Gives the phases' sums their pieces, from `first` on; after the last one. */
template <class P> static int share_pieces(half_conv *c, int first)
{
    for (int i = 0; i < c->phases; i++) {
        c->phase[i].piece = first;
        first += (c->phase[i].rows + P::M - 1) / P::M;
    }
    return first;
}
/* pieces: of sums before these, and after them. */
template <class P, class E, bool DATA, bool VECTOR> static void start(const kernel_args *a, half_conv c, int *pieces)
{
    int64_t rows = 0, batches = (int64_t)c.group * c.phases;
    for (int i = 0; i < c.phases; i++)
        rows = c.phase[i].rows > rows ? c.phase[i].rows : rows;
    c.tiles_n = (c.each + P::N - 1) / P::N;
    c.pieces = (int)((rows + P::M - 1) / P::M);
    const dim3 grid((unsigned)(c.pieces * c.tiles_n), (unsigned)(batches < 65535 ? batches : 65535));
    *pieces = share_pieces<P>(&c, *pieces);
    if (DATA && c.behind.x)
        LAUNCH((half_data_kernel<P, E, VECTOR, true>), grid, P::THREADS, 0, a->queue, c);
    else if (DATA)
        LAUNCH((half_data_kernel<P, E, VECTOR, false>), grid, P::THREADS, 0, a->queue, c);
    else if (c.norm.mean)
        start_normed<typename tabled_shape<P>::shape, E, VECTOR>(a, c, grid);
    else if (c.part)
        LAUNCH((half_forward_kernel<P, E, VECTOR, no_norm, true>), grid, P::THREADS, 0, a->queue, c);
    else
        LAUNCH((half_forward_kernel<P, E, VECTOR, no_norm, false>), grid, P::THREADS, 0, a->queue, c);
    if (c.part)
        moments_finish(a, (float *)a->out[1].data, (float *)a->out[2].data, {c.part, NULL, c.columns, c.pieces, P::M, rows});
}
template <class E, bool DATA> static void start_any(const kernel_args *a, const half_conv &c, bool vector, int *pieces)
{
    if (!vector)
        return start<half_medium, E, DATA, false>(a, c, pieces);
    switch (half_choose(c.phase[0].rows, c.each, (int64_t)c.group * c.phases)) {
    case HALF_LARGE: return start<half_large, E, DATA, true>(a, c, pieces);
    case HALF_MEDIUM: return start<half_medium, E, DATA, true>(a, c, pieces);
    case HALF_SMALL: return start<half_small, E, DATA, true>(a, c, pieces);
    case HALF_TALL: return start<half_tall, E, DATA, true>(a, c, pieces);
    case HALF_THIN: return start<half_thin, E, DATA, true>(a, c, pieces);
    }
}

/* Conv, and ConvMoments, whose workspace has the moments of tiles of rows. */
template <class E> static void forward(const kernel_args *a)
{
    const conv_attrs *at = (const conv_attrs *)a->attr;
    const conv_sizes s = sizes_of(at, &a->in[0].sh, &a->out[0].sh);
    half_conv c = half_of(a, s, false);
    int pieces = 0;
    if (shape_count(&a->out[0].sh) == 0)
        return;
    c.bias = optional(a, 2);
    c.residual = optional(a, 3);
    c.relu = at->relu != 0;
    c.norm = norm_in_of(a, 4);
    c.dense = true;
    c.vector = c.each % 8 == 0 && is_vector(c.y) && is_vector(c.residual);
    c.part = a->n_out > 1 ? (float2 *)a->work : NULL;
    c.phases = 1;
    c.phase[0] = phase_of(forward_geometry(s), s.n, c.step / c.group);
    start_any<E, false>(a, c, c.channels.d % 8 == 0 && is_vector(c.source) && is_vector(c.weight), &pieces);
}

static size_t moments_workspace(const kernel_args *a)
{
    const int64_t channels = a->out[0].sh.dim[1], rows = shape_count(&a->out[0].sh) / channels;
    return (size_t)((rows + HALF_LEAST_ROWS - 1) / HALF_LEAST_ROWS * channels) * sizeof(float2);
}

/* Pieces of sums of the data's gradient, at most. */
static int64_t most_sums(const conv_sizes &s)
{
    const int phases = phases_of(s, 0) * phases_of(s, 1) * phases_of(s, 2);
    return (int64_t)s.n * volume(s.in) / HALF_LEAST_ROWS + phases;
}
static size_t sums_workspace(const kernel_args *a)
{
    const conv_sizes s = sizes_of((const conv_attrs *)a->attr, &a->out[0].sh, &a->in[0].sh);
    return (size_t)(most_sums(s) * s.channels) * sizeof(float2);
}

/* ConvGradData, ConvGradDataSums, and ConvTranspose with its bias. */
template <class E> static void data(const kernel_args *a)
{
    const conv_sizes s = sizes_of((const conv_attrs *)a->attr, &a->out[0].sh, &a->in[0].sh);
    const int phases = phases_of(s, 0) * phases_of(s, 1) * phases_of(s, 2);
    half_conv c = half_of(a, s, true);
    int pieces = 0;
    if (shape_count(&a->out[0].sh) == 0)
        return;
    c.behind = norm_behind_of(a, (int)most_sums(s));
    c.bias = c.behind.x ? NULL : optional(a, 2);
    c.vector = c.each % 8 == 0 && is_vector(c.y) && is_vector(c.behind.x);
    c.dense = phases == 1;
    for (int first = 0; first < phases; first += PHASES) {
        c.phases = phases - first < PHASES ? phases - first : PHASES;
        for (int i = 0; i < c.phases; i++) {
            c.phase[i] = phase_of(data_geometry(s, first + i), s.n, c.step / c.group);
            for (int axis = 0; axis < 3; axis++) /* one pixel of several is no phase of all */
                c.dense &= c.phase[i].g.count[axis] == s.in[axis];
        }
        start_any<E, true>(a, c, c.channels.d % 8 == 0 && c.each % 8 == 0 && is_vector(c.source) && is_vector(c.weight), &pieces);
    }
    if (c.behind.x)
        grad_sums_finish(a, c.behind, s.channels, pieces);
}

static bool takes_sizes(const kernel_args *a)
{
    return has_tensor_cores(a) && ((const conv_attrs *)a->attr)->exact == 0 && a->in[1].type == a->in[0].type && conv_counts(&a->in[0]) &&
           conv_counts(&a->in[1]) && conv_counts(&a->out[0]);
}
static bool takes(const kernel_args *a)
{
    return !conv_depthwise((const conv_attrs *)a->attr, &a->in[0].sh) && takes_sizes(a);
}
static bool takes_data(const kernel_args *a)
{
    return !conv_depthwise((const conv_attrs *)a->attr, &a->out[0].sh) && takes_sizes(a);
}

/* NormConv. Where cuDNN makes the plain convolution, only its own kernels can be better. */
static bool takes_normed(const kernel_args *a)
{
    const conv_attrs *at = (const conv_attrs *)a->attr;
    const conv_sizes s = sizes_of(at, &a->in[0].sh, &a->out[0].sh);
    return !a->queue->dnn && takes(a) && s.channels <= NORM_CHANNELS &&
           norm_pays(s, half_choose((int64_t)s.n * volume(s.out), s.outputs / s.group, s.group));
}

static bool takes_moments(const kernel_args *a)
{
    return a->n_in > 4 ? takes_normed(a) : takes(a);
}

#define ROWS(type_, E)                                                                                                 \
    {.op = OP_CONV, .type = type_, .name = "conv " #E, .run = forward<E>, .takes = takes, .blocked_in = 1 | 1 << 1 | 1 << 3, \
     .blocked_out = 1},                                                                                                \
    {.op = OP_NORM_CONV, .type = type_, .name = "norm conv " #E, .run = forward<E>, .takes = takes_normed,             \
     .blocked_in = 1 | 1 << 1 | 1 << 3, .blocked_out = 1},                                                             \
    {.op = OP_CONV_MOMENTS, .type = type_, .name = "conv moments " #E, .run = forward<E>, .workspace = moments_workspace, \
     .takes = takes_moments, .blocked_in = 1 | 1 << 1 | 1 << 3, .blocked_out = 1},                                     \
    {.op = OP_CONV_GRAD_DATA, .type = type_, .name = "conv grad data " #E, .run = data<E>, .takes = takes_data,        \
     .blocked_in = 1 | 1 << 1, .blocked_out = 1},                                                                      \
    {.op = OP_CONV_GRAD_DATA_SUMS, .type = type_, .name = "conv grad data sums " #E, .run = data<E>, .workspace = sums_workspace, \
     .takes = takes_data, .blocked_in = 1 | 1 << 1 | 1 << 2, .blocked_out = 1},                                        \
    {.op = OP_CONV_TRANSPOSE, .type = type_, .name = "conv transpose " #E, .run = data<E>, .takes = takes_data,        \
     .blocked_in = 1 | 1 << 1, .blocked_out = 1}
CUDA_TABLE(conv_half) = {ROWS(DTYPE_F16, __half), ROWS(DTYPE_BF16, __nv_bfloat16), KERNEL_END};
