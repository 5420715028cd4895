/* cell_run.c - asks a runner and believes nothing that it says. See cell_run.h. */
#include "matrix/cell_run.h"
#include "base/io.h"
#include "base/json_in.h"
#include "base/limits.h"
#include "data/npy.h"
#include "deploy/compare.h"
#include "matrix/runner.h"

#include <math.h>
#include <string.h>

#define LATENCIES_MAX 100000
#define WARM_RUNS     5

/* ---- the request ---- */

static status put_request(const cell_job *j, text *t)
{
    json r = {.out = t};
    json_put_object(&r, NULL);
    json_put_int(&r, "protocol", RUNNER_PROTOCOL);
    json_put_string(&r, "model", j->model);
    json_put_array(&r, "inputs");
    for (size_t i = 0; i < j->file->n_in; i++) {
        json_put_object(&r, NULL);
        json_put_string(&r, "name", j->file->in[i].name);
        json_put_string(&r, "file", j->inputs[i]);
        json_end_object(&r);
    }
    json_end_array(&r);
    json_put_string(&r, "output", j->output);
    json_put_string(&r, "output_name", j->file->output);
    json_put_int(&r, "samples", (int64_t)j->samples);
    json_put_int(&r, "batch", (int64_t)j->batch);
    json_put_int(&r, "threads", j->threads);
    if (j->latency) {
        json_put_object(&r, "latency");
        json_put_int(&r, "batch", 1);
        json_put_int(&r, "warmup", WARM_RUNS);
        json_put_int(&r, "runs", j->latency_runs);
        json_put_number(&r, "seconds", j->latency_seconds);
        json_end_object(&r);
    } else {
        json_put_string(&r, "latency", NULL);
    }
    if (j->kept)
        json_put_bool(&r, "more", true);
    text_printf(t, ",\"options\":{%s}", j->row->options ? j->row->options : "");
    json_end_object(&r);
    return t->st;
}

/* ---- the answer ---- */

static status failed(arena *mem, matrix_cell *c, cell_state state, const char *why)
{
    c->state = state;
    return arena_strdup(mem, &c->reason, why);
}

static status take_refusal(const cell_job *of, json_in *j, arena *mem, matrix_cell *c)
{
    const char *kind = json_in_string(j, mem, j->root, "kind"), *message = json_in_string(j, mem, j->root, "message");
    TRY(j->st);
    kind = kind ? kind : "error";
    c->peak_mb = (double)NAN; /* of a process that ran nothing */
    message = message ? message : "no reason given";
    const size_t path = strlen(of->model); /* the cell says which file it is */
    message += strncmp(message, of->model, path) == 0 && strncmp(message + path, ": ", 2) == 0 ? path + 2 : 0;
    if (strcmp(kind, "missing") == 0)
        return failed(mem, c, CELL_NOT_RUN, message);
    if (strcmp(kind, "unsupported") == 0)
        return failed(mem, c, CELL_UNSUPPORTED, message);
    return failed(mem, c, CELL_CRASH, message);
}

static status take_providers(json_in *j, arena *mem, matrix_cell *c)
{
    text t = {0};
    size_t n;
    json_t *a = json_in_array(j, j->root, "providers", &n);
    for (size_t i = 0; a && i < n && i < 16; i++) {
        json_t *o = json_array_get(a, i);
        const char *name = json_is_object(o) ? json_in_string(j, mem, o, "name") : NULL;
        int64_t nodes = name ? json_in_int(j, o, "nodes", -1) : -1;
        if (!name)
            continue;
        text_printf(&t, "%s%.80s", t.n ? ", " : "", name);
        if (nodes >= 0)
            text_printf(&t, " %lld", (long long)nodes);
    }
    status st = t.st;
    if (st == ST_OK && t.n)
        st = arena_strdup(mem, &c->providers, t.s);
    text_free(&t);
    return st;
}

static status take_notes(json_in *j, arena *mem, matrix_cell *c)
{
    text t = {0};
    size_t n;
    json_t *a = json_in_array(j, j->root, "notes", &n);
    for (size_t i = 0; a && i < n && i < 32; i++) {
        const char *note = json_string_value(json_array_get(a, i));
        if (note)
            text_printf(&t, "%s%.400s", t.n ? "; " : "", note);
    }
    status st = t.st;
    if (st == ST_OK && t.n)
        st = arena_strdup(mem, &c->notes, t.s);
    text_free(&t);
    return st;
}

static status take_latency(json_in *j, arena *mem, matrix_cell *c)
{
    double *ms, *sorted;
    size_t n, used = 0;
    json_t *a = json_in_array(j, j->root, "latency_ms", &n);
    if (!a || n == 0)
        return ST_OK;
    if (n > LATENCIES_MAX)
        json_in_fail(j, "'latency_ms' has %zu elements; %d are possible", n, LATENCIES_MAX);
    TRY(j->st);
    TRY(arena_alloc(mem, &ms, n, sizeof *ms));
    TRY(arena_alloc(mem, &sorted, n, sizeof *sorted));
    for (size_t i = 0; i < n; i++) {
        json_t *v = json_array_get(a, i);
        if (!json_is_number(v) || !(json_number_value(v) >= 0))
            json_in_fail(j, "'latency_ms' must hold times");
        else
            ms[used++] = json_number_value(v);
    }
    memcpy(sorted, ms, used * sizeof *ms);
    const latency l = latency_of(sorted, used);
    c->latency_ms = ms;
    c->n_latency = used;
    c->p50_ms = l.p50;
    c->p90_ms = l.p90;
    c->p99_ms = l.p99;
    return j->st;
}

static status take_result(const cell_job *of, json_in *j, arena *mem, matrix_cell *c)
{
    double run_s = json_in_number(j, j->root, "run_s");
    c->engine = json_in_string(j, mem, j->root, "runtime");
    c->version = json_in_string(j, mem, j->root, "version");
    c->build = json_in_string(j, mem, j->root, "build");
    c->device = json_in_string(j, mem, j->root, "device");
    c->isa = json_in_string(j, mem, j->root, "isa");
    c->load_ms = json_in_number(j, j->root, "load_ms");
    c->throughput = run_s > 0 ? (double)of->samples / run_s : (double)NAN;
    double peak = json_in_number(j, j->root, "peak_mb");
    c->peak_mb = peak > 0 ? peak : c->peak_mb;
    TRY(take_providers(j, mem, c));
    TRY(take_notes(j, mem, c));
    TRY(take_latency(j, mem, c));
    if (!c->engine || !c->version)
        json_in_fail(j, "the answer lacks 'runtime' or 'version'");
    return j->st;
}

static status take_answer(const cell_job *of, const char *answer, arena *mem, matrix_cell *c)
{
    json_in j = {0};
    char why[600];
    status st = json_in_parse(&j, "answer", answer, strlen(answer), limits_default().json_depth);
    if (st == ST_OK && json_in_int(&j, j.root, "protocol", 0) != RUNNER_PROTOCOL)
        st = fail(ST_BAD_DATA, "it speaks protocol %lld, not %d", (long long)json_in_int(&j, j.root, "protocol", 0), RUNNER_PROTOCOL);
    if (st == ST_OK)
        st = json_in_bool(&j, j.root, "ok", false) ? take_result(of, &j, mem, c) : take_refusal(of, &j, mem, c);
    if (st == ST_BAD_DATA) {
        snprintf(why, sizeof why, "its answer is no answer: %s", status_message());
        st = failed(mem, c, CELL_CRASH, why);
    }
    json_in_close(&j);
    return st;
}

/* ---- both ---- */

static status run_process(cell_job *j, arena *mem, matrix_cell *c)
{
    text request = {0};
    process_result p = {0};
    const process_options o = {.command = j->launch->command, .env = j->launch->env, .log = j->log, .seconds = j->seconds,
                               .memory = j->memory, .stop = j->stop, .stays = j->kept != NULL};
    status st = put_request(j, &request);
    if (st == ST_OK)
        st = j->kept ? process_ask_kept(j->kept, &o, request.s, mem, &p) : process_ask(&o, request.s, mem, &p);
    text_free(&request);
    j->again = p.again;
    if (st == ST_UNAVAILABLE)
        return failed(mem, c, CELL_NOT_RUN, status_message());
    TRY(st);
    c->seconds = p.seconds;
    c->peak_mb = (double)p.peak / (1 << 20);
    if (p.end == PROCESS_ANSWERED)
        return take_answer(j, p.answer, mem, c);
    return failed(mem, c, p.end == PROCESS_TIMEOUT ? CELL_TIMEOUT : CELL_CRASH, p.why);
}

status cell_run(cell_job *j, arena *mem, matrix_cell *c, tensor *y)
{
    const limits lim = limits_default();
    char why[600];
    *y = (tensor){0};
    c->log = j->log_name;
    c->state = CELL_OK;
    TRY(io_remove(j->output));
    TRY(run_process(j, mem, c));
    if (c->state != CELL_OK)
        return ST_OK;
    status st = npy_read(j->output, &lim, y);
    if (st == ST_BAD_DATA || st == ST_NO_INPUT) {
        snprintf(why, sizeof why, "its outputs cannot be read: %s", status_message());
        st = failed(mem, c, CELL_CRASH, why);
    }
    return st;
}
