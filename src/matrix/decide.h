/* decide.h - what ships where: the field's rule table on the figures of a matrix, and what would change the answer. */
#ifndef DISTILL_MATRIX_DECIDE_H
#define DISTILL_MATRIX_DECIDE_H

#include "base/text.h"
#include "matrix/matrix.h"

typedef struct device_profile { /* [device NAME] */
    const char *name, *runtime;
    double memory_mb, flash_mb, latency_ms; /* NAN: no limit */
    const char *const *operators;           /* covered ones; NULL: all */
    size_t n_operators;
} device_profile;

typedef struct device_choice {
    const char *device, *runtime, *variant; /* variant NULL: none fits; why says what is missing */
    const char *why;
} device_choice;

typedef struct decision {
    arena mem;
    const char *rule;    /* which row of the rule table fired */
    const char *variant; /* what to ship; NULL: per platform, see choices */
    const char *summary; /* one sentence with the numbers */
    const char **because, **would_change;
    size_t n_because, n_would_change;
    device_choice *choices;
    size_t n_choices;
} decision;

MUST_USE status decide(const matrix *m, const device_profile *devices, size_t n, decision *out);
void decision_free(decision *d);
void decision_print(const decision *d, text *t);
void decision_json(const decision *d, json *j);

#endif
