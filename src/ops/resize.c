/* resize.c - Resize (nearest, linear, cubic) and its gradient. */
#include "ops/resize.h"
#include "ops/common.h"

#include <inttypes.h>
#include <stddef.h>

static const attr_desc resize_rows[] = {
    {ATTR(resize_attrs, mode), .type = ATTR_CHOICE, .choices = "nearest linear cubic"},
    {ATTR(resize_attrs, coordinate_transformation_mode), .type = ATTR_CHOICE,
     .choices = "half_pixel half_pixel_symmetric pytorch_half_pixel align_corners asymmetric tf_crop_and_resize "
                "tf_half_pixel_for_nn"},
    {ATTR(resize_attrs, nearest_mode), .type = ATTR_CHOICE,
     .choices = "round_prefer_floor round_prefer_ceil floor ceil"},
    {ATTR(resize_attrs, antialias), .type = ATTR_INT, .min = 0, .max = 1},
    {ATTR(resize_attrs, exclude_outside), .type = ATTR_INT, .min = 0, .max = 1},
    {ATTR(resize_attrs, keep_aspect_ratio_policy), .type = ATTR_CHOICE, .choices = "stretch not_larger not_smaller"},
    {ATTR(resize_attrs, cubic_coeff_a), .type = ATTR_FLOAT, .def = -0.75},
    {ATTR(resize_attrs, extrapolation_value), .type = ATTR_FLOAT},
    {ATTR(resize_attrs, axes), .type = ATTR_INTS},
    {ATTR(resize_attrs, roi), .type = ATTR_FLOATS, .from_input = 2},
    {ATTR(resize_attrs, scales), .type = ATTR_FLOATS, .from_input = 3},
    {ATTR(resize_attrs, sizes), .type = ATTR_INTS, .from_input = 4},
    {ATTR(resize_attrs, data_shape), .type = ATTR_INTS, .flags = ATTR_HIDDEN},
    {0}};

static status check_lists(const node *n, const resize_attrs *a, const shape *x)
{
    int64_t count = a->axes.v ? a->axes.n : x->rank;
    uint32_t mask;
    if (a->axes.v)
        TRY(op_axes(n, a->axes, x->rank, &mask));
    if ((a->scales.n != 0) == (a->sizes.n != 0))
        return op_fail(n, "one of scales and sizes must be given, not %s", a->sizes.n ? "both" : "none");
    if (a->scales.n + a->sizes.n != count)
        return op_fail(n, "%s has %" PRId64 " entries for %" PRId64 " axes", a->sizes.n ? "sizes" : "scales",
                       a->scales.n + a->sizes.n, count);
    if (a->coordinate_transformation_mode == COORD_TF_CROP && a->roi.n != 2 * count)
        return op_fail(n, "roi has %" PRId64 " entries for %" PRId64 " axes; tf_crop_and_resize needs two each",
                       a->roi.n, count);
    for (int64_t i = 0; i < a->roi.n; i++)
        if (!(fabs(a->roi.v[i]) < 1e6))
            return op_fail(n, "roi has an entry %g", a->roi.v[i]);
    for (int64_t i = 0; i < a->scales.n; i++)
        if (!(a->scales.v[i] > 1e-6 && a->scales.v[i] < 1e6))
            return op_fail(n, "scales has an entry %g; it must be positive (1e-6 to 1e6)", a->scales.v[i]);
    for (int64_t i = 0; i < a->sizes.n; i++)
        if (a->sizes.v[i] < 1 || a->sizes.v[i] > INT32_MAX)
            return op_fail(n, "sizes has an entry %" PRId64 "; it must be at least 1", a->sizes.v[i]);
    for (int i = 0; i < x->rank; i++)
        if (resize_list_index(a, x->rank, i) >= 0 && (x->dim[i] < 1 || x->dim[i] > INT32_MAX))
            return op_fail(n, "axis %d has %" PRId64 " elements", i, x->dim[i]);
    if (a->antialias && a->mode == RESIZE_NEAREST)
        return op_fail(n, "antialias is defined for linear and cubic only");
    return ST_OK;
}

static status resized_shape(const node *n, const shape *x, shape *y)
{
    const resize_attrs *a = n->attr;
    TRY(check_lists(n, a, x));
    *y = *x;
    for (int i = 0; i < x->rank; i++) {
        y->dim[i] = resize_axis_of(a, x, i).out;
        if (y->dim[i] > INT32_MAX || (y->dim[i] < 1 && x->dim[i] > 0))
            return op_fail(n, "axis %d would have %" PRId64 " elements", i, y->dim[i]);
    }
    return ST_OK;
}

/* Resize: every element of y is a weighted sum of elements of x, the weights a product over the axes (kernels/cpu/
 * resize_taps.h has the formulas). */
static status resize_infer(graph *g, node *n)
{
    shape y;
    const value *in = op_in(g, n, 0);
    bool bytes = in && (in->type == DTYPE_U8 || in->type == DTYPE_I8);
    if (!bytes || ((const resize_attrs *)n->attr)->mode != RESIZE_NEAREST) /* bytes may move; they are not averaged */
        TRY(op_check_float(g, n, 0));
    shape x = in->sh;
    TRY(resized_shape(n, &x, &y));
    op_set_out(g, n, 0, op_in(g, n, 0)->type, y);
    return ST_OK;
}

static status resize_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    resize_attrs a = *(const resize_attrs *)n->attr;
    shape x = g->value[n->in[0]].sh;
    a.data_shape = (attr_ints){x.rank, x.dim};
    return graph_add1(g, OP_RESIZE_GRAD, &a, dy[0], 0, 0, &dx[0]);
}

const op_desc op_resize = {.name = "Resize", .in = {1, 1}, .out = {1, 1}, .attrs = resize_rows,
                           .attr_size = sizeof(resize_attrs), .infer = resize_infer, .grad = resize_grad};

/* ResizeGrad (dy) -> dx of shape data_shape: the transposed map. */
static status resize_grad_infer(graph *g, node *n)
{
    const resize_attrs *a = n->attr;
    shape y;
    TRY(op_check_float(g, n, 0));
    if (a->data_shape.n != op_in(g, n, 0)->sh.rank)
        return op_fail(n, "data_shape has %" PRId64 " entries", a->data_shape.n);
    shape x = shape_from(a->data_shape.v, (size_t)a->data_shape.n);
    TRY(resized_shape(n, &x, &y));
    TRY(op_check_shape(g, n, 0, y, "gradient"));
    op_set_out(g, n, 0, op_in(g, n, 0)->type, x);
    return ST_OK;
}

/* Linear, but for the extrapolated elements, which are constants: their part of the map is zero. */
static status resize_grad_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    resize_attrs a = *(const resize_attrs *)n->attr;
    a.data_shape = (attr_ints){0};
    a.extrapolation_value = 0;
    return graph_add1(g, OP_RESIZE, &a, dy[0], 0, 0, &dx[0]);
}

const op_desc op_resize_grad = {.name = "ResizeGrad", .in = {1, 1}, .out = {1, 1}, .flags = OP_INTERNAL,
                                .attrs = resize_rows, .attr_size = sizeof(resize_attrs), .infer = resize_grad_infer,
                                .grad = resize_grad_grad};
