/* shape.c - shape arithmetic: Shape, Size, ConstantOfShape, Range. Import folds it away; the kernels exist so that
 * folding can run them. */
#include "ops/common.h"

#include <inttypes.h>
#include <math.h>

/* Shape: the dimensions from `start` up to before `end`, negative ones counted from the end, clamped (Shape-21). */
static status shape_infer(graph *g, node *n)
{
    const shape_op_attrs *at = n->attr;
    int64_t rank = op_in(g, n, 0)->sh.rank, start = at->start, end = at->end;
    start = start < 0 ? (start < -rank ? 0 : start + rank) : start > rank ? rank : start;
    end = end < 0 ? (end < -rank ? 0 : end + rank) : end > rank ? rank : end;
    op_set_out(g, n, 0, DTYPE_I64, SHAPE(end > start ? end - start : 0));
    return ST_OK;
}

static const attr_desc shape_rows[] = {
    {ATTR(shape_op_attrs, start), .type = ATTR_INT, .def = 0},
    {ATTR(shape_op_attrs, end), .type = ATTR_INT, .def = INT32_MAX},
    {0},
};
const op_desc op_shape = {
    .name = "Shape", .in = {1, 1}, .out = {1, 1}, .attrs = shape_rows, .attr_size = sizeof(shape_op_attrs),
    .infer = shape_infer, NO_GRAD("a shape does not depend on the values"),
};

/* Size: the number of elements (Size-21). */
static status size_infer(graph *g, node *n)
{
    op_set_out(g, n, 0, DTYPE_I64, (shape){0});
    return ST_OK;
}

const op_desc op_size = {
    .name = "Size", .in = {1, 1}, .out = {1, 1}, .infer = size_infer, NO_GRAD("a size does not depend on the values"),
};

/* ConstantOfShape: `value` everywhere, float32 zeros when it is not given (ConstantOfShape-21). */
static status constant_of_shape_infer(graph *g, node *n)
{
    constant_of_shape_attrs *at = (constant_of_shape_attrs *)(uintptr_t)n->attr; /* the graph's own copy */
    shape y;
    TRY(op_data_shape(n, at->shape, &y));
    if (at->value.type == DTYPE_NONE)
        at->value.type = DTYPE_F32;
    op_set_out(g, n, 0, at->value.type, y);
    return ST_OK;
}

static const attr_desc constant_of_shape_rows[] = {
    {ATTR(constant_of_shape_attrs, shape), .type = ATTR_INTS, .from_input = 1, .flags = ATTR_REQUIRED},
    {ATTR(constant_of_shape_attrs, value), .type = ATTR_TENSOR},
    {0},
};
const op_desc op_constant_of_shape = {
    .name = "ConstantOfShape", .in = {0, 0}, .out = {1, 1}, .attrs = constant_of_shape_rows,
    .attr_size = sizeof(constant_of_shape_attrs), .infer = constant_of_shape_infer,
    NO_GRAD("a constant does not depend on anything"),
};

/* Range: start, start + delta, ... before limit: max(ceil((limit - start) / delta), 0) numbers (Range-11). Its length is a
 * value, so the three inputs must be constants. */
static status range_infer(graph *g, node *n)
{
    double v[3];
    TRY(op_check_same_type(g, n, 0, 1));
    TRY(op_check_same_type(g, n, 0, 2));
    for (int i = 0; i < 3; i++) {
        const value *x = op_in(g, n, i);
        if (!x || x->kind != VALUE_CONST)
            return op_fail(n, "input %d is not a constant: the length of the result is not known", i);
        if (shape_count(&x->sh) != 1)
            return op_fail(n, "input '%s' is not one number", x->name);
        v[i] = dtype_load(x->type, x->data, 0);
    }
    double count = ceil((v[1] - v[0]) / v[2]);
    if (!(v[2] < 0 || v[2] > 0) || !(count < 0x1p40))
        return op_fail(n, "a range from %g to %g in steps of %g", v[0], v[1], v[2]);
    op_set_out(g, n, 0, op_in(g, n, 0)->type, SHAPE(count > 0 ? (int64_t)count : 0));
    return ST_OK;
}

const op_desc op_range = {
    .name = "Range", .in = {3, 3}, .out = {1, 1}, .flags = OP_FOLD_ONLY, .infer = range_infer,
    NO_GRAD("its inputs are constants"),
};
