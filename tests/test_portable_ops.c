/* test_portable_ops.c - portable INT8 one operator at a time, in every executor: equal bits where it is hardest.
 *
 * Products at the lowest shift, k = 3, where every accumulator lies two units from a tie; products whose 255 * sum|w| + |b| is
 * 2^24 - 2, fed with the codes that reach it, half of the channels two units beside a tie up there, others with partial sums far
 * beyond the result; pools as depthwise convolutions; all 65,536 pairs of codes through an addition; everything that moves. */
#include "everywhere.h"
#include "harness.h"
#include "ops/attrs.h"
#include "qnet.h"
#include "quant/portable.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct profile {
    const char *name;
    dtype act;
    bool s8; /* zero point 0 of int8 everywhere */
} profile;

#define SX(p) QNET_INPUT_SCALE((p)->s8)

static void *data_of(graph *g, const char *name)
{
    value_id v = graph_find(g, name);
    ck_assert_msg(v != 0, "no value '%s'", name);
    return (void *)(uintptr_t)graph_value(g, v)->data;
}

static int zero_after(const profile *p, bool relu)
{
    return relu && !p->s8 ? 0 : 128;
}

/* ---- inputs ---- */

typedef enum feed_kind { FEED_RANDOM, FEED_PAIRS } feed_kind;

/* Codes as uint8 into numbers. Random: the first sample has the code that is farthest from 0 throughout, the second the two ends in
 * turns, the others any. Pairs: channel 0 and 1 go through all pairs. */
static float *make_input(const profile *p, const shape *sh, feed_kind kind, uint64_t seed)
{
    rng r = rng_make(seed, RNG_TEST, 21, 0);
    int64_t n = shape_count(sh), each = n / sh->dim[0];
    float *x = malloc((size_t)n * sizeof *x);
    ck_assert_ptr_nonnull(x);
    for (int64_t i = 0; i < n; i++) {
        int far = p->s8 ? 0 : 255, code = i / each == 0 ? far : i / each == 1 ? (i % 2 ? 255 : 0) : (int)rng_below(&r, 256);
        if (kind == FEED_PAIRS)
            code = (int)(i < each / 2 ? i % 256 : i / 256 % 256);
        x[i] = SX(p) * (float)(code - (p->s8 ? 128 : 0));
    }
    return x;
}

static void add_net(everywhere *e, const profile *p, const char *name, graph *g, feed_kind kind)
{
    char label[64];
    portable_report r;
    OK(portable_check(g, p->s8 ? PROFILE_PORTABLE_S8 : PROFILE_PORTABLE, &r));
    bool only_moves = r.n_layer == 0 && r.n_fault == 1 && strstr(r.fault[0].what, "no layer is quantised");
    ck_assert_msg(r.n_fault == 0 || only_moves, "%s %s: %s", p->name, name, r.n_fault ? r.fault[0].what : "");
    portable_free(&r);
    float *x = make_input(p, &graph_value(g, g->input[0])->sh, kind, e->nets);
    snprintf(label, sizeof label, "%s_%s", p->name, name);
    everywhere_add(e, label, g, x, true);
    free(x);
    graph_free(g);
}

/* ---- products ---- */

typedef struct product_case {
    const char *name;
    shape in;
    qconv c; /* kernel 0: Gemm with c.out outputs */
} product_case;

/* At k = 3 few taps decide; the wide ones have at least 1028 weights in each output. */
static const product_case low[] = {
    {"conv1", {4, {3, 5, 9, 9}}, {.out = 8, .kernel = 1}},
    {"conv3", {4, {3, 5, 9, 9}}, {.out = 8, .kernel = 3, .stride = 2, .pads = {1, 1, 1, 1}}},
    {"grouped", {4, {3, 6, 9, 9}}, {.out = 8, .kernel = 3, .group = 2, .pads = {1, 1, 1, 1}}},
    {"depthwise", {4, {3, 8, 9, 9}}, {.out = 8, .kernel = 3, .group = 8, .pads = {1, 1, 1, 1}}},
    {"multiplied", {4, {3, 4, 9, 9}}, {.out = 8, .kernel = 3, .group = 4}},
    {"dilated", {4, {3, 5, 9, 9}}, {.out = 8, .kernel = 3, .dilation = 2, .pads = {2, 2, 2, 2}}},
    {"gemm", {2, {64, 20}}, {.out = 8}},
};
static const product_case wide[] = {
    {"wide_conv1", {4, {4, 1028, 2, 2}}, {.out = 8, .kernel = 1}},
    {"wide_conv3", {4, {4, 115, 4, 3}}, {.out = 8, .kernel = 3}},
    {"wide_grouped", {4, {3, 230, 3, 3}}, {.out = 8, .kernel = 3, .group = 2}},
    {"wide_depthwise", {4, {3, 8, 33, 33}}, {.out = 8, .kernel = 33, .group = 8}},
    {"wide_gemm", {2, {8, 1028}}, {.out = 8}},
};

enum { OUTPUTS = 8, SUM = 1028 };

/* One product whose smallest shift is k. Weights and biases are the caller's to set. */
static graph *product(const profile *p, const product_case *c, int k, bool relu, uint64_t seed)
{
    qnet n = qnet_new(p->act, true, c->in, SX(p), p->s8 ? 128 : 0, seed);
    float y = 1 / 64.0f, w = ldexpf(y / n.scale, -k);
    if (c->c.kernel)
        qnet_conv(&n, c->c, w);
    else
        qnet_gemm(&n, c->c.out, true, w);
    if (relu)
        qnet_relu(&n);
    qnet_round(&n, y, zero_after(p, relu));
    return qnet_end(&n);
}

/* The scale of its weights becomes one for all. */
static void one_scale(graph *g, const char *name, float w, float x)
{
    char s[32];
    snprintf(s, sizeof s, "%s_ws", name);
    int64_t count = shape_count(&graph_value(g, graph_find(g, s))->sh);
    float *ws = data_of(g, s);
    snprintf(s, sizeof s, "%s_bs", name);
    float *bs = data_of(g, s);
    for (int64_t i = 0; i < count; i++) {
        ws[i] = w;
        bs[i] = w * x;
    }
}

static int8_t *weights_of(graph *g, const char *name, int64_t *each)
{
    char s[32];
    snprintf(s, sizeof s, "%s_w", name);
    *each = shape_count(&graph_value(g, graph_find(g, s))->sh) / OUTPUTS;
    return data_of(g, s);
}

static const char *name_of(const product_case *c)
{
    return c->c.kernel ? "conv1" : "gemm1";
}

/* k = 3: one to four weights of 4 or 8 in an output, so that sums stay within the codes. */
static void add_low(everywhere *e, const profile *p, const product_case *c, bool relu)
{
    char label[64];
    graph *g = product(p, c, 3, relu, e->nets);
    rng r = rng_make(e->nets, RNG_TEST, 22, 0);
    int64_t each;
    int8_t *w = weights_of(g, name_of(c), &each);
    int32_t *b = data_of(g, c->c.kernel ? "conv1_b" : "gemm1_b");
    one_scale(g, name_of(c), ldexpf(1 / 64.0f / SX(p), -3), SX(p));
    memset(w, 0, (size_t)(OUTPUTS * each));
    for (int o = 0; o < OUTPUTS; o++) {
        for (int i = 0; i <= o % 4; i++)
            w[o * each + (int64_t)rng_below(&r, (uint32_t)each)] = (int8_t)((rng_below(&r, 2) ? 4 : 8) * (rng_below(&r, 3) ? 1 : -1));
        b[o] = 4 * ((int)rng_below(&r, 200) - 100) + (o % 2 ? 2 : -2);
    }
    snprintf(label, sizeof label, "%s%s", c->name, relu ? "_relu" : "");
    add_net(e, p, label, g, FEED_RANDOM);
}

/* sum|w| = 64 * 1028 = 65792. With codes of 255 and weights that add up to 65536 the sum is 255 * 2^16, with codes of -128 and
 * 65024 it is -127 * 2^16: at k = 17 both are ties, b = +-2 lies beside them, b = +-254 makes the bound 2^24 - 2. */
static void add_wide(everywhere *e, const profile *p, const product_case *c, bool relu)
{
    char label[64];
    graph *g = product(p, c, 17, relu, e->nets);
    int64_t each;
    int8_t *w = weights_of(g, name_of(c), &each);
    int32_t *b = data_of(g, c->c.kernel ? "conv1_b" : "gemm1_b");
    const int32_t bias[OUTPUTS] = {2, -2, 2, -2, 254, -254, 2, -2};
    const int against = p->s8 ? 6 : 2; /* weights of the other sign */
    one_scale(g, name_of(c), ldexpf(1 / 64.0f / SX(p), -17), SX(p));
    ck_assert_int_ge(each, SUM);
    memset(w, 0, (size_t)(OUTPUTS * each));
    for (int o = 0; o < OUTPUTS; o++) {
        b[o] = bias[o];
        for (int i = 0; i < SUM; i++) {
            bool plus = o == 6 ? i % 2 : o == 7 ? i < SUM / 2 : (i < against) == (o == 2 || o == 3 || o == 5);
            w[o * each + i] = plus ? 64 : -64;
        }
    }
    portable_report r;
    OK(portable_check(g, PROFILE_NONE, &r));
    ck_assert(r.n_layer == 1 && r.layer[0].bound == 16777214);
    portable_free(&r);
    snprintf(label, sizeof label, "%s%s", c->name, relu ? "_relu" : "");
    add_net(e, p, label, g, FEED_RANDOM);
}

/* ---- pools as depthwise convolutions: all weights 4, bias 2 ---- */

static void add_pool(everywhere *e, const profile *p, int64_t side, int64_t stride)
{
    char label[64];
    qnet n = qnet_new(p->act, true, SHAPE(3, OUTPUTS, side == 8 ? 8 : 9, 8), SX(p), p->s8 ? 128 : 0, 1);
    qnet_conv(&n, (qconv){.out = OUTPUTS, .kernel = side, .stride = stride, .group = OUTPUTS}, 1);
    qnet_round(&n, SX(p), zero_after(p, true));
    graph *g = qnet_end(&n);
    int64_t each;
    int8_t *w = weights_of(g, "conv1", &each);
    int32_t *b = data_of(g, "conv1_b");
    one_scale(g, "conv1", 1 / (float)(4 * side * side), SX(p));
    for (int64_t i = 0; i < OUTPUTS * each; i++)
        w[i] = 4;
    for (int o = 0; o < OUTPUTS; o++)
        b[o] = 2;
    snprintf(label, sizeof label, "pool%d", (int)side);
    add_net(e, p, label, g, FEED_RANDOM);
}

/* ---- sums and moves ---- */

/* Channel `which` of n->v as it is: a weight of 64 at k = 6. */
static value_id pick(qnet *n, const profile *p, value_id from, int which)
{
    char name[32];
    n->v = from;
    n->scale = SX(p);
    snprintf(name, sizeof name, "conv%d_w", n->layers);
    qnet_conv(n, (qconv){.out = 1, .kernel = 1, .per_tensor = true}, 1 / 64.0f);
    int8_t *w = data_of(n->g, name);
    w[which] = 64;
    w[1 - which] = 0;
    snprintf(name, sizeof name, "conv%d_b", n->layers - 1);
    *(int32_t *)data_of(n->g, name) = 2;
    snprintf(name, sizeof name, "conv%d", n->layers - 1);
    one_scale(n->g, name, 1 / 64.0f, SX(p));
    qnet_round(n, SX(p), p->s8 ? 128 : 0);
    return n->v;
}

static void add_sum(everywhere *e, const profile *p, bool signed_sum)
{
    qnet n = qnet_new(p->act, true, SHAPE(1, 2, 256, 256), SX(p), p->s8 ? 128 : 0, 1);
    value_id x = n.v, a = pick(&n, p, x, 0);
    pick(&n, p, x, 1);
    qnet_two(&n, OP_ADD, a, NULL);
    if (!signed_sum)
        qnet_relu(&n);
    qnet_round(&n, SX(p), zero_after(p, !signed_sum));
    add_net(e, p, signed_sum ? "add" : "add_relu", qnet_end(&n), FEED_PAIRS);
}

static const int64_t two[2] = {2, 2}, three[2] = {3, 3}, one[2] = {1, 1}, pads1[4] = {1, 1, 1, 1};

/* Rounds to the parameters of the last codes. */
static void again(qnet *n)
{
    node_id last = 0;
    for (node_id k = 1; k < n->g->n_node; k++)
        last = n->g->node[k].op == OP_QUANTIZE_LINEAR ? k : last;
    const value *zero = graph_value(n->g, n->g->node[last].in[2]);
    qnet_round(n, n->scale, (int)dtype_load(zero->type, zero->data, 0) + (zero->type == DTYPE_I8 ? 128 : 0));
}

static void max_pool(qnet *n) { qnet_node(n, OP_MAX_POOL, &(pool_attrs){.kernel_shape = {2, two}, .strides = {2, two}, .dilations = {2, one}}); }
static void max_pool_padded(qnet *n) { qnet_node(n, OP_MAX_POOL, &(pool_attrs){.kernel_shape = {2, three}, .strides = {2, two}, .dilations = {2, one}, .pads = {4, pads1}}); }
static void global_max(qnet *n) { qnet_node(n, OP_GLOBAL_MAX_POOL, NULL); }
static void pad(qnet *n) { qnet_node(n, OP_PAD, &(pad_attrs){.pads = {8, (const int64_t[]){0, 1, 1, 0, 0, 0, 2, 3}}}); }
static void concat(qnet *n) { qnet_two(n, OP_CONCAT, n->v, &(axis_attrs){1}); }
static void nearest(qnet *n) { qnet_node(n, OP_RESIZE, &(resize_attrs){.mode = RESIZE_NEAREST, .coordinate_transformation_mode = COORD_ASYMMETRIC, .nearest_mode = NEAREST_FLOOR, .scales = {4, (const double[]){1, 1, 2, 3}}}); }
static void nearest_half(qnet *n) { qnet_node(n, OP_RESIZE, &(resize_attrs){.mode = RESIZE_NEAREST, .coordinate_transformation_mode = COORD_HALF_PIXEL, .nearest_mode = NEAREST_ROUND_PREFER_FLOOR, .scales = {4, (const double[]){1, 1, 2, 2}}}); }
static void reshape(qnet *n) { qnet_node(n, OP_RESHAPE, &(reshape_attrs){.shape = {3, (const int64_t[]){0, 2, -1}}}); }
static void flatten(qnet *n) { qnet_node(n, OP_FLATTEN, &(axis_attrs){1}); }
static void transpose(qnet *n) { qnet_node(n, OP_TRANSPOSE, &(transpose_attrs){{4, (const int64_t[]){0, 2, 3, 1}}}); }
static void unsqueeze(qnet *n) { flatten(n); again(n); qnet_node(n, OP_UNSQUEEZE, &(axes_attrs){{1, (const int64_t[]){1}}}); }
static void squeeze(qnet *n) { global_max(n); again(n); qnet_node(n, OP_SQUEEZE, &(axes_attrs){{1, (const int64_t[]){3}}}); }
static void slice(qnet *n) { qnet_node(n, OP_SLICE, &(slice_attrs){.starts = {2, (const int64_t[]){1, 6}}, .ends = {2, (const int64_t[]){3, 0}}, .axes = {2, (const int64_t[]){1, 3}}, .steps = {2, (const int64_t[]){1, -2}}}); }
static void split(qnet *n)
{
    value_id half[2];
    split_attrs a;
    op_default_attrs(OP_SPLIT, &a);
    a.axis = 1;
    a.split = (attr_ints){2, (const int64_t[]){1, 3}};
    OK(graph_add_named(n->g, "split", OP_SPLIT, &a, &n->v, 1, NULL, half, 2));
    n->v = half[0];
    again(n);
    value_id first = n->v;
    n->v = half[1];
    again(n);
    qnet_two(n, OP_CONCAT, first, &(axis_attrs){1});
}

static const struct {
    const char *name;
    void (*build)(qnet *n);
    bool tflite;
} moves[] = {
    {"max_pool", max_pool, true}, {"max_pool_padded", max_pool_padded, true}, {"global_max", global_max, true}, {"pad", pad, true},
    {"concat", concat, true}, {"nearest", nearest, true}, {"nearest_half", nearest_half, true}, {"reshape", reshape, true},
    {"flatten", flatten, true}, {"transpose", transpose, true}, {"unsqueeze", unsqueeze, true}, {"squeeze", squeeze, true},
    {"slice", slice, false}, {"split", split, false},
};

static void add_move(everywhere *e, const profile *p, size_t i)
{
    qnet n = qnet_new(p->act, true, SHAPE(3, 4, 6, 7), SX(p), p->s8 ? 128 : 0, 1);
    size_t before = e->no_tflite;
    moves[i].build(&n);
    again(&n);
    add_net(e, p, moves[i].name, qnet_end(&n), FEED_RANDOM);
    ck_assert_msg((e->no_tflite == before) == moves[i].tflite, "%s: %s", moves[i].name, e->why.s ? e->why.s : "");
}

/* ---- the whole ---- */

#define COUNT(a) (sizeof(a) / sizeof *(a))

static void products_of(const profile *p, const char *test)
{
    everywhere e = everywhere_begin();
    for (int relu = 0; relu < 2; relu++) {
        for (size_t i = 0; i < COUNT(low); i++)
            add_low(&e, p, &low[i], relu);
        for (size_t i = 0; i < COUNT(wide); i++)
            add_wide(&e, p, &wide[i], relu);
    }
    ck_assert_uint_eq(e.products, e.nets);
    e.haswell = true; /* pairs of 64 * 255 just fit */
    ck_assert_uint_eq(e.no_tflite, 0);
    everywhere_judge(&e, test);
}

static void rest_of(const profile *p, const char *test)
{
    everywhere e = everywhere_begin();
    add_pool(&e, p, 2, 2);
    add_pool(&e, p, 4, 4);
    add_pool(&e, p, 8, 1);
    add_sum(&e, p, true);
    add_sum(&e, p, false);
    for (size_t i = 0; i < COUNT(moves); i++)
        add_move(&e, p, i);
    printf("%s: %zu nets, %zu without a .tflite\n", test, e.nets, e.no_tflite);
    everywhere_judge(&e, test);
}

static const profile u8 = {"u8", DTYPE_U8, false}, s8 = {"s8", DTYPE_I8, false}, s8_zero = {"s8_zero", DTYPE_I8, true};

START_TEST(products_u8) { products_of(&u8, "products_u8"); } END_TEST
START_TEST(products_s8) { products_of(&s8, "products_s8"); } END_TEST
START_TEST(products_portable_s8) { products_of(&s8_zero, "products_portable_s8"); } END_TEST
START_TEST(rest_u8) { rest_of(&u8, "rest_u8"); } END_TEST
START_TEST(rest_s8) { rest_of(&s8, "rest_s8"); } END_TEST
START_TEST(rest_portable_s8) { rest_of(&s8_zero, "rest_portable_s8"); } END_TEST

const test_entry test_table[] = {TEST(products_u8), TEST(products_s8), TEST(products_portable_s8), TEST(rest_u8), TEST(rest_s8),
                                 TEST(rest_portable_s8), {0}};
