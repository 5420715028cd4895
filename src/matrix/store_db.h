/* store_db.h - private to store.c: the SQLite file. Every failure is a status with a message here; store.c makes warnings of
 * them. ST_OOM: no memory; ST_BAD_DATA: the file is damaged; ST_STOPPED: others write for too long. */
#ifndef DISTILL_MATRIX_STORE_DB_H
#define DISTILL_MATRIX_STORE_DB_H

#include "base/mem.h"
#include "base/status.h"
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct store_db {
    struct sqlite3 *db; /* NULL: closed */
    char *path;
    pthread_mutex_t lock;
} store_db;

typedef struct store_row {
    int64_t id, when, check;
    const char *key, *runtime, *variant, *model, *parts, *cell;
} store_row;

/* Makes the file and its folder where they are missing, begins a damaged file anew. */
MUST_USE status store_db_open(const char *path, store_db *out);
void store_db_close(store_db *d); /* zeroed and closed ones too */
/* The newest row of a key, in mem. */
MUST_USE status store_db_find(store_db *d, const char *key, arena *mem, store_row *out, bool *found);
MUST_USE status store_db_remove(store_db *d, int64_t id);
/* Adds a row; of those with the same runtime, variant and model the newest `keep` stay. */
MUST_USE status store_db_add(store_db *d, const store_row *r, int keep);
/* Rows of a runtime and variant (and model, unless NULL), newest first; `take` may keep no pointer of a row. */
MUST_USE status store_db_each(store_db *d, const char *runtime, const char *variant, const char *model,
                              status (*take)(const store_row *r, void *ctx), void *ctx);
MUST_USE status store_db_clean(store_db *d);

#endif
