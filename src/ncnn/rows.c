/* rows.c - every operator that ncnn files are written with, one row each; those that need few words. */
#include "ncnn/writer.h"

#include <inttypes.h>
#include <math.h>

const nc_row nc_rows[OP_COUNT] = {
    [OP_QUANTIZE_LINEAR] = {.emit = nc_emit_quantize},
    [OP_DEQUANTIZE_LINEAR] = {.emit = nc_emit_dequantize},
    [OP_CONV] = {.emit = nc_emit_product},
    [OP_GEMM] = {.emit = nc_emit_product},
    [OP_MATMUL] = {.emit = nc_emit_product},
    [OP_IDENTITY] = {.emit = nc_emit_same}, [OP_DROPOUT] = {.emit = nc_emit_same},
    [OP_RESHAPE] = {.emit = nc_emit_view}, [OP_FLATTEN] = {.emit = nc_emit_view}, [OP_SQUEEZE] = {.emit = nc_emit_view},
    [OP_UNSQUEEZE] = {.emit = nc_emit_view},
    [OP_RELU] = {.emit = nc_emit_simple, .type = "ReLU", .commutes = true, .positive = true},
    [OP_SIGMOID] = {.emit = nc_emit_simple, .type = "Sigmoid", .positive = true},
    [OP_TANH] = {.emit = nc_emit_simple, .type = "TanH"},
    [OP_CLIP] = {.emit = nc_emit_clip},
    [OP_LEAKY_RELU] = {.emit = nc_emit_slope},
    [OP_HARD_SWISH] = {.emit = nc_emit_hard, .type = "HardSwish"},
    [OP_HARD_SIGMOID] = {.emit = nc_emit_hard, .type = "HardSigmoid", .positive = true},
    [OP_ADD] = {.emit = nc_emit_binary, .code = 0}, [OP_SUB] = {.emit = nc_emit_binary, .code = 1},
    [OP_MUL] = {.emit = nc_emit_binary, .code = 2}, [OP_DIV] = {.emit = nc_emit_binary, .code = 3},
    [OP_MAX_POOL] = {.emit = nc_emit_pool, .code = 0, .commutes = true},
    [OP_AVERAGE_POOL] = {.emit = nc_emit_pool, .code = 1},
    [OP_GLOBAL_MAX_POOL] = {.emit = nc_emit_global_pool, .code = 0, .commutes = true},
    [OP_GLOBAL_AVERAGE_POOL] = {.emit = nc_emit_global_pool, .code = 1},
    [OP_REDUCE_MEAN] = {.emit = nc_emit_reduce_mean},
    [OP_CONCAT] = {.emit = nc_emit_concat},
    [OP_SOFTMAX] = {.emit = nc_emit_softmax},
    [OP_PAD] = {.emit = nc_emit_pad},
    [OP_RESIZE] = {.emit = nc_emit_resize, .commutes = true},
    [OP_BATCH_NORM] = {.emit = nc_emit_batch_norm},
};

status nc_emit_simple(writer *w, const node *n, const nc_row *row)
{
    return nc_single(w, n, row, row->type, "");
}

status nc_emit_same(writer *w, const node *n, const nc_row *row)
{
    (void)row;
    w->at[n->out[0]] = w->at[n->in[0]];
    return ST_OK;
}

status nc_emit_view(writer *w, const node *n, const nc_row *row)
{
    (void)row;
    w->at[n->out[0]] = w->at[n->in[0]];
    w->at[n->out[0]].loose = true;
    return ST_OK;
}

status nc_emit_clip(writer *w, const node *n, const nc_row *row)
{
    const clip_attrs *a = n->attr;
    char lo[NC_NUMBER], hi[NC_NUMBER];
    const char *params;
    nc_row here = *row;
    here.positive = a->min >= 0;
    TRY(arena_printf(&w->mem, &params, " 0=%s 1=%s", nc_number(a->min, lo), nc_number(a->max, hi)));
    return nc_single(w, n, &here, "Clip", params);
}

status nc_emit_slope(writer *w, const node *n, const nc_row *row)
{
    const alpha_attrs *a = n->attr;
    char buf[NC_NUMBER];
    const char *params;
    TRY(arena_printf(&w->mem, &params, " 0=%s", nc_number(a->alpha, buf)));
    return nc_single(w, n, row, "ReLU", params);
}

/* y = x * min(max(alpha x + beta, 0), 1), or the second factor alone; HardSwish-14 has alpha 1/6 and beta 1/2. */
status nc_emit_hard(writer *w, const node *n, const nc_row *row)
{
    const hard_sigmoid_attrs swish = {1.0 / 6, 0.5}, *a = n->op == OP_HARD_SIGMOID ? n->attr : &swish;
    char alpha[NC_NUMBER], beta[NC_NUMBER];
    const char *params;
    TRY(arena_printf(&w->mem, &params, " 0=%s 1=%s", nc_number(a->alpha, alpha), nc_number(a->beta, beta)));
    return nc_single(w, n, row, row->type, params);
}

/* ---- integers ---- */

status nc_emit_quantize(writer *w, const node *n, const nc_row *row)
{
    (void)row;
    qdq q;
    place *x = &w->at[n->in[0]];
    if (!qdq_of_node(w->g, n, &q) || q.n != 1)
        return op_fail(n, "its scale is no single constant");
    if (q.type != DTYPE_I8 || qdq_zero(&q, 0) != 0)
        return op_fail(n, "%s with zero point %" PRId64 "; ncnn has int8 with zero point 0 alone: make the variant portable-s8",
                       dtype_of(q.type)->name, qdq_zero(&q, 0));
    if (qdq_is_const(w->g, n->in[0]))
        return op_fail(n, "rounds a constant that was not folded");
    place y = {.raw = x->raw, .grid = q.scale[0], .above = x->above, .loose = x->loose};
    if (x->grid > 0 && x->grid == q.scale[0]) { /* the same codes again */
        y = *x;
    } else if (x->grid > 0) {
        TRY(nc_take(w, n->in[0], TAKE_ROUNDED, &y.raw));
        y.loose = false;
    }
    w->at[n->out[0]] = y;
    return ST_OK;
}

status nc_emit_dequantize(writer *w, const node *n, const nc_row *row)
{
    (void)row;
    qdq q;
    if (qdq_is_const(w->g, n->in[0]))
        return ST_OK; /* weights: read where they are used */
    if (!qdq_of_node(w->g, n, &q) || q.n != 1 || q.type != DTYPE_I8 || qdq_zero(&q, 0) != 0)
        return op_fail(n, "ncnn has int8 with one scale and zero point 0 alone: make the variant portable-s8");
    if (w->at[n->in[0]].grid != q.scale[0])
        return op_fail(n, "reads codes with another scale than they were written with, or codes that the model is given");
    w->at[n->out[0]] = w->at[n->in[0]];
    return ST_OK;
}
