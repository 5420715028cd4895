/* progress.h - what is shown while a run goes: one line that is redrawn on a terminal, plain lines elsewhere. */
#ifndef DISTILL_TRAIN_PROGRESS_H
#define DISTILL_TRAIN_PROGRESS_H

#include "base/clock.h"
#include "base/text.h"

/* Where progress goes: `line` gets a text without newline. `redraw`: a terminal, the line replaces the one before. */
typedef struct progress_sink {
    void (*line)(const char *text, bool redraw, void *ctx);
    void *ctx;
    bool terminal;
    int width; /* columns; 0: 80 */
} progress_sink;

typedef struct progress {
    const progress_sink *sink; /* NULL: silent */
    uint64_t first, total;     /* steps: where this process began, where the run ends */
    double started, shown;     /* seconds */
    double rate;               /* steps a second, exponentially averaged */
    double last_time;
    uint64_t last_step;
} progress;

typedef struct progress_state {
    uint64_t step; /* done */
    double epoch, epochs;
    int64_t batch;
    double loss, lr;
    const char *terms; /* "kl 1.20 ce 0.50" */
    const char *memory; /* of the device, "3.1 GiB of 80 GiB"; empty: it has none of its own */
} progress_state;

void progress_begin(progress *p, const progress_sink *sink, uint64_t first, uint64_t total);
/* Shows at most ten lines a second on a terminal, one in ten seconds elsewhere; the last step always. */
void progress_step(progress *p, const progress_state *s);
/* A line that stays (an evaluation, a note). */
PRINTF_LIKE(2, 3) void progress_note(progress *p, const char *fmt, ...);

#endif
