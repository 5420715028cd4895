/* update_simd.c - optimizer updates: fast float32. The tensors of all parameters of a node are cut into blocks, which
 * threads share as if they were one tensor: one parallel region and one pass over memory however many there are. Formulas
 * in src/ops/update.c. The scalars are combined in double, as PyTorch does, and rounded once. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/parallel.h"

#include <math.h>
#include <string.h>

static float *operand(const kernel_args *a, int i)
{
    return i < a->n_in ? a->in[i].data : NULL;
}

static double scalar(const kernel_args *a, int i, double absent)
{
    return operand(a, i) ? (double)*operand(a, i) : absent;
}

/* ---- blocks of many tensors ---- */

/* `count` elements from element `from` on of the tensors of the tuple that begins at input `first`; block: its number
 * among all. */
typedef struct tuple_block {
    const kernel_args *a;
    int first;
    int64_t from, count, block;
} tuple_block;
typedef void block_fn(const tuple_block *b, void *ctx);

static int64_t tuple_blocks(const kernel_args *a, int head, int tuple)
{
    int64_t blocks = 0;
    for (int k = head; k < a->n_in; k += tuple)
        blocks += block_count(shape_count(&a->in[k].sh), BLOCK_ELEMENTS);
    return blocks;
}

/* Blocks begin .. end-1 in their order. */
static void walk(const kernel_args *a, int head, int tuple, int64_t begin, int64_t end, block_fn *each, void *ctx)
{
    int64_t at = 0;
    for (int k = head; k < a->n_in && at < end; k += tuple) {
        const int64_t n = shape_count(&a->in[k].sh), count = block_count(n, BLOCK_ELEMENTS);
        for (int64_t b = begin > at ? begin - at : 0; b < count && at + b < end; b++) {
            const int64_t from = b * BLOCK_ELEMENTS;
            each(&(tuple_block){a, k, from, block_end(b, n, BLOCK_ELEMENTS) - from, at + b}, ctx);
        }
        at += count;
    }
}

/* `each` for all blocks of the tuples of `tuple` operands behind the first `head`. */
static void for_blocks(const kernel_args *a, int head, int tuple, block_fn *each, void *ctx)
{
    const int64_t blocks = tuple_blocks(a, head, tuple);
    const int64_t parts = blocks * BLOCK_ELEMENTS >= PARALLEL_ELEMENTS ? a->threads : 1;
    PARALLEL_FOR(t, parts, (int)parts, blocks * BLOCK_ELEMENTS)
    walk(a, head, tuple, blocks * t / parts, blocks * (t + 1) / parts, each, ctx);
}

/* `count` elements from element `from` on of the parameter, with their gradient. */
typedef void piece_fn(const tuple_block *b, const float *grad, int64_t from, int64_t count, void *ctx);

/* `each` for the pieces of a block whose gradients lie together: all of it, or rows and stretches without any row, for
 * which the same zeros serve again and again. */
static void for_pieces(const tuple_block *b, int grad, int place, piece_fn *each, void *ctx)
{
    enum { ZEROS = 1024 };
    static const float zeros[ZEROS] = {0};
    const float *g = operand(b->a, grad);
    const int32_t *row = place < b->a->n_in ? b->a->in[place].data : NULL;
    const int64_t end = b->from + b->count;
    if (!row) {
        each(b, g + b->from, b->from, b->count, ctx);
        return;
    }
    const shape *s = &b->a->in[b->first].sh;
    const int64_t inner = shape_count(s) / s->dim[0];
    for (int64_t i = b->from, to; i < end; i = to) {
        const int64_t r = i / inner, most = row[r] < 0 && i + ZEROS < end ? i + ZEROS : end;
        to = (r + 1) * inner;
        while (row[r] < 0 && to < most && row[to / inner] < 0)
            to += inner;
        to = to < most ? to : most;
        each(b, row[r] < 0 ? zeros : g + row[r] * inner + i % inner, i, to - i, ctx);
    }
}

/* y = keep * y + take * x */
static void blend(float *y, const float *x, int64_t n, float keep, float take)
{
    PRAGMA(omp simd)
    for (int64_t i = 0; i < n; i++)
        y[i] = keep * y[i] + take * x[i];
}

/* The averaged parameter, right after the parameter, which still lies in the cache. */
static void average(const tuple_block *b, double decay)
{
    float *e = operand(b->a, b->first + UPDATE_EMA);
    if (e)
        blend(e + b->from, operand(b->a, b->first + UPDATE_PARAM) + b->from, b->count, (float)decay, (float)(1 - decay));
}

/* ---- updates ---- */

/* keep: 1 - lr * wd when the decay is decoupled, else 1; decay: wd when it is not, else 0. */
typedef struct sgd_step {
    float lr, scale, momentum, keep, decay;
} sgd_step;

static void sgd_plain(float *p, const float *grad, int64_t n, sgd_step s)
{
    PRAGMA(omp simd)
    for (int64_t i = 0; i < n; i++) {
        float g = s.scale * grad[i] + s.decay * p[i];
        p[i] = s.keep * p[i] - s.lr * g;
    }
}

static void sgd_momentum(float *p, const float *grad, float *buffer, int64_t n, sgd_step s)
{
    PRAGMA(omp simd)
    for (int64_t i = 0; i < n; i++) {
        float b = s.momentum * buffer[i] + (s.scale * grad[i] + s.decay * p[i]);
        buffer[i] = b;
        p[i] = s.keep * p[i] - s.lr * b;
    }
}

static void sgd_nesterov(float *p, const float *grad, float *buffer, int64_t n, sgd_step s)
{
    PRAGMA(omp simd)
    for (int64_t i = 0; i < n; i++) {
        float g = s.scale * grad[i] + s.decay * p[i];
        float b = s.momentum * buffer[i] + g;
        buffer[i] = b;
        p[i] = s.keep * p[i] - s.lr * (g + s.momentum * b);
    }
}

static void sgd_piece(const tuple_block *b, const float *grad, int64_t from, int64_t count, void *ctx)
{
    const sgd_step *s = ctx;
    const sgd_attrs *at = b->a->attr;
    float *p = operand(b->a, b->first + UPDATE_PARAM), *buffer = operand(b->a, b->first + SGD_MOMENTUM);
    if (!buffer)
        sgd_plain(p + from, grad, count, *s);
    else if (at->nesterov)
        sgd_nesterov(p + from, grad, buffer + from, count, *s);
    else
        sgd_momentum(p + from, grad, buffer + from, count, *s);
}

static void sgd_part(const tuple_block *b, void *ctx)
{
    for_pieces(b, b->first + UPDATE_GRAD, b->first + SGD_PLACE, sgd_piece, ctx);
    average(b, ((const sgd_attrs *)b->a->attr)->ema);
}

static void sgd(const kernel_args *a)
{
    const sgd_attrs *at = a->attr;
    double lr = scalar(a, UPDATE_LR, 0), scale = scalar(a, UPDATE_SCALE, 1);
    sgd_step s = {.lr = (float)lr, .scale = (float)scale, .momentum = (float)at->momentum,
                        .keep = at->decoupled ? (float)(1 - lr * at->weight_decay) : 1,
                        .decay = at->decoupled ? 0 : (float)at->weight_decay};
    if (isfinite(scale))
        for_blocks(a, SGD_HEAD, SGD_TUPLE, sgd_part, &s);
}

typedef struct adam_step {
    float scale, keep, decay, keep1, take1, keep2, take2, size, over_c2, eps;
} adam_step;

static void adam_block(float *p, const float *grad, float *m, float *v, int64_t n, adam_step s)
{
    PRAGMA(omp simd)
    for (int64_t i = 0; i < n; i++) {
        float g = s.scale * grad[i] + s.decay * p[i];
        float mean = s.keep1 * m[i] + s.take1 * g;
        float square = s.keep2 * v[i] + s.take2 * (g * g);
        m[i] = mean;
        v[i] = square;
        p[i] = s.keep * p[i] - s.size * mean / (sqrtf(square) * s.over_c2 + s.eps);
    }
}

static void adam_piece(const tuple_block *b, const float *grad, int64_t from, int64_t count, void *ctx)
{
    const kernel_args *a = b->a;
    const int k = b->first;
    adam_block(operand(a, k + UPDATE_PARAM) + from, grad, operand(a, k + ADAM_M) + from, operand(a, k + ADAM_V) + from, count,
               *(adam_step *)ctx);
}

static void adam_part(const tuple_block *b, void *ctx)
{
    for_pieces(b, b->first + UPDATE_GRAD, b->first + ADAM_PLACE, adam_piece, ctx);
    average(b, ((const adam_attrs *)b->a->attr)->ema);
}

static void adam(const kernel_args *a)
{
    const adam_attrs *at = a->attr;
    double lr = scalar(a, UPDATE_LR, 0), scale = scalar(a, UPDATE_SCALE, 1), step = scalar(a, UPDATE_STEP, 1);
    adam_step s = {.scale = (float)scale,
                         .keep = at->decoupled ? (float)(1 - lr * at->weight_decay) : 1,
                         .decay = at->decoupled ? 0 : (float)at->weight_decay,
                         .keep1 = (float)at->beta1, .take1 = (float)(1 - at->beta1),
                         .keep2 = (float)at->beta2, .take2 = (float)(1 - at->beta2),
                         .size = (float)(lr / (1 - pow(at->beta1, step))),
                         .over_c2 = (float)(1 / sqrt(1 - pow(at->beta2, step))), .eps = (float)at->eps};
    if (isfinite(scale))
        for_blocks(a, ADAM_HEAD, ADAM_TUPLE, adam_part, &s);
}

static void accumulate_piece(const tuple_block *b, const float *grad, int64_t from, int64_t count, void *share)
{
    blend(operand(b->a, ACCUMULATE_SUM) + from, grad, count, 1, *(float *)share);
}

static void accumulate_part(const tuple_block *b, void *share)
{
    for_pieces(b, ACCUMULATE_GRAD, ACCUMULATE_PLACE, accumulate_piece, share);
}

static void accumulate(const kernel_args *a)
{
    float share = (float)scalar(a, ACCUMULATE_SHARE, 1);
    for_blocks(a, ACCUMULATE_SUM, a->n_in, accumulate_part, &share); /* one tuple */
}

static void clear_part(const tuple_block *b, void *none)
{
    (void)none;
    memset(operand(b->a, b->first) + b->from, 0, (size_t)b->count * sizeof(float));
}

static void clear(const kernel_args *a)
{
    for_blocks(a, 0, 1, clear_part, NULL);
}

/* Sums of squares of blocks of all gradients, in double, in the workspace; then joined in their order. */
static size_t grad_norm_work(const kernel_args *a)
{
    return (size_t)tuple_blocks(a, 0, 1) * sizeof(double);
}

static double square_sum(const float *g, int64_t n)
{
    enum { SUMS = 32 }; /* side by side: an addition waits for none of its neighbours */
    double part[SUMS] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + SUMS <= n; i += SUMS)
        PRAGMA(omp simd)
        for (int j = 0; j < SUMS; j++)
            part[j] += (double)g[i + j] * (double)g[i + j];
    for (; i < n; i++)
        sum += (double)g[i] * (double)g[i];
    for (int j = 0; j < SUMS; j++)
        sum += part[j];
    return sum;
}

static void norm_part(const tuple_block *b, void *part)
{
    ((double *)part)[b->block] = square_sum(operand(b->a, b->first) + b->from, b->count);
}

static void grad_norm(const kernel_args *a)
{
    double *part = a->work, sum = 0, limit = ((const grad_norm_attrs *)a->attr)->max_norm;
    for_blocks(a, 0, 1, norm_part, part);
    for (int64_t b = 0, blocks = tuple_blocks(a, 0, 1); b < blocks; b++)
        sum += part[b];
    double norm = sqrt(sum), scale = limit / (norm + 1e-6);
    *(float *)a->out[0].data = (float)(!isfinite(norm) ? (double)NAN : scale < 1 ? scale : 1);
    if (a->n_out > 1 && a->out[1].data)
        *(float *)a->out[1].data = (float)norm;
}

KERNEL_TABLE(update) = {
    {OP_SGD_UPDATE, REAL_DTYPE, REAL_ISA, "sgd_update_f32", sgd},
    {OP_ADAM_UPDATE, REAL_DTYPE, REAL_ISA, "adam_update_f32", adam},
    {OP_GRAD_NORM, REAL_DTYPE, REAL_ISA, "grad_norm_f32", grad_norm, grad_norm_work},
    {OP_ACCUMULATE, REAL_DTYPE, REAL_ISA, "accumulate_f32", accumulate},
    {OP_CLEAR, REAL_DTYPE, REAL_ISA, "clear_f32", clear},
    KERNEL_END,
};
