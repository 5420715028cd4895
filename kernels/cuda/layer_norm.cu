/* layer_norm.cu - layer norm, its gradient, and instance norm; formulas in src/ops/norm.c. Rows of layer norm may lie in float16 or
 * bfloat16, each operand for itself; scale, bias, statistics and their gradients are float32, as is what is computed.
 *
 * A row is normalised by a warp or a block that reads it once. Means are taken of what is left after the row's first element
 * is subtracted, so that numbers far from zero lose nothing. The gradient of scale and bias is summed while the rows go by: every
 * warp keeps the sums of its rows in registers, blocks leave theirs in the workspace, and a second launch adds them in order. */
#include "kernels/cuda/mixed.cuh"
#include "kernels/cuda/rows.cuh"

enum { NORM_INSTANCE = 1, NORM_SUMS = 1, NORM_MIXED = 2 }; /* flags of kernels; MIXED: not all rows are float32 */

/* An operand of rows, as it lies. */
struct norm_rows_of {
    void *data; /* NULL allowed */
    int kind;
};
template <int V, bool MIXED> __device__ static inline floats<V> norm_get(const norm_rows_of &o, int64_t at)
{
    if constexpr (!MIXED) {
        return floats_at<V>((const float *)o.data + at, 0);
    } else {
        floats<V> r;
        const pack<float, V> p = mixed_load<V>(o.data, o.kind, at);
        for (int j = 0; j < V; j++)
            r.v[j] = p.at[j];
        return r;
    }
}
template <int V, bool MIXED> __device__ static inline void norm_put(const norm_rows_of &o, int64_t at, const floats<V> &v)
{
    if constexpr (!MIXED) {
        floats_put<V>((float *)o.data + at, 0, v);
    } else {
        pack<float, V> p;
        for (int j = 0; j < V; j++)
            p.at[j] = v.v[j];
        mixed_store<V>(o.data, o.kind, at, p);
    }
}
/* What a thread has of a row (rows.cuh: row_part) of such an operand. */
template <int V, int K, bool MIXED> struct norm_part {
    norm_rows_of from;
    int64_t begin;
    float kept[K ? K : 1][V];
    __device__ inline void load(int k, int64_t i)
    {
        const floats<V> p = norm_get<V, MIXED>(from, begin + i);
        for (int j = 0; j < V; j++)
            kept[K ? k : 0][j] = p.v[j];
    }
    __device__ inline floats<V> get(int k, int64_t i) const
    {
        if constexpr (K == 0) {
            return norm_get<V, MIXED>(from, begin + i);
        } else {
            floats<V> p;
            for (int j = 0; j < V; j++)
                p.v[j] = kept[k][j];
            return p;
        }
    }
};
#define LOAD_PART(part, operand, at, d)                                                                                \
    do {                                                                                                               \
        (part).from = (operand);                                                                                       \
        (part).begin = (at);                                                                                           \
        if (K) EACH_PACK(k_, i_, d)                                                                                    \
            (part).load(k_, i_);                                                                                       \
    } while (0)

static norm_rows_of rows_of(const kernel_tensor *t)
{
    norm_rows_of r = {t->data, mixed_kind_of(t->type)};
    return r;
}

struct norm_args {
    norm_rows_of x, y;
    const float *scale, *bias; /* bias: NULL allowed */
    float *means, *invs;       /* NULL allowed */
    int64_t rows, d, channels;     /* channels: of instance norm, rows share scale and bias so */
    float epsilon;
};

/* Mean (after the pivot was subtracted) and 1 / sqrt(var + epsilon) of a row. */
template <int V, int K, bool BLOCK, bool MIXED>
__device__ static inline void row_moments(const norm_part<V, K, MIXED> &x, int64_t d, float pivot, float epsilon, float *part, float &mean, float &inv)
{
    float sum = 0, square = 0;
    EACH_PACK(k, i, d)
    {
        const floats<V> p = x.get(k, i);
        for (int j = 0; j < V; j++)
            sum += p.v[j] - pivot;
    }
    mean = row_sum<BLOCK>(sum, part) / (float)d;
    EACH_PACK(k, i, d)
    {
        const floats<V> p = x.get(k, i);
        for (int j = 0; j < V; j++)
            square += (p.v[j] - pivot - mean) * (p.v[j] - pivot - mean);
    }
    inv = 1 / sqrtf(row_sum<BLOCK>(square, part) / (float)d + epsilon);
}

template <int V, int K, bool BLOCK, int FLAGS> __global__ static void __launch_bounds__(ROW_THREADS) norm_rows(norm_args g)
{
    constexpr bool INSTANCE = FLAGS & NORM_INSTANCE, MIXED = FLAGS & NORM_MIXED;
    __shared__ float part[32];
    EACH_ROW(r, g.rows)
    {
        norm_part<V, K, MIXED> x;
        const float pivot = norm_get<1, MIXED>(g.x, r * g.d).v[0];
        float mean, inv;
        LOAD_PART(x, g.x, r * g.d, g.d);
        row_moments<V, K, BLOCK, MIXED>(x, g.d, pivot, g.epsilon, part, mean, inv);
        const float scale = INSTANCE ? g.scale[r % g.channels] : 1, bias = INSTANCE ? g.bias[r % g.channels] : 0;
        EACH_PACK(k, i, g.d)
        {
            floats<V> p = x.get(k, i), s, b;
            for (int j = 0; j < V; j++) {
                s.v[j] = scale;
                b.v[j] = bias;
            }
            if (!INSTANCE)
                s = floats_at<V>(g.scale + i, 0);
            if (!INSTANCE && g.bias)
                b = floats_at<V>(g.bias + i, 0);
            for (int j = 0; j < V; j++)
                p.v[j] = (p.v[j] - pivot - mean) * inv * s.v[j] + b.v[j];
            norm_put<V, MIXED>(g.y, r * g.d + i, p);
        }
        if ((BLOCK ? threadIdx.x : threadIdx.x & 31) == 0) {
            if (g.means)
                g.means[r] = pivot + mean;
            if (g.invs)
                g.invs[r] = inv;
        }
    }
}

static int64_t row_length(const shape *x, int64_t axis)
{
    int64_t d = 1;
    for (int i = shape_axis(x, axis); i < x->rank; i++)
        d *= x->dim[i];
    return d;
}

static void layer_norm_run(const kernel_args *a)
{
    const layer_norm_attrs *at = (const layer_norm_attrs *)a->attr;
    norm_args g = {.x = rows_of(&a->in[0]), .y = rows_of(&a->out[0]), .scale = (const float *)a->in[1].data,
                   .bias = a->n_in > 2 ? (const float *)a->in[2].data : NULL, .means = a->n_out > 1 ? (float *)a->out[1].data : NULL, .invs = a->n_out > 2 ? (float *)a->out[2].data : NULL,
                   .d = row_length(&a->in[0].sh, at->axis), .epsilon = (float)at->epsilon};
    g.rows = g.d ? shape_count(&a->in[0].sh) / g.d : 0;
    if (g.rows == 0)
        return;
    const bool vector = g.d % 4 == 0 && is_vector(g.x.data) && is_vector(g.scale) && is_vector(g.bias) && is_vector(g.y.data);
    if (g.x.kind == MIXED_F32 && g.y.kind == MIXED_F32)
        LAUNCH_ROWS(norm_rows, 0, g.rows, g.d, vector, a->queue, g);
    else
        LAUNCH_ROWS(norm_rows, NORM_MIXED, g.rows, g.d, vector, a->queue, g);
}

static void instance_norm_run(const kernel_args *a)
{
    const shape *x = &a->in[0].sh;
    norm_args g = {.x = rows_of(&a->in[0]), .y = rows_of(&a->out[0]), .scale = (const float *)a->in[1].data,
                   .bias = (const float *)a->in[2].data, .rows = x->dim[0] * x->dim[1],
                   .channels = x->dim[1], .epsilon = (float)((const instance_norm_attrs *)a->attr)->epsilon};
    g.d = g.rows ? shape_count(x) / g.rows : 0;
    if (g.rows * g.d == 0)
        return;
    const bool vector = g.d % 4 == 0 && is_vector(g.x.data) && is_vector(g.y.data);
    LAUNCH_ROWS(norm_rows, NORM_INSTANCE, g.rows, g.d, vector, a->queue, g);
}

/* ---- gradient ---- */

struct norm_grad_args {
    norm_rows_of dy, x, more, dx; /* more: NULL allowed */
    const float *scale;
    float *dscale, *dbias;              /* NULL allowed */
    float *part;                        /* [blocks, 2, d]: dscale, dbias of a block's rows */
    int64_t rows, d, blocks;
    float epsilon;
};

/* SUMS: dscale or dbias is wanted. */
template <int V, int K, bool BLOCK, int FLAGS> __global__ static void __launch_bounds__(ROW_THREADS) norm_grad_rows(norm_grad_args g)
{
    constexpr bool SUMS = FLAGS & NORM_SUMS, MIXED = FLAGS & NORM_MIXED;
    __shared__ float part[32];
    __shared__ float joined[SUMS && !BLOCK ? 2 * 32 * V * K : 1];
    const int64_t d = g.d;
    float *const left = g.part + blockIdx.x * 2 * d;
    float of_scale[K ? K : 1][V], of_bias[K ? K : 1][V];
    bool first = true;
    for (int k = 0; k < (K ? K : 1); k++)
        for (int j = 0; j < V; j++)
            of_scale[k][j] = of_bias[k][j] = 0;
    EACH_ROW(r, g.rows)
    {
        norm_part<V, K, MIXED> x, dy;
        const float pivot = norm_get<1, MIXED>(g.x, r * d).v[0];
        float mean, inv, sum = 0, sum_xhat = 0;
        LOAD_PART(x, g.x, r * d, d);
        LOAD_PART(dy, g.dy, r * d, d);
        row_moments<V, K, BLOCK, MIXED>(x, d, pivot, g.epsilon, part, mean, inv);
        EACH_PACK(k, i, d)
        {
            const floats<V> a = x.get(k, i), b = dy.get(k, i), s = floats_at<V>(g.scale + i, 0);
            floats<V> ts, tb;
            if (SUMS && K == 0 && !first) {
                ts = floats_at<V>(left + i, 0);
                tb = floats_at<V>(left + d + i, 0);
            } else {
                for (int j = 0; j < V; j++)
                    ts.v[j] = tb.v[j] = 0;
            }
            for (int j = 0; j < V; j++) {
                const float xhat = (a.v[j] - pivot - mean) * inv;
                sum += b.v[j] * s.v[j];
                sum_xhat += b.v[j] * s.v[j] * xhat;
                if (K) {
                    of_scale[K ? k : 0][j] += b.v[j] * xhat;
                    of_bias[K ? k : 0][j] += b.v[j];
                }
                ts.v[j] += b.v[j] * xhat;
                tb.v[j] += b.v[j];
            }
            if (SUMS && K == 0) {
                floats_put<V>(left + i, 0, ts);
                floats_put<V>(left + d + i, 0, tb);
            }
        }
        first = false;
        sum = row_sum<BLOCK>(sum, part) / (float)d;
        sum_xhat = row_sum<BLOCK>(sum_xhat, part) / (float)d;
        EACH_PACK(k, i, d)
        {
            floats<V> a = x.get(k, i), more;
            const floats<V> b = dy.get(k, i), s = floats_at<V>(g.scale + i, 0);
            for (int j = 0; j < V; j++)
                more.v[j] = 0;
            if (g.more.data)
                more = norm_get<V, MIXED>(g.more, r * d + i);
            for (int j = 0; j < V; j++) {
                const float xhat = (a.v[j] - pivot - mean) * inv;
                a.v[j] = inv * (b.v[j] * s.v[j] - sum - xhat * sum_xhat) + more.v[j];
            }
            norm_put<V, MIXED>(g.dx, r * d + i, a);
        }
    }
    if constexpr (SUMS && K > 0 && BLOCK) {
        EACH_PACK(k, i, d)
            for (int j = 0; j < V; j++) {
                left[i + j] = of_scale[k][j];
                left[d + i + j] = of_bias[k][j];
            }
    } else if constexpr (SUMS && K > 0) {
        for (int w = 0; w < ROW_THREADS / 32; w++) { /* one warp after the other */
            if ((int)(threadIdx.x >> 5) == w)
                EACH_PACK(k, i, d)
                    for (int j = 0; j < V; j++) {
                        joined[i + j] = of_scale[k][j] + (w ? joined[i + j] : 0);
                        joined[d + i + j] = of_bias[k][j] + (w ? joined[d + i + j] : 0);
                    }
            __syncthreads();
        }
        for (int64_t i = threadIdx.x; i < 2 * d; i += ROW_THREADS)
            left[i] = joined[i];
    }
}

/* A block has 32 columns of [blocks, 2 * d]. */
__global__ static void __launch_bounds__(CHANNEL_THREADS) norm_grad_sum(norm_grad_args g)
{
    __shared__ float part[CHANNEL_THREADS];
    const int64_t i = (int64_t)blockIdx.x * 32 + (threadIdx.x & 31);
    float sum = 0;
    for (int64_t b = threadIdx.x >> 5; b < g.blocks && i < 2 * g.d; b += CHANNEL_THREADS / 32)
        sum += g.part[b * 2 * g.d + i];
    sum = channel_sum<true>(sum, part);
    if (threadIdx.x >= 32 || i >= 2 * g.d)
        return;
    if (i < g.d && g.dscale)
        g.dscale[i] = sum;
    if (i >= g.d && g.dbias)
        g.dbias[i - g.d] = sum;
}

/* Blocks that have a share of the rows: of the shape alone. */
static int64_t grad_blocks(int64_t rows, int64_t d, bool vector)
{
    int64_t blocks = row_is_block(d, vector) ? rows / 4 : rows / 32;
    return blocks < 1 ? 1 : blocks < 512 ? blocks : 512;
}
static size_t norm_grad_work(const kernel_args *a)
{
    const int64_t d = shape_count(&a->in[2].sh), rows = d ? shape_count(&a->in[1].sh) / d : 0;
    const int64_t one = grad_blocks(rows, d, false), four = grad_blocks(rows, d, true);
    return (size_t)(2 * d * (one > four ? one : four)) * sizeof(float);
}

static void norm_grad_run(const kernel_args *a)
{
    const kernel_tensor none = {};
    norm_grad_args g = {.dy = rows_of(&a->in[0]), .x = rows_of(&a->in[1]), .more = rows_of(a->n_in > 3 ? &a->in[3] : &none),
                        .dx = rows_of(&a->out[0]), .scale = (const float *)a->in[2].data,
                        .dscale = a->n_out > 1 ? (float *)a->out[1].data : NULL,
                        .dbias = a->n_out > 2 ? (float *)a->out[2].data : NULL, .part = (float *)a->work,
                        .d = shape_count(&a->in[2].sh), .epsilon = (float)((const layer_norm_attrs *)a->attr)->epsilon};
    g.rows = g.d ? shape_count(&a->in[1].sh) / g.d : 0;
    if (g.d == 0)
        return;
    const bool vector = g.d % 4 == 0 && is_vector(g.dy.data) && is_vector(g.x.data) && is_vector(g.scale) && is_vector(g.more.data) &&
                        is_vector(g.dx.data);
    const bool mixed = g.dy.kind || g.x.kind || g.dx.kind || (g.more.data && g.more.kind);
    g.blocks = grad_blocks(g.rows, g.d, vector);
    const dim3 grid = dim3((unsigned)g.blocks);
    if (!g.dscale && !g.dbias) {
        if (mixed)
            LAUNCH_ROWS(norm_grad_rows, NORM_MIXED, g.rows, g.d, vector, a->queue, g);
        else
            LAUNCH_ROWS(norm_grad_rows, 0, g.rows, g.d, vector, a->queue, g);
        return;
    }
    if (mixed)
        LAUNCH_ROWS_ON(norm_grad_rows, NORM_SUMS | NORM_MIXED, grid, g.d, vector, a->queue, g);
    else
        LAUNCH_ROWS_ON(norm_grad_rows, NORM_SUMS, grid, g.d, vector, a->queue, g);
    LAUNCH(norm_grad_sum, dim3((unsigned)((2 * g.d + 31) / 32)), CHANNEL_THREADS, 0, a->queue, g);
}

/* Every row may lie in either type. */
#define MIXED_ROWS(H)                                                                                                  \
    {.op = OP_LAYER_NORM, .name = "layer norm mixed " #H, .run = layer_norm_run, .narrow = DTYPE_##H, .narrow_in = 1, .narrow_out = 1, \
     .either_in = 1, .either_out = 1},                                                                                 \
    {.op = OP_LAYER_NORM_GRAD, .name = "layer norm grad mixed " #H, .run = norm_grad_run, .workspace = norm_grad_work, \
     .narrow = DTYPE_##H, .narrow_in = 11, .narrow_out = 1, .either_in = 11, .either_out = 1}

CUDA_TABLE(layer_norm) = {
    {.op = OP_LAYER_NORM, .type = DTYPE_F32, .name = "layer norm", .run = layer_norm_run},
    {.op = OP_LAYER_NORM_GRAD, .type = DTYPE_F32, .name = "layer norm grad", .run = norm_grad_run, .workspace = norm_grad_work},
    {.op = OP_INSTANCE_NORM, .type = DTYPE_F32, .name = "instance norm", .run = instance_norm_run},
    MIXED_ROWS(F16), MIXED_ROWS(BF16),
    KERNEL_END};
