/* half.h - float16 and bfloat16 elements as float, and back (round to nearest even). */
#ifndef DISTILL_KERNELS_HALF_H
#define DISTILL_KERNELS_HALF_H

#include <stdint.h>
#include <string.h>

static inline float half_load_F16(_Float16 v)
{
    return (float)v;
}
static inline _Float16 half_store_F16(float v)
{
    return (_Float16)v;
}
static inline float half_load_BF16(uint16_t v)
{
    uint32_t bits = (uint32_t)v << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}
static inline uint16_t half_store_BF16(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    if (v != v)
        return (uint16_t)(bits >> 16 | 0x40); /* NaN stays NaN */
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* X(enum, C type, ...) over the two, as DTYPES. */
#define HALF_TYPES(X) X(F16, _Float16) X(BF16, uint16_t)
/* X(enum, C type) over the whole numbers. */
#define WHOLE_TYPES(X)                                                                                            \
    X(I8, int8_t) X(U8, uint8_t) X(I16, int16_t) X(U16, uint16_t) X(I32, int32_t) X(U32, uint32_t) X(I64, int64_t) \
    X(U64, uint64_t)

#endif
