/* qat_weight.h - power-of-two scales of a weight whose integers are multiples of 4. */
#ifndef DISTILL_QUANT_QAT_WEIGHT_H
#define DISTILL_QUANT_QAT_WEIGHT_H

#include "quant/weight.h"

/* Rule 4, 255 * sum |w| + |b| < 2^24, with half of it for each: what a channel's integers and its bias may reach. */
#define PORTABLE_SUM_MAX  32896.0
#define PORTABLE_BIAS_MAX 8388606.0

/* What sum |w| / scale of a channel of `each` weights may be so that its integers, multiples of 4, stay within PORTABLE_SUM_MAX:
 * rounding adds 2 at most to each, and at most doubles it. */
double weight_sum_max(int64_t each);

/* scale [n_scale], one for each entry of `axis` or one for all. Of the three exponents from the one that holds the largest number
 * down the one of least squared error; none above `largest`, but coarser ones where a channel's sum
 * would be above weight_sum_max. A fixed weight (the equal numbers of a pool, powers of two) becomes 4, or more where `largest` asks for it. A channel
 * of zeros gets a small scale. v: float32 with its data. */
MUST_USE status weight_choose_powers(const value *v, int axis, int64_t n_scale, int limit, double largest, float *scale);

#endif
