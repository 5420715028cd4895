/* validation.h - what is known about a student after it was proved: the content of validation.json.
 *
 * The train and validate commands fill one, write it and print from it; the report reads it back.
 *
 * validation.json, schema 1 (unknown keys are ignored, so that later versions may add some):
 *   schema       1
 *   set          what was used, for people: "data/fashion-mnist test"
 *   samples      number of samples
 *   numbers      true: outputs are numbers and no logits; nothing is said in classes then, but `error` and `mean_abs`
 *   classes      [names], in class order; none with numbers
 *   teacher      SCORE or null
 *   student      SCORE
 *   agreement    student against teacher on the whole set: DIFFERENCE or null
 *   runtimes     [{model: "teacher" | "student", runtime, version, ok, message, precision, threads, batch, accuracy,
 *                  difference: DIFFERENCE from our own executor or null,
 *                  latency_ms: {runs, p50, p90, p99, mean, min} or null}]; our own executor is one of them
 *   variants     the same networks in other forms: [{key, model, file, bytes, message, accuracy, accuracy_ort: in ONNX
 *                  Runtime, agreement: DIFFERENCE from the float32 network, both in our executor, or null,
 *                  difference: DIFFERENCE of ONNX Runtime from our executor, or null, latency_ms, latency_ort_ms,
 *                  tflite: the same as a TensorFlow Lite file, or null, tflite_bytes, tflite_message: why there is none,
 *                  note: what to know before it is deployed, or null}]
 *   farthest     [{sample, label (-1: none), teacher, student, teacher_p, student_p, kl,
 *                  image: {width, height, channels (1 gray | 3 RGB), pixels (base64, height*width*channels bytes,
 *                  rows from the top)} or null}], farthest first; teacher_p and student_p: each one's probability
 *                of its own prediction
 *   checks       [{name, held, detail}]: what had to hold for exit code 0
 * SCORE is       {accuracy, labelled, correct, ce, error (mean absolute), class_samples: [], class_correct: [],
 *                 confusion: [[label][prediction]] or null above CONFUSION_MAX classes}
 *                accuracy is for readers of the file; correct / labelled counts
 * DIFFERENCE is  {samples, disagreements, max_abs, max_abs_sample, max_rel, mean_kl, mean_abs}
 * A number that is not finite is null with a sibling KEY_nonfinite (text.h). */
#ifndef DISTILL_DEPLOY_VALIDATION_H
#define DISTILL_DEPLOY_VALIDATION_H

#include "base/mem.h"
#include "base/status.h"
#include "deploy/compare.h"
#include <stdbool.h>

typedef struct runtime_result {
    const char *model;     /* "teacher" or "student" */
    const char *runtime;   /* "distill", "ONNX Runtime" */
    const char *version;   /* NULL: unknown */
    const char *precision; /* "fp32", ... */
    const char *message;   /* why it is not ok, or a note; NULL: nothing to say */
    bool ok;               /* it ran, everything was finite */
    bool has_difference, has_latency;
    int threads, batch; /* of the latency */
    double accuracy;    /* NAN: not measured */
    difference diff;
    latency time;
} runtime_result;

typedef struct variant_result { /* a network in another form, proved on the same samples */
    const char *key, *model;        /* "int8-ptq"; "teacher" or "student": whose it is */
    const char *file, *message;     /* message: why ONNX Runtime does not run it, NULL: it does */
    int64_t bytes;
    double accuracy, accuracy_ort;  /* NAN: not measured */
    bool has_agreement, has_difference, has_latency, has_latency_ort;
    difference agreement; /* with the float32 network, in our executor */
    difference diff;      /* of ONNX Runtime from our executor */
    latency time, time_ort;
    const char *tflite, *tflite_message; /* the TFLite file; NULL: there is none, and why (NULL: none was asked for) */
    int64_t tflite_bytes;
    const char *note; /* what to know before it is deployed: sums that may saturate (quant/saturate.h); NULL: nothing */
} variant_result;

/* A picture of a sample: 8 bits, gray or RGB, rows from the top. */
typedef struct thumbnail {
    int width, height, channels; /* width 0: none */
    const uint8_t *pixels;
} thumbnail;

typedef struct far_sample {
    size_t sample;
    int32_t label; /* -1: none */
    int32_t teacher, student;
    double teacher_p, student_p, kl;
    thumbnail image;
} far_sample;

typedef struct check_result {
    const char *name, *detail;
    bool held;
} check_result;

/* Arrays and strings live in `mem` (use arena_alloc, arena_printf), except the scores. */
typedef struct validation {
    arena mem;
    const char *set;
    size_t samples, classes;
    bool numbers;             /* outputs are numbers: classes is 0 */
    const char **class_names; /* [classes] */
    bool has_teacher, has_agreement;
    score teacher, student;
    difference agreement;
    runtime_result *runtimes;
    far_sample *farthest;
    check_result *checks;
    variant_result *variants;
    size_t n_runtimes, n_farthest, n_checks, n_variants;
} validation;
void validation_free(validation *v);

MUST_USE status validation_write(const char *path, const validation *v);
/* ST_NO_INPUT when missing; ST_BAD_DATA, naming the key, when it is not as above. Fills *out, which the
 * caller frees. */
MUST_USE status validation_read(const char *path, validation *out);

/* Fills `farthest` (at most k) from logits; the caller adds the images. */
MUST_USE status validation_add_farthest(validation *v, const float *teacher, const float *student,
                                        const int32_t *labels, size_t k);
/* A thumbnail of at most `side` pixels each way (box filter), made in `mem`.
 * From bytes [height, width, channels]; channels 1, 3 or 4 (alpha dropped). */
MUST_USE status thumbnail_from_bytes(arena *mem, const uint8_t *pixels, int width, int height, int channels,
                                     int side, thumbnail *out);
/* From a network's input [channels, height, width], channels 1 or 3: pixel = 255 * (x * std + mean), clamped.
 */
MUST_USE status thumbnail_from_input(arena *mem, const float *x, int channels, int height, int width,
                                     const double *mean, const double *std, int side, thumbnail *out);

#endif
