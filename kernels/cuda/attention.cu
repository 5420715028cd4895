/* attention.cu - FusedAttention and its gradient (src/ops/attention.c has the formulas).
 *
 * Scores never leave the multiprocessor. A block holds a tile of rows (queries; for dK and dV keys) in shared memory and
 * goes through the other side's tiles in order, with the running maximum and sum of Milakov and Gimelshein, "Online
 * normalizer calculation for softmax", 2018, as in Dao et al., "FlashAttention", 2022; the gradient makes the scores anew
 * from the logarithms of the sums. dQ and (dK, dV) are two kernels, so that every sum has one owner and a fixed order.
 * Heads wider than 128 are done a row a warp.
 *
 * Q, K, V, y and their gradients lie in H: float32, float16 or bfloat16; mask, scores and sums are float32 always. */
#include "kernels/cuda/broadcast.cuh"

/* Steps in elements of one operand: from batch to batch, head to head, token to token. */
typedef struct head_steps {
    int64_t batch, head, token;
} head_steps;

typedef struct attention_sizes {
    int64_t batch, heads, queries, keys;
    int width, value_width;
    head_steps q, k, v, y;
    int64_t mask[4]; /* steps along [batch, heads, queries, keys]; 0 where it is broadcast */
    float scale;
    bool vector;     /* rows of all operands may be read and written 16 bytes at a time */
} attention_sizes;

/* A row's elements [c, c + 4), zeros beyond the width. */
template <class H> __device__ static inline float4 row_get(const H *p, int c, int width, bool vector)
{
    if (!vector)
        return make_float4(c < width ? as_float(p[c]) : 0, c + 1 < width ? as_float(p[c + 1]) : 0, c + 2 < width ? as_float(p[c + 2]) : 0,
                           c + 3 < width ? as_float(p[c + 3]) : 0);
    if (c >= width)
        return make_float4(0, 0, 0, 0);
    const pack<H, 4> r = *reinterpret_cast<const pack<H, 4> *>(p + c);
    return make_float4(as_float(r.at[0]), as_float(r.at[1]), as_float(r.at[2]), as_float(r.at[3]));
}
template <class H> __device__ static inline void row_put(H *p, int c, int width, bool vector, float4 v)
{
    if (vector) {
        const pack<H, 4> r = {{from_float<H>(v.x), from_float<H>(v.y), from_float<H>(v.z), from_float<H>(v.w)}};
        if (c < width)
            *reinterpret_cast<pack<H, 4> *>(p + c) = r;
        return;
    }
    if (c < width)
        p[c] = from_float<H>(v.x);
    if (c + 1 < width)
        p[c + 1] = from_float<H>(v.y);
    if (c + 2 < width)
        p[c + 2] = from_float<H>(v.z);
    if (c + 3 < width)
        p[c + 3] = from_float<H>(v.w);
}

/* D: the width, filled up. A thread has the rows ty + TY * i, i below 4, and of the scores the columns tx + 8 * j, j below
 * CN; of results D wide the columns tx * 4 + 32 * j on. The 8 threads of a row are neighbours in a warp. */
template <int D_, int TY_, int CN_> struct tile {
    static constexpr int D = D_, TY = TY_, CN = CN_, ROWS = 4 * TY, COLS = 8 * CN, THREADS = 8 * TY;
    static constexpr int STEP = D + 4, SCORE_STEP = COLS + 4; /* rows of shared memory begin in different banks */
    static constexpr int WIDE = D / 32;                       /* groups of four columns of a thread */
};

/* `rows` rows into shared memory [N][STEP], zeros beyond. */
template <class T, int N, class H>
__device__ static inline void tile_load(float4 *to, const H *from, int64_t step, int64_t rows, int width, bool vector)
{
    for (int i = (int)threadIdx.x; i < N * (T::D / 4); i += T::THREADS) {
        const int r = i / (T::D / 4), c = i % (T::D / 4) * 4;
        to[(r * T::STEP + c) / 4] = r < rows ? row_get(from + r * step, c, width, vector) : make_float4(0, 0, 0, 0);
    }
}

/* s[i][j] = row i of x times row j of y */
template <class T> __device__ static inline void tile_dots(const float4 *x, const float4 *y, int tx, int ty, float (&s)[4][T::CN])
{
    UNROLL
    for (int i = 0; i < 4; i++)
        UNROLL
        for (int j = 0; j < T::CN; j++)
            s[i][j] = 0;
#ifndef CUDA_EMULATED
#pragma unroll 4
#endif
    for (int d = 0; d < T::D / 4; d++) {
        float4 a[4], b[T::CN];
        UNROLL
        for (int i = 0; i < 4; i++)
            a[i] = x[(ty + T::TY * i) * (T::STEP / 4) + d];
        UNROLL
        for (int j = 0; j < T::CN; j++)
            b[j] = y[(tx + 8 * j) * (T::STEP / 4) + d];
        UNROLL
        for (int i = 0; i < 4; i++)
            UNROLL
            for (int j = 0; j < T::CN; j++) {
                s[i][j] += a[i].x * b[j].x;
                s[i][j] += a[i].y * b[j].y;
                s[i][j] += a[i].z * b[j].z;
                s[i][j] += a[i].w * b[j].w;
            }
    }
}

/* o += p [ROWS][COLS] times v [COLS][D] */
template <class T> __device__ static inline void tile_sum(const float4 *p, const float4 *v, int tx, int ty, float4 (&o)[4][T::WIDE])
{
#ifndef CUDA_EMULATED
#pragma unroll 2
#endif
    for (int k = 0; k < T::COLS / 4; k++) {
        float4 a[4];
        UNROLL
        for (int i = 0; i < 4; i++)
            a[i] = p[(ty + T::TY * i) * (T::SCORE_STEP / 4) + k];
        UNROLL
        for (int e = 0; e < 4; e++)
            UNROLL
            for (int j = 0; j < T::WIDE; j++) {
                const float4 b = v[(k * 4 + e) * (T::STEP / 4) + tx + 8 * j];
                UNROLL
                for (int i = 0; i < 4; i++) {
                    const float f = e == 0 ? a[i].x : e == 1 ? a[i].y : e == 2 ? a[i].z : a[i].w;
                    o[i][j].x += f * b.x;
                    o[i][j].y += f * b.y;
                    o[i][j].z += f * b.z;
                    o[i][j].w += f * b.w;
                }
            }
    }
}

/* Over the 8 threads of a row. */
__device__ static inline float row_max(float v)
{
    for (int m = 4; m; m >>= 1)
        v = fmaxf(v, __shfl_xor_sync(FULL_WARP, v, m));
    return v;
}
__device__ static inline float row_sum(float v)
{
    for (int m = 4; m; m >>= 1)
        v += __shfl_xor_sync(FULL_WARP, v, m);
    return v;
}

/* ---- forward ---- */

/* Block x is a tile of queries, y counts heads of the batch. sums: [B, H, Sq] or NULL. */
template <class T, class H>
__global__ static void __launch_bounds__(T::THREADS) forward_kernel(attention_sizes s, const H *q, const H *k, const H *v,
                                                                    const float *mask, H *y, float *sums)
{
    __shared__ float4 qs[T::ROWS * T::STEP / 4], ks[T::COLS * T::STEP / 4], vs[T::COLS * T::STEP / 4];
    __shared__ float4 ps[T::ROWS * T::SCORE_STEP / 4];
    const int tx = (int)threadIdx.x % 8, ty = (int)threadIdx.x / 8;
    const int64_t row0 = (int64_t)blockIdx.x * T::ROWS;
    for (int64_t bh = blockIdx.y; bh < s.batch * s.heads; bh += gridDim.y) {
        const int64_t b = bh / s.heads, h = bh - b * s.heads;
        const H *keys = k + b * s.k.batch + h * s.k.head, *values = v + b * s.v.batch + h * s.v.head;
        float most[4], sum[4];
        float4 o[4][T::WIDE];
        __syncthreads();
        tile_load<T, T::ROWS>(qs, q + b * s.q.batch + h * s.q.head + row0 * s.q.token, s.q.token, s.queries - row0, s.width, s.vector);
        UNROLL
        for (int i = 0; i < 4; i++) {
            most[i] = -INFINITY;
            sum[i] = 0;
            UNROLL
            for (int j = 0; j < T::WIDE; j++)
                o[i][j] = make_float4(0, 0, 0, 0);
        }
        for (int64_t col0 = 0; col0 < s.keys; col0 += T::COLS) {
            float p[4][T::CN];
            __syncthreads();
            tile_load<T, T::COLS>(ks, keys + col0 * s.k.token, s.k.token, s.keys - col0, s.width, s.vector);
            tile_load<T, T::COLS>(vs, values + col0 * s.v.token, s.v.token, s.keys - col0, s.value_width, s.vector);
            __syncthreads();
            tile_dots<T>(qs, ks, tx, ty, p);
            UNROLL
            for (int i = 0; i < 4; i++) {
                const int64_t row = row0 + ty + T::TY * i;
                float top = most[i];
                UNROLL
                for (int j = 0; j < T::CN; j++) {
                    const int64_t col = col0 + tx + 8 * j;
                    p[i][j] *= s.scale;
                    if (mask && row < s.queries && col < s.keys)
                        p[i][j] += mask[b * s.mask[0] + h * s.mask[1] + row * s.mask[2] + col * s.mask[3]];
                    p[i][j] = col < s.keys ? p[i][j] : -INFINITY;
                    top = fmaxf(top, p[i][j]);
                }
                top = row_max(top);
                const float base = top == -INFINITY ? 0 : top, fade = expf(most[i] - base);
                most[i] = top;
                sum[i] *= fade;
                UNROLL
                for (int j = 0; j < T::CN; j++) {
                    p[i][j] = expf(p[i][j] - base);
                    sum[i] += p[i][j];
                    reinterpret_cast<float *>(ps)[(ty + T::TY * i) * T::SCORE_STEP + tx + 8 * j] = p[i][j];
                }
                UNROLL
                for (int j = 0; j < T::WIDE; j++)
                    o[i][j] = make_float4(o[i][j].x * fade, o[i][j].y * fade, o[i][j].z * fade, o[i][j].w * fade);
            }
            __syncwarp(); /* a row of scores is written and read by one warp */
            tile_sum<T>(ps, vs, tx, ty, o);
        }
        UNROLL
        for (int i = 0; i < 4; i++) {
            const int64_t row = row0 + ty + T::TY * i;
            const float all = row_sum(sum[i]), each = s.keys ? 1 / all : 0;
            if (row >= s.queries)
                continue;
            H *to = y + b * s.y.batch + h * s.y.head + row * s.y.token;
            UNROLL
            for (int j = 0; j < T::WIDE; j++)
                row_put(to, tx * 4 + 32 * j, s.value_width, s.vector,
                        make_float4(o[i][j].x * each, o[i][j].y * each, o[i][j].z * each, o[i][j].w * each));
            if (sums && tx == 0)
                sums[bh * s.queries + row] = most[i] + logf(all);
        }
    }
}

/* ---- gradient ---- */

/* delta[b, h, i] = dy times y of that row; a warp a row. */
template <class H> __global__ static void delta_kernel(attention_sizes s, const H *y, const H *dy, float *delta)
{
    const int64_t rows = s.batch * s.heads * s.queries, warps = (int64_t)gridDim.x * (blockDim.x / 32);
    for (int64_t i = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32; i < rows; i += warps) {
        const int64_t bh = i / s.queries, b = bh / s.heads;
        const int64_t at = b * s.y.batch + (bh - b * s.heads) * s.y.head + (i - bh * s.queries) * s.y.token;
        float sum = 0;
        for (int d = (int)(threadIdx.x & 31); d < s.value_width; d += 32)
            sum += as_float(y[at + d]) * as_float(dy[at + d]);
        sum = warp_sum(sum);
        if ((threadIdx.x & 31) == 0)
            delta[i] = sum;
    }
}

/* One side's gradients. Rows are keys (KEYS: x1, x2 = K, V; y1, y2 = Q, dy; out1, out2 = dK, dV) or queries (x1, x2 = Q, dy;
 * y1, y2 = K, V; out1 = dQ). With P the probabilities and dP = x2 y2^T: out1 = scale * P * (dP - delta) times y1, out2 = P
 * times y2. */
template <class H> struct grad_operands {
    const H *x1, *x2, *y1, *y2;
    const float *mask, *sums, *delta;
    H *out1, *out2;
    head_steps x1_steps, x2_steps, y1_steps, y2_steps;
};

template <class T, bool KEYS, class H>
__global__ static void __launch_bounds__(T::THREADS) grad_kernel(attention_sizes s, grad_operands<H> g)
{
    __shared__ float4 xs1[T::ROWS * T::STEP / 4], xs2[T::ROWS * T::STEP / 4], ys1[T::COLS * T::STEP / 4], ys2[T::COLS * T::STEP / 4];
    __shared__ float4 ps[KEYS ? T::ROWS * T::SCORE_STEP / 4 : 1], ds[T::ROWS * T::SCORE_STEP / 4];
    const int tx = (int)threadIdx.x % 8, ty = (int)threadIdx.x / 8;
    const int64_t row0 = (int64_t)blockIdx.x * T::ROWS, rows = KEYS ? s.keys : s.queries, cols = KEYS ? s.queries : s.keys;
    for (int64_t bh = blockIdx.y; bh < s.batch * s.heads; bh += gridDim.y) {
        const int64_t b = bh / s.heads, h = bh - b * s.heads;
        const float *mask = g.mask ? g.mask + b * s.mask[0] + h * s.mask[1] : NULL;
        const H *y1 = g.y1 + b * g.y1_steps.batch + h * g.y1_steps.head, *y2 = g.y2 + b * g.y2_steps.batch + h * g.y2_steps.head;
        float4 o1[4][T::WIDE], o2[4][T::WIDE];
        __syncthreads();
        tile_load<T, T::ROWS>(xs1, g.x1 + b * g.x1_steps.batch + h * g.x1_steps.head + row0 * g.x1_steps.token, g.x1_steps.token,
                              rows - row0, s.width, s.vector);
        tile_load<T, T::ROWS>(xs2, g.x2 + b * g.x2_steps.batch + h * g.x2_steps.head + row0 * g.x2_steps.token, g.x2_steps.token,
                              rows - row0, s.value_width, s.vector);
        UNROLL
        for (int i = 0; i < 4; i++)
            UNROLL
            for (int j = 0; j < T::WIDE; j++)
                o1[i][j] = o2[i][j] = make_float4(0, 0, 0, 0);
        for (int64_t col0 = 0; col0 < cols; col0 += T::COLS) {
            float p[4][T::CN], dp[4][T::CN];
            __syncthreads();
            tile_load<T, T::COLS>(ys1, y1 + col0 * g.y1_steps.token, g.y1_steps.token, cols - col0, s.width, s.vector);
            tile_load<T, T::COLS>(ys2, y2 + col0 * g.y2_steps.token, g.y2_steps.token, cols - col0, s.value_width, s.vector);
            __syncthreads();
            tile_dots<T>(xs1, ys1, tx, ty, p);
            tile_dots<T>(xs2, ys2, tx, ty, dp);
            UNROLL
            for (int i = 0; i < 4; i++)
                UNROLL
                for (int j = 0; j < T::CN; j++) {
                    const int64_t row = row0 + ty + T::TY * i, col = col0 + tx + 8 * j;
                    const int64_t query = KEYS ? col : row, key = KEYS ? row : col;
                    const int at = (ty + T::TY * i) * T::SCORE_STEP + tx + 8 * j;
                    float u = 0, du = 0;
                    if (row < rows && col < cols) {
                        u = s.scale * p[i][j] + (mask ? mask[query * s.mask[2] + key * s.mask[3]] : 0);
                        u = expf(u - g.sums[bh * s.queries + query]);
                        du = s.scale * u * (dp[i][j] - g.delta[bh * s.queries + query]);
                    }
                    if (KEYS)
                        reinterpret_cast<float *>(ps)[at] = u;
                    reinterpret_cast<float *>(ds)[at] = du;
                }
            __syncwarp();
            tile_sum<T>(ds, ys1, tx, ty, o1);
            if (KEYS)
                tile_sum<T>(ps, ys2, tx, ty, o2);
        }
        UNROLL
        for (int i = 0; i < 4; i++) {
            const int64_t row = row0 + ty + T::TY * i;
            if (row >= rows)
                continue;
            H *to1 = g.out1 + b * g.x1_steps.batch + h * g.x1_steps.head + row * g.x1_steps.token;
            UNROLL
            for (int j = 0; j < T::WIDE; j++)
                row_put(to1, tx * 4 + 32 * j, s.width, s.vector, o1[i][j]);
            if (!KEYS)
                continue;
            H *to2 = g.out2 + b * g.x2_steps.batch + h * g.x2_steps.head + row * g.x2_steps.token;
            UNROLL
            for (int j = 0; j < T::WIDE; j++)
                row_put(to2, tx * 4 + 32 * j, s.value_width, s.vector, o2[i][j]);
        }
    }
}

/* ---- float32 heads of any width: a warp a row, the lanes along the head ---- */

template <class H> __device__ static inline float warp_dot(const H *x, const H *y, int width)
{
    float sum = 0;
    for (int d = (int)(threadIdx.x & 31); d < width; d += 32)
        sum += as_float(x[d]) * as_float(y[d]);
    return warp_sum(sum);
}
__global__ static void wide_forward_kernel(attention_sizes s, const float *q, const float *k, const float *v, const float *mask, float *y,
                                           float *sums)
{
    const int64_t rows = s.batch * s.heads * s.queries, warps = (int64_t)gridDim.x * (blockDim.x / 32);
    const int lane = (int)(threadIdx.x & 31);
    for (int64_t i = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32; i < rows; i += warps) {
        const int64_t bh = i / s.queries, b = bh / s.heads, h = bh - b * s.heads, row = i - bh * s.queries;
        const float *query = q + b * s.q.batch + h * s.q.head + row * s.q.token, *keys = k + b * s.k.batch + h * s.k.head;
        const float *values = v + b * s.v.batch + h * s.v.head;
        const float *masks = mask ? mask + b * s.mask[0] + h * s.mask[1] + row * s.mask[2] : NULL;
        float *to = y + b * s.y.batch + h * s.y.head + row * s.y.token, most = -INFINITY, sum = 0;
        for (int64_t j = 0; j < s.keys; j++) {
            const float u = s.scale * warp_dot(query, keys + j * s.k.token, s.width) + (masks ? masks[j * s.mask[3]] : 0);
            const float top = fmaxf(most, u), base = top == -INFINITY ? 0 : top;
            sum = sum * expf(most - base) + expf(u - base);
            most = top;
        }
        for (int d = lane; d < s.value_width; d += 32)
            to[d] = 0;
        for (int64_t j = 0; j < s.keys; j++) {
            const float u = s.scale * warp_dot(query, keys + j * s.k.token, s.width) + (masks ? masks[j * s.mask[3]] : 0);
            const float p = expf(u - most) / sum;
            for (int d = lane; d < s.value_width; d += 32)
                to[d] += p * values[j * s.v.token + d];
        }
        if (sums && lane == 0)
            sums[i] = most + logf(sum);
    }
}
template <bool KEYS> __global__ static void wide_grad_kernel(attention_sizes s, grad_operands<float> g)
{
    const int64_t each = KEYS ? s.keys : s.queries, cols = KEYS ? s.queries : s.keys, rows = s.batch * s.heads * each;
    const int64_t warps = (int64_t)gridDim.x * (blockDim.x / 32);
    const int lane = (int)(threadIdx.x & 31);
    for (int64_t i = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32; i < rows; i += warps) {
        const int64_t bh = i / each, b = bh / s.heads, h = bh - b * s.heads, row = i - bh * each;
        const int64_t at1 = b * g.x1_steps.batch + h * g.x1_steps.head + row * g.x1_steps.token;
        const int64_t at2 = b * g.x2_steps.batch + h * g.x2_steps.head + row * g.x2_steps.token;
        const float *y1 = g.y1 + b * g.y1_steps.batch + h * g.y1_steps.head, *y2 = g.y2 + b * g.y2_steps.batch + h * g.y2_steps.head;
        for (int d = lane; d < s.width; d += 32)
            g.out1[at1 + d] = 0;
        for (int d = lane; KEYS && d < s.value_width; d += 32)
            g.out2[at2 + d] = 0;
        for (int64_t col = 0; col < cols; col++) {
            const int64_t query = KEYS ? col : row, key = KEYS ? row : col;
            const float *m = g.mask ? g.mask + b * s.mask[0] + h * s.mask[1] + query * s.mask[2] + key * s.mask[3] : NULL;
            const float *c1 = y1 + col * g.y1_steps.token, *c2 = y2 + col * g.y2_steps.token;
            float p = s.scale * warp_dot(g.x1 + at1, c1, s.width) + (m ? *m : 0);
            p = expf(p - g.sums[bh * s.queries + query]);
            const float dp = s.scale * p * (warp_dot(g.x2 + at2, c2, s.value_width) - g.delta[bh * s.queries + query]);
            for (int d = lane; d < s.width; d += 32)
                g.out1[at1 + d] += dp * c1[d];
            for (int d = lane; KEYS && d < s.value_width; d += 32)
                g.out2[at2 + d] += p * c2[d];
        }
    }
}

/* ---- launchers ---- */

static head_steps steps_of(const shape *s, bool tokens)
{
    const int64_t d = s->dim[3], batch = s->dim[1] * s->dim[2] * d;
    head_steps r = {batch, tokens ? d : s->dim[2] * d, tokens ? s->dim[2] * d : d};
    return r;
}
/* y: an operand that lies as the result does; mask: the number of the mask's input. */
static attention_sizes sizes_of(const kernel_args *a, const shape *y, int mask)
{
    const attention_attrs *at = (const attention_attrs *)a->attr;
    const shape *q = &a->in[0].sh, *k = &a->in[1].sh, *v = &a->in[2].sh;
    attention_sizes s = {};
    s.batch = q->dim[0];
    s.heads = q->dim[at->q_tokens ? 2 : 1];
    s.queries = q->dim[at->q_tokens ? 1 : 2];
    s.keys = k->dim[at->k_tokens ? 1 : 2];
    s.width = (int)q->dim[3];
    s.value_width = (int)v->dim[3];
    s.q = steps_of(q, at->q_tokens != 0);
    s.k = steps_of(k, at->k_tokens != 0);
    s.v = steps_of(v, at->v_tokens != 0);
    s.y = steps_of(y, at->y_tokens != 0);
    s.scale = (float)at->scale;
    if (a->n_in > mask && a->in[mask].type != DTYPE_NONE) {
        const shape *m = &a->in[mask].sh;
        int64_t each = 1;
        for (int i = m->rank - 1; i >= 0; i--) {
            s.mask[4 - m->rank + i] = m->dim[i] > 1 ? each : 0;
            each *= m->dim[i];
        }
    }
    s.vector = s.width % 4 == 0 && s.value_width % 4 == 0;
    for (int i = 0; i < (mask < 5 ? mask : 5); i++)
        s.vector &= is_vector(a->in[i].data);
    for (int i = 0; i < (mask < 5 ? 1 : 3); i++)
        s.vector &= is_vector(a->out[i].data);
    return s;
}
template <class H = float> static const H *given(const kernel_args *a, int i)
{
    return i < a->n_in ? (const H *)a->in[i].data : NULL;
}
static dim3 grid_of(const attention_sizes &s, int64_t rows, int each)
{
    const int64_t heads = s.batch * s.heads;
    return dim3((unsigned)((rows + each - 1) / each), (unsigned)(heads < 65535 ? heads : 65535));
}
static int widest(const attention_sizes &s)
{
    return s.width > s.value_width ? s.width : s.value_width;
}

template <class T, class H> static void forward_with(const kernel_args *a, const attention_sizes &s)
{
    LAUNCH((forward_kernel<T, H>), grid_of(s, s.queries, T::ROWS), T::THREADS, 0, a->queue, s, given<H>(a, 0), given<H>(a, 1),
           given<H>(a, 2), given(a, 3), (H *)a->out[0].data, a->n_out > 1 ? (float *)a->out[1].data : NULL);
}
template <class H> static void forward_run(const kernel_args *a)
{
    const attention_sizes s = sizes_of(a, &a->out[0].sh, 3);
    const int64_t rows = s.batch * s.heads * s.queries;
    if (rows == 0)
        return;
    if (widest(s) <= 32)
        forward_with<tile<32, 16, 4>, H>(a, s);
    else if (widest(s) <= 64)
        forward_with<tile<64, 16, 4>, H>(a, s);
    else if (widest(s) <= 128)
        forward_with<tile<128, 8, 2>, H>(a, s);
    else if constexpr (sizeof(H) == sizeof(float))
        LAUNCH(wide_forward_kernel, grid_for(a->queue, rows * 32, 1), CUDA_THREADS, 0, a->queue, s, given(a, 0), given(a, 1),
               given(a, 2), given(a, 3), (float *)a->out[0].data, a->n_out > 1 ? (float *)a->out[1].data : NULL);
}

template <class T, class H> static void grad_with(const kernel_args *a, const attention_sizes &s, const grad_operands<H> &queries,
                                                  const grad_operands<H> &keys)
{
    if (s.queries > 0)
        LAUNCH((grad_kernel<T, false, H>), grid_of(s, s.queries, T::ROWS), T::THREADS, 0, a->queue, s, queries);
    if (s.keys > 0)
        LAUNCH((grad_kernel<T, true, H>), grid_of(s, s.keys, T::ROWS), T::THREADS, 0, a->queue, s, keys);
}
static size_t grad_workspace(const kernel_args *a)
{
    return (size_t)shape_count(&a->in[5].sh) * sizeof(float);
}
template <class H> static void grad_run(const kernel_args *a)
{
    const attention_sizes s = sizes_of(a, &a->in[3].sh, 6);
    const int64_t heads = s.batch * s.heads, rows = heads * s.queries;
    const H *q = given<H>(a, 0), *k = given<H>(a, 1), *v = given<H>(a, 2), *y = given<H>(a, 3), *dy = given<H>(a, 4);
    float *delta = (float *)a->work;
    if (heads == 0)
        return;
    if (rows > 0)
        LAUNCH((delta_kernel<H>), grid_for(a->queue, rows * 32, 1), CUDA_THREADS, 0, a->queue, s, y, dy, delta);
    const grad_operands<H> queries = {q, dy, k, v, given(a, 6), given(a, 5), delta, (H *)a->out[0].data, NULL, s.q, s.y, s.k, s.v};
    const grad_operands<H> keys = {k, v, q, dy, given(a, 6), given(a, 5), delta, (H *)a->out[1].data, (H *)a->out[2].data,
                                   s.k, s.v, s.q, s.y};
    if (widest(s) <= 32)
        grad_with<tile<32, 8, 4>>(a, s, queries, keys);
    else if (widest(s) <= 64)
        grad_with<tile<64, 8, 4>>(a, s, queries, keys);
    else if (widest(s) <= 128)
        grad_with<tile<128, 4, 2>>(a, s, queries, keys);
    else if constexpr (sizeof(H) == sizeof(float)) {
        if (rows > 0)
            LAUNCH(wide_grad_kernel<false>, grid_for(a->queue, rows * 32, 1), CUDA_THREADS, 0, a->queue, s, queries);
        if (s.keys > 0)
            LAUNCH(wide_grad_kernel<true>, grid_for(a->queue, heads * s.keys * 32, 1), CUDA_THREADS, 0, a->queue, s, keys);
    }
}

static bool takes_heads(const kernel_args *a)
{
    return a->in[0].sh.dim[3] <= 128 && a->in[2].sh.dim[3] <= 128;
}
#define HALF_ROWS(E, H)                                                                                                \
    {.op = OP_ATTENTION, .name = "attention " #E, .run = forward_run<H>, .takes = takes_heads, .narrow = DTYPE_##E, .narrow_in = 7, \
     .narrow_out = 1},                                                                                                 \
    {.op = OP_ATTENTION_GRAD, .name = "attention grad " #E, .run = grad_run<H>, .workspace = grad_workspace,           \
     .takes = takes_heads, .narrow = DTYPE_##E, .narrow_in = 31, .narrow_out = 7}

CUDA_TABLE(attention) = {
    {.op = OP_ATTENTION, .type = DTYPE_F32, .name = "attention", .run = forward_run<float>},
    {.op = OP_ATTENTION_GRAD, .type = DTYPE_F32, .name = "attention grad", .run = grad_run<float>, .workspace = grad_workspace},
    HALF_ROWS(F16, __half), HALF_ROWS(BF16, __nv_bfloat16), KERNEL_END};
