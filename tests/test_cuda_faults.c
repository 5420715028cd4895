/* test_cuda_faults.c - every call of the device's table fails once: a clean error, nothing left behind, checkpoints intact. */
#include "harness.h"
#include "base/io.h"
#include "base/log.h"
#include "exec/internal.h"
#include "emulator/emulator_control.h"
#include "toy.h"
#include "train/checkpoint.h"
#include "train/job_spec.h"
#include "train/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void ignore(log_level level, const char *line, void *ctx)
{
    (void)level;
    (void)line;
    (void)ctx;
}

/* Opens the job, makes two steps with a checkpoint after each, judges and closes. `done`: checkpoints that were reported written. */
static status whole(const job *j, const char *dir, int *done)
{
    double hint[4];
    step_result r = {.hint = hint};
    evaluation e = {0};
    session s;
    arena mem = {0};
    const char *path;
    status st = ST_OK;
    *done = 0;
    TRY(session_open(j, &s));
    for (uint64_t k = 0; k < 2; k++) {
        TRY_DONE(session_step(&s, k, &r));
        TRY_DONE(checkpoint_path(&mem, dir, k + 1, &path));
        TRY_DONE(checkpoint_write(path, &s.params, NULL, 0));
        *done = (int)k + 1;
    }
    TRY_DONE(session_evaluate(&s, &e));
done:
    evaluation_free(&e);
    session_close(&s);
    arena_free(&mem);
    return st;
}

static void check_nothing_left(const emulator_counts *was, size_t at)
{
    const emulator_counts *now = emulator_count();
    ck_assert_msg(now->memory == was->memory && now->host_memory == was->host_memory && now->streams == was->streams &&
                      now->graphs == was->graphs && now->events == was->events,
                  "call %zu (%s): left behind: %zu blocks on the device, %zu on the host, %zu streams, %zu graphs, %zu events", at,
                  emulator_failed_call(), now->memory - was->memory, now->host_memory - was->host_memory,
                  now->streams - was->streams, now->graphs - was->graphs, now->events - was->events);
    ck_assert_uint_eq(now->damaged, was->damaged);
}

/* Checkpoints that were reported are those of the run without failures. */
static void check_checkpoints(const char *dir, const char *right, int n, size_t at)
{
    arena mem = {0};
    const limits lim = limits_default();
    for (int k = 1; k <= n; k++) {
        const char *path, *want;
        checkpoint a, b;
        OK(checkpoint_path(&mem, dir, (uint64_t)k, &path));
        OK(checkpoint_path(&mem, right, (uint64_t)k, &want));
        OK(checkpoint_read(path, &lim, &a));
        OK(checkpoint_read(want, &lim, &b));
        ck_assert_uint_eq(a.tensors.n, b.tensors.n);
        for (size_t i = 0; i < a.tensors.n; i++)
            ck_assert_msg(memcmp(a.tensors.at[i].data, b.tensors.at[i].data, tensor_bytes(&b.tensors.at[i])) == 0,
                          "call %zu (%s): checkpoint %d holds another '%s'", at, emulator_failed_call(), k, b.tensors.at[i].name);
        checkpoint_free(&a);
        checkpoint_free(&b);
        OK(io_remove(path));
    }
    arena_free(&mem);
}

static size_t fail_each(const char *const *set, size_t stride, bool for_ever)
{
    const char *dir = test_tmp_dir(), *right = test_tmp_dir();
    const emulator_counts was = *emulator_count();
    size_t total, failed = 0;
    int done;
    toy_make(dir);
    job *j = toy_job(dir, set);
    log_set_sink(ignore, NULL);
    emulator_fail(0, 0);
    OK(whole(j, right, &done));
    total = emulator_calls();
    check_nothing_left(&was, 0);
    for (size_t at = 1; at <= total; at += stride) {
        status_clear();
        emulator_fail(at, for_ever ? total : at);
        status st = whole(j, dir, &done);
        const char *call = emulator_failed_call();
        ck_assert_msg(call != NULL, "call %zu of %zu was not reached", at, total);
        if (st != ST_OK) {
            failed++;
            ck_assert_msg(st == ST_OOM || st == ST_UNAVAILABLE, "call %zu (%s): status %d: %s", at, call, (int)st, status_message());
            ck_assert_msg(strlen(status_message()) > 10, "call %zu (%s): no message", at, call);
        } else {
            ck_assert_msg(strcmp(call, "release") == 0 || strcmp(call, "release_host") == 0 || strcmp(call, "graph_free") == 0 ||
                              strcmp(call, "stream_free") == 0 || strcmp(call, "event_free") == 0 || strcmp(call, "runtime_version") == 0,
                          "call %zu (%s) failed and nobody said so", at, call);
        }
        emulator_fail(0, 0);
        check_nothing_left(&was, at);
        check_checkpoints(dir, right, done, at);
    }
    OK(whole(j, dir, &done)); /* and all is well again */
    config_free(j);
    printf("%zu calls, %zu failures\n", total, failed);
    return failed;
}

#define SMALL "exec.device=emulated", "student.arch=mlp", "student.widths=", "student.depth=auto", "student.hidden=6", "data.device=on"

START_TEST(every_call_fails_once)
{
    static const char *const set[] = {SMALL, "train.batch=8", "distill.kd=0", "train.momentum=0", "train.nesterov=false", NULL};
    ck_assert_uint_gt(fail_each(set, 1, false), 50);
}
END_TEST

START_TEST(every_call_fails_for_ever)
{
    static const char *const set[] = {SMALL, "train.batch=8", "distill.kd=0", "train.momentum=0", "train.nesterov=false", NULL};
    ck_assert_uint_gt(fail_each(set, 7, true), 10);
}
END_TEST

/* With teacher, hints, averages, accumulation. */
START_TEST(sampled_calls_of_a_larger_job)
{
    static const char *const set[] = {"exec.device=emulated", "train.ema=0.9", "train.accumulate=2", "train.batch=8", "hint.auto.pairs=1", "data.device=on",
                                      "train.optimizer=adam", NULL};
    ck_assert_uint_gt(fail_each(set, 41, false), 10);
}
END_TEST

/* ---- what a user reads ---- */

START_TEST(drivers)
{
    const backend_options o = {.threads = 1};
    backend *b;
    emulator_driver(0);
    FAILS(ST_UNAVAILABLE, "no NVIDIA driver", backend_open("emulated", &o, &b));
    emulator_driver(12020);
    FAILS(ST_UNAVAILABLE, "the driver serves CUDA 12.2, this program needs CUDA 13 (driver 580 or newer); update the driver", backend_open("emulated", &o, &b));
    emulator_driver(13020);
    FAILS(ST_UNAVAILABLE, "there is 1 device, the last is cuda:0", backend_open("emulated:3", &o, &b));
    OK(backend_open("emulated", &o, &b));
    backend_close(b);
}
END_TEST

typedef struct told {
    char text[2000];
    bool good;
} told;

static void tell(void *ctx, const char *name, bool good, const char *what)
{
    told *t = ctx;
    size_t n = strlen(t->text);
    snprintf(t->text + n, sizeof t->text - n, "%s: %s\n", name, what);
    t->good = t->good && good;
}

START_TEST(doctor)
{
    static const struct {
        int driver;
        bool good;
        const char *says;
    } rows[] = {{0, true, "GPU: none: there is no NVIDIA driver"},
                {12040, false, "serves CUDA 12.4, the program was built with CUDA 13.0: too old, it needs driver 580 or newer"},
                {13000, true, "cuda:0: emulated GPU, sm_90, 2 multiprocessors, 4.00 GiB of 4.00 GiB free"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        told t = {.good = true};
        emulator_driver(rows[i].driver);
        cuda_survey(&emulator_api, tell, &t);
        ck_assert_msg(strstr(t.text, rows[i].says) != NULL && t.good == rows[i].good, "%s", t.text);
    }
}
END_TEST

/* A library that says that it is NCCL 2.28.9 (tests/stub/nccl.c). */
START_TEST(doctor_tells_of_nccl)
{
    static const struct {
        const char *folder, *says;
    } rows[] = {{BUILD_DIR "/nowhere", "NCCL: libnccl.so.2 was not found: one GPU needs none"},
                {BUILD_DIR "/nccl_stub", "NCCL: 2.28.9, " BUILD_DIR "/nccl_stub/libnccl.so.2"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        told t = {.good = true};
        setenv("DISTILL_CUDA_LIBS", rows[i].folder, 1);
        cuda_survey(&emulator_api, tell, &t);
        ck_assert_msg(strstr(t.text, rows[i].says) != NULL && t.good, "%s", t.text);
    }
    unsetenv("DISTILL_CUDA_LIBS");
    const char *conda = test_tmp_dir(); /* where that puts libraries */
    told t = {.good = true};
    OK(io_make_dirs(test_path(conda, "lib")));
    ck_assert_int_eq(symlink(BUILD_DIR "/nccl_stub/libnccl.so.2", test_path(conda, "lib/libnccl.so.2")), 0);
    setenv("CONDA_PREFIX", conda, 1);
    cuda_survey(&emulator_api, tell, &t);
    unsetenv("CONDA_PREFIX");
    ck_assert_msg(strstr(t.text, "lib/libnccl.so.2") != NULL && strstr(t.text, "NCCL: 2.28.9"), "%s", t.text);
}
END_TEST

/* Plans that do not fit say what they need and which batch would; who does as told gets there. */
START_TEST(too_little_memory)
{
    const char *dir = test_tmp_dir();
    int fit = 4096, tries = 0;
    session s;
    toy_make(dir);
    emulator_memory((size_t)1 << 20);
    for (;; tries++) {
        char size[40];
        const char *const set[] = {SMALL, size, NULL};
        snprintf(size, sizeof size, "train.batch=%d", fit);
        job *j = toy_job(dir, set);
        status st = session_open(j, &s);
        if (st == ST_OK)
            session_close(&s);
        config_free(j);
        if (st == ST_OK)
            break;
        const char *at = strstr(status_message(), "batch = ");
        int next = at ? atoi(at + 8) : 0;
        ck_assert_msg(st == ST_OOM && strstr(status_message(), "out of memory on cuda:0: emulated GPU") && next > 0 && next < fit,
                      "batch %d: %s", fit, status_message());
        fit = next;
    }
    ck_assert_int_ge(tries, 1);
    ck_assert_msg(fit > 16 && tries <= 4, "batch %d after %d tries", fit, tries);
    emulator_memory((size_t)1 << 12);
    static const char *const set[] = {SMALL, "train.batch=16", NULL};
    job *j = toy_job(dir, set);
    FAILS(ST_OOM, "no batch would fit", session_open(j, &s));
    config_free(j);
}
END_TEST

/* auto:SHARE takes about that share, of the device's memory or of the CPU's limit, and is a number afterwards. */
START_TEST(automatic_batch)
{
    static const char *const shares[] = {"train.batch=auto:0.5", "train.batch=auto", "train.batch=auto:0.9"};
    static const double share[] = {0.5, 0.8, 0.9};
    static const char *const devices[] = {"exec.device=emulated", "exec.device=cpu"};
    const char *dir = test_tmp_dir();
    toy_make(dir);
    log_set_sink(ignore, NULL);
    for (int k = 0; k < 6; k++) {
        const char *const set[] = {SMALL, devices[k / 3], shares[k % 3], "exec.memory_limit=1", NULL};
        session s;
        emulator_memory(700000);
        job *j = toy_job(dir, set);
        if (k < 3)
            j->exec.memory_limit = 0;
        OK(session_choose_batch(j, NULL));
        ck_assert_msg(j->train.batch > 8 && j->train.batch <= TOY_TRAIN, "batch %d", (int)j->train.batch);
        j->exec.memory_limit = 0;
        OK(session_open(j, &s));
        if (k < 3) {
            double used = (double)s.b->taken / 700000;
            ck_assert_msg(used <= share[k] && (used > share[k] - 0.25 || j->train.batch == TOY_TRAIN), "%g of it with batch %d", used,
                          (int)j->train.batch);
        }
        printf("%s, %s: %d\n", devices[k / 3], shares[k % 3], (int)j->train.batch);
        session_close(&s);
        config_free(j);
    }
    emulator_memory(20000);
    const char *const set[] = {SMALL, "train.batch=auto:0.1", NULL};
    job *j = toy_job(dir, set);
    FAILS(ST_OOM, "batch", session_choose_batch(j, NULL));
    config_free(j);
}
END_TEST

const test_entry test_table[] = {TEST(automatic_batch), TEST(drivers), TEST(doctor), TEST(doctor_tells_of_nccl), TEST(too_little_memory), TEST(every_call_fails_once), TEST(every_call_fails_for_ever),
                                 TEST(sampled_calls_of_a_larger_job), {0}};
