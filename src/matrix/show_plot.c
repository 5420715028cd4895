/* show_plot.c - of the page: accuracy against latency and against size, as inline SVG. A variant is a shape and a colour; the
 * best ones are named, the others when they are pointed at. */
#include "deploy/report_page.h"
#include "matrix/show_page.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define WIDTH      540
#define HEIGHT     320
#define LEFT       66
#define RIGHT      16
#define TOP        14
#define BOTTOM     44
#define SHAPES     6
#define POINTS     600 /* at most */
#define LABELS     12
#define LETTER     8.5 /* of a label at most, also where the page is narrow */
#define LETTERS    18

typedef struct point {
    double x, y, low, high; /* low, high: of whiskers; NAN: none */
    size_t column;
    const char *name; /* shown when it is on the front */
    const matrix_cell *cell;
} point;

typedef struct chart {
    const page_view *v;
    point *at;
    size_t n;
    double x0, x1, y0, y1; /* x in log10 */
} chart;

static double map_x(const chart *c, double x)
{
    return LEFT + (log10(x) - c->x0) / (c->x1 - c->x0) * (WIDTH - LEFT - RIGHT);
}

static double map_y(const chart *c, double y)
{
    return HEIGHT - BOTTOM - (y - c->y0) / (c->y1 - c->y0) * (HEIGHT - TOP - BOTTOM);
}

static void find_ranges(chart *c)
{
    c->x0 = c->y0 = (double)INFINITY;
    c->x1 = c->y1 = -(double)INFINITY;
    for (size_t i = 0; i < c->n; i++) {
        const point *p = &c->at[i];
        c->x0 = fmin(c->x0, log10(p->x));
        c->x1 = fmax(c->x1, log10(p->x));
        c->y0 = fmin(c->y0, isnan(p->low) ? p->y : p->low);
        c->y1 = fmax(c->y1, isnan(p->high) ? p->y : p->high);
    }
    double wide = fmax(0.06 * (c->x1 - c->x0), 0.08), tall = fmax(0.08 * (c->y1 - c->y0), fmax(1e-9, 0.002 * fabs(c->y1)));
    c->x0 -= wide;
    c->x1 += wide;
    c->y0 -= tall;
    c->y1 += tall;
}

/* ---- axes ---- */

static void put_y_axis(text *t, const chart *c)
{
    double span = c->y1 - c->y0, power = pow(10, floor(log10(span / 5))), step = power;
    for (int i = 0; i < 3 && span / step > 6; i++)
        step = power * (double[]){2, 5, 10}[i];
    bool share = show_is_share(c->v->metric);
    int decimals = (int)fmax(0, -floor(log10(share ? 100 * step : step) + 1e-9));
    for (double y = ceil(c->y0 / step) * step; y <= c->y1; y += step) {
        text_printf(t, "<line class=\"grid\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>", LEFT, map_y(c, y), WIDTH - RIGHT, map_y(c, y));
        text_printf(t, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.*f%s</text>\n", LEFT - 6, map_y(c, y) + 4,
                    decimals < 9 ? decimals : 9, share ? 100 * y : y, share ? "\xc2\xa0%" : "");
    }
}

static void put_x_tick(text *t, const chart *c, double x, bool bytes)
{
    char buf[24];
    double at = map_x(c, x);
    text_printf(t, "<line class=\"axis\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/>", at, HEIGHT - BOTTOM, at, HEIGHT - BOTTOM + 4);
    if (bytes)
        human_bytes(x, buf);
    else
        snprintf(buf, sizeof buf, "%.4g", x);
    text_printf(t, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", at, HEIGHT - BOTTOM + 18, buf);
}

/* 1, 2 and 5 of every power of ten (more where there is but one; for sizes powers of two), or every few powers where there are many. */
static void put_x_axis(text *t, const chart *c, bool bytes, const char *label)
{
    double decades = c->x1 - c->x0, base = bytes ? 2 : 10, each = log10(base);
    int stride = (int)fmax(1, ceil(decades / each / 7));
    static const double coarse[] = {1, 2, 5}, fine[] = {1, 1.5, 2, 3, 4, 5, 6, 8};
    const double *part = decades < 1 ? fine : coarse;
    int parts = bytes || decades > 2.6 ? 1 : decades < 1 ? 8 : 3;
    text_printf(t, "<line class=\"axis\" x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\"/>", LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM);
    for (int e = (int)floor(c->x0 / each); e * each <= c->x1 && e < 400; e++)
        for (int k = 0; k < parts; k++) {
            double x = pow(base, e) * part[k], edge = 0.03 * decades;
            if (log10(x) > c->x0 + edge && log10(x) < c->x1 - edge && e % stride == 0)
                put_x_tick(t, c, x, bytes);
        }
    text_printf(t, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, label);
}

/* ---- points ---- */

/* The second half of twelve shapes is hollow. */
static void put_shape(text *t, size_t column, double x, double y)
{
    text_printf(t, "<path class=\"mark m%zu%s\" d=\"", column % SHAPES, column / SHAPES % 2 ? " hollow" : "");
    switch (column % SHAPES) {
    case 0: text_printf(t, "M%.1f %.1fa4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z", x - 4.5, y); break;
    case 1: text_printf(t, "M%.1f %.1fh8v8h-8z", x - 4, y - 4); break;
    case 2: text_printf(t, "M%.1f %.1fl5.5 5.5l-5.5 5.5l-5.5 -5.5z", x, y - 5.5); break;
    case 3: text_printf(t, "M%.1f %.1fl5.5 9.5h-11z", x, y - 6); break;
    case 4: text_printf(t, "M%.1f %.1fl5.5 -9.5h-11z", x, y + 6); break;
    default: text_printf(t, "M%.1f %.1fh3v3h3v3h-3v3h-3v-3h-3v-3h3z", x - 1.5, y - 4.5); break;
    }
    text_add(t, "\"/>");
}

static void put_title(text *t, const chart *c, const point *p)
{
    char ms[SHOW_ROOM], size[24];
    text_add(t, "<title>");
    put_words(t, p->cell->runtime);
    text_add(t, " / ");
    put_words(t, p->cell->variant);
    text_add(t, ": ");
    put_figure(t, c->v, show_value(c->v->metric, p->cell));
    if (!isnan(p->cell->p50_ms))
        text_printf(t, ", %s ms", show_ms(p->cell->p50_ms, ms));
    if (p->cell->bytes >= 0)
        text_printf(t, ", %s", human_bytes((double)p->cell->bytes, size));
    text_add(t, "</title>");
}

static void put_point(text *t, const chart *c, const point *p)
{
    double x = map_x(c, p->x), y = map_y(c, p->y);
    text_add(t, "<g>");
    put_title(t, c, p);
    if (!isnan(p->low) && map_y(c, p->low) - map_y(c, p->high) > 1)
        text_printf(t, "<line class=\"whisker m%zu\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>", p->column % SHAPES, x,
                    map_y(c, p->low), x, map_y(c, p->high));
    put_shape(t, p->column, x, y);
    text_add(t, "</g>\n");
}

/* No other point is better in both. */
static bool on_front(const chart *c, const point *p)
{
    double sign = show_is_share(c->v->metric) ? 1 : -1;
    for (size_t i = 0; i < c->n; i++) {
        const point *q = &c->at[i];
        if (q->x <= p->x && sign * q->y >= sign * p->y && (q->x < p->x || q->y != p->y))
            return false;
    }
    return true;
}

typedef struct name_box {
    double from, to, y;
} name_box;

/* The bytes of a name's first LETTERS letters; *letters: how many they are. */
static size_t short_name(const char *name, size_t *letters)
{
    size_t n = strlen(name), cut = 0;
    for (*letters = 0; cut < n && *letters < LETTERS; ++*letters) {
        size_t step = utf8_length(name + cut, n - cut);
        cut += step ? step : 1;
    }
    return cut;
}

static void put_labels(text *t, const chart *c, bool all)
{
    name_box used[LABELS];
    size_t n = 0;
    for (size_t i = 0; i < c->n && n < LABELS; i++) {
        const point *p = &c->at[i];
        size_t letters, cut = short_name(p->name, &letters);
        double x = map_x(c, p->x), wide = LETTER * (double)letters;
        bool left = x + 9 + wide > WIDTH, free = all || on_front(c, p);
        name_box l = {left ? x - 9 - wide : x + 9, left ? x - 9 : x + 9 + wide, map_y(c, p->y) - 6};
        for (size_t k = 0; k < n && free; k++)
            free = l.from > used[k].to || l.to < used[k].from || fabs(l.y - used[k].y) > 13;
        if (!free)
            continue;
        text name = {0};
        text_add_n(&name, p->name, cut);
        text_printf(t, "<text class=\"name\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", left ? l.to : l.from, l.y, left ? "end" : "start");
        page_escaped(t, name.s ? name.s : "");
        text_add(t, "</text>\n");
        t->st = name.st != ST_OK ? name.st : t->st;
        text_free(&name);
        used[n++] = l;
    }
}

static void put_chart(text *t, chart *c, const char *title, bool bytes, const char *label)
{
    text_printf(t, "<figure class=\"plot\">\n<figcaption>%s</figcaption>\n", title);
    if (c->n == 0) {
        text_add(t, "<p class=\"quiet\">Nothing was measured.</p>\n</figure>\n");
        return;
    }
    find_ranges(c);
    text_printf(t, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s; the table above has the numbers\">\n", WIDTH, HEIGHT, title);
    put_y_axis(t, c);
    put_x_axis(t, c, bytes, label);
    for (size_t i = 0; i < c->n; i++)
        put_point(t, c, &c->at[i]);
    put_labels(t, c, bytes);
    text_add(t, "</svg>\n</figure>\n");
}

/* ---- what is drawn ---- */

/* Student and teacher lie too far apart for one diagram. */
static bool belongs(const matrix *m, size_t column, bool teacher)
{
    const char *model = m->columns[column].model;
    return (model && strcmp(model, "teacher") == 0) == teacher;
}

static void collect_latency(chart *c, bool teacher)
{
    const matrix *m = c->v->m;
    size_t most = show_most_images(m);
    for (size_t i = 0; i < m->n_rows * m->n_columns && c->n < POINTS; i++) {
        const matrix_cell *x = &m->cells[i];
        double y = show_value(c->v->metric, x);
        if (belongs(m, i % m->n_columns, teacher) && x->state == CELL_OK && x->images == most && !x->emulated && isfinite(x->p50_ms) && x->p50_ms > 0 && isfinite(y) && fabs(y) < 1e30)
            c->at[c->n++] = (point){x->p50_ms, y, (double)NAN, (double)NAN, i % m->n_columns, x->runtime, x};
    }
}

/* A point a variant: its first right cell; whiskers over all right cells. */
static void collect_size(chart *c, bool teacher)
{
    const matrix *m = c->v->m;
    size_t most = show_most_images(m);
    for (size_t k = 0; k < m->n_columns && c->n < POINTS; k++) {
        point p = {.low = (double)NAN, .high = (double)NAN};
        for (size_t r = 0; r < m->n_rows && belongs(m, k, teacher); r++) {
            const matrix_cell *x = matrix_at(m, r, k);
            double y = show_value(c->v->metric, x);
            int64_t bytes = show_bytes(&m->columns[k]);
            if (x->state != CELL_OK || !isfinite(y) || fabs(y) > 1e30 || bytes <= 0 || x->images != most)
                continue;
            if (!p.cell)
                p = (point){(double)bytes, y, y, y, k, m->columns[k].variant, x};
            p.low = fmin(p.low, y);
            p.high = fmax(p.high, y);
        }
        if (p.cell)
            c->at[c->n++] = p;
    }
}

static void put_legend(text *t, const matrix *m, bool teacher)
{
    text_add(t, "<div class=\"plot\"><ul class=\"legend\">\n");
    for (size_t k = 0; k < m->n_columns; k++) {
        if (!belongs(m, k, teacher))
            continue;
        text_add(t, "<li><svg viewBox=\"0 0 16 16\" width=\"16\" height=\"16\" aria-hidden=\"true\">");
        put_shape(t, k, 8, 8);
        text_add(t, "</svg> ");
        put_words(t, m->columns[k].variant);
        text_add(t, "</li>\n");
    }
    text_add(t, "</ul></div>\n");
}

/* Both diagrams of one network; nothing when it has no variant. */
static void put_network(text *t, chart *c, bool teacher, bool named)
{
    static const char *const by_latency[] = {"accuracy over latency", "same class as float32 over latency", "error over latency",
                                             "distance over latency"};
    static const char *const by_size[] = {"accuracy over size", "same class as float32 over size", "error over size", "distance over size"};
    const char *who = teacher ? "Teacher" : "Student";
    char title[64];
    bool any = false;
    for (size_t k = 0; k < c->v->m->n_columns; k++)
        any = any || belongs(c->v->m, k, teacher);
    if (!any)
        return;
    text_add(t, "<div class=\"two scatter\">\n");
    c->n = 0;
    collect_latency(c, teacher);
    snprintf(title, sizeof title, "%s%s%s", named ? who : "", named ? ": " : "", by_latency[c->v->metric]);
    put_chart(t, c, title, false, "median latency of one sample, ms");
    c->n = 0;
    collect_size(c, teacher);
    snprintf(title, sizeof title, "%s%s%s", named ? who : "", named ? ": " : "", by_size[c->v->metric]);
    put_chart(t, c, title, true, "bytes to ship");
    text_add(t, "</div>\n");
    put_legend(t, c->v->m, teacher);
}

void page_scatter(text *t, const page_view *v)
{
    chart c = {.v = v};
    bool teachers = false;
    status st = mem_alloc(&c.at, POINTS, sizeof *c.at);
    if (st != ST_OK) {
        t->st = st;
        return;
    }
    for (size_t k = 0; k < v->m->n_columns; k++)
        teachers = teachers || belongs(v->m, k, true);
    text_add(t, "<h3>What a millisecond and a kilobyte buy</h3>\n<p class=\"quiet\">Cells that are right, where all samples ran; latency of real devices only. "
                "Named are those that no other beats in both, and every variant's size; the bar spans the runtimes.</p>\n");
    put_network(t, &c, false, teachers);
    put_network(t, &c, true, teachers);
    mem_free(c.at);
}
