/* io_calls.c - the system calls of io.c and io_folder.c behind one counter that tests can make fail. */
#include "base/io_calls.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static atomic_uint_fast64_t count;
static atomic_uint_fast64_t fail_at; /* value of count at which to fail; 0: never */
static atomic_int fail_err;

void io_fail_at(uint64_t n, int err)
{
    atomic_store(&fail_err, err);
    atomic_store(&fail_at, n ? atomic_load(&count) + n : 0);
}

uint64_t io_count(void)
{
    return atomic_load(&count);
}

bool call_enter(size_t *n)
{
    uint64_t now = atomic_fetch_add(&count, 1) + 1;
    if (now != atomic_load(&fail_at))
        return true;
    int err = atomic_load(&fail_err);
    if (err == IO_SHORT) {
        if (n && *n > 1)
            *n /= 2;
        return true;
    }
    errno = err;
    return false;
}

int call_open(int dir, const char *path, int flags)
{
    int fd;
    CALL(fd, openat(dir, path, flags | O_CLOEXEC | O_NOCTTY, 0666));
    return fd;
}

int call_stat(int fd, struct stat *sb)
{
    int rc;
    CALL(rc, fstat(fd, sb));
    return rc;
}

int call_sync(int fd)
{
    int rc;
    CALL(rc, fsync(fd));
    return rc < 0 && errno == EINVAL ? 0 : rc; /* devices and some file systems have nothing to sync */
}

int call_close(int fd)
{
    bool ok = call_enter(NULL);
    int err = errno, rc = close(fd);
    if (!ok)
        errno = err;
    return errno != EINTR && (!ok || rc < 0)
               ? -1
               : 0; /* a signal: it is closed, and its data were synced before */
}

int call_unlink(const char *path)
{
    int rc;
    CALL(rc, unlink(path));
    return rc;
}

int call_open_parent(const char *path)
{
    char dir[4096];
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (n >= sizeof dir) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(dir, path, n);
    dir[n] = 0;
    return call_open(AT_FDCWD, n ? dir : slash ? "/" : ".", O_RDONLY | O_DIRECTORY);
}
