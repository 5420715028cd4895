/* import.c - the model around the nodes: versions, functions, inputs, initializers, outputs. */
#include "onnx/importer.h"

#include "base/log.h"
#include "onnx/unpack.h"
#include "onnx/wire.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { IR_MIN = 3, IR_KNOWN = 13, OPSET_MIN = 1, OPSET_KNOWN = 28, FUNCTION_DEFAULTS_FIELD = 11 };

/* ---- versions ---- */

static status check_versions(const Onnx__ModelProto *p, const char *path, int64_t *opset)
{
    *opset = 0;
    if (!p->graph)
        return fail(ST_BAD_DATA, "the file has no graph; is it an ONNX model?");
    if (p->ir_version < IR_MIN || p->ir_version > 1000)
        return fail(ST_BAD_DATA, "IR version %" PRId64 ", from %d on is supported", p->ir_version, IR_MIN);
    if (p->ir_version > IR_KNOWN)
        log_info("%s: IR version %" PRId64 " is newer than this program (%d)", path, p->ir_version, IR_KNOWN);
    for (size_t i = 0; i < p->n_opset_import; i++) {
        const Onnx__OperatorSetIdProto *o = p->opset_import[i];
        if (o->domain && *o->domain && strcmp(o->domain, "ai.onnx") != 0)
            continue;
        if (*opset != 0)
            return fail(ST_BAD_DATA, "the opset is given twice");
        if (o->version < OPSET_MIN || o->version > 1000)
            return fail(ST_BAD_DATA,
                        "opset %" PRId64 ", supported are %d to %d; convert the model "
                        "(onnx.version_converter)",
                        o->version, OPSET_MIN, OPSET_KNOWN);
        *opset = o->version;
    }
    if (*opset == 0)
        return fail(ST_BAD_DATA, "the model names no opset of ONNX");
    if (*opset > OPSET_KNOWN)
        log_info("%s: opset %" PRId64 " is newer than this program (%d); operators are read as of that one",
                 path, *opset, OPSET_KNOWN);
    return ST_OK;
}

/* ---- functions ---- */

/* FunctionProto.attribute_proto came with IR version 9; the protobuf schema this is built with may not know the field, then
 * protobuf-c keeps its bytes. The guard has checked them. */
static status unpack_defaults(importer *im, size_t k, const Onnx__FunctionProto *f)
{
    size_t n = 0;
    for (unsigned i = 0; i < f->base.n_unknown_fields; i++)
        n += f->base.unknown_fields[i].tag == FUNCTION_DEFAULTS_FIELD;
    TRY(arena_alloc(&im->mem, &im->function_defaults[k], n, sizeof **im->function_defaults));
    for (unsigned i = 0; i < f->base.n_unknown_fields; i++) {
        const ProtobufCMessageUnknownField *u = &f->base.unknown_fields[i];
        ProtobufCMessage *a = NULL;
        size_t skip = 0;
        if (u->tag != FUNCTION_DEFAULTS_FIELD)
            continue;
        while (skip < u->len && (u->data[skip] & 0x80)) /* the length stands before the message */
            skip++;
        if (skip >= u->len)
            return fail(ST_BAD_DATA, "function '%s': its default attributes are damaged", f->name);
        skip++;
        TRY(unpack_message(im->m->path, &onnx__attribute_proto__descriptor, u->data + skip, u->len - skip,
                           u->len - skip, &a));
        im->function_defaults[k][im->n_function_defaults[k]++] = (Onnx__AttributeProto *)a;
    }
    return ST_OK;
}

static status index_functions(importer *im)
{
    const Onnx__ModelProto *p = im->m->proto;
    TRY(arena_alloc(&im->mem, &im->function_defaults, p->n_functions, sizeof *im->function_defaults));
    TRY(arena_alloc(&im->mem, &im->n_function_defaults, p->n_functions, sizeof *im->n_function_defaults));
    for (size_t k = 0; k < p->n_functions; k++) {
        const Onnx__FunctionProto *f = p->functions[k];
        const char *key;
        uint32_t *slot;
        if (!f->name || !*f->name)
            return fail(ST_BAD_DATA, "function %zu has no name", k);
        TRY(arena_printf(&im->mem, &key, "%s %s", f->domain ? f->domain : "", f->name));
        TRY(name_map_put(&im->functions, key, &slot));
        if (*slot)
            return fail(ST_BAD_DATA, "two functions are called '%s'", f->name);
        *slot = (uint32_t)k + 1;
        TRY(unpack_defaults(im, k, f));
    }
    return ST_OK;
}

static void free_functions(importer *im)
{
    for (size_t k = 0; im->n_function_defaults && k < im->m->proto->n_functions; k++)
        for (size_t i = 0; i < im->n_function_defaults[k]; i++)
            unpack_free(&im->function_defaults[k][i]->base);
}

/* ---- names of the model's graph ---- */

static status declare_all(importer *im, scope *s)
{
    const Onnx__GraphProto *p = im->m->proto->graph;
    symbol *sym;
    if (p->n_sparse_initializer > 0)
        return fail(ST_BAD_DATA, "sparse initializers are not supported; store them densely");
    for (size_t i = 0; i < p->n_input; i++) {
        if (!p->input[i]->name || !*p->input[i]->name)
            return fail(ST_BAD_DATA, "input %zu has no name", i);
        TRY(scope_declare(im, s, p->input[i]->name, &sym));
    }
    for (size_t i = 0; i < p->n_initializer; i++) {
        const char *name = p->initializer[i]->name;
        if (!name || !*name)
            return fail(ST_BAD_DATA, "initializer %zu has no name", i);
        sym = scope_find(s, name); /* before IR version 4 initializers are inputs too */
        if (sym && sym->init)
            return fail(ST_BAD_DATA, "two initializers are called '%s'", name);
        if (!sym)
            TRY(scope_declare(im, s, name, &sym));
        sym->init = p->initializer[i];
    }
    return scope_declare_nodes(im, s);
}

/* ---- inputs ---- */

static const tensor *find_bind(const import_options *o, const char *name)
{
    for (size_t i = 0; i < o->n_bind; i++)
        if (strcmp(o->bind[i].name, name) == 0)
            return o->bind[i].value;
    return NULL;
}

static bool find_dim(const import_options *o, const char *name, int64_t *dim)
{
    for (size_t i = 0; i < o->n_dims; i++)
        if (strcmp(o->dims[i].name, name) == 0) {
            *dim = o->dims[i].value;
            return true;
        }
    return false;
}

typedef Onnx__TensorShapeProto__Dimension dimension;

static const char *dim_name(const dimension *d)
{
    return d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM && d->dim_param
               ? d->dim_param
               : "";
}

/* The size when it is fixed, -1 when it is open (also written as -1, or as 0 in front, by some exporters). */
static int64_t dim_fixed(const dimension *d)
{
    return d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE ? d->dim_value : -1;
}

/* Symbolic name of the first open dimension 0: the batch goes by it elsewhere too. */
static const char *batch_name(const Onnx__GraphProto *p)
{
    for (size_t i = 0; i < p->n_input; i++) {
        const Onnx__TypeProto *t = p->input[i]->type;
        if (t && t->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE && t->tensor_type->shape &&
            t->tensor_type->shape->n_dim > 0 && *dim_name(t->tensor_type->shape->dim[0]))
            return dim_name(t->tensor_type->shape->dim[0]);
    }
    return "";
}

static status input_dim(importer *im, const char *input, const Onnx__TensorShapeProto *sh, size_t axis,
                        int64_t *out, bool *batched)
{
    const dimension *d = sh->dim[axis];
    const char *name = dim_name(d), *place;
    int64_t fixed = dim_fixed(d);
    TRY(arena_printf(&im->mem, &place, "%s[%zu]", input, axis));
    if (fixed < -1)
        return fail(ST_BAD_DATA, "input '%s': dimension %zu is %" PRId64, input, axis, fixed);
    if (find_dim(im->o, place, out) || (fixed < 0 && *name && find_dim(im->o, name, out))) {
        if (*out < 0)
            return fail(ST_CONFIG, "input '%s': dimension %zu is set to %" PRId64, input, axis, *out);
        return ST_OK;
    }
    bool open_batch =
        fixed < 0 && (axis == 0 || (*name && strcmp(name, batch_name(im->m->proto->graph)) == 0));
    if (fixed < 0 && !open_batch)
        return fail(ST_BAD_DATA, "input '%s': dimension %zu%s%s%s is open; give it as %s=N", input, axis,
                    *name ? " ('" : "", name, *name ? "')" : "", *name ? name : place);
    *out = open_batch ? im->batch : fixed;
    if (axis == 0 && im->model_batch > 0 && fixed == im->model_batch)
        *out = im->batch;
    *batched |= axis == 0 && (open_batch || (im->o->batch > 0 && *out == im->batch));
    return ST_OK;
}

static status input_type(const Onnx__ValueInfoProto *p, const Onnx__TypeProto__Tensor **t, dtype *type)
{
    if (!p->type || p->type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE || !p->type->tensor_type)
        return fail(ST_BAD_DATA, "input '%s' is not a tensor; only tensors are supported", p->name);
    *t = p->type->tensor_type;
    *type = dtype_from_onnx((*t)->elem_type);
    if (*type == DTYPE_NONE)
        return fail(ST_BAD_DATA, "input '%s' has element type %d, which is not supported", p->name,
                    (*t)->elem_type);
    if (!(*t)->shape)
        return fail(ST_BAD_DATA, "input '%s' has no shape, not even a rank; export the model with shapes",
                    p->name);
    if ((*t)->shape->n_dim > RANK_MAX)
        return fail(ST_BAD_DATA, "input '%s' has %zu dimensions, at most %d are supported", p->name,
                    (*t)->shape->n_dim, RANK_MAX);
    return ST_OK;
}

static status bind_input(importer *im, const Onnx__ValueInfoProto *p, const tensor *given, symbol *sym)
{
    const Onnx__TypeProto__Tensor *t;
    dtype type;
    TRY(input_type(p, &t, &type));
    if (given->type != type)
        return fail(ST_CONFIG, "input '%s' is %s, the value given for it %s", p->name, dtype_of(type)->name,
                    dtype_of(given->type)->name);
    sym->made = true;
    return graph_add_data(im->g, p->name, VALUE_CONST, type, given->sh, given->data, &sym->v);
}

static status make_input(importer *im, const Onnx__ValueInfoProto *p, symbol *sym)
{
    const Onnx__TypeProto__Tensor *t;
    dtype type;
    int64_t dim[RANK_MAX] = {0};
    bool batched = false;
    const tensor *given = find_bind(im->o, p->name);
    if (given)
        return bind_input(im, p, given, sym);
    TRY(input_type(p, &t, &type));
    for (size_t i = 0; i < t->shape->n_dim; i++)
        TRY(input_dim(im, p->name, t->shape, i, &dim[i], &batched));
    status st = graph_add_input(im->g, p->name, type, shape_from(dim, t->shape->n_dim), &sym->v);
    if (st != ST_OK)
        return fail_within(st, "input '%s'", p->name);
    if (batched)
        im->g->value[sym->v].flags |= VALUE_BATCHED;
    sym->made = true;
    return ST_OK;
}

/* Whether the model fixes a batch other than the wanted one: dimension 0 of its first float input of rank 2 or more. */
static void find_model_batch(importer *im, const scope *s)
{
    const Onnx__GraphProto *p = im->m->proto->graph;
    for (size_t i = 0; i < p->n_input && im->o->batch > 0; i++) {
        const Onnx__TypeProto *t = p->input[i]->type;
        const symbol *sym = scope_find(s, p->input[i]->name);
        if (sym->init || !t || t->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE ||
            !t->tensor_type->shape || t->tensor_type->shape->n_dim < 2)
            continue;
        int64_t fixed = dim_fixed(t->tensor_type->shape->dim[0]);
        if (fixed > 0 && fixed != im->batch)
            im->model_batch = fixed;
        return;
    }
}

static status make_inputs(importer *im, scope *s)
{
    const Onnx__GraphProto *p = im->m->proto->graph;
    for (size_t i = 0; i < im->o->n_bind; i++)
        if (!scope_find(s, im->o->bind[i].name))
            return fail(ST_CONFIG, "the model has no input '%s' to be given a value", im->o->bind[i].name);
    find_model_batch(im, s);
    for (size_t i = 0; i < p->n_input; i++) {
        symbol *sym = scope_find(s, p->input[i]->name);
        if (sym->init || (!sym->used && im->o->outputs))
            continue; /* an initializer with a default role as input, or not needed for what is wanted */
        TRY(make_input(im, p->input[i], sym));
    }
    return ST_OK;
}

/* ---- outputs ---- */

static status unknown_output(const scope *s, const char *name)
{
    const char *near = s->n_sym ? nearest_name(name, &s->sym[0].name, s->n_sym, sizeof *s->sym) : NULL;
    return fail(ST_CONFIG, "the model has no value '%s'%s%s%s", name, near ? "; did you mean '" : "",
                near ? near : "", near ? "'?" : "");
}

static status find_outputs(importer *im, scope *s, symbol ***wanted, size_t *n)
{
    const Onnx__GraphProto *p = im->m->proto->graph;
    *n = im->o->outputs ? im->o->n_outputs : p->n_output;
    if (*n == 0)
        return fail(ST_BAD_DATA, "the model has no outputs");
    TRY(arena_alloc(&im->mem, wanted, *n, sizeof **wanted));
    for (size_t i = 0; i < *n; i++) {
        const char *name = im->o->outputs ? im->o->outputs[i] : p->output[i]->name;
        if (!name || !*name)
            return fail(ST_BAD_DATA, "output %zu has no name", i);
        symbol *sym = scope_find(s, name);
        if (!sym && im->o->outputs)
            return unknown_output(s, name);
        if (!sym)
            return fail(ST_BAD_DATA, "output '%s' is made by no node", name);
        for (size_t j = 0; j < i; j++)
            if ((*wanted)[j] == sym)
                return fail(im->o->outputs ? ST_CONFIG : ST_BAD_DATA, "output '%s' is listed twice", name);
        (*wanted)[i] = sym;
    }
    return ST_OK;
}

static status make_outputs(importer *im, const scope *s, symbol *const *wanted, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        value_id v;
        TRY(scope_value(im, s, wanted[i]->name, &v));
        const value *x = &im->g->value[v];
        if (im->model_batch > 0 && (x->sh.rank == 0 || x->sh.dim[0] != im->batch))
            return fail(ST_BAD_DATA,
                        "the model was exported with the fixed batch %" PRId64
                        " and cannot be run with %" PRId64
                        ": output '%s' does not follow; export it with a dynamic batch",
                        im->model_batch, im->batch, wanted[i]->name);
        TRY(graph_add_output(im->g, v));
    }
    return ST_OK;
}

/* ---- all of it ---- */

static status import_model(importer *im, scope *s)
{
    const Onnx__ModelProto *p = im->m->proto;
    symbol **wanted;
    uint32_t *order;
    size_t n_wanted, n_order;
    TRY(check_versions(p, im->m->path, &s->opset));
    TRY(index_functions(im));
    s->node = p->graph->node;
    s->n_node = p->graph->n_node;
    TRY(declare_all(im, s));
    TRY(find_outputs(im, s, &wanted, &n_wanted));
    TRY(scope_order(im, s, wanted, n_wanted, &order, &n_order));
    TRY(make_inputs(im, s));
    status st = scope_run(im, s, order, n_order);
    if (st != ST_OK)
        return im->model_batch > 0
                   ? fail_within(st, "exported with the fixed batch %" PRId64 ", to be run with %" PRId64,
                                 im->model_batch, im->batch)
                   : st;
    TRY(make_outputs(im, s, wanted, n_wanted));
    TRY(pass_join_layer_norm(im->g));
    return pass_dead_nodes(im->g);
}

status onnx_import(const onnx_model *m, const import_options *o, graph **out)
{
    static const import_options defaults = {0};
    importer im = {.m = m, .o = o ? o : &defaults, .src = {m->path, m->dir, &m->lim, 0}};
    scope s = {.prefix = ""};
    status st = ST_OK;
    *out = NULL;
    if (im.o->batch < 0)
        return fail(ST_CONFIG, "%s: batch size %" PRId64, m->path, im.o->batch);
    im.batch = im.o->batch > 0 ? im.o->batch : 1;
    TRY_DONE(graph_new(&im.g));
    st = import_model(&im, &s);
    if (st != ST_OK && strncmp(status_message(), m->path, strlen(m->path)) != 0)
        st = fail_within(st, "%s", m->path);
done:
    free_functions(&im);
    name_map_free(&im.functions);
    scope_free(&s);
    mem_free(im.from_init);
    arena_free(&im.mem);
    if (st == ST_OK)
        *out = im.g;
    else
        graph_free(im.g);
    return st;
}
