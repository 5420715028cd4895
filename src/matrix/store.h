/* store.h - what was measured before: a SQLite file of cells, shared by all runs of a user.
 *
 * A cell's key is the SHA-256 over everything that it depends on, each part with its name: model (external data
 * included), runner, runtime name, version and build, provider, device, driver, operating system, architecture, instruction
 * set, precision, shapes, data set, options, our version. Any change of any part misses. WAL, busy timeout, quick_check at
 * opening, trusted_schema off; a row whose own hash does not hold is recomputed. Several processes may write at once.
 * A cache that cannot be opened or is damaged costs a warning and its measurements, never the run. */
#ifndef DISTILL_MATRIX_STORE_H
#define DISTILL_MATRIX_STORE_H

#include "matrix/matrix.h"

typedef struct store store;

typedef struct key_part {
    const char *name, *value; /* value NULL: unknown, which is a value too */
} key_part;
/* Order of parts does not matter; names must differ. hex: 65 bytes. */
MUST_USE status store_key(const key_part *parts, size_t n, char *hex);

/* path NULL: matrix.sqlite in the user's cache folder (as cache.dir). */
MUST_USE status store_open(const char *path, store **out);
void store_close(store *s); /* NULL allowed */
/* Found: *hit, and *out lives in mem, with `right`, samples of latency and all. A damaged row is no hit and is removed. */
MUST_USE status store_get(store *s, const char *key, arena *mem, matrix_cell *out, bool *hit);
/* Keeps what was there under (runtime, variant, model hash) as history. */
MUST_USE status store_put(store *s, const matrix_cell *cell, const key_part *parts, size_t n);

/* Older measurements of one cell, newest first: "since when does this differ". */
typedef struct history_entry {
    int64_t when;
    cell_state state;
    const char *version, *build, *reason, *output_hash;
    double accuracy, max_error, p50_ms;
} history_entry;
MUST_USE status store_history(store *s, const char *runtime, const char *variant, const char *run, arena *mem, history_entry **out,
                              size_t *n);
MUST_USE status store_clean(store *s); /* forgets everything */

#endif
