/* frozen.h - a frozen model (the teacher, an exported student): planned with a batch of its own, run over any number of
 * samples, remembered where the same input comes again.
 *
 * A sample's outputs do not depend on its place in a batch: the graph has no coupling across the batch, and every run is
 * over a full batch (short ones are filled up). So what is remembered is what a fresh run would give, bit for bit. */
#ifndef DISTILL_DISTILL_FROZEN_H
#define DISTILL_DISTILL_FROZEN_H

#include "exec/exec.h"

typedef struct frozen_net {
    graph *g; /* owned */
    exec *e;
    int64_t batch;                  /* of the plan */
    size_t sample;                  /* floats of one input sample */
    size_t n_out;                   /* graph outputs: logits first, then the taps */
    size_t *width;                  /* [n_out] floats of one sample's output */
    int64_t classes;
    float *cache;                   /* [views][samples][classes] or NULL */
    uint8_t *known;                 /* [views][samples] */
    uint32_t views, samples;
    uint64_t runs, hits;            /* samples computed, samples remembered */
} frozen_net;

/* Takes g (a frozen inference graph with one float input and outputs [batch, ...], planned as it is); runs the passes
 * for frozen graphs on it. Also on failure g is taken. */
MUST_USE status frozen_open(graph *g, backend *b, size_t memory_limit, frozen_net *out);
void frozen_close(frozen_net *t);
/* Makes room to remember the logits of `samples` samples in `views` views. */
MUST_USE status frozen_remember(frozen_net *t, uint32_t views, uint32_t samples);

/* n samples x [n, sample] through the model; out[i]: [n, width[i]] or NULL when not wanted. */
void frozen_run(frozen_net *t, const float *x, size_t n, float *const *out);
/* The same for the logits alone, remembered by (view, index). */
void frozen_run_remembered(frozen_net *t, const float *x, size_t n, const uint32_t *index, const uint32_t *view,
                        float *logits);

#endif
