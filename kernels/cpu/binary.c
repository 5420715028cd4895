/* binary.c - elementwise operators with several inputs on whole numbers, halves (computed in float) and bool; Pow of mixed
 * types.
 *
 * Operands of any shapes that broadcast to the output's (broadcast.h). Whole numbers wrap as in C for unsigned ones;
 * division cuts towards zero, and gives 0 for a divisor of 0, which no model may use to end the program. */
#include "kernels/cpu/broadcast.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/half.h"

#include <math.h>
#include <string.h>

#define AS_IS(v) (v)

/* ---- whole numbers ---- */

#define WHOLE(name, E, T, Z, ...)                                                                                 \
    static void name##_##E(const kernel_args *a)                                                                  \
    {                                                                                                             \
        BCAST_BINARY(T, T, Z, AS_IS, (Z), __VA_ARGS__)                                                            \
    }
/* a / b, b = -1 apart as the least number has no negative. */
#define WHOLE_DIV(E, T)                                                                                           \
    static inline T divide_##E(T x, T y)                                                                          \
    {                                                                                                             \
        return (T)(y == 0 ? 0 : y == (T)-1 && (T)-1 < 1 ? (T)(0 - (uint64_t)x) : (T)(x / y));                     \
    }                                                                                                             \
    /* cut = 1: the sign of x (C's %); 0: the sign of y (Python's %) */                                           \
    static inline T modulo_##E(T x, T y, int64_t cut)                                                             \
    {                                                                                                             \
        T r = (T)(y == 0 || (y == (T)-1 && (T)-1 < 1) ? 0 : (T)(x % y));                                          \
        return (T)(!cut && r != 0 && ((r < 1) != (y < 1)) ? r + y : r);                                           \
    }                                                                                                             \
    /* x^y by squaring; a negative exponent gives 1/x^-y cut towards zero */                                      \
    static inline T power_##E(T x, T y)                                                                           \
    {                                                                                                             \
        uint64_t result = 1, base = (uint64_t)x;                                                                  \
        if (y < 1 && y != 0)                                                                                      \
            return (T)(x == 1 ? 1 : x == (T)-1 ? (y % 2 ? x : 1) : 0);                                            \
        for (uint64_t e = (uint64_t)y; e; e >>= 1, base *= base)                                                  \
            if (e & 1)                                                                                            \
                result *= base;                                                                                   \
        return (T)result;                                                                                         \
    }
WHOLE_TYPES(WHOLE_DIV)

#define WHOLE_KERNELS(E, T)                                                                                       \
    WHOLE(add, E, T, T, (uint64_t)x + (uint64_t)y)                                                                \
    WHOLE(sub, E, T, T, (uint64_t)x - (uint64_t)y)                                                                \
    WHOLE(mul, E, T, T, (uint64_t)x *(uint64_t)y)                                                                 \
    WHOLE(div, E, T, T, divide_##E(x, y))                                                                         \
    WHOLE(mod, E, T, T, modulo_##E(x, y, ((const mod_attrs *)a->attr)->fmod))                                     \
    WHOLE(pow, E, T, T, power_##E(x, y))                                                                          \
    WHOLE(prelu, E, T, T, x < 1 && x != 0 ? (uint64_t)x *(uint64_t)y : (uint64_t)x)                               \
    WHOLE(equal, E, T, uint8_t, x == y)                                                                           \
    WHOLE(less, E, T, uint8_t, x < y)                                                                             \
    WHOLE(less_or_equal, E, T, uint8_t, x <= y)                                                                   \
    WHOLE(greater, E, T, uint8_t, x > y)                                                                          \
    WHOLE(greater_or_equal, E, T, uint8_t, x >= y)
WHOLE_TYPES(WHOLE_KERNELS)

/* ---- halves ---- */

#define HALF(name, E, T, Z, STORE, ...)                                                                           \
    static void name##_##E(const kernel_args *a)                                                                  \
    {                                                                                                             \
        BCAST_BINARY(T, float, Z, half_load_##E, STORE, __VA_ARGS__)                                              \
    }
#define HALF_KERNELS(E, T)                                                                                        \
    HALF(add, E, T, T, half_store_##E, x + y)                                                                     \
    HALF(sub, E, T, T, half_store_##E, x - y)                                                                     \
    HALF(mul, E, T, T, half_store_##E, x *y)                                                                      \
    HALF(div, E, T, T, half_store_##E, x / y)                                                                     \
    HALF(mod, E, T, T, half_store_##E, fmodf(x, y))                                                               \
    HALF(pow, E, T, T, half_store_##E, powf(x, y))                                                                \
    HALF(prelu, E, T, T, half_store_##E, x < 0 ? x * y : x)                                                       \
    HALF(equal, E, T, uint8_t, AS_IS, x == y)                                                                     \
    HALF(less, E, T, uint8_t, AS_IS, x < y)                                                                       \
    HALF(less_or_equal, E, T, uint8_t, AS_IS, x <= y)                                                             \
    HALF(greater, E, T, uint8_t, AS_IS, x > y)                                                                    \
    HALF(greater_or_equal, E, T, uint8_t, AS_IS, x >= y)
HALF_TYPES(HALF_KERNELS)

/* ---- bool ---- */

WHOLE(and, BOOL, uint8_t, uint8_t, x &y)
WHOLE(or, BOOL, uint8_t, uint8_t, x | y)
WHOLE(xor, BOOL, uint8_t, uint8_t, x ^ y)
WHOLE(equal, BOOL, uint8_t, uint8_t, x == y)

/* ---- any number of inputs ---- */

#define VARIADIC(name, E, T, V, LOAD, STORE, step, end)                                                           \
    static void name##_##E(const kernel_args *a)                                                                  \
    {                                                                                                             \
        T *out = a->out[0].data;                                                                                  \
        for (int64_t i = 0, n = shape_count(&a->out[0].sh); i < n; i++) {                                         \
            V y = 0;                                                                                              \
            for (int k = 0; k < a->n_in; k++) {                                                                   \
                const V x = LOAD(((const T *)a->in[k].data)[broadcast_index(&a->out[0].sh, &a->in[k].sh, i)]);    \
                y = k == 0 ? x : step;                                                                            \
            }                                                                                                     \
            out[i] = STORE(end);                                                                                  \
        }                                                                                                         \
    }
#define WHOLE_MINMAX(E, T)                                                                                        \
    VARIADIC(max, E, T, T, AS_IS, AS_IS, x > y ? x : y, y) VARIADIC(min, E, T, T, AS_IS, AS_IS, x < y ? x : y, y)
WHOLE_TYPES(WHOLE_MINMAX)
#define HALF_MINMAX(E, T)                                                                                         \
    VARIADIC(max, E, T, float, half_load_##E, half_store_##E, x > y || x != x ? x : y, y)                         \
    VARIADIC(min, E, T, float, half_load_##E, half_store_##E, x < y || x != x ? x : y, y)                         \
    VARIADIC(sum, E, T, float, half_load_##E, half_store_##E, y + x, y)                                \
    VARIADIC(mean, E, T, float, half_load_##E, half_store_##E, y + x, y / (float)a->n_in)
HALF_TYPES(HALF_MINMAX)

/* ---- Pow with an exponent of another type than the base: in double ---- */

static void pow_mixed(const kernel_args *a)
{
    for (int64_t i = 0, n = shape_count(&a->out[0].sh); i < n; i++) {
        double x = dtype_load(a->in[0].type, a->in[0].data, broadcast_index(&a->out[0].sh, &a->in[0].sh, i));
        double y = dtype_load(a->in[1].type, a->in[1].data, broadcast_index(&a->out[0].sh, &a->in[1].sh, i));
        dtype_store(a->out[0].type, a->out[0].data, i, pow(x, y));
    }
}

static bool pow_takes_mixed(const kernel_args *a)
{
    return a->in[0].type != a->in[1].type;
}
static bool pow_takes_same(const kernel_args *a)
{
    return a->in[0].type == a->in[1].type;
}

#define ROW(op, E, name) {op, DTYPE_##E, ISA_REF, #name " " #E, name##_##E, NULL, NULL},
#define COMMON_ROWS(E, T)                                                                                         \
    ROW(OP_ADD, E, add) ROW(OP_SUB, E, sub) ROW(OP_MUL, E, mul) ROW(OP_DIV, E, div) ROW(OP_MOD, E, mod)           \
    ROW(OP_PRELU, E, prelu) ROW(OP_EQUAL, E, equal) ROW(OP_LESS, E, less) ROW(OP_LESS_OR_EQUAL, E, less_or_equal) \
    ROW(OP_GREATER, E, greater) ROW(OP_GREATER_OR_EQUAL, E, greater_or_equal) ROW(OP_MAX, E, max)                 \
    ROW(OP_MIN, E, min) {OP_POW, DTYPE_##E, ISA_REF, "pow " #E, pow_##E, NULL, pow_takes_same},
#define HALF_ONLY_ROWS(E, T) ROW(OP_SUM, E, sum) ROW(OP_MEAN, E, mean)
const kernel_row cpu_binary[] = {
    WHOLE_TYPES(COMMON_ROWS) HALF_TYPES(COMMON_ROWS) HALF_TYPES(HALF_ONLY_ROWS)
    ROW(OP_AND, BOOL, and) ROW(OP_OR, BOOL, or) ROW(OP_XOR, BOOL, xor) ROW(OP_EQUAL, BOOL, equal)
    {OP_POW, DTYPE_NONE, ISA_REF, "pow of mixed types", pow_mixed, NULL, pow_takes_mixed},
    KERNEL_END};
