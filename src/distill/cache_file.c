/* cache_file.c - see cache_file.h. */
#include "distill/cache_file.h"
#include "base/hash.h"
#include "base/io.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FILES_MAX 100000
#define LOCK_MS   10
#define LOCK_TRIES 1000

static const char magic[8] = {'D', 'S', 'T', 'A', 'P', 'S', '0', '1'};

typedef struct head {
    char magic[8];
    uint64_t check, record;
    char about[CACHE_ABOUT];
    char zero[CACHE_HEAD - 24 - CACHE_ABOUT];
} head;
_Static_assert(sizeof(head) == CACHE_HEAD, "the head has no gaps");

static uint64_t head_check(const head *h)
{
    return hash_xxh3(&h->record, CACHE_HEAD - offsetof(head, record));
}

static bool head_is_whole(const head *h)
{
    return memcmp(h->magic, magic, sizeof magic) == 0 && h->check == head_check(h) && memchr(h->about, 0, CACHE_ABOUT);
}

/* ---- the folder ---- */

/* Held for a few system calls only; a process that was stopped inside must not stop all others, so waiting ends. */
static status lock_folder(const char *dir, int *fd)
{
    char path[4200];
    status st = ST_STOPPED;
    *fd = -1;
    snprintf(path, sizeof path, "%s/lock", dir);
    for (int i = 0; i < LOCK_TRIES && st == ST_STOPPED; i++) {
        st = io_lock(path, fd);
        if (st == ST_STOPPED)
            nanosleep(&(struct timespec){.tv_nsec = LOCK_MS * 1000000L}, NULL);
    }
    return st;
}

static bool is_entry(const char *name)
{
    size_t n = strlen(name);
    return n > 5 && strcmp(name + n - 5, ".taps") == 0;
}

static int latest_first(const void *a, const void *b)
{
    const cache_entry *x = a, *y = b;
    if (x->facts.modified != y->facts.modified)
        return x->facts.modified < y->facts.modified ? 1 : -1;
    return strcmp(x->name, y->name);
}

static status find_entries(const char *dir, arena *mem, cache_entry **at, size_t *n)
{
    char **names;
    size_t found;
    const char *path;
    *n = 0;
    TRY(io_list(dir, FILES_MAX, &names, &found));
    status st = arena_alloc(mem, at, found, sizeof **at);
    for (size_t i = 0; i < found && st == ST_OK; i++) {
        cache_entry *e = &(*at)[*n];
        if (!is_entry(names[i]))
            continue;
        st = arena_printf(mem, &path, "%s/%s", dir, names[i]);
        if (st == ST_OK && io_look(path, &e->facts) != ST_OK)
            continue; /* another process removed it */
        if (st == ST_OK)
            st = arena_strdup(mem, &e->name, names[i]);
        if (st == ST_OK)
            (*n)++;
    }
    io_list_free(names, found);
    if (st == ST_OK && *n)
        qsort(*at, *n, sizeof **at, latest_first);
    return st;
}

/* Under the lock: makes `wanted` bytes fit beside the files other than `own`; *room is what there is. */
static status make_room(const char *dir, const char *own, uint64_t limit, uint64_t wanted, uint64_t *room)
{
    arena mem = {0};
    cache_entry *at;
    size_t n;
    uint64_t taken = 0;
    const char *path;
    bool removed;
    status st = ST_OK;
    *room = 0;
    TRY_DONE(find_entries(dir, &mem, &at, &n));
    for (size_t i = 0; i < n; i++)
        taken += strcmp(at[i].name, own) == 0 ? 0 : at[i].facts.size;
    for (size_t i = n; i-- > 0 && (taken > limit || limit - taken < wanted);) {
        if (strcmp(at[i].name, own) == 0)
            continue;
        TRY_DONE(arena_printf(&mem, &path, "%s/%s", dir, at[i].name));
        TRY_DONE(io_remove_unused(path, &removed));
        taken -= removed ? at[i].facts.size : 0;
    }
    *room = taken < limit ? limit - taken : 0;
done:
    arena_free(&mem);
    return st;
}

/* ---- one file ---- */

/* Under the lock: a head that is whole and a size for `rows` records. */
static status make_ready(cache_file *f, const char *about, uint32_t rows)
{
    head h;
    uint64_t size, want = CACHE_HEAD + (uint64_t)rows * f->record;
    size_t got;
    TRY(io_get_size(f->fd, f->path, &size));
    TRY(io_read_at(f->fd, f->path, 0, &h, sizeof h, &got));
    if (got < sizeof h || !head_is_whole(&h) || h.record != f->record) {
        if (size)
            TRY(io_set_size(f->fd, f->path, 0));
        size = 0;
        f->made = true;
        h = (head){.record = f->record};
        memcpy(h.magic, magic, sizeof magic);
        snprintf(h.about, sizeof h.about, "%s", about);
        h.check = head_check(&h);
        TRY(io_write_at(f->fd, f->path, 0, &h, sizeof h));
    }
    if (size != want)
        TRY(io_set_size(f->fd, f->path, want));
    f->rows = rows;
    io_touch(f->fd);
    return ST_OK;
}

status cache_file_open(const char *dir, uint64_t limit, const char *key, const char *about, size_t record, uint32_t rows,
                       cache_file *out)
{
    char name[96];
    text path = {0};
    io_facts own;
    uint64_t room, want = CACHE_HEAD + (uint64_t)rows * record;
    int lock = -1;
    status st = ST_OK;
    *out = (cache_file){.fd = -1, .record = record};
    snprintf(name, sizeof name, "%.80s.taps", key);
    text_printf(&path, "%s/%s", dir, name);
    TRY_DONE(path.st);
    TRY_DONE(mem_strdup(&out->path, path.s));
    TRY_DONE(io_make_dirs(dir));
    TRY_DONE(lock_folder(dir, &lock));
    if (io_look(path.s, &own) == ST_OK && own.size > want)
        want = own.size; /* another run's data set goes on further: its records stay */
    TRY_DONE(make_room(dir, name, limit, want, &room));
    if (room < want)
        want = room;
    if (want < CACHE_HEAD + record)
        goto done;
    TRY_DONE(io_open_shared(path.s, &out->fd));
    uint64_t fit = (want - CACHE_HEAD) / record;
    st = make_ready(out, about, fit > UINT32_MAX ? UINT32_MAX : (uint32_t)fit);
done:
    io_close(lock);
    text_free(&path);
    if (st != ST_OK)
        cache_file_close(out);
    return st;
}

void cache_file_close(cache_file *f)
{
    if (f->path && f->fd >= 0)
        io_close(f->fd);
    mem_free(f->path);
    *f = (cache_file){.fd = -1};
}

status cache_file_read(const cache_file *f, uint32_t first, uint32_t n, void *to, uint32_t *got)
{
    size_t bytes;
    *got = 0;
    TRY(io_read_at(f->fd, f->path, CACHE_HEAD + (uint64_t)first * f->record, to, n * f->record, &bytes));
    *got = (uint32_t)(bytes / f->record);
    return ST_OK;
}

status cache_file_write(const cache_file *f, uint32_t row, const void *record)
{
    return io_write_at(f->fd, f->path, CACHE_HEAD + (uint64_t)row * f->record, record, f->record);
}

/* ---- records ---- */

void cache_record_seal(void *record, size_t bytes, uint32_t row, uint64_t input)
{
    uint64_t at[2] = {row, input};
    memcpy((char *)record + 8, at, sizeof at);
    uint64_t check = hash_xxh3((char *)record + 8, bytes - 8);
    memcpy(record, &check, sizeof check);
}

record_state cache_record_state(const void *record, size_t bytes, uint32_t row)
{
    uint64_t at[3];
    memcpy(at, record, sizeof at);
    if (!at[0] && !at[1] && !at[2])
        return RECORD_MISSING;
    bool whole = at[1] == row && at[0] == hash_xxh3((const char *)record + 8, bytes - 8);
    return whole ? RECORD_WHOLE : RECORD_DAMAGED;
}

uint64_t cache_record_input(const void *record)
{
    uint64_t input;
    memcpy(&input, (const char *)record + 16, sizeof input);
    return input;
}

/* ---- the command ---- */

static status read_about(const char *path, arena *mem, cache_entry *e)
{
    head h;
    size_t got;
    int fd;
    e->about = "";
    if (io_open_shared(path, &fd) != ST_OK)
        return ST_OK;
    status st = io_read_at(fd, path, 0, &h, sizeof h, &got);
    for (char *s = h.about; st == ST_OK && got == sizeof h && s < h.about + CACHE_ABOUT && *s; s++)
        if ((unsigned char)*s < ' ' || *s == 127) /* anybody may have written the file; it goes to a terminal */
            h.check = 0;
    if (st == ST_OK && got == sizeof h && head_is_whole(&h))
        st = arena_strdup(mem, &e->about, h.about);
    io_close(fd);
    return st;
}

status cache_list(const char *dir, arena *mem, cache_entry **at, size_t *n)
{
    const char *path;
    int lock = -1;
    status st = ST_OK;
    *n = 0;
    *at = NULL;
    if (!io_is_dir(dir))
        return ST_OK;
    TRY(lock_folder(dir, &lock)); /* nobody opens a file while its lock is tried */
    TRY_DONE(find_entries(dir, mem, at, n));
    for (size_t i = 0; i < *n; i++) {
        TRY_DONE(arena_printf(mem, &path, "%s/%s", dir, (*at)[i].name));
        TRY_DONE(io_is_used(path, &(*at)[i].in_use));
        TRY_DONE(read_about(path, mem, &(*at)[i]));
    }
done:
    io_close(lock);
    return st;
}

status cache_clean(const char *dir, size_t *removed, uint64_t *bytes, size_t *kept)
{
    arena mem = {0};
    cache_entry *at;
    size_t n;
    int lock = -1;
    const char *path;
    status st = ST_OK;
    *removed = *kept = 0;
    *bytes = 0;
    if (!io_is_dir(dir))
        return ST_OK;
    TRY_DONE(lock_folder(dir, &lock));
    TRY_DONE(find_entries(dir, &mem, &at, &n));
    for (size_t i = 0; i < n; i++) {
        bool gone;
        TRY_DONE(arena_printf(&mem, &path, "%s/%s", dir, at[i].name));
        TRY_DONE(io_remove_unused(path, &gone));
        *removed += gone;
        *kept += !gone;
        *bytes += gone ? at[i].facts.room : 0;
    }
done:
    io_close(lock);
    arena_free(&mem);
    return st;
}
