/* base64.h - bytes as text (RFC 4648, standard alphabet, padded). */
#ifndef DISTILL_BASE_BASE64_H
#define DISTILL_BASE_BASE64_H

#include "base/text.h"

void base64_add(text *t, const void *data, size_t n);
/* Decodes the whole string, which must give exactly n bytes; ST_BAD_DATA, with `what` in front, otherwise. */
MUST_USE status base64_decode(const char *what, const char *s, void *to, size_t n);

#endif
