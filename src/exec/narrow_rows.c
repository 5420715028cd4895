/* narrow_rows.c - which plain tensors lie in the backend's narrow type (backend_narrow), and where they are rounded.
 *
 * In: a graph after the blocked layout. Out: nodes with kernels for it (kernel_row.narrow_in, narrow_out) read and make narrow
 * twins of their float32 values, in the order that these have; a Reorder stands where a value is needed in the type that it
 * does not have, once each way. A value's own id always means float32; constants are rounded here.
 *
 * It begins at matrix products (of sequences, of rows, of heads), whose operands would else be rounded for each product that reads
 * them, and goes on from there, forwards and backwards, as long as nothing larger has to be rounded for it than what it saves. What a
 * kernel gives in either type is narrow where a product reads it or where what it is added to is; else float32: so a stream of residuals
 * that only sums and norms read keeps all its bits (layers that normalise what they read), as do logits, scores that a softmax reads
 * and gradients of weights; where a norm stands after each sum, its result is the stream. */
#include "exec/internal.h"

#include <string.h>

typedef struct spread {
    graph *g;
    const backend *b;
    size_t n_value, n_node; /* before the pass */
    const kernel_row **row; /* [n_node] the kernel a node could have; NULL: none */
    bool *taken;            /* [n_node]: it has it */
    bool *made, *wanted;    /* [n_value]: its node makes it narrow; some node must have it so */
    value_id *twin;         /* [n_value]; 0: none (yet) */
    bool *exact;            /* [n_value]: the float32 tensor is there */
    kernel_tensor *in, *out; /* operands of the widest node */
    node *node;              /* the new nodes */
    size_t n_new, cap_new;
} spread;

/* What looks at numbers in another shape does so in any type. */
static const kernel_row view_row = {.narrow_in = 1, .narrow_out = 1};

static void spread_free(spread *s)
{
    mem_free(s->row);
    mem_free(s->taken);
    mem_free(s->made);
    mem_free(s->wanted);
    mem_free(s->twin);
    mem_free(s->exact);
    mem_free(s->in);
    mem_free(s->out);
    mem_free(s->node);
}

static status spread_begin(graph *g, const backend *b, spread *s)
{
    size_t widest = 1;
    *s = (spread){.g = g, .b = b, .n_value = g->n_value, .n_node = g->n_node};
    for (size_t k = 1; k < g->n_node; k++) {
        widest = g->node[k].n_in > widest ? g->node[k].n_in : widest;
        widest = g->node[k].n_out > widest ? g->node[k].n_out : widest;
    }
    TRY(mem_alloc(&s->row, g->n_node, sizeof *s->row));
    TRY(mem_alloc(&s->taken, g->n_node, sizeof *s->taken));
    TRY(mem_alloc(&s->made, g->n_value, sizeof *s->made));
    TRY(mem_alloc(&s->wanted, g->n_value, sizeof *s->wanted));
    TRY(mem_alloc(&s->twin, g->n_value, sizeof *s->twin));
    TRY(mem_alloc(&s->exact, g->n_value, sizeof *s->exact));
    TRY(mem_alloc(&s->in, widest, sizeof *s->in));
    TRY(mem_alloc(&s->out, widest, sizeof *s->out));
    for (size_t v = 0; v < g->n_value; v++) /* what no node makes is there */
        s->exact[v] = g->value[v].from == 0;
    return ST_OK;
}

/* Bit i of the mask, for an operand that is there. */
static bool in_mask(uint32_t mask, int i, value_id v)
{
    return v && i < 32 && mask >> i & 1;
}

/* ---- which nodes ---- */

static bool is_float(const value *v)
{
    return v->type == DTYPE_F32 && !v->block && !v->narrow;
}

static void find_rows(spread *s)
{
    const graph *g = s->g;
    for (node_id k = 1; k < s->n_node; k++) {
        const node *n = &g->node[k];
        kernel_args a;
        if (n->when != PHASE_MAIN || n->op == OP_REORDER)
            continue;
        if (op_of(n->op)->flags & OP_VIEW) {
            s->row[k] = n->in[0] && is_float(&g->value[n->in[0]]) ? &view_row : NULL;
            continue;
        }
        plan_operands(g, n, s->in, s->out, &a);
        a.threads = s->b->threads;
        s->row[k] = s->b->find_narrow(s->b, n->op, &a);
    }
}

/* Whether operand i of those that may lie in either type must be narrow all the same: tests want most of them so. */
static bool insists(const spread *s, node_id k, int i)
{
    return s->b->layout == LAYOUT_NARROW && (k + (node_id)i) % 4;
}

static bool must_in(const spread *s, node_id k, int i)
{
    const kernel_row *r = s->row[k];
    const value_id v = s->g->node[k].in[i];
    return in_mask(r->narrow_in, i, v) && (!in_mask(r->either_in, i, v) || insists(s, k, i)) && is_float(&s->g->value[v]);
}

static bool is_seed(const spread *s, node_id k)
{
    return s->b->layout == LAYOUT_NARROW || op_of(s->g->node[k].op)->macs;
}

/* Whether an operand lies narrow already (of a product: all that must), or a result is wanted so and rounding the operands is no
 * more work than rounding it. What looks at a tensor that will be rounded anyway looks at that. */
static bool follows(const spread *s, node_id k)
{
    const graph *g = s->g;
    const node *n = &g->node[k];
    int64_t rounded = 0, saved = 0;
    bool some = false;
    for (int i = 0; i < n->n_in; i++) {
        if (in_mask(s->row[k]->narrow_in, i, n->in[i]) &&
            (s->made[n->in[i]] || (s->wanted[n->in[i]] && s->row[k] == &view_row)))
            some = true;
        else if (must_in(s, k, i) && !s->wanted[n->in[i]])
            rounded += shape_count(&g->value[n->in[i]].sh);
    }
    for (int i = 0; i < n->n_out; i++)
        if (in_mask(s->row[k]->narrow_out, i, n->out[i]) && s->wanted[n->out[i]])
            saved += shape_count(&g->value[n->out[i]].sh);
    return saved ? rounded <= saved : some && (!rounded || !op_of(n->op)->macs);
}

/* A bias beside a product, of a row to which its type is not all the same: it lies in that of the result. */
static bool goes_with_result(const spread *s, node_id k, int i)
{
    const node *n = &s->g->node[k];
    return op_of(n->op)->macs && in_mask(s->row[k]->either_in, i, n->in[i]) && s->g->value[n->in[i]].kind == VALUE_PARAM;
}

/* Whether all that may lie in either type lies narrow: then a result in float32 would keep bits that its sums never had. */
static bool is_of_narrow(const spread *s, node_id k)
{
    const node *n = &s->g->node[k];
    bool some = false;
    for (int i = 0; i < n->n_in; i++) {
        if (!in_mask(s->row[k]->either_in, i, n->in[i]) || goes_with_result(s, k, i))
            continue;
        if (!s->made[n->in[i]])
            return false;
        some = true;
    }
    return some;
}

/* Node k has its narrow row; true when that changes something. */
static bool settle(spread *s, node_id k)
{
    const node *n = &s->g->node[k];
    const kernel_row *r = s->row[k];
    bool changed = !s->taken[k];
    s->taken[k] = true;
    for (int i = 0; i < n->n_in; i++)
        if (must_in(s, k, i))
            s->wanted[n->in[i]] = true;
    for (int i = 0; i < n->n_out; i++) {
        const value_id v = n->out[i];
        const bool makes = in_mask(r->narrow_out, i, v) &&
                           (!in_mask(r->either_out, i, v) || s->wanted[v] || insists(s, k, i) || is_of_narrow(s, k));
        changed |= makes && !s->made[v];
        s->made[v] |= makes;
    }
    return changed;
}

static void choose_nodes(spread *s)
{
    find_rows(s);
    for (bool changed = true; changed;) { /* each round settles a node or a value, or ends */
        changed = false;
        for (node_id k = 1; k < s->n_node; k++)
            if (s->row[k] && (s->taken[k] || is_seed(s, k) || follows(s, k)))
                changed |= settle(s, k);
        for (node_id k = (node_id)s->n_node; k-- > 1;) /* what is wanted goes backwards */
            if (s->row[k] && (s->taken[k] || follows(s, k)))
                changed |= settle(s, k);
    }
}

/* A node that may take either type and has nothing narrow keeps its plain row. */
static bool has_narrow(const spread *s, node_id k)
{
    const node *n = &s->g->node[k];
    for (int i = 0; s->taken[k] && i < n->n_in; i++)
        if (must_in(s, k, i) || (in_mask(s->row[k]->narrow_in, i, n->in[i]) && s->made[n->in[i]]))
            return true;
    for (int i = 0; s->taken[k] && i < n->n_out; i++)
        if (n->out[i] && s->made[n->out[i]])
            return true;
    return false;
}

/* ---- the new graph ---- */

static status push_node(spread *s, const node *n)
{
    TRY(mem_push(&s->node, &s->cap_new, s->n_new, sizeof *s->node));
    s->node[s->n_new++] = *n;
    return ST_OK;
}

/* Runs in the phase that makes the tensor. */
static status push_reorder(spread *s, value_id from, value_id to)
{
    node n = {.op = OP_REORDER, .n_in = 1, .n_out = 1, .when = PHASE_MAIN};
    TRY(arena_printf(&s->g->mem, &n.name, "Round_%zu", s->n_new));
    TRY(arena_alloc(&s->g->mem, &n.in, 1, sizeof *n.in));
    TRY(arena_alloc(&s->g->mem, &n.out, 1, sizeof *n.out));
    n.in[0] = from;
    n.out[0] = to;
    return push_node(s, &n);
}

static status add_twin(spread *s, value_id v)
{
    const value x = s->g->value[v];
    TRY(graph_add_value(s->g, NULL, x.type, x.sh, VALUE_TEMP, &s->twin[v]));
    s->g->value[s->twin[v]].narrow = s->b->narrow;
    return ST_OK;
}

/* The twin of a constant becomes one. */
static status fix_twin(spread *s, value_id v)
{
    const value x = s->g->value[v];
    value *t = &s->g->value[s->twin[v]];
    const int64_t n = shape_count(&x.sh);
    unsigned char *data;
    TRY(arena_alloc(&s->g->mem, &data, (size_t)(n ? n : 1), dtype_of(t->narrow)->size));
    for (int64_t i = 0; i < n; i++)
        dtype_store(t->narrow, data, i, dtype_load(x.type, x.data, i));
    t->kind = VALUE_CONST;
    t->data = data;
    return ST_OK;
}

static status need_narrow(spread *s, value_id v)
{
    if (s->twin[v])
        return ST_OK;
    TRY(add_twin(s, v));
    if (s->g->value[v].kind == VALUE_CONST && s->g->value[v].data)
        return fix_twin(s, v);
    return push_reorder(s, v, s->twin[v]);
}

static status need_exact(spread *s, value_id v)
{
    if (!v || s->exact[v])
        return ST_OK;
    s->exact[v] = true;
    return push_reorder(s, s->twin[v], v);
}

static status take_node(spread *s, node_id k)
{
    node n = s->g->node[k];
    const bool narrow = has_narrow(s, k);
    for (int i = 0; i < n.n_in; i++) {
        const value_id v = n.in[i];
        const bool must = narrow && (must_in(s, k, i) || (goes_with_result(s, k, i) && s->made[n.out[0]]));
        const bool may = narrow && in_mask(s->row[k]->narrow_in, i, v) && s->made[v];
        if (must)
            TRY(need_narrow(s, v));
        else if (!may)
            TRY(need_exact(s, v));
        n.in[i] = must || may ? s->twin[v] : v;
    }
    for (int i = 0; i < n.n_out; i++) {
        const value_id v = n.out[i];
        if (v && narrow && s->made[v]) {
            TRY(add_twin(s, v));
            n.out[i] = s->twin[v];
        } else if (v) {
            s->exact[v] = true;
        }
    }
    return push_node(s, &n);
}

static bool is_of_main_phase(const spread *s, value_id v)
{
    node_id k = s->g->value[v].from;
    return k && s->g->node[k].when == PHASE_MAIN;
}

/* What the update phase reads, and what leaves, has to be there when the main phase ends. */
static status end_main_phase(spread *s)
{
    const graph *g = s->g;
    for (node_id k = 1; k < s->n_node; k++)
        for (int i = 0; g->node[k].when == PHASE_UPDATE && i < g->node[k].n_in; i++)
            if (is_of_main_phase(s, g->node[k].in[i]))
                TRY(need_exact(s, g->node[k].in[i]));
    for (size_t i = 0; i < g->n_output; i++)
        if (is_of_main_phase(s, g->output[i]))
            TRY(need_exact(s, g->output[i]));
    return ST_OK;
}

status pass_narrow_rows(graph *g, const backend *b)
{
    bool ended = false;
    spread s;
    status st = ST_OK;
    if (!b->narrow || !b->find_narrow || b->layout == LAYOUT_PLAIN)
        return ST_OK;
    TRY_DONE(spread_begin(g, b, &s));
    choose_nodes(&s);
    TRY_DONE(push_node(&s, &g->node[0]));
    for (node_id k = 1; k < s.n_node; k++) {
        if (!ended && g->node[k].when == PHASE_UPDATE) {
            TRY_DONE(end_main_phase(&s));
            ended = true;
        }
        TRY_DONE(take_node(&s, k));
    }
    if (!ended)
        TRY_DONE(end_main_phase(&s));
    mem_free(g->node);
    g->node = s.node;
    g->n_node = s.n_new;
    g->cap_node = s.cap_new;
    s.node = NULL;
    graph_refresh_from(g);
done:
    spread_free(&s);
    return st;
}
