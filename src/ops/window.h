/* window.h - where the windows of convolutions and pools lie.
 *
 * Every spatial axis: `in` elements, `pad` zeros before and behind, a kernel of k taps `dilation` apart, one window
 * every `stride`. Formulas: ONNX Conv-22, MaxPool-22, AveragePool-22 ("auto_pad", "ceil_mode"). */
#ifndef DISTILL_OPS_WINDOW_H
#define DISTILL_OPS_WINDOW_H

#include "ops/common.h"

/* The attributes that describe windows, wherever they lie; `spatial` axes with `in[i]` elements each. */
typedef struct window {
    attr_ints *kernel_shape, *strides, *dilations, *pads;
    int64_t *auto_pad;
    int spatial;
    const int64_t *in;
} window;
#define WINDOW_OF(attr, axes, sizes)                                                                              \
    {.kernel_shape = &(attr)->kernel_shape, .strides = &(attr)->strides, .dilations = &(attr)->dilations,         \
     .pads = &(attr)->pads, .auto_pad = &(attr)->auto_pad, .spatial = (axes), .in = (sizes)}

/* Checks the lists (kernel_shape must be given), makes those that are absent, turns auto_pad into pads. */
MUST_USE status window_complete(graph *g, const node *n, const window *w);
/* Number of windows along every axis, of completed attributes. With ceil_mode a last window that would begin in the
 * padding behind the data is dropped. */
MUST_USE status window_outputs(const node *n, const window *w, bool ceil_mode, int64_t *out);
/* Elements that one window spans, dilation included. */
static inline int64_t window_extent(const window *w, int i)
{
    return (w->kernel_shape->v[i] - 1) * w->dilations->v[i] + 1;
}

/* Checks that `list` has `count` entries, each from lo to 2^31 - 1. `name` is the attribute's. */
MUST_USE status window_check_list(const node *n, const char *name, attr_ints list, int64_t count, int64_t lo);
/* Makes an absent list of `count` entries, each `number`. */
MUST_USE status window_fill_list(graph *g, attr_ints *list, int64_t count, int64_t number);

#endif
