/* scheme.h - how numbers become integers: what the user chose, in the form that calibration, insertion and QAT read.
 *
 * The quantised model is always a graph in QDQ form: QuantizeLinear and DequantizeLinear around float operators, weights
 * as int8 constants behind DequantizeLinear, bias as an int32 constant behind DequantizeLinear with scale sx * sw and no
 * zero point. Nothing else carries information about quantisation. */
#ifndef DISTILL_QUANT_SCHEME_H
#define DISTILL_QUANT_SCHEME_H

#include "graph/types.h"

typedef enum quant_method { /* how a range comes from what calibration saw (calibrate.h) */
    QUANT_MINMAX,
    QUANT_PERCENTILE,
    QUANT_ENTROPY,
    QUANT_MSE
} quant_method;

typedef enum quant_profile { PROFILE_NONE, PROFILE_PORTABLE, PROFILE_PORTABLE_S8 } quant_profile;

typedef struct quant_scheme {
    dtype activations;   /* DTYPE_U8 or DTYPE_I8 */
    bool symmetric;      /* activations: zero point 0 (I8), 128 or, where nothing is negative, 0 (U8) */
    bool per_channel;    /* weights: a scale for each output channel; classifiers of a portable profile never */
    int weight_limit;    /* largest |integer| of a weight: 127; 64 so that no sum of two u8*s8 products leaves 16 bits */
    bool power_of_two;   /* every scale is 2^n */
    quant_profile profile;
    quant_method method;
    double percentile;   /* of QUANT_PERCENTILE: share of the numbers inside the range, in percent */
    const char *const *keep_float; /* patterns (* and ?) of names of nodes, values or operators that stay float */
    size_t n_keep_float;
} quant_scheme;

/* U8 asymmetric, weights per channel up to 127, MSE. */
quant_scheme quant_scheme_default(void);
/* The same with what the profile demands: U8 (or I8), symmetric, powers of two, weights up to 64. */
quant_scheme quant_scheme_portable(quant_profile profile);

/* Scale and zero point of an activation, or scales of a weight with zero point 0. */
typedef struct quant_params {
    float scale;
    int32_t zero; /* what 0.0 becomes */
} quant_params;

/* Lowest and highest integer of a type. */
static inline int quant_low(dtype t)
{
    return t == DTYPE_U8 ? 0 : -128;
}
static inline int quant_high(dtype t)
{
    return t == DTYPE_U8 ? 255 : 127;
}

#endif
