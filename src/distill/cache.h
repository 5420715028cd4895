/* cache.h - the teacher's outputs (taps) of fixed views, kept in memory and on disk.
 *
 *     sample (view, index) -> cache_get ......................... known: unpacked where the training graph wants it
 *                          -> cache_load (input's hash) -> get .. found on disk
 *                          -> teacher -> cache_put .............. computed: packed, kept, and unpacked again
 *
 * In memory lie packed outputs by (view, sample of the part) where they fit the memory limit; on disk by (view, row of the
 * source), one file a view (cache_file.h), where a folder is given. The file's name is the SHA-256 of all that the outputs
 * depend on: `identity` and the view. On top of that a record from disk is used only if its check holds and the input
 * was, bit for bit, the same; and the first ones found are computed again for comparison (frozen_run_cached). Outputs
 * that are not finite are never kept. Nothing that goes wrong with the folder stops a run: it is said once, and the outputs
 * are computed. After cache_open nothing is allocated, but when a view's file is opened. */
#ifndef DISTILL_DISTILL_CACHE_H
#define DISTILL_DISTILL_CACHE_H

#include "distill/cache_code.h"
#include "distill/cache_file.h"

typedef struct tap_cache tap_cache;

typedef struct cache_options {
    tap_code code;
    uint32_t views, samples; /* of the part */
    const uint32_t *row;     /* [samples] row of the source, or NULL: the sample itself; borrowed */
    uint32_t rows;           /* of the source */
    uint64_t memory_limit;   /* bytes; 0: none */
    const char *dir;         /* NULL: memory only; borrowed until cache_close, as the next two */
    uint64_t disk_limit;     /* bytes of the whole folder */
    const char *identity;    /* the text whose SHA-256, with the view, is the key */
    const char *about;       /* for people */
} cache_options;
MUST_USE status cache_open(const cache_options *o, tap_cache **out);
void cache_close(tap_cache *c); /* NULL allowed */

/* Is it known in this process? Then cache_get gives it. */
bool cache_known(const tap_cache *c, uint32_t view, uint32_t sample);
/* Will cache_get give all n samples for certain, and is no trial wanted? Then nobody needs their inputs. */
bool cache_gives(const tap_cache *c, const uint32_t *view, const uint32_t *sample, size_t n);
/* All that is packed in memory: [views][samples] records of `bytes`; data NULL: it is not. Borrowed from the cache. */
typedef struct tap_records {
    const void *data;
    uint32_t views, samples;
    size_t bytes;
    const tap_code *code;
} tap_records;
tap_records cache_records(const tap_cache *c);
/* n samples were given of those records, without cache_get. */
void cache_count_hits(tap_cache *c, size_t n);
/* Looks on disk; true: it is known now. */
bool cache_load(tap_cache *c, uint32_t view, uint32_t sample, uint64_t input);
/* out[k]: where output k of the sample goes. False (without a memory, when the file changed meanwhile): compute it. */
bool cache_get(tap_cache *c, uint32_t view, uint32_t sample, float *const *out);
/* Keeps out[k], and makes it what cache_get will give. */
void cache_put(tap_cache *c, uint32_t view, uint32_t sample, uint64_t input, float *const *out);

/* True until outputs from disk were held against fresh ones: once in a run. */
bool cache_wants_trial(const tap_cache *c);
/* Do fresh outputs pack to what is known of the sample? */
bool cache_agrees(tap_cache *c, uint32_t view, uint32_t sample, const float *const *fresh);
/* The trial's end. `agreed` false: nothing that came from disk is used any more; it will be written anew. */
void cache_end_trial(tap_cache *c, bool agreed);

typedef struct cache_stats {
    uint64_t hits, loaded, computed, damaged; /* samples given from memory or disk; read from disk; put; failed checks */
    size_t memory;                            /* bytes */
    bool disk;
} cache_stats;
cache_stats cache_measure(const tap_cache *c);

#endif
