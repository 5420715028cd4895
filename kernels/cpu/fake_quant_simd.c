/* fake_quant_simd.c - FakeQuant and its gradient: fast float32; formulas in src/ops/fake_quant.c.
 *
 * x, y, dy, dx: [outer, scales, inner], or any shape in either layout with one scale: a zero stays a zero, so the lanes
 * beyond the channels stay what they have to be. Where the scale does not learn the backward direction divides nothing: which x
 * were inside is an interval whose ends are looked for once. Sums and ranges are joined in a fixed order. */
#include "kernels/cpu/blocked.h"
#include "kernels/cpu/fake_quant.h"
#include "kernels/cpu/parallel.h"

#define CHUNK 1024 /* elements whose sum is made in float */

typedef struct outcome { /* of a task */
    double sum;
    float low, high;
} outcome;

/* A task is a block of elements under one scale, or all that one of several scales covers. */
typedef struct tasks {
    quant_rows rows;
    int64_t n, total;
    bool single;
} tasks;

static tasks SIMD(tasks_of)(const kernel_args *a, int x)
{
    tasks t = {.rows = quant_rows_of(&a->in[x], &a->in[x + 1], a->attr)};
    t.single = t.rows.scales == 1 && t.rows.outer == 1;
    t.n = t.single ? block_count(t.rows.inner, BLOCK_ELEMENTS) : t.rows.scales;
    t.total = t.rows.outer * t.rows.scales * t.rows.inner;
    return t;
}

static size_t SIMD(forward_workspace)(const kernel_args *a)
{
    return a->n_out > 1 ? (size_t)SIMD(tasks_of)(a, 0).n * sizeof(outcome) : 0;
}
static size_t SIMD(backward_workspace)(const kernel_args *a)
{
    return a->n_out > 1 ? (size_t)SIMD(tasks_of)(a, 1).n * sizeof(outcome) : 0;
}

static const kernel_tensor *SIMD(zero_operand)(const kernel_args *a, int i)
{
    return i < a->n_in && a->in[i].data ? &a->in[i] : NULL;
}

/* ---- forward ---- */

ALWAYS_INLINE void SIMD(round_with)(const quantizer *p, const float *x, float *y, int64_t n, bool exact, bool grid)
{
    const quantizer q = *p;
    const float per_multiple = 1 / q.multiple;
    PRAGMA(omp simd)
    for (int64_t i = 0; i < n; i++) {
        const float ratio = exact ? x[i] * q.inverse : x[i] / q.scale;
        float r = grid ? rintf((ratio - q.offset) * per_multiple) * q.multiple + q.offset : rintf(ratio);
        r = r < q.low ? q.low : r;
        r = r > q.high ? q.high : r;
        y[i] = r * q.scale;
    }
}

static void SIMD(round_row)(const quantizer *q, const float *x, float *y, int64_t n)
{
    const bool exact = q->inverse != 0, powers = q->multiple == 2 || q->multiple == 4 || q->multiple == 8;
    if (q->multiple == 1 && exact)
        SIMD(round_with)(q, x, y, n, true, false);
    else if (q->multiple == 1)
        SIMD(round_with)(q, x, y, n, false, false);
    else if (powers && exact)
        SIMD(round_with)(q, x, y, n, true, true);
    else
        for (int64_t i = 0; i < n; i++)
            y[i] = quantizer_clamp(q, quantizer_round(q, quantizer_ratio(q, x[i]))) * q->scale;
}

static void SIMD(extremes)(const float *x, int64_t n, bool relu, float *lowest, float *highest)
{
    float low = *lowest, high = *highest, nan = 0;
    PRAGMA(omp simd reduction(min : low) reduction(max : high) reduction(+ : nan))
    for (int64_t i = 0; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
        nan += x[i] != x[i] ? 1 : 0;
    }
    *lowest = nan != 0 ? NAN : relu ? *lowest : low;
    *highest = nan != 0 ? NAN : high;
}

static void SIMD(forward)(const kernel_args *a)
{
    const fake_quant_attrs *at = a->attr;
    const tasks t = SIMD(tasks_of)(a, 0);
    const kernel_tensor *zero = SIMD(zero_operand)(a, 2);
    const float *x = a->in[0].data;
    float *y = a->out[0].data, *lo = a->n_out > 1 ? a->out[1].data : NULL, *hi = a->n_out > 2 ? a->out[2].data : NULL;
    outcome *made = a->work;
    const bool ranges = lo || hi, relu = at->relu != 0;
    const quantizer only = t.single ? quantizer_at(at, &a->in[1], zero, 0) : (quantizer){0};
    PARALLEL_FOR(k, t.n, a->threads, t.total)
    {
        const quantizer q = t.single ? only : quantizer_at(at, &a->in[1], zero, k);
        const int64_t length = t.single ? block_end(k, t.rows.inner, BLOCK_ELEMENTS) - k * BLOCK_ELEMENTS : t.rows.inner;
        outcome out = {0};
        for (int64_t o = 0; o < t.rows.outer; o++) {
            const int64_t from = t.single ? k * BLOCK_ELEMENTS : (o * t.rows.scales + k) * t.rows.inner;
            if (ranges)
                SIMD(extremes)(x + from, length, relu, &out.low, &out.high);
            SIMD(round_row)(&q, x + from, y + from, length);
        }
        if (ranges)
            made[k] = out;
    }
    if (ranges && t.single) /* into the first task's */
        for (int64_t k = 1; k < t.n; k++) {
            made[0].low = made[k].low < made[0].low || isnan(made[k].low) ? made[k].low : made[0].low;
            made[0].high = made[k].high > made[0].high || isnan(made[k].high) ? made[k].high : made[0].high;
        }
    for (int64_t k = 0; k < t.rows.scales; k++) {
        if (lo)
            lo[k] = t.n ? made[k].low : 0;
        if (hi)
            hi[k] = t.n ? made[k].high : 0;
    }
}

/* ---- backward ---- */

typedef struct interval { /* of the x that were inside; empty when low > high */
    float low, high;
} interval;

static bool SIMD(was_inside)(const quantizer *q, float x)
{
    return quantizer_inside(q, x, quantizer_round(q, quantizer_ratio(q, x)));
}

/* The ends lie within a few units in the last place of where the exact quotient is rounded over. */
static interval SIMD(inside_of)(const quantizer *q)
{
    interval in = {INFINITY, -INFINITY};
    if (isnan(q->scale))
        return in;
    float low = (q->below - 0.5f) * q->scale, high = (q->high + 0.5f) * q->scale;
    const float tiny = nextafterf(0, 1);
    low = q->relu && low < tiny ? tiny : low;
    for (int i = 0; i < 64 && SIMD(was_inside)(q, low) && low > -INFINITY; i++)
        low = nextafterf(low, -INFINITY);
    for (int i = 0; i < 64 && !SIMD(was_inside)(q, low); i++)
        low = nextafterf(low, INFINITY);
    for (int i = 0; i < 64 && SIMD(was_inside)(q, high) && high < INFINITY; i++)
        high = nextafterf(high, INFINITY);
    for (int i = 0; i < 64 && !SIMD(was_inside)(q, high); i++)
        high = nextafterf(high, -INFINITY);
    return (interval){low, high};
}

static void SIMD(mask_row)(interval in, const float *dy, const float *x, float *dx, int64_t n)
{
    PRAGMA(omp simd)
    for (int64_t i = 0; i < n; i++)
        dx[i] = x[i] >= in.low && x[i] <= in.high ? dy[i] : 0;
}

/* The same where the scale learns; the sum of its gradient's terms. */
ALWAYS_INLINE double SIMD(learn_with)(const quantizer *p, const float *dy, const float *x, float *dx, int64_t n, bool exact)
{
    const quantizer q = *p;
    const float floor_x = q.relu ? 0 : -INFINITY;
    double total = 0;
    for (int64_t from = 0; from < n; from += CHUNK) {
        const int64_t end = min_of(from + CHUNK, n);
        float sum = 0;
        PRAGMA(omp simd reduction(+ : sum))
        for (int64_t i = from; i < end; i++) {
            const float ratio = exact ? x[i] * q.inverse : x[i] / q.scale, r = rintf(ratio), d = dy[i];
            float kept = r < q.low ? q.low : r;
            kept = kept > q.high ? q.high : kept;
            const bool inside = r >= q.below && r <= q.high && x[i] > floor_x;
            sum += d * (inside ? kept - ratio : kept);
            dx[i] = inside ? d : 0;
        }
        total += (double)sum;
    }
    return total;
}

static double SIMD(general_row)(const quantizer *q, const float *dy, const float *x, float *dx, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const float ratio = quantizer_ratio(q, x[i]), r = quantizer_round(q, ratio), kept = quantizer_clamp(q, r);
        const bool inside = quantizer_inside(q, x[i], r);
        sum += (double)(dy[i] * (inside ? r - ratio : kept));
        dx[i] = inside ? dy[i] : 0;
    }
    return sum;
}

static double SIMD(learn_row)(const quantizer *q, const float *dy, const float *x, float *dx, int64_t n)
{
    if (q->multiple != 1)
        return SIMD(general_row)(q, dy, x, dx, n);
    return q->inverse != 0 ? SIMD(learn_with)(q, dy, x, dx, n, true) : SIMD(learn_with)(q, dy, x, dx, n, false);
}

static void SIMD(backward)(const kernel_args *a)
{
    const fake_quant_attrs *at = a->attr;
    const tasks t = SIMD(tasks_of)(a, 1);
    const kernel_tensor *zero = SIMD(zero_operand)(a, 3);
    const float *dy = a->in[0].data, *x = a->in[1].data;
    float *dx = a->out[0].data, *dscale = a->n_out > 1 ? a->out[1].data : NULL;
    outcome *made = a->work;
    const bool search = !dscale && at->multiple == 1 && t.rows.inner >= 16;
    const quantizer only = t.single ? quantizer_at(at, &a->in[2], zero, 0) : (quantizer){0};
    const interval all = t.single && search ? SIMD(inside_of)(&only) : (interval){0};
    PARALLEL_FOR(k, t.n, a->threads, t.total)
    {
        const quantizer q = t.single ? only : quantizer_at(at, &a->in[2], zero, k);
        const interval in = t.single || !search ? all : SIMD(inside_of)(&q);
        const int64_t length = t.single ? block_end(k, t.rows.inner, BLOCK_ELEMENTS) - k * BLOCK_ELEMENTS : t.rows.inner;
        double sum = 0;
        for (int64_t o = 0; o < t.rows.outer; o++) {
            const int64_t from = t.single ? k * BLOCK_ELEMENTS : (o * t.rows.scales + k) * t.rows.inner;
            if (search)
                SIMD(mask_row)(in, dy + from, x + from, dx + from, length);
            else if (dscale)
                sum += SIMD(learn_row)(&q, dy + from, x + from, dx + from, length);
            else
                (void)SIMD(general_row)(&q, dy + from, x + from, dx + from, length);
        }
        if (dscale)
            made[k].sum = sum;
    }
    if (!dscale)
        return;
    for (int64_t k = 1; k < t.n && t.single; k++)
        made[0].sum += made[k].sum;
    for (int64_t k = 0; k < t.rows.scales; k++)
        dscale[k] = t.n ? (float)(at->scale_grad * made[k].sum) : 0;
}

/* x in blocks, one scale: rounding 0 gives 0 on the grid of all integers. */
static bool SIMD(single_scale)(const kernel_args *a, int x)
{
    const fake_quant_attrs *at = a->attr;
    return a->in[x + 1].sh.rank == 0 && at->offset == 0;
}
static bool SIMD(forward_takes)(const kernel_args *a)
{
    return SIMD(single_scale)(a, 0);
}
static bool SIMD(backward_takes)(const kernel_args *a)
{
    return SIMD(single_scale)(a, 1);
}

KERNEL_TABLE(fake_quant) = {
    {OP_FAKE_QUANT, DTYPE_F32, REAL_ISA, "fake quant", SIMD(forward), SIMD(forward_workspace)},
    {OP_FAKE_QUANT, DTYPE_F32, REAL_ISA, "fake quant, blocked", SIMD(forward), SIMD(forward_workspace), SIMD(forward_takes),
     .blocked_in = 1, .blocked_out = 1},
    {OP_FAKE_QUANT_GRAD, DTYPE_F32, REAL_ISA, "fake quant grad", SIMD(backward), SIMD(backward_workspace)},
    {OP_FAKE_QUANT_GRAD, DTYPE_F32, REAL_ISA, "fake quant grad, blocked", SIMD(backward), SIMD(backward_workspace),
     SIMD(backward_takes), .blocked_in = 3, .blocked_out = 1},
    KERNEL_END};
