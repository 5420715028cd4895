/* test_accuracy.c - the demonstration, short: the program on real data with one seed, an eighth of the steps. The whole
 * figures with several seeds are tools/accuracy's. */
#include "base/io.h"
#include "harness.h"
#include "program.h"

#include <jansson.h>
#include <string.h>

/* 234 steps gave 79.5 and 79.8 % with seeds 1 and 2. */
#define STEPS    "train.steps=234"
#define ACCURACY 0.77

START_TEST(a_short_run_learns_without_a_label)
{
    json_error_t e;
    const char *out = test_path(test_tmp_dir(), "run");
    program_options o = {.cwd = SOURCE_DIR, .kill_after = 240};
    ran r = program_run(&o, ARGS("--teacher", "data/fashion-teacher.onnx", "--student", "configs/fashion.ini", "--set", STEPS,
                                 "--out", out, "--json", "--quiet"));
    ck_assert_msg(r.code == 0 || r.code == 1, "exit code %d: %s", r.code, r.err);
    json_t *j = json_loads(r.out, JSON_REJECT_DUPLICATES, &e);
    ck_assert_msg(j != NULL, "%s", e.text);
    double student = json_number_value(json_object_get(json_object_get(j, "student"), "accuracy"));
    double teacher = json_number_value(json_object_get(json_object_get(j, "teacher"), "accuracy"));
    printf("accuracy after 234 steps %.4f, teacher %.4f\n", student, teacher);
    ck_assert_double_eq_tol(teacher, 0.9386, 1e-9);
    ck_assert_msg(student >= ACCURACY && student < 0.95, "accuracy %.4f", student);
    if (strstr(r.out, "is not installed")) /* the checks in ONNX Runtime are then said not to hold */
        test_skip("proof in ONNX Runtime", "the library is not installed");
    else
        ck_assert_msg(r.code == 0, "a check did not hold: %s", r.out);
    json_decref(j);
    ran_free(&r);
}
END_TEST

const test_entry test_table[] = {TEST(a_short_run_learns_without_a_label), {0}};
