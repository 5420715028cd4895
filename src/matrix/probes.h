/* probes.h - small networks that each need one set of operators: what devices are profiled with. */
#ifndef DISTILL_MATRIX_PROBES_H
#define DISTILL_MATRIX_PROBES_H

#include "graph/graph.h"

enum { PROBE_SAMPLES = 8 };

typedef struct probe {
    const char *name;
    double tolerance; /* of outputs, times max(1, the largest) */
    status (*build)(graph *g, value_id x, value_id *y);
    shape in; /* without the batch */
} probe;
extern const probe probes[]; /* ends with one without name */

/* The probe for `batch` samples: input "x", output "y"; the same weights always. */
MUST_USE status probe_graph(const probe *p, int64_t batch, graph **out);

#endif
