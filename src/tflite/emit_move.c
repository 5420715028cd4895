/* emit_move.c - operators that choose or move elements and compute none: they work on int8 codes as they lie, with equal
 * parameters before and behind; and the two ends of int8 regions, QUANTIZE and DEQUANTIZE. */
#include "tflite/writer.h"

#include "ops/resize.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* The input of n in that order, in int8 if it is there, and a result with the same parameters. */
static status moved(writer *w, const node *n, order in_as, order out_as, int32_t *in, int32_t *out, bool *q)
{
    *q = writer_has_q(w, n->in[0]);
    TRY(writer_take(w, n->in[0], in_as, *q, in));
    tfl_quant quant = w->m.tensor[*in].q;
    TRY(writer_tensor(w, n->out[0], out_as, *q ? &quant : NULL, out));
    writer_put(w, n->out[0], *q, out_as, *out);
    return ST_OK;
}

static void same_place(writer *w, value_id from, value_id to, bool q, int32_t t)
{
    writer_put(w, to, q, w->at[from].as, t);
    w->at[to].image = w->at[from].image;
}

status emit_same(writer *w, const node *n, const tfl_row *row)
{
    (void)row;
    if (n->n_out > 1 && n->out[1] && w->uses[n->out[1]])
        return op_fail(n, "its mask is used");
    if (!qdq_is_const(w->g, n->in[0]))
        w->at[n->out[0]] = w->at[n->in[0]];
    return ST_OK;
}

/* ---- QuantizeLinear, DequantizeLinear ---- */

static bool same_quant(const tfl_quant *a, const tfl_quant *b)
{
    if (a->n != b->n || (a->n > 1 && a->axis != b->axis))
        return false;
    for (int32_t i = 0; i < a->n; i++)
        if (memcmp(&a->scale[i], &b->scale[i], sizeof a->scale[i]) != 0 || a->zero[i] != b->zero[i])
            return false;
    return true;
}

static status read_params(writer *w, const node *n, tfl_quant *quant)
{
    qdq d;
    if (!qdq_of_node(w->g, n, &d))
        return op_fail(n, "scale and zero point must be constants");
    if (d.type != DTYPE_U8 && d.type != DTYPE_I8)
        return op_fail(n, "%s is not written to TFLite files outside of weights", dtype_of(d.type)->name);
    if (d.n > 1)
        return op_fail(n, "a scale per channel is written to TFLite files for weights only");
    return writer_quant(w, &d, quant);
}

status emit_quantize(writer *w, const node *n, const tfl_row *row)
{
    (void)row;
    tfl_quant quant;
    int32_t in, out;
    TRY(read_params(w, n, &quant));
    bool q = writer_has_q(w, n->in[0]) && !qdq_is_const(w->g, n->in[0]);
    if (q && same_quant(&w->m.tensor[w->at[n->in[0]].q].q, &quant)) {
        same_place(w, n->in[0], n->out[0], true, w->at[n->in[0]].q);
        return ST_OK;
    }
    order as = writer_order(w, n->in[0]);
    TRY(writer_take(w, n->in[0], as, q, &in));
    TRY(writer_tensor(w, n->out[0], as, &quant, &out));
    same_place(w, n->in[0], n->out[0], true, out);
    return writer_op(w, (tfl_op){.code = TFL_QUANTIZE, .version = q ? 2 : 1, .option_type = TFL_OPT_QUANTIZE}, &in, 1, out);
}

status emit_dequantize(writer *w, const node *n, const tfl_row *row)
{
    (void)row;
    tfl_quant quant;
    if (graph_value(w->g, n->in[0])->kind == VALUE_CONST)
        return ST_OK; /* who uses it reads the codes */
    TRY(read_params(w, n, &quant));
    tfl_tensor *t = &w->m.tensor[w->at[n->in[0]].q];
    if (!t->q.n)
        t->q = quant; /* an input that is bytes */
    if (!same_quant(&t->q, &quant))
        return op_fail(n, "reads '%s' with another scale or zero point than it was written with; TFLite has no form of that",
                       graph_value(w->g, n->in[0])->name);
    same_place(w, n->in[0], n->out[0], true, w->at[n->in[0]].q);
    return ST_OK;
}

/* ---- MaxPool ---- */

static status max_windows(writer *w, const node *n, const int64_t *kernel, const int64_t *strides, tfl_windows win)
{
    int32_t in, out;
    bool q;
    TRY(moved(w, n, ORDER_IMAGE, ORDER_IMAGE, &in, &out, &q));
    if (win.pad)
        TRY(writer_pad_image(w, win.begin, win.end, PAD_LOWEST, &in));
    return writer_op(w, (tfl_op){.code = TFL_MAX_POOL_2D, .version = q ? 2 : 1, .option_type = TFL_OPT_POOL_2D, .n_option = 5,
                                 .option = {OPT_B(0, win.padding), OPT_I(1, strides[1]), OPT_I(2, strides[0]),
                                            OPT_I(3, kernel[1]), OPT_I(4, kernel[0])}}, &in, 1, out);
}

status emit_max_pool(writer *w, const node *n, const tfl_row *row)
{
    (void)row;
    const pool_attrs *a = n->attr;
    const shape *x = &graph_value(w->g, n->in[0])->sh, *y = &graph_value(w->g, n->out[0])->sh;
    if (x->rank != 4 || (n->n_out > 1 && n->out[1] && w->uses[n->out[1]]))
        return op_fail(n, "TFLite pools images [N, C, H, W] only, and gives no indices");
    for (int i = 0; i < 2; i++)
        if (a->dilations.v[i] != 1)
            return op_fail(n, "TFLite's pools have no dilation");
    tfl_windows win = writer_windows(x->dim + 2, y->dim + 2, a->kernel_shape.v, a->strides.v, a->dilations.v, a->pads.v);
    return max_windows(w, n, a->kernel_shape.v, a->strides.v, win);
}

status emit_global_max_pool(writer *w, const node *n, const tfl_row *row)
{
    (void)row;
    const shape *x = &graph_value(w->g, n->in[0])->sh;
    if (x->rank != 4)
        return op_fail(n, "TFLite pools images [N, C, H, W] only");
    return max_windows(w, n, x->dim + 2, (const int64_t[]){1, 1}, (tfl_windows){.padding = TFL_VALID});
}

/* ---- Resize ---- */

/* Which input element ONNX's Resize-19 (mode nearest) takes at place `o`; -1: a mode that is not handled. */
static int64_t nearest_of_onnx(const resize_attrs *a, const resize_axis *x, int64_t o)
{
    double at = (double)o;
    const double half[] = {[COORD_HALF_PIXEL] = (at + 0.5) / x->scale - 0.5,
                           [COORD_PYTORCH_HALF_PIXEL] = x->out > 1 ? (at + 0.5) / x->scale - 0.5 : 0,
                           [COORD_ALIGN_CORNERS] = x->out > 1 ? at * (double)(x->in - 1) / (double)(x->out - 1) : 0,
                           [COORD_ASYMMETRIC] = at / x->scale};
    int64_t mode = a->coordinate_transformation_mode;
    if (mode != COORD_HALF_PIXEL && mode != COORD_PYTORCH_HALF_PIXEL && mode != COORD_ALIGN_CORNERS && mode != COORD_ASYMMETRIC)
        return -1;
    double c = half[mode];
    const double rounded[] = {[NEAREST_ROUND_PREFER_FLOOR] = ceil(c - 0.5), [NEAREST_ROUND_PREFER_CEIL] = floor(c + 0.5),
                              [NEAREST_FLOOR] = floor(c), [NEAREST_CEIL] = ceil(c)};
    double r = fmin(fmax(rounded[a->nearest_mode], 0), (double)(x->in - 1));
    return (int64_t)r;
}

/* The same of TFLite's RESIZE_NEAREST_NEIGHBOR (in float, as its kernels compute). */
static int64_t nearest_of_tflite(const resize_axis *x, bool align, bool half, int64_t o)
{
    float scale = align && x->out > 1 ? (float)(x->in - 1) / (float)(x->out - 1) : (float)x->in / (float)x->out;
    float c = ((float)o + (half ? 0.5f : 0.0f)) * scale;
    int64_t r = (int64_t)(align ? roundf(c) : floorf(c));
    return r > x->in - 1 ? x->in - 1 : r;
}

status emit_resize(writer *w, const node *n, const tfl_row *row)
{
    (void)row;
    static const struct {
        bool align, half;
    } forms[] = {{false, false}, {false, true}, {true, false}};
    const resize_attrs *a = n->attr;
    const shape *x = &graph_value(w->g, n->in[0])->sh, *y = &graph_value(w->g, n->out[0])->sh;
    size_t form = 0, n_form = sizeof forms / sizeof *forms;
    if (x->rank != 4 || a->mode != RESIZE_NEAREST || x->dim[0] != y->dim[0] || x->dim[1] != y->dim[1])
        return op_fail(n, "only mode = nearest over H and W is written to TFLite files");
    for (; form < n_form; form++) {
        bool equal = true;
        for (int axis = 2; axis < 4; axis++) {
            resize_axis r = resize_axis_of(a, x, axis);
            for (int64_t o = 0; o < r.out; o++)
                equal &= nearest_of_onnx(a, &r, o) == nearest_of_tflite(&r, forms[form].align, forms[form].half, o);
        }
        if (equal)
            break;
    }
    if (form == n_form)
        return op_fail(n, "takes other elements than any form of TFLite's; use whole factors, or "
                          "coordinate_transformation_mode = asymmetric with nearest_mode = floor");
    int32_t in[2], out;
    bool q;
    TRY(moved(w, n, ORDER_IMAGE, ORDER_IMAGE, &in[0], &out, &q));
    TRY(writer_ints(w, n->name, "size", SHAPE(2), y->dim + 2, &in[1]));
    return writer_op(w, (tfl_op){.code = TFL_RESIZE_NEAREST_NEIGHBOR, .version = form ? 3 : q ? 2 : 1,
                                 .option_type = TFL_OPT_RESIZE_NEAREST, .n_option = 2,
                                 .option = {OPT_B(0, forms[form].align), OPT_B(1, forms[form].half)}}, in, 2, out);
}

/* ---- Pad ---- */

/* The padding as a code or a float, in a tensor of one element. False: the number has no code. */
static status pad_constant(writer *w, const node *n, double v, const tfl_quant *quant, bool q, int32_t *t)
{
    void *data;
    TRY(arena_alloc(&w->m.mem, &data, 1, 4));
    if (!q) {
        *(float *)data = (float)v;
        return writer_const(w, n->name, "value", TFL_FLOAT32, SHAPE(1), data, NULL, t);
    }
    double code = nearbyint(v / (double)quant->scale[0]) + (double)quant->zero[0];
    *(int8_t *)data = (int8_t)fmin(fmax(code, -128), 127);
    return writer_const(w, n->name, "value", TFL_INT8, SHAPE(1), data, quant, t);
}

/* On codes only where the padding has a code: else the group's QuantizeLinear would see another number. */
static bool pad_has_code(const tfl_quant *quant, double v)
{
    double code = v / (double)quant->scale[0] + (double)quant->zero[0];
    return code == nearbyint(code) && code >= -128 && code <= 127;
}

status emit_pad(writer *w, const node *n, const tfl_row *row)
{
    (void)row;
    const pad_attrs *a = n->attr;
    int rank = graph_value(w->g, n->in[0])->sh.rank;
    bool q = writer_has_q(w, n->in[0]), image = writer_order(w, n->in[0]) == ORDER_IMAGE;
    order as = image ? ORDER_IMAGE : ORDER_PLAIN;
    int64_t pads[2 * RANK_MAX];
    int32_t in[3], out;
    if (a->mode != PAD_CONSTANT)
        return op_fail(n, "only mode = constant is written to TFLite files");
    for (int i = 0; i < rank; i++) {
        int d = image ? (const int[]){0, 2, 3, 1}[i] : i;
        pads[2 * i] = a->pads.v[d];
        pads[2 * i + 1] = a->pads.v[rank + d];
        if (pads[2 * i] < 0 || pads[2 * i + 1] < 0)
            return op_fail(n, "negative pads are not written to TFLite files; use Slice before the export");
    }
    TRY(writer_take(w, n->in[0], as, q, &in[0]));
    tfl_quant quant = w->m.tensor[in[0]].q;
    bool integers = graph_value(w->g, n->in[0])->type != DTYPE_F32; /* the number is a code, of the graph's type */
    double v = a->constant_value;
    if (integers)
        return op_fail(n, "pads codes; put it before QuantizeLinear or behind DequantizeLinear");
    if (q && !pad_has_code(&quant, v)) {
        q = false;
        TRY(writer_take(w, n->in[0], as, q, &in[0]));
    }
    TRY(writer_ints(w, n->name, "pads", SHAPE(rank, 2), pads, &in[1]));
    if (v != 0)
        TRY(pad_constant(w, n, v, &quant, q, &in[2]));
    TRY(writer_tensor(w, n->out[0], as, q ? &quant : NULL, &out));
    writer_put(w, n->out[0], q, as, out);
    return writer_op(w, (tfl_op){.code = v != 0 ? TFL_PADV2 : TFL_PAD, .version = q ? 2 : 1,
                                 .option_type = v != 0 ? TFL_OPT_PADV2 : TFL_OPT_PAD}, in, v != 0 ? 3 : 2, out);
}

/* ---- Reshape, Flatten, Squeeze, Unsqueeze ---- */

/* [N, C, H, W] and [N, H, W, C] hold their elements in the same order. */
static bool order_is_one(const shape *x)
{
    return x->dim[1] == 1 || x->dim[2] * x->dim[3] == 1;
}

status emit_reshape(writer *w, const node *n, const tfl_row *row)
{
    (void)row;
    value_id x = n->in[0], y = n->out[0];
    const shape *from = &graph_value(w->g, x)->sh, *to = &graph_value(w->g, y)->sh;
    int32_t in[2], out, list[RANK_MAX];
    bool q = writer_has_q(w, x), image = writer_order(w, x) == ORDER_IMAGE;
    if (qdq_is_const(w->g, x))
        return op_fail(n, "of a constant; fold constants before the export");
    order as = ORDER_PLAIN, in_as = image && order_is_one(from) ? ORDER_IMAGE : ORDER_PLAIN;
    if (writer_order(w, x) == ORDER_FLAT && to->rank != 2)
        return op_fail(n, "of a flattened image"); /* writer_flat_serves lets none through */
    if (image && in_as == ORDER_PLAIN && to->rank == 2 && to->dim[0] == from->dim[0] && writer_flat_serves(w, y)) {
        in_as = ORDER_IMAGE;
        as = ORDER_FLAT;
    }
    if (to->rank == 4 && order_is_one(to))
        as = ORDER_IMAGE; /* what follows is as a rule a spatial operator */
    TRY(writer_take(w, x, in_as, q, &in[0]));
    tfl_quant quant = w->m.tensor[in[0]].q;
    TRY(writer_tensor(w, y, as, q ? &quant : NULL, &out));
    writer_put(w, y, q, as, out);
    w->at[y].image = *from;
    shape sh = w->m.tensor[out].sh;
    int64_t dims[RANK_MAX];
    for (int i = 0; i < sh.rank; i++)
        dims[i] = i == 0 && w->m.tensor[out].batched ? -1 : sh.dim[i];
    TRY(writer_ints(w, n->name, "shape", SHAPE(sh.rank), dims, &in[1]));
    for (int i = 0; i < sh.rank; i++)
        list[i] = (int32_t)dims[i];
    int32_t *kept;
    TRY(arena_alloc(&w->m.mem, &kept, (size_t)sh.rank, sizeof *kept));
    memcpy(kept, list, (size_t)sh.rank * sizeof *kept);
    return writer_op(w, (tfl_op){.code = TFL_RESHAPE, .version = 1, .option_type = TFL_OPT_RESHAPE, .n_option = 1,
                                 .option = {{.slot = 0, .kind = 'v'}}, .list = kept, .n_list = (size_t)sh.rank}, in, 2, out);
}

/* ---- Transpose ---- */

status emit_transpose(writer *w, const node *n, const tfl_row *row)
{
    (void)row;
    static const int place_in_image[4] = {0, 3, 1, 2};
    const transpose_attrs *a = n->attr;
    int rank = graph_value(w->g, n->in[0])->sh.rank;
    bool image = writer_order(w, n->in[0]) == ORDER_IMAGE, q;
    int64_t perm[RANK_MAX];
    int32_t in[2], out;
    for (int i = 0; i < rank; i++) {
        int64_t d = a->perm.n ? a->perm.v[i] : rank - 1 - i;
        perm[i] = image ? place_in_image[d] : d;
    }
    TRY(moved(w, n, image ? ORDER_IMAGE : ORDER_PLAIN, ORDER_PLAIN, &in[0], &out, &q));
    TRY(writer_ints(w, n->name, "perm", SHAPE(rank), perm, &in[1]));
    return writer_op(w, (tfl_op){.code = TFL_TRANSPOSE, .version = rank > 4 ? 4 : q ? 2 : 1, .option_type = TFL_OPT_TRANSPOSE},
                     in, 2, out);
}

/* ---- Concat ---- */

enum { CONCAT_MAX = 256 };

/* Parameters that all inputs have, or those of the QuantizeLinear behind. False: this Concat stays float. */
static bool concat_quant(writer *w, const node *n, tfl_quant *quant)
{
    for (int i = 0; i < n->n_in; i++) {
        if (w->at[n->in[i]].q < 0)
            return false;
        const tfl_quant *one = &w->m.tensor[w->at[n->in[i]].q].q;
        if (i > 0 && !same_quant(one, quant))
            return false;
        *quant = *one;
    }
    return true;
}

status emit_concat(writer *w, const node *n, const tfl_row *row)
{
    static const int place_in_image[4] = {0, 3, 1, 2};
    const axis_attrs *a = n->attr;
    const shape *y = &graph_value(w->g, n->out[0])->sh;
    int axis = shape_axis(y, a->axis);
    int32_t in[CONCAT_MAX], out;
    bool image = false;
    tfl_quant quant = {0};
    tfl_row int8_row = *row;
    group gr;
    if (n->n_in > CONCAT_MAX || axis < 0)
        return op_fail(n, "%d inputs; up to %d are written", n->n_in, CONCAT_MAX);
    for (int i = 0; i < n->n_in; i++)
        image |= writer_order(w, n->in[i]) == ORDER_IMAGE;
    order as = image ? ORDER_IMAGE : ORDER_PLAIN;
    bool equal = concat_quant(w, n, &quant);
    int8_row.int8 = true;
    int8_row.data_in = n->n_in;
    group_find(w, n, &int8_row, &gr);
    for (int i = 0; i < n->n_in; i++)
        TRY(writer_take(w, n->in[i], as, equal || gr.q, &in[i]));
    if (gr.q) { /* every input comes to the result's scale first: TFLite joins equal ones only */
        TRY(writer_quant(w, &gr.out, &quant));
        for (int i = 0; i < n->n_in; i++) {
            if (same_quant(&w->m.tensor[in[i]].q, &quant))
                continue;
            int32_t from = in[i];
            TRY(writer_like(w, from, "requantised", w->m.tensor[from].sh, &in[i]));
            w->m.tensor[in[i]].q = quant;
            TRY(writer_op(w, (tfl_op){.code = TFL_QUANTIZE, .version = 2, .option_type = TFL_OPT_QUANTIZE}, &from, 1, in[i]));
        }
        TRY(group_result(w, &gr, as, &out));
    } else {
        TRY(writer_tensor(w, n->out[0], as, equal ? &quant : NULL, &out));
        writer_put(w, n->out[0], equal, as, out);
    }
    return writer_op(w, (tfl_op){.code = TFL_CONCATENATION, .version = equal || gr.q ? 2 : 1,
                                 .option_type = TFL_OPT_CONCATENATION,
                                 .n_option = 1, .option = {OPT_I(0, image ? place_in_image[axis] : axis)}},
                     in, n->n_in, out);
}
