/* pack_make.h - packs a finished run for another machine: which rows and columns, their files, runners (pack.h writes the archive). */
#ifndef DISTILL_MATRIX_PACK_MAKE_H
#define DISTILL_MATRIX_PACK_MAKE_H

#include "config/config.h"
#include "data/data.h"
#include "matrix/pack.h"

#include <signal.h>

typedef struct pack_request {
    const char *run; /* folder */
    const job *j;
    dataset *ds;     /* opened for the student */
    const pack_target *target;
    const char *out;
    const volatile sig_atomic_t *stop;
} pack_request;

/* Rows and columns are those of [matrix] that the target can have. ST_NO_INPUT: not a finished run; ST_UNAVAILABLE: the program's
 * tools/runners are not there. */
MUST_USE status pack_make(const pack_request *q, pack_facts *facts);

/* Parts of it: the rows that a target can have, and runners and scripts, into the plan. */
struct runtime_places;
MUST_USE status pack_rows(const pack_target *t, const job_matrix *o, arena *mem, pack_plan *plan);
MUST_USE status pack_runners(const pack_target *t, const struct runtime_places *places, arena *mem, pack_plan *plan);

#endif
