/* maker.c - opens a run for its matrix: what runs, what is run, and what is expected. See maker.h. */
#include "matrix/maker.h"
#include "base/io.h"
#include "base/log.h"
#include "matrix/cell_run.h"
#include "matrix/feed.h"
#include "matrix/judge.h"
#include "matrix/runner.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* ---- rows ---- */

bool matrix_wants_row(const matrix_options *o, const char *key)
{
    const name_list *l = &o->j->matrix.runtimes;
    const char *const *patterns = o->n_runtimes ? o->runtimes : l->at;
    size_t n = o->n_runtimes ? o->n_runtimes : l->n;
    for (size_t i = 0; i < n; i++)
        if (runtimes_match(patterns[i], key))
            return true;
    return n == 0;
}

static status check_patterns(const matrix_options *o)
{
    const name_list *l = &o->j->matrix.runtimes;
    const char *const *patterns = o->n_runtimes ? o->runtimes : l->at;
    size_t n_all, n = o->n_runtimes ? o->n_runtimes : l->n;
    const runtime_row *all = runtimes_all(&n_all);
    for (size_t i = 0; i < n; i++) {
        bool any = false;
        for (size_t k = 0; k < n_all; k++)
            any = any || runtimes_match(patterns[i], all[k].key);
        const char *near = any ? NULL : nearest_name(patterns[i], &all[0].key, n_all, sizeof *all);
        if (!any)
            return fail(ST_CONFIG, "matrix.runtimes: no row fits '%s'%s%s%s; distill matrix --list names them", patterns[i],
                        near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    return ST_OK;
}

static status run_folder(const char *run, arena *mem, const char **out)
{
    char path[PATH_MAX];
    if (!realpath(run, path))
        return fail(ST_NO_INPUT, "%s: there is no such run folder", run);
    return arena_strdup(mem, out, path);
}

status matrix_rows(const matrix_options *o, arena *mem, const runtime_row *const **rows, runtime_facts **facts, size_t *n)
{
    runtime_places p;
    size_t all;
    const runtime_row *table = runtimes_all(&all), **fit;
    const char *run, *cache, *logs;
    TRY(check_patterns(o));
    TRY(run_folder(o->run, mem, &run));
    TRY(runtimes_places(mem, &p));
    TRY(arena_alloc(mem, &fit, all, sizeof *fit));
    *n = 0;
    for (size_t i = 0; i < all; i++)
        if (matrix_wants_row(o, table[i].key))
            fit[(*n)++] = &table[i];
    *rows = (const runtime_row *const *)fit;
    TRY(arena_alloc(mem, facts, *n, sizeof **facts));
    TRY(arena_printf(mem, &logs, "%s/matrix/log", run));
    TRY(arena_printf(mem, &cache, "%s/matrix/runtimes.json", run));
    TRY(io_make_dirs(logs));
    return runtimes_describe(*rows, *n, &p, cache, logs, o->stop, mem, *facts);
}

static status make_rows(maker *k)
{
    arena *mem = &k->m->mem;
    TRY(matrix_rows(k->o, mem, &k->rows, &k->facts, &k->n_rows));
    TRY(arena_alloc(mem, &k->m->rows, k->n_rows, sizeof *k->m->rows));
    TRY(arena_alloc(mem, &k->launch, k->n_rows, sizeof *k->launch));
    for (size_t i = 0; i < k->n_rows; i++) {
        TRY(runtimes_launch(k->rows[i], &k->places, mem, &k->launch[i]));
        k->m->rows[i] = (matrix_row){.runtime = k->rows[i]->key, .title = k->rows[i]->title, .how = k->facts[i].how,
                                     .present = k->facts[i].present, .emulated = k->rows[i]->emulated};
        k->m->n_rows = i + 1;
    }
    return runtimes_launch(runtimes_find("own"), &k->places, mem, &k->own);
}

/* ---- what all cells share ---- */

static status describe_host(maker *k)
{
    struct utsname u;
    char cpu[64];
    matrix *m = k->m;
    m->cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    m->memory = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    TRY(arena_strdup(&m->mem, &m->cpu, runner_cpu_name(cpu, sizeof cpu)));
    if (uname(&u) != 0)
        return ST_OK;
    TRY(arena_printf(&m->mem, &m->system, "%s %s", u.sysname, u.release));
    return arena_printf(&m->mem, &k->system, "%s %s %s", u.sysname, u.release, u.version);
}

static status fill_maker(maker *k)
{
    const matrix_options *o = k->o;
    const data_info *d = dataset_info(o->ds);
    matrix *m = k->m;
    const int64_t most = o->j->matrix.samples;
    TRY(arena_printf(&m->mem, &k->work, "%s/matrix/work", k->run));
    TRY(arena_printf(&m->mem, &k->logs, "%s/matrix/log", k->run));
    TRY(runtimes_places(&m->mem, &k->places));
    k->samples = d->part[DATA_VAL].n;
    k->samples = most > 0 && (uint64_t)most < k->samples ? (size_t)most : k->samples;
    k->slow = (uint64_t)o->j->matrix.slow_samples < k->samples ? (size_t)o->j->matrix.slow_samples : k->samples;
    if (k->samples == 0)
        return fail(ST_BAD_DATA, "%s: there are no validation samples", d->path);
    m->run = o->run;
    TRY(arena_strdup(&m->mem, &m->run, o->run));
    TRY(arena_printf(&m->mem, &m->set, "%s validation", d->path));
    m->version = DISTILL_VERSION;
    m->samples = k->samples;
    m->numbers = o->numbers;
    TRY(describe_host(k));
    TRY(feed_answers(k->o->ds, k->samples, &k->m->mem, &k->label, &k->target));
    TRY(make_rows(k));
    TRY(files_find(k->run, o->j, NULL, 0, d, m, &k->files));
    k->n_columns = m->n_columns;
    TRY(arena_alloc(&m->mem, &k->outputs, m->n_columns, sizeof *k->outputs));
    TRY(arena_alloc(&m->mem, &k->inputs, m->n_columns, sizeof *k->inputs));
    TRY(arena_alloc(&m->mem, &k->fed, m->n_columns, sizeof *k->fed));
    TRY(arena_alloc(&m->mem, &m->cells, m->n_rows * m->n_columns, sizeof *m->cells));
    for (size_t i = 0; i < m->n_columns; i++)
        TRY(feed_print(d, &k->files[i], k->samples, &m->mem, &k->fed[i]));
    for (size_t i = 0; i < m->n_rows * m->n_columns; i++) {
        m->cells[i] = matrix_cell_empty();
        m->cells[i].runtime = m->rows[i / m->n_columns].runtime;
        m->cells[i].variant = m->columns[i % m->n_columns].variant;
        m->cells[i].reason = m->rows[i / m->n_columns].present ? "not measured yet" : m->rows[i / m->n_columns].how;
        m->cells[i].emulated = k->rows[i / m->n_columns]->emulated;
    }
    return ST_OK;
}

status maker_open(maker *k, const matrix_options *o, matrix *m)
{
    const char *path;
    *k = (maker){.o = o, .m = m, .lock = -1};
    *m = (matrix){0};
    TRY(run_folder(o->run, &m->mem, &k->run));
    TRY(arena_printf(&m->mem, &path, "%s/matrix", k->run));
    TRY(io_make_dirs(path));
    TRY(arena_printf(&m->mem, &path, "%s/lock", path));
    TRY(io_lock(path, &k->lock));
    return fill_maker(k);
}

void maker_close(maker *k)
{
    for (size_t i = 0; k->outputs && i < k->n_columns; i++)
        mem_free(k->outputs[i]);
    if (k->work && io_is_dir(k->work) && io_remove_tree(k->work) != ST_OK)
        log_warn("%s", status_message());
    io_close(k->lock);
    k->lock = -1;
}

/* ---- inputs and references ---- */

/* Columns that are fed alike share the files. */
status maker_inputs(maker *k, size_t column)
{
    const file_facts *x = &k->files[column];
    TRY(io_make_dirs(k->work));
    for (size_t c = 0; !k->inputs[column][0] && c < k->m->n_columns; c++)
        if (k->inputs[c][0] && strcmp(k->fed[c], k->fed[column]) == 0)
            memcpy(k->inputs[column], k->inputs[c], sizeof k->inputs[c]);
    for (size_t i = 0; !k->inputs[column][i] && i < x->n_in; i++) {
        const char *path;
        TRY(arena_printf(&k->m->mem, &path, "%s/x-%zu-%zu.npy", k->work, column, i));
        TRY(feed_write(k->o->ds, x, i, k->samples, path));
        k->inputs[column][i] = path;
    }
    return ST_OK;
}

static status absolute(maker *k, const char *path, const char **out)
{
    char to[PATH_MAX];
    return arena_strdup(&k->m->mem, out, realpath(path, to) ? to : path);
}

size_t maker_samples(const maker *k, const runtime_row *r)
{
    return r->slow ? k->slow : k->samples;
}

status maker_run(maker *k, const runtime_row *r, const runtime_launch *l, size_t column, const char *path, bool timed, matrix_cell *c,
                      tensor *y)
{
    const job_matrix *jm = &k->o->j->matrix;
    arena *mem = &k->m->mem;
    cell_job j = {.row = r, .launch = l, .file = &k->files[column], .inputs = k->inputs[column], .samples = maker_samples(k, r),
                  .batch = (size_t)jm->batch, .threads = (int)jm->threads, .latency = timed && !r->emulated,
                  .latency_runs = jm->latency_runs, .latency_seconds = jm->latency_seconds,
                  .seconds = jm->time_limit > 0 ? jm->time_limit : r->seconds, .memory = jm->memory_limit << 20, .stop = k->o->stop};
    TRY(maker_inputs(k, column));
    TRY(absolute(k, path, &j.model));
    TRY(arena_printf(mem, &j.output, "%s/y-%s-%zu.npy", k->work, r->key, column));
    TRY(arena_printf(mem, &j.log_name, "matrix/log/%s.%s.txt", r->key, k->m->columns[column].variant));
    TRY(arena_printf(mem, &j.log, "%s/%s", k->run, j.log_name));
    TRY(cell_run(&j, mem, c, y));
    return io_remove(j.output);
}

/* The outputs of our executor for a column, from its own row's cell or by a run for them alone. */
status maker_outputs(maker *k, size_t column)
{
    matrix_cell c = matrix_cell_empty();
    tensor y;
    const file_facts *x = &k->files[column];
    if (k->outputs[column])
        return ST_OK;
    TRY(maker_run(k, runtimes_find("own"), &k->own, column, x->path, false, &c, &y));
    if (c.state != CELL_OK)
        return fail(ST_INTERNAL, "%s: our own executor does not run it: %s", x->path, c.reason);
    status st = judge_floats(x, &y, k->samples, &k->outputs[column]);
    tensor_free(&y);
    return st;
}

size_t maker_plain(const maker *k, size_t column)
{
    const char *key = k->files[column].teacher ? "teacher-fp32" : "fp32";
    size_t c = 0;
    while (c < k->m->n_columns && strcmp(k->m->columns[c].variant, key) != 0)
        c++;
    return c;
}

static bool is_own(const runtime_row *r)
{
    return strcmp(r->key, "own") == 0;
}

status maker_judge(maker *k, const runtime_row *r, size_t column, const tensor *y, size_t n, matrix_cell *c)
{
    const size_t plain = maker_plain(k, column);
    const bool own = is_own(r), ort_x86 = strncmp(r->key, "ort", 3) == 0 && (r->kind == RUNNER_NATIVE || r->kind == RUNNER_X86);
    if (own && !k->outputs[column] && judge_floats(&k->files[column], y, n, &k->outputs[column]) != ST_OK)
        status_clear();
    if (!own)
        TRY(maker_outputs(k, column));
    if (plain < k->m->n_columns && plain != column)
        TRY(maker_outputs(k, plain));
    judge_by by = {.file = &k->files[column], .numbers = k->m->numbers, .label = k->label, .target = k->target, .isa = c->isa,
                   .own = own ? NULL : k->outputs[column], .plain = plain < k->m->n_columns ? k->outputs[plain] : NULL,
                   .bf16 = r->bf16, .known = k->files[column].integers ? r->wrong_int8 : r->wrong_float,
                   .may_saturate = ort_x86 && !strstr(r->options, "prec")};
    return judge_outputs(&by, y, n, &k->m->mem, c);
}
