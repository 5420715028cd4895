/* pool_half.cu - pools on images in float16 or bfloat16, channels last (last.cuh; src/ops/pool.c): a thread an item of the
 * result. Gradients gather: a thread an item of the input, which adds what comes from the windows it lies in, in their order. */
#include "kernels/cuda/last.cuh"
#include "kernels/cuda/pool.cuh"

typedef struct last_pool {
    pool_sizes s;
    divider columns; /* items of a pixel */
} last_pool;

/* Item i of one result for each window becomes its image, the place at[] of its window and its column. */
__device__ static inline uint32_t window_item(const last_pool &p, uint32_t i, int *at, uint32_t *column)
{
    *column = split_off(&i, p.columns);
    return place_of_output(p.s, i, at);
}
/* The same for one of the data. */
__device__ static inline uint32_t data_item(const last_pool &p, uint32_t i, int *at, uint32_t *column)
{
    *column = split_off(&i, p.columns);
    return place_of_input(p.s, i, at);
}
/* Where the data's item begins, in items. */
__device__ static inline int64_t data_at(const last_pool &p, uint32_t image, int d, int h, int w, uint32_t column)
{
    const int place = (d * p.s.axis[1].in + h) * p.s.axis[2].in + w;
    return ((int64_t)image * p.s.in + place) * p.columns.d + column;
}
__device__ static inline int64_t window_at(const last_pool &p, uint32_t image, const int *o, uint32_t column)
{
    const int place = (o[0] * p.s.axis[1].out + o[1]) * p.s.axis[2].out + o[2];
    return ((int64_t)image * p.s.out + place) * p.columns.d + column;
}

/* ---- maxima ---- */

/* The first maximum of every channel in row-major order; NaN is largest. */
template <class W, int V> struct maxima {
    float top[V];
    W tap[V]; /* its number in the window; the greatest W: no tap lies inside */
};
template <class W, int V, class T> __device__ static inline void take_tap(maxima<W, V> *m, const pack<T, V> &x, int tap, bool first)
{
    UNROLL
    for (int j = 0; j < V; j++) {
        const float v = as_float(x.at[j]);
        if (first || v > m->top[j] || (v != v && m->top[j] == m->top[j])) {
            m->top[j] = v;
            m->tap[j] = (W)tap;
        }
    }
}

/* K: windows of K x K taps side by side on the last two axes, which are read at once; 0: any. */
template <int K, class W, int V, class T>
__device__ static inline maxima<W, V> maxima_of(const last_pool &p, const T *x, uint32_t image, const int *at, uint32_t column)
{
    maxima<W, V> m;
    bool first = true;
    UNROLL
    for (int j = 0; j < V; j++) {
        m.top[j] = -INFINITY;
        m.tap[j] = (W)-1;
    }
    const window_place w = place_window(p.s, at);
    if constexpr (K > 0) {
        pack<T, V> v[K * K];
        bool in[K * K];
        UNROLL
        for (int k = 0; k < K * K; k++) {
            in[k] = k / K >= w.begin[1] && k / K < w.end[1] && k % K >= w.begin[2] && k % K < w.end[2];
            if (in[k])
                v[k] = item_load<T, V>(x, data_at(p, image, 0, w.start[1] + k / K, w.start[2] + k % K, column));
        }
        UNROLL
        for (int k = 0; k < K * K; k++)
            if (in[k]) {
                take_tap(&m, v[k], k, first);
                first = false;
            }
    } else {
        const pool_axis *axis = p.s.axis;
        for (int d = w.begin[0]; d < w.end[0]; d++)
            for (int h = w.begin[1]; h < w.end[1]; h++)
                for (int c = w.begin[2]; c < w.end[2]; c++) {
                    const int64_t from = data_at(p, image, w.start[0] + d * axis[0].dilation, w.start[1] + h * axis[1].dilation,
                                                 w.start[2] + c * axis[2].dilation, column);
                    take_tap(&m, item_load<T, V>(x, from), (d * axis[1].kernel + h) * axis[2].kernel + c, first);
                    first = false;
                }
    }
    return m;
}

/* y, tap: either may be NULL. */
template <class T, int V, class W, int K>
__global__ static void half_max_pool_kernel(T *y, W *tap, const T *x, uint32_t n, const __grid_constant__ last_pool p)
{
    GRID_STRIDE(i, n)
    {
        int at[3];
        uint32_t column;
        const uint32_t image = window_item(p, (uint32_t)i, at, &column);
        const maxima<W, V> m = maxima_of<K, W, V>(p, x, image, at, column);
        pack<T, V> r;
        pack<W, V> taps;
        UNROLL
        for (int j = 0; j < V; j++) {
            r.at[j] = from_float<T>(m.top[j]);
            taps.at[j] = m.tap[j];
        }
        if (y)
            item_store<T, V>(y, i, r);
        if (tap)
            item_store<W, V>(tap, i, taps);
    }
}

/* tap: of every window its maxima. */
template <class T, int V, class W>
__global__ static void half_max_pool_grad_kernel(T *dx, const T *dy, const W *tap, uint32_t n, const __grid_constant__ last_pool p)
{
    GRID_STRIDE(i, n)
    {
        int at[3], from[3], to[3], o[3];
        uint32_t column;
        const uint32_t image = data_item(p, (uint32_t)i, at, &column);
        const pool_axis *axis = p.s.axis;
        float sum[V] = {};
        UNROLL
        for (int k = 0; k < 3; k++)
            windows_of(axis[k], at[k], &from[k], &to[k]);
        for (o[0] = from[0]; o[0] < to[0]; o[0]++)
            for (o[1] = from[1]; o[1] < to[1]; o[1]++)
                for (o[2] = from[2]; o[2] < to[2]; o[2]++) {
                    int own = 0;
                    bool hit = true;
                    UNROLL
                    for (int k = 0; k < 3; k++) {
                        const int off = at[k] + axis[k].pad - o[k] * axis[k].stride;
                        const int t = axis[k].dilation > 1 ? off / axis[k].dilation : off;
                        hit = hit && t * axis[k].dilation == off;
                        own = own * axis[k].kernel + t;
                    }
                    if (!hit)
                        continue;
                    const int64_t w = window_at(p, image, o, column);
                    const pack<W, V> taps = item_load<W, V>(tap, w);
                    const pack<T, V> g = item_load<T, V>(dy, w);
                    UNROLL
                    for (int j = 0; j < V; j++)
                        sum[j] += taps.at[j] == (W)own ? as_float(g.at[j]) : 0;
                }
        pack<T, V> r;
        UNROLL
        for (int j = 0; j < V; j++)
            r.at[j] = from_float<T>(sum[j]);
        item_store<T, V>(dx, i, r);
    }
}

/* ---- averages ---- */

template <class T, int V>
__global__ static void half_average_pool_kernel(T *y, const T *x, uint32_t n, const __grid_constant__ last_pool p)
{
    GRID_STRIDE(i, n)
    {
        int o[3];
        uint32_t column;
        const uint32_t image = window_item(p, (uint32_t)i, o, &column);
        const window_place w = place_window(p.s, o);
        const int count = count_of(p.s, w, o);
        const pool_axis *axis = p.s.axis;
        float sum[V] = {};
        for (int d = w.begin[0]; d < w.end[0]; d++)
            for (int h = w.begin[1]; h < w.end[1]; h++)
                for (int c = w.begin[2]; c < w.end[2]; c++) {
                    const pack<T, V> v = item_load<T, V>(x, data_at(p, image, w.start[0] + d * axis[0].dilation, w.start[1] + h * axis[1].dilation,
                                                                    w.start[2] + c * axis[2].dilation, column));
                    UNROLL
                    for (int j = 0; j < V; j++)
                        sum[j] += as_float(v.at[j]);
                }
        pack<T, V> r;
        UNROLL
        for (int j = 0; j < V; j++)
            r.at[j] = from_float<T>(count ? sum[j] / (float)count : 0);
        item_store<T, V>(y, i, r);
    }
}

template <class T, int V>
__global__ static void half_average_pool_grad_kernel(T *dx, const T *dy, uint32_t n, const __grid_constant__ last_pool p)
{
    GRID_STRIDE(i, n)
    {
        int at[3], from[3], to[3], o[3];
        uint32_t column;
        const uint32_t image = data_item(p, (uint32_t)i, at, &column);
        float sum[V] = {};
        UNROLL
        for (int k = 0; k < 3; k++)
            windows_of(p.s.axis[k], at[k], &from[k], &to[k]);
        for (o[0] = from[0]; o[0] < to[0]; o[0]++)
            for (o[1] = from[1]; o[1] < to[1]; o[1]++)
                for (o[2] = from[2]; o[2] < to[2]; o[2]++) {
                    const window_place w = place_window(p.s, o);
                    bool tap = true;
                    UNROLL
                    for (int k = 0; k < 3; k++)
                        tap = tap && (p.s.axis[k].dilation == 1 || (at[k] - w.start[k]) % p.s.axis[k].dilation == 0);
                    if (!tap)
                        continue;
                    const float share = 1 / (float)count_of(p.s, w, o);
                    const pack<T, V> g = item_load<T, V>(dy, window_at(p, image, o, column));
                    UNROLL
                    for (int j = 0; j < V; j++)
                        sum[j] += as_float(g.at[j]) * share;
                }
        pack<T, V> r;
        UNROLL
        for (int j = 0; j < V; j++)
            r.at[j] = from_float<T>(sum[j]);
        item_store<T, V>(dx, i, r);
    }
}

/* ---- launchers ---- */

static last_pool last_pool_of(const kernel_args *a, const shape *x, const shape *y, int v)
{
    return {sizes_of((const pool_attrs *)a->attr, x, y), divider_of(x->dim[1] / v)};
}
/* Items of a tensor. */
static uint32_t items_of(const shape *sh, int v)
{
    return (uint32_t)(shape_count(sh) / v);
}
/* K of maxima_of that fits, 0: none. */
static int square_of(const pool_sizes *s)
{
    const pool_axis *d = &s->axis[0], *h = &s->axis[1], *w = &s->axis[2];
    const bool flat = d->in == 1 && d->out == 1 && d->kernel == 1 && d->pad == 0, close = h->dilation == 1 && w->dilation == 1;
    return flat && close && h->kernel == w->kernel && (h->kernel == 2 || h->kernel == 3) ? h->kernel : 0;
}
static int64_t taps_of(const pool_sizes *s)
{
    return (int64_t)s->axis[0].kernel * s->axis[1].kernel * s->axis[2].kernel;
}

template <class T, int V, class W> static void find_maxima(cuda_queue *q, T *y, W *tap, const T *x, uint32_t n, const last_pool &p)
{
    const int square = sizeof(W) == 1 ? square_of(&p.s) : 0; /* greater W: for large windows */
    if constexpr (sizeof(W) == 1) {
        if (square == 3)
            LAUNCH((half_max_pool_kernel<T, V, W, 3>), grid_for(q, n, 1), CUDA_THREADS, 0, q, y, tap, x, n, p);
        if (square == 2)
            LAUNCH((half_max_pool_kernel<T, V, W, 2>), grid_for(q, n, 1), CUDA_THREADS, 0, q, y, tap, x, n, p);
    }
    if (!square)
        LAUNCH((half_max_pool_kernel<T, V, W, 0>), grid_for(q, n, 1), CUDA_THREADS, 0, q, y, tap, x, n, p);
}

template <class T, int V> static void max_pool_by(const kernel_args *a)
{
    const shape *x = &a->in[0].sh, *y = &a->out[0].sh;
    find_maxima<T, V, uint8_t>(a->queue, (T *)a->out[0].data, (uint8_t *)NULL, (const T *)a->in[0].data, items_of(y, V),
                               last_pool_of(a, x, y, V));
}
template <class T, int V, class W> static void max_pool_grad_with(const kernel_args *a, const last_pool &p)
{
    const uint32_t outs = items_of(&a->in[0].sh, V), n = items_of(&a->out[0].sh, V);
    W *tap = (W *)a->work;
    if (outs > 0)
        find_maxima<T, V, W>(a->queue, (T *)NULL, tap, (const T *)a->in[1].data, outs, p);
    LAUNCH((half_max_pool_grad_kernel<T, V, W>), grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, (T *)a->out[0].data,
           (const T *)a->in[0].data, tap, n, p);
}
/* dy, x -> dx */
template <class T, int V> static void max_pool_grad_by(const kernel_args *a)
{
    const last_pool p = last_pool_of(a, &a->in[1].sh, &a->in[0].sh, V);
    if (taps_of(&p.s) < UINT8_MAX)
        max_pool_grad_with<T, V, uint8_t>(a, p);
    else
        max_pool_grad_with<T, V, uint32_t>(a, p);
}
static size_t max_pool_grad_work(const kernel_args *a)
{
    const pool_sizes s = sizes_of((const pool_attrs *)a->attr, &a->in[1].sh, &a->in[0].sh);
    return (size_t)shape_count(&a->in[0].sh) * (taps_of(&s) < UINT8_MAX ? 1 : sizeof(uint32_t));
}
template <class T, int V> static void average_pool_by(const kernel_args *a)
{
    const uint32_t n = items_of(&a->out[0].sh, V);
    LAUNCH((half_average_pool_kernel<T, V>), grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, (T *)a->out[0].data,
           (const T *)a->in[0].data, n, last_pool_of(a, &a->in[0].sh, &a->out[0].sh, V));
}
template <class T, int V> static void average_pool_grad_by(const kernel_args *a)
{
    const uint32_t n = items_of(&a->out[0].sh, V);
    LAUNCH((half_average_pool_grad_kernel<T, V>), grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, (T *)a->out[0].data,
           (const T *)a->in[0].data, n, last_pool_of(a, &a->out[0].sh, &a->in[0].sh, V));
}

/* name_half<T>: by items of 8 channels where all operands allow it. */
#define LAUNCHER(name)                                                                                                 \
    template <class T> static void name##_half(const kernel_args *a)                                                   \
    {                                                                                                                  \
        bool aligned = is_vector(a->out[0].data);                                                                      \
        for (int i = 0; i < a->n_in; i++)                                                                              \
            aligned = aligned && is_vector(a->in[i].data);                                                             \
        if (shape_count(&a->out[0].sh) == 0)                                                                           \
            return;                                                                                                    \
        if (last_vector(a->out[0].sh.dim[1], aligned) == 8)                                                            \
            name##_by<T, 8>(a);                                                                                        \
        else                                                                                                           \
            name##_by<T, 1>(a);                                                                                        \
    }
LAUNCHER(max_pool)
LAUNCHER(max_pool_grad)
LAUNCHER(average_pool)
LAUNCHER(average_pool_grad)

/* Items are counted in 32 bits. */
static bool is_countable(const kernel_args *a, const shape *x)
{
    return is_small((const pool_attrs *)a->attr, x) && is_narrow(shape_count(x)) && is_narrow(shape_count(&a->out[0].sh));
}
static bool takes_in(const kernel_args *a) { return is_countable(a, &a->in[0].sh); }
static bool takes_second(const kernel_args *a) { return is_countable(a, &a->in[1].sh); }
static bool takes_out(const kernel_args *a) { return is_countable(a, &a->in[0].sh) && is_small((const pool_attrs *)a->attr, &a->out[0].sh); }
static bool takes_values(const kernel_args *a) { return takes_in(a) && (a->n_out < 2 || a->out[1].type == DTYPE_NONE); }

#define POOL_ROWS(E, T)                                                                                                \
    {.op = OP_MAX_POOL, .type = DTYPE_##E, .name = "max_pool " #E, .run = max_pool_half<T>, .takes = takes_values,     \
     .blocked_in = 1, .blocked_out = 1},                                                                               \
    {.op = OP_MAX_POOL_GRAD, .type = DTYPE_##E, .name = "max_pool grad " #E, .run = max_pool_grad_half<T>,             \
     .workspace = max_pool_grad_work, .takes = takes_second, .blocked_in = 3, .blocked_out = 1},                       \
    {.op = OP_AVERAGE_POOL, .type = DTYPE_##E, .name = "average_pool " #E, .run = average_pool_half<T>,                \
     .takes = takes_in, .blocked_in = 1, .blocked_out = 1},                                                            \
    {.op = OP_AVERAGE_POOL_GRAD, .type = DTYPE_##E, .name = "average_pool grad " #E, .run = average_pool_grad_half<T>, \
     .takes = takes_out, .blocked_in = 1, .blocked_out = 1},

CUDA_TABLE(pool_half) = {POOL_ROWS(F16, __half) POOL_ROWS(BF16, __nv_bfloat16) KERNEL_END};
