/* bench_trace.c - training steps as a trace for chrome://tracing and Perfetto (trace event format, a JSON array).
 *
 * In: a session that is watched while it makes steps. Out: an event for every step, in it one for each part (wait for data,
 * batch, teacher, main, update), in these one for every node that ran; and one for every batch that a loader thread made.
 * Thread 1 is the step's own, which leads the team of a kernel; loader threads follow. */
#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "cli/bench.h"

#include <inttypes.h>
#include <math.h>

#define STEP_THREAD   1
#define LOADER_THREAD 2

typedef struct event {
    const exec *e; /* NULL: no node, but */
    const char *what;
    node_id n;
    uint32_t thread;
    double begin, end;
    uint64_t number; /* of the step or the batch */
} event;

struct bench_trace {
    session *s;
    event *at;
    size_t n, cap;
    status st;
    double from;
    uint64_t steps;
    uint32_t loaders; /* loader threads seen */
    const char **role; /* [nodes of the training graph] */
};

static void add_event(bench_trace *t, event e)
{
    if (t->st == ST_OK && e.begin >= t->from) {
        t->st = mem_push(&t->at, &t->cap, t->n, sizeof *t->at);
        if (t->st == ST_OK)
            t->at[t->n++] = e;
    }
}

static void see_training(void *ctx, node_id n, double begin, double end)
{
    bench_trace *t = ctx;
    add_event(t, (event){.e = t->s->train, .what = t->role[n], .n = n, .thread = STEP_THREAD, .begin = begin, .end = end});
}

static void see_teacher(void *ctx, node_id n, double begin, double end)
{
    bench_trace *t = ctx;
    add_event(t, (event){.e = t->s->t.e, .what = "teacher", .n = n, .thread = STEP_THREAD, .begin = begin, .end = end});
}

static void see_part(void *ctx, session_part part, double begin, double end, const batch *b)
{
    static const char *const names[] = {[PART_WAIT] = "wait for data", [PART_BATCH] = "batch", [PART_TEACHER] = "teacher",
                                        [PART_MAIN] = "main", [PART_UPDATE] = "update", [PART_STEP] = "step"};
    bench_trace *t = ctx;
    uint64_t number = part == PART_STEP ? t->steps++ : b ? b->step : 0;
    add_event(t, (event){.what = names[part], .thread = STEP_THREAD, .begin = begin, .end = end, .number = number});
    if (part != PART_WAIT)
        return;
    if (b->made_by >= t->loaders)
        t->loaders = b->made_by + 1;
    add_event(t, (event){.what = "make batch", .thread = LOADER_THREAD + b->made_by, .begin = b->made_from, .end = b->made_to,
                         .number = b->step});
}

/* ---- what a node of the training graph is for ---- */

/* Marks the nodes, last to first, that `v` depends on and that have no role yet. `want`: [n_value] scratch, zeros. */
static void mark(const graph *g, value_id v, const char *role, const char **roles, bool *want)
{
    want[v] = true;
    for (size_t k = g->n_node; k-- > 1;) {
        const node *n = &g->node[k];
        bool wanted = false;
        for (int i = 0; i < n->n_out; i++)
            wanted |= n->out[i] && want[n->out[i]];
        if (!wanted || n->when == PHASE_UPDATE)
            continue;
        for (int i = 0; i < n->n_in; i++)
            want[n->in[i]] = true;
        if (!roles[k])
            roles[k] = role;
    }
}

static status find_roles(bench_trace *t)
{
    const graph *g = exec_graph(t->s->train);
    bool *want = NULL;
    TRY(mem_alloc(&t->role, g->n_node, sizeof *t->role));
    TRY(mem_alloc(&want, g->n_value, sizeof *want));
    mark(g, t->s->tg.logits, "student", t->role, want);
    if (t->s->tg.total)
        mark(g, t->s->tg.total, "losses", t->role, want);
    for (size_t k = 1; k < g->n_node; k++)
        if (g->node[k].when == PHASE_UPDATE)
            t->role[k] = "update";
        else if (!t->role[k])
            t->role[k] = op_of(g->node[k].op)->flags & OP_MUTATES ? "student" : "gradients"; /* running statistics */
    mem_free(want);
    return ST_OK;
}

/* ---- begin and end ---- */

status bench_trace_begin(session *s, bench_trace **out)
{
    bench_trace *t;
    TRY(mem_alloc(&t, 1, sizeof *t));
    t->s = s;
    status st = find_roles(t);
    if (st != ST_OK) {
        bench_trace_close(t);
        return st;
    }
    t->from = clock_seconds();
    exec_watch(s->train, see_training, t);
    if (s->t.e)
        exec_watch(s->t.e, see_teacher, t);
    s->seen = see_part;
    s->seen_ctx = t;
    *out = t;
    return ST_OK;
}

void bench_trace_stop(bench_trace *t)
{
    exec_watch(t->s->train, NULL, NULL);
    if (t->s->t.e)
        exec_watch(t->s->t.e, NULL, NULL);
    t->s->seen = NULL;
}

void bench_trace_close(bench_trace *t)
{
    if (!t)
        return;
    mem_free(t->at);
    mem_free(t->role);
    mem_free(t);
}

/* ---- writing ---- */

static void put_name(json *j, const char *of, uint32_t thread, const char *name)
{
    json_put_object(j, NULL);
    json_put_string(j, "name", of);
    json_put_string(j, "ph", "M");
    json_put_int(j, "pid", 1);
    json_put_int(j, "tid", thread);
    json_put_object(j, "args");
    json_put_string(j, "name", name);
    json_end_object(j);
    json_end_object(j);
}

static void put_shapes(json *j, const char *key, const graph *g, const value_id *v, int n)
{
    char buf[200];
    json_put_array(j, key);
    for (int i = 0; i < n; i++)
        if (v[i])
            json_put_string(j, NULL, shape_print(&graph_value(g, v[i])->sh, buf));
    json_end_array(j);
}

static void put_node(json *j, const event *e)
{
    const graph *g = exec_graph(e->e);
    const node *n = graph_node(g, e->n);
    const op_desc *d = op_of(n->op);
    double macs = d->macs ? d->macs(g, n) : 0;
    json_put_string(j, "node", n->name);
    json_put_string(j, "kernel", exec_plan(e->e)->kernel[e->n]->name);
    put_shapes(j, "in", g, n->in, n->n_in);
    put_shapes(j, "out", g, n->out, n->n_out);
    json_put_number(j, "bytes", plan_node_bytes(g, n));
    if (macs > 0 && e->end > e->begin)
        json_put_number(j, "GF/s", round(2e-7 * macs / (e->end - e->begin)) / 100);
}

/* Microseconds since the trace began, to the nanosecond. */
static double micros(const bench_trace *t, double at)
{
    return round((at - t->from) * 1e9) / 1e3;
}

static void put_event(json *j, const bench_trace *t, const event *e)
{
    double begin = micros(t, e->begin);
    json_put_object(j, NULL);
    json_put_string(j, "name", e->e ? op_of(graph_node(exec_graph(e->e), e->n)->op)->name : e->what);
    json_put_string(j, "cat", e->e ? e->what : "step");
    json_put_string(j, "ph", "X");
    json_put_number(j, "ts", begin);
    json_put_number(j, "dur", round((micros(t, e->end) - begin) * 1e3) / 1e3);
    json_put_int(j, "pid", 1);
    json_put_int(j, "tid", e->thread);
    json_put_object(j, "args");
    if (e->e)
        put_node(j, e);
    else
        json_put_int(j, "number", (int64_t)e->number);
    json_end_object(j);
    json_end_object(j);
}

/* What is written so far goes to the file: the text never holds a whole trace. */
static void flush(text *t, file_writer *w)
{
    file_write(w, t->s, t->n);
    t->n = 0;
}

status bench_trace_write(const bench_trace *t, const char *path)
{
    text out = {0};
    json j = {.out = &out};
    file_writer w = {0};
    char name[32];
    if (t->st != ST_OK)
        return fail(t->st, "%s: the trace of %" PRIu64 " steps does not fit into memory; fewer --steps do", path, t->steps);
    status st = file_begin(&w, path);
    if (st != ST_OK)
        return st;
    json_put_array(&j, NULL);
    put_name(&j, "process_name", STEP_THREAD, "distill");
    put_name(&j, "thread_name", STEP_THREAD, "step");
    for (uint32_t i = 0; i < t->loaders; i++) {
        snprintf(name, sizeof name, "loader %u", i + 1);
        put_name(&j, "thread_name", LOADER_THREAD + i, name);
    }
    for (size_t i = 0; i < t->n && out.st == ST_OK; i++) {
        put_event(&j, t, &t->at[i]);
        flush(&out, &w);
    }
    json_end_array(&j);
    text_add(&out, "\n");
    st = out.st;
    if (st == ST_OK) {
        flush(&out, &w);
        st = file_commit(&w);
    }
    file_abandon(&w);
    text_free(&out);
    return st;
}
