/* matrix.h - the deployment matrix of a run: every variant of its models in every runtime that can be had.
 *
 * Rows are runtimes (runtimes.h), columns variants (train/variants.h). A cell says what came out of one file in one
 * runtime. In memory it is these structs, on disk matrix.json in the run folder (below), in the cache a row of store.h.
 *
 * matrix.json, schema 1 (unknown keys are ignored):
 *   schema 1, run, set, metric: "accuracy" | "error", samples, version, host: {system, cpu, cores, memory}, seconds,
 *   runtimes   [{runtime, title, present, how (to get it, or why it does not run here), emulated}], in the order of the rows
 *   variants   [{variant, model: "student" | "teacher", files: [{form, path, bytes, sha256}], portable}], of the columns
 *   cells      [CELL]; CELL is the struct's fields by their names, unknown ones left out (counts, when images is 0); state as
 *              cell_state_name says; latency_ms [], class_accuracy [], histogram [], worst [{sample, error}]
 * A number that is not finite is null with a sibling KEY_nonfinite (text.h). */
#ifndef DISTILL_MATRIX_MATRIX_H
#define DISTILL_MATRIX_MATRIX_H

#include "base/mem.h"
#include "base/text.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum cell_state {
    CELL_OK,          /* ran, and within its tolerance; a portable variant: its hash is the integer reference's */
    CELL_DIFFERS,     /* ran, and what came out is wrong: too far, not finite, another shape; reason says which */
    CELL_CRASH,       /* the runner ended, or ate its memory, or spoke nonsense; the log is kept */
    CELL_TIMEOUT,
    CELL_UNSUPPORTED, /* the runtime says that it cannot run this file, or there is no file in a form that it reads */
    CELL_NOT_RUN,     /* "not run here": the runtime is not on this machine */
    CELL_STATES
} cell_state;
const char *cell_state_name(cell_state s); /* "ok", "differs", "crash", "timeout", "unsupported", "not run here" */

#define CELL_HISTOGRAM 12 /* bins of |error|: 0, then (10^(k-9), 10^(k-8)] for k = 1 .. 10, then more */
#define CELL_WORST 8

typedef struct matrix_cell {
    const char *runtime, *variant; /* keys of row and column */
    cell_state state;
    const char *reason;                           /* NULL: nothing to say */
    const char *engine, *version, *build;         /* "ONNX Runtime", "1.31.1", what identifies the binary */
    const char *device, *isa, *providers, *notes; /* "AMD EPYC", "avx512_vnni", "CPUExecutionProvider 23", what the runner remarked */
    const char *host;                             /* who measured: "here" or the identity in a merged result */
    const char *log;                              /* what the runner said on standard error; path relative to the run folder */
    const char *key;                              /* SHA-256 of all that the cell depends on (store.h), hex */
    int64_t when;                                 /* Unix seconds of the measurement */
    bool cached;                                  /* taken from the cache in this making of the matrix */
    bool emulated;                                /* latency has no meaning: another instruction set, or a software GPU */

    size_t images;                                   /* samples that ran */
    double accuracy, accuracy_low, accuracy_high;    /* of labelled samples, 0 to 1, with Wilson's 95 % interval; NAN without */
    double error;                                    /* of numbers: mean absolute error from the targets; NAN for classes */
    size_t labelled, correct;
    const double *class_accuracy;                    /* [classes] or NULL */
    size_t classes, worst_class;
    double worst_class_accuracy;
    size_t disagree;                                 /* samples of another class than our float32 network's */
    size_t flips;                                    /* samples of another class than the same file in our executor */
    double max_error, mean_error, p99_error;         /* of outputs, from the same file in our executor (own row: from float32) */
    double tolerance;                                /* that max_error was judged by; 0: equality of hashes */
    uint32_t histogram[CELL_HISTOGRAM];              /* of all outputs' |error| */
    struct { size_t sample; double error; } worst[CELL_WORST];
    size_t n_worst;
    const char *output_hash;                         /* SHA-256 of the int8 codes, row-major, data set order; NULL: float */

    double p50_ms, p90_ms, p99_ms;                   /* of one sample, threads as the matrix says; NAN: not measured */
    const double *latency_ms;                        /* [n_latency], in the order of measurement */
    size_t n_latency;
    double throughput;                               /* samples/s over the whole set in batches; NAN */
    double load_ms, peak_mb, seconds;                /* seconds: what this cell took in all */
    int64_t bytes;                                   /* of the file(s) to ship; -1 */
    const uint8_t *right;                            /* [images] 1: class is the label's; for paired tests; not in matrix.json; NULL */
} matrix_cell;

typedef struct matrix_row {
    const char *runtime, *title, *how; /* how: to get it, or why it does not run here; NULL when present */
    bool present, emulated;
} matrix_row;

typedef struct matrix_file {
    const char *form, *path, *sha256; /* "onnx", "qoperator", "tflite", "ncnn"; path relative to the run folder */
    int64_t bytes;
} matrix_file;

typedef struct matrix_column {
    const char *variant, *model; /* "teacher-int8-ptq", "teacher" */
    matrix_file *files;
    size_t n_files;
    bool portable; /* proven: cells are judged by hashes */
} matrix_column;

typedef struct matrix {
    arena mem; /* owns everything below */
    const char *run, *set, *version;
    const char *system, *cpu;
    int cores;
    int64_t memory;
    bool numbers; /* the metric is the mean absolute error */
    size_t samples;
    double seconds;
    matrix_row *rows;
    matrix_column *columns;
    matrix_cell *cells; /* [n_rows][n_columns] */
    size_t n_rows, n_columns;
} matrix;

static inline matrix_cell *matrix_at(const matrix *m, size_t row, size_t column)
{
    return &m->cells[row * m->n_columns + column];
}
/* NULL when there is none. */
matrix_cell *matrix_find(const matrix *m, const char *runtime, const char *variant);
/* An empty cell: numbers unknown (NAN, -1), state CELL_NOT_RUN. */
matrix_cell matrix_cell_empty(void);

void matrix_put(text *t, const matrix *m, bool pretty); /* the file's text; pretty false: on one line */
MUST_USE status matrix_write(const char *path, const matrix *m); /* durably */
/* ST_NO_INPUT when missing; ST_BAD_DATA, naming the key, when it is not as above. Free it also after failure. */
MUST_USE status matrix_read(const char *path, matrix *out);
void matrix_free(matrix *m);

#endif
