/* calibrate.h - runs a float network over samples and counts what its values are.
 *
 *     calibration_open -> calibration_add for every batch -> params -> insert.h
 *
 * The network is an inference graph whose inputs are [batch, ...]; the values of interest become outputs of a copy of it.
 * Of a batch that is not full the last samples are repeated to fill it; of values whose dimension 0 goes with the batch
 * only the rows of real samples are counted. */
#ifndef DISTILL_QUANT_CALIBRATE_H
#define DISTILL_QUANT_CALIBRATE_H

#include "exec/exec.h"
#include "quant/histogram.h"
#include "quant/places.h"

typedef struct watched { /* a value, and the histogram that counts it (several values may share one) */
    value_id v;
    uint32_t to;
} watched;

typedef struct calibration {
    const graph *of; /* borrowed */
    graph *g;        /* the copy that runs */
    exec *e;
    watched *watch; /* [n_watch] values of `of` */
    value_id *at;   /* [n_watch] the same in g */
    size_t n_watch;
    histogram *hist; /* [n_hist] */
    size_t n_hist;
    int64_t batch;
    uint64_t samples; /* seen so far */
} calibration;

/* Borrows g and b until calibration_close, which may be called also after failure. `bins` false: minimum and maximum alone. */
MUST_USE status calibration_open(const graph *g, const watched *watch, size_t n_watch, size_t n_hist, bool bins, backend *b,
                                 calibration *out);
/* The rounded activations of p: one histogram for each group; what is only moved is not looked at again. */
MUST_USE status calibration_open_places(const graph *g, const places *p, backend *b, calibration *out);
void calibration_close(calibration *c);

/* n samples of every input: x[k] goes to the graph's input k. ST_BAD_DATA, naming the value, when a number is not finite. */
MUST_USE status calibration_add(calibration *c, const void *const *x, size_t n);

/* Scale and zero point of every group of p, into out [p->n_group]. ST_BAD_DATA when there were no samples, or when an input
 * had one number throughout: no range can come from that. */
MUST_USE status calibration_params(const calibration *c, const places *p, const quant_scheme *s, quant_params *out);

/* ST_BAD_DATA when watch[i], what the network takes in, was one number throughout. */
MUST_USE status calibration_check_input(const calibration *c, size_t i);

/* How many samples a calibration of g (imported with batch `batch`) should take at once so that all rounded values
 * together stay near `bytes`: at least 1, at most 64. */
int64_t calibration_batch(const graph *g, const places *p, int64_t batch, size_t bytes);

#endif
