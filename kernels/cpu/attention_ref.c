/* attention_ref.c - Attention as its definition reads (src/ops/attention.c), a row of scores at a time. */
#include "kernels/cpu/attention.h"
#include "kernels/cpu/refmath.h"

static size_t workspace(const kernel_args *a)
{
    return (size_t)attention_sizes_of(a).keys * sizeof(real);
}

static void attend(const attention_sizes *s, const real *q, const real *k, const real *v, const real *mask, real *p, real *y)
{
    real max = -INFINITY, sum = 0;
    for (int64_t j = 0; j < s->keys; j++) {
        real dot = 0;
        for (int64_t d = 0; d < s->width; d++)
            dot += q[d] * k[j * s->k.token + d];
        p[j] = (real)s->scale * dot + (mask ? mask[j * s->mask[3]] : 0);
        max = p[j] > max ? p[j] : max;
    }
    for (int64_t j = 0; j < s->keys; j++)
        sum += p[j] = EXP(p[j] - max);
    for (int64_t d = 0; d < s->value_width; d++) {
        y[d] = 0;
        for (int64_t j = 0; j < s->keys; j++)
            y[d] += p[j] / sum * v[j * s->v.token + d];
    }
}

static void attention(const kernel_args *a)
{
    attention_sizes s = attention_sizes_of(a);
    const real *q = a->in[0].data, *k = a->in[1].data, *v = a->in[2].data, *mask = a->n_in > 3 ? a->in[3].data : NULL;
    real *y = a->out[0].data;
    for (int64_t b = 0; b < s.batch; b++)
        for (int64_t h = 0; h < s.heads; h++)
            for (int64_t i = 0; i < s.queries; i++)
                attend(&s, q + head_offset(&s.q, b, h) + i * s.q.token, k + head_offset(&s.k, b, h),
                       v + head_offset(&s.v, b, h), mask ? mask + b * s.mask[0] + h * s.mask[1] + i * s.mask[2] : NULL, a->work,
                       y + head_offset(&s.y, b, h) + i * s.y.token);
}

KERNEL_TABLE(attention) = {{OP_ATTENTION, REAL_DTYPE, REAL_ISA, "attention_ref", attention, workspace, NULL}, KERNEL_END};
