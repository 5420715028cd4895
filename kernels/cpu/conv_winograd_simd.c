/* conv_winograd_simd.c - Conv and ConvGradData of 3x3 kernels with stride 1 on blocked maps, by Winograd's F(4x4, 3x3).
 *
 * The gradient of the data is a convolution too: of dy, with the weights flipped and their channels exchanged. So there is
 * one form: `reduce` channels in, `produce` channels out.
 *
 * The weights are transformed first. Then tasks, each a batch of tiles (of several images where maps are small) and a part
 * of the produced channels: all windows of the batch are transformed; for one or two vectors of produced channels at a time
 * the 36 products fill M, which is transformed back while it is still in the cache, and goes out with bias, residual and
 * ReLU. Every result is one sum in a fixed order: neither threads nor batches change it. */
#include "kernels/cpu/winograd.h"

enum {
    MOST_1 = REGISTERS == 32 ? 16 : 12, /* tiles of the innermost kernel for one and for two vectors of channels */
    MOST_2 = REGISTERS == 32 ? 12 : 6,
    GROUP_VECTORS = 2,
    SMALL_WEIGHTS = 640 * 1024, /* bytes of transformed weights that stay in the second-level cache */
    BATCH_BYTES = 192 * 1024,   /* of transformed data, beside small weights */
    BATCH_TILES = 48,           /* at least, where large weights pass by for every batch */
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
    /* floats: of one point of the weights of a group, of the data of a chunk, of the products of a task; of a thread */
    int64_t u_step, v_step, m_step, v_chunk, thread_size;
    float *u;    /* [group][point][reduce][vectors of the group * LANES] */
    float *work; /* of a thread: V [point][chunk][block][most][LANES], M [point][tile][vectors of the group * LANES] */
    const float *x, *weight, *bias, *residual;
    float *y;
    bool relu;
} job;

/* `x` and `y`: data and windows of the convolution, whatever the direction. */
static bool plan(job *j, const kernel_args *a, const shape *x, const shape *y, bool forward)
{
    const conv_attrs *at = a->attr;
    const shape *from = forward ? x : y, *to = forward ? y : x;
    *j = (job){.forward = forward};
    if (!wino_takes(at, x, y))
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

    int64_t lanes = min_of(j->vectors, GROUP_VECTORS) * LANES, threads = max_of(1, a->threads);
    int64_t tile_bytes = WINO_POINTS * j->blocks * LANES * (int64_t)sizeof(float);
    int64_t weight_bytes = WINO_POINTS * j->reduce * j->vectors * LANES * (int64_t)sizeof(float);
    int64_t wanted = BATCH_BYTES / tile_bytes, share = (j->tiles.count + threads * TASKS_PER_THREAD - 1) / (threads * TASKS_PER_THREAD);
    if (weight_bytes > SMALL_WEIGHTS)
        wanted = max_of(wanted, BATCH_TILES);
    j->batch = max_of(1, min_of(wanted, share) / j->most) * j->most;
    j->batches = (j->tiles.count + j->batch - 1) / j->batch;
    j->parts = j->batches >= threads ? 1 : min_of(j->groups, (threads + j->batches - 1) / max_of(1, j->batches));

    j->u_step = j->reduce * lanes + LANES; /* points at a power of two from each other would fall on the same cache lines */
    j->v_chunk = j->blocks * j->most * LANES;
    j->v_step = j->batch / j->most * j->v_chunk + LANES;
    j->m_step = j->batch * lanes + LANES;
    j->thread_size = round_up(WINO_POINTS * (j->v_step + j->m_step), 16);
    return true;
}

static size_t carve_job(job *j, void *work, int threads)
{
    carver c = {.base = work};
    j->u = carve(&c, j->groups * WINO_POINTS * j->u_step, sizeof *j->u);
    j->work = carve(&c, j->thread_size * max_of(1, threads), sizeof *j->work);
    return c.used;
}

/* ---- weights ---- */

/* The weights of LANES produced channels from `first` on and of reduced channel c; zeros beyond the last channel. */
static void load_weights(const job *j, vec g[WINO_TAPS], int64_t first, int64_t c)
{
    float lanes[WINO_TAPS][LANES] = {{0}};
    int64_t count = min_of(LANES, j->produce - first);
    int64_t produce = (j->forward ? j->reduce : 1) * WINO_TAPS, reduce = (j->forward ? 1 : j->produce) * WINO_TAPS;
    const float *w = j->weight + first * produce + c * reduce;
    for (int64_t i = 0; i < count; i++, w += produce)
        for (int k = 0; k < WINO_TAPS; k++)
            lanes[j->forward ? k : WINO_TAPS - 1 - k][i] = w[k];
    for (int k = 0; k < WINO_TAPS; k++)
        g[k] = vec_load(lanes[k]);
}

/* G g G^T of one vector of produced channels and all reduced ones. */
static void transform_weights(const job *j, int64_t vector)
{
    int64_t group = vector / GROUP_VECTORS, lanes = min_of(GROUP_VECTORS, j->vectors - group * GROUP_VECTORS) * LANES;
    float *to = j->u + group * WINO_POINTS * j->u_step + vector % GROUP_VECTORS * LANES;
    for (int64_t c = 0; c < j->reduce; c++, to += lanes) {
        vec g[WINO_TAPS], r[6][3];
        load_weights(j, g, vector * LANES, c);
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

/* ---- the products ---- */

/* m[t][k] = sum over c of v[c / LANES][t][c % LANES] * u[c][k] for T tiles and V vectors of channels; a block of v is
 * `pitch` floats. */
typedef void multiply_fn(float *m, const float *v, const float *u, int64_t channels, int64_t pitch);

ALWAYS_INLINE void multiply_body(const int V, const int T, float *m, const float *v, const float *u, int64_t channels,
                                 int64_t pitch)
{
    vec acc[REGISTERS];
#pragma GCC unroll 32
    for (int i = 0; i < T * V; i++)
        acc[i] = vec_set(0);
    for (; channels > 0; channels -= LANES, v += pitch) {
        int64_t count = min_of(LANES, channels);
        for (int64_t c = 0; c < count; c++, u += V * LANES) {
            vec w[GROUP_VECTORS];
#pragma GCC unroll 2
            for (int k = 0; k < V; k++)
                w[k] = vec_load(u + k * LANES);
#pragma GCC unroll 16
            for (int t = 0; t < T; t++)
#pragma GCC unroll 2
                for (int k = 0; k < V; k++)
                    acc[t * V + k] += w[k] * vec_set(v[t * LANES + c]);
        }
    }
#pragma GCC unroll 32
    for (int i = 0; i < T * V; i++)
        vec_store(m + i * LANES, acc[i]);
}

/* X(V, T) */
#define MULTIPLIES_6(X) X(1, 1) X(1, 2) X(1, 3) X(1, 4) X(1, 5) X(1, 6) X(2, 1) X(2, 2) X(2, 3) X(2, 4) X(2, 5) X(2, 6)
#define MULTIPLIES_12(X) MULTIPLIES_6(X) X(1, 7) X(1, 8) X(1, 9) X(1, 10) X(1, 11) X(1, 12)
#if REGISTERS == 32
#define MULTIPLIES(X)                                                                                             \
    MULTIPLIES_12(X) X(1, 13) X(1, 14) X(1, 15) X(1, 16) X(2, 7) X(2, 8) X(2, 9) X(2, 10) X(2, 11) X(2, 12)
#else
#define MULTIPLIES(X) MULTIPLIES_12(X)
#endif
#define MULTIPLY_DEFINE(V, T)                                                                                     \
    static void multiply_##V##_##T(float *m, const float *v, const float *u, int64_t channels, int64_t pitch)     \
    {                                                                                                             \
        multiply_body(V, T, m, v, u, channels, pitch);                                                            \
    }
MULTIPLIES(MULTIPLY_DEFINE)
#define MULTIPLY_ROW(V, T) [V][T] = multiply_##V##_##T,
static multiply_fn *const multiplies[GROUP_VECTORS + 1][MOST_1 + 1] = {MULTIPLIES(MULTIPLY_ROW)};

/* ---- results ---- */

/* What happens to a result on its way out. */
typedef struct epilogue {
    vec bias;
    const float *residual; /* beside the result; NULL: none */
    bool relu;
} epilogue;

/* `count` results of a row. */
ALWAYS_INLINE void store_row(float *y, const epilogue *e, int64_t at, const vec q[4], const int64_t count)
{
#pragma GCC unroll 4
    for (int64_t i = 0; i < count; i++) {
        vec r = q[i] + e->bias;
        if (e->residual)
            r += vec_load(e->residual + at + i * LANES);
        vec_store(y + at + i * LANES, e->relu ? vec_relu(r) : r);
    }
}

/* y = A^T m A of one tile and vector of channels; the tile begins at float `at` of y, rows are `pitch` floats apart. */
ALWAYS_INLINE void result_body(float *y, const epilogue *e, int64_t at, int64_t pitch, const float *m, int64_t step,
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
        store_row(y, e, at + i * pitch, q, cols);
    }
}
static void result_full(float *y, const epilogue *e, int64_t at, int64_t pitch, const float *m, int64_t step)
{
    result_body(y, e, at, pitch, m, step, WINO_TILE, WINO_TILE);
}
static void result_edge(float *y, const epilogue *e, int64_t at, int64_t pitch, const float *m, int64_t step,
                        int64_t rows, int64_t cols)
{
    result_body(y, e, at, pitch, m, step, rows, cols);
}

/* ---- tasks ---- */

/* Windows of tiles first to first + count - 1 of the batch; V is [point][chunk]... */
static void transform_chunk(const job *j, float *v, int64_t first, int64_t count)
{
    wino_window w[MOST_1];
    blocked b = {.blocks = j->blocks, .pixels = j->in[0] * j->in[1]};
    for (int64_t t = 0; t < count; t++) {
        int64_t image = (first + t) / j->tiles.of_image, i = (first + t) % j->tiles.of_image;
        wino_place(&w[t], WINO_WINDOW, image, i / j->tiles.across * WINO_TILE - j->pad[0],
                   i % j->tiles.across * WINO_TILE - j->pad[1], j->in[0], j->in[1]);
    }
    wino_transform_windows(wino_data_window, v, j->v_step, j->most, j->x, &b, j->in[1], 0, j->blocks, w, count);
}

/* One vector of channels, `vector`, of `count` tiles; m: products of the first one. */
static void store_results(const job *j, const float *m, int64_t lanes, int64_t vector, int64_t first, int64_t count)
{
    epilogue e = {.bias = j->bias ? load_channels(j->bias, vector, j->produce) : vec_set(0), .residual = j->residual,
                  .relu = j->relu};
    int64_t pitch = j->out[1] * LANES;
    for (int64_t t = 0; t < count; t++, m += lanes) {
        int64_t image = (first + t) / j->tiles.of_image, i = (first + t) % j->tiles.of_image;
        int64_t row = i / j->tiles.across * WINO_TILE, col = i % j->tiles.across * WINO_TILE;
        int64_t rows = min_of(WINO_TILE, j->out[0] - row), cols = min_of(WINO_TILE, j->out[1] - col);
        int64_t at = ((image * j->vectors + vector) * j->out[0] + row) * pitch + col * LANES;
        if (rows == WINO_TILE && cols == WINO_TILE)
            result_full(j->y, &e, at, pitch, m, j->m_step);
        else
            result_edge(j->y, &e, at, pitch, m, j->m_step, rows, cols);
    }
}

static void run_task(const job *j, int64_t task, float *work)
{
    int64_t first = task / j->parts * j->batch, count = min_of(j->batch, j->tiles.count - first), part = task % j->parts;
    float *v = work, *m = work + WINO_POINTS * j->v_step;
    for (int64_t t = 0; t < count; t += j->most)
        transform_chunk(j, v + t / j->most * j->v_chunk, first + t, min_of(j->most, count - t));
    for (int64_t g = part * j->groups / j->parts; g < (part + 1) * j->groups / j->parts; g++) {
        int64_t vectors = min_of(GROUP_VECTORS, j->vectors - g * GROUP_VECTORS), lanes = vectors * LANES;
        for (int64_t p = 0; p < WINO_POINTS; p++)
            for (int64_t t = 0; t < count; t += j->most)
                multiplies[vectors][min_of(j->most, count - t)](
                    m + p * j->m_step + t * lanes, v + p * j->v_step + t / j->most * j->v_chunk,
                    j->u + (g * WINO_POINTS + p) * j->u_step, j->reduce, j->most * LANES);
        for (int64_t k = 0; k < vectors; k++)
            store_results(j, m + k * LANES, lanes, g * GROUP_VECTORS + k, first, count);
    }
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
           tiles * (double)j->vectors * WINO_CYCLES_RESULT + channels * (double)j->vectors * WINO_CYCLES_WEIGHT;
}

static void run(job *j, const kernel_args *a)
{
    carve_job(j, a->work, a->threads);
    j->x = a->in[0].data;
    j->weight = a->in[1].data;
    j->y = a->out[0].data;
    if (j->tiles.count == 0)
        return;
#pragma omp parallel num_threads(a->threads)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < j->vectors; i++)
            transform_weights(j, i);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < j->batches * j->parts; i++)
            run_task(j, i, j->work + omp_get_thread_num() * j->thread_size);
    }
}

/* ---- the rows ---- */

/* x [N, C, in] blocked, w [M, C, 3, 3], bias [M], residual [N, M, out] blocked -> y [N, M, out] blocked */
static bool plan_conv(job *j, const kernel_args *a)
{
    return plan(j, a, &a->in[0].sh, &a->out[0].sh, true);
}
static void conv(const kernel_args *a)
{
    job j;
    plan_conv(&j, a);
    j.bias = a->n_in > 2 ? a->in[2].data : NULL;
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
static double conv_cost(const kernel_args *a)
{
    job j;
    plan_conv(&j, a);
    return job_cost(&j);
}

/* dy [N, M, out] blocked, w [M, C, 3, 3] -> dx [N, C, in] blocked */
static bool plan_data(job *j, const kernel_args *a)
{
    return plan(j, a, &a->out[0].sh, &a->in[0].sh, false);
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
static double conv_data_cost(const kernel_args *a)
{
    job j;
    plan_data(&j, a);
    return job_cost(&j);
}

KERNEL_TABLE(conv_winograd) = {
    {OP_CONV, REAL_DTYPE, REAL_ISA, "conv_winograd", conv, conv_workspace, conv_takes, "winograd",
     .blocked_in = 1u << 0 | 1u << 3, .blocked_out = 1, .cost = conv_cost},
    {OP_CONV_GRAD_DATA, REAL_DTYPE, REAL_ISA, "conv_grad_data_winograd", conv_data, conv_data_workspace,
     conv_data_takes, "winograd", .blocked_in = 1, .blocked_out = 1, .cost = conv_data_cost},
    KERNEL_END};
