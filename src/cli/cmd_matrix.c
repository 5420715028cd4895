/* cmd_matrix.c - `distill matrix RUN_DIR`: every variant of a run in every runtime, as a table. */
#include "base/io.h"
#include "base/log.h"
#include "cli/cmd_matrix.h"
#include "cli/run_page.h"
#include "matrix/matrix_join.h"
#include "matrix/matrix_make.h"
#include "matrix/words.h"
#include "train/job_spec.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

typedef struct matrix_run {
    cli *c;
    job *j;
    arena mem;
    const char *dir, *file; /* run folder; its matrix.json */
    dataset *ds;
    store *cache;
    matrix m;
    judgement judged;
} matrix_run;

static status open_job(matrix_run *x)
{
    cli *c = x->c;
    const char *ini;
    if (c->o.args.n != 1)
        return fail(ST_USAGE, "which run? distill matrix RUN_DIR");
    x->dir = c->o.args.at[0];
    TRY(arena_printf(&x->mem, &ini, "%s/config.ini", x->dir));
    TRY(arena_printf(&x->mem, &x->file, "%s/matrix.json", x->dir));
    c->o.student = ini;
    return cli_load_job(c, true, &x->j);
}

static void tell(void *ctx, const matrix_cell *c, size_t done, size_t total)
{
    text t = {0};
    (void)ctx;
    text_printf(&t, "%zu/%zu %s, %s: %s", done, total, c->runtime, c->variant, cell_state_name(c->state));
    if (!isnan(c->accuracy))
        text_printf(&t, ", accuracy %.4g %% of %zu", 100 * c->accuracy, c->images);
    if (!isnan(c->p50_ms))
        text_printf(&t, ", %.3g ms", c->p50_ms);
    if (c->reason && c->state != CELL_NOT_RUN)
        text_printf(&t, ": %s", c->reason);
    if (t.st == ST_OK)
        log_line(c->cached || !c->key || c->state == CELL_NOT_RUN ? LOG_DEBUG : LOG_INFO, "%s", t.s);
    text_free(&t);
}

static matrix_options options_of(const matrix_run *x)
{
    return (matrix_options){.run = x->dir, .j = x->j, .ds = x->ds, .refresh = x->c->o.refresh, .cache = x->cache, .stop = x->c->stop,
                            .numbers = x->ds && job_gives_numbers(x->j, dataset_info(x->ds), 2), .tell = tell};
}

/* ---- the table ---- */

static status print_decision(const matrix_run *x)
{
    const decision *d = x->judged.show.decided;
    text t = {0};
    json j = {.out = &t};
    if (!d) /* it was said why */
        return fail(ST_CONFIG, "%s: there is no decision", x->dir);
    if (!x->c->o.json) {
        decision_print(d, &t);
        return cli_print(&t);
    }
    json_put_object(&j, NULL);
    json_put_int(&j, "schema", 1);
    json_put_string(&j, "run", x->m.run);
    decision_json(d, &j);
    json_end_object(&j);
    text_add(&t, "\n");
    return cli_print(&t);
}

static status print_matrix(matrix_run *x)
{
    const options *o = &x->c->o;
    show_options how = x->judged.show;
    text t = {0};
    how.color = isatty(STDOUT_FILENO);
    if (o->json)
        matrix_put(&t, &x->m, false);
    else if (o->markdown)
        show_markdown(&x->m, &how, &t);
    else if (o->csv)
        show_csv(&x->m, &t);
    else
        show_terminal(&x->m, &how, &t);
    return cli_print(&t);
}

static status write_files(matrix_run *x)
{
    TRY(matrix_write(x->file, &x->m));
    TRY(judgement_make(x->j, x->dir, &x->m, &x->judged));
    x->judged.show.pictures = x->ds;
    if (show_report(x->dir, &x->m, &x->judged.show) != ST_OK)
        log_warn("%s", status_message());
    return ST_OK;
}

static status make(matrix_run *x)
{
    const char *student;
    int64_t bytes;
    TRY(arena_printf(&x->mem, &student, "%s/student.onnx", x->dir));
    TRY(cli_open_data(x->j, student, &x->mem, &x->ds, &bytes));
    if (x->j->matrix.cache)
        TRY(store_open_in(x->j->cache.dir, &x->cache));
    const matrix_options o = options_of(x);
    status st = matrix_make(&o, &x->m);
    if (st == ST_OK)
        st = matrix_join(&x->m, x->dir);
    if (st == ST_OK)
        st = write_files(x);
    if (st == ST_OK)
        st = x->c->o.decide ? print_decision(x) : print_matrix(x);
    return st;
}

/* ---- --list, --clean ---- */

static void list_json(const runtime_row *const *rows, const runtime_facts *f, size_t n, text *t)
{
    json j = {.out = t};
    json_put_object(&j, NULL);
    json_put_array(&j, "runtimes");
    for (size_t i = 0; i < n; i++) {
        json_put_object(&j, NULL);
        json_put_string(&j, "runtime", rows[i]->key);
        json_put_string(&j, "title", rows[i]->title);
        json_put_bool(&j, "present", f[i].present);
        json_put_string(&j, "form", rows[i]->form);
        json_put_string(&j, "version", f[i].version);
        json_put_string(&j, "device", f[i].device);
        json_put_string(&j, "isa", f[i].isa);
        json_put_bool(&j, "emulated", rows[i]->emulated);
        json_put_string(&j, "how", f[i].how);
        json_end_object(&j);
    }
    json_end_array(&j);
    json_end_object(&j);
    text_add(t, "\n");
}

enum { LIST_INDENT = 27, LIST_WIDTH = 80, LIST_MOST = 600 };

static status list(matrix_run *x)
{
    const runtime_row *const *rows;
    runtime_facts *f;
    size_t n;
    text t = {0};
    const matrix_options o = options_of(x);
    TRY(matrix_rows(&o, &x->mem, &rows, &f, &n));
    if (x->c->o.json) {
        list_json(rows, f, n, &t);
        return cli_print(&t);
    }
    for (size_t i = 0; i < n; i++) {
        text line = {0};
        text_printf(&t, "%-17s %-8s ", rows[i]->key, f[i].present ? "there" : "-");
        text_printf(&line, "%s", rows[i]->title);
        if (f[i].present)
            text_printf(&line, ": %s %s, %s", f[i].version, f[i].isa ? f[i].isa : "", rows[i]->form);
        words_wrap(&t, line.s ? line.s : "", LIST_INDENT, LIST_INDENT, LIST_WIDTH, LIST_MOST);
        if (!f[i].present) {
            words_spaces(&t, LIST_INDENT);
            words_wrap(&t, f[i].how ? f[i].how : "not on this machine", LIST_INDENT, LIST_INDENT, LIST_WIDTH, LIST_MOST);
        }
        t.st = t.st == ST_OK ? line.st : t.st;
        text_free(&line);
    }
    return cli_print(&t);
}

static status clean(matrix_run *x)
{
    job *j = NULL;
    status st = ST_OK;
    TRY_DONE(cli_load_job(x->c, false, &j));
    TRY_DONE(store_open_in(j->cache.dir, &x->cache));
    st = store_clean(x->cache);
done:
    config_free(j);
    return st;
}

/* The part that the first word names; NULL: it is a run folder. */
static status (*find_part(const cli *c))(cli *)
{
    static const struct {
        const char *word;
        status (*run)(cli *c);
    } parts[] = {{"pack", cmd_matrix_pack}, {"merge", cmd_matrix_merge}, {"bisect", cmd_matrix_bisect}, {"history", cmd_matrix_history}};
    for (size_t i = 0; c->o.args.n > 1 && i < sizeof parts / sizeof *parts; i++)
        if (strcmp(parts[i].word, c->o.args.at[0]) == 0)
            return parts[i].run;
    return NULL;
}

status cmd_matrix(cli *c)
{
    status (*part)(cli *) = find_part(c);
    if (part)
        return part(c);
    matrix_run x = {.c = c};
    const options *o = &c->o;
    status st = ST_OK;
    if (o->markdown + o->csv + o->json > 1)
        return fail(ST_USAGE, "one of --json, --markdown and --csv");
    if (o->decide && (o->markdown || o->csv))
        return fail(ST_USAGE, "--decide goes alone or with --json");
    if (o->clean && o->args.n == 0) {
        st = clean(&x);
        goto done;
    }
    TRY_DONE(open_job(&x));
    st = o->list ? list(&x) : make(&x);
done:
    judgement_free(&x.judged);
    store_close(x.cache);
    matrix_free(&x.m);
    dataset_close(x.ds);
    config_free(x.j);
    arena_free(&x.mem);
    return st;
}
