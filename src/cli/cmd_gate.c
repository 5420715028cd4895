/* cmd_gate.c - `distill gate`: the rules of [gate] on the matrix of a run, and its promotion. */
#include "base/hash.h"
#include "base/io.h"
#include "cli/cli.h"
#include "cli/run_page.h"

#include <string.h>

typedef struct gated {
    const char *dir;
    arena mem;
    job *j;
    const char *const *rules;
    size_t n_rules;
    matrix m;
    const char *champion_file;
    champion before;
    gate_result g;
    bool promoted;
} gated;

/* The rules of --student, else of the run's own job. */
static status open_job(cli *c, gated *x)
{
    const char *ini;
    if (!c->o.student) {
        TRY(arena_printf(&x->mem, &ini, "%s/config.ini", x->dir));
        c->o.student = ini;
    }
    TRY(cli_load_job(c, true, &x->j));
    TRY(gate_rules_of(x->j, &x->mem, &x->rules, &x->n_rules));
    if (!x->n_rules)
        return fail(ST_CONFIG, "%s: [gate] has no rules; write one a line, e.g. top1 >= 0.92, or give --set 'gate.a=top1 >= 0.92'",
                    c->o.student);
    return ST_OK;
}

/* The student's files must be those that were measured. */
static status check_files(const gated *x, const matrix_column *col)
{
    for (size_t i = 0; i < col->n_files; i++) {
        const matrix_file *f = &col->files[i];
        text path = {0};
        char sha[65] = "";
        if (!f->sha256 || strcmp(f->form, "ncnn") == 0 /* two files, one hash */ || (col->model && strcmp(col->model, "teacher") == 0))
            continue;
        text_printf(&path, "%s%s%s", *f->path == '/' ? "" : x->dir, *f->path == '/' ? "" : "/", f->path);
        status st = path.st == ST_OK ? hash_sha256_file(path.s, sha) : path.st;
        if (st == ST_OK && strcmp(sha, f->sha256) != 0)
            st = fail(ST_BAD_DATA, "%s: is not the file that the matrix was measured with; run `distill matrix %s` again", path.s, x->dir);
        text_free(&path);
        TRY(st);
    }
    return ST_OK;
}

static status open_matrix(gated *x)
{
    const char *path;
    TRY(arena_printf(&x->mem, &path, "%s/matrix.json", x->dir));
    status st = matrix_read(path, &x->m);
    if (st == ST_NO_INPUT)
        return fail(ST_NO_INPUT, "%s: there is none; `distill matrix %s` makes it", path, x->dir);
    TRY(st);
    for (size_t i = 0; i < x->m.n_columns; i++)
        TRY(check_files(x, &x->m.columns[i]));
    return ST_OK;
}

static void say_champion(const gated *x, text *t)
{
    const champion *b = &x->before;
    if (b->present)
        text_printf(t, "champion%s: %s (%s, by %s on %s)\n", x->promoted ? " before" : "", b->run ? b->run : "?", b->when ? b->when : "?",
                    b->who ? b->who : "?", b->host ? b->host : "?");
    else if (!x->promoted)
        text_add(t, "champion: none yet\n");
    if (x->promoted)
        text_printf(t, "promoted: %s, in %s\n", x->m.run ? x->m.run : x->dir, x->champion_file);
}

static void say_json(const gated *x, text *t)
{
    const champion *b = &x->before;
    json j = {.out = t};
    json_put_object(&j, NULL);
    json_put_int(&j, "schema", 1);
    json_put_string(&j, "run", x->m.run ? x->m.run : x->dir);
    gate_json(&x->g, &j);
    json_put_object(&j, "champion");
    json_put_string(&j, "file", x->champion_file);
    json_put_bool(&j, "promoted", x->promoted);
    if (b->present) {
        json_put_object(&j, "before");
        json_put_string(&j, "run", b->run);
        json_put_string(&j, "when", b->when);
        json_put_string(&j, "who", b->who);
        json_put_string(&j, "host", b->host);
        json_end_object(&j);
    }
    json_end_object(&j);
    json_end_object(&j);
    text_add(t, "\n");
}

status cmd_gate(cli *c)
{
    gated x = {0};
    text t = {0};
    int lock = -1;
    status st = ST_OK;
    if (c->o.args.n != 1)
        return fail(ST_USAGE, "which run? distill gate RUN_DIR [--promote]");
    x.dir = c->o.args.at[0];
    TRY_DONE(open_job(c, &x));
    TRY_DONE(open_matrix(&x));
    TRY_DONE(champion_path(x.j, x.dir, &x.mem, &x.champion_file));
    if (c->o.promote)
        TRY_DONE(champion_lock(x.champion_file, &lock));
    TRY_DONE(champion_read(x.champion_file, &x.before));
    TRY_DONE(run_fetch_marks(x.j, &x.m, x.before.present ? &x.before.m : NULL));
    TRY_DONE(gate_apply(&x.m, x.before.present ? &x.before.m : NULL, x.rules, x.n_rules, &x.g));
    if (c->o.promote && x.g.held) {
        TRY_DONE(champion_promote(x.champion_file, x.dir, &x.m, &x.g, &x.before));
        x.promoted = true;
    }
    if (c->o.json) {
        say_json(&x, &t);
    } else {
        gate_print(&x.g, &t);
        say_champion(&x, &t);
    }
    TRY_DONE(cli_print(&t));
    if (!x.g.held)
        st = fail(ST_GATE, "the gate does not hold%s", c->o.promote ? "; not promoted" : "");
done:
    text_free(&t);
    io_close(lock);
    gate_free(&x.g);
    champion_free(&x.before);
    matrix_free(&x.m);
    config_free(x.j);
    arena_free(&x.mem);
    return st;
}
