/* schedule.h - numbers that change while training: learning rate, loss weights, temperature. */
#ifndef DISTILL_TRAIN_SCHEDULE_H
#define DISTILL_TRAIN_SCHEDULE_H

#include "config/config.h"

typedef struct schedule {
    schedule_kind kind;
    double peak, low;        /* learning rate after the warm-up; where cosine, linear and one-cycle end */
    uint64_t warmup, total;  /* steps; warm-up rises linearly from 0 (one-cycle has its own) */
    const double *milestones; /* STEP: in steps, rising */
    size_t n_milestones;
    double gamma; /* STEP: factor at every milestone */
} schedule;

/* The value for step `step` (0 is the first) of `total`. The first step of a cosine without warm-up has `peak`, as
 * torch.optim.lr_scheduler.CosineAnnealingLR stepped after each update. */
double schedule_at(const schedule *s, uint64_t step);

/* How a loss weight goes from `from` to `to` over the run. */
double ramp_at(ramp_kind kind, double from, double to, uint64_t step, uint64_t total);

#endif
