/* softmax.cu - Softmax, LogSoftmax and their gradients along any axis; formulas in src/ops/softmax.c.
 *
 * x is [outer, d, inner]. inner = 1: rows. Else a block has 32 neighbouring columns, 8 threads to each. */
#include "kernels/cuda/rows.cuh"

struct rows_view {
    int64_t outer, d, inner;
};
static rows_view rows_of(const kernel_args *a)
{
    const shape *x = &a->in[0].sh;
    const int axis = shape_axis(x, ((const axis_attrs *)a->attr)->axis);
    rows_view v = {1, x->dim[axis], 1};
    for (int i = 0; i < axis; i++)
        v.outer *= x->dim[i];
    for (int i = axis + 1; i < x->rank; i++)
        v.inner *= x->dim[i];
    return v;
}

/* A column's elements of the thread: i, from the thread's number on by 8. */
#define EACH_OF_COLUMN(i, v) for (int64_t i = there ? threadIdx.x >> 5 : (v).d; i < (v).d; i += CHANNEL_THREADS / 32)

__device__ static inline float column_max(float m, float *part)
{
    __syncthreads();
    part[threadIdx.x] = m;
    __syncthreads();
    for (int i = 0; i < CHANNEL_THREADS / 32; i++)
        m = fmaxf(m, part[i * 32 + (threadIdx.x & 31)]);
    return m;
}

template <bool LOG> __global__ static void softmax_columns(const float *x, float *y, rows_view v)
{
    __shared__ float part[CHANNEL_THREADS];
    for (int64_t from = (int64_t)blockIdx.x * 32; from < v.outer * v.inner; from += (int64_t)gridDim.x * 32) {
        const int64_t column = from + (threadIdx.x & 31), o = column / v.inner, at = o * v.d * v.inner + column - o * v.inner;
        const bool there = column < v.outer * v.inner;
        float max = -INFINITY, sum = 0;
        EACH_OF_COLUMN(i, v)
            max = fmaxf(max, x[at + i * v.inner]);
        max = column_max(max, part);
        EACH_OF_COLUMN(i, v)
            sum += expf(x[at + i * v.inner] - max);
        sum = channel_sum<true>(sum, part);
        const float scale = 1 / sum, log_sum = logf(sum);
        EACH_OF_COLUMN(i, v)
        {
            const float d = x[at + i * v.inner] - max;
            y[at + i * v.inner] = LOG ? d - log_sum : expf(d) * scale;
        }
    }
}

template <bool LOG> __global__ static void softmax_grad_columns(const float *dy, const float *y, float *dx, rows_view v)
{
    __shared__ float part[CHANNEL_THREADS];
    for (int64_t from = (int64_t)blockIdx.x * 32; from < v.outer * v.inner; from += (int64_t)gridDim.x * 32) {
        const int64_t column = from + (threadIdx.x & 31), o = column / v.inner, at = o * v.d * v.inner + column - o * v.inner;
        const bool there = column < v.outer * v.inner;
        float sum = 0;
        EACH_OF_COLUMN(i, v)
            sum += LOG ? dy[at + i * v.inner] : dy[at + i * v.inner] * y[at + i * v.inner];
        sum = channel_sum<true>(sum, part);
        EACH_OF_COLUMN(i, v)
        {
            const int64_t k = at + i * v.inner;
            dx[k] = LOG ? dy[k] - expf(y[k]) * sum : y[k] * (dy[k] - sum);
        }
    }
}

template <int V, int K, bool BLOCK, bool LOG> __global__ static void __launch_bounds__(ROW_THREADS)
softmax_rows(const float *x, float *y, int64_t rows, int64_t d)
{
    __shared__ float part[32];
    EACH_ROW(r, rows)
    {
        row_part<V, K> v;
        float max = -INFINITY, sum = 0;
        LOAD_ROW(v, x + r * d, d);
        EACH_PACK(k, i, d)
        {
            const floats<V> p = v.get(k, i);
            for (int j = 0; j < V; j++)
                max = fmaxf(max, p.v[j]);
        }
        max = row_max<BLOCK>(max, part);
        EACH_PACK(k, i, d)
        {
            const floats<V> p = v.get(k, i);
            for (int j = 0; j < V; j++) {
                const float e = expf(p.v[j] - max);
                sum += e;
                if (K && !LOG)
                    v.kept[K ? k : 0][j] = e;
            }
        }
        sum = row_sum<BLOCK>(sum, part);
        const float scale = 1 / sum, log_sum = logf(sum);
        EACH_PACK(k, i, d)
        {
            floats<V> p = v.get(k, i);
            for (int j = 0; j < V; j++)
                p.v[j] = LOG ? p.v[j] - max - log_sum : (K ? p.v[j] : expf(p.v[j] - max)) * scale;
            floats_put<V>(y + r * d + i, 0, p);
        }
    }
}

template <int V, int K, bool BLOCK, bool LOG> __global__ static void __launch_bounds__(ROW_THREADS)
softmax_grad_rows(const float *dy, const float *y, float *dx, int64_t rows, int64_t d)
{
    __shared__ float part[32];
    EACH_ROW(r, rows)
    {
        row_part<V, K> g, v;
        float sum = 0;
        LOAD_ROW(g, dy + r * d, d);
        LOAD_ROW(v, y + r * d, d);
        EACH_PACK(k, i, d)
        {
            const floats<V> p = g.get(k, i), q = v.get(k, i);
            for (int j = 0; j < V; j++)
                sum += LOG ? p.v[j] : p.v[j] * q.v[j];
        }
        sum = row_sum<BLOCK>(sum, part);
        EACH_PACK(k, i, d)
        {
            floats<V> p = g.get(k, i);
            const floats<V> q = v.get(k, i);
            for (int j = 0; j < V; j++)
                p.v[j] = LOG ? p.v[j] - expf(q.v[j]) * sum : q.v[j] * (p.v[j] - sum);
            floats_put<V>(dx + r * d + i, 0, p);
        }
    }
}

static dim3 column_grid(const cuda_queue *q, const rows_view *v)
{
    int64_t blocks = (v->outer * v->inner + 31) / 32, most = (int64_t)q->multiprocessors * 16;
    return dim3((unsigned)(blocks < most ? blocks : most));
}

template <bool LOG> static void forward(const kernel_args *a)
{
    const rows_view v = rows_of(a);
    const float *x = (const float *)a->in[0].data;
    float *y = (float *)a->out[0].data;
    const bool vector = v.d % 4 == 0 && is_vector(x) && is_vector(y);
    if (v.outer * v.d * v.inner == 0)
        return;
    if (v.inner == 1)
        LAUNCH_ROWS(softmax_rows, LOG, v.outer, v.d, vector, a->queue, x, y, v.outer, v.d);
    else
        LAUNCH((softmax_columns<LOG>), column_grid(a->queue, &v), CHANNEL_THREADS, 0, a->queue, x, y, v);
}

template <bool LOG> static void backward(const kernel_args *a)
{
    const rows_view v = rows_of(a);
    const float *dy = (const float *)a->in[0].data, *y = (const float *)a->in[1].data;
    float *dx = (float *)a->out[0].data;
    const bool vector = v.d % 4 == 0 && is_vector(dy) && is_vector(y) && is_vector(dx);
    if (v.outer * v.d * v.inner == 0)
        return;
    if (v.inner == 1)
        LAUNCH_ROWS(softmax_grad_rows, LOG, v.outer, v.d, vector, a->queue, dy, y, dx, v.outer, v.d);
    else
        LAUNCH((softmax_grad_columns<LOG>), column_grid(a->queue, &v), CHANNEL_THREADS, 0, a->queue, dy, y, dx, v);
}

CUDA_TABLE(softmax) = {
    {.op = OP_SOFTMAX, .type = DTYPE_F32, .name = "softmax", .run = forward<false>},
    {.op = OP_LOG_SOFTMAX, .type = DTYPE_F32, .name = "log softmax", .run = forward<true>},
    {.op = OP_SOFTMAX_GRAD, .type = DTYPE_F32, .name = "softmax grad", .run = backward<false>},
    {.op = OP_LOG_SOFTMAX_GRAD, .type = DTYPE_F32, .name = "log softmax grad", .run = backward<true>},
    KERNEL_END};
