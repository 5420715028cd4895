/* hash.h - SHA-256 for identity (OpenSSL), XXH3 for integrity (xxHash). */
#ifndef DISTILL_BASE_HASH_H
#define DISTILL_BASE_HASH_H

#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

MUST_USE status hash_sha256_hex(const void *data, size_t n, char out[65]);
MUST_USE status hash_sha256_file(const char *path, char out[65]);
uint64_t hash_xxh3(const void *data, size_t n);

#endif
