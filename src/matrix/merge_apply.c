/* merge_apply.c - see merge_apply.h. */
#include "matrix/merge_apply.h"

#include "base/hash.h"
#include "base/io.h"
#include "deploy/compare.h"
#include "matrix/judge.h"
#include "matrix/reference.h"
#include "matrix/store.h"
#include "train/job_spec.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { HOST_NAME = 60 };

typedef struct applier {
    const merge_request *q;
    matrix *m;
    merge_result r;
    reference_set s;
    matrix_cell *cells; /* [r.n] */
    const char **rows;  /* [r.n] keys */
    const char *host;   /* "NAME (CPU, SYSTEM)" */
    bool here;
    int lock; /* RUN/matrix/lock: a making of the matrix holds it too */
    merge_facts *facts;
} applier;

/* ---- rows ---- */

static void plain_name(const char *name, char *to)
{
    size_t n = 0;
    for (; name[n] && n < HOST_NAME; n++)
        to[n] = isalnum((unsigned char)name[n]) || strchr("._-", name[n]) ? name[n] : '_';
    to[n] = 0;
}

static size_t find_row(const matrix *m, const char *key)
{
    for (size_t i = 0; i < m->n_rows; i++)
        if (strcmp(m->rows[i].runtime, key) == 0)
            return i;
    return SIZE_MAX;
}

static bool row_is_taken(const matrix *m, size_t row, const char *host, bool here)
{
    for (size_t k = 0; k < m->n_columns; k++) {
        const matrix_cell *c = matrix_at(m, row, k);
        bool ran_here = !c->host || strcmp(c->host, "here") == 0;
        if (c->state != CELL_NOT_RUN && !(ran_here ? here : strcmp(c->host, host) == 0))
            return true;
    }
    return false;
}

static status host_text(const merge_host *h, arena *mem, const char **out)
{
    return arena_printf(mem, out, "%.80s (%.80s, %.60s)", h->name, h->cpu, h->system);
}

status merge_row_key(const matrix *m, const char *runtime, const merge_host *host, bool here, arena *mem, const char **key)
{
    char name[HOST_NAME + 1];
    const char *whole;
    size_t row = find_row(m, runtime);
    TRY(host_text(host, mem, &whole));
    if (row == SIZE_MAX || !row_is_taken(m, row, whole, here))
        return arena_strdup(mem, key, runtime);
    plain_name(host->name, name);
    return arena_printf(mem, key, "%s@%s", runtime, name);
}

/* A row behind those of the same runtime. */
static status add_row(matrix *m, const char *key, const char *runtime, const char *host)
{
    const runtime_row *known = runtimes_find(runtime);
    matrix_row *rows;
    matrix_cell *cells;
    size_t at = m->n_rows, n = m->n_columns;
    for (size_t i = 0; i < m->n_rows; i++)
        if (strncmp(m->rows[i].runtime, runtime, strlen(runtime)) == 0 &&
            (!m->rows[i].runtime[strlen(runtime)] || m->rows[i].runtime[strlen(runtime)] == '@'))
            at = i + 1;
    TRY(arena_alloc(&m->mem, &rows, m->n_rows + 1, sizeof *rows));
    TRY(arena_alloc(&m->mem, &cells, (m->n_rows + 1) * n, sizeof *cells));
    for (size_t i = 0, k = 0; i <= m->n_rows; i++) {
        if (i == at)
            continue;
        rows[i] = m->rows[k];
        memcpy(&cells[i * n], &m->cells[k * n], n * sizeof *cells);
        k++;
    }
    rows[at] = (matrix_row){.present = true};
    TRY(arena_strdup(&m->mem, &rows[at].runtime, key));
    TRY(arena_printf(&m->mem, &rows[at].title, "%s on %s", known ? known->title : runtime, host));
    for (size_t k = 0; k < n; k++) {
        cells[at * n + k] = matrix_cell_empty();
        cells[at * n + k].runtime = rows[at].runtime;
        cells[at * n + k].variant = m->columns[k].variant;
        cells[at * n + k].reason = "was not in the result";
    }
    m->rows = rows;
    m->cells = cells;
    m->n_rows++;
    return ST_OK;
}

/* ---- is the run still what was packed? ---- */

static status check_file(const char *path, const char *packed, const char *variant)
{
    char sha[65];
    TRY(hash_sha256_file(path, sha));
    if (strcmp(sha, packed) != 0)
        return fail(ST_BAD_DATA, "%s has changed since variant %s was packed; pack the run again", path, variant);
    return ST_OK;
}

static status check_run(applier *a, const merge_cell *c, size_t k)
{
    const matrix_file *file;
    const char *path = NULL, *bin;
    TRY(files_path(a->q->run, &a->s.m->columns[k], c->form, &a->r.mem, &file, &path));
    if (!file)
        return fail(ST_BAD_DATA, "%s: variant %s has no %s file any more; pack the run again", a->q->run, c->variant, c->form);
    TRY(check_file(path, c->model_sha256, c->variant));
    if (c->bin_sha256) {
        TRY(arena_printf(&a->r.mem, &bin, "%.*s.bin", (int)(strlen(path) - 6), path));
        TRY(check_file(bin, c->bin_sha256, c->variant));
    }
    TRY(reference_outputs(&a->s, k));
    char sha[65];
    TRY(hash_sha256_file(a->s.input[k][0], sha));
    if (strcmp(sha, c->input_sha256) != 0)
        return fail(ST_BAD_DATA, "%s: the validation samples, or how variant %s takes them, have changed since it was packed; pack the run again",
                    a->q->run, c->variant);
    return ST_OK;
}

/* ---- cells ---- */

static status judge(applier *a, const merge_cell *c, size_t k, matrix_cell *to)
{
    const bool numbers = job_gives_numbers(a->q->j, dataset_info(a->q->ds), a->s.facts[k].rank);
    return reference_judge(&a->s, k, runtimes_find(c->runtime), false, numbers, &c->y, c->samples, &a->m->mem, to);
}

static status refuse(const merge_cell *c, matrix_cell *to)
{
    static const struct {
        const char *kind;
        cell_state state;
    } kinds[] = {{"missing", CELL_NOT_RUN}, {"unsupported", CELL_UNSUPPORTED}, {"timeout", CELL_TIMEOUT}};
    to->state = CELL_CRASH;
    for (size_t i = 0; c->kind && i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].kind, c->kind) == 0)
            to->state = kinds[i].state;
    to->reason = c->message;
    return ST_OK;
}

static status take_times(applier *a, const merge_cell *c, matrix_cell *to)
{
    double *ms, *sorted;
    to->load_ms = c->load_ms;
    to->peak_mb = c->peak_mb;
    to->seconds = c->seconds;
    to->throughput = c->ok && c->run_s > 0 ? (double)c->samples / c->run_s : (double)NAN;
    if (!c->n_latency)
        return ST_OK;
    TRY(arena_alloc(&a->m->mem, &ms, 2 * c->n_latency, sizeof *ms));
    sorted = ms + c->n_latency;
    memcpy(ms, c->latency_ms, c->n_latency * sizeof *ms);
    memcpy(sorted, ms, c->n_latency * sizeof *ms);
    latency l = latency_of(sorted, c->n_latency);
    to->latency_ms = ms;
    to->n_latency = c->n_latency;
    to->p50_ms = l.p50;
    to->p90_ms = l.p90;
    to->p99_ms = l.p99;
    return ST_OK;
}

static status save_log(applier *a, const merge_cell *c, matrix_cell *to)
{
    const char *dir, *path;
    if (!c->log || !*c->log)
        return ST_OK;
    TRY(arena_printf(&a->m->mem, &dir, "%s/matrix/log", a->q->run));
    TRY(arena_printf(&a->m->mem, &to->log, "matrix/log/%s.%s.txt", to->runtime, to->variant));
    TRY(arena_printf(&a->m->mem, &path, "%s/%s", a->q->run, to->log));
    TRY(io_make_dirs(dir));
    return io_write_file(path, c->log, strlen(c->log));
}

/* Copies of strings that live with the result. */
static status keep(applier *a, const char **s)
{
    return *s ? arena_strdup(&a->m->mem, s, *s) : ST_OK;
}

static status make_cell(applier *a, size_t i)
{
    const merge_cell *c = &a->r.cells[i];
    matrix_cell *to = &a->cells[i];
    size_t k = reference_find(&a->s, c->variant);
    if (k == SIZE_MAX || !matrix_find(a->m, a->m->n_rows ? a->m->rows[0].runtime : "", c->variant))
        return fail(ST_BAD_DATA, "%s: the matrix has no variant %s any more; make it again (distill matrix), or pack the run again", a->q->run,
                    c->variant);
    TRY(merge_row_key(a->m, c->runtime, &a->r.host, a->here, &a->m->mem, &a->rows[i]));
    *to = matrix_cell_empty();
    to->runtime = a->rows[i];
    to->variant = a->s.m->columns[k].variant;
    TRY(keep(a, &to->variant));
    to->engine = c->engine;
    to->version = c->version;
    to->build = c->build;
    to->device = c->device;
    to->isa = c->isa;
    to->providers = c->providers;
    to->notes = c->notes;
    to->host = a->host;
    to->when = c->when;
    if (c->form) {
        const matrix_file *file;
        const char *path;
        TRY(check_run(a, c, k));
        TRY(files_path(a->q->run, &a->s.m->columns[k], c->form, &a->r.mem, &file, &path));
        to->bytes = file->bytes;
    }
    TRY(take_times(a, c, to));
    TRY(c->ok ? judge(a, c, k, to) : refuse(c, to));
    const char **texts[] = {&to->engine, &to->version, &to->build, &to->device, &to->isa, &to->providers, &to->notes, &to->reason};
    for (size_t t = 0; t < sizeof texts / sizeof *texts; t++)
        TRY(keep(a, texts[t]));
    a->facts->state[to->state]++;
    return ST_OK;
}

/* What the cell depends on, as the store has it. Sets the key. */
static status store_cell(applier *a, const merge_cell *c, matrix_cell *to)
{
    char samples[32], hex[65];
    snprintf(samples, sizeof samples, "%zu", c->samples);
    const key_part parts[] = {
        {"model", c->model_sha256}, {"runner", "pack"},     {"form", c->form},         {"runtime", c->runtime}, {"engine", c->engine},
        {"version", c->version},    {"build", c->build},    {"provider", c->providers}, {"device", c->device},  {"driver", NULL},
        {"system", a->r.host.system}, {"machine", a->r.host.machine}, {"isa", c->isa}, {"samples", samples}, {"data", c->input_sha256},
        {"host", a->r.host.name},   {"distill", DISTILL_VERSION}};
    const size_t n = sizeof parts / sizeof *parts;
    TRY(store_key(parts, n, hex));
    TRY(arena_strdup(&a->m->mem, &to->key, hex));
    return a->q->cache && c->form && c->ok ? store_put((store *)a->q->cache, to, parts, n) : ST_OK;
}

static status place_cells(applier *a)
{
    for (size_t i = 0; i < a->r.n; i++) {
        const char *key = a->rows[i];
        if (find_row(a->m, key) == SIZE_MAX) {
            TRY(add_row(a->m, key, a->r.cells[i].runtime, a->r.host.name));
            a->facts->new_rows++;
        }
        size_t row = find_row(a->m, key);
        matrix_cell *at = matrix_find(a->m, key, a->cells[i].variant);
        a->m->rows[row].present = true;
        a->m->rows[row].how = NULL;
        TRY(save_log(a, &a->r.cells[i], &a->cells[i]));
        TRY(store_cell(a, &a->r.cells[i], &a->cells[i]));
        *at = a->cells[i];
    }
    a->facts->cells = a->r.n;
    return ST_OK;
}

/* ---- the whole ---- */

/* The same name and processor as the machine that made the matrix, and as this one. */
static bool is_here(const applier *a)
{
    char name[256] = "";
    if (gethostname(name, sizeof name - 1) != 0)
        return false;
    return strcmp(name, a->r.host.name) == 0 && a->m->cpu && strcmp(a->m->cpu, a->r.host.cpu) == 0;
}

static status read_matrix(applier *a, const char **path)
{
    const char *lock;
    TRY(arena_printf(&a->r.mem, &lock, "%s/matrix/lock", a->q->run)); /* the folder is there: the pack's copy lies in it */
    TRY(io_lock(lock, &a->lock));
    TRY(arena_printf(&a->r.mem, path, "%s/matrix.json", a->q->run));
    if (!io_exists(*path))
        return fail(ST_NO_INPUT, "%s: there is no matrix yet to merge into; make it: distill matrix %s", *path, a->q->run);
    return matrix_read(*path, a->m);
}

status merge_apply(const merge_request *q, matrix *out, merge_facts *facts)
{
    applier a = {.q = q, .m = out, .lock = -1, .facts = facts};
    const char *path;
    static const char *const every[] = {"*"};
    status st = ST_OK;
    *out = (matrix){0};
    *facts = (merge_facts){.cells = 0};
    TRY_DONE(merge_read(q->path, q->run, &a.r));
    TRY_DONE(read_matrix(&a, &path));
    a.here = is_here(&a);
    TRY_DONE(host_text(&a.r.host, &out->mem, &a.host));
    snprintf(facts->host, sizeof facts->host, "%s", a.host);
    TRY_DONE(reference_open(q->run, q->j, q->ds, every, 1, q->stop, NULL, &a.s));
    TRY_DONE(arena_alloc(&a.r.mem, &a.cells, a.r.n, sizeof *a.cells));
    TRY_DONE(arena_alloc(&a.r.mem, &a.rows, a.r.n, sizeof *a.rows));
    for (size_t i = 0; i < a.r.n; i++)
        TRY_DONE(make_cell(&a, i));
    TRY_DONE(place_cells(&a));
    st = matrix_write(path, out);
done:
    reference_close(&a.s);
    merge_free(&a.r);
    io_close(a.lock);
    return st;
}
