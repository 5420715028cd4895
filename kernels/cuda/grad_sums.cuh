/* grad_sums.cuh - the batch norm that comes next, backwards, behind a gradient of data (ConvGradDataSums): where its relu is flat, and
 * the two sums of each channel that its gradient needs, of pieces of the gradient as they are written; joined in a fixed order.
 * Arithmetic as in batch_norm_half.cu, whose first pass this is. */
#ifndef DISTILL_KERNELS_CUDA_GRAD_SUMS_CUH
#define DISTILL_KERNELS_CUDA_GRAD_SUMS_CUH

#include "kernels/cuda/conv.cuh"

typedef struct norm_behind {
    const void *x; /* lies like the gradient; NULL: there is no norm */
    const float *scale, *mean, *var, *bias; /* [channels]; bias: NULL where nothing is flat */
    float epsilon, ceiling;                 /* ceiling: inf: none */
    float2 *part; /* [channels, most]: sum g, sum g * (x - mean) of pieces */
    int most;     /* pieces there is room for */
} norm_behind;

static inline norm_behind norm_behind_of(const kernel_args *a, int most)
{
    const conv_attrs *at = (const conv_attrs *)a->attr;
    norm_behind b = {};
    if (a->n_out < 2)
        return b;
    b.x = a->in[2].data;
    b.scale = optional(a, 3);
    b.mean = optional(a, 4);
    b.var = optional(a, 5);
    b.bias = at->norm_relu ? optional(a, 6) : NULL;
    b.epsilon = (float)at->norm_epsilon;
    b.ceiling = at->norm_ceiling > 0 ? (float)at->norm_ceiling : INFINITY;
    b.part = (float2 *)a->work;
    b.most = most;
    return b;
}

/* Of a channel: mean, factor and bias; the norm of x is (x - mean) * factor + bias. Where nothing is flat it is 1. */
struct norm_facts {
    float mean, factor, bias;
};
__device__ static inline norm_facts norm_facts_of(const norm_behind &b, int channel)
{
    const norm_facts none = {b.mean[channel], 0, 1};
    if (!b.bias)
        return none;
    const norm_facts some = {b.mean[channel], b.scale[channel] / sqrtf(b.var[channel] + b.epsilon), b.bias[channel]};
    return some;
}
__device__ static inline bool norm_lives(float far, float factor, float bias, float ceiling)
{
    const float y = far * factor + bias;
    return y > 0 && y < ceiling;
}

/* Sums over the pieces; LINES threads share a channel. */
#define SUMS_THREADS 256
#define SUMS_BUNCH   4 /* pieces a thread reads at once */
template <int LINES>
__global__ static void __launch_bounds__(SUMS_THREADS)
grad_sums_finish_kernel(float *dscale, float *dbias, const norm_behind b, int64_t channels, int pieces)
{
    __shared__ float2 warps[SUMS_THREADS / 32];
    const int line = (int)threadIdx.x % LINES;
    const int64_t c = (int64_t)blockIdx.x * (SUMS_THREADS / LINES) + (int)threadIdx.x / LINES;
    float sum = 0, sum_far = 0;
    for (int first = line; first < pieces && c < channels; first += SUMS_BUNCH * LINES) {
        float2 one[SUMS_BUNCH];
        UNROLL
        for (int u = 0; u < SUMS_BUNCH; u++) {
            const int i = first + u * LINES;
            one[u] = i < pieces ? b.part[c * b.most + i] : make_float2(0, 0);
        }
        UNROLL
        for (int u = 0; u < SUMS_BUNCH; u++) {
            sum += one[u].x;
            sum_far += one[u].y;
        }
    }
    sum = warp_sum(sum);
    sum_far = warp_sum(sum_far);
    if (LINES > 32) {
        if (threadIdx.x % 32 == 0)
            warps[threadIdx.x / 32] = make_float2(sum, sum_far);
        __syncthreads();
        for (int w = 1; w < LINES / 32 && threadIdx.x == 0; w++) {
            sum += warps[w].x;
            sum_far += warps[w].y;
        }
    }
    if (line == 0 && c < channels) {
        dscale[c] = sum_far / sqrtf(b.var[c] + b.epsilon);
        dbias[c] = sum;
    }
}
static inline void grad_sums_finish(const kernel_args *a, const norm_behind &b, int64_t channels, int pieces)
{
    const int lines = pieces > 4 * 32 ? SUMS_THREADS : 32, each = SUMS_THREADS / lines;
    const dim3 grid((unsigned)((channels + each - 1) / each));
    float *const dscale = (float *)a->out[1].data, *const dbias = (float *)a->out[2].data;
    if (lines == 32)
        LAUNCH((grad_sums_finish_kernel<32>), grid, SUMS_THREADS, 0, a->queue, dscale, dbias, b, channels, pieces);
    else
        LAUNCH((grad_sums_finish_kernel<SUMS_THREADS>), grid, SUMS_THREADS, 0, a->queue, dscale, dbias, b, channels, pieces);
}

#endif
