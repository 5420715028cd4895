/* picture_resize.c - a box of an image to another size, one axis after the other: columns first, rounded to bytes in between. */
#include "ops/picture_resize.h"
#include "ops/picture_rule.h"

#include <string.h>

/* Weights of `out` pixels over `in`: weight[o * k + j] is for pixel first[2o] + j, j < first[2o + 1]. */
static int64_t make_weights(int32_t in, int32_t out, int32_t *weight, int32_t *first)
{
    const int64_t k = picture_most_taps(in, out);
    for (int32_t o = 0; o < out; o++) {
        const picture_taps t = picture_taps_of(in, out, o);
        for (int32_t j = 0; j < t.n; j++)
            weight[o * k + j] = picture_weight(&t, j);
        first[2 * o] = t.first;
        first[2 * o + 1] = t.n;
    }
    return k;
}

/* px: h rows of `pitch` bytes. to: [h][W][c]. */
static void columns(const picture_scratch *s, int64_t k, const uint8_t *px, size_t pitch, int32_t h, int32_t c, int32_t W, uint8_t *to)
{
    for (int32_t y = 0; y < h; y++, px += pitch)
        for (int32_t x = 0; x < W; x++) {
            const int32_t *w = s->weight + x * k, n = s->first[2 * x + 1];
            const uint8_t *p = px + (size_t)s->first[2 * x] * (size_t)c;
            for (int32_t ch = 0; ch < c; ch++) {
                int32_t sum = 1 << (PICTURE_BITS - 1);
                for (int32_t j = 0; j < n; j++)
                    sum += p[j * c + ch] * w[j];
                *to++ = picture_round(sum);
            }
        }
}

/* px: rows of `pitch` bytes. to: [H][row]. */
static void rows(const picture_scratch *s, int64_t k, const uint8_t *px, size_t pitch, size_t row, int32_t H, uint8_t *to)
{
    for (int32_t y = 0; y < H; y++) {
        const int32_t *w = s->weight + y * k, n = s->first[2 * y + 1];
        const uint8_t *p = px + (size_t)s->first[2 * y] * pitch;
        for (size_t x = 0; x < row; x++) {
            int32_t sum = 1 << (PICTURE_BITS - 1);
            for (int32_t j = 0; j < n; j++)
                sum += p[(size_t)j * pitch + x] * w[j];
            *to++ = picture_round(sum);
        }
    }
}

static void nearest(const uint8_t *px, size_t pitch, int32_t h, int32_t w, int32_t c, int32_t H, int32_t W, uint8_t *to)
{
    for (int32_t y = 0; y < H; y++) {
        const uint8_t *row = px + (size_t)picture_nearest(h, H, y) * pitch;
        for (int32_t x = 0; x < W; x++, to += c)
            memcpy(to, row + (size_t)picture_nearest(w, W, x) * (size_t)c, (size_t)c);
    }
}

void picture_resize(const picture_scratch *s, const uint8_t *px, size_t pitch, int32_t h, int32_t w, int32_t c, bool nearest_pixel,
                    int32_t H, int32_t W, uint8_t *to)
{
    const size_t row = (size_t)W * (size_t)c;
    if (nearest_pixel) {
        nearest(px, pitch, h, w, c, H, W, to);
        return;
    }
    if (w != W) {
        columns(s, make_weights(w, W, s->weight, s->first), px, pitch, h, c, W, h == H ? to : s->rows);
        px = s->rows;
        pitch = row;
    }
    if (h != H)
        rows(s, make_weights(h, H, s->weight, s->first), px, pitch, row, H, to);
    else if (w == W)
        for (int32_t i = 0; i < H; i++)
            memcpy(to + (size_t)i * row, px + (size_t)i * pitch, row);
}
