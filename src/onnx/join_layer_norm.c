/* join_layer_norm.c - LayerNormalization as exporters below opset 17 write it becomes one node again.
 *
 *   m = ReduceMean(x)   d = Sub(x, m)   q = Pow(d, 2) or Mul(d, d)   v = ReduceMean(q)
 *   s = Sqrt(Add(v, epsilon))   y = Div(d, s)   [y = Mul(y, scale)   [y = Add(y, bias)]]
 *
 * over the last axes, keepdims. Nothing between may be read by others or be a graph output: a tap stays where it is. */
#include "onnx/import.h"

#include "ops/attrs.h"

#include <string.h>

typedef struct match {
    value_id x, scale, bias;
    double epsilon;
    int axis;     /* the first of the axes */
    node_id last; /* whose place the LayerNormalization takes */
} match;

typedef struct finder {
    graph *g;
    uint32_t *uses;  /* [n_value] */
    node_id *reader; /* [n_value] the last node that reads a value */
} finder;

/* The node of this operator that makes v, or NULL. */
static const node *made_by(const finder *f, value_id v, op_id op)
{
    node_id k = v ? f->g->value[v].from : 0;
    return k && f->g->node[k].op == op ? &f->g->node[k] : NULL;
}

static bool const_number(const finder *f, value_id v, double *out)
{
    const value *x = &f->g->value[v];
    if (x->kind != VALUE_CONST || shape_count(&x->sh) != 1)
        return false;
    *out = dtype_load(x->type, x->data, 0);
    return true;
}

/* A mean over the axes from *axis on, dimensions kept; *axis < 0: any. */
static const node *trailing_mean(const finder *f, value_id v, int *axis)
{
    const node *n = made_by(f, v, OP_REDUCE_MEAN);
    if (!n)
        return NULL;
    const reduce_attrs *at = n->attr;
    const shape *x = &f->g->value[n->in[0]].sh;
    uint32_t mask = 0;
    int first = x->rank;
    for (int64_t i = 0; i < at->axes.n; i++) {
        int a = shape_axis(x, at->axes.v[i]);
        if (a < 0)
            return NULL;
        mask |= 1u << a;
        first = a < first ? a : first;
    }
    if (!at->keepdims || mask == 0 || mask != (1u << x->rank) - (1u << first) ||
        (*axis >= 0 && *axis != first))
        return NULL;
    *axis = first;
    return n;
}

/* d = x - mean(x): the same value, or one computed once more by exporters that do not share it. */
static bool centred(const finder *f, value_id d, value_id x, int *axis)
{
    const node *sub = made_by(f, d, OP_SUB);
    const node *mean = sub ? trailing_mean(f, sub->in[1], axis) : NULL;
    return mean && sub->in[0] == x && mean->in[0] == x;
}

/* The x of d = x - mean(x), 0 when d is none. */
static value_id centred_of(const finder *f, value_id d, int *axis)
{
    const node *sub = made_by(f, d, OP_SUB);
    return sub && centred(f, d, sub->in[0], axis) ? sub->in[0] : 0;
}

/* The d whose square q is, 0 when q is none. */
static value_id square_of(const finder *f, value_id q)
{
    double two;
    const node *n = made_by(f, q, OP_POW);
    if (n && const_number(f, n->in[1], &two) && two == 2)
        return n->in[0];
    n = made_by(f, q, OP_MUL);
    return n && n->in[0] == n->in[1] ? n->in[0] : 0;
}

/* Every use of v is accounted for by the `own` uses inside the pattern. */
static bool used_up(const finder *f, value_id v, uint32_t own)
{
    return f->uses[v] == own;
}

static bool match_div(const finder *f, node_id k, match *m)
{
    const node *div = &f->g->node[k];
    m->axis = -1;
    const node *root = made_by(f, div->in[1], OP_SQRT);
    const node *add = root ? made_by(f, root->in[0], OP_ADD) : NULL;
    if (!add)
        return false;
    int e = const_number(f, add->in[1], &m->epsilon) ? 1 : 0;
    if (e == 0 && !const_number(f, add->in[0], &m->epsilon))
        return false;
    const node *var = trailing_mean(f, add->in[1 - e], &m->axis);
    value_id q = var ? var->in[0] : 0, d2 = q ? square_of(f, q) : 0, d = div->in[0];
    m->x = centred_of(f, d, &m->axis);
    if (!d2 || !m->x || !centred(f, d2, m->x, &m->axis))
        return false;
    value_id mean = made_by(f, d, OP_SUB)->in[1], mean2 = made_by(f, d2, OP_SUB)->in[1];
    uint32_t squares = made_by(f, q, OP_POW) ? 1 : 2; /* how often q reads d2 */
    bool alone = used_up(f, q, 1) && used_up(f, add->in[1 - e], 1) && used_up(f, root->in[0], 1) &&
                 used_up(f, div->in[1], 1);
    alone &= d == d2 ? used_up(f, d, 1 + squares) : used_up(f, d, 1) && used_up(f, d2, squares);
    alone &= mean != mean2 ? used_up(f, mean, 1) && used_up(f, mean2, 1) : used_up(f, mean, d == d2 ? 1 : 2);
    m->last = k;
    return alone && f->g->value[m->x].type == f->g->value[div->out[0]].type;
}

/* v's shape is that of the axes from m->axis on (ones in front allowed), and v is known before the graph runs. */
static bool fits(const finder *f, const match *m, value_id v)
{
    const value *x = &f->g->value[m->x], *s = &f->g->value[v];
    int rank = x->sh.rank - m->axis;
    if ((s->kind != VALUE_CONST && s->kind != VALUE_PARAM) || s->type != x->type || s->sh.rank < rank ||
        s->sh.rank > x->sh.rank)
        return false;
    for (int i = 1; i <= s->sh.rank; i++)
        if (s->sh.dim[s->sh.rank - i] != (i <= rank ? x->sh.dim[x->sh.rank - i] : 1))
            return false;
    return true;
}

/* The only reader of v, when it is of this operator and its other operand fits; 0 else. */
static node_id next_node(const finder *f, const match *m, op_id op, value_id *other)
{
    value_id v = f->g->node[m->last].out[0];
    node_id k = f->reader[v];
    const node *n = &f->g->node[k];
    if (!used_up(f, v, 1) || k == 0 || n->op != op)
        return 0;
    *other = n->in[0] == v ? n->in[1] : n->in[0];
    return fits(f, m, *other) ? k : 0;
}

static status replace(finder *f, match *m)
{
    graph *g = f->g;
    layer_norm_attrs *at;
    value_id *in;
    if (!m->scale) {
        shape sh = {.rank = g->value[m->x].sh.rank - m->axis};
        memcpy(sh.dim, g->value[m->x].sh.dim + m->axis, (size_t)sh.rank * sizeof *sh.dim);
        TRY(graph_add_fill(g, g->value[m->x].type, sh, 1, &m->scale));
    }
    TRY(arena_alloc(&g->mem, &at, 1, sizeof *at));
    TRY(arena_alloc(&g->mem, &in, 3, sizeof *in));
    op_default_attrs(OP_LAYER_NORM, at);
    at->axis = m->axis;
    at->epsilon = m->epsilon;
    in[0] = m->x;
    in[1] = m->scale;
    in[2] = m->bias;
    node *n = &g->node[m->last];
    n->op = OP_LAYER_NORM;
    n->attr = at;
    n->in = in;
    n->n_in = m->bias ? 3 : 2;
    for (int i = 1; i < n->n_in; i++)
        if (g->value[in[i]].kind == VALUE_PARAM)
            g->value[in[i]].flags =
                (g->value[in[i]].flags & ~(uint32_t)VALUE_NO_DECAY_BIAS) | VALUE_NO_DECAY_NORM;
    return op_of(OP_LAYER_NORM)->infer(g, n);
}

status pass_join_layer_norm(graph *g)
{
    finder f = {.g = g};
    size_t n_joined = 0;
    status st = ST_OK;
    TRY_DONE(graph_count_uses(g, &f.uses));
    TRY_DONE(mem_alloc(&f.reader, g->n_value, sizeof *f.reader));
    for (size_t k = 1; k < g->n_node; k++)
        for (int i = 0; i < g->node[k].n_in; i++)
            f.reader[g->node[k].in[i]] = (node_id)k;
    for (size_t k = 1; k < g->n_node; k++) {
        match m = {0};
        value_id other;
        if (g->node[k].op != OP_DIV || !match_div(&f, (node_id)k, &m))
            continue;
        node_id mul = next_node(&f, &m, OP_MUL, &other);
        if (mul) {
            m.scale = other;
            m.last = mul;
            node_id add = next_node(&f, &m, OP_ADD, &other);
            if (add) {
                m.bias = other;
                m.last = add;
            }
        }
        TRY_DONE(replace(&f, &m));
        n_joined++;
    }
done:
    mem_free(f.reader);
    mem_free(f.uses);
    return st == ST_OK && n_joined > 0 ? pass_dead_nodes(g) : st;
}
