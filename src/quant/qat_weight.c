/* qat_weight.c - which powers of two hold a weight best. */
#include "quant/qat_weight.h"

#include <math.h>

typedef struct numbers { /* those of one scale: entries from .. to-1 of the axis */
    const float *x;
    channel_steps at;
    int64_t from, to;
    double limit;
} numbers;

static double on_grid(const numbers *m, double x, double scale)
{
    return fmin(fmax(4 * nearbyint(x / scale / 4), -m->limit), m->limit);
}

/* Squared error; the largest number; the largest sum of magnitudes of one channel, in steps of the scale. */
static double measure(const numbers *m, double scale, double *most, double *sum)
{
    double e = 0;
    *most = *sum = 0;
    for (int64_t c = m->from; c < m->to; c++) {
        double s = 0;
        for (int64_t o = 0; o < m->at.outer; o++)
            for (int64_t i = 0; i < m->at.inner; i++) {
                double x = (double)m->x[(o * m->at.channels + c) * m->at.inner + i], q = on_grid(m, x, scale), d = q * scale - x;
                e += d * d;
                s += fabs(x / scale);
                *most = fmax(*most, isfinite(x) ? fabs(x) : HUGE_VAL);
            }
        *sum = fmax(*sum, s);
    }
    return e;
}

double weight_sum_max(int64_t each)
{
    return fmax(PORTABLE_SUM_MAX - 2 * (double)each, PORTABLE_SUM_MAX / 2) * (1 - 1e-6); /* floats' own rounding */
}

static double choose_power(const numbers *m, double most, double largest)
{
    const double room = weight_sum_max(m->at.outer * m->at.inner);
    double best = 0, least = HUGE_VAL, sum, ignored;
    int high = most > 0 ? (int)ceil(log2(most / m->limit)) : -20;
    for (int e = high; e > high - 3; e--) {
        double scale = fmin(exp2(e), largest), error = measure(m, scale, &ignored, &sum);
        while (sum > room && scale < largest) {
            scale = fmin(2 * scale, largest);
            error = measure(m, scale, &ignored, &sum);
        }
        if (error < least) {
            least = error;
            best = scale;
        }
    }
    return best;
}

status weight_choose_powers(const value *v, int axis, int64_t n_scale, int limit, double largest, float *scale)
{
    numbers m = {.x = v->data, .at = channel_steps_of(&v->sh, axis), .limit = limit};
    if (!v->data || v->type != DTYPE_F32)
        return fail(ST_INTERNAL, "weight '%s' has no float32 start value", v->name);
    for (int64_t k = 0; k < n_scale; k++) {
        double most, sum;
        m.from = n_scale > 1 ? k : 0;
        m.to = n_scale > 1 ? k + 1 : m.at.channels;
        (void)measure(&m, 1, &most, &sum);
        if (isinf(most))
            return fail(ST_BAD_DATA, "weight '%s' is not finite", v->name);
        scale[k] = (float)(v->flags & VALUE_FIXED ? fmax(fmin(most / 4, largest), most / limit) : choose_power(&m, most, largest));
    }
    return ST_OK;
}
