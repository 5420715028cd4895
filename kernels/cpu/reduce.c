/* reduce.c - reductions of whole numbers, halves (in float) and bool; ArgMax of every type.
 *
 * x: any shape; y: x without the reduced axes. Whole sums and products wrap; a mean is cut towards 0. */
#include "kernels/cpu/reduce.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/half.h"

#include <math.h>

#define AS_IS(v) (v)
#define REDUCE(name, E, T, V, LOAD, STORE, start, step, end)                                                      \
    static void name##_##E(const kernel_args *a)                                                                  \
    {                                                                                                             \
        REDUCE_PLAIN(T, V, LOAD, STORE, start, step, end)                                                         \
    }
static inline uint64_t least_of(dtype t)
{
    unsigned bits = 8 * (unsigned)dtype_of(t)->size;
    return dtype_of(t)->is_signed ? (uint64_t)0 - ((uint64_t)1 << (bits - 1)) : 0;
}

/* Sums in 64 bits: wrapping at the end is the same as wrapping at every step. */
#define WHOLE_KERNELS(E, T)                                                                                       \
    REDUCE(reduce_sum, E, T, uint64_t, (uint64_t), (T), 0, y + x, y)                                              \
    REDUCE(reduce_prod, E, T, uint64_t, (uint64_t), (T), 1, y *x, y)                                              \
    REDUCE(reduce_mean, E, T, double, (double), (T), 0, y + x, count ? y / (double)count : 0)                     \
    REDUCE(reduce_max, E, T, T, AS_IS, AS_IS, (T)least_of(DTYPE_##E), x > y ? x : y, y)                           \
    REDUCE(reduce_min, E, T, T, AS_IS, AS_IS, (T)~least_of(DTYPE_##E), x < y ? x : y, y)
WHOLE_TYPES(WHOLE_KERNELS)
REDUCE(reduce_max, BOOL, uint8_t, uint8_t, AS_IS, AS_IS, 0, x > y ? x : y, y)
REDUCE(reduce_min, BOOL, uint8_t, uint8_t, AS_IS, AS_IS, 1, x < y ? x : y, y)

#define HALF_KERNELS(E, T)                                                                                        \
    REDUCE(reduce_sum, E, T, float, half_load_##E, half_store_##E, 0, y + x, y)                                   \
    REDUCE(reduce_prod, E, T, float, half_load_##E, half_store_##E, 1, y *x, y)                                   \
    REDUCE(reduce_mean, E, T, float, half_load_##E, half_store_##E, 0, y + x, y / (float)count)                   \
    REDUCE(reduce_max, E, T, float, half_load_##E, half_store_##E, -INFINITY, x > y || x != x ? x : y, y)         \
    REDUCE(reduce_min, E, T, float, half_load_##E, half_store_##E, INFINITY, x < y || x != x ? x : y, y)
HALF_TYPES(HALF_KERNELS)

/* The index of the greatest element along one axis: of equal ones the first, or the last; of NaNs the first. */
#define ARG_MAX(E, T, V, LOAD, IS_NAN)                                                                            \
    static void arg_max_##E(const kernel_args *a)                                                                 \
    {                                                                                                             \
        const arg_attrs *at = a->attr;                                                                            \
        const shape *sh = &a->in[0].sh;                                                                           \
        const T *in = a->in[0].data;                                                                              \
        int64_t *out = a->out[0].data, outer = 1, inner = 1;                                                      \
        const int axis = shape_axis(sh, at->axis);                                                                \
        for (int i = 0; i < axis; i++)                                                                            \
            outer *= sh->dim[i];                                                                                  \
        for (int i = axis + 1; i < sh->rank; i++)                                                                 \
            inner *= sh->dim[i];                                                                                  \
        for (int64_t o = 0; o < outer * inner; o++) {                                                             \
            const T *from = in + o / inner * sh->dim[axis] * inner + o % inner;                                   \
            int64_t best = 0;                                                                                     \
            for (int64_t i = 1; i < sh->dim[axis]; i++) {                                                         \
                const V x = LOAD(from[i * inner]), y = LOAD(from[best * inner]);                                  \
                if (IS_NAN(y))                                                                                    \
                    break;                                                                                        \
                if (x > y || IS_NAN(x) || (at->select_last_index && x == y))                                      \
                    best = i;                                                                                     \
            }                                                                                                     \
            out[o] = best;                                                                                        \
        }                                                                                                         \
    }
#define NEVER(v)    false
#define UNEQUAL(v)  ((v) != (v))
#define WHOLE_ARG(E, T) ARG_MAX(E, T, T, AS_IS, NEVER)
#define HALF_ARG(E, T)  ARG_MAX(E, T, float, half_load_##E, UNEQUAL)
WHOLE_TYPES(WHOLE_ARG)
HALF_TYPES(HALF_ARG)
ARG_MAX(F32, float, float, AS_IS, UNEQUAL)
ARG_MAX(F64, double, double, AS_IS, UNEQUAL)

#define ROW(op, E, name) {op, DTYPE_##E, ISA_REF, #name " " #E, name##_##E, NULL, NULL},
#define ROWS(E, T)                                                                                                \
    ROW(OP_REDUCE_SUM, E, reduce_sum) ROW(OP_REDUCE_PROD, E, reduce_prod) ROW(OP_REDUCE_MEAN, E, reduce_mean)     \
    ROW(OP_REDUCE_MAX, E, reduce_max) ROW(OP_REDUCE_MIN, E, reduce_min) ROW(OP_ARG_MAX, E, arg_max)
const kernel_row cpu_reduce[] = {WHOLE_TYPES(ROWS) HALF_TYPES(ROWS) ROW(OP_REDUCE_MAX, BOOL, reduce_max)
                                 ROW(OP_REDUCE_MIN, BOOL, reduce_min) ROW(OP_ARG_MAX, F32, arg_max)
                                 ROW(OP_ARG_MAX, F64, arg_max) KERNEL_END};
