/* test_portable_rules.c - the proof of portable INT8 takes exactly what its rules allow: one product whose numbers are drawn
 * around every limit, against the rules written down once more, element by element; and for each rule that is about structure a
 * net just inside and one just outside. */
#include "harness.h"
#include "ops/attrs.h"
#include "qnet.h"
#include "quant/portable.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define RULE(n) (1u << (n))

static unsigned broken(const graph *g, quant_profile profile, text *what)
{
    portable_report r;
    unsigned seen = 0;
    OK(portable_check(g, profile, &r));
    for (size_t i = 0; i < r.n_fault; i++) {
        seen |= RULE(r.fault[i].rule);
        text_printf(what, "\n  rule %d, %s: %s", r.fault[i].rule, r.fault[i].node, r.fault[i].what);
    }
    portable_free(&r);
    return seen;
}

static void expect(const char *name, graph *g, quant_profile profile, unsigned rules)
{
    text what = {0};
    unsigned seen = broken(g, profile, &what);
    ck_assert_msg(seen == rules, "%s: breaks rules %x, expected %x%s", name, seen, rules, what.s ? what.s : "");
    text_free(&what);
    graph_free(g);
}

static void *data_of(graph *g, const char *name)
{
    value_id v = graph_find(g, name);
    ck_assert_msg(v != 0, "no value '%s'", name);
    return (void *)(uintptr_t)graph_value(g, v)->data;
}

/* ---- one product, numbers around the limits ---- */

typedef struct drawn {
    graph *g;
    int8_t *w, *wz;
    int32_t *b;
    float *ws, *bs, *xs, *ys;
    uint8_t *yz;
    int64_t n_scale, n_bias_scale, each, stride, step; /* weight i of output o: w[o * stride + i * step] */
} drawn;

enum { OUTPUTS = 3 };

static drawn draw_product(rng *r)
{
    bool gemm = rng_below(r, 3) == 0, trans_b = rng_below(r, 2), wide = rng_below(r, 3) == 0;
    int64_t c = wide ? 1030 : 4, k = wide || rng_below(r, 2) ? 1 : 3, count, group = wide || gemm || k == 1 ? 1 : 2;
    qnet n = qnet_new(DTYPE_U8, true, gemm ? SHAPE(1, c) : SHAPE(1, c, 4, 4), 1 / 256.0f, 0, rng_below(r, 1u << 30));
    if (gemm)
        qnet_gemm(&n, OUTPUTS, trans_b, 1 / 1024.0f);
    else
        qnet_conv(&n, (qconv){.out = OUTPUTS * group, .kernel = k, .group = group, .per_tensor = rng_below(r, 2)}, 1 / 1024.0f);
    qnet_round(&n, 1 / 4.0f, 128);
    drawn d = {.g = qnet_end(&n)};
    d.w = data_of(d.g, gemm ? "gemm1_w" : "conv1_w");
    d.b = data_of(d.g, gemm ? "gemm1_b" : "conv1_b");
    d.ws = data_of(d.g, gemm ? "gemm1_ws" : "conv1_ws");
    d.bs = data_of(d.g, gemm ? "gemm1_bs" : "conv1_bs");
    d.n_scale = shape_count(&graph_value(d.g, graph_find(d.g, gemm ? "gemm1_ws" : "conv1_ws"))->sh);
    d.n_bias_scale = shape_count(&graph_value(d.g, graph_find(d.g, gemm ? "gemm1_bs" : "conv1_bs"))->sh);
    count = shape_count(&graph_value(d.g, graph_find(d.g, gemm ? "gemm1_w" : "conv1_w"))->sh);
    d.each = count / (OUTPUTS * group);
    d.stride = gemm && !trans_b ? 1 : d.each;
    d.step = gemm && !trans_b ? OUTPUTS : 1;
    for (size_t i = 1; i < d.g->n_node; i++)
        if (d.g->node[i].op == OP_QUANTIZE_LINEAR) {
            float *s = (float *)(uintptr_t)graph_value(d.g, d.g->node[i].in[1])->data;
            *(d.xs ? &d.ys : &d.xs) = s;
            d.yz = (uint8_t *)(uintptr_t)graph_value(d.g, d.g->node[i].in[2])->data; /* of the last */
        }
    return d;
}

static bool power_of_two(float s)
{
    for (int e = -126; e <= 127; e++)
        if (s == ldexpf(1, e))
            return true;
    return false;
}

/* The rules, written down once more. */
static unsigned by_hand(const drawn *d, int64_t outputs)
{
    unsigned rules = 0;
    bool sx = power_of_two(*d->xs), sy = power_of_two(*d->ys);
    rules |= sx && sy ? 0 : RULE(1);
    rules |= *d->yz == 0 || *d->yz == 128 ? 0 : RULE(5);
    for (int64_t o = 0; o < outputs; o++) {
        int64_t sum = 0, b = d->b[o];
        float ws = d->ws[d->n_scale > 1 ? o : 0], bs = d->bs[d->n_bias_scale > 1 ? o : 0];
        bool sw = power_of_two(ws);
        for (int64_t i = 0; i < d->each; i++) {
            int w = d->w[o * d->stride + i * d->step];
            rules |= w > 64 || w < -64 ? RULE(2) : 0;
            rules |= w % 4 != 0 ? RULE(3) : 0;
            sum += abs(w);
        }
        rules |= b >= 0 ? (b % 4 != 2 ? RULE(3) : 0) : (b % 4 != -2 ? RULE(3) : 0);
        rules |= 255 * sum + llabs(b) >= 1 << 24 ? RULE(4) : 0;
        rules |= sw && bs == *d->xs * ws ? 0 : RULE(1);
        rules |= sx && sy && sw && (double)*d->xs * (double)ws * 8 > (double)*d->ys ? RULE(3) : 0;
    }
    return rules;
}

static float disturbed(rng *r, float s)
{
    const float to[] = {nextafterf(s, 1), nextafterf(s, 0), s * 2, s / 2, s * 3, s * 1.0000001f * 1.25f};
    return to[rng_below(r, sizeof to / sizeof *to)];
}

/* Mostly everything is inside and one thing at its limit, so that both answers are frequent. */
START_TEST(products_around_every_limit)
{
    size_t taken = 0, refused[6] = {0};
    for (uint64_t seed = 0; seed < 3000; seed++) {
        rng r = rng_make(seed, RNG_TEST, 31, 0);
        drawn d = draw_product(&r);
        int64_t outputs = shape_count(&graph_value(d.g, d.g->output[0])->sh), o;
        const shape *y = &graph_value(d.g, d.g->output[0])->sh;
        outputs = y->dim[1];
        o = rng_below(&r, (uint32_t)outputs);
        int64_t i = rng_below(&r, (uint32_t)d.each);
        int8_t *w = &d.w[o * d.stride + i * d.step];
        for (int64_t k = 0; k < d.each && d.each > 1000; k++) /* within a few of the accumulator's limit */
            d.w[o * d.stride + k * d.step] = (int8_t)(k < 1028 ? (k % 2 ? 64 : -64) : 0);
        switch (rng_below(&r, 9)) {
        case 0: *w = (int8_t)(*w + 1 - (int)rng_below(&r, 3)); break;
        case 1: *w = (int8_t[]){64, -64, 65, 66, 68, -68, -65, 127, -128}[rng_below(&r, 9)]; break;
        case 2: d.b[o] += (int)rng_below(&r, 5) - 2; break;
        case 3: d.b[o] = (int32_t[]){250, 254, 256, 258, -254, -258, 262}[rng_below(&r, 7)]; break; /* 254: 2^24 - 2 */
        case 4: {
            float *s = &d.ws[rng_below(&r, (uint32_t)d.n_scale)];
            *s = disturbed(&r, *s);
            break;
        }
        case 5: {
            float *s = &d.bs[rng_below(&r, (uint32_t)d.n_bias_scale)];
            *s = disturbed(&r, *s);
            break;
        }
        case 6: { /* the shift of all outputs, 1 to 5 */
            float to = ldexpf(*d.ys / *d.xs, -1 - (int)rng_below(&r, 5));
            for (int64_t k = 0; k < d.n_scale; k++)
                d.ws[k] = to;
            for (int64_t k = 0; k < d.n_bias_scale; k++)
                d.bs[k] = to * *d.xs;
            break;
        }
        case 7: *d.yz = (uint8_t)rng_below(&r, 4) + (uint8_t[]){0, 126, 252}[rng_below(&r, 3)]; break;
        default: *(rng_below(&r, 2) ? d.xs : d.ys) *= (float[]){1, 2, 0.5f, 1.5f}[rng_below(&r, 4)]; break;
        }
        unsigned want = by_hand(&d, outputs);
        taken += want == 0;
        for (int rule = 1; rule <= 5; rule++)
            refused[rule] += want == RULE(rule);
        char name[40];
        snprintf(name, sizeof name, "product %d", (int)seed);
        expect(name, d.g, PROFILE_PORTABLE, want);
    }
    printf("%zu taken; refused for one rule alone: %zu %zu %zu %zu %zu\n", taken, refused[1], refused[2], refused[3], refused[4],
           refused[5]);
    ck_assert_uint_ge(taken, 300);
    for (int rule = 1; rule <= 5; rule++)
        ck_assert_uint_ge(refused[rule], 50);
}
END_TEST

/* ---- structure ---- */

static value_id constant(qnet *n, dtype type, shape sh, const void *data)
{
    value_id v;
    OK(graph_add_data(n->g, NULL, VALUE_CONST, type, sh, data, &v));
    return v;
}

/* QuantizeLinear and DequantizeLinear with parameters of their own each. */
static void pair(qnet *n, value_id s, value_id z, value_id s2, value_id z2)
{
    value_id q;
    OK(graph_add1(n->g, OP_QUANTIZE_LINEAR, &(quant_attrs){.axis = 1}, n->v, s, z, &q));
    OK(graph_add1(n->g, OP_DEQUANTIZE_LINEAR, &(quant_attrs){.axis = 1}, q, s2, z2, &n->v));
}

static value_id f32(qnet *n, float v) { return constant(n, DTYPE_F32, (shape){0}, &v); }
static value_id u8(qnet *n, uint8_t v) { return constant(n, DTYPE_U8, (shape){0}, &v); }

#define STEP (1 / 512.0f) /* of v when a builder begins: u8, zero point 0, [1, 4, 6, 6] */
static void conv(qnet *n) { qnet_conv(n, (qconv){.out = 4, .kernel = 1}, ldexpf(STEP / n->scale, -6)); }
static void gemm_tail(qnet *n) { qnet_node(n, OP_FLATTEN, &(axis_attrs){1}); qnet_round(n, n->scale, 0); }

static void nothing(qnet *n) { (void)n; }
static void many_scales(qnet *n)
{
    value_id s = constant(n, DTYPE_F32, SHAPE(4), (float[]){STEP, STEP, STEP, STEP}), z = constant(n, DTYPE_U8, SHAPE(4), (uint8_t[4]){0});
    conv(n);
    pair(n, s, z, s, z);
}
static void above(qnet *n) { conv(n); qnet_round(n, nextafterf(STEP, 1), 128); }
static void below(qnet *n) { conv(n); qnet_round(n, nextafterf(STEP, 0), 128); }
static void subnormal(qnet *n) { conv(n); qnet_round(n, ldexpf(1, -127), 128); }
static void clipped(qnet *n, double lo, double hi) { conv(n); qnet_node(n, OP_CLIP, &(clip_attrs){lo, hi}); qnet_round(n, STEP, 128); }
static void clip_at_ends(qnet *n) { clipped(n, -128 * (double)STEP, 127 * (double)STEP); }
static void clip_low(qnet *n) { clipped(n, nextafter(-128 * (double)STEP, 0), 1); }
static void clip_high(qnet *n) { clipped(n, -1, nextafter(127 * (double)STEP, 0)); }
static void float_weights(qnet *n)
{
    value_id w;
    OK(graph_add_fill(n->g, DTYPE_F32, SHAPE(4, 4, 1, 1), 0.5, &w));
    OK(graph_add1(n->g, OP_CONV, &(conv_attrs){.group = 1}, n->v, w, 0, &n->v));
    qnet_round(n, STEP, 128);
}

typedef struct odd_conv { /* a 1x1 convolution whose constants are given */
    dtype type;
    uint8_t zero;
    int axis, n_scale;
    dtype bias;
    int32_t bias_zero;
} odd_conv;

static void odd(qnet *n, odd_conv c)
{
    uint8_t w[16], z[4] = {c.zero, c.zero, c.zero, c.zero};
    float s[4], bs[4], real[4] = {0};
    int32_t b[4] = {2, 2, 2, 2}, bz[4] = {c.bias_zero, c.bias_zero, c.bias_zero, c.bias_zero};
    value_id in[3];
    memset(w, 8, sizeof w);
    for (int i = 0; i < 4; i++) {
        s[i] = ldexpf(1, -6);
        bs[i] = s[i] * n->scale;
    }
    shape ss = c.n_scale > 1 ? SHAPE(4) : (shape){0};
    in[0] = n->v;
    OK(graph_add1(n->g, OP_DEQUANTIZE_LINEAR, &(quant_attrs){.axis = c.axis}, constant(n, c.type, SHAPE(4, 4, 1, 1), w),
                  constant(n, DTYPE_F32, ss, s), constant(n, c.type, ss, z), &in[1]));
    if (c.bias == DTYPE_I32)
        OK(graph_add1(n->g, OP_DEQUANTIZE_LINEAR, &(quant_attrs){.axis = 0}, constant(n, DTYPE_I32, SHAPE(4), b),
                      constant(n, DTYPE_F32, SHAPE(4), bs), constant(n, DTYPE_I32, SHAPE(4), bz), &in[2]));
    else if (c.bias == DTYPE_I8)
        OK(graph_add1(n->g, OP_DEQUANTIZE_LINEAR, &(quant_attrs){.axis = 0}, constant(n, DTYPE_I8, SHAPE(4), (int8_t[4]){2, 2, 2, 2}),
                      constant(n, DTYPE_F32, SHAPE(4), bs), 0, &in[2]));
    else
        in[2] = constant(n, DTYPE_F32, SHAPE(4), real);
    OK(graph_add(n->g, OP_CONV, &(conv_attrs){.group = 1}, in, 3, &n->v, 1));
    qnet_round(n, STEP, 128);
}
static void odd_none(qnet *n) { odd(n, (odd_conv){.type = DTYPE_I8, .n_scale = 4, .bias = DTYPE_I32}); }
static void u8_weights(qnet *n) { odd(n, (odd_conv){.type = DTYPE_U8, .n_scale = 4, .bias = DTYPE_I32}); }
static void moved_weights(qnet *n) { odd(n, (odd_conv){.type = DTYPE_I8, .zero = 4, .n_scale = 1, .bias = DTYPE_I32}); }
static void other_axis(qnet *n) { odd(n, (odd_conv){.type = DTYPE_I8, .axis = 1, .n_scale = 4, .bias = DTYPE_I32}); }
static void int8_bias(qnet *n) { odd(n, (odd_conv){.type = DTYPE_I8, .n_scale = 4, .bias = DTYPE_I8}); }
static void float_bias(qnet *n) { odd(n, (odd_conv){.type = DTYPE_I8, .n_scale = 4, .bias = DTYPE_F32}); }

typedef struct odd_gemm {
    double alpha, beta;
    bool trans_a, no_bias, short_bias;
    int n_scale;
} odd_gemm;

static void gemm(qnet *n, odd_gemm c)
{
    gemm_tail(n);
    enum { K = 144, N = 3 };
    if (c.trans_a) {
        qnet_node(n, OP_RESHAPE, &(reshape_attrs){.shape = {2, (const int64_t[]){K, 1}}});
        qnet_round(n, n->scale, 0);
    }
    int8_t w[K * N], z[N] = {0};
    float s[N], bs[N];
    int32_t b[N] = {2, -2, 2};
    value_id in[3];
    memset(w, 4, sizeof w);
    for (int i = 0; i < N; i++) {
        s[i] = ldexpf(1, -6);
        bs[i] = s[i] * n->scale;
    }
    shape ss = c.n_scale > 1 ? SHAPE(N) : (shape){0};
    in[0] = n->v;
    OK(graph_add1(n->g, OP_DEQUANTIZE_LINEAR, &(quant_attrs){.axis = 1}, constant(n, DTYPE_I8, SHAPE(K, N), w),
                  constant(n, DTYPE_F32, ss, s), constant(n, DTYPE_I8, ss, z), &in[1]));
    shape sb = c.short_bias ? SHAPE(1) : SHAPE(N);
    OK(graph_add1(n->g, OP_DEQUANTIZE_LINEAR, &(quant_attrs){.axis = 0}, constant(n, DTYPE_I32, sb, b), constant(n, DTYPE_F32, sb, bs), 0,
                  &in[2]));
    OK(graph_add(n->g, OP_GEMM, &(gemm_attrs){.alpha = c.alpha, .beta = c.beta, .transA = c.trans_a}, in, c.no_bias ? 2 : 3, &n->v, 1));
    qnet_round(n, 1 / 64.0f, 128);
}
static void gemm_plain(qnet *n) { gemm(n, (odd_gemm){1, 1}); }
static void gemm_alpha(qnet *n) { gemm(n, (odd_gemm){2, 1}); }
static void gemm_beta(qnet *n) { gemm(n, (odd_gemm){1, 0.5}); }
static void gemm_turned(qnet *n) { gemm(n, (odd_gemm){1, 1, .trans_a = true}); }
static void gemm_scales(qnet *n) { gemm(n, (odd_gemm){1, 1, .n_scale = 3}); }
static void gemm_bare(qnet *n) { gemm(n, (odd_gemm){1, 1, .no_bias = true}); }
static void gemm_short(qnet *n) { gemm(n, (odd_gemm){1, 1, .short_bias = true}); }
static void matmul(qnet *n)
{
    value_id w;
    gemm_tail(n);
    OK(graph_add1(n->g, OP_DEQUANTIZE_LINEAR, &(quant_attrs){.axis = 1}, constant(n, DTYPE_I8, SHAPE(144, 2), (int8_t[288]){4}), f32(n, 0.125f),
                  0, &w));
    OK(graph_add1(n->g, OP_MATMUL, NULL, n->v, w, 0, &n->v));
    qnet_round(n, 1, 128);
}

static void sum_of(qnet *n, float scale, int zero)
{
    value_id x = n->v;
    conv(n);
    qnet_round(n, STEP, 128);
    qnet_two(n, OP_ADD, x, NULL);
    qnet_round(n, scale, zero);
}
static void sum_equal(qnet *n) { sum_of(n, STEP, 128); }
static void sum_wider(qnet *n) { sum_of(n, 2 * STEP, 128); }
static void sum_finer(qnet *n) { sum_of(n, STEP / 2, 128); }
static void sum_float(qnet *n) { qnet_two(n, OP_ADD, f32(n, 0.25f), NULL); qnet_round(n, STEP, 0); }
static void sum_itself(qnet *n) { qnet_two(n, OP_ADD, n->v, NULL); qnet_round(n, STEP, 0); }
static void joined(qnet *n, float scale, int zero)
{
    value_id x = n->v;
    qnet_conv(n, (qconv){.out = 4, .kernel = 1}, ldexpf(scale / n->scale, -6));
    qnet_relu(n);
    qnet_round(n, scale, zero);
    qnet_two(n, OP_CONCAT, x, &(axis_attrs){1});
    qnet_round(n, scale, zero);
}
static void concat_equal(qnet *n) { joined(n, STEP, 0); }
static void concat_scales(qnet *n) { joined(n, 2 * STEP, 0); }
static void padded(qnet *n, int mode) { qnet_node(n, OP_PAD, &(pad_attrs){.mode = mode, .pads = {8, (const int64_t[]){0, 0, 1, 1, 0, 0, 1, 1}}}); qnet_round(n, STEP, 0); }
static void pad_zeros(qnet *n) { padded(n, PAD_CONSTANT); }
static void pad_edge(qnet *n) { padded(n, PAD_EDGE); }
static void pad_reflect(qnet *n) { padded(n, PAD_REFLECT); }
static void moved_on(qnet *n) /* everything that is free, in a row */
{
    qnet_node(n, OP_TRANSPOSE, &(transpose_attrs){{4, (const int64_t[]){0, 1, 3, 2}}});
    qnet_node(n, OP_IDENTITY, NULL);
    qnet_round(n, STEP, 0);
    qnet_node(n, OP_SLICE, &(slice_attrs){.starts = {1, (const int64_t[]){1}}, .ends = {1, (const int64_t[]){5}}, .axes = {1, (const int64_t[]){2}}});
    qnet_round(n, STEP, 0);
    qnet_node(n, OP_GLOBAL_MAX_POOL, NULL);
    qnet_round(n, STEP, 0);
    qnet_node(n, OP_SQUEEZE, &(axes_attrs){{1, (const int64_t[]){3}}});
    qnet_round(n, STEP, 0);
    qnet_node(n, OP_UNSQUEEZE, &(axes_attrs){{1, (const int64_t[]){3}}});
    qnet_round(n, STEP, 0);
    qnet_node(n, OP_RESIZE, &(resize_attrs){.mode = RESIZE_NEAREST, .coordinate_transformation_mode = COORD_ASYMMETRIC, .nearest_mode = NEAREST_FLOOR, .scales = {4, (const double[]){1, 1, 6, 6}}});
    qnet_round(n, STEP, 0);
}
static void relu_wider(qnet *n) { conv(n); qnet_round(n, STEP, 128); qnet_relu(n); qnet_round(n, 2 * STEP, 0); }
static void relu_of_codes(qnet *n) { conv(n); qnet_round(n, STEP, 128); qnet_relu(n); qnet_round(n, STEP, 0); }
static void relu_to_int8(qnet *n) { conv(n); qnet_round(n, STEP, 128); qnet_relu(n); n->act = DTYPE_I8; qnet_round(n, STEP, 0); }
static void zero_moved(qnet *n) { conv(n); qnet_round(n, STEP, 128); qnet_node(n, OP_IDENTITY, NULL); qnet_round(n, STEP, 0); }
static void two_relus(qnet *n) { conv(n); qnet_relu(n); qnet_relu(n); qnet_round(n, STEP, 0); }
static void other_type(qnet *n) { n->act = DTYPE_I8; qnet_round(n, STEP, 0); }
static void no_constant(qnet *n)
{
    value_id s;
    OK(graph_add_input(n->g, "scale", DTYPE_F32, (shape){0}, &s));
    pair(n, s, u8(n, 0), s, u8(n, 0));
}
static void reads_wider(qnet *n) { conv(n); pair(n, f32(n, STEP), u8(n, 0), f32(n, 2 * STEP), u8(n, 0)); n->scale = 2 * STEP; }
static void reads_moved(qnet *n) { conv(n); pair(n, f32(n, STEP), u8(n, 0), f32(n, STEP), u8(n, 128)); n->scale = STEP; }
static void reads_equal(qnet *n) { conv(n); pair(n, f32(n, STEP), u8(n, 0), f32(n, STEP), u8(n, 0)); n->scale = STEP; }
static void on_codes(qnet *n)
{
    value_id q, m;
    OK(graph_add1(n->g, OP_QUANTIZE_LINEAR, NULL, n->v, f32(n, STEP), u8(n, 0), &q));
    OK(graph_add1(n->g, OP_TRANSPOSE, &(transpose_attrs){{4, (const int64_t[]){0, 1, 3, 2}}}, q, 0, 0, &m));
    OK(graph_add1(n->g, OP_DEQUANTIZE_LINEAR, NULL, m, f32(n, STEP), u8(n, 0), &n->v));
}
static void read_aside(qnet *n)
{
    value_id side;
    conv(n);
    OK(graph_add1(n->g, OP_SIGMOID, NULL, n->v, 0, 0, &side));
    OK(graph_add_output(n->g, side));
    qnet_round(n, STEP, 128);
}
static void sums_out(qnet *n) { conv(n); OK(graph_add_output(n->g, n->v)); qnet_round(n, STEP, 128); }
static void codes_out(qnet *n) { conv(n); qnet_round(n, STEP, 128); OK(graph_add_output(n->g, n->v)); }
static void mean(qnet *n) { qnet_node(n, OP_REDUCE_MEAN, &(reduce_attrs){.axes = {1, (const int64_t[]){3}}, .keepdims = 1}); qnet_round(n, STEP, 0); }
static void norm(qnet *n)
{
    value_id c;
    batch_norm_attrs a;
    op_default_attrs(OP_BATCH_NORM, &a);
    OK(graph_add_fill(n->g, DTYPE_F32, SHAPE(4), 1, &c));
    OK(graph_add_named(n->g, "bn", OP_BATCH_NORM, &a, (value_id[]){n->v, c, c, c, c}, 5, NULL, &n->v, 1));
    qnet_round(n, STEP, 128);
}

static const struct {
    const char *name;
    void (*build)(qnet *n);
    unsigned rules;
} structures[] = {
    {"nothing", nothing, 0},
    {"a scale for each channel of an activation", many_scales, RULE(1)}, {"one above 2^n", above, RULE(1)}, {"one below 2^n", below, RULE(1)},
    {"2^-127", subnormal, RULE(1)}, {"clip at the ends of the codes", clip_at_ends, 0}, {"clip above the lowest", clip_low, RULE(5)},
    {"clip below the highest", clip_high, RULE(5)}, {"float weights", float_weights, RULE(6)}, {"given constants", odd_none, 0},
    {"uint8 weights", u8_weights, RULE(2)}, {"zero point of weights", moved_weights, RULE(2)}, {"scales along inputs", other_axis, RULE(1)},
    {"float bias", float_bias, RULE(3)}, {"int8 bias", int8_bias, RULE(3)}, {"gemm", gemm_plain, 0}, {"alpha", gemm_alpha, RULE(6)}, {"beta", gemm_beta, RULE(6)},
    {"transA", gemm_turned, RULE(6)}, {"scales of gemm", gemm_scales, RULE(1)}, {"gemm without bias", gemm_bare, RULE(3)},
    {"one bias for all", gemm_short, RULE(3)}, {"matmul", matmul, RULE(6)},
    {"sum at one scale, two zero points", sum_equal, 0}, {"sum of twice the scale", sum_wider, RULE(6)}, {"sum of half the scale", sum_finer, RULE(6)},
    {"sum with a float", sum_float, RULE(6)}, {"sum with itself", sum_itself, 0},
    {"concat", concat_equal, 0}, {"concat of two scales", concat_scales, RULE(6)}, {"pad", pad_zeros, 0}, {"pad edge", pad_edge, RULE(6)},
    {"pad reflect", pad_reflect, RULE(6)}, {"moves in a row", moved_on, 0}, {"relu of codes", relu_of_codes, 0},
    {"relu of codes, rescaled", relu_wider, RULE(6)}, {"relu of uint8 codes into int8", relu_to_int8, RULE(6)}, {"zero point moved", zero_moved, RULE(6)}, {"two relus", two_relus, RULE(6)}, {"uint8 to int8", other_type, RULE(6)},
    {"a scale that comes in", no_constant, RULE(1)}, {"read as written", reads_equal, 0}, {"read at another scale", reads_wider, RULE(1)},
    {"read with another zero", reads_moved, RULE(1)}, {"operator on codes", on_codes, RULE(6)}, {"sums read aside", read_aside, RULE(6)},
    {"sums are an output", sums_out, RULE(6)}, {"codes are an output", codes_out, 0}, {"mean", mean, RULE(6)}, {"norm", norm, RULE(6)},
};

START_TEST(structures_around_every_rule)
{
    for (size_t i = 0; i < sizeof structures / sizeof *structures; i++) {
        qnet n = qnet_new(DTYPE_U8, true, SHAPE(1, 2, 6, 6), 1 / 256.0f, 0, 5);
        qnet_conv(&n, (qconv){.out = 4, .kernel = 3, .pads = {1, 1, 1, 1}}, 1 / 64.0f);
        qnet_relu(&n);
        qnet_round(&n, STEP * 256, 0); /* k = 14 - 1 */
        qnet_conv(&n, (qconv){.out = 4, .kernel = 1}, ldexpf(1 / 256.0f, -6));
        qnet_relu(&n);
        qnet_round(&n, STEP, 0);
        structures[i].build(&n);
        expect(structures[i].name, qnet_end(&n), PROFILE_PORTABLE, structures[i].rules);
    }
}
END_TEST

/* Of all zero points of all types and profiles those that rule 5 allows. */
START_TEST(every_zero_point)
{
    for (int zero = 0; zero < 256; zero++)
        for (int kind = 0; kind < 6; kind++) {
            bool relu = kind % 2, s8 = kind / 2 == 2;
            char name[64];
            qnet n = qnet_new(kind / 2 ? DTYPE_I8 : DTYPE_U8, true, SHAPE(1, 2, 4, 4), 1 / 256.0f, s8 ? 128 : 0, 5);
            qnet_conv(&n, (qconv){.out = 4, .kernel = 3}, 1 / 64.0f);
            if (relu)
                qnet_relu(&n);
            qnet_round(&n, 1, zero);
            bool fits = s8 ? zero == 128 : zero == 0 || (zero == 128 && !relu);
            snprintf(name, sizeof name, "zero point %d, kind %d", zero, kind);
            expect(name, qnet_end(&n), s8 ? PROFILE_PORTABLE_S8 : PROFILE_PORTABLE, fits ? 0 : RULE(5));
        }
}
END_TEST

/* portable-s8 has a relu at code 0; a bit above it is a cut that engines round in their own ways. */
START_TEST(cuts_of_portable_s8)
{
    const struct {
        double lo, hi;
        bool fits;
    } cut[] = {{0, (double)INFINITY, true}, {-1, 1, true}, {-1, 127 / 128.0, true}, {0, 0.99, false}, {1e-6, 1, false}, {-0.5, 1, false}};
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        qnet n = qnet_new(DTYPE_I8, true, SHAPE(1, 2, 4, 4), 1 / 128.0f, 128, 5);
        qnet_conv(&n, (qconv){.out = 4, .kernel = 3}, 1 / 64.0f);
        qnet_node(&n, OP_CLIP, &(clip_attrs){cut[i].lo, cut[i].hi});
        qnet_round(&n, 1 / 128.0f, 128);
        expect("clip", qnet_end(&n), PROFILE_PORTABLE_S8, cut[i].fits ? 0 : RULE(5));
    }
}
END_TEST

/* Where the integers begin. */
START_TEST(the_edge_of_the_integers)
{
    value_id codes;
    qnet n = qnet_new(DTYPE_NONE, true, SHAPE(1, 2, 4, 4), 1, 0, 5); /* moved, then rounded */
    n.act = DTYPE_U8;
    qnet_node(&n, OP_TRANSPOSE, &(transpose_attrs){{4, (const int64_t[]){0, 1, 3, 2}}});
    qnet_round(&n, 1 / 256.0f, 0);
    conv(&n);
    qnet_round(&n, STEP, 128);
    expect("input moved before it is rounded", qnet_end(&n), PROFILE_PORTABLE, 0);

    n = qnet_new(DTYPE_NONE, true, SHAPE(1, 2, 4, 4), 1, 0, 5);
    n.act = DTYPE_U8;
    qnet_relu(&n);
    qnet_round(&n, 1 / 256.0f, 0);
    conv(&n);
    qnet_round(&n, STEP, 128);
    expect("input computed before it is rounded", qnet_end(&n), PROFILE_PORTABLE, RULE(6));

    n = qnet_new(DTYPE_NONE, true, SHAPE(1, 2, 4, 4), 1, 0, 5); /* never rounded */
    n.act = DTYPE_U8;
    n.scale = 1 / 256.0f;
    conv(&n);
    qnet_round(&n, STEP, 128);
    expect("input not rounded", qnet_end(&n), PROFILE_PORTABLE, RULE(6));

    n = (qnet){.act = DTYPE_U8, .portable = true, .r = rng_make(5, RNG_TEST, 77, 0), .scale = 1 / 256.0f}; /* codes come in */
    OK(graph_new(&n.g));
    OK(graph_add_input(n.g, "x", DTYPE_U8, SHAPE(1, 2, 4, 4), &codes));
    OK(graph_add1(n.g, OP_DEQUANTIZE_LINEAR, NULL, codes, f32(&n, n.scale), u8(&n, 0), &n.v));
    conv(&n);
    qnet_round(&n, STEP, 128);
    expect("codes as input", qnet_end(&n), PROFILE_PORTABLE, 0);

    n = qnet_new(DTYPE_U8, true, SHAPE(1, 2, 4, 4), 1 / 256.0f, 0, 5); /* nothing is computed */
    qnet_node(&n, OP_GLOBAL_MAX_POOL, NULL);
    qnet_round(&n, 1 / 256.0f, 0);
    expect("no layer", qnet_end(&n), PROFILE_PORTABLE, RULE(1));
}
END_TEST

const test_entry test_table[] = {TEST(products_around_every_limit), TEST(structures_around_every_rule), TEST(every_zero_point),
                                 TEST(cuts_of_portable_s8), TEST(the_edge_of_the_integers), {0}};
