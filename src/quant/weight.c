/* weight.c - scales of weights by their largest number, or by squared error among powers of two. */
#include "quant/weight.h"

#include <math.h>
#include <stdlib.h>

#define SCALE_MIN   0x1p-60
#define ACCUMULATOR 2147483647.0
#define BIAS_MOST   1073741823.0 /* leaves the products as much */

channel_steps channel_steps_of(const shape *sh, int axis)
{
    channel_steps c = {1, sh->dim[axis], 1};
    for (int i = 0; i < sh->rank; i++) {
        c.outer *= i < axis ? sh->dim[i] : 1;
        c.inner *= i > axis ? sh->dim[i] : 1;
    }
    return c;
}

typedef struct maker {
    const float *w, *b;
    const quant_scheme *s;
    channel_steps at;
    int64_t from, to; /* the channels that share the scale that is being found */
    float sx;
    int_weight *out;
} maker;

static int round_weight(const maker *m, float x, double scale)
{
    double limit = m->s->weight_limit;
    return (int)fmin(fmax(rint((double)x / scale), -limit), limit);
}

static double largest_weight(const maker *m)
{
    double most = 0;
    for (int64_t o = 0; o < m->at.outer; o++)
        for (int64_t i = m->from * m->at.inner; i < m->to * m->at.inner; i++)
            most = fmax(most, fabs((double)m->w[o * m->at.channels * m->at.inner + i]));
    return most;
}

static double weight_error(const maker *m, double scale)
{
    double sum = 0;
    for (int64_t o = 0; o < m->at.outer; o++)
        for (int64_t i = m->from * m->at.inner; i < m->to * m->at.inner; i++) {
            float x = m->w[o * m->at.channels * m->at.inner + i];
            double d = round_weight(m, x, scale) * scale - (double)x;
            sum += d * d;
        }
    return sum;
}

static double power_scale(const maker *m, double scale)
{
    int e;
    double f = frexp(scale, &e), best = ldexp(1.0, f == 0.5 ? e - 1 : e), least = weight_error(m, best);
    for (double p = best / 2, k = 0; k < 2; k++, p /= 2) {
        double error = weight_error(m, p);
        if (error < least) {
            least = error;
            best = p;
        }
    }
    return best;
}

/* Twice as wide until the bias and the sums of every channel fit. */
static double fit_accumulator(const maker *m, double scale)
{
    double at = scale;
    for (int64_t c = m->from; c < m->to; c++)
        for (;;) {
            double bias = m->b ? fabs((double)m->b[c]) / ((double)m->sx * at) : 0, sum = 0;
            for (int64_t o = 0; o < m->at.outer; o++)
                for (int64_t i = 0; i < m->at.inner; i++)
                    sum += abs(round_weight(m, m->w[(o * m->at.channels + c) * m->at.inner + i], at));
            if (bias <= BIAS_MOST && 255 * sum + bias + 1 <= ACCUMULATOR)
                break;
            at *= 2;
        }
    m->out->widened += at > scale;
    return at;
}

static void make_scale(maker *m, int64_t k, double least)
{
    double largest = largest_weight(m), scale = fmax(largest / m->s->weight_limit, least);
    if (m->s->power_of_two)
        scale = power_scale(m, scale);
    scale = fit_accumulator(m, (double)(float)scale);
    m->out->scale[k] = (float)scale;
    m->out->bias_scale[k] = m->sx * (float)scale;
}

static void round_all(const maker *m)
{
    const int_weight *w = m->out;
    for (int64_t o = 0; o < m->at.outer; o++)
        for (int64_t c = 0; c < m->at.channels; c++)
            for (int64_t i = 0; i < m->at.inner; i++) {
                int64_t at = (o * m->at.channels + c) * m->at.inner + i;
                w->q[at] = (int8_t)round_weight(m, m->w[at], (double)w->scale[w->n_scale > 1 ? c : 0]);
            }
    for (int64_t c = 0; w->bias && c < m->at.channels; c++)
        w->bias[c] = (int32_t)rint((double)m->b[c] / (double)w->bias_scale[w->n_scale > 1 ? c : 0]);
}

status int_weight_make(const graph *g, const node *n, const quant_scheme *s, float sx, arena *mem, int_weight *out)
{
    product_operands o = places_operands(g, n);
    const value *w = &g->value[n->in[1]];
    maker m = {.w = w->data, .b = o.bias > 0 ? g->value[n->in[o.bias]].data : NULL, .s = s,
               .at = channel_steps_of(&w->sh, o.axis), .sx = sx, .out = out};
    int64_t n_w = shape_count(&w->sh);
    if (w->type != DTYPE_F32 || !w->data || n_w == 0)
        return fail(ST_BAD_DATA, "node '%s': weight '%s' is %s; only float32 weights with contents become integers", n->name,
                    w->name, dtype_of(w->type)->name);
    for (int64_t i = 0; i < n_w; i++)
        if (!isfinite(m.w[i]))
            return fail(ST_BAD_DATA, "node '%s': weight '%s' has a number that is not finite", n->name, w->name);
    for (int64_t i = 0; m.b && i < m.at.channels; i++)
        if (!isfinite(m.b[i]))
            return fail(ST_BAD_DATA, "node '%s': bias '%s' has a number that is not finite", n->name,
                        g->value[n->in[o.bias]].name);
    *out = (int_weight){.channels = m.at.channels, .n_scale = places_per_channel(g, n, s) ? m.at.channels : 1};
    TRY(arena_alloc(mem, &out->q, (size_t)n_w, 1));
    TRY(arena_alloc(mem, &out->scale, (size_t)out->n_scale, sizeof *out->scale));
    TRY(arena_alloc(mem, &out->bias_scale, (size_t)out->n_scale, sizeof *out->bias_scale));
    if (m.b)
        TRY(arena_alloc(mem, &out->bias, (size_t)m.at.channels, sizeof *out->bias));
    m.from = 0;
    m.to = m.at.channels;
    double least = fmax(largest_weight(&m) * 0x1p-20, SCALE_MIN); /* of a channel of zeros beside others */
    for (int64_t k = 0; k < out->n_scale; k++) {
        if (out->n_scale > 1) {
            m.from = k;
            m.to = k + 1;
        }
        make_scale(&m, k, least);
    }
    round_all(&m);
    return ST_OK;
}
