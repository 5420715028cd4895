/* insert.c - copies a graph node by node and puts the rounding where places.h says. */
#include "quant/insert.h"
#include "base/log.h"
#include "ops/attrs.h"
#include "quant/weight.h"

#include <string.h>

/* ---- before ---- */

/* The row of numbers that is added to a matrix product [rows, columns]; 0: it is none. */
static value_id added_row(const graph *g, const node *add, const node *product, value_id made)
{
    value_id other = add->in[0] == made ? add->in[1] : add->in[0];
    const value *b = &g->value[other], *w = &g->value[product->in[1]], *y = &g->value[made];
    if (y->sh.rank != 2 || w->sh.rank != 2 || w->kind != VALUE_CONST || b->kind != VALUE_CONST || b->type != w->type)
        return 0;
    return b->sh.rank >= 1 && b->sh.rank <= 2 && shape_count(&b->sh) == w->sh.dim[1] &&
                   b->sh.dim[b->sh.rank - 1] == w->sh.dim[1]
               ? other
               : 0;
}

/* Gemm in the place of the Add: everything it reads is made by then. */
static status make_gemm(graph *g, node *add, const node *product, value_id row)
{
    gemm_attrs *at;
    value_id *in, bias;
    TRY(arena_alloc(&g->mem, &at, 1, sizeof *at));
    TRY(arena_alloc(&g->mem, &in, 3, sizeof *in));
    op_default_attrs(OP_GEMM, at);
    const value b = g->value[row];
    TRY(graph_add_data(g, b.name, VALUE_CONST, b.type, SHAPE(shape_count(&b.sh)), b.data, &bias));
    in[0] = product->in[0];
    in[1] = product->in[1];
    in[2] = bias;
    add->op = OP_GEMM;
    add->attr = at;
    add->in = in;
    add->n_in = 3;
    return ST_OK;
}

static status pass_matmul_to_gemm(graph *g)
{
    static const bool adds[OP_COUNT] = {[OP_ADD] = true}, multiplies[OP_COUNT] = {[OP_MATMUL] = true};
    uint32_t *uses;
    status st = ST_OK;
    TRY(graph_count_uses(g, &uses));
    for (size_t k = 1; k < g->n_node; k++) {
        for (int i = 0; adds[g->node[k].op] && i < 2; i++) {
            value_id made = g->node[k].in[i], row;
            node_id from = g->value[made].from;
            if (!from || uses[made] != 1 || !multiplies[g->node[from].op])
                continue;
            row = added_row(g, &g->node[k], &g->node[from], made);
            if (row)
                TRY_DONE(make_gemm(g, &g->node[k], &g->node[from], row));
        }
    }
done:
    mem_free(uses);
    if (st == ST_OK)
        st = pass_dead_nodes(g);
    return st;
}

status quant_prepare(graph *g)
{
    TRY(pass_drop_identity(g));
    TRY(pass_fold_batch_norm(g));
    TRY(pass_matmul_to_gemm(g));
    return graph_validate(g);
}

/* ---- the copy ---- */

typedef struct inserter {
    const graph *g;
    const places *p;
    const quant_scheme *s;
    const quant_params *params;
    const given_integers *given; /* NULL: integers follow from the numbers */
    graph *q;
    value_id *plain, *rounded; /* [g->n_value] in q; 0: not there yet */
    value_id *scale, *zero;    /* [p->n_group] constants in q */
    value_id *own_zero;        /* [g->n_value] with `given` */
    uint8_t *renamed;          /* [g->n_value] an output whose name goes to the rounded numbers */
    arena scratch;
} inserter;

static status add_constant(inserter *x, const char *base, const char *suffix, dtype t, shape sh, const void *data, value_id *out)
{
    const char *name;
    TRY(arena_printf(&x->scratch, &name, "%s%s", base, suffix));
    return graph_add_data(x->q, name, VALUE_CONST, t, sh, data, out);
}

static status add_linear(inserter *x, op_id op, const char *base, const char *suffix, int64_t axis, value_id a, value_id scale,
                         value_id zero, value_id *out)
{
    quant_attrs at;
    const char *name, *node_name;
    value_id in[3] = {a, scale, zero};
    op_default_attrs(op, &at);
    at.axis = axis;
    TRY(arena_printf(&x->scratch, &name, "%s%s", base, suffix));
    TRY(arena_printf(&x->scratch, &node_name, "%s_%s", name, op_of(op)->name));
    return graph_add_named(x->q, node_name, op, &at, in, zero ? 3 : 2, &name, out, 1);
}

static status group_constants(inserter *x, uint32_t k)
{
    const char *base = x->g->value[x->p->group[k].first].name;
    uint8_t zero = (uint8_t)x->params[k].zero; /* the same bits for int8 */
    if (x->scale[k])
        return ST_OK;
    TRY(add_constant(x, base, "_scale", DTYPE_F32, (shape){0}, &x->params[k].scale, &x->scale[k]));
    return add_constant(x, base, "_zero", x->s->activations, (shape){0}, &zero, &x->zero[k]);
}

/* The zero point of v: that of its group, unless it was given another one. */
static status zero_constant(inserter *x, value_id v, value_id *out)
{
    uint32_t k = x->p->value[v].group;
    *out = x->zero[k];
    if (!x->given || x->given->zero[v] == x->params[k].zero)
        return ST_OK;
    uint8_t zero = (uint8_t)x->given->zero[v];
    if (!x->own_zero[v])
        TRY(add_constant(x, x->g->value[v].name, "_zero", x->s->activations, (shape){0}, &zero, &x->own_zero[v]));
    *out = x->own_zero[v];
    return ST_OK;
}

/* The numbers of v, rounded. */
static status round_value(inserter *x, value_id v)
{
    uint32_t k = x->p->value[v].group;
    const char *base = x->g->value[v].name;
    value_id q, zero;
    if (x->rounded[v])
        return ST_OK;
    TRY(group_constants(x, k));
    TRY(zero_constant(x, v, &zero));
    TRY(add_linear(x, OP_QUANTIZE_LINEAR, base, "_q", 1, x->plain[v], x->scale[k], zero, &q));
    return add_linear(x, OP_DEQUANTIZE_LINEAR, base, x->renamed[v] ? "" : "_dq", 1, q, x->scale[k], zero, &x->rounded[v]);
}

/* A constant is copied when it is first read as it is. */
static status plain_value(inserter *x, value_id v, value_id *out)
{
    const value *from = &x->g->value[v];
    if (v && !x->plain[v]) {
        TRY(graph_add_data(x->q, from->name, from->kind, from->type, from->sh, from->data, &x->plain[v]));
        x->q->value[x->plain[v]].flags = from->flags;
    }
    *out = x->plain[v];
    return ST_OK;
}

static status put_weight(inserter *x, const node *n, value_id *weight, value_id *bias)
{
    product_operands o = places_operands(x->g, n);
    const value *w = &x->g->value[n->in[1]];
    int_weight iw;
    value_id q, scale, zero;
    void *zeros;
    if (x->given)
        TRY(x->given->weight(x->given->ctx, x->g, n, &x->scratch, &iw));
    else
        TRY(int_weight_make(x->g, n, x->s, x->params[x->p->value[n->in[0]].group].scale, &x->scratch, &iw));
    if (iw.widened)
        log_info("node '%s': %zu scales of its weight were widened, so that bias and sums fit int32", n->name, iw.widened);
    shape each = iw.n_scale > 1 ? SHAPE(iw.n_scale) : (shape){0};
    TRY(arena_alloc(&x->scratch, &zeros, (size_t)iw.n_scale, 1));
    TRY(add_constant(x, w->name, "_int8", DTYPE_I8, w->sh, iw.q, &q));
    TRY(add_constant(x, w->name, "_scale", DTYPE_F32, each, iw.scale, &scale));
    TRY(add_constant(x, w->name, "_zero", DTYPE_I8, each, zeros, &zero));
    TRY(add_linear(x, OP_DEQUANTIZE_LINEAR, w->name, "_dq", o.axis, q, scale, zero, weight));
    if (!iw.bias)
        return ST_OK;
    const char *name = x->g->value[n->in[o.bias]].name;
    TRY(add_constant(x, name, "_int32", DTYPE_I32, SHAPE(iw.channels), iw.bias, &q));
    TRY(add_constant(x, name, "_scale", DTYPE_F32, each, iw.bias_scale, &scale));
    return add_linear(x, OP_DEQUANTIZE_LINEAR, name, "_dq", 0, q, scale, 0, bias);
}

static status put_node(inserter *x, node_id k)
{
    const node *n = &x->g->node[k];
    value_id *in, *out, weight = 0, bias = 0;
    const char **names;
    TRY(arena_alloc(&x->scratch, &in, n->n_in, sizeof *in));
    TRY(arena_alloc(&x->scratch, &out, n->n_out, sizeof *out));
    TRY(arena_alloc(&x->scratch, &names, n->n_out, sizeof *names));
    if (x->p->product[k])
        TRY(put_weight(x, n, &weight, &bias));
    for (int i = 0; i < n->n_in; i++) {
        if (places_reads_rounded(x->p, x->g, k, i)) {
            TRY(round_value(x, n->in[i]));
            in[i] = x->rounded[n->in[i]];
        } else if (i == 1 && weight) {
            in[i] = weight;
        } else if (i == 2 && bias) {
            in[i] = bias;
        } else {
            TRY(plain_value(x, n->in[i], &in[i]));
        }
    }
    for (int i = 0; i < n->n_out; i++) {
        value_id v = n->out[i];
        if (v && x->renamed[v])
            TRY(arena_printf(&x->scratch, &names[i], "%s_float", x->g->value[v].name));
        else if (v)
            names[i] = x->g->value[v].name;
    }
    TRY(graph_add_named(x->q, n->name, n->op, n->attr, in, n->n_in, names, out, n->n_out));
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i]) {
            x->plain[n->out[i]] = out[i];
            if (x->p->value[n->out[i]].made_int)
                TRY(round_value(x, n->out[i]));
        }
    return ST_OK;
}

static status copy_graph(inserter *x)
{
    const graph *g = x->g;
    for (size_t i = 0; i < g->n_input; i++) {
        const value *v = &g->value[g->input[i]];
        TRY(graph_add_input(x->q, v->name, v->type, v->sh, &x->plain[g->input[i]]));
        x->q->value[x->plain[g->input[i]]].flags = v->flags;
    }
    for (size_t i = 0; i < g->n_output; i++)
        x->renamed[g->output[i]] = places_gives_rounded(x->p, g, i);
    for (size_t k = 1; k < g->n_node; k++)
        TRY(put_node(x, (node_id)k));
    for (size_t i = 0; i < g->n_output; i++) {
        value_id v;
        TRY(plain_value(x, g->output[i], &v));
        TRY(graph_add_output(x->q, x->renamed[g->output[i]] ? x->rounded[g->output[i]] : v));
    }
    TRY(pass_dead_nodes(x->q));
    return graph_validate(x->q);
}

status quant_insert(const graph *g, const places *p, const quant_scheme *s, const quant_params *params, graph **out)
{
    return quant_insert_given(g, p, s, params, NULL, out);
}

status quant_insert_given(const graph *g, const places *p, const quant_scheme *s, const quant_params *params,
                          const given_integers *given, graph **out)
{
    inserter x = {.g = g, .p = p, .s = s, .params = params, .given = given};
    status st = ST_OK;
    TRY_DONE(graph_new(&x.q));
    TRY_DONE(mem_alloc(&x.plain, g->n_value, sizeof *x.plain));
    TRY_DONE(mem_alloc(&x.rounded, g->n_value, sizeof *x.rounded));
    TRY_DONE(mem_alloc(&x.renamed, g->n_value, 1));
    TRY_DONE(mem_alloc(&x.own_zero, g->n_value, sizeof *x.own_zero));
    TRY_DONE(mem_alloc(&x.scale, p->n_group, sizeof *x.scale));
    TRY_DONE(mem_alloc(&x.zero, p->n_group, sizeof *x.zero));
    TRY_DONE(copy_graph(&x));
    *out = x.q;
    x.q = NULL;
done:
    graph_free(x.q);
    mem_free(x.plain);
    mem_free(x.rounded);
    mem_free(x.renamed);
    mem_free(x.own_zero);
    mem_free(x.scale);
    mem_free(x.zero);
    arena_free(&x.scratch);
    return st;
}
