/* test_qat.c - training with rounding: gradients against closed forms, the trained graph against the integers that leave. */
#include "harness.h"
#include "base/rng.h"
#include "exec/exec.h"
#include "graph/graph.h"
#include "ops/attrs.h"
#include "qnet.h"
#include "quant/insert.h"
#include "quant/portable.h"
#include "quant/qat.h"
#include "quant/qat_weight.h"

#include <math.h>
#include <stdio.h>

static backend *open_backend(void)
{
    backend *b;
    backend_options o = {.max_isa = ISA_AVX512, .threads = 1};
    OK(backend_open("cpu", &o, &b));
    return b;
}

/* ---- gradients ---- */

/* loss = sum y * w; y = FakeQuant(relu?(x)) with one learned scale. */
static void check_gradients(bool relu, bool fuse)
{
    enum { N = 12 };
    const float x[N] = {-3.2f, -0.6f, -0.4f, 0.1f, 0.3f, 0.74f, 0.76f, 1.1f, 31.6f, 31.8f, 50, -50};
    const float s = 0.25f, w[N] = {1, -2, 3, -4, 5, -6, 7, -8, 9, -10, 11, -12};
    const fake_quant_attrs at = {.qmin = -128, .qmax = 127, .multiple = 1, .scale_grad = 0.5};
    graph *g;
    exec *e;
    value_id xv, sv, wv, y, loss, grad[2], h;
    int64_t axis = 0;
    reduce_attrs sum = {.axes = {1, &axis}, .keepdims = 0};
    backend *b = open_backend();
    OK(graph_new(&g));
    OK(graph_add_data(g, "x", VALUE_PARAM, DTYPE_F32, SHAPE(N), x, &xv));
    OK(graph_add_data(g, "s", VALUE_PARAM, DTYPE_F32, (shape){0}, &s, &sv));
    OK(graph_add_data(g, "w", VALUE_CONST, DTYPE_F32, SHAPE(N), w, &wv));
    h = xv;
    if (relu)
        OK(graph_add1(g, OP_RELU, NULL, xv, 0, 0, &h));
    OK(graph_add1(g, OP_FAKE_QUANT, &at, h, sv, 0, &y));
    OK(graph_add1(g, OP_MUL, NULL, y, wv, 0, &loss));
    OK(graph_add1(g, OP_REDUCE_SUM, &sum, loss, 0, 0, &loss));
    size_t before = g->n_node;
    if (fuse)
        OK(qat_training_mode(g));
    ck_assert_int_eq((int)(before - g->n_node), fuse && relu);
    OK(graph_gradients(g, loss, (value_id[]){xv, sv}, 2, grad));
    OK(graph_add_output(g, grad[0]));
    OK(graph_add_output(g, grad[1]));
    OK(graph_validate(g));
    OK(exec_open(g, b, NULL, 0, &e));
    OK(exec_run(e, PHASE_MAIN));
    const float *dx = exec_data(e, grad[0]);
    double ds = 0;
    for (int i = 0; i < N; i++) {
        double v = relu && x[i] < 0 ? 0 : (double)x[i], t = v / (double)s, q = nearbyint(t);
        bool inside = q >= -128 && q <= 127;
        double want = inside && !(relu && x[i] <= 0) ? (double)w[i] : 0;
        ck_assert_msg((double)dx[i] == want, "dx[%d] is %g, expected %g", i, (double)dx[i], want);
        ds += (double)w[i] * (inside ? q - t : fmin(fmax(q, -128), 127));
    }
    double got = (double)*(const float *)exec_data(e, grad[1]);
    ck_assert_msg(fabs(got - 0.5 * ds) < 1e-3, "ds is %g, expected %g", got, 0.5 * ds);
    exec_close(e);
    graph_free(g);
    backend_close(b);
}

START_TEST(gradients_are_straight_through_and_lsq)
{
    check_gradients(false, false);
    check_gradients(true, false);
    check_gradients(true, true);
}
END_TEST

/* ---- what trains is what leaves ---- */

enum { BATCH = 5, SIDE = 12 };
static const float mean[1] = {0.286f}, std[1] = {0.353f};

/* A residual net with every kind of node that the portable form has; `pool`: side of the last maps. */
static graph *small_net(uint64_t seed, int64_t channels, int side)
{
    qnet n = qnet_new(DTYPE_NONE, false, SHAPE(BATCH, 1, side, side), 1, 0, seed);
    qnet_conv(&n, (qconv){.out = channels, .kernel = 3, .pads = {1, 1, 1, 1}}, 0.004f);
    qnet_relu(&n);
    value_id r = n.v;
    qnet_conv(&n, (qconv){.out = channels, .kernel = 3, .group = channels, .pads = {1, 1, 1, 1}, .no_bias = true}, 0.004f);
    qnet_relu(&n);
    qnet_conv(&n, (qconv){.out = channels, .kernel = 1}, 0.004f);
    qnet_two(&n, OP_ADD, r, NULL);
    qnet_relu(&n);
    const int64_t two[2] = {2, 2};
    const pool_attrs max = {.kernel_shape = {2, two}, .strides = {2, two}};
    qnet_node(&n, OP_MAX_POOL, &max);
    qnet_conv(&n, (qconv){.out = 2 * channels, .kernel = 3, .pads = {1, 1, 1, 1}}, 0.003f);
    qnet_relu(&n);
    qnet_node(&n, OP_GLOBAL_AVERAGE_POOL, NULL);
    qnet_node(&n, OP_FLATTEN, &(axis_attrs){1});
    qnet_gemm(&n, 10, true, 0.01f);
    graph *g = qnet_end(&n);
    OK(quant_prepare(g));
    return g;
}

/* Pixels as a student sees them, and as a portable file takes them. */
static void draw_images(uint64_t seed, int side, bool halved, float *normal, float *pixels)
{
    rng r = rng_make(seed, RNG_TEST, 1, 2);
    for (int i = 0; i < BATCH * side * side; i++) {
        int p = (int)(rng_uniform(&r) * 256);
        normal[i] = (float)(((double)p / 255 - (double)mean[0]) / (double)std[0]);
        pixels[i] = halved ? (float)(p >> 1) / 128 : (float)p / 256;
    }
}

static void run_graph(graph *g, backend *b, const float *x, float *y)
{
    exec *e;
    OK(exec_open(g, b, NULL, 0, &e));
    memcpy(exec_data(e, g->input[0]), x, (size_t)shape_count(&g->value[g->input[0]].sh) * sizeof *x);
    OK(exec_run(e, PHASE_MAIN));
    memcpy(y, exec_data(e, g->output[0]), (size_t)shape_count(&g->value[g->output[0]].sh) * sizeof *y);
    exec_close(e);
}

/* Parameters as if they had been trained: moved a little, at random. */
static void bake_trained(graph *g, uint64_t seed)
{
    rng r = rng_make(seed, RNG_TEST, 3, 4);
    for (size_t v = 1; v < g->n_value; v++) {
        value *x = &g->value[v];
        const bool trains = x->kind == VALUE_PARAM;
        const int64_t n = shape_count(&x->sh);
        float *to;
        if (!trains && x->kind != VALUE_STATE)
            continue;
        OK(arena_alloc(&g->mem, &to, (size_t)n, sizeof *to));
        for (int64_t i = 0; i < n; i++) {
            double was = x->data ? (double)((const float *)x->data)[i] : 0;
            to[i] = (float)(trains ? was * (1 + 0.2 * (rng_uniform(&r) - 0.5)) + 0.02 * (rng_uniform(&r) - 0.5) : was);
        }
        x->data = to;
        x->kind = VALUE_CONST;
    }
}

typedef struct outcome {
    double apart; /* in steps of the output */
    double from_float;
} outcome;

static outcome compare_forms(const qat_options *o, uint64_t seed, int64_t channels, int side)
{
    enum { MOST = BATCH * 20 * 20 };
    static float normal[MOST], pixels[MOST], y[3][BATCH * 10];
    const qat_pixels px = {mean, std, 1};
    backend *b = open_backend();
    graph *g = small_net(seed, channels, side), *as_float, *q, *qdq;
    calibration c;
    qat_ranges r;
    bool pixel_input;
    outcome out = {0};
    draw_images(seed, side, o->scheme.profile == PROFILE_PORTABLE_S8, normal, pixels);
    OK(graph_clone(g, &as_float));
    run_graph(as_float, b, normal, y[0]);
    OK(qat_rewrite(g, o, &px, &pixel_input));
    ck_assert(pixel_input == (o->scheme.profile != PROFILE_NONE));
    OK(qat_open_calibration(g, o, b, &c));
    const void *x = normal;
    OK(calibration_add(&c, &x, BATCH));
    OK(qat_find_ranges(g, o, &c, &r));
    calibration_close(&c);
    OK(graph_clone(g, &q));
    OK(qat_insert(q, o, &r));
    run_graph(q, b, normal, y[1]);
    for (int i = 0; i < BATCH * 10; i++)
        out.from_float = fmax(out.from_float, fabs((double)y[1][i] - (double)y[0][i]));
    bake_trained(q, seed);
    run_graph(q, b, normal, y[1]);
    OK(qat_to_qdq(q, o, &qdq));
    float step = 0;
    for (size_t i = 0; i < r.n; i++)
        step = strcmp(r.at[i].name, g->value[g->output[0]].name) == 0 ? r.at[i].at.scale : step;
    ck_assert(step > 0);
    if (o->scheme.profile != PROFILE_NONE) {
        portable_report proof;
        OK(portable_check(qdq, o->scheme.profile, &proof));
        ck_assert_msg(proof.n_fault == 0, "node %s breaks rule %d: %s", proof.fault[0].node, proof.fault[0].rule, proof.fault[0].what);
        portable_free(&proof);
    }
    OK(pass_integer_groups(qdq));
    run_graph(qdq, b, pixel_input ? pixels : normal, y[2]);
    for (int i = 0; i < BATCH * 10; i++)
        out.apart = fmax(out.apart, fabs((double)y[1][i] - (double)y[2][i]) / (double)step);
    double largest = 0;
    for (int i = 0; i < BATCH * 10; i++)
        largest = fmax(largest, fabs((double)y[2][i]));
    ck_assert_msg(largest > 4 * (double)step, "the net gives nothing: %g at steps of %g, in float %g", largest, (double)step, (double)y[0][0]);
    qat_ranges_free(&r);
    graph_free(as_float);
    graph_free(g);
    graph_free(q);
    graph_free(qdq);
    backend_close(b);
    return out;
}

START_TEST(portable_training_is_the_integer_model_bit_for_bit)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        qat_options o = {.scheme = quant_scheme_portable(seed % 2 ? PROFILE_PORTABLE : PROFILE_PORTABLE_S8)};
        outcome x = compare_forms(&o, seed, seed < 4 ? 8 : 19, seed == 3 ? 16 : SIDE); /* 19: no full block; 12: pool of 36 */
        ck_assert_msg(x.apart == 0, "seed %llu: %g steps apart", (unsigned long long)seed, x.apart);
    }
}
END_TEST

/* A relu6 bounds what calibration sees, although portable integers know saturation alone: each layer of this net would make its
 * numbers thirty times as large. */
START_TEST(portable_ranges_keep_the_bound_of_a_clip)
{
    static float normal[BATCH * SIDE * SIDE], pixels[BATCH * SIDE * SIDE], y[BATCH * 8 * SIDE * SIDE];
    const qat_options o = {.scheme = quant_scheme_portable(PROFILE_PORTABLE)};
    backend *b = open_backend();
    qnet n = qnet_new(DTYPE_NONE, false, SHAPE(BATCH, 1, SIDE, SIDE), 1, 0, 5);
    calibration c;
    qat_ranges r;
    bool pixel_input;
    for (int i = 0; i < 4; i++) {
        qnet_conv(&n, (qconv){.out = 8, .kernel = 3, .pads = {1, 1, 1, 1}}, 0.1f);
        qnet_node(&n, OP_CLIP, &(clip_attrs){0, 6});
    }
    graph *g = qnet_end(&n);
    OK(quant_prepare(g));
    draw_images(5, SIDE, false, normal, pixels);
    OK(qat_rewrite(g, &o, NULL, &pixel_input));
    OK(qat_open_calibration(g, &o, b, &c));
    const void *x = normal;
    OK(calibration_add(&c, &x, BATCH));
    OK(qat_find_ranges(g, &o, &c, &r));
    calibration_close(&c);
    size_t clipped = 0;
    for (size_t i = 0; i < r.n; i++) {
        if (strcmp(r.at[i].name, g->value[g->input[0]].name) == 0)
            continue;
        double most = 255 * (double)r.at[i].at.scale;
        ck_assert_msg(most >= 3 && most < 16 && r.at[i].at.zero == 0, "%s: codes reach %g", r.at[i].name, most);
        clipped++;
    }
    ck_assert_uint_eq(clipped, 4);
    OK(qat_insert(g, &o, &r));
    run_graph(g, b, normal, y);
    double low = HUGE_VAL, high = 0;
    for (size_t i = 0; i < sizeof y / sizeof *y; i++) {
        low = fmin(low, (double)y[i]);
        high = fmax(high, (double)y[i]);
    }
    ck_assert_msg(low == 0 && high > 3 && high < 16, "from %g to %g", low, high);
    qat_ranges_free(&r);
    graph_free(g);
    backend_close(b);
}
END_TEST

START_TEST(ordinary_training_is_the_integer_model_within_a_step)
{
    double most = 0;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        qat_options o = {.scheme = quant_scheme_default(), .learn = (qat_learn)(seed % 3), .momentum = 0.01};
        if (seed > 3) {
            o.scheme.activations = DTYPE_I8;
            o.scheme.symmetric = true;
        }
        outcome x = compare_forms(&o, seed, seed < 4 ? 8 : 19, SIDE);
        most = fmax(most, x.apart);
        ck_assert_msg(x.apart <= 1.02, "seed %llu: %g steps apart", (unsigned long long)seed, x.apart);
    }
    test_max_error("QAT graph against its integers (steps, of the output's first scale)", most, 1.02);
}
END_TEST

/* ---- scales of portable weights ---- */

START_TEST(powers_of_weights_keep_the_rules)
{
    enum { CHANNELS = 4, EACH = 5000 };
    static float w[CHANNELS * EACH];
    const value v = {.name = "w", .type = DTYPE_F32, .sh = SHAPE(CHANNELS, EACH), .data = w};
    float scale[CHANNELS], fixed;
    rng r = rng_make(1, RNG_TEST, 5, 6);
    for (int i = 0; i < EACH; i++) {
        w[EACH + i] = i < 20 ? (float)(rng_uniform(&r) * 2 - 1) : 0; /* channel 0: zeros */
        w[2 * EACH + i] = 1;                                         /* its sum would pass 2^24 */
        w[3 * EACH + i] = i < 20 ? 100 * w[EACH + i] : 0;            /* finer than its largest number would have it */
    }
    OK(weight_choose_powers(&v, 0, CHANNELS, 64, 0x1p-2, scale));
    for (int c = 0; c < CHANNELS; c++) {
        int e;
        double sum = 0;
        ck_assert(scale[c] > 0 && frexpf(scale[c], &e) == 0.5f);
        ck_assert_msg((double)scale[c] <= 0.25, "channel %d: scale %g", c, (double)scale[c]);
        for (int i = 0; i < EACH; i++)
            sum += fmin(fabs(4 * nearbyint((double)w[c * EACH + i] / (double)scale[c] / 4)), 64);
        ck_assert_msg(255 * sum <= 8388608, "channel %d: sum %g", c, sum);
    }
    ck_assert(scale[1] <= 0x1p-6f && scale[1] >= 0x1p-9f); /* 1 / 64, or a little finer */
    ck_assert(scale[2] == 0.25f);
    ck_assert(scale[3] == 0.25f);
    for (int i = 0; i < 16; i++)
        w[i] = 0x1p-4f;
    const value pool = {.name = "pool", .type = DTYPE_F32, .sh = SHAPE(1, 16), .data = w, .flags = VALUE_FIXED};
    OK(weight_choose_powers(&pool, 0, 1, 64, 1, &fixed));
    ck_assert(fixed == 0x1p-6f); /* as 4 */
    OK(weight_choose_powers(&pool, 0, 1, 64, 0x1p-8, &fixed));
    ck_assert(fixed == 0x1p-8f); /* as 16: the shift wants it */
    w[7] = NAN;
    FAILS(ST_BAD_DATA, "not finite", weight_choose_powers(&pool, 0, 1, 64, 1, &fixed));
}
END_TEST

START_TEST(faults_are_said)
{
    const qat_options o = {.scheme = quant_scheme_default(), .learn = QAT_NONE};
    const qat_ranges none = {0};
    backend *b = open_backend();
    graph *g = small_net(1, 8, SIDE), *q, *out;
    calibration c;
    qat_ranges r;
    float x[BATCH * SIDE * SIDE], pixels[BATCH * SIDE * SIDE];
    const void *samples = x;
    draw_images(1, SIDE, false, x, pixels);
    OK(qat_open_calibration(g, &o, b, &c));
    FAILS(ST_BAD_DATA, "needs samples", qat_find_ranges(g, &o, &c, &r));
    OK(calibration_add(&c, &samples, BATCH));
    OK(qat_find_ranges(g, &o, &c, &r));
    calibration_close(&c);
    OK(graph_clone(g, &q));
    FAILS(ST_CONFIG, "found no range", qat_insert(q, &o, &none));
    graph_free(q);
    OK(graph_clone(g, &q));
    OK(qat_insert(q, &o, &r));
    bake_trained(q, 1);
    value_id v = 0;
    for (size_t k = 1; k < q->n_value; k++) /* of an activation */
        v = strstr(q->value[k].name, ".scale") && shape_count(&q->value[k].sh) == 1 ? (value_id)k : v;
    ck_assert(v != 0);
    *(float *)(uintptr_t)q->value[v].data = NAN;
    FAILS(ST_DIVERGED, "lower quant.lr", qat_to_qdq(q, &o, &out));
    qat_ranges_free(&r);
    graph_free(q);
    graph_free(g);
    backend_close(b);
}
END_TEST

/* Rule 4 at its bound: weights as far out as the cap leaves them, where rounding adds most, and the largest bias. */
START_TEST(capped_sums_stay_below_2_24)
{
    double most = 0;
    for (int64_t n = 1; n <= 40000; n += n < 600 ? 1 : 97) {
        const double cap = weight_sum_max(n), rise[] = {2.0001, 6.0001, 10.0001, 62.0001, 64};
        ck_assert(cap > 0);
        for (size_t k = 0; k < sizeof rise / sizeof *rise; k++) {
            /* as many weights just above a tie as the sum holds, the rest 0 */
            const double up = fmin((double)n, floor(cap / rise[k])), code = fmin(4 * nearbyint(rise[k] / 4), 64);
            ck_assert(code >= rise[k] - 2);
            const double sum = up * code;
            most = fmax(most, 255 * sum + PORTABLE_BIAS_MAX);
            ck_assert_msg(255 * sum + PORTABLE_BIAS_MAX < 16777216, "%d weights of %g: 255 * %g + %g", (int)n, rise[k], sum,
                          PORTABLE_BIAS_MAX);
        }
    }
    printf("largest 255 * sum|w| + |b| of capped weights: %.0f of 16777216\n", most);
    ck_assert(most > 0.99 * 16777216); /* and the cap gives nothing away */
}
END_TEST

const test_entry test_table[] = {TEST(powers_of_weights_keep_the_rules), TEST(capped_sums_stay_below_2_24), TEST(faults_are_said),
                                 TEST(gradients_are_straight_through_and_lsq),
                                 TEST(portable_training_is_the_integer_model_bit_for_bit), TEST(portable_ranges_keep_the_bound_of_a_clip),
                                 TEST(ordinary_training_is_the_integer_model_within_a_step), {0}};
