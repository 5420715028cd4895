/* widen_half.h - float16 graphs on kernels of float32. */
#ifndef DISTILL_GRAPH_WIDEN_HALF_H
#define DISTILL_GRAPH_WIDEN_HALF_H

#include "graph/graph.h"

/* Every float16 value of g becomes float32; what an operator computes is rounded to float16 and back, so that the numbers are
 * those of storage in float16 with arithmetic in float32. Inputs and outputs too. Ids change; g without float16 stays. */
MUST_USE status pass_widen_half(graph *g);

#endif
