/* test_qat_session.c - a session that goes on with rounding: resume, and the file that leaves. */
#include "harness.h"
#include "base/io.h"
#include "deploy/prove.h"
#include "quant/portable.h"
#include "toy.h"
#include "train/checkpoint.h"
#include "train/session_qat.h"

#include <math.h>
#include <stdio.h>

static void steps(session *s, uint64_t from, uint64_t to, uint64_t *hash)
{
    double hint[8];
    for (uint64_t k = from; k < to; k++) {
        step_result r = {.hint = hint};
        OK(session_step(s, k, &r));
        ck_assert_msg(r.finite, "step %llu: %s is not finite", (unsigned long long)k, r.nonfinite);
        hash[k + 1] = toy_hash(&s->params);
    }
}

/* The file that leaves, on the validation samples, against the trained graph: in steps of its output (0: the same bits). */
static double file_apart(session *q, const char *path)
{
    evaluation e;
    float mean[DATA_CHANNELS], std[DATA_CHANNELS], own_mean[1] = {q->info->mean[0]}, own_std[1] = {q->info->std[0]}, *y, step = 0;
    const limits lim = limits_default();
    const prove_options o = {.b = q->b, .ds = q->ds, .lim = &lim};
    shape sh;
    latency time;
    double apart = 0;
    const char *output = q->eval_graph->value[q->eval_graph->output[0]].name;
    OK(session_evaluate(q, &e));
    OK(session_export(q, path, NULL, 0));
    session_input_numbers(q, mean, std);
    dataset_normalise(q->ds, mean, std);
    OK(prove_outputs(&o, path, false, &y, &sh, &time));
    dataset_normalise(q->ds, own_mean, own_std);
    ck_assert_int_eq(shape_count(&sh), (int64_t)e.n * q->width);
    for (size_t i = 0; i < q->qat->ranges.n; i++)
        step = strcmp(q->qat->ranges.at[i].name, output) == 0 ? q->qat->ranges.at[i].at.scale : step;
    for (size_t i = 0; i < q->judged->n; i++) { /* a scale that trained or moved */
        const tensor *t = &q->judged->at[i].t;
        if (strncmp(t->name, output, strlen(output)) != 0)
            continue;
        step = strstr(t->name, ".log_scale") ? step * expf(*(const float *)t->data) : step;
        step = strstr(t->name, ".scale") ? *(const float *)t->data : step;
    }
    ck_assert(step > 0);
    for (int64_t i = 0; i < (int64_t)e.n * q->width; i++)
        apart = fmax(apart, fabs((double)e.logits[i] - (double)y[i]) / (double)step);
    mem_free(y);
    evaluation_free(&e);
    return apart;
}

static void check_session(const char *key, const char *learn)
{
    const char *set[] = {learn, "quant.epochs=1.5", "quant.samples=48", "quant.lr=0.003", "hint.auto.pairs=1", NULL};
    const char *dir = test_tmp_dir(), *half = test_path(dir, "half.safetensors"), *path = test_path(dir, "q.onnx");
    limits lim = limits_default();
    uint64_t whole[64], part[64], before;
    session s, q;
    checkpoint c;
    toy_make(dir);
    job *j = toy_job(dir, set);
    OK(session_open(j, &s));
    steps(&s, 0, s.steps, whole);
    before = toy_hash(&s.params);
    OK(session_open_qat(&s, key, &q));
    ck_assert_uint_eq(q.steps, 9);
    ck_assert_uint_eq(q.n_hint, 1);
    whole[0] = toy_hash(&q.params);
    steps(&q, 0, 4, whole);
    OK(checkpoint_write(half, &q.params, NULL, 0));
    steps(&q, 4, 9, whole);
    for (int k = 0; k < 9; k++)
        ck_assert_msg(whole[k] != whole[k + 1], "%s %s: step %d changed nothing", key, learn, k);
    double apart = file_apart(&q, path);
    session_close_qat(&q);
    OK(session_open_qat(&s, key, &q));
    ck_assert(toy_hash(&q.params) == whole[0]);
    OK(checkpoint_read(half, &lim, &c));
    OK(checkpoint_restore(&c, &q.params));
    checkpoint_free(&c);
    session_seek(&q, 4);
    steps(&q, 4, 9, part);
    for (int k = 5; k <= 9; k++)
        ck_assert_msg(whole[k] == part[k], "%s %s: resumed at 4, step %d differs", key, learn, k);
    session_close_qat(&q);
    ck_assert(toy_hash(&s.params) == before);
    session_close(&s);
    config_free(j);
    printf("%s %s: file and trained graph %g steps apart\n", key, learn, apart);
    ck_assert_msg(strcmp(key, "int8-qat") == 0 ? apart <= 1.001 : apart == 0, "%s %s: %g steps apart", key, learn, apart);
}

START_TEST(a_session_goes_on_with_rounding_and_resumes_bitwise)
{
    check_session("int8-qat", "quant.learn=none");
    check_session("int8-qat", "quant.learn=ema");
    check_session("int8-qat", "quant.learn=lsq");
    check_session("portable", "quant.learn=lsq");
    check_session("portable-s8", "quant.learn=lsq");
    check_session("int8-qat", "train.ema=0.8");
    check_session("portable", "train.ema=0.8");
}
END_TEST

/* Every preset that is made of convolutions: proven, and the file is the trained graph. */
START_TEST(presets_become_portable)
{
    static const char *const student[][4] = {
        {"student.arch=resnet", "student.depth=8", "student.widths=4 8 8"},
        {"student.arch=mobilenetv2", "student.depth=auto", "student.widths="},
        {"student.arch=dscnn", "student.depth=auto", "student.widths="},
        {"student.arch=wrn", "student.depth=10", "student.widths=4 8 8"}, /* norms before their convolutions */
        {"student.arch=mlp", "student.hidden=12", "student.depth=auto", "student.widths="},
    };
    for (size_t i = 0; i < sizeof student / sizeof *student; i++)
        for (int bytes = 0; bytes < 2; bytes++) {
            const char *set[8] = {"quant.epochs=0.3", "quant.samples=32"};
            const char *dir = test_tmp_dir(), *key = bytes ? "portable-s8" : "portable";
            uint64_t hash[64];
            session s, q;
            graph *g;
            portable_report r;
            for (int k = 0; k < 4; k++)
                set[k + 2] = student[i][k];
            toy_make(dir);
            job *j = toy_job(dir, set);
            OK(session_open(j, &s));
            steps(&s, 0, 8, hash);
            OK(session_open_qat(&s, key, &q));
            steps(&q, 0, q.steps, hash);
            OK(session_sync_weights(&q));
            OK(qat_leave(&q, 1, &g));
            OK(portable_check(g, PROFILE_NONE, &r));
            ck_assert_msg(r.n_fault == 0, "%s %s: node %s breaks rule %d: %s", student[i][0], key, r.fault[0].node, r.fault[0].rule,
                          r.fault[0].what);
            portable_free(&r);
            graph_free(g);
            double apart = file_apart(&q, test_path(dir, "p.onnx"));
            ck_assert_msg(apart == 0, "%s %s: %g steps apart", student[i][0], key, apart);
            session_close_qat(&q);
            session_close(&s);
            config_free(j);
        }
}
END_TEST

/* A student with every kind of node that is rounded, trained: the file is the trained graph, on integers but for its ends. */
static const char every_operator[] =
    "[student]\n"
    "[layer stem]\nop = conv_bn\nchannels = 8\n"
    "[layer deep]\nop = Conv\nchannels = 8\ngroup = 8\nkernel_shape = 3 3\npads = 1 1 1 1\nactivation = relu\n"
    "[layer wide]\nop = Conv\nchannels = 8\nkernel_shape = 1 1\n"
    "[layer sum]\nop = Add\ninput = wide stem\nactivation = relu\n"
    "[layer halves]\nop = Conv\nchannels = 12\ngroup = 2\nkernel_shape = 3 3\npads = 1 1 1 1\nstrides = 2 2\nactivation = relu\n"
    "[layer up]\nop = Resize\nmode = nearest\ncoordinate_transformation_mode = asymmetric\nnearest_mode = floor\nscales = 1 1 2 2\n"
    "[layer both]\nop = Concat\ninput = up sum\naxis = 1\n"
    "[layer rim]\nop = Pad\npads = 0 0 1 1 0 0 1 1\n"
    "[layer most]\nop = MaxPool\nkernel_shape = 3 3\nstrides = 2 2\n"
    "[layer turned]\nop = Transpose\nperm = 0 1 3 2\n"
    "[layer mix]\nop = Conv\nchannels = 8\nkernel_shape = 3 3\npads = 1 1 1 1\nactivation = relu\n"
    "[layer mean]\nop = AveragePool\nkernel_shape = 2 2\nstrides = 2 2\n"
    "[layer all]\nop = GlobalAveragePool\n"
    "[layer flat]\nop = Flatten\n"
    "[layer fc]\nop = Gemm\nunits = classes\n";

START_TEST(every_operator_trained)
{
    static const char *const keys[] = {"int8-qat", "portable", "portable-s8"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const char *dir = test_tmp_dir(), *model = test_path(dir, "s.onnx");
        char onnx[4096];
        uint64_t hash[64];
        session s, q;
        graph *g;
        size_t on_integers = 0, in_float = 0;
        snprintf(onnx, sizeof onnx, "student.onnx=%s", model);
        const char *set[] = {"quant.epochs=0.5", "quant.samples=32", "student.arch=auto", "student.depth=auto", "student.widths=", onnx, NULL};
        toy_make(dir);
        toy_model(every_operator, model);
        job *j = toy_job(dir, set);
        OK(session_open(j, &s));
        steps(&s, 0, 12, hash);
        OK(session_open_qat(&s, keys[i], &q));
        steps(&q, 0, q.steps, hash);
        OK(session_sync_weights(&q));
        OK(qat_leave(&q, 1, &g));
        OK(pass_integer_groups(g));
        for (size_t k = 1; k < g->n_node; k++) {
            dtype t = g->value[g->node[k].out[0]].type;
            on_integers += t == DTYPE_U8 || t == DTYPE_I8;
            in_float += t == DTYPE_F32;
        }
        graph_free(g);
        double apart = file_apart(&q, test_path(dir, "p.onnx"));
        printf("%s: %zu nodes on integers, %zu in float; file and trained graph %g steps apart\n", keys[i], on_integers, in_float, apart);
        ck_assert_msg(i ? apart == 0 : apart <= 1.001, "%s: %g steps apart", keys[i], apart);
        ck_assert_uint_ge(on_integers, 15);
        session_close_qat(&q);
        session_close(&s);
        config_free(j);
    }
}
END_TEST

/* All matrices, and their averages, far out. */
static void push_out(session *q, float by)
{
    for (size_t i = 0; i < q->params.n; i++) {
        const tensor *t = &q->params.at[i].t;
        const size_t n = strlen(t->name);
        if (t->sh.rank < 2 || (q->params.at[i].kind != VALUE_PARAM && (n < 4 || strcmp(t->name + n - 4, ".ema") != 0)))
            continue;
        for (int64_t k = 0; k < shape_count(&t->sh); k++)
            ((float *)t->data)[k] = k % 3 ? by : -by;
    }
}

/* Rule 4 holds whatever the steps do to a layer of 1200 inputs: with all weights at 64 its sums would be 255 * 76800. */
START_TEST(training_keeps_to_rule_4)
{
    static const char *const set[][7] = {
        {"quant.epochs=0.5", "quant.samples=32", "student.arch=mlp", "student.hidden=1200 1200", "student.depth=auto", "student.widths="},
        {"quant.epochs=0.5", "quant.samples=32", "student.arch=mlp", "student.hidden=1200 1200", "student.depth=auto", "student.widths=",
         "train.ema=0.9"}};
    for (size_t i = 0; i < 2; i++) {
        const char *all[8] = {0}, *dir = test_tmp_dir();
        uint64_t hash[64];
        session s, q;
        graph *g;
        portable_report r;
        double most = 0;
        memcpy(all, set[i], sizeof set[i]);
        toy_make(dir);
        job *j = toy_job(dir, all);
        OK(session_open(j, &s));
        OK(session_open_qat(&s, "portable", &q));
        push_out(&q, 1000);
        steps(&q, 0, 1, hash);
        OK(session_sync_weights(&q));
        OK(qat_leave(&q, 1, &g));
        OK(portable_check(g, PROFILE_NONE, &r));
        ck_assert_msg(r.n_fault == 0, "node %s breaks rule %d: %s", r.fault[0].node, r.fault[0].rule, r.fault[0].what);
        for (size_t k = 0; k < r.n_layer; k++)
            most = fmax(most, r.layer[k].bound);
        printf("largest 255 * sum|w| + |b|: %.0f of 16777216\n", most);
        ck_assert_msg(most < 16777216 && most > 0.4 * 16777216, "the cap is not near the bound: %.0f", most);
        portable_free(&r);
        graph_free(g);
        session_close_qat(&q);
        session_close(&s);
        config_free(j);
    }
}
END_TEST

/* Stopped by a signal after a step and run again: the same file. */
START_TEST(a_stopped_variant_goes_on_to_the_same_file)
{
    const char *set[] = {"quant.epochs=1.5", "quant.samples=48", "train.checkpoint_every=1", NULL};
    const char *dir = test_tmp_dir(), *whole = test_path(dir, "whole.onnx"), *parts = test_path(dir, "parts.onnx");
    volatile sig_atomic_t stop = 1;
    uint64_t hash[64];
    float mean[DATA_CHANNELS], std[DATA_CHANNELS];
    loop_result r;
    session s;
    toy_make(dir);
    job *j = toy_job(dir, set);
    OK(session_open(j, &s));
    steps(&s, 0, 6, hash);
    loop_options o = {.dir = test_path(dir, "a")};
    OK(session_train_variant(&s, "int8-qat", &o, whole, NULL, 0, &r, mean, std));
    ck_assert(mean[0] == s.info->mean[0] && std[0] == s.info->std[0]);
    evaluation_free(&r.last);
    o = (loop_options){.dir = test_path(dir, "b"), .out = "RUN", .stop = &stop};
    for (int k = 1; k < 9; k++) {
        FAILS(ST_STOPPED, "--out RUN", session_train_variant(&s, "int8-qat", &o, parts, NULL, 0, &r, mean, std));
        ck_assert_uint_eq(r.steps_done, (uint64_t)k);
        ck_assert(!io_exists(parts));
        o.resume = true;
    }
    OK(session_train_variant(&s, "int8-qat", &o, parts, NULL, 0, &r, mean, std));
    evaluation_free(&r.last);
    size_t n, m;
    unsigned char *a, *b;
    OK(io_read_file(whole, 1 << 24, &a, &n));
    OK(io_read_file(parts, 1 << 24, &b, &m));
    ck_assert(n == m && n > 1000 && memcmp(a, b, n) == 0);
    mem_free(a);
    mem_free(b);
    session_close(&s);
    config_free(j);
}
END_TEST

const test_entry test_table[] = {TEST(a_session_goes_on_with_rounding_and_resumes_bitwise), TEST(presets_become_portable), TEST(every_operator_trained), TEST(training_keeps_to_rule_4),
                                 TEST(a_stopped_variant_goes_on_to_the_same_file), {0}};
