/* augment.cu - BatchImages (src/ops/batch_images.c): a batch gathered from the images that stay on the device, changed by the
 * random numbers of the CPU's augmentation, cropped, mirrored and normalised, in one kernel.
 *
 * The arithmetic is src/ops/picture.c step by step, nothing contracted, so that the bits are the CPU's. The one exception is
 * the mean that a change of contrast goes towards: its sum has another order, which for pictures of up to 2^18 pixels is exact
 * in double all the same (lumas are multiples of 2^-27). */
#include "kernels/cuda/index.cuh"
#include "kernels/cuda/philox.cuh"

#define CHANNELS_MOST 32 /* whose tables fit the shared memory that a block gets without asking; more are read where they lie */
#define PIXELS        4096 /* of a block */

typedef struct image_sizes {
    int64_t images, item;
    uint32_t plane;
    int own, channels, H, W;
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
__device__ static inline float stream_factor(stream *s, const augment_ask &ask, double strength)
{
    if (strength <= 0)
        return 1.0f;
    const uint64_t hi = stream_u32(s, ask) >> 5, lo = stream_u32(s, ask) >> 6;
    const double u = (double)(hi << 26 | lo) * 0x1p-53, low = strength < 1 ? 1 - strength : 0, high = 1 + strength;
    return (float)__dadd_rn(low, __dmul_rn(high - low, u));
}

__device__ static inline drawn draw_image(const uint8_t *pixels, const image_source &from, const int64_t *view, const image_sizes &s,
                                          const augment_ask &ask, int64_t j)
{
    drawn d = {.px = NULL, .brightness = 1, .contrast = 1, .saturation = 1};
    const int64_t row = from.row[j];
    if (row < 0 || row >= s.images)
        return d;
    d.px = pixels + row * s.item;
    if (!from.number)
        return d;
    stream r = {.a = (uint64_t)view[j], .b = (uint32_t)from.number[j]};
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
__global__ static void batch_images_kernel(float *out, const uint8_t *pixels, const float *table, image_source mine, image_source other,
                                           const int64_t *view, const float *share, image_sizes s, augment_ask ask)
{
    SHARED_DYNAMIC(float, numbers);
    __shared__ drawn draw[1 + MIXED];
    const int64_t j = blockIdx.x / s.chunks;
    const uint32_t first = blockIdx.x % s.chunks * s.each, end = first + s.each < s.plane ? first + s.each : s.plane;
    const int copied = s.channels <= CHANNELS_MOST ? 256 * s.channels : 0;
    for (int i = (int)threadIdx.x; i < copied; i += (int)blockDim.x)
        numbers[i] = table[i];
    if (threadIdx.x == 0)
        draw[0] = draw_image(pixels, mine, view, s, ask, j);
    if (MIXED && threadIdx.x == 32)
        draw[MIXED] = draw_image(pixels, other, view, s, ask, j);
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

static const void *operand(const kernel_args *a, int i)
{
    return i < a->n_in && a->in[i].type != DTYPE_NONE ? a->in[i].data : NULL;
}

template <bool COLOUR, bool MIXED> static void launch(const kernel_args *a, const image_sizes &s, const augment_ask &ask)
{
    const image_source mine = {(const int64_t *)operand(a, BATCH_ROW), (const int64_t *)operand(a, BATCH_NUMBER)};
    const image_source other = {(const int64_t *)operand(a, BATCH_OTHER_ROW), (const int64_t *)operand(a, BATCH_OTHER_NUMBER)};
    const uint8_t *pixels = (const uint8_t *)a->in[BATCH_PIXELS].data;
    const float *table = (const float *)a->in[BATCH_TABLE].data, *share = (const float *)operand(a, BATCH_SHARE);
    const int64_t *view = (const int64_t *)operand(a, BATCH_VIEW);
    float *out = (float *)a->out[0].data;
    const dim3 grid((unsigned)(a->out[0].sh.dim[0] * s.chunks));
    const size_t shared = (s.channels <= CHANNELS_MOST ? 1024 * (size_t)s.channels : 0) + (COLOUR ? CUDA_THREADS * sizeof(double) : 0);
    if (s.W % 4 == 0 && is_vector(out))
        LAUNCH((batch_images_kernel<COLOUR, MIXED, 4>), grid, CUDA_THREADS, shared, a->queue, out, pixels, table, mine, other, view, share,
               s, ask);
    else
        LAUNCH((batch_images_kernel<COLOUR, MIXED, 1>), grid, CUDA_THREADS, shared, a->queue, out, pixels, table, mine, other, view, share,
               s, ask);
}

static void batch_images(const kernel_args *a)
{
    const int64_t *px = a->in[BATCH_PIXELS].sh.dim;
    const batch_images_attrs *at = (const batch_images_attrs *)a->attr;
    const augment_ask ask = {.seed = (uint64_t)at->seed, .crop = (int)at->crop, .cutout = (int)at->cutout, .flip = at->flip != 0,
                             .colour = at->brightness > 0 || at->contrast > 0 || at->saturation > 0, .brightness = at->brightness,
                             .contrast = at->contrast, .saturation = at->saturation};
    image_sizes s = {.images = px[0], .item = px[1] * px[2] * px[3], .plane = (uint32_t)(px[1] * px[2]), .own = (int)px[3],
                     .channels = (int)a->in[BATCH_TABLE].sh.dim[0], .H = (int)px[1], .W = (int)px[2], .by_row = divider_of(px[2])};
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
    const int64_t *px = a->in[BATCH_PIXELS].sh.dim, plane = px[1] * px[2], chunks = plane / PIXELS + 1;
    return a->in[BATCH_TABLE].type == DTYPE_F32 && plane <= INT32_MAX && a->out[0].sh.dim[0] <= INT32_MAX / chunks;
}

CUDA_TABLE(augment) = {{.op = OP_BATCH_IMAGES, .type = DTYPE_U8, .name = "batch images", .run = batch_images, .takes = takes}, KERNEL_END};
