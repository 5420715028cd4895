/* resize.c - Resize of bytes to the nearest. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/resize_taps.h"

/* Places in the data of every element of every axis: -1 extrapolated. */
static size_t workspace(const kernel_args *a)
{
    size_t n = 0;
    for (int i = 0; i < a->out[0].sh.rank; i++)
        n += (size_t)a->out[0].sh.dim[i];
    return n * sizeof(int64_t);
}

static void resize(const kernel_args *a)
{
    const resize_attrs *at = a->attr;
    const shape *x = &a->in[0].sh, *y = &a->out[0].sh;
    const uint8_t *from = a->in[0].data;
    int64_t *place[RANK_MAX], *next = a->work, index[RANK_MAX] = {0}, n = shape_count(y);
    uint8_t outside = 0;
    dtype_store(a->out[0].type, &outside, 0, at->extrapolation_value);
    for (int i = 0; i < y->rank; i++) {
        resize_axis axis = resize_axis_of(at, x, i);
        place[i] = next;
        for (int64_t o = 0; o < axis.out; o++) {
            resize_tap tap = {0};
            *next++ = resize_taps(at, &axis, o, &tap) < 0 ? -1 : tap.at;
        }
    }
    for (int64_t o = 0; o < n; o++) {
        int64_t offset = 0;
        bool in = true;
        for (int i = 0; i < y->rank; i++) {
            in = in && place[i][index[i]] >= 0;
            offset = offset * x->dim[i] + place[i][index[i]];
        }
        ((uint8_t *)a->out[0].data)[o] = in ? from[offset] : outside;
        for (int i = y->rank - 1; i >= 0 && ++index[i] == y->dim[i]; i--)
            index[i] = 0;
    }
}

static bool takes(const kernel_args *a)
{
    return ((const resize_attrs *)a->attr)->mode == RESIZE_NEAREST;
}

const kernel_row cpu_resize[] = {
    {OP_RESIZE, DTYPE_U8, ISA_REF, "resize_u8", resize, workspace, takes},
    {OP_RESIZE, DTYPE_I8, ISA_REF, "resize_i8", resize, workspace, takes},
    KERNEL_END,
};
