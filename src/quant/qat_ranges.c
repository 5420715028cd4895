/* qat_ranges.c - scales and zero points of the rounded activations. */
#include "quant/qat.h"

#include <math.h>
#include <string.h>

static bool portable(const qat_options *o)
{
    return o->scheme.profile != PROFILE_NONE;
}

/* Portable profiles: a histogram for each value, since those of a group share the scale and not the zero point. */
static status open_each(const graph *g, const places *p, backend *b, calibration *out)
{
    watched *watch;
    size_t n = 0;
    TRY(mem_alloc(&watch, p->n_value, sizeof *watch));
    for (size_t v = 1; v < p->n_value; v++)
        if (p->value[v].rounded && !p->value[v].moved) {
            watch[n] = (watched){(value_id)v, (uint32_t)n};
            n++;
        }
    status st = calibration_open(g, watch, n, n, true, b, out);
    mem_free(watch);
    return st;
}

status qat_open_calibration(const graph *g, const qat_options *o, backend *b, calibration *out)
{
    places p;
    *out = (calibration){0};
    status st = places_find(g, &o->scheme, &p);
    if (st == ST_OK)
        st = portable(o) ? open_each(g, &p, b, out) : calibration_open_places(g, &p, b, out);
    places_free(&p);
    return st;
}

/* Never negative: what a relu made, the pixels, means and sums and moves of such. */
static bool is_positive(const graph *g, const places *p, const uint8_t *known, value_id v)
{
    const node_id k = g->value[v].from;
    if (!k || places_clamps_at_zero(g, &g->node[k]))
        return k != 0;
    const node *n = &g->node[k];
    bool weights = p->product[k] && (g->value[n->in[1]].flags & VALUE_FIXED);
    if (!p->integer[k] || (p->product[k] && !weights))
        return false;
    for (int i = 0; i < (weights ? 1 : n->n_in); i++)
        if (n->in[i] && g->value[n->in[i]].kind != VALUE_CONST && !known[n->in[i]])
            return false;
    return true;
}

#define PIXELS_SUFFIX ".pixels"

static bool holds_pixels(const char *name)
{
    size_t n = strlen(name), s = strlen(PIXELS_SUFFIX);
    return n > s && strcmp(name + n - s, PIXELS_SUFFIX) == 0;
}

/* The exponent of least squared error over all values of the group. */
static float group_power(const calibration *c, const places *p, const qat_options *o, const int32_t *zero, uint32_t k)
{
    double most = 0, least = HUGE_VAL, best = 1;
    for (size_t i = 0; i < c->n_watch; i++) {
        const histogram *h = &c->hist[c->watch[i].to];
        if (p->value[c->watch[i].v].group == k && h->n)
            most = fmax(most, fmax(fabs(h->min), fabs(h->max)));
    }
    if (most <= 0)
        return 0x1p-7f;
    int top = (int)ceil(log2(most / 127));
    for (int e = top; e > top - 7; e--) {
        double error = 0;
        for (size_t i = 0; i < c->n_watch; i++) {
            const histogram *h = &c->hist[c->watch[i].to];
            const value_id v = c->watch[i].v;
            if (p->value[v].group == k && h->n) /* means: every value of the group counts the same */
                error += histogram_error(h, &o->scheme, (quant_params){(float)exp2(e), zero[v]});
        }
        if (error < least) {
            least = error;
            best = exp2(e);
        }
    }
    return (float)best;
}

static status add_range(qat_ranges *r, size_t *cap, const char *name, quant_params at)
{
    TRY(mem_push(&r->at, cap, r->n, sizeof *r->at));
    r->at[r->n] = (qat_range){.at = at};
    TRY(arena_strdup(&r->mem, &r->at[r->n].name, name));
    r->n++;
    return ST_OK;
}

/* A move gives its operands' codes: all of them have one zero point. */
static void join_zeros(const graph *g, const places *p, int32_t *zero)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t k = 1; k < g->n_node; k++) {
            const node *n = &g->node[k];
            int32_t most = 0;
            if (!n->out[0] || !p->value[n->out[0]].moved)
                continue;
            for (int i = 0; i < n->n_in + n->n_out; i++) {
                value_id v = i < n->n_in ? n->in[i] : n->out[i - n->n_in];
                most = v && p->value[v].rounded && zero[v] > most ? zero[v] : most;
            }
            for (int i = 0; i < n->n_in + n->n_out; i++) {
                value_id v = i < n->n_in ? n->in[i] : n->out[i - n->n_in];
                if (!v || !p->value[v].rounded || zero[v] == most)
                    continue;
                zero[v] = most;
                changed = true;
            }
        }
    }
}

static status find_portable(const graph *g, const places *p, const qat_options *o, const calibration *c, quant_params *params,
                            int32_t *zero)
{
    uint8_t *known;
    const bool bytes = o->scheme.activations == DTYPE_U8;
    TRY(mem_alloc(&known, p->n_value, 1));
    for (size_t k = 0; k < g->n_node; k++) /* inputs first, then in order of execution */
        for (size_t v = 1; v < p->n_value; v++) {
            if (g->value[v].from != k)
                continue;
            known[v] = is_positive(g, p, known, (value_id)v) || holds_pixels(g->value[v].name);
            zero[v] = known[v] || !bytes ? 0 : 128;
        }
    join_zeros(g, p, zero);
    for (uint32_t k = 0; k < p->n_group; k++) {
        params[k].scale = group_power(c, p, o, zero, k);
        if (holds_pixels(g->value[p->group[k].first].name))
            params[k].scale = bytes ? 0x1p-8f : 0x1p-7f;
    }
    mem_free(known);
    return ST_OK;
}

status qat_find_ranges(const graph *g, const qat_options *o, const calibration *c, qat_ranges *out)
{
    places p;
    quant_params *params = NULL;
    int32_t *zero = NULL;
    size_t cap = 0;
    status st = places_find(g, &o->scheme, &p);
    *out = (qat_ranges){0};
    TRY_DONE(st);
    if (c->samples == 0)
        TRY_DONE(fail(ST_BAD_DATA, "quantisation needs samples to find ranges and there are none"));
    TRY_DONE(mem_alloc(&params, p.n_group + 1, sizeof *params));
    TRY_DONE(mem_alloc(&zero, p.n_value, sizeof *zero));
    for (size_t i = 0; portable(o) && i < c->n_watch; i++) {
        const value *v = &g->value[c->watch[i].v];
        if (v->kind == VALUE_INPUT || holds_pixels(v->name))
            TRY_DONE(calibration_check_input(c, i));
    }
    if (portable(o))
        TRY_DONE(find_portable(g, &p, o, c, params, zero));
    else
        TRY_DONE(calibration_params(c, &p, &o->scheme, params));
    for (size_t v = 1; v < p.n_value; v++)
        if (p.value[v].rounded) {
            quant_params at = params[p.value[v].group];
            at.zero = portable(o) ? zero[v] : at.zero;
            TRY_DONE(add_range(out, &cap, g->value[v].name, at));
        }
done:
    places_free(&p);
    mem_free(params);
    mem_free(zero);
    if (st != ST_OK)
        qat_ranges_free(out);
    return st;
}
