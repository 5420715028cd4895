/* hash.h - SHA-256 for identity (OpenSSL), XXH3 for integrity (xxHash). */
#ifndef DISTILL_BASE_HASH_H
#define DISTILL_BASE_HASH_H

#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

MUST_USE status hash_sha256_hex(const void *data, size_t n, char out[65]);
MUST_USE status hash_sha256_file(const char *path, char out[65]);
/* HMAC-SHA-256 (RFC 2104) over two pieces after each other, as one message; n2 may be 0. */
MUST_USE status hash_hmac_hex(const void *key, size_t key_n, const void *data, size_t n, const void *data2, size_t n2, char out[65]);
uint64_t hash_xxh3(const void *data, size_t n);

#endif
