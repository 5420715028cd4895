/* cmd_run.c - `distill run MODEL [INPUT ...]`: a model on tensors; --check compares with expected outputs. */
#include "base/io.h"
#include "cli/cli.h"
#include "data/loader.h"
#include "data/npy.h"
#include "deploy/model_run.h"
#include "deploy/prove.h"
#include "onnx/bind.h"
#include "onnx/tensor_pb.h"
#include "train/job_spec.h"

#include <math.h>
#include <string.h>

typedef struct runner {
    cli *c;
    backend *b; /* NULL: ONNX Runtime */
    const char *model;
    double atol, rtol;
    text out;
    json j;
} runner;

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* One file: a tensor named after nothing (.pb keeps its name), or every member of an .npz under its own. */
static status read_input(const char *path, tensor_list *in)
{
    tensor t = {0};
    limits lim = limits_default();
    if (ends_with(path, ".npz"))
        return npz_read(path, &lim, in);
    TRY(ends_with(path, ".pb") ? tensor_read_pb(path, &lim, &t) : npy_read(path, &lim, &t));
    return tensor_list_add(in, &t);
}

/* Tensors whose names are not the model's are taken by order. */
static status name_by_model(const char *model, tensor_list *in)
{
    onnx_model *m = NULL;
    const char **names = NULL;
    size_t n = 0;
    bool all = true;
    status st = ST_OK;
    TRY_DONE(onnx_open(model, NULL, &m));
    TRY_DONE(onnx_input_names(m, &names, &n));
    for (size_t i = 0; i < in->n; i++) {
        bool known = false;
        for (size_t k = 0; k < n; k++)
            known |= in->at[i].name && strcmp(in->at[i].name, names[k]) == 0;
        all &= known;
    }
    if (!all)
        st = onnx_name_inputs(m, in->at, in->n);
done:
    mem_free(names);
    onnx_close(m);
    return st;
}

static void describe(runner *r, const tensor *t)
{
    char buf[200];
    double low = INFINITY, high = -INFINITY, sum = 0;
    int64_t n = shape_count(&t->sh), odd = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = tensor_at(t, i);
        odd += !isfinite(x);
        low = x < low ? x : low;
        high = x > high ? x : high;
        sum += x;
    }
    if (r->c->o.json) {
        json_put_object(&r->j, NULL);
        json_put_string(&r->j, "name", t->name);
        json_put_string(&r->j, "type", dtype_of(t->type)->name);
        json_put_array(&r->j, "shape");
        for (int i = 0; i < t->sh.rank; i++)
            json_put_int(&r->j, NULL, t->sh.dim[i]);
        json_end_array(&r->j);
        json_put_number(&r->j, "min", n ? low : (double)NAN);
        json_put_number(&r->j, "max", n ? high : (double)NAN);
        json_put_number(&r->j, "mean", n ? sum / (double)n : (double)NAN);
        json_put_int(&r->j, "not_finite", odd);
        json_end_object(&r->j);
    } else {
        text_printf(&r->out, "%s %s %s: min %.6g, max %.6g, mean %.6g%s\n", t->name, dtype_of(t->type)->name,
                    shape_print(&t->sh, buf), low, high, sum / (double)(n ? n : 1), odd ? ", NOT FINITE" : "");
    }
}

static void put_time(runner *r, const latency *l)
{
    if (!l->runs)
        return;
    if (!r->c->o.json) {
        text_printf(&r->out, "time of %zu runs, ms: p50 %.3f, p90 %.3f, p99 %.3f\n", l->runs, l->p50, l->p90, l->p99);
        return;
    }
    json_put_object(&r->j, "latency_ms");
    json_put_int(&r->j, "runs", (int64_t)l->runs);
    json_put_number(&r->j, "p50", l->p50);
    json_put_number(&r->j, "p90", l->p90);
    json_put_number(&r->j, "p99", l->p99);
    json_end_object(&r->j);
}

static model_run_options run_options(const runner *r, int repeat)
{
    return (model_run_options){.b = r->b, .ort = r->c->o.ort, .wide = r->c->o.double_precision, .repeat = repeat};
}

/* ---- on files ---- */

static status run_files(runner *r)
{
    const options *o = &r->c->o;
    tensor_list in = {0}, out = {0};
    latency l = {0};
    status st = ST_OK;
    for (size_t i = 1; i < o->args.n; i++)
        TRY_DONE(read_input(o->args.at[i], &in));
    TRY_DONE(name_by_model(r->model, &in));
    model_run_options ro = run_options(r, o->repeat > 0 ? (int)o->repeat : 20);
    TRY_DONE(model_run(r->model, &ro, in.at, in.n, &out, &l));
    if (o->json)
        json_put_array(&r->j, "outputs");
    for (size_t i = 0; i < out.n; i++)
        describe(r, &out.at[i]);
    if (o->json)
        json_end_array(&r->j);
    put_time(r, &l);
    if (o->out)
        st = npz_write(o->out, out.at, out.n, false);
done:
    tensor_list_free(&in);
    tensor_list_free(&out);
    return st;
}

/* ---- --check ---- */

#define SETS_MAX 1000

static status check_set(runner *r, const char *dir, bool *held)
{
    tensor in[BIND_INPUTS_MAX] = {{0}}, want[BIND_INPUTS_MAX] = {{0}};
    tensor_list list = {0}, out = {0};
    size_t n_in = 0, n_want = 0;
    status st = ST_OK;
    *held = true;
    TRY_DONE(tensors_read_numbered(dir, "input", in, BIND_INPUTS_MAX, &n_in));
    TRY_DONE(tensors_read_numbered(dir, "output", want, BIND_INPUTS_MAX, &n_want));
    if (n_want == 0) {
        st = fail(ST_NO_INPUT, "%s: there is no output_0.pb", dir);
        goto done;
    }
    for (size_t i = 0; i < n_in; i++)
        TRY_DONE(tensor_list_add(&list, &in[i]));
    TRY_DONE(name_by_model(r->model, &list));
    model_run_options ro = run_options(r, 0);
    TRY_DONE(model_run(r->model, &ro, list.at, list.n, &out, NULL));
    if (out.n < n_want) {
        st = fail(ST_BAD_DATA, "%s: %zu outputs are expected, the model has %zu", dir, n_want, out.n);
        goto done;
    }
    for (size_t i = 0; i < n_want; i++) {
        tensor_difference d = {0};
        status equal = tensor_compare(&out.at[i], &want[i], r->atol, r->rtol, &d);
        *held &= equal == ST_OK;
        if (r->c->o.json) {
            json_put_object(&r->j, NULL);
            json_put_string(&r->j, "set", dir);
            json_put_string(&r->j, "output", out.at[i].name);
            json_put_bool(&r->j, "equal", equal == ST_OK);
            json_put_number(&r->j, "max_abs", d.max_abs);
            json_put_string(&r->j, "message", equal == ST_OK ? NULL : status_message());
            json_end_object(&r->j);
        } else if (equal == ST_OK) {
            text_printf(&r->out, "equal  %s: '%s', largest difference %.3g\n", dir, out.at[i].name, d.max_abs);
        } else {
            text_printf(&r->out, "DIFFER %s: %s\n", dir, status_message());
        }
    }
done:
    for (size_t i = 0; i < BIND_INPUTS_MAX; i++) {
        tensor_free(&in[i]);
        tensor_free(&want[i]);
    }
    tensor_list_free(&list);
    tensor_list_free(&out);
    return st;
}

static status run_check(runner *r)
{
    const char *dir = r->c->o.check;
    size_t sets = 0, differ = 0;
    arena mem = {0};
    status st = ST_OK;
    if (r->c->o.json)
        json_put_array(&r->j, "checks");
    for (size_t k = 0; k < SETS_MAX; k++) {
        const char *set;
        bool held;
        TRY_DONE(arena_printf(&mem, &set, "%s/test_data_set_%zu", dir, k));
        if (!io_is_dir(set))
            break;
        TRY_DONE(check_set(r, set, &held));
        sets++;
        differ += !held;
    }
    if (sets == 0) {
        bool held;
        TRY_DONE(check_set(r, dir, &held));
        sets = 1;
        differ = !held;
    }
    if (r->c->o.json)
        json_end_array(&r->j);
    if (differ)
        st = fail(ST_GATE, "%zu of %zu sets differ from what is expected (atol %g, rtol %g)", differ, sets, r->atol,
                  r->rtol);
done:
    arena_free(&mem);
    return st;
}

/* ---- on a data set ---- */

/* Outputs that are numbers against their targets. */
static void put_error(runner *r, const dataset *ds, const float *x, size_t width)
{
    uint32_t n = dataset_info(ds)->part[DATA_VAL].n, labelled = 0;
    double sum = 0;
    bool fit = dataset_info(ds)->target_size == (int64_t)width;
    for (uint32_t i = 0; i < n && fit; i++) {
        const float *y = dataset_target(ds, DATA_VAL, i);
        labelled += y != NULL;
        for (size_t k = 0; y && k < width; k++)
            sum += fabs((double)x[i * width + k] - (double)y[k]) / (double)width;
    }
    double error = labelled ? sum / (double)labelled : (double)NAN;
    if (r->c->o.json) {
        json_put_int(&r->j, "samples", n);
        json_put_int(&r->j, "labelled", labelled);
        json_put_number(&r->j, "error", error);
    } else if (labelled) {
        text_printf(&r->out, "%u samples, mean absolute error %.6g (%u with targets)\n", n, error, labelled);
    } else {
        text_printf(&r->out, "%u samples without targets\n", n);
    }
}

static void put_score(runner *r, const dataset *ds, const float *logits, const shape *sh, const latency *l)
{
    const data_info *info = dataset_info(ds);
    uint32_t n = info->part[DATA_VAL].n, labelled = 0, correct = 0;
    int64_t classes = n ? shape_count(sh) / n : 0;
    if (sh->rank != 2 || info->target_size) {
        put_error(r, ds, logits, (size_t)classes);
        put_time(r, l);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        int64_t label = info->classes ? dataset_label(ds, DATA_VAL, i) : -1;
        labelled += label >= 0;
        correct += label >= 0 && (int64_t)compare_argmax(logits + (size_t)i * (size_t)classes, (size_t)classes) == label;
    }
    double accuracy = labelled ? (double)correct / (double)labelled : (double)NAN;
    if (r->c->o.json) {
        json_put_int(&r->j, "samples", n);
        json_put_int(&r->j, "labelled", labelled);
        json_put_number(&r->j, "accuracy", accuracy);
    } else if (labelled) {
        text_printf(&r->out, "%u samples, accuracy %.2f %% (%u of %u)\n", n, 100 * accuracy, correct, labelled);
    } else {
        text_printf(&r->out, "%u samples without labels\n", n);
    }
    put_time(r, l);
}

/* The validation samples, prepared as the job's [data] says (--set data.mean=..., for known data sets their own). */
static status open_data(runner *r, job *j, dataset **ds)
{
    onnx_model *m = NULL;
    graph *g = NULL;
    arena mem = {0};
    data_options d;
    status st = ST_OK;
    TRY_DONE(onnx_open(r->model, &j->limits, &m));
    TRY_DONE(onnx_import(m, &(import_options){.batch = 1}, &g));
    TRY_DONE(job_data_options(j, g, true, &mem, &d));
    st = dataset_open(&d, ds);
done:
    arena_free(&mem);
    graph_free(g);
    onnx_close(m);
    return st;
}

static status run_data(runner *r)
{
    job *j = NULL;
    dataset *ds = NULL;
    float *logits = NULL;
    shape sh;
    latency l = {0};
    backend *b = NULL;
    status st = ST_OK;
    TRY_DONE(cli_load_job(r->c, false, &j));
    TRY_DONE(open_data(r, j, &ds));
    backend_options bo = job_backend_options(j);
    TRY_DONE(backend_open("auto", &bo, &b));
    prove_options po = {.b = b, .ds = ds, .ort = r->c->o.ort, .lim = &j->limits,
                        .teacher_output = *j->teacher.output ? j->teacher.output : NULL};
    TRY_DONE(prove_outputs(&po, r->model, r->b == NULL, &logits, &sh, &l));
    put_score(r, ds, logits, &sh, &l);
    if (r->c->o.out) {
        char name[] = "logits";
        tensor t = {.name = name, .type = DTYPE_F32, .sh = sh, .data = logits};
        st = npz_write(r->c->o.out, &t, 1, false);
    }
done:
    mem_free(logits);
    backend_close(b);
    dataset_close(ds);
    config_free(j);
    return st;
}

status cmd_run(cli *c)
{
    const options *o = &c->o;
    runner r = {.c = c, .atol = o->atol > 0 ? o->atol : 1e-4, .rtol = o->rtol > 0 ? o->rtol : 1e-3};
    backend_options bo = {.max_isa = o->double_precision ? ISA_REF : ISA_AVX512};
    int64_t threads = 0;
    status st = ST_OK;
    if (o->args.n < 1)
        return fail(ST_USAGE, "which model? distill run MODEL [INPUT ...]");
    if (o->backend && strcmp(o->backend, "own") != 0 && strcmp(o->backend, "ort") != 0)
        return fail(ST_USAGE, "--backend takes own or ort, not '%s'", o->backend);
    if (o->double_precision && o->device && strcmp(o->device, "cpu") != 0 && strcmp(o->device, "auto") != 0)
        return fail(ST_USAGE, "--double computes on the CPU; leave --device %s out", o->device);
    if (o->threads)
        TRY(parse_int(o->threads, "--threads", &threads));
    r.model = o->args.at[0];
    r.j = (json){.out = &r.out};
    bo.threads = (int)threads;
    if (!o->backend || strcmp(o->backend, "own") == 0)
        TRY_DONE(backend_open(o->double_precision ? "cpu" : o->device ? o->device : "auto", &bo, &r.b));
    if (o->json) {
        json_put_object(&r.j, NULL);
        json_put_string(&r.j, "model", r.model);
        json_put_string(&r.j, "backend", r.b ? "own" : "ort");
    }
    st = o->check ? run_check(&r) : o->data ? run_data(&r) : run_files(&r);
    if (st == ST_OK || st == ST_GATE) {
        char *message = NULL;
        if (st == ST_GATE && mem_strdup(&message, status_message()) != ST_OK)
            message = NULL;
        if (o->json) {
            json_end_object(&r.j);
            text_add(&r.out, "\n");
        }
        status printed = cli_print(&r.out);
        st = printed != ST_OK ? printed : st == ST_GATE ? fail(ST_GATE, "%s", message ? message : "differs") : ST_OK;
        mem_free(message);
    }
done:
    backend_close(r.b);
    text_free(&r.out);
    return st;
}
