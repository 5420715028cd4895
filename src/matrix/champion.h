/* champion.h - the promoted run: what ships, and what the next run has to be as good as.
 *
 * champion.json, schema 1: run, folder (as promoted), matrix (name of the copy beside it), matrix_sha256, when, who, host, version,
 * rules [those that it held], models [{variant, path, bytes, sha256}], history [{run, folder, when, who, host,
 * matrix_sha256}: the champions before it, newest first]. The matrix is copied to champion-SHA.json first, then champion.json is
 * replaced, durably and at once: at any time there is one champion, and its figures, whatever becomes of the run's folder. */
#ifndef DISTILL_MATRIX_CHAMPION_H
#define DISTILL_MATRIX_CHAMPION_H

#include "matrix/gate.h"
#include "matrix/matrix.h"

typedef struct champion {
    arena mem;
    bool present;
    const char *run, *folder, *when, *who, *host; /* NULL where not known */
    const char *copy, *sha256;                    /* name of its matrix beside the file */
    matrix m;
} champion;

/* The file that a job means: gate.champion, else champion.json in the folder that holds the run folder. */
MUST_USE status champion_path(const job *j, const char *run_dir, arena *mem, const char **out);
/* A missing file is no champion. ST_BAD_DATA when it, or the matrix that it names, is not what was written. Free also after failure. */
MUST_USE status champion_read(const char *path, champion *out);
void champion_free(champion *c);

/* Held by who promotes, from before the champion is read until it is written. ST_STOPPED: another process does. io_close(*fd). */
MUST_USE status champion_lock(const char *path, int *fd);
/* Makes the run whose matrix is m (with the gate that it held) the champion after `before`. */
MUST_USE status champion_promote(const char *path, const char *run_dir, const matrix *m, const gate_result *g, const champion *before);

#endif
