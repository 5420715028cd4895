/* writer.h - private to src/tflite: the state of one translation, and what the rows of operators share.
 *
 * Every value of the graph gets a place: a float tensor, an int8 tensor that means the same (behind a DequantizeLinear
 * nothing is computed until somebody wants floats), or both; and an order of its elements. */
#ifndef DISTILL_TFLITE_WRITER_H
#define DISTILL_TFLITE_WRITER_H

#include "ops/common.h"
#include "ops/qdq.h"
#include "tflite/model.h"

typedef enum order {
    ORDER_PLAIN, /* as in the graph */
    ORDER_IMAGE, /* rank 4, [N, H, W, C] for the graph's [N, C, H, W] */
    ORDER_FLAT   /* rank 2, an image in the order [N, H*W*C] for the graph's [N, C*H*W] */
} order;

typedef struct place {
    int32_t f, q; /* tensors, -1: not there */
    order as;
    shape image; /* ORDER_FLAT: the [N, C, H, W] that was flattened */
} place;

typedef struct writer {
    const graph *g;
    const tflite_options *o;
    tfl_model m;
    place *at;        /* [n_value] */
    uint8_t *batched; /* [n_value] depends on a batched input */
    uint8_t *done;    /* [n_node] written as part of an earlier one */
    uint32_t *uses;   /* [n_value] by nodes and as graph outputs */
    uint32_t *first;  /* [n_value + 1] users of v: user[first[v]] .. user[first[v + 1] - 1] */
    node_id *user;
    int64_t batch; /* 0: no input has one */
    bool dynamic;
    size_t int8_ops;
} writer;

/* ---- rows: one for every operator that can be written ---- */

typedef struct tfl_row {
    status (*emit)(writer *w, const node *n, const struct tfl_row *row);
    int code, option_type; /* of operators with one form */
    bool int8;             /* has an int8 form when a QuantizeLinear follows */
    bool fuses;            /* its options have a fused activation */
    bool keeps_order;      /* elementwise: works on elements in any order */
    bool columns;          /* may take ORDER_FLAT as its first input */
    int data_in;           /* inputs that must be quantised for the int8 form */
    bool (*int8_ok)(const writer *w, const node *n); /* what else must hold for it; NULL: nothing */
    /* What an activation bounds its result by. */
    void (*clamp)(const node *n, double *lo, double *hi);
} tfl_row;
extern const tfl_row tfl_rows[OP_COUNT];

status emit_conv(writer *w, const node *n, const tfl_row *row);
status emit_gemm(writer *w, const node *n, const tfl_row *row);
status emit_matmul(writer *w, const node *n, const tfl_row *row);
status emit_max_pool(writer *w, const node *n, const tfl_row *row);
status emit_average_pool(writer *w, const node *n, const tfl_row *row);
status emit_global_max_pool(writer *w, const node *n, const tfl_row *row);
status emit_global_average_pool(writer *w, const node *n, const tfl_row *row);
status emit_reduce_mean(writer *w, const node *n, const tfl_row *row);
status emit_resize(writer *w, const node *n, const tfl_row *row);
status emit_pad(writer *w, const node *n, const tfl_row *row);
status emit_reshape(writer *w, const node *n, const tfl_row *row);
status emit_transpose(writer *w, const node *n, const tfl_row *row);
status emit_concat(writer *w, const node *n, const tfl_row *row);
status emit_softmax(writer *w, const node *n, const tfl_row *row);
status emit_unary(writer *w, const node *n, const tfl_row *row);
status emit_leaky_relu(writer *w, const node *n, const tfl_row *row);
status emit_clamp(writer *w, const node *n, const tfl_row *row);
status emit_binary(writer *w, const node *n, const tfl_row *row);
status emit_batch_norm(writer *w, const node *n, const tfl_row *row);
status emit_same(writer *w, const node *n, const tfl_row *row);
status emit_quantize(writer *w, const node *n, const tfl_row *row);
status emit_dequantize(writer *w, const node *n, const tfl_row *row);

/* ---- groups: an operator, the activation behind it, the QuantizeLinear behind that ---- */

typedef struct group {
    bool q;      /* the operator is written in int8 */
    int act;     /* TFL_ACT_... */
    value_id y;  /* the value it makes: of the operator, the activation or the QuantizeLinear */
    node_id act_node, q_node; /* 0: not part of it */
    qdq out;     /* parameters of y, when q */
} group;
/* Finds the group that n begins. Nothing is marked yet. */
void group_find(const writer *w, const node *n, const tfl_row *row, group *out);
/* Makes the tensor of the group's result, in that order, and marks its nodes as written. */
MUST_USE status group_result(writer *w, const group *gr, order as, int32_t *t);

/* ---- tensors ---- */

/* The graph's shape of v in an order, with the batch as the file says it. */
shape writer_shape(const writer *w, value_id v, order as);
/* The file's shape of a result that is no value of the graph. */
shape writer_image(const shape *nchw);
/* A tensor for v, named after it; q NULL: float. Its place is not set. */
MUST_USE status writer_tensor(writer *w, value_id v, order as, const tfl_quant *q, int32_t *t);
/* Sets the place of v. */
void writer_put(writer *w, value_id v, bool q, order as, int32_t t);
/* A tensor like t with another name suffix and shape: what a PAD or TRANSPOSE makes on the way. */
MUST_USE status writer_like(writer *w, int32_t t, const char *suffix, shape sh, int32_t *out);
MUST_USE status writer_const(writer *w, const char *name, const char *suffix, int type, shape sh, const void *data,
                             const tfl_quant *q, int32_t *t);
MUST_USE status writer_ints(writer *w, const char *name, const char *suffix, shape sh, const int64_t *v, int32_t *t);
/* int8 parameters of what a QDQ pair says. */
MUST_USE status writer_quant(writer *w, const qdq *from, tfl_quant *out);
/* The tensor of v (or of a constant behind a DequantizeLinear) in an order; q: its int8 form, else its float form. */
MUST_USE status writer_take(writer *w, value_id v, order as, bool q, int32_t *t);
/* Whether v has an int8 form, and parameters of it. */
bool writer_has_q(const writer *w, value_id v);
/* The order in which v lies; constants have none and follow. */
order writer_order(const writer *w, value_id v);
/* Data of elements of `size` bytes, transposed: dimension i of the result is dimension perm[i] of sh. In the arena. */
MUST_USE status writer_permute(writer *w, const void *data, size_t size, const shape *sh, const int *perm, void *out);

MUST_USE status writer_op(writer *w, tfl_op op, const int32_t *in, size_t n_in, int32_t out);

enum { PAD_ZERO, PAD_LOWEST };
/* A PAD of an image [N, H, W, C] before t: with the real 0, or with the lowest number (for maxima). */
MUST_USE status writer_pad_image(writer *w, const int64_t *begin, const int64_t *end, int with, int32_t *t);

/* Windows over H and W as TFLite says them: SAME or VALID, after a PAD where it takes one. */
typedef struct tfl_windows {
    int padding;
    bool pad;
    int64_t begin[2], end[2]; /* of the PAD */
} tfl_windows;
/* Of completed attributes (ops/window.h); in, out: H and W. */
tfl_windows writer_windows(const int64_t *in, const int64_t *out, const int64_t *kernel, const int64_t *strides,
                           const int64_t *dilations, const int64_t *pads);

/* Every user of v, and of what follows it elementwise, is a matrix product that can reorder its matrix. */
bool writer_flat_serves(writer *w, value_id v);

#define OPT_B(s, value) {.slot = (s), .kind = 'b', .i = (int32_t)(value)}
#define OPT_I(s, value) {.slot = (s), .kind = 'i', .i = (int32_t)(value)}
#define OPT_I1(s, value) {.slot = (s), .kind = 'i', .i = (int32_t)(value), .def = 1}
#define OPT_F(s, value) {.slot = (s), .kind = 'f', .f = (float)(value)}

#endif
