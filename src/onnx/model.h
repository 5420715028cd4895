/* model.h - an ONNX file in memory: checked, unpacked, with what is needed to find its external data.
 *
 * onnx_open bounds everything before and while unpacking (wire.h, a byte budget of four times the file plus 64 MiB).
 * Nothing here looks at operators; that is import.h. */
#ifndef DISTILL_ONNX_MODEL_H
#define DISTILL_ONNX_MODEL_H

#include "base/limits.h"
#include "graph/types.h"

struct Onnx__ModelProto;
struct Onnx__TensorProto;

typedef struct onnx_model {
    char *path; /* as given; begins every message */
    char *dir;  /* folder of external data; NULL when the model does not come from a file */
    uint64_t bytes;
    char sha256[65]; /* of the file; with external data: of the file's hash and the hashes of those files */
    limits lim;
    struct Onnx__ModelProto *proto;
    mem_shared *weights; /* large raw_data of initializers lies in it (lift.h), and so does the data of graphs made of them */
    struct lifted *lifted;
    size_t n_lifted;
} onnx_model;

/* Reads and unpacks a file. ST_NO_INPUT when there is none, ST_BAD_DATA when it is no ONNX model or exceeds the limits
 * (NULL: defaults). The caller frees with onnx_close. */
MUST_USE status onnx_open(const char *path, const limits *l, onnx_model **out);
/* The same from memory; `name` stands for the path in messages. External data is refused. Copies what it keeps. */
MUST_USE status onnx_open_bytes(const char *name, const void *data, size_t n, const limits *l,
                                onnx_model **out);
void onnx_close(onnx_model *m); /* NULL allowed */
/* Frees what was unpacked, lets go of the weights and keeps what is known about the file: path, bytes, sha256. Nothing
 * can be imported any more. */
void onnx_release(onnx_model *m);

/* Names of the model's inputs in its order, without those that have an initializer. The array is the caller's (mem_free),
 * the names are the model's. */
MUST_USE status onnx_input_names(const onnx_model *m, const char ***names, size_t *n);

/* The model's metadata_props in its order; texts are the model's, "" when absent. */
size_t onnx_meta_count(const onnx_model *m);
void onnx_meta(const onnx_model *m, size_t i, const char **key, const char **value);

/* Where a TensorProto comes from. */
typedef struct tensor_source {
    const char *path, *dir; /* as in onnx_model */
    const limits *lim;
    uint64_t external; /* bytes of external data read so far, against lim->external_data */
} tensor_source;

/* Unpacks one TensorProto, whatever form its elements are stored in: raw_data, typed fields, external data. `what` names
 * it in messages ("initializer 'conv1.weight'"). Refused: strings, complex, 8-bit floats, 4-bit integers, segments. */
MUST_USE status tensor_from_proto(tensor_source *src, const struct Onnx__TensorProto *p, const char *what,
                                  tensor *out);

/* The same without a copy, where the elements lie in `raw_data` as they are needed: *out borrows them (no name). Its data
 * is NULL where that is not so. */
MUST_USE status tensor_in_place(tensor_source *src, const struct Onnx__TensorProto *p, const char *what, tensor *out);

#endif
