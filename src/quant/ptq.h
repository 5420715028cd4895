/* ptq.h - post-training quantisation: a float network and some samples become a network in QDQ form. */
#ifndef DISTILL_QUANT_PTQ_H
#define DISTILL_QUANT_PTQ_H

#include "quant/insert.h"

/* Where samples come from. `next` points x at the next n samples of every input (x[k] for the graph's input k; valid until
 * the next call); n = 0: there are no more. */
typedef struct sample_source {
    status (*next)(void *ctx, const void *const **x, size_t *n);
    void *ctx;
} sample_source;

/* What was done, for people and for metadata. */
typedef struct ptq_facts {
    size_t products, kept; /* products whose weights became integers; products that stay float */
    size_t rounded;        /* activations that are rounded */
    uint64_t samples;      /* that calibration saw */
    double seconds;        /* of calibration */
} ptq_facts;

/* g: an inference graph, weights constants, planned for g's batch; quant_prepare changes it. *out (the caller frees) has the
 * same inputs, outputs and batch. facts may be NULL. Errors: places.h, calibrate.h, weight.h; ST_BAD_DATA when nothing in g
 * can be quantised. */
MUST_USE status ptq_make(graph *g, const quant_scheme *s, backend *b, const sample_source *from, graph **out, ptq_facts *facts);

/* The same when the ranges are known: one params per group of p (sensitivity makes many networks from one calibration). */
MUST_USE status ptq_calibrate(const graph *g, const places *p, const quant_scheme *s, backend *b, const sample_source *from,
                              quant_params *params, ptq_facts *facts);

#endif
