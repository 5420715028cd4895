/* rows.cuh - rows of d neighbours: a warp has a row, or a block has one when it is long.
 *
 * Kernels are templates of V (elements that are read at once; d is a multiple of it), K (packs of a row that a thread keeps
 * in registers; 0: the row is too long, every pass reads it again) and BLOCK (a block has a row). */
#ifndef DISTILL_KERNELS_CUDA_ROWS_CUH
#define DISTILL_KERNELS_CUDA_ROWS_CUH

#include "kernels/cuda/channels.cuh"

#define ROW_THREADS 256

/* Launches kernel<V, K, BLOCK, flag>, flag a constant of any kind. A grid goes round; a kernel that must not, because its sums belong to blocks, takes
 * LAUNCH_ROWS_ON with a grid of its own (of warps, 8 to a block, where BLOCK is false). */
#define LAUNCH_ROWS(kernel, flag, rows, d, vector, q, ...)                                                             \
    LAUNCH_ROWS_ON(kernel, flag, row_grid(q, rows, d, vector), d, vector, q, __VA_ARGS__)
#define LAUNCH_ROWS_ON(kernel, flag, grid, d, vector, q, ...)                                                          \
    do {                                                                                                               \
        const int64_t packs_ = (vector) ? (d) / 4 : (d);                                                               \
        if (packs_ <= 32)                                                                                              \
            LAUNCH_ROWS_V(kernel, 1, false, flag, grid, vector, q, __VA_ARGS__);                                       \
        else if (packs_ <= 128)                                                                                        \
            LAUNCH_ROWS_V(kernel, 4, false, flag, grid, vector, q, __VA_ARGS__);                                       \
        else if (packs_ <= ROW_OF_WARP)                                                                                \
            LAUNCH_ROWS_V(kernel, 8, false, flag, grid, vector, q, __VA_ARGS__);                                       \
        else if (packs_ <= 4 * ROW_THREADS)                                                                            \
            LAUNCH_ROWS_V(kernel, 4, true, flag, grid, vector, q, __VA_ARGS__);                                        \
        else                                                                                                           \
            LAUNCH_ROWS_V(kernel, 0, true, flag, grid, vector, q, __VA_ARGS__);                                        \
    } while (0)
#define LAUNCH_ROWS_V(kernel, k, block, flag, grid, vector, q, ...)                                                    \
    do {                                                                                                               \
        if (vector)                                                                                                    \
            LAUNCH((kernel<4, k, block, flag>), grid, ROW_THREADS, 0, q, __VA_ARGS__);                                 \
        else                                                                                                           \
            LAUNCH((kernel<1, k, block, flag>), grid, ROW_THREADS, 0, q, __VA_ARGS__);                                 \
    } while (0)
#define ROW_OF_WARP 256 /* packs */

static inline bool row_is_block(int64_t d, bool vector)
{
    return (vector ? d / 4 : d) > ROW_OF_WARP;
}
static inline dim3 row_grid(const cuda_queue *q, int64_t rows, int64_t d, bool vector)
{
    int64_t each = row_is_block(d, vector) ? 1 : ROW_THREADS / 32, blocks = (rows + each - 1) / each, most = (int64_t)q->multiprocessors * 32;
    return dim3((unsigned)(blocks < 1 ? 1 : blocks < most ? blocks : most));
}

/* r = a row of the group (warp or block), below n. All of a group's threads go round together. */
#define EACH_ROW(r, n)                                                                                                 \
    for (int64_t r = BLOCK ? (int64_t)blockIdx.x : (int64_t)blockIdx.x * (ROW_THREADS / 32) + (threadIdx.x >> 5); r < (n); \
         r += BLOCK ? (int64_t)gridDim.x : (int64_t)gridDim.x * (ROW_THREADS / 32))
/* i = the first element of the thread's k-th pack of a row of d elements. */
#define EACH_PACK(k, i, d)                                                                                             \
    UNROLL for (int k = 0; K ? k < K : (int64_t)k * (BLOCK ? ROW_THREADS : 32) * V < (d); k++)                                \
        if (const int64_t i = ((int64_t)k * (BLOCK ? ROW_THREADS : 32) + (BLOCK ? threadIdx.x : threadIdx.x & 31)) * V; i < (d))

__device__ static inline float block_max(float v, float *part)
{
    v = warp_max(v);
    __syncthreads();
    if ((threadIdx.x & 31) == 0)
        part[threadIdx.x >> 5] = v;
    __syncthreads();
    return warp_max((threadIdx.x & 31) < (blockDim.x >> 5) ? part[threadIdx.x & 31] : -INFINITY);
}
/* Over the threads of the row; part: 32 floats of shared memory. */
template <bool BLOCK> __device__ static inline float row_sum(float v, float *part)
{
    return BLOCK ? block_sum(v, part) : warp_sum(v);
}
template <bool BLOCK> __device__ static inline float row_max(float v, float *part)
{
    return BLOCK ? block_max(v, part) : warp_max(v);
}

/* What a thread has of a row: kept, or read again. */
template <int V, int K> struct row_part {
    const float *row;
    float kept[K ? K : 1][V];
    __device__ inline void load(int k, int64_t i)
    {
        const floats<V> p = floats_at<V>(row + i, 0);
        for (int j = 0; j < V; j++)
            kept[K ? k : 0][j] = p.v[j];
    }
    __device__ inline floats<V> get(int k, int64_t i) const
    {
        if constexpr (K == 0) {
            return floats_at<V>(row + i, 0);
        } else {
            floats<V> p;
            for (int j = 0; j < V; j++)
                p.v[j] = kept[k][j];
            return p;
        }
    }
};
/* Reads the part's row, where it is kept. */
#define LOAD_ROW(part, address, d)                                                                                     \
    do {                                                                                                               \
        (part).row = (address);                                                                                        \
        if (K) EACH_PACK(k_, i_, d)                                                                                    \
            (part).load(k_, i_);                                                                                       \
    } while (0)

#endif
