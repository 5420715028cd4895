/* test_qat_hints.c - hints, averages and moving ranges go on while a student trains with rounding. */
#include "harness.h"
#include "base/io.h"
#include "base/log.h"
#include "toy.h"
#include "train/session_qat.h"

#include <math.h>
#include <stdio.h>

/* Every way in which folding and rewriting touch a value: a relu's result (rounded), a folded batch norm's (renamed), the convolution's
 * before it (gone), an average over 36 (times 36/64 in
 * portable form), and what only moves it. No padding of the image: portable form pads with black instead of mean pixels. */
static const char student[] = "[layer c1]\nop = Conv\nchannels = 6\nkernel_shape = 3 3\n[layer n1]\nop = BatchNormalization\n"
                              "[layer r1]\nop = Relu\n[layer c2]\nop = Conv\nchannels = 8\n"
                              "kernel_shape = 3 3\npads = 1 1 1 1\n[layer n2]\nop = BatchNormalization\n[layer r2]\nop = Relu\n[layer p]\n"
                              "op = GlobalAveragePool\n[layer q]\nop = Flatten\n[layer f]\nop = Gemm\nunits = classes\n";

static char said[8192];

static void hear(log_level level, const char *line, void *ctx)
{
    (void)level;
    (void)ctx;
    snprintf(said + strlen(said), sizeof said - strlen(said), "%s\n", line);
}

static void write_job(const char *path, const char *dir, const char *what, const char *more)
{
    char ini[8192];
    int n = snprintf(ini, sizeof ini, "[data]\ndir = %s/data\nmean = 0.5\nstd = 0.25\n[train]\nepochs = 4\nbatch = 16\nlr = 0.05\n[exec]\n"
                     "threads = 1\n[quant]\nsamples = 96\nepochs = 1\n%s%s", dir, what, more);
    OK(io_write_file(path, ini, (size_t)n));
}

static job *open_job(const char *path)
{
    job *j;
    OK(config_load(&(config_sources){.file = path}, &j));
    return j;
}

/* A trained student, with its batch norms, as DIR/own.onnx. */
static void train_student(const char *dir)
{
    const char *file = test_path(dir, "train.ini");
    char more[600];
    session s;
    toy_make(dir);
    snprintf(more, sizeof more, "[export]\nfold_bn = false\n[teacher]\npath = %s/teacher.onnx\n", dir);
    write_job(file, dir, student, more);
    job *j = open_job(file);
    OK(session_open(j, &s));
    for (uint64_t k = 0; k < s.steps; k++) {
        step_result r = {0};
        OK(session_step(&s, k, &r));
    }
    OK(session_export(&s, test_path(dir, "own.onnx"), NULL, 0));
    session_close(&s);
    config_free(j);
}

/* The student's teacher is the student itself: a hint on the same value then measures the rounding alone. */
static void check_hints(const char *dir, const char *key, const char *cache)
{
    static const struct {
        const char *value;
        bool plain, portable; /* goes on */
        const char *why;
    } want[] = {{"r1", true, true, ""}, {"n2", true, true, ""}, {"c2", false, false, "'n2' is folded into what makes it"},
                {"p", true, false, "times 0.5625"}, {"q", true, false, "times 0.5625"}};
    enum { N = sizeof want / sizeof *want };
    const char *file = test_path(dir, "hints.ini");
    const bool portable = strcmp(key, "int8-qat") != 0;
    char more[4096], line[400];
    double hint[N] = {0};
    step_result r = {.hint = hint};
    size_t goes = 0;
    session s, q;
    int n = snprintf(more, sizeof more, "%s[teacher]\npath = %s/own.onnx\n", cache, dir);
    for (size_t i = 0; i < N; i++) {
        n += snprintf(more + n, sizeof more - (size_t)n, "[hint on%zu]\nstudent = %s\nteacher = %s\nweight = 1\nregressor = none\n", i,
                      want[i].value, want[i].value);
        goes += portable ? want[i].portable : want[i].plain;
    }
    snprintf(line, sizeof line, "[student]\nonnx = %s/own.onnx\n", dir);
    write_job(file, dir, line, more);
    job *j = open_job(file);
    OK(session_open(j, &s));
    ck_assert_uint_eq(s.n_hint, N);
    said[0] = 0;
    log_set_sink(hear, NULL);
    OK(session_open_qat(&s, key, &q));
    log_set_sink(NULL, NULL);
    ck_assert_msg(q.n_hint == goes, "%s: %zu hints go on, not %zu\n%s", key, q.n_hint, goes, said);
    OK(session_step(&q, 0, &r));
    for (size_t i = 0, at = 0; i < N; i++) {
        const bool on = portable ? want[i].portable : want[i].plain;
        snprintf(line, sizeof line, "[hint on%zu] is left out: the student's '%s' is not there as it was: ", i, want[i].value);
        const char *message = strstr(said, line);
        ck_assert_msg((message == NULL) == on, "%s, '%s': %s", key, want[i].value, said);
        if (!on) {
            ck_assert_msg(strstr(message, want[i].why) != NULL, "'%s' is not in: %s", want[i].why, message);
            continue;
        }
        ck_assert_str_eq(q.hint[at].name, s.hint[i].name);
        const float *tap = exec_data(q.train, q.tg.tap[at]);
        double power = 0;
        int64_t count = shape_count(&q.hint[at].tap);
        for (int64_t k = 0; k < count; k++)
            power += (double)tap[k] * (double)tap[k] / (double)count;
        printf("%s '%s' (%s): squared error %.3g of %.3g\n", key, want[i].value, q.hint[at].student, hint[at], power);
        ck_assert_msg(hint[at] > 0 && hint[at] < 0.03 * power, "%s: '%s' is another value than the teacher's: %g of %g", key, want[i].value,
                      hint[at], power);
        at++;
    }
    for (size_t i = 0; i < q.n_hint; i++) /* what is rounded is hinted at as it is rounded */
        if (strncmp(q.hint[i].student, "r1", 2) == 0)
            ck_assert_str_eq(q.hint[i].student, "r1.rounded");
    session_close_qat(&q);
    session_close(&s);
    config_free(j);
}

START_TEST(hints_go_on_where_their_features_are)
{
    const char *dir = test_tmp_dir();
    train_student(dir);
    check_hints(dir, "int8-qat", "");
    check_hints(dir, "portable", "");
    check_hints(dir, "portable-s8", "");
    check_hints(dir, "portable", "[cache]\nviews = 1\ndisk = false\n"); /* what is left out is remembered all the same */
}
END_TEST

static float parameter(const store *s, const char *name, bool *there)
{
    const store_entry *e = store_find(s, name);
    *there = e != NULL;
    return e ? ((const float *)e->t.data)[0] : 0;
}

/* train.ema: what is judged and leaves is the average, which follows the weights step by step. */
START_TEST(averages_are_what_is_judged)
{
    const char *set[] = {"train.ema=0.75", "quant.epochs=1", "quant.samples=32", "quant.lr=0.01", NULL}, *dir = test_tmp_dir();
    session s, q;
    bool there;
    toy_make(dir);
    job *j = toy_job(dir, set);
    OK(session_open(j, &s));
    OK(session_open_qat(&s, "int8-qat", &q));
    const char *name = NULL;
    for (size_t i = 0; !name && i < q.judged->n; i++)
        if (q.judged->at[i].kind == VALUE_PARAM && q.judged->at[i].t.sh.rank == 4)
            name = q.judged->at[i].t.name;
    ck_assert_ptr_nonnull(name);
    double average = (double)parameter(&q.params, name, &there);
    for (uint64_t k = 0; k < q.steps; k++) {
        step_result r = {0};
        OK(session_step(&q, k, &r));
        average = 0.75 * average + 0.25 * (double)parameter(&q.params, name, &there);
    }
    OK(session_sync_weights(&q));
    const double judged = (double)parameter(q.judged, name, &there), now = (double)parameter(&q.params, name, &there);
    ck_assert(there && fabs(judged - now) > 1e-4);
    ck_assert_msg(fabs(judged - average) < 1e-6, "judged %.9g, the average is %.9g", judged, average);
    session_close_qat(&q);
    session_close(&s);
    config_free(j);
}
END_TEST

/* quant.momentum: a range moves by that share of the way to the batch's. */
START_TEST(ranges_move_by_their_momentum)
{
    double moved[2];
    const char *dir = test_tmp_dir();
    toy_make(dir);
    for (int i = 0; i < 2; i++) {
        const char *set[] = {"quant.learn=ema", "quant.samples=32", "quant.lr=1e-9", i ? "quant.momentum=0.4" : "quant.momentum=0.1", NULL};
        session s, q;
        step_result r = {0};
        job *j = toy_job(dir, set);
        const char *name = NULL;
        bool there;
        OK(session_open(j, &s));
        OK(session_open_qat(&s, "int8-qat", &q));
        for (size_t k = 0; !name && k < q.qat->ranges.n; k++) {
            char hi[300];
            snprintf(hi, sizeof hi, "%s.scale.hi", q.qat->ranges.at[k].name);
            const store_entry *e = store_find(&q.params, hi);
            name = e ? e->t.name : NULL;
        }
        ck_assert_ptr_nonnull(name);
        const double before = (double)parameter(&q.params, name, &there);
        OK(session_step(&q, 0, &r));
        moved[i] = (double)parameter(&q.params, name, &there) - before;
        session_close_qat(&q);
        session_close(&s);
        config_free(j);
    }
    ck_assert_msg(fabs(moved[0]) > 0 && fabs(moved[1] / moved[0] - 4) < 0.02, "moved by %g and %g", moved[0], moved[1]);
}
END_TEST

const test_entry test_table[] = {TEST(hints_go_on_where_their_features_are), TEST(averages_are_what_is_judged),
                                 TEST(ranges_move_by_their_momentum), {0}};
