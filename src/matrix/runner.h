/* runner.h - the child's side: one request, one answer, for the engines that are reached from C (`distill runner ENGINE`).
 *
 * The protocol is README.md's in this folder; tools/runners speaks it for the engines of other languages. An engine loads a
 * model into a runner_net: memory for `batch` rows of each input and of the output, and a way to run it. */
#ifndef DISTILL_MATRIX_RUNNER_H
#define DISTILL_MATRIX_RUNNER_H

#include "base/json_in.h"
#include "base/text.h"
#include "graph/types.h"

#define RUNNER_PROTOCOL 1
#define RUNNER_INPUTS   8

typedef struct runner_request {
    bool describe;
    const char *model, *output, *output_name; /* output_name NULL: the first */
    struct {
        const char *name, *file;
    } in[RUNNER_INPUTS];
    size_t n_in;
    size_t samples, batch;
    int threads;
    /* "options"; those that tell what is opened (device) come with describe too */
    const char *level;     /* of graph optimisations: all, basic, none */
    bool precise;          /* ONNX Runtime's session.x64quantprecision */
    const char *device;    /* of our executor, as --device takes it; NULL: cpu */
    const char *precision; /* of its matrix products: "bf16"; NULL: as the file says */
    struct {
        bool wanted;
        size_t batch, warmup, runs;
        double seconds;
    } latency;
} runner_request;

typedef struct runner_net {
    tensor in[RUNNER_INPUTS]; /* named as the model's inputs, [batch, ...]; filled before run */
    size_t n_in;
    tensor out;               /* [batch, ...], valid after run */
    int64_t batch;
    int64_t nodes;            /* that run; -1: unknown */
    void *ctx;                /* the engine's */
} runner_net;

typedef struct runner_facts {
    const char *runtime, *version, *build, *provider; /* in mem */
    const char *device, *isa; /* NULL: this processor, its best instruction set */
    const char *note;         /* load may set it */
    arena mem;
} runner_facts;

typedef struct runner_engine {
    const char *name;
    /* Opens the runtime and says what it is; *lib is handed to load, and closed by close_lib. Borrows r and facts until then. */
    status (*open)(const runner_request *r, runner_facts *facts, void **lib);
    void (*close)(void *lib);
    /* batch: rows wanted; a file with a fixed batch gives that of the file. Frees what it made when it fails. */
    status (*load)(void *lib, const runner_request *r, size_t batch, runner_net *net);
    status (*run)(runner_net *net);
    void (*unload)(runner_net *net); /* also the tensors that are its own */
} runner_engine;

extern const runner_engine runner_own, runner_ort, runner_openvino;
/* NULL: unknown. */
const runner_engine *runner_find(const char *name);

/* Answers the request in `line` (of *stdin* without its end): one line of JSON without its end. What goes wrong becomes an
 * answer with ok = false; fails only when no answer can be made. */
MUST_USE status runner_answer(const runner_engine *e, const char *line, size_t n, text *answer);

/* Identity of a file's bytes: "NAME, N bytes, xxh3 HEX" in mem. */
MUST_USE status runner_file_build(const char *path, arena *mem, const char **out);

/* cpu.c: what this processor calls itself (under emulation: the emulated one), and its instruction set as the matrix names it. */
const char *runner_cpu_name(char *buf, size_t n);
const char *runner_cpu_isa(void);

#endif
