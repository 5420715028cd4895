/* weight.h - the weight and bias of a product as integers: w = scale * q without zero point, b = sx * scale * q. */
#ifndef DISTILL_QUANT_WEIGHT_H
#define DISTILL_QUANT_WEIGHT_H

#include "quant/places.h"

typedef struct int_weight {
    int64_t channels; /* output channels */
    int64_t n_scale;  /* channels, or 1 */
    int8_t *q;        /* as the weight lies, |q| <= scheme.weight_limit */
    float *scale;     /* [n_scale] */
    int32_t *bias;    /* [channels]; NULL: the product has none */
    float *bias_scale; /* [n_scale] sx * scale, as floats multiply */
    size_t widened;   /* channels whose scale was made wider, so that bias and sums fit int32 */
} int_weight;

/* Where channel c of a tensor lies: elements (o * channels + c) * inner + i, o < outer, i < inner. */
typedef struct channel_steps {
    int64_t outer, channels, inner;
} channel_steps;
channel_steps channel_steps_of(const shape *sh, int axis);

/* Of product n (its weight and bias constants, or with start values) whose data comes in with scale sx. A scale holds the
 * largest number of its channel; with power_of_two the exponent of least squared error. A channel of zeros gets a scale that
 * its bias can do with. Wider scales are taken where the bias or the largest possible sum would leave int32. In `mem`. */
MUST_USE status int_weight_make(const graph *g, const node *n, const quant_scheme *s, float sx, arena *mem, int_weight *out);

#endif
