/* stats.c - see stats.h. */
#include "matrix/stats.h"

#include <math.h>

#define Z 1.959963984540054 /* the normal distribution's quantile of 1 - STATS_LEVEL / 2 */

void stats_wilson(size_t correct, size_t n, double *low, double *high)
{
    double count = (double)n, p = (double)correct / count, z2 = Z * Z;
    *low = *high = (double)NAN;
    if (n == 0)
        return;
    double middle = (p + z2 / (2 * count)) / (1 + z2 / count);
    double half = Z / (1 + z2 / count) * sqrt(p * (1 - p) / count + z2 / (4 * count * count));
    *low = correct == 0 ? 0 : middle - half; /* exactly, where only rounding would make it another number */
    *high = correct == n ? 1 : middle + half;
}

void stats_newcombe(size_t a, size_t n, size_t b, size_t m, double *low, double *high)
{
    double l1, u1, l2, u2, p1 = (double)a / (double)n, p2 = (double)b / (double)m;
    *low = *high = (double)NAN;
    if (n == 0 || m == 0)
        return;
    stats_wilson(a, n, &l1, &u1);
    stats_wilson(b, m, &l2, &u2);
    *low = p1 - p2 - hypot(p1 - l1, u2 - p2);
    *high = p1 - p2 + hypot(u1 - p1, p2 - l2);
}

/* 2 P(X <= min(b, c)), X binomial of n = b + c tosses of a fair coin; at most 1. From the largest term downwards, each from
 * the one before: C(n, i-1) = C(n, i) i / (n - i + 1). */
double stats_mcnemar(size_t b, size_t c)
{
    size_t k = b < c ? b : c;
    double n = (double)b + (double)c, top = (double)k, sum = 0;
    int sign;
    if (b == c)
        return 1;
    double term = exp(lgamma_r(n + 1, &sign) - lgamma_r(top + 1, &sign) - lgamma_r(n - top + 1, &sign) - n * log(2));
    for (double i = top; term > sum * 1e-18; i--) {
        sum += term;
        if (i < 1)
            break;
        term *= i / (n - i + 1);
    }
    return sum < 0.5 ? 2 * sum : 1;
}

double stats_paired(const uint8_t *first, const uint8_t *second, size_t n, size_t *b, size_t *c)
{
    *b = *c = 0;
    for (size_t i = 0; i < n; i++) {
        *b += first[i] && !second[i];
        *c += !first[i] && second[i];
    }
    return stats_mcnemar(*b, *c);
}
