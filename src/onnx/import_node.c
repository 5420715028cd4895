/* import_node.c - one ONNX node into the graph: inputs, attributes, rewriting, adding, folding. */
#include "onnx/importer.h"

#include "exec/exec.h"
#include "ops/attrs.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What folding may cost, all in all: elements read and written plus multiply-adds; and what a node may always cost. Dearer
 * constants are computed when the graph runs, so that no file can keep the import busy for minutes. */
#define FOLD_WORK      5e8
#define FOLD_WORK_FREE 1024

const char *node_label(const Onnx__NodeProto *n)
{
    if (n->name && *n->name)
        return n->name;
    for (size_t i = 0; i < n->n_output; i++)
        if (*n->output[i])
            return n->output[i];
    return "?";
}

status node_fail(const scope *s, const Onnx__NodeProto *n, const char *fmt, ...)
{
    char message[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    return fail(ST_BAD_DATA, "node '%s%s' (%s): %s", s->prefix, node_label(n), n->op_type ? n->op_type : "?",
                message);
}

/* ---- where constants come from ---- */

status mark_from_init(importer *im, value_id v)
{
    if (v >= im->cap_from_init) {
        size_t cap = im->cap_from_init;
        TRY(mem_grow(&im->from_init, (size_t)v * 2 + 64, 1));
        im->cap_from_init = (size_t)v * 2 + 64;
        memset(im->from_init + cap, 0, im->cap_from_init - cap);
    }
    im->from_init[v] = 1;
    return ST_OK;
}

bool is_from_init(const importer *im, value_id v)
{
    return v < im->cap_from_init && im->from_init[v];
}

status import_alias(importer *im, const char *name, value_id from, value_kind kind, value_id *out)
{
    value v = im->g->value[from];
    TRY(graph_add_value(im->g, name, v.type, v.sh, kind, out));
    im->g->value[*out].data = v.data;
    return is_from_init(im, from) ? mark_from_init(im, *out) : ST_OK;
}

/* ---- folding ---- */

static bool all_constant(const graph *g, const value_id *in, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (in[i] && g->value[in[i]].kind != VALUE_CONST)
            return false;
    return true;
}

static double fold_work(const graph *g, const node *n)
{
    const op_desc *op = op_of(n->op);
    double work = op->macs ? op->macs(g, n) : 0;
    if (op->flags & OP_VIEW)
        return 0;
    for (int i = 0; i < n->n_in; i++)
        work += n->in[i] ? (double)shape_count(&g->value[n->in[i]].sh) : 0;
    for (int i = 0; i < n->n_out; i++)
        work += n->out[i] ? (double)shape_count(&g->value[n->out[i]].sh) : 0;
    return work;
}

/* Whether the node just added, whose inputs are constants, is computed now. The sizes are bounded: one constant by
 * limits.fold_bytes, all of them by twice that and sixteen times the model. A view takes no memory. */
static status may_fold(importer *im, const node *n, bool *yes)
{
    const graph *g = im->g;
    const op_desc *op = op_of(n->op);
    uint64_t bytes = 0, limit = im->m->lim.fold_bytes, total = 2 * limit + 16 * im->m->bytes;
    for (int i = 0; i < n->n_out && !(op->flags & OP_VIEW); i++)
        if (n->out[i])
            bytes += (uint64_t)shape_count(&g->value[n->out[i]].sh) *
                     dtype_of(g->value[n->out[i]].type)->size;
    if (bytes > limit)
        return fail(ST_BAD_DATA,
                    "node '%s' (%s): makes a constant of %llu bytes, the limit is %llu (limits.fold_bytes)",
                    n->name, op->name, (unsigned long long)bytes, (unsigned long long)limit);
    double work = fold_work(g, n);
    *yes = work <= FOLD_WORK_FREE || (op->flags & OP_FOLD_ONLY) ||
           im->fold_work + work <= FOLD_WORK + 8 * (double)im->m->bytes;
    if (!*yes)
        return ST_OK;
    im->fold_work += work;
    im->folded += bytes;
    if (im->folded > total)
        return fail(ST_BAD_DATA,
                    "node '%s' (%s): the model's computed constants take more than %llu bytes "
                    "(twice limits.fold_bytes and 16 times the file)",
                    n->name, op->name, (unsigned long long)total);
    return ST_OK;
}

/* The node just added, when its inputs are constants, is computed. */
static status fold_last(importer *im, const value_id *in, size_t n_in)
{
    graph *g = im->g;
    node_id k = (node_id)(g->n_node - 1);
    const node *n = &g->node[k];
    const op_desc *op = op_of(n->op);
    bool from_init = false, yes = false;
    if (!all_constant(g, in, n_in)) {
        if (op->flags & OP_FOLD_ONLY)
            return fail(ST_BAD_DATA,
                        "node '%s' (%s): its inputs must be constants, but depend on the model's inputs; "
                        "export the model with fixed shapes, or cut it before this node",
                        n->name, op->name);
        return ST_OK;
    }
    if ((op->flags & OP_UNFOLDED) && !im->o->trainable)
        return ST_OK;
    TRY(may_fold(im, n, &yes));
    if (!yes)
        return ST_OK;
    for (size_t i = 0; i < n_in; i++)
        from_init |= in[i] && is_from_init(im, in[i]);
    value_id *out;
    size_t n_out = n->n_out;
    TRY(arena_alloc(&im->mem, &out, n_out, sizeof *out));
    memcpy(out, n->out, n_out * sizeof *out);
    TRY(exec_fold_node(g, k));
    g->n_node--; /* it makes nothing any more */
    for (size_t i = 0; i < n_out && from_init; i++)
        if (out[i])
            TRY(mark_from_init(im, out[i]));
    return ST_OK;
}

status import_add(importer *im, op_id op, const void *attr, const value_id *in, size_t n_in, value_id *out)
{
    TRY(graph_add(im->g, op, attr, in, n_in, out, 1));
    return fold_last(im, in, n_in);
}

status import_reshape(importer *im, value_id v, shape sh, value_id *out)
{
    static const int64_t none[1] = {0};
    if (shape_equal(&im->g->value[v].sh, &sh)) {
        *out = v;
        return ST_OK;
    }
    reshape_attrs to = {.shape = {sh.rank, sh.rank ? sh.dim : none}, .allowzero = 1};
    return import_add(im, OP_RESHAPE, &to, &v, 1, out);
}

status draft_add(importer *im, draft *d)
{
    TRY(roles_apply(im, d, all_constant(im->g, d->in, d->n_in)));
    TRY(graph_add_named(im->g, d->name, d->op, op_of(d->op)->attr_size ? d->attr : NULL, d->in, d->n_in,
                        d->out, d->made, d->n_out));
    return fold_last(im, d->in, d->n_in);
}

/* ---- a node ---- */

status bind_output(scope *s, const char *name, value_id v)
{
    symbol *sym = scope_find(s, name);
    if (!sym)
        return fail(ST_INTERNAL, "output '%s' was not declared", name);
    sym->v = v;
    sym->made = true;
    return ST_OK;
}

static status read_inputs(importer *im, draft *d)
{
    enum { ROOM = 4 };
    const Onnx__NodeProto *n = d->from;
    TRY(arena_alloc(&im->mem, &d->in, n->n_input + ROOM, sizeof *d->in));
    d->n_in = n->n_input;
    for (size_t i = 0; i < n->n_input; i++)
        if (*n->input[i]) {
            status st = scope_value(im, d->s, n->input[i], &d->in[i]);
            if (st != ST_OK)
                return fail_within(st, "node '%s%s' (%s)", d->s->prefix, node_label(n), n->op_type);
        }
    while (d->n_in > 0 && d->in[d->n_in - 1] == 0)
        d->n_in--;
    return ST_OK;
}

static status name_outputs(importer *im, draft *d)
{
    const Onnx__NodeProto *n = d->from;
    TRY(arena_alloc(&im->mem, &d->out, n->n_output + 1, sizeof *d->out));
    TRY(arena_alloc(&im->mem, &d->made, n->n_output + 1, sizeof *d->made));
    d->n_out = n->n_output;
    for (size_t i = 0; i < n->n_output; i++)
        d->out[i] = *n->output[i] ? scope_find(d->s, n->output[i])->value_name : NULL;
    while (d->n_out > 0 && !d->out[d->n_out - 1])
        d->n_out--;
    if (d->n_out == 0)
        return node_fail(d->s, n, "it has no output");
    return ST_OK;
}

static status unsupported(importer *im, const scope *s, const Onnx__NodeProto *n)
{
    return fail(ST_BAD_DATA, "node '%s%s': operator %s is not supported; %s", s->prefix, node_label(n),
                n->op_type,
                im->o->trainable ? "a student may use only the operators this program can train"
                                 : "cut the graph before it with --teacher-output NAME");
}

static bool is_default_domain(const char *domain)
{
    return !domain || !*domain || strcmp(domain, "ai.onnx") == 0;
}

status draft_begin(importer *im, scope *s, const Onnx__NodeProto *n, op_id op, draft *d)
{
    *d = (draft){.from = n, .s = s, .op = op};
    TRY(arena_printf(&im->mem, &d->name, "%s%s", s->prefix, node_label(n)));
    TRY(arena_alloc(&im->mem, &d->attr, 1, op_of(op)->attr_size));
    op_default_attrs(op, d->attr);
    TRY(read_inputs(im, d));
    return name_outputs(im, d);
}

status draft_end(draft *d)
{
    for (size_t i = 0; i < d->n_out; i++)
        if (d->out[i])
            TRY(bind_output(d->s, d->from->output[i], d->made[i]));
    return ST_OK;
}

/* The model's own functions come first; then only ONNX's own operators and some of ONNX Runtime's are known. */
static status import_foreign(importer *im, scope *s, const Onnx__NodeProto *n)
{
    bool known = false;
    const char *key;
    TRY(arena_printf(&im->mem, &key, "%s %s", n->domain, n->op_type));
    uint32_t f = name_map_get(&im->functions, key);
    if (f)
        return inline_function(im, s, n, f - 1);
    if (strcmp(n->domain, MICROSOFT) == 0)
        TRY(microsoft_node(im, s, n, &known));
    if (known)
        return ST_OK;
    return node_fail(s, n, "operators of the domain '%s' are not supported%s", n->domain,
                     im->o->trainable ? "" : "; cut the graph before it with --teacher-output NAME");
}

status import_node(importer *im, scope *s, const Onnx__NodeProto *n)
{
    draft d;
    if (!n->op_type || !*n->op_type)
        return node_fail(s, n, "it names no operator");
    if (!is_default_domain(n->domain))
        return import_foreign(im, s, n);
    special_fn special = special_find(n->op_type);
    if (special)
        return special(im, s, n);
    const rewrite *rw = rewrite_find(n->op_type, s->opset);
    op_id op = rw && rw->becomes ? rw->becomes : op_from_name(n->op_type);
    if (op == OP_NONE || (op_of(op)->flags & (OP_INTERNAL | OP_MICROSOFT)))
        return unsupported(im, s, n);
    TRY(draft_begin(im, s, n, op, &d));
    if (rw && rw->before)
        TRY(rw->before(im, &d));
    TRY(attributes_read(im, &d, rw ? rw->takes : NULL));
    TRY(attributes_from_inputs(im, &d));
    if (rw && rw->after)
        TRY(rw->after(im, &d));
    if (!d.added)
        TRY(draft_add(im, &d));
    return draft_end(&d);
}
