/* test_onnx_export.c - graphs as ONNX files: the same bytes again and again, every opset, what is refused, what ONNX's own
 * checker says. */
#include "base/io.h"
#include "config/config.h"
#include "data/npy.h"
#include "data_files.h"
#include "exec/exec.h"
#include "harness.h"
#include "onnx.pb-c.h"
#include "onnx/export.h"
#include "onnx/import.h"
#include "onnx_build.h"
#include "ops/attrs.h"
#include "student/student.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static graph *import_bytes(const void *data, size_t n, const import_options *o)
{
    onnx_model *m;
    graph *g;
    OK(onnx_open_bytes("m.onnx", data, n, NULL, &m));
    OK(onnx_import(m, o, &g));
    OK(graph_validate(g));
    onnx_close(m);
    return g;
}

static graph *import(model_builder *b, const import_options *o)
{
    text m = build_model(b);
    graph *g = import_bytes(m.s, m.n, o);
    text_free(&m);
    *b = (model_builder){0};
    return g;
}

static graph *network(int64_t batch)
{
    model_builder b = {0};
    build_network(&b);
    return import(&b, &(import_options){.batch = batch, .trainable = true});
}

static text export(const graph *g, const export_options *o)
{
    text t = {0};
    OK(onnx_export(g, o, &t));
    return t;
}

static bool same(const text *a, const text *b)
{
    return a->n == b->n && memcmp(a->s, b->s, a->n) == 0;
}

/* Export, import, export: the same bytes. */
static text round_trip(const graph *g, const export_options *o, int64_t batch)
{
    text once = export(g, o);
    graph *again = import_bytes(once.s, once.n, &(import_options){.batch = batch, .trainable = true});
    text twice = export(again, o);
    ck_assert_msg(same(&once, &twice), "the second export at opset %d differs", (int)o->opset);
    text_free(&twice);
    graph_free(again);
    return once;
}

START_TEST(every_opset)
{
    static const int64_t ir[] = {7, 7, 8, 8, 8, 8, 9, 9, 10};
    graph *g = network(4), *other = network(7);
    for (int64_t opset = 13; opset <= 21; opset++)
        for (int fixed = 0; fixed < 2; fixed++) {
            export_options o = {.opset = opset, .fixed_batch = fixed};
            onnx_model *m;
            text once = round_trip(g, &o, 4), with_other = export(other, &o);
            OK(onnx_open_bytes("m", once.s, once.n, NULL, &m));
            ck_assert_int_eq(m->proto->ir_version, ir[opset - 13]);
            ck_assert_int_eq(m->proto->opset_import[0]->version, opset);
            const Onnx__TensorShapeProto *x = m->proto->graph->input[0]->type->tensor_type->shape;
            const Onnx__TensorShapeProto *y = m->proto->graph->output[0]->type->tensor_type->shape;
            if (fixed) {
                ck_assert_int_eq(x->dim[0]->dim_value, 4);
                ck_assert_int_eq(y->dim[0]->dim_value, 4);
            } else {
                ck_assert_str_eq(x->dim[0]->dim_param, "batch");
                ck_assert_str_eq(y->dim[0]->dim_param, "batch");
                ck_assert(same(&once, &with_other)); /* the batch leaves no trace */
            }
            onnx_close(m);
            text_free(&once);
            text_free(&with_other);
        }
    graph_free(g);
    graph_free(other);
}
END_TEST

/* Names, metadata, producer; values from a store. */
START_TEST(contents)
{
    static const export_pair meta[] = {{"teacher", "abc"}, {"note", ""}};
    graph *g = network(2);
    store s = {0};
    OK(store_add_graph(&s, g));
    float *w = store_find(&s, "fc.w")->t.data;
    w[0] = 42;
    text t = export(g, &(export_options){.meta = meta, .n_meta = 2, .params = &s, .graph_name = "tiny"});
    onnx_model *m;
    OK(onnx_open_bytes("m", t.s, t.n, NULL, &m));
    const Onnx__ModelProto *p = m->proto;
    ck_assert_str_eq(p->producer_name, "distill");
    ck_assert_str_eq(p->producer_version, DISTILL_VERSION);
    ck_assert_str_eq(p->graph->name, "tiny");
    ck_assert_uint_eq(p->n_metadata_props, 2);
    ck_assert_str_eq(p->metadata_props[0]->key, "teacher");
    ck_assert_str_eq(p->metadata_props[0]->value, "abc");
    ck_assert_str_eq(p->metadata_props[1]->value, "");
    ck_assert_uint_eq(p->graph->n_node, 6);
    ck_assert_str_eq(p->graph->node[0]->name, "conv");
    ck_assert_str_eq(p->graph->node[0]->input[1], "conv.w");
    ck_assert_uint_eq(p->graph->node[1]->n_output, 1);
    onnx_close(m);
    graph *back = import_bytes(t.s, t.n, &(import_options){.batch = 2, .trainable = true});
    ck_assert_double_eq(dtype_load(DTYPE_F32, back->value[graph_find(back, "fc.w")].data, 0), 42);
    text_free(&t);
    /* a store that lacks something, or holds another shape */
    store empty = {0};
    FAILS(ST_INTERNAL, "'conv.w' is not in the store",
          onnx_export(g, &(export_options){.params = &empty}, &t));
    store_find(&s, "fc.w")->t.sh = SHAPE(18, 3);
    FAILS(ST_BAD_DATA, "'fc.w' is float32 [18, 3] in the store",
          onnx_export(g, &(export_options){.params = &s}, &t));
    text_free(&t);
    store_free(&s);
    graph_free(back);
    graph_free(g);
}
END_TEST

/* Attributes that became inputs are written as either, by opset. */
START_TEST(attribute_or_input)
{
    for (int64_t opset = 17; opset <= 18; opset++) {
        model_builder b = {0};
        text at = {0};
        build_input(&b, "x", DTYPE_F32, "N 3 4");
        ATTR_INTS_OF(&at, "axes", 1, 2);
        build_node(&b, "ReduceMean", "mean", "x", "y", &at);
        build_output(&b, "y", DTYPE_F32, NULL);
        graph *g = import(&b, &(import_options){.batch = 2});
        text t = round_trip(g, &(export_options){.opset = opset}, 2);
        onnx_model *m;
        OK(onnx_open_bytes("m", t.s, t.n, NULL, &m));
        const Onnx__NodeProto *n = m->proto->graph->node[0];
        ck_assert_uint_eq(n->n_input, opset == 17 ? 1 : 2);
        ck_assert_uint_eq(n->n_attribute, opset == 17 ? 1 : 0);
        if (opset == 18)
            ck_assert_str_eq(n->input[1], "mean_axes");
        onnx_close(m);
        text_free(&t);
        graph_free(g);
    }
}
END_TEST

/* The same token for every sample: Expand to the batch, with a shape that is read when the graph runs. */
START_TEST(token_follows_the_batch)
{
    model_builder b = {0};
    static const int64_t zero[1] = {0}, rest[2] = {1, 4};
    text at = {0};
    build_input(&b, "x", DTYPE_F32, "N 3 4");
    build_floats(&b, "token", "1 1 4", 0.5F, 0.5F);
    build_ints(&b, "i", zero, 1);
    build_ints(&b, "rest", rest, 2);
    build_node(&b, "Shape", "s", "x", "shape", NULL);
    build_node(&b, "Gather", "g", "shape i", "n", NULL);
    attr_int(&at, "axis", 0);
    build_node(&b, "Concat", "c", "n rest", "to", &at);
    build_node(&b, "Expand", "e", "token to", "tokens", NULL);
    attr_int(&at, "axis", 1);
    build_node(&b, "Concat", "cat", "tokens x", "y", &at);
    build_output(&b, "y", DTYPE_F32, NULL);
    graph *g = import(&b, &(import_options){.batch = 3, .trainable = true});
    ck_assert_int_eq(g->value[graph_find(g, "token")].kind, VALUE_PARAM);
    text t = round_trip(g, NULL, 3);
    graph *other = import_bytes(t.s, t.n, &(import_options){.batch = 11});
    shape want = SHAPE(11, 4, 4);
    ck_assert(shape_equal(&other->value[other->output[0]].sh, &want));
    text_free(&t);
    graph_free(other);
    graph_free(g);
}
END_TEST

/* ---- what is refused ---- */

static graph *one_node(const char *op, int64_t opset, text *attrs, const char *in)
{
    model_builder b = {.opset = opset};
    build_input(&b, "x", DTYPE_F32, "N 4");
    build_floats(&b, "w", "4", 1, 0);
    build_node(&b, op, "it", in, "y", attrs);
    build_output(&b, "y", DTYPE_F32, NULL);
    return import(&b, &(import_options){.batch = 2});
}

START_TEST(refused)
{
    text t = {0}, at = {0};
    graph *g = one_node("LayerNormalization", 17, NULL, "x w");
    FAILS(ST_BAD_DATA,
          "node 'it': LayerNormalization does not exist before opset 17; export with opset = 17 or newer",
          onnx_export(g, &(export_options){.opset = 16}, &t));
    OK(onnx_export(g, &(export_options){.opset = 17}, &t));
    graph_free(g);
    g = one_node("Gelu", 20, NULL, "x");
    FAILS(ST_BAD_DATA, "Gelu does not exist before opset 20", onnx_export(g, NULL, &t));
    FAILS(ST_CONFIG, "opset 12 cannot be written; choose 13 to 21",
          onnx_export(g, &(export_options){.opset = 12}, &t));
    FAILS(ST_CONFIG, "opset 22 cannot be written", onnx_export(g, &(export_options){.opset = 22}, &t));
    graph_free(g);
    g = one_node("HardSwish", 14, NULL, "x");
    FAILS(ST_BAD_DATA, "HardSwish does not exist before opset 14",
          onnx_export(g, &(export_options){.opset = 13}, &t));
    graph_free(g);
    g = one_node("Relu", 14, NULL, "x");
    OK(pass_to_double(g));
    FAILS(ST_BAD_DATA, "'x' is float64; only float32 graphs are exported", onnx_export(g, NULL, &t));
    graph_free(g);
    g = network(2);
    OK(pass_training_mode(g, 0.1));
    FAILS(ST_BAD_DATA, "BatchNormTrain is internal", onnx_export(g, NULL, &t));
    graph_free(g);
    /* a graph for one batch size only */
    g = one_node("Relu", 14, NULL, "x");
    value_id y = g->output[0], c, sum;
    OK(graph_add_fill(g, DTYPE_F32, SHAPE(2, 4), 1, &c));
    OK(graph_add1(g, OP_ADD, NULL, y, c, 0, &sum));
    g->output[0] = sum;
    FAILS(ST_BAD_DATA, "batch size built in; export it with a fixed batch", onnx_export(g, NULL, &t));
    OK(onnx_export(g, &(export_options){.fixed_batch = true}, &t));
    graph_free(g);
    text_free(&at);
    text_free(&t);
}
END_TEST

/* ---- batch norm kept or folded ---- */

static void run(const graph *g, const float *x, float *out, size_t n)
{
    backend *b;
    exec *e;
    OK(backend_open("cpu", &(backend_options){.threads = 1, .max_isa = ISA_REF}, &b));
    OK(exec_open(g, b, NULL, 0, &e));
    memcpy(exec_data(e, g->input[0]), x, (size_t)shape_count(&g->value[g->input[0]].sh) * sizeof *x);
    OK(exec_run(e, PHASE_MAIN));
    memcpy(out, exec_data(e, g->output[0]), n * sizeof *out);
    exec_close(e);
    backend_close(b);
}

START_TEST(batch_norm_folded)
{
    graph *g = network(2), *frozen;
    float x[72], kept[6], folded[6], again[6];
    for (int i = 0; i < 72; i++)
        x[i] = 0.05F * (float)(i % 23);
    run(g, x, kept, 6);
    store s = {0};
    OK(store_add_graph(&s, g));
    OK(graph_clone(g, &frozen));
    OK(store_bake(&s, frozen));
    OK(pass_fold_batch_norm(frozen));
    ck_assert_uint_eq(frozen->n_node, g->n_node - 1);
    text t = export(frozen, NULL);
    graph *back = import_bytes(t.s, t.n, &(import_options){.batch = 2});
    run(frozen, x, folded, 6);
    run(back, x, again, 6);
    for (int i = 0; i < 6; i++) {
        ck_assert_double_eq_tol((double)folded[i], (double)kept[i], 1e-5);
        ck_assert_double_eq((double)again[i], (double)folded[i]);
    }
    text_free(&t);
    store_free(&s);
    graph_free(back);
    graph_free(frozen);
    graph_free(g);
}
END_TEST

/* ---- files ---- */

START_TEST(file)
{
    const char *dir = test_tmp_dir();
    graph *g = network(2);
    text t = export(g, NULL);
    onnx_model *m;
    OK(onnx_export_file(g, NULL, test_path(dir, "s.onnx")));
    OK(onnx_open(test_path(dir, "s.onnx"), NULL, &m));
    ck_assert_uint_eq(m->bytes, t.n);
    onnx_close(m);
    FAILS(ST_CONFIG, "s.onnx: opset 5",
          onnx_export_file(g, &(export_options){.opset = 5}, test_path(dir, "s.onnx")));
    OK(onnx_open(test_path(dir, "s.onnx"), NULL, &m)); /* the old file stands */
    onnx_close(m);
    ck_assert(onnx_export_file(g, NULL, test_path(dir, "no/such/folder.onnx")) != ST_OK);
    text_free(&t);
    graph_free(g);
}
END_TEST

START_TEST(allocations_fail)
{
    graph *g = network(2);
    for (int once = 0; once < 2; once++) {
        size_t failed = 0;
        for (uint64_t i = 1;; i++) {
            text t = {0};
            mem_fail_at(i, once);
            status st = onnx_export(g, NULL, &t);
            mem_fail_at(0, false);
            text_free(&t);
            if (st == ST_OK)
                break;
            ck_assert_msg(st == ST_OOM, "allocation %llu: status %d: %s", (unsigned long long)i, (int)st,
                          status_message());
            failed++;
        }
        ck_assert_uint_gt(failed, 100);
    }
    graph_free(g);
}
END_TEST

/* ---- the students this program builds, and ONNX's own checker ---- */

/* Runs a script over the .onnx files of a folder. */
static void check_with_python(const char *name, const char *dir)
{
    static const char script[] =
        "import glob, sys, onnx\n"
        "for path in sorted(glob.glob(sys.argv[1] + '/*.onnx')):\n"
        "    m = onnx.load(path)\n"
        "    onnx.checker.check_model(m, full_check=True)\n"
        "    onnx.shape_inference.infer_shapes(m, check_type=True, strict_mode=True, data_prop=True)\n"
        "    if 'dynamic' in path:\n"
        "        assert m.graph.output[0].type.tensor_type.shape.dim[0].dim_param == 'batch', path\n"
        "print(len(glob.glob(sys.argv[1] + '/*.onnx')), 'files are sound')\n";
    const char *python = test_python("onnx");
    char command[8192];
    if (!python) {
        test_skip(name, "no python3 with onnx");
        return;
    }
    snprintf(command, sizeof command, "%s %s %s", python, save_text(dir, "check.py", script), dir);
    ck_assert_int_eq(system(command), 0);
}

START_TEST(presets)
{
    static const struct {
        const char *ini;
        shape sample;
        int64_t oldest;
    } rows[] = {
        {"arch = mlp", {3, {1, 28, 28}}, 13},
        {"arch = cnn\nwidths = 8 16", {3, {1, 28, 28}}, 13},
        {"arch = resnet\ndepth = 8\nwidths = 16 24 32\nstem_stride = 2", {3, {1, 28, 28}}, 13},
        {"arch = resnet\ndepth = 14\nwidths = 4 8 8\npreact = true", {3, {3, 32, 32}}, 13},
        {"arch = wrn\ndepth = 10\nwidth = 0.5\ndropout = 0.3", {3, {3, 32, 32}}, 13},
        {"arch = mobilenetv2\nwidth = 0.35", {3, {1, 32, 32}}, 13},
        {"arch = dscnn\ndepth = 2\nwidths = 16 24", {3, {1, 49, 10}}, 13},
        {"arch = cnn\nwidths = 4\nactivation = hard_swish", {3, {1, 28, 28}}, 14},
        {"arch = mlp\nhidden = 8\nactivation = gelu", {3, {1, 28, 28}}, 20},
        {"arch = cnn\nwidths = 4\nactivation = silu", {3, {1, 28, 28}}, 13},
    };
    const char *dir = test_tmp_dir();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char ini[200], name[100];
        job *j;
        graph *g;
        config_sources none = {0};
        snprintf(ini, sizeof ini, "[student]\n%s\n", rows[i].ini);
        OK(config_load_text("s.ini", ini, strlen(ini), &none, &j));
        OK(student_build(&(student_spec){.job = j, .classes = 10, .sample = rows[i].sample}, 3, &g));
        for (int64_t opset = rows[i].oldest; opset <= 21; opset++)
            for (int fixed = 0; fixed < 2; fixed++) {
                export_options o = {.opset = opset, .fixed_batch = fixed};
                text t = round_trip(g, &o, 3);
                snprintf(name, sizeof name, "%zu_%d_%s.onnx", i, (int)opset, fixed ? "fixed" : "dynamic");
                OK(io_write_file(test_path(dir, name), t.s, t.n));
                text_free(&t);
            }
        graph_free(g);
        config_free(j);
    }
    check_with_python("presets", dir);
}
END_TEST

/* ---- the demonstration's teacher ---- */

static void check_logits(const char *path, double tolerance)
{
    limits lim = limits_default();
    tensor x, want;
    onnx_model *m;
    graph *g;
    float got[160];
    double worst = 0;
    OK(npy_read(SOURCE_DIR "/data/fashion-teacher/test_input.npy", &lim, &x));
    OK(npy_read(SOURCE_DIR "/data/fashion-teacher/test_logits.npy", &lim, &want));
    OK(onnx_open(path, NULL, &m));
    OK(onnx_import(m, &(import_options){.batch = 16}, &g));
    OK(graph_validate(g));
    run(g, x.data, got, 160);
    for (int i = 0; i < 160; i++)
        worst = fmax(worst, fabs((double)got[i] - tensor_at(&want, i)));
    test_max_error(path, worst, tolerance);
    ck_assert_double_lt(worst, tolerance);
    text t = export(g, NULL);
    graph *back = import_bytes(t.s, t.n, &(import_options){.batch = 16});
    float again[160];
    run(back, x.data, again, 160);
    for (int i = 0; i < 160; i++)
        ck_assert_double_eq((double)again[i], (double)got[i]);
    text_free(&t);
    graph_free(back);
    graph_free(g);
    onnx_close(m);
    tensor_free(&x);
    tensor_free(&want);
}

START_TEST(teacher)
{
    check_logits(SOURCE_DIR "/data/fashion-teacher.onnx", 1e-4);
    static const struct {
        const char *name;
        double tolerance;
    } others[] = {{"teacher_op13_train.onnx", 1e-4}, {"teacher_fp16.onnx", 3e-2}};
    for (int i = 0; i < 2; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/fashion-teacher/%s", test_data_dir() ? test_data_dir() : "",
                 others[i].name);
        if (test_data_dir() && io_exists(path))
            check_logits(path, others[i].tolerance);
        else
            test_skip(others[i].name, "no test data");
    }
}
END_TEST

const test_entry test_table[] = {TEST(every_opset),
                                 TEST(contents),
                                 TEST(attribute_or_input),
                                 TEST(token_follows_the_batch),
                                 TEST(refused),
                                 TEST(batch_norm_folded),
                                 TEST(file),
                                 TEST(allocations_fail),
                                 TEST(presets),
                                 TEST(teacher),
                                 {0}};
