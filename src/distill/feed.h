/* feed.h - which input of a data set goes to which input of a graph.
 *
 * By name when every input of the graph has its name in the data set, else by position. Types and shapes of a sample must
 * agree. Integers that choose the rows of an embedding are held against its size once, before anything runs. */
#ifndef DISTILL_DISTILL_FEED_H
#define DISTILL_DISTILL_FEED_H

#include "data/data.h"
#include "exec/exec.h"

typedef struct feed {
    size_t n;
    struct feed_port {
        value_id to;
        uint32_t from; /* input of the data set */
        size_t bytes;  /* of one sample */
        dtype type;
    } port[DATA_INPUTS];
} feed;

/* Input k of the graph takes input k of whatever data: for callers without a data set. */
MUST_USE status feed_plain(const graph *g, feed *out);
/* `in`: the n graph inputs that samples go to; `who` ("the teacher") begins messages. ST_CONFIG when they do not fit. */
MUST_USE status feed_match(const graph *g, const value_id *in, size_t n, const data_info *info, const char *who, feed *out);
/* Integers of the data that index a table directly (Gather on an input) must be rows of it: ST_BAD_DATA names the sample. */
MUST_USE status feed_check_ids(const graph *g, const feed *f, const dataset *ds, const char *who);

/* Copies samples [first, first + n) of x (batch.x) into the graph's inputs, from row `at` on. */
void feed_put(const feed *f, const exec *e, size_t at, const void *const *x, size_t first, size_t n);
/* XXH3 of sample i of x: of all that the graph takes. */
uint64_t feed_hash(const feed *f, const void *const *x, size_t i);
/* Zeros in rows [at, at + n). */
void feed_clear(const feed *f, const exec *e, size_t at, size_t n);

#endif
