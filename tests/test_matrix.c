/* test_matrix.c - matrix.json, how outputs are judged, a matrix of runners that misbehave in every way, and what is decided by it. */
#include "harness.h"
#include "base/io.h"
#include "matrix/judge.h"
#include "matrix/matrix.h"
#include "data/npy.h"
#include "program.h"
#include "toy.h"

#include <math.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- matrix.json ---- */

static const double class_accuracy[] = {0.5, 0.1 + 0.2, 1};
static const double latencies[] = {0.25, 1e-7, 3};

static matrix_cell full_cell(const char *runtime, const char *variant)
{
    matrix_cell c = matrix_cell_empty();
    c.runtime = runtime;
    c.variant = variant;
    c.state = CELL_DIFFERS;
    c.reason = "int16 sums saturate \"here\"";
    c.engine = "ONNX Runtime";
    c.version = "1.31.1";
    c.build = "b", c.device = "d", c.isa = "avx2", c.providers = "CPUExecutionProvider 3", c.notes = "n";
    c.host = "here", c.log = "matrix/a.log", c.key = "00ff", c.when = 1795305720;
    c.cached = true, c.emulated = true;
    c.images = 10000, c.labelled = 9999, c.correct = 9000;
    c.accuracy = 0.9, c.accuracy_low = 0.89, c.accuracy_high = 0.91;
    c.class_accuracy = class_accuracy, c.classes = 3, c.worst_class = 1, c.worst_class_accuracy = 0.3;
    c.disagree = 12, c.flips = 13;
    c.max_error = (double)INFINITY, c.mean_error = 0.1, c.p99_error = 0.2, c.tolerance = 1e-5;
    for (uint32_t i = 0; i < CELL_HISTOGRAM; i++)
        c.histogram[i] = i * 1000;
    c.worst[0].sample = 7, c.worst[0].error = (double)INFINITY, c.worst[1].sample = 8, c.worst[1].error = 0.5;
    c.n_worst = 2;
    c.output_hash = "ab";
    c.p50_ms = 0.25, c.p90_ms = 3, c.p99_ms = 3, c.latency_ms = latencies, c.n_latency = 3;
    c.throughput = 1e4, c.load_ms = 5, c.peak_mb = 60.5, c.seconds = 1.5, c.bytes = 1234;
    return c;
}

static matrix_row rows[] = {{.runtime = "own", .title = "distill", .present = true},
                            {.runtime = "qnn", .title = "QNN", .how = "needs a Qualcomm device", .emulated = true}};
static matrix_file files[] = {{.form = "onnx", .path = "student.onnx", .sha256 = "aa", .bytes = 10},
                              {.form = "tflite", .path = "export/a.tflite", .bytes = -1}};
static matrix_column columns[] = {{.variant = "fp32", .model = "student", .files = files, .n_files = 2},
                                  {.variant = "portable", .model = "student", .portable = true}};

static matrix small_matrix(matrix_cell cells[4])
{
    for (size_t i = 0; i < 4; i++) {
        cells[i] = matrix_cell_empty();
        cells[i].runtime = rows[i / 2].runtime;
        cells[i].variant = columns[i % 2].variant;
    }
    cells[0] = full_cell("own", "fp32");
    return (matrix){.run = "runs/a", .set = "test", .version = "0.1.0", .system = "Linux", .cpu = "c", .cores = 2,
                    .memory = 1 << 30, .samples = 10000, .seconds = 3, .rows = rows, .columns = columns, .cells = cells,
                    .n_rows = 2, .n_columns = 2};
}

START_TEST(a_matrix_comes_back_as_it_was_written)
{
    matrix_cell cells[4];
    matrix m = small_matrix(cells), back;
    const char *dir = test_tmp_dir(), *first = test_path(dir, "matrix.json"), *second = test_path(dir, "again.json");
    unsigned char *a, *b;
    size_t na, nb;
    OK(matrix_write(first, &m));
    OK(matrix_read(first, &back));
    OK(matrix_write(second, &back));
    OK(io_read_file(first, 1 << 20, &a, &na));
    OK(io_read_file(second, 1 << 20, &b, &nb));
    ck_assert_str_eq((char *)a, (char *)b);
    const matrix_cell *c = matrix_find(&back, "own", "fp32"), *e = matrix_find(&back, "qnn", "portable");
    ck_assert(c && e && !matrix_find(&back, "own", "fp16") && !matrix_find(&back, "x", "fp32"));
    ck_assert(c->state == CELL_DIFFERS && c->cached && c->emulated && c->images == 10000 && c->flips == 13);
    ck_assert(isinf(c->max_error) && isinf(c->worst[0].error) && c->worst[1].error == 0.5 && c->n_worst == 2);
    ck_assert(c->classes == 3 && memcmp(c->class_accuracy, class_accuracy, sizeof class_accuracy) == 0);
    ck_assert(c->n_latency == 3 && memcmp(c->latency_ms, latencies, sizeof latencies) == 0);
    ck_assert(c->histogram[11] == 11000 && c->bytes == 1234 && c->when == 1795305720);
    ck_assert_str_eq(c->reason, "int16 sums saturate \"here\"");
    ck_assert(e->state == CELL_NOT_RUN && isnan(e->accuracy) && e->bytes == -1 && !e->reason && !e->class_accuracy);
    ck_assert(back.rows[1].emulated && !back.rows[1].present && back.columns[1].portable && back.columns[0].n_files == 2);
    mem_free(a);
    mem_free(b);
    matrix_free(&back);
}
END_TEST

static void refused(const char *text_of_it, const char *part)
{
    matrix m;
    const char *path = test_path(test_tmp_dir(), "m.json");
    OK(io_write_file(path, text_of_it, strlen(text_of_it)));
    FAILS(ST_BAD_DATA, part, matrix_read(path, &m));
    matrix_free(&m);
}

#define HEAD "{\"schema\": 1, \"runtimes\": [{\"runtime\": \"own\"}], \"variants\": [{\"variant\": \"fp32\"}], \"cells\": ["
START_TEST(a_wrong_matrix_is_refused_by_name)
{
    matrix m;
    FAILS(ST_NO_INPUT, "none.json", matrix_read(test_path(test_tmp_dir(), "none.json"), &m));
    matrix_free(&m);
    refused("{\"schema\": 2}", "schema 2");
    refused("{\"schema\": 1}", "runtimes");
    refused("{\"schema\": 1, \"runtimes\": [3], \"variants\": [], \"cells\": []}", "objects");
    refused(HEAD "7]}", "cells");
    refused(HEAD "{\"runtime\": \"own\", \"variant\": \"fp32\"}]}", "state");
    refused(HEAD "{\"runtime\": \"own\", \"variant\": \"fp32\", \"state\": \"fine\"}]}", "fine");
    refused(HEAD "{\"runtime\": \"own\", \"variant\": \"fp64\", \"state\": \"ok\"}]}", "fp64");
    refused(HEAD "{\"runtime\": \"own\", \"variant\": \"fp32\", \"state\": \"ok\", \"images\": -1}]}", "images");
    refused(HEAD "{\"runtime\": \"own\", \"variant\": \"fp32\", \"state\": \"ok\", \"accuracy\": \"high\"}]}", "accuracy");
    refused(HEAD "{\"runtime\": \"own\", \"variant\": \"fp32\", \"state\": \"ok\", \"histogram\": [1]}]}", "histogram");
    refused(HEAD "{\"runtime\": \"own\", \"variant\": \"fp32\", \"state\": \"ok\", \"latency_ms\": [\"x\"]}]}", "latency_ms");
    refused(HEAD "{\"runtime\": \"own\", \"variant\": \"fp32\", \"state\": \"ok\", \"worst\": [1]}]}", "worst");
    refused(HEAD "{\"runtime\": \"own\", \"variant\": \"fp32\", \"state\": \"ok\", \"images\": 2, \"right\": \"012\"}]}", "right");
}
END_TEST

/* ---- judging ---- */

enum { JUDGED = 6, WIDTH = 3 };
static const int judged_codes[JUDGED * WIDTH] = {130, 128, 120, 0, 255, 128, 7, 8, 9, 200, 100, 50, 128, 129, 127, 1, 2, 3}; /* uint8 */
static const int32_t judged_labels[JUDGED] = {0, 1, 2, 0, 0, -1};
#define JUDGED_SCALE 0.5f

static tensor outputs_as(dtype type, int shift)
{
    tensor t;
    OK(tensor_new(&t, NULL, type, SHAPE(JUDGED, WIDTH)));
    for (int i = 0; i < JUDGED * WIDTH; i++)
        tensor_put(&t, i, type == DTYPE_F32 || type == DTYPE_F16 ? (judged_codes[i] - 128) * (double)JUDGED_SCALE : judged_codes[i] + shift);
    return t;
}

static matrix_cell judged(const file_facts *f, const float *own, tensor y, arena *mem)
{
    matrix_cell c = matrix_cell_empty();
    const judge_by by = {.file = f, .own = own, .plain = own, .label = judged_labels};
    OK(judge_outputs(&by, &y, JUDGED, mem, &c));
    tensor_free(&y);
    return c;
}

/* Whatever type a runtime gives its codes in, they have one hash; one code more or less has another. */
START_TEST(portable_outputs_are_judged_by_their_codes)
{
    file_facts f = {.portable = true, .integers = true, .width = WIDTH, .rank = 2, .out_scale = (double)JUDGED_SCALE, .out_zero = 128,
                    .out_unsigned = true};
    tensor own = outputs_as(DTYPE_F32, 0), other;
    arena mem = {0};
    matrix_cell a = judged(&f, NULL, outputs_as(DTYPE_F32, 0), &mem), c;
    ck_assert(a.state == CELL_OK && strlen(a.output_hash) == 64 && a.labelled == 5 && a.correct == 4);
    ck_assert(a.classes == WIDTH && a.class_accuracy[0] == 2.0 / 3 && a.worst_class == 0 && a.right[0] && !a.right[4]);
    const struct {
        dtype type;
        int shift;
    } forms[] = {{DTYPE_F32, 0}, {DTYPE_F16, 0}, {DTYPE_U8, 0}, {DTYPE_I8, -128}};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        c = judged(&f, own.data, outputs_as(forms[i].type, forms[i].shift), &mem);
        ck_assert_msg(c.state == CELL_OK, "form %zu: %s", i, c.reason);
        ck_assert_str_eq(c.output_hash, a.output_hash);
    }
    other = outputs_as(DTYPE_F32, 0);
    ((float *)other.data)[7] += JUDGED_SCALE;
    c = judged(&f, own.data, other, &mem);
    ck_assert(c.state == CELL_DIFFERS && strcmp(c.output_hash, a.output_hash) != 0 && strstr(c.reason, "1 of 18"));
    other = outputs_as(DTYPE_F32, 0);
    ((float *)other.data)[7] += 0.4f * JUDGED_SCALE; /* the nearest code is right, but no integer engine says that */
    c = judged(&f, own.data, other, &mem);
    ck_assert(c.state == CELL_DIFFERS && strstr(c.reason, "no codes"));
    tensor_free(&own);
    arena_free(&mem);
}
END_TEST

START_TEST(float_outputs_are_judged_by_their_distance)
{
    file_facts f = {.width = WIDTH, .rank = 2};
    tensor own = outputs_as(DTYPE_F32, 0), y = outputs_as(DTYPE_F32, 0); /* up to 64: 6.4e-5 is tolerated */
    arena mem = {0};
    ((float *)y.data)[4] += 3e-5f;
    matrix_cell c = judged(&f, own.data, y, &mem);
    ck_assert_msg(c.state == CELL_OK && c.max_error > 0 && c.max_error < 6.4e-5, "%s", c.reason);
    ck_assert(c.n_worst == 1 && c.worst[0].sample == 1 && c.histogram[0] == 17 && c.histogram[5] == 1);
    y = outputs_as(DTYPE_F32, 0);
    ((float *)y.data)[4] += 2e-4f;
    c = judged(&f, own.data, y, &mem);
    ck_assert(c.state == CELL_DIFFERS && strstr(c.reason, "largest error"));
    f.half = true;
    y = outputs_as(DTYPE_F32, 0);
    ((float *)y.data)[4] += 2e-2f;
    ck_assert(judged(&f, own.data, y, &mem).state == CELL_OK);
    f.half = false;
    y = outputs_as(DTYPE_F32, 0);
    ((float *)y.data)[4] += 2e-2f;
    c = matrix_cell_empty();
    OK(judge_outputs(&(judge_by){.file = &f, .own = own.data, .bf16 = true}, &y, JUDGED, &mem, &c)); /* of a runtime in bfloat16 */
    ck_assert(c.state == CELL_OK && c.tolerance == 5e-2);
    tensor_free(&y);
    f = (file_facts){.integers = true, .width = WIDTH, .rank = 2, .out_scale = (double)JUDGED_SCALE};
    y = outputs_as(DTYPE_F32, 0);
    ((float *)y.data)[3] += 100 * JUDGED_SCALE; /* of another class too */
    c = judged(&f, own.data, y, &mem);
    ck_assert(c.state == CELL_DIFFERS && c.flips == 0 && c.max_error == 50);
    y = outputs_as(DTYPE_F32, 0);
    ((float *)y.data)[0] = (float)NAN;
    c = judged(&f, own.data, y, &mem);
    ck_assert(c.state == CELL_DIFFERS && c.flips == 1 && c.disagree == 1 && !c.right[0] && strstr(c.reason, "1 of 18 outputs are not finite"));
    ck_assert(isinf(c.max_error) && isfinite(c.mean_error));
    tensor_free(&own);
    arena_free(&mem);
}
END_TEST

/* Outputs of a net in QDQ form, `of` of them `steps` codes off ours, spread over all samples. */
enum { WIDE = 10, MANY = 10000 };
typedef struct spread {
    int steps, of;
} spread;

static matrix_cell judged_spread(const spread *s, size_t n, size_t samples, arena *mem)
{
    const file_facts f = {.integers = true, .width = WIDE, .rank = 2, .out_scale = 0.0890625, .out_zero = 3};
    tensor own, y;
    size_t at = 0;
    OK(tensor_new(&own, NULL, DTYPE_F32, SHAPE((int64_t)samples, WIDE)));
    OK(tensor_new(&y, NULL, DTYPE_F32, SHAPE((int64_t)samples, WIDE)));
    const size_t total = samples * WIDE;
    for (size_t i = 0; i < total; i++)
        ((float *)own.data)[i] = ((float *)y.data)[i] = (float)(((double)(i * 37 % 256) - 128) * f.out_scale);
    for (size_t k = 0; k < n; k++)
        for (int i = 0; i < s[k].of; i++, at++) /* 7919 is prime to the total: every output once */
            ((float *)y.data)[at * 7919 % total] = (float)(((double)(at * 7919 % total * 37 % 256) - 128 + (i % 2 ? -s[k].steps : s[k].steps)) * f.out_scale);
    matrix_cell c = matrix_cell_empty();
    const judge_by by = {.file = &f, .own = own.data, .plain = own.data};
    OK(judge_outputs(&by, &y, samples, mem, &c));
    tensor_free(&own);
    tensor_free(&y);
    return c;
}
#define SPREAD(samples, ...) judged_spread((spread[]){__VA_ARGS__}, sizeof(spread[]){__VA_ARGS__} / sizeof(spread), samples, &mem)

/* The spreads that were counted with real engines (judge.c), and what lies between them and those that are wrong. */
START_TEST(integers_may_spread_as_those_of_right_engines_do)
{
    arena mem = {0};
    matrix_cell c = SPREAD(MANY, {1, 34521}, {2, 803}, {3, 8}); /* OpenVINO */
    ck_assert_msg(c.state == CELL_OK && c.mean_error > 0.03, "OpenVINO: %s", c.reason);
    c = SPREAD(MANY, {1, 31471}, {2, 225}, {3, 2}); /* LiteRT, built-in */
    ck_assert_msg(c.state == CELL_OK, "LiteRT: %s", c.reason);
    c = SPREAD(MANY, {4, 1});
    ck_assert_msg(c.state == CELL_OK, "four steps: %s", c.reason);
    c = SPREAD(MANY, {5, 1});
    ck_assert_msg(c.state == CELL_DIFFERS && strstr(c.reason, "largest error") && !strstr(c.reason, "1 of 100"), "five steps: %s", c.reason);
    c = SPREAD(MANY, {3, 990});
    ck_assert_msg(c.state == CELL_OK, "less than one of 100: %s", c.reason);
    c = SPREAD(MANY, {3, 1010}); /* a fault that is small, but everywhere */
    ck_assert_msg(c.state == CELL_DIFFERS && strstr(c.reason, "1 of 100 outputs is off by 3 steps or more, 2 are usual"), "%s", c.reason ? c.reason : "ok");
    c = SPREAD(MANY, {1, 100000}); /* a zero point that is one off */
    ck_assert_msg(c.state == CELL_DIFFERS && strstr(c.reason, "1 steps on the average, 0.75 are usual") && !strstr(c.reason, "largest"), "%s",
                  c.reason ? c.reason : "ok");
    c = SPREAD(MANY, {1, 74000});
    ck_assert_msg(c.state == CELL_OK, "on the average: %s", c.reason);
    c = SPREAD(500, {13, 60}, {24, 5}); /* AVX2 without VNNI */
    ck_assert_msg(c.state == CELL_DIFFERS && strstr(c.reason, "largest error") && strstr(c.reason, "; 1 of 100"), "%s", c.reason ? c.reason : "ok");
    c = SPREAD(50, {3, 20}); /* 500 outputs have no 99th percentile */
    ck_assert_msg(c.state == CELL_OK, "few samples: %s", c.reason);
    arena_free(&mem);
}
END_TEST

/* ---- the whole matrix, with runtimes that misbehave ---- */

/* Plays .venv/bin/python: $2 is the engine. Each describes itself and then fails in a way of its own. */
static const char fake_python[] =
    "#!/bin/sh\n"
    "read -r line\n"
    "out=$(printf '%s' \"$line\" | sed 's/.*\"output\":\"\\([^\"]*\\)\".*/\\1/')\n"
    "facts='\"protocol\":1,\"ok\":true,\"runtime\":\"fake\",\"version\":\"1\",\"build\":\"b\",\"device\":\"d\",\"isa\":\"x\"'\n"
    "case \"$line\" in *describe*) echo \"{$facts,\\\"forms\\\":[\\\"onnx\\\"]}\"; exit 0;; esac\n"
    "echo \"engine $2\" >&2\n"
    "case $2 in\n"
    "tract) kill -SEGV $$;;\n"
    "iree) sleep 100;;\n"
    "tinygrad) head -c 2000000000 /dev/zero | tail -n 1;;\n"
    "opencv) echo 'ValueError: no';;\n"
    "litert-reference) cp \"$HERE/wrong.npy\" \"$out\"; echo \"{$facts}\";;\n"
    "onnx-reference) cp \"$HERE/nan.npy\" \"$out\"; echo \"{$facts,\\\"latency_ms\\\":[1,3,2]}\";;\n"
    "litert-builtin) echo \"{$facts}\";;\n" /* no outputs */
    "litert-xnnpack) echo '{\"protocol\":1,\"ok\":false,\"kind\":\"unsupported\",\"message\":\"no such operator\"}';;\n"
    "ort-openvino) echo '{\"protocol\":0,\"ok\":true}';;\n"
    "esac\n";

/* Plays node, for rows whose runner stays: the second file that it is asked for in one life ends it. */
static const char fake_node[] =
    "#!/bin/sh\n"
    "facts='\"protocol\":1,\"ok\":true,\"runtime\":\"fake\",\"version\":\"1\",\"build\":\"b\",\"device\":\"d\",\"isa\":\"x\"'\n"
    "n=0\n"
    "while read -r line; do\n"
    "    case \"$line\" in *describe*) echo \"{$facts,\\\"forms\\\":[\\\"onnx\\\"]}\"; exit 0;; esac\n"
    "    n=$((n + 1))\n"
    "    case \"$line\" in *'\"more\":true'*) echo \"file $n\" >> \"$HERE/asked\";; esac\n"
    "    [ $n = 2 ] && kill -SEGV $$\n"
    "    cp \"$HERE/wrong.npy\" \"$(printf '%s' \"$line\" | sed 's/.*\"output\":\"\\([^\"]*\\)\".*/\\1/')\"\n"
    "    echo \"{$facts}\"\n"
    "done\n"
    "echo ended >> \"$HERE/asked\"\n";

static const char *fake_run, *fake_here; /* the run folder; the one that it is in */
static const char *fake_env[6];

static void write_outputs(const char *path, int64_t classes, float v)
{
    tensor t;
    OK(tensor_new(&t, NULL, DTYPE_F32, SHAPE(TOY_VAL, classes)));
    for (int64_t i = 0; i < TOY_VAL * classes; i++)
        ((float *)t.data)[i] = i == 9 ? v : 0.5f;
    OK(npy_write(path, &t));
    tensor_free(&t);
}

/* A trained toy and a folder that looks like the project. False: it could not be made. */
static bool make_fakes(const char *variants)
{
    const char *dir = test_tmp_dir(), *python = test_path(dir, ".venv/bin/python"), *node_js = test_path(dir, "bin/node");
    static char here[300], root[300], cache[300], export[100];
    toy_make(dir);
    fake_here = dir;
    fake_run = test_path(dir, "run");
    snprintf(export, sizeof export, "export.variants=%s", variants);
    ran r = program_run(NULL, ARGS("--student", test_path(dir, "job.ini"), "--out", fake_run, "--set", export, "--set", "quant.samples=48"));
    bool made = r.code == 0 || r.code == 1; /* 1: ONNX Runtime is missing */
    ck_assert_msg(made, "the toy does not train: %s", r.err);
    ran_free(&r);
    OK(io_make_dirs(test_path(dir, ".venv/bin")));
    OK(io_make_dirs(test_path(dir, "tools/runners")));
    OK(io_write_file(python, fake_python, sizeof fake_python - 1));
    ck_assert_int_eq(chmod(python, 0755), 0);
    OK(io_write_file(test_path(dir, "tools/runners/runner.py"), "", 0));
    OK(io_write_file(test_path(dir, "tools/runners/web.mjs"), "", 0));
    OK(io_make_dirs(test_path(dir, "bin")));
    OK(io_write_file(node_js, fake_node, sizeof fake_node - 1));
    ck_assert_int_eq(chmod(node_js, 0755), 0);
    write_outputs(test_path(dir, "nan.npy"), TOY_CLASSES, (float)NAN);
    write_outputs(test_path(dir, "wrong.npy"), TOY_CLASSES + 1, 0);
    snprintf(here, sizeof here, "HERE=%s", dir);
    snprintf(root, sizeof root, "DISTILL_ROOT=%s", dir);
    snprintf(cache, sizeof cache, "XDG_CACHE_HOME=%s/cache", dir);
    fake_env[0] = here;
    fake_env[1] = root;
    fake_env[2] = cache;
    return made;
}

static json_t *cell_of(json_t *m, const char *runtime, const char *variant)
{
    json_t *all = json_object_get(m, "cells");
    for (size_t i = 0; i < json_array_size(all); i++) {
        json_t *c = json_array_get(all, i);
        if (strcmp(json_string_value(json_object_get(c, "runtime")), runtime) == 0 &&
            strcmp(json_string_value(json_object_get(c, "variant")), variant) == 0)
            return c;
    }
    ck_abort_msg("there is no cell %s/%s", runtime, variant);
}

static void has_state_in(json_t *m, const char *runtime, const char *variant, const char *state, const char *part)
{
    json_t *c = cell_of(m, runtime, variant);
    const char *is = json_string_value(json_object_get(c, "state")), *why = json_string_value(json_object_get(c, "reason"));
    ck_assert_msg(strcmp(is, state) == 0, "%s is '%s', expected '%s': %s", runtime, is, state, why ? why : "");
    ck_assert_msg(!*part || (why && strstr(why, part)), "%s: '%s' lacks '%s'", runtime, why ? why : "", part);
}

static void has_state(json_t *m, const char *runtime, const char *state, const char *part)
{
    has_state_in(m, runtime, "fp32", state, part);
}

#if defined(__SANITIZE_ADDRESS__)
#define RUNNER_MEMORY "matrix.memory_limit=500" /* a runner of ours brings the sanitizer's shadow along */
#else
#define RUNNER_MEMORY "matrix.memory_limit=300"
#endif

static json_t *matrix_of(const char *asked_for, const char *more, int code)
{
    json_error_t e;
    const program_options o = {.env = fake_env, .kill_after = 120};
    ran r = program_run(&o, ARGS("matrix", fake_run, "--json", "--runtimes", asked_for, "--set", RUNNER_MEMORY, "--set",
                                 "matrix.time_limit=3", "--set", "matrix.latency_seconds=0.02", more ? more : "--quiet"));
    ck_assert_msg(r.code == code, "exit code %d (signal %d): %s", r.code, r.signal, r.err);
    json_t *m = code == 0 ? json_loads(r.out, 0, &e) : NULL;
    ck_assert_msg(m || code, "no JSON: %s", r.out);
    ran_free(&r);
    return m;
}

#define FAKES "own tract iree tinygrad opencv litert-reference onnx-reference litert-builtin litert-xnnpack ort-openvino qnn"

START_TEST(every_fault_of_a_runtime_is_a_state_of_its_cells)
{
    if (!make_fakes("fp32 fp16"))
        return;
    json_t *m = matrix_of(FAKES " ort", NULL, 0);
    has_state(m, "own", "ok", "");
    has_state(m, "tract", "crash", "signal 11");
    has_state(m, "iree", "timeout", "no answer in 3 s");
    has_state(m, "tinygrad", "crash", "memory");
    has_state(m, "opencv", "crash", "no answer");
    has_state(m, "litert-reference", "differs", "[40, 5]");
    has_state(m, "onnx-reference", "differs", "not finite");
    has_state(m, "litert-builtin", "crash", "cannot be read");
    has_state(m, "litert-xnnpack", "unsupported", "no such operator");
    has_state(m, "ort-openvino", "crash", "protocol 0");
    has_state(m, "qnn", "not run here", "Qualcomm");
    json_t *own = cell_of(m, "own", "fp32"), *wrong = cell_of(m, "onnx-reference", "fp32");
    ck_assert_int_eq(json_integer_value(json_object_get(own, "images")), TOY_VAL);
    ck_assert_int_eq(json_integer_value(json_object_get(own, "disagree")), 0);
    ck_assert(json_number_value(json_object_get(own, "max_error")) == 0 && json_number_value(json_object_get(own, "p50_ms")) > 0);
    ck_assert(json_number_value(json_object_get(wrong, "p50_ms")) == 2);
    ck_assert_str_eq(json_string_value(json_object_get(wrong, "max_error_nonfinite")), "inf");
    const char *log = json_string_value(json_object_get(cell_of(m, "tract", "fp32"), "log"));
    unsigned char *said;
    size_t n;
    OK(io_read_file(test_path(fake_run, log), 1 << 20, &said, &n));
    ck_assert_str_eq((char *)said, "engine tract\n");
    mem_free(said);
    const char *ort = json_string_value(json_object_get(cell_of(m, "ort", "fp32"), "state"));
    if (strcmp(ort, "not run here") == 0)
        test_skip("the toy in ONNX Runtime", "ONNX Runtime was not found");
    else
        ck_assert_str_eq(ort, "ok");
    ck_assert(!io_exists(test_path(fake_run, "matrix/work")));
    json_decref(m);

    m = matrix_of(FAKES, NULL, 0); /* all of it is known now, but for what took too long: it may be another time's fault */
    json_t *all = json_object_get(m, "cells");
    for (size_t i = 0; i < json_array_size(all); i++) {
        json_t *c = json_array_get(all, i);
        const char *state = json_string_value(json_object_get(c, "state"));
        if (strcmp(json_string_value(json_object_get(c, "runtime")), "ort") == 0)
            continue; /* not asked for: as it stood in matrix.json */
        bool cached = json_is_true(json_object_get(c, "cached")), late = strcmp(state, "timeout") == 0;
        bool nothing = strcmp(state, "not run here") == 0 || strcmp(state, "unsupported") == 0;
        ck_assert_msg(nothing || cached == !late, "%s is %s, %scached", json_string_value(json_object_get(c, "runtime")), state,
                      cached ? "" : "not ");
    }
    json_decref(m);
    m = matrix_of("own", "--refresh", 0);
    ck_assert(json_is_false(json_object_get(cell_of(m, "own", "fp32"), "cached")));
    json_decref(m);
    m = matrix_of("own", "--set=matrix.batch=7", 0); /* another option: another cell */
    ck_assert(json_is_false(json_object_get(cell_of(m, "own", "fp32"), "cached")));
    json_decref(m);
    ck_assert(!matrix_of("owl", NULL, 78));
}
END_TEST

/* An emulator of our own making in PATH: it runs the program as it is. */
static void write_emulator(const char *path, const char *version)
{
    text t = {0};
    text_printf(&t, "#!/bin/sh\n[ \"$1\" = --version ] && { echo 'qemu-x86_64 version %s'; echo more; exit; }\nshift 2\nexec \"$@\"\n", version);
    OK(io_write_file(path, t.s, t.n));
    ck_assert_int_eq(chmod(path, 0755), 0);
    text_free(&t);
}

START_TEST(another_emulator_is_another_cell)
{
    if (!make_fakes("fp32"))
        return;
    const char *dir = test_path(test_tmp_dir(), "bin"), *qemu = test_path(dir, "qemu-x86_64");
    char path[400];
    OK(io_make_dirs(dir));
    write_emulator(qemu, "7.2.1");
    snprintf(path, sizeof path, "%s:/usr/bin:/bin", dir);
    ck_assert_int_eq(setenv("PATH", path, 1), 0);
    json_t *m = matrix_of("ort-haswell", NULL, 0);
    if (strcmp(json_string_value(json_object_get(cell_of(m, "ort-haswell", "fp32"), "state")), "not run here") == 0) {
        test_skip("an emulated cell", "ONNX Runtime was not found");
        json_decref(m);
        return;
    }
    has_state(m, "ort-haswell", "ok", "");
    json_decref(m);
    m = matrix_of("ort-haswell", NULL, 0);
    ck_assert(json_is_true(json_object_get(cell_of(m, "ort-haswell", "fp32"), "cached")));
    json_decref(m);
    write_emulator(qemu, "10.0");
    m = matrix_of("ort-haswell", NULL, 0);
    ck_assert(json_is_false(json_object_get(cell_of(m, "ort-haswell", "fp32"), "cached")));
    json_decref(m);
    unsigned char *known;
    size_t n;
    OK(io_read_file(test_path(fake_run, "matrix/runtimes.json"), 1 << 20, &known, &n));
    ck_assert(strstr((char *)known, "qemu-x86_64 version 10.0; runs distill, "));
    mem_free(known);
}
END_TEST

static const char *said_of(json_t *m, const char *runtime, const char *variant, const char *key)
{
    const char *s = json_string_value(json_object_get(cell_of(m, runtime, variant), key));
    return s ? s : "";
}

/* A row that says bfloat16 or CUDA computes so, or says why it does not: never float32 on the processor under another name. */
START_TEST(other_precisions_and_devices_of_our_own_executor_are_rows)
{
    if (!make_fakes("fp32 int8-ptq"))
        return;
    json_t *m = matrix_of("own own-bf16 own-cuda", NULL, 0);
    if (strcmp(said_of(m, "own-bf16", "fp32", "state"), "unsupported") == 0) {
        has_state_in(m, "own-bf16", "fp32", "unsupported", "AVX512-BF16");
        has_state_in(m, "own-bf16", "int8-ptq", "unsupported", "AVX512-BF16");
        test_skip("products in bfloat16", "this processor has none");
    } else {
        json_t *c = cell_of(m, "own-bf16", "fp32");
        double apart = json_number_value(json_object_get(c, "max_error"));
        ck_assert_msg(strncmp(said_of(m, "own-bf16", "fp32", "notes"), "bfloat16 in ", 12) == 0, "%s", said_of(m, "own-bf16", "fp32", "notes"));
        ck_assert_str_eq(said_of(m, "own-bf16", "fp32", "isa"), "avx512_bf16");
        ck_assert_msg(apart > 0, "bfloat16 gave the bits of float32");
        ck_assert(json_number_value(json_object_get(c, "tolerance")) == 5e-2 && (apart <= 5e-2) == (strcmp(said_of(m, "own-bf16", "fp32", "state"), "ok") == 0));
        has_state_in(m, "own-bf16", "int8-ptq", "unsupported", "integer models");
    }
    const char *cuda = said_of(m, "own-cuda", "fp32", "state");
    if (strcmp(cuda, "not run here") == 0) {
        ck_assert_msg(strlen(said_of(m, "own-cuda", "fp32", "reason")) > 10, "no reason is given");
        ck_assert_str_eq(said_of(m, "own-cuda", "int8-ptq", "state"), "not run here");
    } else {
        ck_assert_msg(strncmp(said_of(m, "own-cuda", "fp32", "providers"), "cuda", 4) == 0, "it ran on %s", said_of(m, "own-cuda", "fp32", "providers"));
        ck_assert_str_eq(cuda, "ok");
    }
    json_decref(m);
}
END_TEST

START_TEST(a_runner_that_stays_costs_no_later_cell_anything)
{
    unsigned char *said;
    char path[4096];
    size_t n;
    if (!make_fakes("fp32 fp16"))
        return;
    snprintf(path, sizeof path, "%s/bin:%s", fake_here, getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin");
    ck_assert_int_eq(setenv("PATH", path, 1), 0);
    json_t *m = matrix_of("own ort-web-webgpu", NULL, 0);
    has_state(m, "ort-web-webgpu", "differs", "[40, 5]");
    json_t *second = cell_of(m, "ort-web-webgpu", "fp16"); /* it crashed where it came second; alone it does not */
    ck_assert_str_eq(json_string_value(json_object_get(second, "state")), "differs");
    json_decref(m);
    OK(io_read_file(test_path(fake_here, "asked"), 1 << 20, &said, &n));
    ck_assert_str_eq((char *)said, "file 1\nfile 2\nfile 1\nended\n");
    mem_free(said);
}
END_TEST

/* What `distill matrix --decide` says with these options, as JSON; it is in a terminal too, with the same rule. */
static json_t *decided(const char *platforms, const char *minutes)
{
    json_error_t e;
    const program_options o = {.env = fake_env, .kill_after = 120};
    json_t *d = NULL;
    char rule[200] = "";
    for (int as_json = 1; as_json >= 0; as_json--) {
        ran r = program_run(&o, ARGS("matrix", fake_run, "--decide", "--quiet", "--runtimes", "own", "--set", platforms, "--set", minutes, "--set",
                                     "matrix.latency_seconds=0.02", as_json ? "--json" : "--quiet"));
        ck_assert_msg(r.code == 0, "%s: exit code %d (signal %d): %s", platforms, r.code, r.signal, r.err);
        if (as_json) {
            d = json_loads(r.out, 0, &e);
            ck_assert_msg(d && strchr(r.out, '\n') == r.out + strlen(r.out) - 1, "not one line of JSON: %s", r.out);
            ck_assert_int_eq(json_integer_value(json_object_get(d, "schema")), 1);
            snprintf(rule, sizeof rule, "rule:     %.12s", json_string_value(json_object_get(d, "rule"))); /* long ones are wrapped */
        } else {
            test_fits(r.out, 80);
            ck_assert_msg(strstr(r.out, rule) && strncmp(r.out, "decision: Ship ", 15) == 0 && strstr(r.out, "an update costs"), "%s", r.out);
        }
        ran_free(&r);
    }
    return d;
}

static void rules(const char *platforms, const char *minutes, const char *rule, const char *because)
{
    json_t *d = decided(platforms, minutes), *lines = json_object_get(d, "because");
    const char *is = json_string_value(json_object_get(d, "rule"));
    bool said = false;
    ck_assert_msg(is && strncmp(is, rule, strlen(rule)) == 0, "%s: the rule is '%s'", platforms, is ? is : "");
    for (size_t i = 0; i < json_array_size(lines); i++)
        said = said || strstr(json_string_value(json_array_get(lines, i)), because);
    ck_assert_msg(said, "%s: no line of 'because' has '%s'", platforms, because);
    ck_assert(json_array_size(json_object_get(d, "ways")) >= 2 && json_array_size(json_object_get(d, "rows")) >= 1);
    ck_assert(json_is_array(json_object_get(d, "would_change")));
    json_decref(d);
}

/* Every rule that counts platforms, and that of memory, through the program. */
START_TEST(the_program_decides_by_the_number_of_platforms)
{
    if (!make_fakes("fp32 int8-ptq"))
        return;
    rules("matrix.platforms=auto", "matrix.minutes=15", "five and more platforms, or unknown ones", "platforms are not known");
    rules("matrix.platforms=1", "matrix.minutes=15", "one platform: quantise for it", "1 platform");
    rules("matrix.platforms=2", "matrix.minutes=15", "two platforms: quantise for each", "2 platforms");
    rules("matrix.platforms=3", "matrix.minutes=15", "three or four platforms: measured both", "matrix.minutes allows 15");
    rules("matrix.platforms=4", "matrix.minutes=1e-9", "three or four platforms: measured both", "matrix.minutes allows 1e-09");
    rules("matrix.platforms=5", "matrix.minutes=15", "five and more platforms", "5 platforms");
    rules("matrix.platforms=1000", "matrix.minutes=15", "five and more platforms", "1000 platforms");
    /* too costly: what is measured both ways is shipped as for many */
    json_t *many = decided("matrix.platforms=5", "matrix.minutes=15"), *costly = decided("matrix.platforms=4", "matrix.minutes=1e-9");
    ck_assert_str_eq(json_string_value(json_object_get(many, "variant")), json_string_value(json_object_get(costly, "variant")));
    json_decref(many);
    json_decref(costly);
    unsigned char *ini; /* a device that float does not fit */
    size_t n;
    text t = {0};
    const char *path = test_path(fake_run, "config.ini");
    OK(io_read_file(path, 1 << 20, &ini, &n));
    text_add_n(&t, (char *)ini, n);
    text_add(&t, "\n[device tiny]\nruntime = own\nflash = 0.0001\n");
    OK(t.st);
    OK(io_write_file(path, t.s, t.n));
    rules("matrix.platforms=auto", "matrix.minutes=15", "memory", "1 platform: own");
    text_free(&t);
    mem_free(ini);
    const program_options o = {.env = fake_env, .kill_after = 60};
    ran r = program_run(&o, ARGS("matrix", fake_run, "--decide", "--markdown"));
    ck_assert_msg(r.code == 64 && strstr(r.err, "--decide goes alone or with --json"), "exit code %d: %s", r.code, r.err);
    ran_free(&r);
}
END_TEST

START_TEST(what_is_finished_before_a_signal_is_kept)
{
    if (!make_fakes("fp32 fp16"))
        return;
    const program_options o = {.env = fake_env, .kill_after = 60};
    started s = program_start(&o, ARGS("matrix", fake_run, "--runtimes", "own iree", "--set", "matrix.time_limit=50"));
    const char *log = test_path(fake_run, "matrix/log/iree.fp32.txt");
    for (int i = 0; i < 3000 && !io_exists(log); i++)
        usleep(10000);
    ck_assert(io_exists(log));
    ran second = program_run(&o, ARGS("matrix", fake_run, "--runtimes", "own"));
    ck_assert_msg(second.code == 75, "two at once in a folder: exit code %d: %s", second.code, second.err);
    ran_free(&second);
    kill(s.pid, SIGINT);
    ran r = program_wait(&s);
    ck_assert_msg(r.code == 75, "exit code %d (signal %d): %s", r.code, r.signal, r.err);
    ck_assert(r.seconds < 40);
    ran_free(&r);
    ran again = program_run(&o, ARGS("matrix", fake_run, "--json", "--runtimes", "own", "--set", "matrix.time_limit=50"));
    ck_assert_int_eq(again.code, 0);
    json_error_t e;
    json_t *m = json_loads(again.out, 0, &e);
    ck_assert(m && json_is_true(json_object_get(cell_of(m, "own", "fp32"), "cached")));
    json_decref(m);
    ran_free(&again);
}
END_TEST

const test_entry test_table[] = {
    TEST(a_matrix_comes_back_as_it_was_written),
    TEST(a_wrong_matrix_is_refused_by_name),
    TEST(portable_outputs_are_judged_by_their_codes),
    TEST(float_outputs_are_judged_by_their_distance),
    TEST(integers_may_spread_as_those_of_right_engines_do),
    TEST(every_fault_of_a_runtime_is_a_state_of_its_cells),
    TEST(another_emulator_is_another_cell),
    TEST(other_precisions_and_devices_of_our_own_executor_are_rows),

    TEST(a_runner_that_stays_costs_no_later_cell_anything),
    TEST(the_program_decides_by_the_number_of_platforms),
    TEST(what_is_finished_before_a_signal_is_kept),
    {0},
};
