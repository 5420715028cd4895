/* attributes.c - ONNX attributes, and inputs that are attributes here, into an operator's attribute struct. */
#include "onnx/importer.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { ATTRIBUTES_MAX = 1000 };

/* Names of AttributeProto.AttributeType, by number. */
/* clang-format off */
static const char *const type_name[] = {"UNDEFINED", "FLOAT",   "INT",    "STRING",        "TENSOR",
                                        "GRAPH",     "FLOATS",  "INTS",   "STRINGS",       "TENSORS",
                                        "GRAPHS",    "SPARSE_TENSOR", "SPARSE_TENSORS", "TYPE_PROTO", "TYPE_PROTOS"};
/* clang-format on */
enum {
    A_FLOAT = 1,
    A_INT,
    A_STRING,
    A_TENSOR,
    A_GRAPH,
    A_FLOATS,
    A_INTS,
    A_STRINGS,
    A_TENSORS,
    A_GRAPHS,
    A_COUNT = 15
};

/* The ONNX type of each kind of row. */
/* clang-format off */
static const int wanted_type[] = {[ATTR_INT] = A_INT,       [ATTR_FLOAT] = A_FLOAT,   [ATTR_INTS] = A_INTS,
                                  [ATTR_FLOATS] = A_FLOATS, [ATTR_CHOICE] = A_STRING, [ATTR_DTYPE] = A_INT,
                                  [ATTR_TENSOR] = A_TENSOR};
/* clang-format on */

/* Bit t: the field of type t is present. */
static uint32_t fields_present(const Onnx__AttributeProto *a)
{
    const bool present[A_COUNT] = {false,
                                   a->has_f,
                                   a->has_i,
                                   a->has_s,
                                   a->t != NULL,
                                   a->g != NULL,
                                   a->n_floats > 0,
                                   a->n_ints > 0,
                                   a->n_strings > 0,
                                   a->n_tensors > 0,
                                   a->n_graphs > 0,
                                   a->sparse_tensor != NULL,
                                   a->n_sparse_tensors > 0,
                                   a->tp != NULL,
                                   a->n_type_protos > 0};
    uint32_t mask = 0;
    for (int t = 0; t < A_COUNT; t++)
        mask |= (uint32_t)present[t] << t;
    return mask;
}

/* The declared type; files of the first IR version have none, the field that is there tells. */
static status attribute_type(const scope *s, const Onnx__NodeProto *n, const Onnx__AttributeProto *a,
                             int *type)
{
    uint32_t present = fields_present(a);
    *type = a->has_type ? (int)a->type : 0;
    if (*type == 0 && present)
        *type = __builtin_ctz(present);
    if (*type <= 0 || *type >= A_COUNT)
        return node_fail(s, n, "attribute '%s' has the unknown type %d", a->name, *type);
    if (present & ~((uint32_t)1 << *type))
        return node_fail(s, n, "attribute '%s' says it is %s but holds %s", a->name, type_name[*type],
                         type_name[__builtin_ctz(present & ~((uint32_t)1 << *type))]);
    return ST_OK;
}

status attribute_resolve(const scope *s, const Onnx__NodeProto *n, const Onnx__AttributeProto *a,
                         const Onnx__AttributeProto **out)
{
    *out = a;
    if (!a->ref_attr_name || !*a->ref_attr_name)
        return ST_OK;
    if (!s->call)
        return node_fail(s, n, "attribute '%s' refers to an attribute of a function, and is in none",
                         a->name);
    *out = NULL;
    for (size_t i = 0; i < s->call->n_attribute && !*out; i++)
        if (s->call->attribute[i]->name && strcmp(s->call->attribute[i]->name, a->ref_attr_name) == 0)
            *out = s->call->attribute[i];
    for (size_t i = 0; i < s->n_defaults && !*out; i++)
        if (s->defaults[i]->name && strcmp(s->defaults[i]->name, a->ref_attr_name) == 0)
            *out = s->defaults[i];
    if (*out && (*out)->ref_attr_name && *(*out)->ref_attr_name)
        return node_fail(s, n, "attribute '%s' refers to a reference; such a function is not supported",
                         a->name);
    return ST_OK;
}

status attribute_find(const scope *s, const Onnx__NodeProto *n, const char *name, int type,
                      const Onnx__AttributeProto **out)
{
    *out = NULL;
    for (size_t i = 0; i < n->n_attribute; i++) {
        int found;
        if (!n->attribute[i]->name || strcmp(n->attribute[i]->name, name) != 0)
            continue;
        TRY(attribute_resolve(s, n, n->attribute[i], out));
        if (!*out)
            return ST_OK;
        TRY(attribute_type(s, n, *out, &found));
        if (found != type)
            return node_fail(s, n, "attribute '%s' is %s, expected %s", name, type_name[found],
                             type_name[type]);
        return ST_OK;
    }
    return ST_OK;
}

/* ---- one value into its field ---- */

static status check_range(const draft *d, const attr_desc *row, double v)
{
    if ((row->min == 0 && row->max == 0) || (v >= row->min && v <= row->max))
        return ST_OK;
    if (v < row->min)
        return node_fail(d->s, d->from, "%s is %.17g, it must be at least %.17g", row->name, v, row->min);
    return node_fail(d->s, d->from, "%s is %.17g, it must be at most %.17g", row->name, v, row->max);
}

static status set_int(const draft *d, const attr_desc *row, int64_t v)
{
    TRY(check_range(d, row, (double)v));
    memcpy((char *)d->attr + row->offset, &v, sizeof v);
    return ST_OK;
}

/* ONNX has floats; one that means the default is the default (1e-5, not the double next to the float 1e-5). */
static status set_float(const draft *d, const attr_desc *row, double v)
{
    TRY(check_range(d, row, v));
    if ((float)v == (float)row->def)
        v = row->def;
    memcpy((char *)d->attr + row->offset, &v, sizeof v);
    return ST_OK;
}

/* An element as an integer: what lies outside int64 becomes its end, NaN 0. */
static int64_t load_int(dtype type, const void *data, int64_t i)
{
    int64_t v = 0;
    if (type == DTYPE_I64)
        return ((const int64_t *)data)[i];
    dtype_store(DTYPE_I64, &v, 0, dtype_load(type, data, i));
    return v;
}

/* Lists are n elements of any type, read as doubles or integers; room for one at least, so that empty is not NULL. */
static status set_ints(importer *im, const draft *d, const attr_desc *row, dtype type, const void *data,
                       size_t n)
{
    int64_t *v;
    TRY(arena_alloc(&im->mem, &v, n + 1, sizeof *v));
    for (size_t i = 0; i < n; i++) {
        v[i] = load_int(type, data, (int64_t)i);
        TRY(check_range(d, row, (double)v[i]));
    }
    attr_ints list = {(int64_t)n, v};
    memcpy((char *)d->attr + row->offset, &list, sizeof list);
    return ST_OK;
}

static status set_floats(importer *im, const draft *d, const attr_desc *row, dtype type, const void *data,
                         size_t n)
{
    double *v;
    TRY(arena_alloc(&im->mem, &v, n + 1, sizeof *v));
    for (size_t i = 0; i < n; i++) {
        v[i] = dtype_load(type, data, (int64_t)i);
        TRY(check_range(d, row, v[i]));
    }
    attr_floats list = {(int64_t)n, v};
    memcpy((char *)d->attr + row->offset, &list, sizeof list);
    return ST_OK;
}

static status set_choice(const draft *d, const attr_desc *row, const ProtobufCBinaryData *s)
{
    int64_t k = 0;
    for (const char *c = row->choices; *c; k++) {
        size_t len = strcspn(c, " ");
        if (len == s->len && memcmp(c, s->data, len) == 0) {
            memcpy((char *)d->attr + row->offset, &k, sizeof k);
            return ST_OK;
        }
        c += len;
        c += *c == ' ';
    }
    return node_fail(d->s, d->from, "%s is '%.*s'; supported: %s", row->name,
                     (int)(s->len < 60 ? s->len : 60), s->len ? (const char *)s->data : "", row->choices);
}

static status set_tensor(importer *im, const draft *d, const attr_desc *row, const Onnx__TensorProto *p)
{
    tensor t;
    const char *what;
    TRY(arena_printf(&im->mem, &what, "node '%s': attribute '%s'", node_label(d->from), row->name));
    TRY(tensor_from_proto(&im->src, p, what, &t));
    attr_tensor one = {t.type, 0};
    bool single = shape_count(&t.sh) == 1;
    if (single)
        one.v = tensor_at(&t, 0);
    tensor_free(&t);
    if (!single)
        return node_fail(d->s, d->from, "%s must have one element", row->name);
    memcpy((char *)d->attr + row->offset, &one, sizeof one);
    return ST_OK;
}

static status set_dtype(const draft *d, const attr_desc *row, int64_t code)
{
    int64_t type = code >= 0 && code < INT32_MAX ? (int64_t)dtype_from_onnx((int)code) : DTYPE_NONE;
    if (type == DTYPE_NONE)
        return node_fail(d->s, d->from, "%s is element type %" PRId64 ", which is not supported", row->name,
                         code);
    memcpy((char *)d->attr + row->offset, &type, sizeof type);
    return ST_OK;
}

static status set_attribute(importer *im, const draft *d, const attr_desc *row, const Onnx__AttributeProto *a)
{
    int type;
    TRY(attribute_type(d->s, d->from, a, &type));
    if (type != wanted_type[row->type])
        return node_fail(d->s, d->from, "attribute '%s' is %s, expected %s", a->name, type_name[type],
                         type_name[wanted_type[row->type]]);
    switch (row->type) {
    case ATTR_INT:
        return set_int(d, row, a->i);
    case ATTR_FLOAT:
        return set_float(d, row, (double)a->f);
    case ATTR_INTS:
        return set_ints(im, d, row, DTYPE_I64, a->ints, a->n_ints);
    case ATTR_FLOATS:
        return set_floats(im, d, row, DTYPE_F32, a->floats, a->n_floats);
    case ATTR_CHOICE:
        return set_choice(d, row, &a->s);
    case ATTR_DTYPE:
        return set_dtype(d, row, a->i);
    case ATTR_TENSOR:
        return a->t ? set_tensor(im, d, row, a->t)
                    : node_fail(d->s, d->from, "attribute '%s' is empty", a->name);
    }
    return ST_OK;
}

/* ---- a node's attributes ---- */

static const attr_desc *find_row(const op_desc *op, const char *name)
{
    for (const attr_desc *row = op->attrs; row && row->name; row++)
        if (!(row->flags & ATTR_HIDDEN) && strcmp(row->name, name) == 0)
            return row;
    return NULL;
}

static bool in_words(const char *words, const char *name)
{
    size_t n = strlen(name);
    for (const char *w = words ? words : ""; *w;) {
        size_t len = strcspn(w, " ");
        if (len == n && memcmp(w, name, n) == 0)
            return true;
        w += len;
        w += *w == ' ';
    }
    return false;
}

static status unknown_attribute(const draft *d, const char *name)
{
    text known = {0};
    for (const attr_desc *row = op_of(d->op)->attrs; row && row->name; row++)
        if (!(row->flags & ATTR_HIDDEN))
            text_printf(&known, " %s", row->name);
    status st = node_fail(d->s, d->from, "attribute '%s' is not supported; known:%s", name,
                          known.n ? known.s : " none");
    text_free(&known);
    return st;
}

status attributes_read(importer *im, draft *d, const char *takes)
{
    const op_desc *op = op_of(d->op);
    name_map seen = {0};
    status st = ST_OK;
    if (d->from->n_attribute > ATTRIBUTES_MAX)
        return node_fail(d->s, d->from, "%zu attributes, at most %d are read", d->from->n_attribute,
                         ATTRIBUTES_MAX);
    for (size_t i = 0; i < d->from->n_attribute; i++) {
        const Onnx__AttributeProto *a = d->from->attribute[i], *at;
        uint32_t *slot;
        if (!a->name || !*a->name) {
            st = node_fail(d->s, d->from, "attribute %zu has no name", i);
            goto done;
        }
        TRY_DONE(name_map_put(&seen, a->name, &slot));
        if (*slot) {
            st = node_fail(d->s, d->from, "attribute '%s' is given twice", a->name);
            goto done;
        }
        *slot = 1;
        if (in_words(takes, a->name))
            continue;
        const attr_desc *row = find_row(op, a->name);
        if (!row) {
            st = unknown_attribute(d, a->name);
            goto done;
        }
        TRY_DONE(attribute_resolve(d->s, d->from, a, &at));
        if (!at)
            continue;
        TRY_DONE(set_attribute(im, d, row, at));
        d->given |= (uint64_t)1 << (row - op->attrs);
    }
    for (const attr_desc *row = op->attrs; row && row->name; row++)
        if ((row->flags & ATTR_REQUIRED) && !row->from_input && !(d->given >> (row - op->attrs) & 1)) {
            st = node_fail(d->s, d->from, "attribute '%s' is missing", row->name);
            break;
        }
done:
    name_map_free(&seen);
    return st;
}

static status set_from_value(importer *im, const draft *d, const attr_desc *row, const value *v)
{
    int64_t n = shape_count(&v->sh);
    bool whole = !dtype_of(v->type)->is_float, list = row->type == ATTR_INTS || row->type == ATTR_FLOATS;
    if (v->sh.rank > 1 || (!list && n > 1))
        return node_fail(d->s, d->from, "its input '%s' (%s) must be %s", v->name, row->name,
                         list ? "a list" : "one number");
    if ((row->type == ATTR_INTS || row->type == ATTR_INT) && !whole)
        return node_fail(d->s, d->from, "its input '%s' (%s) must have integers", v->name, row->name);
    if (row->type == ATTR_INTS)
        return set_ints(im, d, row, v->type, v->data, (size_t)n);
    if (row->type == ATTR_FLOATS)
        return set_floats(im, d, row, v->type, v->data, (size_t)n);
    if (n == 0)
        return ST_OK;
    if (row->type == ATTR_INT)
        return set_int(d, row, load_int(v->type, v->data, 0));
    return set_float(d, row, dtype_load(v->type, v->data, 0));
}

status attributes_from_inputs(importer *im, draft *d)
{
    const op_desc *op = op_of(d->op);
    uint64_t taken = 0;
    for (const attr_desc *row = op->attrs; row && row->name; row++) {
        if (!row->from_input)
            continue;
        size_t k = (size_t)row->from_input - 1;
        bool given = d->given >> (row - op->attrs) & 1;
        if (k < d->n_in && d->in[k]) {
            const value v = im->g->value[d->in[k]];
            if (given)
                return node_fail(d->s, d->from, "%s is given both as attribute and as input", row->name);
            if (v.kind != VALUE_CONST)
                return node_fail(d->s, d->from,
                                 "its input '%s' (%s) must be a constant, but it is computed from the "
                                 "model's inputs; export "
                                 "the model with fixed shapes, or cut it before this node",
                                 v.name, row->name);
            TRY(set_from_value(im, d, row, &v));
        } else if ((row->flags & ATTR_REQUIRED) && !given) {
            return node_fail(d->s, d->from, "its input %d (%s) is missing", row->from_input - 1, row->name);
        }
        taken |= (uint64_t)1 << k;
    }
    size_t kept = 0;
    for (size_t i = 0; i < d->n_in; i++)
        if (i >= 64 || !(taken >> i & 1))
            d->in[kept++] = d->in[i];
    while (kept > 0 && d->in[kept - 1] == 0)
        kept--;
    d->n_in = kept;
    return ST_OK;
}
