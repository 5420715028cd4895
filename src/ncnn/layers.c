/* layers.c - arithmetic of two operands, pools, concatenation, padding, resizing, Softmax, batch norm. */
#include "ncnn/writer.h"

#include <inttypes.h>
#include <math.h>

/* ---- two operands ---- */

/* A constant operand as a layer of its own; its dimensions filled up in front to the rank of the result. */
static status take_const(writer *w, const node *n, value_id v, const shape *like, int32_t *blob)
{
    const value *x = graph_value(w->g, v);
    const float *data;
    shape sh = {.rank = like->rank};
    char buf[200];
    for (int i = 0; i < sh.rank; i++)
        sh.dim[i] = i < sh.rank - x->sh.rank ? 1 : x->sh.dim[i - (sh.rank - x->sh.rank)];
    if (x->sh.rank > sh.rank || sh.dim[0] != 1)
        return op_fail(n, "its constant has shape %s; ncnn has no batch", shape_print(&x->sh, buf));
    TRY(qdq_floats(w->g, v, &w->mem, &data));
    if (!data)
        return op_fail(n, "'%s' is %s; only float32 constants are written to ncnn files", x->name, dtype_of(x->type)->name);
    const char *params;
    int64_t d[3] = {0, 0, 0};
    for (int i = 1; i < sh.rank; i++)
        d[i - 1] = sh.dim[sh.rank - i]; /* w, h, c */
    TRY(arena_printf(&w->mem, &params, " 0=%" PRId64 " 1=%" PRId64 " 2=%" PRId64, d[0], d[1], d[2]));
    text_add_n(&w->bin, data, (size_t)shape_count(&sh) * sizeof *data);
    return nc_add(w, "MemoryData", x->name, params, NULL, 0, blob);
}

status nc_emit_binary(writer *w, const node *n, const nc_row *row)
{
    static const int reversed[4] = {0, 7, 2, 8};
    const shape *y = &graph_value(w->g, n->out[0])->sh;
    int scalar = -1, data = -1;
    int32_t in[2], out;
    char buf[NC_NUMBER];
    const char *params;
    for (int i = 0; i < 2; i++) {
        if (!qdq_is_const(w->g, n->in[i])) {
            data = i;
            if (graph_value(w->g, n->in[i])->sh.rank != y->rank)
                return op_fail(n, "operands of different ranks; ncnn would line them up otherwise");
        } else if (shape_count(&graph_value(w->g, n->in[i])->sh) == 1) {
            scalar = i;
        }
    }
    if (data < 0)
        return op_fail(n, "both operands are constants that were not folded");
    if (scalar >= 0) {
        const float *v;
        TRY(qdq_floats(w->g, n->in[scalar], &w->mem, &v));
        if (!v)
            return op_fail(n, "its constant is not float32");
        TRY(arena_printf(&w->mem, &params, " 0=%d 1=1 2=%s", scalar == 0 ? reversed[row->code] : row->code,
                         nc_number((double)v[0], buf)));
        return nc_single(w, &(node){.op = n->op, .name = n->name, .n_in = 1, .n_out = 1, .in = &n->in[data], .out = n->out}, row,
                         "BinaryOp", params);
    }
    for (int i = 0; i < 2; i++) {
        if (qdq_is_const(w->g, n->in[i]))
            TRY(take_const(w, n, n->in[i], y, &in[i]));
        else
            TRY(nc_take(w, n->in[i], TAKE_ROUNDED, &in[i]));
    }
    TRY(arena_printf(&w->mem, &params, " 0=%d", row->code));
    TRY(nc_add(w, "BinaryOp", n->name, params, in, 2, &out));
    nc_put(w, n->out[0], out);
    return ST_OK;
}

/* ---- pools ---- */

static status need_image(const writer *w, const node *n)
{
    if (graph_value(w->g, n->in[0])->sh.rank != 4)
        return op_fail(n, "only over images [1, C, H, W] it is written to ncnn files");
    return ST_OK;
}

/* What the windows need behind the data is padded there, so that ncnn counts as many as ONNX, whatever ceil_mode was. */
status nc_emit_pool(writer *w, const node *n, const nc_row *row)
{
    const pool_attrs *a = n->attr;
    const shape *x = &graph_value(w->g, n->in[0])->sh, *y = &graph_value(w->g, n->out[0])->sh;
    const int64_t *k = a->kernel_shape.v, *s = a->strides.v, *pad = a->pads.v;
    int64_t behind[2];
    const char *params;
    TRY(need_image(w, n));
    if (n->n_out > 1 && n->out[1])
        return op_fail(n, "its indices are not written to ncnn files");
    for (int i = 0; i < 2; i++) {
        behind[i] = (y->dim[2 + i] - 1) * s[i] + k[i] - x->dim[2 + i] - pad[i];
        if (a->dilations.v[i] != 1 || pad[i] < 0)
            return op_fail(n, "ncnn's pools have no dilation and no negative padding");
        if (behind[i] > pad[2 + i] && row->code == 1)
            return op_fail(n, "an average whose last window passes the padding (ceil_mode) is not written to ncnn files");
        if (behind[i] < 0) /* ncnn leaves such a rest out by itself */
            behind[i] = 0;
    }
    TRY(arena_printf(&w->mem, &params,
                     " 0=%d 1=%" PRId64 " 11=%" PRId64 " 2=%" PRId64 " 12=%" PRId64 " 3=%" PRId64 " 13=%" PRId64 " 14=%" PRId64
                     " 15=%" PRId64 " 5=1 6=%d",
                     row->code, k[1], k[0], s[1], s[0], pad[1], pad[0], behind[1], behind[0], a->count_include_pad != 0));
    return nc_single(w, n, row, "Pooling", params);
}

/* ncnn's own global pool forgets two dimensions: a window as large as the image does not. */
static status whole_image(writer *w, const node *n, const nc_row *row)
{
    const shape *x = &graph_value(w->g, n->in[0])->sh;
    const char *params;
    TRY(need_image(w, n));
    TRY(arena_printf(&w->mem, &params, " 0=%d 1=%" PRId64 " 11=%" PRId64 " 2=1 12=1 5=1", row->code, x->dim[3], x->dim[2]));
    return nc_single(w, n, row, "Pooling", params);
}

status nc_emit_global_pool(writer *w, const node *n, const nc_row *row)
{
    return whole_image(w, n, row);
}

status nc_emit_reduce_mean(writer *w, const node *n, const nc_row *row)
{
    const reduce_attrs *a = n->attr;
    uint32_t mask;
    nc_row average = *row;
    average.code = 1;
    TRY(need_image(w, n));
    TRY(op_axes(n, a->axes, 4, &mask));
    if (mask != 12)
        return op_fail(n, "only means over the two axes of an image are written to ncnn files");
    TRY(whole_image(w, n, &average));
    w->at[n->out[0]].loose = !a->keepdims;
    return ST_OK;
}

/* ---- moves ---- */

static status inner_axis(const writer *w, const node *n, int64_t given, int *axis)
{
    const shape *x = &graph_value(w->g, n->in[0])->sh;
    TRY(op_axis(n, given, x->rank, axis));
    return *axis > 0 ? ST_OK : op_fail(n, "over the batch; ncnn has none");
}

/* Operands on one grid stay unrounded together. */
status nc_emit_concat(writer *w, const node *n, const nc_row *row)
{
    (void)row;
    const axis_attrs *a = n->attr;
    int axis;
    const char *params;
    int32_t *in, out;
    place y = w->at[n->in[0]];
    TRY(inner_axis(w, n, a->axis, &axis));
    TRY(arena_alloc(&w->mem, &in, n->n_in, sizeof *in));
    for (int i = 0; i < n->n_in; i++) {
        if (qdq_is_const(w->g, n->in[i]))
            return op_fail(n, "a constant operand is not written to ncnn files");
        y.grid = w->at[n->in[i]].grid == y.grid ? y.grid : 0;
        y.above &= w->at[n->in[i]].above;
    }
    for (int i = 0; i < n->n_in; i++)
        TRY(nc_take(w, n->in[i], y.grid > 0 ? 0 : TAKE_ROUNDED, &in[i]));
    TRY(arena_printf(&w->mem, &params, " 0=%d", axis - 1));
    TRY(nc_add(w, "Concat", n->name, params, in, n->n_in, &out));
    w->at[n->out[0]] = (place){.raw = out, .grid = y.grid, .above = y.above};
    return ST_OK;
}

status nc_emit_softmax(writer *w, const node *n, const nc_row *row)
{
    const axis_attrs *a = n->attr;
    int axis;
    const char *params;
    TRY(inner_axis(w, n, a->axis, &axis));
    TRY(arena_printf(&w->mem, &params, " 0=%d 1=1", axis - 1));
    return nc_single(w, n, row, "Softmax", params);
}

status nc_emit_pad(writer *w, const node *n, const nc_row *row)
{
    static const int types[] = {[PAD_CONSTANT] = 0, [PAD_EDGE] = 1, [PAD_REFLECT] = 2, [PAD_WRAP] = -1};
    const pad_attrs *a = n->attr;
    const int64_t *p = a->pads.v;
    nc_row here = *row;
    char buf[NC_NUMBER];
    const char *params;
    TRY(need_image(w, n));
    for (int i = 0; i < 8; i++)
        if (p[i] < 0 || (i % 4 == 0 && p[i] != 0))
            return op_fail(n, "negative padding and padding of the batch are not written to ncnn files");
    if (types[a->mode] < 0 || (a->mode != PAD_CONSTANT && (p[1] || p[5])))
        return op_fail(n, "this mode is not written to ncnn files");
    here.commutes = a->mode != PAD_CONSTANT || a->constant_value == 0;
    TRY(arena_printf(&w->mem, &params,
                     " 0=%" PRId64 " 1=%" PRId64 " 2=%" PRId64 " 3=%" PRId64 " 4=%d 5=%s 7=%" PRId64 " 8=%" PRId64, p[2], p[6], p[3],
                     p[7], types[a->mode], nc_number(a->constant_value, buf), p[1], p[5]));
    return nc_single(w, n, &here, "Padding", params);
}

/* Nearest by whole factors: y[i] = x[i / factor], which several coordinate modes of Resize-19 agree on. */
status nc_emit_resize(writer *w, const node *n, const nc_row *row)
{
    const resize_attrs *a = n->attr;
    const shape *x = &graph_value(w->g, n->in[0])->sh, *y = &graph_value(w->g, n->out[0])->sh;
    const char *params;
    TRY(need_image(w, n));
    bool floors = a->coordinate_transformation_mode == COORD_ASYMMETRIC && a->nearest_mode == NEAREST_FLOOR;
    bool centres = a->coordinate_transformation_mode == COORD_HALF_PIXEL && a->nearest_mode == NEAREST_ROUND_PREFER_FLOOR;
    if (a->mode != RESIZE_NEAREST || (!floors && !centres) || x->dim[1] != y->dim[1] || y->dim[2] % x->dim[2] || y->dim[3] % x->dim[3])
        return op_fail(n, "only nearest by whole factors, asymmetric with floor or half_pixel with round_prefer_floor, is written to ncnn files");
    TRY(arena_printf(&w->mem, &params, " 0=1 3=%" PRId64 " 4=%" PRId64, y->dim[2], y->dim[3]));
    return nc_single(w, n, row, "Interp", params);
}

status nc_emit_batch_norm(writer *w, const node *n, const nc_row *row)
{
    static const int order[4] = {1, 3, 4, 2}; /* slope, mean, variance, bias among ONNX's inputs */
    const batch_norm_attrs *a = n->attr;
    const shape *x = &graph_value(w->g, n->in[0])->sh;
    char buf[NC_NUMBER];
    const char *params;
    if (a->training_mode)
        return op_fail(n, "in training mode it is not written to ncnn files");
    for (int i = 0; i < 4; i++) {
        const float *data;
        TRY(qdq_floats(w->g, n->in[order[i]], &w->mem, &data));
        if (!data)
            return op_fail(n, "input %d is no constant", order[i]);
        text_add_n(&w->bin, data, (size_t)x->dim[1] * sizeof *data);
    }
    TRY(arena_printf(&w->mem, &params, " 0=%" PRId64 " 1=%s", x->dim[1], nc_number(a->epsilon, buf)));
    return nc_single(w, n, row, "BatchNorm", params);
}
