/* qdq.h - reads the QDQ form: what QuantizeLinear and DequantizeLinear nodes with constant parameters say of a tensor.
 *
 * A quantised tensor is integers (codes) that stand for reals: real = scale * (code - zero). Whoever looks at a graph in QDQ
 * form (the TFLite writer, the check of portable models) asks here and never takes the nodes apart itself. */
#ifndef DISTILL_OPS_QDQ_H
#define DISTILL_OPS_QDQ_H

#include "graph/graph.h"

typedef struct qdq {
    value_id codes;     /* the value that holds them */
    dtype type;         /* of the codes: uint8, int8, int32 */
    const shape *sh;    /* of the codes; dies when a value is added */
    const void *data;   /* contents, when they are constant; else NULL */
    int64_t n;          /* scales: 1, or one for each index of dimension `axis` */
    int axis;           /* 0 when n is 1 */
    const float *scale; /* [n] */
    const void *zero;   /* [n] of `type`; NULL: zeros */
} qdq;

bool qdq_is_quantize(const node *n);
bool qdq_is_dequantize(const node *n);
/* Of such a node: its codes and their parameters. False when the node is neither, or its scale or zero point is no constant. */
bool qdq_of_node(const graph *g, const node *n, qdq *out);
/* Of a value that a DequantizeLinear makes. */
bool qdq_behind(const graph *g, value_id v, qdq *out);

/* v is a constant, as it stands or behind a DequantizeLinear. */
bool qdq_is_const(const graph *g, value_id v);
/* Its numbers, float32: the graph's own, or dequantised in mem; NULL when v is no constant of numbers. */
MUST_USE status qdq_floats(const graph *g, value_id v, arena *mem, const float **out);

int64_t qdq_zero(const qdq *q, int64_t i);  /* zero point of scale i */
int64_t qdq_code(const qdq *q, int64_t i);  /* element i of constant codes */
/* Same meaning of the same integers; uint8 differs from int8 although the reals may agree. */
bool qdq_same(const qdq *a, const qdq *b);

#endif
