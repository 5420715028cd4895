/* qat_weight.h - power-of-two scales of a weight whose integers are multiples of 4. */
#ifndef DISTILL_QUANT_QAT_WEIGHT_H
#define DISTILL_QUANT_QAT_WEIGHT_H

#include "quant/weight.h"

/* scale [n_scale], one for each entry of `axis` or one for all. Of the three exponents from the one that holds the largest number
 * down the one of least squared error; none above `largest`, but coarser ones where 255 * sum |w| of a channel would come
 * near 2^24. A fixed weight (the equal numbers of a pool, powers of two) becomes 4, or more where `largest` asks for it. A channel
 * of zeros gets a small scale. v: float32 with its data. */
MUST_USE status weight_choose_powers(const value *v, int axis, int64_t n_scale, int limit, double largest, float *scale);

#endif
