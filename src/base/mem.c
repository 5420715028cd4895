/* mem.c - blocks, arenas and large buffers behind one counter that tests can make fail. */
#include "base/mem.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static atomic_uint_fast64_t count;
static atomic_uint_fast64_t fail_at; /* value of count at which to fail; 0: never */
static atomic_bool fail_once;

uint64_t mem_count(void)
{
    return atomic_load(&count);
}

void mem_fail_at(uint64_t n, bool once)
{
    atomic_store(&fail_once, once);
    atomic_store(&fail_at, n ? atomic_load(&count) + n : 0);
}

static bool allowed(void)
{
    uint64_t now = atomic_fetch_add(&count, 1) + 1, at = atomic_load(&fail_at);
    return at == 0 || now < at || (now > at && atomic_load(&fail_once));
}

static status out_of_memory(size_t bytes)
{
    return fail(ST_OOM, "out of memory: %zu bytes (%.1f MiB) could not be allocated", bytes,
                (double)bytes / 1048576.0);
}

/* `out` is the address of any object pointer; memcpy stores into it without breaking aliasing rules. */
static void store(void *out, void *p)
{
    memcpy(out, &p, sizeof p);
}

#define HUGE_PAGE ((size_t)2 << 20)

/* Asks for huge pages where they fit; a wish: without them memory is only slower to get and to use. */
static void wish_huge(void *p, size_t bytes)
{
    uintptr_t from = ((uintptr_t)p + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1);
    uintptr_t to = ((uintptr_t)p + bytes) & ~(uintptr_t)(HUGE_PAGE - 1);
    if (bytes >= HUGE_PAGE && from < to)
        (void)madvise((void *)from, to - from, MADV_HUGEPAGE);
}

status mem_alloc(void *out, size_t n, size_t size)
{
    size_t bytes;
    store(out, NULL);
    if (!size_mul(n, size, &bytes))
        return fail(ST_OOM, "out of memory: %zu x %zu bytes is more than any machine has", n, size);
    void *p = allowed() ? calloc(1, bytes ? bytes : 1) : NULL;
    if (!p)
        return out_of_memory(bytes);
    wish_huge(p, bytes);
    store(out, p);
    return ST_OK;
}

status mem_grow(void *inout, size_t n, size_t size)
{
    size_t bytes;
    void *old;
    memcpy(&old, inout, sizeof old);
    if (!size_mul(n, size, &bytes))
        return fail(ST_OOM, "out of memory: %zu x %zu bytes is more than any machine has", n, size);
    void *p = allowed() ? realloc(old, bytes ? bytes : 1) : NULL;
    if (!p)
        return out_of_memory(bytes);
    store(inout, p);
    return ST_OK;
}

status mem_strdup(char **out, const char *s)
{
    size_t n = strlen(s) + 1;
    TRY(mem_alloc(out, n, 1));
    memcpy(*out, s, n);
    return ST_OK;
}

void mem_free(void *p)
{
    free(p);
}

status mem_push(void *inout, size_t *cap, size_t used, size_t size)
{
    if (used < *cap)
        return ST_OK;
    size_t room = *cap ? *cap * 2 : 8;
    TRY(mem_grow(inout, room, size));
    *cap = room;
    return ST_OK;
}

status mem_map(void *out, size_t bytes)
{
    store(out, NULL);
    size_t want = bytes ? bytes : 1;
    void *p = allowed() ? mmap(NULL, want, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : MAP_FAILED;
    if (p == MAP_FAILED)
        return out_of_memory(bytes);
    if (want >= HUGE_PAGE)
        (void)madvise(p, want, MADV_HUGEPAGE); /* as above, and the ends too */
    store(out, p);
    return ST_OK;
}

void mem_unmap(void *p, size_t bytes)
{
    if (p)
        (void)munmap(p, bytes ? bytes : 1);
}

struct mem_shared {
    atomic_uint holders;
    char *data;
    size_t bytes;
};

status mem_share(size_t bytes, mem_shared **out)
{
    mem_shared *m;
    *out = NULL;
    TRY(mem_alloc(&m, 1, sizeof *m));
    status st = mem_map(&m->data, bytes);
    if (st != ST_OK) {
        mem_free(m);
        return st;
    }
    m->bytes = bytes;
    atomic_init(&m->holders, 1);
    *out = m;
    return ST_OK;
}

mem_shared *mem_hold(mem_shared *m)
{
    atomic_fetch_add(&m->holders, 1);
    return m;
}

void mem_drop(mem_shared *m)
{
    if (!m || atomic_fetch_sub(&m->holders, 1) != 1)
        return;
    mem_unmap(m->data, m->bytes);
    mem_free(m);
}

char *mem_shared_data(const mem_shared *m)
{
    return m->data;
}

size_t mem_shared_bytes(const mem_shared *m)
{
    return m->bytes;
}

bool mem_held_once(const mem_shared *m)
{
    return atomic_load(&m->holders) == 1;
}

void mem_discard(char *from, char *to)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t a = ((uintptr_t)from + page - 1) & ~(page - 1), b = (uintptr_t)to & ~(page - 1);
    if (a < b)
        (void)madvise((void *)a, b - a, MADV_DONTNEED);
}

struct arena_block {
    arena_block *prev;
    size_t size;
};
#define ARENA_MIN ((size_t)64 << 10)

status arena_alloc(arena *a, void *out, size_t n, size_t size)
{
    size_t bytes;
    store(out, NULL);
    if (!size_mul(n, size, &bytes) || bytes > SIZE_MAX / 2)
        return fail(ST_OOM, "out of memory: %zu x %zu bytes is more than any machine has", n, size);
    bytes = (bytes + 15) & ~(size_t)15;
    if (!a->last || a->last->size - a->used < bytes) {
        size_t room = bytes > ARENA_MIN / 4 ? bytes : ARENA_MIN;
        arena_block *b;
        TRY(mem_alloc(&b, 1, sizeof *b + room));
        b->size = room;
        if (a->last && bytes > ARENA_MIN / 4 && a->last->size - a->used > 256) {
            b->prev = a->last->prev; /* a big piece gets its own block behind the current one, which stays open */
            a->last->prev = b;
            store(out, b + 1);
            return ST_OK;
        }
        b->prev = a->last;
        a->last = b;
        a->used = 0;
    }
    store(out, (char *)(a->last + 1) + a->used);
    a->used += bytes;
    return ST_OK;
}

status arena_strdup(arena *a, const char **out, const char *s)
{
    size_t n = strlen(s) + 1;
    char *p;
    TRY(arena_alloc(a, &p, n, 1));
    memcpy(p, s, n);
    *out = p;
    return ST_OK;
}

status arena_printf(arena *a, const char **out, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = NULL;
    status st = n < 0 ? fail(ST_INTERNAL, "cannot format text") : arena_alloc(a, &p, (size_t)n + 1, 1);
    if (st == ST_OK) {
        vsnprintf(p, (size_t)n + 1, fmt, again);
        *out = p;
    }
    va_end(again);
    return st;
}

void arena_free(arena *a)
{
    while (a->last) {
        arena_block *b = a->last;
        a->last = b->prev;
        mem_free(b);
    }
    a->used = 0;
}
