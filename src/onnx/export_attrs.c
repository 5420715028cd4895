/* export_attrs.c - attributes as they are written: left out, as AttributeProto, or as an input of the node. */
#include "onnx/exporter.h"

#include "onnx/tensor_pb.h"
#include "onnx/wire.h"
#include "ops/attrs.h"

#include <string.h>

/* ---- differences between opsets ---- */

/* Attributes that came later, or became inputs later. */
typedef struct attr_row {
    const char *op, *attr;
    int since, input_since;
} attr_row;
static const attr_row attr_since[] = {
    {"Reshape", "allowzero", 14, 0},
    {"BatchNormalization", "training_mode", 14, 0},
    {"AveragePool", "dilations", 19, 0},
    {"Cast", "saturate", 19, 0},
    {"QuantizeLinear", "saturate", 19, 0},
    {"QuantizeLinear", "output_dtype", 21, 0},
    {"QuantizeLinear", "precision", 23, 0},
    {"DequantizeLinear", "output_dtype", 23, 0},
    {"Resize", "antialias", 18, 0},
    {"Resize", "axes", 18, 0},
    {"Resize", "keep_aspect_ratio_policy", 18, 0},
    {"Pad", "axes", 18, 0},
    {"Split", "num_outputs", 18, 0},
    {"ReduceMean", "axes", 0, 18},
    {"ReduceMax", "axes", 0, 18},
    {"ReduceMin", "axes", 0, 18},
    {"ReduceProd", "axes", 0, 18},
    {"ReduceMean", "noop_with_empty_axes", 18, 0},
    {"ReduceMax", "noop_with_empty_axes", 18, 0},
    {"ReduceMin", "noop_with_empty_axes", 18, 0},
    {"ReduceProd", "noop_with_empty_axes", 18, 0},
};

static const attr_row *find_attr_row(const char *op, const char *attr)
{
    static const attr_row none = {0};
    for (size_t i = 0; i < sizeof attr_since / sizeof *attr_since; i++)
        if (strcmp(attr_since[i].op, op) == 0 && strcmp(attr_since[i].attr, attr) == 0)
            return &attr_since[i];
    return &none;
}

/* Element types of attributes that are written as inputs, where they are not int64 or the type of the first input. */
typedef struct input_type_row {
    const char *op, *attr;
    dtype type;
} input_type_row;
static const input_type_row input_types[] = {
    {"Dropout", "ratio", DTYPE_F32},
    {"Dropout", "training_mode", DTYPE_BOOL},
    {"Resize", "scales", DTYPE_F32},
};

/* ---- one attribute ---- */

typedef struct field { /* one attribute's value, whatever its type */
    int64_t i;
    double f;
    attr_ints ints;
    attr_floats floats;
    attr_tensor t;
    bool batch_first; /* ints: entry 0 is the batch, to be read from the model's input */
} field;

static field read_field(const node *n, const attr_desc *a)
{
    field v = {0};
    const char *at = (const char *)n->attr + a->offset;
    switch (a->type) {
    case ATTR_INT:
    case ATTR_CHOICE:
    case ATTR_DTYPE:
        memcpy(&v.i, at, sizeof v.i);
        break;
    case ATTR_FLOAT:
        memcpy(&v.f, at, sizeof v.f);
        break;
    case ATTR_INTS:
        memcpy(&v.ints, at, sizeof v.ints);
        break;
    case ATTR_FLOATS:
        memcpy(&v.floats, at, sizeof v.floats);
        break;
    case ATTR_TENSOR:
        memcpy(&v.t, at, sizeof v.t);
        break;
    }
    return v;
}

/* Whether leaving the attribute out says the same. */
static bool is_default(const attr_desc *a, const field *v)
{
    switch (a->type) {
    case ATTR_INT:
    case ATTR_CHOICE:
    case ATTR_DTYPE:
        return v->i == (int64_t)a->def && !(a->flags & ATTR_REQUIRED);
    case ATTR_FLOAT:
        return ((float)v->f == (float)a->def) && !(a->flags & ATTR_REQUIRED);
    case ATTR_INTS:
        return v->ints.v == NULL;
    case ATTR_FLOATS:
        return v->floats.v == NULL;
    case ATTR_TENSOR:
        return v->t.type == DTYPE_NONE || (v->t.type == DTYPE_F32 && v->t.v == 0);
    }
    return false;
}

enum { A_FLOAT = 1, A_INT = 2, A_STRING = 3, A_TENSOR = 4, A_FLOATS = 6, A_INTS = 7 };

static status put_one(text *t, const attr_desc *a, const field *v)
{
    static const int type[] = {
        [ATTR_INT] = A_INT,       [ATTR_FLOAT] = A_FLOAT, [ATTR_INTS] = A_INTS,    [ATTR_FLOATS] = A_FLOATS,
        [ATTR_CHOICE] = A_STRING, [ATTR_DTYPE] = A_INT,   [ATTR_TENSOR] = A_TENSOR};
    text at = {0};
    wire_put_string(&at, 1, a->name);
    switch (a->type) {
    case ATTR_INT:
        wire_put_int(&at, 3, v->i);
        break;
    case ATTR_DTYPE:
        wire_put_int(&at, 3, dtype_of((dtype)v->i)->onnx);
        break;
    case ATTR_FLOAT:
        wire_put_float(&at, 2, (float)v->f);
        break;
    case ATTR_CHOICE: {
        const char *s = a->choices;
        for (int64_t k = 0; k < v->i; k++) {
            s += strcspn(s, " ");
            s += *s == ' ';
        }
        wire_put_bytes(&at, 4, s, strcspn(s, " "));
        break;
    }
    case ATTR_INTS:
        wire_put_ints(&at, 8, v->ints.v, (size_t)v->ints.n);
        break;
    case ATTR_FLOATS:
        for (int64_t k = 0; k < v->floats.n; k++)
            wire_put_float(&at, 7, (float)v->floats.v[k]);
        break;
    case ATTR_TENSOR: {
        text value_text = {0};
        char element[8];
        shape one = SHAPE(1);
        dtype_store(v->t.type, element, 0, v->t.v);
        TRY(tensor_put_pb(&value_text, NULL, v->t.type, &one, element));
        wire_put_message(&at, 5, &value_text);
        break;
    }
    }
    wire_put_int(&at, 20, type[a->type]);
    wire_put_message(t, 5, &at);
    return t->st;
}

/* ---- attributes whose written form depends on more than themselves ---- */

static bool contains(attr_ints list, int64_t number)
{
    for (int64_t i = 0; i < list.n; i++)
        if (list.v[i] == number)
            return true;
    return false;
}

/* The batch in a Reshape's shape becomes 0 (as the input has it) or -1 (computed). */
static status adapt_reshape_shape(exporter *x, const node *n, field *v)
{
    const shape *in = &x->g->value[n->in[0]].sh;
    attr_ints list = v->ints;
    int64_t *dims;
    if (!x->batch || !x->batched[n->in[0]] || list.n == 0 || list.v[0] <= 0)
        return ST_OK;
    TRY(arena_alloc(&x->mem, &dims, (size_t)list.n, sizeof *dims));
    memcpy(dims, list.v, (size_t)list.n * sizeof *dims);
    v->ints.v = dims;
    if (in->rank > 0 && dims[0] == in->dim[0] && !contains(list, 0))
        dims[0] = 0;
    else if (!contains(list, -1) && dims[0] % x->batch == 0)
        dims[0] = -1;
    return ST_OK;
}

/* allowzero says nothing when there is no zero. */
static status adapt_reshape_allowzero(exporter *x, const node *n, field *v)
{
    (void)x;
    if (!contains(((const reshape_attrs *)n->attr)->shape, 0))
        v->i = 0;
    return ST_OK;
}

/* Axes of a Slice that are taken whole are left out of its four lists. */
static status adapt_slice(exporter *x, const node *n, field *v)
{
    const slice_attrs *at = n->attr;
    int64_t *kept, k = 0;
    if (at->axes.n != at->starts.n || at->steps.n != at->starts.n)
        return ST_OK;
    TRY(arena_alloc(&x->mem, &kept, (size_t)v->ints.n + 1, sizeof *kept));
    for (int64_t i = 0; i < at->starts.n; i++)
        if (at->starts.v[i] != 0 || at->ends.v[i] != INT64_MAX || at->steps.v[i] != 1)
            kept[k++] = v->ints.v[i];
    if (k == 0 && v->ints.n > 0)
        kept[k++] = v->ints.v[0];
    v->ints = (attr_ints){k, kept};
    return ST_OK;
}

/* The batch in an Expand's shape becomes 1 where the input has it already; where it has not (a token that is repeated for
 * every sample), it is read when the graph runs. */
static status adapt_expand_shape(exporter *x, const node *n, field *v)
{
    const shape *in = &x->g->value[n->in[0]].sh, *out = &x->g->value[n->out[0]].sh;
    int64_t *dims;
    if (!x->batch || v->ints.n != out->rank || out->rank == 0 || v->ints.v[0] != x->batch)
        return ST_OK;
    bool has = in->rank == out->rank && in->dim[0] == x->batch && x->batched[n->in[0]];
    if (!has && !x->expand_to_batch)
        return ST_OK;
    TRY(arena_alloc(&x->mem, &dims, (size_t)v->ints.n, sizeof *dims));
    memcpy(dims, v->ints.v, (size_t)v->ints.n * sizeof *dims);
    dims[0] = has ? 1 : dims[0];
    v->ints.v = dims;
    v->batch_first = !has;
    return ST_OK;
}

/* Lists that say nothing when they are all ones. */
static status adapt_ones(exporter *x, const node *n, field *v)
{
    bool ones = true;
    (void)x;
    (void)n;
    for (int64_t i = 0; i < v->ints.n; i++)
        ones &= v->ints.v[i] == 1;
    if (ones)
        v->ints = (attr_ints){0};
    return ST_OK;
}

static status adapt_slice_steps(exporter *x, const node *n, field *v)
{
    TRY(adapt_slice(x, n, v));
    return adapt_ones(x, n, v);
}

/* The sizes say how many there are. */
static status adapt_num_outputs(exporter *x, const node *n, field *v)
{
    (void)x;
    if (((const split_attrs *)n->attr)->split.v)
        v->i = 0;
    return ST_OK;
}

static const struct {
    op_id op;
    const char *attr;
    status (*fn)(exporter *x, const node *n, field *v);
} adapters[] = {
    {OP_RESHAPE, "shape", adapt_reshape_shape},
    {OP_RESHAPE, "allowzero", adapt_reshape_allowzero},
    {OP_SLICE, "starts", adapt_slice},
    {OP_SLICE, "ends", adapt_slice},
    {OP_SLICE, "axes", adapt_slice},
    {OP_SLICE, "steps", adapt_slice_steps},
    {OP_EXPAND, "shape", adapt_expand_shape},
    {OP_SPLIT, "num_outputs", adapt_num_outputs},
    {OP_AVERAGE_POOL, "dilations", adapt_ones},
};

static status adapt(exporter *x, const node *n, const attr_desc *a, field *v)
{
    for (size_t i = 0; i < sizeof adapters / sizeof *adapters; i++)
        if (adapters[i].op == n->op && strcmp(adapters[i].attr, a->name) == 0)
            return adapters[i].fn(x, n, v);
    return ST_OK;
}

/* ---- attributes that are inputs ---- */

static dtype input_type(const exporter *x, const node *n, const attr_desc *a)
{
    for (size_t i = 0; i < sizeof input_types / sizeof *input_types; i++)
        if (strcmp(input_types[i].op, op_of(n->op)->name) == 0 && strcmp(input_types[i].attr, a->name) == 0)
            return input_types[i].type;
    if (a->type == ATTR_INTS || a->type == ATTR_INT)
        return DTYPE_I64;
    return x->g->value[n->in[0]].type;
}

/* A node that exists in the file only; axis: attribute, when not negative. */
static void put_helper(exporter *x, const char *op, const char *name, const char *a, const char *b, int axis)
{
    text t = {0}, at = {0};
    wire_put_string(&t, 1, a);
    if (b)
        wire_put_string(&t, 1, b);
    wire_put_string(&t, 2, name);
    wire_put_string(&t, 3, name);
    wire_put_string(&t, 4, op);
    if (axis >= 0) {
        wire_put_string(&at, 1, "axis");
        wire_put_int(&at, 3, axis);
        wire_put_int(&at, 20, A_INT);
        wire_put_message(&t, 5, &at);
    }
    wire_put_message(&x->nodes, 1, &t);
}

/* The list with the batch of the model's first batched input in front: Concat(Gather(Shape(input), 0), rest). */
static status put_batch_list(exporter *x, const node *n, attr_ints list, const char **name)
{
    static const int64_t zero[1] = {0};
    const char *sh, *first, *index, *rest, *input = NULL;
    shape one = SHAPE(1), others = SHAPE(list.n - 1);
    for (size_t i = 0; i < x->g->n_input && !input; i++)
        if (x->batched[x->g->input[i]])
            input = x->g->value[x->g->input[i]].name;
    TRY(export_fresh_name(x, n->name, "batch_shape", &sh));
    TRY(export_fresh_name(x, n->name, "batch_index", &index));
    TRY(export_fresh_name(x, n->name, "batch", &first));
    TRY(export_fresh_name(x, n->name, "batch_rest", &rest));
    TRY(export_fresh_name(x, n->name, "shape", name));
    TRY(export_initializer(x, index, DTYPE_I64, &one, zero));
    TRY(export_initializer(x, rest, DTYPE_I64, &others, list.v + 1));
    put_helper(x, "Shape", sh, input, NULL, -1);
    put_helper(x, "Gather", first, sh, index, 0);
    put_helper(x, "Concat", *name, first, rest, 0);
    return x->nodes.st;
}

/* Writes the attribute as an initializer; its name goes into *name. */
static status put_as_input(exporter *x, const node *n, const attr_desc *a, const field *v, const char **name)
{
    dtype type = input_type(x, n, a);
    bool list = a->type == ATTR_INTS || a->type == ATTR_FLOATS;
    int64_t count = a->type == ATTR_INTS ? v->ints.n : a->type == ATTR_FLOATS ? v->floats.n : 1;
    shape sh = list ? SHAPE(count) : (shape){0};
    char *data;
    if (v->batch_first)
        return put_batch_list(x, n, v->ints, name);
    TRY(arena_alloc(&x->mem, &data, (size_t)count + 1, 8));
    for (int64_t i = 0; i < count; i++) {
        if (a->type == ATTR_INTS) /* int64 beyond 2^53 would suffer as a double */
            ((int64_t *)(void *)data)[i] = v->ints.v[i];
        else
            dtype_store(type, data, i,
                        a->type == ATTR_FLOATS ? v->floats.v[i]
                        : a->type == ATTR_INT  ? (double)v->i
                                               : v->f);
    }
    TRY(export_fresh_name(x, n->name, a->name, name));
    return export_initializer(x, *name, type, &sh, data);
}

/* ---- all of a node's ---- */

status export_attributes(exporter *x, const node *n, text *t, const char **input, size_t *n_input)
{
    const op_desc *d = op_of(n->op);
    for (const attr_desc *a = d->attrs; a && a->name; a++) {
        field v = read_field(n, a);
        const attr_row *row = find_attr_row(d->name, a->name);
        if (a->flags & ATTR_HIDDEN) {
            if (!is_default(a, &v) && !(a->type == ATTR_INT && v.i == 0))
                return fail(ST_BAD_DATA, "node '%s' (%s): '%s' is set, which ONNX does not have", n->name,
                            d->name, a->name);
            continue;
        }
        TRY(adapt(x, n, a, &v));
        if (is_default(a, &v))
            continue;
        if (x->opset < row->since)
            return fail(ST_BAD_DATA, "node '%s' (%s): attribute '%s' does not exist before opset %d", n->name,
                        d->name, a->name, row->since);
        if (a->from_input == 0 || x->opset < row->input_since) {
            TRY(put_one(t, a, &v));
            continue;
        }
        size_t k = (size_t)a->from_input - 1;
        if (k >= INPUTS_MAX)
            return fail(ST_INTERNAL, "operator %s has too many inputs", d->name);
        TRY(put_as_input(x, n, a, &v, &input[k]));
        *n_input = k + 1 > *n_input ? k + 1 : *n_input;
    }
    return ST_OK;
}
