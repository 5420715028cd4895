/* reduce.cu - reductions over axes (src/ops/reduce.c): in an order that depends on shapes alone.
 *
 * After merging axes the innermost one is either reduced (rows: threads go along it) or kept (columns: each thread has its
 * own results, neighbours read neighbours). Few results of many elements are cut into parts, whose results a second launch
 * joins. Up to 16 float32 are added as such, then the sum goes on in double. */
#include "kernels/cuda/broadcast.cuh"
#include "kernels/cuda/element.cuh"

/* x as results times elements of one result: where in x each begins. */
typedef struct reduction {
    int64_t outs, each;
    operand kept, reduced;
} reduction;

/* mask: bit i: axis i of x is reduced. v: elements that are read at once along the innermost axis. */
static reduction reduction_of(const kernel_tensor *x, uint32_t mask, int v)
{
    const int narrow = shape_count(&x->sh) < (int64_t)1 << 31;
    reduction r = {.outs = 1,
                   .each = 1,
                   .kept = {.way = OPERAND_EACH, .narrow = narrow},
                   .reduced = {.way = OPERAND_EACH, .narrow = narrow}};
    bool whole = ((uintptr_t)x->data & (dtype_of(x->type)->size * (size_t)v - 1)) == 0;
    int64_t stride = 1;
    for (int i = x->sh.rank - 1; i >= 0; i--) {
        const bool gone = mask >> i & 1;
        broadcast_map *m = gone ? &r.reduced.map : &r.kept.map;
        const int64_t d = x->sh.dim[i];
        *(gone ? &r.each : &r.outs) *= d;
        if (d != 1 && m->rank > 0 && stride == m->step[m->rank - 1] * m->dim[m->rank - 1]) {
            m->dim[m->rank - 1] *= d;
        } else if (d != 1) {
            whole = whole && (stride == 1 || stride % v == 0);
            m->dim[m->rank] = d;
            m->step[m->rank++] = stride;
        }
        stride *= d;
    }
    operand_divisions(&r.kept);
    operand_divisions(&r.reduced);
    operand *in = r.kept.map.rank > 0 && r.kept.map.step[0] == 1 ? &r.kept : &r.reduced; /* has the innermost axis */
    if (whole && in->map.rank == 1 && in->map.step[0] == 1)
        in->way = OPERAND_ALONG;
    else if (whole && in->map.rank > 1 && in->map.step[0] == 1 && in->map.dim[0] % v == 0)
        in->way = OPERAND_ROW;
    return r;
}

/* The axes that reduce_attrs names, as bits. */
static uint32_t mask_of(const kernel_args *a)
{
    const reduce_attrs *at = (const reduce_attrs *)a->attr;
    const int rank = a->in[0].sh.rank;
    uint32_t mask = at->axes.n == 0 && !at->noop_with_empty_axes ? (1u << rank) - 1 : 0;
    for (int64_t i = 0; i < at->axes.n; i++)
        mask |= 1u << (at->axes.v[i] < 0 ? at->axes.v[i] + rank : at->axes.v[i]);
    return mask;
}
/* The axes along which `small` (same rank) has 1 where x has more. */
static uint32_t mask_between(const shape *x, const shape *small)
{
    uint32_t mask = 0;
    for (int i = 0; i < x->rank; i++)
        mask |= (uint32_t)(small->dim[i] == 1 && x->dim[i] != 1) << i;
    return mask;
}

/* ---- float32 ---- */

/* strip: in what the elements of a strip are joined. NaN wins in the largest and the smallest. */
struct adding {
    typedef float strip;
    static __device__ float begin() { return 0; }
    template <class A> static __device__ A join(A a, A x) { return a + x; }
};
struct largest {
    typedef float strip;
    static __device__ float begin() { return -INFINITY; }
    template <class A> static __device__ A join(A a, A x) { return x > a || x != x ? x : a; }
};
struct smallest {
    typedef float strip;
    static __device__ float begin() { return INFINITY; }
    template <class A> static __device__ A join(A a, A x) { return x < a || x != x ? x : a; }
};
struct multiplying {
    typedef double strip;
    static __device__ float begin() { return 1; }
    template <class A> static __device__ A join(A a, A x) { return a * x; }
};

template <class R> __device__ static inline double warp_join(double v)
{
    for (int m = 16; m; m >>= 1)
        v = R::join(v, __shfl_xor_sync(FULL_WARP, v, m));
    return v;
}

/* How a reduction is cut: `parts` of `span` elements each (the last has less). */
typedef struct cut {
    int64_t parts, span;
} cut;

enum { STRIP = 4 }; /* packs, or rows, that are joined before they go on in double */

/* LANES threads for each unit, a part of a result: 1, a warp, or the block. Writes `out` when there is one part, else
 * work [parts, outs]. A mean divides by `by`. */
template <class R, int LANES>
__global__ static void __launch_bounds__(CUDA_THREADS)
rows_kernel(float *out, double *work, const float *in, __grid_constant__ const reduction r, cut c, double by)
{
    __shared__ double warp[CUDA_THREADS / 32];
    typedef typename R::strip strip;
    const int lane = threadIdx.x % LANES;
    const int64_t units = r.outs * c.parts, step = (int64_t)gridDim.x * (CUDA_THREADS / LANES);
    for (int64_t u = (int64_t)blockIdx.x * (CUDA_THREADS / LANES) + threadIdx.x / LANES; u < units; u += step) {
        const int64_t part = c.parts > 1 ? u / r.outs : 0, o = u - part * r.outs;
        const int64_t from = part * c.span, to = from + c.span < r.each ? from + c.span : r.each, packs = to / 4;
        const float *x = in + operand_at(r.kept, o);
        double total = (double)R::begin();
        for (int64_t p = from / 4 + lane; p < packs; p += LANES * STRIP) {
            strip a[4];
            UNROLL
            for (int v = 0; v < 4; v++)
                a[v] = (strip)R::begin();
            UNROLL
            for (int s = 0; s < STRIP; s++)
                if (p + s * LANES < packs) {
                    const pack<float, 4> y = operand_read<float, 4>(r.reduced, x, (p + s * LANES) * 4);
                    UNROLL
                    for (int v = 0; v < 4; v++)
                        a[v] = R::join(a[v], (strip)y.at[v]);
                }
            total = R::join(total, (double)R::join(R::join(a[0], a[1]), R::join(a[2], a[3])));
        }
        for (int64_t i = packs * 4 + lane; i < to; i += LANES)
            total = R::join(total, (double)x[operand_at(r.reduced, i)]);
        if (LANES > 1)
            total = warp_join<R>(total);
        if (LANES > 32) {
            __syncthreads();
            if (threadIdx.x % 32 == 0)
                warp[threadIdx.x / 32] = total;
            __syncthreads();
            total = warp[0];
            for (int w = 1; w < CUDA_THREADS / 32; w++)
                total = R::join(total, warp[w]);
        }
        if (lane != 0)
            continue;
        if (c.parts > 1)
            work[u] = total;
        else
            out[o] = (float)(total / by);
    }
}

/* A block has `wide` (a power of 2) threads side by side with V results each, and CUDA_THREADS / wide rows of them that share
 * the elements. grid: tiles of results, parts. */
template <class R, int V>
__global__ static void __launch_bounds__(CUDA_THREADS)
    columns_kernel(float *out, double *work, const float *in, __grid_constant__ const reduction r, cut c, int wide,
                   double by)
{
    __shared__ double part[V * CUDA_THREADS];
    typedef typename R::strip strip;
    const int column = threadIdx.x & (wide - 1), row = threadIdx.x / wide, rows = CUDA_THREADS / wide;
    const int64_t tiles = (r.outs + wide * V - 1) / (wide * V), units = tiles * c.parts;
    for (int64_t u = blockIdx.x; u < units; u += gridDim.x) {
        const int64_t p = c.parts > 1 ? u / tiles : 0, o = ((u - p * tiles) * wide + column) * V;
        const int64_t from = p * c.span, to = from + c.span < r.each ? from + c.span : r.each;
        const bool mine = o < r.outs;
        const float *x = in + (mine ? operand_at(r.kept, o) : 0);
        double total[V];
        UNROLL
        for (int v = 0; v < V; v++)
            total[v] = (double)R::begin();
        for (int64_t j = from + row; mine && j < to; j += rows * STRIP * 2) {
            strip a[V];
            UNROLL
            for (int v = 0; v < V; v++)
                a[v] = (strip)R::begin();
            UNROLL
            for (int s = 0; s < STRIP * 2; s++)
                if (j + s * rows < to) {
                    const pack<float, V> y = *(const pack<float, V> *)(x + operand_at(r.reduced, j + s * rows));
                    UNROLL
                    for (int v = 0; v < V; v++)
                        a[v] = R::join(a[v], (strip)y.at[v]);
                }
            UNROLL
            for (int v = 0; v < V; v++)
                total[v] = R::join(total[v], (double)a[v]);
        }
        __syncthreads();
        UNROLL
        for (int v = 0; v < V; v++)
            part[v * CUDA_THREADS + threadIdx.x] = total[v];
        for (int half = rows / 2; half; half /= 2) {
            __syncthreads();
            if (row < half)
                UNROLL for (int v = 0; v < V; v++) part[v * CUDA_THREADS + threadIdx.x] =
                    R::join(part[v * CUDA_THREADS + threadIdx.x], part[v * CUDA_THREADS + threadIdx.x + half * wide]);
        }
        if (row > 0 || !mine)
            continue;
        UNROLL
        for (int v = 0; v < V; v++) {
            const double y = part[v * CUDA_THREADS + threadIdx.x];
            if (c.parts > 1)
                work[p * r.outs + o + v] = y;
            else
                out[o + v] = (float)(y / by);
        }
    }
}

/* work: [parts, outs]. A warp for each result. */
template <class R>
__global__ static void join_kernel(float *out, const double *work, int64_t outs, int64_t parts, double by)
{
    const int lane = threadIdx.x & 31;
    for (int64_t o = (int64_t)blockIdx.x * (CUDA_THREADS / 32) + threadIdx.x / 32; o < outs;
         o += (int64_t)gridDim.x * (CUDA_THREADS / 32)) {
        double total = (double)R::begin();
        for (int64_t p = lane; p < parts; p += 32)
            total = R::join(total, work[p * outs + o]);
        total = warp_join<R>(total);
        if (lane == 0)
            out[o] = (float)(total / by);
    }
}

/* ---- how it is cut: by sizes alone ---- */

enum {
    BY_THREAD = 8,    /* so few elements: a thread for each result */
    BY_WARP = 2048,   /* up to so many: a warp */
    PART = 8192,      /* elements of a row's part */
    ENOUGH = 528,     /* blocks that fill any device */
    PARTS_MOST = 1024
};

typedef struct manner {
    bool columns;
    int lanes, wide, v;
    cut c;
} manner;

static manner manner_of(const reduction *r)
{
    manner m = {.columns = r->kept.map.rank > 0 && r->kept.map.step[0] == 1 && r->each > BY_THREAD,
                .wide = 1,
                .c = {.parts = 1, .span = r->each}};
    int64_t rows, most, wanted;
    if (!m.columns) {
        m.lanes = r->each <= BY_THREAD ? 1 : r->each <= BY_WARP ? 32 : CUDA_THREADS;
        most = m.lanes < CUDA_THREADS ? 1 : (r->each + PART - 1) / PART;
        wanted = r->outs ? (ENOUGH + r->outs - 1) / r->outs : 1;
        rows = 4;
    } else {
        m.v = r->kept.way != OPERAND_EACH ? 4 : 1;
        while (m.wide < 32 && m.wide * m.v < r->outs)
            m.wide *= 2;
        const int64_t tiles = (r->outs + m.wide * m.v - 1) / (m.wide * m.v);
        rows = CUDA_THREADS / m.wide;
        most = (r->each + rows * 4 * STRIP - 1) / (rows * 4 * STRIP);
        wanted = tiles ? (ENOUGH + tiles - 1) / tiles : 1;
    }
    int64_t parts = most < wanted ? most : wanted;
    if (parts > PARTS_MOST)
        parts = PARTS_MOST;
    if (parts > 1) { /* whole packs or rows of threads; no part is empty */
        m.c.span = ((r->each + parts - 1) / parts + rows - 1) / rows * rows;
        m.c.parts = (r->each + m.c.span - 1) / m.c.span;
    }
    return m;
}

static size_t reduce_workspace(const kernel_args *a)
{
    /* Packs of 4 or of 1: what the address allows is not known yet, and the parts differ. */
    const reduction four = reduction_of(&a->in[0], mask_of(a), 4);
    reduction one = four;
    one.kept.way = one.reduced.way = OPERAND_EACH;
    const int64_t p = manner_of(&four).c.parts, q = manner_of(&one).c.parts, parts = p > q ? p : q;
    return parts > 1 ? (size_t)(parts * four.outs) * sizeof(double) : 0;
}

template <class R, bool MEAN> static void reduce_run(const kernel_args *a)
{
    const reduction r = reduction_of(&a->in[0], mask_of(a), 4);
    const manner m = manner_of(&r);
    cuda_queue *q = a->queue;
    float *out = (float *)a->out[0].data;
    const float *in = (const float *)a->in[0].data;
    double *work = (double *)a->work;
    const double by = MEAN ? (double)r.each : 1;
    if (r.outs == 0)
        return;
    if (m.columns && m.v == 4)
        LAUNCH((columns_kernel<R, 4>), grid_for(q, (r.outs / 4 + m.wide - 1) / m.wide * m.c.parts * CUDA_THREADS, 1),
               CUDA_THREADS, 0, q, out, work, in, r, m.c, m.wide, by);
    else if (m.columns)
        LAUNCH((columns_kernel<R, 1>), grid_for(q, (r.outs + m.wide - 1) / m.wide * m.c.parts * CUDA_THREADS, 1),
               CUDA_THREADS, 0, q, out, work, in, r, m.c, m.wide, by);
    else if (m.lanes == 1)
        LAUNCH((rows_kernel<R, 1>), grid_for(q, r.outs, 1), CUDA_THREADS, 0, q, out, work, in, r, m.c, by);
    else if (m.lanes == 32)
        LAUNCH((rows_kernel<R, 32>), grid_for(q, r.outs * 32, 1), CUDA_THREADS, 0, q, out, work, in, r, m.c, by);
    else
        LAUNCH((rows_kernel<R, CUDA_THREADS>), grid_for(q, r.outs * m.c.parts * CUDA_THREADS, 1), CUDA_THREADS, 0, q,
               out, work, in, r, m.c, by);
    if (m.c.parts > 1)
        LAUNCH(join_kernel<R>, grid_for(q, r.outs * 32, 1), CUDA_THREADS, 0, q, out, (const double *)work, r.outs,
               m.c.parts, by);
}

/* ---- other types: a block for each result ---- */

enum any_reduction { ANY_SUM, ANY_MEAN, ANY_MAX, ANY_MIN, ANY_PROD };

template <class A> __device__ static inline A any_join(any_reduction what, A a, A x)
{
    switch (what) {
    case ANY_MAX: return x > a || x != x ? x : a;
    case ANY_MIN: return x < a || x != x ? x : a;
    case ANY_PROD: return a * x;
    default: return a + x;
    }
}
__device__ static inline double any_load(dtype t, const void *in, int64_t i, double) { return load_number(t, in, i); }
__device__ static inline int64_t any_load(dtype t, const void *in, int64_t i, int64_t)
{
    return (int64_t)load_whole(t, in, i);
}
__device__ static inline uint64_t any_load(dtype t, const void *in, int64_t i, uint64_t)
{
    return load_whole(t, in, i);
}

/* A: double (halves, means), uint64_t (whole sums and products wrap), or what the numbers compare in. */
template <class A>
__global__ static void any_kernel(any_reduction what, void *out, const void *in, dtype type, bool whole, A begin,
                                  __grid_constant__ const reduction r)
{
    __shared__ A part[CUDA_THREADS];
    for (int64_t o = blockIdx.x; o < r.outs; o += gridDim.x) {
        const int64_t base = operand_at(r.kept, o);
        A y = begin;
        for (int64_t i = threadIdx.x; i < r.each; i += CUDA_THREADS)
            y = any_join(what, y, any_load(type, in, base + operand_at(r.reduced, i), A()));
        __syncthreads();
        part[threadIdx.x] = y;
        for (int half = CUDA_THREADS / 2; half; half /= 2) {
            __syncthreads();
            if ((int)threadIdx.x < half)
                part[threadIdx.x] = any_join(what, part[threadIdx.x], part[threadIdx.x + half]);
        }
        if (threadIdx.x != 0)
            continue;
        y = part[0];
        if (!std::is_same<A, double>::value)
            store_whole(type, out, o, (uint64_t)y);
        else if (what == ANY_MEAN)
            store_number(type, out, o, whole && r.each == 0 ? 0 : (double)y / (double)r.each);
        else
            store_number(type, out, o, (double)y);
    }
}
template <any_reduction WHAT> static void any_run(const kernel_args *a)
{
    const reduction r = reduction_of(&a->in[0], mask_of(a), 1);
    const dtype t = a->in[0].type;
    const dtype_info *d = dtype_of(t);
    const dim3 grid = grid_for(a->queue, r.outs * CUDA_THREADS, 1);
    const uint64_t least = d->is_signed ? (uint64_t)0 - ((uint64_t)1 << (8 * d->size - 1)) : 0;
    const uint64_t most = d->is_signed ? ~least : t == DTYPE_BOOL ? 1 : ~(uint64_t)0 >> (64 - 8 * d->size);
    if (r.outs == 0)
        return;
    if (d->is_float || WHAT == ANY_MEAN)
        LAUNCH(any_kernel<double>, grid, CUDA_THREADS, 0, a->queue, WHAT, a->out[0].data, (const void *)a->in[0].data,
               t, !d->is_float,
               WHAT == ANY_MAX   ? (double)-INFINITY
               : WHAT == ANY_MIN ? (double)INFINITY
                                 : (double)(WHAT == ANY_PROD),
               r);
    else if (WHAT == ANY_SUM || WHAT == ANY_PROD || !d->is_signed)
        LAUNCH(any_kernel<uint64_t>, grid, CUDA_THREADS, 0, a->queue, WHAT, a->out[0].data, (const void *)a->in[0].data,
               t, true,
               WHAT == ANY_MAX   ? least
               : WHAT == ANY_MIN ? most
                                 : (uint64_t)(WHAT == ANY_PROD),
               r);
    else
        LAUNCH(any_kernel<int64_t>, grid, CUDA_THREADS, 0, a->queue, WHAT, a->out[0].data, (const void *)a->in[0].data,
               t, true, (int64_t)(WHAT == ANY_MAX ? least : most), r);
}

/* ---- gradients of float32: what a result's elements have in common, then element by element ---- */

typedef struct common {
    double product; /* of the elements that are not 0 */
    int64_t count;  /* of those that equal y (y given), or of zeros */
} common;

__global__ static void common_kernel(common *out, const float *x, const float *y, __grid_constant__ const reduction r)
{
    __shared__ common part[CUDA_THREADS];
    for (int64_t o = blockIdx.x; o < r.outs; o += gridDim.x) {
        const float *from = x + operand_at(r.kept, o), equal = y ? y[o] : 0;
        double product = 1;
        int64_t count = 0;
        for (int64_t i = threadIdx.x; i < r.each; i += CUDA_THREADS) {
            const float v = from[operand_at(r.reduced, i)];
            count += v == equal;
            product *= y || v == 0 ? 1 : (double)v;
        }
        __syncthreads();
        part[threadIdx.x].product = product;
        part[threadIdx.x].count = count;
        for (int half = CUDA_THREADS / 2; half; half /= 2) {
            __syncthreads();
            if ((int)threadIdx.x < half) {
                part[threadIdx.x].product *= part[threadIdx.x + half].product;
                part[threadIdx.x].count += part[threadIdx.x + half].count;
            }
        }
        if (threadIdx.x == 0)
            out[o] = part[0];
    }
}
/* dx = dy / k for the k elements that equal y, else 0. */
__global__ static void minmax_grad_kernel(float *dx, const float *x, const float *y, const common *all,
                                          __grid_constant__ const operand dy, int64_t n)
{
    GRID_STRIDE(i, n)
    {
        const int64_t o = operand_at(dy, i);
        dx[i] = x[i] == y[o] ? ((const float *)dy.data)[o] / (float)all[o].count : 0;
    }
}
/* dx = dy times the product of the others: y / x, or, where one element is 0, what the others give at its place. */
__global__ static void prod_grad_kernel(float *dx, const float *x, const common *all,
                                        __grid_constant__ const operand dy, int64_t n)
{
    GRID_STRIDE(i, n)
    {
        const int64_t o = operand_at(dy, i), zeros = all[o].count;
        const double v = (double)x[i];
        const double others = zeros == 0 ? all[o].product / v : zeros == 1 && v == 0 ? all[o].product : 0;
        dx[i] = (float)((double)((const float *)dy.data)[o] * others);
    }
}

template <bool MINMAX> static void grad_run(const kernel_args *a)
{
    const reduction r = reduction_of(&a->in[1], mask_between(&a->in[1].sh, &a->in[0].sh), 1);
    const int64_t n = shape_count(&a->in[1].sh);
    const operand dy = operand_of(&a->in[1], &a->in[0], 1);
    const float *x = (const float *)a->in[1].data, *y = MINMAX ? (const float *)a->in[2].data : NULL;
    float *dx = (float *)a->out[0].data;
    common *all = (common *)a->work;
    if (n == 0)
        return;
    LAUNCH(common_kernel, grid_for(a->queue, r.outs * CUDA_THREADS, 1), CUDA_THREADS, 0, a->queue, all, x, y, r);
    if (MINMAX)
        LAUNCH(minmax_grad_kernel, grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, dx, x, y, (const common *)all,
               dy, n);
    else
        LAUNCH(prod_grad_kernel, grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, dx, x, (const common *)all, dy,
               n);
}
static size_t grad_workspace(const kernel_args *a)
{
    return (size_t)shape_count(&a->in[0].sh) * sizeof(common);
}

/* ---- ArgMax ---- */

/* Whether element i, x, comes before j, y: the greater, of equal ones the first (or the last), of NaNs the first. */
template <class N> __device__ static inline bool arg_before(N x, int64_t i, N y, int64_t j, bool last)
{
    const bool nan = x != x, other = y != y;
    if (nan || other)
        return nan && other ? i < j : nan;
    return x != y ? x > y : last ? i > j : i < j;
}

/* in: [outer, n, inner]. LANES threads for each result: 1, or (inner = 1) a warp. */
template <class T, int LANES>
__global__ static void arg_max_kernel(int64_t *out, const T *in, int64_t outs, int64_t n, int64_t inner, bool last)
{
    typedef typename arithmetic<T>::number number;
    const int lane = threadIdx.x % LANES;
    for (int64_t o = ((int64_t)blockIdx.x * CUDA_THREADS + threadIdx.x) / LANES; o < outs;
         o += (int64_t)gridDim.x * (CUDA_THREADS / LANES)) {
        const T *from = in + o / inner * n * inner + o % inner;
        int64_t best = lane < n ? lane : 0;
        number most = arithmetic<T>::load(from[best * inner]);
        for (int64_t i = lane + LANES; i < n; i += LANES) {
            const number x = arithmetic<T>::load(from[i * inner]);
            if (arg_before(x, i, most, best, last)) {
                most = x;
                best = i;
            }
        }
        for (int m = LANES / 2; m; m /= 2) {
            const number x = __shfl_xor_sync(FULL_WARP, most, m);
            const int64_t i = __shfl_xor_sync(FULL_WARP, best, m);
            if (arg_before(x, i, most, best, last)) {
                most = x;
                best = i;
            }
        }
        if (lane == 0)
            out[o] = best;
    }
}
template <class T> static void arg_max_run(const kernel_args *a)
{
    const arg_attrs *at = (const arg_attrs *)a->attr;
    const shape *sh = &a->in[0].sh;
    const int axis = shape_axis(sh, at->axis);
    int64_t outs = 1, inner = 1;
    for (int i = 0; i < sh->rank; i++) {
        outs *= i == axis ? 1 : sh->dim[i];
        inner *= i > axis ? sh->dim[i] : 1;
    }
    if (outs == 0)
        return;
    if (inner == 1)
        LAUNCH((arg_max_kernel<T, 32>), grid_for(a->queue, outs * 32, 1), CUDA_THREADS, 0, a->queue,
               (int64_t *)a->out[0].data, (const T *)a->in[0].data, outs, sh->dim[axis], inner,
               at->select_last_index != 0);
    else
        LAUNCH((arg_max_kernel<T, 1>), grid_for(a->queue, outs, 1), CUDA_THREADS, 0, a->queue,
               (int64_t *)a->out[0].data, (const T *)a->in[0].data, outs, sh->dim[axis], inner,
               at->select_last_index != 0);
}

/* ---- rows ---- */

#define FLOAT_ROW(E, what, R, mean)                                                                                    \
    {.op = OP_REDUCE_##E, .type = DTYPE_F32, .name = what, .run = reduce_run<R, mean>, .workspace = reduce_workspace}
#define ANY_ROW(O, E) {.op = OP_REDUCE_##O, .type = DTYPE_##E, .name = "reduce " #O " " #E, .run = any_run<ANY_##O>},
#define ROWS(E, T)                                                                                                     \
    ANY_ROW(SUM, E) ANY_ROW(MEAN, E) ANY_ROW(MAX, E) ANY_ROW(MIN, E) ANY_ROW(PROD, E)                                  \
    {.op = OP_ARG_MAX, .type = DTYPE_##E, .name = "arg max " #E, .run = arg_max_run<T>},
CUDA_TABLE(reduce) = {
    FLOAT_ROW(SUM, "reduce sum", adding, false), FLOAT_ROW(MEAN, "reduce mean", adding, true),
    FLOAT_ROW(MAX, "reduce max", largest, false), FLOAT_ROW(MIN, "reduce min", smallest, false),
    FLOAT_ROW(PROD, "reduce prod", multiplying, false),
    WHOLE_TYPES(ROWS) HALF_TYPES(ROWS) ANY_ROW(MAX, BOOL) ANY_ROW(MIN, BOOL)
    {.op = OP_ARG_MAX, .type = DTYPE_F32, .name = "arg max", .run = arg_max_run<float>},
    {.op = OP_REDUCE_MINMAX_GRAD, .type = DTYPE_F32, .name = "reduce minmax grad", .run = grad_run<true>, .workspace = grad_workspace},
    {.op = OP_REDUCE_PROD_GRAD, .type = DTYPE_F32, .name = "reduce prod grad", .run = grad_run<false>, .workspace = grad_workspace},
    KERNEL_END};
