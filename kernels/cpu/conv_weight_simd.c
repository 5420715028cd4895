/* conv_weight_simd.c - ConvGradWeight for one and two spatial axes, dense or grouped, in float.
 *
 *     dw[m][c][k] = sum over images and windows o of dy[m][o] * x[c][o * stride + k * dilation - pad]
 *
 * Data and gradients are transposed to pixel-major form, channels innermost, the data with their padding. Then, for one
 * tap, E channels of x times V vectors of output channels stay in registers while the pixels go by: every pixel
 * broadcasts E numbers of x and multiplies them into vectors of dy. With few channels (images at the entry of a network)
 * the taps take the place of channels: the data are unfolded, one number a tap and channel, for each pixel.
 *
 * Images fall into a fixed number of shares (and channels into parts), each with sums of its own, which are added in
 * order at the end: threads change nothing. */
#include "kernels/cpu/conv_grid.h"

enum {
    SHARES_MOST = 16,            /* sums of the weight's size */
    SHARES_BYTES = 8 << 20,      /* that they may take together, when there are several */
    FEWEST_TASKS = 8,            /* below that the channels are cut into parts too */
    PART_CHANNELS = 16,          /* at least, of a part */
    BLOCK_BYTES = 192 * 1024,    /* of transposed data and gradients that are worked on at a time */
    UNFOLD_MOST = 32             /* taps times channels up to which the data are unfolded */
};

/* ---- the innermost kernel ---- */

/* Pixels of a block of images: counts, and steps in floats from one to the next, of data x and gradients d. */
typedef struct pixels {
    int64_t images, rows, cols;
    int64_t x_image, x_row, x_col, d_image, d_row, d_col;
} pixels;

/* sum[e][v] += x[pixel][e] * d[pixel][v] over all pixels; sum [E][V * LANES]. */
typedef void outer_fn(float *sum, const float *x, const float *d, const pixels *p);

ALWAYS_INLINE void outer_body(const int V, const int E, float *sum, const float *x, const float *d, const pixels *p)
{
    vec acc[REGISTERS];
    int64_t x_col = p->x_col, d_col = p->d_col;
#pragma GCC unroll 32
    for (int i = 0; i < E * V; i++)
        acc[i] = vec_set(0);
    for (int64_t n = 0; n < p->images; n++)
        for (int64_t r = 0; r < p->rows; r++) {
            const float *xp = x + n * p->x_image + r * p->x_row, *dp = d + n * p->d_image + r * p->d_row;
            for (int64_t q = p->cols; q > 0; q--, xp += x_col, dp += d_col) {
                vec dv[3];
#pragma GCC unroll 3
                for (int v = 0; v < V; v++)
                    dv[v] = vec_load(dp + v * LANES);
#pragma GCC unroll 16
                for (int e = 0; e < E; e++)
#pragma GCC unroll 3
                    for (int v = 0; v < V; v++)
                        acc[e * V + v] += dv[v] * vec_set(xp[e]);
            }
        }
#pragma GCC unroll 32
    for (int i = 0; i < E * V; i++)
        vec_store(sum + i * LANES, vec_load(sum + i * LANES) + acc[i]);
}

/* X(V, E) */
#if REGISTERS == 32
#define OUTERS(X)                                                                                                 \
    X(1, 1) X(1, 2) X(1, 3) X(1, 4) X(1, 5) X(1, 6) X(1, 7) X(1, 8) X(1, 9) X(1, 10) X(1, 11) X(1, 12) X(1, 13)   \
    X(1, 14) X(1, 15) X(1, 16) X(2, 1) X(2, 2) X(2, 3) X(2, 4) X(2, 5) X(2, 6) X(2, 7) X(2, 8) X(2, 9) X(2, 10)   \
    X(2, 11) X(2, 12) X(3, 1) X(3, 2) X(3, 3) X(3, 4) X(3, 5) X(3, 6) X(3, 7) X(3, 8)
#define OUTER_VECTORS 3
static const int outer_most[] = {0, 16, 12, 8};
#else
#define OUTERS(X)                                                                                                 \
    X(1, 1) X(1, 2) X(1, 3) X(1, 4) X(1, 5) X(1, 6) X(1, 7) X(1, 8) X(1, 9) X(1, 10) X(1, 11) X(1, 12)            \
    X(2, 1) X(2, 2) X(2, 3) X(2, 4) X(2, 5) X(2, 6)
#define OUTER_VECTORS 2
static const int outer_most[] = {0, 12, 6};
#endif
#define OUTER_DEFINE(V, E)                                                                                        \
    static void outer_##V##_##E(float *sum, const float *x, const float *d, const pixels *p)                      \
    {                                                                                                             \
        outer_body(V, E, sum, x, d, p);                                                                           \
    }
OUTERS(OUTER_DEFINE)
#define OUTER_ROW(V, E) [V][E] = outer_##V##_##E,
static outer_fn *const outers[OUTER_VECTORS + 1][17] = {OUTERS(OUTER_ROW)};

/* ---- the plan ---- */

typedef struct job {
    spatial s;
    int64_t group, c, m;                  /* of a group: channels of data, of gradients */
    int64_t taps;                         /* 1 when unfolded */
    int64_t width;                        /* numbers of x that a pixel has: c, or taps * c when unfolded */
    bool unfold;
    int64_t x_pitch, d_pitch;             /* floats of one pixel: width and m, rounded up to vectors */
    int64_t vectors, blocks;              /* of output channels */
    int64_t shares, parts;                /* of images, of channels */
    int64_t images, rows;                 /* worked on at a time: images with all rows, or rows of one image */
    int64_t x_rows, x_cols, x_image;      /* padded data of a block */
    int64_t sum_size;                     /* floats of one share and group */
    int64_t pack_x, pack_d, pack_columns; /* floats a thread needs */
    float *sums, *packs;
    const float *x, *dy;
    float *dw;
} job;

static int64_t rows_below(const job *j, int64_t rows) /* rows of padded data that `rows` rows of windows cover */
{
    return (rows - 1) * j->s.stride[1] + (j->s.kernel[1] - 1) * j->s.dilation[1] + 1;
}

static bool plan(job *j, const kernel_args *a)
{
    const conv_attrs *at = a->attr;
    *j = (job){.s = conv_spatial(at, &a->in[0].sh, &a->in[1].sh), .group = at->group};
    const spatial *s = &j->s;
    j->c = s->channels / s->group;
    j->m = s->outputs / s->group;
    if (a->in[0].sh.rank > 4 || j->c * j->m <= GRID_FEW_PAIRS)
        return false;
    int64_t taps = s->kernel[1] * s->kernel[2];
    j->unfold = taps > 1 && j->c <= 4 && taps * j->c <= UNFOLD_MOST;
    j->taps = j->unfold ? 1 : taps;
    j->width = j->unfold ? taps * j->c : j->c;
    j->vectors = (j->m + LANES - 1) / LANES;
    j->blocks = (j->vectors + OUTER_VECTORS - 1) / OUTER_VECTORS;
    j->d_pitch = j->vectors * LANES;
    j->sum_size = j->d_pitch * j->taps * j->width;
    int64_t by_bytes = SHARES_BYTES / (int64_t)sizeof(float) / max_of(1, j->sum_size * j->group);
    j->shares = max_of(1, min_of(min_of(s->n, SHARES_MOST), by_bytes));
    j->parts = j->unfold || j->shares * j->group >= FEWEST_TASKS
                   ? 1
                   : max_of(1, min_of(FEWEST_TASKS / (j->shares * j->group), j->c / PART_CHANNELS));
    j->x_pitch = round_up((j->width + j->parts - 1) / j->parts, LANES);
    j->x_cols = j->unfold ? s->out[2] : max_of((s->out[2] - 1) * s->stride[2] + (s->kernel[2] - 1) * s->dilation[2] + 1,
                                               s->pad[2] + s->in[2]);
    int64_t x_row = j->x_pitch * j->x_cols, d_row = j->d_pitch * s->out[2], floats = BLOCK_BYTES / (int64_t)sizeof(float);
    j->x_rows = j->unfold ? s->out[1] : max_of(rows_below(j, s->out[1]), s->pad[1] + s->in[1]);
    int64_t each = x_row * j->x_rows + d_row * s->out[1];
    j->images = max_of(1, min_of(s->n / j->shares, floats / each));
    j->rows = s->out[1];
    while (j->images == 1 && j->rows > 1 && each > floats) {
        j->rows = (j->rows + 1) / 2;
        j->x_rows = j->unfold ? j->rows : rows_below(j, j->rows);
        each = x_row * j->x_rows + d_row * j->rows;
    }
    j->x_image = x_row * j->x_rows;
    j->pack_x = round_up(j->images * j->x_image, 16);
    j->pack_d = round_up(j->images * j->rows * d_row, 16);
    j->pack_columns = j->unfold ? round_up(j->width * j->rows * s->out[2], 16) : 0;
    return j->pack_x < INT_MAX && j->pack_d < INT_MAX;
}

static size_t carve_job(job *j, void *work, int threads)
{
    carver c = {.base = work};
    j->sums = carve(&c, j->shares * j->group * j->sum_size, sizeof(float));
    j->packs = carve(&c, (j->pack_x + j->pack_d + j->pack_columns) * threads, sizeof(float));
    return c.used;
}

/* ---- transposing ---- */

/* A run of pixels in pixel-major form, rows of `cols` pixels that lie `row_pitch` floats apart. */
typedef struct layout {
    int64_t cols, pitch, row_pitch;
} layout;

/* to[pixel][i] = from[i * plane + pixel] for `count` pixels and `channels` channels, zeros up to whole vectors. */
static void transpose(float *to, const layout *l, const float *from, int64_t plane, int64_t count, int64_t channels)
{
    for (int64_t c = 0; c < channels; c += LANES)
        for (int64_t begin = 0; begin < count; begin += LANES) {
            int64_t p = count < LANES ? begin : min_of(begin, count - LANES), col = p % l->cols;
            float *out = to + p / l->cols * l->row_pitch + col * l->pitch + c;
            vec r[LANES];
            if (count < LANES) {
                for (int i = 0; i < LANES; i++) {
                    r[i] = vec_set(0);
                    if (c + i < channels)
                        memcpy(&r[i], from + (c + i) * plane, (size_t)count * sizeof(float));
                }
            } else {
#pragma GCC unroll 16
                for (int i = 0; i < LANES; i++)
                    r[i] = c + i < channels ? vec_load(from + (c + i) * plane + p) : vec_set(0);
            }
            vec_transpose(r);
            int64_t valid = min_of(LANES, count);
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++) {
                if (i >= valid)
                    break;
                vec_store(out, r[i]);
                out += l->pitch;
                if (++col == l->cols) {
                    col = 0;
                    out += l->row_pitch - l->cols * l->pitch;
                }
            }
        }
}

/* Rows [row, row + rows) of windows of one image, channels [from, from + channels): data with their padding. The padding
 * itself is zero from the start. */
static void pack_data(const job *j, float *to, int64_t image, int64_t g, int64_t from, int64_t channels, int64_t row)
{
    const spatial *s = &j->s;
    int64_t plane = s->in[1] * s->in[2], top = row * s->stride[1] - s->pad[1];
    int64_t begin = max_of(0, top), end = min_of(s->in[1], top + j->x_rows);
    layout l = {s->in[2], j->x_pitch, j->x_pitch * j->x_cols};
    const float *x = j->x + (image * s->channels + g * j->c + from) * plane;
    if (begin < end)
        transpose(to + ((begin - top) * j->x_cols + s->pad[2]) * j->x_pitch, &l, x + begin * s->in[2], plane,
                  (end - begin) * s->in[2], channels);
}

/* The same unfolded: for every window its taps of all channels, [window][c][tap]. `columns` is scratch. */
static void unfold_data(const job *j, float *to, float *columns, int64_t image, int64_t g, int64_t row, int64_t rows)
{
    const spatial *s = &j->s;
    int64_t plane = s->in[1] * s->in[2], count = rows * s->out[2];
    float *next = columns;
    for (int64_t c = 0; c < j->c; c++)
        for (int64_t kh = 0; kh < s->kernel[1]; kh++)
            for (int64_t kw = 0; kw < s->kernel[2]; kw++)
                for (int64_t r = row; r < row + rows; r++, next += s->out[2]) {
                    int64_t ih = r * s->stride[1] + kh * s->dilation[1] - s->pad[1];
                    const float *x = j->x + (image * s->channels + g * j->c + c) * plane + ih * s->in[2];
                    int64_t start = kw * s->dilation[2] - s->pad[2];
                    range in = range_inside(start, s->stride[2], s->out[2], s->in[2]);
                    if (ih < 0 || ih >= s->in[1])
                        in.begin = in.end = 0;
                    memset(next, 0, (size_t)s->out[2] * sizeof *next);
                    for (int64_t q = in.begin; q < in.end; q++)
                        next[q] = x[start + q * s->stride[2]];
                }
    layout l = {s->out[2], j->x_pitch, j->x_pitch * s->out[2]};
    transpose(to, &l, columns, count, count, j->width);
}

/* ---- tasks ---- */

/* Adds a block of images (or rows of one) to the sums, all taps and the channels of one part. */
static void add_block(const job *j, float *sums, const float *x, const float *d, int64_t images, int64_t rows,
                      int64_t first, int64_t channels)
{
    const spatial *s = &j->s;
    int64_t stride[2] = {j->unfold ? 1 : s->stride[1], j->unfold ? 1 : s->stride[2]};
    pixels p = {.images = images, .rows = rows, .cols = s->out[2],
                .x_image = j->x_image, .x_row = stride[0] * j->x_cols * j->x_pitch, .x_col = stride[1] * j->x_pitch,
                .d_image = j->rows * s->out[2] * j->d_pitch, .d_row = s->out[2] * j->d_pitch, .d_col = j->d_pitch};
    for (int64_t b = 0; b < j->blocks; b++) {
        int64_t v0 = b * j->vectors / j->blocks, V = (b + 1) * j->vectors / j->blocks - v0;
        float *block = sums + v0 * LANES * j->taps * j->width;
        int64_t tiles = (channels + outer_most[V] - 1) / outer_most[V];
        for (int64_t t = 0; t < j->taps; t++) {
            int64_t at = t / s->kernel[2] * s->dilation[1] * j->x_cols + t % s->kernel[2] * s->dilation[2];
            for (int64_t i = 0; i < tiles; i++) {
                int64_t c = i * channels / tiles, E = (i + 1) * channels / tiles - c;
                outers[V][E](block + (t * j->width + first + c) * V * LANES, x + (j->unfold ? 0 : at * j->x_pitch) + c,
                             d + v0 * LANES, &p);
            }
        }
    }
}

/* One share of the images, one group, one part of the channels. */
static void run_task(const job *j, int64_t share, int64_t g, int64_t part, float *packs)
{
    const spatial *s = &j->s;
    int64_t first = part * j->width / j->parts, channels = (part + 1) * j->width / j->parts - first;
    int64_t begin = share * s->n / j->shares, end = (share + 1) * s->n / j->shares, plane = s->out[1] * s->out[2];
    float *x = packs, *d = packs + j->pack_x, *columns = d + j->pack_d;
    float *sums = j->sums + (share * j->group + g) * j->sum_size;
    layout l = {s->out[2], j->d_pitch, j->d_pitch * s->out[2]};
    for (int64_t n = begin; n < end; n += j->images)
        for (int64_t row = 0; row < s->out[1]; row += j->rows) {
            int64_t images = min_of(j->images, end - n), rows = min_of(j->rows, s->out[1] - row);
            if (!j->unfold && (n == begin || j->rows < s->out[1])) /* the padding; in strips it lies elsewhere each time */
                memset(x, 0, (size_t)j->pack_x * sizeof *x);
            for (int64_t i = 0; i < images; i++) {
                if (j->unfold)
                    unfold_data(j, x + i * j->x_image, columns, n + i, g, row, rows);
                else
                    pack_data(j, x + i * j->x_image, n + i, g, first, channels, row);
                transpose(d + i * j->rows * s->out[2] * j->d_pitch, &l,
                          j->dy + ((n + i) * s->outputs + g * j->m) * plane + row * s->out[2], plane, rows * s->out[2],
                          j->m);
            }
            add_block(j, sums, x, d, images, rows, first, channels);
        }
}

/* dw of one group, block of output channels and number of x, from the sums of all shares. */
static void add_shares(const job *j, int64_t g, int64_t b, int64_t c)
{
    int64_t v0 = b * j->vectors / j->blocks, V = (b + 1) * j->vectors / j->blocks - v0;
    for (int64_t t = 0; t < j->taps; t++) {
        const float *from = j->sums + g * j->sum_size + v0 * LANES * j->taps * j->width + (t * j->width + c) * V * LANES;
        for (int64_t v = 0; v < V; v++) {
            vec sum = vec_load(from + v * LANES);
            for (int64_t share = 1; share < j->shares; share++)
                sum += vec_load(from + share * j->group * j->sum_size + v * LANES);
            int64_t k = (v0 + v) * LANES;
            for (int64_t i = 0; i < LANES && k + i < j->m; i++)
                j->dw[((g * j->m + k + i) * j->width + c) * j->taps + t] = sum[i];
        }
    }
}

/* x [N, C, in], dy [N, M, out] -> dw [M, C/g, k] */
static void conv_weight(const kernel_args *a)
{
    job made, *j = &made;
    plan(j, a);
    carve_job(j, a->work, a->threads);
    j->x = a->in[0].data;
    j->dy = a->in[1].data;
    j->dw = a->out[0].data;
    int64_t tasks = j->shares * j->group * j->parts, each = j->pack_x + j->pack_d + j->pack_columns;
#pragma omp parallel num_threads(a->threads)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < j->shares * j->group; i++)
            memset(j->sums + i * j->sum_size, 0, (size_t)j->sum_size * sizeof *j->sums);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < tasks; i++)
            run_task(j, i / j->parts / j->group, i / j->parts % j->group, i % j->parts,
                     j->packs + omp_get_thread_num() * each);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < j->group * j->blocks * j->width; i++)
            add_shares(j, i / j->width / j->blocks, i / j->width % j->blocks, i % j->width);
    }
}
static bool conv_weight_takes(const kernel_args *a)
{
    job j;
    return plan(&j, a);
}
static size_t conv_weight_workspace(const kernel_args *a)
{
    job j;
    plan(&j, a);
    return carve_job(&j, NULL, a->threads);
}

KERNEL_TABLE(conv_weight) = {
    {OP_CONV_GRAD_WEIGHT, REAL_DTYPE, REAL_ISA, "conv_grad_weight_direct", conv_weight, conv_weight_workspace,
     conv_weight_takes, "direct"},
    KERNEL_END};
