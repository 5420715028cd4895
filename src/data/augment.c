/* augment.c - what is drawn for an image, and the changes of colour. */
#include "data/augment.h"

#include "base/text.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* ---- "crop:2 flip" ---- */

#define WORD_MAX 64

/* One word of the option: a name and up to three numbers into fields of augment_options. */
typedef struct word {
    const char *name, *usage;
    int least, most;  /* numbers that may follow */
    double low, high; /* their range */
    status (*set)(augment_options *o, const double *v, int n, const char *usage);
} word;

static status set_crop(augment_options *o, const double *v, int n, const char *usage)
{
    (void)n;
    if (v[0] != floor(v[0]))
        return fail(ST_CONFIG, "augment: %s: the padding is a whole number of pixels", usage);
    o->crop = (int32_t)v[0];
    return ST_OK;
}

static status set_flip(augment_options *o, const double *v, int n, const char *usage)
{
    (void)v, (void)n, (void)usage;
    o->flip = true;
    return ST_OK;
}

static status set_rrc(augment_options *o, const double *v, int n, const char *usage)
{
    o->scale_min = n > 0 ? v[0] : 0.08;
    o->scale_max = n > 1 ? v[1] : 1.0;
    if (o->scale_min <= 0 || o->scale_min > o->scale_max)
        return fail(ST_CONFIG, "augment: %s: 0 < MIN <= MAX <= 1 is needed", usage);
    return ST_OK;
}

static status set_jitter(augment_options *o, const double *v, int n, const char *usage)
{
    (void)usage;
    o->brightness = v[0];
    o->contrast = n > 1 ? v[1] : 0;
    o->saturation = n > 2 ? v[2] : 0;
    return ST_OK;
}

static status set_cutout(augment_options *o, const double *v, int n, const char *usage)
{
    (void)n;
    if (v[0] != floor(v[0]))
        return fail(ST_CONFIG, "augment: %s: the side is a whole number of pixels", usage);
    o->cutout = (int32_t)v[0];
    return ST_OK;
}

static status set_mixup(augment_options *o, const double *v, int n, const char *usage)
{
    (void)n, (void)usage;
    o->mixup = v[0];
    return ST_OK;
}

static const word words[] = {
    {"crop", "crop:P", 1, 1, 0, 4096, set_crop},
    {"flip", "flip", 0, 0, 0, 0, set_flip},
    {"rrc", "rrc[:MIN[:MAX]]", 0, 2, 0, 1, set_rrc},
    {"jitter", "jitter:B[:C[:S]]", 1, 3, 0, 10, set_jitter},
    {"cutout", "cutout:S", 1, 1, 0, 65535, set_cutout},
    {"mixup", "mixup:A", 1, 1, 0, 100, set_mixup},
};

/* The numbers after the name, separated by ':'. */
static status read_numbers(const word *w, char *s, double *v, int *n)
{
    *n = 0;
    while (s) {
        char *next = strchr(s, ':');
        if (next)
            *next++ = 0;
        if (*n == w->most)
            return fail(ST_CONFIG, "augment: too many numbers; write %s", w->usage);
        TRY(parse_double(s, w->usage, &v[*n]));
        if (v[*n] < w->low || v[*n] > w->high)
            return fail(ST_CONFIG, "augment: %s: %s is outside [%g, %g]", w->usage, s, w->low, w->high);
        ++*n;
        s = next;
    }
    if (*n < w->least)
        return fail(ST_CONFIG, "augment: a number is missing; write %s", w->usage);
    return ST_OK;
}

static status parse_word(char *s, augment_options *out)
{
    double v[3] = {0};
    int n;
    char *colon = strchr(s, ':');
    if (colon)
        *colon++ = 0;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(words[i].name, s) == 0) {
            TRY(read_numbers(&words[i], colon, v, &n));
            return words[i].set(out, v, n, words[i].usage);
        }
    const char *near = nearest_name(s, &words[0].name, sizeof words / sizeof *words, sizeof *words);
    return fail(
        ST_CONFIG,
        "augment: unknown word '%s'%s%s%s (crop:P flip rrc[:MIN[:MAX]] jitter:B[:C[:S]] cutout:S mixup:A)", s,
        near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

status augment_parse(const char *s, augment_options *out)
{
    static const char blanks[] = " \t,";
    *out = (augment_options){0};
    if (strcmp(s, "none") == 0)
        return ST_OK;
    for (s += strspn(s, blanks); *s; s += strspn(s, blanks)) {
        char one[WORD_MAX];
        size_t len = strcspn(s, blanks);
        if (len >= sizeof one)
            return fail(ST_CONFIG, "augment: unknown word '%.*s'", WORD_MAX, s);
        memcpy(one, s, len);
        one[len] = 0;
        TRY(parse_word(one, out));
        s += len;
    }
    return ST_OK;
}

bool augment_is_none(const augment_options *o)
{
    return o->crop == 0 && !o->flip && o->scale_max <= 0 && o->brightness <= 0 && o->contrast <= 0 &&
           o->saturation <= 0 && o->cutout == 0 && o->mixup <= 0;
}

/* ---- drawing ---- */

static double between(rng *r, double low, double high)
{
    return low + (high - low) * rng_uniform(r);
}

/* The box of a random resized crop: ten tries, then the largest centred box whose aspect is within 3/4..4/3
 * (torchvision's RandomResizedCrop.get_params). */
static void draw_box(const augment_options *o, rng *r, int32_t h, int32_t w, augment_draw *d)
{
    const double low = 3.0 / 4.0, high = 4.0 / 3.0, area = (double)h * w, aspect = (double)w / h;
    for (int try = 0; try < 10; try++) {
        double a = area * between(r, o->scale_min, o->scale_max),
               ratio = exp(between(r, log(low), log(high)));
        int32_t bw = (int32_t)lrint(sqrt(a * ratio)), bh = (int32_t)lrint(sqrt(a / ratio));
        if (bw < 1 || bh < 1 || bw > w || bh > h)
            continue;
        d->box_y = (int32_t)rng_below(r, (uint32_t)(h - bh) + 1);
        d->box_x = (int32_t)rng_below(r, (uint32_t)(w - bw) + 1);
        d->box_h = bh;
        d->box_w = bw;
        return;
    }
    d->box_h = aspect < low ? (int32_t)lrint(w / low) : h;
    d->box_w = aspect > high ? (int32_t)lrint(h * high) : w;
    d->box_h = d->box_h > h ? h : d->box_h < 1 ? 1 : d->box_h;
    d->box_w = d->box_w > w ? w : d->box_w < 1 ? 1 : d->box_w;
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

/* Gamma(a, 1): Marsaglia and Tsang, "A simple method for generating gamma variables", 2000; a < 1 by their
 * boost. */
static double gamma_draw(rng *r, double a)
{
    double boost = 1;
    if (a < 1) {
        boost = pow(1 - rng_uniform(r), 1 / a);
        a += 1;
    }
    double d = a - 1.0 / 3.0, c = 1 / sqrt(9 * d);
    for (;;) {
        double x = rng_normal(r), v = 1 + c * x;
        if (v <= 0)
            continue;
        v = v * v * v;
        if (log(1 - rng_uniform(r)) < 0.5 * x * x + d - d * v + d * log(v))
            return boost * d * v;
    }
}

double rng_beta(rng *r, double a)
{
    double x = gamma_draw(r, a), y = gamma_draw(r, a);
    return x + y > 0 ? x / (x + y) : 0.5; /* both underflow only for tiny a */
}
