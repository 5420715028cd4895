/* maker.h - private to the matrix_*.c files of this folder: a run opened for judging: rows, columns, inputs, our own outputs.
 *
 * Our own executor's outputs are what others are judged by: its row runs first and leaves them; where its cells came from the
 * cache and another cell has to be measured, it runs once more for that column alone. */
#ifndef DISTILL_MATRIX_MAKER_H
#define DISTILL_MATRIX_MAKER_H

#include "matrix/files.h"
#include "matrix/matrix_make.h"

typedef struct maker {
    const matrix_options *o;
    matrix *m;
    const char *run, *work, *logs; /* absolute folders */
    runtime_places places;
    const runtime_row *const *rows;
    runtime_facts *facts;
    runtime_launch *launch; /* [n_rows] */
    runtime_launch own;
    file_facts *files;      /* [n_columns] */
    float **outputs;        /* [n_columns] of our executor, [samples, width]; NULL: not yet */
    const char *(*inputs)[DATA_INPUTS]; /* [n_columns] .npy files; NULL: not written yet */
    const char **fed;       /* [n_columns] feed_print */
    size_t n_rows, n_columns, samples, slow;
    int32_t *label;
    const float **target;
    const char *system;
    int lock;
    size_t done;
} maker;

/* Rows and columns of o->run into k->m, all cells empty. Locks RUN/matrix: ST_STOPPED when another process has it. Close also after
 * failure; the matrix stays. */
MUST_USE status maker_open(maker *k, const matrix_options *o, matrix *m);
void maker_close(maker *k);
/* Writes the column's inputs, once; k->inputs[column]. */
MUST_USE status maker_inputs(maker *k, size_t column);
/* Runs our executor for the column, once; k->outputs[column]. */
MUST_USE status maker_outputs(maker *k, size_t column);
size_t maker_samples(const maker *k, const runtime_row *r); /* that a cell of the row runs */
/* The column of the same model in float32; k->n_columns: there is none. */
size_t maker_plain(const maker *k, size_t column);
/* Figures and state of a cell from its n outputs. */
MUST_USE status maker_judge(maker *k, const runtime_row *r, size_t column, const tensor *y, size_t n, matrix_cell *c);
/* One runner on one column. */
MUST_USE status maker_run(maker *k, const runtime_row *r, const runtime_launch *l, size_t column, const char *path, bool timed, matrix_cell *c,
                          tensor *y);

#endif
