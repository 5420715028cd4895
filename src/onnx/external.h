/* external.h - tensor data that lies in files beside the model. */
#ifndef DISTILL_ONNX_EXTERNAL_H
#define DISTILL_ONNX_EXTERNAL_H

#include "base/text.h"
#include "onnx/model.h"
#include "onnx.pb-c.h"

/* Reads the `bytes` elements of a tensor whose data_location is EXTERNAL. Files are opened beneath src->dir only
 * (io_read_beneath); keys must be known and unique, offset and length plain decimal numbers within the file. Tensors may
 * share bytes. A "checksum" (SHA-1 of the whole file) is refused, as it is not checked. */
MUST_USE status external_check(tensor_source *src, const Onnx__TensorProto *p, const char *what,
                               size_t bytes);
MUST_USE status external_read(tensor_source *src, const Onnx__TensorProto *p, const char *what, void *to,
                              size_t bytes);

/* Appends "HASH NAME" lines for every file that these tensors name, each once, in order of first use. The hash is that
 * of the SHA-256 hashes of the file's 16 MiB pieces. */
MUST_USE status external_identify(const onnx_model *m, Onnx__TensorProto *const *t, size_t n, text *list);

#endif
