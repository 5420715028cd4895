/* resize.c - pixels to another size, one axis after the other.
 *
 * The arithmetic is Pillow's (Resample.c: triangle filter of support max(1, in/out), weights in fixed point
 * of 22 bits, columns first, rounded to uint8 between the axes), so that a model which was trained on images
 * resized by Pillow or torchvision sees the same bytes. (Pillow 13 takes the rows first where they shrink and
 * the columns grow; there a few values differ by one.) A box is resized as if it had been cut out first. */
#include "data/image.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

#define BITS 22
#define ROWS_MAX                                                                                             \
    ((size_t)1 << 30) /* bytes between the two axes: a strip of 1 x 65 million pixels would need more */

void resizer_free(resizer *r)
{
    mem_free(r->rows);
    mem_free(r->weight);
    mem_free(r->first);
    *r = (resizer){0};
}

static status reserve(void *inout, size_t *cap, size_t n, size_t size)
{
    if (n <= *cap)
        return ST_OK;
    TRY(mem_grow(inout, n, size));
    *cap = n;
    return ST_OK;
}

static double triangle(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

/* Weights of `out` pixels over `in`: r->weight[o * k + j] is for pixel first[2o] + j, j < first[2o + 1]. */
static status make_weights(resizer *r, int32_t in, int32_t out, int32_t *k)
{
    double scale = (double)in / out, wide = scale < 1 ? 1 : scale;
    *k = (int32_t)ceil(wide) * 2 + 1;
    size_t n;
    if (!size_mul((size_t)out, (size_t)*k, &n))
        return fail(ST_BAD_DATA, "an image side of %d pixels cannot become %d", in, out);
    TRY(reserve(&r->weight, &r->weight_cap, n, sizeof *r->weight));
    TRY(reserve(&r->first, &r->first_cap, (size_t)out * 2, sizeof *r->first));
    for (int32_t o = 0; o < out; o++) {
        double centre = (o + 0.5) * scale, sum = 0;
        int32_t from = (int32_t)(centre - wide + 0.5), to = (int32_t)(centre + wide + 0.5);
        from = from < 0 ? 0 : from;
        to = to > in ? in : to;
        int32_t *w = r->weight + (size_t)o * (size_t)*k;
        for (int32_t j = from; j < to; j++)
            sum += triangle((j - centre + 0.5) * (1 / wide));
        for (int32_t j = from; j < to; j++) {
            double v = triangle((j - centre + 0.5) * (1 / wide));
            w[j - from] = (int32_t)(0.5 + (sum > 0 ? v / sum : 0) * (1 << BITS));
        }
        r->first[2 * o] = from;
        r->first[2 * o + 1] = to - from;
    }
    return ST_OK;
}

static uint8_t round_pixel(int32_t v)
{
    v >>= BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* px: h rows of `pitch` bytes, w pixels each, c channels. to: [h][W][c]. */
static void columns(const resizer *r, int32_t k, const uint8_t *px, size_t pitch, int32_t h, int32_t c,
                    int32_t W, uint8_t *to)
{
    for (int32_t y = 0; y < h; y++, px += pitch)
        for (int32_t x = 0; x < W; x++) {
            const int32_t *w = r->weight + (size_t)x * (size_t)k, n = r->first[2 * x + 1];
            const uint8_t *p = px + (size_t)r->first[2 * x] * (size_t)c;
            for (int32_t ch = 0; ch < c; ch++) {
                int32_t sum = 1 << (BITS - 1);
                for (int32_t j = 0; j < n; j++)
                    sum += p[j * c + ch] * w[j];
                *to++ = round_pixel(sum);
            }
        }
}

/* px: rows of `pitch` bytes. to: [H][row]. */
static void rows(const resizer *r, int32_t k, const uint8_t *px, size_t pitch, size_t row, int32_t H,
                 uint8_t *to)
{
    for (int32_t y = 0; y < H; y++) {
        const int32_t *w = r->weight + (size_t)y * (size_t)k, n = r->first[2 * y + 1];
        const uint8_t *p = px + (size_t)r->first[2 * y] * pitch;
        for (size_t x = 0; x < row; x++) {
            int32_t sum = 1 << (BITS - 1);
            for (int32_t j = 0; j < n; j++)
                sum += p[(size_t)j * pitch + x] * w[j];
            *to++ = round_pixel(sum);
        }
    }
}

/* floor((i + 0.5) * in / out), exactly. */
static size_t nearest_pixel(int32_t i, int32_t in, int32_t out)
{
    return (size_t)((2 * (int64_t)i + 1) * in / (2 * (int64_t)out));
}

static void nearest(const uint8_t *px, size_t pitch, int32_t h, int32_t w, int32_t c, int32_t H, int32_t W,
                    uint8_t *to)
{
    for (int32_t y = 0; y < H; y++) {
        const uint8_t *row = px + nearest_pixel(y, h, H) * pitch;
        for (int32_t x = 0; x < W; x++, to += c)
            memcpy(to, row + nearest_pixel(x, w, W) * (size_t)c, (size_t)c);
    }
}

status image_resize(resizer *r, const image *from, int32_t y, int32_t x, int32_t h, int32_t w,
                    resize_filter filter, int32_t H, int32_t W, image *to)
{
    int32_t c = from->channels, k;
    size_t pitch = (size_t)from->width * (size_t)c, row = (size_t)W * (size_t)c;
    const uint8_t *px = from->px + (size_t)y * pitch + (size_t)x * (size_t)c;
    TRY(image_reserve(to, H, W, c));
    if (filter == FILTER_NEAREST) {
        nearest(px, pitch, h, w, c, H, W, to->px);
        return ST_OK;
    }
    if (w != W) {
        size_t n;
        if (!size_mul((size_t)h, row, &n) || n > ROWS_MAX)
            return fail(ST_BAD_DATA, "an image of %d x %d pixels is too long to become %d x %d", w, h, W, H);
        TRY(make_weights(r, w, W, &k));
        if (h != H)
            TRY(reserve(&r->rows, &r->rows_cap, n, 1));
        columns(r, k, px, pitch, h, c, W, h == H ? to->px : r->rows);
        px = r->rows;
        pitch = row;
    }
    if (h != H) {
        TRY(make_weights(r, h, H, &k));
        rows(r, k, px, pitch, row, H, to->px);
    } else if (w == W) {
        for (int32_t i = 0; i < H; i++)
            memcpy(to->px + (size_t)i * row, px + (size_t)i * pitch, row);
    }
    return ST_OK;
}

/* Half of n, halves to the even number (Python's round, which torchvision's CenterCrop uses). */
static int32_t half(int32_t n)
{
    return n % 4 == 3 ? n / 2 + 1 : n / 2;
}

void resize_crop_plan(int32_t h, int32_t w, int32_t side, int32_t H, int32_t W, int32_t *rh, int32_t *rw,
                      int32_t *y, int32_t *x)
{
    double long_h = (double)side * h / w, long_w = (double)side * w / h;
    *rh = h < w ? side : (int32_t)long_h;
    *rw = h < w ? (int32_t)long_w : side;
    if (*rh < H || *rw < W) { /* no side given, or too small to cover H x W */
        double by_w = (double)W * h / w, by_h = (double)H * w / h;
        bool taller = by_w >= H;
        *rw = taller ? W : (int32_t)by_h;
        *rh = taller ? (int32_t)by_w : H;
        *rw = *rw < W ? W : *rw;
    }
    *y = half(*rh - H);
    *x = half(*rw - W);
}
