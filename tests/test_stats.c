/* test_stats.c - intervals and p-values against published examples and against exact arithmetic. */
#include "harness.h"
#include "matrix/stats.h"

#include <math.h>

static bool close_to(double have, double want, double relative)
{
    return fabs(have - want) <= relative * fabs(want) + 1e-300;
}

START_TEST(wilson_is_the_published_interval)
{
    /* 81/263, 15/148, 0/20 and 1/29 are the examples of Newcombe (1998), who prints .2553 to .3662, .0624 to .1605, 0 to .1611
     * and .0061 to .1718; all digits here: the formula in decimal arithmetic of 40 digits. */
    static const struct {
        size_t correct, n;
        double low, high;
    } rows[] = {
        {81, 263, 0.255288519878274, 0.366209576982800}, {15, 148, 0.062386399530736, 0.160487241723308},
        {0, 20, 0, 0.161125158052819},                   {1, 29, 0.006113214292763, 0.171755218793203},
        {0, 10, 0, 0.277532799862889},                   {10, 10, 0.722467200137111, 1},
        {8, 10, 0.490162471536642, 0.943317848545625},   {0, 1, 0, 0.793450685622763},
        {1, 1, 0.206549314377237, 1},                    {9226, 10000, 0.917198698918983, 0.927676745658121},
        {500, 500, 0.992375659538448, 1},                {50000, 100000, 0.496901084359690, 0.503098915640310},
    };
    double low, high, worst = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        stats_wilson(rows[i].correct, rows[i].n, &low, &high);
        ck_assert_msg(close_to(low, rows[i].low, 1e-12) && close_to(high, rows[i].high, 1e-12), "%zu of %zu: %.15f to %.15f",
                      rows[i].correct, rows[i].n, low, high);
        worst = fmax(worst, fmax(fabs(low - rows[i].low), fabs(high - rows[i].high)));
    }
    test_max_error("Wilson's interval", worst, 1e-12);
    stats_wilson(0, 0, &low, &high);
    ck_assert(isnan(low) && isnan(high));
}
END_TEST

/* The interval must hold what it says: exact coverage, summed over the binomial distribution, lies about 95 %. */
START_TEST(wilson_covers_about_95_percent)
{
    static const double shares[] = {0.5, 0.8, 0.92, 0.95};
    enum { N = 500 };
    for (size_t s = 0; s < 4; s++) {
        double p = shares[s], covered = 0, low, high;
        int sign;
        for (size_t k = 0; k <= N; k++) {
            stats_wilson(k, N, &low, &high);
            if (low <= p && p <= high)
                covered += exp(lgamma_r(N + 1, &sign) - lgamma_r((double)k + 1, &sign) - lgamma_r((double)(N - k) + 1, &sign) +
                               (double)k * log(p) + (double)(N - k) * log(1 - p));
        }
        ck_assert_msg(covered > 0.93 && covered < 0.97, "p = %g: %g", p, covered);
    }
}
END_TEST

START_TEST(newcombe_is_the_published_interval)
{
    /* The eight examples of Newcombe (1998), Statistics in Medicine 17:873, table II, method 10. */
    static const struct {
        size_t a, n, b, m;
        double low, high;
    } rows[] = {
        {56, 70, 48, 80, .0524, .3339}, {9, 10, 3, 10, .1705, .8090}, {6, 7, 2, 7, .0582, .8062},   {5, 56, 0, 29, -.0381, .1926},
        {0, 10, 0, 20, -.1611, .2775},  {0, 10, 0, 10, -.2775, .2775}, {10, 10, 0, 20, .6791, 1.0}, {10, 10, 0, 10, .6075, 1.0},
    };
    double low, high;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        stats_newcombe(rows[i].a, rows[i].n, rows[i].b, rows[i].m, &low, &high);
        ck_assert_msg(fabs(low - rows[i].low) < 5.1e-5 && fabs(high - rows[i].high) < 5.1e-5, "row %zu: %.6f to %.6f", i, low, high);
    }
    stats_newcombe(0, 0, 1, 2, &low, &high);
    ck_assert(isnan(low) && isnan(high));
}
END_TEST

START_TEST(mcnemar_is_the_exact_binomial_test)
{
    static const struct { /* in fractions: 2 sum C(n, i) / 2^n */
        size_t b, c;
        double p;
    } rows[] = {
        {0, 0, 1},          {1, 0, 1},         {4, 4, 1},  {8, 7, 1},
        {0, 5, 0.0625},     {5, 1, 0.21875},   {10, 1, 0.01171875}, {25, 4, 0.00010371580719947815},
        {15, 6, 0.0783538818359375},           {121, 59, 4.4344492637551764e-06},
        {59, 121, 4.4344492637551764e-06},     {0, 60, 1.7347234759768071e-18},
        {1000, 1100, 0.030720707864242296},    {5000, 5200, 0.048787963126822452}, {3, 900, 3.6295984285091712e-264},
    };
    double worst = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double p = stats_mcnemar(rows[i].b, rows[i].c);
        ck_assert_msg(close_to(p, rows[i].p, 1e-10), "%zu, %zu: %.17g", rows[i].b, rows[i].c, p);
        worst = fmax(worst, fabs(p / rows[i].p - 1));
    }
    test_max_error("McNemar's p, relative", worst, 1e-10);
    double huge = stats_mcnemar(50000000, 50000000 + 10000), tiny = stats_mcnemar(0, 1000000);
    ck_assert_msg(huge > 0.31 && huge < 0.32, "1 standard deviation of 1e8 tosses: %g", huge);
    ck_assert(tiny >= 0 && tiny < 1e-300);
}
END_TEST

START_TEST(pairs_are_counted)
{
    static const uint8_t first[] = {1, 1, 0, 0, 1, 0, 1, 1}, second[] = {1, 0, 1, 0, 0, 0, 0, 1};
    size_t b, c;
    double p = stats_paired(first, second, 8, &b, &c);
    ck_assert_uint_eq(b, 3);
    ck_assert_uint_eq(c, 1);
    ck_assert(close_to(p, 0.625, 1e-12));
    p = stats_paired(first, second, 0, &b, &c);
    ck_assert(b == 0 && c == 0 && close_to(p, 1, 1e-15));
}
END_TEST

const test_entry test_table[] = {TEST(wilson_is_the_published_interval), TEST(wilson_covers_about_95_percent),
                                 TEST(newcombe_is_the_published_interval), TEST(mcnemar_is_the_exact_binomial_test),
                                 TEST(pairs_are_counted), {0}};
