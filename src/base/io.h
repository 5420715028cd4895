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

/* The same into a buffer that may be shared (mem.h; no NUL byte follows); the caller is its holder. */
struct mem_shared;
MUST_USE status io_read_shared(const char *path, uint64_t limit, struct mem_shared **data, size_t *size);

/* Opens a regular file for reading (io_read_at in io_shared.h); *size in bytes. Close with io_close. */
MUST_USE status io_open_read(const char *path, int *fd, uint64_t *size);

/* Hands the contents of a regular file of any size to `take`, piece by piece, until it fails or the end comes. */
MUST_USE status io_read_chunks(const char *path, status (*take)(const void *data, size_t n, void *ctx), void *ctx);

/* The first size - 1 bytes of a text that the system makes up (/proc, /sys: files without a size), NUL-terminated; "" when
 * it cannot be read. */
void io_read_system(const char *path, char *buf, size_t size);

/* Reads bytes [offset, offset + size) of the regular file `name` beneath the folder `dir`: no absolute path, "..",
 * symbolic link or hard link is followed (openat2; on older kernels component by component). For ONNX external
 * data. A name that would leave the folder, or bytes beyond the end: ST_BAD_DATA; missing: ST_NO_INPUT. */
MUST_USE status io_read_beneath(const char *dir, const char *name, uint64_t offset, size_t size, void *to);
MUST_USE status io_size_beneath(const char *dir, const char *name, uint64_t *size);

/* A file being written durably; file_begin copies `path`. Its folder must exist; an existing `path` must be a regular
 * file (a device is never replaced). When file_commit fails after the rename (fsync of the folder), the new file stands
 * there complete, but it may be the old one after a power cut: commit says so. */
typedef struct file_writer {
    int fd, dir; /* -1 when closed; only valid while `tmp` is not NULL */
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

/* Appends to a log file (created if missing); each io_append is one write(2) unless the system writes less. */
MUST_USE status io_open_append(const char *path, int *fd);
/* The same for a file of lines: a last line that was torn by a crash is ended first. */
MUST_USE status io_open_lines(const char *path, int *fd);
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
/* The folder for what runs remember: `configured`, else (NULL or "") distill below $XDG_CACHE_HOME, else below ~/.cache; it may
 * not exist yet. ST_CONFIG without a home. *out lives in mem (an arena of mem.h). */
struct arena;
MUST_USE status io_cache_folder(const char *configured, struct arena *mem, const char **out);
/* Bytes free for this user on the file system that holds `path`; 0 when unknown. */
uint64_t io_free_bytes(const char *path);

/* Test hook: the n-th system call made by this module from now fails with `err` (n = 0: none). IO_SHORT: it reads or
 * writes only the first half of what was asked. io_count: how many calls there were so far. */
#define IO_SHORT (-1)
void io_fail_at(uint64_t n, int err);
uint64_t io_count(void);

#endif
