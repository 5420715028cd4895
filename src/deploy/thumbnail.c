/* thumbnail.c - small pictures of samples, by averaging the pixels that fall into each pixel of the small one. */
#include "deploy/validation.h"

#include <math.h>

/* Pixels [from, to) of the source that make pixel i of `n` out of `size`; at least one. */
static void span(int i, int n, int size, int *from, int *to)
{
    *from = (int)((int64_t)i * size / n);
    *to = (int)((int64_t)(i + 1) * size / n);
    if (*to <= *from)
        *to = *from + 1;
}

/* The size that keeps the shape and fits into `side`; small pictures stay as they are. */
static void fit(int width, int height, int side, thumbnail *out)
{
    int longest = width > height ? width : height;
    out->width = longest <= side ? width : (int)((int64_t)width * side / longest);
    out->height = longest <= side ? height : (int)((int64_t)height * side / longest);
    out->width += out->width == 0;
    out->height += out->height == 0;
}

static status check(int width, int height, int channels, bool known, int side)
{
    if (width < 1 || height < 1 || side < 1 || !known)
        return fail(ST_BAD_DATA, "no thumbnail can be made of a picture of %d x %d with %d channels", width,
                    height, channels);
    return ST_OK;
}

status thumbnail_from_bytes(arena *mem, const uint8_t *pixels, int width, int height, int channels, int side,
                            thumbnail *out)
{
    uint8_t *to;
    *out = (thumbnail){.channels = channels == 1 ? 1 : 3};
    TRY(check(width, height, channels, channels == 1 || channels == 3 || channels == 4, side));
    fit(width, height, side, out);
    TRY(arena_alloc(mem, &to, (size_t)out->width * (size_t)out->height, (size_t)out->channels));
    out->pixels = to;
    for (int y = 0; y < out->height; y++)
        for (int x = 0; x < out->width; x++)
            for (int c = 0; c < out->channels; c++) {
                int x0, x1, y0, y1;
                uint64_t sum = 0;
                span(x, out->width, width, &x0, &x1);
                span(y, out->height, height, &y0, &y1);
                for (int v = y0; v < y1; v++)
                    for (int u = x0; u < x1; u++)
                        sum += pixels[((size_t)v * (size_t)width + (size_t)u) * (size_t)channels + (size_t)c];
                uint64_t n = (uint64_t)(x1 - x0) * (uint64_t)(y1 - y0);
                *to++ = (uint8_t)((sum + n / 2) / n);
            }
    return ST_OK;
}

static uint8_t to_byte(double v)
{
    return v > 0 ? (uint8_t)lround(v < 255 ? v : 255) : 0; /* a NaN is black */
}

status thumbnail_from_input(arena *mem, const float *x, int channels, int height, int width,
                            const double *mean, const double *std, int side, thumbnail *out)
{
    uint8_t *pixels;
    status st = check(width, height, channels, channels == 1 || channels == 3, side);
    *out = (thumbnail){0};
    TRY(st);
    size_t plane = (size_t)width * (size_t)height, n = (size_t)channels;
    TRY(mem_alloc(&pixels, plane, n));
    for (size_t i = 0; i < plane; i++)
        for (size_t c = 0; c < n; c++)
            pixels[i * n + c] = to_byte(255 * ((double)x[c * plane + i] * std[c] + mean[c]));
    st = thumbnail_from_bytes(mem, pixels, width, height, channels, side, out);
    mem_free(pixels);
    return st;
}
