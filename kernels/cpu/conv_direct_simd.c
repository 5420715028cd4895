/* conv_direct_simd.c - Conv, ConvGradData and ConvTranspose for one and two spatial axes in float, many channels a group.
 *
 * The sums of conv_grid.h, with vectors along the channels of the result: a tile of pixels times up to three vectors of
 * channels stays in registers while the entries go by (tile.h). The weights are rearranged once per call, channels
 * of the result innermost. Channels go through a task in blocks, pixels in chunks whose sums stay in the first-level
 * cache until bias, residual and ReLU are applied on the way out. Every result is one sum in a fixed order: threads
 * change nothing. */
#include "kernels/cpu/conv_grid.h"
#include "kernels/cpu/tile.h"

enum {
    CHUNK_PIXELS = 256,      /* of the result, summed up before they are written out */
    TASK_PIXELS = 196,       /* at least, by taking several small images together */
    PACK_FLOATS = 64 * 1024, /* of copied data in a task, where rows can be split */
    ENTRY_BLOCK = 1024       /* entries whose weights are used for all pixels of a chunk before the next ones */
};

typedef struct job {
    conv_grid g;
    int64_t vectors, blocks; /* of produced channels; blocks of at most TILE_VECTORS of them */
    int64_t chunk_rows, chunk_cols;
    int64_t pack_size, sums_size; /* floats of a thread */
    /* parts of the workspace */
    int32_t *off, *weight_at, *phase;
    float *w; /* [group][vectors * LANES, in blocks][entries] */
    float *pack, *sums;
    /* operands */
    const float *x, *weight, *bias, *residual;
    float *y;
    bool relu;
} job;

static bool plan(job *j, const conv_attrs *at, const shape *x, const shape *y, bool forward)
{
    *j = (job){0};
    conv_grid *g = &j->g;
    if (!grid_make(g, at, x, y, forward, false) || g->produce <= GRID_FEW_CHANNELS ||
        !grid_split(g, TASK_PIXELS, PACK_FLOATS, 0))
        return false;
    int64_t parts = (g->dst[1] + CHUNK_PIXELS - 1) / CHUNK_PIXELS;
    j->chunk_cols = parts > 1 ? (g->dst[1] + parts - 1) / parts : g->dst[1];
    j->chunk_rows = max_of(1, CHUNK_PIXELS / max_of(1, j->chunk_cols));
    j->vectors = (g->produce + LANES - 1) / LANES;
    j->blocks = (j->vectors + TILE_VECTORS - 1) / TILE_VECTORS;
    j->pack_size = round_up(g->packed ? g->task_images * g->image_pitch : 0, 16);
    j->sums_size = round_up(j->chunk_rows * j->chunk_cols * TILE_VECTORS * LANES, 16);
    return true;
}

static size_t carve_job(job *j, void *work, int threads)
{
    const conv_grid *g = &j->g;
    carver c = {.base = work};
    j->off = carve(&c, g->entries, sizeof *j->off);
    j->weight_at = carve(&c, g->entries, sizeof *j->weight_at);
    j->phase = carve(&c, g->phases + 1, sizeof *j->phase);
    j->w = carve(&c, g->group * j->vectors * LANES * g->entries, sizeof *j->w);
    j->pack = carve(&c, j->pack_size * threads, sizeof *j->pack);
    j->sums = carve(&c, j->sums_size * threads, sizeof *j->sums);
    return c.used;
}

/* First vector of block b. The vectors are shared out evenly. */
static int64_t block_begin(const job *j, int64_t b)
{
    return b * j->vectors / j->blocks;
}

/* One block of one group: [entries][vectors of the block * LANES], zeros beyond the last channel. */
static void pack_weights(const job *j, int64_t group, int64_t b)
{
    const conv_grid *g = &j->g;
    int64_t first = block_begin(j, b), lanes = (block_begin(j, b + 1) - first) * LANES;
    float *to = j->w + (group * j->vectors + first) * LANES * g->entries;
    for (int64_t k = 0; k < lanes; k++) {
        int64_t p = first * LANES + k;
        const float *from = j->weight + group * g->weight_group + p * g->weight_produce;
        for (int64_t e = 0; e < g->entries; e++)
            to[e * lanes + k] = p < g->produce ? from[j->weight_at[e]] : 0;
    }
}

/* ---- a chunk of the result ---- */

/* Rows are counted through the images of a task. */
typedef struct chunk {
    int64_t row, rows, col, cols;
    float *sums; /* [rows][cols][V * LANES] */
} chunk;

/* Sums of the pixels of phase p, for a block of V vectors with weights w. */
static void sum_phase(const job *j, const grid_task *t, const chunk *c, int64_t p, int V, const float *w)
{
    const conv_grid *g = &j->g;
    int64_t first, count = grid_phase(g, 1, p % g->step[1], c->col, c->col + c->cols, &first);
    int64_t begin = j->phase[p], end = j->phase[p + 1], pixel = V * LANES, step = g->step[1] * pixel;
    if (count == 0)
        return;
    row_cut cut = cut_row(V, count);
    for (int64_t e = begin; e == begin || e < end; e += ENTRY_BLOCK) {
        tile_sum sum = {.V = V, .step = step, .off = j->off + e, .count = min_of(ENTRY_BLOCK, end - e),
                        .w = w + e * pixel, .add = e > begin};
        tile_runs wide = {.count = 0}, narrow = {.count = 0};
        for (int64_t r = c->row; r < c->row + c->rows; r++) {
            int64_t row = t->row + r % t->rows;
            if ((row + g->shift[0]) % g->step[0] != p / g->step[1])
                continue;
            const float *x = t->x + r / t->rows * g->image_pitch + (grid_at(g, 0, row) - t->origin[0]) * g->width +
                             grid_at(g, 1, first) - t->origin[1];
            float *y = c->sums + ((r - c->row) * c->cols + first - c->col) * pixel;
            for (int64_t i = 0; i < cut.wide; i++, x += cut.q, y += cut.q * step)
                tile_push(&sum, &wide, cut.q, x, y);
            for (int64_t i = 0; i < cut.narrow; i++, x += cut.q - 1, y += (cut.q - 1) * step)
                tile_push(&sum, &narrow, cut.q - 1, x, y);
        }
        tile_flush(&sum, &wide, cut.q);
        tile_flush(&sum, &narrow, cut.q - 1);
    }
}

/* y[c][p] = relu(sums[p][c] + bias[c] + residual[c][p]) for up to LANES channels and `count` pixels; y and the residual
 * begin at element `at`. */
static void write_out(const job *j, const float *sums, int64_t pitch, int64_t count, int64_t channels, int64_t at,
                      const float *bias)
{
    int64_t plane = j->g.dst[0] * j->g.dst[1];
    const float *residual = j->residual ? j->residual + at : NULL;
    float *y = j->y + at;
    if (count < LANES) {
        for (int64_t c = 0; c < channels; c++)
            for (int64_t p = 0; p < count; p++) {
                float v = sums[p * pitch + c] + (bias ? bias[c] : 0) + (residual ? residual[c * plane + p] : 0);
                y[c * plane + p] = j->relu && v < 0 ? 0 : v;
            }
        return;
    }
    for (int64_t from = 0; from < count; from += LANES) {
        int64_t p = min_of(from, count - LANES); /* the last vector may overlap the one before */
        vec r[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            r[i] = vec_load(sums + (p + i) * pitch);
        vec_transpose(r);
#pragma GCC unroll 16
        for (int c = 0; c < LANES; c++)
            if (c < channels) {
                vec v = bias ? r[c] + vec_set(bias[c]) : r[c];
                v = residual ? v + vec_load(residual + c * plane + p) : v;
                vec_store(y + c * plane + p, j->relu ? vec_relu(v) : v);
            }
    }
}

/* Vectors first .. first + V - 1 of all pixels of a chunk. */
static void write_chunk(const job *j, const grid_task *t, const chunk *c, int64_t first, int V)
{
    const conv_grid *g = &j->g;
    int64_t plane = g->dst[0] * g->dst[1];
    for (int64_t r = c->row; r < c->row + c->rows;) {
        int64_t i = r / t->rows, row = r % t->rows, rows = min_of(t->rows - row, c->row + c->rows - r);
        for (int v = 0; v < V; v++) {
            int64_t channel = (first + v) * LANES, all = t->group * g->produce + channel;
            int64_t at = ((t->image + i) * g->group * g->produce + all) * plane + (t->row + row) * g->dst[1] + c->col;
            write_out(j, c->sums + ((r - c->row) * c->cols * V + v) * LANES, V * LANES, rows * c->cols,
                      min_of(LANES, g->produce - channel), at, j->bias ? j->bias + all : NULL);
        }
        r += rows;
    }
}

static void run_task(const job *j, int64_t index, int thread)
{
    const conv_grid *g = &j->g;
    grid_task t = grid_begin(g, index, j->x, j->pack + thread * j->pack_size);
    int64_t rows = t.images * t.rows;
    for (int64_t b = 0; b < j->blocks; b++) {
        int64_t first = block_begin(j, b);
        int V = (int)(block_begin(j, b + 1) - first);
        const float *w = j->w + (t.group * j->vectors + first) * LANES * g->entries;
        for (int64_t row = 0; row < rows; row += j->chunk_rows)
            for (int64_t col = 0; col < g->dst[1]; col += j->chunk_cols) {
                chunk c = {.row = row, .rows = min_of(j->chunk_rows, rows - row), .col = col,
                           .cols = min_of(j->chunk_cols, g->dst[1] - col), .sums = j->sums + thread * j->sums_size};
                for (int64_t p = 0; p < g->phases; p++)
                    sum_phase(j, &t, &c, p, V, w);
                write_chunk(j, &t, &c, first, V);
            }
    }
}

static void run(job *j, const kernel_args *a)
{
    carve_job(j, a->work, a->threads);
    j->x = a->in[0].data;
    j->weight = a->in[1].data;
    j->bias = a->n_in > 2 ? a->in[2].data : NULL;
    j->y = a->out[0].data;
    grid_list_entries(&j->g, j->off, j->weight_at, j->phase);
#pragma omp parallel num_threads(a->threads)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < j->g.group * j->blocks; i++)
            pack_weights(j, i / j->blocks, i % j->blocks);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < j->g.tasks; i++)
            run_task(j, i, omp_get_thread_num());
    }
}

/* ---- rows ---- */

/* x [N, C, in], w [M, C/g, k], b [M], residual like y -> y [N, M, out] */
static bool plan_conv(job *j, const kernel_args *a)
{
    return plan(j, a->attr, &a->in[0].sh, &a->out[0].sh, true);
}
static void conv(const kernel_args *a)
{
    job j;
    plan_conv(&j, a);
    j.residual = a->n_in > 3 ? a->in[3].data : NULL;
    j.relu = ((const conv_attrs *)a->attr)->relu != 0;
    run(&j, a);
}
static bool conv_takes(const kernel_args *a)
{
    job j;
    return plan_conv(&j, a);
}
static size_t conv_workspace(const kernel_args *a)
{
    job j;
    plan_conv(&j, a);
    return carve_job(&j, NULL, a->threads);
}

/* dy [N, M, out], w [M, C/g, k], b [C] -> dx [N, C, in] */
static bool plan_data(job *j, const kernel_args *a)
{
    return plan(j, a->attr, &a->out[0].sh, &a->in[0].sh, false);
}
static void conv_data(const kernel_args *a)
{
    job j;
    plan_data(&j, a);
    run(&j, a);
}
static bool conv_data_takes(const kernel_args *a)
{
    job j;
    return plan_data(&j, a);
}
static size_t conv_data_workspace(const kernel_args *a)
{
    job j;
    plan_data(&j, a);
    return carve_job(&j, NULL, a->threads);
}

KERNEL_TABLE(conv_direct) = {
    {OP_CONV, REAL_DTYPE, REAL_ISA, "conv_direct", conv, conv_workspace, conv_takes, "direct"},
    {OP_CONV_GRAD_DATA, REAL_DTYPE, REAL_ISA, "conv_grad_data_direct", conv_data, conv_data_workspace,
     conv_data_takes, "direct"},
    {OP_CONV_TRANSPOSE, REAL_DTYPE, REAL_ISA, "conv_transpose_direct", conv_data, conv_data_workspace,
     conv_data_takes, "direct"},
    KERNEL_END};
