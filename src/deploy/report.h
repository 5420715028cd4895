/* report.h - the page a run leaves behind: report.html, one file without scripts or network.
 *
 * report_from_run reads a run directory, report_write makes the page. What the run directory must hold (unknown
 * keys are ignored everywhere; a number that is not finite is null with a sibling KEY_nonfinite, text.h):
 *
 *   run.json, schema 1: what the run was. run_info_write makes it from the struct below:
 *       schema: 1, name, status: "running" | "done" | "stopped" | "failed", reason (null: none), version, build,
 *       command: [argv], folder (where it was started), started: "2025-11-21T14:00:00Z", seconds, seed, threads,
 *       device, host: {system, cpu, cores, memory (bytes)},
 *       training: {steps, steps_done, epochs, batch, samples, labelled, method (a sentence)},
 *       teacher: null | MODEL, student: MODEL, files: [{name, path, sha256, bytes}], libraries: [{name, version}]
 *       MODEL is {name, path, sha256, parameters, macs (of one sample), bytes}
 *
 *   metrics.jsonl: one object a line, oldest first. Every line has event, time (Unix seconds) and step (optimizer
 *   steps done). After a resume the file goes on at the checkpoint's step: what was said of later steps is void.
 *       {"event": "step", ..., "epoch": 0.21, "lr": 0.1, "grad_norm": 1.5, "samples_per_second": 9000, "data_wait": 0.003,
 *        "loss": {"total": 1.2, "ce": 2.1, "kl": 0.3, "hint.mid": 0.1}}
 *           loss: the weighted terms and their sum, means since the last such line; data_wait: the share of the time since
 *           then in which the step waited for its data
 *       {"event": "eval", ..., "epoch": 1, "accuracy": 0.85, "loss": 0.43}
 *           on the validation set; of outputs that are numbers "error" (mean absolute) and "distance" (from the teacher's)
 *       {"event": "start" | "resume" | "checkpoint" | "nonfinite" | "overflow" | "stop" | "end", ...}
 *           start and resume have "precision": "fp32" | "fp16" | "bf16". nonfinite has "tensor": name. overflow: gradients times the loss scale were not finite, the step was skipped; both
 *           have "skipped", the steps of this process that were. Where the loss is scaled (train.precision = fp16) overflow has
 *           "loss_scale" and step lines have "loss_scale" and "skipped_steps", those of the whole run
 *   A torn last line is normal after a crash. Lines that cannot be read are counted and the page says so.
 *
 *   validation.json: validation.h. Missing (the run has not ended): the page says so.
 *   config.ini: the effective configuration, shown as it stands. May be missing. */
#ifndef DISTILL_DEPLOY_REPORT_H
#define DISTILL_DEPLOY_REPORT_H

#include "base/limits.h"
#include "base/text.h"
#include "deploy/validation.h"

typedef struct model_info {
    const char *name, *path, *sha256; /* NULL: unknown */
    int64_t parameters, macs, bytes;  /* below 0: unknown */
} model_info;

typedef struct file_info {
    const char *name; /* what it is: "teacher", "training images" */
    const char *path, *sha256;
    int64_t bytes;
} file_info;

typedef struct library_info {
    const char *name, *version;
} library_info;

/* Strings and arrays are borrowed by run_info_write and live in `mem` after run_info_read. NULL: unknown. */
typedef struct run_info {
    const char *name, *status, *reason, *version, *build, *folder, *started, *device;
    const char *const *command;
    size_t n_command;
    double seconds;
    uint64_t seed;
    int threads, cores;
    const char *system, *cpu;
    int64_t memory;
    int64_t steps, steps_done, batch, samples, labelled;
    double epochs;
    const char *method; /* "T^2 KL to the teacher, temperature 4, no labels" */
    bool has_teacher;
    model_info teacher, student;
    const file_info *files;
    const library_info *libraries;
    size_t n_files, n_libraries;
} run_info;
MUST_USE status run_info_write(const char *path, const run_info *r);
MUST_USE status run_info_read(const char *path, arena *mem, run_info *out);

/* One line of a diagram: n points, x rising, y may be NAN (a gap). */
typedef struct curve {
    const char *name;
    double *x, *y;
    size_t n, cap;
} curve;

typedef struct metrics_log {
    curve *loss; /* one per term, "total" among them */
    size_t n_loss;
    curve rate;     /* learning rate over steps */
    curve accuracy; /* of the evaluations, 0 to 1 */
    curve error;    /* of the evaluations, of outputs that are numbers: from the targets, else from the teacher */
    curve eval_loss;
    double last_step, last_epoch;
    size_t resumes, nonfinite, unreadable; /* events, lines */
} metrics_log;
/* The arrays are single blocks: metrics_log_free. A missing file gives an empty log. */
MUST_USE status metrics_log_read(const char *path, metrics_log *out);
void metrics_log_free(metrics_log *m);

/* A section of the page that a folder above brings. What `put` appends is HTML: strings from outside through page_escaped, its
 * heading through page_heading (report_page.h), so that the page's contents list it. */
typedef struct report_section {
    const char *before; /* id of the section that it stands before: "training", "runtimes", ...; NULL, unknown or absent: the facts */
    const char *style;  /* more of the style sheet; NULL: none */
    status (*put)(text *t, const void *ctx);
    const void *ctx;
} report_section;

typedef struct report_data {
    arena mem;
    run_info run;
    metrics_log metrics;
    bool has_validation;
    validation val;
    const char *config; /* NULL: none */
    const report_section *more; /* borrowed; the caller may set them between reading and writing */
    size_t n_more;
} report_data;
MUST_USE status report_from_run(const char *run_dir, report_data *out);
void report_free(report_data *r);
/* Writes the page durably. */
MUST_USE status report_write(const char *path, const report_data *r);

#endif
