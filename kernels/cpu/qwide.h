/* qwide.h - LANES bytes as int32. (GCC 12 takes a vector conversion from bytes apart, element by element.) */
#ifndef DISTILL_KERNELS_QWIDE_H
#define DISTILL_KERNELS_QWIDE_H

#include "kernels/cpu/qdot.h"

typedef int8_t vec_char __attribute__((vector_size(LANES)));

ALWAYS_INLINE vec_int bytes_widened(const uint8_t *p, bool is_signed)
{
#if LANES == 16
    __m128i b = _mm_loadu_si128((const __m128i *)(const void *)p);
    return (vec_int)(is_signed ? _mm512_cvtepi8_epi32(b) : _mm512_cvtepu8_epi32(b));
#elif LANES == 8
    __m128i b = _mm_loadl_epi64((const __m128i *)(const void *)p);
    return (vec_int)(is_signed ? _mm256_cvtepi8_epi32(b) : _mm256_cvtepu8_epi32(b));
#else
    vec_byte b;
    memcpy(&b, p, sizeof b);
    return is_signed ? __builtin_convertvector((vec_char)b, vec_int) : __builtin_convertvector(b, vec_int);
#endif
}

#endif
