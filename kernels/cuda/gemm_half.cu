/* gemm_half.cu - Linear and MatMul (src/ops/matmul.c) of matrices that lie in float16 or bfloat16, without a library: the tiles of
 * round_tile.cuh, filled as the numbers lie. Sums and activation are float32; the result, the bias and the residual lie in either type,
 * what the activation was made of in the narrow one. */
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/batches.cuh"
#include "kernels/cuda/mixed.cuh"
#include "kernels/cuda/half_side.cuh"

#include <type_traits>

/* pre = alpha * sum + bias + residual, y = activation(pre): [batches, m, n] all */
struct half_finish {
    void *y, *pre;        /* pre may be NULL */
    const void *residual, *bias; /* NULL: none */
    int y_kind, pre_kind, residual_kind, bias_kind;
    int64_t m, n;
    float alpha;
    int activation;
    bool vector; /* n is a multiple of 4 */

    /* Four neighbouring columns, or fewer. */
    struct column {
        int64_t first, col; /* first: row of all products */
        __device__ column(const half_finish &f, int64_t batch, int64_t col_, int64_t) : first(batch * f.m), col(col_) {}
        template <int V> __device__ void put_some(const half_finish &f, int64_t row, int64_t c, pack<float, V> v) const
        {
            const int64_t to = (first + row) * f.n + c;
            pack<float, V> r;
            UNROLL
            for (int i = 0; i < V; i++)
                v.at[i] *= f.alpha;
            if (f.bias) {
                r = mixed_load<V>(f.bias, f.bias_kind, c);
                UNROLL
                for (int i = 0; i < V; i++)
                    v.at[i] += r.at[i];
            }
            if (f.residual) {
                r = mixed_load<V>(f.residual, f.residual_kind, to);
                UNROLL
                for (int i = 0; i < V; i++)
                    v.at[i] += r.at[i];
            }
            if (f.pre)
                mixed_store<V>(f.pre, f.pre_kind, to, v);
            UNROLL
            for (int i = 0; i < V; i++)
                v.at[i] = activation_result(f.activation, v.at[i]);
            mixed_store<V>(f.y, f.y_kind, to, v);
        }
        __device__ void put(const half_finish &f, int64_t row, float4 v, int64_t there) const
        {
            const pack<float, 4> all = {{v.x, v.y, v.z, v.w}};
            if (f.vector && there >= 4) {
                put_some<4>(f, row, col, all);
                return;
            }
            NO_UNROLL
            for (int i = 0; i < 4; i++)
                if (i < there) {
                    const pack<float, 1> one = {{i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w}};
                    put_some<1>(f, row, col + i, one);
                }
        }
    };
};

template <class H> struct half_operands {
    const H *a, *b;
    int64_t a_step, b_step;
    batch_axes axes;
    bool a_vector, b_vector;
};

template <class T, class H, bool A_ALONG, bool B_ALONG>
__global__ static void __launch_bounds__(T::THREADS, T::BLOCKS) half_kernel(half_operands<H> o, product_size p, half_finish finish)
{
    typedef half_side<T, H, T::M, A_ALONG> side_a;
    typedef half_side<T, H, T::N, B_ALONG> side_b;
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

typedef struct half_job {
    int64_t m, n, k, batches;
    bool ta, tb;
    batch_axes axes;
} half_job;

static half_job linear_job(const kernel_args *a)
{
    const linear_attrs *at = (const linear_attrs *)a->attr;
    const shape *x = &a->in[0].sh, *w = &a->in[1].sh;
    const int64_t cols = x->dim[x->rank - 1];
    int64_t rows = 1;
    for (int i = 0; i < x->rank - 1; i++)
        rows *= x->dim[i];
    half_job j = {.batches = 1, .ta = at->transA != 0, .tb = at->transB != 0, .axes = {}};
    j.m = j.ta ? cols : rows;
    j.k = j.ta ? rows : cols;
    j.n = w->dim[j.tb ? 0 : 1];
    return j;
}
static half_job matmul_job(const kernel_args *a)
{
    const matmul_sizes s = matmul_sizes_of(a);
    return {.m = s.ta ? s.a_cols : s.a_rows, .n = s.tb ? s.b_rows : s.b_cols, .k = s.ta ? s.a_rows : s.a_cols, .batches = s.batches,
            .ta = s.ta, .tb = s.tb, .axes = s.axes};
}

/* finish NULL: only sizes, of which the workspace follows. */
template <class H, class T> static product_size run_with(const kernel_args *a, const half_job &j, const half_finish *finish)
{
    product_size p = product_of<T>(j.m, j.n, j.k, j.batches, a->work);
    if (!finish || j.m * j.n * j.batches == 0)
        return p;
    const int64_t a_step = j.ta ? j.m : j.k, b_step = j.tb ? j.k : j.n;
    const half_operands<H> o = {(const H *)a->in[0].data, (const H *)a->in[1].data, a_step, b_step, j.axes,
                                is_vector(a->in[0].data) && a_step % 8 == 0, is_vector(a->in[1].data) && b_step % 8 == 0};
    const dim3 grid = product_grid<T>(&p);
    if (j.ta && !j.tb)
        LAUNCH((half_kernel<T, H, false, false>), grid, T::THREADS, 0, a->queue, o, p, *finish);
    else if (j.ta)
        LAUNCH((half_kernel<T, H, false, true>), grid, T::THREADS, 0, a->queue, o, p, *finish);
    else if (!j.tb)
        LAUNCH((half_kernel<T, H, true, false>), grid, T::THREADS, 0, a->queue, o, p, *finish);
    else
        LAUNCH((half_kernel<T, H, true, true>), grid, T::THREADS, 0, a->queue, o, p, *finish);
    if (p.splits > 1)
        LAUNCH((product_join<half_finish>), grid_for(a->queue, j.m * j.n * j.batches, 1), CUDA_THREADS, 0, a->queue, p, *finish);
    return p;
}
template <class H> static product_size run_some(const kernel_args *a, const half_job &j, const half_finish *finish)
{
    return tile_choose(j.m, j.n, j.batches) == TILE_LARGE ? run_with<H, round_shape<round_half<H>, 128, 128, 32, 32, 1>>(a, j, finish)
                                                          : run_with<H, round_shape<round_half<H>, 64, 64, 32, 16, 2>>(a, j, finish);
}
static half_finish finish_of(const kernel_args *a, const half_job &j, float alpha)
{
    half_finish f = {};
    f.y = a->out[0].data;
    f.y_kind = mixed_kind_of(a->out[0].type);
    f.m = j.m;
    f.n = j.n;
    f.alpha = alpha;
    f.vector = f.n % 4 == 0;
    return f;
}

/* ---- Linear ---- */

template <class H> static void linear_run(const kernel_args *a)
{
    const linear_attrs *at = (const linear_attrs *)a->attr;
    const half_job j = linear_job(a);
    half_finish f = finish_of(a, j, (float)at->alpha);
    f.activation = (int)at->activation;
    if (a->n_out > 1) {
        f.pre = a->out[1].data;
        f.pre_kind = mixed_kind_of(a->out[1].type);
    }
    if (a->n_in > 2) {
        f.bias = a->in[2].data;
        f.bias_kind = mixed_kind_of(a->in[2].type);
    }
    if (a->n_in > 3) {
        f.residual = a->in[3].data;
        f.residual_kind = mixed_kind_of(a->in[3].type);
    }
    run_some<H>(a, j, &f);
}
template <class H> static size_t linear_workspace(const kernel_args *a)
{
    const product_size p = run_some<H>(a, linear_job(a), NULL);
    return product_workspace(&p);
}

/* Not where the operands are to be rounded to another type. */
template <class H> static bool linear_takes(const kernel_args *a)
{
    const int64_t own = std::is_same<H, __half>::value ? PRECISION_F16 : PRECISION_BF16, asked = ((const linear_attrs *)a->attr)->precision;
    return has_tensor_cores(a) && (asked == PRECISION_FP32 || asked == own);
}

/* ---- MatMul ---- */

template <class H> static void matmul_run(const kernel_args *a)
{
    const half_job j = matmul_job(a);
    half_finish f = finish_of(a, j, 1);
    f.activation = ACTIVATION_NONE;
    run_some<H>(a, j, &f);
}
template <class H> static size_t matmul_workspace(const kernel_args *a)
{
    const product_size p = run_some<H>(a, matmul_job(a), NULL);
    return product_workspace(&p);
}

/* The second takes what was chosen with a library's row in mind, that wants the bias in the type of the result. */
#define LINEAR_ROW(E, H, in, either)                                                                                   \
    {.op = OP_LINEAR, .name = "linear " #E, .run = linear_run<H>, .workspace = linear_workspace<H>, .takes = linear_takes<H>, \
     .narrow = DTYPE_##E, .narrow_in = in, .narrow_out = 3, .either_in = either, .either_out = 1}
#define ROWS(E, H)                                                                                                     \
    LINEAR_ROW(E, H, 11, 8), LINEAR_ROW(E, H, 15, 12),                                                                 \
    {.op = OP_MATMUL, .name = "matmul " #E, .run = matmul_run<H>, .workspace = matmul_workspace<H>, .takes = has_tensor_cores, \
     .narrow = DTYPE_##E, .narrow_in = 3, .narrow_out = 1, .either_out = 1}

CUDA_TABLE(gemm_half) = {ROWS(F16, __half), ROWS(BF16, __nv_bfloat16), KERNEL_END};
