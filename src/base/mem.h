/* mem.h - the one door to memory.
 *
 * Nothing outside this file calls malloc, calloc, realloc, free or mmap for memory, so that a test can fail the n-th
 * allocation and count them. Ways to get memory: single blocks, an arena whose pieces die together, and large page-aligned
 * buffers (huge pages where the system has them) for tensors, with one owner or several. */
#ifndef DISTILL_BASE_MEM_H
#define DISTILL_BASE_MEM_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Allocates n * size zeroed bytes into *out (a pointer to a pointer). n * size is overflow-checked; 0 bytes give a
 * valid pointer. On failure *out is NULL and the message says how much was wanted. Free with mem_free. */
MUST_USE status mem_alloc(void *out, size_t n, size_t size);
/* Grows *inout (NULL allowed) to n * size bytes; the old contents stay, also on failure. New bytes are not zeroed. */
MUST_USE status mem_grow(void *inout, size_t n, size_t size);
MUST_USE status mem_strdup(char **out, const char *s);
void mem_free(void *p); /* NULL allowed */

/* Makes room for one more element in a growing array: *inout holds `used` elements of `size` bytes, *cap is its room. */
MUST_USE status mem_push(void *inout, size_t *cap, size_t used, size_t size);

/* Large buffer: zeroed, aligned to 64 bytes at least, huge pages where possible. */
MUST_USE status mem_map(void *out, size_t bytes);
void mem_unmap(void *p, size_t bytes);

/* A buffer as mem_map makes them, with a count of its holders: the last one that lets go unmaps it. Weights of a model are
 * read once and held by every graph made of it. Holders may be on different threads. */
typedef struct mem_shared mem_shared;
MUST_USE status mem_share(size_t bytes, mem_shared **out); /* the caller is its first holder */
mem_shared *mem_hold(mem_shared *m);                       /* returns m */
void mem_drop(mem_shared *m);                              /* NULL allowed */
char *mem_shared_data(const mem_shared *m);
size_t mem_shared_bytes(const mem_shared *m);
bool mem_held_once(const mem_shared *m);
/* What lies in [from, to) of a mapped buffer is of no use any more: whole pages go back to the system. */
void mem_discard(char *from, char *to);

/* Arena: pieces are freed all together. Zeroed, aligned to 16. */
typedef struct arena_block arena_block;
typedef struct arena {
    arena_block *last;
    size_t used;
} arena;
MUST_USE status arena_alloc(arena *a, void *out, size_t n, size_t size);
MUST_USE status arena_strdup(arena *a, const char **out, const char *s);
PRINTF_LIKE(3, 4) MUST_USE status arena_printf(arena *a, const char **out, const char *fmt, ...);
void arena_free(arena *a);

/* How many allocations were made so far by this process through this door: tests check that a step adds none. */
uint64_t mem_count(void);
/* Test hook: the n-th allocation from now fails (0: none; `once` false: it and all that follow). */
void mem_fail_at(uint64_t n, bool once);

/* Checked arithmetic on sizes: false on overflow, then *out is not written. */
static inline bool size_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool size_add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

#endif
