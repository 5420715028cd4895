/* test_variants.c - the forms that leave a run and `distill quant`, as a user makes them. */
#include "harness.h"
#include "base/io.h"
#include "base/mem.h"
#include "onnx/export.h"
#include "onnx/import.h"
#include "program.h"
#include "toy.h"

#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

/* One thread: threads of small networks on a busy machine wait for each other. */
static const program_options alone = {.env = (const char *const[]){"DISTILL_EXEC_THREADS=1", NULL}};

/* Where ONNX Runtime is missing, a run that else goes well says so and ends with 1. */
static ran expect(int code, const char *const *args)
{
    ran r = program_run(&alone, args);
    if (code == 0 && r.code == 1 && strstr(r.err, "ONNX Runtime was not found")) {
        test_skip("the variant in ONNX Runtime", "ONNX Runtime was not found");
        return r;
    }
    ck_assert_msg(r.code == code, "%s: exit code %d (signal %d), expected %d\n%s", args[0], r.code, r.signal, code, r.err);
    return r;
}

static json_t *read_json(const char *path)
{
    json_error_t e;
    json_t *j = json_load_file(path, JSON_REJECT_DUPLICATES, &e);
    ck_assert_msg(j != NULL, "%s: %s", path, e.text);
    return j;
}

static json_t *variant_of(json_t *v, const char *key)
{
    json_t *all = json_object_get(v, "variants");
    for (size_t i = 0; i < json_array_size(all); i++)
        if (strcmp(json_string_value(json_object_get(json_array_get(all, i), "key")), key) == 0)
            return json_array_get(all, i);
    ck_abort_msg("there is no variant %s", key);
}

static int64_t bytes_of(const char *path)
{
    unsigned char *x;
    size_t n;
    OK(io_read_file(path, 1 << 26, &x, &n));
    mem_free(x);
    return (int64_t)n;
}

/* Every key has its row, its ONNX file, and its TFLite file or the reason why there is none. */
START_TEST(a_run_writes_every_form_it_was_asked_for)
{
    static const char *const keys[] = {"fp32", "fp16", "int8-ptq", "int8-qat", "portable", "portable-s8", "teacher-fp32", "teacher-fp16",
                                       "teacher-int8-ptq"};
    const char *dir = test_tmp_dir(), *run = test_path(dir, "run");
    char name[200];
    toy_make(dir);
    OK(io_make_dirs(test_path(run, "export")));
    OK(io_write_file(test_path(run, "export/student.fp16.tflite"), "old", 3)); /* of a run with other variants */
    ran r = expect(0, ARGS("--student", test_path(dir, "job.ini"), "--out", run, "--set", "quant.epochs=0.5", "--set", "quant.samples=48",
                           "--set", "export.variants=fp32 fp16 int8-ptq int8-qat portable portable-s8 teacher-fp32 teacher-fp16 "
                           "teacher-int8-ptq"));
    ck_assert_msg(strstr(r.out, "fp16 has no .tflite: ") && strstr(r.out, "teacher-fp16 has no .tflite: "), "%s", r.out);
    ck_assert_msg(!strstr(r.out, "fp32 has no .tflite"), "%s", r.out);
    ran_free(&r);
    json_t *v = read_json(test_path(run, "validation.json"));
    ck_assert_uint_eq(json_array_size(json_object_get(v, "variants")), sizeof keys / sizeof *keys);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        json_t *x = variant_of(v, keys[i]);
        snprintf(name, sizeof name, "export/student.%s.onnx", keys[i]);
        ck_assert_str_eq(json_string_value(json_object_get(x, "file")), name);
        ck_assert_int_eq(json_integer_value(json_object_get(x, "bytes")), bytes_of(test_path(run, name)));
        snprintf(name, sizeof name, "export/student.%s.tflite", keys[i]);
        const char *tflite = json_string_value(json_object_get(x, "tflite"));
        bool half = strstr(keys[i], "fp16") != NULL;
        ck_assert_msg((tflite == NULL) == half && io_exists(test_path(run, name)) == !half, "%s: %s", keys[i], tflite ? tflite : "none");
        if (half) {
            ck_assert_int_eq(json_integer_value(json_object_get(x, "tflite_bytes")), -1);
            ck_assert_ptr_nonnull(json_string_value(json_object_get(x, "tflite_message")));
            continue;
        }
        ck_assert_str_eq(tflite, name);
        ck_assert_int_eq(json_integer_value(json_object_get(x, "tflite_bytes")), bytes_of(test_path(run, name)));
        const char *note = json_string_value(json_object_get(x, "note")); /* weights up to 127 may be cut; those of portable never */
        ck_assert_msg((strstr(keys[i], "int8") != NULL) == (note && strstr(note, "may saturate on x86 without VNNI")), "%s: %s", keys[i],
                      note ? note : "no note");
    }
    /* the fp32 form is the student itself */
    json_t *same = json_object_get(variant_of(v, "fp32"), "agreement");
    ck_assert_int_eq(json_integer_value(json_object_get(same, "disagreements")), 0);
    ck_assert(json_number_value(json_object_get(same, "max_abs")) == 0);
    json_decref(v);
}
END_TEST

/* An operator that TFLite has no form of costs the TFLite file alone. */
START_TEST(a_model_without_a_tflite_form_goes_on)
{
    const char *dir = test_tmp_dir(), *run = test_path(dir, "run");
    toy_make(dir);
    ran r = expect(0, ARGS("--student", test_path(dir, "job.ini"), "--out", run, "--set", "train.steps=6", "--set",
                           "student.activation=elu", "--set", "export.variants=fp32 teacher-fp32", "--json"));
    json_t *v = json_loads(r.out, 0, NULL);
    ck_assert_ptr_nonnull(v);
    json_t *x = variant_of(v, "fp32");
    ck_assert(json_is_null(json_object_get(x, "tflite")));
    ck_assert_ptr_nonnull(json_string_value(json_object_get(x, "tflite_message")));
    ck_assert(!io_exists(test_path(run, "export/student.fp32.tflite")) && io_exists(test_path(run, "export/student.fp32.onnx")));
    ck_assert(io_exists(test_path(run, "export/student.teacher-fp32.tflite")));
    json_decref(v);
    ran_free(&r);
}
END_TEST

/* What a variant cannot do is said before the training, by --dry-run and by the run. */
START_TEST(a_variant_that_must_fail_fails_before_the_training)
{
    static const struct {
        const char *set, *says;
        int code;
    } bad[] = {
        {"student.activation=silu", "variant portable: the student cannot become portable: node '", 78},
        {"quant.keep_float=nothing*", "nothing*", 78},
        {"quant.keep_float=Conv", "quant.keep_float, which holds here too", 78},
    };
    const char *dir = test_tmp_dir(), *run = test_path(dir, "run");
    toy_make(dir);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (int dry = 0; dry < 2; dry++) {
            ran r = expect(bad[i].code, ARGS("--student", test_path(dir, "job.ini"), "--out", run, "--force", "--set", bad[i].set, "--set",
                                             "export.variants=fp32 portable", dry ? "--dry-run" : "--quiet"));
            ck_assert_msg(strstr(r.err, bad[i].says) != NULL, "'%s' is not in: %s", bad[i].says, r.err);
            ck_assert_msg(strstr(r.err, "validation accuracy") == NULL && !io_exists(test_path(run, "student.onnx")), "it trained: %s", r.err);
            ck_assert(!io_exists(test_path(run, ".sanity")));
            ran_free(&r);
        }
    ran r = expect(0, ARGS("--student", test_path(dir, "job.ini"), "--out", run, "--set", "export.variants=fp32 portable int8-qat fp16",
                           "--dry-run"));
    ck_assert_msg(strstr(r.err, "and every variant") && strstr(r.err, "variants that train, the largest"), "%s", r.err);
    ck_assert_msg(strstr(r.err, "warning") == NULL, "%s", r.err);
    ran_free(&r);
}
END_TEST

/* ---- distill quant ---- */

typedef struct made {
    json_t *all, *row;
    char *err;
} made;

/* `distill quant DIR/m.onnx` with two more settings, as a new user has it: nothing but the model and the data are there. */
static made quant(const char *dir, int code, const char *key, const char *set, const char *more)
{
    ran r = expect(code, ARGS("quant", test_path(dir, "m.onnx"), "--data", test_path(dir, "data"), "--variant", key, "--json", "--set",
                              set, "--set", more));
    made m = {.all = json_loads(r.out, JSON_REJECT_DUPLICATES, NULL)};
    ck_assert_msg(m.all != NULL, "%s: no JSON: %s", key, r.out);
    m.row = variant_of(m.all, key);
    OK(mem_strdup(&m.err, r.err));
    ran_free(&r);
    return m;
}

static void made_free(made *m)
{
    json_decref(m->all);
    mem_free(m->err);
}

static void clean_folder(const char *dir)
{
    toy_make(dir);
    toy_model("[student]\narch = resnet\ndepth = 8\nwidths = 4 8 8\n", test_path(dir, "m.onnx"));
    OK(io_remove(test_path(dir, "job.ini")));
    OK(io_remove(test_path(dir, "teacher.onnx")));
}

static double number_of(json_t *row, const char *key)
{
    json_t *x = json_object_get(row, key);
    ck_assert_msg(json_is_number(x), "%s is no number", key);
    return json_number_value(x);
}

START_TEST(quant_makes_every_key_from_a_clean_folder)
{
    static const char *const keys[] = {"fp32", "fp16", "int8-ptq", "int8-qat", "portable", "portable-s8"};
    const char *dir = test_tmp_dir();
    char name[300];
    clean_folder(dir);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const bool half = strcmp(keys[i], "fp16") == 0;
        made m = quant(dir, 0, keys[i], "quant.epochs=10", "quant.samples=64");
        snprintf(name, sizeof name, "m.%s.onnx", keys[i]);
        ck_assert_str_eq(json_string_value(json_object_get(m.row, "file")), test_path(dir, name));
        ck_assert_int_eq((int64_t)number_of(m.row, "bytes"), bytes_of(test_path(dir, name)));
        snprintf(name, sizeof name, "m.%s.tflite", keys[i]);
        ck_assert(io_exists(test_path(dir, name)) == !half && json_is_null(json_object_get(m.row, "tflite")) == half);
        ck_assert_int_eq((int64_t)number_of(m.row, "disagreements"), 0); /* ONNX Runtime and ours */
        if (strncmp(keys[i], "portable", 8) == 0) {
            ck_assert(number_of(m.row, "max_difference") == 0);
            snprintf(name, sizeof name, "m.%s.onnx", keys[i]);
            ran r = expect(0, ARGS("inspect", "--portable", test_path(dir, name)));
            ck_assert_msg(strstr(r.out, "portable: proven") || strstr(r.out, "portable-s8: proven"), "%s", r.out);
            ran_free(&r);
        }
        made_free(&m);
    }
    /* people read what was written */
    ran r = expect(0, ARGS("quant", test_path(dir, "m.onnx"), "--data", test_path(dir, "data"), "--variant", "int8-ptq", "--out",
                           test_path(dir, "other.onnx")));
    ck_assert_msg(strstr(r.out, test_path(dir, "other.onnx")) && strstr(r.out, test_path(dir, "other.tflite")), "%s", r.out);
    ran_free(&r);
    /* with a teacher of its own */
    toy_model("[student]\narch = cnn\nwidths = 8 16\ndepth = 2\n", test_path(dir, "t.onnx"));
    r = expect(0, ARGS("quant", test_path(dir, "m.onnx"), "--data", test_path(dir, "data"), "--variant", "int8-qat", "--teacher",
                       test_path(dir, "t.onnx"), "--set", "quant.epochs=2"));
    ck_assert_msg(!strstr(r.err, "no --teacher"), "%s", r.err);
    ran_free(&r);
    r = expect(66, ARGS("quant", test_path(dir, "m.onnx"), "--data", test_path(dir, "data"), "--variant", "int8-qat", "--teacher",
                        test_path(dir, "none.onnx")));
    ck_assert_msg(strstr(r.err, "none.onnx"), "%s", r.err);
    ran_free(&r);
}
END_TEST

/* Float16 inside and float16 outside: both executors take the file and say the same. */
START_TEST(float16_inputs_and_outputs)
{
    const char *dir = test_tmp_dir(), *file = test_path(dir, "m.fp16.onnx");
    double bytes[2], kl[2];
    clean_folder(dir);
    for (int half = 0; half < 2; half++) {
        made m = quant(dir, 0, "fp16", half ? "quant.fp16_io=float16" : "quant.fp16_io=float32", "quant.samples=16");
        ck_assert(number_of(m.row, "max_difference") < 0.01 && number_of(m.row, "disagreements_with_fp32") <= 1);
        bytes[half] = number_of(m.row, "bytes");
        kl[half] = number_of(m.row, "max_difference");
        made_free(&m);
        ran r = expect(0, ARGS("inspect", "--json", file));
        json_t *j = json_loads(r.out, 0, NULL);
        const char *ports[] = {"inputs", "outputs"};
        for (int i = 0; i < 2; i++)
            ck_assert_str_eq(json_string_value(json_object_get(json_array_get(json_object_get(j, ports[i]), 0), "type")),
                             half ? "float16" : "float32");
        json_decref(j);
        ran_free(&r);
    }
    ck_assert(bytes[1] < bytes[0]); /* no Cast at either end */
    printf("float16 inside: %g from ONNX Runtime, inputs and outputs too: %g\n", kl[0], kl[1]);
}
END_TEST

/* The model again with the first weight of `weight` as `to`. */
static void spoil(const char *path, double to, char *weight, size_t room)
{
    onnx_model *m;
    graph *g;
    OK(onnx_open(path, NULL, &m));
    OK(onnx_import(m, &(import_options){.batch = 1}, &g));
    for (size_t v = 1; v < g->n_value; v++)
        if (g->value[v].kind == VALUE_CONST && g->value[v].sh.rank == 4) {
            float *x;
            int64_t n = shape_count(&g->value[v].sh);
            OK(arena_alloc(&g->mem, &x, (size_t)n, sizeof *x));
            memcpy(x, g->value[v].data, (size_t)n * sizeof *x);
            x[0] = (float)to;
            g->value[v].data = x;
            snprintf(weight, room, "%s", g->value[v].name);
            break;
        }
    OK(onnx_export_file(g, &(export_options){0}, path));
    graph_free(g);
    onnx_close(m);
}

START_TEST(what_overflows_float16_is_named)
{
    const char *dir = test_tmp_dir();
    char weight[200], says[400];
    clean_folder(dir);
    spoil(test_path(dir, "m.onnx"), 1e6, weight, sizeof weight);
    ran r = program_run(&alone, ARGS("quant", test_path(dir, "m.onnx"), "--data", test_path(dir, "data"), "--variant", "fp16", "--set",
                                   "quant.samples=16"));
    ck_assert_msg(r.code == 1, "exit code %d: %s", r.code, r.err);
    snprintf(says, sizeof says, "variant fp16: weight '%s' reaches 1e+06, beyond float16 (65504)", weight);
    ck_assert_msg(strstr(r.err, says) != NULL, "'%s' is not in: %s", says, r.err);
    ck_assert_msg(strstr(r.err, "variant fp16: value '") != NULL, "%s", r.err);
    ck_assert_msg(strstr(r.out, "FAILED fp16 in ONNX Runtime") || strstr(r.err, "was not found"), "%s", r.out);
    ran_free(&r);
}
END_TEST

/* As the README says: rank the layers, keep the dearest in float, see the table change. */
START_TEST(the_dearest_layer_stays_float)
{
    const char *dir = test_tmp_dir();
    char keep[300], weight[200];
    double last = HUGE_VAL;
    clean_folder(dir);
    spoil(test_path(dir, "m.onnx"), 9, weight, sizeof weight); /* one large weight makes the scale of its channel coarse */
    ran r = expect(0, ARGS("quant", test_path(dir, "m.onnx"), "--data", test_path(dir, "data"), "--sensitivity", "--json", "--set",
                           "quant.per_channel=false"));
    json_t *j = json_loads(r.out, 0, NULL), *layers = json_object_get(j, "layers");
    ck_assert_uint_gt(json_array_size(layers), 5);
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const double kl = number_of(json_array_get(layers, i), "kl");
        ck_assert_msg(kl <= last, "layer %zu costs more than the one before", i);
        last = kl;
    }
    snprintf(keep, sizeof keep, "quant.keep_float=%s", json_string_value(json_object_get(json_array_get(layers, 0), "name")));
    json_decref(j);
    ran_free(&r);
    r = expect(0, ARGS("quant", test_path(dir, "m.onnx"), "--data", test_path(dir, "data"), "--sensitivity"));
    ck_assert_msg(strstr(r.out, "only this layer in int8") && strstr(r.out, "To keep layers in float: --set quant.keep_float=NAME"), "%s",
                  r.out);
    ran_free(&r);
    for (int i = 0; i < 2; i++) {
        ran q = expect(0, ARGS("quant", test_path(dir, "m.onnx"), "--data", test_path(dir, "data"), "--variant", "int8-ptq", "--set",
                               "quant.per_channel=false", "--set", i ? keep : "quant.keep_float="));
        ck_assert_msg(strstr(q.err, i ? " products in int8, 1 in float" : " products in int8, 0 in float") != NULL, "%s", q.err);
        ran_free(&q);
        graph *g;
        onnx_model *m;
        size_t floats = 0;
        OK(onnx_open(test_path(dir, "m.int8-ptq.onnx"), NULL, &m));
        OK(onnx_import(m, &(import_options){.batch = 1}, &g));
        for (size_t v = 1; v < g->n_value; v++)
            floats += g->value[v].kind == VALUE_CONST && g->value[v].type == DTYPE_F32 && g->value[v].sh.rank >= 2;
        ck_assert_uint_eq(floats, (size_t)i); /* its weight */
        graph_free(g);
        onnx_close(m);
    }
}
END_TEST

/* Samples that say nothing: no range follows. */
START_TEST(calibration_data_must_say_something)
{
    const char *dir = test_tmp_dir();
    unsigned char *bytes;
    size_t n;
    clean_folder(dir);
    OK(io_read_file(test_path(dir, "data/x_train.npy"), 1 << 24, &bytes, &n));
    memset(bytes + n - TOY_TRAIN * TOY_SIZE * TOY_SIZE, 128, TOY_TRAIN * TOY_SIZE * TOY_SIZE);
    OK(io_write_file(test_path(dir, "data/x_train.npy"), bytes, n));
    mem_free(bytes);
    static const char *const keys[] = {"int8-ptq", "int8-qat", "portable", "portable-s8"};
    for (size_t i = 0; i < 4; i++) {
        ran r = expect(65, ARGS("quant", test_path(dir, "m.onnx"), "--data", test_path(dir, "data"), "--variant", keys[i]));
        ck_assert_msg(strstr(r.err, "everywhere") != NULL, "%s", r.err);
        ran_free(&r);
    }
}
END_TEST

/* ---- stopped ---- */

static void wait_for(const char *path)
{
    for (int i = 0; i < 20000 && !io_exists(path); i++)
        usleep(1000);
    ck_assert_msg(io_exists(path), "%s does not come", path);
}

static void same_files(const char *a, const char *b)
{
    unsigned char *x, *y;
    size_t n, m;
    OK(io_read_file(a, 1 << 26, &x, &n));
    OK(io_read_file(b, 1 << 26, &y, &m));
    ck_assert_msg(n == m && memcmp(x, y, n) == 0, "%s and %s differ", a, b);
    mem_free(x);
    mem_free(y);
}

/* Ctrl-C while a variant trains, in a run and in `distill quant`: 75, the command to go on with, and the same bytes. */
START_TEST(ctrl_c_while_a_variant_trains)
{
    const char *dir = test_tmp_dir(), *job_file = test_path(dir, "job.ini"), *whole = test_path(dir, "whole"), *run = test_path(dir, "run");
    toy_make(dir);
#define LONG(out, last) ARGS("--student", job_file, "--out", out, "--set", "export.variants=int8-qat", "--set", "quant.epochs=400", "--set", \
                            "train.checkpoint_every=20", "--set", "train.eval_every=100000", last)
    ran r = expect(0, LONG(whole, "--force"));
    ran_free(&r);
    started s = program_start(&alone, LONG(run, "--force"));
    wait_for(test_path(run, "int8-qat/ckpt/last"));
    kill(s.pid, SIGINT);
    r = program_wait(&s);
    ck_assert_msg(r.code == 75, "exit code %d, signal %d: %s", r.code, r.signal, r.err);
    ck_assert_msg(strstr(r.err, "--resume --out ") && strstr(r.err, run) && !strstr(r.err, "run/int8-qat"), "%s", r.err);
    ran_free(&r);
    ck_assert(!io_exists(test_path(run, "export/student.int8-qat.onnx")));
    r = expect(0, LONG(run, "--resume"));
    ck_assert_msg(strstr(r.err, "resumed at step ") != NULL, "%s", r.err);
    ran_free(&r);
    same_files(test_path(whole, "export/student.int8-qat.onnx"), test_path(run, "export/student.int8-qat.onnx"));
    same_files(test_path(whole, "export/student.int8-qat.tflite"), test_path(run, "export/student.int8-qat.tflite"));

    const char *model = test_path(dir, "teacher.onnx"), *a = test_path(dir, "a.onnx"), *b = test_path(dir, "b.onnx");
#define QUANT(out, last) ARGS("quant", model, "--data", test_path(dir, "data"), "--variant", "portable", "--out", out, "--set", "train.batch=16", "--set", \
                             "quant.epochs=400", "--set", "train.checkpoint_every=20", "--set", "exec.threads=1", last)
    r = expect(0, QUANT(a, "--force-resume"));
    ran_free(&r);
    s = program_start(&alone, QUANT(b, "--force-resume"));
    wait_for(test_path(dir, "b.onnx.train/ckpt/last"));
    kill(s.pid, SIGINT);
    r = program_wait(&s);
    ck_assert_msg(r.code == 75, "exit code %d, signal %d: %s", r.code, r.signal, r.err);
    ck_assert_msg(strstr(r.err, "--resume --out ") && strstr(r.err, b), "%s", r.err);
    ran_free(&r);
    r = expect(0, QUANT(b, "--resume"));
    ck_assert_msg(strstr(r.err, "resumed at step ") != NULL, "%s", r.err);
    ran_free(&r);
    same_files(a, b);
}
END_TEST

const test_entry test_table[] = {TEST(quant_makes_every_key_from_a_clean_folder),
                                 TEST(float16_inputs_and_outputs),
                                 TEST(what_overflows_float16_is_named),
                                 TEST(the_dearest_layer_stays_float),
                                 TEST(calibration_data_must_say_something),
                                 TEST(ctrl_c_while_a_variant_trains),
                                 TEST(a_run_writes_every_form_it_was_asked_for), TEST(a_model_without_a_tflite_form_goes_on),
                                 TEST(a_variant_that_must_fail_fails_before_the_training), {0}};
