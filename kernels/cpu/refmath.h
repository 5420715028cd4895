/* refmath.h - the names that ops/unary.def uses, by the C library, for `real` (float unless REAL_F64 is defined). */
#ifndef DISTILL_KERNELS_REFMATH_H
#define DISTILL_KERNELS_REFMATH_H

#include "kernels/cpu/cpu.h"

#include <math.h>

#if !defined(REAL_F32) && !defined(REAL_F64)
typedef float real;
#endif
#define C(number) ((real)(number))
#if !defined(REAL_F64)
#define EXP   expf
#define EXPM1 expm1f
#define LOG   logf
#define TANH  tanhf
#define ERF   erff
#define SQRT  sqrtf
#define SIN   sinf
#define COS   cosf
#define FLOOR floorf
#define CEIL  ceilf
#define RINT  rintf
#define ABS   fabsf
#define ERFC  erfcf
#define LOG1P log1pf
#else
#define EXP   exp
#define EXPM1 expm1
#define LOG   log
#define TANH  tanh
#define ERF   erf
#define SQRT  sqrt
#define SIN   sin
#define COS   cos
#define FLOOR floor
#define CEIL  ceil
#define RINT  rint
#define ABS   fabs
#define ERFC  erfc
#define LOG1P log1p
#endif

static inline real SIGMOID(real x)
{
    return x < 0 ? EXP(x) / (1 + EXP(x)) : 1 / (1 + EXP(-x));
}

/* log(1 + exp(x)) */
static inline real SOFTPLUS(real x)
{
    return x > 0 ? x + LOG1P(EXP(-x)) : LOG1P(EXP(x));
}

/* x Phi(x), Phi(x) = erfc(-x / sqrt 2) / 2; slope: Phi(x) + x exp(-x^2/2) / sqrt(2 pi). */
static inline real GELU(real x)
{
    return C(0.5) * x * ERFC(-x * C(0.70710678118654752));
}
static inline real GELU_SLOPE(real x)
{
    return C(0.5) * ERFC(-x * C(0.70710678118654752)) + x * C(0.39894228040143268) * EXP(-x * x / 2);
}

/* x (1 + tanh(u)) / 2, u = sqrt(2/pi) (x + 0.044715 x^3). */
static inline real GELU_BY_TANH(real x)
{
    return C(0.5) * x * (1 + TANH(C(0.79788456080286536) * (x + C(0.044715) * x * x * x)));
}
static inline real GELU_BY_TANH_SLOPE(real x)
{
    real t = TANH(C(0.79788456080286536) * (x + C(0.044715) * x * x * x));
    return C(0.5) * (1 + t) + C(0.5) * x * (1 - t * t) * C(0.79788456080286536) * (1 + C(0.134145) * x * x);
}

#endif
