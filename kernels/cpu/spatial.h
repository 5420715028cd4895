/* spatial.h - sizes of convolutions and pools for the CPU kernels: always three spatial axes, missing leading ones 1. */
#ifndef DISTILL_KERNELS_SPATIAL_H
#define DISTILL_KERNELS_SPATIAL_H

#include "kernels/cpu/cpu.h"

/* Data [n, channels, in...], windows [n, outputs, out...], weight [outputs, channels / group, kernel...]. */
typedef struct spatial {
    int64_t n, channels, outputs, group;
    int64_t in[3], out[3], kernel[3], stride[3], dilation[3], pad[3]; /* pad: before the data */
    int64_t pad_end[3];
} spatial;

/* `x` is the shape of the data, `y` that of what has one element a window. The lists are complete after inference. */
static inline spatial spatial_of(const shape *x, const shape *y, attr_ints kernel, attr_ints strides,
                                 attr_ints dilations, attr_ints pads, int64_t group)
{
    spatial s = {.n = x->dim[0], .channels = x->dim[1], .outputs = y->dim[1], .group = group};
    int count = x->rank - 2, first = 3 - count;
    for (int i = 0; i < 3; i++)
        s.in[i] = s.out[i] = s.kernel[i] = s.stride[i] = s.dilation[i] = 1;
    for (int i = 0; i < count; i++) {
        s.in[first + i] = x->dim[2 + i];
        s.out[first + i] = y->dim[2 + i];
        s.kernel[first + i] = kernel.v[i];
        s.stride[first + i] = strides.v[i];
        s.dilation[first + i] = dilations.v[i];
        s.pad[first + i] = pads.v[i];
        s.pad_end[first + i] = pads.v[i + count];
    }
    return s;
}
static inline spatial conv_spatial(const conv_attrs *a, const shape *x, const shape *y)
{
    return spatial_of(x, y, a->kernel_shape, a->strides, a->dilations, a->pads, a->group);
}
static inline spatial pool_spatial(const pool_attrs *a, const shape *x, const shape *y)
{
    return spatial_of(x, y, a->kernel_shape, a->strides, a->dilations, a->pads, 1);
}

static inline int64_t spatial_in(const spatial *s)
{
    return s->in[0] * s->in[1] * s->in[2];
}
static inline int64_t spatial_out(const spatial *s)
{
    return s->out[0] * s->out[1] * s->out[2];
}
static inline int64_t spatial_taps(const spatial *s)
{
    return s->kernel[0] * s->kernel[1] * s->kernel[2];
}

/* From begin to before end. */
typedef struct range {
    int64_t begin, end;
} range;

/* The i in [0, count) with 0 <= start + i * step < limit; step >= 1. */
static inline range range_inside(int64_t start, int64_t step, int64_t count, int64_t limit)
{
    range r = {start < 0 ? (-start + step - 1) / step : 0, start < limit ? (limit - 1 - start) / step + 1 : 0};
    r.end = r.end < count ? r.end : count;
    r.begin = r.begin < r.end ? r.begin : r.end;
    return r;
}
/* The windows whose tap k of spatial axis i lies inside the data, and the taps of window o that do. */
static inline range windows_of_tap(const spatial *s, int i, int64_t k)
{
    return range_inside(k * s->dilation[i] - s->pad[i], s->stride[i], s->out[i], s->in[i]);
}
static inline range taps_of_window(const spatial *s, int i, int64_t o)
{
    return range_inside(o * s->stride[i] - s->pad[i], s->dilation[i], s->kernel[i], s->in[i]);
}

#endif
