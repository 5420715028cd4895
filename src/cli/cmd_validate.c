/* cmd_validate.c - `distill validate`: the proof alone, of a finished run or of two files. */
#include "base/io.h"
#include "cli/cli.h"
#include "cli/run_page.h"
#include "cli/summary.h"
#include "deploy/prove.h"
#include "onnx/import.h"
#include "train/job_spec.h"

#include <string.h>

typedef struct validated {
    cli *c;
    job *j;
    arena mem;
    const char *dir; /* run folder; NULL: two files were given */
    const char *student, *teacher;
    dataset *ds;
    backend *b;
    validation v;
    proof p;
    int64_t student_bytes, teacher_bytes;
} validated;

/* A run folder brings job and student along. */
static status choose_models(validated *x)
{
    cli *c = x->c;
    if (c->o.args.n == 1) {
        const char *ini;
        x->dir = c->o.args.at[0];
        TRY(arena_printf(&x->mem, &ini, "%s/config.ini", x->dir));
        TRY(arena_printf(&x->mem, &x->student, "%s/student.onnx", x->dir));
        c->o.student = ini;
        TRY(cli_load_job(c, true, &x->j));
    } else if (c->o.args.n == 0 && c->o.student) {
        x->student = c->o.student;
        TRY(cli_load_job(c, false, &x->j));
    } else {
        return fail(ST_USAGE, "what? distill validate RUN_DIR, or distill validate --student S.onnx --data DIR "
                    "[--teacher T.onnx]");
    }
    x->teacher = *x->j->teacher.path ? x->j->teacher.path : NULL;
    return ST_OK;
}

static status open_data(validated *x)
{
    onnx_model *m;
    TRY(cli_open_data(x->j, x->student, &x->mem, &x->ds, &x->student_bytes));
    if (!x->teacher)
        return ST_OK;
    TRY(onnx_open(x->teacher, &x->j->limits, &m));
    x->teacher_bytes = (int64_t)m->bytes;
    onnx_close(m);
    return ST_OK;
}

/* The run's own files are brought up to date. */
static status write_run(validated *x, const char **report)
{
    const char *path;
    TRY(arena_printf(&x->mem, &path, "%s/validation.json", x->dir));
    TRY(arena_printf(&x->mem, report, "%s/report.html", x->dir));
    TRY(validation_write(path, &x->v));
    return run_page_write(x->dir);
}

status cmd_validate(cli *c)
{
    validated x = {.c = c};
    const char *report = NULL;
    status st = ST_OK;
    TRY_DONE(choose_models(&x));
    TRY_DONE(open_data(&x));
    backend_options bo = job_backend_options(x.j);
    TRY_DONE(backend_open(x.j->exec.device, &bo, &x.b));
    const prove_options o = {.b = x.b, .ds = x.ds, .numbers = job_gives_numbers(x.j, dataset_info(x.ds), 2), .ort = c->o.ort, .atol = c->o.atol > 0 ? c->o.atol : 1e-4,
                             .rtol = c->o.rtol > 0 ? c->o.rtol : 1e-4, .lim = &x.j->limits, .farthest = 24,
                             .teacher_output = *x.j->teacher.output ? x.j->teacher.output : NULL};
    TRY_DONE(prove(&o, x.teacher, x.student, &x.v, &x.p));
    if (x.dir)
        TRY_DONE(write_run(&x, &report));
    summary m = {.v = &x.v, .dir = x.dir, .report = report};
    m.student = (summary_model){x.student, x.p.student_parameters, x.p.student_macs, x.student_bytes};
    if (x.teacher)
        m.teacher = (summary_model){x.teacher, x.p.teacher_parameters, x.p.teacher_macs, x.teacher_bytes};
    TRY_DONE(summary_print(&m, c->o.json));
    if (!prove_held(&x.v))
        st = fail(ST_GATE, "not all checks held");
done:
    proof_free(&x.p);
    validation_free(&x.v);
    backend_close(x.b);
    dataset_close(x.ds);
    config_free(x.j);
    arena_free(&x.mem);
    return st;
}
