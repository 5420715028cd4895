/* gemm.cu - Gemm, MatMul and Linear (src/ops/matmul.c) without a library: tiles of kernels/cuda/tile.cuh, of round_tile.cuh
 * where the operands are rounded (fp8.cu: to 8 bits, for devices that multiply these). */
#include "kernels/cuda/batches.cuh"
#include "kernels/cuda/matrix.cuh"
#include "kernels/cuda/round_tile.cuh"

/* ---- the product ---- */

/* Where the matrices lie. Element (i, k) of A: a + i * a_step + k, transposed a + k * a_step + i; of B (k, j):
 * b + k * b_step + j, transposed b + j * b_step + k. */
typedef struct matrix_operands {
    const float *a, *b;
    int64_t a_step, b_step;
    batch_axes axes;
    bool a_across, b_across; /* A is transposed, B is not: the rows of the tile's side are neighbours in memory */
    bool a_vector, b_vector;
    int round; /* PRECISION_*, where there are no tensor cores; PRECISION_FP8 */
    float a_scale, b_scale; /* with that */
} matrix_operands;

template <class T, bool A_ALONG, bool B_ALONG>
__global__ static void __launch_bounds__(T::THREADS, T::BLOCKS) matrix_kernel(matrix_operands o, product_size p, matrix_finish finish)
{
    const tile_place<T> place;
    const int64_t tile_n = blockIdx.x / p.tiles_m, row0 = (blockIdx.x - tile_n * p.tiles_m) * T::M, col0 = tile_n * T::N;
    const int64_t begin = blockIdx.z * p.share, end = begin + p.share < p.k ? begin + p.share : p.k;
    for (int64_t batch = blockIdx.y; batch < p.batches; batch += gridDim.y) {
        int64_t at_a, at_b;
        find_batch(o.axes, batch, &at_a, &at_b);
        matrix_side<T, T::M, A_ALONG> a = {o.a + at_a, o.a_step, row0, p.m, o.a_vector, o.round, {}, o.a_scale};
        matrix_side<T, T::N, B_ALONG> b = {o.b + at_b, o.b_step, col0, p.n, o.b_vector, o.round, {}, o.b_scale};
        float sum[T::TM][T::TN];
        tile_product<T>(a, b, begin, end, place, sum);
        tile_finish<T>(p, place, row0, col0, batch, sum, finish);
    }
}

/* The same with operands that are rounded. */
template <class T, bool A_ALONG, bool B_ALONG>
__global__ static void __launch_bounds__(T::THREADS, T::BLOCKS) rounded_kernel(matrix_operands o, product_size p, matrix_finish finish)
{
    typedef round_side<T, T::M, A_ALONG> side_a;
    typedef round_side<T, T::N, B_ALONG> side_b;
    const int64_t tile_n = blockIdx.x / p.tiles_m, row0 = (blockIdx.x - tile_n * p.tiles_m) * T::M, col0 = tile_n * T::N;
    const int64_t begin = blockIdx.z * p.share, end = begin + p.share < p.k ? begin + p.share : p.k;
    for (int64_t batch = blockIdx.y; batch < p.batches; batch += gridDim.y) {
        int64_t at_a, at_b;
        find_batch(o.axes, batch, &at_a, &at_b);
        side_a a = {o.a + at_a, o.a_step, row0, p.m, o.a_vector, {}};
        side_b b = {o.b + at_b, o.b_step, col0, p.n, o.b_vector, {}};
        float sum[T::WM / 16][T::WN / 8][4];
        round_product<T>(a, b, begin, end, sum);
        round_finish<T, side_a, side_b>(p, row0, col0, batch, sum, finish);
    }
}

/* RUN(name, kernel): for a tile, one of four kernels. */
#define RUN(name, kernel) \
    template <class T> static product_size name(const kernel_args *a, const matrix_operands &o, int64_t m, int64_t n, int64_t k, \
                                                int64_t batches, const matrix_finish *finish) \
    { \
        product_size p = product_of<T>(m, n, k, batches, a->work); \
        if (!finish || m * n * batches == 0) \
            return p; \
        dim3 grid = product_grid<T>(&p); \
        if (o.a_across && o.b_across) \
            LAUNCH((kernel<T, false, false>), grid, T::THREADS, 0, a->queue, o, p, *finish); \
        else if (o.a_across) \
            LAUNCH((kernel<T, false, true>), grid, T::THREADS, 0, a->queue, o, p, *finish); \
        else if (o.b_across) \
            LAUNCH((kernel<T, true, false>), grid, T::THREADS, 0, a->queue, o, p, *finish); \
        else \
            LAUNCH((kernel<T, true, true>), grid, T::THREADS, 0, a->queue, o, p, *finish); \
        if (p.splits > 1) \
            LAUNCH((product_join<matrix_finish>), grid_for(a->queue, m * n * batches, 1), CUDA_THREADS, 0, a->queue, p, *finish); \
        return p; \
    }
RUN(matrix_run, matrix_kernel)
RUN(rounded_run, rounded_kernel)

template <class E> static product_size rounded_choose(const kernel_args *a, const matrix_operands &o, int64_t m, int64_t n, int64_t k,
                                                      int64_t batches, const matrix_finish *finish)
{
    return tile_choose(m, n, batches) == TILE_LARGE ? rounded_run<round_shape<E, 128, 128, 32, 32, 1>>(a, o, m, n, k, batches, finish)
                                                    : rounded_run<round_shape<E, 64, 64, 32, 16, 2>>(a, o, m, n, k, batches, finish);
}

/* finish NULL: only sizes, of which the workspace follows. */
static product_size product_run(const kernel_args *a, const matrix_operands &o, int64_t m, int64_t n, int64_t k, int64_t batches,
                                const matrix_finish *finish)
{
    if (has_tensor_cores(a) && o.round == PRECISION_BF16)
        return rounded_choose<round_bf16>(a, o, m, n, k, batches, finish);
    if (has_tensor_cores(a) && o.round == PRECISION_F16)
        return rounded_choose<round_f16>(a, o, m, n, k, batches, finish);
    if (has_tensor_cores(a) && o.round == PRECISION_FP32 && a->queue->tf32)
        return rounded_choose<round_tf32>(a, o, m, n, k, batches, finish);
    switch (tile_choose(m, n, batches)) {
#define CHOOSE(kind, T) \
    case kind: \
        return matrix_run<T>(a, o, m, n, k, batches, finish);
        TILE_KINDS(CHOOSE)
#undef CHOOSE
    }
    return product_size();
}

/* ---- the operators ---- */

typedef struct matrix_job {
    matrix_operands o;
    matrix_finish f;
    int64_t m, n, k, batches;
} matrix_job;

/* A [a_rows, a_cols] and B [b_rows, b_cols] as they lie. */
static matrix_job job_of(const kernel_args *a, int64_t a_rows, int64_t a_cols, bool ta, int64_t b_rows, int64_t b_cols, bool tb)
{
    matrix_job j = {};
    j.m = ta ? a_cols : a_rows;
    j.k = ta ? a_rows : a_cols;
    j.n = tb ? b_rows : b_cols;
    j.batches = 1;
    j.o.a = (const float *)a->in[0].data;
    j.o.b = (const float *)a->in[1].data;
    j.o.a_step = a_cols;
    j.o.b_step = b_cols;
    j.o.a_across = ta;
    j.o.b_across = !tb;
    j.o.a_vector = is_vector(j.o.a) && a_cols % 4 == 0;
    j.o.b_vector = is_vector(j.o.b) && b_cols % 4 == 0;
    j.f.y = (float *)a->out[0].data;
    j.f.m = j.m;
    j.f.n = j.n;
    j.f.alpha = 1;
    return j;
}

static const float *optional(const kernel_args *a, int i)
{
    return i < a->n_in ? (const float *)a->in[i].data : NULL;
}

static matrix_job gemm_job(const kernel_args *a)
{
    const gemm_attrs *at = (const gemm_attrs *)a->attr;
    const shape *x = &a->in[0].sh, *w = &a->in[1].sh;
    matrix_job j = job_of(a, x->dim[0], x->dim[1], at->transA != 0, w->dim[0], w->dim[1], at->transB != 0);
    j.f.alpha = (float)at->alpha;
    j.f.beta = (float)at->beta;
    j.f.c = at->beta != 0 ? optional(a, 2) : NULL;
    if (j.f.c) {
        const shape *c = &a->in[2].sh;
        int64_t cols = c->rank ? c->dim[c->rank - 1] : 1, rows = c->rank > 1 ? c->dim[0] : 1;
        j.f.c_row = rows > 1 ? cols : 0;
        j.f.c_col = cols > 1;
    }
    return j;
}

static matrix_job linear_job(const kernel_args *a)
{
    const linear_attrs *at = (const linear_attrs *)a->attr;
    const shape *x = &a->in[0].sh, *w = &a->in[1].sh;
    int64_t rows = 1;
    for (int i = 0; i < x->rank - 1; i++)
        rows *= x->dim[i];
    matrix_job j = job_of(a, rows, x->dim[x->rank - 1], at->transA != 0, w->dim[0], w->dim[1], at->transB != 0);
    j.f.alpha = (float)at->alpha;
    j.f.beta = 1;
    j.f.c = optional(a, 2);
    j.f.c_col = 1;
    j.f.residual = optional(a, 3);
    j.f.pre = a->n_out > 1 ? (float *)a->out[1].data : NULL;
    j.f.activation = (int)at->activation;
    j.o.round = (int)at->precision;
    if (at->precision == PRECISION_FP8) {
        j.o.a_scale = e4m3_scale(at->a_range);
        j.o.b_scale = e4m3_scale(at->b_range);
        j.f.alpha = (float)e4m3_alpha(at->alpha, at->a_range, at->b_range);
    }
    return j;
}

static matrix_job matmul_job(const kernel_args *a)
{
    const matmul_sizes s = matmul_sizes_of(a);
    matrix_job j = job_of(a, s.a_rows, s.a_cols, s.ta, s.b_rows, s.b_cols, s.tb);
    j.o.axes = s.axes;
    j.batches = s.batches;
    return j;
}

static void job_run(const kernel_args *a, matrix_job j)
{
    j.f.vector = j.n % 4 == 0 && is_vector(j.f.y) && is_vector(j.f.pre) && is_vector(j.f.residual);
    product_run(a, j.o, j.m, j.n, j.k, j.batches, &j.f);
}
static size_t job_workspace(const kernel_args *a, const matrix_job &j)
{
    product_size p = product_run(a, j.o, j.m, j.n, j.k, j.batches, NULL);
    return product_workspace(&p);
}
#define OPERATOR(name) \
    static void name##_run(const kernel_args *a) { job_run(a, name##_job(a)); } \
    static size_t name##_workspace(const kernel_args *a) { return job_workspace(a, name##_job(a)); }
OPERATOR(gemm)
OPERATOR(matmul)
OPERATOR(linear)

CUDA_TABLE(gemm) = {
    {.op = OP_GEMM, .type = DTYPE_F32, .name = "gemm", .run = gemm_run, .workspace = gemm_workspace},
    {.op = OP_MATMUL, .type = DTYPE_F32, .name = "matmul", .run = matmul_run, .workspace = matmul_workspace},
    {.op = OP_LINEAR, .type = DTYPE_F32, .name = "linear", .run = linear_run, .workspace = linear_workspace},
    KERNEL_END};
