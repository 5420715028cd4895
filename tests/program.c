/* program.c - starts the program, gathers what it prints. */
#include "program.h"
#include "harness.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void temporary(char path[256])
{
    snprintf(path, 256, "%s", test_path(test_tmp_dir(), "text"));
}

/* The environment without what would change what the program does, and with `more`. */
static char **environment(const char *const *more)
{
    size_t n = 0, m = 0;
    while (environ[n])
        n++;
    while (more && more[m])
        m++;
    char **env = calloc(n + m + 2, sizeof *env);
    size_t used = 0;
    for (size_t i = 0; i < n; i++)
        if (strncmp(environ[i], "DISTILL_", 8) != 0 && strncmp(environ[i], "NO_COLOR", 8) != 0)
            env[used++] = environ[i];
    for (size_t i = 0; i < m; i++)
        env[used++] = (char *)(uintptr_t)more[i];
    return env;
}

started program_start(const program_options *o, const char *const *args)
{
    static const program_options none = {0};
    const char *argv[80];
    size_t n = 0;
    started s = {.began = seconds()};
    posix_spawn_file_actions_t fa;
    o = o ? o : &none;
    s.kill_after = o->kill_after > 0 ? o->kill_after : 60;
    for (size_t i = 0; o->before && o->before[i]; i++)
        argv[n++] = o->before[i];
    argv[n++] = DISTILL_PROGRAM;
    for (size_t i = 0; args[i]; i++) {
        ck_assert_uint_lt(n, 79);
        argv[n++] = args[i];
    }
    argv[n] = NULL;
    temporary(s.err);
    if (o->stdout_to)
        snprintf(s.out, sizeof s.out, "%s", o->stdout_to);
    else
        temporary(s.out);
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&fa, 1, s.out, O_WRONLY | O_CREAT, 0600);
    posix_spawn_file_actions_addopen(&fa, 2, s.err, O_WRONLY | O_CREAT, 0600);
    if (o->close_stdout)
        posix_spawn_file_actions_addclose(&fa, 1);
    if (o->cwd)
        posix_spawn_file_actions_addchdir_np(&fa, o->cwd);
    char **env = environment(o->env);
    int failed = posix_spawnp(&s.pid, argv[0], &fa, NULL, (char *const *)(uintptr_t)argv, env);
    ck_assert_msg(failed == 0, "%s cannot be started: %s", argv[0], strerror(failed));
    posix_spawn_file_actions_destroy(&fa);
    free(env);
    return s;
}

static char *contents(const char *path)
{
    FILE *f = strncmp(path, "/dev/", 5) == 0 && strncmp(path, "/dev/shm/", 9) != 0 ? NULL : fopen(path, "rb");
    size_t n = 0, room = 1 << 22;
    char *s = calloc(room, 1);
    if (f) {
        n = fread(s, 1, room - 1, f);
        fclose(f);
    }
    s[n] = 0;
    return s;
}

ran program_wait(started *s)
{
    struct rusage use = {0};
    ran r = {.code = -1};
    int how = 0;
    bool killed = false;
    for (;;) {
        pid_t pid = wait4(s->pid, &how, WNOHANG, &use);
        ck_assert_msg(pid >= 0, "the program cannot be waited for");
        if (pid == s->pid)
            break;
        if (!killed && seconds() - s->began > s->kill_after) {
            kill(s->pid, SIGKILL);
            killed = true;
        }
        usleep(1000);
    }
    r.seconds = seconds() - s->began;
    r.out = contents(s->out);
    r.err = contents(s->err);
    r.peak_kib = use.ru_maxrss;
    if (WIFEXITED(how))
        r.code = WEXITSTATUS(how);
    else
        r.signal = WTERMSIG(how);
    const size_t said = strlen(r.err), most = 1000; /* Check ends all tests at a message that is too long */
    ck_assert_msg(!killed, "the program ran longer than %g s; it ended with:\n%s", s->kill_after, r.err + (said > most ? said - most : 0));
    return r;
}

ran program_run(const program_options *o, const char *const *args)
{
    started s = program_start(o, args);
    return program_wait(&s);
}

void ran_free(ran *r)
{
    free(r->out);
    free(r->err);
    *r = (ran){0};
}
