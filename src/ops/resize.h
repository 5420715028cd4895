/* resize.h - how Resize maps an axis: what shape inference and the kernels both have to know (ONNX Resize-19). */
#ifndef DISTILL_OPS_RESIZE_H
#define DISTILL_OPS_RESIZE_H

#include "ops/attrs.h"

#include <math.h>

typedef struct resize_axis {
    int64_t in, out;        /* elements */
    double scale;           /* nominal out / in, not rounded to whole elements */
    double begin, end;      /* region of interest, in units of the axis */
    bool identity;          /* nothing happens on this axis */
} resize_axis;

/* Position of `axis` in the attribute lists, -1 when the axis is not among them. */
static inline int resize_list_index(const resize_attrs *a, int rank, int axis)
{
    if (!a->axes.v)
        return axis;
    for (int i = 0; i < (int)a->axes.n; i++)
        if ((a->axes.v[i] < 0 ? a->axes.v[i] + rank : a->axes.v[i]) == axis)
            return i;
    return -1;
}

/* One scale for all axes, so that no side is larger (smaller) than asked: Min (Max) of sizes[i] / in[i]. */
static inline double resize_common_scale(const resize_attrs *a, const shape *in)
{
    double best = 0;
    for (int axis = 0; axis < in->rank; axis++) {
        int i = resize_list_index(a, in->rank, axis);
        if (i < 0)
            continue;
        double s = (double)a->sizes.v[i] / (double)in->dim[axis];
        bool larger = a->keep_aspect_ratio_policy == ASPECT_NOT_SMALLER;
        if (best == 0 || (larger ? s > best : s < best))
            best = s;
    }
    return best;
}

/* The attribute lists must have been checked. Products with `scales` are float, as in ONNX's shape inference. */
static inline resize_axis resize_axis_of(const resize_attrs *a, const shape *in, int axis)
{
    int i = resize_list_index(a, in->rank, axis), n = a->axes.v ? (int)a->axes.n : in->rank;
    resize_axis x = {.in = in->dim[axis], .out = in->dim[axis], .scale = 1, .begin = 0, .end = 1};
    if (i >= 0) {
        if (a->sizes.n && a->keep_aspect_ratio_policy != ASPECT_STRETCH) {
            x.scale = resize_common_scale(a, in);
            x.out = (int64_t)floor(x.scale * (double)x.in + 0.5);
        } else if (a->sizes.n) {
            x.out = a->sizes.v[i];
            x.scale = (double)x.out / (double)x.in;
        } else {
            x.scale = a->scales.v[i];
            x.out = (int64_t)floorf((float)a->scales.v[i] * (float)x.in);
        }
        if (a->coordinate_transformation_mode == COORD_TF_CROP && a->roi.n) {
            x.begin = a->roi.v[i];
            x.end = a->roi.v[i + n];
        }
    }
    x.identity = x.in == x.out && x.scale == 1 && x.begin == 0 && x.end == 1;
    return x;
}

#endif
