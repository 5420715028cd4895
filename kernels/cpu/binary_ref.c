/* binary_ref.c - elementwise operators with several inputs: the reference.
 *
 * Operands of any shapes that broadcast to the output's; element i of the output belongs to element
 * broadcast_index(output, operand, i) of an operand. NaN wins in Max and Min. */
#include "kernels/cpu/broadcast.h"
#include "kernels/cpu/refmath.h"

#if defined(REAL_F64)
#define POW  pow
#define FMOD fmod
#else
#define POW  powf
#define FMOD fmodf
#endif

#define ISNAN(x) ((x) != (x))

static real REF(at)(const kernel_args *a, int k, int64_t i)
{
    return ((const real *)a->in[k].data)[broadcast_index(&a->out[0].sh, &a->in[k].sh, i)];
}

#define BINARY(name, result, ...)                                                                                 \
    static void REF(name)(const kernel_args *a)                                                                   \
    {                                                                                                             \
        result *out = a->out[0].data;                                                                             \
        for (int64_t i = 0, n = shape_count(&a->out[0].sh); i < n; i++) {                                         \
            const real x = REF(at)(a, 0, i), y = REF(at)(a, 1, i);                                                \
            out[i] = __VA_ARGS__;                                                                                 \
        }                                                                                                         \
    }
BINARY(add, real, x + y)
BINARY(sub, real, x - y)
BINARY(mul, real, x * y)
BINARY(div, real, x / y)
BINARY(pow, real, POW(x, y))
BINARY(mod, real, FMOD(x, y))
BINARY(prelu, real, x < 0 ? x * y : x)
BINARY(equal, uint8_t, x == y)
BINARY(less, uint8_t, x < y)
BINARY(less_or_equal, uint8_t, x <= y)
BINARY(greater, uint8_t, x > y)
BINARY(greater_or_equal, uint8_t, x >= y)

/* Any number of inputs: the first, then `step` with one after the other, then `end`. */
#define VARIADIC(name, step, end)                                                                                 \
    static void REF(name)(const kernel_args *a)                                                                   \
    {                                                                                                             \
        real *out = a->out[0].data;                                                                               \
        for (int64_t i = 0, n = shape_count(&a->out[0].sh); i < n; i++) {                                         \
            real y = REF(at)(a, 0, i);                                                                            \
            for (int k = 1; k < a->n_in; k++) {                                                                   \
                const real x = REF(at)(a, k, i);                                                                  \
                y = step;                                                                                         \
            }                                                                                                     \
            out[i] = end;                                                                                         \
        }                                                                                                         \
    }
VARIADIC(sum, y + x, y)
VARIADIC(mean, y + x, y / (real)a->n_in)
VARIADIC(max, ISNAN(x) || x > y ? x : y, y)
VARIADIC(min, ISNAN(x) || x < y ? x : y, y)

/* dy, y: [out]; then the operands: dx of operand k is dy where it equals y, shared with the others that do. */
static void REF(minmax_grad)(const kernel_args *a)
{
    const int which = 2 + (int)((const operand_attrs *)a->attr)->operand;
    real *out = a->out[0].data;
    for (int64_t i = 0, n = shape_count(&a->out[0].sh); i < n; i++) {
        const real dy = REF(at)(a, 0, i), y = REF(at)(a, 1, i);
        int ties = 0;
        for (int k = 2; k < a->n_in; k++)
            ties += REF(at)(a, k, i) == y;
        out[i] = REF(at)(a, which, i) == y ? dy / (real)ties : 0;
    }
}

/* y = x^p. operand 0: dx = dy p x^(p-1), 0 where p is 0.  operand 1: dp = dy x^p log x, 0 where x is 0 and p >= 0. */
static void REF(pow_grad)(const kernel_args *a)
{
    const bool exponent = ((const operand_attrs *)a->attr)->operand != 0;
    real *out = a->out[0].data;
    for (int64_t i = 0, n = shape_count(&a->out[0].sh); i < n; i++) {
        const real dy = REF(at)(a, 0, i), x = REF(at)(a, 1, i), p = REF(at)(a, 2, i);
        if (exponent)
            out[i] = x == 0 && p >= 0 ? 0 : dy * POW(x, p) * LOG(x);
        else
            out[i] = p == 0 ? 0 : dy * p * POW(x, p - 1);
    }
}

/* dy, x, slope to dx and dslope (at the shape of x). */
static void REF(prelu_grad)(const kernel_args *a)
{
    real *dx = a->out[0].data, *dslope = a->out[1].data;
    for (int64_t i = 0, n = shape_count(&a->out[0].sh); i < n; i++) {
        const real dy = REF(at)(a, 0, i), x = REF(at)(a, 1, i), slope = REF(at)(a, 2, i);
        dx[i] = x > 0 ? dy : dy * slope;
        dslope[i] = x > 0 ? 0 : dy * x;
    }
}

static bool REF(takes_same)(const kernel_args *a)
{
    return a->in[1].type == REAL_DTYPE;
}

#define ROW(E, name) {OP_##E, REAL_DTYPE, REAL_ISA, #name " reference", REF(name), NULL, NULL}
KERNEL_TABLE(binary) = {
    ROW(ADD, add), ROW(SUB, sub), ROW(MUL, mul), ROW(DIV, div), ROW(MOD, mod), ROW(PRELU, prelu), ROW(EQUAL, equal),
    ROW(LESS, less), ROW(LESS_OR_EQUAL, less_or_equal), ROW(GREATER, greater),
    ROW(GREATER_OR_EQUAL, greater_or_equal), ROW(SUM, sum), ROW(MEAN, mean), ROW(MAX, max), ROW(MIN, min),
    ROW(MINMAX_GRAD, minmax_grad), ROW(PRELU_GRAD, prelu_grad),
    {OP_POW, REAL_DTYPE, REAL_ISA, "pow reference", REF(pow), NULL, REF(takes_same)},
    {OP_POW_GRAD, REAL_DTYPE, REAL_ISA, "pow grad reference", REF(pow_grad), NULL, NULL},
    KERNEL_END};
