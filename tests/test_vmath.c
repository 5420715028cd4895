/* test_vmath.c - the polynomials of kernels/cpu/vmath.h against the C library in double, over floats of every exponent. */
#include "base/rng.h"
#include "harness.h"
#include "kernels/cpu/vmath.h"

#include <math.h>
#include <stdlib.h>

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}
static double softplus(double x)
{
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}
static double gelu(double x)
{
    return 0.5 * x * erfc(-x * sqrt(0.5));
}
static double gelu_slope(double x)
{
    return 0.5 * erfc(-x * sqrt(0.5)) + x * exp(-x * x / 2) * 0.3989422804014327;
}
static double gelu_tanh(double x)
{
    return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}
static double gelu_tanh_slope(double x)
{
    double t = tanh(0.7978845608028654 * (x + 0.044715 * x * x * x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.7978845608028654 * (1 + 3 * 0.044715 * x * x);
}

typedef struct function {
    const char *name;
    float (*fast)(float);
    double (*exact)(double);
    double lo, hi;
    double ulp;      /* allowed error in units of the result's last place; 0: `absolute` is used */
    double absolute; /* times max(1, |x|) */
} function;
static const function functions[] = {
    {"v_exp", v_exp, exp, -INFINITY, INFINITY, 1.05, 0},
    {"v_expm1", v_expm1, expm1, -INFINITY, INFINITY, 1.6, 0},
    {"v_log", v_log, log, -INFINITY, INFINITY, 1.2, 0},
    {"v_log1p", v_log1p, log1p, 0, INFINITY, 1.7, 0},
    {"v_tanh", v_tanh, tanh, -INFINITY, INFINITY, 1.4, 0},
    {"v_sigmoid", v_sigmoid, sigmoid, -INFINITY, INFINITY, 2.4, 0},
    {"v_softplus", v_softplus, softplus, -INFINITY, INFINITY, 2.5, 0},
    {"v_erf", v_erf, erf, -INFINITY, INFINITY, 1.3, 0},
    {"v_gelu", v_gelu, gelu, -1e6, 1e6, 0, 2e-7},
    {"v_gelu_slope", v_gelu_slope, gelu_slope, -1e6, 1e6, 0, 2e-7},
    {"v_gelu_tanh", v_gelu_tanh, gelu_tanh, -1e6, 1e6, 0, 2e-7},
    {"v_gelu_tanh_slope", v_gelu_tanh_slope, gelu_tanh_slope, -1e6, 1e6, 0, 2e-7},
};

/* Error of y against the exact r in the unit of the function's tolerance; infinite where the class is wrong. */
static double error_of(const function *f, float x, float y, double r)
{
    float rounded = (float)r;
    if (isnan(r))
        return isnan(y) ? 0 : (double)INFINITY;
    if (isinf(rounded) || isinf(y))
        return rounded == y || fabs(r) > 3.4028233e38 ? 0 : (double)INFINITY;
    if (f->ulp == 0)
        return fabs((double)y - r) / fmax(1, fabs((double)x));
    int e;
    (void)frexp(r, &e);
    return fabs((double)y - r) / ldexp(1, (e < -125 ? -125 : e) - 24);
}

START_TEST(functions_are_accurate)
{
    rng r = rng_make(1, RNG_TEST, 0, 0);
    for (size_t k = 0; k < sizeof functions / sizeof *functions; k++) {
        const function *f = &functions[k];
        double worst = 0, allowed = f->ulp > 0 ? f->ulp : f->absolute;
        float at = 0;
        for (int64_t i = 0; i < 600000; i++) {
            /* every third: random bits; the others: where the functions bend */
            float x = i % 3 ? (float)(rng_normal(&r) * (i % 3 == 1 ? 2 : 30)) : v_float((int32_t)rng_u32(&r));
            if (!((double)x >= f->lo && (double)x <= f->hi))
                continue;
            double e = error_of(f, x, f->fast(x), f->exact((double)x));
            if (!(e <= worst)) {
                worst = e;
                at = x;
            }
        }
        test_max_error(f->name, worst, allowed);
        ck_assert_msg(worst <= allowed, "%s: error %g at %a", f->name, worst, (double)at);
    }
}
END_TEST

START_TEST(special_values)
{
    const float inf = INFINITY;
    for (size_t k = 0; k < sizeof functions / sizeof *functions; k++)
        ck_assert_msg(isnan(functions[k].fast(NAN)), "%s(NaN) is a number", functions[k].name);
    ck_assert(v_exp(-inf) == 0 && v_exp(inf) == inf && v_exp(0) == 1);
    ck_assert(v_expm1(-inf) == -1 && v_expm1(inf) == inf);
    ck_assert(v_log(0) == -inf && v_log(-0.0f) == -inf && v_log(inf) == inf && isnan(v_log(-1)) &&
              v_log(1) == 0);
    ck_assert(v_tanh(inf) == 1 && v_tanh(-inf) == -1 && signbit(v_tanh(-0.0f)));
    ck_assert(v_sigmoid(inf) == 1 && v_sigmoid(-inf) == 0 && v_sigmoid(0) == 0.5f);
    ck_assert(v_softplus(inf) == inf && v_softplus(-inf) == 0);
    ck_assert(v_erf(inf) == 1 && v_erf(-inf) == -1 && signbit(v_erf(-0.0f)));
    ck_assert(v_gelu_slope(inf) == 1 && v_gelu_slope(-inf) == 0);
    ck_assert(v_gelu_tanh_slope(inf) == 1 && v_gelu_tanh_slope(-inf) == 0);
}
END_TEST

const test_entry test_table[] = {TEST(functions_are_accurate), TEST(special_values), {0}};
