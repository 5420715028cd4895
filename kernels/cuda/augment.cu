/* augment.cu - BatchImages (src/ops/batch_images.c): a batch gathered from the images that stay on the device, changed by the
 * random numbers of the CPU's augmentation, cropped, mirrored and normalised, in one kernel. Random resized crops take two more
 * before it: what makes each row and column of each sample (taps_kernel), and their pixels as bytes (boxes_kernel).
 *
 * The arithmetic is src/ops/picture.c step by step, nothing contracted, so that the bits are the CPU's. The one exception is
 * the mean that a change of contrast goes towards: its sum has another order, which for pictures of up to 2^18 pixels is exact
 * in double all the same (lumas are multiples of 2^-27). */
#include "kernels/cuda/index.cuh"
#include "kernels/cuda/philox.cuh"
extern "C" {
#include "ops/batch_images.h"
#include "ops/picture_rule.h"
}

#define CHANNELS_MOST 32 /* whose tables fit the shared memory that a block gets without asking; more are read where they lie */
#define PIXELS        4096 /* of a block */
#define STAGED        32768 /* bytes of shared memory for rows whose columns are made already */

typedef struct image_sizes {
    int64_t images, item;
    uint32_t plane;                /* of the result, as H and W */
    int own, channels, h, w, H, W; /* h, w: of an image */
    divider by_row;
    uint32_t chunks; /* blocks of a sample */
    uint32_t each;   /* pixels of a block */
} image_sizes;

typedef struct image_source { /* of the samples, or of those that they are mixed with */
    const int64_t *row, *number;
} image_source;

typedef struct augment_ask {
    uint64_t seed;
    int crop, cutout;
    bool flip, colour;
    double brightness, contrast, saturation;
    bool boxes, nearest; /* random resized crops */
    double scale_min, scale_max;
} augment_ask;

/* What was drawn for an image: augment_draw of picture.h. */
typedef struct drawn {
    const uint8_t *px; /* NULL: there is no such image */
    int dy, dx, flip, y0, y1, x0, x1;
    float brightness, contrast, saturation, mean;
} drawn;

/* ---- drawing: augment_make ---- */

typedef struct stream { /* rng of src/base/rng.h */
    uint64_t seed, a;
    uint32_t b, next, word[4];
    int left;
} stream;

__device__ static inline uint32_t stream_u32(stream *s, const augment_ask &ask)
{
    if (s->left == 0) {
        const uint4 r = philox_draw(ask.seed, RNG_AUGMENT, s->a, s->b, s->next++);
        s->word[0] = r.x;
        s->word[1] = r.y;
        s->word[2] = r.z;
        s->word[3] = r.w;
        s->left = 4;
    }
    const int at = 4 - s->left--;
    return at == 0 ? s->word[0] : at == 1 ? s->word[1] : at == 2 ? s->word[2] : s->word[3];
}
__device__ static inline uint32_t stream_below(stream *s, const augment_ask &ask, uint32_t n)
{
    uint64_t m = (uint64_t)stream_u32(s, ask) * n;
    if ((uint32_t)m < n) {
        const uint32_t floor = (0u - n) % n;
        while ((uint32_t)m < floor)
            m = (uint64_t)stream_u32(s, ask) * n;
    }
    return (uint32_t)(m >> 32);
}
__device__ static inline double stream_uniform(stream *s, const augment_ask &ask)
{
    const uint64_t hi = stream_u32(s, ask) >> 5, lo = stream_u32(s, ask) >> 6;
    return (double)(hi << 26 | lo) * 0x1p-53;
}
__device__ static inline float stream_factor(stream *s, const augment_ask &ask, double strength)
{
    if (strength <= 0)
        return 1.0f;
    const double u = stream_uniform(s, ask), low = strength < 1 ? 1 - strength : 0, high = 1 + strength;
    return (float)__dadd_rn(low, __dmul_rn(high - low, u));
}

typedef struct image_box {
    int y, x, h, w;
} image_box;

__device__ static inline image_box draw_box(stream *r, const image_sizes &s, const augment_ask &ask)
{
    image_box b;
    for (int i = 0; i < PICTURE_TRIES; i++) {
        const double u = stream_uniform(r, ask), v = stream_uniform(r, ask);
        picture_box(s.h, s.w, ask.scale_min, ask.scale_max, u, v, &b.h, &b.w);
        if (b.w < 1 || b.h < 1 || b.w > s.w || b.h > s.h)
            continue;
        b.y = (int)stream_below(r, ask, (uint32_t)(s.h - b.h) + 1);
        b.x = (int)stream_below(r, ask, (uint32_t)(s.w - b.w) + 1);
        return b;
    }
    picture_middle_box(s.h, s.w, &b.h, &b.w);
    b.y = (s.h - b.h) / 2;
    b.x = (s.w - b.w) / 2;
    return b;
}

/* Image j of the samples or of the others; its box is made already and lies in `box`. */
__device__ static inline drawn draw_image(const uint8_t *pixels, const uint8_t *box, const image_source &from, const int64_t *view,
                                          const image_sizes &s, const augment_ask &ask, int64_t j)
{
    drawn d = {.px = NULL, .brightness = 1, .contrast = 1, .saturation = 1};
    const int64_t row = from.row[j];
    if (row < 0 || row >= s.images)
        return d;
    d.px = box ? box : pixels + row * s.item;
    if (!from.number)
        return d;
    stream r = {.a = (uint64_t)view[j], .b = (uint32_t)from.number[j]};
    if (box)
        (void)draw_box(&r, s, ask);
    d.brightness = stream_factor(&r, ask, ask.brightness);
    d.contrast = stream_factor(&r, ask, ask.contrast);
    d.saturation = stream_factor(&r, ask, ask.saturation);
    if (ask.crop > 0) {
        d.dy = (int)stream_below(&r, ask, 2 * (uint32_t)ask.crop + 1) - ask.crop;
        d.dx = (int)stream_below(&r, ask, 2 * (uint32_t)ask.crop + 1) - ask.crop;
    }
    d.flip = ask.flip && stream_below(&r, ask, 2);
    if (ask.cutout > 0) {
        const int y = (int)stream_below(&r, ask, (uint32_t)s.H) - ask.cutout / 2, x = (int)stream_below(&r, ask, (uint32_t)s.W) - ask.cutout / 2;
        d.y0 = y < 0 ? 0 : y;
        d.x0 = x < 0 ? 0 : x;
        d.y1 = y + ask.cutout > s.H ? s.H : y + ask.cutout;
        d.x1 = x + ask.cutout > s.W ? s.W : x + ask.cutout;
    }
    return d;
}

/* ---- random resized crops: picture_resize ---- */

/* What lies in the workspace of `samples` images, those that others are mixed with at the end. A sample's taps: for each column and
 * then each row of the result the first pixel of the image and their number, then the weights of columns and of rows. */
typedef struct box_plan {
    int64_t batch, samples, taps, item; /* taps: int32 of a sample; item: bytes of a sample's pixels, which follow all taps */
    int most_x, most_y;                 /* weights of a column, of a row */
    int rows, strips;                   /* of the result, of a block; blocks of a sample */
    divider by_line, by_own;            /* bytes of a row of the result, of a pixel */
} box_plan;

__device__ static inline int64_t row_of(const image_source &mine, const image_source &other, const box_plan &p, int64_t j)
{
    return j < p.batch ? mine.row[j] : other.row[j - p.batch];
}

/* A block does a sample. */
__global__ static void taps_kernel(int32_t *taps, image_source mine, image_source other, const int64_t *view, image_sizes s, augment_ask ask,
                                   box_plan p)
{
    __shared__ image_box box;
    const int64_t j = blockIdx.x, row = row_of(mine, other, p, j), at = j < p.batch ? j : j - p.batch;
    if (row < 0 || row >= s.images)
        return;
    if (threadIdx.x == 0) {
        stream r = {.a = (uint64_t)view[at], .b = (uint32_t)(j < p.batch ? mine.number[at] : other.number[at])};
        box = draw_box(&r, s, ask);
    }
    __syncthreads();
    int32_t *first = taps + j * p.taps, *weight = first + 2 * (s.W + s.H);
    for (int o = (int)threadIdx.x; o < s.W + s.H; o += (int)blockDim.x) {
        const bool is_row = o >= s.W;
        const int i = is_row ? o - s.W : o, in = is_row ? box.h : box.w, out = is_row ? s.H : s.W, from = is_row ? box.y : box.x;
        int32_t *w = weight + (is_row ? (int64_t)s.W * p.most_x + (int64_t)i * p.most_y : (int64_t)i * p.most_x);
        if (in == out || ask.nearest) {
            first[2 * o] = from + (in == out ? i : picture_nearest(in, out, i));
            first[2 * o + 1] = 1;
            w[0] = 1 << PICTURE_BITS;
            continue;
        }
        const picture_taps t = picture_taps_of(in, out, i);
        first[2 * o] = from + t.first;
        first[2 * o + 1] = t.n;
        for (int k = 0; k < t.n; k++)
            w[k] = picture_weight(&t, k);
    }
}

/* Byte k of column x of a row of the image: px is the row's first. */
__device__ static inline uint8_t column(const uint8_t *px, const int32_t *first, const int32_t *weight, const box_plan &p, int own, int x, int k)
{
    const int32_t *w = weight + (int64_t)x * p.most_x;
    const int n = first[2 * x + 1];
    const uint8_t *at = px + (int64_t)first[2 * x] * own + k;
    int32_t sum = 1 << (PICTURE_BITS - 1);
    for (int i = 0; i < n; i++)
        sum += __ldg(at + i * own) * w[i];
    return picture_round(sum);
}

/* A block does some rows of a sample: first the columns of all rows of the image that they need, where there is room for these. */
__global__ static void boxes_kernel(uint8_t *boxes, const int32_t *taps, const uint8_t *pixels, image_source mine, image_source other,
                                    image_sizes s, box_plan p)
{
    SHARED_DYNAMIC(uint8_t, staged);
    const int64_t j = blockIdx.x / (unsigned)p.strips, row = row_of(mine, other, p, j);
    if (row < 0 || row >= s.images)
        return;
    const int32_t *columns = taps + j * p.taps, *rows = columns + 2 * s.W, *weight_x = rows + 2 * s.H;
    const int32_t *weight_y = weight_x + (int64_t)s.W * p.most_x;
    const int y0 = (int)(blockIdx.x % (unsigned)p.strips) * p.rows, y1 = y0 + p.rows < s.H ? y0 + p.rows : s.H;
    const int a = rows[2 * y0], end = rows[2 * y1 - 2] + rows[2 * y1 - 1];
    const uint32_t line = (uint32_t)p.by_line.d;
    const int64_t needed = (int64_t)(end - a) * line, pitch = (int64_t)s.w * s.own;
    const uint8_t *px = pixels + row * s.item;
    const bool is_staged = needed <= STAGED;
    for (uint32_t i = threadIdx.x; is_staged && i < (uint32_t)needed; i += blockDim.x) {
        uint32_t y = i, x = split_off(&y, p.by_line);
        const int k = (int)split_off(&x, p.by_own);
        staged[i] = column(px + (a + (int64_t)y) * pitch, columns, weight_x, p, s.own, (int)x, k);
    }
    __syncthreads();
    uint8_t *to = boxes + j * p.item + (int64_t)y0 * line;
    for (uint32_t i = threadIdx.x; i < (uint32_t)(y1 - y0) * line; i += blockDim.x) {
        uint32_t y = i;
        const uint32_t q = split_off(&y, p.by_line);
        uint32_t x = q;
        const int k = (int)split_off(&x, p.by_own), first = rows[2 * (y0 + (int)y)], n = rows[2 * (y0 + (int)y) + 1];
        const int32_t *w = weight_y + (int64_t)(y0 + (int)y) * p.most_y;
        int32_t sum = 1 << (PICTURE_BITS - 1);
        for (int t = 0; t < n; t++)
            sum += (is_staged ? staged[(uint32_t)(first - a + t) * line + q]
                              : column(px + (int64_t)(first + t) * pitch, columns, weight_x, p, s.own, (int)x, k)) * w[t];
        to[i] = picture_round(sum);
    }
}

static const void *operand(const kernel_args *a, int i)
{
    return i < a->n_in && a->in[i].type != DTYPE_NONE ? a->in[i].data : NULL;
}

static box_plan plan_boxes(const kernel_args *a)
{
    const int64_t *px = a->in[BATCH_PIXELS].sh.dim, *y = a->out[0].sh.dim, line = y[3] * px[3];
    const bool mixed = a->n_in > BATCH_SHARE && a->in[BATCH_SHARE].type != DTYPE_NONE;
    box_plan p = {.batch = y[0], .samples = y[0] * (1 + mixed), .item = y[2] * line, .by_line = divider_of(line), .by_own = divider_of(px[3])};
    p.most_x = (int)picture_most_taps((int32_t)px[2], (int32_t)y[3]);
    p.most_y = (int)picture_most_taps((int32_t)px[1], (int32_t)y[2]);
    p.taps = 2 * (y[3] + y[2]) + y[3] * p.most_x + y[2] * p.most_y;
    /* as many rows as have all that they need staged, if their box is the whole image */
    const double step = (double)px[1] / (double)y[2], most = ((double)STAGED / (double)line - p.most_y - 1) / step;
    p.rows = most < 1 ? 1 : most > (double)y[2] ? (int)y[2] : (int)most;
    p.strips = (int)((y[2] + p.rows - 1) / p.rows);
    return p;
}

static size_t workspace(const kernel_args *a)
{
    if (((const batch_boxes_attrs *)a->attr)->scale_max <= 0)
        return 0;
    const box_plan p = plan_boxes(a);
    return (size_t)p.samples * ((size_t)p.taps * sizeof(int32_t) + (size_t)p.item);
}

/* Returns where the pixels of the samples' boxes are. */
static const uint8_t *make_boxes(const kernel_args *a, const image_sizes &s, const augment_ask &ask)
{
    const image_source mine = {(const int64_t *)operand(a, BATCH_ROW), (const int64_t *)operand(a, BATCH_NUMBER)};
    const image_source other = {(const int64_t *)operand(a, BATCH_OTHER_ROW), (const int64_t *)operand(a, BATCH_OTHER_NUMBER)};
    const box_plan p = plan_boxes(a);
    int32_t *taps = (int32_t *)a->work;
    uint8_t *boxes = (uint8_t *)(taps + p.samples * p.taps);
    LAUNCH(taps_kernel, dim3((unsigned)p.samples), CUDA_THREADS, 0, a->queue, taps, mine, other, (const int64_t *)operand(a, BATCH_VIEW), s,
           ask, p);
    LAUNCH(boxes_kernel, dim3((unsigned)(p.samples * p.strips)), CUDA_THREADS, STAGED, a->queue, boxes, taps,
           (const uint8_t *)a->in[BATCH_PIXELS].data, mine, other, s, p);
    return boxes;
}

/* ---- colour: augment_jitter ---- */

__device__ static inline float to_pixel(float v)
{
    return v <= 0 ? 0 : v >= 255 ? 255 : (float)(uint8_t)__fadd_rn(v, 0.5f);
}
__device__ static inline float luma(float r, float g, float b)
{
    return __fadd_rn(__fadd_rn(__fmul_rn(0.299f, r), __fmul_rn(0.587f, g)), __fmul_rn(0.114f, b));
}
__device__ static inline float brightened(uint8_t p, float factor)
{
    return factor < 1 || factor > 1 ? to_pixel(__fmul_rn((float)p, factor)) : (float)p;
}
__device__ static inline float away_from(float p, float middle, float factor)
{
    return factor < 1 || factor > 1 ? to_pixel(__fadd_rn(middle, __fmul_rn(__fadd_rn(p, -middle), factor))) : p;
}
__device__ static inline float contrasted(uint8_t p, const drawn &d)
{
    return away_from(brightened(p, d.brightness), d.mean, d.contrast);
}

/* Byte k of the pixel at p with its colour changed. */
__device__ static inline int changed(const uint8_t *p, int own, int k, const drawn &d)
{
    const float v = contrasted(p[k], d);
    if (own != 3)
        return (int)v;
    return (int)away_from(v, luma(contrasted(p[0], d), contrasted(p[1], d), contrasted(p[2], d)), d.saturation);
}

/* The mean luma of the brightened image, the same in every thread. part: a double of every thread. */
__device__ static inline float mean_luma(const drawn &d, const image_sizes &s, double *part)
{
    double sum = 0;
    for (uint32_t i = threadIdx.x; i < s.plane; i += blockDim.x) {
        const uint8_t *p = d.px + (int64_t)i * s.own;
        const float first = brightened(p[0], d.brightness);
        sum += (double)(s.own == 3 ? luma(first, brightened(p[1], d.brightness), brightened(p[2], d.brightness)) : first);
    }
    part[threadIdx.x] = sum;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half; half /= 2) {
        if (threadIdx.x < half)
            part[threadIdx.x] += part[threadIdx.x + half];
        __syncthreads();
    }
    const float mean = (float)(part[0] / (double)s.plane);
    __syncthreads();
    return mean;
}

/* ---- to planes ---- */

/* Channel k of pixel (y, x) of the batch. */
template <bool COLOUR> __device__ static inline float element(const drawn &d, const image_sizes &s, const float *table, int k, int y, int x)
{
    if (y >= d.y0 && y < d.y1 && x >= d.x0 && x < d.x1)
        return 0;
    const int sy = y + d.dy, sx = (d.flip ? s.W - 1 - x : x) + d.dx;
    int byte = 0;
    if (sy >= 0 && sy < s.H && sx >= 0 && sx < s.W) {
        const uint8_t *p = d.px + ((int64_t)sy * s.W + sx) * s.own;
        const int own = s.own == 1 ? 0 : k;
        byte = COLOUR ? changed(p, s.own, own, d) : (int)__ldg(p + own);
    }
    return table[256 * k + byte];
}

/* A block does `each` pixels of a sample, all channels; a thread V pixels of a row at a time. */
template <bool COLOUR, bool MIXED, int V>
__global__ static void batch_images_kernel(float *out, const uint8_t *pixels, const uint8_t *boxes, const float *table, image_source mine,
                                           image_source other, const int64_t *view, const float *share, image_sizes s, augment_ask ask)
{
    SHARED_DYNAMIC(float, numbers);
    __shared__ drawn draw[1 + MIXED];
    const int64_t j = blockIdx.x / s.chunks, box = (int64_t)s.plane * s.own;
    const uint32_t first = blockIdx.x % s.chunks * s.each, end = first + s.each < s.plane ? first + s.each : s.plane;
    const int copied = s.channels <= CHANNELS_MOST ? 256 * s.channels : 0;
    for (int i = (int)threadIdx.x; i < copied; i += (int)blockDim.x)
        numbers[i] = table[i];
    if (threadIdx.x == 0)
        draw[0] = draw_image(pixels, boxes ? boxes + j * box : NULL, mine, view, s, ask, j);
    if (MIXED && threadIdx.x == 32)
        draw[MIXED] = draw_image(pixels, boxes ? boxes + (gridDim.x / s.chunks + j) * box : NULL, other, view, s, ask, j);
    __syncthreads();
    if (COLOUR) {
        double *part = (double *)(numbers + copied);
        for (int m = 0; m <= MIXED; m++) {
            const float mean = draw[m].px && ask.contrast > 0 ? mean_luma(draw[m], s, part) : 0;
            if (threadIdx.x == 0)
                draw[m].mean = mean;
        }
        __syncthreads();
    }
    const drawn a = draw[0], b = draw[MIXED];
    const float l = MIXED ? share[j] : 1, rest = __fadd_rn(1, -l), nothing = nanf("");
    const float *values = copied ? numbers : table;
    float *to = out + j * s.channels * (int64_t)s.plane;
    for (uint32_t i = first + V * threadIdx.x; i < end; i += V * blockDim.x) {
        uint32_t y = i;
        const int x = (int)split_off(&y, s.by_row);
        for (int k = 0; k < s.channels; k++) {
            float v[V];
            UNROLL
            for (int q = 0; q < V; q++) {
                v[q] = a.px ? element<COLOUR>(a, s, values, k, (int)y, x + q) : nothing;
                if (MIXED)
                    v[q] = __fadd_rn(__fmul_rn(l, v[q]), __fmul_rn(rest, b.px ? element<COLOUR>(b, s, values, k, (int)y, x + q) : nothing));
            }
            float *at = to + (int64_t)k * s.plane + i;
            if (V == 4)
                *reinterpret_cast<float4 *>(at) = make_float4(v[0], v[1 % V], v[2 % V], v[3 % V]);
            else
                at[0] = v[0];
        }
    }
}

template <bool COLOUR, bool MIXED> static void launch(const kernel_args *a, const image_sizes &s, const augment_ask &ask)
{
    const image_source mine = {(const int64_t *)operand(a, BATCH_ROW), (const int64_t *)operand(a, BATCH_NUMBER)};
    const image_source other = {(const int64_t *)operand(a, BATCH_OTHER_ROW), (const int64_t *)operand(a, BATCH_OTHER_NUMBER)};
    const uint8_t *pixels = (const uint8_t *)a->in[BATCH_PIXELS].data, *boxes = ask.boxes ? make_boxes(a, s, ask) : NULL;
    const float *table = (const float *)a->in[BATCH_TABLE].data, *share = (const float *)operand(a, BATCH_SHARE);
    const int64_t *view = (const int64_t *)operand(a, BATCH_VIEW);
    float *out = (float *)a->out[0].data;
    const dim3 grid((unsigned)(a->out[0].sh.dim[0] * s.chunks));
    const size_t shared = (s.channels <= CHANNELS_MOST ? 1024 * (size_t)s.channels : 0) + (COLOUR ? CUDA_THREADS * sizeof(double) : 0);
    if (s.W % 4 == 0 && is_vector(out))
        LAUNCH((batch_images_kernel<COLOUR, MIXED, 4>), grid, CUDA_THREADS, shared, a->queue, out, pixels, boxes, table, mine, other, view,
               share, s, ask);
    else
        LAUNCH((batch_images_kernel<COLOUR, MIXED, 1>), grid, CUDA_THREADS, shared, a->queue, out, pixels, boxes, table, mine, other, view,
               share, s, ask);
}

/* ---- images of floats ---- */

__device__ static inline float float_element(const drawn &d, const image_sizes &s, const float *table, int k, int y, int x)
{
    const int sy = y + d.dy, sx = (d.flip ? s.W - 1 - x : x) + d.dx;
    float v = 0;
    if (!d.px)
        return nanf("");
    if (y >= d.y0 && y < d.y1 && x >= d.x0 && x < d.x1)
        return 0;
    if (sy >= 0 && sy < s.H && sx >= 0 && sx < s.W)
        v = __ldg(reinterpret_cast<const float *>(d.px) + ((int64_t)k * s.H + sy) * s.W + sx);
    return __fdiv_rn(__fadd_rn(v, -table[k]), table[s.channels + k]);
}

/* A block does `each` pixels of a sample, all channels. */
template <bool MIXED>
__global__ static void float_images_kernel(float *out, const uint8_t *pixels, const float *table, image_source mine, image_source other,
                                           const int64_t *view, const float *share, image_sizes s, augment_ask ask)
{
    __shared__ drawn draw[1 + MIXED];
    const int64_t j = blockIdx.x / s.chunks;
    const uint32_t first = blockIdx.x % s.chunks * s.each, end = first + s.each < s.plane ? first + s.each : s.plane;
    if (threadIdx.x == 0)
        draw[0] = draw_image(pixels, NULL, mine, view, s, ask, j);
    if (MIXED && threadIdx.x == 32)
        draw[MIXED] = draw_image(pixels, NULL, other, view, s, ask, j);
    __syncthreads();
    const float l = MIXED ? share[j] : 1, rest = __fadd_rn(1, -l);
    float *to = out + j * s.channels * (int64_t)s.plane;
    for (uint32_t i = first + threadIdx.x; i < end; i += blockDim.x) {
        uint32_t y = i;
        const int x = (int)split_off(&y, s.by_row);
        for (int k = 0; k < s.channels; k++) {
            float v = float_element(draw[0], s, table, k, (int)y, x);
            if (MIXED)
                v = __fadd_rn(__fmul_rn(l, v), __fmul_rn(rest, float_element(draw[MIXED], s, table, k, (int)y, x)));
            to[(int64_t)k * s.plane + i] = v;
        }
    }
}

static void batch_floats(const kernel_args *a)
{
    const int64_t *px = a->in[BATCH_PIXELS].sh.dim;
    const batch_images_attrs *at = &((const batch_boxes_attrs *)a->attr)->change;
    const augment_ask ask = {.seed = (uint64_t)at->seed, .crop = (int)at->crop, .cutout = (int)at->cutout, .flip = at->flip != 0};
    image_sizes s = {.images = px[0], .item = px[1] * px[2] * px[3] * (int64_t)sizeof(float), .plane = (uint32_t)(px[2] * px[3]),
                     .channels = (int)px[1], .H = (int)px[2], .W = (int)px[3], .by_row = divider_of(px[3]), .each = PIXELS};
    const image_source mine = {(const int64_t *)operand(a, BATCH_ROW), (const int64_t *)operand(a, BATCH_NUMBER)};
    const image_source other = {(const int64_t *)operand(a, BATCH_OTHER_ROW), (const int64_t *)operand(a, BATCH_OTHER_NUMBER)};
    const float *table = (const float *)a->in[BATCH_TABLE].data, *share = (const float *)operand(a, BATCH_SHARE);
    const int64_t *view = (const int64_t *)operand(a, BATCH_VIEW);
    const uint8_t *pixels = (const uint8_t *)a->in[BATCH_PIXELS].data;
    float *out = (float *)a->out[0].data;
    if (shape_count(&a->out[0].sh) == 0)
        return;
    s.chunks = (s.plane + s.each - 1) / s.each;
    const dim3 grid((unsigned)(a->out[0].sh.dim[0] * s.chunks));
    if (share)
        LAUNCH((float_images_kernel<true>), grid, CUDA_THREADS, 0, a->queue, out, pixels, table, mine, other, view, share, s, ask);
    else
        LAUNCH((float_images_kernel<false>), grid, CUDA_THREADS, 0, a->queue, out, pixels, table, mine, other, view, share, s, ask);
}

static void batch_images(const kernel_args *a)
{
    const int64_t *px = a->in[BATCH_PIXELS].sh.dim, *y = a->out[0].sh.dim;
    const batch_boxes_attrs *box = (const batch_boxes_attrs *)a->attr;
    const batch_images_attrs *at = &box->change;
    const augment_ask ask = {.seed = (uint64_t)at->seed, .crop = (int)at->crop, .cutout = (int)at->cutout, .flip = at->flip != 0,
                             .colour = at->brightness > 0 || at->contrast > 0 || at->saturation > 0, .brightness = at->brightness,
                             .contrast = at->contrast, .saturation = at->saturation, .boxes = box->scale_max > 0,
                             .nearest = box->nearest != 0, .scale_min = box->scale_min, .scale_max = box->scale_max};
    image_sizes s = {.images = px[0], .item = px[1] * px[2] * px[3], .plane = (uint32_t)(y[2] * y[3]), .own = (int)px[3],
                     .channels = (int)y[1], .h = (int)px[1], .w = (int)px[2], .H = (int)y[2], .W = (int)y[3], .by_row = divider_of(y[3])};
    const bool colour = ask.colour && operand(a, BATCH_NUMBER), mixed = operand(a, BATCH_SHARE) != NULL;
    if (shape_count(&a->out[0].sh) == 0)
        return;
    s.each = colour && ask.contrast > 0 ? s.plane : PIXELS; /* the mean is of all of an image */
    s.chunks = (s.plane + s.each - 1) / s.each;
    if (colour)
        mixed ? launch<true, true>(a, s, ask) : launch<true, false>(a, s, ask);
    else
        mixed ? launch<false, true>(a, s, ask) : launch<false, false>(a, s, ask);
}

static bool takes(const kernel_args *a)
{
    const int64_t *y = a->out[0].sh.dim, plane = y[2] * y[3], chunks = plane / PIXELS + 1, own = a->in[BATCH_PIXELS].sh.dim[3];
    if (a->in[BATCH_TABLE].type != DTYPE_F32 || plane > INT32_MAX || y[0] > INT32_MAX / chunks)
        return false;
    return ((const batch_boxes_attrs *)a->attr)->scale_max <= 0 || (plane <= INT32_MAX / own && 2 * y[0] <= INT32_MAX / y[2]);
}

CUDA_TABLE(augment) = {{.op = OP_BATCH_IMAGES, .type = DTYPE_U8, .name = "batch images", .run = batch_images, .workspace = workspace,
                        .takes = takes},
                       {.op = OP_BATCH_IMAGES, .type = DTYPE_F32, .name = "batch images of floats", .run = batch_floats, .takes = takes},
                       KERNEL_END};
