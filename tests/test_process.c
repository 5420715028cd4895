/* test_process.c - a runner as a child process: what it answers, every way in which it can end, its limits, and one that stays. */
#include "base/io.h"
#include "harness.h"
#include "matrix/process.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct asked {
    process_result r;
    arena mem;
    const char *log;
} asked;

/* What `script` (of /bin/sh) makes of a request. */
static asked ask(const char *script, double seconds, int64_t memory)
{
    asked a = {0};
    const char *command[] = {"/bin/sh", "-c", script, NULL};
    a.log = test_path(test_tmp_dir(), "log");
    const process_options o = {.command = command, .log = a.log, .seconds = seconds, .memory = memory, .log_limit = 4096};
    OK(process_ask(&o, "{\"protocol\": 1}", &a.mem, &a.r));
    return a;
}

static void ends(const char *script, double seconds, process_end end, const char *why)
{
    asked a = ask(script, seconds, 0);
    ck_assert_msg(a.r.end == end, "%s: end %d, expected %d: %s", script, (int)a.r.end, (int)end, a.r.why);
    ck_assert_msg(strstr(a.r.why, why) != NULL, "%s: '%s' lacks '%s'", script, a.r.why, why);
    ck_assert((a.r.answer != NULL) == (end == PROCESS_ANSWERED));
    ck_assert(a.r.seconds < seconds + 8);
    arena_free(&a.mem);
}

START_TEST(a_process_answers_with_the_line_that_it_read)
{
    asked a = ask("echo started >&2; cat", 20, 0);
    unsigned char *log;
    size_t n;
    ck_assert_msg(a.r.end == PROCESS_ANSWERED, "%s", a.r.why);
    ck_assert_str_eq(a.r.answer, "{\"protocol\": 1}");
    OK(io_read_file(a.log, 1 << 20, &log, &n));
    ck_assert_str_eq((char *)log, "started\n");
    ck_assert(a.r.code == 0 && a.r.signal == 0 && a.r.seconds < 10);
    mem_free(log);
    arena_free(&a.mem);
}
END_TEST

START_TEST(a_process_that_fails_is_told_apart)
{
    ends("kill -SEGV $$", 20, PROCESS_CRASHED, "signal 11");
    ends("exit 3", 20, PROCESS_CRASHED, "exit status 3");
    ends("echo '{}'; exit 4", 20, PROCESS_CRASHED, "exit status 4 after its answer");
    ends("echo '{}'; kill -ABRT $$", 20, PROCESS_CRASHED, "signal 6");
    ends("exit 0", 20, PROCESS_CRASHED, "without an answer");
    ends("exec >&-; exit 0", 20, PROCESS_CRASHED, "without an answer");
    ends("printf torn", 20, PROCESS_GARBAGE, "no end");
    ends("echo '{}'; echo more", 20, PROCESS_GARBAGE, "more than one line");
    ends("printf 'a\\000b\\n'", 20, PROCESS_GARBAGE, "zero byte");
    ends("sleep 100", 0.5, PROCESS_TIMEOUT, "no answer in 0.5 s");
    ends("trap '' TERM INT; while :; do sleep 1; done", 0.5, PROCESS_TIMEOUT, "no answer");
    ends("exec >&-; sleep 100", 20, PROCESS_CRASHED, "closed its output");
    ends("head -c 20000000 /dev/zero", 20, PROCESS_GARBAGE, "more than");
}
END_TEST

START_TEST(a_process_that_floods_its_log_is_heard_out)
{
    asked a = ask("head -c 3000000 /dev/zero | tr '\\0' x >&2; echo '{}'", 20, 0);
    unsigned char *log;
    size_t n;
    ck_assert_msg(a.r.end == PROCESS_ANSWERED, "%s", a.r.why);
    OK(io_read_file(a.log, 1 << 20, &log, &n));
    ck_assert_msg(n >= 4096 && n < 5000, "the log has %zu bytes", n);
    mem_free(log);
    arena_free(&a.mem);
}
END_TEST

START_TEST(a_process_that_eats_memory_is_ended)
{
    asked a = ask("head -c 2000000000 /dev/zero | tail -n 1", 20, 100 << 20); /* tail keeps the endless line, in a child of the shell */
    ck_assert_msg(a.r.end == PROCESS_MEMORY, "end %d: %s", (int)a.r.end, a.r.why);
    ck_assert_msg(a.r.peak > 100 << 20, "peak %lld", (long long)a.r.peak);
    arena_free(&a.mem);
}
END_TEST

START_TEST(a_child_of_the_process_does_not_stay)
{
    asked a = ask("sleep 1000 & echo $!", 20, 0);
    ck_assert_msg(a.r.end == PROCESS_ANSWERED, "%s", a.r.why);
    pid_t left = (pid_t)strtol(a.r.answer, NULL, 10);
    for (int i = 0; i < 200 && kill(left, 0) == 0; i++) { /* until init reaped it */
        char path[64], s[256];
        snprintf(path, sizeof path, "/proc/%ld/stat", (long)left);
        io_read_system(path, s, sizeof s);
        if (strstr(s, ") Z"))
            break;
        usleep(10000);
        ck_assert_msg(i < 199, "process %ld is still there", (long)left);
    }
    arena_free(&a.mem);
}
END_TEST

/* ---- processes that stay ---- */

typedef struct kept_run {
    process *p;
    arena mem;
    process_result r;
    process_options o;
    const char *command[4];
} kept_run;

static void begin_kept(kept_run *k, const char *script)
{
    *k = (kept_run){.command = {"/bin/sh", "-c", script, NULL}};
    k->o = (process_options){.seconds = 20, .stays = true, .log = test_path(test_tmp_dir(), "kept.log"), .log_limit = 4096};
    k->o.command = k->command;
}

/* Asks and expects `answer`, of the process that answered before when `again`. */
static void kept_says(kept_run *k, const char *request, const char *answer, bool again)
{
    OK(process_ask_kept(&k->p, &k->o, request, &k->mem, &k->r));
    ck_assert_msg(k->r.end == PROCESS_ANSWERED, "%s: %s", request, k->r.why);
    ck_assert_str_eq(k->r.answer, answer);
    ck_assert_msg(k->r.again == again, "'%s' was %sasked before", request, again ? "not " : "");
}

static void end_kept(kept_run *k)
{
    process_dismiss(k->p);
    arena_free(&k->mem);
}

START_TEST(a_process_may_stay_for_another_request)
{
    kept_run k;
    unsigned char *log;
    size_t n;
    begin_kept(&k, "i=0; while read line; do i=$((i + 1)); echo \"log $i\" >&2; echo \"$line $i\"; done; echo > ended");
    k.o.folder = test_tmp_dir();
    kept_says(&k, "a", "a 1", false);
    kept_says(&k, "b", "b 2", true);
    kept_says(&k, "c", "c 3", true);
    OK(io_read_file(k.o.log, 1 << 20, &log, &n)); /* each request has a log of its own */
    ck_assert_msg(strstr((char *)log, "log 1") == NULL && strstr((char *)log, "log 2") == NULL, "the log: %s", (char *)log);
    mem_free(log);
    end_kept(&k); /* its input ends, and it has the time to end by itself */
    ck_assert(io_exists(test_path(k.o.folder, "ended")));
}
END_TEST

START_TEST(a_process_that_did_not_stay_is_started_again)
{
    kept_run k;
    begin_kept(&k, "read line; echo \"$line once\"");
    kept_says(&k, "a", "a once", false);
    usleep(100000);
    kept_says(&k, "b", "b once", false);
    end_kept(&k);
    begin_kept(&k, "read line; echo \"$line\"; sleep 0.05; kill -SEGV $$"); /* after its answer: the next request's business */
    kept_says(&k, "a", "a", false);
    usleep(300000);
    kept_says(&k, "b", "b", false);
    end_kept(&k);
    begin_kept(&k, "read line; echo \"$line\"; sleep 0.05; echo unasked; sleep 100");
    kept_says(&k, "a", "a", false);
    usleep(300000);
    kept_says(&k, "b", "b", false); /* and not "unasked" */
    end_kept(&k);
}
END_TEST

START_TEST(a_process_that_stayed_is_held_to_its_limits)
{
    kept_run k;
    begin_kept(&k, "read line; echo \"$line\"; read line; sleep 100");
    kept_says(&k, "a", "a", false);
    k.o.seconds = 0.3;
    OK(process_ask_kept(&k.p, &k.o, "b", &k.mem, &k.r));
    ck_assert_msg(k.r.end == PROCESS_TIMEOUT && k.r.again && !k.p, "end %d: %s", (int)k.r.end, k.r.why);
    k.o.seconds = 20;
    kept_says(&k, "c", "c", false);
    end_kept(&k);
    begin_kept(&k, "read line; echo \"$line\"; read line; kill -SEGV $$");
    kept_says(&k, "a", "a", false);
    OK(process_ask_kept(&k.p, &k.o, "b", &k.mem, &k.r));
    ck_assert_msg(k.r.end == PROCESS_CRASHED && k.r.signal == SIGSEGV && !k.p, "end %d: %s", (int)k.r.end, k.r.why);
    end_kept(&k);
    begin_kept(&k, "read line; echo \"$line\"; read line; printf '1\\n2\\n'; sleep 100");
    kept_says(&k, "a", "a", false);
    OK(process_ask_kept(&k.p, &k.o, "b", &k.mem, &k.r));
    ck_assert_msg(k.r.end == PROCESS_GARBAGE && !k.p, "end %d: %s", (int)k.r.end, k.r.why);
    end_kept(&k);
    k = (kept_run){0};
    begin_kept(&k, "");
    k.command[0] = "no-such-program";
    FAILS(ST_UNAVAILABLE, "no-such-program", process_ask_kept(&k.p, &k.o, "", &k.mem, &k.r));
    ck_assert(k.p == NULL);
    end_kept(&k);
}
END_TEST

START_TEST(the_environment_and_the_network_are_as_asked)
{
    arena mem = {0};
    process_result r;
    const char *command[] = {"sh", "-c", "echo $A-$HOME-$(grep -c : /proc/net/dev)-$(pwd)", NULL};
    const char *env[] = {"A=1", "HOME=/nowhere", NULL};
    process_options o = {.command = command, .env = env, .seconds = 20, .folder = "/"};
    OK(process_ask(&o, "", &mem, &r));
    if (r.offline)
        ck_assert_str_eq(r.answer, "1-/nowhere-1-/"); /* the loopback alone */
    else
        test_skip("network", "no namespace of its own is allowed here");
    o.command = (const char *const[]){"no-such-program", NULL};
    FAILS(ST_UNAVAILABLE, "no-such-program", process_ask(&o, "", &mem, &r));
    arena_free(&mem);
}
END_TEST

static volatile sig_atomic_t stop_now;
static void on_alarm(int n)
{
    (void)n;
    stop_now = 1;
}

START_TEST(a_signal_stops_the_wait)
{
    arena mem = {0};
    process_result r;
    const char *command[] = {"sleep", "100", NULL};
    const process_options o = {.command = command, .seconds = 50, .stop = &stop_now};
    signal(SIGALRM, on_alarm);
    alarm(1);
    FAILS(ST_STOPPED, "stopped", process_ask(&o, "", &mem, &r));
    arena_free(&mem);
}
END_TEST

const test_entry test_table[] = {
    TEST(a_process_answers_with_the_line_that_it_read),
    TEST(a_process_that_fails_is_told_apart),
    TEST(a_process_that_floods_its_log_is_heard_out),
    TEST(a_process_that_eats_memory_is_ended),
    TEST(a_child_of_the_process_does_not_stay),
    TEST(a_process_may_stay_for_another_request),
    TEST(a_process_that_did_not_stay_is_started_again),
    TEST(a_process_that_stayed_is_held_to_its_limits),
    TEST(the_environment_and_the_network_are_as_asked),
    TEST(a_signal_stops_the_wait),
    {0},
};
