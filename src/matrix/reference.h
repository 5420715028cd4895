/* reference.h - what a column is measured against: its inputs as arrays, our executor's outputs of them, labels. */
#ifndef DISTILL_MATRIX_REFERENCE_H
#define DISTILL_MATRIX_REFERENCE_H

#include "config/config.h"
#include "matrix/files.h"
#include "matrix/runtimes.h"

typedef struct reference_set { /* of one run */
    const char *run, *dir;     /* dir: where arrays are written, below RUN/matrix; removed at the end */
    const job *j;
    dataset *ds;
    size_t samples;
    const volatile sig_atomic_t *stop;
    matrix m;                  /* columns alone */
    file_facts *facts;         /* [m.n_columns] */
    runtime_places places;
    const char **print, **input; /* [m.n_columns] what the inputs depend on; their file. Equal prints share a file */
    const char **own;            /* [m.n_columns] our outputs' file; NULL: not made yet */
    int32_t *label;              /* [samples]; below 0: none */
    const float **target;        /* [samples] */
} reference_set;

/* Finds the columns that fit (n 0: all of [matrix] variants). Free also after failure. */
MUST_USE status reference_open(const char *run, const job *j, dataset *ds, const char *const *patterns, size_t n,
                               const volatile sig_atomic_t *stop, reference_set *out);
void reference_close(reference_set *s);

/* Index of a variant's column; SIZE_MAX: none. */
size_t reference_find(const reference_set *s, const char *variant);
/* Makes inputs and outputs of column k, once. ST_BAD_DATA for a model of several inputs, which are not packed. */
MUST_USE status reference_make(reference_set *s, size_t k);
/* Our outputs of column k as floats [samples, width]; mem_free. */
MUST_USE status reference_floats(reference_set *s, size_t k, float **out);

#endif
