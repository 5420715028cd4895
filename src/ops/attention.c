/* attention.c - FusedAttention: y = softmax(scale * Q K^T + mask) V for every head (internal; made by pass_fuse_attention).
 * Second output, where a gradient will read it: log sum exp of every row of scores, [B, H, Sq].
 *
 * Q [B, H, Sq, D], K [B, H, Sk, D], V [B, H, Sk, Dv], mask (optional) broadcasts to [B, H, Sq, Sk], y [B, H, Sq, Dv]. Where
 * q_tokens, k_tokens, v_tokens, y_tokens are set, that operand lies as [B, S, H, D]: as the linear layers around write and
 * read it, so that nothing is transposed. Of the scores nothing is kept: the gradient makes them anew. (Vaswani et al., "Attention is all you need", 2017, equation 1.) */
#include "ops/common.h"

#include <stddef.h>

static const attr_desc attention_rows[] = {
    {ATTR(attention_attrs, scale), .type = ATTR_FLOAT, .def = 1},
    {ATTR(attention_attrs, q_tokens), .type = ATTR_INT},
    {ATTR(attention_attrs, k_tokens), .type = ATTR_INT},
    {ATTR(attention_attrs, v_tokens), .type = ATTR_INT},
    {ATTR(attention_attrs, y_tokens), .type = ATTR_INT},
    {0}};

/* [B, H, S, D], whichever way it lies. */
static shape heads_first(shape s, bool tokens)
{
    return tokens ? SHAPE(s.dim[0], s.dim[2], s.dim[1], s.dim[3]) : s;
}

static status attention_infer(graph *g, node *n)
{
    const attention_attrs *at = n->attr;
    TRY(op_check_float(g, n, 0));
    for (int i = 0; i < 4; i++) {
        const value *v = op_in(g, n, i);
        TRY(op_check_same_type(g, n, 0, i));
        if (i < 3 && (!v || v->sh.rank != 4))
            return op_fail(n, "Q, K and V must have four axes");
    }
    shape q = heads_first(op_in(g, n, 0)->sh, at->q_tokens != 0), k = heads_first(op_in(g, n, 1)->sh, at->k_tokens != 0);
    shape v = heads_first(op_in(g, n, 2)->sh, at->v_tokens != 0);
    if (q.dim[3] != k.dim[3] || k.dim[2] != v.dim[2])
        return op_fail(n, "Q, K and V do not fit together");
    for (int i = 0; i < 2; i++)
        if (q.dim[i] != k.dim[i] || q.dim[i] != v.dim[i])
            return op_fail(n, "Q, K and V have different batches or heads");
    const value *mask = op_in(g, n, 3);
    shape scores = SHAPE(q.dim[0], q.dim[1], q.dim[2], k.dim[2]), both;
    if (mask && (!shape_broadcast(&scores, &mask->sh, &both) || !shape_equal(&scores, &both)))
        return op_fail(n, "the mask '%s' does not broadcast to the scores", mask->name);
    shape y = SHAPE(q.dim[0], q.dim[1], q.dim[2], v.dim[3]);
    dtype type = op_in(g, n, 0)->type;
    op_set_out(g, n, 0, type, heads_first(y, at->y_tokens != 0));
    op_set_out(g, n, 1, type, SHAPE(q.dim[0], q.dim[1], q.dim[2]));
    return ST_OK;
}

/* The mask gets no gradient: whoever makes the node sees to it that none is wanted. */
static status attention_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    if (n->n_out < 2 || !n->out[1] || dy[1])
        return op_fail(n, "the sums of its scores are needed for a gradient, and have none themselves");
    value_id in[7] = {n->in[0], n->in[1], n->in[2], n->out[0], dy[0], n->out[1], n->n_in > 3 ? n->in[3] : 0};
    return graph_add(g, OP_ATTENTION_GRAD, n->attr, in, in[6] ? 7 : 6, dx, 3);
}

/* FusedAttentionGrad: dQ, dK, dV from Q, K, V, y, dy, the log sums and the mask. With P = softmax(...), dP = dy V^T:
 * dV = P^T dy, dS = scale * P * (dP - rowsum(dy * y)), dQ = dS K, dK = dS^T Q. */
static status attention_grad_infer(graph *g, node *n)
{
    TRY(op_check_float(g, n, 0));
    for (int i = 1; i < 7; i++)
        TRY(op_check_same_type(g, n, 0, i));
    for (int i = 0; i < 6; i++)
        if (!op_in(g, n, i) || (i < 5 && op_in(g, n, i)->sh.rank != 4))
            return op_fail(n, "an operand is missing");
    TRY(op_check_same_shape(g, n, 3, 4));
    for (int i = 0; i < 3; i++)
        op_set_out(g, n, i, op_in(g, n, i)->type, op_in(g, n, i)->sh);
    return ST_OK;
}

static double attention_macs(const graph *g, const node *n)
{
    const attention_attrs *at = n->attr;
    shape k = heads_first(op_in(g, n, 1)->sh, at->k_tokens != 0), v = heads_first(op_in(g, n, 2)->sh, at->v_tokens != 0);
    return (double)shape_count(&op_in(g, n, 0)->sh) * (double)(k.dim[2]) * (1 + (double)v.dim[3] / (double)(k.dim[3] ? k.dim[3] : 1));
}

const op_desc op_attention = {.name = "FusedAttention", .in = {3, 4}, .out = {1, 2}, .flags = OP_INTERNAL, .attrs = attention_rows,
                              .attr_size = sizeof(attention_attrs), .infer = attention_infer,
                              .grad = attention_grad, .macs = attention_macs};

static double attention_grad_macs(const graph *g, const node *n)
{
    return 2.5 * attention_macs(g, n);
}

const op_desc op_attention_grad = {.name = "FusedAttentionGrad", .in = {6, 7}, .out = {3, 3}, .flags = OP_INTERNAL,
                                   .attrs = attention_rows, .attr_size = sizeof(attention_attrs),
                                   .infer = attention_grad_infer, NO_GRAD("second derivatives are not offered"),
                                   .macs = attention_grad_macs};
