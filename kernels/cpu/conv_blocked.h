/* conv_blocked.h - Conv, ConvGradData and ConvTranspose with a blocked result: where data and results lie, in tasks.
 *
 * Every pixel of the result is a sum over entries of weights times data at a fixed distance from the pixel. An entry is
 * one tap of the kernel and one block of channels (blocked data) or one channel (plain data). To get there whatever the
 * strides,
 *   - forward: the data of a task are copied with their padding into one plane per stride phase ("slot"), so that
 *     neighbouring pixels of the result need neighbouring data;
 *   - backward: the pixels of the result fall into stride phases, each of which sees its own taps only; the gradients
 *     are copied with zeros round them.
 * Data that already lie so are read where they are. Positions are the pixels of the result in the forward direction, of
 * the gradients in the backward one.
 *
 * The file that includes this defines PITCH, the floats from one pixel of the data to the next: LANES or 1. */
#ifndef DISTILL_KERNELS_CONV_BLOCKED_H
#define DISTILL_KERNELS_CONV_BLOCKED_H

#include "kernels/cpu/conv_norm.h"
#include "kernels/cpu/spatial.h"

#include <limits.h>

enum {
    TASK_PIXELS = 196,         /* of the result, at least: they share the weights that are read */
    TASK_PIXELS_MOST = 1024,
    TASK_FLOATS = 48 * 1024,   /* of data, at most, where TASK_PIXELS allow */
    TASKS_FEWEST = 16,         /* rows are split into more strips below that */
    TASK_COLUMNS_LEAST = 56,
    PHASES_MOST = 1024,
    MERGED_MOST = 8,
    ENTRY_FLOATS = 512,        /* channels and taps whose weights are used for all pixels of a task before the next ones */
    ENTRY_BLOCK = ENTRY_FLOATS / PITCH
};

typedef struct bconv {
    spatial s;
    bool forward, packed;        /* packed: the data are copied; else tiles read them where they are */
    int64_t images, groups;      /* narrow groups are merged until they fill whole blocks */
    int64_t merged;              /* groups of the operator in one */
    int64_t reduce, produce;     /* channels of a (merged) group: summed over, made */
    int64_t blocks, vectors;     /* of reduce (channels when the data are plain), of produce */
    int64_t panels;              /* of TILE_VECTORS vectors at most, shared out evenly */
    int64_t taps, entries;       /* of the kernel; blocks * taps */
    int64_t src[2], dst[2];      /* rows and columns of a plane of data, of the result */
    int64_t step[2], shift[2];   /* element i of the result: position (i + shift) / step, phase (i + shift) % step */
    int64_t phases;              /* step[0] * step[1] */
    int64_t reach[2];            /* positions that a pixel's data span beyond its own */
    int64_t slots[2], stride[2]; /* planes of copied data (forward), steps through the data; else 1 */
    int64_t task_images, strip[2], strips[2]; /* a task: images with all pixels or strips of one; one group; */
    int64_t parts, tasks;        /* one part of the panels */
    int64_t width, slot_pitch, block_pitch, image_pitch; /* floats: a row of the data that is read, and so on */
} bconv;

static inline int64_t bconv_at(const bconv *g, int axis, int64_t i)
{
    return (i + g->shift[axis]) / g->step[axis];
}

/* Whether the data can be read where they are: pixels are neighbours, and nothing outside the plane is touched. */
static inline bool bconv_needs_no_copy(const bconv *g)
{
    for (int i = 0; i < 2; i++) {
        int64_t first = g->forward ? -g->s.pad[i + 1] : bconv_at(g, i, 0) - g->reach[i];
        int64_t last = g->forward ? g->dst[i] - 1 + g->reach[i] : bconv_at(g, i, g->dst[i] - 1);
        if (g->stride[i] != 1 || first < 0 || last >= g->src[i])
            return false;
    }
    return true;
}

/* Groups are merged until both sides fill whole blocks. */
static inline int64_t bconv_merge(int64_t groups, int64_t reduce, int64_t produce)
{
    int64_t merged = 1;
    while (merged < groups && ((PITCH > 1 && merged * reduce % LANES) || merged * produce % LANES))
        merged++;
    while (groups % merged)
        merged++;
    return merged;
}

/* Splits the pixels of an image into about `parts` strips. */
static inline void bconv_strips(bconv *g, int64_t parts)
{
    for (int i = 0; i < 2; i++) {
        int64_t least = i ? TASK_COLUMNS_LEAST : g->dst[0] > 4 ? 4 : 1;
        int64_t strip = max_of(least, (g->dst[i] + parts - 1) / parts);
        g->strip[i] = round_up(min_of(strip, g->dst[i]), g->step[i]);
        g->strips[i] = (g->dst[i] + g->strip[i] - 1) / g->strip[i];
        parts = (parts + g->strips[i] - 1) / g->strips[i];
    }
}

static inline void bconv_count_tasks(bconv *g)
{
    g->tasks = (g->images + g->task_images - 1) / g->task_images * g->groups * g->strips[0] * g->strips[1] * g->parts;
}

/* Tasks of TASK_PIXELS pixels and more where the data are few. Where that makes too few of them, first the channels of the
 * result are shared out, then images and rows. */
static inline void bconv_split(bconv *g)
{
    int64_t each = max_of(1, g->blocks * PITCH * g->slots[0] * g->slots[1] / g->phases);
    int64_t most = max_of(TASK_PIXELS, min_of(TASK_FLOATS / each, TASK_PIXELS_MOST)), pixels = g->dst[0] * g->dst[1];
    g->parts = 1;
    g->task_images = max_of(1, min_of(most / pixels, g->images));
    bconv_strips(g, g->task_images > 1 ? 1 : (pixels + most - 1) / most);
    bconv_count_tasks(g);
    if (g->tasks == 0 || g->tasks >= TASKS_FEWEST)
        return;
    g->parts = max_of(1, min_of((TASKS_FEWEST + g->tasks - 1) / g->tasks, g->packed ? g->panels / 2 : g->panels));
    bconv_count_tasks(g);
    if (g->tasks < TASKS_FEWEST / 2 && g->task_images > 1) {
        g->task_images = max_of(1, g->task_images * g->tasks / TASKS_FEWEST);
        bconv_count_tasks(g);
    }
    if (g->tasks < TASKS_FEWEST && g->task_images == 1)
        bconv_strips(g, max_of(g->strips[0] * g->strips[1], TASKS_FEWEST / (g->images * g->groups * g->parts)));
    bconv_count_tasks(g);
}

/* `x` and `y`: shapes of the convolution's data and windows, whatever the direction. copy: the data have to be copied, as
 * there is a norm before the convolution. False: the shapes are not for these kernels. */
static inline bool bconv_make(bconv *g, const conv_attrs *at, const shape *x, const shape *y, bool forward,
                              int64_t most_vectors, bool copy)
{
    *g = (bconv){.s = conv_spatial(at, x, y), .forward = forward, .images = x->dim[0]};
    const spatial *s = &g->s;
    int64_t c = s->channels / s->group, m = s->outputs / s->group;
    if (x->rank < 3 || x->rank > 4 || c < 1 || m < 1 || (s->group > 1 && c == 1 && m == 1)) /* see depthwise_blocked_simd.c */
        return false;
    g->merged = bconv_merge(s->group, forward ? c : m, forward ? m : c);
    g->groups = s->group / g->merged;
    g->reduce = (forward ? c : m) * g->merged;
    g->produce = (forward ? m : c) * g->merged;
    g->blocks = PITCH > 1 ? (g->reduce + LANES - 1) / LANES : g->reduce;
    g->vectors = (g->produce + LANES - 1) / LANES;
    g->panels = (g->vectors + most_vectors - 1) / most_vectors;
    g->taps = s->kernel[1] * s->kernel[2];
    g->entries = g->blocks * g->taps;
    for (int i = 0; i < 2; i++) {
        int64_t stride = s->stride[i + 1], span = (s->kernel[i + 1] - 1) * s->dilation[i + 1];
        g->src[i] = forward ? s->in[i + 1] : s->out[i + 1];
        g->dst[i] = forward ? s->out[i + 1] : s->in[i + 1];
        g->step[i] = forward ? 1 : stride;
        g->shift[i] = forward ? 0 : s->pad[i + 1];
        g->stride[i] = forward ? stride : 1;
        g->slots[i] = forward ? min_of(stride, span + 1) : 1;
        g->reach[i] = span / stride;
    }
    if (g->step[0] > PHASES_MOST || g->step[1] > PHASES_MOST || g->dst[0] < 1 || g->dst[1] < 1)
        return false;
    g->phases = g->step[0] * g->step[1];
    g->packed = !bconv_needs_no_copy(g);
    if (!g->packed && g->taps == 1 && g->phases == 1 && g->src[0] == g->dst[0] && g->src[1] == g->dst[1]) {
        g->src[1] = g->dst[1] *= g->dst[0]; /* one long row */
        g->src[0] = g->dst[0] = 1;
    }
    g->packed |= copy;
    bconv_split(g);
    int64_t rows = g->src[0], cols = g->src[1];
    if (g->packed) {
        rows = (g->strip[0] + g->step[0] - 2) / g->step[0] + 1 + g->reach[0];
        cols = (g->strip[1] + g->step[1] - 2) / g->step[1] + 1 + g->reach[1];
    }
    g->width = cols * PITCH;
    g->slot_pitch = rows * g->width;
    g->block_pitch = g->slots[0] * g->slots[1] * g->slot_pitch;
    g->image_pitch = (g->packed ? g->blocks : g->blocks * g->groups) * g->block_pitch;
    return g->phases <= PHASES_MOST && g->merged <= MERGED_MOST && g->entries < INT_MAX / 64 && g->image_pitch < INT_MAX / 4;
}

/* First vector of a panel. */
static inline int64_t panel_begin(const bconv *g, int64_t panel)
{
    return panel * g->vectors / g->panels;
}

/* Where everything of a kernel's taps is. */
typedef struct bconv_tables {
    int32_t *off;                 /* [entries]: floats from a pixel's place to its data */
    int32_t *phase;               /* [phases + 1]: entries of phase p are phase[p] to phase[p + 1] - 1, blocks outermost */
    int32_t *tap_first, *tap_step; /* [taps]: block b of tap t is entry tap_first[t] + b * tap_step[t] */
} bconv_tables;

static inline void bconv_list(const bconv *g, bconv_tables *l)
{
    const spatial *s = &g->s;
    int64_t e = 0;
    for (int64_t p = 0; p < g->phases; p++) {
        int64_t a = p / g->step[1], b = p % g->step[1], begin = e, count = 0;
        l->phase[p] = (int32_t)e;
        for (int pass = 0; pass < 2; pass++) /* count, then fill in */
            for (int64_t t = 0, at = begin; t < g->taps; t++) {
                int64_t h = t / s->kernel[2] * s->dilation[1], w = t % s->kernel[2] * s->dilation[2];
                int64_t h0 = h % s->stride[1], h1 = h / s->stride[1], w0 = w % s->stride[2], w1 = w / s->stride[2];
                if (!g->forward && (h0 != a || w0 != b))
                    continue;
                if (pass == 0) {
                    count++;
                    continue;
                }
                int64_t row = g->forward ? h1 : g->reach[0] - h1, col = g->forward ? w1 : g->reach[1] - w1;
                int64_t slot = g->forward ? h0 * g->slots[1] + w0 : 0;
                l->tap_first[t] = (int32_t)at;
                l->tap_step[t] = (int32_t)count;
                for (int64_t r = 0; r < g->blocks; r++)
                    l->off[at + r * count] =
                        (int32_t)(r * g->block_pitch + slot * g->slot_pitch + row * g->width + col * PITCH);
                at++;
            }
        e += count * g->blocks;
    }
    l->phase[g->phases] = (int32_t)e;
}

/* ---- data ---- */

/* One row of `width` pixels: zeros, pixels of x `step` apart, zeros. norm: of blocked data; NULL: none. */
static inline void copy_pixels(float *to, const float *x, range in, int64_t step, int64_t width, const conv_norm *norm)
{
    if (in.begin)
        memset(to, 0, (size_t)(in.begin * PITCH) * sizeof *to);
    if (norm && PITCH > 1)
        copy_normed(norm, to + in.begin * PITCH, x, in.end - in.begin, step * PITCH);
    else if (step == 1)
        copy_floats(to + in.begin * PITCH, x, (in.end - in.begin) * PITCH);
    else if (PITCH == 1)
        for (int64_t q = in.begin; q < in.end; q++, x += step)
            to[q] = *x;
    else
        for (int64_t q = in.begin; q < in.end; q++, x += step * PITCH)
            vec_store(to + q * PITCH, vec_load(x));
    if (in.end < width)
        memset(to + in.end * PITCH, 0, (size_t)((width - in.end) * PITCH) * sizeof *to);
}

/* All slots of one block: rows x cols positions from (top, left) on. */
static inline void copy_slots(const bconv *g, float *to, const float *from, int64_t top, int64_t rows, int64_t left,
                              int64_t cols, const conv_norm *norm)
{
    for (int64_t a = 0; a < g->slots[0]; a++)
        for (int64_t b = 0; b < g->slots[1]; b++, to += g->slot_pitch) {
            int64_t row = g->forward ? top * g->stride[0] + a - g->s.pad[1] : top - g->reach[0];
            int64_t col = g->forward ? left * g->stride[1] + b - g->s.pad[2] : left - g->reach[1];
            range in = range_inside(col, g->stride[1], cols, g->src[1]);
            float *out = to;
            for (int64_t i = 0; i < rows; i++, row += g->stride[0], out += g->width) {
                range here = row < 0 || row >= g->src[0] ? (range){0, 0} : in;
                const float *x = here.end ? from + (row * g->src[1] + col + in.begin * g->stride[1]) * PITCH : from;
                copy_pixels(out, x, here, g->stride[1], cols, norm);
            }
        }
}

typedef struct btask {
    int64_t image, images, group, part;
    int64_t first[2], count[2]; /* rows and columns of the result */
    int64_t origin[2];          /* position that x begins with */
    int64_t positions[2];       /* that the rows and columns span, with their reach */
    const float *x;             /* data of the first image, for the group */
} btask;

/* Task `index`, its data where they are. */
static inline btask btask_at(const bconv *g, int64_t index, const float *x)
{
    int64_t part = index % g->parts, strip = index / g->parts, i = strip / g->strips[1] / g->strips[0];
    int64_t col = strip % g->strips[1], row = strip / g->strips[1] % g->strips[0];
    btask t = {.image = i / g->groups * g->task_images, .group = i % g->groups, .part = part,
               .first = {row * g->strip[0], col * g->strip[1]}};
    t.images = min_of(g->task_images, g->images - t.image);
    for (int a = 0; a < 2; a++) {
        t.count[a] = min_of(g->strip[a], g->dst[a] - t.first[a]);
        t.origin[a] = g->packed ? bconv_at(g, a, t.first[a]) : g->forward ? 0 : g->reach[a];
        t.positions[a] = bconv_at(g, a, t.first[a] + t.count[a] - 1) - t.origin[a] + 1 + g->reach[a];
    }
    t.x = x + (t.image * g->groups + t.group) * g->blocks * g->src[0] * g->src[1] * PITCH;
    return t;
}

/* Copies the data of a task into `pack` (image_pitch * task_images floats) where that is needed. norm: [groups * blocks]
 * or NULL. */
static inline void btask_pack(const bconv *g, btask *t, float *pack, const conv_norm *norm)
{
    int64_t plane = g->src[0] * g->src[1] * PITCH;
    if (!g->packed)
        return;
    for (int64_t n = 0; n < t->images; n++)
        for (int64_t b = 0; b < g->blocks; b++)
            copy_slots(g, pack + n * g->image_pitch + b * g->block_pitch, t->x + (n * g->groups * g->blocks + b) * plane,
                       t->origin[0], t->positions[0], t->origin[1], t->positions[1],
                       norm ? norm + t->group * g->blocks + b : NULL);
    t->x = pack;
}

/* Where a task's data (blocked) lie: `chunks` stretches of `lines` pixels, `pitch` floats apart. None when they are not
 * whole rows. */
typedef struct stretches {
    const float *at;
    int64_t chunks, lines, pitch;
} stretches;
static inline stretches btask_data(const bconv *g, const btask *t)
{
    int64_t first = t->origin[0] * g->stride[0] - (g->forward ? g->s.pad[1] : g->reach[0]);
    int64_t last = first + (t->positions[0] - 1) * g->stride[0] + g->slots[0] - 1, plane = g->src[0] * g->src[1] * PITCH;
    first = max_of(first, 0);
    last = min_of(last, g->src[0] - 1);
    if (g->strips[1] > 1 || last < first || g->groups > 1)
        return (stretches){0};
    return (stretches){.at = t->x + first * g->src[1] * PITCH, .chunks = t->images * g->blocks,
                       .lines = (last - first + 1) * g->src[1], .pitch = plane};
}

/* The elements i of [begin, end) of a result axis that are in phase p: the first, and how many. */
static inline int64_t bconv_phase(const bconv *g, int axis, int64_t p, int64_t begin, int64_t end, int64_t *first)
{
    int64_t step = g->step[axis];
    *first = begin + ((p - begin - g->shift[axis]) % step + step) % step;
    return *first < end ? (end - 1 - *first) / step + 1 : 0;
}

#endif
