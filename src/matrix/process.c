/* process.c - starts a runner, waits for its line, ends what it leaves behind. See process.h.
 *
 * Between fork and exec only calls that are safe there. The request lies in the pipe before the child exists, so that nobody
 * has to write while it reads. The leader is not reaped before its group was killed: its number cannot be another's. */
#include "matrix/process.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define TICK_MS     20
#define LOOK        0.02       /* seconds between looks at the leader's memory */
#define GROUP_LOOKS 10         /* the whole group is looked at every so many times: /proc is walked */
#define LOG_LIMIT   (1 << 20)
#define GRACE       3.0        /* seconds from the answer, or from the end of its input, to the end */
#define READ_SIZE   65536

struct process {
    const process_options *o;
    arena *mem;
    pid_t pid;
    int in[2], out[2], err[2], told[2]; /* pipes: request, answer, log, what the child tells before exec; -1: closed */
    int log;
    int64_t logged;
    text said; /* standard output so far */
    double began, answered, closed; /* when it began, its line was whole, it closed its output; 0: not yet */
    double next_look;
    unsigned looks;
    int64_t peak;
    bool log_failed, ended, offline;
    siginfo_t how;
};
typedef struct process child;

enum { TOLD_OFFLINE = 'o', TOLD_ONLINE = 'n', TOLD_FAILED = 'f' };
typedef struct told {
    char what;
    int error; /* of TOLD_FAILED: errno */
} told;

static const child no_child = {.in = {-1, -1}, .out = {-1, -1}, .err = {-1, -1}, .told = {-1, -1}, .log = -1};

/* ---- in the child, before exec ---- */

static void write_word(const char *path, const char *word, size_t n)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t done = write(fd, word, n);
        (void)done;
        close(fd);
    }
}

/* A network namespace with nothing in it but a loopback that is up (runners talk to their own helpers). */
static bool leave_network(const char *uid_map, size_t n_uid, const char *gid_map, size_t n_gid)
{
    if (unshare(CLONE_NEWNET) != 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
            return false;
        write_word("/proc/self/setgroups", "deny", 4);
        write_word("/proc/self/uid_map", uid_map, n_uid);
        write_word("/proc/self/gid_map", gid_map, n_gid);
    }
    struct ifreq loopback = {.ifr_name = "lo"};
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (s >= 0) {
        loopback.ifr_flags = IFF_UP | IFF_RUNNING;
        int done = ioctl(s, SIOCSIFFLAGS, &loopback);
        (void)done;
        close(s);
    }
    return true;
}

/* What the child needs, made before fork. */
typedef struct launch {
    char uid_map[48], gid_map[48];
    size_t n_uid, n_gid;
    char *const *argv, **env;
    pid_t parent;
} launch;

static _Noreturn void tell_failure(int fd)
{
    told t = {TOLD_FAILED, errno};
    ssize_t done = write(fd, &t, sizeof t);
    (void)done;
    _exit(127);
}

static _Noreturn void be_child(const child *c, const launch *l)
{
    const struct rlimit none = {0, 0};
    sigset_t all;
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != l->parent)
        _exit(127);
    for (int s = 1; s < 32; s++)
        if (s != SIGKILL && s != SIGSTOP)
            signal(s, SIG_DFL);
    sigfillset(&all);
    sigprocmask(SIG_UNBLOCK, &all, NULL);
    setrlimit(RLIMIT_CORE, &none);
    if (dup2(c->in[0], 0) < 0 || dup2(c->out[1], 1) < 0 || dup2(c->err[1], 2) < 0 || (c->o->folder && chdir(c->o->folder) != 0))
        tell_failure(c->told[1]);
    bool offline = !c->o->network && leave_network(l->uid_map, l->n_uid, l->gid_map, l->n_gid);
    told t = {offline ? TOLD_OFFLINE : TOLD_ONLINE, 0};
    ssize_t done = write(c->told[1], &t, sizeof t);
    (void)done;
    execvpe(l->argv[0], l->argv, l->env);
    tell_failure(c->told[1]);
}

/* ---- starting ---- */

static void close_pipe(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static status make_pipe(int fd[2])
{
    if (pipe2(fd, O_CLOEXEC) == 0)
        return ST_OK;
    fd[0] = fd[1] = -1;
    return fail(ST_OOM, "a runner needs a pipe: %s", strerror(errno));
}

static bool same_name(const char *a, const char *b) /* of NAME=value */
{
    size_t n = strcspn(a, "=");
    return strncmp(a, b, n) == 0 && b[n] == '=';
}

static status make_environment(const process_options *o, arena *mem, char ***out)
{
    size_t n = 0, m = 0, used = 0;
    char **env;
    while (environ[n])
        n++;
    while (o->env && o->env[m])
        m++;
    TRY(arena_alloc(mem, &env, n + m + 1, sizeof *env));
    for (size_t i = 0; i < n; i++) {
        bool replaced = false;
        for (size_t k = 0; k < m; k++)
            replaced = replaced || same_name(o->env[k], environ[i]);
        if (!replaced)
            env[used++] = environ[i];
    }
    for (size_t k = 0; k < m; k++)
        env[used++] = (char *)(uintptr_t)o->env[k];
    *out = env;
    return ST_OK;
}

static status open_log(child *c)
{
    c->log = -1;
    if (!c->o->log)
        return ST_OK;
    TRY(io_remove(c->o->log));
    return io_open_append(c->o->log, &c->log);
}

static status put_request(child *c, const char *request)
{
    size_t n = strlen(request);
    if (n > PROCESS_REQUEST || strchr(request, '\n'))
        return fail(ST_INTERNAL, "a request of %zu bytes to a runner; one line of at most %d is possible", n, PROCESS_REQUEST);
    if (write(c->in[1], request, n) != (ssize_t)n || write(c->in[1], "\n", 1) != 1)
        return fail(ST_IO, "the request to a runner cannot be written: %s", strerror(errno));
    if (!c->o->stays)
        close_pipe(&c->in[1]);
    return ST_OK;
}

/* Waits until the child runs its program, or could not. */
static status hear_child(child *c, bool *offline)
{
    told t;
    close_pipe(&c->told[1]);
    *offline = false;
    for (;;) {
        ssize_t n = read(c->told[0], &t, sizeof t);
        if (n < 0 && errno == EINTR)
            continue;
        if (n != (ssize_t)sizeof t)
            return ST_OK;
        if (t.what == TOLD_FAILED)
            return fail(ST_UNAVAILABLE, "%s cannot be started: %s", c->o->command[0], strerror(t.error));
        *offline = t.what == TOLD_OFFLINE;
    }
}

static status start_child(child *c, const char *request, bool *offline)
{
    launch l = {.argv = (char *const *)(uintptr_t)c->o->command, .parent = getpid()};
    TRY(make_environment(c->o, c->mem, &l.env));
    l.n_uid = (size_t)snprintf(l.uid_map, sizeof l.uid_map, "%u %u 1", getuid(), getuid());
    l.n_gid = (size_t)snprintf(l.gid_map, sizeof l.gid_map, "%u %u 1", getgid(), getgid());
    TRY(make_pipe(c->in));
    TRY(make_pipe(c->out));
    TRY(make_pipe(c->err));
    TRY(make_pipe(c->told));
    TRY(put_request(c, request));
    TRY(open_log(c));
    c->pid = fork();
    if (c->pid < 0)
        return fail(ST_OOM, "%s: no process can be made: %s", c->o->command[0], strerror(errno));
    if (c->pid == 0)
        be_child(c, &l);
    setpgid(c->pid, c->pid); /* whoever is first */
    c->began = clock_seconds();
    close_pipe(&c->in[0]);
    close_pipe(&c->out[1]);
    close_pipe(&c->err[1]);
    fcntl(c->out[0], F_SETFL, O_NONBLOCK);
    fcntl(c->err[0], F_SETFL, O_NONBLOCK);
    return hear_child(c, offline);
}

/* ---- listening ---- */

static void keep_log(child *c, const char *s, size_t n)
{
    int64_t limit = c->o->log_limit ? c->o->log_limit : LOG_LIMIT;
    if (c->log < 0 || c->log_failed || c->logged >= limit)
        return;
    size_t room = (size_t)(limit - c->logged);
    static const char cut[] = "\n[cut here]\n";
    c->logged += (int64_t)n;
    status st = io_append(c->log, s, n < room ? n : room);
    if (st == ST_OK && n >= room)
        st = io_append(c->log, cut, sizeof cut - 1);
    if (st != ST_OK) { /* a full disk costs the log, not the cell */
        log_warn("%s", status_message());
        c->log_failed = true;
    }
}

/* Reads what is there; false at the end of the pipe. *more: there may be more. */
static bool take_some(child *c, int *fd, bool answer, bool *more)
{
    char buf[READ_SIZE];
    ssize_t n = read(*fd, buf, sizeof buf);
    *more = n == (ssize_t)sizeof buf || (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
    if (n == 0) {
        if (answer)
            c->closed = clock_seconds();
        close_pipe(fd);
        return false;
    }
    if (!answer)
        keep_log(c, buf, (size_t)n);
    else if (c->said.n <= PROCESS_ANSWER)
        text_add_n(&c->said, buf, (size_t)n);
    if (answer && c->answered <= 0 && memchr(buf, '\n', (size_t)n))
        c->answered = clock_seconds();
    return true;
}

static void listen_to(child *c)
{
    struct pollfd p[2] = {{.fd = c->out[0], .events = POLLIN}, {.fd = c->err[0], .events = POLLIN}};
    bool more;
    poll(p, 2, c->out[0] < 0 && c->err[0] < 0 ? 1 : TICK_MS); /* a descriptor of -1 is passed over; both: it is about to end */
    if (p[0].revents)
        (void)take_some(c, &c->out[0], true, &more);
    if (p[1].revents)
        (void)take_some(c, &c->err[0], false, &more);
}

/* What lies in the pipes when the group is gone. */
static void drain(child *c)
{
    bool more = true;
    for (int i = 0; i < 1024 && more && c->out[0] >= 0; i++)
        (void)take_some(c, &c->out[0], true, &more);
    more = true;
    for (int i = 0; i < 1024 && more && c->err[0] >= 0; i++)
        (void)take_some(c, &c->err[0], false, &more);
}

/* ---- memory ---- */

/* "NAME:   123 kB" of /proc/PID/status in bytes; 0: it is not there. */
static int64_t status_line(const char *s, const char *name)
{
    const char *at = strstr(s, name);
    return at ? strtoll(at + strlen(name), NULL, 10) * 1024 : 0;
}

static int64_t leader_memory(child *c)
{
    char path[64], s[4096];
    snprintf(path, sizeof path, "/proc/%ld/status", (long)c->pid);
    io_read_system(path, s, sizeof s);
    int64_t high = status_line(s, "VmHWM:");
    if (high > c->peak)
        c->peak = high;
    return status_line(s, "VmRSS:");
}

/* Resident bytes of one process if it is of the group. */
static int64_t member_memory(const char *name, pid_t group)
{
    char path[64], s[1024];
    long pages = 0, member = 0;
    snprintf(path, sizeof path, "/proc/%.20s/stat", name);
    io_read_system(path, s, sizeof s);
    const char *at = strrchr(s, ')'); /* behind the name: state ppid pgrp ... the 22nd from here is rss */
    if (!at || sscanf(at + 1, " %*c %*d %ld %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %*u %*u %ld", &member,
                      &pages) != 2)
        return 0;
    return member == group ? pages * sysconf(_SC_PAGESIZE) : 0;
}

static int64_t group_memory(const child *c)
{
    char **names;
    size_t n;
    int64_t sum = 0;
    if (io_list("/proc", 1000000, &names, &n) != ST_OK)
        return 0;
    for (size_t i = 0; i < n; i++)
        if (names[i][0] >= '1' && names[i][0] <= '9')
            sum += member_memory(names[i], c->pid);
    io_list_free(names, n);
    return sum;
}

static bool too_large(child *c, double at)
{
    if (at < c->next_look)
        return false;
    c->next_look = at + LOOK;
    int64_t now = leader_memory(c);
    if (++c->looks % GROUP_LOOKS == 0) {
        int64_t all = group_memory(c);
        now = all > now ? all : now;
    }
    if (now > c->peak)
        c->peak = now;
    return c->o->memory > 0 && now > c->o->memory;
}

/* ---- the end ---- */

static bool has_ended(child *c)
{
    if (!c->ended && waitid(P_PID, (id_t)c->pid, &c->how, WEXITED | WNOHANG | WNOWAIT) == 0 && c->how.si_pid == c->pid)
        c->ended = true;
    return c->ended;
}

/* Ends the group and reaps its leader. */
static void end_group(child *c)
{
    if (c->pid <= 0)
        return;
    (void)has_ended(c);
    kill(-c->pid, SIGKILL);
    kill(c->pid, SIGKILL);
    while (waitid(P_PID, (id_t)c->pid, c->ended ? &(siginfo_t){0} : &c->how, WEXITED) != 0 && errno == EINTR)
        ;
    c->pid = 0;
}

static void child_free(child *c)
{
    end_group(c);
    for (int i = 0; i < 2; i++) {
        close_pipe(&c->in[i]);
        close_pipe(&c->out[i]);
        close_pipe(&c->err[i]);
        close_pipe(&c->told[i]);
    }
    io_close(c->log);
    text_free(&c->said);
}

/* Until the leader ended, or must. *why: TIMEOUT or MEMORY; ANSWERED: it ended by itself, or has said all that it can. */
static status wait_for_end(child *c, process_end *why)
{
    const process_options *o = c->o;
    *why = PROCESS_ANSWERED;
    while (!has_ended(c)) {
        const double now = clock_seconds(), silent = c->answered > 0 ? c->answered : c->closed;
        if (o->stop && *o->stop)
            return fail(ST_STOPPED, "stopped while %s ran", o->command[0]);
        if ((silent > 0 && now - silent > (o->stays && c->answered > 0 ? 0 : GRACE)) || c->said.n > PROCESS_ANSWER)
            return ST_OK;
        if (o->seconds > 0 && now - c->began > o->seconds && silent <= 0) {
            *why = PROCESS_TIMEOUT;
            return ST_OK;
        }
        if (too_large(c, now)) {
            *why = PROCESS_MEMORY;
            return ST_OK;
        }
        listen_to(c);
    }
    return ST_OK;
}

static status judge_line(const child *c, process_result *r)
{
    const char *s = c->said.s ? c->said.s : "", *end = memchr(s, '\n', c->said.n);
    size_t n = end ? (size_t)(end - s) : 0;
    char *line;
    r->end = PROCESS_GARBAGE;
    if (c->said.n > PROCESS_ANSWER)
        return arena_printf(c->mem, &r->why, "answered more than %zu bytes", PROCESS_ANSWER);
    if (!end)
        return arena_printf(c->mem, &r->why, "its answer has no end: \"%.60s\"", s);
    if (n + 1 != c->said.n)
        return arena_printf(c->mem, &r->why, "answered more than one line: \"%.60s\"", s + n + 1);
    if (memchr(s, 0, n))
        return arena_printf(c->mem, &r->why, "its answer holds a zero byte");
    TRY(arena_alloc(c->mem, &line, n + 1, 1));
    memcpy(line, s, n);
    r->answer = line;
    r->end = PROCESS_ANSWERED;
    return arena_printf(c->mem, &r->why, c->ended ? "answered" : "answered, and did not end by itself");
}

static status judge_end(const child *c, process_end why, process_result *r)
{
    bool signalled = c->ended && c->how.si_code != CLD_EXITED;
    const char *after = c->answered > 0 ? " after its answer" : "";
    char most[24];
    r->code = c->ended && !signalled ? c->how.si_status : 0;
    r->signal = signalled ? c->how.si_status : 0;
    r->end = why;
    if (why == PROCESS_TIMEOUT)
        return arena_printf(c->mem, &r->why, "no answer in %g s", c->o->seconds);
    if (why == PROCESS_MEMORY)
        return arena_printf(c->mem, &r->why, "took more than %s of memory", human_bytes((double)c->o->memory, most));
    r->end = PROCESS_CRASHED;
    if (signalled)
        return arena_printf(c->mem, &r->why, "ended by signal %d (%s)%s", r->signal, strsignal(r->signal), after);
    if (r->code != 0)
        return arena_printf(c->mem, &r->why, "ended with exit status %d%s", r->code, after);
    if (c->said.n == 0)
        return arena_printf(c->mem, &r->why, c->ended ? "ended without an answer" : "closed its output without an answer");
    return judge_line(c, r);
}

static status hear_answer(child *c, process_result *out)
{
    process_end why;
    TRY(wait_for_end(c, &why));
    bool stays = c->o->stays && !c->ended && why == PROCESS_ANSWERED && c->answered > 0;
    if (!stays)
        end_group(c);
    drain(c);
    out->offline = c->offline;
    out->seconds = clock_seconds() - c->began;
    out->peak = c->peak;
    TRY(c->said.st);
    return judge_end(c, why, out);
}

status process_ask(const process_options *o, const char *request, arena *mem, process_result *out)
{
    child c = no_child;
    process_options once = *o;
    once.stays = false;
    c.o = &once;
    c.mem = mem;
    *out = (process_result){0};
    status st = start_child(&c, request, &c.offline);
    if (st == ST_OK)
        st = hear_answer(&c, out);
    child_free(&c);
    return st;
}

/* It runs, listens, and has said nothing that it was not asked for. */
static bool can_be_asked(child *c)
{
    struct pollfd p = {.fd = c->out[0], .events = POLLIN};
    return c->pid > 0 && c->in[1] >= 0 && c->out[0] >= 0 && !has_ended(c) && poll(&p, 1, 0) == 0;
}

static bool ask_again(child *c, const process_options *o, const char *request, arena *mem)
{
    if (!can_be_asked(c))
        return false;
    drain(c); /* what it still said goes to the log of its last request */
    io_close(c->log);
    text_free(&c->said);
    c->o = o;
    c->mem = mem;
    c->answered = c->closed = c->next_look = 0;
    c->peak = c->logged = 0;
    c->log_failed = false;
    c->began = clock_seconds();
    if (open_log(c) == ST_OK && put_request(c, request) == ST_OK)
        return true;
    status_clear();
    return false;
}

status process_ask_kept(process **p, const process_options *o, const char *request, arena *mem, process_result *out)
{
    status st = ST_OK;
    *out = (process_result){0};
    bool again = *p && ask_again(*p, o, request, mem);
    if (!again) {
        process_dismiss(*p);
        *p = NULL;
        TRY(mem_alloc(p, 1, sizeof **p));
        **p = no_child;
        (*p)->o = o;
        (*p)->mem = mem;
        st = start_child(*p, request, &(*p)->offline);
    }
    if (st == ST_OK)
        st = hear_answer(*p, out);
    out->again = again;
    if (st != ST_OK || out->end != PROCESS_ANSWERED || !can_be_asked(*p)) {
        process_dismiss(*p);
        *p = NULL;
    }
    return st;
}

void process_dismiss(process *p)
{
    if (!p)
        return;
    const double began = clock_seconds();
    bool polite = p->pid > 0 && p->answered > 0;
    close_pipe(&p->in[1]);
    while (polite && !has_ended(p) && clock_seconds() - began < GRACE)
        listen_to(p);
    child_free(p);
    mem_free(p);
}
