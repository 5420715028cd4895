/* decide.h - what ships where: the field's rule table on the figures of a matrix, and what would change the answer.
 *
 *   memory budget first      a device that the float student does not fit: only variants that fit all devices count
 *   one platform             quantise for it
 *   two platforms            quantise for each, with validation across both
 *   three or four            measured both; the cost of validation decides (job: matrix.minutes)
 *   five and more, unknown   distilled float, or portable INT8 where it is bit-identical
 *
 * A platform is a row of the matrix that a [device NAME] names. A variant counts in a row where its cell is ok and loses no more
 * than job: matrix.loss against fp32 there (beyond chance, pair.h). Where no device is named, the rows are all that ran. */
#ifndef DISTILL_MATRIX_DECIDE_H
#define DISTILL_MATRIX_DECIDE_H

#include "base/text.h"
#include "config/config.h"
#include "matrix/matrix.h"

typedef struct device_profile { /* [device NAME] */
    const char *name, *runtime;             /* runtime "" or NULL: any row */
    double memory_mb, flash_mb, latency_ms; /* MiB, MiB, ms (p90); NAN: no limit */
    const char *const *operators;           /* covered ones, or patterns; n 0: all */
    size_t n_operators;
    const char *const *fallbacks;           /* rows that serve where the runtime does not, the best first */
    size_t n_fallbacks;
} device_profile;

typedef struct decide_options {
    const device_profile *devices;
    size_t n_devices;
    int64_t platforms; /* 0: those of the devices, unknown without any */
    double minutes;    /* of validation that an update may cost; 0: any */
    double loss;       /* share of accuracy; of numbers: of the error */
    const char *run_dir; /* where the operators of files are read; NULL: they are not known */
} decide_options;

typedef struct device_choice {
    const char *device, *runtime, *variant; /* device: its name, or the row's key; variant NULL: none fits; why says what is missing */
    const char *why;
} device_choice;

/* What an update of the model costs. */
typedef struct decision_cost { /* in one row, as decided */
    const char *runtime, *variant;
    size_t runs;      /* of validation; 0: the bits are proven in another row */
    double minutes;   /* of these runs, as measured; NAN: never run here */
    int64_t bytes;    /* to ship; -1: unknown */
} decision_cost;
typedef struct decision_way { /* of one way to ship, over all rows */
    const char *way;  /* "distilled float", "quantised for each", "portable INT8" */
    size_t files, runs;
    double minutes;   /* of the rows that ran */
    int64_t bytes;    /* of the files together */
} decision_way;

typedef struct decision {
    arena mem;
    const char *rule;    /* which row of the rule table fired */
    const char *variant; /* what to ship; NULL: per platform, see choices */
    const char *summary; /* one sentence with the numbers */
    const char **because, **would_change;
    size_t n_because, n_would_change;
    device_choice *choices; /* devices in their order; without any: rows that ship another variant than `variant` */
    size_t n_choices;
    decision_cost *costs;
    size_t n_costs;
    decision_way *ways;
    size_t n_ways;
} decision;

/* Keys of rows and columns in it are the matrix's, which must live as long. Free also after failure. */
MUST_USE status decide(const matrix *m, const decide_options *o, decision *out);
/* As the job's [matrix] and [device NAME] say. run_dir may be NULL. */
MUST_USE status decide_for_job(const job *j, const char *run_dir, const matrix *m, decision *out);
void decision_free(decision *d);
void decision_print(const decision *d, text *t); /* 80 columns */
void decision_json(const decision *d, json *j);  /* into the open object */

#endif
