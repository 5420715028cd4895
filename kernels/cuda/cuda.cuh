/* cuda.cuh - how the CUDA kernels are written and found.
 *
 * kernels/cuda/NAME.cu holds the device code of a family, its launchers, and its rows: CUDA_TABLE(NAME) = {..., KERNEL_END}.
 * Every file is compiled twice: by nvcc, and in test builds as plain C++ over tests/emulator/emulator.h, which runs blocks
 * on the host. So launches go through LAUNCH, dynamic shared memory through SHARED_DYNAMIC, inline PTX has a plain twin under
 * CUDA_EMULATED, and nothing of the file is visible but the table (everything else static).
 *
 * Operands are device pointers; shapes and attributes are the host's and are passed to kernels by value in structs of sizes.
 * Kernels are vectorised where their operands' sizes and addresses allow (is_vector), else scalar; loops are grid-stride;
 * sums have a fixed order that depends on shapes alone (no floating-point atomics). Counts are 64-bit. */
#ifndef DISTILL_KERNELS_CUDA_CUH
#define DISTILL_KERNELS_CUDA_CUH

extern "C" {
#include "kernels/cuda/api.h"
#include "kernels/kernel.h"
#include "ops/attrs.h"
}
#ifdef CUDA_EMULATED
#include "emulator.h"
#define CUDA_VARIANT emulated
#define UNROLL /* the loop that follows */
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define CUDA_VARIANT device
#define UNROLL _Pragma("unroll")
/* The dynamic shared memory of the block as elements of a type; aligned to 16. */
#define SHARED_DYNAMIC(type, name)                                                                                     \
    extern __shared__ __align__(16) unsigned char name##_bytes[];                                                      \
    type *name = reinterpret_cast<type *>(name##_bytes)
/* Launches kernel(...) on the queue; after a failure it does nothing. */
#define LAUNCH(kernel, grid, block, shared, q, ...)                                                                    \
    do {                                                                                                               \
        if ((q)->failed == 0) {                                                                                        \
            kernel<<<(grid), (block), (shared), (cudaStream_t)(q)->stream>>>(__VA_ARGS__);                             \
            cuda_note((q), #kernel, (q)->api->last_error());                                                           \
        }                                                                                                              \
    } while (0)
#endif
#define CUDA_PASTE_(a, b, c) a##b##_##c
#define CUDA_PASTE(a, b, c)  CUDA_PASTE_(a, b, c)
#define CUDA_TABLE(name)     extern "C" const kernel_row CUDA_PASTE(cuda_, name, CUDA_VARIANT)[]
#define KERNEL_END           {.op = OP_NONE}

#define ON_BOTH __host__ __device__ static inline /* functions of headers that the CPU's kernels share */

#define CUDA_THREADS 256 /* of a block, where nothing else decides */
#define FULL_WARP    0xffffffffu

/* Blocks for n elements, `each` by a thread and round: enough to fill the device some times, no more. */
static inline dim3 grid_for(const cuda_queue *q, int64_t n, int each)
{
    int64_t blocks = (n + (int64_t)CUDA_THREADS * each - 1) / ((int64_t)CUDA_THREADS * each), most = (int64_t)q->multiprocessors * 16;
    return dim3((unsigned)(blocks < 1 ? 1 : blocks < most ? blocks : most));
}
/* i = the thread's number, then on by the number of all threads, below n. */
#define GRID_STRIDE(i, n)                                                                                              \
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (int64_t)gridDim.x * blockDim.x)

/* Whether a pointer can be read 16 bytes at a time. */
static inline bool is_vector(const void *p)
{
    return ((uintptr_t)p & 15) == 0;
}

/* Elements as float and back, rounded to nearest even: float16 lies as __half, bfloat16 as __nv_bfloat16. */
__device__ static inline float as_float(float v) { return v; }
__device__ static inline float as_float(__half v) { return __half2float(v); }
__device__ static inline float as_float(__nv_bfloat16 v) { return __bfloat162float(v); }
template <class T> __device__ static inline T from_float(float v);
template <> __device__ inline float from_float<float>(float v) { return v; }
template <> __device__ inline __half from_float<__half>(float v) { return __float2half_rn(v); }
template <> __device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float v) { return __float2bfloat16_rn(v); }

__device__ static inline float warp_sum(float v)
{
    for (int m = 16; m; m >>= 1)
        v += __shfl_xor_sync(FULL_WARP, v, m);
    return v;
}
__device__ static inline float warp_max(float v)
{
    for (int m = 16; m; m >>= 1)
        v = fmaxf(v, __shfl_xor_sync(FULL_WARP, v, m));
    return v;
}
/* Sum over the block (a multiple of 32 threads, at most 1024), the same bits in every thread. `part`: 32 floats of shared
 * memory, free again after the next __syncthreads. */
__device__ static inline float block_sum(float v, float *part)
{
    v = warp_sum(v);
    __syncthreads();
    if ((threadIdx.x & 31) == 0)
        part[threadIdx.x >> 5] = v;
    __syncthreads();
    return warp_sum((threadIdx.x & 31) < (blockDim.x >> 5) ? part[threadIdx.x & 31] : 0.0f);
}

/* An operand that may repeat along axes of the output: the element for element i of the output. */
typedef struct broadcast_map {
    int rank;
    int64_t dim[RANK_MAX], step[RANK_MAX]; /* innermost first; step 0: repeats */
} broadcast_map;
static inline broadcast_map broadcast_of(const shape *out, const shape *in)
{
    broadcast_map m = {.rank = 0};
    int64_t stride = 1;
    for (int k = 1; k <= out->rank; k++) {
        int64_t own = k <= in->rank ? in->dim[in->rank - k] : 1;
        int64_t step = own == 1 ? 0 : stride, d = out->dim[out->rank - k];
        stride *= own;
        if (d == 1)
            continue;
        if (m.rank > 0 && step == m.step[m.rank - 1] * m.dim[m.rank - 1]) { /* goes on where the axis before it ends */
            m.dim[m.rank - 1] *= d;
            continue;
        }
        m.dim[m.rank] = d;
        m.step[m.rank++] = step;
    }
    return m;
}
__device__ static inline int64_t broadcast_at(const broadcast_map &m, int64_t i)
{
    int64_t at = 0;
    for (int k = 0; k < m.rank - 1; k++) {
        int64_t next = i / m.dim[k];
        at += (i - next * m.dim[k]) * m.step[k];
        i = next;
    }
    return m.rank ? at + i * m.step[m.rank - 1] : 0;
}

#endif
