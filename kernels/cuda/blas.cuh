/* blas.cuh - what blas.cu and blas_grad.cu share: how a product is asked of cuBLASLt, and operands rounded before it. */
#ifndef DISTILL_KERNELS_CUDA_BLAS_CUH
#define DISTILL_KERNELS_CUDA_BLAS_CUH

#include "kernels/cuda/cuda.cuh"
extern "C" {
#include "kernels/cuda/blas.h"
}

static inline bool is_there(const kernel_tensor *t, int n, int i)
{
    return n > i && t[i].type != DTYPE_NONE;
}
static inline int64_t rows_of(const shape *s)
{
    int64_t rows = 1;
    for (int i = 0; i + 1 < s->rank; i++)
        rows *= s->dim[i];
    return rows;
}

static inline blas_key empty_key(const cuda_queue *q)
{
    blas_key k;
    memset(&k, 0, sizeof k);
    k.count = 1;
    k.type = BLAS_R_32F;
    k.epilogue = BLAS_EPILOGUE_NONE;
    k.compute = q->tf32 ? BLAS_COMPUTE_32F_FAST_TF32 : BLAS_COMPUTE_32F;
    return k;
}

/* A [rows, cols] and B as they lie. */
static inline void set_sizes(blas_key *k, int64_t a_rows, int64_t a_cols, bool ta, int64_t b_rows, int64_t b_cols, bool tb)
{
    k->m = ta ? a_cols : a_rows;
    k->k = ta ? a_rows : a_cols;
    k->n = tb ? b_rows : b_cols;
    k->a_transposed = ta;
    k->b_transposed = tb;
}

static inline bool is_empty(const blas_key *k)
{
    return k->m < 1 || k->n < 1 || k->k < 1 || k->count < 1;
}

static inline size_t workspace_of(const blas_plan *p)
{
    return p ? (p->choice.workspace + 255) / 256 * 256 : 0;
}

/* Rounds to bfloat16 or float16, ties to even. */
template <class H> __global__ static void round_kernel(H *to, const float *from, int64_t n)
{
    GRID_STRIDE(i, n)
        to[i] = from_float<H>(from[i]);
}
template <class H> __global__ static void round_fours_kernel(uint2 *to, const float4 *from, int64_t n4)
{
    GRID_STRIDE(i, n4)
    {
        const float4 v = from[i];
        const H h[4] = {from_float<H>(v.x), from_float<H>(v.y), from_float<H>(v.z), from_float<H>(v.w)};
        memcpy(&to[i], h, sizeof h);
    }
}
template <class H> static void round_as(const kernel_args *a, void *to, const void *from, int64_t n)
{
    if (n % 4 == 0 && is_vector(from) && is_vector(to))
        LAUNCH((round_fours_kernel<H>), grid_for(a->queue, n / 4, 1), CUDA_THREADS, 0, a->queue, (uint2 *)to, (const float4 *)from, n / 4);
    else
        LAUNCH((round_kernel<H>), grid_for(a->queue, n, 4), CUDA_THREADS, 0, a->queue, (H *)to, (const float *)from, n);
}
static inline void round_operand(const kernel_args *a, int64_t precision, void *to, const void *from, int64_t n)
{
    if (precision == PRECISION_F16)
        round_as<__half>(a, to, from, n);
    else
        round_as<__nv_bfloat16>(a, to, from, n);
}

static inline size_t rounded_bytes(int64_t rows, int64_t cols)
{
    return ((size_t)(rows * cols) * 2 + 255) / 256 * 256;
}

#endif
