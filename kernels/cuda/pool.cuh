/* pool.cuh - where the windows of pools lie, on up to three spatial axes (src/ops/pool.c). */
#ifndef DISTILL_KERNELS_CUDA_POOL_CUH
#define DISTILL_KERNELS_CUDA_POOL_CUH

#include "kernels/cuda/index.cuh"

typedef struct pool_axis {
    int in, out, kernel, stride, dilation, pad, pad_end;
    divider ins, outs, strides;
} pool_axis;
typedef struct pool_sizes { /* three spatial axes, missing leading ones 1 */
    int64_t planes;
    int in, out; /* elements of a plane */
    bool with_pad; /* averages: taps in the padding count */
    pool_axis axis[3];
} pool_sizes;

/* x: shape of the data; y: of what has one element a window. */
static pool_sizes sizes_of(const pool_attrs *at, const shape *x, const shape *y)
{
    pool_sizes s = {.planes = x->dim[0] * x->dim[1], .in = 1, .out = 1, .with_pad = at->count_include_pad != 0};
    for (int i = 0, count = x->rank - 2, first = 3 - count; i < 3; i++) {
        const int k = i - first;
        pool_axis a = {.in = 1, .out = 1, .kernel = 1, .stride = 1, .dilation = 1};
        if (k >= 0) {
            a.in = (int)x->dim[2 + k];
            a.out = (int)y->dim[2 + k];
            a.kernel = (int)at->kernel_shape.v[k];
            a.stride = (int)at->strides.v[k];
            a.dilation = (int)at->dilations.v[k];
            a.pad = (int)at->pads.v[k];
            a.pad_end = (int)at->pads.v[k + count];
        }
        a.ins = divider_of(a.in);
        a.outs = divider_of(a.out);
        a.strides = divider_of(a.stride);
        s.axis[i] = a;
        s.in *= a.in;
        s.out *= a.out;
    }
    return s;
}

/* Places within a plane, padding included, are ints. */
static bool is_small(const pool_attrs *at, const shape *x)
{
    const int64_t most = 1 << 29;
    int64_t plane = 1;
    for (int k = 0; k < x->rank - 2; k++) {
        const int64_t extent = (at->kernel_shape.v[k] - 1) * at->dilations.v[k] + 1;
        plane *= x->dim[2 + k];
        if (plane > most || extent > most || at->strides.v[k] > most)
            return false;
    }
    return true;
}

/* A window: where its tap 0 lies, and the taps inside the data. */
typedef struct window_place {
    int start[3], begin[3], end[3];
} window_place;
__device__ static inline void place_axis(const pool_axis &a, int at, int k, window_place *w)
{
    const int start = at * a.stride - a.pad;
    int begin = start < 0 ? -start : 0, end = a.in - start;
    if (a.dilation > 1) {
        begin = (begin + a.dilation - 1) / a.dilation;
        end = end > 0 ? (end - 1) / a.dilation + 1 : 0;
    }
    w->start[k] = start;
    w->begin[k] = begin;
    w->end[k] = end < a.kernel ? end : a.kernel;
}
/* Window at[] */
__device__ static inline window_place place_window(const pool_sizes &s, const int *at)
{
    window_place w;
    UNROLL
    for (int k = 0; k < 3; k++)
        place_axis(s.axis[k], at[k], k, &w);
    return w;
}
/* i of all outputs (inputs) becomes the plane; at[] the place in it. */
template <class I> __device__ static inline I place_of_output(const pool_sizes &s, I i, int *at)
{
    UNROLL
    for (int k = 2; k >= 0; k--)
        at[k] = (int)split_off(&i, s.axis[k].outs);
    return i;
}
template <class I> __device__ static inline I place_of_input(const pool_sizes &s, I i, int *at)
{
    UNROLL
    for (int k = 2; k >= 0; k--)
        at[k] = (int)split_off(&i, s.axis[k].ins);
    return i;
}

/* The windows along an axis in whose span element i lies. */
__device__ static inline void windows_of(const pool_axis &a, int i, int *from, int *to)
{
    const int at = i + a.pad, below = at - (a.kernel - 1) * a.dilation;
    const int last = (int)quotient((uint32_t)at, a.strides);
    *from = below > 0 ? (int)quotient((uint32_t)(below + a.stride - 1), a.strides) : 0;
    *to = last < a.out ? last + 1 : a.out;
}

/* What window o divides by along an axis. */
__device__ static inline int taps_that_count(const pool_axis &a, int o, int inside, bool with_pad)
{
    if (!with_pad)
        return inside;
    const int end = a.in + a.pad + a.pad_end - o * a.stride, taps = a.dilation > 1 ? (end - 1) / a.dilation + 1 : end;
    return end <= 0 ? 0 : taps < a.kernel ? taps : a.kernel;
}
__device__ static inline int count_of(const pool_sizes &s, const window_place &w, const int *o)
{
    int count = 1;
    UNROLL
    for (int k = 0; k < 3; k++)
        count *= taps_that_count(s.axis[k], o[k], w.end[k] > w.begin[k] ? w.end[k] - w.begin[k] : 0, s.with_pad);
    return count;
}

__device__ static inline float larger(float a, float b)
{
    return b > a || b != b ? b : a;
}

#endif
