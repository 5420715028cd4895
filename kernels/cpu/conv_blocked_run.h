/* conv_blocked_run.h - runs the tasks of conv_blocked.h with the tiles of conv_tile.h: the body of conv_blocked_simd.c (data
 * blocked) and conv_entry_simd.c (data plain).
 *
 * The weights are packed, channels of the result innermost, once per call or, constant ones, once and for all. Every
 * result is one sum in a fixed order: threads change nothing. */
#ifndef DISTILL_KERNELS_CONV_BLOCKED_RUN_H
#define DISTILL_KERNELS_CONV_BLOCKED_RUN_H

#include "kernels/cpu/conv_blocked.h"
#include "kernels/cpu/conv_tile.h"
#include "kernels/cpu/parallel.h"

typedef struct run_list { /* of one phase, for tiles of V vectors */
    int64_t q, begin, wide, narrow;
} run_list;

typedef struct job {
    bconv g;
    int64_t runs_most; /* of a task */
    int64_t pack_size; /* floats of a thread */
    int threads;
    /* parts of the workspace, or prepared */
    bconv_tables t;
    float *w;         /* [groups][panels][entries][PITCH][vectors of the panel * LANES] */
    /* parts of the workspace */
    conv_norm *norm;  /* [groups * blocks]; NULL: none */
    float *bias;      /* [groups * vectors * LANES] */
    float *pack;      /* per thread, like the next two */
    tile_run *runs;   /* [TILE_VECTORS][runs_most] */
    run_list *lists;  /* [TILE_VECTORS][phases] */
    /* operands */
    const float *x, *weight, *weight_end;
    conv_epilogue end;
    float *y;
} job;

static bool plan(job *j, const kernel_args *a, const shape *x, const shape *y, bool forward)
{
    *j = (job){0};
    bconv *g = &j->g;
    if (!bconv_make(g, a->attr, x, y, forward, TILE_VECTORS, has_norm(a, NORM_OF_CONV)))
        return false;
    j->runs_most = g->task_images * g->strip[0] * g->strip[1];
    j->pack_size = round_up(g->packed ? g->task_images * g->image_pitch : 0, 16);
    return true;
}

static void carve_weights(job *j, carver *c)
{
    const bconv *g = &j->g;
    j->t.off = carve(c, g->entries, sizeof *j->t.off);
    j->t.phase = carve(c, g->phases + 1, sizeof *j->t.phase);
    j->t.tap_first = carve(c, g->taps, sizeof *j->t.tap_first);
    j->t.tap_step = carve(c, g->taps, sizeof *j->t.tap_step);
    j->w = carve(c, g->groups * g->vectors * LANES * g->entries * PITCH, sizeof *j->w);
}

static size_t carve_job(job *j, const kernel_args *a, void *work)
{
    const bconv *g = &j->g;
    carver c = {.base = work};
    int threads = a->threads;
    carve_weights(j, &c);
    j->norm = has_norm(a, NORM_OF_CONV) ? carve(&c, g->groups * g->blocks, sizeof *j->norm) : NULL;
    j->bias = carve(&c, g->groups * g->vectors * LANES, sizeof *j->bias);
    j->pack = carve(&c, j->pack_size * threads, sizeof *j->pack);
    j->runs = carve(&c, TILE_VECTORS * j->runs_most * threads, sizeof *j->runs);
    j->lists = carve(&c, TILE_VECTORS * g->phases * threads, sizeof *j->lists);
    return c.used;
}

/* ---- weights ---- */

/* Where channel `r` of the data meets tap t in the packed panel. */
static inline int64_t packed_row(const job *j, int64_t r, int64_t t)
{
    return (j->t.tap_first[t] + r / PITCH * j->t.tap_step[t]) * PITCH + r % PITCH;
}

/* One vector of channels of the result, forward: rows of weights lie side by side, data channel by data channel. */
static void pack_forward(const job *j, const float *from, int64_t rows, float *to, int64_t pitch)
{
    int64_t length = j->g.reduce * j->g.taps, r = 0, t = 0;
    for (int64_t k = 0; k < length; k += LANES) {
        vec v[LANES];
        load_rows(v, from + k, length, rows, j->weight_end);
        vec_transpose(v);
        for (int64_t i = 0; i < min_of(LANES, length - k); i++) {
            vec_store(to + packed_row(j, r, t) * pitch, v[i]);
            if (++t == j->g.taps) {
                t = 0;
                r++;
            }
        }
    }
}

/* The same, backward: for every channel of the gradients, the taps of neighbouring channels of the result. */
static void pack_backward(const job *j, const float *from, int64_t rows, float *to, int64_t pitch)
{
    int64_t taps = j->g.taps, next = j->g.produce * taps;
    for (int64_t r = 0; r < j->g.reduce; r++, from += next) {
        if (taps == 1) {
            vec_store(to + packed_row(j, r, 0) * pitch, rows == LANES ? vec_load(from) : load_channels(from, 0, rows));
            continue;
        }
        for (int64_t t = 0; t < taps; t += LANES) {
            vec v[LANES];
            load_rows(v, from + t, taps, rows, j->weight_end);
            vec_transpose(v);
            for (int64_t i = 0; i < min_of(LANES, taps - t); i++)
                vec_store(to + packed_row(j, r, t + i) * pitch, v[i]);
        }
    }
}

/* The same for merged groups: zeros where the channels are of different groups. */
static void pack_merged(const job *j, int64_t group, int64_t first, int64_t rows, float *to, int64_t pitch)
{
    const bconv *g = &j->g;
    int64_t reduce = g->reduce / g->merged, produce = g->produce / g->merged, taps = g->taps;
    for (int64_t r = 0; r < g->reduce; r++)
        for (int64_t t = 0; t < taps; t++) {
            float v[LANES] = {0};
            for (int64_t i = 0; i < rows; i++) {
                int64_t part = (first + i) / produce, p = (first + i) % produce, q = r % reduce;
                if (part != r / reduce)
                    continue;
                const float *w = j->weight + (group * g->merged + part) * reduce * produce * taps;
                v[i] = w[(g->forward ? p * reduce + q : q * produce + p) * taps + t];
            }
            vec_store(to + packed_row(j, r, t) * pitch, vec_load(v));
        }
}

/* Vector `v` of channels of the result of a group. */
static void pack_vector(const job *j, int64_t group, int64_t v)
{
    const bconv *g = &j->g;
    int64_t panel = 0;
    while (panel_begin(g, panel + 1) <= v)
        panel++;
    int64_t first = panel_begin(g, panel), pitch = (panel_begin(g, panel + 1) - first) * LANES;
    int64_t rows = min_of(LANES, g->produce - v * LANES), step = g->forward ? g->reduce * g->taps : g->taps;
    float *to = j->w + (group * g->vectors + first) * LANES * g->entries * PITCH + (v - first) * LANES;
    const float *from = j->weight + group * g->reduce * g->produce * g->taps + v * LANES * step;
    if (g->merged > 1)
        pack_merged(j, group, v * LANES, rows, to, pitch);
    else if (g->forward)
        pack_forward(j, from, rows, to, pitch);
    else
        pack_backward(j, from, rows, to, pitch);
}

/* ---- tasks ---- */

/* The runs of phase p for tiles of V vectors, from place `begin` of the thread's list on. */
static run_list list_runs(const job *j, const btask *t, int64_t p, int V, int64_t begin, tile_run *runs, row_cut *cut)
{
    const bconv *g = &j->g;
    int64_t first, count = bconv_phase(g, 1, p % g->step[1], t->first[1], t->first[1] + t->count[1], &first), at = begin;
    int64_t image_y = g->groups * g->vectors * g->dst[0] * g->dst[1] * LANES, step = g->step[1] * LANES;
    if (count == 0)
        return (run_list){.q = 1, .begin = begin};
    if (cut->count != count)
        *cut = cut_row(V, count);
    run_list l = {.q = cut->q, .begin = begin};
    for (int pass = 0; pass < 2; pass++) {
        int64_t q = cut->q - pass, n = pass ? cut->narrow : cut->wide, skip = pass ? cut->wide * cut->q : 0;
        for (int64_t i = 0; i < t->images; i++)
            for (int64_t row = t->first[0]; row < t->first[0] + t->count[0]; row++) {
                if ((row + g->shift[0]) % g->step[0] != p / g->step[1])
                    continue;
                tile_run r = {.x = i * g->image_pitch + (bconv_at(g, 0, row) - t->origin[0]) * g->width +
                                   (bconv_at(g, 1, first) - t->origin[1] + skip) * PITCH,
                              .y = i * image_y + (row * g->dst[1] + first) * LANES + skip * step};
                for (int64_t k = 0; k < n; k++, r.x += q * PITCH, r.y += q * step)
                    runs[at++] = r;
            }
        *(pass ? &l.narrow : &l.wide) = at - begin - (pass ? l.wide : 0);
    }
    return l;
}

/* Sums of the pixels of phase p for one panel. */
static void sum_phase(const job *j, int64_t p, int V, tile_sum s, const tile_run *runs, const run_list *l)
{
    const bconv *g = &j->g;
    int64_t begin = j->t.phase[p], end = j->t.phase[p + 1], rest = PITCH > 1 ? g->reduce % PITCH : 0;
    int64_t full = rest ? end - (end - begin) / g->blocks : end; /* entries of full blocks */
    const float *w = s.w;
    for (int64_t e = begin; e == begin || e < end; e += s.count) {
        s.count = min_of(ENTRY_BLOCK, (e < full ? full : end) - e);
        s.lanes = e < full ? PITCH : rest;
        s.off = j->t.off + e;
        s.w = w + e * PITCH * V * LANES;
        s.first = e == begin;
        s.last = e + s.count >= end;
        tile_runs(&s, V, l->q, runs + l->begin, l->wide);
        if (l->narrow)
            tile_runs(&s, V, l->q - 1, runs + l->begin + l->wide, l->narrow);
        if (begin == end)
            break;
    }
}

/* The data that this thread will copy next, most likely. */
static tile_ahead look_at(const job *j, int64_t index)
{
    const bconv *g = &j->g;
    if (PITCH == 1 || !g->packed || g->parts > 1 || g->slots[0] < g->stride[0] || index + j->threads >= g->tasks)
        return (tile_ahead){0};
    btask t = btask_at(g, index + j->threads, j->x);
    stretches d = btask_data(g, &t);
    int64_t lines = d.chunks * d.lines, vectors = t.images * t.count[0] * t.count[1] * g->vectors;
    double tiles = (double)vectors / TILE_PIXELS * (double)((g->entries + ENTRY_BLOCK - 1) / ENTRY_BLOCK) * 0.8;
    return (tile_ahead){.at = d.at, .left = d.lines, .lines = d.lines, .jump = d.pitch - d.lines * PITCH,
                        .each = (int64_t)((double)lines / (tiles > 1 ? tiles : 1)) + 1, .rest = lines};
}

static void run_task(const job *j, int64_t index, int thread)
{
    const bconv *g = &j->g;
    btask t = btask_at(g, index, j->x);
    tile_ahead later = look_at(j, index);
    btask_pack(g, &t, j->pack + thread * j->pack_size, j->norm);
    tile_run *runs = j->runs + thread * TILE_VECTORS * j->runs_most;
    run_list *lists = j->lists + thread * TILE_VECTORS * g->phases;
    bool listed[TILE_VECTORS] = {false};
    int64_t plane = g->dst[0] * g->dst[1] * LANES;
    for (int64_t panel = t.part * g->panels / g->parts; panel < (t.part + 1) * g->panels / g->parts; panel++) {
        int64_t first = panel_begin(g, panel), vector = t.group * g->vectors + first;
        int V = (int)(panel_begin(g, panel + 1) - first);
        run_list *l = lists + (V - 1) * g->phases;
        tile_run *r = runs + (V - 1) * j->runs_most;
        if (!listed[V - 1]) {
            row_cut cut = {0};
            int64_t at = 0;
            for (int64_t p = 0; p < g->phases; p++) {
                l[p] = list_runs(j, &t, p, V, at, r, &cut);
                at += l[p].wide + l[p].narrow;
            }
            listed[V - 1] = true;
        }
        tile_sum s = {.x = t.x, .y = j->y + (t.image * g->groups * g->vectors + vector) * plane, .step = g->step[1] * LANES,
                      .plane = plane, .w = j->w + vector * LANES * g->entries * PITCH, .bias = j->bias + vector * LANES,
                      .end = &j->end, .ahead = !g->packed,
                      .later = &later};
        for (int64_t p = 0; p < g->phases; p++)
            sum_phase(j, p, V, s, r, &l[p]);
    }
}

static void set_weights(job *j, const kernel_args *a)
{
    j->weight = a->in[1].data;
    j->weight_end = j->weight + shape_count(&a->in[1].sh);
    bconv_list(&j->g, &j->t);
}

static void run(job *j, const kernel_args *a)
{
    const bconv *g = &j->g;
    int64_t packs = a->prepared ? 0 : g->groups * g->vectors;
    carve_job(j, a, a->work);
    if (j->norm)
        list_norms(a, NORM_OF_CONV, j->norm);
    if (a->prepared)
        carve_weights(j, &(carver){.base = (char *)(uintptr_t)a->prepared}); /* is only read */
    else
        set_weights(j, a);
    j->threads = a->threads;
    j->x = a->in[0].data;
    j->y = a->out[0].data;
    j->end.y = j->y;
    j->end.bias = j->bias;
    conv_pack_bias(a->n_in > 2 ? a->in[2].data : NULL, g->groups, g->produce, j->bias);
#pragma omp parallel num_threads(a->threads) if (a->threads > 1 && (g->tasks > 1 || packs > 1))
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < packs; i++)
            pack_vector(j, i / g->vectors, i % g->vectors);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < g->tasks; i++)
            run_task(j, i, omp_get_thread_num());
    }
}

/* Bytes of the packed weights, where they are constant. */
static size_t prepared_size(job *j, const kernel_args *a)
{
    carver c = {.base = NULL};
    if (!a->in[1].data)
        return 0;
    carve_weights(j, &c);
    return c.used;
}

static void prepare(job *j, const kernel_args *a, void *to)
{
    const bconv *g = &j->g;
    carve_weights(j, &(carver){.base = to});
    set_weights(j, a);
#pragma omp parallel for num_threads(a->threads) schedule(static)
    for (int64_t i = 0; i < g->groups * g->vectors; i++)
        pack_vector(j, i / g->vectors, i % g->vectors);
}

/* ---- what it takes ---- */

enum { CYCLES_PIXEL = 4, CYCLES_RUN = 6 }; /* of writing, and of copying, a vector of a pixel; of a tile's run */

/* Estimated cycles of one core. */
static double job_cost(const job *j)
{
    const bconv *g = &j->g;
    double cycles = 0, copied = 0;
    for (int64_t p = 0; p < g->phases; p++) {
        int64_t first, strips = g->strips[1], cols = bconv_phase(g, 1, p % g->step[1], 0, g->strip[1], &first);
        int64_t rows = bconv_phase(g, 0, p / g->step[1], 0, g->dst[0], &first);
        double depth = (double)g->reduce * (double)g->taps / (double)g->phases;
        for (int V = 1; V <= TILE_VECTORS && cols > 0; V++) {
            int64_t panels = V == 1 ? g->panels * TILE_VECTORS - g->vectors : g->vectors - g->panels;
            row_cut c = cut_row(V, cols);
            cycles += (double)(panels * rows * strips) *
                      (c.cost * depth + (double)((c.wide + c.narrow) * CYCLES_RUN + cols * V * CYCLES_PIXEL));
        }
    }
    if (g->packed)
        copied = (double)(g->strips[0] * g->strips[1] * g->parts) * (double)g->image_pitch / PITCH *
                 (PITCH > 1 ? CYCLES_PIXEL : g->stride[1] > 1 ? 1 : 0.3);
    return (cycles + copied) * (double)(g->images * g->groups) * 1.08 +
           0.6 * (double)(g->groups * g->vectors * LANES) * (double)g->entries * PITCH;
}

#endif
