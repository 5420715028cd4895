/* layout.c - which nodes work on blocked tensors, and where tensors change from one layout to the other.
 *
 * In: a graph whose values all lie plain. Out: the nodes for which the backend has blocked kernels (kernel.h) read and
 * make blocked twins of their values; a Reorder stands where a value is needed in the layout that it does not have, once
 * each way. A value's own id always means the plain tensor; twins are new values.
 *
 * On a backend that computes in narrow types (backend_narrow) a twin lies in that type as well: one Reorder changes both. Twins
 * of constants (a frozen model's weights) are made here, as constants.
 *
 * Regions begin at the nodes that do the arithmetic (those with multiply-accumulates) whose channels fill their blocks
 * well enough; other nodes follow where an operand lies blocked already, or where their only use does. */
#include "exec/internal.h"

#include <string.h>

#define FILLED_ENOUGH 0.5 /* channels over the channels of their blocks */

typedef struct layout {
    graph *g;
    const backend *b;
    size_t n_value, n_node; /* before the pass */
    const kernel_row **row; /* [n_node]: the blocked kernel a node could have; NULL: none */
    bool *blocked;          /* [n_node]: it has it */
    value_id *twin;         /* [n_value]: the blocked tensor; 0: none (yet) */
    bool *plain;            /* [n_value]: the plain tensor is there */
    bool *wanted;           /* [n_value]: some node reads it blocked */
    kernel_tensor *in, *out; /* operands of the widest node */
    node *node;             /* the new nodes */
    size_t n_new, cap_new;
} layout;

static void layout_free(layout *l)
{
    mem_free(l->row);
    mem_free(l->blocked);
    mem_free(l->twin);
    mem_free(l->plain);
    mem_free(l->wanted);
    mem_free(l->in);
    mem_free(l->out);
    mem_free(l->node);
}

static status layout_begin(graph *g, const backend *b, layout *l)
{
    size_t widest = 1;
    *l = (layout){.g = g, .b = b, .n_value = g->n_value, .n_node = g->n_node};
    for (size_t k = 1; k < g->n_node; k++) {
        widest = g->node[k].n_in > widest ? g->node[k].n_in : widest;
        widest = g->node[k].n_out > widest ? g->node[k].n_out : widest;
    }
    TRY(mem_alloc(&l->row, g->n_node, sizeof *l->row));
    TRY(mem_alloc(&l->blocked, g->n_node, sizeof *l->blocked));
    TRY(mem_alloc(&l->twin, g->n_value, sizeof *l->twin));
    TRY(mem_alloc(&l->plain, g->n_value, sizeof *l->plain));
    TRY(mem_alloc(&l->wanted, g->n_value, sizeof *l->wanted));
    TRY(mem_alloc(&l->in, widest, sizeof *l->in));
    TRY(mem_alloc(&l->out, widest, sizeof *l->out));
    for (size_t v = 0; v < g->n_value; v++) /* what no node makes is there */
        l->plain[v] = g->value[v].from == 0;
    return ST_OK;
}

/* Bit i of the mask, for an operand that is there. */
static bool in_mask(uint32_t mask, int i, value_id v)
{
    return v && i < 32 && mask >> i & 1;
}

/* ---- which nodes ---- */

static bool fills_blocks(const layout *l, value_id v)
{
    int64_t c = l->g->value[v].sh.dim[1], b = backend_block(l->b, c);
    return b && (double)c >= FILLED_ENOUGH * (double)((c + b - 1) / b * b);
}

/* Whether all channels of the blocked operands fill their blocks well enough. */
static bool is_filled(const layout *l, node_id k)
{
    const node *n = &l->g->node[k];
    const kernel_row *r = l->row[k];
    for (int i = 0; i < n->n_in; i++)
        if (in_mask(r->blocked_in, i, n->in[i]) && !fills_blocks(l, n->in[i]))
            return false;
    for (int i = 0; i < n->n_out; i++)
        if (in_mask(r->blocked_out, i, n->out[i]) && !fills_blocks(l, n->out[i]))
            return false;
    return true;
}

static bool has_arithmetic(const layout *l, node_id k)
{
    return op_of(l->g->node[k].op)->macs != NULL;
}

static bool made_blocked(const layout *l, value_id v)
{
    node_id k = l->g->value[v].from;
    if (!k || !l->blocked[k])
        return false;
    for (int i = 0; i < l->g->node[k].n_out; i++)
        if (l->g->node[k].out[i] == v)
            return in_mask(l->row[k]->blocked_out, i, v);
    return false;
}

/* Whether an operand that is to be blocked lies so already; for nodes without such operands, whether what they make is
 * wanted blocked. */
static bool follows(const layout *l, node_id k)
{
    const node *n = &l->g->node[k];
    const kernel_row *r = l->row[k];
    for (int i = 0; i < n->n_in; i++)
        if (in_mask(r->blocked_in, i, n->in[i]) && made_blocked(l, n->in[i]))
            return true;
    for (int i = 0; !r->blocked_in && i < n->n_out; i++)
        if (in_mask(r->blocked_out, i, n->out[i]) && l->wanted[n->out[i]])
            return true;
    return false;
}

/* Records that node k is blocked. */
static void settle(layout *l, node_id k)
{
    const node *n = &l->g->node[k];
    l->blocked[k] = true;
    for (int i = 0; i < n->n_in; i++)
        if (in_mask(l->row[k]->blocked_in, i, n->in[i]))
            l->wanted[n->in[i]] = true;
}

static void choose_nodes(layout *l)
{
    const graph *g = l->g;
    bool all = l->b->layout == LAYOUT_BLOCKED;
    for (node_id k = 1; k < l->n_node; k++) {
        kernel_args a;
        plan_operands(g, &g->node[k], l->in, l->out, &a);
        a.threads = l->b->threads;
        if (!(op_of(g->node[k].op)->flags & OP_VIEW))
            l->row[k] = l->b->find_blocked(l->b, g->node[k].op, &a);
        if (l->row[k] && !all && has_arithmetic(l, k) && !is_filled(l, k))
            l->row[k] = NULL;
        if (l->row[k] && (all || has_arithmetic(l, k)))
            settle(l, k);
    }
    for (bool changed = true; changed;) { /* each round settles a node or ends */
        changed = false;
        for (node_id k = 1; k < l->n_node; k++)
            if (l->row[k] && !l->blocked[k] && follows(l, k)) {
                settle(l, k);
                changed = true;
            }
    }
}

/* ---- the new graph ---- */

static status push_node(layout *l, const node *n)
{
    TRY(mem_push(&l->node, &l->cap_new, l->n_new, sizeof *l->node));
    l->node[l->n_new++] = *n;
    return ST_OK;
}

static status push_reorder(layout *l, value_id from, value_id to, phase when)
{
    node n = {.op = OP_REORDER, .n_in = 1, .n_out = 1, .when = when};
    TRY(arena_printf(&l->g->mem, &n.name, "Reorder_%zu", l->n_new));
    TRY(arena_alloc(&l->g->mem, &n.in, 1, sizeof *n.in));
    TRY(arena_alloc(&l->g->mem, &n.out, 1, sizeof *n.out));
    n.in[0] = from;
    n.out[0] = to;
    return push_node(l, &n);
}

static status add_twin(layout *l, value_id v)
{
    value x = l->g->value[v];
    TRY(graph_add_value(l->g, NULL, x.type, x.sh, VALUE_TEMP, &l->twin[v]));
    l->g->value[l->twin[v]].block = backend_block(l->b, x.sh.dim[1]);
    l->g->value[l->twin[v]].narrow = x.type == DTYPE_F32 ? l->b->narrow : DTYPE_NONE;
    return ST_OK;
}

/* A reorder runs in the phase that makes the tensor. */
static phase made_in(const layout *l, value_id v)
{
    node_id k = l->g->value[v].from;
    return k ? l->g->node[k].when : PHASE_MAIN;
}

/* Whether the blocked twin of v can be made here, once, and not by a Reorder in every run. */
static bool is_fixed(const layout *l, value_id v)
{
    const value *x = &l->g->value[v];
    return x->kind == VALUE_CONST && x->data && x->type == DTYPE_F32 && l->b->narrow && l->b->block == BLOCK_ALL;
}

/* The twin of constant v, [N, C, pixels], becomes a constant [N, pixels, C]. */
static status fix_twin(layout *l, value_id v)
{
    const value x = l->g->value[v];
    value *t = &l->g->value[l->twin[v]];
    const int64_t n = shape_count(&x.sh), channels = x.sh.dim[1], pixels = n ? n / x.sh.dim[0] / channels : 0;
    unsigned char *data;
    TRY(arena_alloc(&l->g->mem, &data, (size_t)(n ? n : 1), dtype_of(t->narrow)->size));
    for (int64_t i = 0; i < n; i++) { /* row: an image's channel */
        const int64_t row = i / pixels, image = row / channels;
        dtype_store(t->narrow, data, (image * pixels + i % pixels) * channels + row % channels, dtype_load(x.type, x.data, i));
    }
    t->kind = VALUE_CONST;
    t->data = data;
    return ST_OK;
}

static status need_blocked(layout *l, value_id v)
{
    if (l->twin[v])
        return ST_OK;
    TRY(add_twin(l, v));
    if (is_fixed(l, v))
        return fix_twin(l, v);
    return push_reorder(l, v, l->twin[v], made_in(l, v));
}

static status need_plain(layout *l, value_id v)
{
    if (!v || l->plain[v])
        return ST_OK;
    l->plain[v] = true;
    return push_reorder(l, l->twin[v], v, made_in(l, v));
}

static status take_node(layout *l, node_id k)
{
    node n = l->g->node[k];
    const kernel_row *r = l->blocked[k] ? l->row[k] : NULL;
    for (int i = 0; i < n.n_in; i++) {
        bool b = r && in_mask(r->blocked_in, i, n.in[i]);
        TRY(b ? need_blocked(l, n.in[i]) : need_plain(l, n.in[i]));
        n.in[i] = b ? l->twin[n.in[i]] : n.in[i];
    }
    for (int i = 0; i < n.n_out; i++) {
        if (r && in_mask(r->blocked_out, i, n.out[i])) {
            TRY(add_twin(l, n.out[i]));
            n.out[i] = l->twin[n.out[i]];
        } else if (n.out[i]) {
            l->plain[n.out[i]] = true;
        }
    }
    return push_node(l, &n);
}

/* What the update phase reads has to be there when the main phase ends. */
static status end_main_phase(layout *l)
{
    for (node_id k = 1; k < l->n_node; k++)
        for (int i = 0; l->g->node[k].when == PHASE_UPDATE && i < l->g->node[k].n_in; i++) {
            value_id v = l->g->node[k].in[i];
            if (made_in(l, v) == PHASE_MAIN)
                TRY(need_plain(l, v));
        }
    for (size_t i = 0; i < l->g->n_output; i++)
        if (made_in(l, l->g->output[i]) == PHASE_MAIN)
            TRY(need_plain(l, l->g->output[i]));
    return ST_OK;
}

static status lay_blocks(graph *g, const backend *b)
{
    bool ended = false;
    layout l;
    status st = ST_OK;
    if (!b->block || b->layout == LAYOUT_PLAIN || b->layout == LAYOUT_NARROW)
        return ST_OK;
    TRY_DONE(layout_begin(g, b, &l));
    choose_nodes(&l);
    TRY_DONE(push_node(&l, &g->node[0]));
    for (node_id k = 1; k < l.n_node; k++) {
        if (!ended && g->node[k].when == PHASE_UPDATE) {
            TRY_DONE(end_main_phase(&l));
            ended = true;
        }
        TRY_DONE(take_node(&l, k));
    }
    if (!ended)
        TRY_DONE(end_main_phase(&l));
    mem_free(g->node);
    g->node = l.node;
    g->n_node = l.n_new;
    g->cap_node = l.cap_new;
    l.node = NULL;
    graph_refresh_from(g);
done:
    layout_free(&l);
    return st;
}

status pass_layout(graph *g, const backend *b)
{
    TRY(lay_blocks(g, b));
    return pass_narrow_rows(g, b);
}
