/* unary.cu - elementwise operators with one input; what is computed is in ops/unary.def. The result may lie over an input.
 *
 * float32 has a kernel for each operator; halves (computed in float), whole numbers and bool one with the operator as an
 * argument. */
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/unary.cuh"

/* ---- float32 ---- */

/* r = expression of x */
#define FORWARD(object, A, ...)                                                                                        \
    __global__ static void object##_kernel(float *out, const float *in, int64_t n, TYPE_##A at)                        \
    {                                                                                                                  \
        const bool variant = VARIANT_##A;                                                                              \
        for_packs<4>(n, [&](int64_t i, auto width) {                                                                   \
            constexpr int V = decltype(width)::value;                                                                  \
            const pack<float, V> p = pack_load<float, V>(in, i);                                                       \
            pack<float, V> r;                                                                                          \
            UNROLL for (int v = 0; v < V; v++)                                                                         \
            {                                                                                                          \
                const float x = p.at[v];                                                                               \
                r.at[v] = __VA_ARGS__;                                                                                 \
            }                                                                                                          \
            pack_store<float, V>(out, i, r);                                                                           \
        });                                                                                                            \
        (void)variant, (void)at;                                                                                       \
    }                                                                                                                  \
    static void object##_run(const kernel_args *a)                                                                     \
    {                                                                                                                  \
        GIVE_##A const int64_t n = shape_count(&a->out[0].sh);                                                         \
        LAUNCH(object##_kernel, grid_for(a->queue, n, 4), CUDA_THREADS, 0, a->queue, (float *)a->out[0].data,          \
               (const float *)a->in[0].data, n, at);                                                                   \
    }
#define UNARY(E, object, text, flags, types, A, rows, ...) FORWARD(object, A, __VA_ARGS__)
#define UNARY_FLAT(E, object, text, types, ...)            FORWARD(object, none, __VA_ARGS__)
#define UNARY_GRAD(E, object, text, reads, A, rows, ...)                                                               \
    __global__ static void object##_grad_kernel(float *out, const float *grad, const float *kept, int64_t n, TYPE_##A at) \
    {                                                                                                                  \
        const bool variant = VARIANT_##A;                                                                              \
        for_packs<4>(n, [&](int64_t i, auto width) {                                                                   \
            constexpr int V = decltype(width)::value;                                                                  \
            const pack<float, V> p = pack_load<float, V>(grad, i), q = pack_load<float, V>(kept, i);                   \
            pack<float, V> r;                                                                                          \
            UNROLL for (int v = 0; v < V; v++)                                                                         \
            {                                                                                                          \
                const float dy = p.at[v], reads = q.at[v];                                                             \
                r.at[v] = __VA_ARGS__;                                                                                 \
            }                                                                                                          \
            pack_store<float, V>(out, i, r);                                                                           \
        });                                                                                                            \
        (void)variant, (void)at;                                                                                       \
    }                                                                                                                  \
    static void object##_grad_run(const kernel_args *a)                                                                \
    {                                                                                                                  \
        GIVE_##A const int64_t n = shape_count(&a->out[0].sh);                                                         \
        LAUNCH(object##_grad_kernel, grid_for(a->queue, n, 4), CUDA_THREADS, 0, a->queue, (float *)a->out[0].data,     \
               (const float *)a->in[0].data, (const float *)a->in[1].data, n, at);                                     \
    }
#include "ops/unary.def"

/* ---- halves ---- */

enum operation {
#define UNARY(E, ...)      DO_##E,
#define UNARY_FLAT(E, ...) DO_##E,
#include "ops/unary.def"
    DO_NOT
};
union any_attrs {
    no_attrs none;
    alpha_attrs alpha;
    clip_attrs clip;
    hard_sigmoid_attrs hard_sigmoid;
    gelu_attrs gelu;
};

__device__ static inline float half_result(operation what, float x, const any_attrs &all)
{
    switch (what) {
#define CASE(E, A, ...)                                                                                                \
    case DO_##E: {                                                                                                     \
        const TYPE_##A at = all.A;                                                                                     \
        const bool variant = VARIANT_##A;                                                                              \
        (void)at, (void)variant;                                                                                       \
        return __VA_ARGS__;                                                                                            \
    }
#define UNARY(E, object, text, flags, types, A, rows, ...) CASE(E, A, __VA_ARGS__)
#define UNARY_FLAT(E, object, text, types, ...)            CASE(E, none, __VA_ARGS__)
#include "ops/unary.def"
    default: return 0;
    }
}

template <class T> __global__ static void half_kernel(operation what, T *out, const T *in, int64_t n, any_attrs at)
{
    GRID_STRIDE(i, n)
        out[i] = from_float<T>(half_result(what, as_float(in[i]), at));
}
#define GIVE_ANY(E, object, A)                                                                                         \
    template <class T> static void half_##object(const kernel_args *a)                                                 \
    {                                                                                                                  \
        GIVE_##A any_attrs all = {.none = {0}};                                                                        \
        const int64_t n = shape_count(&a->out[0].sh);                                                                  \
        all.A = at;                                                                                                    \
        LAUNCH(half_kernel<T>, grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, DO_##E, (T *)a->out[0].data,       \
               (const T *)a->in[0].data, n, all);                                                                      \
    }
#define UNARY(E, object, text, flags, types, A, rows, ...) GIVE_ANY(E, object, A)
#define UNARY_FLAT(E, object, text, types, ...)            GIVE_ANY(E, object, none)
#include "ops/unary.def"

/* ---- whole numbers: negation wraps, as in C for unsigned ones; and bool ---- */

template <class T> __device__ static inline T whole_result(operation what, T x, T lo, T hi)
{
    switch (what) {
    case DO_RELU: return x > (T)0 ? x : (T)0;
    case DO_ABS: return x > (T)0 ? x : (T)(0 - (uint64_t)x);
    case DO_NEG: return (T)(0 - (uint64_t)x);
    case DO_SIGN: return x > (T)0 ? (T)1 : x == (T)0 ? (T)0 : (T)-1;
    case DO_NOT: return (T)(x == (T)0);
    default: return (x < lo ? lo : x) > hi ? hi : x < lo ? lo : x; /* Clip */
    }
}

template <class T> __global__ static void whole_kernel(operation what, T *out, const T *in, int64_t n, T lo, T hi)
{
    GRID_STRIDE(i, n)
        out[i] = whole_result<T>(what, in[i], lo, hi);
}
template <class T, operation WHAT> static void whole_run(const kernel_args *a)
{
    const int64_t n = shape_count(&a->out[0].sh);
    T lo = 0, hi = 0;
    if (WHAT == DO_CLIP) {
        const clip_attrs *at = (const clip_attrs *)a->attr;
        dtype_store(a->in[0].type, &lo, 0, at->min);
        dtype_store(a->in[0].type, &hi, 0, at->max);
    }
    LAUNCH(whole_kernel<T>, grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, WHAT, (T *)a->out[0].data,
           (const T *)a->in[0].data, n, lo, hi);
}

/* ---- rows ---- */

CUDA_TABLE(unary) = {
#define ROWS(E, object)                                                                                                \
    {.op = OP_##E, .type = DTYPE_F32, .name = #object, .run = object##_run},                                           \
    {.op = OP_##E, .type = DTYPE_F16, .name = #object " float16", .run = half_##object<__half>},                       \
    {.op = OP_##E, .type = DTYPE_BF16, .name = #object " bfloat16", .run = half_##object<__nv_bfloat16>},
#define UNARY(E, object, text, flags, types, A, rows, ...) ROWS(E, object)
#define UNARY_FLAT(E, object, text, types, ...)            ROWS(E, object)
#define UNARY_GRAD(E, object, text, reads, A, rows, ...)                                                               \
    {.op = OP_##E##_GRAD, .type = DTYPE_F32, .name = #object " grad", .run = object##_grad_run},
#include "ops/unary.def"
#define WHOLE_ROW(E, T, O) {.op = OP_##O, .type = DTYPE_##E, .name = #O " " #E, .run = whole_run<T, DO_##O>},
#define WHOLE_ROWS(E, T)   WHOLE_ROW(E, T, RELU) WHOLE_ROW(E, T, ABS) WHOLE_ROW(E, T, NEG) WHOLE_ROW(E, T, SIGN) WHOLE_ROW(E, T, CLIP)
    WHOLE_TYPES(WHOLE_ROWS) WHOLE_ROW(BOOL, uint8_t, NOT)
    KERNEL_END};
