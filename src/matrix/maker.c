/* maker.c - opens a run for its matrix: what runs, what is run, and what is expected. See maker.h. */
#include "matrix/maker.h"
#include "base/io.h"
#include "matrix/cell_run.h"
#include "matrix/runner.h"

#include <limits.h>
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
        TRY(runtimes_launch(k->rows[i], &k->ref.places, mem, &k->launch[i]));
        k->m->rows[i] = (matrix_row){.runtime = k->rows[i]->key, .title = k->rows[i]->title, .how = k->facts[i].how,
                                     .present = k->facts[i].present, .emulated = k->rows[i]->emulated};
        k->m->n_rows = i + 1;
    }
    return ST_OK;
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
    matrix *m = k->m;
    TRY(arena_printf(&m->mem, &k->logs, "%s/matrix/log", k->run));
    TRY(arena_strdup(&m->mem, &m->run, o->run));
    TRY(arena_printf(&m->mem, &m->set, "%s validation", dataset_info(o->ds)->path));
    m->version = DISTILL_VERSION;
    m->numbers = o->numbers;
    TRY(describe_host(k));
    TRY(reference_open(k->run, o->j, o->ds, NULL, 0, o->stop, m, &k->ref));
    m->samples = k->ref.samples;
    k->slow = (uint64_t)o->j->matrix.slow_samples < m->samples ? (size_t)o->j->matrix.slow_samples : m->samples;
    TRY(make_rows(k));
    TRY(arena_alloc(&m->mem, &m->cells, m->n_rows * m->n_columns, sizeof *m->cells));
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

void maker_dismiss(maker *k)
{
    process_dismiss(k->kept);
    k->kept = NULL;
}

void maker_close(maker *k)
{
    maker_dismiss(k);
    reference_close(&k->ref);
    io_close(k->lock);
    k->lock = -1;
}

/* ---- cells ---- */

static status absolute(maker *k, const char *path, const char **out)
{
    char to[PATH_MAX];
    return arena_strdup(&k->m->mem, out, realpath(path, to) ? to : path);
}

size_t maker_samples(const maker *k, const runtime_row *r)
{
    return r->slow ? k->slow : k->ref.samples;
}

status maker_run(maker *k, const runtime_row *r, const runtime_launch *l, size_t column, const char *path, bool timed, matrix_cell *c,
                 tensor *y, bool *again)
{
    const job_matrix *jm = &k->o->j->matrix;
    arena *mem = &k->m->mem;
    TRY(reference_inputs(&k->ref, column));
    cell_job j = {.row = r, .launch = l, .file = &k->ref.facts[column], .inputs = k->ref.input[column], .samples = maker_samples(k, r),
                  .batch = (size_t)jm->batch, .threads = (int)jm->threads, .latency = timed && !r->emulated,
                  .latency_runs = jm->latency_runs, .latency_seconds = jm->latency_seconds,
                  .seconds = jm->time_limit > 0 ? jm->time_limit : r->seconds, .memory = jm->memory_limit << 20, .stop = k->o->stop,
                  .kept = r->stays ? &k->kept : NULL};
    TRY(absolute(k, path, &j.model));
    TRY(arena_printf(mem, &j.output, "%s/y-%s-%zu.npy", k->ref.dir, r->key, column));
    TRY(arena_printf(mem, &j.log_name, "matrix/log/%s.%s.txt", r->key, k->m->columns[column].variant));
    TRY(arena_printf(mem, &j.log, "%s/%s", k->run, j.log_name));
    TRY(cell_run(&j, mem, c, y));
    *again = j.again;
    return io_remove(j.output);
}

status maker_judge(maker *k, const runtime_row *r, size_t column, const tensor *y, size_t n, matrix_cell *c)
{
    return reference_judge(&k->ref, column, r, strcmp(r->key, "own") == 0, k->m->numbers, y, n, &k->m->mem, c);
}
