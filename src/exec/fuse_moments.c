/* fuse_moments.c - the statistics of a batch norm come out of the convolution that makes what it normalises.
 *
 * In: a lowered graph in its final layouts, after fuse_conv.c. Where Conv or NormConv makes blocked images of which a node takes mean
 *     and variance, it becomes ConvMoments, which knows them before the images are read again, and of the node stays
 *     BatchNormMoments    nothing
 *     BatchNormTrain      BatchNormalization with these statistics; BatchNormApply where it adds a residual
 * The backend has to have kernels for it, of the same method that the convolution would have: what a library does well is not taken
 * from it for the sake of a pass over memory. */
#include "exec/internal.h"
#include "ops/attrs.h"

#include <string.h>

enum { INPUTS_MOST = 8, OUTPUTS = 3 };

typedef struct moments_rule { /* a node that takes statistics of in[0] */
    op_id op;
    int mean; /* output; the variance is the next one */
    bool normalises;
} moments_rule;
static const moments_rule rules[] = {{OP_BATCH_NORM_TRAIN, 1, true}, {OP_BATCH_NORM_MOMENTS, 0, false}};

static const op_id makers[] = {OP_CONV, OP_NORM_CONV};

static const moments_rule *rule_of(op_id op)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (rules[i].op == op)
            return &rules[i];
    return NULL;
}

static bool is_maker(op_id op)
{
    for (size_t i = 0; i < sizeof makers / sizeof *makers; i++)
        if (makers[i] == op)
            return true;
    return false;
}

/* The node that makes x, were it to make the statistics too. */
static node counting_maker(const node *maker, const value_id *stats, value_id *out)
{
    node n = *maker;
    out[0] = maker->out[0];
    memcpy(out + 1, stats, 2 * sizeof *stats);
    n.op = OP_CONV_MOMENTS;
    n.out = out;
    n.n_out = OUTPUTS;
    return n;
}

/* The norm by given statistics. */
static node given_norm(const node *n, const value_id *stats, value_id *in, batch_norm_attrs *at)
{
    node made = *n;
    *at = *(const batch_norm_attrs *)n->attr;
    at->training_mode = 0;
    const bool residual = n->n_in > 3 && n->in[3];
    memcpy(in, n->in, 3 * sizeof *in);
    memcpy(in + 3, stats, 2 * sizeof *stats);
    in[5] = residual ? n->in[3] : 0;
    made.op = residual ? OP_BATCH_NORM_APPLY : OP_BATCH_NORM;
    made.attr = at;
    made.in = in;
    made.n_in = residual ? 6 : 5;
    made.n_out = 1;
    return made;
}

static status fuse_at(graph *g, const backend *b, node *n)
{
    const moments_rule *r = rule_of(n->op);
    const value *x = r ? &g->value[n->in[0]] : NULL;
    node *maker = x && x->block && x->from ? &g->node[x->from] : NULL;
    value_id *out, *in;
    batch_norm_attrs *at;
    if (!maker || maker->out[0] != n->in[0] || maker->when != n->when || !is_maker(maker->op))
        return ST_OK;
    TRY(arena_alloc(&g->mem, &out, OUTPUTS, sizeof *out));
    TRY(arena_alloc(&g->mem, &in, INPUTS_MOST, sizeof *in));
    TRY(arena_alloc(&g->mem, &at, 1, sizeof *at));
    const node counting = counting_maker(maker, n->out + r->mean, out), norm = r->normalises ? given_norm(n, out + 1, in, at) : *n;
    if (!plan_same_method(g, b, maker, &counting) || !plan_row(g, b, &norm))
        return ST_OK;
    *maker = counting;
    *n = norm;
    if (!r->normalises)
        n->op = OP_NONE;
    return ST_OK;
}

status pass_moments_from_convs(graph *g, const backend *b)
{
    for (size_t k = 1; k < g->n_node; k++)
        TRY(fuse_at(g, b, &g->node[k]));
    graph_sweep(g);
    return ST_OK;
}
