/* model.h - a TFLite model under construction: lists of tensors and operators, and their bytes in the end.
 *
 * Private to src/tflite. Everything that is passed in by pointer is borrowed until the model is freed; the arena `mem` is
 * there for what has to be made. */
#ifndef DISTILL_TFLITE_MODEL_H
#define DISTILL_TFLITE_MODEL_H

#include "graph/types.h"
#include "base/text.h"
#include "tflite/schema.h"
#include "tflite/write.h"

typedef struct tfl_quant { /* real = scale * (code - zero) */
    int32_t n; /* 0: none, 1: of the tensor, else one for each index of dimension `axis` */
    int32_t axis;
    const float *scale;
    const int64_t *zero;
} tfl_quant;

typedef struct tfl_tensor {
    const char *name;
    shape sh;
    bool batched; /* dimension 0 is the batch, open to the reader */
    int type;
    const void *data; /* contents of a constant, NULL else */
    tfl_quant q;
} tfl_tensor;

typedef struct tfl_option { /* a field of the operator's option table */
    int8_t slot;
    char kind; /* 'b' byte, 'i' int32, 'f' float, 'v': the operator's `list` */
    int32_t i, def;
    float f;
} tfl_option;

enum { TFL_OPTIONS = 8 };
typedef struct tfl_op {
    int code, version, option_type;
    const int32_t *in, *out; /* tensors; an input of -1 is absent */
    size_t n_in, n_out;
    tfl_option option[TFL_OPTIONS];
    size_t n_option;
    const int32_t *list;
    size_t n_list;
} tfl_op;

typedef struct tfl_port {
    const char *name;
    int32_t tensor;
} tfl_port;

typedef struct tfl_model {
    arena mem;
    tfl_tensor *tensor;
    size_t n_tensor, cap_tensor;
    tfl_op *op;
    size_t n_op, cap_op;
    tfl_port *in, *out;
    size_t n_in, cap_in, n_out, cap_out;
} tfl_model;

void tfl_model_free(tfl_model *m);
MUST_USE status tfl_add_tensor(tfl_model *m, const tfl_tensor *t, int32_t *out);
/* Copies the lists of tensors. */
MUST_USE status tfl_add_op(tfl_model *m, const tfl_op *op);
MUST_USE status tfl_add_port(tfl_port **list, size_t *n, size_t *cap, const char *name, int32_t id);
size_t tfl_type_size(int type);

/* Appends the file's bytes, the same for the same model. ST_BAD_DATA beyond 2 GiB. */
MUST_USE status tfl_model_bytes(const tfl_model *m, const tflite_options *o, text *out);

#endif
