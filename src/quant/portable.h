/* portable.h - proves from the integers alone that a quantised model gives the same bits on every engine that rounds to nearest.
 *
 * In: a graph in QDQ form, as imported (constants known, no fusion). The rules
 * (an integer engine, a float emulation, one rounding or two, pairwise 16-bit sums: all of them come to the same codes):
 *   1  every scale of an activation and of a weight is a power of two (weights per channel, of Gemm per tensor); a bias has
 *      scale sx * sw; codes are read with the parameters they were written with
 *   2  |w| <= 64: a sum of two u8 * s8 products stays within 16 bits
 *   3  weights are multiples of 4, the int32 bias is 2 mod 4, and the shift k = -log2(sx * sw / sy) is at least 3: no
 *      accumulator is ever a tie, for one rounding or for two
 *   4  255 * sum|w| + |b| < 2^24 for every output: sums are exact in float32 too
 *   5  zero points: what comes out of a relu 0 (of int8 -128), other tensors 128 (0); in the profile portable-s8 always 0 of
 *      int8. Saturation of the codes is the only bend, so a relu or clip cuts nothing else
 *   6  between the first and the last integer stand only: Conv and Gemm; Add, operands and sum at one scale; MaxPool, Reshape,
 *      Flatten, Squeeze, Unsqueeze, Transpose, Slice, Split, Pad with zeros, Concat and Resize (nearest), which change no
 *      scale. No average pool (write it as a depthwise convolution), no float operator
 *   (7 is how training holds rule 3 for weights near zero; there is nothing in it to check.)
 * Float operators behind the last integers (Softmax of the logits) are allowed and named: the promise ends before them. */
#ifndef DISTILL_QUANT_PORTABLE_H
#define DISTILL_QUANT_PORTABLE_H

#include "base/text.h"
#include "graph/graph.h"
#include "quant/scheme.h"

typedef struct portable_layer { /* a Conv or Gemm */
    const char *name, *op;
    int64_t outputs;
    int k_min, k_max; /* 0, 0 when a scale is no power of two */
    int w_max;        /* largest |w| */
    double bound;     /* largest 255 * sum|w| + |b| */
    bool proven;      /* no fault names it */
} portable_layer;

typedef struct portable_fault {
    const char *node;
    int rule;
    const char *what;
} portable_fault;

typedef struct portable_input { /* who runs the model feeds multiples of `scale` in [low, high] */
    const char *name;
    double scale, low, high;
} portable_input;

typedef struct portable_report {
    quant_profile profile; /* PROFILE_PORTABLE or PROFILE_PORTABLE_S8: the asked one, or the one that fits */
    portable_layer *layer;
    size_t n_layer, cap_layer;
    portable_fault *fault; /* none: proven. At most one for each node, rule and kind of fault */
    size_t n_fault, cap_fault;
    portable_input *input;
    size_t n_input, cap_input;
    const char **tail; /* names of float nodes behind the integers */
    size_t n_tail, cap_tail;
    arena mem; /* names and texts, copied */
} portable_report;

/* PROFILE_NONE: portable-s8 when every activation is int8 with zero point 0, else portable. Fails only for want of memory;
 * what the model breaks is in the report. Free it also after failure. */
MUST_USE status portable_check(const graph *g, quant_profile profile, portable_report *out);
void portable_free(portable_report *r);
/* A table of layers, the faults, "portable: proven" or not. */
void portable_print(const portable_report *r, text *t);
/* The same as fields of the open object: "portable": {...}. */
void portable_json(const portable_report *r, json *j);

#endif
