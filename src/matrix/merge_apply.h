/* merge_apply.h - cells from another machine go into the matrix of the run, and into the store of measurements.
 *
 * A row that nobody has run yet is filled; a row that holds cells of another machine stays, and the new ones stand beside it as
 * RUNTIME@HOST. Nothing is written unless all of the result holds: the models of the run and its validation samples must be what was
 * packed (their hashes now), and our executor runs them again as the reference. */
#ifndef DISTILL_MATRIX_MERGE_APPLY_H
#define DISTILL_MATRIX_MERGE_APPLY_H

#include "config/config.h"
#include "data/data.h"
#include "matrix/matrix.h"
#include "matrix/merge.h"

#include <signal.h>

struct store;
typedef struct merge_request {
    const char *run, *path; /* run folder, with matrix.json; the result */
    const job *j;
    dataset *ds;            /* opened for the student */
    struct store *cache;    /* matrix/store.h; NULL: none */
    const volatile sig_atomic_t *stop;
} merge_request;

typedef struct merge_facts {
    char host[256];
    size_t cells, new_rows, state[CELL_STATES];
} merge_facts;

/* matrix.json is written; *out is what it holds (matrix_free, also after failure). */
MUST_USE status merge_apply(const merge_request *q, matrix *out, merge_facts *facts);

/* "ort" or "ort@HOST": the row of m that takes that machine's cells. In mem. */
MUST_USE status merge_row_key(const matrix *m, const char *runtime, const merge_host *host, bool here, arena *mem, const char **key);

#endif
