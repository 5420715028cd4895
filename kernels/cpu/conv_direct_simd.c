/* conv_direct_simd.c - Conv, ConvGradData and ConvTranspose for one and two spatial axes, dense or grouped, in float.
 *
 * Every direction is brought to one form: for each pixel of the result, a sum over entries (channel, tap) of weights
 * times data at a fixed distance from the pixel (conv_tile.h). For that
 *   - the data are copied once per task with their padding, one plane per stride phase, so that neighbouring pixels of
 *     the result need neighbouring data whatever the stride (no copy where none is needed: 1x1 without padding);
 *   - the pixels of ConvGradData's result fall into stride phases, each of which sees its own taps only;
 *   - the weights are rearranged once per call, channels of the result innermost.
 * A task is a few images or a strip of rows of one; channels of the result go through it in blocks of up to three
 * vectors, pixels in chunks whose sums stay in the first-level cache until bias, residual and ReLU are applied on the
 * way out. Every result is one sum in a fixed order: threads change nothing. */
#include "kernels/cpu/conv_tile.h"
#include "kernels/cpu/spatial.h"

#include <limits.h>

enum {
    CHUNK_PIXELS = 256,        /* of the result, summed up before they are written out */
    TASK_PIXELS = 196,         /* at least, by taking several small images together */
    PACK_BYTES = 256 * 1024,   /* of copied data in a task, where rows can be split */
    ENTRY_BLOCK = 1024,        /* entries whose weights are used for all pixels of a chunk before the next ones */
    FEWEST_TASKS = 16,         /* rows are split into more strips below that */
    PHASES_MOST = 4096
};

typedef struct job {
    int64_t images, group;        /* of the whole call */
    int64_t reduce, produce;      /* channels of a group: summed over, made */
    int64_t src[2], dst[2];       /* rows and columns of a plane */
    int64_t taps, entries;        /* of the kernel; reduce * taps */
    int64_t step[2], shift[2];    /* element i of a result axis: grid position (i + shift) / step, phase (i + shift) % step */
    int64_t reach[2];             /* grid positions that a pixel's data span beyond its own */
    int64_t weight_produce, weight_reduce, weight_group; /* steps through the weight */
    bool forward, packed;
    int64_t slots[2], src_step[2]; /* planes of copied data by stride phase (forward); 1, 1 otherwise */
    int64_t width, row_pitch, slot_pitch, channel_pitch, image_pitch; /* of the data that tiles read, in floats */
    int64_t vectors, blocks;       /* of produced channels; blocks of at most TILE_VECTORS of them */
    int64_t task_images, strip, strips, tasks;
    int64_t chunk_rows, chunk_cols;
    spatial s;
    /* parts of the workspace */
    int32_t *off, *weight_at; /* [entries]: distance from the pixel, place in the weight; entries lie phase by phase */
    int32_t *phase;           /* [phases + 1]: first entry */
    float *w;                 /* [group][vectors * LANES, in blocks][entries] */
    float *pack, *sums;       /* per thread */
    int64_t pack_size, sums_size;
    /* operands */
    const float *x, *weight, *bias, *residual;
    float *y;
    bool relu;
} job;

static int64_t grid(const job *j, int axis, int64_t i)
{
    return (i + j->shift[axis]) / j->step[axis];
}

/* Whether tiles can read the data where they are: nothing outside them is touched and pixels are neighbours. */
static bool needs_no_copy(const job *j)
{
    const spatial *s = &j->s;
    for (int i = 0; i < 2; i++) {
        int64_t first = j->forward ? -s->pad[i + 1] : grid(j, i, 0) - j->reach[i];
        int64_t last = j->forward ? first + j->dst[i] - 1 + j->reach[i] : grid(j, i, j->dst[i] - 1);
        if (j->src_step[i] != 1 || first < 0 || last >= j->src[i])
            return false;
    }
    return true;
}

static void choose_tasks(job *j)
{
    int64_t plane = j->dst[0] * j->dst[1], floats = PACK_BYTES / (int64_t)sizeof(float);
    j->task_images = max_of(1, min_of(j->images, TASK_PIXELS / max_of(plane, 1)));
    j->strip = j->dst[0];
    int64_t blocks = (j->images + j->task_images - 1) / j->task_images * j->group;
    if (blocks < FEWEST_TASKS && j->task_images == 1)
        j->strip = max_of(min_of(4, j->dst[0]), (j->dst[0] * blocks + FEWEST_TASKS - 1) / FEWEST_TASKS);
    if (!j->packed)
        return;
    int64_t each = j->reduce * j->slots[0] * j->slots[1] * j->width; /* floats of one grid row */
    int64_t rows = floats / max_of(1, each * j->task_images) - j->reach[0];
    j->strip = min_of(j->strip, max_of(1, rows * (j->forward ? 1 : j->step[0])));
}

/* Everything but the operands; false: the shapes are not for this kernel. */
static bool plan(job *j, const conv_attrs *at, const shape *x, const shape *y, bool forward)
{
    *j = (job){.s = conv_spatial(at, x, y), .forward = forward, .group = at->group};
    const spatial *s = &j->s;
    int64_t c = s->channels / s->group, m = s->outputs / s->group;
    if (x->rank > 4)
        return false;
    j->images = s->n;
    j->reduce = forward ? c : m;
    j->produce = forward ? m : c;
    j->taps = s->kernel[1] * s->kernel[2];
    j->entries = j->reduce * j->taps;
    j->weight_produce = forward ? c * j->taps : j->taps;
    j->weight_reduce = forward ? j->taps : c * j->taps;
    j->weight_group = m * c * j->taps;
    for (int i = 0; i < 2; i++) {
        int64_t stride = s->stride[i + 1], span = (s->kernel[i + 1] - 1) * s->dilation[i + 1];
        j->src[i] = forward ? s->in[i + 1] : s->out[i + 1];
        j->dst[i] = forward ? s->out[i + 1] : s->in[i + 1];
        j->step[i] = forward ? 1 : stride;
        j->shift[i] = forward ? 0 : s->pad[i + 1];
        j->src_step[i] = forward ? stride : 1;
        j->slots[i] = forward ? min_of(stride, span + 1) : 1;
        j->reach[i] = span / stride;
    }
    j->packed = !needs_no_copy(j);
    j->width = j->packed ? grid(j, 1, j->dst[1] - 1) - grid(j, 1, 0) + 1 + j->reach[1] : j->src[1];
    if (!j->packed && j->taps == 1 && j->step[0] == 1 && j->step[1] == 1 && j->src[1] == j->dst[1] &&
        j->src[0] == j->dst[0]) {
        j->dst[1] *= j->dst[0]; /* one long row */
        j->src[1] = j->width = j->dst[1];
        j->src[0] = j->dst[0] = 1;
    }
    choose_tasks(j);
    int64_t rows = j->packed ? (j->strip + j->step[0] - 2) / j->step[0] + 1 + j->reach[0] : j->src[0];
    j->row_pitch = j->width;
    j->slot_pitch = rows * j->width;
    j->channel_pitch = j->slots[0] * j->slots[1] * j->slot_pitch;
    j->image_pitch = j->packed ? j->reduce * j->channel_pitch : j->reduce * j->group * j->channel_pitch;
    j->strips = (j->dst[0] + j->strip - 1) / j->strip;
    j->tasks = (j->images + j->task_images - 1) / j->task_images * j->group * j->strips;
    int64_t parts = (j->dst[1] + CHUNK_PIXELS - 1) / CHUNK_PIXELS;
    j->chunk_cols = parts > 1 ? (j->dst[1] + parts - 1) / parts : j->dst[1];
    j->chunk_rows = max_of(1, CHUNK_PIXELS / max_of(1, j->chunk_cols));
    j->vectors = (j->produce + LANES - 1) / LANES;
    j->blocks = (j->vectors + TILE_VECTORS - 1) / TILE_VECTORS;
    j->pack_size = j->packed ? j->task_images * j->image_pitch : 0;
    j->sums_size = j->chunk_rows * j->chunk_cols * TILE_VECTORS * LANES;
    return j->entries < INT_MAX / 4 && j->image_pitch < INT_MAX / 4 && j->weight_group < INT_MAX / 4 &&
           j->step[0] * j->step[1] <= PHASES_MOST && j->step[0] <= PHASES_MOST;
}

static size_t carve_job(job *j, void *work, int threads)
{
    carver c = {.base = work};
    j->off = carve(&c, j->entries, sizeof *j->off);
    j->weight_at = carve(&c, j->entries, sizeof *j->weight_at);
    j->phase = carve(&c, j->step[0] * j->step[1] + 1, sizeof *j->phase);
    j->w = carve(&c, j->group * j->vectors * LANES * j->entries, sizeof *j->w);
    j->pack_size = round_up(j->pack_size, 16);
    j->sums_size = round_up(j->sums_size, 16);
    j->pack = carve(&c, j->pack_size * threads, sizeof *j->pack);
    j->sums = carve(&c, j->sums_size * threads, sizeof *j->sums);
    return c.used;
}

/* ---- tables and weights, once per call ---- */

/* Entries of all phases: which tap of which channel, and how far from the pixel its data lie. */
static void list_entries(job *j)
{
    const spatial *s = &j->s;
    int64_t e = 0;
    for (int64_t p = 0; p < j->step[0] * j->step[1]; p++) {
        int64_t a = p / j->step[1], b = p % j->step[1];
        j->phase[p] = (int32_t)e;
        for (int64_t r = 0; r < j->reduce; r++)
            for (int64_t t = 0; t < j->taps; t++) {
                int64_t h = t / s->kernel[2] * s->dilation[1], w = t % s->kernel[2] * s->dilation[2];
                int64_t h0 = h % s->stride[1], h1 = h / s->stride[1], w0 = w % s->stride[2], w1 = w / s->stride[2];
                if (!j->forward && (h0 != a || w0 != b))
                    continue;
                int64_t rows = j->forward ? h1 : j->reach[0] - h1, cols = j->forward ? w1 : j->reach[1] - w1;
                int64_t slot = j->forward ? h0 * j->slots[1] + w0 : 0;
                j->off[e] = (int32_t)(r * j->channel_pitch + slot * j->slot_pitch + rows * j->row_pitch + cols);
                j->weight_at[e++] = (int32_t)(r * j->weight_reduce + t);
            }
    }
    j->phase[j->step[0] * j->step[1]] = (int32_t)e;
}

/* Vectors of block b, and where it begins. The vectors are shared out evenly. */
static int64_t block_begin(const job *j, int64_t b)
{
    return b * j->vectors / j->blocks;
}

/* One block of one group: [entries][vectors of the block * LANES], zeros beyond the last channel. */
static void pack_weights(const job *j, int64_t g, int64_t b)
{
    int64_t first = block_begin(j, b), lanes = (block_begin(j, b + 1) - first) * LANES;
    float *to = j->w + (g * j->vectors + first) * LANES * j->entries;
    for (int64_t k = 0; k < lanes; k++) {
        int64_t p = first * LANES + k;
        const float *from = j->weight + g * j->weight_group + p * j->weight_produce;
        for (int64_t e = 0; e < j->entries; e++)
            to[e * lanes + k] = p < j->produce ? from[j->weight_at[e]] : 0;
    }
}

/* ---- data with padding ---- */

/* to[i] = from[start + i * step] inside [0, limit), else 0, for i < count */
static void copy_row(float *to, const float *from, int64_t count, int64_t start, int64_t step, int64_t limit)
{
    range in = range_inside(start, step, count, limit);
    for (int64_t i = 0; i < in.begin; i++)
        to[i] = 0;
    if (step == 1)
        for (int64_t i = in.begin; i < in.end; i++)
            to[i] = from[start + i];
    else
        for (int64_t i = in.begin; i < in.end; i++)
            to[i] = from[start + i * step];
    for (int64_t i = in.end; i < count; i++)
        to[i] = 0;
}

/* The planes of one channel for grid rows from `top` on. */
static void pack_plane(const job *j, float *to, const float *from, int64_t top, int64_t rows)
{
    const spatial *s = &j->s;
    for (int64_t a = 0; a < j->slots[0]; a++)
        for (int64_t b = 0; b < j->slots[1]; b++, to += j->slot_pitch)
            for (int64_t i = 0; i < rows; i++) {
                int64_t row = j->forward ? (top + i) * j->src_step[0] + a - s->pad[1] : top + i - j->reach[0];
                int64_t col = j->forward ? b - s->pad[2] : grid(j, 1, 0) - j->reach[1];
                if (row < 0 || row >= j->src[0])
                    memset(to + i * j->row_pitch, 0, (size_t)j->width * sizeof *to);
                else
                    copy_row(to + i * j->row_pitch, from + row * j->src[1], j->width, col, j->src_step[1], j->src[1]);
            }
}

/* ---- a chunk of the result ---- */

typedef struct task {
    int64_t image, images, group, row, rows; /* images, and rows of the result in each */
    const float *x;                          /* data of its first image, group and row */
    int64_t origin[2];                       /* grid position that x begins with */
    float *sums;
} task;

/* Rows are counted through the images of a task. */
typedef struct chunk {
    int64_t row, rows, col, cols;
} chunk;

/* Sums of the pixels of phase k, for a block of V vectors with weights w. */
static void sum_phase(const job *j, const task *t, const chunk *c, int64_t k, int V, const float *w)
{
    int64_t a = k / j->step[1], b = k % j->step[1];
    int64_t first = c->col + ((b - c->col - j->shift[1]) % j->step[1] + j->step[1]) % j->step[1];
    int64_t count = first < c->col + c->cols ? (c->col + c->cols - 1 - first) / j->step[1] + 1 : 0;
    int64_t begin = j->phase[k], end = j->phase[k + 1], pixel = V * LANES, step = j->step[1] * pixel;
    if (count == 0)
        return;
    row_cut cut = cut_row(V, count);
    for (int64_t e = begin; e == begin || e < end; e += ENTRY_BLOCK) {
        int64_t entries = min_of(ENTRY_BLOCK, end - e);
        tile_runs wide = {.count = 0}, narrow = {.count = 0};
        const float *we = w + e * pixel;
        for (int64_t r = c->row; r < c->row + c->rows; r++) {
            int64_t row = t->row + r % t->rows;
            if ((row + j->shift[0]) % j->step[0] != a)
                continue;
            const float *x = t->x + r / t->rows * j->image_pitch + (grid(j, 0, row) - t->origin[0]) * j->row_pitch +
                             grid(j, 1, first) - t->origin[1];
            float *y = t->sums + ((r - c->row) * c->cols + first - c->col) * pixel;
            for (int64_t i = 0; i < cut.wide; i++, x += cut.q, y += cut.q * step) {
                wide.x[wide.count] = x;
                wide.y[wide.count++] = y;
                if (wide.count == tile_kinds[V][cut.q].runs)
                    tile_flush(V, cut.q, &wide, step, j->off + e, entries, we, e > begin);
            }
            for (int64_t i = 0; i < cut.narrow; i++, x += cut.q - 1, y += (cut.q - 1) * step) {
                narrow.x[narrow.count] = x;
                narrow.y[narrow.count++] = y;
                if (narrow.count == tile_kinds[V][cut.q - 1].runs)
                    tile_flush(V, cut.q - 1, &narrow, step, j->off + e, entries, we, e > begin);
            }
        }
        tile_flush(V, cut.q, &wide, step, j->off + e, entries, we, e > begin);
        tile_flush(V, cut.q - 1, &narrow, step, j->off + e, entries, we, e > begin);
    }
}

/* y[c][p] = relu(sums[p][c] + bias[c] + residual[c][p]) for up to LANES channels and `count` pixels. */
static void write_out(const job *j, const float *sums, int64_t pitch, int64_t count, int64_t channels, int64_t at,
                      const float *bias)
{
    int64_t plane = j->dst[0] * j->dst[1];
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

static void write_chunk(const job *j, const task *t, const chunk *c, int64_t first, int V)
{
    int64_t plane = j->dst[0] * j->dst[1];
    for (int64_t r = c->row; r < c->row + c->rows;) {
        int64_t i = r / t->rows, row = r % t->rows, rows = min_of(t->rows - row, c->row + c->rows - r);
        for (int v = 0; v < V; v++) {
            int64_t channel = (first + v) * LANES, all = t->group * j->produce + channel;
            int64_t at = ((t->image + i) * j->group * j->produce + all) * plane + (t->row + row) * j->dst[1] + c->col;
            write_out(j, t->sums + (r - c->row) * c->cols * V * LANES + v * LANES, V * LANES, rows * c->cols,
                      min_of(LANES, j->produce - channel), at, j->bias ? j->bias + all : NULL);
        }
        r += rows;
    }
}

static void run_task(const job *j, int64_t index, int thread)
{
    int64_t strip = index % j->strips, g = index / j->strips % j->group, n = index / j->strips / j->group * j->task_images;
    task t = {.image = n, .images = min_of(j->task_images, j->images - n), .group = g, .row = strip * j->strip,
              .sums = j->sums + thread * j->sums_size};
    t.rows = min_of(j->strip, j->dst[0] - t.row);
    int64_t src_plane = j->src[0] * j->src[1];
    const float *x = j->x + (n * j->group + g) * j->reduce * src_plane;
    if (j->packed) {
        float *pack = j->pack + thread * j->pack_size;
        t.origin[0] = grid(j, 0, t.row);
        t.origin[1] = grid(j, 1, 0);
        int64_t rows = grid(j, 0, t.row + t.rows - 1) - t.origin[0] + 1 + j->reach[0];
        for (int64_t i = 0; i < t.images; i++)
            for (int64_t r = 0; r < j->reduce; r++)
                pack_plane(j, pack + i * j->image_pitch + r * j->channel_pitch,
                           x + (i * j->group * j->reduce + r) * src_plane, t.origin[0], rows);
        t.x = pack;
    } else {
        t.x = x;
        t.origin[0] = j->forward ? 0 : j->reach[0];
        t.origin[1] = j->forward ? 0 : j->reach[1];
    }
    for (int64_t b = 0; b < j->blocks; b++) {
        int64_t first = block_begin(j, b);
        int V = (int)(block_begin(j, b + 1) - first);
        const float *w = j->w + (g * j->vectors + first) * LANES * j->entries;
        for (int64_t row = 0; row < t.images * t.rows; row += j->chunk_rows)
            for (int64_t col = 0; col < j->dst[1]; col += j->chunk_cols) {
                chunk c = {row, min_of(j->chunk_rows, t.images * t.rows - row), col,
                           min_of(j->chunk_cols, j->dst[1] - col)};
                for (int64_t k = 0; k < j->step[0] * j->step[1]; k++)
                    sum_phase(j, &t, &c, k, V, w);
                write_chunk(j, &t, &c, first, V);
            }
    }
}

static void run(job *j, const kernel_args *a)
{
    carve_job(j, a->work, a->threads);
    j->bias = a->n_in > 2 ? a->in[2].data : NULL;
    list_entries(j);
#pragma omp parallel num_threads(a->threads)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < j->group * j->blocks; i++)
            pack_weights(j, i / j->blocks, i % j->blocks);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < j->tasks; i++)
            run_task(j, i, omp_get_thread_num());
    }
}

/* ---- rows ---- */

/* x [N, C, in], w [M, C/g, k], b [M], residual like y -> y [N, M, out] */
static void conv(const kernel_args *a)
{
    job j;
    plan(&j, a->attr, &a->in[0].sh, &a->out[0].sh, true);
    j.x = a->in[0].data;
    j.weight = a->in[1].data;
    j.residual = a->n_in > 3 ? a->in[3].data : NULL;
    j.relu = ((const conv_attrs *)a->attr)->relu != 0;
    j.y = a->out[0].data;
    run(&j, a);
}
static bool conv_takes(const kernel_args *a)
{
    job j;
    return plan(&j, a->attr, &a->in[0].sh, &a->out[0].sh, true);
}
static size_t conv_workspace(const kernel_args *a)
{
    job j;
    plan(&j, a->attr, &a->in[0].sh, &a->out[0].sh, true);
    return carve_job(&j, NULL, a->threads);
}

/* dy [N, M, out], w [M, C/g, k], b [C] -> dx [N, C, in] */
static void conv_data(const kernel_args *a)
{
    job j;
    plan(&j, a->attr, &a->out[0].sh, &a->in[0].sh, false);
    j.x = a->in[0].data;
    j.weight = a->in[1].data;
    j.y = a->out[0].data;
    run(&j, a);
}
static bool conv_data_takes(const kernel_args *a)
{
    job j;
    return plan(&j, a->attr, &a->out[0].sh, &a->in[0].sh, false);
}
static size_t conv_data_workspace(const kernel_args *a)
{
    job j;
    plan(&j, a->attr, &a->out[0].sh, &a->in[0].sh, false);
    return carve_job(&j, NULL, a->threads);
}

KERNEL_TABLE(conv_direct) = {
    {OP_CONV, REAL_DTYPE, REAL_ISA, "conv_direct", conv, conv_workspace, conv_takes, "direct"},
    {OP_CONV_GRAD_DATA, REAL_DTYPE, REAL_ISA, "conv_grad_data_direct", conv_data, conv_data_workspace,
     conv_data_takes, "direct"},
    {OP_CONV_TRANSPOSE, REAL_DTYPE, REAL_ISA, "conv_transpose_direct", conv_data, conv_data_workspace,
     conv_data_takes, "direct"},
    KERNEL_END};
