/* test_quant_ort.c - ordinary INT8 (any scales, any zero points) on our integers and in ONNX Runtime: within one step.
 *
 * Every operator that is quantised, alone, with codes over their whole range; and whole students made by our own post-training
 * quantisation. As QDQ and as operators on integers, uint8 and int8 activations, at every optimisation level, with kernels that
 * do not cut sums: session.x64quantprecision, and as it comes where the processor has VNNI. With that option ONNX Runtime makes
 * uint8 weights and then has no kernel for operators on integers of int8 activations: these alone may be refused. */
#include "base/io.h"
#include "data_files.h"
#include "exec/exec.h"
#include "harness.h"
#include "onnx/export.h"
#include "ops/attrs.h"
#include "qnet.h"
#include "quant/ptq.h"
#include "student/student.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- files, and the script that judges them ---- */

static const char script[] =
    "import sys, numpy as np, onnxruntime as o\n"
    "o.set_default_logger_severity(3)\n"
    "d, plain, bad, runs, off, n, refused = sys.argv[1], sys.argv[2] == '1', 0, 0, 0, 0, 0\n"
    "L = o.GraphOptimizationLevel; worst = {}\n"
    "for line in open(d + '/list'):\n"
    "    name, s8, step, share, *shape = line.split(); s8 = s8 == '1'\n"
    "    x = np.fromfile(f'{d}/{name}.in', np.float32).reshape([int(v) for v in shape])\n"
    "    w = np.fromfile(f'{d}/{name}.want', np.float32).astype(np.float64)\n"
    "    for form in ('qdq', 'integers'):\n"
    "        for level, precise in [(l, '1') for l in (L.ORT_DISABLE_ALL, L.ORT_ENABLE_BASIC, L.ORT_ENABLE_ALL)] + [(L.ORT_ENABLE_ALL, '0')] * plain:\n"
    "            s = o.SessionOptions(); s.graph_optimization_level = level; s.intra_op_num_threads = 1\n"
    "            s.add_session_config_entry('session.x64quantprecision', precise)\n"
    "            try: session = o.InferenceSession(f'{d}/{name}.{form}.onnx', s)\n"
    "            except Exception as why:\n"
    "                refused += 1\n"
    "                if not s8 or form != 'integers' or precise != '1' or level != L.ORT_ENABLE_ALL: bad += 1; print('BAD', name, form, level, precise, str(why)[:300])\n"
    "                continue\n"
    "            y = session.run(None, {'x': x})[0].ravel().astype(np.float64)\n"
    "            e = np.abs(y - w) / float(step); runs += 1\n"
    "            off += (e > 0.5).sum(); n += e.size; worst[name] = max(worst.get(name, 0), round(e.max(), 3))\n"
    "            if y.size != w.size or e.max() > 1.001 or (e > 0.5).mean() > float(share): bad += 1; print('BAD', name, form, level, precise, 'steps', e.max(), 'differ', (e > 0.5).mean())\n"
    "print(runs, 'runs,', bad, 'beyond one step;', off, 'of', n, 'numbers differ by one:', [k for k in worst if worst[k] > 0.5], refused, 'refused')\n"
    "sys.exit(bad != 0)\n";

/* In QDQ form and as integers; our result comes from the integers. `share`: of the numbers may differ at all. */
static void put_net(const char *dir, text *list, const char *name, const graph *g, bool s8, float lo, float hi,
                    double step, double share)
{
    char file[96];
    float *x, *y;
    graph *copy;
    const shape *in = &graph_value(g, g->input[0])->sh, *out = &graph_value(g, g->output[0])->sh;
    int64_t different = 0;
    qnet_run(g, 3, lo, hi, 0, &x, &y, true);
    for (int64_t i = 1; i < shape_count(out); i++)
        different += y[i] != y[0];
    ck_assert_msg(different > 0, "%s says nothing", name);
    snprintf(file, sizeof file, "%s.qdq.onnx", name);
    OK(onnx_export_file(g, &(export_options){.fixed_batch = true}, test_path(dir, file)));
    OK(graph_clone(g, &copy));
    OK(pass_drop_identity(copy));
    OK(pass_integer_groups(copy));
    snprintf(file, sizeof file, "%s.integers.onnx", name);
    OK(onnx_export_file(copy, &(export_options){.fixed_batch = true}, test_path(dir, file)));
    graph_free(copy);
    snprintf(file, sizeof file, "%s.in", name);
    OK(io_write_file(test_path(dir, file), x, (size_t)shape_count(in) * sizeof *x));
    snprintf(file, sizeof file, "%s.want", name);
    OK(io_write_file(test_path(dir, file), y, (size_t)shape_count(out) * sizeof *y));
    text_printf(list, "%s %d %.9g %g", name, s8, step, share);
    for (int i = 0; i < in->rank; i++)
        text_printf(list, " %d", (int)in->dim[i]);
    text_add(list, "\n");
    mem_free(x);
    mem_free(y);
}

static void judge(const char *dir, text *list, const char *test)
{
    char command[4096];
    const char *python = test_python("onnxruntime"), *err = test_path(dir, "err");
    bool vnni = system("grep -q -m1 -w -e avx512_vnni -e avx_vnni /proc/cpuinfo 2>/dev/null") == 0;
    OK(io_write_file(test_path(dir, "list"), list->s, list->n));
    text_free(list);
    if (!python) {
        test_skip(test, "no python with onnxruntime (tools/setup test brings it; DISTILL_PYTHON names one)");
        return;
    }
    if (!vnni)
        test_skip(test, "no VNNI: ONNX Runtime as it comes may cut sums here; only session.x64quantprecision = 1 is compared");
    snprintf(command, sizeof command, "'%s' '%s' '%s' %d 2>'%s' || { tail -5 '%s'; exit 1; }", python, save_text(dir, "judge.py", script), dir,
             vnni, err, err);
    fflush(stdout);
    ck_assert_msg(system(command) == 0, "ONNX Runtime disagrees, see above");
}

/* ---- operators alone ---- */

#define OUT 0.061f
static void conv3(qnet *n) { qnet_conv(n, (qconv){.out = 5, .kernel = 3, .pads = {1, 1, 1, 1}}, 0.005f); qnet_round(n, OUT, 121); }
static void strided(qnet *n) { qnet_conv(n, (qconv){.out = 5, .kernel = 3, .stride = 2, .pads = {2, 0, 1, 3}}, 0.005f); qnet_relu(n); qnet_round(n, OUT / 2, 0); }
static void pointwise(qnet *n) { qnet_conv(n, (qconv){.out = 19, .kernel = 1}, 0.01f); qnet_round(n, OUT, 133); }
static void per_tensor(qnet *n) { qnet_conv(n, (qconv){.out = 6, .kernel = 3, .per_tensor = true}, 0.005f); qnet_round(n, OUT, 128); }
static void no_bias(qnet *n) { qnet_conv(n, (qconv){.out = 6, .kernel = 3, .no_bias = true}, 0.005f); qnet_round(n, OUT, 128); }
static void dilated(qnet *n) { qnet_conv(n, (qconv){.out = 4, .kernel = 3, .dilation = 2, .pads = {2, 2, 2, 2}}, 0.005f); qnet_round(n, OUT, 97); }
static void grouped(qnet *n) { qnet_conv(n, (qconv){.out = 6, .kernel = 3, .group = 2, .pads = {1, 1, 1, 1}}, 0.008f); qnet_round(n, OUT, 128); }
static void depthwise(qnet *n) { qnet_conv(n, (qconv){.out = 4, .kernel = 3, .group = 4, .pads = {1, 1, 1, 1}}, 0.01f); qnet_relu(n); qnet_round(n, 0.05f, 0); }
static void multiplied(qnet *n) { qnet_conv(n, (qconv){.out = 8, .kernel = 3, .group = 4, .stride = 2, .pads = {1, 1, 1, 1}}, 0.01f); qnet_round(n, OUT, 140); }
static void relu6(qnet *n) { qnet_conv(n, (qconv){.out = 5, .kernel = 3}, 0.02f); qnet_node(n, OP_CLIP, &(clip_attrs){0, 6}); qnet_round(n, 6 / 255.0f, 0); }
static void sum(qnet *n, bool relu)
{
    value_id x = n->v;
    qnet_conv(n, (qconv){.out = 4, .kernel = 3, .pads = {1, 1, 1, 1}}, 0.005f);
    qnet_round(n, 0.057f, 119);
    qnet_two(n, OP_ADD, x, NULL);
    if (relu)
        qnet_relu(n);
    qnet_round(n, 0.049f, relu ? 0 : 131);
}
static void add(qnet *n) { sum(n, false); }
static void add_relu(qnet *n) { sum(n, true); }

static const int64_t two[2] = {2, 2}, three[2] = {3, 3}, one[2] = {1, 1}, pads1[4] = {1, 1, 1, 1};
static void pool(qnet *n, op_id op, const int64_t *kernel, bool padded, bool with)
{
    pool_attrs a = {.kernel_shape = {2, kernel}, .strides = {2, two}, .dilations = {2, one}, .count_include_pad = with};
    if (padded)
        a.pads = (attr_ints){4, pads1};
    qnet_node(n, op, &a);
    if (op == OP_AVERAGE_POOL)
        qnet_round(n, 0.013f, 126);
    else
        qnet_round(n, n->scale, 128);
}
static void max_pool(qnet *n) { pool(n, OP_MAX_POOL, two, false, false); }
static void max_pool_padded(qnet *n) { pool(n, OP_MAX_POOL, three, true, false); }
static void average(qnet *n) { pool(n, OP_AVERAGE_POOL, two, false, false); }
static void average_padded(qnet *n) { pool(n, OP_AVERAGE_POOL, three, true, false); }
static void average_with(qnet *n) { pool(n, OP_AVERAGE_POOL, three, true, true); }
static void global(qnet *n) { qnet_node(n, OP_GLOBAL_AVERAGE_POOL, NULL); qnet_round(n, 0.0047f, 127); }
static void joined(qnet *n, bool rescaled)
{
    value_id x = n->v;
    qnet_relu(n);
    qnet_round(n, rescaled ? 0.011f : n->scale, rescaled ? 0 : 128);
    qnet_two(n, OP_CONCAT, x, &(axis_attrs){1});
    qnet_round(n, rescaled ? 0.031f : n->scale, rescaled ? 120 : 128);
}
static void concat(qnet *n) { joined(n, false); }
static void concat_rescaled(qnet *n) { joined(n, true); }
static void gemm(qnet *n) { qnet_node(n, OP_FLATTEN, &(axis_attrs){1}); qnet_round(n, n->scale, 128); qnet_gemm(n, 7, true, 0.002f); qnet_round(n, OUT, 128); }
static void gemm_relu(qnet *n) { qnet_node(n, OP_FLATTEN, &(axis_attrs){1}); qnet_round(n, n->scale, 128); qnet_gemm(n, 7, false, 0.002f); qnet_relu(n); qnet_round(n, OUT / 2, 0); }
static void gemm_twice(qnet *n) { gemm_relu(n); qnet_gemm(n, 9, false, 0.004f); qnet_round(n, OUT, 117); }
static void nearest(qnet *n) { qnet_node(n, OP_RESIZE, &(resize_attrs){.mode = RESIZE_NEAREST, .coordinate_transformation_mode = COORD_ASYMMETRIC, .nearest_mode = NEAREST_FLOOR, .scales = {4, (const double[]){1, 1, 2, 3}}}); qnet_round(n, n->scale, 128); }
static void pad(qnet *n) { qnet_node(n, OP_PAD, &(pad_attrs){.pads = {8, (const int64_t[]){0, 0, 1, 0, 0, 0, 2, 3}}}); qnet_round(n, n->scale, 128); }
static void transpose(qnet *n) { qnet_node(n, OP_TRANSPOSE, &(transpose_attrs){{4, (const int64_t[]){0, 2, 1, 3}}}); qnet_round(n, n->scale, 128); }
static void sigmoid(qnet *n) { qnet_node(n, OP_SIGMOID, NULL); qnet_round(n, 1 / 256.0f, 0); }
static void leaky(qnet *n) { qnet_node(n, OP_LEAKY_RELU, &(alpha_attrs){0.1}); qnet_round(n, 0.021f, 100); }
static void multiply(qnet *n)
{
    value_id x = n->v;
    qnet_conv(n, (qconv){.out = 4, .kernel = 1}, 0.01f);
    qnet_round(n, 0.03f, 128);
    qnet_two(n, OP_MUL, x, NULL);
    qnet_round(n, 0.05f, 125);
}

static const struct {
    const char *name;
    void (*build)(qnet *n);
} cases[] = {
    {"conv3", conv3}, {"strided", strided}, {"pointwise", pointwise}, {"per_tensor", per_tensor}, {"no_bias", no_bias}, {"dilated", dilated},
    {"grouped", grouped}, {"depthwise", depthwise}, {"multiplied", multiplied}, {"relu6", relu6}, {"add", add}, {"add_relu", add_relu},
    {"max_pool", max_pool}, {"max_pool_padded", max_pool_padded}, {"average", average}, {"average_padded", average_padded},
    {"average_with", average_with}, {"global", global}, {"concat", concat}, {"concat_rescaled", concat_rescaled}, {"gemm", gemm},
    {"gemm_relu", gemm_relu}, {"gemm_twice", gemm_twice}, {"nearest", nearest}, {"pad", pad}, {"transpose", transpose},
    {"sigmoid", sigmoid}, {"leaky", leaky}, {"multiply", multiply},
};

/* Weights reach 127, inputs all codes and beyond. */
static void operators(dtype act, const char *test)
{
    const char *dir = test_tmp_dir();
    text list = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qnet n = qnet_new(act, false, SHAPE(3, 4, 9, 8), 1 / 51.0f, 128, i);
        cases[i].build(&n);
        double step = (double)n.scale;
        graph *g = qnet_end(&n);
        put_net(dir, &list, cases[i].name, g, act == DTYPE_I8, -3, 3, step, 0.01);
        graph_free(g);
    }
    judge(dir, &list, test);
}

START_TEST(operators_u8) { operators(DTYPE_U8, "operators_u8"); } END_TEST
START_TEST(operators_s8) { operators(DTYPE_I8, "operators_s8"); } END_TEST

/* ---- whole students ---- */

enum { SAMPLES = 24, BATCH = 4, SIZE = 3 * 17 * 16 };

typedef struct samples {
    float *x;
    size_t at;
    const void *now;
} samples;

static status next_samples(void *ctx, const void *const **x, size_t *n)
{
    samples *s = ctx;
    *n = s->at < SAMPLES ? BATCH : 0;
    s->now = s->x + s->at * SIZE;
    s->at += *n;
    *x = &s->now;
    return ST_OK;
}

/* Start values, batch norm folded. */
static graph *student(const char *ini)
{
    job *j = NULL;
    graph *g = NULL;
    store params = {0};
    OK(config_load_text("model", ini, strlen(ini), &(config_sources){0}, &j));
    student_spec s = {.job = j, .classes = 10, .sample = SHAPE(3, 17, 16)};
    OK(student_build(&s, BATCH, &g));
    OK(store_add_graph(&params, g));
    OK(store_bake(&params, g));
    OK(pass_fold_batch_norm(g));
    OK(pass_dead_nodes(g));
    g->n_output = 1;
    OK(graph_rename(g, g->input[0], "x"));
    store_free(&params);
    config_free(j);
    return g;
}

static const quant_method methods[] = {QUANT_MINMAX, QUANT_PERCENTILE, QUANT_ENTROPY, QUANT_MSE};

START_TEST(students)
{
    static const struct {
        const char *name, *ini;
    } nets[] = {{"resnet", "[student]\narch = resnet\ndepth = 8\nwidths = 8 12 16\n"},
                {"mobilenetv2", "[student]\narch = mobilenetv2\nwidth = 0.25\n"},
                {"dscnn", "[student]\narch = dscnn\ndepth = 3\nwidths = 12\n"}};
    const char *dir = test_tmp_dir();
    text list = {0};
    backend *b;
    samples s = {0};
    rng r = rng_make(9, RNG_TEST, 0, 0);
    OK(mem_alloc(&s.x, SAMPLES * SIZE, sizeof *s.x));
    for (size_t i = 0; i < SAMPLES * SIZE; i++)
        s.x[i] = (float)(4 * rng_uniform(&r) - 2);
    OK(backend_open("cpu", &(backend_options){.threads = 1, .max_isa = ISA_AVX512}, &b));
    for (size_t i = 0; i < sizeof nets / sizeof *nets; i++)
        for (int kind = 0; kind < 4; kind++) {
            char name[64];
            quant_scheme q = quant_scheme_default();
            graph *g = student(nets[i].ini), *made;
            q.activations = kind % 2 ? DTYPE_I8 : DTYPE_U8;
            q.symmetric = kind == 1;
            q.per_channel = kind != 2;
            q.method = methods[kind];
            s.at = 0;
            OK(ptq_make(g, &q, b, &(sample_source){next_samples, &s}, &made, NULL));
            graph_free(g);
            const node *last = &made->node[made->value[made->output[0]].from];
            ck_assert_int_eq(last->op, OP_DEQUANTIZE_LINEAR);
            double step = (double)*(const float *)made->value[last->in[1]].data;
            snprintf(name, sizeof name, "%s_%d", nets[i].name, kind);
            put_net(dir, &list, name, made, kind % 2, -2, 2, step, 0.25);
            graph_free(made);
        }
    mem_free(s.x);
    backend_close(b);
    judge(dir, &list, "students");
}
END_TEST

const test_entry test_table[] = {TEST(operators_u8), TEST(operators_s8), TEST(students), {0}};
