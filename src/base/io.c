/* io.c - files behind one counter of system calls that tests can make fail. */
#include "base/io.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- the counter, and the system calls behind it ------------------------------------------------------------- */

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

/* Counts one call. False: it must fail, errno is set. *n (if any) is halved when it must be short. */
static bool enter(size_t *n)
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

/* One call, repeated while a signal interrupts it. */
#define CALL(result, expr)                                                                                        \
    do {                                                                                                          \
        (result) = enter(NULL) ? (expr) : -1;                                                                     \
    } while ((result) < 0 && errno == EINTR)

static int open_at(int dir, const char *path, int flags)
{
    int fd;
    CALL(fd, openat(dir, path, flags | O_CLOEXEC | O_NOCTTY, 0666));
    return fd;
}

static int stat_fd(int fd, struct stat *sb)
{
    int rc;
    CALL(rc, fstat(fd, sb));
    return rc;
}

static int sync_fd(int fd)
{
    int rc;
    CALL(rc, fsync(fd));
    return rc < 0 && errno == EINVAL ? 0 : rc; /* devices and some file systems have nothing to sync */
}

/* close(2) is never repeated: the descriptor is gone in any case. */
static int close_fd(int fd)
{
    bool ok = enter(NULL);
    int err = errno, rc = close(fd);
    if (!ok)
        errno = err;
    return errno != EINTR && (!ok || rc < 0) ? -1 : 0; /* a signal: it is closed, and its data were synced before */
}

static int unlink_path(const char *path)
{
    int rc;
    CALL(rc, unlink(path));
    return rc;
}

/* Writes all n bytes; -1 with errno when that does not work. */
static int write_all(int fd, const unsigned char *p, size_t n)
{
    while (n) {
        size_t part = n;
        ssize_t w = enter(&part) ? write(fd, p, part) : -1;
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
        ssize_t r = enter(&part) ? pread(fd, p, part, (off_t)at) : -1;
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
    if (stat_fd(fd, sb) < 0)
        return fail(ST_IO, "%s: cannot be examined: %m", what);
    if (!S_ISREG(sb->st_mode))
        return not_regular(what, sb->st_mode);
    return ST_OK;
}

static status open_regular(const char *path, int *fd, struct stat *sb)
{
    *fd = open_at(AT_FDCWD, path, O_RDONLY | O_NONBLOCK);
    if (*fd < 0 && errno == ENXIO)
        return fail(ST_BAD_DATA, "%s: is a device or socket, a regular file is needed", path);
    if (*fd < 0)
        return fail(ST_NO_INPUT, "%s: cannot be opened: %m", path);
    status st = check_regular(*fd, path, sb);
    if (st != ST_OK) {
        close_fd(*fd);
        *fd = -1;
    }
    return st;
}

status io_read_file(const char *path, uint64_t limit, unsigned char **data, size_t *size)
{
    struct stat sb;
    int fd;
    unsigned char *p = NULL;
    *data = NULL;
    *size = 0;
    TRY(open_regular(path, &fd, &sb));
    status st = ST_OK;
    uint64_t n = (uint64_t)sb.st_size;
    if (n > limit || n >= SIZE_MAX) {
        st = fail(ST_BAD_DATA, "%s: %llu bytes are more than the limit of %llu; see [limits]", path,
                  (unsigned long long)n, (unsigned long long)limit);
        goto done;
    }
    TRY_DONE(mem_alloc(&p, (size_t)n + 1, 1));
    TRY_DONE(read_all(fd, path, p, (size_t)n, 0));
    *data = p;
    *size = (size_t)n;
    p = NULL;
done:
    mem_free(p);
    close_fd(fd);
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
    close_fd(fd);
    return st;
}

/* ---- reading beneath a folder -------------------------------------------------------------------------------- */

/* Refuses by its text alone what openat2 would refuse too, so that the message says why. */
static status check_name(const char *dir, const char *name)
{
    if (!*name)
        return fail(ST_BAD_DATA, "%s: an empty file name", dir);
    if (name[0] == '/')
        return fail(ST_BAD_DATA, "%s: '%s' is an absolute path; only files beneath the folder are read", dir, name);
    for (const char *p = name; *p;) {
        size_t n = strcspn(p, "/");
        if (n == 2 && p[0] == '.' && p[1] == '.')
            return fail(ST_BAD_DATA, "%s: '%s' contains '..'; only files beneath the folder are read", dir, name);
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
            int next = open_at(at, n ? part : ".", (last ? O_NONBLOCK : O_DIRECTORY) | O_RDONLY | O_NOFOLLOW);
            if (next < 0)
                break;
            if (last) {
                fd = next;
                break;
            }
            if (at != dir)
                close_fd(at);
            at = next;
        }
        p += n + 1;
    }
    int err = errno;
    if (at != dir)
        close_fd(at);
    errno = err;
    return fd;
}

static int open_beneath(int dir, const char *name)
{
    struct open_how how = {.flags = O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    long fd;
    do {
        fd = enter(NULL) ? syscall(SYS_openat2, dir, name, &how, sizeof how) : -1;
    } while (fd < 0 && (errno == EINTR || errno == EAGAIN));
    return fd < 0 && errno == ENOSYS ? open_walk(dir, name) : (int)fd;
}

static status open_in(const char *dir, const char *name, int *fd, struct stat *sb)
{
    *fd = -1;
    TRY(check_name(dir, name));
    int d = open_at(AT_FDCWD, dir, O_PATH | O_DIRECTORY);
    if (d < 0)
        return fail(ST_NO_INPUT, "%s: the folder cannot be opened: %m", dir);
    status st = ST_OK;
    int f = open_beneath(d, name);
    if (f < 0 && (errno == ELOOP || errno == EXDEV))
        st = fail(ST_BAD_DATA, "%s/%s: is or leads through a symbolic link; only plain files beneath the folder are read",
                  dir, name);
    else if (f < 0)
        st = fail(ST_NO_INPUT, "%s/%s: cannot be opened: %m", dir, name);
    else if (stat_fd(f, sb) < 0)
        st = fail(ST_IO, "%s/%s: cannot be examined: %m", dir, name);
    else if (!S_ISREG(sb->st_mode))
        st = fail(ST_BAD_DATA, "%s/%s: is not a regular file", dir, name);
    else if (sb->st_nlink != 1)
        st = fail(ST_BAD_DATA, "%s/%s: has more than one name (hard link) and is not read; copy it to a file of its own",
                  dir, name);
    close_fd(d);
    if (st != ST_OK && f >= 0)
        close_fd(f);
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
    close_fd(fd);
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
    close_fd(fd);
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

static int open_folder_of(const char *path)
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
    return open_at(AT_FDCWD, n ? dir : slash ? "/" : ".", O_RDONLY | O_DIRECTORY);
}

/* A file of that name can only be left over from a process that died (in a container the number is often the same). */
static int create(const char *tmp)
{
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
    int fd = open_at(AT_FDCWD, tmp, flags);
    if (fd < 0 && errno == EEXIST && unlink_path(tmp) == 0)
        fd = open_at(AT_FDCWD, tmp, flags);
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
    if (st == ST_OK && (w->dir = open_folder_of(path)) < 0)
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
    if (w->st == ST_OK && sync_fd(w->fd) < 0)
        w->st = fail(ST_IO, "%s: cannot be brought to the disk (fsync): %m; nothing was replaced", w->path);
    if (w->st == ST_OK) {
        int rc = close_fd(w->fd); /* some file systems report a failed write only here */
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
            if (sync_fd(w->dir) < 0)
                w->st = fail(ST_IO, "%s: written, but its folder cannot be brought to the disk (fsync): %m; it may "
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
            close_fd(w->fd);
        if (w->dir >= 0)
            close_fd(w->dir);
    }
    if (w->tmp && w->buf && unlink_path(w->tmp) < 0 && errno != ENOENT)
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

status io_open_append(const char *path, int *fd)
{
    struct stat sb;
    *fd = open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK);
    if (*fd < 0)
        return fail(ST_CANNOT_CREATE, "%s: cannot be opened for appending: %m", path);
    if (stat_fd(*fd, &sb) < 0 || S_ISFIFO(sb.st_mode) || S_ISSOCK(sb.st_mode)) {
        close_fd(*fd);
        *fd = -1;
        return fail(ST_CANNOT_CREATE, "%s: is not a file that can be appended to", path);
    }
    return ST_OK;
}

status io_append(int fd, const void *data, size_t n)
{
    return write_all(fd, data, n) < 0 ? fail(ST_IO, "cannot append to a log: %m") : ST_OK;
}

status io_sync(int fd)
{
    return sync_fd(fd) < 0 ? fail(ST_IO, "cannot bring a file to the disk (fsync): %m") : ST_OK;
}

void io_close(int fd)
{
    if (fd >= 0)
        (void)close_fd(fd);
}

status io_lock(const char *path, int *fd)
{
    int rc;
    *fd = open_at(AT_FDCWD, path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK);
    if (*fd < 0)
        return fail(ST_CANNOT_CREATE, "%s: the lock file cannot be opened: %m", path);
    status st = ST_OK;
    char holder[160] = "", host[65] = "";
    CALL(rc, flock(*fd, LOCK_EX | LOCK_NB));
    if (rc < 0 && errno == EWOULDBLOCK) {
        ssize_t n = enter(NULL) ? pread(*fd, holder, sizeof holder - 1, 0) : -1;
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
        close_fd(*fd);
        *fd = -1;
    }
    return st;
}

/* ---- folders ------------------------------------------------------------------------------------------------- */

static bool stat_path(const char *path, struct stat *sb)
{
    int rc;
    CALL(rc, stat(path, sb));
    return rc == 0;
}

bool io_exists(const char *path)
{
    struct stat sb;
    return stat_path(path, &sb);
}

bool io_is_dir(const char *path)
{
    struct stat sb;
    return stat_path(path, &sb) && S_ISDIR(sb.st_mode);
}

/* Makes one folder and brings its name to the disk, so that files written into it later are found after a crash. */
static status make_dir(const char *path)
{
    int rc;
    CALL(rc, mkdir(path, 0777));
    if (rc < 0) {
        int err = errno;
        if (err == EEXIST && io_is_dir(path))
            return ST_OK;
        errno = err;
        return fail(ST_CANNOT_CREATE, "%s: the folder cannot be made: %m", path);
    }
    int dir = open_folder_of(path);
    if (dir >= 0) {
        rc = sync_fd(dir);
        int err = errno;
        close_fd(dir);
        errno = err;
    }
    if (dir < 0 || rc < 0)
        return fail(ST_IO, "%s: made, but its parent cannot be brought to the disk (fsync): %m", path);
    return ST_OK;
}

status io_make_dirs(const char *path)
{
    char *p;
    if (!*path)
        return fail(ST_CANNOT_CREATE, "an empty folder name");
    TRY(mem_strdup(&p, path));
    status st = ST_OK;
    size_t n = strlen(p);
    while (n > 1 && p[n - 1] == '/')
        p[--n] = 0;
    for (size_t i = 1; i <= n && st == ST_OK; i++) {
        if ((p[i] != '/' && p[i] != 0) || p[i - 1] == '/')
            continue;
        char keep = p[i];
        p[i] = 0;
        st = make_dir(p);
        p[i] = keep;
    }
    mem_free(p);
    return st;
}

status io_remove(const char *path)
{
    if (unlink_path(path) < 0 && errno != ENOENT)
        return fail(ST_IO, "%s: cannot be removed: %m", path);
    return ST_OK;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names in the folder `fd` (taken). */
static status list_fd(int fd, const char *dir, size_t limit, char ***names, size_t *n)
{
    size_t cap = 0;
    status st = ST_OK;
    *names = NULL;
    *n = 0;
    DIR *d = fdopendir(fd);
    if (!d) {
        st = fail(ST_OOM, "%s: cannot be listed: %m", dir);
        close_fd(fd);
        return st;
    }
    for (;;) {
        errno = 0;
        struct dirent *e = enter(NULL) ? readdir(d) : NULL;
        if (!e && errno) {
            st = fail(ST_IO, "%s: cannot be listed: %m", dir);
            goto done;
        }
        if (!e)
            break;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (*n >= limit) {
            st = fail(ST_BAD_DATA, "%s: holds more than %zu names", dir, limit);
            goto done;
        }
        TRY_DONE(mem_push(names, &cap, *n, sizeof **names));
        TRY_DONE(mem_strdup(&(*names)[*n], e->d_name));
        ++*n;
    }
    if (*n)
        qsort(*names, *n, sizeof **names, by_bytes);
done:
    closedir(d);
    if (st != ST_OK) {
        io_list_free(*names, *n);
        *names = NULL;
        *n = 0;
    }
    return st;
}

status io_list(const char *dir, size_t limit, char ***names, size_t *n)
{
    *names = NULL;
    *n = 0;
    int fd = open_at(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        return fail(errno == ENOTDIR ? ST_BAD_DATA : ST_NO_INPUT, "%s: the folder cannot be opened: %m", dir);
    return list_fd(fd, dir, limit, names, n);
}

void io_list_free(char **names, size_t n)
{
    for (size_t i = 0; names && i < n; i++)
        mem_free(names[i]);
    mem_free(names);
}

typedef struct path_list {
    char **path;
    size_t n, cap;
} path_list;

static status path_list_add(path_list *l, const char *dir, const char *name)
{
    size_t room = strlen(dir) + strlen(name) + 2;
    TRY(mem_push(&l->path, &l->cap, l->n, sizeof *l->path));
    TRY(mem_alloc(&l->path[l->n], room, 1));
    snprintf(l->path[l->n++], room, "%s%s%s", dir, *name ? "/" : "", name);
    return ST_OK;
}

/* Removes the files of one folder and adds its folders to the list. */
static status empty_folder(const char *dir, path_list *folders)
{
    char **names = NULL;
    size_t n = 0;
    status st = ST_OK;
    int fd = open_at(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW), again = -1;
    if (fd < 0)
        return fail(ST_IO, "%s: the folder cannot be opened: %m", dir);
    if ((again = open_at(fd, ".", O_RDONLY | O_DIRECTORY)) < 0) {
        st = fail(ST_IO, "%s: the folder cannot be opened: %m", dir);
        goto done;
    }
    TRY_DONE(list_fd(again, dir, SIZE_MAX, &names, &n));
    for (size_t i = 0; i < n; i++) {
        int rc;
        CALL(rc, unlinkat(fd, names[i], 0));
        if (rc < 0 && (errno == EISDIR || errno == EPERM))
            TRY_DONE(path_list_add(folders, dir, names[i]));
        else if (rc < 0 && errno != ENOENT) {
            st = fail(ST_IO, "%s/%s: cannot be removed: %m", dir, names[i]);
            goto done;
        }
    }
done:
    io_list_free(names, n);
    close_fd(fd);
    return st;
}

status io_remove_tree(const char *path)
{
    struct stat sb;
    path_list folders = {0};
    status st = ST_OK;
    int rc;
    CALL(rc, lstat(path, &sb));
    if (rc < 0)
        return errno == ENOENT ? ST_OK : fail(ST_IO, "%s: cannot be examined: %m", path);
    if (!S_ISDIR(sb.st_mode))
        return io_remove(path);
    TRY_DONE(path_list_add(&folders, path, ""));
    for (size_t i = 0; i < folders.n; i++)
        TRY_DONE(empty_folder(folders.path[i], &folders));
    for (size_t i = folders.n; i-- > 0;) {
        CALL(rc, rmdir(folders.path[i]));
        if (rc < 0 && errno != ENOENT) {
            st = fail(ST_IO, "%s: the folder cannot be removed: %m", folders.path[i]);
            goto done;
        }
    }
done:
    io_list_free(folders.path, folders.n);
    return st;
}

uint64_t io_free_bytes(const char *path)
{
    struct statvfs vfs;
    int rc;
    CALL(rc, statvfs(path, &vfs));
    return rc < 0 ? 0 : (uint64_t)vfs.f_bavail * vfs.f_frsize;
}
