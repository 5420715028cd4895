/* e4m3.h - numbers of 8 bits, for CPU and devices alike: a sign, 4 bits of exponent (bias 7), 3 of fraction. The largest is 448, the
 * smallest above 0 is 2^-9; there is no infinity, and S.1111.111 is NaN (OCP 8-bit Floating Point Specification 1.0, E4M3). */
#ifndef DISTILL_KERNELS_E4M3_H
#define DISTILL_KERNELS_E4M3_H

#include <stdint.h>
#include <string.h>

#ifndef ON_BOTH /* kernels/cuda/cuda.cuh has it for files that devices run */
#define ON_BOTH static inline
#endif

#define E4M3_LARGEST 448.0f

/* The nearest one, ties to even; beyond 448 (infinities too) 448: what cvt.rn.satfinite.e4m3x2.f32 gives (PTX ISA 8.4). */
ON_BOTH uint8_t e4m3_of(float v)
{
    uint32_t bits, sign;
    memcpy(&bits, &v, sizeof bits);
    sign = bits >> 24 & 0x80u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u)
        return (uint8_t)(sign | 0x7f);
    if (bits >= 0x43e00000u) /* 448 */
        return (uint8_t)(sign | 0x7e);
    if (bits < 0x3c800000u) { /* below 2^-6: the fraction of the sum is the number in steps of 2^-9 */
        memcpy(&v, &bits, sizeof v);
        v += 16384.0f;
        memcpy(&bits, &v, sizeof bits);
        return (uint8_t)(sign | (bits - 0x46800000u));
    }
    return (uint8_t)(sign | (bits - 0x3c000000u + 0x7ffffu + (bits >> 20 & 1)) >> 20);
}

ON_BOTH float e4m3_value(uint8_t code)
{
    const uint32_t exponent = code >> 3 & 15u, fraction = code & 7u;
    uint32_t bits = (exponent + 120) << 23 | fraction << 20;
    float v;
    if ((code & 0x7f) == 0x7f)
        bits = 0x7fc00000u;
    memcpy(&v, &bits, sizeof v);
    if (exponent == 0)
        v = (float)fraction * 0.001953125f;
    return code & 0x80 ? -v : v;
}

/* What numbers of which the largest is `range` are multiplied by (in float) before they are rounded. */
ON_BOTH float e4m3_scale(double range)
{
    return (float)(448.0 / range);
}

/* What a product of two sides that were scaled so is multiplied by instead of `alpha`. */
ON_BOTH double e4m3_alpha(double alpha, double a_range, double b_range)
{
    return alpha / ((double)e4m3_scale(a_range) * (double)e4m3_scale(b_range));
}

#endif
