/* io_calls.h - private to io.c and io_folder.c: system calls that count and can be made to fail (io_fail_at).
 *
 * All return what the system call returns, with errno, and repeat it while a signal interrupts it. */
#ifndef DISTILL_BASE_IO_CALLS_H
#define DISTILL_BASE_IO_CALLS_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

/* Counts one call. False: it must fail, errno is set. *n (if any) is halved when it must be short. */
bool call_enter(size_t *n);

/* One call, repeated while a signal interrupts it. */
#define CALL(result, expr)                                                                                        \
    do {                                                                                                          \
        (result) = call_enter(NULL) ? (expr) : -1;                                                                     \
    } while ((result) < 0 && errno == EINTR)

int call_open(int dir, const char *path, int flags); /* O_CLOEXEC always */
int call_stat(int fd, struct stat *sb);
int call_sync(int fd);
int call_close(int fd); /* never repeated: the descriptor is gone in any case */
int call_unlink(const char *path);
int call_open_parent(const char *path); /* the folder that holds `path` */

#endif
