/* variants.h - a trained network in other forms: `[export] variants`, `distill quant`.
 *
 * The key of a variant is what the job calls it: fp32, fp16, int8-ptq, int8-qat, portable, portable-s8, and teacher-KEY for
 * the teacher's. A run writes
 *     student.onnx                 always: the trained student in float32
 *     export/student.KEY.onnx      for every KEY of [export] variants, also of the teacher; of fp32 the same network again, so
 *                                  that export/ holds all that was asked for under one rule
 *     export/student.KEY.tflite    beside it, where TFLite has a form of it (variant_write_tflite; else the run says why)
 * and `distill quant M.onnx --variant KEY` the same two as M.KEY.onnx and M.KEY.tflite, or as --out says. */
#ifndef DISTILL_TRAIN_VARIANTS_H
#define DISTILL_TRAIN_VARIANTS_H

#include "config/config.h"
#include "data/loader.h"
#include "distill/feed.h"
#include "quant/ptq.h"

quant_scheme job_quant_scheme(const job *j);

/* Training samples for calibration: job.quant.samples of them, drawn by train.seed, as the validation sees them. */
typedef struct calibration_data {
    loader *l;
    feed f;
    uint64_t left;
    const void *x[DATA_INPUTS];
} calibration_data;
/* For graph g; `who` begins messages. ST_BAD_DATA when there are no training samples. */
MUST_USE status calibration_data_open(const job *j, dataset *ds, const graph *g, const char *who, calibration_data *out);
void calibration_data_close(calibration_data *c);
sample_source calibration_data_source(calibration_data *c);

typedef struct variant_job {
    const job *j;
    backend *b;
    dataset *ds;
    const char *student, *teacher; /* ONNX files in float32; NULL: there is none */
} variant_job;

/* One variant into `path`, written durably. `done` (may be NULL) gets a line for people. ST_CONFIG when the key is unknown or
 * cannot be made from what there is. */
MUST_USE status variant_write(const variant_job *v, const char *key, const char *path, text *done);
bool variant_of_teacher(const char *key);

/* The network of `path`, an ONNX file of ours, as a TFLite file beside it, with the same metadata. Where TFLite has no form of it,
 * there is none, and the reason is appended to `why`. */
MUST_USE status variant_write_tflite(const job *j, const char *path, text *why);

#endif
