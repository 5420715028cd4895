/* fuse_attention.c - softmax(scale * Q K^T + mask) V as exporters write it (MatMul, Mul or Div, Add, Softmax, MatMul)
 * becomes FusedAttention, together with the transpositions between tokens and heads around it: scores are never stored and
 * nothing is moved. Frozen graphs. */
#include "graph/graph.h"
#include "ops/attrs.h"

#include <string.h>

typedef struct finder {
    graph *g;
    uint32_t *uses;
    node_id *reader; /* [n_value] the last node that reads it */
} finder;

typedef struct match {
    value_id q, k, v, mask;
    attention_attrs at;
    node_id last; /* becomes the FusedAttention */
} match;

static bool is_transpose(const graph *g, node_id k, int a, int b, int c, int d)
{
    if (!k || g->node[k].op != OP_TRANSPOSE)
        return false;
    const transpose_attrs *at = g->node[k].attr;
    const int64_t want[4] = {a, b, c, d};
    return at->perm.n == 4 && memcmp(at->perm.v, want, sizeof want) == 0;
}

/* The node that makes v when v is a plain matrix product of two values with four axes; else 0. */
static node_id product_of(const graph *g, value_id v)
{
    node_id k = g->value[v].from;
    if (!k || g->node[k].op != OP_MATMUL || g->value[g->node[k].in[0]].sh.rank != 4 ||
        g->value[g->node[k].in[1]].sh.rank != 4 || ((const matmul_attrs *)g->node[k].attr)->transA)
        return 0;
    return k;
}

/* A single number that a node multiplies (or divides) by; *x: what is multiplied. */
static bool is_scaled(const graph *g, node_id k, value_id *x, double *factor)
{
    if (!k || (g->node[k].op != OP_MUL && g->node[k].op != OP_DIV))
        return false;
    const node *n = &g->node[k];
    for (int i = 1; i >= (n->op == OP_DIV ? 1 : 0); i--) {
        const value *c = &g->value[n->in[i]];
        if (c->kind != VALUE_CONST || shape_count(&c->sh) != 1)
            continue;
        double number = dtype_load(c->type, c->data, 0);
        if (number == 0)
            return false;
        *x = n->in[1 - i];
        *factor = n->op == OP_DIV ? 1 / number : number;
        return shape_equal(&g->value[*x].sh, &g->value[n->out[0]].sh);
    }
    return false;
}

/* Tokens come first in memory: v is a transposition of what is taken instead. */
static value_id tokens_first(const graph *g, value_id v, int64_t *tokens)
{
    node_id k = g->value[v].from;
    *tokens = is_transpose(g, k, 0, 2, 1, 3);
    return *tokens ? g->node[k].in[0] : v;
}

/* K from the right operand of the scores; 0 when it does not lie transposed. */
static value_id keys_of(const graph *g, node_id scores, int64_t *tokens)
{
    value_id b = g->node[scores].in[1];
    node_id k = g->value[b].from;
    *tokens = 0;
    if (((const matmul_attrs *)g->node[scores].attr)->transB)
        return tokens_first(g, b, tokens);
    if (is_transpose(g, k, 0, 1, 3, 2))
        return tokens_first(g, g->node[k].in[0], tokens);
    *tokens = is_transpose(g, k, 0, 2, 3, 1);
    return *tokens ? g->node[k].in[0] : 0;
}

static bool match_softmax(const finder *f, node_id softmax, match *m)
{
    const graph *g = f->g;
    const node *n = &g->node[softmax];
    int64_t axis = ((const axis_attrs *)n->attr)->axis;
    value_id p = n->out[0], x = n->in[0], y;
    *m = (match){.at = {.scale = 1}};
    if (g->value[p].sh.rank != 4 || (axis != 3 && axis != -1) || f->uses[p] != 1 || g->value[p].type != DTYPE_F32)
        return false;
    node_id mix = f->reader[p], k = g->value[x].from;
    if (!product_of(g, g->node[mix].out[0]) || g->node[mix].in[0] != p || ((const matmul_attrs *)g->node[mix].attr)->transB)
        return false;
    if (k && g->node[k].op == OP_ADD && f->uses[x] == 1) {
        bool left = shape_equal(&g->value[g->node[k].in[0]].sh, &g->value[x].sh) && g->value[g->node[k].in[0]].from;
        m->mask = g->node[k].in[left ? 1 : 0];
        x = g->node[k].in[left ? 0 : 1];
        k = g->value[x].from;
    }
    if (f->uses[x] == 1 && is_scaled(g, k, &y, &m->at.scale))
        x = y;
    node_id scores = f->uses[x] == 1 ? product_of(g, x) : 0;
    if (!scores || !shape_equal(&g->value[x].sh, &g->value[p].sh))
        return false;
    m->k = keys_of(g, scores, &m->at.k_tokens);
    m->q = tokens_first(g, g->node[scores].in[0], &m->at.q_tokens);
    m->v = tokens_first(g, g->node[mix].in[1], &m->at.v_tokens);
    m->last = mix;
    y = g->node[mix].out[0];
    if (f->uses[y] == 1 && is_transpose(g, f->reader[y], 0, 2, 1, 3)) {
        m->at.y_tokens = 1;
        m->last = f->reader[y];
    }
    return m->k != 0;
}

/* With `graded` the node makes the log sums too. */
static status replace(graph *g, const match *m, bool graded)
{
    value_id *out;
    attention_attrs *at;
    value_id *in;
    TRY(arena_alloc(&g->mem, &at, 1, sizeof *at));
    TRY(arena_alloc(&g->mem, &in, 4, sizeof *in));
    *at = m->at;
    in[0] = m->q;
    in[1] = m->k;
    in[2] = m->v;
    in[3] = m->mask;
    node *n = &g->node[m->last], was = *n;
    shape sh = g->value[n->out[0]].sh;
    n->op = OP_ATTENTION;
    n->attr = at;
    n->in = in;
    n->n_in = m->mask ? 4 : 3;
    if (op_of(OP_ATTENTION)->infer(g, n) == ST_OK && shape_equal(&sh, &g->value[n->out[0]].sh)) {
        if (!graded)
            return ST_OK;
        TRY(arena_alloc(&g->mem, &out, 2, sizeof *out));
        out[0] = was.out[0];
        TRY(graph_add_value(g, NULL, DTYPE_F32, (shape){0}, VALUE_TEMP, &out[1]));
        g->value[out[1]].from = m->last;
        n->out = out;
        n->n_out = 2;
        return op_of(OP_ATTENTION)->infer(g, n);
    }
    *n = was; /* heads are shared, or another thing that it does not do: left as it is */
    g->value[n->out[0]].sh = sh;
    return ST_OK;
}

/* A mask that depends on what is trained would want a gradient. */
static bool is_fixed(const graph *g, value_id v)
{
    return !v || g->value[v].kind == VALUE_CONST || g->value[v].kind == VALUE_INPUT;
}

static status fuse(graph *g, bool graded)
{
    finder f = {.g = g};
    match m;
    status st = ST_OK;
    TRY_DONE(graph_count_uses(g, &f.uses));
    TRY_DONE(mem_alloc(&f.reader, g->n_value, sizeof *f.reader));
    for (size_t k = 1; k < g->n_node; k++)
        for (int i = 0; i < g->node[k].n_in; i++)
            f.reader[g->node[k].in[i]] = (node_id)k;
    for (size_t k = 1; k < g->n_node; k++)
        if (g->node[k].op == OP_SOFTMAX && match_softmax(&f, (node_id)k, &m) && (!graded || is_fixed(g, m.mask)))
            TRY_DONE(replace(g, &m, graded));
done:
    mem_free(f.reader);
    mem_free(f.uses);
    return st;
}

status pass_fuse_attention(graph *g)
{
    TRY(fuse(g, false));
    TRY(pass_dead_nodes(g));
#ifndef NDEBUG
    TRY(graph_validate(g));
#endif
    return ST_OK;
}

status pass_fuse_attention_graded(graph *g)
{
    return fuse(g, true);
}
