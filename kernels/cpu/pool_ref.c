/* pool_ref.c - pools as their definitions read, a window at a time (src/ops/pool.c). */
#include "kernels/cpu/pool.h"

#include <math.h>

DEFINE_FIRST_MAXIMUM(first_maximum, real)

/* x -> y, and the flat index of every maximum where it is wanted */
static void max_pool(const kernel_args *a)
{
    spatial s = pool_spatial(a->attr, &a->in[0].sh, &a->out[0].sh);
    const real *x = a->in[0].data;
    real *y = a->out[0].data;
    int64_t *index = a->n_out > 1 ? a->out[1].data : NULL, in = spatial_in(&s), out = spatial_out(&s);
    bool by_column = ((const pool_attrs *)a->attr)->storage_order != 0;
#pragma omp parallel for num_threads(a->threads) schedule(static)
    for (int64_t p = 0; p < s.n * s.channels; p++)
        for (int64_t o = 0; o < out; o++) {
            int64_t best = first_maximum(&s, x + p * in, o);
            y[p * out + o] = best < 0 ? (real)-INFINITY : x[p * in + best];
            if (index)
                index[p * out + o] = p * in + (best < 0 ? 0 : by_column ? index_by_column(&s, best) : best);
        }
}

/* dy, x -> dx */
static void max_pool_grad(const kernel_args *a)
{
    spatial s = pool_spatial(a->attr, &a->in[1].sh, &a->in[0].sh);
    const real *dy = a->in[0].data, *x = a->in[1].data;
    real *dx = a->out[0].data;
    int64_t in = spatial_in(&s), out = spatial_out(&s);
#pragma omp parallel for num_threads(a->threads) schedule(static)
    for (int64_t p = 0; p < s.n * s.channels; p++) {
        for (int64_t i = 0; i < in; i++)
            dx[p * in + i] = 0;
        for (int64_t o = 0; o < out; o++) {
            int64_t best = first_maximum(&s, x + p * in, o);
            if (best >= 0)
                dx[p * in + best] += dy[p * out + o];
        }
    }
}

/* dx NULL: y[o] = mean of window o of x. Otherwise dx[window o] += dy[o] / count, `x` being dy. */
static void average_plane(const spatial *s, bool with_pad, const real *x, real *y, real *dx)
{
    pool_window w;
    for (int64_t o = 0; o < spatial_out(s); o++) {
        window_at(s, o, with_pad, &w);
        real sum = 0, each = dx && w.count ? x[o] / (real)w.count : 0;
        for (int64_t d = w.tap[0].begin; d < w.tap[0].end; d++)
            for (int64_t h = w.tap[1].begin; h < w.tap[1].end; h++)
                for (int64_t c = w.tap[2].begin; c < w.tap[2].end; c++) {
                    int64_t i = window_index(s, &w, d, h, c);
                    if (dx)
                        dx[i] += each;
                    else
                        sum += x[i];
                }
        if (!dx)
            y[o] = w.count ? sum / (real)w.count : 0;
    }
}

static void average_pool(const kernel_args *a)
{
    const pool_attrs *at = a->attr;
    spatial s = pool_spatial(at, &a->in[0].sh, &a->out[0].sh);
    const real *x = a->in[0].data;
    real *y = a->out[0].data;
#pragma omp parallel for num_threads(a->threads) schedule(static)
    for (int64_t p = 0; p < s.n * s.channels; p++)
        average_plane(&s, at->count_include_pad != 0, x + p * spatial_in(&s), y + p * spatial_out(&s), NULL);
}

static void average_pool_grad(const kernel_args *a)
{
    const pool_attrs *at = a->attr;
    spatial s = pool_spatial(at, &a->out[0].sh, &a->in[0].sh);
    const real *dy = a->in[0].data;
    real *dx = a->out[0].data;
    int64_t in = spatial_in(&s);
#pragma omp parallel for num_threads(a->threads) schedule(static)
    for (int64_t p = 0; p < s.n * s.channels; p++) {
        for (int64_t i = 0; i < in; i++)
            dx[p * in + i] = 0;
        average_plane(&s, at->count_include_pad != 0, dy + p * spatial_out(&s), NULL, dx + p * in);
    }
}

/* Elements of one image plane, whatever its rank. */
static int64_t plane_of(const shape *x)
{
    int64_t n = 1;
    for (int i = 2; i < x->rank; i++)
        n *= x->dim[i];
    return n;
}

static void global_average_pool(const kernel_args *a)
{
    const shape *sh = &a->in[0].sh;
    const real *x = a->in[0].data;
    real *y = a->out[0].data;
    int64_t plane = plane_of(sh);
    for (int64_t p = 0; p < sh->dim[0] * sh->dim[1]; p++) {
        real sum = 0;
        for (int64_t i = 0; i < plane; i++)
            sum += x[p * plane + i];
        y[p] = sum / (real)plane;
    }
}

static void global_max_pool(const kernel_args *a)
{
    const shape *sh = &a->in[0].sh;
    const real *x = a->in[0].data;
    real *y = a->out[0].data;
    int64_t plane = plane_of(sh);
    for (int64_t p = 0; p < sh->dim[0] * sh->dim[1]; p++) {
        real best = x[p * plane];
        for (int64_t i = 1; i < plane; i++)
            best = x[p * plane + i] > best || x[p * plane + i] != x[p * plane + i] ? x[p * plane + i] : best;
        y[p] = best;
    }
}

KERNEL_TABLE(pool) = {
    {OP_MAX_POOL, REAL_DTYPE, REAL_ISA, "max_pool_ref", max_pool, NULL, NULL},
    {OP_MAX_POOL_GRAD, REAL_DTYPE, REAL_ISA, "max_pool_grad_ref", max_pool_grad, NULL, NULL},
    {OP_AVERAGE_POOL, REAL_DTYPE, REAL_ISA, "average_pool_ref", average_pool, NULL, NULL},
    {OP_AVERAGE_POOL_GRAD, REAL_DTYPE, REAL_ISA, "average_pool_grad_ref", average_pool_grad, NULL, NULL},
    {OP_GLOBAL_AVERAGE_POOL, REAL_DTYPE, REAL_ISA, "global_average_pool_ref", global_average_pool, NULL, NULL},
    {OP_GLOBAL_MAX_POOL, REAL_DTYPE, REAL_ISA, "global_max_pool_ref", global_max_pool, NULL, NULL},
    KERNEL_END};
