/* gemm_bf16_simd.c - Linear with both matrices rounded to bfloat16 and products summed in float, for frozen graphs on
 * processors that have AVX512-BF16 (vdpbf16ps: two products a lane).
 *
 * B is a constant, rounded and rearranged once: panels of up to three vectors of columns, two terms side by side in each
 * lane. A is rounded a block of rows and terms at a time. Every result is one sum in the order of the terms, whatever
 * the threads. */
#include "kernels/cpu/gemm_finish.h"
#include "kernels/cpu/half.h"

#if defined(__AVX512F__) && !defined(__clang__)
#pragma GCC target("avx512bf16")
#include <immintrin.h>

enum { BLOCK_ROWS = 96, BLOCK_PAIRS = 384, VECTORS = 3, ROWS = 8, SERIAL_WORK = 1 << 19 };

typedef struct job {
    matrix_sizes s;
    int64_t panels, pairs; /* of all columns, of all terms */
    int threads;
    const float *a;
    const uint32_t *b; /* [panel][pairs][lanes] */
    float *y;
    gemm_finish finish;
} job;

static int64_t first_vector(const job *j, int64_t p)
{
    return p * ((j->s.n + LANES - 1) / LANES) / j->panels;
}

static bool plan(job *j, const kernel_args *a)
{
    const linear_attrs *at = a->attr;
    *j = (job){.s = linear_sizes(at, &a->in[0].sh, &a->in[1].sh),
               .finish = {.alpha = (float)at->alpha, .beta = 1, .activation = at->activation}};
    j->panels = max_of(1, ((j->s.n + LANES - 1) / LANES + VECTORS - 1) / VECTORS);
    j->pairs = (j->s.k + 1) / 2;
    j->threads = j->s.m * j->s.n * j->s.k > SERIAL_WORK ? a->threads : 1;
    return j->s.m * j->s.n * j->s.k > 0;
}

static bool takes(const kernel_args *a)
{
    const linear_attrs *at = a->attr;
    job j;
    return at->precision == PRECISION_BF16 && !at->transA && __builtin_cpu_supports("avx512bf16") && plan(&j, a);
}

/* ---- rounding ---- */

static size_t packed_bytes(const kernel_args *a)
{
    job j;
    return plan(&j, a) ? (size_t)(round_up(j.s.n, LANES) * j.pairs) * sizeof(uint32_t) : 0;
}
static size_t prepared(const kernel_args *a)
{
    return a->in[1].data && !a->in[0].data ? packed_bytes(a) : 0;
}

static void pack(const kernel_args *a, void *to)
{
    job j;
    uint32_t *w = to;
    const float *b = a->in[1].data;
    plan(&j, a);
    const matrix_sizes *s = &j.s;
    for (int64_t p = 0; p < j.panels; p++) {
        int64_t col = first_vector(&j, p) * LANES, lanes = first_vector(&j, p + 1) * LANES - col;
        for (int64_t k = 0; k < s->k; k += 2, w += lanes)
            for (int64_t c = 0; c < lanes; c++) {
                const float *from = b + k * s->b_row + (col + c) * s->b_col;
                bool there = col + c < s->n;
                uint32_t low = there ? half_store_BF16(from[0]) : 0;
                uint32_t high = there && k + 1 < s->k ? half_store_BF16(from[s->b_row]) : 0;
                w[c] = low | high << 16;
            }
    }
}

/* to [rows][pitch]: pairs of terms [2 * first, ...) of rows of A, a zero beyond the last term. */
static void round_rows(const job *j, uint32_t *to, int64_t pitch, int64_t row, int64_t rows, int64_t first, int64_t pairs)
{
    int64_t terms = min_of(j->s.k - 2 * first, 2 * pairs);
    for (int64_t r = 0; r < rows; r++, to += pitch) {
        const float *x = j->a + (row + r) * j->s.a_row + 2 * first;
        uint16_t *h = (uint16_t *)(void *)to;
        int64_t i = 0;
        for (; i + LANES <= terms; i += LANES) {
            __m256bh v = _mm512_cvtneps_pbh((__m512)vec_load(x + i));
            memcpy(h + i, &v, sizeof v);
        }
        if (i < terms) {
            float rest[LANES] = {0};
            memcpy(rest, x + i, (size_t)(terms - i) * sizeof *rest);
            __m256bh v = _mm512_cvtneps_pbh((__m512)vec_load(rest));
            memcpy(h + i, &v, (size_t)(2 * pairs - i) * sizeof *h);
        }
    }
}

/* ---- tiles ---- */

typedef struct tile {
    const uint32_t *a; /* [R][a_step] pairs */
    int64_t a_step, pairs;
    const uint32_t *b; /* [pairs][V * LANES] */
    float *y;
    int64_t y_step;
    bool add;
} tile;
typedef void tile_fn(const tile *t);

ALWAYS_INLINE void tile_body(const int V, const int R, const tile *t)
{
    __m512 acc[24];
    const uint32_t *b = t->b, *a[ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
        a[r] = t->a + r * t->a_step;
#pragma GCC unroll 3
        for (int v = 0; v < V; v++)
            acc[r * V + v] = t->add ? _mm512_loadu_ps(t->y + r * t->y_step + v * LANES) : _mm512_setzero_ps();
    }
    for (int64_t k = 0; k < t->pairs; k++, b += V * LANES) {
        __m512bh w[3];
#pragma GCC unroll 3
        for (int v = 0; v < V; v++)
            w[v] = (__m512bh)_mm512_loadu_si512(b + v * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            __m512bh x = (__m512bh)_mm512_set1_epi32((int)a[r][k]);
#pragma GCC unroll 3
            for (int v = 0; v < V; v++)
                acc[r * V + v] = _mm512_dpbf16_ps(acc[r * V + v], x, w[v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 3
        for (int v = 0; v < V; v++)
            _mm512_storeu_ps(t->y + r * t->y_step + v * LANES, acc[r * V + v]);
}

#define EACH_R(X, V) X(V, 1) X(V, 2) X(V, 3) X(V, 4) X(V, 5) X(V, 6) X(V, 7) X(V, 8)
#define TILES(X)     EACH_R(X, 1) EACH_R(X, 2) EACH_R(X, 3)
#define DEFINE(V, R)                                                                                              \
    static void tile_##V##_##R(const tile *t)                                                                     \
    {                                                                                                             \
        tile_body(V, R, t);                                                                                       \
    }
TILES(DEFINE)
#define ENTRY(V, R) [V][R] = tile_##V##_##R,
static tile_fn *const tiles[VECTORS + 1][ROWS + 1] = {TILES(ENTRY)};

/* ---- products ---- */

/* Rows [row, row + rows), rounded in t.a, times panel p. */
static void run_panel(const job *j, tile t, float *edge, int64_t p, int64_t row, int64_t rows, bool last)
{
    int64_t n = j->s.n, col = first_vector(j, p) * LANES, lanes = first_vector(j, p + 1) * LANES - col;
    int64_t cols = min_of(lanes, n - col), count = (rows + ROWS - 1) / ROWS;
    bool partial = cols < lanes, finish = last && gemm_finish_needed(&j->finish);
    for (int64_t i = 0; i < count; i++) {
        int64_t r0 = i * rows / count, r1 = (i + 1) * rows / count;
        float *to = j->y + (row + r0) * n + col;
        tile one = t;
        one.a += r0 * t.a_step;
        one.y = partial ? edge : to;
        one.y_step = partial ? lanes : n;
        for (int64_t r = 0; partial && t.add && r < r1 - r0; r++)
            copy_floats(edge + r * lanes, to + r * n, cols);
        tiles[lanes / LANES][r1 - r0](&one);
        for (int64_t r = 0; finish && r < r1 - r0; r++)
            gemm_finish_row(&j->finish, one.y + r * one.y_step, cols, row + r0 + r, col, to + r * n - j->y);
        for (int64_t r = 0; partial && r < r1 - r0; r++)
            copy_floats(to + r * n, edge + r * lanes, cols);
    }
}

typedef struct scratch {
    uint32_t *a;
    float *edge;
} scratch;
static size_t carve_scratch(const job *j, void *work, int thread, scratch *t)
{
    carver c = {.base = work};
    for (int i = 0; i <= thread; i++) {
        t->a = carve(&c, BLOCK_ROWS * min_of(j->pairs, BLOCK_PAIRS), sizeof *t->a);
        t->edge = carve(&c, ROWS * VECTORS * LANES, sizeof *t->edge);
    }
    return c.used;
}

/* Threads share out the panels, or the rows where there are few panels. */
static void run_part(const job *j, void *work, int part)
{
    scratch s = {0};
    carve_scratch(j, work, part, &s);
    int64_t first = 0, last = j->panels, begin = 0, end = j->s.m, pitch = min_of(j->pairs, BLOCK_PAIRS);
    if (j->panels >= 4 * j->threads) {
        first = part * j->panels / j->threads;
        last = (part + 1) * j->panels / j->threads;
    } else {
        begin = part * j->s.m / j->threads;
        end = (part + 1) * j->s.m / j->threads;
    }
    for (int64_t k = 0; k < j->pairs; k += BLOCK_PAIRS)
        for (int64_t row = begin; row < end; row += BLOCK_ROWS) {
            int64_t rows = min_of(BLOCK_ROWS, end - row), pairs = min_of(BLOCK_PAIRS, j->pairs - k);
            round_rows(j, s.a, pitch, row, rows, k, pairs);
            for (int64_t p = first; p < last; p++) {
                int64_t col = first_vector(j, p) * LANES, lanes = first_vector(j, p + 1) * LANES - col;
                tile t = {.a = s.a, .a_step = pitch, .pairs = pairs, .b = j->b + col * j->pairs + k * lanes, .add = k > 0};
                run_panel(j, t, s.edge, p, row, rows, k + pairs >= j->pairs);
            }
        }
}

static size_t workspace(const kernel_args *a)
{
    job j;
    scratch s = {0};
    plan(&j, a);
    return carve_scratch(&j, NULL, j.threads - 1, &s) + packed_bytes(a); /* the latter is touched only without `prepared` */
}

static void linear_bf16(const kernel_args *a)
{
    job j;
    scratch s = {0};
    plan(&j, a);
    j.a = a->in[0].data;
    j.b = a->prepared;
    j.y = a->out[0].data;
    if (!j.b) {
        uint32_t *packed = (uint32_t *)(void *)((char *)a->work + carve_scratch(&j, NULL, j.threads - 1, &s));
        pack(a, packed);
        j.b = packed;
    }
    if (a->n_in > 2 && a->in[2].data) {
        j.finish.c = a->in[2].data;
        j.finish.c_step = (bias_steps){.row = 0, .col = j.s.n > 1};
    }
    j.finish.residual = a->n_in > 3 ? a->in[3].data : NULL;
    j.finish.pre = a->n_out > 1 ? a->out[1].data : NULL;
    if (j.threads == 1) {
        run_part(&j, a->work, 0);
        return;
    }
#pragma omp parallel num_threads(j.threads)
    for (int part = omp_get_thread_num(); part < j.threads; part += omp_get_num_threads())
        run_part(&j, a->work, part);
}

KERNEL_TABLE(gemm_bf16) = {{OP_LINEAR, REAL_DTYPE, REAL_ISA, "linear_bf16", linear_bf16, workspace, takes, .prepared = prepared,
                            .prepare = pack, .packed_in = 1 << 1},
                           KERNEL_END};
#else
KERNEL_TABLE(gemm_bf16) = {KERNEL_END};
#endif
