/* compare.h - what two sets of logits say about each other and about the labels.
 *
 * Logits are float [n, classes], row-major. A prediction is the class of the largest logit, the lowest class
 * of equals. Sums run in double in sample order. A value that is not finite is never skipped silently. */
#ifndef DISTILL_DEPLOY_COMPARE_H
#define DISTILL_DEPLOY_COMPARE_H

#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

typedef struct difference {
    size_t samples;
    size_t disagreements;  /* samples where the predictions differ */
    double max_abs;        /* largest |a - b| */
    size_t max_abs_sample; /* where it is */
    double max_rel;        /* largest over samples of (largest |a - b|) / (largest |a|) of that sample */
    double mean_kl;        /* mean over samples of KL(softmax(a) || softmax(b)), nats; of numbers NAN */
    double mean_abs;       /* of |a - b| over all numbers */
} difference;
/* a is the reference (the teacher, or our own executor). ST_GATE, naming the first place, when a value of
 * either is not finite: such a sample is a disagreement, and the other figures are over the finite ones. */
MUST_USE status compare_logits(const float *a, const float *b, size_t n, size_t classes, difference *out);

/* The same for outputs that are numbers [n, width]: no classes, so a disagreement is only a sample with a value that is not
 * finite, and mean_kl is NAN. */
MUST_USE status compare_numbers(const float *a, const float *b, size_t n, size_t width, difference *out);

/* How well one model does on labelled samples. Arrays are owned (score_free). */
typedef struct score {
    size_t classes, samples, labelled; /* labelled: samples with a label >= 0 */
    size_t correct;                    /* of the labelled ones */
    double ce;               /* mean cross entropy over the labelled samples, nats; NAN when there are none */
    double error;            /* of numbers: mean absolute error over the labelled samples; NAN for classes and without targets */
    uint32_t *class_samples; /* [classes] */
    uint32_t *class_correct; /* [classes] */
    uint32_t *confusion;     /* [classes label][classes prediction]; NULL above CONFUSION_MAX classes */
} score;
#define CONFUSION_MAX 256
/* labels: [n], below 0 where there is none. A label >= classes is ST_BAD_DATA. ST_GATE, naming the first place, when a
 * logit is not finite: such a sample counts as wrong, in no column of the confusion (free *out also then). */
MUST_USE status score_logits(const float *logits, const int32_t *labels, size_t n, size_t classes,
                             score *out);
/* Numbers [n, width] against targets (target[i] NULL: none for sample i): error; classes is 0. */
MUST_USE status score_numbers(const float *x, const float *const *target, size_t n, size_t width, score *out);
MUST_USE status score_new(size_t classes, score *out); /* all zero */
double score_accuracy(const score *s);                 /* correct / labelled, NAN without labels */
void score_free(score *s);

/* The k samples on which b is farthest from a, by KL(softmax(a) || softmax(b)), farthest first, equals in sample
 * order; a sample with a value that is not finite is farthest of all (INFINITY). Writes min(k, n) samples and their KL,
 * and returns how many. */
size_t compare_farthest(const float *a, const float *b, size_t n, size_t classes, size_t k, size_t *sample,
                        double *kl);

size_t compare_argmax(const float *logits, size_t classes);
double compare_probability(const float *logits, size_t classes, size_t which); /* softmax(logits)[which] */

/* Times of one inference. Percentiles are nearest-rank: the smallest sample that p % of all do not exceed. */
typedef struct latency {
    size_t runs;
    double p50, p90, p99, mean, min; /* milliseconds */
} latency;
latency latency_of(double *ms, size_t n); /* sorts ms; n = 0 gives zeros */

#endif
