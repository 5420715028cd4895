/* binary.c - elementwise operators with several inputs, broadcast to one shape (ONNX multidirectional broadcasting).
 *
 * A gradient is emitted at the broadcast shape; autodiff sums it over the axes along which an operand was repeated. */
#include "ops/common.h"

/* ---- inference ---- */

/* The shape that all inputs from `first` on broadcast to. */
static status broadcast_shape(const graph *g, const node *n, int first, shape *out)
{
    char one[200], two[200];
    *out = op_in(g, n, first)->sh;
    for (int i = first + 1; i < n->n_in; i++) {
        const value *x = op_in(g, n, i);
        if (!x)
            return op_fail(n, "input %d is missing", i);
        shape so_far = *out;
        if (!shape_broadcast(&so_far, &x->sh, out))
            return op_fail(n, "input '%s' %s does not broadcast with %s", x->name, shape_print(&x->sh, one),
                           shape_print(&so_far, two));
    }
    return ST_OK;
}

/* All inputs have one type, which the output gets too. */
static status infer_numbers(graph *g, node *n)
{
    shape sh;
    TRY(broadcast_shape(g, n, 0, &sh));
    for (int i = 1; i < n->n_in; i++)
        TRY(op_check_same_type(g, n, 0, i));
    if (op_in(g, n, 0)->type == DTYPE_BOOL)
        return op_fail(n, "input '%s' is bool; a number type is needed", op_in(g, n, 0)->name);
    op_set_out(g, n, 0, op_in(g, n, 0)->type, sh);
    return ST_OK;
}

static status infer_floats(graph *g, node *n)
{
    TRY(op_check_float(g, n, 0));
    return infer_numbers(g, n);
}

static status infer_compare(graph *g, node *n)
{
    shape sh;
    TRY(broadcast_shape(g, n, 0, &sh));
    TRY(op_check_same_type(g, n, 0, 1));
    op_set_out(g, n, 0, DTYPE_BOOL, sh);
    return ST_OK;
}

static status infer_logic(graph *g, node *n)
{
    for (int i = 0; i < 2; i++)
        if (op_in(g, n, i)->type != DTYPE_BOOL)
            return op_fail(n, "input '%s' is %s; bool is needed", op_in(g, n, i)->name,
                           dtype_of(op_in(g, n, i)->type)->name);
    return infer_compare(g, n);
}

/* ---- arithmetic ---- */

/* Add: y = a + b.  da = dy, db = dy. */
static status add_backward(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    (void)g, (void)n;
    dx[0] = dx[1] = dy[0];
    return ST_OK;
}

/* Sub: y = a - b.  da = dy, db = -dy. */
static status sub_backward(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    (void)n;
    dx[0] = dy[0];
    return graph_add1(g, OP_NEG, NULL, dy[0], 0, 0, &dx[1]);
}

/* Mul: y = a b.  da = dy b, db = dy a. */
static status mul_backward(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    TRY(graph_add1(g, OP_MUL, NULL, dy[0], n->in[1], 0, &dx[0]));
    return graph_add1(g, OP_MUL, NULL, dy[0], n->in[0], 0, &dx[1]);
}

/* Div: y = a / b.  da = dy / b, db = -(dy / b) y. */
static status div_backward(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    value_id t;
    TRY(graph_add1(g, OP_DIV, NULL, dy[0], n->in[1], 0, &dx[0]));
    TRY(graph_add1(g, OP_MUL, NULL, dx[0], n->out[0], 0, &t));
    return graph_add1(g, OP_NEG, NULL, t, 0, 0, &dx[1]);
}

/* Pow: y = a^b; b may be of another type.  da = dy b a^(b-1) (0 where b = 0), db = dy y log(a) (0 where a <= 0 and y = 0;
 * PyTorch derivatives.yaml, pow_backward_self and pow_backward_exponent). */
static status pow_infer(graph *g, node *n)
{
    shape sh;
    TRY(broadcast_shape(g, n, 0, &sh));
    for (int i = 0; i < 2; i++)
        if (op_in(g, n, i)->type == DTYPE_BOOL)
            return op_fail(n, "input '%s' is bool; a number type is needed", op_in(g, n, i)->name);
    op_set_out(g, n, 0, op_in(g, n, 0)->type, sh);
    return ST_OK;
}

static status pow_backward(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    for (int i = 0; i < 2; i++) {
        operand_attrs which = {.operand = i};
        const value *x = op_in(g, n, i), *a = op_in(g, n, 0);
        if (!dtype_of(x->type)->is_float || x->type != a->type) /* whole exponents are not trained */
            continue;
        TRY(graph_add1(g, OP_POW_GRAD, &which, dy[0], n->in[0], n->in[1], &dx[i]));
    }
    return ST_OK;
}

/* PowGrad(dy, a, b): da or db of y = a^b at the shape of dy. */
static status pow_grad_infer(graph *g, node *n)
{
    shape sh;
    TRY(op_check_float(g, n, 0));
    TRY(op_check_same_type(g, n, 0, 1));
    TRY(broadcast_shape(g, n, 0, &sh));
    op_set_out(g, n, 0, op_in(g, n, 0)->type, sh);
    return ST_OK;
}

/* Mod: the sign of the divisor for whole numbers (Python's %), of the dividend for fmod = 1 (C's fmod).
 * Floats: y = a - b trunc(a / b), so da = dy, db = -dy (a - y) / b. */
static status mod_infer(graph *g, node *n)
{
    const mod_attrs *at = n->attr;
    TRY(infer_numbers(g, n));
    if (dtype_of(op_in(g, n, 0)->type)->is_float && !at->fmod)
        return op_fail(n, "attribute fmod must be 1 for float inputs");
    return ST_OK;
}

static status mod_backward(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    value_id t;
    dx[0] = dy[0];
    TRY(graph_add1(g, OP_SUB, NULL, n->out[0], n->in[0], 0, &t));
    TRY(graph_add1(g, OP_DIV, NULL, t, n->in[1], 0, &t));
    return graph_add1(g, OP_MUL, NULL, dy[0], t, 0, &dx[1]);
}

/* PRelu: y = x where x >= 0, else slope x; slope broadcasts to x (one way).  dx = dy or slope dy, dslope = 0 or x dy. */
static status prelu_infer(graph *g, node *n)
{
    char one[200], two[200];
    TRY(infer_numbers(g, n));
    const value *x = op_in(g, n, 0), *slope = op_in(g, n, 1);
    shape sh;
    if (!shape_broadcast(&x->sh, &slope->sh, &sh) || !shape_equal(&sh, &x->sh))
        return op_fail(n, "slope '%s' %s does not broadcast to %s", slope->name, shape_print(&slope->sh, one),
                       shape_print(&x->sh, two));
    return ST_OK;
}

static status prelu_backward(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    return graph_add(g, OP_PRELU_GRAD, NULL, (value_id[]){dy[0], n->in[0], n->in[1]}, 3, dx, 2);
}

/* PReluGrad(dy, x, slope): dx and, not yet summed over the broadcast axes, dslope. */
static status prelu_grad_infer(graph *g, node *n)
{
    TRY(infer_floats(g, n));
    const value *dy = op_in(g, n, 0);
    op_set_out(g, n, 0, dy->type, dy->sh);
    op_set_out(g, n, 1, dy->type, dy->sh);
    return ST_OK;
}

/* ---- any number of inputs ---- */

/* Sum: every input gets dy. */
static status sum_backward(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    (void)g;
    for (int i = 0; i < n->n_in; i++)
        dx[i] = dy[0];
    return ST_OK;
}

/* Mean: every one of k inputs gets dy / k. */
static status mean_backward(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    value_id k, share;
    TRY(graph_add_fill(g, op_in(g, n, 0)->type, (shape){0}, 1.0 / n->n_in, &k));
    TRY(graph_add1(g, OP_MUL, NULL, dy[0], k, 0, &share));
    for (int i = 0; i < n->n_in; i++)
        dx[i] = share;
    return ST_OK;
}

/* Max, Min: dy goes to the input that attains the extremum; inputs that tie share it evenly (for two inputs half each, as
 * torch.maximum). NaN wins, as in NumPy and PyTorch. */
static status minmax_backward(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    value_id *in;
    TRY(arena_alloc(&g->mem, &in, (size_t)n->n_in + 2, sizeof *in));
    in[0] = dy[0];
    in[1] = n->out[0];
    for (int i = 0; i < n->n_in; i++)
        in[i + 2] = n->in[i];
    for (int i = 0; i < n->n_in; i++) {
        operand_attrs which = {.operand = i};
        TRY(graph_add(g, OP_MINMAX_GRAD, &which, in, (size_t)n->n_in + 2, &dx[i], 1));
    }
    return ST_OK;
}

/* MinMaxGrad(dy, y, x0, x1 ...): dx of input `operand`, at the shape of y. */
static status minmax_grad_infer(graph *g, node *n)
{
    const operand_attrs *at = n->attr;
    TRY(infer_floats(g, n));
    TRY(op_check_same_shape(g, n, 0, 1));
    if (at->operand < 0 || at->operand >= n->n_in - 2)
        return op_fail(n, "no such operand");
    return ST_OK;
}

/* ---- selection, conversion ---- */

/* Where: y = condition ? a : b.  da = condition ? dy : 0, db = condition ? 0 : dy. */
static status where_infer(graph *g, node *n)
{
    shape sh;
    TRY(broadcast_shape(g, n, 0, &sh));
    TRY(op_check_same_type(g, n, 1, 2));
    if (op_in(g, n, 0)->type != DTYPE_BOOL)
        return op_fail(n, "condition '%s' is %s; bool is needed", op_in(g, n, 0)->name,
                       dtype_of(op_in(g, n, 0)->type)->name);
    op_set_out(g, n, 0, op_in(g, n, 1)->type, sh);
    return ST_OK;
}

static status where_backward(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    value_id zero;
    TRY(graph_add_fill(g, graph_value(g, dy[0])->type, (shape){0}, 0, &zero));
    TRY(graph_add1(g, OP_WHERE, NULL, n->in[0], dy[0], zero, &dx[1]));
    return graph_add1(g, OP_WHERE, NULL, n->in[0], zero, dy[0], &dx[2]);
}

/* Cast. Between float types the gradient is dy, cast back; other casts have none. Whole numbers out of range wrap as in C,
 * floats are cut towards 0, out of their range they saturate, NaN becomes 0. */
static status cast_infer(graph *g, node *n)
{
    const cast_attrs *at = n->attr;
    if (at->to <= DTYPE_NONE || at->to >= DTYPE_COUNT)
        return op_fail(n, "attribute 'to' is no supported type");
    op_set_out(g, n, 0, (dtype)at->to, op_in(g, n, 0)->sh);
    return ST_OK;
}

static status cast_backward(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    dtype from = op_in(g, n, 0)->type;
    cast_attrs back = {.to = (int64_t)from, .saturate = 1};
    if (!dtype_of(from)->is_float)
        return ST_OK;
    return graph_add1(g, OP_CAST, &back, dy[0], 0, 0, &dx[0]);
}

/* ---- rows ---- */

static const attr_desc mod_rows[] = {{ATTR(mod_attrs, fmod), .type = ATTR_INT, .def = 0, .min = 0, .max = 1}, {0}};
static const attr_desc cast_rows[] = {{ATTR(cast_attrs, to), .type = ATTR_DTYPE, .flags = ATTR_REQUIRED},
                                      {ATTR(cast_attrs, saturate), .type = ATTR_INT, .def = 1, .min = 0, .max = 1},
                                      {0}};
static const attr_desc operand_rows[] = {{ATTR(operand_attrs, operand), .type = ATTR_INT, .flags = ATTR_HIDDEN}, {0}};

#define BINARY(object, text, more, inference, backward)                                                           \
    const op_desc op_##object = {.name = text, .in = {2, 2}, .out = {1, 1}, .flags = OP_INPLACE | (more),         \
                                 .infer = inference, .grad = backward};
BINARY(add, "Add", OP_PORTABLE, infer_numbers, add_backward)
BINARY(sub, "Sub", OP_PORTABLE, infer_numbers, sub_backward)
BINARY(mul, "Mul", OP_PORTABLE, infer_numbers, mul_backward)
BINARY(div, "Div", OP_PORTABLE, infer_numbers, div_backward)
BINARY(pow, "Pow", OP_PORTABLE, pow_infer, pow_backward)
BINARY(prelu, "PRelu", 0, prelu_infer, prelu_backward)

const op_desc op_mod = {.name = "Mod", .in = {2, 2}, .out = {1, 1}, .flags = OP_INPLACE, .attrs = mod_rows,
                        .attr_size = sizeof(mod_attrs), .infer = mod_infer, .grad = mod_backward};
const op_desc op_where = {.name = "Where", .in = {3, 3}, .out = {1, 1}, .flags = OP_INPLACE, .infer = where_infer,
                          .grad = where_backward};
const op_desc op_cast = {.name = "Cast", .in = {1, 1}, .out = {1, 1}, .flags = OP_PORTABLE | OP_SAME_VALUE,
                         .attrs = cast_rows, .attr_size = sizeof(cast_attrs), .infer = cast_infer,
                         .grad = cast_backward};

#define VARIADIC(object, text, inference, backward)                                                               \
    const op_desc op_##object = {.name = text, .in = {1, -1}, .out = {1, 1}, .flags = OP_INPLACE,                 \
                                 .infer = inference, .grad = backward};
VARIADIC(sum, "Sum", infer_floats, sum_backward)
VARIADIC(mean, "Mean", infer_floats, mean_backward)
VARIADIC(max, "Max", infer_numbers, minmax_backward)
VARIADIC(min, "Min", infer_numbers, minmax_backward)

#define LOGIC(object, text, inference)                                                                            \
    const op_desc op_##object = {.name = text, .in = {2, 2}, .out = {1, 1}, .flags = OP_INPLACE,                  \
                                 .infer = inference, NO_GRAD("its result is boolean")};
LOGIC(equal, "Equal", infer_compare)
LOGIC(less, "Less", infer_compare)
LOGIC(less_or_equal, "LessOrEqual", infer_compare)
LOGIC(greater, "Greater", infer_compare)
LOGIC(greater_or_equal, "GreaterOrEqual", infer_compare)
LOGIC(and, "And", infer_logic)
LOGIC(or, "Or", infer_logic)
LOGIC(xor, "Xor", infer_logic)

#define GRADIENT(object, text, least, most, outs, A, rows, inference)                                             \
    const op_desc op_##object = {.name = text, .in = {least, most}, .out = {outs, outs},                          \
                                 .flags = OP_INPLACE | OP_INTERNAL, .attrs = rows, .attr_size = A,                \
                                 .infer = inference, NO_GRAD("second derivatives are not supported")};
GRADIENT(prelu_grad, "PReluGrad", 3, 3, 2, 0, NULL, prelu_grad_infer)
GRADIENT(pow_grad, "PowGrad", 3, 3, 1, sizeof(operand_attrs), operand_rows, pow_grad_infer)
GRADIENT(minmax_grad, "MinMaxGrad", 3, -1, 1, sizeof(operand_attrs), operand_rows, minmax_grad_infer)
