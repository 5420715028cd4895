/* qconv.c - reference of convolutions and products of integers, one sum after the other.
 *
 * Sums are int32; inference has shown that they do not overflow where the weights are known, otherwise they wrap. */
#include "kernels/cpu/quant.h"
#include "kernels/cpu/spatial.h"

/* Results: acc as int32 (no scale), or requantised. */
typedef struct finish {
    const kernel_tensor *y;
    float scale_x, scale_y;
    int32_t zero;
    quant_range range;
} finish;

static void put(const finish *f, int64_t i, uint32_t acc, float scale_w)
{
    int32_t sum = (int32_t)acc;
    if (f->y->type == DTYPE_I32)
        ((int32_t *)f->y->data)[i] = sum;
    else if (dtype_of(f->y->type)->is_float)
        dtype_store(f->y->type, f->y->data, i, (double)((float)sum * (f->scale_x * scale_w)));
    else
        quant_store_byte(f->y, i, quant_round((float)sum * (f->scale_x * scale_w / f->scale_y), f->zero, f->range));
}

/* ---- convolutions ---- */

/* Numbers of the operands: inputs w, zx, sw, zw (QLinearConv and ConvInteger have them at other places). */
typedef struct conv_places {
    int w, zx, sw, zw, bias;
} conv_places;

static uint32_t window_sum(const kernel_args *a, const conv_places *at, const spatial *s, int64_t image, int64_t m, int64_t o)
{
    int64_t c = s->channels / s->group, first = image * s->channels + m / (s->outputs / s->group) * c;
    int32_t zx = quant_zero(a, at->zx, 0), zw = quant_zero(a, at->zw, m);
    int64_t place[3] = {o / (s->out[1] * s->out[2]), o / s->out[2] % s->out[1], o % s->out[2]}, start[3];
    range tap[3];
    uint32_t sum = 0;
    for (int i = 0; i < 3; i++) {
        tap[i] = taps_of_window(s, i, place[i]);
        start[i] = place[i] * s->stride[i] - s->pad[i];
    }
    for (int64_t j = 0; j < c; j++)
        for (int64_t d = tap[0].begin; d < tap[0].end; d++)
            for (int64_t h = tap[1].begin; h < tap[1].end; h++)
                for (int64_t k = tap[2].begin; k < tap[2].end; k++) {
                    int64_t x = (((first + j) * s->in[0] + start[0] + d * s->dilation[0]) * s->in[1] + start[1] +
                                 h * s->dilation[1]) * s->in[2] + start[2] + k * s->dilation[2];
                    int64_t w = (((m * c + j) * s->kernel[0] + d) * s->kernel[1] + h) * s->kernel[2] + k;
                    sum += (uint32_t)((quant_byte(&a->in[0], x) - zx) * (quant_byte(&a->in[at->w], w) - zw));
                }
    return sum;
}

static void convolve(const kernel_args *a, const conv_places *at, const finish *f)
{
    spatial s = conv_spatial(a->attr, &a->in[0].sh, &a->out[0].sh);
    int64_t out = spatial_out(&s);
    const int32_t *bias = quant_present(a, at->bias) ? a->in[at->bias].data : NULL;
#pragma omp parallel for num_threads(a->threads) schedule(static)
    for (int64_t p = 0; p < s.n * s.outputs; p++) {
        int64_t m = p % s.outputs;
        float scale = f->y->type == DTYPE_I32 ? 1 : quant_scale(a, at->sw, m);
        for (int64_t o = 0; o < out; o++)
            put(f, p * out + o, window_sum(a, at, &s, p / s.outputs, m, o) + (bias ? (uint32_t)bias[m] : 0), scale);
    }
}

static finish finish_of(const kernel_args *a, int sx, int sy, int zy)
{
    return (finish){.y = &a->out[0], .scale_x = quant_scale(a, sx, 0), .scale_y = quant_present(a, sy) ? quant_scale(a, sy, 0) : 1,
                    .zero = quant_zero(a, zy, 0), .range = quant_range_of(a->out[0].type)};
}

static void qlinear_conv(const kernel_args *a)
{
    finish f = finish_of(a, 1, 6, 7);
    convolve(a, &(conv_places){.w = 3, .zx = 2, .sw = 4, .zw = 5, .bias = 8}, &f);
}

static void conv_integer(const kernel_args *a)
{
    finish f = {.y = &a->out[0]};
    convolve(a, &(conv_places){.w = 1, .zx = 2, .zw = 3, .bias = a->n_in}, &f);
}

/* ---- products ---- */

typedef struct product {
    int b, sa, za, sb, zb, bias;                    /* numbers of inputs; none: beyond the last */
    int64_t batch, rows, cols, terms;
    int64_t row_a, term_a, term_b, col_b;           /* steps in elements */
    bool a_per_row;
} product;

/* First element of matrix `i` of the result's leading axes in an operand of shape s. */
static int64_t matrix_at(const shape *s, const shape *lead, int64_t i)
{
    int64_t at = 0, step = s->rank > 1 ? s->dim[s->rank - 1] * s->dim[s->rank - 2] : 0;
    for (int k = 1; k <= lead->rank; k++) {
        int64_t place = i % lead->dim[lead->rank - k], axis = s->rank - 2 - k;
        i /= lead->dim[lead->rank - k];
        if (axis < 0)
            continue;
        at += s->dim[axis] > 1 ? place * step : 0;
        step *= s->dim[axis];
    }
    return at;
}

static void multiply(const kernel_args *a, const product *p, const shape *lead, finish f)
{
    const kernel_tensor *ta = &a->in[0], *tb = &a->in[p->b];
    const int32_t *bias = quant_present(a, p->bias) ? a->in[p->bias].data : NULL;
    for (int64_t m = 0; m < p->batch; m++) {
        int64_t first_a = matrix_at(&ta->sh, lead, m), first_b = matrix_at(&tb->sh, lead, m);
        for (int64_t r = 0; r < p->rows; r++) {
            int32_t za = quant_zero(a, p->za, r);
            if (f.y->type != DTYPE_I32)
                f.scale_x = quant_scale(a, p->sa, r);
            for (int64_t c = 0; c < p->cols; c++) {
                int32_t zb = quant_zero(a, p->zb, c);
                uint32_t sum = bias ? (uint32_t)bias[c] : 0;
                for (int64_t k = 0; k < p->terms; k++)
                    sum += (uint32_t)((quant_byte(ta, first_a + r * p->row_a + k * p->term_a) - za) *
                                      (quant_byte(tb, first_b + k * p->term_b + c * p->col_b) - zb));
                put(&f, (m * p->rows + r) * p->cols + c, sum, f.y->type == DTYPE_I32 ? 1 : quant_scale(a, p->sb, c));
            }
        }
    }
}

/* Sizes as numpy.matmul has them; the leading axes of the result in *lead. */
static void matmul_sizes(const kernel_args *a, product *p, shape *lead)
{
    const shape *x = &a->in[0].sh, *w = &a->in[p->b].sh, *y = &a->out[0].sh;
    p->terms = x->dim[x->rank - 1];
    p->rows = x->rank > 1 ? x->dim[x->rank - 2] : 1;
    p->cols = w->rank > 1 ? w->dim[w->rank - 1] : 1;
    *lead = *y;
    lead->rank -= (x->rank > 1) + (w->rank > 1);
    p->batch = shape_count(lead);
    p->row_a = p->terms;
    p->term_a = p->col_b = 1;
    p->term_b = p->cols;
}

static void qlinear_matmul(const kernel_args *a)
{
    product p = {.b = 3, .sa = 1, .za = 2, .sb = 4, .zb = 5, .bias = a->n_in};
    shape lead;
    matmul_sizes(a, &p, &lead);
    multiply(a, &p, &lead, finish_of(a, 1, 6, 7));
}

static void matmul_integer(const kernel_args *a)
{
    product p = {.b = 1, .za = 2, .zb = 3, .bias = a->n_in};
    shape lead;
    matmul_sizes(a, &p, &lead);
    multiply(a, &p, &lead, (finish){.y = &a->out[0]});
}

static void qgemm(const kernel_args *a)
{
    const gemm_attrs *at = a->attr;
    const shape *x = &a->in[0].sh, *w = &a->in[3].sh, none = {0};
    bool ta = at->transA != 0, tb = at->transB != 0;
    product p = {.b = 3, .sa = 1, .za = 2, .sb = 4, .zb = 5, .bias = 6, .batch = 1};
    p.terms = w->dim[tb ? 1 : 0];
    p.cols = w->dim[tb ? 0 : 1];
    p.rows = p.cols ? shape_count(&a->out[0].sh) / p.cols : 0;
    p.row_a = ta ? 1 : p.terms;
    p.term_a = ta ? x->dim[1] : 1;
    p.term_b = tb ? 1 : p.cols;
    p.col_b = tb ? p.terms : 1;
    multiply(a, &p, &none, finish_of(a, 1, 7, 8));
}

const kernel_row cpu_qconv[] = {
    {OP_QLINEAR_CONV, DTYPE_NONE, ISA_REF, "qlinear_conv_ref", qlinear_conv},
    {OP_CONV_INTEGER, DTYPE_NONE, ISA_REF, "conv_integer_ref", conv_integer},
    {OP_QLINEAR_MATMUL, DTYPE_NONE, ISA_REF, "qlinear_matmul_ref", qlinear_matmul},
    {OP_MATMUL_INTEGER, DTYPE_NONE, ISA_REF, "matmul_integer_ref", matmul_integer},
    {OP_QGEMM, DTYPE_NONE, ISA_REF, "qgemm_ref", qgemm},
    KERNEL_END,
};
