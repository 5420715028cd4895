/* show.c - a matrix in a terminal: accuracy with a sign for the state, then latency, then what is wrong in words.
 *
 * Columns that do not fit the width go into further blocks. Names and reasons come from runners and files: words.h
 * lets no escape sequence through and knows every line's width. Own text is ASCII. */
#include "matrix/show.h"
#include "matrix/show_cell.h"
#include "matrix/words.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define LABEL_MOST  24 /* columns of a row's name */
#define COLUMN_MOST 10
#define HEAD_LINES  4
#define TROUBLES    24  /* listed at most */
#define REASON_MOST 400 /* letters of a reason */

typedef struct screen {
    const matrix *m;
    const show_options *o;
    text *t;
    size_t width, label;
    show_metric metric;
} screen;

/* ---- letters ---- */

/* Formats and wraps a paragraph. Takes the text. */
static void put_paragraph(const screen *s, text *words, size_t indent)
{
    if (words->st != ST_OK)
        s->t->st = words->st;
    words_wrap(s->t, words->s ? words->s : "", 0, indent, s->width, REASON_MOST);
    text_free(words);
}

/* ---- blocks of columns ---- */

/* Name parts of a column, one a line: "teacher" "int8" "ptq". Returns the part and its length, 0: there is none. */
static size_t head_part(const char *name, size_t line, const char **part)
{
    const char *p = name;
    for (; line > 0; line--) {
        p += strcspn(p, "-");
        if (!*p)
            return 0;
        p++;
    }
    *part = p;
    return strcspn(p, "-");
}

typedef void (*cell_text)(const screen *s, const matrix_cell *c, char *buf);

static void accuracy_text(const screen *s, const matrix_cell *c, char *buf)
{
    static const char *const words[] = {[CELL_CRASH] = "crash", [CELL_TIMEOUT] = "time", [CELL_UNSUPPORTED] = "-", [CELL_NOT_RUN] = "."};
    double v = show_value(s->metric, c);
    char figure[SHOW_ROOM];
    if (!show_ran(c)) {
        snprintf(buf, SHOW_ROOM, "%s ", words[c->state]);
        return;
    }
    char mark = c->state == CELL_DIFFERS              ? '!'
                : show_gate_fails(s->o->gate, c) ? 'x'
                : show_same(s->m, c)             ? '='
                                                 : '~';
    if (isnan(v) && c->state == CELL_DIFFERS)
        snprintf(buf, SHOW_ROOM, "wrong!");
    else
        snprintf(buf, SHOW_ROOM, "%.40s%c", show_figure(s->metric, v, figure), mark);
}

static void latency_text(const screen *s, const matrix_cell *c, char *buf)
{
    char ms[SHOW_ROOM];
    (void)s;
    if (!show_ran(c) || isnan(c->p50_ms))
        snprintf(buf, SHOW_ROOM, ". ");
    else
        snprintf(buf, SHOW_ROOM, "%.40s%c", show_ms(c->p50_ms, ms), c->emulated ? '*' : ' '); /* in a row of both kinds */
}

static void size_text(int64_t bytes, char *buf)
{
    double kib = (double)bytes / 1024;
    if (bytes < 0)
        snprintf(buf, SHOW_ROOM, "- ");
    else
        snprintf(buf, SHOW_ROOM, "%.*f ", kib < 99.95 ? 1 : 0, kib);
}

static const char *color_of(const screen *s, const matrix_cell *c)
{
    if (!s->o->color)
        return NULL;
    if (c->state == CELL_DIFFERS || show_gate_fails(s->o->gate, c))
        return "\033[31m";
    if (c->state == CELL_CRASH || c->state == CELL_TIMEOUT)
        return "\033[33m";
    return c->state == CELL_OK ? "\033[32m" : "\033[2m";
}

/* Pads on the left to `width`, cuts what is wider. */
static void put_right(text *t, const char *s, size_t width, const char *color)
{
    size_t n = strlen(s);
    n = n < width ? n : width;
    words_spaces(t, width - n);
    if (color)
        text_add(t, color);
    text_add_n(t, s, n);
    if (color)
        text_add(t, "\033[0m");
}

static size_t column_width(const screen *s, size_t k, cell_text f)
{
    const show_options no_gate = {0}; /* its sign is as wide as others */
    const screen plain = {.m = s->m, .o = &no_gate, .metric = s->metric};
    size_t most = 4;
    char buf[SHOW_ROOM];
    const char *part;
    for (size_t line = 0; line < HEAD_LINES; line++) {
        size_t n = head_part(s->m->columns[k].variant, line, &part);
        most = n > most ? n : most;
    }
    for (size_t r = 0; r < s->m->n_rows; r++) {
        f(&plain, matrix_at(s->m, r, k), buf);
        most = strlen(buf) > most ? strlen(buf) : most;
    }
    if (f == latency_text) {
        size_text(show_bytes(&s->m->columns[k]), buf);
        most = strlen(buf) > most ? strlen(buf) : most;
    }
    return most < COLUMN_MOST ? most : COLUMN_MOST;
}

static void put_label(const screen *s, size_t row)
{
    const matrix_row *r = &s->m->rows[row];
    size_t images = show_row_images(s->m, row), used;
    char count[24] = "";
    if (images && images < s->m->samples)
        snprintf(count, sizeof count, " %zu", images);
    used = words_cut(s->t, r->runtime, s->label > strlen(count) ? s->label - strlen(count) : 0);
    words_spaces(s->t, s->label - strlen(count) - used);
    text_add(s->t, count);
}

static size_t label_width(const screen *s)
{
    size_t most = 9;
    for (size_t r = 0; r < s->m->n_rows; r++) {
        size_t images = show_row_images(s->m, r), n = strlen(s->m->rows[r].runtime);
        if (show_row_ran(s->m, r))
            n += images && images < s->m->samples ? (size_t)snprintf(NULL, 0, " %zu", images) : 0;
        else
            n = 0;
        most = n > most ? n : most;
    }
    return most < LABEL_MOST ? most : LABEL_MOST;
}

static void put_head(const screen *s, const char *title, size_t from, size_t to, cell_text f)
{
    size_t lines = 1;
    const char *part;
    for (size_t k = from; k < to; k++)
        for (size_t line = 1; line < HEAD_LINES; line++)
            lines = head_part(s->m->columns[k].variant, line, &part) && line >= lines ? line + 1 : lines;
    for (size_t line = 0; line < lines; line++) {
        words_spaces(s->t, s->label - words_cut(s->t, line + 1 == lines ? title : "", s->label));
        for (size_t k = from; k < to; k++) { /* the last part of every name stands in the last line */
            const char *name = s->m->columns[k].variant;
            size_t parts = 1, width = column_width(s, k, f), n = 0;
            char word[4 * COLUMN_MOST + 1];
            while (parts < HEAD_LINES && head_part(name, parts, &part))
                parts++;
            if (line + parts >= lines)
                n = head_part(name, line + parts - lines, &part);
            n = n < 4 * COLUMN_MOST ? n : 4 * COLUMN_MOST;
            memcpy(word, n ? part : "", n);
            word[n] = 0;
            text cut = {0};
            size_t used = words_cut(&cut, word, width);
            words_spaces(s->t, 1 + width - used);
            text_add(s->t, cut.s ? cut.s : "");
            if (cut.st != ST_OK)
                s->t->st = cut.st;
            text_free(&cut);
        }
        words_end_line(s->t);
    }
}

static void put_size_row(const screen *s, size_t from, size_t to)
{
    char buf[SHOW_ROOM];
    words_spaces(s->t, s->label - words_cut(s->t, "size, KiB", s->label));
    for (size_t k = from; k < to; k++) {
        size_text(show_bytes(&s->m->columns[k]), buf);
        text_add(s->t, " ");
        put_right(s->t, buf, column_width(s, k, latency_text), NULL);
    }
    words_end_line(s->t);
}

/* Some cell has a latency that is a device's (or else, when asked for those: that means nothing). */
static bool row_is_timed(const matrix *m, size_t row, bool emulated)
{
    for (size_t k = 0; k < m->n_columns; k++) {
        const matrix_cell *c = matrix_at(m, row, k);
        if (show_ran(c) && !isnan(c->p50_ms) && c->emulated == emulated)
            return true;
    }
    return false;
}

static void put_block(const screen *s, const char *title, size_t from, size_t to, cell_text f)
{
    char buf[SHOW_ROOM];
    text_add(s->t, "\n");
    put_head(s, title, from, to, f);
    if (f == latency_text)
        put_size_row(s, from, to);
    for (size_t r = 0; r < s->m->n_rows; r++) {
        if (!(f == latency_text ? row_is_timed(s->m, r, false) : show_row_ran(s->m, r)))
            continue;
        put_label(s, r);
        for (size_t k = from; k < to; k++) {
            const matrix_cell *c = matrix_at(s->m, r, k);
            f(s, c, buf);
            text_add(s->t, " ");
            put_right(s->t, buf, column_width(s, k, f), color_of(s, c));
        }
        words_end_line(s->t);
    }
}

static void put_blocks(const screen *s, const char *title, cell_text f)
{
    for (size_t from = 0, to; from < s->m->n_columns; from = to) {
        size_t used = s->label + 1 + column_width(s, from, f);
        for (to = from + 1; to < s->m->n_columns && used + 1 + column_width(s, to, f) <= s->width; to++)
            used += 1 + column_width(s, to, f);
        put_block(s, title, from, to, f);
    }
}

/* ---- words ---- */

static bool same_words(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* Variants of a row that went wrong alike stand in one line. Returns how many were listed. */
static size_t put_row_troubles(const screen *s, size_t row, cell_state state, size_t left)
{
    const matrix *m = s->m;
    size_t listed = 0;
    for (size_t k = 0; k < m->n_columns; k++) {
        const matrix_cell *c = matrix_at(m, row, k);
        bool told = c->state != state;
        for (size_t before = 0; before < k && !told; before++)
            told = matrix_at(m, row, before)->state == state && same_words(matrix_at(m, row, before)->reason, c->reason);
        if (told || listed == left)
            continue;
        text t = {0};
        text_printf(&t, "%s: %s on", cell_state_name(state), m->rows[row].runtime);
        for (size_t i = k; i < m->n_columns; i++)
            if (matrix_at(m, row, i)->state == state && same_words(matrix_at(m, row, i)->reason, c->reason))
                text_printf(&t, " %s", m->columns[i].variant);
        text_printf(&t, "%s%s", c->reason ? ": " : "", c->reason ? c->reason : "");
        put_paragraph(s, &t, 4);
        listed++;
    }
    return listed;
}

static void put_troubles(const screen *s)
{
    static const cell_state bad[] = {CELL_DIFFERS, CELL_CRASH, CELL_TIMEOUT};
    size_t listed = 0;
    text_add(s->t, "\n");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (size_t r = 0; r < s->m->n_rows; r++)
            listed += put_row_troubles(s, r, bad[i], TROUBLES - listed);
    if (listed == TROUBLES)
        words_wrap(s->t, "there may be more: the report page lists all", 0, 0, s->width, REASON_MOST);
}

/* How many samples stand behind each ~ and !. */
static void put_others(const screen *s)
{
    for (size_t r = 0; r < s->m->n_rows && !s->m->numbers; r++) {
        text t = {0};
        for (size_t k = 0; k < s->m->n_columns; k++) {
            const matrix_cell *c = matrix_at(s->m, r, k);
            if (show_ran(c) && c->flips) {
                if (!t.n)
                    text_printf(&t, "another class in %s:", s->m->rows[r].runtime);
                text_printf(&t, "%s %s %zu", t.s && t.s[t.n - 1] != ':' ? "," : "", s->m->columns[k].variant, c->flips);
            }
        }
        if (t.n)
            text_printf(&t, " of %zu", show_row_images(s->m, r));
        if (t.n || t.st != ST_OK)
            put_paragraph(s, &t, 4);
    }
}

static void put_tally(const screen *s)
{
    static const char *const words[CELL_STATES] = {"ok", "differ", "crashed", "timed out", "unsupported", "not run here"};
    size_t count[CELL_STATES];
    text t = {0};
    show_tally(s->m, count);
    text_printf(&t, "%zu cells: %zu ok", s->m->n_rows * s->m->n_columns, count[CELL_OK]);
    for (int i = CELL_DIFFERS; i < CELL_STATES; i++)
        if (count[i])
            text_printf(&t, ", %zu %s", count[i], words[i]);
    put_paragraph(s, &t, 4);
}

static void put_absent(const screen *s)
{
    text t = {0};
    for (size_t r = 0; r < s->m->n_rows; r++)
        if (!show_row_ran(s->m, r))
            text_printf(&t, "%s %s", t.n ? "," : "not run here:", s->m->rows[r].runtime);
    if (t.n)
        text_add(&t, " (distill matrix --list)");
    if (t.n || t.st != ST_OK)
        put_paragraph(s, &t, 4);
}

static void put_gate(const screen *s, const gate_result *g)
{
    text t = {0};
    size_t failed = 0;
    const gate_margin *first = NULL;
    for (size_t i = 0; i < g->n; i++)
        if (!g->margins[i].held) {
            first = first ? first : &g->margins[i];
            failed++;
        }
    if (g->held)
        text_printf(&t, "gate: held (%zu figure%s)", g->n, g->n == 1 ? "" : "s");
    else
        text_printf(&t, "gate: DOES NOT HOLD: %zu of %zu figures", failed, g->n);
    if (first) {
        char value[SHOW_ROOM] = "not measured";
        if (!isnan(first->value))
            snprintf(value, sizeof value, "%.4g", first->value);
        text_printf(&t, "; the first: %s: %s on %s%s%s", first->rule, value, first->runtime ? first->runtime : "all",
                    first->variant ? "/" : "", first->variant ? first->variant : "");
    }
    put_paragraph(s, &t, 4);
}

static void put_decision(const screen *s, const decision *d)
{
    text t = {0};
    text_printf(&t, "decision: %s. %s", d->variant ? d->variant : "per platform", d->summary ? d->summary : "");
    put_paragraph(s, &t, 4);
}

static void put_title(const screen *s)
{
    const matrix *m = s->m;
    text t = {0};
    text_printf(&t, "%s: %zu runtimes x %zu variants, %zu samples", m->run ? m->run : "matrix", m->n_rows, m->n_columns, m->samples);
    if (m->set)
        text_printf(&t, " of %s", m->set);
    put_paragraph(s, &t, 4);
}

static void put_legend(const screen *s)
{
    const char *const items[] = {s->m->numbers ? "= as in our executor" : "= every sample as in our executor",
                                 "~ within tolerance",
                                 "! differs",
                                 s->o->gate ? "x a rule of [gate] fails" : "",
                                 "- unsupported",
                                 ". not run here"};
    size_t at = 0;
    text_add(s->t, "\n");
    for (size_t i = 0; i < sizeof items / sizeof *items; i++) {
        size_t n = strlen(items[i]);
        if (at && at + 2 + n > s->width) {
            text_add(s->t, "\n");
            at = 0;
        }
        if (n)
            text_printf(s->t, "%s%s", at ? "  " : "", items[i]);
        at += n ? n + (at ? 2 : 0) : 0;
    }
    text_add(s->t, "\n");
}

static void put_untimed(const screen *s)
{
    text t = {0};
    for (size_t r = 0; r < s->m->n_rows; r++)
        if (row_is_timed(s->m, r, true) && !row_is_timed(s->m, r, false))
            text_printf(&t, "%s %s", t.n ? "," : "emulated or in software, so no device's latency:", s->m->rows[r].runtime);
    if (t.n || t.st != ST_OK)
        put_paragraph(s, &t, 4);
}

void show_terminal(const matrix *m, const show_options *o, text *t)
{
    size_t width = o->width > 0 ? (size_t)o->width : 80;
    screen s = {.m = m, .o = o, .t = t, .width = width < 40 ? 40 : width, .metric = show_metric_of(m)};
    static const char *const titles[] = {"accuracy, %", "same class, %", "mean error", "mean distance"};
    bool any = false, timed = false;
    for (size_t r = 0; r < m->n_rows; r++) {
        any = any || show_row_ran(m, r);
        timed = timed || row_is_timed(m, r, false);
    }
    s.label = label_width(&s);
    s.label = s.label < strlen(titles[s.metric]) ? strlen(titles[s.metric]) : s.label;
    put_title(&s);
    if (any)
        put_blocks(&s, titles[s.metric], accuracy_text);
    if (timed)
        put_blocks(&s, "p50, ms", latency_text);
    if (any)
        put_legend(&s);
    put_untimed(&s);
    put_others(&s);
    put_troubles(&s);
    put_tally(&s);
    put_absent(&s);
    if (o->gate)
        put_gate(&s, o->gate);
    if (o->decided)
        put_decision(&s, o->decided);
}
