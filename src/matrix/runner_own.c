/* runner_own.c - our own executor as an engine: quantised models run on integers. */
#include "distill/frozen.h"
#include "exec/backend.h"
#include "matrix/runner.h"
#include "onnx/import.h"

#include <unistd.h>

typedef struct own_net {
    frozen_net net;
    backend *b;
} own_net;

static status own_open(runner_facts *f, void **lib)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    f->runtime = "distill";
    f->version = DISTILL_VERSION;
    f->provider = "cpu";
    *lib = NULL;
    if (n <= 0)
        return fail(ST_UNAVAILABLE, "the program cannot find itself in /proc");
    path[n] = 0;
    return runner_file_build(path, &f->mem, &f->build);
}

static void own_close(void *lib)
{
    (void)lib;
}

static void own_unload(runner_net *net)
{
    own_net *o = net->ctx;
    frozen_close(&o->net);
    backend_close(o->b);
    mem_free(o);
}

static status import_model(const runner_request *r, size_t batch, graph **g)
{
    onnx_model *m = NULL;
    import_options o = {.batch = (int64_t)batch, .outputs = r->output_name ? &r->output_name : NULL, .n_outputs = r->output_name ? 1 : 0};
    status st = onnx_open(r->model, NULL, &m);
    if (st == ST_OK)
        st = onnx_import(m, &o, g);
    if (st == ST_CONFIG) { /* a file with a fixed batch keeps it */
        o.batch = 0;
        st = onnx_import(m, &o, g);
    }
    if (st == ST_OK)
        (*g)->n_output = 1;
    onnx_close(m);
    return st;
}

static status own_load(void *lib, const runner_request *r, size_t batch, runner_net *net)
{
    own_net *o;
    graph *g = NULL;
    const backend_options bo = {.threads = r->threads, .max_isa = ISA_AVX512};
    status st = ST_OK;
    (void)lib;
    TRY(mem_alloc(&o, 1, sizeof *o));
    net->ctx = o;
    TRY_DONE(backend_open("cpu", &bo, &o->b));
    TRY_DONE(import_model(r, batch, &g));
    TRY_DONE(frozen_open(g, o->b, 0, &o->net));
    g = o->net.g;
    net->batch = o->net.batch;
    net->n_in = g->n_input;
    for (size_t i = 0; i < g->n_input; i++) {
        const value *v = graph_value(g, g->input[i]);
        net->in[i] = (tensor){.name = (char *)(uintptr_t)v->name, .type = v->type, .sh = v->sh, .data = exec_data(o->net.e, g->input[i])};
    }
    const value *y = graph_value(g, g->output[0]);
    net->out = (tensor){.name = (char *)(uintptr_t)y->name, .type = y->type, .sh = y->sh, .data = exec_data(o->net.e, g->output[0])};
    net->nodes = (int64_t)exec_graph(o->net.e)->n_node;
done:
    if (st != ST_OK)
        own_unload(net);
    return st;
}

static status own_run(runner_net *net)
{
    own_net *o = net->ctx;
    exec_run(o->net.e, PHASE_MAIN);
    return ST_OK;
}

const runner_engine runner_own = {"own", own_open, own_close, own_load, own_run, own_unload};
