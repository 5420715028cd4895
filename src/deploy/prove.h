/* prove.h - does the file compute what was trained? A model runs in our own executor and in ONNX Runtime on every
 * validation sample; accuracies, differences, latencies and checks go into a validation (validation.h). */
#ifndef DISTILL_DEPLOY_PROVE_H
#define DISTILL_DEPLOY_PROVE_H

#include "data/data.h"
#include "deploy/validation.h"
#include "exec/backend.h"
#include "onnx/model.h"

typedef struct prove_options {
    backend *b;
    dataset *ds;
    const char *ort;         /* library path; NULL: where it is usually found */
    bool numbers;            /* outputs are numbers, not logits of classes (outputs of another rank than 2 always are) */
    double atol, rtol;       /* a logit is equal when |own - other| <= atol + rtol * largest |own| of the sample */
    const limits *lim;
    const char *teacher_output; /* NULL: the first */
    size_t farthest;         /* samples listed where student and teacher differ most */
    const double *mean, *std; /* [channels] of the normalisation, for thumbnails; NULL: 0 and 1 */
} prove_options;

typedef struct proof { /* outputs [samples, width] of the own executor, kept for further comparisons */
    float *teacher, *student;
    int64_t width; /* of the student: classes when they are logits */
    int64_t teacher_width;
    bool numbers;
    double teacher_macs, student_macs; /* of one sample */
    int64_t teacher_parameters, student_parameters;
} proof;

/* teacher may be NULL. Fills v (validation_free also after failure): scores, runtimes, agreement, farthest samples and
 * the checks. What does not hold is a check with held = false, not a failure; a missing ONNX Runtime is one too. */
MUST_USE status prove(const prove_options *o, const char *teacher, const char *student, validation *v, proof *p);
void proof_free(proof *p);
/* One model on the validation samples, in our executor or (in_ort) in ONNX Runtime: outputs [samples, ...] of shape *sh
 * (caller frees with mem_free) and the time of one sample. */
MUST_USE status prove_outputs(const prove_options *o, const char *path, bool in_ort, float **outputs, shape *sh,
                              latency *time);
/* A variant of a model (variants.h of train/) against that model in float32, whose outputs in our executor are `reference`
 * [samples, width] with `numbers` (proof): both executors, into one more row of v->variants, and a check that it ran and gave
 * finite numbers in ONNX Runtime. key, model, file: as variant_result, copied; `path`: the file. */
MUST_USE status prove_variant(const prove_options *o, const char *key, const char *model, const char *file, const char *path,
                              const float *reference, size_t width, validation *v);
/* What is said of the TFLite file of the variant that was proved last: its name and size, or (file NULL) why there is none. */
MUST_USE status prove_add_tflite(validation *v, const char *file, int64_t bytes, const char *message);
bool prove_held(const validation *v);
/* One more check. */
MUST_USE status prove_add_check(validation *v, bool held, const char *name, const char *detail);

#endif
