/* fuse_qdq.c - groups of DequantizeLinear, a float operator and QuantizeLinear become operators on integers.
 *
 * In: a frozen graph in QDQ form. Out: the same graph where
 *   DQ -> Conv -> Q                   is QLinearConv   (weights constant, bias int32 with the scale sx * sw, or none)
 *   DQ -> Gemm or MatMul + bias -> Q  is QGemm, MatMul without bias QLinearMatMul
 *   DQ, DQ -> Add -> Q                is QLinearAdd
 *   DQ -> what moves or compares -> Q is that operator on bytes, where parameters on both sides are equal
 *   Q -> DQ -> Q                      is Q, where they are equal
 * A Relu or Clip before Q is part of the group: rounding keeps order, so clipping the integers at the rounded bounds is the
 * same; where the integers' own range does that already, nothing is left of it. What is in no group stays float between its
 * DQ and Q, which is the definition. QLinearAdd and moves give the bits of the definition; products round once where the
 * definition rounds in several places: equal for scales that are powers of two, else within one. */
#include "base/log.h"
#include "graph/graph.h"
#include "ops/attrs.h"

#include <math.h>
#include <string.h>

/* What a group becomes. */
typedef struct made {
    op_id op; /* OP_NONE: no group */
    const void *attr;
    value_id in[9];
    size_t n_in;
} made;

typedef struct groups {
    graph *g;
    uint32_t *uses; /* of every value when the pass began */
    size_t n_value;
} groups;

/* Scale and zero point of a QuantizeLinear or DequantizeLinear. */
typedef struct params {
    value_id scale, zero; /* zero 0: absent */
    dtype type;           /* of the integers */
    int64_t axis;         /* as the node has it; matters where there are several scales */
} params;

static bool is_const(const graph *g, value_id v)
{
    return v && g->value[v].kind == VALUE_CONST;
}

static bool params_of(const graph *g, const node *n, params *p)
{
    *p = (params){.scale = n->in[1], .zero = n->n_in > 2 ? n->in[2] : 0, .axis = ((const quant_attrs *)n->attr)->axis};
    p->type = g->value[n->op == OP_QUANTIZE_LINEAR ? n->out[0] : n->in[0]].type;
    return is_const(g, p->scale) && (!p->zero || is_const(g, p->zero)) && g->value[p->scale].type == DTYPE_F32;
}

/* v is DequantizeLinear of *q with constant parameters. */
static bool dequantized(const graph *g, value_id v, value_id *q, params *p)
{
    node_id k = v ? g->value[v].from : 0;
    if (!k || g->node[k].op != OP_DEQUANTIZE_LINEAR || g->value[v].type != DTYPE_F32)
        return false;
    *q = g->node[k].in[0];
    return params_of(g, &g->node[k], p);
}

static bool is_byte(dtype t)
{
    return t == DTYPE_U8 || t == DTYPE_I8;
}

static int64_t scales(const graph *g, const params *p)
{
    return shape_count(&g->value[p->scale].sh);
}
static float scale_at(const graph *g, const params *p, int64_t c)
{
    return ((const float *)g->value[p->scale].data)[scales(g, p) > 1 ? c : 0];
}
static double zero_at(const graph *g, const params *p, int64_t c)
{
    const value *z = &g->value[p->zero];
    return p->zero ? dtype_load(z->type, z->data, shape_count(&z->sh) > 1 ? c : 0) : 0;
}

/* v holds bytes with one scale. */
static bool bytes_of(const graph *g, value_id v, value_id *q, params *p)
{
    return dequantized(g, v, q, p) && is_byte(p->type) && scales(g, p) == 1;
}

static bool equal(const graph *g, const params *a, const params *b)
{
    return a->type == b->type && scales(g, a) == 1 && scales(g, b) == 1 && scale_at(g, a, 0) == scale_at(g, b, 0) &&
           zero_at(g, a, 0) == zero_at(g, b, 0);
}

/* The zero point as an input that is there: QLinearConv and its like must have one. */
static status zero_input(graph *g, const params *p, value_id *out)
{
    shape sh = g->value[p->scale].sh;
    *out = p->zero;
    return p->zero ? ST_OK : graph_add_fill(g, p->type, sh, 0, out);
}

/* q, scale and zero into three inputs. */
static status put_operand(graph *g, made *m, int at, value_id q, const params *p)
{
    m->in[at] = q;
    m->in[at + 1] = p->scale;
    return zero_input(g, p, &m->in[at + 2]);
}
static status put_result(graph *g, made *m, int at, const params *p)
{
    m->in[at] = p->scale;
    return zero_input(g, p, &m->in[at + 1]);
}

/* ---- products ---- */

/* Constant bytes with one scale, or one per channel along `axis`. */
static bool weights_of(const graph *g, value_id v, int axis, value_id *q, params *p)
{
    if (!dequantized(g, v, q, p) || !is_byte(p->type) || !is_const(g, *q))
        return false;
    return scales(g, p) == 1 || shape_axis(&g->value[*q].sh, p->axis) == axis;
}

/* v is absent, or constant int32 of one number per channel with the scale of the accumulators. *q: 0 when absent. */
static bool bias_of(const graph *g, value_id v, int64_t channels, const params *x, const params *w, value_id *q)
{
    params b;
    *q = 0;
    if (!v)
        return true;
    if (!dequantized(g, v, q, &b) || b.type != DTYPE_I32 || !is_const(g, *q) || shape_count(&g->value[*q].sh) != channels)
        return false;
    const shape *s = &g->value[*q].sh;
    if (s->rank < 1 || s->dim[s->rank - 1] != channels || (scales(g, &b) != 1 && scales(g, &b) != channels))
        return false;
    for (int64_t c = 0; c < channels; c++) {
        float want = scale_at(g, x, 0) * scale_at(g, w, c), have = scale_at(g, &b, c);
        if (!(fabsf(have - want) <= 1e-5f * want) || zero_at(g, &b, c) != 0)
            return false;
    }
    return true;
}

/* The bias as a list [channels]; it may have leading axes of length 1. */
static status bias_input(graph *g, value_id q, int64_t channels, value_id *out)
{
    *out = q;
    if (!q || g->value[q].sh.rank == 1)
        return ST_OK;
    value v = g->value[q];
    return graph_add_data(g, v.name, VALUE_CONST, v.type, SHAPE(channels), v.data, out);
}

static status conv_group(groups *f, const node *n, const params *y, made *m)
{
    graph *g = f->g;
    const conv_attrs *at = n->attr;
    value_id x, w, b;
    params px, pw;
    if (at->relu || n->n_in > 3 || !bytes_of(g, n->in[0], &x, &px) || !weights_of(g, n->in[1], 0, &w, &pw))
        return ST_OK;
    int64_t channels = g->value[w].sh.dim[0];
    if (!bias_of(g, n->n_in > 2 ? n->in[2] : 0, channels, &px, &pw, &b))
        return ST_OK;
    *m = (made){.op = OP_QLINEAR_CONV, .attr = at, .n_in = b ? 9 : 8};
    TRY(put_operand(g, m, 0, x, &px));
    TRY(put_operand(g, m, 3, w, &pw));
    TRY(put_result(g, m, 6, y));
    return bias_input(g, b, channels, &m->in[8]);
}

/* x * w + bias with a constant matrix w. */
static status linear_group(groups *f, value_id vx, value_id vw, value_id bias, bool trans_b, const params *y, made *m)
{
    graph *g = f->g;
    value_id x, w, b;
    params px, pw;
    if (!bytes_of(g, vx, &x, &px) || g->value[x].sh.rank < 2 || g->value[vw].sh.rank != 2 ||
        !weights_of(g, vw, trans_b ? 0 : 1, &w, &pw))
        return ST_OK;
    int64_t cols = g->value[w].sh.dim[trans_b ? 0 : 1];
    if (!bias_of(g, bias, cols, &px, &pw, &b))
        return ST_OK;
    gemm_attrs *at;
    TRY(arena_alloc(&g->mem, &at, 1, sizeof *at));
    *at = (gemm_attrs){.alpha = 1, .transB = trans_b};
    *m = (made){.op = OP_QGEMM, .attr = at, .n_in = 9};
    TRY(put_operand(g, m, 0, x, &px));
    TRY(put_operand(g, m, 3, w, &pw));
    TRY(put_result(g, m, 7, y));
    return bias_input(g, b, cols, &m->in[6]);
}

static status gemm_group(groups *f, const node *n, const params *y, made *m)
{
    const gemm_attrs *at = n->attr;
    value_id bias = n->n_in > 2 ? n->in[2] : 0;
    if (at->alpha != 1 || at->transA || (bias && at->beta != 1))
        return ST_OK;
    return linear_group(f, n->in[0], n->in[1], bias, at->transB != 0, y, m);
}

/* Two activations, or a stack of matrices. */
static status matmul_group(groups *f, const node *n, const params *y, made *m)
{
    graph *g = f->g;
    const matmul_attrs *at = n->attr;
    value_id a, b;
    params pa, pb;
    if (at->transA || at->transB)
        return ST_OK;
    TRY(linear_group(f, n->in[0], n->in[1], 0, false, y, m));
    if (m->op || !bytes_of(g, n->in[0], &a, &pa) || !bytes_of(g, n->in[1], &b, &pb))
        return ST_OK;
    *m = (made){.op = OP_QLINEAR_MATMUL, .n_in = 8};
    TRY(put_operand(g, m, 0, a, &pa));
    TRY(put_operand(g, m, 3, b, &pb));
    return put_result(g, m, 6, y);
}

/* ---- sums ---- */

static node_id only_reader_of(const groups *f, value_id v, op_id op)
{
    node_id k = v < f->n_value && f->uses[v] == 1 ? f->g->value[v].from : 0;
    return k && f->g->node[k].op == op ? k : 0;
}

/* MatMul + bias, or the sum of two tensors. */
static status add_group(groups *f, const node *n, const params *y, made *m)
{
    graph *g = f->g;
    value_id a, b;
    params pa, pb;
    for (int i = 0; i < 2; i++) {
        node_id k = only_reader_of(f, n->in[i], OP_MATMUL);
        if (!k || ((const matmul_attrs *)g->node[k].attr)->transA || ((const matmul_attrs *)g->node[k].attr)->transB)
            continue;
        TRY(linear_group(f, g->node[k].in[0], g->node[k].in[1], n->in[1 - i], false, y, m));
        if (m->op)
            return ST_OK;
    }
    if (!bytes_of(g, n->in[0], &a, &pa) || !bytes_of(g, n->in[1], &b, &pb))
        return ST_OK;
    *m = (made){.op = OP_QLINEAR_ADD, .n_in = 8};
    TRY(put_operand(g, m, 0, a, &pa));
    TRY(put_operand(g, m, 3, b, &pb));
    return put_result(g, m, 6, y);
}

/* ---- moves ---- */

/* The operator itself on bytes: every operand has the result's parameters. */
static status move_group(groups *f, const node *n, const params *y, made *m)
{
    graph *g = f->g;
    params p;
    made as_is = {.op = n->op, .attr = n->attr, .n_in = n->n_in};
    if (n->n_in > sizeof m->in / sizeof *m->in || n->n_out != 1)
        return ST_OK;
    for (int i = 0; i < n->n_in; i++)
        if (!bytes_of(g, n->in[i], &as_is.in[i], &p) || !equal(g, &p, y))
            return ST_OK;
    *m = as_is;
    return ST_OK;
}

static status pad_group(groups *f, const node *n, const params *y, made *m)
{
    pad_attrs *at;
    if (((const pad_attrs *)n->attr)->mode == PAD_CONSTANT && ((const pad_attrs *)n->attr)->constant_value != 0)
        return ST_OK;
    TRY(move_group(f, n, y, m));
    TRY(arena_alloc(&f->g->mem, &at, 1, sizeof *at));
    *at = *(const pad_attrs *)n->attr;
    at->constant_value = zero_at(f->g, y, 0);
    m->attr = at;
    return ST_OK;
}

static status resize_group(groups *f, const node *n, const params *y, made *m)
{
    const resize_attrs *at = n->attr;
    bool moves = at->mode == RESIZE_NEAREST && at->coordinate_transformation_mode != COORD_TF_CROP;
    return moves ? move_group(f, n, y, m) : ST_OK;
}

/* Q -> DQ -> Q (with a Relu or Clip in front of the second Q). */
static status same_group(groups *f, const node *n, const params *y, made *m)
{
    value_id q;
    params p;
    if (bytes_of(f->g, n->out[0], &q, &p) && equal(f->g, &p, y))
        *m = (made){.op = OP_IDENTITY, .in = {q}, .n_in = 1};
    return ST_OK;
}

/* By the operator whose result is quantised. */
typedef status group_rule(groups *f, const node *n, const params *y, made *m);
static group_rule *const rules[OP_COUNT] = {
    [OP_CONV] = conv_group,        [OP_GEMM] = gemm_group,       [OP_MATMUL] = matmul_group,   [OP_ADD] = add_group,
    [OP_MAX_POOL] = move_group,    [OP_RESHAPE] = move_group,    [OP_FLATTEN] = move_group,    [OP_SQUEEZE] = move_group,
    [OP_UNSQUEEZE] = move_group,   [OP_TRANSPOSE] = move_group,  [OP_SLICE] = move_group,      [OP_CONCAT] = move_group,
    [OP_PAD] = pad_group,          [OP_RESIZE] = resize_group,   [OP_DEQUANTIZE_LINEAR] = same_group,
};

/* ---- one group ---- */

/* Bounds of Relu and Clip; false: another operator. */
static bool bounds_of(const node *n, double *lo, double *hi)
{
    *lo = 0;
    *hi = (double)INFINITY;
    if (n->op == OP_CLIP) {
        *lo = ((const clip_attrs *)n->attr)->min;
        *hi = ((const clip_attrs *)n->attr)->max;
    }
    return n->op == OP_RELU || (n->op == OP_CLIP && *lo <= *hi);
}

/* QuantizeLinear of one number. */
static double quantized(const graph *g, const params *y, double v)
{
    bool sign = y->type == DTYPE_I8;
    double q = (double)rintf((float)v / scale_at(g, y, 0)) + zero_at(g, y, 0), lo = sign ? -128 : 0, hi = sign ? 127 : 255;
    return q < lo ? lo : q > hi ? hi : q;
}

/* Node k becomes what the group is made of, when inference takes it; its results keep their ids. */
static status become(graph *g, node_id k, const made *m, bool *done)
{
    node n = g->node[k];
    value_id *in;
    void *at = NULL;
    const op_desc *d = op_of(m->op);
    *done = false;
    TRY(arena_alloc(&g->mem, &in, m->n_in, sizeof *in));
    memcpy(in, m->in, m->n_in * sizeof *in);
    if (d->attr_size) {
        TRY(arena_alloc(&g->mem, &at, 1, d->attr_size));
        memcpy(at, m->attr, d->attr_size);
    }
    n.op = m->op;
    n.in = in;
    n.n_in = (uint16_t)m->n_in;
    n.attr = at;
    value before = g->value[n.out[0]];
    status st = d->infer(g, &n);
    *done = st == ST_OK && shape_equal(&before.sh, &g->value[n.out[0]].sh);
    if (*done) {
        g->node[k] = n;
        return ST_OK;
    }
    g->value[n.out[0]] = before;
    if (st != ST_BAD_DATA && st != ST_OK)
        return st;
    if (st == ST_BAD_DATA) /* sums too long for int32 and the like */
        log_info("%s; this one is computed in float32, between its DequantizeLinear and QuantizeLinear", status_message());
    status_clear();
    return ST_OK;
}

static status try_group(groups *f, node_id k)
{
    graph *g = f->g;
    params y;
    double lo = -(double)INFINITY, hi = (double)INFINITY, first, last;
    made m = {0};
    bool done;
    node_id from = g->value[g->node[k].in[0]].from;
    if (!params_of(g, &g->node[k], &y) || !is_byte(y.type) || scales(g, &y) != 1 || !from)
        return ST_OK;
    if (bounds_of(&g->node[from], &lo, &hi) && f->uses[g->node[from].out[0]] == 1)
        from = g->value[g->node[from].in[0]].from;
    else
        lo = -(hi = (double)INFINITY);
    if (!from || !rules[g->node[from].op])
        return ST_OK;
    bool shared = f->uses[g->node[from].out[0]] != 1 || g->node[from].when != g->node[k].when;
    if (shared && g->node[from].op != OP_DEQUANTIZE_LINEAR)
        return ST_OK;
    const node source = g->node[from];
    TRY(rules[source.op](f, &source, &y, &m));
    if (m.op == OP_NONE)
        return ST_OK;
    first = quantized(g, &y, lo);
    last = quantized(g, &y, hi);
    if (first == quantized(g, &y, -(double)INFINITY) && last == quantized(g, &y, (double)INFINITY))
        return become(g, k, &m, &done);
    /* the operator takes the place of the float one, a Clip of bytes that of Q */
    clip_attrs clip = {first, last};
    value_id bytes = source.out[0];
    if (m.op == OP_IDENTITY)
        bytes = m.in[0];
    else {
        dtype was = g->value[bytes].type;
        TRY(become(g, from, &m, &done));
        if (!done) {
            g->value[bytes].type = was;
            return ST_OK;
        }
    }
    return become(g, k, &(made){.op = OP_CLIP, .attr = &clip, .in = {bytes}, .n_in = 1}, &done);
}

status pass_integer_groups(graph *g)
{
    groups f = {.g = g, .n_value = g->n_value};
    status st = ST_OK;
    bool any = false;
    for (size_t k = 1; k < g->n_node; k++)
        any |= g->node[k].op == OP_QUANTIZE_LINEAR;
    if (!any)
        return ST_OK;
    TRY(graph_count_uses(g, &f.uses));
    for (size_t k = 1; k < g->n_node && st == ST_OK; k++)
        if (g->node[k].op == OP_QUANTIZE_LINEAR)
            st = try_group(&f, (node_id)k);
    mem_free(f.uses);
    TRY(st);
    return pass_drop_identity(g); /* drops what is dead too */
}
