/* half.h - a float32 network in float16: weights and everything between the inputs and the outputs. */
#ifndef DISTILL_QUANT_HALF_H
#define DISTILL_QUANT_HALF_H

#include "quant/ptq.h"

/* Largest finite float16. */
#define HALF_MAX 65504.0

/* What does not fit. */
typedef struct half_tensor {
    const char *name;
    double largest; /* |number| */
    bool weight;
} half_tensor;

typedef struct half_report {
    arena mem;
    half_tensor *over; /* [n_over] tensors with numbers beyond float16: they saturate to infinity, in order of execution */
    size_t n_over;
    uint64_t tiny;     /* weights that become 0 */
    uint64_t samples;  /* that activations were looked at on */
} half_report;
void half_report_free(half_report *r);

/* A new graph (caller frees) from inference graph g, which pass_drop_identity and pass_fold_batch_norm change. Inputs and
 * outputs stay float32 behind casts, or become float16 (half_io). */
MUST_USE status half_make(graph *g, bool half_io, graph **out);
/* Which weights, and which values on these samples, are beyond float16. `from` NULL: weights alone. */
MUST_USE status half_check(const graph *g, backend *b, const sample_source *from, half_report *out);

#endif
