/* runtimes.h - the rows of the matrix: which runtimes there are, how each is started, how to get it.
 *
 * The table is in runtimes.c, in the order of the rows. What a runtime says of itself (its answer to "describe") is kept in a
 * file with a print of all that it may depend on: asking twenty interpreters takes half a minute. */
#ifndef DISTILL_MATRIX_RUNTIMES_H
#define DISTILL_MATRIX_RUNTIMES_H

#include "base/mem.h"
#include "matrix/process.h"

typedef enum runner_kind { RUNNER_NATIVE, RUNNER_X86, RUNNER_ARM64, RUNNER_PYTHON, RUNNER_NODE, RUNNER_PROGRAM, RUNNER_NEVER } runner_kind;

typedef struct runtime_row {
    const char *key, *title;
    runner_kind kind;
    const char *engine;  /* the runner's argument */
    const char *form;    /* of files that it reads: "onnx", "qoperator", "tflite", "ncnn" */
    const char *options; /* members of the request's "options" object: "\"level\": \"basic\""; "" none */
    const char *int8_form; /* of integer files; NULL: the same */
    const char *cpu;     /* that qemu plays */
    const char *library; /* folder of build/runtimes that holds the libonnxruntime to use (NULL: the usual one), or the program `engine` */
    bool bf16;           /* computes float files in bfloat16: judged as narrow */
    bool slow;           /* emulated, interpreted or on a software GPU: matrix.slow_samples, no teacher */
    bool emulated;       /* latency has no meaning */
    bool stays;          /* one runner for all files of the row: its start and its compiled shaders take longer than a file */
    double seconds;      /* limit for a cell */
    const char *get;     /* how to get it, or why it never runs here */
    const char *wrong_float, *wrong_half, *wrong_int8; /* faults of it that are known: said where such a file differs; NULL: none */
    const char *wrong_concat; /* one of int8 files where a Concat feeds a Conv; NULL: none */
} runtime_row;

const runtime_row *runtimes_all(size_t *n);
/* NULL: unknown. */
const runtime_row *runtimes_find(const char *key);
const char *runtimes_form(const runtime_row *r, bool integers); /* that it reads of such a file */
/* Does `name` fit `pattern` (* and ?)? */
bool runtimes_match(const char *pattern, const char *name);

/* Where things are: all in mem. */
typedef struct runtime_places {
    const char *program, *root; /* this program; the project's folder, NULL: not found */
    const char *runtimes;       /* DISTILL_RUNTIMES, else ROOT/build/runtimes */
    const char *build;          /* runner_file_build of the program */
} runtime_places;
MUST_USE status runtimes_places(arena *mem, runtime_places *out);

/* The command and environment of a row's runner, NULL-terminated. Something that is missing: *missing says what, and how to get it. */
typedef struct runtime_launch {
    const char *const *command, *const *env;
    const char *emulator; /* the file of the program that plays the processor; NULL: none does */
    const char *missing;
} runtime_launch;
MUST_USE status runtimes_launch(const runtime_row *r, const runtime_places *p, arena *mem, runtime_launch *out);

typedef struct runtime_facts {
    bool present;
    const char *how; /* not present: what is missing and how to get it */
    const char *runtime, *version, *build, *device, *isa;
    const char *emulator; /* what plays the processor, and of which build the runner is that runs there; NULL: none */
} runtime_facts;
/* Asks every one of n rows, or takes what `cache` (a file; NULL: none) remembers. facts: [n]. log_dir: for what they say on
 * standard error; NULL: nowhere. */
MUST_USE status runtimes_describe(const runtime_row *const *rows, size_t n, const runtime_places *p, const char *cache, const char *log_dir,
                                  const volatile sig_atomic_t *stop, arena *mem, runtime_facts *facts);

#endif
