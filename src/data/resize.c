/* resize.c - pixels to another size: room for what src/ops/picture_resize.c does, and the plan of centre crops.
 *
 * The arithmetic (ops/picture_rule.h) is Pillow's (Resample.c: triangle filter of support max(1, in/out), weights in fixed point
 * of 22 bits, columns first, rounded to uint8 between the axes), so that a model which was trained on images
 * resized by Pillow or torchvision sees the same bytes. (Pillow 13 takes the rows first where they shrink and
 * the columns grow; there a few values differ by one.) A box is resized as if it had been cut out first. */
#include "data/image.h"

#include "base/mem.h"
#include "ops/picture_resize.h"
#include "ops/picture_rule.h"

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

/* Room for the weights of `out` pixels over `in`. */
static status reserve_weights(resizer *r, int32_t in, int32_t out)
{
    size_t n;
    if (!size_mul((size_t)out, (size_t)picture_most_taps(in, out), &n))
        return fail(ST_BAD_DATA, "an image side of %d pixels cannot become %d", in, out);
    TRY(reserve(&r->weight, &r->weight_cap, n, sizeof *r->weight));
    return reserve(&r->first, &r->first_cap, (size_t)out * 2, sizeof *r->first);
}

status image_resize(resizer *r, const image *from, int32_t y, int32_t x, int32_t h, int32_t w,
                    resize_filter filter, int32_t H, int32_t W, image *to)
{
    const int32_t c = from->channels;
    const size_t pitch = (size_t)from->width * (size_t)c;
    TRY(image_reserve(to, H, W, c));
    if (filter != FILTER_NEAREST && w != W) {
        size_t n;
        if (!size_mul((size_t)h, (size_t)W * (size_t)c, &n) || n > ROWS_MAX)
            return fail(ST_BAD_DATA, "an image of %d x %d pixels is too long to become %d x %d", w, h, W, H);
        TRY(reserve_weights(r, w, W));
        if (h != H)
            TRY(reserve(&r->rows, &r->rows_cap, n, 1));
    }
    if (filter != FILTER_NEAREST && h != H)
        TRY(reserve_weights(r, h, H));
    picture_resize(&(picture_scratch){r->weight, r->first, r->rows}, from->px + (size_t)y * pitch + (size_t)x * (size_t)c, pitch, h, w, c,
                   filter == FILTER_NEAREST, H, W, to->px);
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
