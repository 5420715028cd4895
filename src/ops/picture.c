/* picture.c - what is drawn for a picture, the changes of colour, and the way to planes of floats. */
#include "ops/picture.h"
#include "ops/picture_rule.h"

#include <stddef.h>

/* ---- drawing ---- */

static double between(rng *r, double low, double high)
{
    return low + (high - low) * rng_uniform(r);
}

/* The box of a random resized crop: some tries, then the largest centred box whose aspect is allowed. */
static void draw_box(const augment_options *o, rng *r, int32_t h, int32_t w, augment_draw *d)
{
    for (int try = 0; try < PICTURE_TRIES; try++) {
        const double u = rng_uniform(r), v = rng_uniform(r);
        picture_box(h, w, o->scale_min, o->scale_max, u, v, &d->box_h, &d->box_w);
        if (d->box_w < 1 || d->box_h < 1 || d->box_w > w || d->box_h > h)
            continue;
        d->box_y = (int32_t)rng_below(r, (uint32_t)(h - d->box_h) + 1);
        d->box_x = (int32_t)rng_below(r, (uint32_t)(w - d->box_w) + 1);
        return;
    }
    picture_middle_box(h, w, &d->box_h, &d->box_w);
    d->box_y = (h - d->box_h) / 2;
    d->box_x = (w - d->box_w) / 2;
}

static float draw_factor(rng *r, double strength)
{
    return strength > 0 ? (float)between(r, strength < 1 ? 1 - strength : 0, 1 + strength) : 1.0f;
}

augment_draw augment_make(const augment_options *o, rng *r, int32_t h, int32_t w, int32_t H, int32_t W)
{
    augment_draw d = {0};
    if (o->scale_max > 0)
        draw_box(o, r, h, w, &d);
    d.brightness = draw_factor(r, o->brightness);
    d.contrast = draw_factor(r, o->contrast);
    d.saturation = draw_factor(r, o->saturation);
    if (o->crop > 0) {
        d.dy = (int32_t)rng_below(r, 2 * (uint32_t)o->crop + 1) - o->crop;
        d.dx = (int32_t)rng_below(r, 2 * (uint32_t)o->crop + 1) - o->crop;
    }
    d.flip = o->flip && rng_below(r, 2);
    if (o->cutout > 0) {
        int32_t y = (int32_t)rng_below(r, (uint32_t)H) - o->cutout / 2,
                x = (int32_t)rng_below(r, (uint32_t)W) - o->cutout / 2;
        d.cut_y0 = y < 0 ? 0 : y;
        d.cut_x0 = x < 0 ? 0 : x;
        d.cut_y1 = y + o->cutout > H ? H : y + o->cutout;
        d.cut_x1 = x + o->cutout > W ? W : x + o->cutout;
    }
    return d;
}

static uint8_t to_pixel(float v)
{
    return v <= 0 ? 0 : v >= 255 ? 255 : (uint8_t)(v + 0.5f);
}

/* Luma of ITU-R BT.601, as Pillow and torchvision take it. */
static float luma(const uint8_t *p, int32_t c)
{
    return c == 3 ? 0.299f * p[0] + 0.587f * p[1] + 0.114f * p[2] : p[0];
}

void augment_jitter(uint8_t *px, int64_t n, int32_t c, const augment_draw *d)
{
    bool bright = d->brightness < 1 || d->brightness > 1, contrast = d->contrast < 1 || d->contrast > 1;
    bool saturation = c == 3 && (d->saturation < 1 || d->saturation > 1);
    if (bright)
        for (int64_t i = 0; i < n * c; i++)
            px[i] = to_pixel(px[i] * d->brightness);
    if (contrast) { /* towards or away from the image's mean luma */
        double sum = 0;
        for (int64_t i = 0; i < n; i++)
            sum += (double)luma(px + i * c, c);
        float mean = (float)(sum / (double)n);
        for (int64_t i = 0; i < n * c; i++)
            px[i] = to_pixel(mean + (px[i] - mean) * d->contrast);
    }
    if (saturation) /* towards or away from the pixel's luma */
        for (int64_t i = 0; i < n; i++) {
            uint8_t *p = px + i * c;
            float grey = luma(p, c);
            for (int k = 0; k < 3; k++)
                p[k] = to_pixel(grey + (p[k] - grey) * d->saturation);
        }
}

/* ---- to planes ---- */

static void fill(float *to, int32_t n, float v)
{
    for (int32_t i = 0; i < n; i++)
        to[i] = v;
}

/* Which columns of a row of W come from the image: [*x0, *x1). */
static void columns(const augment_draw *d, int32_t W, int32_t *x0, int32_t *x1)
{
    *x0 = d->dx < 0 ? -d->dx : 0;
    *x1 = d->dx > 0 ? W - d->dx : W;
    if (*x0 > W)
        *x0 = W;
    if (*x1 < *x0)
        *x1 = *x0;
}

static void cut_out(int32_t channels, int32_t H, int32_t W, const augment_draw *d, float *to)
{
    for (int32_t k = 0; k < channels; k++)
        for (int32_t y = d->cut_y0; y < d->cut_y1; y++)
            fill(to + ((size_t)k * (size_t)H + (size_t)y) * (size_t)W + d->cut_x0, d->cut_x1 - d->cut_x0, 0);
}

/* A row of a plane from every own-th byte of `row`. */
static void put_row(const uint8_t *row, int32_t own, const float *lut, const augment_draw *d, int32_t W, int32_t x0, int32_t x1,
                    float *to)
{
    if (d->flip) {
        fill(to + (W - x0), x0, lut[0]);
        fill(to, W - x1, lut[0]);
        for (int32_t x = x0; x < x1; x++, row += own)
            to[W - 1 - x] = lut[*row];
    } else {
        fill(to, x0, lut[0]);
        fill(to + x1, W - x1, lut[0]);
        for (int32_t x = x0; x < x1; x++, row += own)
            to[x] = lut[*row];
    }
}

void picture_planes(const uint8_t *px, int32_t own, const float *table, int32_t channels, int32_t H, int32_t W,
                    const augment_draw *d, float *to)
{
    float *at = to;
    int32_t x0, x1;
    columns(d, W, &x0, &x1);
    for (int32_t k = 0; k < channels; k++) {
        const float *lut = table + 256 * (size_t)k;
        const uint8_t *plane = px + (own == 1 ? 0 : k);
        for (int32_t y = 0; y < H; y++, at += W) {
            int32_t sy = y + d->dy;
            if (sy < 0 || sy >= H)
                fill(at, W, lut[0]);
            else
                put_row(plane + ((size_t)sy * (size_t)W + (size_t)(x0 + d->dx)) * (size_t)own, own, lut, d, W, x0, x1, at);
        }
    }
    cut_out(channels, H, W, d, to);
}

void picture_float_planes(const float *px, const float *mean, const float *std, int32_t channels, int32_t H, int32_t W,
                          const augment_draw *d, float *to)
{
    float *at = to;
    int32_t x0, x1;
    columns(d, W, &x0, &x1);
    for (int32_t k = 0; k < channels; k++, px += (size_t)H * (size_t)W) {
        const float zero = (0 - mean[k]) / std[k];
        for (int32_t y = 0; y < H; y++, at += W) {
            int32_t sy = y + d->dy;
            fill(at, W, zero);
            if (sy < 0 || sy >= H)
                continue;
            const float *row = px + (size_t)sy * (size_t)W + (size_t)(x0 + d->dx);
            for (int32_t x = x0; x < x1; x++, row++)
                at[d->flip ? W - 1 - x : x] = (*row - mean[k]) / std[k];
        }
    }
    cut_out(channels, H, W, d, to);
}

void picture_mix(float *to, const float *other, float share, int64_t n)
{
    for (int64_t k = 0; k < n; k++)
        to[k] = share * to[k] + (1 - share) * other[k];
}
