/* pool.h - one window of a pool, for the CPU kernels. */
#ifndef DISTILL_KERNELS_POOL_H
#define DISTILL_KERNELS_POOL_H

#include "kernels/cpu/spatial.h"

typedef struct pool_window {
    range tap[3];     /* taps inside the data */
    int64_t start[3]; /* where tap 0 lies in the data; may be negative */
    int64_t count;    /* taps that an average divides by */
} pool_window;

/* Window o (row-major among the plane's). with_pad: taps in the padding count too, those behind it do not. */
static inline void window_at(const spatial *s, int64_t o, bool with_pad, pool_window *w)
{
    w->count = 1;
    for (int i = 2; i >= 0; i--) {
        int64_t at = o % s->out[i];
        o /= s->out[i];
        w->start[i] = at * s->stride[i] - s->pad[i];
        w->tap[i] = taps_of_window(s, i, at);
        range padded = range_inside(at * s->stride[i], s->dilation[i], s->kernel[i], s->in[i] + s->pad[i] + s->pad_end[i]);
        w->count *= with_pad ? padded.end - padded.begin : w->tap[i].end - w->tap[i].begin;
    }
}

static inline int64_t window_index(const spatial *s, const pool_window *w, int64_t d, int64_t h, int64_t c)
{
    return ((w->start[0] + d * s->dilation[0]) * s->in[1] + w->start[1] + h * s->dilation[1]) * s->in[2] + w->start[2] +
           c * s->dilation[2];
}

/* Row-major index within the plane to the one with the last two axes swapped (ONNX storage_order = 1). */
static inline int64_t index_by_column(const spatial *s, int64_t i)
{
    int64_t row = i / s->in[2] % s->in[1], column = i % s->in[2], depth = i / (s->in[1] * s->in[2]);
    return (depth * s->in[2] + column) * s->in[1] + row;
}

/* Defines fn: the index of the first maximum of window o in the plane x, -1 when no tap lies inside. NaN is largest. */
#define DEFINE_FIRST_MAXIMUM(fn, type)                                                                            \
    static int64_t fn(const spatial *s, const type *x, int64_t o)                                                 \
    {                                                                                                             \
        pool_window w;                                                                                            \
        int64_t best = -1;                                                                                        \
        window_at(s, o, false, &w);                                                                               \
        for (int64_t d = w.tap[0].begin; d < w.tap[0].end; d++)                                                   \
            for (int64_t h = w.tap[1].begin; h < w.tap[1].end; h++)                                               \
                for (int64_t c = w.tap[2].begin; c < w.tap[2].end; c++) {                                         \
                    int64_t i = window_index(s, &w, d, h, c);                                                     \
                    if (best < 0 || x[i] > x[best] || (x[i] != x[i] && x[best] == x[best]))                       \
                        best = i;                                                                                 \
                }                                                                                                 \
        return best;                                                                                              \
    }

#endif
