/* gate_rule.h - private to gate*.c: a rule as read from its text. */
#ifndef DISTILL_MATRIX_GATE_RULE_H
#define DISTILL_MATRIX_GATE_RULE_H

#include "base/mem.h"
#include "matrix/matrix.h"

typedef enum gate_op { GATE_GE, GATE_LE, GATE_GT, GATE_LT } gate_op;
typedef enum gate_reference { GATE_NONE, GATE_TEACHER, GATE_FP32, GATE_CHAMPION } gate_reference;
typedef enum gate_kind {
    GATE_ACCURACY, /* drop is how much worse; compared beyond chance */
    GATE_SHARE,    /* an accuracy without marks of samples: drop as measured */
    GATE_FIGURE,   /* rise is how much larger */
    GATE_FILE,     /* the same; known although the cell crashed */
    GATE_TIME,     /* the same, without meaning on emulated rows */
    GATE_SPREAD,
    GATE_BROKEN,
} gate_kind;

typedef struct gate_metric {
    const char *name;
    gate_kind kind;
    double (*get)(const matrix *m, const matrix_cell *c); /* NAN: not known; NULL: of several cells */
} gate_metric;

typedef struct gate_rule {
    const char *text;
    const gate_metric *metric;
    gate_op op;
    double limit;
    bool change; /* drop or rise */
    gate_reference against;
    const char *on; /* PLACES, separated by commas; NULL: everywhere */
    bool all, strict;
} gate_rule;

MUST_USE status gate_rule_read(const char *rule, arena *mem, gate_rule *out);

/* Is the cell among the rule's places? 2: the rule names this very cell. */
int gate_rule_covers(const gate_rule *r, const matrix *m, size_t row, size_t column);
/* ST_CONFIG when a place is no row or column of the matrix. */
MUST_USE status gate_rule_fits(const gate_rule *r, const matrix *m);

#endif
