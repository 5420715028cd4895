/* io_shared.c - see io_shared.h. */
#include "base/io_shared.h"
#include "base/io.h"
#include "base/io_calls.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

status io_open_shared(const char *path, int *fd)
{
    struct stat sb;
    int rc;
    status st = ST_OK;
    *fd = call_open(AT_FDCWD, path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK);
    if (*fd < 0)
        return fail(ST_CANNOT_CREATE, "%s: cannot be opened: %m", path);
    if (call_stat(*fd, &sb) < 0)
        st = fail(ST_IO, "%s: cannot be examined: %m", path);
    else if (!S_ISREG(sb.st_mode))
        st = fail(ST_BAD_DATA, "%s: is no regular file", path);
    if (st == ST_OK) {
        CALL(rc, flock(*fd, LOCK_SH | LOCK_NB));
        if (rc < 0)
            st = fail(ST_STOPPED, "%s: cannot be locked: %m", path);
    }
    if (st != ST_OK) {
        call_close(*fd);
        *fd = -1;
    }
    return st;
}

status io_get_size(int fd, const char *what, uint64_t *size)
{
    struct stat sb;
    *size = 0;
    if (call_stat(fd, &sb) < 0)
        return fail(ST_IO, "%s: cannot be examined: %m", what);
    *size = (uint64_t)sb.st_size;
    return ST_OK;
}

status io_set_size(int fd, const char *what, uint64_t size)
{
    int rc;
    CALL(rc, ftruncate(fd, (off_t)size));
    return rc < 0 ? fail(ST_IO, "%s: cannot be made %llu bytes: %m", what, (unsigned long long)size) : ST_OK;
}

status io_read_at(int fd, const char *what, uint64_t at, void *to, size_t n, size_t *got)
{
    *got = 0;
    while (*got < n) {
        size_t part = n - *got;
        ssize_t r = call_enter(&part) ? pread(fd, (char *)to + *got, part, (off_t)(at + *got)) : -1;
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return fail(ST_IO, "%s: cannot read at byte %llu: %m", what, (unsigned long long)(at + *got));
        if (r == 0)
            break;
        *got += (size_t)r;
    }
    return ST_OK;
}

status io_write_at(int fd, const char *what, uint64_t at, const void *from, size_t n)
{
    for (size_t done = 0; done < n;) {
        size_t part = n - done;
        ssize_t w = call_enter(&part) ? pwrite(fd, (const char *)from + done, part, (off_t)(at + done)) : -1;
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return fail(ST_IO, "%s: cannot write at byte %llu: %m", what, (unsigned long long)(at + done));
        if (w == 0)
            return fail(ST_IO, "%s: cannot write at byte %llu", what, (unsigned long long)(at + done));
        done += (size_t)w;
    }
    return ST_OK;
}

void io_touch(int fd)
{
    int rc;
    CALL(rc, futimens(fd, NULL));
    (void)rc; /* a time stamp that stays old costs nothing but an early removal */
}

status io_look(const char *path, io_facts *out)
{
    struct stat sb;
    int rc;
    *out = (io_facts){0};
    CALL(rc, lstat(path, &sb));
    if (rc < 0 || !S_ISREG(sb.st_mode))
        return fail(ST_NO_INPUT, "%s: no regular file", path);
    *out = (io_facts){.size = (uint64_t)sb.st_size, .room = (uint64_t)sb.st_blocks * 512,
                      .modified = (int64_t)sb.st_mtim.tv_sec * 1000000000 + sb.st_mtim.tv_nsec};
    return ST_OK;
}

status io_is_used(const char *path, bool *used)
{
    int rc, fd = call_open(AT_FDCWD, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    *used = false;
    if (fd < 0)
        return errno == ENOENT ? ST_OK : fail(ST_IO, "%s: cannot be opened: %m", path);
    CALL(rc, flock(fd, LOCK_EX | LOCK_NB));
    *used = rc < 0;
    call_close(fd);
    return ST_OK;
}

status io_remove_unused(const char *path, bool *removed)
{
    int rc, fd = call_open(AT_FDCWD, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    *removed = fd < 0 && errno == ENOENT;
    if (*removed)
        return ST_OK;
    if (fd < 0)
        return fail(ST_IO, "%s: cannot be opened: %m", path);
    status st = ST_OK;
    CALL(rc, flock(fd, LOCK_EX | LOCK_NB));
    if (rc == 0) {
        if (call_unlink(path) < 0 && errno != ENOENT)
            st = fail(ST_IO, "%s: cannot be removed: %m", path);
        *removed = st == ST_OK;
    }
    call_close(fd);
    return st;
}
