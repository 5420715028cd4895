/* qconv.cu - convolutions and products of 8-bit integers (src/ops/quant.c): QLinearConv, ConvInteger, QLinearMatMul,
 * MatMulInteger, QGemm.
 *
 * All are one product C[m, n] = sum over k of (A[m, k] - za) (B[k, n] - zb) in tiles of shared memory: a convolution's A are
 * its weights and its columns the pixels of all images, gathered where they are read. Bytes become signed (uint8 less 128), the
 * zero points with them; four products are one dp4a; zero points are taken off the sums:
 * sum AB - za sum B - zb sum A + k za zb, modulo 2^32, which inference has shown to be enough. Convolutions with few channels
 * an output group are done directly, a thread an output. */
#include "kernels/cuda/quant.cuh"

/* How a sum becomes a result. */
typedef struct finish {
    void *y;
    dtype type;
    numbers scale_y, zero_y;
    quant_range range;
} finish;
static finish finish_of(const kernel_args *a, int sy, int zy)
{
    finish f = {.y = a->out[0].data, .type = a->out[0].type, .scale_y = numbers_of(a, sy), .zero_y = numbers_of(a, zy),
                .range = quant_range_of(a->out[0].type)};
    return f;
}
__device__ static inline void put(const finish &f, int64_t i, uint32_t acc, float scale_a, float scale_b)
{
    const float sum = (float)(int32_t)acc, scale = __fmul_rn(scale_a, scale_b);
    if (f.type == DTYPE_I32)
        ((uint32_t *)f.y)[i] = acc;
    else if (f.type == DTYPE_F32)
        ((float *)f.y)[i] = __fmul_rn(sum, scale);
    else
        ((uint8_t *)f.y)[i] = (uint8_t)quant_round(__fmul_rn(sum, __fdiv_rn(scale, scale_at(f.scale_y, 0))), zero_at(f.zero_y, 0), f.range);
}

/* An operand of bytes: `flip` makes them signed, `less` is what that takes off. */
typedef struct bytes {
    const uint8_t *data;
    uint32_t flip;
    int less;
} bytes;
static bytes bytes_of(const kernel_tensor *t)
{
    const bool is_signed = t->type == DTYPE_I8;
    bytes b = {.data = (const uint8_t *)t->data, .flip = is_signed ? 0u : 0x80u, .less = is_signed ? 0 : 128};
    return b;
}
__device__ static inline uint32_t byte_at(const bytes &b, int64_t i)
{
    return b.data[i] ^ b.flip;
}
__device__ static inline int number_at(const bytes &b, int64_t i)
{
    return (int)(int8_t)byte_at(b, i);
}

/* ---- convolutions ---- */

typedef struct conv_axis {
    int in, kernel, stride, dilation, pad;
    divider out, taps;
} conv_axis;
typedef struct conv_problem {
    int64_t rows, cols, terms, batches; /* outputs of a group, pixels of all images, taps of an output, groups */
    int64_t channels, pixels, plane;    /* channels of an image, of a result; elements of a channel of the data */
    bytes x, w;
    numbers zero_x, zero_w, scale_x, scale_w;
    const int32_t *bias;
    divider images; /* pixels of an image */
    conv_axis axis[3];
    finish end;
} conv_problem;

/* A pixel of the result: where its tap 0 lies. */
typedef struct pixel {
    int64_t image, at;
    int start[3];
    bool in;
} pixel;
__device__ static inline pixel column_of(const conv_problem &p, int64_t n)
{
    pixel c = {};
    c.in = n < p.cols;
    if (!c.in)
        return c;
    c.image = quotient(n, p.images);
    c.at = n - c.image * p.images.d;
    uint32_t rest = (uint32_t)c.at;
    UNROLL
    for (int k = 2; k >= 0; k--)
        c.start[k] = (int)split_off(&rest, p.axis[k].out) * p.axis[k].stride - p.axis[k].pad;
    return c;
}
/* Where tap k of a group's pixel lies, -1: in the padding. */
__device__ static inline int64_t tap_of(const conv_problem &p, const pixel &c, int64_t group, uint32_t k)
{
    int place[3];
    bool in = true;
    UNROLL
    for (int d = 2; d >= 0; d--) {
        place[d] = c.start[d] + (int)split_off(&k, p.axis[d].taps) * p.axis[d].dilation;
        in = in && place[d] >= 0 && place[d] < p.axis[d].in;
    }
    const int64_t channel = c.image * p.channels + group * (p.channels / p.batches) + k;
    return in ? channel * p.plane + (place[0] * p.axis[1].in + place[1]) * p.axis[2].in + place[2] : -1;
}
__device__ static inline int zero_of_row(const conv_problem &p, int64_t batch, int64_t m)
{
    return zero_at(p.zero_w, batch * p.rows + m) - p.w.less;
}
__device__ static inline int zero_of_column(const conv_problem &p, int64_t)
{
    return zero_at(p.zero_x, 0) - p.x.less;
}
__device__ static inline uint32_t byte_of_row(const conv_problem &p, int64_t batch, int64_t m, int64_t k)
{
    return byte_at(p.w, (batch * p.rows + m) * p.terms + k);
}
__device__ static inline uint32_t byte_of_column(const conv_problem &p, int64_t batch, const pixel &c, int64_t k, int zero)
{
    const int64_t at = tap_of(p, c, batch, (uint32_t)k);
    return at < 0 ? (uint32_t)zero & 0xff : byte_at(p.x, at);
}
__device__ static inline void store(const conv_problem &p, int64_t batch, int64_t m, int64_t n, uint32_t acc)
{
    const int64_t output = batch * p.rows + m, image = quotient(n, p.images);
    acc += p.bias ? (uint32_t)p.bias[output] : 0;
    put(p.end, (image * p.rows * p.batches + output) * p.images.d + n - image * p.images.d, acc, scale_at(p.scale_x, 0),
        scale_at(p.scale_w, output));
}

/* ---- products of matrices ---- */

typedef struct product_problem {
    int64_t rows, cols, terms, batches;
    int64_t row_a, term_a, term_b, col_b; /* steps in elements */
    bytes a, b;
    numbers zero_a, zero_b, scale_a, scale_b; /* a: one, or one a row; b: a column */
    const int32_t *bias;                      /* of a column */
    walk lead;                                /* from: to the matrix of a, to: of b */
    finish end;
} product_problem;
typedef struct matrix_column {
    int64_t at;
    bool in;
} matrix_column;
__device__ static inline matrix_column column_of(const product_problem &p, int64_t n)
{
    return {n, n < p.cols};
}
__device__ static inline int zero_of_row(const product_problem &p, int64_t, int64_t m)
{
    return zero_at(p.zero_a, m) - p.a.less;
}
__device__ static inline int zero_of_column(const product_problem &p, int64_t n)
{
    return zero_at(p.zero_b, n) - p.b.less;
}
__device__ static inline uint32_t byte_of_row(const product_problem &p, int64_t batch, int64_t m, int64_t k)
{
    int64_t a = 0, b = 0;
    if (p.batches > 1)
        walk_at(p.lead, batch, &a, &b);
    return byte_at(p.a, a + m * p.row_a + k * p.term_a);
}
__device__ static inline uint32_t byte_of_column(const product_problem &p, int64_t batch, const matrix_column &c, int64_t k, int)
{
    int64_t a = 0, b = 0;
    if (p.batches > 1)
        walk_at(p.lead, batch, &a, &b);
    return byte_at(p.b, b + k * p.term_b + c.at * p.col_b);
}
__device__ static inline void store(const product_problem &p, int64_t batch, int64_t m, int64_t n, uint32_t acc)
{
    acc += p.bias ? (uint32_t)p.bias[n] : 0;
    put(p.end, (batch * p.rows + m) * p.cols + n, acc, scale_at(p.scale_a, m), scale_at(p.scale_b, n));
}

/* ---- tiles ---- */

#define SIDE  64 /* rows and columns of a tile */
#define WORDS 8  /* of four terms, in a round */
#define EACH  4  /* rows and columns of a thread, SIDE / EACH apart */

/* The product of a block is SIDE x SIDE; words lie as [word][row], [word][column]. */
template <class P> __global__ static void product_kernel(const __grid_constant__ P p, int64_t tiles_m, int64_t tiles_n)
{
    SHARED_DYNAMIC(uint32_t, shared);
    uint32_t *const a = shared, *const b = shared + WORDS * (SIDE + 1);
    const int tx = threadIdx.x % (SIDE / EACH), ty = threadIdx.x / (SIDE / EACH), own = threadIdx.x % SIDE, first = threadIdx.x / SIDE;
    const int64_t tiles = tiles_m * tiles_n * p.batches;
    for (int64_t t = blockIdx.x; t < tiles; t += gridDim.x) {
        const int64_t row = t / tiles_n, batch = row / tiles_m, m0 = (row - batch * tiles_m) * SIDE, n0 = (t - row * tiles_n) * SIDE;
        const bool busy = m0 + ty < p.rows && n0 + tx < p.cols;
        const auto column = column_of(p, n0 + own);
        const int zero = column.in ? zero_of_column(p, n0 + own) : 0;
        int acc[EACH][EACH] = {}, sum_a[EACH] = {}, sum_b[EACH] = {};
        for (int64_t k0 = 0; k0 < p.terms; k0 += 4 * WORDS) {
            for (int w = (int)threadIdx.x % WORDS, r = (int)threadIdx.x / WORDS; r < SIDE; r += (int)blockDim.x / WORDS) {
                uint32_t word = 0;
                UNROLL
                for (int u = 0; u < 4; u++)
                    if (m0 + r < p.rows && k0 + 4 * w + u < p.terms)
                        word |= byte_of_row(p, batch, m0 + r, k0 + 4 * w + u) << 8 * u;
                a[w * (SIDE + 1) + r] = word;
            }
            for (int w = first; w < WORDS; w += (int)blockDim.x / SIDE) {
                uint32_t word = 0;
                UNROLL
                for (int u = 0; u < 4; u++)
                    if (column.in && k0 + 4 * w + u < p.terms)
                        word |= byte_of_column(p, batch, column, k0 + 4 * w + u, zero) << 8 * u;
                b[w * (SIDE + 1) + own] = word;
            }
            __syncthreads();
            for (int w = 0; busy && w < WORDS; w++) {
                int one[EACH], other[EACH];
                UNROLL
                for (int i = 0; i < EACH; i++) {
                    one[i] = (int)a[w * (SIDE + 1) + ty + i * (SIDE / EACH)];
                    other[i] = (int)b[w * (SIDE + 1) + tx + i * (SIDE / EACH)];
                    sum_a[i] = __dp4a(one[i], 0x01010101, sum_a[i]);
                    sum_b[i] = __dp4a(other[i], 0x01010101, sum_b[i]);
                }
                UNROLL
                for (int i = 0; i < EACH; i++)
                    UNROLL
                    for (int j = 0; j < EACH; j++)
                        acc[i][j] = __dp4a(one[i], other[j], acc[i][j]);
            }
            __syncthreads();
        }
        UNROLL
        for (int i = 0; i < EACH; i++)
            UNROLL
            for (int j = 0; j < EACH; j++) {
                const int64_t m = m0 + ty + i * (SIDE / EACH), n = n0 + tx + j * (SIDE / EACH);
                if (m >= p.rows || n >= p.cols)
                    continue;
                const uint32_t za = (uint32_t)zero_of_row(p, batch, m), zb = (uint32_t)zero_of_column(p, n);
                store(p, batch, m, n, (uint32_t)acc[i][j] - za * (uint32_t)sum_b[j] - zb * (uint32_t)sum_a[i] + (uint32_t)p.terms * za * zb);
            }
    }
}
template <class P> static void run_product(cuda_queue *q, const P *p)
{
    const int64_t tiles_m = (p->rows + SIDE - 1) / SIDE, tiles_n = (p->cols + SIDE - 1) / SIDE, tiles = tiles_m * tiles_n * p->batches;
    if (tiles > 0)
        LAUNCH((product_kernel<P>), grid_for(q, tiles * CUDA_THREADS, 1), CUDA_THREADS, 2 * WORDS * (SIDE + 1) * sizeof(uint32_t), q,
               *p, tiles_m, tiles_n);
}

/* A thread an output: few outputs a group. */
__global__ static void direct_conv_kernel(const __grid_constant__ conv_problem p, int64_t count)
{
    GRID_STRIDE(i, count)
    {
        const int64_t output = i / p.cols, n = i - output * p.cols, group = output / p.rows, m = output - group * p.rows;
        const pixel c = column_of(p, n);
        const int zw = zero_of_row(p, group, m), zx = zero_of_column(p, n);
        uint32_t sum = 0;
        for (int64_t k = 0; k < p.terms; k++) {
            const int64_t at = tap_of(p, c, group, (uint32_t)k);
            if (at >= 0)
                sum += (uint32_t)((number_at(p.x, at) - zx) * (number_at(p.w, output * p.terms + k) - zw));
        }
        store(p, group, m, n, sum);
    }
}

/* ---- the operators ---- */

/* x, w, zx, zw, sx, sw: numbers of the operands, n_in where there is none. */
static void convolve(const kernel_args *a, int w, int zx, int zw, int sx, int sw, int bias, finish end)
{
    const conv_attrs *at = (const conv_attrs *)a->attr;
    const shape *x = &a->in[0].sh, *y = &a->out[0].sh;
    conv_problem p = {.rows = y->dim[1] / at->group, .cols = y->dim[0], .terms = x->dim[1] / at->group, .batches = at->group,
                      .channels = x->dim[1], .pixels = 1, .plane = 1, .x = bytes_of(&a->in[0]), .w = bytes_of(&a->in[w]),
                      .zero_x = numbers_of(a, zx), .zero_w = numbers_of(a, zw), .scale_x = numbers_of(a, sx),
                      .scale_w = numbers_of(a, sw), .bias = (const int32_t *)numbers_of(a, bias).data, .end = end};
    for (int i = 0, spatial = x->rank - 2; i < 3; i++) {
        const int k = i - (3 - spatial);
        conv_axis one = {.in = 1, .kernel = 1, .stride = 1, .dilation = 1, .pad = 0, .out = divider_of(1), .taps = divider_of(1)};
        if (k >= 0)
            one = {.in = (int)x->dim[2 + k], .kernel = (int)at->kernel_shape.v[k], .stride = (int)at->strides.v[k],
                   .dilation = (int)at->dilations.v[k], .pad = (int)at->pads.v[k], .out = divider_of(y->dim[2 + k]),
                   .taps = divider_of(at->kernel_shape.v[k])};
        p.axis[i] = one;
        p.terms *= one.kernel;
        p.plane *= one.in;
        p.pixels *= k >= 0 ? y->dim[2 + k] : 1;
    }
    p.cols *= p.pixels;
    p.images = divider_of(p.pixels);
    if (p.rows >= 8 || p.batches == 1)
        run_product(a->queue, &p);
    else if (p.rows * p.batches * p.cols > 0)
        LAUNCH(direct_conv_kernel, grid_for(a->queue, p.rows * p.batches * p.cols, 1), CUDA_THREADS, 0, a->queue, p,
               p.rows * p.batches * p.cols);
}
static void qlinear_conv(const kernel_args *a)
{
    convolve(a, 3, 2, 5, 1, 4, 8, finish_of(a, 6, 7));
}
static void conv_integer(const kernel_args *a)
{
    convolve(a, 1, 2, 3, a->n_in, a->n_in, a->n_in, finish_of(a, a->n_in, a->n_in));
}
/* Places within a plane, padding included, and taps are ints. */
static bool takes_conv(const kernel_args *a)
{
    const conv_attrs *at = (const conv_attrs *)a->attr;
    const int64_t most = 1 << 29;
    int64_t plane = 1, out = 1, taps = a->in[0].sh.dim[1];
    for (int k = 0; k < a->in[0].sh.rank - 2; k++) {
        plane *= a->in[0].sh.dim[2 + k];
        out *= a->out[0].sh.dim[2 + k];
        taps *= at->kernel_shape.v[k];
        if (plane > most || out > most || taps > most || at->strides.v[k] > most || at->pads.v[k] > most ||
            (at->kernel_shape.v[k] - 1) * at->dilations.v[k] > most)
            return false;
    }
    return true;
}

/* Sizes as numpy.matmul has them. */
static void matmul(const kernel_args *a, int b, int sa, int za, int sb, int zb, finish end)
{
    const shape *x = &a->in[0].sh, *w = &a->in[b].sh, *y = &a->out[0].sh;
    product_problem p = {.rows = x->rank > 1 ? x->dim[x->rank - 2] : 1, .cols = w->rank > 1 ? w->dim[w->rank - 1] : 1,
                         .terms = x->dim[x->rank - 1], .a = bytes_of(&a->in[0]), .b = bytes_of(&a->in[b]),
                         .zero_a = numbers_of(a, za), .zero_b = numbers_of(a, zb), .scale_a = numbers_of(a, sa),
                         .scale_b = numbers_of(a, sb), .bias = nullptr, .lead = walk_begin(), .end = end};
    const int lead = y->rank - (x->rank > 1) - (w->rank > 1);
    int64_t step_a = p.rows * p.terms, step_b = p.terms * p.cols;
    for (int k = 1; k <= lead; k++) {
        const int ia = x->rank - 2 - k, ib = w->rank - 2 - k;
        const int64_t da = ia >= 0 ? x->dim[ia] : 1, db = ib >= 0 ? w->dim[ib] : 1;
        walk_add(&p.lead, y->dim[lead - k], da > 1 ? step_a : 0, db > 1 ? step_b : 0);
        step_a *= da;
        step_b *= db;
    }
    p.batches = p.lead.count;
    p.row_a = p.terms;
    p.term_a = p.col_b = 1;
    p.term_b = p.cols;
    run_product(a->queue, &p);
}
static void qlinear_matmul(const kernel_args *a)
{
    matmul(a, 3, 1, 2, 4, 5, finish_of(a, 6, 7));
}
static void matmul_integer(const kernel_args *a)
{
    matmul(a, 1, a->n_in, 2, a->n_in, 3, finish_of(a, a->n_in, a->n_in));
}

static void qgemm(const kernel_args *a)
{
    const gemm_attrs *at = (const gemm_attrs *)a->attr;
    const shape *x = &a->in[0].sh, *w = &a->in[3].sh;
    const bool ta = at->transA != 0, tb = at->transB != 0;
    product_problem p = {.cols = w->dim[tb ? 0 : 1], .terms = w->dim[tb ? 1 : 0], .batches = 1, .a = bytes_of(&a->in[0]),
                         .b = bytes_of(&a->in[3]), .zero_a = numbers_of(a, 2), .zero_b = numbers_of(a, 5),
                         .scale_a = numbers_of(a, 1), .scale_b = numbers_of(a, 4),
                         .bias = (const int32_t *)numbers_of(a, 6).data, .lead = walk_begin(), .end = finish_of(a, 7, 8)};
    p.rows = p.cols ? shape_count(&a->out[0].sh) / p.cols : 0;
    p.row_a = ta ? 1 : p.terms;
    p.term_a = ta ? x->dim[1] : 1;
    p.term_b = tb ? 1 : p.cols;
    p.col_b = tb ? p.terms : 1;
    run_product(a->queue, &p);
}
static bool takes_result(const kernel_args *a)
{
    const dtype t = a->out[0].type;
    return t == DTYPE_U8 || t == DTYPE_I8 || t == DTYPE_I32 || t == DTYPE_F32;
}

CUDA_TABLE(qconv) = {
    {.op = OP_QLINEAR_CONV, .type = DTYPE_NONE, .name = "qlinear_conv", .run = qlinear_conv, .takes = takes_conv},
    {.op = OP_CONV_INTEGER, .type = DTYPE_NONE, .name = "conv_integer", .run = conv_integer, .takes = takes_conv},
    {.op = OP_QLINEAR_MATMUL, .type = DTYPE_NONE, .name = "qlinear_matmul", .run = qlinear_matmul},
    {.op = OP_MATMUL_INTEGER, .type = DTYPE_NONE, .name = "matmul_integer", .run = matmul_integer},
    {.op = OP_QGEMM, .type = DTYPE_NONE, .name = "qgemm", .run = qgemm, .takes = takes_result},
    KERNEL_END};
