/* maker.h - private to the matrix_*.c files of this folder: a run opened for its matrix: rows, columns, what cells are judged by.
 *
 * Our own executor's outputs are what others are judged by (reference.h): its row runs first and leaves them; where its cells came
 * from the cache and another cell has to be measured, it runs once more for that column alone. */
#ifndef DISTILL_MATRIX_MAKER_H
#define DISTILL_MATRIX_MAKER_H

#include "matrix/matrix_make.h"
#include "matrix/reference.h"

typedef struct maker {
    const matrix_options *o;
    matrix *m;
    const char *run, *logs; /* absolute folders */
    reference_set ref;      /* columns, inputs, our outputs, answers */
    const runtime_row *const *rows;
    runtime_facts *facts;
    runtime_launch *launch; /* [n_rows] */
    size_t n_rows, slow;
    const char *system;
    process *kept; /* the runner that stayed after a cell of the row that is being made; NULL: none */
    int lock;
    size_t done;
} maker;

/* Rows and columns of o->run into k->m, all cells empty. Locks RUN/matrix: ST_STOPPED when another process has it. Close also after
 * failure; the matrix stays. */
MUST_USE status maker_open(maker *k, const matrix_options *o, matrix *m);
void maker_close(maker *k);
size_t maker_samples(const maker *k, const runtime_row *r); /* that a cell of the row runs */
/* Figures and state of a cell from its n outputs. */
MUST_USE status maker_judge(maker *k, const runtime_row *r, size_t column, const tensor *y, size_t n, matrix_cell *c);
/* One runner on one column. *again: it had run another file of the row before. */
MUST_USE status maker_run(maker *k, const runtime_row *r, const runtime_launch *l, size_t column, const char *path, bool timed, matrix_cell *c,
                          tensor *y, bool *again);
/* Ends the runner that stayed. */
void maker_dismiss(maker *k);

#endif
