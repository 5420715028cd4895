/* progress.c - rate, remaining time, and a line in plain characters. */
#include "train/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SECONDS_TERMINAL 0.1
#define SECONDS_PLAIN    10.0
#define WARM_STEPS       5 /* the first steps touch fresh memory: they say nothing about the rate */

void progress_begin(progress *p, const progress_sink *sink, uint64_t first, uint64_t total)
{
    *p = (progress){.sink = sink, .first = first, .total = total};
    p->started = p->last_time = clock_seconds();
    p->shown = p->started - 1e9;
    p->last_step = first;
}

/* Averages over about the last ten seconds. */
static void update_rate(progress *p, uint64_t step, double now)
{
    double dt = now - p->last_time;
    if (step < p->first + WARM_STEPS) {
        p->last_time = now;
        p->last_step = step;
        return;
    }
    if ((dt < 0.5 && p->rate > 0) || dt <= 0 || step <= p->last_step)
        return;
    double fresh = (double)(step - p->last_step) / dt, keep = p->rate > 0 ? 10 / (10 + dt) : 0;
    p->rate = keep * p->rate + (1 - keep) * fresh;
    p->last_time = now;
    p->last_step = step;
}

void progress_step(progress *p, const progress_state *s)
{
    double now = clock_seconds();
    update_rate(p, s->step, now);
    if (!p->sink)
        return;
    double wait = p->sink->terminal ? SECONDS_TERMINAL : SECONDS_PLAIN;
    if (now - p->shown < wait && s->step < p->total)
        return;
    p->shown = now;
    char eta[24] = "--", line[400], count[24] = "--";
    if (p->rate > 0) {
        human_seconds((double)(p->total - s->step) / p->rate, eta);
        human_count(p->rate * (double)s->batch, count);
    }
    bool over = s->step >= p->total;
    if (over)
        human_seconds(now - p->started, eta);
    int n = snprintf(line, sizeof line, "epoch %.2f/%g  %3.0f %%  %s/s  loss %.4g  %s  lr %.3g  %s %s%s%s", s->epoch,
                     s->epochs, 100.0 * (double)s->step / (double)(p->total ? p->total : 1), count, s->loss, s->terms,
                     s->lr, over ? "took" : "ETA", eta, s->memory && *s->memory ? "  device " : "", s->memory ? s->memory : "");
    int width = p->sink->width > 0 ? p->sink->width : 80;
    if (p->sink->terminal && n >= width && width < (int)sizeof line)
        line[width - 1] = 0;
    p->sink->line(line, p->sink->terminal, p->sink->ctx);
}

void progress_note(progress *p, const char *fmt, ...)
{
    char line[400];
    va_list ap;
    if (!p->sink)
        return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    p->sink->line(line, false, p->sink->ctx);
}
