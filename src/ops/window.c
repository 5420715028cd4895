/* window.c - completes and checks the window attributes of convolutions and pools. */
#include "ops/window.h"

#include <inttypes.h>

status window_check_list(const node *n, const char *name, attr_ints list, int64_t count, int64_t lo)
{
    if (list.n != count)
        return op_fail(n, "%s has %" PRId64 " entries where %" PRId64 " are needed", name, list.n, count);
    for (int64_t i = 0; i < count; i++)
        if (list.v[i] < lo || list.v[i] > INT32_MAX)
            return op_fail(n, "%s has an entry %" PRId64 "; it must be from %" PRId64 " to %d", name, list.v[i], lo,
                           INT32_MAX);
    return ST_OK;
}

status window_fill_list(graph *g, attr_ints *list, int64_t count, int64_t number)
{
    int64_t *v;
    if (list->v && list->n)
        return ST_OK;
    TRY(op_new_ints(g, count, &v, list));
    for (int64_t i = 0; i < count; i++)
        v[i] = number;
    return ST_OK;
}

/* SAME: ceil(in / stride) windows, the padding split evenly, an odd one at the end (UPPER) or the beginning (LOWER). */
static status same_pads(graph *g, const window *w)
{
    int64_t *pads;
    TRY(op_new_ints(g, 2 * w->spatial, &pads, w->pads));
    for (int i = 0; i < w->spatial; i++) {
        int64_t s = w->strides->v[i], windows = (w->in[i] + s - 1) / s;
        int64_t total = (windows - 1) * s + window_extent(w, i) - w->in[i];
        total = total < 0 || windows == 0 ? 0 : total;
        pads[i] = *w->auto_pad == AUTO_PAD_SAME_UPPER ? total / 2 : total - total / 2;
        pads[i + w->spatial] = total - pads[i];
    }
    return ST_OK;
}

status window_complete(graph *g, const node *n, const window *w)
{
    int64_t k = w->spatial;
    TRY(window_check_list(n, "kernel_shape", *w->kernel_shape, k, 1));
    TRY(window_fill_list(g, w->strides, k, 1));
    TRY(window_check_list(n, "strides", *w->strides, k, 1));
    TRY(window_fill_list(g, w->dilations, k, 1));
    TRY(window_check_list(n, "dilations", *w->dilations, k, 1));
    if (*w->auto_pad == AUTO_PAD_NOTSET) {
        TRY(window_fill_list(g, w->pads, 2 * k, 0));
        return window_check_list(n, "pads", *w->pads, 2 * k, 0);
    }
    if (*w->auto_pad == AUTO_PAD_VALID) {
        *w->pads = (attr_ints){0};
        TRY(window_fill_list(g, w->pads, 2 * k, 0));
    } else {
        TRY(same_pads(g, w));
    }
    *w->auto_pad = AUTO_PAD_NOTSET;
    return window_check_list(n, "pads from auto_pad", *w->pads, 2 * k, 0);
}

status window_outputs(const node *n, const window *w, bool ceil_mode, int64_t *out)
{
    for (int i = 0; i < w->spatial; i++) {
        int64_t stride = w->strides->v[i], begin = w->pads->v[i];
        int64_t room = w->in[i] + begin + w->pads->v[i + w->spatial] - window_extent(w, i);
        if (room < 0)
            return op_fail(n, "the kernel spans %" PRId64 " elements of spatial axis %d, which has %" PRId64
                           " with its padding", window_extent(w, i), i, room + window_extent(w, i));
        out[i] = (room + (ceil_mode ? stride - 1 : 0)) / stride + 1;
        if (ceil_mode && (out[i] - 1) * stride >= w->in[i] + begin)
            out[i]--;
    }
    return ST_OK;
}
