/* matrix_join.h - a matrix that was made of some rows and columns, joined with the one before. */
#ifndef DISTILL_MATRIX_MATRIX_JOIN_H
#define DISTILL_MATRIX_MATRIX_JOIN_H

#include "matrix/matrix.h"

/* Adds to m what RUN/matrix.json (missing: nothing) knows and m does not: rows and columns that m lacks, and cells of other hosts
 * that did not run here. Of columns only those whose ONNX file is still the same. Marks (`right`) are lost. */
MUST_USE status matrix_join(matrix *m, const char *run);

#endif
