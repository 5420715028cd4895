/* cast.c - conversion between element types, and Where by element size.
 *
 * Cast of x [any shape] to y of the same shape. Whole numbers wrap; floats are cut towards 0 and saturate, NaN becomes 0;
 * anything but 0 is true; floats round to nearest even. */
#include "kernels/cpu/broadcast.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/half.h"

#include <string.h>

/* ---- from whole numbers ---- */

/* Element i, sign-extended. */
static uint64_t load_whole(dtype t, const void *data, int64_t i)
{
    switch (t) {
    case DTYPE_I8: return (uint64_t)((const int8_t *)data)[i];
    case DTYPE_I16: return (uint64_t)((const int16_t *)data)[i];
    case DTYPE_U16: return ((const uint16_t *)data)[i];
    case DTYPE_I32: return (uint64_t)((const int32_t *)data)[i];
    case DTYPE_U32: return ((const uint32_t *)data)[i];
    case DTYPE_I64:
    case DTYPE_U64: return ((const uint64_t *)data)[i];
    default: return ((const uint8_t *)data)[i];
    }
}

static void store_whole(dtype t, void *data, int64_t i, uint64_t v)
{
    switch (t) {
    case DTYPE_I8:
    case DTYPE_U8: ((uint8_t *)data)[i] = (uint8_t)v; break;
    case DTYPE_I16:
    case DTYPE_U16: ((uint16_t *)data)[i] = (uint16_t)v; break;
    case DTYPE_I32:
    case DTYPE_U32: ((uint32_t *)data)[i] = (uint32_t)v; break;
    case DTYPE_I64:
    case DTYPE_U64: ((uint64_t *)data)[i] = v; break;
    default: ((uint8_t *)data)[i] = v != 0; break;
    }
}

/* One rounding: not through double, which cannot hold 64 bits. */
static void store_float(dtype t, void *data, int64_t i, uint64_t v, bool is_signed)
{
    float f = is_signed ? (float)(int64_t)v : (float)v;
    switch (t) {
    case DTYPE_F64: ((double *)data)[i] = is_signed ? (double)(int64_t)v : (double)v; break;
    case DTYPE_F32: ((float *)data)[i] = f; break;
    default: dtype_store(t, data, i, (double)f); break;
    }
}

/* ---- from floats, the common pairs ---- */

#define AS_IS(v) (v)
#define PAIR(name, X, Y, LOAD, STORE)                                                                             \
    static void name(const kernel_args *a)                                                                        \
    {                                                                                                             \
        const X *x = a->in[0].data;                                                                               \
        Y *y = a->out[0].data;                                                                                    \
        const int64_t n = shape_count(&a->out[0].sh);                                                             \
        PARALLEL_FOR(b, block_count(n, BLOCK_ELEMENTS), a->threads, n)                                            \
        {                                                                                                         \
            for (int64_t i = b * BLOCK_ELEMENTS; i < block_end(b, n, BLOCK_ELEMENTS); i++)                        \
                y[i] = STORE(LOAD(x[i]));                                                                         \
        }                                                                                                         \
    }
PAIR(f32_to_f64, float, double, AS_IS, (double))
PAIR(f64_to_f32, double, float, AS_IS, (float))
PAIR(f32_to_f16, float, _Float16, AS_IS, half_store_F16)
PAIR(f16_to_f32, _Float16, float, half_load_F16, AS_IS)
PAIR(f32_to_bf16, float, uint16_t, AS_IS, half_store_BF16)
PAIR(bf16_to_f32, uint16_t, float, half_load_BF16, AS_IS)

static void cast_any(const kernel_args *a)
{
    const dtype from = a->in[0].type, to = a->out[0].type;
    const void *x = a->in[0].data;
    void *y = a->out[0].data;
    const int64_t n = shape_count(&a->out[0].sh);
    if (from == to)
        memcpy(y, x, (size_t)n * dtype_of(to)->size);
    else if (dtype_of(from)->is_float)
        for (int64_t i = 0; i < n; i++)
            dtype_store(to, y, i, dtype_load(from, x, i));
    else if (dtype_of(to)->is_float)
        for (int64_t i = 0; i < n; i++)
            store_float(to, y, i, load_whole(from, x, i), dtype_of(from)->is_signed);
    else
        for (int64_t i = 0; i < n; i++)
            store_whole(to, y, i, load_whole(from, x, i));
}

static bool to_f64(const kernel_args *a)
{
    return a->out[0].type == DTYPE_F64;
}
static bool to_f32(const kernel_args *a)
{
    return a->out[0].type == DTYPE_F32;
}
static bool to_f16(const kernel_args *a)
{
    return a->out[0].type == DTYPE_F16;
}
static bool to_bf16(const kernel_args *a)
{
    return a->out[0].type == DTYPE_BF16;
}

/* ---- Where: condition, x, y of shapes that broadcast to the output's ---- */

#define WHERE(T)                                                                                                  \
    static void where_##T(const kernel_args *a)                                                                   \
    {                                                                                                             \
        BCAST_WHERE(T)                                                                                            \
    }                                                                                                             \
    static bool takes_##T(const kernel_args *a)                                                                   \
    {                                                                                                             \
        return dtype_of(a->out[0].type)->size == sizeof(T);                                                       \
    }
WHERE(uint8_t)
WHERE(uint16_t)
WHERE(uint32_t)
WHERE(uint64_t)

const kernel_row cpu_cast[] = {
    {OP_CAST, DTYPE_F32, ISA_REF, "cast float32 to float64", f32_to_f64, NULL, to_f64},
    {OP_CAST, DTYPE_F64, ISA_REF, "cast float64 to float32", f64_to_f32, NULL, to_f32},
    {OP_CAST, DTYPE_F32, ISA_REF, "cast float32 to float16", f32_to_f16, NULL, to_f16},
    {OP_CAST, DTYPE_F16, ISA_REF, "cast float16 to float32", f16_to_f32, NULL, to_f32},
    {OP_CAST, DTYPE_F32, ISA_REF, "cast float32 to bfloat16", f32_to_bf16, NULL, to_bf16},
    {OP_CAST, DTYPE_BF16, ISA_REF, "cast bfloat16 to float32", bf16_to_f32, NULL, to_f32},
    {OP_CAST, DTYPE_NONE, ISA_REF, "cast", cast_any, NULL, NULL},
    {OP_WHERE, DTYPE_BOOL, ISA_REF, "where 8 bits", where_uint8_t, NULL, takes_uint8_t},
    {OP_WHERE, DTYPE_BOOL, ISA_REF, "where 16 bits", where_uint16_t, NULL, takes_uint16_t},
    {OP_WHERE, DTYPE_BOOL, ISA_REF, "where 32 bits", where_uint32_t, NULL, takes_uint32_t},
    {OP_WHERE, DTYPE_BOOL, ISA_REF, "where 64 bits", where_uint64_t, NULL, takes_uint64_t},
    KERNEL_END};
