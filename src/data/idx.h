/* idx.h - the idx format of the MNIST family.
 *
 * 0, 0, type, rank, then rank big-endian uint32 sizes, then the elements, big-endian, the last dimension
 * running fastest. Types: 08 uint8, 09 int8, 0B int16, 0C int32, 0D float32, 0E float64. */
#ifndef DISTILL_DATA_IDX_H
#define DISTILL_DATA_IDX_H

#include "base/limits.h"
#include "graph/types.h"

bool idx_is(const unsigned char *bytes, size_t n);
/* Takes `bytes` (from mem_alloc; freed on failure): the tensor's data is the same block. */
MUST_USE status idx_parse(const char *name, unsigned char *bytes, size_t n, const limits *lim, tensor *out);
MUST_USE status idx_read(const char *path, const limits *lim, tensor *out); /* gzip or not */

#endif
