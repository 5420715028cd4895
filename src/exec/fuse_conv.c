/* fuse_conv.c - batch norms whose result only convolutions read are computed while these take in their data.
 *
 * In: a lowered graph in its final layouts. Where y = relu(batch norm (x)) lies blocked and is read by nobody but
 *     Conv, ConvGradWeight    as their data: they become NormConv, NormConvGradWeight of x
 *     BatchNormGrad           to see where the relu is flat: it can tell from x
 * y is made no more: of a BatchNormTrain stay the BatchNormMoments, of a BatchNormalization nothing. Every reader has to have
 * a kernel for its new form, which the backend's tables say: of narrow values too, and the kernels refuse what would cost more. */
#include "exec/internal.h"
#include "ops/attrs.h"

#include <string.h>

enum { INPUTS_MOST = 8 };

typedef struct reader_rule { /* how an operator that reads y as in[0] reads x instead */
    op_id op, to;
    int first, least; /* where the norm's operands come; inputs at least */
} reader_rule;
static const reader_rule rules[] = {{OP_CONV, OP_NORM_CONV, 4, 2}, {OP_CONV_GRAD_WEIGHT, OP_NORM_CONV_GRAD_WEIGHT, 2, 2}};

typedef struct norm_rule { /* where a norm has its operands */
    op_id op;
    int mean, var; /* outputs, or inputs */
    bool of_batch; /* outputs */
} norm_rule;
static const norm_rule norms[] = {{OP_BATCH_NORM_TRAIN, 1, 2, true}, {OP_BATCH_NORM, 3, 4, false}};

typedef struct fusion {
    graph *g;
    const backend *b;
    uint32_t *uses;
    node_id *next; /* [n_node * INPUTS_MOST] chains of uses: 1 + node * INPUTS_MOST + input; 0 ends */
    node_id *head; /* [n_value] */
} fusion;

static const reader_rule *rule_of(op_id op)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (rules[i].op == op)
            return &rules[i];
    return NULL;
}

static const norm_rule *norm_of(op_id op)
{
    for (size_t i = 0; i < sizeof norms / sizeof *norms; i++)
        if (norms[i].op == op)
            return &norms[i];
    return NULL;
}

/* Node n with x and the norm's operands in place of its data. */
static node normed_reader(const node *n, const reader_rule *r, const node *norm, value_id *in, conv_attrs *at)
{
    const norm_rule *from = norm_of(norm->op);
    const batch_norm_attrs *bn = norm->attr;
    const value_id *stats = from->of_batch ? norm->out : norm->in;
    node made = *n;
    memset(in, 0, INPUTS_MOST * sizeof *in);
    memcpy(in, n->in, (size_t)n->n_in * sizeof *in);
    in[0] = norm->in[0];
    in[r->first] = stats[from->mean];
    in[r->first + 1] = stats[from->var];
    in[r->first + 2] = norm->in[1];
    in[r->first + 3] = norm->in[2];
    *at = *(const conv_attrs *)n->attr;
    at->norm_epsilon = bn->epsilon;
    at->norm_relu = bn->relu;
    at->norm_ceiling = bn->ceiling;
    made.op = r->to;
    made.in = in;
    made.n_in = (uint16_t)(r->first + 4);
    made.attr = at;
    return made;
}

/* BatchNormGrad that reads y, its in[5], of this norm and no residual: can do without. */
static bool can_do_without(const node *n, int input)
{
    return n->op == OP_BATCH_NORM_GRAD && input == 5 && n->n_in > 6 && n->in[6] && (n->n_out < 4 || !n->out[3]);
}

/* Whether every reader of y can read x. */
static bool is_fusible(const fusion *f, const node *norm)
{
    value_id y = norm->out[0], in[INPUTS_MOST];
    uint32_t found = 0;
    bool convolves = false;
    conv_attrs at;
    for (node_id u = f->head[y]; u; u = f->next[u - 1], found++) {
        const node *n = &f->g->node[(u - 1) / INPUTS_MOST];
        int input = (int)((u - 1) % INPUTS_MOST);
        const reader_rule *r = rule_of(n->op);
        if (can_do_without(n, input))
            continue;
        if (!r || input != 0 || n->n_in < r->least || n->n_in > r->first || n->n_out != 1)
            return false;
        node made = normed_reader(n, r, norm, in, &at);
        if (!plan_row(f->g, f->b, &made))
            return false;
        convolves = true;
    }
    return convolves && found == f->uses[y]; /* outputs of the graph are uses too */
}

static status fuse_readers(const fusion *f, const node *norm)
{
    graph *g = f->g;
    for (node_id u = f->head[norm->out[0]]; u; u = f->next[u - 1]) {
        node *n = &g->node[(u - 1) / INPUTS_MOST];
        const reader_rule *r = rule_of(n->op);
        value_id *in;
        conv_attrs *at;
        TRY(arena_alloc(&g->mem, &in, INPUTS_MOST, sizeof *in));
        if (!r) {
            memcpy(in, n->in, (size_t)n->n_in * sizeof *in);
            in[5] = 0;
            n->in = in;
            continue;
        }
        TRY(arena_alloc(&g->mem, &at, 1, sizeof *at));
        *n = normed_reader(n, r, norm, in, at);
    }
    return ST_OK;
}

/* What is left of the norm. */
static status shrink_norm(graph *g, node *n)
{
    value_id *out;
    if (!norm_of(n->op)->of_batch) {
        n->op = OP_NONE;
        return ST_OK;
    }
    TRY(arena_alloc(&g->mem, &out, 2, sizeof *out));
    memcpy(out, n->out + 1, 2 * sizeof *out);
    n->op = OP_BATCH_NORM_MOMENTS;
    n->out = out;
    n->n_out = 2;
    n->n_in = 1;
    n->attr = NULL;
    return ST_OK;
}

static status list_uses(fusion *f)
{
    const graph *g = f->g;
    TRY(graph_count_uses(g, &f->uses));
    TRY(mem_alloc(&f->next, g->n_node * INPUTS_MOST, sizeof *f->next));
    TRY(mem_alloc(&f->head, g->n_value, sizeof *f->head));
    for (size_t k = 1; k < g->n_node; k++)
        for (int i = 0; i < g->node[k].n_in && i < INPUTS_MOST; i++) {
            size_t u = k * INPUTS_MOST + (size_t)i;
            f->next[u] = f->head[g->node[k].in[i]];
            f->head[g->node[k].in[i]] = (node_id)(u + 1);
        }
    return ST_OK;
}

status pass_norms_into_convs(graph *g, const backend *b)
{
    fusion f = {.g = g, .b = b};
    status st = ST_OK;
    TRY_DONE(list_uses(&f));
    for (size_t k = 1; k < g->n_node; k++) {
        node *n = &g->node[k];
        const norm_rule *r = norm_of(n->op);
        if (!r || !g->value[n->out[0]].block || n->n_in > (r->of_batch ? 3 : 5) ||
            (!r->of_batch && ((const batch_norm_attrs *)n->attr)->training_mode) || !is_fusible(&f, n))
            continue;
        TRY_DONE(fuse_readers(&f, n));
        TRY_DONE(shrink_norm(g, n));
    }
    graph_sweep(g);
done:
    mem_free(f.uses);
    mem_free(f.next);
    mem_free(f.head);
    return st;
}
