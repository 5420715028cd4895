/* compare.c - see compare.h. */
#include "deploy/compare.h"
#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

size_t compare_argmax(const float *logits, size_t classes)
{
    size_t best = 0;
    for (size_t c = 1; c < classes; c++)
        if (logits[c] > logits[best])
            best = c;
    return best;
}

/* log(sum(exp(z))), with the largest taken out first. */
static double log_sum_exp(const float *z, size_t classes)
{
    double top = (double)z[compare_argmax(z, classes)], sum = 0;
    for (size_t c = 0; c < classes; c++)
        sum += exp((double)z[c] - top);
    return top + log(sum);
}

double compare_probability(const float *logits, size_t classes, size_t which)
{
    return exp((double)logits[which] - log_sum_exp(logits, classes));
}

/* KL(softmax(a) || softmax(b)), nats. Rounding may leave equal rows a little below 0. */
static double kl_of(const float *a, const float *b, size_t classes)
{
    double la = log_sum_exp(a, classes), lb = log_sum_exp(b, classes), sum = 0;
    for (size_t c = 0; c < classes; c++) {
        double log_p = (double)a[c] - la;
        sum += exp(log_p) * (log_p - ((double)b[c] - lb));
    }
    return sum > 0 ? sum : 0;
}

/* The first class whose logit is not finite; `classes` when all are. */
static size_t first_nonfinite(const float *z, size_t classes)
{
    size_t c = 0;
    while (c < classes && isfinite(z[c]))
        c++;
    return c;
}

/* Records the first value that is not finite, if this row has one and none was recorded before. */
static bool row_is_finite(const float *z, size_t classes, size_t sample, const char *which, status *st)
{
    size_t c = first_nonfinite(z, classes);
    if (c < classes && *st == ST_OK)
        *st = fail(ST_GATE, "%slogit of sample %zu, class %zu, is %f; a model must give finite logits", which,
                   sample, c, (double)z[c]);
    return c == classes;
}

static void compare_row(const float *a, const float *b, size_t classes, size_t sample, difference *d)
{
    double largest = 0, scale = 0, sum = 0;
    for (size_t c = 0; c < classes; c++) {
        double diff = fabs((double)a[c] - (double)b[c]);
        sum += diff;
        largest = diff > largest ? diff : largest;
        scale = fabs((double)a[c]) > scale ? fabs((double)a[c]) : scale;
    }
    if (largest > d->max_abs) {
        d->max_abs = largest;
        d->max_abs_sample = sample;
    }
    d->mean_abs += classes ? sum / (double)classes : 0;
    if (largest > d->max_rel * scale)
        d->max_rel = largest / scale; /* a row of zeros gives inf: it has no scale */
}

static status compare_rows(const float *a, const float *b, size_t n, size_t classes, bool numbers, difference *out)
{
    status st = ST_OK;
    size_t counted = 0;
    *out = (difference){.samples = n};
    for (size_t i = 0; i < n; i++) {
        const float *ra = a + i * classes, *rb = b + i * classes;
        bool finite = row_is_finite(ra, classes, i, "first model: ", &st);
        if (!row_is_finite(rb, classes, i, "second model: ", &st) || !finite) {
            out->disagreements++;
            continue;
        }
        compare_row(ra, rb, classes, i, out);
        if (!numbers) {
            out->disagreements += compare_argmax(ra, classes) != compare_argmax(rb, classes);
            out->mean_kl += kl_of(ra, rb, classes);
        }
        counted++;
    }
    out->mean_kl = numbers ? (double)NAN : out->mean_kl / (counted ? (double)counted : 1);
    out->mean_abs /= counted ? (double)counted : 1;
    return st;
}

status compare_logits(const float *a, const float *b, size_t n, size_t classes, difference *out)
{
    return compare_rows(a, b, n, classes, false, out);
}

status compare_numbers(const float *a, const float *b, size_t n, size_t width, difference *out)
{
    return compare_rows(a, b, n, width, true, out);
}

status score_new(size_t classes, score *out)
{
    status st = ST_OK;
    *out = (score){.classes = classes, .ce = (double)NAN, .error = (double)NAN};
    TRY_DONE(mem_alloc(&out->class_samples, classes, sizeof *out->class_samples));
    TRY_DONE(mem_alloc(&out->class_correct, classes, sizeof *out->class_correct));
    if (classes <= CONFUSION_MAX)
        TRY_DONE(mem_alloc(&out->confusion, classes * classes, sizeof *out->confusion));
done:
    if (st != ST_OK)
        score_free(out);
    return st;
}

void score_free(score *s)
{
    mem_free(s->class_samples);
    mem_free(s->class_correct);
    mem_free(s->confusion);
    *s = (score){0};
}

status score_logits(const float *logits, const int32_t *labels, size_t n, size_t classes, score *out)
{
    status st = ST_OK;
    double ce = 0;
    size_t counted = 0;
    TRY(score_new(classes, out));
    out->samples = n;
    for (size_t i = 0; i < n; i++) {
        const float *z = logits + i * classes;
        if (labels[i] >= 0 && (size_t)labels[i] >= classes) {
            score_free(out);
            return fail(ST_BAD_DATA, "sample %zu has label %" PRId32 "; there are %zu classes", i, labels[i],
                        classes);
        }
        bool finite = row_is_finite(z, classes, i, "", &st);
        if (labels[i] < 0)
            continue;
        size_t label = (size_t)labels[i], guess = compare_argmax(z, classes);
        out->labelled++;
        out->class_samples[label]++;
        if (!finite)
            continue;
        out->correct += guess == label;
        out->class_correct[label] += guess == label;
        if (out->confusion)
            out->confusion[label * classes + guess]++;
        counted++;
        ce += log_sum_exp(z, classes) - (double)z[label];
    }
    if (counted)
        out->ce = ce / (double)counted;
    return st;
}

status score_numbers(const float *x, const float *const *target, size_t n, size_t width, score *out)
{
    status st = ST_OK;
    double sum = 0;
    size_t counted = 0;
    TRY(score_new(0, out));
    out->samples = n;
    for (size_t i = 0; i < n; i++) {
        bool finite = row_is_finite(x + i * width, width, i, "", &st);
        out->labelled += target[i] != NULL;
        if (!target[i] || !finite)
            continue;
        double row = 0;
        for (size_t k = 0; k < width; k++)
            row += fabs((double)x[i * width + k] - (double)target[i][k]);
        sum += row / (double)width;
        counted++;
    }
    if (counted)
        out->error = sum / (double)counted;
    return st;
}

double score_accuracy(const score *s)
{
    return s->labelled && s->classes ? (double)s->correct / (double)s->labelled : (double)NAN;
}

size_t compare_farthest(const float *a, const float *b, size_t n, size_t classes, size_t k, size_t *sample,
                        double *kl)
{
    size_t used = 0;
    for (size_t i = 0; i < n && k > 0; i++) {
        const float *ra = a + i * classes, *rb = b + i * classes;
        bool finite = first_nonfinite(ra, classes) == classes && first_nonfinite(rb, classes) == classes;
        double d = finite ? kl_of(ra, rb, classes) : (double)INFINITY;
        if (used == k && d <= kl[k - 1])
            continue;
        size_t at = used < k ? used++ : k - 1;
        for (; at > 0 && kl[at - 1] < d; at--) {
            kl[at] = kl[at - 1];
            sample[at] = sample[at - 1];
        }
        kl[at] = d;
        sample[at] = i;
    }
    return used;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double nearest_rank(const double *sorted, size_t n, double p)
{
    double rank = ceil(p * (double)n);
    return sorted[rank < 1 ? 0 : (size_t)rank - 1];
}

latency latency_of(double *ms, size_t n)
{
    double sum = 0;
    if (n == 0)
        return (latency){0};
    qsort(ms, n, sizeof *ms, by_value);
    for (size_t i = 0; i < n; i++)
        sum += ms[i];
    return (latency){.runs = n,
                     .p50 = nearest_rank(ms, n, 0.5),
                     .p90 = nearest_rank(ms, n, 0.9),
                     .p99 = nearest_rank(ms, n, 0.99),
                     .mean = sum / (double)n,
                     .min = ms[0]};
}
