/* qdq.c - see qdq.h. */
#include "ops/qdq.h"

#include "ops/attrs.h"
#include "ops/common.h"

#include <string.h>

bool qdq_is_quantize(const node *n)
{
    return n->op == OP_QUANTIZE_LINEAR;
}

bool qdq_is_dequantize(const node *n)
{
    return n->op == OP_DEQUANTIZE_LINEAR;
}

bool qdq_of_node(const graph *g, const node *n, qdq *out)
{
    bool makes = qdq_is_quantize(n);
    if (!makes && !qdq_is_dequantize(n))
        return false;
    value_id codes = makes ? n->out[0] : n->in[0];
    const value *c = graph_value(g, codes), *scale = graph_value(g, n->in[1]);
    const value *zero = n->n_in > 2 && n->in[2] ? graph_value(g, n->in[2]) : NULL;
    if (scale->kind != VALUE_CONST || scale->type != DTYPE_F32 || (zero && zero->kind != VALUE_CONST))
        return false;
    int64_t count = shape_count(&scale->sh);
    if (zero && shape_count(&zero->sh) != count)
        return false;
    const quant_attrs *a = n->attr;
    int axis = count > 1 ? shape_axis(&c->sh, a->axis) : 0;
    if (axis < 0)
        return false;
    *out = (qdq){.codes = codes, .type = c->type, .sh = &c->sh, .data = c->kind == VALUE_CONST ? c->data : NULL, .n = count,
                 .axis = axis, .scale = scale->data, .zero = zero ? zero->data : NULL};
    return true;
}

bool qdq_behind(const graph *g, value_id v, qdq *out)
{
    node_id from = v ? graph_value(g, v)->from : 0;
    const node *n = from ? graph_node(g, from) : NULL;
    return n && qdq_is_dequantize(n) && qdq_of_node(g, n, out);
}

int64_t qdq_zero(const qdq *q, int64_t i)
{
    return q->zero ? (int64_t)dtype_load(q->type, q->zero, i) : 0;
}

int64_t qdq_code(const qdq *q, int64_t i)
{
    return (int64_t)dtype_load(q->type, q->data, i);
}

bool qdq_same(const qdq *a, const qdq *b)
{
    if (a->type != b->type || a->n != b->n || a->axis != b->axis)
        return false;
    for (int64_t i = 0; i < a->n; i++)
        if (memcmp(&a->scale[i], &b->scale[i], sizeof a->scale[i]) != 0 || qdq_zero(a, i) != qdq_zero(b, i))
            return false;
    return true;
}

bool qdq_is_const(const graph *g, value_id v)
{
    qdq q;
    return graph_value(g, v)->kind == VALUE_CONST || (qdq_behind(g, v, &q) && q.data);
}

status qdq_floats(const graph *g, value_id v, arena *mem, const float **out)
{
    const value *x = graph_value(g, v);
    int64_t stride[RANK_MAX] = {0};
    float *f;
    qdq q;
    *out = NULL;
    if (x->kind == VALUE_CONST && x->type == DTYPE_F32) {
        *out = x->data;
        return ST_OK;
    }
    if (!qdq_behind(g, v, &q) || !q.data)
        return ST_OK;
    const int64_t n = shape_count(q.sh);
    op_strides(q.sh, stride);
    TRY(arena_alloc(mem, &f, (size_t)n, sizeof *f));
    for (int64_t i = 0; i < n; i++) {
        int64_t c = q.n > 1 ? i / stride[q.axis] % q.n : 0;
        f[i] = (float)(qdq_code(&q, i) - qdq_zero(&q, c)) * q.scale[c];
    }
    *out = f;
    return ST_OK;
}
