/* pack.h - one archive with all that another machine needs to fill its rows of the matrix.
 *
 * In the archive, below distill-matrix-TARGET/: the models, their inputs and our outputs of them (npy), the runners, run.py and a
 * script that starts it, README.txt, and manifest.json: size and SHA-256 of every other file, rows and columns, our version, the
 * protocol's, and the key of the result's signature. A copy of the manifest stays in RUN_DIR/matrix/packs/ID.json; merge.h holds what
 * comes back against that. */
#ifndef DISTILL_MATRIX_PACK_H
#define DISTILL_MATRIX_PACK_H

#include "base/mem.h"
#include "base/text.h"

#define PACK_SCHEMA 1
#define PACK_PROTOCOL 1
#define PACK_FOLDER "matrix/packs" /* below the run folder */

typedef struct pack_target {
    const char *name;                 /* "linux" */
    const char *ending;               /* ".tar.gz", ".zip" */
    const char *script, *script_text; /* what starts it */
    const char *notes;                /* of its README.txt */
    const char *rows;                 /* keys of the rows that it can fill, between blanks */
} pack_target;
/* Ends with a row without name. */
extern const pack_target pack_targets[];
const pack_target *pack_find_target(const char *name);     /* NULL: none; nearest_name over pack_targets helps */
bool pack_has_row(const pack_target *t, const char *row); /* whether the target can fill that row */

typedef struct pack_model {
    const char *form, *path; /* "ncnn": the .param; the .bin beside it comes along */
} pack_model;

typedef struct pack_column {
    const char *variant;
    const pack_model *models;
    size_t n_models;
    const char *input_name, *input, *expected; /* .npy files on disk; the same input of several columns is packed once */
    const char *output_name;                   /* NULL: the first */
    size_t samples;
} pack_column;

typedef struct pack_row {
    const char *runtime, *title, *how;
    const char *const *command; /* up to NULL; "{python}", "{node}", "{pack}/FILE" stand for what they are there */
    const char *const *env;     /* "NAME=value" up to NULL; NULL: none */
    const char *forms;          /* between blanks, the preferred first */
    const char *options;        /* of the runner, a JSON object; NULL: {} */
    double seconds;             /* time limit of a cell */
    size_t samples;             /* at most; 0: all */
} pack_row;

typedef struct pack_extra { /* further files */
    const char *name, *path; /* in the archive; on disk */
    bool executable;
} pack_extra;

typedef struct pack_plan {
    const pack_target *target;
    const char *run, *set;
    const pack_column *columns;
    const pack_row *rows;
    const pack_extra *extras;
    size_t n_columns, n_rows, n_extras;
    int64_t batch, threads;
    size_t latency_runs;
    double latency_seconds;
} pack_plan;

typedef struct pack_facts {
    char id[33];
    size_t files;
    uint64_t bytes; /* of the archive */
} pack_facts;

/* Writes the archive `out` durably and RUN_DIR/matrix/packs/ID.json. facts may be NULL. */
MUST_USE status pack_write(const pack_plan *p, const char *run_dir, const char *out, pack_facts *facts);

#endif
