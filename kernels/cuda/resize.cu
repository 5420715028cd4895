/* resize.cu - Resize and its gradient (src/ops/resize.h has the axes, kernels/resize_rule.h its formulas).
 *
 * Every axis has a table in the workspace, made by a kernel of its own in double: the taps of each of its elements, and for
 * the gradient which elements have a tap at each element of the data. As positions do not decrease along an axis (or, where a
 * region is cropped from its end to its beginning, do not increase), those are one range. */
#include "kernels/cuda/index.cuh"
#include "kernels/cuda/last.cuh"
extern "C" {
#include "kernels/resize_rule.h"
}

typedef struct tap_axis {
    resize_axis of;
    int64_t most; /* taps of an element */
    bool falling;
    /* Tables. Tap t of element o lies at first[o] + t, clamped to the axis, with weight[o * most + t]; count -1: outside.
     * The gradient of element i comes from elements from[i] .. to[i] - 1. */
    int64_t *first;
    int *count, *from, *to;
    float *weight;
} tap_axis;
typedef struct tap_axes {
    int rank;
    tap_axis axis[RANK_MAX]; /* outermost first */
} tap_axes;

/* Far outside, all places are the same. */
__device__ static inline int64_t place_of(double at, int64_t in)
{
    return (int64_t)fmin(fmax(at, -(double)in - 64), 2 * (double)in + 64);
}

__global__ static void taps_kernel(const __grid_constant__ resize_attrs r, const __grid_constant__ tap_axis x)
{
    const double last = (double)(x.of.in - 1), stretch = resize_stretch(&r, &x.of);
    GRID_STRIDE(o, x.of.out)
    {
        float *weight = x.weight + o * x.most;
        if (x.of.identity) {
            x.first[o] = o;
            x.count[o] = 1;
            weight[0] = 1;
            continue;
        }
        const double position = resize_position(&r, &x.of, o);
        const bool outside = r.coordinate_transformation_mode == COORD_TF_CROP && (position < 0 || position > last);
        if (r.mode == RESIZE_NEAREST) {
            x.first[o] = place_of(resize_nearest(&r, position), x.of.in);
            x.count[o] = outside ? -1 : 1;
            weight[0] = 1;
            continue;
        }
        const double reach = (r.mode == RESIZE_LINEAR ? 1 : 2) * stretch, begin = floor(position - reach) + 1;
        double sum = 0, first = 0;
        int n = 0;
        for (double at = begin; at < position + reach; at++) {
            if (r.exclude_outside && (at < 0 || at > last))
                continue;
            const double w = resize_filter(&r, (at - position) / stretch);
            first = n ? first : at;
            weight[n++] = (float)w;
            sum += w;
        }
        if (n == 0) { /* nothing but outside: the nearest element */
            first = floor(position + 0.5);
            weight[n++] = 1;
            sum = 1;
        }
        if ((r.antialias || r.exclude_outside) && sum != 0)
            for (int t = 0; t < n; t++) { /* once more: what was stored is rounded */
                const double w = resize_filter(&r, (first + t - position) / stretch);
                weight[t] = n == 1 && sum == 1 ? 1.0f : (float)(w / sum);
            }
        x.first[o] = place_of(first, x.of.in);
        x.count[o] = outside ? -1 : n;
    }
}

__device__ static inline int64_t clamp_to(int64_t at, int64_t in)
{
    return at < 0 ? 0 : at < in ? at : in - 1;
}
/* Lowest, highest element of the data that element o looks at, or would. */
__device__ static inline int64_t lowest_of(const tap_axis &x, int64_t o)
{
    return clamp_to(x.first[o], x.of.in);
}
__device__ static inline int64_t highest_of(const tap_axis &x, int64_t o)
{
    const int n = x.count[o] < 0 ? 1 : x.count[o];
    return clamp_to(x.first[o] + n - 1, x.of.in);
}

/* The elements whose taps reach over element i: both bounds by halving. */
__global__ static void ranges_kernel(const __grid_constant__ tap_axis x)
{
    GRID_STRIDE(i, x.of.in)
    {
        int64_t bound[2];
        UNROLL
        for (int side = 0; side < 2; side++) {
            int64_t lo = 0, hi = x.of.out; /* the first element at which the question becomes true */
            while (lo < hi) {
                const int64_t mid = (lo + hi) / 2;
                const bool reached = x.falling ? (side == 0 ? lowest_of(x, mid) <= i : highest_of(x, mid) < i)
                                               : (side == 0 ? highest_of(x, mid) >= i : lowest_of(x, mid) > i);
                if (reached)
                    hi = mid;
                else
                    lo = mid + 1;
            }
            bound[side] = lo;
        }
        x.from[i] = (int)bound[0];
        x.to[i] = (int)bound[1];
    }
}

/* ---- tables ---- */

/* Axes of data of shape x with their tables at `work`; *bytes: of all tables. Neighbours that stay as they are become one.
 * columns: 0, or the data lie channels last, so many items of channels a pixel. */
static tap_axes axes_of(const resize_attrs *a, const shape *x, void *work, bool grad, size_t *bytes, int64_t columns = 0)
{
    tap_axes axes = {.rank = 0};
    size_t used = 0;
    for (int i = 0; i < x->rank; i++) {
        const int own = !columns || i == 0 ? i : i + 1 < x->rank ? i + 1 : 1;
        resize_axis one = resize_axis_of(a, x, own);
        if (columns && own == 1)
            one.in = one.out = columns;
        const bool falling = !one.identity && a->coordinate_transformation_mode == COORD_TF_CROP && one.end < one.begin;
        const tap_axis t = {.of = one, .most = resize_most_taps(a, &one), .falling = falling};
        if (t.of.identity && axes.rank > 0 && axes.axis[axes.rank - 1].of.identity) {
            axes.axis[axes.rank - 1].of.in *= t.of.in;
            axes.axis[axes.rank - 1].of.out *= t.of.out;
            continue;
        }
        axes.axis[axes.rank++] = t;
    }
    for (int i = 0; i < axes.rank; i++) {
        tap_axis *t = &axes.axis[i];
        char *at = (char *)work + used;
        if (t->of.identity)
            continue;
        t->first = (int64_t *)at;
        t->count = (int *)(t->first + t->of.out);
        t->weight = (float *)(t->count + t->of.out);
        t->from = (int *)(t->weight + t->of.out * t->most);
        t->to = t->from + (grad ? t->of.in : 0);
        used += ((size_t)t->of.out * (sizeof(int64_t) + sizeof(int) + (size_t)t->most * sizeof(float)) +
                 (grad ? 2 * (size_t)t->of.in * sizeof(int) : 0) + 7) / 8 * 8;
    }
    *bytes = used;
    return axes;
}

static void make_tables(const kernel_args *a, const tap_axes *axes, bool grad)
{
    for (int i = 0; i < axes->rank; i++) {
        const tap_axis *t = &axes->axis[i];
        if (t->of.identity || t->of.out == 0)
            continue;
        LAUNCH(taps_kernel, grid_for(a->queue, t->of.out, 1), CUDA_THREADS, 0, a->queue, *(const resize_attrs *)a->attr, *t);
        if (grad && t->of.in > 0)
            LAUNCH(ranges_kernel, grid_for(a->queue, t->of.in, 1), CUDA_THREADS, 0, a->queue, *t);
    }
}

/* ---- the sums ---- */

/* Axes of the tables as the sums walk them, innermost first; `dim` of the result. */
typedef struct sum_axis {
    divider dim, below; /* below: elements of the result that all axes further in have */
    int64_t in, step, most; /* of the operand: elements (forward: of x; gradient: of dx, which is the result), step */
    const int64_t *first;
    const int *count, *from, *to;
    const float *weight;
} sum_axis;
typedef struct sum_axes {
    int rank, active; /* active: axes that do not stay as they are, at which[] */
    int which[RANK_MAX];
    sum_axis axis[RANK_MAX];
} sum_axes;
static sum_axes sums_of(const tap_axes *axes, bool grad)
{
    sum_axes s = {.rank = axes->rank, .active = 0};
    int64_t step = 1, below = 1;
    for (int k = 0; k < axes->rank; k++) {
        const tap_axis *t = &axes->axis[axes->rank - 1 - k];
        sum_axis one = {.dim = divider_of(grad ? t->of.in : t->of.out), .below = divider_of(below), .in = t->of.in, .step = step, .most = t->most};
        if (!t->of.identity) {
            s.which[s.active++] = k;
            one.first = t->first;
            one.count = t->count;
            one.weight = t->weight;
            one.from = t->from;
            one.to = t->to;
        }
        s.axis[k] = one;
        step *= grad ? t->of.out : t->of.in;
        below *= grad ? t->of.in : t->of.out;
    }
    return s;
}

template <class T, class I>
__global__ static void nearest_kernel(T *y, const T *x, int64_t n, T outside, const __grid_constant__ sum_axes s)
{
    GRID_STRIDE(i, n)
    {
        I rest = (I)i;
        int64_t from = 0;
        bool in = true;
        for (int k = 0; k < s.rank; k++) {
            const sum_axis &a = s.axis[k];
            const int64_t o = (int64_t)split_off(&rest, a.dim);
            if (a.first) {
                in = in && a.count[o] >= 0;
                from += clamp_to(a.first[o], a.in) * a.step;
            } else {
                from += o * a.step;
            }
        }
        y[i] = in ? x[from] : outside;
    }
}

/* Every combination of taps, the innermost axis first. */
template <class T, class I>
__global__ static void resize_kernel(T *y, const T *x, int64_t n, T outside, const __grid_constant__ sum_axes s)
{
    GRID_STRIDE(i, n)
    {
        const float *weight[RANK_MAX];
        int64_t first[RANK_MAX], base = 0;
        int count[RANK_MAX], pick[RANK_MAX], active[RANK_MAX], m = 0;
        I rest = (I)i;
        bool in = true;
        for (int k = 0; k < s.rank; k++) {
            const sum_axis &a = s.axis[k];
            const int64_t o = (int64_t)split_off(&rest, a.dim);
            if (!a.first) {
                base += o * a.step;
                continue;
            }
            active[m] = k;
            weight[m] = a.weight + o * a.most;
            first[m] = a.first[o];
            count[m] = a.count[o];
            pick[m] = 0;
            in = in && count[m] >= 0;
            m++;
        }
        T sum = 0;
        for (bool more = in; more;) {
            int64_t from = base;
            T w = 1;
            for (int k = 1; k < m; k++) {
                w *= weight[k][pick[k]];
                from += clamp_to(first[k] + pick[k], s.axis[active[k]].in) * s.axis[active[k]].step;
            }
            if (m > 0) {
                const sum_axis &a = s.axis[active[0]];
                T row = 0;
                for (int t = 0; t < count[0]; t++)
                    row += weight[0][t] * x[from + clamp_to(first[0] + t, a.in) * a.step];
                sum += w * row;
            } else {
                sum = x[from];
            }
            int k = 1;
            while (k < m && ++pick[k] == count[k])
                pick[k++] = 0;
            more = k < m;
        }
        y[i] = in ? sum : outside;
    }
}

/* Where the axes that stay put element i; at[]: its place on the active ones. */
template <int M, class I> __device__ static inline int64_t base_of(const sum_axes &s, I i, int64_t *at)
{
    int64_t base = 0;
    for (int k = 0; k < s.rank; k++)
        if (!s.axis[k].first) {
            I above = quotient(i, s.axis[k].below);
            base += (int64_t)split_off(&above, s.axis[k].dim) * s.axis[k].step;
        }
    UNROLL
    for (int m = 0; m < M; m++) {
        const sum_axis &a = s.axis[s.which[m]];
        I above = quotient(i, a.below);
        at[m] = (int64_t)split_off(&above, a.dim);
    }
    return base;
}

/* One or two active axes, which images have: nothing is kept in arrays. The same sums. */
template <int M, class I>
__global__ static void resize_few_kernel(float *y, const float *x, int64_t n, float outside, const __grid_constant__ sum_axes s)
{
    const sum_axis &a = s.axis[s.which[0]], &b = s.axis[s.which[M - 1]];
    GRID_STRIDE(i, n)
    {
        int64_t at[M];
        const int64_t base = base_of<M>(s, (I)i, at), first = a.first[at[0]], top = M > 1 ? b.first[at[M - 1]] : 0;
        const int count = a.count[at[0]], rows = M > 1 ? b.count[at[M - 1]] : 1;
        const float *weight = a.weight + at[0] * a.most, *row_weight = b.weight + at[M - 1] * b.most;
        float sum = 0;
        for (int r = 0; count > 0 && r < rows; r++) {
            const float *line = x + base + (M > 1 ? clamp_to(top + r, b.in) * b.step : 0);
            float row = 0;
            for (int t = 0; t < count; t++)
                row += weight[t] * line[clamp_to(first + t, a.in) * a.step];
            sum += (M > 1 ? row_weight[r] : 1.0f) * row;
        }
        y[i] = count < 0 || rows < 0 ? outside : sum;
    }
}

/* What element o takes of element i. */
__device__ static inline float share_of(const sum_axis &a, int64_t o, int64_t i)
{
    const int n = a.count[o];
    const int64_t first = a.first[o];
    float sum = 0;
    for (int t = 0; t < n; t++)
        sum += clamp_to(first + t, a.in) == i ? a.weight[o * a.most + t] : 0;
    return sum;
}

template <class T, class I>
__global__ static void resize_grad_kernel(T *dx, const T *dy, int64_t n, const __grid_constant__ sum_axes s)
{
    GRID_STRIDE(i, n)
    {
        int64_t at[RANK_MAX], base = 0;
        int o[RANK_MAX], active[RANK_MAX], m = 0;
        I rest = (I)i;
        bool some = true;
        for (int k = 0; k < s.rank; k++) {
            const sum_axis &a = s.axis[k];
            const int64_t c = (int64_t)split_off(&rest, a.dim);
            if (!a.first) {
                base += c * a.step;
                continue;
            }
            active[m] = k;
            at[m] = c;
            o[m] = a.from[c];
            some = some && a.from[c] < a.to[c];
            m++;
        }
        T sum = 0;
        while (some) {
            int64_t from = base;
            T w = 1;
            for (int k = 1; k < m; k++) {
                w *= share_of(s.axis[active[k]], o[k], at[k]);
                from += o[k] * s.axis[active[k]].step;
            }
            if (m > 0) {
                const sum_axis &a = s.axis[active[0]];
                T row = 0;
                for (int64_t j = a.from[at[0]]; j < a.to[at[0]]; j++)
                    row += share_of(a, j, at[0]) * dy[from + j * a.step];
                sum += w * row;
            } else {
                sum = dy[from];
            }
            int k = 1;
            for (; k < m && ++o[k] == s.axis[active[k]].to[at[k]]; k++)
                o[k] = s.axis[active[k]].from[at[k]];
            some = k < m;
        }
        dx[i] = sum;
    }
}

template <int M, class I>
__global__ static void resize_grad_few_kernel(float *dx, const float *dy, int64_t n, const __grid_constant__ sum_axes s)
{
    const sum_axis &a = s.axis[s.which[0]], &b = s.axis[s.which[M - 1]];
    GRID_STRIDE(i, n)
    {
        int64_t at[M];
        const int64_t base = base_of<M>(s, (I)i, at);
        const int from = a.from[at[0]], to = a.to[at[0]], row_end = M > 1 ? b.to[at[M - 1]] : 1;
        float sum = 0;
        for (int r = M > 1 ? b.from[at[M - 1]] : 0; r < row_end; r++) {
            const float *line = dy + base + (M > 1 ? r * b.step : 0);
            float row = 0;
            for (int64_t j = from; j < to; j++)
                row += share_of(a, j, at[0]) * line[j * a.step];
            sum += (M > 1 ? share_of(b, r, at[M - 1]) : 1.0f) * row;
        }
        dx[i] = sum;
    }
}

#define LAUNCH_FEW(kernel, M, n, q, ...)                                                                               \
    do {                                                                                                               \
        if (is_narrow(n))                                                                                              \
            LAUNCH((kernel<M, uint32_t>), grid_for(q, n, 1), CUDA_THREADS, 0, q, __VA_ARGS__);                         \
        else                                                                                                           \
            LAUNCH((kernel<M, int64_t>), grid_for(q, n, 1), CUDA_THREADS, 0, q, __VA_ARGS__);                          \
    } while (0)

static void resize(const kernel_args *a)
{
    const resize_attrs *at = (const resize_attrs *)a->attr;
    const int64_t n = shape_count(&a->out[0].sh);
    size_t bytes;
    const tap_axes axes = axes_of(at, &a->in[0].sh, a->work, false, &bytes);
    const sum_axes s = sums_of(&axes, false);
    if (n == 0)
        return;
    make_tables(a, &axes, false);
    if (at->mode == RESIZE_NEAREST)
        BY_UNIT((int)dtype_of(a->in[0].type)->size, T outside; dtype_store(a->out[0].type, &outside, 0, at->extrapolation_value);
                LAUNCH_INDEXED(nearest_kernel, T, n, grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, (T *)a->out[0].data,
                               (const T *)a->in[0].data, n, outside, s););
    else if (s.active == 1)
        LAUNCH_FEW(resize_few_kernel, 1, n, a->queue, (float *)a->out[0].data, (const float *)a->in[0].data, n,
                   (float)at->extrapolation_value, s);
    else if (s.active == 2)
        LAUNCH_FEW(resize_few_kernel, 2, n, a->queue, (float *)a->out[0].data, (const float *)a->in[0].data, n,
                   (float)at->extrapolation_value, s);
    else
        LAUNCH_INDEXED(resize_kernel, float, n, grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, (float *)a->out[0].data,
                       (const float *)a->in[0].data, n, (float)at->extrapolation_value, s);
}
static size_t resize_work(const kernel_args *a)
{
    size_t bytes;
    axes_of((const resize_attrs *)a->attr, &a->in[0].sh, nullptr, false, &bytes);
    return bytes;
}
static bool takes_nearest(const kernel_args *a)
{
    return ((const resize_attrs *)a->attr)->mode == RESIZE_NEAREST;
}

static void resize_grad(const kernel_args *a)
{
    const int64_t n = shape_count(&a->out[0].sh);
    size_t bytes;
    const tap_axes axes = axes_of((const resize_attrs *)a->attr, &a->out[0].sh, a->work, true, &bytes);
    if (n == 0)
        return;
    make_tables(a, &axes, true);
    const sum_axes s = sums_of(&axes, true);
    float *dx = (float *)a->out[0].data;
    const float *dy = (const float *)a->in[0].data;
    if (s.active == 1)
        LAUNCH_FEW(resize_grad_few_kernel, 1, n, a->queue, dx, dy, n, s);
    else if (s.active == 2)
        LAUNCH_FEW(resize_grad_few_kernel, 2, n, a->queue, dx, dy, n, s);
    else
        LAUNCH_INDEXED(resize_grad_kernel, float, n, grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, dx, dy, n, s);
}
static size_t resize_grad_work(const kernel_args *a)
{
    size_t bytes;
    axes_of((const resize_attrs *)a->attr, &a->out[0].sh, nullptr, true, &bytes);
    return bytes;
}

/* ---- images in float16 or bfloat16, channels last (last.cuh), height and width of which change ---- */

template <class T, int V>
__global__ static void resize_last_kernel(T *y, const T *x, uint32_t n, float outside, const __grid_constant__ sum_axes s)
{
    const sum_axis &a = s.axis[s.which[0]], &b = s.axis[s.which[1]];
    GRID_STRIDE(i, n)
    {
        int64_t at[2];
        const int64_t base = base_of<2>(s, (uint32_t)i, at), first = a.first[at[0]], top = b.first[at[1]];
        const int count = a.count[at[0]], rows = b.count[at[1]];
        float sum[V] = {};
        for (int r = 0; r < rows; r++)
            for (int t = 0; t < count; t++) {
                const pack<T, V> v = item_load<T, V>(x, base + clamp_to(top + r, b.in) * b.step + clamp_to(first + t, a.in) * a.step);
                const float w = b.weight[at[1] * b.most + r] * a.weight[at[0] * a.most + t];
                UNROLL
                for (int j = 0; j < V; j++)
                    sum[j] += w * as_float(v.at[j]);
            }
        pack<T, V> r;
        UNROLL
        for (int j = 0; j < V; j++)
            r.at[j] = from_float<T>(count < 0 || rows < 0 ? outside : sum[j]);
        item_store<T, V>(y, i, r);
    }
}
template <class T, int V>
__global__ static void resize_grad_last_kernel(T *dx, const T *dy, uint32_t n, const __grid_constant__ sum_axes s)
{
    const sum_axis &a = s.axis[s.which[0]], &b = s.axis[s.which[1]];
    GRID_STRIDE(i, n)
    {
        int64_t at[2];
        const int64_t base = base_of<2>(s, (uint32_t)i, at);
        float sum[V] = {};
        for (int64_t r = b.from[at[1]]; r < b.to[at[1]]; r++)
            for (int64_t c = a.from[at[0]]; c < a.to[at[0]]; c++) {
                const pack<T, V> g = item_load<T, V>(dy, base + r * b.step + c * a.step);
                const float w = share_of(b, r, at[1]) * share_of(a, c, at[0]);
                UNROLL
                for (int j = 0; j < V; j++)
                    sum[j] += w * as_float(g.at[j]);
            }
        pack<T, V> r;
        UNROLL
        for (int j = 0; j < V; j++)
            r.at[j] = from_float<T>(sum[j]);
        item_store<T, V>(dx, i, r);
    }
}

template <class T, int V, bool GRAD> static void resize_last_by(const kernel_args *a)
{
    const resize_attrs *at = (const resize_attrs *)a->attr;
    const shape *data = GRAD ? &a->out[0].sh : &a->in[0].sh;
    const uint32_t n = (uint32_t)(shape_count(&a->out[0].sh) / V);
    size_t bytes;
    const tap_axes axes = axes_of(at, data, a->work, GRAD, &bytes, data->dim[1] / V);
    const sum_axes s = sums_of(&axes, GRAD);
    make_tables(a, &axes, GRAD);
    if (GRAD)
        LAUNCH((resize_grad_last_kernel<T, V>), grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, (T *)a->out[0].data,
               (const T *)a->in[0].data, n, s);
    else
        LAUNCH((resize_last_kernel<T, V>), grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, (T *)a->out[0].data,
               (const T *)a->in[0].data, n, (float)at->extrapolation_value, s);
}
template <class T, bool GRAD> static void resize_last(const kernel_args *a)
{
    if (last_vector(a->in[0].sh.dim[1], is_vector(a->in[0].data) && is_vector(a->out[0].data)) == 8)
        resize_last_by<T, 8, GRAD>(a);
    else
        resize_last_by<T, 1, GRAD>(a);
}
static bool takes_last(const kernel_args *a, const shape *data)
{
    bool fits = data->rank == 4 && shape_count(&a->in[0].sh) > 0 && shape_count(&a->out[0].sh) > 0 &&
                is_narrow(shape_count(&a->in[0].sh)) && is_narrow(shape_count(&a->out[0].sh));
    for (int i = 0; fits && i < 4; i++)
        fits = resize_axis_of((const resize_attrs *)a->attr, data, i).identity == (i < 2);
    return fits;
}
static bool takes_image(const kernel_args *a) { return takes_last(a, &a->in[0].sh); }
static bool takes_gradient(const kernel_args *a) { return takes_last(a, &a->out[0].sh); }

#define LAST_ROWS(E, T)                                                                                                \
    {.op = OP_RESIZE, .type = DTYPE_##E, .name = "resize channels last " #E, .run = resize_last<T, false>,             \
     .workspace = resize_work, .takes = takes_image, .blocked_in = 1, .blocked_out = 1},                               \
    {.op = OP_RESIZE_GRAD, .type = DTYPE_##E, .name = "resize grad channels last " #E, .run = resize_last<T, true>,    \
     .workspace = resize_grad_work, .takes = takes_gradient, .blocked_in = 1, .blocked_out = 1},

CUDA_TABLE(resize) = {
    {.op = OP_RESIZE, .type = DTYPE_F32, .name = "resize", .run = resize, .workspace = resize_work},
    {.op = OP_RESIZE, .type = DTYPE_NONE, .name = "resize nearest", .run = resize, .workspace = resize_work, .takes = takes_nearest},
    {.op = OP_RESIZE_GRAD, .type = DTYPE_F32, .name = "resize grad", .run = resize_grad, .workspace = resize_grad_work},
    LAST_ROWS(F16, __half) LAST_ROWS(BF16, __nv_bfloat16) KERNEL_END};
