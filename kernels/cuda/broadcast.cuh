/* broadcast.cuh - operands that may repeat along axes of the output, read some elements at a time.
 *
 * A pack is V neighbouring elements of the output, one access of up to 16 bytes. How an operand is read for a pack is
 * decided at the launch and the same for all threads: along with the output, one number for all, one number or one access
 * for each pack (the innermost axis is a multiple of V), or element by element. Results may lie over operands of their own
 * shape: a thread reads all that it needs before it writes. */
#ifndef DISTILL_KERNELS_CUDA_BROADCAST_CUH
#define DISTILL_KERNELS_CUDA_BROADCAST_CUH

#include "kernels/cuda/cuda.cuh"

#ifdef CUDA_EMULATED
#define OUT_OF_LINE
#define ROLLED /* the loop that follows: few rounds, in many places */
#else
#define OUT_OF_LINE __noinline__
#define ROLLED _Pragma("unroll 1")
#endif

template <class T, int V> struct alignas(sizeof(T) * V) pack {
    T at[V];
};
/* Elements of a pack of T, one access of 16 bytes. */
template <class T> inline constexpr int pack_of = sizeof(T) >= 8 ? 2 : sizeof(T) == 4 ? 4 : 8;

enum operand_way { OPERAND_ALONG, OPERAND_ONE, OPERAND_SPLAT, OPERAND_ROW, OPERAND_EACH };
typedef struct operand {
    const void *data;
    int way;    /* operand_way */
    int narrow; /* the output has less than 2^31 elements */
    broadcast_map map;
    uint64_t times[RANK_MAX]; /* division by map.dim (Granlund, Montgomery 1994): 2^64 (2^shift - dim) / dim, cut */
    uint8_t shift[RANK_MAX];
} operand;

/* Division of numbers below 2^63 by the map's dimensions. */
static inline void operand_divisions(operand *o)
{
    for (int k = 0; k < o->map.rank - 1; k++) {
        const uint64_t d = o->map.dim[k] > 0 ? (uint64_t)o->map.dim[k] : 1;
        while ((uint64_t)1 << o->shift[k] < d)
            o->shift[k]++;
        o->times[k] = (uint64_t)(((unsigned __int128)(((uint64_t)1 << o->shift[k]) - d) << 64) / d);
    }
}

/* v: elements of a pack. */
static inline operand operand_of(const kernel_tensor *out, const kernel_tensor *in, int v)
{
    operand o = {.data = in->data, .way = OPERAND_EACH, .narrow = shape_count(&out->sh) < (int64_t)1 << 31,
                 .map = broadcast_of(&out->sh, &in->sh)};
    const bool whole = ((uintptr_t)in->data & (dtype_of(in->type)->size * (size_t)v - 1)) == 0;
    const bool one_axis = o.map.rank < 2;
    if (one_axis && (o.map.rank == 0 || o.map.step[0] == 0))
        o.way = OPERAND_ONE;
    else if (one_axis && whole)
        o.way = OPERAND_ALONG;
    else if (!one_axis && o.map.dim[0] % v == 0 && o.map.step[0] == 0)
        o.way = OPERAND_SPLAT;
    else if (!one_axis && o.map.dim[0] % v == 0 && whole)
        o.way = OPERAND_ROW;
    operand_divisions(&o);
    return o;
}

/* Where the element for element i of the output lies. */
__device__ static inline int64_t operand_at(const operand &o, int64_t i)
{
    int64_t at = 0;
    uint64_t rest = (uint64_t)i;
    ROLLED
    for (int k = 0; k < o.map.rank - 1; k++) {
        const uint32_t low = (uint32_t)rest;
        const uint64_t next = o.narrow ? (__umulhi(low, (uint32_t)(o.times[k] >> 32) + 1) + low) >> o.shift[k]
                                       : (__umul64hi(rest, o.times[k] + 1) + rest) >> o.shift[k];
        at += (int64_t)(rest - next * (uint64_t)o.map.dim[k]) * o.map.step[k];
        rest = next;
    }
    return o.map.rank ? at + (int64_t)rest * o.map.step[o.map.rank - 1] : 0;
}

/* Elements i .. i + V - 1 of the output, of an operand whose data begin at `data`; i is a multiple of V, and V is what
 * operand_of got, or 1. */
template <class T, int V> __device__ static inline pack<T, V> operand_read(const operand &o, const T *data, int64_t i)
{
    pack<T, V> p;
    if (V == 1) {
        p.at[0] = data[operand_at(o, i)];
    } else if (o.way == OPERAND_ALONG) {
        p = *(const pack<T, V> *)(data + i);
    } else if (o.way == OPERAND_ROW) {
        p = *(const pack<T, V> *)(data + operand_at(o, i));
    } else if (o.way == OPERAND_EACH) {
        UNROLL
        for (int v = 0; v < V; v++)
            p.at[v] = data[operand_at(o, i + v)];
    } else {
        const T x = data[o.way == OPERAND_ONE ? 0 : operand_at(o, i)];
        UNROLL
        for (int v = 0; v < V; v++)
            p.at[v] = x;
    }
    return p;
}
template <class T, int V> __device__ static inline pack<T, V> operand_load(const operand &o, int64_t i)
{
    return operand_read<T, V>(o, (const T *)o.data, i);
}

/* Addresses are multiples of a pack or not, the same for all threads. */
template <class T, int V> __device__ static inline pack<T, V> pack_load(const T *from, int64_t i)
{
    pack<T, V> p;
    if (((uintptr_t)from & (sizeof p - 1)) == 0)
        return *(const pack<T, V> *)(from + i);
    UNROLL
    for (int v = 0; v < V; v++)
        p.at[v] = from[i + v];
    return p;
}
template <class T, int V> __device__ static inline void pack_store(T *to, int64_t i, const pack<T, V> &p)
{
    if (((uintptr_t)to & (sizeof p - 1)) == 0) {
        *(pack<T, V> *)(to + i) = p;
    } else {
        UNROLL
        for (int v = 0; v < V; v++)
            to[i + v] = p.at[v];
    }
}

/* body(first element, constant of how many) for every pack of V elements, and for the elements that remain one by one. */
template <int V> struct pack_width {
    static constexpr int value = V;
};
template <int V, class F> __device__ static inline void for_packs(int64_t n, F body)
{
    const int64_t packs = n / V, last = packs * V + (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    GRID_STRIDE(p, packs)
        body(p * V, pack_width<V>());
    if (V > 1 && last < n)
        body(last, pack_width<1>());
}

#endif
