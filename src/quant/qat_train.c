/* qat_train.c - FakeQuant in training graphs. */
#include "ops/attrs.h"
#include "quant/places.h"
#include "quant/qat.h"
#include "quant/qat_weight.h"

#include <stdio.h>
#include <string.h>

static const bool rounds[OP_COUNT] = {[OP_FAKE_QUANT] = true}, relus[OP_COUNT] = {[OP_RELU] = true};

static bool moves(const graph *g, const node *n)
{
    return rounds[n->op] && n->n_in == 3 && g->value[n->in[1]].kind == VALUE_STATE;
}

/* y = FakeQuant(Relu(x)) is one node where nobody else reads the relu's result. */
static status take_relu(graph *g, node *n, const uint32_t *uses)
{
    node *r = &g->node[g->value[n->in[0]].from];
    fake_quant_attrs *at;
    value_id *in;
    if (!g->value[n->in[0]].from || !relus[r->op] || uses[n->in[0]] != 1)
        return ST_OK;
    TRY(arena_alloc(&g->mem, &at, 1, sizeof *at));
    TRY(arena_alloc(&g->mem, &in, n->n_in, sizeof *in));
    *at = *(const fake_quant_attrs *)n->attr;
    at->relu = 1;
    memcpy(in, n->in, n->n_in * sizeof *in);
    in[0] = r->in[0];
    n->in = in;
    n->attr = at;
    r->op = OP_NONE;
    return ST_OK;
}

/* The range of the batch, for scales that move. */
static status want_range(graph *g, node_id k)
{
    static const char *const suffix[] = {"lo", "hi"};
    node n = g->node[k];
    value_id *out;
    char name[1024];
    if (!moves(g, &n))
        return ST_OK;
    TRY(arena_alloc(&g->mem, &out, 3, sizeof *out));
    out[0] = n.out[0];
    for (int i = 0; i < 2; i++) {
        const value s = g->value[n.in[1]];
        snprintf(name, sizeof name, "%s.%s", g->value[n.out[0]].name, suffix[i]);
        TRY(graph_add_value(g, name, s.type, s.sh, VALUE_TEMP, &out[i + 1]));
        g->value[out[i + 1]].from = k;
    }
    g->node[k].out = out;
    g->node[k].n_out = 3;
    return ST_OK;
}

status qat_training_mode(graph *g)
{
    uint32_t *uses;
    status st = ST_OK;
    TRY(graph_count_uses(g, &uses));
    for (size_t k = 1; k < g->n_node; k++)
        if (rounds[g->node[k].op])
            TRY_DONE(take_relu(g, &g->node[k], uses));
    graph_sweep(g);
    for (size_t k = 1; k < g->n_node; k++)
        TRY_DONE(want_range(g, (node_id)k));
done:
    mem_free(uses);
    return st;
}

/* The start of a moving range: what scale and zero point hold. */
static status range_state(graph *g, const fake_quant_attrs *at, value_id scale, value_id zero, bool high, value_id *out)
{
    const value s = g->value[scale], z = g->value[zero];
    int64_t n = shape_count(&s.sh);
    char name[1024];
    float *x;
    TRY(arena_alloc(&g->mem, &x, (size_t)(n ? n : 1), sizeof *x));
    for (int64_t i = 0; i < n; i++) {
        double zi = z.data ? dtype_load(z.type, z.data, i) : 0;
        x[i] = (float)(((high ? at->qmax : at->qmin) - zi) * dtype_load(s.type, s.data, i));
    }
    snprintf(name, sizeof name, "%s.%s", s.name, high ? "hi" : "lo");
    return graph_add_data(g, name, VALUE_STATE, s.type, s.sh, x, out);
}

/* One update for all FakeQuant nodes that share the scale of node k, the first of them. */
static status add_update(graph *g, node_id k, size_t n_node)
{
    const node first = g->node[k];
    const fake_quant_attrs *at = first.attr;
    value_id lo = first.out[1], hi = first.out[2], none;
    for (size_t i = k + 1; i < n_node; i++) {
        const node n = g->node[i];
        if (!moves(g, &n) || n.in[1] != first.in[1])
            continue;
        TRY(graph_add1(g, OP_MIN, NULL, lo, n.out[1], 0, &lo));
        TRY(graph_add1(g, OP_MAX, NULL, hi, n.out[2], 0, &hi));
    }
    value_id in[6] = {0, 0, first.in[1], first.in[2], lo, hi};
    TRY(range_state(g, at, first.in[1], first.in[2], false, &in[0]));
    TRY(range_state(g, at, first.in[1], first.in[2], true, &in[1]));
    return graph_add(g, OP_FAKE_QUANT_RANGE, at, in, 6, &none, 0);
}

status qat_add_updates(graph *g)
{
    size_t n_node = g->n_node;
    for (size_t k = 1; k < n_node; k++) {
        bool first = moves(g, &g->node[k]);
        for (size_t i = 1; first && i < k; i++)
            first = !moves(g, &g->node[i]) || g->node[i].in[1] != g->node[k].in[1];
        if (first)
            TRY(add_update(g, (node_id)k, n_node));
    }
    return ST_OK;
}

/* ---- sums ---- */

static status add_cap(graph *g, value_id x, const fake_quant_attrs *at, value_id scale)
{
    const value_id in[2] = {x, scale};
    return graph_add(g, OP_FAKE_QUANT_CAP, at, in, 2, NULL, 0);
}

/* Weight `rounded` of product n, where its channels are so long that rule 4 does not hold whatever the weights are. */
static status cap_weight(graph *g, const node *n, const node *rounded)
{
    const fake_quant_attrs *from = rounded->attr;
    const value_id x = rounded->in[0], scale = rounded->in[1];
    const shape sh = g->value[x].sh;
    const int axis = places_operands(g, n).axis;
    const int64_t each = sh.dim[axis] ? shape_count(&sh) / sh.dim[axis] : 0;
    const fake_quant_attrs at = {.axis = axis, .qmax = weight_sum_max(each), .multiple = 1};
    char name[1024];
    if (from->multiple != 4 || g->value[x].kind != VALUE_PARAM || from->qmax * (double)each <= PORTABLE_SUM_MAX)
        return ST_OK;
    snprintf(name, sizeof name, "%s.ema", g->value[x].name);
    const value_id average = graph_find(g, name);
    TRY(add_cap(g, x, &at, scale));
    return average ? add_cap(g, average, &at, scale) : ST_OK;
}

status qat_add_caps(graph *g)
{
    static const bool products[OP_COUNT] = {[OP_CONV] = true, [OP_CONV_TRANSPOSE] = true, [OP_GEMM] = true, [OP_MATMUL] = true};
    const size_t n_node = g->n_node;
    const phase when = g->when;
    bool *done;
    status st = ST_OK;
    TRY(mem_alloc(&done, n_node, sizeof *done));
    g->when = PHASE_UPDATE;
    for (size_t k = 1; st == ST_OK && k < n_node; k++) {
        const node n = g->node[k];
        const node_id from = products[n.op] && n.n_in > 1 ? g->value[n.in[1]].from : 0;
        if (!from || !rounds[g->node[from].op] || done[from])
            continue;
        const node rounded = g->node[from]; /* nodes move as the graph grows */
        done[from] = true; /* whoever reads it later is a gradient */
        st = cap_weight(g, &n, &rounded);
    }
    mem_free(done);
    g->when = when;
    return st;
}
