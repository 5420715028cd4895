/* test_image.c - decoding, resizing and augmentation of images. */
#include "base/hash.h"
#include "base/io.h"
#include "base/mem.h"
#include "data/augment.h"
#include "data/image.h"
#include "data/npy.h"
#include "data_files.h"
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static limits lim;
static image im;

static void open_decoder(void)
{
    lim = limits_default();
}

static void close_decoder(void)
{
    image_free(&im);
}

/* Decodes t (freed) into im. */
static status decode(const char *name, text *t)
{
    ck_assert_int_eq(t->st, ST_OK);
    status st = image_decode(name, (const unsigned char *)t->s, t->n, &lim, &im);
    text_free(t);
    return st;
}

static void is_picture(const uint8_t *px, int w, int h, int c, int tolerance)
{
    ck_assert(im.width == w && im.height == h && im.channels == c);
    for (int i = 0; i < w * h * c; i++)
        ck_assert_int_le(abs(im.px[i] - px[i]), tolerance);
}

START_TEST(every_format_gives_the_pixels)
{
    enum { W = 37, H = 19 };
    uint8_t rgb[W * H * 3], grey[W * H], wide[W * H * 4];
    text t = {0};
    open_decoder();
    picture(rgb, W, H, 3, 1);
    picture(grey, W, H, 1, 2);
    bytes_png(&t, W, H, 2, rgb);
    OK(decode("a.png", &t));
    is_picture(rgb, W, H, 3, 0);
    bytes_png(&t, W, H, 0, grey);
    OK(decode("a.jpg", &t)); /* the content counts, not the name */
    is_picture(grey, W, H, 1, 0);
    for (int i = 0; i < W * H; i++) { /* alpha is dropped */
        memcpy(wide + 4 * i, rgb + 3 * i, 3);
        wide[4 * i + 3] = (uint8_t)i;
    }
    bytes_png(&t, W, H, 6, wide);
    OK(decode("a.png", &t));
    is_picture(rgb, W, H, 3, 0);
    for (int i = 0; i < W * H; i++) {
        wide[2 * i] = grey[i];
        wide[2 * i + 1] = (uint8_t)i;
    }
    bytes_png(&t, W, H, 4, wide);
    OK(decode("a.png", &t));
    is_picture(grey, W, H, 1, 0);
    bytes_png(&t, W, H, 3, grey); /* palette of bytes_png: i, 255 - i, i / 2 */
    OK(decode("a.png", &t));
    for (int i = 0; i < W * H; i++) {
        wide[3 * i] = grey[i];
        wide[3 * i + 1] = (uint8_t)(255 - grey[i]);
        wide[3 * i + 2] = grey[i] / 2;
    }
    is_picture(wide, W, H, 3, 0);
    bytes_ppm(&t, W, H, 3, rgb);
    OK(decode("a.ppm", &t));
    is_picture(rgb, W, H, 3, 0);
    bytes_ppm(&t, W, H, 1, grey);
    OK(decode("a.pgm", &t));
    is_picture(grey, W, H, 1, 0);
    bytes_bmp24(&t, W, H, rgb);
    OK(decode("a.bmp", &t));
    is_picture(rgb, W, H, 3, 0);
    bytes_tga24(&t, W, H, rgb);
    OK(decode("a.TGA", &t));
    is_picture(rgb, W, H, 3, 0);
    for (int progressive = 0; progressive < 2; progressive++) {
        bytes_jpeg(&t, W, H, 3, rgb, progressive);
        OK(decode("a.jpg", &t));
        is_picture(rgb, W, H, 3, 60); /* lossy; the exact bytes are compared with Pillow's below */
        bytes_jpeg(&t, W, H, 1, grey, progressive);
        OK(decode("a.jpg", &t));
        is_picture(grey, W, H, 1, 60);
    }
    text_add(&t, "P5 # a comment\n# another\n3 1\t15\n"); /* largest value 15: scaled */
    text_add_n(&t, "\0\x07\x0f", 3);
    OK(decode("a.pgm", &t));
    ck_assert(im.px[0] == 0 && im.px[1] == 119 && im.px[2] == 255);
    text_add(&t, "P5 2 1 65535 ");
    text_add_n(&t, "\x80\x00\xff\xff", 4);
    OK(decode("a.pgm", &t));
    ck_assert(im.px[0] == 128 && im.px[1] == 255);
    close_decoder();
}
END_TEST

START_TEST(channels_change)
{
    static const uint8_t rgb[12] = {255, 0, 0, 0, 255, 0, 0, 0, 255, 200, 100, 50};
    static const uint8_t luma[4] = {76, 150, 29, 124}; /* Pillow's convert('L') */
    text t = {0};
    open_decoder();
    bytes_ppm(&t, 4, 1, 3, rgb);
    OK(decode("a.ppm", &t));
    OK(image_set_channels(&im, "a", 1));
    ck_assert(im.channels == 1);
    ck_assert_mem_eq(im.px, luma, 4);
    OK(image_set_channels(&im, "a", 3));
    for (int i = 0; i < 12; i++)
        ck_assert_uint_eq(im.px[i], luma[i / 3]);
    FAILS(ST_BAD_DATA, "a: an image of 3 channels where 4", image_set_channels(&im, "a", 4));
    close_decoder();
}
END_TEST

/* Sizes and the XXH3 of the result as Pillow 13.0.0 gives it: Image.resize(size, BILINEAR or NEAREST) of
 * picture(w, h, c, 3). `box` of the first row: cut out with crop() first. */
static const struct {
    int w, h, c, W, H, x, y, bw, bh;
    resize_filter filter;
    uint64_t digest;
} resizes[] = {
    /* clang-format off */
    {37, 19, 3, 16, 16, 0, 0, 37, 19, FILTER_BILINEAR, 0xf258063c22f620e2},
    {37, 19, 3, 16, 16, 0, 0, 37, 19, FILTER_NEAREST, 0xdddba66d312d1ba1},
    {37, 19, 3, 16, 16, 9, 6, 18, 9, FILTER_BILINEAR, 0x1a2f2b3993f8d212},
    {37, 19, 3, 16, 16, 9, 6, 18, 9, FILTER_NEAREST, 0xe4592d9c9b93f58c},
    {37, 19, 1, 64, 48, 0, 0, 37, 19, FILTER_BILINEAR, 0x0edac349fdfafff4},
    {37, 19, 1, 64, 48, 0, 0, 37, 19, FILTER_NEAREST, 0x9ad693200ad6f379},
    {37, 19, 1, 64, 48, 9, 6, 18, 9, FILTER_BILINEAR, 0x406b10bbfd6b8542},
    {37, 19, 1, 64, 48, 9, 6, 18, 9, FILTER_NEAREST, 0xa65943b7f17ecf5e},
    {500, 375, 3, 224, 224, 0, 0, 500, 375, FILTER_BILINEAR, 0xee15c515eeae5f17},
    {500, 375, 3, 224, 224, 0, 0, 500, 375, FILTER_NEAREST, 0x9f5470212a362ca8},
    {500, 375, 3, 224, 224, 125, 125, 250, 187, FILTER_BILINEAR, 0x845766c883909b4f},
    {500, 375, 3, 224, 224, 125, 125, 250, 187, FILTER_NEAREST, 0xc99d5f4a448d9fe9},
    {28, 28, 1, 32, 32, 0, 0, 28, 28, FILTER_BILINEAR, 0x50a082f3885cadb1},
    {28, 28, 1, 32, 32, 0, 0, 28, 28, FILTER_NEAREST, 0xd2370db9db7f7bad},
    {28, 28, 1, 32, 32, 7, 9, 14, 14, FILTER_BILINEAR, 0xa2861d83596fe4b3},
    {28, 28, 1, 32, 32, 7, 9, 14, 14, FILTER_NEAREST, 0x0997973b4d922d6b},
    {33, 70, 3, 33, 20, 0, 0, 33, 70, FILTER_BILINEAR, 0xc80d1f36adfaef2d},
    {33, 70, 3, 33, 20, 0, 0, 33, 70, FILTER_NEAREST, 0x1fd23c0fe89258c2},
    {33, 70, 3, 20, 70, 0, 0, 33, 70, FILTER_BILINEAR, 0xa0ecddb6d956b192},
    {33, 70, 3, 20, 70, 0, 0, 33, 70, FILTER_NEAREST, 0x8b37b7597352d230},
    {33, 70, 3, 20, 70, 8, 23, 16, 35, FILTER_BILINEAR, 0x09d317a06542dd08},
    {5, 4, 3, 300, 1, 0, 0, 5, 4, FILTER_BILINEAR, 0x8317ba65cfcb6d48},
    {5, 4, 3, 300, 1, 0, 0, 5, 4, FILTER_NEAREST, 0xebaaf525ec3e747f},
    {5, 4, 3, 300, 1, 1, 1, 2, 2, FILTER_BILINEAR, 0xb31d2fcda408ccca},
    {5, 4, 3, 300, 1, 1, 1, 2, 2, FILTER_NEAREST, 0x4c3e9290a0186a80},
    {1, 1, 1, 7, 5, 0, 0, 1, 1, FILTER_BILINEAR, 0xbc910da98d2cd61f},
    {1, 1, 1, 7, 5, 0, 0, 1, 1, FILTER_NEAREST, 0xbc910da98d2cd61f},
    {1, 1, 1, 7, 5, 0, 0, 1, 1, FILTER_BILINEAR, 0xbc910da98d2cd61f},
    {1, 1, 1, 7, 5, 0, 0, 1, 1, FILTER_NEAREST, 0xbc910da98d2cd61f},
    {64, 64, 3, 64, 64, 0, 0, 64, 64, FILTER_BILINEAR, 0x9ee1da70d6466976},
    {64, 64, 3, 64, 64, 0, 0, 64, 64, FILTER_NEAREST, 0x9ee1da70d6466976},
    {64, 64, 3, 64, 64, 16, 21, 32, 32, FILTER_BILINEAR, 0xc13121e0dc2a270c},
    {64, 64, 3, 64, 64, 16, 21, 32, 32, FILTER_NEAREST, 0x4ac58f93f9fb570f},
    {300, 2, 1, 3, 50, 0, 0, 300, 2, FILTER_BILINEAR, 0x617122d20819bd4d},
    {300, 2, 1, 3, 50, 0, 0, 300, 2, FILTER_NEAREST, 0x5c0d17468a58bba9},
    {300, 2, 1, 3, 50, 75, 0, 150, 1, FILTER_BILINEAR, 0xbf29665a2da2da5b},
    {300, 2, 1, 3, 50, 75, 0, 150, 1, FILTER_NEAREST, 0x541c5f094f66792f},
    /* clang-format on */
};

START_TEST(resize_is_pillows)
{
    resizer r = {0};
    image from = {0}, to = {0};
    for (size_t i = 0; i < sizeof resizes / sizeof *resizes; i++) {
        OK(image_reserve(&from, resizes[i].h, resizes[i].w, resizes[i].c));
        picture(from.px, resizes[i].w, resizes[i].h, resizes[i].c, 3);
        OK(image_resize(&r, &from, resizes[i].y, resizes[i].x, resizes[i].bh, resizes[i].bw,
                        resizes[i].filter, resizes[i].H, resizes[i].W, &to));
        uint64_t got = hash_xxh3(to.px, (size_t)(to.height * to.width * to.channels));
        ck_assert_msg(got == resizes[i].digest, "row %zu: %d x %d -> %d x %d", i, resizes[i].w, resizes[i].h,
                      resizes[i].W, resizes[i].H);
    }
    resizer_free(&r);
    image_free(&from);
    image_free(&to);
}
END_TEST

/* torchvision: Resize(side) makes the short side `side`, int(side * long / short) the other; CenterCrop's
 * corner is round((size - crop) / 2) with halves to even. */
START_TEST(short_side_and_centre)
{
    static const struct {
        int32_t h, w, side, H, W, rh, rw, y, x;
    } cases[] = {
        {375, 500, 256, 224, 224, 256, 341, 16, 58}, /* (341 - 224) / 2 = 58.5 -> 58 */
        {500, 375, 256, 224, 224, 341, 256, 58, 16}, {333, 500, 232, 224, 224, 232, 348, 4, 62},
        {100, 103, 100, 100, 100, 100, 103, 0, 2}, /* 1.5 -> 2 */
        {100, 105, 100, 100, 100, 100, 105, 0, 2}, /* 2.5 -> 2 */
        {60, 120, 0, 30, 30, 30, 60, 0, 15},       /* no side: as large as needed */
        {60, 120, 0, 30, 90, 45, 90, 8, 0},        /* 7.5 -> 8 */
        {60, 120, 16, 30, 30, 30, 60, 0, 15},      /* too small a side: likewise */
        {1, 1000, 0, 8, 8, 8, 8000, 0, 3996},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t rh, rw, y, x;
        resize_crop_plan(cases[i].h, cases[i].w, cases[i].side, cases[i].H, cases[i].W, &rh, &rw, &y, &x);
        ck_assert_msg(rh == cases[i].rh && rw == cases[i].rw && y == cases[i].y && x == cases[i].x,
                      "row %zu: %d x %d at (%d, %d)", i, rh, rw, y, x);
    }
}
END_TEST

/* Chi-squared of n counts that should be equal. */
static double chi2(const int *count, int n, int total)
{
    double want = (double)total / n, sum = 0;
    for (int i = 0; i < n; i++)
        sum += (count[i] - want) * (count[i] - want) / want;
    return sum;
}

START_TEST(draws_have_their_distributions)
{
    enum { N = 20000 };
    augment_options o;
    int dy[5] = {0}, dx[5] = {0}, flips[2] = {0}, cut_rows[28] = {0}, boxes = 0;
    double area = 0, wide = 0, bright = 0, lo = 9, hi = 0;
    OK(augment_parse("crop:2 flip cutout:1 rrc:0.25:1 jitter:0.4:0.4:0.4", &o));
    for (uint32_t i = 0; i < N; i++) {
        rng r = rng_make(1, RNG_AUGMENT, 0, i);
        augment_draw d = augment_make(&o, &r, 60, 80, 28, 28);
        ck_assert(d.dy >= -2 && d.dy <= 2 && d.dx >= -2 && d.dx <= 2);
        dy[d.dy + 2]++;
        dx[d.dx + 2]++;
        flips[d.flip]++;
        ck_assert(d.cut_y1 == d.cut_y0 + 1 && d.cut_x1 == d.cut_x0 + 1);
        cut_rows[d.cut_y0]++;
        ck_assert(d.box_h >= 1 && d.box_w >= 1 && d.box_y >= 0 && d.box_x >= 0 && d.box_y + d.box_h <= 60 &&
                  d.box_x + d.box_w <= 80);
        double a = (double)d.box_h * d.box_w / 4800, ratio = (double)d.box_w / d.box_h;
        ck_assert(a > 0.24 && ratio > 0.73 && ratio < 1.37);
        area += a;
        wide += log(ratio);
        boxes++;
        bright += (double)d.brightness;
        lo = fmin(lo, (double)d.contrast);
        hi = fmax(hi, (double)d.contrast);
    }
    /* 0.1 % points: 4 degrees of freedom 18.5, 1: 10.8, 27: 55.5 */
    ck_assert_double_lt(chi2(dy, 5, N), 18.5);
    ck_assert_double_lt(chi2(dx, 5, N), 18.5);
    ck_assert_double_lt(chi2(flips, 2, N), 10.8);
    ck_assert_double_lt(chi2(cut_rows, 28, N), 55.5);
    ck_assert_double_lt(fabs(bright / N - 1), 0.01);
    ck_assert(lo < 0.601 && lo >= 0.6 - 1e-6 && hi > 1.399 && hi <= 1.4 + 1e-6);
    ck_assert(area / boxes > 0.5 && area / boxes < 0.65); /* large boxes fit less often than 0.625 */
    ck_assert_double_lt(fabs(wide / boxes), 0.05);
}
END_TEST

START_TEST(beta_has_its_moments)
{
    static const double shapes[] = {0.2, 0.4, 1, 3};
    for (int k = 0; k < 4; k++) {
        double a = shapes[k], sum = 0, square = 0;
        enum { N = 40000 };
        for (uint32_t i = 0; i < N; i++) {
            rng r = rng_make(2, RNG_MIXUP, 0, i);
            double v = rng_beta(&r, a);
            ck_assert(v >= 0 && v <= 1);
            sum += v;
            square += (v - 0.5) * (v - 0.5);
        }
        ck_assert_double_lt(fabs(sum / N - 0.5), 0.01);
        ck_assert_double_lt(fabs(square / N - 1 / (4 * (2 * a + 1))), 0.003); /* variance of Beta(a, a) */
    }
    for (uint32_t i = 0; i < 1000; i++) {
        rng r = rng_make(2, RNG_MIXUP, 0, i);
        double v = rng_beta(&r, 1e-4);
        ck_assert(v >= 0 && v <= 1); /* both gammas may underflow: no NaN */
    }
}
END_TEST

START_TEST(jitter_changes_colours)
{
    uint8_t px[6] = {100, 150, 200, 50, 50, 50}, one[6];
    augment_draw d = {.brightness = 1, .contrast = 1, .saturation = 1};
    memcpy(one, px, 6);
    augment_jitter(one, 2, 3, &d);
    ck_assert_mem_eq(one, px, 6);
    d.brightness = 1.5f;
    augment_jitter(one, 2, 3, &d);
    ck_assert_mem_eq(one, ((uint8_t[]){150, 225, 255, 75, 75, 75}), 6);
    memcpy(one, px, 6);
    d = (augment_draw){.brightness = 1, .contrast = 1, .saturation = 0}; /* grey: the luma, 140.75 */
    augment_jitter(one, 2, 3, &d);
    ck_assert_mem_eq(one, ((uint8_t[]){141, 141, 141, 50, 50, 50}), 6);
    memcpy(one, px, 6);
    d = (augment_draw){.brightness = 1, .contrast = 0, .saturation = 1}; /* all at the mean luma, 95.4 */
    augment_jitter(one, 2, 3, &d);
    ck_assert_mem_eq(one, ((uint8_t[]){95, 95, 95, 95, 95, 95}), 6);
}
END_TEST

START_TEST(words_of_the_augment_option)
{
    augment_options o;
    OK(augment_parse("", &o));
    ck_assert(augment_is_none(&o));
    OK(augment_parse("none", &o));
    ck_assert(augment_is_none(&o));
    OK(augment_parse(" crop:4,flip  rrc jitter:0.1:0.2:0.3 cutout:8 mixup:0.2 ", &o));
    ck_assert(o.crop == 4 && o.flip && o.cutout == 8 && o.scale_min == 0.08 && o.scale_max == 1.0 &&
              o.mixup == 0.2);
    ck_assert(o.brightness == 0.1 && o.contrast == 0.2 && o.saturation == 0.3);
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"flp", "did you mean 'flip'"},
        {"crop", "a number is missing; write crop:P"},
        {"crop:2:3", "too many numbers"},
        {"crop:-1", "outside [0, 4096]"},
        {"crop:1.5", "whole number"},
        {"crop:x", "x"},
        {"flip:1", "too many"},
        {"rrc:0.9:0.2", "MIN <= MAX"},
        {"rrc:0", "MIN"},
        {"mixup:-1", "outside"},
        {"mixup:nan", "nan"},
        {"cutout:1e9", "outside"},
        {"crop:", "crop:P"},
        {"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "unknown word"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        FAILS(ST_CONFIG, bad[i].part, augment_parse(bad[i].text, &o));
}
END_TEST

const test_entry test_table[] = {
    TEST(every_format_gives_the_pixels),
    TEST(channels_change),
    TEST(resize_is_pillows),
    TEST(short_side_and_centre),
    TEST(draws_have_their_distributions),
    TEST(beta_has_its_moments),
    TEST(jitter_changes_colours),
    TEST(words_of_the_augment_option),
    {0},
};
