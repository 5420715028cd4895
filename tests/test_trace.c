/* test_trace.c - `distill bench --profile=FILE`: the trace is JSON, its times nest, and nothing of a step is missing; and what
 * a run says of waiting for its data. */
#include "harness.h"
#include "base/io.h"
#include "base/mem.h"
#include "program.h"
#include "toy.h"

#include <jansson.h>
#include <stdio.h>

#define NS 1.5e-3 /* microseconds: times are rounded to a nanosecond, both ends */

static double number(json_t *event, const char *key)
{
    json_t *v = json_object_get(event, key);
    ck_assert_msg(json_is_number(v), "an event has no number '%s'", key);
    return json_number_value(v);
}

static const char *string(json_t *event, const char *key)
{
    const char *s = json_string_value(json_object_get(event, key));
    return s ? s : "";
}

static bool is_span(json_t *event)
{
    return strcmp(string(event, "ph"), "X") == 0;
}

/* a and b are apart, or one lies in the other. */
static void check_pair(json_t *a, json_t *b)
{
    double a0 = number(a, "ts"), a1 = a0 + number(a, "dur"), b0 = number(b, "ts"), b1 = b0 + number(b, "dur");
    bool apart = a1 <= b0 + NS || b1 <= a0 + NS, a_in_b = a0 >= b0 - NS && a1 <= b1 + NS, b_in_a = b0 >= a0 - NS && b1 <= a1 + NS;
    ck_assert_msg(apart || a_in_b || b_in_a, "%s [%.3f, %.3f] and %s [%.3f, %.3f] cross", string(a, "name"), a0, a1,
                  string(b, "name"), b0, b1);
}

/* The event of this name on the step's thread that holds `e`. */
static json_t *around(json_t *trace, json_t *e, const char *name)
{
    size_t i;
    json_t *x;
    json_array_foreach(trace, i, x) {
        if (!is_span(x) || strcmp(string(x, "name"), name) != 0 || number(x, "tid") != number(e, "tid"))
            continue;
        if (number(e, "ts") >= number(x, "ts") - NS &&
            number(e, "ts") + number(e, "dur") <= number(x, "ts") + number(x, "dur") + NS)
            return x;
    }
    return NULL;
}

static void check_node(json_t *trace, json_t *e, bool *macs)
{
    json_t *args = json_object_get(e, "args");
    const char *role = string(e, "cat");
    const char *part = strcmp(role, "teacher") == 0 || strcmp(role, "update") == 0 ? role : "main";
    ck_assert_msg(around(trace, e, part) != NULL, "%s of the %s lies in no part '%s'", string(e, "name"), role, part);
    ck_assert(*string(args, "kernel") != 0);
    ck_assert(*string(args, "node") != 0);
    ck_assert(json_is_array(json_object_get(args, "in")) && json_is_array(json_object_get(args, "out")));
    ck_assert(number(args, "bytes") > 0);
    *macs |= json_object_get(args, "GF/s") != NULL;
}

START_TEST(trace_parses_and_nests)
{
    static const char *const roles[] = {"teacher", "student", "losses", "gradients", "update"};
    enum { ROLES = sizeof roles / sizeof *roles };
    const char *dir = test_tmp_dir(), *file = test_path(dir, "trace.json");
    char option[4096];
    size_t i, k, steps = 0, waits = 0, made = 0, seen[ROLES] = {0};
    bool macs = false;
    json_error_t err;
    json_t *e, *f;
    toy_make(dir);
    snprintf(option, sizeof option, "--profile=%s", file);
    ran r = program_run(NULL, ARGS("bench", "--student", test_path(dir, "job.ini"), "--steps", "3", option));
    ck_assert_msg(r.code == 0, "%s", r.err);
    ck_assert_msg(strstr(r.out, "operator and kernel") != NULL, "the table is missing: %s", r.out);
    ran_free(&r);
    json_t *trace = json_load_file(file, JSON_REJECT_DUPLICATES, &err);
    ck_assert_msg(json_is_array(trace), "%s:%d: %s", file, err.line, err.text);
    json_array_foreach(trace, i, e) {
        if (!is_span(e))
            continue;
        ck_assert(number(e, "dur") >= 0 && number(e, "ts") >= 0);
        steps += strcmp(string(e, "name"), "step") == 0;
        waits += strcmp(string(e, "name"), "wait for data") == 0;
        made += strcmp(string(e, "name"), "make batch") == 0;
        if (number(e, "tid") == 1 && strcmp(string(e, "name"), "step") != 0)
            ck_assert_msg(around(trace, e, "step") != NULL, "%s lies in no step", string(e, "name"));
        for (k = 0; k < ROLES; k++)
            seen[k] += strcmp(string(e, "cat"), roles[k]) == 0;
        if (strcmp(string(e, "cat"), "step") != 0)
            check_node(trace, e, &macs);
        for (k = i + 1; (f = json_array_get(trace, k)) != NULL; k++)
            if (is_span(f) && number(e, "tid") == number(f, "tid"))
                check_pair(e, f);
    }
    ck_assert_msg(steps == 3 && waits == 3, "%zu steps, %zu waits", steps, waits);
    ck_assert(made <= 3 + 8);
    for (k = 0; k < ROLES; k++)
        ck_assert_msg(seen[k] >= 3, "%zu nodes of: %s", seen[k], roles[k]);
    ck_assert(macs);
    json_decref(trace);
}
END_TEST

START_TEST(trace_that_cannot_be_written_is_an_error)
{
    const char *dir = test_tmp_dir();
    char option[4096];
    toy_make(dir);
    snprintf(option, sizeof option, "--profile=%s/none/trace.json", dir);
    ran r = program_run(NULL, ARGS("bench", "--student", test_path(dir, "job.ini"), "--steps", "1", option));
    ck_assert_msg(r.code == 73 || r.code == 74 || r.code == 66, "exit code %d: %s", r.code, r.err);
    ck_assert_msg(strstr(r.err, "none") != NULL, "%s", r.err);
    ran_free(&r);
}
END_TEST

/* The float step and the step with rounding: both are measured, with the teacher computed and remembered. */
START_TEST(rounding_beside_float)
{
    const char *dir = test_tmp_dir();
    static const char *const modes[] = {"computed", "remembered"};
    toy_make(dir);
    ran r = program_run(NULL, ARGS("bench", "--student", test_path(dir, "job.ini"), "--steps", "7", "--variant", "int8-qat", "--json"));
    ck_assert_msg(r.code == 0, "%s", r.err);
    json_t *all = json_loads(r.out, 0, NULL);
    ck_assert_msg(json_is_object(all), "%s", r.out);
    ck_assert_int_eq(json_integer_value(json_object_get(all, "steps")), 10); /* whole turns of 5 */
    for (int i = 0; i < 2; i++) {
        json_t *x = json_object_get(all, modes[i]);
        ck_assert_msg(x != NULL, "%s is missing", modes[i]);
        ck_assert(number(json_object_get(x, "float"), "p50_ms") > 0 && number(json_object_get(x, "rounded"), "p50_ms") > 0);
        ck_assert(number(x, "ratio") > 0 && number(x, "ratio_least") <= number(x, "ratio") && number(x, "ratio") <= number(x, "ratio_largest"));
    }
    json_decref(all);
    ran_free(&r);
    r = program_run(NULL, ARGS("bench", "--student", test_path(dir, "job.ini"), "--variant", "int8-ptq"));
    ck_assert_int_eq(r.code, 64);
    ck_assert_msg(strstr(r.err, "int8-qat, portable, portable-s8") != NULL, "%s", r.err);
    ran_free(&r);
}
END_TEST

START_TEST(waiting_for_data_is_said)
{
    const char *dir = test_tmp_dir(), *out = test_path(dir, "run");
    json_error_t err;
    unsigned char *metrics;
    size_t size;
    toy_make(dir);
    ran r = program_run(NULL, ARGS("--student", test_path(dir, "job.ini"), "--out", out, "--json"));
    ck_assert_msg(r.code == 0 || r.code == 1, "%s", r.err); /* 1: without ONNX Runtime */
    ck_assert_msg(strstr(r.err, "waiting for data ") != NULL, "%s", r.err);
    json_t *j = json_loads(r.out, 0, &err);
    double waited = number(j, "data_wait_seconds"), seconds = number(j, "seconds");
    ck_assert_msg(waited >= 0 && waited <= seconds, "waited %g s of %g", waited, seconds);
    json_decref(j);
    ran_free(&r);
    OK(io_read_file(test_path(out, "metrics.jsonl"), 1 << 20, &metrics, &size));
    const char *at = strstr((const char *)metrics, "\"data_wait\":");
    ck_assert_msg(at != NULL, "metrics.jsonl has no data_wait");
    double share = -1;
    ck_assert(sscanf(at, "\"data_wait\":%lf", &share) == 1);
    ck_assert_msg(share >= 0 && share <= 1, "share %g", share);
    mem_free(metrics);
}
END_TEST

const test_entry test_table[] = {TEST(trace_parses_and_nests), TEST(trace_that_cannot_be_written_is_an_error),
                                 TEST(rounding_beside_float), TEST(waiting_for_data_is_said), {0}};
