/* conv_flat_simd.c - convolutions that make few channels from each group, depthwise ones above all: Conv, ConvGradData,
 * ConvTranspose and ConvGradWeight for one and two spatial axes in float.
 *
 * The sums of conv_grid.h, with vectors along the pixels: the copied data lie row after row with their padding, so a
 * vector runs on from one row into the next, and every entry is one scalar times a vector at a fixed distance. What falls
 * between two rows is left behind on the way out (or meets zeros, in the weight's gradient). */
#include "kernels/cpu/conv_grid.h"

enum {
    TASK_PIXELS = 1024,      /* at least, by taking several small images together */
    PACK_FLOATS = 32 * 1024, /* of copied data and sums in a task, where rows can be split */
    SLACK = 8 * LANES,       /* floats that a vector may read beyond the copied data */
    FEWEST_TASKS = 16        /* of the weight's gradient: images fall into shares below that */
};

/* ---- Conv, ConvGradData, ConvTranspose ---- */

typedef struct job {
    conv_grid g;
    int64_t pack_size, sums_pitch; /* floats of a thread; of one channel's sums */
    int32_t *off, *weight_at, *phase;
    float *w; /* [group][entries][produce] */
    float *pack, *sums;
    const float *x, *weight, *bias, *residual;
    float *y;
    bool relu;
} job;

static bool plan(job *j, const conv_attrs *at, const shape *x, const shape *y, bool forward)
{
    *j = (job){0};
    conv_grid *g = &j->g;
    if (!grid_make(g, at, x, y, forward, true) || g->produce > GRID_FEW_CHANNELS ||
        !grid_split(g, TASK_PIXELS, PACK_FLOATS, g->produce))
        return false;
    j->pack_size = round_up(g->task_images * g->image_pitch + SLACK, 16);
    j->sums_pitch = round_up(g->slot_pitch + SLACK, 16);
    return true;
}

static size_t carve_job(job *j, void *work, int threads)
{
    const conv_grid *g = &j->g;
    carver c = {.base = work};
    j->off = carve(&c, g->entries, sizeof *j->off);
    j->weight_at = carve(&c, g->entries, sizeof *j->weight_at);
    j->phase = carve(&c, g->phases + 1, sizeof *j->phase);
    j->w = carve(&c, g->group * g->entries * g->produce, sizeof *j->w);
    j->pack = carve(&c, j->pack_size * threads, sizeof *j->pack);
    j->sums = carve(&c, j->sums_pitch * g->produce * threads, sizeof *j->sums);
    return c.used;
}

/* sums[p][i] = sum over e of w[e][p] * x[off[e] + i], for B vectors and P channels. */
ALWAYS_INLINE void flat_block(const int P, const int B, float *sums, int64_t pitch, const float *x, const int32_t *off,
                              int64_t count, const float *w)
{
    vec acc[16];
#pragma GCC unroll 16
    for (int i = 0; i < P * B; i++)
        acc[i] = vec_set(0);
    for (int64_t e = 0; e < count; e++, w += P) {
        const float *xe = x + off[e];
#pragma GCC unroll 4
        for (int b = 0; b < B; b++) {
            vec v = vec_load(xe + b * LANES);
#pragma GCC unroll 4
            for (int p = 0; p < P; p++)
                acc[p * B + b] += v * vec_set(w[p]);
        }
    }
#pragma GCC unroll 4
    for (int p = 0; p < P; p++)
#pragma GCC unroll 4
        for (int b = 0; b < B; b++)
            vec_store(sums + p * pitch + b * LANES, acc[p * B + b]);
}

typedef void flat_fn(float *sums, int64_t pitch, int64_t length, const float *x, const int32_t *off, int64_t count,
                     const float *w);
#define FLAT_DEFINE(P)                                                                                            \
    static void flat_##P(float *sums, int64_t pitch, int64_t length, const float *x, const int32_t *off,          \
                         int64_t count, const float *w)                                                           \
    {                                                                                                             \
        int64_t i = 0;                                                                                            \
        for (; i + 3 * LANES < length; i += 4 * LANES)                                                            \
            flat_block(P, 4, sums + i, pitch, x + i, off, count, w);                                              \
        for (; i < length; i += LANES)                                                                            \
            flat_block(P, 1, sums + i, pitch, x + i, off, count, w);                                              \
    }
FLAT_DEFINE(1)
#if LANES >= 8
FLAT_DEFINE(2)
#endif
#if LANES >= 16
FLAT_DEFINE(3)
FLAT_DEFINE(4)
#endif
static flat_fn *const flats[GRID_FEW_CHANNELS + 1] = {
    NULL, flat_1,
#if LANES >= 8
    flat_2,
#endif
#if LANES >= 16
    flat_3, flat_4,
#endif
};

/* `count` pixels of a row, every step-th of y: relu(sums + bias + residual). `room` elements from y on are the task's own
 * to write, in rows still to come: whole vectors may spill into them. */
static void write_row(const job *j, float *y, const float *residual, const float *sums, int64_t count, int64_t step,
                      int64_t room, float bias)
{
    int64_t i = 0;
    for (; step == 1 && i < count && i + LANES <= room; i += LANES) {
        vec v = vec_load(sums + i) + vec_set(bias);
        v = residual ? v + vec_load(residual + i) : v;
        vec_store(y + i, j->relu ? vec_relu(v) : v);
    }
    for (; i < count; i++) {
        float v = sums[i] + bias + (residual ? residual[i * step] : 0);
        y[i * step] = j->relu && v < 0 ? 0 : v;
    }
}

/* The pixels of phase p of image i of a task. */
static void run_phase(const job *j, const grid_task *t, int64_t i, int64_t p, float *sums)
{
    const conv_grid *g = &j->g;
    int64_t row, col, rows = grid_phase(g, 0, p / g->step[1], t->row, t->row + t->rows, &row);
    int64_t cols = grid_phase(g, 1, p % g->step[1], 0, g->dst[1], &col), plane = g->dst[0] * g->dst[1];
    if (rows == 0 || cols == 0)
        return;
    const float *x = t->x + i * g->image_pitch + (grid_at(g, 0, row) - t->origin[0]) * g->width + grid_at(g, 1, col) -
                     t->origin[1];
    flats[g->produce](sums, j->sums_pitch, (rows - 1) * g->width + cols, x, j->off + j->phase[p],
                      j->phase[p + 1] - j->phase[p], j->w + (t->group * g->entries + j->phase[p]) * g->produce);
    for (int64_t k = 0; k < g->produce; k++) {
        int64_t channel = t->group * g->produce + k, at = ((t->image + i) * g->group * g->produce + channel) * plane;
        int64_t end = (t->row + t->rows) * g->dst[1];
        for (int64_t r = 0; r < rows; r++) {
            int64_t first = (row + r * g->step[0]) * g->dst[1] + col;
            write_row(j, j->y + at + first, j->residual ? j->residual + at + first : NULL,
                      sums + k * j->sums_pitch + r * g->width, cols, g->step[1], g->step[0] == 1 ? end - first : 0,
                      j->bias ? j->bias[channel] : 0);
        }
    }
}

static void run(job *j, const kernel_args *a)
{
    const conv_grid *g = &j->g;
    carve_job(j, a->work, a->threads);
    j->x = a->in[0].data;
    j->weight = a->in[1].data;
    j->bias = a->n_in > 2 ? a->in[2].data : NULL;
    j->y = a->out[0].data;
    grid_list_entries(g, j->off, j->weight_at, j->phase);
    for (int64_t i = 0; i < g->group; i++)
        for (int64_t e = 0; e < g->entries; e++)
            for (int64_t k = 0; k < g->produce; k++)
                j->w[(i * g->entries + e) * g->produce + k] =
                    j->weight[i * g->weight_group + k * g->weight_produce + j->weight_at[e]];
#pragma omp parallel for num_threads(a->threads) schedule(guided)
    for (int64_t i = 0; i < g->tasks; i++) {
        int thread = omp_get_thread_num();
        grid_task t = grid_begin(g, i, j->x, j->pack + thread * j->pack_size);
        for (int64_t k = 0; k < t.images; k++)
            for (int64_t p = 0; p < g->phases; p++)
                run_phase(j, &t, k, p, j->sums + thread * j->sums_pitch * g->produce);
    }
}

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

/* ---- ConvGradWeight ---- */

typedef struct weight_job {
    conv_grid g;
    int64_t c, m, shares;            /* channels of a group; of images */
    int64_t length, pack_size;       /* floats of a flat plane of gradients; of a thread's copied data */
    int64_t each;                    /* floats of one share's result: group * m * c * taps */
    int32_t *off, *weight_at, *phase;
    float *sums, *packs, *flats, *partial;
} weight_job;

static bool plan_weight(weight_job *j, const kernel_args *a)
{
    *j = (weight_job){0};
    conv_grid *g = &j->g;
    if (!grid_make(g, a->attr, &a->in[0].sh, &a->in[1].sh, true, true))
        return false;
    j->c = g->reduce;
    j->m = g->produce;
    if (j->c * j->m > GRID_FEW_PAIRS)
        return false;
    g->task_images = 1;
    g->strip = g->dst[0];
    j->shares = max_of(1, min_of(g->images, FEWEST_TASKS / g->group));
    bool fits = grid_finish(g);
    j->length = round_up((g->dst[0] - 1) * g->width + g->dst[1], LANES);
    j->pack_size = round_up(g->image_pitch + SLACK, 16);
    j->each = g->group * j->m * j->c * g->taps;
    return fits;
}

static size_t carve_weight(weight_job *j, void *work, int threads)
{
    const conv_grid *g = &j->g;
    carver c = {.base = work};
    j->off = carve(&c, g->entries, sizeof *j->off);
    j->weight_at = carve(&c, g->entries, sizeof *j->weight_at);
    j->phase = carve(&c, g->phases + 1, sizeof *j->phase);
    j->sums = carve(&c, j->shares * j->each, sizeof *j->sums);
    j->packs = carve(&c, j->pack_size * threads, sizeof *j->packs);
    j->flats = carve(&c, j->length * threads, sizeof *j->flats);
    j->partial = carve(&c, j->m * g->entries * LANES * threads, sizeof *j->partial);
    return c.used;
}

/* sum[t] += dy[i] * x[off[t] + i] for T taps, vector by vector; sum [T][LANES]. */
ALWAYS_INLINE void taps_block(const int T, float *sum, const float *dy, const float *x, const int32_t *off, int64_t length)
{
    vec acc[12];
#pragma GCC unroll 12
    for (int t = 0; t < T; t++)
        acc[t] = vec_set(0);
    for (int64_t i = 0; i < length; i += LANES) {
        vec d = vec_load(dy + i);
#pragma GCC unroll 12
        for (int t = 0; t < T; t++)
            acc[t] += d * vec_load(x + off[t] + i);
    }
#pragma GCC unroll 12
    for (int t = 0; t < T; t++)
        vec_store(sum + t * LANES, vec_load(sum + t * LANES) + acc[t]);
}
#define TAPS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#define TAPS_MOST 12
typedef void taps_fn(float *sum, const float *dy, const float *x, const int32_t *off, int64_t length);
#define TAPS_DEFINE(T)                                                                                            \
    static void taps_##T(float *sum, const float *dy, const float *x, const int32_t *off, int64_t length)         \
    {                                                                                                             \
        taps_block(T, sum, dy, x, off, length);                                                                   \
    }
TAPS(TAPS_DEFINE)
#define TAPS_ROW(T) [T] = taps_##T,
static taps_fn *const taps_kinds[TAPS_MOST + 1] = {TAPS(TAPS_ROW)};

/* One share of the images for one group. */
static void run_share(const weight_job *j, const kernel_args *a, int64_t group, int64_t share, int thread)
{
    const conv_grid *g = &j->g;
    const float *dy = a->in[1].data;
    int64_t plane = g->dst[0] * g->dst[1];
    float *pack = j->packs + thread * j->pack_size, *flat = j->flats + thread * j->length;
    float *partial = j->partial + thread * j->m * g->entries * LANES;
    memset(pack + g->image_pitch, 0, (size_t)SLACK * sizeof *pack);
    memset(partial, 0, (size_t)(j->m * g->entries * LANES) * sizeof *partial);
    for (int64_t n = share * g->images / j->shares; n < (share + 1) * g->images / j->shares; n++) {
        grid_task t = grid_begin(g, n * g->group + group, a->in[0].data, pack);
        for (int64_t k = 0; k < j->m; k++) {
            const float *from = dy + ((n * g->group + group) * j->m + k) * plane;
            memset(flat, 0, (size_t)j->length * sizeof *flat);
            for (int64_t r = 0; r < g->dst[0]; r++)
                copy_floats(flat + r * g->width, from + r * g->dst[1], g->dst[1]);
            int64_t blocks = (g->entries + TAPS_MOST - 1) / TAPS_MOST;
            for (int64_t b = 0; b < blocks; b++) {
                int64_t e = b * g->entries / blocks, count = (b + 1) * g->entries / blocks - e;
                taps_kinds[count](partial + (k * g->entries + e) * LANES, flat, t.x, j->off + e, j->length);
            }
        }
    }
    float *sums = j->sums + share * j->each + group * j->m * g->entries;
    for (int64_t i = 0; i < j->m * g->entries; i++) {
        float sum = 0;
        for (int64_t l = 0; l < LANES; l++)
            sum += partial[i * LANES + l];
        sums[i] = sum;
    }
}

/* x [N, C, in], dy [N, M, out] -> dw [M, C/g, k] */
static void conv_weight(const kernel_args *a)
{
    weight_job made, *j = &made;
    plan_weight(j, a);
    carve_weight(j, a->work, a->threads);
    const conv_grid *g = &j->g;
    float *dw = a->out[0].data;
    grid_list_entries(g, j->off, j->weight_at, j->phase);
#pragma omp parallel for num_threads(a->threads) schedule(dynamic)
    for (int64_t i = 0; i < j->shares * g->group; i++)
        run_share(j, a, i % g->group, i / g->group, omp_get_thread_num());
    for (int64_t i = 0; i < j->each; i++) {
        float sum = j->sums[i];
        for (int64_t share = 1; share < j->shares; share++)
            sum += j->sums[share * j->each + i];
        dw[i] = sum;
    }
}
static bool conv_weight_takes(const kernel_args *a)
{
    weight_job j;
    return plan_weight(&j, a);
}
static size_t conv_weight_workspace(const kernel_args *a)
{
    weight_job j;
    plan_weight(&j, a);
    return carve_weight(&j, NULL, a->threads);
}

KERNEL_TABLE(conv_flat) = {
    {OP_CONV, REAL_DTYPE, REAL_ISA, "conv_flat", conv, conv_workspace, conv_takes, "direct"},
    {OP_CONV_GRAD_DATA, REAL_DTYPE, REAL_ISA, "conv_grad_data_flat", conv_data, conv_data_workspace, conv_data_takes,
     "direct"},
    {OP_CONV_TRANSPOSE, REAL_DTYPE, REAL_ISA, "conv_transpose_flat", conv_data, conv_data_workspace, conv_data_takes,
     "direct"},
    {OP_CONV_GRAD_WEIGHT, REAL_DTYPE, REAL_ISA, "conv_grad_weight_flat", conv_weight, conv_weight_workspace,
     conv_weight_takes, "direct"},
    KERNEL_END};
