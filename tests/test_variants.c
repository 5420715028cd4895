/* test_variants.c - the forms that leave a run and `distill quant`, as a user makes them. */
#include "harness.h"
#include "base/io.h"
#include "base/mem.h"
#include "program.h"
#include "toy.h"

#include <jansson.h>
#include <stdio.h>

/* Where ONNX Runtime is missing, a run that else goes well says so and ends with 1. */
static ran expect(int code, const char *const *args)
{
    ran r = program_run(NULL, args);
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
        {"quant.keep_float=Conv", "cannot become portable", 78},
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

const test_entry test_table[] = {TEST(a_run_writes_every_form_it_was_asked_for), TEST(a_model_without_a_tflite_form_goes_on),
                                 TEST(a_variant_that_must_fail_fails_before_the_training), {0}};
