/* program.h - the built program as a child process. */
#ifndef DISTILL_TESTS_PROGRAM_H
#define DISTILL_TESTS_PROGRAM_H

#include <stdbool.h>
#include <sys/types.h>

typedef struct program_options {
    const char *cwd;             /* NULL: the folder of the test */
    const char *const *env;      /* further variables "NAME=value", up to NULL */
    const char *const *before;   /* a command that starts it: {"strace", "-f", ..., NULL} */
    bool close_stdout;           /* standard output is a closed descriptor */
    const char *stdout_to;       /* a file instead of a temporary one, e.g. /dev/full */
    double kill_after;           /* seconds until SIGKILL; 0: 60 */
} program_options;

typedef struct ran {
    int code;      /* exit status; -1 when a signal ended it */
    int signal;    /* that signal, or 0 */
    char *out, *err;
    double seconds;
    long peak_kib; /* of memory, as wait4 tells */
} ran;

/* Runs distill with these arguments (up to NULL) and waits. Free with ran_free. */
ran program_run(const program_options *o, const char *const *args);
void ran_free(ran *r);

/* For tests that do something while it runs. program_wait ends what was started. */
typedef struct started {
    pid_t pid;
    char out[256], err[256]; /* the files that get its output */
    double began, kill_after;
} started;
started program_start(const program_options *o, const char *const *args);
ran program_wait(started *s);

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

#endif
