/* pad.cu - data among something else: Pad, and the gradients of Slice, Pad and Tile (src/ops/move.c).
 *
 * A thread an element of the result. Pad with a constant, its gradient, and SliceGrad are one kernel: the element comes from
 * the data where its place lies in them. The other gradients add what came from one element in the order of dy. */
#include "kernels/cuda/index.cuh"
#include "kernels/cuda/last.cuh"

static void strides_of(const shape *s, int64_t *stride)
{
    int64_t each = 1;
    for (int i = s->rank - 1; i >= 0; i--) {
        stride[i] = each;
        each *= s->dim[i];
    }
}

/* ---- data at regular places among a constant ---- */

/* Axes of the result, innermost first: element c is element (c - start) / step of `most` (back: (start - c) / step). */
typedef struct places {
    int rank;
    divider dim[RANK_MAX], step[RANK_MAX];
    int64_t start[RANK_MAX], most[RANK_MAX], from[RANK_MAX];
    bool back[RANK_MAX];
} places;

static bool is_whole(const places *p, int k)
{
    return p->start[k] == 0 && p->step[k].d == 1 && !p->back[k] && p->most[k] == p->dim[k].d;
}
/* The next axis outwards; axes that are taken whole become one with a whole one inside. */
static void places_add(places *p, int64_t dim, int64_t start, int64_t step, int64_t most, int64_t from)
{
    const int k = p->rank;
    p->dim[k] = divider_of(dim);
    p->step[k] = divider_of(step < 0 ? -step : step);
    p->back[k] = step < 0;
    p->start[k] = start;
    p->most[k] = most;
    p->from[k] = from;
    if (k > 0 && is_whole(p, k) && is_whole(p, k - 1)) {
        p->dim[k - 1] = divider_of(p->dim[k - 1].d * dim);
        p->most[k - 1] *= dim;
        return;
    }
    p->rank++;
}

template <class T, class I>
__global__ static void places_kernel(T *to, const T *from, int64_t n, T outside, const __grid_constant__ places p)
{
    GRID_STRIDE(i, n)
    {
        I rest = (I)i;
        int64_t f = 0;
        bool in = true;
        for (int k = 0; k < p.rank; k++) {
            const int64_t c = k + 1 < p.rank ? (int64_t)split_off(&rest, p.dim[k]) : (int64_t)rest;
            int64_t at = p.back[k] ? p.start[k] - c : c - p.start[k];
            in = in && at >= 0;
            if (p.step[k].d != 1 && at >= 0) {
                I q = (I)at;
                in = split_off(&q, p.step[k]) == 0 && in;
                at = (int64_t)q;
            }
            in = in && at < p.most[k];
            f += at * p.from[k];
        }
        to[i] = in ? from[f] : outside;
    }
}

static void run_places(const kernel_args *a, places p, double constant)
{
    const dtype type = a->out[0].type;
    const int64_t size = (int64_t)dtype_of(type)->size;
    int64_t n = shape_count(&a->out[0].sh);
    alignas(16) unsigned char outside[16];
    int unit = (int)size;
    if (n == 0)
        return;
    for (int64_t i = 0; i < 16 / size; i++)
        dtype_store(type, outside, i, constant);
    if (p.rank > 0 && is_whole(&p, 0)) { /* steps of the data are multiples of its innermost axis */
        unit = unit_of((uintptr_t)a->in[0].data | (uintptr_t)a->out[0].data | (uint64_t)(p.dim[0].d * size));
        n = n / p.dim[0].d * (p.dim[0].d * size / unit);
        p.most[0] = p.dim[0].d * size / unit;
        p.dim[0] = divider_of(p.most[0]);
        for (int k = 1; k < p.rank; k++)
            p.from[k] = p.from[k] * size / unit;
    }
    BY_UNIT(unit, T constants; memcpy(&constants, outside, sizeof constants);
            LAUNCH_INDEXED(places_kernel, T, n, grid_for(a->queue, n, 2), CUDA_THREADS, 0, a->queue, (T *)a->out[0].data,
                           (const T *)a->in[0].data, n, constants, p););
}

/* starts, steps: of every axis. */
static void slice_grad_by(const kernel_args *a, const int64_t *starts, const int64_t *steps)
{
    const shape *x = &a->out[0].sh, *y = &a->in[0].sh;
    int64_t stride[RANK_MAX];
    places p = {.rank = 0};
    strides_of(y, stride);
    for (int i = x->rank - 1; i >= 0; i--)
        places_add(&p, x->dim[i], starts[i], steps[i], y->dim[i], stride[i]);
    run_places(a, p, 0);
}
static void slice_grad(const kernel_args *a)
{
    const slice_attrs *at = (const slice_attrs *)a->attr;
    slice_grad_by(a, at->starts.v, at->steps.v);
}
static void slice_grad_last(const kernel_args *a)
{
    const slice_attrs *at = (const slice_attrs *)a->attr;
    int64_t starts[RANK_MAX], steps[RANK_MAX];
    last_args l;
    last_args_of(a, &l);
    last_list(starts, at->starts.v, a->in[0].sh.rank, 1);
    last_list(steps, at->steps.v, a->in[0].sh.rank, 1);
    slice_grad_by(&l.a, starts, steps);
}

/* in -> out of a padding by at->pads, or (undo) back, of constants. */
static void pad_constant(const kernel_args *a, const pad_attrs *at, bool undo)
{
    const shape *from = &a->in[0].sh, *to = &a->out[0].sh;
    int64_t stride[RANK_MAX];
    places p = {.rank = 0};
    strides_of(from, stride);
    for (int i = to->rank - 1; i >= 0; i--)
        places_add(&p, to->dim[i], undo ? -at->pads.v[i] : at->pads.v[i], 1, from->dim[i], stride[i]);
    run_places(a, p, undo ? 0 : at->constant_value);
}

/* ---- Pad with what is there ---- */

typedef struct pad_axes { /* innermost first; in: of the data, out: with the padding */
    int rank, mode;
    divider dim[RANK_MAX]; /* of the result */
    int64_t in[RANK_MAX], out[RANK_MAX], before[RANK_MAX], step[RANK_MAX]; /* step: of the operand */
} pad_axes;
static pad_axes pad_axes_of(const pad_attrs *at, const shape *data, const shape *padded, bool grad)
{
    pad_axes p = {.rank = data->rank, .mode = (int)at->mode};
    int64_t stride[RANK_MAX];
    strides_of(grad ? padded : data, stride);
    for (int k = 0, i = data->rank - 1; i >= 0; k++, i--) {
        p.dim[k] = divider_of(grad ? data->dim[i] : padded->dim[i]);
        p.in[k] = data->dim[i];
        p.out[k] = padded->dim[i];
        p.before[k] = at->pads.v[i];
        p.step[k] = stride[i];
    }
    return p;
}

/* Which of n elements stands at place j, counted from the first element of the data. */
__device__ static inline int64_t pad_source(int mode, int64_t j, int64_t n)
{
    if (j >= 0 && j < n)
        return j;
    if (mode == PAD_EDGE)
        return j < 0 ? 0 : n - 1;
    const int64_t period = mode == PAD_WRAP ? n : 2 * (n - 1);
    if (period == 0)
        return 0;
    int64_t m = j % period;
    m += m < 0 ? period : 0;
    return mode == PAD_REFLECT && m >= n ? period - m : m;
}

template <class T, class I>
__global__ static void pad_kernel(T *to, const T *from, int64_t n, const __grid_constant__ pad_axes p)
{
    GRID_STRIDE(i, n)
    {
        I rest = (I)i;
        int64_t f = 0;
        for (int k = 0; k < p.rank; k++)
            f += pad_source(p.mode, (int64_t)split_off(&rest, p.dim[k]) - p.before[k], p.in[k]) * p.step[k];
        to[i] = from[f];
    }
}
static void pad_by(const kernel_args *a, const pad_attrs *at)
{
    const int64_t n = shape_count(&a->out[0].sh);
    if (at->mode == PAD_CONSTANT) {
        pad_constant(a, at, false);
        return;
    }
    if (n == 0)
        return;
    const pad_axes p = pad_axes_of(at, &a->in[0].sh, &a->out[0].sh, false);
    BY_UNIT((int)dtype_of(a->in[0].type)->size,
            LAUNCH_INDEXED(pad_kernel, T, n, grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, (T *)a->out[0].data,
                           (const T *)a->in[0].data, n, p););
}
static void pad(const kernel_args *a)
{
    pad_by(a, (const pad_attrs *)a->attr);
}

/* The places that show one element, counted as in pad_source, in their order: first, then on by the two steps in turn. */
typedef struct copies {
    int64_t first, last, step[2];
} copies;
__device__ static inline int64_t modulo(int64_t a, int64_t n)
{
    const int64_t m = a % n;
    return m < 0 ? m + n : m;
}
__device__ static inline copies copies_of(int mode, int64_t c, int64_t n, int64_t lowest, int64_t highest)
{
    copies s = {lowest, highest, {1, 1}};
    if (mode == PAD_EDGE) {
        s.first = c > 0 && c > lowest ? c : lowest;
        s.last = c < n - 1 && c < highest ? c : highest;
    } else if (n > 1) {
        const int64_t period = mode == PAD_WRAP ? n : 2 * (n - 1);
        const int64_t one = lowest + modulo(c - lowest, period), other = mode == PAD_WRAP ? one : lowest + modulo(-c - lowest, period);
        const int64_t apart = one < other ? other - one : one - other;
        s.first = one < other ? one : other;
        s.step[0] = apart ? apart : period;
        s.step[1] = period - (apart ? apart : 0);
    }
    return s;
}

template <class T, class I>
__global__ static void pad_grad_kernel(T *dx, const T *dy, int64_t n, const __grid_constant__ pad_axes p)
{
    GRID_STRIDE(i, n)
    {
        copies s[RANK_MAX];
        int64_t at[RANK_MAX], from = 0;
        int turn[RANK_MAX], k = 0;
        I rest = (I)i;
        T sum = 0;
        for (; k < p.rank; k++) {
            const int64_t c = (int64_t)split_off(&rest, p.dim[k]);
            s[k] = copies_of(p.mode, c, p.in[k], -p.before[k], p.out[k] - 1 - p.before[k]);
            at[k] = s[k].first;
            turn[k] = 0;
            from += (at[k] + p.before[k]) * p.step[k];
            if (s[k].first > s[k].last)
                break;
        }
        for (bool some = k == p.rank; some;) { /* the next combination of places, the innermost axis first */
            sum += dy[from];
            for (k = 0; k < p.rank; k++) {
                const int64_t was = at[k];
                at[k] += s[k].step[turn[k]];
                turn[k] ^= 1;
                if (at[k] > s[k].last) {
                    at[k] = s[k].first;
                    turn[k] = 0;
                }
                from += (at[k] - was) * p.step[k];
                if (at[k] > was)
                    break;
            }
            some = k < p.rank;
        }
        dx[i] = sum;
    }
}
static void pad_grad(const kernel_args *a)
{
    const pad_attrs *at = (const pad_attrs *)a->attr;
    const int64_t n = shape_count(&a->out[0].sh);
    if (at->mode == PAD_CONSTANT) {
        pad_constant(a, at, true);
        return;
    }
    if (n > 0)
        LAUNCH_INDEXED(pad_grad_kernel, float, n, grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, (float *)a->out[0].data,
                       (const float *)a->in[0].data, n, pad_axes_of(at, &a->out[0].sh, &a->in[0].sh, true));
}

/* ---- images in float16 or bfloat16, channels last (last.cuh) ---- */

/* The arguments and attributes in the order in which images lie. */
static void last_pad_of(const kernel_args *a, last_args *l, pad_attrs *at, int64_t *pads)
{
    last_args_of(a, l);
    *at = *(const pad_attrs *)a->attr;
    last_list(pads, at->pads.v, a->in[0].sh.rank, 2);
    at->pads.v = pads;
}
static void pad_last(const kernel_args *a)
{
    int64_t pads[2 * RANK_MAX];
    pad_attrs at;
    last_args l;
    last_pad_of(a, &l, &at, pads);
    pad_by(&l.a, &at);
}
static void pad_grad_last(const kernel_args *a)
{
    int64_t pads[2 * RANK_MAX];
    pad_attrs at;
    last_args l;
    last_pad_of(a, &l, &at, pads);
    pad_constant(&l.a, &at, true);
}
static bool takes_constant(const kernel_args *a)
{
    return ((const pad_attrs *)a->attr)->mode == PAD_CONSTANT;
}

#define LAST_ROWS(E)                                                                                                   \
    {.op = OP_SLICE_GRAD, .type = DTYPE_##E, .name = "slice grad channels last " #E, .run = slice_grad_last,           \
     .blocked_in = 1, .blocked_out = 1},                                                                               \
    {.op = OP_PAD, .type = DTYPE_##E, .name = "pad channels last " #E, .run = pad_last, .blocked_in = 1, .blocked_out = 1}, \
    {.op = OP_PAD_GRAD, .type = DTYPE_##E, .name = "pad grad channels last " #E, .run = pad_grad_last,                 \
     .takes = takes_constant, .blocked_in = 1, .blocked_out = 1},

/* ---- TileGrad ---- */

/* x: over dx, to its first copy in dy; copies: from one to the next, the outermost axis last. */
template <class T, class I>
__global__ static void tile_grad_kernel(T *dx, const T *dy, int64_t n, const __grid_constant__ walk x, const __grid_constant__ walk copy)
{
    GRID_STRIDE(i, n)
    {
        int64_t first, more, t;
        T sum = 0;
        walk_at(x, (I)i, &first, &t);
        for (int64_t k = 0; k < copy.count; k++) {
            walk_at(copy, (I)k, &more, &t);
            sum += dy[first + more];
        }
        dx[i] = sum;
    }
}
/* Few elements with many copies: a warp each. */
template <class T, class I>
__global__ static void tile_grad_warp_kernel(T *dx, const T *dy, int64_t n, const __grid_constant__ walk x, const __grid_constant__ walk copy)
{
    const int lane = threadIdx.x & 31;
    for (int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / 32; i < n; i += (int64_t)gridDim.x * (blockDim.x / 32)) {
        int64_t first, more, t;
        T sum = 0;
        walk_at(x, (I)i, &first, &t);
        for (int64_t k = lane; k < copy.count; k += 32) {
            walk_at(copy, (I)k, &more, &t);
            sum += dy[first + more];
        }
        sum = warp_sum(sum);
        if (lane == 0)
            dx[i] = sum;
    }
}
static void tile_grad(const kernel_args *a)
{
    const shape *x = &a->out[0].sh, *y = &a->in[0].sh;
    const int64_t n = shape_count(x), all = shape_count(y) > n ? shape_count(y) : n;
    int64_t from[RANK_MAX], to = 1;
    walk first = walk_begin(), copy = walk_begin();
    strides_of(y, from);
    if (n == 0)
        return;
    for (int i = x->rank - 1; i >= 0; i--) {
        walk_add(&first, x->dim[i], from[i], to);
        walk_add(&copy, y->dim[i] / x->dim[i], from[i] * x->dim[i], 0);
        to *= x->dim[i];
    }
    float *dx = (float *)a->out[0].data;
    const float *dy = (const float *)a->in[0].data;
    if (copy.count >= 64 && n <= 4096)
        LAUNCH_INDEXED(tile_grad_warp_kernel, float, all, grid_for(a->queue, n * 32, 1), CUDA_THREADS, 0, a->queue, dx, dy, n, first, copy);
    else
        LAUNCH_INDEXED(tile_grad_kernel, float, all, grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, dx, dy, n, first, copy);
}

CUDA_TABLE(pad) = {
    {.op = OP_SLICE_GRAD, .type = DTYPE_NONE, .name = "slice grad", .run = slice_grad, .narrow_in = 1, .narrow_out = 1},
    {.op = OP_PAD, .type = DTYPE_NONE, .name = "pad", .run = pad},
    {.op = OP_PAD_GRAD, .type = DTYPE_F32, .name = "pad grad", .run = pad_grad},
    {.op = OP_TILE_GRAD, .type = DTYPE_F32, .name = "tile grad", .run = tile_grad},
    LAST_ROWS(F16) LAST_ROWS(BF16) KERNEL_END};
