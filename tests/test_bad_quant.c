/* test_bad_quant.c - quantised models that lie about themselves: every fault in every form, what is said, and nothing runs. */
#include "harness.h"
#include "base/log.h"
#include "distill/frozen.h"
#include "onnx/import.h"
#include "onnx_build.h"

#include <math.h>
#include <stdio.h>

/* The numbers of a model; a fault changes some of them. The data is x [N, K] (or [N, K, 1, 1]), the weight K to M. */
typedef struct numbers {
    int64_t K;
    float xs, ws, ys;    /* scales; ws of the first of n_ws */
    int n_ws;            /* 0: a scalar */
    int64_t axis;        /* of the weight's scales in QDQ form */
    dtype xz, wz, yz;    /* types of the zero points */
    int x_zero, w_zero;  /* their values */
    int n_wz;            /* as n_ws */
    int weight;          /* every one of them */
    bool high;           /* x_zero is stored as an int32_data of 300 */
    bool fed;            /* the data's scale is an input of the model */
} numbers;

enum { M = 3 };
static const numbers sound = {.K = 4, .xs = 0.02f, .ws = 0.01f, .ys = 0.05f, .xz = DTYPE_U8, .wz = DTYPE_I8, .yz = DTYPE_U8, .x_zero = 3,
                              .weight = 2};

static void put_zero(model_builder *b, const char *name, dtype type, int number, int n)
{
    uint8_t bytes[64] = {0};
    char dims[16] = "";
    for (int i = 0; i < (n ? n : 1); i++)
        dtype_store(type, bytes, i, number);
    if (n)
        snprintf(dims, sizeof dims, "%d", n);
    build_init(b, name, type, dims, bytes);
}

/* A uint8 scalar whose int32_data says 300. */
static void put_high(model_builder *b, const char *name)
{
    text t = {0};
    wire_put_int(&t, 2, 2); /* UINT8 */
    wire_put_int(&t, 5, 300);
    wire_put_bytes(&t, 8, name, strlen(name));
    build_init_raw(b, &t);
}

static void put_common(model_builder *b, const numbers *n, bool matrix, bool scales)
{
    char dims[64];
    int8_t *w;
    float ws[8];
    int64_t count = n->K * M;
    snprintf(dims, sizeof dims, matrix ? "N %d" : "N %d 1 1", (int)n->K);
    build_input(b, "x", DTYPE_F32, dims);
    OK(mem_alloc(&w, (size_t)count, 1));
    memset(w, n->weight, (size_t)count);
    snprintf(dims, sizeof dims, matrix ? "%d %d" : "%d %d 1 1", matrix ? (int)n->K : M, matrix ? M : (int)n->K);
    build_init(b, "w", DTYPE_I8, dims, w);
    mem_free(w);
    if (n->fed)
        build_input(b, "xs", DTYPE_F32, "");
    else
        build_init(b, "xs", DTYPE_F32, "", &n->xs);
    if (n->high)
        put_high(b, "xz");
    else
        put_zero(b, "xz", n->xz, n->x_zero, 0);
    put_zero(b, "wz", n->wz, n->w_zero, n->n_wz);
    if (!scales)
        return;
    for (int i = 0; i < 8; i++)
        ws[i] = i ? 0.01f : n->ws;
    snprintf(dims, sizeof dims, "%d", n->n_ws);
    build_init(b, "ws", DTYPE_F32, n->n_ws ? dims : "", ws);
    build_init(b, "ys", DTYPE_F32, "", &n->ys);
    put_zero(b, "yz", n->yz, 5, 0);
}

static void qdq(model_builder *b, const numbers *n)
{
    text axis = {0};
    put_common(b, n, false, true);
    attr_int(&axis, "axis", n->axis);
    build_node(b, "QuantizeLinear", "enter", "x xs xz", "q", NULL);
    build_node(b, "DequantizeLinear", "data", "q xs xz", "d", NULL);
    build_node(b, "DequantizeLinear", "weights", "w ws wz", "dw", &axis);
    build_node(b, "Conv", "conv", "d dw", "c", NULL);
    build_node(b, "QuantizeLinear", "leave", "c ys yz", "r", NULL);
    build_node(b, "DequantizeLinear", "end", "r ys yz", "y", NULL);
}

static void qlinear_conv(model_builder *b, const numbers *n)
{
    put_common(b, n, false, true);
    build_node(b, "QuantizeLinear", "enter", "x xs xz", "q", NULL);
    build_node(b, "QLinearConv", "conv", "q xs xz w ws wz ys yz", "r", NULL);
    build_node(b, "DequantizeLinear", "end", "r ys yz", "y", NULL);
}

static void qlinear_matmul(model_builder *b, const numbers *n)
{
    put_common(b, n, true, true);
    build_node(b, "QuantizeLinear", "enter", "x xs xz", "q", NULL);
    build_node(b, "QLinearMatMul", "conv", "q xs xz w ws wz ys yz", "r", NULL);
    build_node(b, "DequantizeLinear", "end", "r ys yz", "y", NULL);
}

static void integer_form(model_builder *b, const numbers *n, const char *op, bool matrix)
{
    const uint8_t zero = 3;
    text to = {0};
    put_common(b, n, matrix, false);
    build_init(b, "ez", DTYPE_U8, "", &zero);
    attr_int(&to, "to", 1); /* FLOAT */
    build_node(b, "QuantizeLinear", "enter", "x xs ez", "q", NULL);
    build_node(b, op, "conv", "q w xz wz", "r", NULL);
    build_node(b, "Cast", "end", "r", "y", &to);
}

static void conv_integer(model_builder *b, const numbers *n)
{
    integer_form(b, n, "ConvInteger", false);
}

static void matmul_integer(model_builder *b, const numbers *n)
{
    integer_form(b, n, "MatMulInteger", true);
}

enum { QDQ, QCONV, QMATMUL, ICONV, IMATMUL, FORMS };
static void (*const forms[FORMS])(model_builder *, const numbers *) = {qdq, qlinear_conv, qlinear_matmul, conv_integer, matmul_integer};
static const char *const form_names[FORMS] = {"QDQ", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"};

static status import_numbers(int form, const numbers *n, graph **out)
{
    model_builder b = {0};
    onnx_model *m = NULL;
    *out = NULL;
    forms[form](&b, n);
    build_output(&b, "y", DTYPE_F32, NULL);
    text bytes = build_model(&b);
    status st = onnx_open_bytes("bad.onnx", bytes.s, bytes.n, NULL, &m);
    if (st == ST_OK)
        st = onnx_import(m, &(import_options){.batch = 2}, out);
    onnx_close(m);
    text_free(&bytes);
    return st;
}

/* Where, what and what is wrong are all in the message. */
static void refused(const char *fault, int form, const numbers *n, const char *where, const char *what, const char *says)
{
    graph *g;
    status st = import_numbers(form, n, &g);
    ck_assert_msg(st == ST_BAD_DATA, "%s, %s: status %d: %s", form_names[form], fault, st, st ? status_message() : "accepted");
    const char *const parts[] = {"bad.onnx", where, what, says};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        ck_assert_msg(strstr(status_message(), parts[i]) != NULL, "%s, %s: '%s' is not in: %s", form_names[form], fault, parts[i],
                      status_message());
    graph_free(g);
}

START_TEST(sound_forms_are_accepted)
{
    for (int form = 0; form < FORMS; form++) {
        graph *g;
        OK(import_numbers(form, &sound, &g));
        graph_free(g);
    }
}
END_TEST

START_TEST(scales)
{
    static const float bad[] = {0, -0.5f, NAN, INFINITY, -INFINITY};
    static const char *const says[] = {"has 0", "has -0.5", "nan", "has inf", "has -inf"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (int form = QDQ; form <= QMATMUL; form++) {
            numbers x = sound, w = sound, y = sound;
            x.xs = w.ws = y.ys = bad[i];
            refused("scale of the data", form, &x, "'enter'", "'xs'", says[i]);
            refused("scale of the weight", form, &w, form == QDQ ? "'weights'" : "'conv'", "'ws'", says[i]);
            refused("scale of the result", form, &y, form == QDQ ? "'leave'" : "'conv'", "'ys'", says[i]);
        }
}
END_TEST

START_TEST(zero_points)
{
    for (int form = 0; form < FORMS; form++) {
        numbers n = sound;
        n.wz = DTYPE_U8; /* of int8 weights */
        refused("zero point of the weight", form, &n, form == QDQ ? "'weights'" : "'conv'", "'wz'", "uint8");
        n = sound;
        n.xz = DTYPE_I32;
        refused("int32 zero point", form, &n, form >= ICONV ? "'conv'" : "'enter'", "'xz'", "int32");
        n = sound;
        n.high = true; /* 300 as a uint8 */
        refused("zero point out of range", form, &n, "", "'xz'", "300");
        if (form >= ICONV) {
            n = sound;
            n.xz = DTYPE_I8;
            refused("zero point of uint8 data", form, &n, "'conv'", "'xz'", "must be uint8");
            continue;
        }
        n = sound;
        n.yz = DTYPE_F32;
        refused("float zero point", form, &n, form == QDQ ? "'leave'" : "'conv'", "'yz'", "float32");
    }
}
END_TEST

START_TEST(axes_and_sizes)
{
    numbers n = sound;
    n.n_ws = n.n_wz = M;
    graph *g;
    OK(import_numbers(QDQ, &n, &g)); /* axis 0 is right */
    graph_free(g);
    n.axis = 1; /* 4 there */
    refused("the other axis", QDQ, &n, "'weights'", "'ws'", "3");
    n.axis = 4;
    refused("no such axis", QDQ, &n, "'weights'", "axis", "4");
    n.axis = -5;
    refused("no such axis", QDQ, &n, "'weights'", "axis", "-5");
    for (int form = 0; form < FORMS; form++) {
        n = sound;
        n.n_ws = form >= ICONV ? 0 : 2;
        n.n_wz = 2;
        refused("two channels of three", form, &n, form == QDQ ? "'weights'" : "'conv'", form >= ICONV ? "'wz'" : "'ws'", "2");
        if (form >= ICONV)
            continue;
        n.n_ws = M;
        refused("scales and zero points apart", form, &n, form == QDQ ? "'weights'" : "'conv'", "'wz'", "2");
    }
}
END_TEST

/* ---- accumulators ---- */

static char said[4096];

static void hear(log_level level, const char *line, void *ctx)
{
    (void)level;
    (void)ctx;
    snprintf(said + strlen(said), sizeof said - strlen(said), "%s\n", line);
}

/* Runs it, with the groups on integers as every frozen graph, or as it stands; two rows of the same number. */
static void run_both(graph *g, float x, float *y)
{
    backend *b;
    exec *e;
    OK(backend_open("cpu", &(backend_options){.threads = 1, .max_isa = ISA_AVX512}, &b));
    for (int i = 0; i < 2; i++) {
        graph *copy;
        OK(graph_clone(g, &copy));
        if (i)
            OK(frozen_passes(copy));
        OK(exec_open(copy, b, NULL, 0, &e));
        float *in = exec_data(e, copy->input[0]);
        for (int64_t k = 0, n = shape_count(&copy->value[copy->input[0]].sh); k < n; k++)
            in[k] = x;
        OK(exec_run(e, PHASE_MAIN));
        y[i] = *(const float *)exec_data(e, copy->output[0]);
        exec_close(e);
        graph_free(copy);
    }
    backend_close(b);
}

/* 80000 products of 252 and 127 leave int32. Operators on integers are refused; QDQ form is computed in float, which is said. */
START_TEST(sums_beyond_int32)
{
    numbers n = sound;
    graph *g;
    float y[2];
    n.K = 80000;
    n.weight = 127;
    for (int form = QCONV; form < FORMS; form++)
        refused("overflow", form, &n, "'conv'", "'w'", "beyond int32; leave this operator in float, or split it");
    n.xs = 0x1p-6f; /* 252 codes above the zero point: 3.9375 */
    n.ws = 0x1p-14f;
    n.ys = 16;
    OK(import_numbers(QDQ, &n, &g));
    said[0] = 0;
    log_set_sink(hear, NULL);
    run_both(g, 100, y);
    log_set_sink(NULL, NULL);
    ck_assert_msg(strstr(said, "'leave'") || strstr(said, "'conv'"), "which node is not said: %s", said);
    ck_assert_msg(strstr(said, "beyond int32") && strstr(said, "computed in float32"), "what is done is not said: %s", said);
    const float want = 16 * rintf((float)(80000 * 3.9375 * 127 / 16384) / 16);
    ck_assert_msg(y[0] == want && y[1] == want, "%g and %g, not %g", (double)y[0], (double)y[1], (double)want);
    graph_free(g);
    said[0] = 0;
    n.K = 60000; /* 60000 * 252 * 127 fits */
    OK(import_numbers(QDQ, &n, &g));
    log_set_sink(hear, NULL);
    run_both(g, 100, y);
    log_set_sink(NULL, NULL);
    ck_assert_msg(said[0] == 0, "%s", said);
    ck_assert(y[0] == y[1]);
    graph_free(g);
}
END_TEST

/* A scale that comes with the data cannot be refused before it comes: whatever it is, codes stay codes. */
START_TEST(scales_that_are_fed)
{
    static const float fed[] = {0, -1, NAN, INFINITY, -INFINITY, 1e-45f, 0.02f};
    for (int form = 0; form < FORMS; form++)
        for (size_t i = 0; i < sizeof fed / sizeof *fed; i++) {
            numbers n = sound;
            graph *g;
            backend *b;
            exec *e;
            n.fed = true;
            OK(import_numbers(form, &n, &g));
            OK(frozen_passes(g));
            OK(backend_open("cpu", &(backend_options){.threads = 1, .max_isa = ISA_AVX512}, &b));
            OK(exec_open(g, b, NULL, 0, &e));
            for (size_t k = 0; k < g->n_input; k++) {
                const bool scale = strcmp(g->value[g->input[k]].name, "xs") == 0;
                float *in = exec_data(e, g->input[k]);
                for (int64_t at = 0, count = shape_count(&g->value[g->input[k]].sh); at < count; at++)
                    in[at] = scale ? fed[i] : (float)(at % 3 - 1);
            }
            OK(exec_run(e, PHASE_MAIN));
            const float *y = exec_data(e, g->output[0]);
            for (int64_t at = 0, count = shape_count(&g->value[g->output[0]].sh); at < count; at++) {
                const bool code = form >= ICONV || (y[at] >= -5 * 0.05f - 1e-5f && y[at] <= 250 * 0.05f + 1e-5f);
                ck_assert_msg(isfinite(y[at]) && code, "%s, scale %g: %g", form_names[form], (double)fed[i], (double)y[at]);
            }
            exec_close(e);
            graph_free(g);
            backend_close(b);
        }
}
END_TEST

const test_entry test_table[] = {TEST(sound_forms_are_accepted), TEST(scales), TEST(zero_points), TEST(axes_and_sizes),
                                 TEST(sums_beyond_int32), TEST(scales_that_are_fed), {0}};
