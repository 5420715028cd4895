/* test_matrix_show.c - a matrix for readers: the terminal's width, markdown, CSV and the page, with hostile words in every
 * place where one can come from outside. */
#include "harness.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"
#include "matrix/show.h"
#include "program.h"
#include "toy_matrix.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* HTML, markdown, a spreadsheet's formula, escape sequences, broken UTF-8, wide letters, letters that turn the direction. */
#define NASTY "=<script>alert('x')</script>\"|&`*_[a](b) \n\r\x1b[31m\xff\x01\xe4\xb8\xad\xe2\x80\xae,;"

static void contains(const char *s, const char *part)
{
    ck_assert_msg(strstr(s, part) != NULL, "it lacks: %s\n%.3000s", part, s);
}

static void lacks(const char *s, const char *part)
{
    const char *at = strstr(s, part);
    ck_assert_msg(at == NULL, "it has: %.80s", at);
}

static size_t count_of(const char *s, const char *part)
{
    size_t n = 0;
    for (const char *p = strstr(s, part); p; p = strstr(p + 1, part))
        n++;
    return n;
}

/* Columns of a line: code points, escape sequences for colour apart. Everything must be UTF-8 without other controls. */
static size_t columns_of(const char *line, size_t n)
{
    size_t columns = 0;
    for (size_t i = 0, step; i < n; i += step) {
        if (line[i] == '\033') {
            step = strcspn(line + i, "m") + 1;
            ck_assert_msg(step <= 5 && line[i + 1] == '[', "an escape sequence that is no colour: %.20s", line + i + 1);
            continue;
        }
        step = utf8_length(line + i, n - i);
        ck_assert_msg(step > 0, "no UTF-8: %.40s", line);
        ck_assert_msg((unsigned char)line[i] >= 0x20 && line[i] != 0x7F, "control character %d: %.40s", line[i], line);
        columns++;
    }
    return columns;
}

static size_t check_lines(const char *s, size_t width)
{
    size_t lines = 0;
    for (const char *p = s; *p; lines++) {
        const char *end = strchr(p, '\n');
        ck_assert_msg(end != NULL, "the last line does not end: %s", p);
        size_t n = columns_of(p, (size_t)(end - p));
        ck_assert_msg(n <= width, "%zu columns where %zu were allowed: %.*s", n, width, (int)(end - p), p);
        ck_assert_msg(end == p || end[-1] != ' ', "spaces at the end of: %.*s", (int)(end - p), p);
        p = end + 1;
    }
    return lines;
}

static char *terminal(const matrix *m, const show_options *o)
{
    text t = {0};
    show_terminal(m, o, &t);
    ck_assert_int_eq(t.st, ST_OK);
    return t.s;
}

START_TEST(no_line_is_wider_than_asked)
{
    static const int widths[] = {40, 60, 79, 80, 100, 132, 400, 0, 1};
    for (int nasty = 0; nasty < 2; nasty++)
        for (size_t columns = 1; columns <= 12; columns += nasty ? 11 : columns < 6 ? 1 : 2)
            for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
                for (int color = 0; color < 2; color++) {
                    matrix m;
                    gate_result g;
                    decision d;
                    toy_matrix(&m, 25, columns, nasty ? NASTY : NULL);
                    toy_gate(&m, 1, nasty ? NASTY : NULL, &g);
                    toy_decision(nasty ? NASTY : NULL, &d);
                    const show_options o = {.width = widths[i], .color = color, .gate = &g, .decided = &d};
                    char *s = terminal(&m, &o);
                    check_lines(s, widths[i] == 0 ? 80 : widths[i] < 40 ? 40 : (size_t)widths[i]);
                    lacks(s, "\xe2\x80\xae");
                    if (!color)
                        lacks(s, "\033");
                    mem_free(s);
                    arena_free(&g.mem);
                    arena_free(&m.mem);
                }
}
END_TEST

START_TEST(a_terminal_shows_what_matters)
{
    matrix m;
    gate_result g;
    decision d;
    toy_matrix(&m, 25, 8, NULL);
    toy_gate(&m, 1, NULL, &g);
    toy_decision(NULL, &d);
    const show_options plain = {.width = 80}, all = {.width = 80, .gate = &g, .decided = &d};
    char *s = terminal(&m, &plain);
    /* eight variants stand in one block: a row once with its accuracy, once with its latency */
    ck_assert_uint_eq(count_of(s, "\nort-basic "), 2);
    ck_assert_uint_le(check_lines(s, 80), 90);
    contains(s, "\nort                90.05= 90.06= 89.98= 89.61~ 90.02~   89.87=   89.84=  93.91=\n");
    contains(s, "\nort-haswell    500 90.45= 90.46= 90.38= 76.00! 76.00!   76.00!   76.00!      .\n");
    contains(s, "\nort                0.121  0.134  0.129  0.083  0.084    0.091    0.092   4.610\n");
    contains(s, "differs: ort-haswell on int8-ptq int8-qat portable portable-s8: 8-bit products");
    contains(s, "crash: ort-web-webgl on fp16 bf16: ended by signal 11");
    contains(s, "timeout: onnx-reference on portable portable-s8: no answer in 60 s");
    contains(s, "200 cells: 123 ok, 8 differ, 2 crashed, 2 timed out, 10 unsupported, 55 not run");
    contains(s, "\nanother class in ort: int8-ptq 4, int8-qat 4 of 10000\n");
    contains(s, "another class in ort-haswell: int8-ptq 71, int8-qat 71, portable 71,");
    contains(s, "not run here: ort-cuda, tensorrt, directml,");
    contains(s, "no device's latency: ort-haswell");
    ck_assert_uint_eq(count_of(s, "\nort-cuda"), 0);
    lacks(s, "gate");
    mem_free(s);
    s = terminal(&m, &all);
    contains(s, "gate: DOES NOT HOLD: 8 of");
    contains(s, "x a rule of [gate] fails");
    contains(s, "decision: portable. Ship the distilled student");
    mem_free(s);
    arena_free(&g.mem);
    toy_gate(&m, 0, NULL, &g);
    s = terminal(&m, &all);
    contains(s, "gate: held (");
    mem_free(s);
    /* a cell that is ok but fails the gate is told by a sign, not by its colour alone */
    g.margins[0].held = false;
    g.held = false;
    g.margins[0].value = (double)NAN;
    s = terminal(&m, &all);
    contains(s, "top1 >= 0.89: not measured");
    contains(s, "\nown                90.05x 90.06=");
    mem_free(s);
    arena_free(&g.mem);
    arena_free(&m.mem);
}
END_TEST

START_TEST(colour_follows_state_and_gate)
{
    matrix m;
    toy_matrix(&m, 12, 4, NULL);
    const show_options o = {.color = true};
    char *s = terminal(&m, &o);
    contains(s, "\033[32m90.05=\033[0m");
    contains(s, "\033[31m76.00!\033[0m");
    contains(s, "\033[33mcrash \033[0m");
    mem_free(s);
    arena_free(&m.mem);
}
END_TEST

/* Every way to show a matrix, over one; `look` gets each text. */
static void show_all(const matrix *m, const show_options *o, void (*look)(const char *))
{
    text t = {0};
    show_terminal(m, o, &t);
    ck_assert_int_eq(t.st, ST_OK);
    check_lines(t.s ? t.s : "", 80);
    look(t.s);
    text_free(&t);
    show_markdown(m, o, &t);
    ck_assert_int_eq(t.st, ST_OK);
    look(t.s);
    text_free(&t);
    show_csv(m, &t);
    ck_assert_int_eq(t.st, ST_OK);
    look(t.s);
    text_free(&t);
}

static void has_no_nan(const char *s)
{
    ck_assert_ptr_nonnull(s);
    lacks(s, "nan");
}

START_TEST(odd_matrices_are_shown_too)
{
    matrix m = {.run = "nothing"};
    const show_options o = {0};
    show_all(&m, &o, has_no_nan);
    toy_matrix(&m, 1, 1, NULL);
    show_all(&m, &o, has_no_nan);
    m.cells[0] = matrix_cell_empty();
    m.cells[0].runtime = "own";
    m.cells[0].variant = "fp32";
    for (int i = 0; i < CELL_STATES; i++) { /* nothing is known but the state */
        m.cells[0].state = (cell_state)i;
        m.run = m.set = m.cpu = NULL;
        show_all(&m, &o, has_no_nan);
    }
    arena_free(&m.mem);
}
END_TEST

static void has_errors(const char *s)
{
    contains(s, "0.0123");
}

START_TEST(numbers_are_shown_as_errors)
{
    matrix m;
    const show_options o = {0};
    toy_matrix(&m, 12, 7, NULL);
    m.numbers = true;
    for (size_t i = 0; i < m.n_rows * m.n_columns; i++) {
        m.cells[i].error = 0.0123;
        m.cells[i].accuracy = m.cells[i].accuracy_low = m.cells[i].accuracy_high = (double)NAN;
    }
    show_all(&m, &o, has_errors);
    char *s = terminal(&m, &o);
    contains(s, "mean error");
    mem_free(s);
    for (size_t i = 0; i < m.n_rows * m.n_columns; i++) { /* without targets */
        m.cells[i].error = (double)NAN;
        m.cells[i].mean_error = 0.0123;
    }
    show_all(&m, &o, has_errors);
    arena_free(&m.mem);
    toy_matrix(&m, 2, 2, NULL); /* classes without labels */
    for (size_t i = 0; i < 4; i++) {
        m.cells[i].accuracy = (double)NAN;
        m.cells[i].disagree = 100;
    }
    s = terminal(&m, &o);
    contains(s, "same class, %");
    contains(s, "99.00=");
    mem_free(s);
    arena_free(&m.mem);
}
END_TEST

/* ---- markdown ---- */

START_TEST(markdown_is_a_table)
{
    matrix m;
    gate_result g;
    decision d;
    text t = {0};
    toy_matrix(&m, 25, 12, NULL);
    toy_gate(&m, 1, NULL, &g);
    toy_decision(NULL, &d);
    const show_options o = {.gate = &g, .decided = &d};
    show_markdown(&m, &o, &t);
    contains(t.s, "| runtime | fp32 | fp16 | bf16 | int8-ptq |");
    contains(t.s, "\n| ort | 90.05, 0 | ");
    contains(t.s, "| ort-haswell (500) |");
    contains(t.s, "**differs** 76.00, gate fails |");
    contains(t.s, "- differs: ort-haswell / int8-ptq: 8-bit products");
    contains(t.s, "not run here: ort-cuda, ");
    contains(t.s, "(4.840) |");
    contains(t.s, "Gate: **does not hold**");
    contains(t.s, "Decision: **portable**.");
    for (const char *p = t.s; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
        if (*p == '|') { /* every row has as many cells */
            size_t bars = 0;
            for (const char *q = p; *q && *q != '\n'; q++)
                bars += *q == '|';
            ck_assert_uint_eq(bars, 14);
        }
    text_free(&t);
    arena_free(&g.mem);
    arena_free(&m.mem);
}
END_TEST

START_TEST(markdown_takes_nothing_for_markup)
{
    matrix m;
    gate_result g;
    decision d;
    text t = {0};
    toy_matrix(&m, 25, 3, NASTY);
    toy_gate(&m, 4, NASTY, &g);
    toy_decision(NASTY, &d);
    const show_options o = {.gate = &g, .decided = &d};
    show_markdown(&m, &o, &t);
    for (const char *p = t.s; *p; p++) {
        bool first = p == t.s || p[-1] != '\\';
        ck_assert_msg(!(first && strchr("<>`[&", *p)), "unescaped: %.30s", p);
        ck_assert(*p == '\n' || (unsigned char)*p >= 0x20);
    }
    lacks(t.s, "\xff");
    contains(t.s, "\\<script\\>alert\\('x'\\)");
    for (const char *p = t.s; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
        if (*p == '|') {
            size_t bars = 0;
            for (const char *q = p; *q && *q != '\n'; q++)
                bars += *q == '|' && (q == p || q[-1] != '\\');
            ck_assert_uint_eq(bars, 5);
        }
    text_free(&t);
    arena_free(&g.mem);
    arena_free(&m.mem);
}
END_TEST

/* ---- CSV ---- */

/* Reads one RFC 4180 record: the fields' number; field `want` into buf. Moves *p behind it. */
static size_t read_record(const char **p, size_t want, char *buf, size_t room)
{
    size_t field = 0, n = 0;
    bool quoted = false;
    *buf = 0;
    for (const char *q = *p; *q; q++) {
        if (quoted && *q == '"' && q[1] == '"') {
            q++;
        } else if (*q == '"') {
            ck_assert_msg(quoted || q == *p || q[-1] == ',', "a quote within a field: %.40s", q);
            quoted = !quoted;
            continue;
        } else if (!quoted && *q == ',') {
            field++;
            continue;
        } else if (!quoted && *q == '\r') {
            ck_assert_int_eq(q[1], '\n');
            *p = q + 2;
            return field + 1;
        } else {
            ck_assert_msg(quoted || *q != '\n', "a line end outside quotes");
        }
        if (field == want && n + 1 < room) {
            buf[n++] = *q;
            buf[n] = 0;
        }
    }
    ck_abort_msg("a record without an end");
    return 0;
}

START_TEST(csv_is_a_record_a_cell)
{
    for (int nasty = 0; nasty < 2; nasty++) {
        matrix m;
        text t = {0};
        char field[256];
        toy_matrix(&m, 25, 12, nasty ? NASTY : NULL);
        show_csv(&m, &t);
        const char *p = t.s;
        size_t records = 0, fields = read_record(&p, 0, field, sizeof field);
        ck_assert_str_eq(field, "runtime");
        for (; *p; records++) {
            const char *again = p;
            ck_assert_uint_eq(read_record(&p, 0, field, sizeof field), fields);
            ck_assert_msg(!strchr("=+-@\t\r|", *field), "a spreadsheet computes: %s", field);
            if (!nasty)
                ck_assert_str_eq(field, m.rows[records / 12].runtime);
            read_record(&again, 2, field, sizeof field);
            ck_assert_str_eq(field, cell_state_name(m.cells[records].state));
        }
        ck_assert_uint_eq(records, 300);
        lacks(t.s, "nan");
        lacks(t.s, "\xff");
        lacks(t.s, "\033");
        text_free(&t);
        arena_free(&m.mem);
    }
}
END_TEST

START_TEST(csv_lets_no_formula_through)
{
    static const char *const bad[] = {"=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "\xef\xbc\x9d" "1", "|calc", "%0A=1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        matrix m;
        text t = {0};
        char field[64];
        toy_matrix(&m, 1, 1, bad[i]);
        show_csv(&m, &t);
        const char *p = strchr(t.s, '\n') + 1;
        read_record(&p, 0, field, sizeof field);
        ck_assert_int_eq(*field, '\'');
        ck_assert_str_eq(field + 1, bad[i]);
        text_free(&t);
        arena_free(&m.mem);
    }
}
END_TEST

/* ---- the page ---- */

/* Every element that is opened is closed, in order (void elements and self-closed SVG apart). */
static void is_balanced(const char *page)
{
    static const char *const alone[] = {"meta", "img", "br", "!DOCTYPE"};
    char open[64][16];
    size_t depth = 0;
    for (const char *p = strchr(page, '<'); p; p = strchr(p + 1, '<')) {
        const char *name = p + 1 + (p[1] == '/'), *end = strchr(p, '>');
        size_t n = strcspn(name, " >/\n");
        ck_assert_msg(end != NULL && n > 0 && n < 16, "broken tag: %.40s", p);
        bool skip = end[-1] == '/';
        for (size_t i = 0; i < sizeof alone / sizeof *alone; i++)
            skip = skip || (strlen(alone[i]) == n && strncmp(name, alone[i], n) == 0);
        if (skip)
            continue;
        if (p[1] == '/') {
            ck_assert_msg(depth > 0 && strncmp(open[depth - 1], name, n) == 0 && !open[depth - 1][n], "closes what is not open: %.40s", p);
            depth--;
        } else {
            ck_assert_uint_lt(depth, 64);
            memcpy(open[depth], name, n);
            open[depth++][n] = 0;
        }
    }
    ck_assert_uint_eq(depth, 0);
}

/* Ids are there once, and every link in the page leads to one. */
static void is_linked(const char *page)
{
    for (const char *p = strstr(page, "href=\"#"); p; p = strstr(p + 1, "href=\"#")) {
        char id[64];
        snprintf(id, sizeof id, " id=\"%.*s\"", (int)strcspn(p + 7, "\""), p + 7);
        const char *first = strstr(page, id);
        ck_assert_msg(first != NULL, "nothing has%s", id);
        ck_assert_msg(!strstr(first + 1, id), "twice%s", id);
    }
}

/* A region that scrolls sideways can be reached by keyboard; cells of a head say what they head; diagrams have a name. */
static void is_accessible(const char *page)
{
    ck_assert_uint_eq(count_of(page, "class=\"scroll"), count_of(page, "class=\"scroll\" tabindex=\"0\"") +
                                                            count_of(page, "class=\"scroll map\" tabindex=\"0\""));
    ck_assert_uint_eq(count_of(page, "<th "), count_of(page, "<th scope=\"col\"") + count_of(page, "<th scope=\"row\""));
    lacks(page, "<th>");
    for (const char *p = strstr(page, "<svg"); p; p = strstr(p + 1, "<svg")) {
        char tag[256];
        snprintf(tag, sizeof tag, "%.*s", (int)strcspn(p, ">"), p);
        ck_assert_msg(strstr(tag, "aria-label=\"") || strstr(tag, "aria-hidden=\"true\""), "a diagram without a name: %s", tag);
    }
    static const char *const heads[] = {"<h1", "<h2", "<h3", "<h4", "<h5"};
    for (size_t i = 2; i < 5; i++) { /* no level is left out */
        const char *p = strstr(page, heads[i]);
        ck_assert(!p || (strstr(page, heads[i - 1]) && strstr(page, heads[i - 1]) < p));
    }
}

static char *make_page(const matrix *m, const show_options *o, const char *word)
{
    const char *dir = test_tmp_dir();
    unsigned char *page;
    size_t size;
    toy_run(dir, word);
    OK(show_report(dir, m, o));
    OK(io_read_file(test_path(dir, "report.html"), 1 << 26, &page, &size));
    ck_assert_uint_eq(strlen((char *)page), size);
    is_balanced((char *)page);
    is_linked((char *)page);
    is_accessible((char *)page);
    return (char *)page;
}

START_TEST(the_page_shows_the_matrix)
{
    matrix m;
    gate_result g;
    decision d;
    toy_matrix(&m, 25, 12, NULL);
    toy_gate(&m, 1, NULL, &g);
    toy_decision(NULL, &d);
    const show_options o = {.gate = &g, .decided = &d};
    char *page = make_page(&m, &o, NULL);
    contains(page, "<li><a href=\"#matrix\">Deployment matrix</a></li>");
    contains(page, "<b>portable</b>Ship the distilled student");
    contains(page, "fails in 8 of 175");
    contains(page, "distilled float</th><td>1</td><td>19</td><td>4 m 12 s</td>");
    contains(page, "coreml-mlpackage</th><td class=\"word\">portable</td><td>0</td><td>not run here</td>");
    contains(page, "<td class=\"cell differs\" title=\"8-bit products saturate");
    contains(page, "<td class=\"cell fault\" title=\"ended by signal 11 (segmentation fault)\"");
    contains(page, "<b>timeout</b>");
    contains(page, "not run here: it needs a device");
    contains(page, "<a href=\"#c5-3\"><b>differs</b><span>76.00</span>");
    contains(page, "(4.840\xc2\xa0ms)");
    contains(page, "<section class=\"one\" id=\"c5-3\"");
    contains(page, "T-shirt/top"); /* names from validation.json */
    contains(page, "href=\"data:image/png;base64,");
    contains(page, "Segmentation fault"); /* the log */
    contains(page, "<td>179</td><td>31 m 47 s</td>");
    /* a cell that runs has class bars, a histogram and its samples; as many sections as cells that are not "not run here" */
    ck_assert_uint_eq(count_of(page, "<section class=\"one\""), 300 - count_of(page, "absent\">not run here</td>") - 6 * 12);
    ck_assert_uint_eq(count_of(page, "<svg class=\"hist\""), 175);
    ck_assert_uint_eq(count_of(page, "<table class=\"bars\""), 175);
    ck_assert_uint_eq(count_of(page, "<symbol"), 5); /* every picture once */
    /* 500 samples are other samples: the lightest shade, whatever their accuracy, and no point among those of 10000 */
    contains(page, "<td class=\"cell ok\" style=\"--a:0.08\"><a href=\"#c5-0\"><b>90.45</b>");
    lacks(page, "<title>ort-haswell / fp32: 90.45");
    lacks(page, "nan");
    lacks(page, "not a number");
    lacks(page, "<script");
    mem_free(page);
    page = make_page(&m, NULL, NULL);
    lacks(page, "<h3>Gate</h3>");
    lacks(page, "gate fails");
    mem_free(page);
    page = make_page(NULL, NULL, NULL); /* no matrix: the report as ever */
    lacks(page, "Deployment matrix");
    mem_free(page);
    arena_free(&g.mem);
    arena_free(&m.mem);
}
END_TEST

START_TEST(the_page_takes_nothing_for_markup)
{
    matrix m;
    gate_result g;
    decision d;
    toy_matrix(&m, 25, 12, NASTY);
    toy_gate(&m, 4, NASTY, &g);
    toy_decision(NASTY, &d);
    const show_options o = {.gate = &g, .decided = &d};
    char *page = make_page(&m, &o, NASTY);
    lacks(page, "<script");
    lacks(page, "alert('");
    lacks(page, "\xff");
    lacks(page, "\x1b");
    lacks(page, "\x01");
    lacks(page, "url(");
    contains(page, "&#60;script&#62;alert(&#39;x&#39;)");
    for (const char *p = strstr(page, "href=\""); p; p = strstr(p + 1, "href=\""))
        ck_assert_msg(p[6] == '#' || strncmp(p + 6, "data:image/png;base64,", 22) == 0, "a foreign link: %.40s", p);
    mem_free(page);
    arena_free(&g.mem);
    arena_free(&m.mem);
}
END_TEST

START_TEST(the_terminal_holds_whatever_words_there_are)
{
    const char *word;
    for (size_t i = 0; (word = toy_hostile_word(i)); i++)
        for (int width = 40; width <= 160; width += 40) {
            matrix m;
            gate_result g;
            decision d;
            text t = {0};
            toy_matrix(&m, 25, 8, word);
            toy_gate(&m, 2, word, &g);
            toy_decision(word, &d);
            const show_options o = {.gate = &g, .decided = &d, .width = width};
            show_terminal(&m, &o, &t);
            OK(t.st);
            test_fits(t.s, (size_t)width);
            text_free(&t);
            decision_free(&d);
            gate_free(&g);
            matrix_free(&m);
        }
}
END_TEST

START_TEST(long_words_are_cut)
{
    static char word[100001];
    matrix m;
    memset(word, 'w', sizeof word - 1);
    toy_matrix(&m, 12, 12, NULL);
    for (size_t i = 0; i < 144; i++) {
        m.cells[i].reason = m.cells[i].engine = m.cells[i].build = m.cells[i].notes = word;
        m.cells[i].log = "../run.json"; /* leaves the run folder */
    }
    char *page = make_page(&m, NULL, NULL);
    ck_assert_uint_lt(strlen(page), 2 << 20);
    lacks(page, "The end of its log");
    mem_free(page);
    const show_options o = {0};
    char *s = terminal(&m, &o);
    check_lines(s, 80);
    ck_assert_uint_lt(strlen(s), 40000);
    mem_free(s);
    arena_free(&m.mem);
}
END_TEST

START_TEST(odd_matrices_have_pages_too)
{
    matrix m = {.run = "nothing"};
    char *page = make_page(&m, NULL, NULL);
    contains(page, "It has no cells.");
    mem_free(page);
    toy_matrix(&m, 1, 1, NULL);
    page = make_page(&m, NULL, NULL);
    mem_free(page);
    m.cells[0] = matrix_cell_empty();
    m.cells[0].runtime = "own";
    m.cells[0].variant = "fp32";
    m.run = m.set = m.cpu = NULL;
    for (int i = 0; i < CELL_STATES; i++) {
        m.cells[0].state = (cell_state)i;
        page = make_page(&m, NULL, NULL);
        lacks(page, "nan");
        mem_free(page);
    }
    /* figures that no diagram can hold */
    arena_free(&m.mem);
    toy_matrix(&m, 4, 4, NULL);
    static const double odd[] = {0, -1, 1e300, -1e300, 1e-300, (double)INFINITY, (double)NAN};
    for (size_t i = 0; i < 16; i++) {
        matrix_cell *c = &m.cells[i];
        c->accuracy = odd[i % 7];
        c->p50_ms = odd[(i + 1) % 7];
        c->max_error = c->tolerance = c->mean_error = odd[(i + 2) % 7];
        c->seconds = odd[(i + 3) % 7];
        c->bytes = i % 2 ? INT64_MAX : 0;
        m.columns[i % 4].files[0].bytes = i % 3 ? INT64_MAX : 0;
    }
    page = make_page(&m, NULL, NULL);
    mem_free(page);
    m.numbers = true;
    for (size_t i = 0; i < 16; i++)
        m.cells[i].error = odd[i % 7];
    page = make_page(&m, NULL, NULL);
    contains(page, "error over latency");
    mem_free(page);
    arena_free(&m.mem);
}
END_TEST

START_TEST(a_matrix_of_other_files_is_out_of_date)
{
    const char *dir = test_tmp_dir(), *const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const show_options o = {0};
    matrix m;
    toy_matrix(&m, 2, 1, NULL);
    toy_run(dir, NULL);
    m.columns[0].n_files = 1;
    m.columns[0].files[0].sha256 = abc;
    OK(io_make_dirs(test_path(dir, "export")));
    for (int i = 0; i < 6; i++) {
        text t = {0};
        if (i == 0 || i == 1)
            OK(io_write_file(test_path(dir, "export/student.onnx"), i ? "abd" : "abc", 3));
        else if (i == 2)
            OK(io_remove(test_path(dir, "export/student.onnx")));
        else
            m.columns[0].files[0].path = i == 3 ? "../../../etc/passwd" : i == 4 ? "/models/teacher.onnx" : "student.param";
        m.columns[0].files[0].form = i == 5 ? "ncnn" : "onnx";
        OK(show_page(&m, &o, dir, &t));
        (i == 0 || i > 3 ? lacks : contains)(t.s, "Out of date"); /* a teacher elsewhere, two files of one hash: not told */
        text_free(&t);
    }
    arena_free(&m.mem);
}
END_TEST

START_TEST(a_log_is_cut_to_its_end)
{
    static char log[50001];
    matrix m;
    text t = {0};
    const char *dir = test_tmp_dir();
    for (size_t i = 0; i < sizeof log - 1; i++)
        log[i] = i % 50 == 49 ? '\n' : (char)('a' + i % 26);
    memcpy(log, "first line", 10);
    log[49990] = 0;
    toy_matrix(&m, 25, 12, NULL);
    toy_run(dir, NULL);
    OK(io_write_file(test_path(dir, "matrix/log.txt"), log, sizeof log - 1));
    const show_options o = {0};
    OK(show_page(&m, &o, dir, &t));
    contains(t.s, "The end of its log");
    lacks(t.s, "first line");
    contains(t.s, "\xef\xbf\xbd");
    is_balanced(t.s);
    text_free(&t);
    arena_free(&m.mem);
}
END_TEST

START_TEST(the_program_puts_it_into_the_report)
{
    const char *dir = test_tmp_dir(), *page = test_path(dir, "report.html");
    static const char ini[] = "[gate]\ntop1 >= 0.89\n";
    unsigned char *s;
    size_t size;
    matrix m;
    toy_matrix(&m, 12, 4, NULL);
    toy_run(dir, NULL);
    OK(matrix_write(test_path(dir, "matrix.json"), &m));
    OK(io_write_file(test_path(dir, "config.ini"), ini, sizeof ini - 1));
    for (int i = 0; i < 4; i++) {
        if (i == 1) /* a gate that cannot be read: the matrix without it */
            OK(io_write_file(test_path(dir, "config.ini"), "[gate]\nfoo >= 1\n", 16));
        if (i == 2)
            OK(io_remove(test_path(dir, "config.ini")));
        if (i == 3) /* a matrix that cannot be read: the page as ever */
            OK(io_write_file(test_path(dir, "matrix.json"), "{\"schema\":1", 11));
        ran r = program_run(NULL, ARGS("report", dir));
        ck_assert_msg(r.code == 0, "%d: %s", r.code, r.err);
        ck_assert_int_eq(strncmp(r.out, page, strlen(page)), 0);
        ck_assert_msg((i == 1 || i == 3) == (strstr(r.err, "warning: the page is made without") != NULL), "%d: %s", i, r.err);
        ran_free(&r);
        OK(io_read_file(page, 1 << 26, &s, &size));
        (i < 3 ? contains : lacks)((char *)s, "<h2 id=\"matrix\">Deployment matrix</h2>");
        (i == 0 ? contains : lacks)((char *)s, "<h3>Gate</h3>");
        if (i == 0) /* as read back from the file */
            contains((char *)s, "<a href=\"#c5-3\"><b>differs</b><span>76.00</span>");
        mem_free(s);
    }
    arena_free(&m.mem);
}
END_TEST

START_TEST(help_explains_both_commands)
{
    ran r = program_run(NULL, ARGS("help", "matrix"));
    ck_assert_int_eq(r.code, 0);
    for (int i = 0; i < CELL_STATES; i++)
        contains(r.out, cell_state_name((cell_state)i));
    contains(r.out, "distill help gate");
    ran_free(&r);
    r = program_run(NULL, ARGS("help", "gate"));
    ck_assert_int_eq(r.code, 0);
    contains(r.out, "--promote");
    ran_free(&r);
}
END_TEST

/* Every rule that the help shows can be read. */
START_TEST(help_shows_rules_that_are_read)
{
    ran r = program_run(NULL, ARGS("help", "gate"));
    const char *p = strstr(r.out, "[gate]\n");
    size_t rules = 0;
    ck_assert_ptr_nonnull(p);
    for (p += 7; strncmp(p, "  ", 2) == 0; p = strchr(p, '\n') + 1) {
        const char *name = strstr(p, " = "), *end = strchr(p, '\n'), *gap = strstr(p + 2, "   ");
        const char *from = name && name < end && !memchr(p, '<', (size_t)(name - p)) ? name + 3 : p + 2;
        char rule[128];
        snprintf(rule, sizeof rule, "%.*s", (int)((gap && gap < end ? gap : end) - from), from);
        OK(gate_check_rule(rule));
        rules++;
    }
    ck_assert_uint_ge(rules, 8);
    ran_free(&r);
}
END_TEST

START_TEST(no_message_drives_a_terminal)
{
    ran r = program_run(NULL, ARGS("report", "no\x1b[2Jsuch\xc2\x9b" "2Jrun\xff\x07 \xc3\xa9"));
    ck_assert_int_eq(r.code, ST_NO_INPUT);
    contains(r.err, "error: no?[2Jsuch?2Jrun?? \xc3\xa9: no such run directory\n");
    ran_free(&r);
}
END_TEST

/* ---- in a browser ---- */

/* The page in frames of 400 and 1280 pixels, beside a script that looks into them (page_check.js). */
static void write_frames(const char *path, const char *page)
{
    text t = {0};
    unsigned char *js;
    size_t size;
    OK(io_read_file(SOURCE_DIR "/tests/page_check.js", 1 << 20, &js, &size));
    text_printf(&t, "<!DOCTYPE html><meta charset=utf-8><meta name=color-scheme content=\"light dark\"><script>%s</script><body>", (char *)js);
    for (int i = 0; i < 2; i++) {
        text_printf(&t, "<iframe width=%d height=900 srcdoc=\"", i ? 1280 : 400);
        for (const char *p = page; *p; p++)
            if (*p == '&' || *p == '"')
                text_printf(&t, "&#%d;", *p);
            else
                text_add_n(&t, p, 1);
        text_add(&t, "\"></iframe>");
    }
    OK(t.st);
    OK(io_write_file(path, t.s, t.n));
    text_free(&t);
    mem_free(js);
}

/* What chromium makes of a page; NULL: it did not come that far. The caller frees it. */
static char *browse(const char *url, bool dark)
{
    const char *dir = test_tmp_dir(), *out = test_path(dir, "out");
    text command = {0};
    unsigned char *s;
    size_t size;
    text_printf(&command, "timeout 60 chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
                          "--disable-background-networking --disable-component-update --user-data-dir='%s/profile' "
                          "--blink-settings=preferredColorScheme=%d --dump-dom '%s' >'%s' 2>/dev/null",
                dir, dark ? 0 : 1, url, out);
    int code = system(command.s);
    text_free(&command);
    OK(io_read_file(out, 1 << 26, &s, &size));
    if (code == 0 && strstr((char *)s, "</html>"))
        return (char *)s;
    mem_free(s);
    return NULL;
}

static bool has_browser(const char *test)
{
    if (system("command -v chromium >/dev/null 2>&1") == 0)
        return true;
    test_skip(test, "there is no chromium");
    return false;
}

static const char *browser_url(const char *path, const char *fragment)
{
    static char url[512];
    snprintf(url, sizeof url, "file://%s%s", path, fragment);
    return url;
}

START_TEST(a_browser_can_read_it)
{
    matrix m;
    gate_result g;
    decision d;
    if (!has_browser("a_browser_can_read_it"))
        return;
    toy_matrix(&m, 25, 12, NULL);
    toy_gate(&m, 1, NULL, &g);
    toy_decision(NULL, &d);
    g.margins[0].held = false; /* a cell that is ok and fails the gate */
    const show_options o = {.gate = &g, .decided = &d};
    char *page = make_page(&m, &o, NULL);
    const char *frames = test_path(test_tmp_dir(), "frames.html");
    write_frames(frames, page);
    mem_free(page);
    for (int dark = 0; dark < 2; dark++) {
        char *s = browse(browser_url(frames, ""), dark);
        const char *result = s ? strstr(s, "<body>RESULT") : NULL;
        if (!result) {
            test_skip("a_browser_can_read_it", "chromium is here, but gave no answer");
            mem_free(s);
            break;
        }
        contains(result, "\nDONE");
        ck_assert_uint_eq(count_of(result, "SEEN "), 2);
        lacks(result, "LOW");
        lacks(result, "WIDE");
        mem_free(s);
    }
    arena_free(&g.mem);
    arena_free(&m.mem);
}
END_TEST

START_TEST(a_link_to_a_cell_opens_its_runtime)
{
    matrix m;
    const show_options o = {0};
    const char *dir = test_tmp_dir();
    if (!has_browser("a_link_to_a_cell_opens_its_runtime"))
        return;
    toy_matrix(&m, 8, 3, NULL);
    toy_run(dir, NULL);
    OK(show_report(dir, &m, &o));
    char *s = browse(browser_url(test_path(dir, "report.html"), "#c5-2"), false);
    if (s) {
        ck_assert_uint_eq(count_of(s, "<details class=\"runtime\" open=\"\""), 1);
        contains(strstr(s, "<details class=\"runtime\" open=\"\""), "<summary><b>ort-haswell</b>");
    } else {
        test_skip("a_link_to_a_cell_opens_its_runtime", "chromium is here, but gave no answer");
    }
    mem_free(s);
    arena_free(&m.mem);
}
END_TEST

START_TEST(any_allocation_may_fail)
{
    matrix m;
    gate_result g;
    decision d;
    toy_matrix(&m, 3, 2, NULL);
    toy_gate(&m, 1, NULL, &g);
    toy_decision(NULL, &d);
    const show_options o = {.gate = &g, .decided = &d};
    const char *dir = test_tmp_dir();
    toy_run(dir, NULL);
    for (int kind = 0; kind < 4; kind++) {
        uint64_t n = UINT64_MAX;
        for (uint64_t i = 0; i <= n; i++) { /* 0: counts */
            text t = {0};
            uint64_t before = mem_count();
            mem_fail_at(i, true);
            if (kind == 0)
                show_terminal(&m, &o, &t);
            else if (kind == 1)
                show_markdown(&m, &o, &t);
            else if (kind == 2)
                show_csv(&m, &t);
            else
                t.st = show_page(&m, &o, dir, &t);
            mem_fail_at(0, false);
            n = i == 0 ? mem_count() - before : n;
            ck_assert_msg(t.st == (i == 0 ? ST_OK : ST_OOM), "allocation %d of %d: status %d", (int)i, (int)n, (int)t.st);
            text_free(&t);
        }
        ck_assert_uint_gt(n, 3);
    }
    arena_free(&g.mem);
    arena_free(&m.mem);
}
END_TEST

const test_entry test_table[] = {TEST(no_line_is_wider_than_asked),
                                 TEST(a_terminal_shows_what_matters),
                                 TEST(colour_follows_state_and_gate),
                                 TEST(odd_matrices_are_shown_too),
                                 TEST(numbers_are_shown_as_errors),
                                 TEST(markdown_is_a_table),
                                 TEST(markdown_takes_nothing_for_markup),
                                 TEST(csv_is_a_record_a_cell),
                                 TEST(csv_lets_no_formula_through),
                                 TEST(the_page_shows_the_matrix),
                                 TEST(the_page_takes_nothing_for_markup),
                                 TEST(the_terminal_holds_whatever_words_there_are),
                                 TEST(long_words_are_cut),
                                 TEST(odd_matrices_have_pages_too),
                                 TEST(a_matrix_of_other_files_is_out_of_date),
                                 TEST(a_log_is_cut_to_its_end),
                                 TEST(the_program_puts_it_into_the_report),
                                 TEST(help_explains_both_commands),
                                 TEST(help_shows_rules_that_are_read),
                                 TEST(no_message_drives_a_terminal),
                                 TEST(a_browser_can_read_it),
                                 TEST(a_link_to_a_cell_opens_its_runtime),
                                 TEST(any_allocation_may_fail),
                                 {0}};
