/* rng.h - all randomness comes from here.
 *
 * Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a counter-based
 * generator, so that the number for (seed, purpose, index) does not depend on who asked before. Nothing needs to be
 * saved in a checkpoint but the indices, and CPU and GPU give the same numbers. */
#ifndef DISTILL_BASE_RNG_H
#define DISTILL_BASE_RNG_H

#include <stdint.h>

/* What the numbers are for: each purpose is a stream of its own. */
typedef enum rng_purpose { RNG_INIT = 1, RNG_SHUFFLE, RNG_AUGMENT, RNG_SPLIT, RNG_DROPOUT, RNG_MIXUP, RNG_TEST } rng_purpose;

typedef struct rng {
    uint32_t key[2], counter[4], block[4];
    int left; /* unused words of block */
} rng;

/* A stream for one (seed, purpose, a, b): e.g. a = epoch, b = sample. */
rng rng_make(uint64_t seed, rng_purpose purpose, uint64_t a, uint32_t b);
uint32_t rng_u32(rng *r);
uint32_t rng_below(rng *r, uint32_t n); /* uniform in [0, n), unbiased (Lemire 2019); n >= 1 */
double rng_uniform(rng *r);             /* [0, 1), 53 bits */
double rng_normal(rng *r);              /* standard normal, Box-Muller */
/* Fisher-Yates over n indices. */
void rng_shuffle(rng *r, uint32_t *index, uint32_t n);

#endif
