/* fuse_grad_sums.c - the sums that a batch norm's gradient needs come out of the data's gradient of the convolution behind it.
 *
 * In: a lowered graph in its final layouts, after fuse_moments.c. Where ConvGradData makes blocked images that a BatchNormGrad reads as
 *     its dy and nobody else does, and where the relu is flat can be told from x (or there is none), they become
 *     ConvGradDataSums      which has the norm's x beside what it makes
 *     BatchNormGradApply    which reads the two once instead of twice
 * The backend has to have kernels for both, of the same method that the plain gradient would have. */
#include "exec/internal.h"
#include "ops/attrs.h"

#include <string.h>

enum { DATA_INPUTS = 2, SUMS_INPUTS = 7, SUMS_OUTPUTS = 3, APPLY_INPUTS = 7 };

typedef struct fusion { /* what the two nodes become; their operands in the graph's memory */
    node sums, apply;
    value_id *in, *out, *apply_in;
    conv_attrs *at;
} fusion;

/* Whether the norm's gradient can be told from dy and x: no residual, and its relu from x where it has one. */
static bool can_be_summed(const node *n)
{
    const batch_norm_attrs *at = n->attr;
    if (n->op != OP_BATCH_NORM_GRAD)
        return false;
    const bool residual = n->n_out > 3 && n->out[3];
    return n->n_out > 2 && n->out[0] && n->out[1] && n->out[2] && !residual && (!at->relu || (n->n_in > 6 && n->in[6]));
}

/* The convolution's gradient, were it to make the sums too. */
static void make_sums(const node *data, const node *norm, fusion *f)
{
    const batch_norm_attrs *bn = norm->attr;
    memcpy(f->in, data->in, DATA_INPUTS * sizeof *f->in);
    memcpy(f->in + DATA_INPUTS, norm->in + 1, 4 * sizeof *f->in); /* x, scale, mean, var */
    f->in[6] = bn->relu ? norm->in[6] : 0;
    f->out[0] = data->out[0];
    memcpy(f->out + 1, norm->out + 1, 2 * sizeof *f->out);
    *f->at = *(const conv_attrs *)data->attr;
    f->at->norm_epsilon = bn->epsilon;
    f->at->norm_relu = bn->relu;
    f->at->norm_ceiling = bn->ceiling;
    f->sums = *data;
    f->sums.op = OP_CONV_GRAD_DATA_SUMS;
    f->sums.in = f->in;
    f->sums.n_in = bn->relu ? SUMS_INPUTS : SUMS_INPUTS - 1;
    f->sums.out = f->out;
    f->sums.n_out = SUMS_OUTPUTS;
    f->sums.attr = f->at;
}

static void make_apply(const node *norm, fusion *f)
{
    memcpy(f->apply_in, norm->in, 5 * sizeof *f->apply_in); /* dy, x, scale, mean, var */
    memcpy(f->apply_in + 5, norm->out + 1, 2 * sizeof *f->apply_in);
    f->apply = *norm;
    f->apply.op = OP_BATCH_NORM_GRAD_APPLY;
    f->apply.in = f->apply_in;
    f->apply.n_in = APPLY_INPUTS;
    f->apply.n_out = 1;
}

/* Whether what the norm reads is made before node k. */
static bool is_there(const graph *g, const node *norm, node_id k)
{
    for (int i = 1; i < norm->n_in; i++)
        if (g->value[norm->in[i]].from >= k)
            return false;
    return true;
}

static status fuse_at(graph *g, const backend *b, const uint32_t *uses, node_id k)
{
    const node *n = &g->node[k];
    const value *dy = can_be_summed(n) ? &g->value[n->in[0]] : NULL;
    const node_id from = dy && dy->block && uses[n->in[0]] == 1 ? dy->from : 0;
    fusion f;
    if (!from || g->node[from].op != OP_CONV_GRAD_DATA || g->node[from].when != n->when || g->node[from].n_in != DATA_INPUTS ||
        !is_there(g, n, from))
        return ST_OK;
    TRY(arena_alloc(&g->mem, &f.in, SUMS_INPUTS, sizeof *f.in));
    TRY(arena_alloc(&g->mem, &f.out, SUMS_OUTPUTS, sizeof *f.out));
    TRY(arena_alloc(&g->mem, &f.apply_in, APPLY_INPUTS, sizeof *f.apply_in));
    TRY(arena_alloc(&g->mem, &f.at, 1, sizeof *f.at));
    make_sums(&g->node[from], n, &f);
    make_apply(n, &f);
    if (!plan_same_method(g, b, &g->node[from], &f.sums) || !plan_row(g, b, &f.apply))
        return ST_OK;
    g->node[from] = f.sums;
    g->node[k] = f.apply;
    return ST_OK;
}

status pass_grad_sums_from_convs(graph *g, const backend *b)
{
    uint32_t *uses = NULL;
    status st = ST_OK;
    if (!b->narrow)
        return ST_OK;
    TRY_DONE(graph_count_uses(g, &uses));
    for (size_t k = 1, n = g->n_node; k < n; k++)
        TRY_DONE(fuse_at(g, b, uses, (node_id)k));
    graph_sweep(g);
done:
    mem_free(uses);
    return st;
}
