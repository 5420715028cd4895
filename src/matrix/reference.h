/* reference.h - what cells are measured against: the columns of a run, their inputs as arrays, our executor's outputs of them, labels.
 *
 * One piece for all who need it: the matrix (maker.h), packs, merged results, bisection. Everything is made when it is first asked for. */
#ifndef DISTILL_MATRIX_REFERENCE_H
#define DISTILL_MATRIX_REFERENCE_H

#include "config/config.h"
#include "matrix/files.h"
#include "matrix/runtimes.h"

typedef struct reference_set { /* of one run; not to be moved */
    const char *run, *dir;     /* dir: where arrays are written, below RUN/matrix; removed at the end */
    const job *j;
    dataset *ds;
    size_t samples;
    const volatile sig_atomic_t *stop;
    matrix *m, kept;           /* whose columns these are: that of the caller, or kept */
    file_facts *facts;         /* [m->n_columns] */
    runtime_places places;
    runtime_launch launch;     /* of our executor */
    const char **print;        /* [m->n_columns] what the inputs depend on; equal prints share files */
    const char *(*input)[DATA_INPUTS]; /* [m->n_columns] .npy files; NULL: not written yet */
    const char **own;          /* [m->n_columns] our outputs' file; NULL: not made yet */
    float **floats;            /* [m->n_columns] the same [samples, width]; NULL: not asked for yet */
    size_t n;                  /* columns, also when the matrix drops some later */
    int32_t *label;            /* [samples]; below 0: none */
    const float **target;      /* [samples] */
} reference_set;

/* Finds the columns that fit (n 0: all). into: the matrix that gets them and owns what is made, whose maker holds RUN/matrix/lock;
 * NULL: one of its own. Close also after failure, before `into` is freed. */
MUST_USE status reference_open(const char *run, const job *j, dataset *ds, const char *const *patterns, size_t n,
                               const volatile sig_atomic_t *stop, matrix *into, reference_set *out);
void reference_close(reference_set *s);

/* Index of a variant's column; SIZE_MAX: none. */
size_t reference_find(const reference_set *s, const char *variant);
/* The column of the same model in float32; SIZE_MAX: none. */
size_t reference_plain(const reference_set *s, size_t k);
/* Writes the inputs of column k, once. */
MUST_USE status reference_inputs(reference_set *s, size_t k);
/* Runs our executor on them, once: s->own[k]. ST_BAD_DATA when it does not run the file. */
MUST_USE status reference_outputs(reference_set *s, size_t k);
/* The same as floats [samples, width], which the set keeps. */
MUST_USE status reference_floats(reference_set *s, size_t k, const float **out);
/* y is what our executor gave for all samples of column k: nobody needs to run it again. */
void reference_learn(reference_set *s, size_t k, const tensor *y);

/* What is known to be wrong with files like the column's in that runtime; NULL: nothing. */
const char *reference_known(const reference_set *s, size_t k, const runtime_row *row);
/* Figures and state of a cell from y, the n outputs of a runtime; c->isa says where it ran. row: NULL for one that is unknown here.
 * own: it is our executor itself. */
MUST_USE status reference_judge(reference_set *s, size_t k, const runtime_row *row, bool own, bool numbers, const tensor *y, size_t n, arena *mem,
                                matrix_cell *c);

#endif
