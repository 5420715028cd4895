/* qat_qdq.c - a graph with FakeQuant nodes leaves as the QDQ graph of the same numbers. */
#include "base/log.h"
#include "ops/attrs.h"
#include "quant/insert.h"
#include "quant/qat.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* What a FakeQuant said of the value that it rounded. */
typedef struct rounding {
    fake_quant_attrs at;
    value_id x;
    const char *name; /* of x */
    const float *scale, *zero; /* zero NULL: 0 */
    int64_t n_scale;
} rounding;

typedef struct leaver {
    graph *g;
    const qat_options *o;
    rounding *r;
    size_t n;
    places p;
    quant_params *params;
    int32_t *zero;
} leaver;

static const bool rounds[OP_COUNT] = {[OP_FAKE_QUANT] = true};

static status check_scale(const rounding *r)
{
    for (int64_t i = 0; i < r->n_scale; i++)
        if (!(r->scale[i] > 0) || isinf(r->scale[i]))
            return fail(ST_DIVERGED, "the scale of '%s' became %g in training; lower quant.lr", r->name, (double)r->scale[i]);
    return ST_OK;
}

/* Scales that trained are made by nodes of constants. */
static status fold_scales(graph *g)
{
    static const bool makes[OP_COUNT] = {[OP_EXP] = true, [OP_MUL] = true};
    for (size_t k = 1; k < g->n_node; k++) {
        const node *n = &g->node[k];
        bool constant = makes[n->op];
        for (int i = 0; constant && i < n->n_in; i++)
            constant = g->value[n->in[i]].kind == VALUE_CONST;
        if (constant)
            TRY(exec_fold_node(g, (node_id)k));
    }
    return pass_dead_nodes(g);
}

/* Convolutions are ordinary ones again. */
static status release(graph *g, node_id k)
{
    static const bool convolves[OP_COUNT] = {[OP_CONV] = true};
    conv_attrs *at;
    if (!convolves[g->node[k].op] || !((const conv_attrs *)g->node[k].attr)->exact)
        return ST_OK;
    TRY(arena_alloc(&g->mem, &at, 1, sizeof *at));
    *at = *(const conv_attrs *)g->node[k].attr;
    at->exact = 0;
    g->node[k].attr = at;
    return ST_OK;
}

/* Takes the FakeQuant nodes out of the graph and keeps what they say. */
static status strip(leaver *x)
{
    graph *g = x->g;
    TRY(mem_alloc(&x->r, g->n_node, sizeof *x->r));
    for (size_t k = 1; k < g->n_node; k++) {
        const node n = g->node[k];
        TRY(release(g, (node_id)k));
        if (!rounds[n.op])
            continue;
        rounding *r = &x->r[x->n++];
        const value *s = &g->value[n.in[1]], *z = n.n_in > 2 && n.in[2] ? &g->value[n.in[2]] : NULL;
        if (s->kind != VALUE_CONST || (z && z->kind != VALUE_CONST))
            return fail(ST_INTERNAL, "the scale of '%s' is no constant yet", g->value[n.in[0]].name);
        *r = (rounding){.at = *(const fake_quant_attrs *)n.attr, .x = n.in[0], .scale = s->data, .zero = z ? z->data : NULL,
                        .n_scale = shape_count(&s->sh)};
        bool output = false;
        for (size_t i = 0; i < g->n_output; i++)
            output |= g->output[i] == n.out[0];
        if (output) { /* the name of the output stays with it */
            const char *name = g->value[r->x].name;
            g->value[r->x].name = g->value[n.out[0]].name;
            g->value[n.out[0]].name = name;
        }
        r->name = g->value[r->x].name;
        TRY(check_scale(r));
        graph_replace(g, n.out[0], r->x);
        g->node[k].op = OP_NONE;
    }
    graph_sweep(g);
    return ST_OK;
}

/* The nodes that made pixels of a normalised image go: pixels come in. */
static void drop_normalisation(leaver *x)
{
    graph *g = x->g;
    char name[1024];
    for (size_t i = 0; i < g->n_input; i++) {
        snprintf(name, sizeof name, "%s.pixels", g->value[g->input[i]].name);
        value_id v = graph_find(g, name);
        if (!v)
            continue;
        for (size_t k = 0; k < x->n; k++)
            if (x->r[k].x == v)
                x->r[k].name = g->value[g->input[i]].name;
        graph_replace(g, v, g->input[i]);
    }
}

static const rounding *find(const leaver *x, const char *name)
{
    for (size_t i = 0; i < x->n; i++)
        if (strcmp(x->r[i].name, name) == 0)
            return &x->r[i];
    return NULL;
}

/* Scales of the groups and zero points of the values; a moved value has those of what was moved. */
static status find_numbers(leaver *x)
{
    const graph *g = x->g;
    for (size_t k = 0; k < g->n_node; k++)
        for (size_t v = 1; v < g->n_value; v++) {
            if (!x->p.value[v].rounded || g->value[v].from != k)
                continue;
            const rounding *r = find(x, g->value[v].name);
            quant_params *p = &x->params[x->p.value[v].group];
            if (!r && (!x->p.value[v].moved || !k))
                return fail(ST_INTERNAL, "value '%s' was not rounded in training", g->value[v].name);
            if (r)
                *p = (quant_params){r->scale[0], r->zero ? (int32_t)r->zero[0] : 0};
            x->zero[v] = r ? p->zero : x->zero[g->node[k].in[0]];
        }
    return ST_OK;
}

/* As FakeQuant computes in float. */
static float round_one(const rounding *r, float x, float scale)
{
    float m = (float)r->at.multiple, o = (float)r->at.offset, q = rintf((x / scale - o) / m) * m + o;
    return fminf(fmaxf(q, (float)r->at.qmin), (float)r->at.qmax);
}

#define BIAS_MOST 1073741823.0

static status make_bias(const rounding *r, const value *b, float sx, arena *mem, int_weight *out)
{
    size_t cut = 0;
    TRY(arena_alloc(mem, &out->bias, (size_t)out->channels, sizeof *out->bias));
    for (int64_t i = 0; i < out->n_scale; i++)
        out->bias_scale[i] = sx * out->scale[i];
    for (int64_t c = 0; c < out->channels; c++) {
        float x = ((const float *)b->data)[c], s = out->bias_scale[out->n_scale > 1 ? c : 0];
        double q = r ? (double)round_one(r, x, s) : rint((double)x / (double)s);
        cut += fabs(q) > BIAS_MOST;
        out->bias[c] = (int32_t)fmin(fmax(q, -BIAS_MOST), BIAS_MOST);
    }
    if (cut)
        log_warn("bias '%s': %zu numbers are too large for their channel's scale and were cut", b->name, cut);
    return ST_OK;
}

static status give_weight(void *ctx, const graph *g, const node *n, arena *mem, int_weight *out)
{
    const leaver *x = ctx;
    const product_operands o = places_operands(g, n);
    const value *w = &g->value[n->in[1]];
    const rounding *r = find(x, w->name);
    if (!r)
        return fail(ST_INTERNAL, "weight '%s' was not rounded in training", w->name);
    const channel_steps at = channel_steps_of(&w->sh, o.axis);
    const int64_t count = shape_count(&w->sh);
    *out = (int_weight){.channels = at.channels, .n_scale = r->n_scale};
    TRY(arena_alloc(mem, &out->q, (size_t)count, 1));
    TRY(arena_alloc(mem, &out->scale, (size_t)r->n_scale, sizeof *out->scale));
    TRY(arena_alloc(mem, &out->bias_scale, (size_t)r->n_scale, sizeof *out->bias_scale));
    memcpy(out->scale, r->scale, (size_t)r->n_scale * sizeof *out->scale);
    for (int64_t i = 0; i < count; i++) {
        int64_t c = r->n_scale > 1 ? i / at.inner % at.channels : 0;
        out->q[i] = (int8_t)round_one(r, ((const float *)w->data)[i], r->scale[c]);
    }
    if (o.bias < 0)
        return ST_OK;
    const value *b = &g->value[n->in[o.bias]];
    const float sx = x->params[x->p.value[n->in[0]].group].scale;
    return make_bias(find(x, b->name), b, sx, mem, out);
}

status qat_to_qdq(graph *g, const qat_options *o, graph **out)
{
    leaver x = {.g = g, .o = o};
    status st = ST_OK;
    TRY_DONE(fold_scales(g));
    TRY_DONE(strip(&x));
    drop_normalisation(&x);
    TRY_DONE(pass_dead_nodes(g));
    TRY_DONE(places_find(g, &o->scheme, &x.p));
    TRY_DONE(mem_alloc(&x.params, x.p.n_group + 1, sizeof *x.params));
    TRY_DONE(mem_alloc(&x.zero, x.p.n_value, sizeof *x.zero));
    TRY_DONE(find_numbers(&x));
    const given_integers given = {.zero = x.zero, .weight = give_weight, .ctx = &x};
    st = quant_insert_given(g, &x.p, &o->scheme, x.params, &given, out);
done:
    places_free(&x.p);
    mem_free(x.r);
    mem_free(x.params);
    mem_free(x.zero);
    return st;
}
