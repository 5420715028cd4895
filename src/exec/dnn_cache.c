/* dnn_cache.c - the file of measured plans.
 *
 *     distill-cudnn-plans 1
 *     NVIDIA H100, sm_90, cuDNN 91900
 *     KEY ENGINE NANOSECONDS KNOB=VALUE,... CHECK
 *
 * KEY: the bytes of dnn_key in hexadecimal; knobs '-': none; CHECK: XXH3 of the subject's line and this one before it. */
#include "exec/dnn_cache.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HEAD       "distill-cudnn-plans 1\n"
#define MOST_BYTES ((uint64_t)16 << 20)
#define MOST       8192 /* entries; more: the oldest go */
#define LOCK_TRIES 50
#define LOCK_MS    10

typedef struct entry {
    dnn_key key;
    dnn_choice choice;
} entry;

struct dnn_cache {
    arena mem;
    const char *folder, *path, *lock, *subject;
    entry *at; /* oldest first */
    size_t n, cap, refused;
    bool is_new, complained;
};

/* ---- lines ---- */

static uint64_t line_check(const char *subject, const char *line, size_t n)
{
    uint64_t both[2] = {hash_xxh3(subject, strlen(subject)), hash_xxh3(line, n)};
    return hash_xxh3(both, sizeof both);
}

static void add_line(text *t, const char *subject, const entry *e)
{
    const unsigned char *key = (const unsigned char *)&e->key;
    const dnn_choice *c = &e->choice;
    const size_t begin = t->n;
    for (size_t i = 0; i < sizeof e->key; i++)
        text_printf(t, "%02x", key[i]);
    text_printf(t, " %" PRId64 " %.0f ", c->engine, c->seconds * 1e9);
    for (int i = 0; i < c->n_knob; i++)
        text_printf(t, "%s%" PRId32 "=%" PRId64, i ? "," : "", c->knob[i], c->value[i]);
    if (c->n_knob == 0)
        text_add(t, "-");
    if (t->st == ST_OK)
        text_printf(t, " %016" PRIx64 "\n", line_check(subject, t->s + begin, t->n - begin));
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Reads a number in [low, high] that `end` follows; false: there is none. */
static bool take_number(const char **s, int64_t low, int64_t high, char end, int64_t *out)
{
    char *after;
    if (**s != '-' && (**s < '0' || **s > '9'))
        return false;
    long long v = strtoll(*s, &after, 10);
    if (after == *s || *after != end || v < low || v > high)
        return false;
    *s = after + 1;
    *out = v;
    return true;
}

static bool take_knobs(const char **s, dnn_choice *c)
{
    if (strncmp(*s, "- ", 2) == 0) {
        *s += 2;
        return true;
    }
    for (bool more = true; more;) {
        int64_t knob, value;
        size_t length = strcspn(*s, ", ");
        more = (*s)[length] == ',';
        if (c->n_knob == DNN_MOST_KNOBS || !take_number(s, 0, INT32_MAX, '=', &knob) ||
            !take_number(s, INT64_MIN, INT64_MAX, more ? ',' : ' ', &value))
            return false;
        c->knob[c->n_knob] = (int32_t)knob;
        c->value[c->n_knob++] = value;
    }
    return true;
}

/* A line without its end, NUL-terminated. */
static bool read_line(const char *subject, const char *line, entry *e)
{
    const char *s = line, *last = strrchr(line, ' ');
    unsigned char *key = (unsigned char *)&e->key;
    int64_t nanoseconds;
    char check[17];
    *e = (entry){0};
    if (!last || strlen(last) != 17)
        return false;
    snprintf(check, sizeof check, "%016" PRIx64, line_check(subject, line, (size_t)(last - line)));
    if (memcmp(check, last + 1, 16) != 0 || strspn(s, "0123456789abcdef") != 2 * sizeof e->key)
        return false;
    for (size_t i = 0; i < sizeof e->key; i++, s += 2)
        key[i] = (unsigned char)(hex_digit(s[0]) << 4 | hex_digit(s[1]));
    s++;
    if (!take_number(&s, 0, INT32_MAX, ' ', &e->choice.engine) || !take_number(&s, 0, INT64_MAX, ' ', &nanoseconds))
        return false;
    e->choice.seconds = 1e-9 * (double)nanoseconds;
    return take_knobs(&s, &e->choice) && s == last + 1;
}

/* ---- entries ---- */

static entry *find_entry(const dnn_cache *c, const dnn_key *key)
{
    for (size_t i = 0; i < c->n; i++)
        if (memcmp(&c->at[i].key, key, sizeof *key) == 0)
            return &c->at[i];
    return NULL;
}

static status add_entry(dnn_cache *c, const entry *e)
{
    TRY(mem_push(&c->at, &c->cap, c->n, sizeof *c->at));
    c->at[c->n++] = *e;
    return ST_OK;
}

/* Adds what the file has and c does not. What is wrong with it is said at the first time; then it is written anew. */
static status read_file(dnn_cache *c)
{
    unsigned char *data = NULL;
    size_t size = 0, refused = 0;
    char *at, *end;
    entry e;
    status st = ST_OK;
    if (!io_exists(c->path))
        return ST_OK;
    st = io_read_file(c->path, MOST_BYTES, &data, &size);
    if (st != ST_OK) {
        log_warn("%s; measured plans are not taken from there", status_message());
        return st == ST_OOM ? st : ST_OK;
    }
    at = (char *)data;
    const size_t head = strlen(HEAD), subject = strlen(c->subject);
    if (size < head + subject || memcmp(at, HEAD, head) != 0 || memcmp(at + head, c->subject, subject) != 0) {
        refused = 1;
        at += size;
    } else {
        at += head + subject;
    }
    for (; at < (char *)data + size; at = end + 1) {
        end = memchr(at, '\n', (size_t)((char *)data + size - at));
        if (!end) { /* torn */
            refused++;
            break;
        }
        *end = 0;
        if (strlen(at) != (size_t)(end - at) || !read_line(c->subject, at, &e))
            refused++;
        else if (!find_entry(c, &e.key))
            TRY_DONE(add_entry(c, &e));
    }
    if (refused && !c->refused)
        log_warn("%s: %zu damaged entries are left out; what they were about is measured again", c->path, refused);
    c->refused += refused;
done:
    mem_free(data);
    return st;
}

static bool recall(void *ctx, const dnn_key *key, dnn_choice *out)
{
    const entry *e = find_entry(ctx, key);
    if (e)
        *out = e->choice;
    return e != NULL;
}

static void remember(void *ctx, const dnn_key *key, const dnn_choice *choice)
{
    dnn_cache *c = ctx;
    entry *known = find_entry(c, key), e = {.key = *key, .choice = *choice};
    if (known)
        *known = e;
    else if (add_entry(c, &e) != ST_OK)
        return;
    c->is_new = true;
}

dnn_memory dnn_cache_memory(dnn_cache *c)
{
    return c ? (dnn_memory){.ctx = c, .recall = recall, .remember = remember} : (dnn_memory){0};
}

/* ---- the file ---- */

static status lock_file(const dnn_cache *c, int *fd)
{
    status st = ST_STOPPED;
    for (int i = 0; i < LOCK_TRIES && st == ST_STOPPED; i++) {
        st = io_lock(c->lock, fd);
        if (st == ST_STOPPED)
            nanosleep(&(struct timespec){.tv_nsec = LOCK_MS * 1000000L}, NULL);
    }
    return st;
}

static status write_file(dnn_cache *c)
{
    text t = {0};
    int lock = -1;
    status st = ST_OK;
    TRY_DONE(io_make_dirs(c->folder));
    TRY_DONE(lock_file(c, &lock));
    TRY_DONE(read_file(c)); /* what others have measured meanwhile */
    text_printf(&t, HEAD "%s", c->subject);
    for (size_t i = c->n > MOST ? c->n - MOST : 0; i < c->n; i++)
        add_line(&t, c->subject, &c->at[i]);
    TRY_DONE(t.st);
    TRY_DONE(io_write_file(c->path, t.s, t.n));
done:
    io_close(lock);
    text_free(&t);
    return st;
}

void dnn_cache_save(dnn_cache *c)
{
    if (!c || !c->is_new)
        return;
    c->is_new = false;
    if (write_file(c) == ST_OK || c->complained)
        return;
    c->complained = true;
    log_warn("%s; the next run measures cuDNN's plans again", status_message());
}

status dnn_cache_open(const char *folder, const char *device, size_t version, dnn_cache **out)
{
    dnn_cache *c;
    status st = ST_OK;
    TRY(mem_alloc(&c, 1, sizeof *c));
    TRY_DONE(io_cache_folder(folder, &c->mem, &c->folder));
    TRY_DONE(arena_printf(&c->mem, &c->subject, "%.300s, cuDNN %zu, key of %zu\n", device, version, sizeof(dnn_key)));
    for (char *s = (char *)(uintptr_t)c->subject; s[1]; s++) /* one line, whatever a device is called */
        *s = *s == '\n' ? ' ' : *s;
    const uint64_t id = hash_xxh3(c->subject, strlen(c->subject));
    TRY_DONE(arena_printf(&c->mem, &c->path, "%s/cudnn-%016" PRIx64 ".plans", c->folder, id));
    TRY_DONE(arena_printf(&c->mem, &c->lock, "%s.lock", c->path));
    TRY_DONE(read_file(c));
    *out = c;
    return ST_OK;
done:
    c->is_new = false;
    dnn_cache_close(c);
    return st;
}

void dnn_cache_close(dnn_cache *c)
{
    if (!c)
        return;
    dnn_cache_save(c);
    mem_free(c->at);
    arena_free(&c->mem);
    mem_free(c);
}

size_t dnn_cache_count(const dnn_cache *c, size_t *refused)
{
    *refused = c->refused;
    return c->n;
}

const char *dnn_cache_path(const dnn_cache *c)
{
    return c->path;
}
