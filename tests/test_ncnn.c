/* test_ncnn.c - ncnn's two files: their form without ncnn; every operator that is written, computed by ncnn itself as our executor
 * does; random portable-s8 networks bit by bit; the command; what is refused. */
#include "base/io.h"
#include "base/mem.h"
#include "data_files.h"
#include "harness.h"
#include "ncnn/write.h"
#include "onnx/export.h"
#include "ops/attrs.h"
#include "program.h"
#include "qnet.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- nets ---- */

typedef struct net_case {
    const char *name;
    shape in;
    void (*build)(qnet *n);
} net_case;

static void conv(qnet *n) { qnet_conv(n, (qconv){.out = 5, .kernel = 3, .pads = {1, 1, 1, 1}}, 0.005f); }
static void wide(qnet *n) { qnet_conv(n, (qconv){.out = 16, .kernel = 3, .pads = {1, 1, 1, 1}}, 0.005f); conv(n); }
static void strided(qnet *n) { qnet_conv(n, (qconv){.out = 5, .kernel = 3, .stride = 2, .pads = {1, 1, 1, 1}}, 0.005f); qnet_relu(n); }
static void lopsided(qnet *n) { qnet_conv(n, (qconv){.out = 5, .kernel = 3, .pads = {2, 0, 1, 3}}, 0.005f); }
static void no_bias(qnet *n) { qnet_conv(n, (qconv){.out = 6, .kernel = 1, .no_bias = true}, 0.01f); qnet_relu(n); }
static void dilated(qnet *n) { qnet_conv(n, (qconv){.out = 4, .kernel = 3, .dilation = 2, .pads = {2, 2, 2, 2}}, 0.005f); }
static void grouped(qnet *n) { qnet_conv(n, (qconv){.out = 6, .kernel = 3, .group = 2, .pads = {1, 1, 1, 1}}, 0.008f); }
static void depthwise(qnet *n) { qnet_conv(n, (qconv){.out = 4, .kernel = 3, .group = 4, .pads = {1, 1, 1, 1}}, 0.01f); qnet_relu(n); }
static void multiplied(qnet *n) { qnet_conv(n, (qconv){.out = 8, .kernel = 3, .group = 4, .stride = 2, .pads = {1, 1, 1, 1}}, 0.01f); }
static void relu6(qnet *n) { qnet_conv(n, (qconv){.out = 5, .kernel = 3}, 0.02f); qnet_node(n, OP_CLIP, &(clip_attrs){0, 6}); }
static void clip(qnet *n) { qnet_node(n, OP_CLIP, &(clip_attrs){-0.5, 0.75}); }
static void clip_below(qnet *n) { qnet_node(n, OP_CLIP, &(clip_attrs){-INFINITY, 0.5}); }
static void relu(qnet *n) { qnet_relu(n); }
static void residual(qnet *n) { value_id x = n->v; qnet_conv(n, (qconv){.out = 4, .kernel = 3, .pads = {1, 1, 1, 1}}, 0.005f); qnet_two(n, OP_ADD, x, NULL); qnet_relu(n); }
static void twice(qnet *n) { qnet_two(n, OP_ADD, n->v, NULL); }

static value_id per_channel(qnet *n)
{
    value_id c;
    OK(graph_add_data(n->g, "per_channel", VALUE_CONST, DTYPE_F32, SHAPE(4, 1, 1), (float[]){0.5f, -1, 2, 0.25f}, &c));
    return c;
}
static value_id number(qnet *n)
{
    value_id c;
    OK(graph_add_data(n->g, "number", VALUE_CONST, DTYPE_F32, (shape){0}, &(float){1.25f}, &c));
    return c;
}
static void add_const(qnet *n) { qnet_two(n, OP_ADD, per_channel(n), NULL); }
static void mul_const(qnet *n) { qnet_two(n, OP_MUL, per_channel(n), NULL); }
static void sub_const(qnet *n) { qnet_two(n, OP_SUB, per_channel(n), NULL); }
static void div_number(qnet *n) { qnet_two(n, OP_DIV, number(n), NULL); }
static void from_number(qnet *n)
{
    OK(graph_add_named(n->g, "from", OP_SUB, NULL, (value_id[]){number(n), n->v}, 2, NULL, &n->v, 1));
}

static const int64_t two[2] = {2, 2}, three[2] = {3, 3}, one[2] = {1, 1}, pads1[4] = {1, 1, 1, 1};
#define POOL(k, s) {.kernel_shape = {2, (k)}, .strides = {2, (s)}, .dilations = {2, one}}
static void max_pool(qnet *n) { qnet_node(n, OP_MAX_POOL, &(pool_attrs)POOL(two, two)); }
static void max_pool_padded(qnet *n) { pool_attrs a = POOL(three, two); a.pads = (attr_ints){4, pads1}; qnet_node(n, OP_MAX_POOL, &a); }
static void max_pool_ceil(qnet *n) { pool_attrs a = POOL(three, two); a.ceil_mode = 1; qnet_node(n, OP_MAX_POOL, &a); }
static void average_pool(qnet *n) { qnet_node(n, OP_AVERAGE_POOL, &(pool_attrs)POOL(three, two)); }
static void average_padded(qnet *n) { pool_attrs a = POOL(three, two); a.pads = (attr_ints){4, pads1}; a.count_include_pad = 1; qnet_node(n, OP_AVERAGE_POOL, &a); }
static void average_same(qnet *n) { pool_attrs a = POOL(three, one); a.pads = (attr_ints){4, pads1}; qnet_node(n, OP_AVERAGE_POOL, &a); }
static void global_pool(qnet *n) { qnet_node(n, OP_GLOBAL_AVERAGE_POOL, NULL); }
static void global_max(qnet *n) { qnet_node(n, OP_GLOBAL_MAX_POOL, NULL); conv(n); }
static void reduce_mean(qnet *n) { qnet_node(n, OP_REDUCE_MEAN, &(reduce_attrs){.axes = {2, (const int64_t[]){2, 3}}, .keepdims = 0}); qnet_gemm(n, 3, true, 0.01f); }
static void flat_gemm(qnet *n) { qnet_node(n, OP_FLATTEN, &(axis_attrs){1}); qnet_gemm(n, 7, true, 0.002f); }
static void flat_out(qnet *n) { qnet_node(n, OP_FLATTEN, &(axis_attrs){1}); }
static void flat_relu(qnet *n) { flat_out(n); qnet_relu(n); qnet_gemm(n, 7, false, 0.002f); }
static void gemm(qnet *n) { qnet_gemm(n, 9, true, 0.005f); qnet_relu(n); qnet_gemm(n, 3, false, 0.01f); }
static void reshape(qnet *n) { qnet_node(n, OP_RESHAPE, &(reshape_attrs){.shape = {3, (const int64_t[]){0, 2, -1}}}); qnet_node(n, OP_SOFTMAX, &(axis_attrs){1}); }
static void reshape_image(qnet *n) { qnet_node(n, OP_RESHAPE, &(reshape_attrs){.shape = {4, (const int64_t[]){-1, 8, 4, 4}}}); conv(n); }
static void pad(qnet *n) { qnet_node(n, OP_PAD, &(pad_attrs){.pads = {8, (const int64_t[]){0, 0, 1, 0, 0, 0, 2, 3}}}); }
static void pad_value(qnet *n) { qnet_node(n, OP_PAD, &(pad_attrs){.pads = {8, (const int64_t[]){0, 1, 1, 0, 0, 2, 0, 3}}, .constant_value = 0.5}); }
static void pad_edge(qnet *n) { qnet_node(n, OP_PAD, &(pad_attrs){.mode = PAD_EDGE, .pads = {8, (const int64_t[]){0, 0, 1, 0, 0, 0, 2, 3}}}); }
static void concat(qnet *n) { value_id x = n->v; conv(n); qnet_two(n, OP_CONCAT, x, &(axis_attrs){1}); }
static void concat_width(qnet *n) { value_id x = n->v; qnet_relu(n); qnet_two(n, OP_CONCAT, x, &(axis_attrs){-1}); }
static void nearest(qnet *n) { qnet_node(n, OP_RESIZE, &(resize_attrs){.mode = RESIZE_NEAREST, .coordinate_transformation_mode = COORD_ASYMMETRIC, .nearest_mode = NEAREST_FLOOR, .scales = {4, (const double[]){1, 1, 2, 3}}}); }
static void nearest_half(qnet *n) { qnet_node(n, OP_RESIZE, &(resize_attrs){.mode = RESIZE_NEAREST, .coordinate_transformation_mode = COORD_HALF_PIXEL, .nearest_mode = NEAREST_ROUND_PREFER_FLOOR, .scales = {4, (const double[]){1, 1, 2, 2}}}); }
static void softmax(qnet *n) { qnet_node(n, OP_SOFTMAX, &(axis_attrs){1}); }
static void softmax_last(qnet *n) { qnet_node(n, OP_SOFTMAX, &(axis_attrs){-1}); }
static void sigmoid(qnet *n) { qnet_node(n, OP_SIGMOID, NULL); }
static void tanh_(qnet *n) { qnet_node(n, OP_TANH, NULL); }
static void hard_swish(qnet *n) { qnet_node(n, OP_HARD_SWISH, NULL); }
static void hard_sigmoid(qnet *n) { qnet_node(n, OP_HARD_SIGMOID, &(hard_sigmoid_attrs){0.2, 0.5}); }
static void leaky(qnet *n) { qnet_node(n, OP_LEAKY_RELU, &(alpha_attrs){0.1}); }
static void identity(qnet *n) { qnet_node(n, OP_IDENTITY, NULL); conv(n); }

static void gate(qnet *n) /* squeeze and excitation: a product with [1, C, 1, 1] */
{
    value_id x = n->v;
    qnet_node(n, OP_GLOBAL_AVERAGE_POOL, NULL);
    qnet_conv(n, (qconv){.out = 4, .kernel = 1}, 0.01f);
    qnet_node(n, OP_SIGMOID, NULL);
    qnet_two(n, OP_MUL, x, NULL);
}

static void batch_norm(qnet *n)
{
    value_id c[4];
    for (int i = 0; i < 4; i++)
        OK(graph_add_data(n->g, NULL, VALUE_CONST, DTYPE_F32, SHAPE(4), (float[]){0.5f, 1.5f + (float)i, 2, 0.25f}, &c[i]));
    batch_norm_attrs a;
    op_default_attrs(OP_BATCH_NORM, &a);
    qnet_relu(n);
    OK(graph_add_named(n->g, "bn", OP_BATCH_NORM, &a, (value_id[]){n->v, c[0], c[1], c[2], c[3]}, 5, NULL, &n->v, 1));
}

static void rows_times_matrix(qnet *n) /* [1, 5, 12] by [12, 7] */
{
    value_id m;
    float data[12 * 7];
    for (int i = 0; i < 12 * 7; i++)
        data[i] = 0.1f * (float)(i * 37 % 23 - 11);
    OK(graph_add_data(n->g, "m", VALUE_CONST, DTYPE_F32, SHAPE(12, 7), data, &m));
    qnet_two(n, OP_MATMUL, m, NULL);
    qnet_relu(n);
}

#define IMAGE {4, {1, 4, 9, 8}}
#define ROWS {2, {1, 13}}
static const net_case cases[] = {
    {"conv", IMAGE, conv}, {"wide", {4, {1, 16, 13, 11}}, wide}, {"strided", IMAGE, strided}, {"lopsided", IMAGE, lopsided},
    {"no_bias", IMAGE, no_bias}, {"dilated", IMAGE, dilated}, {"grouped", IMAGE, grouped}, {"depthwise", IMAGE, depthwise},
    {"multiplied", IMAGE, multiplied}, {"relu6", IMAGE, relu6}, {"clip", IMAGE, clip}, {"clip_below", IMAGE, clip_below},
    {"relu", IMAGE, relu}, {"residual", IMAGE, residual}, {"twice", IMAGE, twice}, {"add_const", IMAGE, add_const},
    {"mul_const", IMAGE, mul_const}, {"sub_const", IMAGE, sub_const}, {"div_number", IMAGE, div_number},
    {"from_number", IMAGE, from_number}, {"max_pool", IMAGE, max_pool}, {"max_pool_padded", IMAGE, max_pool_padded},
    {"max_pool_ceil", IMAGE, max_pool_ceil}, {"average_pool", IMAGE, average_pool}, {"average_padded", IMAGE, average_padded},
    {"average_same", IMAGE, average_same}, {"global_pool", IMAGE, global_pool}, {"global_max", IMAGE, global_max},
    {"reduce_mean", IMAGE, reduce_mean}, {"flat_gemm", IMAGE, flat_gemm}, {"flat_out", IMAGE, flat_out},
    {"flat_relu", IMAGE, flat_relu}, {"gemm", ROWS, gemm}, {"reshape", IMAGE, reshape}, {"reshape_image", {2, {1, 128}}, reshape_image},
    {"pad", IMAGE, pad}, {"pad_value", IMAGE, pad_value}, {"pad_edge", IMAGE, pad_edge}, {"concat", IMAGE, concat},
    {"concat_width", IMAGE, concat_width}, {"nearest", IMAGE, nearest}, {"nearest_half", IMAGE, nearest_half}, {"softmax", ROWS, softmax},
    {"softmax_image", IMAGE, softmax}, {"softmax_last", IMAGE, softmax_last}, {"sigmoid", IMAGE, sigmoid}, {"tanh", IMAGE, tanh_},
    {"hard_swish", IMAGE, hard_swish}, {"hard_sigmoid", IMAGE, hard_sigmoid}, {"leaky", IMAGE, leaky}, {"identity", IMAGE, identity},
    {"gate", IMAGE, gate}, {"batch_norm", IMAGE, batch_norm}, {"matmul", {3, {1, 5, 12}}, rows_times_matrix},
    {"matmul_row", {3, {1, 1, 12}}, rows_times_matrix},
};
enum { N_CASE = sizeof cases / sizeof *cases };

/* ---- ncnn's judgement ---- */

static void put_case(const char *dir, text *list, const char *name, const graph *g, uint64_t seed, float lo, float hi, float grid,
                     double tolerance)
{
    char file[128];
    float *x, *y;
    const shape *in = &graph_value(g, g->input[0])->sh;
    int64_t n_y = shape_count(&graph_value(g, g->output[0])->sh);
    snprintf(file, sizeof file, "%s.param", name);
    OK(ncnn_write_files(g, test_path(dir, file), NULL));
    qnet_run(g, seed, lo, hi, grid, &x, &y, false);
    snprintf(file, sizeof file, "%s.in", name);
    OK(io_write_file(test_path(dir, file), x, (size_t)shape_count(in) * sizeof *x));
    snprintf(file, sizeof file, "%s.want", name);
    OK(io_write_file(test_path(dir, file), y, (size_t)n_y * sizeof *y));
    text_printf(list, "%s %.9g", name, tolerance);
    for (int i = 1; i < in->rank; i++)
        text_printf(list, " %d", (int)in->dim[i]);
    text_add(list, "\n");
    mem_free(x);
    mem_free(y);
}

static const char script[] =
    "import sys, numpy as np, ncnn\n"
    "d, bad, worst = sys.argv[1], 0, 0.0\n"
    "for line in open(d + '/list'):\n"
    "    name, tol, *shape = line.split(); tol = float(tol)\n"
    "    x = np.fromfile(f'{d}/{name}.in', np.float32).reshape([int(v) for v in shape]); w = np.fromfile(f'{d}/{name}.want', np.float32)\n"
    "    for packing in (True, False):\n"
    "        net = ncnn.Net(); o = net.opt; o.num_threads = 1; o.use_packing_layout = packing\n"
    "        o.use_fp16_storage = o.use_fp16_arithmetic = o.use_fp16_packed = o.use_bf16_storage = False\n"
    "        r = net.load_param(f'{d}/{name}.param') or net.load_model(f'{d}/{name}.bin')\n"
    "        if r: bad += 1; print('BAD', name, 'does not load', r); continue\n"
    "        e = net.create_extractor(); e.input('x', ncnn.Mat(x).clone()); r, y = e.extract('y')\n"
    "        y = np.array(y).ravel()\n"
    "        if r or y.size != w.size: bad += 1; print('BAD', name, 'packing', packing, 'result', r, y.size, w.size); continue\n"
    "        err = np.abs(y - w).max(); worst = max(worst, err / max(1.0, np.abs(w).max())) if tol else worst\n"
    "        if not err <= tol * max(1.0, np.abs(w).max()): bad += 1; print('BAD', name, 'packing', packing, 'error', err, 'of', np.abs(w).max(), 'differ', (y != w).sum(), 'of', w.size)\n"
    "print('MAXERR ncnn', worst); print('bad', bad)\n"
    "sys.exit(bad != 0)\n";

/* The folder that the package ncnn lies in, or NULL. */
static const char *ncnn_folder(void)
{
    const char *root = getenv("DISTILL_RUNTIMES");
    const char *dir = test_path(root ? root : SOURCE_DIR "/build/runtimes", "ncnn");
    return io_is_dir(dir) ? dir : NULL;
}

static void judge(const char *dir, text *list, const char *test)
{
    char command[4096];
    const char *python = test_python("numpy"), *folder = ncnn_folder();
    OK(io_write_file(test_path(dir, "list"), list->s, list->n));
    text_free(list);
    if (!python || !folder) {
        test_skip(test, "no Python package ncnn (tools/setup-runtimes brings it; DISTILL_RUNTIMES names its folder)");
        return;
    }
    snprintf(command, sizeof command, "PYTHONPATH='%s' '%s' '%s' '%s' 2>'%s' || { tail -5 '%s'; exit 1; }", folder, python,
             save_text(dir, "judge.py", script), dir, test_path(dir, "err"), test_path(dir, "err"));
    fflush(stdout);
    ck_assert_msg(system(command) == 0, "ncnn disagrees, see above");
}

START_TEST(float_operators_in_ncnn)
{
    const char *dir = test_tmp_dir();
    text list = {0};
    for (size_t i = 0; i < N_CASE; i++) {
        qnet n = qnet_new(DTYPE_NONE, false, cases[i].in, 1, 0, i);
        cases[i].build(&n);
        graph *g = qnet_end(&n);
        put_case(dir, &list, cases[i].name, g, 3, -2.5f, 2.5f, 0, 2e-5);
        graph_free(g);
    }
    judge(dir, &list, "float_operators_in_ncnn");
}
END_TEST

/* Equality, not a tolerance: codes at both ends, depthwise sums beyond 2^13, residuals, pools, every way through the file. */
START_TEST(portable_networks_bit_by_bit)
{
    const char *dir = test_tmp_dir();
    text list = {0};
    ncnn_facts all = {0}, f;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        char name[32];
        graph *g = qnet_portable(seed, DTYPE_I8, true, 1);
        text param = {0}, bin = {0};
        OK(ncnn_write(g, &param, &bin, &f));
        all.int8_layers += f.int8_layers;
        all.widened += f.widened;
        snprintf(name, sizeof name, "net%d", (int)seed);
        put_case(dir, &list, name, g, seed, 0, 1, 1 / 128.0f, 0);
        text_free(&param);
        text_free(&bin);
        graph_free(g);
    }
    ck_assert_uint_gt(all.int8_layers, 60); /* both ways were taken */
    ck_assert_uint_gt(all.widened, 30);
    judge(dir, &list, "portable_networks_bit_by_bit");
}
END_TEST

/* Sixteen channels, which ncnn packs, and sums near the bound of its depthwise kernel, on both sides of it. */
START_TEST(packed_depthwise_bit_by_bit)
{
    const char *dir = test_tmp_dir();
    text list = {0};
    size_t widened = 0, layers = 0;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        char name[32];
        text param = {0}, bin = {0};
        ncnn_facts f;
        qnet n = qnet_new(DTYPE_I8, true, SHAPE(1, 16, 9, 9), 1 / 128.0f, 128, seed);
        for (int i = 0; i < 3; i++) {
            qnet_conv(&n, (qconv){.out = 16, .kernel = 3, .group = 16, .pads = {1, 1, 1, 1}, .weight_zeros = seed % 2 ? 40 : 0}, ldexpf(1, -7 - (int)(seed % 3)));
            qnet_relu(&n);
            qnet_round(&n, 1 / 64.0f, 128);
        }
        qnet_conv(&n, (qconv){.out = 8, .kernel = 1}, 1 / 256.0f);
        qnet_round(&n, 1 / 32.0f, 128);
        graph *g = qnet_end(&n);
        OK(ncnn_write(g, &param, &bin, &f));
        layers += f.int8_layers;
        widened += f.widened;
        snprintf(name, sizeof name, "dw%d", (int)seed);
        put_case(dir, &list, name, g, seed, 0, 1, 1 / 128.0f, 0);
        text_free(&param);
        text_free(&bin);
        graph_free(g);
    }
    ck_assert_uint_gt(widened, 12);
    ck_assert_uint_gt(layers, 12);
    judge(dir, &list, "packed_depthwise_bit_by_bit");
}
END_TEST

/* ---- the form of the files, without ncnn ---- */

static uint32_t word(const text *bin, size_t at)
{
    uint32_t v;
    ck_assert_uint_le(at + 4, bin->n);
    memcpy(&v, bin->s + at, 4);
    return v;
}

static float real(const text *bin, size_t at)
{
    uint32_t bits = word(bin, at);
    float v;
    memcpy(&v, &bits, 4);
    return v;
}

START_TEST(files_of_an_int8_network)
{
    text param = {0}, bin = {0}, again = {0}, again_bin = {0};
    ncnn_facts f;
    qnet n = qnet_new(DTYPE_I8, true, SHAPE(1, 3, 5, 5), 1 / 128.0f, 128, 1);
    qnet_conv(&n, (qconv){.out = 2, .kernel = 3, .per_tensor = true}, 1 / 512.0f); /* 54 weights: two bytes fill up */
    qnet_relu(&n);
    qnet_round(&n, 1 / 64.0f, 128);
    qnet_conv(&n, (qconv){.out = 3, .kernel = 1, .no_bias = true, .per_tensor = true}, 1 / 512.0f);
    qnet_round(&n, 1 / 32.0f, 128);
    graph *g = qnet_end(&n);
    OK(ncnn_write(g, &param, &bin, &f));
    OK(ncnn_write(g, &again, &again_bin, NULL));
    ck_assert_str_eq(param.s, again.s);
    ck_assert_uint_eq(bin.n, again_bin.n);
    ck_assert_int_eq(memcmp(bin.s, again_bin.s, bin.n), 0);
    ck_assert_str_eq(param.s,
                     "7767517\n7 7\n"
                     "Input x 0 1 x 0=5 1=5 2=3\n"
                     "Convolution conv1 1 1 x conv1 0=2 1=3 11=3 2=1 12=1 3=1 13=1 4=0 14=0 15=0 16=0 5=1 6=54 8=101 9=1\n"
                     "Convolution conv4 1 1 conv1 conv4 0=3 1=1 11=1 2=1 12=1 3=1 13=1 4=0 14=0 15=0 16=0 5=0 6=6 8=1\n"
                     "BinaryOp y_2 1 1 conv4 y_2 0=2 1=1 2=3.20000000e+01\n"
                     "UnaryOp y_3 1 1 y_2 y_3 0=18\n"
                     "Clip y_4 1 1 y_3 y_4 0=-1.28000000e+02 1=1.27000000e+02\n"
                     "BinaryOp y_5 1 1 y_4 y 0=2 1=1 2=3.12500000e-02\n");
    ck_assert_uint_eq(f.int8_layers, 2);
    ck_assert_uint_eq(f.widened, 0);
    ck_assert_uint_eq(word(&bin, 0), 0x000D4B38);
    const int8_t *w = graph_value(g, graph_find(g, "conv1_w"))->data;
    ck_assert_int_eq(memcmp(bin.s + 4, w, 54), 0);
    size_t at = 4 + 56;
    const int32_t *b = graph_value(g, graph_find(g, "conv1_b"))->data;
    const float *ws = graph_value(g, graph_find(g, "conv1_ws"))->data;
    for (size_t i = 0; i < 2; i++)
        ck_assert(real(&bin, at + 4 * i) == (float)b[i] * ws[0] / 128);
    ck_assert(real(&bin, at + 8) == 1 / ws[0]);
    ck_assert(real(&bin, at + 12) == 1 / ws[0]);
    ck_assert(real(&bin, at + 16) == 128);
    ck_assert(real(&bin, at + 20) == 64);
    at += 24;
    ck_assert_uint_eq(word(&bin, at), 0x000D4B38);
    ck_assert_uint_eq(bin.n, at + 4 + 8 + 3 * 4 + 4); /* weights filled up, scales of weights and input; the result is float */
    ck_assert_uint_eq(f.bin_bytes, bin.n);
    text_free(&param);
    text_free(&bin);
    text_free(&again);
    text_free(&again_bin);
    graph_free(g);
}
END_TEST

START_TEST(names_and_copies)
{
    text param = {0}, bin = {0};
    graph *g;
    value_id x, a, b, c;
    OK(graph_new(&g));
    OK(graph_add_input(g, "in put\n#1", DTYPE_F32, SHAPE(1, 3), &x));
    OK(graph_add_named(g, "relu", OP_RELU, NULL, &x, 1, (const char *const[]){"r 1"}, &a, 1));
    OK(graph_add_named(g, "relu", OP_SIGMOID, NULL, &a, 1, (const char *const[]){"r_1"}, &b, 1));
    OK(graph_add_named(g, NULL, OP_ADD, NULL, (value_id[]){a, b}, 2, (const char *const[]){"sum"}, &c, 1));
    OK(graph_add_output(g, a));
    OK(graph_add_output(g, c));
    OK(ncnn_write(g, &param, &bin, NULL));
    ck_assert_str_eq(param.s, "7767517\n5 7\n"
                              "Input in_put__1 0 1 in_put__1 0=3\n"
                              "ReLU relu 1 1 in_put__1 relu\n"
                              "Split relu#split 1 3 relu relu#0 relu#1 r_1\n"
                              "Sigmoid relu_2 1 1 relu#0 relu_2\n"
                              "BinaryOp Add_3 2 1 relu#1 relu_2 sum 0=0\n");
    text_free(&param);
    text_free(&bin);
    graph_free(g);
}
END_TEST

static void refused(qnet n, const char *why)
{
    text param = {0}, bin = {0};
    graph *g = qnet_end(&n);
    text_add(&param, "before");
    FAILS(ST_BAD_DATA, why, ncnn_write(g, &param, &bin, NULL));
    ck_assert_str_eq(param.s, "before");
    ck_assert_uint_eq(bin.n, 0);
    text_free(&param);
    graph_free(g);
}

START_TEST(what_is_refused)
{
    qnet n = qnet_new(DTYPE_NONE, false, (shape)IMAGE, 1, 0, 1);
    qnet_node(&n, OP_ERF, NULL);
    refused(n, "node 'Erf0' (Erf): is not written to ncnn files");
    n = qnet_new(DTYPE_NONE, false, SHAPE(2, 4, 9, 8), 1, 0, 1);
    conv(&n);
    refused(n, "input 'x' has shape [2, 4, 9, 8]; ncnn has no batch");
    n = qnet_new(DTYPE_U8, true, (shape)IMAGE, 1 / 256.0f, 0, 1);
    conv(&n);
    refused(n, "node 'q0' (QuantizeLinear): uint8 with zero point 0; ncnn has int8 with zero point 0 alone: make the variant portable-s8");
    n = qnet_new(DTYPE_I8, true, (shape)IMAGE, 1 / 256.0f, 100, 1);
    conv(&n);
    refused(n, "int8 with zero point -28");
    n = qnet_new(DTYPE_NONE, false, (shape)IMAGE, 1, 0, 1);
    pool_attrs a = POOL(three, two);
    a.ceil_mode = 1;
    qnet_node(&n, OP_AVERAGE_POOL, &a);
    refused(n, "(AveragePool): an average whose last window passes the padding");
    n = qnet_new(DTYPE_NONE, false, (shape)IMAGE, 1, 0, 1);
    qnet_node(&n, OP_SOFTMAX, &(axis_attrs){0});
    refused(n, "over the batch; ncnn has none");
    n = qnet_new(DTYPE_NONE, false, SHAPE(1, 4, 9, 8, 2), 1, 0, 1);
    qnet_relu(&n);
    refused(n, "[1, C, H, W]");
    n = qnet_new(DTYPE_NONE, false, (shape)IMAGE, 1, 0, 1);
    qnet_node(&n, OP_PAD, &(pad_attrs){.pads = {8, (const int64_t[]){0, 0, -1, 0, 0, 0, 0, 0}}});
    refused(n, "negative padding");
    n = qnet_new(DTYPE_NONE, false, (shape)IMAGE, 1, 0, 1);
    refused(n, "output 'y' is an input of the model");
}
END_TEST

/* Dimensions that multiply beyond every counter, and memory that runs out at any place. */
START_TEST(hostile_sizes_and_no_memory)
{
    text param = {0}, bin = {0};
    qnet n = qnet_new(DTYPE_NONE, false, SHAPE(1, 1, 1, (int64_t)1 << 33), 1, 0, 1);
    qnet_relu(&n);
    refused(n, "which ncnn cannot hold");
    graph *g = qnet_portable(3, DTYPE_I8, true, 1);
    OK(ncnn_write(g, &param, &bin, NULL));
    uint64_t before = mem_count();
    text_free(&param);
    text_free(&bin);
    OK(ncnn_write(g, &param, &bin, NULL));
    uint64_t calls = mem_count() - before;
    for (uint64_t i = 1; i <= calls; i++) {
        text p = {0}, b = {0};
        mem_fail_at(i, false);
        status st = ncnn_write(g, &p, &b, NULL);
        mem_fail_at(0, false);
        ck_assert_int_eq(st, ST_OOM);
        text_free(&p);
        text_free(&b);
    }
    text_free(&param);
    text_free(&bin);
    graph_free(g);
}
END_TEST

/* ---- the command ---- */

START_TEST(export_writes_ncnn)
{
    const char *dir = test_tmp_dir(), *onnx = test_path(dir, "m.onnx"), *to = test_path(dir, "m.param");
    graph *g = qnet_portable(5, DTYPE_I8, true, 1);
    text param = {0}, bin = {0};
    unsigned char *got;
    size_t size;
    OK(onnx_export_file(g, &(export_options){0}, onnx));
    ran r = program_run(&(program_options){0}, ARGS("export", onnx, "--out", to));
    ck_assert_msg(r.code == 0, "%s", r.err);
    ck_assert_ptr_nonnull(strstr(r.out, "of them int8"));
    ran_free(&r);
    OK(ncnn_write(g, &param, &bin, NULL));
    OK(io_read_file(test_path(dir, "m.bin"), 1 << 20, &got, &size));
    ck_assert_uint_eq(size, bin.n);
    ck_assert_int_eq(memcmp(got, bin.s, size), 0);
    mem_free(got);
    r = program_run(&(program_options){0}, ARGS("export", onnx, "--batch", "4", "--out", to));
    ck_assert_int_eq(r.code, 64);
    ran_free(&r);
    text_free(&param);
    text_free(&bin);
    graph_free(g);
    g = qnet_portable(5, DTYPE_U8, false, 1);
    OK(onnx_export_file(g, &(export_options){0}, onnx));
    r = program_run(&(program_options){0}, ARGS("export", onnx, "--out", test_path(dir, "u8.param")));
    ck_assert_int_eq(r.code, 65);
    ck_assert_ptr_nonnull(strstr(r.err, "make the variant portable-s8"));
    ck_assert(!io_exists(test_path(dir, "u8.bin")));
    ran_free(&r);
    bool written = true;
    OK(ncnn_write_beside(g, onnx, &written));
    ck_assert(!written);
    graph_free(g);
}
END_TEST

const test_entry test_table[] = {TEST(float_operators_in_ncnn), TEST(portable_networks_bit_by_bit), TEST(packed_depthwise_bit_by_bit),
                                 TEST(files_of_an_int8_network),
                                 TEST(names_and_copies), TEST(what_is_refused), TEST(hostile_sizes_and_no_memory),
                                 TEST(export_writes_ncnn), {0}};
