/* attention_simd.c - Attention without its matrix of scores.
 *
 * A head is one task. Keys and values come in blocks, rearranged as panels; for some queries at a time the scores against a
 * block are made, turned into shares by the largest score and the sum so far, and multiplied by the values; what earlier
 * blocks gave is scaled when the largest score grows (Milakov, Gimelshein, "Online normalizer calculation for softmax",
 * 2018; Dao et al., "FlashAttention", 2022, algorithm 1). */
#include "kernels/cpu/attention.h"
#include "kernels/cpu/gemm_tile.h"
#include "kernels/cpu/vmath.h"

#include <math.h>

enum { QUERIES = 48, KEYS = 512, SERIAL_WORK = 1 << 18 };

typedef struct job {
    attention_sizes s;
    const float *q, *k, *v, *mask;
    float *y, *log_sums;
    int64_t block, pitch;        /* keys of a block; floats of a row of scores */
    int64_t value_pitch;         /* floats of a row of sums */
    int threads;
} job;

typedef struct scratch { /* of one thread */
    float *keys, *values;    /* panels */
    float *scores;           /* [QUERIES][pitch] */
    float *sums;             /* [queries][value_pitch] */
    float *largest, *shares; /* [queries]: largest score and sum of exp(score - largest) so far */
} scratch;

static bool plan(job *j, const kernel_args *a)
{
    *j = (job){.s = attention_sizes_of(a)};
    const attention_sizes *s = &j->s;
    j->block = max_of(1, min_of(s->keys, KEYS));
    j->pitch = round_up(j->block, LANES);
    j->value_pitch = round_up(s->value_width, LANES);
    double work = (double)(s->batch * s->heads) * (double)(s->queries * s->keys) * (double)(s->width + s->value_width);
    j->threads = work > SERIAL_WORK ? (int)min_of(a->threads, s->batch * s->heads) : 1;
    return s->batch * s->heads * s->queries * s->value_width > 0;
}

static size_t carve_scratch(const job *j, void *work, int thread, scratch *t)
{
    carver c = {.base = work};
    for (int i = 0; i <= thread; i++) {
        t->keys = carve(&c, j->pitch * j->s.width, sizeof(float));
        t->values = carve(&c, j->block * j->value_pitch, sizeof(float));
        t->scores = carve(&c, QUERIES * j->pitch, sizeof(float));
        t->sums = carve(&c, j->s.queries * j->value_pitch, sizeof(float));
        t->largest = carve(&c, j->s.queries, sizeof(float));
        t->shares = carve(&c, j->s.queries, sizeof(float));
    }
    return c.used;
}

/* Vectors in panels of up to GEMM_VECTORS, shared out evenly. */
static int64_t panels_of(int64_t vectors)
{
    return (vectors + GEMM_VECTORS - 1) / GEMM_VECTORS;
}

/* to: panels [width][lanes] of keys, a key a column. */
static void pack_keys(float *to, const float *k, int64_t step, int64_t width, int64_t keys)
{
    int64_t vectors = (keys + LANES - 1) / LANES, panels = panels_of(vectors);
    for (int64_t p = 0; p < panels; p++) {
        int64_t first = p * vectors / panels, lanes = ((p + 1) * vectors / panels - first) * LANES;
        for (int64_t i = 0; i < lanes; i += LANES)
            for (int64_t d = 0; d < width; d += LANES) {
                int64_t cols = min_of(LANES, keys - first * LANES - i), rows = min_of(LANES, width - d);
                const float *from = k + (first * LANES + i) * step + d;
                float edge[LANES][LANES] = {{0}};
                vec r[LANES];
                bool whole = cols == LANES && rows == LANES;
                for (int64_t l = 0; !whole && l < cols; l++)
                    copy_floats(edge[l], from + l * step, rows);
#pragma GCC unroll 16
                for (int l = 0; l < LANES; l++)
                    r[l] = vec_load(whole ? from + l * step : edge[l]);
                vec_transpose(r);
#pragma GCC unroll 16
                for (int l = 0; l < LANES; l++)
                    if (l < rows)
                        vec_store(to + (d + l) * lanes + i, r[l]);
            }
        to += lanes * width;
    }
}

/* to: panels [keys][lanes] of the columns of v [keys][step], of which there are `width`. */
static void pack_values(float *to, const float *v, int64_t step, int64_t width, int64_t keys)
{
    int64_t vectors = (width + LANES - 1) / LANES, panels = panels_of(vectors);
    for (int64_t p = 0; p < panels; p++) {
        int64_t first = p * vectors / panels * LANES, lanes = (p + 1) * vectors / panels * LANES - first;
        int64_t valid = min_of(lanes, width - first);
        for (int64_t i = 0; i < keys; i++, to += lanes) {
            copy_floats(to, v + i * step + first, valid);
            for (int64_t l = valid; l < lanes; l++)
                to[l] = 0;
        }
    }
}

/* y [rows][y_step] (+)= a [rows][a_step] (or, `columns`, a [terms][a_step]) times the panels of `vectors` vectors. */
static void multiply(float *y, int64_t y_step, const float *a, int64_t a_step, bool columns, const float *panels,
                     int64_t vectors, int64_t rows, int64_t terms, bool add)
{
    int64_t count = panels_of(vectors);
    for (int64_t p = 0; p < count; p++) {
        int64_t first = p * vectors / count, V = (p + 1) * vectors / count - first;
        gemm_tile t = {.k = terms, .a = a, .a_step = a_step, .b = panels + first * LANES * terms, .b_step = V * LANES,
                       .y = y + first * LANES, .y_step = y_step, .add = add};
        gemm_tile_rows(t, (int)V, rows, columns);
    }
}

/* One row of scores becomes exp(score - largest); sums so far are scaled to the new largest. */
static void take_shares(const job *j, float *score, int64_t keys, const float *mask, float *sums, float *largest, float *shares,
                        bool first)
{
    const float scale = (float)j->s.scale;
    float max = first ? -INFINITY : *largest, sum = 0;
    if (mask && j->s.mask[3])
        for (int64_t i = 0; i < keys; i++)
            score[i] = scale * score[i] + mask[i];
    else if (mask)
        for (int64_t i = 0; i < keys; i++)
            score[i] = scale * score[i] + mask[0];
    else
        for (int64_t i = 0; i < keys; i++)
            score[i] = scale * score[i];
    _Pragma("omp simd reduction(max : max)") for (int64_t i = 0; i < keys; i++) max = score[i] > max ? score[i] : max;
    const float shift = max == -INFINITY ? 0 : max; /* nothing is let through yet: all shares are 0 */
    _Pragma("omp simd reduction(+ : sum)") for (int64_t i = 0; i < keys; i++)
    {
        score[i] = v_exp(score[i] - shift);
        sum += score[i];
    }
    if (!first && *largest != max) {
        const float factor = v_exp(*largest - shift);
        *shares *= factor;
        for (int64_t d = 0; d < j->value_pitch; d++)
            sums[d] *= factor;
    }
    *shares = first ? sum : *shares + sum;
    *largest = max;
}

static void run_head(const job *j, const scratch *t, int64_t batch, int64_t head)
{
    const attention_sizes *s = &j->s;
    const float *q = j->q + head_offset(&s->q, batch, head), *k = j->k + head_offset(&s->k, batch, head);
    const float *v = j->v + head_offset(&s->v, batch, head);
    const float *mask = j->mask ? j->mask + batch * s->mask[0] + head * s->mask[1] : NULL;
    float *y = j->y + head_offset(&s->y, batch, head);
    for (int64_t k0 = 0; k0 == 0 || k0 < s->keys; k0 += j->block) {
        int64_t keys = min_of(j->block, s->keys - k0);
        pack_keys(t->keys, k + k0 * s->k.token, s->k.token, s->width, keys);
        pack_values(t->values, v + k0 * s->v.token, s->v.token, s->value_width, keys);
        for (int64_t i = 0; i < s->queries; i += QUERIES) {
            int64_t rows = min_of(QUERIES, s->queries - i);
            multiply(t->scores, j->pitch, q + i * s->q.token, s->q.token, false, t->keys, (keys + LANES - 1) / LANES, rows,
                     s->width, false);
            for (int64_t r = 0; r < rows; r++)
                take_shares(j, t->scores + r * j->pitch, keys, mask ? mask + (i + r) * s->mask[2] + k0 * s->mask[3] : NULL,
                            t->sums + (i + r) * j->value_pitch, t->largest + i + r, t->shares + i + r, k0 == 0);
            multiply(t->sums + i * j->value_pitch, j->value_pitch, t->scores, j->pitch, false, t->values, j->value_pitch / LANES,
                     rows, keys, k0 > 0);
        }
    }
    for (int64_t i = 0; i < s->queries; i++) {
        const float *sums = t->sums + i * j->value_pitch, share = 1 / t->shares[i];
        for (int64_t d = 0; d < s->value_width; d++)
            y[i * s->y.token + d] = sums[d] * share;
        if (j->log_sums)
            j->log_sums[(batch * s->heads + head) * s->queries + i] = t->largest[i] + v_log(t->shares[i]);
    }
}

static size_t workspace(const kernel_args *a)
{
    job j;
    scratch t = {0};
    plan(&j, a);
    return carve_scratch(&j, NULL, j.threads - 1, &t);
}

static void run_part(const job *j, void *work, int part)
{
    scratch t = {0};
    int64_t tasks = j->s.batch * j->s.heads;
    carve_scratch(j, work, part, &t);
    for (int64_t i = part * tasks / j->threads; i < (part + 1) * tasks / j->threads; i++)
        run_head(j, &t, i / j->s.heads, i % j->s.heads);
}

static void attention(const kernel_args *a)
{
    job j;
    if (!plan(&j, a))
        return;
    j.q = a->in[0].data;
    j.k = a->in[1].data;
    j.v = a->in[2].data;
    j.mask = a->n_in > 3 ? a->in[3].data : NULL;
    j.y = a->out[0].data;
    j.log_sums = a->n_out > 1 ? a->out[1].data : NULL;
    if (j.threads == 1) {
        run_part(&j, a->work, 0);
        return;
    }
#pragma omp parallel num_threads(j.threads)
    for (int part = omp_get_thread_num(); part < j.threads; part += omp_get_num_threads())
        run_part(&j, a->work, part);
}

/* ---- gradient: scores are made anew from the log of their sums ---- */

typedef struct back {
    attention_sizes s;
    const float *q, *k, *v, *y, *dy, *log_sums, *mask;
    float *dq, *dk, *dv;
    int64_t block, pitch, width, value_width; /* keys of a block, rounded; widths, rounded */
    int threads;
} back;

typedef struct back_scratch { /* of one thread */
    float *keys, *values, *rows; /* panels: K^T and V^T of a block, K of a block */
    float *queries, *slopes;     /* panels: Q and dy of some rows */
    float *shares, *ds;          /* [QUERIES][pitch] */
    float *dq, *dk, *dv;         /* sums [queries][width], [block][width], [block][value width] */
} back_scratch;

static bool back_plan(back *j, const kernel_args *a)
{
    *j = (back){.s = attention_grad_sizes_of(a)};
    const attention_sizes *s = &j->s;
    j->block = max_of(1, min_of(s->keys, KEYS));
    j->pitch = round_up(j->block, LANES);
    j->width = round_up(s->width, LANES);
    j->value_width = round_up(s->value_width, LANES);
    double work = (double)(s->batch * s->heads) * (double)(s->queries * s->keys) * (double)(s->width + s->value_width);
    j->threads = work > SERIAL_WORK ? (int)min_of(a->threads, s->batch * s->heads) : 1;
    return s->batch * s->heads > 0;
}

static size_t back_carve(const back *j, void *work, int thread, back_scratch *t)
{
    carver c = {.base = work};
    for (int i = 0; i <= thread; i++) {
        t->keys = carve(&c, j->pitch * j->width, sizeof(float));
        t->values = carve(&c, j->pitch * j->value_width, sizeof(float));
        t->rows = carve(&c, j->block * j->width, sizeof(float));
        t->queries = carve(&c, QUERIES * j->width, sizeof(float));
        t->slopes = carve(&c, QUERIES * j->value_width, sizeof(float));
        t->shares = carve(&c, QUERIES * j->pitch, sizeof(float));
        t->ds = carve(&c, QUERIES * j->pitch, sizeof(float));
        t->dq = carve(&c, j->s.queries * j->width, sizeof(float));
        t->dk = carve(&c, j->block * j->width, sizeof(float));
        t->dv = carve(&c, j->block * j->value_width, sizeof(float));
    }
    return c.used;
}

/* A row of scores becomes shares, dP [keys] becomes dS. */
static void take_slopes(float scale, float *score, float *dp, int64_t keys, const float *mask, int64_t mask_step, float log_sum,
                        float delta)
{
    for (int64_t i = 0; mask && i < keys; i++)
        score[i] = scale * score[i] + mask[i * mask_step];
    for (int64_t i = 0; !mask && i < keys; i++)
        score[i] = scale * score[i];
    _Pragma("omp simd") for (int64_t i = 0; i < keys; i++)
    {
        score[i] = v_exp(score[i] - log_sum);
        dp[i] = scale * score[i] * (dp[i] - delta);
    }
}

static void back_rows(const back *j, const back_scratch *t, int64_t batch, int64_t head, int64_t i, int64_t rows, int64_t k0,
                      int64_t keys)
{
    const attention_sizes *s = &j->s;
    const float *q = j->q + head_offset(&s->q, batch, head) + i * s->q.token;
    const int64_t at = head_offset(&s->y, batch, head) + i * s->y.token, columns = (keys + LANES - 1) / LANES;
    const float *dy = j->dy + at, *y = j->y + at;
    const float *mask = j->mask ? j->mask + batch * s->mask[0] + head * s->mask[1] + k0 * s->mask[3] : NULL;
    pack_values(t->queries, q, s->q.token, s->width, rows);
    pack_values(t->slopes, dy, s->y.token, s->value_width, rows);
    multiply(t->shares, j->pitch, q, s->q.token, false, t->keys, columns, rows, s->width, false);
    multiply(t->ds, j->pitch, dy, s->y.token, false, t->values, columns, rows, s->value_width, false);
    for (int64_t r = 0; r < rows; r++) {
        float delta = 0;
        for (int64_t d = 0; d < s->value_width; d++)
            delta += y[r * s->y.token + d] * dy[r * s->y.token + d];
        take_slopes((float)s->scale, t->shares + r * j->pitch, t->ds + r * j->pitch, keys,
                    mask ? mask + (i + r) * s->mask[2] : NULL, s->mask[3],
                    j->log_sums[(batch * s->heads + head) * s->queries + i + r], delta);
    }
    multiply(t->dq + i * j->width, j->width, t->ds, j->pitch, false, t->rows, j->width / LANES, rows, keys, k0 > 0);
    multiply(t->dk, j->width, t->ds, j->pitch, true, t->queries, j->width / LANES, keys, rows, i > 0);
    multiply(t->dv, j->value_width, t->shares, j->pitch, true, t->slopes, j->value_width / LANES, keys, rows, i > 0);
}

static void write_rows(float *to, int64_t step, const float *from, int64_t pitch, int64_t width, int64_t rows, bool any)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t d = 0; d < width; d++)
            to[r * step + d] = any ? from[r * pitch + d] : 0;
}

static void back_head(const back *j, const back_scratch *t, int64_t batch, int64_t head)
{
    const attention_sizes *s = &j->s;
    const int64_t k = head_offset(&s->k, batch, head), v = head_offset(&s->v, batch, head);
    for (int64_t k0 = 0; k0 < s->keys; k0 += j->block) {
        const int64_t keys = min_of(j->block, s->keys - k0), at = k + k0 * s->k.token, at_v = v + k0 * s->v.token;
        pack_keys(t->keys, j->k + at, s->k.token, s->width, keys);
        pack_keys(t->values, j->v + at_v, s->v.token, s->value_width, keys);
        pack_values(t->rows, j->k + at, s->k.token, s->width, keys);
        for (int64_t i = 0; i < s->queries; i += QUERIES)
            back_rows(j, t, batch, head, i, min_of(QUERIES, s->queries - i), k0, keys);
        write_rows(j->dk + at, s->k.token, t->dk, j->width, s->width, keys, s->queries > 0);
        write_rows(j->dv + at_v, s->v.token, t->dv, j->value_width, s->value_width, keys, s->queries > 0);
    }
    write_rows(j->dq + head_offset(&s->q, batch, head), s->q.token, t->dq, j->width, s->width, s->queries, s->keys > 0);
}

static size_t back_workspace(const kernel_args *a)
{
    back j;
    back_scratch t = {0};
    back_plan(&j, a);
    return back_carve(&j, NULL, j.threads - 1, &t);
}

static void back_part(const back *j, void *work, int part)
{
    back_scratch t = {0};
    int64_t tasks = j->s.batch * j->s.heads;
    back_carve(j, work, part, &t);
    for (int64_t i = part * tasks / j->threads; i < (part + 1) * tasks / j->threads; i++)
        back_head(j, &t, i / j->s.heads, i % j->s.heads);
}

static void attention_grad(const kernel_args *a)
{
    back j;
    if (!back_plan(&j, a))
        return;
    const float **in[] = {&j.q, &j.k, &j.v, &j.y, &j.dy, &j.log_sums, &j.mask};
    for (int i = 0; i < a->n_in; i++)
        *in[i] = a->in[i].data;
    j.dq = a->out[0].data;
    j.dk = a->out[1].data;
    j.dv = a->out[2].data;
    if (j.threads == 1) {
        back_part(&j, a->work, 0);
        return;
    }
#pragma omp parallel num_threads(j.threads)
    for (int part = omp_get_thread_num(); part < j.threads; part += omp_get_num_threads())
        back_part(&j, a->work, part);
}

KERNEL_TABLE(attention) = {{OP_ATTENTION, REAL_DTYPE, REAL_ISA, "attention", attention, workspace, NULL},
                           {OP_ATTENTION_GRAD, REAL_DTYPE, REAL_ISA, "attention_grad", attention_grad, back_workspace, NULL},
                           KERNEL_END};
