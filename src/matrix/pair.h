/* pair.h - are two cells of different accuracy, or is it chance? */
#ifndef DISTILL_MATRIX_PAIR_H
#define DISTILL_MATRIX_PAIR_H

#include "matrix/matrix.h"

typedef struct pair_result {
    double drop;  /* accuracy of the first minus that of the second, over the samples that both ran; NAN: one has none */
    bool paired;  /* both have marks (matrix_cell.right): McNemar's test over the first n samples */
    size_t n, b, c; /* paired: samples, right in the first only, right in the second only */
    double p;     /* paired: two-sided; else NAN, and Newcombe's interval of the drop is low to high */
    double low, high;
    bool beyond;  /* the difference is beyond chance (stats.h: STATS_LEVEL) */
} pair_result;

/* same_samples: sample i is the same in both, as in all cells of one matrix. */
pair_result pair_compare(const matrix_cell *first, const matrix_cell *second, bool same_samples);
/* "p = 0.31: 12 against 9 of 10000", "interval -0.002 to 0.011"; into buf, which it returns. */
#define PAIR_ROOM 120
const char *pair_text(const pair_result *r, char *buf);

#endif
