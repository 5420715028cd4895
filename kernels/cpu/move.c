/* move.c - reference of the moves, for every element type: each output element is fetched by its coordinates. */
#include "kernels/cpu/move.h"

#include <math.h>
#include <string.h>

static size_t size_of(const kernel_tensor *t)
{
    return dtype_of(t->type)->size;
}

static void copy_element(const kernel_tensor *to, int64_t i, const kernel_tensor *from, int64_t j)
{
    size_t size = size_of(to);
    memcpy((char *)to->data + (size_t)i * size, (const char *)from->data + (size_t)j * size, size);
}

static void transpose(const kernel_args *a)
{
    const int64_t *perm = ((const transpose_attrs *)a->attr)->perm.v;
    const shape *y = &a->out[0].sh;
    int64_t at[RANK_MAX] = {0}, stride[RANK_MAX], n = shape_count(y);
    move_strides(&a->in[0].sh, stride);
    for (int64_t k = 0; k < n; k++, move_next(at, y)) {
        int64_t from = 0;
        for (int i = 0; i < y->rank; i++)
            from += at[i] * stride[perm[i]];
        copy_element(&a->out[0], k, &a->in[0], from);
    }
}

/* One part of a concatenation: the whole has `before` in front of the part on the axis. */
static void each_part(const kernel_tensor *whole, const kernel_tensor *part, int axis, int64_t before, bool split)
{
    int64_t at[RANK_MAX] = {0}, stride[RANK_MAX], n = shape_count(&part->sh);
    move_strides(&whole->sh, stride);
    for (int64_t k = 0; k < n; k++, move_next(at, &part->sh)) {
        int64_t place = before * stride[axis];
        for (int i = 0; i < part->sh.rank; i++)
            place += at[i] * stride[i];
        if (split)
            copy_element(part, k, whole, place);
        else
            copy_element(whole, place, part, k);
    }
}

static void concat(const kernel_args *a)
{
    int axis = shape_axis(&a->out[0].sh, ((const axis_attrs *)a->attr)->axis);
    for (int64_t k = 0, before = 0; k < a->n_in; before += a->in[k].sh.dim[axis], k++)
        each_part(&a->out[0], &a->in[k], axis, before, false);
}

static void split(const kernel_args *a)
{
    const split_attrs *at = a->attr;
    int axis = shape_axis(&a->in[0].sh, at->axis);
    for (int64_t k = 0, before = 0; k < a->n_out; before += at->split.v[k], k++)
        if (a->out[k].data)
            each_part(&a->in[0], &a->out[k], axis, before, true);
}

/* Slice: part = out, whole = in. SliceGrad: the other way, among zeros (all bytes 0 is 0 in every type). */
static void slice_between(const kernel_args *a, const kernel_tensor *whole, const kernel_tensor *part, bool grad)
{
    const slice_attrs *at = a->attr;
    int64_t c[RANK_MAX] = {0}, stride[RANK_MAX], n = shape_count(&part->sh);
    move_strides(&whole->sh, stride);
    for (int64_t k = 0; k < n; k++, move_next(c, &part->sh)) {
        int64_t place = 0;
        for (int i = 0; i < part->sh.rank; i++)
            place += (at->starts.v[i] + c[i] * at->steps.v[i]) * stride[i];
        if (grad)
            copy_element(whole, place, part, k);
        else
            copy_element(part, k, whole, place);
    }
}

static void slice(const kernel_args *a)
{
    slice_between(a, &a->in[0], &a->out[0], false);
}

static void slice_grad(const kernel_args *a)
{
    memset(a->out[0].data, 0, (size_t)shape_count(&a->out[0].sh) * size_of(&a->out[0]));
    slice_between(a, &a->out[0], &a->in[0], true);
}

static void pad(const kernel_args *a)
{
    const pad_attrs *at = a->attr;
    const shape *x = &a->in[0].sh, *y = &a->out[0].sh;
    int64_t c[RANK_MAX] = {0}, stride[RANK_MAX], n = shape_count(y);
    move_strides(x, stride);
    for (int64_t k = 0; k < n; k++, move_next(c, y)) {
        int64_t from = 0;
        for (int i = 0; i < y->rank && from >= 0; i++) {
            int64_t s = pad_source(at->mode, c[i] - at->pads.v[i], x->dim[i]);
            from = s < 0 ? -1 : from + s * stride[i];
        }
        if (from >= 0)
            copy_element(&a->out[0], k, &a->in[0], from);
        else
            dtype_store(a->out[0].type, a->out[0].data, k, at->constant_value);
    }
}

/* Expand and Tile: coordinates modulo the size of x, whose axes are the last ones of y. */
static void repeat(const kernel_args *a)
{
    const shape *x = &a->in[0].sh, *y = &a->out[0].sh;
    int64_t c[RANK_MAX] = {0}, stride[RANK_MAX], n = shape_count(y);
    int extra = y->rank - x->rank;
    move_strides(x, stride);
    for (int64_t k = 0; k < n; k++, move_next(c, y)) {
        int64_t from = 0;
        for (int i = 0; i < x->rank; i++)
            from += c[i + extra] % x->dim[i] * stride[i];
        copy_element(&a->out[0], k, &a->in[0], from);
    }
}

static void gather(const kernel_args *a)
{
    gather_sizes g = gather_split(&a->in[0].sh, ((const gather_attrs *)a->attr)->axis, &a->in[1].sh);
    for (int64_t o = 0, to = 0; o < g.outer; o++)
        for (int64_t k = 0; k < g.indices; k++) {
            int64_t from = gather_index(&a->in[1], k, g.n);
            for (int64_t i = 0; i < g.inner; i++, to++)
                if (from >= 0)
                    copy_element(&a->out[0], to, &a->in[0], (o * g.n + from) * g.inner + i);
                else
                    dtype_store(a->out[0].type, a->out[0].data, to, (double)NAN);
        }
}

static void gather_elements(const kernel_args *a)
{
    const shape *data = &a->in[0].sh, *index = &a->in[1].sh;
    int axis = shape_axis(data, ((const axis_attrs *)a->attr)->axis);
    int64_t c[RANK_MAX] = {0}, stride[RANK_MAX], n = shape_count(index);
    move_strides(data, stride);
    for (int64_t k = 0; k < n; k++, move_next(c, index)) {
        int64_t j = gather_index(&a->in[1], k, data->dim[axis]), from = 0;
        for (int i = 0; i < data->rank; i++)
            from += (i == axis ? j : c[i]) * stride[i];
        if (j >= 0)
            copy_element(&a->out[0], k, &a->in[0], from);
        else
            dtype_store(a->out[0].type, a->out[0].data, k, (double)NAN);
    }
}

static void dropout(const kernel_args *a)
{
    size_t n = (size_t)shape_count(&a->in[0].sh);
    if (a->out[0].data != a->in[0].data)
        memcpy(a->out[0].data, a->in[0].data, n * size_of(&a->in[0]));
    if (a->n_out > 1 && a->out[1].data)
        memset(a->out[1].data, 1, n);
}

static void shape_of(const kernel_args *a)
{
    const shape_op_attrs *at = a->attr;
    int64_t *y = a->out[0].data, rank = a->in[0].sh.rank, start = at->start < 0 ? at->start + rank : at->start;
    start = start < 0 ? 0 : start;
    for (int64_t i = 0; i < a->out[0].sh.dim[0]; i++)
        y[i] = a->in[0].sh.dim[start + i];
}

static void size(const kernel_args *a)
{
    *(int64_t *)a->out[0].data = shape_count(&a->in[0].sh);
}

static void constant_of_shape(const kernel_args *a)
{
    const constant_of_shape_attrs *at = a->attr;
    int64_t n = shape_count(&a->out[0].sh);
    for (int64_t i = 0; i < n; i++)
        dtype_store(a->out[0].type, a->out[0].data, i, at->value.v);
}

static void range(const kernel_args *a)
{
    dtype t = a->in[0].type;
    if (t == DTYPE_I64) { /* a double does not hold all of them */
        uint64_t first = *(const uint64_t *)a->in[0].data, step = *(const uint64_t *)a->in[2].data;
        for (int64_t i = 0; i < a->out[0].sh.dim[0]; i++)
            ((uint64_t *)a->out[0].data)[i] = first + (uint64_t)i * step;
        return;
    }
    double start = dtype_load(t, a->in[0].data, 0), delta = dtype_load(t, a->in[2].data, 0);
    for (int64_t i = 0; i < a->out[0].sh.dim[0]; i++)
        dtype_store(t, a->out[0].data, i, start + (double)i * delta);
}

const kernel_row cpu_move[] = {
    {OP_TRANSPOSE, DTYPE_NONE, ISA_REF, "transpose_ref", transpose},
    {OP_CONCAT, DTYPE_NONE, ISA_REF, "concat_ref", concat},
    {OP_SPLIT, DTYPE_NONE, ISA_REF, "split_ref", split},
    {OP_SLICE, DTYPE_NONE, ISA_REF, "slice_ref", slice},
    {OP_SLICE_GRAD, DTYPE_NONE, ISA_REF, "slice_grad_ref", slice_grad},
    {OP_PAD, DTYPE_NONE, ISA_REF, "pad_ref", pad},
    {OP_EXPAND, DTYPE_NONE, ISA_REF, "expand_ref", repeat},
    {OP_TILE, DTYPE_NONE, ISA_REF, "tile_ref", repeat},
    {OP_GATHER, DTYPE_NONE, ISA_REF, "gather_ref", gather},
    {OP_GATHER_ELEMENTS, DTYPE_NONE, ISA_REF, "gather_elements_ref", gather_elements},
    {OP_DROPOUT, DTYPE_NONE, ISA_REF, "dropout", dropout},
    {OP_SHAPE, DTYPE_NONE, ISA_REF, "shape", shape_of},
    {OP_SIZE, DTYPE_NONE, ISA_REF, "size", size},
    {OP_CONSTANT_OF_SHAPE, DTYPE_NONE, ISA_REF, "constant_of_shape", constant_of_shape},
    {OP_RANGE, DTYPE_NONE, ISA_REF, "range", range},
    KERNEL_END,
};
