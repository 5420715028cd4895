/* test_cli.c - the program as its users meet it: exit codes, messages, what it leaves behind. */
#include "harness.h"
#include "base/io.h"
#include "program.h"
#include "toy.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static void expect(int code, const char *says, const char *const *args)
{
    ran r = program_run(NULL, args);
    ck_assert_msg(r.code == code, "%s %s: exit code %d (signal %d), expected %d\n%s", args[0] ? args[0] : "", args[0] && args[1] ? args[1] : "",
                  r.code, r.signal, code, r.err);
    ck_assert_msg(strstr(r.err, says) != NULL, "'%s' is not in: %s", says, r.err);
    ck_assert_msg(strchr(r.err, '\033') == NULL && strchr(r.out, '\033') == NULL, "escape codes without a terminal");
    ck_assert_msg(code == 0 || r.out[0] == 0 || says[0] == 'n', "a failure wrote to standard output: %s", r.out);
    ran_free(&r);
}

START_TEST(mistakes_are_named_with_their_exit_code)
{
    const char *dir = test_tmp_dir(), *job_file = test_path(dir, "job.ini"), *bad = test_path(dir, "bad.ini");
    toy_make(dir);
    OK(io_write_file(bad, "[train]\nepocs = 3\n", 18));
    expect(64, "nothing to do", (const char *const[]){NULL});
    expect(64, "did you mean 'inspect'", ARGS("inspct"));
    expect(64, "did you mean --teacher", ARGS("--techer", "x"));
    expect(64, "needs a value", ARGS("--student"));
    expect(64, "which student", ARGS("--teacher", "t.onnx"));
    expect(64, "what is 'stray'", ARGS("--student", job_file, "stray"));
    expect(64, "does not take", ARGS("inspect", "--resume", "x"));
    expect(64, "which model", ARGS("inspect"));
    expect(64, "no help on", ARGS("help", "nonsense"));
    expect(64, "name the teacher's file and 'int8-ptq'", ARGS("quant", test_path(dir, "teacher.onnx"), "--data", test_path(dir, "data"),
                                                            "--variant", "teacher-int8-ptq"));
    expect(64, "--variant KEY", ARGS("quant", test_path(dir, "teacher.onnx"), "--data", test_path(dir, "data")));
    expect(78, "variant 'int4' is unknown", ARGS("quant", test_path(dir, "teacher.onnx"), "--data", test_path(dir, "data"), "--variant", "int4"));
    expect(64, "--out is the model itself", ARGS("quant", test_path(dir, "teacher.onnx"), "--data", test_path(dir, "data"), "--variant",
                                                 "fp16", "--out", test_path(dir, "teacher.onnx")));
    expect(64, "", ARGS("step", "--student", "s", "--steps", "many"));
    expect(66, "none.ini", ARGS("--student", test_path(dir, "none.ini")));
    expect(66, "none.onnx", ARGS("inspect", test_path(dir, "none.onnx")));
    expect(65, "job.ini", ARGS("inspect", job_file));
    expect(65, "", ARGS("inspect", dir));
    expect(78, "did you mean 'epochs'", ARGS("--student", bad));
    expect(78, "--set", ARGS("--student", job_file, "--set", "train.lr=fast"));
    expect(78, "", ARGS("--student", job_file, "--set", "train.lr"));
    expect(66, "none.onnx", ARGS("--student", job_file, "--teacher", test_path(dir, "none.onnx")));
}
END_TEST

static json_t *json_of(const char *const *args)
{
    json_error_t e;
    ran r = program_run(NULL, args);
    ck_assert_msg(r.code == 0, "%s", r.err);
    json_t *j = json_loads(r.out, JSON_REJECT_DUPLICATES, &e);
    ck_assert_msg(j != NULL, "%s %s: %s", args[0], args[1], e.text);
    ran_free(&r);
    return j;
}

START_TEST(what_it_prints_is_well_formed)
{
    static const char *const topics[] = {"train", "inspect", "step", "report", "config", "doctor", "help", "ops", "completion"};
    const char *dir = test_tmp_dir();
    toy_make(dir);
    json_t *j = json_of(ARGS("--version", "--json"));
    ck_assert(json_is_string(json_object_get(j, "version")));
    json_decref(j);
    j = json_of(ARGS("config", "--schema"));
    ck_assert(json_is_object(j) || json_is_array(j));
    json_decref(j);
    json_decref(json_of(ARGS("config", "--show", "--json", "--student", test_path(dir, "job.ini"))));
    j = json_of(ARGS("inspect", "--json", test_path(dir, "teacher.onnx")));
    ck_assert_int_gt(json_integer_value(json_object_get(j, "parameters")), 0);
    json_decref(j);
    for (size_t i = 0; i < sizeof topics / sizeof *topics; i++) {
        ran r = program_run(NULL, ARGS("help", topics[i]));
        ck_assert_msg(r.code == 0 && strlen(r.out) > 100, "help %s: %s", topics[i], r.err);
        ran_free(&r);
    }
    ran r = program_run(NULL, ARGS("config", "--defaults")); /* the defaults are a job file that reads back */
    ck_assert_int_eq(r.code, 0);
    const char *file = test_path(dir, "defaults.ini");
    OK(io_write_file(file, r.out, strlen(r.out)));
    ran_free(&r);
    expect(0, "", ARGS("config", "--show", "--student", file));
}
END_TEST

START_TEST(output_that_cannot_be_written_is_an_error)
{
    ran r = program_run(&(program_options){.close_stdout = true}, ARGS("config", "--defaults"));
    ck_assert_int_eq(r.code, 74);
    ran_free(&r);
    r = program_run(&(program_options){.stdout_to = "/dev/full"}, ARGS("config", "--defaults"));
    ck_assert_int_eq(r.code, 74);
    ran_free(&r);
}
END_TEST

START_TEST(a_dry_run_leaves_nothing_behind)
{
    const char *dir = test_tmp_dir(), *in = test_path(dir, "run");
    toy_make(dir);
    expect(0, "nothing was left behind", ARGS("--student", test_path(dir, "job.ini"), "--out", in, "--dry-run"));
    ck_assert(!io_exists(in));
}
END_TEST

/* SIGTERM in the middle: 75, and --resume goes on; a second run in the folder is refused. */
START_TEST(a_signal_saves_and_the_run_can_be_resumed)
{
    const char *dir = test_tmp_dir(), *in = test_path(dir, "run"), *job_file = test_path(dir, "job.ini");
    toy_make(dir);
    started s = program_start(NULL, ARGS("--student", job_file, "--out", in, "--set", "train.steps=200000", "--set",
                                         "train.log_every=20", "--set", "train.eval_every=100000"));
    for (int i = 0; i < 5000 && !io_exists(test_path(in, "ckpt/last")); i++)
        usleep(1000);
    kill(s.pid, SIGTERM);
    ran r = program_wait(&s);
    ck_assert_msg(r.code == 75, "exit code %d, signal %d: %s", r.code, r.signal, r.err);
    ck_assert_msg(strstr(r.err, "--resume") != NULL, "%s", r.err);
    ran_free(&r);
    expect(73, "holds a run already", ARGS("--student", job_file, "--out", in));
    s = program_start(NULL, ARGS("--student", job_file, "--out", in, "--resume", "--set", "train.steps=200000", "--set",
                                 "train.log_every=20", "--set", "train.eval_every=100000"));
    usleep(700000);
    kill(s.pid, SIGINT);
    r = program_wait(&s);
    ck_assert_msg(r.code == 75 && strstr(r.err, "resumed at step"), "exit code %d: %s", r.code, r.err);
    ran_free(&r);
}
END_TEST

START_TEST(step_works_on_toy_data)
{
    const char *dir = test_tmp_dir(), *out = test_path(dir, "o.npz");
    toy_make(dir);
    toy_model("[student]\narch = mlp\nhidden = 8\n", test_path(dir, "s.onnx"));
    expect(0, "", ARGS("step", "--teacher", test_path(dir, "teacher.onnx"), "--student", test_path(dir, "s.onnx"), "--data",
                       test_path(dir, "data"), "--samples", "0:64", "--batch", "16", "--steps", "3", "--set",
                       "train.no_decay=", "--out", out));
    ck_assert(io_exists(out));
}
END_TEST

const test_entry test_table[] = {TEST(mistakes_are_named_with_their_exit_code),
                                 TEST(what_it_prints_is_well_formed),
                                 TEST(output_that_cannot_be_written_is_an_error),
                                 TEST(a_dry_run_leaves_nothing_behind),
                                 TEST(a_signal_saves_and_the_run_can_be_resumed),
                                 TEST(step_works_on_toy_data),
                                 {0}};
