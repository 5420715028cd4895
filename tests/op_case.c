/* op_case.c - the engine behind op_case.h: a row becomes a graph (op_case_build.h), the graph runs in every way there is.
 *
 * Values of inputs and weights are made once per row as doubles that their type can hold, so that every run of the row,
 * double or float, sees the same numbers. Value ids are the same in the float graph and in its double twin. */
#include "op_case.h"
#include "exec/exec.h"
#include "exec/internal.h"
#include "harness.h"
#include "emulator/emulator_control.h"
#include "op_case_build.h"
#include "op_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 3
/* What every row runs with. */
static const struct {
    const char *name;
    isa level;
    layout_choice layout;
    const char *method;
} variants[] = {{"reference", ISA_REF, LAYOUT_PLAIN, NULL},
                {"baseline", ISA_BASE, LAYOUT_PLAIN, NULL},
                {"AVX2", ISA_AVX2, LAYOUT_PLAIN, NULL},
                {"AVX-512", ISA_AVX512, LAYOUT_PLAIN, NULL},
                {"baseline, blocked", ISA_BASE, LAYOUT_BLOCKED, NULL},
                {"AVX2, blocked", ISA_AVX2, LAYOUT_BLOCKED, NULL},
                {"AVX-512, blocked", ISA_AVX512, LAYOUT_BLOCKED, NULL},
                {"baseline, direct", ISA_BASE, LAYOUT_BLOCKED, "direct"},
                {"AVX2, direct", ISA_AVX2, LAYOUT_BLOCKED, "direct"},
                {"AVX-512, direct", ISA_AVX512, LAYOUT_BLOCKED, "direct"},
                {"baseline, winograd", ISA_BASE, LAYOUT_BLOCKED, "winograd"},
                {"AVX2, winograd", ISA_AVX2, LAYOUT_BLOCKED, "winograd"},
                {"AVX-512, winograd", ISA_AVX512, LAYOUT_BLOCKED, "winograd"}};
/* What every row runs with on the emulator: threads and warps in another order, the same bits. */
static const struct {
    const char *name;
    emulator_order_kind order;
} orders[] = {{"forward", EMULATOR_FORWARD}, {"reverse", EMULATOR_REVERSE}, {"random", EMULATOR_RANDOM}};
#if defined(__SANITIZE_ADDRESS__)
#define ORDERS   1 /* of threads: what they reach does not depend on it, and is what this build is for */
#else
#define ORDERS   (sizeof orders / sizeof *orders)
#endif
#define VARIANTS (sizeof variants / sizeof *variants)
static const int thread_counts[THREADS] = {1, 2, 7};

/* The largest error of an operator, in units of its tolerance. */
typedef struct worst {
    double error, tolerance;
    const char *what;
    bool seen;
} worst;

typedef struct engine {
    backend *b[VARIANTS]; /* NULL: this CPU lacks it */
    backend *device;      /* rows run on it alone; NULL: on the variants of the CPU */
    dtype narrow;         /* in which it computes */
    layout_choice layout; /* then: of what */
    worst worst[OP_COUNT];
} engine;

/* ---- comparing ---- */

static double error_of(double a, double b)
{
    if (isnan(a) || isnan(b))
        return isnan(a) && isnan(b) ? 0 : (double)INFINITY;
    if (isinf(a) || isinf(b))
        return a == b ? 0 : (double)INFINITY;
    return fabs(a - b) / fmax(1, fabs(b));
}

/* Elements of value v in run r against `want`, which is first rounded to the value's type when that is narrower. */
static double largest_error(const op_run *r, value_id v, const double *want, int64_t n_want, int64_t *where)
{
    const value *x = &r->g->value[v];
    double worst_error = 0;
    *where = -1;
    for (int64_t i = 0; i < shape_count(&x->sh); i++) {
        double e = error_of(dtype_load(x->type, r->at[v].data, i), op_case_as_type(x->type, want[i % n_want]));
        if (e > worst_error) {
            worst_error = e;
            *where = i;
        }
    }
    return worst_error;
}

static void note_error(engine *e, op_id op, const char *what, double error, double tolerance)
{
    worst *w = &e->worst[op];
    if (w->seen && error * (w->tolerance + 1e-300) <= w->error * (tolerance + 1e-300))
        return;
    *w = (worst){error, tolerance, what, true};
}

static const char *run_name(const op_run *r)
{
    static const char *const names[] = {"reference", "baseline", "AVX2", "AVX-512"};
    static const char *const blocked[] = {"reference", "blocked baseline", "blocked AVX2", "blocked AVX-512"};
    return (r->b->layout == LAYOUT_BLOCKED ? blocked : names)[r->b->level];
}

static status compare(engine *e, const built *t, const op_run *r, value_id v, const char *what, int index,
                      const double *want, int64_t n_want, double tolerance)
{
    const value *x = &r->g->value[v];
    int64_t at;
    double tol = dtype_of(x->type)->is_float ? tolerance : 0;
    double error = largest_error(r, v, want, n_want, &at);
    note_error(e, t->c->op, what, error, tol);
    if (error <= tol)
        return ST_OK;
    return fail(ST_GATE, "%s %d with %s kernels: element %lld of %lld is %.9g, expected %.9g (error %.3g, tolerance %.3g)",
                what, index, run_name(r), (long long)at, (long long)shape_count(&x->sh),
                dtype_load(x->type, r->at[v].data, at), want[at % n_want], error, tol);
}

static status same_bits(const built *t, const op_run *r, const op_run *first, value_id v, const char *what, int index)
{
    const unsigned char *a = r->at[v].data, *b = first->at[v].data;
    size_t size = dtype_of(t->g->value[v].type)->size, bytes = r->at[v].bytes;
    if (!v || memcmp(a, b, bytes) == 0)
        return ST_OK;
    size_t i = 0;
    while (a[i] == b[i])
        i++;
    return fail(ST_GATE, "%s %d with %s kernels: element %zu is %.9g with %d threads and %.9g with %d", what, index,
                run_name(r), i / size, dtype_load(t->g->value[v].type, a, (int64_t)(i / size)), r->threads,
                dtype_load(t->g->value[v].type, b, (int64_t)(i / size)), first->threads);
}

static double *all_as_double(const op_run *r, value_id v)
{
    const value *x = &r->g->value[v];
    double *to = NULL;
    int64_t n = shape_count(&x->sh);
    if (mem_alloc(&to, (size_t)(n ? n : 1), sizeof *to) != ST_OK)
        return NULL;
    for (int64_t i = 0; i < n; i++)
        to[i] = dtype_load(x->type, r->at[v].data, i);
    return to;
}

static bool mutated(const built *t, int i)
{
    return op_writes(op_of(t->c->op), i) && t->in[i];
}

/* ---- one row ---- */

static status load_inputs(const built *t, const numbers *x, op_run *r)
{
    for (int i = 0; i < t->n_in; i++) {
        if (!t->in[i] || t->c->in[i].same_as)
            continue;
        const value *v = &r->g->value[t->in[i]];
        for (int64_t e = 0; e < shape_count(&v->sh); e++)
            dtype_store(v->type, r->at[t->in[i]].data, e, x->in[i][e]);
    }
    for (int k = 0; k < t->n_out; k++) {
        if (!t->weight[k])
            continue;
        const value *v = &r->g->value[t->weight[k]];
        for (int64_t e = 0; e < shape_count(&v->sh); e++)
            dtype_store(v->type, r->at[t->weight[k]].data, e, x->weight[k][e]);
    }
    return ST_OK;
}

/* Loads the inputs and runs everything. The run is closed by the caller, also on failure. */
static status run_all(const built *t, const numbers *x, const backend *b, int threads, op_run *r)
{
    TRY(op_run_open(r, t->g, b, threads));
    TRY(load_inputs(t, x, r));
    return op_run_nodes(r, r->g->n_node, true);
}

/* Rough cost of one forward run, in elements touched. */
static double forward_cost(const built *t)
{
    double cost = 1000;
    for (size_t k = 1; k < t->forward_end; k++) {
        const node *n = &t->g->node[k];
        for (int i = 0; i < n->n_in; i++)
            cost += n->in[i] ? (double)shape_count(&t->g->value[n->in[i]].sh) : 0;
        for (int i = 0; i < n->n_out; i++)
            cost += n->out[i] ? (double)shape_count(&t->g->value[n->out[i]].sh) : 0;
        cost += op_of(n->op)->macs ? op_of(n->op)->macs(t->g, n) : 0;
    }
    return cost;
}

/* Central differences of the loss against the gradients of run r (double, reference kernels). */
static status check_numeric(engine *e, const built *t, op_run *r)
{
    double tol = t->c->grad_tol > 0 ? t->c->grad_tol : 1e-7, step = t->c->step > 0 ? t->c->step : 1e-5;
    double each = 4e6 / forward_cost(t); /* elements of an input that are moved */
    const double *loss = r->at[t->loss].data;
    for (int i = 0; i < t->n_in; i++) {
        if (!op_case_wants_grad(t, i) || !t->in[i])
            continue;
        double *x = r->at[t->in[i]].data;
        const double *dx = t->grad[i] ? r->at[t->grad[i]].data : NULL;
        int64_t n = shape_count(&t->g->value[t->in[i]].sh), stride = 1;
        if ((double)n > each) /* a sample: every stride-th; an odd number, so that it visits all columns */
            stride = (n / (int64_t)fmax(6, each)) | 1;
        for (int64_t k = 0; k < n; k += stride) {
            double was = x[k], h = step * fmax(1, fabs(was)), want, slope;
            x[k] = was + h;
            TRY(op_run_nodes(r, t->forward_end, false));
            slope = *loss;
            x[k] = was - h;
            TRY(op_run_nodes(r, t->forward_end, false));
            slope = (slope - *loss) / (2 * h);
            x[k] = was;
            want = dx ? dx[k] : 0;
            double error = error_of(slope, want);
            note_error(e, t->c->op, "numeric", error, tol);
            if (!(error <= tol))
                return fail(ST_GATE, "gradient of input %d, element %lld: autodiff gives %.9g, differences %.9g (error %.3g, "
                            "tolerance %.3g)", i, (long long)k, want, slope, error, tol);
        }
    }
    return op_run_nodes(r, t->forward_end, false);
}

/* Outputs and mutated inputs against what the row expects. */
static status check_expected(engine *e, const built *t, const numbers *x, const op_run *r)
{
    const op_case *c = t->c;
    double *in[OP_CASE_IN] = {0}, *out[OP_CASE_OUT] = {0};
    status st = ST_OK;
    for (int k = 0; k < t->n_out; k++)
        if (c->want[k].n)
            TRY_DONE(compare(e, t, r, t->out[k], "expected output", k, c->want[k].v, c->want[k].n, c->want_tol));
    if (!c->expect)
        return ST_OK;
    for (int i = 0; i < t->n_in; i++) {
        if (!t->in[i])
            continue;
        int64_t n = shape_count(&t->g->value[t->in[i]].sh);
        TRY_DONE(mem_alloc(&in[i], (size_t)n + 1, sizeof *in[i]));
        memcpy(in[i], x->in[c->in[i].same_as ? c->in[i].same_as - 1 : i], (size_t)n * sizeof *in[i]);
    }
    for (int k = 0; k < t->n_out; k++)
        TRY_DONE(mem_alloc(&out[k], (size_t)shape_count(&t->g->value[t->out[k]].sh) + 1, sizeof *out[k]));
    c->expect(c, in, out);
    for (int k = 0; k < t->n_out; k++)
        if (!c->want[k].n)
            TRY_DONE(compare(e, t, r, t->out[k], "expected output", k, out[k],
                             shape_count(&t->g->value[t->out[k]].sh) + 1, c->want_tol));
    for (int i = 0; i < t->n_in; i++)
        if (mutated(t, i))
            TRY_DONE(compare(e, t, r, t->in[i], "expected contents of input", i, in[i],
                             shape_count(&t->g->value[t->in[i]].sh) + 1, c->want_tol));
done:
    for (int i = 0; i < OP_CASE_IN; i++)
        mem_free(in[i]);
    for (int k = 0; k < OP_CASE_OUT; k++)
        mem_free(out[k]);
    return st;
}

/* Everything that a run of the float graph makes, against the double run. */
static status check_level(engine *e, const built *t, size_t variant, const op_run *r, const op_run *exact)
{
    const op_case *c = t->c;
    const char *method = variants[variant].method;
    bool winograd = !e->device && variants[variant].layout == LAYOUT_BLOCKED && (!method || strcmp(method, "winograd") == 0);
    winograd = winograd || (e->device && !e->device->untimed && !e->narrow); /* cuDNN has engines of that kind */
    double fwd_tol = c->fwd_tol, bwd_tol = c->bwd_tol;
    if (e->narrow)
        fwd_tol = bwd_tol = e->narrow == DTYPE_F16 ? 1e-2 : 6e-2;
    if (e->narrow && c->narrow_tol > 0)
        fwd_tol = c->narrow_tol * (e->narrow == DTYPE_F16 ? 1 : 8);
    if (winograd && c->winograd_tol > 0)
        fwd_tol = bwd_tol = c->winograd_tol;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < (pass ? t->n_in : t->n_out); i++) {
            value_id v = pass ? t->grad[i] : t->out[i];
            double *want = v ? all_as_double(exact, v) : NULL;
            if (!want)
                continue;
            status st = compare(e, t, r, v, pass ? "gradient" : "output", i, want, exact->g->value[v].sh.rank >= 0 ?
                                shape_count(&exact->g->value[v].sh) : 1, pass ? bwd_tol : fwd_tol);
            mem_free(want);
            TRY(st);
        }
    for (int i = 0; i < t->n_in; i++) {
        double *want = mutated(t, i) ? all_as_double(exact, t->in[i]) : NULL;
        if (!want)
            continue;
        status st = compare(e, t, r, t->in[i], "new contents of input", i, want,
                            shape_count(&exact->g->value[t->in[i]].sh), c->fwd_tol);
        mem_free(want);
        TRY(st);
    }
    return ST_OK;
}

static status check_same(const built *t, const op_run *r, const op_run *first)
{
    for (int k = 0; k < t->n_out; k++)
        TRY(same_bits(t, r, first, t->out[k], "output", k));
    for (int i = 0; i < t->n_in; i++) {
        TRY(same_bits(t, r, first, t->grad[i], "gradient", i));
        if (mutated(t, i))
            TRY(same_bits(t, r, first, t->in[i], "new contents of input", i));
    }
    return ST_OK;
}

/* The real executor on the whole graph. */
static status check_plan(const built *t, const numbers *x, backend *b, const op_run *first)
{
    exec *e = NULL;
    store s = {0};
    void *now = NULL;
    status st = ST_OK;
    TRY_DONE(exec_open(t->g, b, &s, 0, &e));
    for (int k = 0; k < t->n_in + t->n_out; k++) {
        value_id v = k < t->n_in ? t->in[k] : t->weight[k - t->n_in];
        const double *from = k < t->n_in ? x->in[k] : x->weight[k - t->n_in];
        if (!v || (k < t->n_in && t->c->in[k].same_as) || t->g->value[v].kind != VALUE_INPUT)
            continue;
        for (int64_t i = 0; i < shape_count(&t->g->value[v].sh); i++)
            dtype_store(t->g->value[v].type, exec_data(e, v), i, from[i]);
    }
    OK(exec_run(e, PHASE_MAIN));
    for (int k = 0; k < t->n_in + t->n_out + OP_CASE_IN; k++) {
        value_id v = 0;
        if (k < t->n_out)
            v = t->out[k];
        else if (k < t->n_out + t->n_in)
            v = t->grad[k - t->n_out];
        else if (k - t->n_out - t->n_in < t->n_in && mutated(t, k - t->n_out - t->n_in))
            v = t->in[k - t->n_out - t->n_in];
        if (!v || !first->at[v].bytes)
            continue;
        TRY_DONE(mem_grow(&now, first->at[v].bytes, 1));
        TRY_DONE(exec_get(e, v, now, first->at[v].bytes));
        if (memcmp(now, first->at[v].data, first->at[v].bytes) != 0) {
            st = fail(ST_GATE, "value '%s' differs between the executor and a run node by node", t->g->value[v].name);
            goto done;
        }
    }
done:
    mem_free(now);
    exec_close(e);
    store_free(&s);
    return st;
}

/* On a device: the result, the same bits in every order of threads, and the executor's, recorded and replayed. */
static status check_device(engine *e, const built *t, const numbers *x, const op_run *exact)
{
    op_run first = {0}, again = {0};
    status st = ST_OK;
    for (size_t i = 0; i < ORDERS; i++) {
        emulator_order(orders[i].order);
        TRY_DONE(run_all(t, x, e->device, 1, i ? &again : &first));
        if (i == 0)
            TRY_DONE(check_level(e, t, 0, &first, exact));
        else if (check_same(t, &again, &first) != ST_OK)
            TRY_DONE(fail_within(ST_GATE, "threads in %s order", orders[i].name));
        op_run_close(&again);
    }
    st = check_plan(t, x, e->device, &first);
done:
    emulator_order(EMULATOR_FORWARD);
    op_run_close(&again);
    op_run_close(&first);
    return st;
}

static status check_levels(engine *e, const built *t, const numbers *x, const op_run *exact)
{
    op_run first = {0}, again = {0};
    status st = ST_OK;
    for (size_t v = 0; v < VARIANTS; v++) {
        if (!e->b[v])
            continue;
        TRY_DONE(run_all(t, x, e->b[v], 1, &first));
        if (e->b[v]->layout == LAYOUT_PLAIN || first.g->n_node != t->g->n_node) { /* else no node is blocked */
            TRY_DONE(check_level(e, t, v, &first, exact));
            for (int i = 1; i < THREADS; i++) {
                TRY_DONE(run_all(t, x, e->b[v], thread_counts[i], &again));
                TRY_DONE(check_same(t, &again, &first));
                op_run_close(&again);
            }
            TRY_DONE(check_plan(t, x, e->b[v], &first));
        }
        op_run_close(&first);
    }
done:
    op_run_close(&again);
    op_run_close(&first);
    return st;
}

static status check_refused(const op_case *c, const numbers *x)
{
    built t = {0};
    status st = op_case_build(&t, c, x->in);
    graph_free(t.g);
    if (st == ST_OK)
        return fail(ST_GATE, "was accepted; a refusal with '%s' is expected", c->refuse);
    if (st != ST_BAD_DATA || !strstr(status_message(), c->refuse))
        return fail_within(ST_GATE, "refused with status %d where %d and '%s' are expected", (int)st, (int)ST_BAD_DATA,
                           c->refuse);
    return ST_OK;
}

/* Whether some node computes in the backend's narrow type: Reorder nodes stand beside it. */
static status find_narrow(const built *t, const backend *b, bool *found)
{
    graph *g = NULL;
    TRY(graph_share(t->g, &g));
    status st = pass_layout(g, b);
    *found = g->n_node != t->g->n_node;
    graph_free(g);
    return st;
}

static status run_case(engine *e, const op_case *c)
{
    built t = {0}, wide = {0};
    numbers x = {{0}};
    op_run exact = {0};
    bool counts = true;
    status st = ST_OK;
    TRY_DONE(op_case_inputs(c, c->refuse ? DTYPE_NONE : e->narrow, &x)); /* what is refused may lie in the last bits */
    if (c->refuse) {
        st = check_refused(c, &x);
        goto done;
    }
    TRY_DONE(op_case_build(&t, c, x.in));
    if (e->narrow)
        TRY_DONE(find_narrow(&t, e->device, &counts));
    if (!counts)
        goto done;
    TRY_DONE(op_case_build(&wide, c, x.in));
    TRY_DONE(op_case_weights(&t, e->narrow, &x));
    TRY_DONE(pass_to_double(wide.g));
    TRY_DONE(graph_validate(wide.g));
    TRY_DONE(run_all(&wide, &x, e->b[ISA_REF], 1, &exact));
    if (!e->device) { /* what the reference makes is checked once, by the CPU's tests */
        TRY_DONE(check_expected(e, &wide, &x, &exact));
        if (wide.graded)
            TRY_DONE(check_numeric(e, &wide, &exact));
    }
    st = e->device ? check_device(e, &t, &x, &exact) : check_levels(e, &t, &x, &exact);
done:
    op_run_close(&exact);
    for (int i = 0; i < OP_CASE_IN; i++)
        mem_free(x.in[i]);
    for (int k = 0; k < OP_CASE_OUT; k++)
        mem_free(x.weight[k]);
    graph_free(t.g);
    graph_free(wide.g);
    return st;
}

/* ---- families ---- */

static status open_backends(engine *e, const char *family)
{
    for (size_t i = 0; i < VARIANTS; i++) {
        backend_options o = {.threads = 2, .max_isa = variants[i].level, .layout = variants[i].layout,
                             .method = variants[i].method};
        char reason[64];
        TRY(backend_open("cpu", &o, &e->b[i]));
        if (e->b[i]->level == variants[i].level)
            continue;
        backend_close(e->b[i]);
        e->b[i] = NULL;
        snprintf(reason, sizeof reason, "this CPU has no %s", variants[i].name);
        test_skip(family, reason);
    }
    return ST_OK;
}

static void print_errors(const engine *e)
{
    for (int op = 1; op < OP_COUNT; op++) {
        char name[80];
        if (!e->worst[op].seen)
            continue;
        snprintf(name, sizeof name, "%s (%s)", op_of((op_id)op)->name, e->worst[op].what);
        test_max_error(name, e->worst[op].error, e->worst[op].tolerance);
    }
}

/* A device on which something failed is of no use to the next row. */
static status reopen_device(engine *e, const char *device)
{
    const backend_options o = {.threads = 1, .max_isa = ISA_REF, .deterministic = true}; /* every run gives the same bits: engines of
                                                                                          cuDNN that add in any order do not */
    backend_close(e->device);
    e->device = NULL;
    TRY(backend_open(device, &o, &e->device));
    e->device->records_first = true; /* what runs once is to be recorded and replayed too */
    if (!e->narrow)
        return ST_OK;
    TRY(backend_narrow(e->device, e->narrow));
    e->device->layout = e->layout; /* every node that can */
    return ST_OK;
}

static status open_device(engine *e, const char *device)
{
    const backend_options o = {.threads = 1, .max_isa = ISA_REF};
    TRY(backend_open("cpu", &o, &e->b[ISA_REF])); /* makes what is compared with */
    return reopen_device(e, device);
}

static int run_family(const char *family, const op_case *rows, const char *device, dtype narrow, layout_choice layout)
{
    static engine e; /* too large for the stack; every call starts it anew */
    const char *only = getenv("DISTILL_OP_CASE");
    int failed = 0;
    e = (engine){.narrow = narrow, .layout = layout};
    if ((device ? open_device(&e, device) : open_backends(&e, family)) != ST_OK) {
        printf("FAIL %s: %s\n", family, status_message());
        return 1;
    }
    for (const op_case *c = rows; c->op != OP_NONE; c++) {
        if (only && strcmp(only, op_of(c->op)->name) != 0)
            continue;
        if (run_case(&e, c) == ST_OK)
            continue;
        failed++;
        printf("FAIL %s row %d: %s%s%s: %s\n", family, (int)(c - rows), op_of(c->op)->name, c->note ? ", " : "",
               c->note ? c->note : "", status_message());
        fflush(stdout); /* what comes may end the program */
        if (device && reopen_device(&e, device) != ST_OK)
            break;
    }
    print_errors(&e);
    fflush(stdout);
    backend_close(e.device);
    for (size_t i = 0; i < VARIANTS; i++)
        backend_close(e.b[i]);
    return failed;
}

int op_cases_run(const char *family, const op_case *rows, const char *device, dtype narrow)
{
    return run_family(family, rows, device, narrow, LAYOUT_BLOCKED);
}

int op_cases_run_plain(const char *family, const op_case *rows, const char *device, dtype narrow)
{
    return run_family(family, rows, device, narrow, LAYOUT_NARROW);
}

status op_cases_cover(const op_case *rows, bool *seen, bool *graded)
{
    status st = ST_OK;
    for (const op_case *c = rows; c->op != OP_NONE && st == ST_OK; c++) {
        built t = {0};
        numbers x = {{0}};
        if (c->refuse)
            continue;
        st = op_case_inputs(c, DTYPE_NONE, &x);
        if (st == ST_OK)
            st = op_case_build(&t, c, x.in);
        if (st == ST_OK) {
            seen[c->op] = true; /* the loss's own nodes do not count as cases of Mul, Add and ReduceSum */
            graded[c->op] |= t.graded;
            for (size_t k = 1; k < t.g->n_node; k++)
                if (op_of(t.g->node[k].op)->flags & OP_INTERNAL)
                    seen[t.g->node[k].op] = true;
        } else {
            st = fail_within(st, "%s, %s", op_of(c->op)->name, c->note ? c->note : "");
        }
        for (int i = 0; i < OP_CASE_IN; i++)
            mem_free(x.in[i]);
        graph_free(t.g);
    }
    return st;
}
