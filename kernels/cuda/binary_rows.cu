/* binary_rows.cu - elementwise operators with two inputs on plain tensors of which some lie in float16 or bfloat16, the others in
 * float32: a sum of residuals reads both. Computed in float32. The result may lie over an operand of its own type and shape. */
#include "kernels/cuda/mixed.cuh"

#define OPERATIONS(X) X(ADD, add, x + y) X(SUB, sub, x - y) X(MUL, mul, x * y) X(DIV, divide, x / y)

#define OPERATION(E, name, ...)                                                                                        \
    struct name##_of {                                                                                                 \
        static __device__ float result(float x, float y) { return __VA_ARGS__; }                                       \
    };
OPERATIONS(OPERATION)

template <class DO>
__global__ static void mixed_pair_kernel(void *out, int out_kind, __grid_constant__ const operand a, int a_kind,
                                         __grid_constant__ const operand b, int b_kind, int64_t n)
{
    for_packs<8>(n, [&](int64_t i, auto width) {
        constexpr int V = decltype(width)::value;
        pack<float, V> p = mixed_operand<V>(a, a_kind, i);
        const pack<float, V> q = mixed_operand<V>(b, b_kind, i);
        UNROLL
        for (int v = 0; v < V; v++)
            p.at[v] = DO::result(p.at[v], q.at[v]);
        mixed_store<V>(out, out_kind, i, p);
    });
}

template <class DO> static void mixed_pair(const kernel_args *a)
{
    const int64_t n = shape_count(&a->out[0].sh);
    if (n > 0)
        LAUNCH((mixed_pair_kernel<DO>), grid_for(a->queue, n, 8), CUDA_THREADS, 0, a->queue, a->out[0].data,
               mixed_kind_of(a->out[0].type), operand_of(&a->out[0], &a->in[0], 8), mixed_kind_of(a->in[0].type),
               operand_of(&a->out[0], &a->in[1], 8), mixed_kind_of(a->in[1].type), n);
}

static bool takes_floats(const kernel_args *a)
{
    for (int i = 0; i < 3; i++) {
        const dtype t = i < 2 ? a->in[i].type : a->out[0].type;
        if (t != DTYPE_F32 && t != DTYPE_F16 && t != DTYPE_BF16)
            return false;
    }
    return true;
}

#define ROW(E, what, H)                                                                                                \
    {.op = OP_##E, .name = #what " mixed " #H, .run = mixed_pair<what##_of>, .takes = takes_floats, .narrow = DTYPE_##H, \
     .narrow_in = 3, .narrow_out = 1, .either_in = 3, .either_out = 1},
#define ROWS(E, what, ...) ROW(E, what, F16) ROW(E, what, BF16)

CUDA_TABLE(binary_rows) = {OPERATIONS(ROWS) KERNEL_END};
