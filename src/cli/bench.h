/* bench.h - the parts of `distill bench`. */
#ifndef DISTILL_CLI_BENCH_H
#define DISTILL_CLI_BENCH_H

#include "cli/cli.h"
#include "exec/exec.h"
#include "train/session.h"

/* Adds a table of the times that e's nodes took in `steps` training steps, in which its graph ran `runs` times: by operator
 * and kernel, then the slowest nodes. exec_set_timing must be on. GF/s: two operations for a multiply-accumulate. */
MUST_USE status bench_profile_print(const char *title, const exec *e, uint64_t steps, uint64_t runs, text *out);

/* Watches the steps that s makes until bench_trace_stop; bench_trace_write writes them durably as a JSON array of trace events.
 * s must live until bench_trace_close. */
typedef struct bench_trace bench_trace;
MUST_USE status bench_trace_begin(session *s, bench_trace **out);
void bench_trace_stop(bench_trace *t);
MUST_USE status bench_trace_write(const bench_trace *t, const char *path);
void bench_trace_close(bench_trace *t); /* NULL allowed */

/* `distill bench --serve`: opens the job as it is written and makes its first step, then prints one JSON line of facts.
 * For every line N on standard input it makes N steps and prints {"ms": [N numbers]}; a line "rewind" goes back to the
 * first batches (with cache.views = 1 the teacher's outputs are then remembered) and prints {}. Ends with its input. */
MUST_USE status bench_serve(cli *c);

/* `distill bench --variant KEY`: the float step and the step of the variant that trains with rounding, in turns. */
MUST_USE status bench_rounding(cli *c, uint64_t steps);

/* The job with cache.views as the measurement needs it. Nothing of another run may help. */
MUST_USE status bench_load_job(cli *c, const char *views, job **out);

/* "kernels" that a step launches and "device_bytes" that were taken at most, on a device with memory of its own. */
void bench_say_device(const session *s, json *j);

/* Steps begin to end of the session, as far ahead of a device as in training; ms: from one's end to the next's (NULL: not wanted).
 * All are over when it returns. ST_STOPPED after a signal. */
MUST_USE status bench_steps(const cli *c, session *s, uint64_t begin, uint64_t end, double *ms);

#endif
