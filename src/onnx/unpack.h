/* unpack.h - protobuf-c behind the memory door: every allocation counted against a budget and able to fail. */
#ifndef DISTILL_ONNX_UNPACK_H
#define DISTILL_ONNX_UNPACK_H

#include "base/status.h"
#include "onnx.pb-c.h"
#include <stddef.h>

/* Unpacks bytes that wire_check has let through, of a file of `file` bytes. ST_BAD_DATA when more memory than four times that
 * plus 64 MiB would be needed, or protobuf-c refuses the bytes. The caller frees with unpack_free. */
MUST_USE status unpack_message(const char *path, const ProtobufCMessageDescriptor *kind, const void *data,
                               size_t n, size_t file, ProtobufCMessage **out);
void unpack_free(ProtobufCMessage *m); /* NULL allowed */

#endif
