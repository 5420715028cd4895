/* test_train.c - what happens around a step: numbers that are not finite, memory, schedules, logs, the frozen teacher. */
#include "harness.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "data/npy.h"
#include "data_files.h"
#include "onnx/import.h"
#include "program.h"
#include "toy.h"
#include "train/checkpoint.h"
#include "train/job_spec.h"
#include "train/loop.h"
#include "train/metrics.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static bool not_running(const char *name)
{
    return !strstr(name, ".running_");
}

static status run_loop(const job *j, loop_options o, loop_result *r)
{
    session s;
    int lock;
    TRY(loop_prepare(&o, &lock));
    status st = session_open(j, &s);
    if (st == ST_OK) {
        st = loop_run(&s, &o, r);
        session_close(&s);
    }
    io_close(lock);
    return st;
}

static void ignore(log_level level, const char *line, void *ctx)
{
    (void)level;
    (void)line;
    (void)ctx;
}

/* ---- numbers that are not finite ---- */

/* Sample 5 holds one pixel that overflows when it is normalised; without shuffling it comes in step 0 of every pass. */
static const struct guard_row {
    const char *set[10];
    uint64_t pass;      /* steps */
    const char *tensor; /* that the event names */
} guard_rows[] = {
    {{"distill.kd=0"}, 6, "input"},
    {{"distill.kd=1"}, 6, "input"},
    {{"student.arch=mlp", "student.widths=", "student.depth=auto", "student.hidden=12"}, 6, "input"},
    {{"train.optimizer=adam", "train.ema=0.9", "train.clip=1"}, 6, "input"},
    {{"train.optimizer=adamw", "train.accumulate=3", "distill.kd=0"}, 2, "input"},
    {{"hint.auto.pairs=2", "distill.task=0"}, 6, "input"},
    {{"student.arch=resnet", "student.depth=8", "student.widths=4 4 4"}, 6, "input"},
};

START_TEST(a_step_that_is_not_finite_changes_nothing)
{
    for (size_t v = 0; v < sizeof guard_rows / sizeof *guard_rows; v++) {
        const struct guard_row *row = &guard_rows[v];
        const char *dir = test_tmp_dir(), *set[12] = {"data.shuffle=false"};
        for (size_t i = 0; row->set[i]; i++)
            set[i + 1] = row->set[i];
        double hint[4];
        step_result r = {.hint = hint};
        session s;
        toy_make_float(dir, 5, 3e38);
        job *j = toy_job(dir, set);
        log_set_sink(ignore, NULL);
        OK(session_open(j, &s));
        for (uint64_t k = 0; k < 3 * row->pass; k++) {
            bool running = row->pass == 6; /* else two of three micro batches are fine and move the statistics */
            uint64_t before = toy_hash_of(&s.params, running ? NULL : not_running);
            bool bad = k % row->pass == 0;
            OK(session_step(&s, k, &r));
            ck_assert_msg(r.finite == !bad, "row %zu, step %d: %s", v, (int)k, r.finite ? "finite" : r.nonfinite);
            ck_assert_msg((toy_hash_of(&s.params, running ? NULL : not_running) == before) == bad, "row %zu, step %d: the weights %s", v, (int)k,
                          bad ? "changed" : "did not change");
            if (bad)
                ck_assert_msg(strcmp(r.nonfinite, row->tensor) == 0, "row %zu: '%s' is named", v, r.nonfinite);
            else
                ck_assert(r.nonfinite == NULL && isfinite(r.total) && isfinite(r.norm));
        }
        session_close(&s);
        config_free(j);
    }
}
END_TEST

/* Weights so large that the logits overflow although the input is fine: what is named is not the input. */
START_TEST(overflow_in_the_student_names_its_values)
{
    const char *dir = test_tmp_dir();
    double hint[4];
    step_result r = {.hint = hint};
    session s;
    toy_make(dir);
    job *j = toy_job(dir, ARGS("student.arch=mlp", "student.widths=", "student.depth=auto", "student.hidden=12", "distill.kd=0"));
    OK(session_open(j, &s));
    tensor *w = &store_find(&s.params, "fc.weight")->t;
    for (int64_t i = 0; i < shape_count(&w->sh); i++)
        tensor_put(w, i, i % 2 ? 3e38 : -3e38);
    uint64_t before = toy_hash(&s.params);
    OK(session_step(&s, 0, &r));
    ck_assert(!r.finite && toy_hash(&s.params) == before);
    ck_assert_msg(strcmp(r.nonfinite, "logits") == 0, "'%s' is named", r.nonfinite);
    session_close(&s);
    config_free(j);
}
END_TEST

/* The squared error overflows, its gradient does not: the step is skipped all the same. */
START_TEST(a_loss_that_overflows_alone_skips_the_step)
{
    const char *dir = test_tmp_dir();
    double hint[4];
    step_result r = {.hint = hint};
    tensor y;
    session s;
    toy_make(dir);
    OK(tensor_new(&y, "y", DTYPE_F32, SHAPE(TOY_TRAIN, TOY_CLASSES)));
    tensor_put(&y, 5 * TOY_CLASSES, 1e25);
    OK(npy_write(test_path(dir, "data/y_train.npy"), &y));
    tensor_free(&y);
    OK(tensor_new(&y, "y", DTYPE_F32, SHAPE(TOY_VAL, TOY_CLASSES)));
    OK(npy_write(test_path(dir, "data/y_val.npy"), &y));
    tensor_free(&y);
    job *j = toy_job(dir, ARGS("data.shuffle=false", "distill.kd=0", "distill.task_loss=mse", "train.lr=1e-30"));
    OK(session_open(j, &s));
    for (uint64_t k = 0; k < 7; k++) {
        uint64_t before = toy_hash_of(&s.params, not_running);
        OK(session_step(&s, k, &r));
        ck_assert_msg(r.finite == (k % 6 != 0), "step %d: total %g", (int)k, r.total);
        ck_assert(r.finite || toy_hash_of(&s.params, not_running) == before);
        ck_assert(r.finite || isinf(r.total));
        ck_assert_msg(r.finite || strcmp(r.nonfinite, "loss.mse") == 0, "'%s' is named", r.nonfinite);
    }
    session_close(&s);
    config_free(j);
}
END_TEST

static json_t **read_events(const char *dir, size_t *n)
{
    static json_t *rows[1000];
    unsigned char *data;
    size_t size;
    *n = 0;
    OK(io_read_file(test_path(dir, "metrics.jsonl"), 1 << 26, &data, &size));
    for (char *line = (char *)data, *next; *line; line = next) {
        json_error_t e;
        next = strchr(line, '\n');
        ck_assert_msg(next != NULL, "the last line has no end");
        *next++ = 0;
        rows[*n] = json_loads(line, JSON_REJECT_DUPLICATES, &e);
        ck_assert_msg(rows[*n] != NULL, "%s: %s", e.text, line);
        ck_assert_uint_lt(++*n, 1000);
    }
    mem_free(data);
    return rows;
}

static const char *text_of(const json_t *row, const char *key)
{
    const char *s = json_string_value(json_object_get(row, key));
    return s ? s : "";
}

START_TEST(skipped_steps_are_logged_and_counted)
{
    const char *dir = test_tmp_dir(), *in = test_path(dir, "run");
    loop_result r;
    size_t n, skipped = 0, steps = 0;
    toy_make_float(dir, 5, 3e38);
    job *j = toy_job(dir, ARGS("data.shuffle=false", "train.log_every=1", "distill.kd=0"));
    log_set_sink(ignore, NULL);
    OK(run_loop(j, (loop_options){.dir = in}, &r));
    ck_assert_uint_eq(r.skipped, 4);
    ck_assert_uint_eq(r.steps_done, 24);
    evaluation_free(&r.last);
    json_t **rows = read_events(in, &n);
    for (size_t i = 0; i < n; i++) {
        json_int_t step = json_integer_value(json_object_get(rows[i], "step"));
        if (strcmp(text_of(rows[i], "event"), "nonfinite") == 0) {
            ck_assert_int_eq(step % 6, 1);
            ck_assert_str_eq(text_of(rows[i], "tensor"), "input");
            ck_assert_int_eq(json_integer_value(json_object_get(rows[i], "skipped")) +
                                 (json_int_t)json_real_value(json_object_get(rows[i], "skipped")), (json_int_t)++skipped);
        }
        if (strcmp(text_of(rows[i], "event"), "step") == 0) {
            ck_assert_int_ne(step % 6, 1);
            ck_assert(json_is_number(json_object_get(json_object_get(rows[i], "loss"), "total")));
            steps++;
        }
    }
    ck_assert_uint_eq(skipped, 4);
    ck_assert_uint_eq(steps, 20);
    config_free(j);
}
END_TEST

START_TEST(many_in_a_row_end_the_run)
{
    const char *dir = test_tmp_dir(), *in = test_path(dir, "run");
    loop_result r;
    size_t n, skipped = 0;
    toy_make_float(dir, 5, 3e38);
    job *j = toy_job(dir, ARGS("train.batch=96", "train.nonfinite_limit=3", "train.epochs=50", "distill.kd=0"));
    log_set_sink(ignore, NULL);
    FAILS(ST_DIVERGED, "3 steps in a row", run_loop(j, (loop_options){.dir = in}, &r));
    json_t **rows = read_events(in, &n);
    for (size_t i = 0; i < n; i++)
        skipped += strcmp(text_of(rows[i], "event"), "nonfinite") == 0;
    ck_assert_uint_eq(skipped, 3);
    config_free(j);
    /* one less than the limit and then a good one: it goes on */
    j = toy_job(dir, ARGS("data.shuffle=false", "train.nonfinite_limit=2", "distill.kd=0"));
    OK(run_loop(j, (loop_options){.dir = in, .force = true}, &r));
    ck_assert_uint_eq(r.skipped, 4);
    evaluation_free(&r.last);
    config_free(j);
}
END_TEST

/* ---- memory ---- */

START_TEST(steps_allocate_nothing)
{
    static const char *const variants[][10] = {
        {"data.augment=crop:1 flip", "cache.views=2", "exec.threads=2"},
        {"train.optimizer=adam", "train.accumulate=3", "train.ema=0.9", "train.clip=1", "student.dropout=0.2"},
        {"data.augment=mixup:0.4 cutout:2 jitter:0.2", "hint.auto.pairs=2", "data.loaders=2"},
        {"data.augment=rrc"},
    };
    for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
        const char *dir = test_tmp_dir();
        double hint[4];
        step_result r = {.hint = hint};
        session s;
        evaluation e;
        toy_make(dir);
        job *j = toy_job(dir, variants[v]);
        log_set_sink(ignore, NULL);
        OK(session_open(j, &s));
        OK(session_step(&s, 0, &r));
        uint64_t before = mem_count();
        for (uint64_t k = 1; k < 40; k++)
            OK(session_step(&s, k, &r));
        ck_assert_msg(mem_count() == before, "variant %zu: %llu allocations in 39 steps", v,
                      (unsigned long long)(mem_count() - before));
        OK(session_evaluate(&s, &e)); /* the counter does count */
        evaluation_free(&e);
        ck_assert_uint_gt(mem_count(), before);
        session_close(&s);
        config_free(j);
    }
}
END_TEST

/* "  memory   19.7 MiB planned" -> MiB. */
static double planned_mib(const char *err)
{
    const char *at = strstr(err, "  memory ");
    double v = 0;
    char unit[8] = "";
    ck_assert_msg(at && sscanf(at, "  memory %lf %7s", &v, unit) == 2, "there is no memory line in the plan:\n%s", err);
    return strcmp(unit, "GiB") == 0 ? v * 1024 : strcmp(unit, "KiB") == 0 ? v / 1024 : v;
}

/* The demonstration job (with a small validation part, which takes less time), at three batch sizes. */
START_TEST(planned_memory_is_what_the_process_takes)
{
    static const char *const batches[] = {"64", "128", "1024"};
    for (int i = 0; i < 3; i++) {
        char size[40];
        snprintf(size, sizeof size, "train.batch=%s", batches[i]);
        ran r = program_run(&(program_options){.cwd = SOURCE_DIR, .kill_after = 120},
                            ARGS("--student", "configs/fashion.ini", "--out", test_path(test_tmp_dir(), "run"), "--set", size,
                                 "--set", "data.dir=", "--set", "data.train=data/fashion-mnist/train-images-idx3-ubyte.gz",
                                 "--set", "data.labels=data/fashion-mnist/train-labels-idx1-ubyte.gz", "--set",
                                 "data.split=0.01", "--dry-run", "--threads", "2"));
        ck_assert_msg(r.code == 0, "%s", r.err);
        double planned = planned_mib(r.err), taken = (double)r.peak_kib / 1024, off = fabs(taken / planned - 1);
        printf("batch %s: planned %.1f MiB, the process took %.1f MiB\n", batches[i], planned, taken);
        test_max_error("memory against the plan", off, 0.05);
#ifndef __SANITIZE_ADDRESS__
        ck_assert_msg(off <= 0.05, "planned %.1f MiB, the process took %.1f MiB", planned, taken);
#endif
        ran_free(&r);
    }
}
END_TEST

/* ---- schedules ---- */

/* Learning rates that PyTorch 2.13's schedulers give before each of 40 steps (17 where said), lr = 0.1: CosineAnnealingLR
 * with eta_min 0.001, LinearLR from 1 to 0.01, MultiStepLR at 10 and 25, OneCycleLR, OneCycleLR with final_div_factor for
 * an end of 0.001. */
static const struct schedule_row {
    schedule_kind kind;
    uint64_t total;
    double low;
    struct {
        uint64_t step;
        double lr;
    } at[9];
} schedule_rows[] = {
    {SCHEDULE_COSINE, 40, 0.001,
     {{0, 0.1}, {1, 0.09984740801978985}, {7, 0.09270568813552757}, {10, 0.0855017856687341}, {20, 0.0505},
      {25, 0.03155717009792806}, {39, 0.0011525919802101658}}},
    {SCHEDULE_LINEAR, 40, 0.001,
     {{0, 0.1}, {1, 0.097525}, {7, 0.082675}, {10, 0.07525}, {20, 0.0505}, {25, 0.038125}, {39, 0.003475}}},
    {SCHEDULE_STEP, 40, 0,
     {{0, 0.1}, {1, 0.1}, {7, 0.1}, {9, 0.1}, {10, 0.01}, {20, 0.01}, {24, 0.01}, {25, 0.001}, {39, 0.001}}},
    {SCHEDULE_ONECYCLE, 40, 0,
     {{0, 0.004}, {1, 0.005944337266504118}, {7, 0.07193992062409055}, {10, 0.09805566273349588}, {11, 0.1},
      {12, 0.09968561175222017}, {20, 0.07660169741935154}, {25, 0.0500002}, {39, 4e-07}}},
    {SCHEDULE_ONECYCLE, 17, 0,
     {{0, 0.004}, {1, 0.017414963507162234}, {4, 0.09985915845681954}, {5, 0.09859529531534861}, {16, 4e-07}}},
    {SCHEDULE_ONECYCLE, 40, 0.001,
     {{0, 0.004}, {1, 0.005944337266504118}, {12, 0.09968875438971551}, {20, 0.07683558778750917}, {25, 0.0505}, {39, 0.001}}},
    {SCHEDULE_CONSTANT, 40, 0, {{0, 0.1}, {1, 0.1}, {39, 0.1}}},
};

START_TEST(schedules_are_those_of_pytorch)
{
    static const double milestones[] = {10, 25};
    double worst = 0;
    for (size_t i = 0; i < sizeof schedule_rows / sizeof *schedule_rows; i++) {
        const struct schedule_row *row = &schedule_rows[i];
        schedule s = {.kind = row->kind, .peak = 0.1, .low = row->low, .total = row->total, .milestones = milestones,
                      .n_milestones = 2, .gamma = 0.1};
        for (int k = 0; k < 9 && (k == 0 || row->at[k].step); k++) {
            double off = fabs(schedule_at(&s, row->at[k].step) / row->at[k].lr - 1);
            worst = fmax(worst, off);
            ck_assert_msg(off < 1e-12, "row %zu, step %d: %.17g", i, (int)row->at[k].step, schedule_at(&s, row->at[k].step));
        }
        if (row->kind == SCHEDULE_ONECYCLE)
            continue;
        s.warmup = 8; /* 1/8 of the peak, 2/8, ..., then the schedule over the steps that are left */
        s.total += 8;
        double moved[2] = {18, 33};
        s.milestones = moved;
        for (uint64_t k = 0; k < 8; k++)
            ck_assert_double_eq_tol(schedule_at(&s, k), 0.1 * (double)(k + 1) / 8, 1e-15);
        for (int k = 0; k < 9 && (k == 0 || row->at[k].step); k++)
            ck_assert_double_eq_tol(schedule_at(&s, row->at[k].step + 8), row->at[k].lr, 1e-13);
    }
    test_max_error("schedules", worst, 1e-12);
    for (uint64_t total = 0; total < 8; total++) /* runs of a few steps stay within 0 and the peak */
        for (int kind = SCHEDULE_COSINE; kind <= SCHEDULE_ONECYCLE; kind++)
            for (uint64_t k = 0; k < 10; k++) {
                schedule s = {.kind = (schedule_kind)kind, .peak = 0.1, .total = total, .gamma = 0.1};
                double lr = schedule_at(&s, k);
                ck_assert_msg(lr >= 0 && lr <= 0.1, "kind %d, step %d of %d: %g", kind, (int)k, (int)total, lr);
            }
}
END_TEST

START_TEST(ramps_end_where_they_should)
{
    ck_assert(ramp_at(RAMP_LINEAR, 4, 1, 0, 7) == 4 && ramp_at(RAMP_LINEAR, 4, 1, 6, 7) == 1);
    ck_assert(ramp_at(RAMP_LINEAR, 4, 1, 3, 7) == 2.5);
    ck_assert(ramp_at(RAMP_COSINE, 4, 1, 0, 7) == 4 && fabs(ramp_at(RAMP_COSINE, 4, 1, 6, 7) - 1) < 1e-15);
    ck_assert_double_eq_tol(ramp_at(RAMP_COSINE, 4, 1, 3, 7), 2.5, 1e-15);
    ck_assert_double_eq_tol(ramp_at(RAMP_COSINE, 4, 1, 1, 7), 1 + 3 * 0.5 * (1 + cos(acos(-1.0) / 6)), 1e-15);
    ck_assert(ramp_at(RAMP_CONSTANT, 4, 1, 6, 7) == 4);
    ck_assert(ramp_at(RAMP_LINEAR, 4, 1, 0, 1) == 4 && ramp_at(RAMP_LINEAR, 4, 1, 0, 0) == 4);
    ck_assert(ramp_at(RAMP_LINEAR, 0.1, 0.1, 3, 7) == 0.1);
}
END_TEST

/* ---- logs ---- */

static uint32_t crc32c(const unsigned char *p, size_t n)
{
    uint32_t table[256], c = ~0u;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t v = i;
        for (int k = 0; k < 8; k++)
            v = v & 1 ? v >> 1 ^ 0x82F63B78u : v >> 1;
        table[i] = v;
    }
    while (n--)
        c = table[(c ^ *p++) & 255] ^ c >> 8;
    return ~c;
}

static uint64_t le(const unsigned char *p, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes; i-- > 0;)
        v = v << 8 | p[i];
    return v;
}

static uint64_t varint(const unsigned char **p, const unsigned char *end)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        ck_assert(*p < end);
        v |= (uint64_t)(**p & 127) << shift;
        if (*(*p)++ < 128)
            return v;
    }
    ck_abort_msg("a number without end");
    return 0;
}

typedef struct scalar {
    char tag[80];
    uint64_t step;
    float value;
} scalar;
typedef struct scalars {
    scalar at[4000];
    size_t n;
    bool versioned;
} scalars;

/* One Summary.Value: 1 tag, 2 simple_value. */
static void take_value(const unsigned char *p, const unsigned char *end, uint64_t step, scalars *out)
{
    scalar *s = &out->at[out->n++];
    ck_assert_uint_lt(out->n, 4000);
    s->step = step;
    while (p < end) {
        uint64_t key = varint(&p, end);
        if (key == (1 << 3 | 2)) {
            size_t n = (size_t)varint(&p, end);
            ck_assert_uint_lt(n, sizeof s->tag);
            memcpy(s->tag, p, n);
            p += n;
        } else {
            ck_assert_uint_eq(key, 2 << 3 | 5);
            uint32_t bits = (uint32_t)le(p, 4);
            memcpy(&s->value, &bits, 4);
            p += 4;
        }
    }
}

/* One Event: 1 wall_time, 2 step, 3 file_version, 5 summary of values (1). */
static void take_event(const unsigned char *p, const unsigned char *end, scalars *out)
{
    uint64_t step = 0;
    while (p < end) {
        uint64_t key = varint(&p, end);
        if (key == (1 << 3 | 1)) {
            p += 8;
        } else if (key == (2 << 3)) {
            step = varint(&p, end);
        } else {
            size_t n = (size_t)varint(&p, end);
            const unsigned char *stop = p + n;
            ck_assert(stop <= end);
            if (key == (3 << 3 | 2)) {
                ck_assert(n == 13 && memcmp(p, "brain.Event:2", 13) == 0);
                out->versioned = true;
            }
            while (key == (5 << 3 | 2) && p < stop) {
                ck_assert_uint_eq(varint(&p, stop), 1 << 3 | 2);
                size_t m = (size_t)varint(&p, stop);
                take_value(p, p + m, step, out);
                p += m;
            }
            p = stop;
        }
    }
    ck_assert(p == end);
}

static void read_event_file(const char *path, scalars *out)
{
    unsigned char *d;
    size_t n, at = 0;
    OK(io_read_file(path, 1 << 26, &d, &n));
    while (at < n) {
        ck_assert_uint_le(at + 12, n);
        size_t size = (size_t)le(d + at, 8);
        uint32_t crc = crc32c(d + at, 8), body = crc32c(d + at + 12, size);
        ck_assert_uint_eq((uint32_t)le(d + at + 8, 4), (crc >> 15 | crc << 17) + 0xa282ead8u);
        ck_assert_uint_eq((uint32_t)le(d + at + 12 + size, 4), (body >> 15 | body << 17) + 0xa282ead8u);
        take_event(d + at + 12, d + at + 12 + size, out);
        at += size + 16;
    }
    ck_assert_uint_eq(at, n);
    mem_free(d);
}

static const char *event_file(const char *dir)
{
    char **names;
    size_t n;
    const char *path = NULL;
    OK(io_list(dir, 1000, &names, &n));
    for (size_t i = 0; i < n; i++)
        if (strncmp(names[i], "events.out.tfevents.", 20) == 0) {
            ck_assert_msg(!path, "two event files");
            path = test_path(dir, names[i]);
        }
    io_list_free(names, n);
    ck_assert_msg(path != NULL, "no event file");
    return path;
}

/* All numbers of metrics.jsonl, under TensorBoard's names: "loss/kl". */
static void flatten(const json_t *o, const char *prefix, uint64_t step, scalars *out)
{
    const char *key;
    const json_t *v;
    json_object_foreach((json_t *)(uintptr_t)o, key, v) {
        if (!*prefix && (strcmp(key, "time") == 0 || strcmp(key, "step") == 0))
            continue;
        if (json_is_object(v)) {
            flatten(v, key, step, out);
        } else if (json_is_number(v)) {
            scalar *s = &out->at[out->n++];
            snprintf(s->tag, sizeof s->tag, "%s%s%s", prefix, *prefix ? "/" : "", key);
            for (char *c = s->tag; *c; c++)
                *c = *c == '.' ? '/' : *c;
            s->step = step;
            s->value = (float)json_number_value(v);
        }
    }
}

static void same_scalars(const scalars *a, const scalars *b)
{
    ck_assert_uint_eq(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        size_t k = 0;
        while (k < b->n && (strcmp(a->at[i].tag, b->at[k].tag) || a->at[i].step != b->at[k].step ||
                            memcmp(&a->at[i].value, &b->at[k].value, 4)))
            k++;
        ck_assert_msg(k < b->n, "%s of step %d = %g has no counterpart", a->at[i].tag, (int)a->at[i].step,
                      (double)a->at[i].value);
    }
}

static const char *logged_run(const char *dir)
{
    const char *in = test_path(dir, "run");
    loop_result r;
    toy_make(dir);
    job *j = toy_job(dir, ARGS("train.log_every=2", "hint.auto.pairs=2", "data.augment=crop:1"));
    log_set_sink(ignore, NULL);
    OK(run_loop(j, (loop_options){.dir = in}, &r));
    evaluation_free(&r.last);
    config_free(j);
    return in;
}

START_TEST(tensorboard_has_what_metrics_jsonl_has)
{
    static scalars events, lines;
    const char *in = logged_run(test_tmp_dir());
    size_t n;
    json_t **rows = read_events(in, &n);
    for (size_t i = 0; i < n; i++)
        flatten(rows[i], "", (uint64_t)json_integer_value(json_object_get(rows[i], "step")), &lines);
    read_event_file(event_file(in), &events);
    ck_assert(events.versioned);
    ck_assert_uint_gt(lines.n, 100);
    bool hint = false;
    for (size_t i = 0; i < events.n; i++)
        hint |= strcmp(events.at[i].tag, "loss/hint/auto1") == 0;
    ck_assert_msg(hint, "no hint loss");
    same_scalars(&events, &lines);
}
END_TEST

/* The real TensorBoard reads the same. */
START_TEST(tensorboard_itself_reads_the_file)
{
    static const char script[] = "import sys\n"
                                 "from tensorboard.backend.event_processing.event_accumulator import EventAccumulator\n"
                                 "a = EventAccumulator(sys.argv[1], size_guidance={'scalars': 0})\n"
                                 "a.Reload()\n"
                                 "for t in a.Tags()['scalars']:\n"
                                 "    for e in a.Scalars(t): print(t, e.step, float(e.value).hex())\n";
    static scalars ours, theirs;
    const char *python = test_python("tensorboard"), *dir = test_tmp_dir();
    if (!python) {
        test_skip("tensorboard_itself_reads_the_file", "no python with tensorboard (DISTILL_PYTHON names one)");
        return;
    }
    const char *in = logged_run(dir), *file = save_text(dir, "read.py", script);
    char command[9000], tag[80], number[80];
    unsigned long long step;
    read_event_file(event_file(in), &ours);
    snprintf(command, sizeof command, "'%s' '%s' '%s' 2>'%s'", python, file, in, test_path(dir, "err"));
    FILE *p = popen(command, "r");
    ck_assert(p != NULL);
    while (fscanf(p, "%79s %llu %79s", tag, &step, number) == 3) {
        scalar *s = &theirs.at[theirs.n++];
        snprintf(s->tag, sizeof s->tag, "%s", tag);
        s->step = step;
        s->value = (float)strtod(number, NULL);
    }
    ck_assert_int_eq(pclose(p), 0);
    same_scalars(&ours, &theirs);
}
END_TEST

/* A number that is not finite reaches both logs. */
START_TEST(numbers_that_are_not_finite_are_logged)
{
    static scalars events;
    const char *dir = test_tmp_dir();
    metrics m;
    size_t n;
    OK(metrics_open(&m, dir));
    OK(metrics_event(&m, "step", 3, (metric[]){{"loss.total", (double)NAN}, {"loss.ce", HUGE_VAL}, {"lr", 0.5}}, 3, "why", "a \"b\""));
    OK(metrics_sync(&m));
    metrics_close(&m);
    json_t **rows = read_events(dir, &n);
    ck_assert_uint_eq(n, 1);
    const json_t *loss = json_object_get(rows[0], "loss");
    ck_assert_str_eq(text_of(loss, "total_nonfinite"), "nan");
    ck_assert_str_eq(text_of(loss, "ce_nonfinite"), "inf");
    ck_assert(json_is_null(json_object_get(loss, "total")));
    ck_assert_str_eq(text_of(rows[0], "why"), "a \"b\"");
    ck_assert(json_number_value(json_object_get(rows[0], "lr")) == 0.5);
    read_event_file(event_file(dir), &events);
    ck_assert(events.n == 3 && isnan(events.at[0].value) && isinf(events.at[1].value));
}
END_TEST

/* ---- the frozen teacher ---- */

#define XS(x) ((const void *const[]){x})

static void open_frozen(const char *path, int64_t rows, frozen_net *t, backend **b)
{
    onnx_model *m;
    graph *g;
    OK(backend_open("cpu", &(backend_options){.threads = 2, .max_isa = ISA_AVX512}, b));
    OK(onnx_open(path, NULL, &m));
    OK(onnx_import(m, &(import_options){.batch = rows}, &g));
    onnx_close(m);
    OK(frozen_open(g, *b, 0, t));
}

START_TEST(a_samples_outputs_do_not_depend_on_its_neighbours)
{
    enum { N = 37 };
    const char *dir = test_tmp_dir();
    toy_make(dir);
    static const char *const models[] = {NULL, SOURCE_DIR "/data/fashion-teacher.onnx"};
    for (int k = 0; k < 2; k++) {
        frozen_net t;
        backend *b;
        rng r = rng_make(3, RNG_TEST, 0, 0);
        open_frozen(models[k] ? models[k] : test_path(dir, "teacher.onnx"), 8, &t, &b);
        float *x, *want, *have;
        size_t c = t.width[0], each = t.in.port[0].bytes / sizeof(float);
        OK(mem_alloc(&x, N * each, sizeof *x));
        OK(mem_alloc(&want, N * c, sizeof *want));
        OK(mem_alloc(&have, N * c, sizeof *have));
        for (size_t i = 0; i < N * each; i++)
            x[i] = (float)rng_normal(&r);
        OK(frozen_run(&t, XS(x), N, &want));
        ck_assert(memcmp(want, want + c, c * sizeof *want) != 0);
        for (size_t i = 0; i < N; i++) { /* alone, then at every place among others */
            OK(frozen_run(&t, XS(x + i * each), 1, &have));
            ck_assert_msg(memcmp(have, want + i * c, c * sizeof *have) == 0, "model %d, sample %zu alone", k, i);
        }
        for (size_t from = 1; from < 9; from++) {
            float *rest = have;
            OK(frozen_run(&t, XS(x + from * each), N - from, &rest));
            ck_assert_msg(memcmp(have, want + from * c, (N - from) * c * sizeof *have) == 0, "model %d, from %zu", k, from);
        }
        mem_free(x);
        mem_free(want);
        mem_free(have);
        frozen_close(&t);
        backend_close(b);
    }
}
END_TEST

START_TEST(remembered_is_what_a_fresh_run_gives)
{
    enum { SAMPLES = 20, VIEWS = 2, ROUNDS = 60, B = 13 };
    const char *dir = test_tmp_dir();
    frozen_net t;
    backend *b;
    toy_make(dir);
    open_frozen(test_path(dir, "teacher.onnx"), 8, &t, &b);
    size_t each = t.in.port[0].bytes / sizeof(float);
    float *pool, x[B * TOY_SIZE * TOY_SIZE], want[B * TOY_CLASSES], have[B * TOY_CLASSES], *out = want, *hand = have;
    uint32_t index[B], view[B];
    rng r = rng_make(4, RNG_TEST, 0, 0);
    OK(mem_alloc(&pool, VIEWS * SAMPLES * each, sizeof *pool));
    for (size_t i = 0; i < VIEWS * SAMPLES * each; i++)
        pool[i] = (float)rng_normal(&r);
    const size_t width = TOY_CLASSES;
    OK(frozen_remember(&t, &(cache_options){.code = {.n_out = 1, .width = &width}, .views = VIEWS, .samples = SAMPLES, .rows = SAMPLES}));
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < B; i++) { /* the same sample may come twice in a batch */
            index[i] = rng_below(&r, SAMPLES);
            view[i] = rng_below(&r, VIEWS);
            memcpy(x + (size_t)i * each, pool + ((size_t)view[i] * SAMPLES + index[i]) * each, each * sizeof *x);
        }
        OK(frozen_run_remembered(&t, t.cache, XS(x), B, index, view, &hand));
        OK(frozen_run(&t, XS(x), B, &out));
        ck_assert_msg(memcmp(have, want, sizeof want) == 0, "round %d", round);
    }
    ck_assert_uint_eq(t.runs - ROUNDS * B, VIEWS * SAMPLES); /* each was computed once */
    ck_assert_uint_eq(cache_measure(t.cache).hits, ROUNDS * B - VIEWS * SAMPLES);
    mem_free(pool);
    frozen_close(&t);
    backend_close(b);
}
END_TEST

const test_entry test_table[] = {TEST(a_step_that_is_not_finite_changes_nothing),
                                 TEST(overflow_in_the_student_names_its_values),
                                 TEST(a_loss_that_overflows_alone_skips_the_step),
                                 TEST(skipped_steps_are_logged_and_counted),
                                 TEST(many_in_a_row_end_the_run),
                                 TEST(steps_allocate_nothing),
                                 TEST(planned_memory_is_what_the_process_takes),
                                 TEST(schedules_are_those_of_pytorch),
                                 TEST(ramps_end_where_they_should),
                                 TEST(tensorboard_has_what_metrics_jsonl_has),
                                 TEST(tensorboard_itself_reads_the_file),
                                 TEST(numbers_that_are_not_finite_are_logged),
                                 TEST(a_samples_outputs_do_not_depend_on_its_neighbours),
                                 TEST(remembered_is_what_a_fresh_run_gives),
                                 {0}};
