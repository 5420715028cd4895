/* reduce.h - the axes of a reduction, merged: axes of length 1 vanish, neighbours that are both kept or both reduced
 * become one. Then groups alternate between kept and reduced. */
#ifndef DISTILL_KERNELS_REDUCE_H
#define DISTILL_KERNELS_REDUCE_H

#include "kernels/kernel.h"
#include "ops/attrs.h"

typedef struct reduction {
    int n; /* groups, outermost first */
    int64_t dim[RANK_MAX], stride[RANK_MAX];
    bool reduced[RANK_MAX];
    int64_t outs, each; /* results, and elements of x for one result */
} reduction;

static inline void reduction_make(reduction *r, const shape *x, uint32_t mask)
{
    int64_t stride = 1;
    *r = (reduction){.outs = 1, .each = 1};
    for (int i = x->rank - 1; i >= 0; i--) { /* innermost first, turned round below */
        bool red = mask >> i & 1;
        int64_t d = x->dim[i];
        *(red ? &r->each : &r->outs) *= d;
        if (d != 1 && r->n > 0 && r->reduced[r->n - 1] == red) {
            r->dim[r->n - 1] *= d;
        } else if (d != 1) {
            r->dim[r->n] = d;
            r->stride[r->n] = stride;
            r->reduced[r->n++] = red;
        }
        stride *= d;
    }
    for (int i = 0, j = r->n - 1; i < j; i++, j--) {
        int64_t d = r->dim[i], s = r->stride[i];
        bool red = r->reduced[i];
        r->dim[i] = r->dim[j], r->stride[i] = r->stride[j], r->reduced[i] = r->reduced[j];
        r->dim[j] = d, r->stride[j] = s, r->reduced[j] = red;
    }
}

/* Where, in x, element i of the kept groups (or of the reduced ones) begins. */
static inline int64_t reduction_offset(const reduction *r, bool reduced, int64_t i)
{
    int64_t at = 0;
    for (int k = r->n - 1; k >= 0; k--)
        if (r->reduced[k] == reduced) {
            at += i % r->dim[k] * r->stride[k];
            i /= r->dim[k];
        }
    return at;
}

/* The axes that reduce_attrs names, as bits. */
static inline uint32_t reduction_mask(const kernel_args *a)
{
    const reduce_attrs *at = a->attr;
    int rank = a->in[0].sh.rank;
    uint32_t mask = at->axes.n == 0 && !at->noop_with_empty_axes ? (1u << rank) - 1 : 0;
    for (int64_t i = 0; i < at->axes.n; i++)
        mask |= 1u << (at->axes.v[i] < 0 ? at->axes.v[i] + rank : at->axes.v[i]);
    return mask;
}

/* The axes along which `small` (same rank) has 1 where x has more. */
static inline uint32_t reduction_mask_between(const shape *x, const shape *small)
{
    uint32_t mask = 0;
    for (int i = 0; i < x->rank && i < RANK_MAX; i++)
        mask |= (uint32_t)(small->dim[i] == 1 && x->dim[i] != 1) << i;
    return mask;
}

/* A plain kernel body: y (of type V) begins as `start`, takes every x by `step`, ends as `end`; `count` elements each. */
#define REDUCE_PLAIN(T, V, LOAD, STORE, start, step, end)                                                         \
    reduction r;                                                                                                  \
    reduction_make(&r, &a->in[0].sh, reduction_mask(a));                                                          \
    const T *in = a->in[0].data;                                                                                  \
    T *out = a->out[0].data;                                                                                      \
    const int64_t count = r.each;                                                                                 \
    for (int64_t o = 0; o < r.outs; o++) {                                                                        \
        const T *from = in + reduction_offset(&r, false, o);                                                      \
        V y = (start);                                                                                            \
        for (int64_t i = 0; i < count; i++) {                                                                     \
            const V x = LOAD(from[reduction_offset(&r, true, i)]);                                                \
            y = step;                                                                                             \
        }                                                                                                         \
        (void)count;                                                                                              \
        out[o] = STORE(end);                                                                                      \
    }

#endif
