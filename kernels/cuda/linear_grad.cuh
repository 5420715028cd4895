/* linear_grad.cuh - what the gradients of linear layers have in common, of float32 and of halves: which part a block makes, and how
 * shares and sums of rows come together, in fixed order. */
#ifndef DISTILL_KERNELS_CUDA_LINEAR_GRAD_CUH
#define DISTILL_KERNELS_CUDA_LINEAR_GRAD_CUH

#include "kernels/cuda/tile.cuh"

/* Which tile of the result a block makes, which entries of the sum. */
template <class T> struct grad_place {
    int64_t row0, col0, begin, end;
    __device__ explicit grad_place(const product_size &p)
    {
        const int64_t tile_n = blockIdx.x / p.tiles_m;
        row0 = (blockIdx.x - tile_n * p.tiles_m) * T::M;
        col0 = tile_n * T::N;
        begin = blockIdx.z * p.share;
        end = begin + p.share < p.k ? begin + p.share : p.k;
    }
};

/* to[r], of R columns those that are there: the sums of LINES lines in shared memory. Ends behind a barrier. */
template <class T, int R, int LINES> __device__ static inline void sum_lines(float *to, const float *from, int64_t there)
{
    for (int r = (int)threadIdx.x; r < R && r < there; r += T::THREADS) {
        float sum = 0;
        for (int line = 0; line < LINES; line++)
            sum += from[line * R + r];
        to[r] = sum;
    }
    __syncthreads();
}

/* Where a share's sums go: to the end of the workspace, or out. */
__device__ static inline float *sums_place(const product_size &p, float *sums, int64_t columns)
{
    return p.splits > 1 ? p.partial + p.splits * p.m * p.n + blockIdx.z * columns : sums;
}

/* Adds the shares of every result and of every sum in order. */
template <class F> __global__ static void weight_join(product_size p, F finish, float *sums, int64_t columns)
{
    const int64_t each = p.m * p.n;
    GRID_STRIDE(i, each + columns)
    {
        const bool of_sums = i >= each;
        const float *const from = of_sums ? p.partial + p.splits * each + (i - each) : p.partial + i;
        const int64_t step = of_sums ? columns : each;
        float sum = 0;
        for (int64_t s = 0; s < p.splits; s++)
            sum += from[s * step];
        if (of_sums) {
            sums[i - each] = sum;
        } else {
            const typename F::column place(finish, 0, i % p.n, 1);
            place.put(finish, i / p.n, make_float4(sum, 0, 0, 0), 1);
        }
    }
}

#endif
