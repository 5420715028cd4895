/* saturate.h - which int8 products may lose their value on x86 processors without VNNI, from the weights alone.
 *
 * Before VNNI, x86 multiplies uint8 by int8 and adds the products of two neighbours in 16 bits (vpmaddubsw), where what lies
 * beyond 32767 or -32768 is cut: engines that use it (ONNX Runtime, oneDNN, FBGEMM) then give other numbers than everywhere else.
 * Two weights of one sign whose sum is beyond 128 can do it: 255 * 129 > 32767. Which two meet is a matter of how an engine
 * lays the weights out, so the measure is a bound: the two largest of one sign in an output channel, wherever they stand.
 * A channel within it never saturates; one beyond it may, with large activations. Weights up to 64 are always within
 * ([quant] reduce_range, the portable profiles); ONNX Runtime's session.x64quantprecision = 1 uses other instructions. */
#ifndef DISTILL_QUANT_SATURATE_H
#define DISTILL_QUANT_SATURATE_H

#include "base/text.h"
#include "graph/graph.h"

enum { SATURATE_PAIR = 128 }; /* the largest |w1 + w2| that uint8 codes cannot push beyond 16 bits */

typedef struct saturation {
    int64_t products;  /* Conv, Gemm, MatMul by constant int8 weights: in QDQ form or as operators on integers; 0: no such model */
    int64_t channels;  /* their outputs */
    int64_t may;       /* of these, those beyond the bound */
    int64_t pair;      /* largest |w1 + w2| of one sign in a channel */
    const char *where; /* node that has it; borrowed from the graph */
} saturation;

saturation saturation_measure(const graph *g);
/* "3 of 74 channels of int8 weights may saturate on x86 without VNNI"; nothing when there are no products. */
void saturation_print(const saturation *s, text *t);
/* The same as fields of the open object: "saturation": {...}. */
void saturation_json(const saturation *s, json *j);

#endif
