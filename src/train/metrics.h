/* metrics.h - what a run says of itself while it goes: metrics.jsonl (deploy/report.h documents the lines) and
 * TensorBoard events, with the same names. Both are append-only; a torn last line or record is normal after a crash. */
#ifndef DISTILL_TRAIN_METRICS_H
#define DISTILL_TRAIN_METRICS_H

#include "base/status.h"
#include "base/text.h"

typedef struct metric {
    const char *name; /* "loss.total", "lr"; a dot makes an object in JSON and a slash in TensorBoard */
    double value;
} metric;

typedef struct metrics {
    int jsonl, events; /* file descriptors, -1: closed */
    text line;         /* reused */
} metrics;

/* Opens DIR/metrics.jsonl and DIR/events.out.tfevents.TIME.HOST for appending. Close also after failure. */
MUST_USE status metrics_open(metrics *m, const char *dir);
/* One line and, for numbers, TensorBoard scalars. `note` (NULL: none) is a further text member {key, value}. */
MUST_USE status metrics_event(metrics *m, const char *event, uint64_t step, const metric *at, size_t n,
                              const char *note_key, const char *note);
MUST_USE status metrics_sync(metrics *m); /* to disk: before a checkpoint is reported */
void metrics_close(metrics *m);

/* tensorboard.c: records of the event file format. */
MUST_USE status tensorboard_open(const char *dir, int *fd);
/* One event with n scalars. */
MUST_USE status tensorboard_scalars(int fd, double time, uint64_t step, const metric *at, size_t n);

#endif
