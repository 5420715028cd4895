/* qdepthwise_simd.c - QLinearConv with one input channel a group, of blocked bytes.
 *
 * The rows that a task reads are copied as floats, zero point subtracted and padding 0. Sums of products of bytes are whole
 * numbers below 2^24, which float holds exactly: the results are those of integers. */
#include "kernels/cpu/blocked.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/qwide.h"
#include "kernels/cpu/spatial.h"

enum { ROW_PIXELS = 8, TAPS_MOST = 256 }; /* 256 * 255 * 255 < 2^24 */

typedef struct dwise {
    spatial s;
    int64_t blocks, cols, rows, part, parts; /* rows of a result at a time, and the data under them */
} dwise;

static bool plan(dwise *d, const kernel_args *a)
{
    if (a->in[0].sh.rank > 4)
        return false;
    d->s = conv_spatial(a->attr, &a->in[0].sh, &a->out[0].sh);
    const spatial *s = &d->s;
    int64_t reach = (s->kernel[1] - 1) * s->dilation[1];
    d->blocks = (s->channels + LANES - 1) / LANES;
    d->cols = (s->out[2] - 1) * s->stride[2] + (s->kernel[2] - 1) * s->dilation[2] + 1;
    d->part = max_of(1, min_of(s->out[1], (96 << 10) / max_of(1, d->cols * LANES * 4) / s->stride[1]));
    d->parts = (s->out[1] + d->part - 1) / d->part;
    d->rows = (d->part - 1) * s->stride[1] + reach + 1;
    return s->group == s->channels && s->outputs == s->channels && s->channels > 1 &&
           s->kernel[1] * s->kernel[2] <= TAPS_MOST && d->rows * d->cols < INT32_MAX / (LANES * 4) &&
           shape_count(&a->out[0].sh) > 0;
}

/* Weights less their zero points as [blocks][taps][LANES]; then bias, factor and mask [blocks][LANES]. */
typedef struct dweights {
    float *w, *factor;
    int32_t *bias, *mask;
} dweights;

static size_t carve_weights(const dwise *d, void *base, dweights *q)
{
    carver c = {.base = base};
    int64_t lanes = d->blocks * LANES;
    q->w = carve(&c, lanes * d->s.kernel[1] * d->s.kernel[2], sizeof(float));
    q->factor = carve(&c, lanes, sizeof(float));
    q->bias = carve(&c, lanes, sizeof(int32_t));
    q->mask = carve(&c, lanes, sizeof(int32_t));
    return c.used;
}

static void pack_weights(const dwise *d, const kernel_args *a, const dweights *q)
{
    const int32_t *bias = quant_present(a, 8) ? a->in[8].data : NULL;
    int64_t taps = d->s.kernel[1] * d->s.kernel[2];
    float sx = quant_scale(a, 1, 0), sy = quant_scale(a, 6, 0);
    for (int64_t m = 0; m < d->blocks * LANES; m++) {
        bool in = m < d->s.channels;
        for (int64_t t = 0; t < taps; t++)
            q->w[(m / LANES * taps + t) * LANES + m % LANES] =
                in ? (float)(quant_byte(&a->in[3], m * taps + t) - quant_zero(a, 5, m)) : 0;
        q->factor[m] = in ? sx * quant_scale(a, 4, m) / sy : 0;
        q->bias[m] = in && bias ? bias[m] : 0;
        q->mask[m] = in ? -1 : 0;
    }
}

/* ---- data ---- */

static void copy_row(float *to, const uint8_t *from, int64_t n, bool is_signed, vec_int zero)
{
    for (int64_t i = 0; i < n * LANES; i += LANES)
        vec_store(to + i, __builtin_convertvector(bytes_widened(from + i, is_signed) - zero, vec));
}

static void copy_data(const dwise *d, const kernel_args *a, const uint8_t *plane, int64_t first, int64_t count, float *to)
{
    const spatial *s = &d->s;
    bool is_signed = a->in[0].type == DTYPE_I8;
    vec_int zero = (vec_int){0} + quant_zero(a, 2, 0);
    int64_t rows = (count - 1) * s->stride[1] + (s->kernel[1] - 1) * s->dilation[1] + 1, top = first * s->stride[1] - s->pad[1];
    for (int64_t r = 0; r < rows; r++, to += d->cols * LANES) {
        range in = range_inside(-s->pad[2], 1, d->cols, s->in[2]);
        if (top + r < 0 || top + r >= s->in[1])
            in = (range){0, 0};
        memset(to, 0, (size_t)(in.begin * LANES) * sizeof *to);
        copy_row(to + in.begin * LANES, plane + ((top + r) * s->in[2] + in.begin - s->pad[2]) * LANES, in.end - in.begin,
                 is_signed, zero);
        memset(to + in.end * LANES, 0, (size_t)((d->cols - in.end) * LANES) * sizeof *to);
    }
}

/* ---- sums ---- */

/* P windows beside each other. */
ALWAYS_INLINE void sum_windows(const dwise *d, const float *x, const float *w, uint8_t *y, vec factor, vec_int bias, vec_int mask,
                               const qround *r, const int P)
{
    const spatial *s = &d->s;
    vec acc[ROW_PIXELS];
#pragma GCC unroll 8
    for (int p = 0; p < P; p++)
        acc[p] = vec_set(0);
    for (int64_t h = 0; h < s->kernel[1]; h++)
        for (int64_t k = 0; k < s->kernel[2]; k++, w += LANES) {
            const float *at = x + (h * s->dilation[1] * d->cols + k * s->dilation[2]) * LANES;
            vec weight = vec_load(w);
#pragma GCC unroll 8
            for (int p = 0; p < P; p++)
                acc[p] += vec_load(at + p * s->stride[2] * LANES) * weight;
        }
#pragma GCC unroll 8
    for (int p = 0; p < P; p++) {
        vec_int sum = __builtin_convertvector(acc[p], vec_int) + bias;
        vec_byte b = vec_narrow(qround_vec(__builtin_convertvector(sum, vec) * factor, r) & mask);
        memcpy(y + p * LANES, &b, sizeof b);
    }
}

static void run_part(const dwise *d, const kernel_args *a, const dweights *q, int64_t index, float *pack)
{
    const spatial *s = &d->s;
    int64_t part = index % d->parts, plane = index / d->parts, b = plane % d->blocks, taps = s->kernel[1] * s->kernel[2];
    int64_t first = part * d->part, count = min_of(d->part, s->out[1] - first);
    const uint8_t *x = (const uint8_t *)a->in[0].data + plane * s->in[1] * s->in[2] * LANES;
    uint8_t *y = (uint8_t *)a->out[0].data + (plane * s->out[1] + first) * s->out[2] * LANES;
    qround r = qround_of(quant_zero(a, 7, 0), quant_range_of(a->out[0].type));
    vec factor = vec_load(q->factor + b * LANES);
    vec_int bias = vec_int_load(q->bias + b * LANES), mask = vec_int_load(q->mask + b * LANES);
    const float *w = q->w + b * taps * LANES;
    copy_data(d, a, x, first, count, pack);
    for (int64_t h = 0; h < count; h++) {
        const float *row = pack + h * s->stride[1] * d->cols * LANES;
        int64_t o = 0;
        for (; o + ROW_PIXELS <= s->out[2]; o += ROW_PIXELS, y += ROW_PIXELS * LANES)
            sum_windows(d, row + o * s->stride[2] * LANES, w, y, factor, bias, mask, &r, ROW_PIXELS);
        for (; o + 4 <= s->out[2]; o += 4, y += 4 * LANES)
            sum_windows(d, row + o * s->stride[2] * LANES, w, y, factor, bias, mask, &r, 4);
        for (; o < s->out[2]; o++, y += LANES)
            sum_windows(d, row + o * s->stride[2] * LANES, w, y, factor, bias, mask, &r, 1);
    }
}

/* ---- the row of the table ---- */

static bool takes(const kernel_args *a)
{
    dwise d;
    return plan(&d, a);
}

static size_t prepared(const kernel_args *a)
{
    dwise d;
    dweights q;
    for (int i = 1; i < a->n_in; i++)
        if (a->in[i].type != DTYPE_NONE && !a->in[i].data)
            return 0;
    return !a->in[0].data && plan(&d, a) ? carve_weights(&d, NULL, &q) : 0;
}
static void prepare(const kernel_args *a, void *to)
{
    dwise d;
    dweights q;
    if (!plan(&d, a))
        return;
    carve_weights(&d, to, &q);
    pack_weights(&d, a, &q);
}

static int64_t pack_floats(const dwise *d)
{
    return d->rows * d->cols * LANES;
}
static size_t workspace(const kernel_args *a)
{
    dwise d;
    dweights q;
    return plan(&d, a) ? (size_t)(a->threads * pack_floats(&d)) * sizeof(float) + carve_weights(&d, NULL, &q) : 0;
}

static void run(const kernel_args *a)
{
    dwise d;
    dweights q;
    if (!plan(&d, a))
        return;
    float *pack = a->work;
    if (a->prepared) {
        carve_weights(&d, (void *)(uintptr_t)a->prepared, &q);
    } else {
        carve_weights(&d, pack + a->threads * pack_floats(&d), &q);
        pack_weights(&d, a, &q);
    }
#pragma omp parallel for num_threads(a->threads) schedule(static) if (a->threads > 1)
    for (int64_t i = 0; i < d.s.n * d.blocks * d.parts; i++)
        run_part(&d, a, &q, i, pack + omp_get_thread_num() * pack_floats(&d));
}

KERNEL_TABLE(qdepthwise) = {{OP_QLINEAR_CONV, DTYPE_NONE, REAL_ISA, "qlinear_conv_depthwise", run, workspace, takes, .blocked_in = 1,
                             .blocked_out = 1, .prepared = prepared, .prepare = prepare},
                            KERNEL_END};
