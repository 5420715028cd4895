/* linear_grad.cu - LinearGradData and LinearGradWeight (src/ops/matmul.c) without a library: the tiles of gemm.cu.
 *
 * The slope of an activation is part of what happens to a sum. The rows of an operand are added up by blocks that load it
 * anyway: of those that make the same columns the first ones do, each thread the four columns that it brings to shared memory,
 * so that nothing is read twice and the order is fixed. */
#include "kernels/cuda/linear_grad.cuh"
#include "kernels/cuda/round_tile.cuh"
#include "kernels/cuda/slope.cuh"

/* ---- what happens to a sum: y = (alpha * sum + residual) * slope(kept) ---- */

struct grad_finish {
    float *y;                    /* dense [m, n], as residual and kept, which may be NULL */
    const float *residual, *kept;
    int64_t n;
    float alpha;
    int activation;
    bool vector; /* four at a time */

    struct column {
        int64_t col;
        __device__ column(const grad_finish &, int64_t, int64_t col_, int64_t) : col(col_) {}
        __device__ void put(const grad_finish &f, int64_t row, float4 v, int64_t have) const
        {
            const int64_t to = row * f.n + col;
            v = make_float4(f.alpha * v.x, f.alpha * v.y, f.alpha * v.z, f.alpha * v.w);
            if (f.residual) {
                const float4 r = fetch4(f.residual + to, have, f.vector);
                v = make_float4(v.x + r.x, v.y + r.y, v.z + r.z, v.w + r.w);
            }
            if (f.kept)
                v = sloped(f.activation, v, fetch4(f.kept + to, have, f.vector));
            put4(f.y + to, v, have, f.vector);
        }
    };
};

/* Element (i, k) of A: a + i * a_step + k, of A^T a + k * a_step + i; of B (k, j): b + k * b_step + j, of B^T b + j * b_step + k. */
typedef struct grad_operands {
    const float *a, *b;
    int64_t a_step, b_step;
    bool a_vector, b_vector;
    int round; /* PRECISION_*, where there are no tensor cores */
} grad_operands;

/* ---- A B or A B^T, with a slope ---- */

template <class T, bool B_ALONG>
__global__ static void __launch_bounds__(T::THREADS, T::BLOCKS) data_kernel(grad_operands o, product_size p, grad_finish finish)
{
    const tile_place<T> place;
    const grad_place<T> at(p);
    matrix_side<T, T::M, true> a = {o.a, o.a_step, at.row0, p.m, o.a_vector, o.round, {}};
    matrix_side<T, T::N, B_ALONG> b = {o.b, o.b_step, at.col0, p.n, o.b_vector, o.round, {}};
    float sum[T::TM][T::TN];
    tile_product<T>(a, b, at.begin, at.end, place, sum);
    tile_finish<T>(p, place, at.row0, at.col0, 0, sum, finish);
}

template <class T, bool B_ALONG>
__global__ static void __launch_bounds__(T::THREADS, T::BLOCKS) rounded_data_kernel(grad_operands o, product_size p, grad_finish finish)
{
    typedef round_side<T, T::M, true> side_a;
    typedef round_side<T, T::N, B_ALONG> side_b;
    const grad_place<T> at(p);
    side_a a = {o.a, o.a_step, at.row0, p.m, o.a_vector, {}};
    side_b b = {o.b, o.b_step, at.col0, p.n, o.b_vector, {}};
    float sum[T::WM / 16][T::WN / 8][4];
    round_product<T>(a, b, at.begin, at.end, sum);
    round_finish<T, side_a, side_b>(p, at.row0, at.col0, 0, sum, finish);
}

/* ---- A^T B, with the rows of an operand added up ---- */

/* A side of R columns that adds up what it loads. */
template <class T, int R, class SIDE> struct summed_side : SIDE {
    static constexpr int ACROSS = R / 4, LINES = T::THREADS / ACROSS;
    static_assert(T::THREADS % ACROSS == 0, "a thread keeps its columns");
    float4 total;

    __device__ summed_side(const SIDE &side) : SIDE(side), total(make_float4(0, 0, 0, 0)) {}
    __device__ void load(int64_t k, int64_t end)
    {
        SIDE::load(k, end);
        UNROLL
        for (int i = 0; i < SIDE::EACH; i++)
            if (SIDE::EACH * T::THREADS == SIDE::PIECES || (int)threadIdx.x + i * T::THREADS < SIDE::PIECES)
                total = make_float4(total.x + this->v[i].x, total.y + this->v[i].y, total.z + this->v[i].z, total.w + this->v[i].w);
    }
    /* The sums of all threads, in order, through shared memory of four numbers a thread. Ends behind a barrier. */
    __device__ void put(float *to, float4 *space) const
    {
        space[threadIdx.x] = total;
        __syncthreads();
        sum_lines<T, R, LINES>(to + this->first, reinterpret_cast<const float *>(space), this->rows - this->first);
    }
};

template <class T, bool OF_B>
__global__ static void __launch_bounds__(T::THREADS, T::BLOCKS)
    weight_kernel(grad_operands o, product_size p, grad_finish finish, float *sums)
{
    typedef matrix_side<T, T::M, false> side_a;
    typedef matrix_side<T, T::N, false> side_b;
    const tile_place<T> place;
    const grad_place<T> at(p);
    side_a a = {o.a, o.a_step, at.row0, p.m, o.a_vector, o.round, {}};
    side_b b = {o.b, o.b_step, at.col0, p.n, o.b_vector, o.round, {}};
    float sum[T::TM][T::TN];
    if constexpr (OF_B) {
        summed_side<T, T::N, side_b> s(b);
        tile_product<T>(a, s, at.begin, at.end, place, sum);
        if (at.row0 == 0)
            s.put(sums_place(p, sums, p.n), tile_space<T>());
    } else {
        summed_side<T, T::M, side_a> s(a);
        tile_product<T>(s, b, at.begin, at.end, place, sum);
        if (at.col0 == 0)
            s.put(sums_place(p, sums, p.m), tile_space<T>());
    }
    tile_finish<T>(p, place, at.row0, at.col0, 0, sum, finish);
}

template <class T, bool OF_B>
__global__ static void __launch_bounds__(T::THREADS, T::BLOCKS)
    rounded_weight_kernel(grad_operands o, product_size p, grad_finish finish, float *sums)
{
    typedef round_side<T, T::M, false> side_a;
    typedef round_side<T, T::N, false> side_b;
    const grad_place<T> at(p);
    side_a a = {o.a, o.a_step, at.row0, p.m, o.a_vector, {}};
    side_b b = {o.b, o.b_step, at.col0, p.n, o.b_vector, {}};
    float sum[T::WM / 16][T::WN / 8][4];
    float4 *space;
    if constexpr (OF_B) {
        typedef summed_side<T, T::N, side_b> summed;
        summed s(b);
        round_product<T>(a, s, at.begin, at.end, sum);
        space = reinterpret_cast<float4 *>(round_space<T, side_a, summed>());
        if (at.row0 == 0)
            s.put(sums_place(p, sums, p.n), space);
        round_finish<T, side_a, summed>(p, at.row0, at.col0, 0, sum, finish);
    } else {
        typedef summed_side<T, T::M, side_a> summed;
        summed s(a);
        round_product<T>(s, b, at.begin, at.end, sum);
        space = reinterpret_cast<float4 *>(round_space<T, summed, side_b>());
        if (at.col0 == 0)
            s.put(sums_place(p, sums, p.m), space);
        round_finish<T, summed, side_b>(p, at.row0, at.col0, 0, sum, finish);
    }
}

/* ---- launching ---- */

/* sums NULL: a product with a slope, else of A^T B. */
typedef struct grad_job {
    grad_operands o;
    grad_finish f;
    int64_t m, n, k;
    int precision;
    bool weight, b_along, of_b;
    float *sums;
} grad_job;

/* RUN(name, of data, of weights): for a tile, one of four kernels; launch false: only sizes. */
#define RUN(name, of_data, of_weight) \
    template <class T> static product_size name(const kernel_args *a, const grad_job &j, bool launch) \
    { \
        product_size p = product_of<T>(j.m, j.n, j.k, 1, a->work); \
        if (!launch) \
            return p; \
        const dim3 grid = product_grid<T>(&p); \
        if (j.weight && j.of_b) \
            LAUNCH((of_weight<T, true>), grid, T::THREADS, 0, a->queue, j.o, p, j.f, j.sums); \
        else if (j.weight) \
            LAUNCH((of_weight<T, false>), grid, T::THREADS, 0, a->queue, j.o, p, j.f, j.sums); \
        else if (j.b_along) \
            LAUNCH((of_data<T, true>), grid, T::THREADS, 0, a->queue, j.o, p, j.f); \
        else \
            LAUNCH((of_data<T, false>), grid, T::THREADS, 0, a->queue, j.o, p, j.f); \
        return p; \
    }
RUN(grad_run, data_kernel, weight_kernel)
RUN(rounded_run, rounded_data_kernel, rounded_weight_kernel)

template <class E> static product_size rounded_choose(const kernel_args *a, const grad_job &j, bool launch)
{
    return tile_choose(j.m, j.n, 1) == TILE_LARGE ? rounded_run<round_shape<E, 128, 128, 32, 32, 1>>(a, j, launch)
                                                  : rounded_run<round_shape<E, 64, 64, 32, 16, 2>>(a, j, launch);
}

static product_size grad_choose(const kernel_args *a, const grad_job &j, bool launch)
{
    if (has_tensor_cores(a) && j.precision == PRECISION_BF16)
        return rounded_choose<round_bf16>(a, j, launch);
    if (has_tensor_cores(a) && j.precision == PRECISION_F16)
        return rounded_choose<round_f16>(a, j, launch);
    if (has_tensor_cores(a) && a->queue->tf32)
        return rounded_choose<round_tf32>(a, j, launch);
    switch (tile_choose(j.m, j.n, 1)) {
#define CHOOSE(kind, T) \
    case kind: \
        return grad_run<T>(a, j, launch);
        TILE_KINDS(CHOOSE)
#undef CHOOSE
    }
    return product_size();
}

static int64_t rows_of(const shape *s)
{
    int64_t rows = 1;
    for (int i = 0; i + 1 < s->rank; i++)
        rows *= s->dim[i];
    return rows;
}

static grad_job grad_job_of(const kernel_args *a)
{
    const linear_grad_attrs *at = (const linear_grad_attrs *)a->attr;
    const shape *x = &a->in[0].sh, *w = &a->in[1].sh;
    grad_job j = {};
    j.o.a = (const float *)a->in[0].data;
    j.o.b = (const float *)a->in[1].data;
    j.o.a_step = x->dim[x->rank - 1];
    j.o.b_step = w->dim[w->rank - 1];
    j.o.a_vector = is_vector(j.o.a) && j.o.a_step % 4 == 0;
    j.o.b_vector = is_vector(j.o.b) && j.o.b_step % 4 == 0;
    j.o.round = (int)at->precision;
    j.precision = (int)at->precision;
    j.f.y = (float *)a->out[0].data;
    j.f.alpha = (float)at->alpha;
    return j;
}

static grad_job data_job(const kernel_args *a)
{
    const linear_grad_attrs *at = (const linear_grad_attrs *)a->attr;
    grad_job j = grad_job_of(a);
    const shape *w = &a->in[1].sh;
    j.m = rows_of(&a->in[0].sh);
    j.k = j.o.a_step;
    j.b_along = at->transB != 0;
    j.n = j.f.n = j.b_along ? w->dim[0] : w->dim[1];
    j.f.kept = (const float *)a->in[2].data;
    j.f.residual = a->n_in > 3 ? (const float *)a->in[3].data : NULL;
    j.f.activation = (int)at->activation;
    j.f.vector = j.n % 4 == 0 && is_vector(j.f.y) && is_vector(j.f.kept) && is_vector(j.f.residual);
    return j;
}
static size_t data_workspace(const kernel_args *a)
{
    const product_size p = grad_choose(a, data_job(a), false);
    return product_workspace(&p);
}
/* All operands are float32: the order of a mask's bits is a library's. */
static bool are_floats(const kernel_args *a)
{
    bool ok = true;
    for (int i = 0; i < a->n_in; i++)
        ok = ok && (a->in[i].type == DTYPE_F32 || a->in[i].type == DTYPE_NONE);
    for (int i = 0; i < a->n_out; i++)
        ok = ok && a->out[i].type == DTYPE_F32;
    return ok;
}
static void data_run(const kernel_args *a)
{
    const grad_job j = data_job(a);
    if (j.m * j.n == 0)
        return;
    const product_size p = grad_choose(a, j, true);
    if (p.splits > 1)
        LAUNCH((product_join<grad_finish>), grid_for(a->queue, j.m * j.n, 1), CUDA_THREADS, 0, a->queue, p, j.f);
}

static grad_job weight_job(const kernel_args *a)
{
    grad_job j = grad_job_of(a);
    j.weight = true;
    j.of_b = ((const linear_grad_attrs *)a->attr)->sums_of != 0;
    j.m = j.o.a_step;
    j.n = j.f.n = j.o.b_step;
    j.k = rows_of(&a->in[0].sh);
    j.sums = (float *)a->out[1].data;
    j.f.vector = j.n % 4 == 0 && is_vector(j.f.y);
    return j;
}
static size_t weight_workspace(const kernel_args *a)
{
    const grad_job j = weight_job(a);
    const product_size p = grad_choose(a, j, false);
    return p.splits > 1 ? product_workspace(&p) + (size_t)(p.splits * (j.of_b ? j.n : j.m)) * sizeof(float) : 0;
}
/* Both sides have columns (weight_takes), so that there are blocks that add up. */
static void weight_run(const kernel_args *a)
{
    const grad_job j = weight_job(a);
    const product_size p = grad_choose(a, j, true);
    const int64_t columns = j.of_b ? j.n : j.m;
    if (p.splits > 1)
        LAUNCH((weight_join<grad_finish>), grid_for(a->queue, j.m * j.n + columns, 1), CUDA_THREADS, 0, a->queue, p, j.f, j.sums, columns);
}
static bool weight_takes(const kernel_args *a)
{
    return are_floats(a) && shape_count(&a->out[0].sh) > 0;
}

CUDA_TABLE(linear_grad) = {
    {.op = OP_LINEAR_GRAD_DATA, .type = DTYPE_F32, .name = "linear_grad_data", .run = data_run, .workspace = data_workspace,
     .takes = are_floats},
    {.op = OP_LINEAR_GRAD_WEIGHT, .type = DTYPE_F32, .name = "linear_grad_weight", .run = weight_run, .workspace = weight_workspace,
     .takes = weight_takes},
    KERNEL_END};
