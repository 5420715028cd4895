/* pack_make.c - see pack_make.h. */
#include "matrix/pack_make.h"

#include "base/io.h"
#include "base/log.h"
#include "matrix/reference.h"

#include <string.h>

enum { COMMAND_WORDS = 5, EXTRAS_MAX = 256 };

typedef struct maker {
    const pack_request *q;
    arena mem;
    reference_set s;
    pack_plan plan;
    pack_column *columns;
} maker;

static bool wanted(const char *const *patterns, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (runtimes_match(patterns[i], key))
            return true;
    return n == 0;
}

/* ---- rows ---- */

/* Our own program where it runs; else the Python runner of that engine, which for ONNX Runtime gives the same numbers. Nothing for rows
 * without a runner. */
static status command_of(const runtime_row *r, arena *mem, const char *const **out)
{
    const char **words;
    bool own = strcmp(r->engine ? r->engine : "", "own") == 0, in_node = r->kind == RUNNER_NODE;
    static const char *const without[] = {"coreml-mlpackage", "nnapi", "mediatek", "webnn"};
    TRY(arena_alloc(mem, &words, COMMAND_WORDS, sizeof *words));
    *out = words;
    for (size_t i = 0; i < sizeof without / sizeof *without; i++)
        if (strcmp(without[i], r->key) == 0)
            return ST_OK;
    size_t n = 0;
    if (own) {
        words[n++] = "{pack}/bin/distill";
        words[n++] = "runner";
    } else {
        words[n++] = in_node ? "{node}" : "{python}";
        words[n++] = in_node ? "{pack}/tools/runners/web.mjs" : "{pack}/tools/runners/runner.py";
    }
    words[n] = r->library ? r->library : r->kind == RUNNER_NEVER ? r->key : r->engine;
    return ST_OK;
}

status pack_rows(const pack_target *t, const job_matrix *o, arena *mem, pack_plan *p)
{
    size_t n;
    const runtime_row *all = runtimes_all(&n);
    pack_row *rows;
    TRY(arena_alloc(mem, &rows, n, sizeof *rows));
    p->rows = rows;
    for (size_t i = 0; i < n; i++) {
        const runtime_row *r = &all[i];
        pack_row *to = &rows[p->n_rows];
        if (!pack_has_row(t, r->key) || (!wanted(o->runtimes.at, o->runtimes.n, r->key) && r->kind != RUNNER_NEVER))
            continue;
        *to = (pack_row){.runtime = r->key, .title = r->title, .how = r->get, .forms = r->form,
                         .seconds = o->time_limit > 0 ? o->time_limit : r->seconds > 0 ? r->seconds : 120,
                         .samples = r->slow ? (size_t)o->slow_samples : 0};
        TRY(command_of(r, mem, &to->command));
        TRY(arena_printf(mem, &to->options, "{%s}", r->options ? r->options : ""));
        p->n_rows++;
    }
    return p->n_rows ? ST_OK : fail(ST_CONFIG, "no row of matrix.runtimes runs on %s", t->name);
}

static bool reads(const maker *k, const char *form)
{
    for (size_t i = 0; i < k->plan.n_rows; i++)
        if (strcmp(k->plan.rows[i].forms, form) == 0)
            return true;
    return false;
}

/* ---- columns ---- */

static status make_reference(maker *k, size_t at)
{
    const file_facts *x = &k->s.facts[at];
    if (x->n_in != 1)
        return fail(ST_BAD_DATA, "%s: has %zu inputs; models of one input are packed", x->path, x->n_in);
    return reference_outputs(&k->s, at);
}

static status add_column(maker *k, size_t at)
{
    static const char *const forms[] = {"onnx", "qoperator", "tflite", "ncnn"};
    pack_model *models;
    pack_column *to = &k->columns[k->plan.n_columns];
    const matrix_column *c = &k->s.m->columns[at];
    TRY(arena_alloc(&k->mem, &models, sizeof forms / sizeof *forms, sizeof *models));
    *to = (pack_column){.variant = c->variant, .models = models, .samples = k->s.samples};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        const matrix_file *file;
        const char *path;
        TRY(files_path(k->q->run, c, forms[i], &k->mem, &file, &path));
        if (file && reads(k, forms[i]))
            models[to->n_models++] = (pack_model){forms[i], path};
    }
    status st = to->n_models ? make_reference(k, at) : ST_OK;
    if (st == ST_BAD_DATA) {
        log_warn("%s is not packed: %s", c->variant, status_message());
        status_clear();
        return ST_OK;
    }
    TRY(st);
    if (!to->n_models)
        return ST_OK;
    to->input_name = k->s.facts[at].in[0].name;
    to->output_name = k->s.facts[at].output;
    to->input = k->s.input[at][0];
    to->expected = k->s.own[at];
    k->plan.n_columns++;
    return ST_OK;
}

static status add_columns(maker *k)
{
    TRY(arena_alloc(&k->mem, &k->columns, k->s.m->n_columns, sizeof *k->columns));
    for (size_t i = 0; i < k->s.m->n_columns; i++)
        TRY(add_column(k, i));
    k->plan.columns = k->columns;
    return k->plan.n_columns ? ST_OK : fail(ST_BAD_DATA, "%s: no variant can be packed", k->q->run);
}

/* ---- runners ---- */

typedef struct extras {
    pack_extra *at;
    size_t n;
    const char *root;
    arena *mem;
} extras;

static status add_extra(extras *x, const char *name, const char *path, bool executable)
{
    if (x->n == EXTRAS_MAX)
        return fail(ST_INTERNAL, "more than %d files of runners", EXTRAS_MAX);
    x->at[x->n++] = (pack_extra){name, path, executable};
    return ST_OK;
}

static bool is_source(const char *name)
{
    const char *end = strrchr(name, '.');
    return end && (strcmp(end, ".py") == 0 || strcmp(end, ".mjs") == 0 || strcmp(end, ".html") == 0 || strcmp(end, ".js") == 0);
}

/* The sources in ROOT/FOLDER, one level. */
static status add_folder(extras *x, const char *folder)
{
    const char *dir, *name, *path;
    char **names;
    size_t n;
    TRY(arena_printf(x->mem, &dir, "%s/%s", x->root, folder));
    if (!io_is_dir(dir))
        return ST_OK;
    TRY(io_list(dir, 1000, &names, &n));
    status st = ST_OK;
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        if (!is_source(names[i]) || strcmp(names[i], "run_pack.py") == 0)
            continue;
        st = arena_printf(x->mem, &name, "%s/%s", folder, names[i]);
        if (st == ST_OK)
            st = arena_printf(x->mem, &path, "%s/%s", dir, names[i]);
        if (st == ST_OK)
            st = add_extra(x, name, path, false);
    }
    io_list_free(names, n);
    return st;
}

status pack_runners(const pack_target *t, const runtime_places *places, arena *mem, pack_plan *p)
{
    extras x = {.root = places->root, .mem = mem};
    const char *path;
    if (!x.root)
        return fail(ST_UNAVAILABLE, "tools/runners of the project is not found; DISTILL_ROOT names its folder");
    TRY(arena_alloc(mem, &x.at, EXTRAS_MAX, sizeof *x.at));
    TRY(arena_printf(mem, &path, "%s/tools/runners/run_pack.py", x.root));
    TRY(add_extra(&x, "run.py", path, true));
    TRY(add_folder(&x, "tools/runners"));
    TRY(add_folder(&x, "tools/runners/engines"));
    TRY(add_folder(&x, "tools/runners/web"));
    TRY(arena_printf(mem, &path, "%s/tools/setup-runtimes", x.root));
    if (io_exists(path))
        TRY(add_extra(&x, "tools/setup-runtimes", path, true));
    if (strcmp(t->name, "linux") == 0)
        TRY(add_extra(&x, "bin/distill", places->program, true));
    p->extras = x.at;
    p->n_extras = x.n;
    return ST_OK;
}

/* ---- the whole ---- */

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

status pack_make(const pack_request *q, pack_facts *facts)
{
    maker k = {.q = q};
    const job_matrix *o = &q->j->matrix;
    status st = ST_OK;
    TRY_DONE(reference_open(q->run, q->j, q->ds, o->variants.at, o->variants.n, q->stop, NULL, &k.s));
    k.plan = (pack_plan){.target = q->target, .run = last_part(q->run), .set = dataset_info(q->ds)->path, .batch = o->batch,
                         .threads = o->threads, .latency_runs = (size_t)o->latency_runs, .latency_seconds = o->latency_seconds};
    TRY_DONE(pack_rows(q->target, o, &k.mem, &k.plan));
    TRY_DONE(add_columns(&k));
    TRY_DONE(pack_runners(q->target, &k.s.places, &k.mem, &k.plan));
    st = pack_write(&k.plan, q->run, q->out, facts);
done:
    reference_close(&k.s);
    arena_free(&k.mem);
    return st;
}
