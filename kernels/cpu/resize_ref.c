/* resize_ref.c - Resize element by element: the sum over the product of the taps of all axes (kernels/cpu/
 * resize_taps.h). The gradient is the same walk, writing where the other reads. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/resize_taps.h"

/* Taps of every element of every axis, in the workspace. */
typedef struct axis_taps {
    int64_t most, *count;
    resize_tap *tap; /* [out][most] */
} axis_taps;

static size_t table_bytes(const resize_attrs *at, const shape *x)
{
    size_t bytes = 0;
    for (int i = 0; i < x->rank; i++) {
        resize_axis axis = resize_axis_of(at, x, i);
        bytes += (size_t)axis.out * (sizeof(int64_t) + (size_t)resize_most_taps(at, &axis) * sizeof(resize_tap));
    }
    return bytes;
}

static void make_tables(const resize_attrs *at, const shape *x, void *work, axis_taps *table)
{
    char *next = work;
    for (int i = 0; i < x->rank; i++) {
        resize_axis axis = resize_axis_of(at, x, i);
        axis_taps *t = &table[i];
        t->most = resize_most_taps(at, &axis);
        t->tap = (resize_tap *)(void *)next;
        next += (size_t)(axis.out * t->most) * sizeof *t->tap;
        t->count = (int64_t *)(void *)next;
        next += (size_t)axis.out * sizeof *t->count;
        for (int64_t o = 0; o < axis.out; o++)
            t->count[o] = resize_taps(at, &axis, o, t->tap + o * t->most);
    }
}

/* The element of y at `at`: reads it from x (forward) or adds it to dx (x == NULL). */
static void element(const resize_attrs *attr, const axis_taps *table, const shape *x_shape, const int64_t *at, const real *x,
                    real *y, real *dx)
{
    int64_t pick[RANK_MAX] = {0}, rank = x_shape->rank;
    double sum = 0;
    for (int i = 0; i < rank; i++)
        if (table[i].count[at[i]] < 0) {
            if (x)
                *y = (real)attr->extrapolation_value;
            return;
        }
    for (;;) { /* every combination of taps */
        double weight = 1;
        int64_t offset = 0, i;
        for (i = 0; i < rank; i++) {
            const resize_tap *t = &table[i].tap[at[i] * table[i].most + pick[i]];
            weight *= t->weight;
            offset = offset * x_shape->dim[i] + t->at;
        }
        if (x)
            sum += weight * (double)x[offset];
        else
            dx[offset] += (real)(weight * (double)*y);
        for (i = rank - 1; i >= 0 && ++pick[i] == table[i].count[at[i]]; i--)
            pick[i] = 0;
        if (i < 0)
            break;
    }
    if (x)
        *y = (real)sum;
}

static void each_element(const resize_attrs *attr, const shape *x_shape, const shape *y_shape, void *work, const real *x,
                         real *y, real *dx)
{
    axis_taps table[RANK_MAX];
    int64_t count = shape_count(y_shape);
    make_tables(attr, x_shape, work, table);
    for (int64_t o = 0; o < count; o++) {
        int64_t at[RANK_MAX], rest = o;
        for (int i = y_shape->rank - 1; i >= 0; i--) {
            at[i] = rest % y_shape->dim[i];
            rest /= y_shape->dim[i];
        }
        element(attr, table, x_shape, at, x, y + o, dx);
    }
}

static void resize(const kernel_args *a)
{
    each_element(a->attr, &a->in[0].sh, &a->out[0].sh, a->work, a->in[0].data, a->out[0].data, NULL);
}
static size_t resize_workspace(const kernel_args *a)
{
    return table_bytes(a->attr, &a->in[0].sh);
}

static void resize_grad(const kernel_args *a)
{
    real *dx = a->out[0].data;
    for (int64_t i = 0; i < shape_count(&a->out[0].sh); i++)
        dx[i] = 0;
    each_element(a->attr, &a->out[0].sh, &a->in[0].sh, a->work, NULL, a->in[0].data, dx);
}
static size_t resize_grad_workspace(const kernel_args *a)
{
    return table_bytes(a->attr, &a->out[0].sh);
}

KERNEL_TABLE(resize) = {
    {OP_RESIZE, REAL_DTYPE, REAL_ISA, "resize_ref", resize, resize_workspace, NULL},
    {OP_RESIZE_GRAD, REAL_DTYPE, REAL_ISA, "resize_grad_ref", resize_grad, resize_grad_workspace, NULL},
    KERNEL_END};
