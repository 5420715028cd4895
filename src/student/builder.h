/* builder.h - what presets, blocks and layer sections share inside src/student. */
#ifndef DISTILL_STUDENT_BUILDER_H
#define DISTILL_STUDENT_BUILDER_H

#include "ops/attrs.h"
#include "student/student.h"

/* A student being built. `bare`: parameters get no start values (a trial that only wants shapes and errors). */
typedef struct builder {
    graph *g;
    const job *job;
    int64_t classes; /* 0: any */
    int64_t batch;
    bool bare;
} builder;

/* Records a fault of a key "student.depth" with its place, and returns ST_CONFIG. */
MUST_USE PRINTF_LIKE(3, 4) status key_fault(const job *j, const char *key, const char *fmt, ...);

/* "a.b" in the graph's arena; `a` alone when b is NULL. */
MUST_USE status builder_name(builder *b, const char *a, const char *suffix, const char **out);

/* ---- weights.c: operators with their parameters ---- */

typedef struct weight_ask {
    int64_t channels; /* of the output; 0: not given */
    int64_t entries;  /* rows of an embedding table */
    bool bias;        /* whether optional biases are made */
} weight_ask;

/* Whether the operator can make operands of its own, and which keys it then needs. */
bool weight_any(op_id op);
bool weight_takes_channels(op_id op);
bool weight_takes_entries(op_id op);
bool weight_takes_bias(op_id op);
/* How many data inputs the operator needs when its weights are made. */
int weight_data_inputs(op_id op);

/* Adds node `place` with its `n` data inputs and made parameters PLACE.weight ... The outputs are named by `out_names`
 * (NULL, or [0] == NULL: after the node). attr NULL: defaults. */
MUST_USE status builder_op(builder *b, const char *place, op_id op, const void *attr, const value_id *in, size_t n,
                           const weight_ask *ask, const char *const *out_names, value_id *out, size_t n_out);
/* Start values of the parameters and states that node k of an imported model reads, drawn anew where `done[value]` is
 * not set yet (it is then). */
MUST_USE status weight_redraw(graph *g, node_id k, init_kind init, uint64_t seed, uint8_t *done);

/* ---- init.c: start values ---- */

typedef enum start_rule {
    START_KEPT,   /* no rule: the stored value stays */
    START_ZERO,
    START_ONE,
    START_QUARTER, /* PRelu */
    START_CONV,    /* by the student's choice: pytorch or he */
    START_LINEAR,  /* uniform in +-1/sqrt(fan_in) */
    START_NORMAL   /* embeddings */
} start_rule;
/* Fills n floats. A function of (seed, name) and the arguments; fan_out only for he. */
void start_fill(float *to, int64_t n, start_rule rule, init_kind init, int64_t fan_in, int64_t fan_out,
                uint64_t seed, const char *name);

/* ---- blocks.c ---- */

/* Attributes of blocks; a layer section's keys are parsed into them through the block's rows. */
typedef struct block_attrs {
    int64_t kernel, stride, expand, activation;
    double dropout;
} block_attrs;
typedef struct block_desc block_desc;
struct block_desc {
    const char *name;
    const attr_desc *attrs;
    /* Adds the block `place` behind x. Its result is named `out` (NULL: after its last node). */
    status (*build)(builder *b, const char *place, const char *out_name, value_id x, int64_t channels,
                    const block_attrs *at, value_id *out);
};
extern const block_desc block_conv_bn, block_residual, block_preact, block_inverted_residual, block_depthwise_separable,
    block_dense;
extern const block_desc *const block_table[]; /* ends with NULL */
void block_default_attrs(const block_desc *d, block_attrs *at);

/* Activations have numbers: the index of the name, -1 when unknown; by number (from 0): NULL after the last. */
int activation_from_name(const char *name);
const char *activation_name(int activation);
MUST_USE status builder_activation(builder *b, const char *place, int64_t activation, const char *out_name, value_id x,
                                   value_id *out);
/* The parts that presets put together: each adds one node (pool: two) behind x. */
MUST_USE status builder_conv(builder *b, const char *place, value_id x, int64_t channels, int64_t kernel,
                             int64_t stride, int64_t group, value_id *out);
MUST_USE status builder_batch_norm(builder *b, const char *place, const char *out_name, value_id x, value_id *out);
MUST_USE status builder_max_pool(builder *b, const char *place, value_id x, int64_t kernel, value_id *out);
/* Mean over all positions: [N, C, ...] to [N, C]. */
MUST_USE status builder_global_pool(builder *b, const char *place, value_id x, value_id *out);
MUST_USE status builder_flatten(builder *b, const char *place, value_id x, value_id *out); /* to [N, features] */
MUST_USE status builder_dropout(builder *b, const char *place, double ratio, value_id x, value_id *out);
MUST_USE status builder_linear(builder *b, const char *place, const char *out_name, value_id x, int64_t channels,
                               value_id *out);

/* ---- presets.c, layers.c, from_onnx.c ---- */
MUST_USE status build_preset(builder *b, value_id input, value_id *out);
MUST_USE status build_layers(builder *b, value_id input, value_id *out);
MUST_USE status build_from_onnx(const student_spec *s, int64_t batch, graph **out);

/* ---- attrs.c: attributes from text ---- */

/* Parses text s into the field of `attr` that row `a` describes; lists go to `mem`. The message says what is wrong with
 * the value; *at is the place in s (bytes). */
MUST_USE status attr_parse(arena *mem, const attr_desc *a, const char *s, void *attr, size_t *at);
const attr_desc *attr_find(const attr_desc *rows, const char *name); /* NULL: none, or hidden */

#endif
