/* gemm_simd.c - Gemm, MatMul and Linear in float.
 *
 * B is rearranged into panels of up to three vectors of columns, some panels and some hundred terms at a time, so that
 * they stay in the level-2 cache while all rows of A pass by; constants are rearranged once, when the graph is opened.
 * Sums of earlier terms wait in the result. Threads share out rows and panels, or the products of a batch, and each
 * rearranges what it needs: nobody waits. Every result is one sum in the order of the terms: threads change nothing. */
#include "kernels/cpu/gemm_finish.h"
#include "kernels/cpu/gemm_tile.h"

enum {
    BLOCK_ROWS = 48,
    COPY_ROWS = 192,           /* of a transposed A that are copied together */
    FAR_APART = 384,           /* floats from term to term of a transposed A from which on copying pays */
    BLOCK_K = 384,             /* terms at most that are added for all rows before the next ones */
    CHUNK_FLOATS = 96 << 10,   /* of rearranged B at a time, a part of the level-2 cache */
    DIRECT_FLOATS = 8 << 10,   /* B that is small and dense is read where it lies */
    DIRECT_ROWS = 8,           /* and so is one that few rows need */
    SERIAL_WORK = 1 << 19      /* multiply-adds below which threads are not worth their start */
};

typedef struct job {
    matrix_sizes s;
    matmul_batch batch; /* count 1: one product */
    int64_t panels;     /* of all columns */
    int64_t terms;      /* added for all rows before the next ones */
    int64_t chunk;      /* panels that are rearranged at a time */
    bool direct;        /* B is read where it lies */
    bool columns;       /* A is transposed: rows lie side by side */
    bool copy_a;        /* and so far apart that a block is copied together first */
    int threads;
    const float *a, *b;
    const float *prepared; /* all of B, rearranged, or NULL */
    float *y;
    gemm_finish finish;
} job;

typedef struct scratch { /* of one thread */
    float *panels, *edge, *a;
} scratch;

/* Panel p has vectors first(p) .. first(p + 1) - 1, shared out evenly. */
static int64_t panel_first(const job *j, int64_t p)
{
    return p * ((j->s.n + LANES - 1) / LANES) / j->panels;
}

static bool finish_plan(job *j, int threads)
{
    const matrix_sizes *s = &j->s;
    int64_t vectors = (s->n + LANES - 1) / LANES, blocks = max_of(1, (s->k + BLOCK_K - 1) / BLOCK_K);
    int64_t terms = j->terms = max_of(1, (s->k + blocks - 1) / blocks);
    j->panels = max_of(1, (vectors + GEMM_VECTORS - 1) / GEMM_VECTORS);
    j->chunk = min_of(j->panels, max_of(1, CHUNK_FLOATS / (terms * GEMM_VECTORS * LANES)));
    j->columns = s->a_row == 1 && s->a_col != 1;
    j->copy_a = j->columns && s->a_col >= FAR_APART && terms > 16 && j->panels > 1;
    j->direct = s->b_col == 1 && s->n % LANES == 0 && (s->k * s->n <= DIRECT_FLOATS || s->m <= DIRECT_ROWS);
    j->threads = j->batch.count * s->m * s->n * s->k > SERIAL_WORK ? threads : 1;
    return s->m * s->n * j->batch.count > 0;
}

static size_t carve_scratch(const job *j, void *work, int thread, scratch *t)
{
    carver c = {.base = work};
    for (int i = 0; i <= thread; i++) {
        t->panels = carve(&c, j->chunk * GEMM_VECTORS * LANES * j->terms, sizeof *t->panels);
        t->edge = carve(&c, BLOCK_ROWS * GEMM_VECTORS * LANES, sizeof *t->edge);
        t->a = carve(&c, j->copy_a ? COPY_ROWS * j->terms : 0, sizeof *t->a);
    }
    return c.used;
}

/* ---- rearranging ---- */

/* B's columns are rows in memory: LANES x LANES elements are transposed at a time. to [k][lanes]. */
static void pack_transposed(const matrix_sizes *s, float *to, const float *b, int64_t col, int64_t lanes, int64_t k0, int64_t terms)
{
    for (int64_t i = 0; i < lanes; i += LANES)
        for (int64_t k = 0; k < terms; k += LANES) {
            int64_t cols = min_of(LANES, s->n - col - i), rows = min_of(LANES, terms - k);
            const float *from = b + (col + i) * s->b_col + (k0 + k) * s->b_row;
            vec r[LANES];
            if (cols >= LANES && rows == LANES) {
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
            if (rows == LANES) {
#pragma GCC unroll 16
                for (int l = 0; l < LANES; l++)
                    vec_store(to + (k + l) * lanes + i, r[l]);
            } else {
#pragma GCC unroll 16
                for (int l = 0; l < LANES; l++)
                    if (l < rows)
                        vec_store(to + (k + l) * lanes + i, r[l]);
            }
        }
}

/* Panels [first, last) of terms [k0, k0 + terms), one after the other, each [terms][lanes]; zeros beyond the last
 * column. Terms are the outer loop, so that memory is read in order. */
static void pack_panels(const job *j, float *to, const float *b, int64_t first, int64_t last, int64_t k0, int64_t terms)
{
    const matrix_sizes *s = &j->s;
    int64_t begin = panel_first(j, first);
    if (s->b_col != 1 || s->k == 1) {
        for (int64_t p = first; p < last; p++) {
            int64_t v = panel_first(j, p), lanes = (panel_first(j, p + 1) - v) * LANES;
            pack_transposed(s, to + (v - begin) * LANES * terms, b, v * LANES, lanes, k0, terms);
        }
        return;
    }
    for (int64_t k = 0; k < terms; k++)
        for (int64_t p = first; p < last; p++) {
            int64_t v = panel_first(j, p), lanes = (panel_first(j, p + 1) - v) * LANES;
            int64_t valid = min_of(lanes, s->n - v * LANES);
            float *row = to + (v - begin) * LANES * terms + k * lanes;
            const float *from = b + (k0 + k) * s->b_row + v * LANES;
            if (valid == GEMM_VECTORS * LANES) {
#pragma GCC unroll 3
                for (int i = 0; i < GEMM_VECTORS; i++)
                    vec_store(row + i * LANES, vec_load(from + i * LANES));
                continue;
            }
            copy_floats(row, from, valid);
            for (int64_t i = valid; i < lanes; i++)
                row[i] = 0;
        }
}

/* ---- products ---- */

/* Rows [row, row + rows) times a panel `w` of terms [k0, k0 + t->k). */
static void run_panel(const job *j, const scratch *s, gemm_tile t, float *y, int64_t p, int64_t row, int64_t rows, bool last)
{
    int64_t n = j->s.n, v = panel_first(j, p), V = panel_first(j, p + 1) - v, col = v * LANES;
    int64_t cols = min_of(V * LANES, n - col);
    bool edge = cols < V * LANES, finish = last && gemm_finish_needed(&j->finish);
    float *to = y + row * n + col;
    t.y = to;
    t.y_step = n;
    if (edge) {
        t.y = s->edge;
        t.y_step = V * LANES;
        for (int64_t r = 0; t.add && r < rows; r++)
            copy_floats(t.y + r * t.y_step, to + r * n, cols);
    }
    gemm_tile_rows(t, (int)V, rows, j->columns);
    for (int64_t r = 0; finish && r < rows; r++)
        gemm_finish_row(&j->finish, t.y + r * t.y_step, cols, row + r, col, to + r * n - j->y);
    for (int64_t r = 0; edge && r < rows; r++)
        copy_floats(to + r * n, t.y + r * t.y_step, cols);
}

/* Terms [k0, k0 + terms) for rows [row, end) and the panels [first, last) that lie rearranged in `panels`. */
static void run_chunk(const job *j, const scratch *s, const float *a, const float *b, float *y, const float *panels,
                      int64_t pitch, int64_t first, int64_t last, int64_t row, int64_t end, int64_t k0, int64_t terms)
{
    const matrix_sizes *z = &j->s;
    const int64_t step = j->copy_a ? COPY_ROWS : BLOCK_ROWS;
    for (int64_t next; row < end; row = next) {
        int64_t blocks = (end - row + step - 1) / step;
        next = min_of(end, row + round_up((end - row + blocks - 1) / blocks, GEMM_ROWS));
        gemm_tile t = {.k = terms, .a = a + row * z->a_row + k0 * z->a_col, .a_step = j->columns ? z->a_col : z->a_row,
                       .add = k0 > 0};
        if (j->copy_a) {
            for (int64_t k = 0; k < terms; k++)
                copy_floats(s->a + k * (next - row), t.a + k * z->a_col, next - row);
            t.a = s->a;
            t.a_step = next - row;
        }
        for (int64_t p = first; p < last; p++) {
            int64_t v = panel_first(j, p) * LANES, lanes = panel_first(j, p + 1) * LANES - v;
            t.b = j->direct ? b + k0 * z->b_row + v : panels + (v - panel_first(j, first) * LANES) * pitch;
            t.b_step = j->direct ? z->b_row : lanes;
            if (j->prepared)
                t.b += k0 * lanes;
            for (int64_t r = row, high; r < next; r = high) { /* few rows, so that sums are finished in the level-1 cache */
                gemm_tile part = t;
                high = min_of(next, r + BLOCK_ROWS);
                part.a += (r - row) * (j->columns ? 1 : t.a_step);
                run_panel(j, s, part, y, p, r, high - r, k0 + terms >= z->k);
            }
        }
    }
}

/* One product: rows [row, end), panels [first, last). */
static void run_product(const job *j, const scratch *s, const float *a, const float *b, float *y, int64_t row, int64_t end,
                        int64_t first, int64_t last)
{
    for (int64_t k0 = 0; k0 == 0 || k0 < j->s.k; k0 += j->terms) {
        int64_t terms = min_of(j->terms, j->s.k - k0);
        for (int64_t p = first, next; p < last; p = next) {
            int64_t chunks = (last - p + j->chunk - 1) / j->chunk;
            next = p + (last - p + chunks - 1) / chunks;
            if (j->prepared) {
                run_chunk(j, s, a, b, y, j->prepared + panel_first(j, p) * LANES * j->s.k, j->s.k, p, next, row, end, k0, terms);
            } else {
                if (!j->direct)
                    pack_panels(j, s->panels, b, p, next, k0, terms);
                run_chunk(j, s, a, b, y, s->panels, terms, p, next, row, end, k0, terms);
            }
        }
    }
}

/* How many parts the panels of a product are cut into; the rows are cut into threads / parts. */
static int64_t panel_parts(const job *j)
{
    int64_t best = 1, best_work = INT64_MAX, rows = (j->s.m + GEMM_ROWS - 1) / GEMM_ROWS;
    for (int64_t n = 1; n <= j->threads; n++) {
        int64_t m = j->threads / n, work = ((rows + m - 1) / m) * ((j->panels + n - 1) / n);
        if (work <= best_work) { /* cutting columns rearranges nothing twice */
            best = n;
            best_work = work;
        }
    }
    return best;
}

static void run_part(const job *j, void *work, int thread)
{
    const matmul_batch *t = &j->batch;
    scratch s = {0};
    carve_scratch(j, work, thread, &s);
    int64_t begin = 0, end = t->count, parts = j->threads;
    int64_t row = 0, rows = j->s.m, first = 0, last = j->panels;
    if (t->count >= 2 * parts) {
        begin = thread * t->count / parts;
        end = (thread + 1) * t->count / parts;
    } else if (parts > 1) {
        int64_t pn = panel_parts(j), pm = parts / pn, units = (j->s.m + GEMM_ROWS - 1) / GEMM_ROWS;
        if (thread >= pn * pm)
            return;
        first = thread % pn * j->panels / pn;
        last = (thread % pn + 1) * j->panels / pn;
        row = min_of(j->s.m, thread / pn * units / pm * GEMM_ROWS);
        rows = min_of(j->s.m, (thread / pn + 1) * units / pm * GEMM_ROWS);
    }
    for (int64_t i = begin; i < end; i++)
        run_product(j, &s, j->a + matmul_offset(t, t->a_step, i), j->b + matmul_offset(t, t->b_step, i),
                    j->y + i * j->s.m * j->s.n, row, rows, first, last);
}

static void run(const job *j, void *work)
{
    if (j->threads == 1) {
        run_part(j, work, 0);
        return;
    }
#pragma omp parallel num_threads(j->threads)
    for (int part = omp_get_thread_num(); part < j->threads; part += omp_get_num_threads())
        run_part(j, work, part);
}

/* ---- rows ---- */

typedef void plan_fn(job *j, const kernel_args *a);

static size_t job_workspace(plan_fn *plan, const kernel_args *a)
{
    job j;
    scratch s = {0};
    plan(&j, a);
    finish_plan(&j, a->threads);
    return carve_scratch(&j, NULL, j.threads - 1, &s);
}

static void job_run(plan_fn *plan, const kernel_args *a)
{
    job j;
    plan(&j, a);
    if (!finish_plan(&j, a->threads))
        return;
    j.a = a->in[0].data;
    j.b = a->in[1].data;
    j.y = a->out[0].data;
    j.prepared = a->prepared;
    j.direct = j.direct && !j.prepared;
    run(&j, a->work);
}

/* A constant matrix B is rearranged as a whole: panel by panel, each [k][lanes]. */
static size_t job_prepared(plan_fn *plan, const kernel_args *a)
{
    job j;
    plan(&j, a);
    bool once = finish_plan(&j, a->threads) && a->in[1].data && !a->in[0].data && j.batch.count == 1;
    return once ? (size_t)(round_up(j.s.n, LANES) * j.s.k) * sizeof(float) : 0;
}

static void job_prepare(plan_fn *plan, const kernel_args *a, void *to)
{
    job j;
    plan(&j, a);
    finish_plan(&j, a->threads);
    for (int64_t p = 0; p < j.panels; p++)
        pack_panels(&j, (float *)to + panel_first(&j, p) * LANES * j.s.k, a->in[1].data, p, p + 1, 0, j.s.k);
}

static void plan_gemm(job *j, const kernel_args *a)
{
    const gemm_attrs *at = a->attr;
    *j = (job){.s = gemm_sizes(at, &a->in[0].sh, &a->in[1].sh), .batch = {.count = 1},
               .finish = {.alpha = (float)at->alpha, .beta = (float)at->beta}};
    if (a->n_in > 2 && a->in[2].data && at->beta != 0) {
        j->finish.c = a->in[2].data;
        j->finish.c_step = gemm_bias_steps(&a->in[2].sh);
    }
}

/* A batch of products with one matrix B is one product with all their rows. */
static void plan_matmul(job *j, const kernel_args *a)
{
    const matmul_attrs *at = a->attr;
    *j = (job){.batch = matmul_batch_of(at, &a->in[0].sh, &a->in[1].sh), .finish = {.alpha = 1}};
    j->s = j->batch.each;
    if (j->batch.count > 1 && !at->transA && shape_count(&a->in[1].sh) == j->s.k * j->s.n &&
        shape_count(&a->in[0].sh) == j->batch.count * j->s.m * j->s.k) {
        j->s.m *= j->batch.count;
        j->batch = (matmul_batch){.count = 1};
    }
}

static void plan_linear(job *j, const kernel_args *a)
{
    const linear_attrs *at = a->attr;
    *j = (job){.s = linear_sizes(at, &a->in[0].sh, &a->in[1].sh), .batch = {.count = 1},
               .finish = {.alpha = (float)at->alpha, .beta = 1, .activation = at->activation}};
    if (a->n_in > 2 && a->in[2].data) {
        j->finish.c = a->in[2].data;
        j->finish.c_step = (bias_steps){.row = 0, .col = j->s.n > 1};
    }
    j->finish.residual = a->n_in > 3 ? a->in[3].data : NULL;
    j->finish.pre = a->n_out > 1 ? a->out[1].data : NULL;
}

#define ROW_FUNCTIONS(name)                                                                                       \
    static size_t name##_workspace(const kernel_args *a)                                                          \
    {                                                                                                             \
        return job_workspace(plan_##name, a);                                                                     \
    }                                                                                                             \
    static size_t name##_prepared(const kernel_args *a)                                                           \
    {                                                                                                             \
        return job_prepared(plan_##name, a);                                                                      \
    }                                                                                                             \
    static void name##_prepare(const kernel_args *a, void *to)                                                    \
    {                                                                                                             \
        job_prepare(plan_##name, a, to);                                                                          \
    }                                                                                                             \
    static void name##_run(const kernel_args *a)                                                                  \
    {                                                                                                             \
        job_run(plan_##name, a);                                                                                  \
    }
ROW_FUNCTIONS(gemm)
ROW_FUNCTIONS(matmul)
ROW_FUNCTIONS(linear)

static bool linear_takes(const kernel_args *a)
{
    return ((const linear_attrs *)a->attr)->precision == PRECISION_FP32;
}

#define ROW(OP, what)                                                                                             \
    {OP, REAL_DTYPE, REAL_ISA, #what, what##_run, what##_workspace, .prepared = what##_prepared, .prepare = what##_prepare,    \
     .packed_in = 1 << 1}
KERNEL_TABLE(gemm) = {ROW(OP_GEMM, gemm), ROW(OP_MATMUL, matmul), 
                        {OP_LINEAR, REAL_DTYPE, REAL_ISA, "linear", linear_run, linear_workspace, linear_takes,
                         .prepared = linear_prepared, .prepare = linear_prepare, .packed_in = 1 << 1},
                        KERNEL_END};
