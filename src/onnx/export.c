/* export.c - a graph as ModelProto bytes.
 *
 * Flow: put_node writes a node and the constants it needs: its weights, and attributes that are inputs at this opset, as
 * initializers. Then inputs, outputs and the model around the graph. Everything is in the order of the nodes, so the bytes
 * depend on the graph alone. */
#include "onnx/export.h"

#include "base/io.h"
#include "onnx/import.h"
#include "onnx/names.h"
#include "onnx/tensor_pb.h"
#include "onnx/wire.h"
#include "ops/attrs.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { INPUTS_MAX = 8 }; /* of an operator with inputs that are attributes here */

/* ---- differences between opsets ---- */

/* Operators that came later than the oldest opset written. */
typedef struct since_row {
    op_id op;
    int since;
} since_row;
static const since_row op_since[] = {{OP_GELU, 20}, {OP_LAYER_NORM, 17}, {OP_HARD_SWISH, 14}};

/* Attributes that came later, or became inputs later. */
typedef struct attr_row {
    const char *op, *attr;
    int since, input_since;
} attr_row;
static const attr_row attr_since[] = {
    {"Reshape", "allowzero", 14, 0},      {"BatchNormalization", "training_mode", 14, 0},
    {"AveragePool", "dilations", 19, 0},  {"Cast", "saturate", 19, 0},
    {"Resize", "antialias", 18, 0},       {"Resize", "axes", 18, 0},
    {"Resize", "keep_aspect_ratio_policy", 18, 0}, {"Pad", "axes", 18, 0},
    {"Split", "num_outputs", 18, 0},      {"ReduceMean", "axes", 0, 18},
    {"ReduceMax", "axes", 0, 18},         {"ReduceMin", "axes", 0, 18},
    {"ReduceProd", "axes", 0, 18},        {"ReduceMean", "noop_with_empty_axes", 18, 0},
    {"ReduceMax", "noop_with_empty_axes", 18, 0},  {"ReduceMin", "noop_with_empty_axes", 18, 0},
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

static const int ir_version[] = {7, 7, 8, 8, 8, 8, 9, 9, 10}; /* by opset, from 13 on (ONNX's Versioning.md) */

/* ---- the export under way ---- */

typedef struct exporter {
    const graph *g;
    const export_options *o;
    int64_t opset, batch; /* batch > 0: dynamic */
    uint8_t *batched;     /* [n_value] depends on a batched input */
    uint8_t *written;     /* [n_value] its initializer is there */
    name_map names;       /* of everything in the graph and of what is made here */
    arena mem;
    text nodes, initializers;
} exporter;

/* A name nobody else has: "NODE_attr", then "NODE_attr_2" ... */
static status fresh_name(exporter *x, const char *node_name, const char *suffix, const char **out)
{
    uint32_t *slot;
    TRY(arena_printf(&x->mem, out, "%s_%s", node_name, suffix));
    for (int k = 2;; k++) {
        TRY(name_map_put(&x->names, *out, &slot));
        if (!*slot)
            break;
        TRY(arena_printf(&x->mem, out, "%s_%s_%d", node_name, suffix, k));
    }
    *slot = 1;
    return ST_OK;
}

static status put_initializer(exporter *x, const char *name, dtype type, const shape *sh, const void *data)
{
    text t = {0};
    status st = tensor_put_pb(&t, name, type, sh, data);
    wire_put_message(&x->initializers, 5, &t);
    return st == ST_OK ? x->initializers.st : st;
}

/* The initializer of a constant, parameter or state, once. */
static status put_data(exporter *x, value_id v)
{
    const value *c = &x->g->value[v];
    const void *data = c->data;
    char a[200], b[200];
    if (x->written[v] || c->kind == VALUE_TEMP || c->kind == VALUE_INPUT)
        return ST_OK;
    x->written[v] = 1;
    if (c->type == DTYPE_F64)
        return fail(ST_BAD_DATA, "'%s' is float64; only float32 graphs are exported", c->name);
    if (c->kind != VALUE_CONST && x->o->params) {
        const store_entry *e = store_find(x->o->params, c->name);
        if (!e)
            return fail(ST_INTERNAL, "parameter '%s' is not in the store", c->name);
        if (e->t.type != c->type || !shape_equal(&e->t.sh, &c->sh))
            return fail(ST_BAD_DATA, "parameter '%s' is %s %s in the store and %s %s in the graph", c->name,
                        dtype_of(e->t.type)->name, shape_print(&e->t.sh, a), dtype_of(c->type)->name,
                        shape_print(&c->sh, b));
        data = e->t.data;
    }
    void *zeros = NULL;
    size_t bytes;
    TRY(shape_bytes(&c->sh, c->type, &bytes));
    if (!data) {
        TRY(mem_alloc(&zeros, bytes, 1));
        data = zeros;
    }
    status st = put_initializer(x, c->name, c->type, &c->sh, data);
    mem_free(zeros);
    return st;
}

/* ---- attributes ---- */

typedef struct field { /* one attribute's value, whatever its type */
    int64_t i;
    double f;
    attr_ints ints;
    attr_floats floats;
    attr_tensor t;
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
    static const int type[] = {[ATTR_INT] = A_INT,       [ATTR_FLOAT] = A_FLOAT,   [ATTR_INTS] = A_INTS,
                               [ATTR_FLOATS] = A_FLOATS, [ATTR_CHOICE] = A_STRING, [ATTR_DTYPE] = A_INT,
                               [ATTR_TENSOR] = A_TENSOR};
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
    {OP_RESHAPE, "shape", adapt_reshape_shape}, {OP_RESHAPE, "allowzero", adapt_reshape_allowzero},
    {OP_SLICE, "starts", adapt_slice},          {OP_SLICE, "ends", adapt_slice},
    {OP_SLICE, "axes", adapt_slice},            {OP_SLICE, "steps", adapt_slice_steps},
    {OP_SPLIT, "num_outputs", adapt_num_outputs}, {OP_AVERAGE_POOL, "dilations", adapt_ones},
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

/* Writes the attribute as an initializer; its name goes into *name. */
static status put_as_input(exporter *x, const node *n, const attr_desc *a, const field *v, const char **name)
{
    dtype type = input_type(x, n, a);
    bool list = a->type == ATTR_INTS || a->type == ATTR_FLOATS;
    int64_t count = a->type == ATTR_INTS ? v->ints.n : a->type == ATTR_FLOATS ? v->floats.n : 1;
    shape sh = list ? SHAPE(count) : (shape){0};
    char *data;
    TRY(arena_alloc(&x->mem, &data, (size_t)count + 1, 8));
    for (int64_t i = 0; i < count; i++) {
        if (a->type == ATTR_INTS) /* int64 beyond 2^53 would suffer as a double */
            ((int64_t *)(void *)data)[i] = v->ints.v[i];
        else
            dtype_store(type, data, i, a->type == ATTR_FLOATS ? v->floats.v[i] : a->type == ATTR_INT ? (double)v->i : v->f);
    }
    TRY(fresh_name(x, n->name, a->name, name));
    return put_initializer(x, *name, type, &sh, data);
}

/* ---- nodes ---- */

static status check_op(const exporter *x, const node *n)
{
    const op_desc *d = op_of(n->op);
    if (d->flags & OP_INTERNAL)
        return fail(ST_BAD_DATA, "node '%s': %s is internal and has no form in ONNX", n->name, d->name);
    for (size_t i = 0; i < sizeof op_since / sizeof *op_since; i++)
        if (op_since[i].op == n->op && x->opset < op_since[i].since)
            return fail(ST_BAD_DATA, "node '%s': %s does not exist before opset %d; export with opset = %d or newer", n->name,
                        d->name, op_since[i].since, op_since[i].since);
    return ST_OK;
}

/* Attributes of n into the message `t`; those that are inputs at this opset into input[] and *n_input. */
static status put_attributes(exporter *x, const node *n, text *t, const char **input, size_t *n_input)
{
    const op_desc *d = op_of(n->op);
    for (const attr_desc *a = d->attrs; a && a->name; a++) {
        field v = read_field(n, a);
        const attr_row *row = find_attr_row(d->name, a->name);
        if (a->flags & ATTR_HIDDEN) {
            if (!is_default(a, &v) && !(a->type == ATTR_INT && v.i == 0))
                return fail(ST_BAD_DATA, "node '%s' (%s): '%s' is set, which ONNX does not have", n->name, d->name, a->name);
            continue;
        }
        TRY(adapt(x, n, a, &v));
        if (is_default(a, &v))
            continue;
        if (x->opset < row->since)
            return fail(ST_BAD_DATA, "node '%s' (%s): attribute '%s' does not exist before opset %d", n->name, d->name,
                        a->name, row->since);
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

/* Names of the inputs in ONNX's order: those that are attributes here stand between the others. */
static status put_inputs(exporter *x, const node *n, text *t, const char *const *attr_input, size_t n_attr)
{
    bool reserved[INPUTS_MAX] = {false};
    for (const attr_desc *a = op_of(n->op)->attrs; a && a->name; a++)
        if (a->from_input)
            reserved[a->from_input - 1] = true;
    size_t at = 0, absent = 0; /* absent inputs are written only when one follows */
    for (size_t i = 0; i < n->n_in || at < n_attr; at++) {
        const char *name = "";
        if (at < INPUTS_MAX && reserved[at])
            name = attr_input[at] ? attr_input[at] : "";
        else if (i < n->n_in) {
            value_id v = n->in[i++];
            TRY(put_data(x, v));
            name = v ? x->g->value[v].name : "";
        }
        absent++;
        if (!*name)
            continue;
        for (; absent > 1; absent--)
            wire_put_string(t, 1, "");
        wire_put_string(t, 1, name);
        absent = 0;
    }
    return t->st;
}

static status put_node(exporter *x, const node *n)
{
    const char *attr_input[INPUTS_MAX] = {0};
    size_t n_attr = 0;
    text t = {0}, attrs = {0};
    status st = ST_OK;
    TRY_DONE(check_op(x, n));
    for (int i = 0; i < n->n_in; i++)
        TRY_DONE(put_data(x, n->in[i]));
    TRY_DONE(put_attributes(x, n, &attrs, attr_input, &n_attr));
    TRY_DONE(put_inputs(x, n, &t, attr_input, n_attr));
    int last = n->n_out;
    while (last > 0 && !n->out[last - 1])
        last--;
    for (int i = 0; i < last; i++)
        wire_put_string(&t, 2, n->out[i] ? x->g->value[n->out[i]].name : "");
    wire_put_string(&t, 3, n->name);
    wire_put_string(&t, 4, op_of(n->op)->name);
    text_add_n(&t, attrs.n ? attrs.s : "", attrs.n);
    wire_put_message(&x->nodes, 1, &t);
    st = attrs.st != ST_OK ? attrs.st : x->nodes.st;
done:
    text_free(&attrs);
    text_free(&t);
    return st;
}

/* ---- inputs and outputs ---- */

static status put_value_info(exporter *x, text *t, unsigned field_number, value_id v)
{
    const value *c = &x->g->value[v];
    text info = {0}, type = {0}, tensor_type = {0}, sh = {0};
    if (c->type == DTYPE_F64)
        return fail(ST_BAD_DATA, "'%s' is float64; only float32 graphs are exported", c->name);
    for (int i = 0; i < c->sh.rank; i++) {
        text dim = {0};
        if (i == 0 && x->batch && x->batched[v] && c->sh.dim[0] == x->batch)
            wire_put_string(&dim, 2, "batch");
        else
            wire_put_int(&dim, 1, c->sh.dim[i]);
        wire_put_message(&sh, 1, &dim);
    }
    wire_put_int(&tensor_type, 1, dtype_of(c->type)->onnx);
    wire_put_message(&tensor_type, 2, &sh);
    wire_put_message(&type, 1, &tensor_type);
    wire_put_string(&info, 1, c->name);
    wire_put_message(&info, 2, &type);
    wire_put_message(t, field_number, &info);
    return t->st;
}

/* Which values depend on the batch; 0 when no input is batched. */
static void find_batched(exporter *x)
{
    const graph *g = x->g;
    for (size_t i = 0; i < g->n_input; i++) {
        const value *v = &g->value[g->input[i]];
        if (!(v->flags & VALUE_BATCHED) || v->sh.rank == 0)
            continue;
        x->batch = v->sh.dim[0];
        x->batched[g->input[i]] = 1;
    }
    for (size_t k = 1; k < g->n_node; k++) {
        const node *n = &g->node[k];
        uint8_t any = 0;
        for (int i = 0; i < n->n_in; i++)
            any |= n->in[i] ? x->batched[n->in[i]] : 0;
        for (int i = 0; i < n->n_out; i++)
            x->batched[n->out[i]] |= any;
    }
}

/* ---- the model ---- */

static status put_graph(exporter *x, text *out)
{
    const graph *g = x->g;
    uint32_t *slot;
    for (size_t v = 1; v < g->n_value; v++) {
        TRY(name_map_put(&x->names, g->value[v].name, &slot));
        *slot = 1;
    }
    for (size_t k = 1; k < g->n_node; k++)
        TRY(put_node(x, &g->node[k]));
    for (size_t i = 0; i < g->n_output; i++)
        TRY(put_data(x, g->output[i]));
    text_add_n(out, x->nodes.n ? x->nodes.s : "", x->nodes.n);
    wire_put_string(out, 2, x->o->graph_name ? x->o->graph_name : "student");
    text_add_n(out, x->initializers.n ? x->initializers.s : "", x->initializers.n);
    TRY(x->nodes.st);
    TRY(x->initializers.st);
    text_free(&x->initializers); /* the weights: one copy less */
    for (size_t i = 0; i < g->n_input; i++)
        TRY(put_value_info(x, out, 11, g->input[i]));
    for (size_t i = 0; i < g->n_output; i++)
        TRY(put_value_info(x, out, 12, g->output[i]));
    return out->st;
}

static void put_model(const exporter *x, text *graph_text, text *out)
{
    text opset = {0};
    wire_put_int(out, 1, ir_version[x->opset - EXPORT_OPSET_MIN]);
    wire_put_string(out, 2, "distill");
    wire_put_string(out, 3, DISTILL_VERSION);
    wire_put_message(out, 7, graph_text);
    wire_put_int(&opset, 2, x->opset);
    wire_put_message(out, 8, &opset);
    for (size_t i = 0; i < x->o->n_meta; i++) {
        text pair = {0};
        wire_put_string(&pair, 1, x->o->meta[i].key);
        wire_put_string(&pair, 2, x->o->meta[i].value);
        wire_put_message(out, 14, &pair);
    }
}

/* The result imported with another batch: every output must follow it and keep its other dimensions. */
static status check_any_batch(const exporter *x, const text *model, size_t start)
{
    onnx_model *m = NULL;
    graph *g = NULL;
    char a[200];
    import_options o = {.batch = x->batch + 1};
    status st = onnx_open_bytes("export", model->s + start, model->n - start, NULL, &m);
    if (st == ST_OK)
        st = onnx_import(m, &o, &g);
    for (size_t i = 0; i < x->g->n_output && st == ST_OK; i++) {
        const value *was = &x->g->value[x->g->output[i]], *now = &g->value[g->output[i]];
        shape want = was->sh;
        if (x->batched[x->g->output[i]] && want.rank > 0 && want.dim[0] == x->batch)
            want.dim[0]++;
        if (!shape_equal(&want, &now->sh))
            st = fail(ST_BAD_DATA, "output '%s' is %s with a batch of %" PRId64, was->name, shape_print(&now->sh, a), o.batch);
    }
    graph_free(g);
    onnx_close(m);
    return st == ST_OK || st == ST_OOM ? st : fail_within(st, "the graph has its batch size built in; export it with a fixed batch");
}

status onnx_export(const graph *g, const export_options *o, text *out)
{
    static const export_options defaults = {0};
    exporter x = {.g = g, .o = o ? o : &defaults};
    text graph_text = {0};
    size_t start = out->n;
    status st = ST_OK;
    x.opset = x.o->opset ? x.o->opset : EXPORT_OPSET_DEFAULT;
    if (x.opset < EXPORT_OPSET_MIN || x.opset > EXPORT_OPSET_MAX)
        return fail(ST_CONFIG, "opset %" PRId64 " cannot be written; choose %d to %d", x.opset, EXPORT_OPSET_MIN,
                    EXPORT_OPSET_MAX);
    TRY_DONE(mem_alloc(&x.batched, g->n_value, 1));
    TRY_DONE(mem_alloc(&x.written, g->n_value, 1));
    if (!x.o->fixed_batch)
        find_batched(&x);
    TRY_DONE(put_graph(&x, &graph_text));
    put_model(&x, &graph_text, out);
    TRY_DONE(out->st);
    if (out->n - start > INT32_MAX) {
        st = fail(ST_BAD_DATA, "the model has %zu bytes; an ONNX file may have 2 GiB", out->n - start);
        goto done;
    }
    if (x.batch)
        TRY_DONE(check_any_batch(&x, out, start));
done:
    name_map_free(&x.names);
    mem_free(x.batched);
    mem_free(x.written);
    text_free(&x.nodes);
    text_free(&x.initializers);
    text_free(&graph_text);
    arena_free(&x.mem);
    return st;
}

status onnx_export_file(const graph *g, const export_options *o, const char *path)
{
    text out = {0};
    status st = onnx_export(g, o, &out);
    if (st == ST_OK)
        st = io_write_file(path, out.s, out.n);
    else
        st = fail_within(st, "%s", path);
    text_free(&out);
    return st;
}
