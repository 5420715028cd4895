/* common.h - checks and small steps that the operator families share. All messages name the node and the operator. */
#ifndef DISTILL_OPS_COMMON_H
#define DISTILL_OPS_COMMON_H

#include "graph/graph.h"
#include "ops/attrs.h"

/* The value of input i, NULL when it is absent. Dies when a value is added. */
const value *op_in(const graph *g, const node *n, int i);
/* Sets type and shape of output i when it is wanted. */
void op_set_out(graph *g, const node *n, int i, dtype type, shape sh);
/* Every output gets the type and shape of input 0. */
status op_infer_same(graph *g, node *n);

/* Input i is present and a float of any width. */
MUST_USE status op_check_float(const graph *g, const node *n, int i);
/* Inputs a and b (when both present) have one type. */
MUST_USE status op_check_same_type(const graph *g, const node *n, int a, int b);
/* Inputs a and b (when both present) have one shape. */
MUST_USE status op_check_same_shape(const graph *g, const node *n, int a, int b);
/* Input i (when present) has this shape; `what` says what it is ("scale"). */
MUST_USE status op_check_shape(const graph *g, const node *n, int i, shape want, const char *what);
/* `axis` of a tensor of that rank, negative ones counted from the end, into *out (0 .. rank-1). */
MUST_USE status op_axis(const node *n, int64_t axis, int rank, int *out);
/* Axes into a bit mask; refuses axes outside the rank and, naming it, an axis given twice. */
MUST_USE status op_axes(const node *n, attr_ints axes, int rank, uint32_t *mask);
/* A list of `count` zeros in the graph's arena, for attributes that inference completes. */
MUST_USE status op_new_ints(graph *g, int64_t count, int64_t **v, attr_ints *list);
/* A shape from an attribute list: present, rank within RANK_MAX, nothing negative. */
MUST_USE status op_data_shape(const node *n, attr_ints list, shape *out);
/* Adds a Reshape of v to sh. */
MUST_USE status op_add_reshape(graph *g, value_id v, shape sh, value_id *out);
/* Fails with ST_BAD_DATA; the message begins with "node NAME (Operator): ". */
MUST_USE PRINTF_LIKE(2, 3) status op_fail(const node *n, const char *fmt, ...);

/* row-major strides in elements */
static inline void op_strides(const shape *s, int64_t *stride)
{
    int64_t each = 1;
    for (int i = s->rank - 1; i >= 0; i--) {
        stride[i] = each;
        each *= s->dim[i];
    }
}

#endif
