/* probes.c - see probes.h. Weights are small random numbers, so that nothing overflows and nothing is zero. */
#include "matrix/probes.h"

#include "base/rng.h"
#include "ops/attrs.h"

#include <math.h>

static status floats(graph *g, shape sh, double size, value_id *out)
{
    float *data;
    rng r = rng_make((uint64_t)g->n_value, RNG_INIT, 1, 0);
    size_t n = (size_t)shape_count(&sh);
    TRY(graph_alloc_data(g, n * sizeof *data, &data));
    for (size_t i = 0; i < n; i++)
        data[i] = (float)(size * (2 * rng_uniform(&r) - 1));
    return graph_add_data(g, NULL, VALUE_CONST, DTYPE_F32, sh, data, out);
}

/* A square convolution that keeps height and width; weights w or, 0, new ones. */
static status conv_of(graph *g, value_id x, value_id w, int64_t out, int64_t k, int64_t group, value_id *y)
{
    int64_t channels = graph_value(g, x)->sh.dim[1], kernel[] = {k, k}, one[] = {1, 1}, pads[] = {k / 2, k / 2, k / 2, k / 2};
    conv_attrs a;
    value_id b;
    op_default_attrs(OP_CONV, &a);
    a.kernel_shape = (attr_ints){2, kernel};
    a.strides = a.dilations = (attr_ints){2, one};
    a.pads = (attr_ints){4, pads};
    a.group = group;
    if (!w)
        TRY(floats(g, SHAPE(out, channels / group, k, k), sqrt(3.0 / (double)(channels / group * k * k)), &w));
    TRY(floats(g, SHAPE(out), 0.1, &b));
    return graph_add1(g, OP_CONV, &a, x, w, b, y);
}

static status gemm_of(graph *g, value_id x, int64_t out, value_id *y)
{
    int64_t in = graph_value(g, x)->sh.dim[1];
    gemm_attrs a = {.alpha = 1, .beta = 1, .transB = 1};
    value_id w, b;
    TRY(floats(g, SHAPE(out, in), sqrt(3.0 / (double)in), &w));
    TRY(floats(g, SHAPE(out), 0.1, &b));
    return graph_add1(g, OP_GEMM, &a, x, w, b, y);
}

static status probe_conv(graph *g, value_id x, value_id *y)
{
    TRY(conv_of(g, x, 0, 32, 3, 1, y));
    TRY(graph_add1(g, OP_RELU, NULL, *y, 0, 0, y));
    TRY(conv_of(g, *y, 0, 32, 3, 1, y));
    return graph_add1(g, OP_RELU, NULL, *y, 0, 0, y);
}

static status probe_depthwise(graph *g, value_id x, value_id *y)
{
    TRY(conv_of(g, x, 0, 16, 3, 16, y));
    TRY(graph_add1(g, OP_CLIP, &(clip_attrs){0, 6}, *y, 0, 0, y));
    return conv_of(g, *y, 0, 32, 1, 1, y);
}

static status probe_residual(graph *g, value_id x, value_id *y)
{
    TRY(conv_of(g, x, 0, 16, 3, 1, y));
    TRY(graph_add1(g, OP_ADD, NULL, *y, x, 0, y));
    return graph_add1(g, OP_RELU, NULL, *y, 0, 0, y);
}

static status probe_pool(graph *g, value_id x, value_id *y)
{
    static const int64_t two[] = {2, 2}, one[] = {1, 1}, none[] = {0, 0, 0, 0};
    pool_attrs a;
    op_default_attrs(OP_MAX_POOL, &a);
    a.kernel_shape = a.strides = (attr_ints){2, two};
    a.dilations = (attr_ints){2, one};
    a.pads = (attr_ints){4, none};
    TRY(graph_add1(g, OP_MAX_POOL, &a, x, 0, 0, y));
    TRY(graph_add1(g, OP_AVERAGE_POOL, &a, *y, 0, 0, y));
    return graph_add1(g, OP_GLOBAL_AVERAGE_POOL, NULL, *y, 0, 0, y);
}

static status probe_linear(graph *g, value_id x, value_id *y)
{
    TRY(graph_add1(g, OP_FLATTEN, &(axis_attrs){1}, x, 0, 0, y));
    TRY(gemm_of(g, *y, 64, y));
    TRY(graph_add1(g, OP_RELU, NULL, *y, 0, 0, y));
    return gemm_of(g, *y, 10, y);
}

static status probe_softmax(graph *g, value_id x, value_id *y)
{
    TRY(probe_linear(g, x, y));
    return graph_add1(g, OP_SOFTMAX, &(axis_attrs){1}, *y, 0, 0, y);
}

static status probe_activations(graph *g, value_id x, value_id *y)
{
    value_id gate;
    TRY(graph_add1(g, OP_SIGMOID, NULL, x, 0, 0, &gate));
    TRY(graph_add1(g, OP_MUL, NULL, x, gate, 0, y));
    TRY(graph_add1(g, OP_TANH, NULL, *y, 0, 0, y));
    return graph_add1(g, OP_HARD_SWISH, NULL, *y, 0, 0, y);
}

static status probe_resize(graph *g, value_id x, value_id *y)
{
    static const double twice[] = {1, 1, 2, 2};
    resize_attrs a;
    value_id both[2], big[2];
    op_default_attrs(OP_RESIZE, &a);
    a.mode = RESIZE_NEAREST;
    a.coordinate_transformation_mode = COORD_ASYMMETRIC;
    a.nearest_mode = NEAREST_FLOOR;
    a.scales = (attr_floats){4, twice};
    TRY(conv_of(g, x, 0, 8, 1, 1, &both[0]));
    both[1] = x;
    for (int i = 0; i < 2; i++)
        TRY(graph_add1(g, OP_RESIZE, &a, both[i], 0, 0, &big[i]));
    return graph_add(g, OP_CONCAT, &(axis_attrs){1}, big, 2, y, 1);
}

/* One head over the rows of [N, 16, 32]: softmax(q k^T) v, normalised. */
static status probe_attention(graph *g, value_id x, value_id *y)
{
    static const int64_t swap[] = {0, 2, 1};
    value_id qkv[3], w, t, scale;
    layer_norm_attrs norm;
    for (int i = 0; i < 3; i++) {
        TRY(floats(g, SHAPE(32, 32), 0.3, &w));
        TRY(graph_add1(g, OP_MATMUL, NULL, x, w, 0, &qkv[i]));
    }
    TRY(graph_add1(g, OP_TRANSPOSE, &(transpose_attrs){{3, swap}}, qkv[1], 0, 0, &t));
    TRY(graph_add1(g, OP_MATMUL, NULL, qkv[0], t, 0, &t));
    TRY(graph_add1(g, OP_SOFTMAX, &(axis_attrs){2}, t, 0, 0, &t));
    TRY(graph_add1(g, OP_MATMUL, NULL, t, qkv[2], 0, &t));
    op_default_attrs(OP_LAYER_NORM, &norm);
    norm.axis = -1;
    TRY(floats(g, SHAPE(32), 1, &scale));
    TRY(floats(g, SHAPE(32), 0.1, &w));
    return graph_add1(g, OP_LAYER_NORM, &norm, t, scale, w, y);
}

/* Rounded to int8 with zero point 0, and back. */
static status rounded(graph *g, value_id x, float scale, value_id *y)
{
    quant_attrs a;
    value_id s, z, q;
    op_default_attrs(OP_QUANTIZE_LINEAR, &a);
    TRY(graph_add_data(g, NULL, VALUE_CONST, DTYPE_F32, (shape){0}, &scale, &s));
    TRY(graph_add_data(g, NULL, VALUE_CONST, DTYPE_I8, (shape){0}, &(int8_t){0}, &z));
    TRY(graph_add1(g, OP_QUANTIZE_LINEAR, &a, x, s, z, &q));
    op_default_attrs(OP_DEQUANTIZE_LINEAR, &a);
    return graph_add1(g, OP_DEQUANTIZE_LINEAR, &a, q, s, z, y);
}

static status probe_int8(graph *g, value_id x, value_id *y)
{
    int8_t codes[16 * 16 * 9];
    quant_attrs a;
    value_id w, s, z;
    rng r = rng_make(7, RNG_INIT, 2, 0);
    for (size_t i = 0; i < sizeof codes; i++)
        codes[i] = (int8_t)((int)rng_below(&r, 33) * 4 - 64);
    TRY(rounded(g, x, 1 / 128.0f, &x));
    TRY(graph_add_data(g, NULL, VALUE_CONST, DTYPE_I8, SHAPE(16, 16, 3, 3), codes, &w));
    TRY(graph_add_data(g, NULL, VALUE_CONST, DTYPE_F32, (shape){0}, &(float){1 / 512.0f}, &s));
    TRY(graph_add_data(g, NULL, VALUE_CONST, DTYPE_I8, (shape){0}, &(int8_t){0}, &z));
    op_default_attrs(OP_DEQUANTIZE_LINEAR, &a);
    TRY(graph_add1(g, OP_DEQUANTIZE_LINEAR, &a, w, s, z, &w));
    TRY(conv_of(g, x, w, 16, 3, 1, y));
    TRY(graph_add1(g, OP_RELU, NULL, *y, 0, 0, y));
    return rounded(g, *y, 1 / 64.0f, y);
}

#define IMAGE {3, {16, 16, 16}}
const probe probes[] = {
    {"conv", 1e-4, probe_conv, IMAGE},         {"depthwise", 1e-4, probe_depthwise, IMAGE},
    {"residual", 1e-4, probe_residual, IMAGE}, {"pool", 1e-4, probe_pool, IMAGE},
    {"linear", 1e-4, probe_linear, IMAGE},     {"softmax", 1e-4, probe_softmax, IMAGE},
    {"activations", 1e-3, probe_activations, IMAGE}, {"resize", 1e-4, probe_resize, IMAGE},
    {"attention", 1e-3, probe_attention, {2, {16, 32}}}, {"int8", 0.02, probe_int8, IMAGE}, {0}};

status probe_graph(const probe *p, int64_t batch, graph **out)
{
    shape sh = {.rank = p->in.rank + 1, .dim = {batch}};
    value_id x, y;
    status st = graph_new(out);
    for (int i = 0; i < p->in.rank; i++)
        sh.dim[i + 1] = p->in.dim[i];
    if (st == ST_OK)
        st = graph_add_input(*out, "x", DTYPE_F32, sh, &x);
    if (st == ST_OK) {
        graph_value(*out, x)->flags |= VALUE_BATCHED;
        st = p->build(*out, x, &y);
    }
    if (st == ST_OK)
        st = graph_add_output(*out, y);
    if (st == ST_OK)
        st = graph_rename(*out, y, "y");
    if (st != ST_OK) {
        graph_free(*out);
        *out = NULL;
    }
    return st;
}
