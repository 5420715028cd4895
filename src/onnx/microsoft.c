/* microsoft.c - operators of ONNX Runtime's domain com.microsoft, which quantised models of its tools use.
 *
 * QLinearAdd and QGemm are ours (ops/quant.c), QuantizeLinear and DequantizeLinear are ONNX's. The others mean: dequantise,
 * the float operator, quantise; they become just that. Source: onnxruntime/docs/ContribOperators.md. */
#include "onnx/importer.h"

#include "ops/attrs.h"

#include <string.h>

typedef struct meaning {
    const char *name;
    op_id op;         /* on floats */
    int operands;     /* each x, scale, zero point; -1: any number, behind the result's parameters */
    const char *zero; /* an attribute that must be 0, as it is by default; NULL: none */
} meaning;
static const meaning meanings[] = {
    {"QLinearGlobalAveragePool", OP_GLOBAL_AVERAGE_POOL, 1, "channels_last"},
    {"QLinearAveragePool", OP_AVERAGE_POOL, 1, "channels_last"},
    {"QLinearLeakyRelu", OP_LEAKY_RELU, 1, NULL},
    {"QLinearSigmoid", OP_SIGMOID, 1, NULL},
    {"QLinearMul", OP_MUL, 2, NULL},
    {"QLinearConcat", OP_CONCAT, -1, NULL},
};

static const meaning *find_meaning(const char *name)
{
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++)
        if (strcmp(meanings[i].name, name) == 0)
            return &meanings[i];
    return NULL;
}

/* Inputs 3k + first, + 1, + 2 as float. */
static status dequantized(importer *im, draft *d, size_t first, value_id *out)
{
    if (first + 1 >= d->n_in || !d->in[first] || !d->in[first + 1])
        return node_fail(d->s, d->from, "its input %zu or its scale is missing", first);
    return import_add(im, OP_DEQUANTIZE_LINEAR, NULL, d->in + first, first + 2 < d->n_in && d->in[first + 2] ? 3 : 2, out);
}

static status expand(importer *im, scope *s, const Onnx__NodeProto *n, const meaning *m)
{
    enum { A_INT = 2 };
    draft d;
    const Onnx__AttributeProto *zero = NULL;
    TRY(draft_begin(im, s, n, m->op, &d));
    if (m->zero)
        TRY(attribute_find(s, n, m->zero, A_INT, &zero));
    if (zero && zero->i != 0)
        return node_fail(s, n, "%s = %lld is not supported", m->zero, (long long)zero->i);
    TRY(attributes_read(im, &d, m->zero));
    bool any = m->operands < 0;
    size_t operands = any ? (d.n_in > 2 ? (d.n_in - 2 + 2) / 3 : 0) : (size_t)m->operands, scale = any ? 0 : 3 * operands;
    if (operands == 0 || d.n_in <= scale || !d.in[scale] || d.n_out != 1)
        return node_fail(s, n, "it needs its operands, each with scale and zero point, and the scale of its result");
    value_id *in, y[3] = {0, d.in[scale], scale + 1 < d.n_in ? d.in[scale + 1] : 0};
    TRY(arena_alloc(&im->mem, &in, operands, sizeof *in));
    for (size_t k = 0; k < operands; k++)
        TRY(dequantized(im, &d, (any ? 2 : 0) + 3 * k, &in[k]));
    TRY(import_add(im, m->op, op_of(m->op)->attr_size ? d.attr : NULL, in, operands, &y[0]));
    d.op = OP_QUANTIZE_LINEAR;
    TRY(arena_alloc(&im->mem, &d.attr, 1, op_of(d.op)->attr_size));
    op_default_attrs(d.op, d.attr);
    d.in = y;
    d.n_in = y[2] ? 3 : 2;
    TRY(draft_add(im, &d));
    return draft_end(&d);
}

status microsoft_node(importer *im, scope *s, const Onnx__NodeProto *n, bool *known)
{
    draft d;
    op_id op = op_from_name(n->op_type);
    const meaning *m = find_meaning(n->op_type);
    *known = m || (op_of(op)->flags & OP_MICROSOFT) || op == OP_QUANTIZE_LINEAR || op == OP_DEQUANTIZE_LINEAR;
    if (!*known)
        return ST_OK;
    if (m)
        return expand(im, s, n, m);
    TRY(draft_begin(im, s, n, op, &d));
    TRY(attributes_read(im, &d, NULL));
    TRY(draft_add(im, &d));
    return draft_end(&d);
}
