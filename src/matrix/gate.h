/* gate.h - `[gate]`: what a matrix must fulfil before it ships, and the champion it is measured against.
 *
 * A rule is METRIC [drop] OP NUMBER [vs teacher|champion|fp32] [on RUNTIME[/VARIANT]|all]; METRIC: top1, worst_class, disagree
 * (share), max_error, error, p50_ms, p90_ms, p99_ms, size_mb, peak_mb, spread (largest minus smallest accuracy over cells), OP: >= <= > <. */
#ifndef DISTILL_MATRIX_GATE_H
#define DISTILL_MATRIX_GATE_H

#include "base/text.h"
#include "matrix/matrix.h"

typedef struct gate_margin { /* one rule on one cell (or on all, runtime NULL) */
    const char *rule, *runtime, *variant;
    double value, limit, margin; /* margin >= 0: held; NAN: the figure is missing, which does not hold */
    bool held;
    const char *note; /* NULL */
} gate_margin;

typedef struct gate_result {
    arena mem;
    gate_margin *margins;
    size_t n;
    bool held;
} gate_result;

/* rules: the values of the keys of [gate], as written. ST_CONFIG, naming rule and place, when one cannot be read.
 * champion: the promoted matrix; NULL: there is none (rules against it hold then, with a note). */
MUST_USE status gate_apply(const matrix *m, const matrix *champion, const char *const *rules, size_t n, gate_result *out);
void gate_free(gate_result *g);
void gate_print(const gate_result *g, text *t);
void gate_json(const gate_result *g, json *j);

#endif
