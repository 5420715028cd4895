/* move_simd.c - fast moves of any element type, by element size.
 *
 * Transpose, Concat, Split, Slice, Expand, Tile and the inside of Pad are one thing: a copy between two strided views of
 * the same dimensions. A walk holds the dimensions with a stride on either side; neighbours that run on in memory are
 * merged, so that most moves end as few long memcpy calls. What is left with unit strides on different axes is a
 * transposition and goes by tiles. Nothing is summed, so threads may share the work in any way. */
#include "kernels/cpu/blocked.h"
#include "kernels/cpu/move.h"
#include "kernels/cpu/parallel.h"

#include <string.h>

#define WALK_MAX (2 * RANK_MAX)

typedef struct walk {
    char *to;
    const char *from;
    size_t size; /* of an element: 1, 2, 4 or 8 */
    int rank;
    int64_t dim[WALK_MAX], put[WALK_MAX], get[WALK_MAX]; /* strides in elements */
} walk;

static void walk_add(walk *w, int64_t dim, int64_t put, int64_t get)
{
    w->dim[w->rank] = dim;
    w->put[w->rank] = put;
    w->get[w->rank++] = get;
}

/* Drops dimensions of 1 and merges neighbours that run on in memory on both sides. */
static void walk_merge(walk *w)
{
    int n = 0;
    for (int i = 0; i < w->rank; i++) {
        if (w->dim[i] == 1)
            continue;
        if (n > 0 && w->put[n - 1] == w->dim[i] * w->put[i] && w->get[n - 1] == w->dim[i] * w->get[i]) {
            w->dim[n - 1] *= w->dim[i];
            w->put[n - 1] = w->put[i];
            w->get[n - 1] = w->get[i];
            continue;
        }
        w->dim[n] = w->dim[i];
        w->put[n] = w->put[i];
        w->get[n++] = w->get[i];
    }
    w->rank = n;
}

static void swap_last(walk *w, int i)
{
    int j = w->rank - 1;
    int64_t d = w->dim[i], p = w->put[i], g = w->get[i];
    w->dim[i] = w->dim[j];
    w->put[i] = w->put[j];
    w->get[i] = w->get[j];
    w->dim[j] = d;
    w->put[j] = p;
    w->get[j] = g;
}

/* A line of n elements, and a [rows, n] tile whose neighbours in `to` lie along n, in `from` along rows. */
#define LINE_AND_TILE(type)                                                                                       \
    static void line_##type(char *to, const char *from, int64_t n, int64_t put, int64_t get)                      \
    {                                                                                                             \
        type *t = (type *)(void *)to;                                                                             \
        const type *f = (const type *)(const void *)from;                                                         \
        const type first = *f;                                                                                    \
        if (put == 1 && get == 0)                                                                                 \
            for (int64_t i = 0; i < n; i++)                                                                       \
                t[i] = first;                                                                                     \
        else                                                                                                      \
            for (int64_t i = 0; i < n; i++)                                                                       \
                t[i * put] = f[i * get];                                                                          \
    }                                                                                                             \
    static void tile_##type(char *to, const char *from, int64_t rows, int64_t n, int64_t put, int64_t get)        \
    {                                                                                                             \
        type *t = (type *)(void *)to;                                                                             \
        const type *f = (const type *)(const void *)from;                                                         \
        if (rows == TILE && n == TILE) /* the compiler unrolls it */                                              \
            for (int64_t r = 0; r < TILE; r++)                                                                    \
                for (int64_t i = 0; i < TILE; i++)                                                                \
                    t[r * put + i] = f[i * get + r];                                                              \
        else                                                                                                      \
            for (int64_t r = 0; r < rows; r++)                                                                    \
                for (int64_t i = 0; i < n; i++)                                                                   \
                    t[r * put + i] = f[i * get + r];                                                              \
    }
#define TILE 16
LINE_AND_TILE(uint8_t)
LINE_AND_TILE(uint16_t)
LINE_AND_TILE(uint32_t)
LINE_AND_TILE(uint64_t)

/* A full tile of 4-byte elements is transposed in registers: for every power of two h, rows i and i + h
 * swap the halves that lie on the wrong side (Eklundh 1972, "A fast computer method for matrix transposing"). With
 * two-operand permutations this is 2 to 5 times as fast on powers of two; narrower vectors gain nothing. */
#if defined(__AVX512F__) && !defined(__clang__) /* which has no shuffle whose pattern is a variable */
typedef uint32_t square_row __attribute__((vector_size(TILE * 4), aligned(4), may_alias));

static void square_pass(square_row *v, int h)
{
    square_row keep_low = {0}, keep_high = {0};
    for (int l = 0; l < TILE; l++) {
        keep_low[l] = (uint32_t)(l & h ? TILE + l - h : l);
        keep_high[l] = (uint32_t)(l & h ? TILE + l : l + h);
    }
    _Pragma("GCC unroll 16")
    for (int i = 0; i < TILE; i++)
        if (!(i & h)) {
            square_row a = v[i], b = v[i + h];
            v[i] = __builtin_shuffle(a, b, keep_low);
            v[i + h] = __builtin_shuffle(a, b, keep_high);
        }
}

static void tile_full(char *to, const char *from, int64_t rows, int64_t n, int64_t put, int64_t get)
{
    uint32_t *t = (uint32_t *)(void *)to;
    const uint32_t *f = (const uint32_t *)(const void *)from;
    square_row v[TILE];
    if (rows < TILE || n < TILE) {
        tile_uint32_t(to, from, rows, n, put, get);
        return;
    }
    _Pragma("GCC unroll 16")
    for (int i = 0; i < TILE; i++)
        v[i] = *(const square_row *)(const void *)(f + i * get);
    square_pass(v, 1);
    square_pass(v, 2);
    square_pass(v, 4);
    square_pass(v, 8);
    _Pragma("GCC unroll 16")
    for (int i = 0; i < TILE; i++)
        *(square_row *)(void *)(t + i * put) = v[i];
}
#define TILE_4 tile_full
#else
#define TILE_4 tile_uint32_t
#endif

typedef void line_fn(char *to, const char *from, int64_t n, int64_t put, int64_t get);
typedef void tile_fn(char *to, const char *from, int64_t rows, int64_t n, int64_t put, int64_t get);
typedef struct element_fns {
    line_fn *line;
    tile_fn *tile;
} element_fns;

static element_fns element_of(size_t size)
{
    static const element_fns table[9] = {[1] = {line_uint8_t, tile_uint8_t}, [2] = {line_uint16_t, tile_uint16_t},
                                         [4] = {line_uint32_t, TILE_4}, [8] = {line_uint64_t, tile_uint64_t}};
    return table[size];
}

/* A place in the dimensions before `inner`: coordinates and offsets in elements. */
typedef struct place {
    int64_t at[WALK_MAX], put, get;
} place;

static place walk_place(const walk *w, int inner, int64_t k)
{
    place p = {.put = 0};
    for (int i = inner - 1; i >= 0; i--) {
        p.at[i] = k % w->dim[i];
        k /= w->dim[i];
        p.put += p.at[i] * w->put[i];
        p.get += p.at[i] * w->get[i];
    }
    return p;
}

static void walk_next(const walk *w, int inner, place *p)
{
    for (int i = inner - 1; i >= 0; i--) {
        p->put += w->put[i];
        p->get += w->get[i];
        if (++p->at[i] < w->dim[i])
            return;
        p->put -= w->dim[i] * w->put[i];
        p->get -= w->dim[i] * w->get[i];
        p->at[i] = 0;
    }
}

static int64_t walk_outer(const walk *w, int inner)
{
    int64_t n = 1;
    for (int i = 0; i < inner; i++)
        n *= w->dim[i];
    return n;
}

/* Lines of the last dimension: pieces of a long one, or several short ones, are one unit of work. */
static void run_lines(const walk *w, int threads)
{
    const int last = w->rank - 1;
    const int64_t n = w->dim[last], put = w->put[last], get = w->get[last], lines = walk_outer(w, last);
    const int64_t pieces = block_count(n, PARALLEL_ELEMENTS), each = pieces > 1 ? 1 : block_count(BLOCK_ELEMENTS, n);
    const int64_t units = pieces > 1 ? lines * pieces : block_count(lines, each);
    line_fn *line = element_of(w->size).line;
    PARALLEL_FOR(u, units, threads, lines * n)
    {
        int64_t from = u % pieces * PARALLEL_ELEMENTS, count = block_end(u % pieces, n, PARALLEL_ELEMENTS) - from;
        int64_t first = u / pieces * each, end = block_end(u / pieces, lines, each);
        place p = walk_place(w, last, first);
        for (int64_t k = first; k < end; k++, walk_next(w, last, &p)) {
            char *t = w->to + (p.put + from * put) * (int64_t)w->size;
            const char *f = w->from + (p.get + from * get) * (int64_t)w->size;
            if (put == 1 && get == 1)
                memcpy(t, f, (size_t)count * w->size);
            else
                line(t, f, count, put, get);
        }
    }
}

/* The last dimension runs in `to`, the one before it in `from`. A unit of work is a strip of rows. */
static void run_tiles(const walk *w, int threads)
{
    const int inner = w->rank - 2;
    const int64_t rows = w->dim[inner], n = w->dim[inner + 1], put = w->put[inner], get = w->get[inner + 1];
    const int64_t strip = n < BLOCK_ELEMENTS / TILE ? BLOCK_ELEMENTS / n / TILE * TILE : TILE;
    const int64_t strips = block_count(rows, strip), units = walk_outer(w, inner) * strips;
    tile_fn *tile = element_of(w->size).tile;
    PARALLEL_FOR(u, units, threads, walk_outer(w, inner) * rows * n)
    {
        const place p = walk_place(w, inner, u / strips);
        const int64_t end = block_end(u % strips, rows, strip);
        for (int64_t r = u % strips * strip; r < end; r += TILE)
            for (int64_t i = 0; i < n; i += TILE)
                tile(w->to + (p.put + r * put + i) * (int64_t)w->size,
                     w->from + (p.get + r + i * get) * (int64_t)w->size,
                     end - r < TILE ? end - r : TILE, n - i < TILE ? n - i : TILE, put, get);
    }
}

static void walk_run(walk w, int threads)
{
    for (int i = 0; i < w.rank; i++)
        if (w.dim[i] == 0)
            return;
    walk_merge(&w);
    if (w.rank == 0)
        walk_add(&w, 1, 1, 1);
    int put = -1, get = -1;
    for (int i = 0; i < w.rank; i++) {
        put = w.put[i] == 1 ? i : put;
        get = w.get[i] == 1 ? i : get;
    }
    if (put >= 0 && get >= 0 && put != get) { /* the order of the walk does not matter: those two go last */
        swap_last(&w, put);
        get = get == w.rank - 1 ? put : get;
        w.rank--;
        swap_last(&w, get);
        w.rank++;
        run_tiles(&w, threads);
        return;
    }
    run_lines(&w, threads);
}

static walk walk_between(const kernel_tensor *to, const kernel_tensor *from)
{
    return (walk){.to = to->data, .from = from->data, .size = dtype_of(to->type)->size};
}

/* ---- operators ---- */

static void transpose(const kernel_args *a)
{
    const int64_t *perm = ((const transpose_attrs *)a->attr)->perm.v;
    int64_t put[RANK_MAX], get[RANK_MAX];
    walk w = walk_between(&a->out[0], &a->in[0]);
    move_strides(&a->out[0].sh, put);
    move_strides(&a->in[0].sh, get);
    for (int i = 0; i < a->out[0].sh.rank; i++)
        walk_add(&w, a->out[0].sh.dim[i], put[i], get[perm[i]]);
    walk_run(w, a->threads);
}

/* `part` is a piece of `whole` that starts at `before` on the axis. */
static void part_walk(const kernel_tensor *whole, const kernel_tensor *part, int axis, int64_t before, bool split,
                      int threads)
{
    int64_t big[RANK_MAX], small[RANK_MAX];
    walk w = split ? walk_between(part, whole) : walk_between(whole, part);
    move_strides(&whole->sh, big);
    move_strides(&part->sh, small);
    int64_t skip = before * big[axis] * (int64_t)w.size;
    for (int i = 0; i < part->sh.rank; i++)
        walk_add(&w, part->sh.dim[i], split ? small[i] : big[i], split ? big[i] : small[i]);
    if (split)
        w.from += skip;
    else
        w.to += skip;
    walk_run(w, threads);
}

static void concat(const kernel_args *a)
{
    int axis = shape_axis(&a->out[0].sh, ((const axis_attrs *)a->attr)->axis);
    for (int64_t k = 0, before = 0; k < a->n_in; before += a->in[k].sh.dim[axis], k++)
        part_walk(&a->out[0], &a->in[k], axis, before, false, a->threads);
}

static void split(const kernel_args *a)
{
    const split_attrs *at = a->attr;
    int axis = shape_axis(&a->in[0].sh, at->axis);
    for (int64_t k = 0, before = 0; k < a->n_out; before += at->split.v[k], k++)
        if (a->out[k].data)
            part_walk(&a->in[0], &a->out[k], axis, before, true, a->threads);
}

static void slice_walk(const kernel_args *a, const kernel_tensor *whole, const kernel_tensor *part, bool grad)
{
    const slice_attrs *at = a->attr;
    int64_t big[RANK_MAX], small[RANK_MAX], skip = 0;
    walk w = grad ? walk_between(whole, part) : walk_between(part, whole);
    move_strides(&whole->sh, big);
    move_strides(&part->sh, small);
    for (int i = 0; i < part->sh.rank; i++) {
        int64_t step = at->steps.v[i] * big[i];
        skip += at->starts.v[i] * big[i] * (int64_t)w.size;
        walk_add(&w, part->sh.dim[i], grad ? step : small[i], grad ? small[i] : step);
    }
    if (shape_count(&part->sh) == 0)
        return;
    if (grad)
        w.to += skip;
    else
        w.from += skip;
    walk_run(w, a->threads);
}

static void slice(const kernel_args *a)
{
    slice_walk(a, &a->in[0], &a->out[0], false);
}

static void clear(const kernel_tensor *t)
{
    memset(t->data, 0, (size_t)shape_count(&t->sh) * dtype_of(t->type)->size);
}

static void slice_grad(const kernel_args *a)
{
    clear(&a->out[0]);
    slice_walk(a, &a->out[0], &a->in[0], true);
}

static void expand(const kernel_args *a)
{
    const shape *x = &a->in[0].sh, *y = &a->out[0].sh;
    int64_t put[RANK_MAX], get[RANK_MAX];
    walk w = walk_between(&a->out[0], &a->in[0]);
    move_strides(y, put);
    move_strides(x, get);
    for (int i = 0; i < y->rank; i++) {
        int k = i - (y->rank - x->rank);
        walk_add(&w, y->dim[i], put[i], k < 0 || x->dim[k] != y->dim[i] ? 0 : get[k]);
    }
    walk_run(w, a->threads);
}

/* Every axis is two: the copies, which do not move in x, and its elements. */
static void tile(const kernel_args *a)
{
    const shape *x = &a->in[0].sh, *y = &a->out[0].sh;
    int64_t put[RANK_MAX], get[RANK_MAX];
    walk w = walk_between(&a->out[0], &a->in[0]);
    if (shape_count(y) == 0)
        return;
    move_strides(y, put);
    move_strides(x, get);
    for (int i = 0; i < y->rank; i++) {
        walk_add(&w, y->dim[i] / x->dim[i], put[i] * x->dim[i], 0);
        walk_add(&w, x->dim[i], put[i], get[i]);
    }
    walk_run(w, a->threads);
}

/* The elements of y that lie inside x (constant mode), between the two tensors in either direction. */
static void pad_inside(const kernel_args *a, const kernel_tensor *x, const kernel_tensor *y, bool grad)
{
    const pad_attrs *at = a->attr;
    int64_t sx[RANK_MAX], sy[RANK_MAX], skip_x = 0, skip_y = 0;
    walk w = grad ? walk_between(x, y) : walk_between(y, x);
    move_strides(&x->sh, sx);
    move_strides(&y->sh, sy);
    for (int i = 0; i < x->sh.rank; i++) {
        int64_t before = at->pads.v[i], first = before < 0 ? -before : 0; /* element of x that is the first inside */
        int64_t end = y->sh.dim[i] - before < x->sh.dim[i] ? y->sh.dim[i] - before : x->sh.dim[i];
        if (end <= first)
            return;
        skip_x += first * sx[i] * (int64_t)w.size;
        skip_y += (first + before) * sy[i] * (int64_t)w.size;
        walk_add(&w, end - first, grad ? sx[i] : sy[i], grad ? sy[i] : sx[i]);
    }
    w.to += grad ? skip_x : skip_y;
    w.from += grad ? skip_y : skip_x;
    walk_run(w, a->threads);
}

static bool pad_is_constant(const kernel_args *a)
{
    return ((const pad_attrs *)a->attr)->mode == PAD_CONSTANT;
}

static void pad(const kernel_args *a)
{
    const kernel_tensor *y = &a->out[0];
    int64_t n = shape_count(&y->sh);
    size_t size = dtype_of(y->type)->size;
    if (n == 0)
        return;
    dtype_store(y->type, y->data, 0, ((const pad_attrs *)a->attr)->constant_value);
    walk fill = {.to = (char *)y->data + size, .from = y->data, .size = size};
    walk_add(&fill, n - 1, 1, 0);
    walk_run(fill, a->threads);
    pad_inside(a, &a->in[0], y, false);
}

static void pad_grad(const kernel_args *a)
{
    clear(&a->out[0]);
    pad_inside(a, &a->out[0], &a->in[0], true);
}

static void gather(const kernel_args *a)
{
    const gather_sizes g = gather_split(&a->in[0].sh, ((const gather_attrs *)a->attr)->axis, &a->in[1].sh);
    const dtype t = a->in[0].type;
    const size_t row = (size_t)g.inner * dtype_of(t)->size;
    PARALLEL_FOR(u, g.outer * g.indices, a->threads, g.outer * g.indices * g.inner)
    {
        int64_t from = gather_index(&a->in[1], u % g.indices, g.n);
        char *to = (char *)a->out[0].data + (size_t)u * row;
        if (from >= 0)
            memcpy(to, (const char *)a->in[0].data + (size_t)(u / g.indices * g.n + from) * row, row);
        else
            for (int64_t i = 0; i < g.inner; i++)
                dtype_store(t, to, i, (double)__builtin_nanf(""));
    }
}

/* Strips of columns, because rows of dx may be hit more than once; each element sums in the order of the indices. */
#define STRIP 64

static void gather_grad(const kernel_args *a)
{
    const gather_sizes g = gather_split(&a->out[0].sh, ((const gather_attrs *)a->attr)->axis, &a->in[1].sh);
    const float *dy = a->in[0].data;
    float *dx = a->out[0].data;
    const int64_t strips = block_count(g.inner, STRIP);
    clear(&a->out[0]);
    PARALLEL_FOR(u, g.outer * strips, a->threads, g.outer * g.indices * g.inner)
    {
        const int64_t o = u / strips, first = u % strips * STRIP, end = block_end(u % strips, g.inner, STRIP);
        for (int64_t k = 0; k < g.indices; k++) {
            int64_t to = gather_index(&a->in[1], k, g.n);
            const float *from = dy + (o * g.indices + k) * g.inner;
            float *row = dx + (o * g.n + to) * g.inner;
            for (int64_t i = first; i < end && to >= 0; i++)
                row[i] += from[i];
        }
    }
}

/* The copies of one element are summed in the order of dy. */
static void tile_grad(const kernel_args *a)
{
    const shape *y = &a->in[0].sh, *x = &a->out[0].sh;
    const float *dy = a->in[0].data;
    float *dx = a->out[0].data;
    int64_t stride[RANK_MAX], n = shape_count(x), copies = n ? shape_count(y) / n : 0;
    move_strides(y, stride);
    PARALLEL_FOR(b, block_count(n, STRIP), a->threads, n * copies)
    for (int64_t i = b * STRIP; i < block_end(b, n, STRIP); i++) {
        int64_t at = 0, left = i, c[RANK_MAX] = {0};
        for (int k = x->rank - 1; k >= 0; k--) {
            at += left % x->dim[k] * stride[k];
            left /= x->dim[k];
        }
        float sum = 0;
        for (int64_t j = 0; j < copies; j++) {
            sum += dy[at];
            for (int k = x->rank - 1; k >= 0; k--) { /* the next copy, last axis first */
                at += x->dim[k] * stride[k];
                if (++c[k] < y->dim[k] / x->dim[k])
                    break;
                at -= y->dim[k] * stride[k];
                c[k] = 0;
            }
        }
        dx[i] = sum;
    }
}

/* ---- blocked tensors, moved as they lie: whole blocks of channels ---- */

static bool whole_blocks(const kernel_tensor *t, int n)
{
    for (int i = 0; i < n; i++)
        if (t[i].type != DTYPE_F32 || t[i].sh.rank < 3 || t[i].sh.rank >= RANK_MAX || t[i].sh.dim[1] % LANES != 0)
            return false;
    return true;
}
static bool few_whole_blocks(const kernel_args *a)
{
    return a->n_in <= BLOCKED_OPERANDS && a->n_out <= BLOCKED_OPERANDS && whole_blocks(a->in, a->n_in) &&
           whole_blocks(a->out, a->n_out);
}
static void concat_blocked(const kernel_args *a)
{
    axis_attrs at = {shape_axis(&a->out[0].sh, ((const axis_attrs *)a->attr)->axis)};
    kernel_args b = *a;
    b.attr = &at;
    run_as_plain(&b, concat);
}
static void split_blocked(const kernel_args *a)
{
    split_attrs at = *(const split_attrs *)a->attr;
    int64_t parts[BLOCKED_OPERANDS];
    at.axis = shape_axis(&a->in[0].sh, at.axis);
    for (int k = 0; k < a->n_out; k++)
        parts[k] = at.axis == 1 ? at.split.v[k] / LANES : at.split.v[k];
    at.split.v = parts;
    kernel_args b = *a;
    b.attr = &at;
    run_as_plain(&b, split);
}
static bool split_takes(const kernel_args *a)
{
    return few_whole_blocks(a) && ((const split_attrs *)a->attr)->split.n == a->n_out;
}

/* All channels stay, in their order. */
static bool keeps_channels(const kernel_args *a)
{
    const slice_attrs *at = a->attr;
    const kernel_tensor *x = &a->in[0], *y = &a->out[0];
    return x->type == DTYPE_F32 && x->sh.rank >= 3 && x->sh.rank < RANK_MAX && x->sh.dim[1] == y->sh.dim[1] &&
           at->starts.v[1] == 0 && at->steps.v[1] == 1;
}
static void slice_as_plain(const kernel_args *a, void (*run)(const kernel_args *))
{
    slice_attrs at = *(const slice_attrs *)a->attr;
    int64_t starts[RANK_MAX] = {0}, steps[RANK_MAX];
    int rank = a->in[0].sh.rank;
    memcpy(starts, at.starts.v, (size_t)rank * sizeof *starts);
    memcpy(steps, at.steps.v, (size_t)rank * sizeof *steps);
    steps[rank] = 1; /* within a block */
    at.starts.v = starts;
    at.steps.v = steps;
    kernel_args b = *a;
    b.attr = &at;
    run_as_plain(&b, run);
}
static void slice_blocked(const kernel_args *a)
{
    slice_as_plain(a, slice);
}
static void slice_grad_blocked(const kernel_args *a)
{
    slice_as_plain(a, slice_grad);
}

KERNEL_TABLE(move) = {
    {OP_TRANSPOSE, DTYPE_NONE, REAL_ISA, "transpose", transpose},
    {OP_CONCAT, DTYPE_NONE, REAL_ISA, "concat", concat},
    {OP_SPLIT, DTYPE_NONE, REAL_ISA, "split", split},
    {OP_SLICE, DTYPE_NONE, REAL_ISA, "slice", slice},
    {OP_SLICE_GRAD, DTYPE_NONE, REAL_ISA, "slice_grad", slice_grad},
    {OP_PAD, DTYPE_NONE, REAL_ISA, "pad", pad, .takes = pad_is_constant},
    {OP_PAD_GRAD, DTYPE_NONE, REAL_ISA, "pad_grad", pad_grad, .takes = pad_is_constant},
    {OP_EXPAND, DTYPE_NONE, REAL_ISA, "expand", expand},
    {OP_TILE, DTYPE_NONE, REAL_ISA, "tile", tile},
    {OP_TILE_GRAD, REAL_DTYPE, REAL_ISA, "tile_grad_f32", tile_grad},
    {OP_GATHER, DTYPE_NONE, REAL_ISA, "gather", gather},
    {OP_GATHER_GRAD, REAL_DTYPE, REAL_ISA, "gather_grad_f32", gather_grad},
    {OP_CONCAT, DTYPE_F32, REAL_ISA, "concat_blocked", concat_blocked, NULL, few_whole_blocks, .blocked_in = ~0u,
     .blocked_out = 1},
    {OP_SPLIT, DTYPE_F32, REAL_ISA, "split_blocked", split_blocked, NULL, split_takes, .blocked_in = 1,
     .blocked_out = ~0u},
    {OP_SLICE, DTYPE_F32, REAL_ISA, "slice_blocked", slice_blocked, NULL, keeps_channels, .blocked_in = 1, .blocked_out = 1},
    {OP_SLICE_GRAD, DTYPE_F32, REAL_ISA, "slice_grad_blocked", slice_grad_blocked, NULL, keeps_channels, .blocked_in = 1,
     .blocked_out = 1},
    KERNEL_END,
};
