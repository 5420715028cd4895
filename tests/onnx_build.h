/* onnx_build.h - writes small ONNX models byte by byte, sound ones and broken ones, for tests. */
#ifndef DISTILL_TESTS_ONNX_BUILD_H
#define DISTILL_TESTS_ONNX_BUILD_H

#include "graph/types.h"
#include "onnx/wire.h"

/* The parts of a GraphProto under construction. Zeroed is empty. */
typedef struct model_builder {
    text graph;     /* fields of the GraphProto */
    text functions; /* FunctionProto fields of the model */
    int64_t opset;  /* 0: 17 */
    int64_t ir;     /* 0: 8 */
    bool no_opset;
} model_builder;

/* Names are separated by blanks; "-" is an absent one. `attrs`: AttributeProto fields made below, emptied; may be NULL. */
void build_node(model_builder *b, const char *op, const char *name, const char *in, const char *out,
                text *attrs);
/* The same into any message of nodes (GraphProto: field 1, FunctionProto: field 7). */
void build_node_into(text *t, unsigned field, const char *domain, const char *op, const char *name,
                     const char *in, const char *out, text *attrs);
void build_input(model_builder *b, const char *name, dtype type,
                 const char *dims); /* "2 3", "N 3", "?" open */
void build_output(model_builder *b, const char *name, dtype type, const char *dims); /* dims NULL: no shape */
void build_init(model_builder *b, const char *name, dtype type, const char *dims, const void *data);
void build_floats(model_builder *b, const char *name, const char *dims, float first,
                  float step);                                                    /* an arithmetic row */
void build_ints(model_builder *b, const char *name, const int64_t *v, int64_t n); /* int64 [n] */
/* A TensorProto field (5) made by hand. */
void build_init_raw(model_builder *b, text *tensor_proto);

void attr_int(text *t, const char *name, int64_t v);
void attr_float(text *t, const char *name, float v);
void attr_string(text *t, const char *name, const char *v);
void attr_ints_list(text *t, const char *name, const int64_t *v, size_t n);
#define ATTR_INTS_OF(t, name, ...)                                                                           \
    attr_ints_list(t, name, (const int64_t[]){__VA_ARGS__}, sizeof((const int64_t[]){__VA_ARGS__}) / 8)
void attr_message(text *t, const char *name, unsigned field, int type,
                  text *message); /* tensor (5, 4), graph (6, 5) */
void attr_reference(text *t, const char *name, const char *of, int type);

/* The ModelProto's bytes; frees the builder. */
text build_model(model_builder *b);

/* A small network that trains: Conv, BatchNormalization, Relu, MaxPool, Flatten, Gemm; input x [N, 1, 6, 6], output y. */
void build_network(model_builder *b);

#endif
