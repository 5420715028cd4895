/* test_tflite.c - TFLite files: every operator that is written, in float and in int8, read by LiteRT itself and computed there
 * as our executor does; a whole student; sizes; what is refused. */
#include "base/io.h"
#include "base/mem.h"
#include "data_files.h"
#include "exec/exec.h"
#include "harness.h"
#include "ops/attrs.h"
#include "onnx/export.h"
#include "program.h"
#include "qnet.h"
#include "student/student.h"
#include "tflite/flatbuffer.h"
#include "tflite/write.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- nets: one for each thing that can go wrong ---- */

typedef struct net_case {
    const char *name;
    shape in;
    void (*build)(qnet *n);
} net_case;

#define OUT 0.06f /* scale of results: products of some tens of terms */

static void same(qnet *n) { qnet_conv(n, (qconv){.out = 5, .kernel = 3, .pads = {1, 1, 1, 1}}, 0.005f); qnet_round(n, OUT, 128); }
static void strided(qnet *n) { qnet_conv(n, (qconv){.out = 5, .kernel = 3, .stride = 2, .pads = {1, 1, 1, 1}}, 0.005f); qnet_round(n, OUT, 128); }
static void lopsided(qnet *n) { qnet_conv(n, (qconv){.out = 5, .kernel = 3, .pads = {2, 0, 1, 3}}, 0.005f); qnet_round(n, OUT, 128); }
static void valid(qnet *n) { qnet_conv(n, (qconv){.out = 4, .kernel = 4, .stride = 3}, 0.005f); qnet_round(n, OUT, 140); }
static void no_bias_relu(qnet *n) { qnet_conv(n, (qconv){.out = 6, .kernel = 1, .no_bias = true}, 0.01f); qnet_relu(n); qnet_round(n, 0.03f, 0); }
static void per_tensor(qnet *n) { qnet_conv(n, (qconv){.out = 6, .kernel = 1, .per_tensor = true}, 0.01f); qnet_round(n, 0.03f, 128); }
static void dilated(qnet *n) { qnet_conv(n, (qconv){.out = 4, .kernel = 3, .dilation = 2, .pads = {2, 2, 2, 2}}, 0.005f); qnet_round(n, OUT, 128); }
static void grouped(qnet *n) { qnet_conv(n, (qconv){.out = 6, .kernel = 3, .group = 2, .pads = {1, 1, 1, 1}}, 0.008f); qnet_round(n, OUT, 128); }
static void depthwise(qnet *n) { qnet_conv(n, (qconv){.out = 4, .kernel = 3, .group = 4, .pads = {1, 1, 1, 1}}, 0.01f); qnet_relu(n); qnet_round(n, 0.05f, 0); }
static void depth_multiplied(qnet *n) { qnet_conv(n, (qconv){.out = 8, .kernel = 3, .group = 4, .stride = 2, .pads = {1, 1, 1, 1}}, 0.01f); qnet_round(n, OUT, 128); }
static void relu6(qnet *n) { qnet_conv(n, (qconv){.out = 5, .kernel = 3}, 0.02f); qnet_node(n, OP_CLIP, &(clip_attrs){0, 6}); qnet_round(n, 0.04f, 10); }
static void clip(qnet *n) { qnet_node(n, OP_CLIP, &(clip_attrs){-0.5, 0.75}); qnet_round(n, 0.02f, 128); }
static void clip_nothing(qnet *n) { qnet_node(n, OP_CLIP, &(clip_attrs){-INFINITY, INFINITY}); qnet_relu(n); qnet_round(n, 0.02f, 0); }
static void clip_implied(qnet *n) { qnet_node(n, OP_CLIP, &(clip_attrs){0, 9}); qnet_round(n, 0.02f, 0); }
static void clip_below(qnet *n) { qnet_node(n, OP_CLIP, &(clip_attrs){-INFINITY, 0.5}); qnet_round(n, 0.02f, 128); }
static void relu_alone(qnet *n) { qnet_relu(n); qnet_round(n, 0.01f, 0); }

static void residual(qnet *n)
{
    value_id x = n->v;
    qnet_conv(n, (qconv){.out = 4, .kernel = 3, .pads = {1, 1, 1, 1}}, 0.005f);
    qnet_round(n, OUT, 128);
    qnet_two(n, OP_ADD, x, NULL);
    qnet_relu(n);
    qnet_round(n, 0.05f, 0);
}

static value_id per_channel(qnet *n)
{
    value_id c;
    OK(graph_add_data(n->g, "per_channel", VALUE_CONST, DTYPE_F32, SHAPE(4, 1, 1), (float[]){0.5f, -1, 2, 0.25f}, &c));
    return c;
}
static void add_const(qnet *n) { qnet_two(n, OP_ADD, per_channel(n), NULL); }
static void mul_const(qnet *n) { qnet_two(n, OP_MUL, per_channel(n), NULL); }
static void sub_const(qnet *n) { qnet_two(n, OP_SUB, per_channel(n), NULL); }
static void div_const(qnet *n) { qnet_two(n, OP_DIV, per_channel(n), NULL); }

static const int64_t two[2] = {2, 2}, three[2] = {3, 3}, one[2] = {1, 1}, pads1[4] = {1, 1, 1, 1};
#define POOL(k, s) {.kernel_shape = {2, (k)}, .strides = {2, (s)}, .dilations = {2, one}}
static void max_pool(qnet *n) { qnet_node(n, OP_MAX_POOL, &(pool_attrs)POOL(two, two)); }
static void max_pool_padded(qnet *n) { pool_attrs a = POOL(three, two); a.pads = (attr_ints){4, pads1}; qnet_node(n, OP_MAX_POOL, &a); }
static void max_pool_ceil(qnet *n) { pool_attrs a = POOL(three, two); a.ceil_mode = 1; qnet_node(n, OP_MAX_POOL, &a); }
static void average_pool(qnet *n) { qnet_node(n, OP_AVERAGE_POOL, &(pool_attrs)POOL(three, two)); qnet_round(n, 1 / 50.0f, 128); }
static void average_pool_padded(qnet *n) { pool_attrs a = POOL(three, two); a.pads = (attr_ints){4, pads1}; a.count_include_pad = 1; qnet_node(n, OP_AVERAGE_POOL, &a); qnet_round(n, 1 / 50.0f, 128); }
static void average_pool_same(qnet *n) { pool_attrs a = POOL(three, one); a.pads = (attr_ints){4, pads1}; qnet_node(n, OP_AVERAGE_POOL, &a); qnet_round(n, 1 / 70.0f, 128); }
static void global_pool(qnet *n) { qnet_node(n, OP_GLOBAL_AVERAGE_POOL, NULL); qnet_round(n, 0.005f, 128); }
static void global_max(qnet *n) { qnet_node(n, OP_GLOBAL_MAX_POOL, NULL); }
static void reduce_mean(qnet *n) { qnet_node(n, OP_REDUCE_MEAN, &(reduce_attrs){.axes = {2, (const int64_t[]){2, 3}}}); qnet_round(n, 0.005f, 128); }
static void flat_gemm(qnet *n) { qnet_node(n, OP_FLATTEN, &(axis_attrs){1}); qnet_gemm(n, 7, true, 0.002f); qnet_round(n, OUT, 128); }
static void flat_relu_gemm(qnet *n) { qnet_node(n, OP_FLATTEN, &(axis_attrs){1}); qnet_relu(n); qnet_round(n, 1 / 50.0f, 0); qnet_gemm(n, 7, false, 0.002f); qnet_round(n, OUT, 128); }
static void flat_out(qnet *n) { qnet_node(n, OP_FLATTEN, &(axis_attrs){1}); }
static void gemm(qnet *n) { qnet_gemm(n, 9, true, 0.005f); qnet_relu(n); qnet_round(n, 0.02f, 0); qnet_gemm(n, 3, false, 0.01f); qnet_round(n, OUT, 128); }
static void pool_gemm(qnet *n) { qnet_node(n, OP_GLOBAL_AVERAGE_POOL, NULL); qnet_round(n, 0.005f, 128); flat_gemm(n); }
static void reshape(qnet *n) { qnet_node(n, OP_RESHAPE, &(reshape_attrs){.shape = {3, (const int64_t[]){0, 2, -1}}}); }
static void reshape_image(qnet *n) { qnet_node(n, OP_RESHAPE, &(reshape_attrs){.shape = {4, (const int64_t[]){-1, 8, 4, 4}}}); same(n); }
static void transpose(qnet *n) { qnet_node(n, OP_TRANSPOSE, &(transpose_attrs){{4, (const int64_t[]){0, 2, 1, 3}}}); }
static void pad(qnet *n) { qnet_node(n, OP_PAD, &(pad_attrs){.pads = {8, (const int64_t[]){0, 0, 1, 0, 0, 0, 2, 3}}}); }
static void pad_value(qnet *n) { qnet_node(n, OP_PAD, &(pad_attrs){.pads = {8, (const int64_t[]){0, 1, 1, 0, 0, 0, 0, 3}}, .constant_value = 0.5}); }
static void concat(qnet *n) { value_id x = n->v; qnet_relu(n); qnet_round(n, 1 / 50.0f, 128); qnet_two(n, OP_CONCAT, x, &(axis_attrs){1}); }
static void concat_rescaled(qnet *n) { value_id x = n->v; qnet_relu(n); qnet_round(n, 0.01f, 0); qnet_two(n, OP_CONCAT, x, &(axis_attrs){1}); qnet_round(n, 0.03f, 120); }
static void nearest(qnet *n) { qnet_node(n, OP_RESIZE, &(resize_attrs){.mode = RESIZE_NEAREST, .coordinate_transformation_mode = COORD_ASYMMETRIC, .nearest_mode = NEAREST_FLOOR, .scales = {4, (const double[]){1, 1, 2, 3}}}); }
static void nearest_half(qnet *n) { qnet_node(n, OP_RESIZE, &(resize_attrs){.mode = RESIZE_NEAREST, .coordinate_transformation_mode = COORD_HALF_PIXEL, .nearest_mode = NEAREST_ROUND_PREFER_FLOOR, .scales = {4, (const double[]){1, 1, 2, 2}}}); }
static void softmax(qnet *n) { qnet_node(n, OP_SOFTMAX, &(axis_attrs){1}); qnet_round(n, 1 / 256.0f, 0); }
static void sigmoid(qnet *n) { qnet_node(n, OP_SIGMOID, NULL); qnet_round(n, 1 / 256.0f, 0); }
static void tanh_(qnet *n) { qnet_node(n, OP_TANH, NULL); qnet_round(n, 1 / 128.0f, 128); }
static void hard_swish(qnet *n) { qnet_node(n, OP_HARD_SWISH, NULL); qnet_round(n, 0.02f, 100); }
static void leaky(qnet *n) { qnet_node(n, OP_LEAKY_RELU, &(alpha_attrs){0.1}); qnet_round(n, 0.02f, 100); }
static void identity(qnet *n) { qnet_node(n, OP_IDENTITY, NULL); same(n); }

static void squeeze_gate(qnet *n) /* squeeze and excitation: a product with [N, C, 1, 1] */
{
    value_id x = n->v;
    qnet_node(n, OP_GLOBAL_AVERAGE_POOL, NULL);
    qnet_round(n, 0.005f, 128);
    qnet_conv(n, (qconv){.out = 4, .kernel = 1}, 0.01f);
    qnet_round(n, 0.02f, 128);
    qnet_node(n, OP_SIGMOID, NULL);
    qnet_round(n, 1 / 256.0f, 0);
    qnet_two(n, OP_MUL, x, NULL);
    qnet_round(n, 0.02f, 128);
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

#define IMAGE {4, {2, 4, 9, 8}}
#define ROWS {2, {2, 13}}
static const net_case cases[] = {
    {"same", IMAGE, same}, {"strided", IMAGE, strided}, {"lopsided", IMAGE, lopsided}, {"valid", IMAGE, valid},
    {"no_bias_relu", IMAGE, no_bias_relu}, {"per_tensor", IMAGE, per_tensor}, {"dilated", IMAGE, dilated}, {"grouped", IMAGE, grouped},
    {"depthwise", IMAGE, depthwise}, {"depth_multiplied", IMAGE, depth_multiplied}, {"relu6", IMAGE, relu6},
    {"clip", IMAGE, clip}, {"clip_nothing", IMAGE, clip_nothing}, {"clip_implied", IMAGE, clip_implied},
    {"clip_below", IMAGE, clip_below}, {"relu_alone", IMAGE, relu_alone}, {"residual", IMAGE, residual},
    {"add_const", IMAGE, add_const}, {"mul_const", IMAGE, mul_const}, {"sub_const", IMAGE, sub_const}, {"div_const", IMAGE, div_const},
    {"max_pool", IMAGE, max_pool}, {"max_pool_padded", IMAGE, max_pool_padded}, {"max_pool_ceil", IMAGE, max_pool_ceil},
    {"average_pool", IMAGE, average_pool}, {"average_pool_padded", IMAGE, average_pool_padded},
    {"average_pool_same", IMAGE, average_pool_same}, {"global_pool", IMAGE, global_pool}, {"global_max", IMAGE, global_max},
    {"reduce_mean", IMAGE, reduce_mean}, {"flat_gemm", IMAGE, flat_gemm}, {"flat_relu_gemm", IMAGE, flat_relu_gemm},
    {"flat_out", IMAGE, flat_out}, {"gemm", ROWS, gemm}, {"pool_gemm", IMAGE, pool_gemm}, {"reshape", IMAGE, reshape},
    {"reshape_image", {2, {2, 128}}, reshape_image}, {"transpose", IMAGE, transpose}, {"pad", IMAGE, pad},
    {"pad_value", IMAGE, pad_value}, {"concat", IMAGE, concat}, {"concat_rescaled", IMAGE, concat_rescaled},
    {"nearest", IMAGE, nearest}, {"nearest_half", IMAGE, nearest_half}, {"softmax", ROWS, softmax}, {"softmax_image", IMAGE, softmax},
    {"sigmoid", IMAGE, sigmoid}, {"tanh", IMAGE, tanh_}, {"hard_swish", IMAGE, hard_swish}, {"leaky", IMAGE, leaky},
    {"identity", IMAGE, identity}, {"squeeze_gate", IMAGE, squeeze_gate}, {"batch_norm", IMAGE, batch_norm},
};
enum { N_CASE = sizeof cases / sizeof *cases };

/* ---- files for the script that runs LiteRT ---- */

static void write_image(const char *path, const float *x, const shape *sh)
{
    int64_t n = shape_count(sh);
    float *to = malloc((size_t)n * sizeof *to);
    ck_assert_ptr_nonnull(to);
    for (int64_t i = 0, k = 0; i < n; i++) {
        int64_t from = i;
        if (sh->rank == 4) { /* i counts [N, H, W, C] */
            int64_t c = i % sh->dim[1], px = i / sh->dim[1], hw = sh->dim[2] * sh->dim[3];
            from = (px / hw * sh->dim[1] + c) * hw + px % hw;
        }
        to[k++] = x[from];
    }
    OK(io_write_file(path, to, (size_t)n * sizeof *to));
    free(to);
}

/* NAME.tflite, NAME.in, NAME.want in dir; a line of `list`: name, largest difference (absolute; relative to the outputs'
 * largest in float), share of outputs that may differ at all. */
static void put_case(const char *dir, text *list, const char *name, const graph *g, const tflite_options *o, float lo, float hi,
                     double tolerance, double share)
{
    float *x, *y;
    char file[128];
    tflite_facts facts;
    text bytes = {0}, again = {0};
    OK(tflite_write(g, o, &bytes, &facts));
    OK(tflite_write(g, o, &again, NULL));
    ck_assert_uint_eq(bytes.n, again.n);
    ck_assert_int_eq(memcmp(bytes.s, again.s, bytes.n), 0);
    snprintf(file, sizeof file, "%s.tflite", name);
    OK(io_write_file(test_path(dir, file), bytes.s, bytes.n));
    qnet_run(g, 3, lo, hi, 0, &x, &y, false);
    snprintf(file, sizeof file, "%s.in", name);
    write_image(test_path(dir, file), x, &graph_value(g, g->input[0])->sh);
    snprintf(file, sizeof file, "%s.want", name);
    write_image(test_path(dir, file), y, &graph_value(g, g->output[0])->sh);
    text_printf(list, "%s %d %.9g %.9g\n", name, (int)graph_value(g, g->input[0])->sh.dim[0], tolerance, share);
    mem_free(x);
    mem_free(y);
    text_free(&bytes);
    text_free(&again);
}

/* Loading runs the FlatBuffers verifier of TFLite's schema: that it does is seen from broken copies, which it must refuse by name.
 * Then what TFLite's stricter verifier (tensorflow/lite/tools/verifier.h) demands beyond, from the schema's own Python classes:
 * indices in range, constants of the size of their shape, each tensor written once and before it is read, quantisation that fits. */
static const char verifier[] =
    "import struct, numpy as np\n"
    "from ai_edge_litert import schema_py_generated as S\n"
    "from ai_edge_litert.interpreter import Interpreter, OpResolverType as R\n"
    "SIZE = {S.TensorType.FLOAT32: 4, S.TensorType.INT8: 1, S.TensorType.UINT8: 1, S.TensorType.INT32: 4, S.TensorType.INT64: 8, S.TensorType.BOOL: 1}\n"
    "REFUSED = 'not a valid Flatbuffer'\n"
    "def load(b):\n"
    "    try: Interpreter(model_content=bytes(b), experimental_op_resolver_type=R.BUILTIN_REF); return ''\n"
    "    except Exception as e: return str(e)\n"
    "def broken(b):\n"
    "    root, = struct.unpack_from('<I', b, 0); vtable = root - struct.unpack_from('<i', b, root)[0]\n"
    "    fields = [struct.unpack_from('<H', b, vtable + 4 + 2 * i)[0] for i in range((struct.unpack_from('<H', b, vtable)[0] - 4) // 2)]\n"
    "    def put(at, v):\n"
    "        c = bytearray(b); struct.pack_into('<I', c, at, v); return c\n"
    "    yield put(0, len(b) + 4); yield put(4, 0x58585858); yield put(root, 0x70000000); yield b[:len(b) // 2]; yield b[:-4]\n"
    "    for f in fields[1:3] + fields[4:5]:\n" /* operator_codes, subgraphs, buffers: their offset, then their length */
    "        at = root + f; yield put(at, len(b)); yield put(at + struct.unpack_from('<I', b, at)[0], 0x10000000)\n"
    "def verify(b):\n"
    "    assert load(b) == '', load(b)\n"
    "    for i, c in enumerate(broken(b)): assert REFUSED in load(c), f'broken copy {i} is not refused: {load(c)!r}'\n"
    "    m = S.ModelT.InitFromPackedBuf(b, 0); g, = m.subgraphs; made = set(g.inputs)\n"
    "    assert m.version == 3 and m.buffers[0].data is None\n"
    "    size = lambda t: int(np.prod(t.shape, dtype=np.int64)) * SIZE[t.type]\n"
    "    data = lambda t: m.buffers[t.buffer].data\n"
    "    for i, t in enumerate(g.tensors):\n"
    "        assert 0 <= t.buffer < len(m.buffers), f'{t.name}: buffer'\n"
    "        if data(t) is not None: assert len(data(t)) == size(t), f'{t.name}: {len(data(t))} bytes for shape {t.shape}'; made.add(i); assert i not in g.inputs\n"
    "        q = t.quantization\n"
    "        if q and q.scale is not None:\n"
    "            n = len(q.scale); z = [0] * n if q.zeroPoint is None else q.zeroPoint\n"
    "            assert len(z) == n and (n == 1 or n == t.shape[q.quantizedDimension]), f'{t.name}: {n} scales'\n"
    "            assert all(np.isfinite(v) and v > 0 for v in q.scale), f'{t.name}: scale'\n"
    "            assert t.type != S.TensorType.INT8 or all(-128 <= v <= 127 for v in z), f'{t.name}: zero point'\n"
    "            assert t.type != S.TensorType.INT32 or not any(z), f'{t.name}: zero point of a bias'\n"
    "        assert t.type != S.TensorType.INT8 or (q and q.scale is not None), f'{t.name}: int8 without a scale'\n"
    "    for o in g.operators:\n"
    "        assert 0 <= o.opcodeIndex < len(m.operatorCodes)\n"
    "        for i in o.inputs: assert i == -1 or i in made, 'an operator reads what nobody made'\n"
    "        for i in o.outputs: assert 0 <= i < len(g.tensors) and i not in made, 'a tensor is written twice'; made.add(i)\n"
    "    assert all(i in made for i in g.outputs) and made == set(range(len(g.tensors))), 'tensors that nobody uses'\n";

static const char script[] =
    "import sys, numpy as np\n"
    "from ai_edge_litert.interpreter import Interpreter, OpResolverType as R\n"
    "from verifier import verify\n"
    "d, bad = sys.argv[1], 0\n"
    "for line in open(d + '/list'):\n"
    "    name, batch, tol, share = line.split()\n"
    "    try: verify(open(f'{d}/{name}.tflite', 'rb').read())\n"
    "    except Exception as x: bad += 1; print('BAD', name, 'verifier', str(x)[:400])\n"
    "    for kind, r in (('xnnpack', R.AUTO), ('builtin', R.BUILTIN_WITHOUT_DEFAULT_DELEGATES), ('reference', R.BUILTIN_REF)):\n"
    "        try:\n"
    "            i = Interpreter(f'{d}/{name}.tflite', experimental_op_resolver_type=r, num_threads=1)\n"
    "            a = i.get_input_details()[0]; b = i.get_output_details()[0]\n"
    "            shape = list(a['shape']); sig = list(a['shape_signature'])\n"
    "            if sig[0] == -1: shape[0] = int(batch); i.resize_tensor_input(a['index'], shape, strict=True)\n"
    "            i.allocate_tensors()\n"
    "            x = np.fromfile(f'{d}/{name}.in', np.float32).reshape(shape)\n"
    "            if a['dtype'] == np.int8: x = np.clip(np.rint(x / np.float32(a['quantization'][0])) + a['quantization'][1], -128, 127).astype(np.int8)\n"
    "            i.set_tensor(a['index'], x); i.invoke()\n"
    "            y = i.get_tensor(b['index']).ravel().astype(np.float64)\n"
    "            if name.endswith('_ports'): assert a['dtype'] == np.int8 and b['dtype'] == np.int8, 'ports are not int8'\n"
    "            if b['dtype'] == np.int8: y = (y - b['quantization'][1]) * b['quantization'][0]\n"
    "            w = np.fromfile(f'{d}/{name}.want', np.float32).astype(np.float64)\n"
    "            e = np.abs(y - w); ok = e.size == w.size and e.max() <= float(tol) * 1.001 and (e > 1e-6 * np.abs(w).max()).mean() <= float(share)\n"
    "            if not ok: bad += 1; print('BAD', name, kind, 'error', e.max(), 'tolerance', tol, 'differ', (e > 1e-6).mean(), 'of', share)\n"
    "        except Exception as x:\n"
    "            bad += 1; print('BAD', name, kind, str(x)[:400])\n"
    "print('bad', bad)\n"
    "sys.exit(bad != 0)\n";

static void judge(const char *dir, text *list, const char *test)
{
    char command[4096];
    const char *python = test_python("ai_edge_litert");
    OK(io_write_file(test_path(dir, "list"), list->s, list->n));
    text_free(list);
    if (!python) {
        test_skip(test, "no python with ai_edge_litert (tools/setup test brings it; DISTILL_PYTHON names one)");
        return;
    }
    save_text(dir, "verifier.py", verifier);
    snprintf(command, sizeof command, "'%s' '%s' '%s' 2>'%s' || { tail -5 '%s'; exit 1; }", python, save_text(dir, "litert.py", script),
             dir, test_path(dir, "err"), test_path(dir, "err"));
    fflush(stdout);
    ck_assert_msg(system(command) == 0, "LiteRT disagrees, see above");
}

START_TEST(float_operators_in_litert)
{
    const char *dir = test_tmp_dir();
    text list = {0};
    for (size_t i = 0; i < N_CASE; i++) {
        qnet n = qnet_new(DTYPE_NONE, false, cases[i].in, 1, 0, i);
        cases[i].build(&n);
        graph *g = qnet_end(&n);
        put_case(dir, &list, cases[i].name, g, NULL, -2.5f, 2.5f, 2e-5, 1);
        graph_free(g);
    }
    judge(dir, &list, "float_operators_in_litert");
}
END_TEST

/* One step of the result's scale at most, and not often. */
static void quantised(dtype act, const char *test)
{
    const char *dir = test_tmp_dir();
    text list = {0};
    for (size_t i = 0; i < N_CASE; i++) {
        qnet n = qnet_new(act, false, cases[i].in, 1 / 50.0f, 128, i);
        cases[i].build(&n);
        double step = (double)n.scale;
        graph *g = qnet_end(&n);
        put_case(dir, &list, cases[i].name, g, NULL, -2.5f, 2.5f, step, 0.15);
        if (cases[i].build == residual)
            put_case(dir, &list, "int8_ports", g, &(tflite_options){.int8_ports = true}, -2.5f, 2.5f, step, 0.15);
        graph_free(g);
    }
    judge(dir, &list, test);
}

START_TEST(uint8_operators_in_litert)
{
    quantised(DTYPE_U8, "uint8_operators_in_litert");
}
END_TEST

START_TEST(int8_operators_in_litert)
{
    quantised(DTYPE_I8, "int8_operators_in_litert");
}
END_TEST

/* ---- a whole student ---- */

START_TEST(resnet_in_litert)
{
    const char *ini = "[student]\narch = resnet\ndepth = 8\nwidths = 8 12 16\n", *dir = test_tmp_dir();
    job *j = NULL;
    graph *g = NULL;
    text list = {0};
    store params = {0};
    OK(config_load_text("model", ini, strlen(ini), &(config_sources){0}, &j));
    student_spec s = {.job = j, .classes = 10, .sample = SHAPE(3, 17, 16)};
    OK(student_build(&s, 3, &g));
    FAILS(ST_INTERNAL, "weights as constants", tflite_write(g, NULL, &list, NULL));
    OK(store_add_graph(&params, g));
    OK(store_bake(&params, g));
    OK(pass_fold_batch_norm(g));
    OK(pass_dead_nodes(g));
    g->n_output = 1;
    put_case(dir, &list, "resnet", g, NULL, -2, 2, 1e-4, 1);
    put_case(dir, &list, "fixed", g, &(tflite_options){.fixed_batch = true}, -2, 2, 1e-4, 1);
    store_free(&params);
    graph_free(g);
    config_free(j);
    judge(dir, &list, "resnet_in_litert");
}
END_TEST

/* ---- the command ---- */

START_TEST(export_writes_tflite)
{
    const char *dir = test_tmp_dir(), *onnx = test_path(dir, "m.onnx");
    export_pair meta = {"distill.input", "pixel/256"};
    qnet n = qnet_new(DTYPE_U8, false, (shape)IMAGE, 1 / 50.0f, 128, 1);
    residual(&n);
    graph *g = qnet_end(&n);
    text want = {0};
    unsigned char *got;
    size_t size;
    OK(onnx_export_file(g, &(export_options){.meta = &meta, .n_meta = 1}, onnx));
    OK(tflite_write(g, &(tflite_options){.meta = &meta, .n_meta = 1}, &want, NULL));
    ran r = program_run(&(program_options){0}, ARGS("export", onnx));
    ck_assert_msg(r.code == 0, "%s", r.err);
    ck_assert_ptr_nonnull(strstr(r.out, "any batch"));
    ck_assert_ptr_nonnull(strstr(r.out, "4 operators, 3 of them int8"));
    ran_free(&r);
    OK(io_read_file(test_path(dir, "m.tflite"), 1 << 20, &got, &size));
    ck_assert_uint_eq(size, want.n); /* the same from the graph and from its ONNX file */
    ck_assert_ptr_nonnull(memmem(got, size, "pixel/256", 9));
    mem_free(got);
    r = program_run(&(program_options){0}, ARGS("export", "--json", "--batch", "4", "--out", test_path(dir, "four.tflite"), onnx));
    ck_assert_int_eq(r.code, 0);
    ck_assert_ptr_nonnull(strstr(r.out, "\"dynamic_batch\":false,\"batch\":4"));
    ran_free(&r);
    r = program_run(&(program_options){0}, ARGS("export", "--out", test_path(dir, "m.bin"), onnx));
    ck_assert_int_eq(r.code, 64);
    ran_free(&r);
    text_free(&want);
    graph_free(g);
}
END_TEST

/* ---- the bytes ---- */

static uint32_t u32_at(const text *t, size_t at)
{
    uint32_t v;
    ck_assert_uint_le(at + 4, t->n);
    memcpy(&v, t->s + at, 4);
    return v;
}

START_TEST(tables_strings_and_vectors)
{
    flatbuffer b;
    fb_begin(&b);
    fb_ref s = fb_string(&b, "abc"), v = fb_vector(&b, (const int64_t[]){5, 6}, 2, 8, 16);
    fb_ref table[2];
    for (int i = 0; i < 2; i++) {
        fb_table_begin(&b);
        fb_put_i32(&b, 0, 7 + i, 0);
        fb_put_i8(&b, 1, 0, 0); /* its default: left out */
        fb_put_ref(&b, 2, s);
        fb_put_ref(&b, 3, v);
        table[i] = fb_table_end(&b);
    }
    ck_assert_uint_eq(b.n_vtable, 1); /* both share one */
    OK(fb_finish(&b, table[1], "TEST"));
    text t = {0};
    text_add_n(&t, b.at + b.cap - b.used, b.used);
    ck_assert_int_eq(memcmp(t.s + 4, "TEST", 4), 0);
    ck_assert_uint_eq(t.n % 16, 0);
    size_t root = u32_at(&t, 0), vtable = (size_t)((int64_t)root - (int32_t)u32_at(&t, root)); /* it may lie behind */
    uint16_t entry[6];
    memcpy(entry, t.s + vtable, sizeof entry);
    ck_assert_uint_eq(entry[0], 12);
    ck_assert_uint_eq(entry[3], 0);
    ck_assert_uint_eq(u32_at(&t, root + entry[2]), 8);
    size_t at = root + entry[4];
    at += u32_at(&t, at);
    ck_assert_uint_eq(u32_at(&t, at), 3);
    ck_assert_str_eq(t.s + at + 4, "abc");
    at = root + entry[5];
    at += u32_at(&t, at);
    ck_assert_uint_eq(u32_at(&t, at), 2);
    ck_assert_uint_eq((at + 4) % 16, 0);
    ck_assert_uint_eq(u32_at(&t, at + 4), 5);
    text_free(&t);
    fb_free(&b);
}
END_TEST

START_TEST(sizes_are_bounded)
{
    flatbuffer b;
    char byte = 0;
    fb_begin(&b);
    b.limit = 1000;
    fb_ref kept = fb_vector(&b, (char[600]){0}, 600, 1, 1);
    ck_assert_uint_ne(kept, 0);
    ck_assert_uint_eq(fb_vector(&b, (char[600]){0}, 600, 1, 1), 0);
    FAILS(ST_BAD_DATA, "would be larger", fb_finish(&b, kept, "TEST"));
    fb_free(&b);
    const size_t hostile[] = {SIZE_MAX, SIZE_MAX - 3, (size_t)INT32_MAX, (size_t)INT32_MAX - 4, (size_t)1 << 32, SIZE_MAX / 8 + 1};
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++)
        for (size_t size = 1; size <= 8; size *= 8) {
            fb_begin(&b);
            ck_assert_uint_eq(fb_vector(&b, &byte, hostile[i], size, 16), 0); /* nothing of it is read */
            FAILS(ST_BAD_DATA, "would be larger", fb_finish(&b, 0, "TEST"));
            fb_free(&b);
        }
}
END_TEST

START_TEST(what_is_refused)
{
    text t = {0};
    qnet n = qnet_new(DTYPE_NONE, false, SHAPE(1, 4, 6, 6), 1, 0, 1);
    qnet_node(&n, OP_ERF, NULL);
    FAILS(ST_BAD_DATA, "node 'Erf0' (Erf): is not written to TFLite files", tflite_write(qnet_end(&n), NULL, &t, NULL));
    ck_assert_uint_eq(t.n, 0);
    graph_free(n.g);
    n = qnet_new(DTYPE_NONE, false, SHAPE(1, 4, 6, 6), 1, 0, 1);
    qnet_node(&n, OP_RESIZE, &(resize_attrs){.mode = RESIZE_LINEAR, .scales = {4, (const double[]){1, 1, 2, 2}}});
    FAILS(ST_BAD_DATA, "only mode = nearest", tflite_write(qnet_end(&n), NULL, &t, NULL));
    graph_free(n.g);
    n = qnet_new(DTYPE_NONE, false, SHAPE(1, 4, 6), 1, 0, 1);
    value_id w;
    OK(graph_add_data(n.g, "w", VALUE_CONST, DTYPE_F32, SHAPE(2, 4, 3), (float[24]){0}, &w));
    OK(graph_add1(n.g, OP_CONV, NULL, n.v, w, 0, &n.v));
    FAILS(ST_BAD_DATA, "give the data a dimension of 1", tflite_write(qnet_end(&n), NULL, &t, NULL));
    graph_free(n.g);
    n = qnet_new(DTYPE_NONE, false, SHAPE(1, 4, 6, 6), 1, 0, 1);
    same(&n);
    FAILS(ST_CANNOT_CREATE, "", tflite_write_file(qnet_end(&n), NULL, "/nonexistent/m.tflite"));
    graph_free(n.g);
    text_free(&t);
}
END_TEST

/* Every allocation on the way fails once: no crash, nothing kept, nothing half written. */
START_TEST(memory_runs_out)
{
    qnet n = qnet_new(DTYPE_U8, false, (shape)IMAGE, 1 / 50.0f, 128, 1);
    residual(&n);
    flat_relu_gemm(&n);
    graph *g = qnet_end(&n);
    uint64_t at = 1;
    status st = ST_OOM;
    for (; st == ST_OOM && at < 10000; at++) {
        text t = {0};
        mem_fail_at(at, true);
        st = tflite_write(g, NULL, &t, NULL);
        mem_fail_at(0, true);
        ck_assert(st == ST_OK || (st == ST_OOM && t.n == 0));
        text_free(&t);
    }
    OK(st);
    ck_assert_uint_gt(at, 20);
    graph_free(g);
}
END_TEST

const test_entry test_table[] = {TEST(tables_strings_and_vectors), TEST(sizes_are_bounded), TEST(what_is_refused), TEST(memory_runs_out),
                                 TEST(float_operators_in_litert), TEST(uint8_operators_in_litert), TEST(int8_operators_in_litert),
                                 TEST(resnet_in_litert), TEST(export_writes_tflite), {0}};
