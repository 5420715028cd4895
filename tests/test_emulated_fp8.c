/* test_emulated_fp8.c - a frozen teacher whose products are of 8-bit floats, on the device, over the emulator: how near
 * its logits are, what is remembered of it, and where it is refused. */
#include "harness.h"
#include "base/log.h"
#include "emulator/emulator_control.h"
#include "onnx/export.h"
#include "student/student.h"
#include "toy.h"
#include "train/job_spec.h"
#include "train/session.h"

#include <math.h>
#include <stdio.h>

#define MLP "student.arch=mlp", "student.widths=", "student.depth=auto", "student.hidden=12"

static job *job_on(const char *dir, const char *device, const char *const *set)
{
    char name[64];
    const char *all[16] = {name, "train.precision=fp32", "teacher.ahead=1", MLP};
    snprintf(name, sizeof name, "exec.device=%s", device);
    for (size_t i = 0; set[i]; i++)
        all[i + 7] = set[i];
    return toy_job(dir, all);
}

/* Weight (o, i) of a layer with `in` inputs: unit o goes by class o % 4, a quarter of the picture; other weights are small. */
static double weight(int64_t o, int64_t i, int64_t in)
{
    const int64_t of = in == 64 ? i / 32 * 2 + i % 8 / 4 : i % 4;
    return of == o % 4 ? 4.0 / (double)in : 0.02 * sin((double)(o * in + i));
}

/* A teacher whose classes are far apart: a perceptron that looks for the bright quarter, a convolutional network with a favourite. */
static void favour(graph *g)
{
    for (size_t v = 1; v < g->n_value; v++) {
        const value *p = &g->value[v];
        float *x = (float *)(uintptr_t)p->data;
        if (p->kind != VALUE_PARAM || !x)
            continue;
        if (p->sh.rank == 2)
            for (int64_t i = 0; i < shape_count(&p->sh); i++)
                x[i] = (float)weight(i / p->sh.dim[1], i % p->sh.dim[1], p->sh.dim[1]);
        else if (p->sh.rank == 1 && (p->sh.dim[0] == 40 || p->sh.dim[0] == TOY_CLASSES))
            for (int64_t i = 0; i < p->sh.dim[0]; i++)
                x[i] = p->sh.dim[0] == 40 ? 1 : 0;
    }
}
static void favour_first(graph *g)
{
    for (size_t v = 1; v < g->n_value; v++) {
        const value *p = &g->value[v];
        float *x = (float *)(uintptr_t)p->data;
        if (p->kind == VALUE_PARAM && x && p->sh.rank == 1 && p->sh.dim[0] == TOY_CLASSES)
            x[0] += 3;
    }
}

static void write_teacher(const char *dir, const char *ini, void (*change)(graph *g))
{
    job *j = NULL;
    graph *g = NULL;
    config_override seed = {"train.seed", "7", "--seed"};
    OK(config_load_text("model", ini, strlen(ini), &(config_sources){.flags = &seed, .n_flags = 1}, &j));
    student_spec s = {.job = j, .classes = TOY_CLASSES, .sample = SHAPE(1, TOY_SIZE, TOY_SIZE)};
    OK(student_build(&s, 1, &g));
    g->n_output = 1;
    change(g);
    OK(onnx_export_file(g, &(export_options){0}, test_path(dir, "teacher.onnx")));
    graph_free(g);
    config_free(j);
}
static void teacher(const char *dir, const char *ini, void (*change)(graph *g))
{
    toy_make(dir);
    write_teacher(dir, ini, change);
}
#define TEACHER_MLP "[student]\narch = mlp\nhidden = 40 24\n"
#define TEACHER_CNN "[student]\narch = cnn\nwidths = 8 16\ndepth = 2\n"

static char said[2000];
static void hear(log_level level, const char *line, void *ctx)
{
    const size_t n = strlen(said);
    (void)level;
    (void)ctx;
    snprintf(said + n, sizeof said - n, "%s\n", line);
}

typedef struct looked { /* what a job's teacher says of the validation samples, and the loss of a few steps */
    float y[TOY_VAL][TOY_CLASSES];
    double loss[4];
    size_t fp8;
    dtype narrow;
    uint64_t ranges, runs;
} looked;

static void look(const char *dir, const char *device, const char *const *set, looked *l)
{
    double hint[4];
    step_result r = {.hint = hint};
    evaluation e;
    session s;
    job *j = job_on(dir, device, set);
    said[0] = 0;
    log_set_sink(hear, NULL);
    OK(session_open(j, &s));
    for (uint64_t k = 0; k < 4; k++) {
        OK(session_step(&s, k, &r));
        l->loss[k] = r.total;
    }
    s.t.runs = 0;
    OK(session_evaluate(&s, &e));
    memcpy(l->y, s.teacher_val, sizeof l->y);
    l->fp8 = s.t.fp8;
    l->narrow = s.t.narrow;
    l->ranges = s.teacher_fp8;
    l->runs = s.t.runs;
    evaluation_free(&e);
    session_close(&s);
    config_free(j);
    log_set_sink(NULL, NULL);
}

static int best(const float *y)
{
    int k = 0;
    for (int i = 1; i < TOY_CLASSES; i++)
        k = y[i] > y[k] ? i : k;
    return k;
}

/* All products of a perceptron, the last one of a convolutional network whose images then lie in float16: logits near float32's, not
 * the same, the same classes but for few, losses near. */
START_TEST(a_teacher_in_fp8)
{
    static const struct {
        const char *name, *ini;
        void (*change)(graph *g);
        size_t products;
        dtype narrow;
        double apart;
    } row[] = {{"perceptron", TEACHER_MLP, favour, 3, DTYPE_NONE, 0.05}, {"convolutions", TEACHER_CNN, favour_first, 1, DTYPE_F16, 0.05}};
    static looked exact, near;
    for (size_t k = 0; k < sizeof row / sizeof *row; k++) {
        const char *dir = test_tmp_dir();
        double apart = 0, largest = 0;
        int same = 0;
        teacher(dir, row[k].ini, row[k].change);
        look(dir, "emulated", (const char *const[]){"teacher.precision=fp32", NULL}, &exact);
        ck_assert(exact.fp8 == 0 && exact.ranges == 0);
        look(dir, "emulated", (const char *const[]){"teacher.precision=fp8", NULL}, &near);
        ck_assert_uint_eq(near.fp8, row[k].products);
        ck_assert_int_eq(near.narrow, row[k].narrow);
        ck_assert(near.ranges != 0);
        ck_assert_msg(strstr(said, "teacher precision: fp8 in") != NULL, "%s", said);
        for (int i = 0; i < TOY_VAL; i++) {
            for (int c = 0; c < TOY_CLASSES; c++) {
                apart = fmax(apart, fabs((double)(exact.y[i][c] - near.y[i][c])));
                largest = fmax(largest, fabs((double)exact.y[i][c]));
            }
            same += best(exact.y[i]) == best(near.y[i]);
        }
        test_max_error(row[k].name, apart / largest, row[k].apart);
        ck_assert_msg(apart > 1e-5 * largest && apart <= row[k].apart * largest, "%s: %g apart, the largest is %g", row[k].name, apart, largest);
        ck_assert_int_ge(same, TOY_VAL - 1);
        for (int i = 0; i < 4; i++)
            ck_assert(fabs(near.loss[i] / exact.loss[i] - 1) < 0.02);
    }
}
END_TEST

/* What one precision computed another one does not find. */
START_TEST(what_is_remembered)
{
    static looked first, again;
    const char *dir = test_tmp_dir();
    char folder[600];
    teacher(dir, TEACHER_MLP, favour);
    snprintf(folder, sizeof folder, "cache.dir=%s", test_tmp_dir());
    const char *const fp8[] = {folder, "cache.views=1", "teacher.batch=8", "teacher.precision=fp8", NULL};
    const char *const fp32[] = {folder, "cache.views=1", "teacher.batch=8", "teacher.precision=fp32", NULL};
    look(dir, "emulated", fp8, &first);
    look(dir, "emulated", fp8, &again);
    ck_assert_uint_lt(again.runs, TOY_VAL); /* a trial alone */
    ck_assert(memcmp(first.y, again.y, sizeof first.y) == 0);
    look(dir, "emulated", fp32, &again);
    ck_assert_uint_ge(again.runs, TOY_VAL);
    ck_assert(memcmp(first.y, again.y, sizeof first.y) != 0);
}
END_TEST

static status open_with(const char *dir, const char *device, const char *precision)
{
    char name[64];
    session s;
    snprintf(name, sizeof name, "teacher.precision=%s", precision);
    job *j = job_on(dir, device, (const char *const[]){name, NULL});
    log_set_sink(hear, NULL);
    status st = session_open(j, &s);
    if (st == ST_OK) {
        ck_assert_uint_eq(s.t.fp8, 0);
        session_close(&s);
    }
    log_set_sink(NULL, NULL);
    config_free(j);
    return st;
}

/* No device for it; numbers that 8 bits do not hold: one pixel of a calibration sample is so large that all others become 0. */
START_TEST(where_it_is_refused)
{
    const char *dir = test_tmp_dir();
    teacher(dir, TEACHER_MLP, favour);
    FAILS(ST_UNAVAILABLE, "teacher.precision = fp8: this processor", open_with(dir, "cpu", "fp8"));
    emulator_level(86);
    FAILS(ST_UNAVAILABLE, "teacher.precision = fp8: this GPU", open_with(dir, "emulated", "fp8"));
    emulator_level(90);
    toy_make_float(dir, 5, 1e6);
    write_teacher(dir, TEACHER_MLP, favour);
    FAILS(ST_GATE, "on 64 samples they differ by", open_with(dir, "emulated", "fp8"));
    ck_assert(strstr(status_message(), "take bf16, fp16 or auto") != NULL);
    OK(open_with(dir, "emulated", "auto"));
}
END_TEST

const test_entry test_table[] = {TEST(a_teacher_in_fp8), TEST(what_is_remembered), TEST(where_it_is_refused), {0}};
