/* shape.cu - shape arithmetic (src/ops/shape.c), which import folds away where it can. */
#include "kernels/cuda/cuda.cuh"

typedef struct dimensions {
    int64_t v[RANK_MAX];
} dimensions;
__global__ static void dimensions_kernel(int64_t *y, const __grid_constant__ dimensions d, int n)
{
    GRID_STRIDE(i, n)
    {
        y[i] = d.v[i];
    }
}
static void shape_of(const kernel_args *a)
{
    const int64_t rank = a->in[0].sh.rank, n = a->out[0].sh.dim[0], given = ((const shape_op_attrs *)a->attr)->start;
    int64_t start = given < 0 ? given + rank : given;
    dimensions d = {};
    start = start < 0 ? 0 : start;
    for (int64_t i = 0; i < n; i++)
        d.v[i] = a->in[0].sh.dim[start + i];
    if (n > 0)
        LAUNCH(dimensions_kernel, 1, 32, 0, a->queue, (int64_t *)a->out[0].data, d, (int)n);
}
static void size(const kernel_args *a)
{
    dimensions d = {{shape_count(&a->in[0].sh)}};
    LAUNCH(dimensions_kernel, 1, 32, 0, a->queue, (int64_t *)a->out[0].data, d, 1);
}

template <class T> __global__ static void fill_kernel(T *y, T v, int64_t n)
{
    GRID_STRIDE(i, n)
    {
        y[i] = v;
    }
}
template <class T> static void fill(const kernel_args *a, double number)
{
    const int64_t n = shape_count(&a->out[0].sh);
    T v;
    dtype_store(a->out[0].type, &v, 0, number);
    if (n > 0)
        LAUNCH((fill_kernel<T>), grid_for(a->queue, n, 4), CUDA_THREADS, 0, a->queue, (T *)a->out[0].data, v, n);
}
static void constant_of_shape(const kernel_args *a)
{
    const double v = ((const constant_of_shape_attrs *)a->attr)->value.v;
    const size_t size = dtype_of(a->out[0].type)->size;
    size == 1 ? fill<uint8_t>(a, v) : size == 2 ? fill<uint16_t>(a, v) : size == 4 ? fill<uint32_t>(a, v) : fill<uint64_t>(a, v);
}

/* T: of the numbers, W: what is computed with. */
template <class T, class W> __global__ static void range_kernel(T *y, const T *start, const T *delta, int64_t n)
{
    GRID_STRIDE(i, n)
    {
        y[i] = (T)((W)*start + (W)i * (W)*delta);
    }
}
template <class T, class W> static void range(const kernel_args *a)
{
    const int64_t n = a->out[0].sh.dim[0];
    if (n > 0)
        LAUNCH((range_kernel<T, W>), grid_for(a->queue, n, 4), CUDA_THREADS, 0, a->queue, (T *)a->out[0].data,
               (const T *)a->in[0].data, (const T *)a->in[2].data, n);
}

CUDA_TABLE(shape) = {
    {.op = OP_SHAPE, .type = DTYPE_NONE, .name = "shape", .run = shape_of},
    {.op = OP_SIZE, .type = DTYPE_NONE, .name = "size", .run = size},
    {.op = OP_CONSTANT_OF_SHAPE, .type = DTYPE_NONE, .name = "constant_of_shape", .run = constant_of_shape},
    {.op = OP_RANGE, .type = DTYPE_F32, .name = "range", .run = range<float, double>},
    {.op = OP_RANGE, .type = DTYPE_I32, .name = "range i32", .run = range<int32_t, int64_t>},
    {.op = OP_RANGE, .type = DTYPE_I64, .name = "range i64", .run = range<uint64_t, uint64_t>},
    KERNEL_END};
