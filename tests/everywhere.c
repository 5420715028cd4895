/* everywhere.c - see everywhere.h. */
#include "everywhere.h"

#include "base/io.h"
#include "data_files.h"
#include "exec/exec.h"
#include "harness.h"
#include "onnx/export.h"
#include "tflite/write.h"

#include <stdio.h>
#include <stdlib.h>

everywhere everywhere_begin(void)
{
    return (everywhere){.dir = test_tmp_dir()};
}

/* ---- here ---- */

/* Caller frees with mem_free. */
static float *run_here(const graph *g, const float *x, bool integers, size_t *products)
{
    backend *b = NULL;
    exec *e = NULL;
    graph *ran = NULL;
    float *y;
    OK(backend_open("cpu", &(backend_options){.threads = 1, .max_isa = integers ? ISA_AVX512 : ISA_REF}, &b));
    OK(graph_clone(g, &ran));
    if (integers) {
        OK(pass_drop_identity(ran));
        OK(pass_integer_groups(ran));
        OK(pass_fuse_epilogues(ran));
        for (size_t k = 1; k < ran->n_node; k++)
            *products += ran->node[k].op == OP_QLINEAR_CONV || ran->node[k].op == OP_QGEMM;
    }
    OK(exec_open(ran, b, NULL, 0, &e));
    int64_t n_x = shape_count(&graph_value(ran, ran->input[0])->sh), n_y = shape_count(&graph_value(ran, ran->output[0])->sh);
    OK(mem_alloc(&y, (size_t)n_y, sizeof *y));
    memcpy(exec_data(e, ran->input[0]), x, (size_t)n_x * sizeof *x);
    OK(exec_run(e, PHASE_MAIN));
    memcpy(y, exec_data(e, ran->output[0]), (size_t)n_y * sizeof *y);
    exec_close(e);
    graph_free(ran);
    backend_close(b);
    return y;
}

/* Images also as [N, H, W, C], what TFLite has. */
static void save_numbers(const everywhere *e, const char *name, const char *end, const float *x, const shape *sh, bool nhwc)
{
    char file[96];
    nhwc = nhwc && sh->rank == 4;
    int64_t n = shape_count(sh), hw = nhwc ? sh->dim[2] * sh->dim[3] : 1, c = nhwc ? sh->dim[1] : 1;
    float *to = malloc((size_t)n * sizeof *to);
    ck_assert_ptr_nonnull(to);
    for (int64_t i = 0; i < n; i++)
        to[i] = nhwc ? x[(i / c / hw * c + i % c) * hw + i / c % hw] : x[i];
    snprintf(file, sizeof file, "%s.%s", name, end);
    OK(io_write_file(test_path(e->dir, file), to, (size_t)n * sizeof *to));
    free(to);
}

void everywhere_add(everywhere *e, const char *name, const graph *g, const float *x, bool varied)
{
    char file[96];
    size_t before = e->why.n;
    const shape in = graph_value(g, g->input[0])->sh, out = graph_value(g, g->output[0])->sh;
    int64_t n = shape_count(&out), different = 0;
    float *y = run_here(g, x, false, NULL), *integers = run_here(g, x, true, &e->products);
    ck_assert_msg(memcmp(y, integers, (size_t)n * sizeof *y) == 0, "%s: the integer executor and the float one differ", name);
    for (int64_t i = 1; i < n; i++)
        different += y[i] != y[0];
    ck_assert_msg(different > 0 || !varied, "%s says nothing: all %g", name, (double)y[0]);
    snprintf(file, sizeof file, "%s.onnx", name);
    OK(onnx_export_file(g, NULL, test_path(e->dir, file)));
    OK(tflite_write_beside(g, NULL, test_path(e->dir, file), &e->why));
    bool tflite = e->why.n == before;
    e->no_tflite += !tflite;
    snprintf(file, sizeof file, "%s.opset21.onnx", name); /* onnx.reference has no DequantizeLinear of older opsets */
    OK(onnx_export_file(g, &(export_options){.opset = 21}, test_path(e->dir, file)));
    save_numbers(e, name, "in", x, &in, false);
    save_numbers(e, name, "nhwc", x, &in, true);
    save_numbers(e, name, "want", y, &out, false);
    save_numbers(e, name, "want_nhwc", y, &out, true);
    text_printf(&e->list, "%s %d", name, tflite);
    for (int i = 0; i < in.rank; i++)
        text_printf(&e->list, " %d", (int)in.dim[i]);
    text_add(&e->list, "\n");
    e->nets++;
    mem_free(y);
    mem_free(integers);
}

/* ---- the others ---- */

#define READ_LIST                                                                                                              \
    "import sys, numpy as np\n"                                                                                                \
    "d, bad, done = sys.argv[1], 0, 0\n"                                                                                       \
    "lines = [l.split() for l in open(d + '/list')]\n"                                                                         \
    "nets = [(l[0], l[1] == '1', [int(v) for v in l[2:]]) for l in lines]\n"                                                   \
    "def judge(name, engine, y, end='want'):\n"                                                                                \
    "    global bad, done\n"                                                                                                   \
    "    w = np.fromfile(f'{d}/{name}.{end}', np.float32); done += 1\n"                                                        \
    "    if y.ravel().tobytes() != w.tobytes():\n"                                                                             \
    "        bad += 1; print('DIFFERS', name, engine, (y.ravel() != w).sum() if y.size == w.size else y.shape, 'of', w.size)\n"

static const char onnx_script[] = READ_LIST
    "import onnxruntime as o\n"
    "L = o.GraphOptimizationLevel\n"
    "brief = len(sys.argv) > 2\n"
    "o.set_default_logger_severity(3)\n"
    "for name, tflite, shape in nets:\n"
    "    x = np.fromfile(f'{d}/{name}.in', np.float32).reshape(shape)\n"
    "    for level in (L.ORT_ENABLE_ALL,) if brief else (L.ORT_DISABLE_ALL, L.ORT_ENABLE_BASIC, L.ORT_ENABLE_EXTENDED, L.ORT_ENABLE_ALL):\n"
    "        for precise in ('0',) if brief else ('0', '1'):\n"
    "            s = o.SessionOptions(); s.graph_optimization_level = level; s.intra_op_num_threads = 1\n"
    "            s.add_session_config_entry('session.x64quantprecision', precise)\n"
    "            judge(name, f'onnxruntime {level} {precise}', o.InferenceSession(f'{d}/{name}.onnx', s).run(None, {'x': x})[0])\n"
    "print(done, 'runs of ONNX Runtime' + ' on a Haswell' * brief, bad, 'differ'); sys.exit(bad != 0)\n";
static const char reference_script[] = READ_LIST
    "import onnx; from onnx.reference import ReferenceEvaluator\n"
    "for name, tflite, shape in nets:\n"
    "    onnx.checker.check_model(f'{d}/{name}.opset21.onnx', full_check=True)\n"
    "    x = np.fromfile(f'{d}/{name}.in', np.float32).reshape(shape)\n"
    "    judge(name, 'onnx.reference', ReferenceEvaluator(f'{d}/{name}.opset21.onnx').run(None, {'x': x})[0])\n"
    "print(done, 'runs of onnx.reference', bad, 'differ'); sys.exit(bad != 0)\n";
static const char litert_script[] = READ_LIST
    "from ai_edge_litert.interpreter import Interpreter, OpResolverType as R\n"
    "for name, tflite, shape in nets:\n"
    "    if not tflite: continue\n"
    "    if len(shape) == 4: shape = [shape[0], shape[2], shape[3], shape[1]]\n"
    "    x = np.fromfile(f'{d}/{name}.nhwc', np.float32).reshape(shape)\n"
    "    for kind, r in (('xnnpack', R.AUTO), ('builtin', R.BUILTIN_WITHOUT_DEFAULT_DELEGATES), ('reference', R.BUILTIN_REF)):\n"
    "        i = Interpreter(f'{d}/{name}.tflite', experimental_op_resolver_type=r, num_threads=1)\n"
    "        a = i.get_input_details()[0]['index']; i.resize_tensor_input(a, x.shape, strict=True); i.allocate_tensors()\n"
    "        i.set_tensor(a, x); i.invoke(); judge(name, kind, i.get_tensor(i.get_output_details()[0]['index']), 'want_nhwc')\n"
    "print(done, 'runs of LiteRT', bad, 'differ'); sys.exit(bad != 0)\n";

static void others(const everywhere *e, const char *test, const char *module, const char *code, const char *emulator)
{
    char command[4096], file[64], reason[128];
    const char *python = test_python(module), *err = test_path(e->dir, "err");
    snprintf(file, sizeof file, "run_%s.py", module); /* named after the module it would be that */
    if (!python) {
        snprintf(reason, sizeof reason, "no python with %s (tools/setup test brings it; DISTILL_PYTHON names one)", module);
        test_skip(test, reason);
        return;
    }
    snprintf(command, sizeof command, "%s '%s' '%s' '%s' %s 2>'%s' || { tail -5 '%s'; exit 1; }", emulator, python,
             save_text(e->dir, file, code), e->dir, *emulator ? "brief" : "", err, err);
    fflush(stdout);
    ck_assert_msg(system(command) == 0, "%s gives other bits, see above", module);
}

void everywhere_judge(everywhere *e, const char *test)
{
    OK(e->list.st);
    OK(io_write_file(test_path(e->dir, "list"), e->list.s, e->list.n));
    others(e, test, "onnxruntime", onnx_script, "");
    if (e->haswell && system("command -v qemu-x86_64 >/dev/null") != 0)
        test_skip(test, "there is no qemu-x86_64 (tools/packages, emulated)");
    else if (e->haswell)
        others(e, test, "onnxruntime", onnx_script, "qemu-x86_64 -cpu Haswell");
    others(e, test, "onnx", reference_script, "");
    others(e, test, "ai_edge_litert", litert_script, "");
    text_free(&e->list);
    text_free(&e->why);
}
