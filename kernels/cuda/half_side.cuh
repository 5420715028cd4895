/* half_side.cuh - a side of round_tile.cuh's product that lies in float16 or bfloat16 in memory (gemm_half.cu, linear_grad_half.cu). */
#ifndef DISTILL_KERNELS_CUDA_HALF_SIDE_CUH
#define DISTILL_KERNELS_CUDA_HALF_SIDE_CUH

#include "kernels/cuda/round_tile.cuh"

/* One side of the product, as round_side has it in shared memory: pieces of 8 elements. */
template <class T, class H, int R, bool ALONG_K> struct half_side {
    typedef round_side<T, R, ALONG_K> lies;
    static constexpr int PIECES = R * T::K / 8, EACH = PIECES / T::THREADS, ACROSS = ALONG_K ? T::K / 8 : R / 8;
    static constexpr int LINE = lies::LINE, BYTES = lies::BYTES;
    static_assert(PIECES % T::THREADS == 0 && T::SIZE == 2, "all threads load as much");
    const H *p;
    int64_t step, first, rows;
    bool vector; /* pieces of 16 bytes lie at multiples of 16 */
    uint4 v[EACH];

    __device__ uint4 fetch(const H *from, int64_t have) const
    {
        uint4 r = make_uint4(0, 0, 0, 0);
        if (vector && have >= 8)
            return *reinterpret_cast<const uint4 *>(from);
        H h[8];
        memcpy(h, &r, sizeof h);
        UNROLL
        for (int i = 0; i < 8; i++)
            if (i < have)
                h[i] = from[i];
        memcpy(&r, h, sizeof r);
        return r;
    }
    __device__ void load(int64_t k, int64_t end)
    {
        UNROLL
        for (int i = 0; i < EACH; i++) {
            const int piece = (int)threadIdx.x + i * T::THREADS, line = piece / ACROSS, along = piece % ACROSS * 8;
            const int64_t r = first + (ALONG_K ? line : along), at = k + (ALONG_K ? along : line);
            if (ALONG_K)
                v[i] = fetch(p + r * step + at, r < rows ? end - at : 0);
            else
                v[i] = fetch(p + at * step + r, at < end ? rows - r : 0);
        }
    }
    __device__ void store(unsigned char *to) const
    {
        UNROLL
        for (int i = 0; i < EACH; i++) {
            const int piece = (int)threadIdx.x + i * T::THREADS;
            *reinterpret_cast<uint4 *>(to + piece / ACROSS * LINE + piece % ACROSS * 16) = v[i];
        }
    }
    __device__ static void fragment(uint32_t (&to)[4], const unsigned char *from, int r, int k) { lies::fragment(to, from, r, k); }
};

#endif
