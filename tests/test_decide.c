/* test_decide.c - what ships where: every rule of the table, what fits a device, and what is said about it. */
#include "base/json_in.h"
#include "harness.h"
#include "matrix/decide.h"
#include "toy_matrix.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define ANY ((double)NAN)
#define DEVICE(n, r) {.name = n, .runtime = r, .memory_mb = ANY, .flash_mb = ANY, .latency_ms = ANY}

static bool has(const char *const *lines, size_t n, const char *part)
{
    for (size_t i = 0; i < n; i++)
        if (strstr(lines[i], part))
            return true;
    return false;
}
#define SAYS(d, list, part) ck_assert_msg(has((d).list, (d).n_##list, part), "no line with '%s'", part)

static decision take(const matrix *m, const device_profile *devices, size_t n, int64_t platforms, double minutes)
{
    decision d;
    const decide_options o = {.devices = devices, .n_devices = n, .platforms = platforms, .minutes = minutes, .loss = 0.005};
    OK(decide(m, &o, &d));
    ck_assert(d.summary && d.rule && d.n_because > 0);
    return d;
}

static const device_choice *choice(const decision *d, const char *device)
{
    for (size_t i = 0; i < d->n_choices; i++)
        if (strcmp(d->choices[i].device, device) == 0)
            return &d->choices[i];
    return NULL;
}

static bool is(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static matrix_cell *cell(const matrix *m, const char *runtime, const char *variant)
{
    matrix_cell *c = matrix_find(m, runtime, variant);
    ck_assert_ptr_nonnull(c);
    return c;
}

START_TEST(unknown_platforms_get_portable_where_it_is_the_same)
{
    matrix m;
    toy_matrix(&m, 25, 8, NULL);
    decision d = take(&m, NULL, 0, 0, 15);
    ck_assert_str_eq(d.rule, "five and more platforms, or unknown ones: distilled float, or portable INT8 where it is bit-identical");
    ck_assert_msg(is(d.variant, "portable"), "%s", d.summary);
    SAYS(d, because, "platforms are not known");
    SAYS(d, because, "portable: accuracy 0.8987 (0.0018 less than fp32), 94.0 KiB");
    SAYS(d, because, "wrong or broken in ort-haswell, ort-web-jsep, onnx-reference");
    ck_assert_uint_eq(d.n_choices, 4); /* the rows that it does not serve get float */
    ck_assert(is(choice(&d, "ort-haswell")->variant, "fp32") && is(choice(&d, "ort-web-jsep")->variant, "fp32"));
    ck_assert(is(choice(&d, "ort-web-webgl")->variant, "fp32") && strstr(choice(&d, "ort-web-webgl")->why, "unsupported"));
    SAYS(d, would_change, "with one platform: quantised for it, in ort: int8-qat");
    SAYS(d, would_change, "if portable were right in ort-haswell");
    /* one file is proven once: the other rows that have the same bits need no run */
    size_t runs = 0, portable = 0;
    for (size_t i = 0; i < d.n_costs; i++) {
        runs += is(d.costs[i].variant, "portable") ? d.costs[i].runs : 0;
        portable += is(d.costs[i].variant, "portable");
    }
    ck_assert(runs == 1 && portable > 10);
    ck_assert_uint_eq(d.n_ways, 3);
    ck_assert_str_eq(d.ways[0].way, "distilled float");
    ck_assert(d.ways[0].files == 1 && d.ways[0].runs == d.n_costs);
    ck_assert(d.ways[1].runs < d.ways[0].runs && d.ways[2].files == d.n_costs);
    decision_free(&d);
    /* wrong in most rows: float */
    for (size_t r = 0; r < 14; r++)
        for (size_t k = 5; k < 7; k++)
            matrix_at(&m, r, k)->state = CELL_DIFFERS;
    d = take(&m, NULL, 0, 0, 15);
    ck_assert_msg(is(d.variant, "fp32"), "%s", d.summary);
    decision_free(&d);
    matrix_free(&m);
    toy_matrix(&m, 25, 5, NULL); /* no portable variant at all */
    d = take(&m, NULL, 0, 7, 15);
    ck_assert_msg(is(d.variant, "fp32") && d.n_ways == 2, "%s", d.summary);
    decision_free(&d);
    matrix_free(&m);
}
END_TEST

START_TEST(one_platform_is_quantised_for)
{
    static const device_profile ort[] = {DEVICE("server", "ort")}, haswell[] = {DEVICE("old", "ort-haswell")};
    matrix m;
    toy_matrix(&m, 25, 8, NULL);
    cell(&m, "ort", "int8-qat")->p50_ms = 0.05; /* the fastest by far */
    decision d = take(&m, ort, 1, 0, 15);
    ck_assert_str_eq(d.rule, "one platform: quantise for it");
    ck_assert(is(d.variant, "int8-qat") && d.n_choices == 1 && is(choice(&d, "server")->variant, "int8-qat"));
    SAYS(d, because, "1 platform: ort");
    SAYS(d, would_change, "with five or more platforms: portable");
    ck_assert(d.n_costs == 1 && d.costs[0].runs == 1);
    decision_free(&d);
    matrix_cell *c = cell(&m, "ort", "int8-qat"); /* it loses 2 points there: beyond chance, and more than 0.005 */
    c->accuracy = 0.88;
    c->correct = 8800;
    d = take(&m, ort, 1, 0, 15);
    ck_assert(!is(d.variant, "int8-qat") && !is(d.variant, "fp32"));
    decision_free(&d);
    d = take(&m, haswell, 1, 0, 15); /* every 8-bit variant saturates there */
    ck_assert_msg(is(d.variant, "fp32"), "%s", d.summary);
    decision_free(&d);
    matrix_free(&m);
}
END_TEST

START_TEST(two_platforms_are_quantised_for_each)
{
    static const device_profile two[] = {DEVICE("a", "ort"), DEVICE("b", "litert-xnnpack")}, mixed[] = {DEVICE("a", "ort"), DEVICE("b", "ort-haswell")},
                                same[] = {DEVICE("a", "ort"), DEVICE("b", "ort")};
    matrix m;
    toy_matrix(&m, 25, 8, NULL);
    cell(&m, "ort", "int8-qat")->p50_ms = 0.05;
    cell(&m, "litert-xnnpack", "int8-ptq")->p50_ms = 0.04;
    decision d = take(&m, two, 2, 0, 15);
    ck_assert(strstr(d.rule, "two platforms") && !d.variant);
    ck_assert(is(choice(&d, "a")->variant, "int8-qat") && is(choice(&d, "b")->variant, "int8-ptq"));
    ck_assert_ptr_nonnull(strstr(d.summary, "int8-qat in ort, int8-ptq in litert-xnnpack"));
    decision_free(&d);
    d = take(&m, mixed, 2, 0, 15);
    ck_assert(!d.variant && is(choice(&d, "b")->variant, "fp32"));
    decision_free(&d);
    d = take(&m, same, 2, 0, 15); /* two devices, one platform */
    ck_assert(strstr(d.rule, "one platform") && is(d.variant, "int8-qat"));
    decision_free(&d);
    d = take(&m, NULL, 0, 2, 15); /* how many, but not which */
    ck_assert(strstr(d.rule, "two platforms"));
    decision_free(&d);
    matrix_free(&m);
}
END_TEST

START_TEST(at_three_the_cost_of_validation_decides)
{
    static const device_profile three[] = {DEVICE("a", "ort"), DEVICE("b", "litert-xnnpack"), DEVICE("c", "openvino")};
    matrix m;
    toy_matrix(&m, 25, 8, NULL);
    cell(&m, "ort", "int8-qat")->p50_ms = 0.01;
    for (size_t k = 0; k < m.n_columns; k++) {
        cell(&m, "ort", m.columns[k].variant)->seconds = 120;
        cell(&m, "litert-xnnpack", m.columns[k].variant)->seconds = 60;
        cell(&m, "openvino", m.columns[k].variant)->seconds = 60;
    }
    decision d = take(&m, three, 3, 0, 5); /* 4 minutes */
    ck_assert(strstr(d.rule, "three or four") && is(choice(&d, "a")->variant, "int8-qat"));
    SAYS(d, because, "takes 4 min an update; matrix.minutes allows 5");
    SAYS(d, would_change, "matrix.minutes below 4: one variant for all");
    decision_free(&d);
    d = take(&m, three, 3, 0, 3);
    ck_assert_msg(is(d.variant, "portable") && is(choice(&d, "a")->variant, "portable"), "%s", d.summary);
    SAYS(d, would_change, "matrix.minutes of at least 4: quantised for each");
    decision_free(&d);
    d = take(&m, three, 3, 0, 0);
    ck_assert(is(choice(&d, "a")->variant, "int8-qat"));
    SAYS(d, because, "matrix.minutes allows any");
    decision_free(&d);
    matrix_free(&m);
}
END_TEST

START_TEST(the_memory_budget_goes_first)
{
    device_profile devices[] = {DEVICE("mcu", "ort"), DEVICE("phone", "litert-xnnpack")};
    matrix m;
    toy_matrix(&m, 25, 8, NULL);
    devices[0].flash_mb = 0.2; /* fp32 has 0.305 MiB */
    decision d = take(&m, devices, 2, 0, 15);
    ck_assert(strstr(d.rule, "memory budget first") && is(d.variant, "portable") && is(choice(&d, "mcu")->variant, "portable"));
    decision_free(&d);
    devices[0].flash_mb = ANY;
    devices[1].memory_mb = 0.2;
    d = take(&m, devices, 2, 0, 15);
    ck_assert(strstr(d.rule, "memory budget first"));
    ck_assert_ptr_nonnull(strstr(choice(&d, "phone")->why, "its memory there is not known"));
    decision_free(&d);
    devices[1].memory_mb = 0.01;
    d = take(&m, devices, 2, 0, 15);
    ck_assert(!choice(&d, "phone")->variant && strstr(choice(&d, "phone")->why, "takes more than 0.01 MiB of memory"));
    ck_assert_ptr_nonnull(strstr(d.summary, "Nothing that was measured serves 2 rows"));
    decision_free(&d);
    matrix_free(&m);
}
END_TEST

START_TEST(devices_choose_by_their_profile)
{
    static const char *const few[] = {"Conv", "Relu*"}, *const all[] = {"*"}, *const to[] = {"ort-web-wasm", "ort"};
    matrix m;
    toy_matrix(&m, 25, 8, NULL);
    device_profile d[] = {DEVICE("apple", "coreml-mlpackage"), DEVICE("slow", "ort"), DEVICE("any", ""), DEVICE("emulated", "ort-a76"),
                          DEVICE("falls", "coreml-mlpackage"), DEVICE("flash", "ort"), DEVICE("away", "openvino"), DEVICE("npu", "ort")};
    d[1].latency_ms = 0.001;
    d[3].latency_ms = 5;
    d[4].fallbacks = to;
    d[4].n_fallbacks = 2;
    d[5].flash_mb = 0.0935;
    d[6].memory_mb = 32;
    cell(&m, "openvino", "portable")->host = "phone-7"; /* measured there: 60 MB */
    d[7].operators = few;
    d[7].n_operators = 2;
    decision x = take(&m, d, 8, 0, 15);
    ck_assert(!choice(&x, "apple")->variant && strstr(choice(&x, "apple")->why, "nothing ran in coreml-mlpackage; `distill matrix pack"));
    ck_assert(!choice(&x, "slow")->variant && strstr(choice(&x, "slow")->why, "on this machine, 0.001 are allowed"));
    ck_assert(is(choice(&x, "any")->runtime, "own") && choice(&x, "any")->variant);
    ck_assert(choice(&x, "emulated")->variant && strstr(choice(&x, "emulated")->why, "its time there is not known"));
    ck_assert(is(choice(&x, "falls")->runtime, "ort-web-wasm") && choice(&x, "falls")->variant);
    ck_assert_msg(strncmp(choice(&x, "flash")->variant, "portable", 8) == 0 || !choice(&x, "flash")->variant, "%s", choice(&x, "flash")->why);
    ck_assert(choice(&x, "away")->variant && !is(choice(&x, "away")->variant, "portable"));
    ck_assert_ptr_nonnull(strstr(choice(&x, "npu")->why, "its operators are not known"));
    decision_free(&x);
    /* operators are read from the files; here: the teacher of this repository stands for each */
    for (size_t k = 0; k < m.n_columns; k++)
        m.columns[k].files[0].path = "fashion-teacher.onnx";
    decide_options o = {.devices = &d[7], .n_devices = 1, .minutes = 15, .loss = 0.005, .run_dir = SOURCE_DIR "/data"};
    OK(decide(&m, &o, &x));
    ck_assert_msg(!x.choices[0].variant && strstr(x.choices[0].why, "which the device does not cover"), "%s", x.choices[0].why);
    decision_free(&x);
    d[7].operators = all;
    d[7].n_operators = 1;
    OK(decide(&m, &o, &x));
    ck_assert(x.choices[0].variant && !strstr(x.choices[0].why, "operators"));
    decision_free(&x);
    d[7].runtime = "orf";
    FAILS(ST_CONFIG, "[device npu]: the matrix has no row 'orf'", decide(&m, &o, &x));
    decision_free(&x);
    d[7].runtime = "coreml-mlpackage";
    d[7].fallbacks = few;
    d[7].n_fallbacks = 1;
    FAILS(ST_CONFIG, "[device npu]: fallbacks: the matrix has no row 'Conv'", decide(&m, &o, &x));
    decision_free(&x);
    matrix_free(&m);
}
END_TEST

/* Outputs that are numbers: the loss is a share of the error. */
START_TEST(numbers_lose_error_instead_of_accuracy)
{
    static const device_profile ort[] = {DEVICE("server", "ort")};
    static const double error[] = {0.1, 0.1, 0.1, 0.12, 0.1006, 0.1004, 0.1008};
    matrix m;
    toy_matrix(&m, 25, 8, NULL);
    m.numbers = true;
    for (size_t r = 0; r < m.n_rows; r++)
        for (size_t k = 0; k < 7; k++) {
            matrix_at(&m, r, k)->error = error[k];
            matrix_at(&m, r, k)->accuracy = ANY;
        }
    cell(&m, "ort", "int8-ptq")->p50_ms = 0.001; /* fast, but 20 % worse; int8-qat: 0.6 %; portable: 0.4 % */
    decision d = take(&m, ort, 1, 0, 15);
    ck_assert_msg(is(d.variant, "portable"), "%s", d.summary);
    SAYS(d, because, "portable: error 0.1004 (+0.40 % against fp32)");
    SAYS(d, would_change, "matrix.loss of 0.2000 or more (now 0.005): int8-ptq would count");
    decision_free(&d);
    d = take(&m, NULL, 0, 0, 15);
    ck_assert_msg(is(d.variant, "portable"), "%s", d.summary);
    decision_free(&d);
    matrix_free(&m);
}
END_TEST

START_TEST(the_job_says_which_devices_there_are)
{
    static const char ini[] = "[device phone]\nruntime = litert-xnnpack\nflash = 1\nlatency = 12\n[device hub]\nruntime = ort\n[matrix]\nloss = 0.01\n";
    const config_sources nothing = {0};
    matrix m;
    job *j;
    decision d;
    toy_matrix(&m, 25, 8, NULL);
    OK(config_load_text("cfg.ini", ini, sizeof ini - 1, &nothing, &j));
    OK(decide_for_job(j, NULL, &m, &d));
    config_free(j); /* what is decided outlives the job */
    ck_assert(strstr(d.rule, "two platforms") && choice(&d, "phone") && choice(&d, "hub"));
    ck_assert_ptr_nonnull(strstr(choice(&d, "phone")->why, "of 1 MiB"));
    decision_free(&d);
    matrix_free(&m);
}
END_TEST

START_TEST(nothing_measured_decides_nothing)
{
    matrix m;
    toy_matrix(&m, 25, 8, NULL);
    for (size_t i = 0; i < m.n_rows * m.n_columns; i++)
        m.cells[i].state = CELL_NOT_RUN;
    decision d = take(&m, NULL, 0, 0, 15);
    ck_assert(!d.variant && strcmp(d.rule, "nothing was measured") == 0 && d.n_choices == 0);
    decision_free(&d);
    matrix empty = {0};
    d = take(&empty, NULL, 0, 3, 15);
    ck_assert(!d.variant);
    decision_free(&d);
    matrix_free(&m);
}
END_TEST

START_TEST(it_is_told_in_80_columns_and_as_json)
{
    static const device_profile devices[] = {DEVICE("phone", "litert-xnnpack"), DEVICE("apple", "coreml-mlpackage")};
    matrix m;
    json_in in;
    toy_matrix(&m, 25, 8, NULL);
    for (size_t n = 0; n <= 2; n++) {
        text t = {0}, js = {0};
        json j = {.out = &js};
        decision d = take(&m, devices, n, 0, 15);
        decision_print(&d, &t);
        OK(t.st);
        for (const char *line = t.s; *line;) {
            size_t w = strcspn(line, "\n");
            ck_assert_msg(w <= 80, "%zu columns: %.*s", w, (int)w, line);
            line += w + 1;
        }
        ck_assert(strstr(t.s, "rule:     ") && strstr(t.s, "an update costs"));
        json_put_object(&j, NULL);
        decision_json(&d, &j);
        json_end_object(&j);
        OK(js.st);
        OK(json_in_parse(&in, "decision", js.s, js.n, 8));
        json_in_close(&in);
        if (getenv("DISTILL_SHOW"))
            printf("%s\n", t.s);
        text_free(&t);
        text_free(&js);
        decision_free(&d);
    }
    matrix_free(&m);
}
END_TEST

START_TEST(it_fits_whatever_names_are)
{
    const char *word;
    for (size_t i = 0; (word = toy_hostile_word(i)); i++) {
        text t = {0};
        decision d;
        toy_decision(word, &d);
        decision_print(&d, &t);
        OK(t.st);
        test_fits(t.s, 80);
        ck_assert(strncmp(t.s, "decision:", 9) == 0 && strstr(t.s, "an update costs"));
        text_free(&t);
        decision_free(&d);
    }
}
END_TEST

/* Every allocation fails once. */
START_TEST(without_memory_it_says_so)
{
    static const device_profile devices[] = {DEVICE("phone", "litert-xnnpack"), DEVICE("apple", "coreml-mlpackage")};
    const decide_options o = {.devices = devices, .n_devices = 2, .minutes = 15, .loss = 0.005};
    matrix m;
    toy_matrix(&m, 25, 8, NULL);
    int failed = 0;
    for (uint64_t n = 1;; n++) {
        decision d;
        text t = {0};
        uint64_t before = mem_count();
        mem_fail_at(n, true);
        status st = decide(&m, &o, &d);
        if (st == ST_OK)
            decision_print(&d, &t);
        mem_fail_at(0, false);
        bool over = mem_count() - before < n;
        ck_assert(st == ST_OK || st == ST_OOM);
        ck_assert(!over || (st == ST_OK && t.st == ST_OK));
        failed += st != ST_OK || t.st != ST_OK;
        text_free(&t);
        decision_free(&d);
        if (over)
            break;
    }
    ck_assert_int_gt(failed, 10);
    matrix_free(&m);
}
END_TEST

const test_entry test_table[] = {TEST(unknown_platforms_get_portable_where_it_is_the_same),
                                 TEST(one_platform_is_quantised_for),
                                 TEST(two_platforms_are_quantised_for_each),
                                 TEST(at_three_the_cost_of_validation_decides),
                                 TEST(the_memory_budget_goes_first),
                                 TEST(devices_choose_by_their_profile),
                                 TEST(numbers_lose_error_instead_of_accuracy),
                                 TEST(the_job_says_which_devices_there_are),
                                 TEST(nothing_measured_decides_nothing),
                                 TEST(it_is_told_in_80_columns_and_as_json), TEST(it_fits_whatever_names_are),
                                 TEST(without_memory_it_says_so),
                                 {0}};
