/* augment.c - the words of data.augment, and the share of mixup. */
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

/* ---- mixup ---- */

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
