/* bert.h - a small network of BERT's kind for tests: embedded words, encoder layers, a class from the first word. */
#ifndef DISTILL_TESTS_BERT_H
#define DISTILL_TESTS_BERT_H

#include "graph/graph.h"

typedef struct bert_sizes {
    int64_t batch, tokens, width, wide, heads, words, classes, layers;
    bool pre_norm; /* layers normalise what they read; else sums of residuals are normalised (as in BERT) */
    bool apart;    /* weights of attention are scaled once more: it stays products and a softmax */
    bool masked;   /* the last token of every sentence is not attended to */
    uint32_t seed; /* of its weights, which are parameters */
} bert_sizes;

/* Input "tokens" [batch, tokens] int64, output logits [batch, classes]. */
graph *bert_make(const bert_sizes *s);

#endif
