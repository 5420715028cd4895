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
    float *y;
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
static void pack_keys(const job *j, float *to, const float *k, int64_t keys)
{
    int64_t vectors = (keys + LANES - 1) / LANES, panels = panels_of(vectors), width = j->s.width, step = j->s.k.token;
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

/* to: panels [keys][lanes] of the values' columns. */
static void pack_values(const job *j, float *to, const float *v, int64_t keys)
{
    int64_t vectors = j->value_pitch / LANES, panels = panels_of(vectors);
    for (int64_t p = 0; p < panels; p++) {
        int64_t first = p * vectors / panels * LANES, lanes = (p + 1) * vectors / panels * LANES - first;
        int64_t valid = min_of(lanes, j->s.value_width - first);
        for (int64_t i = 0; i < keys; i++, to += lanes) {
            copy_floats(to, v + i * j->s.v.token + first, valid);
            for (int64_t l = valid; l < lanes; l++)
                to[l] = 0;
        }
    }
}

/* y [rows][y_step] (+)= a [rows][a_step] times the panels of `vectors` vectors of columns. */
static void multiply(float *y, int64_t y_step, const float *a, int64_t a_step, const float *panels, int64_t vectors,
                     int64_t rows, int64_t terms, bool add)
{
    int64_t count = panels_of(vectors);
    for (int64_t p = 0; p < count; p++) {
        int64_t first = p * vectors / count, V = (p + 1) * vectors / count - first;
        gemm_tile t = {.k = terms, .a = a, .a_step = a_step, .b = panels + first * LANES * terms, .b_step = V * LANES,
                       .y = y + first * LANES, .y_step = y_step, .add = add};
        gemm_tile_rows(t, (int)V, rows, false);
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
        pack_keys(j, t->keys, k + k0 * s->k.token, keys);
        pack_values(j, t->values, v + k0 * s->v.token, keys);
        for (int64_t i = 0; i < s->queries; i += QUERIES) {
            int64_t rows = min_of(QUERIES, s->queries - i);
            multiply(t->scores, j->pitch, q + i * s->q.token, s->q.token, t->keys, (keys + LANES - 1) / LANES, rows, s->width,
                     false);
            for (int64_t r = 0; r < rows; r++)
                take_shares(j, t->scores + r * j->pitch, keys, mask ? mask + (i + r) * s->mask[2] + k0 * s->mask[3] : NULL,
                            t->sums + (i + r) * j->value_pitch, t->largest + i + r, t->shares + i + r, k0 == 0);
            multiply(t->sums + i * j->value_pitch, j->value_pitch, t->scores, j->pitch, t->values, j->value_pitch / LANES, rows,
                     keys, k0 > 0);
        }
    }
    for (int64_t i = 0; i < s->queries; i++) {
        const float *sums = t->sums + i * j->value_pitch, share = 1 / t->shares[i];
        for (int64_t d = 0; d < s->value_width; d++)
            y[i * s->y.token + d] = sums[d] * share;
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
    if (j.threads == 1) {
        run_part(&j, a->work, 0);
        return;
    }
#pragma omp parallel num_threads(j.threads)
    for (int part = omp_get_thread_num(); part < j.threads; part += omp_get_num_threads())
        run_part(&j, a->work, part);
}

KERNEL_TABLE(attention) = {{OP_ATTENTION, REAL_DTYPE, REAL_ISA, "attention", attention, workspace, NULL}, KERNEL_END};
