/* reduce_simd.c - sum, mean, max, min over axes: fast float32.
 *
 * After merging (reduce.h) the usual forms are: rows [K, R] (trailing axes), columns [K, R, I] with the middle reduced
 * (leading axes when K = 1), and channels [A, K, B] with both ends reduced (batch and image of [N, C, H, W]). Work is cut
 * by sizes alone and joined in a fixed order. After some float additions a sum goes on in double, so that
 * long sums keep the accuracy of float32. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/reduce.h"
#include "kernels/cpu/simd.h"

#include <math.h>
#include <string.h>

#define STREAMS  (64 / LANES) /* a row is added up in 64 lanes, whatever the width of a register */
#define STRIP    1024         /* elements of a row, then its 64 sums go to double */
#define STEPS    16           /* rows of a column block, the same */
#define ROW_PART 32768        /* elements of a row that one unit of work takes */
#define COLUMNS  1024         /* columns and */
#define ROWS     1024         /* rows of a column block */

/* How two partial results join, for single numbers and for vectors; and what they begin with. NaN wins in max and min. */
#define JOIN_sum(a, x) ((a) + (x))
#define JOIN_max(a, x) ((x) > (a) || (x) != (x) ? (x) : (a))
#define JOIN_min(a, x) ((x) < (a) || (x) != (x) ? (x) : (a))
#define SELECT(m, x, a) ((vec)(((vec_int)(x) & (m)) | ((vec_int)(a) & ~(m))))
#define VJOIN_sum(a, x) ((a) + (x))
#define VJOIN_max(a, x) SELECT(((x) > (a)) | ((x) != (x)), x, a)
#define VJOIN_min(a, x) SELECT(((x) < (a)) | ((x) != (x)), x, a)
#define BEGIN_sum       0.0f
#define BEGIN_max       (-INFINITY)
#define BEGIN_min       INFINITY

typedef struct reducer {
    double (*row)(const float *x, int64_t n);                                      /* n elements into one */
    void (*columns)(const float *x, int64_t rows, int64_t columns, int64_t stride, /* rows into one, per column */
                    double *out);
    double (*join)(double a, double x);
    double begin;
} reducer;

#define UNROLLED(k, count) PRAGMA(GCC unroll 16) for (int k = 0; k < (count); k++)
/* From 64 / LANES / 4 registers to one, from LANES to 4 lanes: 64 lanes are joined in the same order for every LANES. */
#if LANES == 16
#define FOLD_STREAMS(op)
#define FOLD_LANES(op)                                                                                            \
    UNROLLED(k, 8) lane[k] = JOIN_##op(lane[k], lane[k + 8]);                                                     \
    UNROLLED(k, 4) lane[k] = JOIN_##op(lane[k], lane[k + 4]);
#elif LANES == 8
#define FOLD_STREAMS(op) a[0] = VJOIN_##op(a[0], a[1]);
#define FOLD_LANES(op)   UNROLLED(k, 4) lane[k] = JOIN_##op(lane[k], lane[k + 4]);
#else
#define FOLD_STREAMS(op)                                                                                          \
    UNROLLED(k, 2) a[k] = VJOIN_##op(a[k], a[k + 2]);                                                             \
    a[0] = VJOIN_##op(a[0], a[1]);
#define FOLD_LANES(op)
#endif
#define REDUCER(op)                                                                                               \
    static double SIMD(row_##op)(const float *x, int64_t n)                                                       \
    {                                                                                                             \
        double total = (double)BEGIN_##op;                                                                        \
        int64_t i = 0;                                                                                            \
        while (n - i >= 16) {                                                                                     \
            vec a[STREAMS];                                                                                       \
            const int64_t stop = n - i > STRIP ? i + STRIP : n;                                                   \
            UNROLLED(k, STREAMS) a[k] = vec_set(BEGIN_##op);                                                      \
            for (; stop - i >= 64; i += 64)                                                                       \
                UNROLLED(k, STREAMS) a[k] = VJOIN_##op(a[k], vec_load(x + i + k * LANES));                        \
            for (; stop - i >= 16; i += 16)                                                                       \
                UNROLLED(k, 16 / LANES) a[k] = VJOIN_##op(a[k], vec_load(x + i + k * LANES));                     \
            float lane[LANES];                                                                                    \
            UNROLLED(k, STREAMS / 2) a[k] = VJOIN_##op(a[k], a[k + STREAMS / 2]);                                 \
            UNROLLED(k, STREAMS / 4) a[k] = VJOIN_##op(a[k], a[k + STREAMS / 4]);                                 \
            FOLD_STREAMS(op)                                                                                      \
            vec_store(lane, a[0]);                                                                                \
            FOLD_LANES(op)                                                                                        \
            UNROLLED(k, 2) lane[k] = JOIN_##op(lane[k], lane[k + 2]);                                             \
            lane[0] = JOIN_##op(lane[0], lane[1]);                                                                \
            total = JOIN_##op(total, (double)lane[0]);                                                            \
        }                                                                                                         \
        for (; i < n; i++)                                                                                        \
            total = JOIN_##op(total, (double)x[i]);                                                               \
        return total;                                                                                             \
    }                                                                                                             \
    static void SIMD(columns_##op)(const float *x, int64_t rows, int64_t columns, int64_t stride, double *out)    \
    {                                                                                                             \
        float a[COLUMNS];                                                                                         \
        for (int64_t j = 0; j < columns; j++)                                                                     \
            out[j] = (double)BEGIN_##op;                                                                          \
        for (int64_t r = 0; r < rows;) {                                                                          \
            int64_t stop = rows - r > STEPS ? r + STEPS : rows;                                                   \
            for (int64_t j = 0; j < columns; j++)                                                                 \
                a[j] = BEGIN_##op;                                                                                \
            for (; r < stop; r++) {                                                                               \
                const float *from = x + r * stride;                                                               \
                for (int64_t j = 0; j < columns; j++)                                                             \
                    a[j] = JOIN_##op(a[j], from[j]);                                                              \
            }                                                                                                     \
            for (int64_t j = 0; j < columns; j++)                                                                 \
                out[j] = JOIN_##op(out[j], (double)a[j]);                                                         \
        }                                                                                                         \
    }                                                                                                             \
    static double SIMD(join_##op)(double a, double x)                                                             \
    {                                                                                                             \
        return JOIN_##op(a, x);                                                                                   \
    }                                                                                                             \
    static const reducer SIMD(op) = {SIMD(row_##op), SIMD(columns_##op), SIMD(join_##op), (double)BEGIN_##op};
REDUCER(sum)
REDUCER(max)
REDUCER(min)

/* ---- the three forms; `count`: what sums are divided by ---- */

/* The form as [outer, reduced, inner] (columns; rows when inner = 1), or channels [outer, kept, inner]. */
typedef struct form {
    bool fits, channels;
    int64_t outer, middle, inner;
} form;

static form SIMD(form_of)(const kernel_args *a)
{
    reduction r;
    form f = {.outer = 1, .middle = 1, .inner = 1};
    reduction_make(&r, &a->in[0].sh, reduction_mask(a));
    if (r.each == 0 || r.outs == 0)
        return f; /* no elements: the reference knows what that is */
    if (r.n == 3 && r.reduced[0]) {
        f = (form){true, true, r.dim[0], r.dim[1], r.dim[2]};
    } else if (r.n <= 3) {
        int at = 0;
        f.fits = true;
        if (at < r.n && !r.reduced[at])
            f.outer = r.dim[at++];
        if (at < r.n && r.reduced[at])
            f.middle = r.dim[at++];
        if (at < r.n)
            f.inner = r.dim[at++];
    }
    return f;
}

/* Parts of a row, or of the rows of a column block. */
static int64_t SIMD(parts_of)(const form *f)
{
    return f->inner == 1 ? block_count(f->middle, ROW_PART) : block_count(f->middle, ROWS);
}

static size_t SIMD(workspace)(const kernel_args *a)
{
    form f = SIMD(form_of)(a);
    if (f.channels)
        return (size_t)(f.outer * f.middle) * sizeof(double);
    int64_t parts = SIMD(parts_of)(&f);
    return (size_t)(f.outer * parts * f.inner) * sizeof(double);
}

static bool SIMD(takes)(const kernel_args *a)
{
    return SIMD(form_of)(a).fits;
}

/* part[k * parts + p] over row k = 0 .. outer-1 of `middle` elements. */
static void SIMD(run_rows)(const kernel_args *a, const reducer *op, const form *f, int64_t parts, double *part)
{
    const float *x = a->in[0].data;
    const int64_t total = f->outer * f->middle, length = parts == 1 ? f->middle : ROW_PART;
    const int64_t group = f->middle < BLOCK_ELEMENTS ? BLOCK_ELEMENTS / f->middle : 1;
    PARALLEL_FOR(u, block_count(f->outer * parts, group), a->threads, total)
    {
        for (int64_t i = u * group; i < block_end(u, f->outer * parts, group); i++) {
            const int64_t k = i / parts, from = i % parts * length, to = block_end(i % parts, f->middle, length);
            part[i] = op->row(x + k * f->middle + from, to - from);
        }
    }
}

/* part[(k * parts + p) * inner + j] over column j of block k. */
static void SIMD(run_columns)(const kernel_args *a, const reducer *op, const form *f, int64_t parts, double *part)
{
    const float *x = a->in[0].data;
    const int64_t wide = block_count(f->inner, COLUMNS), total = f->outer * f->middle * f->inner;
    PARALLEL_FOR(u, f->outer * parts * wide, a->threads, total)
    {
        const int64_t k = u / (parts * wide), p = u / wide % parts, j = u % wide * COLUMNS;
        const int64_t r = p * ROWS, rows = block_end(p, f->middle, ROWS) - r;
        op->columns(x + (k * f->middle + r) * f->inner + j, rows, block_end(u % wide, f->inner, COLUMNS) - j, f->inner,
                    part + (k * parts + p) * f->inner + j);
    }
}

static void SIMD(run)(const kernel_args *a, const reducer *op, double divisor)
{
    const form f = SIMD(form_of)(a);
    float *out = a->out[0].data;
    double *part = a->work;
    if (f.channels) {
        const form rows = {.outer = f.outer * f.middle, .middle = f.inner, .inner = 1};
        SIMD(run_rows)(a, op, &rows, 1, part); /* an image is not cut */
        for (int64_t k = 0; k < f.middle; k++) {
            double y = op->begin;
            for (int64_t i = 0; i < f.outer; i++)
                y = op->join(y, part[i * f.middle + k]);
            out[k] = (float)(y / divisor);
        }
        return;
    }
    const int64_t parts = SIMD(parts_of)(&f);
    if (f.inner == 1)
        SIMD(run_rows)(a, op, &f, parts, part);
    else
        SIMD(run_columns)(a, op, &f, parts, part);
    for (int64_t k = 0; k < f.outer; k++)
        for (int64_t j = 0; j < f.inner; j++) {
            double y = op->begin;
            for (int64_t p = 0; p < parts; p++)
                y = op->join(y, part[(k * parts + p) * f.inner + j]);
            out[k * f.inner + j] = (float)(y / divisor);
        }
}

static void SIMD(reduce_sum)(const kernel_args *a)
{
    SIMD(run)(a, &SIMD(sum), 1);
}
static void SIMD(reduce_mean)(const kernel_args *a)
{
    reduction r;
    reduction_make(&r, &a->in[0].sh, reduction_mask(a));
    SIMD(run)(a, &SIMD(sum), (double)r.each);
}
static void SIMD(reduce_max)(const kernel_args *a)
{
    SIMD(run)(a, &SIMD(max), 1);
}
static void SIMD(reduce_min)(const kernel_args *a)
{
    SIMD(run)(a, &SIMD(min), 1);
}

#define ROW(E, name) {OP_##E, DTYPE_F32, REAL_ISA, #name, SIMD(name), SIMD(workspace), SIMD(takes)}
KERNEL_TABLE(reduce) = {ROW(REDUCE_SUM, reduce_sum), ROW(REDUCE_MEAN, reduce_mean), ROW(REDUCE_MAX, reduce_max),
                        ROW(REDUCE_MIN, reduce_min), KERNEL_END};
