/* pool_simd.c - pools of one and two spatial axes in float, a row of windows at a time.
 *
 * For every tap the windows whose tap lies inside the data form one run, so each tap is a plain loop over a row. A plane
 * belongs to one thread: every result is one sum in a fixed order. */
#include "kernels/cpu/pool.h"
#include "kernels/cpu/simd.h"

#include <math.h>

enum { SERIAL_WORK = 1 << 15 /* elements below which threads are not worth their start */ };

static bool takes_two_axes(const kernel_args *a)
{
    return a->in[0].sh.rank <= 4 && a->n_out == 1;
}

/* to[i] = max(to[i], x[i * step]), NaN being largest. */
static void max_row(float *to, const float *x, int64_t count, int64_t step)
{
    if (step == 1)
        for (int64_t i = 0; i < count; i++)
            to[i] = x[i] <= to[i] || to[i] != to[i] ? to[i] : x[i];
    else if (step == 2)
        for (int64_t i = 0; i < count; i++)
            to[i] = x[2 * i] <= to[i] || to[i] != to[i] ? to[i] : x[2 * i];
    else
        for (int64_t i = 0; i < count; i++)
            to[i] = x[i * step] <= to[i] || to[i] != to[i] ? to[i] : x[i * step];
}

/* to[i] += x[i * step] */
static void add_row(float *to, const float *x, int64_t count, int64_t step)
{
    if (step == 1)
        for (int64_t i = 0; i < count; i++)
            to[i] += x[i];
    else if (step == 2)
        for (int64_t i = 0; i < count; i++)
            to[i] += x[2 * i];
    else
        for (int64_t i = 0; i < count; i++)
            to[i] += x[i * step];
}

/* to[i * step] += x[i] */
static void spread_row(float *to, const float *x, int64_t count, int64_t step)
{
    if (step == 1)
        for (int64_t i = 0; i < count; i++)
            to[i] += x[i];
    else
        for (int64_t i = 0; i < count; i++)
            to[i * step] += x[i];
}

/* The taps along a row that lie inside the data for some window. */
static range taps_of_row(const spatial *s)
{
    int64_t span = (s->out[2] - 1) * s->stride[2];
    return range_inside(span - s->pad[2], s->dilation[2], s->kernel[2], s->in[2] + span);
}

/* Calls fn for every tap of every row of windows. */
typedef void row_fn(float *to, const float *from, int64_t count, int64_t step);

static void gather_plane(const spatial *s, const float *x, float *y, row_fn *fn)
{
    range taps = taps_of_row(s);
    for (int64_t kw = taps.begin; kw < taps.end; kw++) {
        range w = windows_of_tap(s, 2, kw);
        int64_t col = w.begin * s->stride[2] + kw * s->dilation[2] - s->pad[2];
        for (int64_t oh = 0; oh < s->out[1] && w.begin < w.end; oh++) {
            range h = taps_of_window(s, 1, oh);
            for (int64_t kh = h.begin; kh < h.end; kh++)
                fn(y + oh * s->out[2] + w.begin,
                   x + (oh * s->stride[1] + kh * s->dilation[1] - s->pad[1]) * s->in[2] + col, w.end - w.begin,
                   s->stride[2]);
        }
    }
}

static void scatter_plane(const spatial *s, const float *dy, float *dx)
{
    range taps = taps_of_row(s);
    for (int64_t kw = taps.begin; kw < taps.end; kw++) {
        range w = windows_of_tap(s, 2, kw);
        int64_t col = w.begin * s->stride[2] + kw * s->dilation[2] - s->pad[2];
        for (int64_t oh = 0; oh < s->out[1] && w.begin < w.end; oh++) {
            range h = taps_of_window(s, 1, oh);
            for (int64_t kh = h.begin; kh < h.end; kh++)
                spread_row(dx + (oh * s->stride[1] + kh * s->dilation[1] - s->pad[1]) * s->in[2] + col,
                           dy + oh * s->out[2] + w.begin, w.end - w.begin, s->stride[2]);
        }
    }
}

static void max_pool(const kernel_args *a)
{
    spatial s = pool_spatial(a->attr, &a->in[0].sh, &a->out[0].sh);
    const float *x = a->in[0].data;
    float *y = a->out[0].data;
    int64_t planes = s.n * s.channels, in = spatial_in(&s), out = spatial_out(&s);
#pragma omp parallel for num_threads(a->threads) schedule(static) if (planes * in > SERIAL_WORK)
    for (int64_t p = 0; p < planes; p++) {
        for (int64_t i = 0; i < out; i++)
            y[p * out + i] = -INFINITY;
        gather_plane(&s, x + p * in, y + p * out, max_row);
    }
}

/* 1 / count of every window of a plane. */
static void inverse_counts(const kernel_args *a, const spatial *s, float *each)
{
    bool with_pad = ((const pool_attrs *)a->attr)->count_include_pad != 0;
    for (int64_t o = 0; o < spatial_out(s); o++) {
        pool_window w;
        window_at(s, o, with_pad, &w);
        each[o] = w.count ? 1 / (float)w.count : 0;
    }
}

static void average_pool(const kernel_args *a)
{
    spatial s = pool_spatial(a->attr, &a->in[0].sh, &a->out[0].sh);
    const float *x = a->in[0].data;
    float *y = a->out[0].data, *each = a->work;
    int64_t planes = s.n * s.channels, in = spatial_in(&s), out = spatial_out(&s);
    inverse_counts(a, &s, each);
#pragma omp parallel for num_threads(a->threads) schedule(static) if (planes * in > SERIAL_WORK)
    for (int64_t p = 0; p < planes; p++) {
        float *to = y + p * out;
        memset(to, 0, (size_t)out * sizeof *to);
        gather_plane(&s, x + p * in, to, add_row);
        for (int64_t i = 0; i < out; i++)
            to[i] *= each[i];
    }
}
static size_t average_pool_workspace(const kernel_args *a)
{
    spatial s = pool_spatial(a->attr, &a->in[0].sh, &a->out[0].sh);
    return (size_t)spatial_out(&s) * sizeof(float);
}

/* dy -> dx: dy / count is spread over each window. */
static void average_pool_grad(const kernel_args *a)
{
    spatial s = pool_spatial(a->attr, &a->out[0].sh, &a->in[0].sh);
    const float *dy = a->in[0].data;
    float *dx = a->out[0].data, *each = a->work;
    int64_t planes = s.n * s.channels, in = spatial_in(&s), out = spatial_out(&s), room = round_up(out, 16);
    inverse_counts(a, &s, each);
#pragma omp parallel for num_threads(a->threads) schedule(static) if (planes * in > SERIAL_WORK)
    for (int64_t p = 0; p < planes; p++) {
        float *scaled = each + (1 + omp_get_thread_num()) * room;
        for (int64_t i = 0; i < out; i++)
            scaled[i] = dy[p * out + i] * each[i];
        memset(dx + p * in, 0, (size_t)in * sizeof *dx);
        scatter_plane(&s, scaled, dx + p * in);
    }
}
static size_t average_pool_grad_workspace(const kernel_args *a)
{
    spatial s = pool_spatial(a->attr, &a->out[0].sh, &a->in[0].sh);
    return (size_t)(round_up(spatial_out(&s), 16) * (1 + a->threads)) * sizeof(float);
}

/* ---- the maximum's gradient ---- */

DEFINE_FIRST_MAXIMUM(first_maximum, float)

/* dy, x -> dx. Windows of 2x2 that do not overlap, the common case, need no search. */
static void two_by_two(const spatial *s, const float *dy, const float *x, float *dx)
{
    for (int64_t oh = 0; oh < s->out[1]; oh++, dy += s->out[2])
        for (int64_t ow = 0; ow < s->out[2]; ow++) {
            int64_t at = 2 * oh * s->in[2] + 2 * ow;
            const float *up = x + at, *down = up + s->in[2];
            int64_t best = 0;
            float most = up[0];
            best = up[1] > most || (up[1] != up[1] && most == most) ? 1 : best;
            most = best == 1 ? up[1] : most;
            bool third = down[0] > most || (down[0] != down[0] && most == most);
            best = third ? s->in[2] : best;
            most = third ? down[0] : most;
            bool fourth = down[1] > most || (down[1] != down[1] && most == most);
            best = fourth ? s->in[2] + 1 : best;
            dx[at + best] = dy[ow];
        }
}

static void max_pool_grad(const kernel_args *a)
{
    spatial s = pool_spatial(a->attr, &a->in[1].sh, &a->in[0].sh);
    const float *dy = a->in[0].data, *x = a->in[1].data;
    float *dx = a->out[0].data;
    int64_t planes = s.n * s.channels, in = spatial_in(&s), out = spatial_out(&s);
    bool simple = true;
    for (int i = 1; i < 3; i++)
        simple &= s.kernel[i] == 2 && s.stride[i] == 2 && s.dilation[i] == 1 && s.pad[i] == 0 && 2 * s.out[i] <= s.in[i];
#pragma omp parallel for num_threads(a->threads) schedule(static) if (planes * in > SERIAL_WORK)
    for (int64_t p = 0; p < planes; p++) {
        memset(dx + p * in, 0, (size_t)in * sizeof *dx);
        if (simple) {
            two_by_two(&s, dy + p * out, x + p * in, dx + p * in);
            continue;
        }
        for (int64_t o = 0; o < out; o++) {
            int64_t best = first_maximum(&s, x + p * in, o);
            if (best >= 0)
                dx[p * in + best] += dy[p * out + o];
        }
    }
}

/* ---- global pools, any number of spatial axes ---- */

static int64_t plane_of(const shape *x)
{
    int64_t n = 1;
    for (int i = 2; i < x->rank; i++)
        n *= x->dim[i];
    return n;
}

/* LANES sums side by side, added in order. */
static float sum_of(const float *x, int64_t n)
{
    vec sums = vec_set(0);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        sums += vec_load(x + i);
    float sum = 0;
    for (int l = 0; l < LANES; l++)
        sum += sums[l];
    for (; i < n; i++)
        sum += x[i];
    return sum;
}

static void global_average_pool(const kernel_args *a)
{
    const shape *sh = &a->in[0].sh;
    const float *x = a->in[0].data;
    float *y = a->out[0].data;
    int64_t plane = plane_of(sh), planes = sh->dim[0] * sh->dim[1];
#pragma omp parallel for num_threads(a->threads) schedule(static) if (planes * plane > SERIAL_WORK)
    for (int64_t p = 0; p < planes; p++)
        y[p] = sum_of(x + p * plane, plane) / (float)plane;
}

static void global_max_pool(const kernel_args *a)
{
    const shape *sh = &a->in[0].sh;
    const float *x = a->in[0].data;
    float *y = a->out[0].data;
    int64_t plane = plane_of(sh), planes = sh->dim[0] * sh->dim[1];
#pragma omp parallel for num_threads(a->threads) schedule(static) if (planes * plane > SERIAL_WORK)
    for (int64_t p = 0; p < planes; p++) {
        float best = x[p * plane];
        for (int64_t i = 1; i < plane; i++)
            best = x[p * plane + i] <= best || best != best ? best : x[p * plane + i];
        y[p] = best;
    }
}

KERNEL_TABLE(pool) = {
    {OP_MAX_POOL, REAL_DTYPE, REAL_ISA, "max_pool", max_pool, NULL, takes_two_axes},
    {OP_MAX_POOL_GRAD, REAL_DTYPE, REAL_ISA, "max_pool_grad", max_pool_grad, NULL, takes_two_axes},
    {OP_AVERAGE_POOL, REAL_DTYPE, REAL_ISA, "average_pool", average_pool, average_pool_workspace, takes_two_axes},
    {OP_AVERAGE_POOL_GRAD, REAL_DTYPE, REAL_ISA, "average_pool_grad", average_pool_grad, average_pool_grad_workspace,
     takes_two_axes},
    {OP_GLOBAL_AVERAGE_POOL, REAL_DTYPE, REAL_ISA, "global_average_pool", global_average_pool, NULL, NULL},
    {OP_GLOBAL_MAX_POOL, REAL_DTYPE, REAL_ISA, "global_max_pool", global_max_pool, NULL, NULL},
    KERNEL_END};
