/* qdot.h - vectors of int32 sums of products of bytes, for convolutions and matrix products.
 *
 * An entry is 32 bits: what one pixel gives to a sum in one step. With QDOT_BYTES (VNNI) it is four uint8 against four int8
 * weights a lane; without, two int16 against two. Neither saturates. int8 data are moved by 128 into uint8; what that and
 * the zero point add to a sum is constant and goes into the bias. As int16 the zero points are subtracted first. */
#ifndef DISTILL_KERNELS_QDOT_H
#define DISTILL_KERNELS_QDOT_H

#include "kernels/cpu/quant.h"
#include "kernels/cpu/simd.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#ifdef QDOT_BYTES
enum { QUAD = 4 }; /* products of an entry */
typedef uint8_t qdata;
typedef int8_t qweight;
#else
enum { QUAD = 2 };
typedef int16_t qdata;
typedef int16_t qweight;
#endif
enum { PIXEL = LANES / QUAD }; /* entries of a pixel's block of channels */

typedef uint8_t vec_byte __attribute__((vector_size(LANES)));

static inline vec_int vec_int_load(const void *p)
{
    vec_int v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* acc + the products of the entry x (the same for all lanes) by the lanes' weights w */
ALWAYS_INLINE vec_int qdot(vec_int acc, int32_t x, vec_int w)
{
#if defined(QDOT_BYTES) && LANES == 16
    return (vec_int)_mm512_dpbusd_epi32((__m512i)acc, _mm512_set1_epi32(x), (__m512i)w);
#elif defined(QDOT_BYTES)
    return (vec_int)_mm256_dpbusd_avx_epi32((__m256i)acc, _mm256_set1_epi32(x), (__m256i)w);
#elif LANES == 16 && defined(__AVX512BW__)
    return acc + (vec_int)_mm512_madd_epi16(_mm512_set1_epi32(x), (__m512i)w);
#elif LANES == 8
    return acc + (vec_int)_mm256_madd_epi16(_mm256_set1_epi32(x), (__m256i)w);
#elif defined(__SSE2__)
    return acc + (vec_int)_mm_madd_epi16(_mm_set1_epi32(x), (__m128i)w);
#else
    const int32_t low = (int16_t)x, high = x >> 16;
    return acc + ((w << 16) >> 16) * low + (w >> 16) * high;
#endif
}

ALWAYS_INLINE vec vec_within(vec v, vec lo, vec hi)
{
#if LANES == 16
    return (vec)_mm512_min_ps(_mm512_max_ps((__m512)v, (__m512)lo), (__m512)hi);
#elif LANES == 8
    return (vec)_mm256_min_ps(_mm256_max_ps((__m256)v, (__m256)lo), (__m256)hi);
#elif defined(__SSE2__)
    return (vec)_mm_min_ps(_mm_max_ps((__m128)v, (__m128)lo), (__m128)hi);
#else
    vec_int above = v > lo;
    v = (vec)(((vec_int)v & above) | ((vec_int)lo & ~above));
    vec_int below = v < hi;
    return (vec)(((vec_int)v & below) | ((vec_int)hi & ~below));
#endif
}

/* How results are rounded: quant_round of kernels/cpu/quant.h, lane by lane, for ranges within 2^22. Adding 1.5 * 2^23 rounds
 * half to even and leaves the integer in the low bits. */
typedef struct qround {
    vec lo, hi;
    vec_int zero; /* less the bits of the number added */
} qround;
static inline qround qround_of(int32_t zero, quant_range r)
{
    return (qround){vec_set(r.lo - (float)zero), vec_set(r.hi - (float)zero), (vec_int){0} + (zero - 0x4b400000)};
}
ALWAYS_INLINE vec_int qround_vec(vec v, const qround *r)
{
    return (vec_int)(vec_within(v, r->lo, r->hi) + vec_set(0x1.8p23f)) + r->zero;
}
/* The low bytes of the lanes. */
ALWAYS_INLINE vec_byte vec_narrow(vec_int v)
{
    return __builtin_convertvector(v, vec_byte);
}

#endif
