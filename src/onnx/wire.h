/* wire.h - the bytes of an ONNX file: the guard that reads them first, and the writer.
 *
 * protobuf-c unpacks with one C stack frame per nesting level and some 280 bytes per two-byte element, so a 30 KB file
 * can end the process and a 10 MB file fill the memory. wire_check walks the bytes first, without recursion and without
 * allocating: tags, lengths, nesting, number of messages, names. What it lets through is safe to unpack (within a byte
 * budget, model.c). */
#ifndef DISTILL_ONNX_WIRE_H
#define DISTILL_ONNX_WIRE_H

#include "base/limits.h"
#include "base/text.h"

typedef enum wire_root { WIRE_MODEL, WIRE_TENSOR } wire_root; /* ModelProto, TensorProto */

/* Checks `n` bytes that claim to be a message of this kind. ST_BAD_DATA with "PATH: byte OFFSET: ..." when a tag, wire
 * type or length is wrong, a field that occurs once is there twice, nesting or the number of messages exceeds the
 * limits, or a name is too long, not UTF-8 or has control characters. */
MUST_USE status wire_check(const char *path, const unsigned char *data, size_t n, wire_root root,
                           const limits *l);

/* Writing: appends one field to a message under construction. Failures stick in the text. */
void wire_put_varint(text *t, uint64_t v);
void wire_put_int(text *t, unsigned field, int64_t v);
void wire_put_float(text *t, unsigned field, float v);
void wire_put_bytes(text *t, unsigned field, const void *data, size_t n);
void wire_put_string(text *t, unsigned field, const char *s);
void wire_put_ints(text *t, unsigned field, const int64_t *v,
                   size_t n); /* one field each, as proto2 declares them */
/* A sub-message that was built in `sub`; empties `sub`. A failure of `sub` is passed on to `t`. */
void wire_put_message(text *t, unsigned field, text *sub);

#endif
