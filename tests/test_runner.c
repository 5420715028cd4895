/* test_runner.c - our executor as a runner, asked by its protocol: inputs of other types, short batches, devices and precisions. */
#include "harness.h"
#include "base/io.h"
#include "data/npy.h"
#include "graph/graph.h"
#include "matrix/runner.h"
#include "onnx/export.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { ROWS = 11, BATCH = 4, WIDTH = 5 };

/* max(3 x + 1, 0), after a product with a matrix where `product` says so. */
static const char *make_model(const char *dir, bool product)
{
    graph *g;
    value_id x, y, three, one;
    OK(graph_new(&g));
    OK(graph_add_input(g, "x", DTYPE_F32, SHAPE(1, WIDTH), &x));
    OK(graph_add_fill(g, DTYPE_F32, SHAPE(1), 3, &three));
    OK(graph_add_fill(g, DTYPE_F32, SHAPE(1), 1, &one));
    if (product) {
        value_id w;
        float *v;
        OK(mem_alloc(&v, WIDTH * WIDTH, sizeof *v));
        for (int i = 0; i < WIDTH * WIDTH; i++)
            v[i] = 1 / (float)(3 + i); /* not to be had in bfloat16 */
        OK(graph_add_data(g, "w", VALUE_CONST, DTYPE_F32, SHAPE(WIDTH, WIDTH), v, &w));
        OK(graph_add1(g, OP_MATMUL, NULL, x, w, 0, &x));
        mem_free(v);
    }
    OK(graph_add1(g, OP_MUL, NULL, x, three, 0, &y));
    OK(graph_add1(g, OP_ADD, NULL, y, one, 0, &y));
    OK(graph_add1(g, OP_RELU, NULL, y, 0, 0, &y));
    OK(graph_add_output(g, y));
    const char *path = test_path(dir, product ? "product.onnx" : "plain.onnx");
    OK(onnx_export_file(g, &(export_options){0}, path));
    graph_free(g);
    return path;
}

static const char *make_input(const char *dir, dtype type)
{
    tensor t;
    const char *path = test_path(dir, "x.npy");
    OK(tensor_new(&t, NULL, type, SHAPE(ROWS, WIDTH)));
    for (int i = 0; i < ROWS * WIDTH; i++)
        tensor_put(&t, i, type == DTYPE_U8 ? i : i - 20);
    OK(npy_write(path, &t));
    tensor_free(&t);
    return path;
}

/* The answer to a cell; free with json_decref. *y: the outputs, where there are some. */
static json_t *ask(const char *dir, const char *model, const char *input, int samples, const char *options, tensor *y)
{
    text line = {0}, answer = {0};
    json_error_t e;
    const limits lim = limits_default();
    const char *out = test_path(dir, "y.npy");
    OK(io_remove(out));
    text_printf(&line, "{\"protocol\": 1, \"model\": \"%s\", \"inputs\": [{\"name\": \"x\", \"file\": \"%s\"}], \"output\": \"%s\", \"samples\": %d,"
                " \"batch\": %d, \"options\": {%s}, \"latency\": {\"batch\": 1, \"warmup\": 1, \"runs\": 7, \"seconds\": 9}}",
                model, input, out, samples, BATCH, options);
    OK(runner_answer(&runner_own, line.s, line.n, &answer));
    json_t *a = json_loads(answer.s, 0, &e);
    ck_assert_msg(a != NULL, "no JSON: %s", answer.s);
    *y = (tensor){0};
    if (json_is_true(json_object_get(a, "ok")))
        OK(npy_read(out, &lim, y));
    else
        ck_assert(!io_exists(out));
    text_free(&line);
    text_free(&answer);
    return a;
}

static const char *said(json_t *a, const char *key)
{
    const char *s = json_string_value(json_object_get(a, key));
    return s ? s : "";
}

static void check_plain(json_t *a, const tensor *y, int from)
{
    ck_assert_msg(json_is_true(json_object_get(a, "ok")), "%s", said(a, "message"));
    const shape sh = SHAPE(ROWS, WIDTH);
    ck_assert(y->type == DTYPE_F32 && shape_equal(&y->sh, &sh));
    for (int i = 0; i < ROWS * WIDTH; i++) {
        double want = 3 * (i + from) + 1;
        ck_assert_msg(tensor_at(y, i) == (want > 0 ? want : 0), "number %d: %g instead of %g", i, tensor_at(y, i), want);
    }
    ck_assert_uint_eq(json_array_size(json_object_get(a, "latency_ms")), 7);
}

START_TEST(rows_of_any_type_reach_the_model)
{
    const char *dir = test_tmp_dir(), *model = make_model(dir, false);
    static const dtype types[] = {DTYPE_F32, DTYPE_I64, DTYPE_U8};
    tensor y;
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        json_t *a = ask(dir, model, make_input(dir, types[k]), ROWS, "", &y);
        check_plain(a, &y, types[k] == DTYPE_U8 ? 0 : -20);
        json_decref(a);
        tensor_free(&y);
    }
    json_t *a = ask(dir, model, make_input(dir, DTYPE_F32), ROWS + 1, "", &y);
    ck_assert_msg(strstr(said(a, "message"), "fewer rows than the 12"), "%s", said(a, "message"));
    json_decref(a);
}
END_TEST

/* Values of a device with memory of its own come from the file and go back to one. */
START_TEST(another_device_computes_the_same)
{
    const char *dir = test_tmp_dir(), *model = make_model(dir, false), *x = make_input(dir, DTYPE_F32);
    tensor y;
    json_t *a = ask(dir, model, x, ROWS, "\"device\": \"emulated\"", &y);
    if (strcmp(said(a, "kind"), "missing") == 0) {
        test_skip("a device that is emulated", said(a, "message"));
    } else {
        check_plain(a, &y, -20);
        json_t *provider = json_array_get(json_object_get(a, "providers"), 0);
        ck_assert_str_ne(said(provider, "name"), "cpu");
        ck_assert_msg(strncmp(said(a, "device"), "cuda", 4) == 0 && strlen(said(a, "isa")) > 4, "'%s', '%s'", said(a, "device"), said(a, "isa"));
    }
    json_decref(a);
    tensor_free(&y);
    a = ask(dir, model, x, ROWS, "\"device\": \"no-such\"", &y);
    ck_assert(strcmp(said(a, "kind"), "missing") == 0 && strstr(said(a, "message"), "no-such"));
    json_decref(a);
}
END_TEST

START_TEST(bfloat16_is_what_ran_or_is_refused)
{
    const char *dir = test_tmp_dir(), *plain = make_model(dir, false), *product = make_model(dir, true), *x = make_input(dir, DTYPE_F32);
    tensor y, exact;
    json_t *a = ask(dir, plain, x, ROWS, "\"precision\": \"bf16\"", &y), *b;
    ck_assert_msg(strcmp(said(a, "kind"), "unsupported") == 0, "a model without a product: %s", said(a, "message"));
    bool has = !strstr(said(a, "message"), "AVX512-BF16");
    json_decref(a);
    a = ask(dir, product, x, ROWS, "\"precision\": \"bf16\"", &y);
    b = ask(dir, product, x, ROWS, "", &exact);
    ck_assert(exact.data != NULL);
    if (has) {
        double most = 0;
        ck_assert_msg(y.data != NULL, "%s", said(a, "message"));
        for (int64_t i = 0; i < ROWS * WIDTH; i++) {
            double d = tensor_at(&y, i) - tensor_at(&exact, i);
            most = d > most ? d : -d > most ? -d : most;
        }
        ck_assert_msg(most > 0 && most < 1, "largest difference from float32: %g", most);
        ck_assert(strncmp(json_string_value(json_array_get(json_object_get(a, "notes"), 0)), "bfloat16 in 1 of 1 products (100 %", 34) == 0);
        ck_assert_str_eq(said(a, "isa"), "avx512_bf16");
    } else {
        ck_assert_str_eq(said(a, "kind"), "unsupported");
        test_skip("products in bfloat16", said(a, "message"));
    }
    ck_assert_uint_eq(json_array_size(json_object_get(b, "notes")), 0);
    json_decref(a);
    json_decref(b);
    tensor_free(&y);
    tensor_free(&exact);
    a = ask(dir, product, x, ROWS, "\"precision\": \"fp8\"", &y);
    ck_assert(strstr(said(a, "message"), "fp8") != NULL);
    json_decref(a);
}
END_TEST

const test_entry test_table[] = {
    TEST(rows_of_any_type_reach_the_model),
    TEST(another_device_computes_the_same),
    TEST(bfloat16_is_what_ran_or_is_refused),
    {0},
};
