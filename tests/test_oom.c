/* test_oom.c - allocations that fail, one by one and for ever, through import, plan and one training step: a clean error
 * each time. What is leaked shows in the build with AddressSanitizer. */
#include "harness.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "toy.h"
#include "train/parity.h"
#include "train/trial.h"

#include <stdio.h>

enum { POINTS = 75 };

static void ignore(log_level level, const char *line, void *ctx)
{
    (void)level;
    (void)line;
    (void)ctx;
}

static status whole(const char *file, uint64_t fail_at, bool once, uint64_t *count)
{
    job *j = NULL;
    tensor_list out = {0};
    const char *const set[] = {"hint.auto.pairs=2", "train.ema=0.9"};
    config_sources from = {.file = file, .set = set, .n_set = 2};
    uint64_t before = mem_count();
    mem_fail_at(fail_at, once);
    status st = config_load(&from, &j);
    if (st == ST_OK)
        st = parity_run(&(parity_options){.j = j, .steps = 1}, &out);
    mem_fail_at(0, false);
    *count = mem_count() - before;
    tensor_list_free(&out);
    config_free(j);
    return st;
}

START_TEST(every_sampled_allocation_may_fail)
{
    const char *dir = test_tmp_dir(), *file;
    uint64_t total, count;
    unsigned failed = 0;
    rng r = rng_make(2026, RNG_TEST, 0, 0);
    log_set_sink(ignore, NULL);
    toy_make(dir);
    file = test_path(dir, "job.ini");
    OK(whole(file, 0, false, &total));
    for (int i = 0; i < 2 * POINTS; i++) {
        uint64_t at = i < 20 ? (uint64_t)i / 2 + 1 : 1 + rng_below(&r, (uint32_t)total);
        bool once = i % 2;
        status_clear();
        status st = whole(file, at, once, &count);
        if (st == ST_OK && once) /* something that can be done without */
            continue;
        failed++;
        ck_assert_msg(st == ST_OOM, "allocation %d of %d, %s: status %d: %s", (int)at, (int)total, once ? "once" : "for ever",
                      (int)st, status_message());
        ck_assert_msg(strstr(status_message(), "out of memory") != NULL, "allocation %d: %s", (int)at, status_message());
    }
    OK(whole(file, 0, false, &count));
    ck_assert_uint_eq(count, total);
    printf("%llu allocations, %u failures\n", (unsigned long long)total, failed);
    ck_assert_uint_ge(failed, POINTS);
}
END_TEST

/* The same through the trial of every variant; the session goes on afterwards. */
START_TEST(variants_when_memory_runs_out)
{
    const char *dir = test_tmp_dir();
    const char *const set[] = {"export.variants=fp32 fp16 int8-ptq int8-qat portable teacher-int8-ptq", "hint.auto.pairs=1", "train.ema=0.9",
                               "quant.samples=16", "data.loaders=1", NULL};
    uint64_t total, before, count;
    unsigned failed = 0;
    session s;
    rng r = rng_make(2027, RNG_TEST, 0, 0);
    log_set_sink(ignore, NULL);
    toy_make(dir);
    job *j = toy_job(dir, set);
    OK(session_open(j, &s));
    OK(trial_variants(&s, dir));
    before = mem_count();
    OK(trial_variants(&s, dir));
    total = mem_count() - before;
    for (int i = 0; i < POINTS; i++) {
        uint64_t at = i < 10 ? (uint64_t)i / 2 + 1 : 1 + rng_below(&r, (uint32_t)total);
        status_clear();
        before = mem_count();
        mem_fail_at(at, i % 2);
        status st = trial_variants(&s, dir);
        mem_fail_at(0, false);
        count = mem_count() - before;
        if (st == ST_OK && (i % 2 || count < at))
            continue;
        failed++;
        ck_assert_msg(st == ST_OOM && strstr(status_message(), "out of memory"), "allocation %d of %d: status %d: %s", (int)at, (int)total,
                      (int)st, status_message());
    }
    OK(trial_variants(&s, dir));
    printf("%llu allocations, %u failures\n", (unsigned long long)total, failed);
    ck_assert_uint_ge(failed, POINTS / 2);
    session_close(&s);
    config_free(j);
}
END_TEST

const test_entry test_table[] = {TEST(every_sampled_allocation_may_fail), TEST(variants_when_memory_runs_out), {0}};
