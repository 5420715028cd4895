/* io_shared.h - files that several processes read and write at once, record by record; through io.h's counted calls.
 *
 * Whoever has such a file open holds a shared lock on it, so that nobody removes it (io_remove_unused). Nothing is synced:
 * readers must tell a whole record from a torn one by themselves. */
#ifndef DISTILL_BASE_IO_SHARED_H
#define DISTILL_BASE_IO_SHARED_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Opens (and makes, when it is missing) a regular file for reading and writing. Close with io_close. */
MUST_USE status io_open_shared(const char *path, int *fd);
MUST_USE status io_get_size(int fd, const char *what, uint64_t *size);
MUST_USE status io_set_size(int fd, const char *what, uint64_t size); /* grows with zeros that take no room */
/* *got < n: the file ends there. */
MUST_USE status io_read_at(int fd, const char *what, uint64_t at, void *to, size_t n, size_t *got);
MUST_USE status io_write_at(int fd, const char *what, uint64_t at, const void *from, size_t n);
void io_touch(int fd); /* modified now */

typedef struct io_facts {
    uint64_t size, room; /* bytes; what it takes on the disk */
    int64_t modified;    /* nanoseconds since 1970 */
} io_facts;
MUST_USE status io_look(const char *path, io_facts *out); /* ST_NO_INPUT: missing or no regular file */
/* Removes a file unless somebody has it open; *removed says whether it is gone. */
MUST_USE status io_remove_unused(const char *path, bool *removed);
MUST_USE status io_is_used(const char *path, bool *used); /* does somebody have it open? */

#endif
