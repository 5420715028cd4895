/* fold.c - nodes whose inputs are constants are computed once, at import, with the reference kernels. */
#include "exec/exec.h"
#include "exec/internal.h"

#include <string.h>

static bool foldable(const graph *g, const node *n, size_t limit)
{
    const op_desc *d = op_of(n->op);
    size_t bytes = 0;
    if (d->flags & OP_MUTATES)
        return false;
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] && g->value[n->in[i]].kind != VALUE_CONST)
            return false;
    for (int i = 0; i < n->n_out; i++)
        bytes += (size_t)shape_count(&g->value[n->out[i]].sh) * dtype_of(g->value[n->out[i]].type)->size;
    return bytes <= limit;
}

/* Views run no kernel: the bytes are the same. */
static void fold_view(graph *g, const node *n)
{
    g->value[n->out[0]].data = g->value[n->in[0]].data;
    g->value[n->out[0]].kind = VALUE_CONST;
    g->value[n->out[0]].from = 0;
}

static status fold_with(graph *g, backend *b, node_id k)
{
    const node *n = &g->node[k];
    kernel_tensor *in = NULL, *out = NULL;
    void *work = NULL;
    size_t work_size = 0;
    kernel_args a;
    status st = ST_OK;
    if (op_of(n->op)->flags & OP_VIEW) {
        fold_view(g, n);
        return ST_OK;
    }
    TRY_DONE(mem_alloc(&in, n->n_in, sizeof *in));
    TRY_DONE(mem_alloc(&out, n->n_out, sizeof *out));
    plan_operands(g, n, in, out, &a);
    a.threads = 1;
    for (int i = 0; i < n->n_in; i++)
        a.in[i].data = (void *)(uintptr_t)g->value[n->in[i]].data;
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i])
            TRY_DONE(graph_alloc_data(g, (size_t)shape_count(&a.out[i].sh) * dtype_of(a.out[i].type)->size, &a.out[i].data));
    const kernel_row *row = b->find(b, n->op, &a);
    if (!row) {
        st = fail(ST_BAD_DATA, "node '%s': constant %s on %s cannot be computed", n->name, op_of(n->op)->name,
                  dtype_of(n->n_in ? in[0].type : out[0].type)->name);
        goto done;
    }
    work_size = row->workspace ? row->workspace(&a) : 0;
    TRY_DONE(mem_map(&work, work_size));
    a.work = work;
    a.work_size = work_size;
    row->run(&a);
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i]) {
            value *v = &g->value[n->out[i]];
            v->data = a.out[i].data;
            v->kind = VALUE_CONST;
            v->from = 0;
        }
done:
    mem_unmap(work, work_size);
    mem_free(out);
    mem_free(in);
    return st;
}

/* A folded node makes nothing any more. */
static void forget_outputs(graph *g, node_id k)
{
    for (int i = 0; i < g->node[k].n_out; i++)
        g->node[k].out[i] = 0;
}

status exec_fold_node(graph *g, node_id n)
{
    backend *b;
    if (!foldable(g, &g->node[n], SIZE_MAX))
        return fail(ST_INTERNAL, "node '%s' cannot be folded: an input is no constant", g->node[n].name);
    TRY(backend_open("cpu", &(backend_options){.threads = 1, .max_isa = ISA_REF}, &b));
    status st = fold_with(g, b, n);
    backend_close(b);
    if (st == ST_OK)
        forget_outputs(g, n);
    return st;
}

status pass_fold_constants(graph *g, size_t limit)
{
    backend *b;
    status st = ST_OK;
    TRY(backend_open("cpu", &(backend_options){.threads = 1, .max_isa = ISA_REF}, &b));
    for (size_t k = 1; k < g->n_node && st == ST_OK; k++) {
        if (!foldable(g, &g->node[k], limit))
            continue;
        st = fold_with(g, b, (node_id)k);
        if (st == ST_OK)
            forget_outputs(g, (node_id)k);
    }
    backend_close(b);
    return st == ST_OK ? pass_dead_nodes(g) : st;
}
