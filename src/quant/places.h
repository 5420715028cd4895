/* places.h - where a network is quantised: the one answer that PTQ (insert.h) and QAT build on.
 *
 * In: a graph of float operators (an imported or built inference graph, before layout and fusion; weights constants or
 * parameters) and a scheme. Out: for every node whether it works on integers, for every value whether it is rounded to
 * integers and with whom it shares a scale.
 *
 * A node is one of these (table in places.c):
 *   product   Conv, ConvTranspose, Gemm, MatMul with a constant or trained matrix as second operand: data, weight and bias
 *             become integers. A BatchNormalization that alone reads the product belongs to it (it is folded, or will be),
 *             and so does a Relu, or a Clip that cuts at 0, that alone reads the result: only its output is rounded.
 *   sum       Add of two tensors of one shape, both available as integers; with a Relu as above. Under a portable profile
 *             both operands and the sum share one scale.
 *   move      MaxPool, Reshape, Flatten, Squeeze, Unsqueeze, Transpose, Slice, Split, Concat, Pad with zeros, Resize nearest,
 *             AveragePool, a Dropout or Identity: what comes in and what goes out share one scale. Integer when all
 *             that comes in is available as integers.
 *   mean      GlobalAveragePool, ReduceMean, a Relu or Clip that stands for itself: the result has its own scale.
 *   float     everything else (Softmax, Sigmoid, LayerNormalization, Mul ...) and what keep_float names. Such a node reads the
 *             rounded numbers where an integer node made them, and its result is rounded where an integer node reads it.
 *
 * A value is available as integers when an integer node makes it or a product reads it. The results of products whose
 * readers all are float stay float for MatMul (a transformer's sums are not rounded), and are rounded for the others. */
#ifndef DISTILL_QUANT_PLACES_H
#define DISTILL_QUANT_PLACES_H

#include "graph/graph.h"
#include "quant/scheme.h"

typedef struct place {
    bool rounded;   /* an activation that is rounded to integers */
    bool moved;     /* ... and made by a move: its numbers are those of its operands (calibration need not look) */
    bool made_int;  /* ... and made by an integer node: whoever reads it, reads the rounded numbers */
    uint32_t group; /* rounded: values of one group share scale and zero point; in [0, n_group) */
} place;

typedef struct place_group {
    bool positive; /* nothing in it can be negative (all of it comes out of Relu and the like) */
    bool output;    /* holds an output of the graph, which calibration by entropy or percentile does not cut */
    value_id first; /* its first value, for messages */
} place_group;

/* Which operand of a product is what. */
typedef struct product_operands {
    int bias;  /* input number, always 2; -1: there is none, or none that is constant or trained */
    int axis;  /* output channels in the weight (input 1); for a matrix the columns that the product makes */
} product_operands;

typedef struct places {
    place *value;       /* [n_value] */
    uint8_t *integer;   /* [n_node] the node works on integers */
    uint8_t *product;   /* [n_node] and is a product */
    value_id *tail;     /* [n_node] of products and sums: the value that is rounded for them (their own output, or that of
                           the batch norm and relu that belong to them); 0 otherwise */
    place_group *group; /* [n_group] */
    size_t n_value, n_node, n_group;
} places;

/* Free with places_free, also after failure. ST_CONFIG when a pattern of keep_float matches nothing. */
MUST_USE status places_find(const graph *g, const quant_scheme *s, places *out);
void places_free(places *p);

/* Does input i of node k read the rounded numbers of its value (an activation's)? */
bool places_reads_rounded(const places *p, const graph *g, node_id k, int i);
/* Does the graph's output number i give the rounded numbers? */
bool places_gives_rounded(const places *p, const graph *g, size_t i);
/* n is a Relu, or a Clip from 0. */
bool places_clamps_at_zero(const graph *g, const node *n);
product_operands places_operands(const graph *g, const node *n);
/* Weights of this product get one scale for each channel (else one for the tensor). */
bool places_per_channel(const graph *g, const node *n, const quant_scheme *s);

/* Text with * and ? (any characters, one character). */
bool pattern_matches(const char *pattern, const char *name);

#endif
