/* gather.h - what callers outside src/ops may ask of a Gather node. */
#ifndef DISTILL_OPS_GATHER_H
#define DISTILL_OPS_GATHER_H

#include "graph/graph.h"

/* How many elements a Gather node picks from when `index` itself is its indices; -1 for every other node. */
int64_t op_gather_size(const graph *g, const node *n, value_id index);

#endif
