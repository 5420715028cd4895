/* unary.c - elementwise operators with one input. What they compute is in unary.def; here are types and gradients. */
#include "ops/common.h"

#include <math.h>

static const attr_desc leaky_relu_rows[] = {{ATTR(alpha_attrs, alpha), .type = ATTR_FLOAT, .def = 0.01}, {0}};
static const attr_desc elu_rows[] = {{ATTR(alpha_attrs, alpha), .type = ATTR_FLOAT, .def = 1}, {0}};
static const attr_desc hard_sigmoid_rows[] = {{ATTR(hard_sigmoid_attrs, alpha), .type = ATTR_FLOAT, .def = 0.2},
                                              {ATTR(hard_sigmoid_attrs, beta), .type = ATTR_FLOAT, .def = 0.5},
                                              {0}};
static const attr_desc clip_rows[] = {
    {ATTR(clip_attrs, min), .type = ATTR_FLOAT, .def = -INFINITY, .from_input = 2},
    {ATTR(clip_attrs, max), .type = ATTR_FLOAT, .def = INFINITY, .from_input = 3},
    {0}};
static const attr_desc gelu_rows[] = {
    {ATTR(gelu_attrs, approximate), .type = ATTR_CHOICE, .def = GELU_NONE, .choices = "none tanh"}, {0}};

static status infer_FLOATS(graph *g, node *n)
{
    TRY(op_check_float(g, n, 0));
    return op_infer_same(g, n);
}

static status infer_NUMBERS(graph *g, node *n)
{
    const value *x = op_in(g, n, 0);
    if (x->type == DTYPE_BOOL)
        return op_fail(n, "input '%s' is bool; a number type is needed", x->name);
    return op_infer_same(g, n);
}

static status infer_BOOLEANS(graph *g, node *n)
{
    const value *x = op_in(g, n, 0);
    if (x->type != DTYPE_BOOL)
        return op_fail(n, "input '%s' is %s; bool is needed", x->name, dtype_of(x->type)->name);
    return op_infer_same(g, n);
}

/* dy and what was kept of the forward pass: one type, one shape. */
static status infer_grad(graph *g, node *n)
{
    TRY(op_check_float(g, n, 0));
    TRY(op_check_same_type(g, n, 0, 1));
    TRY(op_check_same_shape(g, n, 0, 1));
    return op_infer_same(g, n);
}

/* The derivative is 0 wherever there is one: no gradient flows (as in PyTorch, whose gradient is zeros). */
static status grad_zero(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    (void)g, (void)n, (void)dy, (void)dx;
    return ST_OK;
}

static status grad_neg(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    (void)n;
    return graph_add1(g, OP_NEG, NULL, dy[0], 0, 0, &dx[0]);
}

#define KEEPS_x n->in[0]
#define KEEPS_y n->out[0]
#define UNARY_GRAD(E, object, text, reads, A, rows, ...)                                                          \
    static status object##_backward(graph *g, const node *n, const value_id *dy, value_id *dx)                    \
    {                                                                                                             \
        return graph_add1(g, OP_##E##_GRAD, n->attr, dy[0], KEEPS_##reads, 0, &dx[0]);                            \
    }
#include "ops/unary.def"

#define SIZE_none         0
#define SIZE_alpha        sizeof(alpha_attrs)
#define SIZE_clip         sizeof(clip_attrs)
#define SIZE_hard_sigmoid sizeof(hard_sigmoid_attrs)
#define SIZE_gelu         sizeof(gelu_attrs)
#define UNARY(E, object, text, op_flags, types, A, rows, ...)                                                     \
    const op_desc op_##object = {.name = text, .in = {1, 1}, .out = {1, 1}, .flags = op_flags, .attrs = rows,     \
                                 .attr_size = SIZE_##A, .infer = infer_##types, .grad = object##_backward};
#define UNARY_GRAD(E, object, text, reads, A, rows, ...)                                                          \
    const op_desc op_##object##_grad = {.name = text, .in = {2, 2}, .out = {1, 1},                                \
                                        .flags = OP_INPLACE | OP_INTERNAL, .attrs = rows, .attr_size = SIZE_##A,  \
                                        .infer = infer_grad, NO_GRAD("second derivatives are not supported")};
#define GRAD_NEG   grad_neg
#define GRAD_FLOOR grad_zero
#define GRAD_CEIL  grad_zero
#define GRAD_ROUND grad_zero
#define GRAD_SIGN  grad_zero
#define UNARY_FLAT(E, object, text, types, ...)                                                                   \
    const op_desc op_##object = {.name = text, .in = {1, 1}, .out = {1, 1}, .flags = OP_INPLACE,                  \
                                 .infer = infer_##types, .grad = GRAD_##E};
#include "ops/unary.def"

const op_desc op_not = {.name = "Not", .in = {1, 1}, .out = {1, 1}, .flags = OP_INPLACE, .infer = infer_BOOLEANS,
                        NO_GRAD("its result is boolean")};
