/* io_folder.c - making, listing and removing folders. */
#include "base/io.h"
#include "base/io_calls.h"
#include "base/mem.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

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
    int dir = call_open_parent(path);
    if (dir >= 0) {
        rc = call_sync(dir);
        int err = errno;
        call_close(dir);
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
    if (call_unlink(path) < 0 && errno != ENOENT)
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
        call_close(fd);
        return st;
    }
    for (;;) {
        errno = 0;
        struct dirent *e = call_enter(NULL) ? readdir(d) : NULL;
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
    int fd = call_open(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY);
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
    int fd = call_open(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW), again = -1;
    if (fd < 0)
        return fail(ST_IO, "%s: the folder cannot be opened: %m", dir);
    if ((again = call_open(fd, ".", O_RDONLY | O_DIRECTORY)) < 0) {
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
    call_close(fd);
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

status io_cache_folder(const char *configured, arena *mem, const char **out)
{
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (configured && *configured)
        return arena_strdup(mem, out, configured);
    if (xdg && *xdg == '/')
        return arena_printf(mem, out, "%s/distill", xdg);
    if (home && *home == '/')
        return arena_printf(mem, out, "%s/.cache/distill", home);
    return fail(ST_CONFIG, "no folder to remember things in: there is neither XDG_CACHE_HOME nor HOME; set cache.dir");
}
