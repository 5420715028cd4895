/* model_run.c - import for the data at hand, plan, run, time, compare. */
#include "deploy/model_run.h"
#include "base/io.h"
#include "deploy/ort.h"
#include "distill/frozen.h"
#include "exec/exec.h"
#include "onnx/bind.h"
#include "onnx/tensor_pb.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define WARM_RUNS 2

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static status fill_inputs(const graph *g, exec *e, const tensor *in, size_t n_in)
{
    for (size_t i = 0; i < g->n_input; i++) {
        const value *v = graph_value(g, g->input[i]);
        const tensor *t = NULL;
        for (size_t k = 0; k < n_in; k++)
            if (strcmp(in[k].name, v->name) == 0)
                t = &in[k];
        if (!t)
            return fail(ST_BAD_DATA, "the model's input '%s' is not given", v->name);
        if (!shape_equal(&t->sh, &v->sh))
            return fail(ST_BAD_DATA, "input '%s' has another shape than the model takes", v->name);
        if (t->type == v->type && tensor_bytes(t) > 0) {
            memcpy(exec_data(e, g->input[i]), t->data, tensor_bytes(t));
            continue;
        }
        if (!(t->type == DTYPE_F32 && v->type == DTYPE_F64) && t->type != v->type)
            return fail(ST_BAD_DATA, "input '%s' is %s, the model takes %s", v->name, dtype_of(t->type)->name,
                        dtype_of(v->type)->name);
        for (int64_t k = 0; k < shape_count(&t->sh); k++)
            dtype_store(v->type, exec_data(e, g->input[i]), k, tensor_at(t, k));
    }
    return ST_OK;
}

static status take_outputs(const graph *g, const exec *e, tensor_list *out)
{
    for (size_t i = 0; i < g->n_output; i++) {
        const value *v = graph_value(g, g->output[i]);
        const void *data = v->kind == VALUE_CONST ? v->data : exec_data(e, g->output[i]);
        tensor t;
        TRY(tensor_new(&t, v->name, v->type, v->sh));
        memcpy(t.data, data, tensor_bytes(&t));
        TRY(tensor_list_add(out, &t));
    }
    return ST_OK;
}

static status run_own(const char *path, const model_run_options *o, const tensor *in, size_t n_in, tensor_list *out,
                      double *ms, size_t *n_ms)
{
    onnx_model *m = NULL;
    graph *g = NULL;
    exec *e = NULL;
    status st = ST_OK;
    TRY_DONE(onnx_open(path, NULL, &m));
    TRY_DONE(onnx_import_for(m, in, n_in, false, &g));
    if (o->wide) {
        TRY_DONE(pass_drop_identity(g));
        TRY_DONE(pass_to_double(g));
        TRY_DONE(pass_fold_batch_norm(g));
        TRY_DONE(pass_fuse_epilogues(g));
    } else {
        TRY_DONE(frozen_passes(g));
    }
    TRY_DONE(exec_open(g, o->b, NULL, 0, &e));
    TRY_DONE(fill_inputs(g, e, in, n_in));
    TRY_DONE(exec_run(e, PHASE_MAIN));
    TRY_DONE(take_outputs(g, e, out));
    for (int i = 0; i < (o->repeat ? o->repeat + WARM_RUNS : 0); i++) {
        double t = now();
        TRY_DONE(exec_run(e, PHASE_MAIN));
        if (i >= WARM_RUNS)
            ms[(*n_ms)++] = (now() - t) * 1e3;
    }
done:
    exec_close(e);
    graph_free(g);
    onnx_close(m);
    return st;
}

static status run_ort(const char *path, const model_run_options *o, const tensor *in, size_t n_in, tensor_list *out,
                      double *ms, size_t *n_ms)
{
    ort_lib *lib = NULL;
    ort_session *s = NULL;
    tensor_list again = {0};
    status st = ST_OK;
    TRY_DONE(ort_open(o->ort, &lib));
    TRY_DONE(ort_session_open(lib, path, NULL, &s));
    TRY_DONE(ort_run(s, in, n_in, out));
    for (int i = 0; i < (o->repeat ? o->repeat + WARM_RUNS : 0); i++) {
        double t = now();
        TRY_DONE(ort_run(s, in, n_in, &again));
        if (i >= WARM_RUNS)
            ms[(*n_ms)++] = (now() - t) * 1e3;
        tensor_list_free(&again);
    }
done:
    tensor_list_free(&again);
    ort_session_close(s);
    ort_close(lib);
    return st;
}

status model_run(const char *path, const model_run_options *o, const tensor *in, size_t n_in, tensor_list *out,
                 latency *time_out)
{
    double *ms;
    size_t n_ms = 0;
    TRY(mem_alloc(&ms, (size_t)o->repeat + 1, sizeof *ms));
    status st = o->b ? run_own(path, o, in, n_in, out, ms, &n_ms) : run_ort(path, o, in, n_in, out, ms, &n_ms);
    if (st == ST_OK && time_out)
        *time_out = latency_of(ms, n_ms);
    mem_free(ms);
    return st;
}

/* ---- comparison ---- */

static status compare_shape(const tensor *got, const tensor *want)
{
    char a[200], b[200];
    bool types = got->type == want->type || (got->type == DTYPE_F64 && want->type == DTYPE_F32);
    if (types && shape_equal(&got->sh, &want->sh))
        return ST_OK;
    return fail(ST_GATE, "output '%s' is %s %s, expected %s %s", got->name ? got->name : "", dtype_of(got->type)->name,
                shape_print(&got->sh, a), dtype_of(want->type)->name, shape_print(&want->sh, b));
}

status tensor_compare(const tensor *got, const tensor *want, double atol, double rtol, tensor_difference *out)
{
    tensor_difference d = {0};
    TRY(compare_shape(got, want));
    bool exact = !dtype_of(want->type)->is_float;
    int64_t n = shape_count(&got->sh);
    for (int64_t i = 0; i < n; i++) {
        double x = tensor_at(got, i), y = tensor_at(want, i);
        if (x == y || (isnan(x) && isnan(y)))
            continue;
        double far = fabs(x - y), tolerance = exact ? 0 : atol + rtol * fabs(y);
        double part = isnan(far) || isinf(far) || tolerance == 0 ? (double)INFINITY : far / tolerance;
        if (far > d.max_abs || isnan(far))
            d.max_abs = far;
        if (y != 0 && far / fabs(y) > d.max_rel)
            d.max_rel = far / fabs(y);
        if (part > d.worst)
            d = (tensor_difference){.max_abs = d.max_abs, .max_rel = d.max_rel, .worst = part, .at = i, .got = x,
                                    .want = y};
    }
    if (out)
        *out = d;
    if (d.worst <= 1)
        return ST_OK;
    return fail(ST_GATE, "output '%s'[%" PRId64 "] is %.9g, expected %.9g", got->name ? got->name : "", d.at, d.got,
                d.want);
}

status tensors_read_numbered(const char *dir, const char *kind, tensor *at, size_t room, size_t *n)
{
    arena mem = {0};
    status st = ST_OK;
    for (*n = 0; *n < room; ++*n) {
        const char *path;
        TRY_DONE(arena_printf(&mem, &path, "%s/%s_%zu.pb", dir, kind, *n));
        if (!io_exists(path))
            break;
        TRY_DONE(tensor_read_pb(path, NULL, &at[*n]));
    }
done:
    arena_free(&mem);
    return st;
}
