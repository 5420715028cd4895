/* reduce_half.cu - sums, means and maxima over the pixels of images in float16 or bfloat16, channels last (last.cuh): of each
 * image (global pools, what scales channels) or of all of them (what every image gets alike), and what gives
 * every pixel its image's numbers back. Added in float32; what one
 * block cannot take is cut into pieces, which a second launch joins in a fixed order. Results are plain float32, or as the
 * image lies; few as they are, their elements lie in one order. */
#include "kernels/cuda/index.cuh"
#include "kernels/cuda/last.cuh"

#define JOIN_CHANNELS 8                              /* of a block that joins pieces */
#define JOIN_LINES    (LAST_THREADS / JOIN_CHANNELS) /* pieces that it reads at once */

struct largest {
    static __device__ float join(float a, float b) { return b > a || b != b ? b : a; }
    static __device__ float begin() { return -INFINITY; }
};
struct adding : sums {
    static __device__ float begin() { return 0; }
};

/* x [images, rows, C] -> y [images, C] times `factor`; part: [images, pieces, C] where there is more than one piece. */
template <class JOIN, class T, int V, class OUT>
__global__ static void __launch_bounds__(LAST_THREADS) half_reduce_kernel(OUT *y, float *part, const T *x, float factor, const last_span s)
{
    __shared__ float shared[V * LAST_THREADS];
    const last_spot p = last_spot_of(s);
    const T *image = x + p.image * s.rows * s.columns * V;
    float v[V];
    UNROLL
    for (int j = 0; j < V; j++)
        v[j] = JOIN::begin();
    for (int64_t row = p.row; row < p.end; row += s.lines) {
        const pack<T, V> one = item_load<T, V>(image, row * s.columns + p.column);
        UNROLL
        for (int j = 0; j < V; j++)
            v[j] = JOIN::join(v[j], as_float(one.at[j]));
    }
    join_lines<JOIN, V>(v, shared, p.line, s.lines, s.width);
    if (!p.there || p.line)
        return;
    for (int j = 0; j < V; j++) {
        const int64_t c = (int64_t)p.column * V + j, channels = (int64_t)s.columns * V;
        if (s.pieces == 1)
            y[p.image * channels + c] = from_float<OUT>(v[j] * factor);
        else
            part[(p.image * s.pieces + p.piece) * channels + c] = v[j];
    }
}

/* JOIN_CHANNELS channels of an image a block. */
template <class JOIN, class OUT>
__global__ static void __launch_bounds__(LAST_THREADS) half_reduce_join_kernel(OUT *y, const float *part, float factor, int64_t channels, int pieces)
{
    __shared__ float shared[LAST_THREADS];
    const int64_t c = (int64_t)blockIdx.x * JOIN_CHANNELS + threadIdx.x % JOIN_CHANNELS, image = blockIdx.y;
    const int line = (int)threadIdx.x / JOIN_CHANNELS;
    float v[1] = {JOIN::begin()};
    for (int i = line; i < pieces && c < channels; i += JOIN_LINES)
        v[0] = JOIN::join(v[0], part[(image * pieces + i) * channels + c]);
    join_lines<JOIN, 1>(v, shared, line, JOIN_LINES, JOIN_CHANNELS);
    if (line == 0 && c < channels)
        y[image * channels + c] = from_float<OUT>(v[0] * factor);
}

/* Images that have a result of their own. */
static int64_t images_of(const kernel_args *a)
{
    const int64_t c = a->in[0].sh.dim[1];
    return c ? shape_count(&a->out[0].sh) / c : 0;
}
static last_span span_of(const kernel_args *a, int v)
{
    const int64_t images = images_of(a), c = a->in[0].sh.dim[1];
    return last_span_of(images ? shape_count(&a->in[0].sh) / c / images : 0, c, v, images);
}
static size_t reduce_work(const kernel_args *a)
{
    const last_span eight = span_of(a, 8), one = span_of(a, 1);
    const int pieces = one.pieces > eight.pieces ? one.pieces : eight.pieces;
    return pieces > 1 ? (size_t)shape_count(&a->out[0].sh) * (size_t)pieces * sizeof(float) : 0;
}

template <class JOIN, class T, int V, class OUT> static void reduce_by(const kernel_args *a, bool mean)
{
    const last_span s = span_of(a, V);
    const int64_t images = images_of(a), channels = a->in[0].sh.dim[1];
    const float factor = mean ? 1 / (float)s.rows : 1;
    OUT *y = (OUT *)a->out[0].data;
    float *part = (float *)a->work;
    LAUNCH((half_reduce_kernel<JOIN, T, V, OUT>), last_grid(&s, images), LAST_THREADS, 0, a->queue, y, part, (const T *)a->in[0].data, factor, s);
    if (s.pieces > 1)
        LAUNCH((half_reduce_join_kernel<JOIN, OUT>), dim3((unsigned)((channels + JOIN_CHANNELS - 1) / JOIN_CHANNELS), (unsigned)images),
               LAST_THREADS, 0, a->queue, y, part, factor, channels, s.pieces);
}
template <class JOIN, class T, class OUT, bool MEAN> static void reduce(const kernel_args *a)
{
    if (shape_count(&a->in[0].sh) == 0)
        return; /* then there is no result either: takes_pixels */
    if (last_vector(a->in[0].sh.dim[1], is_vector(a->in[0].data)) == 8)
        reduce_by<JOIN, T, 8, OUT>(a, MEAN);
    else
        reduce_by<JOIN, T, 1, OUT>(a, MEAN);
}

static bool takes_any(const kernel_args *a)
{
    return shape_count(&a->in[0].sh) > 0;
}
/* All axes but the channels', or all but batch and channels. */
static bool takes_pixels(const kernel_args *a)
{
    const reduce_attrs *at = (const reduce_attrs *)a->attr;
    const int rank = a->in[0].sh.rank;
    uint32_t mask = 0, all = ((1u << rank) - 1) & ~2u;
    for (int64_t i = 0; i < at->axes.n; i++)
        mask |= 1u << (at->axes.v[i] < 0 ? at->axes.v[i] + rank : at->axes.v[i]);
    return takes_any(a) && (mask == all || mask == (all & ~1u));
}
/* A result for every image, with its axes. */
static bool takes_image_pixels(const kernel_args *a)
{
    return takes_pixels(a) && a->out[0].sh.rank == a->in[0].sh.rank && images_of(a) == a->in[0].sh.dim[0];
}

/* ---- the way back: every pixel gets its image's numbers ---- */

/* x [images, C], one image for all or each its own -> y [all, rows, C] */
template <class T, int V>
__global__ static void half_spread_kernel(T *y, const float *x, int64_t n, const divider columns, const divider rows, bool each)
{
    GRID_STRIDE(i, n)
    {
        int64_t image = i;
        const int64_t column = split_off(&image, columns);
        split_off(&image, rows);
        const pack<float, V> from = *(const pack<float, V> *)(x + ((each ? image : 0) * columns.d + column) * V);
        pack<T, V> r;
        UNROLL
        for (int j = 0; j < V; j++)
            r.at[j] = from_float<T>(from.at[j]);
        item_store<T, V>(y, i, r);
    }
}
template <class T, int V> static void spread_by(const kernel_args *a)
{
    const shape *y = &a->out[0].sh;
    const int64_t n = shape_count(y) / V;
    LAUNCH((half_spread_kernel<T, V>), grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, (T *)a->out[0].data,
           (const float *)a->in[0].data, n, divider_of(y->dim[1] / V), divider_of(last_rows(y) / y->dim[0]), a->in[0].sh.dim[0] > 1);
}
template <class T> static void spread(const kernel_args *a)
{
    if (last_vector(a->out[0].sh.dim[1], is_vector(a->out[0].data) && ((uintptr_t)a->in[0].data & 31) == 0) == 8)
        spread_by<T, 8>(a);
    else
        spread_by<T, 1>(a);
}
template <dtype H> static bool takes_numbers(const kernel_args *a)
{
    const shape *x = &a->in[0].sh, *y = &a->out[0].sh;
    if (a->out[0].type != H || x->rank != y->rank || shape_count(y) == 0 || x->dim[1] != y->dim[1] ||
        (x->dim[0] != 1 && x->dim[0] != y->dim[0]))
        return false;
    for (int i = 2; i < x->rank; i++)
        if (x->dim[i] != 1)
            return false;
    return true;
}

/* ---- plain tensors: sums over all axes but the last (gradients of biases) ---- */

static int64_t last_width(const kernel_args *a)
{
    return a->in[0].sh.dim[a->in[0].sh.rank - 1];
}
static last_span rows_span(const kernel_args *a, int v)
{
    return last_span_of(shape_count(&a->in[0].sh) / last_width(a), last_width(a), v);
}
static size_t rows_work(const kernel_args *a)
{
    const last_span eight = rows_span(a, 8), one = rows_span(a, 1);
    const int pieces = one.pieces > eight.pieces ? one.pieces : eight.pieces;
    return pieces > 1 ? (size_t)last_width(a) * (size_t)pieces * sizeof(float) : 0;
}
template <class T, int V> static void rows_by(const kernel_args *a)
{
    const last_span s = rows_span(a, V);
    const int64_t width = last_width(a);
    float *y = (float *)a->out[0].data, *part = (float *)a->work;
    LAUNCH((half_reduce_kernel<adding, T, V, float>), last_grid(&s), LAST_THREADS, 0, a->queue, y, part, (const T *)a->in[0].data, 1.0f, s);
    if (s.pieces > 1)
        LAUNCH((half_reduce_join_kernel<adding, float>), dim3((unsigned)((width + JOIN_CHANNELS - 1) / JOIN_CHANNELS)), LAST_THREADS, 0,
               a->queue, y, part, 1.0f, width, s.pieces);
}
template <class T> static void rows_sum(const kernel_args *a)
{
    if (last_vector(last_width(a), is_vector(a->in[0].data)) == 8)
        rows_by<T, 8>(a);
    else
        rows_by<T, 1>(a);
}
static bool takes_rows(const kernel_args *a)
{
    const reduce_attrs *at = (const reduce_attrs *)a->attr;
    const int rank = a->in[0].sh.rank;
    uint32_t mask = 0;
    for (int64_t i = 0; i < at->axes.n; i++)
        mask |= 1u << (at->axes.v[i] < 0 ? at->axes.v[i] + rank : at->axes.v[i]);
    return rank >= 2 && takes_any(a) && mask == (1u << (rank - 1)) - 1;
}

#define REDUCE_ROWS(E, T)                                                                                              \
    {.op = OP_GLOBAL_AVERAGE_POOL, .type = DTYPE_##E, .name = "global_average_pool " #E, .run = reduce<adding, T, float, true>, \
     .workspace = reduce_work, .takes = takes_any, .blocked_in = 1},                                                   \
    {.op = OP_GLOBAL_MAX_POOL, .type = DTYPE_##E, .name = "global_max_pool " #E, .run = reduce<largest, T, float, false>, \
     .workspace = reduce_work, .takes = takes_any, .blocked_in = 1},                                                   \
    {.op = OP_REDUCE_MEAN, .type = DTYPE_##E, .name = "mean of pixels " #E, .run = reduce<adding, T, float, true>,     \
     .workspace = reduce_work, .takes = takes_pixels, .blocked_in = 1},                                                \
    {.op = OP_REDUCE_SUM, .type = DTYPE_##E, .name = "sum of an image's pixels " #E, .run = reduce<adding, T, T, false>, \
     .workspace = reduce_work, .takes = takes_image_pixels, .blocked_in = 1, .blocked_out = 1},                        \
    {.op = OP_REDUCE_SUM, .type = DTYPE_##E, .name = "sum of pixels " #E, .run = reduce<adding, T, float, false>,      \
     .workspace = reduce_work, .takes = takes_pixels, .blocked_in = 1},                                                \
    {.op = OP_EXPAND, .type = DTYPE_F32, .name = "expand to pixels " #E, .run = spread<T>, .takes = takes_numbers<DTYPE_##E>, \
     .blocked_out = 1},                                                                                                \
    {.op = OP_REDUCE_SUM, .name = "sum of rows " #E, .run = rows_sum<T>, .workspace = rows_work, .takes = takes_rows,  \
     .narrow = DTYPE_##E, .narrow_in = 1},

CUDA_TABLE(reduce_half) = {REDUCE_ROWS(F16, __half) REDUCE_ROWS(BF16, __nv_bfloat16) KERNEL_END};
