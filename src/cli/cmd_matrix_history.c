/* cmd_matrix_history.c - `distill matrix history RUN_DIR RUNTIME/VARIANT`: what a cell was before, and since when it is as it is. */
#include "cli/cmd_matrix.h"
#include "matrix/store.h"
#include "matrix/words.h"

#include <math.h>
#include <string.h>
#include <time.h>

typedef struct past {
    arena mem;
    job *j;
    matrix m;
    store *s;
    const char *dir, *runtime, *variant;
    history_entry *at;
    size_t n;
    const char *since;
} past;

static status open_past(cli *c, past *x)
{
    const char *ini, *path, *cell = c->o.args.n == 3 ? c->o.args.at[2] : "", *slash = strchr(cell, '/');
    if (!slash || slash == cell || !slash[1])
        return fail(ST_USAGE, "distill matrix history RUN_DIR RUNTIME/VARIANT");
    x->dir = c->o.args.at[1];
    x->variant = slash + 1;
    TRY(arena_printf(&x->mem, &x->runtime, "%.*s", (int)(slash - cell), cell));
    TRY(arena_printf(&x->mem, &ini, "%s/config.ini", x->dir));
    TRY(arena_printf(&x->mem, &path, "%s/matrix.json", x->dir));
    c->o.student = ini;
    TRY(cli_load_job(c, true, &x->j));
    TRY(matrix_read(path, &x->m));
    if (!matrix_find(&x->m, x->runtime, x->variant))
        return fail(ST_USAGE, "%s: there is no cell %s", path, cell);
    TRY(store_path(x->j->cache.dir, &x->mem, &path));
    return store_open(path, &x->s);
}

/* A runtime reads one form of the variant: the file whose hash the store knows in that row. */
static status find_past(past *x)
{
    for (size_t k = 0; k < x->m.n_columns; k++)
        for (size_t i = 0; strcmp(x->m.columns[k].variant, x->variant) == 0 && i < x->m.columns[k].n_files && !x->n; i++)
            TRY(store_history(x->s, x->runtime, x->variant, x->m.columns[k].files[i].sha256, &x->mem, &x->at, &x->n));
    return history_since(x->at, x->n, &x->mem, &x->since);
}

static void time_text(int64_t seconds, char buf[32])
{
    time_t t = (time_t)seconds;
    struct tm utc;
    buf[0] = 0;
    if (gmtime_r(&t, &utc))
        strftime(buf, 32, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

static void figure(text *t, const char *form, double v)
{
    char buf[32] = "-";
    if (!isnan(v))
        snprintf(buf, sizeof buf, form, v);
    text_printf(t, " %10s", buf);
}

static void indented(text *t, const char *head, const char *words)
{
    text_add(t, head);
    words_wrap(t, words, strlen(head), 4, 80, 1000);
}

static void say(const past *x, text *t)
{
    char when[32];
    text_printf(t, "%s/%s: %s\n", x->runtime, x->variant, x->since);
    if (x->n)
        text_printf(t, "\n%-20s %-12s %-10s %10s %10s %10s\n", "measured", "state", "version", x->m.numbers ? "" : "accuracy", "max error", "p50 ms");
    for (size_t i = 0; i < x->n; i++) {
        const history_entry *e = &x->at[i];
        time_text(e->when, when);
        text_printf(t, "%-20s %-12s ", when, cell_state_name(e->state));
        words_field(t, e->version ? e->version : "-", 10);
        figure(t, "%.4f", e->accuracy);
        figure(t, "%.3g", e->max_error);
        figure(t, "%.4g", e->p50_ms);
        text_add(t, "\n");
        if (e->reason && e->state != CELL_OK)
            indented(t, "    ", e->reason);
        if (e->changed)
            indented(t, "    new: ", e->changed);
    }
}

static void say_json(const past *x, text *t)
{
    char when[32];
    json j = {.out = t};
    json_put_object(&j, NULL);
    json_put_int(&j, "schema", 1);
    json_put_string(&j, "runtime", x->runtime);
    json_put_string(&j, "variant", x->variant);
    json_put_string(&j, "since", x->since);
    json_put_array(&j, "measurements");
    for (size_t i = 0; i < x->n; i++) {
        const history_entry *e = &x->at[i];
        time_text(e->when, when);
        json_put_object(&j, NULL);
        json_put_string(&j, "when", when);
        json_put_string(&j, "state", cell_state_name(e->state));
        json_put_string(&j, "reason", e->reason);
        json_put_string(&j, "version", e->version);
        json_put_string(&j, "build", e->build);
        json_put_string(&j, "output_hash", e->output_hash);
        json_put_number(&j, "accuracy", e->accuracy);
        json_put_number(&j, "max_error", e->max_error);
        json_put_number(&j, "p50_ms", e->p50_ms);
        json_put_string(&j, "changed", e->changed);
        json_end_object(&j);
    }
    json_end_array(&j);
    json_end_object(&j);
    text_add(t, "\n");
}

status cmd_matrix_history(cli *c)
{
    past x = {0};
    text t = {0};
    status st = ST_OK;
    TRY_DONE(open_past(c, &x));
    TRY_DONE(find_past(&x));
    if (c->o.json)
        say_json(&x, &t);
    else
        say(&x, &t);
    st = cli_print(&t);
done:
    text_free(&t);
    store_close(x.s);
    matrix_free(&x.m);
    config_free(x.j);
    arena_free(&x.mem);
    return st;
}
