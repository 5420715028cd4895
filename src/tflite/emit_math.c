/* emit_math.c - elementwise arithmetic, activations, means, average pools, Softmax, batch norm. */
#include "tflite/writer.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* The result of an elementwise operator lies as its input does. */
static status elementwise_result(writer *w, const node *n, const group *gr, int32_t *out)
{
    place from = w->at[n->in[0]];
    TRY(group_result(w, gr, from.as, out));
    w->at[gr->y].image = from.image;
    return ST_OK;
}

status emit_unary(writer *w, const node *n, const tfl_row *row)
{
    int32_t in, out;
    group gr;
    group_find(w, n, row, &gr);
    TRY(writer_take(w, n->in[0], writer_order(w, n->in[0]), false, &in));
    TRY(elementwise_result(w, n, &gr, &out));
    return writer_op(w, (tfl_op){.code = row->code, .version = 1, .option_type = row->option_type}, &in, 1, out);
}

status emit_leaky_relu(writer *w, const node *n, const tfl_row *row)
{
    const alpha_attrs *a = n->attr;
    int32_t in, out;
    group gr;
    group_find(w, n, row, &gr);
    TRY(writer_take(w, n->in[0], writer_order(w, n->in[0]), false, &in));
    TRY(elementwise_result(w, n, &gr, &out));
    return writer_op(w, (tfl_op){.code = TFL_LEAKY_RELU, .version = 1, .option_type = TFL_OPT_LEAKY_RELU, .n_option = 1,
                                 .option = {OPT_F(0, a->alpha)}}, &in, 1, out);
}

/* ---- Relu, Clip ---- */

/* One bound of a Clip that is no known activation, in float. */
static status bound(writer *w, const node *n, int code, double v, int32_t in, int32_t out)
{
    float *data;
    int32_t ins[2] = {in};
    TRY(arena_alloc(&w->m.mem, &data, 1, sizeof *data));
    *data = (float)v;
    TRY(writer_const(w, n->name, code == TFL_MAXIMUM ? "min" : "max", TFL_FLOAT32, SHAPE(1), data, NULL, &ins[1]));
    return writer_op(w, (tfl_op){.code = code, .version = 1, .option_type = TFL_OPT_MAXIMUM_MINIMUM}, ins, 2, out);
}

status emit_clamp(writer *w, const node *n, const tfl_row *row)
{
    static const int code_of[] = {[TFL_ACT_RELU] = TFL_RELU,
                                  [TFL_ACT_RELU_N1_TO_1] = TFL_RELU_N1_TO_1, [TFL_ACT_RELU6] = TFL_RELU6};
    double lo = -INFINITY, hi = INFINITY;
    int32_t in, out, middle;
    group gr;
    row->clamp(n, &lo, &hi);
    if (isinf(lo) && isinf(hi))
        return emit_same(w, n, row);
    group_find(w, n, row, &gr);
    if (gr.act == TFL_ACT_RELU_N1_TO_1 && gr.q) { /* its int8 form is not in every runtime */
        tfl_row float_row = *row;
        float_row.int8 = false;
        group_find(w, n, &float_row, &gr);
    }
    order as = writer_order(w, n->in[0]);
    TRY(writer_take(w, n->in[0], as, gr.q, &in));
    TRY(elementwise_result(w, n, &gr, &out));
    if (gr.act != TFL_ACT_NONE)
        return writer_op(w, (tfl_op){.code = code_of[gr.act], .version = gr.q ? 2 : 1}, &in, 1, out);
    if (gr.q) /* the codes' range is the bound */
        return writer_op(w, (tfl_op){.code = TFL_QUANTIZE, .version = 2, .option_type = TFL_OPT_QUANTIZE}, &in, 1, out);
    if (isinf(lo) || isinf(hi))
        return bound(w, n, isinf(hi) ? TFL_MAXIMUM : TFL_MINIMUM, isinf(hi) ? lo : hi, in, out);
    TRY(writer_like(w, out, "bounded", w->m.tensor[out].sh, &middle));
    TRY(bound(w, n, TFL_MAXIMUM, lo, in, middle));
    return bound(w, n, TFL_MINIMUM, hi, middle, out);
}

/* ---- Add, Sub, Mul, Div ---- */

status emit_binary(writer *w, const node *n, const tfl_row *row)
{
    const value *y = graph_value(w->g, n->out[0]);
    order as = ORDER_PLAIN;
    value_id leader = n->in[0];
    int32_t in[2], out;
    group gr;
    if (y->type != DTYPE_F32)
        return op_fail(n, "only float32 arithmetic is written to TFLite files, not %s", dtype_of(y->type)->name);
    for (int i = 0; i < 2; i++) {
        order one = qdq_is_const(w->g, n->in[i]) ? ORDER_PLAIN : writer_order(w, n->in[i]);
        if (one == ORDER_IMAGE || (one == ORDER_FLAT && as == ORDER_PLAIN)) {
            as = one;
            leader = n->in[i];
        }
    }
    for (int i = 0; i < 2; i++) /* [N, C] beside an image broadcasts over other axes than its last two */
        if (as == ORDER_IMAGE && !qdq_is_const(w->g, n->in[i]) && graph_value(w->g, n->in[i])->sh.rank != 4)
            as = ORDER_PLAIN;
    group_find(w, n, row, &gr);
    for (int i = 0; i < 2; i++)
        TRY(writer_take(w, n->in[i], as, gr.q, &in[i]));
    TRY(group_result(w, &gr, as, &out));
    w->at[gr.y].image = w->at[leader].image;
    return writer_op(w, (tfl_op){.code = row->code, .version = gr.q ? 2 : 1, .option_type = row->option_type, .n_option = 1,
                                 .option = {OPT_B(0, gr.act)}}, in, 2, out);
}

/* ---- means ---- */

/* A MEAN over these axes of the tensor that lies in `as`. */
static status mean(writer *w, const node *n, const tfl_row *row, order as, order out_as, const int64_t *axes,
                   int64_t count, bool keep)
{
    int32_t in[2], out;
    group gr;
    group_find(w, n, row, &gr);
    TRY(writer_take(w, n->in[0], as, gr.q, &in[0]));
    TRY(writer_ints(w, n->name, "axes", SHAPE(count), axes, &in[1]));
    TRY(group_result(w, &gr, out_as, &out));
    return writer_op(w, (tfl_op){.code = TFL_MEAN, .version = gr.q ? 2 : 1, .option_type = TFL_OPT_REDUCER, .n_option = 1,
                                 .option = {OPT_B(0, keep)}}, in, 2, out);
}

status emit_global_average_pool(writer *w, const node *n, const tfl_row *row)
{
    if (graph_value(w->g, n->in[0])->sh.rank != 4)
        return op_fail(n, "TFLite pools images [N, C, H, W] only");
    return mean(w, n, row, ORDER_IMAGE, ORDER_IMAGE, (const int64_t[]){1, 2}, 2, true);
}

status emit_reduce_mean(writer *w, const node *n, const tfl_row *row)
{
    static const int64_t place_in_image[4] = {0, 3, 1, 2};
    const reduce_attrs *a = n->attr;
    const shape *x = &graph_value(w->g, n->in[0])->sh;
    uint32_t mask;
    int64_t axes[RANK_MAX], count = 0;
    TRY(op_axes(n, a->axes, x->rank, &mask));
    if (!a->axes.n)
        return op_fail(n, "give its axes; a mean over all of them, the batch too, is not written to TFLite files");
    bool spatial = x->rank == 4 && mask == 12, image = writer_order(w, n->in[0]) == ORDER_IMAGE && (spatial || a->keepdims);
    for (int i = 0; i < x->rank; i++)
        if (mask >> i & 1)
            axes[count++] = image ? place_in_image[i] : i;
    return mean(w, n, row, image ? ORDER_IMAGE : ORDER_PLAIN, image && a->keepdims ? ORDER_IMAGE : ORDER_PLAIN, axes, count,
                a->keepdims != 0);
}

/* TFLite averages in int8 only at one scale, and never over its padding. */
status emit_average_pool(writer *w, const node *n, const tfl_row *row)
{
    const pool_attrs *a = n->attr;
    const shape *x = &graph_value(w->g, n->in[0])->sh, *y = &graph_value(w->g, n->out[0])->sh;
    tfl_row int8_row = *row;
    int32_t in, out;
    group gr;
    if (x->rank != 4)
        return op_fail(n, "TFLite pools images [N, C, H, W] only");
    for (int i = 0; i < 2; i++)
        if (a->dilations.v[i] != 1)
            return op_fail(n, "TFLite's pools have no dilation");
    tfl_windows win = writer_windows(x->dim + 2, y->dim + 2, a->kernel_shape.v, a->strides.v, a->dilations.v, a->pads.v);
    bool padded = false;
    for (int i = 0; i < 4; i++)
        padded |= a->pads.v[i] > 0;
    if (win.padding == TFL_SAME && a->count_include_pad && padded) {
        win.padding = TFL_VALID;
        win.pad = true;
    }
    for (int i = 0; i < 2; i++) /* ONNX does not count what ceil_mode adds behind the pads */
        if (win.pad && (!a->count_include_pad || win.end[i] > a->pads.v[2 + i]))
            return op_fail(n, "TFLite has no average that leaves out this padding; use count_include_pad = 1, ceil_mode = 0, or "
                              "padding as SAME has it");
    int8_row.int8 = true;
    int8_row.data_in = 1;
    group_find(w, n, &int8_row, &gr);
    qdq from;
    if (gr.q && (!qdq_behind(w->g, n->in[0], &from) || !qdq_same(&from, &gr.out)))
        group_find(w, n, row, &gr);
    TRY(writer_take(w, n->in[0], ORDER_IMAGE, gr.q, &in));
    if (win.pad)
        TRY(writer_pad_image(w, win.begin, win.end, PAD_ZERO, &in));
    TRY(group_result(w, &gr, ORDER_IMAGE, &out));
    return writer_op(w, (tfl_op){.code = TFL_AVERAGE_POOL_2D, .version = gr.q ? 2 : 1, .option_type = TFL_OPT_POOL_2D,
                                 .n_option = 6,
                                 .option = {OPT_B(0, win.padding), OPT_I(1, a->strides.v[1]), OPT_I(2, a->strides.v[0]),
                                            OPT_I(3, a->kernel_shape.v[1]), OPT_I(4, a->kernel_shape.v[0]), OPT_B(5, gr.act)}},
                     &in, 1, out);
}

/* ---- Softmax, batch norm ---- */

status emit_softmax(writer *w, const node *n, const tfl_row *row)
{
    const axis_attrs *a = n->attr;
    const shape *x = &graph_value(w->g, n->in[0])->sh;
    order as = writer_order(w, n->in[0]);
    int axis = shape_axis(x, a->axis), last = as == ORDER_IMAGE ? 1 : x->rank - 1;
    int32_t in, out;
    group gr;
    if (axis != last || as == ORDER_FLAT)
        return op_fail(n, "over axis %d; TFLite's is over the last axis (of images: the channels)", axis);
    group_find(w, n, row, &gr);
    TRY(writer_take(w, n->in[0], as, false, &in));
    TRY(group_result(w, &gr, as, &out));
    return writer_op(w, (tfl_op){.code = TFL_SOFTMAX, .version = 1, .option_type = TFL_OPT_SOFTMAX, .n_option = 1,
                                 .option = {OPT_F(0, 1)}}, &in, 1, out);
}

/* y = x * m + b with m = scale / sqrt(var + epsilon), b = bias - mean * m, over dimension 1 (BatchNormalization-15). */
status emit_batch_norm(writer *w, const node *n, const tfl_row *row)
{
    (void)row;
    const batch_norm_attrs *a = n->attr;
    const shape *x = &graph_value(w->g, n->in[0])->sh;
    const float *part[4];
    float *m, *b;
    int32_t in[2], out, middle;
    int64_t channels = x->rank > 1 ? x->dim[1] : 0;
    order as = writer_order(w, n->in[0]);
    if (a->training_mode || (x->rank != 2 && as != ORDER_IMAGE) || as == ORDER_FLAT)
        return op_fail(n, "in training mode, or over other data than images and [N, C], it is not written to TFLite files");
    for (int i = 0; i < 4; i++) {
        TRY(qdq_floats(w->g, n->in[1 + i], &w->m.mem, &part[i]));
        if (!part[i])
            return op_fail(n, "input %d is no constant", 1 + i);
    }
    TRY(arena_alloc(&w->m.mem, &m, (size_t)channels, sizeof *m));
    TRY(arena_alloc(&w->m.mem, &b, (size_t)channels, sizeof *b));
    for (int64_t c = 0; c < channels; c++) {
        double k = (double)part[0][c] / sqrt((double)part[3][c] + a->epsilon);
        m[c] = (float)k;
        b[c] = (float)((double)part[1][c] - (double)part[2][c] * k);
    }
    TRY(writer_take(w, n->in[0], as, false, &in[0]));
    TRY(writer_const(w, n->name, "scale", TFL_FLOAT32, SHAPE(channels), m, NULL, &in[1]));
    TRY(writer_like(w, in[0], "scaled", w->m.tensor[in[0]].sh, &middle));
    TRY(writer_op(w, (tfl_op){.code = TFL_MUL, .version = 1, .option_type = TFL_OPT_MUL}, in, 2, middle));
    in[0] = middle;
    TRY(writer_const(w, n->name, "shift", TFL_FLOAT32, SHAPE(channels), b, NULL, &in[1]));
    TRY(writer_tensor(w, n->out[0], as, NULL, &out));
    writer_put(w, n->out[0], false, as, out);
    return writer_op(w, (tfl_op){.code = TFL_ADD, .version = 1, .option_type = TFL_OPT_ADD}, in, 2, out);
}
