/* tile.h - the innermost kernel of dense convolutions and matrix products: a tile of pixels (rows of a matrix) times a
 * block of channels (columns) in registers.
 *
 *     y[g][q][c] (+)= sum over e < count of w[e][c] * x[g][off[e] + q]
 *
 * g: up to 8 runs of pixels, anywhere; q: pixels of a run, side by side; c: V vectors of channels. An entry e is one
 * (channel, tap) pair of the sum; off[e] says where its data lie relative to a pixel. Accumulators stay in registers. */
#ifndef DISTILL_KERNELS_TILE_H
#define DISTILL_KERNELS_TILE_H

#include "kernels/cpu/simd.h"

#define TILE_RUNS 8

/* Runs of pixels waiting until a tile is full. */
typedef struct tile_runs {
    const float *x[TILE_RUNS];
    float *y[TILE_RUNS];
    int count;
} tile_runs;

/* What a tile is to add up. */
typedef struct tile_sum {
    int V;            /* vectors of channels */
    int64_t step;     /* floats from one pixel of y to the next */
    const int32_t *off;
    int64_t count;    /* entries */
    const float *w;   /* [count][V * LANES] */
    bool add;         /* y has partial sums already */
} tile_sum;
typedef void tile_fn(const tile_sum *s, const tile_runs *runs);

ALWAYS_INLINE void tile_body(const int V, const int Q, const int G, const tile_sum *s, const tile_runs *runs)
{
    vec acc[REGISTERS];
    const float *x[TILE_RUNS], *w = s->w;
    const int32_t *off = s->off;
    int64_t step = s->step, count = s->count;
#pragma GCC unroll 8
    for (int g = 0; g < G; g++) {
        x[g] = runs->x[g];
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++)
#pragma GCC unroll 3
            for (int v = 0; v < V; v++)
                acc[(g * Q + q) * V + v] = s->add ? vec_load(runs->y[g] + q * step + v * LANES) : vec_set(0);
    }
    for (int64_t e = 0; e < count; e++, w += V * LANES) {
        vec wv[3];
        int64_t o = off[e];
#pragma GCC unroll 3
        for (int v = 0; v < V; v++)
            wv[v] = vec_load(w + v * LANES);
#pragma GCC unroll 8
        for (int g = 0; g < G; g++)
#pragma GCC unroll 8
            for (int q = 0; q < Q; q++)
#pragma GCC unroll 3
                for (int v = 0; v < V; v++)
                    acc[(g * Q + q) * V + v] += wv[v] * vec_set(x[g][o + q]);
    }
#pragma GCC unroll 8
    for (int g = 0; g < G; g++)
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++)
#pragma GCC unroll 3
            for (int v = 0; v < V; v++)
                vec_store(runs->y[g] + q * step + v * LANES, acc[(g * Q + q) * V + v]);
}

/* X(V, Q, G): which tiles there are. G * Q * V accumulators and V + 1 other vectors fit into the registers. */
#if REGISTERS == 32
#define TILES(X)                                                                                                  \
    X(1, 1, 8) X(1, 2, 8) X(1, 3, 8) X(1, 4, 7) X(1, 5, 5) X(1, 6, 4) X(1, 7, 4) X(1, 8, 3)                       \
    X(2, 1, 8) X(2, 2, 7) X(2, 3, 4) X(2, 4, 3) X(2, 5, 2) X(2, 6, 2) X(2, 7, 2) X(2, 8, 1)                       \
    X(3, 1, 8) X(3, 2, 4) X(3, 3, 3) X(3, 4, 2) X(3, 5, 1) X(3, 6, 1) X(3, 7, 1) X(3, 8, 1)
#define TILE_VECTORS 3
#else
#define TILES(X)                                                                                                  \
    X(1, 1, 8) X(1, 2, 6) X(1, 3, 4) X(1, 4, 3) X(1, 5, 2) X(1, 6, 2)                                             \
    X(2, 1, 6) X(2, 2, 3) X(2, 3, 2) X(2, 4, 1) X(2, 5, 1) X(2, 6, 1)
#define TILE_VECTORS 2
#endif

#define TILE_DEFINE(V, Q, G)                                                                                      \
    static void tile_##V##_##Q(const tile_sum *s, const tile_runs *runs)                                          \
    {                                                                                                             \
        tile_body(V, Q, G, s, runs);                                                                              \
    }
TILES(TILE_DEFINE)

/* Rows by vectors and pixels of a run; absent tiles have no function. */
typedef struct tile_kind {
    tile_fn *fn;
    int runs;
} tile_kind;
#define TILE_ROW(V, Q, G) [V][Q] = {tile_##V##_##Q, G},
static const tile_kind tile_kinds[TILE_VECTORS + 1][9] = {TILES(TILE_ROW)};

/* Cycles per run of a tile and entry, roughly: two multiply-adds or loads a cycle, eight accumulators at least to hide
 * the latency. */
static inline double tile_cost(int V, int64_t Q)
{
    int G = tile_kinds[V][Q].runs;
    double fma = (double)(G * Q * V) / 2, load = (double)(G * Q + V + 1) / 2, cycles = fma > load ? fma : load;
    return (cycles > 4 ? cycles : 4) / G;
}

/* How a row of `count` pixels is cut: `wide` runs of q pixels, then `narrow` runs of q - 1. */
typedef struct row_cut {
    int64_t q, wide, narrow;
} row_cut;
static inline row_cut cut_row(int V, int64_t count)
{
    row_cut best = {0};
    double best_cost = 0;
    int64_t widest = 8;
    while (!tile_kinds[V][widest].fn)
        widest--;
    int64_t least = (count + widest - 1) / widest;
    for (int64_t runs = least; runs <= count && runs <= 2 * least + 2; runs++) {
        row_cut c = {.q = (count + runs - 1) / runs};
        c.wide = count - runs * (c.q - 1);
        c.narrow = runs - c.wide;
        double cost = (double)c.wide * tile_cost(V, c.q) + (c.narrow ? (double)c.narrow * tile_cost(V, c.q - 1) : 0);
        if (best.q == 0 || cost < best_cost * 0.999) {
            best = c;
            best_cost = cost;
        }
    }
    return best;
}

/* Runs a tile over what waits (empty places repeat the last run) and empties it. */
static inline void tile_flush(const tile_sum *s, tile_runs *runs, int64_t q)
{
    const tile_kind *kind = &tile_kinds[s->V][q];
    if (runs->count == 0)
        return;
    for (int g = runs->count; g < kind->runs; g++) {
        runs->x[g] = runs->x[runs->count - 1];
        runs->y[g] = runs->y[runs->count - 1];
    }
    kind->fn(s, runs);
    runs->count = 0;
}

/* Adds a run of q pixels; runs the tile when it is full. */
static inline void tile_push(const tile_sum *s, tile_runs *runs, int64_t q, const float *x, float *y)
{
    runs->x[runs->count] = x;
    runs->y[runs->count++] = y;
    if (runs->count == tile_kinds[s->V][q].runs)
        tile_flush(s, runs, q);
}

#endif
