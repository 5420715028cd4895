/* store.h - what was measured before: a SQLite file of cells, shared by all runs of a user.
 *
 * A cell's key is the SHA-256 over everything that it depends on, each part with its name: model (external data
 * included), runner, runtime name, version and build, provider, device, driver, operating system, architecture, instruction
 * set, precision, shapes, data set, options, our version. Any change of any part misses. WAL, busy timeout, quick_check at
 * opening, trusted_schema off; a row whose own hash does not hold is recomputed. Several processes may write at once, and
 * threads may share a store. Its memory comes through mem.h; its files are SQLite's own business.
 *
 * A cache that cannot be opened, read or written costs a warning and its measurements, never the run: nothing here fails
 * but for want of memory (ST_OOM). A damaged file is begun anew. */
#ifndef DISTILL_MATRIX_STORE_H
#define DISTILL_MATRIX_STORE_H

#include "matrix/matrix.h"

typedef struct store store;

typedef struct key_part {
    const char *name, *value; /* value NULL: unknown, which is a value too */
} key_part;
/* Order of parts does not matter; names must differ. hex: 65 bytes. */
MUST_USE status store_key(const key_part *parts, size_t n, char *hex);

/* matrix.sqlite in `configured` (job: cache.dir), "" or NULL: in the user's cache folder. ST_CONFIG when there is none. */
MUST_USE status store_path(const char *configured, arena *mem, const char **out);
MUST_USE status store_open(const char *path, store **out);
MUST_USE status store_open_in(const char *configured, store **out); /* at store_path; where there is none it keeps nothing */
void store_close(store *s); /* NULL allowed */
/* Is anything kept? False after a warning: it never hits and keeps nothing. */
bool store_works(const store *s);
/* Found: *hit, and *out lives in mem, with `right`, samples of latency and all. A damaged row is no hit and is removed.
 * What was kept last under a key is what is found. */
MUST_USE status store_get(store *s, const char *key, arena *mem, matrix_cell *out, bool *hit);
/* cell->key must be store_key of these parts. Older measurements stay as history (the last 200 of a runtime, variant and
 * part "model"). */
MUST_USE status store_put(store *s, const matrix_cell *cell, const key_part *parts, size_t n);

/* The marks of single samples (right) of cells that came from a matrix.json, which has none, where they are known. */
MUST_USE status store_marks(store *s, matrix *m);

/* Measurements of one cell, newest first: "since when does this differ". `model`: the value of that part; NULL: of any. */
typedef struct history_entry {
    int64_t when;
    cell_state state;
    const char *version, *build, *reason, *output_hash;
    double accuracy, max_error, p50_ms;
    const char *changed; /* parts of the key against the entry before (the next in this list): "version 1.30.0 -> 1.31.1, ..."; NULL: none */
} history_entry;
MUST_USE status store_history(store *s, const char *runtime, const char *variant, const char *model, arena *mem, history_entry **out,
                              size_t *n);
/* Text for people: "differs since 2026-03-01 (version 1.30.0 -> 1.31.1); was ok before", "ok in all 5 measurements since ...". */
MUST_USE status history_since(const history_entry *at, size_t n, arena *mem, const char **out);

MUST_USE status store_clean(store *s); /* forgets everything, history too */

#endif
