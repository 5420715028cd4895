/* qat.h - a trained student goes on training as the integer model that it will be.
 *
 *     float student, batch norm folded -> qat_rewrite (portable profiles) -> qat_calibrate -> qat_ranges
 *     float student (any batch), rewritten the same way -> qat_insert -> losses, gradients, updates as in any distillation
 *     the same with trained weights -> qat_to_qdq -> the QDQ graph that leaves
 *
 * Batch norm is folded into weights and biases from the start, with the running statistics of the trained student, and the
 * folded weights train on: there are no statistics left that could disagree between training and integer form (the
 * correction of Krishnamoorthi 2018, section 3.2.2, with its freezing at step 0). A FakeQuant node stands on every weight and
 * on every activation that places.h rounds, so the forward pass computes the integer model's numbers: the same bits where all
 * scales are powers of two, else within one step of an activation. A bias is rounded where the profile is portable, else when it
 * leaves (by half an accumulator unit at most).
 *
 * Scales. QAT_NONE: constants, from calibration. QAT_EMA: states; activations follow a moving average of the batches' ranges,
 * weights their largest number. QAT_LSQ: s * exp(p) with parameters p that train from 0 on (LSQ, Esser et al. 2020, with
 * the logarithm so that a scale stays positive and a step is a share of it). Portable profiles: constants 2^n. */
#ifndef DISTILL_QUANT_QAT_H
#define DISTILL_QUANT_QAT_H

#include "quant/calibrate.h"

typedef enum qat_learn { QAT_NONE, QAT_EMA, QAT_LSQ } qat_learn;

typedef struct qat_options {
    quant_scheme scheme;
    qat_learn learn;  /* portable: QAT_NONE whatever stands here */
    double momentum;  /* QAT_EMA: share of a batch in a range */
} qat_options;

/* Scale and zero point by the name of the value that is rounded. */
typedef struct qat_range {
    const char *name;
    quant_params at;
} qat_range;
typedef struct qat_ranges {
    qat_range *at;
    size_t n;
    arena mem;
} qat_ranges;
void qat_ranges_free(qat_ranges *r);

/* Images reach a student as (pixel / 255 - mean) / std per channel. */
typedef struct qat_pixels {
    const float *mean, *std; /* [channels] */
    int64_t channels;
} qat_pixels;

/* For portable profiles, in place; g: frozen, batch norm folded.
 *   (quant_prepare has made Gemm of MatMul + Add by then)
 *   - GlobalAveragePool, AveragePool (full windows) become depthwise convolutions with weights 4 (bias 2 is what rounding makes of
 *     0), scale 2^-n by the next power of two; what is missing from an area that is none goes into the weights behind it;
 *   - a batch norm that no convolution could take in becomes a convolution of 1 x 1 for each channel;
 *   - pixels not NULL and the image read by one Conv alone: the input becomes pixel / 256, its normalisation goes into that
 *     convolution's weights and bias. The border is then padded with black pixels instead of mean ones: QAT learns it.
 * The graph keeps its input (normalised images) behind two nodes that undo the normalisation while training; qat_to_qdq drops
 * them and *pixel_input says that it will. */
MUST_USE status qat_rewrite(graph *g, const qat_options *o, const qat_pixels *pixels, bool *pixel_input);

/* Ranges of all rounded activations of g (as qat_insert will get it) from a calibration that qat_open_calibration opened and
 * that has seen samples. Free with qat_ranges_free, also after failure. */
MUST_USE status qat_open_calibration(const graph *g, const qat_options *o, backend *b, calibration *out);
MUST_USE status qat_find_ranges(const graph *g, const qat_options *o, const calibration *c, qat_ranges *out);

/* In place. Under a portable profile a Clip from 0 becomes a Relu: the upper bound was there while the ranges were found, now
 * saturation is the bound. Constants that are weights become parameters (their contents the start values), under their names; scales are
 * NAME.scale (and NAME.log_scale, where they train), zero points NAME.zero, rounded activations NAME.rounded. ST_CONFIG where a value has no range. */
MUST_USE status qat_insert(graph *g, const qat_options *o, const qat_ranges *r);

/* ---- on training graphs ---- */

MUST_USE status qat_training_mode(graph *g); /* before gradients: relus into the FakeQuant behind them, ranges of batches */
MUST_USE status qat_add_updates(graph *g);   /* after gradients: moving ranges */
/* After the updates: portable weights, and their averages, keep to rule 4 (portable.h) wherever the steps would take them. */
MUST_USE status qat_add_caps(graph *g);

/* ---- out ---- */

/* The QDQ form (caller frees) of a graph of qat_insert whose parameters and states were baked, which it uses up: weights int8,
 * biases int32 with scale sx * sw, node shapes of insert.h. ST_DIVERGED when a learned scale is no positive number. */
MUST_USE status qat_to_qdq(graph *g, const qat_options *o, graph **out);

#endif
