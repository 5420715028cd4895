/* matrix_json.h - one cell as a JSON object: in matrix.json, in the store, in results that come from other machines. */
#ifndef DISTILL_MATRIX_MATRIX_JSON_H
#define DISTILL_MATRIX_MATRIX_JSON_H

#include "base/json_in.h"
#include "base/text.h"
#include "matrix/matrix.h"

/* As matrix.h says, with `"right": "0110..."` too when `right` is asked for. key NULL: an element of an array. */
void matrix_cell_put(json *j, const char *key, const matrix_cell *c, bool right);
/* Strings and arrays are copied into mem. What is missing stays unknown, what is wrong fails j (json_in.h), naming the key. */
MUST_USE status matrix_cell_get(json_in *j, arena *mem, json_t *o, matrix_cell *out);

/* The whole from a text in memory; j must be closed (json_in.h). Free *out also after failure. */
MUST_USE status matrix_parse(json_in *j, const char *name, const char *s, size_t n, matrix *out);

#endif
