/* moments.cuh - mean and squared distances of channels, joined from those of parts of them (Chan, Golub, LeVeque 1983), so that no
 * difference of large sums is taken. Joins have a fixed order. */
#ifndef DISTILL_KERNELS_CUDA_MOMENTS_CUH
#define DISTILL_KERNELS_CUDA_MOMENTS_CUH

#include "kernels/cuda/cuda.cuh"

template <int V> struct moments {
    float n; /* elements of each channel */
    float mean[V], m2[V]; /* m2: sum of squared distances from the mean */
};
template <int V> __device__ static inline void moments_join(moments<V> &a, const moments<V> &b)
{
    if (b.n == 0)
        return;
    const float n = a.n + b.n, share = b.n / n;
    UNROLL
    for (int j = 0; j < V; j++) {
        const float delta = b.mean[j] - a.mean[j];
        a.m2[j] += b.m2[j] + delta * delta * a.n * share;
        a.mean[j] += delta * share;
    }
    a.n = n;
}
/* Of lanes that are `apart` (a power of 2) or a multiple of that from each other, in the first ones. */
template <int V> __device__ static inline void moments_join_lanes(moments<V> &m, int apart)
{
    UNROLL
    for (int d = 16; d >= apart; d /= 2) {
        moments<V> other;
        other.n = __shfl_down_sync(FULL_WARP, m.n, (unsigned)d);
        UNROLL
        for (int j = 0; j < V; j++) {
            other.mean[j] = __shfl_down_sync(FULL_WARP, m.mean[j], (unsigned)d);
            other.m2[j] = __shfl_down_sync(FULL_WARP, m.m2[j], (unsigned)d);
        }
        moments_join(m, other);
    }
}

/* Where the moments of the pieces of channels are: part [channels, pieces] of mean, m2. Piece i has count[i] elements of each channel;
 * count NULL: `length`, but for what goes beyond `rows`. */
struct moments_pieces {
    const float2 *part;
    const float *count;
    int64_t channels;
    int pieces;
    int64_t length, rows;
};
__device__ static inline float moments_count(const moments_pieces &p, int i)
{
    const int64_t left = p.rows - i * p.length, n = left < p.length ? left : p.length;
    return i >= p.pieces ? 0 : p.count ? p.count[i] : (float)n;
}
/* Mean and variance of the channels; LINES threads share one. */
#define MOMENTS_THREADS 256
#define MOMENTS_BUNCH   4 /* pieces a thread reads at once */
template <int LINES>
__global__ static void __launch_bounds__(MOMENTS_THREADS)
moments_finish_kernel(float *mean, float *var, const moments_pieces p)
{
    __shared__ float warps[3 * MOMENTS_THREADS / 32];
    const int line = (int)threadIdx.x % LINES, warp = (int)threadIdx.x / 32;
    const int64_t c = (int64_t)blockIdx.x * (MOMENTS_THREADS / LINES) + (int)threadIdx.x / LINES;
    moments<1> all = {};
    for (int first = line; first < p.pieces && c < p.channels; first += MOMENTS_BUNCH * LINES) {
        float2 one[MOMENTS_BUNCH];
        UNROLL
        for (int u = 0; u < MOMENTS_BUNCH; u++) {
            const int i = first + u * LINES;
            one[u] = i < p.pieces ? p.part[c * p.pieces + i] : make_float2(0, 0);
        }
        UNROLL
        for (int u = 0; u < MOMENTS_BUNCH; u++) {
            const moments<1> m = {moments_count(p, first + u * LINES), {one[u].x}, {one[u].y}};
            moments_join(all, m);
        }
    }
    moments_join_lanes(all, 1);
    if (LINES > 32) {
        if (threadIdx.x % 32 == 0) {
            warps[3 * warp] = all.n;
            warps[3 * warp + 1] = all.mean[0];
            warps[3 * warp + 2] = all.m2[0];
        }
        __syncthreads();
        for (int w = 1; w < LINES / 32 && threadIdx.x == 0; w++) {
            const moments<1> m = {warps[3 * w], {warps[3 * w + 1]}, {warps[3 * w + 2]}};
            moments_join(all, m);
        }
    }
    if (line == 0 && c < p.channels) {
        mean[c] = all.mean[0];
        var[c] = all.m2[0] / all.n;
    }
}
static inline void moments_finish(const kernel_args *a, float *mean, float *var, const moments_pieces &p)
{
    const int lines = p.pieces > 4 * 32 ? MOMENTS_THREADS : 32, each = MOMENTS_THREADS / lines;
    const dim3 grid((unsigned)((p.channels + each - 1) / each));
    if (lines == 32)
        LAUNCH((moments_finish_kernel<32>), grid, MOMENTS_THREADS, 0, a->queue, mean, var, p);
    else
        LAUNCH((moments_finish_kernel<MOMENTS_THREADS>), grid, MOMENTS_THREADS, 0, a->queue, mean, var, p);
}

#endif
