/* show_cells.c - of the page: every cell in detail, by runtime. Facts, accuracy by class, how large the errors are, the samples
 * that came out worst, and the end of the log where something went wrong. */
#include "base/io.h"
#include "deploy/report_page.h"
#include "matrix/show_page.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define CLASSES_MOST 12 /* weakest shown */
#define CELLS_MOST   1000
#define LOG_TAIL     4096
#define PICTURE_SIDE 48 /* pixels at most */

/* ---- facts ---- */

static bool same(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static void put_fact(text *t, const char *name, const char *value)
{
    if (!value)
        return;
    text_printf(t, "<dt>%s</dt><dd>", name);
    put_words(t, value);
    text_add(t, "</dd>\n");
}

/* What most cells of a row have in common is said once, above; `first` NULL: say all. */
static void put_origin(text *t, const matrix_cell *c, const matrix_cell *first)
{
    const struct {
        const char *name, *value, *said;
    } facts[] = {{"Engine", c->engine, first ? first->engine : NULL},    {"Version", c->version, first ? first->version : NULL},
                 {"Build", c->build, first ? first->build : NULL},       {"Device", c->device, first ? first->device : NULL},
                 {"Instructions", c->isa, first ? first->isa : NULL},    {"Measured by", c->host, first ? first->host : NULL},
                 {"Nodes placed", c->providers, first ? first->providers : NULL}};
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
        if (!first || !same(facts[i].value, facts[i].said))
            put_fact(t, facts[i].name, facts[i].value);
}

static void put_number_fact(text *t, const char *name, double value, const char *format, const char *unit)
{
    if (isnan(value))
        return;
    text_printf(t, "<dt>%s</dt><dd>", name);
    page_number(t, value, format);
    text_printf(t, "%s</dd>\n", unit);
}

/* Samples in another class. */
static void put_count_fact(text *t, const char *name, size_t n, size_t of)
{
    text_printf(t, "<dt>%s</dt><dd>", name);
    page_count(t, (int64_t)n);
    text_add(t, " of ");
    page_count(t, (int64_t)of);
    text_add(t, " in another class</dd>\n");
}

static void put_class(text *t, const page_view *v, size_t c)
{
    if (c < v->val.classes)
        put_words(t, v->val.class_names[c]);
    else
        text_printf(t, "class %zu", c);
}

static void put_metric(text *t, const page_view *v, const matrix_cell *c)
{
    if (!isnan(c->accuracy)) {
        text_add(t, "<dt>Accuracy</dt><dd>");
        page_percent(t, c->accuracy);
        if (!isnan(c->accuracy_low) && !isnan(c->accuracy_high)) {
            text_add(t, " <span class=\"quiet\">(");
            page_percent(t, c->accuracy_low);
            text_add(t, " to ");
            page_percent(t, c->accuracy_high);
            text_add(t, ")</span>");
        }
        text_add(t, "</dd>\n");
    }
    put_number_fact(t, "Mean absolute error", c->error, "%.4g", "");
    if (!isnan(c->worst_class_accuracy) && c->classes) {
        text_add(t, "<dt>Worst class</dt><dd>");
        put_class(t, v, c->worst_class);
        text_add(t, ", ");
        page_percent(t, c->worst_class_accuracy);
        text_add(t, "</dd>\n");
    }
    if (!v->m->numbers) {
        put_count_fact(t, "Unlike our executor", c->flips, c->images);
        put_count_fact(t, "Unlike our float32", c->disagree, c->images);
    } else {
        put_number_fact(t, "Samples", (double)c->images, "%.0f", "");
    }
}

static void put_errors(text *t, const matrix_cell *c)
{
    if (!isnan(c->max_error)) {
        text_add(t, "<dt>Largest error</dt><dd>");
        page_number(t, c->max_error, "%.3g");
        if (c->tolerance > 0)
            text_printf(t, " <span class=\"quiet\">(tolerance %.3g)</span>", c->tolerance);
        text_add(t, "</dd>\n");
    }
    put_number_fact(t, "99 % of errors below", c->p99_error, "%.3g", "");
    put_number_fact(t, "Mean error", c->mean_error, "%.3g", "");
    if (c->output_hash) {
        text_add(t, "<dt>Hash of the outputs</dt><dd><code>");
        put_words(t, c->output_hash);
        text_add(t, "</code></dd>\n");
    }
}

static void put_costs(text *t, const matrix_cell *c)
{
    char ms[SHOW_ROOM], size[24];
    if (!isnan(c->p50_ms)) {
        text_printf(t, "<dt>Latency</dt><dd>%s ms", show_ms(c->p50_ms, ms));
        text_printf(t, " <span class=\"quiet\">p90 %s", show_ms(c->p90_ms, ms));
        text_printf(t, ", p99 %s", show_ms(c->p99_ms, ms));
        if (c->n_latency)
            text_printf(t, ", %zu runs", c->n_latency);
        text_add(t, c->emulated ? "; no device\xe2\x80\x99s: emulated or in software</span></dd>\n" : "</span></dd>\n");
    }
    put_number_fact(t, "Throughput", c->throughput, "%.4g", " samples/s");
    put_number_fact(t, "Loading", c->load_ms, "%.3g", " ms");
    put_number_fact(t, "Peak memory", c->peak_mb, "%.4g", " MB");
    if (c->bytes >= 0)
        text_printf(t, "<dt>To ship</dt><dd>%s</dd>\n", human_bytes((double)c->bytes, size));
}

static void put_when(text *t, const matrix_cell *c)
{
    char day[32], took[24];
    struct tm at;
    time_t when = (time_t)c->when;
    if (c->when > 0 && gmtime_r(&when, &at) && strftime(day, sizeof day, "%Y-%m-%d %H:%M UTC", &at))
        text_printf(t, "<dt>Measured</dt><dd>%s%s%s%s</dd>\n", day, isnan(c->seconds) ? "" : ", in ",
                    isnan(c->seconds) ? "" : human_seconds(c->seconds, took), c->cached ? ", taken from the cache" : "");
    put_fact(t, "Remarks", c->notes);
    if (c->key) {
        text_add(t, "<dt>Key</dt><dd><code>");
        put_words(t, c->key);
        text_add(t, "</code></dd>\n");
    }
}

/* ---- classes ---- */

/* The weakest first, at most CLASSES_MOST in `to`; returns how many. All of them when they fit, in their order. */
static size_t weakest(const matrix_cell *c, size_t *to)
{
    size_t used = 0;
    bool all = c->classes <= CLASSES_MOST;
    for (size_t i = 0; i < c->classes; i++) {
        size_t at = used;
        double x = isnan(c->class_accuracy[i]) ? 2 : c->class_accuracy[i];
        while (!all && at > 0 && x < (isnan(c->class_accuracy[to[at - 1]]) ? 2 : c->class_accuracy[to[at - 1]]))
            at--;
        if (at == CLASSES_MOST)
            continue;
        used += used < CLASSES_MOST;
        for (size_t k = used - 1; k > at; k--)
            to[k] = to[k - 1];
        to[at] = i;
    }
    return used;
}

static void put_classes(text *t, const page_view *v, const matrix_cell *c)
{
    size_t at[CLASSES_MOST], n;
    const matrix_cell *own = NULL;
    if (!c->class_accuracy || c->classes == 0)
        return;
    n = weakest(c, at);
    bool compare = own_cell(v, c, &own) && own->class_accuracy && own->classes == c->classes;
    text_printf(t, "<div><h5>%s</h5><table class=\"bars\">\n<tbody>\n",
                compare ? "Accuracy by class; the mark is our executor" : n < c->classes ? "The weakest classes" : "Accuracy by class");
    for (size_t i = 0; i < n; i++) {
        double x = c->class_accuracy[at[i]], mark = compare ? own->class_accuracy[at[i]] : (double)NAN;
        text_add(t, "<tr><th scope=\"row\">");
        put_class(t, v, at[i]);
        text_add(t, "</th><td>");
        page_percent(t, x);
        text_add(t, "</td><td class=\"bar\" aria-hidden=\"true\">");
        if (isfinite(x)) {
            text_printf(t, "<span class=\"track\"><i style=\"width:%.1f%%\"></i>", 100 * fmin(fmax(x, 0), 1));
            if (isfinite(mark))
                text_printf(t, "<b style=\"left:%.1f%%\"></b>", 100 * fmin(fmax(mark, 0), 1));
            text_add(t, "</span>");
        }
        text_add(t, "</td></tr>\n");
    }
    text_add(t, "</tbody></table></div>\n");
}

/* ---- errors ---- */

#define BIN       22 /* of the histogram's drawing */
#define BAR_HIGH  70
#define HIST_WIDE (CELL_HISTOGRAM * BIN + 8)

/* Where an error of this size lies: bin k > 0 holds (10^(k-9), 10^(k-8)]. */
static double place_of(double error)
{
    return 4 + BIN * fmin(fmax(log10(error) + 9, 1), CELL_HISTOGRAM - 0.05);
}

static void put_histogram(text *t, const matrix_cell *c)
{
    static const char *const names[CELL_HISTOGRAM] = {"0", "", "1e-7", "", "1e-5", "", "1e-3", "", "0.1", "", "10", ""};
    double most = 0, all = 0;
    for (int i = 0; i < CELL_HISTOGRAM; i++) {
        most = fmax(most, c->histogram[i]);
        all += c->histogram[i];
    }
    if (most == 0)
        return;
    text_printf(t, "<div><h5>Size of the errors of all outputs</h5>\n<svg class=\"hist\" viewBox=\"0 0 %d %d\" role=\"img\" "
                   "aria-label=\"Histogram of errors: %.1f %% of the outputs have none\">\n",
                HIST_WIDE, BAR_HIGH + 22, 100 * c->histogram[0] / all);
    for (int i = 0; i < CELL_HISTOGRAM; i++) { /* heights are logarithms: one wrong output among many is seen */
        double high = c->histogram[i] ? 2 + (BAR_HIGH - 4) * log10(1.0 + c->histogram[i]) / log10(1 + most) : 0;
        text_printf(t, "<g><title>%" PRIu32 " outputs</title><rect class=\"%s\" x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%.1f\"/></g>",
                    c->histogram[i], c->tolerance > 0 && i > 0 && i - 9 >= log10(c->tolerance) ? "over" : "in", 4 + i * BIN + 2, BAR_HIGH - high, BIN - 4, high);
        if (*names[i])
            text_printf(t, "<text x=\"%d\" y=\"%d\" text-anchor=\"%s\">%s</text>", i ? 4 + (i + 1) * BIN : 4 + BIN / 2, BAR_HIGH + 14,
                        "middle", names[i]);
        text_add(t, "\n");
    }
    text_printf(t, "<line class=\"axis\" x1=\"0\" y1=\"%d\" x2=\"%d\" y2=\"%d\"/>", BAR_HIGH, HIST_WIDE, BAR_HIGH);
    if (c->tolerance > 0 && isfinite(c->tolerance))
        text_printf(t, "<line class=\"limit\" x1=\"%.1f\" y1=\"0\" x2=\"%.1f\" y2=\"%d\"/>", place_of(c->tolerance), place_of(c->tolerance),
                    BAR_HIGH);
    text_printf(t, "</svg><p class=\"quiet\">Logarithmic both ways%s.</p></div>\n",
                c->tolerance > 0 ? "; the dashed line is the tolerance of the largest" : "");
}

/* ---- samples ---- */

/* Sample's picture; width 0: there is none, or it cannot be read. */
static status find_picture(page_view *v, size_t sample, thumbnail *out)
{
    dataset *ds = v->o->pictures;
    image img = {0};
    *out = (thumbnail){0};
    for (size_t i = 0; i < v->val.n_farthest; i++)
        if (v->val.farthest[i].sample == sample && v->val.farthest[i].image.width > 0) {
            *out = v->val.farthest[i].image;
            return ST_OK;
        }
    if (!ds || !dataset_info(ds)->image || sample >= dataset_info(ds)->part[DATA_VAL].n)
        return ST_OK;
    status st = dataset_pixels(ds, DATA_VAL, (uint32_t)sample, &img);
    if (st == ST_OK)
        st = thumbnail_from_bytes(&v->mem, img.px, img.width, img.height, img.channels, PICTURE_SIDE, out);
    image_free(&img);
    if (st == ST_OK || st == ST_OOM)
        return st;
    status_clear();
    *out = (thumbnail){0};
    return ST_OK;
}

/* A picture stands in the page once, as a symbol; true: sample's is there. */
static status put_picture(text *t, page_view *v, size_t sample, bool *there)
{
    thumbnail p;
    *there = false;
    for (size_t i = 0; i < v->n_pictures && !*there; i++)
        *there = v->pictures[i] == sample;
    if (*there || v->n_pictures == SHOW_PICTURES)
        return ST_OK;
    TRY(find_picture(v, sample, &p));
    if (p.width == 0)
        return ST_OK;
    text_printf(t, "<svg class=\"symbols\" aria-hidden=\"true\"><symbol id=\"s%zu\" viewBox=\"0 0 %d %d\"><image width=\"%d\" height=\"%d\" href=\"",
                sample, p.width, p.height, p.width, p.height);
    TRY(page_picture(t, &p));
    text_add(t, "\"/></symbol></svg>\n");
    v->pictures[v->n_pictures++] = sample;
    *there = true;
    return ST_OK;
}

static status put_worst(text *t, page_view *v, const matrix_cell *c)
{
    if (c->n_worst == 0 || c->max_error == 0)
        return ST_OK;
    text_add(t, "<div><h5>Samples with the largest errors</h5>\n<ul class=\"worst\">\n");
    for (size_t i = 0; i < c->n_worst && i < CELL_WORST; i++) {
        bool there;
        text_add(t, "<li>");
        TRY(put_picture(t, v, c->worst[i].sample, &there));
        if (there)
            text_printf(t, "<svg class=\"thumb\" role=\"img\" aria-label=\"sample %zu\"><use href=\"#s%zu\"/></svg>", c->worst[i].sample,
                        c->worst[i].sample);
        text_printf(t, "<span>no. %zu</span><span class=\"quiet\">", c->worst[i].sample);
        page_number(t, c->worst[i].error, "%.3g");
        text_add(t, "</span></li>\n");
    }
    text_add(t, "</ul></div>\n");
    return ST_OK;
}

/* ---- log ---- */

/* The last lines of the cell's log; nothing when it cannot be read. */
static status put_log(text *t, page_view *v, const matrix_cell *c)
{
    char tail[LOG_TAIL + 1];
    uint64_t size = 0;
    if (!c->log || !v->run_dir || c->state == CELL_OK || v->log_bytes > SHOW_LOGS)
        return ST_OK;
    status st = io_size_beneath(v->run_dir, c->log, &size);
    uint64_t from = size > LOG_TAIL ? size - LOG_TAIL : 0;
    if (st == ST_OK && size)
        st = io_read_beneath(v->run_dir, c->log, from, (size_t)(size - from), tail);
    if (st != ST_OK || size == 0) {
        status_clear();
        return st == ST_OOM ? st : ST_OK;
    }
    tail[size - from] = 0;
    for (char *p = tail; p < tail + (size - from); p++)
        if (*p == 0)
            *p = '\x01'; /* shown as what cannot be shown */
    const char *line = from && strchr(tail, '\n') ? strchr(tail, '\n') + 1 : tail;
    v->log_bytes += (size_t)(size - from);
    text_add(t, "<div class=\"log\"><h5>The end of its log</h5>\n<pre class=\"wrap\" tabindex=\"0\">");
    page_escaped(t, line);
    text_add(t, "</pre></div>\n");
    return ST_OK;
}

/* ---- cells ---- */

static status put_cell(text *t, page_view *v, size_t row, size_t column, const matrix_cell *first)
{
    const matrix_cell *c = matrix_at(v->m, row, column);
    text_printf(t, "<section class=\"one\" id=\"c%zu-%zu\"><h4>", row, column);
    put_words(t, c->runtime);
    text_add(t, " / ");
    put_words(t, c->variant);
    text_add(t, " ");
    put_state(t, c->state);
    text_add(t, "</h4>\n");
    if (c->reason) {
        text_add(t, "<p>");
        put_words(t, c->reason);
        text_add(t, "</p>\n");
    }
    text_add(t, "<div class=\"parts\"><dl>\n");
    if (show_ran(c)) {
        put_metric(t, v, c);
        put_errors(t, c);
        put_costs(t, c);
    }
    put_origin(t, c, first);
    put_when(t, c);
    text_add(t, "</dl>\n");
    if (show_ran(c)) {
        put_classes(t, v, c);
        text_add(t, "<div>");
        put_histogram(t, c);
        TRY(put_worst(t, v, c));
        text_add(t, "</div>\n");
    }
    TRY(put_log(t, v, c));
    text_add(t, "</div></section>\n");
    return t->st;
}

static void put_summary(text *t, const page_view *v, size_t row)
{
    static const char *const words[CELL_STATES] = {"ok", "differ", "crashed", "timed out", "unsupported", "not run here"};
    const matrix *m = v->m;
    size_t count[CELL_STATES] = {0};
    const char *comma = " \xe2\x80\x93 ";
    for (size_t k = 0; k < m->n_columns; k++)
        count[matrix_at(m, row, k)->state]++;
    text_add(t, "<summary><b>");
    put_words(t, m->rows[row].runtime);
    text_add(t, "</b> ");
    put_words(t, m->rows[row].title);
    text_add(t, "<span class=\"quiet\">");
    for (int i = 0; i < CELL_STATES; i++)
        if (count[i]) {
            text_printf(t, "%s%s%zu %s%s", comma, i == CELL_DIFFERS ? "</span><span class=\"bad\">" : "", count[i], words[i],
                        i == CELL_DIFFERS ? "</span><span class=\"quiet\">" : "");
            comma = ", ";
        }
    text_add(t, "</span></summary>\n");
}

status page_cells(text *t, page_view *v)
{
    const matrix *m = v->m;
    size_t cells = 0;
    text_add(t, "<h3>Every cell in detail</h3>\n");
    for (size_t r = 0; r < m->n_rows; r++) {
        const matrix_cell *first = NULL;
        if (!show_row_ran(m, r))
            continue;
        text_add(t, "<details class=\"runtime\">");
        put_summary(t, v, r);
        for (size_t k = 0; k < m->n_columns && !first; k++)
            first = show_ran(matrix_at(m, r, k)) ? matrix_at(m, r, k) : NULL;
        if (first) {
            text_add(t, "<dl class=\"origin\">\n");
            put_origin(t, first, NULL);
            text_add(t, "</dl>\n");
        }
        for (size_t k = 0; k < m->n_columns; k++)
            if (matrix_at(m, r, k)->state != CELL_NOT_RUN && cells++ < CELLS_MOST)
                TRY(put_cell(t, v, r, k, first));
        text_add(t, "</details>\n");
    }
    if (cells > CELLS_MOST)
        text_printf(t, "<p class=\"quiet\">The first %d cells; matrix.json has them all.</p>\n", CELLS_MOST);
    return t->st;
}
