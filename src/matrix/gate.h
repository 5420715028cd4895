/* gate.h - `[gate]`: what a matrix must fulfil before it ships, and the champion it is measured against.
 *
 * A rule is METRIC [drop|rise] OP NUMBER[%] [vs teacher|champion|fp32] [on PLACE[,PLACE]...|all] [strict].
 *   METRIC  top1, worst_class, disagree, flips (shares); max_error, mean_error, p99_error (of outputs), error (of numbers: mean
 *           absolute error from the targets); p50_ms, p90_ms, p99_ms, load_ms, throughput; size_mb, peak_mb (10^6 bytes);
 *           spread: the largest difference in accuracy between two runtimes of a variant; broken: how many cells differ,
 *           crash or time out
 *   drop    how much worse than another cell an accuracy is; rise: how much larger another figure is. `vs` says which other
 *           cell: fp32 (of the same model) or teacher (its fp32), in the same runtime, else in the own one (without vs:
 *           teacher); or the same cell of the promoted matrix
 *   OP      >= <= > <
 *   PLACE   RUNTIME or RUNTIME/VARIANT, also as patterns (* and ?). Without `on`: every cell of the student that ran; all: the
 *           same, as one figure, the worst
 *   strict  differences in accuracy count as measured. Else they count only beyond chance: McNemar's exact test over the
 *           samples that both cells ran, or, without marks of single samples, the 95 % interval of the difference
 * A cell that crashed or timed out holds no rule but on size. Cells that are not run here or unsupported are left out, as emulated ones are
 * by rules on time, unless a rule names the cell itself. */
#ifndef DISTILL_MATRIX_GATE_H
#define DISTILL_MATRIX_GATE_H

#include "base/text.h"
#include "config/config.h"
#include "matrix/matrix.h"

typedef struct gate_margin { /* one rule on one cell (or on all, runtime NULL) */
    const char *rule, *runtime, *variant;
    double value, limit, margin; /* NAN: the figure is missing, which does not hold */
    bool held;                   /* margin >= 0, or a difference that is within chance: note says so */
    const char *note;            /* NULL */
} gate_margin;

typedef struct gate_result {
    arena mem;
    gate_margin *margins; /* rule by rule, in their order */
    size_t n;
    bool held;
} gate_result;

/* rules: the values of the keys of [gate], as written. ST_CONFIG, naming rule and place, when one cannot be read.
 * champion: the promoted matrix; NULL: there is none (rules against it hold then, with a note). Free also after failure. */
MUST_USE status gate_apply(const matrix *m, const matrix *champion, const char *const *rules, size_t n, gate_result *out);
void gate_free(gate_result *g);
void gate_print(const gate_result *g, text *t); /* a table for people, 80 columns */
void gate_json(const gate_result *g, json *j);  /* into the open object: held, rules [{rule, held, cells [...]}] */

/* Can the rule be read? ST_CONFIG else. */
MUST_USE status gate_check_rule(const char *rule);
/* The rules of a job; all are checked. ST_CONFIG with the place of the first that cannot be read. */
MUST_USE status gate_rules_of(const job *j, arena *mem, const char *const **rules, size_t *n);

#endif
