/* test_saturate.c - sums that are cut to 16 bits on x86 without VNNI: the bound from the weights (quant/saturate.h), and the thing
 * itself: ONNX Runtime on an emulated Haswell gives exactly the cut sums, only in channels beyond the bound, and the whole
 * ones with weights up to 64 or with session.x64quantprecision. And what another fault of int8 needs: a Concat before a Conv. */
#include "base/io.h"
#include "data_files.h"
#include "harness.h"
#include "matrix/faults.h"
#include "matrix/runtimes.h"
#include "onnx/export.h"
#include "onnx/import.h"
#include "ops/attrs.h"
#include "program.h"
#include "qnet.h"
#include "quant/saturate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void *data_of(graph *g, const char *name)
{
    value_id v = graph_find(g, name);
    ck_assert_msg(v != 0, "no value '%s'", name);
    return (void *)(uintptr_t)graph_value(g, v)->data;
}

/* ---- the bound ---- */

static graph *product(bool gemm, bool trans_b, int64_t group)
{
    qnet n = qnet_new(DTYPE_U8, false, gemm ? SHAPE(1, 6) : SHAPE(1, 6, 4, 4), 0.01f, 0, 1);
    if (gemm)
        qnet_gemm(&n, 6, trans_b, 0.01f);
    else
        qnet_conv(&n, (qconv){.out = 6, .kernel = 3, .group = group}, 0.01f);
    qnet_round(&n, 0.1f, 128);
    return qnet_end(&n);
}

/* Codes of output o, element i of `each`. */
static int8_t *weight(graph *g, bool gemm, bool trans_b, int64_t each, int64_t o, int64_t i)
{
    int8_t *w = data_of(g, gemm ? "gemm1_w" : "conv1_w");
    return gemm && !trans_b ? &w[i * 6 + o] : &w[o * each + i];
}

START_TEST(two_weights_of_one_sign)
{
    static const struct {
        int a, b;
        bool may;
    } pair[] = {{64, 64, false}, {64, 65, true}, {127, 1, false}, {127, 2, true}, {-64, -64, false}, {-64, -65, true},
                {-128, 0, false}, {-128, -1, true}, {-127, 127, false}, {127, 127, true}};
    for (int form = 0; form < 5; form++) {
        bool gemm = form < 2, trans_b = form == 1;
        int64_t group = form == 2 ? 1 : form == 3 ? 3 : 6, each = gemm ? 6 : 6 / group * 9;
        for (size_t p = 0; p < sizeof pair / sizeof *pair; p++)
            for (int integers = 0; integers < 2; integers++) {
                graph *g = product(gemm, trans_b, group);
                for (int64_t o = 0; o < 6; o++)
                    for (int64_t i = 0; i < each; i++)
                        *weight(g, gemm, trans_b, each, o, i) = 0;
                *weight(g, gemm, trans_b, each, 4, (int64_t)p % each) = (int8_t)pair[p].a;
                *weight(g, gemm, trans_b, each, 4, ((int64_t)p + 3) % each) = (int8_t)pair[p].b;
                *weight(g, gemm, trans_b, each, 5, 0) = 127; /* alone in its channel */
                if (integers)
                    OK(pass_integer_groups(g));
                saturation s = saturation_measure(g);
                ck_assert_int_eq(s.products, 1);
                ck_assert_int_eq(s.channels, 6);
                ck_assert_msg(s.may == pair[p].may, "form %d, %d and %d: %d channels", form, pair[p].a, pair[p].b, (int)s.may);
                graph_free(g);
            }
    }
}
END_TEST

/* Against all pairs, on random weights; and pairs beyond the bound are those that 16 bits do not hold. */
START_TEST(as_all_pairs_say)
{
    for (int v = -256; v <= 254; v++) {
        int low = v < 0 ? 255 * v : 0, high = v > 0 ? 255 * v : 0;
        ck_assert_int_eq(low < INT16_MIN || high > INT16_MAX, abs(v) > SATURATE_PAIR);
    }
    rng r = rng_make(1, RNG_TEST, 3, 0);
    for (int round = 0; round < 300; round++) {
        graph *g = product(round & 1, round & 2, 1);
        bool gemm = round & 1, trans_b = round & 2;
        int64_t each = gemm ? 6 : 54, may = 0, worst = 0;
        int limit = 40 + (int)rng_below(&r, 88);
        for (int64_t o = 0; o < 6; o++) {
            int64_t pair = 0;
            for (int64_t i = 0; i < each; i++)
                *weight(g, gemm, trans_b, each, o, i) = (int8_t)((int)rng_below(&r, (uint32_t)(2 * limit + 1)) - limit);
            for (int64_t i = 0; i < each; i++)
                for (int64_t k = 0; k < i; k++) {
                    int a = *weight(g, gemm, trans_b, each, o, i), b = *weight(g, gemm, trans_b, each, o, k);
                    if ((a < 0) == (b < 0) && abs(a + b) > pair)
                        pair = abs(a + b);
                }
            may += pair > 128;
            worst = pair > worst ? pair : worst;
        }
        saturation s = saturation_measure(g);
        ck_assert_int_eq(s.may, may);
        if (worst > 128)
            ck_assert_int_eq(s.pair, worst);
        graph_free(g);
    }
    qnet n = qnet_new(DTYPE_NONE, false, SHAPE(1, 6, 4, 4), 0.01f, 0, 1);
    qnet_conv(&n, (qconv){.out = 6, .kernel = 3}, 0.01f);
    graph *g = qnet_end(&n);
    ck_assert_int_eq(saturation_measure(g).products, 0);
    graph_free(g);
}
END_TEST

START_TEST(inspect_says_how_many)
{
    const char *dir = test_tmp_dir(), *wide = test_path(dir, "wide.onnx"), *narrow = test_path(dir, "narrow.onnx");
    graph *g = product(false, false, 1);
    int8_t *w = data_of(g, "conv1_w");
    for (int i = 0; i < 6 * 54; i++)
        w[i] = (int8_t)(i < 54 ? 65 : 64);
    OK(onnx_export_file(g, NULL, wide));
    for (int i = 0; i < 54; i++)
        w[i] = -64;
    OK(onnx_export_file(g, NULL, narrow));
    graph_free(g);
    ran r = program_run(&(program_options){0}, ARGS("inspect", wide));
    ck_assert_int_eq(r.code, 0);
    ck_assert_ptr_nonnull(strstr(r.out, "saturation 1 of 6 channels of int8 weights may saturate on x86 without VNNI: a bound"));
    ck_assert_ptr_nonnull(strstr(r.out, "reach 130 in 'conv1'"));
    ran_free(&r);
    r = program_run(&(program_options){0}, ARGS("inspect", narrow));
    ck_assert_ptr_nonnull(strstr(r.out, "saturation 0 of 6 channels"));
    ck_assert_ptr_null(strstr(r.out, "a bound"));
    ran_free(&r);
    r = program_run(&(program_options){0}, ARGS("inspect", "--json", wide));
    ck_assert_ptr_nonnull(strstr(r.out, "\"saturation\":{\"products\":1,\"channels\":6,\"may_saturate\":1,\"largest_pair\":130,\"limit\":128"));
    ran_free(&r);
}
END_TEST

/* ---- the thing itself ---- */

enum { TERMS = 64, OUTPUTS = 5 };
static const int code[OUTPUTS] = {127, -127, 64, -64, 1}; /* every weight of an output; the last but for one of 127 */

/* 64 inputs of code 255, weights as above (or halved): sums up to 64 * 255 * 127. Result in steps of 1/2 around 128. */
static graph *wide_sums(dtype act, bool gemm, bool reduced)
{
    qnet n = qnet_new(act, false, gemm ? SHAPE(1, TERMS) : SHAPE(1, TERMS, 3, 2), 1 / 256.0f, 0, 1);
    if (gemm)
        qnet_gemm(&n, OUTPUTS, true, 0.01f);
    else
        qnet_conv(&n, (qconv){.out = OUTPUTS, .kernel = 1, .per_tensor = true}, 0.01f);
    qnet_round(&n, 0.5f, 128);
    graph *g = qnet_end(&n);
    int8_t *w = data_of(g, gemm ? "gemm1_w" : "conv1_w");
    float ws = reduced ? 1 / 64.0f : 1 / 128.0f;
    memset(data_of(g, gemm ? "gemm1_b" : "conv1_b"), 0, OUTPUTS * sizeof(int32_t));
    *(float *)data_of(g, gemm ? "gemm1_ws" : "conv1_ws") = ws;
    *(float *)data_of(g, gemm ? "gemm1_bs" : "conv1_bs") = ws / 256;
    for (int o = 0; o < OUTPUTS; o++)
        for (int i = 0; i < TERMS; i++)
            w[o * TERMS + i] = (int8_t)(reduced ? code[o] / 2 : code[o]);
    w[4 * TERMS + 9] = reduced ? 63 : 127;
    return g;
}

static int clipped(int v, int low, int high)
{
    return v < low ? low : v > high ? high : v;
}

/* What output o is, its pairs cut to 16 bits or not. All weights are equal but one: which meet does not matter. */
static float result_of(int o, bool cut, bool reduced)
{
    int64_t sum = 0;
    for (int i = 0; i < TERMS; i += 2) {
        int w = reduced ? code[o] / 2 : code[o], last = o == 4 && i == 8 ? (reduced ? 63 : 127) : w, pair = 255 * (w + last);
        sum += cut ? clipped(pair, INT16_MIN, INT16_MAX) : pair;
    }
    double real = (double)sum / 256 / (reduced ? 64 : 128);
    return 0.5f * (float)clipped((int)nearbyint(real / 0.5), -128, 127);
}

static const char script[] =
    "import sys, numpy as np, onnxruntime as o\n"
    "o.set_default_logger_severity(3)\n"
    "for line in open(sys.argv[1] + '/list'):\n"
    "    name, shape = line.split()[0], [int(v) for v in line.split()[1:]]\n"
    "    x = np.full(shape, 255 / 256, np.float32)\n"
    "    for precise in ('0', '1'):\n"
    "        s = o.SessionOptions(); s.intra_op_num_threads = 1; s.add_session_config_entry('session.x64quantprecision', precise)\n"
    "        y = o.InferenceSession(f'{sys.argv[1]}/{name}.onnx', s).run(None, {'x': x})[0]\n"
    "        y.reshape(y.shape[0], y.shape[1], -1)[0, :, 0].astype(np.float32).tofile(f'{sys.argv[2]}/{name}.{precise}')\n";

static bool run_ort(const char *emulator, const char *dir, const char *to)
{
    char command[4096];
    const char *python = test_python("onnxruntime");
    if (!python)
        return false;
    snprintf(command, sizeof command, "%s '%s' '%s' '%s' '%s' 2>'%s' || { tail -5 '%s'; exit 1; }", emulator, python,
             save_text(dir, "run_ort.py", script), dir, to, test_path(dir, "err"), test_path(dir, "err"));
    fflush(stdout);
    ck_assert_msg(system(command) == 0, "ONNX Runtime does not run, see above");
    return true;
}

static bool has_vnni(void)
{
    return system("grep -q -m1 -w -e avx512_vnni -e avx_vnni /proc/cpuinfo 2>/dev/null") == 0;
}

typedef struct wide_case {
    const char *name;
    dtype act;
    bool gemm, reduced, integers;
} wide_case;
static const wide_case wide_cases[] = {
    {"conv_u8", DTYPE_U8, false, false, false}, {"conv_s8", DTYPE_I8, false, false, false},
    {"gemm_u8", DTYPE_U8, true, false, false}, {"gemm_s8", DTYPE_I8, true, false, false},
    {"conv_integers", DTYPE_U8, false, false, true}, {"gemm_integers", DTYPE_U8, true, false, true},
    {"conv_u8_reduced", DTYPE_U8, false, true, false}, {"conv_s8_reduced", DTYPE_I8, false, true, false},
    {"gemm_u8_reduced", DTYPE_U8, true, true, false}, {"conv_integers_reduced", DTYPE_U8, false, true, true},
};
enum { WIDE_CASES = sizeof wide_cases / sizeof *wide_cases };

static void put_wide(const char *dir, text *list, const wide_case *c)
{
    char file[64];
    float *x, *y;
    graph *g = wide_sums(c->act, c->gemm, c->reduced);
    for (int fused = 0; fused < 2; fused++) { /* ours: the whole sums, as the definition */
        qnet_run(g, 1, 255 / 256.0f, 255 / 256.0f, 0, &x, &y, fused);
        for (int o = 0; o < OUTPUTS; o++)
            ck_assert(y[c->gemm ? o : o * 6] == result_of(o, false, c->reduced));
        mem_free(x);
        mem_free(y);
    }
    if (c->integers)
        OK(pass_integer_groups(g));
    saturation s = saturation_measure(g);
    ck_assert_int_eq(s.may, c->reduced ? 0 : 2);
    snprintf(file, sizeof file, "%s.onnx", c->name);
    OK(onnx_export_file(g, NULL, test_path(dir, file)));
    text_printf(list, "%s 1 %d%s\n", c->name, TERMS, c->gemm ? "" : " 3 2");
    graph_free(g);
}

/* Returns how many outputs are cut. */
static int judge(const char *to, const wide_case *c, bool precise, bool may_cut)
{
    char file[64];
    unsigned char *bytes;
    float y[OUTPUTS];
    size_t size;
    int cut = 0;
    snprintf(file, sizeof file, "%s.%d", c->name, precise);
    OK(io_read_file(test_path(to, file), 1000, &bytes, &size));
    ck_assert_uint_eq(size, sizeof y);
    memcpy(y, bytes, sizeof y);
    mem_free(bytes);
    for (int o = 0; o < OUTPUTS; o++) {
        float whole = result_of(o, false, c->reduced), lost = result_of(o, true, c->reduced);
        ck_assert_msg(y[o] == whole || (may_cut && y[o] == lost), "%s, output %d: %g; whole %g, cut %g", file, o, (double)y[o],
                      (double)whole, (double)lost);
        cut += y[o] != whole;
    }
    return cut;
}

START_TEST(a_haswell_cuts_and_is_cured)
{
    const char *dir = test_tmp_dir(), *here = test_tmp_dir(), *haswell = test_tmp_dir();
    text list = {0};
    int cut = 0;
    for (int i = 0; i < WIDE_CASES; i++)
        put_wide(dir, &list, &wide_cases[i]);
    OK(io_write_file(test_path(dir, "list"), list.s, list.n));
    text_free(&list);
    if (!run_ort("", dir, here)) {
        test_skip("a_haswell_cuts_and_is_cured", "no python with onnxruntime (tools/setup test brings it)");
        return;
    }
    for (int i = 0; i < WIDE_CASES; i++)
        for (int precise = 0; precise < 2; precise++)
            cut += judge(here, &wide_cases[i], precise, !has_vnni());
    printf("ONNX Runtime on this processor: %d outputs cut\n", cut);
    if (system("command -v qemu-x86_64 >/dev/null") != 0) {
        test_skip("a_haswell_cuts_and_is_cured", "there is no qemu-x86_64 (tools/packages, emulated)");
        return;
    }
    run_ort("qemu-x86_64 -cpu Haswell", dir, haswell);
    for (int i = 0; i < WIDE_CASES; i++) {
        cut = judge(haswell, &wide_cases[i], false, true);
        printf("ONNX Runtime on a Haswell: %s: %d outputs cut\n", wide_cases[i].name, cut);
        ck_assert_int_eq(cut, wide_cases[i].reduced ? 0 : 2); /* 127 and -127; weights up to 64 are the first cure */
        judge(haswell, &wide_cases[i], true, false);          /* session.x64quantprecision is the other */
    }
}
END_TEST

/* Net: two branches that come together, then `last`. */
static bool joins_before(dtype act, op_id with, bool pooled, bool gemm)
{
    bool found;
    qnet n = qnet_new(act, false, SHAPE(2, 4, 8, 8), 0.02f, 128, 5);
    qnet_conv(&n, (qconv){.out = 4, .kernel = 1}, 0.01f);
    qnet_round(&n, 0.05f, 128);
    value_id kept = n.v;
    qnet_conv(&n, (qconv){.out = 4, .kernel = 1}, 0.01f);
    qnet_round(&n, 0.05f, 128);
    if (with)
        qnet_two(&n, with, kept, with == OP_CONCAT ? &(axis_attrs){1} : NULL);
    qnet_round(&n, 0.05f, 128);
    if (pooled)
        qnet_relu(&n);
    if (pooled)
        qnet_round(&n, 0.05f, 128);
    if (gemm) {
        qnet_node(&n, OP_FLATTEN, NULL);
        qnet_gemm(&n, 3, true, 0.01f);
    } else {
        qnet_conv(&n, (qconv){.out = 3, .kernel = 1}, 0.01f);
    }
    graph *g = qnet_end(&n);
    OK(faults_find_concat_conv(g, &found));
    graph_free(g);
    return found;
}

START_TEST(a_known_fault_is_the_reason_only_where_the_file_has_what_it_needs)
{
    ck_assert(joins_before(DTYPE_I8, OP_CONCAT, false, false));
    ck_assert(joins_before(DTYPE_I8, OP_CONCAT, true, false));
    ck_assert(!joins_before(DTYPE_U8, OP_CONCAT, false, false)); /* uint8 is not touched */
    ck_assert(!joins_before(DTYPE_I8, OP_CONCAT, false, true));  /* no Conv behind it */
    ck_assert(!joins_before(DTYPE_I8, OP_ADD, false, false));
    ck_assert(!joins_before(DTYPE_I8, OP_NONE, true, false));
    ck_assert(!joins_before(DTYPE_NONE, OP_CONCAT, false, false));
    const runtime_row *r = runtimes_find("openvino");
    ck_assert(r && r->wrong_concat && !r->wrong_int8 && !r->wrong_float);
}
END_TEST

const test_entry test_table[] = {TEST(two_weights_of_one_sign), TEST(as_all_pairs_say), TEST(inspect_says_how_many),
                                 TEST(a_haswell_cuts_and_is_cured),
                                 TEST(a_known_fault_is_the_reason_only_where_the_file_has_what_it_needs), {0}};
