/* pool.cu - pools, a thread an output (src/ops/pool.c). Gradients gather: a thread an input, which adds what comes from the
 * windows it lies in, in their order. */
#include "kernels/cuda/pool.cuh"

__device__ static inline bool is_nan(float v) { return v != v; }
__device__ static inline bool is_nan(uint8_t) { return false; }
__device__ static inline bool is_nan(int8_t) { return false; }

/* The first maximum of a window in row-major order; NaN is largest. Returns its place in the plane, -1: no tap inside. */
template <class T> __device__ static inline int first_maximum(const pool_sizes &s, const window_place &w, const T *plane, T *top)
{
    int best = -1;
    T most = 0;
    for (int d = w.begin[0]; d < w.end[0]; d++)
        for (int h = w.begin[1]; h < w.end[1]; h++) {
            const int row = ((w.start[0] + d * s.axis[0].dilation) * s.axis[1].in + w.start[1] + h * s.axis[1].dilation) * s.axis[2].in;
            for (int c = w.begin[2]; c < w.end[2]; c++) {
                const int i = row + w.start[2] + c * s.axis[2].dilation;
                const T v = plane[i];
                if (best < 0 || v > most || (is_nan(v) && !is_nan(most))) {
                    best = i;
                    most = v;
                }
            }
        }
    *top = most;
    return best;
}

/* The same for window at[] of K x K taps side by side on the last two axes, all of which are read at once; K 0: any window. */
template <int K, class T> __device__ static inline int maximum_of(const pool_sizes &s, const int *at, const T *plane, T *top)
{
    if constexpr (K == 0) {
        return first_maximum(s, place_window(s, at), plane, top);
    } else {
        const pool_axis &h = s.axis[1], &w = s.axis[2];
        const int row = at[1] * h.stride - h.pad, column = at[2] * w.stride - w.pad;
        T v[K * K], most = 0;
        bool in[K * K];
        int best = -1;
        UNROLL
        for (int k = 0; k < K * K; k++) {
            const int i = row + k / K, j = column + k % K;
            in[k] = i >= 0 && i < h.in && j >= 0 && j < w.in;
            v[k] = in[k] ? plane[i * w.in + j] : (T)0;
        }
        UNROLL
        for (int k = 0; k < K * K; k++)
            if (in[k] && (best < 0 || v[k] > most || (is_nan(v[k]) && !is_nan(most)))) {
                best = (row + k / K) * w.in + column + k % K;
                most = v[k];
            }
        *top = most;
        return best;
    }
}
/* K of maximum_of that fits, 0: none. */
static int square_of(const pool_sizes *s)
{
    const pool_axis *d = &s->axis[0], *h = &s->axis[1], *w = &s->axis[2];
    const bool flat = d->in == 1 && d->out == 1 && d->kernel == 1 && d->pad == 0, close = h->dilation == 1 && w->dilation == 1;
    return flat && close && h->kernel == w->kernel && (h->kernel == 2 || h->kernel == 3) ? h->kernel : 0;
}
#define LAUNCH_SQUARE(kernel, T, s, most, grid, q, ...)                                                                \
    do {                                                                                                               \
        const int square_ = is_narrow(most) ? square_of(&(s)) : 0;                                                     \
        if (square_ == 2)                                                                                              \
            LAUNCH((kernel<T, uint32_t, 2>), grid, CUDA_THREADS, 0, q, __VA_ARGS__, s);                                \
        else if (square_ == 3)                                                                                         \
            LAUNCH((kernel<T, uint32_t, 3>), grid, CUDA_THREADS, 0, q, __VA_ARGS__, s);                                \
        else if (is_narrow(most))                                                                                      \
            LAUNCH((kernel<T, uint32_t, 0>), grid, CUDA_THREADS, 0, q, __VA_ARGS__, s);                                \
        else                                                                                                           \
            LAUNCH((kernel<T, int64_t, 0>), grid, CUDA_THREADS, 0, q, __VA_ARGS__, s);                                 \
    } while (0)

/* y, index (in all data), where (in the plane): each may be NULL. */
template <class T, class I, int K>
__global__ static void max_pool_kernel(T *y, int64_t *index, int *where, const T *x, int64_t n, T lowest, bool by_column,
                                       const __grid_constant__ pool_sizes s)
{
    GRID_STRIDE(i, n)
    {
        int at[3];
        const int64_t first = (int64_t)place_of_output(s, (I)i, at) * s.in;
        T top;
        const int best = maximum_of<K>(s, at, x + first, &top);
        if (y)
            y[i] = best < 0 ? lowest : top;
        if (where)
            where[i] = best;
        if (index) {
            int flat = best < 0 ? 0 : best;
            if (by_column) { /* the last two axes swapped */
                const int row = flat / s.axis[2].in, column = flat % s.axis[2].in, h = s.axis[1].in;
                flat = (row / h * s.axis[2].in + column) * h + row % h;
            }
            index[i] = first + flat;
        }
    }
}

template <class T> static void max_pool(const kernel_args *a, T lowest)
{
    const pool_sizes s = sizes_of((const pool_attrs *)a->attr, &a->in[0].sh, &a->out[0].sh);
    const int64_t n = s.planes * s.out, most = s.planes * s.in > n ? s.planes * s.in : n;
    int64_t *index = a->n_out > 1 ? (int64_t *)a->out[1].data : nullptr;
    if (n > 0)
        LAUNCH_SQUARE(max_pool_kernel, T, s, most, grid_for(a->queue, n, 1), a->queue, (T *)a->out[0].data, index, (int *)nullptr,
                      (const T *)a->in[0].data, n, lowest, ((const pool_attrs *)a->attr)->storage_order != 0);
}
static void max_pool_f32(const kernel_args *a) { max_pool<float>(a, -INFINITY); }
static void max_pool_u8(const kernel_args *a) { max_pool<uint8_t>(a, 0); }
static void max_pool_i8(const kernel_args *a) { max_pool<int8_t>(a, INT8_MIN); }

/* No two windows overlap: the one that an element lies in is looked through again. */
template <class T, class I, int K>
__global__ static void max_pool_grad_apart_kernel(T *dx, const T *dy, const T *x, int64_t n, const __grid_constant__ pool_sizes s)
{
    GRID_STRIDE(i, n)
    {
        int at[3], o[3];
        const int64_t plane = (int64_t)place_of_input(s, (I)i, at);
        bool inside = true;
        UNROLL
        for (int k = 0; k < 3; k++) {
            o[k] = (int)quotient((uint32_t)(at[k] + s.axis[k].pad), s.axis[k].strides);
            inside = inside && o[k] < s.axis[k].out;
        }
        T sum = 0, top;
        if (inside && maximum_of<K>(s, o, x + plane * s.in, &top) == (int)(i - plane * s.in))
            sum += dy[plane * s.out + (o[0] * s.axis[1].out + o[1]) * s.axis[2].out + o[2]];
        dx[i] = sum;
    }
}

/* where: of every window its maximum. */
template <class T, class I>
__global__ static void max_pool_grad_kernel(T *dx, const T *dy, const int *where, int64_t n, const __grid_constant__ pool_sizes s)
{
    GRID_STRIDE(i, n)
    {
        int at[3], from[3], to[3];
        const int64_t plane = (int64_t)place_of_input(s, (I)i, at);
        const int own = (int)(i - plane * s.in);
        T sum = 0;
        UNROLL
        for (int k = 0; k < 3; k++)
            windows_of(s.axis[k], at[k], &from[k], &to[k]);
        for (int d = from[0]; d < to[0]; d++)
            for (int h = from[1]; h < to[1]; h++)
                for (int c = from[2]; c < to[2]; c++) {
                    const int64_t o = plane * s.out + (d * s.axis[1].out + h) * s.axis[2].out + c;
                    if (where[o] == own)
                        sum += dy[o];
                }
        dx[i] = sum;
    }
}

static bool is_apart(const pool_sizes *s)
{
    bool apart = true;
    for (int k = 0; k < 3; k++)
        apart = apart && s->axis[k].stride > (s->axis[k].kernel - 1) * s->axis[k].dilation;
    return apart;
}
static size_t max_pool_grad_work(const kernel_args *a)
{
    const pool_sizes s = sizes_of((const pool_attrs *)a->attr, &a->in[1].sh, &a->in[0].sh);
    return is_apart(&s) ? 0 : (size_t)(s.planes * s.out) * sizeof(int);
}
/* dy, x -> dx */
static void max_pool_grad(const kernel_args *a)
{
    const pool_sizes s = sizes_of((const pool_attrs *)a->attr, &a->in[1].sh, &a->in[0].sh);
    const int64_t n = s.planes * s.in, outs = s.planes * s.out, most = n > outs ? n : outs;
    const float *dy = (const float *)a->in[0].data, *x = (const float *)a->in[1].data;
    float *dx = (float *)a->out[0].data;
    int *where = (int *)a->work;
    if (n == 0)
        return;
    if (is_apart(&s)) {
        LAUNCH_SQUARE(max_pool_grad_apart_kernel, float, s, most, grid_for(a->queue, n, 1), a->queue, dx, dy, x, n);
        return;
    }
    if (outs > 0)
        LAUNCH_SQUARE(max_pool_kernel, float, s, most, grid_for(a->queue, outs, 1), a->queue, (float *)nullptr, (int64_t *)nullptr,
                      where, x, outs, 0.0f, false);
    LAUNCH_INDEXED(max_pool_grad_kernel, float, most, grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, dx, dy, where, n, s);
}

/* ---- averages ---- */

template <class T, class I>
__global__ static void average_pool_kernel(T *y, const T *x, int64_t n, const __grid_constant__ pool_sizes s)
{
    GRID_STRIDE(i, n)
    {
        int o[3];
        const T *plane = x + (int64_t)place_of_output(s, (I)i, o) * s.in;
        const window_place w = place_window(s, o);
        const int count = count_of(s, w, o);
        T sum = 0;
        for (int d = w.begin[0]; d < w.end[0]; d++)
            for (int h = w.begin[1]; h < w.end[1]; h++) {
                const int row = ((w.start[0] + d * s.axis[0].dilation) * s.axis[1].in + w.start[1] + h * s.axis[1].dilation) * s.axis[2].in;
                for (int c = w.begin[2]; c < w.end[2]; c++)
                    sum += plane[row + w.start[2] + c * s.axis[2].dilation];
            }
        y[i] = count ? sum / (T)count : 0;
    }
}
static void average_pool(const kernel_args *a)
{
    const pool_sizes s = sizes_of((const pool_attrs *)a->attr, &a->in[0].sh, &a->out[0].sh);
    const int64_t n = s.planes * s.out, most = s.planes * s.in > n ? s.planes * s.in : n;
    if (n > 0)
        LAUNCH_INDEXED(average_pool_kernel, float, most, grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue,
                       (float *)a->out[0].data, (const float *)a->in[0].data, n, s);
}

template <class T, class I>
__global__ static void average_pool_grad_kernel(T *dx, const T *dy, int64_t n, const __grid_constant__ pool_sizes s)
{
    GRID_STRIDE(i, n)
    {
        int at[3], from[3], to[3], o[3];
        const T *plane = dy + (int64_t)place_of_input(s, (I)i, at) * s.out;
        T sum = 0;
        UNROLL
        for (int k = 0; k < 3; k++)
            windows_of(s.axis[k], at[k], &from[k], &to[k]);
        for (o[0] = from[0]; o[0] < to[0]; o[0]++)
            for (o[1] = from[1]; o[1] < to[1]; o[1]++)
                for (o[2] = from[2]; o[2] < to[2]; o[2]++) {
                    const window_place w = place_window(s, o);
                    bool tap = true;
                    UNROLL
                    for (int k = 0; k < 3; k++)
                        tap = tap && (s.axis[k].dilation == 1 || (at[k] - w.start[k]) % s.axis[k].dilation == 0);
                    if (tap)
                        sum += plane[(o[0] * s.axis[1].out + o[1]) * s.axis[2].out + o[2]] / (T)count_of(s, w, o);
                }
        dx[i] = sum;
    }
}
static void average_pool_grad(const kernel_args *a)
{
    const pool_sizes s = sizes_of((const pool_attrs *)a->attr, &a->out[0].sh, &a->in[0].sh);
    const int64_t n = s.planes * s.in, most = s.planes * s.out > n ? s.planes * s.out : n;
    if (n > 0)
        LAUNCH_INDEXED(average_pool_grad_kernel, float, most, grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue,
                       (float *)a->out[0].data, (const float *)a->in[0].data, n, s);
}

/* ---- whole planes ---- */

/* One plane by `lanes` threads that lie side by side (a warp, or a block of whole warps). */
template <bool MAX, int VECTOR>
__device__ static inline float plane_part(const float *x, int64_t plane, int lane, int lanes)
{
    float v = MAX ? -INFINITY : 0;
    if constexpr (VECTOR == 4) {
        float4 part = make_float4(v, v, v, v);
        for (int64_t i = lane; i < plane / 4; i += lanes) {
            const float4 one = reinterpret_cast<const float4 *>(x)[i];
            part = MAX ? make_float4(larger(part.x, one.x), larger(part.y, one.y), larger(part.z, one.z), larger(part.w, one.w))
                       : make_float4(part.x + one.x, part.y + one.y, part.z + one.z, part.w + one.w);
        }
        v = MAX ? larger(larger(part.x, part.y), larger(part.z, part.w)) : (part.x + part.y) + (part.z + part.w);
    } else {
        for (int64_t i = lane; i < plane; i += lanes)
            v = MAX ? larger(v, x[i]) : v + x[i];
    }
    return v;
}
template <bool MAX> __device__ static inline float warp_join(float v)
{
    for (int m = 16; m; m >>= 1) {
        const float other = __shfl_xor_sync(FULL_WARP, v, m);
        v = MAX ? larger(v, other) : v + other;
    }
    return v;
}

/* A warp a plane. */
template <bool MAX, int VECTOR>
__global__ static void small_planes_kernel(float *y, const float *x, int64_t planes, int64_t plane)
{
    const int64_t warps = (int64_t)gridDim.x * (blockDim.x / 32);
    const int lane = threadIdx.x & 31;
    for (int64_t p = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / 32; p < planes; p += warps) {
        const float v = warp_join<MAX>(plane_part<MAX, VECTOR>(x + p * plane, plane, lane, 32));
        if (lane == 0)
            y[p] = MAX ? v : v / (float)plane;
    }
}
/* A block a plane. */
template <bool MAX, int VECTOR>
__global__ static void large_planes_kernel(float *y, const float *x, int64_t planes, int64_t plane)
{
    SHARED_DYNAMIC(float, part);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    for (int64_t p = blockIdx.x; p < planes; p += gridDim.x) {
        const float own = warp_join<MAX>(plane_part<MAX, VECTOR>(x + p * plane, plane, (int)threadIdx.x, (int)blockDim.x));
        if (lane == 0)
            part[warp] = own;
        __syncthreads();
        if (warp == 0) {
            const float v = warp_join<MAX>(lane < (int)blockDim.x / 32 ? part[lane] : MAX ? -INFINITY : 0);
            if (lane == 0)
                y[p] = MAX ? v : v / (float)plane;
        }
        __syncthreads();
    }
}

template <bool MAX, int VECTOR> static void global_pool_by(const kernel_args *a, int64_t planes, int64_t plane)
{
    const float *x = (const float *)a->in[0].data;
    float *y = (float *)a->out[0].data;
    if (plane <= 1024)
        LAUNCH((small_planes_kernel<MAX, VECTOR>), grid_for(a->queue, planes * 32, 1), CUDA_THREADS, 0, a->queue, y, x, planes, plane);
    else
        LAUNCH((large_planes_kernel<MAX, VECTOR>), grid_for(a->queue, planes * CUDA_THREADS, 1), CUDA_THREADS,
               CUDA_THREADS / 32 * sizeof(float), a->queue, y, x, planes, plane);
}
template <bool MAX> static void global_pool(const kernel_args *a)
{
    const shape *x = &a->in[0].sh;
    const int64_t planes = x->dim[0] * x->dim[1], plane = planes ? shape_count(x) / planes : 0;
    if (planes == 0)
        return;
    if (plane % 4 == 0 && is_vector(a->in[0].data))
        global_pool_by<MAX, 4>(a, planes, plane);
    else
        global_pool_by<MAX, 1>(a, planes, plane);
}
static void global_average_pool(const kernel_args *a) { global_pool<false>(a); }
static void global_max_pool(const kernel_args *a) { global_pool<true>(a); }

static bool takes_in(const kernel_args *a) { return is_small((const pool_attrs *)a->attr, &a->in[0].sh); }
static bool takes_second(const kernel_args *a) { return is_small((const pool_attrs *)a->attr, &a->in[1].sh); }
static bool takes_out(const kernel_args *a) { return is_small((const pool_attrs *)a->attr, &a->out[0].sh); }

CUDA_TABLE(pool) = {
    {.op = OP_MAX_POOL, .type = DTYPE_F32, .name = "max_pool", .run = max_pool_f32, .takes = takes_in},
    {.op = OP_MAX_POOL, .type = DTYPE_U8, .name = "max_pool u8", .run = max_pool_u8, .takes = takes_in},
    {.op = OP_MAX_POOL, .type = DTYPE_I8, .name = "max_pool i8", .run = max_pool_i8, .takes = takes_in},
    {.op = OP_MAX_POOL_GRAD, .type = DTYPE_F32, .name = "max_pool grad", .run = max_pool_grad, .workspace = max_pool_grad_work,
     .takes = takes_second},
    {.op = OP_AVERAGE_POOL, .type = DTYPE_F32, .name = "average_pool", .run = average_pool, .takes = takes_in},
    {.op = OP_AVERAGE_POOL_GRAD, .type = DTYPE_F32, .name = "average_pool grad", .run = average_pool_grad, .takes = takes_out},
    {.op = OP_GLOBAL_AVERAGE_POOL, .type = DTYPE_F32, .name = "global_average_pool", .run = global_average_pool},
    {.op = OP_GLOBAL_MAX_POOL, .type = DTYPE_F32, .name = "global_max_pool", .run = global_max_pool},
    KERNEL_END};
