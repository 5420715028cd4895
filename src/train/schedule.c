/* schedule.c - closed forms, so that a resumed run needs nothing but the step. */
#include "train/schedule.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

/* From 1 at f = 0 to 0 at f = 1 along half a cosine (Loshchilov, Hutter, "SGDR", 2017, eq. 5 without restarts). */
static double half_cosine(double f)
{
    return 0.5 * (1 + cos(pi * f));
}

/* One cycle (Smith, Topin, "Super-convergence", 2018) as torch.optim.lr_scheduler.OneCycleLR with its defaults: from
 * peak/25 up to the peak in the first 30 % of the steps, then down to the lowest rate (peak/25/10^4 where none is given) at
 * the last step, both along a cosine. */
static double one_cycle(const schedule *s, uint64_t step)
{
    double start = s->peak / 25, end = s->low > 0 ? s->low : start / 1e4;
    double top = 0.3 * (double)s->total - 1, last = (double)s->total - 1, at = (double)step;
    if (at < top)
        return s->peak + (start - s->peak) * half_cosine(at / top);
    top = top > 0 ? top : 0;
    return end + (s->peak - end) * half_cosine(at < last ? (at - top) / (last - top) : 1);
}

static double stepped(const schedule *s, uint64_t step)
{
    double v = s->peak;
    for (size_t i = 0; i < s->n_milestones; i++)
        if ((double)step >= s->milestones[i])
            v *= s->gamma;
    return v;
}

double schedule_at(const schedule *s, uint64_t step)
{
    if (step < s->warmup && s->kind != SCHEDULE_ONECYCLE)
        return s->peak * (double)(step + 1) / (double)s->warmup;
    uint64_t span = s->total > s->warmup ? s->total - s->warmup : 1;
    double f = (double)(step - (step < s->warmup ? step : s->warmup)) / (double)span;
    f = f > 1 ? 1 : f;
    switch (s->kind) {
    case SCHEDULE_COSINE:
        return s->low + (s->peak - s->low) * half_cosine(f);
    case SCHEDULE_LINEAR:
        return s->peak + (s->low - s->peak) * f;
    case SCHEDULE_STEP:
        return stepped(s, step);
    case SCHEDULE_ONECYCLE:
        return one_cycle(s, step);
    case SCHEDULE_CONSTANT:
        break;
    }
    return s->peak;
}

double ramp_at(ramp_kind kind, double from, double to, uint64_t step, uint64_t total)
{
    double f = total > 1 ? (double)step / (double)(total - 1) : 0;
    if (kind == RAMP_LINEAR)
        return from + (to - from) * f;
    if (kind == RAMP_COSINE)
        return to + (from - to) * half_cosine(f);
    return from;
}
