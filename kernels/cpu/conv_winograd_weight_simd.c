/* conv_winograd_weight_simd.c - ConvGradWeight of 3x3 kernels with stride 1 on blocked maps, by Winograd (winograd.h).
 *
 * The tiles (of dy) fall into shares. A share goes through its tiles in batches: data and gradients are transformed, and 36
 * products over the tiles of the batch are added to the share's sums. At the end the shares are added in order and
 * transformed back. Where there are few shares the output channels are cut into parts too. Shares and batches depend on the
 * shapes alone: threads change no result. */
#include "kernels/cpu/winograd.h"

#include <math.h>

enum {
    GROUP_VECTORS = 2,                 /* of output channels in the innermost kernel */
    MOST_CHANNELS = LANES == 16 ? 8 : 4, /* of data there; divides LANES */
    SHARES_MOST = 16,
    SHARES_BYTES = 8 << 20,  /* of sums, when there are several shares */
    SHARE_TILES = 128,       /* at least */
    FEWEST_TASKS = 8,        /* below that the output channels are cut into parts */
    PART_GROUPS = 2,         /* at least, of a part */
    BATCH_BYTES = 384 * 1024, /* of transformed data and gradients */
    BATCH_TILES = 32          /* at least */
};

typedef struct job {
    spatial s;
    wino_tiles tiles;
    int64_t blocks, vectors, groups; /* blocks of data channels, vectors of output channels, groups of vectors */
    int64_t shares, parts, batch;
    int64_t v_step, y_step, sum_step; /* floats from one point to the next */
    int64_t sum_size, thread_size;    /* floats of a share, of a thread */
    float *sums; /* [share][point][group][channel][vectors of the group * LANES] */
    float *work; /* of a thread: V [point][block][tile][LANES], Y [point][vector][tile][LANES] */
    conv_norm *norm;      /* [blocks]; NULL: none */
    wino_window *windows; /* of a thread: [tile] of data, [tile] of gradients */
    const float *x, *dy;
    float *dw;
} job;

static bool plan(job *j, const kernel_args *a)
{
    const conv_attrs *at = a->attr;
    const shape *x = &a->in[0].sh, *y = &a->in[1].sh;
    *j = (job){0};
    if (!wino_takes(at, x, y))
        return false;
    j->s = conv_spatial(at, x, y);
    j->tiles = wino_tiles_of(j->s.n, j->s.out[1], j->s.out[2]);
    j->blocks = (j->s.channels + LANES - 1) / LANES;
    j->vectors = (j->s.outputs + LANES - 1) / LANES;
    j->groups = (j->vectors + GROUP_VECTORS - 1) / GROUP_VECTORS;
    j->sum_step = j->s.channels * j->vectors * LANES + LANES;
    j->sum_size = WINO_POINTS * j->sum_step;
    int64_t by_bytes = SHARES_BYTES / (j->sum_size * (int64_t)sizeof(float));
    int64_t most = min_of(min_of(by_bytes, SHARES_MOST), j->tiles.count / SHARE_TILES);
    for (j->shares = 1; j->shares * 2 <= most;) /* a power of two: threads often are */
        j->shares *= 2;
    j->parts = max_of(1, min_of((FEWEST_TASKS + j->shares - 1) / j->shares, j->groups / PART_GROUPS));
    int64_t vectors = (j->groups + j->parts - 1) / j->parts * GROUP_VECTORS;
    int64_t tile_bytes = WINO_POINTS * (j->blocks + vectors) * LANES * (int64_t)sizeof(float);
    j->batch = max_of(1, min_of(max_of(BATCH_TILES, BATCH_BYTES / tile_bytes), (j->tiles.count + j->shares - 1) / j->shares));
    j->v_step = j->blocks * j->batch * LANES + LANES;
    j->y_step = vectors * j->batch * LANES + LANES;
    j->thread_size = round_up(WINO_POINTS * (j->v_step + j->y_step), 16);
    return true;
}

static size_t carve_job(job *j, const kernel_args *a, void *work)
{
    carver c = {.base = work};
    int threads = a->threads;
    j->norm = has_norm(a, NORM_OF_WEIGHT) ? carve(&c, j->blocks, sizeof *j->norm) : NULL;
    j->sums = carve(&c, j->shares * j->sum_size, sizeof *j->sums);
    j->work = carve(&c, j->thread_size * max_of(1, threads), sizeof *j->work);
    j->windows = carve(&c, 2 * j->batch * max_of(1, threads), sizeof *j->windows);
    return c.used;
}

static int64_t group_vectors(const job *j, int64_t group)
{
    return min_of(GROUP_VECTORS, j->vectors - group * GROUP_VECTORS);
}

/* ---- the products ---- */

/* sum[c][k] = (add ? sum[c][k] : 0) + sum over t of v[t][c] * y[k][t] for E channels and V vectors k, `pitch` floats from
 * one vector of y to the next. */
typedef void outer_fn(float *sum, const float *v, const float *y, int64_t tiles, int64_t pitch, bool add);

ALWAYS_INLINE void outer_body(const int V, const int E, float *sum, const float *v, const float *y, int64_t tiles,
                              int64_t pitch, bool add)
{
    vec acc[REGISTERS];
#pragma GCC unroll 16
    for (int i = 0; i < E * V; i++)
        acc[i] = add ? vec_load(sum + i * LANES) : vec_set(0);
#pragma GCC unroll 16
    for (int i = 0; i < E * V; i++) /* the next channels' sums */
        __builtin_prefetch(sum + (E * V + i) * LANES, 1, 3);
    for (int64_t t = 0; t < tiles; t++) {
        vec d[GROUP_VECTORS];
#pragma GCC unroll 2
        for (int k = 0; k < V; k++)
            d[k] = vec_load(y + k * pitch + t * LANES);
#pragma GCC unroll 8
        for (int e = 0; e < E; e++)
#pragma GCC unroll 2
            for (int k = 0; k < V; k++)
                acc[e * V + k] += d[k] * vec_set(v[t * LANES + e]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < E * V; i++)
        vec_store(sum + i * LANES, acc[i]);
}

/* X(V, E) */
#define OUTERS_4(X) X(1, 1) X(1, 2) X(1, 3) X(1, 4) X(2, 1) X(2, 2) X(2, 3) X(2, 4)
#if LANES == 16
#define OUTERS(X) OUTERS_4(X) X(1, 5) X(1, 6) X(1, 7) X(1, 8) X(2, 5) X(2, 6) X(2, 7) X(2, 8)
#else
#define OUTERS(X) OUTERS_4(X)
#endif
#define OUTER_DEFINE(V, E)                                                                                        \
    static void outer_##V##_##E(float *sum, const float *v, const float *y, int64_t tiles, int64_t pitch, bool add) \
    {                                                                                                             \
        outer_body(V, E, sum, v, y, tiles, pitch, add);                                                           \
    }
OUTERS(OUTER_DEFINE)
#define OUTER_ROW(V, E) [V][E] = outer_##V##_##E,
static outer_fn *const outers[GROUP_VECTORS + 1][MOST_CHANNELS + 1] = {OUTERS(OUTER_ROW)};

/* ---- tasks ---- */

/* Windows of tiles first to first + count - 1: data, and gradients of vectors [begin, end). */
static void transform(const job *j, float *v, float *y, wino_window *w, int64_t first, int64_t count, int64_t begin,
                      int64_t end)
{
    const spatial *s = &j->s;
    blocked x = {.blocks = j->blocks, .pixels = s->in[1] * s->in[2]};
    blocked d = {.blocks = j->vectors, .pixels = s->out[1] * s->out[2]};
    for (int64_t i = 0; i < count; i++) {
        int64_t image = (first + i) / j->tiles.of_image, at = (first + i) % j->tiles.of_image;
        int64_t row = at / j->tiles.across * WINO_TILE, col = at % j->tiles.across * WINO_TILE;
        wino_place(&w[i], WINO_WINDOW, image, row - s->pad[1], col - s->pad[2], s->in[1], s->in[2]);
        wino_place(&w[j->batch + i], WINO_TILE, image, row, col, s->out[1], s->out[2]);
    }
    wino_transform_windows(WINO_WINDOW, v, j->v_step, 0, j->batch, j->x, &x, s->in[2], 0, j->blocks, w, count,
                           j->norm);
    wino_transform_windows(WINO_TILE, y, j->y_step, 0, j->batch, j->dy, &d, s->out[2], begin, end, w + j->batch, count,
                           NULL);
}

/* Adds the products of `tiles` transformed tiles to the sums of groups [begin, end). */
static void add_products(const job *j, float *sums, const float *v, const float *y, int64_t tiles, int64_t begin,
                         int64_t end, bool add)
{
    int64_t pitch = j->batch * LANES;
    for (int64_t p = 0; p < WINO_POINTS; p++)
        for (int64_t g = begin; g < end; g++) {
            int64_t V = group_vectors(j, g);
            float *sum = sums + p * j->sum_step + g * GROUP_VECTORS * LANES * j->s.channels;
            for (int64_t c = 0; c < j->s.channels; c += MOST_CHANNELS)
                outers[V][min_of(MOST_CHANNELS, j->s.channels - c)](
                    sum + c * V * LANES, v + p * j->v_step + c / LANES * pitch + c % LANES,
                    y + p * j->y_step + (g - begin) * GROUP_VECTORS * pitch, tiles, pitch, add);
        }
}

static void run_task(const job *j, int64_t share, int64_t part, int thread)
{
    int64_t first = share * j->tiles.count / j->shares, last = (share + 1) * j->tiles.count / j->shares;
    int64_t begin = part * j->groups / j->parts, end = (part + 1) * j->groups / j->parts;
    float *v = j->work + thread * j->thread_size, *y = v + WINO_POINTS * j->v_step, *sums = j->sums + share * j->sum_size;
    for (int64_t at = first; at < last; at += j->batch) {
        int64_t count = min_of(j->batch, last - at);
        transform(j, v, y, j->windows + thread * 2 * j->batch, at, count, begin * GROUP_VECTORS,
                  min_of(end * GROUP_VECTORS, j->vectors));
        add_products(j, sums, v, y, count, begin, end, at > first);
    }
}

/* dw of one vector of output channels and one block of data channels: G^T (sum of the shares) G. */
static void add_shares(const job *j, int64_t vector, int64_t block)
{
    int64_t group = vector / GROUP_VECTORS, lanes = group_vectors(j, group) * LANES;
    int64_t count = min_of(LANES, j->s.channels - block * LANES);
    const float *from = j->sums + group * GROUP_VECTORS * LANES * j->s.channels + vector % GROUP_VECTORS * LANES +
                        block * LANES * lanes;
    vec w[LANES * WINO_TAPS];
    for (int64_t c = 0; c < count; c++, from += lanes) {
        vec r[3][6];
#pragma GCC unroll 6
        for (int k = 0; k < 6; k++) {
            vec column[6], o[3];
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++)
                column[i] = vec_load(from + (i * 6 + k) * j->sum_step);
            for (int64_t share = 1; share < j->shares; share++)
#pragma GCC unroll 6
                for (int i = 0; i < 6; i++)
                    column[i] += vec_load(from + share * j->sum_size + (i * 6 + k) * j->sum_step);
            wino_weight_gradient(o, column);
#pragma GCC unroll 3
            for (int i = 0; i < 3; i++)
                r[i][k] = o[i];
        }
#pragma GCC unroll 3
        for (int i = 0; i < 3; i++)
            wino_weight_gradient(w + c * WINO_TAPS + i * 3, r[i]);
    }
    float *dw = j->dw + (vector * LANES * j->s.channels + block * LANES) * WINO_TAPS;
    for (int64_t e = 0; e < count * WINO_TAPS; e += LANES)
        wino_store_rows(dw + e, w + e, j->s.channels * WINO_TAPS, j->s.outputs - vector * LANES,
                        min_of(LANES, count * WINO_TAPS - e));
}

/* x [N, C, in] blocked, dy [N, M, out] blocked -> dw [M, C, 3, 3] */
static void conv_weight(const kernel_args *a)
{
    job made, *j = &made;
    plan(j, a);
    carve_job(j, a, a->work);
    if (j->norm)
        list_norms(a, NORM_OF_WEIGHT, j->norm);
    j->x = a->in[0].data;
    j->dy = a->in[1].data;
    j->dw = a->out[0].data;
    if (j->tiles.count == 0) {
        memset(j->dw, 0, (size_t)shape_count(&a->out[0].sh) * sizeof *j->dw);
        return;
    }
#pragma omp parallel num_threads(a->threads)
    {
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < j->shares * j->parts; i++)
            run_task(j, i / j->parts, i % j->parts, omp_get_thread_num());
#pragma omp for schedule(static)
        for (int64_t i = 0; i < j->vectors * j->blocks; i++)
            add_shares(j, i / j->blocks, i % j->blocks);
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
    return carve_job(&j, a, NULL);
}
static double conv_weight_cost(const kernel_args *a)
{
    job made, *j = &made;
    plan(j, a);
    double tiles = (double)j->tiles.count, channels = (double)j->s.channels, steps = 0;
    for (int64_t g = 0; g < j->groups; g++) {
        double V = (double)group_vectors(j, g), most = (double)min_of(MOST_CHANNELS, j->s.channels);
        steps += wino_step_cost(most + V, most * V) * ceil(channels / most);
    }
    return WINO_POINTS * tiles * steps * 1.2 +
           tiles * ((double)(j->parts * j->blocks) * WINO_CYCLES_WINDOW + (double)j->vectors * WINO_CYCLES_RESULT) +
           channels * (double)j->vectors * ((double)j->shares * 30 + WINO_CYCLES_WEIGHT) +
           wino_memory_cost(j->sum_size, 2 * (double)((j->tiles.count + j->batch - 1) / j->batch));
}

KERNEL_TABLE(conv_winograd_weight) = {
    {OP_CONV_GRAD_WEIGHT, REAL_DTYPE, REAL_ISA, "conv_grad_weight_winograd", conv_weight, conv_weight_workspace,
     conv_weight_takes, "winograd", .blocked_in = 1u << 0 | 1u << 1, .cost = conv_weight_cost},
    {OP_NORM_CONV_GRAD_WEIGHT, REAL_DTYPE, REAL_ISA, "conv_grad_weight_winograd, norm", conv_weight, conv_weight_workspace,
     conv_weight_takes, "winograd", .blocked_in = 1u << 0 | 1u << 1, .cost = conv_weight_cost},
    KERNEL_END};
