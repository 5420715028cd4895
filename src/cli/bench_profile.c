/* bench_profile.c - where the time of training steps went: by operator and kernel, and the slowest nodes.
 *
 * In: executors whose timing was on for some steps. The clock is read between nodes, which adds about 50 ns to each;
 * what a step does outside the graphs (taking the batch, copying taps) is the difference to the step's time. */
#include "cli/bench.h"
#include "base/mem.h"

#include <stdlib.h>

#define SLOWEST 12

typedef struct row { /* a node, or all nodes of one operator with one kernel */
    op_id op;
    const char *kernel;
    node_id first;
    size_t nodes;
    double seconds, macs; /* macs: of one run of the graph */
} row;

typedef struct profile {
    const graph *g;
    const char *title;
    double steps, runs; /* training steps that were timed; runs of the graph in them */
    double seconds;     /* in all nodes */
    row *kind, *slow;   /* [g->n_node] room */
    size_t n_kind, n_slow;
} profile;

static int by_seconds(const void *a, const void *b)
{
    const row *x = a, *y = b;
    return x->seconds < y->seconds ? 1 : x->seconds > y->seconds ? -1 : x->first > y->first ? 1 : -1;
}

static void add_to_kind(profile *p, const row *r)
{
    size_t i = 0;
    while (i < p->n_kind && (p->kind[i].op != r->op || p->kind[i].kernel != r->kernel))
        i++;
    if (i == p->n_kind)
        p->kind[p->n_kind++] = (row){.op = r->op, .kernel = r->kernel, .first = r->first};
    p->kind[i].nodes++;
    p->kind[i].seconds += r->seconds;
    p->kind[i].macs += r->macs;
}

static void collect(profile *p, const plan *how, const double *seconds)
{
    for (size_t k = 1; k < p->g->n_node; k++) {
        const node *n = &p->g->node[k];
        const op_desc *d = op_of(n->op);
        if (!how->kernel[k])
            continue;
        row r = {.op = n->op, .kernel = how->kernel[k]->name, .first = (node_id)k, .nodes = 1, .seconds = seconds[k],
                 .macs = d->macs ? d->macs(p->g, n) : 0};
        p->seconds += r.seconds;
        p->slow[p->n_slow++] = r;
        add_to_kind(p, &r);
    }
    qsort(p->kind, p->n_kind, sizeof *p->kind, by_seconds);
    qsort(p->slow, p->n_slow, sizeof *p->slow, by_seconds);
}

static void print_row(const profile *p, const row *r, const char *count, text *t)
{
    text_printf(t, "%9.3f %6.1f %7s", r->seconds / p->steps * 1e3, 100 * r->seconds / p->seconds, count);
    if (r->macs > 0 && r->seconds > 0)
        text_printf(t, " %8.1f", 2e-9 * r->macs * p->runs / r->seconds);
    else
        text_printf(t, " %8s", "");
    text_printf(t, "  %-22s %s", op_of(r->op)->name, r->kernel);
}

static void print_shapes(const graph *g, const node *n, text *t)
{
    char buf[200];
    for (int i = 0; i < n->n_in && i < 2; i++)
        if (n->in[i])
            text_printf(t, " %s", shape_print(&graph_value(g, n->in[i])->sh, buf));
    if (n->n_out && n->out[0])
        text_printf(t, " -> %s", shape_print(&graph_value(g, n->out[0])->sh, buf));
}

static void print(const profile *p, text *t)
{
    char count[24];
    text_printf(t, "\n%s: %.2f ms a step in %zu nodes\n%9s %6s %7s %8s  operator and kernel\n", p->title,
                p->seconds / p->steps * 1e3, p->n_slow, "ms", "%", "nodes", "GF/s");
    for (size_t i = 0; i < p->n_kind; i++) {
        snprintf(count, sizeof count, "%zu", p->kind[i].nodes);
        print_row(p, &p->kind[i], count, t);
        text_add(t, "\n");
    }
    text_printf(t, "slowest nodes: shapes of the first two inputs and of the output\n");
    for (size_t i = 0; i < p->n_slow && i < SLOWEST; i++) {
        const node *n = &p->g->node[p->slow[i].first];
        print_row(p, &p->slow[i], "", t);
        print_shapes(p->g, n, t);
        text_printf(t, "  %s\n", n->name);
    }
}

status bench_profile_print(const char *title, const exec *e, uint64_t steps, uint64_t runs, text *out)
{
    const graph *g = exec_graph(e);
    profile p = {.g = g, .title = title, .steps = (double)steps, .runs = (double)runs};
    status st = ST_OK;
    TRY_DONE(mem_alloc(&p.kind, g->n_node, sizeof *p.kind));
    TRY_DONE(mem_alloc(&p.slow, g->n_node, sizeof *p.slow));
    collect(&p, exec_plan(e), exec_timing(e));
    print(&p, out);
done:
    mem_free(p.kind);
    mem_free(p.slow);
    return st;
}
