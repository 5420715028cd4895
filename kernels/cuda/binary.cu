/* binary.cu - elementwise operators with several inputs, broadcast to the output's shape (src/ops/binary.c). */
#include "kernels/cuda/cuda.cuh"

#define OPERATION(name, ...)                                                                                           \
    struct name {                                                                                                      \
        __device__ static float of(float x, float y) { return __VA_ARGS__; }                                           \
    };
OPERATION(add, x + y)
OPERATION(sub, x - y)
OPERATION(mul, x *y)
OPERATION(div_, x / y)

template <class O> __global__ static void binary_any(float *out, const float *a, const float *b, int64_t n, broadcast_map ma, broadcast_map mb)
{
    GRID_STRIDE(i, n) out[i] = O::of(a[broadcast_at(ma, i)], b[broadcast_at(mb, i)]);
}

template <class O> static void binary_run(const kernel_args *a)
{
    const int64_t n = kernel_elements(&a->out[0]);
    LAUNCH((binary_any<O>), grid_for(a->queue, n, 4), CUDA_THREADS, 0, a->queue, (float *)a->out[0].data,
           (const float *)a->in[0].data, (const float *)a->in[1].data, n, broadcast_of(&a->out[0].sh, &a->in[0].sh),
           broadcast_of(&a->out[0].sh, &a->in[1].sh));
}

CUDA_TABLE(binary) = {
    {.op = OP_ADD, .type = DTYPE_F32, .name = "add", .run = binary_run<add>},
    {.op = OP_SUB, .type = DTYPE_F32, .name = "sub", .run = binary_run<sub>},
    {.op = OP_MUL, .type = DTYPE_F32, .name = "mul", .run = binary_run<mul>},
    {.op = OP_DIV, .type = DTYPE_F32, .name = "div", .run = binary_run<div_>},
    KERNEL_END};
