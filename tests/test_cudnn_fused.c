/* test_cudnn_fused.c - for which fused graphs cuDNN has an engine on an H200, asked without a GPU: a table of what a training step
 * would like to be one pass, by type of the images (channels last). It says what rows of kernels/cuda can be built upon; those
 * that there are (convolutions with bias, residual, relu: test_cudnn_plans.c; attention) must have theirs.
 *
 * Columns: engine, workspace where the library tells it, p precompiled or r compiled at run time. DISTILL_CUDNN_ALL=1: all of
 * it (a minute); else what takes a few seconds. */
#include "base/clock.h"
#include "base/mem.h"
#include "cudnn_described.h"
#include "harness.h"
#include "kernels/cuda/dnn_inside.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- graphs by hand ---- */

typedef struct builder {
    const cuda_dnn *d;
    dnn_plan *p;
    int type;      /* of images and weights */
    int64_t next;  /* number of the next tensor */
    void *op[8];
    int n_op;
} builder;

static void *make(builder *b, int kind)
{
    void *out = NULL;
    if (b->p->code == 0)
        b->p->code = b->d->api->make(kind, &out);
    if (b->p->code != 0)
        return NULL;
    ck_assert_int_lt(b->p->n_part, DNN_MOST_PARTS);
    return b->p->part[b->p->n_part++] = out;
}
static void set(builder *b, void *to, int attribute, int type, int64_t n, const void *from)
{
    if (b->p->code == 0)
        b->p->code = b->d->api->set(to, attribute, type, n, from);
}
static void refer(builder *b, void *to, int attribute, void *d)
{
    set(b, to, attribute, DNN_T_DESCRIPTOR, 1, &d);
}
static void finish(builder *b, void *d)
{
    if (b->p->code == 0)
        b->p->code = b->d->api->finalize(d);
}
static void add(builder *b, void *op)
{
    finish(b, op);
    b->op[b->n_op++] = op;
}

static void *tensor(builder *b, int type, bool is_virtual, const int64_t *dim, const int64_t *step)
{
    const int64_t alignment = 16, id = ++b->next;
    void *t = make(b, DNN_TENSOR);
    set(b, t, DNN_TENSOR_TYPE, DNN_T_DATA_TYPE, 1, &type);
    set(b, t, DNN_TENSOR_DIMS, DNN_T_I64, 4, dim);
    set(b, t, DNN_TENSOR_STEPS, DNN_T_I64, 4, step);
    set(b, t, DNN_TENSOR_ID, DNN_T_I64, 1, &id);
    set(b, t, DNN_TENSOR_ALIGNMENT, DNN_T_I64, 1, &alignment);
    if (is_virtual)
        set(b, t, DNN_TENSOR_VIRTUAL, DNN_T_BOOL, 1, &is_virtual);
    finish(b, t);
    return t;
}
/* [n, c, h, w], channels last */
static void *image(builder *b, int type, bool is_virtual, int64_t n, int64_t c, int64_t h, int64_t w)
{
    return tensor(b, type, is_virtual, (int64_t[]){n, c, h, w}, (int64_t[]){c * h * w, 1, w * c, c});
}
static void *channels(builder *b, int type, int64_t c)
{
    return image(b, type, false, 1, c, 1, 1);
}

static void pointwise(builder *b, int mode, void *x, void *y, void *to)
{
    const int type = DNN_FLOAT;
    void *how = make(b, DNN_POINTWISE), *op;
    set(b, how, DNN_POINTWISE_MODE, DNN_T_POINTWISE_MODE, 1, &mode);
    set(b, how, DNN_POINTWISE_TYPE, DNN_T_DATA_TYPE, 1, &type);
    finish(b, how);
    op = make(b, DNN_OP_POINTWISE);
    refer(b, op, DNN_OP_POINTWISE_HOW, how);
    refer(b, op, DNN_OP_POINTWISE_X, x);
    if (mode == DNN_RELU_BACKWARD) {
        refer(b, op, DNN_OP_POINTWISE_DY, y);
        refer(b, op, DNN_OP_POINTWISE_DX, to);
    } else {
        if (y)
            refer(b, op, DNN_OP_POINTWISE_B, y);
        refer(b, op, DNN_OP_POINTWISE_Y, to);
    }
    add(b, op);
}

typedef struct layer {
    const char *name;
    int64_t n, c, m, pixels, taps; /* pixels: of a side */
} layer;

static void convolve(builder *b, const layer *l, dnn_kind kind, void *x, void *w, void *y)
{
    static const int first[] = {[DNN_CONV_FORWARD] = DNN_FORWARD_ALPHA, [DNN_CONV_DATA] = DNN_DATA_ALPHA, [DNN_CONV_WEIGHT] = DNN_WEIGHT_ALPHA};
    static const int ops[] = {[DNN_CONV_FORWARD] = DNN_OP_FORWARD, [DNN_CONV_DATA] = DNN_OP_DATA, [DNN_CONV_WEIGHT] = DNN_OP_WEIGHT};
    const int type = DNN_FLOAT, mode = DNN_CROSS_CORRELATION;
    const int64_t two = 2, pad[2] = {l->taps / 2, l->taps / 2}, one[2] = {1, 1};
    const float alpha = 1, beta = 0;
    void *c = make(b, DNN_CONVOLUTION), *op;
    set(b, c, DNN_CONV_AXES, DNN_T_I64, 1, &two);
    set(b, c, DNN_CONV_TYPE, DNN_T_DATA_TYPE, 1, &type);
    set(b, c, DNN_CONV_MODE, DNN_T_CONV_MODE, 1, &mode);
    set(b, c, DNN_CONV_PADS_BEFORE, DNN_T_I64, 2, pad);
    set(b, c, DNN_CONV_PADS_AFTER, DNN_T_I64, 2, pad);
    set(b, c, DNN_CONV_DILATIONS, DNN_T_I64, 2, one);
    set(b, c, DNN_CONV_STRIDES, DNN_T_I64, 2, one);
    finish(b, c);
    op = make(b, ops[kind]);
    set(b, op, first[kind], DNN_T_FLOAT, 1, &alpha);
    set(b, op, first[kind] + 1, DNN_T_FLOAT, 1, &beta);
    void *operand[] = {c, w, x, y};
    for (int i = 0; i < 4; i++)
        refer(b, op, first[kind] + 2 + i, operand[i]);
    add(b, op);
}

/* relu(x * scale + bias) as a value of the graph alone */
static void *prologue(builder *b, const layer *l, int type_of_scale)
{
    void *x = image(b, b->type, false, l->n, l->c, l->pixels, l->pixels), *v[3];
    for (int i = 0; i < 3; i++)
        v[i] = image(b, b->type, true, l->n, l->c, l->pixels, l->pixels);
    pointwise(b, DNN_MULTIPLY, x, channels(b, type_of_scale, l->c), v[0]);
    pointwise(b, DNN_ADD, v[0], channels(b, type_of_scale, l->c), v[1]);
    pointwise(b, DNN_RELU, v[1], NULL, v[2]);
    return v[2];
}
static void sums(builder *b, const layer *l, void *y)
{
    const int mode = 0, type = DNN_FLOAT;
    void *op = make(b, DNN_OP_STATS);
    set(b, op, DNN_STATS_MODE, DNN_T_STATS_MODE, 1, &mode);
    set(b, op, DNN_STATS_TYPE, DNN_T_DATA_TYPE, 1, &type);
    refer(b, op, DNN_STATS_X, y);
    refer(b, op, DNN_STATS_SUM, channels(b, DNN_FLOAT, l->m));
    refer(b, op, DNN_STATS_SQUARES, channels(b, DNN_FLOAT, l->m));
    add(b, op);
}

/* ---- what a step would like ---- */

static void forward(builder *b, const layer *l, bool prologued, int type_of_scale, bool with_sums)
{
    void *x = prologued ? prologue(b, l, type_of_scale) : image(b, b->type, false, l->n, l->c, l->pixels, l->pixels);
    void *y = image(b, b->type, false, l->n, l->m, l->pixels, l->pixels);
    convolve(b, l, DNN_CONV_FORWARD, x, image(b, b->type, false, l->m, l->c, l->taps, l->taps), y);
    if (with_sums)
        sums(b, l, y);
}
static void conv_sums(builder *b, const layer *l)
{
    forward(b, l, false, 0, true);
}
static void norm_conv(builder *b, const layer *l)
{
    forward(b, l, true, DNN_FLOAT, false);
}
static void norm_conv_sums(builder *b, const layer *l)
{
    forward(b, l, true, b->type, true);
}
static void norm_weight_in(builder *b, const layer *l, int type_of_scale, int type_of_w)
{
    void *x = prologue(b, l, type_of_scale), *dy = image(b, b->type, false, l->n, l->m, l->pixels, l->pixels);
    convolve(b, l, DNN_CONV_WEIGHT, x, image(b, type_of_w, false, l->m, l->c, l->taps, l->taps), dy);
}
static void norm_weight(builder *b, const layer *l)
{
    norm_weight_in(b, l, b->type, b->type);
}
static void norm_weight_float(builder *b, const layer *l)
{
    norm_weight_in(b, l, DNN_FLOAT, DNN_FLOAT);
}
/* dx of the convolution where the relu of the norm before it was not flat, and the two sums of that norm's backward */
static void data_relu_sums(builder *b, const layer *l)
{
    const int type = DNN_FLOAT;
    void *g = image(b, DNN_FLOAT, true, l->n, l->c, l->pixels, l->pixels), *x = image(b, b->type, false, l->n, l->c, l->pixels, l->pixels);
    void *dy = image(b, b->type, false, l->n, l->m, l->pixels, l->pixels), *dx = image(b, b->type, false, l->n, l->c, l->pixels, l->pixels);
    void *mean = channels(b, DNN_FLOAT, l->c), *inv = channels(b, DNN_FLOAT, l->c), *scale = channels(b, DNN_FLOAT, l->c), *v[4], *op;
    convolve(b, l, DNN_CONV_DATA, g, image(b, b->type, false, l->m, l->c, l->taps, l->taps), dy);
    for (int i = 0; i < 4; i++)
        v[i] = image(b, DNN_FLOAT, true, l->n, l->c, l->pixels, l->pixels);
    pointwise(b, DNN_SUBTRACT, x, mean, v[0]);
    pointwise(b, DNN_MULTIPLY, v[0], inv, v[1]);
    pointwise(b, DNN_MULTIPLY, v[1], scale, v[2]);
    pointwise(b, DNN_ADD, v[2], channels(b, DNN_FLOAT, l->c), v[3]);
    pointwise(b, DNN_RELU_BACKWARD, v[3], g, dx);
    op = make(b, DNN_OP_NORM_SUMS);
    set(b, op, DNN_SUMS_TYPE, DNN_T_DATA_TYPE, 1, &type);
    void *operand[] = {mean, inv, scale, x, dx};
    for (int i = 0; i < 5; i++)
        refer(b, op, DNN_SUMS_MEAN + i, operand[i]);
    for (int i = DNN_SUMS_DSCALE; i <= DNN_SUMS_TERM; i++)
        refer(b, op, i, channels(b, DNN_FLOAT, l->c));
    add(b, op);
}

static const struct {
    const char *name, *row; /* row: what the kernels have of it */
    void (*build)(builder *b, const layer *l);
    bool by_default[3]; /* fp32, bf16, fp16: quick to ask */
} graphs[] = {
    {"conv + sums for batch norm", "ConvMoments", conv_sums, {false, false, true}},
    {"scale, bias, relu + conv", "none: compiled at run time", norm_conv, {false, true, true}},
    {"scale, bias, relu + conv + sums", "NormConv, in float16", norm_conv_sums, {false, false, true}},
    {"scale, bias, relu + backward-weights", "NormConvGradWeight, in float16", norm_weight, {true, true, true}},
    {"the same, scale and dw in float32", "none", norm_weight_float, {true, true, true}},
    {"backward-data + relu' + batch norm's sums", "ConvGradDataSums, in float16", data_relu_sums, {true, true, true}},
};
enum { GRAPHS = sizeof graphs / sizeof *graphs };
static const layer layers[] = {{"ResNet-20/56 stage 1", 128, 16, 16, 32, 3},
                               {"ResNet-18/50 3x3", 64, 64, 64, 56, 3},
                               {"ResNet-50 1x1", 64, 64, 256, 56, 1}};
static const struct {
    const char *name;
    int type;
} types[] = {{"fp32", DNN_FLOAT}, {"bf16", DNN_BFLOAT16}, {"fp16", DNN_HALF}};

static void say(const char *where, const char *type, const char *what, const dnn_plan *p, double begin)
{
    printf("%-22s %-4s %-42s ", where, type, what);
    if (p->plan)
        printf("engine %3lld %9zu bytes  %c  %4.1f s\n", (long long)p->choice.engine, p->workspace, p->runtime_compiled ? 'r' : 'p',
               clock_seconds() - begin);
    else
        printf("none of %d proposals (status %d)  %4.1f s\n", p->configs, p->code, clock_seconds() - begin);
    fflush(stdout);
}

/* Whether there is an engine. */
static bool ask(const cuda_dnn *d, size_t graph, size_t type, const layer *l)
{
    dnn_plan *p;
    const double begin = clock_seconds();
    OK(mem_alloc(&p, 1, sizeof *p));
    p->key.type = types[type].type;
    builder b = {.d = d, .p = p, .type = types[type].type};
    graphs[graph].build(&b, l);
    p->graph = make(&b, DNN_GRAPH);
    set(&b, p->graph, DNN_GRAPH_OPS, DNN_T_DESCRIPTOR, b.n_op, b.op);
    finish(&b, p->graph);
    if (p->code == 0)
        dnn_choose(d, p);
    say(l->name, types[type].name, graphs[graph].name, p, begin);
    const bool there = p->plan != NULL;
    while (p->n_part)
        d->api->unmake(p->part[--p->n_part]);
    mem_free(p);
    return there;
}

START_TEST(fused_graphs)
{
    cuda_libs *libs = NULL;
    cuda_dnn *d = NULL;
    const bool all = getenv("DISTILL_CUDNN_ALL") != NULL;
    int there[GRAPHS][3] = {{0}}, asked[GRAPHS][3] = {{0}};
    if (cudnn_described(&libs, &d)) {
        for (size_t g = 0; g < GRAPHS; g++)
            for (size_t t = 0; t < 3; t++)
                for (size_t l = 0; l < sizeof layers / sizeof *layers; l++) {
                    if (!all && (!graphs[g].by_default[t] || l > 0))
                        continue;
                    asked[g][t]++;
                    there[g][t] += ask(d, g, t, &layers[l]);
                }
        printf("\nengines of %-36s fp32  bf16  fp16   our row\n", "");
        for (size_t g = 0; g < GRAPHS; g++) {
            printf("%-47s", graphs[g].name);
            for (size_t t = 0; t < 3; t++)
                asked[g][t] ? printf(" %d/%d  ", there[g][t], asked[g][t]) : printf(" -    ");
            printf("%s\n", graphs[g].row);
        }
        ck_assert_int_gt(there[0][2] + there[3][2] + there[5][2], 0); /* the graphs are built as cuDNN wants them */
    }
    cuda_dnn_close(d);
    cuda_libs_close(libs);
}
END_TEST

/* ---- attention ---- */

typedef struct heads_row {
    const char *net;
    int64_t batch, heads, queries, keys, width, value_width;
    int type, tokens;
    bool sums, quick;
    int mask; /* dnn_key.bias */
    bool grad;
} heads_row;
static const heads_row attentions[] = {
    {"BERT-base 128, teacher", 32, 12, 128, 128, 64, 64, DNN_BFLOAT16, 15, false, true},
    {"BERT-base 128, student", 32, 12, 128, 128, 64, 64, DNN_BFLOAT16, 15, true, true},
    {"BERT-base 512", 8, 12, 512, 512, 64, 64, DNN_BFLOAT16, 15, true, false},
    {"the same, heads first", 8, 12, 512, 512, 64, 64, DNN_HALF, 0, true, false},
    {"ViT-S/16", 64, 6, 197, 197, 64, 64, DNN_HALF, 15, true, false},
    {"narrow heads", 32, 4, 64, 64, 8, 16, DNN_BFLOAT16, 15, true, false},
    {"wide heads, other keys", 4, 8, 77, 100, 128, 128, DNN_BFLOAT16, 15, true, false},
    {"BERT-base 128, mask", 32, 12, 128, 128, 64, 64, DNN_BFLOAT16, 15, true, true, DNN_MASK | 1 | 8},
    {"the same, one for all", 32, 12, 128, 128, 64, 64, DNN_HALF, 15, true, false, DNN_MASK | 8},
    {"BERT-base 512, causal", 8, 12, 512, 512, 64, 64, DNN_BFLOAT16, 15, true, false, DNN_MASK | 4 | 8},
    {"heads first, every score", 2, 3, 9, 70, 16, 8, DNN_HALF, 0, true, false, DNN_MASK | 15},
    {"wide heads, mask of keys", 4, 8, 77, 101, 128, 128, DNN_BFLOAT16, 15, true, false, DNN_MASK | 1 | 8},
    {"BERT-base 128, backwards", 32, 12, 128, 128, 64, 64, DNN_BFLOAT16, 15, true, true, DNN_MASK | 1 | 8, true},
    {"ViT-S/16, backwards", 64, 6, 197, 197, 64, 64, DNN_HALF, 15, true, false, 0, true},
    {"wide heads, backwards", 4, 8, 77, 101, 128, 128, DNN_BFLOAT16, 0, true, false, DNN_MASK | 8, true},
    {"narrow heads, backwards", 32, 4, 64, 64, 8, 16, DNN_HALF, 7, true, false, DNN_MASK | 15, true},
};

START_TEST(attention)
{
    cuda_libs *libs = NULL;
    cuda_queue q = {0};
    const bool all = getenv("DISTILL_CUDNN_ALL") != NULL;
    if (cudnn_described(&libs, &q.dnn))
        for (size_t i = 0; i < sizeof attentions / sizeof *attentions; i++) {
            const heads_row *r = &attentions[i];
            const double begin = clock_seconds();
            dnn_key k;
            if (!all && !r->quick)
                continue;
            memset(&k, 0, sizeof k);
            k.kind = r->grad ? DNN_ATTENTION_GRAD : DNN_ATTENTION;
            k.type = r->type;
            k.axes = 2;
            k.tokens = r->tokens;
            k.sums = r->sums;
            k.bias = r->mask;
            k.x[0] = k.w[0] = k.y[0] = r->batch;
            k.x[1] = k.w[1] = k.y[1] = r->heads;
            k.x[2] = k.y[2] = r->queries;
            k.w[2] = r->keys;
            k.x[3] = k.w[3] = r->width;
            k.y[3] = r->value_width;
            const dnn_plan *p = cuda_dnn_plan(&q, &k);
            say(r->net, r->type == DNN_HALF ? "fp16" : "bf16", r->grad ? r->mask ? "attention's gradient with mask" : "attention's gradient" : r->mask ? "attention with mask and sums" : r->sums ? "attention with sums" : "attention", p, begin);
            ck_assert_msg(p->usable, "%s: no engine", r->net);
        }
    cuda_dnn_close(q.dnn);
    cuda_libs_close(libs);
}
END_TEST

/* The gradient as one node: what cuDNN says of it is printed; our row writes it out. */
START_TEST(attention_backward)
{
    cuda_libs *libs = NULL;
    cuda_dnn *d = NULL;
    if (cudnn_described(&libs, &d)) {
        dnn_plan *p;
        const int64_t dim[] = {32, 12, 128, 64}, step[] = {12 * 128 * 64, 64, 12 * 64, 1}, row[] = {32, 12, 128, 1},
                      row_step[] = {12 * 128, 128, 1, 1}, one[] = {1, 1, 1, 1}, alignment = 16, id = 1000;
        const int images[] = {FUSED_BACKWARD_Q, FUSED_BACKWARD_K, FUSED_BACKWARD_V, FUSED_BACKWARD_Y,
                              FUSED_BACKWARD_DQ, FUSED_BACKWARD_DK, FUSED_BACKWARD_DV, FUSED_BACKWARD_DY};
        const double begin = clock_seconds();
        const bool yes = true;
        const int type = DNN_FLOAT;
        OK(mem_alloc(&p, 1, sizeof *p));
        builder b = {.d = d, .p = p, .type = DNN_BFLOAT16};
        void *op = make(&b, FUSED_OP_ATTENTION_BACKWARD), *scale = make(&b, DNN_TENSOR);
        set(&b, scale, DNN_TENSOR_TYPE, DNN_T_DATA_TYPE, 1, &type);
        set(&b, scale, DNN_TENSOR_DIMS, DNN_T_I64, 4, one);
        set(&b, scale, DNN_TENSOR_STEPS, DNN_T_I64, 4, one);
        set(&b, scale, DNN_TENSOR_ID, DNN_T_I64, 1, &id);
        set(&b, scale, DNN_TENSOR_ALIGNMENT, DNN_T_I64, 1, &alignment);
        set(&b, scale, DNN_TENSOR_BY_VALUE, DNN_T_BOOL, 1, &yes);
        finish(&b, scale);
        for (size_t i = 0; i < sizeof images / sizeof *images; i++)
            refer(&b, op, images[i], tensor(&b, DNN_BFLOAT16, false, dim, step));
        refer(&b, op, FUSED_BACKWARD_SUMS, tensor(&b, DNN_FLOAT, false, row, row_step));
        refer(&b, op, FUSED_BACKWARD_SCALE, scale);
        add(&b, op);
        p->graph = make(&b, DNN_GRAPH);
        set(&b, p->graph, DNN_GRAPH_OPS, DNN_T_DESCRIPTOR, b.n_op, b.op);
        finish(&b, p->graph);
        if (p->code == 0)
            dnn_choose(d, p);
        say("BERT-base 128", "bf16", "attention's gradient as one node", p, begin);
        while (p->n_part)
            d->api->unmake(p->part[--p->n_part]);
        mem_free(p);
    }
    cuda_dnn_close(d);
    cuda_libs_close(libs);
}
END_TEST

const test_entry test_table[] = {TEST(fused_graphs), TEST(attention), TEST(attention_backward), {0}};
