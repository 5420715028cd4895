/* tap_table.h - remembered teacher outputs that stay on a device: a graph whose input is the places of a batch's samples, and whose
 * outputs are what cache_get would have given of them, bit for bit (of the largest logits a negative zero becomes a positive one).
 *
 *     cache (all of it is known) -> tap_table_open;   tap_table_put -> exec: Gather -> the training graph's teacher values (exec_link) */
#ifndef DISTILL_DISTILL_TAP_TABLE_H
#define DISTILL_DISTILL_TAP_TABLE_H

#include "distill/cache.h"
#include "exec/exec.h"

typedef struct tap_table {
    graph *g;
    exec *e;
    int64_t batch;
    value_id row;  /* [batch], input of g */
    value_id *out; /* [outputs of the teacher] outputs of g, [batch, width]; 0: it is not remembered */
    uint32_t samples;
} tap_table;

/* The cache knows all of it and stays what it is. ST_OOM where the device has no room for its records. */
MUST_USE status tap_table_open(const tap_cache *c, int64_t batch, backend *b, tap_table **out);
void tap_table_close(tap_table *t); /* NULL allowed */
/* The places of a full batch. */
void tap_table_put(const tap_table *t, const uint32_t *view, const uint32_t *sample);

#endif
