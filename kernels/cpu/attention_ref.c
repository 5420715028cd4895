/* attention_ref.c - Attention as its definition reads (src/ops/attention.c), a row of scores at a time. */
#include "kernels/cpu/attention.h"
#include "kernels/cpu/refmath.h"

static size_t workspace(const kernel_args *a)
{
    return (size_t)attention_sizes_of(a).keys * sizeof(real);
}

/* Writes a row of y; the result is the logarithm of the sum of its exponentials. */
static real attend(const attention_sizes *s, const real *q, const real *k, const real *v, const real *mask, real *p, real *y)
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
    return max + LOG(sum);
}

static void attention(const kernel_args *a)
{
    attention_sizes s = attention_sizes_of(a);
    const real *q = a->in[0].data, *k = a->in[1].data, *v = a->in[2].data, *mask = a->n_in > 3 ? a->in[3].data : NULL;
    real *y = a->out[0].data, *sums = a->n_out > 1 ? a->out[1].data : NULL;
    for (int64_t b = 0; b < s.batch; b++)
        for (int64_t h = 0; h < s.heads; h++)
            for (int64_t i = 0; i < s.queries; i++) {
                real sum = attend(&s, q + head_offset(&s.q, b, h) + i * s.q.token, k + head_offset(&s.k, b, h),
                       v + head_offset(&s.v, b, h), mask ? mask + b * s.mask[0] + h * s.mask[1] + i * s.mask[2] : NULL, a->work,
                       y + head_offset(&s.y, b, h) + i * s.y.token);
                if (sums)
                    sums[(b * s.heads + h) * s.queries + i] = sum;
            }
}

static void zero(const kernel_tensor *t)
{
    for (int64_t i = 0; i < shape_count(&t->sh); i++)
        ((real *)t->data)[i] = 0;
}

/* One row of scores: what it adds to the three gradients. */
static void attend_back(const attention_sizes *s, const real *const *x, real sum, const real *mask, real *dq, real *dk, real *dv)
{
    const real *q = x[0], *k = x[1], *v = x[2], *y = x[3], *dy = x[4];
    real delta = 0;
    for (int64_t d = 0; d < s->value_width; d++)
        delta += y[d] * dy[d];
    for (int64_t j = 0; j < s->keys; j++) {
        real dot = 0, dp = 0;
        for (int64_t d = 0; d < s->width; d++)
            dot += q[d] * k[j * s->k.token + d];
        for (int64_t d = 0; d < s->value_width; d++)
            dp += dy[d] * v[j * s->v.token + d];
        real p = EXP((real)s->scale * dot + (mask ? mask[j * s->mask[3]] : 0) - sum), ds = (real)s->scale * p * (dp - delta);
        for (int64_t d = 0; d < s->value_width; d++)
            dv[j * s->v.token + d] += p * dy[d];
        for (int64_t d = 0; d < s->width; d++) {
            dq[d] += ds * k[j * s->k.token + d];
            dk[j * s->k.token + d] += ds * q[d];
        }
    }
}

static void attention_grad(const kernel_args *a)
{
    attention_sizes s = attention_grad_sizes_of(a);
    const real *in[5], *sums = a->in[5].data, *mask = a->n_in > 6 ? a->in[6].data : NULL;
    real *dq = a->out[0].data, *dk = a->out[1].data, *dv = a->out[2].data;
    for (int i = 0; i < 5; i++)
        in[i] = a->in[i].data;
    for (int i = 0; i < 3; i++)
        zero(&a->out[i]);
    for (int64_t b = 0; b < s.batch; b++)
        for (int64_t h = 0; h < s.heads; h++)
            for (int64_t i = 0; i < s.queries; i++) {
                int64_t q = head_offset(&s.q, b, h) + i * s.q.token, k = head_offset(&s.k, b, h);
                int64_t v = head_offset(&s.v, b, h), y = head_offset(&s.y, b, h) + i * s.y.token;
                const real *x[5] = {in[0] + q, in[1] + k, in[2] + v, in[3] + y, in[4] + y};
                attend_back(&s, x, sums[(b * s.heads + h) * s.queries + i],
                            mask ? mask + b * s.mask[0] + h * s.mask[1] + i * s.mask[2] : NULL, dq + q, dk + k, dv + v);
            }
}

KERNEL_TABLE(attention) = {{OP_ATTENTION, REAL_DTYPE, REAL_ISA, "attention_ref", attention, workspace, NULL},
                           {OP_ATTENTION_GRAD, REAL_DTYPE, REAL_ISA, "attention_grad_ref", attention_grad, NULL, NULL},
                           KERNEL_END};
