/* quant.c - integers that stand for reals: q = saturate(round(x / scale) + zero), x = (q - zero) * scale.
 *
 * Rounding is half to even. A scale is one number or one per channel; scales that are constants must be finite and above 0.
 * Zero points have the integers' type and the scale's shape; absent: 0 (of uint8 where nothing else says the type).
 * Accumulators are int32. Where weights and zero points let them overflow, a node is refused: nothing wraps, nothing is
 * widened. Quantisation is per tensor or per axis; import writes the blocks of opset 21 out in float operators (onnx/blocks.c). */
#include "ops/window.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>

/* ---- scales and zero points ---- */

static bool is_byte(dtype t)
{
    return t == DTYPE_U8 || t == DTYPE_I8;
}

static double type_lowest(dtype t)
{
    return !dtype_of(t)->is_signed ? 0 : -exp2((double)(8 * dtype_of(t)->size - 1));
}
static double type_highest(dtype t)
{
    return exp2((double)(8 * dtype_of(t)->size - (dtype_of(t)->is_signed ? 1 : 0))) - 1;
}

static status need_byte(const graph *g, const node *n, int i)
{
    const value *x = op_in(g, n, i);
    if (!x)
        return op_fail(n, "input %d is missing", i);
    if (!is_byte(x->type))
        return op_fail(n, "input '%s' is %s; uint8 and int8 are supported", x->name, dtype_of(x->type)->name);
    return ST_OK;
}

/* One number, or `channels` of them in one list (channels < 0: one number only). */
static status check_count(const node *n, const value *v, const char *what, int64_t channels)
{
    char buf[200];
    int64_t count = shape_count(&v->sh);
    if (v->sh.rank <= 1 && (count == 1 || (v->sh.rank == 1 && count == channels)))
        return ST_OK;
    if (channels < 0)
        return op_fail(n, "%s '%s' has shape %s; it must be one number", what, v->name, shape_print(&v->sh, buf));
    return op_fail(n, "%s '%s' has shape %s; it must be one number or one for each of %" PRId64 " channels", what, v->name,
                   shape_print(&v->sh, buf), channels);
}

/* Every number of a constant scale is finite and above 0. */
static status check_scale_numbers(const node *n, const value *v, const char *what)
{
    for (int64_t i = 0; v->kind == VALUE_CONST && i < shape_count(&v->sh); i++) {
        double s = dtype_load(v->type, v->data, i);
        if (!(s > 0) || isinf(s))
            return op_fail(n, "%s '%s' has %g at place %" PRId64 "; a scale must be finite and above 0", what, v->name, s, i);
    }
    return ST_OK;
}

static status check_scale(const graph *g, const node *n, int i, const char *what, int64_t channels)
{
    const value *v = op_in(g, n, i);
    TRY(op_check_float(g, n, i));
    TRY(check_count(n, v, what, channels));
    return check_scale_numbers(n, v, what);
}

/* The zero point (absent: 0) of integers of type t; int32 has none but 0. */
static status check_zero(const graph *g, const node *n, int i, dtype t, const char *what, int64_t channels)
{
    const value *v = op_in(g, n, i);
    if (!v)
        return ST_OK;
    if (v->type != t)
        return op_fail(n, "%s '%s' is %s; it must be %s like the integers it belongs to", what, v->name,
                       dtype_of(v->type)->name, dtype_of(t)->name);
    TRY(check_count(n, v, what, channels));
    for (int64_t k = 0; t == DTYPE_I32 && v->kind == VALUE_CONST && k < shape_count(&v->sh); k++)
        if (((const int32_t *)v->data)[k] != 0)
            return op_fail(n, "%s '%s' is %" PRId32 "; int32 has no zero point but 0", what, v->name,
                           ((const int32_t *)v->data)[k]);
    return ST_OK;
}

/* The zero point goes with its scale: both one number, or both one per channel. */
static status check_pair(const graph *g, const node *n, int scale, int zero)
{
    const value *s = op_in(g, n, scale), *z = op_in(g, n, zero);
    if (s && z && shape_count(&s->sh) != shape_count(&z->sh))
        return op_fail(n, "scale '%s' has %" PRId64 " elements and its zero point '%s' %" PRId64, s->name,
                       shape_count(&s->sh), z->name, shape_count(&z->sh));
    return ST_OK;
}

/* The factor sx * sw / sy must be a finite float that is above 0, for every channel of constants. */
static status check_factor(const graph *g, const node *n, int sx, int sw, int sy)
{
    const value *v[3] = {op_in(g, n, sx), op_in(g, n, sw), op_in(g, n, sy)};
    int64_t most = 1;
    for (int i = 0; i < 3; i++) {
        if (v[i]->kind != VALUE_CONST)
            return ST_OK;
        most = shape_count(&v[i]->sh) > most ? shape_count(&v[i]->sh) : most;
    }
    for (int64_t c = 0; c < most; c++) {
        double s[3];
        for (int i = 0; i < 3; i++)
            s[i] = dtype_load(v[i]->type, v[i]->data, shape_count(&v[i]->sh) > 1 ? c % shape_count(&v[i]->sh) : 0);
        float factor = (float)s[0] * (float)s[1] / (float)s[2];
        if (!(factor > 0) || isinf(factor))
            return op_fail(n, "the scales %g * %g / %g ('%s', '%s', '%s', channel %" PRId64 ") make no finite float above 0",
                           s[0], s[1], s[2], v[0]->name, v[1]->name, v[2]->name, c);
    }
    return ST_OK;
}

/* ---- accumulators ---- */

/* Where the weights of one sum lie: term t of sum c of matrix m is element m * outer + c * sum + t * term. */
typedef struct weight_steps {
    int64_t matrices, sums, terms, outer, sum, term;
} weight_steps;

/* Largest |q - zero| of a quantised tensor. */
static double reach(const value *x, const value *zero)
{
    double lo = type_lowest(x->type), hi = type_highest(x->type), most = 0;
    if (!zero)
        return fmax(hi, -lo);
    if (zero->kind != VALUE_CONST)
        return hi - lo;
    for (int64_t i = 0; i < shape_count(&zero->sh); i++) {
        double z = dtype_load(zero->type, zero->data, i);
        most = fmax(most, fmax(hi - z, z - lo));
    }
    return most;
}

static double zero_of(const value *zero, int64_t c)
{
    return !zero || zero->kind != VALUE_CONST ? 0 : dtype_load(zero->type, zero->data, shape_count(&zero->sh) > 1 ? c : 0);
}

static double bias_of(const value *bias, int64_t c)
{
    return !bias || bias->kind != VALUE_CONST ? 0 : fabs(dtype_load(bias->type, bias->data, c % shape_count(&bias->sh)));
}

/* No sum of (x - zero) * (w - zero) + bias leaves int32, whatever x is; of weights that are no constants, whatever they are. */
static status check_accumulator(const graph *g, const node *n, int x, int x_zero, int w, int w_zero, int bias, weight_steps at)
{
    const value *vx = op_in(g, n, x), *vw = op_in(g, n, w), *zw = op_in(g, n, w_zero), *b = op_in(g, n, bias);
    double each = reach(vx, op_in(g, n, x_zero)), most_bias = 0;
    bool exact = vw->kind == VALUE_CONST && (!zw || zw->kind == VALUE_CONST);
    for (int64_t c = 0; c < at.sums; c++)
        most_bias = fmax(most_bias, bias_of(b, c));
    if ((double)at.terms * each * reach(vw, zw) + most_bias <= (double)INT32_MAX)
        return ST_OK;
    for (int64_t m = 0; m < at.matrices; m++)
        for (int64_t c = 0; c < at.sums; c++) {
            double sum = exact ? 0 : (double)at.terms * reach(vw, zw), zero = zero_of(zw, c);
            for (int64_t t = 0; exact && t < at.terms; t++)
                sum += fabs(dtype_load(vw->type, vw->data, m * at.outer + c * at.sum + t * at.term) - zero);
            if (sum * each + bias_of(b, c) > (double)INT32_MAX)
                return op_fail(n, "sums over '%s' and '%s' may reach %.4g at output channel %" PRId64 ", beyond int32; "
                               "leave this operator in float, or split it", vx->name, vw->name, sum * each + bias_of(b, c), c);
        }
    return ST_OK;
}

static status check_bias(const graph *g, const node *n, int i, int64_t channels)
{
    const value *b = op_in(g, n, i);
    if (b && b->type != DTYPE_I32)
        return op_fail(n, "bias '%s' is %s; it must be int32", b->name, dtype_of(b->type)->name);
    return op_check_shape(g, n, i, SHAPE(channels), "bias");
}

/* ---- QuantizeLinear (x, scale, zero) and DequantizeLinear (q, scale, zero); ONNX 24 ----
 * Per axis: channel c is the place along `axis`. q is uint8, int8, uint16, int16 or int32. The quotient is a float32. */

static const attr_desc quant_rows[] = {{ATTR(quant_attrs, axis), .type = ATTR_INT, .def = 1},
                                       {ATTR(quant_attrs, block_size), .type = ATTR_INT},
                                       {ATTR(quant_attrs, saturate), .type = ATTR_INT, .def = 1},
                                       {ATTR(quant_attrs, output_dtype), .type = ATTR_DTYPE},
                                       {ATTR(quant_attrs, precision), .type = ATTR_DTYPE},
                                       {0}};
static const attr_desc dequant_rows[] = {{ATTR(quant_attrs, axis), .type = ATTR_INT, .def = 1},
                                         {ATTR(quant_attrs, block_size), .type = ATTR_INT},
                                         {ATTR(quant_attrs, output_dtype), .type = ATTR_DTYPE},
                                         {0}};

static bool is_integer(dtype t)
{
    return is_byte(t) || t == DTYPE_U16 || t == DTYPE_I16 || t == DTYPE_I32;
}

/* Scale and zero point of x, whose integers have type t. */
static status check_params(const graph *g, const node *n, const value *x, dtype t)
{
    const quant_attrs *a = n->attr;
    const value *s = op_in(g, n, 1);
    int axis;
    if (!s)
        return op_fail(n, "its scale, input 1, is missing");
    if (a->block_size != 0 || s->sh.rank > 1)
        return op_fail(n, "quantisation by blocks (block_size %" PRId64 ", scale '%s' of rank %d) is not supported; quantise "
                       "per tensor or per axis", a->block_size, s->name, s->sh.rank);
    int64_t channels = -1;
    if (shape_count(&s->sh) != 1) {
        TRY(op_axis(n, a->axis, x->sh.rank, &axis));
        channels = x->sh.dim[axis];
    }
    TRY(check_scale(g, n, 1, "scale", channels));
    TRY(check_zero(g, n, 2, t, "zero point", channels));
    return check_pair(g, n, 1, 2);
}

static status quantize_infer(graph *g, node *n)
{
    const quant_attrs *a = n->attr;
    const value *x = op_in(g, n, 0), *zero = op_in(g, n, 2);
    dtype t = zero ? zero->type : a->output_dtype ? (dtype)a->output_dtype : DTYPE_U8;
    if (x->type != DTYPE_I32)
        TRY(op_check_float(g, n, 0));
    if (!is_integer(t))
        return op_fail(n, "%s '%s' is %s; uint8, int8, uint16, int16 and int32 are supported", zero ? "zero point" : "its result",
                       zero ? zero->name : g->value[n->out[0]].name, dtype_of(t)->name);
    if (zero && a->output_dtype && (dtype)a->output_dtype != t)
        return op_fail(n, "output_dtype is %s where the zero point '%s' is %s", dtype_of((dtype)a->output_dtype)->name,
                       zero->name, dtype_of(t)->name);
    if (a->precision && a->precision != DTYPE_F32 && a->precision != DTYPE_F64)
        return op_fail(n, "precision %s is not supported; the quotient is float32", dtype_of((dtype)a->precision)->name);
    TRY(check_params(g, n, x, t));
    op_set_out(g, n, 0, t, x->sh);
    return ST_OK;
}

static status dequantize_infer(graph *g, node *n)
{
    const quant_attrs *a = n->attr;
    const value *x = op_in(g, n, 0);
    if (!is_integer(x->type))
        return op_fail(n, "input '%s' is %s; uint8, int8, uint16, int16 and int32 are supported", x->name,
                       dtype_of(x->type)->name);
    TRY(check_params(g, n, x, x->type));
    dtype t = a->output_dtype ? (dtype)a->output_dtype : op_in(g, n, 1)->type;
    if (!dtype_of(t)->is_float)
        return op_fail(n, "output_dtype is %s; it must be a float", dtype_of(t)->name);
    op_set_out(g, n, 0, t, x->sh);
    return ST_OK;
}

const op_desc op_quantize_linear = {.name = "QuantizeLinear", .in = {2, 3}, .out = {1, 1}, .attrs = quant_rows,
                                    .attr_size = sizeof(quant_attrs), .infer = quantize_infer,
                                    NO_GRAD("rounding is flat; training uses FakeQuant")};
const op_desc op_dequantize_linear = {.name = "DequantizeLinear", .in = {2, 3}, .out = {1, 1}, .flags = OP_UNFOLDED, .attrs = dequant_rows,
                                      .attr_size = sizeof(quant_attrs), .infer = dequantize_infer,
                                      NO_GRAD("its data are integers; training uses FakeQuant")};

/* ---- DynamicQuantizeLinear (x) -> q uint8, scale, zero (ONNX 11) ----
 * The range is that of x and of 0: scale = (max - min) / 255, zero = saturate(round(-min / scale)). All x 0: scale 0, q 0
 * (ONNX Runtime: scale 1). */

static status dynamic_infer(graph *g, node *n)
{
    const value *x = op_in(g, n, 0);
    if (x->type != DTYPE_F32 && x->type != DTYPE_F64)
        return op_fail(n, "input '%s' is %s; only float32 is supported", x->name, dtype_of(x->type)->name);
    dtype t = x->type;
    op_set_out(g, n, 0, DTYPE_U8, x->sh);
    op_set_out(g, n, 1, t, (shape){0});
    op_set_out(g, n, 2, DTYPE_U8, (shape){0});
    return ST_OK;
}

const op_desc op_dynamic_quantize_linear = {.name = "DynamicQuantizeLinear", .in = {1, 1}, .out = {3, 3},
                                            .infer = dynamic_infer, NO_GRAD("rounding is flat")};

/* ---- QLinearConv (x, sx, zx, w, sw, zw, sy, zy, bias) and ConvInteger (x, w, zx, zw); ONNX 10 ----
 * acc[m] = bias[m] + sum of (x - zx) * (w - zw[m]) as Conv has it, padding being zx. ConvInteger gives acc; QLinearConv
 * saturate(round(acc * (sx * sw[m] / sy)) + zy), the factor and the product in float32 in this order, as ONNX Runtime. */

static const attr_desc conv_rows[] = {
    {ATTR(conv_attrs, kernel_shape), .type = ATTR_INTS, .min = 1, .max = INT32_MAX},
    {ATTR(conv_attrs, strides), .type = ATTR_INTS, .min = 1, .max = INT32_MAX},
    {ATTR(conv_attrs, dilations), .type = ATTR_INTS, .min = 1, .max = INT32_MAX},
    {ATTR(conv_attrs, pads), .type = ATTR_INTS, .min = 0, .max = INT32_MAX},
    {ATTR(conv_attrs, group), .type = ATTR_INT, .def = 1, .min = 1, .max = INT32_MAX},
    {ATTR(conv_attrs, auto_pad), .type = ATTR_CHOICE, .choices = "NOTSET SAME_UPPER SAME_LOWER VALID"},
    {0}};

/* Shape of a convolution of inputs x and w; completes the attributes. */
static status conv_shape(graph *g, const node *n, int x, int w, shape *y)
{
    conv_attrs *a = (conv_attrs *)(uintptr_t)n->attr; /* the node's own */
    TRY(need_byte(g, n, x));
    TRY(need_byte(g, n, w));
    const value *vx = op_in(g, n, x), *vw = op_in(g, n, w);
    const shape xs = vx->sh, ws = vw->sh;
    char one[200], two[200];
    if (xs.rank < 3 || xs.rank > 2 + SPATIAL_MAX || ws.rank != xs.rank)
        return op_fail(n, "inputs '%s' %s and '%s' %s: ranks must be equal and 3 to %d", vx->name, shape_print(&xs, one), vw->name,
                       shape_print(&ws, two), 2 + SPATIAL_MAX);
    if (a->group < 1 || a->group > INT32_MAX || xs.dim[1] % a->group || ws.dim[0] % a->group ||
        ws.dim[1] != xs.dim[1] / a->group)
        return op_fail(n, "weight '%s' %s and group = %" PRId64 " do not go with data '%s' %s", vw->name, shape_print(&ws, one),
                       a->group, vx->name, shape_print(&xs, two));
    window win = WINDOW_OF(a, xs.rank - 2, xs.dim + 2);
    if (!a->kernel_shape.v || !a->kernel_shape.n) {
        int64_t *v;
        TRY(op_new_ints(g, win.spatial, &v, &a->kernel_shape));
        for (int i = 0; i < win.spatial; i++)
            v[i] = ws.dim[2 + i];
    }
    TRY(window_check_list(n, "kernel_shape", a->kernel_shape, win.spatial, 1));
    for (int i = 0; i < win.spatial; i++)
        if (a->kernel_shape.v[i] != ws.dim[2 + i])
            return op_fail(n, "kernel_shape is %" PRId64 " on spatial axis %d where the weight has %" PRId64,
                           a->kernel_shape.v[i], i, ws.dim[2 + i]);
    *y = (shape){.rank = xs.rank, .dim = {xs.dim[0], ws.dim[0]}};
    TRY(window_complete(g, n, &win));
    return window_outputs(n, &win, false, y->dim + 2);
}

static weight_steps conv_steps(const shape *w)
{
    int64_t m = w->dim[0], k = m ? shape_count(w) / m : 0;
    return (weight_steps){.matrices = 1, .sums = m, .terms = k, .sum = k, .term = 1};
}

static status qlinear_conv_infer(graph *g, node *n)
{
    shape y;
    TRY(conv_shape(g, n, 0, 3, &y));
    int64_t m = y.dim[1];
    TRY(check_scale(g, n, 1, "scale of the data", -1));
    TRY(check_zero(g, n, 2, op_in(g, n, 0)->type, "zero point of the data", -1));
    TRY(check_scale(g, n, 4, "scale of the weight", m));
    TRY(check_zero(g, n, 5, op_in(g, n, 3)->type, "zero point of the weight", m));
    TRY(check_scale(g, n, 6, "scale of the result", -1));
    TRY(need_byte(g, n, 7));
    TRY(check_count(n, op_in(g, n, 7), "zero point of the result", -1));
    TRY(check_bias(g, n, 8, m));
    TRY(check_factor(g, n, 1, 4, 6));
    TRY(check_accumulator(g, n, 0, 2, 3, 5, 8, conv_steps(&op_in(g, n, 3)->sh)));
    op_set_out(g, n, 0, op_in(g, n, 7)->type, y);
    return ST_OK;
}

static status conv_integer_infer(graph *g, node *n)
{
    shape y;
    TRY(conv_shape(g, n, 0, 1, &y));
    TRY(check_zero(g, n, 2, op_in(g, n, 0)->type, "zero point of the data", -1));
    TRY(check_zero(g, n, 3, op_in(g, n, 1)->type, "zero point of the weight", y.dim[1]));
    TRY(check_accumulator(g, n, 0, 2, 1, 3, n->n_in, conv_steps(&op_in(g, n, 1)->sh)));
    op_set_out(g, n, 0, DTYPE_I32, y);
    return ST_OK;
}

static double conv_macs(const graph *g, const node *n)
{
    const value *y = &g->value[n->out[0]], *w = op_in(g, n, n->op == OP_QLINEAR_CONV ? 3 : 1);
    return (double)shape_count(&w->sh) * (double)shape_count(&y->sh) / (double)(y->sh.dim[1] ? y->sh.dim[1] : 1);
}

const op_desc op_qlinear_conv = {.name = "QLinearConv", .in = {8, 9}, .out = {1, 1}, .attrs = conv_rows,
                                 .attr_size = sizeof(conv_attrs), .infer = qlinear_conv_infer, NO_GRAD("its data are integers"),
                                 .macs = conv_macs};
const op_desc op_conv_integer = {.name = "ConvInteger", .in = {2, 4}, .out = {1, 1}, .attrs = conv_rows,
                                 .attr_size = sizeof(conv_attrs), .infer = conv_integer_infer, NO_GRAD("its data are integers"),
                                 .macs = conv_macs};

/* ---- QLinearMatMul (a, sa, za, b, sb, zb, sy, zy) and MatMulInteger (a, b, za, zb); ONNX 21, 10 ----
 * Shapes as numpy.matmul. Parameters are one number, or one per row of a, per column of b; those of y are one number. */

static status matmul_shape(const graph *g, const node *n, int a, int b, shape *out, weight_steps *at)
{
    TRY(need_byte(g, n, a));
    TRY(need_byte(g, n, b));
    const value *va = op_in(g, n, a), *vb = op_in(g, n, b);
    char one[200], two[200];
    shape x = va->sh, y = vb->sh;
    if (x.rank < 1 || y.rank < 1)
        return op_fail(n, "input '%s' is a scalar", x.rank < 1 ? va->name : vb->name);
    if (x.rank == 1)
        x = SHAPE(1, x.dim[0]);
    if (y.rank == 1)
        y = SHAPE(y.dim[0], 1);
    shape xb = shape_from(x.dim, (size_t)x.rank - 2), yb = shape_from(y.dim, (size_t)y.rank - 2);
    int64_t rows = x.dim[x.rank - 2], terms = x.dim[x.rank - 1], cols = y.dim[y.rank - 1];
    if (terms != y.dim[y.rank - 2] || !shape_broadcast(&xb, &yb, out))
        return op_fail(n, "inputs '%s' %s and '%s' %s do not multiply", va->name, shape_print(&va->sh, one), vb->name,
                       shape_print(&vb->sh, two));
    if (va->sh.rank > 1)
        out->dim[out->rank++] = rows;
    if (vb->sh.rank > 1)
        out->dim[out->rank++] = cols;
    *at = (weight_steps){.matrices = shape_count(&yb), .sums = cols, .terms = terms, .outer = terms * cols, .sum = 1,
                         .term = cols};
    return ST_OK;
}

/* Rows of a, columns of b: how many parameters there may be. */
static int64_t rows_of(const value *a)
{
    return a->sh.rank > 1 ? a->sh.dim[a->sh.rank - 2] : 1;
}

static status qlinear_matmul_infer(graph *g, node *n)
{
    shape y;
    weight_steps at;
    TRY(matmul_shape(g, n, 0, 3, &y, &at));
    int64_t rows = rows_of(op_in(g, n, 0));
    TRY(check_scale(g, n, 1, "scale of a", rows));
    TRY(check_zero(g, n, 2, op_in(g, n, 0)->type, "zero point of a", rows));
    TRY(check_scale(g, n, 4, "scale of b", at.sums));
    TRY(check_zero(g, n, 5, op_in(g, n, 3)->type, "zero point of b", at.sums));
    TRY(check_scale(g, n, 6, "scale of the result", -1));
    TRY(need_byte(g, n, 7));
    TRY(check_count(n, op_in(g, n, 7), "zero point of the result", -1));
    if (shape_count(&op_in(g, n, 1)->sh) == 1)
        TRY(check_factor(g, n, 1, 4, 6));
    TRY(check_accumulator(g, n, 0, 2, 3, 5, n->n_in, at));
    op_set_out(g, n, 0, op_in(g, n, 7)->type, y);
    return ST_OK;
}

static status matmul_integer_infer(graph *g, node *n)
{
    shape y;
    weight_steps at;
    TRY(matmul_shape(g, n, 0, 1, &y, &at));
    TRY(check_zero(g, n, 2, op_in(g, n, 0)->type, "zero point of a", rows_of(op_in(g, n, 0))));
    TRY(check_zero(g, n, 3, op_in(g, n, 1)->type, "zero point of b", at.sums));
    TRY(check_accumulator(g, n, 0, 2, 1, 3, n->n_in, at));
    op_set_out(g, n, 0, DTYPE_I32, y);
    return ST_OK;
}

static double matmul_macs(const graph *g, const node *n)
{
    const shape *a = &op_in(g, n, 0)->sh;
    return (double)shape_count(&g->value[n->out[0]].sh) * (double)(a->rank ? a->dim[a->rank - 1] : 1);
}

const op_desc op_qlinear_matmul = {.name = "QLinearMatMul", .in = {8, 8}, .out = {1, 1}, .infer = qlinear_matmul_infer,
                                   NO_GRAD("its data are integers"), .macs = matmul_macs};
const op_desc op_matmul_integer = {.name = "MatMulInteger", .in = {2, 4}, .out = {1, 1}, .infer = matmul_integer_infer,
                                   NO_GRAD("its data are integers"), .macs = matmul_macs};

/* ---- QGemm (a, sa, za, b, sb, zb, bias, sy, zy): com.microsoft ----
 * acc = bias + sum of (a - za) * (b - zb) over A' [M, K] and B' [K, N]; y = saturate(round(acc * (sa * sb / sy)) + zy); alpha
 * must be 1. b's parameters are one number or one per column; bias int32 [N] or absent. Without sy the result is acc * (sa * sb)
 * as float32. Inside frozen graphs a may have leading axes, which are rows too. */

static const attr_desc qgemm_rows[] = {{ATTR(gemm_attrs, alpha), .type = ATTR_FLOAT, .def = 1},
                                       {ATTR(gemm_attrs, transA), .type = ATTR_INT},
                                       {ATTR(gemm_attrs, transB), .type = ATTR_INT},
                                       {0}};

static status qgemm_infer(graph *g, node *n)
{
    const gemm_attrs *at = n->attr;
    TRY(need_byte(g, n, 0));
    TRY(need_byte(g, n, 3));
    const value *a = op_in(g, n, 0), *b = op_in(g, n, 3);
    char one[200], two[200];
    if (a->sh.rank < 2 || b->sh.rank != 2 || (at->transA && a->sh.rank != 2))
        return op_fail(n, "inputs '%s' %s and '%s' %s must be matrices", a->name, shape_print(&a->sh, one), b->name,
                       shape_print(&b->sh, two));
    if (at->alpha != 1)
        return op_fail(n, "alpha is %g; only 1 is supported", at->alpha);
    int last = a->sh.rank - 1;
    int64_t terms = a->sh.dim[at->transA ? last - 1 : last], cols = b->sh.dim[at->transB ? 0 : 1];
    if (terms != b->sh.dim[at->transB ? 1 : 0])
        return op_fail(n, "inputs '%s' %s and '%s' %s do not multiply", a->name, shape_print(&a->sh, one), b->name,
                       shape_print(&b->sh, two));
    TRY(check_scale(g, n, 1, "scale of a", -1));
    TRY(check_zero(g, n, 2, a->type, "zero point of a", -1));
    TRY(check_scale(g, n, 4, "scale of b", cols));
    TRY(check_zero(g, n, 5, b->type, "zero point of b", cols));
    TRY(check_bias(g, n, 6, cols));
    TRY(check_accumulator(g, n, 0, 2, 3, 5, 6, (weight_steps){.matrices = 1, .sums = cols, .terms = terms,
                          .sum = at->transB ? terms : 1, .term = at->transB ? 1 : cols}));
    shape y = a->sh;
    y.dim[last - 1] = a->sh.dim[at->transA ? last : last - 1];
    y.dim[last] = cols;
    if (!op_in(g, n, 7)) {
        op_set_out(g, n, 0, op_in(g, n, 1)->type, y);
        return ST_OK;
    }
    TRY(check_scale(g, n, 7, "scale of the result", -1));
    TRY(need_byte(g, n, 8));
    TRY(check_count(n, op_in(g, n, 8), "zero point of the result", -1));
    TRY(check_factor(g, n, 1, 4, 7));
    op_set_out(g, n, 0, op_in(g, n, 8)->type, y);
    return ST_OK;
}

static double qgemm_macs(const graph *g, const node *n)
{
    const gemm_attrs *at = n->attr;
    const shape *b = &op_in(g, n, 3)->sh;
    return (double)shape_count(&g->value[n->out[0]].sh) * (double)b->dim[at->transB ? 1 : 0];
}

const op_desc op_qgemm = {.name = "QGemm", .in = {6, 9}, .out = {1, 1}, .flags = OP_MICROSOFT, .attrs = qgemm_rows,
                          .attr_size = sizeof(gemm_attrs), .infer = qgemm_infer, NO_GRAD("its data are integers"),
                          .macs = qgemm_macs};

/* ---- QLinearAdd (a, sa, za, b, sb, zb, sy, zy): com.microsoft ----
 * y = saturate(round(((a - za) * sa + (b - zb) * sb) / sy) + zy), every step in float32: what DequantizeLinear, Add and
 * QuantizeLinear give. a and b broadcast. */

static status qlinear_add_infer(graph *g, node *n)
{
    char one[200], two[200];
    shape y;
    TRY(need_byte(g, n, 0));
    TRY(need_byte(g, n, 3));
    const value *a = op_in(g, n, 0), *b = op_in(g, n, 3), *zero = op_in(g, n, 7);
    if (!shape_broadcast(&a->sh, &b->sh, &y))
        return op_fail(n, "inputs '%s' %s and '%s' %s do not broadcast", a->name, shape_print(&a->sh, one), b->name,
                       shape_print(&b->sh, two));
    TRY(check_scale(g, n, 1, "scale of a", -1));
    TRY(check_zero(g, n, 2, a->type, "zero point of a", -1));
    TRY(check_scale(g, n, 4, "scale of b", -1));
    TRY(check_zero(g, n, 5, b->type, "zero point of b", -1));
    TRY(check_scale(g, n, 6, "scale of the result", -1));
    if (zero) {
        TRY(need_byte(g, n, 7));
        TRY(check_count(n, zero, "zero point of the result", -1));
    }
    op_set_out(g, n, 0, zero ? zero->type : a->type, y);
    return ST_OK;
}

const op_desc op_qlinear_add = {.name = "QLinearAdd", .in = {2, 8}, .out = {1, 1}, .flags = OP_MICROSOFT,
                                .infer = qlinear_add_infer, NO_GRAD("its data are integers")};
