/* recompute.c - activations that are computed a second time instead of being kept.
 *
 * In: a training graph as the backend runs it. Out: the same graph with fewer bytes alive at once: where memory is
 * shortest, a value that only later nodes read again is dropped, and the nodes that make it run once more just before the
 * first of those readers. Duplicates are the same kernels on the same operands: every result keeps its bits.
 *
 * Greedy, as in Chen et al., "Training deep nets with sublinear memory cost" (2016), section 4, with a price: again and
 * again the place with the most bytes alive is found, and of the values that merely live through it the one with the most
 * bytes for the work of making it again goes. Making it again may take a chain of nodes, back to what is alive there. Nodes
 * that write into their inputs, and those that read what is written so, run once only. */
#include "exec/internal.h"

#include <string.h>

#define LEAST_GAIN     4096 /* bytes; smaller values are not worth a node */
#define MACS_OF_A_BYTE 5    /* multiply-accumulates that cost what moving a byte costs */
#define CHAIN_MAX      256

typedef struct recompute {
    graph *g;
    arena mem;          /* of one round */
    value_id *view_of;  /* [n_value] the value whose bytes it is: itself, or what it views */
    value_id *root;     /* [n_value] as plan.root */
    size_t *last;       /* [n_value] of view_of values: the last node that reads it; n_node for outputs */
    size_t *next;       /* [n_value] likewise: the first node after `peak` that touches it; 0: none */
    bool *held;         /* [n_value] likewise: touched by the node at the peak, or by the update phase */
    bool *written;      /* [n_value] by a node of the main phase */
    size_t peak, bytes; /* where the most is alive, and how much */
    value_id *map;      /* [n_value] twin of a value in the chain */
    bool *chosen;       /* [n_node] in the chain */
    node_id *chain;     /* [CHAIN_MAX] */
    size_t n_chain;
} recompute;

static status begin_round(recompute *r)
{
    const graph *g = r->g;
    arena_free(&r->mem);
    r->n_chain = 0;
    TRY(arena_alloc(&r->mem, &r->view_of, g->n_value, sizeof *r->view_of));
    TRY(arena_alloc(&r->mem, &r->root, g->n_value, sizeof *r->root));
    TRY(arena_alloc(&r->mem, &r->last, g->n_value, sizeof *r->last));
    TRY(arena_alloc(&r->mem, &r->next, g->n_value, sizeof *r->next));
    TRY(arena_alloc(&r->mem, &r->held, g->n_value, sizeof *r->held));
    TRY(arena_alloc(&r->mem, &r->written, g->n_value, sizeof *r->written));
    TRY(arena_alloc(&r->mem, &r->map, g->n_value, sizeof *r->map));
    TRY(arena_alloc(&r->mem, &r->chosen, g->n_node, sizeof *r->chosen));
    TRY(arena_alloc(&r->mem, &r->chain, CHAIN_MAX, sizeof *r->chain));
    for (size_t v = 0; v < g->n_value; v++)
        r->view_of[v] = (value_id)v;
    for (size_t k = 1; k < g->n_node; k++) {
        const node *n = &g->node[k];
        if (op_of(n->op)->flags & OP_VIEW)
            r->view_of[n->out[0]] = r->view_of[n->in[0]];
        for (int i = 0; i < n->n_in; i++)
            if (n->in[i] && n->when == PHASE_MAIN && op_writes(op_of(n->op), i))
                r->written[r->view_of[n->in[i]]] = true;
    }
    return plan_share_storage(g, r->root);
}

/* Where the most bytes are alive, by the plan's storages. */
static status find_peak(recompute *r)
{
    const graph *g = r->g;
    size_t *first, *last, *born, *dead, alive = 0;
    TRY(arena_alloc(&r->mem, &first, g->n_value, sizeof *first));
    TRY(arena_alloc(&r->mem, &last, g->n_value, sizeof *last));
    TRY(arena_alloc(&r->mem, &born, g->n_node + 1, sizeof *born));
    TRY(arena_alloc(&r->mem, &dead, g->n_node + 1, sizeof *dead));
    for (size_t k = 1; k < g->n_node; k++) {
        const node *n = &g->node[k];
        for (int i = 0; i < n->n_in; i++)
            last[r->root[n->in[i]]] = k;
        for (int i = 0; i < n->n_out; i++) {
            value_id v = r->root[n->out[i]];
            first[v] = first[v] ? first[v] : k;
            last[v] = k;
        }
    }
    for (size_t i = 0; i < g->n_output; i++)
        last[r->root[g->output[i]]] = g->n_node;
    for (size_t v = 1; v < g->n_value; v++) {
        bool input = g->value[v].kind == VALUE_INPUT;
        if (r->root[v] != v || !(input || (g->value[v].kind == VALUE_TEMP && first[v])))
            continue;
        born[input ? 1 : first[v]] += plan_value_bytes(&g->value[v]);
        dead[input ? g->n_node : last[v]] += plan_value_bytes(&g->value[v]);
    }
    r->bytes = r->peak = 0;
    for (size_t k = 1; k < g->n_node; k++) {
        alive += born[k];
        if (alive > r->bytes) {
            r->bytes = alive;
            r->peak = k;
        }
        alive -= dead[k];
    }
    return ST_OK;
}

/* What happens to every value at the peak and after it. */
static void look_ahead(recompute *r)
{
    const graph *g = r->g;
    for (size_t k = 1; k < g->n_node; k++) {
        const node *n = &g->node[k];
        for (int i = 0; i < n->n_in + n->n_out; i++) {
            value_id v = r->view_of[i < n->n_in ? n->in[i] : n->out[i - n->n_in]];
            r->held[v] |= k == r->peak || n->when == PHASE_UPDATE;
            r->last[v] = k;
            if (k > r->peak && !r->next[v])
                r->next[v] = k;
        }
    }
    for (size_t i = 0; i < g->n_output; i++) {
        r->held[r->view_of[g->output[i]]] = true;
        r->last[r->view_of[g->output[i]]] = g->n_node;
    }
}

/* ---- the chain that makes a value again ---- */

/* Whether v can be read at the place of insertion as it is, where `gone` is dropped. */
static bool is_there(const recompute *r, value_id v, value_id gone)
{
    const value *x = &r->g->value[r->view_of[v]];
    if (x->kind != VALUE_TEMP)
        return true;
    return r->view_of[v] != gone && x->from <= r->peak && r->last[r->view_of[v]] >= r->peak;
}

static bool may_run_again(const recompute *r, const node *n)
{
    if (n->when != PHASE_MAIN || op_of(n->op)->flags & OP_MUTATES)
        return false;
    for (int i = 0; i < n->n_in; i++)
        if (r->written[r->view_of[n->in[i]]])
            return false;
    return true;
}

static bool add_to_chain(recompute *r, node_id k)
{
    if (r->chosen[k])
        return true;
    if (r->n_chain == CHAIN_MAX || !may_run_again(r, &r->g->node[k]))
        return false;
    r->chosen[k] = true;
    r->chain[r->n_chain++] = k;
    return true;
}

static double node_work(const graph *g, const node *n)
{
    const op_desc *d = op_of(n->op);
    if (d->flags & OP_VIEW)
        return 0;
    return plan_node_bytes(g, n) + (d->macs ? d->macs(g, n) / MACS_OF_A_BYTE : 0);
}

/* Finds the nodes that make `gone`, and the views of it that are read after the peak, again. *work: what they cost. False:
 * it cannot be made again. */
static bool find_chain(recompute *r, value_id gone, double *work)
{
    const graph *g = r->g;
    bool possible = true;
    *work = 0;
    for (size_t i = 0; i < r->n_chain; i++)
        r->chosen[r->chain[i]] = false;
    r->n_chain = 0;
    for (size_t k = r->next[gone]; k <= r->last[gone] && k < g->n_node; k++)
        for (int i = 0; i < g->node[k].n_in && possible; i++) {
            value_id v = g->node[k].in[i];
            if (v && r->view_of[v] == gone && g->value[v].from < r->next[gone])
                possible = add_to_chain(r, g->value[v].from);
        }
    for (size_t at = 0; at < r->n_chain && possible; at++) { /* it grows meanwhile */
        const node *n = &g->node[r->chain[at]];
        *work += node_work(g, n);
        for (int i = 0; i < n->n_in && possible; i++)
            if (n->in[i] && !is_there(r, n->in[i], gone))
                possible = add_to_chain(r, g->value[n->in[i]].from);
    }
    return possible && r->n_chain > 0;
}

/* The value whose bytes at the peak cost least to do without; 0: none can go. */
static value_id choose(recompute *r)
{
    const graph *g = r->g;
    value_id best = 0;
    double best_rate = 0, work;
    for (size_t v = 1; v < g->n_value; v++) {
        const value *x = &g->value[v];
        if (x->kind != VALUE_TEMP || r->view_of[v] != v || !x->from || x->from >= r->peak || r->held[v] || !r->next[v])
            continue;
        double bytes = (double)plan_value_bytes(x);
        if (bytes < LEAST_GAIN || !find_chain(r, (value_id)v, &work) || bytes <= best_rate * work)
            continue;
        best = (value_id)v;
        best_rate = bytes / work;
    }
    return best;
}

/* ---- the new nodes ---- */

static status duplicate(recompute *r, node_id k, node *out)
{
    graph *g = r->g;
    node n = g->node[k], twin = n;
    TRY(arena_printf(&g->mem, &twin.name, "%s, again", n.name));
    TRY(arena_alloc(&g->mem, &twin.in, n.n_in, sizeof *twin.in));
    TRY(arena_alloc(&g->mem, &twin.out, n.n_out, sizeof *twin.out));
    for (int i = 0; i < n.n_in; i++)
        twin.in[i] = r->map[n.in[i]] ? r->map[n.in[i]] : n.in[i];
    for (int i = 0; i < n.n_out; i++) {
        if (!n.out[i])
            continue;
        value x = g->value[n.out[i]];
        TRY(graph_add_value(g, NULL, x.type, x.sh, VALUE_TEMP, &twin.out[i]));
        g->value[twin.out[i]].block = x.block;
        g->value[twin.out[i]].narrow = x.narrow;
        r->map[n.out[i]] = twin.out[i];
    }
    *out = twin;
    return ST_OK;
}

/* Runs the chain again before the next reader; from there on its results are read. */
static status insert_chain(recompute *r, value_id gone, recomputation *sum)
{
    graph *g = r->g;
    size_t at = r->next[gone], old = g->n_node, made = 0, n_value = g->n_value;
    node *twins;
    TRY(arena_alloc(&r->mem, &twins, r->n_chain, sizeof *twins));
    for (node_id k = 1; k < at; k++)
        if (r->chosen[k]) {
            const op_desc *d = op_of(g->node[k].op);
            sum->macs += d->macs ? d->macs(g, &g->node[k]) : 0;
            sum->nodes += !(d->flags & OP_VIEW);
            TRY(duplicate(r, k, &twins[made++]));
        }
    if (old + made > g->cap_node) {
        TRY(mem_grow(&g->node, old + 2 * made, sizeof *g->node));
        g->cap_node = old + 2 * made;
    }
    for (size_t k = at; k < old; k++)
        for (int i = 0; i < g->node[k].n_in; i++) {
            value_id v = g->node[k].in[i];
            if (v < n_value && r->view_of[v] == gone && r->map[v])
                g->node[k].in[i] = r->map[v];
        }
    memmove(g->node + at + made, g->node + at, (old - at) * sizeof *g->node);
    memcpy(g->node + at, twins, made * sizeof *twins);
    g->n_node = old + made;
    graph_refresh_from(g);
    return ST_OK;
}

status pass_recompute(graph *g, size_t target, recomputation *sum, bool *reached)
{
    enum { PATIENCE = 64 }; /* rounds without a new minimum */
    recompute r = {.g = g};
    size_t most = 4 * g->n_node, least = SIZE_MAX;
    double work;
    status st = ST_OK;
    *reached = false;
    for (int stale = 0; g->n_node < most && stale < PATIENCE; stale++) {
        TRY_DONE(begin_round(&r));
        TRY_DONE(find_peak(&r));
        *reached = r.bytes <= target;
        if (r.bytes < least) {
            least = r.bytes;
            stale = 0;
        }
        if (*reached)
            break;
        look_ahead(&r);
        value_id gone = choose(&r);
        if (!gone || !find_chain(&r, gone, &work))
            break;
        TRY_DONE(insert_chain(&r, gone, sum));
    }
done:
    arena_free(&r.mem);
    return st;
}
