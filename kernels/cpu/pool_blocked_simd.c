/* pool_blocked_simd.c - pools and spatial means of blocked tensors, a vector of channels at a time.
 *
 * A plane of a block of channels belongs to one thread: every result is one sum in a fixed order. */
#include "kernels/cpu/blocked.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/pool.h"

#include <math.h>

/* for every plane of a block of channels, over the threads */
#define EACH_PLANE(p, b) PARALLEL_FOR(p, (b).images *(b).blocks, a->threads, (b).images *(b).blocks *(b).pixels *LANES)

static bool takes_spatial(const kernel_args *a)
{
    return a->in[0].sh.rank <= 5 && a->n_out == 1;
}

/* for every tap of window o inside the data: `at`, where it lies */
#define EACH_TAP(s, w, at)                                                                                        \
    for (int64_t d_ = (w).tap[0].begin; d_ < (w).tap[0].end; d_++)                                                \
        for (int64_t h_ = (w).tap[1].begin; h_ < (w).tap[1].end; h_++)                                            \
            for (int64_t c_ = (w).tap[2].begin, at = window_index(s, &(w), d_, h_, c_) * LANES; c_ < (w).tap[2].end; \
                 c_++, at += (s)->dilation[2] * LANES)

/* The larger, lane by lane; NaN is largest. */
ALWAYS_INLINE vec larger(vec best, vec x)
{
    vec_int keep = (x <= best) | (best != best);
    return (vec)(((vec_int)best & keep) | ((vec_int)x & ~keep));
}

/* Window `col` of the row that w is of; whether all its taps are inside. */
ALWAYS_INLINE bool move_window(const spatial *s, int64_t col, pool_window *w)
{
    int64_t start = col * s->stride[2] - s->pad[2];
    bool inside = start >= 0 && start + (s->kernel[2] - 1) * s->dilation[2] < s->in[2];
    w->start[2] = start;
    w->tap[2] = inside ? (range){0, s->kernel[2]} : taps_of_window(s, 2, col);
    return inside && w->tap[1].end - w->tap[1].begin == s->kernel[1];
}

static bool is_square(const spatial *s, int64_t side)
{
    return s->kernel[0] == 1 && s->kernel[1] == side && s->kernel[2] == side && s->dilation[1] == 1 && s->dilation[2] == 1;
}

/* Of H * W neighbours, `pitch` floats from row to row. */
ALWAYS_INLINE vec largest(const int64_t H, const int64_t W, const float *x, int64_t pitch)
{
    vec best = vec_load(x);
#pragma GCC unroll 4
    for (int64_t h = 0; h < H; h++)
#pragma GCC unroll 4
        for (int64_t w = h ? 0 : 1; w < W; w++)
            best = larger(best, vec_load(x + h * pitch + w * LANES));
    return best;
}

/* What of `left` goes to v, and goes from it: v is the first of the largest. */
ALWAYS_INLINE vec taken(vec v, vec best, vec *left)
{
    vec_int hit = (v == best) | ((v != v) & (best != best));
    vec part = (vec)((vec_int)*left & hit);
    *left = (vec)((vec_int)*left & ~hit);
    return part;
}

/* dx += dy at the first of the largest of H * W neighbours. */
ALWAYS_INLINE void add_taken(const int64_t H, const int64_t W, const float *x, vec dy, float *dx, int64_t pitch)
{
    vec best = largest(H, W, x, pitch);
#pragma GCC unroll 4
    for (int64_t h = 0; h < H; h++)
#pragma GCC unroll 4
        for (int64_t w = 0; w < W; w++) {
            int64_t at = h * pitch + w * LANES;
            vec_store(dx + at, vec_load(dx + at) + taken(vec_load(x + at), best, &dy));
        }
}

/* Windows that lie beside each other, all inside the data: the usual pool. */
static bool are_tiles(const spatial *s)
{
    for (int i = 0; i < 3; i++)
        if (s->pad[i] || s->dilation[i] != 1 || s->stride[i] != s->kernel[i] || s->out[i] * s->stride[i] > s->in[i])
            return false;
    return s->in[0] == 1;
}

ALWAYS_INLINE void max_tiles(const spatial *s, const int64_t H, const int64_t W, const float *x, float *y)
{
    for (int64_t row = 0; row < s->out[1]; row++, x += H * s->in[2] * LANES)
        for (int64_t col = 0; col < s->out[2]; col++, y += LANES)
            vec_store(y, largest(H, W, x + col * W * LANES, s->in[2] * LANES));
}

/* The gradient of tiles: every element is written once, those of no tile are zeros. */
ALWAYS_INLINE void max_tiles_grad(const spatial *s, const int64_t H, const int64_t W, const float *dy, const float *x, float *dx)
{
    int64_t pitch = s->in[2] * LANES, rest = (s->in[2] - s->out[2] * W) * LANES;
    for (int64_t row = 0; row < s->out[1]; row++, x += H * pitch, dx += H * pitch) {
        for (int64_t col = 0; col < s->out[2]; col++, dy += LANES) {
            const float *p = x + col * W * LANES;
            float *to = dx + col * W * LANES;
            vec best = largest(H, W, p, pitch), left = vec_load(dy);
#pragma GCC unroll 4
            for (int64_t h = 0; h < H; h++)
#pragma GCC unroll 4
                for (int64_t w = 0; w < W; w++)
                    vec_store(to + h * pitch + w * LANES, taken(vec_load(p + h * pitch + w * LANES), best, &left));
        }
        for (int64_t h = 0; rest && h < H; h++)
            memset(dx + (h + 1) * pitch - rest, 0, (size_t)rest * sizeof *dx);
    }
    memset(dx, 0, (size_t)((s->in[1] - s->out[1] * H) * pitch) * sizeof *dx);
}

static void max_pool(const kernel_args *a)
{
    spatial s = pool_spatial(a->attr, &a->in[0].sh, &a->out[0].sh);
    blocked b = blocked_of(&a->in[0].sh);
    int64_t out = spatial_out(&s), full = b.channels % LANES;
    bool tiles = are_tiles(&s), pairs = tiles && is_square(&s, 2), square = is_square(&s, 3);
    EACH_PLANE(p, b)
    {
        const float *x = (const float *)a->in[0].data + p * b.pixels * LANES;
        float *y = (float *)a->out[0].data + p * out * LANES;
        if (pairs)
            max_tiles(&s, 2, 2, x, y);
        else if (tiles)
            max_tiles(&s, s.kernel[1], s.kernel[2], x, y);
        pool_window w;
        for (int64_t o = 0, col = 0; o < out && !tiles; o++, col = col + 1 < s.out[2] ? col + 1 : 0) {
            vec best = vec_set(-INFINITY);
            if (col == 0)
                window_at(&s, o, false, &w);
            if (move_window(&s, col, &w) && square)
                best = largest(3, 3, x + window_index(&s, &w, 0, 0, 0) * LANES, s.in[2] * LANES);
            else
                EACH_TAP(&s, w, at)
                best = larger(best, vec_load(x + at));
            vec_store(y + o * LANES, best);
            for (int64_t l = full; full && p % b.blocks == b.blocks - 1 && l < LANES; l++)
                y[o * LANES + l] = 0; /* a window without a tap */
        }
    }
}

/* dy, x -> dx: to the first of the largest. */
static void max_pool_grad(const kernel_args *a)
{
    spatial s = pool_spatial(a->attr, &a->in[1].sh, &a->in[0].sh);
    blocked b = blocked_of(&a->in[1].sh);
    int64_t out = spatial_out(&s);
    bool tiles = are_tiles(&s), pairs = tiles && is_square(&s, 2), square = is_square(&s, 3);
    EACH_PLANE(p, b)
    {
        const float *dy = (const float *)a->in[0].data + p * out * LANES;
        const float *x = (const float *)a->in[1].data + p * b.pixels * LANES;
        float *dx = (float *)a->out[0].data + p * b.pixels * LANES;
        if (pairs)
            max_tiles_grad(&s, 2, 2, dy, x, dx);
        else if (tiles)
            max_tiles_grad(&s, s.kernel[1], s.kernel[2], dy, x, dx);
        else
            memset(dx, 0, (size_t)(b.pixels * LANES) * sizeof *dx);
        pool_window w;
        for (int64_t o = 0, col = 0; o < out && !tiles; o++, col = col + 1 < s.out[2] ? col + 1 : 0) {
            vec best = vec_set(-INFINITY), left = vec_load(dy + o * LANES);
            if (col == 0)
                window_at(&s, o, false, &w);
            if (move_window(&s, col, &w) && square) {
                int64_t at = window_index(&s, &w, 0, 0, 0) * LANES;
                add_taken(3, 3, x + at, left, dx + at, s.in[2] * LANES);
                continue;
            }
            EACH_TAP(&s, w, at)
            best = larger(best, vec_load(x + at));
            EACH_TAP(&s, w, at)
            vec_store(dx + at, vec_load(dx + at) + taken(vec_load(x + at), best, &left));
        }
    }
}

static int64_t divisor(const kernel_args *a, const pool_window *w, const spatial *s, int64_t o)
{
    pool_window all = *w;
    if (((const pool_attrs *)a->attr)->count_include_pad)
        window_at(s, o, true, &all);
    return all.count ? all.count : 1;
}

static void average_pool(const kernel_args *a)
{
    spatial s = pool_spatial(a->attr, &a->in[0].sh, &a->out[0].sh);
    blocked b = blocked_of(&a->in[0].sh);
    int64_t out = spatial_out(&s);
    EACH_PLANE(p, b)
    {
        const float *x = (const float *)a->in[0].data + p * b.pixels * LANES;
        float *y = (float *)a->out[0].data + p * out * LANES;
        for (int64_t o = 0; o < out; o++) {
            pool_window w;
            vec sum = vec_set(0);
            window_at(&s, o, false, &w);
            EACH_TAP(&s, w, at)
            sum += vec_load(x + at);
            vec_store(y + o * LANES, sum * vec_set(1 / (float)divisor(a, &w, &s, o)));
        }
    }
}

/* dy -> dx: dy / count is spread over each window. */
static void average_pool_grad(const kernel_args *a)
{
    spatial s = pool_spatial(a->attr, &a->out[0].sh, &a->in[0].sh);
    blocked b = blocked_of(&a->out[0].sh);
    int64_t out = spatial_out(&s);
    EACH_PLANE(p, b)
    {
        const float *dy = (const float *)a->in[0].data + p * out * LANES;
        float *dx = (float *)a->out[0].data + p * b.pixels * LANES;
        memset(dx, 0, (size_t)(b.pixels * LANES) * sizeof *dx);
        for (int64_t o = 0; o < out; o++) {
            pool_window w;
            window_at(&s, o, false, &w);
            vec each = vec_load(dy + o * LANES) * vec_set(1 / (float)divisor(a, &w, &s, o));
            EACH_TAP(&s, w, at)
            vec_store(dx + at, vec_load(dx + at) + each);
        }
    }
}

/* ---- over all spatial axes: blocked x -> plain y [N, C] or [N, C, 1, ...] ---- */

static void spatial_mean(const kernel_args *a)
{
    blocked b = blocked_of(&a->in[0].sh);
    float *y = a->out[0].data;
    EACH_PLANE(p, b)
    {
        const float *x = (const float *)a->in[0].data + p * b.pixels * LANES;
        vec s0 = vec_set(0), s1 = s0, s2 = s0, s3 = s0;
        int64_t i = 0;
        for (; i + 4 <= b.pixels; i += 4) {
            s0 += vec_load(x + i * LANES);
            s1 += vec_load(x + (i + 1) * LANES);
            s2 += vec_load(x + (i + 2) * LANES);
            s3 += vec_load(x + (i + 3) * LANES);
        }
        for (; i < b.pixels; i++)
            s0 += vec_load(x + i * LANES);
        store_channels(y + p / b.blocks * b.channels, p % b.blocks, b.channels,
                       (s0 + s1 + (s2 + s3)) / vec_set((float)b.pixels));
    }
}

static void global_max_pool(const kernel_args *a)
{
    blocked b = blocked_of(&a->in[0].sh);
    float *y = a->out[0].data;
    EACH_PLANE(p, b)
    {
        const float *x = (const float *)a->in[0].data + p * b.pixels * LANES;
        vec best = vec_load(x);
        for (int64_t i = 1; i < b.pixels; i++)
            best = larger(best, vec_load(x + i * LANES));
        store_channels(y + p / b.blocks * b.channels, p % b.blocks, b.channels, best);
    }
}

/* ReduceMean over just the spatial axes. */
static bool is_spatial_mean(const kernel_args *a)
{
    const reduce_attrs *at = a->attr;
    int rank = a->in[0].sh.rank;
    uint32_t mask = 0;
    for (int64_t i = 0; i < at->axes.n; i++)
        mask |= 1u << (at->axes.v[i] < 0 ? at->axes.v[i] + rank : at->axes.v[i]);
    return rank >= 3 && mask == ((1u << rank) - 1) - 3 && shape_count(&a->in[0].sh) > 0;
}

/* Expand of plain x [N, C, 1, ...] over the spatial axes. */
static bool spreads_over_pixels(const kernel_args *a)
{
    const shape *x = &a->in[0].sh, *y = &a->out[0].sh;
    bool one = x->rank == y->rank && y->rank >= 3 && x->dim[0] == y->dim[0] && x->dim[1] == y->dim[1];
    for (int i = 2; one && i < x->rank; i++)
        one = x->dim[i] == 1;
    return one;
}
static void spread(const kernel_args *a)
{
    blocked b = blocked_of(&a->out[0].sh);
    const float *x = a->in[0].data;
    EACH_PLANE(p, b)
    {
        vec v = load_channels(x + p / b.blocks * b.channels, p % b.blocks, b.channels);
        float *y = (float *)a->out[0].data + p * b.pixels * LANES;
        for (int64_t i = 0; i < b.pixels; i++)
            vec_store(y + i * LANES, v);
    }
}

#define BOTH .blocked_in = 1, .blocked_out = 1
KERNEL_TABLE(pool_blocked) = {
    {OP_MAX_POOL, REAL_DTYPE, REAL_ISA, "max_pool_blocked", max_pool, NULL, takes_spatial, BOTH},
    {OP_MAX_POOL_GRAD, REAL_DTYPE, REAL_ISA, "max_pool_grad_blocked", max_pool_grad, NULL, takes_spatial,
     .blocked_in = 3, .blocked_out = 1},
    {OP_AVERAGE_POOL, REAL_DTYPE, REAL_ISA, "average_pool_blocked", average_pool, NULL, takes_spatial, BOTH},
    {OP_AVERAGE_POOL_GRAD, REAL_DTYPE, REAL_ISA, "average_pool_grad_blocked", average_pool_grad, NULL, takes_spatial, BOTH},
    {OP_GLOBAL_AVERAGE_POOL, REAL_DTYPE, REAL_ISA, "global_average_pool_blocked", spatial_mean, .blocked_in = 1},
    {OP_GLOBAL_MAX_POOL, REAL_DTYPE, REAL_ISA, "global_max_pool_blocked", global_max_pool, .blocked_in = 1},
    {OP_REDUCE_MEAN, REAL_DTYPE, REAL_ISA, "spatial_mean_blocked", spatial_mean, NULL, is_spatial_mean, .blocked_in = 1},
    {OP_EXPAND, REAL_DTYPE, REAL_ISA, "spread_blocked", spread, NULL, spreads_over_pixels, .blocked_out = 1},
    KERNEL_END};
