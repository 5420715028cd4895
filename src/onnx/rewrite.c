/* rewrite.c - older forms of operators become the newest form. One row per operator and range of opsets; operators
 * without a row have not changed in a way that their attribute rows do not already cover (an attribute that became an
 * input is read from either place). Source: ONNX's Changelog.md. */
#include "onnx/importer.h"

#include "base/log.h"
#include "ops/attrs.h"

#include <string.h>

enum { A_FLOAT = 1, A_INT = 2 };

/* ---- before opset 7: broadcasting by attributes `broadcast` and `axis` ---- */

/* B's dimensions are those of A from `axis` on; the newest form wants them at the end. */
static status old_broadcast(importer *im, draft *d)
{
    const Onnx__AttributeProto *broadcast, *axis;
    TRY(attribute_find(d->s, d->from, "broadcast", A_INT, &broadcast));
    TRY(attribute_find(d->s, d->from, "axis", A_INT, &axis));
    if (!broadcast || broadcast->i == 0 || !axis || d->n_in != 2 || !d->in[0] || !d->in[1])
        return ST_OK;
    shape a = im->g->value[d->in[0]].sh, b = im->g->value[d->in[1]].sh;
    int64_t at = axis->i < 0 ? axis->i + a.rank : axis->i;
    if (at < 0 || at + b.rank > a.rank)
        return node_fail(d->s, d->from, "axis %lld does not fit shapes of rank %d and %d", (long long)axis->i,
                         a.rank, b.rank);
    while (at + b.rank < a.rank)
        b.dim[b.rank++] = 1;
    return import_reshape(im, d->in[1], b, &d->in[1]);
}

/* A slope per channel. */
static status old_prelu(importer *im, draft *d)
{
    if (d->n_in != 2 || !d->in[0] || !d->in[1])
        return ST_OK;
    shape x = im->g->value[d->in[0]].sh, slope = im->g->value[d->in[1]].sh;
    if (slope.rank != 1 || slope.dim[0] == 1 || x.rank < 2)
        return ST_OK;
    for (int i = 2; i < x.rank; i++)
        slope.dim[slope.rank++] = 1;
    return import_reshape(im, d->in[1], slope, &d->in[1]);
}

/* ---- Softmax and LogSoftmax before 13: over everything from `axis` on, default 1 ---- */

static status old_softmax_default(importer *im, draft *d)
{
    (void)im;
    ((axis_attrs *)d->attr)->axis = 1;
    return ST_OK;
}

static status old_softmax(importer *im, draft *d)
{
    axis_attrs *at = d->attr;
    if (d->n_in != 1)
        return ST_OK;
    shape x = im->g->value[d->in[0]].sh;
    int64_t axis = at->axis < 0 ? at->axis + x.rank : at->axis, outer = 1, inner = 1;
    if (axis < 0 || axis > x.rank || x.rank == 0)
        return node_fail(d->s, d->from, "axis %lld is outside the rank of its input, %d", (long long)at->axis,
                         x.rank);
    at->axis = -1;
    if (axis == x.rank - 1)
        return ST_OK;
    for (int i = 0; i < x.rank; i++)
        *(i < axis ? &outer : &inner) *= x.dim[i];
    value_id flat, soft;
    TRY(import_reshape(im, d->in[0], SHAPE(outer, inner), &flat));
    TRY(import_add(im, d->op, at, &flat, 1, &soft));
    /* The value with the model's name is the one of the model's shape. */
    reshape_attrs *back;
    TRY(arena_alloc(&im->mem, &back, 1, sizeof *back));
    int64_t *dims;
    TRY(arena_alloc(&im->mem, &dims, RANK_MAX, sizeof *dims));
    memcpy(dims, x.dim, sizeof x.dim);
    *back = (reshape_attrs){.shape = {x.rank, dims}, .allowzero = 1};
    d->op = OP_RESHAPE;
    d->attr = back;
    d->in[0] = soft;
    return ST_OK;
}

/* ---- training forms ---- */

static void note_training(importer *im, const draft *d)
{
    if (!im->noted_training)
        log_info("%s: exported in training mode (node '%s', %s): read as inference, with the running "
                 "statistics and without "
                 "dropout",
                 im->m->path, d->name, d->from->op_type);
    im->noted_training = true;
}

/* BatchNormalization in training form has five outputs before opset 14, training_mode from 14 on. */
static status batch_norm(importer *im, draft *d)
{
    batch_norm_attrs *at = d->attr;
    const Onnx__AttributeProto *spatial;
    TRY(attribute_find(d->s, d->from, "spatial", A_INT, &spatial));
    if (spatial && spatial->i != 1)
        return node_fail(d->s, d->from, "spatial = 0 (statistics per element) is not supported");
    bool old = d->s->opset < 14, training = old ? d->n_out > 1 : at->training_mode != 0;
    if (!training || (im->o->keep_training_mode && !old))
        return ST_OK;
    if (im->o->keep_training_mode)
        return node_fail(d->s, d->from, "the training form of opsets before 14 is not supported");
    note_training(im, d);
    at->training_mode = 0;
    d->n_out = 1;
    return ST_OK;
}

static status dropout(importer *im, draft *d)
{
    dropout_attrs *at = d->attr;
    if (at->training_mode && at->ratio != 0) {
        if (im->o->keep_training_mode)
            return node_fail(d->s, d->from,
                             "dropout in training mode draws random numbers, which is not supported");
        note_training(im, d);
    }
    at->training_mode = 0;
    return ST_OK;
}

/* ---- Pad before 11: `value` is an attribute ---- */

static status old_pad(importer *im, draft *d)
{
    const Onnx__AttributeProto *v;
    (void)im;
    TRY(attribute_find(d->s, d->from, "value", A_FLOAT, &v));
    if (v)
        ((pad_attrs *)d->attr)->constant_value = (double)v->f;
    return ST_OK;
}

/* ---- Resize ---- */

/* Upsample and Resize-10: X, scales; output i reads input floor(i / scale). */
static status old_resize(importer *im, draft *d)
{
    resize_attrs *at = d->attr;
    (void)im;
    at->coordinate_transformation_mode = COORD_ASYMMETRIC;
    at->nearest_mode = NEAREST_FLOOR;
    if (d->n_in > 1) {
        d->in[2] = d->in[1]; /* read_inputs left room */
        d->in[1] = 0;
        d->n_in = 3;
    }
    return ST_OK;
}

/* Exporters write empty tensors for inputs that are not given. */
static status resize(importer *im, draft *d)
{
    resize_attrs *at = d->attr;
    (void)im;
    if (at->scales.n == 0)
        at->scales.v = NULL;
    if (at->sizes.n == 0)
        at->sizes.v = NULL;
    if (at->roi.n == 0)
        at->roi.v = NULL;
    return ST_OK;
}

/* ---- Reshape to a batch that is being rebound ---- */

/* The model says [1, ...], or [k, ...] for k rows a sample, where it was exported with batch 1; likewise [1, -1], which
 * would take the whole batch into one row. Only data that depend on the batch are looked at. */
static status reshape(importer *im, draft *d)
{
    reshape_attrs *at = d->attr;
    if (im->model_batch == 0 || d->n_in != 1 || !at->shape.v || at->shape.n < 1 || at->shape.v[0] <= 0)
        return ST_OK;
    const value *from = &im->g->value[d->in[0]];
    shape x = from->sh;
    int64_t have = shape_count(&x), want = 1, rest = 1, first = 0;
    bool open = false;
    if (from->kind == VALUE_CONST)
        return ST_OK;
    for (int64_t i = 0; i < at->shape.n; i++) {
        int64_t dim = at->shape.v[i];
        open |= dim == -1;
        if (dim == 0 && !at->allowzero && i < x.rank)
            dim = x.dim[i];
        if (dim < -1 || __builtin_mul_overflow(want, dim, &want) ||
            (i > 0 && __builtin_mul_overflow(rest, dim, &rest)))
            return ST_OK;
    }
    if (open && at->shape.v[0] == im->model_batch && x.rank > 0 && x.dim[0] == im->batch)
        first = im->batch;
    else if (!open && want != have && rest != 0 && have % rest == 0 &&
             at->shape.v[0] % im->model_batch == 0 &&
             have / rest == at->shape.v[0] / im->model_batch * im->batch)
        first = have / rest;
    if (first == 0)
        return ST_OK;
    int64_t *dims;
    TRY(arena_alloc(&im->mem, &dims, (size_t)at->shape.n, sizeof *dims));
    memcpy(dims, at->shape.v, (size_t)at->shape.n * sizeof *dims);
    dims[0] = first;
    at->shape.v = dims;
    return ST_OK;
}

/* ---- Identity of a constant: a value of its own, a parameter of its own where it is trained ---- */

static status identity(importer *im, draft *d)
{
    if (d->n_in != 1 || d->n_out != 1)
        return ST_OK;
    const value *x = &im->g->value[d->in[0]];
    if (x->kind != VALUE_CONST && !is_from_init(im, d->in[0]))
        return ST_OK;
    TRY(import_alias(im, d->out[0], d->in[0], VALUE_CONST, &d->made[0]));
    d->added = true;
    return ST_OK;
}

/* The first row that fits is taken. */
/* clang-format off */
static const rewrite table[] = {
    {"Identity", 1, 1000, NULL, OP_NONE, NULL, identity},
    {"QuantizeLinear", 21, 1000, NULL, OP_NONE, NULL, quantize_blocks},
    {"DequantizeLinear", 21, 1000, NULL, OP_NONE, NULL, dequantize_blocks},
    {"BatchNormalization", 1, 13, "spatial is_test", OP_NONE, NULL, batch_norm},
    {"BatchNormalization", 14, 1000, NULL, OP_NONE, NULL, batch_norm},
    {"Dropout", 1, 6, "is_test", OP_NONE, NULL, dropout},
    {"Dropout", 7, 1000, NULL, OP_NONE, NULL, dropout},
    {"Reshape", 1, 1000, NULL, OP_NONE, NULL, reshape},
    {"Resize", 1, 10, NULL, OP_NONE, old_resize, resize},
    {"Resize", 11, 1000, NULL, OP_NONE, NULL, resize},
    {"Upsample", 7, 1000, NULL, OP_RESIZE, old_resize, resize},
    {"Softmax", 1, 12, NULL, OP_NONE, old_softmax_default, old_softmax},
    {"LogSoftmax", 1, 12, NULL, OP_NONE, old_softmax_default, old_softmax},
    {"Pad", 1, 10, "value", OP_NONE, NULL, old_pad},
    {"Gemm", 1, 6, "broadcast", OP_NONE, NULL, NULL},
    {"PRelu", 1, 6, NULL, OP_NONE, NULL, old_prelu},
    {"Add", 1, 6, "broadcast axis", OP_NONE, NULL, old_broadcast},
    {"Sub", 1, 6, "broadcast axis", OP_NONE, NULL, old_broadcast},
    {"Mul", 1, 6, "broadcast axis", OP_NONE, NULL, old_broadcast},
    {"Div", 1, 6, "broadcast axis", OP_NONE, NULL, old_broadcast},
    {"Pow", 1, 6, "broadcast axis", OP_NONE, NULL, old_broadcast},
    {"And", 1, 6, "broadcast axis", OP_NONE, NULL, old_broadcast},
    {"Or", 1, 6, "broadcast axis", OP_NONE, NULL, old_broadcast},
    {"Xor", 1, 6, "broadcast axis", OP_NONE, NULL, old_broadcast},
    {"Equal", 1, 6, "broadcast axis", OP_NONE, NULL, old_broadcast},
    {"Less", 1, 6, "broadcast axis", OP_NONE, NULL, old_broadcast},
    {"Greater", 1, 6, "broadcast axis", OP_NONE, NULL, old_broadcast},
};
/* clang-format on */

const rewrite *rewrite_find(const char *op_type, int64_t opset)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (opset >= table[i].since && opset <= table[i].until && strcmp(table[i].op_type, op_type) == 0)
            return &table[i];
    return NULL;
}
