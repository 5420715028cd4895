/* conv_grid.h - one form for Conv, ConvGradData and ConvTranspose over one or two spatial axes.
 *
 * Every pixel of the result is a sum over entries (channel, tap) of weights times data at a fixed distance from the
 * pixel. To get there whatever the strides,
 *   - forward: the data are copied with their padding into one plane per stride phase ("slot"), so that neighbouring
 *     pixels of the result need neighbouring data;
 *   - backward: the pixels of the result fall into stride phases, each of which sees its own taps only; the gradients
 *     are copied with zeros round them.
 * Grid positions are the pixels of the result in the forward direction, of the gradients in the backward one. */
#ifndef DISTILL_KERNELS_CONV_GRID_H
#define DISTILL_KERNELS_CONV_GRID_H

#include "kernels/cpu/simd.h"
#include "kernels/cpu/spatial.h"

#include <limits.h>

enum {
    GRID_FEWEST_TASKS = 16, /* rows are split into more strips below that */
    GRID_PHASES_MOST = 4096,
    /* Groups that make so few channels are the business of conv_flat_simd.c, the others that of conv_direct_simd.c; for
     * the weight's gradient (conv_weight_simd.c) the product of both sides' channels decides. */
    GRID_FEW_CHANNELS = LANES >= 16 ? 4 : LANES >= 8 ? 2 : 1,
    GRID_FEW_PAIRS = LANES
};

typedef struct conv_grid {
    spatial s;
    bool forward, packed;        /* packed: the data are copied; else tiles read them where they are */
    int64_t images, group;       /* of the whole call */
    int64_t reduce, produce;     /* channels of a group: summed over, made */
    int64_t src[2], dst[2];      /* rows and columns of a plane of data, of the result */
    int64_t taps, entries;       /* of the kernel; reduce * taps */
    int64_t step[2], shift[2];   /* element i of the result: position (i + shift) / step, phase (i + shift) % step */
    int64_t phases;              /* step[0] * step[1] */
    int64_t reach[2];            /* positions that a pixel's data span beyond its own */
    int64_t slots[2], stride[2]; /* planes of copied data (forward), steps through the data; else 1 */
    int64_t weight_produce, weight_reduce, weight_group; /* steps through the weight */
    int64_t width, slot_pitch, channel_pitch, image_pitch; /* floats: a row of the data that is read, and so on */
    int64_t task_images, strip, strips, tasks; /* a task: some images with all rows, or `strip` rows of one; a group */
} conv_grid;

static inline int64_t grid_at(const conv_grid *g, int axis, int64_t i)
{
    return (i + g->shift[axis]) / g->step[axis];
}

/* Whether the data can be read where they are: pixels are neighbours, and nothing outside the plane is touched. */
static inline bool grid_needs_no_copy(const conv_grid *g)
{
    for (int i = 0; i < 2; i++) {
        int64_t first = g->forward ? -g->s.pad[i + 1] : grid_at(g, i, 0) - g->reach[i];
        int64_t last = g->forward ? g->dst[i] - 1 + g->reach[i] : grid_at(g, i, g->dst[i] - 1);
        if (g->stride[i] != 1 || first < 0 || last >= g->src[i])
            return false;
    }
    return true;
}

/* Sizes of everything but the tasks. `x` and `y`: shapes of the convolution's data and windows, whatever the direction.
 * False: the shapes are not for these kernels. copy_always: the data are copied though it could be done without. */
static inline bool grid_make(conv_grid *g, const conv_attrs *at, const shape *x, const shape *y, bool forward,
                             bool copy_always)
{
    *g = (conv_grid){.s = conv_spatial(at, x, y), .forward = forward, .group = at->group};
    const spatial *s = &g->s;
    int64_t c = s->channels / s->group, m = s->outputs / s->group;
    if (x->rank > 4)
        return false;
    g->images = s->n;
    g->reduce = forward ? c : m;
    g->produce = forward ? m : c;
    g->taps = s->kernel[1] * s->kernel[2];
    g->entries = g->reduce * g->taps;
    g->weight_produce = forward ? c * g->taps : g->taps;
    g->weight_reduce = forward ? g->taps : c * g->taps;
    g->weight_group = m * c * g->taps;
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
    g->phases = g->step[0] <= GRID_PHASES_MOST ? g->step[0] * g->step[1] : g->step[0];
    g->packed = copy_always || !grid_needs_no_copy(g);
    g->width = g->packed ? grid_at(g, 1, g->dst[1] - 1) - grid_at(g, 1, 0) + 1 + g->reach[1] : g->src[1];
    if (!g->packed && g->taps == 1 && g->phases == 1 && g->src[0] == g->dst[0] && g->src[1] == g->dst[1]) {
        g->dst[1] *= g->dst[0]; /* one long row */
        g->src[1] = g->width = g->dst[1];
        g->src[0] = g->dst[0] = 1;
    }
    return g->phases <= GRID_PHASES_MOST && g->entries < INT_MAX / 4 && g->weight_group < INT_MAX / 4;
}

/* What follows from task_images and strip. False: too large. */
static inline bool grid_finish(conv_grid *g)
{
    int64_t rows = g->packed ? (g->strip + g->step[0] - 2) / g->step[0] + 1 + g->reach[0] : g->src[0];
    g->slot_pitch = rows * g->width;
    g->channel_pitch = g->slots[0] * g->slots[1] * g->slot_pitch;
    g->image_pitch = (g->packed ? g->reduce : g->reduce * g->group) * g->channel_pitch;
    g->strips = (g->dst[0] + g->strip - 1) / g->strip;
    g->tasks = (g->images + g->task_images - 1) / g->task_images * g->group * g->strips;
    return g->image_pitch < INT_MAX / 4;
}

/* Splits the work: tasks of at least `pixels` pixels where images are small, of at most about `floats` floats of copied
 * data (and of results, when `result` floats a pixel are kept). */
static inline bool grid_split(conv_grid *g, int64_t pixels, int64_t floats, int64_t result)
{
    g->task_images = max_of(1, min_of(g->images, pixels / max_of(g->dst[0] * g->dst[1], 1)));
    g->strip = g->dst[0];
    int64_t blocks = (g->images + g->task_images - 1) / g->task_images * g->group;
    if (blocks < GRID_FEWEST_TASKS && g->task_images == 1)
        g->strip = max_of(min_of(4, g->dst[0]), (g->dst[0] * blocks + GRID_FEWEST_TASKS - 1) / GRID_FEWEST_TASKS);
    if (g->packed) {
        int64_t row = (g->reduce * g->slots[0] * g->slots[1] + result * g->phases) * g->width * g->task_images;
        int64_t rows = floats / max_of(1, row) - g->reach[0];
        g->strip = min_of(g->strip, max_of(1, rows * g->step[0]));
    }
    return grid_finish(g);
}

/* Entries of all phases: off[e], how far from a pixel its data lie; weight_at[e], its place in the weight of a group and
 * produced channel. Entries of phase p are phase[p] to phase[p + 1] - 1, channels outermost. */
static inline void grid_list_entries(const conv_grid *g, int32_t *off, int32_t *weight_at, int32_t *first)
{
    const spatial *s = &g->s;
    int64_t e = 0;
    for (int64_t p = 0; p < g->phases; p++) {
        int64_t a = p / g->step[1], b = p % g->step[1];
        first[p] = (int32_t)e;
        for (int64_t r = 0; r < g->reduce; r++)
            for (int64_t t = 0; t < g->taps; t++) {
                int64_t h = t / s->kernel[2] * s->dilation[1], w = t % s->kernel[2] * s->dilation[2];
                int64_t h0 = h % s->stride[1], h1 = h / s->stride[1], w0 = w % s->stride[2], w1 = w / s->stride[2];
                if (!g->forward && (h0 != a || w0 != b))
                    continue;
                int64_t rows = g->forward ? h1 : g->reach[0] - h1, cols = g->forward ? w1 : g->reach[1] - w1;
                int64_t slot = g->forward ? h0 * g->slots[1] + w0 : 0;
                off[e] = (int32_t)(r * g->channel_pitch + slot * g->slot_pitch + rows * g->width + cols);
                weight_at[e++] = (int32_t)(r * g->weight_reduce + t);
            }
    }
    first[g->phases] = (int32_t)e;
}

/* All slots of one channel for `rows` grid rows from `top` on. */
static inline void grid_copy_plane(const conv_grid *g, float *to, const float *from, int64_t top, int64_t rows)
{
    for (int64_t a = 0; a < g->slots[0]; a++)
        for (int64_t b = 0; b < g->slots[1]; b++, to += g->slot_pitch) {
            int64_t row = g->forward ? top * g->stride[0] + a - g->s.pad[1] : top - g->reach[0];
            int64_t col = g->forward ? b - g->s.pad[2] : grid_at(g, 1, 0) - g->reach[1];
            range in_rows = range_inside(row, g->stride[0], rows, g->src[0]);
            range in = range_inside(col, g->stride[1], g->width, g->src[1]);
            const float *x = from + (row + in_rows.begin * g->stride[0]) * g->src[1] + col + in.begin * g->stride[1];
            float *out = to + in_rows.begin * g->width + in.begin;
            int64_t count = in.end - in.begin, step = g->stride[1], next = g->stride[0] * g->src[1];
            if (count < g->width || in_rows.end - in_rows.begin < rows)
                memset(to, 0, (size_t)(rows * g->width) * sizeof *to);
            for (int64_t i = in_rows.begin; i < in_rows.end; i++, x += next, out += g->width) {
                if (step == 1)
                    copy_floats(out, x, count);
                else
                    for (int64_t q = 0; q < count; q++)
                        out[q] = x[q * step];
            }
        }
}

/* What a task works on. Rows are those of the result, in each of its images. */
typedef struct grid_task {
    int64_t image, images, group, row, rows;
    int64_t origin[2]; /* grid position that x begins with */
    const float *x;    /* data of the first image, for the group */
} grid_task;

/* Task `index`; copies its data into `pack` (image_pitch * task_images floats) where that is needed. */
static inline grid_task grid_begin(const conv_grid *g, int64_t index, const float *x, float *pack)
{
    int64_t strip = index % g->strips, group = index / g->strips % g->group;
    grid_task t = {.image = index / g->strips / g->group * g->task_images, .group = group, .row = strip * g->strip};
    int64_t plane = g->src[0] * g->src[1];
    t.images = min_of(g->task_images, g->images - t.image);
    t.rows = min_of(g->strip, g->dst[0] - t.row);
    t.x = x + (t.image * g->group + group) * g->reduce * plane;
    if (!g->packed) {
        t.origin[0] = g->forward ? 0 : g->reach[0];
        t.origin[1] = g->forward ? 0 : g->reach[1];
        return t;
    }
    t.origin[0] = grid_at(g, 0, t.row);
    t.origin[1] = grid_at(g, 1, 0);
    int64_t rows = grid_at(g, 0, t.row + t.rows - 1) - t.origin[0] + 1 + g->reach[0];
    for (int64_t i = 0; i < t.images; i++)
        for (int64_t r = 0; r < g->reduce; r++)
            grid_copy_plane(g, pack + i * g->image_pitch + r * g->channel_pitch,
                            t.x + (i * g->group * g->reduce + r) * plane, t.origin[0], rows);
    t.x = pack;
    return t;
}

/* The elements i of [begin, end) of a result axis that are in phase p: the first, and how many. */
static inline int64_t grid_phase(const conv_grid *g, int axis, int64_t p, int64_t begin, int64_t end, int64_t *first)
{
    int64_t step = g->step[axis];
    *first = begin + ((p - begin - g->shift[axis]) % step + step) % step;
    return *first < end ? (end - 1 - *first) / step + 1 : 0;
}

#endif
