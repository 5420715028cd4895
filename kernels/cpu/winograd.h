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
 * (Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2015, sections 3 and 4). Summed over channels (over
 * tiles, for the weights) each of the 36 elements, "points", is a matrix product of its own. One vector is LANES channels.
 *
 * The polynomials are evaluated at 0, a, -a, b, -b and infinity. Lavin and Gray have a = 1, b = 2; 5/8 and 3/2 need as many
 * operations but halve the error of single precision and leave a quarter of its largest values, because their powers lie
 * closer together (how the choice of points acts: Barabasz et al., Error Analysis and Improving the Accuracy of Winograd
 * Convolution for Deep Neural Networks, 2020). tests/test_winograd.c prints what is left. */
#ifndef DISTILL_KERNELS_WINOGRAD_H
#define DISTILL_KERNELS_WINOGRAD_H

#include "kernels/cpu/conv_norm.h"
#include "kernels/cpu/spatial.h"

enum { WINO_TILE = 4, WINO_WINDOW = 6, WINO_POINTS = 36, WINO_TAPS = 9 };

#define WINO_A  0.625f
#define WINO_B  1.5f
#define WINO_A2 (WINO_A * WINO_A)
#define WINO_B2 (WINO_B * WINO_B)
#define WINO_P  (WINO_A2 * WINO_B2)
#define WINO_S  (WINO_A2 + WINO_B2)
#define WINO_KA (1 / (2 * WINO_A2 * (WINO_A2 - WINO_B2)))
#define WINO_KB (1 / (2 * WINO_B2 * (WINO_B2 - WINO_A2)))

/* B^T d */
ALWAYS_INLINE void wino_data(vec o[6], const vec d[6])
{
    vec p = d[4] - WINO_B2 * d[2], q = d[3] - WINO_B2 * d[1], r = d[4] - WINO_A2 * d[2], s = d[3] - WINO_A2 * d[1];
    o[0] = WINO_P * d[0] + (d[4] - WINO_S * d[2]);
    o[1] = p + WINO_A * q;
    o[2] = p - WINO_A * q;
    o[3] = r + WINO_B * s;
    o[4] = r - WINO_B * s;
    o[5] = WINO_P * d[1] + (d[5] - WINO_S * d[3]);
}

/* A^T m */
ALWAYS_INLINE void wino_result(vec o[4], const vec m[6])
{
    vec a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], d = m[3] - m[4];
    o[0] = m[0] + a + c;
    o[1] = WINO_A * b + WINO_B * d;
    o[2] = WINO_A2 * a + WINO_B2 * c;
    o[3] = (WINO_A2 * WINO_A) * b + ((WINO_B2 * WINO_B) * d + m[5]);
}

/* A y */
ALWAYS_INLINE void wino_gradient(vec o[6], const vec y[4])
{
    vec p = y[0] + WINO_A2 * y[2], q = y[1] + WINO_A2 * y[3], r = y[0] + WINO_B2 * y[2], s = y[1] + WINO_B2 * y[3];
    o[0] = y[0];
    o[1] = p + WINO_A * q;
    o[2] = p - WINO_A * q;
    o[3] = r + WINO_B * s;
    o[4] = r - WINO_B * s;
    o[5] = y[3];
}

/* G g */
ALWAYS_INLINE void wino_weight(vec o[6], const vec g[3])
{
    vec p = WINO_KA * g[0] + (WINO_KA * WINO_A2) * g[2], q = (WINO_KA * WINO_A) * g[1];
    vec r = WINO_KB * g[0] + (WINO_KB * WINO_B2) * g[2], s = (WINO_KB * WINO_B) * g[1];
    o[0] = (1 / WINO_P) * g[0];
    o[1] = p + q;
    o[2] = p - q;
    o[3] = r + s;
    o[4] = r - s;
    o[5] = g[2];
}

/* G^T u */
ALWAYS_INLINE void wino_weight_gradient(vec o[3], const vec u[6])
{
    vec a = u[1] + u[2], b = u[1] - u[2], c = u[3] + u[4], d = u[3] - u[4];
    o[0] = (1 / WINO_P) * u[0] + (WINO_KA * a + WINO_KB * c);
    o[1] = (WINO_KA * WINO_A) * b + (WINO_KB * WINO_B) * d;
    o[2] = (WINO_KA * WINO_A2) * a + ((WINO_KB * WINO_B2) * c + u[5]);
}

/* ---- weights, which lie [channels][pitch], from and to vectors along their first axis ---- */

/* to[i][l] = from[l * pitch + i] for `rows` l and `cols` i; zeros for the other l, anything for the other i. */
static inline void wino_load_rows(vec to[LANES], const float *from, int64_t pitch, int64_t rows, int64_t cols)
{
    vec r[LANES];
    for (int l = 0; l < LANES; l++) {
        r[l] = vec_set(0);
        if (l < rows && cols == LANES)
            r[l] = vec_load(from + l * pitch);
        else if (l < rows)
            memcpy(&r[l], from + l * pitch, (size_t)cols * sizeof(float));
    }
    vec_transpose(r);
    for (int i = 0; i < LANES; i++)
        to[i] = r[i];
}

/* The way back. */
static inline void wino_store_rows(float *to, const vec from[LANES], int64_t pitch, int64_t rows, int64_t cols)
{
    vec r[LANES];
    for (int i = 0; i < LANES; i++)
        r[i] = i < cols ? from[i] : vec_set(0);
    vec_transpose(r);
    for (int l = 0; l < LANES && l < rows; l++) {
        if (cols == LANES)
            vec_store(to + l * pitch, r[l]);
        else
            memcpy(to + l * pitch, &r[l], (size_t)cols * sizeof(float));
    }
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
    int64_t at;              /* floats from the plane's first pixel to the window's; meaningless outside */
    int32_t row[6], col[6];  /* floats from the plane's first pixel; row -1: outside; col: some column inside */
    int32_t in[6];           /* all ones: the column is inside */
    bool inside;             /* all of it */
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
        w->row[i] = row + i >= 0 && row + i < rows ? (int32_t)((row + i) * cols * LANES) : -1;
        w->col[i] = in ? (int32_t)((col + i) * LANES) : 0;
        w->in[i] = in ? -1 : 0;
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
        d[j] = inside ? vec_load(p + j * LANES) : (vec)((vec_int)vec_load(p + w->col[j]) & ((vec_int){0} + w->in[j]));
}

/* The same of a window of data, normed; zeros outside stay. */
ALWAYS_INLINE void wino_norm_row(vec *d, const bool inside, const conv_norm *norm, const wino_window *w, const int i)
{
    if (!inside && w->row[i] < 0)
        return;
#pragma GCC unroll 6
    for (int j = 0; j < 6; j++) {
        vec v = normed(norm, d[j]);
        d[j] = inside ? v : (vec)((vec_int)v & ((vec_int){0} + w->in[j]));
    }
}

/* to[point] = B^T d B; `step`: floats from one point to the next. norm: of the block; NULL: none. */
ALWAYS_INLINE void wino_data_body(const bool inside, float *to, int64_t step, const float *plane, int64_t pitch,
                                  const wino_window *w, const conv_norm *norm)
{
    vec r[6][6];
#pragma GCC unroll 6
    for (int i = 0; i < 6; i++) {
        vec d[6];
        wino_load_row(d, 6, inside, plane, pitch, w, i);
        if (norm)
            wino_norm_row(d, inside, norm, w, i);
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

/* One window of a plane. Two instances each: windows that lie inside, and those that may lie outside in part. */
static inline void wino_data_window(float *to, int64_t step, const float *plane, int64_t pitch, const wino_window *w)
{
    if (w->inside)
        wino_data_body(true, to, step, plane, pitch, w, NULL);
    else
        wino_data_body(false, to, step, plane, pitch, w, NULL);
}
static inline void wino_normed_window(float *to, int64_t step, const float *plane, int64_t pitch, const wino_window *w,
                                      const conv_norm *norm)
{
    const conv_norm n = *norm;
    if (w->inside)
        wino_data_body(true, to, step, plane, pitch, w, &n);
    else
        wino_data_body(false, to, step, plane, pitch, w, &n);
}
static inline void wino_gradient_window(float *to, int64_t step, const float *plane, int64_t pitch, const wino_window *w)
{
    if (w->inside)
        wino_gradient_body(true, to, step, plane, pitch, w);
    else
        wino_gradient_body(false, to, step, plane, pitch, w);
}

/* Asks for the pixels of a window that its neighbours above and to the left do not read. It may lie outside. */
ALWAYS_INLINE void wino_prefetch(const int S, const float *plane, int64_t pitch, const wino_window *w)
{
    uintptr_t p = (uintptr_t)plane + (uintptr_t)(w->at * 4);
#pragma GCC unroll 4
    for (int i = S - 4; i < S; i++)
#pragma GCC unroll 4
        for (int j = S - 4; j < S; j++)
            __builtin_prefetch((const void *)(p + (uintptr_t)(i * pitch + j * LANES) * 4));
}

/* Points of `count` windows for blocks [begin, end) of a map. Window t and block c go to chunk t / most, there to
 * [point][c - begin][t % most][LANES]; points are `step` floats apart, chunks `chunk`. norm: of every block, of data;
 * NULL: none. */
ALWAYS_INLINE void wino_transform_windows(const int S, float *to, int64_t step, int64_t chunk, int64_t most,
                                          const float *x, const blocked *b, int64_t cols, int64_t begin, int64_t end,
                                          const wino_window *w, int64_t count, const conv_norm *norm)
{
    enum { AHEAD = 8 };
    int64_t pitch = cols * LANES, plane = b->pixels * LANES;
    for (int64_t c = begin; c < end; c++)
        for (int64_t first = 0; first < count; first += most)
            for (int64_t i = 0; i < most && first + i < count; i++) {
                int64_t t = first + i;
                float *p = to + first / most * chunk + ((c - begin) * most + i) * LANES;
                const wino_window *ahead = w + (t + AHEAD < count ? t + AHEAD : min_of(t + AHEAD - count, count - 1));
                wino_prefetch(S, x + (ahead->image * b->blocks + c + (t + AHEAD >= count)) * plane, pitch, ahead);
                if (S == WINO_WINDOW && norm)
                    wino_normed_window(p, step, x + (w[t].image * b->blocks + c) * plane, pitch, &w[t], norm + c);
                else if (S == WINO_WINDOW)
                    wino_data_window(p, step, x + (w[t].image * b->blocks + c) * plane, pitch, &w[t]);
                else
                    wino_gradient_window(p, step, x + (w[t].image * b->blocks + c) * plane, pitch, &w[t]);
            }
}

/* Convolutions whose three forms these kernels compute. `x`: shape of the data. */
static inline bool wino_takes(const conv_attrs *at, const shape *x, const shape *y)
{
    if (x->rank != 4 || at->group != 1 || x->dim[1] < 1 || y->dim[1] < 1)
        return false;
    for (int i = 0; i < 2; i++)
        if (at->kernel_shape.v[i] != 3 || at->strides.v[i] != 1 || at->dilations.v[i] != 1)
            return false;
    return x->dim[2] * x->dim[3] < INT32_MAX / LANES && y->dim[2] * y->dim[3] < INT32_MAX / LANES; /* wino_window */
}

/* Estimated cycles of one core: of a window, a tile of results and the weights of a channel, per vector, with their share of
 * the cache misses. Fitted to the CPU time of layers of 16 to 512 channels, 1 to 128 images of 56x56 to 4x4, on Zen 5 with
 * AVX-512 (4 GHz): within 15 % there, within 30 % with AVX2. */
enum { WINO_CYCLES_WINDOW = 370, WINO_CYCLES_RESULT = 140, WINO_CYCLES_WEIGHT = 130 };

/* Transformed weights that no cache holds, written or read `times`: 8 bytes a cycle. */
static inline double wino_memory_cost(int64_t floats, double times)
{
    double beyond = (double)floats * 4 - 16e6;
    return beyond > 0 ? beyond * times / 8 : 0;
}

/* Cycles of a loop step with `loads` loads and `products` multiply-adds: two of each a cycle, and a latency of four. */
static inline double wino_step_cost(double loads, double products)
{
    double cycles = (loads > products ? loads : products) / 2;
    return cycles > 4 ? cycles : 4;
}

#endif
