/* conv_tile.h - the innermost kernel of the convolutions with a blocked result: a tile of pixels times one or two vectors
 * of channels in registers.
 *
 *     y[v][g][q][c] (+)= sum over e < count, l < lanes of w[e][l][v][c] * x[g][off[e] + q * PITCH + l]
 *
 * g: up to 8 runs of pixels, anywhere; q: pixels of a run, side by side; v: vectors of channels. The last pass over the
 * entries ends with the epilogue. PITCH: see conv_blocked.h. */
#ifndef DISTILL_KERNELS_CONV_TILE_H
#define DISTILL_KERNELS_CONV_TILE_H

#include "kernels/cpu/conv_epilogue.h"

#define TILE_RUNS    8
#define TILE_VECTORS 2
#define TILE_WIDEST  8
#define TILE_PIXELS  (REGISTERS == 32 ? 28 : 12) /* times vectors, of a full tile */

/* Pixels side by side: floats from the beginnings of the task's data and results. */
typedef struct tile_run {
    int64_t x, y;
} tile_run;

/* Data that will be wanted later, asked for a few cache lines a tile. */
typedef struct tile_ahead {
    const float *at;
    int64_t left, lines, jump; /* lines before the next jump, of every stretch; floats of a jump */
    int64_t each, rest;        /* lines a tile; lines in all that are left */
} tile_ahead;

static inline void look_ahead(tile_ahead *a)
{
    int64_t count = min_of(a->each, a->rest);
    a->rest -= count;
    for (; count > 0; count--, a->at += LANES) {
        __builtin_prefetch(a->at);
        if (--a->left == 0) {
            a->left = a->lines;
            a->at += a->jump;
        }
    }
}

/* What a tile is to add up. */
typedef struct tile_sum {
    const float *x;
    float *y;
    int64_t step, plane;  /* floats of y from one pixel to the next, from one vector of channels to the next */
    const int32_t *off;
    int64_t count, lanes; /* entries; channels of each, 1 to PITCH */
    const float *w;       /* [count][PITCH][V * LANES] */
    bool first, last;     /* pass over the entries */
    bool ahead;           /* asks for the data of the next tile, which most likely lie behind those of this one */
    const float *bias;    /* of these vectors */
    const conv_epilogue *end;
    tile_ahead *later;
} tile_sum;
typedef void tile_fn(const tile_sum *s, const tile_run *runs);

ALWAYS_INLINE void tile_body(const int V, const int Q, const int G, const tile_sum *s, const tile_run *runs)
{
    vec acc[REGISTERS];
    const float *x[TILE_RUNS], *w = s->w;
    int64_t lanes = PITCH == 1 ? 1 : s->lanes, step = s->step, plane = s->plane;
#pragma GCC unroll 8
    for (int g = 0; g < G; g++) {
        x[g] = s->x + runs[g].x;
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++)
#pragma GCC unroll 2
            for (int v = 0; v < V; v++)
                acc[(g * Q + q) * V + v] = s->first ? vec_set(0) : vec_load(s->y + runs[g].y + q * step + v * plane);
    }
    for (int64_t e = 0; e < s->count; e++, w += (PITCH - lanes) * V * LANES) {
        int64_t o = s->off[e];
        if (PITCH > 1 && s->ahead)
#pragma GCC unroll 8
            for (int g = 0; g < G; g++)
#pragma GCC unroll 8
                for (int q = 0; q < Q; q++)
                    __builtin_prefetch(x[g] + o + (G * Q + q) * PITCH);
        for (int64_t l = o; l < o + lanes; l++, w += V * LANES) {
            vec wv[TILE_VECTORS];
#pragma GCC unroll 2
            for (int v = 0; v < V; v++)
                wv[v] = vec_load(w + v * LANES);
#pragma GCC unroll 8
            for (int g = 0; g < G; g++)
#pragma GCC unroll 8
                for (int q = 0; q < Q; q++)
#pragma GCC unroll 2
                    for (int v = 0; v < V; v++)
                        acc[(g * Q + q) * V + v] += wv[v] * vec_set(x[g][l + q * PITCH]);
        }
    }
#pragma GCC unroll 2
    for (int v = 0; v < V; v++) {
        vec bias = vec_load(s->bias + v * LANES);
#pragma GCC unroll 8
        for (int g = 0; g < G; g++)
#pragma GCC unroll 8
            for (int q = 0; q < Q; q++) {
                float *at = s->y + runs[g].y + q * step + v * plane;
                vec sum = acc[(g * Q + q) * V + v];
                vec_store(at, s->last ? conv_finish(s->end, sum, bias, at) : sum);
            }
    }
}

/* X(V, Q, G): which tiles there are. G * Q * V accumulators and V + 1 other vectors fit into the registers. */
#if REGISTERS == 32
#define TILES(X)                                                                                                  \
    X(1, 1, 8) X(1, 2, 8) X(1, 3, 8) X(1, 4, 7) X(1, 5, 5) X(1, 6, 4) X(1, 7, 4) X(1, 8, 3)                       \
    X(2, 1, 8) X(2, 2, 7) X(2, 3, 4) X(2, 4, 3) X(2, 5, 2) X(2, 6, 2) X(2, 7, 2) X(2, 8, 1)
#else
#define TILES(X)                                                                                                  \
    X(1, 1, 8) X(1, 2, 6) X(1, 3, 4) X(1, 4, 3) X(1, 5, 2) X(1, 6, 2)                                             \
    X(2, 1, 6) X(2, 2, 3) X(2, 3, 2) X(2, 4, 1) X(2, 5, 1) X(2, 6, 1)
#endif

#define TILE_DEFINE(V, Q, G)                                                                                      \
    static void tile_##V##_##Q(const tile_sum *s, const tile_run *runs)                                           \
    {                                                                                                             \
        tile_body(V, Q, G, s, runs);                                                                              \
    }
TILES(TILE_DEFINE)

/* By vectors and pixels of a run; absent tiles have no function. */
typedef struct tile_kind {
    tile_fn *fn;
    int runs;
} tile_kind;
#define TILE_ROW(V, Q, G) [V][Q] = {tile_##V##_##Q, G},
static const tile_kind tile_kinds[TILE_VECTORS + 1][TILE_WIDEST + 1] = {TILES(TILE_ROW)};

/* Cycles per run of a tile and row of weights, roughly: two multiply-adds or loads a cycle, eight accumulators at least
 * to hide the latency. */
static inline double tile_cost(int V, int64_t Q)
{
    int G = tile_kinds[V][Q].runs;
    double fma = (double)(G * Q * V) / 2, load = (double)(G * Q + V) / 2, cycles = fma > load ? fma : load;
    return (cycles > 4 ? cycles : 4) / G;
}

/* How a row of `count` pixels is cut: `wide` runs of q pixels, then `narrow` runs of q - 1. */
typedef struct row_cut {
    int64_t count, q, wide, narrow;
    double cost; /* cycles per row of weights */
} row_cut;
static inline row_cut cut_row(int V, int64_t count)
{
    row_cut best = {.count = count};
    int64_t widest = TILE_WIDEST;
    while (!tile_kinds[V][widest].fn)
        widest--;
    int64_t least = (count + widest - 1) / widest;
    for (int64_t runs = least; runs <= count && runs <= 2 * least + 2; runs++) {
        row_cut c = {.count = count, .q = (count + runs - 1) / runs};
        c.wide = count - runs * (c.q - 1);
        c.narrow = runs - c.wide;
        c.cost = (double)c.wide * tile_cost(V, c.q) + (c.narrow ? (double)c.narrow * tile_cost(V, c.q - 1) : 0);
        if (best.q == 0 || c.cost < best.cost * 0.999)
            best = c;
    }
    return best;
}

/* All runs, of q pixels each. */
static inline void tile_runs(const tile_sum *s, int V, int64_t q, const tile_run *runs, int64_t count)
{
    const tile_kind *kind = &tile_kinds[V][q];
    for (; count >= kind->runs; runs += kind->runs, count -= kind->runs) {
        kind->fn(s, runs);
        look_ahead(s->later);
    }
    if (count > 0) { /* empty places repeat the last run */
        tile_run rest[TILE_RUNS];
        for (int g = 0; g < kind->runs; g++)
            rest[g] = runs[min_of(g, count - 1)];
        kind->fn(s, rest);
    }
}

#endif
