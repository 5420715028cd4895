/* dnn_graph.c - from a key to cuDNN's graph: tensors, the convolution and what is fused to it, or attention, as descriptors. */
#include "kernels/cuda/dnn_inside.h"

#define VIRTUAL_ID 100 /* of the first value that only the graph has */

/* The first failure is kept in the plan, calls after it do nothing. */

typedef struct maker {
    const cuda_dnn *d;
    dnn_plan *p;
    int64_t next; /* number of the next virtual tensor */
} maker;

static void *make(maker *m, int kind)
{
    void *out = NULL;
    if (m->p->code == 0 && m->p->n_part == DNN_MOST_PARTS)
        m->p->code = -1;
    if (m->p->code != 0 || (m->p->code = m->d->api->make(kind, &out)) != 0)
        return NULL;
    m->p->part[m->p->n_part++] = out;
    return out;
}
static void set(maker *m, void *to, int attribute, int type, int64_t n, const void *from)
{
    if (m->p->code == 0)
        m->p->code = m->d->api->set(to, attribute, type, n, from);
}
static void set_one(maker *m, void *to, int attribute, void *descriptor)
{
    set(m, to, attribute, DNN_T_DESCRIPTOR, 1, &descriptor);
}
static void *finish(maker *m, void *d)
{
    if (m->p->code == 0)
        m->p->code = m->d->api->finalize(d);
    return d;
}

/* A tensor with these steps. id 0: a virtual one. */
static void *tensor_of(maker *m, int64_t id, int type, int n, const int64_t *dim, const int64_t *step)
{
    const int64_t alignment = 16;
    const bool is_virtual = id == 0, by_value = id == DNN_SCALE;
    void *t = make(m, DNN_TENSOR);
    if (is_virtual)
        id = VIRTUAL_ID + m->next++;
    set(m, t, DNN_TENSOR_TYPE, DNN_T_DATA_TYPE, 1, &type);
    set(m, t, DNN_TENSOR_DIMS, DNN_T_I64, n, dim);
    set(m, t, DNN_TENSOR_STEPS, DNN_T_I64, n, step);
    set(m, t, DNN_TENSOR_ID, DNN_T_I64, 1, &id);
    set(m, t, DNN_TENSOR_ALIGNMENT, DNN_T_I64, 1, &alignment);
    if (is_virtual)
        set(m, t, DNN_TENSOR_VIRTUAL, DNN_T_BOOL, 1, &is_virtual);
    if (by_value)
        set(m, t, DNN_TENSOR_BY_VALUE, DNN_T_BOOL, 1, &by_value);
    return finish(m, t);
}

/* The same, dense, in the key's order of axes. */
static void *tensor(maker *m, int64_t id, int type, const int64_t *dim)
{
    const dnn_key *k = &m->p->key;
    int n = k->axes + 2;
    int64_t step[5], each = 1;
    if (k->channels_last) {
        step[1] = 1;
        each = dim[1];
    }
    for (int i = n - 1; i >= 0; i--) {
        if (k->channels_last && i == 1)
            continue;
        step[i] = each;
        each *= dim[i];
    }
    return tensor_of(m, id, type, n, dim, step);
}

static void *convolution(maker *m)
{
    const dnn_key *k = &m->p->key;
    const int type = DNN_FLOAT, mode = DNN_CROSS_CORRELATION;
    const int64_t axes = k->axes;
    void *c = make(m, DNN_CONVOLUTION);
    set(m, c, DNN_CONV_AXES, DNN_T_I64, 1, &axes);
    set(m, c, DNN_CONV_TYPE, DNN_T_DATA_TYPE, 1, &type);
    set(m, c, DNN_CONV_MODE, DNN_T_CONV_MODE, 1, &mode);
    set(m, c, DNN_CONV_PADS_BEFORE, DNN_T_I64, axes, k->before);
    set(m, c, DNN_CONV_PADS_AFTER, DNN_T_I64, axes, k->after);
    set(m, c, DNN_CONV_DILATIONS, DNN_T_I64, axes, k->dilation);
    set(m, c, DNN_CONV_STRIDES, DNN_T_I64, axes, k->stride);
    return finish(m, c);
}

static void *convolve(maker *m, void *x, void *w, void *y)
{
    static const struct {
        int kind, conv, x, w, y, alpha, beta;
    } ops[] = {
        [DNN_CONV_FORWARD] = {DNN_OP_FORWARD, DNN_FORWARD_CONV, DNN_FORWARD_X, DNN_FORWARD_W, DNN_FORWARD_Y, DNN_FORWARD_ALPHA,
                              DNN_FORWARD_BETA},
        [DNN_CONV_DATA] = {DNN_OP_DATA, DNN_DATA_CONV, DNN_DATA_DX, DNN_DATA_W, DNN_DATA_DY, DNN_DATA_ALPHA, DNN_DATA_BETA},
        [DNN_CONV_WEIGHT] = {DNN_OP_WEIGHT, DNN_WEIGHT_CONV, DNN_WEIGHT_X, DNN_WEIGHT_DW, DNN_WEIGHT_DY, DNN_WEIGHT_ALPHA,
                             DNN_WEIGHT_BETA},
    };
    const float one = 1, zero = 0;
    const int kind = m->p->key.kind;
    void *c = convolution(m), *o = make(m, ops[kind].kind);
    set_one(m, o, ops[kind].conv, c);
    set_one(m, o, ops[kind].x, x);
    set_one(m, o, ops[kind].w, w);
    set_one(m, o, ops[kind].y, y);
    set(m, o, ops[kind].alpha, DNN_T_FLOAT, 1, &one);
    set(m, o, ops[kind].beta, DNN_T_FLOAT, 1, &zero);
    return finish(m, o);
}

/* y = x + b (mode DNN_ADD), x * b (DNN_MULTIPLY), x - b (DNN_SUBTRACT), x / b (DNN_DIVIDE); of b NULL: x (DNN_IDENTITY), max(x, 0)
 * (DNN_RELU), exp x (DNN_EXP), log x (DNN_LOG) */
static void *pointwise(maker *m, int mode, void *x, void *b, void *y)
{
    const int type = DNN_FLOAT;
    void *how = make(m, DNN_POINTWISE), *o;
    set(m, how, DNN_POINTWISE_MODE, DNN_T_POINTWISE_MODE, 1, &mode);
    set(m, how, DNN_POINTWISE_TYPE, DNN_T_DATA_TYPE, 1, &type);
    finish(m, how);
    o = make(m, DNN_OP_POINTWISE);
    set_one(m, o, DNN_OP_POINTWISE_HOW, how);
    set_one(m, o, DNN_OP_POINTWISE_X, x);
    if (b)
        set_one(m, o, DNN_OP_POINTWISE_B, b);
    set_one(m, o, DNN_OP_POINTWISE_Y, y);
    return finish(m, o);
}

/* dx = dy where x > 0, else 0 */
static void *relu_backward(maker *m, void *x, void *dy, void *dx)
{
    const int type = DNN_FLOAT, mode = DNN_RELU_BACKWARD;
    void *how = make(m, DNN_POINTWISE), *o;
    set(m, how, DNN_POINTWISE_MODE, DNN_T_POINTWISE_MODE, 1, &mode);
    set(m, how, DNN_POINTWISE_TYPE, DNN_T_DATA_TYPE, 1, &type);
    finish(m, how);
    o = make(m, DNN_OP_POINTWISE);
    set_one(m, o, DNN_OP_POINTWISE_HOW, how);
    set_one(m, o, DNN_OP_POINTWISE_X, x);
    set_one(m, o, DNN_OP_POINTWISE_DY, dy);
    set_one(m, o, DNN_OP_POINTWISE_DX, dx);
    return finish(m, o);
}

/* Sums of x and of its squares by channel. */
static void *statistics(maker *m, void *x)
{
    const int type = DNN_FLOAT, mode = 0; /* the only one there is */
    const int64_t dim[5] = {1, m->p->key.y[1], 1, 1, 1};
    void *sum = tensor(m, DNN_SUMS, DNN_FLOAT, dim), *squares = tensor(m, DNN_SQUARES, DNN_FLOAT, dim), *o = make(m, DNN_OP_STATS);
    set(m, o, DNN_STATS_MODE, DNN_T_STATS_MODE, 1, &mode);
    set(m, o, DNN_STATS_TYPE, DNN_T_DATA_TYPE, 1, &type);
    set_one(m, o, DNN_STATS_X, x);
    set_one(m, o, DNN_STATS_SUM, sum);
    set_one(m, o, DNN_STATS_SQUARES, squares);
    return finish(m, o);
}

/* The graph of n operations. */
static void make_graph_of(maker *m, void *const *op, int64_t n)
{
    m->p->graph = make(m, DNN_GRAPH);
    set(m, m->p->graph, DNN_GRAPH_OPS, DNN_T_DESCRIPTOR, n, op);
    if (m->d->handle)
        set(m, m->p->graph, DNN_GRAPH_HANDLE, DNN_T_HANDLE, 1, &m->d->handle);
    finish(m, m->p->graph);
}

/* An operand of attention, [B, H, S, D] or, where the key's bit says so, lying as [B, S, H, D]. */
static void *heads_of(maker *m, int64_t id, int type, const int64_t *dim, int bit)
{
    const bool tokens = m->p->key.tokens >> bit & 1;
    const int64_t all = dim[1] * dim[2] * dim[3];
    const int64_t step[4] = {all, tokens ? dim[3] : dim[2] * dim[3], tokens ? dim[1] * dim[3] : dim[3], 1};
    return tensor_of(m, id, type, 4, dim, step);
}
static void *heads(maker *m, int64_t id, const int64_t *dim, int bit)
{
    return heads_of(m, id, m->p->key.type, dim, bit);
}

static void make_attention(maker *m)
{
    const dnn_key *k = &m->p->key;
    const int64_t one[4] = {1, 1, 1, 1}, v[4] = {k->w[0], k->w[1], k->w[2], k->y[3]};
    const int64_t sums[4] = {k->x[0], k->x[1], k->x[2], 1}, steps[4] = {k->x[1] * k->x[2], k->x[2], 1, 1};
    void *q = heads(m, DNN_X, k->x, 0), *key = heads(m, DNN_W, k->w, 1), *value = heads(m, DNN_V, v, 2), *y = heads(m, DNN_Y, k->y, 3);
    void *scale = tensor_of(m, DNN_SCALE, DNN_FLOAT, 4, one, one);
    void *of_rows = k->sums ? tensor_of(m, DNN_SUMS, DNN_FLOAT, 4, sums, steps) : NULL, *op = make(m, DNN_OP_ATTENTION);
    set_one(m, op, DNN_ATTENTION_Q, q);
    set_one(m, op, DNN_ATTENTION_K, key);
    set_one(m, op, DNN_ATTENTION_V, value);
    set_one(m, op, DNN_ATTENTION_Y, y);
    set_one(m, op, DNN_ATTENTION_SCALE, scale);
    if (of_rows)
        set_one(m, op, DNN_ATTENTION_SUMS, of_rows);
    make_graph_of(m, &(void *){finish(m, op)}, 1);
}

static void *multiply(maker *m, void *a, void *b, void *c)
{
    const int type = DNN_FLOAT;
    void *how = make(m, DNN_MATMUL), *o;
    set(m, how, DNN_MATMUL_TYPE, DNN_T_DATA_TYPE, 1, &type);
    finish(m, how);
    o = make(m, DNN_OP_MATMUL);
    set_one(m, o, DNN_OP_MATMUL_A, a);
    set_one(m, o, DNN_OP_MATMUL_B, b);
    set_one(m, o, DNN_OP_MATMUL_C, c);
    set_one(m, o, DNN_OP_MATMUL_HOW, how);
    return finish(m, o);
}

/* y: x along the axes in which y has length 1 added up, or the largest of it. */
static void *reduce(maker *m, int mode, void *x, void *y)
{
    const int type = DNN_FLOAT;
    void *how = make(m, DNN_REDUCTION), *o;
    set(m, how, DNN_REDUCTION_MODE, DNN_T_REDUCTION, 1, &mode);
    set(m, how, DNN_REDUCTION_TYPE, DNN_T_DATA_TYPE, 1, &type);
    finish(m, how);
    o = make(m, DNN_OP_REDUCTION);
    set_one(m, o, DNN_OP_REDUCTION_X, x);
    set_one(m, o, DNN_OP_REDUCTION_Y, y);
    set_one(m, o, DNN_OP_REDUCTION_HOW, how);
    return finish(m, o);
}

/* A dense value in attention, [B, H, rows, columns]; id 0: of the graph alone. */
static void *dense(maker *m, int64_t id, int type, const int64_t *dim)
{
    return tensor_of(m, id, type, 4, dim, (const int64_t[4]){dim[1] * dim[2] * dim[3], dim[2] * dim[3], dim[3], 1});
}

/* heads, read with the last two axes exchanged. */
static void *turned(maker *m, int64_t id, const int64_t *dim, int bit)
{
    const bool tokens = m->p->key.tokens >> bit & 1;
    const int64_t all = dim[1] * dim[2] * dim[3], to[4] = {dim[0], dim[1], dim[3], dim[2]};
    const int64_t step[4] = {all, tokens ? dim[3] : dim[2] * dim[3], 1, tokens ? dim[1] * dim[3] : dim[3]};
    return tensor_of(m, id, m->p->key.type, 4, to, step);
}

/* scale * a, + the mask: the scores, whose operations are added to op. */
static void *scores_of(maker *m, void *product, void *scale, void **op, int64_t *n)
{
    const dnn_key *k = &m->p->key;
    const int64_t dim[4] = {k->x[0], k->x[1], k->x[2], k->w[2]};
    void *scaled = dense(m, 0, DNN_FLOAT, dim), *masked;
    int64_t mask[4];
    op[(*n)++] = pointwise(m, DNN_MULTIPLY, product, scale, scaled);
    if (!k->bias)
        return scaled;
    for (int i = 0; i < 4; i++)
        mask[i] = k->bias >> i & 1 ? dim[i] : 1;
    masked = dense(m, 0, DNN_FLOAT, dim);
    op[(*n)++] = pointwise(m, DNN_ADD, scaled, dense(m, DNN_BIAS, DNN_FLOAT, mask), masked);
    return masked;
}

static void *scale_of(maker *m)
{
    const int64_t one[4] = {1, 1, 1, 1};
    return tensor_of(m, DNN_SCALE, DNN_FLOAT, 4, one, one);
}

/* With a mask the node has no place for it: the graph is written out, softmax and all, in the form that the library has engines for,
 * the logarithms of the sums among its results (without them it has none). K is read as [B, H, D, Sk]. */
static void make_masked_attention(maker *m)
{
    const dnn_key *k = &m->p->key;
    const int64_t scores[4] = {k->x[0], k->x[1], k->x[2], k->w[2]}, rows[4] = {k->x[0], k->x[1], k->x[2], 1};
    const int64_t v[4] = {k->w[0], k->w[1], k->w[2], k->y[3]};
    void *op[11], *s[3], *masked, *most = dense(m, 0, DNN_FLOAT, rows), *sum = dense(m, 0, DNN_FLOAT, rows);
    void *log_sum = dense(m, 0, DNN_FLOAT, rows), *p = dense(m, 0, k->type, scores);
    int64_t n = 0;
    for (int i = 0; i < 3; i++)
        s[i] = dense(m, 0, DNN_FLOAT, scores);
    op[n++] = multiply(m, heads(m, DNN_X, k->x, 0), turned(m, DNN_W, k->w, 1), s[0]);
    masked = scores_of(m, s[0], scale_of(m), op, &n);
    op[n++] = reduce(m, DNN_REDUCE_MAX, masked, most);
    op[n++] = pointwise(m, DNN_SUBTRACT, masked, most, s[1]);
    op[n++] = pointwise(m, DNN_EXP, s[1], NULL, s[2]);
    op[n++] = reduce(m, DNN_REDUCE_ADD, s[2], sum);
    op[n++] = pointwise(m, DNN_LOG, sum, NULL, log_sum);
    op[n++] = pointwise(m, DNN_ADD, most, log_sum, dense(m, DNN_SUMS, DNN_FLOAT, rows));
    op[n++] = pointwise(m, DNN_DIVIDE, s[2], sum, p);
    op[n++] = multiply(m, p, heads(m, DNN_V, v, 2), heads(m, DNN_Y, k->y, 3));
    make_graph_of(m, op, n);
}

/* y: x with the last two axes exchanged, where it lies. */
static void *reshape(maker *m, void *x, void *y)
{
    void *o = make(m, DNN_OP_RESHAPE);
    set_one(m, o, DNN_RESHAPE_X, x);
    set_one(m, o, DNN_RESHAPE_Y, y);
    return finish(m, o);
}

/* The gradient has no node that an engine takes, written out it has: with P = exp(scores - sums) and dP = dy V^T
 *     dV = P^T dy,  dS = scale * P * (dP - rowsum(dy * y)),  dK = dS^T Q,  dQ = dS K
 * in the form whose sums have a fixed order: dQ is written once, not added to by blocks of keys in a buffer of zeros. */
static void make_attention_grad(maker *m)
{
    const dnn_key *k = &m->p->key;
    const int64_t scores[4] = {k->x[0], k->x[1], k->x[2], k->w[2]}, rows[4] = {k->x[0], k->x[1], k->x[2], 1};
    const int64_t v[4] = {k->w[0], k->w[1], k->w[2], k->y[3]}, steps[4] = {k->x[1] * k->x[2] * k->w[2], k->x[2] * k->w[2], 1, k->w[2]};
    const int64_t turned_scores[4] = {k->x[0], k->x[1], k->w[2], k->x[2]};
    void *op[20], *s[7], *far, *scale = scale_of(m), *q = heads(m, DNN_X, k->x, 0), *key = turned(m, DNN_W, k->w, 1);
    void *dy = heads(m, DNN_DY, k->y, 3), *each = heads_of(m, 0, DNN_FLOAT, k->y, 3), *delta = dense(m, 0, DNN_FLOAT, rows);
    void *turned_p = tensor_of(m, 0, k->type, 4, turned_scores, steps), *turned_s = tensor_of(m, 0, k->type, 4, turned_scores, steps);
    void *plain_key = heads(m, 0, k->w, 1);
    int64_t n = 0;
    for (int i = 0; i < 7; i++)
        s[i] = dense(m, 0, DNN_FLOAT, scores);
    op[n++] = pointwise(m, DNN_MULTIPLY, dy, heads(m, DNN_Y, k->y, 3), each);
    op[n++] = reduce(m, DNN_REDUCE_ADD, each, delta);
    op[n++] = multiply(m, q, key, s[0]);
    far = scores_of(m, s[0], scale, op, &n);
    op[n++] = pointwise(m, DNN_SUBTRACT, far, dense(m, DNN_SUMS, DNN_FLOAT, rows), s[1]);
    op[n++] = pointwise(m, DNN_EXP, s[1], NULL, s[2]);
    op[n++] = reshape(m, s[2], turned_p);
    op[n++] = multiply(m, turned_p, dy, heads(m, DNN_DV, v, 2));
    op[n++] = multiply(m, dy, turned(m, DNN_V, v, 2), s[3]);
    op[n++] = pointwise(m, DNN_SUBTRACT, s[3], delta, s[4]);
    op[n++] = pointwise(m, DNN_MULTIPLY, s[4], s[2], s[5]);
    op[n++] = pointwise(m, DNN_MULTIPLY, s[5], scale, s[6]);
    op[n++] = reshape(m, s[6], turned_s);
    op[n++] = multiply(m, turned_s, q, heads(m, DNN_DW, k->w, 1));
    op[n++] = reshape(m, key, plain_key);
    op[n++] = multiply(m, s[6], plain_key, heads(m, DNN_DX, k->x, 0));
    make_graph_of(m, op, n);
}

/* What is convolved: x, or its norm and relu, whose operations are added to op. */
static void *data_of(maker *m, void **op, int64_t *n)
{
    const dnn_key *k = &m->p->key;
    const int64_t of_norm[5] = {1, k->x[1], 1, 1, 1};
    void *x = tensor(m, DNN_X, k->type, k->x), *part[3];
    if (!k->norm)
        return x;
    void *scale = tensor(m, DNN_NORM_SCALE, k->type, of_norm), *shift = tensor(m, DNN_NORM_SHIFT, k->type, of_norm);
    for (int i = 0; i < 3; i++)
        part[i] = tensor(m, 0, i < 2 ? DNN_FLOAT : k->type, k->x); /* the product may be larger than what a half holds */
    op[(*n)++] = pointwise(m, DNN_MULTIPLY, x, scale, part[0]);
    op[(*n)++] = pointwise(m, DNN_ADD, part[0], shift, part[1]);
    op[(*n)++] = pointwise(m, DNN_RELU, part[1], NULL, part[2]);
    return part[2];
}

/* The weight's gradient: where it is wider than the images, what the graph sums up is copied out. */
static void make_weight(maker *m)
{
    const dnn_key *k = &m->p->key;
    const int type = dnn_operand_type(k, DNN_W);
    const bool widens = type != k->type;
    int64_t n = 0;
    void *op[5], *x = data_of(m, op, &n), *y = tensor(m, DNN_Y, k->type, k->y);
    void *w = tensor(m, widens ? 0 : DNN_W, type, k->w);
    op[n++] = convolve(m, x, w, y);
    if (widens)
        op[n++] = pointwise(m, DNN_IDENTITY, w, NULL, tensor(m, DNN_W, type, k->w));
    make_graph_of(m, op, n);
}

/* The convolution and what follows it: + residual, + bias, relu (the order of cuDNN's fused engines), sums of what that is. */
static void make_convolution(maker *m)
{
    const dnn_key *k = &m->p->key;
    const int64_t of_bias[5] = {1, k->y[1], 1, 1, 1};
    int more = (k->residual != 0) + (k->bias != 0) + (k->relu != 0);
    int64_t n = 0;
    void *op[8], *x = data_of(m, op, &n), *w = tensor(m, DNN_W, k->type, k->w);
    void *at = tensor(m, more ? 0 : DNN_Y, more ? DNN_FLOAT : k->type, k->y);
    op[n++] = convolve(m, x, w, at);
    for (int part = 0; part < 3; part++) {
        if (!(part == 0 ? k->residual : part == 1 ? k->bias : k->relu))
            continue;
        void *b = part == 0   ? tensor(m, DNN_RESIDUAL, k->type, k->y)
                  : part == 1 ? tensor(m, DNN_BIAS, dnn_operand_type(k, DNN_BIAS), of_bias)
                              : NULL;
        void *to = --more ? tensor(m, 0, DNN_FLOAT, k->y) : tensor(m, DNN_Y, k->type, k->y);
        op[n++] = pointwise(m, part == 2 ? DNN_RELU : DNN_ADD, at, b, to);
        at = to;
    }
    if (k->sums)
        op[n++] = statistics(m, at);
    make_graph_of(m, op, n);
}

/* The data's gradient g where the relu of the norm that made the data was not flat, and what that norm's backward sums up of it. The one
 * form that cuDNN has engines for: the norm is computed again in float32 of x, mean, 1 / deviation, scale and shift. */
static void make_data_sums(maker *m)
{
    static const struct {
        int id, attribute; /* results of the last operation */
    } made[] = {{DNN_PRODUCTS, DNN_SUMS_DSCALE}, {DNN_SUMS, DNN_SUMS_DBIAS}, {DNN_DY_FACTOR, DNN_SUMS_DY_FACTOR},
                {DNN_X_FACTOR, DNN_SUMS_X_FACTOR}, {DNN_TERM, DNN_SUMS_TERM}};
    const dnn_key *k = &m->p->key;
    const int type = DNN_FLOAT;
    const int64_t dim[5] = {1, k->x[1], 1, 1, 1};
    void *op[8], *part[4], *sums, *all = tensor(m, 0, DNN_FLOAT, k->x), *g = tensor(m, DNN_X, k->type, k->x);
    void *x = tensor(m, DNN_NORM_X, k->type, k->x), *mean = tensor(m, DNN_NORM_MEAN, DNN_FLOAT, dim);
    void *inv = tensor(m, DNN_NORM_INV, DNN_FLOAT, dim), *scale = tensor(m, DNN_NORM_SCALE, DNN_FLOAT, dim);
    void *shift = tensor(m, DNN_NORM_SHIFT, DNN_FLOAT, dim);
    int64_t n = 0;
    op[n++] = convolve(m, all, tensor(m, DNN_W, k->type, k->w), tensor(m, DNN_Y, k->type, k->y));
    for (int i = 0; i < 4; i++)
        part[i] = tensor(m, 0, DNN_FLOAT, k->x);
    op[n++] = pointwise(m, DNN_SUBTRACT, x, mean, part[0]);
    op[n++] = pointwise(m, DNN_MULTIPLY, part[0], inv, part[1]);
    op[n++] = pointwise(m, DNN_MULTIPLY, part[1], scale, part[2]);
    op[n++] = pointwise(m, DNN_ADD, part[2], shift, part[3]);
    op[n++] = relu_backward(m, part[3], all, g);
    sums = make(m, DNN_OP_NORM_SUMS);
    set(m, sums, DNN_SUMS_TYPE, DNN_T_DATA_TYPE, 1, &type);
    set_one(m, sums, DNN_SUMS_MEAN, mean);
    set_one(m, sums, DNN_SUMS_INV, inv);
    set_one(m, sums, DNN_SUMS_SCALE, scale);
    set_one(m, sums, DNN_SUMS_X, x);
    set_one(m, sums, DNN_SUMS_DY, g);
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        set_one(m, sums, made[i].attribute, tensor(m, made[i].id, DNN_FLOAT, dim));
    op[n++] = finish(m, sums);
    make_graph_of(m, op, n);
}

void dnn_make_graph(const cuda_dnn *d, dnn_plan *p)
{
    maker m = {.d = d, .p = p};
    p->key.kind == DNN_ATTENTION_GRAD                 ? make_attention_grad(&m)
    : p->key.kind == DNN_ATTENTION && p->key.bias != 0 ? make_masked_attention(&m)
    : p->key.kind == DNN_ATTENTION                    ? make_attention(&m)
    : p->key.kind == DNN_CONV_WEIGHT                  ? make_weight(&m)
    : p->key.kind == DNN_CONV_DATA && p->key.norm != 0 ? make_data_sums(&m)
                                                      : make_convolution(&m);
    if (p->code != 0)
        p->graph = NULL;
}
