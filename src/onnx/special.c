/* special.c - operators that leave no node of their own behind: what they say is known while the model is read. */
#include "onnx/importer.h"

#include "ops/attrs.h"

#include <inttypes.h>
#include <string.h>

/* ---- Constant (Constant-24): one attribute holds the value ---- */

typedef struct constant_form {
    const char *attribute;
    int type; /* AttributeProto.AttributeType */
    dtype element;
    bool list;
} constant_form;
/* clang-format off */
static const constant_form forms[] = {
    {"value", 4, DTYPE_NONE, false},         {"value_float", 1, DTYPE_F32, false}, {"value_int", 2, DTYPE_I64, false},
    {"value_floats", 6, DTYPE_F32, true}, {"value_ints", 7, DTYPE_I64, true},
};
/* clang-format on */

static status constant_value(importer *im, scope *s, const Onnx__NodeProto *n, const constant_form *f,
                             const Onnx__AttributeProto *a, const char *name, value_id *v)
{
    if (f->list) {
        size_t count = f->element == DTYPE_I64 ? a->n_ints : a->n_floats;
        shape sh = SHAPE((int64_t)count);
        const void *data = f->element == DTYPE_I64 ? (const void *)a->ints : (const void *)a->floats;
        return graph_add_data(im->g, name, VALUE_CONST, f->element, sh, data, v);
    }
    if (f->element != DTYPE_NONE) {
        const void *data = f->element == DTYPE_I64 ? (const void *)&a->i : (const void *)&a->f;
        return graph_add_data(im->g, name, VALUE_CONST, f->element, (shape){0}, data, v);
    }
    tensor t;
    const char *what;
    if (!a->t)
        return node_fail(s, n, "its value is empty");
    TRY(arena_printf(&im->mem, &what, "node '%s' (Constant)", node_label(n)));
    TRY(tensor_from_proto(&im->src, a->t, what, &t));
    status st = graph_add_data(im->g, name, VALUE_CONST, t.type, t.sh, t.data, v);
    tensor_free(&t);
    return st;
}

static status import_constant(importer *im, scope *s, const Onnx__NodeProto *n)
{
    draft d;
    TRY(draft_begin(im, s, n, OP_IDENTITY, &d));
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        const Onnx__AttributeProto *a;
        TRY(attribute_find(s, n, forms[i].attribute, forms[i].type, &a));
        if (!a)
            continue;
        if (n->n_attribute > 1)
            return node_fail(s, n, "it has %zu attributes, one is allowed", n->n_attribute);
        TRY(constant_value(im, s, n, &forms[i], a, d.out[0], &d.made[0]));
        return draft_end(&d);
    }
    return node_fail(
        s, n, "attribute '%s' is not supported; known: value value_float value_floats value_int value_ints",
        n->n_attribute && n->attribute[0]->name ? n->attribute[0]->name : "");
}

/* ---- Shape (Shape-15), Size: shapes are static here ---- */

static int64_t clamp_axis(int64_t axis, int64_t rank)
{
    if (axis < 0)
        axis += rank;
    return axis < 0 ? 0 : axis > rank ? rank : axis;
}

static status import_shape(importer *im, scope *s, const Onnx__NodeProto *n)
{
    draft d;
    TRY(draft_begin(im, s, n, OP_SHAPE, &d));
    TRY(attributes_read(im, &d, NULL));
    if (d.n_in != 1)
        return node_fail(s, n, "it takes 1 input, %zu given", d.n_in);
    const shape_op_attrs *at = d.attr;
    shape x = im->g->value[d.in[0]].sh;
    int64_t start = clamp_axis(at->start, x.rank), end = clamp_axis(at->end, x.rank),
            count = end > start ? end - start : 0;
    TRY(graph_add_data(im->g, d.out[0], VALUE_CONST, DTYPE_I64, SHAPE(count), x.dim + start, &d.made[0]));
    return draft_end(&d);
}

static status import_size(importer *im, scope *s, const Onnx__NodeProto *n)
{
    draft d;
    TRY(draft_begin(im, s, n, OP_SIZE, &d));
    TRY(attributes_read(im, &d, NULL));
    if (d.n_in != 1)
        return node_fail(s, n, "it takes 1 input, %zu given", d.n_in);
    int64_t size = shape_count(&im->g->value[d.in[0]].sh);
    TRY(graph_add_data(im->g, d.out[0], VALUE_CONST, DTYPE_I64, (shape){0}, &size, &d.made[0]));
    return draft_end(&d);
}

/* CastLike(x, like) is Cast(x) to the type of `like`. */
static status import_cast_like(importer *im, scope *s, const Onnx__NodeProto *n)
{
    draft d;
    TRY(draft_begin(im, s, n, OP_CAST, &d));
    if (d.n_in != 2 || !d.in[0])
        return node_fail(s, n, "it takes 2 inputs, %zu given", d.n_in);
    d.given = UINT64_MAX; /* `to` comes from the second input */
    TRY(attributes_read(im, &d, NULL));
    ((cast_attrs *)d.attr)->to = im->g->value[d.in[1]].type;
    d.n_in = 1;
    TRY(draft_add(im, &d));
    return draft_end(&d);
}

special_fn special_find(const char *op_type)
{
    static const struct {
        const char *op_type;
        special_fn fn;
    } table[] = {{"Constant", import_constant},
                 {"Shape", import_shape},
                 {"Size", import_size},
                 {"CastLike", import_cast_like},
                 {"If", inline_if}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].op_type, op_type) == 0)
            return table[i].fn;
    return NULL;
}
