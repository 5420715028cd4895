/* conv_blocked_weight_simd.c - ConvGradWeight over one and two spatial axes with blocked gradients, data blocked or (few
 * channels) plain.
 *
 *     dw[m][c][t] = sum over images, windows o of dy[m][o] * x[c][o * stride + t * dilation - pad]
 *
 * A tile of channels of the data times up to three vectors of channels of the gradients stays in registers while the
 * windows of a unit (some rows, or some images) go by; the unit's data stay in the first-level cache. Units are shared
 * out over a number of partial sums that depends on the sizes alone, added up in a fixed order at the end; where the
 * weight is large, its blocks are shared out instead. */
#include "kernels/cpu/conv_norm.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/spatial.h"

#include <limits.h>

enum {
    UNIT_PIXELS = 2048 / LANES,
    TASKS_WANTED = 16,
    TASK_BYTES = 256 * 1024,         /* of sums: half a second-level cache */
    SHARES_BYTES = 32 * 1024 * 1024, /* of all sums */
    MERGED_MOST = 8,
    VECTORS_MOST = 3,
    TILE_SMALL = LANES >= 8 ? LANES / 2 : LANES /* channels of a tile with several vectors, entries of plain data */
};

/* Windows of a unit for which a tap has data. Floats from one image, row, window to the next. */
typedef struct region {
    int64_t images, rows, cols;
    int64_t x_image, x_row, x_step, d_image, d_row;
    int64_t d_plane;   /* from one vector of channels of dy to the next */
    int64_t x_ahead, d_ahead; /* how far ahead of use data are asked for; 0: they are near already */
    const int64_t *at; /* plain data: where the entries' data begin */
} region;
typedef void outer_fn(float *sums, const float *x, const float *dy, const region *r);

/* sums[e][v] += sum over windows of x[e] * dy[v]; gather: entry e of x lies at[e] floats from the window, else e. */
ALWAYS_INLINE void outer_body(const int V, const int E, const bool gather, float *sums, const float *x, const float *dy,
                              const region *r)
{
    vec acc[REGISTERS];
    const float *px[LANES];
    int64_t plane = r->d_plane, step = r->x_step, x_ahead = r->x_ahead, d_ahead = r->d_ahead;
#pragma GCC unroll 16
    for (int e = 0; e < E; e++) {
        px[e] = gather ? x + r->at[e] : x + e;
#pragma GCC unroll 3
        for (int v = 0; v < V; v++)
            acc[e * V + v] = vec_load(sums + (e * V + v) * LANES);
    }
    for (int64_t i = 0; i < r->images; i++)
        for (int64_t row = 0; row < r->rows; row++) {
            int64_t at = i * r->x_image + row * r->x_row;
            const float *d = dy + i * r->d_image + row * r->d_row;
            for (int64_t col = 0; col < r->cols; col++, at += step, d += LANES) {
                vec g[VECTORS_MOST];
#pragma GCC unroll 3
                for (int v = 0; v < V; v++) {
                    g[v] = vec_load(d + v * plane);
                    __builtin_prefetch(d + v * plane + d_ahead);
                }
                if (!gather)
                    __builtin_prefetch(px[0] + at + x_ahead);
#pragma GCC unroll 16
                for (int e = 0; e < E; e++)
#pragma GCC unroll 3
                    for (int v = 0; v < V; v++)
                        acc[e * V + v] += g[v] * vec_set(px[e][at]);
            }
        }
#pragma GCC unroll 16
    for (int e = 0; e < E; e++)
#pragma GCC unroll 3
        for (int v = 0; v < V; v++)
            vec_store(sums + (e * V + v) * LANES, acc[e * V + v]);
}

#define OUTER_DEFINE(name, V, E, gather)                                                                          \
    static void name(float *sums, const float *x, const float *dy, const region *r)                               \
    {                                                                                                             \
        outer_body(V, E, gather, sums, x, dy, r);                                                                 \
    }
OUTER_DEFINE(outer_1, 1, LANES, false)
OUTER_DEFINE(outer_2, 2, TILE_SMALL, false)
OUTER_DEFINE(outer_3, 3, TILE_SMALL, false)
OUTER_DEFINE(outer_plain_1, 1, TILE_SMALL, true)
OUTER_DEFINE(outer_plain_2, 2, TILE_SMALL, true)
OUTER_DEFINE(outer_plain_3, 3, TILE_SMALL, true)
static outer_fn *const outers[2][VECTORS_MOST + 1] = {{NULL, outer_1, outer_2, outer_3},
                                                      {NULL, outer_plain_1, outer_plain_2, outer_plain_3}};

/* ---- the plan ---- */

typedef struct job {
    spatial s;
    bool plain;                   /* the data are */
    int64_t groups, merged;       /* narrow groups are merged until they fill whole blocks */
    int64_t c, m;                 /* channels of a (merged) group: of data, of gradients */
    int64_t taps;                 /* that a block has: the kernel's, or 1 for plain data */
    int64_t blocks, lanes;        /* of the data: blocks of channels, or of entries (channel, tap); numbers in one */
    int64_t vectors, panels;      /* of gradients: vectors of channels; at most VECTORS_MOST of them together */
    int64_t task_blocks, task_panels, tiles; /* what a task sums up, and how many such there are of a group */
    int64_t unit_images, unit_rows, unit_cols, row_units, col_units, units;
    int64_t shares;
    int64_t sums_size;            /* floats of one share */
    conv_norm *norm;              /* [groups * blocks]; NULL: none */
    int64_t pack_rows, pack_cols, pack_size; /* plain data: a padded copy of a unit; with a norm: what a unit sees */
    float *sums, *pack;
    int64_t *at;                  /* plain data: [blocks * lanes] */
    const float *x, *dy;
    float *dw;
} job;

static bool fits(int64_t channels)
{
    return channels % LANES == 0;
}

static void plan_units(job *j)
{
    const spatial *s = &j->s;
    int64_t pixels = s->out[1] * s->out[2];
    j->unit_images = max_of(1, min_of(s->n, UNIT_PIXELS / max_of(1, pixels)));
    if (j->plain)
        j->unit_images = 1;
    j->unit_cols = s->out[2] > 2 * UNIT_PIXELS ? UNIT_PIXELS : s->out[2];
    j->unit_rows = max_of(1, min_of(s->out[1], UNIT_PIXELS / max_of(1, j->unit_cols)));
    j->row_units = (s->out[1] + j->unit_rows - 1) / j->unit_rows;
    j->col_units = (s->out[2] + j->unit_cols - 1) / max_of(1, j->unit_cols);
    j->units = (s->n + j->unit_images - 1) / j->unit_images * j->row_units * j->col_units;
}

static bool plan(job *j, const kernel_args *a, bool plain)
{
    const conv_attrs *at = a->attr;
    const shape *x = &a->in[0].sh;
    *j = (job){.s = conv_spatial(at, x, &a->in[1].sh), .plain = plain, .merged = 1};
    spatial *s = &j->s;
    int64_t c = s->channels / s->group, m = s->outputs / s->group, taps = s->kernel[1] * s->kernel[2];
    if (x->rank < 3 || x->rank > 4 || c < 1 || m < 1 || s->out[1] < 1 || s->out[2] < 1 ||
        (s->group > 1 && c == 1 && m == 1)) /* see depthwise_blocked_simd.c */
        return false;
    while (j->merged < s->group && !(fits(c * j->merged) && fits(m * j->merged)))
        j->merged++;
    while (s->group % j->merged)
        j->merged++;
    j->groups = s->group / j->merged;
    j->c = c * j->merged;
    j->m = m * j->merged;
    j->taps = plain ? 1 : taps;
    j->lanes = plain ? TILE_SMALL : LANES;
    j->blocks = ((plain ? c * taps : j->c) + j->lanes - 1) / j->lanes;
    j->vectors = (j->m + LANES - 1) / LANES;
    j->panels = (j->vectors + VECTORS_MOST - 1) / VECTORS_MOST;
    if (taps == 1 && s->stride[1] == 1 && s->stride[2] == 1 && s->pad[1] == 0 && s->pad[2] == 0 && s->in[1] == s->out[1] &&
        s->in[2] == s->out[2]) { /* one long row */
        s->in[2] = s->out[2] *= s->out[1];
        s->in[1] = s->out[1] = 1;
    }
    plan_units(j);
    int64_t block_bytes = j->taps * j->lanes * j->vectors * LANES * (int64_t)sizeof(float);
    j->task_blocks = max_of(1, min_of(j->blocks, TASK_BYTES / block_bytes));
    j->task_panels = max_of(1, min_of(j->panels, j->panels * 2 * TASK_BYTES / block_bytes));
    if (plain) {
        j->task_blocks = j->blocks;
        j->task_panels = j->panels;
    }
    j->tiles = (j->blocks + j->task_blocks - 1) / j->task_blocks * ((j->panels + j->task_panels - 1) / j->task_panels);
    j->sums_size = j->groups * j->blocks * j->taps * j->lanes * j->vectors * LANES;
    j->shares = (TASKS_WANTED + j->tiles * j->groups - 1) / (j->tiles * j->groups);
    j->shares = min_of(j->shares, SHARES_BYTES / (int64_t)sizeof(float) / j->sums_size);
    j->shares = max_of(1, min_of(j->shares, j->units));
    j->pack_rows = (j->unit_rows - 1) * s->stride[1] + (s->kernel[1] - 1) * s->dilation[1] + 1;
    j->pack_cols = (j->unit_cols - 1) * s->stride[2] + (s->kernel[2] - 1) * s->dilation[2] + 1;
    if (plain)
        j->pack_size = round_up(c * j->pack_rows * j->pack_cols, 16);
    else if (has_norm(a, NORM_OF_WEIGHT))
        j->pack_size = j->task_blocks * j->unit_images * j->pack_rows * j->pack_cols * LANES;
    return j->merged <= MERGED_MOST && j->sums_size < INT_MAX && j->pack_size < INT_MAX;
}

static size_t carve_job(job *j, const kernel_args *a, void *work)
{
    carver c = {.base = work};
    int threads = a->threads;
    j->norm = has_norm(a, NORM_OF_WEIGHT) ? carve(&c, j->groups * j->blocks, sizeof *j->norm) : NULL;
    j->sums = carve(&c, j->sums_size * j->shares, sizeof *j->sums);
    j->pack = carve(&c, j->pack_size * threads, sizeof *j->pack);
    j->at = carve(&c, j->plain ? j->blocks * j->lanes : 0, sizeof *j->at);
    return c.used;
}

static int64_t panel_begin(const job *j, int64_t panel)
{
    return panel * j->vectors / j->panels;
}

/* Sums of a block, tap and panel: [lanes][vectors of the panel * LANES]. */
static float *sums_at(const job *j, int64_t share, int64_t group, int64_t block, int64_t tap, int64_t panel)
{
    int64_t tile = ((group * j->blocks + block) * j->taps + tap) * j->vectors + panel_begin(j, panel);
    return j->sums + share * j->sums_size + tile * j->lanes * LANES;
}

/* ---- sums ---- */

typedef struct unit {
    int64_t image, images, row, rows, col, cols;
} unit;

static unit unit_of(const job *j, int64_t index)
{
    const spatial *s = &j->s;
    unit u = {.col = index % j->col_units * j->unit_cols, .row = index / j->col_units % j->row_units * j->unit_rows,
              .image = index / j->col_units / j->row_units * j->unit_images};
    u.images = min_of(j->unit_images, s->n - u.image);
    u.rows = min_of(j->unit_rows, s->out[1] - u.row);
    u.cols = min_of(j->unit_cols, s->out[2] - u.col);
    return u;
}

/* The windows of [begin, begin + count) that tap k of an axis has data for. */
static range tap_windows(const job *j, int axis, int64_t k, int64_t begin, int64_t count)
{
    range r = windows_of_tap(&j->s, axis, k);
    r.begin = max_of(r.begin, begin);
    r.end = max_of(r.begin, min_of(r.end, begin + count));
    return r;
}

typedef struct task {
    int64_t share, group, block, block_end, panel, panel_end;
} task;

/* Blocked data that unit u sees, normed, to pack [task_blocks][unit_images][pack_rows][pack_cols][LANES]; asks for those of
 * the next unit. Where there are no data nothing is written: no window of a tap reads there. */
static void norm_unit(const job *j, const task *t, const unit *u, const unit *next, float *pack)
{
    const spatial *s = &j->s;
    int64_t top = u->row * s->stride[1] - s->pad[1], left = u->col * s->stride[2] - s->pad[2];
    int64_t begin = max_of(0, -left), end = min_of(j->pack_cols, s->in[2] - left), plane = s->in[1] * s->in[2] * LANES;
    int64_t ahead = (next->image - u->image) * j->groups * j->blocks * plane +
                    ((next->row - u->row) * s->stride[1] * s->in[2] + (next->col - u->col) * s->stride[2]) * LANES;
    for (int64_t b = t->block; b < t->block_end; b++) {
        const conv_norm norm = j->norm[t->group * j->blocks + b];
        float *to = pack + (b - t->block) * j->unit_images * j->pack_rows * j->pack_cols * LANES;
        for (int64_t i = 0; i < u->images; i++) {
            const float *x = j->x + (((u->image + i) * j->groups + t->group) * j->blocks + b) * plane;
            for (int64_t row = top; row < top + j->pack_rows; row++, to += j->pack_cols * LANES) {
                if (row < 0 || row >= s->in[1])
                    continue;
                const float *from = x + (row * s->in[2] + left) * LANES;
                for (int64_t q = begin; q < end; q++) {
                    __builtin_prefetch(from + q * LANES + ahead);
                    vec_store(to + q * LANES, normed(&norm, vec_load(from + q * LANES)));
                }
            }
        }
    }
}

/* Blocked data: one tap of one block, all channels, for unit `index`; pack: of norm_unit. */
static void sum_tap(const job *j, const task *t, int64_t index, int64_t block, int64_t tap, int64_t panel, const float *pack)
{
    const spatial *s = &j->s;
    const unit here = unit_of(j, index), *u = &here;
    int64_t kh = tap / s->kernel[2], kw = tap % s->kernel[2], first = panel_begin(j, panel);
    int V = (int)(panel_begin(j, panel + 1) - first);
    range rows = tap_windows(j, 1, kh, u->row, u->rows), cols = tap_windows(j, 2, kw, u->col, u->cols);
    int64_t in = s->in[1] * s->in[2] * LANES, out = s->out[1] * s->out[2] * LANES;
    region r = {.images = u->images, .rows = rows.end - rows.begin, .cols = cols.end - cols.begin,
                .x_image = j->groups * j->blocks * in, .x_row = s->stride[1] * s->in[2] * LANES, .x_step = s->stride[2] * LANES,
                .d_image = j->groups * j->vectors * out, .d_row = s->out[2] * LANES, .d_plane = out};
    if (r.rows == 0 || r.cols == 0)
        return;
    const unit next = unit_of(j, index + 1); /* may be of another share or none: nothing is read there */
    if (tap == 0 && block == t->block)
        r.d_ahead = (next.image - u->image) * r.d_image + (next.row - u->row) * r.d_row + (next.col - u->col) * LANES;
    if (tap == 0 && panel == t->panel)
        r.x_ahead = (next.image - u->image) * r.x_image + (next.row - u->row) * r.x_row + (next.col - u->col) * r.x_step;
    const float *x = j->x + u->image * r.x_image + (t->group * j->blocks + block) * in +
                     ((rows.begin * s->stride[1] + kh * s->dilation[1] - s->pad[1]) * s->in[2] + cols.begin * s->stride[2] +
                      kw * s->dilation[2] - s->pad[2]) * LANES;
    if (j->norm) {
        int64_t row = (rows.begin - u->row) * s->stride[1] + kh * s->dilation[1];
        int64_t col = (cols.begin - u->col) * s->stride[2] + kw * s->dilation[2];
        r.x_image = j->pack_rows * j->pack_cols * LANES;
        r.x_row = s->stride[1] * j->pack_cols * LANES;
        r.x_ahead = 0;
        x = pack + (block - t->block) * j->unit_images * r.x_image + (row * j->pack_cols + col) * LANES;
    }
    const float *dy = j->dy + u->image * r.d_image + (t->group * j->vectors + first) * out +
                      (rows.begin * s->out[2] + cols.begin) * LANES;
    float *sums = sums_at(j, t->share, t->group, block, tap, panel);
    int64_t channels = min_of(LANES, j->c - block * LANES), each = V == 1 ? LANES : TILE_SMALL;
    for (int64_t e = 0; e < channels; e += each)
        outers[0][V](sums + e * V * LANES, x + e, dy, &r);
}

/* Plain data: copies what the unit's windows see, with padding. */
static void pack_unit(const job *j, const unit *u, float *pack)
{
    const spatial *s = &j->s;
    int64_t left = u->col * s->stride[2] - s->pad[2];
    range in = range_inside(left, 1, j->pack_cols, s->in[2]);
    for (int64_t c = 0; c < j->c; c++)
        for (int64_t i = 0; i < j->pack_rows; i++, pack += j->pack_cols) {
            int64_t row = u->row * s->stride[1] - s->pad[1] + i;
            range here = row < 0 || row >= s->in[1] ? (range){0, 0} : in;
            memset(pack, 0, (size_t)here.begin * sizeof *pack);
            if (here.end > here.begin)
                copy_floats(pack + here.begin, j->x + ((u->image * j->c + c) * s->in[1] + row) * s->in[2] + left + here.begin,
                            here.end - here.begin);
            memset(pack + here.end, 0, (size_t)(j->pack_cols - here.end) * sizeof *pack);
        }
}

static void sum_plain(const job *j, const task *t, const unit *u, const float *pack, int64_t index, int64_t block, int64_t panel)
{
    const spatial *s = &j->s;
    int64_t first = panel_begin(j, panel), out = s->out[1] * s->out[2] * LANES;
    region r = {.images = 1, .rows = u->rows, .cols = u->cols, .x_row = s->stride[1] * j->pack_cols, .x_step = s->stride[2],
                .d_row = s->out[2] * LANES, .d_plane = out, .at = j->at + block * j->lanes};
    const float *dy = j->dy + (u->image * j->vectors + first) * out + (u->row * s->out[2] + u->col) * LANES;
    const unit next = unit_of(j, index + 1); /* as above */
    if (block == t->block)
        r.d_ahead = ((next.image - u->image) * j->vectors * s->out[1] + next.row - u->row) * r.d_row + (next.col - u->col) * LANES;
    outers[1][panel_begin(j, panel + 1) - first](sums_at(j, t->share, 0, block, 0, panel), pack, dy, &r);
}

static void run_task(const job *j, int64_t index, int thread)
{
    int64_t columns = (j->blocks + j->task_blocks - 1) / j->task_blocks, tile = index % j->tiles;
    task t = {.group = index / j->tiles % j->groups, .share = index / j->tiles / j->groups,
              .block = tile % columns * j->task_blocks, .panel = tile / columns * j->task_panels};
    t.block_end = min_of(j->blocks, t.block + j->task_blocks);
    t.panel_end = min_of(j->panels, t.panel + j->task_panels);
    float *pack = j->pack + thread * j->pack_size;
    for (int64_t b = t.block; b < t.block_end; b++)
        for (int64_t k = 0; k < j->taps; k++) {
            float *begin = sums_at(j, t.share, t.group, b, k, t.panel), *end = sums_at(j, t.share, t.group, b, k, t.panel_end);
            memset(begin, 0, (size_t)(end - begin) * sizeof *begin);
        }
    for (int64_t i = t.share * j->units / j->shares; i < (t.share + 1) * j->units / j->shares; i++) {
        unit u = unit_of(j, i);
        if (j->plain)
            pack_unit(j, &u, pack);
        if (j->norm) {
            unit next = unit_of(j, i + 1); /* as above */
            norm_unit(j, &t, &u, &next, pack);
        }
        for (int64_t p = t.panel; p < t.panel_end; p++)
            for (int64_t b = t.block; b < t.block_end; b++)
                for (int64_t k = 0; k < j->taps; k++) {
                    if (j->plain)
                        sum_plain(j, &t, &u, pack, i, b, p);
                    else
                        sum_tap(j, &t, i, b, k, p, pack);
                }
    }
}

/* ---- the weight ---- */

/* Where the sums of number k (channel and tap) of the weight's rows begin for vector v: a vector of rows. */
static const float *sums_of(const job *j, int64_t group, int64_t v, int64_t panel, int64_t k)
{
    int64_t c = k / j->taps, first = panel_begin(j, panel), pitch = (panel_begin(j, panel + 1) - first) * LANES;
    return sums_at(j, 0, group, c / j->lanes, k % j->taps, panel) + c % j->lanes * pitch + (v - first) * LANES;
}

static vec add_shares(const job *j, const float *sums)
{
    vec sum = vec_load(sums);
    for (int64_t i = 1; i < j->shares; i++)
        sum += vec_load(sums + i * j->sums_size);
    return sum;
}

/* Rows of the weight for vector v of channels of the gradients. */
static void write_vector(const job *j, int64_t group, int64_t v)
{
    int64_t panel = 0, length = (j->plain ? j->blocks * j->lanes : j->c * j->taps), rows = min_of(LANES, j->m - v * LANES);
    int64_t row = j->s.channels / j->s.group * j->s.kernel[1] * j->s.kernel[2];
    length = min_of(length, row * j->merged);
    while (panel_begin(j, panel + 1) <= v)
        panel++;
    float *to = j->dw + (group * j->m + v * LANES) * row;
    if (j->merged > 1) { /* what is of the row's own group */
        int64_t m = j->m / j->merged;
        for (int64_t k = 0; k < length; k++) {
            float sums[LANES];
            vec_store(sums, add_shares(j, sums_of(j, group, v, panel, k)));
            for (int64_t i = 0; i < rows; i++)
                if ((v * LANES + i) / m == k / row)
                    to[i * row + k % row] = sums[i];
        }
        return;
    }
    for (int64_t k = 0; k < length; k += LANES) {
        int64_t count = min_of(LANES, length - k);
        vec r[LANES];
#pragma GCC unroll 16
        for (int64_t i = 0; i < LANES; i++)
            r[i] = i < count ? add_shares(j, sums_of(j, group, v, panel, k + i)) : vec_set(0);
        vec_transpose(r);
        for (int64_t i = 0; i < rows; i++) {
            if (count == LANES)
                vec_store(to + i * row + k, r[i]);
            else
                store_channels(to + i * row + k, 0, count, r[i]);
        }
    }
}

static void list_entries(const job *j)
{
    const spatial *s = &j->s;
    int64_t taps = s->kernel[1] * s->kernel[2];
    for (int64_t e = 0; e < j->blocks * j->lanes; e++) {
        int64_t k = e < j->c * taps ? e : 0, c = k / taps, t = k % taps; /* those beyond the last are not used */
        j->at[e] = (c * j->pack_rows + t / s->kernel[2] * s->dilation[1]) * j->pack_cols + t % s->kernel[2] * s->dilation[2];
    }
}

static void run(job *j, const kernel_args *a)
{
    carve_job(j, a, a->work);
    if (j->norm)
        list_norms(a, NORM_OF_WEIGHT, j->norm);
    j->x = a->in[0].data;
    j->dy = a->in[1].data;
    j->dw = a->out[0].data;
    if (j->plain)
        list_entries(j);
#pragma omp parallel num_threads(a->threads) if (a->threads > 1)
    {
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < j->shares * j->groups * j->tiles; i++)
            run_task(j, i, omp_get_thread_num());
#pragma omp for schedule(static)
        for (int64_t i = 0; i < j->groups * j->vectors; i++)
            write_vector(j, i / j->vectors, i % j->vectors);
    }
}

/* ---- rows ---- */

/* x [N, C, in] blocked, dy [N, M, out] blocked -> dw [M, C/g, k] plain */
static void weight(const kernel_args *a)
{
    job j;
    plan(&j, a, false);
    run(&j, a);
}
static bool weight_takes(const kernel_args *a)
{
    job j;
    return plan(&j, a, false);
}
static size_t weight_workspace(const kernel_args *a)
{
    job j;
    plan(&j, a, false);
    return carve_job(&j, a, NULL);
}

/* x [N, C, in] plain, dy [N, M, out] blocked -> dw [M, C, k] plain */
static void weight_plain(const kernel_args *a)
{
    job j;
    plan(&j, a, true);
    run(&j, a);
}
static bool weight_plain_takes(const kernel_args *a)
{
    job j;
    return ((const conv_attrs *)a->attr)->group == 1 && a->in[0].sh.dim[1] <= LANES / 2 && plan(&j, a, true);
}
static size_t weight_plain_workspace(const kernel_args *a)
{
    job j;
    plan(&j, a, true);
    return carve_job(&j, a, NULL);
}

/* Estimated cycles of one core. */
static double cost(const kernel_args *a, bool plain)
{
    job j;
    plan(&j, a, plain);
    double pixels = (double)j.s.n * (double)(j.s.out[1] * j.s.out[2]), cycles = 0, copied = 0;
    for (int64_t p = 0; p < j.panels; p++) {
        int64_t V = panel_begin(&j, p + 1) - panel_begin(&j, p), E = V == 1 && !plain ? LANES : TILE_SMALL;
        double each = (double)max_of(max_of(E * V, E + V), 8) / 2; /* a tile and window: multiply-adds, loads, latency */
        double tiles = plain ? (double)j.blocks : (double)((j.c + E - 1) / E * j.taps);
        double edges = (double)j.units * (double)j.unit_images * (double)j.unit_rows * 5; /* of loops over windows */
        cycles += tiles * (each * pixels * 1.06 + edges + (double)j.units * (double)(E * V) * 1.5);
    }
    if (plain)
        copied = (double)j.units * (double)j.pack_size * 0.3;
    return (cycles + copied) * (double)j.groups + (double)(j.sums_size * (j.shares + 1)) * 0.1;
}
static double weight_cost(const kernel_args *a)
{
    return cost(a, false);
}
static double weight_plain_cost(const kernel_args *a)
{
    return cost(a, true) * 0.9; /* blocked data would have to be made first */
}

KERNEL_TABLE(conv_blocked_weight) = {
    {OP_CONV_GRAD_WEIGHT, REAL_DTYPE, REAL_ISA, "conv_grad_weight_blocked", weight, weight_workspace, weight_takes, "direct",
     .blocked_in = 3, .cost = weight_cost},
    {OP_CONV_GRAD_WEIGHT, REAL_DTYPE, REAL_ISA, "conv_grad_weight_entry", weight_plain, weight_plain_workspace,
     weight_plain_takes, "direct", .blocked_in = 2, .cost = weight_plain_cost},
    {OP_NORM_CONV_GRAD_WEIGHT, REAL_DTYPE, REAL_ISA, "conv_grad_weight_blocked, norm", weight, weight_workspace, weight_takes,
     "direct", .blocked_in = 3, .cost = weight_cost},
    KERNEL_END};
