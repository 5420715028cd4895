/* passes.c - rewrites of whole graphs. Each keeps the graph valid and keeps the names of its outputs. */
#include "graph/graph.h"
#include "ops/attrs.h"

#include <math.h>
#include <string.h>

/* Replacements collected by a pass and carried out together at its end: `to[v]` stands for v. */
typedef struct rewrite {
    graph *g;
    size_t n_value; /* when the pass began; values made by the pass are nobody's replacement */
    value_id *to;
    uint32_t *uses;     /* by nodes and outputs, kept up to date */
    uint8_t *is_output; /* of what stands for an output */
} rewrite;

static void rewrite_free(rewrite *r)
{
    mem_free(r->to);
    mem_free(r->uses);
    mem_free(r->is_output);
}

static status rewrite_begin(graph *g, rewrite *r)
{
    status st = ST_OK;
    *r = (rewrite){.g = g, .n_value = g->n_value};
    TRY_DONE(mem_alloc(&r->to, g->n_value, sizeof *r->to));
    TRY_DONE(mem_alloc(&r->is_output, g->n_value, 1));
    TRY_DONE(graph_count_uses(g, &r->uses));
    for (size_t v = 0; v < g->n_value; v++)
        r->to[v] = (value_id)v;
    for (size_t i = 0; i < g->n_output; i++)
        r->is_output[g->output[i]] = 1;
done:
    if (st != ST_OK)
        rewrite_free(r);
    return st;
}

static value_id stands_for(const rewrite *r, value_id v)
{
    while (v < r->n_value && r->to[v] != v) {
        if (r->to[r->to[v]] != r->to[v])
            r->to[v] = r->to[r->to[v]]; /* shorten the chain for the next who asks */
        v = r->to[v];
    }
    return v;
}

/* The result of a node becomes another name for its operand `to`. When it was a graph output its name goes over.
 * False: it has to stay. */
static bool bypass(rewrite *r, value_id from, value_id to)
{
    graph *g = r->g;
    to = stands_for(r, to);
    if (r->is_output[from]) {
        if (g->value[to].kind != VALUE_TEMP || r->is_output[to])
            return false;
        const char *name = g->value[from].name;
        g->value[from].name = g->value[to].name;
        g->value[to].name = name;
        r->is_output[to] = 1;
    }
    r->uses[to] += r->uses[from] - 1;
    r->uses[from] = 0;
    r->to[from] = to;
    return true;
}

/* Debug and test builds look at the whole graph after each pass. */
static status checked(const graph *g)
{
#ifdef NDEBUG
    (void)g;
    return ST_OK;
#else
    return graph_validate(g);
#endif
}

/* Carries the replacements out and drops what nobody reads any more. */
static status rewrite_end(rewrite *r)
{
    graph *g = r->g;
    for (size_t k = 1; k < g->n_node; k++)
        for (int i = 0; i < g->node[k].n_in; i++)
            g->node[k].in[i] = stands_for(r, g->node[k].in[i]);
    for (size_t i = 0; i < g->n_output; i++)
        g->output[i] = stands_for(r, g->output[i]);
    rewrite_free(r);
    TRY(pass_dead_nodes(g)); /* also rebuilds the name index */
    return checked(g);
}

static bool is_const(const graph *g, value_id v)
{
    return v && g->value[v].kind == VALUE_CONST;
}

status pass_drop_identity(graph *g)
{
    rewrite r;
    TRY(rewrite_begin(g, &r));
    for (size_t k = 1; k < g->n_node; k++) {
        const node *n = &g->node[k];
        if ((op_of(n->op)->flags & OP_SAME_VALUE) && g->value[n->in[0]].type == g->value[n->out[0]].type)
            (void)bypass(&r, n->out[0], n->in[0]);
    }
    return rewrite_end(&r);
}

/* ---- batch norm into convolution ---- */

/* y = s*(conv(x, w) + b - mean)/sqrt(var + eps) + beta is a convolution with w*s/sqrt(var + eps) and a new bias. */
static status fold_one(graph *g, node_id conv, node_id bn)
{
    node *c = &g->node[conv], *n = &g->node[bn];
    const batch_norm_attrs *at = n->attr;
    value w = g->value[c->in[1]];
    int64_t channels = w.sh.dim[0], each = channels ? shape_count(&w.sh) / channels : 0;
    value_id w2, b2, bias = c->n_in > 2 ? c->in[2] : 0;
    shape sb = SHAPE(channels);
    TRY(graph_add_data(g, w.name, VALUE_CONST, w.type, w.sh, w.data, &w2));
    TRY(graph_add_data(g, g->value[n->in[2]].name, VALUE_CONST, w.type, sb, NULL, &b2));
    void *wd = (void *)(uintptr_t)g->value[w2].data, *bd = (void *)(uintptr_t)g->value[b2].data;
    const void *operand[4];
    for (int i = 0; i < 4; i++)
        operand[i] = g->value[n->in[i + 1]].data;
    for (int64_t o = 0; o < channels; o++) {
        double scale = dtype_load(w.type, operand[0], o), beta = dtype_load(w.type, operand[1], o);
        double mean = dtype_load(w.type, operand[2], o), var = dtype_load(w.type, operand[3], o);
        double b = bias ? dtype_load(w.type, g->value[bias].data, o) : 0, f = scale / sqrt(var + at->epsilon);
        for (int64_t i = 0; i < each; i++)
            dtype_store(w.type, wd, o * each + i, dtype_load(w.type, w.data, o * each + i) * f);
        dtype_store(w.type, bd, o, (b - mean) * f + beta);
    }
    value_id *in;
    TRY(arena_alloc(&g->mem, &in, 3, sizeof *in));
    c = &g->node[conv];
    in[0] = c->in[0];
    in[1] = w2;
    in[2] = b2;
    c->in = in;
    c->n_in = 3;
    return ST_OK;
}

/* The convolution before a batch norm, when both can become one; else 0. */
static node_id conv_before(const rewrite *r, const node *bn)
{
    const graph *g = r->g;
    value_id x = stands_for(r, bn->in[0]);
    node_id c = x < r->n_value && r->uses[x] == 1 ? g->value[x].from : 0;
    if (!c || g->node[c].op != OP_CONV || g->node[c].n_in > 3 || !is_const(g, g->node[c].in[1]) ||
        (g->node[c].n_in == 3 && g->node[c].in[2] && !is_const(g, g->node[c].in[2])) ||
        ((const conv_attrs *)g->node[c].attr)->relu)
        return 0;
    for (int i = 1; i < 5; i++)
        if (!is_const(g, bn->in[i]) || g->value[bn->in[i]].type != g->value[g->node[c].in[1]].type)
            return 0;
    return c;
}

status pass_fold_batch_norm(graph *g)
{
    rewrite r;
    TRY(rewrite_begin(g, &r));
    for (size_t k = 1; k < g->n_node; k++) {
        if (g->node[k].op != OP_BATCH_NORM)
            continue;
        node_id c = conv_before(&r, &g->node[k]);
        if (!c || !bypass(&r, g->node[k].out[0], g->node[k].in[0]))
            continue;
        status st = fold_one(g, c, (node_id)k);
        if (st != ST_OK) {
            rewrite_free(&r);
            return st;
        }
    }
    return rewrite_end(&r);
}

/* ---- epilogues ---- */

/* Gives a convolution a fourth input (what is added to its result) or its relu; operands and attributes are copied. */
static status set_epilogue(graph *g, node_id conv, value_id residual, bool relu)
{
    value_id *in;
    conv_attrs *at;
    TRY(arena_alloc(&g->mem, &in, 4, sizeof *in));
    TRY(arena_alloc(&g->mem, &at, 1, sizeof *at));
    node *c = &g->node[conv];
    memcpy(in, c->in, c->n_in * sizeof *in);
    *at = *(const conv_attrs *)c->attr;
    if (residual) {
        in[3] = residual;
        c->n_in = 4;
    }
    at->relu |= relu;
    c->in = in;
    c->attr = at;
    return ST_OK;
}

/* The convolution whose result v is, when nobody else reads v and it has no relu yet; else 0. */
static node_id open_conv(const rewrite *r, value_id v)
{
    const graph *g = r->g;
    node_id c = g->value[v].from;
    if (!c || r->uses[v] != 1 || g->node[c].op != OP_CONV || ((const conv_attrs *)g->node[c].attr)->relu)
        return 0;
    return c;
}

static status fuse_residual(rewrite *r, node_id k)
{
    const graph *g = r->g;
    const node *n = &g->node[k];
    for (int i = 1; i >= 0; i--) {
        value_id made = stands_for(r, n->in[i]), other = stands_for(r, n->in[1 - i]);
        node_id c = open_conv(r, made);
        if (!c || g->node[c].n_in > 3 || !shape_equal(&g->value[other].sh, &g->value[made].sh))
            continue;
        if (g->value[other].from >= c) /* it is not made yet when the convolution runs */
            continue;
        if (bypass(r, n->out[0], made))
            return set_epilogue(r->g, c, other, false); /* `other` is read by c now instead of by this node */
    }
    return ST_OK;
}

/* The inference norm whose only reader is the relu; else 0. */
static node_id open_norm(const rewrite *r, value_id v)
{
    const graph *g = r->g;
    node_id k = g->value[v].from;
    if (!k || r->uses[v] != 1 || g->node[k].op != OP_BATCH_NORM)
        return 0;
    const batch_norm_attrs *at = g->node[k].attr;
    return at->training_mode || at->relu ? 0 : k;
}

static status set_norm_relu(graph *g, node_id norm)
{
    batch_norm_attrs *at;
    TRY(arena_alloc(&g->mem, &at, 1, sizeof *at));
    *at = *(const batch_norm_attrs *)g->node[norm].attr;
    at->relu = 1;
    g->node[norm].attr = at;
    return ST_OK;
}

static status fuse_relu(rewrite *r, node_id k)
{
    const node *n = &r->g->node[k];
    value_id made = stands_for(r, n->in[0]);
    node_id c = open_conv(r, made), norm = open_norm(r, made);
    if (c)
        return bypass(r, n->out[0], made) ? set_epilogue(r->g, c, 0, true) : ST_OK;
    return norm && bypass(r, n->out[0], made) ? set_norm_relu(r->g, norm) : ST_OK;
}

status pass_fuse_epilogues(graph *g)
{
    static status (*const rule[OP_COUNT])(rewrite *, node_id) = {[OP_ADD] = fuse_residual, [OP_RELU] = fuse_relu};
    rewrite r;
    TRY(rewrite_begin(g, &r));
    for (size_t k = 1; k < g->n_node; k++) {
        status st = rule[g->node[k].op] ? rule[g->node[k].op](&r, (node_id)k) : ST_OK;
        if (st != ST_OK) {
            rewrite_free(&r);
            return st;
        }
    }
    TRY(rewrite_end(&r));
    TRY(pass_join_gelu(g));
    TRY(pass_fuse_attention(g));
    return pass_fuse_linear(g);
}

/* ---- training ---- */

status pass_training_mode(graph *g, double bn_momentum)
{
    for (size_t k = 1; k < g->n_node; k++) {
        node n = g->node[k];
        if (n.op != OP_BATCH_NORM)
            continue;
        bool trains = true; /* constants for statistics: frozen by the user's model, stays as it is */
        for (int i = 3; i < 5; i++)
            trains &= g->value[n.in[i]].kind == VALUE_STATE;
        if (!trains)
            continue;
        batch_norm_attrs at = *(const batch_norm_attrs *)n.attr;
        shape x = g->value[n.in[0]].sh;
        value_id stats[3], none;
        at.momentum = bn_momentum;
        at.unbiased = 1;
        at.count = x.dim[1] ? shape_count(&x) / x.dim[1] : 0;
        /* The new nodes are made at the end, then the first takes the old node's place. */
        TRY(graph_add_named(g, n.name, OP_BATCH_NORM_TRAIN, &at, n.in, 3, NULL, stats, 3));
        node made = g->node[--g->n_node];
        const char *name = g->value[n.out[0]].name; /* hints find the value under its old name */
        g->value[n.out[0]].name = g->value[stats[0]].name;
        g->value[stats[0]].name = name;
        graph_replace(g, n.out[0], stats[0]);
        g->node[k] = made;
        for (int i = 0; i < 3; i++)
            g->value[stats[i]].from = (node_id)k;
        value_id in[4] = {n.in[3], n.in[4], stats[1], stats[2]};
        TRY(graph_add(g, OP_BATCH_NORM_STATS, &at, in, 4, &none, 0));
    }
    TRY(pass_unused_values(g));
    return checked(g);
}

/* ---- double precision ---- */

static status widen_data(graph *g, value *v)
{
    int64_t n = shape_count(&v->sh);
    double *wide;
    TRY(graph_alloc_data(g, (size_t)n * sizeof *wide, &wide));
    for (int64_t i = 0; i < n; i++)
        wide[i] = (double)((const float *)v->data)[i];
    v->data = wide;
    return ST_OK;
}

status pass_to_double(graph *g)
{
    for (size_t k = 1; k < g->n_node; k++) {
        const node *n = &g->node[k];
        for (const attr_desc *a = op_of(n->op)->attrs; a && a->name; a++) {
            char *field = (char *)(uintptr_t)n->attr + a->offset; /* the graph's own copy */
            int64_t type;
            memcpy(&type, field, sizeof type);
            if (a->type == ATTR_DTYPE && type == DTYPE_F32) {
                type = DTYPE_F64;
                memcpy(field, &type, sizeof type);
            }
            if (a->type == ATTR_TENSOR && ((attr_tensor *)(void *)field)->type == DTYPE_F32)
                ((attr_tensor *)(void *)field)->type = DTYPE_F64;
        }
    }
    for (size_t v = 1; v < g->n_value; v++) {
        value *x = &g->value[v];
        if (x->type != DTYPE_F32)
            continue;
        if (x->data)
            TRY(widen_data(g, x));
        x->type = DTYPE_F64;
    }
    return checked(g);
}
