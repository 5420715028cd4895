/* mixed.cuh - operands that lie as float32, float16 or bfloat16, which is known when a kernel is launched and the same for all
 * threads. */
#ifndef DISTILL_KERNELS_CUDA_MIXED_CUH
#define DISTILL_KERNELS_CUDA_MIXED_CUH

#include "kernels/cuda/broadcast.cuh"

enum mixed_kind { MIXED_F32, MIXED_F16, MIXED_BF16 };
static inline int mixed_kind_of(dtype t)
{
    return t == DTYPE_F16 ? MIXED_F16 : t == DTYPE_BF16 ? MIXED_BF16 : MIXED_F32;
}

template <class T, int V> __device__ static inline pack<float, V> widened(const pack<T, V> &p)
{
    pack<float, V> r;
    UNROLL
    for (int v = 0; v < V; v++)
        r.at[v] = as_float(p.at[v]);
    return r;
}
template <class T, int V> __device__ static inline pack<T, V> rounded(const pack<float, V> &p)
{
    pack<T, V> r;
    UNROLL
    for (int v = 0; v < V; v++)
        r.at[v] = from_float<T>(p.at[v]);
    return r;
}

/* Elements i .. i + V - 1. */
template <int V> __device__ static inline pack<float, V> mixed_load(const void *from, int kind, int64_t i)
{
    if (kind == MIXED_F32)
        return pack_load<float, V>((const float *)from, i);
    if (kind == MIXED_F16)
        return widened<__half, V>(pack_load<__half, V>((const __half *)from, i));
    return widened<__nv_bfloat16, V>(pack_load<__nv_bfloat16, V>((const __nv_bfloat16 *)from, i));
}
template <int V> __device__ static inline void mixed_store(void *to, int kind, int64_t i, const pack<float, V> &p)
{
    if (kind == MIXED_F32)
        pack_store<float, V>((float *)to, i, p);
    else if (kind == MIXED_F16)
        pack_store<__half, V>((__half *)to, i, rounded<__half, V>(p));
    else
        pack_store<__nv_bfloat16, V>((__nv_bfloat16 *)to, i, rounded<__nv_bfloat16, V>(p));
}
/* The same of an operand that may repeat. */
template <int V> __device__ static inline pack<float, V> mixed_operand(const operand &o, int kind, int64_t i)
{
    if (kind == MIXED_F32)
        return operand_load<float, V>(o, i);
    if (kind == MIXED_F16)
        return widened<__half, V>(operand_load<__half, V>(o, i));
    return widened<__nv_bfloat16, V>(operand_load<__nv_bfloat16, V>(o, i));
}

#endif
