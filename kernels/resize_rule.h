/* resize_rule.h - the formulas of Resize, for CPU and devices alike: where an element of the result lies in the data, and how
 * much of what is around it makes it.
 *
 * Formulas: ONNX Resize-19. Cubic: Keys, "Cubic convolution interpolation for digital image processing", 1981, eq. 4
 * with a free. Antialiasing widens the filter by the scale and normalises the weights. */
#ifndef DISTILL_KERNELS_RESIZE_RULE_H
#define DISTILL_KERNELS_RESIZE_RULE_H

#include "ops/resize.h"

#ifndef ON_BOTH /* kernels/cuda/cuda.cuh has it for files that devices run */
#define ON_BOTH static inline
#endif

/* A product that is not made one with the sum it goes into, as a device's compiler would: a position that is rounded to an element
 * has to have the same bits everywhere. */
ON_BOTH double resize_times(double a, double b)
{
#ifdef __CUDA_ARCH__
    return __dmul_rn(a, b);
#else
    return a * b;
#endif
}

/* Position in the data of element `o` of the result. */
ON_BOTH double resize_position(const resize_attrs *a, const resize_axis *x, int64_t o)
{
    double y = (double)o, in = (double)x->in, out = resize_times(x->scale, in); /* `out` is not rounded */
    switch (a->coordinate_transformation_mode) {
    case COORD_ALIGN_CORNERS:
        return out == 1 ? 0 : y * (in - 1) / (out - 1);
    case COORD_ASYMMETRIC:
        return y / x->scale;
    case COORD_TF_CROP:
        return resize_times(x->begin, in - 1) + (out == 1 ? resize_times(0.5 * (x->end - x->begin), in - 1)
                                                          : y * (x->end - x->begin) * (in - 1) / (out - 1));
    case COORD_PYTORCH_HALF_PIXEL:
        return out == 1 ? -0.5 : (y + 0.5) / x->scale - 0.5;
    case COORD_HALF_PIXEL_SYMMETRIC:
        return resize_times(in / 2, 1 - (double)x->out / out) + (y + 0.5) / x->scale - 0.5;
    case COORD_TF_HALF_PIXEL_NN:
        return (y + 0.5) / x->scale;
    default:
        return (y + 0.5) / x->scale - 0.5;
    }
}

ON_BOTH double resize_nearest(const resize_attrs *a, double position)
{
    switch (a->nearest_mode) {
    case NEAREST_FLOOR:
        return floor(position);
    case NEAREST_CEIL:
        return ceil(position);
    case NEAREST_ROUND_PREFER_CEIL:
        return floor(position + 0.5);
    default:
        return ceil(position - 0.5);
    }
}

/* Height of the filter at a distance from its centre. */
ON_BOTH double resize_filter(const resize_attrs *a, double distance)
{
    double d = fabs(distance), c = a->cubic_coeff_a;
    if (a->mode == RESIZE_LINEAR)
        return d < 1 ? 1 - d : 0;
    if (d <= 1)
        return ((c + 2) * d - (c + 3)) * d * d + 1;
    return d < 2 ? ((c * d - 5 * c) * d + 8 * c) * d - 4 * c : 0;
}

/* How far the filter is stretched: 1, or 1 / scale where antialiasing makes an axis smaller. */
ON_BOTH double resize_stretch(const resize_attrs *a, const resize_axis *x)
{
    return a->antialias && x->scale < 1 ? 1 / x->scale : 1;
}

/* Largest number of taps of one element. */
ON_BOTH int64_t resize_most_taps(const resize_attrs *a, const resize_axis *x)
{
    if (x->identity || a->mode == RESIZE_NEAREST)
        return 1;
    return 2 * (int64_t)ceil((a->mode == RESIZE_LINEAR ? 1 : 2) * resize_stretch(a, x)) + 1;
}

#endif
