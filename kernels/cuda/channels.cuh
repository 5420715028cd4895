/* channels.cuh - tensors seen as [n, c, s]: which block has which elements of a channel, and sums over a channel.
 *
 * A channel's n * s elements are numbered as if they lay behind each other and are cut into `pieces` of equal length; a block
 * has one piece of one channel. Where s is 1 channels lie beside each other: then a block has a piece of 32 channels, one to
 * a lane, so that its warps read neighbours. What a cut depends on is the shape alone, so sums are the same on every device.
 * Kernels are templates of V (elements that are read at once; s is a multiple of it) and COLUMNS (s is 1). */
#ifndef DISTILL_KERNELS_CUDA_CHANNELS_CUH
#define DISTILL_KERNELS_CUDA_CHANNELS_CUH

#include "kernels/cuda/cuda.cuh"

#define CHANNEL_THREADS 256
#define CHANNEL_ALONE   8192 /* elements of a channel that one block takes alone: it finds them in its cache again */
#define CHANNEL_PIECE   4096
#define CHANNEL_ROWS    512  /* the same for columns: rows */
#define CHANNEL_BLOCKS  2048 /* no more blocks than that by cutting */

/* Counts of V neighbours: "items". */
typedef struct channel_span {
    int64_t channels, places, count, length; /* c; of a row; of a channel; of a piece */
    int64_t step, step_off, wrap;            /* from a thread's item to its next one */
    int64_t groups;                          /* of channels that share blocks */
    int pieces, vector;
    bool columns;
} channel_span;

static inline int64_t channel_pieces(int64_t elements, int64_t alone, int64_t each, int64_t groups)
{
    int64_t most = CHANNEL_BLOCKS / (groups < 1 ? 1 : groups), want = (elements + each - 1) / each;
    if (elements <= alone || most <= 1)
        return 1;
    return want < most ? want : most;
}

/* aligned: all operands that lie as [n, c, s] are is_vector. */
static inline channel_span channel_span_of(int64_t n, int64_t c, int64_t s, bool aligned)
{
    channel_span a = {.channels = c};
    if (c == 1) {
        s *= n;
        n = 1;
    }
    a.columns = s == 1 && c > 1;
    a.vector = !a.columns && aligned && s % 4 == 0 ? 4 : 1;
    a.places = s / a.vector;
    a.count = n * a.places;
    a.groups = a.columns ? (c + 31) / 32 : c;
    int64_t pieces = a.columns ? channel_pieces(n, CHANNEL_ROWS, CHANNEL_ROWS / 2, a.groups)
                               : channel_pieces(n * s, CHANNEL_ALONE, CHANNEL_PIECE, a.groups);
    a.length = (a.count + pieces - 1) / pieces;
    a.pieces = a.length ? (int)((a.count + a.length - 1) / a.length) : 1;
    int64_t threads = a.columns ? CHANNEL_THREADS / 32 : CHANNEL_THREADS, row = a.places ? threads / a.places : 0;
    a.step_off = a.places ? threads % a.places : 0;
    a.step = row * c * a.places + a.step_off;
    a.wrap = (c - 1) * a.places;
    return a;
}
static inline dim3 channel_grid(const channel_span *a)
{
    int64_t blocks = a->groups * a->pieces;
    return dim3((unsigned)(blocks < 1 ? 1 : blocks));
}

/* Launches name<V, COLUMNS, phase>. */
#define LAUNCH_CHANNELS(name, phase, span, q, ...)                                                                     \
    do {                                                                                                               \
        if ((span).columns)                                                                                            \
            LAUNCH((name<1, true, phase>), channel_grid(&(span)), CHANNEL_THREADS, 0, q, __VA_ARGS__);                 \
        else if ((span).vector == 4)                                                                                   \
            LAUNCH((name<4, false, phase>), channel_grid(&(span)), CHANNEL_THREADS, 0, q, __VA_ARGS__);                \
        else                                                                                                           \
            LAUNCH((name<1, false, phase>), channel_grid(&(span)), CHANNEL_THREADS, 0, q, __VA_ARGS__);                \
    } while (0)
/* What a kernel does: sums of pieces, what follows from the sums of all pieces, or (one piece) both. */
enum { PHASE_SUMS = 1, PHASE_APPLY = 2, PHASE_BOTH = 3 };

/* Where a thread is. */
struct channel_spot {
    int64_t c;
    int piece, t;
    bool there;  /* c is a channel */
    bool writes; /* the channel's results, one thread a channel */
};
template <bool COLUMNS> __device__ static inline channel_spot channel_spot_of(const channel_span &a)
{
    channel_spot p;
    const int64_t group = blockIdx.x / (unsigned)a.pieces;
    p.piece = (int)(blockIdx.x % (unsigned)a.pieces);
    p.c = COLUMNS ? group * 32 + (threadIdx.x & 31) : group;
    p.t = (int)(COLUMNS ? threadIdx.x >> 5 : threadIdx.x);
    p.there = p.c < a.channels;
    p.writes = p.there && p.t == 0 && p.piece == 0;
    return p;
}

/* The thread's items, at `at` of the tensor in items. */
struct channel_cursor {
    int64_t item, end, at, off;
};
template <bool COLUMNS> __device__ static inline channel_cursor channel_begin(const channel_span &a, const channel_spot &p)
{
    channel_cursor k;
    k.item = (int64_t)p.piece * a.length + p.t;
    k.end = (int64_t)(p.piece + 1) * a.length;
    k.end = !p.there ? 0 : k.end < a.count ? k.end : a.count;
    k.off = k.at = 0;
    if (k.item < k.end) {
        const int64_t row = COLUMNS ? k.item : k.item / a.places;
        k.off = COLUMNS ? 0 : k.item - row * a.places;
        k.at = (row * a.channels + p.c) * (COLUMNS ? 1 : a.places) + k.off;
    }
    return k;
}
template <bool COLUMNS> __device__ static inline void channel_next(const channel_span &a, channel_cursor &k)
{
    k.item += COLUMNS ? CHANNEL_THREADS / 32 : CHANNEL_THREADS;
    k.at += a.step;
    if (!COLUMNS) {
        k.off += a.step_off;
        if (k.off >= a.places) {
            k.off -= a.places;
            k.at += a.wrap;
        }
    }
}
#define EACH_ITEM(k, span, spot)                                                                                       \
    for (channel_cursor k = channel_begin<COLUMNS>(span, spot); k.item < k.end; channel_next<COLUMNS>(span, k))

/* Sum over the threads of the channel, the same bits in each of them. part: 256 floats of shared memory, free again after
 * the next __syncthreads. */
template <bool COLUMNS> __device__ static inline float channel_sum(float v, float *part)
{
    if (!COLUMNS)
        return block_sum(v, part);
    __syncthreads();
    part[threadIdx.x] = v;
    __syncthreads();
    float sum = 0;
    for (int i = 0; i < CHANNEL_THREADS / 32; i++)
        sum += part[i * 32 + (threadIdx.x & 31)];
    return sum;
}

/* What the pieces of a channel left, piece by piece: the lanes of a warp share them, or (columns) each lane has a channel. */
#define EACH_PIECE(i, span)                                                                                            \
    for (int i = COLUMNS ? 0 : (int)(threadIdx.x & 31); i < (span).pieces; i += COLUMNS ? 1 : 32)
template <bool COLUMNS> __device__ static inline float over_pieces(float v)
{
    return COLUMNS ? v : warp_sum(v);
}

template <int V> struct floats {
    float v[V];
};
template <int V> __device__ static inline floats<V> floats_at(const float *p, int64_t item)
{
    floats<V> r;
    if constexpr (V == 4) {
        const float4 f = reinterpret_cast<const float4 *>(p)[item];
        r.v[0] = f.x;
        r.v[1] = f.y;
        r.v[2] = f.z;
        r.v[3] = f.w;
    } else {
        r.v[0] = p[item];
    }
    return r;
}
template <int V> __device__ static inline void floats_put(float *p, int64_t item, const floats<V> &r)
{
    if constexpr (V == 4)
        reinterpret_cast<float4 *>(p)[item] = make_float4(r.v[0], r.v[1], r.v[2], r.v[3]);
    else
        p[item] = r.v[0];
}

#endif
