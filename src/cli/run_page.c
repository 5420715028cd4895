/* run_page.c - report.html of a run folder, with its deployment matrix where one was made, the gate of its job and what it decided. */
#include "cli/run_page.h"
#include "base/io.h"
#include "base/log.h"
#include "cli/cli.h"
#include "matrix/store.h"

/* A fault of what is only an addition to the page is told, and the page is made without it. */
static status tolerate(status st, const char *without)
{
    if (st == ST_OK || st == ST_OOM)
        return st;
    log_warn("the page is made without %s: %s", without, status_message());
    status_clear();
    return ST_OK;
}

status run_fetch_marks(const job *j, matrix *m, matrix *before)
{
    arena mem = {0};
    const char *path;
    store *s = NULL;
    status st = ST_OK;
    if (!j->matrix.cache)
        return ST_OK;
    st = store_path(j->cache.dir, &mem, &path);
    if (st == ST_CONFIG || (st == ST_OK && !io_exists(path))) {
        st = ST_OK;
        goto done;
    }
    TRY_DONE(st);
    TRY_DONE(store_open(path, &s));
    TRY_DONE(store_marks(s, m));
    if (before)
        TRY_DONE(store_marks(s, before));
done:
    store_close(s);
    arena_free(&mem);
    return st;
}

/* ---- judgement ---- */

static status apply_gate(const job *j, const char *run_dir, matrix *m, judgement *v)
{
    const char *file, *const *rules;
    size_t n;
    TRY(gate_rules_of(j, &v->mem, &rules, &n));
    if (n == 0)
        return ST_OK;
    TRY(champion_path(j, run_dir, &v->mem, &file));
    TRY(champion_read(file, &v->before));
    TRY(run_fetch_marks(j, m, v->before.present ? &v->before.m : NULL));
    TRY(gate_apply(m, v->before.present ? &v->before.m : NULL, rules, n, &v->gate));
    v->show.gate = &v->gate;
    return ST_OK;
}

status judgement_make(const job *j, const char *run_dir, matrix *m, judgement *out)
{
    *out = (judgement){0};
    TRY(tolerate(apply_gate(j, run_dir, m, out), "the gate"));
    status st = decide_for_job(j, run_dir, m, &out->decided);
    if (st == ST_OK)
        out->show.decided = &out->decided;
    return tolerate(st, "the decision");
}

void judgement_free(judgement *v)
{
    gate_free(&v->gate);
    decision_free(&v->decided);
    champion_free(&v->before);
    arena_free(&v->mem);
    *v = (judgement){0};
}

/* ---- page ---- */

/* The run's own job; *out NULL: it has none. */
static status load_job(const char *run_dir, arena *mem, job **out)
{
    const char *path;
    TRY(arena_printf(mem, &path, "%s/config.ini", run_dir));
    if (!io_exists(path))
        return ST_OK;
    return tolerate(config_load(&(config_sources){.file = path}, out), "the gate");
}

static status read_matrix(const char *run_dir, arena *mem, matrix *m, bool *there)
{
    const char *path;
    TRY(arena_printf(mem, &path, "%s/matrix.json", run_dir));
    if (!io_exists(path))
        return ST_OK;
    status st = matrix_read(path, m);
    *there = st == ST_OK;
    return tolerate(st, "its deployment matrix");
}

/* The data that the samples come from; *out NULL: it is not here. */
static status open_pictures(const char *run_dir, arena *mem, const job *j, dataset **out)
{
    const char *student;
    int64_t bytes;
    TRY(arena_printf(mem, &student, "%s/student.onnx", run_dir));
    if (!io_exists(student))
        return ST_OK;
    log_hush(true);
    status st = cli_open_data(j, student, mem, out, &bytes);
    log_hush(false);
    if (st == ST_OK || st == ST_OOM)
        return st;
    log_debug("the page has no pictures of samples: %s", status_message());
    status_clear();
    return ST_OK;
}

status run_page_write(const char *run_dir)
{
    arena mem = {0};
    matrix m = {0};
    judgement v = {0};
    job *j = NULL;
    bool there = false;
    status st = ST_OK;
    TRY_DONE(read_matrix(run_dir, &mem, &m, &there));
    if (there)
        TRY_DONE(load_job(run_dir, &mem, &j));
    if (j)
        TRY_DONE(judgement_make(j, run_dir, &m, &v));
    if (j)
        TRY_DONE(open_pictures(run_dir, &mem, j, &v.show.pictures));
    st = show_report(run_dir, there ? &m : NULL, &v.show);
done:
    dataset_close(v.show.pictures);
    judgement_free(&v);
    matrix_free(&m);
    config_free(j);
    arena_free(&mem);
    return st;
}
