/* loss_simd.c - losses: fast float32. Exponentials and differences in float, sums over a row in float by lanes, sums over
 * rows in double and in order. Formulas and reductions in src/ops/loss.c. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/loss.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vmath.h"

#include <math.h>
#include <string.h>

/* ---- KdLoss ---- */

typedef struct kd_row { /* of one row, in the workspace */
    double ce, kl;
    bool correct, agrees;
} kd_row;

typedef struct kd_call {
    const kernel_args *a;
    const kd_loss_attrs *at;
    const float *z, *teacher, *lambda;
    const int64_t *label, *label2;
    float *dz;
    int64_t rows, classes;
    double w_task, w_kd, t, divisor;
} kd_call;

static float row_max(const float *z, int64_t n)
{
    float m = -INFINITY;
    PRAGMA(omp simd reduction(max : m))
    for (int64_t c = 0; c < n; c++)
        m = z[c] > m ? z[c] : m;
    return m;
}

/* The first class with the largest logit; `max` is that logit. */
static int64_t first_of(const float *z, int64_t n, float max)
{
    for (int64_t c = 0; c < n; c++)
        if (z[c] == max)
            return c;
    return 0;
}

/* sum_c p_t (log p_t - log p_s), with e = exp(. / T - max / T), S = sum e:
 *   = sum_c e_t ((t_c - max_t) - (z_c - max_s)) / T / S_t + log S_s - log S_t;
 * dz_c = factor * (e_s / S_s - e_t / S_t). */
static double kl_row(const float *z, const float *t, float *dz, int64_t n, float max_z, float max_t, double temperature,
                     double factor)
{
    const float over = (float)(1 / temperature);
    float sum_z = 0, sum_t = 0, dot = 0;
    PRAGMA(omp simd reduction(+ : sum_z, sum_t, dot))
    for (int64_t c = 0; c < n; c++) {
        float a = (z[c] - max_z) * over, b = (t[c] - max_t) * over;
        float ez = v_exp(a), et = v_exp(b);
        dz[c] = ez;
        sum_z += ez;
        sum_t += et;
        dot += et > 0 ? et * (b - a) : 0; /* a class without probability counts nothing, however far off */
    }
    const float fz = (float)(factor / (double)sum_z), ft = (float)(factor / (double)sum_t);
    PRAGMA(omp simd)
    for (int64_t c = 0; c < n; c++)
        dz[c] = dz[c] * fz - v_exp((t[c] - max_t) * over) * ft;
    return (double)dot / (double)sum_t + log((double)sum_z) - log((double)sum_t);
}

/* A hard or mixed label without class weights: q is eps / C everywhere and more at the labels. Adds to dz. */
static double ce_row(const kd_call *k, const float *z, float *dz, const kd_label *l, float max, double factor)
{
    const int64_t n = k->classes;
    const double eps = k->at->label_smoothing, even = eps / (double)n;
    float sum = 0, all = 0;
    PRAGMA(omp simd reduction(+ : sum, all))
    for (int64_t c = 0; c < n; c++) {
        sum += v_exp(z[c] - max);
        all += z[c] - max;
    }
    const double log_sum = log((double)sum);
    const float f = (float)(factor / (double)sum), even_f = (float)(factor * even);
    PRAGMA(omp simd)
    for (int64_t c = 0; c < n; c++)
        dz[c] += v_exp(z[c] - max) * f - even_f;
    double share[2] = {l->share, 1 - l->share}, ce = eps > 0 ? log_sum * eps - even * (double)all : 0;
    for (int i = 0; i < 2; i++) {
        int64_t c = i ? l->second : l->first;
        if (share[i] == 0)
            continue;
        ce += (1 - eps) * share[i] * (log_sum - ((double)z[c] - (double)max));
        dz[c] -= (float)(factor * (1 - eps) * share[i]);
    }
    return ce;
}

/* With class weights. */
static double weighted_ce_row(const kd_call *k, const float *z, float *dz, const kd_label *l, float max, double factor)
{
    const int64_t n = k->classes;
    double all = 0, ce = 0;
    float sum = 0;
    PRAGMA(omp simd reduction(+ : sum))
    for (int64_t c = 0; c < n; c++)
        sum += v_exp(z[c] - max);
    const double log_sum = log((double)sum);
    for (int64_t c = 0; c < n; c++)
        all += kd_target(k->at, l, c, n);
    for (int64_t c = 0; c < n; c++) {
        double q = kd_target(k->at, l, c, n), z_c = (double)z[c] - (double)max;
        if (q > 0)
            ce += q * (log_sum - z_c);
        dz[c] += (float)(factor * ((double)v_exp((float)z_c) / (double)sum * all - q));
    }
    return ce;
}

static void kd_one(const kd_call *k, int64_t r, kd_row *out)
{
    const int64_t n = k->classes;
    const float *z = k->z + r * n, *t = k->teacher ? k->teacher + r * n : NULL;
    float *dz = k->dz + r * n;
    const float max = row_max(z, n), max_t = t ? row_max(t, n) : 0;
    const int64_t best = first_of(z, n, max);
    *out = (kd_row){0};
    if (t) {
        out->kl = kl_row(z, t, dz, n, max, max_t, k->t, k->w_kd * k->t / (double)k->rows);
        out->agrees = best == first_of(t, n, max_t);
    }
    for (int64_t c = 0; c < n && (!t || k->w_kd == 0); c++)
        dz[c] = 0;
    kd_label l = kd_row_label(k->label, k->label2, k->lambda, false, r);
    if (!l.labelled)
        return;
    out->correct = best == l.main;
    if (l.first >= n || l.second >= n) {
        out->ce = (double)NAN;
        for (int64_t c = 0; c < n && k->w_task != 0; c++)
            dz[c] = NAN;
        return;
    }
    double factor = k->divisor > 0 ? k->w_task / k->divisor : 0;
    out->ce = k->at->class_weights.v ? weighted_ce_row(k, z, dz, &l, max, factor) : ce_row(k, z, dz, &l, max, factor);
}

/* ---- few classes: LANES rows side by side, so that vectors are full and the logarithms are vectors too ---- */

#define LANES        16
#define LANE_CLASSES 64
typedef float lanes[LANES];

/* to[c][i] = from[i][c]; rows beyond the last repeat it. */
static void load_lanes(const float *from, int64_t rows, int64_t n, lanes *to)
{
    for (int64_t i = 0; i < LANES; i++) {
        const float *row = from + (i < rows ? i : rows - 1) * n;
        for (int64_t c = 0; c < n; c++)
            to[c][i] = row[c];
    }
}

static void max_lanes(const lanes *z, int64_t n, float *max, int32_t *best)
{
    for (int i = 0; i < LANES; i++) {
        max[i] = -INFINITY;
        best[i] = 0;
    }
    for (int64_t c = 0; c < n; c++)
        PRAGMA(omp simd)
        for (int i = 0; i < LANES; i++) {
            best[i] = z[c][i] > max[i] ? (int32_t)c : best[i];
            max[i] = z[c][i] > max[i] ? z[c][i] : max[i];
        }
}

/* As kl_row; e: exp((z - max) / T), which the caller may use again when T is 1. */
static void kl_lanes(const lanes *z, const lanes *t, int64_t n, const float *max, const float *max_t, double temperature,
                     double factor, lanes *dz, lanes *e, float *sum, float *kl)
{
    const float over = (float)(1 / temperature), f = (float)factor;
    lanes sum_t = {0}, dot = {0}, fz, ft;
    for (int64_t c = 0; c < n; c++)
        PRAGMA(omp simd)
        for (int i = 0; i < LANES; i++) {
            float a = (z[c][i] - max[i]) * over, b = (t[c][i] - max_t[i]) * over;
            float ez = v_exp(a), et = v_exp(b);
            e[c][i] = ez;
            dz[c][i] = et;
            sum[i] += ez;
            sum_t[i] += et;
            dot[i] += et > 0 ? et * (b - a) : 0;
        }
    PRAGMA(omp simd)
    for (int i = 0; i < LANES; i++) {
        fz[i] = f / sum[i];
        ft[i] = f / sum_t[i];
        kl[i] = dot[i] / sum_t[i] + v_log(sum[i] / sum_t[i]);
    }
    for (int64_t c = 0; c < n; c++)
        PRAGMA(omp simd)
        for (int i = 0; i < LANES; i++)
            dz[c][i] = e[c][i] * fz[i] - dz[c][i] * ft[i];
}

/* As ce_row, but for the labels' own terms. factor[i] is 0 in rows without a label. */
static void ce_lanes(const lanes *z, int64_t n, const float *max, double even, const float *factor, lanes *dz, lanes *e,
                     float *sum, float *all, bool have)
{
    lanes f, even_f;
    for (int64_t c = 0; c < n && !have; c++)
        PRAGMA(omp simd)
        for (int i = 0; i < LANES; i++) {
            e[c][i] = v_exp(z[c][i] - max[i]);
            sum[i] += e[c][i];
        }
    PRAGMA(omp simd)
    for (int i = 0; i < LANES; i++) {
        f[i] = factor[i] / sum[i];
        even_f[i] = factor[i] * (float)even;
    }
    for (int64_t c = 0; c < n; c++)
        PRAGMA(omp simd)
        for (int i = 0; i < LANES; i++) {
            dz[c][i] += factor[i] != 0 ? e[c][i] * f[i] - even_f[i] : 0;
            all[i] += z[c][i] - max[i];
        }
}

/* Loss and gradient of the labels of one lane, whose row has log(sum exp(z - max)) = log_sum. */
static double label_lane(const kd_call *k, const kd_label *l, const lanes *z, lanes *dz, int i, float max, float all,
                         float log_sum, double factor)
{
    const double eps = k->at->label_smoothing, share[2] = {l->share, 1 - l->share};
    double ce = eps > 0 ? (double)log_sum * eps - eps / (double)k->classes * (double)all : 0;
    for (int s = 0; s < 2; s++) {
        int64_t c = s ? l->second : l->first;
        if (share[s] == 0)
            continue;
        ce += (1 - eps) * share[s] * ((double)log_sum - ((double)z[c][i] - (double)max));
        dz[c][i] -= (float)(factor * (1 - eps) * share[s]);
    }
    return ce;
}

static void kd_lanes(const kd_call *k, int64_t first, kd_row *out)
{
    const int64_t n = k->classes, rows = k->rows - first < LANES ? k->rows - first : LANES;
    const double factor = k->divisor > 0 ? k->w_task / k->divisor : 0;
    lanes z[LANE_CLASSES], t[LANE_CLASSES], dz[LANE_CLASSES], e[LANE_CLASSES];
    lanes max, max_t, kl = {0}, sum = {0}, sum_ce = {0}, all = {0}, log_sum, factors = {0};
    int32_t best[LANES], best_t[LANES];
    kd_label label[LANES];
    bool any = false, same = k->teacher && k->t == 1;
    load_lanes(k->z + first * n, rows, n, z);
    max_lanes((const lanes *)z, n, max, best);
    if (k->teacher) {
        load_lanes(k->teacher + first * n, rows, n, t);
        max_lanes((const lanes *)t, n, max_t, best_t);
        kl_lanes((const lanes *)z, (const lanes *)t, n, max, max_t, k->t, k->w_kd * k->t / (double)k->rows, dz, e, sum, kl);
    }
    if (!k->teacher || k->w_kd == 0)
        memset(dz, 0, (size_t)n * sizeof *dz);
    for (int64_t i = 0; i < rows; i++) {
        label[i] = kd_row_label(k->label, k->label2, k->lambda, false, first + i);
        any |= label[i].labelled;
        factors[i] = label[i].labelled ? (float)factor : 0;
    }
    float *total = same ? sum : sum_ce;
    if (any)
        ce_lanes((const lanes *)z, n, max, k->at->label_smoothing / (double)n, factors, dz, e, total, all, same);
    for (int i = 0; i < LANES; i++)
        log_sum[i] = any ? v_log(total[i]) : 0;
    for (int i = 0; i < (int)rows; i++) {
        const kd_label *l = &label[i];
        out[i] = (kd_row){.kl = (double)kl[i], .agrees = k->teacher && best[i] == best_t[i]};
        if (l->labelled && (l->first >= n || l->second >= n)) { /* wrong data */
            kd_one(k, first + i, &out[i]);
            continue;
        }
        if (l->labelled) {
            out[i].correct = best[i] == l->main;
            out[i].ce = label_lane(k, l, (const lanes *)z, dz, i, max[i], all[i], log_sum[i], factor);
        }
        for (int64_t c = 0; c < n; c++)
            k->dz[(first + i) * n + c] = dz[c][i];
    }
}

static size_t kd_work(const kernel_args *a)
{
    return (size_t)(shape_count(&a->in[0].sh) / a->in[0].sh.dim[a->in[0].sh.rank - 1]) * sizeof(kd_row);
}

static void kd_loss(const kernel_args *a)
{
    const float *w = a->in[5].data;
    kd_call k = {.a = a, .at = a->attr, .z = a->in[0].data, .teacher = kd_input(a, 1), .label = kd_input(a, 2),
                 .label2 = kd_input(a, 3), .lambda = kd_input(a, 4), .dz = a->out[3].data,
                 .classes = a->in[0].sh.dim[a->in[0].sh.rank - 1], .w_task = (double)w[0], .w_kd = (double)w[1],
                 .t = (double)w[2]};
    k.rows = shape_count(&a->in[0].sh) / k.classes;
    k.divisor = kd_divisor(k.at, k.label, k.label2, k.lambda, false, k.rows, k.classes);
    kd_row *row = a->work;
    if (k.classes <= LANE_CLASSES && !k.at->class_weights.v) {
        PARALLEL_FOR(b, block_count(k.rows, LANES), a->threads, k.rows * k.classes * 2)
        kd_lanes(&k, b * LANES, &row[b * LANES]);
    } else {
        PARALLEL_FOR(r, k.rows, a->threads, k.rows * k.classes * 8)
        kd_one(&k, r, &row[r]);
    }
    double ce = 0, kl = 0;
    int64_t correct = 0, agree = 0;
    for (int64_t r = 0; r < k.rows; r++) {
        ce += row[r].ce;
        kl += row[r].kl;
        correct += row[r].correct;
        agree += row[r].agrees;
    }
    ce = k.divisor > 0 ? ce / k.divisor : ce;
    kl *= k.t * k.t / (double)k.rows;
    double total = (k.w_task != 0 ? k.w_task * ce : 0) + (k.w_kd != 0 && k.teacher ? k.w_kd * kl : 0);
    *(float *)a->out[0].data = (float)total;
    *(float *)a->out[1].data = (float)ce;
    *(float *)a->out[2].data = (float)kl;
    if (a->n_out > 4 && a->out[4].data)
        *(float *)a->out[4].data = (float)correct;
    if (a->n_out > 5 && a->out[5].data)
        *(float *)a->out[5].data = (float)agree;
}

/* ---- mean losses: blocks of a sample (dimension 0), or of everything when no sample can be masked ---- */

typedef double pair_sum(const float *a, const float *b, int64_t n);
typedef void pair_slope(const float *a, const float *b, float *dx, int64_t n, float factor);

#define PIECE 1024 /* elements summed in float */
#define PAIR_SUM(name, ...)                                                                                       \
    static double name(const float *x, const float *y, int64_t n)                                                 \
    {                                                                                                             \
        double total = 0;                                                                                         \
        for (int64_t p = 0; p < n; p += PIECE) {                                                                  \
            const int64_t end = p + PIECE < n ? p + PIECE : n;                                                    \
            float sum = 0;                                                                                        \
            PRAGMA(omp simd reduction(+ : sum))                                                                   \
            for (int64_t i = p; i < end; i++) {                                                                   \
                const float a = x[i], b = y[i];                                                                   \
                sum += __VA_ARGS__;                                                                               \
            }                                                                                                     \
            total += (double)sum;                                                                                 \
        }                                                                                                         \
        return total;                                                                                             \
    }
#define PAIR_SLOPE(name, ...)                                                                                     \
    static void name(const float *x, const float *y, float *dx, int64_t n, float factor)                          \
    {                                                                                                             \
        PRAGMA(omp simd)                                                                                          \
        for (int64_t i = 0; i < n; i++) {                                                                         \
            const float a = x[i], b = y[i];                                                                       \
            dx[i] = factor * (__VA_ARGS__);                                                                       \
        }                                                                                                         \
    }
#define SIGN(d) ((d) > 0 ? 1.0f : (d) < 0 ? -1.0f : (d)) /* NaN stays NaN */

PAIR_SUM(bce_sum, (a > 0 ? a : 0) - a * b + v_log1p(v_exp(-v_abs(a))))
PAIR_SUM(mse_sum, (a - b) * (a - b))
PAIR_SUM(l1_sum, v_abs(a - b))
PAIR_SUM(smooth_l1_sum, v_abs(a - b) < 1 ? 0.5f * (a - b) * (a - b) : v_abs(a - b) - 0.5f)
PAIR_SLOPE(bce_slope, v_sigmoid(a) - b)
PAIR_SLOPE(mse_slope, 2 * (a - b))
PAIR_SLOPE(l1_slope, SIGN(a - b))
PAIR_SLOPE(smooth_l1_slope, v_abs(a - b) < 1 ? a - b : SIGN(a - b))

static pair_sum *const regression_sum[] = {[REGRESSION_MSE] = mse_sum, [REGRESSION_L1] = l1_sum,
                                           [REGRESSION_SMOOTH_L1] = smooth_l1_sum};
static pair_slope *const regression_slope[] = {[REGRESSION_MSE] = mse_slope, [REGRESSION_L1] = l1_slope,
                                               [REGRESSION_SMOOTH_L1] = smooth_l1_slope};

typedef struct samples {
    int64_t n, each, blocks; /* blocks of a sample */
} samples;

static samples samples_of(const shape *s, bool masked)
{
    int64_t all = shape_count(s), n = masked && s->rank > 0 ? s->dim[0] : 1;
    return (samples){n, all / n, block_count(all / n, BLOCK_ELEMENTS)};
}

static bool has_nan(const float *x, int64_t n)
{
    int found = 0;
    PRAGMA(omp simd reduction(| : found))
    for (int64_t i = 0; i < n; i++)
        found |= x[i] != x[i];
    return found;
}

typedef struct part { /* of one block, in the workspace */
    double sum;
    int64_t nan; /* its target holds a NaN */
} part;

static size_t mean_work(const kernel_args *a)
{
    const shape *s = &a->in[a->n_in - 1].sh;
    samples k = samples_of(s, true), all = samples_of(s, false);
    int64_t most = k.n * k.blocks > all.blocks ? k.n * k.blocks : all.blocks;
    return (size_t)most * sizeof(part);
}

static void mean_loss(const kernel_args *a, bool masked, pair_sum *sum)
{
    const float *x = a->in[0].data, *y = a->in[1].data;
    const samples s = samples_of(&a->in[0].sh, masked);
    part *p = a->work;
    PARALLEL_FOR(u, s.n * s.blocks, a->threads, s.n * s.each)
    {
        int64_t b = u % s.blocks, from = b * BLOCK_ELEMENTS, n = block_end(b, s.each, BLOCK_ELEMENTS) - from;
        from += u / s.blocks * s.each;
        p[u] = (part){sum(x + from, y + from, n), masked && has_nan(y + from, n)};
    }
    double total = 0;
    int64_t count = 0;
    for (int64_t i = 0; i < s.n; i++) {
        double of_sample = 0;
        int64_t nan = 0;
        for (int64_t b = i * s.blocks; b < (i + 1) * s.blocks; b++) {
            of_sample += p[b].sum;
            nan |= p[b].nan;
        }
        total += nan ? 0 : of_sample;
        count += nan ? 0 : s.each;
    }
    *(float *)a->out[0].data = (float)(count ? total / (double)count : 0);
}

static void mean_loss_grad(const kernel_args *a, bool masked, pair_slope *slope)
{
    const float *x = a->in[1].data, *y = a->in[2].data;
    float *dx = a->out[0].data;
    const samples s = samples_of(&a->in[1].sh, masked);
    part *p = a->work;
    int64_t count = s.n * s.each;
    for (int64_t i = 0; i < s.n && masked; i++) {
        p[i].nan = has_nan(y + i * s.each, s.each);
        count -= p[i].nan ? s.each : 0;
    }
    const float factor = count ? (float)((double)*(const float *)a->in[0].data / (double)count) : 0;
    PARALLEL_FOR(u, s.n * s.blocks, a->threads, s.n * s.each)
    {
        int64_t b = u % s.blocks, from = b * BLOCK_ELEMENTS, n = block_end(b, s.each, BLOCK_ELEMENTS) - from;
        from += u / s.blocks * s.each;
        if (!masked || !p[u / s.blocks].nan)
            slope(x + from, y + from, dx + from, n, factor);
        else
            for (int64_t i = from; i < from + n; i++)
                dx[i] = 0;
    }
}

static void bce_loss(const kernel_args *a)
{
    mean_loss(a, true, bce_sum);
}
static void bce_loss_grad(const kernel_args *a)
{
    mean_loss_grad(a, true, bce_slope);
}
static void regression_loss(const kernel_args *a)
{
    const regression_loss_attrs *at = a->attr;
    mean_loss(a, at->masked, regression_sum[at->kind]);
}
static void regression_loss_grad(const kernel_args *a)
{
    const regression_loss_attrs *at = a->attr;
    mean_loss_grad(a, at->masked, regression_slope[at->kind]);
}

KERNEL_TABLE(loss) = {
    {OP_KD_LOSS, REAL_DTYPE, REAL_ISA, "kd_loss_f32", kd_loss, kd_work},
    {OP_BCE_LOSS, REAL_DTYPE, REAL_ISA, "bce_loss_f32", bce_loss, mean_work},
    {OP_BCE_LOSS_GRAD, REAL_DTYPE, REAL_ISA, "bce_loss_grad_f32", bce_loss_grad, mean_work},
    {OP_REGRESSION_LOSS, REAL_DTYPE, REAL_ISA, "regression_loss_f32", regression_loss, mean_work},
    {OP_REGRESSION_LOSS_GRAD, REAL_DTYPE, REAL_ISA, "regression_loss_grad_f32", regression_loss_grad, mean_work},
    KERNEL_END,
};
