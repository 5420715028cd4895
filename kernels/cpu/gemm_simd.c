/* gemm_simd.c - Gemm and MatMul in float.
 *
 * B is rearranged into panels of up to three vectors of columns; A is read where it lies, eight rows at a time (or, when
 * it is transposed, runs of rows side by side), by the tile kernel of tile.h: a row is a pixel, k an entry. Rows come in
 * blocks, whose sums leave through alpha, beta and C. Every result is one sum in a fixed order: threads change nothing.
 * Small products of a batch are one task each; the others share their panels. */
#include "kernels/cpu/matrix.h"
#include "kernels/cpu/tile.h"

#include <limits.h>

enum {
    BLOCK_ROWS = 64,
    BLOCK_K = 512,             /* terms of a sum that are added for all rows of a block before the next ones */
    PANEL_FLOATS = 4 << 20,    /* of rearranged B at a time */
    FEWEST_TASKS = 16,         /* columns are split too where there are few blocks of rows */
    SMALL_PRODUCT = 1 << 21,   /* multiply-adds up to which a product of a batch is one task */
    SERIAL_WORK = 1 << 16      /* multiply-adds below which threads are not worth their start */
};

typedef struct job {
    matrix_sizes s;
    matmul_batch batch; /* count 1: one product */
    bool one_task_each;
    int64_t chunk;      /* columns that are rearranged at a time, a multiple of LANES */
    int64_t panel_size; /* floats of a rearranged chunk */
    int32_t *off;       /* [k]: distance of A's element (i, k) from (i, 0) */
    float *panels, *sums;
    const float *a, *b, *c;
    float *y;
    bias_steps c_step;
    float alpha, beta;
    int threads;
} job;

static bool finish_plan(job *j)
{
    const matrix_sizes *s = &j->s;
    int64_t most = max_of(1, PANEL_FLOATS / max_of(1, s->k) / (LANES * TILE_VECTORS)) * LANES * TILE_VECTORS;
    j->chunk = min_of(round_up(s->n, LANES), most);
    j->panel_size = round_up(j->chunk * s->k, 16);
    j->one_task_each = j->batch.count > 1 && s->m * s->n * s->k <= SMALL_PRODUCT;
    return s->k * s->a_col < INT_MAX && s->m * s->n > 0;
}

static size_t carve_job(job *j, void *work, int threads)
{
    carver c = {.base = work};
    j->threads = threads;
    j->off = carve(&c, j->s.k, sizeof *j->off);
    j->panels = carve(&c, j->panel_size * (j->one_task_each ? threads : 1), sizeof *j->panels);
    j->sums = carve(&c, (int64_t)BLOCK_ROWS * TILE_VECTORS * LANES * threads, sizeof *j->sums);
    return c.used;
}

/* Columns of a chunk in panels: panel p has vectors first(p) .. first(p + 1) - 1, shared out evenly. */
static int64_t panel_count(int64_t cols)
{
    return ((cols + LANES - 1) / LANES + TILE_VECTORS - 1) / TILE_VECTORS;
}
static int64_t panel_first(int64_t cols, int64_t p)
{
    return p * ((cols + LANES - 1) / LANES) / panel_count(cols);
}

/* to[k][lane] = B[k][col + lane] for the lanes of a panel, zeros beyond column `end`. */
static void pack_panel(const job *j, float *to, const float *b, int64_t col, int64_t lanes, int64_t end)
{
    const matrix_sizes *s = &j->s;
    int64_t valid = min_of(lanes, end - col);
    if (s->b_col == 1) {
        for (int64_t k = 0; k < s->k; k++, to += lanes) {
            copy_floats(to, b + k * s->b_row + col, valid);
            for (int64_t i = valid; i < lanes; i++)
                to[i] = 0;
        }
        return;
    }
    for (int64_t i = 0; i < lanes; i += LANES)
        for (int64_t k = 0; k < s->k; k += LANES) { /* LANES columns of B are rows in memory: transposed block by block */
            int64_t cols = min_of(LANES, valid - i), rows = min_of(LANES, s->k - k);
            const float *from = b + (col + i) * s->b_col + k;
            vec r[LANES];
            if (cols == LANES && rows == LANES) {
#pragma GCC unroll 16
                for (int l = 0; l < LANES; l++)
                    r[l] = vec_load(from + l * s->b_col);
            } else {
                float edge[LANES][LANES] = {{0}};
                for (int64_t l = 0; l < cols; l++)
                    copy_floats(edge[l], from + l * s->b_col, rows);
#pragma GCC unroll 16
                for (int l = 0; l < LANES; l++)
                    r[l] = vec_load(edge[l]);
            }
            vec_transpose(r);
#pragma GCC unroll 16
            for (int l = 0; l < LANES; l++)
                if (l < rows)
                    vec_store(to + (k + l) * lanes + i, r[l]);
        }
}

/* y = alpha * sums + beta * C for rows [row, row + rows) and columns [col, col + cols). */
static void write_rows(const job *j, float *y, const float *sums, int64_t pitch, int64_t row, int64_t rows, int64_t col,
                       int64_t cols)
{
    for (int64_t r = 0; r < rows; r++, sums += pitch) {
        float *to = y + (row + r) * j->s.n + col;
        const float *c = j->c ? j->c + (row + r) * j->c_step.row + col * j->c_step.col : NULL;
        if (!c)
            for (int64_t i = 0; i < cols; i++)
                to[i] = j->alpha * sums[i];
        else if (j->c_step.col)
            for (int64_t i = 0; i < cols; i++)
                to[i] = j->alpha * sums[i] + j->beta * c[i];
        else
            for (int64_t i = 0; i < cols; i++)
                to[i] = j->alpha * sums[i] + j->beta * c[0];
    }
}

/* A block of rows times one panel: V vectors from column `col` on, of which those before `end` exist. */
static void run_panel(const job *j, const float *a, float *y, const float *panel, int V, int64_t row, int64_t rows,
                      int64_t col, int64_t end, float *sums)
{
    const matrix_sizes *s = &j->s;
    int64_t pitch = V * LANES;
    row_cut cut = s->a_row == 1 ? cut_row(V, rows) : (row_cut){.q = 1, .wide = rows};
    for (int64_t k = 0; k == 0 || k < s->k; k += BLOCK_K) {
        tile_sum sum = {.V = V, .step = pitch, .off = j->off + k, .count = min_of(BLOCK_K, s->k - k),
                        .w = panel + k * pitch, .add = k > 0};
        tile_runs wide = {.count = 0}, narrow = {.count = 0};
        const float *x = a + row * s->a_row;
        float *to = sums;
        for (int64_t i = 0; i < cut.wide; i++, x += cut.q * s->a_row, to += cut.q * pitch)
            tile_push(&sum, &wide, cut.q, x, to);
        for (int64_t i = 0; i < cut.narrow; i++, x += (cut.q - 1) * s->a_row, to += (cut.q - 1) * pitch)
            tile_push(&sum, &narrow, cut.q - 1, x, to);
        tile_flush(&sum, &wide, cut.q);
        tile_flush(&sum, &narrow, cut.q - 1);
    }
    write_rows(j, y, sums, pitch, row, rows, col, min_of(pitch, end - col));
}

/* Panels [begin, end) of a chunk of columns, rearranged already, times a block of rows. */
static void run_block(const job *j, const float *a, float *y, const float *panels, int64_t row, int64_t first_col,
                      int64_t cols, int64_t begin, int64_t end, float *sums)
{
    for (int64_t p = begin; p < end; p++) {
        int64_t v = panel_first(cols, p), V = panel_first(cols, p + 1) - v;
        run_panel(j, a, y, panels + v * LANES * j->s.k, (int)V, row, min_of(BLOCK_ROWS, j->s.m - row),
                  first_col + v * LANES, first_col + cols, sums);
    }
}

static void pack_panels(const job *j, float *panels, const float *b, int64_t col, int64_t cols, int64_t p)
{
    int64_t v = panel_first(cols, p), lanes = (panel_first(cols, p + 1) - v) * LANES;
    pack_panel(j, panels + v * LANES * j->s.k, b, col + v * LANES, lanes, col + cols);
}

/* One product by all threads of the enclosing parallel region. */
static void run_shared(const job *j, const float *a, const float *b, float *y, float *sums)
{
    const matrix_sizes *s = &j->s;
    int64_t blocks = (s->m + BLOCK_ROWS - 1) / BLOCK_ROWS;
    for (int64_t col = 0; col < s->n; col += j->chunk) {
        int64_t cols = min_of(j->chunk, s->n - col), panels = panel_count(cols);
        int64_t parts = min_of(panels, (FEWEST_TASKS + blocks - 1) / blocks);
#pragma omp for schedule(static)
        for (int64_t p = 0; p < panels; p++)
            pack_panels(j, j->panels, b, col, cols, p);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < blocks * parts; i++)
            run_block(j, a, y, j->panels, i / parts * BLOCK_ROWS, col, cols, i % parts * panels / parts,
                      (i % parts + 1) * panels / parts, sums);
    }
}

/* One product by one thread. */
static void run_alone(const job *j, const float *a, const float *b, float *y, float *panels, float *sums)
{
    const matrix_sizes *s = &j->s;
    for (int64_t col = 0; col < s->n; col += j->chunk) {
        int64_t cols = min_of(j->chunk, s->n - col), count = panel_count(cols);
        for (int64_t p = 0; p < count; p++)
            pack_panels(j, panels, b, col, cols, p);
        for (int64_t row = 0; row < s->m; row += BLOCK_ROWS)
            run_block(j, a, y, panels, row, col, cols, 0, count, sums);
    }
}

static void run(const job *j)
{
    const matrix_sizes *s = &j->s;
    const matmul_batch *t = &j->batch;
    for (int64_t k = 0; k < s->k; k++)
        j->off[k] = (int32_t)(k * s->a_col);
#pragma omp parallel num_threads(j->threads) if (t->count * s->m * s->n * s->k > SERIAL_WORK)
    {
        int thread = omp_get_thread_num();
        float *sums = j->sums + (int64_t)thread * BLOCK_ROWS * TILE_VECTORS * LANES;
        if (j->one_task_each) {
#pragma omp for schedule(dynamic)
            for (int64_t i = 0; i < t->count; i++)
                run_alone(j, j->a + matmul_offset(t, t->a_step, i), j->b + matmul_offset(t, t->b_step, i),
                          j->y + i * s->m * s->n, j->panels + thread * j->panel_size, sums);
        } else {
            for (int64_t i = 0; i < t->count; i++)
                run_shared(j, j->a + matmul_offset(t, t->a_step, i), j->b + matmul_offset(t, t->b_step, i),
                           j->y + i * s->m * s->n, sums);
        }
    }
}

/* ---- rows ---- */

static bool plan_gemm(job *j, const kernel_args *a)
{
    const gemm_attrs *at = a->attr;
    *j = (job){.s = gemm_sizes(at, &a->in[0].sh, &a->in[1].sh), .batch = {.count = 1}, .alpha = (float)at->alpha,
               .beta = (float)at->beta};
    return finish_plan(j);
}
static bool gemm_takes(const kernel_args *a)
{
    job j;
    return plan_gemm(&j, a);
}
static size_t gemm_workspace(const kernel_args *a)
{
    job j;
    plan_gemm(&j, a);
    return carve_job(&j, NULL, a->threads);
}
static void gemm(const kernel_args *a)
{
    job j;
    plan_gemm(&j, a);
    carve_job(&j, a->work, a->threads);
    j.a = a->in[0].data;
    j.b = a->in[1].data;
    j.y = a->out[0].data;
    if (a->n_in > 2 && a->in[2].data && j.beta != 0) {
        j.c = a->in[2].data;
        j.c_step = gemm_bias_steps(&a->in[2].sh);
    }
    run(&j);
}

/* A batch of products with one matrix B is one product with all their rows. */
static bool plan_matmul(job *j, const kernel_args *a)
{
    const matmul_attrs *at = a->attr;
    *j = (job){.batch = matmul_batch_of(at, &a->in[0].sh, &a->in[1].sh), .alpha = 1};
    j->s = j->batch.each;
    if (j->batch.count > 1 && !at->transA && shape_count(&a->in[1].sh) == j->s.k * j->s.n &&
        shape_count(&a->in[0].sh) == j->batch.count * j->s.m * j->s.k) {
        j->s.m *= j->batch.count;
        j->batch = (matmul_batch){.count = 1};
    }
    return finish_plan(j);
}
static bool matmul_takes(const kernel_args *a)
{
    job j;
    return plan_matmul(&j, a);
}
static size_t matmul_workspace(const kernel_args *a)
{
    job j;
    plan_matmul(&j, a);
    return carve_job(&j, NULL, a->threads);
}
static void matmul(const kernel_args *a)
{
    job j;
    plan_matmul(&j, a);
    carve_job(&j, a->work, a->threads);
    j.a = a->in[0].data;
    j.b = a->in[1].data;
    j.y = a->out[0].data;
    run(&j);
}

KERNEL_TABLE(gemm) = {
    {OP_GEMM, REAL_DTYPE, REAL_ISA, "gemm", gemm, gemm_workspace, gemm_takes},
    {OP_MATMUL, REAL_DTYPE, REAL_ISA, "matmul", matmul, matmul_workspace, matmul_takes},
    KERNEL_END};
