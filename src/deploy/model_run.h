/* model_run.h - one model on given tensors, in our executor or in ONNX Runtime, timed; and comparison with what was
 * expected. */
#ifndef DISTILL_DEPLOY_MODEL_RUN_H
#define DISTILL_DEPLOY_MODEL_RUN_H

#include "deploy/compare.h"
#include "exec/backend.h"
#include "graph/types.h"

typedef struct model_run_options {
    backend *b;      /* for the own executor; NULL: ONNX Runtime runs it */
    const char *ort; /* library; NULL: where it usually is */
    bool wide;       /* own executor: float64 where the model says float32, reference kernels (b must be such a backend) */
    int repeat;      /* timed runs after two that warm up; 0: one run, no timing */
} model_run_options;

/* in: named as the model's inputs. Outputs are appended in the model's order. time may be NULL. */
MUST_USE status model_run(const char *path, const model_run_options *o, const tensor *in, size_t n_in, tensor_list *out,
                          latency *time);

typedef struct tensor_difference {
    double max_abs, max_rel; /* over all elements; of integers max_abs alone */
    double worst;            /* largest |a - b| / (atol + rtol * |b|); at most 1: all are equal */
    int64_t at;              /* where */
    double got, want;
} tensor_difference;
/* |got - want| <= atol + rtol * |want| for every element, as numpy.testing.assert_allclose; integers exactly; NaN equals
 * NaN. ST_GATE names the first fault (type, shape, element). `d` may be NULL. */
MUST_USE status tensor_compare(const tensor *got, const tensor *want, double atol, double rtol, tensor_difference *d);

/* DIR/KIND_K.pb for K = 0, 1, ... into at[0..*n); the caller frees them, also after failure. */
MUST_USE status tensors_read_numbered(const char *dir, const char *kind, tensor *at, size_t room, size_t *n);

#endif
