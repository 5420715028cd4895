/* run_page.c - report.html of a run folder, with its deployment matrix where one was made, and the gate of its job. */
#include "base/io.h"
#include "base/log.h"
#include "cli/cli.h"
#include "matrix/gate.h"
#include "matrix/show.h"

typedef struct run_page {
    arena mem;
    const char *dir;
    matrix m;
    bool has_matrix, has_gate;
    job *j;
    gate_result gate;
} run_page;

/* A fault of what is only an addition to the page is told, and the page is made without it. */
static status tolerate(status st, const char *without)
{
    if (st == ST_OK || st == ST_OOM)
        return st;
    log_warn("the page is made without %s: %s", without, status_message());
    status_clear();
    return ST_OK;
}

static status read_matrix(run_page *p)
{
    const char *path;
    TRY(arena_printf(&p->mem, &path, "%s/matrix.json", p->dir));
    if (!io_exists(path))
        return ST_OK;
    status st = matrix_read(path, &p->m);
    p->has_matrix = st == ST_OK;
    return tolerate(st, "its deployment matrix");
}

static status apply_gate(run_page *p)
{
    const char *path, *const *rules;
    size_t n;
    TRY(arena_printf(&p->mem, &path, "%s/config.ini", p->dir));
    if (!io_exists(path))
        return ST_OK;
    TRY(config_load(&(config_sources){.file = path}, &p->j));
    TRY(gate_rules_of(p->j, &p->mem, &rules, &n));
    if (n == 0)
        return ST_OK;
    status st = gate_apply(&p->m, NULL, rules, n, &p->gate);
    p->has_gate = st == ST_OK;
    return st;
}

status cli_run_page(const char *run_dir)
{
    run_page p = {.dir = run_dir};
    status st = ST_OK;
    TRY_DONE(read_matrix(&p));
    if (p.has_matrix)
        TRY_DONE(tolerate(apply_gate(&p), "the gate"));
    const show_options o = {.gate = p.has_gate ? &p.gate : NULL};
    st = show_report(run_dir, p.has_matrix ? &p.m : NULL, &o);
done:
    gate_free(&p.gate);
    matrix_free(&p.m);
    config_free(p.j);
    arena_free(&p.mem);
    return st;
}
