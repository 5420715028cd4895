/* round_tile.cuh - the product of tile.cuh on tensor cores (mma.cuh): [M, K] times [K, N], float32 in memory, rounded to bfloat16,
 * float16 or TF32 (the classes round_*) while it is brought to shared memory; sums are float32.
 *
 * A block makes M x N results of a round_shape, a warp WM x WN of them. Shared memory holds either side as it lies in memory,
 * lines of k or lines along the side, so that it is written in pieces of 8 or 16 bytes. 64 bytes of k at a time, two buffers.
 * Shares of long sums are tile.cuh's. */
#ifndef DISTILL_KERNELS_CUDA_ROUND_TILE_CUH
#define DISTILL_KERNELS_CUDA_ROUND_TILE_CUH

#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/tile.cuh"

/* ---- what is multiplied: `word` holds PER elements, neighbours in k ---- */

template <class H> struct round_half {
    static constexpr int PER = 2;
    __device__ static uint32_t word(float low, float high)
    {
        const H two[2] = {from_float<H>(low), from_float<H>(high)};
        uint32_t bits;
        memcpy(&bits, two, sizeof bits);
        return bits;
    }
    __device__ static void multiply(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { mma<H>(sum, a, b); }
};
typedef round_half<__nv_bfloat16> round_bf16;
typedef round_half<__half> round_f16;

/* float32 with 10 bits of fraction, to nearest, ties away from 0 (cvt.rna.tf32.f32). Fragments are those of halves with one
 * element where they have two (mma.m16n8k8). */
struct round_tf32 {
    static constexpr int PER = 1;
    __device__ static uint32_t word(float v, float)
    {
        const uint32_t bits = __float_as_uint(v);
        return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & 0xffffe000u;
    }
#if defined(CUDA_EMULATED)
    static void multiply(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
    {
        mma_part mine = {sum, a, b};
        emulator_together([](void *const parts[32]) { mma_warp<8, 32>(parts, [](uint32_t bits) { return __uint_as_float(bits); }); },
                          &mine, __builtin_LINE());
    }
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
    __device__ static void multiply(float (&)[4], const uint32_t (&)[4], const uint32_t (&)[2]) { __trap(); }
#else
    __device__ static void multiply(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
    {
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                     : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    }
#endif
};

/* ---- tiles ---- */

template <class E_, int M_, int N_, int WM_, int WN_, int BLOCKS_> struct round_shape {
    typedef E_ E;
    static constexpr int M = M_, N = N_, WM = WM_, WN = WN_, BLOCKS = BLOCKS_;
    static constexpr int SIZE = 4 / E::PER, K = 64 / SIZE, STEP = 32 / SIZE; /* bytes of an element; entries of a buffer; of an mma */
    static constexpr int WARPS = M / WM * (N / WN), THREADS = 32 * WARPS;
};

/* One side of the product: R rows from `first` on of `rows`. Element (r, k) lies at r * step + k, or at k * step + r (not
 * ALONG_K); so it does in shared memory, with rows of LINE bytes. */
template <class T, int R, bool ALONG_K> struct round_side {
    static constexpr int PIECES = R * T::K / 4, EACH = PIECES / T::THREADS, ACROSS = ALONG_K ? T::K / 4 : R / 4;
    static constexpr int LINE = ALONG_K ? T::K * T::SIZE + 16 : R * T::SIZE + (T::SIZE == 2 ? 16 : 32);
    static constexpr int BYTES = (ALONG_K ? R : T::K) * LINE;
    static_assert(PIECES % T::THREADS == 0, "all threads load as much");
    const float *p;
    int64_t step, first, rows;
    bool vector;
    float4 v[EACH];

    __device__ void load(int64_t k, int64_t end)
    {
        UNROLL
        for (int i = 0; i < EACH; i++) {
            const int piece = (int)threadIdx.x + i * T::THREADS, line = piece / ACROSS, along = piece % ACROSS * 4;
            const int64_t r = first + (ALONG_K ? line : along), at = k + (ALONG_K ? along : line);
            v[i] = ALONG_K ? fetch4(p + r * step + at, r < rows ? end - at : 0, vector)
                           : fetch4(p + at * step + r, at < end ? rows - r : 0, vector);
        }
    }
    __device__ void store(unsigned char *to) const
    {
        UNROLL
        for (int i = 0; i < EACH; i++) {
            const int piece = (int)threadIdx.x + i * T::THREADS;
            unsigned char *at = to + piece / ACROSS * LINE + piece % ACROSS * 4 * T::SIZE;
            if (T::SIZE == 2)
                *reinterpret_cast<uint2 *>(at) = uint2{T::E::word(v[i].x, v[i].y), T::E::word(v[i].z, v[i].w)};
            else
                *reinterpret_cast<uint4 *>(at) = make_uint4(T::E::word(v[i].x, 0), T::E::word(v[i].y, 0), T::E::word(v[i].z, 0),
                                                            T::E::word(v[i].w, 0));
        }
    }
    /* Rows [r, r + 16), entries [k, k + STEP): words t of rows g and g + 8, words t + 4 of them. */
    __device__ static void fragment(uint32_t (&to)[4], const unsigned char *from, int r, int k)
    {
        const int lane = (int)threadIdx.x & 31;
        if (ALONG_K) {
            load_matrices(to, from + (r + (lane & 15)) * LINE + k * T::SIZE + (lane >> 4) * 16);
        } else if (T::SIZE == 2) {
            load_turned(to, from + (k + (lane & 7) + (lane >> 4) * 8) * LINE + (r + (lane & 8)) * 2);
        } else {
            const unsigned char *at = from + (k + (lane & 3)) * LINE + (r + (lane >> 2)) * 4;
            UNROLL
            for (int i = 0; i < 4; i++)
                memcpy(&to[i], at + (i >> 1) * 4 * LINE + (i & 1) * 32, 4);
        }
    }
};

/* Shared memory of the block: two buffers of either side; afterwards 16 rows of the results of every warp. */
template <class T, class A, class B> __device__ static inline unsigned char *round_space()
{
    constexpr int OPERANDS = 2 * (A::BYTES + B::BYTES), RESULTS = T::WARPS * 16 * (T::WN + TILE_PAD) * 4;
    __shared__ float4 space[(OPERANDS > RESULTS ? OPERANDS : RESULTS) / 16];
    return reinterpret_cast<unsigned char *>(space);
}

/* sum[i][j] of a warp: its rows [16 i, 16 i + 16) and columns [8 j, 8 j + 8), over k in [begin, end). Ends behind a barrier. */
template <class T, class A, class B>
__device__ static inline void round_product(A &a, B &b, int64_t begin, int64_t end, float (&sum)[T::WM / 16][T::WN / 8][4])
{
    unsigned char *const space_a = round_space<T, A, B>(), *const space_b = space_a + 2 * A::BYTES;
    const int warp = (int)threadIdx.x >> 5, row = warp / (T::N / T::WN) * T::WM, col = warp % (T::N / T::WN) * T::WN;
    UNROLL
    for (int i = 0; i < T::WM / 16; i++)
        UNROLL
        for (int j = 0; j < T::WN / 8; j++)
            UNROLL
            for (int e = 0; e < 4; e++)
                sum[i][j][e] = 0;
    a.load(begin, end);
    b.load(begin, end);
    __syncthreads(); /* the results before these have left */
    a.store(space_a);
    b.store(space_b);
    __syncthreads();
    int now = 0;
    for (int64_t k = begin; k < end; k += T::K, now ^= 1) {
        const bool more = k + T::K < end;
        if (more) {
            a.load(k + T::K, end);
            b.load(k + T::K, end);
        }
        UNROLL
        for (int e = 0; e < T::K; e += T::STEP) {
            uint32_t y[T::WN / 16][4];
            UNROLL
            for (int j = 0; j < T::WN / 16; j++)
                B::fragment(y[j], space_b + now * B::BYTES, col + 16 * j, e);
            UNROLL
            for (int i = 0; i < T::WM / 16; i++) {
                uint32_t x[4];
                A::fragment(x, space_a + now * A::BYTES, row + 16 * i, e);
                UNROLL
                for (int j = 0; j < T::WN / 16; j++) {
                    const uint32_t left[2] = {y[j][0], y[j][2]}, right[2] = {y[j][1], y[j][3]};
                    T::E::multiply(sum[i][2 * j], x, left);
                    T::E::multiply(sum[i][2 * j + 1], x, right);
                }
            }
        }
        if (more) {
            a.store(space_a + (now ^ 1) * A::BYTES);
            b.store(space_b + (now ^ 1) * B::BYTES);
        }
        __syncthreads();
    }
}

/* As tile_finish: four columns of a row at a time to finish.put, or to the workspace. */
template <class T, class A, class B, class F>
__device__ static inline void round_finish(const product_size &p, int64_t row0, int64_t col0, int64_t batch,
                                         const float (&sum)[T::WM / 16][T::WN / 8][4], const F &finish)
{
    constexpr int LINE = T::WN + TILE_PAD, ACROSS = T::WN / 4;
    static_assert(32 % ACROSS == 0, "a lane keeps its columns");
    const bool whole = (p.n & 3) == 0;
    const int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5;
    float *const own = reinterpret_cast<float *>(round_space<T, A, B>()) + warp * 16 * LINE;
    const int64_t col = col0 + warp % (T::N / T::WN) * T::WN + lane % ACROSS * 4, have = p.n - col;
    const int64_t first = row0 + warp / (T::N / T::WN) * T::WM;
    NO_UNROLL
    for (int group = 0; group < T::WM / 16; group++) {
        __syncwarp();
        UNROLL
        for (int i = 0; i < T::WM / 16; i++)
            UNROLL
            for (int j = 0; j < T::WN / 8; j++)
                if (i == group) {
                    float *to = own + (lane >> 2) * LINE + 8 * j + (lane & 3) * 2;
                    *reinterpret_cast<float2 *>(to) = make_float2(sum[i][j][0], sum[i][j][1]);
                    *reinterpret_cast<float2 *>(to + 8 * LINE) = make_float2(sum[i][j][2], sum[i][j][3]);
                }
        __syncwarp();
        if (have <= 0)
            continue;
        typename F::column at(finish, batch, col, have);
        NO_UNROLL
        for (int r = lane / ACROSS; r < 16; r += 32 / ACROSS) {
            const int64_t row = first + 16 * group + r;
            const float4 v = *reinterpret_cast<const float4 *>(own + r * LINE + lane % ACROSS * 4);
            if (row >= p.m)
                break;
            if (p.splits > 1)
                put4(p.partial + ((batch * p.splits + blockIdx.z) * p.m + row) * p.n + col, v, have, whole);
            else
                at.put(finish, row, v, have);
        }
    }
}

#endif
