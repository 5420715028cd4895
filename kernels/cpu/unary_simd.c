/* unary_simd.c - elementwise operators with one input: fast float32.
 *
 * x, y, dy, dx: any shape, all the same; the result may lie over an input (omp simd: elements do not depend on one
 * another). What is computed is in ops/unary.def; accuracy of the functions in vmath.h. */
#include "kernels/cpu/blocked.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vmath.h"

#include <math.h>

typedef float real;
#define C(number)       ((float)(number))
#define EXP             v_exp
#define EXPM1           v_expm1
#define LOG             v_log
#define TANH            v_tanh
#define ERF             v_erf
#define SQRT            sqrtf
#define SIN             sinf
#define COS             cosf
#define FLOOR           floorf
#define CEIL            ceilf
#define RINT            rintf
#define ABS             v_abs
#define SIGMOID         v_sigmoid
#define SOFTPLUS        v_softplus
#define GELU            v_gelu
#define GELU_BY_TANH       v_gelu_tanh
#define GELU_SLOPE      v_gelu_slope
#define GELU_BY_TANH_SLOPE v_gelu_tanh_slope

/* The loop is written out once per variant: the choice is not made for every element. */
#define LOOP(form, load, ...)                                                                                     \
    PARALLEL_FOR(b, block_count(n, BLOCK_ELEMENTS), a->threads, n)                                                \
    {                                                                                                             \
        const int64_t end = block_end(b, n, BLOCK_ELEMENTS);                                                      \
        PRAGMA(omp simd)                                                                                          \
        for (int64_t i = b * BLOCK_ELEMENTS; i < end; i++) {                                                      \
            const bool variant = form;                                                                            \
            load (void)variant;                                                                                   \
            out[i] = __VA_ARGS__;                                                                                 \
        }                                                                                                         \
    }
#define KERNEL(name, A, operands, load, ...)                                                                      \
    static void SIMD(name)(const kernel_args *a)                                                                  \
    {                                                                                                             \
        AT_##A operands;                                                                                          \
        float *out = a->out[0].data;                                                                              \
        const int64_t n = kernel_elements(&a->out[0]);                                                            \
        if (VARIANT_##A)                                                                                          \
            LOOP(true, load, __VA_ARGS__)                                                                         \
        else                                                                                                      \
            LOOP(false, load, __VA_ARGS__)                                                                        \
    }                                                                                                             \
    static bool SIMD(name##_takes)(const kernel_args *a)                                                          \
    {                                                                                                             \
        return takes_as_plain(a, SIMD(name));                                                                     \
    }
#define UNARY(E, object, text, flags, types, A, rows, ...)                                                        \
    KERNEL(op_##object, A, const float *in = a->in[0].data, const float x = in[i];, __VA_ARGS__)
#define UNARY_FLAT(E, object, text, types, ...)                                                                   \
    KERNEL(op_##object, none, const float *in = a->in[0].data, const float x = in[i];, __VA_ARGS__)
#define OPERANDS const float *grad = a->in[0].data; const float *kept = a->in[1].data
#define UNARY_GRAD(E, object, text, reads, A, rows, ...)                                                          \
    KERNEL(op_##object##_grad, A, OPERANDS, const float dy = grad[i]; const float reads = kept[i];, __VA_ARGS__)
#include "ops/unary.def"

KERNEL_TABLE(unary) = {
#define UNARY(E, object, text, flags, types, A, rows, ...)                                                        \
    {OP_##E, DTYPE_F32, REAL_ISA, #object, SIMD(op_##object), NULL, NULL},                                     \
    {OP_##E, DTYPE_F32, REAL_ISA, #object ", blocked", SIMD(op_##object), .takes = SIMD(op_##object##_takes),     \
     .blocked_in = 1, .blocked_out = 1},
#define UNARY_FLAT(E, object, text, types, ...)                                                                   \
    {OP_##E, DTYPE_F32, REAL_ISA, #object, SIMD(op_##object), NULL, NULL},                                     \
    {OP_##E, DTYPE_F32, REAL_ISA, #object ", blocked", SIMD(op_##object), .takes = SIMD(op_##object##_takes),     \
     .blocked_in = 1, .blocked_out = 1},
#define UNARY_GRAD(E, object, text, reads, A, rows, ...)                                                          \
    {OP_##E##_GRAD, DTYPE_F32, REAL_ISA, #object " grad", SIMD(op_##object##_grad), NULL, NULL},                  \
    {OP_##E##_GRAD, DTYPE_F32, REAL_ISA, #object " grad, blocked", SIMD(op_##object##_grad),                      \
     .takes = SIMD(op_##object##_grad_takes), .blocked_in = 3, .blocked_out = 1},
#include "ops/unary.def"
    KERNEL_END};
