/* cell_run.h - one runner, one file: the request, the process, the answer. */
#ifndef DISTILL_MATRIX_CELL_RUN_H
#define DISTILL_MATRIX_CELL_RUN_H

#include "graph/types.h"
#include "matrix/files.h"
#include "matrix/runtimes.h"

typedef struct cell_job {
    const runtime_row *row;
    const runtime_launch *launch;
    const char *model;             /* absolute */
    const file_facts *file;
    const char *const *inputs;     /* [file->n_in] .npy, absolute */
    const char *output, *log;      /* the .npy that it writes; log: NULL none */
    const char *log_name;          /* as the cell tells it */
    size_t samples, batch;
    int threads;
    bool latency;
    int64_t latency_runs;
    double latency_seconds, seconds;
    int64_t memory;                /* bytes; 0: none */
    const volatile sig_atomic_t *stop;
    process **kept;                /* the row's runner, which may stay for its next file (process_ask_kept); NULL: a fresh one */
    bool again;                    /* out: that runner had run another file before */
} cell_job;

/* Runs it. The cell's state is CELL_OK when outputs came (*y holds them; tensor_free), else says what went wrong. */
MUST_USE status cell_run(cell_job *j, arena *mem, matrix_cell *c, tensor *y);

#endif
