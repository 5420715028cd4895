/* test_qdq.c - groups of QDQ form on integers (graph/fuse_qdq.c) against the float definition, on nets made at random.
 *
 * The definition is the graph as it stands, run by the reference kernels: DequantizeLinear, the float operator,
 * QuantizeLinear. With scales that are powers of two everything is exact: equal bits, however deep the net. Otherwise each
 * group alone is within one. */
#include "base/rng.h"
#include "deploy/ort.h"
#include "exec/exec.h"
#include "harness.h"
#include "onnx_build.h"
#include "onnx/export.h"
#include "onnx/import.h"
#include "onnx/model.h"
#include "ops/attrs.h"

#include <math.h>
#include <stdio.h>

typedef struct net {
    graph *g;
    rng r;
    bool exact;    /* powers of two */
    dtype type;    /* of activations */
    bool even;     /* zero points are: ONNX Runtime's QLinearAdd adds them before it rounds, the definition after it */
    int most;      /* largest |weight| */
    value_id x;    /* float, behind a DequantizeLinear */
    double scale;  /* its parameters */
    int zero;
} net;

static int draw(net *t, int lo, int hi) /* both may come */
{
    return lo + (int)(rng_uniform(&t->r) * (hi - lo + 1));
}

static double draw_scale(net *t, double about)
{
    return t->exact ? exp2(round(log2(about))) : (double)(float)(about * (0.7 + 0.6 * rng_uniform(&t->r)));
}

static int draw_zero(net *t)
{
    int any = t->type == DTYPE_U8 ? draw(t, 100, 150) : draw(t, -30, 30), lowest = t->type == DTYPE_U8 ? 0 : -128;
    return draw(t, 0, 3) == 0 ? lowest : t->even ? any / 2 * 2 : any;
}

static value_id number(net *t, dtype type, double v)
{
    value_id out;
    OK(graph_add_fill(t->g, type, (shape){0}, v, &out));
    return out;
}

/* v rounded to bytes with (scale, zero). */
static value_id rounded(net *t, value_id v, double scale, int zero)
{
    value_id s = number(t, DTYPE_F32, scale), z = number(t, t->type, zero), q;
    OK(graph_add1(t->g, OP_QUANTIZE_LINEAR, NULL, v, s, z, &q));
    OK(graph_add1(t->g, OP_DEQUANTIZE_LINEAR, NULL, q, s, z, &v));
    return v;
}

static void finish_with(net *t, value_id v, double scale, int zero)
{
    t->scale = scale;
    t->zero = zero;
    t->x = rounded(t, v, scale, zero);
}

/* Integers behind DequantizeLinear, one scale per channel along `axis`: about `about`; scales into `each`. */
static value_id stored(net *t, dtype type, shape sh, int most, int axis, const float *each)
{
    int64_t n = shape_count(&sh);
    void *data;
    value_id q, s, v;
    OK(mem_alloc(&data, (size_t)n, dtype_of(type)->size));
    for (int64_t i = 0; i < n; i++)
        dtype_store(type, data, i, draw(t, -most, most));
    OK(graph_add_data(t->g, NULL, VALUE_CONST, type, sh, data, &q));
    OK(graph_add_data(t->g, NULL, VALUE_CONST, DTYPE_F32, SHAPE(sh.dim[axis]), each, &s));
    mem_free(data);
    OK(graph_add1(t->g, OP_DEQUANTIZE_LINEAR, &(quant_attrs){.axis = axis}, q, s, 0, &v));
    return v;
}

enum { CHANNELS_MAX = 64 };

static void draw_scales(net *t, int64_t n, float *w, float *b)
{
    for (int64_t i = 0; i < n; i++) {
        w[i] = (float)draw_scale(t, 0.01);
        b[i] = (float)t->scale * w[i];
    }
}

static value_id maybe_relu(net *t, value_id v, double scale)
{
    int kind = draw(t, 0, 2);
    if (kind == 1)
        OK(graph_add1(t->g, OP_RELU, NULL, v, 0, 0, &v));
    if (kind == 2)
        OK(graph_add1(t->g, OP_CLIP, &(clip_attrs){0, 60 * scale}, v, 0, 0, &v));
    return v;
}

static void add_conv(net *t)
{
    const shape x = t->g->value[t->x].sh;
    static const int64_t pads[4] = {1, 1, 1, 1}, none[4] = {0}, two[2] = {2, 2};
    float w[CHANNELS_MAX], b[CHANNELS_MAX];
    bool depthwise = draw(t, 0, 3) == 0, point = draw(t, 0, 2) == 0;
    int64_t m = depthwise ? x.dim[1] : draw(t, 3, 40), k = point ? 1 : 3;
    conv_attrs at = {.group = depthwise ? m : 1, .pads = {4, point ? none : pads}};
    if (draw(t, 0, 3) == 0 && x.dim[2] > 3)
        at.strides = (attr_ints){2, two};
    draw_scales(t, m, w, b);
    shape sw = SHAPE(m, depthwise ? 1 : x.dim[1], k, k);
    value_id weight = stored(t, DTYPE_I8, sw, t->most, 0, w), bias = draw(t, 0, 3) ? stored(t, DTYPE_I32, SHAPE(m), 20000, 0, b) : 0, v;
    OK(graph_add1(t->g, OP_CONV, &at, t->x, weight, bias, &v));
    double terms = (double)(shape_count(&sw) / m), scale = draw_scale(t, t->scale * 0.01 * 60 * sqrt(terms));
    finish_with(t, maybe_relu(t, v, scale), scale, draw_zero(t));
}

static void add_linear(net *t, op_id op)
{
    const shape x = t->g->value[t->x].sh;
    int64_t k = shape_count(&x) / x.dim[0], n = draw(t, 2, 50);
    float w[CHANNELS_MAX], b[CHANNELS_MAX];
    value_id flat, v, weight, bias;
    OK(graph_add1(t->g, OP_FLATTEN, &(axis_attrs){1}, t->x, 0, 0, &flat));
    flat = rounded(t, flat, t->scale, t->zero);
    draw_scales(t, n, w, b);
    bool turned = op == OP_GEMM && draw(t, 0, 1);
    weight = stored(t, DTYPE_I8, turned ? SHAPE(n, k) : SHAPE(k, n), t->most, turned ? 0 : 1, w);
    bias = draw(t, 0, 2) ? stored(t, DTYPE_I32, SHAPE(n), 20000, 0, b) : 0;
    if (op == OP_GEMM) {
        OK(graph_add1(t->g, op, &(gemm_attrs){.alpha = 1, .beta = 1, .transB = turned}, flat, weight, bias, &v));
    } else {
        OK(graph_add1(t->g, op, NULL, flat, weight, 0, &v));
        if (bias)
            OK(graph_add1(t->g, OP_ADD, NULL, v, bias, 0, &v));
    }
    double scale = draw_scale(t, t->scale * 0.01 * 60 * sqrt((double)k));
    finish_with(t, maybe_relu(t, v, scale), scale, draw_zero(t));
}

static void add_sum(net *t)
{
    value_id one = t->x, v;
    double scale = t->scale;
    OK(graph_add1(t->g, OP_RELU, NULL, one, 0, 0, &v)); /* another tensor of the same shape, with other parameters */
    finish_with(t, v, draw_scale(t, scale), draw_zero(t));
    OK(graph_add1(t->g, OP_ADD, NULL, one, t->x, 0, &v));
    scale = draw_scale(t, scale * 1.5);
    finish_with(t, maybe_relu(t, v, scale), scale, draw_zero(t));
}

static void add_move(net *t)
{
    const shape x = t->g->value[t->x].sh;
    static const int64_t two[2] = {2, 2}, perm[4] = {0, 1, 3, 2}, pads[8] = {0, 0, 1, 0, 0, 0, 0, 1};
    value_id v = t->x, pair[2] = {t->x, t->x};
    switch (draw(t, 0, 3)) {
    case 0:
        if (x.dim[2] >= 2 && x.dim[3] >= 2)
            OK(graph_add1(t->g, OP_MAX_POOL, &(pool_attrs){.kernel_shape = {2, two}, .strides = {2, two}}, v, 0, 0, &v));
        break;
    case 1: OK(graph_add1(t->g, OP_TRANSPOSE, &(transpose_attrs){{4, perm}}, v, 0, 0, &v)); break;
    case 2: OK(graph_add1(t->g, OP_PAD, &(pad_attrs){.pads = {8, pads}}, v, 0, 0, &v)); break;
    default:
        if (x.dim[1] < 20)
            OK(graph_add(t->g, OP_CONCAT, &(axis_attrs){1}, pair, 2, &v, 1));
    }
    if (v != t->x)
        finish_with(t, v, t->scale, t->zero);
}

static void begin(net *t, uint64_t seed, bool exact, bool for_ort)
{
    value_id x;
    *t = (net){.r = rng_make(seed, RNG_TEST, 77, exact), .exact = exact, .even = for_ort, .most = for_ort ? 64 : 127};
    t->type = draw(t, 0, 1) ? DTYPE_U8 : DTYPE_I8;
    OK(graph_new(&t->g));
    OK(graph_add_input(t->g, "x", DTYPE_F32, SHAPE(2, draw(t, 1, 20), draw(t, 4, 9), draw(t, 4, 9)), &x));
    finish_with(t, x, draw_scale(t, 0.02), draw_zero(t));
}

static void one_group(net *t, int kind)
{
    if (kind == 0)
        add_conv(t);
    else if (kind == 1)
        add_sum(t);
    else if (kind == 2)
        add_linear(t, OP_GEMM);
    else if (kind == 3)
        add_linear(t, OP_MATMUL);
    else
        add_move(t);
}

/* frozen_passes (distill/frozen.h) */
static void lower(graph *g)
{
    OK(pass_drop_identity(g));
    OK(pass_integer_groups(g));
    OK(graph_validate(g));
    OK(pass_fold_constants(g, SIZE_MAX));
    OK(pass_fold_batch_norm(g));
    OK(pass_fuse_epilogues(g));
    OK(graph_validate(g));
}

static void fill(float *x, int64_t n)
{
    rng r = rng_make(5, RNG_TEST, 78, 0);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(rng_uniform(&r) * 6 - 3);
}

/* The result of g with kernels up to `level`; caller frees with mem_free. */
static float *run(const graph *g, isa level, bool passes, int64_t *count, bool *integer)
{
    graph *copy;
    backend *b;
    exec *e;
    float *out;
    OK(graph_clone(g, &copy));
    if (passes)
        lower(copy);
    *integer = true;
    for (size_t k = 1; k < copy->n_node; k++)
        *integer &= copy->node[k].op != OP_CONV && copy->node[k].op != OP_GEMM && copy->node[k].op != OP_MATMUL &&
                    copy->node[k].op != OP_ADD && copy->node[k].op != OP_LINEAR;
    OK(backend_open("cpu", &(backend_options){.threads = 1, .max_isa = level}, &b));
    OK(exec_open(copy, b, NULL, 0, &e));
    fill(exec_data(e, copy->input[0]), shape_count(&copy->value[copy->input[0]].sh));
    OK(exec_run(e, PHASE_MAIN));
    *count = shape_count(&copy->value[copy->output[0]].sh);
    OK(mem_alloc(&out, (size_t)*count, sizeof *out));
    memcpy(out, exec_data(e, copy->output[0]), (size_t)*count * sizeof *out);
    exec_close(e);
    backend_close(b);
    graph_free(copy);
    return out;
}

/* The largest difference from the definition, in units of the last scale. */
static double compare(net *t, isa level)
{
    int64_t n, m;
    bool integer;
    double worst = 0, low = 0, high = 0;
    OK(graph_add_output(t->g, t->x));
    OK(graph_validate(t->g));
    float *want = run(t->g, ISA_REF, false, &n, &integer), *got = run(t->g, level, true, &m, &integer);
    ck_assert_msg(integer, "a group stayed float");
    ck_assert_int_eq(n, m);
    for (int64_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)want[i] - (double)got[i]) / t->scale);
        low = fmin(low, (double)want[i]);
        high = fmax(high, (double)want[i]);
    }
    ck_assert_msg(high > low, "the net says nothing: %g to %g, scale %g", low, high, t->scale);
    mem_free(want);
    mem_free(got);
    graph_free(t->g);
    return worst;
}

START_TEST(groups_alone)
{
    double worst = 0;
    for (uint64_t seed = 0; seed < 120; seed++) {
        net t;
        begin(&t, seed, false, false);
        one_group(&t, (int)(seed % 5));
        worst = fmax(worst, compare(&t, seed / 5 % 2 ? ISA_AVX512 : ISA_REF));
        ck_assert_msg(worst <= 1.001, "net %d differs by %g", (int)seed, worst);
    }
    test_max_error("one group, any scales", worst, 1);
}
END_TEST

START_TEST(powers_of_two)
{
    for (uint64_t seed = 0; seed < 120; seed++) {
        net t;
        begin(&t, seed, true, false);
        int depth = draw(&t, 1, 7);
        for (int i = 0; i < depth; i++) {
            static const int kinds[] = {0, 1, 4, 0, 4};
            one_group(&t, kinds[draw(&t, 0, 4)]);
        }
        if (draw(&t, 0, 1))
            one_group(&t, draw(&t, 2, 3));
        double worst = compare(&t, seed % 3 == 0 ? ISA_REF : seed % 3 == 1 ? ISA_AVX2 : ISA_AVX512);
        ck_assert_msg(worst == 0, "net %d differs by %g", (int)seed, worst);
    }
    test_max_error("deep nets, powers of two", 0, 0);
}
END_TEST

/* What cannot be done in int32 or is no QDQ form stays float. */
START_TEST(not_a_group)
{
    net t;
    value_id w, v;
    begin(&t, 1, true, false);
    OK(graph_add_fill(t.g, DTYPE_F32, SHAPE(4, t.g->value[t.x].sh.dim[1], 1, 1), 0.5, &w)); /* weights that are float */
    OK(graph_add1(t.g, OP_CONV, NULL, t.x, w, 0, &v));
    finish_with(&t, v, 0.25, 0);
    OK(graph_add_output(t.g, t.x));
    lower(t.g);
    bool conv = false;
    for (size_t k = 1; k < t.g->n_node; k++)
        conv |= t.g->node[k].op == OP_CONV;
    ck_assert(conv);
    graph_free(t.g);
}
END_TEST

/* ---- ONNX Runtime ---- */

/* The file in ONNX Runtime, optimised or as it stands, and in our executor. The largest difference in units of the scale;
 * bytes of weights stay within 64, so that no processor's kernels saturate. */
static double against_ort(ort_lib *lib, net *t, bool integers, bool plain)
{
    graph *copy, *back;
    text file = {0};
    onnx_model *m;
    ort_session *s;
    tensor x;
    tensor_list out = {0};
    int64_t n;
    bool integer;
    double worst = 0;
    OK(graph_clone(t->g, &copy));
    if (integers) {
        OK(pass_drop_identity(copy));
        OK(pass_integer_groups(copy));
    }
    OK(onnx_export(copy, &(export_options){.fixed_batch = true}, &file));
    OK(onnx_open_bytes("net", file.s, file.n, NULL, &m));
    OK(onnx_import(m, &(import_options){0}, &back));
    float *want = run(back, ISA_AVX512, true, &n, &integer);
    ck_assert(integer);
    OK(ort_session_open_bytes(lib, "net", file.s, file.n, &(ort_options){.threads = 1, .no_optimizing = plain}, &s));
    OK(tensor_new(&x, "x", DTYPE_F32, t->g->value[t->g->input[0]].sh));
    fill(x.data, shape_count(&x.sh));
    OK(ort_run(s, &x, 1, &out));
    ck_assert_int_eq(shape_count(&out.at[0].sh), n);
    for (int64_t i = 0; i < n; i++)
        worst = fmax(worst, fabs((double)want[i] - tensor_at(&out.at[0], i)) / t->scale);
    mem_free(want);
    tensor_free(&x);
    tensor_list_free(&out);
    ort_session_close(s);
    onnx_close(m);
    graph_free(back);
    graph_free(copy);
    text_free(&file);
    return worst;
}

START_TEST(as_onnx_runtime)
{
    ort_lib *lib;
    double worst = 0;
    if (ort_open(NULL, &lib) != ST_OK) {
        test_skip("as_onnx_runtime", status_message());
        return;
    }
    for (uint64_t seed = 1000; seed < 1040; seed++) {
        net t;
        bool exact = seed % 2;
        begin(&t, seed, exact, true);
        for (int i = exact ? draw(&t, 1, 5) : 1; i > 0; i--) {
            static const int kinds[] = {0, 1, 4, 0, 4};
            one_group(&t, exact ? kinds[draw(&t, 0, 4)] : draw(&t, 0, 4));
        }
        if (exact && draw(&t, 0, 1))
            one_group(&t, draw(&t, 2, 3));
        OK(graph_add_output(t.g, t.x));
        for (int form = 0; form < 4; form++) {
            double d = against_ort(lib, &t, form & 1, form & 2);
            worst = fmax(worst, exact ? 0 : d);
            ck_assert_msg(d <= (exact ? 0 : 1.001), "net %d, %s, %s: differs by %g", (int)seed,
                          form & 1 ? "integer operators" : "QDQ", form & 2 ? "as it stands" : "optimised", d);
        }
        graph_free(t.g);
    }
    test_max_error("ONNX Runtime, any scales", worst, 1);
    test_max_error("ONNX Runtime, powers of two", 0, 0);
    ort_close(lib);
}
END_TEST

/* ---- files ---- */

/* x -> Q, a node of com.microsoft, DQ -> y. `in`: the node's inputs among q (bytes), s and z (their parameters), t (bad scale). */
static status import_microsoft(const char *op, const char *in, float bad, text *attrs, graph **out)
{
    model_builder b = {0};
    onnx_model *m = NULL;
    const float scale = 0.02f;
    const uint8_t zero = 120;
    *out = NULL;
    build_input(&b, "x", DTYPE_F32, "2 3 4 4");
    build_init(&b, "s", DTYPE_F32, "", &scale);
    build_init(&b, "t", DTYPE_F32, "", &bad);
    build_init(&b, "z", DTYPE_U8, "", &zero);
    build_node(&b, "QuantizeLinear", "quantize", "x s z", "q", NULL);
    build_node_into(&b.graph, 1, "com.microsoft", op, "theirs", in, "r", attrs);
    build_node(&b, "DequantizeLinear", "dequantize", "r s z", "y", NULL);
    build_output(&b, "y", DTYPE_F32, NULL);
    text bytes = build_model(&b);
    status st = onnx_open_bytes("file", bytes.s, bytes.n, NULL, &m);
    if (st == ST_OK)
        st = onnx_import(m, &(import_options){0}, out);
    onnx_close(m);
    text_free(&bytes);
    return st;
}

/* They mean: dequantise, the float operator, quantise. */
START_TEST(operators_of_microsoft)
{
    static const struct {
        const char *op, *in;
        op_id means;
        bool pool;
    } rows[] = {{"QLinearGlobalAveragePool", "q s z s z", OP_GLOBAL_AVERAGE_POOL, false},
                {"QLinearAveragePool", "q s z s z", OP_AVERAGE_POOL, true},
                {"QLinearLeakyRelu", "q s z s z", OP_LEAKY_RELU, false},
                {"QLinearSigmoid", "q s z s z", OP_SIGMOID, false},
                {"QLinearMul", "q s z q s z s z", OP_MUL, false},
                {"QLinearConcat", "s z q s z q s z", OP_CONCAT, false},
                {"QLinearAdd", "q s z q s z s z", OP_QLINEAR_ADD, false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        graph *g;
        text attrs = {0};
        bool found = false;
        if (rows[i].pool)
            ATTR_INTS_OF(&attrs, "kernel_shape", 2, 2);
        if (rows[i].means == OP_CONCAT)
            attr_int(&attrs, "axis", 1);
        OK(import_microsoft(rows[i].op, rows[i].in, 1, &attrs, &g));
        OK(graph_validate(g));
        for (size_t k = 1; k < g->n_node; k++)
            found |= g->node[k].op == rows[i].means;
        ck_assert_msg(found, "%s", rows[i].op);
        ck_assert_int_eq(g->value[g->output[0]].type, DTYPE_F32);
        graph_free(g);
    }
}
END_TEST

/* x [2, 7] in blocks of 3 along axis 1 (the last has one), quantised and back; `scales` and `zeros` are [2, columns]. */
static status import_blocks(int64_t size, const char *columns, const float *scales, graph **out)
{
    model_builder b = {.opset = 21};
    onnx_model *m = NULL;
    text attrs = {0}, again = {0};
    const int8_t zeros[8] = {1, -2, 3, -100, 5, 100, 7, 8};
    *out = NULL;
    for (int i = 0; i < 2; i++) {
        attr_int(i ? &again : &attrs, "axis", 1);
        attr_int(i ? &again : &attrs, "block_size", size);
    }
    build_input(&b, "x", DTYPE_F32, "2 7");
    build_init(&b, "s", DTYPE_F32, columns, scales);
    build_init(&b, "z", DTYPE_I8, columns, zeros);
    build_node(&b, "QuantizeLinear", "q", "x s z", "c", &attrs);
    build_node(&b, "DequantizeLinear", "d", "c s z", "y", &again);
    build_output(&b, "y", DTYPE_F32, NULL);
    text bytes = build_model(&b);
    status st = onnx_open_bytes("file", bytes.s, bytes.n, NULL, &m);
    if (st == ST_OK)
        st = onnx_import(m, &(import_options){0}, out);
    onnx_close(m);
    text_free(&bytes);
    return st;
}

/* Quantisation by blocks is written out in float operators: against the formula, element by element. */
START_TEST(by_blocks)
{
    const float scales[8] = {0.5f, 0.01f, 0.03f, 0.7f, 0.02f, 4, 1, 1}, bad[6] = {0.5f, 0.01f, 0.03f, 0, 0.02f, 4};
    const int zeros[6] = {1, -2, 3, -100, 5, 100};
    graph *g;
    int64_t n;
    bool integer;
    float x[14];
    double clipped = 0, inside = 0;
    OK(import_blocks(3, "2 3", scales, &g));
    float *y = run(g, ISA_AVX512, true, &n, &integer);
    ck_assert_int_eq(n, 14);
    fill(x, 14);
    for (int i = 0; i < 14; i++) {
        int k = i / 7 * 3 + i % 7 / 3;
        float q = nearbyintf(x[i] / scales[k]) + (float)zeros[k], c = q < -128 ? -128 : q > 127 ? 127 : q;
        ck_assert_msg(y[i] == (c - (float)zeros[k]) * scales[k], "element %d: %g", i, (double)y[i]);
        *(c == q ? &inside : &clipped) += 1;
    }
    ck_assert(clipped > 0 && inside > 0);
    mem_free(y);
    graph_free(g);
    FAILS(ST_BAD_DATA, "node 'q' (QuantizeLinear): scale 's' [2, 4] and its zero point do not fit blocks of 3", import_blocks(3, "2 4", scales, &g));
    FAILS(ST_BAD_DATA, "do not fit blocks of 2 along axis 1", import_blocks(2, "2 3", scales, &g));
    FAILS(ST_BAD_DATA, "scale 's' has 0 at place 3", import_blocks(3, "2 3", bad, &g));
    FAILS(ST_BAD_DATA, "by blocks", import_blocks(-1, "2 3", scales, &g));
}
END_TEST

/* A bad file is refused, and the message names the node and the tensor. */
START_TEST(bad_files)
{
    static const struct {
        const char *op, *in;
        float bad;
        const char *says;
    } rows[] = {{"QLinearAdd", "q t z q s z s z", 0, "node 'theirs' (QLinearAdd): scale of a 't' has 0"},
                {"QLinearAdd", "q s z q t z s z", -1, "node 'theirs' (QLinearAdd): scale of b 't' has -1"},
                {"QLinearAdd", "q s z q s z t z", (float)NAN, "node 'theirs' (QLinearAdd): scale of the result 't' has"},
                {"QLinearAdd", "q s s q s z s z", 1, "node 'theirs' (QLinearAdd): zero point of a 's' is float32"},
                {"QLinearSigmoid", "q t z s z", (float)INFINITY, "scale 't' has inf"},
                {"QLinearSigmoid", "q s z", 1, "node 'theirs'"},
                {"QLinearConcat", "s z", 1, "node 'theirs'"},
                {"QLinearConcat", "s z q", 1, "node 'theirs'"},
                {"QLinearSoftmax", "q s z s z", 1, "operators of the domain 'com.microsoft' are not supported"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        graph *g;
        FAILS(ST_BAD_DATA, rows[i].says, import_microsoft(rows[i].op, rows[i].in, rows[i].bad, NULL, &g));
        graph_free(g);
    }
}
END_TEST

const test_entry test_table[] = {TEST(operators_of_microsoft), TEST(bad_files), TEST(by_blocks), TEST(groups_alone), TEST(as_onnx_runtime), TEST(powers_of_two), TEST(not_a_group), {0}};
