/* unary_half.cu - elementwise operators with one input (ops/unary.def), and their gradients, on images in float16 or bfloat16,
 * channels last, and on plain tensors in these; computed in float32. The result may lie over an input. */
#include "kernels/cuda/unary.cuh"

#include <type_traits>

#define RESULT(object, A, parameters, ...)                                                                             \
    struct object {                                                                                                    \
        typedef TYPE_##A attrs;                                                                                        \
        static __device__ inline float result(parameters, const attrs &at)                                             \
        {                                                                                                              \
            const bool variant = VARIANT_##A;                                                                          \
            (void)variant, (void)at;                                                                                   \
            return __VA_ARGS__;                                                                                        \
        }                                                                                                              \
    };
#define TWO(dy, kept)                                                     float dy, float kept
#define UNARY(E, object, text, flags, types, A, rows, ...)                RESULT(object##_of, A, float x, __VA_ARGS__)
#define UNARY_FLAT(E, object, text, types, ...)                           RESULT(object##_of, none, float x, __VA_ARGS__)
#define UNARY_GRAD(E, object, text, reads, A, rows, ...)                  RESULT(object##_grad_of, A, TWO(dy, reads), __VA_ARGS__)
#include "ops/unary.def"

template <class DO, class T> __global__ static void half_unary_kernel(T *out, const T *in, int64_t n, typename DO::attrs at)
{
    for_packs<8>(n, [&](int64_t i, auto width) {
        constexpr int V = decltype(width)::value;
        const pack<T, V> p = pack_load<T, V>(in, i);
        pack<T, V> r;
        UNROLL
        for (int v = 0; v < V; v++)
            r.at[v] = from_float<T>(DO::result(as_float(p.at[v]), at));
        pack_store<T, V>(out, i, r);
    });
}
template <class DO, class T>
__global__ static void half_unary_grad_kernel(T *out, const T *grad, const T *kept, int64_t n, typename DO::attrs at)
{
    for_packs<8>(n, [&](int64_t i, auto width) {
        constexpr int V = decltype(width)::value;
        const pack<T, V> p = pack_load<T, V>(grad, i), q = pack_load<T, V>(kept, i);
        pack<T, V> r;
        UNROLL
        for (int v = 0; v < V; v++)
            r.at[v] = from_float<T>(DO::result(as_float(p.at[v]), as_float(q.at[v]), at));
        pack_store<T, V>(out, i, r);
    });
}

template <class A> static A attrs_of(const kernel_args *a)
{
    A at = {};
    if constexpr (!std::is_same<A, no_attrs>::value)
        at = *(const A *)a->attr;
    return at;
}
template <class DO, class T> static void half_unary(const kernel_args *a)
{
    const int64_t n = shape_count(&a->out[0].sh);
    if (n > 0)
        LAUNCH((half_unary_kernel<DO, T>), grid_for(a->queue, n, 8), CUDA_THREADS, 0, a->queue, (T *)a->out[0].data,
               (const T *)a->in[0].data, n, attrs_of<typename DO::attrs>(a));
}
template <class DO, class T> static void half_unary_grad(const kernel_args *a)
{
    const int64_t n = shape_count(&a->out[0].sh);
    if (n > 0)
        LAUNCH((half_unary_grad_kernel<DO, T>), grid_for(a->queue, n, 8), CUDA_THREADS, 0, a->queue, (T *)a->out[0].data,
               (const T *)a->in[0].data, (const T *)a->in[1].data, n, attrs_of<typename DO::attrs>(a));
}

#define ROW(O, object, H, launcher, in)                                                                                \
    {.op = OP_##O, .type = DTYPE_##H, .name = #object " " #H, .run = launcher, .blocked_in = in, .blocked_out = 1},     \
    {.op = OP_##O, .name = #object " plain " #H, .run = launcher, .narrow = DTYPE_##H, .narrow_in = in, .narrow_out = 1},
#define FORWARD_ROWS(E, object)                                                                                        \
    ROW(E, object, F16, (half_unary<object##_of, __half>), 1) ROW(E, object, BF16, (half_unary<object##_of, __nv_bfloat16>), 1)

CUDA_TABLE(unary_half) = {
#define UNARY(E, object, text, flags, types, A, rows, ...) FORWARD_ROWS(E, object)
#define UNARY_FLAT(E, object, text, types, ...)            FORWARD_ROWS(E, object)
#define UNARY_GRAD(E, object, text, reads, A, rows, ...)                                                               \
    ROW(E##_GRAD, object, F16, (half_unary_grad<object##_grad_of, __half>), 3)                                         \
    ROW(E##_GRAD, object, BF16, (half_unary_grad<object##_grad_of, __nv_bfloat16>), 3)
#include "ops/unary.def"
    KERNEL_END};
