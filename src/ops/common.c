/* common.c - checks and small steps that the operator families share. */
#include "ops/common.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

status op_fail(const node *n, const char *fmt, ...)
{
    char message[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    return fail(ST_BAD_DATA, "node '%s' (%s): %s", n->name, op_of(n->op)->name, message);
}

const value *op_in(const graph *g, const node *n, int i)
{
    return i < n->n_in && n->in[i] ? &g->value[n->in[i]] : NULL;
}

void op_set_out(graph *g, const node *n, int i, dtype type, shape sh)
{
    if (i >= n->n_out || !n->out[i])
        return;
    g->value[n->out[i]].type = type;
    g->value[n->out[i]].sh = sh;
}

status op_infer_same(graph *g, node *n)
{
    const value *x = op_in(g, n, 0);
    for (int i = 0; i < n->n_out; i++)
        op_set_out(g, n, i, x->type, x->sh);
    return ST_OK;
}

status op_check_float(const graph *g, const node *n, int i)
{
    const value *x = op_in(g, n, i);
    if (!x)
        return op_fail(n, "input %d is missing", i);
    if (!dtype_of(x->type)->is_float)
        return op_fail(n, "input '%s' is %s; only float types are supported", x->name, dtype_of(x->type)->name);
    return ST_OK;
}

status op_check_same_type(const graph *g, const node *n, int a, int b)
{
    const value *x = op_in(g, n, a), *y = op_in(g, n, b);
    if (x && y && x->type != y->type)
        return op_fail(n, "inputs '%s' (%s) and '%s' (%s) differ in type", x->name, dtype_of(x->type)->name, y->name,
                       dtype_of(y->type)->name);
    return ST_OK;
}

status op_check_same_shape(const graph *g, const node *n, int a, int b)
{
    const value *x = op_in(g, n, a), *y = op_in(g, n, b);
    char one[200], two[200];
    if (x && y && !shape_equal(&x->sh, &y->sh))
        return op_fail(n, "inputs '%s' %s and '%s' %s differ in shape", x->name, shape_print(&x->sh, one), y->name,
                       shape_print(&y->sh, two));
    return ST_OK;
}

status op_check_shape(const graph *g, const node *n, int i, shape want, const char *what)
{
    const value *x = op_in(g, n, i);
    char one[200], two[200];
    if (x && !shape_equal(&x->sh, &want))
        return op_fail(n, "%s '%s' has shape %s where %s is needed", what, x->name, shape_print(&x->sh, one),
                       shape_print(&want, two));
    return ST_OK;
}

status op_axis(const node *n, int64_t axis, int rank, int *out)
{
    shape s = {.rank = rank};
    *out = shape_axis(&s, axis);
    if (*out < 0)
        return op_fail(n, "axis %" PRId64 " is outside the rank of its input, %d", axis, rank);
    return ST_OK;
}

status op_axes(const node *n, attr_ints axes, int rank, uint32_t *mask)
{
    *mask = 0;
    for (int64_t i = 0; i < axes.n; i++) {
        int a;
        TRY(op_axis(n, axes.v[i], rank, &a));
        if (*mask >> a & 1)
            return op_fail(n, "axis %" PRId64 " is given twice", axes.v[i]);
        *mask |= 1u << a;
    }
    return ST_OK;
}

status op_new_ints(graph *g, int64_t count, int64_t **v, attr_ints *list)
{
    TRY(arena_alloc(&g->mem, v, (size_t)(count ? count : 1), sizeof **v));
    *list = (attr_ints){count, *v};
    return ST_OK;
}

status op_data_shape(const node *n, attr_ints list, shape *out)
{
    if (!list.v)
        return op_fail(n, "the shape is missing");
    if (list.n > RANK_MAX)
        return op_fail(n, "a shape of rank %" PRId64 "; up to %d are supported", list.n, RANK_MAX);
    for (int64_t i = 0; i < list.n; i++)
        if (list.v[i] < 0)
            return op_fail(n, "dimension %" PRId64 " in the shape", list.v[i]);
    *out = shape_from(list.v, (size_t)list.n);
    return ST_OK;
}

status op_add_reshape(graph *g, value_id v, shape sh, value_id *out)
{
    static const int64_t none[1] = {0};
    reshape_attrs to = {.shape = {sh.rank, sh.rank ? sh.dim : none}, .allowzero = 1};
    return graph_add1(g, OP_RESHAPE, &to, v, 0, 0, out);
}
