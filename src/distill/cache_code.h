/* cache_code.h - how a sample's teacher outputs are packed.
 *
 *   fp32   as they are
 *   fp16   rounded to nearest even; beyond +-65504 that
 *   top    of the logits (output 0) the K largest in fp32, lowest class first among equals, and one number that stands for
 *          all others: the logit that gives them together the share of softmax(z / T) that they have. Features are fp16.
 * What was packed unpacks to the same bits every time, so a run may pack and unpack what it has just computed and then
 * depends in no way on what was found in the cache. */
#ifndef DISTILL_DISTILL_CACHE_CODE_H
#define DISTILL_DISTILL_CACHE_CODE_H

#include "config/config.h"
#include <stddef.h>

typedef struct tap_code {
    cache_store_kind store;
    size_t n_out, top;
    const size_t *width; /* [n_out] floats of an output, 0: not kept; borrowed */
    double temperature;  /* of `top` */
} tap_code;

size_t code_bytes(const tap_code *c); /* of one sample, a multiple of 8 */
size_t code_offset(const tap_code *c, size_t k); /* where output k begins in it */
size_t code_top(const tap_code *c, size_t k);    /* logits that are kept of output k; 0: all numbers are */
/* out[k]: output k of the sample. What is between the end of the outputs and code_bytes is left as it is. */
void code_pack(const tap_code *c, const float *const *out, void *to);
void code_unpack(const tap_code *c, const void *from, float *const *out);

#endif
