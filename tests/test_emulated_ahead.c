/* test_emulated_ahead.c - the teacher ahead of the student (teacher.ahead): steps are those of a teacher that runs batch by batch, on
 * the CPU and on the device; resumed within a group they are the same bits; evaluations, watchers and hosts that are ahead
 * change nothing. */
#include "harness.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/log.h"
#include "emulator/emulator_control.h"
#include "toy.h"
#include "train/checkpoint.h"
#include "train/session_ahead.h"
#include "train/session_qat.h"

#include <math.h>
#include <stdio.h>

enum { STEPS = 7, MIDDLE = 3, HINTS = 8 };

#define MLP "student.arch=mlp", "student.widths=", "student.depth=auto", "student.hidden=12"

typedef struct trail {
    double total[STEPS], kl[STEPS];
    uint64_t after[STEPS], samples; /* that the teacher saw */
    bool on_device;
    size_t kernels;
} trail;

typedef struct way { /* in which a run is made */
    const char *device, *ahead, *more[4];
    uint64_t from; /* resumed from `mid`; 0: `mid` is written after MIDDLE steps */
    bool watched, evaluated, overlapped;
} way;

static void watch(void *ctx, session_part part, double begin, double end, const batch *b)
{
    (void)ctx, (void)part, (void)begin, (void)end, (void)b;
}

static job *open_job(const char *dir, const char *const *set, const way *w)
{
    const char *all[24] = {w->device, w->ahead, "train.steps=7"};
    size_t n = 3;
    for (size_t i = 0; set[i]; i++)
        all[n++] = set[i];
    for (size_t i = 0; w->more[i]; i++)
        all[n++] = w->more[i];
    return toy_job(dir, all);
}

static void note(trail *t, uint64_t step, const step_result *r)
{
    ck_assert(r->finite);
    t->total[step] = r->total;
    t->kl[step] = r->kl;
}

/* Steps [from, STEPS) as the loop makes them when the host is ahead. */
static void overlapped(session *s, uint64_t from, trail *t)
{
    double hint[HINTS];
    step_result r = {.hint = hint};
    uint64_t done = from;
    for (uint64_t k = from; k < STEPS; k++) {
        OK(session_begin_step(s, k));
        for (; k + 1 - done > (k + 1 < STEPS ? session_steps_ahead(s) : 0); done++) {
            OK(session_end_step(s, &r));
            note(t, done, &r);
        }
    }
    t->after[STEPS - 1] = toy_hash(&s->params);
}

static void one_by_one(session *s, const way *w, const char *mid, trail *t)
{
    double hint[HINTS];
    step_result r = {.hint = hint};
    for (uint64_t k = w->from; k < STEPS; k++) {
        evaluation e = {0};
        if (!w->from && k == MIDDLE)
            OK(checkpoint_write(mid, &s->params, NULL, 0));
        if (w->evaluated && k % 3 == 2)
            OK(session_evaluate(s, &e));
        evaluation_free(&e);
        if (w->watched) /* steps of both kinds in one group */
            s->seen = k % 3 == 1 ? NULL : watch;
        OK(session_step(s, k, &r));
        note(t, k, &r);
        t->after[k] = toy_hash(&s->params);
    }
}

static trail run(const char *dir, const char *const *set, way w)
{
    const limits lim = limits_default();
    const char *mid = test_path(dir, "mid.safetensors");
    static trail t;
    session s;
    memset(&t, 0, sizeof t);
    job *j = open_job(dir, set, &w);
    OK(session_open(j, &s));
    ck_assert_int_eq(s.together, j->teacher.ahead > 1 ? j->teacher.ahead : 1);
    if (w.from) {
        checkpoint c;
        OK(checkpoint_read(mid, &lim, &c));
        OK(checkpoint_restore(&c, &s.params));
        checkpoint_free(&c);
        session_seek(&s, w.from);
    }
    if (w.overlapped)
        overlapped(&s, w.from, &t);
    else
        one_by_one(&s, &w, mid, &t);
    t.samples = s.t.runs;
    t.on_device = s.near != NULL;
    t.kernels = session_kernels(&s);
    session_close(&s);
    config_free(j);
    return t;
}

static void same_bits(const trail *a, const trail *b, uint64_t from, const char *what, size_t row)
{
    for (uint64_t k = from; k < STEPS; k++) {
        ck_assert_msg(memcmp(&a->total[k], &b->total[k], sizeof a->total[k]) == 0, "job %zu, %s: the loss of step %d is %.17g, not %.17g", row, what,
                      (int)k, b->total[k], a->total[k]);
        ck_assert_msg(!a->after[k] || !b->after[k] || a->after[k] == b->after[k], "job %zu, %s: weights after step %d differ", row, what, (int)k);
    }
    ck_assert_msg(a->after[STEPS - 1] == b->after[STEPS - 1], "job %zu, %s: weights differ at last", row, what);
}

/* Kernels may be chosen by the size of a batch. */
static void close_to(const trail *a, const trail *b, const char *what, size_t row)
{
    for (int k = 0; k < STEPS; k++)
        ck_assert_msg(fabs(a->total[k] - b->total[k]) <= 1e-4 * fabs(a->total[k]), "job %zu, %s: the loss of step %d is %.9g, not %.9g", row,
                      what, k, b->total[k], a->total[k]);
}

/* Fresh augmentation; micro batches, whose groups begin within steps; mixed samples, hints, averages; passes that end within a
 * batch and within a group, float labels left out; hints alone. */
static const char *const jobs[][12] = {
    {"data.augment=crop:1 flip", "train.batch=4", "data.loaders=2", NULL},
    {MLP, "train.accumulate=3", "train.batch=4", "train.optimizer=adam", "train.lr=0.01", "data.augment=flip", NULL},
    {"data.augment=mixup:0.4 cutout:2", "hint.auto.pairs=2", "train.batch=4", "train.ema=0.9", "train.precision=fp32", NULL},
    {MLP, "data.drop_last=false", "data.samples=0:26", "train.batch=8", "data.labelled=0:9", NULL},
    {"distill.kd=0", "hint.auto.pairs=1", "train.batch=4", "train.precision=fp32", NULL},
};
enum { JOBS = sizeof jobs / sizeof *jobs };

#define CPU      "exec.device=cpu"
#define EMULATED "exec.device=emulated"

START_TEST(on_the_cpu)
{
    for (size_t i = 0; i < JOBS; i++) {
        const char *dir = test_tmp_dir();
        toy_make(dir);
        const trail one = run(dir, jobs[i], (way){.device = CPU, .ahead = "teacher.ahead=auto"});
        const trail four = run(dir, jobs[i], (way){.device = CPU, .ahead = "teacher.ahead=4"});
        close_to(&one, &four, "4 batches at once", i);
        if (i == 0) /* seven batches are two groups */
            ck_assert_uint_eq(four.samples, 8 * 4);
        const trail rest = run(dir, jobs[i], (way){.device = CPU, .ahead = "teacher.ahead=4", .from = MIDDLE});
        same_bits(&four, &rest, MIDDLE, "resumed", i);
        const trail seen = run(dir, jobs[i], (way){.device = CPU, .ahead = "teacher.ahead=4", .more = {"exec.threads=2"}, .watched = true, .evaluated = true});
        same_bits(&four, &seen, 0, "watched and evaluated", i);
        const trail three = run(dir, jobs[i], (way){.device = CPU, .ahead = "teacher.ahead=3"});
        close_to(&one, &three, "3 batches at once", i);
    }
}
END_TEST

START_TEST(on_the_device)
{
    const emulator_counts was = *emulator_count();
    for (size_t i = 0; i < JOBS; i++) {
        const char *dir = test_tmp_dir();
        toy_make(dir);
        const trail one = run(dir, jobs[i], (way){.device = EMULATED, .ahead = "teacher.ahead=1", .more = {"data.device=on"}});
        const trail four = run(dir, jobs[i], (way){.device = EMULATED, .ahead = "teacher.ahead=4", .more = {"data.device=on"}});
        ck_assert(one.on_device && four.on_device);
        close_to(&one, &four, "4 batches at once", i);
        ck_assert_msg(four.kernels <= one.kernels + 5, "job %zu: %zu kernels a step, %zu batch by batch", i, four.kernels, one.kernels);
        const trail rest = run(dir, jobs[i], (way){.device = EMULATED, .ahead = "teacher.ahead=4", .more = {"data.device=on"}, .from = MIDDLE});
        same_bits(&four, &rest, MIDDLE, "resumed", i);
        const trail far = run(dir, jobs[i], (way){.device = EMULATED, .ahead = "teacher.ahead=4", .more = {"data.device=off"}, .evaluated = true});
        same_bits(&four, &far, 0, "samples from the host, evaluated", i);
        const trail early = run(dir, jobs[i], (way){.device = EMULATED, .ahead = "teacher.ahead=4", .more = {i % 2 ? "data.device=on" : "data.device=off"}, .overlapped = true});
        same_bits(&four, &early, 0, "with steps ahead", i);
        if (i < 2) {
            const trail seen = run(dir, jobs[i], (way){.device = EMULATED, .ahead = "teacher.ahead=4", .more = {i == 1 ? "data.device=off" : "data.device=on"}, .watched = true,
                                                       .evaluated = true});
            same_bits(&four, &seen, 0, "watched", i);
        }
    }
    ck_assert_uint_eq(emulator_count()->memory, was.memory);
    ck_assert_uint_eq(emulator_count()->damaged, was.damaged);
}
END_TEST

/* A deep teacher of small batches: its kernels are launched once for several steps. */
START_TEST(fewer_launches)
{
    static const char *const set[] = {MLP, "train.batch=4", NULL};
    const char *dir = test_tmp_dir();
    toy_make(dir);
    toy_model("[student]\narch = resnet\nwidths = 4 4\ndepth = 10\n", test_path(dir, "teacher.onnx"));
    const trail one = run(dir, set, (way){.device = EMULATED, .ahead = "teacher.ahead=1"}), four = run(dir, set, (way){.device = EMULATED, .ahead = "teacher.ahead=4"});
    close_to(&one, &four, "4 batches at once", 0);
    ck_assert_uint_lt(four.kernels, one.kernels);
}
END_TEST

/* Groups so large that they are copied to the device beside the steps. */
START_TEST(large_groups)
{
    static const char *const set[] = {MLP, "train.batch=80", "data.drop_last=false", NULL};
    const char *dir = test_tmp_dir();
    toy_make(dir);
    toy_model("[student]\narch = mlp\nhidden = 8\n", test_path(dir, "teacher.onnx"));
    const trail near = run(dir, set, (way){.device = EMULATED, .ahead = "teacher.ahead=4", .more = {"data.device=on"}});
    const trail far = run(dir, set, (way){.device = EMULATED, .ahead = "teacher.ahead=4", .more = {"data.device=off"}, .overlapped = true});
    const trail few = run(dir, set, (way){.device = EMULATED, .ahead = "teacher.ahead=4", .more = {"data.device=off", "train.metrics_every=2"},
                                          .overlapped = true});
    same_bits(&near, &far, 0, "copied beside", 0);
    same_bits(&near, &few, 0, "copied beside, two steps under way", 0);
}
END_TEST

/* Whatever call fails: a clean error, nothing left behind. */
START_TEST(calls_that_fail)
{
    static const char *const set[] = {MLP, "train.batch=4", "train.metrics_every=3", NULL};
    const emulator_counts was = *emulator_count();
    const char *dir = test_tmp_dir();
    size_t calls = 1000, failed = 0;
    toy_make(dir);
    toy_model("[student]\narch = mlp\nhidden = 8\n", test_path(dir, "teacher.onnx"));
    job *j = open_job(dir, set, &(way){.device = EMULATED, .ahead = "teacher.ahead=2"});
    for (size_t at = 0; at < calls; at += at < 20 ? 20 : 7) {
        double hint[HINTS];
        step_result r = {.hint = hint};
        session s;
        emulator_fail(at, at);
        status st = session_open(j, &s);
        const bool open = st == ST_OK;
        for (uint64_t k = 0; k < 5 && st == ST_OK; k++)
            st = session_step(&s, k, &r);
        if (open)
            session_close(&s);
        const char *call = emulator_failed_call();
        calls = at ? calls : emulator_calls();
        emulator_fail(0, 0);
        ck_assert_msg(at || st == ST_OK, "%s", status_message());
        ck_assert_msg(st == ST_OK || (call && *status_message()), "call %zu", at);
        failed += st != ST_OK;
        ck_assert_uint_eq(emulator_count()->memory, was.memory);
        ck_assert_uint_eq(emulator_count()->host_memory, was.host_memory);
        ck_assert_uint_eq(emulator_count()->events, was.events);
        ck_assert_uint_eq(emulator_count()->graphs, was.graphs);
    }
    ck_assert_uint_gt(failed, 10);
    config_free(j);
}
END_TEST

static char said[2000];
static void listen(log_level level, const char *line, void *ctx)
{
    (void)level, (void)ctx;
    snprintf(said, sizeof said, "%s", line);
}

/* What auto does where times mean something, on a device whose times mean nothing: any answer will do, but what it tried has to be
 * gone; and what does not fit is not taken. */
START_TEST(measured)
{
    static const char *const set[] = {"train.batch=4", "train.precision=fp32", NULL};
    const char *dir = test_tmp_dir();
    session s;
    toy_make(dir);
    log_set_sink(listen, NULL);
    job *j = open_job(dir, set, &(way){.device = EMULATED, .ahead = "teacher.ahead=auto"});
    OK(session_open(j, &s));
    ck_assert_int_eq(s.together, 1); /* the emulator is not timed */
    exec_chain_close(s.chain);
    s.chain = NULL;
    frozen_close(&s.t);
    onnx_close(s.teacher_file);
    OK(session_open_teacher_file(&s));
    const size_t taken = s.b->taken;
    for (int full = 0; full < 2; full++) {
        said[0] = 0;
        if (full)
            emulator_memory(taken + 60000); /* two batches take more than a quarter of it */
        OK(group_measure(&s));
        ck_assert(s.together == 1 || (!full && (s.together == 2 || s.together == 4 || s.together == 8)));
        ck_assert_uint_eq(s.b->taken, taken);
        ck_assert_ptr_null(s.t.e);
        ck_assert_msg(strstr(said, "at once (teacher.ahead = auto)") != NULL, "%s", said);
    }
    emulator_memory((size_t)4 << 30);
    session_close(&s);
    config_free(j);
}
END_TEST

/* A run that goes on takes what was chosen when it began. */
START_TEST(recalled)
{
    static const struct {
        const char *was, *now;
        int64_t want;
    } rows[] = {{"[teacher]\nahead = 4\n", "teacher.ahead=auto", 4}, {"[teacher]\nahead = auto\n", "teacher.ahead=auto", 1},
                {"[train]\nbatch = 3\n", "teacher.ahead=auto", 1},   {"[teacher]\nahead = 4\n", "teacher.ahead=2", 2},
                {NULL, "teacher.ahead=auto", 0}};
    static const char *const nothing[] = {NULL};
    const char *dir = test_tmp_dir();
    toy_make(dir);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *before = test_path(dir, "config.ini");
        session s = {.together = 8};
        job *j = open_job(dir, nothing, &(way){.device = CPU, .ahead = rows[i].now});
        if (rows[i].was)
            OK(io_write_file(before, rows[i].was, strlen(rows[i].was)));
        OK(group_recall(j, rows[i].was ? before : i % 2 ? NULL : test_path(dir, "none.ini")));
        ck_assert_int_eq(j->teacher.ahead, rows[i].want);
        group_keep(&s, j);
        ck_assert_int_eq(j->teacher.ahead, rows[i].want ? rows[i].want : 8);
        config_free(j);
    }
}
END_TEST

START_TEST(what_cannot_be)
{
    static const char *const nothing[] = {NULL}, *const alone[] = {"distill.kd=0", NULL}, *const mixed[] = {"cache.views=2", "data.augment=mixup:0.3", NULL};
    const char *dir = test_tmp_dir();
    session s;
    toy_make(dir);
    job *j = open_job(dir, nothing, &(way){.device = CPU, .ahead = "teacher.ahead=2", .more = {"teacher.batch=8"}});
    FAILS(ST_CONFIG, "teacher.batch", session_open(j, &s));
    config_free(j);
    j = open_job(dir, nothing, &(way){.device = CPU, .ahead = "teacher.ahead=2", .more = {"cache.views=2"}});
    FAILS(ST_CONFIG, "cache.views", session_open(j, &s));
    config_free(j);
    j = open_job(dir, alone, &(way){.device = CPU, .ahead = "teacher.ahead=2"}); /* nobody asks the teacher */
    OK(session_open(j, &s));
    ck_assert_int_eq(s.together, 1);
    session_close(&s);
    config_free(j);
    j = open_job(dir, mixed, &(way){.device = CPU, .ahead = "teacher.ahead=2"}); /* nothing is remembered */
    OK(session_open(j, &s));
    ck_assert_int_eq(s.together, 2);
    session_close(&s);
    config_free(j);
}
END_TEST

/* A key that is as if it were not there does not keep a run of an earlier version from going on. */
START_TEST(what_is_hashed)
{
    static const char *const nothing[] = {NULL};
    static const char *const kinds[] = {"teacher.ahead=auto", "teacher.ahead=1", "teacher.ahead=2"};
    const char *dir = test_tmp_dir();
    char hash[3][65];
    toy_make(dir);
    for (int i = 0; i < 3; i++) {
        job *j = open_job(dir, nothing, &(way){.device = CPU, .ahead = kinds[i]});
        OK(config_hash(j, hash[i]));
        config_free(j);
    }
    ck_assert_str_eq(hash[0], hash[1]);
    ck_assert_str_ne(hash[0], hash[2]);
}
END_TEST

/* The plan's figure holds the teacher's activations for all samples, and on a device the tables. */
START_TEST(memory)
{
    static const char *const nothing[] = {NULL}, *const devices[] = {CPU, EMULATED};
    const char *dir = test_tmp_dir();
    toy_make(dir);
    for (int d = 0; d < 2; d++) {
        size_t teacher[2], tables = 0;
        for (int i = 0; i < 2; i++) {
            session s;
            job *j = open_job(dir, nothing, &(way){.device = devices[d], .ahead = i ? "teacher.ahead=4" : "teacher.ahead=1"});
            OK(session_open(j, &s));
            teacher[i] = session_measure_memory(&s).teacher;
            tables = group_bytes(&s);
            session_close(&s);
            config_free(j);
        }
        ck_assert_uint_eq(tables, d ? 5 * 16 * (TOY_SIZE * TOY_SIZE + TOY_CLASSES) * sizeof(float) : 0);
        ck_assert_uint_gt(teacher[1], 2 * teacher[0] + tables);
    }
}
END_TEST

/* Batches stay what they are while they are kept. */
START_TEST(kept_batches)
{
    static const char *const nothing[] = {NULL};
    const char *dir = test_tmp_dir();
    toy_make(dir);
    job *j = open_job(dir, nothing, &(way){.device = CPU, .ahead = "teacher.ahead=1"});
    session s;
    OK(session_open(j, &s));
    for (uint32_t threads = 0; threads < 3; threads++) {
        loader_options o = loader_train_options(7, 3);
        loader *one, *five;
        const batch *b;
        batch kept[5];
        uint64_t hash[5];
        o.threads = threads;
        OK(loader_open(s.ds, &o, &one));
        o.keep = 5;
        OK(loader_open(s.ds, &o, &five));
        for (int k = 0; k < 43; k++) {
            if (k == 20) {
                loader_seek(one, 3);
                loader_seek(five, 3);
            }
            OK(loader_next(one, &b));
            hash[k % 5] = hash_xxh3(b->x[0], 7 * TOY_SIZE * TOY_SIZE * sizeof(float));
            OK(loader_next(five, &b));
            kept[k % 5] = *b;
            for (int i = 0; i < 5 && (k >= 24 || (k >= 4 && k < 20)); i++)
                ck_assert(hash_xxh3(kept[i].x[0], 7 * TOY_SIZE * TOY_SIZE * sizeof(float)) == hash[i]);
        }
        loader_close(one);
        loader_close(five);
    }
    session_close(&s);
    config_free(j);
}
END_TEST

/* Training with rounding goes on with the same teacher. */
START_TEST(with_rounding)
{
    static const char *const set[] = {"data.augment=flip", "train.batch=8", "quant.epochs=1", NULL};
    double total[3][5];
    const char *dir = test_tmp_dir();
    toy_make(dir);
    for (int i = 0; i < 3; i++) {
        const way w = {.device = i == 2 ? EMULATED : CPU, .ahead = i ? "teacher.ahead=4" : "teacher.ahead=1"};
        job *j = open_job(dir, set, &w);
        double hint[HINTS];
        step_result r = {.hint = hint};
        session base, s;
        evaluation e = {0};
        OK(session_open(j, &base));
        for (uint64_t k = 0; k < 2; k++)
            OK(session_step(&base, k, &r));
        OK(session_open_qat(&base, "int8-qat", &s));
        for (uint64_t k = 0; k < 5; k++) {
            OK(session_step(&s, k, &r));
            total[i][k] = r.total;
            if (k == 2)
                OK(session_evaluate(&s, &e));
        }
        evaluation_free(&e);
        session_close_qat(&s);
        OK(session_step(&base, 2, &r)); /* in the middle of its group */
        session_close(&base);
        config_free(j);
    }
    for (int k = 0; k < 5; k++) {
        ck_assert_double_eq_tol(total[0][k], total[1][k], 1e-4);
        ck_assert_double_eq_tol(total[0][k], total[2][k], 1e-2);
    }
}
END_TEST

const test_entry test_table[] = {TEST(on_the_cpu), TEST(on_the_device), TEST(fewer_launches), TEST(large_groups), TEST(calls_that_fail), TEST(measured), TEST(recalled),
                                 TEST(what_cannot_be), TEST(what_is_hashed),
                                 TEST(memory), TEST(kept_batches), TEST(with_rounding), {0}};
