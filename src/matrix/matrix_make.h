/* matrix_make.h - makes or completes the matrix of a finished run: cells from the cache, the others measured one after another.
 *
 * Needs the run folder (config.ini as the job, student.onnx, export/) and the job's data. Leaves RUN/matrix/ with the runners' logs
 * (log/RUNTIME.VARIANT.txt), forms that it made (files/), and what runtimes said of themselves (runtimes.json). */
#ifndef DISTILL_MATRIX_MATRIX_MAKE_H
#define DISTILL_MATRIX_MATRIX_MAKE_H

#include "config/config.h"
#include "data/data.h"
#include "matrix/matrix.h"
#include "matrix/runtimes.h"
#include "matrix/store.h"

typedef struct matrix_options {
    const char *run; /* folder, as the user gave it */
    const job *j;
    dataset *ds;     /* opened for the student (job_data_options) */
    bool numbers;    /* outputs are numbers, no classes */
    const char *const *runtimes, *const *variants; /* patterns; n 0: those of [matrix], none there: all */
    size_t n_runtimes, n_variants;
    bool refresh;    /* measure also what the cache knows */
    store *cache;    /* NULL: none */
    const volatile sig_atomic_t *stop;
    void (*tell)(void *ctx, const matrix_cell *c, size_t done, size_t total); /* after each cell; may be NULL */
    void *ctx;
} matrix_options;

/* *out also after failure holds what is finished (the rest is CELL_NOT_RUN, with a reason); free it. ST_STOPPED when asked to stop. */
MUST_USE status matrix_make(const matrix_options *o, matrix *out);

/* The rows that fit, present or not: what --list shows. facts: [*n] in mem. */
MUST_USE status matrix_rows(const matrix_options *o, arena *mem, const runtime_row *const **rows, runtime_facts **facts, size_t *n);

/* Does a row, a column fit the patterns of o? */
bool matrix_wants_row(const matrix_options *o, const char *key);
bool matrix_wants(const matrix_options *o, const char *key);

#endif
