/* exporter.h - private to the export: the state that export.c and export_attrs.c share. */
#ifndef DISTILL_ONNX_EXPORTER_H
#define DISTILL_ONNX_EXPORTER_H

#include "onnx/export.h"
#include "onnx/names.h"

enum { INPUTS_MAX = 8 }; /* of an operator with inputs that are attributes here */

typedef struct exporter {
    const graph *g;
    const export_options *o;
    int64_t opset, batch; /* batch > 0: dynamic */
    uint8_t *batched;     /* [n_value] depends on a batched input */
    uint8_t *written;     /* [n_value] its initializer is there */
    name_map names;       /* of everything in the graph and of what is made here */
    bool microsoft;       /* an operator of that domain was written */
    bool expand_to_batch; /* Expand to the batch takes its size from the model's input when it runs */
    arena mem;
    text nodes, initializers;
} exporter;

/* A name nobody else has: "NODE_suffix", then "NODE_suffix_2" ... */
MUST_USE status export_fresh_name(exporter *x, const char *node_name, const char *suffix, const char **out);
MUST_USE status export_initializer(exporter *x, const char *name, dtype type, const shape *sh,
                                   const void *data);

/* export_attrs.c: attributes of n into the message `t`; those that are inputs at this opset become initializers, their
 * names go into input[] and *n_input. */
MUST_USE status export_attributes(exporter *x, const node *n, text *t, const char **input, size_t *n_input);

#endif
