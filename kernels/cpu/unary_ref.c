/* unary_ref.c - elementwise operators with one input: the reference, by the C library.
 *
 * x, y, dy, dx: any shape, all the same. What is computed is in ops/unary.def. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/refmath.h"

#define FORWARD(object, A, ...)                                                                                   \
    static void REF(object)(const kernel_args *a)                                                                 \
    {                                                                                                             \
        AT_##A const real *in = a->in[0].data;                                                                    \
        real *out = a->out[0].data;                                                                               \
        for (int64_t i = 0, n = shape_count(&a->out[0].sh); i < n; i++) {                                         \
            const bool variant = VARIANT_##A;                                                                     \
            const real x = in[i];                                                                                 \
            (void)variant;                                                                                        \
            out[i] = __VA_ARGS__;                                                                                 \
        }                                                                                                         \
    }
#define UNARY(E, object, text, flags, types, A, rows, ...) FORWARD(op_##object, A, __VA_ARGS__)
#define UNARY_FLAT(E, object, text, types, ...)            FORWARD(op_##object, none, __VA_ARGS__)
#define UNARY_GRAD(E, object, text, reads, A, rows, ...)                                                          \
    static void REF(op_##object##_grad)(const kernel_args *a)                                                     \
    {                                                                                                             \
        AT_##A const real *grad = a->in[0].data, *kept = a->in[1].data;                                           \
        real *out = a->out[0].data;                                                                               \
        for (int64_t i = 0, n = shape_count(&a->out[0].sh); i < n; i++) {                                         \
            const bool variant = VARIANT_##A;                                                                     \
            const real dy = grad[i], reads = kept[i];                                                             \
            (void)variant;                                                                                        \
            out[i] = __VA_ARGS__;                                                                                 \
        }                                                                                                         \
    }
#include "ops/unary.def"

KERNEL_TABLE(unary) = {
#define UNARY(E, object, text, flags, types, A, rows, ...)                                                        \
    {OP_##E, REAL_DTYPE, REAL_ISA, #object " reference", REF(op_##object), NULL, NULL},
#define UNARY_FLAT(E, object, text, types, ...)                                                                   \
    {OP_##E, REAL_DTYPE, REAL_ISA, #object " reference", REF(op_##object), NULL, NULL},
#define UNARY_GRAD(E, object, text, reads, A, rows, ...)                                                          \
    {OP_##E##_GRAD, REAL_DTYPE, REAL_ISA, #object " grad reference", REF(op_##object##_grad), NULL, NULL},
#include "ops/unary.def"
    KERNEL_END};
