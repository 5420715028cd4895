/* plan.c - where every value of a graph lives and when, and which kernel runs every node.
 *
 * In: a validated graph in execution order. Out: an offset per storage, so that storages alive at the same time never
 * overlap. Values share a storage when one is a view of the other or is written over it (in place). Greedy by size:
 * the largest storage first, into the lowest gap among its contemporaries (Pisarchyk, Lee, "Efficient memory
 * management for deep neural net inference", 2020, section 5.3).
 * Invariant: after plan_make nothing is allocated until the graph is closed. */
#include "exec/exec.h"
#include "exec/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT ((size_t)64)

static size_t align_up(size_t n)
{
    return (n + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
}

typedef struct life { /* of one storage */
    value_id root;
    size_t bytes;
    size_t from, to; /* first and last node that touches it */
} life;

size_t plan_value_bytes(const value *v)
{
    kernel_tensor t = {.sh = v->sh, .block = v->block};
    return (size_t)kernel_elements(&t) * dtype_of(value_lies_in(v))->size;
}

static bool in_arena(const value *v)
{
    return v->kind == VALUE_TEMP || v->kind == VALUE_INPUT;
}

/* Kernel operands without data: enough to choose a kernel and to ask for its workspace. */
void plan_operands(const graph *g, const node *n, kernel_tensor *in, kernel_tensor *out, kernel_args *a)
{
    for (int i = 0; i < n->n_in; i++)
        in[i] = (kernel_tensor){.type = value_lies_in(&g->value[n->in[i]]), .sh = g->value[n->in[i]].sh, .block = g->value[n->in[i]].block};
    for (int i = 0; i < n->n_out; i++)
        out[i] = (kernel_tensor){.type = value_lies_in(&g->value[n->out[i]]), .sh = g->value[n->out[i]].sh, .block = g->value[n->out[i]].block};
    *a = (kernel_args){.in = in, .out = out, .n_in = n->n_in, .n_out = n->n_out, .attr = n->attr};
}

void plan_constant_operands(const graph *g, const node *n, kernel_tensor *in, kernel_tensor *out, kernel_args *a)
{
    plan_operands(g, n, in, out, a);
    for (int i = 0; i < n->n_in; i++)
        if (g->value[n->in[i]].kind == VALUE_CONST)
            in[i].data = (void *)(uintptr_t)g->value[n->in[i]].data;
}

const kernel_row *plan_row(const graph *g, const backend *b, const node *n)
{
    kernel_tensor in[PLAN_ROW_OPERANDS], out[PLAN_ROW_OPERANDS];
    kernel_args a;
    if (n->n_in > PLAN_ROW_OPERANDS || n->n_out > PLAN_ROW_OPERANDS)
        return NULL;
    plan_operands(g, n, in, out, &a);
    a.threads = b->threads;
    return b->find(b, n->op, &a);
}

bool plan_same_method(const graph *g, const backend *b, const node *n, const node *other)
{
    const kernel_row *one = plan_row(g, b, n), *two = plan_row(g, b, other);
    return one && two && (one->method && two->method ? strcmp(one->method, two->method) == 0 : one->method == two->method);
}

static status choose_kernels(const graph *g, const backend *b, plan *p)
{
    kernel_tensor *in = NULL, *out = NULL;
    size_t widest = 1;
    status st = ST_OK;
    for (size_t k = 1; k < g->n_node; k++) {
        widest = g->node[k].n_in > widest ? g->node[k].n_in : widest;
        widest = g->node[k].n_out > widest ? g->node[k].n_out : widest;
    }
    TRY_DONE(mem_alloc(&in, widest, sizeof *in));
    TRY_DONE(mem_alloc(&out, widest, sizeof *out));
    for (size_t k = 1; k < g->n_node; k++) {
        const node *n = &g->node[k];
        const op_desc *d = op_of(n->op);
        kernel_args a;
        if (d->flags & OP_VIEW)
            continue;
        plan_operands(g, n, in, out, &a);
        a.threads = b->threads;
        a.queue = b->queue;
        p->kernel[k] = b->find(b, n->op, &a);
        if (!p->kernel[k]) {
            dtype t = n->n_in && n->in[0] ? in[0].type : n->n_out ? out[0].type : DTYPE_NONE;
            st = fail(ST_BAD_DATA, "node '%s': the %s backend has no kernel for %s on %s", n->name, b->name, d->name,
                      dtype_of(t)->name);
            goto done;
        }
        if (p->kernel[k]->prepared) {
            plan_constant_operands(g, n, in, out, &a);
            a.threads = b->threads;
            a.queue = b->queue;
            size_t bytes = p->kernel[k]->prepared(&a);
            p->prepared[k] = bytes ? p->prepared_bytes : SIZE_MAX;
            p->prepared_bytes += align_up(bytes);
            plan_operands(g, n, in, out, &a);
            a.threads = b->threads;
            a.queue = b->queue;
            a.prepared = bytes ? p : NULL;
        }
        size_t work = p->kernel[k]->workspace ? p->kernel[k]->workspace(&a) : 0;
        p->workspace = work > p->workspace ? work : p->workspace;
    }
done:
    mem_free(in);
    mem_free(out);
    return st;
}

/* last[root]: the last node that reads or writes the storage; n_node for graph outputs and inputs. */
static void find_last_uses(const graph *g, const value_id *root, size_t *last)
{
    for (size_t k = 1; k < g->n_node; k++) {
        for (int i = 0; i < g->node[k].n_in; i++)
            last[root[g->node[k].in[i]]] = k;
        for (int i = 0; i < g->node[k].n_out; i++)
            last[root[g->node[k].out[i]]] = k;
    }
    for (size_t i = 0; i < g->n_output; i++)
        last[root[g->output[i]]] = g->n_node;
    for (size_t i = 0; i < g->n_input; i++) /* stays readable, so that a caller may look at its batch */
        last[root[g->input[i]]] = g->n_node;
}

/* Which values share storage: views first, then in-place results, in execution order. */
status plan_share_storage(const graph *g, value_id *root)
{
    size_t *last;
    TRY(mem_alloc(&last, g->n_value, sizeof *last));
    for (size_t v = 0; v < g->n_value; v++)
        root[v] = (value_id)v;
    for (size_t k = 1; k < g->n_node; k++)
        if (op_of(g->node[k].op)->flags & OP_VIEW)
            root[g->node[k].out[0]] = root[g->node[k].in[0]];
    find_last_uses(g, root, last);
    for (size_t k = 1; k < g->n_node; k++) {
        const node *n = &g->node[k];
        if (op_of(n->op)->flags & OP_VIEW) { /* the storage it views may have moved into another one */
            root[n->out[0]] = root[n->in[0]];
            continue;
        }
        if (!(op_of(n->op)->flags & OP_INPLACE) || n->n_out < 1 || !n->out[0])
            continue;
        const value *y = &g->value[n->out[0]];
        for (int i = 0; i < n->n_in; i++) {
            value_id r = root[n->in[i]];
            const value *x = &g->value[n->in[i]];
            int reads = 0;
            for (int j = 0; j < n->n_in; j++)
                reads += root[n->in[j]] == r;
            if (!n->in[i] || g->value[r].kind != VALUE_TEMP || last[r] != k || x->type != y->type ||
                !shape_equal(&x->sh, &y->sh) || x->block != y->block || x->narrow != y->narrow || plan_value_bytes(&g->value[r]) != plan_value_bytes(y) || reads != 1)
                continue;
            size_t until = last[root[n->out[0]]];
            root[n->out[0]] = r;
            last[r] = until;
            break;
        }
    }
    mem_free(last);
    return ST_OK;
}

static int larger_first(const void *a, const void *b)
{
    const life *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->root < y->root ? -1 : 1;
}

/* Lowest offset at which `l` fits between the already placed storages that live at the same time.
 * `near` (scratch): those storages in order of offset. */
static size_t place(const life *l, const life *placed, size_t n, const size_t *offset, const life **near)
{
    size_t count = 0, at = 0;
    for (size_t i = 0; i < n; i++) {
        if (placed[i].from > l->to || placed[i].to < l->from)
            continue;
        size_t j = count++;
        for (; j > 0 && offset[near[j - 1]->root] > offset[placed[i].root]; j--)
            near[j] = near[j - 1];
        near[j] = &placed[i];
    }
    for (size_t i = 0; i < count; i++) {
        size_t begin = offset[near[i]->root], end = begin + align_up(near[i]->bytes);
        if (begin >= at + align_up(l->bytes))
            break;
        at = end > at ? end : at;
    }
    return at;
}

static status place_all(const graph *g, plan *p)
{
    life *lives = NULL;
    const life **near = NULL;
    size_t *first = NULL, *last = NULL, n = 0;
    status st = ST_OK;
    TRY_DONE(mem_alloc(&lives, g->n_value, sizeof *lives));
    TRY_DONE(mem_alloc(&near, g->n_value, sizeof *near));
    TRY_DONE(mem_alloc(&first, g->n_value, sizeof *first));
    TRY_DONE(mem_alloc(&last, g->n_value, sizeof *last));
    find_last_uses(g, p->root, last);
    for (size_t k = g->n_node; k-- > 1;)
        for (int i = 0; i < g->node[k].n_out; i++)
            first[p->root[g->node[k].out[i]]] = k;
    for (size_t v = 1; v < g->n_value; v++) {
        const value *x = &g->value[v];
        if (!in_arena(x) || p->root[v] != v || (x->kind == VALUE_TEMP && !first[v] && !last[v]))
            continue;
        lives[n++] = (life){.root = (value_id)v, .bytes = plan_value_bytes(x),
                            .from = x->kind == VALUE_INPUT ? 0 : first[v], .to = last[v]};
    }
    qsort(lives, n, sizeof *lives, larger_first);
    for (size_t i = 0; i < n; i++) {
        size_t at = place(&lives[i], lives, i, p->offset, near);
        p->offset[lives[i].root] = at;
        if (at + align_up(lives[i].bytes) > p->activations)
            p->activations = at + align_up(lives[i].bytes);
    }
    for (size_t v = 1; v < g->n_value; v++)
        p->offset[v] = p->offset[p->root[v]];
done:
    mem_free(last);
    mem_free(first);
    mem_free(near);
    mem_free(lives);
    return st;
}

bool plan_is_packed(const plan *p, node_id k, int input)
{
    return p->prepared[k] != SIZE_MAX && input < 32 && p->kernel[k]->packed_in >> input & 1;
}

void plan_mark_constants(const plan *p, const graph *g, bool *keep)
{
    memset(keep, 0, g->n_value * sizeof *keep);
    for (size_t k = 1; k < g->n_node; k++)
        for (int i = 0; i < g->node[k].n_in; i++)
            if (!plan_is_packed(p, (node_id)k, i))
                keep[p->root[g->node[k].in[i]]] = true;
    for (size_t i = 0; i < g->n_output; i++)
        keep[p->root[g->output[i]]] = true;
    for (size_t v = 0; v < g->n_value; v++)
        keep[v] = g->value[v].kind == VALUE_CONST && keep[p->root[v]];
}

static status measure_constants(const graph *g, plan *p)
{
    bool *keep;
    TRY(mem_alloc(&keep, g->n_value, sizeof *keep));
    plan_mark_constants(p, g, keep);
    for (size_t v = 1; v < g->n_value; v++)
        p->constants += keep[v] && p->root[v] == v ? align_up(plan_value_bytes(&g->value[v])) : 0;
    mem_free(keep);
    return ST_OK;
}

status plan_make(const graph *g, const backend *b, plan **out)
{
    plan *p = NULL;
    status st = ST_OK;
    TRY_DONE(mem_alloc(&p, 1, sizeof *p));
    TRY_DONE(mem_alloc(&p->offset, g->n_value, sizeof *p->offset));
    TRY_DONE(mem_alloc(&p->root, g->n_value, sizeof *p->root));
    TRY_DONE(mem_alloc(&p->kernel, g->n_node, sizeof *p->kernel));
    TRY_DONE(mem_alloc(&p->prepared, g->n_node, sizeof *p->prepared));
    for (size_t k = 0; k < g->n_node; k++)
        p->prepared[k] = SIZE_MAX;
    for (size_t v = 0; v < g->n_value; v++) {
        p->offset[v] = SIZE_MAX;
        if (g->value[v].kind == VALUE_PARAM || g->value[v].kind == VALUE_STATE)
            p->persistent += align_up(plan_value_bytes(&g->value[v]));
        p->copies += value_is_copy(&g->value[v]) ? align_up(plan_value_bytes(&g->value[v])) : 0;
    }
    TRY_DONE(choose_kernels(g, b, p));
    TRY_DONE(plan_share_storage(g, p->root));
    TRY_DONE(place_all(g, p));
    TRY_DONE(measure_constants(g, p));
    *out = p;
    return ST_OK;
done:
    plan_free(p);
    return st;
}

void plan_free(plan *p)
{
    if (!p)
        return;
    mem_free(p->offset);
    mem_free(p->root);
    mem_free(p->kernel);
    mem_free(p->prepared);
    mem_free(p);
}

double plan_node_bytes(const graph *g, const node *n)
{
    double bytes = 0;
    for (int i = 0; i < n->n_in; i++)
        bytes += n->in[i] ? (double)plan_value_bytes(&g->value[n->in[i]]) : 0;
    for (int i = 0; i < n->n_out; i++)
        bytes += n->out[i] ? (double)plan_value_bytes(&g->value[n->out[i]]) : 0;
    return bytes;
}

static double node_cost(const plan *p, const graph *g, size_t k)
{
    enum { FEW = 16 };
    kernel_tensor in[FEW], out[FEW];
    kernel_args a;
    const node *n = &g->node[k];
    if (!p->kernel[k] || !p->kernel[k]->cost || n->n_in > FEW || n->n_out > FEW)
        return 0;
    plan_operands(g, n, in, out, &a);
    a.threads = 1;
    return p->kernel[k]->cost(&a);
}

static void print_node(const plan *p, const graph *g, size_t k, const double *seconds, text *out)
{
    const node *n = &g->node[k];
    char buf[200], bytes[24], macs[24], cost[24];
    const value *y = n->n_out && n->out[0] ? &g->value[n->out[0]] : NULL;
    double work = op_of(n->op)->macs ? op_of(n->op)->macs(g, n) : 0, cycles = node_cost(p, g, k);
    text_printf(out, "%5zu %-18s %-28s %-22s", k, op_of(n->op)->name, p->kernel[k] ? p->kernel[k]->name : "(view)",
                y ? shape_print(&y->sh, buf) : "");
    text_printf(out, " %9s %9s %9s", p->kernel[k] ? human_bytes(plan_node_bytes(g, n), bytes) : "",
                work > 0 ? human_count(work, macs) : "", cycles > 0 ? human_count(cycles, cost) : "");
    if (seconds && p->kernel[k])
        text_printf(out, " %9.3f", seconds[k] * 1e3);
    if (seconds && p->kernel[k] && work > 0 && seconds[k] > 0)
        text_printf(out, " %7.1f", 2e-9 * work / seconds[k]);
    else if (seconds)
        text_printf(out, " %7s", "");
    text_printf(out, "  %s\n", n->name);
}

void plan_print(const plan *p, const graph *g, const double *seconds, text *out)
{
    char n1[24], n2[24], n3[24], n4[24], n5[24];
    text_printf(out, "%5s %-18s %-28s %-22s %9s %9s %9s", "node", "operator", "kernel", "result", "bytes", "MACs", "cycles");
    text_add(out, seconds ? "        ms    GF/s  name\n" : "  name\n");
    for (size_t k = 1; k < g->n_node; k++)
        print_node(p, g, k, seconds, out);
    text_printf(out, "activations %s, workspace %s, parameters and states %s, constants %s, prepared %s\n",
                human_bytes((double)p->activations, n1), human_bytes((double)p->workspace, n2),
                human_bytes((double)p->persistent, n3), human_bytes((double)p->constants, n4),
                human_bytes((double)p->prepared_bytes, n5));
    if (p->again.nodes)
        text_printf(out, "recomputed: %zu nodes run twice, which saves %s for %s more multiply-accumulates\n", p->again.nodes,
                    human_bytes((double)p->again.saved, n1), human_count(p->again.macs, n2));
}
