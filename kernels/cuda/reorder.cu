/* reorder.cu - between images that lie plain in float32, [N, C, pixels], and channels last, [N, pixels, C], in float16, bfloat16
 * or float32: one pass that changes order and type. Between plain tensors: of type alone. */
#include "kernels/cuda/broadcast.cuh"
#include "kernels/cuda/element.cuh"

#define TILE 32
#define ROWS 8 /* of threads in a block; each does TILE / ROWS elements */

template <class From, class To> __device__ static inline To converted(From v)
{
    return arithmetic<To>::store((float)arithmetic<From>::load(v));
}

/* x [images, rows, cols] -> y [images, cols, rows], by tiles in shared memory: both sides are touched along their rows. */
template <class From, class To>
__global__ static void reorder_kernel(To *y, const From *x, int64_t rows, int64_t cols, int64_t row_tiles, int64_t col_tiles,
                                      int64_t tiles)
{
    __shared__ float tile[TILE][TILE + 1];
    for (int64_t t = blockIdx.x; t < tiles; t += gridDim.x) {
        const int64_t image = t / (row_tiles * col_tiles), at = t % (row_tiles * col_tiles);
        const int64_t row = at / col_tiles * TILE, col = at % col_tiles * TILE;
        const From *from = x + image * rows * cols;
        To *to = y + image * rows * cols;
        __syncthreads(); /* the tile before is written out */
        for (int64_t r = threadIdx.y; r < TILE; r += ROWS)
            if (row + r < rows && col + threadIdx.x < cols)
                tile[r][threadIdx.x] = (float)arithmetic<From>::load(from[(row + r) * cols + col + threadIdx.x]);
        __syncthreads();
        for (int64_t c = threadIdx.y; c < TILE; c += ROWS)
            if (col + c < cols && row + threadIdx.x < rows)
                to[(col + c) * rows + row + threadIdx.x] = arithmetic<To>::store(tile[threadIdx.x][c]);
    }
}

/* One channel, or one pixel, or plain on both sides: both orders are the same. */
template <class From, class To> __global__ static void convert_kernel(To *y, const From *x, int64_t n)
{
    for_packs<8>(n, [&](int64_t i, auto width) {
        constexpr int V = decltype(width)::value;
        const pack<From, V> p = pack_load<From, V>(x, i);
        pack<To, V> r;
        UNROLL
        for (int v = 0; v < V; v++)
            r.at[v] = converted<From, To>(p.at[v]);
        pack_store<To, V>(y, i, r);
    });
}
template <class From, class To> static void convert(const kernel_args *a)
{
    const int64_t n = shape_count(&a->out[0].sh);
    if (n > 0)
        LAUNCH((convert_kernel<From, To>), grid_for(a->queue, n, 8), CUDA_THREADS, 0, a->queue, (To *)a->out[0].data,
               (const From *)a->in[0].data, n);
}

template <class From, class To> static void reorder(const kernel_args *a)
{
    const shape *sh = &a->out[0].sh;
    const int64_t images = sh->dim[0], channels = sh->dim[1], n = shape_count(sh);
    if (n == 0)
        return;
    const int64_t pixels = n / images / channels;
    const bool to_last = a->out[0].block != 0;
    const int64_t rows = to_last ? channels : pixels, cols = to_last ? pixels : channels;
    if (rows == 1 || cols == 1) {
        convert<From, To>(a);
        return;
    }
    const int64_t row_tiles = (rows + TILE - 1) / TILE, col_tiles = (cols + TILE - 1) / TILE, tiles = images * row_tiles * col_tiles;
    const int64_t most = (int64_t)a->queue->multiprocessors * 32;
    LAUNCH((reorder_kernel<From, To>), dim3((unsigned)(tiles < most ? tiles : most)), dim3(TILE, ROWS), 0, a->queue,
           (To *)a->out[0].data, (const From *)a->in[0].data, rows, cols, row_tiles, col_tiles, tiles);
}

/* ---- several weights at once ---- */

enum { WEIGHTS = 32, CHUNK = 4096 }; /* elements of a block */

typedef struct weight {
    const float *from; /* [filters, channels, pixels]; plain ones: all are channels of one pixel */
    void *to;          /* [filters, pixels, channels] */
    uint32_t block, n, channels, pixels; /* number of its first block; elements */
} weight;
typedef struct weights {
    weight at[WEIGHTS];
    int n;
} weights;

template <class To, int V> __device__ static inline void convert_weight(const weight &w, uint32_t from, uint32_t end)
{
    struct alignas(sizeof(To) * V) many {
        To at[V];
    };
    for (uint32_t i = from + V * threadIdx.x; i < end; i += V * CUDA_THREADS) {
        const uint32_t row = i / w.channels, filter = row / w.pixels; /* row: of a filter's pixel */
        const float *at = w.from + ((int64_t)filter * w.channels + (i - row * w.channels)) * w.pixels + (row - filter * w.pixels);
        many m;
        UNROLL
        for (int k = 0; k < V; k++)
            m.at[k] = converted<float, To>(at[(int64_t)k * w.pixels]);
        *reinterpret_cast<many *>(static_cast<To *>(w.to) + i) = m;
    }
}

/* Of one pixel, or plain: both orders are the same. */
template <class To> __device__ static inline void round_weight(const weight &w, uint32_t from, uint32_t end)
{
    const uint32_t whole = from + (end - from) / 8 * 8;
    To *const to = static_cast<To *>(w.to);
    for (uint32_t i = from + 8 * threadIdx.x; i < whole; i += 8 * CUDA_THREADS) {
        const pack<float, 8> p = pack_load<float, 8>(w.from, i);
        pack<To, 8> r;
        UNROLL
        for (int k = 0; k < 8; k++)
            r.at[k] = converted<float, To>(p.at[k]);
        pack_store<To, 8>(to, i, r);
    }
    for (uint32_t i = whole + threadIdx.x; i < end; i += CUDA_THREADS)
        to[i] = converted<float, To>(w.from[i]);
}

template <class To> __global__ static void __launch_bounds__(CUDA_THREADS) weights_kernel(__grid_constant__ const weights t)
{
    int k = 0;
    while (k + 1 < t.n && t.at[k + 1].block <= blockIdx.x)
        k++;
    const weight &w = t.at[k];
    const uint32_t from = (blockIdx.x - w.block) * CHUNK, end = w.n - from < CHUNK ? w.n : from + CHUNK;
    if (w.pixels == 1)
        round_weight<To>(w, from, end);
    else if (w.channels % 8 == 0 && ((uintptr_t)w.to & 15) == 0)
        convert_weight<To, 16 / sizeof(To)>(w, from, end);
    else
        convert_weight<To, 1>(w, from, end);
}

template <class To> static void reorder_weights(const kernel_args *a)
{
    weights t = {.n = 0};
    uint32_t blocks = 0;
    for (int i = 0; i < a->n_in; i++) {
        const shape *sh = &a->in[i].sh;
        const int64_t n = shape_count(sh);
        if (n == 0)
            continue;
        const bool last = a->out[i].block != 0;
        t.at[t.n++] = (weight){.from = (const float *)a->in[i].data, .to = a->out[i].data, .block = blocks, .n = (uint32_t)n,
                               .channels = (uint32_t)(last ? sh->dim[1] : n), .pixels = (uint32_t)(last ? n / sh->dim[0] / sh->dim[1] : 1)};
        blocks += (uint32_t)((n + CHUNK - 1) / CHUNK);
    }
    if (blocks)
        LAUNCH(weights_kernel<To>, dim3(blocks), CUDA_THREADS, 0, a->queue, t);
}

template <dtype Out> static bool takes_weights(const kernel_args *a)
{
    int64_t n = 0;
    for (int i = 0; i < a->n_in; i++) {
        if (a->in[i].type != DTYPE_F32 || a->out[i].type != Out)
            return false;
        n += shape_count(&a->in[i].sh);
    }
    return a->n_in > 1 && a->n_in <= WEIGHTS && n <= INT32_MAX;
}

template <dtype In, dtype Out> static bool converts(const kernel_args *a)
{
    return a->in[0].type == In && a->out[0].type == Out;
}

#define WEIGHTS_ROW(type_, T)                                                                                          \
    {.op = OP_REORDER, .type = DTYPE_F32, .name = "weights to channels last, " #T, .run = reorder_weights<T>,          \
     .takes = takes_weights<type_>, .blocked_out = ~0u},                                                               \
    {.op = OP_REORDER, .name = "weights to " #T, .run = reorder_weights<T>, .takes = takes_weights<type_>, .narrow = type_, \
     .narrow_out = ~0u}
#define PAIR(type_, T)                                                                                                 \
    {.op = OP_REORDER, .type = DTYPE_F32, .name = "reorder to channels last, " #T, .run = reorder<float, T>,           \
     .takes = converts<DTYPE_F32, type_>, .blocked_out = 1},                                                           \
    {.op = OP_REORDER, .type = type_, .name = "reorder from channels last, " #T, .run = reorder<T, float>,             \
     .takes = converts<type_, DTYPE_F32>, .blocked_in = 1}

/* Rows for plain operands, the one with a type that the other has not. */
#define PLAIN_PAIR(type_, T)                                                                                           \
    {.op = OP_REORDER, .name = "round to " #T, .run = convert<float, T>, .takes = converts<DTYPE_F32, type_>,          \
     .narrow = type_, .narrow_out = 1},                                                                                \
    {.op = OP_REORDER, .name = "widen " #T, .run = convert<T, float>, .takes = converts<type_, DTYPE_F32>, .narrow = type_, .narrow_in = 1}

CUDA_TABLE(reorder) = {PAIR(DTYPE_F16, __half), PAIR(DTYPE_BF16, __nv_bfloat16), PAIR(DTYPE_F32, float), WEIGHTS_ROW(DTYPE_F16, __half),
                       WEIGHTS_ROW(DTYPE_BF16, __nv_bfloat16), PLAIN_PAIR(DTYPE_F16, __half), PLAIN_PAIR(DTYPE_BF16, __nv_bfloat16),
                       KERNEL_END};
