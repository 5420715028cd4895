/* half_tile.cuh - the tile of products of halves, [M, K] times [K, N] with float32 sums, on tensor cores (mma.cuh).
 *
 * A block makes M x N results, a warp WM x WN of them. K entries of the sum at a time come to shared memory, several such stages
 * ahead of the one that is multiplied. Where an element of an operand lies is the business of its side, a class with
 *     ALONG_K          shared memory is [R][K]; else [K][R]; R = M or N
 *     load(to, k, end) begins to bring the entries [k, min(k + K, end)) there, zeros beyond, by half_place
 *     CHANGES          there is change(at, k, end): what this thread brought there of these entries has arrived, and may be
 *                      changed before others see it; once for every load, in their order
 * Sums run over k in an order that depends on sizes alone. Elements are moved as 16-bit numbers of whatever kind. */
#ifndef DISTILL_KERNELS_CUDA_HALF_TILE_CUH
#define DISTILL_KERNELS_CUDA_HALF_TILE_CUH

#include "kernels/cuda/index.cuh"
#include "kernels/cuda/mma.cuh"

/* BLOCKS of a multiprocessor at a time */
template <int M_, int N_, int WM_, int WN_, int STAGES_, int BLOCKS_> struct half_shape {
    static constexpr int M = M_, N = N_, K = 32, WM = WM_, WN = WN_, STAGES = STAGES_, BLOCKS = BLOCKS_;
    static constexpr int WARPS = M / WM * (N / WN), THREADS = 32 * WARPS;
    static constexpr int FM = WM / 16, FN = WN / 8; /* small products of a warp */
    static constexpr int A_SIZE = M * K / 8, STAGE = (M + N) * K / 8; /* in pieces of 8 */
    static constexpr int SLAB = WN + 8; /* floats in a row of a warp's results on their way out */
    static_assert(STAGES * STAGE * 4 >= WARPS * 16 * SLAB, "results leave through the stages' memory");
    static_assert(STAGES * STAGE * 16 <= 48 << 10, "no kernel asks for more");
};
typedef half_shape<128, 128, 64, 32, 3, 2> half_large;
typedef half_shape<128, 64, 64, 32, 4, 3> half_medium;
typedef half_shape<64, 64, 32, 32, 4, 5> half_small;
typedef half_shape<128, 32, 32, 32, 4, 4> half_tall;
typedef half_shape<128, 16, 32, 16, 4, 6> half_thin;
#define HALF_LEAST_ROWS 64 /* of a tile */

/* Where piece `piece` of 8 elements of row `row` lies, PIECES in a row: eight rows' pieces lie in different banks. */
template <int PIECES> __device__ static inline int half_place(int row, int piece)
{
    static_assert(PIECES == 2 || PIECES == 4 || PIECES % 8 == 0, "a power of 2");
    return row * PIECES + (piece ^ (PIECES == 2 ? row >> 2 & 1 : PIECES == 4 ? row >> 1 & 3 : row & 7));
}

/* A warp's registers for 16 of K entries: operand A, rows from `row` on; operand B, 16 columns from `row` on. */
template <class S, int R> __device__ static inline void half_load_a(uint32_t (&to)[4], const uint4 *from, int row, int k)
{
    const int lane = (int)threadIdx.x & 31;
    if (S::ALONG_K)
        load_matrices(to, from + half_place<4>(row + lane % 16, k / 8 + lane / 16));
    else
        load_turned(to, from + half_place<R / 8>(k + lane / 16 * 8 + lane % 8, row / 8 + lane / 8 % 2));
}
template <class S, int R> __device__ static inline void half_load_b(uint32_t (&to)[4], const uint4 *from, int row, int k)
{
    const int lane = (int)threadIdx.x & 31;
    if (S::ALONG_K)
        load_matrices(to, from + half_place<4>(row + lane / 16 * 8 + lane % 8, k / 8 + lane / 8 % 2));
    else
        load_turned(to, from + half_place<R / 8>(k + lane / 8 % 2 * 8 + lane % 8, row / 8 + lane / 16));
}

/* Where a warp stands in the tile. */
template <class P> __device__ static inline int half_warp_row() { return (int)threadIdx.x / 32 / (P::N / P::WN) * P::WM; }
template <class P> __device__ static inline int half_warp_column() { return (int)threadIdx.x / 32 % (P::N / P::WN) * P::WN; }

template <class P> __device__ static inline uint4 *half_space()
{
    __shared__ uint4 space[P::STAGES * P::STAGE];
    return space;
}

/* sum = over k in [begin, end) of A[row][k] * B[k][column], for the warp's part of the tile. Ends behind a barrier. */
template <class P, class E, class A, class B>
__device__ static inline void half_product(A &a, B &b, int begin, int end, float (&sum)[P::FM][P::FN][4])
{
    uint4 *const space = half_space<P>();
    const int steps = end > begin ? (end - begin + P::K - 1) / P::K : 0, row = half_warp_row<P>(), column = half_warp_column<P>();
    UNROLL
    for (int i = 0; i < P::FM; i++)
        UNROLL
        for (int j = 0; j < P::FN; j++)
            UNROLL
            for (int e = 0; e < 4; e++)
                sum[i][j][e] = 0;
    __syncthreads(); /* results before these have left */
    UNROLL
    for (int s = 0; s < P::STAGES - 1; s++) {
        if (s < steps) {
            a.load(space + s * P::STAGE, begin + s * P::K, end);
            b.load(space + s * P::STAGE + P::A_SIZE, begin + s * P::K, end);
        }
        copy_close();
    }
    int now = 0, next = P::STAGES - 1;
    for (int step = 0; step < steps; step++) {
        copy_wait<P::STAGES - 2>();
        if constexpr (A::CHANGES)
            a.change(space + now * P::STAGE, begin + step * P::K, end);
        __syncthreads(); /* this stage is there for all, and all are done with the one before it */
        if (step + P::STAGES - 1 < steps) {
            const int k = begin + (step + P::STAGES - 1) * P::K;
            a.load(space + next * P::STAGE, k, end);
            b.load(space + next * P::STAGE + P::A_SIZE, k, end);
        }
        copy_close();
        const uint4 *from = space + now * P::STAGE;
        UNROLL
        for (int k = 0; k < P::K; k += 16) {
            uint32_t x[P::FM][4], y[P::FN / 2][4];
            UNROLL
            for (int i = 0; i < P::FM; i++)
                half_load_a<A, P::M>(x[i], from, row + i * 16, k);
            UNROLL
            for (int j = 0; j < P::FN / 2; j++)
                half_load_b<B, P::N>(y[j], from + P::A_SIZE, column + j * 16, k);
            UNROLL
            for (int i = 0; i < P::FM; i++)
                UNROLL
                for (int j = 0; j < P::FN; j++) {
                    const uint32_t pair[2] = {y[j / 2][j % 2 * 2], y[j / 2][j % 2 * 2 + 1]};
                    mma<E>(sum[i][j], x[i], pair);
                }
        }
        now = now + 1 == P::STAGES ? 0 : now + 1;
        next = next + 1 == P::STAGES ? 0 : next + 1;
    }
    copy_wait<0>();
    __syncthreads();
}

/* Gives the sums to `out`: out.put(row, column, v), eight neighbours of a row of the tile at a time. COUNTED: what v is then is given
 * once more, out.count(v, i): 16 rows of the warp's columns, from the warp's row 16 * i on, P::SLAB floats apart. */
template <class P, bool COUNTED = false, class F>
__device__ static inline void half_finish(const float (&sum)[P::FM][P::FN][4], F &&out)
{
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
    float *const slab = reinterpret_cast<float *>(half_space<P>()) + warp * 16 * P::SLAB;
    UNROLL
    for (int i = 0; i < P::FM; i++) {
        UNROLL
        for (int j = 0; j < P::FN; j++) {
            *reinterpret_cast<float2 *>(slab + g * P::SLAB + j * 8 + 2 * t) = make_float2(sum[i][j][0], sum[i][j][1]);
            *reinterpret_cast<float2 *>(slab + (g + 8) * P::SLAB + j * 8 + 2 * t) = make_float2(sum[i][j][2], sum[i][j][3]);
        }
        __syncwarp();
        UNROLL
        for (int piece = lane; piece < 16 * P::FN; piece += 32) {
            const int r = piece / P::FN, c = piece % P::FN * 8;
            const float4 u = *reinterpret_cast<const float4 *>(slab + r * P::SLAB + c);
            const float4 w = *reinterpret_cast<const float4 *>(slab + r * P::SLAB + c + 4);
            float v[8] = {u.x, u.y, u.z, u.w, w.x, w.y, w.z, w.w};
            out.put(half_warp_row<P>() + i * 16 + r, half_warp_column<P>() + c, v);
            if (COUNTED) {
                *reinterpret_cast<float4 *>(slab + r * P::SLAB + c) = make_float4(v[0], v[1], v[2], v[3]);
                *reinterpret_cast<float4 *>(slab + r * P::SLAB + c + 4) = make_float4(v[4], v[5], v[6], v[7]);
            }
        }
        __syncwarp();
        if constexpr (COUNTED) {
            out.count(slab, i);
            __syncwarp();
        }
    }
}

/* Which tile: columns are what one operand has few of. */
typedef enum half_kind { HALF_LARGE, HALF_MEDIUM, HALF_SMALL, HALF_TALL, HALF_THIN } half_kind;
static inline half_kind half_choose(int64_t rows, int64_t columns, int64_t batches)
{
    if (columns <= 16)
        return HALF_THIN;
    if (columns <= 32)
        return HALF_TALL;
    if (columns > 64 && (rows + 127) / 128 * ((columns + 127) / 128) * batches >= 128)
        return HALF_LARGE;
    return (rows + 127) / 128 * ((columns + 63) / 64) * batches >= 128 ? HALF_MEDIUM : HALF_SMALL;
}

/* Eight elements to and from floats. */
template <class E> __device__ static inline void half_unpack(float (&v)[8], const uint4 &from)
{
    __align__(16) E e[8];
    memcpy(e, &from, sizeof e);
    UNROLL
    for (int i = 0; i < 8; i++)
        v[i] = as_float(e[i]);
}
template <class E> __device__ static inline uint4 half_pack(const float (&v)[8])
{
    __align__(16) E e[8];
    uint4 to;
    UNROLL
    for (int i = 0; i < 8; i++)
        e[i] = from_float<E>(v[i]);
    memcpy(&to, e, sizeof to);
    return to;
}

#endif
