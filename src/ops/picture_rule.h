/* picture_rule.h - the formulas of random resized crops, for CPU and devices alike: how large a box is, and what makes a pixel
 * of it at another size. One text and operations that every processor rounds alike, so that the bytes are the same.
 *
 * Sizes: Pillow's Resample.c (triangle filter of support max(1, in/out), weights in fixed point of 22 bits); boxes: torchvision's
 * RandomResizedCrop.get_params. Products are never contracted with the sums that they go into. */
#ifndef DISTILL_OPS_PICTURE_RULE_H
#define DISTILL_OPS_PICTURE_RULE_H

#include <math.h>
#include <stdint.h>

#ifndef ON_BOTH /* kernels/cuda/cuda.cuh has it for files that devices run */
#define ON_BOTH static inline
#endif

#define PICTURE_BITS   22 /* of a weight's fraction */
#define PICTURE_TRIES  10 /* to find a box that lies within the image */
#define PICTURE_ASPECT 0.75 /* of a box: from this to its inverse */

ON_BOTH double picture_times(double a, double b)
{
#ifdef __CUDA_ARCH__
    return __dmul_rn(a, b);
#else
    return a * b;
#endif
}

/* ---- to another size ---- */

/* Output pixel o of an axis is a mean of n of its `in` pixels from `first`. */
typedef struct picture_taps {
    int32_t first, n;
    double centre, wide, sum;
} picture_taps;

/* Room for the weights of one output pixel. */
ON_BOTH int64_t picture_most_taps(int32_t in, int32_t out)
{
    const double scale = (double)in / out;
    return (int64_t)ceil(scale < 1 ? 1 : scale) * 2 + 1;
}

ON_BOTH double picture_triangle(const picture_taps *t, int32_t at)
{
    const double x = fabs(picture_times(at - t->centre + 0.5, 1 / t->wide));
    return x < 1 ? 1 - x : 0;
}

ON_BOTH picture_taps picture_taps_of(int32_t in, int32_t out, int32_t o)
{
    const double scale = (double)in / out;
    picture_taps t = {0, 0, picture_times(o + 0.5, scale), scale < 1 ? 1 : scale, 0};
    const int32_t from = (int32_t)(t.centre - t.wide + 0.5), to = (int32_t)(t.centre + t.wide + 0.5);
    t.first = from < 0 ? 0 : from;
    t.n = (to > in ? in : to) - t.first;
    for (int32_t j = 0; j < t.n; j++)
        t.sum += picture_triangle(&t, t.first + j);
    return t;
}

/* Weight of pixel first + j. */
ON_BOTH int32_t picture_weight(const picture_taps *t, int32_t j)
{
    const double v = t->sum > 0 ? picture_triangle(t, t->first + j) / t->sum : 0;
    return (int32_t)(0.5 + picture_times(v, 1 << PICTURE_BITS));
}

/* A sum of pixels times weights, begun with 1 << (PICTURE_BITS - 1). */
ON_BOTH uint8_t picture_round(int32_t sum)
{
    const int32_t v = sum >> PICTURE_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* floor((o + 0.5) * in / out), exactly. */
ON_BOTH int32_t picture_nearest(int32_t in, int32_t out, int32_t o)
{
    return (int32_t)((2 * (int64_t)o + 1) * in / (2 * (int64_t)out));
}

/* ---- random boxes ---- */

/* e^x, |x| < 0.3: Taylor's series to x^17, whose rest is below a double's last bit. */
ON_BOTH double picture_exp(double x)
{
    double sum = 1;
    for (int k = 17; k > 0; k--)
        sum = 1 + picture_times(x, sum) / k;
    return sum;
}

/* Sides of a box: `low` to `high` of the image's area h * w by u, its aspect by v, both in [0, 1). May be larger than the image. */
ON_BOTH void picture_box(int32_t h, int32_t w, double low, double high, double u, double v, int32_t *bh, int32_t *bw)
{
    const double side = 0.28768207245178093; /* log(4 / 3) */
    const double area = picture_times(picture_times(h, w), low + picture_times(high - low, u));
    const double aspect = picture_exp(picture_times(2 * side, v) - side);
    *bw = (int32_t)rint(sqrt(picture_times(area, aspect)));
    *bh = (int32_t)rint(sqrt(area / aspect));
}

/* The largest box in the middle with such an aspect, where no drawn one fits. */
ON_BOTH void picture_middle_box(int32_t h, int32_t w, int32_t *bh, int32_t *bw)
{
    const double aspect = (double)w / h;
    *bh = aspect < PICTURE_ASPECT ? (int32_t)rint(w / PICTURE_ASPECT) : h;
    *bw = aspect > 1 / PICTURE_ASPECT ? (int32_t)rint(h / PICTURE_ASPECT) : w;
    *bh = *bh > h ? h : *bh < 1 ? 1 : *bh;
    *bw = *bw > w ? w : *bw < 1 ? 1 : *bw;
}

#endif
