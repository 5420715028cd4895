/* inline.c - bodies within bodies: model-local functions, and If nodes whose condition is a constant.
 *
 * The body's nodes are imported in place of the node; its outputs take the names of the node's outputs. scope_run bounds
 * the nesting, so a function that calls itself is refused, and limits.nodes the total. */
#include "onnx/importer.h"

#include "ops/attrs.h"

#include <string.h>

/* A value under the name of the node's output, when the body's own value could not take that name. */
static status name_value(importer *im, const char *name, value_id v, value_id *out)
{
    const value *x = &im->g->value[v];
    if (strcmp(x->name, name) == 0) {
        *out = v;
        return ST_OK;
    }
    if (x->kind == VALUE_CONST)
        return import_alias(im, name, v, VALUE_CONST, out);
    return graph_add_named(im->g, name, OP_IDENTITY, NULL, &v, 1, &name, out, 1);
}

/* Runs body `b` and binds n's outputs in `s` to the body's outputs. */
static status run_body(importer *im, scope *s, const Onnx__NodeProto *n, scope *b, char *const *outputs,
                       size_t n_outputs)
{
    symbol **wanted;
    uint32_t *order;
    size_t n_wanted = 0, n_order;
    if (n->n_output > n_outputs)
        return node_fail(s, n, "it has %zu outputs, its body %zu", n->n_output, n_outputs);
    TRY(arena_alloc(&im->mem, &wanted, n->n_output, sizeof *wanted));
    for (size_t i = 0; i < n->n_output; i++) {
        symbol *sym = scope_find(b, outputs[i]);
        if (!*n->output[i] || !sym)
            continue;
        if (sym->node && !sym->used)
            sym->value_name = scope_find(s, n->output[i])->value_name;
        sym->used = true;
        wanted[n_wanted++] = sym;
    }
    TRY(scope_order(im, b, wanted, n_wanted, &order, &n_order));
    TRY(scope_run(im, b, order, n_order));
    for (size_t i = 0; i < n->n_output; i++) {
        value_id v, named;
        if (!*n->output[i])
            continue;
        TRY(scope_value(im, b, outputs[i], &v));
        if (v == 0)
            return node_fail(s, n, "its output '%s' is an input that is absent", n->output[i]);
        TRY(name_value(im, scope_find(s, n->output[i])->value_name, v, &named));
        TRY(bind_output(s, n->output[i], named));
    }
    return ST_OK;
}

/* ---- functions ---- */

static status declare_inputs(importer *im, scope *s, const Onnx__NodeProto *call,
                             const Onnx__FunctionProto *f, scope *b)
{
    if (call->n_input > f->n_input)
        return node_fail(s, call, "it has %zu inputs, the function takes %zu", call->n_input, f->n_input);
    for (size_t i = 0; i < f->n_input; i++) {
        symbol *sym;
        TRY(scope_declare(im, b, f->input[i], &sym));
        sym->made = true;
        if (i < call->n_input && *call->input[i])
            TRY(scope_value(im, s, call->input[i], &sym->v));
    }
    return ST_OK;
}

status inline_function(importer *im, scope *s, const Onnx__NodeProto *call, size_t function)
{
    const Onnx__FunctionProto *f = im->m->proto->functions[function];
    scope b = {.opset = s->opset,
               .node = f->node,
               .n_node = f->n_node,
               .call = call,
               .defaults = im->function_defaults[function],
               .n_defaults = im->n_function_defaults[function]};
    status st = ST_OK;
    for (size_t i = 0; i < f->n_opset_import; i++)
        if (!f->opset_import[i]->domain || !*f->opset_import[i]->domain)
            b.opset = f->opset_import[i]->version;
    TRY(arena_printf(&im->mem, &b.prefix, "%s%s/", s->prefix, node_label(call)));
    if (strlen(b.prefix) > im->m->lim.name)
        return node_fail(s, call, "names within nested functions get longer than limits.name");
    TRY_DONE(declare_inputs(im, s, call, f, &b));
    TRY_DONE(scope_declare_nodes(im, &b));
    TRY_DONE(run_body(im, s, call, &b, f->output, f->n_output));
done:
    scope_free(&b);
    return st;
}

/* ---- If ---- */

static status branch_outputs(importer *im, scope *s, const Onnx__NodeProto *n, const Onnx__GraphProto *g,
                             char ***names)
{
    TRY(arena_alloc(&im->mem, names, g->n_output, sizeof **names));
    for (size_t i = 0; i < g->n_output; i++) {
        (*names)[i] = g->output[i]->name;
        if (!g->output[i]->name || !*g->output[i]->name)
            return node_fail(s, n, "output %zu of its branch has no name", i);
    }
    return ST_OK;
}

status inline_if(importer *im, scope *s, const Onnx__NodeProto *n)
{
    const Onnx__AttributeProto *branch;
    scope b = {.outer = s,
               .prefix = s->prefix,
               .opset = s->opset,
               .call = s->call,
               .defaults = s->defaults,
               .n_defaults = s->n_defaults};
    value_id c = 0;
    char **outputs;
    status st = ST_OK;
    enum { A_GRAPH = 5 };
    if (n->n_input != 1)
        return node_fail(s, n, "it takes 1 input, %zu given", n->n_input);
    TRY(scope_value(im, s, n->input[0], &c));
    const value *condition = &im->g->value[c];
    if (condition->kind != VALUE_CONST || condition->type != DTYPE_BOOL || shape_count(&condition->sh) != 1)
        return node_fail(
            s, n, "its condition '%s' is not a constant: If is supported only where the branch is known%s",
            condition->name, im->o->trainable ? "" : "; cut the graph before it with --teacher-output NAME");
    bool yes = dtype_load(DTYPE_BOOL, condition->data, 0) != 0;
    TRY(attribute_find(s, n, yes ? "then_branch" : "else_branch", A_GRAPH, &branch));
    if (!branch || !branch->g)
        return node_fail(s, n, "it lacks its %s", yes ? "then_branch" : "else_branch");
    if (branch->g->n_input > 0 || branch->g->n_sparse_initializer > 0)
        return node_fail(s, n, "its branch has inputs or sparse initializers, which is not supported");
    b.node = branch->g->node;
    b.n_node = branch->g->n_node;
    TRY(branch_outputs(im, s, n, branch->g, &outputs));
    for (size_t i = 0; i < branch->g->n_initializer; i++) {
        symbol *sym;
        const char *name = branch->g->initializer[i]->name;
        TRY_DONE(scope_declare(im, &b, name ? name : "", &sym));
        sym->init = branch->g->initializer[i];
    }
    TRY_DONE(scope_declare_nodes(im, &b));
    TRY_DONE(run_body(im, s, n, &b, outputs, branch->g->n_output));
done:
    scope_free(&b);
    return st;
}
