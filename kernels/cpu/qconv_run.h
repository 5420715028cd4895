/* qconv_run.h - QLinearConv, QGemm and QLinearMatMul by tiles of pixels and vectors of output channels: the body of
 * qconv_simd.c and qconv_vnni_simd.c.
 *
 * A product is a convolution of 1 x 1 over a row of pixels, its channels side by side. The data of a task (an image, a
 * group, a part of its rows and columns) are copied first: blocks of LANES channels, columns by their place within the
 * stride, padding filled in, so that the pixels of a tile lie PIXEL entries apart whatever the stride. Weights are packed
 * with the output channels innermost, once and for all when they are constants. Sums are integers: no order, no number of
 * threads and no instruction set changes a bit. */
#ifndef DISTILL_KERNELS_QCONV_RUN_H
#define DISTILL_KERNELS_QCONV_RUN_H

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/qdot.h"
#include "kernels/cpu/spatial.h"

enum {
    PANEL = 2,                                /* vectors of output channels in a tile */
    TILE = REGISTERS == 32 ? 12 : 6,          /* most pixels of a tile */
    PACK_BYTES = 96 << 10,                    /* of a task's data, about */
    PARTS = 3                                 /* of a weight that leaves int8 when its zero point is subtracted */
};

/* Where tensors have their elements. */
typedef enum lies {
    LIES_PLAIN,   /* [N, C, pixels] */
    LIES_BLOCKED, /* [N, C / LANES, pixels, LANES] */
    LIES_ROWS     /* [pixels, C] */
} lies;

typedef struct qjob {
    int w, sx, zx, sw, zw, sy, zy, bias;      /* numbers of inputs */
    lies in_lies, out_lies;
    int64_t images, groups, channels, outputs; /* of a group, the last two */
    int64_t in[2], out[2], kernel[2], stride[2], dilation[2], pad[2];
    int64_t w_out, w_in, w_tap;               /* steps of the weight */
    int64_t blocks, vectors, entries, slots;  /* blocks of input channels, vectors of output channels, of a group */
    int64_t part[2], parts[2];                /* rows and columns of a task, tasks along them */
    int64_t rows, cols, row_pitch, block_pitch; /* of the copy; pitches in entries */
    int64_t pack_entries;
    int threads;
} qjob;

/* What depends on everything but the data. */
typedef struct qweights {
    int32_t *w;      /* [groups][vectors, in panels][entries][LANES of the panel's vectors] */
    int32_t *bias;   /* [groups * vectors * LANES] */
    float *factor;   /* the same */
    int32_t *mask;   /* the same: all bits, 0 beyond the channels */
    int64_t entries; /* of a sum: those of all parts */
} qweights;

static inline size_t carve_weights(const qjob *j, void *base, bool one_part, qweights *q)
{
    carver c = {.base = base};
    int64_t n = j->entries * (one_part ? 1 : PARTS), lanes = j->groups * j->vectors * LANES;
    q->entries = n;
    q->bias = carve(&c, lanes, sizeof(int32_t));
    q->factor = carve(&c, lanes, sizeof(float));
    q->mask = carve(&c, lanes, sizeof(int32_t));
    q->w = carve(&c, lanes * n, sizeof(int32_t));
    return c.used;
}

/* ---- plans ---- */

static void plan_parts(qjob *j, int threads)
{
    int64_t span[2];
    for (int a = 0; a < 2; a++)
        span[a] = (j->kernel[a] - 1) * j->dilation[a];
    j->blocks = (j->channels + LANES - 1) / LANES;
    j->vectors = (j->outputs + LANES - 1) / LANES;
    j->slots = min_of(j->stride[1], span[1] + 1);
    int64_t quads = (j->channels / LANES) * PIXEL + (j->channels % LANES + QUAD - 1) / QUAD;
    j->entries = quads * j->kernel[0] * j->kernel[1];
    /* whole rows while they fit, else columns of one row; at least two tasks a thread where there is that much work */
    int64_t pixel = j->blocks * PIXEL * 4, reach = span[1] / j->stride[1];
    int64_t row = pixel * j->slots * (j->out[1] + reach);
    j->part[1] = j->out[1];
    j->part[0] = (PACK_BYTES / max_of(row, 1) - span[0] - 1) / j->stride[0] + 1;
    j->part[0] = max_of(1, min_of(j->part[0], j->out[0]));
    if (j->part[0] == 1)
        j->part[1] = min_of(j->out[1], max_of(4 * TILE, PACK_BYTES / max_of(pixel * j->slots * (span[0] + 1), 1)));
    int64_t wanted = max_of(1, 2 * threads / max_of(1, j->images * j->groups));
    if (threads > 1 && wanted > 1 && j->out[0] > 1)
        j->part[0] = max_of(1, min_of(j->part[0], (j->out[0] + wanted - 1) / wanted));
    else if (threads > 1 && wanted > 1)
        j->part[1] = max_of(TILE, min_of(j->part[1], (j->out[1] + wanted - 1) / wanted));
    for (int a = 0; a < 2; a++)
        j->parts[a] = (j->out[a] + j->part[a] - 1) / j->part[a];
    j->rows = (j->part[0] - 1) * j->stride[0] + span[0] + 1;
    j->cols = j->part[1] + reach;
    j->row_pitch = j->slots * j->cols * PIXEL;
    j->block_pitch = j->rows * j->row_pitch;
    j->pack_entries = round_up(j->blocks * j->block_pitch, 16);
    j->threads = threads;
}

static lies lies_of(const kernel_tensor *t)
{
    return t->block ? LIES_BLOCKED : LIES_PLAIN;
}

static bool plan_conv(qjob *j, const kernel_args *a)
{
    if (a->in[0].sh.rank > 4)
        return false;
    spatial s = conv_spatial(a->attr, &a->in[0].sh, &a->out[0].sh);
    *j = (qjob){.w = 3, .sx = 1, .zx = 2, .sw = 4, .zw = 5, .sy = 6, .zy = 7, .bias = 8, .in_lies = lies_of(&a->in[0]),
                .out_lies = lies_of(&a->out[0]), .images = s.n, .groups = s.group};
    j->channels = s.channels / s.group;
    j->outputs = s.outputs / s.group;
    for (int i = 0; i < 2; i++) {
        j->in[i] = s.in[i + 1];
        j->out[i] = s.out[i + 1];
        j->kernel[i] = s.kernel[i + 1];
        j->stride[i] = s.stride[i + 1];
        j->dilation[i] = s.dilation[i + 1];
        j->pad[i] = s.pad[i + 1];
    }
    j->w_tap = 1;
    j->w_in = j->kernel[0] * j->kernel[1];
    j->w_out = j->channels * j->w_in;
    bool point = j->w_in == 1 && j->stride[0] == 1 && j->stride[1] == 1 && j->in[0] == j->out[0] && j->in[1] == j->out[1];
    if (point) { /* one long row */
        j->in[1] = j->out[1] = j->in[1] * j->in[0];
        j->in[0] = j->out[0] = 1;
    }
    if (j->in_lies == LIES_BLOCKED && 2 * s.channels < LANES) /* mostly empty: the row that reads plain data is for them */
        return false;
    bool split = j->groups > 1 && (j->channels % LANES || j->outputs % LANES);
    if (split && (j->in_lies != LIES_PLAIN || j->out_lies != LIES_PLAIN))
        return false;
    plan_parts(j, a->threads);
    return shape_count(&a->in[0].sh) > 0 && shape_count(&a->out[0].sh) > 0 && j->pack_entries < INT32_MAX / 8 &&
           j->in[1] < INT32_MAX && j->entries * j->vectors < INT32_MAX / (4 * LANES * PARTS);
}

static bool plan_product(qjob *j, const kernel_args *a)
{
    const shape *x = &a->in[0].sh, *w = &a->in[3].sh;
    bool turned = false;
    int last = x->rank - 1;
    *j = (qjob){.w = 3, .sx = 1, .zx = 2, .sw = 4, .zw = 5, .sy = 6, .zy = 7, .bias = a->n_in, .in_lies = LIES_ROWS,
                .out_lies = LIES_ROWS, .images = 1, .groups = 1};
    if (a->attr) { /* QGemm */
        const gemm_attrs *at = a->attr;
        turned = at->transB != 0;
        j->bias = 6;
        j->sy = 7;
        j->zy = 8;
        if (at->transA || !quant_present(a, 7))
            return false;
    } else if (x->rank < 1 || shape_count(&a->in[1].sh) != 1 || (quant_present(a, 2) && shape_count(&a->in[2].sh) != 1)) {
        return false;
    }
    if (w->rank != 2)
        return false;
    j->channels = x->dim[last];
    j->outputs = w->dim[turned ? 0 : 1];
    j->in[0] = j->out[0] = 1;
    for (int i = 0; i < 2; i++)
        j->kernel[i] = j->stride[i] = j->dilation[i] = 1;
    if (j->channels == 0 || j->outputs == 0)
        return false;
    j->in[1] = j->out[1] = shape_count(x) / j->channels;
    j->w_out = turned ? j->channels : 1;
    j->w_in = turned ? 1 : j->outputs;
    plan_parts(j, a->threads);
    return j->in[1] > 0 && j->pack_entries < INT32_MAX / 8 && j->entries * j->vectors < INT32_MAX / (4 * LANES * PARTS);
}

typedef bool plan_fn(qjob *j, const kernel_args *a);

/* ---- weights ---- */

#ifdef QDOT_BYTES
static int32_t moved(dtype t) /* what is added to data, and taken from weights, to change their sign */
{
    return t == DTYPE_I8 ? 128 : 0;
}
#endif

/* Weight (m of a group, c, tap) less its zero point; as bytes one of the parts whose sum it is. */
static inline qweight weight_at(const qjob *j, const kernel_args *a, int64_t at, int32_t zero, int part)
{
    int32_t v = quant_byte(&a->in[j->w], at) - zero;
#ifdef QDOT_BYTES
    for (int k = 0;; k++) {
        int32_t now = v < -128 ? -128 : v > 127 ? 127 : v;
        if (k == part)
            return (qweight)now;
        v -= now;
    }
#else
    (void)part;
    return (qweight)v;
#endif
}

/* Whether every weight less its zero point is one part. */
static bool is_one_part(const qjob *j, const kernel_args *a)
{
#ifdef QDOT_BYTES
    int32_t middle = a->in[j->w].type == DTYPE_I8 ? 0 : 128;
    if (!quant_present(a, j->zw))
        return middle == 0;
    for (int64_t i = 0; i < shape_count(&a->in[j->zw].sh); i++)
        if (quant_zero(a, j->zw, i) != middle)
            return false;
#else
    (void)j;
    (void)a;
#endif
    return true;
}

/* Offsets of the entries from a pixel's first, blocks of channels outermost, for every part. */
static void list_entries(const qjob *j, int64_t parts, int32_t *off)
{
    int64_t n = 0;
    for (int64_t b = 0; b < j->blocks; b++)
        for (int64_t h = 0; h < j->kernel[0]; h++)
            for (int64_t k = 0; k < j->kernel[1]; k++) {
                int64_t col = k * j->dilation[1], count = min_of(LANES, j->channels - b * LANES);
                int64_t at = b * j->block_pitch + h * j->dilation[0] * j->row_pitch +
                             (col % j->stride[1] * j->cols + col / j->stride[1]) * PIXEL;
                for (int64_t q = 0; q * QUAD < count; q++)
                    off[n++] = (int32_t)(at + q);
            }
    for (int64_t p = 1; p < parts; p++)
        memcpy(off + p * n, off, (size_t)n * sizeof *off);
}

/* One group's part: vectors in panels, behind each other. */
static void pack_group(const qjob *j, const kernel_args *a, qweights *q, int64_t group, int parts)
{
    int64_t total = j->entries * parts, first = group * j->vectors * LANES, taps = j->kernel[0] * j->kernel[1];
    qweight *to = (qweight *)(void *)(q->w + first * total);
    for (int64_t v = 0; v < j->vectors; v += PANEL) {
        int64_t lanes = min_of(PANEL, j->vectors - v) * LANES;
        for (int part = 0; part < parts; part++)
            for (int64_t b = 0; b < j->blocks; b++)
                for (int64_t t = 0; t < taps; t++)
                    for (int64_t c = b * LANES; c < min_of(j->channels, (b + 1) * LANES); c += QUAD)
                        for (int64_t l = 0; l < lanes; l++)
                            for (int64_t i = c; i < c + QUAD; i++) {
                                int64_t m = v * LANES + l, all = group * j->outputs + m;
                                bool in = m < j->outputs && i < j->channels;
                                *to++ = in ? weight_at(j, a, all * j->w_out + i * j->w_in + t * j->w_tap,
                                                       quant_zero(a, j->zw, all), part) : 0;
                            }
    }
}

static void pack_weights(const qjob *j, const kernel_args *a, bool one_part, qweights *q)
{
    const int32_t *bias = quant_present(a, j->bias) ? a->in[j->bias].data : NULL;
    int parts = one_part ? 1 : PARTS;
    float sx = quant_scale(a, j->sx, 0), sy = quant_scale(a, j->sy, 0);
    int64_t taps = j->kernel[0] * j->kernel[1];
    for (int64_t g = 0; g < j->groups; g++) {
        pack_group(j, a, q, g, parts);
        for (int64_t l = 0; l < j->vectors * LANES; l++) {
            int64_t m = g * j->outputs + l, at = g * j->vectors * LANES + l;
            bool in = l < j->outputs;
            uint32_t sum = in && bias ? (uint32_t)bias[m] : 0;
#ifdef QDOT_BYTES
            int32_t zw = in ? quant_zero(a, j->zw, m) : 0, zx = quant_zero(a, j->zx, 0) + moved(a->in[0].type);
            for (int64_t i = 0; in && i < j->channels; i++)
                for (int64_t t = 0; t < taps; t++)
                    sum -= (uint32_t)(zx * (quant_byte(&a->in[j->w], m * j->w_out + i * j->w_in + t * j->w_tap) - zw));
#else
            (void)taps;
#endif
            q->bias[at] = (int32_t)sum;
            q->factor[at] = in ? sx * quant_scale(a, j->sw, m) / sy : 0;
            q->mask[at] = in ? -1 : 0;
        }
    }
}

/* ---- data ---- */

typedef struct qtask {
    int64_t image, group, first[2], count[2];
} qtask;

/* `count` pixels of `n` channels, steps in elements; LANES elements each in the copy. */
ALWAYS_INLINE void copy_pixels(qdata *to, const uint8_t *from, int64_t count, int64_t n, int64_t pixel, int64_t channel,
                               bool is_signed, int32_t zero)
{
    for (int64_t p = 0; p < count; p++, to += LANES, from += pixel)
        for (int64_t c = 0; c < n; c++) {
            uint8_t v = from[c * channel];
#ifdef QDOT_BYTES
            to[c] = is_signed ? v ^ 0x80 : v;
            (void)zero;
#else
            to[c] = (qdata)((is_signed ? (int8_t)v : v) - zero);
#endif
        }
}

typedef struct source { /* of a block of channels */
    const uint8_t *at;
    int64_t pixel, channel, n;
} source;

static source source_of(const qjob *j, const kernel_args *a, const qtask *t, int64_t b)
{
    const uint8_t *x = a->in[0].data;
    int64_t plane = j->in[0] * j->in[1], all = j->groups * j->channels, c = t->group * j->channels + b * LANES;
    source s = {.n = min_of(LANES, j->channels - b * LANES)};
    if (j->in_lies == LIES_BLOCKED)
        return (source){x + (t->image * ((all + LANES - 1) / LANES) * LANES + c) * plane, LANES, 1, LANES};
    s.at = j->in_lies == LIES_ROWS ? x + t->image * plane * all + c : x + (t->image * all + c) * plane;
    s.pixel = j->in_lies == LIES_ROWS ? all : 1;
    s.channel = j->in_lies == LIES_ROWS ? 1 : plane;
    return s;
}

static void fill_pixels(qdata *to, int64_t count, qdata v)
{
    for (int64_t i = 0; i < count * LANES; i++)
        to[i] = v;
}

static void pack_data(const qjob *j, const kernel_args *a, const qtask *t, int32_t *pack)
{
    bool is_signed = a->in[0].type == DTYPE_I8;
    int32_t zero = quant_zero(a, j->zx, 0);
#ifdef QDOT_BYTES
    qdata outside = (qdata)(zero + moved(a->in[0].type));
#else
    qdata outside = 0;
#endif
    int64_t top = t->first[0] * j->stride[0] - j->pad[0], left = t->first[1] * j->stride[1] - j->pad[1];
    int64_t rows = (t->count[0] - 1) * j->stride[0] + (j->kernel[0] - 1) * j->dilation[0] + 1;
    int64_t cols = t->count[1] + (j->kernel[1] - 1) * j->dilation[1] / j->stride[1];
    for (int64_t b = 0; b < j->blocks; b++) {
        source s = source_of(j, a, t, b);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t k = 0; k < j->slots; k++) {
                qdata *to = (qdata *)(void *)(pack + b * j->block_pitch + r * j->row_pitch + k * j->cols * PIXEL);
                range in = range_inside(left + k, j->stride[1], cols, j->in[1]);
                if (top + r < 0 || top + r >= j->in[0])
                    in = (range){0, 0};
                fill_pixels(to, in.begin, outside);
                const uint8_t *from = s.at + ((top + r) * j->in[1] + left + k + in.begin * j->stride[1]) * s.pixel;
                int64_t step = s.pixel * j->stride[1], n = in.end - in.begin;
                if (n > 0 && s.channel == 1 && s.n == LANES && is_signed)
                    copy_pixels(to + in.begin * LANES, from, n, LANES, step, 1, true, zero);
                else if (n > 0 && s.channel == 1 && s.n == LANES)
                    copy_pixels(to + in.begin * LANES, from, n, LANES, step, 1, false, zero);
                else if (n > 0)
                    copy_pixels(to + in.begin * LANES, from, n, s.n, step, s.channel, is_signed, zero);
                fill_pixels(to + in.end * LANES, cols - in.end, outside);
            }
    }
}

/* ---- tiles ---- */

/* P pixels, V vectors: acc[p * V + v] = bias[v] + the products of all entries. */
ALWAYS_INLINE void sum_tile(const int32_t *x, const int32_t *off, int64_t n, const int32_t *w, const int32_t *bias,
                            vec_int *to, const int P, const int V)
{
    vec_int acc[TILE * PANEL];
#pragma GCC unroll 16
    for (int p = 0; p < P; p++)
#pragma GCC unroll 2
        for (int v = 0; v < V; v++)
            acc[p * V + v] = vec_int_load(bias + v * LANES);
    for (int64_t e = 0; e < n; e++) {
        const int32_t *at = x + off[e];
        vec_int weight[PANEL];
#pragma GCC unroll 2
        for (int v = 0; v < V; v++)
            weight[v] = vec_int_load(w + (e * V + v) * LANES);
#pragma GCC unroll 16
        for (int p = 0; p < P; p++)
#pragma GCC unroll 2
            for (int v = 0; v < V; v++)
                acc[p * V + v] = qdot(acc[p * V + v], at[p * PIXEL], weight[v]);
    }
#pragma GCC unroll 16
    for (int p = 0; p < P; p++)
#pragma GCC unroll 2
        for (int v = 0; v < V; v++)
            to[p * V + v] = acc[p * V + v];
}

typedef void tile_fn(const int32_t *x, const int32_t *off, int64_t n, const int32_t *w, const int32_t *bias, vec_int *to);
#define TILE_FN(P)                                                                                                \
    static void tile_##P##_1(const int32_t *x, const int32_t *off, int64_t n, const int32_t *w, const int32_t *bias, \
                             vec_int *to)                                                                         \
    {                                                                                                             \
        sum_tile(x, off, n, w, bias, to, P, 1);                                                                   \
    }                                                                                                             \
    static void tile_##P##_2(const int32_t *x, const int32_t *off, int64_t n, const int32_t *w, const int32_t *bias, \
                             vec_int *to)                                                                         \
    {                                                                                                             \
        sum_tile(x, off, n, w, bias, to, P, 2);                                                                   \
    }
#define TILE_ROW(P) {tile_##P##_1, tile_##P##_2}
TILE_FN(1) TILE_FN(2) TILE_FN(3) TILE_FN(4) TILE_FN(5) TILE_FN(6)
#if REGISTERS == 32
TILE_FN(7) TILE_FN(8) TILE_FN(9) TILE_FN(10) TILE_FN(11) TILE_FN(12)
#endif
static tile_fn *const tiles[TILE + 1][PANEL] = {
    {NULL, NULL}, TILE_ROW(1), TILE_ROW(2), TILE_ROW(3), TILE_ROW(4), TILE_ROW(5), TILE_ROW(6),
#if REGISTERS == 32
    TILE_ROW(7), TILE_ROW(8), TILE_ROW(9), TILE_ROW(10), TILE_ROW(11), TILE_ROW(12)
#endif
};

/* Where the results of a vector of channels go: pixel `o` of the image. */
static inline void put_pixels(const qjob *j, const kernel_args *a, const qtask *t, int64_t vector, int64_t o, int64_t count,
                              const vec_int *acc, int step, const qweights *q, const qround *r)
{
    uint8_t *y = a->out[0].data;
    int64_t at = (t->group * j->vectors + vector) * LANES, plane = j->out[0] * j->out[1];
    int64_t c = t->group * j->outputs + vector * LANES, all = j->groups * j->outputs;
    int64_t n = min_of(LANES, j->outputs - vector * LANES);
    vec factor = vec_load(q->factor + at);
    vec_int mask = vec_int_load(q->mask + at);
    uint8_t *blocked = y + (t->image * round_up(all, LANES) + c) * plane + o * LANES;
    for (int64_t p = 0; p < count; p++) {
        vec_int rounded = qround_vec(__builtin_convertvector(acc[p * step], vec) * factor, r) & mask;
        vec_byte bytes = vec_narrow(rounded);
        if (j->out_lies == LIES_BLOCKED) {
            memcpy(blocked + p * LANES, &bytes, LANES);
        } else if (j->out_lies == LIES_ROWS) {
            memcpy(y + (o + p) * all + c, &bytes, (size_t)n);
        } else {
            uint8_t lane[LANES];
            memcpy(lane, &bytes, LANES);
            for (int64_t l = 0; l < n; l++)
                y[(t->image * all + c + l) * plane + o + p] = lane[l];
        }
    }
}

static void run_task(const qjob *j, const kernel_args *a, const qtask *t, const qweights *q, const int32_t *off, int32_t *pack)
{
    qround r = qround_of(quant_zero(a, j->zy, 0), quant_range_of(a->out[0].type));
    int64_t n = q->entries, base = t->group * j->vectors * LANES;
    int64_t steps = (t->count[1] + TILE - 1) / TILE;
    vec_int acc[TILE * PANEL];
    pack_data(j, a, t, pack);
    for (int64_t v = 0; v < j->vectors; v += PANEL) {
        int width = (int)min_of(PANEL, j->vectors - v);
        const int32_t *w = q->w + (base + v * LANES) * n, *bias = q->bias + base + v * LANES;
        for (int64_t h = 0; h < t->count[0]; h++)
            for (int64_t s = 0; s < steps; s++) {
                int64_t from = t->count[1] * s / steps, pixels = t->count[1] * (s + 1) / steps - from;
                tiles[pixels][width - 1](pack + h * j->stride[0] * j->row_pitch + from * PIXEL, off, n, w, bias, acc);
                int64_t o = (t->first[0] + h) * j->out[1] + t->first[1] + from;
                for (int k = 0; k < width; k++)
                    put_pixels(j, a, t, v + k, o, pixels, acc + k, width, q, &r);
            }
    }
}

/* ---- the rows of the table ---- */

static bool all_constant(const kernel_args *a)
{
    for (int i = 1; i < a->n_in; i++)
        if (a->in[i].type != DTYPE_NONE && !a->in[i].data)
            return false;
    return !a->in[0].data;
}

static inline size_t prepared_bytes(const kernel_args *a, plan_fn *plan)
{
    qjob j;
    qweights q;
    return all_constant(a) && plan(&j, a) ? carve_weights(&j, NULL, is_one_part(&j, a), &q) : 0;
}
static inline void prepare(const kernel_args *a, void *to, plan_fn *plan)
{
    qjob j;
    qweights q;
    if (!plan(&j, a))
        return;
    bool one = is_one_part(&j, a);
    carve_weights(&j, to, one, &q);
    pack_weights(&j, a, one, &q);
}

/* Copies of data, offsets, and what is not prepared. */
static inline size_t carve_work(const qjob *j, void *base, int32_t **pack, int32_t **off, void **weights)
{
    carver c = {.base = base};
    *pack = carve(&c, j->threads * j->pack_entries, sizeof **pack);
    *off = carve(&c, j->entries * PARTS, sizeof **off);
    *weights = carve(&c, 0, 1);
    return c.used;
}

static inline size_t workspace_bytes(const kernel_args *a, plan_fn *plan)
{
    qjob j;
    qweights q;
    int32_t *pack, *off;
    void *weights;
    if (!plan(&j, a))
        return 0;
    return carve_work(&j, NULL, &pack, &off, &weights) + (a->prepared ? 0 : carve_weights(&j, NULL, false, &q));
}

static inline void run(const kernel_args *a, plan_fn *plan)
{
    qjob j;
    qweights q;
    int32_t *pack, *off;
    void *weights;
    if (!plan(&j, a))
        return;
    carve_work(&j, a->work, &pack, &off, &weights);
    bool one = is_one_part(&j, a);
    if (a->prepared) {
        carve_weights(&j, (void *)(uintptr_t)a->prepared, one, &q);
    } else {
        carve_weights(&j, weights, one, &q);
        pack_weights(&j, a, one, &q);
    }
    list_entries(&j, one ? 1 : PARTS, off);
    int64_t tasks = j.images * j.groups * j.parts[0] * j.parts[1];
#pragma omp parallel for num_threads(j.threads) schedule(static) if (j.threads > 1 && tasks > 1)
    for (int64_t i = 0; i < tasks; i++) {
        int64_t col = i % j.parts[1], row = i / j.parts[1] % j.parts[0], rest = i / j.parts[1] / j.parts[0];
        qtask t = {.image = rest / j.groups, .group = rest % j.groups, .first = {row * j.part[0], col * j.part[1]}};
        for (int k = 0; k < 2; k++)
            t.count[k] = min_of(j.part[k], j.out[k] - t.first[k]);
        run_task(&j, a, &t, &q, off, pack + omp_get_thread_num() * j.pack_entries);
    }
}

static inline bool takes_shapes(const kernel_args *a, plan_fn *plan)
{
    qjob j;
    return (a->out[0].type == DTYPE_U8 || a->out[0].type == DTYPE_I8) && plan(&j, a);
}

#define QCONV_FUNCTIONS(kind)                                                                                     \
    static size_t kind##_prepared(const kernel_args *a)                                                           \
    {                                                                                                             \
        return prepared_bytes(a, plan_##kind);                                                                    \
    }                                                                                                             \
    static void kind##_prepare(const kernel_args *a, void *to)                                                    \
    {                                                                                                             \
        prepare(a, to, plan_##kind);                                                                              \
    }                                                                                                             \
    static size_t kind##_workspace(const kernel_args *a)                                                          \
    {                                                                                                             \
        return workspace_bytes(a, plan_##kind);                                                                   \
    }                                                                                                             \
    static void kind##_run(const kernel_args *a)                                                                  \
    {                                                                                                             \
        run(a, plan_##kind);                                                                                      \
    }                                                                                                             \
    static bool kind##_takes(const kernel_args *a)                                                                \
    {                                                                                                             \
        return HAS_QDOT && takes_shapes(a, plan_##kind);                                                          \
    }
QCONV_FUNCTIONS(conv)
QCONV_FUNCTIONS(product)

#define QCONV_ROW(op, text, kind, ...)                                                                            \
    {op, DTYPE_NONE, REAL_ISA, text, kind##_run, kind##_workspace, kind##_takes, .prepared = kind##_prepared,     \
     .prepare = kind##_prepare, __VA_ARGS__}
/* Depthwise convolutions of blocked tensors have their own kernel (qdepthwise_simd.c). */
#define QCONV_ROWS(name)                                                                                          \
    QCONV_ROW(OP_QLINEAR_CONV, "qlinear_conv_blocked_" name, conv, .blocked_in = 1, .blocked_out = 1),            \
    QCONV_ROW(OP_QLINEAR_CONV, "qlinear_conv_entry_" name, conv, .blocked_in = 0, .blocked_out = 1),              \
    QCONV_ROW(OP_QLINEAR_CONV, "qlinear_conv_" name, conv, .blocked_in = 0),                                      \
    QCONV_ROW(OP_QGEMM, "qgemm_" name, product, .blocked_in = 0),                                                 \
    QCONV_ROW(OP_QLINEAR_MATMUL, "qlinear_matmul_" name, product, .blocked_in = 0)

#endif
