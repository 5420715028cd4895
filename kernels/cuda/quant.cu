/* quant.cu - QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear and QLinearAdd (src/ops/quant.c). Convolutions and
 * products of integers are in qconv.cu. */
#include "kernels/cuda/quant.cuh"

/* x [outer, channels, inner] of a scale per channel; one channel otherwise. */
typedef struct channels {
    bool many;
    divider inner, n;
} channels;
static channels channels_of(const kernel_args *a)
{
    const shape *x = &a->in[0].sh;
    channels c = {.many = shape_count(&a->in[1].sh) > 1, .inner = divider_of(1), .n = divider_of(1)};
    if (!c.many)
        return c;
    const int axis = shape_axis(x, ((const quant_attrs *)a->attr)->axis);
    int64_t inner = 1;
    for (int i = axis + 1; i < x->rank; i++)
        inner *= x->dim[i];
    c.inner = divider_of(inner);
    c.n = divider_of(x->dim[axis]);
    return c;
}
template <class I> __device__ static inline int64_t channel_of(const channels &c, I i)
{
    if (!c.many)
        return 0;
    split_off(&i, c.inner);
    return (int64_t)split_off(&i, c.n);
}

/* Four elements of a channel may be done at once. */
static bool by_fours(const kernel_args *a, const channels *c)
{
    return (c->many ? c->inner.d : shape_count(&a->in[0].sh)) % 4 == 0 && is_vector(a->in[0].data) && is_vector(a->out[0].data);
}
/* V elements as one load or store. */
template <class T, int V> struct alignas(sizeof(T) * V) bundle {
    T v[V];
};

__device__ static inline float as_float(int32_t v) { return (float)v; }

/* From a number to its code of type Q (unsigned, of the result's size), and back. */
template <class X, class Q> struct quantized {
    typedef X from;
    typedef Q to;
    quant_range range;
    __device__ Q operator()(X v, float scale, int zero) const
    {
        return (Q)quant_round(__fdiv_rn(as_float(v), scale), zero, range);
    }
};
template <class X, class Y> struct dequantized {
    typedef X from;
    typedef Y to;
    __device__ Y operator()(X v, float scale, int zero) const
    {
        return from_float<Y>(__fmul_rn((float)((int64_t)v - zero), scale));
    }
};

/* y = rule(x, scale of its channel, zero of its channel). */
template <class Rule, int V, class I>
__global__ static void per_channel_kernel(typename Rule::to *y, const typename Rule::from *x, int64_t n, numbers scale, numbers zero,
                                          Rule rule, channels c)
{
    GRID_STRIDE(i, n / V)
    {
        const int64_t channel = channel_of(c, (I)(i * V));
        const float s = scale_at(scale, channel);
        const int z = zero_at(zero, channel);
        const bundle<typename Rule::from, V> in = reinterpret_cast<const bundle<typename Rule::from, V> *>(x)[i];
        bundle<typename Rule::to, V> out;
        UNROLL
        for (int k = 0; k < V; k++)
            out.v[k] = rule(in.v[k], s, z);
        reinterpret_cast<bundle<typename Rule::to, V> *>(y)[i] = out;
    }
}
template <class Rule, int V, class I> static void launch_rule(const kernel_args *a, Rule rule, const channels &c)
{
    const int64_t n = shape_count(&a->in[0].sh);
    LAUNCH((per_channel_kernel<Rule, V, I>), grid_for(a->queue, n, V), CUDA_THREADS, 0, a->queue, (typename Rule::to *)a->out[0].data,
           (const typename Rule::from *)a->in[0].data, n, numbers_of(a, 1), numbers_of(a, 2), rule, c);
}
template <class Rule> static void per_channel(const kernel_args *a, Rule rule)
{
    const int64_t n = shape_count(&a->in[0].sh);
    const channels c = channels_of(a);
    if (n == 0)
        return;
    if (!is_narrow(n))
        launch_rule<Rule, 1, int64_t>(a, rule, c);
    else if (by_fours(a, &c))
        launch_rule<Rule, 4, uint32_t>(a, rule, c);
    else
        launch_rule<Rule, 1, uint32_t>(a, rule, c);
}

template <class X> static void quantize(const kernel_args *a)
{
    const quant_range r = quant_range_of(a->out[0].type);
    const size_t size = dtype_of(a->out[0].type)->size;
    if (size == 1)
        per_channel(a, quantized<X, uint8_t>{r});
    else if (size == 2)
        per_channel(a, quantized<X, uint16_t>{r});
    else
        per_channel(a, quantized<X, uint32_t>{r});
}
template <class X> static void dequantize(const kernel_args *a)
{
    const dtype t = a->out[0].type;
    if (t == DTYPE_F16)
        per_channel(a, dequantized<X, __half>{});
    else if (t == DTYPE_BF16)
        per_channel(a, dequantized<X, __nv_bfloat16>{});
    else
        per_channel(a, dequantized<X, float>{});
}
static bool makes_float(const kernel_args *a)
{
    return a->out[0].type == DTYPE_F32 || a->out[0].type == DTYPE_F16 || a->out[0].type == DTYPE_BF16;
}

/* ---- DynamicQuantizeLinear ---- */

#define MOST_PARTS 256
typedef struct bounds {
    float lo, hi;
} bounds;
__device__ static inline bounds join(bounds a, bounds b)
{
    return {b.lo < a.lo ? b.lo : a.lo, b.hi > a.hi ? b.hi : a.hi}; /* comparisons leave NaN out */
}
/* Over the block, the same in every thread. `part`: WARPS of them in shared memory. */
__device__ static inline bounds block_bounds(bounds b, bounds *part)
{
    for (int m = 16; m; m >>= 1)
        b = join(b, {__shfl_xor_sync(FULL_WARP, b.lo, m), __shfl_xor_sync(FULL_WARP, b.hi, m)});
    if ((threadIdx.x & 31) == 0)
        part[threadIdx.x >> 5] = b;
    __syncthreads();
    for (unsigned w = 0; w < blockDim.x >> 5; w++)
        b = join(b, part[w]);
    __syncthreads();
    return b;
}
__global__ static void bounds_kernel(bounds *parts, const float *x, int64_t n)
{
    SHARED_DYNAMIC(bounds, part);
    bounds b = {0, 0};
    GRID_STRIDE(i, n)
    {
        b = join(b, {x[i], x[i]});
    }
    b = block_bounds(b, part);
    if (threadIdx.x == 0)
        parts[blockIdx.x] = b;
}
/* Every block joins the parts for itself. */
__global__ static void dynamic_quantize_kernel(uint8_t *y, float *scale_out, uint8_t *zero_out, const float *x, int64_t n,
                                               const bounds *parts, int count, quant_range r)
{
    SHARED_DYNAMIC(bounds, part);
    bounds b = {0, 0};
    for (int k = (int)threadIdx.x; k < count; k += (int)blockDim.x)
        b = join(b, parts[k]);
    b = block_bounds(b, part);
    const float scale = __fdiv_rn(b.hi - b.lo, 255.0f);
    const int zero = scale > 0 ? quant_round(__fdiv_rn(-b.lo, scale), 0, r) : 0;
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        *scale_out = scale;
        *zero_out = (uint8_t)zero;
    }
    GRID_STRIDE(i, n)
    {
        y[i] = (uint8_t)(scale > 0 ? quant_round(__fdiv_rn(x[i], scale), zero, r) : 0);
    }
}
static void dynamic_quantize(const kernel_args *a)
{
    const int64_t n = shape_count(&a->in[0].sh), wanted = (n + 4 * CUDA_THREADS - 1) / (4 * CUDA_THREADS);
    const int parts = (int)(wanted < 1 ? 1 : wanted < MOST_PARTS ? wanted : MOST_PARTS);
    const size_t shared = CUDA_THREADS / 32 * sizeof(bounds);
    const float *x = (const float *)a->in[0].data;
    LAUNCH(bounds_kernel, dim3((unsigned)parts), CUDA_THREADS, shared, a->queue, (bounds *)a->work, x, n);
    LAUNCH(dynamic_quantize_kernel, grid_for(a->queue, n, 4), CUDA_THREADS, shared, a->queue, (uint8_t *)a->out[0].data,
           (float *)a->out[1].data, (uint8_t *)a->out[2].data, x, n, (const bounds *)a->work, parts, quant_range_of(DTYPE_U8));
}
static size_t dynamic_quantize_work(const kernel_args *)
{
    return MOST_PARTS * sizeof(bounds);
}

/* ---- QLinearAdd (a, sa, za, b, sb, zb, sy, zy) ---- */

typedef struct term {
    const uint8_t *data;
    bool is_signed, same; /* same: shape as the result's */
    numbers scale, zero;
    broadcast_map map;
} term;
static term term_of(const kernel_args *a, int i)
{
    term t = {.data = (const uint8_t *)a->in[i].data, .is_signed = a->in[i].type == DTYPE_I8,
              .same = shape_count(&a->in[i].sh) == shape_count(&a->out[0].sh), .scale = numbers_of(a, i + 1),
              .zero = numbers_of(a, i + 2), .map = broadcast_of(&a->out[0].sh, &a->in[i].sh)};
    return t;
}
template <int V> __device__ static inline bundle<float, V> real_of(const term &t, int64_t i, float scale, int zero)
{
    bundle<uint8_t, V> q;
    bundle<float, V> v;
    if (V > 1)
        q = reinterpret_cast<const bundle<uint8_t, V> *>(t.data)[i];
    else
        q.v[0] = t.data[t.same ? i : broadcast_at(t.map, i)];
    UNROLL
    for (int k = 0; k < V; k++)
        v.v[k] = __fmul_rn((float)((t.is_signed ? (int)(int8_t)q.v[k] : (int)q.v[k]) - zero), scale);
    return v;
}
template <int V>
__global__ static void qlinear_add_kernel(uint8_t *y, int64_t n, const __grid_constant__ term a, const __grid_constant__ term b,
                                          numbers scale, numbers zero, quant_range r)
{
    const float sa = scale_at(a.scale, 0), sb = scale_at(b.scale, 0), sy = scale_at(scale, 0);
    const int za = zero_at(a.zero, 0), zb = zero_at(b.zero, 0), zy = zero_at(zero, 0);
    GRID_STRIDE(i, n / V)
    {
        const bundle<float, V> u = real_of<V>(a, i, sa, za), v = real_of<V>(b, i, sb, zb);
        bundle<uint8_t, V> out;
        UNROLL
        for (int k = 0; k < V; k++)
            out.v[k] = (uint8_t)quant_round(__fdiv_rn(__fadd_rn(u.v[k], v.v[k]), sy), zy, r);
        reinterpret_cast<bundle<uint8_t, V> *>(y)[i] = out;
    }
}
static void qlinear_add(const kernel_args *a)
{
    const term one = term_of(a, 0), other = term_of(a, 3);
    const int64_t n = shape_count(&a->out[0].sh);
    const quant_range r = quant_range_of(a->out[0].type);
    uint8_t *y = (uint8_t *)a->out[0].data;
    if (n == 0)
        return;
    if (one.same && other.same && n % 4 == 0 && is_vector(one.data) && is_vector(other.data) && is_vector(y))
        LAUNCH((qlinear_add_kernel<4>), grid_for(a->queue, n, 4), CUDA_THREADS, 0, a->queue, y, n, one, other, numbers_of(a, 6),
               numbers_of(a, 7), r);
    else
        LAUNCH((qlinear_add_kernel<1>), grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, y, n, one, other, numbers_of(a, 6),
               numbers_of(a, 7), r);
}

#define QUANTIZE(type_, X) {.op = OP_QUANTIZE_LINEAR, .type = type_, .name = "quantize", .run = quantize<X>}
#define DEQUANTIZE(type_, X) \
    {.op = OP_DEQUANTIZE_LINEAR, .type = type_, .name = "dequantize", .run = dequantize<X>, .takes = makes_float}
CUDA_TABLE(quant) = {
    QUANTIZE(DTYPE_F32, float),
    QUANTIZE(DTYPE_F16, __half),
    QUANTIZE(DTYPE_BF16, __nv_bfloat16),
    QUANTIZE(DTYPE_I32, int32_t),
    DEQUANTIZE(DTYPE_U8, uint8_t),
    DEQUANTIZE(DTYPE_I8, int8_t),
    DEQUANTIZE(DTYPE_U16, uint16_t),
    DEQUANTIZE(DTYPE_I16, int16_t),
    DEQUANTIZE(DTYPE_I32, int32_t),
    {.op = OP_DYNAMIC_QUANTIZE_LINEAR, .type = DTYPE_F32, .name = "dynamic quantize", .run = dynamic_quantize,
     .workspace = dynamic_quantize_work},
    {.op = OP_QLINEAR_ADD, .type = DTYPE_NONE, .name = "qlinear add", .run = qlinear_add},
    KERNEL_END};
