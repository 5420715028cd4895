/* move.cu - moves of elements of any type, by their size (src/ops/move.c, gather.c, shape.c). Gathers are in gather.cu.
 *
 * What is one copy with steps (Transpose, Slice, Expand, Tile) is a walk of the widest unit that its sizes and addresses
 * allow. A Transpose whose innermost axis moves goes through tiles of shared memory. Concat and Split copy rows, all parts in
 * one launch. What puts data among something else (Pad with a constant, the gradients of Slice and Pad) writes every element
 * of the result, from the data or not. */
#include "kernels/cuda/index.cuh"
#include "kernels/cuda/last.cuh"

static int size_of(const kernel_tensor *t)
{
    return (int)dtype_of(t->type)->size;
}

static void strides_of(const shape *s, int64_t *stride)
{
    int64_t each = 1;
    for (int i = s->rank - 1; i >= 0; i--) {
        stride[i] = each;
        each *= s->dim[i];
    }
}

/* ---- walks ---- */

/* A thread has `each` elements on their way at a time: small ones alone do not fill the memory's pipes. */
template <class T, class I>
__global__ static void walk_kernel(T *to, const T *from, int64_t n, const __grid_constant__ walk w)
{
    constexpr int each = sizeof(T) < 16 ? 4 : 2;
    const int64_t threads = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += each * threads) {
        int64_t f, t[each];
        T v[each];
        UNROLL
        for (int k = 0; k < each; k++)
            if (i + k * threads < n) {
                walk_at(w, (I)(i + k * threads), &f, &t[k]);
                v[k] = from[f];
            }
        UNROLL
        for (int k = 0; k < each; k++)
            if (i + k * threads < n)
                to[t[k]] = v[k];
    }
}

/* The innermost axis repeats one element: `each` of them make a unit of 16 bytes. */
template <class T, class I>
__global__ static void repeat_kernel(uint4 *to, const T *from, int64_t n, const __grid_constant__ walk w)
{
    constexpr int each = 16 / (int)sizeof(T);
    GRID_STRIDE(i, n)
    {
        union {
            T one[each];
            uint4 all;
        } unit;
        int64_t f, t;
        walk_at(w, (I)i, &f, &t);
        const T v = from[f];
        UNROLL
        for (int k = 0; k < each; k++)
            unit.one[k] = v;
        to[t] = unit.all;
    }
}

/* The target is dense and aligned, its innermost axis whole units of one element each. */
static bool repeats_units(const walk *w, int size, const void *to)
{
    return size < 16 && w->rank > 0 && w->from[0] == 0 && w->to[0] == 1 && w->dim[0].d * size % 16 == 0 && is_vector(to);
}

static void run_walk(cuda_queue *q, walk w, int size, const void *from, void *to)
{
    if (w.count == 0)
        return;
    if (repeats_units(&w, size, to)) {
        const int each = 16 / size;
        w.count /= each;
        w.dim[0] = divider_of(w.dim[0].d / each);
        for (int k = 1; k < w.rank; k++)
            w.to[k] /= each;
        BY_UNIT(size, LAUNCH_INDEXED(repeat_kernel, T, w.count, grid_for(q, w.count, 2), CUDA_THREADS, 0, q, (uint4 *)to,
                                     (const T *)from, w.count, w););
        return;
    }
    const int unit = walk_widen(&w, size, from, to);
    BY_UNIT(unit, LAUNCH_INDEXED(walk_kernel, T, w.count, grid_for(q, w.count, sizeof(T) < 16 ? 4 : 2), CUDA_THREADS, 0, q, (T *)to, (const T *)from,
                                 w.count, w););
}

/* Expand and Tile: coordinates modulo the size of x, whose axes are the last ones of y. */
static void repeat(const kernel_args *a)
{
    const shape *x = &a->in[0].sh, *y = &a->out[0].sh;
    int64_t from[RANK_MAX], to[RANK_MAX];
    walk w = walk_begin();
    strides_of(x, from);
    strides_of(y, to);
    for (int i = y->rank - 1; i >= 0; i--) {
        const int k = i - (y->rank - x->rank);
        const int64_t own = k >= 0 ? x->dim[k] : 1;
        if (own > 0)
            walk_add(&w, own, k >= 0 && own > 1 ? from[k] : 0, to[i]);
        walk_add(&w, own > 0 ? y->dim[i] / own : 0, 0, to[i] * own);
    }
    run_walk(a->queue, w, size_of(&a->in[0]), a->in[0].data, a->out[0].data);
}

/* starts, steps: of every axis. */
static void slice_by(const kernel_args *a, const int64_t *starts, const int64_t *steps)
{
    const shape *x = &a->in[0].sh, *y = &a->out[0].sh;
    const int size = size_of(&a->in[0]);
    int64_t from[RANK_MAX], to[RANK_MAX], first = 0;
    walk w = walk_begin();
    if (shape_count(y) == 0)
        return;
    strides_of(x, from);
    strides_of(y, to);
    for (int i = y->rank - 1; i >= 0; i--) {
        first += starts[i] * from[i];
        walk_add(&w, y->dim[i], from[i] * steps[i], to[i]);
    }
    run_walk(a->queue, w, size, (const char *)a->in[0].data + first * size, a->out[0].data);
}
static void slice(const kernel_args *a)
{
    const slice_attrs *at = (const slice_attrs *)a->attr;
    slice_by(a, at->starts.v, at->steps.v);
}

/* ---- Transpose ---- */

#define TILE      32
#define TILE_ROWS (CUDA_THREADS / TILE) /* at a time */

/* `batch` pairs of planes; from: [y, x] with x innermost, to: [x, y] with y innermost. */
typedef struct planes {
    int64_t x, y, from_y, to_x; /* steps of the axes that are not innermost */
    int64_t tiles_x, tiles_y;
    walk batch;
} planes;

template <class T> __global__ static void transpose_kernel(T *to, const T *from, const __grid_constant__ planes p)
{
    SHARED_DYNAMIC(T, tile);
    const int64_t tiles = p.tiles_x * p.tiles_y * p.batch.count;
    for (int64_t i = blockIdx.x; i < tiles; i += gridDim.x) {
        const int64_t row = i / p.tiles_x, left = (i - row * p.tiles_x) * TILE, b = row / p.tiles_y, top = (row - b * p.tiles_y) * TILE;
        int64_t f, t;
        walk_at(p.batch, b, &f, &t);
        UNROLL
        for (int u = 0; u < TILE; u += TILE_ROWS) {
            const int k = u + (int)threadIdx.y;
            if (left + threadIdx.x < p.x && top + k < p.y)
                tile[k * (TILE + 1) + threadIdx.x] = from[f + (top + k) * p.from_y + left + threadIdx.x];
        }
        __syncthreads();
        UNROLL
        for (int u = 0; u < TILE; u += TILE_ROWS) {
            const int k = u + (int)threadIdx.y;
            if (top + threadIdx.x < p.y && left + k < p.x)
                to[t + (left + k) * p.to_x + top + threadIdx.x] = tile[threadIdx.x * (TILE + 1) + k];
        }
        __syncthreads();
    }
}

/* Whether the walk is one of planes: two axes, each innermost on one side and long enough to fill a good part of a tile. */
static bool planes_of(const walk *w, planes *p)
{
    int inner = -1;
    for (int k = 1; k < w->rank; k++)
        if (w->from[k] == 1)
            inner = k;
    if (inner < 0 || w->to[0] != 1 || w->from[0] == 1 || w->dim[0].d < TILE / 2 || w->dim[inner].d < TILE / 2)
        return false;
    p->x = w->dim[inner].d;
    p->y = w->dim[0].d;
    p->from_y = w->from[0];
    p->to_x = w->to[inner];
    p->tiles_x = (p->x + TILE - 1) / TILE;
    p->tiles_y = (p->y + TILE - 1) / TILE;
    p->batch = walk_begin();
    for (int k = 1; k < w->rank; k++)
        if (k != inner)
            walk_add(&p->batch, w->dim[k].d, w->from[k], w->to[k]);
    return true;
}

static void transpose(const kernel_args *a)
{
    const int64_t *perm = ((const transpose_attrs *)a->attr)->perm.v;
    const shape *y = &a->out[0].sh;
    cuda_queue *q = a->queue;
    int64_t from[RANK_MAX], to[RANK_MAX];
    planes p;
    walk w = walk_begin();
    strides_of(&a->in[0].sh, from);
    strides_of(y, to);
    for (int i = y->rank - 1; i >= 0; i--)
        walk_add(&w, y->dim[i], from[perm[i]], to[i]);
    if (w.count == 0)
        return;
    if (!planes_of(&w, &p)) {
        run_walk(q, w, size_of(&a->in[0]), a->in[0].data, a->out[0].data);
        return;
    }
    BY_UNIT(size_of(&a->in[0]), LAUNCH((transpose_kernel<T>), grid_for(q, p.tiles_x * p.tiles_y * p.batch.count * CUDA_THREADS, 1),
                                       dim3(TILE, TILE_ROWS), TILE * (TILE + 1) * sizeof(T), q, (T *)a->out[0].data,
                                       (const T *)a->in[0].data, p););
}

/* ---- Concat and Split: rows of parts, rows of the whole ---- */

#define PARTS 12 /* of a launch */
typedef struct copy_part {
    const void *from;
    void *to;
    int64_t from_pitch, to_pitch, count; /* in units */
    divider width;
} copy_part;
typedef struct copy_parts {
    copy_part part[PARTS];
} copy_parts;

template <class T, class I> __global__ static void parts_kernel(const __grid_constant__ copy_parts p)
{
    const copy_part &c = p.part[blockIdx.y];
    const T *from = (const T *)c.from;
    T *to = (T *)c.to;
    constexpr int each = sizeof(T) < 16 ? 4 : 2;
    const int64_t threads = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < c.count; i += each * threads) {
        int64_t t[each];
        T v[each];
        UNROLL
        for (int k = 0; k < each; k++)
            if (i + k * threads < c.count) {
                I row = (I)(i + k * threads);
                const int64_t column = (int64_t)split_off(&row, c.width);
                t[k] = (int64_t)row * c.to_pitch + column;
                v[k] = from[(int64_t)row * c.from_pitch + column];
            }
        UNROLL
        for (int k = 0; k < each; k++)
            if (i + k * threads < c.count)
                to[t[k]] = v[k];
    }
}

/* Parts whose pitches and widths are in bytes. */
static void run_parts(cuda_queue *q, copy_parts *p, int n, int64_t rows)
{
    uint64_t bits = 0;
    int64_t most = 0;
    for (int k = 0; k < n; k++)
        bits |= (uintptr_t)p->part[k].from | (uintptr_t)p->part[k].to | (uint64_t)p->part[k].from_pitch |
                (uint64_t)p->part[k].to_pitch | (uint64_t)p->part[k].count;
    const int unit = unit_of(bits);
    for (int k = 0; k < n; k++) {
        copy_part *c = &p->part[k];
        c->width = divider_of(c->count / unit);
        c->from_pitch /= unit;
        c->to_pitch /= unit;
        c->count = c->count / unit * rows;
        most = c->count > most ? c->count : most;
    }
    if (n == 0 || most == 0)
        return;
    dim3 grid = grid_for(q, most, unit < 16 ? 4 : 2);
    grid.y = (unsigned)n;
    BY_UNIT(unit, LAUNCH_INDEXED(parts_kernel, T, most, grid, CUDA_THREADS, 0, q, *p););
}

/* sizes: of the parts on the axis, for a split; NULL: a concatenation. Parts of a split may have no data: nobody wants them. */
static void copy_between(const kernel_args *a, const kernel_tensor *whole, const kernel_tensor *part, int parts, int axis,
                         const int64_t *sizes)
{
    const bool split = sizes != nullptr;
    const int64_t size = size_of(whole);
    int64_t rows = 1, inner = size, before = 0;
    copy_parts p = {};
    int n = 0;
    for (int i = 0; i < whole->sh.rank; i++)
        (i < axis ? rows : inner) *= i == axis ? 1 : whole->sh.dim[i];
    const int64_t pitch = whole->sh.dim[axis] * inner;
    for (int k = 0; k < parts; k++) {
        const int64_t width = (split ? sizes[k] : part[k].sh.dim[axis]) * inner;
        char *in_whole = (char *)whole->data + before;
        before += width;
        if (width > 0 && rows > 0 && part[k].data) {
            copy_part *c = &p.part[n++];
            *c = (copy_part){.from = split ? in_whole : (char *)part[k].data, .to = split ? (char *)part[k].data : in_whole,
                             .from_pitch = split ? pitch : width, .to_pitch = split ? width : pitch, .count = width};
        }
        if (n == PARTS || k == parts - 1) {
            run_parts(a->queue, &p, n, rows);
            n = 0;
        }
    }
}

static void concat(const kernel_args *a)
{
    const int axis = shape_axis(&a->out[0].sh, ((const axis_attrs *)a->attr)->axis);
    copy_between(a, &a->out[0], a->in, a->n_in, axis, nullptr);
}
static void split(const kernel_args *a)
{
    const split_attrs *at = (const split_attrs *)a->attr;
    copy_between(a, &a->in[0], a->out, a->n_out, shape_axis(&a->in[0].sh, at->axis), at->split.v);
}

/* ---- images in float16 or bfloat16, channels last (last.cuh) ---- */

static void concat_last(const kernel_args *a)
{
    last_args l;
    last_args_of(a, &l);
    const int axis = last_axis(shape_axis(&a->out[0].sh, ((const axis_attrs *)a->attr)->axis), a->out[0].sh.rank);
    copy_between(&l.a, &l.out[0], l.in, a->n_in, axis, nullptr);
}
static void split_last(const kernel_args *a)
{
    const split_attrs *at = (const split_attrs *)a->attr;
    last_args l;
    last_args_of(a, &l);
    copy_between(&l.a, &l.in[0], l.out, a->n_out, last_axis(shape_axis(&a->in[0].sh, at->axis), a->in[0].sh.rank), at->split.v);
}
static void slice_last(const kernel_args *a)
{
    const slice_attrs *at = (const slice_attrs *)a->attr;
    int64_t starts[RANK_MAX], steps[RANK_MAX];
    last_args l;
    last_args_of(a, &l);
    last_list(starts, at->starts.v, a->in[0].sh.rank, 1);
    last_list(steps, at->steps.v, a->in[0].sh.rank, 1);
    slice_by(&l.a, starts, steps);
}
static bool takes_few(const kernel_args *a)
{
    return a->n_in <= LAST_OPERANDS && a->n_out <= LAST_OPERANDS;
}

#define LAST_ROWS(E)                                                                                                   \
    {.op = OP_CONCAT, .type = DTYPE_##E, .name = "concat channels last " #E, .run = concat_last, .takes = takes_few,   \
     .blocked_in = UINT32_MAX, .blocked_out = 1},                                                                      \
    {.op = OP_SPLIT, .type = DTYPE_##E, .name = "split channels last " #E, .run = split_last, .takes = takes_few,      \
     .blocked_in = 1, .blocked_out = UINT32_MAX},                                                                      \
    {.op = OP_SLICE, .type = DTYPE_##E, .name = "slice channels last " #E, .run = slice_last, .blocked_in = 1, .blocked_out = 1},

CUDA_TABLE(move) = {
    {.op = OP_TRANSPOSE, .type = DTYPE_NONE, .name = "transpose", .run = transpose, .narrow_in = 1, .narrow_out = 1},
    {.op = OP_CONCAT, .type = DTYPE_NONE, .name = "concat", .run = concat, .narrow_in = UINT32_MAX, .narrow_out = 1},
    {.op = OP_SPLIT, .type = DTYPE_NONE, .name = "split", .run = split, .narrow_in = 1, .narrow_out = UINT32_MAX},
    {.op = OP_SLICE, .type = DTYPE_NONE, .name = "slice", .run = slice, .narrow_in = 1, .narrow_out = 1},
    {.op = OP_EXPAND, .type = DTYPE_NONE, .name = "expand", .run = repeat, .narrow_in = 1, .narrow_out = 1},
    {.op = OP_TILE, .type = DTYPE_NONE, .name = "tile", .run = repeat, .narrow_in = 1, .narrow_out = 1},
    LAST_ROWS(F16) LAST_ROWS(BF16) KERNEL_END};
