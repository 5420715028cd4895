/* stats.h - when two figures of the matrix are different, and when only measured twice. */
#ifndef DISTILL_MATRIX_STATS_H
#define DISTILL_MATRIX_STATS_H

#include <stddef.h>
#include <stdint.h>

#define STATS_LEVEL 0.05 /* p-values below it are differences; intervals are of 1 - STATS_LEVEL */

/* Wilson's 95 % interval of a share, correct of n (Wilson 1927, eq. as in Brown, Cai, DasGupta 2001). n = 0: NAN. */
void stats_wilson(size_t correct, size_t n, double *low, double *high);
/* 95 % interval of the difference of two shares that were measured apart, a of n minus b of m (Newcombe 1998, method 10: from
 * both Wilson intervals). n or m = 0: NAN. */
void stats_newcombe(size_t a, size_t n, size_t b, size_t m, double *low, double *high);
/* McNemar's exact two-sided p-value from paired right/wrong marks: b samples right in the first only, c in the second only. */
double stats_mcnemar(size_t b, size_t c);
/* Counts b and c of two arrays of n marks (matrix_cell.right) and returns the p-value. */
double stats_paired(const uint8_t *first, const uint8_t *second, size_t n, size_t *b, size_t *c);

#endif
