/* winograd.h - the transforms of Winograd's minimal filtering F(4x4, 3x3) on blocked maps.
 *
 * A 3x3 convolution of stride 1 makes a tile of 4x4 results from a window of 6x6 data with 36 multiplications a pair of
 * channels instead of 144:
 *
 *     y = A^T [ (G g G^T) * (B^T d B) ] A        d: window of data, g: 3x3 weights, *: element by element
 *
 * and, transposed, the gradient of the weights:
 *
 *     dg = G^T [ (A dy A^T) * (B^T d B) ] G
 *
 * (Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2015, section 4.3; points 0, 1, -1, 2, -2 and
 * infinity.) Summed over channels (over tiles, for the weights) each of the 36 elements, "points", is a matrix product of
 * its own. One vector is LANES channels. */
#ifndef DISTILL_KERNELS_WINOGRAD_H
#define DISTILL_KERNELS_WINOGRAD_H

#include "kernels/cpu/blocked.h"
#include "kernels/cpu/spatial.h"

enum { WINO_TILE = 4, WINO_WINDOW = 6, WINO_POINTS = 36, WINO_TAPS = 9 };

/* B^T d */
ALWAYS_INLINE void wino_data(vec o[6], const vec d[6])
{
    vec a = d[4] - 4.0f * d[2], b = d[3] - 4.0f * d[1], c = d[4] - d[2], e = d[3] - d[1];
    o[0] = 4.0f * d[0] + (d[4] - 5.0f * d[2]);
    o[1] = a + b;
    o[2] = a - b;
    o[3] = c + 2.0f * e;
    o[4] = c - 2.0f * e;
    o[5] = 4.0f * d[1] + (d[5] - 5.0f * d[3]);
}

/* A^T m */
ALWAYS_INLINE void wino_result(vec o[4], const vec m[6])
{
    vec a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], d = m[3] - m[4];
    o[0] = m[0] + a + c;
    o[1] = b + 2.0f * d;
    o[2] = a + 4.0f * c;
    o[3] = b + 8.0f * d + m[5];
}

/* A y */
ALWAYS_INLINE void wino_gradient(vec o[6], const vec y[4])
{
    vec a = y[0] + y[2], b = y[1] + y[3], c = y[0] + 4.0f * y[2], d = y[1] + 4.0f * y[3];
    o[0] = y[0];
    o[1] = a + b;
    o[2] = a - b;
    o[3] = c + 2.0f * d;
    o[4] = c - 2.0f * d;
    o[5] = y[3];
}

/* G g */
ALWAYS_INLINE void wino_weight(vec o[6], const vec g[3])
{
    vec a = (-1.0f / 6) * (g[0] + g[2]), b = (-1.0f / 6) * g[1];
    vec c = (1.0f / 24) * g[0] + (1.0f / 6) * g[2], d = (1.0f / 12) * g[1];
    o[0] = 0.25f * g[0];
    o[1] = a + b;
    o[2] = a - b;
    o[3] = c + d;
    o[4] = c - d;
    o[5] = g[2];
}

/* G^T u */
ALWAYS_INLINE void wino_weight_gradient(vec o[3], const vec u[6])
{
    vec a = u[1] + u[2], b = u[1] - u[2], c = u[3] + u[4], d = u[3] - u[4];
    o[0] = 0.25f * u[0] - (1.0f / 6) * a + (1.0f / 24) * c;
    o[1] = (1.0f / 12) * d - (1.0f / 6) * b;
    o[2] = (1.0f / 6) * (c - a) + u[5];
}

/* ---- tiles ---- */

/* The tiles of all images, counted through: image, then row, then column. */
typedef struct wino_tiles {
    int64_t across, of_image, count;
} wino_tiles;

static inline wino_tiles wino_tiles_of(int64_t images, int64_t rows, int64_t cols)
{
    int64_t down = (rows + WINO_TILE - 1) / WINO_TILE, across = (cols + WINO_TILE - 1) / WINO_TILE;
    return (wino_tiles){across, down * across, images * down * across};
}

/* S x S pixels of a blocked map of which some may lie outside, where everything is zero. */
typedef struct wino_window {
    int64_t image;
    int64_t at;                  /* floats from the plane's first pixel to the window's; meaningless outside */
    bool inside;                 /* all of it */
    int64_t row[6], col[6];      /* floats from the plane's first pixel; row -1: outside; col: some column inside */
    vec_int in[6];               /* all ones: the column is inside */
} wino_window;

/* The window whose first pixel is (row, col). */
static inline void wino_place(wino_window *w, const int S, int64_t image, int64_t row, int64_t col, int64_t rows,
                              int64_t cols)
{
    w->image = image;
    w->at = (row * cols + col) * LANES;
    w->inside = row >= 0 && col >= 0 && row + S <= rows && col + S <= cols;
    if (w->inside)
        return;
    for (int i = 0; i < S; i++) {
        bool in = col + i >= 0 && col + i < cols;
        w->row[i] = row + i >= 0 && row + i < rows ? (row + i) * cols * LANES : -1;
        w->col[i] = in ? (col + i) * LANES : 0;
        w->in[i] = (vec_int){0} - (in ? 1 : 0);
    }
}

/* d[S] = row i of a window. `pitch`: floats of a row of the plane. */
ALWAYS_INLINE void wino_load_row(vec *d, const int S, const bool inside, const float *plane, int64_t pitch,
                                 const wino_window *w, const int i)
{
    const float *p = plane + (inside ? w->at + i * pitch : w->row[i]);
    if (!inside && w->row[i] < 0) {
#pragma GCC unroll 6
        for (int j = 0; j < S; j++)
            d[j] = vec_set(0);
        return;
    }
#pragma GCC unroll 6
    for (int j = 0; j < S; j++)
        d[j] = inside ? vec_load(p + j * LANES) : (vec)((vec_int)vec_load(p + w->col[j]) & w->in[j]);
}

/* to[point] = B^T d B; `step`: floats from one point to the next. */
ALWAYS_INLINE void wino_data_body(const bool inside, float *to, int64_t step, const float *plane, int64_t pitch,
                                  const wino_window *w)
{
    vec r[6][6];
#pragma GCC unroll 6
    for (int i = 0; i < 6; i++) {
        vec d[6];
        wino_load_row(d, 6, inside, plane, pitch, w, i);
        wino_data(r[i], d);
    }
#pragma GCC unroll 6
    for (int j = 0; j < 6; j++) {
        const vec d[6] = {r[0][j], r[1][j], r[2][j], r[3][j], r[4][j], r[5][j]};
        vec o[6];
        wino_data(o, d);
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++)
            vec_store(to + (i * 6 + j) * step, o[i]);
    }
}

/* to[point] = A dy A^T */
ALWAYS_INLINE void wino_gradient_body(const bool inside, float *to, int64_t step, const float *plane, int64_t pitch,
                                      const wino_window *w)
{
    vec r[4][6];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        vec d[4];
        wino_load_row(d, 4, inside, plane, pitch, w, i);
        wino_gradient(r[i], d);
    }
#pragma GCC unroll 6
    for (int j = 0; j < 6; j++) {
        const vec d[4] = {r[0][j], r[1][j], r[2][j], r[3][j]};
        vec o[6];
        wino_gradient(o, d);
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++)
            vec_store(to + (i * 6 + j) * step, o[i]);
    }
}

/* One window of a plane. Both sorts are instances of one body: what lies inside, and what may lie outside in part. */
typedef void wino_transform(float *to, int64_t step, const float *plane, int64_t pitch, const wino_window *w);
static inline void wino_data_window(float *to, int64_t step, const float *plane, int64_t pitch, const wino_window *w)
{
    if (w->inside)
        wino_data_body(true, to, step, plane, pitch, w);
    else
        wino_data_body(false, to, step, plane, pitch, w);
}
static inline void wino_gradient_window(float *to, int64_t step, const float *plane, int64_t pitch, const wino_window *w)
{
    if (w->inside)
        wino_gradient_body(true, to, step, plane, pitch, w);
    else
        wino_gradient_body(false, to, step, plane, pitch, w);
}

/* Points of `count` windows for blocks [begin, end) of a map: to[point][block - begin][`most`][LANES], points `step`
 * apart. */
ALWAYS_INLINE void wino_transform_windows(wino_transform *transform, float *to, int64_t step, int64_t most, const float *x,
                                          const blocked *b, int64_t cols, int64_t begin, int64_t end,
                                          const wino_window *w, int64_t count)
{
    for (int64_t c = begin; c < end; c++)
        for (int64_t t = 0; t < count; t++)
            transform(to + ((c - begin) * most + t) * LANES, step,
                      x + (w[t].image * b->blocks + c) * b->pixels * LANES, cols * LANES, &w[t]);
}

/* Convolutions whose three forms these kernels compute. `x`: shape of the data. */
static inline bool wino_takes(const conv_attrs *at, const shape *x, const shape *y)
{
    if (x->rank != 4 || at->group != 1 || x->dim[1] < 1 || y->dim[1] < 1)
        return false;
    for (int i = 0; i < 2; i++)
        if (at->kernel_shape.v[i] != 3 || at->strides.v[i] != 1 || at->dilations.v[i] != 1)
            return false;
    return true;
}

/* Estimated cycles, fitted to measured CPU time of one core (Zen 5, AVX-512, 3x3 layers of 16 to 512 channels). */
enum { WINO_CYCLES_WINDOW = 400, WINO_CYCLES_RESULT = 150, WINO_CYCLES_WEIGHT = 200 };

/* Cycles of a loop step with `loads` loads and `products` multiply-adds: two of each a cycle, and a latency of four. */
static inline double wino_step_cost(double loads, double products)
{
    double cycles = (loads > products ? loads : products) / 2;
    return cycles > 4 ? cycles : 4;
}

#endif
