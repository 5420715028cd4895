/* types.h - element types, shapes and tensors: what values of a graph, files and runtimes have in common. */
#ifndef DISTILL_GRAPH_TYPES_H
#define DISTILL_GRAPH_TYPES_H

#include "base/mem.h"
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(enum, C type, bytes, name, ONNX TensorProto.DataType, safetensors name, npy descr without byte order) */
#define DTYPES(X)                                                                                                 \
    X(F32, float, 4, "float32", 1, "F32", "f4")                                                                   \
    X(F64, double, 8, "float64", 11, "F64", "f8")                                                                 \
    X(F16, _Float16, 2, "float16", 10, "F16", "f2")                                                               \
    X(BF16, uint16_t, 2, "bfloat16", 16, "BF16", "V2")                                                            \
    X(I8, int8_t, 1, "int8", 3, "I8", "i1")                                                                       \
    X(U8, uint8_t, 1, "uint8", 2, "U8", "u1")                                                                     \
    X(I16, int16_t, 2, "int16", 5, "I16", "i2")                                                                   \
    X(U16, uint16_t, 2, "uint16", 4, "U16", "u2")                                                                 \
    X(I32, int32_t, 4, "int32", 6, "I32", "i4")                                                                   \
    X(U32, uint32_t, 4, "uint32", 12, "U32", "u4")                                                                \
    X(I64, int64_t, 8, "int64", 7, "I64", "i8")                                                                   \
    X(U64, uint64_t, 8, "uint64", 13, "U64", "u8")                                                                \
    X(BOOL, uint8_t, 1, "bool", 9, "BOOL", "b1")

#define DTYPE_ENUM(e, c, size, name, onnx, st, npy) DTYPE_##e,
typedef enum dtype { DTYPE_NONE, DTYPES(DTYPE_ENUM) DTYPE_COUNT } dtype;
#undef DTYPE_ENUM

typedef struct dtype_info {
    const char *name;
    size_t size;
    int onnx;
    const char *safetensors, *npy;
    bool is_float, is_signed;
} dtype_info;
const dtype_info *dtype_of(dtype t); /* a row for every enum value, DTYPE_NONE included (size 0, name "none") */
dtype dtype_from_onnx(int onnx);     /* DTYPE_NONE when unknown; likewise the next two */
dtype dtype_from_safetensors(const char *name);
dtype dtype_from_npy(const char *descr); /* without the byte order character */

#define RANK_MAX 8
typedef struct shape {
    int32_t rank; /* 0: a scalar */
    int64_t dim[RANK_MAX];
} shape;

#define SHAPE(...) shape_from((const int64_t[]){__VA_ARGS__}, sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t))
shape shape_from(const int64_t *dim, size_t rank);
bool shape_equal(const shape *a, const shape *b);
int64_t shape_count(const shape *s); /* elements; shapes in graphs and tensors are checked not to overflow */
/* Elements and bytes with overflow check; a negative dimension or more than 2^40 elements is ST_BAD_DATA. */
MUST_USE status shape_bytes(const shape *s, dtype t, size_t *bytes);
/* "[2, 3, 28]" into buf (at least 200 bytes); returns it. */
const char *shape_print(const shape *s, char *buf);
/* Axis in [-rank, rank) to [0, rank); -1 when outside. */
int shape_axis(const shape *s, int64_t axis);
/* ONNX multidirectional broadcasting; false when the shapes do not fit. */
bool shape_broadcast(const shape *a, const shape *b, shape *out);

/* A dense row-major array that owns its data (mem_alloc). Zeroed is empty. */
typedef struct tensor {
    char *name; /* owned; may be NULL */
    dtype type;
    shape sh;
    void *data;
} tensor;
MUST_USE status tensor_new(tensor *t, const char *name, dtype type, shape sh); /* zero-filled */
MUST_USE status tensor_copy(tensor *to, const tensor *from);
void tensor_free(tensor *t);                    /* leaves it zeroed */
size_t tensor_bytes(const tensor *t);           /* of a checked shape */
double tensor_at(const tensor *t, int64_t i);   /* any type, as double */
void tensor_put(tensor *t, int64_t i, double v); /* saturates to the type's range; floats round to nearest */
/* A copy converted to another type (same rules as tensor_put). */
MUST_USE status tensor_convert(tensor *to, const tensor *from, dtype type);
double dtype_load(dtype t, const void *data, int64_t i);
void dtype_store(dtype t, void *data, int64_t i, double v);

typedef struct tensor_list {
    tensor *at;
    size_t n, cap;
} tensor_list;
MUST_USE status tensor_list_add(tensor_list *l, tensor *t); /* takes the tensor, also on failure */
const tensor *tensor_list_find(const tensor_list *l, const char *name);
void tensor_list_free(tensor_list *l);

#endif
