/* depthwise_half.cuh - what the kernels of half precision for groups of one channel share: depthwise_half.cu, depthwise_half_weight.cu. */
#ifndef DISTILL_KERNELS_CUDA_DEPTHWISE_HALF_CUH
#define DISTILL_KERNELS_CUDA_DEPTHWISE_HALF_CUH

#include "kernels/cuda/grad_sums.cuh"
#include "kernels/cuda/half_norm.cuh"

#define STRIP  4 /* windows */
#define PIECES 8 /* of a slab, at most */

typedef struct half_depth {
    conv_sizes s;                 /* of the strips: a data's gradient is turned round */
    const void *x, *residual;     /* residual: NULL: none */
    const float *w, *bias;        /* w [channels, taps]; bias NULL: none */
    void *y;
    bool relu, flipped;
    int slab, taps;               /* slab: pieces, a power of 2 */
    divider strips, rows, deep;   /* of an image of results: along the row (strips or pixels); rows; planes */
    int64_t count;                /* all strips or pixels */
    float2 *part;                 /* [channels, blocks along x]: mean, squared distances of what a block wrote; NULL: not wanted */
    float *counts;                /* [blocks along x]: windows of a block */
    norm_in norm;                 /* of x, where strips take it in */
    norm_behind behind;           /* of y */
} half_depth;

template <class E> __device__ static inline void eight_at(float (&v)[8], const void *p, int64_t at)
{
    half_unpack<E>(v, *reinterpret_cast<const uint4 *>((const E *)p + at));
}
/* The thread's eight norms, which it keeps. */
__device__ static inline norm_eight norms_at(const half_depth &c, int channel)
{
    norm_eight r;
    UNROLL
    for (int j = 0; j < 8; j++) {
        const float2 of = norm_of_channel(c.norm, channel + j);
        r.factor[j] = of.x;
        r.add[j] = of.y;
    }
    return r;
}
/* Of x; N: their norm, as norm_of<E> writes it, or no_norm. */
template <class E, class N> __device__ static inline void eight_in(float (&v)[8], const half_depth &c, const norm_eight &norm, int64_t at)
{
    uint4 bits = *reinterpret_cast<const uint4 *>((const E *)c.x + at);
    if (N::IS)
        bits = normed<E>(bits, norm, c.norm.after);
    half_unpack<E>(v, bits);
}

/* ---- for launchers ---- */

/* f(K, S) for the kernels there are */
#define STRIP_KERNELS(f) f(3, 1) f(3, 2) f(5, 1) f(5, 2) f(7, 1) f(7, 2)
#define NORM_WIDEST 5 /* K, with a norm on the way in */

/* Channels by eight, one output each. */
static inline bool by_eight(const conv_sizes &s)
{
    return s.channels % 8 == 0 && s.outputs == s.channels;
}
/* The kernel's width where strips serve it, else 0; data: its gradient with respect to the data. */
static inline int strip_width(const conv_sizes &s, bool data)
{
    const int k = s.kernel[2], stride = s.stride[2];
    bool fits = s.kernel[0] == 1 && s.in[0] == 1 && s.out[0] == 1 && s.stride[0] == 1 && s.pad[0] == 0 && s.kernel[1] == k &&
                s.stride[1] == stride && stride <= 2 && s.dilation[1] == 1 && s.dilation[2] == 1;
    fits &= !data || (stride == 1 && s.pad[1] < k && s.pad[2] < k);
    return fits && (k == 3 || k == 5 || k == 7) ? k : 0;
}
/* Whether strips of kernels of width k serve a norm on the way in (half_norm.cuh): an element is taken in for the strips of a row that
 * reach it, and for as many rows as reach it. */
static inline bool strips_take_norm(const conv_sizes &s, int k)
{
    const int span = (STRIP - 1) * s.stride[2] + k, wide = span < s.in[2] ? span : s.in[2], high = k < s.in[1] ? k : s.in[1];
    return k <= NORM_WIDEST && (double)((s.out[2] + STRIP - 1) / STRIP) * wide * s.out[1] * high <= (double)NORM_TIMES * volume(s.in);
}
/* Of pieces in all: the slab that leaves the fewest threads idle. */
static inline int slab_of(int pieces)
{
    int best = pieces == 1 ? 1 : 2;
    for (int slab = best; slab <= PIECES && pieces > 1; slab *= 2)
        if ((pieces + slab - 1) / slab * slab <= (pieces + best - 1) / best * best)
            best = slab;
    return best;
}
static inline void walk_of(half_depth *c, int n, const int *size, int strip)
{
    c->strips = divider_of((size[2] + strip - 1) / strip);
    c->rows = divider_of(size[1]);
    c->deep = divider_of(size[0]);
    c->count = n * c->strips.d * c->rows.d * c->deep.d;
}
static inline half_depth depth_of(const kernel_args *a, const conv_sizes &s)
{
    half_depth c = {};
    c.s = s;
    c.x = a->in[0].data;
    c.w = (const float *)a->in[1].data;
    c.bias = optional(a, 2);
    c.y = a->out[0].data;
    c.taps = volume(s.kernel);
    c.slab = s.channels % 8 ? 1 : slab_of(s.channels / 8);
    return c;
}

static inline bool counts(const kernel_args *a)
{
    return conv_counts(&a->in[0]) && conv_counts(&a->in[1]) && conv_counts(&a->out[0]) && ((const conv_attrs *)a->attr)->exact == 0;
}
static inline bool takes(const kernel_args *a)
{
    return conv_depthwise((const conv_attrs *)a->attr, &a->in[0].sh) && counts(a);
}
/* Strips alone; y: what has an element a window. */
static inline bool takes_strips(const kernel_args *a, const shape *y, bool norm)
{
    if (!takes(a) || shape_count(&a->in[0].sh) == 0)
        return false;
    const conv_sizes s = sizes_of((const conv_attrs *)a->attr, &a->in[0].sh, y);
    const int k = by_eight(s) ? strip_width(s, false) : 0;
    return k && (!norm || strips_take_norm(s, k));
}

#endif
