/* test_conformance.c - ONNX's own test data and real models against our import and kernels.
 *
 * A node test whose operators are all in `covered` has to pass; the few exceptions are listed with their reason, and so is
 * every other test, counted by reason. Tolerances are those of ONNX's runner: 1e-3 relative, 1e-7 absolute, integers
 * exactly; for whole models 1e-3 and 1e-4, as their expected outputs come from another runtime. */
#include "base/io.h"
#include "data/npy.h"
#include "harness.h"
#include "onnx.pb-c.h"
#include "onnx/tensor_pb.h"
#include "onnx_run.h"

#include <stdio.h>

/* A test that uses only these operators must pass. */
/* clang-format off */
static const char covered[] =
    " Abs Add And ArgMax AveragePool BatchNormalization Cast CastLike Ceil Clip Concat Constant ConstantOfShape Conv "
    "ConvInteger ConvTranspose Cos DequantizeLinear Div Dropout DynamicQuantizeLinear Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements Gelu Gemm "
    "GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual HardSigmoid HardSwish Identity InstanceNormalization "
    "LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul MatMulInteger Max MaxPool Mean Min Mod Mul Neg Not Or PRelu "
    "Pad Pow QLinearConv QLinearMatMul QuantizeLinear Range Reciprocal ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu Reshape Resize Round Shape "
    "Sigmoid Sign Sin Size Slice Softmax Softplus Split Sqrt Squeeze Sub Sum Tanh Tile Transpose Unsqueeze Upsample "
    "Where Xor ";
/* clang-format on */

/* Tests of covered operators that do not run, each with its reason. */
static const struct {
    const char *test, *reason;
} exceptions[] = {
    {"test_attention_4d_fp16_expanded", "no float16 kernel of MatMul and Conv"},
    {"test_attention_4d_gqa_causal_nonpad_decode_fp16_expanded", "no float16 kernel of MatMul and Conv"},
    {"test_attention_4d_gqa_with_past_and_present_fp16_expanded", "no float16 kernel of MatMul and Conv"},
    {"test_causal_conv_with_state_fp16_expanded", "no float16 kernel of MatMul and Conv"},
    {"test_causal_conv_with_state_silu_fp16_expanded", "no float16 kernel of MatMul and Conv"},
    {"test_flexattention_fp16_expanded_ver26", "no float16 kernel of MatMul and Conv"},
    {"test_training_dropout", "dropout in training mode draws random numbers"},
    {"test_training_dropout_default", "dropout in training mode draws random numbers"},
    {"test_training_dropout_default_mask", "dropout in training mode draws random numbers"},
    {"test_training_dropout_mask", "dropout in training mode draws random numbers"},
    {"test_identity_opt", "sequences and optionals"},
    {"test_identity_sequence", "sequences and optionals"},
    {"test_cast_BFLOAT16_to_FLOAT", "bfloat16 data stored as uint16"},
    {"test_cast_FLOAT_to_BFLOAT16", "bfloat16 data stored as uint16"},
    {"test_castlike_BFLOAT16_to_FLOAT", "bfloat16 data stored as uint16"},
    {"test_castlike_BFLOAT16_to_FLOAT_expanded", "bfloat16 data stored as uint16"},
    {"test_castlike_FLOAT_to_BFLOAT16", "bfloat16 data stored as uint16"},
    {"test_castlike_FLOAT_to_BFLOAT16_expanded", "bfloat16 data stored as uint16"},
};

static const char *exception_of(const char *test)
{
    for (size_t i = 0; i < sizeof exceptions / sizeof *exceptions; i++)
        if (strcmp(exceptions[i].test, test) == 0)
            return exceptions[i].reason;
    return NULL;
}

/* The first operator of the model that is not covered, "" when it cannot be read, NULL when all are. */
static const char *uncovered(const char *model)
{
    static char name[80];
    char word[100];
    onnx_model *m;
    const char *found = NULL;
    if (onnx_open(model, NULL, &m) != ST_OK)
        return "";
    const Onnx__GraphProto *g = m->proto->graph;
    for (size_t k = 0; k < g->n_node && !found; k++) {
        snprintf(word, sizeof word, " %.70s ", g->node[k]->op_type);
        bool known = strstr(covered, word) && (!g->node[k]->domain || !*g->node[k]->domain);
        snprintf(name, sizeof name, "%.70s", g->node[k]->op_type);
        found = known ? NULL : name;
    }
    onnx_close(m);
    return found;
}

/* ---- counting ---- */

enum { REASONS_MAX = 300 };
typedef struct tally {
    const char *suite;
    size_t passed, failed, n;
    char reason[REASONS_MAX][80];
    size_t count[REASONS_MAX];
    char failures[2000];
} tally;

static void count_skip(tally *t, const char *reason)
{
    size_t i = 0;
    while (i < t->n && strncmp(t->reason[i], reason, sizeof t->reason[i] - 1) != 0)
        i++;
    if (i == REASONS_MAX)
        return;
    if (i == t->n)
        snprintf(t->reason[t->n++], sizeof t->reason[0], "%s", reason);
    t->count[i]++;
}

static void report(const tally *t)
{
    char line[8000];
    size_t operators = 0, used = 0;
    for (size_t i = 0; i < t->n; i++) {
        bool op = strncmp(t->reason[i], "operator ", 9) == 0;
        if (!op) {
            snprintf(line, sizeof line, "%zu tests: %s", t->count[i], t->reason[i]);
            test_skip(t->suite, line);
        }
        operators += op ? t->count[i] : 0;
    }
    used = (size_t)snprintf(line, sizeof line, "%zu tests: operators that are not supported:", operators);
    for (size_t i = 0; i < t->n && used < sizeof line - 100; i++)
        if (strncmp(t->reason[i], "operator ", 9) == 0)
            used +=
                (size_t)snprintf(line + used, sizeof line - used, " %s %zu", t->reason[i] + 9, t->count[i]);
    if (operators)
        test_skip(t->suite, line);
    printf("%s: %zu data sets passed\n", t->suite, t->passed);
}

/* ---- suites ---- */

static void run_test(tally *t, model_run *r, const char *folder, const char *test)
{
    char model[4096], set[4200], message[600], reason[100];
    snprintf(model, sizeof model, "%s/%s/model.onnx", folder, test);
    const char *op = uncovered(model), *known = exception_of(test);
    for (int k = 0;; k++) {
        snprintf(set, sizeof set, "%s/%s/test_data_set_%d", folder, test, k);
        if (!io_is_dir(set))
            return;
        status st = op ? ST_OK : run_data_set(r, model, set);
        snprintf(message, sizeof message, "%s", status_message());
        if (op) {
            snprintf(reason, sizeof reason, "operator %s", op);
            count_skip(t, reason);
        } else if (st == ST_OK) {
            t->passed++;
        } else if (known) {
            count_skip(t, known);
        } else if (strstr(message, "only float32 graphs are exported")) {
            count_skip(t, "float64 is not exported");
        } else if (strstr(message, "element type")) {
            count_skip(t, "element types: strings, 8-bit floats, integers below 8 bits");
        } else {
            size_t used = strlen(t->failures);
            snprintf(t->failures + used, sizeof t->failures - used, "\n  %s: %s", test, message);
            t->failed++;
        }
    }
}

static void run_suite(const char *suite, const char *folder, isa level, int64_t export_opset, size_t at_least)
{
    static tally t;
    char **names;
    size_t n;
    backend *b;
    t = (tally){.suite = suite};
    OK(backend_open("cpu", &(backend_options){.threads = level == ISA_REF ? 1 : 2, .max_isa = level}, &b));
    OK(io_list(folder, 10000, &names, &n));
    model_run r = {.b = b, .rtol = 1e-3, .atol = 1e-7, .export_opset = export_opset};
    for (size_t i = 0; i < n; i++)
        if (strncmp(names[i], "test_", 5) == 0)
            run_test(&t, &r, folder, names[i]);
    io_list_free(names, n);
    backend_close(b);
    report(&t);
    test_max_error(suite, r.worst, 1);
    ck_assert_msg(t.failed == 0, "%s: %zu failed:%s", suite, t.failed, t.failures);
    ck_assert_msg(t.passed >= at_least, "%s: %zu passed, at least %zu did before", suite, t.passed, at_least);
}

/* The unpacked archive, NULL (and a skip) when the data are not there. */
static const char *unpacked(const char *name)
{
    const char *data = test_data_dir(), *to = test_tmp_dir();
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", data ? data : "", name);
    if (!data || !io_exists(path)) {
        test_skip(name, "no test data");
        return NULL;
    }
    ck_assert_msg(unpack_archive(path, to), "%s cannot be unpacked", path);
    return to;
}

static void run_archive(const char *name, const char *folder, isa level, int64_t export_opset,
                        size_t at_least)
{
    char path[4096], archive[200], label[200];
    snprintf(archive, sizeof archive, "onnx-backend/%s.tar.gz", name);
    const char *to = unpacked(archive);
    if (!to)
        return;
    snprintf(path, sizeof path, "%s/%s", to, folder);
    snprintf(label, sizeof label, "%s.tar.gz%s%s", name, level == ISA_REF ? " (reference kernels)" : "",
             export_opset ? " (exported)" : "");
    run_suite(label, path, level, export_opset, at_least);
}

#define DEBIAN "/usr/share/libonnx-testdata/data"
static void run_debian(const char *folder, size_t at_least)
{
    char path[4096];
    snprintf(path, sizeof path, DEBIAN "/%s", folder);
    if (!io_is_dir(path))
        test_skip(path, "package libonnx-testdata is not installed");
    else
        run_suite(path, path, ISA_AVX512, 0, at_least);
}

START_TEST(node_tests)
{
    run_archive("node", "node", ISA_AVX512, 0, 694);
}
END_TEST

START_TEST(node_tests_reference)
{
    run_archive("node", "node", ISA_REF, 0, 694);
}
END_TEST

/* Import, export, import: the same results, and the second export the same bytes. */
START_TEST(node_tests_exported)
{
    run_archive("node", "node", ISA_AVX512, 21, 674);
}
END_TEST

START_TEST(pytorch_tests)
{
    run_archive("pytorch-converted", "pytorch-converted", ISA_AVX512, 0, 81);
}
END_TEST

START_TEST(simple_tests)
{
    run_archive("simple", "simple", ISA_AVX512, 0, 6);
}
END_TEST

START_TEST(debian_tests)
{
    run_debian("node", 553);
    run_debian("pytorch-converted", 81);
    run_debian("pytorch-operator", 34);
    run_debian("simple", 6);
}
END_TEST

/* ---- quantised operators, one by one ---- */

/* All tests of them that do not pass, each with its reason: no other may fail, and none of these may pass. */
static const struct {
    const char *test, *reason;
} quantised_out[] = {
    {"test_dequantizelinear_e4m3fn_float16", "floats of 8 bits"},
    {"test_dequantizelinear_e4m3fn_zero_point", "floats of 8 bits"},
    {"test_dequantizelinear_e5m2", "floats of 8 bits"},
    {"test_quantizelinear_e4m3fn", "floats of 8 bits"},
    {"test_quantizelinear_e5m2", "floats of 8 bits"},
    {"test_quantizelinear_float4e2m1", "floats of 4 bits"},
    {"test_dequantizelinear_int4", "integers of 4 bits"},
    {"test_quantizelinear_uint4", "integers of 4 bits"},
    {"test_dequantizelinear_uint2", "integers of 2 bits"},
    {"test_quantizelinear_uint2", "integers of 2 bits"},
};

static const char *quantised_reason(const char *test)
{
    for (size_t i = 0; i < sizeof quantised_out / sizeof *quantised_out; i++)
        if (strcmp(quantised_out[i].test, test) == 0)
            return quantised_out[i].reason;
    return NULL;
}

static bool quantised(const char *test)
{
    return strstr(test, "quantizelinear") || strstr(test, "qlinear") || strstr(test, "integer");
}

static void quantised_in(const char *folder, size_t at_least)
{
    char model[4096], set[4200];
    char **names;
    size_t n, passed = 0, out = 0;
    backend *b;
    OK(backend_open("cpu", &(backend_options){.threads = 2, .max_isa = ISA_AVX512}, &b));
    OK(io_list(folder, 10000, &names, &n));
    model_run r = {.b = b, .rtol = 0, .atol = 1e-7};
    for (size_t i = 0; i < n; i++) {
        if (strncmp(names[i], "test_", 5) != 0 || !quantised(names[i]))
            continue;
        const char *reason = quantised_reason(names[i]);
        snprintf(model, sizeof model, "%s/%s/model.onnx", folder, names[i]);
        snprintf(set, sizeof set, "%s/%s/test_data_set_0", folder, names[i]);
        status st = run_data_set(&r, model, set);
        printf("%s %s%s%s\n", st == ST_OK ? "passed" : "out   ", names[i], reason ? ": " : "", reason ? reason : "");
        ck_assert_msg((st == ST_OK) == !reason, "%s: %s", names[i], st == ST_OK ? "passes: take it off the list" : status_message());
        passed += st == ST_OK;
        out += st != ST_OK;
    }
    io_list_free(names, n);
    backend_close(b);
    printf("%s: %zu tests of quantised operators pass, %zu do not (listed with their reasons)\n", folder, passed, out);
    ck_assert_uint_ge(passed, at_least);
}

START_TEST(quantised_operators)
{
    char path[4096];
    const char *to = unpacked("onnx-backend/node.tar.gz");
    if (to) {
        snprintf(path, sizeof path, "%s/node", to);
        quantised_in(path, 24);
    }
    if (io_is_dir(DEBIAN "/node"))
        quantised_in(DEBIAN "/node", 17);
    else
        test_skip(DEBIAN "/node", "package libonnx-testdata is not installed");
}
END_TEST

/* ---- real architectures with made-up weights: input arange(n)/n ---- */

START_TEST(light_models)
{
    static const struct {
        const char *name, *reason;
    } models[] = {
        {"light_squeezenet", NULL},
        {"light_resnet50", NULL},
        {"light_vgg19", "600 MB of made-up weights: too long for this suite (passes by hand)"},
        {"light_bvlc_alexnet", "operator LRN"},
        {"light_inception_v1", "operator LRN"},
    };
    const char *to = unpacked("onnx-backend/light.tar.gz");
    backend *b;
    if (!to)
        return;
    OK(backend_open("cpu", &(backend_options){.max_isa = ISA_AVX512}, &b));
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char model[4096], output[4096];
        onnx_model *m;
        const char **names;
        size_t n;
        tensor in, want;
        if (models[i].reason) {
            test_skip(models[i].name, models[i].reason);
            continue;
        }
        snprintf(model, sizeof model, "%s/light/%s.onnx", to, models[i].name);
        snprintf(output, sizeof output, "%s/light/%s_output_0.pb", to, models[i].name);
        OK(onnx_open(model, NULL, &m));
        OK(onnx_input_names(m, &names, &n));
        ck_assert_uint_eq(n, 1);
        OK(tensor_new(&in, names[0], DTYPE_F32, SHAPE(1, 3, 224, 224)));
        for (int k = 0; k < 150528; k++)
            ((float *)in.data)[k] = (float)k / 150528;
        OK(tensor_read_pb(output, NULL, &want));
        model_run r = {.b = b, .rtol = 1e-3, .atol = 1e-7};
        OK(run_tensors(&r, model, &in, 1, &want, 1));
        test_max_error(models[i].name, r.worst, 1);
        tensor_free(&in);
        tensor_free(&want);
        mem_free(names);
        onnx_close(m);
    }
    backend_close(b);
}
END_TEST

/* ---- real models ---- */

typedef struct real_model {
    const char *name, *reason; /* reason: why it does not run */
    bool npz;                  /* expected outputs in inputs.npz, outputs.npz */
    size_t sets;
} real_model;
static const real_model real_models[] = {
    {"acasxu_1_1", NULL, false, 4},
    {"autoencoder1d", NULL, true, 1},
    {"cct_2_32_op20", NULL, true, 1},
    {"cifar10_large_nhwc", NULL, false, 1},
    {"cifar10_resnet_4b", NULL, false, 3},
    {"cifar10_vit_ibp_3_3_8", NULL, false, 1},
    {"dbnet_text_detect", NULL, false, 1},
    {"deeplabv3_voc", NULL, false, 1},
    {"dtln_model_1", "operator LSTM", false, 0},
    {"fashion_cnn", NULL, false, 1},
    {"fashion_cnn_features", NULL, false, 1},
    {"magika_standard_v3_3", NULL, false,
     1}, /* near the tolerance: takes its variance as E[x^2] - E[x]^2 in float32 */
    {"mnist_8", NULL, false, 3},
    {"mobilenetv2_imagenet_dq", NULL, false, 2},
    {"silero_vad_16k_op15", "operator LSTM", false, 0},
    {"silero_vad_v2_mini", NULL, false, 1},
    {"tfbert_qa_tiny", NULL, false, 1},
    {"ultraface_rfb_320", NULL, false, 1},
    {"yolox_nano_coco", NULL, false, 1},
};

static void run_npz(model_run *r, const char *model, const char *folder)
{
    char path[4200];
    tensor_list in = {0}, want = {0};
    onnx_model *m;
    const char **names;
    size_t n;
    limits lim = limits_default();
    snprintf(path, sizeof path, "%s/inputs.npz", folder);
    OK(npz_read(path, &lim, &in));
    snprintf(path, sizeof path, "%s/outputs.npz", folder);
    OK(npz_read(path, &lim, &want));
    OK(onnx_open(model, NULL, &m));
    OK(onnx_input_names(m, &names, &n));
    ck_assert_uint_eq(n, 1); /* the other arrays of one file are the model's weights */
    mem_free(in.at[0].name);
    OK(mem_strdup(&in.at[0].name, names[0]));
    OK(run_tensors(r, model, in.at, 1, want.at, want.n));
    mem_free(names);
    onnx_close(m);
    tensor_list_free(&in);
    tensor_list_free(&want);
}

START_TEST(models)
{
    backend *b;
    const char *data = test_data_dir();
    if (!data) {
        test_skip("models", "no test data");
        return;
    }
    OK(backend_open("cpu", &(backend_options){.max_isa = ISA_AVX512}, &b));
    for (size_t i = 0; i < sizeof real_models / sizeof *real_models; i++) {
        const real_model *m = &real_models[i];
        char model[4096], archive[200], folder[4096], set[4200];
        size_t sets = 0;
        snprintf(archive, sizeof archive, "models/%s.testdata.tar.gz", m->name);
        snprintf(model, sizeof model, "%s/models/%s.onnx", data, m->name);
        if (m->reason) {
            test_skip(m->name, m->reason);
            continue;
        }
        const char *to = unpacked(archive);
        if (!to)
            continue;
        model_run r = {.b = b, .rtol = 1e-3, .atol = 1e-4};
        snprintf(folder, sizeof folder, "%s/%s", to, m->name);
        if (m->npz) {
            run_npz(&r, model, folder);
            sets = 1;
        }
        for (; !m->npz; sets++) {
            snprintf(set, sizeof set, "%s/test_data_set_%zu", folder, sets);
            if (!io_is_dir(set))
                break;
            OK(run_data_set(&r, model, set));
        }
        ck_assert_uint_eq(sets, m->sets);
        test_max_error(m->name, r.worst, 1);
    }
    backend_close(b);
}
END_TEST

const test_entry test_table[] = {TEST(node_tests),
                                 TEST(node_tests_reference),
                                 TEST(node_tests_exported),
                                 TEST(pytorch_tests),
                                 TEST(simple_tests),
                                 TEST(debian_tests),
                                 TEST(quantised_operators),
                                 TEST(light_models),
                                 TEST(models),
                                 {0}};
