/* conv.c - convolutions: Conv, its two gradients, ConvTranspose.
 *
 * x [N, C, spatial...], w [M, C/group, kernel...], b [M]; 1 to 3 spatial axes. One linear map and its two transposes
 * serve everything: ConvTranspose is the gradient of a Conv with respect to its data, and the gradients of each of the
 * four operators are again one of them. */
#include "ops/window.h"

#include <inttypes.h>
#include <stddef.h>

/* What Conv and its relatives have. */
#define CONV_ROWS                                                                                                 \
    {ATTR(conv_attrs, kernel_shape), .type = ATTR_INTS, .min = 1, .max = INT32_MAX},                              \
    {ATTR(conv_attrs, strides), .type = ATTR_INTS, .min = 1, .max = INT32_MAX},                                   \
    {ATTR(conv_attrs, dilations), .type = ATTR_INTS, .min = 1, .max = INT32_MAX},                                 \
    {ATTR(conv_attrs, pads), .type = ATTR_INTS, .min = 0, .max = INT32_MAX},                                      \
    {ATTR(conv_attrs, group), .type = ATTR_INT, .def = 1, .min = 1, .max = INT32_MAX},                            \
    {ATTR(conv_attrs, auto_pad), .type = ATTR_CHOICE, .choices = "NOTSET SAME_UPPER SAME_LOWER VALID"},           \
    {ATTR(conv_attrs, relu), .type = ATTR_INT, .flags = ATTR_HIDDEN, .min = 0, .max = 1},                         \
    {ATTR(conv_attrs, exact), .type = ATTR_INT, .flags = ATTR_HIDDEN, .min = 0, .max = 1},                        \
    {ATTR(conv_attrs, data_shape), .type = ATTR_INTS, .flags = ATTR_HIDDEN}
static const attr_desc conv_rows[] = {CONV_ROWS, {0}};
static const attr_desc norm_conv_rows[] = {
    CONV_ROWS,
    {ATTR(conv_attrs, norm_epsilon), .type = ATTR_FLOAT, .flags = ATTR_HIDDEN, .def = 1e-5},
    {ATTR(conv_attrs, norm_ceiling), .type = ATTR_FLOAT, .flags = ATTR_HIDDEN},
    {ATTR(conv_attrs, norm_relu), .type = ATTR_INT, .flags = ATTR_HIDDEN, .min = 0, .max = 1},
    {0}};

static const attr_desc conv_transpose_rows[] = {
    {ATTR(conv_attrs, kernel_shape), .type = ATTR_INTS, .min = 1, .max = INT32_MAX},
    {ATTR(conv_attrs, strides), .type = ATTR_INTS, .min = 1, .max = INT32_MAX},
    {ATTR(conv_attrs, dilations), .type = ATTR_INTS, .min = 1, .max = INT32_MAX},
    {ATTR(conv_attrs, pads), .type = ATTR_INTS, .min = 0, .max = INT32_MAX},
    {ATTR(conv_attrs, output_padding), .type = ATTR_INTS, .min = 0, .max = INT32_MAX},
    {ATTR(conv_attrs, output_shape), .type = ATTR_INTS, .min = 1, .max = INT32_MAX},
    {ATTR(conv_attrs, group), .type = ATTR_INT, .def = 1, .min = 1, .max = INT32_MAX},
    {ATTR(conv_attrs, auto_pad), .type = ATTR_CHOICE, .choices = "NOTSET SAME_UPPER SAME_LOWER VALID"},
    {0}};

/* The node's own attributes, to be completed. */
static conv_attrs *own_attrs(const node *n)
{
    return (conv_attrs *)(uintptr_t)n->attr;
}

/* Inputs 0 (data) and `weight` are floats of one type and rank with 1 to 3 spatial axes, the group is sane. */
static status check_operands(const graph *g, const node *n, int weight)
{
    const conv_attrs *a = n->attr;
    TRY(op_check_float(g, n, 0));
    TRY(op_check_same_type(g, n, 0, weight));
    const value *x = op_in(g, n, 0), *w = op_in(g, n, weight);
    if (!w)
        return op_fail(n, "input %d is missing", weight);
    if (x->sh.rank < 3 || x->sh.rank > 2 + SPATIAL_MAX)
        return op_fail(n, "input '%s' has rank %d; 3 to %d are supported (batch, channels, 1 to %d spatial axes)",
                       x->name, x->sh.rank, 2 + SPATIAL_MAX, SPATIAL_MAX);
    if (w->sh.rank != x->sh.rank)
        return op_fail(n, "inputs '%s' and '%s' have ranks %d and %d", x->name, w->name, x->sh.rank, w->sh.rank);
    if (a->group < 1 || a->group > INT32_MAX)
        return op_fail(n, "group is %" PRId64 "; it must be at least 1", a->group);
    return ST_OK;
}

/* kernel_shape is the weight's where it is absent, and must agree with it where it is given. */
static status complete_kernel_shape(graph *g, const node *n, const shape *w)
{
    conv_attrs *a = own_attrs(n);
    int spatial = w->rank - 2;
    int64_t *v;
    if (!a->kernel_shape.v || !a->kernel_shape.n) {
        TRY(op_new_ints(g, spatial, &v, &a->kernel_shape));
        for (int i = 0; i < spatial; i++)
            v[i] = w->dim[2 + i];
    }
    TRY(window_check_list(n, "kernel_shape", a->kernel_shape, spatial, 1));
    for (int i = 0; i < spatial; i++)
        if (a->kernel_shape.v[i] != w->dim[2 + i])
            return op_fail(n, "kernel_shape is %" PRId64 " on spatial axis %d where the weight has %" PRId64,
                           a->kernel_shape.v[i], i, w->dim[2 + i]);
    return ST_OK;
}

/* Channels C of the data and M of the result go with a weight [M, C/group, ...]. */
static status check_channels(const node *n, int64_t c, int64_t m, const shape *w)
{
    const conv_attrs *a = n->attr;
    if (c % a->group || m % a->group)
        return op_fail(n, "%" PRId64 " input and %" PRId64 " output channels do not divide by group = %" PRId64, c, m,
                       a->group);
    if (w->dim[0] != m || w->dim[1] != c / a->group)
        return op_fail(n, "the weight is [%" PRId64 ", %" PRId64 ", ...] where [%" PRId64 ", %" PRId64
                       ", ...] is needed (channels %" PRId64 " to %" PRId64 ", group %" PRId64 ")", w->dim[0],
                       w->dim[1], m, c / a->group, c, m, a->group);
    return ST_OK;
}

/* Gradient of a bias [M]: the sum of dy over everything but the channel. */
static status bias_grad(graph *g, value_id dy, value_id *out)
{
    static const int64_t axes[] = {0, 2, 3, 4};
    reduce_attrs sum = {.axes = {g->value[dy].sh.rank - 1, axes}, .keepdims = 0};
    return graph_add1(g, OP_REDUCE_SUM, &sum, dy, 0, 0, out);
}

/* ConvGradData (dy, w) for data of shape `data`. */
static status add_grad_data(graph *g, const conv_attrs *conv, value_id dy, value_id w, shape data, value_id *dx)
{
    conv_attrs a = *conv;
    a.relu = 0;
    a.output_padding = a.output_shape = (attr_ints){0};
    a.data_shape = (attr_ints){data.rank, data.dim};
    return graph_add1(g, OP_CONV_GRAD_DATA, &a, dy, w, 0, dx);
}

static status add_plain(graph *g, op_id op, const conv_attrs *conv, value_id one, value_id two, value_id *out)
{
    conv_attrs a = *conv;
    a.relu = 0;
    a.output_padding = a.output_shape = a.data_shape = (attr_ints){0};
    return graph_add1(g, op, &a, one, two, 0, out);
}

/* Conv (x, w) with an output of shape y. ConvTranspose with an output_padding of a stride or more makes data that fit
 * more windows than it had: those beyond y are cut off. */
static status add_conv(graph *g, const conv_attrs *conv, value_id x, value_id w, shape y, value_id *out)
{
    static const int64_t zeros[RANK_MAX] = {0};
    TRY(add_plain(g, OP_CONV, conv, x, w, out));
    if (shape_equal(&g->value[*out].sh, &y))
        return ST_OK;
    slice_attrs cut = {.starts = {y.rank, zeros}, .ends = {y.rank, y.dim}};
    return graph_add1(g, OP_SLICE, &cut, *out, 0, 0, out);
}

/* The gradient dy of a Conv of data `x` has at most as many windows as the attributes give (fewer: see add_conv). */
static status check_windows(graph *g, const node *n, const shape *x, const value *dy)
{
    conv_attrs *a = own_attrs(n);
    window win = WINDOW_OF(a, x->rank - 2, x->dim + 2);
    int64_t most[SPATIAL_MAX];
    char one[200], two[200];
    TRY(window_complete(g, n, &win));
    TRY(window_outputs(n, &win, false, most));
    bool fits = x->dim[0] == dy->sh.dim[0];
    for (int i = 0; i < win.spatial; i++)
        fits &= dy->sh.dim[2 + i] <= most[i];
    if (!fits)
        return op_fail(n, "the gradient '%s' %s does not go with data of shape %s", dy->name,
                       shape_print(&dy->sh, one), shape_print(x, two));
    return ST_OK;
}

/* ---- Conv ----
 * y[n, m, o] = b[m] + sum over c, k of w[m, c, k] * x[n, group(m) * C/group + c, o * stride + k * dilation - pad]
 * (ONNX Conv-22). In fused graphs: + in[3], then max(., 0) when `relu`. */

static status conv_infer(graph *g, node *n)
{
    conv_attrs *a = own_attrs(n);
    TRY(check_operands(g, n, 1));
    const shape x = op_in(g, n, 0)->sh, w = op_in(g, n, 1)->sh;
    TRY(complete_kernel_shape(g, n, &w));
    TRY(check_channels(n, x.dim[1], w.dim[0], &w));
    window win = WINDOW_OF(a, x.rank - 2, x.dim + 2);
    shape y = {.rank = x.rank, .dim = {x.dim[0], w.dim[0]}};
    TRY(window_complete(g, n, &win));
    TRY(window_outputs(n, &win, false, y.dim + 2));
    TRY(op_check_same_type(g, n, 0, 2));
    TRY(op_check_shape(g, n, 2, SHAPE(w.dim[0]), "bias"));
    TRY(op_check_same_type(g, n, 0, 3));
    TRY(op_check_shape(g, n, 3, y, "residual"));
    op_set_out(g, n, 0, op_in(g, n, 0)->type, y);
    return ST_OK;
}

static status conv_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    value_id d = dy[0];
    const conv_attrs *a = n->attr;
    if (a->relu)
        TRY(graph_add1(g, OP_RELU_GRAD, NULL, d, n->out[0], 0, &d));
    TRY(add_grad_data(g, a, d, n->in[1], g->value[n->in[0]].sh, &dx[0]));
    TRY(add_plain(g, OP_CONV_GRAD_WEIGHT, a, n->in[0], d, &dx[1]));
    if (n->n_in > 2 && n->in[2])
        TRY(bias_grad(g, d, &dx[2]));
    if (n->n_in > 3 && n->in[3])
        dx[3] = d;
    return ST_OK;
}

/* One weight is used once for every output position: elements of the weight times output pixels of the batch. */
static double conv_macs(const graph *g, const node *n)
{
    const value *y = &g->value[n->out[0]], *w = op_in(g, n, 1);
    return (double)shape_count(&w->sh) * (double)shape_count(&y->sh) / (double)(y->sh.dim[1] ? y->sh.dim[1] : 1);
}

const op_desc op_conv = {.name = "Conv", .in = {2, 4}, .out = {1, 1}, .flags = OP_PORTABLE, .attrs = conv_rows,
                         .attr_size = sizeof(conv_attrs), .params = 1u << 1 | 1u << 2, .infer = conv_infer,
                         .grad = conv_grad, .macs = conv_macs};

/* ---- ConvGradData (dy, w) -> dx of shape data_shape ----
 * dx[n, c, i] = sum over m, k, o with o * stride + k * dilation - pad = i of w[m, c, k] * dy[n, m, o]. */

static status conv_grad_data_infer(graph *g, node *n)
{
    conv_attrs *a = own_attrs(n);
    TRY(check_operands(g, n, 1));
    const shape dy = op_in(g, n, 0)->sh, w = op_in(g, n, 1)->sh;
    TRY(window_check_list(n, "data_shape", a->data_shape, dy.rank, 0));
    shape x = shape_from(a->data_shape.v, (size_t)a->data_shape.n);
    TRY(complete_kernel_shape(g, n, &w));
    TRY(check_channels(n, x.dim[1], dy.dim[1], &w));
    TRY(check_windows(g, n, &x, op_in(g, n, 0)));
    op_set_out(g, n, 0, op_in(g, n, 0)->type, x);
    return ST_OK;
}

/* Linear in both operands: the gradients of <ddx, dx> are a Conv of ddx and a ConvGradWeight of (ddx, dy). */
static status conv_grad_data_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    TRY(add_conv(g, n->attr, dy[0], n->in[1], g->value[n->in[0]].sh, &dx[0]));
    return add_plain(g, OP_CONV_GRAD_WEIGHT, n->attr, dy[0], n->in[0], &dx[1]);
}

static double conv_grad_data_macs(const graph *g, const node *n)
{
    const value *dy = op_in(g, n, 0), *w = op_in(g, n, 1);
    return (double)shape_count(&w->sh) * (double)shape_count(&dy->sh) / (double)(dy->sh.dim[1] ? dy->sh.dim[1] : 1);
}

const op_desc op_conv_grad_data = {.name = "ConvGradData", .in = {2, 2}, .out = {1, 1}, .flags = OP_INTERNAL,
                                   .attrs = conv_rows, .attr_size = sizeof(conv_attrs), .infer = conv_grad_data_infer,
                                   .grad = conv_grad_data_grad, .macs = conv_grad_data_macs};

/* ---- ConvGradWeight (x, dy) -> dw [M, C/group, kernel_shape...] ----
 * dw[m, c, k] = sum over n, o of dy[n, m, o] * x[n, group(m) * C/group + c, o * stride + k * dilation - pad]. */

static status conv_grad_weight_infer(graph *g, node *n)
{
    const conv_attrs *a = n->attr;
    TRY(check_operands(g, n, 1));
    const shape x = op_in(g, n, 0)->sh, dy = op_in(g, n, 1)->sh;
    TRY(check_windows(g, n, &x, op_in(g, n, 1)));
    shape w = {.rank = x.rank, .dim = {dy.dim[1], x.dim[1] / a->group}};
    for (int i = 0; i < x.rank - 2; i++)
        w.dim[2 + i] = a->kernel_shape.v[i];
    TRY(check_channels(n, x.dim[1], dy.dim[1], &w));
    op_set_out(g, n, 0, op_in(g, n, 0)->type, w);
    return ST_OK;
}

/* Linear in both: for an upstream g shaped like the weight, dx is ConvGradData (dy, g), ddy is Conv (x, g). */
static status conv_grad_weight_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    TRY(add_grad_data(g, n->attr, n->in[1], dy[0], g->value[n->in[0]].sh, &dx[0]));
    return add_conv(g, n->attr, n->in[0], dy[0], g->value[n->in[1]].sh, &dx[1]);
}

static double conv_grad_weight_macs(const graph *g, const node *n)
{
    const value *dw = &g->value[n->out[0]], *dy = op_in(g, n, 1);
    return (double)shape_count(&dw->sh) * (double)shape_count(&dy->sh) / (double)(dy->sh.dim[1] ? dy->sh.dim[1] : 1);
}

const op_desc op_conv_grad_weight = {.name = "ConvGradWeight", .in = {2, 2}, .out = {1, 1}, .flags = OP_INTERNAL,
                                     .attrs = conv_rows, .attr_size = sizeof(conv_attrs),
                                     .infer = conv_grad_weight_infer, .grad = conv_grad_weight_grad,
                                     .macs = conv_grad_weight_macs};

/* ---- NormConv (x, w, bias, residual, mean, var, scale, shift), NormConvGradWeight (x, dy, mean, var, scale, shift) ----
 * The two with n(x) in place of x: a batch norm of given statistics, and its relu,
 *   n(x) = min(max((x - mean[c]) / sqrt(var[c] + norm_epsilon) * scale[c] + shift[c], 0), norm_ceiling)   with norm_relu
 * exec/fuse_conv.c makes them, so they need no gradient. */

static status check_norm(const graph *g, const node *n, int first)
{
    const conv_attrs *a = n->attr;
    int64_t channels = op_in(g, n, 0)->sh.dim[1];
    for (int i = first; i < first + 4; i++) {
        if (!op_in(g, n, i))
            return op_fail(n, "input %d, of the norm, is missing", i);
        TRY(op_check_same_type(g, n, 0, i));
        TRY(op_check_shape(g, n, i, SHAPE(channels), "operand of the norm"));
    }
    if (!(a->norm_epsilon >= 0))
        return op_fail(n, "epsilon %g of the norm", a->norm_epsilon);
    return ST_OK;
}

static status norm_conv_infer(graph *g, node *n)
{
    TRY(conv_infer(g, n));
    return check_norm(g, n, 4);
}

const op_desc op_norm_conv = {.name = "NormConv", .in = {2, 8}, .out = {1, 1}, .flags = OP_INTERNAL, .attrs = norm_conv_rows,
                              .attr_size = sizeof(conv_attrs), .infer = norm_conv_infer, .macs = conv_macs,
                              NO_GRAD("it is made after the gradients")};

static status norm_conv_grad_weight_infer(graph *g, node *n)
{
    TRY(conv_grad_weight_infer(g, n));
    return check_norm(g, n, 2);
}

const op_desc op_norm_conv_grad_weight = {.name = "NormConvGradWeight", .in = {6, 6}, .out = {1, 1}, .flags = OP_INTERNAL,
                                          .attrs = norm_conv_rows, .attr_size = sizeof(conv_attrs),
                                          .infer = norm_conv_grad_weight_infer, .macs = conv_grad_weight_macs,
                                          NO_GRAD("it is made after the gradients")};

/* ---- ConvMoments (x, w, bias, residual; mean, var, scale, shift) -> y, mean [M], var [M] ----
 * Conv, or NormConv where its operands are there, and the moments of y as it lies (BatchNormMoments). exec/fuse_moments.c makes it. */

static status conv_moments_infer(graph *g, node *n)
{
    TRY(conv_infer(g, n));
    if (n->n_in > 4)
        TRY(check_norm(g, n, 4));
    const value *x = op_in(g, n, 0), *y = &g->value[n->out[0]];
    const int64_t outputs = y->sh.dim[1];
    if (shape_count(&y->sh) == 0)
        return op_fail(n, "the result has no element per channel");
    for (int i = 1; i < 3; i++)
        op_set_out(g, n, i, x->type, SHAPE(outputs));
    return ST_OK;
}

const op_desc op_conv_moments = {.name = "ConvMoments", .in = {2, 8}, .out = {3, 3}, .flags = OP_INTERNAL, .attrs = norm_conv_rows,
                                 .attr_size = sizeof(conv_attrs), .infer = conv_moments_infer, .macs = conv_macs,
                                 NO_GRAD("it is made after the gradients")};

/* ---- ConvGradDataSums (dy, w; x, scale, mean, var, bias) -> g, dscale [C], dbias [C] ----
 * ConvGradData behind which is the gradient of a batch norm of x, which is like g; bias is optional without norm_relu. With
 *   xhat = (x - mean[c]) / sqrt(var[c] + norm_epsilon)
 * g is the gradient of the data, with norm_relu 0 where the relu is flat: where not 0 < xhat * scale[c] + bias[c] < norm_ceiling, and
 *   dscale = sum g * xhat,  dbias = sum g
 * of g as it lies. BatchNormGradApply makes of these what BatchNormGrad would. exec/fuse_grad_sums.c makes it. */

static status conv_grad_data_sums_infer(graph *g, node *n)
{
    const conv_attrs *a = n->attr;
    TRY(conv_grad_data_infer(g, n));
    const value *made = &g->value[n->out[0]];
    const shape data = made->sh;
    const dtype type = made->type;
    if (!(a->norm_epsilon >= 0))
        return op_fail(n, "epsilon %g of the norm", a->norm_epsilon);
    if (shape_count(&data) == 0)
        return op_fail(n, "the data have no element per channel");
    for (int i = 2; i < 7; i++) {
        if (!op_in(g, n, i) && (i < 6 || a->norm_relu))
            return op_fail(n, "input %d, of the norm, is missing", i);
        TRY(op_check_same_type(g, n, 0, i));
        TRY(op_check_shape(g, n, i, i == 2 ? data : SHAPE(data.dim[1]), "operand of the norm"));
    }
    for (int i = 1; i < 3; i++)
        op_set_out(g, n, i, type, SHAPE(data.dim[1]));
    return ST_OK;
}

const op_desc op_conv_grad_data_sums = {.name = "ConvGradDataSums", .in = {6, 7}, .out = {3, 3}, .flags = OP_INTERNAL,
                                        .attrs = norm_conv_rows, .attr_size = sizeof(conv_attrs),
                                        .infer = conv_grad_data_sums_infer, .macs = conv_grad_data_macs,
                                        NO_GRAD("it is made after the gradients")};

/* ---- ConvTranspose (x [N, C, ...], w [C, M/group, kernel...], b [M]) ----
 * The gradient of a Conv with weight w with respect to its data, for dy = x; plus the bias (ONNX ConvTranspose-22). */

/* Turns auto_pad and output_shape into pads (and output_padding, where the wanted output is larger than the windows
 * reach), so that out = (in - 1) * stride + output_padding + extent - pads holds afterwards. */
static status complete_transpose_pads(graph *g, const node *n, const window *w)
{
    conv_attrs *a = own_attrs(n);
    int k = w->spatial;
    bool upper = a->auto_pad == AUTO_PAD_SAME_UPPER, same = upper || a->auto_pad == AUTO_PAD_SAME_LOWER;
    attr_ints wanted = a->output_shape, extra = a->output_padding;
    int64_t *pads, *more;
    if (wanted.n == k + 2 && wanted.v) /* some exporters give batch and channels too */
        wanted = (attr_ints){k, wanted.v + 2};
    if (wanted.n)
        TRY(window_check_list(n, "output_shape", wanted, k, 1));
    else if (!same)
        return ST_OK;
    TRY(op_new_ints(g, 2 * k, &pads, &a->pads));
    TRY(op_new_ints(g, k, &more, &a->output_padding));
    for (int i = 0; i < k; i++) {
        int64_t s = w->strides->v[i], full = (w->in[i] - 1) * s + extra.v[i] + window_extent(w, i);
        int64_t out = wanted.n ? wanted.v[i] : w->in[i] * s, total = full > out ? full - out : 0;
        pads[i] = upper ? total / 2 : total - total / 2;
        pads[i + k] = total - pads[i];
        more[i] = extra.v[i] + (out > full ? out - full : 0);
    }
    a->output_shape = (attr_ints){0};
    a->auto_pad = AUTO_PAD_NOTSET;
    TRY(window_check_list(n, "pads from output_shape or auto_pad", a->pads, 2 * k, 0));
    return window_check_list(n, "output_padding", a->output_padding, k, 0);
}

static status conv_transpose_infer(graph *g, node *n)
{
    conv_attrs *a = own_attrs(n);
    TRY(check_operands(g, n, 1));
    const shape x = op_in(g, n, 0)->sh, w = op_in(g, n, 1)->sh;
    int k = x.rank - 2;
    window win = WINDOW_OF(a, k, x.dim + 2);
    shape y = {.rank = x.rank, .dim = {x.dim[0]}};
    if (__builtin_mul_overflow(w.dim[1], a->group, &y.dim[1]))
        return op_fail(n, "group = %" PRId64 " is too large", a->group);
    TRY(complete_kernel_shape(g, n, &w));
    TRY(check_channels(n, y.dim[1], x.dim[1], &w));
    TRY(window_fill_list(g, &a->output_padding, k, 0));
    TRY(window_check_list(n, "output_padding", a->output_padding, k, 0));
    TRY(window_fill_list(g, &a->strides, k, 1));
    TRY(window_check_list(n, "strides", a->strides, k, 1));
    TRY(window_fill_list(g, &a->dilations, k, 1));
    TRY(window_check_list(n, "dilations", a->dilations, k, 1));
    TRY(complete_transpose_pads(g, n, &win));
    TRY(window_complete(g, n, &win));
    for (int i = 0; i < k; i++) {
        y.dim[2 + i] = (x.dim[2 + i] - 1) * a->strides.v[i] + a->output_padding.v[i] + window_extent(&win, i) -
                       a->pads.v[i] - a->pads.v[i + k];
        if (x.dim[2 + i] < 1 || y.dim[2 + i] < 1)
            return op_fail(n, "spatial axis %d of the output has %" PRId64 " elements", i, y.dim[2 + i]);
    }
    TRY(op_check_same_type(g, n, 0, 2));
    TRY(op_check_shape(g, n, 2, SHAPE(y.dim[1]), "bias"));
    op_set_out(g, n, 0, op_in(g, n, 0)->type, y);
    return ST_OK;
}

/* dx is the Conv of dy with w; dw is the ConvGradWeight of (data dy, gradient x). */
static status conv_transpose_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    TRY(add_conv(g, n->attr, dy[0], n->in[1], g->value[n->in[0]].sh, &dx[0]));
    TRY(add_plain(g, OP_CONV_GRAD_WEIGHT, n->attr, dy[0], n->in[0], &dx[1]));
    if (n->n_in > 2 && n->in[2])
        TRY(bias_grad(g, dy[0], &dx[2]));
    return ST_OK;
}

const op_desc op_conv_transpose = {.name = "ConvTranspose", .in = {2, 3}, .out = {1, 1},
                                   .attrs = conv_transpose_rows, .attr_size = sizeof(conv_attrs),
                                   .params = 1u << 1 | 1u << 2, .infer = conv_transpose_infer,
                                   .grad = conv_transpose_grad, .macs = conv_grad_data_macs};
