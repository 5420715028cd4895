/* test_emulated_tokens.c - a job over tokens, BERT's kind small, in bfloat16 on the device, over the emulator: what lies between
 * products is narrow, losses are near those of float32 on the CPU, resume is bitwise; and a job in float16 that begins with the loss
 * scale that it would begin with. */
#include "base/io.h"
#include "base/rng.h"
#include "bert.h"
#include "data/npy.h"
#include "harness.h"
#include "onnx/export.h"
#include "toy.h"
#include "train/checkpoint.h"
#include "train/session.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { STEPS = 12, MIDDLE = 5, TRAIN = 64, VAL = 16, TOKENS = 6, WORDS = 20, CLASSES = 3 };

/* A sentence's class is its first word's. */
static void write_part(const char *dir, const char *part, int n, uint32_t stream)
{
    tensor x, y;
    char name[64];
    rng r = rng_make(8, RNG_TEST, stream, 0);
    OK(tensor_new(&x, "x", DTYPE_I64, SHAPE(n, TOKENS)));
    OK(tensor_new(&y, "y", DTYPE_I64, SHAPE(n)));
    for (int i = 0; i < n; i++)
        for (int k = 0; k < TOKENS; k++) {
            const double word = rng_below(&r, WORDS);
            tensor_put(&x, i * TOKENS + k, word);
            if (k == 0)
                tensor_put(&y, i, fmod(word, CLASSES));
        }
    snprintf(name, sizeof name, "data/x_%s.npy", part);
    OK(npy_write(test_path(dir, name), &x));
    snprintf(name, sizeof name, "data/y_%s.npy", part);
    OK(npy_write(test_path(dir, name), &y));
    tensor_free(&x);
    tensor_free(&y);
}

static void write_model(const char *path, int64_t layers, bool pre_norm, uint32_t seed)
{
    const bert_sizes s = {.batch = 1, .tokens = TOKENS, .width = 16, .wide = 32, .heads = 2, .words = WORDS, .classes = CLASSES,
                          .layers = layers, .pre_norm = pre_norm, .masked = true, .seed = seed};
    graph *g = bert_make(&s);
    OK(onnx_export_file(g, &(export_options){.opset = 20}, path));
    graph_free(g);
}

static void make_tokens(const char *dir, bool pre_norm)
{
    char ini[4096];
    OK(io_make_dirs(test_path(dir, "data")));
    write_part(dir, "train", TRAIN, 1);
    write_part(dir, "val", VAL, 2);
    write_model(test_path(dir, "teacher.onnx"), 2, pre_norm, 1);
    write_model(test_path(dir, "student.onnx"), 1, pre_norm, 2);
    const int n = snprintf(ini, sizeof ini, "[data]\ndir = %s/data\n[teacher]\npath = %s/teacher.onnx\n[student]\nonnx = %s/student.onnx\n"
                           "[train]\nsteps = %d\nbatch = 8\noptimizer = adamw\nlr = 0.002\n[exec]\nthreads = 1\n", dir, dir, dir, STEPS);
    OK(io_write_file(test_path(dir, "job.ini"), ini, (size_t)n));
}

typedef struct trail { /* of a run, step by step */
    uint64_t after[STEPS + 1];
    double total[STEPS];
} trail;

static size_t count_narrow(const exec *e, dtype type)
{
    const graph *g = exec_graph(e);
    size_t n = 0;
    for (size_t v = 1; v < g->n_value; v++)
        n += g->value[v].narrow == type;
    return n;
}

/* Steps [from, STEPS) on the device, in the precision that it chooses by itself, after the checkpoint `start`; another is kept. */
static void run_on(const char *dir, const char *device, const char *start, uint64_t from, const char *keep, trail *t)
{
    char name[64];
    const char *const set[] = {name, NULL};
    session s;
    snprintf(name, sizeof name, "exec.device=%s", device);
    job *j = toy_job(dir, set);
    OK(session_open(j, &s));
    if (start) {
        checkpoint c;
        const limits lim = limits_default();
        OK(checkpoint_read(start, &lim, &c));
        OK(checkpoint_restore(&c, &s.params));
        checkpoint_free(&c);
        session_seek(&s, from);
    }
    ck_assert_int_eq(s.narrow, strcmp(device, "cpu") == 0 ? DTYPE_NONE : DTYPE_BF16);
    if (s.narrow) {
        ck_assert_uint_ge(count_narrow(s.train, DTYPE_BF16), 30); /* what lies between products, forwards and backwards */
        ck_assert_uint_ge(count_narrow(s.t.e, DTYPE_BF16), 30);   /* and in the teacher */
    }
    for (uint64_t k = from; k < STEPS; k++) {
        double hint[4];
        step_result r = {.hint = hint};
        if (keep && k == MIDDLE)
            OK(checkpoint_write(keep, &s.params, NULL, 0));
        OK(session_step(&s, k, &r));
        ck_assert(r.finite);
        t->total[k] = r.total;
        t->after[k + 1] = toy_hash(&s.params);
    }
    session_close(&s);
    config_free(j);
}

static void check_tokens(bool pre_norm)
{
    static trail exact, near, again;
    const char *dir = test_tmp_dir(), *mid = test_path(dir, "mid.safetensors");
    double worst = 0;
    make_tokens(dir, pre_norm);
    run_on(dir, "cpu", NULL, 0, NULL, &exact);
    run_on(dir, "emulated", NULL, 0, mid, &near);
    for (int k = 0; k < STEPS; k++)
        worst = fmax(worst, fabs(exact.total[k] - near.total[k]) / exact.total[k]);
    test_max_error(pre_norm ? "norms before" : "norms after sums", worst, 5e-3);
    ck_assert_msg(worst > 1e-5 && worst <= 5e-3, "losses are %g apart", worst);
    ck_assert_msg(near.total[STEPS - 1] < near.total[0], "the loss went from %g to %g", near.total[0], near.total[STEPS - 1]);
    run_on(dir, "emulated", mid, MIDDLE, NULL, &again);
    for (int k = MIDDLE; k < STEPS; k++) {
        ck_assert_msg(memcmp(&near.total[k], &again.total[k], sizeof near.total[k]) == 0, "the loss of step %d differs", k);
        ck_assert_msg(near.after[k + 1] == again.after[k + 1], "what step %d leaves differs", k);
    }
}

START_TEST(norms_after_sums)
{
    check_tokens(false);
}
END_TEST

START_TEST(norms_before)
{
    check_tokens(true);
}
END_TEST

/* Gradients so large that 65536 times as much overflows: some steps are skipped, each halves the scale, and from then on it trains. */
START_TEST(float16_from_its_first_scale)
{
    const char *dir = test_tmp_dir();
    const char *const set[] = {"exec.device=emulated", "train.precision=fp16", "train.steps=16", "distill.kd=40", "distill.task=40",
                               "train.optimizer=adam", "train.lr=0.01", NULL};
    double first = NAN, last = NAN, scale = LOSS_SCALE_START;
    uint64_t skipped = 0;
    session s;
    toy_make(dir);
    job *j = toy_job(dir, set);
    OK(session_open(j, &s));
    for (uint64_t k = 0; k < 16; k++) {
        double hint[4];
        step_result r = {.hint = hint};
        OK(session_step(&s, k, &r));
        ck_assert_int_eq(r.overflow, !r.finite);
        skipped += r.overflow;
        scale = r.overflow ? scale / 2 : scale;
        ck_assert(r.loss_scale == scale && r.skipped == skipped);
        ck_assert_msg(isfinite(r.total), "step %d: %g", (int)k, r.total);
        if (r.overflow)
            continue;
        first = isnan(first) ? r.total : first;
        last = r.total;
    }
    printf("fp16 from %g: %d steps skipped, scale %g, loss %g to %g\n", (double)LOSS_SCALE_START, (int)skipped, scale, first, last);
    ck_assert_msg(skipped >= 1 && skipped <= 8, "%d steps were skipped", (int)skipped);
    ck_assert_msg(last < 0.95 * first, "the loss went from %g to %g", first, last);
    session_close(&s);
    config_free(j);
}
END_TEST

const test_entry test_table[] = {TEST(norms_after_sums), TEST(norms_before), TEST(float16_from_its_first_scale), {0}};
