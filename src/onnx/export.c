/* export.c - a graph as ModelProto bytes.
 *
 * Flow: put_node writes a node and the constants it needs: its weights, and attributes that are inputs at this opset
 * (export_attrs.c), as initializers. Then inputs, outputs and the model around the graph. Everything is in the order of
 * the nodes, so the bytes depend on the graph alone. */
#include "onnx/exporter.h"

#include "base/io.h"
#include "onnx/import.h"
#include "onnx/tensor_pb.h"
#include "onnx/wire.h"

#include <inttypes.h>
#include <string.h>

#define MICROSOFT "com.microsoft" /* the domain of ONNX Runtime's own operators */

/* ---- differences between opsets ---- */

/* Operators that came later than the oldest opset written. */
typedef struct since_row {
    op_id op;
    int since;
} since_row;
static const since_row op_since[] = {{OP_GELU, 20}, {OP_LAYER_NORM, 17}, {OP_HARD_SWISH, 14}};

static const int ir_version[] = {7, 7, 8, 8, 8,
                                 8, 9, 9, 10}; /* by opset, from 13 on (ONNX's Versioning.md) */

/* ---- names and constants ---- */

status export_fresh_name(exporter *x, const char *node_name, const char *suffix, const char **out)
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

status export_initializer(exporter *x, const char *name, dtype type, const shape *sh, const void *data)
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
    status st = export_initializer(x, c->name, c->type, &c->sh, data);
    mem_free(zeros);
    return st;
}

/* ---- nodes ---- */

static status check_op(const exporter *x, const node *n)
{
    const op_desc *d = op_of(n->op);
    if (d->flags & OP_INTERNAL)
        return fail(ST_BAD_DATA, "node '%s': %s is internal and has no form in ONNX", n->name, d->name);
    for (size_t i = 0; i < sizeof op_since / sizeof *op_since; i++)
        if (op_since[i].op == n->op && x->opset < op_since[i].since)
            return fail(ST_BAD_DATA,
                        "node '%s': %s does not exist before opset %d; export with opset = %d or newer",
                        n->name, d->name, op_since[i].since, op_since[i].since);
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
    TRY_DONE(export_attributes(x, n, &attrs, attr_input, &n_attr));
    TRY_DONE(put_inputs(x, n, &t, attr_input, n_attr));
    int last = n->n_out;
    while (last > 0 && !n->out[last - 1])
        last--;
    for (int i = 0; i < last; i++)
        wire_put_string(&t, 2, n->out[i] ? x->g->value[n->out[i]].name : "");
    wire_put_string(&t, 3, n->name);
    wire_put_string(&t, 4, op_of(n->op)->name);
    text_add_n(&t, attrs.n ? attrs.s : "", attrs.n);
    if (op_of(n->op)->flags & OP_MICROSOFT) {
        wire_put_string(&t, 7, MICROSOFT);
        x->microsoft = true;
    }
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
        if (x->expand_to_batch && n->op == OP_EXPAND && x->g->value[n->out[0]].sh.rank > 0)
            any |= x->g->value[n->out[0]].sh.dim[0] == x->batch;
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
    if (x->microsoft) {
        text other = {0};
        wire_put_string(&other, 1, MICROSOFT);
        wire_put_int(&other, 2, 1);
        wire_put_message(out, 8, &other);
    }
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
            st = fail(ST_BAD_DATA, "output '%s' is %s with a batch of %" PRId64, was->name,
                      shape_print(&now->sh, a), o.batch);
    }
    graph_free(g);
    onnx_close(m);
    return st == ST_OK || st == ST_OOM
               ? st
               : fail_within(st, "the graph has its batch size built in; export it with a fixed batch");
}

/* One way of writing it; appends to `out` and, when the batch is dynamic, checks that it is. */
static status export_once(const graph *g, const export_options *o, bool expand_to_batch, text *out)
{
    exporter x = {.g = g, .o = o, .expand_to_batch = expand_to_batch};
    text graph_text = {0};
    size_t start = out->n;
    status st = ST_OK;
    x.opset = o->opset ? o->opset : EXPORT_OPSET_DEFAULT;
    TRY_DONE(mem_alloc(&x.batched, g->n_value, 1));
    TRY_DONE(mem_alloc(&x.written, g->n_value, 1));
    if (!o->fixed_batch)
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
    if (st != ST_OK)
        out->n = start;
    return st;
}

status onnx_export(const graph *g, const export_options *o, text *out)
{
    static const export_options defaults = {0};
    if (!o)
        o = &defaults;
    if (o->opset && (o->opset < EXPORT_OPSET_MIN || o->opset > EXPORT_OPSET_MAX))
        return fail(ST_CONFIG, "opset %" PRId64 " cannot be written; choose %d to %d", o->opset,
                    EXPORT_OPSET_MIN, EXPORT_OPSET_MAX);
    bool expands = false;
    for (size_t k = 1; k < g->n_node; k++)
        expands |= g->node[k].op == OP_EXPAND;
    status st = export_once(g, o, false, out);
    if (st == ST_BAD_DATA && expands && !o->fixed_batch && out->st == ST_OK) {
        status first = st; /* an Expand may mean the batch: its size alone does not tell */
        st = export_once(g, o, true, out);
        st = st == ST_OK ? ST_OK : first;
    }
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
