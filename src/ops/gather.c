/* gather.c - Gather and GatherElements: elements of a tensor by index.
 *
 * An index may count from the end (-size .. size-1). Indices that are constants are checked when the node is added. At
 * run time an index outside reads nothing: the elements it asks for are NaN (0 for integer types), so that a float model
 * shows it instead of using a neighbour's row; GatherGrad leaves such rows out. */
#include "ops/gather.h"
#include "ops/common.h"

#include <inttypes.h>

/* Integer indices; constants within [-size, size). */
static status check_indices(const graph *g, const node *n, int64_t size)
{
    const value *index = op_in(g, n, 1);
    if (index->type != DTYPE_I64 && index->type != DTYPE_I32)
        return op_fail(n, "indices '%s' are %s; int64 or int32 is needed", index->name, dtype_of(index->type)->name);
    int64_t count = index->kind == VALUE_CONST ? shape_count(&index->sh) : 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t v = index->type == DTYPE_I64 ? ((const int64_t *)index->data)[i] : ((const int32_t *)index->data)[i];
        if (v < -size || v >= size)
            return op_fail(n, "index %" PRId64 " in '%s' is outside the %" PRId64 " elements of the axis", v,
                           index->name, size);
    }
    return ST_OK;
}

/* [data before axis] + [indices] + [data after axis] */
static status gather_shape(const node *n, const shape *data, const shape *index, int axis, shape *y)
{
    if (data->rank - 1 + index->rank > RANK_MAX)
        return op_fail(n, "a result of rank %d; up to %d are supported", data->rank - 1 + index->rank, RANK_MAX);
    *y = (shape){.rank = data->rank - 1 + index->rank};
    for (int i = 0; i < y->rank; i++)
        y->dim[i] = i < axis ? data->dim[i] : i < axis + index->rank ? index->dim[i - axis]
                                                                     : data->dim[i - index->rank + 1];
    return ST_OK;
}

/* Gather: y[a.., i.., b..] = data[a.., indices[i..], b..] (Gather-13). */
static status gather_infer(graph *g, node *n)
{
    const gather_attrs *at = n->attr;
    const value *data = op_in(g, n, 0), *index = op_in(g, n, 1);
    shape y;
    int axis;
    TRY(op_axis(n, at->axis, data->sh.rank, &axis));
    TRY(check_indices(g, n, data->sh.dim[axis]));
    TRY(gather_shape(n, &data->sh, &index->sh, axis, &y));
    op_set_out(g, n, 0, data->type, y);
    return ST_OK;
}

static status gather_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    gather_attrs back = *(const gather_attrs *)n->attr;
    shape data = g->value[n->in[0]].sh;
    back.data_shape = (attr_ints){data.rank, data.dim};
    return graph_add1(g, OP_GATHER_GRAD, &back, dy[0], n->in[1], 0, &dx[0]);
}

static const attr_desc gather_rows[] = {
    {ATTR(gather_attrs, axis), .type = ATTR_INT, .def = 0},
    {ATTR(gather_attrs, data_shape), .type = ATTR_INTS, .flags = ATTR_HIDDEN},
    {0},
};
const op_desc op_gather = {
    .name = "Gather", .in = {2, 2}, .out = {1, 1}, .attrs = gather_rows, .attr_size = sizeof(gather_attrs),
    .infer = gather_infer, .grad = gather_grad, .params = 1,
};

int64_t op_gather_size(const graph *g, const node *n, value_id index)
{
    const value *data = n->op == OP_GATHER && n->in[1] == index ? op_in(g, n, 0) : NULL;
    return data ? data->sh.dim[shape_axis(&data->sh, ((const gather_attrs *)n->attr)->axis)] : -1;
}

/* GatherGrad: inputs dy, indices; each row of dy is added to the row of data it came from, in the order of the indices. */
static status gather_grad_infer(graph *g, node *n)
{
    const gather_attrs *at = n->attr;
    const value *dy = op_in(g, n, 0), *index = op_in(g, n, 1);
    shape data, y;
    int axis;
    TRY(op_check_float(g, n, 0));
    TRY(op_data_shape(n, at->data_shape, &data));
    TRY(op_axis(n, at->axis, data.rank, &axis));
    TRY(check_indices(g, n, data.dim[axis]));
    TRY(gather_shape(n, &data, &index->sh, axis, &y));
    TRY(op_check_shape(g, n, 0, y, "gradient"));
    op_set_out(g, n, 0, dy->type, data);
    return ST_OK;
}

static status gather_grad_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    gather_attrs at = *(const gather_attrs *)n->attr;
    at.data_shape = (attr_ints){0};
    return graph_add1(g, OP_GATHER, &at, dy[0], n->in[1], 0, &dx[0]);
}

const op_desc op_gather_grad = {
    .name = "GatherGrad", .in = {2, 2}, .out = {1, 1}, .flags = OP_INTERNAL,
    .attrs = gather_rows, .attr_size = sizeof(gather_attrs), .infer = gather_grad_infer, .grad = gather_grad_grad,
};

/* GatherRows: GatherGrad on axis 0 without the rows that no index names, which are zeros and many where the data are a
 * table of words. Inputs dy, indices; outputs rows [indices, data after axis 0], place int32 [data's axis 0]: which row of
 * `rows` belongs to row i of the data, -1 for none. Rows of `rows` without a place are zeros. What an update reads of a
 * gradient (src/ops/update.c). */
static status gather_rows_infer(graph *g, node *n)
{
    const value *dy = op_in(g, n, 0), *index = op_in(g, n, 1);
    shape data, y;
    TRY(op_check_float(g, n, 0));
    TRY(op_data_shape(n, ((const gather_attrs *)n->attr)->data_shape, &data));
    if (data.rank < 1 || shape_axis(&data, ((const gather_attrs *)n->attr)->axis) != 0)
        return op_fail(n, "only rows, which are axis 0");
    TRY(check_indices(g, n, data.dim[0]));
    if (data.dim[0] > INT32_MAX || shape_count(&index->sh) > INT32_MAX / 2)
        return op_fail(n, "too many rows");
    TRY(gather_shape(n, &data, &index->sh, 0, &y));
    TRY(op_check_shape(g, n, 0, y, "gradient"));
    int64_t rows = shape_count(&index->sh);
    dtype type = dy->type;
    op_set_out(g, n, 1, DTYPE_I32, SHAPE(data.dim[0]));
    data.dim[0] = rows;
    op_set_out(g, n, 0, type, data);
    return ST_OK;
}

const op_desc op_gather_rows = {
    .name = "GatherRows", .in = {2, 2}, .out = {2, 2}, .flags = OP_INTERNAL, .attrs = gather_rows,
    .attr_size = sizeof(gather_attrs), .infer = gather_rows_infer, NO_GRAD("only updates read it"),
};

/* GatherElements: y[i_0, .., i_r] = data[i_0, .., indices[i_0, .., i_r], .., i_r], the index on `axis`; the shape is
 * that of the indices, which may be smaller than data on the other axes (GatherElements-13). */
static status gather_elements_infer(graph *g, node *n)
{
    const axis_attrs *at = n->attr;
    const value *data = op_in(g, n, 0), *index = op_in(g, n, 1);
    int axis;
    TRY(op_axis(n, at->axis, data->sh.rank, &axis));
    if (index->sh.rank != data->sh.rank)
        return op_fail(n, "indices of rank %d for data of rank %d", index->sh.rank, data->sh.rank);
    for (int i = 0; i < data->sh.rank; i++)
        if (i != axis && index->sh.dim[i] > data->sh.dim[i])
            return op_fail(n, "dimension %d of the indices is %" PRId64 ", of the data %" PRId64, i, index->sh.dim[i],
                           data->sh.dim[i]);
    TRY(check_indices(g, n, data->sh.dim[axis]));
    op_set_out(g, n, 0, data->type, index->sh);
    return ST_OK;
}

static status gather_elements_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    const axis_attrs *at = n->attr;
    gather_attrs back = {.axis = at->axis};
    shape data = g->value[n->in[0]].sh;
    back.data_shape = (attr_ints){data.rank, data.dim};
    return graph_add1(g, OP_GATHER_ELEMENTS_GRAD, &back, dy[0], n->in[1], 0, &dx[0]);
}

static const attr_desc gather_elements_rows[] = {{ATTR(axis_attrs, axis), .type = ATTR_INT, .def = 0}, {0}};
const op_desc op_gather_elements = {
    .name = "GatherElements", .in = {2, 2}, .out = {1, 1}, .attrs = gather_elements_rows,
    .attr_size = sizeof(axis_attrs), .infer = gather_elements_infer, .grad = gather_elements_grad,
};

/* GatherElementsGrad: inputs dy, indices; every element of dy is added where it came from, in row-major order. */
static status gather_elements_grad_infer(graph *g, node *n)
{
    const gather_attrs *at = n->attr;
    const value *dy = op_in(g, n, 0), *index = op_in(g, n, 1);
    shape data;
    int axis;
    TRY(op_check_float(g, n, 0));
    TRY(op_data_shape(n, at->data_shape, &data));
    TRY(op_axis(n, at->axis, data.rank, &axis));
    TRY(check_indices(g, n, data.dim[axis]));
    TRY(op_check_shape(g, n, 0, index->sh, "gradient"));
    for (int i = 0; i < data.rank; i++)
        if (index->sh.rank != data.rank || (i != axis && index->sh.dim[i] > data.dim[i]))
            return op_fail(n, "the indices do not fit the data");
    op_set_out(g, n, 0, dy->type, data);
    return ST_OK;
}

const op_desc op_gather_elements_grad = {
    .name = "GatherElementsGrad", .in = {2, 2}, .out = {1, 1}, .flags = OP_INTERNAL, .attrs = gather_rows,
    .attr_size = sizeof(gather_attrs), .infer = gather_elements_grad_infer,
    NO_GRAD("second derivatives of GatherElements are not needed"),
};
