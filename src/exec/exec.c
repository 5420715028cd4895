/* exec.c - runs a planned graph: operands are bound to addresses once, a run is a loop over kernels. */
#include "exec/exec.h"
#include "base/clock.h"
#include "exec/inside.h"

#include <stdio.h>
#include <string.h>

static size_t plan_total(const plan *p)
{
    return p->activations + p->workspace + p->persistent + p->constants + p->prepared_bytes;
}

static status does_not_fit(const plan *p, size_t needed, size_t limit)
{
    char a[24], b[24], c[24], d[24], l[24], m[24];
    return fail(ST_OOM,
                "out of memory: the plan needs %s (activations %s, workspace %s, parameters and states %s, constants "
                "included), recomputing activations brings it to %s, the limit is %s; make the batch smaller or raise "
                "exec.memory_limit",
                human_bytes((double)needed, a), human_bytes((double)(p->activations + p->again.saved), b),
                human_bytes((double)p->workspace, c), human_bytes((double)p->persistent, d),
                human_bytes((double)plan_total(p), m), human_bytes((double)limit, l));
}

/* Recomputes activations until the plan is within the limit. Storages do not always lie without gaps between them: then the
 * pass is asked for less than the limit. */
static status fit_memory(exec *e, size_t limit)
{
    size_t needed = plan_total(e->p), before = e->p->activations, fixed = needed - before;
    size_t room = limit > fixed ? limit - fixed : 0, target = room;
    recomputation sum = {0};
    if (limit == 0)
        return ST_OK;
    for (bool reached = true; reached && plan_total(e->p) > limit;) {
        TRY(pass_recompute(e->g, target, &sum, &reached));
        plan_free(e->p);
        e->p = NULL;
        TRY(plan_make(e->g, e->b, &e->p));
        size_t over = e->p->activations > room ? e->p->activations - room : 0;
        target = target > over ? target - over : 0;
    }
#ifndef NDEBUG
    TRY(graph_validate(e->g));
#endif
    sum.saved = before > e->p->activations ? before - e->p->activations : 0;
    e->p->again = sum;
    return plan_total(e->p) <= limit ? ST_OK : does_not_fit(e->p, needed, limit);
}

/* What does not fit on a device is said before it is tried, with a batch that would. */
static status check_room(const exec *e)
{
    const plan *p = e->p;
    size_t available, all, waiting = 0;
    char a[24], b[24], c[24], d[24], f[24], k[24], m[24];
    text device = {0};
    if (!e->b->remote)
        return ST_OK;
    TRY(e->b->remote->memory(e->b, &available, &all));
    for (size_t i = 0; i < e->s->n; i++)
        waiting += e->s->at[i].device ? 0 : tensor_bytes(&e->s->at[i].t);
    size_t fixed = p->workspace + p->constants + p->prepared_bytes + p->copies + waiting, needed = fixed + p->activations;
    if (needed <= available)
        return ST_OK;
    const value *x = e->g->n_input ? &e->g->value[e->g->input[0]] : NULL;
    double batch = x && x->sh.rank > 0 ? (double)x->sh.dim[0] : 1;
    size_t room = available + e->b->taken; /* other plans of the job were made for the same batch */
    double fit = room > fixed ? batch * 0.9 * (double)(room - fixed) / (double)(p->activations + e->b->taken) : 0;
    e->b->describe(e->b, &device);
    status st = fail(ST_OOM, "out of memory on %s: the plan needs %s (activations %s, workspace %s, parameters and states %s, "
                     "constants %s), %s of %s are free; ", device.s ? device.s : e->b->name, human_bytes((double)needed, a),
                     human_bytes((double)p->activations, b), human_bytes((double)p->workspace, c), human_bytes((double)(p->copies + waiting), d),
                     human_bytes((double)(p->constants + p->prepared_bytes), f), human_bytes((double)available, k),
                     human_bytes((double)all, m));
    text_free(&device);
    if (fit >= 1)
        return fail(st, "%sbatch = %.0f would fit", status_message(), fit);
    return fail(st, "%sno batch would fit: end what else uses the device, or take another", status_message());
}

static status bind_values(exec *e, const store *s)
{
    const graph *g = e->g;
    char *kept = e->kept;
    TRY(mem_alloc(&e->data, g->n_value, sizeof *e->data));
    for (size_t v = 1; v < g->n_value; v++) {
        const value *x = &g->value[v];
        if (x->kind == VALUE_CONST) {
            e->data[v] = (void *)(uintptr_t)x->data; /* no kernel writes a constant: graph_validate */
        } else if (value_is_copy(x)) {
            e->data[v] = kept;
            kept += (plan_value_bytes(x) + 63) & ~(size_t)63; /* as in plan.copies */
        } else if (x->kind == VALUE_PARAM || x->kind == VALUE_STATE) {
            const store_entry *own = store_find(s, x->name);
            e->data[v] = own->device ? own->device : own->t.data;
            e->g->value[v].data = NULL; /* the start value, which the caller may now forget */
        } else if (e->p->offset[v] != SIZE_MAX) {
            e->data[v] = e->activations + e->p->offset[v];
        }
    }
    for (size_t v = 1; v < g->n_value; v++) /* views of constants and parameters */
        if (!e->data[v])
            e->data[v] = e->data[e->p->root[v]];
    return ST_OK;
}

static status bind_steps(exec *e)
{
    const graph *g = e->g;
    size_t n_operand = 0, used = 0;
    for (size_t k = 1; k < g->n_node; k++)
        n_operand += (size_t)g->node[k].n_in + g->node[k].n_out;
    TRY(mem_alloc(&e->steps, g->n_node, sizeof *e->steps));
    TRY(mem_alloc(&e->operands, n_operand, sizeof *e->operands));
    TRY(mem_alloc(&e->seconds, g->n_node, sizeof *e->seconds));
    for (size_t k = 1; k < g->n_node; k++) {
        const node *n = &g->node[k];
        if (!e->p->kernel[k])
            continue;
        step *s = &e->steps[e->n_step++];
        plan_operands(g, n, e->operands + used, e->operands + used + n->n_in, &s->args);
        used += (size_t)n->n_in + n->n_out;
        s->args.work = e->workspace;
        s->args.work_size = e->p->workspace;
        s->args.threads = e->b->threads;
        s->args.queue = e->b->queue;
        s->run = e->p->kernel[k]->run;
        s->when = n->when;
        s->n = (node_id)k;
    }
    return ST_OK;
}

/* What kernels make of constants, once; nodes side by side. */
static void prepare_steps(exec *e)
{
#pragma omp parallel for num_threads(e->far ? 1 : e->b->threads) schedule(dynamic)
    for (size_t i = 0; i < e->n_step; i++) {
        step *s = &e->steps[i];
        size_t at = e->p->prepared[s->n];
        if (at == SIZE_MAX)
            continue;
        kernel_args a = s->args;
        plan_constant_operands(e->g, &e->g->node[s->n], a.in, a.out, &a);
        a.threads = e->b->threads; /* what is made may be cut by them */
        a.queue = e->b->queue;
        for (int k = 0; e->far && k < a.n_in; k++)
            a.in[k].data = a.in[k].data ? e->data[e->g->node[s->n].in[k]] : NULL;
        s->args.prepared = e->prepared + at;
        e->p->kernel[s->n]->prepare(&a, e->prepared + at);
    }
}

static void bind_operands(exec *e)
{
    for (size_t k = 0; k < e->n_step; k++) {
        step *s = &e->steps[k];
        const node *n = &e->g->node[s->n];
        for (int i = 0; i < n->n_in; i++)
            s->args.in[i].data = plan_is_packed(e->p, s->n, i) ? NULL : e->data[n->in[i]];
        for (int i = 0; i < n->n_out; i++)
            s->args.out[i].data = e->data[n->out[i]];
    }
}

/* What the backend runs instead of g. */
static status lower(const graph *g, const backend *b, graph **out)
{
    graph *low = NULL;
    status st = ST_OK;
    TRY_DONE(graph_share(g, &low));
    TRY_DONE(pass_layout(low, b));
    TRY_DONE(pass_adds_into_convs(low, b));
    TRY_DONE(pass_norms_into_convs(low, b));
    TRY_DONE(pass_moments_from_convs(low, b));
    TRY_DONE(pass_grad_sums_from_convs(low, b));
    TRY_DONE(pass_narrow_attention(low, b));
    TRY_DONE(pass_fuse_linear_grads(low, b));
    TRY_DONE(pass_keep_copies(low, b));
    TRY_DONE(pass_join_reorders(low, b));
#ifndef NDEBUG
    TRY_DONE(graph_validate(low));
#endif
    *out = low;
    return ST_OK;
done:
    graph_free(low);
    return st;
}

status exec_open(const graph *g, backend *b, store *s, size_t memory_limit, exec **out)
{
    exec *e;
    status st = ST_OK;
    TRY(mem_alloc(&e, 1, sizeof *e));
    e->b = b;
    TRY_DONE(lower(g, b, &e->g));
    TRY_DONE(plan_make(e->g, b, &e->p));
    TRY_DONE(fit_memory(e, memory_limit));
    if (!s)
        s = &e->own;
    e->s = s;
    TRY_DONE(store_add_graph(s, g));
    TRY_DONE(check_room(e));
    TRY_DONE(store_place(s, b));
    TRY_DONE(b->alloc(b, e->p->activations, (void **)&e->activations));
    TRY_DONE(b->alloc(b, e->p->workspace, (void **)&e->workspace));
    TRY_DONE(b->alloc(b, e->p->prepared_bytes, (void **)&e->prepared));
    TRY_DONE(b->alloc(b, e->p->copies, (void **)&e->kept));
    TRY_DONE(bind_values(e, s));
    TRY_DONE(remote_open(e));
    TRY_DONE(bind_steps(e));
    prepare_steps(e);
    bind_operands(e);
    if (e->far)
        TRY_DONE(b->remote->wait(b));
    *out = e;
    return ST_OK;
done:
    exec_close(e);
    return st;
}

status exec_open_frozen(graph *g, backend *b, size_t memory_limit, exec **out)
{
    bool *keep = NULL;
    exec *e = NULL;
    status st = ST_OK;
    TRY_DONE(exec_open(g, b, NULL, memory_limit, &e));
    TRY_DONE(mem_alloc(&keep, e->g->n_value, sizeof *keep));
    plan_mark_constants(e->p, e->g, keep);
    for (size_t v = 1; v < e->g->n_value; v++)
        if (e->g->value[v].kind == VALUE_CONST && !keep[v])
            e->g->value[v].data = e->data[v] = NULL;
    graph_keep_data(g, keep); /* its values have the same ids, and there are at least as many marks */
    *out = e;
    e = NULL;
done:
    mem_free(keep);
    exec_close(e);
    return st;
}

void exec_close(exec *e)
{
    if (!e)
        return;
    remote_close(e);
    if (e->p) {
        e->b->free(e->b, e->activations, e->p->activations);
        e->b->free(e->b, e->workspace, e->p->workspace);
        e->b->free(e->b, e->prepared, e->p->prepared_bytes);
        e->b->free(e->b, e->kept, e->p->copies);
    }
    plan_free(e->p);
    graph_free(e->g);
    store_free(&e->own);
    mem_free(e->steps);
    mem_free(e->operands);
    mem_free(e->data);
    mem_free(e->seconds);
    mem_free(e);
}

void *exec_data(const exec *e, value_id v)
{
    return e->far ? e->far->host[v] : e->data[v];
}

status exec_run(exec *e, phase when)
{
    if (e->far)
        return remote_run(e, when);
    for (size_t i = 0; i < e->n_step; i++) {
        const step *s = &e->steps[i];
        if (s->when != when)
            continue;
        if (!e->timing && !e->seen) {
            s->run(&s->args);
            continue;
        }
        double begin = clock_seconds();
        s->run(&s->args);
        double end = clock_seconds();
        e->seconds[s->n] += end - begin;
        if (e->seen)
            e->seen(e->seen_ctx, s->n, begin, end);
    }
    return ST_OK;
}

const graph *exec_graph(const exec *e)
{
    return e->g;
}

const plan *exec_plan(const exec *e)
{
    return e->p;
}

void exec_set_timing(exec *e, bool on)
{
    e->timing = on;
    memset(e->seconds, 0, e->g->n_node * sizeof *e->seconds);
}

void exec_watch(exec *e, exec_watcher seen, void *ctx)
{
    e->seen = seen;
    e->seen_ctx = ctx;
}

const double *exec_timing(const exec *e)
{
    return e->timing ? e->seconds : NULL;
}
