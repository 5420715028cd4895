/* gzip.h - inflating within bounds. */
#ifndef DISTILL_DATA_GZIP_H
#define DISTILL_DATA_GZIP_H

#include "base/limits.h"
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>

bool gzip_is(const unsigned char *bytes, size_t n);

/* Inflates one or several gzip members. At most lim->data_file bytes come out, and above 64 MiB at most
 * lim->data_ratio times what went in (a bomb). *out: caller frees (mem_free). `name` stands in messages. */
MUST_USE status gzip_inflate(const char *name, const unsigned char *bytes, size_t n, const limits *lim,
                             unsigned char **out, size_t *out_n);

/* Reads a file and, if it is gzip, inflates it. */
MUST_USE status gzip_read_file(const char *path, const limits *lim, unsigned char **out, size_t *out_n);

/* Room that unpacked data may take before the ratio counts. */
#define UNPACK_FREE ((size_t)64 << 20)

#endif
