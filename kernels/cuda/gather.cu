/* gather.cu - elements by index (src/ops/gather.c): Gather and GatherElements of any type, and their gradients.
 *
 * Gradients gather too: whoever owns an element of the result looks for the indices that name it and adds what they bring,
 * in an order that depends on the indices alone. Where the indices name rows, the first and the last of a row are found
 * before (by atomics on integers, whose result has no order), so that rows named once, which most are, cost one read. */
#include "kernels/cuda/index.cuh"

#define LANES 32
#define WARPS (CUDA_THREADS / LANES)

typedef struct indices {
    const void *data;
    bool wide;    /* int64, else int32 */
    int64_t size; /* of the axis; an index counts from the end when negative */
} indices;
static indices indices_of(const kernel_tensor *t, int64_t size)
{
    indices x = {.data = t->data, .wide = t->type == DTYPE_I64, .size = size};
    return x;
}
/* -1: outside */
__device__ static inline int64_t index_at(const indices &x, int64_t i)
{
    int64_t k = x.wide ? ((const int64_t *)x.data)[i] : (int64_t)((const int32_t *)x.data)[i];
    k += k < 0 ? x.size : 0;
    return k >= 0 && k < x.size ? k : -1;
}

/* What stands for an element outside, as often as it fits into 16 bytes. */
typedef struct pattern {
    alignas(16) unsigned char bytes[16];
} pattern;
static pattern outside_of(dtype type)
{
    pattern p;
    const size_t size = dtype_of(type)->size;
    for (size_t i = 0; i < sizeof p.bytes / size; i++)
        dtype_store(type, p.bytes, (int64_t)i, (double)NAN);
    return p;
}

/* Gather's data as [outer, size, inner]. */
typedef struct gather_sizes {
    int64_t outer, size, inner, indices;
} gather_sizes;
static gather_sizes sizes_of(const shape *data, int64_t axis, const shape *index)
{
    const int at = shape_axis(data, axis);
    gather_sizes g = {.outer = 1, .size = data->dim[at], .inner = 1, .indices = shape_count(index)};
    for (int i = 0; i < at; i++)
        g.outer *= data->dim[i];
    for (int i = at + 1; i < data->rank; i++)
        g.inner *= data->dim[i];
    return g;
}

template <class T, class I>
__global__ static void gather_kernel(T *to, const T *from, int64_t n, indices x, divider inner, divider count, pattern outside)
{
    GRID_STRIDE(i, n)
    {
        I rest = (I)i;
        const int64_t column = (int64_t)split_off(&rest, inner), k = (int64_t)split_off(&rest, count);
        const int64_t row = index_at(x, k);
        to[i] = row >= 0 ? from[((int64_t)rest * x.size + row) * inner.d + column] : *reinterpret_cast<const T *>(outside.bytes);
    }
}
static void gather(const kernel_args *a)
{
    const gather_sizes g = sizes_of(&a->in[0].sh, ((const gather_attrs *)a->attr)->axis, &a->in[1].sh);
    const int64_t size = (int64_t)dtype_of(a->in[0].type)->size;
    const int unit = unit_of((uintptr_t)a->in[0].data | (uintptr_t)a->out[0].data | (uint64_t)(g.inner * size));
    const int64_t inner = g.inner * size / unit, n = g.outer * g.indices * inner;
    if (n == 0)
        return;
    BY_UNIT(unit, LAUNCH_INDEXED(gather_kernel, T, n, grid_for(a->queue, n, 2), CUDA_THREADS, 0, a->queue, (T *)a->out[0].data,
                                 (const T *)a->in[0].data, n, indices_of(&a->in[1], g.size), divider_of(inner),
                                 divider_of(g.indices), outside_of(a->in[0].type)););
}

/* ---- gradients of rows ---- */

typedef struct span { /* of the indices that name a row; last < 0: none does */
    int first, last;
} span;

__global__ static void spans_begin_kernel(span *s, int *place, int64_t n)
{
    GRID_STRIDE(i, n)
    {
        s[i] = {INT32_MAX, -1};
        if (place)
            place[i] = -1;
    }
}
__global__ static void spans_mark_kernel(span *s, indices x, int64_t n)
{
    GRID_STRIDE(k, n)
    {
        const int64_t row = index_at(x, k);
        if (row >= 0) {
            atomicMin(&s[row].first, (int)k);
            atomicMax(&s[row].last, (int)k);
        }
    }
}

/* The columns of a warp: V floats a lane. */
template <int V> struct columns {
    float v[V];
};
template <int V> __device__ static inline columns<V> load_columns(const float *p, bool in)
{
    columns<V> c;
    if constexpr (V == 4) {
        const float4 all = in ? *reinterpret_cast<const float4 *>(p) : make_float4(0, 0, 0, 0);
        c.v[0] = all.x, c.v[1] = all.y, c.v[2] = all.z, c.v[3] = all.w;
    } else {
        c.v[0] = in ? *p : 0;
    }
    return c;
}
template <int V> __device__ static inline void store_columns(float *p, const columns<V> &c)
{
    if constexpr (V == 4)
        *reinterpret_cast<float4 *>(p) = make_float4(c.v[0], c.v[1], c.v[2], c.v[3]);
    else
        *p = c.v[0];
}

/* Shared memory of row_sum: the indices that name the row among those of a round, how many in every warp, parts of sums. */
template <int V> struct row_scratch {
    int list[CUDA_THREADS], count[WARPS];
    float part[WARPS][LANES * V];
};

/* The sum of the rows of dy (`inner` floats each) that `s` names, of V columns from `column` on; in the lanes of warp 0.
 * Every warp adds each WARPS-th, then the warps' sums are added in their order. The whole block calls. */
template <int V>
__device__ static columns<V> row_sum(const float *dy, int64_t inner, int64_t column, const indices &x, int64_t row, span s,
                                     row_scratch<V> *scratch)
{
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const bool in = column < inner;
    columns<V> sum = {};
    if (s.last < 0)
        return sum;
    if (s.last == s.first)
        return load_columns<V>(dy + s.first * inner + column, in);
    for (int64_t base = s.first; base <= s.last; base += CUDA_THREADS) {
        const int64_t k = base + threadIdx.x;
        const bool named = k <= s.last && index_at(x, k) == row;
        const unsigned mask = __ballot_sync(FULL_WARP, named);
        if (lane == 0)
            scratch->count[warp] = __popc(mask);
        __syncthreads();
        int before = 0, all = 0;
        for (int w = 0; w < WARPS; w++) {
            before += w < warp ? scratch->count[w] : 0;
            all += scratch->count[w];
        }
        if (named)
            scratch->list[before + __popc(mask & ((1u << lane) - 1))] = (int)threadIdx.x;
        __syncthreads();
        int m = warp;
        for (; m + 3 * WARPS < all; m += 4 * WARPS) { /* four rows on their way at a time */
            columns<V> c[4];
            UNROLL
            for (int u = 0; u < 4; u++)
                c[u] = load_columns<V>(dy + (base + scratch->list[m + u * WARPS]) * inner + column, in);
            UNROLL
            for (int u = 0; u < 4; u++)
                UNROLL
                for (int v = 0; v < V; v++)
                    sum.v[v] += c[u].v[v];
        }
        for (; m < all; m += WARPS) {
            const columns<V> c = load_columns<V>(dy + (base + scratch->list[m]) * inner + column, in);
            UNROLL
            for (int v = 0; v < V; v++)
                sum.v[v] += c.v[v];
        }
        __syncthreads();
    }
    UNROLL
    for (int v = 0; v < V; v++)
        scratch->part[warp][lane * V + v] = sum.v[v];
    __syncthreads();
    if (warp == 0)
        for (int w = 1; w < WARPS; w++)
            UNROLL
            for (int v = 0; v < V; v++)
                sum.v[v] += scratch->part[w][lane * V + v];
    __syncthreads();
    return sum;
}

/* A block a row of dx [outer, size, inner] and LANES * V columns. */
template <int V>
__global__ static void gather_grad_kernel(float *dx, const float *dy, gather_sizes g, indices x, const span *spans, int64_t chunks)
{
    SHARED_DYNAMIC(row_scratch<V>, scratch);
    const int64_t n = g.outer * g.size * chunks;
    for (int64_t i = blockIdx.x; i < n; i += gridDim.x) {
        const int64_t at = i / chunks, outer = at / g.size, row = at - outer * g.size;
        const int64_t column = ((i - at * chunks) * LANES + (threadIdx.x & 31)) * V;
        const columns<V> sum = row_sum<V>(dy + outer * g.indices * g.inner, g.inner, column, x, row, spans[row], scratch);
        if (threadIdx.x < LANES && column < g.inner)
            store_columns<V>(dx + at * g.inner + column, sum);
    }
}

#define NUMBERING 1024 /* threads */
/* Which row of the result belongs to every index: order[k] is the number of the row that index k is the first to name;
 * -1 - (rows named first before k) where another index named it before or it is outside. One block. */
__global__ static void __launch_bounds__(NUMBERING)
number_rows_kernel(int *order, int *used, int *place, const span *spans, indices x, int64_t n)
{
    SHARED_DYNAMIC(int, count);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    int first = 0;
    for (int64_t base = 0; base < n; base += blockDim.x) {
        const int64_t k = base + threadIdx.x, row = k < n ? index_at(x, k) : -1;
        const bool names = row >= 0 && spans[row].first == (int)k;
        const unsigned mask = __ballot_sync(FULL_WARP, names);
        if (lane == 0)
            count[warp] = __popc(mask);
        __syncthreads();
        int before = first + __popc(mask & ((1u << lane) - 1));
        for (int w = 0; w < warps; w++) {
            before += w < warp ? count[w] : 0;
            first += count[w];
        }
        if (k < n)
            order[k] = names ? before : -1 - before;
        if (names)
            place[row] = before;
        __syncthreads();
    }
    if (threadIdx.x == 0)
        *used = first;
}

/* A block an index and LANES * V columns: the row that it names first, or one of the rows of zeros behind those. */
template <int V>
__global__ static void gather_rows_kernel(float *rows, const float *dy, int64_t inner, int64_t n, indices x, const span *spans,
                                          const int *order, const int *used, int64_t chunks)
{
    SHARED_DYNAMIC(row_scratch<V>, scratch);
    for (int64_t i = blockIdx.x; i < n * chunks; i += gridDim.x) {
        const int64_t k = i / chunks, column = ((i - k * chunks) * LANES + (threadIdx.x & 31)) * V;
        int64_t to = order[k];
        columns<V> sum = {};
        if (to >= 0) {
            const int64_t row = index_at(x, k);
            sum = row_sum<V>(dy, inner, column, x, row, spans[row], scratch);
        } else {
            to = *used + k - (-1 - to);
        }
        if (threadIdx.x < LANES && column < inner)
            store_columns<V>(rows + to * inner + column, sum);
    }
}

static void find_spans(const kernel_args *a, span *spans, int *place, const indices *x, int64_t n)
{
    LAUNCH(spans_begin_kernel, grid_for(a->queue, x->size, 1), CUDA_THREADS, 0, a->queue, spans, place, x->size);
    if (n > 0)
        LAUNCH(spans_mark_kernel, grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, spans, *x, n);
}

static int columns_of(int64_t inner, const void *one, const void *other)
{
    return inner % 4 == 0 && is_vector(one) && is_vector(other) ? 4 : 1;
}

static void gather_grad(const kernel_args *a)
{
    const gather_sizes g = sizes_of(&a->out[0].sh, ((const gather_attrs *)a->attr)->axis, &a->in[1].sh);
    const indices x = indices_of(&a->in[1], g.size);
    span *spans = (span *)a->work;
    float *dx = (float *)a->out[0].data;
    const float *dy = (const float *)a->in[0].data;
    const int v = columns_of(g.inner, dx, dy);
    const int64_t chunks = (g.inner + LANES * v - 1) / (LANES * v), blocks = g.outer * g.size * chunks;
    if (blocks == 0)
        return;
    find_spans(a, spans, nullptr, &x, g.indices);
    if (v == 4)
        LAUNCH((gather_grad_kernel<4>), grid_for(a->queue, blocks * CUDA_THREADS, 1), CUDA_THREADS, sizeof(row_scratch<4>),
               a->queue, dx, dy, g, x, spans, chunks);
    else
        LAUNCH((gather_grad_kernel<1>), grid_for(a->queue, blocks * CUDA_THREADS, 1), CUDA_THREADS, sizeof(row_scratch<1>),
               a->queue, dx, dy, g, x, spans, chunks);
}
static size_t gather_grad_work(const kernel_args *a)
{
    return (size_t)sizes_of(&a->out[0].sh, ((const gather_attrs *)a->attr)->axis, &a->in[1].sh).size * sizeof(span);
}
static bool few_indices(const kernel_args *a)
{
    return shape_count(&a->in[1].sh) <= INT32_MAX / 2;
}

static void gather_rows(const kernel_args *a)
{
    const int64_t n = shape_count(&a->in[1].sh), size = a->out[1].sh.dim[0], inner = n ? shape_count(&a->in[0].sh) / n : 0;
    const indices x = indices_of(&a->in[1], size);
    span *spans = (span *)a->work;
    int *order = (int *)(spans + size), *used = order + n, *place = (int *)a->out[1].data;
    float *rows = (float *)a->out[0].data;
    const float *dy = (const float *)a->in[0].data;
    const int v = columns_of(inner, rows, dy);
    const int64_t chunks = (inner + LANES * v - 1) / (LANES * v), blocks = n * chunks;
    if (size > 0)
        find_spans(a, spans, place, &x, n);
    if (n > 0)
        LAUNCH(number_rows_kernel, 1, NUMBERING, NUMBERING / 32 * sizeof(int), a->queue, order, used, place, spans, x, n);
    if (blocks == 0)
        return;
    if (v == 4)
        LAUNCH((gather_rows_kernel<4>), grid_for(a->queue, blocks * CUDA_THREADS, 1), CUDA_THREADS, sizeof(row_scratch<4>),
               a->queue, rows, dy, inner, n, x, spans, order, used, chunks);
    else
        LAUNCH((gather_rows_kernel<1>), grid_for(a->queue, blocks * CUDA_THREADS, 1), CUDA_THREADS, sizeof(row_scratch<1>),
               a->queue, rows, dy, inner, n, x, spans, order, used, chunks);
}
static size_t gather_rows_work(const kernel_args *a)
{
    return (size_t)a->out[1].sh.dim[0] * sizeof(span) + ((size_t)shape_count(&a->in[1].sh) + 1) * sizeof(int);
}

/* ---- GatherElements ---- */

/* w: over the indices, to the element of the data at place 0 of the axis. */
template <class T, class I>
__global__ static void gather_elements_kernel(T *to, const T *from, int64_t n, indices x, int64_t step, pattern outside,
                                              const __grid_constant__ walk w)
{
    GRID_STRIDE(i, n)
    {
        int64_t f, t;
        walk_at(w, (I)i, &f, &t);
        const int64_t k = index_at(x, i);
        to[i] = k >= 0 ? from[f + k * step] : *reinterpret_cast<const T *>(outside.bytes);
    }
}
static void gather_elements(const kernel_args *a)
{
    const shape *data = &a->in[0].sh, *index = &a->in[1].sh;
    const int axis = shape_axis(data, ((const axis_attrs *)a->attr)->axis);
    int64_t from = 1, to = 1, step = 1;
    walk w = walk_begin();
    for (int i = data->rank - 1; i >= 0; i--) {
        step = i == axis ? from : step;
        walk_add(&w, index->dim[i], i == axis ? 0 : from, to);
        from *= data->dim[i];
        to *= index->dim[i];
    }
    if (w.count == 0)
        return;
    BY_UNIT((int)dtype_of(a->in[0].type)->size,
            LAUNCH_INDEXED(gather_elements_kernel, T, w.count, grid_for(a->queue, w.count, 1), CUDA_THREADS, 0, a->queue,
                           (T *)a->out[0].data, (const T *)a->in[0].data, w.count, indices_of(&a->in[1], data->dim[axis]), step,
                           outside_of(a->in[0].type), w););
}

/* Axes of the data, innermost first. */
typedef struct element_axes {
    int rank, axis;
    divider dim[RANK_MAX];
    int64_t most[RANK_MAX], step[RANK_MAX]; /* sizes and steps of the indices */
} element_axes;

template <class T, class I>
__global__ static void gather_elements_grad_kernel(T *dx, const T *dy, int64_t n, indices x, const __grid_constant__ element_axes e)
{
    GRID_STRIDE(i, n)
    {
        I rest = (I)i;
        int64_t own = 0, first = 0;
        bool in = true;
        for (int k = 0; k < e.rank; k++) {
            const int64_t at = (int64_t)split_off(&rest, e.dim[k]);
            if (k == e.axis) {
                own = at;
            } else {
                in = in && at < e.most[k];
                first += at * e.step[k];
            }
        }
        T sum = 0;
        for (int64_t k = 0; in && k < e.most[e.axis]; k++) {
            const int64_t from = first + k * e.step[e.axis];
            if (index_at(x, from) == own)
                sum += dy[from];
        }
        dx[i] = sum;
    }
}
static void gather_elements_grad(const kernel_args *a)
{
    const shape *data = &a->out[0].sh, *index = &a->in[1].sh;
    const int axis = shape_axis(data, ((const gather_attrs *)a->attr)->axis);
    const int64_t n = shape_count(data);
    element_axes e = {.rank = data->rank, .axis = data->rank - 1 - axis};
    for (int k = 0, i = data->rank - 1; i >= 0; k++, i--) {
        e.dim[k] = divider_of(data->dim[i]);
        e.most[k] = index->dim[i];
        e.step[k] = k ? e.step[k - 1] * e.most[k - 1] : 1;
    }
    if (n > 0)
        LAUNCH_INDEXED(gather_elements_grad_kernel, float, n, grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue,
                       (float *)a->out[0].data, (const float *)a->in[0].data, n, indices_of(&a->in[1], data->dim[axis]), e);
}

CUDA_TABLE(gather) = {
    {.op = OP_GATHER, .type = DTYPE_NONE, .name = "gather", .run = gather, .narrow_in = 1, .narrow_out = 1},
    {.op = OP_GATHER_GRAD, .type = DTYPE_F32, .name = "gather grad", .run = gather_grad, .workspace = gather_grad_work,
     .takes = few_indices},
    {.op = OP_GATHER_ROWS, .type = DTYPE_F32, .name = "gather rows", .run = gather_rows, .workspace = gather_rows_work},
    {.op = OP_GATHER_ELEMENTS, .type = DTYPE_NONE, .name = "gather elements", .run = gather_elements},
    {.op = OP_GATHER_ELEMENTS_GRAD, .type = DTYPE_F32, .name = "gather elements grad", .run = gather_elements_grad},
    KERNEL_END};
