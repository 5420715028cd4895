/* binary.cu - elementwise operators with several inputs, broadcast to the output's shape (src/ops/binary.c).
 *
 * Whole numbers wrap as in C for unsigned ones, division by 0 gives 0; halves are computed in float. float32 has a kernel
 * for each operator, other types one kernel with the operator as an argument. */
#include "kernels/cuda/broadcast.cuh"
#include "kernels/cuda/element.cuh"

/* ---- float32 ---- */

__device__ static OUT_OF_LINE float power(float x, float y)
{
    if (y == 2)
        return x * x;
    if (y == 0.5f)
        return x == -INFINITY ? INFINITY : sqrtf(x) + 0.0f; /* + 0: of -0 too */
    return (float)pow((double)x, (double)y); /* powf is off by up to 4 units in the last place */
}

/* X(name, its result's type when elements are of type T, expression of float x and y) */
#define FLOAT_OPERATIONS(X, T)                                                                                         \
    X(add, T, x + y)                                                                                                   \
    X(sub, T, x - y)                                                                                                   \
    X(mul, T, x * y)                                                                                                   \
    X(divide, T, x / y)                                                                                                \
    X(mod, T, fmodf(x, y))                                                                                             \
    X(pow_, T, power(x, y))                                                                                            \
    X(prelu, T, x < 0 ? x * y : x)                                                                                     \
    X(equal, uint8_t, x == y)                                                                                          \
    X(less, uint8_t, x < y)                                                                                            \
    X(less_or_equal, uint8_t, x <= y)                                                                                  \
    X(greater, uint8_t, x > y)                                                                                         \
    X(greater_or_equal, uint8_t, x >= y)

#define FLOAT_KERNEL(name, Z, ...)                                                                                     \
    __global__ static void name##_kernel(Z *out, __grid_constant__ const operand a, __grid_constant__ const operand b, \
                                         int64_t n)                                                                    \
    {                                                                                                                  \
        for_packs<4>(n, [&](int64_t i, auto width) {                                                                   \
            constexpr int V = decltype(width)::value;                                                                  \
            const pack<float, V> p = operand_load<float, V>(a, i), q = operand_load<float, V>(b, i);                   \
            pack<Z, V> r;                                                                                              \
            UNROLL for (int v = 0; v < V; v++)                                                                         \
            {                                                                                                          \
                const float x = p.at[v], y = q.at[v];                                                                  \
                r.at[v] = __VA_ARGS__;                                                                                 \
            }                                                                                                          \
            pack_store<Z, V>(out, i, r);                                                                               \
        });                                                                                                            \
    }                                                                                                                  \
    static void name##_run(const kernel_args *a)                                                                       \
    {                                                                                                                  \
        const int64_t n = shape_count(&a->out[0].sh);                                                                  \
        LAUNCH(name##_kernel, grid_for(a->queue, n, 4), CUDA_THREADS, 0, a->queue, (Z *)a->out[0].data,                \
               operand_of(&a->out[0], &a->in[0], 4), operand_of(&a->out[0], &a->in[1], 4), n);                         \
    }
FLOAT_OPERATIONS(FLOAT_KERNEL, float)

/* ---- other types: one kernel for all operators ---- */

enum operation {
#define OPERATION_ID(name, ...) DO_##name,
    FLOAT_OPERATIONS(OPERATION_ID, )
    DO_and, DO_or, DO_xor, DO_mod_cut
};

/* a / b, b = -1 apart as the least number has no negative. */
template <class T> __device__ static inline T whole_divide(T x, T y)
{
    return y == 0 ? (T)0 : y == (T)-1 && (T)-1 < (T)1 ? (T)(0 - (uint64_t)x) : (T)(x / y);
}
/* cut: the sign of x (C's %), else the sign of y (Python's %) */
template <class T> __device__ static inline T whole_modulo(T x, T y, bool cut)
{
    const T r = y == 0 || (y == (T)-1 && (T)-1 < (T)1) ? (T)0 : (T)(x % y);
    return !cut && r != 0 && (r < (T)1) != (y < (T)1) ? (T)(r + y) : r;
}
/* x^y by squaring; a negative exponent gives 1/x^-y cut towards zero */
template <class T> __device__ static inline T whole_power(T x, T y)
{
    uint64_t result = 1, base = (uint64_t)x;
    if (y < (T)1 && y != 0)
        return x == (T)1 ? (T)1 : x == (T)-1 ? (y % 2 ? x : (T)1) : (T)0;
    for (uint64_t e = (uint64_t)y; e; e >>= 1, base *= base)
        if (e & 1)
            result *= base;
    return (T)result;
}

template <class T> __device__ static inline T whole_result(operation what, T x, T y)
{
    switch (what) {
    case DO_add: return (T)((uint64_t)x + (uint64_t)y);
    case DO_sub: return (T)((uint64_t)x - (uint64_t)y);
    case DO_mul: return (T)((uint64_t)x * (uint64_t)y);
    case DO_divide: return whole_divide(x, y);
    case DO_mod: return whole_modulo(x, y, false);
    case DO_mod_cut: return whole_modulo(x, y, true);
    case DO_pow_: return whole_power(x, y);
    case DO_prelu: return x < (T)1 && x != 0 ? (T)((uint64_t)x * (uint64_t)y) : x;
    case DO_equal: return x == y;
    case DO_less: return x < y;
    case DO_less_or_equal: return x <= y;
    case DO_greater: return x > y;
    case DO_greater_or_equal: return x >= y;
    case DO_and: return x & y;
    case DO_or: return x | y;
    case DO_xor: return x ^ y;
    }
    return 0;
}
__device__ static inline float half_result(operation what, float x, float y)
{
    switch (what) {
#define FLOAT_RESULT(name, Z, ...)                                                                                     \
    case DO_##name: return (float)(__VA_ARGS__);
        FLOAT_OPERATIONS(FLOAT_RESULT, float)
    default: return 0;
    }
}

/* logic: the result is bool. */
template <class T>
__global__ static void any_kernel(operation what, bool logic, void *out, __grid_constant__ const operand a,
                                  __grid_constant__ const operand b, int64_t n)
{
    typedef typename arithmetic<T>::number number;
    GRID_STRIDE(i, n)
    {
        const number x = arithmetic<T>::load(((const T *)a.data)[operand_at(a, i)]),
                     y = arithmetic<T>::load(((const T *)b.data)[operand_at(b, i)]);
        number z;
        if constexpr (std::is_same<T, number>::value)
            z = whole_result(what, x, y);
        else
            z = half_result(what, x, y);
        if (logic)
            ((uint8_t *)out)[i] = z != 0;
        else
            ((T *)out)[i] = arithmetic<T>::store(z);
    }
}

template <class T, operation WHAT> static void any_run(const kernel_args *a)
{
    const int64_t n = shape_count(&a->out[0].sh);
    const operation what = WHAT == DO_mod && ((const mod_attrs *)a->attr)->fmod && !dtype_of(a->in[0].type)->is_float
                               ? DO_mod_cut : WHAT;
    LAUNCH(any_kernel<T>, grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, what,
           WHAT >= DO_equal && WHAT <= DO_greater_or_equal, a->out[0].data, operand_of(&a->out[0], &a->in[0], 1),
           operand_of(&a->out[0], &a->in[1], 1), n);
}

/* ---- Pow with an exponent of another type than the base: in double ---- */

__global__ static void pow_mixed_kernel(void *out, dtype result, __grid_constant__ const operand a, dtype base,
                                        __grid_constant__ const operand b, dtype exponent, int64_t n)
{
    GRID_STRIDE(i, n)
        store_number(result, out, i,
                     pow(load_number(base, a.data, operand_at(a, i)), load_number(exponent, b.data, operand_at(b, i))));
}
static void pow_mixed_run(const kernel_args *a)
{
    const int64_t n = shape_count(&a->out[0].sh);
    LAUNCH(pow_mixed_kernel, grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, a->out[0].data, a->out[0].type,
           operand_of(&a->out[0], &a->in[0], 1), a->in[0].type, operand_of(&a->out[0], &a->in[1], 1), a->in[1].type, n);
}
static bool pow_takes_mixed(const kernel_args *a)
{
    return a->in[0].type != a->in[1].type;
}
static bool pow_takes_same(const kernel_args *a)
{
    return a->in[0].type == a->in[1].type;
}

/* ---- any number of inputs ---- */

#ifdef CUDA_EMULATED
enum { MANY = 3 }; /* so that tests of few operands take several launches */
#else
enum { MANY = 15 }; /* operands of one launch: a kernel has 4 KB of arguments */
#endif
typedef struct operands {
    operand at[MANY];
    int n;
} operands;
static operands operands_of(const kernel_args *a, int first, int v)
{
    operands o = {.n = 0};
    for (int k = first; k < a->n_in && o.n < MANY; k++)
        o.at[o.n++] = operand_of(&a->out[0], &a->in[k], v);
    return o;
}

enum many { MANY_SUM, MANY_MEAN, MANY_MAX, MANY_MIN };
template <class A> __device__ static inline A many_step(many what, A y, A x)
{
    switch (what) {
    case MANY_MAX: return x > y || x != x ? x : y;
    case MANY_MIN: return x < y || x != x ? x : y;
    default: return (A)(y + x);
    }
}

template <class T> inline constexpr int many_pack = std::is_same<T, float>::value ? 4 : 1;
/* start: what the launch before kept of its operands, else NULL; keep: not NULL when another launch follows; all: the
 * number of inputs. */
template <class T> __global__ static void many_kernel(many what, T *out, const typename arithmetic<T>::number *start,
                                                      typename arithmetic<T>::number *keep, int all,
                                                      __grid_constant__ const operands in, int64_t n)
{
    for_packs<many_pack<T>>(n, [&](int64_t i, auto width) {
        constexpr int V = decltype(width)::value;
        typedef typename arithmetic<T>::number number;
        number y[V] = {};
        for (int k = 0; k < in.n; k++) {
            const pack<T, V> p = operand_load<T, V>(in.at[k], i);
            UNROLL
            for (int v = 0; v < V; v++) {
                const number x = arithmetic<T>::load(p.at[v]);
                y[v] = k > 0 ? many_step(what, y[v], x) : start ? many_step(what, start[i + v], x) : x;
            }
        }
        if (keep) {
            UNROLL
            for (int v = 0; v < V; v++)
                keep[i + v] = y[v];
            return;
        }
        pack<T, V> r;
        UNROLL
        for (int v = 0; v < V; v++)
            r.at[v] = arithmetic<T>::store(what == MANY_MEAN ? (number)(y[v] / (number)all) : y[v]);
        pack_store<T, V>(out, i, r);
    });
}
template <class T, many WHAT> static void many_run(const kernel_args *a)
{
    typedef typename arithmetic<T>::number number;
    constexpr int V = many_pack<T>;
    const int64_t n = shape_count(&a->out[0].sh);
    number *work = (number *)a->work;
    for (int k = 0; k < a->n_in; k += MANY)
        LAUNCH(many_kernel<T>, grid_for(a->queue, n, V), CUDA_THREADS, 0, a->queue, WHAT, (T *)a->out[0].data,
               k ? work : (number *)NULL, k + MANY < a->n_in ? work : (number *)NULL, a->n_in, operands_of(a, k, V), n);
}
static size_t many_workspace(const kernel_args *a)
{
    return a->n_in > MANY ? (size_t)shape_count(&a->out[0].sh) * 8 : 0;
}

/* ---- gradients of float32 ---- */

/* dx = dy where x equals y, shared with the other inputs that do. dy, y, x and others: see src/ops/binary.c. counted: the
 * ties of the operands before (else NULL); count: not NULL when another launch follows. */
__global__ static void minmax_grad_kernel(float *out, __grid_constant__ const operand dy,
                                          __grid_constant__ const operand y, __grid_constant__ const operand x,
                                          const int *counted, int *count, __grid_constant__ const operands in,
                                          int64_t n)
{
    GRID_STRIDE(i, n)
    {
        const float most = ((const float *)y.data)[operand_at(y, i)];
        int ties = counted ? counted[i] : 0;
        for (int k = 0; k < in.n; k++)
            ties += ((const float *)in.at[k].data)[operand_at(in.at[k], i)] == most;
        if (count)
            count[i] = ties;
        else
            out[i] = ((const float *)x.data)[operand_at(x, i)] == most
                         ? ((const float *)dy.data)[operand_at(dy, i)] / (float)ties
                         : 0;
    }
}
static void minmax_grad_run(const kernel_args *a)
{
    const int which = 2 + (int)((const operand_attrs *)a->attr)->operand;
    const int64_t n = shape_count(&a->out[0].sh);
    int *work = (int *)a->work;
    for (int k = 2; k < a->n_in; k += MANY)
        LAUNCH(minmax_grad_kernel, grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, (float *)a->out[0].data,
               operand_of(&a->out[0], &a->in[0], 1), operand_of(&a->out[0], &a->in[1], 1),
               operand_of(&a->out[0], &a->in[which], 1), k > 2 ? work : (int *)NULL,
               k + MANY < a->n_in ? work : (int *)NULL, operands_of(a, k, 1), n);
}
static size_t minmax_grad_workspace(const kernel_args *a)
{
    return a->n_in > MANY + 2 ? (size_t)shape_count(&a->out[0].sh) * sizeof(int) : 0;
}

/* y = x^p. exponent: dp = dy x^p log x, 0 where x is 0 and p >= 0; else dx = dy p x^(p-1), 0 where p is 0. */
__global__ static void pow_grad_kernel(float *out, __grid_constant__ const operand dy,
                                       __grid_constant__ const operand x, __grid_constant__ const operand p,
                                       bool exponent, int64_t n)
{
    GRID_STRIDE(i, n)
    {
        const float g = ((const float *)dy.data)[operand_at(dy, i)], b = ((const float *)x.data)[operand_at(x, i)],
                    e = ((const float *)p.data)[operand_at(p, i)];
        if (exponent)
            out[i] = b == 0 && e >= 0 ? 0 : g * power(b, e) * logf(b);
        else
            out[i] = e == 0 ? 0 : g * e * power(b, e - 1);
    }
}
static void pow_grad_run(const kernel_args *a)
{
    const int64_t n = shape_count(&a->out[0].sh);
    LAUNCH(pow_grad_kernel, grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, (float *)a->out[0].data,
           operand_of(&a->out[0], &a->in[0], 1), operand_of(&a->out[0], &a->in[1], 1),
           operand_of(&a->out[0], &a->in[2], 1), ((const operand_attrs *)a->attr)->operand != 0, n);
}

/* dslope is not yet summed: at the shape of x. */
__global__ static void prelu_grad_kernel(float *dx, float *dslope, __grid_constant__ const operand dy,
                                         __grid_constant__ const operand x, __grid_constant__ const operand slope,
                                         int64_t n)
{
    for_packs<4>(n, [&](int64_t i, auto width) {
        constexpr int V = decltype(width)::value;
        const pack<float, V> g = operand_load<float, V>(dy, i), p = operand_load<float, V>(x, i),
                             s = operand_load<float, V>(slope, i);
        pack<float, V> d, ds;
        UNROLL
        for (int v = 0; v < V; v++) {
            d.at[v] = p.at[v] > 0 ? g.at[v] : g.at[v] * s.at[v];
            ds.at[v] = p.at[v] > 0 ? 0 : g.at[v] * p.at[v];
        }
        pack_store<float, V>(dx, i, d);
        pack_store<float, V>(dslope, i, ds);
    });
}
static void prelu_grad_run(const kernel_args *a)
{
    const int64_t n = shape_count(&a->out[0].sh);
    LAUNCH(prelu_grad_kernel, grid_for(a->queue, n, 4), CUDA_THREADS, 0, a->queue, (float *)a->out[0].data,
           (float *)a->out[1].data, operand_of(&a->out[0], &a->in[0], 4), operand_of(&a->out[0], &a->in[1], 4),
           operand_of(&a->out[0], &a->in[2], 4), n);
}

/* ---- Where: by the elements' size ---- */

template <class T>
__global__ static void where_kernel(T *out, __grid_constant__ const operand condition,
                                    __grid_constant__ const operand a, __grid_constant__ const operand b, int64_t n)
{
    for_packs<pack_of<T>>(n, [&](int64_t i, auto width) {
        constexpr int V = decltype(width)::value;
        const pack<uint8_t, V> c = operand_load<uint8_t, V>(condition, i);
        const pack<T, V> p = operand_load<T, V>(a, i), q = operand_load<T, V>(b, i);
        pack<T, V> r;
        UNROLL
        for (int v = 0; v < V; v++)
            r.at[v] = c.at[v] ? p.at[v] : q.at[v];
        pack_store<T, V>(out, i, r);
    });
}
template <class T> static void where_run(const kernel_args *a)
{
    constexpr int V = pack_of<T>;
    const int64_t n = shape_count(&a->out[0].sh);
    LAUNCH(where_kernel<T>, grid_for(a->queue, n, V), CUDA_THREADS, 0, a->queue, (T *)a->out[0].data,
           operand_of(&a->out[0], &a->in[0], V), operand_of(&a->out[0], &a->in[1], V),
           operand_of(&a->out[0], &a->in[2], V), n);
}
template <class T> static bool where_takes(const kernel_args *a)
{
    return dtype_of(a->out[0].type)->size == sizeof(T);
}

/* ---- rows ---- */

/* X(operator, name in FLOAT_OPERATIONS) */
#define OPERATORS(X, ...)                                                                                              \
    X(ADD, add, __VA_ARGS__) X(SUB, sub, __VA_ARGS__) X(MUL, mul, __VA_ARGS__) X(DIV, divide, __VA_ARGS__)             \
    X(MOD, mod, __VA_ARGS__) X(PRELU, prelu, __VA_ARGS__) X(EQUAL, equal, __VA_ARGS__) X(LESS, less, __VA_ARGS__)      \
    X(LESS_OR_EQUAL, less_or_equal, __VA_ARGS__) X(GREATER, greater, __VA_ARGS__)                                      \
    X(GREATER_OR_EQUAL, greater_or_equal, __VA_ARGS__)
#define FLOAT_ROW(E, op_name, ...) {.op = OP_##E, .type = DTYPE_F32, .name = #op_name, .run = op_name##_run},
#define ANY_ROW(E, op_name, type_name, T, ...)                                                                         \
    {.op = OP_##E, .type = DTYPE_##type_name, .name = #op_name " " #type_name, .run = any_run<T, DO_##op_name>},
#define ANY_ROWS(E, T)                                                                                                 \
    OPERATORS(ANY_ROW, E, T) {.op = OP_POW, .type = DTYPE_##E, .name = "pow " #E, .run = any_run<T, DO_pow_>, .takes = pow_takes_same},
#define MANY_ROW(E, T, O, what)                                                                                        \
    {.op = OP_##O, .type = DTYPE_##E, .name = #what " " #E, .run = many_run<T, what>, .workspace = many_workspace},
#define MINMAX_ROWS(E, T) MANY_ROW(E, T, MAX, MANY_MAX) MANY_ROW(E, T, MIN, MANY_MIN)
#define SUM_ROWS(E, T)    MANY_ROW(E, T, SUM, MANY_SUM) MANY_ROW(E, T, MEAN, MANY_MEAN)
#define BOOL_ROW(E, what) {.op = OP_##E, .type = DTYPE_BOOL, .name = #E, .run = any_run<uint8_t, what>}
#define WHERE_ROW(T)      {.op = OP_WHERE, .type = DTYPE_BOOL, .name = "where " #T, .run = where_run<T>, .takes = where_takes<T>}

CUDA_TABLE(binary) = {
    OPERATORS(FLOAT_ROW, )
    {.op = OP_POW, .type = DTYPE_F32, .name = "pow", .run = pow__run, .takes = pow_takes_same},
    WHOLE_TYPES(ANY_ROWS) HALF_TYPES(ANY_ROWS)
    {.op = OP_POW, .type = DTYPE_NONE, .name = "pow of mixed types", .run = pow_mixed_run, .takes = pow_takes_mixed},
    MINMAX_ROWS(F32, float) WHOLE_TYPES(MINMAX_ROWS) HALF_TYPES(MINMAX_ROWS) SUM_ROWS(F32, float) HALF_TYPES(SUM_ROWS)
    BOOL_ROW(EQUAL, DO_equal), BOOL_ROW(AND, DO_and), BOOL_ROW(OR, DO_or), BOOL_ROW(XOR, DO_xor),
    WHERE_ROW(uint8_t), WHERE_ROW(uint16_t), WHERE_ROW(uint32_t), WHERE_ROW(uint64_t),
    {.op = OP_MINMAX_GRAD, .type = DTYPE_F32, .name = "minmax grad", .run = minmax_grad_run, .workspace = minmax_grad_workspace},
    {.op = OP_POW_GRAD, .type = DTYPE_F32, .name = "pow grad", .run = pow_grad_run},
    {.op = OP_PRELU_GRAD, .type = DTYPE_F32, .name = "prelu grad", .run = prelu_grad_run},
    KERNEL_END};
