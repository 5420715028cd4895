/* test_compare.c - comparison of logits, scores, latency percentiles, and the small readers below them (base64, JSON). */
#include "harness.h"
#include "base/base64.h"
#include "base/json_in.h"
#include "base/mem.h"
#include "base/rng.h"
#include "deploy/compare.h"

#include <math.h>
#include <string.h>

static bool near(double a, double b, double tolerance)
{
    return fabs(a - b) <= tolerance;
}

START_TEST(equal_logits_differ_in_nothing)
{
    const float a[] = {1, 2, 3, -4, 0, 4};
    difference d;
    OK(compare_logits(a, a, 2, 3, &d));
    ck_assert_uint_eq(d.samples, 2);
    ck_assert_uint_eq(d.disagreements, 0);
    ck_assert(d.max_abs == 0 && d.max_rel == 0 && d.mean_kl == 0);
}
END_TEST

/* Worked by hand: softmax((0, ln 3)) = (1/4, 3/4), softmax((ln 3, 0)) = (3/4, 1/4), KL = 1/2 ln 3. */
START_TEST(figures_are_those_of_a_hand_calculation)
{
    float l = logf(3.0f);
    const float a[] = {0, l, 10, 0}, b[] = {l, 0, 10, 0.5f};
    difference d;
    OK(compare_logits(a, b, 2, 2, &d));
    double p = 1 / (1 + exp(-10)), q = 1 / (1 + exp(-9.5));
    double second = p * log(p / q) + (1 - p) * log((1 - p) / (1 - q));
    ck_assert_uint_eq(d.disagreements, 1);
    ck_assert(near(d.max_abs, (double)l, 1e-7));
    ck_assert_uint_eq(d.max_abs_sample, 0);
    ck_assert(near(d.max_rel, 1, 1e-7));
    ck_assert(near(d.mean_kl, (0.5 * log(3) + second) / 2, 1e-7));
    ck_assert(near(compare_probability(a, 2, 1), 0.75, 1e-7));
}
END_TEST

START_TEST(the_lowest_class_of_equals_is_predicted)
{
    const float tie[] = {1, 5, 5, 5};
    ck_assert_uint_eq(compare_argmax(tie, 4), 1);
}
END_TEST

START_TEST(large_logits_do_not_overflow)
{
    const float a[] = {1e30f, -1e30f}, b[] = {3e4f, 2e4f};
    difference d;
    score s;
    const int32_t label = 1;
    OK(compare_logits(b, b, 1, 2, &d));
    ck_assert(d.mean_kl == 0);
    OK(compare_logits(a, b, 1, 2, &d));
    ck_assert(isfinite(d.mean_kl) && isfinite(d.max_abs));
    OK(score_logits(b, &label, 1, 2, &s));
    ck_assert(near(s.ce, 1e4, 1e-6));
    score_free(&s);
}
END_TEST

START_TEST(values_that_are_not_finite_fail)
{
    const float bad[] = {(float)NAN, (float)INFINITY, (float)-INFINITY};
    for (int k = 0; k < 3; k++) {
        float a[] = {0, 1, 0, 1, 0, 1}, b[] = {0, 1, 0, 1, 0, 1};
        difference d;
        score s;
        const int32_t labels[] = {1, 1, 1};
        a[3] = bad[k];
        FAILS(ST_GATE, "sample 1, class 1", compare_logits(a, b, 3, 2, &d));
        ck_assert_uint_eq(d.disagreements, 1);
        ck_assert(isfinite(d.max_abs) && isfinite(d.mean_kl));
        FAILS(ST_GATE, "second model", compare_logits(b, a, 3, 2, &d));
        FAILS(ST_GATE, "sample 1, class 1", score_logits(a, labels, 3, 2, &s));
        ck_assert_uint_eq(s.labelled, 3);
        ck_assert_uint_eq(s.correct, 2); /* the bad sample counts as wrong */
        ck_assert(isfinite(s.ce));
        score_free(&s);
    }
}
END_TEST

START_TEST(scores_count_labelled_samples_only)
{
    const float z[] = {9, 0, 0, 0, 9, 0, 0, 0, 9, 0, 9, 0, 9, 0, 0};
    const int32_t labels[] = {0, 1, 1, -1, 2};
    const uint32_t samples[] = {1, 2, 1}, correct[] = {1, 1, 0}, confusion[] = {1, 0, 0, 0, 1, 1, 1, 0, 0};
    score s;
    OK(score_logits(z, labels, 5, 3, &s));
    ck_assert_uint_eq(s.samples, 5);
    ck_assert_uint_eq(s.labelled, 4);
    ck_assert(near(score_accuracy(&s), 0.5, 0));
    ck_assert_mem_eq(s.class_samples, samples, sizeof samples);
    ck_assert_mem_eq(s.class_correct, correct, sizeof correct);
    ck_assert_mem_eq(s.confusion, confusion, sizeof confusion);
    double right = log(1 + 2 * exp(-9));
    ck_assert(near(s.ce, (2 * right + 2 * (right + 9)) / 4, 1e-9));
    score_free(&s);

    const int32_t none[] = {-1, -1, -1, -1, -1}, wrong[] = {0, 1, 3, 0, 0};
    OK(score_logits(z, none, 5, 3, &s));
    ck_assert(isnan(score_accuracy(&s)) && isnan(s.ce));
    score_free(&s);
    FAILS(ST_BAD_DATA, "sample 2 has label 3", score_logits(z, wrong, 5, 3, &s));
    OK(score_new(CONFUSION_MAX + 1, &s));
    ck_assert_ptr_null(s.confusion);
    score_free(&s);
}
END_TEST

START_TEST(the_farthest_samples_are_found_in_order)
{
    enum { N = 300, C = 5, K = 7 };
    float a[N * C], b[N * C];
    size_t sample[K], all[N];
    double kl[K], kl_all[N];
    rng r = rng_make(3, RNG_TEST, 0, 0);
    for (int i = 0; i < N * C; i++) {
        a[i] = (float)rng_normal(&r);
        b[i] = (float)rng_normal(&r);
    }
    memcpy(b + 10 * C, a + 10 * C, C * sizeof *a); /* nothing between these two */
    b[20 * C] = (float)NAN;
    ck_assert_uint_eq(compare_farthest(a, b, N, C, N, all, kl_all), N);
    ck_assert_uint_eq(compare_farthest(a, b, N, C, K, sample, kl), K);
    ck_assert_uint_eq(all[0], 20);
    ck_assert(isinf(kl_all[0]));
    ck_assert_uint_eq(all[N - 1], 10);
    for (int i = 1; i < N; i++)
        ck_assert(kl_all[i - 1] >= kl_all[i]);
    for (int i = 0; i < K; i++)
        ck_assert_uint_eq(sample[i], all[i]);
    ck_assert_uint_eq(compare_farthest(a, b, 3, C, K, sample, kl), 3);
    ck_assert_uint_eq(compare_farthest(a, b, 0, C, K, sample, kl), 0);
    const float same[6] = {0}; /* equals keep their order */
    ck_assert_uint_eq(compare_farthest(same, same, 3, 2, 2, sample, kl), 2);
    ck_assert(sample[0] == 0 && sample[1] == 1);
}
END_TEST

START_TEST(percentiles_are_nearest_rank)
{
    double ms[100], one = 7;
    for (int i = 0; i < 100; i++)
        ms[i] = (double)((i * 37) % 100 + 1); /* 1 to 100, shuffled */
    latency l = latency_of(ms, 100);
    ck_assert(l.p50 == 50 && l.p90 == 90 && l.p99 == 99 && l.min == 1 && near(l.mean, 50.5, 1e-12));
    l = latency_of(&one, 1);
    ck_assert(l.p50 == 7 && l.p99 == 7 && l.runs == 1);
    l = latency_of(NULL, 0);
    ck_assert(l.runs == 0 && l.p99 == 0);
}
END_TEST

START_TEST(base64_goes_both_ways)
{
    const char *const plain[] = {"", "f", "fo", "foo", "foob", "fooba", "foobar"}; /* RFC 4648, section 10 */
    const char *const coded[] = {"", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
    for (int i = 0; i < 7; i++) {
        text t = {0};
        char back[8] = "";
        base64_add(&t, plain[i], strlen(plain[i]));
        ck_assert_str_eq(t.s ? t.s : "", coded[i]);
        OK(base64_decode("x", coded[i], back, strlen(plain[i])));
        ck_assert_str_eq(back, plain[i]);
        text_free(&t);
    }
    char to[8];
    FAILS(ST_BAD_DATA, "base64", base64_decode("x", "Zm9v", to, 4));
    FAILS(ST_BAD_DATA, "base64", base64_decode("x", "Zm9", to, 3));
    FAILS(ST_BAD_DATA, "character 1", base64_decode("x", "Z m=", to, 2));
    FAILS(ST_BAD_DATA, "character 2", base64_decode("x", "Zm==", to, 3));
    FAILS(ST_BAD_DATA, "character 3", base64_decode("x", "Zm9v", to, 2));
    FAILS(ST_BAD_DATA, "character 2", base64_decode("x", "Zg=A", to, 2));
}
END_TEST

START_TEST(json_members_are_read_by_name)
{
    const char *s = "{\"i\": 3, \"d\": 1.5, \"s\": \"a\\u00e9\", \"b\": true, \"n\": null, \"a\": [1, 2], "
                    "\"o\": {\"x\": 1},"
                    " \"f\": null, \"f_nonfinite\": \"-inf\"}";
    json_in j;
    arena mem = {0};
    size_t n;
    OK(json_in_parse(&j, "file", s, strlen(s), 8));
    ck_assert_int_eq(json_in_int(&j, j.root, "i", -1), 3);
    ck_assert_int_eq(json_in_int(&j, j.root, "missing", -1), -1);
    ck_assert(json_in_number(&j, j.root, "d") == 1.5);
    ck_assert(json_in_number(&j, j.root, "i") == 3);
    ck_assert(isnan(json_in_number(&j, j.root, "n")));
    ck_assert(isinf(json_in_number(&j, j.root, "f")));
    ck_assert_str_eq(json_in_string(&j, &mem, j.root, "s"), "a\xc3\xa9");
    ck_assert_ptr_null(json_in_string(&j, &mem, j.root, "n"));
    ck_assert(json_in_bool(&j, j.root, "b", false));
    ck_assert_ptr_nonnull(json_in_array(&j, j.root, "a", &n));
    ck_assert_uint_eq(n, 2);
    ck_assert_int_eq(json_in_int(&j, json_in_object(&j, j.root, "o"), "x", 0), 1);
    ck_assert_int_eq(json_in_int(&j, json_in_object(&j, j.root, "missing"), "x", 7), 7);
    OK(j.st);
    (void)json_in_int(&j, j.root, "s", 0); /* the first failure stays */
    (void)json_in_string(&j, &mem, j.root, "i");
    FAILS(ST_BAD_DATA, "file: 's' must be a whole number", j.st);
    json_in_close(&j);
    arena_free(&mem);
}
END_TEST

START_TEST(bad_json_is_refused)
{
    const struct {
        const char *s, *message;
    } bad[] = {{"", "file:1"},
               {"[1]", "object is expected"},
               {"{\"a\": 1", "file:1:7"},
               {"{\"a\": \"\\u0000\"}", "file:1"},
               {"{\"a\": nan}", "file:1"},
               {"{\"a\": [[[[[1]]]]]}", "more than 4 deep at byte 9"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_in j;
        FAILS(ST_BAD_DATA, bad[i].message, json_in_parse(&j, "file", bad[i].s, strlen(bad[i].s), 4));
        json_in_close(&j);
    }
    json_in j;
    const char *brackets = "{\"a\": \"[[[[[[[{{{{\\\"[[[\"}"; /* in a string they are letters */
    OK(json_in_parse(&j, "file", brackets, strlen(brackets), 1));
    json_in_close(&j);
}
END_TEST

const test_entry test_table[] = {TEST(equal_logits_differ_in_nothing),
                                 TEST(figures_are_those_of_a_hand_calculation),
                                 TEST(the_lowest_class_of_equals_is_predicted),
                                 TEST(large_logits_do_not_overflow),
                                 TEST(values_that_are_not_finite_fail),
                                 TEST(scores_count_labelled_samples_only),
                                 TEST(the_farthest_samples_are_found_in_order),
                                 TEST(percentiles_are_nearest_rank),
                                 TEST(base64_goes_both_ways),
                                 TEST(json_members_are_read_by_name),
                                 TEST(bad_json_is_refused),
                                 {0}};
