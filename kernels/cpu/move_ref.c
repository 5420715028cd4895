/* move_ref.c - reference of the gradients of moves: sums of what came from one element, in the order of dy. */
#include "kernels/cpu/move.h"

#include <string.h>

static real *cleared(const kernel_tensor *t)
{
    return memset(t->data, 0, (size_t)shape_count(&t->sh) * sizeof(real));
}

static void pad_grad(const kernel_args *a)
{
    const pad_attrs *at = a->attr;
    const shape *y = &a->in[0].sh, *x = &a->out[0].sh;
    const real *dy = a->in[0].data;
    real *dx = cleared(&a->out[0]);
    int64_t c[RANK_MAX] = {0}, stride[RANK_MAX], n = shape_count(y);
    move_strides(x, stride);
    for (int64_t k = 0; k < n; k++, move_next(c, y)) {
        int64_t to = 0;
        for (int i = 0; i < y->rank && to >= 0; i++) {
            int64_t s = pad_source(at->mode, c[i] - at->pads.v[i], x->dim[i]);
            to = s < 0 ? -1 : to + s * stride[i];
        }
        if (to >= 0)
            dx[to] += dy[k];
    }
}

static void tile_grad(const kernel_args *a)
{
    const shape *y = &a->in[0].sh, *x = &a->out[0].sh;
    const real *dy = a->in[0].data;
    real *dx = cleared(&a->out[0]);
    int64_t c[RANK_MAX] = {0}, stride[RANK_MAX], n = shape_count(y);
    move_strides(x, stride);
    for (int64_t k = 0; k < n; k++, move_next(c, y)) {
        int64_t to = 0;
        for (int i = 0; i < y->rank; i++)
            to += c[i] % x->dim[i] * stride[i];
        dx[to] += dy[k];
    }
}

static void gather_grad(const kernel_args *a)
{
    gather_sizes g = gather_split(&a->out[0].sh, ((const gather_attrs *)a->attr)->axis, &a->in[1].sh);
    const real *dy = a->in[0].data;
    real *dx = cleared(&a->out[0]);
    for (int64_t o = 0; o < g.outer; o++)
        for (int64_t k = 0; k < g.indices; k++, dy += g.inner) {
            int64_t to = gather_index(&a->in[1], k, g.n);
            for (int64_t i = 0; i < g.inner && to >= 0; i++)
                dx[(o * g.n + to) * g.inner + i] += dy[i];
        }
}

static void gather_rows(const kernel_args *a)
{
    int64_t n = a->out[1].sh.dim[0], indices = shape_count(&a->in[1].sh), inner = indices ? shape_count(&a->in[0].sh) / indices : 0;
    const real *dy = a->in[0].data;
    real *rows = cleared(&a->out[0]);
    int32_t *place = a->out[1].data, used = 0;
    for (int64_t i = 0; i < n; i++)
        place[i] = -1;
    for (int64_t k = 0; k < indices; k++, dy += inner) {
        int64_t to = gather_index(&a->in[1], k, n);
        if (to < 0)
            continue;
        if (place[to] < 0)
            place[to] = used++;
        for (int64_t i = 0; i < inner; i++)
            rows[place[to] * inner + i] += dy[i];
    }
}

static void gather_elements_grad(const kernel_args *a)
{
    const shape *index = &a->in[1].sh, *x = &a->out[0].sh;
    int axis = shape_axis(x, ((const gather_attrs *)a->attr)->axis);
    const real *dy = a->in[0].data;
    real *dx = cleared(&a->out[0]);
    int64_t c[RANK_MAX] = {0}, stride[RANK_MAX], n = shape_count(index);
    move_strides(x, stride);
    for (int64_t k = 0; k < n; k++, move_next(c, index)) {
        int64_t j = gather_index(&a->in[1], k, x->dim[axis]), to = 0;
        for (int i = 0; i < x->rank; i++)
            to += (i == axis ? j : c[i]) * stride[i];
        if (j >= 0)
            dx[to] += dy[k];
    }
}

KERNEL_TABLE(move) = {
    {OP_PAD_GRAD, REAL_DTYPE, REAL_ISA, "pad_grad_ref", pad_grad},
    {OP_TILE_GRAD, REAL_DTYPE, REAL_ISA, "tile_grad_ref", tile_grad},
    {OP_GATHER_GRAD, REAL_DTYPE, REAL_ISA, "gather_grad_ref", gather_grad},
    {OP_GATHER_ROWS, REAL_DTYPE, REAL_ISA, "gather_rows_ref", gather_rows},
    {OP_GATHER_ELEMENTS_GRAD, REAL_DTYPE, REAL_ISA, "gather_elements_grad_ref", gather_elements_grad},
    KERNEL_END,
};
