/* tile.cuh - the tile that matrix products and convolutions share: [M, K] times [K, N], float32.
 *
 * A block makes M x N results of a tile_shape: both operands are brought to shared memory K entries of the sum at a time
 * (two buffers: the next entries are on their way while these are multiplied), a thread keeps TM x TN sums in registers.
 * Where an element of an operand lies is the business of its side, a class with
 *     load(k, end)  the elements [k, min(k + K, end)) into registers, zeros beyond
 *     store(to)     from the registers to shared memory [K][R + TILE_PAD]
 * Sums run over k in rising order. Products with few results and long sums are split (product_split): every share of k has
 * results of its own in the workspace, which a second kernel adds in order. How many depends on sizes alone. */
#ifndef DISTILL_KERNELS_CUDA_TILE_CUH
#define DISTILL_KERNELS_CUDA_TILE_CUH

#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/index.cuh"
#include "kernels/e4m3.h"

#ifdef CUDA_EMULATED
#define NO_UNROLL
#else
#define NO_UNROLL _Pragma("unroll 1")
#endif
#define TILE_PAD 4 /* floats after a row of shared memory: rows stay aligned, stores across rows meet other banks */

/* BLOCKS of a multiprocessor at a time: they bound the registers of a thread to 128. */
template <int M_, int N_, int K_, int TM_, int TN_, int BLOCKS_> struct tile_shape {
    static constexpr int M = M_, N = N_, K = K_, TM = TM_, TN = TN_, BLOCKS = BLOCKS_;
    static constexpr int THREADS = M / TM * (N / TN);
    static constexpr int ACROSS = N / TN, LANES = ACROSS < 8 ? ACROSS : 8; /* threads along n; of a warp */
};
typedef tile_shape<128, 128, 8, 8, 8, 2> tile_large;
typedef tile_shape<64, 64, 8, 8, 4, 4> tile_medium;
typedef tile_shape<128, 32, 8, 8, 4, 4> tile_tall;
typedef tile_shape<32, 128, 8, 4, 8, 4> tile_wide;
typedef tile_shape<32, 32, 16, 4, 4, 8> tile_small;

/* Up to four elements at p, `have` of them there; at once where that is allowed. */
__device__ static inline float4 fetch4(const float *p, int64_t have, bool vector)
{
    if (vector && have >= 4)
        return *reinterpret_cast<const float4 *>(p);
    return make_float4(have > 0 ? p[0] : 0, have > 1 ? p[1] : 0, have > 2 ? p[2] : 0, have > 3 ? p[3] : 0);
}
__device__ static inline void put4(float *p, float4 v, int64_t have, bool vector)
{
    if (vector && have >= 4) {
        *reinterpret_cast<float4 *>(p) = v;
        return;
    }
    if (have > 0)
        p[0] = v.x;
    if (have > 1)
        p[1] = v.y;
    if (have > 2)
        p[2] = v.z;
    if (have > 3)
        p[3] = v.w;
}

/* As float16, bfloat16 or E4M3 (by PRECISION_*, this one after scaling) holds it, ties to even. */
__device__ static inline float round_to(int precision, float v, float scale)
{
    if (precision == PRECISION_FP8)
        return e4m3_value(e4m3_of(v * scale));
    return precision == PRECISION_F16 ? as_float(from_float<__half>(v)) : as_float(from_float<__nv_bfloat16>(v));
}

/* A dense matrix, R rows from `first` on of `rows`. Element (r, k) lies at r * step + k, or at k * step + r (not ALONG_K). */
template <class T, int R, bool ALONG_K> struct matrix_side {
    static constexpr int PIECES = R * T::K / 4, EACH = (PIECES + T::THREADS - 1) / T::THREADS;
    const float *p;
    int64_t step, first, rows;
    bool vector;
    int round; /* PRECISION_*: what the elements are rounded to */
    float4 v[EACH];
    float scale; /* with PRECISION_FP8 */

    __device__ void load(int64_t k, int64_t end)
    {
        UNROLL
        for (int i = 0; i < EACH; i++) {
            int piece = (int)threadIdx.x + i * T::THREADS;
            if (EACH * T::THREADS != PIECES && piece >= PIECES)
                break;
            if (ALONG_K) {
                int64_t r = first + piece / (T::K / 4), at = k + piece % (T::K / 4) * 4;
                v[i] = fetch4(p + r * step + at, r < rows ? end - at : 0, vector);
            } else {
                int64_t r = first + piece % (R / 4) * 4, at = k + piece / (R / 4);
                v[i] = fetch4(p + at * step + r, at < end ? rows - r : 0, vector);
            }
            if (round != PRECISION_FP32)
                v[i] = make_float4(round_to(round, v[i].x, scale), round_to(round, v[i].y, scale), round_to(round, v[i].z, scale),
                                   round_to(round, v[i].w, scale));
        }
    }
    __device__ void store(float *to) const
    {
        UNROLL
        for (int i = 0; i < EACH; i++) {
            int piece = (int)threadIdx.x + i * T::THREADS;
            if (EACH * T::THREADS != PIECES && piece >= PIECES)
                break;
            if (ALONG_K) {
                float *at = to + piece % (T::K / 4) * 4 * (R + TILE_PAD) + piece / (T::K / 4);
                at[0] = v[i].x;
                at[R + TILE_PAD] = v[i].y;
                at[2 * (R + TILE_PAD)] = v[i].z;
                at[3 * (R + TILE_PAD)] = v[i].w;
            } else {
                *reinterpret_cast<float4 *>(to + piece / (R / 4) * (R + TILE_PAD) + piece % (R / 4) * 4) = v[i];
            }
        }
    }
};

/* Where in the tile the sums of a thread stand: four neighbours in a row, TM / 4 and TN / 4 times, spread over the tile. */
template <class T> struct tile_place {
    int row, col;
    __device__ tile_place()
    {
        int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5, warps = T::ACROSS / T::LANES;
        col = (warp % warps * T::LANES + lane % T::LANES) * 4;
        row = (warp / warps * (32 / T::LANES) + lane / T::LANES) * 4;
    }
    __device__ int row_of(int i) const { return row + i / 4 * (T::M / (T::TM / 4)) + i % 4; }
    __device__ int col_of(int j) const { return col + j / 4 * (T::N / (T::TN / 4)) + j % 4; }
};

/* The block's shared memory: two buffers of either side; afterwards four times four results of every thread. */
template <class T> __device__ static inline float4 *tile_space()
{
    constexpr int SIZE = 2 * T::K * (T::M + T::N + 2 * TILE_PAD) / 4;
    static_assert(SIZE >= 4 * T::THREADS, "a thread's sums fit");
    __shared__ float4 space[SIZE];
    return space;
}

/* sum[i][j] = over k in [begin, end) of A[row_of(i)][k] * B[k][col_of(j)]. Ends behind a barrier. */
template <class T, class A, class B>
__device__ static inline void tile_product(A &a, B &b, int64_t begin, int64_t end, const tile_place<T> &place,
                                           float (&sum)[T::TM][T::TN])
{
    constexpr int A_SIZE = T::K * (T::M + TILE_PAD) / 4, B_SIZE = T::K * (T::N + TILE_PAD) / 4;
    float4 *const space_a = tile_space<T>(), *const space_b = space_a + 2 * A_SIZE;
    UNROLL
    for (int i = 0; i < T::TM; i++)
        UNROLL
        for (int j = 0; j < T::TN; j++)
            sum[i][j] = 0;
    a.load(begin, end);
    b.load(begin, end);
    __syncthreads(); /* the results before these have left */
    a.store(reinterpret_cast<float *>(space_a));
    b.store(reinterpret_cast<float *>(space_b));
    __syncthreads();
    int now = 0;
    for (int64_t k = begin; k < end; k += T::K, now ^= 1) {
        const bool more = k + T::K < end;
        if (more) {
            a.load(k + T::K, end);
            b.load(k + T::K, end);
        }
        UNROLL
        for (int e = 0; e < T::K; e++) {
            float4 x[T::TM / 4], y[T::TN / 4];
            UNROLL
            for (int i = 0; i < T::TM / 4; i++)
                x[i] = space_a[now * A_SIZE + (e * (T::M + TILE_PAD) + place.row + i * (T::M / (T::TM / 4))) / 4];
            UNROLL
            for (int j = 0; j < T::TN / 4; j++)
                y[j] = space_b[now * B_SIZE + (e * (T::N + TILE_PAD) + place.col + j * (T::N / (T::TN / 4))) / 4];
            UNROLL
            for (int i = 0; i < T::TM; i++)
                UNROLL
                for (int j = 0; j < T::TN; j++)
                    sum[i][j] += reinterpret_cast<const float *>(x)[i] * reinterpret_cast<const float *>(y)[j];
        }
        if (more) {
            a.store(reinterpret_cast<float *>(space_a + (now ^ 1) * A_SIZE));
            b.store(reinterpret_cast<float *>(space_b + (now ^ 1) * B_SIZE));
        }
        __syncthreads();
    }
}

/* `batches` products [m, k] times [k, n], each cut into tiles and `splits` shares of `share` entries of the sum. Block x is a
 * tile, y counts batches, z shares. partial: [batches][splits][m][n], used where splits > 1. */
typedef struct product_size {
    int64_t m, n, k, batches;
    int64_t tiles_m, splits, share;
    float *partial;
} product_size;

static const int64_t PRODUCT_BLOCKS = 264, PRODUCT_SPLITS = 128, PRODUCT_SHARE = 128; /* blocks wanted; most shares; least entries of one */

template <class T> static product_size product_of(int64_t m, int64_t n, int64_t k, int64_t batches, void *work)
{
    product_size p = {m, n, k, batches, (m + T::M - 1) / T::M, 1, k, (float *)work};
    int64_t blocks = p.tiles_m * ((n + T::N - 1) / T::N) * batches;
    if (blocks < 1)
        return p;
    int64_t splits = PRODUCT_BLOCKS / blocks, most = k / PRODUCT_SHARE;
    splits = splits < most ? splits : most;
    splits = splits < PRODUCT_SPLITS ? splits : PRODUCT_SPLITS;
    if (splits > 1) {
        p.share = ((k + splits - 1) / splits + T::K - 1) / T::K * T::K;
        p.splits = (k + p.share - 1) / p.share;
    }
    return p;
}
static inline size_t product_workspace(const product_size *p)
{
    return p->splits > 1 ? (size_t)(p->batches * p->splits * p->m * p->n) * sizeof(float) : 0;
}
template <class T> static dim3 product_grid(const product_size *p)
{
    int64_t tiles = p->tiles_m * ((p->n + T::N - 1) / T::N);
    return dim3((unsigned)tiles, (unsigned)(p->batches < 65535 ? p->batches : 65535), (unsigned)p->splits);
}

/* Which tile: wide where there are enough of them, else smaller ones, so that all multiprocessors have work. */
typedef enum tile_kind { TILE_LARGE, TILE_MEDIUM, TILE_TALL, TILE_WIDE, TILE_SMALL } tile_kind;
static inline tile_kind tile_choose(int64_t m, int64_t n, int64_t batches)
{
    if (n <= 32)
        return m <= 64 ? TILE_SMALL : TILE_TALL;
    if (m <= 32)
        return n <= 64 ? TILE_SMALL : TILE_WIDE;
    int64_t large = (m + 127) / 128 * ((n + 127) / 128) * batches;
    return m > 64 && n > 64 && large >= 96 ? TILE_LARGE : TILE_MEDIUM;
}
/* X(kind, type) */
#define TILE_KINDS(X) \
    X(TILE_LARGE, tile_large) X(TILE_MEDIUM, tile_medium) X(TILE_TALL, tile_tall) X(TILE_WIDE, tile_wide) X(TILE_SMALL, tile_small)

/* Gives the sums of a thread to `finish`: four columns of a row at a time, finish.put(batch, row, col, sums, how many), or
 * to the workspace. */
template <class T, class F>
__device__ static inline void tile_finish(const product_size &p, const tile_place<T> &place, int64_t row0, int64_t col0,
                                          int64_t batch, const float (&sum)[T::TM][T::TN], const F &finish)
{
    const bool whole = (p.n & 3) == 0;
    float4 *const own = tile_space<T>() + threadIdx.x;
    NO_UNROLL
    for (int group = 0; group < T::TM / 4 * (T::TN / 4); group++) { /* through shared memory: one copy of the code for all */
        const int first_i = group / (T::TN / 4) * 4, first_j = group % (T::TN / 4) * 4;
        const int64_t col = col0 + place.col_of(first_j), have = p.n - col;
        UNROLL
        for (int i = 0; i < T::TM; i++)
            UNROLL
            for (int j = 0; j < T::TN; j += 4)
                if (i / 4 * 4 == first_i && j == first_j)
                    own[i % 4 * T::THREADS] = make_float4(sum[i][j], sum[i][j + 1], sum[i][j + 2], sum[i][j + 3]);
        if (have <= 0)
            continue;
        typename F::column at(finish, batch, col, have);
        NO_UNROLL
        for (int i = 0; i < 4; i++) {
            const int64_t row = row0 + place.row_of(first_i) + i;
            const float4 v = own[i * T::THREADS];
            if (row >= p.m)
                break;
            if (p.splits > 1)
                put4(p.partial + ((batch * p.splits + blockIdx.z) * p.m + row) * p.n + col, v, have, whole);
            else
                at.put(finish, row, v, have);
        }
    }
}

/* Adds the shares of every result in order and finishes it. */
template <class F> __global__ static void product_join(product_size p, F finish)
{
    GRID_STRIDE(i, p.batches * p.m * p.n)
    {
        int64_t each = p.m * p.n, batch = i / each, at = i - batch * each, row = at / p.n, col = at - row * p.n;
        const float *from = p.partial + batch * p.splits * each + at;
        float sum = 0;
        for (int64_t s = 0; s < p.splits; s++)
            sum += from[s * each];
        typename F::column place(finish, batch, col, 1);
        place.put(finish, row, make_float4(sum, 0, 0, 0), 1);
    }
}

#endif
