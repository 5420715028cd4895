/* philox.cuh - the random numbers of src/base/rng.h on a device: word w of draw d of the stream (seed, purpose, a, b) is
 * what the CPU's generator gives as number 4 d + w. Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011). */
#ifndef DISTILL_KERNELS_CUDA_PHILOX_CUH
#define DISTILL_KERNELS_CUDA_PHILOX_CUH

#include "kernels/cuda/cuda.cuh"
extern "C" {
#include "base/rng.h"
}

__device__ static inline uint4 philox_draw(uint64_t seed, rng_purpose purpose, uint64_t a, uint32_t b, uint32_t draw)
{
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    uint32_t c0 = draw, c1 = (uint32_t)purpose << 24 | (uint32_t)(a >> 32 & 0xffffff), c2 = (uint32_t)a, c3 = b;
    UNROLL
    for (int round = 0; round < 10; round++) {
        const uint32_t low0 = 0xD2511F53u * c0, low1 = 0xCD9E8D57u * c2;
        const uint32_t high0 = __umulhi(0xD2511F53u, c0), high1 = __umulhi(0xCD9E8D57u, c2);
        c0 = high1 ^ c1 ^ k0;
        c2 = high0 ^ c3 ^ k1;
        c1 = low1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return make_uint4(c0, c1, c2, c3);
}

#endif
