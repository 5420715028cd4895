/* blocked.h - tensors in blocks of LANES channels: [N, ceil(C / LANES), pixels, LANES], one vector a pixel and block. The
 * lanes beyond C are zeros: who makes a blocked tensor writes them, who reads one may rely on it. */
#ifndef DISTILL_KERNELS_BLOCKED_H
#define DISTILL_KERNELS_BLOCKED_H

#include "kernels/cpu/simd.h"

typedef struct blocked {
    int64_t images, channels, blocks, pixels; /* blocks of an image; pixels of a plane, all spatial axes */
} blocked;

static inline blocked blocked_of(const shape *s)
{
    blocked b = {.images = s->dim[0], .channels = s->dim[1], .pixels = 1};
    for (int i = 2; i < s->rank; i++)
        b.pixels *= s->dim[i];
    b.blocks = (b.channels + LANES - 1) / LANES;
    return b;
}

/* Channels of block i. */
static inline int64_t block_channels(const blocked *b, int64_t i)
{
    return min_of(LANES, b->channels - i * LANES);
}

/* LANES floats of a vector per channel (bias, scale ...) of `count` channels in all; zeros beyond them. */
static inline vec load_channels(const float *p, int64_t block, int64_t count)
{
    float lanes[LANES] = {0};
    memcpy(lanes, p + block * LANES, (size_t)min_of(LANES, count - block * LANES) * sizeof *lanes);
    return vec_load(lanes);
}
static inline void store_channels(float *p, int64_t block, int64_t count, vec v)
{
    float lanes[LANES];
    vec_store(lanes, v);
    memcpy(p + block * LANES, lanes, (size_t)min_of(LANES, count - block * LANES) * sizeof *lanes);
}

/* r[i] = LANES numbers from `from + i * stride` on, for i < rows; zeros for the others. Reads nothing at `end` or beyond. */
ALWAYS_INLINE void load_rows(vec r[LANES], const float *from, int64_t stride, int64_t rows, const float *end)
{
#pragma GCC unroll 16
    for (int64_t i = 0; i < LANES; i++, from += stride) {
        if (i >= rows)
            r[i] = vec_set(0);
        else if (end - from >= LANES)
            r[i] = vec_load(from);
        else
            r[i] = load_channels(from, 0, end - from);
    }
}

/* ---- kernels for plain tensors on blocked ones ---- */

enum { BLOCKED_OPERANDS = 12 };

/* The tensor as it lies in memory: [N, blocks, spatial..., LANES]. */
static inline kernel_tensor blocked_as_plain(const kernel_tensor *t)
{
    kernel_tensor p = *t;
    if (t->block && t->sh.rank < RANK_MAX) {
        p.sh.dim[1] = (t->sh.dim[1] + t->block - 1) / t->block;
        p.sh.dim[p.sh.rank++] = t->block;
        p.block = 0;
    }
    return p;
}

/* Runs an elementwise kernel on the tensors as they lie. */
static inline void run_as_plain(const kernel_args *a, void (*run)(const kernel_args *))
{
    kernel_tensor in[BLOCKED_OPERANDS], out[BLOCKED_OPERANDS];
    kernel_args p = *a;
    for (int i = 0; i < a->n_in; i++)
        in[i] = blocked_as_plain(&a->in[i]);
    for (int i = 0; i < a->n_out; i++)
        out[i] = blocked_as_plain(&a->out[i]);
    p.in = in;
    p.out = out;
    run(&p);
}

/* Whether an elementwise kernel makes zeros of zeros, so that the lanes beyond the channels stay what they have to be; asked
 * of the kernel itself. */
static inline bool keeps_zeros(const kernel_args *a, void (*run)(const kernel_args *))
{
    const shape one = {.rank = 1, .dim = {1}};
    float zero[BLOCKED_OPERANDS] = {0}, made[BLOCKED_OPERANDS];
    kernel_tensor in[BLOCKED_OPERANDS], out[BLOCKED_OPERANDS];
    kernel_args p = *a;
    p.in = in;
    p.out = out;
    p.threads = 1;
    for (int i = 0; i < a->n_in; i++)
        in[i] = (kernel_tensor){&zero[i], a->in[i].type, one, 0};
    for (int i = 0; i < a->n_out; i++)
        out[i] = (kernel_tensor){&made[i], a->out[i].type, one, 0};
    run(&p);
    for (int i = 0; i < a->n_out; i++)
        if (made[i] != 0)
            return false;
    return true;
}

/* Whether an elementwise kernel may run on these operands as they lie: all float and few, the blocked ones of the output's
 * rank and channels, the others one number each. */
static inline bool takes_as_plain(const kernel_args *a, void (*run)(const kernel_args *))
{
    const shape *y = &a->out[0].sh;
    bool full = y->dim[1] % LANES == 0, numbers = false;
    if (a->n_in > BLOCKED_OPERANDS || a->n_out > BLOCKED_OPERANDS || y->rank < 3 || y->rank >= RANK_MAX)
        return false;
    for (int i = 0; i < a->n_out; i++)
        if (a->out[i].type != DTYPE_F32 || !shape_equal(&a->out[i].sh, y))
            return false;
    for (int i = 0; i < a->n_in; i++) {
        const kernel_tensor *x = &a->in[i];
        if (x->type != DTYPE_F32 || (x->block ? x->sh.rank != y->rank || x->sh.dim[1] != y->dim[1] : shape_count(&x->sh) != 1))
            return false;
        numbers |= !x->block;
    }
    return full || (!numbers && keeps_zeros(a, run));
}

#endif
