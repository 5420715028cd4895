/* quant_simd.c - between float and bytes, sums of bytes, and what moves or compares bytes of blocked tensors.
 *
 * Compiled without fused multiply-add: the bits are those of quant.c. */
#include "kernels/cpu/blocked.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/pool.h"
#include "kernels/cpu/qwide.h"

ALWAYS_INLINE vec bytes_as_float(const uint8_t *p, bool is_signed, vec_int zero)
{
    return __builtin_convertvector(bytes_widened(p, is_signed) - zero, vec);
}

/* A divisor; multiplying gives the same bits where it is a power of two. */
typedef struct divisor {
    vec by;
    bool multiply;
} divisor;
static divisor divisor_of(float scale)
{
    int exponent;
    bool exact = frexpf(scale, &exponent) == 0.5f && exponent > -120 && exponent < 120;
    return (divisor){vec_set(exact ? 1 / scale : scale), exact};
}
ALWAYS_INLINE vec divide(vec v, const divisor *d)
{
    return d->multiply ? v * d->by : v / d->by;
}

/* ---- QuantizeLinear, DequantizeLinear ---- */

/* x as [rows, inner] with one scale a row: row r has channel r % channels. */
typedef struct rows {
    int64_t rows, channels, inner;
} rows;
static bool rows_of(const kernel_args *a, rows *r)
{
    const shape *x = &a->in[0].sh;
    *r = (rows){1, 1, kernel_elements(&a->in[0])};
    if (shape_count(&a->in[1].sh) == 1)
        return true;
    int axis = shape_axis(x, ((const quant_attrs *)a->attr)->axis);
    r->channels = x->dim[axis];
    r->inner = 1;
    for (int i = axis + 1; i < x->rank; i++)
        r->inner *= x->dim[i];
    r->rows = r->inner ? shape_count(x) / r->inner : 0;
    return r->inner >= LANES && !a->in[0].block;
}

static bool is_byte(dtype t)
{
    return t == DTYPE_U8 || t == DTYPE_I8;
}
/* Lanes beyond the channels would become the zero point. */
static bool full(const kernel_tensor *t)
{
    return !t->block || t->sh.dim[1] % LANES == 0;
}
static bool takes_quantize(const kernel_args *a)
{
    rows r;
    return is_byte(a->out[0].type) && full(&a->in[0]) && rows_of(a, &r);
}
static bool takes_dequantize(const kernel_args *a)
{
    rows r;
    return is_byte(a->in[0].type) && a->out[0].type == DTYPE_F32 && full(&a->in[0]) && rows_of(a, &r);
}

static void quantize_some(const float *x, uint8_t *y, int64_t n, const divisor *d, const qround *r)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec_byte b = vec_narrow(qround_vec(divide(vec_load(x + i), d), r));
        memcpy(y + i, &b, sizeof b);
    }
    if (i < n) {
        float last[LANES] = {0};
        memcpy(last, x + i, (size_t)(n - i) * sizeof *last);
        vec_byte b = vec_narrow(qround_vec(divide(vec_load(last), d), r));
        memcpy(y + i, &b, (size_t)(n - i));
    }
}

static void dequantize_some(const uint8_t *x, float *y, int64_t n, bool is_signed, vec_int zero, vec scale)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vec_store(y + i, bytes_as_float(x + i, is_signed, zero) * scale);
    if (i < n) {
        uint8_t last[LANES] = {0};
        float out[LANES];
        memcpy(last, x + i, (size_t)(n - i));
        vec_store(out, bytes_as_float(last, is_signed, zero) * scale);
        memcpy(y + i, out, (size_t)(n - i) * sizeof *out);
    }
}

static void convert(const kernel_args *a, bool to_bytes)
{
    rows r;
    bool is_signed = a->in[0].type == DTYPE_I8;
    (void)rows_of(a, &r);
    int64_t each = block_count(r.inner, BLOCK_ELEMENTS);
    PARALLEL_FOR(u, r.rows * each, a->threads, r.rows * r.inner)
    {
        int64_t row = u / each, from = u % each * BLOCK_ELEMENTS, c = row % r.channels;
        int64_t at = row * r.inner + from, n = min_of(BLOCK_ELEMENTS, r.inner - from);
        float scale = quant_scale(a, 1, c);
        int32_t zero = quant_zero(a, 2, c);
        if (to_bytes) {
            divisor d = divisor_of(scale);
            qround round = qround_of(zero, quant_range_of(a->out[0].type));
            quantize_some((const float *)a->in[0].data + at, (uint8_t *)a->out[0].data + at, n, &d, &round);
        } else {
            dequantize_some((const uint8_t *)a->in[0].data + at, (float *)a->out[0].data + at, n, is_signed,
                            (vec_int){0} + zero, vec_set(scale));
        }
    }
}

static void quantize(const kernel_args *a)
{
    convert(a, true);
}
static void dequantize(const kernel_args *a)
{
    convert(a, false);
}

/* ---- QLinearAdd of tensors of one shape ---- */

static bool takes_add(const kernel_args *a)
{
    return shape_equal(&a->in[0].sh, &a->in[3].sh) && full(&a->in[0]);
}

static void add(const kernel_args *a)
{
    const uint8_t *x = a->in[0].data, *w = a->in[3].data;
    uint8_t *y = a->out[0].data;
    const int64_t n = kernel_elements(&a->in[0]);
    const bool sx = a->in[0].type == DTYPE_I8, sw = a->in[3].type == DTYPE_I8;
    const vec_int zx = (vec_int){0} + quant_zero(a, 2, 0), zw = (vec_int){0} + quant_zero(a, 5, 0);
    const vec fx = vec_set(quant_scale(a, 1, 0)), fw = vec_set(quant_scale(a, 4, 0));
    const divisor d = divisor_of(quant_scale(a, 6, 0));
    const qround r = qround_of(quant_zero(a, 7, 0), quant_range_of(a->out[0].type));
    PARALLEL_FOR(u, block_count(n, BLOCK_ELEMENTS), a->threads, n)
    {
        int64_t i = u * BLOCK_ELEMENTS, end = block_end(u, n, BLOCK_ELEMENTS);
        for (; i + LANES <= end; i += LANES) {
            vec sum = bytes_as_float(x + i, sx, zx) * fx + bytes_as_float(w + i, sw, zw) * fw;
            vec_byte b = vec_narrow(qround_vec(divide(sum, &d), &r));
            memcpy(y + i, &b, sizeof b);
        }
        if (i < end) {
            uint8_t one[LANES] = {0}, two[LANES] = {0};
            memcpy(one, x + i, (size_t)(end - i));
            memcpy(two, w + i, (size_t)(end - i));
            vec sum = bytes_as_float(one, sx, zx) * fx + bytes_as_float(two, sw, zw) * fw;
            vec_byte b = vec_narrow(qround_vec(divide(sum, &d), &r));
            memcpy(y + i, &b, (size_t)(end - i));
        }
    }
}

/* ---- blocked bytes: there and back, maximum ---- */

static void to_blocked(const kernel_args *a)
{
    blocked b = blocked_of(&a->out[0].sh);
    const uint8_t *x = a->in[0].data;
    uint8_t *y = a->out[0].data;
    PARALLEL_FOR(i, b.images * b.blocks, a->threads, b.images * b.blocks * b.pixels * LANES)
    {
        const uint8_t *from = x + (i / b.blocks * b.channels + i % b.blocks * LANES) * b.pixels;
        int64_t n = block_channels(&b, i % b.blocks);
        for (int64_t p = 0; p < b.pixels; p++) {
            uint8_t lane[LANES] = {0};
            for (int64_t c = 0; c < n; c++)
                lane[c] = from[c * b.pixels + p];
            memcpy(y + (i * b.pixels + p) * LANES, lane, LANES);
        }
    }
}

static void to_plain(const kernel_args *a)
{
    blocked b = blocked_of(&a->out[0].sh);
    const uint8_t *x = a->in[0].data;
    uint8_t *y = a->out[0].data;
    PARALLEL_FOR(i, b.images * b.blocks, a->threads, b.images * b.blocks * b.pixels * LANES)
    {
        uint8_t *to = y + (i / b.blocks * b.channels + i % b.blocks * LANES) * b.pixels;
        int64_t n = block_channels(&b, i % b.blocks);
        for (int64_t p = 0; p < b.pixels; p++)
            for (int64_t c = 0; c < n; c++)
                to[c * b.pixels + p] = x[(i * b.pixels + p) * LANES + c];
    }
}

static bool takes_spatial(const kernel_args *a)
{
    return a->in[0].sh.rank <= 5 && a->n_out == 1;
}

static void max_pool(const kernel_args *a)
{
    spatial s = pool_spatial(a->attr, &a->in[0].sh, &a->out[0].sh);
    blocked b = blocked_of(&a->in[0].sh);
    const bool is_signed = a->in[0].type == DTYPE_I8;
    const vec_byte flip = (vec_byte){0} + (uint8_t)(is_signed ? 0x80 : 0); /* the order of int8 is that of uint8, moved */
    int64_t out = spatial_out(&s);
    PARALLEL_FOR(p, b.images * b.blocks, a->threads, b.images * b.blocks * b.pixels * LANES)
    {
        const uint8_t *x = (const uint8_t *)a->in[0].data + p * b.pixels * LANES;
        uint8_t *y = (uint8_t *)a->out[0].data + p * out * LANES;
        size_t n = (size_t)block_channels(&b, p % b.blocks);
        for (int64_t o = 0; o < out; o++, y += LANES) {
            pool_window w;
            vec_byte best = (vec_byte){0};
            window_at(&s, o, false, &w);
            for (int64_t d = w.tap[0].begin; d < w.tap[0].end; d++)
                for (int64_t h = w.tap[1].begin; h < w.tap[1].end; h++)
                    for (int64_t c = w.tap[2].begin; c < w.tap[2].end; c++) {
                        vec_byte v;
                        memcpy(&v, x + window_index(&s, &w, d, h, c) * LANES, sizeof v);
                        v ^= flip;
                        vec_byte more = (vec_byte)(v > best);
                        best = (v & more) | (best & ~more);
                    }
            best ^= flip;
            memcpy(y, &best, LANES);
            memset(y + n, 0, LANES - n);
        }
    }
}

#define BOTH .blocked_in = 1, .blocked_out = 1
KERNEL_TABLE(quant) = {
    {OP_QUANTIZE_LINEAR, DTYPE_F32, REAL_ISA, "quantize", quantize, NULL, takes_quantize},
    {OP_QUANTIZE_LINEAR, DTYPE_F32, REAL_ISA, "quantize_blocked", quantize, NULL, takes_quantize, BOTH},
    {OP_DEQUANTIZE_LINEAR, DTYPE_NONE, REAL_ISA, "dequantize", dequantize, NULL, takes_dequantize},
    {OP_DEQUANTIZE_LINEAR, DTYPE_NONE, REAL_ISA, "dequantize_blocked", dequantize, NULL, takes_dequantize, BOTH},
    {OP_QLINEAR_ADD, DTYPE_NONE, REAL_ISA, "qlinear_add", add, NULL, takes_add},
    {OP_QLINEAR_ADD, DTYPE_NONE, REAL_ISA, "qlinear_add_blocked", add, NULL, takes_add, .blocked_in = 9, .blocked_out = 1},
    {OP_MAX_POOL, DTYPE_U8, REAL_ISA, "max_pool_u8_blocked", max_pool, NULL, takes_spatial, BOTH},
    {OP_MAX_POOL, DTYPE_I8, REAL_ISA, "max_pool_i8_blocked", max_pool, NULL, takes_spatial, BOTH},
    {OP_REORDER, DTYPE_U8, REAL_ISA, "reorder_u8_to_blocked", to_blocked, .blocked_out = 1},
    {OP_REORDER, DTYPE_U8, REAL_ISA, "reorder_u8_to_plain", to_plain, .blocked_in = 1},
    {OP_REORDER, DTYPE_I8, REAL_ISA, "reorder_i8_to_blocked", to_blocked, .blocked_out = 1},
    {OP_REORDER, DTYPE_I8, REAL_ISA, "reorder_i8_to_plain", to_plain, .blocked_in = 1},
    KERNEL_END};
