/* gemm_half.cu - Linear (src/ops/matmul.c) of matrices that lie in float16 or bfloat16, without a library: the tiles of round_tile.cuh,
 * filled as the numbers lie. Sums, bias and activation are float32; the result and the residual lie in either type, what the
 * activation was made of in the narrow one. */
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/mixed.cuh"
#include "kernels/cuda/half_side.cuh"

#include <type_traits>

/* pre = alpha * sum + bias + residual, y = activation(pre): [m, n] all */
struct half_finish {
    void *y, *pre;        /* pre may be NULL */
    const void *residual; /* NULL: none */
    const float *bias;    /* likewise */
    int y_kind, pre_kind, residual_kind;
    int64_t n;
    float alpha;
    int activation;
    bool vector; /* n is a multiple of 4 */

    /* Four neighbouring columns, or fewer. */
    struct column {
        int64_t col, have;
        __device__ column(const half_finish &, int64_t, int64_t col_, int64_t have_) : col(col_), have(have_) {}
        template <int V> __device__ void put_some(const half_finish &f, int64_t row, int64_t c, pack<float, V> v) const
        {
            const int64_t to = row * f.n + c;
            pack<float, V> r;
            UNROLL
            for (int i = 0; i < V; i++)
                v.at[i] = f.alpha * v.at[i] + (f.bias ? f.bias[c + i] : 0);
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
    bool a_vector, b_vector;
};

template <class T, class H, bool A_ALONG, bool B_ALONG>
__global__ static void __launch_bounds__(T::THREADS, T::BLOCKS) half_kernel(half_operands<H> o, product_size p, half_finish finish)
{
    typedef half_side<T, H, T::M, A_ALONG> side_a;
    typedef half_side<T, H, T::N, B_ALONG> side_b;
    const int64_t tile_n = blockIdx.x / p.tiles_m, row0 = (blockIdx.x - tile_n * p.tiles_m) * T::M, col0 = tile_n * T::N;
    const int64_t begin = blockIdx.z * p.share, end = begin + p.share < p.k ? begin + p.share : p.k;
    side_a a = {o.a, o.a_step, row0, p.m, o.a_vector, {}};
    side_b b = {o.b, o.b_step, col0, p.n, o.b_vector, {}};
    float sum[T::WM / 16][T::WN / 8][4];
    round_product<T>(a, b, begin, end, sum);
    round_finish<T, side_a, side_b>(p, row0, col0, 0, sum, finish);
}

typedef struct half_job {
    int64_t m, n, k;
    bool ta, tb;
} half_job;

static half_job job_of(const kernel_args *a)
{
    const linear_attrs *at = (const linear_attrs *)a->attr;
    const shape *x = &a->in[0].sh, *w = &a->in[1].sh;
    const int64_t cols = x->dim[x->rank - 1];
    int64_t rows = 1;
    for (int i = 0; i < x->rank - 1; i++)
        rows *= x->dim[i];
    half_job j = {.ta = at->transA != 0, .tb = at->transB != 0};
    j.m = j.ta ? cols : rows;
    j.k = j.ta ? rows : cols;
    j.n = w->dim[j.tb ? 0 : 1];
    return j;
}

/* finish NULL: only sizes, of which the workspace follows. */
template <class H, class T> static product_size run_with(const kernel_args *a, const half_job &j, const half_finish *finish)
{
    product_size p = product_of<T>(j.m, j.n, j.k, 1, a->work);
    if (!finish || j.m * j.n == 0)
        return p;
    const half_operands<H> o = {(const H *)a->in[0].data, (const H *)a->in[1].data, j.ta ? j.m : j.k, j.tb ? j.k : j.n,
                                is_vector(a->in[0].data) && (j.ta ? j.m : j.k) % 8 == 0,
                                is_vector(a->in[1].data) && (j.tb ? j.k : j.n) % 8 == 0};
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
        LAUNCH((product_join<half_finish>), grid_for(a->queue, j.m * j.n, 1), CUDA_THREADS, 0, a->queue, p, *finish);
    return p;
}
template <class H> static product_size run_some(const kernel_args *a, const half_finish *finish)
{
    const half_job j = job_of(a);
    return tile_choose(j.m, j.n, 1) == TILE_LARGE ? run_with<H, round_shape<round_half<H>, 128, 128, 32, 32, 1>>(a, j, finish)
                                                  : run_with<H, round_shape<round_half<H>, 64, 64, 32, 16, 2>>(a, j, finish);
}

template <class H> static void linear_run(const kernel_args *a)
{
    const linear_attrs *at = (const linear_attrs *)a->attr;
    half_finish f = {};
    f.y = a->out[0].data;
    f.y_kind = mixed_kind_of(a->out[0].type);
    f.n = job_of(a).n;
    f.alpha = (float)at->alpha;
    f.activation = (int)at->activation;
    f.vector = f.n % 4 == 0;
    if (a->n_out > 1) {
        f.pre = a->out[1].data;
        f.pre_kind = mixed_kind_of(a->out[1].type);
    }
    if (a->n_in > 2)
        f.bias = (const float *)a->in[2].data;
    if (a->n_in > 3) {
        f.residual = a->in[3].data;
        f.residual_kind = mixed_kind_of(a->in[3].type);
    }
    run_some<H>(a, &f);
}
template <class H> static size_t linear_workspace(const kernel_args *a)
{
    const product_size p = run_some<H>(a, NULL);
    return product_workspace(&p);
}

/* Not where the operands are to be rounded to another type. */
template <class H> static bool takes(const kernel_args *a)
{
    const int64_t own = std::is_same<H, __half>::value ? PRECISION_F16 : PRECISION_BF16, asked = ((const linear_attrs *)a->attr)->precision;
    return has_tensor_cores(a) && (asked == PRECISION_FP32 || asked == own);
}

#define ROW(E, H)                                                                                                      \
    {.op = OP_LINEAR, .name = "linear " #E, .run = linear_run<H>, .workspace = linear_workspace<H>, .takes = takes<H>,       \
     .narrow = DTYPE_##E, .narrow_in = 11, .narrow_out = 3, .either_in = 8, .either_out = 1}

CUDA_TABLE(gemm_half) = {ROW(F16, __half), ROW(BF16, __nv_bfloat16), KERNEL_END};
