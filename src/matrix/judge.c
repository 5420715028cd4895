/* judge.c - errors, classes, hashes. See judge.h.
 *
 * Tolerances: float32 1e-5 x max(1, largest |output| / 10) and no sample of another class; float16 and bfloat16 5e-2; portable integers none:
 * equality of the codes' hash with our integer executor's.
 *
 * Other integers: engines that are right do not agree bit for bit. Each layer's sum is rounded to a code, as float arithmetic says, by a
 * fixed-point factor (TFLite), or not at all between layers that are fused, and an inner code that is one off moves the last ones.
 * Counted on a Fashion-MNIST student (residual, 10 layers with weights) and its teacher (14), 100,000 outputs each, in steps of the last
 * scale from ours:
 *                                                            mean     p99     0 steps   1        2     3    4    largest
 *     ONNX Runtime, tract, OpenCV, XNNPACK, IREE, WebGPU ..  <= 0.005  0      > 99 %    < 1 %    rare  -    -    2
 *     OpenVINO, student int8-ptq                             0.36      1      64,668    34,521   803   8    -    3
 *     OpenVINO, student int8-qat                             0.32      1      68,687    30,857   455   1    -    3
 *     OpenVINO, teacher                                      0.28      1      71,998    27,648   349   5    -    3
 *     LiteRT built-in, student int8-ptq                      0.27      1      73,200    26,665   134   1    -    3
 *     LiteRT built-in, student int8-qat                      0.32      1      68,302    31,471   225   2    -    3
 *     LiteRT built-in, teacher                               0.20      1      80,223    19,749   28    -    -    2
 *     ONNX Runtime, AVX2 without VNNI (saturates)            1.8       13-14                                     24-26
 *     JSEP WebGPU (wrong)                                    1.7e9     4e9                                       4e9
 * Depth does not widen it: the teacher is the deeper. Beyond one step each further step is at least 40 times as rare, so that five steps come
 * up less than once in 50 million outputs: more than 4 are a fault (INT8_STEPS). A fault that is small but everywhere shows in the 99th
 * percentile, where those that are right have 1 and those that are wrong 13 (more than 2 is a fault: INT8_USUAL), and in the mean, 0.36
 * against 1.8 (more than 0.75, twice what is right, is a fault: INT8_MEAN; a zero point that is one off has 1). */
#include "matrix/judge.h"
#include "base/hash.h"
#include "deploy/compare.h"
#include "matrix/stats.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLOAT_TOLERANCE 1e-5
#define HALF_TOLERANCE  5e-2
#define INT8_STEPS      4    /* of the last scale, for the output that is farthest off */
#define INT8_USUAL      2    /* of them, for 99 of 100 outputs */
#define INT8_MEAN       0.75 /* of them, on the average */
#define FLOAT_SLACK     (1 + 1e-5) /* differences of floats that stand for whole steps */
#define USUAL_OUTPUTS   1000 /* fewer have no 99th percentile or mean that says more than the largest */
#define CLASSES_MAX     1000 /* beyond it no accuracy by class is kept */
#define CODE_TOLERANCE  0.25 /* of a step: a float output stands for the nearest code */

typedef struct errors {
    double *of;   /* [n * width] |y - own| */
    size_t total, finite;
    size_t first; /* value that is not finite */
    double max, sum, top; /* top: largest |own| */
} errors;

/* ---- outputs ---- */

status judge_floats(const file_facts *file, const tensor *y, size_t n, float **out)
{
    char got[200];
    size_t total = n * file->width;
    *out = NULL;
    if (y->sh.rank < 1 || y->sh.dim[0] != (int64_t)n || (size_t)shape_count(&y->sh) != total)
        return fail(ST_BAD_DATA, "its output is %s, %zu numbers for each of %zu samples are expected", shape_print(&y->sh, got), file->width, n);
    bool codes = y->type == DTYPE_I8 || y->type == DTYPE_U8;
    if (!codes && !dtype_of(y->type)->is_float)
        return fail(ST_BAD_DATA, "its output is %s", dtype_of(y->type)->name);
    if (codes && !(file->out_scale > 0))
        return fail(ST_BAD_DATA, "its output is %s, of a file whose outputs are floats", dtype_of(y->type)->name);
    /* TFLite's int8 codes of what is uint8 here are smaller by 128, and so is their zero */
    double zero = (double)file->out_zero + (file->out_unsigned && y->type == DTYPE_I8 ? -128 : 0) + (!file->out_unsigned && y->type == DTYPE_U8 ? 128 : 0);
    TRY(mem_alloc(out, total, sizeof **out));
    for (size_t i = 0; i < total; i++) {
        double v = tensor_at(y, (int64_t)i);
        (*out)[i] = (float)(codes ? (v - zero) * file->out_scale : v);
    }
    return ST_OK;
}

/* SHA-256 of the codes as int8. *apart: numbers that stand for no code. */
static status hash_codes(const file_facts *file, const float *x, size_t total, char hex[65], size_t *apart)
{
    int8_t *code;
    const double shift = (double)file->out_zero - (file->out_unsigned ? 128 : 0);
    *apart = 0;
    TRY(mem_alloc(&code, total, 1));
    for (size_t i = 0; i < total; i++) {
        double v = (double)x[i] / file->out_scale + shift, whole = nearbyint(v);
        *apart += !(fabs(v - whole) <= CODE_TOLERANCE) || whole < -128 || whole > 127;
        code[i] = (int8_t)(whole < -128 ? -128 : whole > 127 ? 127 : isnan(whole) ? 0 : whole);
    }
    status st = hash_sha256_hex(code, total, hex);
    mem_free(code);
    return st;
}

/* ---- errors ---- */

static int compare_doubles(const void *a, const void *b)
{
    double x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static size_t bin_of(double e)
{
    size_t k = 1;
    if (e <= 0)
        return 0;
    for (double edge = 1e-8; e > edge && k < CELL_HISTOGRAM - 1; edge *= 10)
        k++;
    return k;
}

static void note_worst(matrix_cell *c, size_t sample, double error)
{
    size_t at = c->n_worst;
    if (!(error > 0))
        return;
    if (at == CELL_WORST && error <= c->worst[CELL_WORST - 1].error)
        return;
    at = at < CELL_WORST ? at : CELL_WORST - 1;
    c->n_worst = at + 1;
    for (; at > 0 && c->worst[at - 1].error < error; at--)
        c->worst[at] = c->worst[at - 1];
    c->worst[at].sample = sample;
    c->worst[at].error = error;
}

static void measure_errors(const float *x, const float *own, size_t n, size_t width, errors *e, matrix_cell *c)
{
    e->total = n * width;
    e->first = e->total;
    for (size_t i = 0; i < n; i++) {
        double far = 0;
        for (size_t k = 0; k < width; k++) {
            size_t at = i * width + k;
            double d = fabs((double)x[at] - (double)own[at]), size = fabs((double)own[at]);
            bool finite = isfinite(x[at]);
            e->of[at] = finite ? d : (double)INFINITY;
            e->first = !finite && e->first == e->total ? at : e->first;
            e->finite += finite;
            e->sum += finite ? d : 0;
            e->top = size > e->top ? size : e->top;
            far = e->of[at] > far ? e->of[at] : far;
            c->histogram[bin_of(e->of[at])]++;
        }
        e->max = far > e->max ? far : e->max;
        note_worst(c, i, far);
    }
}

static status find_errors(const judge_by *by, const float *x, const float *own, size_t n, errors *e, matrix_cell *c)
{
    const size_t width = by->file->width;
    TRY(mem_alloc(&e->of, n * width, sizeof *e->of));
    measure_errors(x, own, n, width, e, c);
    qsort(e->of, e->total, sizeof *e->of, compare_doubles);
    c->max_error = e->max;
    c->mean_error = e->finite ? e->sum / (double)e->finite : (double)NAN;
    size_t rank = (size_t)ceil(0.99 * (double)e->total);
    c->p99_error = e->total ? e->of[rank > 0 ? rank - 1 : 0] : (double)NAN;
    return ST_OK;
}

/* ---- classes ---- */

static bool row_finite(const float *x, size_t width)
{
    for (size_t k = 0; k < width; k++)
        if (!isfinite(x[k]))
            return false;
    return true;
}

static status count_classes(const judge_by *by, const float *x, size_t n, arena *mem, matrix_cell *c)
{
    const size_t width = by->file->width;
    uint32_t *seen = NULL, *good = NULL;
    uint8_t *right;
    double *share;
    status st = ST_OK;
    TRY(arena_alloc(mem, &right, n, 1));
    TRY_DONE(mem_alloc(&seen, width, sizeof *seen));
    TRY_DONE(mem_alloc(&good, width, sizeof *good));
    for (size_t i = 0; i < n; i++) {
        const float *row = x + i * width;
        bool finite = row_finite(row, width);
        size_t class = compare_argmax(row, width);
        c->disagree += by->plain && (!finite || class != compare_argmax(by->plain + i * width, width));
        c->flips += by->own && (!finite || class != compare_argmax(by->own + i * width, width));
        int32_t label = by->label ? by->label[i] : -1;
        if (label < 0 || (size_t)label >= width)
            continue;
        right[i] = finite && class == (size_t)label;
        c->labelled++;
        c->correct += right[i];
        seen[label]++;
        good[label] += right[i];
    }
    if (c->labelled) {
        c->right = right;
        c->accuracy = (double)c->correct / (double)c->labelled;
        stats_wilson(c->correct, c->labelled, &c->accuracy_low, &c->accuracy_high);
    }
    if (!c->labelled || width > CLASSES_MAX)
        goto done;
    TRY_DONE(arena_alloc(mem, &share, width, sizeof *share));
    c->worst_class_accuracy = 2;
    for (size_t k = 0; k < width; k++) {
        share[k] = seen[k] ? (double)good[k] / (double)seen[k] : (double)NAN;
        if (seen[k] && share[k] < c->worst_class_accuracy) {
            c->worst_class_accuracy = share[k];
            c->worst_class = k;
        }
    }
    c->class_accuracy = share;
    c->classes = width;
done:
    mem_free(seen);
    mem_free(good);
    return st;
}

static void measure_numbers(const judge_by *by, const float *x, size_t n, matrix_cell *c)
{
    const size_t width = by->file->width;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        if (!by->target || !by->target[i])
            continue;
        c->labelled++;
        for (size_t k = 0; k < width; k++)
            sum += fabs((double)x[i * width + k] - (double)by->target[i][k]);
    }
    c->error = c->labelled ? sum / ((double)c->labelled * (double)width) : (double)NAN;
}

/* ---- the verdict ---- */

static double tolerance_of(const judge_by *by, double top)
{
    const file_facts *f = by->file;
    if (f->portable)
        return 0;
    if (f->integers && f->out_scale > 0)
        return INT8_STEPS * f->out_scale * FLOAT_SLACK;
    if (f->integers || f->half || by->bf16)
        return HALF_TOLERANCE;
    return FLOAT_TOLERANCE * (top > 10 ? top / 10 : 1);
}

static bool lacks_vnni(const char *set)
{
    return set && (strcmp(set, "avx2") == 0 || strcmp(set, "avx512") == 0 || strcmp(set, "sse") == 0);
}

/* What is known to make integers differ there. */
static const char *known_cause(const judge_by *by)
{
    if (by->may_saturate && by->file->integers && by->file->may_saturate > 0 && lacks_vnni(by->isa))
        return "; 16-bit sums of int8 products saturate: x86 without VNNI, and weights beyond 64 (quant.reduce_range, or session.x64quantprecision)";
    return "";
}

static status differs(arena *mem, matrix_cell *c, const char *why, const judge_by *by)
{
    c->state = CELL_DIFFERS;
    return arena_printf(mem, &c->reason, "%s%s%s%s", why, known_cause(by), by->known ? "; known of it: " : "", by->known ? by->known : "");
}

static status judge_portable(const judge_by *by, const float *x, size_t n, arena *mem, matrix_cell *c)
{
    char hex[65], want[65], why[200];
    size_t apart, other = 0;
    TRY(hash_codes(by->file, x, n * by->file->width, hex, &apart));
    TRY(arena_strdup(mem, &c->output_hash, hex));
    if (!by->own)
        return ST_OK;
    TRY(hash_codes(by->file, by->own, n * by->file->width, want, &(size_t){0}));
    if (strcmp(hex, want) == 0 && apart == 0)
        return ST_OK;
    for (size_t i = 0; i < n * by->file->width; i++)
        other += fabs((double)x[i] - (double)by->own[i]) > 0.5 * by->file->out_scale;
    snprintf(why, sizeof why, "not the codes of our integer reference: %zu of %zu differ%s", other, n * by->file->width,
             apart ? ", some outputs are no codes at all" : "");
    return differs(mem, c, why, by);
}

static status judge_distance(const judge_by *by, const errors *e, arena *mem, matrix_cell *c)
{
    char why[320];
    int used = 0;
    if (e->finite < e->total) {
        snprintf(why, sizeof why, "%zu of %zu outputs are not finite, the first in sample %zu", e->total - e->finite, e->total,
                 e->first / by->file->width);
        return differs(mem, c, why, by);
    }
    if (!by->own || by->file->portable)
        return ST_OK;
    bool plain = !by->file->integers && !by->file->half && !by->bf16;
    const double step = by->file->integers ? by->file->out_scale : 0;
    bool far = !(e->max <= c->tolerance), flips = plain && c->flips > 0;
    bool many = step > 0 && e->total >= USUAL_OUTPUTS;
    bool often = many && c->p99_error > INT8_USUAL * step * FLOAT_SLACK, mean = many && c->mean_error > INT8_MEAN * step * FLOAT_SLACK;
    if (!far && !flips && !often && !mean)
        return ST_OK;
    if (far)
        used = snprintf(why, sizeof why, "largest error %.3g, %.3g is tolerated", e->max, c->tolerance);
    if (often)
        used += snprintf(why + used, sizeof why - (size_t)used, "%s1 of 100 outputs is off by %.3g steps or more, %d are usual", used ? "; " : "",
                         c->p99_error / step, INT8_USUAL);
    if (mean)
        used += snprintf(why + used, sizeof why - (size_t)used, "%s%.3g steps on the average, %g are usual", used ? "; " : "", c->mean_error / step,
                         INT8_MEAN);
    if (flips || c->flips)
        snprintf(why + used, sizeof why - (size_t)used, "%s%zu of %zu samples of another class", used ? "; " : "", c->flips, c->images);
    return differs(mem, c, why, by);
}

status judge_outputs(const judge_by *by, const tensor *y, size_t n, arena *mem, matrix_cell *c)
{
    float *x = NULL;
    errors e = {0};
    status st;
    c->state = CELL_OK;
    c->images = n;
    st = judge_floats(by->file, y, n, &x);
    if (st == ST_BAD_DATA) {
        c->images = 0;
        return differs(mem, c, status_message(), by);
    }
    TRY(st);
    TRY_DONE(find_errors(by, x, by->own ? by->own : by->plain ? by->plain : x, n, &e, c));
    c->tolerance = by->own ? tolerance_of(by, e.top) : (double)NAN;
    if (by->numbers)
        measure_numbers(by, x, n, c);
    else
        TRY_DONE(count_classes(by, x, n, mem, c));
    TRY_DONE(judge_distance(by, &e, mem, c));
    if (by->file->portable && by->file->out_scale > 0 && e.finite == e.total)
        st = judge_portable(by, x, n, mem, c);
done:
    mem_free(e.of);
    mem_free(x);
    return st;
}
