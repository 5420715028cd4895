/* pool.c - MaxPool of 8-bit integers. */
#include "kernels/cpu/pool.h"

#define DEFINE_MAX_POOL(fn, type, lowest)                                                                         \
    DEFINE_FIRST_MAXIMUM(fn##_first_maximum, type)                                                                \
    static void fn(const kernel_args *a)                                                                          \
    {                                                                                                             \
        spatial s = pool_spatial(a->attr, &a->in[0].sh, &a->out[0].sh);                                           \
        const type *x = a->in[0].data;                                                                            \
        type *y = a->out[0].data;                                                                                 \
        int64_t *index = a->n_out > 1 ? a->out[1].data : NULL, in = spatial_in(&s), out = spatial_out(&s);        \
        bool by_column = ((const pool_attrs *)a->attr)->storage_order != 0;                                       \
        for (int64_t p = 0; p < s.n * s.channels; p++)                                                            \
            for (int64_t o = 0; o < out; o++) {                                                                   \
                int64_t best = fn##_first_maximum(&s, x + p * in, o);                                             \
                y[p * out + o] = best < 0 ? (lowest) : x[p * in + best];                                          \
                if (index)                                                                                        \
                    index[p * out + o] = p * in + (best < 0 ? 0 : by_column ? index_by_column(&s, best) : best);  \
            }                                                                                                     \
    }

DEFINE_MAX_POOL(max_pool_u8, uint8_t, 0)
DEFINE_MAX_POOL(max_pool_i8, int8_t, INT8_MIN)

const kernel_row cpu_pool[] = {
    {OP_MAX_POOL, DTYPE_U8, ISA_REF, "max_pool_u8", max_pool_u8, NULL, NULL},
    {OP_MAX_POOL, DTYPE_I8, ISA_REF, "max_pool_i8", max_pool_i8, NULL, NULL},
    KERNEL_END};
