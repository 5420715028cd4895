/* conv_line_simd.c - Conv and ConvGradData of kernels of 2 to 16 taps along one axis (k, 1xk, kx1) with stride 1 and any
 * dilation on blocked maps, by Winograd's filtering along a line (winograd_line.h).
 *
 * As in conv_winograd_simd.c the gradient of the data is a convolution of dy with the weights flipped: `reduce` channels in,
 * `produce` channels out.
 *
 * Sequences are what the filter runs along: a line of pixels, with dilation d every d-th of them. A task takes a rectangle
 * of sequences and tiles, tiles outermost, and a part of the produced channels. Its windows, with those that later pieces
 * see ahead, are transformed; then for some groups of produced channels at a time the products of all points, which are
 * transformed back while they are in the cache, and go out with bias, residual and ReLU. Every result is one sum in a fixed
 * order: neither threads nor tasks change it. */
#include "kernels/cpu/conv_epilogue.h"
#include "kernels/cpu/conv_norm.h"
#include "kernels/cpu/winograd_line.h"
#include "kernels/cpu/winograd_multiply.h"

enum {
    LARGE_WEIGHTS = 512 << 10, /* bytes of transformed weights that make up for ... */
    BATCH_TILES = 24,
    BATCH_LARGE = 60,          /* ... larger batches, each of which they pass by for */
    TASKS_PER_THREAD = 4,
    PREFETCH_TILES = 4,
    GROUPS_AT_ONCE = 4,
    STRETCH = 32 /* channels whose products are summed by themselves: see winograd_line.h */
};

typedef struct line_place { /* of a sequence, in a task */
    int64_t x, y;     /* floats from the tensor's beginning, of block 0, to its line */
    int64_t at, from; /* pixel on the line of the first window, of the first result */
} line_place;

typedef struct job {
    line_way way;
    bool forward;
    int64_t images, reduce, produce;
    int64_t in, out, pad, dilation; /* pixels of a line */
    int64_t lines, residues;        /* of an image; of a line, with results */
    int64_t step, next_line[2];     /* floats from pixel to pixel of a line, from line to line of the data and of the results */
    int64_t sequences, tiles;       /* of all images; of a sequence */
    int64_t blocks;                 /* of reduced channels */
    int64_t vectors, groups;        /* of produced channels; groups of up to GROUP_VECTORS vectors */
    int64_t most;                   /* tiles of the innermost kernel */
    int64_t across, along;          /* sequences and tiles of a task */
    int64_t batches, parts;         /* tasks: batches * parts */
    int64_t windows;                /* of a task */
    int64_t u_step, v_step, m_step; /* floats from one point to the next */
    int64_t thread_size;            /* floats */
    const float *u; /* [point][group][piece][reduce][vectors of the group * LANES] */
    float *u_made;  /* the same where this call makes it; NULL: it was prepared */
    float *work;    /* of a thread: V [point][block][tile][sequence][LANES], M [point][group][tile][sequence][vectors of the
                     * group * LANES] */
    line_place *places; /* of a thread: [across] */
    conv_norm *norm;    /* [blocks]; NULL: none */
    const float *x, *weight, *weight_end;
    float *y, *bias;
    conv_epilogue end;
} job;

static void plan_tasks(job *j, int64_t threads)
{
    bool large = line_points_count(&j->way) * j->u_step * (int64_t)sizeof(float) > LARGE_WEIGHTS;
    int64_t wanted = large ? BATCH_LARGE : BATCH_TILES, tasks = threads * (large ? 1 : TASKS_PER_THREAD);
    int64_t count = j->sequences * j->tiles, share = (count + tasks - 1) / tasks;
    int64_t batch = max_of(1, (min_of(wanted, share) + j->most - 1) / j->most) * j->most;
    j->across = max_of(1, min_of(batch / max_of(j->tiles, 1), j->sequences));
    j->along = min_of(max_of(1, batch / j->across), j->tiles);
    int64_t across = (j->sequences + j->across - 1) / j->across, along = j->along ? (j->tiles + j->along - 1) / j->along : 0;
    j->batches = across * along;
    j->parts = j->batches % threads == 0 || j->batches >= tasks ? 1 : min_of(j->groups, threads);
}

/* `x` and `y`: data and windows of the convolution, whatever the direction. */
static bool plan(job *j, const kernel_args *a, const shape *x, const shape *y, bool forward)
{
    const conv_attrs *at = a->attr;
    *j = (job){.forward = forward};
    if ((forward && at->exact) || x->rank < 3 || x->rank > 4 || at->group != 1 || x->dim[1] < 1 || y->dim[1] < 1)
        return false;
    spatial s = conv_spatial(at, x, y);
    int axis = s.kernel[2] > 1 ? 2 : 1, other = 3 - axis;
    if (s.kernel[axis] < 2 || s.kernel[axis] > LINE_TAPS_MOST || s.kernel[other] != 1 || s.stride[1] != 1 ||
        s.stride[2] != 1 || s.pad[other] || s.pad_end[other])
        return false;
    j->way = line_way_of(s.kernel[axis]);
    j->images = s.n;
    j->reduce = forward ? s.channels : s.outputs;
    j->produce = forward ? s.outputs : s.channels;
    j->dilation = s.dilation[axis];
    j->in = forward ? s.in[axis] : s.out[axis];
    j->out = forward ? s.out[axis] : s.in[axis];
    j->pad = forward ? s.pad[axis] : (s.kernel[axis] - 1) * j->dilation - s.pad[axis];
    j->lines = s.in[other];
    j->step = (axis == 2 ? 1 : j->lines) * LANES;
    j->next_line[0] = (axis == 2 ? j->in : 1) * LANES;
    j->next_line[1] = (axis == 2 ? j->out : 1) * LANES;
    j->residues = min_of(j->dilation, max_of(j->out, 1));
    j->sequences = j->images * j->lines * j->residues;
    j->tiles = ((j->out + j->dilation - 1) / j->dilation + j->way.tile - 1) / j->way.tile;
    j->blocks = (j->reduce + LANES - 1) / LANES;
    j->vectors = (j->produce + LANES - 1) / LANES;
    j->groups = (j->vectors + GROUP_VECTORS - 1) / GROUP_VECTORS;
    j->most = j->vectors == 1 ? MOST_1 : MOST_2;
    j->u_step = j->way.pieces * j->reduce * j->vectors * LANES + LANES; /* points at a power of two from each other would fall on the same cache lines */
    plan_tasks(j, max_of(1, a->threads));

    int64_t lanes = min_of(j->vectors, GROUP_VECTORS) * LANES, part = (j->groups + j->parts - 1) / j->parts;
    j->windows = j->across * (j->along + (j->way.pieces - 1) * j->way.ahead);
    j->v_step = j->blocks * j->windows * LANES + LANES;
    j->m_step = j->across * j->along * min_of(part, GROUPS_AT_ONCE) * lanes + LANES;
    j->thread_size = round_up(line_points_count(&j->way) * (j->v_step + j->m_step), 16);
    return true;
}

static size_t carve_job(job *j, const kernel_args *a, void *work)
{
    carver c = {.base = work};
    int64_t threads = max_of(1, a->threads);
    j->u = a->prepared;
    if (!j->u)
        j->u = j->u_made = carve(&c, line_points_count(&j->way) * j->u_step, sizeof *j->u);
    j->work = carve(&c, j->thread_size * threads, sizeof *j->work);
    j->places = carve(&c, j->across * threads, sizeof *j->places);
    j->bias = carve(&c, j->vectors * LANES, sizeof *j->bias);
    j->norm = has_norm(a, NORM_OF_CONV) ? carve(&c, j->blocks, sizeof *j->norm) : NULL;
    return c.used;
}

static int64_t group_vectors(const job *j, int64_t group)
{
    return min_of(GROUP_VECTORS, j->vectors - group * GROUP_VECTORS);
}

/* ---- weights ---- */

/* to[c][tap]: the weights of one vector of produced channels and `count` reduced ones, from `block` on; zeros beyond the last
 * channel. */
static void load_weights(const job *j, vec *to, int64_t vector, int64_t block, int64_t count)
{
    int64_t taps = j->way.taps, lanes = min_of(LANES, j->produce - vector * LANES), row = j->reduce * taps;
    const float *w = j->weight + vector * LANES * row + block * LANES * taps;
    for (int64_t e = 0; e < count * taps; e += LANES) {
        load_rows(to + e, w + e, row, lanes, j->weight_end);
        vec_transpose(to + e);
    }
}

/* The same where w is [reduced][produced][tap], and the taps are to be flipped. */
static void load_flipped(const job *j, vec *to, int64_t vector, int64_t block, int64_t count)
{
    int64_t taps = j->way.taps, lanes = min_of(LANES, j->produce - vector * LANES);
    for (int64_t c = 0; c < count; c++, to += taps) {
        const float *w = j->weight + ((block * LANES + c) * j->produce + vector * LANES) * taps;
        for (int64_t k = 0; k < taps; k += LANES) {
            vec r[LANES];
            load_rows(r, w + k, taps, lanes, j->weight_end);
            vec_transpose(r);
            for (int64_t i = 0; i < LANES && k + i < taps; i++)
                to[taps - 1 - k - i] = r[i];
        }
    }
}

/* G g of one vector of produced channels and one block of reduced ones. */
static void transform_weights(const job *j, int64_t vector, int64_t block)
{
    const line_way *way = &j->way;
    int64_t group = vector / GROUP_VECTORS, lanes = group_vectors(j, group) * LANES, piece = j->reduce * lanes;
    int64_t count = min_of(LANES, j->reduce - block * LANES), each = way->ahead * way->tile;
    float *to = j->u_made + group * GROUP_VECTORS * LANES * j->reduce * way->pieces + vector % GROUP_VECTORS * LANES +
                block * LANES * lanes;
    vec w[LANES * LINE_TAPS_MOST]; /* whole vectors of taps: the last may begin below LANES * taps only */
    (j->forward ? load_weights : load_flipped)(j, w, vector, block, count);
    for (const vec *g = w; g < w + count * way->taps; g += way->taps, to += lanes)
        for (int64_t q = 0; q < way->pieces; q++) {
            float *u = to + q * piece;
            if (way->pairs == 3)
                line_weight(3, u, j->u_step, g + q * each, line_piece_taps(way, q), way->full);
            else
                line_weight(4, u, j->u_step, g + q * each, line_piece_taps(way, q), way->full);
        }
}

/* ---- windows ---- */

/* The window that begins at pixel `at` of a line; to: points `step` floats apart. norm: of the block; NULL: none. */
typedef void window_fn(const job *j, float *to, const float *line, int64_t at, const conv_norm *norm);

ALWAYS_INLINE void window_body(const int P, const bool inside, const job *j, float *to, const float *line, int64_t at,
                               const conv_norm *norm)
{
    vec d[LINE_POINTS], o[LINE_POINTS];
    int64_t step = j->dilation * j->step;
    const float *x = line + (inside ? at * j->step : 0);
#pragma GCC unroll 10
    for (int i = 0; i < 2 * P + 2; i++) {
        int64_t pixel = at + i * j->dilation;
        if (!inside && (pixel < 0 || pixel >= j->in)) {
            d[i] = vec_set(0);
            continue;
        }
        d[i] = vec_load(inside ? x + i * step : x + pixel * j->step);
        if (norm)
            d[i] = normed(norm, d[i]);
    }
    line_data(P, o, d);
#pragma GCC unroll 10
    for (int i = 0; i < 2 * P + 2; i++)
        vec_store(to + i * j->v_step, o[i]);
}
#define WINDOW_DEFINE(P)                                                                                          \
    static void window_##P(const job *j, float *to, const float *line, int64_t at, const conv_norm *norm)         \
    {                                                                                                             \
        (void)norm;                                                                                               \
        window_body(P, true, j, to, line, at, NULL);                                                              \
    }                                                                                                             \
    static void window_edge_##P(const job *j, float *to, const float *line, int64_t at, const conv_norm *norm)    \
    {                                                                                                             \
        window_body(P, false, j, to, line, at, norm);                                                             \
    }
WINDOW_DEFINE(3)
WINDOW_DEFINE(4)

/* Asks for the pixels of a tile `ahead` floats behind p, which may lie anywhere: to be read, or written. */
ALWAYS_INLINE void ask_for(const job *j, const float *p, int64_t ahead, const int write)
{
    uintptr_t at = (uintptr_t)p + (uintptr_t)ahead * sizeof(float), step = (uintptr_t)(j->dilation * j->step) * sizeof(float);
    for (int i = 0; i < j->way.tile; i++, at += step)
        if (write) /* the builtin takes literals */
            __builtin_prefetch((const void *)at, 1, 3);
        else
            __builtin_prefetch((const void *)at, 0, 3);
}

/* All windows of a task: `across` sequences; from tile `first`, `along` tiles and those ahead. */
static void transform_data(const job *j, float *v, const line_place *p, int64_t across, int64_t first, int64_t along)
{
    window_fn *edge = j->way.pairs == 3 ? window_edge_3 : window_edge_4;
    window_fn *inner = j->norm ? edge : j->way.pairs == 3 ? window_3 : window_4;
    int64_t plane = j->in * j->lines * LANES, span = (line_points_count(&j->way) - 1) * j->dilation;
    int64_t end = first + along + (j->way.pieces - 1) * j->way.ahead, next = j->way.tile * j->dilation;
    for (int64_t c = 0; c < j->blocks; c++) {
        float *to = v + c * j->windows * LANES;
        for (int64_t t = first; t < end; t++) {
            int64_t later = t + PREFETCH_TILES < end ? t + PREFETCH_TILES : t + PREFETCH_TILES - end + first;
            int64_t block = c + (t + PREFETCH_TILES >= end), fresh = line_points_count(&j->way) - j->way.tile;
            for (int64_t s = 0; s < across; s++, to += LANES) {
                int64_t at = p[s].at + t * next;
                ask_for(j, j->x + p[s].x, block * plane + (p[s].at + later * next + fresh * j->dilation) * j->step, 0);
                (at >= 0 && at + span < j->in ? inner : edge)(j, to, j->x + p[s].x + c * plane, at,
                                                           j->norm ? j->norm + c : NULL);
            }
        }
    }
}

/* ---- results ---- */

/* y = A^T m of one tile and vector of channels, of which `count` are inside. */
typedef void result_fn(const job *j, float *y, vec bias, const float *m, int64_t count);

ALWAYS_INLINE void result_body(const int P, const int tile, const job *j, float *y, vec bias, const float *m, int64_t count)
{
    vec r[LINE_TILE_MOST], x[LINE_POINTS];
    int64_t step = j->dilation * j->step;
#pragma GCC unroll 10
    for (int i = 0; i < 2 * P + 2; i++)
        x[i] = vec_load(m + i * j->m_step);
    line_result(P, tile, r, x);
#pragma GCC unroll 6
    for (int i = 0; i < tile; i++, y += step) {
        if (i >= count)
            break;
        vec_store(y, conv_finish(&j->end, r[i], bias, y));
    }
}
#define RESULT_DEFINE(P, m)                                                                                       \
    static void result_##P##_##m(const job *j, float *y, vec bias, const float *from, int64_t count)              \
    {                                                                                                             \
        result_body(P, m, j, y, bias, from, count);                                                               \
    }
LINE_WAYS(RESULT_DEFINE)
#define RESULT_ROW(P, m) [P][m] = result_##P##_##m,
static result_fn *const results[LINE_PAIRS + 1][LINE_TILE_MOST + 1] = {LINE_WAYS(RESULT_ROW)};

/* One vector of channels, `vector`, of a task; m: products of the first tile. */
static void store_results(const job *j, const float *m, int64_t lanes, int64_t vector, const line_place *p, int64_t across,
                          int64_t first, int64_t along)
{
    vec bias = vec_load(j->end.bias + vector * LANES);
    result_fn *result = results[j->way.pairs][j->way.tile];
    float *y = j->y + vector * j->out * j->lines * LANES;
    int64_t next = j->way.tile * j->dilation;
    for (int64_t t = first; t < first + along; t++)
        for (int64_t s = 0; s < across; s++, m += lanes) {
            int64_t at = p[s].from + t * next, count = (j->out - at + j->dilation - 1) / j->dilation;
            ask_for(j, y, p[s].y + (at + PREFETCH_TILES * next) * j->step, 1);
            if (at < j->out)
                result(j, y + p[s].y + at * j->step, bias, m, count);
        }
}

/* ---- tasks ---- */

/* All products of point p for a group of channels. The piece of fewer taps than `full` has none at infinity. */
static void multiply(const job *j, int64_t p, int64_t group, float *m, const float *v, int64_t across, int64_t count)
{
    const line_way *way = &j->way;
    int64_t vectors = group_vectors(j, group), piece = j->reduce * vectors * LANES, shift = way->ahead * across * LANES;
    int64_t panel = way->pieces * piece;
    const float *u = j->u + p * j->u_step + group * GROUP_VECTORS * LANES * j->reduce * way->pieces;
    wino_product w = {.u = u, .channels = j->reduce, .pitch = j->windows * LANES, .pieces = way->pieces, .shift = shift,
                      .stretch = STRETCH / LANES};
    int64_t skipped = p + 1 == line_points_count(way) && way->ahead * way->tile < way->full ? way->pieces - 1 : 0;
    w.u += skipped * piece;
    w.pieces -= skipped;
    v += skipped * shift;
    for (int64_t t = 0; t < count; t += j->most) {
        w.m = m + t * vectors * LANES;
        w.v = v + t * LANES;
        w.next = u + panel + min_of(t / j->most * way->pieces * j->reduce * LINE, panel); /* of the next group's weights */
        multiplies[vectors][min_of(j->most, count - t)](&w);
    }
}

static void place_sequences(const job *j, line_place *p, int64_t first, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        int64_t residue = (first + i) % j->residues, line = (first + i) / j->residues, image = line / j->lines;
        line %= j->lines;
        p[i] = (line_place){.x = image * j->blocks * j->in * j->lines * LANES + line * j->next_line[0],
                            .y = image * j->vectors * j->out * j->lines * LANES + line * j->next_line[1],
                            .at = residue - j->pad, .from = residue};
    }
}

static void run_task(const job *j, int64_t task, int thread)
{
    int64_t along_all = (j->tiles + j->along - 1) / j->along, part = task % j->parts, batch = task / j->parts;
    int64_t sequence = batch / along_all * j->across, first = batch % along_all * j->along;
    int64_t across = min_of(j->across, j->sequences - sequence), along = min_of(j->along, j->tiles - first);
    int64_t points = line_points_count(&j->way), width = j->across * j->along * GROUP_VECTORS * LANES; /* of a group's M */
    float *v = j->work + thread * j->thread_size, *m = v + points * j->v_step;
    line_place *places = j->places + thread * j->across;
    place_sequences(j, places, sequence, across);
    transform_data(j, v, places, across, first, along);
    int64_t last = (part + 1) * j->groups / j->parts, end;
    for (int64_t begin = part * j->groups / j->parts; begin < last; begin = end) {
        end = min_of(begin + GROUPS_AT_ONCE, last);
        for (int64_t p = 0; p < points; p++)
            for (int64_t g = begin; g < end; g++)
                multiply(j, p, g, m + p * j->m_step + (g - begin) * width, v + p * j->v_step, across, across * along);
        for (int64_t g = begin; g < end; g++)
            for (int64_t k = 0; k < group_vectors(j, g); k++)
                store_results(j, m + (g - begin) * width + k * LANES, group_vectors(j, g) * LANES, g * GROUP_VECTORS + k,
                              places, across, first, along);
    }
}

static void set_weights(job *j, const kernel_args *a)
{
    j->weight = a->in[1].data;
    j->weight_end = j->weight + shape_count(&a->in[1].sh);
}

static void run(job *j, const kernel_args *a)
{
    carve_job(j, a, a->work);
    if (j->norm)
        list_norms(a, NORM_OF_CONV, j->norm);
    j->x = a->in[0].data;
    if (j->u_made)
        set_weights(j, a);
    j->y = a->out[0].data;
    conv_pack_bias(a->n_in > 2 ? a->in[2].data : NULL, 1, j->produce, j->bias);
    j->end.bias = j->bias;
    j->end.y = j->y;
    if (j->batches == 0)
        return;
#pragma omp parallel num_threads(a->threads)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < (j->u_made ? j->vectors * j->blocks : 0); i++)
            transform_weights(j, i / j->blocks, i % j->blocks);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < j->batches * j->parts; i++)
            run_task(j, i, omp_get_thread_num());
    }
}

/* Estimated cycles of one core: for each point, of a window and of a tile of results per vector, of the weights of a piece and
 * channel. From layers of 8 to 256 channels on Zen 5 with AVX-512 (4 GHz). Nothing here may depend on the number of threads:
 * the choice of a kernel would. */
enum { CYCLES_WINDOW = 5, CYCLES_RESULT = 4, CYCLES_WEIGHT = 10 };

static double job_cost(const job *j)
{
    double tiles = (double)(j->sequences * j->tiles), steps = 0, terms = (double)(j->way.pieces * j->reduce);
    for (int64_t g = 0; g < j->groups; g++)
        steps += group_vectors(j, g) == 1 ? 0.7 : 1.05; /* the loads of one vector take longer than its products */
    return (double)line_points_count(&j->way) *
           (tiles * (terms * steps + (double)j->blocks * CYCLES_WINDOW + (double)j->vectors * CYCLES_RESULT) +
            terms * (double)j->vectors * CYCLES_WEIGHT);
}

static size_t prepared_size(const job *j, const kernel_args *a)
{
    return a->in[1].data ? (size_t)(line_points_count(&j->way) * j->u_step) * sizeof *j->u : 0;
}
static void prepare(job *j, const kernel_args *a, void *to)
{
    set_weights(j, a);
    j->u_made = to;
    for (int64_t i = 0; i < j->vectors * j->blocks; i++)
        transform_weights(j, i / j->blocks, i % j->blocks);
}

#include "kernels/cpu/conv_launch.h"

KERNEL_TABLE(conv_line) = {
    {OP_CONV, REAL_DTYPE, REAL_ISA, "conv_winograd_line", conv, conv_workspace, conv_takes, "winograd",
     .blocked_in = 1u << 0 | 1u << 3, .blocked_out = 1, .cost = conv_cost, .prepared = conv_prepared,
     .prepare = conv_prepare, .packed_in = 1 << 1},
    {OP_NORM_CONV, REAL_DTYPE, REAL_ISA, "conv_winograd_line, norm", conv, conv_workspace, conv_takes, "winograd",
     .blocked_in = 1u << 0 | 1u << 3, .blocked_out = 1, .cost = conv_cost, .prepared = conv_prepared,
     .prepare = conv_prepare, .packed_in = 1 << 1},
    {OP_CONV_GRAD_DATA, REAL_DTYPE, REAL_ISA, "conv_grad_data_winograd_line", conv_data, conv_data_workspace,
     conv_data_takes, "winograd", .blocked_in = 1, .blocked_out = 1, .cost = conv_data_cost,
     .prepared = conv_data_prepared, .prepare = conv_data_prepare, .packed_in = 1 << 1},
    KERNEL_END};
