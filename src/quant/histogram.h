/* histogram.h - what calibration saw of a tensor, and the range that follows from it.
 *
 * The width of a bin is the smallest power of two by which all numbers fall into the bins; when the range grows, pairs of
 * bins are joined. So the counts are a function of the numbers alone: not of their order, their batches or of threads. Zeros
 * are counted apart: every scale holds them exactly, and after a Relu they would hide all else. */
#ifndef DISTILL_QUANT_HISTOGRAM_H
#define DISTILL_QUANT_HISTOGRAM_H

#include "base/mem.h"
#include "quant/scheme.h"

enum { HISTOGRAM_SIDE = 2048 }; /* bins on each side of zero */

typedef struct histogram {
    double min, max;  /* of all numbers; min > max: there were none */
    uint64_t n, zeros; /* numbers; those of them that are zero */
    int exponent;     /* bin i holds [(i - HISTOGRAM_SIDE) * 2^exponent, one width further) */
    uint64_t *bin;    /* [2 * HISTOGRAM_SIDE]; NULL: minimum and maximum alone are kept */
} histogram;

MUST_USE status histogram_new(histogram *h, bool bins); /* empty; free with histogram_free */
void histogram_free(histogram *h);
/* False: one of the numbers is not finite (nothing is added then). */
bool histogram_add(histogram *h, const float *x, size_t n);

typedef struct quant_range {
    double lo, hi; /* lo <= 0 <= hi */
} quant_range;

/* The range that the scheme's method finds for numbers like these (none: 0 to 0).
 *   minmax      all of them
 *   percentile  (100 - p) / 2 percent lie beyond each end
 *   entropy     the threshold at which the histogram, cut there and made coarse to as many levels as the type has, is nearest
 *               in KL divergence (Migacz, "8-bit inference with TensorRT", GTC 2017; as ONNX Runtime's calibrater, but for
 *               the side of zero on which there is nothing, and at most one number in a thousand is cut)
 *   mse         smallest squared error of rounding and cutting, each end found for itself */
quant_range histogram_range(const histogram *h, const quant_scheme *s, bool positive);
/* Scale and zero point of that range; with power_of_two the exponent of least squared error. */
quant_params histogram_params(const histogram *h, const quant_scheme *s, bool positive);
/* Scale and zero point that hold a range: a range of nothing gives scale 1. `positive`: nothing below zero occurs. */
quant_params quant_params_of(quant_range r, const quant_scheme *s, bool positive);
/* Mean squared error of the numbers as those integers. */
double histogram_error(const histogram *h, const quant_scheme *s, quant_params p);

#endif
