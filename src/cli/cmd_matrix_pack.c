/* cmd_matrix_pack.c - `distill matrix pack`, `merge`, `bisect`: the matrix on other machines, and where a runtime parts from us. */
#include "base/io.h"
#include "base/log.h"
#include "cli/cmd_matrix.h"
#include "cli/run_page.h"
#include "data/npy.h"
#include "distill/cache.h"
#include "matrix/bisect.h"
#include "matrix/merge_apply.h"
#include "matrix/pack_make.h"
#include "matrix/profile.h"
#include "matrix/reference.h"
#include "matrix/store.h"

#include <inttypes.h>
#include <string.h>

typedef struct opened {
    cli *c;
    arena mem;
    const char *dir;
    job *j;
    dataset *ds;
} opened;

/* The run of argument 1 and its data. */
static status open_run(opened *x)
{
    const char *ini, *student;
    int64_t bytes;
    x->dir = x->c->o.args.at[1];
    TRY(arena_printf(&x->mem, &ini, "%s/config.ini", x->dir));
    TRY(arena_printf(&x->mem, &student, "%s/student.onnx", x->dir));
    x->c->o.student = ini;
    TRY(cli_load_job(x->c, true, &x->j));
    return cli_open_data(x->j, student, &x->mem, &x->ds, &bytes);
}

static void close_run(opened *x)
{
    dataset_close(x->ds);
    config_free(x->j);
    arena_free(&x->mem);
}

/* ---- pack ---- */

static status choose_target(const cli *c, const pack_target **t)
{
    const char *near;
    if (c->o.args.n != 2 || !c->o.target)
        return fail(ST_USAGE, "distill matrix pack RUN_DIR --for linux|windows|macos|android|ios; with --profile the folder that the "
                              "probes are kept in");
    *t = pack_find_target(c->o.target);
    near = *t ? NULL : nearest_name(c->o.target, &pack_targets[0].name, 5, sizeof *pack_targets);
    return *t ? ST_OK : fail(ST_USAGE, "no packs are made for '%s'%s%s; linux, windows, macos, android and ios are known", c->o.target,
                             near ? "; did you mean " : "", near ? near : "");
}

status cmd_matrix_pack(cli *c)
{
    opened x = {.c = c};
    pack_facts f = {.files = 0};
    const pack_target *target;
    const char *out = c->o.out;
    char size[24];
    text t = {0};
    status st = ST_OK;
    TRY_DONE(choose_target(c, &target));
    x.dir = c->o.args.at[1];
    if (c->o.profile)
        TRY_DONE(cli_load_job(c, false, &x.j));
    else
        TRY_DONE(open_run(&x));
    if (!out)
        TRY_DONE(arena_printf(&x.mem, &out, "%s/matrix-%s%s", x.dir, target->name, target->ending));
    if (c->o.profile) {
        TRY_DONE(io_make_dirs(x.dir));
        TRY_DONE(profile_pack(x.dir, target, x.j, out, &f));
    } else {
        TRY_DONE(pack_make(&(pack_request){.run = x.dir, .j = x.j, .ds = x.ds, .target = target, .out = out, .stop = c->stop}, &f));
    }
    if (c->o.json) {
        json j = {.out = &t};
        json_put_object(&j, NULL);
        json_put_string(&j, "path", out);
        json_put_string(&j, "pack", f.id);
        json_put_int(&j, "files", (int64_t)f.files);
        json_put_int(&j, "bytes", (int64_t)f.bytes);
        json_end_object(&j);
        text_add(&t, "\n");
    } else {
        text_printf(&t, "%s: %zu files, %s\nThere: unpack it, start %s (README.txt says more), bring result.json back. Here: distill matrix merge %s "
                    "result.json\n", out, f.files, human_bytes((double)f.bytes, size), target->script, x.dir);
    }
    st = cli_print(&t);
done:
    text_free(&t);
    close_run(&x);
    return st;
}

/* ---- merge ---- */

static void say_merged(const merge_facts *f, bool as_json, text *t)
{
    json j = {.out = t};
    if (!as_json) {
        text_printf(t, "%zu cells from %s", f->cells, f->host);
        for (int s = 0; s < CELL_STATES; s++)
            if (f->state[s])
                text_printf(t, ", %zu %s", f->state[s], cell_state_name((cell_state)s));
        text_printf(t, "; %zu new rows\n", f->new_rows);
        return;
    }
    json_put_object(&j, NULL);
    json_put_string(&j, "host", f->host);
    json_put_int(&j, "cells", (int64_t)f->cells);
    json_put_int(&j, "new_rows", (int64_t)f->new_rows);
    for (int s = 0; s < CELL_STATES; s++)
        json_put_int(&j, cell_state_name((cell_state)s), (int64_t)f->state[s]);
    json_end_object(&j);
    text_add(t, "\n");
}

static status open_store(const opened *x, store **out)
{
    *out = NULL;
    return x->j->matrix.cache ? store_open_in(x->j->cache.dir, out) : ST_OK;
}

/* What came back of `pack --profile`. */
static status merge_profile(cli *c)
{
    arena mem = {0};
    const char *file, *section;
    text t = {0};
    status st = profile_merge(c->o.args.at[1], c->o.args.at[2], &mem, &file, &section);
    if (st == ST_OK) {
        text_add(&t, section);
        log_info("%s: written; copy the section into a job file", file);
        st = cli_print(&t);
    }
    text_free(&t);
    arena_free(&mem);
    return st;
}

status cmd_matrix_merge(cli *c)
{
    opened x = {.c = c};
    merge_facts f;
    matrix m = {0};
    store *cache = NULL;
    text t = {0};
    status st = ST_OK;
    if (c->o.args.n != 3)
        return fail(ST_USAGE, "distill matrix merge RUN_DIR RESULT.json");
    if (profile_is(c->o.args.at[1]))
        return merge_profile(c);
    TRY_DONE(open_run(&x));
    TRY_DONE(open_store(&x, &cache));
    TRY_DONE(merge_apply(&(merge_request){.run = x.dir, .path = c->o.args.at[2], .j = x.j, .ds = x.ds, .cache = cache, .stop = c->stop}, &m, &f));
    if (run_page_write(x.dir) != ST_OK)
        log_warn("%s", status_message());
    say_merged(&f, c->o.json, &t);
    st = cli_print(&t);
done:
    text_free(&t);
    store_close(cache);
    matrix_free(&m);
    close_run(&x);
    return st;
}

/* ---- bisect ---- */

enum { BISECT_SAMPLES = 16 };

/* Rows of the whole input: those the matrix found worst in that cell, then the first ones. */
static status choose_samples(const opened *x, const char *runtime, const char *variant, const tensor *all, tensor *out)
{
    size_t at[BISECT_SAMPLES], n = 0, total = (size_t)all->sh.dim[0];
    const char *path;
    matrix m = {0};
    shape sh = all->sh;
    arena mem = {0};
    TRY(arena_printf(&mem, &path, "%s/matrix.json", x->dir));
    status st = matrix_read(path, &m);
    const matrix_cell *c = st == ST_OK ? matrix_find(&m, runtime, variant) : NULL;
    if (st == ST_NO_INPUT)
        st = ST_OK;
    status_clear();
    for (size_t i = 0; c && i < c->n_worst; i++)
        if (c->worst[i].sample < total)
            at[n++] = c->worst[i].sample;
    for (size_t i = 0; i < total && n < BISECT_SAMPLES; i++) {
        bool has = false;
        for (size_t k = 0; k < n; k++)
            has |= at[k] == i;
        if (!has)
            at[n++] = i;
    }
    sh.dim[0] = (int64_t)n;
    if (st == ST_OK)
        st = tensor_new(out, "x", all->type, sh);
    size_t each = st == ST_OK ? tensor_bytes(out) / n : 0;
    for (size_t i = 0; i < n && st == ST_OK; i++)
        memcpy((char *)out->data + i * each, (const char *)all->data + at[i] * each, each);
    matrix_free(&m);
    arena_free(&mem);
    return st;
}

static status bisect(opened *x, const char *runtime, const char *variant, reference_set *s, bisect_result *r)
{
    const runtime_row *row = runtimes_find(runtime);
    const char *dir, *row_options;
    runtime_launch launch;
    tensor all = {0}, some = {0};
    status st = ST_OK;
    if (!row || row->kind == RUNNER_NEVER)
        return fail(ST_USAGE, "there is no runtime '%s' on this machine; distill matrix --list lists them", runtime);
    TRY(arena_printf(&x->mem, &dir, "%s/matrix/bisect/%s.%s", x->dir, runtime, variant));
    TRY(arena_printf(&x->mem, &row_options, "{%s}", row->options ? row->options : ""));
    TRY(reference_open(x->dir, x->j, x->ds, &variant, 1, x->c->stop, NULL, s));
    if (s->m->n_columns != 1)
        return fail(ST_USAGE, "%s has no variant '%s'", x->dir, variant);
    TRY(runtimes_launch(row, &s->places, &x->mem, &launch));
    if (launch.missing)
        return fail(ST_UNAVAILABLE, "%s", launch.missing);
    if (s->facts[0].n_in != 1)
        return fail(ST_BAD_DATA, "%s: has %zu inputs; models of one input can be cut", s->facts[0].path, s->facts[0].n_in);
    TRY(reference_inputs(s, 0));
    TRY_DONE(npy_read(s->input[0][0], &x->j->limits, &all));
    TRY_DONE(choose_samples(x, runtime, variant, &all, &some));
    const file_facts *f = &s->facts[0];
    st = bisect_run(&(bisect_options){.model = f->path, .form = runtimes_form(row, f->integers), .command = launch.command, .env = launch.env,
                                      .runner_options = row_options, .seconds = row->seconds, .threads = (int)x->j->matrix.threads, .x = &some,
                                      .tolerance = f->half ? 5e-2 : 1e-4, .exact = f->portable, .dir = dir}, r);
done:
    tensor_free(&all);
    tensor_free(&some);
    return st;
}

status cmd_matrix_bisect(cli *c)
{
    opened x = {.c = c};
    reference_set s = {0};
    bisect_result r = {.parts = false};
    text t = {0};
    const char *runtime, *cell = c->o.args.n == 3 ? c->o.args.at[2] : "", *slash = strchr(cell, '/');
    status st = ST_OK;
    if (!slash || slash == cell || !slash[1])
        return fail(ST_USAGE, "distill matrix bisect RUN_DIR RUNTIME/VARIANT");
    TRY_DONE(arena_printf(&x.mem, &runtime, "%.*s", (int)(slash - cell), cell));
    TRY_DONE(open_run(&x));
    TRY_DONE(bisect(&x, runtime, slash + 1, &s, &r));
    if (c->o.json) {
        json j = {.out = &t};
        bisect_json(&r, &j);
        text_add(&t, "\n");
    } else {
        bisect_print(&r, &t);
    }
    st = cli_print(&t);
done:
    text_free(&t);
    bisect_free(&r);
    reference_close(&s);
    close_run(&x);
    return st;
}
