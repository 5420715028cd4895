/* portable.c - the checks of portable.h: first what every float value means in codes, then node by node. */
#include "quant/portable.h"

#include "ops/attrs.h"
#include "ops/qdq.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- what may stand between integers ---- */

typedef enum op_kind { KIND_FLOAT, KIND_PRODUCT, KIND_SUM, KIND_MOVE, KIND_CLAMP, KIND_PAIR } op_kind;

typedef struct op_row {
    op_kind kind;
    const char *advice; /* of operators that are refused: what to write instead */
    bool gemm;          /* a product by a matrix */
} op_row;

#define AS_DEPTHWISE "write it as a depthwise convolution with all weights 4 and bias 2"
static const op_row rows[OP_COUNT] = {
    [OP_QUANTIZE_LINEAR] = {KIND_PAIR}, [OP_DEQUANTIZE_LINEAR] = {KIND_PAIR},
    [OP_CONV] = {KIND_PRODUCT}, [OP_GEMM] = {KIND_PRODUCT, .gemm = true},
    [OP_ADD] = {KIND_SUM},
    [OP_RELU] = {KIND_CLAMP}, [OP_CLIP] = {KIND_CLAMP},
    [OP_MAX_POOL] = {KIND_MOVE}, [OP_RESHAPE] = {KIND_MOVE}, [OP_FLATTEN] = {KIND_MOVE}, [OP_SQUEEZE] = {KIND_MOVE},
    [OP_UNSQUEEZE] = {KIND_MOVE}, [OP_TRANSPOSE] = {KIND_MOVE}, [OP_SLICE] = {KIND_MOVE}, [OP_SPLIT] = {KIND_MOVE},
    [OP_CONCAT] = {KIND_MOVE}, [OP_PAD] = {KIND_MOVE}, [OP_RESIZE] = {KIND_MOVE}, [OP_IDENTITY] = {KIND_MOVE},
    [OP_DROPOUT] = {KIND_MOVE}, [OP_GLOBAL_MAX_POOL] = {KIND_MOVE},
    [OP_AVERAGE_POOL] = {.advice = AS_DEPTHWISE}, [OP_GLOBAL_AVERAGE_POOL] = {.advice = AS_DEPTHWISE},
    [OP_REDUCE_MEAN] = {.advice = AS_DEPTHWISE},
    [OP_MATMUL] = {.advice = "write it as Gemm with an int32 bias"},
    [OP_BATCH_NORM] = {.advice = "fold it into the convolution before it"},
    [OP_SOFTMAX] = {.advice = "end the integers at the logits"}, [OP_SIGMOID] = {.advice = "end the integers before it"},
};

static const op_row *row_of(const node *n)
{
    return &rows[n->op];
}

/* What a float value means in codes: nothing (it was computed), or real = scale * (code - zero). */
typedef struct meaning {
    bool known;
    qdq q;
} meaning;

typedef struct checker {
    const graph *g;
    portable_report *r;
    meaning *mean;   /* [n_value] */
    uint8_t *inside; /* [n_value] something is rounded to integers later that depends on it */
    node_id *reader; /* [n_value] first that reads it and is neither QuantizeLinear nor relu */
    node_id *clamp;  /* [n_value] the relu or clip that reads it */
    uint8_t *output; /* [n_value] of the graph */
} checker;

PRINTF_LIKE(4, 5) static status fault(checker *c, const node *n, int rule, const char *fmt, ...)
{
    portable_report *r = c->r;
    char what[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    TRY(mem_push(&r->fault, &r->cap_fault, r->n_fault, sizeof *r->fault));
    portable_fault *f = &r->fault[r->n_fault];
    f->rule = rule;
    TRY(arena_strdup(&r->mem, &f->node, n->name));
    TRY(arena_strdup(&r->mem, &f->what, what));
    r->n_fault++;
    return ST_OK;
}

/* ---- numbers ---- */

/* The exponent of a power of two among the normal floats; false: it is none. */
static bool exponent_of(float s, int *e)
{
    double m = frexp((double)s, e);
    *e -= 1;
    return fpclassify(s) == FP_NORMAL && m == 0.5;
}

static bool is_byte(dtype t)
{
    return t == DTYPE_U8 || t == DTYPE_I8;
}

/* The zero point as of uint8 codes. */
static int64_t zero_as_u8(const qdq *q)
{
    return qdq_zero(q, 0) + (q->type == DTYPE_I8 ? 128 : 0);
}

/* ---- rules 1 and 5 of an activation ---- */

static status check_activation(checker *c, const node *n, const qdq *q)
{
    int e;
    if (!is_byte(q->type))
        return fault(c, n, 6, "activations are %s; uint8 and int8 are portable", dtype_of(q->type)->name);
    if (q->n != 1)
        return fault(c, n, 1, "an activation has %" PRId64 " scales; it must have one", q->n);
    if (!exponent_of(q->scale[0], &e))
        TRY(fault(c, n, 1, "scale %.9g is not a power of two", (double)q->scale[0]));
    int64_t zero = qdq_zero(q, 0);
    if (c->r->profile == PROFILE_PORTABLE_S8) {
        if (q->type != DTYPE_I8 || zero != 0)
            TRY(fault(c, n, 5, "%s with zero point %" PRId64 "; portable-s8 has int8 with 0 everywhere", dtype_of(q->type)->name,
                      zero));
    } else if (zero_as_u8(q) != 0 && zero_as_u8(q) != 128) {
        TRY(fault(c, n, 5, "zero point %" PRId64 " of %s; it must be %s", zero, dtype_of(q->type)->name,
                  q->type == DTYPE_U8 ? "0 (after a relu) or 128" : "-128 (after a relu) or 0"));
    }
    return ST_OK;
}

/* ---- rule 5 of a relu or clip before these codes ---- */

static void bounds_of(const node *n, double *lo, double *hi)
{
    const clip_attrs *a = n->attr; /* Relu has none */
    *lo = a ? a->min : 0;
    *hi = a ? a->max : (double)INFINITY;
}

static status check_clamp(checker *c, const node *n, const qdq *q)
{
    double lo, hi, s = (double)q->scale[0], least = s * (double)-zero_as_u8(q), most = s * (double)(255 - zero_as_u8(q));
    bounds_of(n, &lo, &hi);
    bool zero_cut = c->r->profile == PROFILE_PORTABLE_S8 && lo == 0; /* at code 0, which every engine has */
    if (!zero_cut && lo > least)
        return fault(c, n, 5, "cuts at %g, but its codes reach down to %g; after a relu the zero point is %s", lo, least,
                     q->type == DTYPE_U8 ? "0" : "-128");
    if (hi < most)
        return fault(c, n, 5, "cuts at %g inside the range of its codes, which end at %g; choose a smaller scale", hi, most);
    return ST_OK;
}

/* ---- rules 1 to 4 of Conv and Gemm ---- */

/* One output channel's worst numbers, and how many channels break a rule. */
typedef struct tally {
    int64_t count, channel; /* breaking it, the first of them */
    double number;          /* what that one has */
} tally;

static void tell(tally *t, int64_t channel, double number)
{
    if (t->count++ == 0) {
        t->channel = channel;
        t->number = number;
    }
}

static status report_tally(checker *c, const node *n, int rule, const tally *t, const char *what)
{
    if (!t->count)
        return ST_OK;
    if (t->count == 1)
        return fault(c, n, rule, "channel %" PRId64 ": %s is %.9g", t->channel, what, t->number);
    return fault(c, n, rule, "channel %" PRId64 ": %s is %.9g (and %" PRId64 " more channels)", t->channel, what, t->number,
                 t->count - 1);
}

static bool all_zero(const qdq *q)
{
    for (int64_t i = 0; i < q->n; i++)
        if (qdq_zero(q, i) != 0)
            return false;
    return true;
}

/* Codes of a product's second operand: int8 constants, zero point 0, a scale for each output or one. */
static status read_weights(checker *c, const node *n, int axis, qdq *w, bool *ok)
{
    *ok = false;
    if (!qdq_behind(c->g, n->in[1], w) || !w->data)
        return fault(c, n, 6, "its weights are no quantised constant");
    if (w->type != DTYPE_I8 || !all_zero(w))
        return fault(c, n, 2, "its weights are %s%s; they must be int8 with zero point 0", dtype_of(w->type)->name,
                     w->type == DTYPE_I8 ? " with a zero point that is not 0" : "");
    if (w->n > 1 && w->axis != axis)
        return fault(c, n, 1, "its weights have scales along axis %d; output channels are axis %d", w->axis, axis);
    *ok = true;
    return ST_OK;
}

static status read_bias(checker *c, const node *n, int64_t outputs, qdq *b, bool *ok)
{
    *ok = false;
    if (n->n_in < 3 || !n->in[2])
        return fault(c, n, 3, "has no bias; it needs an int32 bias of 2 mod 4 as its third input");
    if (!qdq_behind(c->g, n->in[2], b) || !b->data || b->type != DTYPE_I32)
        return fault(c, n, 3, "its bias is no int32 constant behind DequantizeLinear");
    if (!all_zero(b))
        return fault(c, n, 1, "its bias has a zero point that is not 0");
    if (shape_count(b->sh) != outputs)
        return fault(c, n, 3, "its bias has %" PRId64 " numbers for %" PRId64 " outputs", shape_count(b->sh), outputs);
    *ok = true;
    return ST_OK;
}

typedef struct product {
    qdq x, w, b, y;
    int axis; /* output channels in the weights */
    int64_t outputs;
} product;

/* Everything that is one channel's. */
typedef struct product_tally {
    tally wscale, bscale, limit, grid, bias, shift, bound;
} product_tally;

static void check_channel(const product *p, int64_t o, product_tally *t, portable_layer *l)
{
    int64_t inner = 1, sum = 0, count = shape_count(p->w.sh), each = count / p->outputs;
    for (int i = p->w.sh->rank - 1; i > p->axis; i--)
        inner *= p->w.sh->dim[i];
    int64_t worst = 0, off_grid = 0, bias = qdq_code(&p->b, o);
    for (int64_t i = 0; i < each; i++) {
        int64_t v = qdq_code(&p->w, (i / inner * p->outputs + o) * inner + i % inner), a = v < 0 ? -v : v;
        worst = a > worst ? a : worst;
        off_grid = v % 4 ? v : off_grid;
        sum += a;
    }
    if (worst > 64)
        tell(&t->limit, o, (double)worst);
    if (off_grid)
        tell(&t->grid, o, (double)off_grid);
    if (((bias % 4) + 4) % 4 != 2)
        tell(&t->bias, o, (double)bias);
    double bound = 255.0 * (double)sum + fabs((double)bias);
    if (!(bound < 16777216.0))
        tell(&t->bound, o, bound);
    l->w_max = worst > l->w_max ? (int)worst : l->w_max;
    l->bound = bound > l->bound ? bound : l->bound;
    float sw = p->w.scale[p->w.n > 1 ? o : 0], sb = p->b.scale[p->b.n > 1 ? o : 0];
    int ex, ew, ey;
    bool power = exponent_of(sw, &ew);
    if (!power)
        tell(&t->wscale, o, (double)sw);
    if (sb != p->x.scale[0] * sw || fpclassify(sb) != FP_NORMAL) /* of powers of two the product is exact */
        tell(&t->bscale, o, (double)sb);
    if (!power || !exponent_of(p->x.scale[0], &ex) || !exponent_of(p->y.scale[0], &ey))
        return;
    int k = ey - ex - ew;
    if (k < 3)
        tell(&t->shift, o, k);
    if (!l->outputs || k < l->k_min)
        l->k_min = k;
    if (!l->outputs || k > l->k_max)
        l->k_max = k;
    l->outputs++; /* counts those with a shift; set to all of them in the end */
}

static status check_product(checker *c, const node *n, const qdq *y)
{
    product p = {.y = *y};
    product_tally t = {0};
    portable_layer l = {.op = op_of(n->op)->name};
    bool w_ok, b_ok, gemm = row_of(n)->gemm;
    portable_report *r = c->r;
    size_t before = r->n_fault;
    if (!c->mean[n->in[0]].known) {
        TRY(fault(c, n, 6, "its input is not quantised"));
        return ST_OK;
    }
    p.x = c->mean[n->in[0]].q;
    const gemm_attrs *a = gemm ? n->attr : NULL;
    if (gemm && (a->transA || a->alpha != 1 || a->beta != 1))
        TRY(fault(c, n, 6, "transA, alpha or beta are set; a portable Gemm has none of them"));
    p.axis = gemm && !a->transB ? 1 : 0;
    TRY(read_weights(c, n, p.axis, &p.w, &w_ok));
    if (w_ok) {
        p.outputs = p.w.sh->dim[p.axis];
        if (gemm && p.w.n > 1)
            TRY(fault(c, n, 1, "its weights have a scale for each output; those of Gemm have one"));
        TRY(read_bias(c, n, p.outputs, &p.b, &b_ok));
        if (b_ok && p.x.n == 1 && p.y.n == 1)
            for (int64_t o = 0; o < p.outputs; o++)
                check_channel(&p, o, &t, &l);
    }
    TRY(report_tally(c, n, 1, &t.wscale, "a weight scale that is not a power of two:"));
    TRY(report_tally(c, n, 1, &t.bscale, "the bias scale is not sx * sw: it"));
    TRY(report_tally(c, n, 2, &t.limit, "the largest |w|, above 64,"));
    TRY(report_tally(c, n, 3, &t.grid, "a weight that is not a multiple of 4"));
    TRY(report_tally(c, n, 3, &t.bias, "a bias that is not 2 mod 4"));
    TRY(report_tally(c, n, 3, &t.shift, "the shift k, below 3,"));
    TRY(report_tally(c, n, 4, &t.bound, "255 * sum|w| + |b|, not below 2^24 = 16777216,"));
    l.outputs = p.outputs;
    l.proven = r->n_fault == before;
    TRY(arena_strdup(&r->mem, &l.name, n->name));
    TRY(mem_push(&r->layer, &r->cap_layer, r->n_layer, sizeof *r->layer));
    r->layer[r->n_layer++] = l;
    return ST_OK;
}

/* ---- rule 6 ---- */

static status check_sum(checker *c, const node *n, const qdq *y)
{
    for (int i = 0; i < 2; i++) {
        const meaning *m = &c->mean[n->in[i]];
        if (!m->known || m->q.n != 1 || y->n != 1)
            return fault(c, n, 6, "operand %d is not quantised", i);
        if (m->q.scale[0] != y->scale[0])
            return fault(c, n, 6, "operand %d has scale %.9g, the sum %.9g; operands and sum must share one", i,
                         (double)m->q.scale[0], (double)y->scale[0]);
    }
    return ST_OK;
}

/* A node that only moves: its result means what its inputs mean; resizing takes elements, padding adds the code of 0. */
static status check_move(checker *c, const node *n)
{
    const meaning *first = &c->mean[n->in[0]];
    bool known = graph_value(c->g, n->in[0])->type == DTYPE_F32;
    for (int i = 0; i < n->n_in && known; i++) {
        const meaning *m = n->in[i] ? &c->mean[n->in[i]] : first;
        known = m->known;
        if (m->known && first->known && !qdq_same(&m->q, &first->q))
            return fault(c, n, 6, "inputs 0 and %d have different scales or zero points; they must be equal", i);
    }
    const resize_attrs *resize = n->op == OP_RESIZE ? n->attr : NULL;
    const pad_attrs *pad = n->op == OP_PAD ? n->attr : NULL;
    if (resize && resize->mode != RESIZE_NEAREST && c->inside[n->out[0]])
        return fault(c, n, 6, "interpolates; between integers only mode = nearest");
    if (pad && (pad->mode != PAD_CONSTANT || pad->constant_value != 0) && c->inside[n->out[0]])
        return fault(c, n, 6, "pads with something else than zeros");
    if (known)
        for (int i = 0; i < n->n_out; i++)
            if (n->out[i] && graph_value(c->g, n->out[i])->type == DTYPE_F32)
                c->mean[n->out[i]] = *first;
    return ST_OK;
}

static status note_input(checker *c, const value *x, const qdq *q)
{
    portable_report *r = c->r;
    portable_input in = {.scale = (double)q->scale[0]};
    in.low = in.scale * (double)-zero_as_u8(q);
    in.high = in.low + 255 * in.scale;
    TRY(arena_strdup(&r->mem, &in.name, x->name));
    TRY(mem_push(&r->input, &r->cap_input, r->n_input, sizeof *r->input));
    r->input[r->n_input++] = in;
    return ST_OK;
}

static const node *maker(const graph *g, value_id v)
{
    return graph_value(g, v)->from ? graph_node(g, graph_value(g, v)->from) : NULL;
}

/* QuantizeLinear: what stands before it, back to the last integers. */
static status check_quantize(checker *c, const node *n)
{
    qdq y;
    const graph *g = c->g;
    if (!qdq_of_node(g, n, &y))
        return fault(c, n, 1, "its scale or zero point is no constant");
    TRY(check_activation(c, n, &y));
    if (!is_byte(y.type) || y.n != 1)
        return ST_OK;
    value_id v = n->in[0];
    const node *from = maker(g, v), *clamp = from && row_of(from)->kind == KIND_CLAMP ? from : NULL;
    if (clamp) {
        TRY(check_clamp(c, clamp, &y));
        v = clamp->in[0];
        from = maker(g, v);
    }
    if (c->mean[v].known) { /* moved codes, or a relu of codes */
        const qdq *x = &c->mean[v].q;
        if (x->n != 1 || x->type != y.type || x->scale[0] != y.scale[0] || (!clamp && !qdq_same(x, &y)))
            return fault(c, n, 6, "gives codes a new scale or zero point: %.9g for %.9g", (double)y.scale[0],
                         (double)x->scale[0]);
        return ST_OK;
    }
    op_kind kind = from ? row_of(from)->kind : KIND_MOVE;
    if (kind == KIND_PRODUCT)
        return check_product(c, from, &y);
    if (kind == KIND_SUM)
        return check_sum(c, from, &y);
    if (kind == KIND_FLOAT)
        return ST_OK; /* check_node names it */
    while (from && row_of(from)->kind == KIND_MOVE && from->n_in == 1) { /* an input may be moved before it is rounded */
        v = from->in[0];
        from = maker(g, v);
    }
    if (graph_value(g, v)->kind == VALUE_INPUT && !clamp)
        return note_input(c, graph_value(g, v), &y);
    return fault(c, n, 6, "rounds what was computed in float; QuantizeLinear stands right behind a product, a sum, a relu or the "
                          "input");
}

static status check_dequantize(checker *c, const node *n)
{
    qdq x, y;
    const graph *g = c->g;
    const value *codes = graph_value(g, n->in[0]);
    if (!qdq_of_node(g, n, &x))
        return fault(c, n, 1, "its scale or zero point is no constant");
    const node *from = graph_node(g, codes->from);
    if (codes->kind == VALUE_INPUT && is_byte(x.type)) {
        TRY(check_activation(c, n, &x));
        TRY(note_input(c, codes, &x));
    } else if (codes->from && qdq_is_quantize(from) && qdq_of_node(g, from, &y) && !qdq_same(&x, &y)) {
        TRY(fault(c, n, 1, "reads codes with another scale or zero point than they were written with"));
    } else if (codes->from && !qdq_is_quantize(from)) {
        TRY(fault(c, n, 6, "reads codes that %s '%s' makes; only QDQ form is checked", op_of(from->op)->name, from->name));
    }
    if (is_byte(x.type))
        c->mean[n->out[0]] = (meaning){.known = true, .q = x};
    return ST_OK;
}

static status add_tail(checker *c, const node *n)
{
    portable_report *r = c->r;
    TRY(mem_push(&r->tail, &r->cap_tail, r->n_tail, sizeof *r->tail));
    TRY(arena_strdup(&r->mem, &r->tail[r->n_tail], n->name));
    r->n_tail++;
    return ST_OK;
}

/* A product's or sum's result is rounded, by everybody who reads it (behind its relu). */
static status check_read(checker *c, const node *n)
{
    value_id v = n->out[0];
    for (int step = 0; step < 2; step++) {
        if (c->output[v])
            return fault(c, n, 6, "its sums are an output; the last tensor of the integers is a quantised one");
        if (c->reader[v]) {
            const node *u = graph_node(c->g, c->reader[v]);
            return fault(c, n, 6, "its sums are read by %s '%s' before they are rounded", op_of(u->op)->name, u->name);
        }
        if (!c->clamp[v])
            return ST_OK;
        v = graph_node(c->g, c->clamp[v])->out[0];
    }
    return fault(c, n, 6, "two relus stand behind it");
}

static status check_node(checker *c, const node *n)
{
    const op_row *row = row_of(n);
    if (qdq_is_quantize(n))
        return check_quantize(c, n);
    if (qdq_is_dequantize(n))
        return check_dequantize(c, n);
    if (row->kind == KIND_MOVE)
        return check_move(c, n);
    if (row->kind == KIND_PRODUCT)
        return check_read(c, n);
    bool inside = false;
    for (int i = 0; i < n->n_out; i++)
        inside |= n->out[i] && c->inside[n->out[i]];
    if (!inside)
        return add_tail(c, n);
    if (row->kind == KIND_SUM)
        return check_read(c, n);
    if (row->kind != KIND_FLOAT)
        return ST_OK;
    return fault(c, n, 6, "%s is a float operator between integers%s%s", op_of(n->op)->name, row->advice ? "; " : "",
                 row->advice ? row->advice : "; end the integers before it");
}

/* ---- the whole ---- */

static void find_readers(checker *c)
{
    const graph *g = c->g;
    for (size_t i = 0; i < g->n_output; i++)
        c->output[g->output[i]] = 1;
    for (size_t k = g->n_node; k-- > 1;) {
        const node *n = &g->node[k];
        bool q = qdq_is_quantize(n), any = q, clamp = row_of(n)->kind == KIND_CLAMP;
        for (int i = 0; i < n->n_out; i++)
            any |= n->out[i] && c->inside[n->out[i]];
        for (int i = 0; i < n->n_in; i++) {
            c->inside[n->in[i]] |= any;
            if (clamp && !c->clamp[n->in[i]])
                c->clamp[n->in[i]] = (node_id)k;
            else if (!q)
                c->reader[n->in[i]] = (node_id)k;
        }
    }
}

/* Every activation is int8 with zero point 0? */
static quant_profile profile_of(const graph *g)
{
    qdq q;
    for (size_t k = 1; k < g->n_node; k++)
        if (qdq_is_quantize(&g->node[k]) && qdq_of_node(g, &g->node[k], &q) && (q.type != DTYPE_I8 || qdq_zero(&q, 0) != 0))
            return PROFILE_PORTABLE;
    return PROFILE_PORTABLE_S8;
}

status portable_check(const graph *g, quant_profile profile, portable_report *out)
{
    checker c = {.g = g, .r = out};
    status st = ST_OK;
    *out = (portable_report){.profile = profile == PROFILE_NONE ? profile_of(g) : profile};
    TRY_DONE(mem_alloc(&c.mean, g->n_value, sizeof *c.mean));
    TRY_DONE(mem_alloc(&c.inside, g->n_value, 1));
    TRY_DONE(mem_alloc(&c.output, g->n_value, 1));
    TRY_DONE(mem_alloc(&c.reader, g->n_value, sizeof *c.reader));
    TRY_DONE(mem_alloc(&c.clamp, g->n_value, sizeof *c.clamp));
    find_readers(&c);
    for (size_t k = 1; k < g->n_node; k++)
        TRY_DONE(check_node(&c, &g->node[k]));
    if (!out->n_layer && !out->n_fault)
        TRY_DONE(fault(&c, &(node){.name = "(model)"}, 1, "no layer is quantised; a portable model is in QDQ form"));
done:
    mem_free(c.mean);
    mem_free(c.inside);
    mem_free(c.output);
    mem_free(c.reader);
    mem_free(c.clamp);
    return st;
}

void portable_free(portable_report *r)
{
    mem_free(r->layer);
    mem_free(r->fault);
    mem_free(r->input);
    mem_free(r->tail);
    arena_free(&r->mem);
    *r = (portable_report){0};
}
