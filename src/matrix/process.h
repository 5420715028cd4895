/* process.h - a runner as a child process: a line of JSON in, a line out, with limits and a log of its own.
 *
 * The child leads a process group of its own, sees no network where the system allows it (a network namespace), and is ended
 * with its group at the time limit, at the memory limit (resident memory of the group, polled) or when we end. */
#ifndef DISTILL_MATRIX_PROCESS_H
#define DISTILL_MATRIX_PROCESS_H

#include "base/mem.h"
#include "base/status.h"
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#define PROCESS_REQUEST 60000
#define PROCESS_ANSWER  ((size_t)16 << 20) /* bytes of an answer at most */

typedef enum process_end { PROCESS_ANSWERED, PROCESS_CRASHED, PROCESS_TIMEOUT, PROCESS_MEMORY, PROCESS_GARBAGE } process_end;

typedef struct process_options {
    const char *const *command; /* argv, NULL-terminated; looked up in PATH when it has no slash */
    const char *const *env;     /* further "NAME=value", NULL-terminated; NULL: none. The rest is inherited */
    const char *folder;         /* where it runs; NULL: here */
    const char *log;            /* file that receives the first log_limit bytes of standard error, replaced; NULL: none */
    double seconds;             /* time limit; 0: none */
    int64_t memory;             /* bytes; 0: none */
    int64_t log_limit;          /* bytes kept; 0: 1 MiB */
    bool network;               /* leave it the network */
    bool stays;                 /* process_ask_kept: the child may stay for another request */
    const volatile sig_atomic_t *stop; /* set by a signal handler: we were asked to stop; NULL: never */
} process_options;

typedef struct process_result {
    process_end end;
    int code, signal;    /* exit status, or the signal that ended it (0: none) */
    const char *answer;  /* the line without its end, in mem; NULL unless PROCESS_ANSWERED */
    const char *why;     /* for people, in mem: "ended by signal 11", "no answer in 60 s", ... */
    double seconds;
    int64_t peak;        /* bytes resident at most, as far as polled: of the group, and the first process's own peak */
    bool offline;        /* ran without network */
    bool again;          /* it had answered another request before */
} process_result;

/* Sends `request` (one line, without its end, at most PROCESS_REQUEST bytes) and waits. Fails only for what is our own fault (no memory, no pipe, command not
 * found: ST_UNAVAILABLE); whatever the child does is in *out. ST_STOPPED when a signal asked us to stop. */
MUST_USE status process_ask(const process_options *o, const char *request, arena *mem, process_result *out);

/* The same of a child that may stay: *p is what an earlier call left (NULL: none), is asked when it still runs (o->command, env and folder
 * are then those of the first call), else another is started. *p stays non-NULL only while it answered, o->stays, and did not end.
 * What a child does between two requests costs nothing: the next one starts another. */
typedef struct process process;
MUST_USE status process_ask_kept(process **p, const process_options *o, const char *request, arena *mem, process_result *out);
/* Closes its input, gives it a moment to end by itself, ends it. */
void process_dismiss(process *p);

#endif
