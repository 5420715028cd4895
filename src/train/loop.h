/* loop.h - a whole run: steps, evaluations, checkpoints, resume, signals, in one folder.
 *
 * The folder holds run.lock, config.ini, metrics.jsonl, events.out.tfevents.*, ckpt/, bad_samples.csv and what later
 * stages add. A run that was stopped at any step and resumed gives the same weights, bit for bit. */
#ifndef DISTILL_TRAIN_LOOP_H
#define DISTILL_TRAIN_LOOP_H

#include "train/progress.h"
#include "train/session.h"

#include <signal.h>

typedef struct loop_options {
    const char *dir;
    const char *out;   /* what --out says of the whole run, where `dir` is a part of its folder; NULL: dir */
    bool resume;       /* go on from the newest checkpoint that is whole (from the start when there is none) */
    bool force;        /* remove an earlier run's files from the folder */
    bool force_resume; /* although config, data or teacher changed */
    const progress_sink *sink;           /* NULL: silent */
    const volatile sig_atomic_t *stop;   /* set: finish the step, save, return ST_STOPPED; NULL: never */
} loop_options;

typedef struct loop_result {
    uint64_t steps_done;
    double best_accuracy;
    uint64_t best_step;
    double seconds;          /* of the steps of this process, evaluations not counted */
    double waited;           /* of `seconds`: the step waited for its data */
    double samples_per_second;
    uint64_t skipped;        /* steps with a loss or gradient that was not finite */
    evaluation last;         /* of the student as it is at the end */
} loop_result;

/* Makes the folder ready and takes its lock: *lock is closed by the caller at the end. ST_CANNOT_CREATE when it holds
 * another run and neither resume nor force is asked for; ST_STOPPED when another process works there. */
MUST_USE status loop_prepare(const loop_options *o, int *lock);

/* Of files that are only tried, below a run's folder. */
#define LOOP_TRIAL_FOLDER ".sanity"

/* Two steps, evaluation, checkpoint, resume and export in a folder of its own below `dir`, which is removed; the session
 * is as before afterwards. */
MUST_USE status loop_sanity(session *s, const char *dir);

/* Trains from where the folder stands to the last step. ST_STOPPED: saved and resumable. ST_DIVERGED: too many skipped
 * steps in a row. Free the result's evaluation. */
MUST_USE status loop_run(session *s, const loop_options *o, loop_result *out);

#endif
