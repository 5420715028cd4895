/* gemm_tile.h - the innermost kernel of matrix products: R rows times V vectors of columns in registers.
 *
 *     y[r][c] (+)= sum over k of A(r, k) * b[k][c]
 *
 * A lies either in rows (terms side by side) or in columns (rows side by side). Sums stay in registers; every element is
 * one chain of multiply-adds in the order of k, whatever R is, so it does not matter how rows are cut into tiles. */
#ifndef DISTILL_KERNELS_GEMM_TILE_H
#define DISTILL_KERNELS_GEMM_TILE_H

#include "kernels/cpu/simd.h"

typedef struct gemm_tile {
    int64_t k;       /* terms */
    const float *a;
    int64_t a_step;  /* from one row to the next; in columns: from one term to the next */
    const float *b;  /* [k][>= V * LANES] */
    int64_t b_step;
    float *y;        /* [R][>= V * LANES] */
    int64_t y_step;
    bool add;        /* y has partial sums already */
} gemm_tile;
typedef void gemm_tile_fn(const gemm_tile *t);

ALWAYS_INLINE void gemm_tile_body(const int V, const int R, const bool columns, const gemm_tile *t)
{
    vec acc[24];
    const float *a[8], *b = t->b;
    const int64_t step = columns ? t->a_step : 1, b_step = t->b_step;
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
        a[r] = t->a + (columns ? r : r * t->a_step);
#pragma GCC unroll 3
        for (int v = 0; v < V; v++)
            acc[r * V + v] = t->add ? vec_load(t->y + r * t->y_step + v * LANES) : vec_set(0);
    }
    for (int64_t k = 0, at = 0; k < t->k; k++, at += step, b += b_step) {
        vec w[3];
#pragma GCC unroll 3
        for (int v = 0; v < V; v++)
            w[v] = vec_load(b + v * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            vec x = vec_set(columns ? a[0][at + r] : a[r][at]);
#pragma GCC unroll 3
            for (int v = 0; v < V; v++)
                acc[r * V + v] += w[v] * x;
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 3
        for (int v = 0; v < V; v++)
            vec_store(t->y + r * t->y_step + v * LANES, acc[r * V + v]);
}

/* X(V, R): which tiles there are; R * V sums and V + 1 other vectors fit into the registers. */
#if REGISTERS == 32
#define GEMM_TILES(X)                                                                                             \
    X(1, 1) X(1, 2) X(1, 3) X(1, 4) X(1, 5) X(1, 6) X(1, 7) X(1, 8)                                               \
    X(2, 1) X(2, 2) X(2, 3) X(2, 4) X(2, 5) X(2, 6) X(2, 7) X(2, 8)                                               \
    X(3, 1) X(3, 2) X(3, 3) X(3, 4) X(3, 5) X(3, 6) X(3, 7) X(3, 8)
enum { GEMM_VECTORS = 3, GEMM_ROWS = 8 };
#else
#define GEMM_TILES(X)                                                                                             \
    X(1, 1) X(1, 2) X(1, 3) X(1, 4) X(1, 5) X(1, 6) X(2, 1) X(2, 2) X(2, 3) X(2, 4) X(2, 5) X(2, 6)
enum { GEMM_VECTORS = 2, GEMM_ROWS = 6 };
#endif

#define GEMM_DEFINE(V, R)                                                                                         \
    static void gemm_rows_##V##_##R(const gemm_tile *t)                                                           \
    {                                                                                                             \
        gemm_tile_body(V, R, false, t);                                                                           \
    }                                                                                                             \
    static void gemm_cols_##V##_##R(const gemm_tile *t)                                                           \
    {                                                                                                             \
        gemm_tile_body(V, R, true, t);                                                                            \
    }
GEMM_TILES(GEMM_DEFINE)
#define GEMM_ENTRY(V, R) [V][R] = {gemm_rows_##V##_##R, gemm_cols_##V##_##R},
static gemm_tile_fn *const gemm_tiles[GEMM_VECTORS + 1][GEMM_ROWS + 1][2] = {GEMM_TILES(GEMM_ENTRY)};

/* Any number of rows, cut into tiles of nearly equal height. */
static inline void gemm_tile_rows(gemm_tile t, int V, int64_t rows, bool columns)
{
    int64_t tiles = (rows + GEMM_ROWS - 1) / GEMM_ROWS;
    for (int64_t i = 0, row = 0; i < tiles; i++) {
        int64_t next = (i + 1) * rows / tiles, count = next - row;
        gemm_tiles[V][count][columns](&t);
        t.a += count * (columns ? 1 : t.a_step);
        t.y += count * t.y_step;
        row = next;
    }
}

#endif
