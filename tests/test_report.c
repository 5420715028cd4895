/* test_report.c - the files of a run directory and the page made of them: round trips, hostile content, missing parts. */
#include "harness.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"
#include "deploy/report.h"
#include "deploy/report_page.h"

#include <math.h>
#include <string.h>
#include <stdio.h>

enum { CLASSES = 3, SAMPLES = 6 };
static const float teacher_logits[SAMPLES * CLASSES] = {5, 0, 0, 0, 5, 0, 0, 0, 5, 5, 0, 0, 0, 5, 0, 0, 0, 5};
static const float student_logits[SAMPLES * CLASSES] = {4, 0, 0, 0, 4, 0, 0, 0, 4, 4, 0, 0, 4, 0, 0, 0, 1, 2};
static const int32_t labels[SAMPLES] = {0, 1, 2, 0, 1, -1};
static const char *const plain_names[CLASSES] = {"cat", "dog", "bird"};

/* What a page must never contain unescaped. */
#define NASTY_VALID "<b onload=\"y\">\n\t\x01 \\ \xc3\xa9"
#define NASTY "<script>alert('x')</script>\"&<b onload=\"y\">\xff\x01"

static void make_validation(validation *v, const char *const *names, const char *word)
{
    static const uint8_t gray[4] = {0, 80, 160, 255}, rgb[12] = {255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9};
    *v = (validation){
        .set = word, .samples = SAMPLES, .classes = CLASSES, .has_teacher = true, .has_agreement = true};
    OK(arena_alloc(&v->mem, &v->class_names, CLASSES, sizeof *v->class_names));
    memcpy(v->class_names, names, CLASSES * sizeof *names);
    OK(score_logits(teacher_logits, labels, SAMPLES, CLASSES, &v->teacher));
    OK(score_logits(student_logits, labels, SAMPLES, CLASSES, &v->student));
    OK(compare_logits(teacher_logits, student_logits, SAMPLES, CLASSES, &v->agreement));
    OK(validation_add_farthest(v, teacher_logits, student_logits, labels, 3));
    OK(thumbnail_from_bytes(&v->mem, gray, 2, 2, 1, 96, &v->farthest[0].image));
    OK(thumbnail_from_bytes(&v->mem, rgb, 2, 2, 3, 96, &v->farthest[1].image));
    OK(arena_alloc(&v->mem, &v->runtimes, 3, sizeof *v->runtimes));
    v->n_runtimes = 3;
    v->runtimes[0] =
        (runtime_result){.model = "teacher",
                         .runtime = "ONNX Runtime",
                         .version = word,
                         .precision = "fp32",
                         .ok = true,
                         .has_latency = true,
                         .threads = 1,
                         .batch = 1,
                         .accuracy = 1,
                         .time = {.runs = 9, .p50 = 2, .p90 = 3, .p99 = 4, .mean = 2.5, .min = 1}};
    v->runtimes[1] = (runtime_result){
        .model = "student",
        .runtime = "ONNX Runtime",
        .version = "1.31.1",
        .precision = "fp32",
        .ok = true,
        .has_latency = true,
        .has_difference = true,
        .threads = 2,
        .batch = 1,
        .accuracy = 0.8,
        .diff = {.samples = SAMPLES, .max_abs = 1e-6, .max_abs_sample = 2, .max_rel = 2e-7, .mean_kl = 1e-12},
        .time = {.runs = 9, .p50 = 0.5, .p90 = 0.6, .p99 = 0.7, .mean = 0.5, .min = 0.4}};
    v->runtimes[2] = (runtime_result){
        .model = "student", .runtime = word, .ok = false, .message = word, .accuracy = (double)NAN};
    OK(arena_alloc(&v->mem, &v->checks, 2, sizeof *v->checks));
    v->n_checks = 2;
    v->checks[0] = (check_result){.name = "runs in ONNX Runtime", .detail = word, .held = true};
    v->checks[1] = (check_result){.name = word, .held = true};
}

static run_info make_run(const char *word)
{
    static const char *command[4];
    static file_info files[1];
    static library_info libraries[1];
    command[0] = "distill";
    command[1] = "--teacher";
    command[2] = word;
    command[3] = "it's";
    files[0] = (file_info){.name = word, .path = word, .sha256 = word, .bytes = 5};
    libraries[0] = (library_info){.name = word, .version = word};
    return (run_info){
        .name = word,
        .status = "done",
        .version = "0.1.0",
        .build = word,
        .folder = word,
        .started = "2025-11-21T14:00:00Z",
        .device = word,
        .command = command,
        .n_command = 4,
        .seconds = 12.5,
        .seed = 7,
        .threads = 2,
        .cores = 2,
        .system = word,
        .cpu = word,
        .memory = 1 << 30,
        .steps = 20,
        .steps_done = 20,
        .batch = 4,
        .samples = 80,
        .labelled = 8,
        .epochs = 1,
        .method = word,
        .has_teacher = true,
        .teacher =
            {.name = word, .path = word, .sha256 = word, .parameters = 1000, .macs = 90000, .bytes = 4096},
        .student = {.name = word, .path = word, .parameters = 100, .macs = 3000, .bytes = -1},
        .files = files,
        .n_files = 1,
        .libraries = libraries,
        .n_libraries = 1};
}

static const char metrics[] =
    "{\"event\":\"start\",\"time\":1,\"step\":0}\n"
    "{\"event\":\"step\",\"time\":1,\"step\":5,\"epoch\":0.25,\"lr\":0.1,\"loss\":{\"total\":2,\"kl\":1.5,"
    "\"ce\":0.5}}\n"
    "{\"event\":\"step\",\"time\":2,\"step\":10,\"epoch\":0.5,\"lr\":0.09,\"loss\":{\"total\":null,"
    "\"total_nonfinite\":\"nan\",\"kl\":1,\"ce\":0.5}}\n"
    "{\"event\":\"nonfinite\",\"time\":2,\"step\":10,\"tensor\":\"x\"}\n"
    "{\"event\":\"eval\",\"time\":2,\"step\":10,\"epoch\":0.5,\"accuracy\":0.5,\"loss\":1}\n"
    "{\"event\":\"step\",\"time\":2,\"step\":15,\"epoch\":0.75,\"lr\":0.08,\"loss\":{\"total\":9,\"kl\":9,"
    "\"ce\":9}}\n"
    "{\"event\":\"resume\",\"time\":3,\"step\":10}\n"
    "{\"event\":\"step\",\"time\":3,\"step\":15,\"epoch\":0.75,\"lr\":0.08,\"loss\":{\"total\":1,\"kl\":0.5,"
    "\"ce\":0.5}}\n"
    "not json\n"
    "{\"event\":\"eval\",\"time\":4,\"step\":20,\"epoch\":1,\"accuracy\":0.8,\"loss\":0.5}\n"
    "{\"event\":\"end\",\"time\":4,\"step\":20}\n"
    "{\"event\":\"st";

static const char *make_dir(const char *word)
{
    const char *dir = test_tmp_dir();
    const char *names[CLASSES] = {word, "dog", "bird"};
    validation v;
    run_info r = make_run(word);
    make_validation(&v, strcmp(word, NASTY) == 0 ? names : plain_names, word);
    OK(validation_write(test_path(dir, "validation.json"), &v));
    OK(run_info_write(test_path(dir, "run.json"), &r));
    OK(io_write_file(test_path(dir, "metrics.jsonl"), metrics, sizeof metrics - 1));
    OK(io_write_file(test_path(dir, "config.ini"), word, strlen(word)));
    validation_free(&v);
    return dir;
}

static char *make_page(const char *dir)
{
    report_data r;
    unsigned char *page;
    size_t size;
    OK(report_from_run(dir, &r));
    OK(report_write(test_path(dir, "report.html"), &r));
    report_free(&r);
    OK(io_read_file(test_path(dir, "report.html"), 1 << 24, &page, &size));
    ck_assert_uint_eq(strlen((char *)page), size);
    return (char *)page;
}

/* ---- files ---- */

static void same_score(const score *a, const score *b)
{
    ck_assert_uint_eq(a->labelled, b->labelled);
    ck_assert_uint_eq(a->correct, b->correct);
    ck_assert(a->ce == b->ce);
    ck_assert_mem_eq(a->class_samples, b->class_samples, CLASSES * sizeof(uint32_t));
    ck_assert_mem_eq(a->class_correct, b->class_correct, CLASSES * sizeof(uint32_t));
    ck_assert_mem_eq(a->confusion, b->confusion, CLASSES * CLASSES * sizeof(uint32_t));
}

START_TEST(validation_comes_back_as_it_was)
{
    const char *path = test_path(test_tmp_dir(), "validation.json");
    validation v, w;
    make_validation(&v, plain_names, "a word");
    OK(validation_write(path, &v));
    OK(validation_read(path, &w));
    ck_assert_str_eq(w.set, v.set);
    ck_assert_uint_eq(w.samples, SAMPLES);
    ck_assert_uint_eq(w.classes, CLASSES);
    for (int i = 0; i < CLASSES; i++)
        ck_assert_str_eq(w.class_names[i], v.class_names[i]);
    same_score(&w.teacher, &v.teacher);
    same_score(&w.student, &v.student);
    ck_assert_uint_eq(v.agreement.disagreements, 1);
    ck_assert_uint_eq(w.agreement.disagreements, v.agreement.disagreements);
    ck_assert(w.agreement.mean_kl == v.agreement.mean_kl && w.agreement.max_rel == v.agreement.max_rel);
    ck_assert_uint_eq(w.n_runtimes, 3);
    ck_assert(w.runtimes[1].ok && w.runtimes[1].diff.max_abs == 1e-6 && w.runtimes[1].time.p99 == 0.7);
    ck_assert_int_eq(w.runtimes[1].threads, 2);
    ck_assert(!w.runtimes[2].ok && isnan(w.runtimes[2].accuracy) && !w.runtimes[2].has_latency);
    ck_assert_str_eq(w.runtimes[2].message, "a word");
    ck_assert_uint_eq(w.n_farthest, 3);
    ck_assert_uint_eq(w.farthest[0].sample, 4); /* the only disagreement */
    ck_assert_int_eq(w.farthest[0].teacher, 1);
    ck_assert_int_eq(w.farthest[0].student, 0);
    for (int i = 0; i < 3; i++) {
        const far_sample *a = &v.farthest[i], *b = &w.farthest[i];
        ck_assert(a->kl == b->kl && a->teacher_p == b->teacher_p && a->student_p == b->student_p);
        ck_assert_int_eq(a->label, b->label);
        ck_assert_int_eq(a->image.width, b->image.width);
        if (a->image.width)
            ck_assert_mem_eq(a->image.pixels, b->image.pixels, (size_t)(4 * a->image.channels));
    }
    ck_assert_uint_eq(w.n_checks, 2);
    ck_assert(w.checks[0].held);
    ck_assert_str_eq(w.checks[0].detail, "a word");
    ck_assert_ptr_null(w.checks[1].detail);
    validation_free(&v);
    validation_free(&w);
}
END_TEST

static void same_difference(const difference *a, const difference *b)
{
    ck_assert_uint_eq(a->samples, b->samples);
    ck_assert_uint_eq(a->disagreements, b->disagreements);
    ck_assert_uint_eq(a->max_abs_sample, b->max_abs_sample);
    ck_assert(a->max_abs == b->max_abs && a->max_rel == b->max_rel && a->mean_kl == b->mean_kl);
    ck_assert(a->mean_abs == b->mean_abs || (isnan(a->mean_abs) && isnan(b->mean_abs)));
}

/* Read and written again: the same bytes; and every field arrives. */
START_TEST(variants_come_back_as_they_were)
{
    const char *dir = test_tmp_dir(), *first = test_path(dir, "a.json"), *again = test_path(dir, "b.json");
    const latency l = {.runs = 7, .p50 = 0.1, .p90 = 0.2, .p99 = 0.3, .mean = 1.0 / 3, .min = 0.05};
    const difference d = {.samples = SAMPLES, .disagreements = 2, .max_abs = 1e-3, .max_abs_sample = 4, .max_rel = 1e-7,
                          .mean_kl = 0.1, .mean_abs = (double)NAN};
    variant_result all[] = {
        {.key = "fp32", .model = "student", .file = "export/student.fp32.onnx", .bytes = 1234, .accuracy = 2.0 / 3, .accuracy_ort = 0.5,
         .has_agreement = true, .has_difference = true, .has_latency = true, .has_latency_ort = true, .agreement = d, .diff = d,
         .time = l, .time_ort = l, .tflite = "export/student.fp32.tflite", .tflite_bytes = 99},
        {.key = "teacher-fp16", .model = "teacher", .file = "export/student.teacher-fp16.onnx", .message = NASTY_VALID, .bytes = 0,
         .accuracy = (double)NAN, .accuracy_ort = (double)NAN, .tflite_bytes = -1, .tflite_message = "no form of 'float16' \" there"},
        {.key = "int8-ptq", .model = "student", .bytes = -1, .accuracy = (double)INFINITY, .accuracy_ort = 0, .has_latency_ort = true,
         .time_ort = l, .tflite_bytes = -1, .note = "3 of 74 channels \"may\" <saturate>"}};
    enum { N = sizeof all / sizeof *all };
    validation v, w;
    unsigned char *a, *b;
    size_t n, m;
    make_validation(&v, plain_names, "a word");
    v.variants = all;
    v.n_variants = N;
    OK(validation_write(first, &v));
    OK(validation_read(first, &w));
    OK(validation_write(again, &w));
    OK(io_read_file(first, 1 << 20, &a, &n));
    OK(io_read_file(again, 1 << 20, &b, &m));
    ck_assert_msg(n == m && memcmp(a, b, n) == 0, "read and written again, validation.json differs");
    ck_assert_uint_eq(w.n_variants, N);
    for (size_t i = 0; i < N; i++) {
        const variant_result *x = &all[i], *y = &w.variants[i];
        ck_assert_str_eq(x->key, y->key);
        ck_assert_str_eq(x->model, y->model);
        ck_assert_pstr_eq(x->file, y->file);
        ck_assert_pstr_eq(x->message, y->message);
        ck_assert_pstr_eq(x->tflite, y->tflite);
        ck_assert_pstr_eq(x->tflite_message, y->tflite_message);
        ck_assert_pstr_eq(x->note, y->note);
        ck_assert_int_eq(x->bytes, y->bytes);
        ck_assert_int_eq(x->tflite_bytes, y->tflite_bytes);
        ck_assert(x->accuracy == y->accuracy || (isnan(x->accuracy) && isnan(y->accuracy)));
        ck_assert(x->accuracy_ort == y->accuracy_ort || (isnan(x->accuracy_ort) && isnan(y->accuracy_ort)));
        ck_assert(x->has_agreement == y->has_agreement && x->has_difference == y->has_difference);
        ck_assert(x->has_latency == y->has_latency && x->has_latency_ort == y->has_latency_ort);
        same_difference(&x->agreement, &y->agreement);
        same_difference(&x->diff, &y->diff);
        ck_assert_mem_eq(&x->time, &y->time, sizeof l);
        ck_assert_mem_eq(&x->time_ort, &y->time_ort, sizeof l);
    }
    mem_free(a);
    mem_free(b);
    validation_free(&v);
    validation_free(&w);
}
END_TEST

START_TEST(run_info_comes_back_as_it_was)
{
    const char *path = test_path(test_tmp_dir(), "run.json");
    run_info r = make_run("w \" \\ \n \xc3\xa9"), q;
    arena mem = {0};
    OK(run_info_write(path, &r));
    OK(run_info_read(path, &mem, &q));
    ck_assert_str_eq(q.name, r.name);
    ck_assert_str_eq(q.status, "done");
    ck_assert_ptr_null(q.reason);
    ck_assert_uint_eq(q.n_command, 4);
    for (size_t i = 0; i < 4; i++)
        ck_assert_str_eq(q.command[i], r.command[i]);
    ck_assert(q.seconds == 12.5 && q.seed == 7 && q.threads == 2 && q.memory == 1 << 30 && q.steps == 20);
    ck_assert(q.has_teacher && q.teacher.macs == 90000 && q.student.bytes == -1);
    ck_assert_ptr_null(q.student.sha256);
    ck_assert_str_eq(q.files[0].sha256, r.name);
    ck_assert_str_eq(q.libraries[0].version, r.name);
    arena_free(&mem);
}
END_TEST

#define VARIANTS "{\"schema\":1,\"classes\":[\"a\"],\"student\":{},\"variants\":"
START_TEST(bad_files_are_refused_by_name)
{
    static const struct {
        const char *json, *message;
    } bad[] = {
        {"{}", "schema 0"},
        {"{\"schema\":2}", "schema 2"},
        {"{\"schema\":1}", "'classes'"},
        {"{\"schema\":1,\"classes\":[]}", "'classes'"},
        {"{\"schema\":1,\"classes\":[1]}", "'classes'"},
        {"{\"schema\":1,\"classes\":[\"a\"]}", "'student' is missing"},
        {"{\"schema\":1,\"samples\":-1,\"classes\":[\"a\"],\"student\":{}}", "'samples'"},
        {"{\"schema\":1,\"classes\":[\"a\"],\"student\":{\"labelled\":1}}", "'labelled'"},
        {"{\"schema\":1,\"classes\":[\"a\"],\"student\":{\"class_samples\":[1,2]}}", "'class_samples'"},
        {"{\"schema\":1,\"classes\":[\"a\"],\"student\":{\"class_correct\":[-1]}}", "'class_correct'"},
        {"{\"schema\":1,\"classes\":[\"a\"],\"student\":{\"confusion\":[]}}", "'confusion'"},
        {"{\"schema\":1,\"classes\":[\"a\"],\"student\":{\"confusion\":[[4294967296]]}}", "'confusion'"},
        {"{\"schema\":1,\"classes\":[\"a\"],\"student\":{},\"runtimes\":[{}]}", "'runtimes'"},
        {"{\"schema\":1,\"classes\":[\"a\"],\"student\":{},\"runtimes\":{}}", "'runtimes' must be an array"},
        {"{\"schema\":1,\"classes\":[\"a\"],\"student\":{},\"farthest\":[{\"label\":1}]}", "'label' is 1"},
        {"{\"schema\":1,\"classes\":[\"a\"],\"student\":{},\"farthest\":[{\"image\":{\"width\":2,\"height\":"
         "2,"
         "\"channels\":2,\"pixels\":\"\"}}]}",
         "'image'"},
        {"{\"schema\":1,\"classes\":[\"a\"],\"student\":{},\"farthest\":[{\"image\":{\"width\":4096,"
         "\"height\":4096,"
         "\"channels\":3,\"pixels\":\"AAAA\"}}]}",
         "bytes of pixels"},
        {"{\"schema\":1,\"classes\":[\"a\"],\"student\":{},\"checks\":[3]}", "'checks'"},
        {"{\"schema\":1,\"classes\":[\"a\"],\"student\":7}", "'student' must be an object"},
        {VARIANTS "{}}", "variants' must be an array"},
        {VARIANTS "[3]}", "'variants'"},
        {VARIANTS "[{}]}", "'variants': 'key' and 'model'"},
        {VARIANTS "[{\"key\":\"fp32\"}]}", "'variants': 'key' and 'model'"},
        {VARIANTS "[{\"key\":7,\"model\":\"student\"}]}", "'key' must be a string"},
        {VARIANTS "[{\"key\":\"fp32\",\"model\":\"s\",\"bytes\":\"1\"}]}", "'bytes' must be a whole number"},
        {VARIANTS "[{\"key\":\"fp32\",\"model\":\"s\",\"bytes\":-2}]}", "'bytes' is -2"},
        {VARIANTS "[{\"key\":\"fp32\",\"model\":\"s\",\"tflite_bytes\":-7}]}", "'tflite_bytes' is -7"},
        {VARIANTS "[{\"key\":\"fp32\",\"model\":\"s\",\"tflite\":1}]}", "'tflite' must be a string"},
        {VARIANTS "[{\"key\":\"fp32\",\"model\":\"s\",\"message\":{}}]}", "'message' must be a string"},
        {VARIANTS "[{\"key\":\"fp32\",\"model\":\"s\",\"accuracy\":\"high\"}]}", "'accuracy' must be a number"},
        {VARIANTS "[{\"key\":\"fp32\",\"model\":\"s\",\"agreement\":[]}]}", "'agreement' must be an object"},
        {VARIANTS "[{\"key\":\"fp32\",\"model\":\"s\",\"agreement\":{\"samples\":-1}}]}", "'samples' is -1"},
        {VARIANTS "[{\"key\":\"fp32\",\"model\":\"s\",\"difference\":{\"disagreements\":0.5}}]}", "'disagreements' must be a whole number"},
        {VARIANTS "[{\"key\":\"fp32\",\"model\":\"s\",\"latency_ort_ms\":{\"runs\":-1}}]}", "'runs' is -1"},
    };
    const char *path = test_path(test_tmp_dir(), "validation.json");
    validation v;
    FAILS(ST_NO_INPUT, "validation.json", validation_read(path, &v));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        OK(io_write_file(path, bad[i].json, strlen(bad[i].json)));
        FAILS(ST_BAD_DATA, bad[i].message, validation_read(path, &v));
        FAILS(ST_BAD_DATA, "validation.json", validation_read(path, &v));
    }
    arena mem = {0};
    run_info r;
    const char *nameless = "{\"schema\":1,\"name\":\"x\"}";
    const char *odd = "{\"schema\":1,\"name\":\"x\",\"status\":\"done\",\"command\":[1]}";
    OK(io_write_file(path, nameless, strlen(nameless)));
    FAILS(ST_BAD_DATA, "'status'", run_info_read(path, &mem, &r));
    OK(io_write_file(path, odd, strlen(odd)));
    FAILS(ST_BAD_DATA, "'command'", run_info_read(path, &mem, &r));
    arena_free(&mem);
}
END_TEST

START_TEST(metrics_become_curves)
{
    const char *path = test_path(make_dir("x"), "metrics.jsonl");
    metrics_log m;
    OK(metrics_log_read(path, &m));
    ck_assert_uint_eq(m.n_loss, 3);
    ck_assert_str_eq(m.loss[0].name, "total");
    ck_assert_str_eq(m.loss[2].name, "ce");
    for (size_t k = 0; k < 3; k++) { /* step 15 was repeated after the resume: the second one counts */
        ck_assert_uint_eq(m.loss[k].n, 3);
        ck_assert(m.loss[k].x[2] == 15 && m.loss[k].y[2] <= 1);
    }
    ck_assert(isnan(m.loss[0].y[1]) && m.loss[1].y[1] == 1);
    ck_assert(m.rate.n == 3 && m.rate.y[0] == 0.1);
    ck_assert(m.accuracy.n == 2 && m.accuracy.y[1] == 0.8 && m.accuracy.x[1] == 20);
    ck_assert(m.resumes == 1 && m.nonfinite == 1 && m.unreadable == 2);
    metrics_log_free(&m);
    OK(metrics_log_read("/nonexistent/metrics.jsonl", &m));
    ck_assert(m.n_loss == 0 && m.rate.n == 0);
    metrics_log_free(&m);
}
END_TEST

/* ---- the page ---- */

static void contains(const char *page, const char *part)
{
    ck_assert_msg(strstr(page, part) != NULL, "the page lacks: %s", part);
}

static void lacks(const char *page, const char *part)
{
    const char *at = strstr(page, part);
    ck_assert_msg(at == NULL, "the page has: %.80s", at);
}

/* Every element that is opened is closed, in order (void elements and self-closed SVG apart). */
static void is_balanced(const char *page)
{
    static const char *const alone[] = {"meta", "img", "br", "!DOCTYPE"};
    char open[64][16];
    size_t depth = 0;
    for (const char *p = strchr(page, '<'); p; p = strchr(p + 1, '<')) {
        const char *name = p + 1 + (p[1] == '/');
        size_t n = strcspn(name, " >/\n");
        const char *end = strchr(p, '>');
        ck_assert_msg(end != NULL && n > 0 && n < 16, "broken tag: %.40s", p);
        bool skip = end[-1] == '/';
        for (size_t i = 0; i < sizeof alone / sizeof *alone; i++)
            skip = skip || (strlen(alone[i]) == n && strncmp(name, alone[i], n) == 0);
        if (skip)
            continue;
        if (p[1] == '/') {
            ck_assert_msg(depth > 0 && strncmp(open[depth - 1], name, n) == 0 && !open[depth - 1][n],
                          "closes what is not open: %.40s", p);
            depth--;
        } else {
            ck_assert_uint_lt(depth, 64);
            memcpy(open[depth], name, n);
            open[depth++][n] = 0;
        }
    }
    ck_assert_uint_eq(depth, 0);
}

START_TEST(the_page_says_what_came_out)
{
    char *page = make_page(make_dir("fashion"));
    is_balanced(page);
    contains(page, "<h1>fashion</h1>");
    contains(page, "Every check held");
    contains(page, "reaches 80.00\xc2\xa0%, 20.00 points below its teacher.");
    contains(page, "80.00\xc2\xa0%");  /* accuracy of the student: 4 of 5 */
    contains(page, "100.00\xc2\xa0%"); /* of the teacher */
    contains(page, "10.0 times fewer parameters");
    contains(page, "30.0 times fewer multiply-accumulates");
    contains(page, "same class as our own executor on all 6 samples");
    contains(page, "<td class=\"miss\"");
    contains(page, "src=\"data:image/png;base64,iVBORw0KGgo");
    contains(page, "&#39;it&#39;\\&#39;&#39;s&#39;"); /* 'it'\''s' for the shell */
    contains(page, "2025-11-21 14:00 UTC");
    contains(page, "2 lines of metrics.jsonl could not be read");
    contains(page, "resumed 1 time.");
    contains(page, "prefers-color-scheme:dark");
    contains(page, "@media print");
    mem_free(page);
}
END_TEST

START_TEST(the_page_needs_nothing_else)
{
    char *page = make_page(make_dir("fashion"));
    const char *const foreign[] = {"http:", "https:",  "//",   "<script",
                                   "<link", "@import", "url(", "javascript:"};
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        lacks(page, foreign[i]);
    for (const char *p = strstr(page, "src="); p; p = strstr(p + 1, "src="))
        ck_assert_msg(strncmp(p, "src=\"data:image/png;base64,", 27) == 0 ||
                          strncmp(p - 4, "img-src", 7) == 0,
                      "foreign source: %.40s", p);
    contains(page, "default-src 'none'");
    mem_free(page);
}
END_TEST

START_TEST(whatever_comes_from_files_is_escaped)
{
    char *page = make_page(make_dir(NASTY));
    is_balanced(page);
    lacks(page, "<script");
    lacks(page, "<b onload");
    lacks(page, "alert('");
    lacks(page, "\xff");
    lacks(page, "\x01");
    contains(page, "&#60;script&#62;alert(&#39;x&#39;)");
    mem_free(page);
}
END_TEST

START_TEST(a_failed_check_forbids_shipping)
{
    const char *dir = make_dir("fashion");
    validation v;
    make_validation(&v, plain_names, "fashion");
    v.checks[1] = (check_result){.name = "largest difference", .detail = "0.3", .held = false};
    OK(validation_write(test_path(dir, "validation.json"), &v));
    validation_free(&v);
    char *page = make_page(dir);
    is_balanced(page);
    contains(page, "Do not ship this student");
    contains(page, "1 of 2 checks did not hold; the first is: largest difference (0.3)");
    lacks(page, "Every check held");
    mem_free(page);
}
END_TEST

START_TEST(a_run_that_has_not_ended_has_a_page_too)
{
    const char *dir = test_tmp_dir();
    run_info r = make_run("early");
    report_data d;
    FAILS(ST_NO_INPUT, "run.json", report_from_run(dir, &d));
    FAILS(ST_NO_INPUT, "no such run directory", report_from_run("/nonexistent", &d));
    r.status = "running";
    r.has_teacher = false;
    r.steps_done = 3;
    r.seconds = r.epochs = (double)NAN;
    r.started = r.folder = r.method = NULL;
    r.n_command = r.n_files = r.n_libraries = 0;
    OK(run_info_write(test_path(dir, "run.json"), &r));
    char *page = make_page(dir);
    is_balanced(page);
    contains(page, "Not proved yet");
    contains(page, "3 steps of 20");
    contains(page, "Nothing was recorded");
    lacks(page, "Confusion");
    mem_free(page);
}
END_TEST

START_TEST(many_classes_are_cut_to_the_weakest)
{
    enum { MANY = 300 };
    const char *dir = make_dir("many");
    static float z[MANY * MANY];
    static int32_t y[MANY];
    static char name[MANY][32];
    const size_t sizes[] = {25, 256, MANY}; /* every class and the worst pairs; the weakest; no confusion */
    for (int s = 0; s < 3; s++) {
        size_t n = sizes[s];
        validation v = {.set = "x", .samples = n, .classes = n};
        OK(arena_alloc(&v.mem, &v.class_names, n, sizeof *v.class_names));
        memset(z, 0, sizeof z);
        for (size_t i = 0; i < n; i++) {
            snprintf(name[i], sizeof name[i], "class-%zu", i);
            v.class_names[i] = name[i];
            y[i] = (int32_t)i;
            z[i * n + (i == 20 ? 21 : i)] = 9; /* one mistake */
        }
        OK(score_logits(z, y, n, n, &v.student));
        OK(validation_write(test_path(dir, "validation.json"), &v));
        validation_free(&v);
        char *page = make_page(dir);
        is_balanced(page);
        (n > 30 ? contains : lacks)(page, "weakest classes");
        contains(page, n <= CONFUSION_MAX ? "class-20</th><td class=\"word\">class-21</td><td>1</td>"
                                          : "Not kept for more than 256 classes");
        mem_free(page);
    }
}
END_TEST

/* ---- pictures ---- */

START_TEST(thumbnails_are_means_of_their_pixels)
{
    arena mem = {0};
    thumbnail t;
    const uint8_t wide[8] = {0, 10, 20, 30, 40, 50, 60, 70}; /* 4 x 2 */
    OK(thumbnail_from_bytes(&mem, wide, 4, 2, 1, 2, &t));
    ck_assert(t.width == 2 && t.height == 1 && t.channels == 1);
    ck_assert_uint_eq(t.pixels[0], 25); /* 0 10 40 50 */
    ck_assert_uint_eq(t.pixels[1], 45);
    const uint8_t rgba[8] = {1, 2, 3, 99, 5, 6, 7, 99};
    OK(thumbnail_from_bytes(&mem, rgba, 2, 1, 4, 8, &t));
    ck_assert(t.width == 2 && t.channels == 3);
    ck_assert_mem_eq(t.pixels, ((uint8_t[]){1, 2, 3, 5, 6, 7}), 6);
    const uint8_t line[300] = {7};
    OK(thumbnail_from_bytes(&mem, line, 300, 1, 1, 10, &t)); /* never thinner than a pixel */
    ck_assert(t.width == 10 && t.height == 1);
    /* [channels, height, width], normalised: back to bytes, out of range and NaN clamped */
    const float x[6] = {(0.2f - 0.5f) / 0.25f, 9, -9, (float)NAN, 0, 2};
    const double mean[3] = {0.5, 0.5, 0.5}, std[3] = {0.25, 0.25, 0.25};
    OK(thumbnail_from_input(&mem, x, 3, 1, 2, mean, std, 8, &t));
    ck_assert_mem_eq(t.pixels, ((uint8_t[]){51, 0, 128, 255, 0, 255}), 6);
    FAILS(ST_BAD_DATA, "2 channels", thumbnail_from_bytes(&mem, wide, 2, 2, 2, 8, &t));
    FAILS(ST_BAD_DATA, "0 x 2", thumbnail_from_bytes(&mem, wide, 0, 2, 1, 8, &t));
    arena_free(&mem);
}
END_TEST

/* Everything between reading a run directory and the finished page, with the n-th allocation failing. */
static status whole_report(const char *dir, const char *page)
{
    report_data r;
    TRY(report_from_run(dir, &r));
    status st = report_write(page, &r);
    report_free(&r);
    return st;
}

static status put_more(text *t, const void *ctx)
{
    page_heading(t, "more", "Further");
    page_escaped(t, ctx);
    return t->st;
}

START_TEST(a_further_section_stands_where_it_says)
{
    const char *dir = make_dir("fashion"), *const before[] = {"training", NULL, "no such section"};
    for (int i = 0; i < 3; i++) {
        const report_section more = {.before = before[i], .style = ".further{color:red}", .put = put_more, .ctx = NASTY};
        report_data r;
        unsigned char *page;
        size_t size;
        OK(report_from_run(dir, &r));
        r.more = &more;
        r.n_more = 1;
        OK(report_write(test_path(dir, "report.html"), &r));
        report_free(&r);
        OK(io_read_file(test_path(dir, "report.html"), 1 << 24, &page, &size));
        const char *s = (const char *)page, *at = strstr(s, "<h2 id=\"more\">Further</h2>");
        is_balanced(s);
        contains(s, ".further{color:red}");
        contains(s, "<li><a href=\"#more\">Further</a></li>");
        ck_assert_ptr_nonnull(at);
        ck_assert(at > strstr(s, "<h2 id=\"checks\""));
        ck_assert(i == 0 ? at < strstr(s, "<h2 id=\"training\"") : at > strstr(s, "<h2 id=\"farthest\""));
        ck_assert(at < strstr(s, "<h2 id=\"reproduce\""));
        size_t headings = 0, links = 0;
        for (const char *p = strstr(s, "<h2"); p; p = strstr(p + 1, "<h2"))
            headings++;
        for (const char *p = strstr(s, "<li><a href=\"#"); p; p = strstr(p + 1, "<li><a href=\"#"))
            links++;
        ck_assert_uint_eq(headings, links);
        mem_free(page);
    }
}
END_TEST

START_TEST(any_allocation_may_fail)
{
    const char *dir = make_dir("fashion"), *page = test_path(dir, "report.html");
    uint64_t before = mem_count();
    OK(whole_report(dir, page));
    uint64_t n = mem_count() - before;
    ck_assert_uint_gt(n, 20);
    for (uint64_t i = 1; i <= n; i++)
        for (int once = 0; once < 2; once++) {
            mem_fail_at(i, once);
            status st = whole_report(dir, page);
            mem_fail_at(0, false);
            ck_assert_msg(st == ST_OOM, "allocation %d of %d: status %d: %s", (int)i, (int)n, (int)st,
                          status_message());
        }
    OK(whole_report(dir, page));
}
END_TEST

const test_entry test_table[] = {TEST(validation_comes_back_as_it_was),
                                 TEST(variants_come_back_as_they_were),
                                 TEST(run_info_comes_back_as_it_was),
                                 TEST(bad_files_are_refused_by_name),
                                 TEST(metrics_become_curves),
                                 TEST(the_page_says_what_came_out),
                                 TEST(the_page_needs_nothing_else),
                                 TEST(whatever_comes_from_files_is_escaped),
                                 TEST(a_failed_check_forbids_shipping),
                                 TEST(a_run_that_has_not_ended_has_a_page_too),
                                 TEST(many_classes_are_cut_to_the_weakest),
                                 TEST(thumbnails_are_means_of_their_pixels),
                                 TEST(a_further_section_stands_where_it_says),
                                 TEST(any_allocation_may_fail),
                                 {0}};
