/* bert.c - see bert.h. */
#include "bert.h"

#include "base/rng.h"
#include "harness.h"
#include "ops/attrs.h"

#include <math.h>
#include <stdio.h>

typedef struct maker {
    const bert_sizes *s;
    graph *g;
    rng r;
    int n; /* parameters so far */
} maker;

/* Normal numbers of this deviation around `mean`. */
static value_id param(maker *m, shape sh, double deviation, double mean)
{
    float *data;
    value_id v;
    char name[32];
    const int64_t n = shape_count(&sh);
    OK(mem_alloc(&data, (size_t)n, sizeof *data));
    for (int64_t i = 0; i < n; i++)
        data[i] = (float)(mean + deviation * rng_normal(&m->r));
    snprintf(name, sizeof name, "w%02d", m->n++);
    OK(graph_add_data(m->g, name, VALUE_PARAM, DTYPE_F32, sh, data, &v));
    mem_free(data);
    return v;
}

static value_id add(maker *m, op_id op, const void *attr, value_id a, value_id b, value_id c)
{
    value_id v;
    OK(graph_add1(m->g, op, attr, a, b, c, &v));
    return v;
}

static value_id norm(maker *m, value_id x)
{
    const layer_norm_attrs at = {.axis = -1, .epsilon = 1e-5, .stash_type = 1};
    return add(m, OP_LAYER_NORM, &at, x, param(m, SHAPE(m->s->width), 0.1, 1), param(m, SHAPE(m->s->width), 0.1, 0));
}

static value_id linear(maker *m, value_id x, int64_t from, int64_t to)
{
    const value_id y = add(m, OP_MATMUL, NULL, x, param(m, SHAPE(from, to), 1 / sqrt((double)from), 0), 0);
    return add(m, OP_ADD, NULL, y, param(m, SHAPE(to), 0.1, 0), 0);
}

static value_id transposed(maker *m, value_id v, int64_t a, int64_t b, int64_t c, int64_t d)
{
    const int64_t perm[4] = {a, b, c, d};
    return add(m, OP_TRANSPOSE, &(const transpose_attrs){.perm = {4, perm}}, v, 0, 0);
}

static value_id split(maker *m, value_id x)
{
    const int64_t to[4] = {0, 0, m->s->heads, m->s->width / m->s->heads};
    return add(m, OP_RESHAPE, &(const reshape_attrs){.shape = {4, to}}, x, 0, 0);
}

static value_id attend(maker *m, value_id x)
{
    const bert_sizes *s = m->s;
    const int64_t back[3] = {0, 0, s->width};
    value_id factor;
    OK(graph_add_fill(m->g, DTYPE_F32, (shape){0}, 1 / sqrt((double)s->width / (double)s->heads), &factor));
    const value_id q = transposed(m, split(m, linear(m, x, s->width, s->width)), 0, 2, 1, 3);
    const value_id k = transposed(m, split(m, linear(m, x, s->width, s->width)), 0, 2, 3, 1);
    const value_id v = transposed(m, split(m, linear(m, x, s->width, s->width)), 0, 2, 1, 3);
    value_id scores = add(m, OP_MUL, NULL, add(m, OP_MATMUL, NULL, q, k, 0), factor, 0), mask;
    if (s->masked) {
        float hidden[64] = {0};
        hidden[s->tokens - 1] = -10000;
        OK(graph_add_data(m->g, NULL, VALUE_CONST, DTYPE_F32, SHAPE(1, 1, 1, s->tokens), hidden, &mask));
        scores = add(m, OP_ADD, NULL, scores, mask, 0);
    }
    value_id weights = add(m, OP_SOFTMAX, &(const axis_attrs){-1}, scores, 0, 0);
    if (s->apart)
        weights = add(m, OP_MUL, NULL, weights, factor, 0);
    const value_id y = transposed(m, add(m, OP_MATMUL, NULL, weights, v, 0), 0, 2, 1, 3);
    return linear(m, add(m, OP_RESHAPE, &(const reshape_attrs){.shape = {3, back}}, y, 0, 0), s->width, s->width);
}

static value_id feed(maker *m, value_id x)
{
    const value_id up = add(m, OP_GELU, NULL, linear(m, x, m->s->width, m->s->wide), 0, 0);
    return linear(m, up, m->s->wide, m->s->width);
}

static value_id layer(maker *m, value_id x, value_id (*part)(maker *, value_id))
{
    if (m->s->pre_norm)
        return add(m, OP_ADD, NULL, x, part(m, norm(m, x)), 0);
    return norm(m, add(m, OP_ADD, NULL, x, part(m, x), 0));
}

graph *bert_make(const bert_sizes *s)
{
    maker m = {.s = s, .r = rng_make(s->seed, RNG_TEST, 77, 0)};
    const gemm_attrs plain = {.alpha = 1, .beta = 1};
    const int64_t zero = 0;
    value_id tokens, first;
    OK(graph_new(&m.g));
    OK(graph_add_input(m.g, "tokens", DTYPE_I64, SHAPE(s->batch, s->tokens), &tokens));
    graph_value(m.g, tokens)->flags |= VALUE_BATCHED;
    value_id x = add(&m, OP_GATHER, NULL, param(&m, SHAPE(s->words, s->width), 1, 0), tokens, 0);
    x = norm(&m, add(&m, OP_ADD, NULL, x, param(&m, SHAPE(s->tokens, s->width), 0.1, 0), 0));
    for (int64_t i = 0; i < s->layers; i++)
        x = layer(&m, layer(&m, x, attend), feed);
    OK(graph_add_data(m.g, NULL, VALUE_CONST, DTYPE_I64, (shape){0}, &zero, &first));
    x = add(&m, OP_GATHER, &(const gather_attrs){.axis = 1}, x, first, 0);
    x = add(&m, OP_TANH, NULL, add(&m, OP_GEMM, &plain, x, param(&m, SHAPE(s->width, s->width), 0.2, 0), param(&m, SHAPE(s->width), 0.1, 0)), 0, 0);
    x = add(&m, OP_GEMM, &plain, x, param(&m, SHAPE(s->width, s->classes), 0.2, 0), param(&m, SHAPE(s->classes), 0.1, 0));
    OK(graph_rename(m.g, x, "logits"));
    OK(graph_add_output(m.g, x));
    return m.g;
}
