/* blocks.c - QuantizeLinear and DequantizeLinear by blocks (opset 21: block_size > 0, a scale for every block along an axis): written
 * out in the operators that they mean.
 *
 *     s, z         scale and zero point of element i along the axis are those of block i / block_size: Gather
 *     dequantised  (float(x) - float(z)) * s
 *     quantised    cast(clip(round(x / s) + float(z), lowest, highest)), rounding half to even
 *
 * Constants are folded, so that weights in blocks become float weights. Types up to 16 bits: int32 codes have no zero point
 * worth the name and do not fit a float32. */
#include "onnx/importer.h"

#include "ops/attrs.h"

#include <inttypes.h>
#include <math.h>

typedef struct blocks {
    int64_t size;
    int axis;
    shape x;
    value_id index; /* [x.dim[axis]] the block of each element */
} blocks;

static status check_scales(const importer *im, const draft *d, const value *s)
{
    (void)im;
    for (int64_t i = 0; s->kind == VALUE_CONST && i < shape_count(&s->sh); i++) {
        double v = dtype_load(s->type, s->data, i);
        if (!(v > 0) || isinf(v))
            return node_fail(d->s, d->from, "scale '%s' has %g at place %" PRId64 "; a scale must be finite and above 0", s->name, v, i);
    }
    return ST_OK;
}

/* *is: it is by blocks and can be written out; else the operator itself says what it wants. */
static status find_blocks(importer *im, const draft *d, blocks *b, bool *is)
{
    const quant_attrs *a = d->attr;
    *is = false;
    if (a->block_size <= 0 || d->n_in < 2 || !d->in[0] || !d->in[1])
        return ST_OK;
    const value *s = &im->g->value[d->in[1]], *z = d->n_in > 2 && d->in[2] ? &im->g->value[d->in[2]] : NULL;
    b->x = im->g->value[d->in[0]].sh;
    b->size = a->block_size;
    int64_t axis = a->axis < 0 ? a->axis + b->x.rank : a->axis;
    if (s->type != DTYPE_F32 || s->sh.rank != b->x.rank)
        return ST_OK;
    bool fits = axis >= 0 && axis < b->x.rank;
    for (int i = 0; fits && i < b->x.rank; i++) {
        int64_t n = b->x.dim[i];
        fits = s->sh.dim[i] == (i == axis ? n / b->size + (n % b->size != 0) : n);
    }
    if (!fits || (z && !shape_equal(&z->sh, &s->sh))) {
        char x[200], sh[200];
        return node_fail(d->s, d->from, "scale '%s' %s and its zero point do not fit blocks of %" PRId64 " along axis %" PRId64 " of %s", s->name,
                         shape_print(&s->sh, sh), b->size, a->axis, shape_print(&b->x, x));
    }
    TRY(check_scales(im, d, s));
    b->axis = (int)axis;
    *is = true;
    return ST_OK;
}

/* One number for each element, as float32. */
static status spread(importer *im, blocks *b, value_id v, value_id *out)
{
    int64_t n = b->x.dim[b->axis], *at;
    if (!b->index) {
        TRY(arena_alloc(&im->mem, &at, (size_t)n, sizeof *at));
        for (int64_t i = 0; i < n; i++)
            at[i] = i / b->size;
        TRY(graph_add_data(im->g, NULL, VALUE_CONST, DTYPE_I64, SHAPE(n), at, &b->index));
    }
    if (im->g->value[v].type != DTYPE_F32)
        TRY(import_add(im, OP_CAST, &(cast_attrs){.to = DTYPE_F32}, &v, 1, &v));
    return import_add(im, OP_GATHER, &(gather_attrs){.axis = b->axis}, (value_id[]){v, b->index}, 2, out);
}

static bool small_integer(dtype t)
{
    return t == DTYPE_U8 || t == DTYPE_I8 || t == DTYPE_U16 || t == DTYPE_I16;
}

/* The draft ends with this node. */
static status end_with(importer *im, draft *d, op_id op, const value_id *in, size_t n)
{
    d->op = op;
    d->n_in = n;
    for (size_t i = 0; i < n; i++)
        d->in[i] = in[i];
    TRY(arena_alloc(&im->mem, &d->attr, 1, op_of(op)->attr_size + 1));
    op_default_attrs(op, d->attr);
    return ST_OK;
}

status dequantize_blocks(importer *im, draft *d)
{
    blocks b = {0};
    bool is;
    value_id x = d->in[0], s, z;
    TRY(find_blocks(im, d, &b, &is));
    if (!is || !small_integer(im->g->value[x].type))
        return ST_OK;
    TRY(spread(im, &b, d->in[1], &s));
    TRY(import_add(im, OP_CAST, &(cast_attrs){.to = DTYPE_F32}, &x, 1, &x));
    if (d->n_in > 2 && d->in[2]) {
        TRY(spread(im, &b, d->in[2], &z));
        TRY(import_add(im, OP_SUB, NULL, (value_id[]){x, z}, 2, &x));
    }
    return end_with(im, d, OP_MUL, (value_id[]){x, s}, 2);
}

status quantize_blocks(importer *im, draft *d)
{
    const quant_attrs *a = d->attr;
    blocks b = {0};
    bool is;
    value_id x = d->in[0], s, z = d->n_in > 2 ? d->in[2] : 0;
    dtype t = z ? im->g->value[z].type : a->output_dtype ? (dtype)a->output_dtype : DTYPE_U8;
    TRY(find_blocks(im, d, &b, &is));
    if (!is || !small_integer(t) || im->g->value[x].type != DTYPE_F32)
        return ST_OK;
    int bits = 8 * (int)dtype_of(t)->size;
    const clip_attrs range = dtype_of(t)->is_signed ? (clip_attrs){-exp2(bits - 1), exp2(bits - 1) - 1} : (clip_attrs){0, exp2(bits) - 1};
    TRY(spread(im, &b, d->in[1], &s));
    TRY(import_add(im, OP_DIV, NULL, (value_id[]){x, s}, 2, &x));
    TRY(import_add(im, OP_ROUND, NULL, &x, 1, &x));
    if (z) {
        TRY(spread(im, &b, z, &z));
        TRY(import_add(im, OP_ADD, NULL, (value_id[]){x, z}, 2, &x));
    }
    TRY(import_add(im, OP_CLIP, &range, &x, 1, &x));
    TRY(end_with(im, d, OP_CAST, &x, 1));
    ((cast_attrs *)d->attr)->to = t;
    return ST_OK;
}
