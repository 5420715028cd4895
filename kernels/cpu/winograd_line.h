/* winograd_line.h - Winograd's minimal filtering along one axis: F(m, r) of six ways over two sets of points.
 *
 * m results of a kernel of r taps are made from a window of m + r - 1 data with as many multiplications a pair of channels
 * instead of m * r:
 *
 *     y = A^T [ (G g) * (B^T d) ]          d: window of data, g: taps, *: element by element
 *
 * The polynomials are evaluated at 0, P pairs +-a and infinity: 2 P + 2 points, whatever m and r. A kernel of more taps is
 * a sum of pieces of s taps, s a multiple of m: piece q of tile t sees the window of tile t + q * s / m, so that all pieces
 * share the transformed windows and are added up before the way back. With dilation d every d-th pixel is a line by itself.
 *
 * Multiplications for a result and pair of channels, beside the taps: 3: 1.33, 5: 1.67, 7: 2.5, 9 to 11: 4 (two pieces).
 *
 * The points minimise what the transforms amplify, the root of the largest sum over p of A^2 |B_p|^2 |G_p|^2 / r (how the
 * choice of points acts: Barabasz et al., Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural
 * Networks, 2020): 6.7 for F(6, 3) and 13 for F(4, 7), where the 6x6 points of winograd.h have 8.2. Sums in
 * stretches (winograd_multiply.h) make up for the rest; tests/test_winograd.c prints what is left. */
#ifndef DISTILL_KERNELS_WINOGRAD_LINE_H
#define DISTILL_KERNELS_WINOGRAD_LINE_H

#include "kernels/cpu/blocked.h"
#include "kernels/cpu/spatial.h"

enum { LINE_PAIRS = 4, LINE_POINTS = 2 * LINE_PAIRS + 2, LINE_TAPS_MOST = 16, LINE_TILE_MOST = 6 };

/* The points of P pairs, and what the transforms need of them. */
#define SQ_(a)               ((a) * (a))
#define POWERS_(a)                                                                                                \
    {1, (a), SQ_(a), SQ_(a) * (a), SQ_(SQ_(a)), SQ_(SQ_(a)) * (a), SQ_(SQ_(a)) * SQ_(a), SQ_(SQ_(a)) * SQ_(a) * (a), \
     SQ_(SQ_(SQ_(a)))}
#define SUM2_(a, b, c)       (SQ_(a) * SQ_(b) + SQ_(a) * SQ_(c) + SQ_(b) * SQ_(c))
#define OTHERS2_(b, c)       {SQ_(b) * SQ_(c), -(SQ_(b) + SQ_(c)), 1}
#define OTHERS3_(b, c, d)    {-SQ_(b) * SQ_(c) * SQ_(d), SUM2_(b, c, d), -(SQ_(b) + SQ_(c) + SQ_(d)), 1}
#define SCALE2_(a, b, c)     (1 / (2 * SQ_(a) * (SQ_(a) - SQ_(b)) * (SQ_(a) - SQ_(c))))
#define SCALE3_(a, b, c, d)  (SCALE2_(a, b, c) / (SQ_(a) - SQ_(d)))
#define A3_ 0.5625f
#define B3_ 1.0f
#define C3_ 1.8125f
#define A4_ 0.4375f
#define B4_ 0.8125f
#define C4_ 1.25f
#define D4_ 2.25f

typedef struct line_points {
    float power[LINE_PAIRS][9];          /* a^k */
    float others[LINE_PAIRS][LINE_PAIRS]; /* of x^2k in the product over the other pairs of x^2 - b^2 */
    float all[LINE_PAIRS + 1];           /* of x^2k in the product over all pairs */
    float scale[LINE_PAIRS];             /* of the taps' polynomial at +-a */
} line_points;
static const line_points line_points_of[LINE_PAIRS + 1] = {
    [3] = {.power = {POWERS_(A3_), POWERS_(B3_), POWERS_(C3_)},
           .others = {OTHERS2_(B3_, C3_), OTHERS2_(A3_, C3_), OTHERS2_(A3_, B3_)},
           .all = {-SQ_(A3_) * SQ_(B3_) * SQ_(C3_), SUM2_(A3_, B3_, C3_), -(SQ_(A3_) + SQ_(B3_) + SQ_(C3_)), 1},
           .scale = {SCALE2_(A3_, B3_, C3_), SCALE2_(B3_, A3_, C3_), SCALE2_(C3_, A3_, B3_)}},
    [4] = {.power = {POWERS_(A4_), POWERS_(B4_), POWERS_(C4_), POWERS_(D4_)},
           .others = {OTHERS3_(B4_, C4_, D4_), OTHERS3_(A4_, C4_, D4_), OTHERS3_(A4_, B4_, D4_), OTHERS3_(A4_, B4_, C4_)},
           .all = {SQ_(A4_) * SQ_(B4_) * SQ_(C4_) * SQ_(D4_),
                   -(SUM2_(A4_, B4_, C4_) * SQ_(D4_) + SQ_(A4_) * SQ_(B4_) * SQ_(C4_)),
                   SUM2_(A4_, B4_, C4_) + (SQ_(A4_) + SQ_(B4_) + SQ_(C4_)) * SQ_(D4_),
                   -(SQ_(A4_) + SQ_(B4_) + SQ_(C4_) + SQ_(D4_)), 1},
           .scale = {SCALE3_(A4_, B4_, C4_, D4_), SCALE3_(B4_, A4_, C4_, D4_), SCALE3_(C4_, A4_, B4_, D4_),
                     SCALE3_(D4_, A4_, B4_, C4_)}},
};

/* B^T d. Points are in the order 0, +a, -a, +b, -b ..., infinity. */
ALWAYS_INLINE void line_data(const int P, vec o[LINE_POINTS], const vec d[LINE_POINTS])
{
    const line_points *c = &line_points_of[P];
    o[0] = d[2 * P];
    o[2 * P + 1] = d[2 * P + 1];
#pragma GCC unroll 4
    for (int k = 0; k < P; k++) {
        o[0] += c->all[k] * d[2 * k];
        o[2 * P + 1] += c->all[k] * d[2 * k + 1];
    }
#pragma GCC unroll 4
    for (int i = 0; i < P; i++) {
        vec even = d[2 * P], odd = d[2 * P - 1];
#pragma GCC unroll 4
        for (int k = 0; k < P - 1; k++) {
            even += c->others[i][k] * d[2 * k + 2];
            odd += c->others[i][k] * d[2 * k + 1];
        }
        o[1 + 2 * i] = even + c->power[i][1] * odd;
        o[2 + 2 * i] = even - c->power[i][1] * odd;
    }
}

/* A^T m: m results. */
ALWAYS_INLINE void line_result(const int P, const int m, vec y[LINE_TILE_MOST], const vec x[LINE_POINTS])
{
    const line_points *c = &line_points_of[P];
    vec sum[LINE_PAIRS];
#pragma GCC unroll 2
    for (int odd = 0; odd < 2; odd++) {
#pragma GCC unroll 4
        for (int i = 0; i < P; i++)
            sum[i] = odd ? x[1 + 2 * i] - x[2 + 2 * i] : x[1 + 2 * i] + x[2 + 2 * i];
#pragma GCC unroll 3
        for (int j = odd; j < m; j += 2) {
            vec r = c->power[0][j] * sum[0];
#pragma GCC unroll 3
            for (int i = 1; i < P; i++)
                r += c->power[i][j] * sum[i];
            y[j] = j == 0 ? r + x[0] : j == m - 1 ? r + x[2 * P + 1] : r;
        }
    }
}

/* G g of `count` taps where pieces have up to `full`; u: points `step` floats apart. */
static inline void line_weight(const int P, float *u, int64_t step, const vec *g, int64_t count, int64_t full)
{
    const line_points *c = &line_points_of[P];
    vec even[LINE_PAIRS], odd[LINE_PAIRS];
#pragma GCC unroll 4
    for (int i = 0; i < P; i++)
        even[i] = odd[i] = vec_set(0);
    for (int64_t k = 0; k < count; k++)
#pragma GCC unroll 4
        for (int i = 0; i < P; i++)
            *(k & 1 ? &odd[i] : &even[i]) += (c->power[i][k] * c->scale[i]) * g[k];
    vec_store(u, g[0] / c->all[0]);
#pragma GCC unroll 4
    for (int i = 0; i < P; i++) {
        vec_store(u + (1 + 2 * i) * step, even[i] + odd[i]);
        vec_store(u + (2 + 2 * i) * step, even[i] - odd[i]);
    }
    vec_store(u + (2 * P + 1) * step, count == full ? g[full - 1] : vec_set(0));
}

/* How a kernel of some taps is computed. */
typedef struct line_way {
    int pairs, tile, full;    /* P; m; taps of a piece at most */
    int64_t taps, pieces;
    int64_t ahead;            /* tiles from one piece to the next */
} line_way;

static inline int64_t line_points_count(const line_way *w)
{
    return 2 * w->pairs + 2;
}

/* Taps of piece q; the last one has the rest. */
static inline int64_t line_piece_taps(const line_way *w, int64_t q)
{
    int64_t first = q * w->ahead * w->tile;
    return q + 1 < w->pieces ? w->ahead * w->tile : w->taps - first;
}

/* Multiplications for a result and pair of channels. */
static inline double line_work(const line_way *w)
{
    return (double)(line_points_count(w) * w->pieces) / w->tile;
}

/* X(P, m): the ways there are. */
#define LINE_WAYS(X) X(3, 6) X(3, 5) X(3, 4) X(4, 6) X(4, 5) X(4, 4) X(4, 3)

/* The way of fewest multiplications. */
static inline line_way line_way_of(int64_t taps)
{
#define LINE_WAY(P, m) {P, m, 2 * P + 3 - m, 0, 0, 0},
    static const line_way ways[] = {LINE_WAYS(LINE_WAY)};
    line_way best = {0};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        line_way w = ways[i];
        int64_t each = w.full / w.tile * w.tile; /* taps of a piece but the last */
        w.taps = taps;
        w.ahead = each / w.tile;
        w.pieces = taps <= w.full ? 1 : each ? 1 + (taps - w.full + each - 1) / each : 0;
        if (w.pieces && (!best.pairs || line_work(&w) < line_work(&best)))
            best = w;
    }
    return best;
}

#endif
