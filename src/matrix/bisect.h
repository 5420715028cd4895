/* bisect.h - where a runtime parts from our executor: the first layer, the sample that shows it, the smallest model that still does.
 *
 * The model is cut after a value and run in the runtime; what comes out is held against the same value in our executor, run without
 * fusion. Errors need not grow from layer to layer (a saturated sum may vanish behind a relu), so halving alone may end anywhere that
 * parts behind a layer that does not: what it finds is confirmed by running the cuts that the layer reads from, and the two before it in the
 * order of the graph; where one of those parts too, the search goes on above it. What is reported is therefore a layer that parts
 * although all that it reads agrees.
 *
 * Cuts of a graph in QDQ form are made where DequantizeLinear gives integers back: a cut inside a group would undo the fusion that is
 * under suspicion. A cut can undo others (the runtime optimises what it sees); when the whole model parts and no cut does, the result
 * says so. */
#ifndef DISTILL_MATRIX_BISECT_H
#define DISTILL_MATRIX_BISECT_H

#include "base/mem.h"
#include "base/text.h"
#include "graph/types.h"

typedef struct bisect_options {
    const char *model;            /* ONNX file of the variant, whatever form the runtime reads */
    const char *form;             /* "onnx", "tflite", "ncnn": what the runtime is given */
    const char *const *command;   /* of the runner */
    const char *const *env;
    const char *runner_options;   /* JSON object; NULL: {} */
    double seconds;               /* time limit of one question */
    int64_t memory;               /* of the runner; 0: none */
    int threads;
    const tensor *x;              /* samples for the model's one input, [n, ...] of its type */
    double tolerance;             /* of float values, times max(1, largest |y|); 0: 1e-4 */
    bool exact;                   /* a portable model: rounded values must be equal; else one step of their grid may lie between */
    const char *dir;              /* where models and arrays are written; made if need be */
} bisect_options;

typedef struct bisect_result {
    arena mem;
    bool parts;                /* the whole model does */
    bool found;                /* a cut does too */
    const char *layer, *op;    /* node */
    const char *value;         /* that was cut at */
    const char *why;           /* NULL: numbers differ; else what the runtime said of the cut */
    size_t sample, element;    /* where the difference is largest: row of x, number of that row's output */
    double error, tolerance, got, want;
    size_t differ, count;      /* numbers beyond the tolerance, of all */
    size_t layers, asked;      /* cuts that could be made; runs of the runtime */
    const char *cut;           /* the model up to there; with cut.input.npy (the sample) and cut.want.npy beside it */
    const char *alone;         /* the layer alone, where it parts alone too; NULL: it does not, or it was not tried */
} bisect_result;

/* Free also after failure. ST_UNAVAILABLE: the runtime is not there; ST_BAD_DATA: the model cannot be cut. */
MUST_USE status bisect_run(const bisect_options *o, bisect_result *out);
void bisect_free(bisect_result *r);
void bisect_print(const bisect_result *r, text *t);
void bisect_json(const bisect_result *r, json *j);

#endif
