/* ort.h - ONNX Runtime, driven from C: the judge that the exported student must convince.
 *
 * The library is not linked: `libonnxruntime.so` comes with the PyPI wheel `onnxruntime` (tools/setup puts it
 * into .venv) and is opened with dlopen; of its append-only C function table ort_api.h declares the slots
 * that are used. Everything that ONNX Runtime refuses becomes a status that carries its message. CPU provider
 * only. */
#ifndef DISTILL_DEPLOY_ORT_H
#define DISTILL_DEPLOY_ORT_H

#include "base/status.h"
#include "graph/types.h"

typedef struct ort_lib ort_lib;         /* the opened library and its environment */
typedef struct ort_session ort_session; /* one loaded model */
typedef struct ort_call ort_call;       /* a session with its inputs and outputs bound to memory */

/* Opens the library: `path` if not NULL, else the environment's DISTILL_ORT, else the wheel in the `.venv` of
 * the project that the program lies in or of the current folder, else the system's library path.
 * ST_UNAVAILABLE, with how to get it, when there is none or it is too old. Caller closes it after every
 * session of it. */
MUST_USE status ort_open(const char *path, ort_lib **out);
void ort_close(ort_lib *lib); /* NULL allowed, as for all below */
const char *ort_version(const ort_lib *lib);
const char *ort_path(const ort_lib *lib);

typedef struct ort_options {
    int threads;        /* of one operator; 0: as many as ONNX Runtime likes */
    bool no_optimizing; /* run the graph as it stands in the file */
    bool basic;         /* only what keeps the operators of ONNX */
    bool precise;       /* 8-bit products without saturation on processors that lack VNNI (session.x64quantprecision) */
    const char *optimized; /* the graph that runs is written there, as ONNX Runtime writes it; NULL: it is not */
} ort_options;

/* Loads a model; `options` NULL: all defaults. Borrows `lib`; external data is found beside the file. A
 * missing file is ST_NO_INPUT; a model that ONNX Runtime refuses, or with inputs or outputs that are not
 * tensors of a type in types.h, is ST_BAD_DATA. */
MUST_USE status ort_session_open(ort_lib *lib, const char *model, const ort_options *options,
                                 ort_session **out);
/* The same from memory (copied); `name` stands in messages. */
MUST_USE status ort_session_open_bytes(ort_lib *lib, const char *name, const void *model, size_t size,
                                       const ort_options *options, ort_session **out);
void ort_session_close(ort_session *s);

typedef struct ort_port {
    char *name;
    dtype type;
    shape sh; /* -1: free (told by the first run) */
} ort_port;
size_t ort_input_count(const ort_session *s);
size_t ort_output_count(const ort_session *s);
const ort_port *ort_input(const ort_session *s, size_t i);
const ort_port *ort_output(const ort_session *s, size_t i);

/* Runs once. Inputs are matched by name, one without a name by position; all are needed. All outputs are
 * appended to `out`, named. A wrong type or shape is ST_BAD_DATA. */
MUST_USE status ort_run(ort_session *s, const tensor *in, size_t n_in, tensor_list *out);

/* For many runs of one shape: binds inputs and outputs (by name or position, as ort_run; outputs may be fewer
 * than the model has) to the tensors' own memory. Each ort_call_run reads what lies in `in` and writes `out`,
 * with no allocation on our side. Borrows everything until ort_call_free. */
MUST_USE status ort_call_make(ort_session *s, const tensor *in, size_t n_in, const tensor *out, size_t n_out,
                              ort_call **call);
MUST_USE status ort_call_run(ort_call *call);
void ort_call_free(ort_call *call);

/* A whole data set through a model with one input, by batches, without copies: x [N, ...] to y [N, ...], the
 * model's first output. A model whose batch is fixed is run at that batch, the last one padded. `batch` >= 1.
 */
MUST_USE status ort_run_all(ort_session *s, const tensor *x, size_t batch, const tensor *y);

#endif
