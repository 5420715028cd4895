/* runner_ort.c - ONNX Runtime by its C interface (deploy/ort.h); DISTILL_ORT names another library than the usual one. */
#include "base/io.h"
#include "deploy/ort.h"
#include "matrix/runner.h"
#include "onnx/model.h"
#include "onnx/wire.h"
#include "onnx.pb-c.h"

#include <stdlib.h>
#include <string.h>

typedef struct ort_net {
    ort_session *s;
    ort_call *call;
    tensor out;
} ort_net;

static status open_lib(const runner_request *r, runner_facts *f, void **lib)
{
    ort_lib *l = NULL;
    (void)r;
    TRY(ort_open(NULL, &l));
    *lib = l;
    f->runtime = "ONNX Runtime";
    f->version = ort_version(l);
    f->provider = "CPUExecutionProvider";
    status st = runner_file_build(ort_path(l), &f->mem, &f->build);
    if (st != ST_OK)
        ort_close(l);
    return st;
}

static void close_lib(void *lib)
{
    ort_close(lib);
}

static void unload(runner_net *net)
{
    ort_net *o = net->ctx;
    ort_call_free(o->call);
    ort_session_close(o->s);
    for (size_t i = 0; i < net->n_in; i++)
        tensor_free(&net->in[i]);
    tensor_free(&o->out);
    mem_free(o);
}

/* The graph that runs was written to `path` for counting; that it cannot be read costs only the count. */
static int64_t count_nodes(const char *path)
{
    onnx_model *m = NULL;
    int64_t n = -1;
    if (onnx_open(path, NULL, &m) == ST_OK)
        n = (int64_t)m->proto->graph->n_node;
    status_clear();
    onnx_close(m);
    return n;
}

static status open_session(ort_lib *lib, const runner_request *r, ort_net *o, int64_t *nodes)
{
    arena mem = {0};
    ort_options oo = {.threads = r->threads, .precise = r->precise, .basic = r->level && strcmp(r->level, "basic") == 0,
                      .no_optimizing = r->level && strcmp(r->level, "none") == 0};
    status st = arena_printf(&mem, &oo.optimized, "%s.graph.onnx", r->output);
    if (st == ST_OK)
        st = ort_session_open(lib, r->model, &oo, &o->s);
    if (st == ST_OK)
        *nodes = count_nodes(oo.optimized);
    if (oo.optimized && io_remove(oo.optimized) != ST_OK)
        status_clear();
    arena_free(&mem);
    return st;
}

static status make_inputs(const ort_net *o, size_t batch, runner_net *net)
{
    char said[200];
    if (ort_input_count(o->s) > RUNNER_INPUTS)
        return fail(ST_BAD_DATA, "a model with %zu inputs is not supported", ort_input_count(o->s));
    net->batch = (int64_t)batch;
    for (size_t i = 0; i < ort_input_count(o->s); i++)
        if (ort_input(o->s, i)->sh.rank > 0 && ort_input(o->s, i)->sh.dim[0] > 0)
            net->batch = ort_input(o->s, i)->sh.dim[0];
    for (; net->n_in < ort_input_count(o->s); net->n_in++) {
        const ort_port *p = ort_input(o->s, net->n_in);
        shape sh = p->sh;
        sh.dim[0] = net->batch;
        for (int d = 0; d < sh.rank; d++)
            if (sh.dim[d] < 1 || sh.rank < 1)
                return fail(ST_BAD_DATA, "input '%s' has shape %s; only the first dimension may be open", p->name,
                            shape_print(&p->sh, said));
        TRY(tensor_new(&net->in[net->n_in], p->name, p->type, sh));
    }
    return ST_OK;
}

/* The first run tells the output's shape; then everything is bound. */
static status bind(const runner_request *r, ort_net *o, runner_net *net)
{
    tensor_list first = {0};
    const size_t n = ort_output_count(o->s);
    size_t k = 0;
    while (r->output_name && k < n && strcmp(ort_output(o->s, k)->name, r->output_name) != 0)
        k++;
    if (k == n)
        return fail(ST_BAD_DATA, "%s: there is no output '%s'", r->model, r->output_name ? r->output_name : "");
    status st = ort_run(o->s, net->in, net->n_in, &first);
    if (st == ST_OK)
        st = tensor_new(&o->out, first.at[k].name, first.at[k].type, first.at[k].sh);
    tensor_list_free(&first);
    TRY(st);
    net->out = o->out;
    return ort_call_make(o->s, net->in, net->n_in, &o->out, 1, &o->call);
}

static status load(void *lib, const runner_request *r, size_t batch, runner_net *net)
{
    ort_net *o;
    status st = ST_OK;
    TRY(mem_alloc(&o, 1, sizeof *o));
    net->ctx = o;
    net->nodes = -1;
    TRY_DONE(open_session(lib, r, o, &net->nodes));
    TRY_DONE(make_inputs(o, batch, net));
    TRY_DONE(bind(r, o, net));
done:
    if (st != ST_OK)
        unload(net);
    return st;
}

static status run(runner_net *net)
{
    return ort_call_run(((ort_net *)net->ctx)->call);
}

const runner_engine runner_ort = {"ort", open_lib, close_lib, load, run, unload};
