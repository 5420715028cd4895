/* unary.c - elementwise operators with one input on whole numbers, halves (computed in float) and bool.
 *
 * x, y: any shape, both the same. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/half.h"
#include "kernels/cpu/refmath.h"

/* ---- halves ---- */

#define HALF(object, E, T, A, ...)                                                                                \
    static void half_##object##_##E(const kernel_args *a)                                                         \
    {                                                                                                             \
        AT_##A const T *in = a->in[0].data;                                                                       \
        T *out = a->out[0].data;                                                                                  \
        for (int64_t i = 0, n = shape_count(&a->out[0].sh); i < n; i++) {                                         \
            const bool variant = VARIANT_##A;                                                                     \
            const float x = half_load_##E(in[i]);                                                                 \
            (void)variant;                                                                                        \
            out[i] = half_store_##E(__VA_ARGS__);                                                                 \
        }                                                                                                         \
    }
#define UNARY(E, object, text, flags, types, A, rows, ...)                                                        \
    HALF(object, F16, _Float16, A, __VA_ARGS__) HALF(object, BF16, uint16_t, A, __VA_ARGS__)
#define UNARY_FLAT(E, object, text, types, ...)                                                                   \
    HALF(object, F16, _Float16, none, __VA_ARGS__) HALF(object, BF16, uint16_t, none, __VA_ARGS__)
#include "ops/unary.def"

/* ---- whole numbers: negation wraps, as in C for unsigned ones ---- */

#define WHOLE(name, E, T, setup, ...)                                                                             \
    static void name##_##E(const kernel_args *a)                                                                  \
    {                                                                                                             \
        const T *in = a->in[0].data;                                                                              \
        T *out = a->out[0].data;                                                                                  \
        setup for (int64_t i = 0, n = shape_count(&a->out[0].sh); i < n; i++)                                     \
        {                                                                                                         \
            const T x = in[i];                                                                                    \
            out[i] = (T)(__VA_ARGS__);                                                                            \
        }                                                                                                         \
    }
#define CLIP_BOUNDS(E, T)                                                                                         \
    const clip_attrs *at = a->attr;                                                                               \
    T lo, hi;                                                                                                     \
    dtype_store(DTYPE_##E, &lo, 0, at->min);                                                                      \
    dtype_store(DTYPE_##E, &hi, 0, at->max);
#define WHOLE_KERNELS(E, T)                                                                                       \
    WHOLE(relu, E, T, , x > 0 ? x : 0)                                                                            \
    WHOLE(abs, E, T, , x > 0 ? (uint64_t)x : 0 - (uint64_t)x)                                                     \
    WHOLE(neg, E, T, , 0 - (uint64_t)x)                                                                           \
    WHOLE(sign, E, T, , x > 0 ? 1 : x == 0 ? 0 : -1)                                                              \
    WHOLE(clip, E, T, CLIP_BOUNDS(E, T), (x < lo ? lo : x) > hi ? hi : x < lo ? lo : x)
WHOLE_TYPES(WHOLE_KERNELS)

static void not_BOOL(const kernel_args *a)
{
    const uint8_t *x = a->in[0].data;
    uint8_t *y = a->out[0].data;
    for (int64_t i = 0, n = shape_count(&a->out[0].sh); i < n; i++)
        y[i] = !x[i];
}

const kernel_row cpu_unary[] = {
#define HALF_ROWS(op, object)                                                                                     \
    {op, DTYPE_F16, ISA_REF, #object " float16", half_##object##_F16, NULL, NULL},                                \
    {op, DTYPE_BF16, ISA_REF, #object " bfloat16", half_##object##_BF16, NULL, NULL},
#define UNARY(E, object, text, flags, types, A, rows, ...) HALF_ROWS(OP_##E, object)
#define UNARY_FLAT(E, object, text, types, ...)            HALF_ROWS(OP_##E, object)
#include "ops/unary.def"
#define WHOLE_ROWS(E, T)                                                                                          \
    {OP_RELU, DTYPE_##E, ISA_REF, "relu " #T, relu_##E, NULL, NULL},                                              \
    {OP_ABS, DTYPE_##E, ISA_REF, "abs " #T, abs_##E, NULL, NULL},                                                 \
    {OP_NEG, DTYPE_##E, ISA_REF, "neg " #T, neg_##E, NULL, NULL},                                                 \
    {OP_SIGN, DTYPE_##E, ISA_REF, "sign " #T, sign_##E, NULL, NULL},                                              \
    {OP_CLIP, DTYPE_##E, ISA_REF, "clip " #T, clip_##E, NULL, NULL},
    WHOLE_TYPES(WHOLE_ROWS)
    {OP_NOT, DTYPE_BOOL, ISA_REF, "not", not_BOOL, NULL, NULL},
    KERNEL_END};
