/* test_quant.c - ranges against numbers worked out by hand and known optima, places, the QDQ form against ONNX Runtime, float16. */
#include "base/rng.h"
#include "deploy/ort.h"
#include "exec/exec.h"
#include "graph/widen_half.h"
#include "harness.h"
#include "onnx/export.h"
#include "onnx/import.h"
#include "ops/attrs.h"
#include "quant/half.h"
#include "quant/operator_form.h"
#include "quant/weight.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static quant_scheme scheme(dtype t, bool symmetric, quant_method m)
{
    quant_scheme s = quant_scheme_default();
    s.activations = t;
    s.symmetric = symmetric;
    s.method = m;
    return s;
}

/* ---- ranges ---- */

START_TEST(scales_and_zero_points_by_hand)
{
    quant_scheme u8 = scheme(DTYPE_U8, false, QUANT_MINMAX), s8 = scheme(DTYPE_I8, false, QUANT_MINMAX);
    quant_scheme u8s = scheme(DTYPE_U8, true, QUANT_MINMAX), s8s = scheme(DTYPE_I8, true, QUANT_MINMAX);
    quant_scheme portable = quant_scheme_portable(PROFILE_PORTABLE);
    const struct {
        quant_scheme *s;
        double lo, hi;
        bool positive;
        double scale;
        int zero;
    } rows[] = {
        {&u8, -1, 3, false, 4 / 255.0, 64},  /* 255 / 4 = 63.75 */
        {&u8, 1, 3, false, 3 / 255.0, 0},    /* zero is always in the range */
        {&u8, -2, -1, false, 2 / 255.0, 255},
        {&u8, 0, 0, false, 1, 0},            /* nothing but zeros */
        {&s8, -1, 3, false, 4 / 255.0, -64},
        {&s8, 0, 5, true, 5 / 255.0, -128},
        {&s8s, -1, 3, false, 3 / 127.0, 0},
        {&u8s, -1, 1, false, 1 / 127.0, 128},
        {&u8s, 0, 5.1, true, 0.02, 0},
        {&portable, 0, 1, true, 1 / 128.0, 0},   /* 1 / 255 rounded up to a power of two */
        {&portable, -3, 1, false, 1 / 32.0, 128}, /* 3 / 128 rounded up */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        quant_params p = quant_params_of((quant_range){rows[i].lo, rows[i].hi}, rows[i].s, rows[i].positive);
        ck_assert_msg(fabs((double)p.scale / rows[i].scale - 1) < 1e-6 && p.zero == rows[i].zero, "row %zu: %g %d", i, (double)p.scale,
                      p.zero);
    }
}
END_TEST

START_TEST(counts_do_not_depend_on_the_order)
{
    enum { N = 3000 };
    float x[N];
    histogram a, b;
    rng r = rng_make(5, RNG_TEST, 0, 0);
    for (int i = 0; i < N; i++)
        x[i] = (float)(rng_normal(&r) * ldexp(1, (int)rng_below(&r, 40) - 20)); /* the range grows and grows */
    OK(histogram_new(&a, true));
    OK(histogram_new(&b, true));
    ck_assert(histogram_add(&a, x, N));
    for (int i = N; i-- > 0;)
        ck_assert(histogram_add(&b, &x[i], 1));
    ck_assert(a.n == b.n && a.zeros == b.zeros && a.exponent == b.exponent);
    ck_assert_mem_eq(a.bin, b.bin, 2 * HISTOGRAM_SIDE * sizeof *a.bin);
    x[7] = NAN;
    ck_assert(!histogram_add(&a, x, N));
    x[7] = -INFINITY;
    ck_assert(!histogram_add(&a, x, N));
    histogram_free(&a);
    histogram_free(&b);
}
END_TEST

START_TEST(percentiles_by_hand)
{
    histogram h;
    quant_scheme s = scheme(DTYPE_U8, false, QUANT_PERCENTILE);
    float x[2000];
    for (int i = 0; i < 2000; i++)
        x[i] = (float)(i - 1000) + 0.5f; /* evenly from -999.5 to 999.5 */
    OK(histogram_new(&h, true));
    ck_assert(histogram_add(&h, x, 2000));
    s.percentile = 90;
    quant_range r = histogram_range(&h, &s, false); /* 5 % beyond each end */
    ck_assert_double_eq_tol(r.lo, -900, 2);
    ck_assert_double_eq_tol(r.hi, 900, 2);
    s.percentile = 100;
    r = histogram_range(&h, &s, false);
    ck_assert(r.lo >= -1000 && r.lo <= -999 && r.hi <= 1000 && r.hi >= 999);
    histogram_free(&h);
}
END_TEST

/* The squared error of 8 bits on a normal distribution is least at 3.92 standard deviations (Banner et al., "ACIQ", 2018). */
START_TEST(least_error_on_a_normal_distribution)
{
    histogram h;
    quant_scheme s = scheme(DTYPE_I8, true, QUANT_MSE);
    rng r = rng_make(1, RNG_TEST, 0, 0);
    OK(histogram_new(&h, true));
    for (int i = 0; i < 400000; i++) {
        float x = (float)(0.37 * rng_normal(&r));
        ck_assert(histogram_add(&h, &x, 1));
    }
    double t = histogram_range(&h, &s, false).hi / 0.37;
    printf("threshold %.3f standard deviations\n", t);
    ck_assert(t > 3.6 && t < 4.3);
    histogram_free(&h);
}
END_TEST

START_TEST(entropy_cuts_an_outlier_and_keeps_a_uniform_range)
{
    histogram h;
    quant_scheme s = scheme(DTYPE_I8, true, QUANT_ENTROPY);
    rng r = rng_make(2, RNG_TEST, 0, 0);
    OK(histogram_new(&h, true));
    for (int i = 0; i < 200000; i++) {
        float x = (float)(2 * rng_uniform(&r) - 1);
        ck_assert(histogram_add(&h, &x, 1));
    }
    ck_assert(histogram_range(&h, &s, false).hi > 0.95);
    float outlier = 10;
    ck_assert(histogram_add(&h, &outlier, 1));
    double cut = histogram_range(&h, &s, false).hi;
    printf("threshold with an outlier at 10: %.3f\n", cut);
    ck_assert(cut >= 0.9 && cut < 2);
    s.method = QUANT_MINMAX;
    ck_assert(histogram_range(&h, &s, false).hi == 10);
    histogram_free(&h);
}
END_TEST

/* ---- networks ---- */

static value_id constant(graph *g, const char *name, shape sh, rng *r, double size)
{
    value_id v;
    int64_t n = shape_count(&sh);
    OK(graph_add_data(g, name, VALUE_CONST, DTYPE_F32, sh, NULL, &v));
    for (int64_t i = 0; i < n; i++)
        dtype_store(DTYPE_F32, (void *)(uintptr_t)g->value[v].data, i, rng_normal(r) * size);
    return v;
}

static value_id op(graph *g, const char *name, op_id o, const void *attr, value_id a, value_id b, value_id c)
{
    value_id in[3] = {a, b, c}, out;
    OK(graph_add_named(g, name, o, attr, in, c ? 3 : b ? 2 : 1, &name, &out, 1));
    return out;
}

static value_id conv(graph *g, const char *name, value_id x, int64_t in, int64_t out, int64_t group, rng *r)
{
    char w[40], b[40];
    static const int64_t pads[4] = {1, 1, 1, 1};
    conv_attrs at;
    op_default_attrs(OP_CONV, &at);
    at.pads = (attr_ints){4, pads};
    at.group = group;
    snprintf(w, sizeof w, "%s.w", name);
    snprintf(b, sizeof b, "%s.b", name);
    value_id wv = constant(g, w, SHAPE(out, in / group, 3, 3), r, sqrt(2.0 / (double)(9 * in / group)));
    return op(g, name, OP_CONV, &at, x, wv, constant(g, b, SHAPE(out), r, 0.2));
}

/* conv - relu - [conv - relu - depthwise] + - relu - maxpool - mean - flatten - matmul + add. */
static graph *make_net(int64_t rows)
{
    static const int64_t two[2] = {2, 2};
    graph *g;
    value_id x, y, z;
    rng r = rng_make(3, RNG_TEST, 0, 0);
    axis_attrs flat;
    pool_attrs pool;
    op_default_attrs(OP_FLATTEN, &flat);
    op_default_attrs(OP_MAX_POOL, &pool);
    pool.kernel_shape = pool.strides = (attr_ints){2, two};
    OK(graph_new(&g));
    OK(graph_add_input(g, "x", DTYPE_F32, SHAPE(rows, 3, 8, 8), &x));
    g->value[x].flags = VALUE_BATCHED;
    y = op(g, "r1", OP_RELU, NULL, conv(g, "c1", x, 3, 8, 1, &r), 0, 0);
    z = op(g, "r2", OP_RELU, NULL, conv(g, "c2", y, 8, 8, 1, &r), 0, 0);
    z = conv(g, "c3", z, 8, 8, 8, &r);
    y = op(g, "r3", OP_RELU, NULL, op(g, "sum", OP_ADD, NULL, y, z, 0), 0, 0);
    y = op(g, "pool", OP_MAX_POOL, &pool, y, 0, 0);
    y = op(g, "mean", OP_GLOBAL_AVERAGE_POOL, NULL, y, 0, 0);
    y = op(g, "flat", OP_FLATTEN, &flat, y, 0, 0);
    y = op(g, "product", OP_MATMUL, NULL, y, constant(g, "fc.w", SHAPE(8, 5), &r, 0.5), 0);
    y = op(g, "logits", OP_ADD, NULL, y, constant(g, "fc.b", SHAPE(5), &r, 0.5), 0);
    OK(graph_add_output(g, y));
    return g;
}

static value_id named(const graph *g, const char *name)
{
    value_id v = graph_find(g, name);
    ck_assert_msg(v != 0, "%s is missing", name);
    return v;
}

START_TEST(places_of_a_residual_net)
{
    graph *g = make_net(2);
    places p;
    quant_scheme s = quant_scheme_default(), t = quant_scheme_portable(PROFILE_PORTABLE);
    OK(quant_prepare(g));
    OK(places_find(g, &s, &p));
    ck_assert(p.value[named(g, "x")].rounded && !p.value[named(g, "x")].made_int);
    ck_assert(!p.value[named(g, "c1")].rounded && p.value[named(g, "r1")].rounded); /* only after the relu */
    ck_assert(p.value[named(g, "c3")].rounded && !p.value[named(g, "sum")].rounded);
    ck_assert(p.group[p.value[named(g, "r1")].group].positive && !p.group[p.value[named(g, "c3")].group].positive);
    ck_assert(p.value[named(g, "r3")].group == p.value[named(g, "pool")].group && p.value[named(g, "pool")].moved);
    ck_assert(p.value[named(g, "pool")].group != p.value[named(g, "mean")].group);
    ck_assert(p.value[named(g, "mean")].group == p.value[named(g, "flat")].group);
    ck_assert(p.value[named(g, "r1")].group != p.value[named(g, "r3")].group);
    ck_assert(p.value[named(g, "logits")].rounded && p.group[p.value[named(g, "logits")].group].output);
    ck_assert_int_eq(g->node[g->value[named(g, "logits")].from].op, OP_GEMM); /* MatMul + Add */
    places_free(&p);
    OK(places_find(g, &t, &p)); /* one scale for both operands and the sum */
    ck_assert(p.value[named(g, "r1")].group == p.value[named(g, "r3")].group);
    ck_assert(p.value[named(g, "c3")].group == p.value[named(g, "r3")].group);
    ck_assert(!p.group[p.value[named(g, "c3")].group].positive);
    places_free(&p);
    s.keep_float = (const char *const[]){"c?", "Gem*"};
    s.n_keep_float = 2;
    OK(places_find(g, &s, &p));
    for (size_t k = 1; k < g->n_node; k++)
        ck_assert(!p.product[k] && !p.integer[k]);
    places_free(&p);
    s.keep_float = (const char *const[]){"nobody"};
    s.n_keep_float = 1;
    FAILS(ST_CONFIG, "nobody", places_find(g, &s, &p));
    places_free(&p);
    graph_free(g);
}
END_TEST

/* Random samples [n, 3, 8, 8], some at a time. */
typedef struct samples {
    float *x;
    size_t n, at, step;
    const void *now;
} samples;

static status next_samples(void *ctx, const void *const **x, size_t *n)
{
    samples *s = ctx;
    *n = s->n - s->at < s->step ? s->n - s->at : s->step;
    s->now = s->x + s->at * 192;
    s->at += *n;
    *x = &s->now;
    return ST_OK;
}

static samples make_samples(size_t n)
{
    samples s = {.n = n, .step = 7};
    rng r = rng_make(9, RNG_TEST, 0, 0);
    OK(mem_alloc(&s.x, n * 192, sizeof *s.x));
    for (size_t i = 0; i < n * 192; i++)
        s.x[i] = (float)rng_normal(&r);
    return s;
}

static graph *quantise(const quant_scheme *s, samples *data, backend *b, ptq_facts *f)
{
    graph *g = make_net(4), *q;
    sample_source from = {next_samples, data};
    data->at = 0;
    OK(ptq_make(g, s, b, &from, &q, f));
    graph_free(g);
    return q;
}

/* All samples (a multiple of the batch) through a graph, which is taken; the passes are those of frozen networks. */
static void run(graph *g, backend *b, const samples *s, float *y)
{
    exec *e;
    OK(pass_widen_half(g));
    OK(pass_drop_identity(g));
    OK(pass_integer_groups(g));
    OK(pass_fold_constants(g, SIZE_MAX));
    OK(pass_fuse_epilogues(g));
    OK(exec_open(g, b, NULL, 0, &e));
    for (size_t i = 0; i < s->n; i += 4) {
        memcpy(exec_data(e, g->input[0]), s->x + i * 192, 4 * 192 * sizeof(float));
        OK(exec_run(e, PHASE_MAIN));
        memcpy(y + i * 5, exec_data(e, g->output[0]), 4 * 5 * sizeof(float));
    }
    exec_close(e);
    graph_free(g);
}

static double largest_difference(const float *a, const float *b, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        most = d > most || d != d ? d : most;
    }
    return most;
}

static bool run_ort(const graph *g, const char *test, const samples *s, float *y)
{
    ort_lib *lib;
    ort_session *o;
    text t = {0};
    if (ort_open(NULL, &lib) != ST_OK) {
        test_skip(test, status_message());
        return false;
    }
    OK(onnx_export(g, &(export_options){.graph_name = "q"}, &t));
    OK(ort_session_open_bytes(lib, "q", t.s, t.n, &(ort_options){.threads = 1}, &o));
    tensor x = {.type = DTYPE_F32, .sh = SHAPE((int64_t)s->n, 3, 8, 8), .data = s->x};
    tensor out = {.type = DTYPE_F32, .sh = SHAPE((int64_t)s->n, 5), .data = y};
    OK(ort_run_all(o, &x, 4, &out));
    ort_session_close(o);
    ort_close(lib);
    text_free(&t);
    return true;
}

static float output_scale(const graph *q)
{
    const node *n = &q->node[q->value[q->output[0]].from];
    ck_assert_int_eq(n->op, OP_DEQUANTIZE_LINEAR);
    return *(const float *)q->value[n->in[1]].data;
}

START_TEST(integers_here_and_in_onnx_runtime)
{
    const quant_scheme schemes[] = {scheme(DTYPE_U8, false, QUANT_MINMAX), scheme(DTYPE_U8, false, QUANT_MSE),
                                    scheme(DTYPE_I8, true, QUANT_ENTROPY), scheme(DTYPE_I8, false, QUANT_PERCENTILE),
                                    quant_scheme_portable(PROFILE_PORTABLE)};
    enum { N = 40 };
    samples s = make_samples(N);
    backend *b;
    float exact[N * 5], own[N * 5], ort[N * 5];
    OK(backend_open("cpu", &(backend_options){.threads = 1, .max_isa = ISA_AVX512}, &b));
    run(make_net(4), b, &s, exact);
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        ptq_facts f;
        quant_scheme one = schemes[i];
        one.weight_limit = 64; /* sums of pairs stay in 16 bits, whatever processor ONNX Runtime runs on */
        graph *q = quantise(&one, &s, b, &f);
        double lsb = (double)output_scale(q), range = 0;
        ck_assert(f.products == 4 && f.kept == 0 && f.samples == N);
        bool there = run_ort(q, "integers_here_and_in_onnx_runtime", &s, ort);
        run(q, b, &s, own);
        for (int k = 0; k < N * 5; k++)
            range = fmax(range, fabs((double)exact[k]));
        double cost = largest_difference(exact, own, N * 5) / range, apart = there ? largest_difference(own, ort, N * 5) / lsb : 0;
        printf("scheme %zu: %.3f of the largest output from float32, %.2f LSB from ONNX Runtime\n", i, cost, apart);
        ck_assert(cost < (one.power_of_two ? 0.25 : 0.12));
        ck_assert(apart < 1.01);
    }
    mem_free(s.x);
    backend_close(b);
}
END_TEST

/* The operator form is what our executor makes of the QDQ form: the same bits; and its integers are named as OpenCV looks for them. */
START_TEST(the_operator_form_gives_the_bits_of_the_qdq_form)
{
    const quant_scheme schemes[] = {scheme(DTYPE_U8, false, QUANT_MINMAX), scheme(DTYPE_I8, true, QUANT_MINMAX), quant_scheme_portable(PROFILE_PORTABLE)};
    enum { N = 40 };
    samples s = make_samples(N);
    backend *b;
    float qdq[N * 5], operators[N * 5];
    const char *path = test_path(test_tmp_dir(), "q.onnx");
    OK(backend_open("cpu", &(backend_options){.threads = 1, .max_isa = ISA_AVX512}, &b));
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        onnx_model *m;
        graph *q = quantise(&schemes[i], &s, b, &(ptq_facts){0}), *back;
        const size_t nodes = q->n_node;
        char name[300];
        size_t integer = 0, named_so = 0;
        OK(operator_form_write(q, path));
        ck_assert_uint_eq(q->n_node, nodes); /* as it was */
        OK(onnx_open(path, NULL, &m));
        OK(onnx_import(m, &(import_options){.batch = 4}, &back));
        for (node_id k = 1; k < back->n_node; k++) {
            const node *n = graph_node(back, k);
            const value *y = graph_value(back, n->out[0]);
            ck_assert_msg(n->op != OP_CONV && n->op != OP_GEMM && n->op != OP_QGEMM, "a product stayed float, or is QGemm: %s", n->name);
            if (y->type != DTYPE_I8 && y->type != DTYPE_U8)
                continue;
            const char *end = strstr(y->name, "_quantized");
            integer++;
            named_so += end && !end[10];
            snprintf(name, sizeof name, "%.*s_scale", end ? (int)(end - y->name) : 0, y->name);
            if (n->op == OP_QLINEAR_CONV || n->op == OP_QUANTIZE_LINEAR)
                ck_assert_msg(graph_find(back, name) == n->in[n->op == OP_QLINEAR_CONV ? 6 : 1], "%s is not the scale of %s", name, y->name);
        }
        ck_assert_msg(integer > 4 && named_so == integer, "%zu of %zu integer values are named NAME_quantized", named_so, integer);
        run(q, b, &s, qdq);
        run(back, b, &s, operators);
        ck_assert(memcmp(qdq, operators, sizeof qdq) == 0);
        onnx_close(m);
    }
    mem_free(s.x);
    backend_close(b);
}
END_TEST

START_TEST(samples_that_say_nothing_are_refused)
{
    samples s = make_samples(8);
    graph *g = make_net(4), *q;
    backend *b;
    quant_scheme u8 = quant_scheme_default();
    sample_source from = {next_samples, &s};
    OK(backend_open("cpu", &(backend_options){.threads = 1}, &b));
    s.at = s.n;
    FAILS(ST_BAD_DATA, "there are no samples", ptq_make(g, &u8, b, &from, &q, NULL));
    for (size_t i = 0; i < 8 * 192; i++)
        s.x[i] = 0.5f;
    s.at = 0;
    FAILS(ST_BAD_DATA, "0.5 everywhere", ptq_make(g, &u8, b, &from, &q, NULL));
    s.x[100] = NAN;
    s.at = 0;
    FAILS(ST_BAD_DATA, "not finite", ptq_make(g, &u8, b, &from, &q, NULL));
    u8.keep_float = (const char *const[]){"*"};
    u8.n_keep_float = 1;
    FAILS(ST_BAD_DATA, "nothing to quantise", ptq_make(g, &u8, b, &from, &q, NULL));
    graph_free(g);
    mem_free(s.x);
    backend_close(b);
}
END_TEST

START_TEST(weights_as_integers)
{
    graph *g;
    value_id x, w, bias, y;
    arena mem = {0};
    int_weight q;
    quant_scheme s = quant_scheme_default();
    const float numbers[3][4] = {{1.27f, -0.5f, 0.004f, 0}, {0, 0, 0, 0}, {-6.35f, 0.05f, 0, 0}};
    const float biases[3] = {1, 2, 3e6f};
    gemm_attrs at;
    op_default_attrs(OP_GEMM, &at);
    at.transB = 1;
    OK(graph_new(&g));
    OK(graph_add_input(g, "x", DTYPE_F32, SHAPE(1, 4), &x));
    OK(graph_add_data(g, "w", VALUE_CONST, DTYPE_F32, SHAPE(3, 4), numbers, &w));
    OK(graph_add_data(g, "b", VALUE_CONST, DTYPE_F32, SHAPE(3), biases, &bias));
    y = op(g, "y", OP_GEMM, &at, x, w, bias);
    OK(int_weight_make(g, &g->node[g->value[y].from], &s, 0.01f, &mem, &q));
    ck_assert_int_eq(q.n_scale, 3);
    ck_assert(fabs((double)q.scale[0] - 0.01) < 1e-7);
    ck_assert(q.q[0] == 127 && q.q[1] == -50 && q.q[2] == 0 && q.q[3] == 0);
    ck_assert(q.bias[0] == 10000);
    ck_assert(q.q[4] == 0 && q.scale[1] > 0 && fabs((double)q.bias[1] * (double)q.bias_scale[1] - 2) < 1e-3);
    /* 3e6 / (0.01 * 0.05) would be 6e9: the scale is doubled until it fits */
    ck_assert(q.widened == 1 && fabs((double)q.bias[2] * (double)q.bias_scale[2] / 3e6 - 1) < 1e-6);
    ck_assert(fabs((double)q.q[8] * (double)q.scale[2] + 6.35) <= (double)q.scale[2] / 2);
    s.per_channel = false;
    s.power_of_two = true;
    OK(int_weight_make(g, &g->node[g->value[y].from], &s, 0.25f, &mem, &q));
    int e;
    ck_assert(q.n_scale == 1 && frexpf(q.scale[0], &e) == 0.5f);
    arena_free(&mem);
    graph_free(g);
}
END_TEST

/* ---- float16 ---- */

START_TEST(half_here_and_in_onnx_runtime)
{
    enum { N = 12 };
    samples s = make_samples(N);
    graph *g = make_net(4), *h;
    backend *b;
    half_report report;
    sample_source from = {next_samples, &s};
    float exact[N * 5], own[N * 5], ort[N * 5];
    OK(backend_open("cpu", &(backend_options){.threads = 1, .max_isa = ISA_AVX512}, &b));
    run(make_net(4), b, &s, exact);
    OK(half_check(g, b, &from, &report));
    ck_assert(report.n_over == 0 && report.samples == N);
    half_report_free(&report);
    OK(half_make(g, false, &h));
    for (size_t v = 1; v < h->n_value; v++)
        ck_assert(h->value[v].kind != VALUE_CONST || h->value[v].type != DTYPE_F32);
    bool there = run_ort(h, "half_here_and_in_onnx_runtime", &s, ort);
    run(h, b, &s, own);
    double cost = largest_difference(exact, own, N * 5);
    printf("float16: %.2e from float32\n", cost);
    ck_assert(cost > 0 && cost < 0.02);
    ck_assert(!there || largest_difference(own, ort, N * 5) < 0.02);
    float *big = (float *)(uintptr_t)g->value[named(g, "c2.w")].data;
    big[3] = 70000;
    s.at = 0;
    OK(half_check(g, b, &from, &report));
    ck_assert(report.n_over >= 2 && report.over[0].weight && strcmp(report.over[0].name, "c2.w") == 0);
    ck_assert(!report.over[1].weight && report.over[1].largest > HALF_MAX);
    half_report_free(&report);
    graph_free(g);
    mem_free(s.x);
    backend_close(b);
}
END_TEST

const test_entry test_table[] = {TEST(scales_and_zero_points_by_hand),
                                 TEST(counts_do_not_depend_on_the_order),
                                 TEST(percentiles_by_hand),
                                 TEST(least_error_on_a_normal_distribution),
                                 TEST(entropy_cuts_an_outlier_and_keeps_a_uniform_range),
                                 TEST(places_of_a_residual_net),
                                 TEST(integers_here_and_in_onnx_runtime),
                                 TEST(the_operator_form_gives_the_bits_of_the_qdq_form),
                                 TEST(samples_that_say_nothing_are_refused),
                                 TEST(weights_as_integers),
                                 TEST(half_here_and_in_onnx_runtime),
                                 {0}};
