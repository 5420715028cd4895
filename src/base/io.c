/* io.c - reading, durable writing, logs and locks. */
#include "base/io.h"
#include "base/io_calls.h"
#include "base/mem.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Writes all n bytes; -1 with errno when that does not work. */
static int write_all(int fd, const unsigned char *p, size_t n)
{
    while (n) {
        size_t part = n;
        ssize_t w = call_enter(&part) ? write(fd, p, part) : -1;
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0) {
            if (w == 0)
                errno = EIO;
            return -1;
        }
        p += w;
        n -= (size_t)w;
    }
    return 0;
}

/* Reads n bytes at offset `at`. `what` names the file in messages. */
static status read_all(int fd, const char *what, unsigned char *p, size_t n, uint64_t at)
{
    while (n) {
        size_t part = n;
        ssize_t r = call_enter(&part) ? pread(fd, p, part, (off_t)at) : -1;
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return fail(ST_IO, "%s: cannot read at byte %llu: %m", what, (unsigned long long)at);
        if (r == 0)
            return fail(ST_BAD_DATA, "%s: ends at byte %llu, it became shorter while it was read", what,
                        (unsigned long long)at);
        p += r;
        n -= (size_t)r;
        at += (uint64_t)r;
    }
    return ST_OK;
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

static status not_regular(const char *what, mode_t mode)
{
    const char *is = S_ISDIR(mode) ? "a folder" : S_ISFIFO(mode) ? "a pipe" : "a device or socket";
    return fail(ST_BAD_DATA, "%s: is %s, a regular file is needed", what, is);
}

/* The descriptor is opened without blocking, so that a pipe or a tape cannot hold the program. */
static status check_regular(int fd, const char *what, struct stat *sb)
{
    if (call_stat(fd, sb) < 0)
        return fail(ST_IO, "%s: cannot be examined: %m", what);
    if (!S_ISREG(sb->st_mode))
        return not_regular(what, sb->st_mode);
    return ST_OK;
}

static status open_regular(const char *path, int *fd, struct stat *sb)
{
    *fd = call_open(AT_FDCWD, path, O_RDONLY | O_NONBLOCK);
    if (*fd < 0 && errno == ENXIO)
        return fail(ST_BAD_DATA, "%s: is a device or socket, a regular file is needed", path);
    if (*fd < 0)
        return fail(ST_NO_INPUT, "%s: cannot be opened: %m", path);
    status st = check_regular(*fd, path, sb);
    if (st != ST_OK) {
        call_close(*fd);
        *fd = -1;
    }
    return st;
}

status io_open_read(const char *path, int *fd, uint64_t *size)
{
    struct stat sb;
    *size = 0;
    TRY(open_regular(path, fd, &sb));
    *size = (uint64_t)sb.st_size;
    return ST_OK;
}

static status open_bounded(const char *path, uint64_t limit, int *fd, size_t *size)
{
    struct stat sb;
    TRY(open_regular(path, fd, &sb));
    uint64_t n = (uint64_t)sb.st_size;
    *size = (size_t)n;
    if (n <= limit && n < SIZE_MAX)
        return ST_OK;
    call_close(*fd);
    return fail(ST_BAD_DATA, "%s: %llu bytes are more than the limit of %llu; see [limits]", path, (unsigned long long)n,
                (unsigned long long)limit);
}

status io_read_file(const char *path, uint64_t limit, unsigned char **data, size_t *size)
{
    int fd;
    size_t n;
    unsigned char *p = NULL;
    *data = NULL;
    *size = 0;
    TRY(open_bounded(path, limit, &fd, &n));
    status st = ST_OK;
    TRY_DONE(mem_alloc(&p, n + 1, 1));
    TRY_DONE(read_all(fd, path, p, n, 0));
    *data = p;
    *size = n;
    p = NULL;
done:
    mem_free(p);
    call_close(fd);
    return st;
}

status io_read_shared(const char *path, uint64_t limit, mem_shared **data, size_t *size)
{
    int fd;
    size_t n;
    mem_shared *m = NULL;
    *data = NULL;
    *size = 0;
    TRY(open_bounded(path, limit, &fd, &n));
    status st = ST_OK;
    TRY_DONE(mem_share(n, &m));
    TRY_DONE(read_all(fd, path, (unsigned char *)mem_shared_data(m), n, 0));
    *data = m;
    *size = n;
    m = NULL;
done:
    mem_drop(m);
    call_close(fd);
    return st;
}

#define CHUNK ((size_t)1 << 20)

status io_read_chunks(const char *path, status (*take)(const void *data, size_t n, void *ctx), void *ctx)
{
    struct stat sb;
    int fd;
    unsigned char *p = NULL;
    TRY(open_regular(path, &fd, &sb));
    status st = ST_OK;
    uint64_t size = (uint64_t)sb.st_size;
    TRY_DONE(mem_alloc(&p, CHUNK, 1));
    for (uint64_t at = 0; at < size;) {
        size_t n = size - at < CHUNK ? (size_t)(size - at) : CHUNK;
        TRY_DONE(read_all(fd, path, p, n, at));
        TRY_DONE(take(p, n, ctx));
        at += n;
    }
done:
    mem_free(p);
    call_close(fd);
    return st;
}

void io_read_system(const char *path, char *buf, size_t size)
{
    int fd = call_open(AT_FDCWD, path, O_RDONLY | O_NONBLOCK);
    size_t used = 0;
    while (fd >= 0 && used + 1 < size) {
        ssize_t n = call_enter(NULL) ? read(fd, buf + used, size - 1 - used) : -1;
        if (n <= 0 && !(n < 0 && errno == EINTR))
            break;
        used += n > 0 ? (size_t)n : 0;
    }
    buf[used] = 0;
    if (fd >= 0)
        call_close(fd);
}

/* ---- reading beneath a folder -------------------------------------------------------------------------------- */

/* Refuses by its text alone what openat2 would refuse too, so that the message says why. */
static status check_name(const char *dir, const char *name)
{
    if (!*name)
        return fail(ST_BAD_DATA, "%s: an empty file name", dir);
    if (name[0] == '/')
        return fail(ST_BAD_DATA, "%s: '%s' is an absolute path; only files beneath the folder are read", dir,
                    name);
    for (const char *p = name; *p;) {
        size_t n = strcspn(p, "/");
        if (n == 2 && p[0] == '.' && p[1] == '.')
            return fail(ST_BAD_DATA, "%s: '%s' contains '..'; only files beneath the folder are read", dir,
                        name);
        p += n + (p[n] == '/');
    }
    return ST_OK;
}

/* For kernels without openat2 (before 5.6): one component at a time, following no link. */
static int open_walk(int dir, const char *name)
{
    int at = dir, fd = -1;
    for (const char *p = name;;) {
        char part[256];
        size_t n = strcspn(p, "/");
        if (n >= sizeof part) {
            errno = ENAMETOOLONG;
            break;
        }
        memcpy(part, p, n);
        part[n] = 0;
        bool last = p[n] == 0;
        if (n > 0 || last) {
            int next =
                call_open(at, n ? part : ".", (last ? O_NONBLOCK : O_DIRECTORY) | O_RDONLY | O_NOFOLLOW);
            if (next < 0)
                break;
            if (last) {
                fd = next;
                break;
            }
            if (at != dir)
                call_close(at);
            at = next;
        }
        p += n + 1;
    }
    int err = errno;
    if (at != dir)
        call_close(at);
    errno = err;
    return fd;
}

static int open_beneath(int dir, const char *name)
{
    struct open_how how = {.flags = O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    long fd;
    do {
        fd = call_enter(NULL) ? syscall(SYS_openat2, dir, name, &how, sizeof how) : -1;
    } while (fd < 0 && (errno == EINTR || errno == EAGAIN));
    return fd < 0 && errno == ENOSYS ? open_walk(dir, name) : (int)fd;
}

static status open_in(const char *dir, const char *name, int *fd, struct stat *sb)
{
    *fd = -1;
    TRY(check_name(dir, name));
    int d = call_open(AT_FDCWD, dir, O_PATH | O_DIRECTORY);
    if (d < 0)
        return fail(ST_NO_INPUT, "%s: the folder cannot be opened: %m", dir);
    status st = ST_OK;
    int f = open_beneath(d, name);
    if (f < 0 && (errno == ELOOP || errno == EXDEV))
        st = fail(ST_BAD_DATA,
                  "%s/%s: is or leads through a symbolic link; only plain files beneath the folder are read",
                  dir, name);
    else if (f < 0)
        st = fail(ST_NO_INPUT, "%s/%s: cannot be opened: %m", dir, name);
    else if (call_stat(f, sb) < 0)
        st = fail(ST_IO, "%s/%s: cannot be examined: %m", dir, name);
    else if (!S_ISREG(sb->st_mode))
        st = fail(ST_BAD_DATA, "%s/%s: is not a regular file", dir, name);
    else if (sb->st_nlink != 1)
        st = fail(ST_BAD_DATA,
                  "%s/%s: has more than one name (hard link) and is not read; copy it to a file of its own",
                  dir, name);
    call_close(d);
    if (st != ST_OK && f >= 0)
        call_close(f);
    else
        *fd = f;
    return st;
}

status io_size_beneath(const char *dir, const char *name, uint64_t *size)
{
    struct stat sb;
    int fd;
    *size = 0;
    TRY(open_in(dir, name, &fd, &sb));
    *size = (uint64_t)sb.st_size;
    call_close(fd);
    return ST_OK;
}

status io_read_beneath(const char *dir, const char *name, uint64_t offset, size_t size, void *to)
{
    struct stat sb;
    int fd;
    TRY(open_in(dir, name, &fd, &sb));
    uint64_t have = (uint64_t)sb.st_size;
    status st = size > have || offset > have - size
                    ? fail(ST_BAD_DATA, "%s/%s: %zu bytes at %llu wanted, the file has %llu", dir, name, size,
                           (unsigned long long)offset, (unsigned long long)have)
                    : read_all(fd, name, to, size, offset);
    call_close(fd);
    return st;
}

/* ---- durable writing ----------------------------------------------------------------------------------------- */

#define WRITE_BUFFER ((size_t)1 << 18)

/* dir/.NAME.tmp.PID.N: N keeps writers of one process apart; a long NAME is cut so that the whole stays below 255. */
static status temporary_name(const char *path, char **tmp)
{
    static atomic_uint serial;
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    size_t dir = (size_t)(name - path), room = strlen(path) + 64;
    TRY(mem_alloc(tmp, room, 1));
    snprintf(*tmp, room, "%.*s.%.180s.tmp.%ld.%u", (int)dir, path, name, (long)getpid(),
             atomic_fetch_add(&serial, 1));
    return ST_OK;
}

/* A file of that name can only be left over from a process that died (in a container the number is often the same). */
static int create(const char *tmp)
{
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
    int fd = call_open(AT_FDCWD, tmp, flags);
    if (fd < 0 && errno == EEXIST && call_unlink(tmp) == 0)
        fd = call_open(AT_FDCWD, tmp, flags);
    return fd;
}

status file_begin(file_writer *w, const char *path)
{
    struct stat sb;
    int rc;
    *w = (file_writer){.fd = -1, .dir = -1};
    if (strlen(path) > INT32_MAX / 2)
        return w->st = fail(ST_CANNOT_CREATE, "the file name is too long");
    CALL(rc, stat(path, &sb));
    if (rc == 0 && !S_ISREG(sb.st_mode))
        return w->st = fail(ST_CANNOT_CREATE, "%s: exists and is not a regular file", path);
    status st = mem_strdup(&w->path, path);
    if (st == ST_OK)
        st = temporary_name(path, &w->tmp);
    if (st == ST_OK)
        st = mem_alloc(&w->buf, WRITE_BUFFER, 1);
    if (st == ST_OK && (w->dir = call_open_parent(path)) < 0)
        st = fail(ST_CANNOT_CREATE, "%s: its folder cannot be opened: %m", path);
    if (st == ST_OK && (w->fd = create(w->tmp)) < 0)
        st = fail(ST_CANNOT_CREATE, "%s: cannot be created: %m", w->tmp);
    if (st != ST_OK)
        file_abandon(w);
    return w->st = st;
}

static void flush(file_writer *w)
{
    if (w->st == ST_OK && w->used && write_all(w->fd, w->buf, w->used) < 0)
        w->st = fail(ST_IO, "%s: cannot write: %m", w->path);
    w->used = 0;
}

void file_write(file_writer *w, const void *data, size_t n)
{
    const unsigned char *p = data;
    while (n && w->st == ST_OK) {
        size_t part = n < WRITE_BUFFER - w->used ? n : WRITE_BUFFER - w->used;
        memcpy(w->buf + w->used, p, part);
        w->used += part;
        w->written += part;
        p += part;
        n -= part;
        if (w->used == WRITE_BUFFER)
            flush(w);
    }
}

void file_printf(file_writer *w, const char *fmt, ...)
{
    if (w->st != ST_OK)
        return;
    char small[512], *big = NULL;
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(small, sizeof small, fmt, ap);
    va_end(ap);
    if (n < 0)
        w->st = fail(ST_INTERNAL, "%s: cannot format text", w->path);
    else if ((size_t)n < sizeof small)
        file_write(w, small, (size_t)n);
    else if ((w->st = mem_alloc(&big, (size_t)n + 1, 1)) == ST_OK) {
        vsnprintf(big, (size_t)n + 1, fmt, again);
        file_write(w, big, (size_t)n);
    }
    va_end(again);
    mem_free(big);
}

status file_commit(file_writer *w)
{
    if (!w->tmp && w->st == ST_OK)
        return fail(ST_INTERNAL, "file_commit without file_begin");
    if (!w->tmp)
        return w->st;
    flush(w);
    if (w->st == ST_OK && call_sync(w->fd) < 0)
        w->st = fail(ST_IO, "%s: cannot be brought to the disk (fsync): %m; nothing was replaced", w->path);
    if (w->st == ST_OK) {
        int rc = call_close(w->fd); /* some file systems report a failed write only here */
        w->fd = -1;
        if (rc < 0)
            w->st = fail(ST_IO, "%s: cannot write: %m", w->path);
    }
    if (w->st == ST_OK) {
        int rc;
        CALL(rc, rename(w->tmp, w->path));
        if (rc < 0) {
            w->st = fail(ST_CANNOT_CREATE, "%s: cannot be replaced: %m", w->path);
        } else {
            mem_free(w->tmp);
            w->tmp = NULL;
            if (call_sync(w->dir) < 0)
                w->st = fail(ST_IO,
                             "%s: written, but its folder cannot be brought to the disk (fsync): %m; it may "
                             "be the old one after a power cut",
                             w->path);
        }
    }
    status st = w->st;
    file_abandon(w);
    return w->st = st;
}

void file_abandon(file_writer *w)
{
    if (w->buf || w->path || w->tmp) { /* begun: a zeroed writer has fd 0, which is not ours */
        if (w->fd >= 0)
            call_close(w->fd);
        if (w->dir >= 0)
            call_close(w->dir);
    }
    if (w->tmp && w->buf && call_unlink(w->tmp) < 0 && errno != ENOENT)
        (void)unlink(w->tmp); /* an injected failure must not leave the file behind */
    mem_free(w->tmp);
    mem_free(w->path);
    mem_free(w->buf);
    *w = (file_writer){.fd = -1, .dir = -1, .st = w->st};
}

status io_write_file(const char *path, const void *data, size_t n)
{
    file_writer w;
    TRY(file_begin(&w, path));
    file_write(&w, data, n);
    return file_commit(&w);
}

/* ---- logs and locks ------------------------------------------------------------------------------------------ */

static status open_log(const char *path, int access, int *fd, struct stat *sb)
{
    *fd = call_open(AT_FDCWD, path, access | O_CREAT | O_APPEND | O_NONBLOCK);
    if (*fd < 0)
        return fail(ST_CANNOT_CREATE, "%s: cannot be opened for appending: %m", path);
    if (call_stat(*fd, sb) < 0 || S_ISFIFO(sb->st_mode) || S_ISSOCK(sb->st_mode)) {
        call_close(*fd);
        *fd = -1;
        return fail(ST_CANNOT_CREATE, "%s: is not a file that can be appended to", path);
    }
    return ST_OK;
}

status io_open_append(const char *path, int *fd)
{
    struct stat sb;
    return open_log(path, O_WRONLY, fd, &sb);
}

status io_open_lines(const char *path, int *fd)
{
    struct stat sb;
    unsigned char last = '\n';
    TRY(open_log(path, O_RDWR, fd, &sb));
    status st = S_ISREG(sb.st_mode) && sb.st_size > 0 ? read_all(*fd, path, &last, 1, (uint64_t)sb.st_size - 1) : ST_OK;
    if (st == ST_OK && last != '\n')
        st = io_append(*fd, "\n", 1);
    if (st != ST_OK) {
        call_close(*fd);
        *fd = -1;
    }
    return st;
}

status io_append(int fd, const void *data, size_t n)
{
    return write_all(fd, data, n) < 0 ? fail(ST_IO, "cannot append to a log: %m") : ST_OK;
}

status io_sync(int fd)
{
    return call_sync(fd) < 0 ? fail(ST_IO, "cannot bring a file to the disk (fsync): %m") : ST_OK;
}

void io_close(int fd)
{
    if (fd >= 0)
        (void)call_close(fd);
}

status io_lock(const char *path, int *fd)
{
    int rc;
    *fd = call_open(AT_FDCWD, path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK);
    if (*fd < 0)
        return fail(ST_CANNOT_CREATE, "%s: the lock file cannot be opened: %m", path);
    status st = ST_OK;
    char holder[160] = "", host[65] = "";
    CALL(rc, flock(*fd, LOCK_EX | LOCK_NB));
    if (rc < 0 && errno == EWOULDBLOCK) {
        ssize_t n = call_enter(NULL) ? pread(*fd, holder, sizeof holder - 1, 0) : -1;
        holder[n > 0 ? n : 0] = 0;
        holder[strcspn(holder, "\n")] = 0;
        st = fail(ST_STOPPED, "%s: locked by %s; only one process may work here", path,
                  *holder ? holder : "another process");
    } else if (rc < 0) {
        st = fail(ST_IO, "%s: cannot be locked: %m", path);
    }
    if (st == ST_OK) {
        (void)gethostname(host, sizeof host - 1);
        int n = snprintf(holder, sizeof holder, "process %ld on %s\n", (long)getpid(), host);
        CALL(rc, ftruncate(*fd, 0));
        if (rc < 0 || write_all(*fd, (const unsigned char *)holder, (size_t)n) < 0)
            st = fail(ST_IO, "%s: cannot write the lock: %m", path);
    }
    if (st != ST_OK) {
        call_close(*fd);
        *fd = -1;
    }
    return st;
}
