/* toy_matrix.h - a matrix as a run of the Fashion-MNIST student would give it, made up: every state, every kind of figure. */
#ifndef DISTILL_TESTS_TOY_MATRIX_H
#define DISTILL_TESTS_TOY_MATRIX_H

#include "matrix/decide.h"
#include "matrix/gate.h"
#include "matrix/matrix.h"

#define TOY_CLASSES 10

/* `word` stands wherever a text comes from outside (NULL: plausible ones). rows <= 25, columns <= 12. */
void toy_matrix(matrix *m, size_t rows, size_t columns, const char *word);
/* The first `n` rules do not hold on some cells of m; strings of m or `word`. */
void toy_gate(const matrix *m, size_t failing, const char *word, gate_result *g);
void toy_decision(const char *word, decision *d);
/* Words that would break a table: endless, with escapes, line ends, letters of two bytes and of two columns, bytes that are no text.
 * NULL after the last. */
const char *toy_hostile_word(size_t i);
/* A run folder's run.json, validation.json (class names, pictures of samples 0 to 59) and the log that the cells name. */
void toy_run(const char *dir, const char *word);

#endif
