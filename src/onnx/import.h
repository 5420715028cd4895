/* import.h - an ONNX model becomes a graph in the newest form of ONNX's operators, with static shapes.
 *
 * Opsets 6 to 28 are rewritten while they are read; attributes that newer opsets pass as inputs become attributes; nodes
 * whose inputs are all constants are computed at once, so int64 shape arithmetic disappears; model-local functions and If
 * nodes with a constant condition are inlined; LayerNormalization written out in small operators is joined again.
 * Values keep their ONNX names, parameters the names of their initializers. Messages: "PATH: node 'NAME' (Op): ...". */
#ifndef DISTILL_ONNX_IMPORT_H
#define DISTILL_ONNX_IMPORT_H

#include "graph/graph.h"
#include "onnx/model.h"

typedef struct import_dim { /* a dimension the model leaves open: by its symbolic name, or "INPUT[AXIS]" */
    const char *name;
    int64_t value;
} import_dim;

typedef struct import_bind { /* a graph input that is given now, as a constant */
    const char *name;
    const tensor *value; /* borrowed during the import */
} import_bind;

typedef struct import_options {
    /* The batch size, for dimension 0 of inputs that leave it open (and other dimensions of the same symbolic name). A
     * model with a fixed batch is rebound to it where that is possible, else it is an error. 0: 1, fixed ones stay. */
    int64_t batch;
    const import_dim *dims;
    size_t n_dims;
    const import_bind *bind;
    size_t n_bind;
    /* Names of values that become the graph's outputs, in this order; NULL: the model's own. What they do not depend on
     * is not looked at. */
    const char *const *outputs;
    size_t n_outputs;
    /* False: every initializer becomes a constant (a teacher). True: float initializers in the role of weights become
     * VALUE_PARAM with their no-decay flags, running statistics VALUE_STATE. An initializer that several Identity nodes
     * fan out gives a parameter each, named after the Identity's output. */
    bool trainable;
    /* BatchNormalization and Dropout that were exported in training mode stay so (ONNX's own tests). Otherwise they are
     * inference: running statistics, no dropout, and a note in the log. */
    bool keep_training_mode;
} import_options;

/* ST_BAD_DATA for anything in the model that is wrong or not supported, with what to do; ST_CONFIG for options that do
 * not fit the model. The caller frees the graph. The model may be closed afterwards. */
MUST_USE status onnx_import(const onnx_model *m, const import_options *o, graph **out);

/* Joins ReduceMean, Sub, Pow or Mul, ReduceMean, Add, Sqrt, Div, and a following Mul and Add, into LayerNormalization
 * where operands are constants or parameters and nobody else reads what lies between. Part of onnx_import. */
MUST_USE status pass_join_layer_norm(graph *g);

#endif
