/* histogram.c - counts, thresholds, scales. */
#include "quant/histogram.h"

#include <math.h>
#include <string.h>

enum {
    BINS = 2 * HISTOGRAM_SIDE,
    EXPONENT_MIN = -100, /* below 2^-89 numbers share the bins next to zero */
    STEPS = 100,         /* thresholds that are tried */
    LEVELS = 255
};
#define CUT_MOST  1e-3    /* share of the numbers beyond a threshold by entropy: a constant background is a peak that would push it below */
#define SCALE_MIN 0x1p-60 /* so that the product of two scales is a normal float */

status histogram_new(histogram *h, bool bins)
{
    *h = (histogram){.min = INFINITY, .max = -INFINITY, .exponent = EXPONENT_MIN};
    return bins ? mem_alloc(&h->bin, BINS, sizeof *h->bin) : ST_OK;
}

void histogram_free(histogram *h)
{
    mem_free(h->bin);
    *h = (histogram){0};
}

/* ---- counting ---- */

/* Two bins become one, counted from zero outwards in both directions. */
static void join_bins(histogram *h)
{
    uint64_t *b = h->bin;
    uint64_t joined[BINS] = {0};
    for (int i = 0; i < BINS; i++) {
        int from = i - HISTOGRAM_SIDE, to = from >= 0 ? from / 2 : -((-from + 1) / 2);
        joined[to + HISTOGRAM_SIDE] += b[i];
    }
    memcpy(b, joined, sizeof joined);
    h->exponent++;
}

static void make_room(histogram *h, double largest)
{
    int exponent;
    if (largest == 0)
        return;
    (void)frexp(largest, &exponent); /* largest < 2^exponent */
    exponent -= 11;                  /* 2^11 = HISTOGRAM_SIDE */
    if (h->n == h->zeros && exponent > h->exponent)
        h->exponent = exponent; /* nothing is counted yet */
    while (h->exponent < exponent)
        join_bins(h);
}

bool histogram_add(histogram *h, const float *x, size_t n)
{
    float lo = INFINITY, hi = -INFINITY, odd = 0;
    for (size_t i = 0; i < n; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
        odd += x[i] * 0.0f; /* NaN stays; infinity becomes NaN */
    }
    if (n == 0)
        return true;
    if (odd != 0.0f)
        return false;
    if (h->bin) {
        make_room(h, fmax(-(double)lo, (double)hi));
        float per_bin = ldexpf(1.0f, -h->exponent);
        uint64_t zeros = 0;
        for (size_t i = 0; i < n; i++) {
            float y = x[i] * per_bin;
            int at = (int)y;
            at -= y < (float)at; /* floor */
            zeros += x[i] == 0.0f;
            h->bin[at + HISTOGRAM_SIDE] += x[i] != 0.0f;
        }
        h->zeros += zeros;
    }
    h->n += n;
    h->min = fmin(h->min, (double)lo);
    h->max = fmax(h->max, (double)hi);
    return true;
}

/* ---- scales ---- */

static double round_up_to_power(double x)
{
    int e;
    double f = frexp(x, &e);
    return ldexp(1.0, f == 0.5 ? e - 1 : e);
}

quant_params quant_params_of(quant_range r, const quant_scheme *s, bool positive)
{
    int low = quant_low(s->activations), high = quant_high(s->activations);
    double lo = positive ? 0 : fmin(r.lo, 0), hi = fmax(r.hi, 0), scale;
    quant_params p = {.scale = 1, .zero = low};
    bool symmetric = s->symmetric || s->power_of_two, is_signed = s->activations == DTYPE_I8;
    if (symmetric && is_signed)
        scale = fmax(-lo, hi) / 127;
    else if (symmetric && !positive)
        scale = fmax(-lo / 128, hi / 127);
    else
        scale = (hi - lo) / (high - low);
    if (symmetric)
        p.zero = is_signed || positive ? 0 : 128;
    if (!(scale > 0))
        return p;
    scale = fmax(scale, SCALE_MIN);
    p.scale = (float)(s->power_of_two ? round_up_to_power(scale) : scale);
    if (!symmetric)
        p.zero = (int)fmin(fmax(low + rint(-lo / (double)p.scale), low), high);
    return p;
}

double histogram_error(const histogram *h, const quant_scheme *s, quant_params p)
{
    double low = quant_low(s->activations) - p.zero, high = quant_high(s->activations) - p.zero;
    double width = ldexp(1.0, h->exponent), sum = 0, per_step = 1 / (double)p.scale;
    for (int i = 0; i < BINS; i++) {
        if (!h->bin[i])
            continue;
        double x = (i - HISTOGRAM_SIDE + 0.5) * width; /* the middle of the bin, which lies within what was seen */
        x = fmin(fmax(x, h->min), h->max);
        double d = fmin(fmax(rint(x * per_step), low), high) * (double)p.scale - x;
        sum += (double)h->bin[i] * d * d;
    }
    return h->n ? sum / (double)h->n : 0;
}

/* ---- thresholds ---- */

static quant_range whole_range(const histogram *h, bool positive)
{
    if (h->min > h->max)
        return (quant_range){0, 0};
    return (quant_range){positive ? 0 : fmin(h->min, 0), fmax(h->max, 0)};
}

/* Where the first `share` of all numbers, counted from below, ends. */
static double quantile(const histogram *h, double share)
{
    double wanted = share * (double)h->n, seen = 0, width = ldexp(1.0, h->exponent);
    for (int i = 0; i < BINS; i++) {
        if (i == HISTOGRAM_SIDE) {
            seen += (double)h->zeros;
            if (seen >= wanted && h->zeros)
                return 0;
        }
        if (h->bin[i] && seen + (double)h->bin[i] >= wanted) {
            double x = (i - HISTOGRAM_SIDE + (wanted - seen) / (double)h->bin[i]) * width;
            return fmin(fmax(x, h->min), h->max);
        }
        seen += (double)h->bin[i];
    }
    return h->max;
}

/* KL divergence of the numbers, cut to bins [from, to), from what `levels` levels make of them. */
static double divergence(const histogram *h, int from, int to, int levels)
{
    const uint64_t *b = h->bin;
    double below = 0, above = 0, inside = 0, kl = 0;
    for (int i = 0; i < BINS; i++)
        *(i < from ? &below : i >= to ? &above : &inside) += (double)b[i];
    double total = below + inside + above, count = to - from, least = 1e-4 / count;
    if (!(inside > 0) || below + above > CUT_MOST * (double)h->n)
        return INFINITY;
    for (int l = 0; l < levels; l++) {
        int begin = from + (int)((int64_t)l * (to - from) / levels), end = from + (int)((int64_t)(l + 1) * (to - from) / levels);
        double sum = 0, used = 0;
        for (int i = begin; i < end; i++) {
            sum += (double)b[i];
            used += b[i] || (i == from && below > 0) || (i == to - 1 && above > 0);
        }
        for (int i = begin; i < end; i++) {
            double p = ((double)b[i] + (i == from ? below : 0) + (i == to - 1 ? above : 0)) / total;
            if (p > 0)
                kl += p * log(p / fmax(sum / used / inside, least));
        }
    }
    return kl;
}

static quant_range least_divergence(const histogram *h, const quant_scheme *s, bool positive)
{
    quant_range all = whole_range(h, positive), best = all;
    double width = ldexp(1.0, h->exponent), largest = fmax(-all.lo, all.hi), least = INFINITY;
    for (int k = STEPS; k >= 1; k--) {
        double t = largest * k / STEPS;
        quant_range r = {fmax(all.lo, -t), fmin(all.hi, t)};
        quant_range held = s->symmetric && !positive ? (quant_range){-t, t} : r; /* what the levels are spread over */
        int from = HISTOGRAM_SIDE + (int)floor(held.lo / width), to = HISTOGRAM_SIDE + (int)ceil(held.hi / width);
        from = from < 0 ? 0 : from;
        to = to > BINS ? BINS : to;
        if (to - from < LEVELS)
            break; /* every bin has a level of its own */
        double kl = divergence(h, from, to, LEVELS);
        if (kl < least) {
            least = kl;
            best = r;
        }
    }
    return best;
}

static double error_of(const histogram *h, const quant_scheme *s, bool positive, quant_range r)
{
    return histogram_error(h, s, quant_params_of(r, s, positive));
}

/* Each end in turn, with the other one fixed; symmetric: both at once. */
static quant_range least_error(const histogram *h, const quant_scheme *s, bool positive)
{
    quant_range all = whole_range(h, positive), best = all;
    double least = error_of(h, s, positive, best);
    bool both = s->symmetric;
    for (int round = 0; round < (both ? 1 : 2); round++)
        for (int end = 0; end < (both ? 1 : 2); end++) {
            quant_range base = best;
            for (int k = STEPS - 1; k >= 1; k--) {
                quant_range r = base;
                double share = (double)k / STEPS;
                if (both || end == 0)
                    r.hi = all.hi * share;
                if (both || end == 1)
                    r.lo = all.lo * share;
                double e = error_of(h, s, positive, r);
                if (e < least) {
                    least = e;
                    best = r;
                }
            }
        }
    return best;
}

quant_range histogram_range(const histogram *h, const quant_scheme *s, bool positive)
{
    quant_range r = whole_range(h, positive);
    double beyond = (100 - s->percentile) / 200;
    if (!h->bin || !(r.lo < r.hi))
        return r;
    if (s->method == QUANT_PERCENTILE)
        return (quant_range){positive ? 0 : fmin(quantile(h, beyond), 0), fmax(quantile(h, 1 - beyond), 0)};
    if (s->method == QUANT_ENTROPY)
        return least_divergence(h, s, positive);
    return s->method == QUANT_MSE ? least_error(h, s, positive) : r;
}

quant_params histogram_params(const histogram *h, const quant_scheme *s, bool positive)
{
    if (!s->power_of_two)
        return quant_params_of(histogram_range(h, s, positive), s, positive);
    quant_params best = quant_params_of(whole_range(h, positive), s, positive), p = best;
    double least = h->bin ? histogram_error(h, s, best) : 0;
    for (int k = 0; h->bin && k < 4 && p.scale > (float)SCALE_MIN; k++) {
        p.scale /= 2;
        double e = histogram_error(h, s, p);
        if (e < least) {
            least = e;
            best = p;
        }
    }
    return best;
}
