/* keep_copies.c - weights that a step reads in a narrow type stay there in it, written by the optimizer with the parameters.
 *
 * In: a training graph after the layout and all passes that look at a weight's Reorder. Out: such a Reorder of the main phase is gone;
 * the twin that it made is a state of this executor (value_is_copy), which the node that updates the parameter writes too (op_desc.copy).
 * So the step reads no weight only to round it.
 *
 * A copy is what its parameter is as long as nothing else writes that on the device. store.written counts what writes there: the
 * host's numbers (start, resume, store_changed), exec_put, runs of every executor that writes. An executor whose copies were made for
 * another count makes all of them anew before it runs. A step that is skipped writes neither the parameter nor its copy. */
#include "exec/inside.h"

#include <string.h>

/* ---- which weights ---- */

typedef struct keeper {
    graph *g;
    const backend *b;
    uint32_t *writers;     /* [n_value] operands of nodes that write the value */
    node_id *writer;       /* [n_value] the last of these nodes */
    int *tuple;            /* [n_value] its operand */
    bool *late;            /* [n_value] a node of the update phase reads it */
    kernel_tensor *in;     /* operands of the widest node */
} keeper;

static void keeper_free(keeper *k)
{
    mem_free(k->writers);
    mem_free(k->writer);
    mem_free(k->tuple);
    mem_free(k->late);
    mem_free(k->in);
}

static status keeper_begin(graph *g, const backend *b, keeper *k)
{
    size_t widest = 1;
    *k = (keeper){.g = g, .b = b};
    TRY(mem_alloc(&k->writers, g->n_value, sizeof *k->writers));
    TRY(mem_alloc(&k->writer, g->n_value, sizeof *k->writer));
    TRY(mem_alloc(&k->tuple, g->n_value, sizeof *k->tuple));
    TRY(mem_alloc(&k->late, g->n_value, sizeof *k->late));
    for (node_id n = 1; n < g->n_node; n++) {
        const node *x = &g->node[n];
        const op_desc *d = op_of(x->op);
        const size_t room = (size_t)x->n_in + (size_t)d->tuple;
        widest = room > widest ? room : widest;
        for (int i = 0; i < x->n_in; i++) {
            k->late[x->in[i]] |= x->when == PHASE_UPDATE;
            if (!op_writes(d, i))
                continue;
            k->writers[x->in[i]]++;
            k->writer[x->in[i]] = n;
            k->tuple[x->in[i]] = i;
        }
    }
    return mem_alloc(&k->in, widest, sizeof *k->in);
}

static bool is_rounded(const graph *g, const node *n)
{
    return n->op == OP_REORDER && n->when == PHASE_MAIN && n->n_in == 1 && g->value[n->in[0]].kind == VALUE_PARAM &&
           g->value[n->in[0]].type == DTYPE_F32 && g->value[n->out[0]].narrow;
}

/* Operands of the node up to the end of its last tuple. */
static status fill_tuples(graph *g, node *n)
{
    const op_desc *d = op_of(n->op);
    const size_t count = (size_t)(n->n_in - d->head + d->tuple - 1) / (size_t)d->tuple, all = (size_t)d->head + count * (size_t)d->tuple;
    value_id *in;
    if (all == n->n_in)
        return ST_OK;
    if (all > UINT16_MAX)
        return fail(ST_INTERNAL, "node '%s' has %zu operands", n->name, all);
    TRY(arena_alloc(&g->mem, &in, all, sizeof *in));
    memcpy(in, n->in, n->n_in * sizeof *in);
    n->in = in;
    n->n_in = (uint16_t)all;
    return ST_OK;
}

/* Whether the one node that writes parameter p can write a copy of it: *at is where the copy stands among its operands. */
static status find_place(keeper *k, value_id p, value_id copy, node **writer, int *at)
{
    *writer = NULL;
    if (k->writers[p] != 1 || k->late[copy])
        return ST_OK;
    node *n = &k->g->node[k->writer[p]];
    const op_desc *d = op_of(n->op);
    *at = k->tuple[p] + d->copy;
    if (n->when != PHASE_UPDATE || !d->copy || (k->tuple[p] - d->head) % d->tuple != 0)
        return ST_OK;
    TRY(fill_tuples(k->g, n));
    *writer = n->in[*at] ? NULL : n; /* weights that are wanted in two ways keep one */
    return ST_OK;
}

static status keep(keeper *k, node *reorder)
{
    const value_id copy = reorder->out[0];
    kernel_tensor out[1];
    kernel_args a;
    node *n;
    int at;
    TRY(find_place(k, reorder->in[0], copy, &n, &at));
    if (!n)
        return ST_OK;
    n->in[at] = copy;
    plan_operands(k->g, n, k->in, out, &a);
    a.threads = k->b->threads;
    if (!k->b->find(k->b, n->op, &a)) {
        n->in[at] = 0;
        return ST_OK;
    }
    k->g->value[copy].kind = VALUE_STATE;
    k->g->value[copy].from = 0;
    reorder->op = OP_NONE;
    return ST_OK;
}

status pass_keep_copies(graph *g, const backend *b)
{
    keeper k;
    status st = ST_OK;
    if (!b->narrow || b->block != BLOCK_ALL || !b->remote)
        return ST_OK;
    TRY_DONE(keeper_begin(g, b, &k));
    for (node_id n = 1; n < g->n_node; n++)
        if (is_rounded(g, &g->node[n]))
            TRY_DONE(keep(&k, &g->node[n]));
    graph_sweep(g);
done:
    keeper_free(&k);
    return st;
}

/* ---- making them anew ---- */

typedef struct copy_step { /* the Reorder that a copy stands for */
    const kernel_row *row;
    kernel_tensor in, out;
} copy_step;
struct kept_copies {
    copy_step *at;
    size_t n;
    uint64_t fresh; /* store.written for which they are right; UINT64_MAX: none were made yet */
};

static kernel_args step_args(const exec *e, copy_step *s)
{
    return (kernel_args){.in = &s->in, .out = &s->out, .n_in = 1, .n_out = 1, .threads = e->b->threads, .queue = e->b->queue};
}

static kernel_tensor operand(const exec *e, value_id v)
{
    const value *x = &e->g->value[v];
    return (kernel_tensor){.data = e->data[v], .type = value_lies_in(x), .sh = x->sh, .block = x->block};
}

static status add_step(exec *e, value_id from, value_id to, size_t *cap)
{
    struct kept_copies *c = e->far->copies;
    TRY(mem_push(&c->at, cap, c->n, sizeof *c->at));
    copy_step *s = &c->at[c->n++];
    *s = (copy_step){.in = operand(e, from), .out = operand(e, to)};
    const kernel_args a = step_args(e, s);
    s->row = e->b->find(e->b, OP_REORDER, &a);
    return s->row && !s->row->workspace ? ST_OK : fail(ST_INTERNAL, "'%s' cannot be copied in another type", e->g->value[from].name);
}

status copies_open(exec *e)
{
    const graph *g = e->g;
    size_t cap = 0;
    if (!e->p->copies)
        return ST_OK;
    TRY(mem_alloc(&e->far->copies, 1, sizeof *e->far->copies));
    e->far->copies->fresh = UINT64_MAX;
    for (node_id k = 1; k < g->n_node; k++) {
        const node *n = &g->node[k];
        for (int i = 0; i < n->n_in; i++)
            if (n->in[i] && op_is_copy(op_of(n->op), i))
                TRY(add_step(e, n->in[i - op_of(n->op)->copy], n->in[i], &cap));
    }
    return ST_OK;
}

void copies_close(exec *e)
{
    struct kept_copies *c = e->far->copies;
    if (!c)
        return;
    mem_free(c->at);
    mem_free(c);
}

status copies_begin_run(exec *e)
{
    struct kept_copies *c = e->far->copies;
    if (c && c->fresh != e->s->written) {
        for (size_t i = 0; i < c->n; i++) {
            const kernel_args a = step_args(e, &c->at[i]);
            c->at[i].row->run(&a);
        }
        TRY(e->b->remote->wait(e->b)); /* before they count as made */
        c->fresh = e->s->written;
    }
    if (!e->far->mutates)
        return ST_OK;
    e->s->written++; /* for all others; its own are written in the run */
    if (c)
        c->fresh = e->s->written;
    return ST_OK;
}
