/* profile.c - see profile.h. */
#include "matrix/profile.h"

#include "base/io.h"
#include "base/rng.h"
#include "data/npy.h"
#include "deploy/compare.h"
#include "exec/exec.h"
#include "matrix/merge.h"
#include "matrix/pack_make.h"
#include "matrix/probes.h"
#include "matrix/runtimes.h"
#include "ncnn/write.h"
#include "onnx/export.h"
#include "tflite/write.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

#define PROBES "probes" /* below the folder */
enum { PROBES_MAX = 16, FORMS = 3, HOST_NAME = 60 };

/* ---- the probes as files ---- */

static status run_probe(const probe *p, const char *x_path, const char *y_path)
{
    graph *g = NULL;
    backend *b = NULL;
    exec *e = NULL;
    tensor x = {0}, y = {0};
    rng r = rng_make(11, RNG_TEST, 3, 0);
    status st = ST_OK;
    TRY_DONE(probe_graph(p, PROBE_SAMPLES, &g));
    TRY_DONE(tensor_new(&x, NULL, DTYPE_F32, graph_value(g, g->input[0])->sh));
    TRY_DONE(tensor_new(&y, NULL, DTYPE_F32, graph_value(g, g->output[0])->sh));
    for (int64_t i = 0; i < shape_count(&x.sh); i++)
        ((float *)x.data)[i] = (float)rng_below(&r, 128) / 128; /* a grid that integers hold too */
    TRY_DONE(backend_open("cpu", &(backend_options){.threads = 1, .max_isa = ISA_AVX512}, &b));
    TRY_DONE(exec_open(g, b, NULL, 0, &e));
    memcpy(exec_data(e, g->input[0]), x.data, tensor_bytes(&x));
    TRY_DONE(exec_run(e, PHASE_MAIN));
    memcpy(y.data, exec_data(e, g->output[0]), tensor_bytes(&y));
    TRY_DONE(npy_write(x_path, &x));
    st = npy_write(y_path, &y);
done:
    exec_close(e);
    backend_close(b);
    graph_free(g);
    tensor_free(&x);
    tensor_free(&y);
    return st;
}

/* A form that there is none of is left out. */
static status write_form(const graph *g, const char *form, const char *path, pack_column *c, pack_model *models)
{
    status st = strcmp(form, "onnx") == 0 ? onnx_export_file(g, &(export_options){0}, path)
                : strcmp(form, "tflite") == 0 ? tflite_write_file(g, NULL, path)
                                              : ncnn_write_files(g, path, NULL);
    if (st == ST_OK)
        models[c->n_models++] = (pack_model){form, path};
    if (st == ST_BAD_DATA) {
        status_clear();
        st = ST_OK;
    }
    return st;
}

static status make_column(const char *dir, const probe *p, arena *mem, pack_column *c)
{
    static const char *const forms[FORMS][2] = {{"onnx", ".onnx"}, {"tflite", ".tflite"}, {"ncnn", ".param"}};
    pack_model *models;
    graph *g = NULL;
    const char *path;
    TRY(arena_alloc(mem, &models, FORMS, sizeof *models));
    *c = (pack_column){.variant = p->name, .models = models, .input_name = "x", .samples = PROBE_SAMPLES};
    TRY(arena_printf(mem, &c->input, "%s/%s/%s.input.npy", dir, PROBES, p->name));
    TRY(arena_printf(mem, &c->expected, "%s/%s/%s.npy", dir, PROBES, p->name));
    TRY(run_probe(p, c->input, c->expected));
    TRY(probe_graph(p, 1, &g));
    status st = ST_OK;
    for (size_t f = 0; f < FORMS && st == ST_OK; f++) {
        st = arena_printf(mem, &path, "%s/%s/%s%s", dir, PROBES, p->name, forms[f][1]);
        if (st == ST_OK)
            st = write_form(g, forms[f][0], path, c, models);
    }
    graph_free(g);
    return st;
}

status profile_pack(const char *dir, const pack_target *t, const job *j, const char *out, pack_facts *facts)
{
    arena mem = {0};
    const char *folder;
    pack_column columns[PROBES_MAX];
    runtime_places places;
    pack_plan what = {.target = t, .run = "a device profile", .set = "probes", .columns = columns, .batch = PROBE_SAMPLES,
                      .threads = j->matrix.threads, .latency_runs = (size_t)j->matrix.latency_runs,
                      .latency_seconds = j->matrix.latency_seconds};
    status st = ST_OK;
    TRY_DONE(arena_printf(&mem, &folder, "%s/%s", dir, PROBES));
    TRY_DONE(io_make_dirs(folder));
    for (const probe *p = probes; p->name; p++)
        TRY_DONE(make_column(dir, p, &mem, &columns[what.n_columns++]));
    TRY_DONE(runtimes_places(&mem, &places));
    TRY_DONE(pack_rows(t, &j->matrix, &mem, &what));
    TRY_DONE(pack_runners(t, &places, &mem, &what));
    st = pack_write(&what, dir, out, facts);
done:
    arena_free(&mem);
    return st;
}

bool profile_is(const char *dir)
{
    text t = {0};
    text_printf(&t, "%s/%s", dir, PROBES);
    bool is = t.st == ST_OK && io_is_dir(t.s);
    text_free(&t);
    return is;
}

/* ---- what came back ---- */

typedef struct served { /* one runtime */
    const char *runtime;
    size_t right;               /* probes */
    double ms[PROBES_MAX];      /* p50; NAN: not right, or not timed */
    bool ok[PROBES_MAX];
    double sum, peak;           /* of times; MiB */
} served;

static size_t probe_index(const char *name)
{
    size_t i = 0;
    while (probes[i].name && strcmp(probes[i].name, name) != 0)
        i++;
    return i;
}

/* TFLite's images come back as [N, H, W, C]. */
static status is_right(const char *dir, const probe *p, const merge_cell *c, arena *mem, bool *right)
{
    const char *path;
    limits lim = limits_default();
    tensor want = {0};
    double most = 1, worst = 0;
    TRY(arena_printf(mem, &path, "%s/%s/%s.npy", dir, PROBES, p->name));
    TRY(npy_read(path, &lim, &want));
    const shape *sh = &want.sh;
    int64_t n = c->samples * (size_t)(shape_count(sh) / sh->dim[0]) == (size_t)shape_count(&c->y.sh) ? shape_count(&c->y.sh) : -1;
    bool swapped = strcmp(c->form, "tflite") == 0 && sh->rank == 4;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = i;
        if (swapped) {
            int64_t hw = sh->dim[2] * sh->dim[3], s = i / (sh->dim[1] * hw), k = i / hw % sh->dim[1];
            at = (s * hw + i % hw) * sh->dim[1] + k;
        }
        double d = fabs(tensor_at(&c->y, at) - tensor_at(&want, i));
        worst = d <= worst ? worst : isnan(d) ? (double)INFINITY : d;
        most = fmax(most, fabs(tensor_at(&want, i)));
    }
    *right = n >= 0 && worst <= p->tolerance * most;
    tensor_free(&want);
    return ST_OK;
}

static status take_cell(const char *dir, const merge_cell *c, arena *mem, served *s)
{
    size_t at = probe_index(c->variant);
    if (!probes[at].name || !c->ok || !c->form)
        return ST_OK;
    TRY(is_right(dir, &probes[at], c, mem, &s->ok[at]));
    if (!s->ok[at])
        return ST_OK;
    s->right++;
    s->peak = c->peak_mb > s->peak ? c->peak_mb : s->peak;
    if (c->n_latency) {
        double *ms;
        TRY(arena_alloc(mem, &ms, c->n_latency, sizeof *ms));
        memcpy(ms, c->latency_ms, c->n_latency * sizeof *ms);
        s->ms[at] = latency_of(ms, c->n_latency).p50;
        s->sum += s->ms[at];
    }
    return ST_OK;
}

/* Most probes first, then the fastest. */
static void insert(served *all, size_t n)
{
    for (size_t i = n; i > 0; i--) {
        bool better = all[i].right > all[i - 1].right || (all[i].right == all[i - 1].right && all[i].sum < all[i - 1].sum);
        if (!better)
            return;
        served x = all[i];
        all[i] = all[i - 1];
        all[i - 1] = x;
    }
}

static status collect(const char *dir, const merge_result *r, arena *mem, served *all, size_t *n)
{
    *n = 0;
    for (size_t i = 0; i < r->n; i++) {
        bool first = true;
        for (size_t k = 0; k < i; k++)
            first &= strcmp(r->cells[k].runtime, r->cells[i].runtime) != 0;
        if (!first)
            continue;
        served *s = &all[*n];
        *s = (served){.runtime = r->cells[i].runtime};
        for (size_t k = 0; k < PROBES_MAX; k++)
            s->ms[k] = (double)NAN;
        for (size_t k = i; k < r->n; k++)
            if (strcmp(r->cells[k].runtime, s->runtime) == 0)
                TRY(take_cell(dir, &r->cells[k], mem, s));
        if (s->right)
            insert(all, (*n)++);
    }
    return *n ? ST_OK : fail(ST_BAD_DATA, "no runtime of the result computes a single probe right; there is nothing to write");
}

/* Operators of the probes that came out right. */
static status put_operators(const served *s, text *t)
{
    bool has[OP_COUNT] = {false};
    for (size_t i = 0; probes[i].name; i++) {
        graph *g;
        if (!s->ok[i])
            continue;
        TRY(probe_graph(&probes[i], 1, &g));
        for (size_t k = 1; k < g->n_node; k++)
            has[g->node[k].op] = true;
        graph_free(g);
    }
    for (int op = 1; op < OP_COUNT; op++)
        if (has[op])
            text_printf(t, " %s", op_of((op_id)op)->name);
    return t->st;
}

static void put_times(const served *all, size_t n, text *t)
{
    text_add(t, "; milliseconds of one inference, median; -: not computed, or not right\n;");
    text_printf(t, " %-17s", "runtime");
    for (size_t i = 0; probes[i].name; i++)
        text_printf(t, " %11s", probes[i].name);
    text_printf(t, " %9s\n", "peak MiB");
    for (size_t k = 0; k < n; k++) {
        text_printf(t, "; %-17s", all[k].runtime);
        for (size_t i = 0; probes[i].name; i++) {
            if (!all[k].ok[i])
                text_printf(t, " %11s", "-");
            else if (isnan(all[k].ms[i]))
                text_printf(t, " %11s", "right");
            else
                text_printf(t, " %11.4g", all[k].ms[i]);
        }
        text_printf(t, " %9.4g\n", all[k].peak);
    }
}

static status write_section(const merge_result *r, const served *all, size_t n, const char *name, text *t)
{
    text_printf(t, "; measured on %s (%s, %s) by distill %s\n", r->host.name, r->host.cpu, r->host.system, DISTILL_VERSION);
    put_times(all, n, t);
    text_printf(t, "[device %s]\nruntime = %s\nfallbacks =", name, all[0].runtime);
    for (size_t k = 1; k < n; k++)
        text_printf(t, " %s", all[k].runtime);
    text_add(t, "\noperators =");
    TRY(put_operators(&all[0], t));
    text_add(t, "\n; memory, flash and latency are limits of your own: memory = MiB, flash = MiB, latency = milliseconds\n");
    return t->st;
}

status profile_merge(const char *dir, const char *result, arena *mem, const char **file, const char **section)
{
    merge_result r;
    text t = {0};
    served *all;
    size_t n, used = 0;
    char name[HOST_NAME + 1] = "";
    status st = merge_read(result, dir, &r);
    TRY_DONE(st);
    for (const char *s = r.host.name; *s && used < HOST_NAME; s++)
        name[used++] = isalnum((unsigned char)*s) || strchr("_-", *s) ? *s : '-';
    TRY_DONE(arena_alloc(&r.mem, &all, r.n + 1, sizeof *all));
    TRY_DONE(collect(dir, &r, &r.mem, all, &n));
    TRY_DONE(write_section(&r, all, n, name, &t));
    TRY_DONE(arena_printf(mem, file, "%s/%s.ini", dir, name));
    TRY_DONE(arena_strdup(mem, section, t.s));
    st = io_write_file(*file, t.s, t.n);
done:
    text_free(&t);
    merge_free(&r);
    return st;
}
