/* test_crash.c - kill -9 and full disks at chosen system calls of a run (strace's fault injection): no torn checkpoint is
 * taken, none that was reported is lost, and the run goes on. */
#include "harness.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "program.h"
#include "toy.h"
#include "train/checkpoint.h"
#include "train/loop.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const job_set[] = {"train.checkpoint_every=3", "train.keep=2", "train.sanity=false", "train.log_every=1", NULL};

static bool can_trace(void)
{
    return system("strace -o /dev/null -e inject=fsync:error=EIO:when=9999 true >/dev/null 2>&1") == 0;
}

/* The toy job under strace; `inject` is what follows "inject=". */
static ran traced(const char *dir, const char *inject)
{
    char rule[200];
    const char *args[20] = {"--student", test_path(dir, "job.ini"), "--out", test_path(dir, "run"), "--resume"};
    size_t n = 5;
    for (size_t i = 0; job_set[i]; i++) {
        args[n++] = "--set";
        args[n++] = job_set[i];
    }
    snprintf(rule, sizeof rule, "inject=%s", inject);
    return program_run(&(program_options){.before = ARGS("strace", "-f", "-qq", "-o", "/dev/null", "-e", rule)}, args);
}

/* The step of the last "checkpoint" line of metrics.jsonl; 0: none. */
static uint64_t acknowledged(const char *dir)
{
    unsigned char *data;
    size_t n;
    uint64_t last = 0;
    if (io_read_file(test_path(dir, "run/metrics.jsonl"), 1 << 24, &data, &n) != ST_OK)
        return 0;
    for (char *line = (char *)data, *next; line && *line; line = next) {
        json_error_t e;
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        json_t *row = json_loads(line, 0, &e);
        const char *event = json_string_value(json_object_get(row, "event"));
        if (event && strcmp(event, "checkpoint") == 0)
            last = (uint64_t)json_integer_value(json_object_get(row, "step"));
        json_decref(row);
    }
    mem_free(data);
    return last;
}

static void ignore(log_level level, const char *line, void *ctx)
{
    (void)level;
    (void)line;
    (void)ctx;
}

static void check_survivor(const char *dir, const char *what)
{
    checkpoint c = {0};
    limits lim = limits_default();
    uint64_t step = 0, promised = acknowledged(dir);
    bool found;
    OK(checkpoint_find_newest(test_path(dir, "run/ckpt"), &lim, &c, &step, &found));
    ck_assert_msg(promised == 0 || (found && step >= promised), "%s: step %d was reported as saved, %d is the newest", what,
                  (int)promised, found ? (int)step : -1);
    if (found)
        checkpoint_free(&c);
}

/* The rest of the run, here; its last checkpoint into *data. */
static void finish(const char *dir, const char *what, unsigned char **data, size_t *n)
{
    loop_options o = {.dir = test_path(dir, "run"), .resume = true};
    loop_result r;
    session s;
    int lock;
    job *j = toy_job(dir, job_set);
    OK(loop_prepare(&o, &lock));
    OK(session_open(j, &s));
    status st = loop_run(&s, &o, &r);
    ck_assert_msg(st == ST_OK, "%s: %s", what, status_message());
    evaluation_free(&r.last);
    session_close(&s);
    io_close(lock);
    config_free(j);
    OK(io_read_file(test_path(dir, "run/ckpt/step_00000024.safetensors"), 1 << 24, data, n));
}

static void fresh(const char *dir)
{
    OK(io_remove_tree(test_path(dir, "run")));
}

/* Every call of the run, start-up and libraries included, takes minutes: DISTILL_CRASH_ALL asks for it; otherwise the
 * calls that most belong to other things than a save are sampled. */
START_TEST(killed_anywhere_the_run_goes_on)
{
    bool all = getenv("DISTILL_CRASH_ALL") != NULL;
    static const char *const calls[] = {"openat", "write", "fsync", "rename", "close", "unlink"};
    static const int stride[] = {13, 3, 1, 1, 13, 1};
    const char *dir = test_tmp_dir();
    unsigned char *want, *have;
    size_t n, m;
    unsigned kills = 0;
    if (!can_trace()) {
        test_skip("killed_anywhere_the_run_goes_on", "strace cannot trace here");
        return;
    }
    log_set_sink(ignore, NULL);
    toy_make(dir);
    finish(dir, "not killed", &want, &n);
    for (size_t c = 0; c < sizeof calls / sizeof *calls; c++)
        for (int k = 1, tried = 0; all || tried < 40; k += all ? 1 : stride[c], tried++) {
            char what[80];
            snprintf(what, sizeof what, "%s:signal=SIGKILL:when=%d", calls[c], k);
            fresh(dir);
            ran r = traced(dir, what);
            bool killed = r.signal == SIGKILL || r.code == 137;
            ran_free(&r);
            kills += killed;
            check_survivor(dir, what);
            finish(dir, what, &have, &m);
            ck_assert_msg(n == m && memcmp(want, have, n) == 0, "%s: the run ended with other weights", what);
            mem_free(have);
            if (!killed)
                break;
        }
    mem_free(want);
    printf("%u kills\n", kills);
    ck_assert_uint_ge(kills, 20);
}
END_TEST

START_TEST(a_full_disk_leaves_the_last_checkpoint)
{
    static const char *const faults[] = {"write:error=ENOSPC", "fsync:error=EIO"};
    static const int from[] = {24, 6}; /* behind what comes before the loop */
    const char *dir = test_tmp_dir();
    unsigned failures = 0;
    if (!can_trace()) {
        test_skip("a_full_disk_leaves_the_last_checkpoint", "strace cannot trace here");
        return;
    }
    log_set_sink(ignore, NULL);
    toy_make(dir);
    for (size_t f = 0; f < 2; f++)
        for (int k = from[f]; k < from[f] + 40; k += 8) {
            char what[80];
            unsigned char *have;
            size_t m;
            snprintf(what, sizeof what, "%s:when=%d+", faults[f], k);
            fresh(dir);
            ran r = traced(dir, what);
            ck_assert_msg(r.signal == 0 && r.code != 70 && r.code != 139, "%s: exit code %d, signal %d: %s", what, r.code,
                          r.signal, r.err);
            failures += r.code == 74;
            ran_free(&r);
            check_survivor(dir, what);
            finish(dir, what, &have, &m);
            mem_free(have);
        }
    printf("%u runs ended with 74\n", failures);
    ck_assert_uint_ge(failures, 3);
}
END_TEST

const test_entry test_table[] = {TEST(killed_anywhere_the_run_goes_on), TEST(a_full_disk_leaves_the_last_checkpoint), {0}};
