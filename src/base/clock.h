/* clock.h - the time that only goes forward. */
#ifndef DISTILL_BASE_CLOCK_H
#define DISTILL_BASE_CLOCK_H

#include <time.h>

/* Seconds on CLOCK_MONOTONIC: for differences only. */
static inline double clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

#endif
