/* tensors.c - where the values of the graph lie in the file: tensors, constants, orders, parameters. */
#include "tflite/writer.h"

#include <inttypes.h>
#include <string.h>

static const int to_image[4] = {0, 2, 3, 1}, from_image[4] = {0, 3, 1, 2};

shape writer_image(const shape *nchw)
{
    return SHAPE(nchw->dim[0], nchw->dim[2], nchw->dim[3], nchw->dim[1]);
}

shape writer_shape(const writer *w, value_id v, order as)
{
    shape sh = graph_value(w->g, v)->sh;
    if (as == ORDER_IMAGE)
        sh = writer_image(&sh);
    if (w->dynamic && w->batched[v])
        sh.dim[0] = 1;
    return sh;
}

order writer_order(const writer *w, value_id v)
{
    return w->at[v].as;
}

static bool is_byte(dtype t)
{
    return t == DTYPE_U8 || t == DTYPE_I8;
}

bool writer_has_q(const writer *w, value_id v)
{
    qdq q;
    if (!v)
        return false;
    return w->at[v].q >= 0 || (qdq_behind(w->g, v, &q) && q.data && is_byte(q.type) && q.n == 1);
}

status writer_quant(writer *w, const qdq *from, tfl_quant *out)
{
    int64_t *zero;
    TRY(arena_alloc(&w->m.mem, &zero, (size_t)from->n, sizeof *zero));
    for (int64_t i = 0; i < from->n; i++)
        zero[i] = qdq_zero(from, i) - (from->type == DTYPE_U8 ? 128 : 0);
    *out = (tfl_quant){.n = (int32_t)from->n, .axis = from->axis, .scale = from->scale, .zero = zero};
    return ST_OK;
}

/* ---- making tensors ---- */

status writer_tensor(writer *w, value_id v, order as, const tfl_quant *q, int32_t *t)
{
    const value *x = graph_value(w->g, v);
    return tfl_add_tensor(&w->m, &(tfl_tensor){.name = x->name, .sh = writer_shape(w, v, as),
                                               .batched = w->dynamic && w->batched[v], .type = q ? TFL_INT8 : TFL_FLOAT32,
                                               .q = q ? *q : (tfl_quant){0}}, t);
}

void writer_put(writer *w, value_id v, bool q, order as, int32_t t)
{
    *(q ? &w->at[v].q : &w->at[v].f) = t;
    w->at[v].as = as;
}

status writer_like(writer *w, int32_t t, const char *suffix, shape sh, int32_t *out)
{
    tfl_tensor like = w->m.tensor[t];
    TRY(arena_printf(&w->m.mem, &like.name, "%s_%s", like.name, suffix));
    like.sh = sh;
    like.data = NULL;
    return tfl_add_tensor(&w->m, &like, out);
}

status writer_const(writer *w, const char *name, const char *suffix, int type, shape sh, const void *data, const tfl_quant *q,
                    int32_t *t)
{
    tfl_tensor c = {.sh = sh, .type = type, .data = data, .q = q ? *q : (tfl_quant){0}};
    TRY(arena_printf(&w->m.mem, &c.name, *suffix ? "%s_%s" : "%s", name, suffix));
    return tfl_add_tensor(&w->m, &c, t);
}

status writer_ints(writer *w, const char *name, const char *suffix, shape sh, const int64_t *v, int32_t *t)
{
    int64_t n = shape_count(&sh);
    int32_t *data;
    TRY(arena_alloc(&w->m.mem, &data, (size_t)n, sizeof *data));
    for (int64_t i = 0; i < n; i++) {
        if (v[i] > INT32_MAX || v[i] < INT32_MIN)
            return fail(ST_BAD_DATA, "%s: %" PRId64 " is too large for TFLite", name, v[i]);
        data[i] = (int32_t)v[i];
    }
    return writer_const(w, name, suffix, TFL_INT32, sh, data, NULL, t);
}

status writer_op(writer *w, tfl_op op, const int32_t *in, size_t n_in, int32_t out)
{
    op.in = in;
    op.n_in = n_in;
    op.out = &out;
    op.n_out = 1;
    w->int8_ops += w->m.tensor[out].type == TFL_INT8;
    return tfl_add_op(&w->m, &op);
}

/* ---- contents of constants ---- */

status writer_permute(writer *w, const void *data, size_t size, const shape *sh, const int *perm, void *out)
{
    int64_t count = shape_count(sh), stride[RANK_MAX], at[RANK_MAX] = {0}, from = 0;
    char *to;
    op_strides(sh, stride);
    TRY(arena_alloc(&w->m.mem, &to, (size_t)count, size));
    for (int64_t i = 0; i < count; i++) {
        memcpy(to + (size_t)i * size, (const char *)data + (size_t)from * size, size);
        for (int k = sh->rank - 1; k >= 0; k--) { /* the next place of the result */
            int d = perm[k];
            from += stride[d];
            if (++at[k] < sh->dim[d])
                break;
            from -= stride[d] * sh->dim[d];
            at[k] = 0;
        }
    }
    *(void **)out = to;
    return ST_OK;
}

/* A constant operand as a tensor of its own. In image order it gets leading dimensions of 1, as broadcasting has them. */
static status take_const(writer *w, value_id v, order as, bool quantised, int32_t *t)
{
    const value *x = graph_value(w->g, v);
    shape sh = x->sh;
    const void *data = NULL;
    tfl_quant quant = {0};
    qdq q;
    if (quantised) {
        if (!qdq_behind(w->g, v, &q) || !q.data)
            return fail(ST_INTERNAL, "'%s' has no int8 form", x->name);
        int64_t n = shape_count(q.sh);
        int8_t *codes;
        TRY(arena_alloc(&w->m.mem, &codes, (size_t)n, 1));
        for (int64_t i = 0; i < n; i++)
            codes[i] = (int8_t)(qdq_code(&q, i) - (q.type == DTYPE_U8 ? 128 : 0));
        TRY(writer_quant(w, &q, &quant));
        data = codes;
    } else {
        const float *f;
        TRY(qdq_floats(w->g, v, &w->m.mem, &f));
        if (!f)
            return fail(ST_BAD_DATA, "'%s' is %s; only float32 constants are written to TFLite files", x->name,
                        dtype_of(x->type)->name);
        data = f;
    }
    if (as == ORDER_IMAGE && sh.rank <= 4) {
        shape full = SHAPE(1, 1, 1, 1);
        for (int i = 0; i < sh.rank; i++)
            full.dim[4 - sh.rank + i] = sh.dim[i];
        void *moved;
        TRY(writer_permute(w, data, quantised ? 1 : 4, &full, to_image, &moved));
        data = moved;
        sh = writer_image(&full);
    }
    return writer_const(w, x->name, "", quantised ? TFL_INT8 : TFL_FLOAT32, sh, data, quantised ? &quant : NULL, t);
}

/* ---- values in the form that an operator wants ---- */

/* The float form of v, by a DEQUANTIZE where only the int8 form is there. */
static status need_floats(writer *w, value_id v)
{
    place *p = &w->at[v];
    if (p->f >= 0)
        return ST_OK;
    if (p->q < 0)
        return fail(ST_INTERNAL, "value '%s' is used before it is written", graph_value(w->g, v)->name);
    if (!w->m.tensor[p->q].q.n)
        return fail(ST_BAD_DATA, "value '%s' is integers without a scale; TFLite's operators take float32 or quantised int8",
                    graph_value(w->g, v)->name);
    int32_t t;
    TRY(writer_tensor(w, v, p->as == ORDER_IMAGE ? ORDER_IMAGE : ORDER_PLAIN, NULL, &t));
    p->f = t;
    return writer_op(w, (tfl_op){.code = TFL_DEQUANTIZE, .version = 2, .option_type = TFL_OPT_DEQUANTIZE}, &p->q, 1, t);
}

static status add_transpose(writer *w, value_id v, order as, int32_t from, int32_t *t)
{
    const int *perm = as == ORDER_IMAGE ? to_image : from_image;
    int32_t in[2] = {from};
    TRY(writer_ints(w, graph_value(w->g, v)->name, "perm", SHAPE(4), (int64_t[]){perm[0], perm[1], perm[2], perm[3]}, &in[1]));
    TRY(writer_like(w, from, as == ORDER_IMAGE ? "nhwc" : "nchw", writer_shape(w, v, as), t));
    bool q = w->m.tensor[from].type == TFL_INT8;
    return writer_op(w, (tfl_op){.code = TFL_TRANSPOSE, .version = q ? 2 : 1, .option_type = TFL_OPT_TRANSPOSE}, in, 2, *t);
}

status writer_take(writer *w, value_id v, order as, bool q, int32_t *t)
{
    const value *x = graph_value(w->g, v);
    if (qdq_is_const(w->g, v) && w->at[v].f < 0 && w->at[v].q < 0)
        return take_const(w, v, as, q, t);
    if (x->kind == VALUE_PARAM || x->kind == VALUE_STATE)
        return fail(ST_INTERNAL, "'%s' is a parameter; a graph is written to TFLite with its weights as constants", x->name);
    if (!q)
        TRY(need_floats(w, v));
    *t = q ? w->at[v].q : w->at[v].f;
    order has = w->at[v].as;
    if (has == as || x->sh.rank != 4)
        return ST_OK;
    return add_transpose(w, v, as, *t, t);
}
