/* vmath.h - exp, log, tanh, sigmoid, erf, gelu ... for the fast float kernels: branch-free scalar code that the compiler
 * vectorises in plain loops.
 *
 * Largest error against the exact value, over all floats, measured by tests/test_vmath.c (ulp of the result; without FMA):
 *   v_exp 1, v_expm1 1.5, v_log 1.1, v_log1p 1.6 (u >= 0), v_tanh 1.3, v_sigmoid 2.3, v_softplus 2.2, v_erf 1.2;
 *   v_gelu, v_gelu_tanh and their slopes: 2e-7 * max(1, |x|) absolute, as they end in a difference for negative x.
 * NaN gives NaN, infinities the limits, denormal results are made. Polynomials: minimax fits of our own (Remez, weighted
 * for relative error); range reductions after Cody and Waite, "Software Manual for the Elementary Functions", 1980. */
#ifndef DISTILL_KERNELS_VMATH_H
#define DISTILL_KERNELS_VMATH_H

#include <stdint.h>
#include <string.h>

static inline int32_t v_bits(float x)
{
    int32_t i;
    memcpy(&i, &x, sizeof i);
    return i;
}
static inline float v_float(int32_t i)
{
    float x;
    memcpy(&x, &i, sizeof x);
    return x;
}
static inline float v_abs(float x)
{
    return v_float(v_bits(x) & 0x7fffffff);
}
static inline float v_copysign(float magnitude, float sign)
{
    return v_float((v_bits(magnitude) & 0x7fffffff) | (v_bits(sign) & INT32_MIN));
}
/* Comparisons that keep a NaN in x. */
static inline float v_clamp(float x, float lo, float hi)
{
    float y = x < lo ? lo : x;
    return y > hi ? hi : y;
}

/* x = n ln 2 + r, |r| <= ln(2)/2. Adding 1.5 * 2^23 rounds to an integer, which the low bits then hold. |x| < 2^21. */
static inline float v_exp_reduce(float x, int32_t *n)
{
    const float magic = 12582912.0f;
    float t = x * 1.44269504f + magic;
    float k = t - magic;
    *n = (int32_t)((uint32_t)v_bits(t) - (uint32_t)v_bits(magic));
    return (x - k * 0.693359375f) + k * 2.12194440e-4f;
}
/* exp(r) - 1 on the reduced range. */
static inline float v_expm1_poly(float r)
{
    float q = 0x1.6a1a72p-10f;
    q = q * r + 0x1.123fc6p-7f;
    q = q * r + 0x1.555916p-5f;
    q = q * r + 0x1.55548ap-3f;
    q = q * r + 0x1.fffffcp-2f;
    return r + r * r * q;
}
static inline float v_pow2(int32_t n) /* -126 <= n <= 127 */
{
    return v_float((int32_t)((uint32_t)(n + 127) << 23));
}

static inline float v_exp(float x)
{
    int32_t n;
    float r = v_exp_reduce(v_clamp(x, -104.0f, 89.0f), &n);
    int32_t half = n >> 1; /* two factors, so that results above 2^127 and below 2^-126 come out */
    return (1.0f + v_expm1_poly(r)) * v_pow2(half) * v_pow2(n - half);
}

static inline float v_expm1(float x)
{
    int32_t n;
    float r = v_exp_reduce(v_clamp(x, -20.0f, 89.0f), &n), p = v_expm1_poly(r);
    int32_t half = n >> 1;
    float a = v_pow2(half), b = v_pow2(n - half);
    float y = (p + (1.0f - v_pow2(n > 125 ? -125 : -n))) * a * b;
    return n == 0 ? p : y;
}

/* log(x) = e ln 2 + log(m), m in [sqrt(1/2), sqrt(2)). */
static inline float v_log(float x)
{
    float tiny = x < 0x1p-126f ? 0x1p23f : 1.0f; /* denormals are scaled up first */
    int32_t bits = v_bits(x * tiny);
    int32_t e = (int32_t)((uint32_t)bits - 0x3f3504f3u) >> 23; /* x < 0 wraps; its result is a NaN below */
    float f = v_float((int32_t)((uint32_t)bits - ((uint32_t)e << 23))) - 1.0f;
    float k = (float)e - (x < 0x1p-126f ? 23.0f : 0.0f);
    float q = 0x1.145796p-4f;
    q = q * f - 0x1.de3c04p-4f;
    q = q * f + 0x1.e6f06ap-4f;
    q = q * f - 0x1.fc220ap-4f;
    q = q * f + 0x1.233768p-3f;
    q = q * f - 0x1.555c4ep-3f;
    q = q * f + 0x1.99a4b6p-3f;
    q = q * f - 0x1.000006p-2f;
    q = q * f + 0x1.555548p-2f;
    float f2 = f * f;
    float y = f2 * f * q - k * 2.12194440e-4f;
    y = (f - 0.5f * f2 + y) + k * 0.693359375f;
    y = x > 0.0f ? y : (x == 0.0f ? -__builtin_inff() : __builtin_nanf(""));
    y = x > 0x1.fffffep127f ? x : y;
    return x != x ? x : y;
}

/* log(1 + u) for u >= 0: the rounding error of 1 + u is put back (Goldberg 1991, theorem 4, in its additive form). */
static inline float v_log1p(float u)
{
    float w = 1.0f + u;
    float lost = u - (w - 1.0f);
    return u > 0x1p24f ? v_log(u) : v_log(w) + lost / w;
}

static inline float v_tanh(float x)
{
    float a = v_abs(x), z = x * x;
    float t = -0x1.75e1ccp-8f;
    t = t * z + 0x1.52269cp-6f;
    t = t * z - 0x1.b83c5ap-5f;
    t = t * z + 0x1.110726p-3f;
    t = t * z - 0x1.555532p-2f;
    float small = a + a * z * t;
    float big = 1.0f - 2.0f / (v_exp(2.0f * v_clamp(a, 0.0f, 10.0f)) + 1.0f);
    return v_copysign(a < 0.625f ? small : big, x);
}

static inline float v_sigmoid(float x)
{
    float e = v_exp(-v_abs(x));
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

static inline float v_softplus(float x)
{
    return (x < 0.0f ? 0.0f : x) + v_log1p(v_exp(-v_abs(x)));
}

/* |x| < 1: an odd polynomial; else 1 - exp(log(erfc(|x|))), the logarithm being smooth. */
static inline float v_erf(float x)
{
    float c = v_clamp(x, -4.0f, 4.0f); /* erf(4) rounds to 1 */
    float z = c * c, a = v_abs(c);
    float s = 0x1.496a30p-14f;
    s = s * z - 0x1.a3f700p-11f;
    s = s * z + 0x1.5405b2p-8f;
    s = s * z - 0x1.b7f90ep-6f;
    s = s * z + 0x1.ce2cf8p-4f;
    s = s * z - 0x1.81273ep-2f;
    s = s * z + 0x1.06eba8p-3f;
    float l = 0x1.8bfd56p-13f;
    l = l * a - 0x1.859a44p-9f;
    l = l * a + 0x1.6778acp-6f;
    l = l * a - 0x1.a73a80p-4f;
    l = l * a - 0x1.4698a0p-1f;
    l = l * a - 0x1.20938cp+0f;
    l = l * a - 0x1.3b08d8p-12f;
    float big = 1.0f - v_exp(l);
    return a < 1.0f ? c + c * s : v_copysign(big, c);
}

/* x * Phi(x), Phi the normal distribution function. */
static inline float v_gelu(float x)
{
    return 0.5f * x * (1.0f + v_erf(x * 0.707106781f));
}
/* Its derivative: Phi(x) + x * phi(x). */
static inline float v_gelu_slope(float x)
{
    float c = v_clamp(x, -20.0f, 20.0f); /* beyond, it is 0 or 1 */
    return 0.5f * (1.0f + v_erf(c * 0.707106781f)) + c * 0.398942280f * v_exp(-0.5f * c * c);
}
/* The tanh form: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). */
static inline float v_gelu_tanh(float x)
{
    return 0.5f * x * (1.0f + v_tanh(0.797884561f * (x + 0.044715f * x * x * x)));
}
static inline float v_gelu_tanh_slope(float x)
{
    float c = v_clamp(x, -20.0f, 20.0f);
    float t = v_tanh(0.797884561f * (c + 0.044715f * c * c * c));
    return 0.5f * (1.0f + t) + 0.5f * c * (1.0f - t * t) * 0.797884561f * (1.0f + 0.134145f * c * c);
}

#endif
