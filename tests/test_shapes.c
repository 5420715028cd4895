/* test_shapes.c - training on what is no picture: tokens, several inputs, outputs that are no logits, features of rank 3. */
#include "base/io.h"
#include "base/log.h"
#include "base/rng.h"
#include "data/npy.h"
#include "deploy/prove.h"
#include "deploy/report.h"
#include "harness.h"
#include "onnx/export.h"
#include "program.h"
#include "student/student.h"
#include "train/job_spec.h"
#include "train/loop.h"
#include "train/parity.h"

#include <math.h>
#include <stdio.h>

enum { TOKENS = 6, WORDS = 20, USED = 6, CLASSES = 3, TRAIN = 48, VAL = 16, BANDS = 5, FRAMES = 4, WAVE = 16 };

/* A sentence's class is that of its first word; words are embedded, mixed along the sentence and rated. */
static const char token_layers[] = "[layer e]\nop = Gather\nentries = %d\nchannels = %d\n"
                                   "[layer n]\nop = LayerNormalization\n"
                                   "[layer up]\nop = MatMul\nchannels = %d\n[layer act]\nop = Tanh\n"
                                   "[layer feat]\nop = MatMul\nchannels = %d\n"
                                   "[layer res]\nop = Add\ninput = feat n\n"
                                   "[layer r]\nop = Flatten\n"
                                   "[layer f]\nop = Gemm\nchannels = 3\n";
/* [5, 4] -> [1, 16]: a transposed convolution and two more. */
static const char wave_layers[] = "[layer pre]\nop = Conv\nchannels = %d\nkernel_shape = 3\npads = 1 1\n"
                                  "[layer a]\nop = LeakyRelu\nalpha = 0.1\n"
                                  "[layer up]\nop = ConvTranspose\nchannels = %d\nkernel_shape = 4\nstrides = 4\n"
                                  "[layer b]\nop = LeakyRelu\nalpha = 0.1\n"
                                  "[layer post]\nop = Conv\nchannels = 1\nkernel_shape = 7\npads = 3 3\n"
                                  "[layer out]\nop = Tanh\n";

static void quiet(log_level level, const char *line, void *ctx)
{
    (void)level;
    (void)line;
    (void)ctx;
}

static job *job_of_text(const char *ini)
{
    job *j = NULL;
    OK(config_load_text("model", ini, strlen(ini), &(config_sources){0}, &j));
    return j;
}

static void write_model(const char *ini, shape sample, dtype type, const char *path, uint64_t seed)
{
    char all[4096];
    graph *g = NULL;
    snprintf(all, sizeof all, "%s[train]\nseed = %d\n", ini, (int)seed);
    job *j = job_of_text(all);
    OK(student_build(&(student_spec){.job = j, .sample = sample, .type = type}, 1, &g));
    g->n_output = 1;
    OK(onnx_export_file(g, &(export_options){0}, path));
    graph_free(g);
    config_free(j);
}

static void write_array(const char *dir, const char *name, dtype type, shape sh, double (*at)(rng *r, int64_t i), uint32_t stream)
{
    tensor t;
    rng r = rng_make(6, RNG_TEST, stream, 0);
    OK(tensor_new(&t, name, type, sh));
    for (int64_t i = 0; i < shape_count(&sh); i++)
        tensor_put(&t, i, at(&r, i));
    OK(npy_write(test_path(dir, name), &t));
    tensor_free(&t);
}

static double word(rng *r, int64_t i)
{
    (void)i;
    return rng_below(r, USED);
}

static double first_word(rng *r, int64_t i) /* the same words again: the label is the first modulo the classes */
{
    (void)i;
    double label = fmod(rng_below(r, USED), CLASSES);
    for (int k = 1; k < TOKENS; k++)
        (void)rng_below(r, USED);
    return label;
}

static double normal(rng *r, int64_t i)
{
    (void)i;
    return rng_normal(r);
}

static double bounded(rng *r, int64_t i)
{
    return 0.5 * sin(1.5707963267948966 * (double)(i % 4)) + 0.1 * rng_normal(r);
}

static job *load(const char *dir, const char *const *set)
{
    job *j = NULL;
    config_sources from = {.file = test_path(dir, "job.ini"), .set = set};
    while (set && set[from.n_set])
        from.n_set++;
    OK(config_load(&from, &j));
    return j;
}

/* DIR/job.ini, models and data of each kind. */
static void make_tokens(const char *dir)
{
    char ini[4096], layers[2048];
    OK(io_make_dirs(test_path(dir, "data")));
    write_array(dir, "data/x_train.npy", DTYPE_I64, SHAPE(TRAIN, TOKENS), word, 1);
    write_array(dir, "data/y_train.npy", DTYPE_I64, SHAPE(TRAIN), first_word, 1);
    write_array(dir, "data/x_val.npy", DTYPE_I64, SHAPE(VAL, TOKENS), word, 2);
    write_array(dir, "data/y_val.npy", DTYPE_I64, SHAPE(VAL), first_word, 2);
    snprintf(layers, sizeof layers, token_layers, WORDS, 8, 24, 8);
    write_model(layers, SHAPE(TOKENS), DTYPE_I64, test_path(dir, "teacher.onnx"), 3);
    snprintf(layers, sizeof layers, token_layers, WORDS, 8, 8, 8);
    int n = snprintf(ini, sizeof ini, "[data]\ndir = %s/data\n[teacher]\npath = %s/teacher.onnx\n[train]\nepochs = 6\nbatch = 8\n"
                     "optimizer = adamw\nlr = 0.02\n[hint h]\nstudent = feat\nteacher = feat\nregressor = none\n"
                     "[exec]\nthreads = 1\n%s", dir, dir, layers);
    OK(io_write_file(test_path(dir, "job.ini"), ini, (size_t)n));
}

static void make_waves(const char *dir)
{
    char ini[4096], layers[2048];
    OK(io_make_dirs(test_path(dir, "data")));
    write_array(dir, "data/x_train.npy", DTYPE_F32, SHAPE(TRAIN, BANDS, FRAMES), normal, 1);
    write_array(dir, "data/y_train.npy", DTYPE_F32, SHAPE(TRAIN, 1, WAVE), bounded, 2);
    write_array(dir, "data/x_val.npy", DTYPE_F32, SHAPE(VAL, BANDS, FRAMES), normal, 3);
    write_array(dir, "data/y_val.npy", DTYPE_F32, SHAPE(VAL, 1, WAVE), bounded, 4);
    snprintf(layers, sizeof layers, wave_layers, 12, 8);
    write_model(layers, SHAPE(BANDS, FRAMES), DTYPE_F32, test_path(dir, "teacher.onnx"), 3);
    snprintf(layers, sizeof layers, wave_layers, 6, 4);
    int n = snprintf(ini, sizeof ini, "[data]\ndir = %s/data\n[teacher]\npath = %s/teacher.onnx\n[train]\nepochs = 6\nbatch = 8\n"
                     "optimizer = adamw\nlr = 0.02\n[distill]\ntask = 1\ntask_loss = l1\nkd = 0.25\noutput_loss = l1\n"
                     "[hint a]\nstudent = a\nteacher = a\nregressor = conv1x1\nweight = 0.1\n"
                     "[hint b]\nstudent = b\nteacher = b\nregressor = conv1x1\nweight = 0.1\n"
                     "[exec]\nthreads = 1\n%s", dir, dir, layers);
    OK(io_write_file(test_path(dir, "job.ini"), ini, (size_t)n));
}

/* ---- gradients ---- */

static double total_of(const train_graph *t, exec *e)
{
    OK(exec_run(e, PHASE_MAIN));
    return *(const double *)exec_data(e, t->total);
}

/* Every gradient of a training graph in float64 against central differences of its loss, at a few elements of each. */
static void check_gradients(const char *what, const job *j, shape sample, dtype type, const train_spec *s, double kink)
{
    enum { ROWS = 3 };
    graph *g = NULL;
    train_graph t;
    backend *b;
    exec *e;
    store params = {0};
    double worst = 0;
    rng r = rng_make(8, RNG_TEST, 0, 0);
    OK(student_build(&(student_spec){.job = j, .sample = sample, .type = type}, ROWS, &g));
    OK(train_graph_build(g, s, &t));
    OK(pass_to_double(t.g));
    OK(backend_open("cpu", &(backend_options){.threads = 1, .max_isa = ISA_REF}, &b));
    OK(exec_open(t.g, b, &params, 0, &e));
    for (size_t i = 0; i < t.g->n_input; i++) {
        const value *v = graph_value(t.g, t.g->input[i]);
        bool integer = v->type == DTYPE_I64, ids = t.g->input[i] == t.x[0];
        for (int64_t k = 0; k < shape_count(&v->sh); k++)
            dtype_store(v->type, exec_data(e, t.g->input[i]), k,
                        integer ? (double)rng_below(&r, ids ? WORDS : CLASSES) : rng_normal(&r));
    }
    double *w = exec_data(e, t.weights);
    w[0] = 0.7, w[1] = 0.4, w[2] = 3;
    size_t checked = 0;
    for (size_t i = 0; i < t.n_param; i++) {
        const value *p = graph_value(t.g, t.param[i]);
        double *x = exec_data(e, t.param[i]);
        for (int k = 0; k < 6; k++) {
            int64_t at = rng_below(&r, (uint32_t)shape_count(&p->sh));
            double keep = x[at], h = 1e-5;
            (void)total_of(&t, e);
            double have = ((const double *)exec_data(e, t.grad[i]))[at];
            x[at] = keep + h;
            double up = total_of(&t, e);
            x[at] = keep - h;
            double down = total_of(&t, e);
            x[at] = keep;
            double far = fabs(have - (up - down) / (2 * h)) / (1e-3 + fabs(have));
            worst = far > worst ? far : worst;
            checked++;
        }
    }
    test_max_error(what, worst, kink);
    ck_assert_msg(worst < kink, "%s: %g", what, worst);
    ck_assert_uint_gt(checked, 30);
    exec_close(e);
    store_free(&params);
    train_graph_free(&t);
    graph_free(g);
    backend_close(b);
}

START_TEST(gradients_of_a_token_student)
{
    char layers[2048];
    snprintf(layers, sizeof layers, token_layers, WORDS, 8, 8, 8);
    job *j = job_of_text(layers);
    const hint_spec hints[] = {{.name = "same", .student = "feat", .loss = HINT_LOSS_MSE, .regressor = REGRESSOR_NONE, .tap = SHAPE(3, TOKENS, 8)},
                               {.name = "wider", .student = "n", .loss = HINT_LOSS_MSE, .regressor = REGRESSOR_LINEAR, .tap = SHAPE(3, TOKENS, 13)}};
    const train_spec s = {.task = true, .kd = true, .hint = hints, .n_hint = 2, .opt = {.none = true}, .seed = 2};
    check_gradients("token student", j, SHAPE(TOKENS), DTYPE_I64, &s, 1e-6);
    config_free(j);
}
END_TEST

/* Regressors of 1 x 1, one with a teacher's feature of half the length. With l1 losses the differences may step over a kink. */
START_TEST(gradients_of_a_wave_student)
{
    char layers[2048];
    snprintf(layers, sizeof layers, wave_layers, 6, 4);
    job *j = job_of_text(layers);
    const hint_spec hints[] = {{.name = "a", .student = "a", .loss = HINT_LOSS_MSE, .regressor = REGRESSOR_CONV1X1, .tap = SHAPE(3, 12, FRAMES)},
                               {.name = "b", .student = "b", .loss = HINT_LOSS_MSE, .regressor = REGRESSOR_CONV1X1, .tap = SHAPE(3, 8, WAVE / 2)},
                               {.name = "c", .student = "a", .loss = HINT_LOSS_MSE, .regressor = REGRESSOR_AUTO, .tap = SHAPE(3, 9, FRAMES)}};
    train_spec s = {.task = true, .task_loss = TASK_LOSS_MSE, .kd = true, .output_loss = OUTPUT_LOSS_MSE, .hint = hints, .n_hint = 3,
                    .opt = {.none = true}, .seed = 2};
    check_gradients("wave student, mse", j, SHAPE(BANDS, FRAMES), DTYPE_F32, &s, 1e-6);
    s.task_loss = TASK_LOSS_L1;
    s.output_loss = OUTPUT_LOSS_L1;
    check_gradients("wave student, l1", j, SHAPE(BANDS, FRAMES), DTYPE_F32, &s, 1e-6);
    s.task_loss = TASK_LOSS_SMOOTH_L1;
    s.output_loss = OUTPUT_LOSS_SMOOTH_L1;
    check_gradients("wave student, smooth l1", j, SHAPE(BANDS, FRAMES), DTYPE_F32, &s, 1e-6);
    config_free(j);
}
END_TEST

/* ---- whole runs ---- */

static void run_job(const char *dir, const char *const *set, session *s, job **j, loop_result *r)
{
    int lock;
    const loop_options o = {.dir = test_path(dir, "run")};
    *j = load(dir, set);
    log_set_sink(quiet, NULL);
    OK(loop_prepare(&o, &lock));
    OK(session_open(*j, s));
    OK(loop_sanity(s, o.dir));
    OK(loop_run(s, &o, r));
    io_close(lock);
}

/* Own executor's part of the proof; ONNX Runtime's when it is there. */
static void prove_run(const char *dir, session *s, const loop_result *r, validation *v)
{
    proof p;
    difference d;
    const char *model = test_path(dir, "run/student.onnx");
    OK(session_export(s, model, NULL, 0));
    const prove_options o = {.b = s->b, .ds = s->ds, .numbers = s->numbers, .atol = 1e-4, .rtol = 1e-4, .lim = &s->j->limits, .farthest = 3};
    OK(prove(&o, s->j->teacher.path, model, v, &p));
    OK(s->numbers ? compare_numbers(r->last.logits, p.student, r->last.n, (size_t)p.width, &d)
                  : compare_logits(r->last.logits, p.student, r->last.n, (size_t)p.width, &d));
    ck_assert_msg(d.max_rel < 1e-5, "the exported file differs by %g", d.max_rel);
    for (size_t i = 0; i < v->n_checks; i++)
        ck_assert_msg(v->checks[i].held || strstr(v->checks[i].detail, "not installed"), "%s: %s", v->checks[i].name,
                      v->checks[i].detail);
    proof_free(&p);
}

START_TEST(tokens_are_trained_on)
{
    const char *dir = test_tmp_dir();
    session s;
    job *j;
    loop_result r;
    validation v, back;
    make_tokens(dir);
    run_job(dir, ARGS("distill.kd=0", "hint.h.weight=0.01", "train.epochs=30"), &s, &j, &r);
    ck_assert(!s.numbers && s.width == CLASSES && s.info->input[0].type == DTYPE_I64);
    ck_assert_msg(r.last.accuracy > 0.9, "accuracy %g on words that say their class", r.last.accuracy);
    ck_assert(isnan(r.last.error));
    prove_run(dir, &s, &r, &v);
    OK(validation_write(test_path(dir, "v.json"), &v));
    OK(validation_read(test_path(dir, "v.json"), &back));
    ck_assert(!back.numbers && back.classes == CLASSES && fabs(score_accuracy(&back.student) - r.last.accuracy) < 1e-12);
    validation_free(&back);
    validation_free(&v);
    evaluation_free(&r.last);
    session_close(&s);
    config_free(j);
}
END_TEST

START_TEST(numbers_are_trained_on)
{
    const char *dir = test_tmp_dir();
    session s;
    job *j;
    loop_result r;
    validation v;
    report_data page;
    unsigned char *html;
    size_t n;
    make_waves(dir);
    run_job(dir, ARGS("train.epochs=20", "distill.kd=0.01"), &s, &j, &r);
    ck_assert(s.numbers && s.width == WAVE && isnan(r.last.accuracy));
    double sum = 0;
    for (uint32_t i = 0; i < VAL; i++)
        for (int k = 0; k < WAVE; k++)
            sum += fabs((double)r.last.logits[(int)i * WAVE + k] - (double)dataset_target(s.ds, DATA_VAL, i)[k]);
    ck_assert_msg(fabs(sum / (VAL * WAVE) - r.last.error) < 1e-9, "error %g, by hand %g", r.last.error, sum / (VAL * WAVE));
    ck_assert_msg(r.last.error < 0.15, "error %g: zeros alone give about 0.27, the noise 0.08", r.last.error);
    ck_assert(r.last.distance > 0 && r.last.teacher_error > r.last.error); /* the teacher knows nothing of the targets */
    prove_run(dir, &s, &r, &v);
    ck_assert(v.numbers && v.classes == 0 && fabs(v.student.error - r.last.error) < 1e-6 && v.n_farthest == 0);
    OK(validation_write(test_path(dir, "run/validation.json"), &v));
    const run_info run = {.name = "waves", .status = "done", .has_teacher = true, .steps = 1, .steps_done = 1};
    OK(run_info_write(test_path(dir, "run/run.json"), &run));
    OK(report_from_run(test_path(dir, "run"), &page));
    ck_assert(page.val.numbers && page.metrics.error.n == 20);
    OK(report_write(test_path(dir, "run/report.html"), &page));
    OK(io_read_file(test_path(dir, "run/report.html"), 1 << 24, &html, &n));
    ck_assert(strstr((char *)html, "mean absolute error") && !strstr((char *)html, "Confusion") && !strstr((char *)html, "same class"));
    mem_free(html);
    report_free(&page);
    validation_free(&v);
    evaluation_free(&r.last);
    session_close(&s);
    config_free(j);
}
END_TEST

/* The steps of `distill step` are those of training: the same losses in float32 as in float64 to rounding. */
START_TEST(parity_steps)
{
    for (int k = 0; k < 2; k++) {
        const char *dir = test_tmp_dir();
        tensor_list wide = {0}, narrow = {0};
        k ? make_waves(dir) : make_tokens(dir);
        log_set_sink(quiet, NULL);
        job *j = load(dir, ARGS("train.batch=16", "data.shuffle=false"));
        OK(parity_run(&(parity_options){.j = j, .steps = 3, .wide = true}, &wide));
        OK(parity_run(&(parity_options){.j = j, .steps = 3}, &narrow));
        const tensor *a = tensor_list_find(&wide, "loss.total"), *b = tensor_list_find(&narrow, "loss.total");
        ck_assert(a && b && tensor_list_find(&wide, k ? "loss.teacher_l1" : "loss.kl") && tensor_list_find(&wide, "teacher.logits"));
        for (int i = 0; i < 3; i++)
            ck_assert_msg(fabs(tensor_at(a, i) - tensor_at(b, i)) < 1e-5 * fabs(tensor_at(a, i)), "kind %d, step %d: %.9g and %.9g",
                          k, i, tensor_at(a, i), tensor_at(b, i));
        tensor_list_free(&wide);
        tensor_list_free(&narrow);
        config_free(j);
    }
}
END_TEST

/* ---- several inputs ---- */

/* A student of ids and mask; the arrays of the data stand in the other order, so only names can match them. */
START_TEST(inputs_are_matched_by_name)
{
    const char *dir = test_tmp_dir();
    graph *g;
    value_id ids, mask, table, w, x, y;
    tensor a[3] = {{0}};
    double hint[2];
    float numbers[WORDS * CLASSES];
    rng r = rng_make(9, RNG_TEST, 0, 0);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        numbers[i] = (float)rng_normal(&r);
    OK(graph_new(&g)); /* logits = sum over words of mask * table[id] */
    OK(graph_add_input(g, "ids", DTYPE_I64, SHAPE(1, TOKENS), &ids));
    OK(graph_add_input(g, "mask", DTYPE_F32, SHAPE(1, 1, TOKENS), &mask));
    g->value[ids].flags |= VALUE_BATCHED;
    g->value[mask].flags |= VALUE_BATCHED;
    OK(graph_add_data(g, "table", VALUE_CONST, DTYPE_F32, SHAPE(WORDS, CLASSES), numbers, &table));
    OK(graph_add1(g, OP_GATHER, NULL, table, ids, 0, &x));
    OK(graph_add1(g, OP_MATMUL, NULL, mask, x, 0, &y));
    OK(graph_add1(g, OP_FLATTEN, NULL, y, 0, 0, &w));
    OK(graph_add_output(g, w));
    OK(onnx_export_file(g, &(export_options){0}, test_path(dir, "s.onnx")));
    graph_free(g);
    OK(tensor_new(&a[0], "mask", DTYPE_F32, SHAPE(TRAIN, 1, TOKENS)));
    OK(tensor_new(&a[1], "ids", DTYPE_I64, SHAPE(TRAIN, TOKENS)));
    OK(tensor_new(&a[2], "y", DTYPE_I64, SHAPE(TRAIN)));
    for (int64_t i = 0; i < TRAIN * TOKENS; i++) {
        tensor_put(&a[0], i, i % TOKENS == 0);
        tensor_put(&a[1], i, rng_below(&r, 8)); /* few, so that training meets all */
    }
    for (int64_t i = 0; i < TRAIN; i++)
        tensor_put(&a[2], i, fmod(tensor_at(&a[1], i * TOKENS), CLASSES));
    OK(npz_write(test_path(dir, "data.npz"), a, 3, false));
    char data[600], model[600];
    snprintf(data, sizeof data, "data.dir=%s", test_path(dir, "data.npz"));
    snprintf(model, sizeof model, "student.onnx=%s", test_path(dir, "s.onnx"));
    const char *set[] = {data, model, "distill.kd=0", "distill.task=1", "train.batch=8", "train.lr=1", "train.epochs=30", "data.split=0.25"};
    job *j = NULL;
    session s;
    step_result step = {.hint = hint};
    evaluation e;
    OK(config_load_text("job", "", 0, &(config_sources){.set = set, .n_set = sizeof set / sizeof *set}, &j));
    log_set_sink(quiet, NULL);
    OK(session_open(j, &s));
    for (uint64_t k = 0; k < s.steps; k++)
        OK(session_step(&s, k, &step));
    OK(session_evaluate(&s, &e));
    ck_assert_msg(e.accuracy > 0.8, "accuracy %g: only the word under the mask says the class", e.accuracy);
    evaluation_free(&e);
    session_close(&s);
    config_free(j);
    for (int i = 0; i < 3; i++)
        tensor_free(&a[i]);
}
END_TEST

/* ---- what is refused ---- */

static void refused(const char *dir, const char *const *set, status want, const char *part)
{
    session s;
    job *j = load(dir, set);
    log_set_sink(quiet, NULL);
    FAILS(want, part, session_open(j, &s));
    config_free(j);
}

static void put_word(const char *dir, const char *name, int64_t rows, int64_t at, int64_t id)
{
    tensor t;
    const limits lim = limits_default();
    OK(npy_read(test_path(dir, name), &lim, &t));
    ck_assert_int_eq(t.sh.dim[0], rows);
    ((int64_t *)t.data)[at] = id;
    OK(npy_write(test_path(dir, name), &t));
    tensor_free(&t);
}

START_TEST(words_outside_the_table_are_refused)
{
    const char *dir = test_tmp_dir();
    make_tokens(dir);
    put_word(dir, "data/x_train.npy", TRAIN, 7 * TOKENS + 2, WORDS);
    refused(dir, NULL, ST_BAD_DATA, "number 2 of training sample 7 is 20, outside the 20 rows");
    put_word(dir, "data/x_train.npy", TRAIN, 7 * TOKENS + 2, -1);
    refused(dir, NULL, ST_BAD_DATA, "sample 7 is -1");
    put_word(dir, "data/x_train.npy", TRAIN, 7 * TOKENS + 2, WORDS - 1);
    put_word(dir, "data/x_val.npy", VAL, 0, (int64_t)1 << 40);
    refused(dir, NULL, ST_BAD_DATA, "number 0 of validation sample 0 is 1099511627776");
}
END_TEST

START_TEST(what_does_not_fit_is_refused)
{
    const char *dir = test_tmp_dir();
    make_waves(dir);
    refused(dir, ARGS("distill.output_loss=kl"), ST_CONFIG, "no logits");
    refused(dir, ARGS("distill.task_loss=bce"), ST_CONFIG, "no logits");
    refused(dir, ARGS("distill.task_loss=ce"), ST_CONFIG, "float targets");
    refused(dir, ARGS("layer.post.channels=2"), ST_CONFIG, "32 outputs and 16 targets");
    refused(dir, ARGS("distill.task=0", "layer.post.channels=2"), ST_CONFIG, "the teacher's output is");
    refused(dir, ARGS("hint.a.regressor=linear"), ST_CONFIG, "the shapes differ");
    write_array(dir, "data/x_train.npy", DTYPE_F32, SHAPE(TRAIN, BANDS, FRAMES + 1), normal, 1);
    write_array(dir, "data/x_val.npy", DTYPE_F32, SHAPE(VAL, BANDS, FRAMES + 1), normal, 1);
    refused(dir, ARGS("distill.task=0", "distill.kd=1"), ST_CONFIG, "");
    make_tokens(dir);
    write_array(dir, "data/x_train.npy", DTYPE_F32, SHAPE(TRAIN, TOKENS), normal, 1);
    write_array(dir, "data/x_val.npy", DTYPE_F32, SHAPE(VAL, TOKENS), normal, 1);
    session s;
    job *j = load(dir, NULL);
    ck_assert_int_ne(session_open(j, &s), ST_OK); /* an embedding of floats */
    config_free(j);
}
END_TEST

const test_entry test_table[] = {TEST(gradients_of_a_token_student), TEST(gradients_of_a_wave_student), TEST(tokens_are_trained_on),
                                 TEST(numbers_are_trained_on), TEST(parity_steps), TEST(inputs_are_matched_by_name),
                                 TEST(words_outside_the_table_are_refused), TEST(what_does_not_fit_is_refused), {0}};
