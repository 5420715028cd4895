/* tensor_pb.h - tensors as files in ONNX's TensorProto format (the .pb files of ONNX's test data). */
#ifndef DISTILL_ONNX_TENSOR_PB_H
#define DISTILL_ONNX_TENSOR_PB_H

#include "base/limits.h"
#include "base/text.h"
#include "graph/types.h"

/* ST_NO_INPUT or ST_BAD_DATA as for models. Files that hold a sequence or an optional are refused. */
MUST_USE status tensor_read_pb(const char *path, const limits *l, tensor *out);
MUST_USE status tensor_write_pb(const char *path, const tensor *t);
/* Appends t's TensorProto bytes (raw_data) to `out`; name NULL: none is written. */
MUST_USE status tensor_put_pb(text *out, const char *name, dtype type, const shape *sh, const void *data);

#endif
