/* ini_reader.h - an INI text as a sequence of sections and keys, with the line and column of each.
 *
 *     ; comment, # comment
 *     [section]  or  [section NAME]
 *     key = value      ; comment after a blank
 *
 * Keys begin in the first column. Values are one line; blanks around them are not part of them. Refused, each with its
 * place: lines that are too long, bytes that are not UTF-8, control characters, a lone carriage return, a key that is
 * indented, empty, without '=' or before any section, a header without its end. A byte order mark, CRLF and a missing
 * last line end are fine. */
#ifndef DISTILL_CONFIG_INI_READER_H
#define DISTILL_CONFIG_INI_READER_H

#include "base/status.h"
#include <stddef.h>

/* Lines count from 1, columns (in characters) too. Texts are valid during the call only. */
typedef struct ini_sink {
    /* `arg` is the NAME of [section NAME], "" without. */
    status (*section)(void *ctx, const char *section, const char *arg, unsigned line);
    /* `column` is where the value begins. */
    status (*key)(void *ctx, const char *key, const char *value, unsigned line, unsigned column);
    status (*fault)(void *ctx, unsigned line, unsigned column, const char *message);
    void *ctx;
} ini_sink;

/* Returns ST_OK also after faults; else the first failure of the sink, or ST_OOM. */
MUST_USE status ini_read(const char *ini, size_t n, size_t max_line, const ini_sink *sink);

/* Characters in the first n bytes of s. */
unsigned utf8_count(const char *s, size_t n);

#endif
