/* qat_portable.c - a float network in the form that portable integers need: sums of products, relus, equal scales. */
#include "base/log.h"
#include "ops/attrs.h"
#include "quant/qat.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct pool { /* of an averaging node: the window on every spatial axis */
    int64_t kernel[SPATIAL_MAX], stride[SPATIAL_MAX], n, area;
} pool;

static bool global_pool(const graph *g, const node *n, pool *p)
{
    const shape *x = &g->value[n->in[0]].sh;
    *p = (pool){.n = x->rank - 2, .area = 1};
    if (x->rank < 3 || p->n > SPATIAL_MAX)
        return false;
    for (int64_t i = 0; i < p->n; i++) {
        p->kernel[i] = x->dim[i + 2];
        p->stride[i] = 1;
        p->area *= p->kernel[i];
    }
    return p->area > 0;
}

static bool average_pool(const graph *g, const node *n, pool *p)
{
    const pool_attrs *at = n->attr;
    const shape *x = &g->value[n->in[0]].sh;
    *p = (pool){.n = x->rank - 2, .area = 1};
    if (x->rank < 3 || p->n > SPATIAL_MAX || at->kernel_shape.n != p->n || at->strides.n != p->n || at->ceil_mode)
        return false;
    for (int64_t i = 0; i < at->pads.n; i++)
        if (at->pads.v[i])
            return false;
    for (int64_t i = 0; i < at->dilations.n; i++)
        if (at->dilations.v[i] != 1)
            return false;
    for (int64_t i = 0; i < p->n; i++) {
        p->kernel[i] = at->kernel_shape.v[i];
        p->stride[i] = at->strides.v[i];
        p->area *= p->kernel[i];
    }
    return true;
}

/* ---- the weights behind ---- */

static const bool passes_on[OP_COUNT] = {[OP_FLATTEN] = true, [OP_RESHAPE] = true, [OP_SQUEEZE] = true, [OP_TRANSPOSE] = true,
                                         [OP_MAX_POOL] = true, [OP_RELU] = true};
static const bool linear[OP_COUNT] = {[OP_CONV] = true, [OP_GEMM] = true, [OP_MATMUL] = true};

/* The only reader of v; 0: there are others. */
static node_id sole_reader(const graph *g, value_id v)
{
    node_id found = 0;
    for (size_t i = 0; i < g->n_output; i++)
        if (g->output[i] == v)
            return 0;
    for (size_t k = 1; k < g->n_node; k++)
        for (int i = 0; i < g->node[k].n_in; i++) {
            if (g->node[k].in[i] != v)
                continue;
            if (found || i != 0)
                return 0;
            found = (node_id)k;
        }
    return found;
}

/* The product that alone reads v, through nodes that do not mind a factor; 0: there is none. */
static node_id product_behind(const graph *g, value_id v)
{
    for (;;) {
        node_id k = sole_reader(g, v);
        if (!k)
            return 0;
        const node *n = &g->node[k];
        if (linear[n->op] && n->n_in > 1 && g->value[n->in[1]].kind == VALUE_CONST && g->value[n->in[1]].type == DTYPE_F32)
            return k;
        if (!passes_on[n->op])
            return 0;
        v = n->out[0];
    }
}

static status copy_data(graph *g, value_id v, float **out)
{
    value *x = &g->value[v];
    int64_t n = shape_count(&x->sh);
    TRY(arena_alloc(&g->mem, out, (size_t)(n ? n : 1), sizeof **out));
    if (n)
        memcpy(*out, x->data, (size_t)n * sizeof **out);
    x->data = *out;
    return ST_OK;
}

static status scale_weights(graph *g, node_id k, double factor)
{
    value_id w = g->node[k].in[1];
    float *x;
    TRY(copy_data(g, w, &x));
    for (int64_t i = 0, n = shape_count(&g->value[w].sh); i < n; i++)
        x[i] = (float)((double)x[i] * factor);
    return ST_OK;
}

/* ---- pools ---- */

/* Node k becomes a depthwise convolution of its first input with the windows of p. bias 0: none. */
static status make_depthwise(graph *g, node_id k, const pool *p, int64_t channels, value_id weight, value_id bias)
{
    conv_attrs *at;
    value_id *in;
    int64_t *lists;
    TRY(arena_alloc(&g->mem, &at, 1, sizeof *at));
    TRY(arena_alloc(&g->mem, &in, 3, sizeof *in));
    TRY(arena_alloc(&g->mem, &lists, 5 * SPATIAL_MAX, sizeof *lists));
    op_default_attrs(OP_CONV, at);
    for (int64_t i = 0; i < p->n; i++) {
        lists[i] = p->kernel[i];
        lists[SPATIAL_MAX + i] = p->stride[i];
        lists[2 * SPATIAL_MAX + i] = 1;
    }
    at->kernel_shape = (attr_ints){p->n, lists};
    at->strides = (attr_ints){p->n, lists + SPATIAL_MAX};
    at->dilations = (attr_ints){p->n, lists + 2 * SPATIAL_MAX};
    at->pads = (attr_ints){2 * p->n, lists + 3 * SPATIAL_MAX};
    at->group = channels;
    node *c = &g->node[k];
    in[0] = c->in[0];
    in[1] = weight;
    in[2] = bias;
    *c = (node){.op = OP_CONV, .name = c->name, .n_in = bias ? 3 : 2, .n_out = 1, .in = in, .out = c->out, .attr = at,
                .when = c->when};
    return ST_OK;
}

/* The node becomes a depthwise convolution with the weights 2^-n, area <= 2^n. */
static status pool_to_conv(graph *g, node_id k, const pool *p)
{
    const shape x = g->value[g->node[k].in[0]].sh;
    const int n = (int)ceil(log2((double)p->area));
    const double missing = exp2(n) / (double)p->area;
    node_id behind = missing != 1 ? product_behind(g, g->node[k].out[0]) : 0;
    char name[1024];
    if (missing != 1 && !behind) {
        log_warn("node '%s' averages %lld numbers, which is no power of two, and no product alone reads the result: it is not "
                 "portable", g->node[k].name, (long long)p->area);
        return ST_OK;
    }
    if (behind)
        TRY(scale_weights(g, behind, missing));
    shape sh = {.rank = (int)p->n + 2, .dim = {x.dim[1], 1}};
    for (int64_t i = 0; i < p->n; i++)
        sh.dim[i + 2] = p->kernel[i];
    float *w;
    int64_t count = shape_count(&sh);
    TRY(arena_alloc(&g->mem, &w, (size_t)count, sizeof *w));
    for (int64_t i = 0; i < count; i++)
        w[i] = (float)exp2(-n);
    value_id weight;
    snprintf(name, sizeof name, "%s.pool", g->value[g->node[k].out[0]].name);
    TRY(graph_add_data(g, name, VALUE_CONST, DTYPE_F32, sh, w, &weight));
    g->value[weight].flags |= VALUE_FIXED;
    return make_depthwise(g, k, p, x.dim[1], weight, 0);
}

/* ---- batch norms that no convolution takes in ---- */

/* y = a x + b for each channel: a convolution of 1 x 1. */
static status norm_to_conv(graph *g, node_id k)
{
    static const bool norms[OP_COUNT] = {[OP_BATCH_NORM] = true};
    const node n = g->node[k];
    const batch_norm_attrs *at = n.attr;
    if (!norms[n.op] || at->training_mode || at->relu)
        return ST_OK;
    const shape x = g->value[n.in[0]].sh;
    pool p = {.n = x.rank - 2, .area = 1};
    if (x.rank < 3 || p.n > SPATIAL_MAX || g->value[n.in[0]].type != DTYPE_F32)
        return ST_OK;
    for (int i = 1; i < 5; i++)
        if (g->value[n.in[i]].kind != VALUE_CONST)
            return ST_OK;
    const char *name = g->value[n.in[1]].name, *shift = g->value[n.in[2]].name;
    const float *scale = g->value[n.in[1]].data, *bias = g->value[n.in[2]].data, *mean = g->value[n.in[3]].data,
                *var = g->value[n.in[4]].data;
    shape sh = {.rank = x.rank, .dim = {x.dim[1], 1}};
    float *a, *b;
    value_id av, bv;
    for (int64_t i = 0; i < p.n; i++)
        sh.dim[i + 2] = p.kernel[i] = p.stride[i] = 1;
    TRY(arena_alloc(&g->mem, &a, (size_t)x.dim[1], sizeof *a));
    TRY(arena_alloc(&g->mem, &b, (size_t)x.dim[1], sizeof *b));
    for (int64_t c = 0; c < x.dim[1]; c++) {
        double f = (double)scale[c] / sqrt((double)var[c] + at->epsilon);
        a[c] = (float)f;
        b[c] = (float)((double)bias[c] - (double)mean[c] * f);
    }
    TRY(graph_add_data(g, name, VALUE_CONST, DTYPE_F32, sh, a, &av));
    TRY(graph_add_data(g, shift, VALUE_CONST, DTYPE_F32, SHAPE(x.dim[1]), b, &bv));
    return make_depthwise(g, k, &p, x.dim[1], av, bv);
}

/* ---- pixels ---- */

/* conv((p * 256/255 - mean) / std) as a convolution of p; p = pixel / 256. */
static status fold_normalisation(graph *g, node *c, const qat_pixels *px)
{
    const value_id w = c->in[1];
    const shape sh = g->value[w].sh;
    const int64_t outs = sh.dim[0], ins = sh.dim[1], inner = outs && ins ? shape_count(&sh) / (outs * ins) : 0;
    float *x, *b;
    TRY(copy_data(g, w, &x));
    if (c->n_in > 2 && c->in[2]) {
        TRY(copy_data(g, c->in[2], &b));
    } else {
        char name[1024];
        value_id *in, bias;
        snprintf(name, sizeof name, "%s.bias", g->value[w].name);
        TRY(arena_alloc(&g->mem, &b, (size_t)outs, sizeof *b));
        TRY(graph_add_data(g, name, VALUE_CONST, DTYPE_F32, SHAPE(outs), b, &bias));
        b = (float *)(uintptr_t)g->value[bias].data;
        TRY(arena_alloc(&g->mem, &in, 3, sizeof *in));
        memcpy(in, c->in, 2 * sizeof *in);
        in[2] = bias;
        c->in = in;
        c->n_in = 3;
    }
    for (int64_t o = 0; o < outs; o++) {
        double shift = 0;
        for (int64_t i = 0; i < ins; i++)
            for (int64_t k = 0; k < inner; k++) {
                float *at = &x[(o * ins + i) * inner + k];
                shift += (double)*at * (double)px->mean[i] / (double)px->std[i];
                *at = (float)((double)*at * (256.0 / 255.0) / (double)px->std[i]);
            }
        b[o] = (float)((double)b[o] - shift);
    }
    return ST_OK;
}

/* input -> * std 255/256 -> + mean 255/256 -> pixels. For s8 the pixel's lowest bit goes: a quarter of a step less rounds down. */
static status add_pixels(graph *g, value_id input, const qat_pixels *px, bool halved, value_id *out)
{
    const char *base = g->value[input].name;
    shape sh = {.rank = g->value[input].sh.rank, .dim = {1}};
    char name[1024];
    float *factor, *shift;
    value_id f, s, scaled;
    for (int i = 1; i < sh.rank; i++)
        sh.dim[i] = i == 1 ? px->channels : 1;
    TRY(arena_alloc(&g->mem, &factor, (size_t)px->channels, sizeof *factor));
    TRY(arena_alloc(&g->mem, &shift, (size_t)px->channels, sizeof *shift));
    for (int64_t i = 0; i < px->channels; i++) {
        factor[i] = (float)((double)px->std[i] * 255.0 / 256.0);
        shift[i] = (float)((double)px->mean[i] * 255.0 / 256.0 - (halved ? 1.0 / 512 : 0));
    }
    snprintf(name, sizeof name, "%s.std", base);
    TRY(graph_add_data(g, name, VALUE_CONST, DTYPE_F32, sh, factor, &f));
    snprintf(name, sizeof name, "%s.mean", base);
    TRY(graph_add_data(g, name, VALUE_CONST, DTYPE_F32, sh, shift, &s));
    TRY(graph_add1(g, OP_MUL, NULL, input, f, 0, &scaled));
    snprintf(name, sizeof name, "%s.pixels", base);
    const char *made = name;
    return graph_add_named(g, NULL, OP_ADD, NULL, (value_id[]){scaled, s}, 2, &made, out, 1);
}

/* The two nodes that were added last go before all others. */
static void bring_forward(graph *g, size_t count)
{
    for (size_t moved = 0; moved < count; moved++) {
        node n = g->node[g->n_node - 1];
        memmove(&g->node[2], &g->node[1], (g->n_node - 2) * sizeof *g->node);
        g->node[1] = n;
    }
    graph_refresh_from(g);
}

static status take_pixels(graph *g, const qat_options *o, const qat_pixels *px, bool *taken)
{
    static const bool convolves[OP_COUNT] = {[OP_CONV] = true};
    const value_id input = g->n_input == 1 ? g->input[0] : 0;
    node_id k = input ? sole_reader(g, input) : 0;
    value_id pixels;
    *taken = false;
    if (!k || !convolves[g->node[k].op] || g->node[k].n_in > 3 || g->value[g->node[k].in[1]].kind != VALUE_CONST ||
        ((const conv_attrs *)g->node[k].attr)->group != 1 || g->value[g->node[k].in[1]].sh.dim[1] != px->channels ||
        g->value[input].type != DTYPE_F32 || g->value[g->node[k].in[1]].type != DTYPE_F32) {
        log_warn("the image is not read by one convolution alone: the portable model takes normalised images, whose rounding is "
                 "outside the guarantee");
        return ST_OK;
    }
    TRY(fold_normalisation(g, &g->node[k], px));
    TRY(add_pixels(g, input, px, o->scheme.activations == DTYPE_I8, &pixels));
    value_id *in;
    node *c = &g->node[k];
    TRY(arena_alloc(&g->mem, &in, c->n_in, sizeof *in));
    memcpy(in, c->in, c->n_in * sizeof *in);
    in[0] = pixels;
    c->in = in;
    bring_forward(g, 2);
    *taken = true;
    return ST_OK;
}

/* ---- all of it ---- */

status qat_rewrite(graph *g, const qat_options *o, const qat_pixels *pixels, bool *pixel_input)
{
    static bool (*const pools[OP_COUNT])(const graph *, const node *, pool *) = {[OP_GLOBAL_AVERAGE_POOL] = global_pool,
                                                                                 [OP_AVERAGE_POOL] = average_pool};
    *pixel_input = false;
    if (o->scheme.profile == PROFILE_NONE)
        return ST_OK;
    for (size_t k = 1; k < g->n_node; k++) {
        pool p;
        if (pools[g->node[k].op] && g->value[g->node[k].in[0]].type == DTYPE_F32 && pools[g->node[k].op](g, &g->node[k], &p))
            TRY(pool_to_conv(g, (node_id)k, &p));
        TRY(norm_to_conv(g, (node_id)k));
    }
    if (pixels)
        TRY(take_pixels(g, o, pixels, pixel_input));
    TRY(pass_dead_nodes(g)); /* values that nobody reads any more */
    return graph_validate(g);
}
