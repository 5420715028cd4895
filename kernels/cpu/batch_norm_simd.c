/* batch_norm_simd.c - batch norm and instance norm: fast float32.
 *
 * x is [n, c, s]: sample, channel, place. The work is cut into blocks of at most BLOCK_ELEMENTS elements of one channel:
 * some whole rows of s, or a piece of one long row. A block is read twice (mean, then squares about it) while it lies in
 * the cache; blocks are joined in their order, in double. When there are enough channels a thread does all of a channel,
 * whose data it then finds in its cache for the second pass; else the blocks of all channels go over the threads and
 * their sums meet in the workspace. The arithmetic is the same either way, so results do not depend on the threads.
 * With s = 1 (behind a linear layer) channels are neighbours, and strips of channels take the place of rows. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/parallel.h"

#include <math.h>

#define INLINE static inline __attribute__((always_inline)) /* so that flags and widths are constants in the loops */

typedef struct layout {
    int64_t n, c, s;
    int64_t rows;   /* of a block, when rows are short */
    int64_t pieces; /* of a row, when rows are long (rows = 1) */
    int64_t blocks; /* of a channel */
} layout;

static layout layout_of(const shape *x, bool samples_apart)
{
    layout l = {.n = x->dim[0], .c = x->dim[1], .s = 1, .rows = 1, .pieces = 1};
    for (int i = 2; i < x->rank; i++)
        l.s *= x->dim[i];
    if (samples_apart) { /* instance norm: every row is a channel */
        l.c *= l.n;
        l.n = 1;
    }
    if (l.s > BLOCK_ELEMENTS)
        l.pieces = block_count(l.s, BLOCK_ELEMENTS);
    else if (l.s > 0)
        l.rows = BLOCK_ELEMENTS / l.s;
    l.blocks = block_count(l.n, l.rows) * l.pieces;
    return l;
}

/* One block: rows of `length` elements, `step` apart, starting at element `at`. */
typedef struct block {
    int64_t at, rows, length, step;
} block;

static block block_of(const layout *l, int64_t c, int64_t b)
{
    int64_t row = b / l->pieces * l->rows, piece = b % l->pieces;
    int64_t from = piece * BLOCK_ELEMENTS, to = block_end(piece, l->s, l->pieces > 1 ? BLOCK_ELEMENTS : l->s);
    block k = {.rows = row + l->rows < l->n ? l->rows : l->n - row, .length = to - from, .step = l->c * l->s};
    k.at = (row * l->c + c) * l->s + from;
    return k;
}

/* ---- sums over one block ---- */

typedef struct moments {
    double n, mean, m2; /* elements, their mean, sum of squared distances to it */
} moments;

/* Float sums run over at most PIECE neighbours or one bundle of short rows; what they give is summed in double. */
#define PIECE  1024
#define BUNDLE 2048 /* elements of a bundle */
#define SHORT  256  /* rows below go by bundles: the sums of a vector's lanes are kept from row to row */
#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif
typedef float lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));
typedef int32_t lane_bits __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));
#define LANES_AT(p) (*(const lanes *)(const void *)(p))
#define JOIN_LANES(total, v)                                                                                      \
    for (int j_ = 0; j_ < LANES; j_++)                                                                            \
    (total) += (double)(v)[j_]

static int64_t bundle_rows(int64_t length)
{
    return length < SHORT ? (length > 0 ? BUNDLE / length : 1) : 1;
}

static double line_sum(const float *x, int64_t n)
{
    float sum = 0;
    PRAGMA(omp simd reduction(+ : sum))
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    return (double)sum;
}

static double bundle_sum(const float *x, int64_t rows, int64_t n, int64_t step)
{
    lanes v = {0};
    float rest = 0;
    for (int64_t r = 0; r < rows; r++, x += step) {
        int64_t i = 0;
        for (; i + LANES <= n; i += LANES)
            v += LANES_AT(x + i);
        for (; i < n; i++)
            rest += x[i];
    }
    double sum = (double)rest;
    JOIN_LANES(sum, v);
    return sum;
}

typedef struct squares { /* sums of x - pivot and of its square */
    double off, square;
} squares;

static void line_squares(const float *x, int64_t n, float pivot, squares *all)
{
    float o = 0, s = 0;
    PRAGMA(omp simd reduction(+ : o, s))
    for (int64_t i = 0; i < n; i++) {
        float d = x[i] - pivot;
        o += d;
        s += d * d;
    }
    all->off += (double)o;
    all->square += (double)s;
}

static void bundle_squares(const float *x, int64_t rows, int64_t n, int64_t step, float pivot, squares *all)
{
    lanes o = {0}, s = {0};
    float rest_o = 0, rest_s = 0;
    for (int64_t r = 0; r < rows; r++, x += step) {
        int64_t i = 0;
        for (; i + LANES <= n; i += LANES) {
            lanes d = LANES_AT(x + i) - pivot;
            o += d;
            s += d * d;
        }
        for (; i < n; i++) {
            float d = x[i] - pivot;
            rest_o += d;
            rest_s += d * d;
        }
    }
    all->off += (double)rest_o;
    all->square += (double)rest_s;
    JOIN_LANES(all->off, o);
    JOIN_LANES(all->square, s);
}

/* for every piece of a long row or bundle of short rows: its first element, rows and length */
#define EACH_PART(k, at, rows_, n)                                                                                \
    for (int64_t r_ = 0, each_ = bundle_rows((k).length); r_ < (k).rows; r_ += each_)                             \
        for (int64_t i_ = 0, at, rows_ = (k).rows - r_ < each_ ? (k).rows - r_ : each_, n;                        \
             at = (k).at + r_ * (k).step + i_, n = (k).length - i_ < PIECE ? (k).length - i_ : PIECE,             \
                     i_ < (k).length; i_ += PIECE)

static moments block_moments(const float *x, block k)
{
    double n = (double)(k.rows * k.length), sum = 0;
    squares all = {0};
    EACH_PART(k, at, rows, count)
    sum += k.length < SHORT ? bundle_sum(x + at, rows, count, k.step) : line_sum(x + at, count);
    const float pivot = (float)(sum / n); /* the mean but for its rounding, which `off` then takes out */
    EACH_PART(k, at, rows, count)
    if (k.length < SHORT)
        bundle_squares(x + at, rows, count, k.step, pivot, &all);
    else
        line_squares(x + at, count, pivot, &all);
    double shift = all.off / n;
    return (moments){n, (double)pivot + shift, all.square - shift * all.off};
}

/* Chan, Golub, LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances". */
static void join(moments *a, moments b)
{
    double n = a->n + b.n, d = b.mean - a->mean;
    if (b.n == 0)
        return;
    a->mean += d * b.n / n;
    a->m2 += b.m2 + d * d * (a->n * b.n / n);
    a->n = n;
}

typedef struct sums { /* of the backward pass: dy, dy * (x - mean) */
    double dy, dy_x;
} sums;

/* The relu behind the norm (batch_norm_attrs): on, and the most that passes it. */
typedef struct clip_act {
    bool on;
    float top; /* FLT_MAX or infinite: no ceiling */
} clip_act;

INLINE float act_forward(clip_act r, float v)
{
    v = r.on && v < 0 ? 0 : v;
    return r.on && v > r.top ? r.top : v;
}
INLINE float act_backward(clip_act r, float dy, float y)
{
    return !r.on || (y > 0 && y < r.top) ? dy : 0;
}

INLINE void line_products_(const float *dy, const float *x, const float *y, const bool on, float top, int64_t n,
                           float mean, sums *all)
{
    const clip_act r = {on, top};
    float sum = 0, sum_x = 0;
    PRAGMA(omp simd reduction(+ : sum, sum_x))
    for (int64_t i = 0; i < n; i++) {
        float g = act_backward(r, dy[i], on ? y[i] : 0);
        sum += g;
        sum_x += g * (x[i] - mean);
    }
    all->dy += (double)sum;
    all->dy_x += (double)sum_x;
}

static void line_products(const float *dy, const float *x, const float *y, clip_act r, int64_t n, float mean, sums *all)
{
    if (r.on)
        line_products_(dy, x, y, true, r.top, n, mean, all);
    else
        line_products_(dy, x, y, false, r.top, n, mean, all);
}

INLINE void bundle_products_(const float *dy, const float *x, const float *y, const bool on, float top, int64_t rows,
                             int64_t n, int64_t step, float mean, sums *all)
{
    const clip_act act = {on, top};
    lanes s = {0}, p = {0};
    float rest_s = 0, rest_p = 0;
    for (int64_t r = 0; r < rows; r++, x += step, dy += step, y += on ? step : 0) {
        int64_t i = 0;
        for (; i + LANES <= n; i += LANES) {
            lanes g = LANES_AT(dy + i);
            if (on) {
                lanes at = LANES_AT(y + i);
                g = (lanes)((lane_bits)g & (at > 0) & (at < top));
            }
            s += g;
            p += g * (LANES_AT(x + i) - mean);
        }
        for (; i < n; i++) {
            float g = act_backward(act, dy[i], on ? y[i] : 0);
            rest_s += g;
            rest_p += g * (x[i] - mean);
        }
    }
    all->dy += (double)rest_s;
    all->dy_x += (double)rest_p;
    JOIN_LANES(all->dy, s);
    JOIN_LANES(all->dy_x, p);
}

static void bundle_products(const float *dy, const float *x, const float *y, clip_act r, int64_t rows, int64_t n,
                            int64_t step, float mean, sums *all)
{
    if (r.on)
        bundle_products_(dy, x, y, true, r.top, rows, n, step, mean, all);
    else
        bundle_products_(dy, x, y, false, r.top, rows, n, step, mean, all);
}

static sums block_sums(const float *dy, const float *x, const float *y, clip_act r, block k, float mean)
{
    sums all = {0};
    EACH_PART(k, at, rows, count)
    if (k.length < SHORT)
        bundle_products(dy + at, x + at, r.on ? y + at : NULL, r, rows, count, k.step, mean, &all);
    else
        line_products(dy + at, x + at, r.on ? y + at : NULL, r, count, mean, &all);
    return all;
}

/* ---- what is done to every element of a channel ---- */

typedef struct affine { /* forward: y = (x - mean) * a + b; backward: dx = dy * a - (x - mean) * k - b */
    float mean, a, b, k;
} affine;

/* residual: NULL or added before the relu. */
static void block_forward(const float *x, const float *residual, float *y, block k, affine f, clip_act act)
{
    for (int64_t r = 0; r < k.rows; r++) {
        int64_t at = k.at + r * k.step;
        const float *from = x + at, *add = residual ? residual + at : NULL;
        float *to = y + at;
        if (add)
            PRAGMA(omp simd)
            for (int64_t i = 0; i < k.length; i++)
                to[i] = act_forward(act, (from[i] - f.mean) * f.a + f.b + add[i]);
        else if (act.on)
            PRAGMA(omp simd)
            for (int64_t i = 0; i < k.length; i++)
                to[i] = act_forward(act, (from[i] - f.mean) * f.a + f.b);
        else
            PRAGMA(omp simd)
            for (int64_t i = 0; i < k.length; i++)
                to[i] = (from[i] - f.mean) * f.a + f.b;
    }
}

/* y: the result of the forward direction, with a relu; masked: NULL or where the gradient before the relu goes. */
static void block_backward(const float *dy, const float *x, const float *y, float *dx, float *masked, block k, affine f,
                           clip_act act)
{
    for (int64_t r = 0; r < k.rows; r++) {
        int64_t at = k.at + r * k.step;
        const float *g = dy + at, *row = x + at, *done = act.on ? y + at : NULL;
        float *to = dx + at, *keep = masked ? masked + at : NULL;
        if (keep)
            PRAGMA(omp simd)
            for (int64_t i = 0; i < k.length; i++) {
                float v = act_backward(act, g[i], done[i]);
                keep[i] = v;
                to[i] = v * f.a - (row[i] - f.mean) * f.k - f.b;
            }
        else if (act.on)
            PRAGMA(omp simd)
            for (int64_t i = 0; i < k.length; i++)
                to[i] = act_backward(act, g[i], done[i]) * f.a - (row[i] - f.mean) * f.k - f.b;
        else
            PRAGMA(omp simd)
            for (int64_t i = 0; i < k.length; i++)
                to[i] = g[i] * f.a - (row[i] - f.mean) * f.k - f.b;
    }
}

static affine forward_of(double mean, double var, double epsilon, float scale, float bias)
{
    return (affine){.mean = (float)mean, .a = (float)((double)scale / sqrt(var + epsilon)), .b = bias};
}

/* ---- one pass over everything, by channel or by block ---- */

/* What a pass needs; `each` works on one channel's result. */
typedef struct pass {
    const kernel_args *a;
    layout l;
    const float *x, *dy;
    float *y;               /* what is made: y, or dx */
    clip_act act;
    const float *residual;  /* forward: added before the relu, or NULL */
    const float *result;    /* backward: y of the forward direction, with a relu */
    float *masked;          /* backward: where dy before the relu goes, or NULL */
    const float *mean, *var; /* given statistics (backward, inference) */
    void (*finish)(const struct pass *p, int64_t c, moments m, sums s, affine *f);
} pass;

static bool whole_channels(const layout *l, int threads)
{
    return l->c % threads == 0 || l->c >= 4 * (int64_t)threads;
}

static void reduce_block(const pass *p, int64_t c, int64_t b, moments *m, sums *s)
{
    block k = block_of(&p->l, c, b);
    if (p->dy)
        *s = block_sums(p->dy, p->x, p->result, p->act, k, p->mean[c]);
    else if (!p->mean)
        *m = block_moments(p->x, k);
}

static void apply_block(const pass *p, int64_t c, int64_t b, affine f)
{
    block k = block_of(&p->l, c, b);
    if (p->dy)
        block_backward(p->dy, p->x, p->result, p->y, p->masked, k, f, p->act);
    else
        block_forward(p->x, p->residual, p->y, k, f, p->act);
}

typedef struct partial { /* of one block, in the workspace */
    moments m;
    sums s;
} partial;

static void run_channel(const pass *p, int64_t c)
{
    partial all = {0};
    affine f = {0};
    for (int64_t b = 0; b < p->l.blocks; b++) {
        partial one = {0};
        reduce_block(p, c, b, &one.m, &one.s);
        join(&all.m, one.m);
        all.s.dy += one.s.dy;
        all.s.dy_x += one.s.dy_x;
    }
    p->finish(p, c, all.m, all.s, &f);
    for (int64_t b = 0; b < p->l.blocks; b++)
        apply_block(p, c, b, f);
}

static void run_by_channel(const pass *p)
{
    PARALLEL_FOR(c, p->l.c, p->a->threads, p->l.n * p->l.c * p->l.s)
    run_channel(p, c);
}

static void run_by_block(const pass *p)
{
    int64_t units = p->l.c * p->l.blocks, n = p->l.n * p->l.c * p->l.s;
    partial *one = p->a->work; /* [c][blocks], then affine [c] */
    affine *f = (affine *)(one + units);
    PARALLEL_FOR(u, units, p->a->threads, n)
    {
        one[u] = (partial){0};
        reduce_block(p, u / p->l.blocks, u % p->l.blocks, &one[u].m, &one[u].s);
    }
    for (int64_t c = 0; c < p->l.c; c++) {
        partial all = {0};
        for (int64_t b = 0; b < p->l.blocks; b++) {
            join(&all.m, one[c * p->l.blocks + b].m);
            all.s.dy += one[c * p->l.blocks + b].s.dy;
            all.s.dy_x += one[c * p->l.blocks + b].s.dy_x;
        }
        p->finish(p, c, all.m, all.s, &f[c]);
    }
    PARALLEL_FOR(u, units, p->a->threads, n)
    apply_block(p, u / p->l.blocks, u % p->l.blocks, f[u / p->l.blocks]);
}

/* ---- s = 1: strips of channels ---- */

#define WIDE        64 /* channels of a strip: whole cache lines side by side */
#define NARROW      16
#define COLUMN_ROWS 64 /* rows summed in float before they are joined in double */

/* Columns c0 .. c0+w-1 of rows r0 .. r1-1; the order of summation within a column is that of the rows. */
INLINE void strip_moments(const pass *p, int64_t c0, const int w, int64_t r0, int64_t r1, moments *all)
{
    const int64_t step = p->l.c;
    const double n = (double)(r1 - r0);
    float sum[WIDE] = {0}, off[WIDE] = {0}, square[WIDE] = {0}, pivot[WIDE];
    for (int64_t r = r0; r < r1; r++)
        PRAGMA(omp simd)
        for (int i = 0; i < w; i++)
            sum[i] += p->x[r * step + c0 + i];
    for (int i = 0; i < w; i++)
        pivot[i] = sum[i] / (float)n;
    for (int64_t r = r0; r < r1; r++)
        PRAGMA(omp simd)
        for (int i = 0; i < w; i++) {
            float d = p->x[r * step + c0 + i] - pivot[i];
            off[i] += d;
            square[i] += d * d;
        }
    for (int i = 0; i < w; i++) {
        double shift = (double)off[i] / n;
        join(&all[i], (moments){n, (double)pivot[i] + shift, (double)square[i] - shift * (double)off[i]});
    }
}

INLINE void strip_sums(const pass *p, int64_t c0, const int w, int64_t r0, int64_t r1, sums *all)
{
    const int64_t step = p->l.c;
    float sum[WIDE] = {0}, sum_x[WIDE] = {0};
    for (int64_t r = r0; r < r1; r++)
        PRAGMA(omp simd)
        for (int i = 0; i < w; i++) {
            int64_t at = r * step + c0 + i;
            float g = act_backward(p->act, p->dy[at], p->act.on ? p->result[at] : 0);
            sum[i] += g;
            sum_x[i] += g * (p->x[at] - p->mean[c0 + i]);
        }
    for (int i = 0; i < w; i++) {
        all[i].dy += (double)sum[i];
        all[i].dy_x += (double)sum_x[i];
    }
}

INLINE void strip_apply(const pass *p, int64_t c0, const int w, const affine *f)
{
    float mean[WIDE], a[WIDE], b[WIDE], k[WIDE];
    for (int i = 0; i < w; i++) {
        mean[i] = f[i].mean;
        a[i] = f[i].a;
        b[i] = f[i].b;
        k[i] = f[i].k;
    }
    for (int64_t r = 0; r < p->l.n; r++) {
        const int64_t at = r * p->l.c + c0;
        const float *x = p->x + at, *dy = p->dy ? p->dy + at : NULL;
        float *y = p->y + at;
        if (dy)
            PRAGMA(omp simd)
            for (int i = 0; i < w; i++) {
                float g = act_backward(p->act, dy[i], p->act.on ? p->result[at + i] : 0);
                if (p->masked)
                    p->masked[at + i] = g;
                y[i] = g * a[i] - (x[i] - mean[i]) * k[i] - b[i];
            }
        else
            PRAGMA(omp simd)
            for (int i = 0; i < w; i++)
                y[i] = act_forward(p->act, (x[i] - mean[i]) * a[i] + b[i] + (p->residual ? p->residual[at + i] : 0));
    }
}

INLINE void run_strip(const pass *p, int64_t c0, const int w)
{
    moments m[WIDE] = {{0}};
    sums s[WIDE] = {{0}};
    affine f[WIDE];
    for (int64_t r = 0; r < p->l.n; r += COLUMN_ROWS) {
        int64_t end = r + COLUMN_ROWS < p->l.n ? r + COLUMN_ROWS : p->l.n;
        if (p->dy)
            strip_sums(p, c0, w, r, end, s);
        else if (!p->mean)
            strip_moments(p, c0, w, r, end, m);
    }
    for (int i = 0; i < w; i++)
        p->finish(p, c0 + i, m[i], s[i], &f[i]);
    strip_apply(p, c0, w, f);
}

/* Wide strips, then narrow ones, then single channels. */
static void run_strips(const pass *p)
{
    const int64_t wide = p->l.c / WIDE, narrow = p->l.c % WIDE / NARROW, units = wide + narrow + p->l.c % NARROW;
    PARALLEL_FOR(u, units, p->a->threads, p->l.n * p->l.c)
    {
        if (u < wide)
            run_strip(p, u * WIDE, WIDE);
        else if (u < wide + narrow)
            run_strip(p, wide * WIDE + (u - wide) * NARROW, NARROW);
        else
            run_channel(p, p->l.c - units + u);
    }
}

static void run(const pass *p)
{
    if (p->l.s == 1 && p->l.c >= NARROW)
        run_strips(p);
    else if (whole_channels(&p->l, p->a->threads))
        run_by_channel(p);
    else
        run_by_block(p);
}

static size_t partials_size(const layout *l)
{
    return (size_t)(l->c * l->blocks) * sizeof(partial) + (size_t)l->c * sizeof(affine);
}

/* ---- the operators ---- */

static double epsilon_of(const pass *p)
{
    return ((const batch_norm_attrs *)p->a->attr)->epsilon;
}

static clip_act act_of(const kernel_args *a)
{
    const batch_norm_attrs *at = a->attr;
    return (clip_act){at->relu != 0, at->ceiling > 0 ? (float)at->ceiling : INFINITY};
}

static void finish_train(const pass *p, int64_t c, moments m, sums s, affine *f)
{
    (void)s;
    double var = m.m2 / m.n;
    ((float *)p->a->out[1].data)[c] = (float)m.mean;
    ((float *)p->a->out[2].data)[c] = (float)var;
    *f = forward_of(m.mean, var, epsilon_of(p), ((const float *)p->a->in[1].data)[c],
                    ((const float *)p->a->in[2].data)[c]);
}

static void batch_norm_train(const kernel_args *a)
{
    pass p = {.a = a, .l = layout_of(&a->in[0].sh, false), .x = a->in[0].data, .y = a->out[0].data, .act = act_of(a),
              .residual = a->n_in > 3 ? a->in[3].data : NULL, .finish = finish_train};
    run(&p);
}

static size_t batch_norm_work(const kernel_args *a)
{
    layout l = layout_of(&a->out[0].sh, false);
    return partials_size(&l);
}

/* Inference, and ONNX's training form: running = running * momentum + batch * (1 - momentum). */
static void finish_inference(const pass *p, int64_t c, moments m, sums s, affine *f)
{
    const kernel_args *a = p->a;
    const batch_norm_attrs *at = a->attr;
    const float *mean = a->in[3].data, *var = a->in[4].data;
    double use_mean = (double)mean[c], use_var = (double)var[c], keep = at->momentum;
    (void)s;
    if (at->training_mode) {
        use_mean = m.mean;
        use_var = m.m2 / m.n;
        if (a->n_out > 1 && a->out[1].data)
            ((float *)a->out[1].data)[c] = (float)((double)mean[c] * keep + use_mean * (1 - keep));
        if (a->n_out > 2 && a->out[2].data)
            ((float *)a->out[2].data)[c] = (float)((double)var[c] * keep + use_var * (1 - keep));
    }
    *f = forward_of(use_mean, use_var, at->epsilon, ((const float *)a->in[1].data)[c],
                    ((const float *)a->in[2].data)[c]);
}

static void batch_norm(const kernel_args *a)
{
    bool training = ((const batch_norm_attrs *)a->attr)->training_mode;
    pass p = {.a = a, .l = layout_of(&a->in[0].sh, false), .x = a->in[0].data, .y = a->out[0].data, .act = act_of(a),
              .mean = training ? NULL : a->in[3].data, .finish = finish_inference};
    run(&p);
}

static void finish_grad(const pass *p, int64_t c, moments m, sums s, affine *f)
{
    const kernel_args *a = p->a;
    const batch_norm_attrs *at = a->attr;
    double inv = 1 / sqrt((double)p->var[c] + at->epsilon), count = (double)(p->l.n * p->l.s);
    double scale = (double)((const float *)a->in[2].data)[c] * inv;
    (void)m;
    *f = (affine){.mean = p->mean[c], .a = (float)scale};
    if (at->training_mode) {
        f->k = (float)(scale * inv * inv * s.dy_x / count);
        f->b = (float)(scale * s.dy / count);
    }
    if (a->n_out > 1 && a->out[1].data)
        ((float *)a->out[1].data)[c] = (float)(s.dy_x * inv);
    if (a->n_out > 2 && a->out[2].data)
        ((float *)a->out[2].data)[c] = (float)s.dy;
}

static void batch_norm_grad(const kernel_args *a)
{
    pass p = {.a = a, .l = layout_of(&a->in[1].sh, false), .dy = a->in[0].data, .x = a->in[1].data,
              .y = a->out[0].data, .act = act_of(a), .result = a->n_in > 5 ? a->in[5].data : NULL,
              .masked = a->n_out > 3 ? a->out[3].data : NULL, .mean = a->in[3].data, .var = a->in[4].data,
              .finish = finish_grad};
    run(&p);
}

static bool has_result(const kernel_args *a)
{
    return !((const batch_norm_attrs *)a->attr)->relu || (a->n_in > 5 && a->in[5].type != DTYPE_NONE);
}

static void finish_instance(const pass *p, int64_t c, moments m, sums s, affine *f)
{
    int64_t channels = p->a->in[0].sh.dim[1];
    (void)s;
    *f = forward_of(m.mean, m.m2 / m.n, ((const instance_norm_attrs *)p->a->attr)->epsilon,
                    ((const float *)p->a->in[1].data)[c % channels], ((const float *)p->a->in[2].data)[c % channels]);
}

static void instance_norm(const kernel_args *a)
{
    pass p = {.a = a, .l = layout_of(&a->in[0].sh, true), .x = a->in[0].data, .y = a->out[0].data,
              .finish = finish_instance};
    run(&p);
}

static size_t instance_norm_work(const kernel_args *a)
{
    layout l = layout_of(&a->in[0].sh, true);
    return partials_size(&l);
}

KERNEL_TABLE(batch_norm) = {
    {OP_BATCH_NORM, REAL_DTYPE, REAL_ISA, "batch_norm_f32", batch_norm, batch_norm_work},
    {OP_BATCH_NORM_TRAIN, REAL_DTYPE, REAL_ISA, "batch_norm_train_f32", batch_norm_train, batch_norm_work},
    {OP_BATCH_NORM_GRAD, REAL_DTYPE, REAL_ISA, "batch_norm_grad_f32", batch_norm_grad, batch_norm_work, has_result},
    {OP_INSTANCE_NORM, REAL_DTYPE, REAL_ISA, "instance_norm_f32", instance_norm, instance_norm_work},
    KERNEL_END,
};
