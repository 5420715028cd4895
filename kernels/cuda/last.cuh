/* last.cuh - images in float16 or bfloat16 with the channels last (kernel.h: one block of all channels), seen as [rows, channels],
 * a row being a pixel of an image; arithmetic is in float32.
 *
 * A thread has V neighbouring channels, an access of 16 bytes where V is 8, of the rows of its line; a block has `width` such
 * items beside each other and `lines` rows at a time, of a piece of all rows. What a cut depends on is the shape alone, so
 * sums are the same on every device. */
#ifndef DISTILL_KERNELS_CUDA_LAST_CUH
#define DISTILL_KERNELS_CUDA_LAST_CUH

#include "kernels/cuda/broadcast.cuh"

#define LAST_THREADS 256
#define LAST_WIDTH   32   /* items of a block beside each other, at most */
#define LAST_EACH    16   /* rows of a thread, at least, before rows are cut once more */
#define LAST_BLOCKS  1024 /* no more blocks than that by cutting */

typedef struct last_span {
    int64_t rows, length;      /* of all; of a piece */
    int columns;               /* items of a row */
    int width, lines;          /* of a block's threads */
    int groups, pieces;
} last_span;

/* v: channels of an item; images: how many spans of the same size there are. */
static inline last_span last_span_of(int64_t rows, int64_t channels, int v, int64_t images = 1)
{
    last_span s = {.rows = rows, .columns = (int)(channels / v)};
    s.groups = (s.columns + LAST_WIDTH - 1) / LAST_WIDTH;
    s.width = s.groups ? (s.columns + s.groups - 1) / s.groups : 1;
    s.lines = LAST_THREADS / s.width;
    const int64_t want = (rows + (int64_t)s.lines * LAST_EACH - 1) / ((int64_t)s.lines * LAST_EACH);
    const int64_t all = s.groups * images, most = all > 0 && all < LAST_BLOCKS ? LAST_BLOCKS / all : 1, pieces = want < most ? want : most;
    s.length = pieces > 0 ? (rows + pieces - 1) / pieces : 0;
    s.pieces = s.length ? (int)((rows + s.length - 1) / s.length) : 1;
    return s;
}
static inline int64_t last_rows(const shape *sh)
{
    return sh->dim[1] ? shape_count(sh) / sh->dim[1] : 0;
}
static inline dim3 last_grid(const last_span *s, int64_t images = 1)
{
    return dim3((unsigned)(images * s->groups * s->pieces));
}
/* 8 where all the operands can be read so, else 1. */
static inline int last_vector(int64_t channels, bool aligned)
{
    return channels % 8 == 0 && aligned ? 8 : 1;
}

/* The order in which the elements of a channels-last tensor lie, as a plain shape: [N, spatial..., C]. */
static inline shape last_shape(const shape *sh)
{
    shape y = *sh;
    for (int i = 1; i + 1 < y.rank; i++)
        y.dim[i] = sh->dim[i + 1];
    y.dim[y.rank - 1] = sh->dim[1];
    return y;
}
static inline kernel_tensor last_tensor(const kernel_tensor *t)
{
    kernel_tensor y = *t;
    y.sh = last_shape(&t->sh);
    y.block = 0;
    return y;
}
/* Where axis i of an image is in its last_shape. */
static inline int last_axis(int i, int rank)
{
    return i == 0 ? 0 : i == 1 ? rank - 1 : i - 1;
}
/* Lists with a number for each axis, `parts` lists behind each other. */
static inline void last_list(int64_t *to, const int64_t *from, int rank, int parts)
{
    for (int p = 0; p < parts; p++)
        for (int i = 0; i < rank; i++)
            to[p * rank + last_axis(i, rank)] = from[p * rank + i];
}

#define LAST_OPERANDS 32 /* as many as a mask has bits */
/* The arguments as a kernel for plain tensors takes them: channels-last operands are plain ones in the order in which they lie. */
typedef struct last_args {
    kernel_tensor in[LAST_OPERANDS], out[LAST_OPERANDS];
    kernel_args a;
} last_args;
static inline void last_args_of(const kernel_args *a, last_args *to)
{
    to->a = *a;
    to->a.in = to->in;
    to->a.out = to->out;
    for (int i = 0; i < a->n_in; i++)
        to->in[i] = a->in[i].block ? last_tensor(&a->in[i]) : a->in[i];
    for (int i = 0; i < a->n_out; i++)
        to->out[i] = a->out[i].block ? last_tensor(&a->out[i]) : a->out[i];
}

/* Where a thread is. */
struct last_spot {
    int column, line;
    int64_t piece, image;
    bool there;     /* it has an item */
    int64_t row, end; /* its first row; where the piece ends */
};
__device__ static inline last_spot last_spot_of(const last_span &s)
{
    last_spot p;
    const int beside = (int)threadIdx.x % s.width, group = (int)blockIdx.x % s.groups;
    p.line = (int)threadIdx.x / s.width;
    p.image = (int)blockIdx.x / s.groups / s.pieces;
    p.piece = (int)blockIdx.x / s.groups - p.image * s.pieces;
    p.column = group * s.width + beside;
    p.there = p.column < s.columns && p.line < s.lines;
    p.row = p.piece * s.length + p.line;
    p.end = (p.piece + 1) * s.length < s.rows ? (p.piece + 1) * s.length : s.rows;
    if (!p.there)
        p.end = p.row;
    return p;
}

template <class T, int V> __device__ static inline pack<T, V> item_load(const T *p, int64_t item)
{
    return reinterpret_cast<const pack<T, V> *>(p)[item];
}
template <class T, int V> __device__ static inline void item_store(T *p, int64_t item, const pack<T, V> &v)
{
    reinterpret_cast<pack<T, V> *>(p)[item] = v;
}

struct sums {
    static __device__ float join(float a, float b) { return a + b; }
};
/* What the lines of a block have, joined in line 0. part: N * LAST_THREADS floats. */
template <class JOIN, int N> __device__ static inline void join_lines(float (&v)[N], float *part, int line, int lines, int width)
{
    for (int n = lines, half; n > 1; n = half) {
        half = (n + 1) / 2;
        __syncthreads();
        if (line >= half && line < n) {
            UNROLL
            for (int j = 0; j < N; j++)
                part[j * LAST_THREADS + threadIdx.x] = v[j];
        }
        __syncthreads();
        if (line + half < n) {
            UNROLL
            for (int j = 0; j < N; j++)
                v[j] = JOIN::join(v[j], part[j * LAST_THREADS + threadIdx.x + half * width]);
        }
    }
}

#endif
