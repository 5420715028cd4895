/* conv_winograd_simd.c - Conv and ConvGradData of 3x3 kernels with stride 1 on blocked maps, by Winograd's F(4x4, 3x3).
 *
 * The gradient of the data is a convolution too: of dy, with the weights flipped and their channels exchanged. So there is
 * one form: `reduce` channels in, `produce` channels out.
 *
 * The weights are transformed first. Then tasks, each a batch of tiles (of several images where maps are small) and a part
 * of the produced channels: all windows of the batch are transformed; for one or two vectors of produced channels at a time
 * the 36 products fill M, which is transformed back while it is still in the cache, and goes out with bias, residual and
 * ReLU. Every result is one sum in a fixed order: neither threads nor batches change it. */
#include "kernels/cpu/conv_epilogue.h"
#include "kernels/cpu/winograd.h"
#include "kernels/cpu/winograd_multiply.h"

enum {
    LARGE_WEIGHTS = 4 << 20,    /* bytes of transformed weights that make up for ... */
    BATCH_TILES = 24,
    BATCH_LARGE = 48,           /* ... larger batches, each of which they pass by for */
    TASKS_PER_THREAD = 4
};

typedef struct job {
    int64_t images, reduce, produce, in[2], out[2], pad[2];
    bool forward;
    wino_tiles tiles;
    int64_t blocks;               /* of reduced channels */
    int64_t vectors, groups;      /* of produced channels; groups of up to GROUP_VECTORS vectors */
    int64_t most;                 /* tiles of a chunk */
    int64_t batch, batches, parts; /* tiles of a task; tasks: batches * parts */
    /* floats: from one point of the weights, of the data and of the products of a task to the next; of a chunk of data; of
     * a thread */
    int64_t u_step, v_step, m_step, v_chunk, thread_size;
    const float *u; /* [point][group][reduce][vectors of the group * LANES] */
    float *u_made;  /* the same where this call makes it; NULL: it was prepared */
    float *work; /* of a thread: V [point][chunk][block][most][LANES], M [point][group][tile][vectors of the group * LANES] */
    wino_window *windows; /* of a thread: [tile] */
    conv_norm *norm; /* [blocks]; NULL: none */
    const float *x, *weight;
    float *y, *bias;
    conv_epilogue end;
} job;

/* `x` and `y`: data and windows of the convolution, whatever the direction. */
static bool plan(job *j, const kernel_args *a, const shape *x, const shape *y, bool forward)
{
    const conv_attrs *at = a->attr;
    const shape *from = forward ? x : y, *to = forward ? y : x;
    *j = (job){.forward = forward};
    if ((forward && at->exact) || !wino_takes(at, x, y))
        return false;
    j->images = x->dim[0];
    j->reduce = from->dim[1];
    j->produce = to->dim[1];
    for (int i = 0; i < 2; i++) {
        j->in[i] = from->dim[2 + i];
        j->out[i] = to->dim[2 + i];
        j->pad[i] = forward ? at->pads.v[i] : 2 - at->pads.v[i];
    }
    j->tiles = wino_tiles_of(j->images, j->out[0], j->out[1]);
    j->blocks = (j->reduce + LANES - 1) / LANES;
    j->vectors = (j->produce + LANES - 1) / LANES;
    j->groups = (j->vectors + GROUP_VECTORS - 1) / GROUP_VECTORS;
    j->most = j->vectors == 1 ? MOST_1 : MOST_2;

    bool large = WINO_POINTS * j->reduce * j->vectors * LANES * (int64_t)sizeof(float) > LARGE_WEIGHTS;
    int64_t wanted = large ? BATCH_LARGE : BATCH_TILES, threads = max_of(1, a->threads);
    int64_t tasks = threads * (large ? 1 : TASKS_PER_THREAD), share = (j->tiles.count + tasks - 1) / tasks;
    j->batch = max_of(1, (min_of(wanted, share) + j->most - 1) / j->most) * j->most;
    j->batches = (j->tiles.count + j->batch - 1) / j->batch;
    j->parts = j->batches % threads == 0 || j->batches >= tasks ? 1 : min_of(j->groups, threads);

    int64_t lanes = min_of(j->vectors, GROUP_VECTORS) * LANES;
    j->u_step = j->reduce * j->vectors * LANES + LANES; /* points at a power of two from each other would fall on the same cache lines */
    j->v_chunk = j->blocks * j->most * LANES;
    j->v_step = j->batch / j->most * j->v_chunk + LANES;
    j->m_step = j->batch * ((j->groups + j->parts - 1) / j->parts * lanes) + LANES;
    j->thread_size = round_up(WINO_POINTS * (j->v_step + j->m_step), 16);
    return true;
}

static size_t carve_job(job *j, const kernel_args *a, void *work)
{
    carver c = {.base = work};
    int64_t threads = max_of(1, a->threads);
    j->u = a->prepared;
    if (!j->u)
        j->u = j->u_made = carve(&c, WINO_POINTS * j->u_step, sizeof *j->u);
    j->work = carve(&c, j->thread_size * threads, sizeof *j->work);
    j->windows = carve(&c, j->batch * threads, sizeof *j->windows);
    j->bias = carve(&c, j->vectors * LANES, sizeof *j->bias);
    j->norm = has_norm(a, NORM_OF_CONV) ? carve(&c, j->blocks, sizeof *j->norm) : NULL;
    return c.used;
}

static int64_t group_vectors(const job *j, int64_t group)
{
    return min_of(GROUP_VECTORS, j->vectors - group * GROUP_VECTORS);
}

/* ---- weights ---- */

/* to[c][tap]: the weights of one vector of produced channels and `count` reduced ones, from `block` on; zeros beyond the
 * last channel. */
static void load_weights(const job *j, vec to[LANES * WINO_TAPS], int64_t vector, int64_t block, int64_t count)
{
    const float *w = j->weight + vector * LANES * j->reduce * WINO_TAPS + block * LANES * WINO_TAPS;
    int64_t lanes = min_of(LANES, j->produce - vector * LANES), rest = count * WINO_TAPS;
    for (int64_t e = 0; e < rest; e += LANES)
        wino_load_rows(to + e, w + e, j->reduce * WINO_TAPS, lanes, min_of(LANES, rest - e));
}

/* The same where w is [reduced][produced][tap], and the taps are to be flipped. */
static void load_flipped(const job *j, vec to[LANES * WINO_TAPS], int64_t vector, int64_t block, int64_t count)
{
    int64_t lanes = min_of(LANES, j->produce - vector * LANES);
    for (int64_t c = 0; c < count; c++, to += WINO_TAPS) {
        const float *w = j->weight + ((block * LANES + c) * j->produce + vector * LANES) * WINO_TAPS;
        for (int k = 0; k < WINO_TAPS; k += LANES) {
            vec r[LANES];
            int most = k + LANES < WINO_TAPS ? LANES : WINO_TAPS - k;
            wino_load_rows(r, w + k, WINO_TAPS, lanes, most);
            for (int i = 0; i < most; i++)
                to[WINO_TAPS - 1 - k - i] = r[i];
        }
    }
}

/* G g G^T of one vector of produced channels and one block of reduced ones. */
static void transform_weights(const job *j, int64_t vector, int64_t block)
{
    int64_t group = vector / GROUP_VECTORS, lanes = group_vectors(j, group) * LANES;
    int64_t count = min_of(LANES, j->reduce - block * LANES);
    float *to = j->u_made + group * GROUP_VECTORS * LANES * j->reduce + vector % GROUP_VECTORS * LANES +
                block * LANES * lanes;
    vec w[LANES * WINO_TAPS];
    (j->forward ? load_weights : load_flipped)(j, w, vector, block, count);
    for (const vec *g = w; g < w + count * WINO_TAPS; g += WINO_TAPS, to += lanes) {
        vec r[6][3];
#pragma GCC unroll 3
        for (int k = 0; k < 3; k++) {
            const vec column[3] = {g[k], g[3 + k], g[6 + k]};
            vec o[6];
            wino_weight(o, column);
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++)
                r[i][k] = o[i];
        }
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++) {
            vec o[6];
            wino_weight(o, r[i]);
#pragma GCC unroll 6
            for (int k = 0; k < 6; k++)
                vec_store(to + (i * 6 + k) * j->u_step, o[k]);
        }
    }
}

/* ---- results ---- */

/* `count` results of a row. */
ALWAYS_INLINE void store_row(float *y, const conv_epilogue *e, vec bias, const vec q[4], const int64_t count)
{
#pragma GCC unroll 4
    for (int64_t i = 0; i < count; i++)
        vec_store(y + i * LANES, conv_finish(e, q[i], bias, y + i * LANES));
}

/* y = A^T m A of one tile and vector of channels; rows of y are `pitch` floats apart. */
ALWAYS_INLINE void result_body(float *y, const conv_epilogue *e, vec bias, int64_t pitch, const float *m, int64_t step,
                               const int64_t rows, const int64_t cols)
{
    vec r[4][6];
#pragma GCC unroll 6
    for (int k = 0; k < 6; k++) {
        vec column[6], o[4];
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++)
            column[i] = vec_load(m + (i * 6 + k) * step);
        wino_result(o, column);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            r[i][k] = o[i];
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        vec q[4];
        if (i >= rows)
            break;
        wino_result(q, r[i]);
        store_row(y + i * pitch, e, bias, q, cols);
    }
}
static void result_full(float *y, const conv_epilogue *e, vec bias, int64_t pitch, const float *m, int64_t step)
{
    result_body(y, e, bias, pitch, m, step, WINO_TILE, WINO_TILE);
}
static void result_edge(float *y, const conv_epilogue *e, vec bias, int64_t pitch, const float *m, int64_t step,
                        int64_t rows, int64_t cols)
{
    result_body(y, e, bias, pitch, m, step, rows, cols);
}

/* ---- tasks ---- */

/* All windows of a task. */
static void transform_data(const job *j, float *v, wino_window *w, int64_t first, int64_t count)
{
    blocked b = {.blocks = j->blocks, .pixels = j->in[0] * j->in[1]};
    for (int64_t t = 0; t < count; t++) {
        int64_t image = (first + t) / j->tiles.of_image, i = (first + t) % j->tiles.of_image;
        wino_place(&w[t], WINO_WINDOW, image, i / j->tiles.across * WINO_TILE - j->pad[0],
                   i % j->tiles.across * WINO_TILE - j->pad[1], j->in[0], j->in[1]);
    }
    wino_transform_windows(WINO_WINDOW, v, j->v_step, j->v_chunk, j->most, j->x, &b, j->in[1], 0, j->blocks, w, count,
                           j->norm);
}

/* Asks for the 4x4 pixels `ahead` floats behind y, which may lie anywhere, to be written. */
ALWAYS_INLINE void ask_for_tile(const float *y, int64_t ahead, int64_t pitch)
{
#pragma GCC unroll 4
    for (int i = 0; i < WINO_TILE; i++)
#pragma GCC unroll 4
        for (int k = 0; k < WINO_TILE; k++)
            __builtin_prefetch((const void *)((uintptr_t)y + (uintptr_t)(ahead + i * pitch + k * LANES) * 4), 1, 3);
}

/* One vector of channels, `vector`, of `count` tiles; m: products of the first one. */
static void store_results(const job *j, const float *m, int64_t lanes, int64_t vector, int64_t first, int64_t count)
{
    vec bias = vec_load(j->end.bias + vector * LANES);
    int64_t pitch = j->out[1] * LANES;
    for (int64_t t = 0; t < count; t++, m += lanes) {
        int64_t image = (first + t) / j->tiles.of_image, i = (first + t) % j->tiles.of_image;
        int64_t row = i / j->tiles.across * WINO_TILE, col = i % j->tiles.across * WINO_TILE;
        int64_t rows = min_of(WINO_TILE, j->out[0] - row), cols = min_of(WINO_TILE, j->out[1] - col);
        float *y = j->y + ((image * j->vectors + vector) * j->out[0] + row) * pitch + col * LANES;
        ask_for_tile(y, 4 * WINO_TILE * LANES, pitch);
        if (rows == WINO_TILE && cols == WINO_TILE)
            result_full(y, &j->end, bias, pitch, m, j->m_step);
        else
            result_edge(y, &j->end, bias, pitch, m, j->m_step, rows, cols);
    }
}

static void run_task(const job *j, int64_t task, int thread)
{
    int64_t first = task / j->parts * j->batch, count = min_of(j->batch, j->tiles.count - first), part = task % j->parts;
    float *v = j->work + thread * j->thread_size, *m = v + WINO_POINTS * j->v_step;
    transform_data(j, v, j->windows + thread * j->batch, first, count);
    int64_t begin = part * j->groups / j->parts, end = (part + 1) * j->groups / j->parts;
    for (int64_t p = 0; p < WINO_POINTS; p++)
        for (int64_t g = begin; g < end; g++) {
            int64_t vectors = group_vectors(j, g), panel = j->reduce * vectors * LANES;
            const float *u = j->u + p * j->u_step + g * GROUP_VECTORS * LANES * j->reduce;
            float *to = m + p * j->m_step + (g - begin) * GROUP_VECTORS * j->batch * LANES;
            for (int64_t t = 0; t < count; t += j->most) {
                wino_product w = {.m = to + t * vectors * LANES, .v = v + p * j->v_step + t / j->most * j->v_chunk, .u = u,
                                  .channels = j->reduce, .pitch = j->most * LANES, .pieces = 1, .stretch = j->blocks,
                                  .next = u + panel + min_of(t / j->most * j->reduce * LINE, panel)}; /* the next group's weights */
                multiplies[vectors][min_of(j->most, count - t)](&w);
            }
        }
    for (int64_t g = begin; g < end; g++)
        for (int64_t k = 0; k < group_vectors(j, g); k++)
            store_results(j, m + ((g - begin) * GROUP_VECTORS * j->batch + k) * LANES, group_vectors(j, g) * LANES,
                          g * GROUP_VECTORS + k, first, count);
}

static double job_cost(const job *j)
{
    int64_t full = j->tiles.count / j->most, rest = j->tiles.count % j->most;
    double steps = 0, tiles = (double)j->tiles.count, channels = (double)j->reduce;
    for (int64_t g = 0; g < j->groups; g++) {
        double V = (double)min_of(GROUP_VECTORS, j->vectors - g * GROUP_VECTORS), most = (double)j->most;
        steps += (double)full * wino_step_cost(most + V, most * V);
        steps += rest ? wino_step_cost((double)rest + V, (double)rest * V) : 0;
    }
    return WINO_POINTS * channels * steps * 1.1 + tiles * (double)j->blocks * WINO_CYCLES_WINDOW +
           wino_memory_cost(WINO_POINTS * j->u_step, 1 + (double)j->batches) +
           tiles * (double)j->vectors * WINO_CYCLES_RESULT + channels * (double)j->vectors * WINO_CYCLES_WEIGHT;
}

static void run(job *j, const kernel_args *a)
{
    carve_job(j, a, a->work);
    if (j->norm)
        list_norms(a, NORM_OF_CONV, j->norm);
    j->x = a->in[0].data;
    j->weight = a->in[1].data;
    j->y = a->out[0].data;
    conv_pack_bias(a->n_in > 2 ? a->in[2].data : NULL, 1, j->produce, j->bias);
    j->end.bias = j->bias;
    j->end.y = j->y;
    if (j->tiles.count == 0)
        return;
#pragma omp parallel num_threads(a->threads)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < (j->u_made ? j->vectors * j->blocks : 0); i++)
            transform_weights(j, i / j->blocks, i % j->blocks);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < j->batches * j->parts; i++)
            run_task(j, i, omp_get_thread_num());
    }
}

static size_t prepared_size(const job *j, const kernel_args *a)
{
    return a->in[1].data ? (size_t)(WINO_POINTS * j->u_step) * sizeof *j->u : 0;
}
static void prepare(job *j, const kernel_args *a, void *to)
{
    j->weight = a->in[1].data;
    j->u_made = to;
    for (int64_t i = 0; i < j->vectors * j->blocks; i++)
        transform_weights(j, i / j->blocks, i % j->blocks);
}

#include "kernels/cpu/conv_launch.h"

KERNEL_TABLE(conv_winograd) = {
    {OP_CONV, REAL_DTYPE, REAL_ISA, "conv_winograd", conv, conv_workspace, conv_takes, "winograd",
     .blocked_in = 1u << 0 | 1u << 3, .blocked_out = 1, .cost = conv_cost, .prepared = conv_prepared,
     .prepare = conv_prepare, .packed_in = 1 << 1},
    {OP_NORM_CONV, REAL_DTYPE, REAL_ISA, "conv_winograd, norm", conv, conv_workspace, conv_takes, "winograd",
     .blocked_in = 1u << 0 | 1u << 3, .blocked_out = 1, .cost = conv_cost, .prepared = conv_prepared,
     .prepare = conv_prepare, .packed_in = 1 << 1},
    {OP_CONV_GRAD_DATA, REAL_DTYPE, REAL_ISA, "conv_grad_data_winograd", conv_data, conv_data_workspace,
     conv_data_takes, "winograd", .blocked_in = 1, .blocked_out = 1, .cost = conv_data_cost,
     .prepared = conv_data_prepared, .prepare = conv_data_prepare, .packed_in = 1 << 1},
    KERNEL_END};
