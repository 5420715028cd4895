/* qnet.c - see qnet.h. */
#include "qnet.h"

#include "exec/exec.h"
#include "harness.h"
#include "ops/attrs.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static value_id constant(graph *g, const char *name, dtype type, shape sh, const void *data)
{
    value_id v;
    OK(graph_add_data(g, name, VALUE_CONST, type, sh, data, &v));
    return v;
}

static void *room(int64_t n, size_t size)
{
    void *p;
    OK(mem_alloc(&p, (size_t)n, size));
    return p;
}

/* DequantizeLinear(codes, scale, zeros of the codes' type). */
static value_id dequantized(qnet *n, const char *name, value_id codes, value_id scale, value_id zero, int64_t axis)
{
    value_id y;
    quant_attrs a;
    char label[64];
    op_default_attrs(OP_DEQUANTIZE_LINEAR, &a);
    a.axis = axis;
    snprintf(label, sizeof label, "%s_dq", name);
    OK(graph_add_named(n->g, label, OP_DEQUANTIZE_LINEAR, &a, (value_id[]){codes, scale, zero}, 3, NULL, &y, 1));
    return y;
}

void qnet_round(qnet *n, float scale, int zero)
{
    char name[64];
    quant_attrs a;
    value_id q;
    if (n->act == DTYPE_NONE)
        return;
    int8_t code = (int8_t)(n->act == DTYPE_U8 ? zero : zero - 128); /* the same byte for both types */
    snprintf(name, sizeof name, "q%d", n->layers++);
    value_id s = constant(n->g, NULL, DTYPE_F32, (shape){0}, &scale), z = constant(n->g, NULL, n->act, (shape){0}, &code);
    op_default_attrs(OP_QUANTIZE_LINEAR, &a);
    OK(graph_add_named(n->g, name, OP_QUANTIZE_LINEAR, &a, (value_id[]){n->v, s, z}, 3, NULL, &q, 1));
    n->v = dequantized(n, name, q, s, z, 1);
    n->scale = scale;
}

qnet qnet_new(dtype act, bool portable, shape input, float scale, int zero, uint64_t seed)
{
    qnet n = {.act = act, .portable = portable, .r = rng_make(seed, RNG_TEST, 77, 0)};
    OK(graph_new(&n.g));
    OK(graph_add_input(n.g, "x", DTYPE_F32, input, &n.v));
    graph_value(n.g, n.v)->flags |= VALUE_BATCHED;
    qnet_round(&n, scale, zero);
    return n;
}

/* ---- weights and bias of a product ---- */

static float channel_scale(qnet *n, float base)
{
    if (n->portable)
        return base * (rng_below(&n->r, 2) ? 0.5f : 1.0f); /* base is a power of two */
    return base * (float)(0.5 + rng_uniform(&n->r));
}

static value_id weights(qnet *n, const char *name, shape sh, int64_t outputs, int64_t axis, float base, bool per_tensor,
                        int every, float *scale)
{
    char label[64];
    int64_t count = shape_count(&sh);
    int8_t *codes = room(count, 1);
    float *real = room(count, sizeof *real);
    int8_t *zeros = room(outputs, 1);
    for (int64_t o = 0; o < outputs; o++)
        scale[o] = o && per_tensor ? scale[0] : channel_scale(n, base);
    for (int64_t i = 0; i < count; i++) {
        int v = n->portable ? 4 * ((int)rng_below(&n->r, 33) - 16) : (int)rng_below(&n->r, 255) - 127;
        codes[i] = (int8_t)(every > 0 && rng_below(&n->r, (uint32_t)every) ? 0 : v);
        real[i] = (float)codes[i] * base;
    }
    value_id v;
    snprintf(label, sizeof label, "%s_w", name);
    if (n->act == DTYPE_NONE) {
        v = constant(n->g, label, DTYPE_F32, sh, real);
    } else {
        shape s = per_tensor ? (shape){0} : SHAPE(outputs);
        value_id c = constant(n->g, label, DTYPE_I8, sh, codes);
        snprintf(label, sizeof label, "%s_ws", name);
        value_id k = constant(n->g, label, DTYPE_F32, s, scale), z = constant(n->g, NULL, DTYPE_I8, s, zeros);
        snprintf(label, sizeof label, "%s_wdq", name);
        v = dequantized(n, label, c, k, z, axis);
    }
    mem_free(codes);
    mem_free(real);
    mem_free(zeros);
    return v;
}

static value_id bias(qnet *n, const char *name, int64_t outputs, bool per_tensor, const float *wscale)
{
    char label[64];
    int32_t *codes = room(outputs, 4), *zeros = room(outputs, 4);
    float *real = room(outputs, 4), *scale = room(outputs, 4);
    for (int64_t i = 0; i < outputs; i++) {
        codes[i] = n->portable ? 4 * ((int)rng_below(&n->r, 400) - 200) + 2 : (int)rng_below(&n->r, 2000) - 1000;
        scale[i] = wscale[i] * n->scale;
        real[i] = (float)(rng_uniform(&n->r) - 0.5);
    }
    value_id v;
    snprintf(label, sizeof label, "%s_b", name);
    if (n->act == DTYPE_NONE) {
        v = constant(n->g, label, DTYPE_F32, SHAPE(outputs), real);
    } else {
        shape s = per_tensor ? (shape){0} : SHAPE(outputs);
        value_id c = constant(n->g, label, DTYPE_I32, SHAPE(outputs), codes);
        snprintf(label, sizeof label, "%s_bs", name);
        value_id k = constant(n->g, label, DTYPE_F32, s, scale), z = constant(n->g, NULL, DTYPE_I32, s, zeros);
        snprintf(label, sizeof label, "%s_bdq", name);
        v = dequantized(n, label, c, k, z, 0);
    }
    mem_free(codes);
    mem_free(zeros);
    mem_free(real);
    mem_free(scale);
    return v;
}

/* ---- layers ---- */

void qnet_conv(qnet *n, qconv c, float wscale)
{
    char name[32];
    int64_t s = c.stride ? c.stride : 1, d = c.dilation ? c.dilation : 1, group = c.group ? c.group : 1;
    int64_t channels = graph_value(n->g, n->v)->sh.dim[1];
    int64_t kernel[] = {c.kernel, c.kernel}, strides[] = {s, s}, dilations[] = {d, d};
    conv_attrs a = {.kernel_shape = {2, kernel}, .strides = {2, strides}, .dilations = {2, dilations}, .pads = {4, c.pads},
                    .group = group};
    float *scale = room(c.out, sizeof *scale);
    snprintf(name, sizeof name, "conv%d", n->layers++);
    value_id w = weights(n, name, SHAPE(c.out, channels / group, c.kernel, c.kernel), c.out, 0, wscale, c.per_tensor,
                         c.weight_zeros, scale);
    value_id b = c.no_bias ? 0 : bias(n, name, c.out, c.per_tensor, scale);
    OK(graph_add_named(n->g, name, OP_CONV, &a, (value_id[]){n->v, w, b}, b ? 3 : 2, NULL, &n->v, 1));
    mem_free(scale);
}

void qnet_gemm(qnet *n, int64_t out, bool trans_b, float wscale)
{
    char name[32];
    int64_t columns = graph_value(n->g, n->v)->sh.dim[1];
    gemm_attrs a = {.alpha = 1, .beta = 1, .transB = trans_b};
    float *scale = room(out, sizeof *scale);
    snprintf(name, sizeof name, "gemm%d", n->layers++);
    value_id w = weights(n, name, trans_b ? SHAPE(out, columns) : SHAPE(columns, out), out, trans_b ? 0 : 1, wscale, true, 0,
                         scale);
    value_id b = bias(n, name, out, true, scale);
    OK(graph_add_named(n->g, name, OP_GEMM, &a, (value_id[]){n->v, w, b}, 3, NULL, &n->v, 1));
    mem_free(scale);
}

void qnet_node(qnet *n, op_id op, const void *attr)
{
    char name[64];
    snprintf(name, sizeof name, "%s%d", op_of(op)->name, n->layers++);
    OK(graph_add_named(n->g, name, op, attr, &n->v, 1, NULL, &n->v, 1));
}

void qnet_relu(qnet *n)
{
    qnet_node(n, OP_RELU, NULL);
}

void qnet_two(qnet *n, op_id op, value_id other, const void *attr)
{
    char name[64];
    snprintf(name, sizeof name, "%s%d", op_of(op)->name, n->layers++);
    OK(graph_add_named(n->g, name, op, attr, (value_id[]){n->v, other}, 2, NULL, &n->v, 1));
}

graph *qnet_end(qnet *n)
{
    OK(graph_add_output(n->g, n->v));
    OK(graph_rename(n->g, n->v, "y"));
    OK(graph_validate(n->g));
    return n->g;
}

/* ---- random portable nets ---- */

/* The weight scale for shift k towards a result of scale y. */
static float shifted(const qnet *n, float y, int k)
{
    return ldexpf(y / n->scale, -k);
}

static void portable_conv(qnet *n, bool s8)
{
    int64_t channels = graph_value(n->g, n->v)->sh.dim[1], side = graph_value(n->g, n->v)->sh.dim[2];
    int64_t other = graph_value(n->g, n->v)->sh.dim[3];
    uint32_t kind = rng_below(&n->r, 4);
    qconv c = {.out = 2 + (int64_t)rng_below(&n->r, 5), .kernel = kind == 0 ? 1 : 3, .stride = side > 4 && rng_below(&n->r, 3) == 0 ? 2 : 1};
    if (kind == 1) {
        c.group = channels;
        c.out = channels;
    }
    if (c.kernel == 3)
        for (int i = 0; i < 4; i++)
            c.pads[i] = side < 3 || other < 3 || rng_below(&n->r, 4) > 0;
    bool relu = rng_below(&n->r, 3) > 0;
    int k = rng_below(&n->r, 5) ? 6 + (int)rng_below(&n->r, 3) : 3; /* mostly in range, sometimes at the bound */
    float y = ldexpf(1, -(int)rng_below(&n->r, 3) - 5);
    qnet_conv(n, c, shifted(n, y, k));
    if (relu)
        qnet_relu(n);
    qnet_round(n, y, relu && !s8 ? 0 : 128);
}

static void portable_residual(qnet *n)
{
    value_id x = n->v;
    float y = n->scale;
    qnet_conv(n, (qconv){.out = graph_value(n->g, x)->sh.dim[1], .kernel = 3, .pads = {1, 1, 1, 1}}, shifted(n, y, 7));
    qnet_round(n, y, 128);
    qnet_two(n, OP_ADD, x, NULL);
    qnet_round(n, y, 128);
}

static void portable_move(qnet *n)
{
    static const int64_t two[2] = {2, 2}, one[2] = {1, 1};
    static const double twice[4] = {1, 1, 2, 2};
    value_id x = n->v;
    uint32_t kind = rng_below(&n->r, 3);
    if (graph_value(n->g, n->v)->sh.dim[2] > 8)
        kind = 0;
    if (kind == 0 && graph_value(n->g, n->v)->sh.dim[2] > 3 && graph_value(n->g, n->v)->sh.dim[3] > 3)
        qnet_node(n, OP_MAX_POOL, &(pool_attrs){.kernel_shape = {2, two}, .strides = {2, two}, .dilations = {2, one}});
    else if (kind == 1)
        qnet_node(n, OP_RESIZE, &(resize_attrs){.mode = RESIZE_NEAREST, .coordinate_transformation_mode = COORD_ASYMMETRIC,
                                                .nearest_mode = NEAREST_FLOOR, .scales = {4, twice}});
    else
        qnet_two(n, OP_CONCAT, x, &(axis_attrs){1});
}

graph *qnet_portable(uint64_t seed, dtype act, bool s8, int64_t batch)
{
    qnet n = qnet_new(act, true, SHAPE(batch, 2, 8, 8), QNET_INPUT_SCALE(s8), s8 ? 128 : 0, seed);
    int layers = 3 + (int)rng_below(&n.r, 5);
    portable_conv(&n, s8);
    for (int i = 0; i < layers; i++) {
        uint32_t kind = rng_below(&n.r, 6);
        if (kind == 0)
            portable_residual(&n);
        else if (kind == 1)
            portable_move(&n);
        else
            portable_conv(&n, s8);
    }
    qnet_node(&n, OP_FLATTEN, &(axis_attrs){1});
    qnet_gemm(&n, 5, rng_below(&n.r, 2), shifted(&n, 1 / 16.0f, 8));
    qnet_round(&n, 1 / 16.0f, 128);
    return qnet_end(&n);
}

void qnet_run(const graph *g, uint64_t seed, float lo, float hi, float grid, float **x, float **y, bool fused)
{
    backend *b = NULL;
    exec *e = NULL;
    graph *ran = NULL;
    rng r = rng_make(seed, RNG_TEST, 5, 0);
    OK(backend_open("cpu", &(backend_options){.threads = 1, .max_isa = ISA_AVX512}, &b));
    OK(graph_clone(g, &ran));
    if (fused) {
        OK(pass_drop_identity(ran));
        OK(pass_integer_groups(ran));
        OK(pass_fuse_epilogues(ran));
    }
    OK(exec_open(ran, b, NULL, 0, &e));
    int64_t n_x = shape_count(&graph_value(ran, ran->input[0])->sh), n_y = shape_count(&graph_value(ran, ran->output[0])->sh);
    *x = room(n_x, sizeof **x);
    *y = room(n_y, sizeof **y);
    for (int64_t i = 0; i < n_x; i++) {
        double v = (double)lo + ((double)hi - (double)lo) * rng_uniform(&r);
        (*x)[i] = grid > 0 ? (float)(floor(v / (double)grid) * (double)grid) : (float)v;
    }
    memcpy(exec_data(e, ran->input[0]), *x, (size_t)n_x * sizeof **x);
    OK(exec_run(e, PHASE_MAIN));
    memcpy(*y, exec_data(e, ran->output[0]), (size_t)n_y * sizeof **y);
    exec_close(e);
    graph_free(ran);
    backend_close(b);
}
