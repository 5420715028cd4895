/* test_bisect.c - a runtime that is wrong from a known layer on: the layer is named, with a sample that shows it, and the reduced
 * models run. The runtime is our own runner behind a script that spoils the output when a node's name stands in the model. */
#include "base/io.h"
#include "base/mem.h"
#include "data/npy.h"
#include "data_files.h"
#include "harness.h"
#include "matrix/bisect.h"
#include "onnx/export.h"
#include "onnx/import.h"
#include "ops/attrs.h"
#include "qnet.h"

#include <math.h>
#include <stdio.h>

/* argv: program, then an expression over `has(name)`: what is spoiled; "crash" in it: ends there. Sample 5 shows it. */
static const char spoiler[] =
    "import json, os, subprocess, sys, struct\n"
    "program, rule = sys.argv[1:3]\n"
    "line = sys.stdin.readline(); q = json.loads(line)\n"
    "if rule == 'missing': print(json.dumps({'protocol': 1, 'ok': False, 'kind': 'missing', 'message': 'not here'})); sys.exit()\n"
    "model = open(q['model'], 'rb').read()\n"
    "has = lambda name: name.encode() in model\n"
    "def crash(): os.abort()\n"
    "answer = subprocess.run([program, 'runner', 'own'], input=line.encode(), stdout=subprocess.PIPE).stdout\n"
    "if eval(rule):\n"
    "    y = bytearray(open(q['output'], 'rb').read()); head = 10 + int.from_bytes(y[8:10], 'little'); n = (len(y) - head) // 4\n"
    "    at = head + 4 * (n // 8 * 5 + 1); v = struct.unpack_from('<f', y, at)[0]; struct.pack_into('<f', y, at, v + 3)\n"
    "    open(q['output'], 'wb').write(y)\n"
    "sys.stdout.buffer.write(answer)\n";

enum { SAMPLES = 8 };

typedef struct bench {
    const char *dir, *model;
    graph *g;
    tensor x;
} bench;

static void open_bench(bench *b, graph *g)
{
    b->dir = test_tmp_dir();
    b->model = test_path(b->dir, "m.onnx");
    b->g = g;
    OK(onnx_export_file(g, &(export_options){.opset = EXPORT_OPSET_MAX}, b->model));
    shape sh = graph_value(g, g->input[0])->sh;
    sh.dim[0] = SAMPLES;
    OK(tensor_new(&b->x, "x", DTYPE_F32, sh));
    for (int64_t i = 0; i < shape_count(&sh); i++)
        tensor_put(&b->x, i, (double)(i * 37 % 128) / 128);
}

static void close_bench(bench *b)
{
    tensor_free(&b->x);
    graph_free(b->g);
}

/* False: no Python here. */
static bool search(bench *b, const char *rule, bool exact, status want, bisect_result *r)
{
    const char *python = test_python("json");
    const char *const command[] = {python, save_text(b->dir, "spoiler.py", spoiler), DISTILL_PROGRAM, rule, NULL};
    if (!python) {
        test_skip("bisect", "no python");
        return false;
    }
    status st = bisect_run(&(bisect_options){.model = b->model, .form = "onnx", .command = command, .seconds = 30, .threads = 1, .x = &b->x,
                                             .exact = exact, .dir = test_path(b->dir, "out")}, r);
    ck_assert_msg(st == want, "status %d: %s", (int)st, status_message());
    return true;
}

/* conv0 relu1 conv2 Add3(conv2, relu1) relu4 conv5 MaxPool6 Flatten7 gemm8 */
static graph *float_net(void)
{
    static const int64_t two[2] = {2, 2}, one[2] = {1, 1};
    qnet n = qnet_new(DTYPE_NONE, false, SHAPE(1, 2, 8, 8), 1, 0, 3);
    qnet_conv(&n, (qconv){.out = 4, .kernel = 3, .pads = {1, 1, 1, 1}}, 0.01f);
    qnet_relu(&n);
    value_id x = n.v;
    qnet_conv(&n, (qconv){.out = 4, .kernel = 3, .pads = {1, 1, 1, 1}}, 0.005f);
    qnet_two(&n, OP_ADD, x, NULL);
    qnet_relu(&n);
    qnet_conv(&n, (qconv){.out = 4, .kernel = 1}, 0.01f);
    qnet_node(&n, OP_MAX_POOL, &(pool_attrs){.kernel_shape = {2, two}, .strides = {2, two}, .dilations = {2, one}});
    qnet_node(&n, OP_FLATTEN, &(axis_attrs){1});
    qnet_gemm(&n, 5, true, 0.002f);
    return qnet_end(&n);
}

START_TEST(names_the_first_layer)
{
    static const struct {
        const char *rule, *layer, *op;
    } rows[] = {{"has('conv0')", "conv0", "Conv"}, {"has('conv2')", "conv2", "Conv"}, {"has('conv5')", "conv5", "Conv"},
                {"has('Add3')", "Add3", "Add"}, {"has('gemm8')", "gemm8", "Gemm"}, {"has('MaxPool6')", "MaxPool6", "MaxPool"},
                {"has('conv2') and not has('conv5') or has('MaxPool6') and not has('gemm8') or has('gemm8')", NULL, NULL}};
    bench b;
    bisect_result r;
    open_bench(&b, float_net());
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!search(&b, rows[i].rule, false, ST_OK, &r))
            break;
        ck_assert(r.parts && r.found && !r.why);
        if (rows[i].layer) {
            ck_assert_str_eq(r.layer, rows[i].layer);
            ck_assert_str_eq(r.op, rows[i].op);
        } else { /* errors that come and go: what is named parts, and all that it reads agrees */
            ck_assert_msg(strcmp(r.layer, "conv2") == 0 || strcmp(r.layer, "MaxPool6") == 0, "%s", r.layer);
        }
        ck_assert_uint_eq(r.sample, 5);
        ck_assert_uint_eq(r.element, 1);
        ck_assert(fabs(r.error - 3) < 1e-5 && r.differ == 1);
        ck_assert_uint_le(r.asked, 10);
        tensor x = {0};
        limits lim = limits_default();
        OK(npy_read(test_path(b.dir, "out/cut.input.npy"), &lim, &x));
        size_t bytes = tensor_bytes(&x);
        ck_assert_int_eq((int)x.sh.dim[0], 1);
        ck_assert_int_eq(memcmp(x.data, (char *)b.x.data + 5 * bytes, bytes), 0);
        tensor_free(&x);
        onnx_model *m = NULL;
        graph *g = NULL;
        OK(onnx_open(r.cut, NULL, &m));
        OK(onnx_import(m, &(import_options){.batch = 1}, &g));
        ck_assert_str_eq(graph_value(g, g->output[0])->name, r.value);
        graph_free(g);
        onnx_close(m);
        if (i > 0 && rows[i].layer) {
            ck_assert_ptr_nonnull(r.alone); /* the layer alone has the name in it */
            OK(onnx_open(r.alone, NULL, &m));
            OK(onnx_import(m, &(import_options){.batch = 1}, &g));
            ck_assert_uint_le(g->n_node - 1, 2);
            graph_free(g);
            onnx_close(m);
        }
        bisect_free(&r);
    }
    close_bench(&b);
}
END_TEST

START_TEST(agrees_crashes_or_is_not_there)
{
    bench b;
    bisect_result r;
    text t = {0};
    open_bench(&b, float_net());
    if (search(&b, "False", false, ST_OK, &r)) {
        ck_assert(!r.parts && !r.found && r.asked == 1);
        bisect_print(&r, &t);
        ck_assert_ptr_nonnull(strstr(t.s, "agrees with our executor"));
        bisect_free(&r);
        search(&b, "has('Add3') and crash()", false, ST_OK, &r);
        ck_assert(r.parts && r.why);
        ck_assert_str_eq(r.layer, "Add3");
        ck_assert_ptr_nonnull(strstr(r.why, "signal 6"));
        bisect_free(&r);
        search(&b, "missing", false, ST_UNAVAILABLE, &r);
        bisect_free(&r);
    }
    text_free(&t);
    close_bench(&b);
}
END_TEST

/* Cuts of integers stand behind whole groups; one grid step of 3 / scale is far beyond the tolerance. */
START_TEST(integer_models)
{
    bench b;
    bisect_result r;
    open_bench(&b, qnet_portable(11, DTYPE_U8, false, 1));
    size_t products = 0;
    for (size_t k = b.g->n_node; k-- > 1;)
        products += b.g->node[k].op == OP_CONV;
    ck_assert_uint_ge(products, 2);
    for (size_t k = 1; k < b.g->n_node; k++) {
        char rule[64];
        if (b.g->node[k].op != OP_CONV)
            continue;
        snprintf(rule, sizeof rule, "has('%s_wdq')", b.g->node[k].name);
        if (!search(&b, rule, true, ST_OK, &r))
            break;
        ck_assert(r.parts && r.found);
        ck_assert_str_eq(r.layer, b.g->node[k].name);
        bisect_free(&r);
    }
    close_bench(&b);
}
END_TEST

const test_entry test_table[] = {TEST(names_the_first_layer), TEST(agrees_crashes_or_is_not_there), TEST(integer_models), {0}};
