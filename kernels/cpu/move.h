/* move.h - index rules that the reference and the fast moves share. */
#ifndef DISTILL_KERNELS_MOVE_H
#define DISTILL_KERNELS_MOVE_H

#include "kernels/cpu/cpu.h"

/* The next coordinates in row-major order. */
static inline void move_next(int64_t *at, const shape *s)
{
    for (int i = s->rank - 1; i >= 0; i--) {
        if (++at[i] < s->dim[i])
            return;
        at[i] = 0;
    }
}

static inline void move_strides(const shape *s, int64_t *stride)
{
    int64_t each = 1;
    for (int i = s->rank - 1; i >= 0; i--) {
        stride[i] = each;
        each *= s->dim[i];
    }
}

/* Pad: which element of an axis of n elements stands at place j (counted from the first element of the data, so that
 * j < 0 and j >= n are padding); -1: the constant. */
static inline int64_t pad_source(int64_t mode, int64_t j, int64_t n)
{
    if (j >= 0 && j < n)
        return j;
    if (mode == PAD_CONSTANT)
        return -1;
    if (mode == PAD_EDGE)
        return j < 0 ? 0 : n - 1;
    int64_t period = mode == PAD_WRAP ? n : 2 * (n - 1);
    if (period == 0)
        return 0;
    int64_t m = j % period;
    m += m < 0 ? period : 0;
    return mode == PAD_REFLECT && m >= n ? period - m : m;
}

/* Element i of an int32 or int64 index tensor, counted from the end when negative; -1 when outside 0 .. n-1. */
static inline int64_t gather_index(const kernel_tensor *index, int64_t i, int64_t n)
{
    int64_t k = index->type == DTYPE_I32 ? ((const int32_t *)index->data)[i] : ((const int64_t *)index->data)[i];
    k += k < 0 ? n : 0;
    return k >= 0 && k < n ? k : -1;
}

/* Gather's data as [outer, n, inner]. */
typedef struct gather_sizes {
    int64_t outer, n, inner, indices;
} gather_sizes;

static inline gather_sizes gather_split(const shape *data, int64_t axis, const shape *index)
{
    int at = shape_axis(data, axis);
    gather_sizes g = {1, data->dim[at], 1, shape_count(index)};
    for (int i = 0; i < at; i++)
        g.outer *= data->dim[i];
    for (int i = at + 1; i < data->rank; i++)
        g.inner *= data->dim[i];
    return g;
}

#endif
