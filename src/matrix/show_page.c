/* show_page.c - the deployment matrix as a section of the report page: decision, gate, heat map, what went wrong, diagrams, what a
 * model update costs, and every cell in detail. Everything that runners and files say is escaped and cut. */
#include "base/hash.h"
#include "base/io.h"
#include "deploy/report.h"
#include "deploy/report_page.h"
#include "matrix/show_page.h"

#include <math.h>
#include <string.h>

#define WORDS_MOST   400
#define TROUBLE_MOST 100

void put_words(text *t, const char *s)
{
    size_t n = s ? strlen(s) : 0, i = 0;
    for (size_t letters = 0; i < n && letters < WORDS_MOST; letters++) {
        size_t step = utf8_length(s + i, n - i);
        i += step ? step : 1;
    }
    if (i == 0)
        return;
    text cut = {0};
    text_add_n(&cut, s, i);
    page_escaped(t, cut.s ? cut.s : "");
    if (cut.st != ST_OK)
        t->st = cut.st;
    text_free(&cut);
    if (i < n)
        text_add(t, "\xe2\x80\xa6");
}

void put_figure(text *t, const page_view *v, double value)
{
    char buf[SHOW_ROOM];
    text_printf(t, "%s%s", show_figure(v->metric, value, buf), show_is_share(v->metric) && !isnan(value) ? "\xc2\xa0%" : "");
}

void put_state(text *t, cell_state s)
{
    static const char *const classes[CELL_STATES] = {"ok", "differs", "fault", "fault", "cannot", "absent"};
    text_printf(t, "<span class=\"state %s\">%s</span>", classes[s], cell_state_name(s));
}

bool own_cell(const page_view *v, const matrix_cell *c, const matrix_cell **own)
{
    *own = strcmp(c->runtime, "own") ? matrix_find(v->m, "own", c->variant) : NULL;
    return *own && show_ran(*own);
}

/* ---- head ---- */

static void put_tally(text *t, const matrix *m)
{
    size_t count[CELL_STATES];
    show_tally(m, count);
    text_add(t, "<p class=\"tally\">");
    for (int i = 0; i < CELL_STATES; i++)
        if (count[i]) {
            text_add(t, "<span>");
            put_state(t, (cell_state)i);
            text_printf(t, " %zu</span>\n", count[i]);
        }
    text_add(t, "</p>\n");
}

/* How long measuring took, and how much of it was done in the last making. */
static void put_effort(text *t, const matrix *m)
{
    char took[24];
    double seconds = 0;
    size_t ran = 0, cached = 0;
    for (size_t i = 0; i < m->n_rows * m->n_columns; i++) {
        const matrix_cell *c = &m->cells[i];
        if (c->state == CELL_NOT_RUN || c->state == CELL_UNSUPPORTED)
            continue;
        ran++;
        cached += c->cached;
        seconds += isfinite(c->seconds) ? c->seconds : 0;
    }
    if (ran == 0)
        return;
    text_printf(t, " Measuring took %s in all", human_seconds(seconds, took));
    if (cached > 0)
        text_printf(t, "; %zu of %zu cells came from the cache when it was made last", cached, ran);
    text_add(t, ".");
}

static void put_head(text *t, const matrix *m)
{
    page_heading(t, "matrix", "Deployment matrix");
    text_printf(t, "<p>%zu runtime%s, %zu variant%s of the models, ", m->n_rows, m->n_rows == 1 ? "" : "s", m->n_columns,
                m->n_columns == 1 ? "" : "s");
    page_count(t, (int64_t)m->samples);
    text_add(t, " samples");
    text_add(t, m->set ? " of " : "");
    put_words(t, m->set);
    text_add(t, ".");
    if (m->cpu) {
        text_add(t, " Measured on ");
        put_words(t, m->cpu);
        if (m->cores > 0)
            text_printf(t, ", %d core%s", m->cores, m->cores == 1 ? "" : "s");
        text_add(t, ".");
        put_effort(t, m);
    }
    text_add(t, "</p>\n");
    put_tally(t, m);
}

static bool same(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* The first file that is another one now than when the matrix was made, or is gone; NULL: none. The teacher lies elsewhere, and one hash
 * stands for two files of ncnn: they do not count. */
static status find_stale(const matrix *m, const char *run_dir, const char **stale)
{
    char hash[65];
    *stale = NULL;
    for (size_t k = 0; k < m->n_columns && !*stale; k++)
        for (size_t i = 0; i < m->columns[k].n_files && !same(m->columns[k].model, "teacher") && !*stale; i++) {
            const matrix_file *f = &m->columns[k].files[i];
            text path = {0};
            if (!f->path || *f->path == '/' || !f->sha256 || strlen(f->sha256) != 64 || same(f->form, "ncnn"))
                continue;
            text_printf(&path, "%s/%s", run_dir, f->path);
            status st = path.st;
            if (st == ST_OK && strstr(f->path, "..")) /* none of the run's */
                st = fail(ST_BAD_DATA, "%s: leaves the run folder", f->path);
            if (st == ST_OK)
                st = hash_sha256_file(path.s, hash);
            text_free(&path);
            if (st == ST_OOM)
                return st;
            if (st != ST_OK)
                status_clear();
            if (st != ST_OK || strcmp(hash, f->sha256) != 0)
                *stale = f->path;
        }
    return ST_OK;
}

static status put_stale(text *t, const page_view *v)
{
    const char *stale = NULL;
    if (v->run_dir)
        TRY(find_stale(v->m, v->run_dir, &stale));
    if (stale) {
        text_add(t, "<p class=\"decision no\"><b>Out of date</b>");
        put_words(t, stale);
        text_add(t, " is not the file that this matrix was made of: run <code>distill matrix</code> again.</p>\n");
    }
    return t->st;
}

/* ---- what went wrong ---- */

/* A line for the variants of a row that went wrong alike; links to each. */
static void put_trouble(text *t, const matrix *m, size_t row, size_t column)
{
    const matrix_cell *c = matrix_at(m, row, column);
    text_add(t, "<li>");
    put_state(t, c->state);
    text_add(t, " <b>");
    put_words(t, c->runtime);
    text_add(t, "</b> on");
    for (size_t k = column; k < m->n_columns; k++) {
        const matrix_cell *x = matrix_at(m, row, k);
        if (x->state != c->state || !same(x->reason, c->reason))
            continue;
        text_printf(t, " <a href=\"#c%zu-%zu\">", row, k);
        put_words(t, x->variant);
        text_add(t, "</a>");
    }
    if (c->reason) {
        text_add(t, "<br>");
        put_words(t, c->reason);
    }
    text_add(t, "</li>\n");
}

static bool is_first_alike(const matrix *m, size_t row, size_t column)
{
    const matrix_cell *c = matrix_at(m, row, column);
    for (size_t k = 0; k < column; k++)
        if (matrix_at(m, row, k)->state == c->state && same(matrix_at(m, row, k)->reason, c->reason))
            return false;
    return true;
}

static size_t put_troubles(text *t, const matrix *m, cell_state state, size_t shown)
{
    for (size_t r = 0; r < m->n_rows; r++)
        for (size_t k = 0; k < m->n_columns && shown < TROUBLE_MOST; k++)
            if (matrix_at(m, r, k)->state == state && is_first_alike(m, r, k)) {
                put_trouble(t, m, r, k);
                shown++;
            }
    return shown;
}

static void put_wrong(text *t, const matrix *m)
{
    static const cell_state bad[] = {CELL_DIFFERS, CELL_CRASH, CELL_TIMEOUT};
    size_t count[CELL_STATES], shown = 0;
    show_tally(m, count);
    if (count[CELL_DIFFERS] + count[CELL_CRASH] + count[CELL_TIMEOUT]) {
        text_add(t, "<h3>What went wrong</h3>\n<ul class=\"troubles\">\n");
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
            shown = put_troubles(t, m, bad[i], shown);
        text_add(t, "</ul>\n");
    }
    if (count[CELL_UNSUPPORTED]) {
        text_add(t, "<details><summary>What runtimes cannot run</summary>\n<ul class=\"troubles\">\n");
        put_troubles(t, m, CELL_UNSUPPORTED, 0);
        text_add(t, "</ul></details>\n");
    }
}

/* ---- what a model update costs ---- */

typedef struct cost {
    size_t runs;
    double seconds;
    int64_t least, most; /* bytes to ship, -1: unknown */
} cost;

static cost row_cost(const matrix *m, size_t row)
{
    cost x = {.least = -1, .most = -1};
    for (size_t k = 0; k < m->n_columns; k++) {
        const matrix_cell *c = matrix_at(m, row, k);
        if (c->state == CELL_NOT_RUN || c->state == CELL_UNSUPPORTED)
            continue;
        x.runs++;
        x.seconds += isfinite(c->seconds) ? c->seconds : 0;
        if (!show_ran(c) || c->bytes < 0)
            continue;
        x.least = x.least < 0 || c->bytes < x.least ? c->bytes : x.least;
        x.most = c->bytes > x.most ? c->bytes : x.most;
    }
    return x;
}

static void put_cost(text *t, const cost *x)
{
    char buf[24];
    text_printf(t, "<td>%zu</td><td>%s</td><td class=\"word\">", x->runs, human_seconds(x->seconds, buf));
    if (x->least >= 0)
        text_add(t, human_bytes((double)x->least, buf));
    if (x->most > x->least)
        text_printf(t, " to %s", human_bytes((double)x->most, buf));
    text_add(t, "</td></tr>\n");
}

static void put_costs(text *t, const matrix *m)
{
    cost all = {.least = -1, .most = -1};
    text_add(t, "<h3>What validating each runtime costs</h3>\n<p class=\"quiet\">Each runtime that ships must be validated again with every new model: so "
                "many runs, and so long.</p>\n<div class=\"scroll\" tabindex=\"0\"><table class=\"tight\">\n<thead><tr><th scope=\"col\">Runtime</th>"
                "<th scope=\"col\">Validation runs</th><th scope=\"col\">Time</th><th scope=\"col\" class=\"word\">To ship</th></tr></thead>\n"
                "<tbody>\n");
    for (size_t r = 0; r < m->n_rows; r++) {
        cost x = row_cost(m, r);
        if (x.runs == 0)
            continue;
        text_add(t, "<tr><th scope=\"row\">");
        put_words(t, m->rows[r].runtime);
        text_add(t, "</th>");
        put_cost(t, &x);
        all.runs += x.runs;
        all.seconds += x.seconds;
    }
    text_add(t, "<tr class=\"sum\"><th scope=\"row\">all</th>");
    put_cost(t, &all);
    text_add(t, "</tbody></table></div>\n");
}

/* ---- section ---- */

static status put_section(text *t, page_view *v)
{
    put_head(t, v->m);
    TRY(put_stale(t, v));
    if (v->o->decided)
        page_decision(t, v->o->decided);
    if (v->o->gate)
        page_gate(t, v->o->gate);
    if (v->m->n_rows == 0 || v->m->n_columns == 0) {
        text_add(t, "<p class=\"quiet\">It has no cells.</p>\n");
        return t->st;
    }
    page_map(t, v);
    put_wrong(t, v->m);
    page_scatter(t, v);
    put_costs(t, v->m);
    return page_cells(t, v);
}

/* Class names and pictures are welcome, not needed. */
static status read_validation(const char *run_dir, validation *v)
{
    text path = {0};
    text_printf(&path, "%s/validation.json", run_dir);
    status st = path.st;
    if (st == ST_OK && io_exists(path.s))
        st = validation_read(path.s, v);
    text_free(&path);
    if (st == ST_OK || st == ST_OOM)
        return st;
    status_clear();
    *v = (validation){0};
    return ST_OK;
}

status show_page(const matrix *m, const show_options *o, const char *run_dir, text *t)
{
    page_view *v; /* too large for a stack */
    TRY(mem_alloc(&v, 1, sizeof *v));
    v->m = m;
    v->o = o;
    v->run_dir = run_dir;
    v->metric = show_metric_of(m);
    status st = run_dir ? read_validation(run_dir, &v->val) : ST_OK;
    if (st == ST_OK)
        st = put_section(t, v);
    validation_free(&v->val);
    arena_free(&v->mem);
    mem_free(v);
    return st == ST_OK ? t->st : st;
}

/* ---- the report ---- */

typedef struct shown {
    const matrix *m;
    const show_options *o;
    const char *run_dir;
} shown;

static status put_shown(text *t, const void *ctx)
{
    const shown *s = ctx;
    return show_page(s->m, s->o, s->run_dir, t);
}

status show_report(const char *run_dir, const matrix *m, const show_options *o)
{
    static const show_options plain;
    const shown s = {m, o ? o : &plain, run_dir};
    const report_section section = {.before = "training", .style = show_style, .put = put_shown, .ctx = &s};
    report_data r;
    text path = {0};
    TRY(report_from_run(run_dir, &r));
    text_printf(&path, "%s/report.html", run_dir);
    r.more = &section;
    r.n_more = m ? 1 : 0;
    status st = path.st;
    if (st == ST_OK)
        st = report_write(path.s, &r);
    report_free(&r);
    text_free(&path);
    return st;
}
