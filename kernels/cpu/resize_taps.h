/* resize_taps.h - which elements of the data make one element of a resized axis, and with which weights.
 * The formulas are kernels/resize_rule.h's. */
#ifndef DISTILL_KERNELS_RESIZE_TAPS_H
#define DISTILL_KERNELS_RESIZE_TAPS_H

#include "kernels/resize_rule.h"

typedef struct resize_tap {
    int64_t at; /* element of the data, clamped to the axis */
    double weight;
} resize_tap;

/* Writes the taps of element o and returns how many; -1 when it lies outside and has the extrapolation value. */
static inline int64_t resize_taps(const resize_attrs *a, const resize_axis *x, int64_t o, resize_tap *tap)
{
    if (x->identity) {
        tap[0] = (resize_tap){o, 1};
        return 1;
    }
    double position = resize_position(a, x, o), last = (double)(x->in - 1), stretch = resize_stretch(a, x);
    if (a->coordinate_transformation_mode == COORD_TF_CROP && (position < 0 || position > last))
        return -1;
    if (a->mode == RESIZE_NEAREST) {
        double at = resize_nearest(a, position);
        tap[0] = (resize_tap){(int64_t)fmin(fmax(at, 0), last), 1};
        return 1;
    }
    double reach = (a->mode == RESIZE_LINEAR ? 1 : 2) * stretch, sum = 0;
    int64_t n = 0;
    for (double at = floor(position - reach) + 1; at < position + reach; at++) {
        double weight = resize_filter(a, (at - position) / stretch);
        if (a->exclude_outside && (at < 0 || at > last))
            continue;
        tap[n++] = (resize_tap){(int64_t)fmin(fmax(at, 0), last), weight};
        sum += weight;
    }
    if (n == 0) { /* nothing but outside: the nearest element */
        tap[n++] = (resize_tap){(int64_t)fmin(fmax(floor(position + 0.5), 0), last), 1};
        sum = 1;
    }
    for (int64_t i = 0; i < n && (a->antialias || a->exclude_outside) && sum != 0; i++)
        tap[i].weight /= sum;
    return n;
}

#endif
