/* test_layout.c - the layout pass: regions, where tensors change layout, and that results stay; norms that go into
 * convolutions. The kernels themselves are proved by the op cases. */
#include "base/rng.h"
#include "exec/internal.h"
#include "harness.h"
#include "ops/attrs.h"

#include <math.h>
#include <string.h>

static backend *open_backend(layout_choice layout)
{
    backend *b;
    OK(backend_open("cpu", &(backend_options){.threads = 2, .max_isa = ISA_AVX512, .layout = layout}, &b));
    return b;
}

static size_t count_of(const graph *g, op_id op)
{
    size_t n = 0;
    for (size_t k = 1; k < g->n_node; k++)
        n += g->node[k].op == op;
    return n;
}

static value_id random_const(graph *g, shape sh, uint32_t stream)
{
    value_id v;
    float *x;
    int64_t n = shape_count(&sh);
    rng r = rng_make(1, RNG_TEST, stream, 0);
    OK(mem_alloc(&x, (size_t)n, sizeof *x));
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(rng_uniform(&r) - 0.5);
    OK(graph_add_data(g, NULL, VALUE_CONST, DTYPE_F32, sh, x, &v));
    mem_free(x);
    return v;
}

static value_id conv(graph *g, value_id x, int64_t from, int64_t to, int64_t kernel, uint32_t stream)
{
    value_id y, w = random_const(g, SHAPE(to, from, kernel, kernel), stream);
    int64_t k[] = {kernel, kernel}, one[] = {1, 1}, p = kernel / 2, pads[] = {p, p, p, p};
    conv_attrs at = {.kernel_shape = {2, k}, .strides = {2, one}, .dilations = {2, one}, .pads = {4, pads}, .group = 1};
    OK(graph_add1(g, OP_CONV, &at, x, w, 0, &y));
    return y;
}

/* conv - relu - conv + relu - mean, with `channels` in the middle; the sum is an output too. */
static graph *small_net(int64_t channels)
{
    graph *g;
    value_id x, a, b, sum, mean;
    OK(graph_new(&g));
    OK(graph_add_input(g, "x", DTYPE_F32, SHAPE(2, 16, 9, 11), &x));
    a = conv(g, x, 16, channels, 3, 1);
    OK(graph_add1(g, OP_RELU, NULL, a, 0, 0, &a));
    b = conv(g, a, channels, channels, 1, 2);
    OK(graph_add1(g, OP_ADD, NULL, a, b, 0, &sum));
    OK(graph_add1(g, OP_GLOBAL_AVERAGE_POOL, NULL, sum, 0, 0, &mean));
    OK(graph_add_output(g, mean));
    OK(graph_add_output(g, sum));
    return g;
}

static void run_net(const graph *g, layout_choice layout, float *mean, float *sum, size_t *reorders)
{
    backend *b = open_backend(layout);
    exec *e;
    OK(exec_open(g, b, NULL, 0, &e));
    OK(graph_validate(exec_graph(e)));
    float *x = exec_data(e, g->input[0]);
    rng r = rng_make(7, RNG_TEST, 0, 0);
    for (int64_t i = 0; i < shape_count(&g->value[g->input[0]].sh); i++)
        x[i] = (float)(rng_uniform(&r) - 0.5);
    OK(exec_run(e, PHASE_MAIN));
    const shape *s = &g->value[g->output[0]].sh, *t = &g->value[g->output[1]].sh;
    memcpy(mean, exec_data(e, g->output[0]), (size_t)shape_count(s) * sizeof *mean);
    memcpy(sum, exec_data(e, g->output[1]), (size_t)shape_count(t) * sizeof *sum);
    *reorders = count_of(exec_graph(e), OP_REORDER);
    exec_close(e);
    backend_close(b);
}

static void check_net(int64_t channels, layout_choice layout, size_t reorders_most, size_t reorders_least)
{
    static float mean[2][2 * 64], sum[2][2 * 64 * 99];
    size_t none, some;
    graph *g = small_net(channels);
    run_net(g, LAYOUT_PLAIN, mean[0], sum[0], &none);
    run_net(g, layout, mean[1], sum[1], &some);
    ck_assert_uint_eq(none, 0);
    ck_assert_msg(some <= reorders_most && some >= reorders_least, "%zu reorders of %d channels", some, (int)channels);
    double worst = 0;
    for (int64_t i = 0; i < 2 * channels; i++)
        worst = fmax(worst, fabs((double)mean[0][i] - (double)mean[1][i]));
    for (int64_t i = 0; i < 2 * channels * 99; i++)
        worst = fmax(worst, fabs((double)sum[0][i] - (double)sum[1][i]));
    test_max_error("blocked against plain", worst, 1e-4);
    ck_assert_msg(worst <= 1e-4, "blocked and plain differ by %g", worst);
    graph_free(g);
}

/* One way in, one way out: the tensors between stay blocked. */
START_TEST(a_region_changes_layout_at_its_edges_only)
{
    backend *b = open_backend(LAYOUT_AUTO);
    bool blocks = b->block > 0;
    backend_close(b);
    ck_assert(blocks);
    check_net(32, LAYOUT_BLOCKED, 2, 2);
    check_net(17, LAYOUT_BLOCKED, 2, 2);
    check_net(64, LAYOUT_AUTO, 2, 0);
}
END_TEST

START_TEST(few_channels_stay_plain)
{
    backend *b = open_backend(LAYOUT_AUTO);
    int64_t channels = b->block / 4;
    backend_close(b);
    check_net(channels, LAYOUT_AUTO, 0, 0);
}
END_TEST

/* conv - batch norm of the batch - relu - conv, its loss the sum of the result times numbers, with all gradients; keep: the
 * normalised tensor is an output too. */
static graph *norm_net(bool keep)
{
    enum { C = 32 };
    graph *g;
    value_id x, y[3], z, sum, loss, wrt[4], grad[4];
    float ones[C];
    for (int i = 0; i < C; i++)
        ones[i] = 1 + (float)i / C;
    OK(graph_new(&g));
    OK(graph_add_input(g, "x", DTYPE_F32, SHAPE(3, C, 9, 11), &x));
    OK(graph_add_data(g, "scale", VALUE_CONST, DTYPE_F32, SHAPE(C), ones, &wrt[1]));
    OK(graph_add_data(g, "shift", VALUE_CONST, DTYPE_F32, SHAPE(C), ones, &wrt[2]));
    z = conv(g, x, C, C, 1, 1);
    wrt[0] = g->node[g->value[z].from].in[1];
    batch_norm_attrs at = {.epsilon = 1e-5, .relu = 1, .ceiling = 2};
    OK(graph_add(g, OP_BATCH_NORM_TRAIN, &at, (value_id[]){z, wrt[1], wrt[2]}, 3, y, 3));
    z = conv(g, y[0], C, C, 3, 2);
    wrt[3] = g->node[g->value[z].from].in[1];
    OK(graph_add1(g, OP_MUL, NULL, z, random_const(g, SHAPE(3, C, 9, 11), 3), 0, &sum));
    OK(graph_add1(g, OP_REDUCE_SUM, &(reduce_attrs){.keepdims = 0}, sum, 0, 0, &loss));
    OK(graph_add_output(g, loss));
    if (keep)
        OK(graph_add_output(g, y[0]));
    OK(graph_gradients(g, loss, wrt, 4, grad));
    for (int i = 0; i < 4; i++)
        OK(graph_add_output(g, grad[i]));
    return g;
}

START_TEST(a_norm_goes_into_the_convolutions_that_read_it)
{
    for (int keep = 0; keep < 2; keep++) {
        graph *g = norm_net(keep);
        exec *e[2];
        backend *b[2] = {open_backend(LAYOUT_PLAIN), open_backend(LAYOUT_AUTO)};
        for (int i = 0; i < 2; i++) {
            OK(exec_open(g, b[i], NULL, 0, &e[i]));
            float *x = exec_data(e[i], g->input[0]);
            for (int64_t k = 0; k < shape_count(&g->value[g->input[0]].sh); k++)
                x[k] = (float)(k % 17) / 8 - 1;
            OK(exec_run(e[i], PHASE_MAIN));
            bool in = i == 1 && !keep && b[i]->block;
            const graph *low = exec_graph(e[i]);
            ck_assert_uint_eq(count_of(low, OP_NORM_CONV), in);
            ck_assert_uint_eq(count_of(low, OP_NORM_CONV_GRAD_WEIGHT), in);
            ck_assert_uint_eq(count_of(low, OP_BATCH_NORM_MOMENTS), in);
            ck_assert_uint_eq(count_of(low, OP_BATCH_NORM_TRAIN), !in);
            OK(graph_validate(low));
        }
        double worst = 0;
        for (size_t o = 1; o < g->n_output; o++) {
            const float *one = exec_data(e[0], g->output[o]), *two = exec_data(e[1], g->output[o]);
            double square = 0, off = 0;
            for (int64_t k = 0; k < shape_count(&g->value[g->output[o]].sh); k++) {
                square += (double)one[k] * (double)one[k];
                off += ((double)one[k] - (double)two[k]) * ((double)one[k] - (double)two[k]);
            }
            worst = fmax(worst, sqrt(off / square));
        }
        test_max_error("norms in convolutions, gradients", worst, 1e-5);
        ck_assert(worst < 1e-5);
        for (int i = 0; i < 2; i++) {
            exec_close(e[i]);
            backend_close(b[i]);
        }
        graph_free(g);
    }
}
END_TEST

/* Every size of the last piece, in both directions; lanes beyond the channels are zeros. */
START_TEST(reorder_goes_there_and_back)
{
    backend *b = open_backend(LAYOUT_BLOCKED);
    static float x[2 * 40 * 40], y[2 * 48 * 40], z[2 * 40 * 40];
    for (int64_t c = 1; c <= 40; c += c < 3 ? 1 : 7)
        for (int64_t n = 1; n <= 40; n += 3) {
            shape s = SHAPE(2, c, n);
            kernel_tensor plain = {x, DTYPE_F32, s, 0}, block = {y, DTYPE_F32, s, b->block}, back = {z, DTYPE_F32, s, 0};
            kernel_args to = {.in = &plain, .out = &block, .n_in = 1, .n_out = 1, .threads = 2};
            kernel_args from = {.in = &block, .out = &back, .n_in = 1, .n_out = 1, .threads = 2};
            for (int64_t i = 0; i < 2 * c * n; i++)
                x[i] = (float)(i + 1);
            memset(y, 0xFF, sizeof y);
            const kernel_row *there = b->find(b, OP_REORDER, &to), *again = b->find(b, OP_REORDER, &from);
            ck_assert(there && again);
            there->run(&to);
            again->run(&from);
            ck_assert(memcmp(x, z, (size_t)(2 * c * n) * sizeof *x) == 0);
            double all = 0, want = 0;
            for (int64_t i = 0; i < kernel_elements(&block); i++)
                all += (double)y[i];
            for (int64_t i = 0; i < 2 * c * n; i++)
                want += (double)x[i];
            ck_assert_msg(all == want, "lanes beyond %d channels are not zero", (int)c);
        }
    backend_close(b);
}
END_TEST

const test_entry test_table[] = {TEST(a_region_changes_layout_at_its_edges_only), TEST(few_channels_stay_plain),
                                 TEST(a_norm_goes_into_the_convolutions_that_read_it), TEST(reorder_goes_there_and_back), {0}};
