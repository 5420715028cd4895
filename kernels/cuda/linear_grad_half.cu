/* linear_grad_half.cu - LinearGradData and LinearGradWeight (src/ops/matmul.c) of matrices that lie in float16 or bfloat16, without a
 * library: the tiles of gemm_half.cu with what linear_grad.cu does beside a product. Sums, weights' and biases' gradients are
 * float32; what an activation kept, a residual and the data's gradient lie in either type. */
#include "kernels/cuda/half_side.cuh"
#include "kernels/cuda/linear_grad.cuh"
#include "kernels/cuda/mixed.cuh"
#include "kernels/cuda/slope.cuh"

/* ---- what happens to a sum: y = (alpha * sum + residual) * slope(kept) ---- */

struct half_grad_finish {
    void *y;                     /* dense [m, n], as residual and kept, which may be NULL */
    const void *residual, *kept;
    int y_kind, residual_kind, kept_kind;
    int64_t n;
    float alpha;
    int activation;
    bool vector; /* n is a multiple of 4 */

    struct column {
        int64_t col;
        __device__ column(const half_grad_finish &, int64_t, int64_t col_, int64_t) : col(col_) {}
        template <int V> __device__ static void put_some(const half_grad_finish &f, int64_t to, pack<float, V> v)
        {
            pack<float, V> more;
            UNROLL
            for (int i = 0; i < V; i++)
                v.at[i] *= f.alpha;
            if (f.residual) {
                more = mixed_load<V>(f.residual, f.residual_kind, to);
                UNROLL
                for (int i = 0; i < V; i++)
                    v.at[i] += more.at[i];
            }
            if (f.kept) {
                more = mixed_load<V>(f.kept, f.kept_kind, to);
                UNROLL
                for (int i = 0; i < V; i++)
                    v.at[i] = sloped(f.activation, v.at[i], more.at[i]);
            }
            mixed_store<V>(f.y, f.y_kind, to, v);
        }
        __device__ void put(const half_grad_finish &f, int64_t row, float4 v, int64_t have) const
        {
            const int64_t to = row * f.n + col;
            if (f.vector && have >= 4) {
                const pack<float, 4> all = {{v.x, v.y, v.z, v.w}};
                put_some<4>(f, to, all);
                return;
            }
            NO_UNROLL
            for (int i = 0; i < 4; i++)
                if (i < have) {
                    const pack<float, 1> one = {{i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w}};
                    put_some<1>(f, to + i, one);
                }
        }
    };
};

template <class H> struct half_grad_operands {
    const H *a, *b;
    int64_t a_step, b_step;
    bool a_vector, b_vector;
};

/* ---- A B or A B^T, with a slope ---- */

template <class T, class H, bool B_ALONG>
__global__ static void __launch_bounds__(T::THREADS, T::BLOCKS)
    half_data_kernel(half_grad_operands<H> o, product_size p, half_grad_finish finish)
{
    typedef half_side<T, H, T::M, true> side_a;
    typedef half_side<T, H, T::N, B_ALONG> side_b;
    const grad_place<T> at(p);
    side_a a = {o.a, o.a_step, at.row0, p.m, o.a_vector, {}};
    side_b b = {o.b, o.b_step, at.col0, p.n, o.b_vector, {}};
    float sum[T::WM / 16][T::WN / 8][4];
    round_product<T>(a, b, at.begin, at.end, sum);
    round_finish<T, side_a, side_b>(p, at.row0, at.col0, 0, sum, finish);
}

/* ---- A^T B, with the rows of an operand added up ---- */

/* A side of R columns that adds up what it loads, eight columns a thread. */
template <class T, class H, int R> struct summed_half : half_side<T, H, R, false> {
    typedef half_side<T, H, R, false> side;
    static constexpr int ACROSS8 = R / 8, LINES = T::THREADS / ACROSS8;
    static_assert(T::THREADS % ACROSS8 == 0, "a thread keeps its columns");
    float total[8];

    __device__ summed_half(const side &from) : side(from)
    {
        UNROLL
        for (int i = 0; i < 8; i++)
            total[i] = 0;
    }
    __device__ void load(int64_t k, int64_t end)
    {
        side::load(k, end);
        UNROLL
        for (int i = 0; i < side::EACH; i++) {
            H h[8];
            memcpy(h, &this->v[i], sizeof h);
            UNROLL
            for (int j = 0; j < 8; j++)
                total[j] += as_float(h[j]);
        }
    }
    /* The sums of all threads, in order, through shared memory of eight numbers a thread. Ends behind a barrier. */
    __device__ void put(float *to, float *space) const
    {
        UNROLL
        for (int j = 0; j < 8; j++)
            space[threadIdx.x * 8 + j] = total[j];
        __syncthreads();
        sum_lines<T, R, LINES>(to + this->first, space, this->rows - this->first);
    }
};

template <class T, class H, bool OF_B>
__global__ static void __launch_bounds__(T::THREADS, T::BLOCKS)
    half_weight_kernel(half_grad_operands<H> o, product_size p, half_grad_finish finish, float *sums)
{
    typedef half_side<T, H, T::M, false> side_a;
    typedef half_side<T, H, T::N, false> side_b;
    const grad_place<T> at(p);
    side_a a = {o.a, o.a_step, at.row0, p.m, o.a_vector, {}};
    side_b b = {o.b, o.b_step, at.col0, p.n, o.b_vector, {}};
    float sum[T::WM / 16][T::WN / 8][4];
    float *const place = sums_place(p, sums, OF_B ? p.n : p.m);
    if constexpr (OF_B) {
        typedef summed_half<T, H, T::N> summed;
        static_assert(2 * (side_a::BYTES + summed::BYTES) >= 32 * T::THREADS, "eight numbers a thread");
        summed s(b);
        round_product<T>(a, s, at.begin, at.end, sum);
        if (at.row0 == 0)
            s.put(place, reinterpret_cast<float *>(round_space<T, side_a, summed>()));
        round_finish<T, side_a, summed>(p, at.row0, at.col0, 0, sum, finish);
    } else {
        typedef summed_half<T, H, T::M> summed;
        static_assert(2 * (summed::BYTES + side_b::BYTES) >= 32 * T::THREADS, "eight numbers a thread");
        summed s(a);
        round_product<T>(s, b, at.begin, at.end, sum);
        if (at.col0 == 0)
            s.put(place, reinterpret_cast<float *>(round_space<T, summed, side_b>()));
        round_finish<T, summed, side_b>(p, at.row0, at.col0, 0, sum, finish);
    }
}

/* ---- launching ---- */

typedef struct half_grad_job {
    int64_t m, n, k;
    bool weight, b_along, of_b;
    half_grad_finish f;
    float *sums;
} half_grad_job;

/* launch false: only sizes, of which the workspace follows. */
template <class H, class T> static product_size run_with(const kernel_args *a, const half_grad_job &j, bool launch)
{
    const int64_t a_step = j.weight ? j.m : j.k, b_step = j.b_along ? j.k : j.n;
    const product_size p = product_of<T>(j.m, j.n, j.k, 1, a->work);
    if (!launch || j.m * j.n == 0)
        return p;
    const half_grad_operands<H> o = {(const H *)a->in[0].data, (const H *)a->in[1].data, a_step, b_step,
                                     is_vector(a->in[0].data) && a_step % 8 == 0, is_vector(a->in[1].data) && b_step % 8 == 0};
    const dim3 grid = product_grid<T>(&p);
    const int64_t columns = j.of_b ? j.n : j.m;
    if (j.weight && j.of_b)
        LAUNCH((half_weight_kernel<T, H, true>), grid, T::THREADS, 0, a->queue, o, p, j.f, j.sums);
    else if (j.weight)
        LAUNCH((half_weight_kernel<T, H, false>), grid, T::THREADS, 0, a->queue, o, p, j.f, j.sums);
    else if (j.b_along)
        LAUNCH((half_data_kernel<T, H, true>), grid, T::THREADS, 0, a->queue, o, p, j.f);
    else
        LAUNCH((half_data_kernel<T, H, false>), grid, T::THREADS, 0, a->queue, o, p, j.f);
    if (p.splits > 1 && j.weight)
        LAUNCH((weight_join<half_grad_finish>), grid_for(a->queue, j.m * j.n + columns, 1), CUDA_THREADS, 0, a->queue, p, j.f, j.sums, columns);
    else if (p.splits > 1)
        LAUNCH((product_join<half_grad_finish>), grid_for(a->queue, j.m * j.n, 1), CUDA_THREADS, 0, a->queue, p, j.f);
    return p;
}
template <class H> static product_size run_some(const kernel_args *a, const half_grad_job &j, bool launch)
{
    return tile_choose(j.m, j.n, 1) == TILE_LARGE ? run_with<H, round_shape<round_half<H>, 128, 128, 32, 32, 1>>(a, j, launch)
                                                  : run_with<H, round_shape<round_half<H>, 64, 64, 32, 16, 2>>(a, j, launch);
}

static half_grad_job job_of(const kernel_args *a, bool weight)
{
    const linear_grad_attrs *at = (const linear_grad_attrs *)a->attr;
    const shape *x = &a->in[0].sh, *w = &a->in[1].sh;
    const int64_t cols = x->dim[x->rank - 1];
    int64_t rows = 1;
    half_grad_job j = {};
    for (int i = 0; i + 1 < x->rank; i++)
        rows *= x->dim[i];
    j.weight = weight;
    j.m = weight ? cols : rows;
    j.k = weight ? rows : cols;
    j.b_along = !weight && at->transB != 0;
    j.n = j.b_along ? w->dim[0] : w->dim[w->rank - 1];
    j.f.y = a->out[0].data;
    j.f.y_kind = mixed_kind_of(a->out[0].type);
    j.f.n = j.n;
    j.f.alpha = (float)at->alpha;
    j.f.vector = j.n % 4 == 0;
    if (weight) {
        j.of_b = at->sums_of != 0;
        j.sums = (float *)a->out[1].data;
        return j;
    }
    j.f.activation = (int)at->activation;
    j.f.kept = a->in[2].data;
    j.f.kept_kind = mixed_kind_of(a->in[2].type);
    if (a->n_in > 3) {
        j.f.residual = a->in[3].data;
        j.f.residual_kind = mixed_kind_of(a->in[3].type);
    }
    return j;
}

template <class H> static void data_run(const kernel_args *a) { run_some<H>(a, job_of(a, false), true); }
template <class H> static size_t data_workspace(const kernel_args *a)
{
    const product_size p = run_some<H>(a, job_of(a, false), false);
    return product_workspace(&p);
}
/* Whether the operands are to be rounded to what they lie in, or not at all. */
static bool is_precise(const kernel_args *a)
{
    const int64_t other = a->in[0].type == DTYPE_F16 ? PRECISION_BF16 : PRECISION_F16;
    return has_tensor_cores(a) && ((const linear_grad_attrs *)a->attr)->precision != other;
}
static bool data_takes(const kernel_args *a)
{
    return is_precise(a) && a->in[2].type != DTYPE_U8;
}

template <class H> static void weight_run(const kernel_args *a) { run_some<H>(a, job_of(a, true), true); }
template <class H> static size_t weight_workspace(const kernel_args *a)
{
    const half_grad_job j = job_of(a, true);
    const product_size p = run_some<H>(a, j, false);
    return p.splits > 1 ? product_workspace(&p) + (size_t)(p.splits * (j.of_b ? j.n : j.m)) * sizeof(float) : 0;
}
static bool weight_takes(const kernel_args *a)
{
    return is_precise(a) && a->out[0].type == DTYPE_F32 && a->out[1].type == DTYPE_F32 && shape_count(&a->out[0].sh) > 0;
}

#define ROWS(E, H)                                                                                                            \
    {.op = OP_LINEAR_GRAD_DATA, .name = "linear_grad_data " #E, .run = data_run<H>, .workspace = data_workspace<H>,            \
     .takes = data_takes, .narrow = DTYPE_##E, .narrow_in = 15, .narrow_out = 1, .either_in = 12, .either_out = 1},            \
    {.op = OP_LINEAR_GRAD_WEIGHT, .name = "linear_grad_weight " #E, .run = weight_run<H>, .workspace = weight_workspace<H>,    \
     .takes = weight_takes, .narrow = DTYPE_##E, .narrow_in = 3}

CUDA_TABLE(linear_grad_half) = {ROWS(F16, __half), ROWS(BF16, __nv_bfloat16), KERNEL_END};
