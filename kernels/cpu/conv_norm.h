/* conv_norm.h - a batch norm and its relu before a convolution, vector by vector on the way in.
 *
 *     min(max((x - mean) * a + shift, low), top),  a = scale / sqrt(var + epsilon)
 *
 * as batch_norm_blocked_simd.c computes it, so that both agree bit by bit on where the relu is flat. Padding comes after the
 * norm: it stays zero. */
#ifndef DISTILL_KERNELS_CONV_NORM_H
#define DISTILL_KERNELS_CONV_NORM_H

#include "kernels/cpu/blocked.h"

#include <math.h>

typedef struct conv_norm { /* of one block of channels */
    vec mean, a, shift, low, top;
} conv_norm;

/* The first of the operands mean, var, scale, bias: of NormConv, of NormConvGradWeight. */
enum { NORM_OF_CONV = 4, NORM_OF_WEIGHT = 2 };

static inline bool has_norm(const kernel_args *a, int first)
{
    return a->n_in > first;
}

/* Lanes beyond the channels get 0 everywhere, so that zeros stay. */
static inline void list_norms(const kernel_args *a, int first, conv_norm *to)
{
    const conv_attrs *at = a->attr;
    const float *mean = a->in[first].data, *var = a->in[first + 1].data, *scale = a->in[first + 2].data,
                *bias = a->in[first + 3].data;
    int64_t channels = a->in[0].sh.dim[1];
    for (int64_t b = 0; b * LANES < channels; b++) {
        float each[LANES] = {0};
        for (int64_t l = 0; l < min_of(LANES, channels - b * LANES); l++)
            each[l] = (float)((double)scale[b * LANES + l] / sqrt((double)var[b * LANES + l] + at->norm_epsilon));
        to[b] = (conv_norm){.mean = load_channels(mean, b, channels), .a = vec_load(each),
                            .shift = load_channels(bias, b, channels), .low = vec_set(at->norm_relu ? 0 : -INFINITY),
                            .top = vec_set(at->norm_relu && at->norm_ceiling > 0 ? (float)at->norm_ceiling : INFINITY)};
    }
}

/* NaN stays. */
ALWAYS_INLINE vec normed(const conv_norm *f, vec x)
{
    vec v = (x - f->mean) * f->a + f->shift;
    vec_int below = v < f->low, above = v > f->top;
    v = (vec)(((vec_int)v & ~below) | ((vec_int)f->low & below));
    return (vec)(((vec_int)v & ~above) | ((vec_int)f->top & above));
}

/* `count` pixels, `step` floats apart in x. */
static inline void copy_normed(const conv_norm *f, float *to, const float *x, int64_t count, int64_t step)
{
    const conv_norm n = *f;
    for (int64_t i = 0; i < count; i++, x += step)
        vec_store(to + i * LANES, normed(&n, vec_load(x)));
}

#endif
