/* decide_facts.h - private to decide*.c: what the matrix says of each variant in the rows that count. */
#ifndef DISTILL_MATRIX_DECIDE_FACTS_H
#define DISTILL_MATRIX_DECIDE_FACTS_H

#include "matrix/decide.h"
#include "matrix/pair.h"

typedef enum option_kind { OPTION_FLOAT, OPTION_HALF, OPTION_INT8, OPTION_PORTABLE } option_kind;

typedef struct option_facts { /* a column of the student */
    size_t column;
    option_kind kind;
    const char *variant;
    int64_t bytes;                          /* of the file that ships; -1 */
    size_t ran, fit, wrong, failed, absent; /* target rows: ran; is ok and loses little; differs; crashed, timed out or unsupported; not run here */
    const char *wrong_in;                   /* names of rows that differ, crash or time out; "" */
    double accuracy, drop;                  /* in the reference row; of numbers: error, and by which share it is more */
    pair_result pair;
    double p50_ms;                          /* in the row for times; NAN */
    double minutes;                         /* of all target rows */
    const char **operators;                 /* of the ONNX file */
    size_t n_operators;
    bool operators_known;
} option_facts;

typedef struct facts {
    const matrix *m;
    const decide_options *o;
    arena *mem;
    size_t *target;      /* rows */
    size_t n_targets;
    bool named;          /* by devices */
    int64_t platforms;   /* 0: unknown */
    size_t reference, timed; /* rows: accuracies and times that texts speak of; SIZE_MAX: none */
    option_facts *at;
    size_t n, fp32;      /* fp32: its index, or n */
} facts;

MUST_USE status facts_find(const matrix *m, const decide_options *o, arena *mem, facts *out);
const matrix_cell *facts_cell(const facts *f, const option_facts *v, size_t row);
/* Ok there, and loses no more than allowed. */
bool facts_fits(const facts *f, const option_facts *v, size_t row);
bool facts_ran(const matrix_cell *c); /* ok or differs */
/* Portable, and the same bits wherever it ran. */
bool facts_identical(const option_facts *v);

#endif
