/* view.c - operators that give the same bytes another shape: Identity, Dropout, Reshape, Flatten, Squeeze, Unsqueeze.
 *
 * Views move nothing, so their gradient is a view too: dx = Reshape(dy, shape of x). The attributes stay as the model
 * gave them (0 and -1 in Reshape's shape are not replaced), so that an export still takes any batch size. */
#include "ops/common.h"

#include <inttypes.h>

/* Identity: y = x (Identity-21). */
static status identity_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    (void)g;
    (void)n;
    dx[0] = dy[0];
    return ST_OK;
}

const op_desc op_identity = {
    .name = "Identity", .in = {1, 1}, .out = {1, 1}, .flags = OP_VIEW | OP_SAME_VALUE | OP_PORTABLE,
    .infer = op_infer_same, .grad = identity_grad,
};

/* The same tensors in the other layout (exec/layout.c puts it in, for one). */
static status reorder_infer(graph *g, node *n)
{
    if (n->n_in != n->n_out)
        return op_fail(n, "%d tensors cannot become %d", n->n_in, n->n_out);
    for (int i = 0; i < n->n_in; i++)
        op_set_out(g, n, i, op_in(g, n, i)->type, op_in(g, n, i)->sh);
    return ST_OK;
}

const op_desc op_reorder = {.name = "Reorder", .in = {1, -1}, .out = {1, -1}, .flags = OP_INTERNAL,
                            .infer = reorder_infer, NO_GRAD("it stands in graphs that are ready to run only")};

/* Dropout in evaluation: y = x, mask all true (Dropout-22). No view, because the mask is made by a kernel; a Dropout
 * whose mask nobody wants is dropped by pass_drop_identity. */
static status dropout_infer(graph *g, node *n)
{
    const dropout_attrs *at = n->attr;
    const value *x = op_in(g, n, 0);
    TRY(op_check_float(g, n, 0));
    if (!(at->ratio >= 0 && at->ratio < 1))
        return op_fail(n, "ratio %g is outside [0, 1)", at->ratio);
    if (at->training_mode && at->ratio > 0)
        return op_fail(n, "random dropout (training_mode with ratio %g) is not supported; export the model in "
                          "evaluation mode", at->ratio);
    op_set_out(g, n, 0, x->type, x->sh);
    op_set_out(g, n, 1, DTYPE_BOOL, x->sh);
    return ST_OK;
}

static const attr_desc dropout_rows[] = {
    {ATTR(dropout_attrs, ratio), .type = ATTR_FLOAT, .def = 0.5, .from_input = 2},
    {ATTR(dropout_attrs, training_mode), .type = ATTR_INT, .def = 0, .from_input = 3, .min = 0, .max = 1},
    {ATTR(dropout_attrs, seed), .type = ATTR_INT, .def = 0},
    {0},
};
const op_desc op_dropout = {
    .name = "Dropout", .in = {1, 1}, .out = {1, 2}, .flags = OP_INPLACE | OP_SAME_VALUE,
    .attrs = dropout_rows, .attr_size = sizeof(dropout_attrs), .infer = dropout_infer, .grad = identity_grad,
};

static status view_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    return op_add_reshape(g, dy[0], g->value[n->in[0]].sh, &dx[0]);
}

/* Reshape: 0 copies the input's dimension (unless allowzero), one -1 is computed (Reshape-21). */
static status reshape_infer(graph *g, node *n)
{
    const reshape_attrs *at = n->attr;
    const value *x = op_in(g, n, 0);
    int64_t known = 1, count = shape_count(&x->sh);
    int open = -1;
    char from[200], to[200];
    shape y = {.rank = (int32_t)at->shape.n};
    if (!at->shape.v)
        return op_fail(n, "the shape is missing");
    if (at->shape.n > RANK_MAX)
        return op_fail(n, "a shape of rank %" PRId64 " is asked for; up to %d are supported", at->shape.n, RANK_MAX);
    for (int i = 0; i < y.rank; i++) {
        int64_t d = at->shape.v[i];
        if (d < -1)
            return op_fail(n, "dimension %" PRId64 " in the shape", d);
        if (d == 0 && !at->allowzero) {
            if (i >= x->sh.rank)
                return op_fail(n, "the shape copies dimension %d of an input of rank %d", i, x->sh.rank);
            d = x->sh.dim[i];
        }
        if (d == -1) {
            if (open >= 0)
                return op_fail(n, "the shape has more than one -1");
            open = i;
            continue;
        }
        y.dim[i] = d;
        if (__builtin_mul_overflow(known, d, &known))
            return op_fail(n, "the shape has too many elements");
    }
    if (open >= 0) {
        if (known == 0 || count % known != 0)
            return op_fail(n, "the -1 in the shape cannot be computed: %" PRId64 " elements over %" PRId64, count,
                           known);
        y.dim[open] = count / known;
        known *= y.dim[open];
    }
    if (known != count)
        return op_fail(n, "cannot turn shape %s into %s: %" PRId64 " and %" PRId64 " elements",
                       shape_print(&x->sh, from), shape_print(&y, to), count, known);
    op_set_out(g, n, 0, x->type, y);
    return ST_OK;
}

static const attr_desc reshape_rows[] = {
    {ATTR(reshape_attrs, shape), .type = ATTR_INTS, .from_input = 2, .flags = ATTR_REQUIRED},
    {ATTR(reshape_attrs, allowzero), .type = ATTR_INT, .def = 0, .min = 0, .max = 1},
    {0},
};
const op_desc op_reshape = {
    .name = "Reshape", .in = {1, 1}, .out = {1, 1}, .flags = OP_VIEW | OP_PORTABLE,
    .attrs = reshape_rows, .attr_size = sizeof(reshape_attrs), .infer = reshape_infer, .grad = view_grad,
};

/* Flatten: dimensions before `axis` into one, the others into another (Flatten-21). */
static status flatten_infer(graph *g, node *n)
{
    const axis_attrs *at = n->attr;
    const value *x = op_in(g, n, 0);
    int64_t axis = at->axis;
    if (axis < -x->sh.rank || axis > x->sh.rank)
        return op_fail(n, "axis %" PRId64 " is outside [-%d, %d]", axis, x->sh.rank, x->sh.rank);
    axis += axis < 0 ? x->sh.rank : 0;
    shape y = SHAPE(1, 1);
    for (int i = 0; i < x->sh.rank; i++)
        y.dim[i >= axis] *= x->sh.dim[i];
    op_set_out(g, n, 0, x->type, y);
    return ST_OK;
}

static const attr_desc flatten_rows[] = {{ATTR(axis_attrs, axis), .type = ATTR_INT, .def = 1}, {0}};
const op_desc op_flatten = {
    .name = "Flatten", .in = {1, 1}, .out = {1, 1}, .flags = OP_VIEW | OP_PORTABLE,
    .attrs = flatten_rows, .attr_size = sizeof(axis_attrs), .infer = flatten_infer, .grad = view_grad,
};

/* Squeeze: drops the given dimensions of size 1, all of them when no axes are given (Squeeze-21). */
static status squeeze_infer(graph *g, node *n)
{
    const axes_attrs *at = n->attr;
    const value *x = op_in(g, n, 0);
    uint32_t drop;
    shape y = {0};
    TRY(op_axes(n, at->axes, x->sh.rank, &drop));
    for (int i = 0; i < x->sh.rank; i++) {
        if (at->axes.v ? drop >> i & 1 : x->sh.dim[i] == 1) {
            if (x->sh.dim[i] != 1)
                return op_fail(n, "dimension %d of '%s' is %" PRId64 ", only 1 can be dropped", i, x->name,
                               x->sh.dim[i]);
            continue;
        }
        y.dim[y.rank++] = x->sh.dim[i];
    }
    op_set_out(g, n, 0, x->type, y);
    return ST_OK;
}

static const attr_desc squeeze_rows[] = {{ATTR(axes_attrs, axes), .type = ATTR_INTS, .from_input = 2}, {0}};
const op_desc op_squeeze = {
    .name = "Squeeze", .in = {1, 1}, .out = {1, 1}, .flags = OP_VIEW | OP_PORTABLE,
    .attrs = squeeze_rows, .attr_size = sizeof(axes_attrs), .infer = squeeze_infer, .grad = view_grad,
};

/* Unsqueeze: axes (of the result) become dimensions of size 1 (Unsqueeze-21). */
static status unsqueeze_infer(graph *g, node *n)
{
    const axes_attrs *at = n->attr;
    const value *x = op_in(g, n, 0);
    uint32_t added;
    if (!at->axes.v)
        return op_fail(n, "the axes are missing");
    if (at->axes.n > RANK_MAX - x->sh.rank)
        return op_fail(n, "a result of rank %" PRId64 "; up to %d are supported", at->axes.n + x->sh.rank, RANK_MAX);
    shape y = {.rank = x->sh.rank + (int)at->axes.n};
    TRY(op_axes(n, at->axes, y.rank, &added));
    for (int i = 0, from = 0; i < y.rank; i++)
        y.dim[i] = added >> i & 1 ? 1 : x->sh.dim[from++];
    op_set_out(g, n, 0, x->type, y);
    return ST_OK;
}

static const attr_desc unsqueeze_rows[] = {
    {ATTR(axes_attrs, axes), .type = ATTR_INTS, .from_input = 2, .flags = ATTR_REQUIRED},
    {0},
};
const op_desc op_unsqueeze = {
    .name = "Unsqueeze", .in = {1, 1}, .out = {1, 1}, .flags = OP_VIEW | OP_PORTABLE,
    .attrs = unsqueeze_rows, .attr_size = sizeof(axes_attrs), .infer = unsqueeze_infer, .grad = view_grad,
};
