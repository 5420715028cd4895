/* augment.h - random changes of training images: what is asked for. What is drawn and done is ops/picture.h.
 *
 * All randomness of sample i is a function of (seed, view, i): it does not depend on threads, on the batch or
 * on what was drawn before. Order: random resized crop, colour jitter, padded crop, flip, normalisation,
 * cutout, mixup. */
#ifndef DISTILL_DATA_AUGMENT_H
#define DISTILL_DATA_AUGMENT_H

#include "base/status.h"
#include "ops/picture.h"

/* "crop:2 flip" (blanks or commas between, "none" or "" for nothing). ST_CONFIG names the unknown word. */
MUST_USE status augment_parse(const char *text, augment_options *out);
bool augment_is_none(const augment_options *o);

double rng_beta(rng *r, double a); /* Beta(a, a), a > 0 */

#endif
