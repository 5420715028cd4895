/* runner_own.c - our own executor as an engine: quantised models run on integers, float ones in float32 or, where that is asked, with
 * their matrix products in bfloat16; on the device that is asked. */
#include "distill/frozen.h"
#include "exec/backend.h"
#include "matrix/runner.h"
#include "onnx/import.h"
#include "ops/qdq.h"

#include <string.h>
#include <unistd.h>

typedef struct own_lib {
    backend *b;
    runner_facts *facts; /* borrowed: what load finds out of the model is noted there */
    bool bf16;
} own_lib;

typedef struct own_net {
    frozen_net net;
} own_net;

/* ---- the executor ---- */

/* What a device other than the processor calls itself, and what bits of its results depend on. */
static status say_device(const backend *b, runner_facts *f)
{
    text said = {0};
    b->describe(b, &said);
    status st = said.st == ST_OK ? arena_strdup(&f->mem, &f->device, said.s ? said.s : b->name) : said.st;
    text_free(&said);
    TRY(st);
    b->identify(b, &said);
    st = said.st == ST_OK ? arena_strdup(&f->mem, &f->isa, said.s ? said.s : b->name) : said.st;
    text_free(&said);
    return st;
}

static status say_program(runner_facts *f)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0)
        return fail(ST_UNAVAILABLE, "the program cannot find itself in /proc");
    path[n] = 0;
    f->runtime = "distill";
    f->version = DISTILL_VERSION;
    return runner_file_build(path, &f->mem, &f->build);
}

static void own_close(void *lib)
{
    own_lib *l = lib;
    backend_close(l->b);
    mem_free(l);
}

static status own_open(const runner_request *r, runner_facts *f, void **lib)
{
    const char *device = r->device ? r->device : "cpu";
    const backend_options bo = {.threads = r->threads, .max_isa = ISA_AVX512};
    own_lib *l;
    status st = ST_OK;
    TRY(mem_alloc(&l, 1, sizeof *l));
    l->facts = f;
    l->bf16 = r->precision && strcmp(r->precision, "bf16") == 0;
    if (r->precision && !l->bf16) {
        st = fail(ST_USAGE, "option precision is '%s'; bf16 is known", r->precision);
        goto done;
    }
    TRY_DONE(say_program(f));
    TRY_DONE(backend_open(device, &bo, &l->b));
    TRY_DONE(arena_strdup(&f->mem, &f->provider, l->b->name));
    if (strcmp(l->b->name, "cpu") != 0)
        TRY_DONE(say_device(l->b, f));
    else if (l->bf16 && backend_has_bf16(l->b))
        f->isa = "avx512_bf16";
done:
    if (st == ST_OK)
        *lib = l;
    else
        own_close(l);
    return st;
}

/* ---- bfloat16 ---- */

/* Before anything is planned: what would not be what the row says is refused. */
static status check_bf16(const own_lib *l, const runner_request *r, const graph *g)
{
    if (!backend_has_bf16(l->b))
        return fail(ST_BAD_DATA, "fast products in bfloat16 are not supported by this processor (AVX512-BF16 has them)");
    for (node_id i = 1; i < g->n_node; i++)
        if (qdq_is_quantize(graph_node(g, i)))
            return fail(ST_BAD_DATA, "%s: bfloat16 is not supported for integer models: their products run on integers (row own)", r->model);
    return ST_OK;
}

/* After it: how much of the model's arithmetic is in bfloat16. None: refused, or it would be float32 under another name. */
static status note_bf16(const own_lib *l, const runner_request *r, const exec *e)
{
    const graph *g = exec_graph(e);
    const plan *p = exec_plan(e);
    size_t products = 0, narrow = 0;
    double all = 0, in_bf16 = 0;
    for (node_id i = 1; i < g->n_node; i++) {
        const node *n = graph_node(g, i);
        double macs = op_of(n->op)->macs ? op_of(n->op)->macs(g, n) : 0;
        if (!(macs > 0))
            continue;
        bool is = linear_is_bf16(n) && p->kernel[i] && (l->b->queue || p->kernel[i]->level != ISA_REF);
        products++;
        narrow += is;
        all += macs;
        in_bf16 += is ? macs : 0;
    }
    if (!narrow)
        return fail(ST_BAD_DATA, "%s: none of its %zu products runs in bfloat16, which is not supported for convolutions and for products of "
                    "two computed operands", r->model, products);
    return arena_printf(&l->facts->mem, &l->facts->note, "bfloat16 in %zu of %zu products (%.3g %% of the multiplications), their sums in float32; %s",
                        narrow, products, 100 * in_bf16 / all, narrow < products ? "the others, convolutions among them, in float32" : "all else in float32");
}

/* ---- a model ---- */

static void own_unload(runner_net *net)
{
    own_net *o = net->ctx;
    frozen_close(&o->net);
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
    const own_lib *l = lib;
    own_net *o;
    graph *g = NULL;
    status st = ST_OK;
    TRY(mem_alloc(&o, 1, sizeof *o));
    net->ctx = o;
    TRY_DONE(import_model(r, batch, &g));
    st = l->bf16 ? check_bf16(l, r, g) : ST_OK;
    if (st != ST_OK) {
        graph_free(g);
        goto done;
    }
    TRY_DONE(frozen_open_in(g, l->b, 0, &(frozen_rounding){.bf16 = l->bf16}, &o->net));
    if (l->bf16)
        TRY_DONE(note_bf16(l, r, o->net.e));
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
    TRY(exec_run(o->net.e, PHASE_MAIN));
    return ST_OK;
}

const runner_engine runner_own = {"own", own_open, own_close, own_load, own_run, own_unload};
