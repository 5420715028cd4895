/* cmd_inspect.c - `distill inspect MODEL`: what a model is made of. */
#include "cli/cli.h"
#include "distill/frozen.h"
#include "exec/exec.h"
#include "onnx/import.h"
#include "quant/portable.h"
#include "quant/saturate.h"

#include <inttypes.h>
#include <string.h>

typedef struct inspected {
    onnx_model *m;
    graph *g;
    graph_stats stats;
    uint32_t count[OP_COUNT];
    int64_t rows;
    saturation sat;
} inspected;

static void ports_json(json *j, const char *key, const graph *g, const value_id *v, size_t n)
{
    json_put_array(j, key);
    for (size_t i = 0; i < n; i++) {
        const value *x = graph_value(g, v[i]);
        json_put_object(j, NULL);
        json_put_string(j, "name", x->name);
        json_put_string(j, "type", dtype_of(x->type)->name);
        json_put_array(j, "shape");
        for (int k = 0; k < x->sh.rank; k++)
            json_put_int(j, NULL, x->sh.dim[k]);
        json_end_array(j);
        json_end_object(j);
    }
    json_end_array(j);
}

static void as_json(const inspected *x, const portable_report *proof, text *t)
{
    json j = {.out = t};
    json_put_object(&j, NULL);
    json_put_int(&j, "schema", 1);
    json_put_string(&j, "path", x->m->path);
    json_put_string(&j, "sha256", x->m->sha256);
    json_put_int(&j, "bytes", (int64_t)x->m->bytes);
    json_put_int(&j, "batch", x->rows);
    ports_json(&j, "inputs", x->g, x->g->input, x->g->n_input);
    ports_json(&j, "outputs", x->g, x->g->output, x->g->n_output);
    json_put_int(&j, "nodes", (int64_t)x->g->n_node - 1);
    json_put_int(&j, "layers", (int64_t)x->stats.layers);
    json_put_int(&j, "parameters", x->stats.parameters);
    json_put_number(&j, "macs", x->stats.macs);
    json_put_object(&j, "operators");
    for (int op = 1; op < OP_COUNT; op++)
        if (x->count[op])
            json_put_int(&j, op_of((op_id)op)->name, x->count[op]);
    json_end_object(&j);
    if (x->sat.products)
        saturation_json(&x->sat, &j);
    if (proof)
        portable_json(proof, &j);
    json_end_object(&j);
    text_add(t, "\n");
}

static void port_lines(const char *what, const graph *g, const value_id *v, size_t n, text *t)
{
    char buf[200];
    for (size_t i = 0; i < n; i++)
        text_printf(t, "%-10s %s %s %s\n", what, graph_value(g, v[i])->name, dtype_of(graph_value(g, v[i])->type)->name,
                    shape_print(&graph_value(g, v[i])->sh, buf));
}

static void node_lines(const graph *g, text *t)
{
    char buf[200];
    text_add(t, "\nvalues (a hint or an output may name any of them)\n");
    for (size_t k = 1; k < g->n_node; k++) {
        const node *n = graph_node(g, (node_id)k);
        if (!n->n_out || !n->out[0])
            continue;
        const value *y = graph_value(g, n->out[0]);
        text_printf(t, "  %-36s %-20s %-22s", y->name, shape_print(&y->sh, buf), op_of(n->op)->name);
        if (n->attr)
            graph_print_attrs(n, t);
        text_add(t, "\n");
    }
}

/* Of a quantised model: whether its sums are the same on every x86. */
static void saturation_lines(const saturation *s, text *t)
{
    if (!s->products)
        return;
    text_printf(t, "%-10s ", "saturation");
    saturation_print(s, t);
    if (s->may)
        text_printf(t, ": a bound, any two weights of one sign, %" PRId64 " at most, reach %" PRId64 " in '%s'.\n%-10s quant.reduce_range = true "
                       "(weights up to 64), or session.x64quantprecision = 1 in ONNX Runtime, rules it out",
                    (int64_t)SATURATE_PAIR, s->pair, s->where, "");
    text_add(t, "\n");
}

static void as_text(const inspected *x, text *t)
{
    char a[24], b[24], c[24];
    text_printf(t, "%-10s %s, %s, sha256 %s\n", "model", x->m->path, human_bytes((double)x->m->bytes, a), x->m->sha256);
    port_lines("input", x->g, x->g->input, x->g->n_input, t);
    port_lines("output", x->g, x->g->output, x->g->n_output, t);
    text_printf(t, "%-10s %zu, %zu with parameters\n", "nodes", x->g->n_node - 1, x->stats.layers);
    text_printf(t, "%-10s %s, %s multiply-accumulates a sample\n", "parameters",
                human_count((double)x->stats.parameters, b), human_count(x->stats.macs, c));
    text_printf(t, "%-10s", "operators");
    for (int op = 1; op < OP_COUNT; op++)
        if (x->count[op])
            text_printf(t, " %s %u", op_of((op_id)op)->name, x->count[op]);
    text_add(t, "\n");
    saturation_lines(&x->sat, t);
}

/* The model as it runs: after the passes, with times of a run on zeros (the second, so that memory is there). */
static status add_plan(graph *g, text *t)
{
    backend *b = NULL;
    exec *e = NULL;
    backend_options o = {.max_isa = ISA_AVX512};
    status st = ST_OK;
    TRY_DONE(backend_open("cpu", &o, &b));
    TRY_DONE(frozen_passes(g));
    TRY_DONE(exec_open(g, b, NULL, 0, &e));
    TRY_DONE(exec_run(e, PHASE_MAIN));
    exec_set_timing(e, true);
    TRY_DONE(exec_run(e, PHASE_MAIN));
    text_add(t, "\nplan, as a frozen model on ");
    b->describe(b, t);
    text_add(t, "\n");
    plan_print(exec_plan(e), exec_graph(e), exec_timing(e), t);
done:
    exec_close(e);
    backend_close(b);
    return st;
}

status cmd_inspect(cli *c)
{
    inspected x = {0};
    text t = {0};
    portable_report proof = {0};
    status st = ST_OK;
    if (c->o.args.n != 1)
        return fail(ST_USAGE, "which model? distill inspect MODEL");
    import_options o = {.batch = c->o.batch};
    TRY_DONE(onnx_open(c->o.args.at[0], NULL, &x.m));
    TRY_DONE(onnx_import(x.m, &o, &x.g));
    const shape *in = x.g->n_input ? &graph_value(x.g, x.g->input[0])->sh : NULL;
    x.rows = in && in->rank ? in->dim[0] : 1;
    x.stats = graph_measure(x.g, x.rows);
    for (size_t k = 1; k < x.g->n_node; k++)
        x.count[graph_node(x.g, (node_id)k)->op]++;
    x.sat = saturation_measure(x.g);
    if (c->o.portable)
        TRY_DONE(portable_check(x.g, PROFILE_NONE, &proof));
    if (c->o.json) {
        as_json(&x, c->o.portable ? &proof : NULL, &t);
    } else {
        as_text(&x, &t);
        if (c->o.nodes)
            node_lines(x.g, &t);
        if (c->o.plan)
            TRY_DONE(add_plan(x.g, &t));
        if (c->o.portable)
            portable_print(&proof, &t);
    }
    st = cli_print(&t);
    if (st == ST_OK && proof.n_fault)
        st = fail(ST_GATE, "%s: not portable: %s: %s (rule %d)", x.m->path, proof.fault[0].node, proof.fault[0].what,
                  proof.fault[0].rule);
done:
    portable_free(&proof);
    text_free(&t);
    graph_free(x.g);
    onnx_close(x.m);
    return st;
}
