/* emit_conv.c - convolutions and matrix products: CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED; windows and their padding.
 *
 * TFLite's weights: CONV_2D [O, H, W, I], DEPTHWISE_CONV_2D [1, H, W, O], FULLY_CONNECTED [out, in]; a bias [O] always
 * stands behind them here (zeros where the model has none: not every kernel takes its absence). */
#include "tflite/writer.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* ---- windows ---- */

tfl_windows writer_windows(const int64_t *in, const int64_t *out, const int64_t *kernel, const int64_t *strides,
                           const int64_t *dilations, const int64_t *pads)
{
    tfl_windows r = {.padding = TFL_VALID};
    bool same = true, valid = true;
    for (int i = 0; i < 2; i++) {
        int64_t reach = (out[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1; /* elements the windows cover */
        int64_t missing = reach > in[i] ? reach - in[i] : 0;                            /* the schema's SAME */
        int64_t behind = reach - in[i] - pads[i];
        r.begin[i] = pads[i];
        r.end[i] = behind > 0 ? behind : 0;
        same &= out[i] == (in[i] + strides[i] - 1) / strides[i] && pads[i] == missing / 2;
        valid &= r.begin[i] == 0 && r.end[i] == 0;
    }
    r.padding = !valid && same ? TFL_SAME : TFL_VALID;
    r.pad = !valid && !same;
    return r;
}

status writer_pad_image(writer *w, const int64_t *begin, const int64_t *end, int with, int32_t *t)
{
    tfl_tensor from = w->m.tensor[*t];
    bool q = from.type == TFL_INT8;
    shape sh = from.sh;
    int32_t in[3] = {*t};
    for (int i = 0; i < 2; i++)
        sh.dim[1 + i] += begin[i] + end[i];
    TRY(writer_ints(w, from.name, "pads", SHAPE(4, 2), (int64_t[]){0, 0, begin[0], end[0], begin[1], end[1], 0, 0}, &in[1]));
    if (with == PAD_LOWEST) {
        static const float lowest = -FLT_MAX;
        static const int8_t lowest_code = -128;
        TRY(writer_const(w, from.name, "lowest", from.type, SHAPE(1), q ? (const void *)&lowest_code : &lowest,
                         q ? &from.q : NULL, &in[2]));
    }
    TRY(writer_like(w, *t, "padded", sh, t));
    bool v2 = with == PAD_LOWEST;
    return writer_op(w, (tfl_op){.code = v2 ? TFL_PADV2 : TFL_PAD, .version = q ? 2 : 1,
                                 .option_type = v2 ? TFL_OPT_PADV2 : TFL_OPT_PAD}, in, v2 ? 3 : 2, *t);
}

/* ---- weights and bias ---- */

/* The product's right operand, as floats or as int8 codes with their parameters. */
typedef struct weights {
    const void *data;
    size_t size; /* of an element */
    int type;
    tfl_quant q; /* axis as in the data */
    const char *name;
} weights;

static status read_weights(writer *w, const node *n, value_id v, bool q, weights *out)
{
    const value *x = graph_value(w->g, v);
    if (x->kind == VALUE_PARAM)
        return fail(ST_INTERNAL, "'%s' is a parameter; a graph is written to TFLite with its weights as constants", x->name);
    *out = (weights){.size = q ? 1 : 4, .type = q ? TFL_INT8 : TFL_FLOAT32, .name = x->name};
    if (!q) {
        const float *f;
        TRY(qdq_floats(w->g, v, &w->m.mem, &f));
        out->data = f;
        return f ? ST_OK : op_fail(n, "its weights '%s' are no constant; TFLite wants them in the file", out->name);
    }
    qdq d;
    if (!qdq_behind(w->g, v, &d) || !d.data)
        return op_fail(n, "its weights '%s' are no constant", out->name);
    out->data = d.data;
    if (d.type == DTYPE_U8) {
        int64_t count = shape_count(d.sh);
        int8_t *codes;
        TRY(arena_alloc(&w->m.mem, &codes, (size_t)count, 1));
        for (int64_t i = 0; i < count; i++)
            codes[i] = (int8_t)(qdq_code(&d, i) - 128);
        out->data = codes;
    }
    return writer_quant(w, &d, &out->q);
}

/* The bias in units of sx * sw: the integers of the model where its scale is that, else the nearest ones. */
static status quant_bias(const node *n, const float *real, const qdq *codes, int64_t count, tfl_quant *q, int32_t *to)
{
    for (int64_t i = 0; i < count; i++) {
        double unit = (double)q->scale[q->n > 1 ? i : 0], v = real ? (double)real[i] / unit : 0;
        int64_t at = codes && codes->n > 1 ? i : 0;
        if (codes && fabs((double)codes->scale[at] / unit - 1) < 1e-6)
            v = (double)(qdq_code(codes, i) - qdq_zero(codes, at));
        if (!(fabs(v) < (double)INT32_MAX))
            return op_fail(n, "bias %" PRId64 " does not fit into int32 at its scale", i);
        to[i] = (int32_t)nearbyint(v);
    }
    return ST_OK;
}

/* in[2] of n, `count` numbers, as a tensor; `x` is the product's input, `wt` its weights. */
static status add_bias(writer *w, const node *n, int32_t x, const weights *wt, int64_t count, int32_t *t)
{
    value_id v = n->n_in > 2 ? n->in[2] : 0;
    char buf[200];
    const float *real = NULL;
    qdq d, *codes = NULL;
    if (v) {
        const shape *sh = &graph_value(w->g, v)->sh;
        TRY(qdq_floats(w->g, v, &w->m.mem, &real));
        if (!real)
            return op_fail(n, "its bias '%s' is no constant", graph_value(w->g, v)->name);
        if (shape_count(sh) != count && shape_count(sh) != 1)
            return op_fail(n, "its bias has shape %s; TFLite wants one number for each output", shape_print(sh, buf));
        if (shape_count(sh) != count) {
            float *all;
            TRY(arena_alloc(&w->m.mem, &all, (size_t)count, sizeof *all));
            for (int64_t i = 0; i < count; i++)
                all[i] = real[0];
            real = all;
        } else if (qdq_behind(w->g, v, &d) && d.type == DTYPE_I32) {
            codes = &d;
        }
    }
    const char *name = v ? graph_value(w->g, v)->name : wt->name, *suffix = v ? "" : "bias";
    if (wt->type != TFL_INT8) {
        float *zeros = NULL;
        if (!real)
            TRY(arena_alloc(&w->m.mem, &zeros, (size_t)count, sizeof *zeros));
        return writer_const(w, name, suffix, TFL_FLOAT32, SHAPE(count), real ? real : zeros, NULL, t);
    }
    tfl_quant q = {.n = wt->q.n};
    float *scale;
    int64_t *zero;
    int32_t *data;
    TRY(arena_alloc(&w->m.mem, &scale, (size_t)q.n, sizeof *scale));
    TRY(arena_alloc(&w->m.mem, &zero, (size_t)q.n, sizeof *zero));
    TRY(arena_alloc(&w->m.mem, &data, (size_t)count, sizeof *data));
    for (int32_t i = 0; i < q.n; i++)
        scale[i] = wt->q.scale[i] * w->m.tensor[x].q.scale[0];
    q.scale = scale;
    q.zero = zero;
    TRY(quant_bias(n, real, codes, count, &q, data));
    return writer_const(w, name, suffix, TFL_INT32, SHAPE(count), data, &q, t);
}

/* ---- Conv ---- */

/* [O, I, H, W] to [O, H, W, I], or of a depthwise convolution [O, 1, H, W] to [1, H, W, O]. */
static status conv_weights(writer *w, weights *wt, const shape *sh, bool depthwise, int32_t *t)
{
    static const int whole[4] = {0, 2, 3, 1}, deep[4] = {1, 2, 3, 0};
    const int *perm = depthwise ? deep : whole;
    void *moved;
    TRY(writer_permute(w, wt->data, wt->size, sh, perm, &moved));
    shape to = {.rank = 4};
    for (int i = 0; i < 4; i++)
        to.dim[i] = sh->dim[perm[i]];
    wt->q.axis = depthwise ? 3 : 0;
    return writer_const(w, wt->name, "", wt->type, to, moved, wt->q.n ? &wt->q : NULL, t);
}

status emit_conv(writer *w, const node *n, const tfl_row *row)
{
    const conv_attrs *a = n->attr;
    const value *x = graph_value(w->g, n->in[0]), *kernel = graph_value(w->g, n->in[1]), *y = graph_value(w->g, n->out[0]);
    group gr;
    weights wt;
    int32_t in[3], out;
    if (x->sh.rank != 4)
        return op_fail(n, "a convolution over %d axes; TFLite's are over two: give the data a dimension of 1", x->sh.rank - 2);
    if (n->n_in > 3 || a->relu)
        return op_fail(n, "has a fused epilogue; write the graph before the fusion passes");
    int64_t channels = x->sh.dim[1], outputs = kernel->sh.dim[0];
    bool depthwise = a->group == channels && a->group > 1;
    group_find(w, n, row, &gr);
    tfl_windows win = writer_windows(x->sh.dim + 2, y->sh.dim + 2, a->kernel_shape.v, a->strides.v, a->dilations.v, a->pads.v);
    TRY(writer_take(w, n->in[0], ORDER_IMAGE, gr.q, &in[0]));
    if (win.pad)
        TRY(writer_pad_image(w, win.begin, win.end, PAD_ZERO, &in[0]));
    TRY(read_weights(w, n, n->in[1], gr.q, &wt));
    TRY(conv_weights(w, &wt, &kernel->sh, depthwise, &in[1]));
    TRY(add_bias(w, n, in[0], &wt, outputs, &in[2]));
    TRY(group_result(w, &gr, ORDER_IMAGE, &out));
    tfl_op op = {.code = TFL_CONV_2D, .version = a->group > 1 ? 6 : gr.q ? 3 : 1, .option_type = TFL_OPT_CONV_2D, .n_option = 6,
                 .option = {OPT_B(0, win.padding), OPT_I(1, a->strides.v[1]), OPT_I(2, a->strides.v[0]), OPT_B(3, gr.act),
                            OPT_I1(4, a->dilations.v[1]), OPT_I1(5, a->dilations.v[0])}};
    if (depthwise)
        op = (tfl_op){.code = TFL_DEPTHWISE_CONV_2D, .version = gr.q ? 3 : 2, .option_type = TFL_OPT_DEPTHWISE_CONV_2D,
                      .n_option = 7,
                      .option = {OPT_B(0, win.padding), OPT_I(1, a->strides.v[1]), OPT_I(2, a->strides.v[0]),
                                 OPT_I(3, outputs / channels), OPT_B(4, gr.act), OPT_I1(5, a->dilations.v[1]),
                                 OPT_I1(6, a->dilations.v[0])}};
    return writer_op(w, op, in, 3, out);
}

/* ---- Gemm, MatMul ---- */

/* A matrix as [out, in]; of an input in ORDER_FLAT its columns are [H*W*C] instead of [C*H*W]. */
static status matrix(writer *w, weights *wt, const shape *sh, bool transposed, const place *x, int32_t *t)
{
    int64_t outputs = sh->dim[transposed ? 0 : 1], columns = sh->dim[transposed ? 1 : 0];
    void *moved;
    wt->q.axis = 0;
    if (x->as == ORDER_FLAT) {
        int64_t c = x->image.dim[1], hw = columns / c;
        shape image = transposed ? SHAPE(outputs, c, hw) : SHAPE(c, hw, outputs);
        TRY(writer_permute(w, wt->data, wt->size, &image, transposed ? (const int[]){0, 2, 1} : (const int[]){2, 1, 0}, &moved));
    } else {
        TRY(writer_permute(w, wt->data, wt->size, sh, transposed ? (const int[]){0, 1} : (const int[]){1, 0}, &moved));
    }
    return writer_const(w, wt->name, "", wt->type, SHAPE(outputs, columns), moved, wt->q.n ? &wt->q : NULL, t);
}

/* y = x * matrix + bias over the last dimension. */
static status fully_connected(writer *w, const node *n, const tfl_row *row, bool transposed)
{
    const value *x = graph_value(w->g, n->in[0]), *b = graph_value(w->g, n->in[1]);
    group gr;
    weights wt;
    int32_t in[3], out;
    group_find(w, n, row, &gr);
    TRY(writer_take(w, n->in[0], ORDER_PLAIN, gr.q, &in[0]));
    TRY(read_weights(w, n, n->in[1], gr.q, &wt));
    TRY(matrix(w, &wt, &b->sh, transposed, &w->at[n->in[0]], &in[1]));
    TRY(add_bias(w, n, in[0], &wt, b->sh.dim[transposed ? 0 : 1], &in[2]));
    TRY(group_result(w, &gr, ORDER_PLAIN, &out));
    bool keep = x->sh.rank > 2;
    return writer_op(w, (tfl_op){.code = TFL_FULLY_CONNECTED, .version = wt.q.n > 1 ? 12 : keep ? 5 : gr.q ? 4 : 1,
                                 .option_type = TFL_OPT_FULLY_CONNECTED, .n_option = 2,
                                 .option = {OPT_B(0, gr.act), OPT_B(2, keep)}}, in, 3, out);
}

status emit_gemm(writer *w, const node *n, const tfl_row *row)
{
    const gemm_attrs *a = n->attr;
    if (a->alpha != 1 || (n->n_in > 2 && n->in[2] && a->beta != 1) || a->transA)
        return op_fail(n, "only alpha = 1, beta = 1 and transA = 0 are written to TFLite files");
    return fully_connected(w, n, row, a->transB != 0);
}

status emit_matmul(writer *w, const node *n, const tfl_row *row)
{
    const value *a = graph_value(w->g, n->in[0]), *b = graph_value(w->g, n->in[1]);
    if (!qdq_is_const(w->g, n->in[1]) || b->sh.rank != 2 || a->sh.rank < 2)
        return op_fail(n, "only products with a constant matrix are written to TFLite files; attention is not");
    if (writer_order(w, n->in[0]) == ORDER_IMAGE)
        return op_fail(n, "a matrix product over the last axis of an image");
    return fully_connected(w, n, row, false);
}
