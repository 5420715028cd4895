/* show_text.c - a matrix as markdown, for READMEs and review comments, and as CSV, a line a cell. */
#include "matrix/show.h"
#include "matrix/show_cell.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define CELL_MOST 300 /* letters of a reason in a table */

/* ---- markdown ---- */

/* Words from outside as plain text: what markdown or HTML would take for markup gets a backslash (CommonMark 0.31, section
 * 2.4), line ends become spaces; bytes that are no UTF-8, and controls, U+FFFD. At most CELL_MOST letters. */
static void put_plain(text *t, const char *s)
{
    size_t n = s ? strlen(s) : 0, letters = 0;
    for (size_t i = 0, step; i < n; i += step) {
        unsigned char c = (unsigned char)s[i];
        step = utf8_length(s + i, n - i);
        if (++letters > CELL_MOST) {
            text_add(t, "...");
            return;
        }
        if (c == '\n' || c == '\t' || c == '\r')
            text_add(t, " ");
        else if (step == 0 || c < 0x20 || c == 0x7F)
            text_add(t, "\xef\xbf\xbd");
        else if (strchr("\\`*_{}[]<>()#+!|&~$@", c))
            text_printf(t, "\\%c", c);
        else
            text_add_n(t, s + i, step);
        step = step ? step : 1;
    }
}

static void put_head(const matrix *m, text *t)
{
    text_add(t, "\n| runtime |");
    for (size_t k = 0; k < m->n_columns; k++) {
        text_add(t, " ");
        put_plain(t, m->columns[k].variant);
        text_add(t, " |");
    }
    text_add(t, "\n|---|");
    for (size_t k = 0; k < m->n_columns; k++)
        text_add(t, "---:|");
    text_add(t, "\n");
}

static void put_row_name(const matrix *m, size_t row, text *t)
{
    size_t images = show_row_images(m, row);
    text_add(t, "| ");
    put_plain(t, m->rows[row].runtime);
    if (images && images < m->samples)
        text_printf(t, " (%zu)", images);
    text_add(t, " |");
}

static void put_value(const matrix *m, const show_options *o, show_metric metric, const matrix_cell *c, text *t)
{
    char buf[SHOW_ROOM];
    if (!show_ran(c)) {
        text_add(t, c->state == CELL_NOT_RUN ? "" : cell_state_name(c->state));
        return;
    }
    text_printf(t, c->state == CELL_DIFFERS ? "**differs** %s" : "%s", show_figure(metric, show_value(metric, c), buf));
    if (c->state == CELL_OK && !m->numbers)
        text_printf(t, ", %zu", c->flips);
    if (show_gate_fails(o->gate, c))
        text_add(t, ", gate fails");
}

static void put_values(const matrix *m, const show_options *o, text *t)
{
    show_metric metric = show_metric_of(m);
    text_printf(t, "\n%s%s%s; samples behind a runtime's name when not all ran.\n", show_metric_name(metric),
                show_is_share(metric) ? " in percent" : "",
                m->numbers ? "" : ", and how many samples came out in another class than from the same file in our executor");
    put_head(m, t);
    for (size_t r = 0; r < m->n_rows; r++) {
        if (!show_row_ran(m, r))
            continue;
        put_row_name(m, r, t);
        for (size_t k = 0; k < m->n_columns; k++) {
            text_add(t, " ");
            put_value(m, o, metric, matrix_at(m, r, k), t);
            text_add(t, " |");
        }
        text_add(t, "\n");
    }
}

static void put_latencies(const matrix *m, text *t)
{
    char buf[SHOW_ROOM], size[24];
    text_add(t, "\nlatency of one sample in milliseconds, the median; in parentheses where it is no device's (emulated, software).\n");
    put_head(m, t);
    text_add(t, "| size |");
    for (size_t k = 0; k < m->n_columns; k++)
        text_printf(t, " %s |", show_bytes(&m->columns[k]) >= 0 ? human_bytes((double)show_bytes(&m->columns[k]), size) : "");
    text_add(t, "\n");
    for (size_t r = 0; r < m->n_rows; r++) {
        if (!show_row_ran(m, r))
            continue;
        put_row_name(m, r, t);
        for (size_t k = 0; k < m->n_columns; k++) {
            const matrix_cell *c = matrix_at(m, r, k);
            bool any = show_ran(c) && !isnan(c->p50_ms);
            text_printf(t, c->emulated && any ? " (%s) |" : " %s |", any ? show_ms(c->p50_ms, buf) : "");
        }
        text_add(t, "\n");
    }
}

static void put_reasons(const matrix *m, text *t)
{
    bool any = false;
    for (size_t i = 0; i < m->n_rows * m->n_columns; i++) {
        const matrix_cell *c = &m->cells[i];
        if (c->state != CELL_DIFFERS && c->state != CELL_CRASH && c->state != CELL_TIMEOUT)
            continue;
        text_printf(t, "%s- %s: ", any ? "" : "\n", cell_state_name(c->state));
        put_plain(t, c->runtime);
        text_add(t, " / ");
        put_plain(t, c->variant);
        text_add(t, c->reason ? ": " : "");
        put_plain(t, c->reason);
        text_add(t, "\n");
        any = true;
    }
}

static void put_absent(const matrix *m, text *t)
{
    bool any = false;
    for (size_t r = 0; r < m->n_rows; r++) {
        if (show_row_ran(m, r))
            continue;
        text_add(t, any ? ", " : "\nnot run here: ");
        put_plain(t, m->rows[r].runtime);
        any = true;
    }
    text_add(t, any ? "\n" : "");
}

static void put_gate(const gate_result *g, text *t)
{
    char buf[SHOW_ROOM];
    text_printf(t, "\nGate: %s\n", g->held ? "held" : "**does not hold**");
    bool any = false;
    for (size_t i = 0; i < g->n; i++) {
        const gate_margin *r = &g->margins[i];
        if (r->held)
            continue;
        text_printf(t, "%s- ", any ? "" : "\n");
        put_plain(t, r->rule);
        text_add(t, " on ");
        put_plain(t, r->runtime ? r->runtime : "all");
        text_add(t, r->variant ? " / " : "");
        put_plain(t, r->variant);
        text_printf(t, ": %s", isnan(r->value) ? "not measured" : format_double(r->value, buf));
        text_add(t, r->note ? ", " : "");
        put_plain(t, r->note);
        text_add(t, "\n");
        any = true;
    }
}

void show_markdown(const matrix *m, const show_options *o, text *t)
{
    text_add(t, "**");
    put_plain(t, m->run ? m->run : "matrix");
    text_printf(t, "**: %zu runtimes, %zu variants, %zu samples", m->n_rows, m->n_columns, m->samples);
    text_add(t, m->set ? " of " : "");
    put_plain(t, m->set);
    text_add(t, m->cpu ? ", on " : "");
    put_plain(t, m->cpu);
    text_add(t, "\n");
    if (m->n_columns) {
        put_values(m, o, t);
        put_latencies(m, t);
    }
    put_reasons(m, t);
    put_absent(m, t);
    if (o->gate)
        put_gate(o->gate, t);
    if (o->decided) {
        text_add(t, "\nDecision: **");
        put_plain(t, o->decided->variant ? o->decided->variant : "per platform");
        text_add(t, "**. ");
        put_plain(t, o->decided->summary);
        text_add(t, "\n");
    }
}

/* ---- CSV ---- */

/* A field of words: quoted where RFC 4180 asks for it. What a spreadsheet would compute (it begins, spaces aside, with = + - @
 * or their full-width forms, or holds a tab or carriage return first) gets an apostrophe in front (OWASP, CSV injection). */
static void put_field(text *t, const char *s)
{
    static const char *const wide[] = {"\xef\xbc\x9d", "\xef\xbc\x8b", "\xef\xbc\x8d", "\xef\xbc\xa0"};
    size_t n = s ? strlen(s) : 0, first = s ? strspn(s, " ") : 0;
    if (n == 0)
        return;
    bool formula = s[first] && strchr("=+-@\t\r\n|%", s[first]);
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        formula = formula || strncmp(s + first, wide[i], 3) == 0;
    bool quote = strpbrk(s, "\",\r\n;\t") != NULL || formula || *s == ' ' || s[n - 1] == ' ';
    text_add(t, quote ? "\"" : "");
    text_add(t, formula ? "'" : "");
    for (size_t i = 0, step; i < n; i += step) {
        unsigned char c = (unsigned char)s[i];
        step = utf8_length(s + i, n - i);
        if (step == 0 || (c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7F)
            text_add(t, "\xef\xbf\xbd");
        else if (c == '"')
            text_add(t, "\"\"");
        else
            text_add_n(t, s + i, step);
        step = step ? step : 1;
    }
    text_add(t, quote ? "\"" : "");
}

/* A comma and a number; nothing when it is unknown. */
static void put_number(text *t, double v)
{
    char buf[NUMBER_ROOM];
    text_add(t, ",");
    if (isinf(v))
        text_add(t, v > 0 ? "inf" : "-inf");
    else if (!isnan(v))
        text_add(t, format_double(v, buf));
}

static void put_count(text *t, bool known, uint64_t n)
{
    text_add(t, ",");
    if (known)
        text_printf(t, "%" PRIu64, n);
}

static void put_line(const matrix_cell *c, text *t)
{
    const char *words[] = {c->reason, c->engine, c->version, c->build, c->device, c->isa, c->providers, c->host};
    bool ran = show_ran(c);
    put_field(t, c->runtime);
    text_add(t, ",");
    put_field(t, c->variant);
    text_printf(t, ",%s", cell_state_name(c->state));
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        text_add(t, ",");
        put_field(t, words[i]);
    }
    text_printf(t, ",%s", c->emulated ? "yes" : "no");
    put_count(t, ran, c->images);
    const double shares[] = {c->accuracy, c->accuracy_low, c->accuracy_high, c->error, c->worst_class_accuracy};
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++)
        put_number(t, ran ? shares[i] : (double)NAN);
    put_count(t, ran, c->disagree);
    put_count(t, ran, c->flips);
    const double rest[] = {c->max_error, c->mean_error, c->p99_error, c->tolerance, c->p50_ms,  c->p90_ms,
                           c->p99_ms,    c->throughput, c->load_ms,   c->peak_mb,   c->seconds};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++)
        put_number(t, ran ? rest[i] : (double)NAN);
    put_count(t, c->bytes >= 0, (uint64_t)(c->bytes >= 0 ? c->bytes : 0));
    text_add(t, ",");
    put_field(t, c->output_hash);
    text_add(t, ",");
    put_field(t, c->notes);
    put_count(t, c->when > 0, (uint64_t)(c->when > 0 ? c->when : 0));
    text_add(t, "\r\n");
}

void show_csv(const matrix *m, text *t)
{
    text_add(t, "runtime,variant,state,reason,engine,version,build,device,isa,providers,host,emulated,images,accuracy,accuracy_low,"
                "accuracy_high,error,worst_class_accuracy,disagree,flips,max_error,mean_error,p99_error,tolerance,p50_ms,p90_ms,"
                "p99_ms,throughput,load_ms,peak_mb,seconds,bytes,output_hash,notes,when\r\n");
    for (size_t i = 0; i < m->n_rows * m->n_columns; i++)
        put_line(&m->cells[i], t);
}
