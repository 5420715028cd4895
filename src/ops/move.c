/* move.c - operators that move elements without changing them: Transpose, Concat, Split, Slice, Pad, Expand, Tile.
 * Gather lies in gather.c, shape arithmetic in shape.c.
 *
 * Inference completes the attributes, so that kernels and gradients see one form: perm, starts, steps and pads have an
 * entry for every axis. Every type moves; gradients exist for the float ones. */
#include "ops/common.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* ---- Transpose: y[i_perm[0], ..] = x[i_0, ..]; the default perm reverses the axes (Transpose-21) ---- */

static status transpose_infer(graph *g, node *n)
{
    transpose_attrs *at = (transpose_attrs *)(uintptr_t)n->attr; /* the graph's own copy */
    value x = *op_in(g, n, 0);
    shape y = {.rank = x.sh.rank};
    uint32_t seen;
    if (!at->perm.v) {
        int64_t *perm;
        TRY(op_new_ints(g, x.sh.rank, &perm, &at->perm));
        for (int i = 0; i < x.sh.rank; i++)
            perm[i] = x.sh.rank - 1 - i;
    }
    if (at->perm.n != x.sh.rank)
        return op_fail(n, "perm has %" PRId64 " entries for an input of rank %d", at->perm.n, x.sh.rank);
    TRY(op_axes(n, at->perm, x.sh.rank, &seen));
    for (int i = 0; i < y.rank; i++) {
        if (at->perm.v[i] < 0)
            return op_fail(n, "perm has a negative entry, %" PRId64, at->perm.v[i]);
        y.dim[i] = x.sh.dim[at->perm.v[i]];
    }
    op_set_out(g, n, 0, x.type, y);
    return ST_OK;
}

static status transpose_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    const transpose_attrs *at = n->attr;
    int64_t inverse[RANK_MAX + 1] = {0};
    for (int64_t i = 0; i < at->perm.n; i++)
        inverse[at->perm.v[i]] = i;
    transpose_attrs back = {.perm = {at->perm.n, inverse}};
    return graph_add1(g, OP_TRANSPOSE, &back, dy[0], 0, 0, &dx[0]);
}

static const attr_desc transpose_rows[] = {{ATTR(transpose_attrs, perm), .type = ATTR_INTS}, {0}};
const op_desc op_transpose = {
    .name = "Transpose", .in = {1, 1}, .out = {1, 1}, .flags = OP_PORTABLE,
    .attrs = transpose_rows, .attr_size = sizeof(transpose_attrs), .infer = transpose_infer, .grad = transpose_grad,
};

/* ---- Concat (Concat-13), Split (Split-18): each is the other's gradient ---- */

static status concat_infer(graph *g, node *n)
{
    axis_attrs *at = (axis_attrs *)(uintptr_t)n->attr;
    const value *x = op_in(g, n, 0);
    shape y = x->sh;
    char one[200], two[200];
    int axis;
    TRY(op_axis(n, at->axis, x->sh.rank, &axis));
    for (int k = 1; k < n->n_in; k++) {
        const value *more = op_in(g, n, k);
        if (!more)
            return op_fail(n, "input %d is missing", k);
        TRY(op_check_same_type(g, n, 0, k));
        shape like = more->sh;
        if (like.rank == y.rank)
            like.dim[axis] = y.dim[axis];
        if (!shape_equal(&like, &y))
            return op_fail(n, "input '%s' %s does not fit the others, %s, beside axis %d", more->name,
                           shape_print(&more->sh, one), shape_print(&x->sh, two), axis);
        if (__builtin_add_overflow(y.dim[axis], more->sh.dim[axis], &y.dim[axis]))
            return op_fail(n, "the result is too large");
    }
    op_set_out(g, n, 0, x->type, y);
    return ST_OK;
}

static status concat_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    const axis_attrs *at = n->attr;
    split_attrs split = {.num_outputs = n->n_in};
    int64_t *sizes;
    int axis;
    TRY(op_axis(n, at->axis, g->value[n->in[0]].sh.rank, &axis));
    split.axis = axis;
    TRY(op_new_ints(g, n->n_in, &sizes, &split.split));
    for (int k = 0; k < n->n_in; k++)
        sizes[k] = g->value[n->in[k]].sh.dim[axis];
    return graph_add(g, OP_SPLIT, &split, dy, 1, dx, n->n_in);
}

static const attr_desc concat_rows[] = {{ATTR(axis_attrs, axis), .type = ATTR_INT, .flags = ATTR_REQUIRED}, {0}};
const op_desc op_concat = {
    .name = "Concat", .in = {1, -1}, .out = {1, 1}, .flags = OP_PORTABLE,
    .attrs = concat_rows, .attr_size = sizeof(axis_attrs), .infer = concat_infer, .grad = concat_grad,
};

/* Without sizes: equal parts, rounded up, the last one smaller; as many as there are outputs. */
static status split_sizes(graph *g, const node *n, split_attrs *at, int64_t dim)
{
    int64_t *sizes;
    if (at->num_outputs != 0 && at->num_outputs != n->n_out)
        return op_fail(n, "num_outputs is %" PRId64 " but there are %d outputs", at->num_outputs, n->n_out);
    int64_t each = (dim + n->n_out - 1) / n->n_out;
    if (at->num_outputs == 0 && each * n->n_out != dim)
        return op_fail(n, "%" PRId64 " does not divide into %d equal parts", dim, n->n_out);
    if (dim - each * (n->n_out - 1) < 0)
        return op_fail(n, "%" PRId64 " does not divide into %d parts", dim, n->n_out);
    TRY(op_new_ints(g, n->n_out, &sizes, &at->split));
    for (int k = 0; k < n->n_out; k++)
        sizes[k] = k < n->n_out - 1 ? each : dim - each * (n->n_out - 1);
    return ST_OK;
}

static status split_infer(graph *g, node *n)
{
    split_attrs *at = (split_attrs *)(uintptr_t)n->attr;
    value x = *op_in(g, n, 0);
    int64_t sum = 0;
    int axis;
    TRY(op_axis(n, at->axis, x.sh.rank, &axis));
    if (!at->split.v)
        TRY(split_sizes(g, n, at, x.sh.dim[axis]));
    if (at->split.n != n->n_out)
        return op_fail(n, "split has %" PRId64 " sizes but there are %d outputs", at->split.n, n->n_out);
    for (int k = 0; k < n->n_out; k++) {
        int64_t size = at->split.v[k];
        if (size < 0 || __builtin_add_overflow(sum, size, &sum))
            return op_fail(n, "size %" PRId64 " of part %d", size, k);
        shape y = x.sh;
        y.dim[axis] = size;
        op_set_out(g, n, k, x.type, y);
    }
    if (sum != x.sh.dim[axis])
        return op_fail(n, "the parts add up to %" PRId64 ", dimension %d is %" PRId64, sum, axis, x.sh.dim[axis]);
    return ST_OK;
}

/* dx = Concat of the parts; a part that has no gradient counts as zeros. */
static status split_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    const split_attrs *at = n->attr;
    value x = g->value[n->in[0]];
    axis_attrs join = {0};
    value_id *part;
    int axis;
    TRY(op_axis(n, at->axis, x.sh.rank, &axis));
    join.axis = axis;
    TRY(arena_alloc(&g->mem, &part, n->n_out, sizeof *part));
    for (int k = 0; k < n->n_out; k++) {
        shape s = x.sh;
        s.dim[axis] = at->split.v[k];
        part[k] = dy[k];
        if (!dy[k])
            TRY(graph_add_fill(g, x.type, s, 0, &part[k]));
    }
    return graph_add(g, OP_CONCAT, &join, part, n->n_out, dx, 1);
}

static const attr_desc split_rows[] = {
    {ATTR(split_attrs, axis), .type = ATTR_INT, .def = 0},
    {ATTR(split_attrs, num_outputs), .type = ATTR_INT, .def = 0, .min = 0, .max = 65535},
    {ATTR(split_attrs, split), .type = ATTR_INTS, .from_input = 2},
    {0},
};
const op_desc op_split = {
    .name = "Split", .in = {1, 1}, .out = {1, -1}, .flags = OP_PORTABLE,
    .attrs = split_rows, .attr_size = sizeof(split_attrs), .infer = split_infer, .grad = split_grad,
};

/* ---- Slice (Slice-13, negative steps included) and its gradient, which puts dy among zeros ---- */

/* One axis: start and step as given, the number of elements kept. Clamps as Slice-13 says; no sum can overflow. */
static int64_t slice_axis(int64_t dim, int64_t *start, int64_t end, int64_t step)
{
    if (dim == 0) {
        *start = 0;
        return 0;
    }
    int64_t lo = step > 0 ? 0 : -1, hi = step > 0 ? dim : dim - 1;
    int64_t s = *start < 0 ? (*start < -dim ? -1 : *start + dim) : *start;
    int64_t e = end < 0 ? (end < -dim ? -1 : end + dim) : end;
    s = s < 0 ? 0 : s > hi ? hi : s;
    e = e < lo ? lo : e > hi ? hi : e;
    *start = s;
    if (step > 0)
        return e > s ? (e - s - 1) / step + 1 : 0;
    return s > e ? (int64_t)((uint64_t)(s - e - 1) / -(uint64_t)step) + 1 : 0;
}

/* Completes starts, ends, steps to one entry an axis (axes 0 .. rank-1) for data of this shape; the slice's in *y.
 * A whole axis becomes (0, INT64_MAX, 1), which does not bind its size. */
static status slice_complete(graph *g, const node *n, slice_attrs *at, const shape *x, shape *y)
{
    int64_t *start, *end, *step, *axes;
    uint32_t mask;
    attr_ints given = at->axes;
    if (!at->starts.v || !at->ends.v || at->starts.n != at->ends.n)
        return op_fail(n, "starts has %" PRId64 " entries, ends has %" PRId64, at->starts.n, at->ends.n);
    if (!given.v && at->starts.n > x->rank)
        return op_fail(n, "starts has %" PRId64 " entries for an input of rank %d", at->starts.n, x->rank);
    if ((given.v && given.n != at->starts.n) || (at->steps.v && at->steps.n != at->starts.n))
        return op_fail(n, "starts, ends, axes and steps differ in length");
    TRY(op_axes(n, given, x->rank, &mask));
    slice_attrs full = *at;
    TRY(op_new_ints(g, x->rank, &start, &full.starts));
    TRY(op_new_ints(g, x->rank, &end, &full.ends));
    TRY(op_new_ints(g, x->rank, &step, &full.steps));
    TRY(op_new_ints(g, x->rank, &axes, &full.axes));
    *y = *x;
    for (int i = 0; i < x->rank; i++) {
        axes[i] = i;
        end[i] = INT64_MAX;
        step[i] = 1;
    }
    for (int64_t k = 0; k < at->starts.n; k++) {
        int i = (int)k;
        if (given.v)
            TRY(op_axis(n, given.v[k], x->rank, &i));
        start[i] = at->starts.v[k];
        step[i] = at->steps.v ? at->steps.v[k] : 1;
        if (step[i] == 0)
            return op_fail(n, "the step of axis %d is 0", i);
        y->dim[i] = slice_axis(x->dim[i], &start[i], at->ends.v[k], step[i]);
        if (y->dim[i] <= 1 && step[i] != 1)
            step[i] = step[i] > 0 ? 1 : -1; /* a huge step must not overflow an offset */
        end[i] = start[i] + y->dim[i] * step[i];
        if (end[i] < 0)
            end[i] = INT64_MIN; /* before the first element; -1 would mean the last */
        if (y->dim[i] == x->dim[i] && step[i] == 1)
            end[i] = INT64_MAX;
    }
    *at = full;
    return ST_OK;
}

static status slice_infer(graph *g, node *n)
{
    value x = *op_in(g, n, 0);
    shape y;
    TRY(slice_complete(g, n, (slice_attrs *)(uintptr_t)n->attr, &x.sh, &y));
    op_set_out(g, n, 0, x.type, y);
    return ST_OK;
}

static status slice_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    slice_attrs back = *(const slice_attrs *)n->attr;
    shape x = g->value[n->in[0]].sh;
    back.data_shape = (attr_ints){x.rank, x.dim};
    return graph_add1(g, OP_SLICE_GRAD, &back, dy[0], 0, 0, &dx[0]);
}

static const attr_desc slice_rows[] = {
    {ATTR(slice_attrs, starts), .type = ATTR_INTS, .from_input = 2, .flags = ATTR_REQUIRED},
    {ATTR(slice_attrs, ends), .type = ATTR_INTS, .from_input = 3, .flags = ATTR_REQUIRED},
    {ATTR(slice_attrs, axes), .type = ATTR_INTS, .from_input = 4},
    {ATTR(slice_attrs, steps), .type = ATTR_INTS, .from_input = 5},
    {ATTR(slice_attrs, data_shape), .type = ATTR_INTS, .flags = ATTR_HIDDEN},
    {0},
};
const op_desc op_slice = {
    .name = "Slice", .in = {1, 1}, .out = {1, 1}, .flags = OP_PORTABLE,
    .attrs = slice_rows, .attr_size = sizeof(slice_attrs), .infer = slice_infer, .grad = slice_grad,
};

/* SliceGrad: dy at the places Slice took its elements from, zeros elsewhere. Its gradient is Slice. */
static status slice_grad_infer(graph *g, node *n)
{
    slice_attrs *at = (slice_attrs *)(uintptr_t)n->attr;
    value dy = *op_in(g, n, 0);
    shape x, y;
    TRY(op_check_float(g, n, 0));
    TRY(op_data_shape(n, at->data_shape, &x));
    TRY(slice_complete(g, n, at, &x, &y));
    TRY(op_check_shape(g, n, 0, y, "gradient"));
    op_set_out(g, n, 0, dy.type, x);
    return ST_OK;
}

static status slice_grad_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    slice_attrs at = *(const slice_attrs *)n->attr;
    at.data_shape = (attr_ints){0};
    return graph_add1(g, OP_SLICE, &at, dy[0], 0, 0, &dx[0]);
}

const op_desc op_slice_grad = {
    .name = "SliceGrad", .in = {1, 1}, .out = {1, 1}, .flags = OP_INTERNAL,
    .attrs = slice_rows, .attr_size = sizeof(slice_attrs), .infer = slice_grad_infer, .grad = slice_grad_grad,
};

/* ---- Pad (Pad-21; negative pads crop) and its gradient, which sums what came from one element ---- */

/* Pads per axis, complete; shape of the padded tensor in *y. Reflect and wrap may go round more than once, as
 * numpy.pad does; the number of elements is bounded where the node is added. */
static status pad_complete(graph *g, const node *n, pad_attrs *at, const shape *x, shape *y)
{
    int64_t *pads, count = at->axes.v ? at->axes.n : x->rank;
    uint32_t mask;
    attr_ints list;
    if (!at->pads.v || at->pads.n != 2 * count)
        return op_fail(n, "pads has %" PRId64 " entries, %" PRId64 " are needed", at->pads.n, 2 * count);
    TRY(op_axes(n, at->axes, x->rank, &mask));
    TRY(op_new_ints(g, 2 * (int64_t)x->rank, &pads, &list));
    *y = *x;
    for (int64_t k = 0; k < count; k++) {
        int i = (int)k;
        if (at->axes.v)
            TRY(op_axis(n, at->axes.v[k], x->rank, &i));
        int64_t before = at->pads.v[k], after = at->pads.v[k + count];
        if (__builtin_add_overflow(y->dim[i], before, &y->dim[i]) ||
            __builtin_add_overflow(y->dim[i], after, &y->dim[i]) || y->dim[i] < 0)
            return op_fail(n, "pads %" PRId64 " and %" PRId64 " on axis %d of size %" PRId64, before, after, i, x->dim[i]);
        if (at->mode != PAD_CONSTANT && x->dim[i] == 0 && y->dim[i] > 0)
            return op_fail(n, "axis %d has no element that could be repeated", i);
        pads[i] = before;
        pads[i + x->rank] = after;
    }
    at->pads = list;
    at->axes = (attr_ints){0};
    return ST_OK;
}

static status pad_infer(graph *g, node *n)
{
    value x = *op_in(g, n, 0);
    shape y;
    TRY(pad_complete(g, n, (pad_attrs *)(uintptr_t)n->attr, &x.sh, &y));
    op_set_out(g, n, 0, x.type, y);
    return ST_OK;
}

static status pad_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    pad_attrs back = *(const pad_attrs *)n->attr;
    shape x = g->value[n->in[0]].sh;
    back.data_shape = (attr_ints){x.rank, x.dim};
    return graph_add1(g, OP_PAD_GRAD, &back, dy[0], 0, 0, &dx[0]);
}

static const attr_desc pad_rows[] = {
    {ATTR(pad_attrs, mode), .type = ATTR_CHOICE, .def = PAD_CONSTANT, .choices = "constant reflect edge wrap"},
    {ATTR(pad_attrs, pads), .type = ATTR_INTS, .from_input = 2, .flags = ATTR_REQUIRED},
    {ATTR(pad_attrs, constant_value), .type = ATTR_FLOAT, .def = 0, .from_input = 3},
    {ATTR(pad_attrs, axes), .type = ATTR_INTS, .from_input = 4},
    {ATTR(pad_attrs, data_shape), .type = ATTR_INTS, .flags = ATTR_HIDDEN},
    {0},
};
const op_desc op_pad = {
    .name = "Pad", .in = {1, 1}, .out = {1, 1}, .attrs = pad_rows, .attr_size = sizeof(pad_attrs),
    .infer = pad_infer, .grad = pad_grad,
};

static status pad_grad_infer(graph *g, node *n)
{
    pad_attrs *at = (pad_attrs *)(uintptr_t)n->attr;
    value dy = *op_in(g, n, 0);
    shape x, y;
    TRY(op_check_float(g, n, 0));
    TRY(op_data_shape(n, at->data_shape, &x));
    TRY(pad_complete(g, n, at, &x, &y));
    TRY(op_check_shape(g, n, 0, y, "gradient"));
    op_set_out(g, n, 0, dy.type, x);
    return ST_OK;
}

static status pad_grad_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    pad_attrs at = *(const pad_attrs *)n->attr;
    at.data_shape = (attr_ints){0};
    at.constant_value = 0; /* PadGrad is linear: what comes from outside the data adds nothing */
    return graph_add1(g, OP_PAD, &at, dy[0], 0, 0, &dx[0]);
}

const op_desc op_pad_grad = {
    .name = "PadGrad", .in = {1, 1}, .out = {1, 1}, .flags = OP_INTERNAL,
    .attrs = pad_rows, .attr_size = sizeof(pad_attrs), .infer = pad_grad_infer, .grad = pad_grad_grad,
};

/* ---- Expand (Expand-13: both ways broadcasting) and Tile (Tile-13) ---- */

static status expand_infer(graph *g, node *n)
{
    const shape_attrs *at = n->attr;
    const value *x = op_in(g, n, 0);
    shape want, y;
    char one[200], two[200];
    TRY(op_data_shape(n, at->shape, &want));
    if (!shape_broadcast(&x->sh, &want, &y))
        return op_fail(n, "shape %s does not broadcast to %s", shape_print(&x->sh, one), shape_print(&want, two));
    op_set_out(g, n, 0, x->type, y);
    return ST_OK;
}

/* Autodiff sums a broader gradient over the broadcast axes. */
static status expand_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    (void)g;
    (void)n;
    dx[0] = dy[0];
    return ST_OK;
}

static const attr_desc expand_rows[] = {
    {ATTR(shape_attrs, shape), .type = ATTR_INTS, .from_input = 2, .flags = ATTR_REQUIRED},
    {0},
};
const op_desc op_expand = {
    .name = "Expand", .in = {1, 1}, .out = {1, 1}, .attrs = expand_rows, .attr_size = sizeof(shape_attrs),
    .infer = expand_infer, .grad = expand_grad,
};

static status tile_shape(const node *n, attr_ints repeats, const shape *x, shape *y)
{
    if (!repeats.v || repeats.n != x->rank)
        return op_fail(n, "repeats has %" PRId64 " entries for an input of rank %d", repeats.n, x->rank);
    *y = *x;
    for (int i = 0; i < x->rank; i++)
        if (repeats.v[i] < 0 || __builtin_mul_overflow(y->dim[i], repeats.v[i], &y->dim[i]))
            return op_fail(n, "%" PRId64 " repeats of axis %d, which has %" PRId64, repeats.v[i], i, x->dim[i]);
    return ST_OK;
}

static status tile_infer(graph *g, node *n)
{
    const value *x = op_in(g, n, 0);
    shape y;
    TRY(tile_shape(n, ((const tile_attrs *)n->attr)->repeats, &x->sh, &y));
    op_set_out(g, n, 0, x->type, y);
    return ST_OK;
}

static status tile_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    tile_attrs back = *(const tile_attrs *)n->attr;
    shape x = g->value[n->in[0]].sh;
    back.data_shape = (attr_ints){x.rank, x.dim};
    return graph_add1(g, OP_TILE_GRAD, &back, dy[0], 0, 0, &dx[0]);
}

static const attr_desc tile_rows[] = {
    {ATTR(tile_attrs, repeats), .type = ATTR_INTS, .from_input = 2, .flags = ATTR_REQUIRED},
    {ATTR(tile_attrs, data_shape), .type = ATTR_INTS, .flags = ATTR_HIDDEN},
    {0},
};
const op_desc op_tile = {
    .name = "Tile", .in = {1, 1}, .out = {1, 1}, .attrs = tile_rows, .attr_size = sizeof(tile_attrs),
    .infer = tile_infer, .grad = tile_grad,
};

/* TileGrad: dx[i] = sum of dy over the copies of x[i], first copy first. */
static status tile_grad_infer(graph *g, node *n)
{
    const tile_attrs *at = n->attr;
    const value *dy = op_in(g, n, 0);
    shape x, y;
    TRY(op_check_float(g, n, 0));
    TRY(op_data_shape(n, at->data_shape, &x));
    TRY(tile_shape(n, at->repeats, &x, &y));
    TRY(op_check_shape(g, n, 0, y, "gradient"));
    op_set_out(g, n, 0, dy->type, x);
    return ST_OK;
}

static status tile_grad_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    tile_attrs at = *(const tile_attrs *)n->attr;
    at.data_shape = (attr_ints){0};
    return graph_add1(g, OP_TILE, &at, dy[0], 0, 0, &dx[0]);
}

const op_desc op_tile_grad = {
    .name = "TileGrad", .in = {1, 1}, .out = {1, 1}, .flags = OP_INTERNAL,
    .attrs = tile_rows, .attr_size = sizeof(tile_attrs), .infer = tile_grad_infer, .grad = tile_grad_grad,
};
