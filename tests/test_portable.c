/* test_portable.c - the proof of portable INT8: it takes nets made at random inside the rules, refuses those that break one by
 * the least, naming it; and what it takes gives the same bits everywhere. */
#include "everywhere.h"
#include "exec/exec.h"
#include "harness.h"
#include "onnx/export.h"
#include "onnx/import.h"
#include "ops/attrs.h"
#include "program.h"
#include "qnet.h"
#include "quant/portable.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- inside ---- */

static void print_faults(const char *name, const portable_report *r)
{
    for (size_t i = 0; i < r->n_fault; i++)
        printf("%s: rule %d, %s: %s\n", name, r->fault[i].rule, r->fault[i].node, r->fault[i].what);
    fflush(stdout);
}

static void accepted(const char *name, const graph *g, quant_profile want)
{
    portable_report r;
    OK(portable_check(g, PROFILE_NONE, &r));
    print_faults(name, &r);
    ck_assert_msg(r.n_fault == 0 && r.profile == want, "%s: %zu faults, profile %d", name, r.n_fault, (int)r.profile);
    ck_assert_uint_ge(r.n_layer, 1);
    for (size_t i = 0; i < r.n_layer; i++)
        ck_assert(r.layer[i].k_min >= 3 && r.layer[i].w_max <= 64 && r.layer[i].bound < 16777216 && r.layer[i].proven);
    portable_free(&r);
}

START_TEST(nets_inside_the_rules_are_proven)
{
    for (uint64_t seed = 0; seed < 300; seed++) {
        bool s8 = seed % 3 == 2;
        graph *g = qnet_portable(seed, seed % 3 ? DTYPE_I8 : DTYPE_U8, s8, 1), *back = NULL;
        accepted("random", g, s8 ? PROFILE_PORTABLE_S8 : PROFILE_PORTABLE);
        if (seed % 10 == 0) { /* what was exported and imported is the same model */
            text bytes = {0};
            onnx_model *m = NULL;
            OK(onnx_export(g, NULL, &bytes));
            OK(onnx_open_bytes("net", bytes.s, bytes.n, NULL, &m));
            OK(onnx_import(m, &(import_options){0}, &back));
            accepted("imported", back, s8 ? PROFILE_PORTABLE_S8 : PROFILE_PORTABLE);
            graph_free(back);
            onnx_close(m);
            text_free(&bytes);
        }
        graph_free(g);
    }
}
END_TEST

/* ---- outside ---- */

static void *data_of(graph *g, const char *name)
{
    value_id v = graph_find(g, name);
    ck_assert_msg(v != 0, "no value '%s'", name);
    return (void *)(uintptr_t)graph_value(g, v)->data;
}

/* q0: x, conv1, Relu2, q3, conv4, q5, Add6, Relu7, q8, Flatten9, gemm10, q11. u8, shift 7 to 8. */
static graph *victim(void (*change)(qnet *n, int at))
{
    qnet n = qnet_new(DTYPE_U8, true, SHAPE(1, 2, 6, 6), 1 / 256.0f, 0, 5);
    qnet_conv(&n, (qconv){.out = 4, .kernel = 3, .pads = {1, 1, 1, 1}}, 1 / 1024.0f);
    qnet_relu(&n);
    qnet_round(&n, 1 / 2048.0f * 4, 0); /* k = 18 - 9 = 9 or 10 */
    if (change)
        change(&n, 1);
    value_id x = n.v;
    qnet_conv(&n, (qconv){.out = 4, .kernel = 1}, 1 / 128.0f);
    qnet_round(&n, 1 / 512.0f, 128);
    qnet_two(&n, OP_ADD, x, NULL);
    qnet_relu(&n);
    qnet_round(&n, 1 / 512.0f, 0);
    if (change)
        change(&n, 2);
    qnet_node(&n, OP_FLATTEN, &(axis_attrs){1});
    qnet_gemm(&n, 3, true, 1 / 1024.0f);
    qnet_round(&n, 1 / 64.0f, 128);
    if (change)
        change(&n, 3);
    return qnet_end(&n);
}

#define RULE(n) (1u << (n))

static void refused(const char *name, const graph *g, unsigned rules)
{
    portable_report r;
    unsigned seen = 0;
    text t = {0};
    OK(portable_check(g, PROFILE_NONE, &r));
    for (size_t i = 0; i < r.n_fault; i++)
        seen |= RULE(r.fault[i].rule);
    if (seen != rules)
        print_faults(name, &r);
    ck_assert_msg(seen == rules, "%s: breaks rules %x, expected %x", name, seen, rules);
    portable_print(&r, &t);
    ck_assert_ptr_nonnull(strstr(t.s, "not proven"));
    text_free(&t);
    portable_free(&r);
}

typedef struct poke { /* one number of one constant */
    const char *name, *value;
    int64_t at;
    double to; /* NAN: multiply by `times` */
    double times;
    unsigned rules; /* broken then; 0: none */
} poke;

static const poke pokes[] = {
    {"|w| of 65", "conv1_w", 3, 65, 0, RULE(2) | RULE(3)},
    {"|w| of 68", "conv1_w", 3, 68, 0, RULE(2)},
    {"|w| of -68", "gemm10_w", 7, -68, 0, RULE(2)},
    {"|w| of 64", "conv1_w", 3, -64, 0, 0},
    {"a weight of 6", "conv4_w", 2, 6, 0, RULE(3)},
    {"a weight of 1", "gemm10_w", 0, 1, 0, RULE(3)},
    {"a weight of -4", "gemm10_w", 0, -4, 0, 0},
    {"bias 0 mod 4", "conv1_b", 1, 4, 0, RULE(3)},
    {"bias odd", "conv1_b", 1, -7, 0, RULE(3)},
    {"bias -2", "conv1_b", 1, -2, 0, 0},
    {"bias 2^24", "conv1_b", 1, 16777218, 0, RULE(4)},
    {"weight scale", "conv1_ws", 2, NAN, 1.5, RULE(1)},
    {"weight scale next to a power of two", "conv4_ws", 0, NAN, 1 + 1.0 / 8388608, RULE(1)},
    {"bias scale", "conv1_bs", 0, NAN, 2, RULE(1)},
    {"weight scale 0", "conv1_ws", 0, 0, 0, RULE(1)},
    {"weight scale negative", "conv1_ws", 0, NAN, -1, RULE(1)},
    {"weight scale nan", "conv1_ws", 0, NAN, NAN, RULE(1)},
    {"weight scale infinite", "conv1_ws", 0, INFINITY, 0, RULE(1)},
};

START_TEST(one_number_outside_a_rule)
{
    graph *g = victim(NULL);
    accepted("victim", g, PROFILE_PORTABLE);
    graph_free(g);
    for (size_t i = 0; i < sizeof pokes / sizeof *pokes; i++) {
        const poke *p = &pokes[i];
        g = victim(NULL);
        const value *v = graph_value(g, graph_find(g, p->value));
        double was = dtype_load(v->type, data_of(g, p->value), p->at);
        dtype_store(v->type, data_of(g, p->value), p->at, isnan(p->to) ? was * p->times : p->to);
        if (p->rules)
            refused(p->name, g, p->rules);
        else
            accepted(p->name, g, PROFILE_PORTABLE);
        graph_free(g);
    }
}
END_TEST

/* The same at a random product of random nets, whose type and profile vary too. */
START_TEST(random_nets_broken_at_a_random_place)
{
    static const struct {
        const char *end;
        double to, times;
        unsigned rule;
    } way[] = {{"_w", 68, 0, RULE(2)}, {"_w", -68, 0, RULE(2)}, {"_w", 2, 0, RULE(3)}, {"_w", -63, 0, RULE(3)},
               {"_b", 0, 0, RULE(3)}, {"_b", 5, 0, RULE(3)}, {"_b", -16777218, 0, RULE(4)}, {"_bs", NAN, 0.5, RULE(1)},
               {"_ws", NAN, 0.75, RULE(1)}, {"_ws", NAN, 0, RULE(1)}};
    for (uint64_t seed = 0; seed < 200; seed++) {
        rng r = rng_make(seed, RNG_TEST, 9, 0);
        size_t w = rng_below(&r, sizeof way / sizeof *way);
        graph *g = qnet_portable(seed, seed % 2 ? DTYPE_I8 : DTYPE_U8, seed % 4 == 3, 1);
        value_id found = 0;
        uint32_t seen = 0;
        for (value_id v = 1; v < g->n_value; v++) {
            const char *name = graph_value(g, v)->name;
            size_t n = strlen(name), k = strlen(way[w].end);
            if (graph_value(g, v)->kind == VALUE_CONST && n > k && strcmp(name + n - k, way[w].end) == 0 && !rng_below(&r, ++seen))
                found = v;
        }
        ck_assert_uint_ne(found, 0);
        const value *c = graph_value(g, found);
        int64_t at = rng_below(&r, (uint32_t)shape_count(&c->sh));
        double was = dtype_load(c->type, c->data, at);
        dtype_store(c->type, (void *)(uintptr_t)c->data, at, isnan(way[w].to) ? was * way[w].times : way[w].to);
        refused(c->name, g, way[w].rule);
        graph_free(g);
    }
}
END_TEST

/* Weights and biases scaled so that the smallest shift of conv1 is k: exactly 3 is taken, 2 is not. */
START_TEST(the_shift_at_its_bound)
{
    for (int k = 1; k <= 5; k++) {
        graph *g = victim(NULL);
        float *ws = data_of(g, "conv1_ws"), *bs = data_of(g, "conv1_bs"), least = 0;
        for (int o = 0; o < 4; o++)
            least = ws[o] > least ? ws[o] : least;
        float times = ldexpf(1 / 512.0f, -k) / (least / 256.0f);
        for (int o = 0; o < 4; o++) {
            ws[o] *= times;
            bs[o] *= times;
        }
        if (k < 3)
            refused("shift", g, RULE(3));
        else
            accepted("shift", g, PROFILE_PORTABLE);
        graph_free(g);
    }
}
END_TEST

/* 255 * 65792 + 254 = 2^24 - 2 is taken, 4 more are not; neither is one weight more. */
START_TEST(the_accumulator_at_its_bound)
{
    const struct {
        int32_t bias;
        int8_t last;
        bool fits;
    } bound[] = {{254, 0, true}, {-254, 0, true}, {258, 0, false}, {-258, 0, false}, {2, 4, false}};
    for (size_t i = 0; i < sizeof bound / sizeof *bound; i++) {
        qnet n = qnet_new(DTYPE_U8, true, SHAPE(1, 1032, 2, 2), 1 / 256.0f, 0, 5);
        qnet_conv(&n, (qconv){.out = 2, .kernel = 1}, 1 / 1024.0f);
        qnet_round(&n, 1 / 4.0f, 128);
        graph *g = qnet_end(&n);
        int8_t *w = data_of(g, "conv1_w");
        for (int c = 0; c < 1032; c++)
            w[1032 + c] = (int8_t)(c % 2 ? 64 : -64);
        for (int c = 1028; c < 1032; c++)
            w[1032 + c] = 0; /* 64 * 1028 = 65792 */
        w[1032 + 1031] = bound[i].last;
        ((int32_t *)data_of(g, "conv1_b"))[1] = bound[i].bias;
        if (bound[i].fits)
            accepted("bound", g, PROFILE_PORTABLE);
        else
            refused("bound", g, RULE(4));
        graph_free(g);
    }
}
END_TEST

static const int64_t two[2] = {2, 2}, one[2] = {1, 1};
static void average(qnet *n, int at) { if (at == 2) { qnet_node(n, OP_AVERAGE_POOL, &(pool_attrs){.kernel_shape = {2, two}, .strides = {2, two}, .dilations = {2, one}}); qnet_round(n, n->scale, 0); } }
static void global(qnet *n, int at) { if (at == 2) { qnet_node(n, OP_GLOBAL_AVERAGE_POOL, NULL); qnet_round(n, n->scale, 0); } }
static void sigmoid(qnet *n, int at) { if (at == 1) { qnet_node(n, OP_SIGMOID, NULL); qnet_round(n, 1 / 512.0f, 0); } }
static void rescale(qnet *n, int at) { if (at == 2) qnet_round(n, n->scale * 2, 0); }
static void rezero(qnet *n, int at) { if (at == 2) qnet_round(n, n->scale, 128); }
static void joined(qnet *n, int at) { if (at == 2) { value_id x = n->v; qnet_conv(n, (qconv){.out = 4, .kernel = 1}, 1 / 128.0f); qnet_round(n, 1 / 512.0f, 128); qnet_two(n, OP_CONCAT, x, &(axis_attrs){1}); qnet_round(n, 1 / 512.0f, 0); } }
static void linear(qnet *n, int at) { if (at == 2) { qnet_node(n, OP_RESIZE, &(resize_attrs){.mode = RESIZE_LINEAR, .scales = {4, (const double[]){1, 1, 2, 2}}}); qnet_round(n, n->scale, 0); } }
static void mul(qnet *n, int at) { if (at == 2) { qnet_two(n, OP_MUL, n->v, NULL); qnet_round(n, n->scale, 0); } }
static void odd_zero(qnet *n, int at) { if (at == 2) { qnet_conv(n, (qconv){.out = 4, .kernel = 1}, 1 / 128.0f); qnet_round(n, 1 / 512.0f, 10); } }

static void relu_128(qnet *n, int at) { if (at == 2) { qnet_conv(n, (qconv){.out = 4, .kernel = 1}, 1 / 128.0f); qnet_relu(n); qnet_round(n, 1 / 512.0f, 128); } }
static void cut(qnet *n, int at) { if (at == 2) { qnet_conv(n, (qconv){.out = 4, .kernel = 1}, 1 / 128.0f); qnet_node(n, OP_CLIP, &(clip_attrs){0, 0.25}); qnet_round(n, 1 / 512.0f, 0); } }
static void no_bias(qnet *n, int at) { if (at == 2) { qnet_conv(n, (qconv){.out = 4, .kernel = 1, .no_bias = true}, 1 / 128.0f); qnet_round(n, 1 / 512.0f, 128); } }
static void unequal_sum(qnet *n, int at) { if (at == 2) { value_id x = n->v; qnet_conv(n, (qconv){.out = 4, .kernel = 1}, 1 / 64.0f); qnet_round(n, 1 / 256.0f, 128); qnet_two(n, OP_ADD, x, NULL); qnet_round(n, 1 / 256.0f, 128); } }
static void softmax(qnet *n, int at) { if (at == 3) qnet_node(n, OP_SOFTMAX, &(axis_attrs){1}); }
static void float_sums(qnet *n, int at) { if (at == 3) qnet_gemm(n, 3, true, 1 / 128.0f); }
static void wide_pad(qnet *n, int at) { if (at == 2) { qnet_node(n, OP_PAD, &(pad_attrs){.pads = {8, (const int64_t[]){0, 0, 1, 1, 0, 0, 1, 1}}, .constant_value = 0.25}); qnet_round(n, n->scale, 0); } }
static void zero_pad(qnet *n, int at) { if (at == 2) { qnet_node(n, OP_PAD, &(pad_attrs){.pads = {8, (const int64_t[]){0, 0, 1, 1, 0, 0, 1, 1}}}); qnet_round(n, n->scale, 0); } }
static void late_relu(qnet *n, int at) { if (at == 2) { qnet_conv(n, (qconv){.out = 4, .kernel = 1}, 1 / 128.0f); qnet_round(n, 1 / 512.0f, 128); qnet_relu(n); qnet_round(n, 1 / 512.0f, 0); } }
static void late_max(qnet *n, int at) { if (at == 2) { qnet_conv(n, (qconv){.out = 4, .kernel = 1}, 1 / 128.0f); qnet_node(n, OP_MAX_POOL, &(pool_attrs){.kernel_shape = {2, two}, .strides = {2, two}, .dilations = {2, one}}); qnet_round(n, 1 / 512.0f, 128); } }

static const struct {
    const char *name;
    void (*change)(qnet *n, int at);
    unsigned rules;
} structures[] = {
    {"average pool", average, RULE(6)}, {"global average pool", global, RULE(6)}, {"sigmoid inside", sigmoid, RULE(6)},
    {"rescaled", rescale, RULE(6)}, {"zero point moved", rezero, RULE(6)}, {"concat of unequal zeros", joined, RULE(6)},
    {"bilinear", linear, RULE(6)}, {"mul inside", mul, RULE(6)}, {"zero point 10", odd_zero, RULE(5)},
    {"relu at 128", relu_128, RULE(5)}, {"clip inside the codes", cut, RULE(5)}, {"no bias", no_bias, RULE(3)},
    {"sum of unequal scales", unequal_sum, RULE(6)}, {"softmax behind", softmax, 0},
    {"sums that nobody rounds", float_sums, RULE(6)}, {"pad with a number", wide_pad, RULE(6)}, {"pad with zeros", zero_pad, 0},
    {"relu of codes", late_relu, 0}, {"max of sums", late_max, RULE(6)},
};

START_TEST(one_node_outside_a_rule)
{

    for (size_t i = 0; i < sizeof structures / sizeof *structures; i++) {
        graph *g = victim(structures[i].change);
        if (structures[i].rules)
            refused(structures[i].name, g, structures[i].rules);
        else
            accepted(structures[i].name, g, PROFILE_PORTABLE);
        graph_free(g);
    }
    qnet n = qnet_new(DTYPE_NONE, false, SHAPE(1, 2, 6, 6), 1, 0, 5);
    qnet_conv(&n, (qconv){.out = 4, .kernel = 3}, 0.01f);
    refused("float", qnet_end(&n), RULE(6));
    graph_free(n.g);
    n = qnet_new(DTYPE_U8, false, SHAPE(1, 2, 6, 6), 1 / 256.0f, 0, 5); /* ordinary weights */
    qnet_conv(&n, (qconv){.out = 40, .kernel = 3}, 0.01f);
    qnet_round(&n, 0.1f, 128);
    refused("ordinary", qnet_end(&n), RULE(1) | RULE(2) | RULE(3));
    graph_free(n.g);
}
END_TEST

/* An activation scale that is no power of two breaks rule 1 wherever it stands; so does a pair that disagrees. */
START_TEST(parameters_of_activations)
{
    graph *g = victim(NULL);
    size_t pairs = 0;
    for (size_t k = 1; k < g->n_node; k++)
        pairs += g->node[k].op == OP_QUANTIZE_LINEAR;
    graph_free(g);
    for (size_t which = 0; which < pairs; which++) {
        g = victim(NULL);
        size_t at = 0;
        for (size_t k = 1; k < g->n_node; k++)
            if (g->node[k].op == OP_QUANTIZE_LINEAR && at++ == which)
                *(float *)(uintptr_t)graph_value(g, g->node[k].in[1])->data *= 1.25f; /* the pair shares the constant */
        portable_report r;
        OK(portable_check(g, PROFILE_NONE, &r));
        bool rule1 = false;
        for (size_t i = 0; i < r.n_fault; i++)
            rule1 |= r.fault[i].rule == 1;
        ck_assert(rule1);
        portable_free(&r);
        graph_free(g);
    }
    g = victim(NULL);
    portable_report r;
    OK(portable_check(g, PROFILE_PORTABLE_S8, &r)); /* asked for the other profile */
    ck_assert_uint_ge(r.n_fault, 4);
    for (size_t i = 0; i < r.n_fault; i++)
        ck_assert_int_eq(r.fault[i].rule, 5);
    portable_free(&r);
    graph_free(g);
}
END_TEST

/* ---- the command ---- */

START_TEST(inspect_says_whether)
{
    const char *dir = test_tmp_dir(), *good = test_path(dir, "good.onnx"), *bad = test_path(dir, "bad.onnx");
    graph *g = victim(NULL);
    OK(onnx_export_file(g, NULL, good));
    ((int8_t *)data_of(g, "conv1_w"))[0] = 68;
    OK(onnx_export_file(g, NULL, bad));
    graph_free(g);
    ran r = program_run(&(program_options){0}, ARGS("inspect", "--portable", good));
    ck_assert_int_eq(r.code, 0);
    ck_assert_ptr_nonnull(strstr(r.out, "portable: proven"));
    ck_assert_ptr_nonnull(strstr(r.out, "multiples of 0.00390625 from 0 to 0.996094"));
    ran_free(&r);
    r = program_run(&(program_options){0}, ARGS("inspect", "--portable", bad));
    ck_assert_int_eq(r.code, 1);
    ck_assert_ptr_nonnull(strstr(r.out, "rule 2    conv1: channel 0: the largest |w|, above 64, is 68"));
    ran_free(&r);
    r = program_run(&(program_options){0}, ARGS("inspect", "--portable", "--json", bad));
    ck_assert_int_eq(r.code, 1);
    ck_assert_ptr_nonnull(strstr(r.out, "\"proven\":false"));
    ran_free(&r);
}
END_TEST

/* ---- the same bits everywhere ---- */

enum { MATRIX_NETS = 18, MATRIX_BATCH = 3 };

START_TEST(the_same_bits_everywhere)
{
    everywhere e = everywhere_begin();
    for (uint64_t seed = 0; seed < MATRIX_NETS; seed++) {
        char name[32];
        bool s8 = seed % 3 == 2;
        float *x, *y;
        graph *g = qnet_portable(1000 + seed, seed % 3 ? DTYPE_I8 : DTYPE_U8, s8, MATRIX_BATCH);
        snprintf(name, sizeof name, "net%d", (int)seed);
        accepted(name, g, s8 ? PROFILE_PORTABLE_S8 : PROFILE_PORTABLE);
        qnet_run(g, seed, s8 ? -1 : 0, 1, QNET_INPUT_SCALE(s8), &x, &y, false);
        everywhere_add(&e, name, g, x, true);
        mem_free(x);
        mem_free(y);
        graph_free(g);
    }
    ck_assert_uint_ge(e.products, 3 * MATRIX_NETS); /* the integer executor did run integers */
    ck_assert_uint_eq(e.no_tflite, 0);
    everywhere_judge(&e, "the_same_bits_everywhere");
}
END_TEST

const test_entry test_table[] = {TEST(nets_inside_the_rules_are_proven), TEST(one_number_outside_a_rule), TEST(random_nets_broken_at_a_random_place),
                                 TEST(the_shift_at_its_bound),
                                 TEST(the_accumulator_at_its_bound), TEST(one_node_outside_a_rule), TEST(parameters_of_activations),
                                 TEST(inspect_says_whether), TEST(the_same_bits_everywhere), {0}};
