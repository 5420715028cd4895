/* fp8.cu - Linear whose operands are rounded to numbers of 8 bits (e4m3.h), on tensor cores that multiply these (sm_89 and later).
 *
 * B is packed before, once where it is a constant: [N, K'] bytes, K' = K rounded up to 16, zeros beyond K. cuBLASLt takes that as it
 * lies, where N is a multiple of 16, and A packed likewise; bias, activation and what else follows are one more pass. Our own kernel
 * scales and rounds A (float32 in memory) while it is brought to shared memory, and does all in one: the product is
 * round_tile.cuh's, what follows matrix.cuh's. */
#include "kernels/cuda/matrix.cuh"
#include "kernels/cuda/round_tile.cuh"
extern "C" {
#include "kernels/cuda/blas.h"
}

ON_BOTH int64_t fp8_line(int64_t k)
{
    return (k + 15) / 16 * 16;
}

/* n rows of k numbers, scaled, rounded and filled up. Element (row, i) lies at row * n_step + i * k_step; `vector`: four at a time. */
__global__ static void pack_kernel(uint32_t *to, const float *from, int64_t k_step, int64_t n_step, int64_t k, int64_t n, float scale,
                                   bool vector)
{
    const int64_t words = fp8_line(k) / 4;
    GRID_STRIDE(i, n * words)
    {
        const int64_t row = i / words, at = (i - row * words) * 4, have = k - at;
        const float *p = from + row * n_step + at * k_step;
        const float4 v = vector ? fetch4(p, have, true)
                                : make_float4(have > 0 ? p[0] : 0, have > 1 ? p[k_step] : 0, have > 2 ? p[2 * k_step] : 0,
                                              have > 3 ? p[3 * k_step] : 0);
        to[i] = e4m3_word(v.x * scale, v.y * scale, v.z * scale, v.w * scale);
    }
}
static void pack(const kernel_args *a, void *to, const void *from, int64_t k_step, int64_t n_step, int64_t k, int64_t n, double range)
{
    LAUNCH(pack_kernel, grid_for(a->queue, n * fp8_line(k) / 4, 1), CUDA_THREADS, 0, a->queue, (uint32_t *)to, (const float *)from,
           k_step, n_step, k, n, e4m3_scale(range), k_step == 1 && k % 4 == 0 && is_vector(from));
}

struct fp8_pair {
    static constexpr int PER = 4;
    __device__ static void multiply(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { mma_e4m3(sum, a, b); }
};
typedef round_shape<fp8_pair, 128, 128, 32, 32, 1> fp8_large;
typedef round_shape<fp8_pair, 64, 64, 32, 16, 2> fp8_small;

/* R rows of T::K bytes in shared memory; what round_side is for halves. */
template <class T, int R> struct fp8_lines {
    static constexpr int LINE = T::K + 16, BYTES = R * LINE;
    __device__ static void fragment(uint32_t (&to)[4], const unsigned char *from, int r, int k)
    {
        const int lane = (int)threadIdx.x & 31;
        load_matrices(to, from + (r + (lane & 15)) * LINE + k + (lane >> 4) * 16);
    }
};

/* Element (r, k) lies at r * step + k, as a float. */
template <class T, int R> struct fp8_rounded : fp8_lines<T, R> {
    static constexpr int PIECES = R * T::K / 4, EACH = PIECES / T::THREADS, ACROSS = T::K / 4;
    static_assert(PIECES % T::THREADS == 0, "all threads load as much");
    const float *p;
    int64_t step, first, rows;
    bool vector;
    float scale;
    float4 v[EACH];

    __device__ void load(int64_t k, int64_t end)
    {
        UNROLL
        for (int i = 0; i < EACH; i++) {
            const int piece = (int)threadIdx.x + i * T::THREADS;
            const int64_t r = first + piece / ACROSS, at = k + piece % ACROSS * 4;
            v[i] = fetch4(p + r * step + at, r < rows ? end - at : 0, vector);
        }
    }
    __device__ void store(unsigned char *to) const
    {
        UNROLL
        for (int i = 0; i < EACH; i++) {
            const int piece = (int)threadIdx.x + i * T::THREADS;
            *reinterpret_cast<uint32_t *>(to + piece / ACROSS * this->LINE + piece % ACROSS * 4) =
                e4m3_word(v[i].x * scale, v[i].y * scale, v[i].z * scale, v[i].w * scale);
        }
    }
};

/* The same of what was packed, rows of `step` bytes. */
template <class T, int R> struct fp8_packed : fp8_lines<T, R> {
    static constexpr int PIECES = R * T::K / 16, EACH = PIECES / T::THREADS, ACROSS = T::K / 16;
    static_assert(PIECES % T::THREADS == 0, "all threads load as much");
    const unsigned char *p;
    int64_t step, first, rows;
    uint4 v[EACH];

    __device__ void load(int64_t k, int64_t end)
    {
        UNROLL
        for (int i = 0; i < EACH; i++) {
            const int piece = (int)threadIdx.x + i * T::THREADS;
            const int64_t r = first + piece / ACROSS, at = k + piece % ACROSS * 16;
            v[i] = r < rows && at < end ? *reinterpret_cast<const uint4 *>(p + r * step + at) : make_uint4(0, 0, 0, 0);
        }
    }
    __device__ void store(unsigned char *to) const
    {
        UNROLL
        for (int i = 0; i < EACH; i++) {
            const int piece = (int)threadIdx.x + i * T::THREADS;
            *reinterpret_cast<uint4 *>(to + piece / ACROSS * this->LINE + piece % ACROSS * 16) = v[i];
        }
    }
};

struct fp8_operands {
    const float *a;
    const unsigned char *b;
    float scale; /* of A */
    bool vector;
};

template <class T>
__global__ static void __launch_bounds__(T::THREADS, T::BLOCKS) fp8_kernel(fp8_operands o, product_size p, matrix_finish finish)
{
    typedef fp8_rounded<T, T::M> side_a;
    typedef fp8_packed<T, T::N> side_b;
    const int64_t tile_n = blockIdx.x / p.tiles_m, row0 = (blockIdx.x - tile_n * p.tiles_m) * T::M, col0 = tile_n * T::N;
    const int64_t begin = blockIdx.z * p.share, end = begin + p.share < p.k ? begin + p.share : p.k;
    side_a a = {{}, o.a, p.k, row0, p.m, o.vector, o.scale, {}};
    side_b b = {{}, o.b, fp8_line(p.k), col0, p.n, {}};
    float sum[T::WM / 16][T::WN / 8][4];
    round_product<T>(a, b, begin, end, sum);
    round_finish<T, side_a, side_b>(p, row0, col0, 0, sum, finish);
}

/* finish NULL: only sizes, of which the workspace follows. */
template <class T> static product_size fp8_run(const kernel_args *a, const fp8_operands &o, int64_t m, int64_t n, int64_t k,
                                               const matrix_finish *finish)
{
    product_size p = product_of<T>(m, n, k, 1, a->work);
    if (!finish)
        return p;
    LAUNCH(fp8_kernel<T>, product_grid<T>(&p), T::THREADS, 0, a->queue, o, p, *finish);
    if (p.splits > 1)
        LAUNCH((product_join<matrix_finish>), grid_for(a->queue, m * n, 1), CUDA_THREADS, 0, a->queue, p, *finish);
    return p;
}
static product_size fp8_choose(const kernel_args *a, const fp8_operands &o, int64_t m, int64_t n, int64_t k, const matrix_finish *finish)
{
    return tile_choose(m, n, 1) == TILE_LARGE ? fp8_run<fp8_large>(a, o, m, n, k, finish) : fp8_run<fp8_small>(a, o, m, n, k, finish);
}

/* ---- the operator ---- */

struct fp8_sizes {
    int64_t m, n, k;
};
static fp8_sizes sizes_of(const kernel_args *a)
{
    const linear_attrs *at = (const linear_attrs *)a->attr;
    const shape *x = &a->in[0].sh, *w = &a->in[1].sh;
    fp8_sizes s = {1, w->dim[at->transB ? 0 : 1], x->dim[x->rank - 1]};
    for (int i = 0; i + 1 < x->rank; i++)
        s.m *= x->dim[i];
    return s;
}

static bool linear_takes(const kernel_args *a)
{
    const linear_attrs *at = (const linear_attrs *)a->attr;
    return has_fp8(a) && at->precision == PRECISION_FP8 && !at->transA && shape_count(&a->in[0].sh) > 0 && shape_count(&a->in[1].sh) > 0;
}
static size_t packed_bytes(const fp8_sizes &s)
{
    return (size_t)(s.n * fp8_line(s.k));
}
/* Shares of long sums, then B where it is not packed yet. */
static size_t shares_bytes(const kernel_args *a, const fp8_sizes &s)
{
    const product_size p = fp8_choose(a, fp8_operands(), s.m, s.n, s.k, NULL);
    return (product_workspace(&p) + 255) / 256 * 256;
}
static size_t linear_workspace(const kernel_args *a)
{
    const fp8_sizes s = sizes_of(a);
    return shares_bytes(a, s) + (a->prepared ? 0 : packed_bytes(s));
}
static size_t linear_prepared(const kernel_args *a)
{
    return a->in[1].data ? packed_bytes(sizes_of(a)) : 0;
}
static void linear_prepare(const kernel_args *a, void *to)
{
    const linear_attrs *at = (const linear_attrs *)a->attr;
    const fp8_sizes s = sizes_of(a);
    pack(a, to, a->in[1].data, at->transB ? 1 : s.n, at->transB ? s.k : 1, s.k, s.n, at->b_range);
}
static bool operand_there(const kernel_args *a, int i)
{
    return i < a->n_in && a->in[i].type != DTYPE_NONE;
}
static const float *operand(const kernel_args *a, int i)
{
    return i < a->n_in ? (const float *)a->in[i].data : NULL;
}
/* What follows the sums. */
static matrix_finish finish_of(const kernel_args *a, const fp8_sizes &s)
{
    const linear_attrs *at = (const linear_attrs *)a->attr;
    matrix_finish f = {};
    f.y = (float *)a->out[0].data;
    f.pre = a->n_out > 1 ? (float *)a->out[1].data : NULL;
    f.c = operand(a, 2);
    f.c_col = 1;
    f.residual = operand(a, 3);
    f.m = s.m;
    f.n = s.n;
    f.alpha = (float)e4m3_alpha(at->alpha, at->a_range, at->b_range);
    f.beta = 1;
    f.activation = (int)at->activation;
    f.vector = s.n % 4 == 0 && is_vector(f.y) && is_vector(f.pre) && is_vector(f.residual);
    return f;
}
static void linear_run(const kernel_args *a)
{
    const linear_attrs *at = (const linear_attrs *)a->attr;
    const fp8_sizes s = sizes_of(a);
    void *packed = (char *)a->work + shares_bytes(a, s);
    if (!a->prepared)
        linear_prepare(a, packed);
    fp8_operands o = {};
    o.a = (const float *)a->in[0].data;
    o.b = (const unsigned char *)(a->prepared ? a->prepared : packed);
    o.scale = e4m3_scale(at->a_range);
    o.vector = is_vector(o.a) && s.k % 4 == 0;
    const matrix_finish f = finish_of(a, s);
    fp8_choose(a, o, s.m, s.n, s.k, &f);
}

/* ---- through cuBLASLt ---- */

/* Takes the sums from y. */
__global__ static void after_kernel(matrix_finish f)
{
    const int64_t across = (f.n + 3) / 4;
    GRID_STRIDE(i, f.m * across)
    {
        const int64_t row = i / across, col = (i - row * across) * 4, have = f.n - col;
        const matrix_finish::column at(f, 0, col, have);
        at.put(f, row, fetch4(f.y + row * f.n + col, have, f.vector), have);
    }
}

/* The library is asked for nothing but the product and, where no pass follows, the residual: its biases are not float32 here. */
static bool has_pass(const kernel_args *a)
{
    return (a->n_out > 1 && a->out[1].type != DTYPE_NONE) || operand_there(a, 2) || ((const linear_attrs *)a->attr)->activation != ACTIVATION_NONE;
}
static const blas_plan *library_plan(const kernel_args *a)
{
    blas_key k;
    if (!a->queue->blas || !linear_takes(a))
        return NULL;
    const fp8_sizes s = sizes_of(a);
    if (s.n % 16 != 0)
        return NULL;
    memset(&k, 0, sizeof k);
    k.m = s.m;
    k.n = s.n;
    k.k = fp8_line(s.k);
    k.count = 1;
    k.b_transposed = 1;
    k.type = BLAS_R_8F_E4M3;
    k.epilogue = BLAS_EPILOGUE_NONE;
    k.compute = BLAS_COMPUTE_32F;
    k.adds = operand_there(a, 3) && !has_pass(a);
    return cuda_blas_plan(a->queue, &k);
}
static bool library_takes(const kernel_args *a)
{
    return library_plan(a) != NULL;
}
static size_t whole_pieces(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}
/* The library's own, then A, then B where it is not packed yet. */
static size_t library_workspace(const kernel_args *a)
{
    const fp8_sizes s = sizes_of(a);
    return whole_pieces(library_plan(a)->choice.workspace) + whole_pieces((size_t)(s.m * fp8_line(s.k))) + (a->prepared ? 0 : packed_bytes(s));
}
static void library_run(const kernel_args *a)
{
    const linear_attrs *at = (const linear_attrs *)a->attr;
    const fp8_sizes s = sizes_of(a);
    const blas_plan *plan = library_plan(a);
    char *left = (char *)a->work + whole_pieces(plan->choice.workspace), *right = left + whole_pieces((size_t)(s.m * fp8_line(s.k)));
    matrix_finish f = finish_of(a, s);
    blas_operands o = {};
    if (!a->prepared)
        linear_prepare(a, right);
    pack(a, left, a->in[0].data, 1, s.k, s.k, s.m, at->a_range);
    o.y = f.y;
    o.a = left;
    o.b = a->prepared ? a->prepared : right;
    o.c = plan->key.adds ? f.residual : NULL;
    o.alpha = f.alpha;
    o.beta = 1;
    o.work = a->work;
    cuda_blas_run(a->queue, plan, &o);
    f.alpha = 1;
    if (has_pass(a))
        LAUNCH(after_kernel, grid_for(a->queue, s.m * ((s.n + 3) / 4), 1), CUDA_THREADS, 0, a->queue, f);
}

CUDA_TABLE(fp8) = {
    {.op = OP_LINEAR, .type = DTYPE_F32, .name = "linear fp8 cuBLASLt", .run = library_run, .workspace = library_workspace,
     .takes = library_takes, .prepared = linear_prepared, .prepare = linear_prepare, .packed_in = 1u << 1},
    {.op = OP_LINEAR, .type = DTYPE_F32, .name = "linear fp8", .run = linear_run, .workspace = linear_workspace, .takes = linear_takes,
     .prepared = linear_prepared, .prepare = linear_prepare, .packed_in = 1u << 1},
    KERNEL_END};
