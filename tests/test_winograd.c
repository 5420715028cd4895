/* test_winograd.c - what Winograd's convolutions cost in accuracy: error of a layer against double, beside the direct
 * convolutions of the same instruction set, in all three directions.
 *
 * Data and gradients are normal numbers, the weights have the deviation 1 / sqrt(taps C) of a layer that keeps its scale. The
 * error is relative to the root mean square of the exact results. */
#include "base/rng.h"
#include "harness.h"
#include "op_run.h"
#include "ops/attrs.h"

#include <math.h>
#include <stdio.h>

#define WORST 2e-5 /* 16 to 256 channels; what the points 1 and 2 (winograd.h) leave is beyond it */
#define MEAN  2e-6

enum { WAYS = 3 };
static const char *const way_names[WAYS] = {"y", "dx", "dw"};

typedef struct layer {
    graph *g;
    value_id in[2], out;
    double scale[2]; /* of the operands */
} layer;

/* A kernel of 3x3, or of `taps` along one axis, of maps that are 2 * size^2 pixels. */
static status build(layer *l, int way, int64_t channels, int64_t size, int64_t taps)
{
    static const op_id ops[WAYS] = {OP_CONV, OP_CONV_GRAD_DATA, OP_CONV_GRAD_WEIGHT};
    int axes = taps == 9 ? 2 : 1;
    const int64_t kernel[] = {axes == 2 ? 3 : taps, 3}, one[] = {1, 1}, pad = kernel[0] / 2, pads[] = {pad, pad, pad, pad};
    const int64_t plane[] = {2, channels, size, size}, line[] = {2, channels, size * size};
    conv_attrs at = {.kernel_shape = {axes, kernel}, .strides = {axes, one}, .dilations = {axes, one}, .pads = {2 * axes, pads},
                     .group = 1};
    shape map = axes == 2 ? SHAPE(2, channels, size, size) : SHAPE(2, channels, size * size);
    shape weight = axes == 2 ? SHAPE(channels, channels, 3, 3) : SHAPE(channels, channels, taps);
    if (way == 1)
        at.data_shape = (attr_ints){2 + axes, axes == 2 ? plane : line};
    l->scale[0] = 1;
    l->scale[1] = way == 2 ? 1 : 1 / sqrt((double)(taps * channels));
    TRY(graph_new(&l->g));
    TRY(graph_add_input(l->g, "a", DTYPE_F32, map, &l->in[0]));
    TRY(graph_add_input(l->g, "b", DTYPE_F32, way == 2 ? map : weight, &l->in[1]));
    TRY(graph_add1(l->g, ops[way], &at, l->in[0], l->in[1], 0, &l->out));
    return graph_add_output(l->g, l->out);
}

/* The results of one way of computing a layer as double; freed by the caller. */
static status compute(const layer *l, const backend *b, const char *kernel, double **out)
{
    op_run r = {0};
    status st = ST_OK;
    *out = NULL;
    TRY_DONE(op_run_open(&r, l->g, b, 2));
    for (int k = 0; k < 2; k++) {
        const value *x = &r.g->value[l->in[k]];
        rng numbers = rng_make(7, RNG_TEST, 0, (uint32_t)k);
        for (int64_t i = 0; i < shape_count(&x->sh); i++) /* numbers that are floats, whatever the type here */
            dtype_store(x->type, r.at[l->in[k]].data, i, (double)(float)(l->scale[k] * rng_normal(&numbers)));
    }
    bool found = !kernel;
    for (size_t k = 1; k < r.g->n_node; k++)
        found = found || (r.row[k] && r.row[k]->method && strcmp(r.row[k]->method, kernel) == 0);
    if (!found) {
        st = fail(ST_GATE, "no kernel of method '%s' is used", kernel);
        goto done;
    }
    TRY_DONE(op_run_nodes(&r, r.g->n_node, false));
    const value *y = &r.g->value[l->out];
    TRY_DONE(mem_alloc(out, (size_t)shape_count(&y->sh), sizeof **out));
    for (int64_t i = 0; i < shape_count(&y->sh); i++)
        (*out)[i] = dtype_load(y->type, r.at[l->out].data, i);
done:
    op_run_close(&r);
    return st;
}

static void check_layer(int way, int64_t channels, int64_t size, int64_t taps)
{
    static const char *const methods[] = {"direct", "winograd"};
    layer l = {0}, wide = {0};
    backend *b;
    double *exact, *got, square = 0;
    OK(build(&l, way, channels, size, taps));
    OK(build(&wide, way, channels, size, taps));
    OK(pass_to_double(wide.g));
    OK(backend_open("cpu", &(backend_options){.max_isa = ISA_REF, .layout = LAYOUT_PLAIN}, &b));
    OK(compute(&wide, b, NULL, &exact));
    backend_close(b);
    int64_t n = shape_count(&l.g->value[l.out].sh);
    for (int64_t i = 0; i < n; i++)
        square += exact[i] * exact[i];
    double scale = sqrt(square / (double)n);
    for (int m = 0; m < 2; m++) {
        double worst = 0, mean = 0;
        char name[80];
        OK(backend_open("cpu", &(backend_options){.max_isa = ISA_AVX512, .layout = LAYOUT_BLOCKED, .method = methods[m]}, &b));
        OK(compute(&l, b, methods[m], &got));
        backend_close(b);
        for (int64_t i = 0; i < n; i++) {
            double error = fabs(got[i] - exact[i]) / scale;
            worst = fmax(worst, error);
            mean += error * error;
        }
        mean = sqrt(mean / (double)n);
        snprintf(name, sizeof name, "%s, %s, %d taps, %d channels: largest", methods[m], way_names[way], (int)taps,
                 (int)channels);
        test_max_error(name, worst, WORST);
        snprintf(name, sizeof name, "%s, %s, %d taps, %d channels: mean square", methods[m], way_names[way], (int)taps,
                 (int)channels);
        test_max_error(name, mean, MEAN);
        ck_assert_msg(worst > 0 && worst <= WORST && mean <= MEAN, "%s: errors %g and %g", name, worst, mean);
        mem_free(got);
    }
    mem_free(exact);
    graph_free(l.g);
    graph_free(wide.g);
}

START_TEST(forward_of_a_layer)
{
    check_layer(0, 16, 32, 9);
    check_layer(0, 64, 16, 9);
    check_layer(0, 256, 10, 9);
}
END_TEST

START_TEST(gradient_of_its_data)
{
    check_layer(1, 16, 32, 9);
    check_layer(1, 64, 16, 9);
    check_layer(1, 256, 10, 9);
}
END_TEST

START_TEST(gradient_of_its_weights)
{
    check_layer(2, 16, 32, 9);
    check_layer(2, 64, 16, 9);
    check_layer(2, 256, 10, 9);
}
END_TEST

static void check_lines(int way)
{
    static const int64_t taps[] = {3, 5, 7, 11, 16};
    for (size_t i = 0; i < sizeof taps / sizeof *taps; i++) {
        check_layer(way, 16, 32, taps[i]);
        check_layer(way, 64, 16, taps[i]);
        check_layer(way, 256, 10, taps[i]);
    }
}

START_TEST(forward_along_a_line)
{
    check_lines(0);
}
END_TEST

START_TEST(gradient_of_data_along_a_line)
{
    check_lines(1);
}
END_TEST

const test_entry test_table[] = {TEST(forward_of_a_layer), TEST(gradient_of_its_data), TEST(gradient_of_its_weights),
                                 TEST(forward_along_a_line), TEST(gradient_of_data_along_a_line), {0}};
