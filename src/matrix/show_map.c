/* show_map.c - the heat map of the page: a row a runtime, a column a variant, each cell a link to its details. */
#include "deploy/report_page.h"
#include "matrix/show_page.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define LIGHTEST 0.08

typedef struct range {
    double low, high;
    size_t most; /* samples of its cells */
} range;

static bool is_teacher(const matrix *m, size_t column)
{
    return m->columns[column].model && strcmp(m->columns[column].model, "teacher") == 0;
}

/* Of one network's cells that are right: shades are spread over it. */
static range find_range(const page_view *v, bool teacher)
{
    range r = {(double)INFINITY, -(double)INFINITY, show_most_images(v->m)};
    for (size_t i = 0; i < v->m->n_rows * v->m->n_columns; i++) {
        const matrix_cell *c = &v->m->cells[i];
        double x = c->state == CELL_OK && c->images == r.most ? show_value(v->metric, c) : (double)NAN;
        if (isfinite(x) && is_teacher(v->m, i % v->m->n_columns) == teacher) {
            r.low = fmin(r.low, x);
            r.high = fmax(r.high, x);
        }
    }
    return r;
}

/* Deeper is better. */
static double shade(const page_view *v, const range *r, double x)
{
    double part = r->high > r->low && isfinite(x) ? (x - r->low) / (r->high - r->low) : 0.5;
    return LIGHTEST + 0.37 * (show_is_share(v->metric) ? part : 1 - part);
}

static void put_latency(text *t, const matrix_cell *c)
{
    char ms[SHOW_ROOM];
    if (!isnan(c->p50_ms))
        text_printf(t, c->emulated ? "<span>(%s\xc2\xa0ms)</span>" : "<span>%s\xc2\xa0ms</span>", show_ms(c->p50_ms, ms));
}

static void put_others(text *t, const page_view *v, const matrix_cell *c)
{
    if (v->m->numbers || !c->images)
        return;
    text_add(t, "<span>");
    page_count(t, (int64_t)c->flips);
    text_add(t, "\xc2\xa0other</span>");
}

static void put_cell(text *t, const page_view *v, const range *r, size_t row, size_t column)
{
    static const char *const classes[CELL_STATES] = {"ok", "differs", "fault", "fault", "cannot", "absent"};
    const matrix_cell *c = matrix_at(v->m, row, column);
    double x = show_value(v->metric, c);
    char figure[SHOW_ROOM];
    bool fails = show_ran(c) && show_gate_fails(v->o->gate, c);
    text_printf(t, "<td class=\"cell %s%s\"", classes[c->state], fails && c->state == CELL_OK ? " gated" : "");
    if (c->state == CELL_OK)
        text_printf(t, " style=\"--a:%.2f\"", c->images < r->most ? LIGHTEST : shade(v, &r[is_teacher(v->m, column)], x));
    if (c->state == CELL_NOT_RUN) {
        text_add(t, ">not run here</td>");
        return;
    }
    if (c->reason) {
        text_add(t, " title=\"");
        put_words(t, c->reason);
        text_add(t, "\"");
    }
    text_printf(t, "><a href=\"#c%zu-%zu\">", row, column);
    if (c->state == CELL_OK)
        text_printf(t, "<b>%s</b>", show_figure(v->metric, x, figure));
    else
        text_printf(t, "<b>%s</b>", cell_state_name(c->state));
    if (c->state == CELL_DIFFERS && !isnan(x))
        text_printf(t, "<span>%s</span>", show_figure(v->metric, x, figure));
    if (show_ran(c)) {
        put_others(t, v, c);
        put_latency(t, c);
    }
    text_add(t, fails ? "<span class=\"gate\">gate fails</span></a></td>" : "</a></td>");
}

static const matrix_cell *first_ran(const matrix *m, size_t row)
{
    for (size_t k = 0; k < m->n_columns; k++)
        if (matrix_at(m, row, k)->state != CELL_NOT_RUN)
            return matrix_at(m, row, k);
    return NULL;
}

static void put_row(text *t, const page_view *v, const range *r, size_t row)
{
    const matrix *m = v->m;
    const matrix_cell *c = first_ran(m, row);
    size_t images = show_row_images(m, row);
    text_add(t, "<tr><th scope=\"row\">");
    put_words(t, m->rows[row].runtime);
    if (!c) {
        text_printf(t, "</th><td class=\"cell absent row\" colspan=\"%zu\">not run here", m->n_columns);
        text_add(t, m->rows[row].how ? ": " : "");
        put_words(t, m->rows[row].how);
        text_add(t, "</td></tr>\n");
        return;
    }
    text_add(t, "<span>");
    put_words(t, c->version);
    text_add(t, c->version && c->isa ? " " : "");
    put_words(t, c->isa);
    text_add(t, "</span>");
    if (images && images < m->samples) {
        text_add(t, "<span>");
        page_count(t, (int64_t)images);
        text_add(t, " samples</span>");
    }
    text_add(t, "</th>");
    for (size_t k = 0; k < m->n_columns; k++)
        put_cell(t, v, r, row, k);
    text_add(t, "</tr>\n");
}

void page_map(text *t, const page_view *v)
{
    const matrix *m = v->m;
    const range r[2] = {find_range(v, false), find_range(v, true)};
    char size[24];
    text_printf(t, "<h3>Every runtime and variant</h3>\n<p class=\"quiet\">In each cell: %s%s%s; the median latency of one "
                   "sample, in parentheses where it is no device's (emulated, or graphics in software). The deeper the blue, the "
                   "better among the cells of the same network, where all samples ran. A cell leads to its details.</p>\n",
                show_metric_name(v->metric), show_is_share(v->metric) ? " in percent" : "",
                m->numbers ? "" : "; how many samples came out in another class than from the same file in our own executor");
    text_add(t, "<div class=\"scroll map\" tabindex=\"0\" role=\"region\" aria-label=\"Deployment matrix\"><table class=\"matrix\">\n"
                "<thead><tr><th scope=\"col\">Runtime</th>");
    for (size_t k = 0; k < m->n_columns; k++) {
        int64_t bytes = show_bytes(&m->columns[k]);
        text_add(t, "<th scope=\"col\">");
        put_words(t, m->columns[k].variant);
        if (bytes >= 0)
            text_printf(t, "<span>%s</span>", human_bytes((double)bytes, size));
        text_add(t, "</th>");
    }
    text_add(t, "</tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < m->n_rows; i++)
        put_row(t, v, r, i);
    text_add(t, "</tbody></table></div>\n");
}
