/* exec.c - runs a planned graph: operands are bound to addresses once, a run is a loop over kernels. */
#include "exec/exec.h"
#include "base/clock.h"
#include "exec/internal.h"

#include <stdio.h>
#include <string.h>

typedef struct step { /* one node, ready to run */
    void (*run)(const kernel_args *a);
    kernel_args args;
    phase when;
    node_id n;
} step;

/* What an executor has besides on a backend with memory of its own. */
typedef struct remote_part {
    char *constants, *mirror; /* on the device; on the host: inputs and outputs */
    size_t constant_bytes;
    void **host;              /* [n_value] where the host has it; NULL: nowhere */
    void *program[PHASE_UPDATE + 1];
    bool mutates; /* some node writes into the store */
} remote_part;

struct exec {
    graph *g; /* the caller's as the backend runs it */
    backend *b;
    plan *p;
    store own; /* when the caller gave no store */
    store *s;  /* the one in use */
    char *activations, *workspace, *prepared;
    remote_part *far; /* NULL: the host sees where values lie */
    step *steps;
    size_t n_step;
    kernel_tensor *operands;
    void **data; /* [n_value] */
    double *seconds;
    bool timing;
    exec_watcher seen; /* NULL: nobody watches */
    void *seen_ctx;
};

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

static status bind_values(exec *e, const store *s)
{
    const graph *g = e->g;
    TRY(mem_alloc(&e->data, g->n_value, sizeof *e->data));
    for (size_t v = 1; v < g->n_value; v++) {
        const value *x = &g->value[v];
        if (x->kind == VALUE_CONST) {
            e->data[v] = (void *)(uintptr_t)x->data; /* no kernel writes a constant: graph_validate */
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

/* ---- a backend with memory of its own ---- */

static size_t far_align(size_t n)
{
    return (n + 255) & ~(size_t)255;
}

static bool is_mirrored(const graph *g, value_id v)
{
    if (g->value[v].kind == VALUE_INPUT)
        return true;
    for (size_t i = 0; i < g->n_output; i++)
        if (g->output[i] == v)
            return g->value[v].kind == VALUE_TEMP;
    return false;
}

/* Constants go to the device; inputs and outputs get a place on the host. */
static status open_remote(exec *e)
{
    const graph *g = e->g;
    remote_part *f;
    size_t mirrored = 0, at = 0;
    if (!e->b->remote)
        return ST_OK;
    TRY(mem_alloc(&e->far, 1, sizeof *e->far));
    f = e->far;
    TRY(mem_alloc(&f->host, g->n_value, sizeof *f->host));
    for (size_t v = 1; v < g->n_value; v++) {
        if (g->value[v].kind == VALUE_CONST)
            f->constant_bytes += far_align(plan_value_bytes(&g->value[v]));
        else if (is_mirrored(g, (value_id)v))
            mirrored += far_align(plan_value_bytes(&g->value[v]));
    }
    TRY(e->b->alloc(e->b, f->constant_bytes, (void **)&f->constants));
    TRY(e->b->remote->alloc_host(e->b, mirrored, (void **)&f->mirror));
    mirrored = 0;
    for (size_t v = 1; v < g->n_value; v++) {
        const value *x = &g->value[v];
        size_t bytes = plan_value_bytes(x);
        if (x->kind == VALUE_CONST) {
            f->host[v] = (void *)(uintptr_t)x->data;
            if (!x->data)
                continue;
            TRY(e->b->remote->copy(e->b, f->constants + at, x->data, bytes, COPY_TO_DEVICE));
            e->data[v] = f->constants + at;
            at += far_align(bytes);
        } else if (x->kind == VALUE_PARAM || x->kind == VALUE_STATE) {
            f->host[v] = store_find(e->s, x->name)->t.data;
        } else if (is_mirrored(g, (value_id)v)) {
            f->host[v] = f->mirror + mirrored;
            mirrored += far_align(bytes);
        }
    }
    for (size_t v = 1; v < g->n_value; v++) /* views of what was moved */
        if (e->p->root[v] != v && g->value[e->p->root[v]].kind == VALUE_CONST)
            e->data[v] = e->data[e->p->root[v]];
    for (size_t k = 1; k < g->n_node; k++)
        f->mutates = f->mutates || op_of(g->node[k].op)->flags & OP_MUTATES;
    return e->b->remote->wait(e->b);
}

static void close_remote(exec *e)
{
    if (!e->far)
        return;
    for (int when = PHASE_MAIN; when <= PHASE_UPDATE; when++)
        e->b->remote->forget(e->b, e->far->program[when]);
    e->b->free(e->b, e->far->constants, e->far->constant_bytes);
    e->b->remote->free_host(e->b, e->far->mirror);
    mem_free(e->far->host);
    mem_free(e->far);
}

static bool is_read_in(const graph *g, value_id v, phase when)
{
    for (size_t k = 1; k < g->n_node; k++)
        for (int i = 0; g->node[k].when == when && i < g->node[k].n_in; i++)
            if (g->node[k].in[i] == v)
                return true;
    return false;
}

/* Inputs that the phase reads to the device, or outputs that it makes to the host. */
static status move_mirrors(exec *e, phase when, copy_way way)
{
    const graph *g = e->g;
    size_t n = way == COPY_TO_DEVICE ? g->n_input : g->n_output;
    for (size_t i = 0; i < n; i++) {
        value_id v = way == COPY_TO_DEVICE ? g->input[i] : g->output[i];
        const value *x = &g->value[v];
        if (way == COPY_TO_DEVICE ? !is_read_in(g, v, when) : x->kind != VALUE_TEMP || g->node[x->from].when != when)
            continue;
        void *host = e->far->host[v], *there = e->data[v];
        TRY(e->b->remote->copy(e->b, way == COPY_TO_DEVICE ? there : host, way == COPY_TO_DEVICE ? host : there,
                               plan_value_bytes(x), way));
    }
    return ST_OK;
}

static status put_steps(exec *e, phase when)
{
    TRY(move_mirrors(e, when, COPY_TO_DEVICE));
    for (size_t i = 0; i < e->n_step; i++)
        if (e->steps[i].when == when)
            e->steps[i].run(&e->steps[i].args);
    return move_mirrors(e, when, COPY_TO_HOST);
}

static status record(exec *e, phase when)
{
    status st = ST_OK;
    TRY(e->b->remote->record(e->b));
    st = put_steps(e, when);
    status end = e->b->remote->recorded(e->b, &e->far->program[when]);
    return st != ST_OK ? st : end;
}

/* One kernel after the other, each waited for: its time includes the launch. */
static status run_remote_watched(exec *e, phase when)
{
    TRY(move_mirrors(e, when, COPY_TO_DEVICE));
    TRY(e->b->remote->wait(e->b));
    for (size_t i = 0; i < e->n_step; i++) {
        const step *s = &e->steps[i];
        if (s->when != when)
            continue;
        double begin = clock_seconds();
        s->run(&s->args);
        TRY(e->b->remote->wait(e->b));
        double end = clock_seconds();
        e->seconds[s->n] += end - begin;
        if (e->seen)
            e->seen(e->seen_ctx, s->n, begin, end);
    }
    TRY(move_mirrors(e, when, COPY_TO_HOST));
    return e->b->remote->wait(e->b);
}

static status run_remote(exec *e, phase when)
{
    TRY(store_push(e->s));
    if (e->far->mutates)
        e->s->device_newer = true;
    if (e->timing || e->seen)
        return run_remote_watched(e, when);
    if (!e->far->program[when])
        TRY(record(e, when));
    TRY(e->b->remote->replay(e->b, e->far->program[when]));
    return e->b->remote->wait(e->b);
}

status exec_get(const exec *e, value_id v, void *to, size_t bytes)
{
    if (!e->far) {
        memcpy(to, e->data[v], bytes);
        return ST_OK;
    }
    TRY(e->b->remote->copy(e->b, to, e->data[v], bytes, COPY_TO_HOST));
    return e->b->remote->wait(e->b);
}

status exec_put(exec *e, value_id v, const void *from, size_t bytes)
{
    if (!e->far) {
        memcpy(e->data[v], from, bytes);
        return ST_OK;
    }
    TRY(e->b->remote->copy(e->b, e->data[v], from, bytes, COPY_TO_DEVICE));
    return e->b->remote->wait(e->b);
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
    TRY_DONE(pass_norms_into_convs(low, b));
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
    TRY_DONE(store_place(s, b));
    TRY_DONE(b->alloc(b, e->p->activations, (void **)&e->activations));
    TRY_DONE(b->alloc(b, e->p->workspace, (void **)&e->workspace));
    TRY_DONE(b->alloc(b, e->p->prepared_bytes, (void **)&e->prepared));
    TRY_DONE(bind_values(e, s));
    TRY_DONE(open_remote(e));
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
    close_remote(e);
    if (e->p) {
        e->b->free(e->b, e->activations, e->p->activations);
        e->b->free(e->b, e->workspace, e->p->workspace);
        e->b->free(e->b, e->prepared, e->p->prepared_bytes);
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
        return run_remote(e, when);
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
