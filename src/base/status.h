/* status.h - how a failure travels from where it happens to where it is printed.
 *
 * A function that can fail returns `status`. The place that finds the fault records one message (what, where, what
 * to do) with fail(); everyone above passes the status on with TRY(). Only src/cli prints and exits. The message is
 * kept per thread: a worker hands its message to the thread that joins it (status_message, then fail again). */
#ifndef DISTILL_BASE_STATUS_H
#define DISTILL_BASE_STATUS_H

/* The values are the exit codes of the program (sysexits(3)), so there is no table that could disagree. */
typedef enum status {
    ST_OK = 0,
    ST_GATE = 1,         /* a check or gate did not hold */
    ST_DIVERGED = 2,     /* training produced non-finite values and stopped */
    ST_USAGE = 64,       /* wrong command line */
    ST_BAD_DATA = 65,    /* a model, image, checkpoint or other input is malformed */
    ST_NO_INPUT = 66,    /* an input does not exist or cannot be opened */
    ST_UNAVAILABLE = 69, /* a runtime or device that was asked for is missing */
    ST_INTERNAL = 70,    /* a bug of ours */
    ST_OOM = 71,         /* out of memory, or the device failed */
    ST_CANNOT_CREATE = 73,
    ST_IO = 74,
    ST_STOPPED = 75, /* stopped by a signal (or the run is locked); resumable */
    ST_CONFIG = 78   /* error in a configuration file or value */
} status;

#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

/* Records the message (cut at 8 KiB) and returns `st`, so that a caller can write `return fail(ST_BAD_DATA, ...)`. */
#define fail(...) status_not_ok(status_record(__VA_ARGS__))
PRINTF_LIKE(2, 3) status status_record(status st, const char *fmt, ...);

/* Lets the compiler see that a failure is not ST_OK; else it warns of results that are set only where there is none. */
MUST_USE static inline status status_not_ok(status st)
{
    return st == ST_OK ? ST_INTERNAL : st;
}

/* Puts "prefix: " before the recorded message: a caller that knows more of the place adds it. Returns `st`. */
MUST_USE PRINTF_LIKE(2, 3) status fail_within(status st, const char *fmt, ...);

/* The message of the last failure on this thread, "" when none. Valid until the next fail on this thread. */
const char *status_message(void);
void status_clear(void);

#define TRY(call)                                                                                                 \
    do {                                                                                                          \
        status try_status_ = (call);                                                                              \
        if (try_status_ != ST_OK)                                                                                 \
            return try_status_;                                                                                   \
    } while (0)

/* As TRY, for functions with a `done:` label that cleans up and a `status st` that they return. */
#define TRY_DONE(call)                                                                                            \
    do {                                                                                                          \
        st = (call);                                                                                              \
        if (st != ST_OK)                                                                                          \
            goto done;                                                                                            \
    } while (0)

#endif
