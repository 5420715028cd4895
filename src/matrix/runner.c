/* runner.c - reads the request, feeds the engine by batches, times it, writes the outputs, answers. See runner.h. */
#include "matrix/runner.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/io.h"
#include "data/npy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_MAX   65536
#define SAMPLES_MAX 100000000
#define RUNS_MAX    100000
#define LEAST_RUNS  5
#define CYCLE       8 /* different samples in turn, for times */

const runner_engine *runner_find(const char *name)
{
    static const runner_engine *const all[] = {&runner_own, &runner_ort, &runner_openvino};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i]->name, name) == 0)
            return all[i];
    return NULL;
}

/* ---- identity ---- */

typedef struct chain { /* each piece is hashed with the hash of those before it */
    uint64_t h[2];
    uint64_t bytes;
} chain;

static status chain_take(const void *data, size_t n, void *ctx)
{
    chain *c = ctx;
    c->h[1] = hash_xxh3(data, n);
    c->h[0] = hash_xxh3(c->h, sizeof c->h);
    c->bytes += n;
    return ST_OK;
}

status runner_file_build(const char *path, arena *mem, const char **out)
{
    chain c = {0};
    TRY(io_read_chunks(path, chain_take, &c));
    const char *name = strrchr(path, '/');
    return arena_printf(mem, out, "%s, %llu bytes, xxh3 %016llx", name ? name + 1 : path, (unsigned long long)c.bytes,
                        (unsigned long long)c.h[0]);
}

/* ---- the request ---- */

static size_t get_count(json_in *j, json_t *o, const char *key, size_t unknown, size_t most)
{
    int64_t v = json_in_int(j, o, key, (int64_t)unknown);
    if (v < 1 || (uint64_t)v > most) {
        json_in_fail(j, "'%s' is %lld; 1 to %zu is possible", key, (long long)v, most);
        return 1;
    }
    return (size_t)v;
}

static void get_latency(json_in *j, runner_request *r)
{
    json_t *o = json_in_object(j, j->root, "latency");
    if (!o)
        return;
    r->latency.wanted = true;
    r->latency.batch = get_count(j, o, "batch", 1, BATCH_MAX);
    r->latency.warmup = (size_t)json_in_int(j, o, "warmup", 5);
    r->latency.runs = get_count(j, o, "runs", 100, RUNS_MAX);
    r->latency.seconds = json_in_number(j, o, "seconds");
    if (!(r->latency.seconds > 0))
        r->latency.seconds = 1;
    if (r->latency.warmup > RUNS_MAX)
        json_in_fail(j, "'warmup' is out of range");
}

static status get_inputs(json_in *j, arena *mem, runner_request *r)
{
    json_t *a = json_in_array(j, j->root, "inputs", &r->n_in);
    if (r->n_in < 1 || r->n_in > RUNNER_INPUTS)
        json_in_fail(j, "'inputs' has %zu elements; 1 to %d are possible", r->n_in, RUNNER_INPUTS);
    for (size_t i = 0; i < r->n_in && j->st == ST_OK; i++) {
        json_t *o = json_array_get(a, i);
        r->in[i].name = json_is_object(o) ? json_in_string(j, mem, o, "name") : NULL;
        r->in[i].file = json_is_object(o) ? json_in_string(j, mem, o, "file") : NULL;
        if (!r->in[i].name || !r->in[i].file)
            json_in_fail(j, "'inputs': 'name' and 'file' are needed");
    }
    return j->st;
}

static status get_request(json_in *j, arena *mem, runner_request *r)
{
    int64_t protocol = json_in_int(j, j->root, "protocol", 0);
    *r = (runner_request){.describe = json_in_bool(j, j->root, "describe", false)};
    if (protocol != RUNNER_PROTOCOL)
        json_in_fail(j, "protocol %lld; this runner speaks %d", (long long)protocol, RUNNER_PROTOCOL);
    json_t *options = json_in_object(j, j->root, "options");
    r->level = json_in_string(j, mem, options, "level");
    r->precise = json_in_bool(j, options, "prec", false);
    r->device = json_in_string(j, mem, options, "device");
    r->precision = json_in_string(j, mem, options, "precision");
    if (r->describe || j->st != ST_OK)
        return j->st;
    r->model = json_in_string(j, mem, j->root, "model");
    r->output = json_in_string(j, mem, j->root, "output");
    r->output_name = json_in_string(j, mem, j->root, "output_name");
    r->samples = get_count(j, j->root, "samples", 0, SAMPLES_MAX);
    r->batch = get_count(j, j->root, "batch", 1, BATCH_MAX);
    r->threads = (int)get_count(j, j->root, "threads", 1, 1024);
    get_latency(j, r);
    if (!r->model || !r->output)
        json_in_fail(j, "'model' and 'output' are needed");
    return get_inputs(j, mem, r);
}

/* ---- rows in, rows out ---- */

typedef struct job_arrays { /* the request's files; they are read as they are needed, so that the process's memory is the engine's */
    npy_rows x[RUNNER_INPUTS];
    size_t n;
    void *part; /* rows of one file in its type, where the model wants another one */
    size_t room;
} job_arrays;

static status open_inputs(const runner_request *r, job_arrays *a)
{
    const limits lim = limits_default();
    while (a->n < r->n_in) {
        npy_rows *x = &a->x[a->n++];
        TRY(npy_rows_open(r->in[a->n - 1].file, &lim, x));
        if ((uint64_t)x->sh.dim[0] < r->samples)
            return fail(ST_BAD_DATA, "%s: fewer rows than the %zu that are asked for", x->path, r->samples);
    }
    return ST_OK;
}

static void close_inputs(job_arrays *a)
{
    for (size_t i = 0; i < a->n; i++)
        npy_rows_close(&a->x[i]);
    mem_free(a->part);
}

/* The file of input i of the net: by name, else, with one input, that one. */
static status match_input(const runner_request *r, const job_arrays *a, const runner_net *net, size_t i, const npy_rows **out)
{
    char want[200], got[200];
    const tensor *in = &net->in[i];
    size_t k = 0;
    while (k < r->n_in && strcmp(r->in[k].name, in->name) != 0)
        k++;
    if (k == r->n_in && r->n_in == 1 && net->n_in == 1)
        k = 0;
    if (k == r->n_in)
        return fail(ST_BAD_DATA, "%s: the model's input '%s' is not given", r->model, in->name);
    *out = &a->x[k];
    bool fits = a->x[k].sh.rank == in->sh.rank;
    for (int d = 1; fits && d < in->sh.rank; d++)
        fits = a->x[k].sh.dim[d] == in->sh.dim[d];
    return fits ? ST_OK : fail(ST_BAD_DATA, "%s: input '%s' is %s, the file holds %s", r->model, in->name,
                               shape_print(&in->sh, want), shape_print(&a->x[k].sh, got));
}

/* Rows [first, first + n) into the net's memory; rows beyond are the last one again. */
static status put_rows(job_arrays *a, const npy_rows *x, tensor *in, int64_t batch, size_t first, size_t n)
{
    const size_t each = (size_t)(shape_count(&in->sh) / batch), row = each * dtype_of(in->type)->size;
    if (in->type == x->type) {
        TRY(npy_rows_read(x, first, n, in->data));
    } else {
        if (a->room < n * x->row) {
            mem_free(a->part);
            a->part = NULL;
            a->room = 0;
            TRY(mem_alloc(&a->part, n * x->row, 1));
            a->room = n * x->row;
        }
        TRY(npy_rows_read(x, first, n, a->part));
        const tensor got = {.type = x->type, .data = a->part};
        for (size_t i = 0; i < n * each; i++)
            dtype_store(in->type, in->data, (int64_t)i, tensor_at(&got, (int64_t)i));
    }
    for (size_t i = n; i < (size_t)batch; i++)
        memcpy((char *)in->data + i * row, (const char *)in->data + (n - 1) * row, row);
    return ST_OK;
}

static status put_inputs(const runner_request *r, job_arrays *a, runner_net *net, size_t first, size_t n)
{
    for (size_t i = 0; i < net->n_in; i++) {
        const npy_rows *x;
        TRY(match_input(r, a, net, i, &x));
        TRY(put_rows(a, x, &net->in[i], net->batch, first, n));
    }
    return ST_OK;
}

/* All samples; *y is made by the first batch. Seconds are those inside the engine. */
static status run_all(const runner_engine *e, const runner_request *r, job_arrays *a, runner_net *net, tensor *y, double *seconds)
{
    size_t step = (size_t)net->batch, row = 0;
    for (size_t at = 0; at < r->samples; at += step) {
        size_t n = r->samples - at < step ? r->samples - at : step;
        TRY(put_inputs(r, a, net, at, n));
        double began = clock_seconds();
        TRY(e->run(net));
        *seconds += clock_seconds() - began;
        if (!y->data) {
            shape sh = net->out.sh;
            if (sh.rank < 1 || sh.dim[0] != net->batch)
                return fail(ST_BAD_DATA, "%s: its output has no dimension for samples", r->model);
            sh.dim[0] = (int64_t)r->samples;
            TRY(tensor_new(y, NULL, net->out.type, sh));
            row = tensor_bytes(y) / r->samples;
        }
        memcpy((char *)y->data + at * row, net->out.data, n * row);
    }
    return ST_OK;
}

static status time_runs(const runner_engine *e, const runner_request *r, job_arrays *a, runner_net *net, double *ms, size_t *n)
{
    size_t rows = (size_t)net->batch, cycle = r->samples / rows < CYCLE ? r->samples / rows : CYCLE;
    double end = 0;
    for (size_t i = 0; i < r->latency.warmup + r->latency.runs; i++) {
        size_t at = cycle ? i % cycle * rows : 0, used = r->samples - at < rows ? r->samples - at : rows;
        TRY(put_inputs(r, a, net, at, used));
        double began = clock_seconds();
        end = end > 0 ? end : began + r->latency.seconds;
        if (*n >= LEAST_RUNS && began > end)
            break;
        TRY(e->run(net));
        if (i >= r->latency.warmup)
            ms[(*n)++] = (clock_seconds() - began) * 1e3;
    }
    return ST_OK;
}

/* ---- the answer ---- */

static double peak_mb(void)
{
    char s[4096];
    io_read_system("/proc/self/status", s, sizeof s);
    const char *at = strstr(s, "VmHWM:");
    return at ? (double)strtoll(at + 6, NULL, 10) / 1024 : 0;
}

static void put_facts(json *j, const runner_facts *f)
{
    char device[64];
    json_put_int(j, "protocol", RUNNER_PROTOCOL);
    json_put_bool(j, "ok", true);
    json_put_string(j, "runtime", f->runtime);
    json_put_string(j, "version", f->version);
    json_put_string(j, "build", f->build);
    json_put_string(j, "device", f->device ? f->device : runner_cpu_name(device, sizeof device));
    json_put_string(j, "isa", f->isa ? f->isa : runner_cpu_isa());
}

static void put_refusal(text *answer, const char *kind, const char *message)
{
    json j = {.out = answer};
    json_put_object(&j, NULL);
    json_put_int(&j, "protocol", RUNNER_PROTOCOL);
    json_put_bool(&j, "ok", false);
    json_put_string(&j, "kind", kind);
    json_put_string(&j, "message", message);
    json_end_object(&j);
}

static const char *kind_of(status st, const char *message)
{
    static const char *const words[] = {"not supported", "has no kernel for", "NOT_IMPLEMENTED", "not implemented", "Could not find an implementation",
                                        "unsupported"};
    if (st == ST_UNAVAILABLE)
        return "missing";
    if (st == ST_OOM)
        return "memory";
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strstr(message, words[i]))
            return "unsupported";
    return "error";
}

typedef struct measured {
    tensor y;
    double load_ms, run_s, *ms;
    size_t n_ms;
    int64_t nodes;
} measured;

static status measure(const runner_engine *e, void *lib, const runner_request *r, measured *m)
{
    job_arrays a = {0};
    runner_net net = {0};
    bool loaded = false;
    status st = ST_OK;
    TRY_DONE(open_inputs(r, &a));
    double began = clock_seconds();
    TRY_DONE(e->load(lib, r, r->batch, &net));
    loaded = true;
    m->load_ms = (clock_seconds() - began) * 1e3;
    m->nodes = net.nodes;
    TRY_DONE(run_all(e, r, &a, &net, &m->y, &m->run_s));
    if (r->latency.wanted) {
        TRY_DONE(mem_alloc(&m->ms, r->latency.runs, sizeof *m->ms));
        if (net.batch != (int64_t)r->latency.batch) {
            e->unload(&net);
            loaded = false;
            net = (runner_net){0};
            TRY_DONE(e->load(lib, r, r->latency.batch, &net));
            loaded = true;
        }
        TRY_DONE(time_runs(e, r, &a, &net, m->ms, &m->n_ms));
    }
    st = npy_write(r->output, &m->y);
done:
    if (loaded)
        e->unload(&net);
    close_inputs(&a);
    return st;
}

static void put_measured(json *j, const runner_facts *f, const measured *m)
{
    json_put_string(j, "type", dtype_of(m->y.type)->name);
    json_put_array(j, "shape");
    for (int i = 0; i < m->y.sh.rank; i++)
        json_put_int(j, NULL, m->y.sh.dim[i]);
    json_end_array(j);
    json_put_array(j, "providers");
    if (f->provider) {
        json_put_object(j, NULL);
        json_put_string(j, "name", f->provider);
        if (m->nodes >= 0)
            json_put_int(j, "nodes", m->nodes);
        json_end_object(j);
    }
    json_end_array(j);
    json_put_number(j, "load_ms", m->load_ms);
    json_put_number(j, "run_s", m->run_s);
    json_put_array(j, "latency_ms");
    for (size_t i = 0; i < m->n_ms; i++)
        json_put_number(j, NULL, m->ms[i]);
    json_end_array(j);
    json_put_number(j, "peak_mb", peak_mb());
    json_put_array(j, "notes");
    if (f->note)
        json_put_string(j, NULL, f->note);
    json_end_array(j);
}

static status serve(const runner_engine *e, const runner_request *r, text *answer)
{
    runner_facts f = {0};
    measured m = {0};
    void *lib = NULL;
    json j = {.out = answer};
    status st = ST_OK;
    TRY_DONE(e->open(r, &f, &lib));
    if (!r->describe)
        TRY_DONE(measure(e, lib, r, &m));
    json_put_object(&j, NULL);
    put_facts(&j, &f);
    if (r->describe) {
        json_put_array(&j, "forms");
        json_put_string(&j, NULL, "onnx");
        json_end_array(&j);
    } else {
        put_measured(&j, &f, &m);
    }
    json_end_object(&j);
    st = answer->st;
done:
    tensor_free(&m.y);
    mem_free(m.ms);
    if (lib)
        e->close(lib);
    arena_free(&f.mem);
    return st;
}

status runner_answer(const runner_engine *e, const char *line, size_t n, text *answer)
{
    json_in j = {0};
    arena mem = {0};
    runner_request r;
    char message[4096];
    status st = json_in_parse(&j, "request", line, n, limits_default().json_depth);
    if (st == ST_OK)
        st = get_request(&j, &mem, &r);
    if (st == ST_OK)
        st = serve(e, &r, answer);
    if (st != ST_OK) {
        snprintf(message, sizeof message, "%s", status_message());
        put_refusal(answer, kind_of(st, message), message);
    }
    json_in_close(&j);
    arena_free(&mem);
    return answer->st;
}
