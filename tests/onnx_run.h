/* onnx_run.h - runs a model of ONNX's test suites on our executor and compares, for tests. */
#ifndef DISTILL_TESTS_ONNX_RUN_H
#define DISTILL_TESTS_ONNX_RUN_H

#include "exec/exec.h"
#include "onnx/export.h"
#include "onnx/import.h"

typedef struct model_run {
    backend *b;
    const limits *lim; /* NULL: defaults */
    double rtol, atol;
    int64_t export_opset; /* not 0: what runs is the graph after export at this opset and import of the result */
    double worst;    /* largest error seen, as a part of the tolerance */
    size_t compared; /* elements */
} model_run;

/* Runs the model file on the inputs of one data set (DIR/input_K.pb) and compares with DIR/output_K.pb. Inputs that an
 * operator needs as constants are given as such. ST_GATE: an output differs, the message says where. */
MUST_USE status run_data_set(model_run *r, const char *model, const char *dir);
/* The same with tensors: inputs and outputs in the order of the model. */
MUST_USE status run_tensors(model_run *r, const char *model, const tensor *in, size_t n_in,
                            const tensor *want, size_t n_want);
/* Unpacks a .tar.gz into a folder; false when it is not there or damaged. */
bool unpack_archive(const char *path, const char *to);

#endif
