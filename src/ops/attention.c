/* attention.c - FusedAttention: y = softmax(scale * Q K^T + mask) V for every head (internal; made by pass_fuse_attention).
 *
 * Q [B, H, Sq, D], K [B, H, Sk, D], V [B, H, Sk, Dv], mask (optional) broadcasts to [B, H, Sq, Sk], y [B, H, Sq, Dv]. Where
 * q_tokens, k_tokens, v_tokens, y_tokens are set, that operand lies as [B, S, H, D]: as the linear layers around write and
 * read it, so that nothing is transposed. (Vaswani et al., "Attention is all you need", 2017, equation 1.) */
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
    op_set_out(g, n, 0, op_in(g, n, 0)->type, heads_first(y, at->y_tokens != 0));
    return ST_OK;
}

static double attention_macs(const graph *g, const node *n)
{
    const attention_attrs *at = n->attr;
    shape k = heads_first(op_in(g, n, 1)->sh, at->k_tokens != 0), v = heads_first(op_in(g, n, 2)->sh, at->v_tokens != 0);
    return (double)shape_count(&op_in(g, n, 0)->sh) * (double)(k.dim[2]) * (1 + (double)v.dim[3] / (double)(k.dim[3] ? k.dim[3] : 1));
}

const op_desc op_attention = {.name = "FusedAttention", .in = {3, 4}, .out = {1, 1}, .flags = OP_INTERNAL, .attrs = attention_rows,
                              .attr_size = sizeof(attention_attrs), .infer = attention_infer,
                              NO_GRAD("it is made in frozen graphs"), .macs = attention_macs};
