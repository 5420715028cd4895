/* binary_half.cu - elementwise operators with two inputs on images in float16 or bfloat16, channels last (last.cuh).
 *
 * Both are images of one rank, one of which may repeat ([N, C, 1, 1] scales channels), or one is plain float32 with at most
 * a number for each channel (parameters, constants). Such numbers lie in the same order in either layout. */
#include "kernels/cuda/last.cuh"

#define ARITHMETIC(X) X(ADD, add, x + y) X(SUB, sub, x - y) X(MUL, mul, x * y) X(DIV, divide, x / y)
#define OPERATIONS(X) ARITHMETIC(X) X(PRELU, prelu, x < 0 ? x * y : x)

#define OPERATION(E, name, ...)                                                                                        \
    struct name##_of {                                                                                                 \
        static __device__ float result(float x, float y) { return __VA_ARGS__; }                                       \
    };
OPERATIONS(OPERATION)

template <class DO, class T, class A, class B>
__global__ static void half_pair_kernel(T *out, __grid_constant__ const operand a, __grid_constant__ const operand b, int64_t n)
{
    for_packs<8>(n, [&](int64_t i, auto width) {
        constexpr int V = decltype(width)::value;
        const pack<A, V> p = operand_load<A, V>(a, i);
        const pack<B, V> q = operand_load<B, V>(b, i);
        pack<T, V> r;
        UNROLL
        for (int v = 0; v < V; v++)
            r.at[v] = from_float<T>(DO::result(as_float(p.at[v]), as_float(q.at[v])));
        pack_store<T, V>(out, i, r);
    });
}

/* An image in the order in which it lies; numbers of channels along the last axis. */
static kernel_tensor laid_out(const kernel_tensor *t)
{
    kernel_tensor y = *t;
    if (t->block)
        return last_tensor(t);
    y.sh = (shape){.rank = 1, .dim = {shape_count(&t->sh)}};
    return y;
}

template <class DO, class T, class A, class B> static void half_pair(const kernel_args *a)
{
    const int64_t n = shape_count(&a->out[0].sh);
    const kernel_tensor out = last_tensor(&a->out[0]), x = laid_out(&a->in[0]), y = laid_out(&a->in[1]);
    if (n > 0)
        LAUNCH((half_pair_kernel<DO, T, A, B>), grid_for(a->queue, n, 8), CUDA_THREADS, 0, a->queue, (T *)out.data,
               operand_of(&out, &x, 8), operand_of(&out, &y, 8), n);
}

static bool takes_images(const kernel_args *a)
{
    return a->in[1].type == a->in[0].type && a->in[0].sh.rank == a->out[0].sh.rank && a->in[1].sh.rank == a->out[0].sh.rank;
}
/* One number, or one for each channel of the result, which is as large as the other operand. */
static bool is_of_channels(const kernel_tensor *t, const kernel_tensor *other, const kernel_tensor *out)
{
    const int channel = t->sh.rank - (out->sh.rank - 1);
    if (t->type != DTYPE_F32 || !shape_equal(&other->sh, &out->sh))
        return false;
    for (int i = 0; i < t->sh.rank; i++)
        if (t->sh.dim[i] != 1 && i != channel)
            return false;
    return true;
}
template <dtype H> static bool takes_second_number(const kernel_args *a)
{
    return a->in[0].type == H && is_of_channels(&a->in[1], &a->in[0], &a->out[0]);
}
template <dtype H> static bool takes_first_number(const kernel_args *a)
{
    return a->in[1].type == H && is_of_channels(&a->in[0], &a->in[1], &a->out[0]);
}

/* dy, x, slope -> dx, dslope (not yet summed: as large as x) */
template <class T>
__global__ static void half_prelu_grad_kernel(T *dx, T *dslope, const T *dy, const T *x, __grid_constant__ const operand slope, int64_t n)
{
    for_packs<8>(n, [&](int64_t i, auto width) {
        constexpr int V = decltype(width)::value;
        const pack<T, V> g = pack_load<T, V>(dy, i), p = pack_load<T, V>(x, i);
        const pack<float, V> s = operand_load<float, V>(slope, i);
        pack<T, V> d, ds;
        UNROLL
        for (int v = 0; v < V; v++) {
            const float one = as_float(g.at[v]), at = as_float(p.at[v]);
            d.at[v] = from_float<T>(at > 0 ? one : one * s.at[v]);
            ds.at[v] = from_float<T>(at > 0 ? 0 : one * at);
        }
        pack_store<T, V>(dx, i, d);
        pack_store<T, V>(dslope, i, ds);
    });
}
template <class T> static void half_prelu_grad(const kernel_args *a)
{
    const int64_t n = shape_count(&a->out[0].sh);
    const kernel_tensor out = last_tensor(&a->out[0]), slope = laid_out(&a->in[2]);
    if (n > 0)
        LAUNCH((half_prelu_grad_kernel<T>), grid_for(a->queue, n, 8), CUDA_THREADS, 0, a->queue, (T *)a->out[0].data,
               (T *)a->out[1].data, (const T *)a->in[0].data, (const T *)a->in[1].data, operand_of(&out, &slope, 8), n);
}
static bool takes_slopes(const kernel_args *a)
{
    return a->n_out > 1 && is_of_channels(&a->in[2], &a->in[1], &a->out[0]);
}

#define PAIR_ROWS(E, op_name, H, T)                                                                                       \
    {.op = OP_##E, .type = DTYPE_##H, .name = #op_name " by number " #H, .run = half_pair<op_name##_of, T, T, float>,        \
     .takes = takes_second_number<DTYPE_##H>, .blocked_in = 1, .blocked_out = 1},                                      \
    {.op = OP_##E, .type = DTYPE_##H, .name = #op_name " images " #H, .run = half_pair<op_name##_of, T, T, T>,               \
     .takes = takes_images, .blocked_in = 3, .blocked_out = 1},
#define NUMBER_ROW(E, op_name, H, T)                                                                                   \
    {.op = OP_##E, .type = DTYPE_F32, .name = #op_name " of number " #H, .run = half_pair<op_name##_of, T, float, T>,  \
     .takes = takes_first_number<DTYPE_##H>, .blocked_in = 2, .blocked_out = 1},
#define NUMBER_ROWS(E, op_name, ...) NUMBER_ROW(E, op_name, F16, __half) NUMBER_ROW(E, op_name, BF16, __nv_bfloat16)
#define HALF_ROWS(E, op_name, ...) PAIR_ROWS(E, op_name, F16, __half) PAIR_ROWS(E, op_name, BF16, __nv_bfloat16)

#define PRELU_GRAD_ROW(H, T)                                                                                           \
    {.op = OP_PRELU_GRAD, .type = DTYPE_##H, .name = "prelu grad " #H, .run = half_prelu_grad<T>, .takes = takes_slopes, \
     .blocked_in = 3, .blocked_out = 3},

CUDA_TABLE(binary_half) = {OPERATIONS(HALF_ROWS) ARITHMETIC(NUMBER_ROWS) PRELU_GRAD_ROW(F16, __half) PRELU_GRAD_ROW(BF16, __nv_bfloat16) KERNEL_END};
