/* writer.h - private to src/ncnn: the state of one translation, and what the rows of operators share.
 *
 * Every value of the graph gets a place: the blob that holds it. In QDQ form a blob may hold what was there before rounding: max pools,
 * concatenations and the like give the same integers whether they stand before or behind it, and int8 layers round by themselves. */
#ifndef DISTILL_NCNN_WRITER_H
#define DISTILL_NCNN_WRITER_H

#include "ncnn/write.h"
#include "onnx/names.h"
#include "ops/common.h"
#include "ops/qdq.h"

typedef struct nc_blob {
    const char *name;
    uint32_t uses; /* by layers and as outputs of the graph */
} nc_blob;

typedef struct nc_layer {
    const char *type, *name, *params; /* params: "0=16 1=3", "" */
    int32_t *in;
    size_t n_in;
    int32_t out; /* every layer that we write makes one blob */
} nc_layer;

typedef struct place {
    int32_t raw, rounded, codes; /* blobs: before rounding, on the grid, int8; 0: not there. Without a grid only raw */
    float grid;  /* scale of the codes; 0: floats that nobody rounds */
    bool above;  /* never at code -128 */
    bool loose;  /* the elements lie in order, under other dimensions than the value's */
} place;

typedef struct writer {
    const graph *g;
    arena mem;
    text bin;
    nc_blob *blob; /* index 0 unused */
    size_t n_blob, cap_blob;
    nc_layer *layer;
    size_t n_layer, cap_layer;
    place *at;      /* [n_value] */
    uint8_t *done;  /* [n_node] written as part of an earlier one */
    uint32_t *uses; /* [n_value] by nodes and as graph outputs */
    node_id *user;  /* [n_value] one of the nodes that read it */
    name_map names;
    ncnn_facts facts;
} writer;

typedef struct nc_row {
    status (*emit)(writer *w, const node *n, const struct nc_row *row);
    const char *type; /* of layers without parameters */
    int code;         /* of BinaryOp, Pooling */
    bool commutes;    /* gives the same integers before and behind rounding */
    bool positive;    /* no result is negative */
} nc_row;
extern const nc_row nc_rows[OP_COUNT];

status nc_emit_product(writer *w, const node *n, const nc_row *row); /* products.c: Conv, Gemm, MatMul */
status nc_emit_simple(writer *w, const node *n, const nc_row *row);  /* rows.c */
status nc_emit_same(writer *w, const node *n, const nc_row *row);
status nc_emit_view(writer *w, const node *n, const nc_row *row);
status nc_emit_clip(writer *w, const node *n, const nc_row *row);
status nc_emit_slope(writer *w, const node *n, const nc_row *row);
status nc_emit_hard(writer *w, const node *n, const nc_row *row);
status nc_emit_quantize(writer *w, const node *n, const nc_row *row);
status nc_emit_dequantize(writer *w, const node *n, const nc_row *row);
status nc_emit_binary(writer *w, const node *n, const nc_row *row); /* layers.c */
status nc_emit_pool(writer *w, const node *n, const nc_row *row);
status nc_emit_global_pool(writer *w, const node *n, const nc_row *row);
status nc_emit_reduce_mean(writer *w, const node *n, const nc_row *row);
status nc_emit_concat(writer *w, const node *n, const nc_row *row);
status nc_emit_softmax(writer *w, const node *n, const nc_row *row);
status nc_emit_pad(writer *w, const node *n, const nc_row *row);
status nc_emit_resize(writer *w, const node *n, const nc_row *row);
status nc_emit_batch_norm(writer *w, const node *n, const nc_row *row);

/* ---- layers ---- */

enum { TAKE_ROUNDED = 1, TAKE_LOOSE = 2 }; /* the numbers themselves; in any dimensions */
/* The blob of v, made of what is there. */
MUST_USE status nc_take(writer *w, value_id v, int how, int32_t *blob);
/* A layer and its blob, named after `name`. params: "" or as in the file; NULL with a format that failed is refused. */
MUST_USE status nc_add(writer *w, const char *type, const char *name, const char *params, const int32_t *in, size_t n_in,
                       int32_t *out);
/* One input of the node, its first output; the place of the result has that blob alone, unless row->commutes. */
MUST_USE status nc_single(writer *w, const node *n, const nc_row *row, const char *type, const char *params);
/* Sets the place of v: floats that nobody rounds. */
void nc_put(writer *w, value_id v, int32_t blob);
/* The dimensions of a value without the batch, as parameters of ncnn: " 0=W 1=H 2=C". */
MUST_USE status nc_dims(writer *w, value_id v, const char **params);
/* A number as ncnn's parser reads it: at most 15 characters, with an exponent. */
#define NC_NUMBER 24
const char *nc_number(double v, char *buf);

/* ---- constants ---- */

/* The node that alone reads v, which is no output of the graph; 0: none. */
node_id nc_only_user(const writer *w, value_id v);

#endif
