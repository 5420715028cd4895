/* export.h - a graph becomes an ONNX file: own writer, the same bytes for the same graph.
 *
 * Exporting, importing and exporting again gives the same bytes. Layout and fusion passes must not have run: what is
 * written is the graph that was imported or built (batch norms folded or kept, as the caller likes). */
#ifndef DISTILL_ONNX_EXPORT_H
#define DISTILL_ONNX_EXPORT_H

#include "exec/exec.h"
#include "graph/graph.h"

enum { EXPORT_OPSET_MIN = 13, EXPORT_OPSET_MAX = 21, EXPORT_OPSET_DEFAULT = 17 };

typedef struct export_pair {
    const char *key, *value;
} export_pair;

typedef struct export_options {
    int64_t opset; /* 13 to 21; 0: 17 */
    bool
        fixed_batch; /* false: dimension 0 of batched inputs and of what follows from them is called "batch"; that the
                         graph runs with any batch is checked by importing the result with another one */
    const export_pair *meta; /* metadata_props, in this order */
    size_t n_meta;
    const store *params;    /* present values of parameters and states, by name; NULL: their start values */
    const char *graph_name; /* NULL: "student" */
} export_options;

/* Appends the bytes of the model to `out`. ST_BAD_DATA naming node, operator and opset when an operator or attribute does
 * not exist at that opset or cannot be written; ST_CONFIG for options out of range; double precision is refused. */
MUST_USE status onnx_export(const graph *g, const export_options *o, text *out);
/* The same into a file, written durably. */
MUST_USE status onnx_export_file(const graph *g, const export_options *o, const char *path);

#endif
