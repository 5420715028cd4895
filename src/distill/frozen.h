/* frozen.h - a frozen model (the teacher, an exported student): planned with a batch of its own, run over any number of
 * samples, remembered (cache.h) where the same input comes again.
 *
 * A sample's outputs do not depend on its place in a batch: the graph has no coupling across the batch, and every run is
 * over a full batch (short ones are filled up). So what is remembered is what a fresh run would give, bit for bit. */
#ifndef DISTILL_DISTILL_FROZEN_H
#define DISTILL_DISTILL_FROZEN_H

#include "distill/cache.h"
#include "distill/feed.h"

typedef struct frozen_net {
    graph *g; /* owned */
    exec *e;
    int64_t batch;                  /* of the plan */
    feed in;                        /* input k of the model takes x[k], unless frozen_feed said otherwise */
    size_t n_out;                   /* graph outputs: logits (or whatever numbers the model gives) first, then the taps */
    size_t *width;                  /* [n_out] floats of one sample's output */
    tap_cache *cache;               /* owned; NULL: nothing is remembered */
    float **place;                  /* [n_out] scratch: where a sample's outputs go */
    uint64_t runs;                  /* samples computed */
    dtype narrow;                   /* images lie in it on the device; DTYPE_NONE: float32 */
    bool bf16;                      /* matrix products with constants are rounded to bfloat16 */
    size_t fp8;                     /* how many of them are rounded to 8 bits */
} frozen_net;

typedef struct frozen_rounding { /* of the operands of matrix products by constants; sums stay float */
    bool bf16;          /* to bfloat16 */
    const float *range; /* to 8 bits: what frozen_ranges found for the same model; NULL: not */
    size_t n_range;
} frozen_rounding;

/* What every frozen graph goes through before it runs, in this order: groups of QDQ form onto integers, constants,
 * batch norms, epilogues. */
MUST_USE status frozen_passes(graph *g);

/* Takes g (a frozen inference graph with inputs [batch, ...] of any type and float outputs [batch, ...] of any rank, planned
 * as it is); runs the passes for frozen graphs on it. Also on failure g is taken. */
MUST_USE status frozen_open(graph *g, backend *b, size_t memory_limit, frozen_net *out);
MUST_USE status frozen_open_in(graph *g, backend *b, size_t memory_limit, const frozen_rounding *how, frozen_net *out);
/* Runs samples (as frozen_run does) and raises range[v], of [t->g->n_value] that are 0 at first, to the largest absolute value of what
 * is multiplied by a constant matrix; +inf where one is not finite. */
MUST_USE status frozen_ranges(frozen_net *t, const void *const *x, size_t n, float *range);
void frozen_close(frozen_net *t);
/* Matches the inputs to those of a data set, and holds token ids against the tables they index. `who`: feed.h. */
MUST_USE status frozen_feed(frozen_net *t, const dataset *ds, const char *who);
const shape *frozen_shape(const frozen_net *t, size_t out); /* of output `out`, dimension 0 the planned batch */
/* From now on frozen_run_remembered remembers the outputs with a width in o->code (whose widths and outputs must be those of
 * the model, or 0). */
MUST_USE status frozen_remember(frozen_net *t, const cache_options *o);

/* n samples of every x[k] (batch.x) through the model; out[i]: [n, width[i]] or NULL when not wanted. */
MUST_USE status frozen_run(frozen_net *t, const void *const *x, size_t n, float *const *out);
/* The same for samples of a data set in fixed views, remembered in `cache` (t->cache, or another one for another part) by
 * (view, index); out[i] is needed where the cache keeps output i, and nothing else is written. */
MUST_USE status frozen_run_remembered(frozen_net *t, tap_cache *cache, const void *const *x, size_t n, const uint32_t *index,
                           const uint32_t *view, float *const *out);

#endif
