/* qat.c - FakeQuant nodes where the integer model will round, and what they need in a training graph. */
#include "quant/qat.h"
#include "ops/attrs.h"
#include "quant/qat_weight.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void qat_ranges_free(qat_ranges *r)
{
    mem_free(r->at);
    arena_free(&r->mem);
    *r = (qat_ranges){0};
}

static const quant_params *find_range(const qat_ranges *r, const char *name)
{
    for (size_t i = 0; i < r->n; i++)
        if (strcmp(r->at[i].name, name) == 0)
            return &r->at[i].at;
    return NULL;
}

/* ---- insertion ---- */

/* Moves that compute: what comes out has to be rounded once more. */
static const bool averages[OP_COUNT] = {[OP_AVERAGE_POOL] = true};

typedef struct inserter {
    graph *g;
    graph was; /* g as it came: same values, the nodes before the first insertion */
    const qat_options *o;
    const qat_ranges *r;
    places p;
    value_id *rounded;        /* [p.n_value] what its readers of integers read instead; 0: itself */
    value_id *scale, *zero;   /* [n_group], [n_group] made so far; zero: of scales that move */
    float *number;            /* [n_group] the start of the scale */
} inserter;

static bool portable(const qat_options *o)
{
    return o->scheme.profile != PROFILE_NONE;
}

static value_kind scale_kind(const qat_options *o)
{
    static const value_kind kinds[] = {[QAT_NONE] = VALUE_CONST, [QAT_EMA] = VALUE_STATE, [QAT_LSQ] = VALUE_PARAM};
    return portable(o) ? VALUE_CONST : kinds[o->learn];
}

/* Constants in a weight's place train. */
static void free_weights(graph *g)
{
    for (size_t k = 1; k < g->n_node; k++) {
        const node *n = &g->node[k];
        for (int i = 0; i < n->n_in && i < 32; i++) {
            value *v = &g->value[n->in[i]];
            if (!n->in[i] || !(op_of(n->op)->params >> i & 1) || v->kind != VALUE_CONST || !dtype_of(v->type)->is_float ||
                (v->flags & VALUE_FIXED))
                continue;
            v->kind = VALUE_PARAM;
            v->flags |= i > 1 && v->sh.rank <= 1 ? VALUE_NO_DECAY_BIAS : 0;
        }
    }
}

static status add_numbers(graph *g, const char *of, const char *what, value_kind kind, shape sh, const float *x, value_id *out)
{
    char name[1024];
    snprintf(name, sizeof name, "%s.%s", of, what);
    return graph_add_data(g, name, kind, DTYPE_F32, sh, x, out);
}

/* A scale of this kind that starts as x. One that trains is x * exp(p): it stays positive, and a step of p is a share of it. */
static status add_scale(graph *g, const char *of, value_kind kind, shape sh, const float *x, value_id *out)
{
    value_id start, p, grown;
    if (kind != VALUE_PARAM)
        return add_numbers(g, of, "scale", kind, sh, x, out);
    TRY(add_numbers(g, of, "scale", VALUE_CONST, sh, x, &start));
    TRY(add_numbers(g, of, "log_scale", VALUE_PARAM, sh, NULL, &p));
    g->value[p].flags |= VALUE_QUANT_SCALE;
    TRY(graph_add1(g, OP_EXP, NULL, p, 0, 0, &grown));
    return graph_add1(g, OP_MUL, NULL, start, grown, 0, out);
}

static status add_rounding(graph *g, value_id x, value_id scale, value_id zero, const fake_quant_attrs *at, value_id *out)
{
    char name[1024], made[1040];
    const value_id in[3] = {x, scale, zero};
    snprintf(name, sizeof name, "%s.round", g->value[x].name);
    snprintf(made, sizeof made, "%s.rounded", g->value[x].name);
    const char *names[1] = {made};
    return graph_add_named(g, name, OP_FAKE_QUANT, at, in, zero ? 3 : 2, names, out, 1);
}

/* ---- activations ---- */

static status group_scale(inserter *x, value_id v, const quant_params *p)
{
    uint32_t k = x->p.value[v].group;
    const char *first = x->g->value[x->p.group[k].first].name;
    if (x->scale[k])
        return ST_OK;
    x->number[k] = p->scale;
    return add_scale(x->g, first, scale_kind(x->o), (shape){0}, &p->scale, &x->scale[k]);
}

/* The zero point of v: a number of its group where it moves, else a constant of its own; 0: it is 0. */
static status value_zero(inserter *x, value_id v, const quant_params *p, value_id *out)
{
    uint32_t k = x->p.value[v].group;
    float number = (float)p->zero;
    *out = 0;
    if (scale_kind(x->o) == VALUE_STATE) {
        if (!x->zero[k])
            TRY(add_numbers(x->g, x->g->value[x->p.group[k].first].name, "zero", VALUE_STATE, (shape){0}, &number, &x->zero[k]));
        *out = x->zero[k];
        return ST_OK;
    }
    return p->zero ? add_numbers(x->g, x->g->value[v].name, "zero", VALUE_CONST, (shape){0}, &number, out) : ST_OK;
}

static status round_value(inserter *x, value_id v)
{
    graph *g = x->g;
    const quant_params *p = find_range(x->r, g->value[v].name);
    const dtype type = x->o->scheme.activations;
    value_id zero;
    if (!p)
        return fail(ST_CONFIG, "value '%s' is to be rounded and calibration found no range for it", g->value[v].name);
    TRY(group_scale(x, v, p));
    TRY(value_zero(x, v, p, &zero));
    const shape *sh = &g->value[v].sh;
    double features = sh->rank && sh->dim[0] ? (double)(shape_count(sh) / sh->dim[0]) : 1;
    fake_quant_attrs at = {.qmin = quant_low(type), .qmax = quant_high(type), .multiple = 1, .momentum = x->o->momentum,
                           .fixed_zero = x->o->scheme.symmetric};
    if (scale_kind(x->o) == VALUE_PARAM)
        at.scale_grad = 1 / sqrt(features * at.qmax);
    return add_rounding(g, v, x->scale[x->p.value[v].group], zero, &at, &x->rounded[v]);
}

static bool wants_rounding(const inserter *x, value_id v, op_id maker)
{
    return v && v < x->p.n_value && x->p.value[v].rounded && (!x->p.value[v].moved || averages[maker]);
}

/* ---- weights and biases ---- */

/* The largest scale of a weight by which its sums are shifted by 3 places at least: sx * sw / sy <= 2^-3. */
static double largest_scale(const inserter *x, const node *n, node_id k)
{
    const value_id tail = x->p.tail[k];
    const quant_params *sx = find_range(x->r, x->was.value[n->in[0]].name);
    const quant_params *sy = tail ? find_range(x->r, x->was.value[tail].name) : NULL;
    return sx && sy ? (double)sy->scale / (8 * (double)sx->scale) : exp2(30);
}

/* Scales of the weight of node k, n being the node as it came, in `mem`. */
static status weight_scales(inserter *x, const node *n, node_id k, int axis, arena *mem, float **scale, int64_t *count)
{
    const quant_scheme *s = &x->o->scheme;
    int_weight iw;
    if (!portable(x->o)) {
        TRY(int_weight_make(&x->was, n, s, x->number[x->p.value[n->in[0]].group], mem, &iw));
        *scale = iw.scale;
        *count = iw.n_scale;
        return ST_OK;
    }
    const value *v = &x->was.value[n->in[1]];
    *count = places_per_channel(&x->was, n, s) ? v->sh.dim[axis] : 1;
    TRY(arena_alloc(mem, scale, (size_t)*count, sizeof **scale));
    return weight_choose_powers(v, axis, *count, s->weight_limit, largest_scale(x, n, k), *scale);
}

static status round_weight(inserter *x, node *n, node_id k, int axis, value_id *scale, shape *scales)
{
    const quant_scheme *s = &x->o->scheme;
    const node *was = &x->was.node[k];
    const value_id w = was->in[1];
    const char *name = x->was.value[w].name;
    value_id zero = 0;
    arena mem = {0};
    float *numbers = NULL;
    int64_t count = 0;
    status st = weight_scales(x, was, k, axis, &mem, &numbers, &count);
    *scales = places_per_channel(&x->was, was, s) ? SHAPE(count) : (shape){0};
    if (st == ST_OK)
        st = add_scale(x->g, name, scale_kind(x->o), *scales, numbers, scale);
    arena_free(&mem);
    TRY(st);
    fake_quant_attrs at = {.axis = scales->rank ? axis : 0, .qmin = -s->weight_limit, .qmax = s->weight_limit,
                           .multiple = portable(x->o) ? 4 : 1, .momentum = 1, .fixed_zero = 1};
    int64_t each = shape_count(&x->was.value[w].sh) / (count ? count : 1);
    if (scale_kind(x->o) == VALUE_PARAM)
        at.scale_grad = 1 / sqrt((double)(each ? each : 1) * at.qmax);
    if (scale_kind(x->o) == VALUE_STATE)
        TRY(add_numbers(x->g, name, "zero", VALUE_STATE, *scales, NULL, &zero));
    return add_rounding(x->g, w, *scale, zero, &at, &n->in[1]);
}

/* Portable: a bias on 2 mod 4 accumulator units; one of zeros where there was none. */
static status round_bias(inserter *x, node *n, node_id k, value_id weight_scale, shape scales, int axis)
{
    graph *g = x->g;
    const float sx = x->number[x->p.value[x->was.node[k].in[0]].group];
    const float *sw = g->value[weight_scale].data;
    const int64_t channels = graph_value(g, x->was.node[k].in[1])->sh.dim[axis], count = scales.rank ? channels : 1;
    value_id bias = n->n_in > 2 ? n->in[2] : 0, scale;
    float *unit;
    char name[1024];
    if (!bias) {
        value_id *in;
        snprintf(name, sizeof name, "%s.bias", g->value[x->was.node[k].in[1]].name);
        TRY(graph_add_data(g, name, VALUE_PARAM, DTYPE_F32, SHAPE(channels), NULL, &bias));
        g->value[bias].flags |= VALUE_NO_DECAY_BIAS;
        if (g->value[x->was.node[k].in[1]].flags & VALUE_FIXED) {
            float *zeros;
            TRY(arena_alloc(&g->mem, &zeros, (size_t)channels, sizeof *zeros));
            g->value[bias].kind = VALUE_CONST;
            g->value[bias].data = zeros;
        }
        TRY(arena_alloc(&g->mem, &in, 3, sizeof *in));
        memcpy(in, n->in, 2 * sizeof *in);
        n->in = in;
        n->n_in = 3;
    }
    TRY(arena_alloc(&g->mem, &unit, (size_t)count, sizeof *unit));
    for (int64_t i = 0; i < count; i++)
        unit[i] = sx * sw[i];
    TRY(add_numbers(g, g->value[bias].name, "scale", VALUE_CONST, scales, unit, &scale));
    const fake_quant_attrs at = {.axis = -1, .qmin = -PORTABLE_BIAS_MAX, .qmax = PORTABLE_BIAS_MAX, .multiple = 4, .offset = 2};
    return add_rounding(g, bias, scale, 0, &at, &n->in[2]);
}

/* The sums of integers are exact in float by a direct method alone. */
static status keep_exact(inserter *x, node *n)
{
    static const bool convolves[OP_COUNT] = {[OP_CONV] = true};
    conv_attrs *at;
    if (!convolves[n->op])
        return ST_OK;
    TRY(arena_alloc(&x->g->mem, &at, 1, sizeof *at));
    *at = *(const conv_attrs *)n->attr;
    at->exact = 1;
    n->attr = at;
    return ST_OK;
}

static status round_product(inserter *x, node *n, node_id k)
{
    const product_operands o = places_operands(&x->was, &x->was.node[k]);
    value_id scale;
    shape scales;
    TRY(round_weight(x, n, k, o.axis, &scale, &scales));
    if (!portable(x->o))
        return ST_OK;
    TRY(keep_exact(x, n));
    return round_bias(x, n, k, scale, scales, o.axis);
}

/* ---- the graph anew, node by node ---- */

static status push_node(graph *g, const node *n)
{
    TRY(mem_push(&g->node, &g->cap_node, g->n_node, sizeof *g->node));
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i])
            g->value[n->out[i]].from = (node_id)g->n_node;
    g->node[g->n_node++] = *n;
    return ST_OK;
}

static status take_node(inserter *x, node_id k)
{
    graph *g = x->g;
    node n = x->was.node[k];
    value_id *in;
    TRY(arena_alloc(&g->mem, &in, n.n_in ? n.n_in : 1, sizeof *in)); /* x->was keeps the old ones */
    for (int i = 0; i < n.n_in; i++) {
        value_id v = n.in[i];
        bool reads = v && v < x->p.n_value && x->rounded[v] && places_reads_rounded(&x->p, &x->was, k, i);
        in[i] = reads ? x->rounded[v] : v;
    }
    n.in = in;
    if (x->p.product[k])
        TRY(round_product(x, &n, k));
    TRY(push_node(g, &n));
    for (int i = 0; i < n.n_out; i++)
        if (wants_rounding(x, n.out[i], n.op))
            TRY(round_value(x, n.out[i]));
    return ST_OK;
}

/* The rounded value takes the output's place and name. */
static void round_output(inserter *x, size_t i)
{
    graph *g = x->g;
    value_id v = g->output[i], to = x->rounded[v];
    if (!to || !(x->p.value[v].made_int))
        return;
    const char *name = g->value[v].name;
    g->value[v].name = g->value[to].name;
    g->value[to].name = name;
    g->output[i] = to;
}

static status insert_all(inserter *x)
{
    graph *g = x->g;
    for (size_t i = 0; i < g->n_input; i++)
        if (wants_rounding(x, g->input[i], OP_NONE))
            TRY(round_value(x, g->input[i]));
    for (node_id k = 1; k < x->was.n_node; k++)
        TRY(take_node(x, k));
    for (size_t i = 0; i < g->n_output; i++)
        round_output(x, i);
    graph_refresh_from(g);
    TRY(pass_dead_nodes(g)); /* rebuilds the name index too */
    return graph_validate(g);
}

/* Saturation of the codes is the only bend that portable integers have. Not before the ranges are known: without its upper bound
 * a deep network's numbers can grow beyond any scale. */
static void clip_to_relu(graph *g)
{
    for (size_t k = 1; k < g->n_node; k++) {
        node *n = &g->node[k];
        if (!places_clamps_at_zero(g, n))
            continue;
        n->op = OP_RELU;
        n->attr = NULL;
    }
}

status qat_insert(graph *g, const qat_options *o, const qat_ranges *r)
{
    inserter x = {.g = g, .o = o, .r = r};
    node *old = NULL;
    status st = ST_OK;
    if (portable(o))
        clip_to_relu(g);
    free_weights(g);
    TRY_DONE(places_find(g, &o->scheme, &x.p));
    TRY_DONE(mem_alloc(&x.rounded, x.p.n_value, sizeof *x.rounded));
    TRY_DONE(mem_alloc(&x.scale, x.p.n_group + 1, sizeof *x.scale));
    TRY_DONE(mem_alloc(&x.zero, x.p.n_group + 1, sizeof *x.zero));
    TRY_DONE(mem_alloc(&x.number, x.p.n_group + 1, sizeof *x.number));
    TRY_DONE(mem_alloc(&old, g->n_node, sizeof *old));
    memcpy(old, g->node, g->n_node * sizeof *old);
    x.was = *g;
    x.was.node = old;
    g->n_node = 1;
    /* values of `was` may move as g grows: places ask it for shapes and kinds of old values, which do not change */
    value *values = NULL;
    TRY_DONE(mem_alloc(&values, g->n_value, sizeof *values));
    memcpy(values, g->value, g->n_value * sizeof *values);
    x.was.value = values;
    st = insert_all(&x);
    mem_free(values);
done:
    places_free(&x.p);
    mem_free(x.rounded);
    mem_free(x.scale);
    mem_free(x.zero);
    mem_free(x.number);
    mem_free(old);
    return st;
}
