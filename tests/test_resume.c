/* test_resume.c - a run that was stopped and resumed anywhere is the run that was not stopped, bit for bit. */
#include "harness.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "toy.h"
#include "train/checkpoint.h"
#include "train/job_spec.h"
#include "train/loop.h"

#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum { STEPS = 24 };

/* Between them everything that a step depends on: every optimizer state, averages, accumulation, fixed and fresh views,
 * remembered teacher outputs, hints, mixup, dropout, schedules, passes shorter and longer than an epoch. */
static const char *const variants[][12] = {
    {"data.augment=crop:1 flip", "cache.views=2", "train.clip=0.3"},
    {"train.optimizer=adam", "train.lr=0.01", "train.accumulate=3", "train.batch=8", "train.ema=0.9", "train.steps=24",
     "distill.label_smoothing=0.1"},
    {"train.optimizer=adamw", "train.lr=0.01", "data.augment=mixup:0.4 cutout:2", "distill.temperature_end=2",
     "distill.task_end=0", "hint.auto.pairs=2", "train.schedule=onecycle", "student.dropout=0.3"},
    {"data.samples=0:21", "data.labelled=0:5", "train.steps_per_epoch=6", "train.momentum=0", "train.nesterov=false",
     "distill.kd_end=0.1", "distill.ramp=cosine", "student.arch=wrn", "student.widths=2 4", "student.depth=8",
     "student.dropout=0.2"},
    {"student.arch=mlp", "student.widths=", "student.depth=auto", "student.hidden=12", "train.warmup=1", "data.loaders=3",
     "train.decoupled=true", "data.drop_last=false", "data.samples=0:90", "train.steps=24", "exec.threads=2"},
};
enum { VARIANTS = sizeof variants / sizeof *variants };

typedef struct trail { /* of a run, step by step */
    uint64_t after[STEPS + 1];
    step_result r[STEPS];
    double hint[STEPS][4];
} trail;

static void one_step(session *s, uint64_t step, trail *t)
{
    t->r[step].hint = t->hint[step];
    OK(session_step(s, step, &t->r[step]));
    t->after[step + 1] = toy_hash(&s->params);
}

static bool same_number(double a, double b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

static void compare_step(const trail *a, const trail *b, size_t n_hint, int variant, uint64_t from, uint64_t step)
{
    const step_result *x = &a->r[step], *y = &b->r[step];
    bool same = same_number(x->total, y->total) && same_number(x->task, y->task) && same_number(x->kl, y->kl) &&
                same_number(x->norm, y->norm) && same_number(x->lr, y->lr) && same_number(x->correct, y->correct) &&
                same_number(x->agree, y->agree) && memcmp(x->hint, y->hint, n_hint * sizeof *x->hint) == 0;
    ck_assert_msg(same, "variant %d, resumed at %llu: figures of step %llu differ", variant, (unsigned long long)from,
                  (unsigned long long)step);
    ck_assert_msg(a->after[step + 1] == b->after[step + 1], "variant %d, resumed at %llu: weights after step %llu differ",
                  variant, (unsigned long long)from, (unsigned long long)step);
}

START_TEST(resume_is_bitwise_at_every_step)
{
    static trail whole, part;
    arena mem = {0};
    for (int v = 0; v < VARIANTS; v++) {
        const char *dir = test_tmp_dir(), *path;
        session s;
        toy_make(dir);
        job *j = toy_job(dir, variants[v]);
        limits lim = limits_default();
        OK(session_open(j, &s));
        ck_assert_uint_eq(s.steps, STEPS);
        size_t n_hint = s.n_hint;
        ck_assert_uint_eq(n_hint, v == 2 ? 2 : 0);
        whole.after[0] = toy_hash(&s.params);
        for (uint64_t k = 0; k < STEPS; k++) {
            OK(checkpoint_path(&mem, dir, k, &path));
            OK(checkpoint_write(path, &s.params, NULL, 0));
            one_step(&s, k, &whole);
            ck_assert_msg(whole.after[k] != whole.after[k + 1], "variant %d: step %d changed nothing", v, (int)k);
        }
        session_close(&s);
        for (uint64_t from = 0; from < STEPS; from++) {
            checkpoint c;
            OK(session_open(j, &s));
            OK(checkpoint_path(&mem, dir, from, &path));
            OK(checkpoint_read(path, &lim, &c));
            OK(checkpoint_restore(&c, &s.params));
            checkpoint_free(&c);
            session_seek(&s, from);
            ck_assert(toy_hash(&s.params) == whole.after[from]);
            for (uint64_t k = from; k < STEPS; k++) {
                one_step(&s, k, &part);
                compare_step(&whole, &part, n_hint, v, from, k);
            }
            session_close(&s);
        }
        config_free(j);
    }
    arena_free(&mem);
}
END_TEST

/* What is not in the variants' keys changes nothing: threads, loaders, evaluations in between. */
START_TEST(nothing_else_enters_a_step)
{
    static const char *const others[][4] = {{"exec.threads=2"}, {"data.loaders=4"}, {"cache.memory_limit=1"}, {"exec.threads=3", "data.loaders=2"}};
    static trail whole, part;
    for (int v = 0; v < 3; v++) {
        const char *dir = test_tmp_dir();
        session s;
        toy_make(dir);
        job *j = toy_job(dir, variants[v]);
        OK(session_open(j, &s));
        for (uint64_t k = 0; k < STEPS; k++)
            one_step(&s, k, &whole);
        size_t n_hint = s.n_hint;
        session_close(&s);
        config_free(j);
        for (size_t o = 0; o < sizeof others / sizeof *others; o++) {
            const char *set[20];
            size_t n = 0;
            for (size_t i = 0; variants[v][i]; i++)
                set[n++] = variants[v][i];
            for (size_t i = 0; i < 4 && others[o][i]; i++)
                set[n++] = others[o][i];
            set[n] = NULL;
            j = toy_job(dir, set);
            OK(session_open(j, &s));
            for (uint64_t k = 0; k < STEPS; k++) {
                evaluation e = {0};
                if (k % 5 == o)
                    OK(session_evaluate(&s, &e));
                evaluation_free(&e);
                one_step(&s, k, &part);
                compare_step(&whole, &part, n_hint, v, 0, k);
            }
            session_close(&s);
            config_free(j);
        }
    }
}
END_TEST

START_TEST(another_seed_is_another_run)
{
    const char *dir = test_tmp_dir();
    uint64_t hash[3];
    static const char *const seeds[] = {"train.seed=1", "train.seed=1", "train.seed=2"};
    static trail t;
    toy_make(dir);
    for (int i = 0; i < 3; i++) {
        session s;
        job *j = toy_job(dir, (const char *const[]){seeds[i], NULL});
        OK(session_open(j, &s));
        for (uint64_t k = 0; k < 5; k++)
            one_step(&s, k, &t);
        hash[i] = t.after[5];
        session_close(&s);
        config_free(j);
    }
    ck_assert(hash[0] == hash[1]);
    ck_assert(hash[0] != hash[2]);
}
END_TEST

/* ---- the whole loop ---- */

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

static void read_all(const char *path, unsigned char **data, size_t *n)
{
    OK(io_read_file(path, 1 << 26, data, n));
}

static void same_file(const char *a, const char *b, const char *name)
{
    unsigned char *x, *y;
    size_t n, m;
    read_all(test_path(a, name), &x, &n);
    read_all(test_path(b, name), &y, &m);
    ck_assert_msg(n == m && memcmp(x, y, n) == 0, "%s is not the same", name);
    mem_free(x);
    mem_free(y);
}

/* total and accuracy by step, of the lines that count: what a line says of a step replaces what was said before. */
typedef struct curve_of_run {
    double total[STEPS + 1], accuracy[STEPS + 1];
    unsigned checkpoints, stops, resumes, ends, unreadable;
} curve_of_run;

static void read_metrics(const char *dir, curve_of_run *c)
{
    unsigned char *data;
    size_t n;
    *c = (curve_of_run){0};
    read_all(test_path(dir, "metrics.jsonl"), &data, &n);
    for (char *line = (char *)data, *next; line && *line; line = next) {
        json_error_t e;
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        json_t *row = json_loads(line, 0, &e);
        if (!row) {
            c->unreadable++;
            continue;
        }
        const char *event = json_string_value(json_object_get(row, "event"));
        json_int_t step = json_integer_value(json_object_get(row, "step"));
        ck_assert(event && step >= 0 && step <= STEPS);
        if (strcmp(event, "step") == 0)
            c->total[step] = json_number_value(json_object_get(json_object_get(row, "loss"), "total"));
        if (strcmp(event, "eval") == 0)
            c->accuracy[step] = json_number_value(json_object_get(row, "accuracy"));
        c->checkpoints += strcmp(event, "checkpoint") == 0;
        c->stops += strcmp(event, "stop") == 0;
        c->resumes += strcmp(event, "resume") == 0;
        c->ends += strcmp(event, "end") == 0;
        json_decref(row);
    }
    mem_free(data);
}

/* Sets the flag, as a signal handler does, once metrics.jsonl tells of step `at`. */
typedef struct watcher {
    const char *file;
    uint64_t at;
    volatile sig_atomic_t stop;
    volatile sig_atomic_t done;
} watcher;

static void *watch(void *ctx)
{
    watcher *w = ctx;
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\"step\":%llu,", (unsigned long long)w->at);
    while (!w->done && !w->stop) {
        char buf[1 << 16] = "";
        FILE *f = fopen(w->file, "r");
        if (f) {
            size_t n = fread(buf, 1, sizeof buf - 1, f);
            buf[n] = 0;
            fclose(f);
        }
        if (strstr(buf, wanted))
            w->stop = 1;
        usleep(200);
    }
    return NULL;
}

/* Runs with stops until the end; returns how often it was stopped. */
static unsigned run_with_stops(const job *j, const char *dir, rng *r)
{
    unsigned stops = 0;
    uint64_t done = 0;
    for (bool first = true;; first = false) {
        loop_result result;
        pthread_t thread;
        watcher w = {.file = test_path(dir, "metrics.jsonl"), .at = done + 1 + rng_below(r, 5)};
        loop_options o = {.dir = dir, .resume = !first, .stop = &w.stop};
        ck_assert_int_eq(pthread_create(&thread, NULL, watch, &w), 0);
        status st = run_loop(j, o, &result);
        w.done = 1;
        pthread_join(thread, NULL);
        ck_assert_msg(st == ST_OK || st == ST_STOPPED, "%s", status_message());
        if (st == ST_OK) {
            ck_assert_uint_eq(result.steps_done, STEPS);
            evaluation_free(&result.last);
            return stops;
        }
        ck_assert_msg(strstr(status_message(), "--resume") != NULL, "%s", status_message());
        ck_assert_uint_gt(result.steps_done, done);
        done = result.steps_done;
        stops++;
    }
}

START_TEST(stopped_and_resumed_runs_leave_the_same_files)
{
    unsigned stops = 0;
    rng r = rng_make(11, RNG_TEST, 0, 0);
    for (int v = 0; v < VARIANTS; v++) {
        const char *set[20] = {"train.log_every=1", "train.keep=100"}, *dir = test_tmp_dir();
        const char *a = test_path(dir, "whole"), *b = test_path(dir, "stopped");
        loop_result result;
        curve_of_run x, y;
        for (size_t i = 0; variants[v][i]; i++)
            set[i + 2] = variants[v][i];
        toy_make(dir);
        job *j = toy_job(dir, set);
        OK(run_loop(j, (loop_options){.dir = a}, &result));
        evaluation_free(&result.last);
        unsigned stopped = run_with_stops(j, b, &r);
        stops += stopped;
        config_free(j);
        same_file(a, b, "ckpt/step_00000024.safetensors"); /* the facts too: best accuracy, best step */
        same_file(a, b, "ckpt/best");
        same_file(a, b, "ckpt/last");
        same_file(a, b, "config.ini");
        read_metrics(a, &x);
        read_metrics(b, &y);
        for (int k = 1; k <= STEPS; k++) {
            ck_assert_msg(same_number(x.total[k], y.total[k]) && x.total[k] > 0, "variant %d: loss of step %d: %.17g and %.17g",
                          v, k, x.total[k], y.total[k]);
            ck_assert_msg(same_number(x.accuracy[k], y.accuracy[k]), "variant %d: accuracy after step %d", v, k);
        }
        ck_assert_uint_eq(y.stops, stopped);
        ck_assert_uint_eq(y.resumes, stopped);
        ck_assert_uint_eq(x.ends, 1);
        ck_assert_uint_eq(y.ends, 1);
    }
    printf("%u stops\n", stops);
    ck_assert_uint_ge(stops, 8); /* how many there are depends on when the watching thread gets its turn */
}
END_TEST

/* ---- what a resume checks ---- */

/* A finished run of the toy job in dir/name. */
static const char *finished(const char *dir, const char *name, const char *const *set)
{
    loop_result r;
    const char *in = test_path(dir, name);
    toy_make(dir);
    job *j = toy_job(dir, set);
    OK(run_loop(j, (loop_options){.dir = in}, &r));
    evaluation_free(&r.last);
    config_free(j);
    return in;
}

static status resume_as(const char *dir, const char *in, const char *const *set, bool force)
{
    loop_result r;
    job *j = toy_job(dir, set);
    status st = run_loop(j, (loop_options){.dir = in, .resume = true, .force_resume = force}, &r);
    if (st == ST_OK)
        evaluation_free(&r.last);
    config_free(j);
    return st;
}

START_TEST(a_changed_job_is_not_resumed)
{
    const char *dir = test_tmp_dir(), *in = finished(dir, "run", NULL);
    OK(resume_as(dir, in, NULL, false)); /* nothing to do, and that is fine */
    OK(resume_as(dir, in, (const char *const[]){"train.keep=1", "exec.threads=2", "train.log_every=3", NULL}, false));
    FAILS(ST_CONFIG, "the config changed", resume_as(dir, in, (const char *const[]){"train.lr=0.04", NULL}, false));
    OK(resume_as(dir, in, (const char *const[]){"train.lr=0.04", NULL}, true));
    FAILS(ST_CONFIG, "the config changed", resume_as(dir, in, (const char *const[]){"train.optimizer=adam", NULL}, false));
    FAILS(ST_BAD_DATA, "of another student or optimizer",
          resume_as(dir, in, (const char *const[]){"train.optimizer=adam", NULL}, true));
    FAILS(ST_BAD_DATA, "of another student", resume_as(dir, in, (const char *const[]){"student.widths=4 9", NULL}, true));
    toy_model("[student]\narch = cnn\nwidths = 8 12\ndepth = 2\n", test_path(dir, "teacher.onnx"));
    FAILS(ST_CONFIG, "the teacher changed", resume_as(dir, in, NULL, false));
    OK(resume_as(dir, in, NULL, true));
    toy_make(dir);
    OK(resume_as(dir, in, NULL, false));
    FAILS(ST_CONFIG, "changed", resume_as(dir, in, (const char *const[]){"data.samples=0:95", NULL}, false));
}
END_TEST

static void ignore(log_level level, const char *line, void *ctx)
{
    (void)level;
    (void)line;
    (void)ctx;
}

/* The newest checkpoint is damaged: the run goes on from the one before and ends as it would have. What it saves on the
 * way stays although a damaged file of a later step lies there. */
START_TEST(a_damaged_checkpoint_costs_only_its_steps)
{
    static const char *const set[] = {"train.keep=1", "train.checkpoint_every=4", "train.eval_every=100", NULL};
    static const char *const more[] = {"train.keep=100", "train.checkpoint_every=4", "train.eval_every=100", NULL};
    const char *dir = test_tmp_dir(), *whole = finished(dir, "whole", more), *in = finished(dir, "run", more);
    OK(io_write_file(test_path(in, "ckpt/step_00000024.safetensors"), "torn", 4));
    OK(io_write_file(test_path(in, "ckpt/step_00000020.safetensors"), "torn", 4));
    OK(io_write_file(test_path(in, "ckpt/step_00000099.safetensors"), "torn", 4));
    FILE *f = fopen(test_path(in, "metrics.jsonl"), "a"); /* and the log ends in the middle of a line */
    ck_assert(f && fputs("{\"event\":\"st", f) >= 0 && fclose(f) == 0);
    log_set_sink(ignore, NULL);
    OK(resume_as(dir, in, set, false));
    log_set_sink(NULL, NULL);
    same_file(whole, in, "ckpt/step_00000024.safetensors");
    curve_of_run c;
    read_metrics(in, &c);
    ck_assert_uint_eq(c.unreadable, 1); /* the torn line alone: what was written after it can be read */
    ck_assert_uint_eq(c.resumes, 1);
    ck_assert_uint_eq(c.ends, 2);
}
END_TEST

START_TEST(resume_without_a_checkpoint_starts_anew)
{
    const char *dir = test_tmp_dir(), *in = finished(dir, "run", NULL), *other = test_path(dir, "other");
    loop_result r;
    log_set_sink(ignore, NULL);
    job *j = toy_job(dir, NULL);
    OK(run_loop(j, (loop_options){.dir = other, .resume = true}, &r));
    evaluation_free(&r.last);
    config_free(j);
    same_file(in, other, "ckpt/step_00000024.safetensors");
}
END_TEST

/* The trial before a run leaves no trace in it. */
START_TEST(the_trial_changes_nothing)
{
    for (int v = 0; v < VARIANTS; v++) {
        const char *dir = test_tmp_dir();
        session a, b;
        static trail x, y;
        toy_make(dir);
        job *j = toy_job(dir, variants[v]);
        OK(session_open(j, &a));
        OK(session_open(j, &b));
        OK(loop_sanity(&b, dir));
        ck_assert(!io_exists(test_path(dir, ".sanity")));
        ck_assert(toy_hash(&a.params) == toy_hash(&b.params));
        for (uint64_t k = 0; k < STEPS; k++) {
            one_step(&a, k, &x);
            one_step(&b, k, &y);
            compare_step(&x, &y, a.n_hint, v, 0, k);
        }
        session_close(&a);
        session_close(&b);
        config_free(j);
    }
}
END_TEST

const test_entry test_table[] = {TEST(resume_is_bitwise_at_every_step),
                                 TEST(nothing_else_enters_a_step),
                                 TEST(another_seed_is_another_run),
                                 TEST(stopped_and_resumed_runs_leave_the_same_files),
                                 TEST(a_changed_job_is_not_resumed),
                                 TEST(a_damaged_checkpoint_costs_only_its_steps),
                                 TEST(resume_without_a_checkpoint_starts_anew),
                                 TEST(the_trial_changes_nothing),
                                 {0}};
