/* io.h - the one door to files.
 *
 * Reading: whole regular files, bounded, with pread (a file that shrinks gives an error, not SIGBUS).
 * Writing: durable files: a temporary in the same folder, every write checked, fsync, rename, fsync of the folder;
 * until file_commit returns ST_OK the old file, if any, is untouched. Append logs: lines that are flushed one by one.
 * Tests make the n-th call fail (io_fail_at) or kill the process there (strace). */
#ifndef DISTILL_BASE_IO_H
#define DISTILL_BASE_IO_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads a regular file of at most `limit` bytes into *data (caller frees with mem_free; one NUL byte follows the
 * contents). Missing or unreadable: ST_NO_INPUT. Not a regular file, or larger than the limit: ST_BAD_DATA. */
MUST_USE status io_read_file(const char *path, uint64_t limit, unsigned char **data, size_t *size);

/* Reads bytes [offset, offset + size) of the regular file `name` beneath the folder `dir`: no absolute path, "..",
 * symbolic link or hard link is followed (openat2). For ONNX external data. */
MUST_USE status io_read_beneath(const char *dir, const char *name, uint64_t offset, size_t size, void *to);
MUST_USE status io_size_beneath(const char *dir, const char *name, uint64_t *size);

/* A file being written durably. `path` is borrowed until commit or abandon. */
typedef struct file_writer {
    int fd;
    char *tmp, *path;
    status st; /* the first failure; later calls keep it, so a caller may check only commit */
    unsigned char *buf;
    size_t used;
    uint64_t written;
} file_writer;
MUST_USE status file_begin(file_writer *w, const char *path);
void file_write(file_writer *w, const void *data, size_t n);
PRINTF_LIKE(2, 3) void file_printf(file_writer *w, const char *fmt, ...);
MUST_USE status file_commit(file_writer *w);
void file_abandon(file_writer *w); /* removes the temporary; safe after commit and on a zeroed writer */

/* Writes a whole file durably. */
MUST_USE status io_write_file(const char *path, const void *data, size_t n);

/* Appends to a log file (created if missing); each io_append is one write(2). */
MUST_USE status io_open_append(const char *path, int *fd);
MUST_USE status io_append(int fd, const void *data, size_t n);
MUST_USE status io_sync(int fd);
void io_close(int fd); /* fd < 0 allowed */

MUST_USE status io_make_dirs(const char *path); /* mkdir -p */
MUST_USE status io_remove(const char *path);    /* one file; missing is no error */
/* Removes a folder and what lies in it (not following links). */
MUST_USE status io_remove_tree(const char *path);
bool io_exists(const char *path);
bool io_is_dir(const char *path);
/* Takes an exclusive lock on `path` (created if needed), writes pid and host into it. Held until io_close(*fd).
 * ST_STOPPED with the holder's name when another process has it. */
MUST_USE status io_lock(const char *path, int *fd);
/* Names in a folder, sorted bytewise, without "." and "..", at most `limit`. Caller frees with io_list_free. */
MUST_USE status io_list(const char *dir, size_t limit, char ***names, size_t *n);
void io_list_free(char **names, size_t n);
/* Bytes free for this user on the file system that holds `path`; 0 when unknown. */
uint64_t io_free_bytes(const char *path);

/* Test hook: the n-th system call made by this module from now fails with `err` (0: none). */
void io_fail_at(uint64_t n, int err);
uint64_t io_count(void);

#endif
