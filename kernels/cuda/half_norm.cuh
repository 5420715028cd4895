/* half_norm.cuh - a batch norm and its relu of float16 and bfloat16 images: what follows the norm, and the norm as the convolutions
 * of halves apply it to what they take in (NormConv, NormConvGradWeight).
 *
 *     y = min(max(x * factor + add, 0), ceiling),  factor = scale / sqrt(var + epsilon),  add = shift - mean * factor
 *
 * in float32, rounded once, as half_norm_kernel (batch_norm_half.cu) writes it: the products are of the same bits. Padding comes
 * after the norm: it stays zero. A piece is changed in shared memory by the thread that had it brought there, between its
 * arrival and the barrier that stands there anyway: two accesses of 16 bytes more, no barrier. Depthwise kernels change it in registers. */
#ifndef DISTILL_KERNELS_CUDA_HALF_NORM_CUH
#define DISTILL_KERNELS_CUDA_HALF_NORM_CUH

#include "kernels/cuda/conv.cuh"
#include "kernels/cuda/half_tile.cuh"

/* ---- what follows a norm: y = min(max(y, 0), ceiling) ---- */

/* The gradient sees from a stored y whether it was at the ceiling: then it is `top`, the ceiling as the type has it, and what was
 * less is `below` at most, the number before that. */
struct after_norm {
    int relu;
    float ceiling, top, below; /* inf: none */
};
/* ceiling 0: none */
static inline after_norm after_norm_as(dtype type, bool relu, double ceiling)
{
    uint16_t bits = 0;
    if (!relu || !(ceiling > 0))
        return {relu, INFINITY, INFINITY, INFINITY};
    dtype_store(type, &bits, 0, ceiling);
    const float top = (float)dtype_load(type, &bits, 0);
    bits -= bits > 0;
    return {1, (float)ceiling, top, (float)dtype_load(type, &bits, 0)};
}
__device__ static inline float follow(const after_norm &f, float v)
{
    if (f.relu && v < 0)
        v = 0;
    return v >= f.ceiling ? f.top : v > f.below ? f.below : v;
}

/* ---- on the way into a convolution ---- */

typedef struct norm_in {
    const float *mean, *var, *scale, *shift; /* [channels of x]; NULL: there is no norm */
    float epsilon;
    after_norm after;
} norm_in;
/* The operands of the norm stand from `first` on. */
static inline norm_in norm_in_of(const kernel_args *a, int first)
{
    const conv_attrs *at = (const conv_attrs *)a->attr;
    if (a->n_in <= first)
        return {};
    return {optional(a, first), optional(a, first + 1), optional(a, first + 2), optional(a, first + 3), (float)at->norm_epsilon,
            after_norm_as(a->in[0].type, at->norm_relu != 0, at->norm_ceiling)};
}
/* (factor, add) of a channel. */
__device__ static inline float2 norm_of_channel(const norm_in &n, int channel)
{
    const float factor = n.scale[channel] / sqrtf(n.var[channel] + n.epsilon);
    return make_float2(factor, n.shift[channel] - n.mean[channel] * factor);
}
template <class E> __device__ static inline uint16_t normed(uint16_t bits, const float2 &of, const after_norm &after)
{
    E e;
    memcpy(&e, &bits, sizeof e);
    e = from_float<E>(follow(after, as_float(e) * of.x + of.y));
    memcpy(&bits, &e, sizeof e);
    return bits;
}

/* Eight neighbouring channels. */
struct norm_eight {
    float factor[8], add[8];
};
template <class E> __device__ static inline uint4 normed(const uint4 &from, const norm_eight &of, const after_norm &after)
{
    float v[8];
    half_unpack<E>(v, from);
    UNROLL
    for (int i = 0; i < 8; i++) {
        v[i] = v[i] * of.factor[i] + of.add[i];
        v[i] = after.relu && v[i] < 0 ? 0 : v[i];
    }
    if (after.ceiling < INFINITY) {
        UNROLL
        for (int i = 0; i < 8; i++)
            v[i] = follow(after, v[i]);
    }
    return half_pack<E>(v);
}

/* What the convolutions' sides know of a norm: no_norm, or norm_of<E>. */
struct no_norm {
    static constexpr bool IS = false;
    typedef __half E;
};
template <class T> struct norm_of {
    static constexpr bool IS = true;
    typedef T E;
};

/* Which of a thread's EACH pieces of each stage under way were there (the others stay zero): first in, first out. */
template <int EACH, int STAGES> struct pieces_there {
    static_assert(EACH * (STAGES - 1) <= 32, "bits");
    uint32_t bits = 0;
    int waiting = 0;
    __device__ void push(uint32_t there)
    {
        bits |= there << EACH * waiting++;
    }
    __device__ uint32_t pop()
    {
        const uint32_t there = bits & ((1u << EACH) - 1);
        bits >>= EACH;
        waiting--;
        return there;
    }
};

/* Tiles of what takes in a norm: with registers for it. */
template <class P> struct normed_shape {
    typedef P shape;
};
template <> struct normed_shape<half_thin> {
    typedef half_shape<128, 16, 32, 16, 4, 4> shape;
};
template <> struct normed_shape<half_small> {
    typedef half_shape<64, 64, 32, 32, 4, 4> shape;
};

/* A table of the norms of all channels in dynamic shared memory: of eight channels their factors, then what is added. */
static const int NORM_CHANNELS = 1024; /* at most */
static inline size_t norm_table_bytes(int channels)
{
    return (size_t)(channels + 7) / 8 * 64;
}
/* Ends behind no barrier. */
__device__ static inline void norm_table_fill(float *to, const norm_in &n, int channels)
{
    for (int c = (int)threadIdx.x; c < channels; c += (int)blockDim.x) {
        const float2 of = norm_of_channel(n, c);
        to[c / 8 * 16 + c % 8] = of.x;
        to[c / 8 * 16 + 8 + c % 8] = of.y;
    }
}
__device__ static inline float2 norm_table_one(const float *table, int channel)
{
    return make_float2(table[channel / 8 * 16 + channel % 8], table[channel / 8 * 16 + 8 + channel % 8]);
}
__device__ static inline norm_eight norm_table_eight(const float *table, int channel)
{
    const float4 *const from = reinterpret_cast<const float4 *>(table + channel / 8 * 16);
    const float4 a = from[0], b = from[1], c = from[2], d = from[3];
    return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}, {c.x, c.y, c.z, c.w, d.x, d.y, d.z, d.w}};
}

/* Whether it is better to change what comes in than to write the normed image and read it again: an element is taken in `taps`
 * times for each of the tiles beside each other. Not measured: changing an element costs about an eighth of moving it to memory and
 * back, and part of that is hidden behind products. */
#define NORM_TIMES 9
static inline bool norm_pays(const conv_sizes &s, half_kind tile)
{
    static const int columns[] = {half_large::N, half_medium::N, half_small::N, half_tall::N, half_thin::N};
    const int each = s.outputs / s.group, tiles = (each + columns[tile] - 1) / columns[tile];
    return (double)volume(s.out) * volume(s.kernel) * tiles <= (double)NORM_TIMES * volume(s.in);
}

#endif
