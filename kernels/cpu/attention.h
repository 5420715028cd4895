/* attention.h - sizes and steps of Attention for the CPU kernels. */
#ifndef DISTILL_KERNELS_ATTENTION_H
#define DISTILL_KERNELS_ATTENTION_H

#include "kernels/cpu/cpu.h"

/* Steps in elements of one operand: from batch to batch, head to head, token to token. */
typedef struct head_steps {
    int64_t batch, head, token;
} head_steps;

typedef struct attention_sizes {
    int64_t batch, heads, queries, keys, width, value_width; /* B, H, Sq, Sk, D, Dv */
    head_steps q, k, v, y;
    int64_t mask[4]; /* steps of the mask along [B, H, Sq, Sk]; 0 where it is broadcast or absent */
    double scale;
} attention_sizes;

static inline head_steps head_steps_of(const shape *s, bool tokens)
{
    int64_t d = s->dim[3];
    return tokens ? (head_steps){s->dim[1] * s->dim[2] * d, d, s->dim[2] * d}
                  : (head_steps){s->dim[1] * s->dim[2] * d, s->dim[2] * d, d};
}

/* `y`: an operand that lies as the result does; `mask`: the number of the mask's input. */
static inline attention_sizes attention_sizes_with(const kernel_args *a, const shape *y, int mask)
{
    const attention_attrs *at = a->attr;
    const shape *q = &a->in[0].sh, *k = &a->in[1].sh, *v = &a->in[2].sh;
    attention_sizes s = {.batch = q->dim[0], .heads = q->dim[at->q_tokens ? 2 : 1], .queries = q->dim[at->q_tokens ? 1 : 2],
                         .keys = k->dim[at->k_tokens ? 1 : 2], .width = q->dim[3], .value_width = v->dim[3],
                         .q = head_steps_of(q, at->q_tokens != 0), .k = head_steps_of(k, at->k_tokens != 0),
                         .v = head_steps_of(v, at->v_tokens != 0), .y = head_steps_of(y, at->y_tokens != 0),
                         .scale = at->scale};
    if (a->n_in > mask && a->in[mask].type != DTYPE_NONE) {
        const shape *m = &a->in[mask].sh;
        int64_t each = 1;
        for (int i = m->rank - 1; i >= 0; i--) {
            s.mask[4 - m->rank + i] = m->dim[i] > 1 ? each : 0;
            each *= m->dim[i];
        }
    }
    return s;
}

static inline attention_sizes attention_sizes_of(const kernel_args *a)
{
    return attention_sizes_with(a, &a->out[0].sh, 3);
}
static inline attention_sizes attention_grad_sizes_of(const kernel_args *a)
{
    return attention_sizes_with(a, &a->in[3].sh, 6);
}

static inline int64_t head_offset(const head_steps *s, int64_t batch, int64_t head)
{
    return batch * s->batch + head * s->head;
}

#endif
