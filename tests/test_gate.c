/* test_gate.c - rules of [gate]: reading them, which cells they cover, and when a difference counts. */
#include "base/rng.h"
#include "harness.h"
#include "matrix/gate.h"
#include "matrix/pair.h"
#include "matrix/stats.h"
#include "toy_matrix.h"

#include <math.h>
#include <stdio.h>

/* ---- a small matrix: rows own, ort, slow (emulated), web; columns fp32, int8, teacher-fp32 ---- */

enum { ROWS = 4, COLUMNS = 3, N = 1000, FEW = 200 };

typedef struct small {
    matrix m;
    uint8_t right[ROWS * COLUMNS][N];
} small;

/* `wrong` samples of n are wrong, from sample `from` on (round the end). */
static void set_cell(small *s, size_t row, size_t column, size_t n, size_t from, size_t wrong)
{
    matrix_cell *c = matrix_at(&s->m, row, column);
    uint8_t *right = s->right[row * COLUMNS + column];
    memset(right, 1, N);
    for (size_t i = 0; i < wrong; i++)
        right[(from + i) % n] = 0;
    c->state = CELL_OK;
    c->images = c->labelled = n;
    c->correct = n - wrong;
    c->accuracy = (double)c->correct / (double)n;
    c->right = right;
    c->worst_class_accuracy = c->accuracy - 0.1;
    c->p50_ms = 1 + (double)row;
    c->p90_ms = 2 + (double)row;
    c->bytes = column == 1 ? 100000 : column == 0 ? 400000 : 12000000;
    c->max_error = 1e-6;
}

static void make_small(small *s)
{
    static const char *const rows[ROWS] = {"own", "ort", "slow", "web"}, *const columns[COLUMNS] = {"fp32", "int8", "teacher-fp32"};
    *s = (small){.m = {.n_rows = ROWS, .n_columns = COLUMNS, .samples = N, .set = "data"}};
    OK(arena_alloc(&s->m.mem, &s->m.rows, ROWS, sizeof *s->m.rows));
    OK(arena_alloc(&s->m.mem, &s->m.columns, COLUMNS, sizeof *s->m.columns));
    OK(arena_alloc(&s->m.mem, &s->m.cells, ROWS * COLUMNS, sizeof *s->m.cells));
    for (size_t r = 0; r < ROWS; r++)
        s->m.rows[r] = (matrix_row){.runtime = rows[r], .present = true, .emulated = r == 2};
    for (size_t c = 0; c < COLUMNS; c++)
        s->m.columns[c] = (matrix_column){.variant = columns[c], .model = c == 2 ? "teacher" : "student"};
    for (size_t r = 0; r < ROWS; r++)
        for (size_t c = 0; c < COLUMNS; c++) {
            *matrix_at(&s->m, r, c) = matrix_cell_empty();
            matrix_at(&s->m, r, c)->runtime = rows[r];
            matrix_at(&s->m, r, c)->variant = columns[c];
        }
    for (size_t r = 0; r < 2; r++) {
        set_cell(s, r, 0, N, 0, 80);  /* 0.92 */
        set_cell(s, r, 1, N, 0, 84);  /* 0.916: the same and 4 more */
        set_cell(s, r, 2, N, 0, 60);  /* 0.94 */
    }
    set_cell(s, 2, 0, FEW, 0, 20); /* of 200: 0.9 */
    set_cell(s, 2, 1, FEW, 0, 21);
    matrix_at(&s->m, 2, 0)->emulated = matrix_at(&s->m, 2, 1)->emulated = true;
    matrix_at(&s->m, 3, 0)->state = CELL_CRASH;
    matrix_at(&s->m, 3, 0)->reason = "ended by signal 11";
    matrix_at(&s->m, 3, 1)->state = CELL_UNSUPPORTED;
}

static gate_result apply(const small *s, const matrix *champion, const char *rule)
{
    gate_result g;
    OK(gate_apply(&s->m, champion, &rule, 1, &g));
    return g;
}

static const gate_margin *find(const gate_result *g, const char *runtime, const char *variant)
{
    for (size_t i = 0; i < g->n; i++)
        if (g->margins[i].runtime && strcmp(g->margins[i].runtime, runtime) == 0 && strcmp(g->margins[i].variant, variant) == 0)
            return &g->margins[i];
    return NULL;
}

static bool near(double a, double b)
{
    return fabs(a - b) < 1e-9;
}

/* ---- reading ---- */

START_TEST(rules_that_are_read)
{
    static const char *const rules[] = {
        "top1 >= 0.92", "top1 drop <= 0.005 vs teacher", "worst_class drop <= 0.02", "disagree <= 0.001", "p90_ms <= 12",
        "size_mb <= 1", "spread <= 0.003", /* the issue's own */
        "top1>=0.92", "top1 >= 92%", "top1 drop<=0 vs champion", "top1 drop < 0.01 on ort vs fp32 strict",
        "top1 drop < 0.01 strict vs fp32 on ort,openvino/int8*", "spread <= 0.003 on ort*/portable", "broken <= 0", "size_mb rise <= 0.1 vs champion",
        "p90_ms rise <= 1e-1 vs champion on ort/int8-ptq", "error rise <= 1e-3", "max_error <= 1e-5 on all", "throughput > 100",
        "  top1   >=\t0.5  ", "flips <= 0", "peak_mb <= 200", "top1 >= 0.9 strict"};
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        OK(gate_check_rule(rules[i]));
}
END_TEST

START_TEST(rules_that_are_refused)
{
    static const struct {
        const char *rule, *says;
    } rows[] = {
        {"", "no figure is called ''"},
        {"top2 >= 0.9", "did you mean 'top1'?"},
        {"accuracy >= 0.9", "no figure is called 'accuracy'"},
        {"top1", ">=, <=, > or < is expected where ''"},
        {"top1 = 0.9", "where '=' stands"},
        {"top1 == 0.9", "where '==' stands"},
        {"top1 => 0.9", "where '=>' stands"},
        {"top1 <> 0.9", "where '<>' stands"},
        {"top1 0.9", "where '0.9' stands"},
        {"top1 >=", "'' is not a number"},
        {"top1 >= nan", "'nan' is not a number"},
        {"top1 >= 0.9x", "'0.9x' is not a number"},
        {"top1 >= 0,9", "'0,9' is not a number"},
        {"top1 >= %", "'' is not a number"},
        {"top1 >= 0.9 vs teacher", "'vs' needs drop or rise"},
        {"top1 rise <= 0.1", "top1 has a drop, no rise"},
        {"p90_ms drop <= 0.1", "p90_ms has a rise, no drop"},
        {"spread drop <= 0.1", "spread has no drop"},
        {"broken rise <= 0", "broken has no rise"},
        {"top1 drop <= 0.1 vs", "'vs' takes teacher, fp32 or champion, not ''"},
        {"top1 drop <= 0.1 vs onnx", "not 'onnx'"},
        {"top1 drop <= 0.1 vs teacher vs fp32", "'vs' is not understood"},
        {"top1 >= 0.9 on", "'on' needs"},
        {"top1 >= 0.9 on ort on own", "'on' is not understood"},
        {"top1 >= 0.9 please", "'please' is not understood"},
        {"top1 >= 0.9 0.8", "'0.8' is not understood"},
        {"top1 >= 0.9 <= 1", "'<=' is not understood"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        FAILS(ST_CONFIG, rows[i].says, gate_check_rule(rows[i].rule));
    char big[2000];
    memset(big, 'x', sizeof big);
    big[sizeof big - 1] = 0;
    FAILS(ST_CONFIG, "a word is too long", gate_check_rule(big));
    small s;
    gate_result g;
    make_small(&s);
    static const struct {
        const char *rule, *says;
    } places[] = {{"top1 >= 0.9 on orf", "has no row 'orf'; did you mean 'ort'?"},
                  {"top1 >= 0.9 on own,x*", "has no row 'x*'"},
                  {"top1 >= 0.9 on own/int7", "has no column 'int7'; did you mean 'int8'?"}};
    for (size_t i = 0; i < 3; i++) {
        const char *both[] = {"top1 >= 0.1", places[i].rule};
        FAILS(ST_CONFIG, places[i].says, gate_apply(&s.m, NULL, both, 2, &g));
        ck_assert(!g.held);
        gate_free(&g);
    }
    matrix_free(&s.m);
}
END_TEST

/* ---- cells ---- */

START_TEST(rules_cover_cells_that_ran)
{
    small s;
    make_small(&s);
    gate_result g = apply(&s, NULL, "top1 >= 0.916"); /* own, ort, slow: two cells each; web: the crash */
    ck_assert_uint_eq(g.n, 7);
    ck_assert(!g.held);
    ck_assert(find(&g, "own", "fp32")->held && near(find(&g, "own", "fp32")->margin, 0.004));
    ck_assert(find(&g, "ort", "int8")->held && near(find(&g, "ort", "int8")->margin, 0)); /* just so */
    ck_assert(!find(&g, "slow", "fp32")->held);
    ck_assert(!find(&g, "web", "fp32")->held && isnan(find(&g, "web", "fp32")->value));
    ck_assert_str_eq(find(&g, "web", "fp32")->note, "crash: ended by signal 11");
    ck_assert_ptr_null(find(&g, "web", "int8"));
    ck_assert_ptr_null(find(&g, "own", "teacher-fp32"));
    gate_free(&g);
    g = apply(&s, NULL, "top1 > 0.916 on ort");
    ck_assert(g.n == 2 && !find(&g, "ort", "int8")->held && find(&g, "ort", "fp32")->held);
    gate_free(&g);
    g = apply(&s, NULL, "top1 >= 0.9 on o*/*");
    ck_assert(g.n == 6 && g.held);
    gate_free(&g);
    g = apply(&s, NULL, "top1 >= 0.9 on web/int8,ort"); /* the cell is named: that it does not run does not hold */
    ck_assert(g.n == 3 && !g.held && strcmp(find(&g, "web", "int8")->note, "unsupported") == 0);
    gate_free(&g);
    g = apply(&s, NULL, "top1 >= 0.9 on web/int?");
    ck_assert(g.n == 1 && !g.held && isnan(g.margins[0].margin) && strstr(g.margins[0].note, "no cell"));
    gate_free(&g);
    g = apply(&s, NULL, "p90_ms <= 3"); /* not the emulated row; a crash has no time */
    ck_assert(g.n == 5 && find(&g, "own", "int8")->held && !find(&g, "web", "fp32")->held && !find(&g, "slow", "fp32"));
    gate_free(&g);
    g = apply(&s, NULL, "p90_ms <= 3 on slow/int8");
    ck_assert(g.n == 1 && !g.held && strstr(g.margins[0].note, "emulated"));
    gate_free(&g);
    g = apply(&s, NULL, "size_mb <= 0.1 on own/int8,ort/int8");
    ck_assert(g.n == 2 && g.held && near(g.margins[0].value, 0.1));
    gate_free(&g);
    matrix_at(&s.m, 3, 0)->bytes = 300000; /* its runtime crashed, but the file is as large as it is */
    g = apply(&s, NULL, "size_mb <= 0.4");
    ck_assert(g.held && near(find(&g, "web", "fp32")->value, 0.3));
    gate_free(&g);
    g = apply(&s, NULL, "top1 >= 0.9 on all"); /* one line, the worst */
    ck_assert(g.n == 1 && !g.held && !g.margins[0].runtime && strstr(g.margins[0].note, "worst of 7: web/fp32, crash"));
    gate_free(&g);
    g = apply(&s, NULL, "broken <= 0");
    ck_assert(g.n == 1 && !g.held && near(g.margins[0].value, 1) && strstr(g.margins[0].note, "web/fp32 crash"));
    gate_free(&g);
    g = apply(&s, NULL, "broken <= 0 on o*");
    ck_assert(g.held && near(g.margins[0].value, 0));
    gate_free(&g);
    g = apply(&s, NULL, "peak_mb <= 10 on own");
    ck_assert(!g.held && strcmp(g.margins[0].note, "not measured") == 0);
    gate_free(&g);
    s.m.numbers = true;
    g = apply(&s, NULL, "top1 >= 0.1 on own");
    ck_assert(!g.held && strstr(g.margins[0].note, "'error'"));
    gate_free(&g);
    matrix_free(&s.m);
}
END_TEST

START_TEST(every_figure_is_its_own)
{
    static const struct {
        const char *rule;
        double value;
    } rows[] = {{"top1 >= 0", .5}, {"worst_class >= 0", .25}, {"disagree <= 1", .03}, {"flips <= 1", .02}, {"max_error <= 99", 3},
                {"mean_error <= 99", 4}, {"p99_error <= 99", 5}, {"error <= 99", 6}, {"p50_ms <= 99", 7}, {"p90_ms <= 99", 8},
                {"p99_ms <= 99", 9}, {"load_ms <= 99", 10}, {"throughput >= 0", 11}, {"peak_mb <= 99", 12}, {"size_mb <= 99", 0.123456}};
    small s;
    make_small(&s);
    matrix_cell *c = matrix_at(&s.m, 0, 0);
    c->images = 100;
    c->accuracy = .5, c->worst_class_accuracy = .25, c->disagree = 3, c->flips = 2, c->max_error = 3, c->mean_error = 4, c->p99_error = 5;
    c->error = 6, c->p50_ms = 7, c->p90_ms = 8, c->p99_ms = 9, c->load_ms = 10, c->throughput = 11, c->peak_mb = 12, c->bytes = 123456;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char rule[100];
        snprintf(rule, sizeof rule, "%s on own/fp32", rows[i].rule);
        gate_result g = apply(&s, NULL, rule);
        ck_assert_msg(g.n == 1 && g.held && near(g.margins[0].value, rows[i].value), "%s: %g", rule, g.margins[0].value);
        gate_free(&g);
    }
    matrix_free(&s.m);
}
END_TEST

/* ---- differences ---- */

START_TEST(a_drop_counts_beyond_chance_only)
{
    small s;
    make_small(&s);
    gate_result g = apply(&s, NULL, "top1 drop <= 0.003 vs fp32"); /* int8: 4 of 1000, all in one direction: p = 0.125 */
    const gate_margin *a = find(&g, "ort", "int8");
    ck_assert(a->held && near(a->value, 0.004) && near(a->margin, -0.001));
    ck_assert_msg(strstr(a->note, "within chance, p = 0.12: 4 against 0 of 1000") != NULL, "%s", a->note);
    ck_assert(find(&g, "ort", "fp32")->held && near(find(&g, "ort", "fp32")->value, 0));
    /* the slow row's pairs are its own 200 samples, in its own fp32 column */
    ck_assert(near(find(&g, "slow", "int8")->value, 1.0 / FEW));
    gate_free(&g);
    g = apply(&s, NULL, "top1 drop <= 0.003 vs fp32 strict on o*");
    ck_assert(!g.held && !find(&g, "ort", "int8")->held && find(&g, "own", "fp32")->held);
    gate_free(&g);
    set_cell(&s, 1, 1, N, 0, 90); /* 10 more wrong: p = 0.002 */
    g = apply(&s, NULL, "top1 drop <= 0.003 vs fp32 on ort");
    ck_assert(!g.held && near(find(&g, "ort", "int8")->value, 0.01));
    gate_free(&g);
    g = apply(&s, NULL, "top1 drop <= 0.01 vs fp32 on ort"); /* exactly as much is no more */
    ck_assert(g.held && near(find(&g, "ort", "int8")->margin, 0));
    gate_free(&g);
    /* other samples are wrong, as many: no drop */
    set_cell(&s, 1, 1, N, 500, 80);
    g = apply(&s, NULL, "top1 drop <= 0 vs fp32 on ort");
    ck_assert(g.held && near(find(&g, "ort", "int8")->value, 0));
    gate_free(&g);
    /* against the teacher: of the row, else of the own row over the samples that both ran */
    g = apply(&s, NULL, "top1 drop <= 0.03");
    ck_assert(near(find(&g, "own", "fp32")->value, 0.02) && find(&g, "own", "fp32")->held);
    ck_assert(near(find(&g, "slow", "fp32")->value, (20.0 - 60) / FEW)); /* the teacher is wrong on 60 of the first 200 */
    gate_free(&g);
    /* without marks: the interval of the difference */
    for (size_t i = 0; i < ROWS * COLUMNS; i++)
        s.m.cells[i].right = NULL;
    set_cell(&s, 1, 1, N, 0, 90);
    matrix_at(&s.m, 1, 1)->right = NULL;
    g = apply(&s, NULL, "top1 drop <= 0.003 vs fp32 on ort");
    ck_assert(g.held && strstr(find(&g, "ort", "int8")->note, "within chance, 95 % interval -0.0"));
    gate_free(&g);
    set_cell(&s, 1, 1, N, 0, 130);
    matrix_at(&s.m, 1, 1)->right = NULL;
    g = apply(&s, NULL, "top1 drop <= 0.003 vs fp32 on ort");
    ck_assert(!g.held);
    gate_free(&g);
    g = apply(&s, NULL, "worst_class drop <= 0.04 vs fp32 on ort"); /* as measured */
    ck_assert(!g.held && near(find(&g, "ort", "int8")->value, 0.05));
    gate_free(&g);
    g = apply(&s, NULL, "size_mb rise <= -0.2 vs fp32 on ort/int8");
    ck_assert(g.held && near(g.margins[0].value, -0.3));
    gate_free(&g);
    matrix_at(&s.m, 0, 2)->state = matrix_at(&s.m, 1, 2)->state = CELL_NOT_RUN;
    g = apply(&s, NULL, "top1 drop <= 0.5 vs teacher on ort");
    ck_assert(!g.held && strstr(g.margins[0].note, "no figure of the teacher"));
    gate_free(&g);
    matrix_free(&s.m);
}
END_TEST

START_TEST(the_champion_is_compared_cell_by_cell)
{
    small s, was;
    make_small(&s);
    make_small(&was);
    gate_result g = apply(&s, NULL, "top1 drop <= 0 vs champion on o*");
    ck_assert(g.held && strcmp(g.margins[0].note, "there is no champion yet") == 0 && isnan(g.margins[0].value));
    gate_free(&g);
    set_cell(&was, 0, 0, N, 0, 60); /* the champion was better there */
    matrix_at(&was.m, 1, 0)->state = CELL_NOT_RUN;
    g = apply(&s, &was.m, "top1 drop <= 0.005 vs champion on o*");
    ck_assert(!g.held && !find(&g, "own", "fp32")->held && near(find(&g, "own", "fp32")->value, 0.02));
    ck_assert(find(&g, "own", "int8")->held && find(&g, "ort", "fp32")->held);
    ck_assert_str_eq(find(&g, "ort", "fp32")->note, "the champion has no such figure");
    gate_free(&g);
    was.m.set = "another"; /* samples are not the same ones: no pairs */
    g = apply(&s, &was.m, "top1 drop <= 0.005 vs champion on own/fp32");
    ck_assert_msg(g.held && strstr(g.margins[0].note, "interval"), "%s", g.margins[0].note);
    gate_free(&g);
    matrix_free(&s.m);
    matrix_free(&was.m);
}
END_TEST

START_TEST(spread_compares_the_same_samples)
{
    small s;
    make_small(&s);
    gate_result g = apply(&s, NULL, "spread <= 0.003");
    ck_assert_uint_eq(g.n, 2); /* a line for each variant */
    /* the slow row's 200 samples: 20 wrong there, 80 in the others: 0.3 less, though 0.9 against 0.92 in all */
    ck_assert(!g.held && strcmp(g.margins[0].variant, "fp32") == 0 && near(g.margins[0].value, 0.3));
    ck_assert_msg(strstr(g.margins[0].note, "slow above o") != NULL, "%s", g.margins[0].note);
    gate_free(&g);
    g = apply(&s, NULL, "spread <= 0 on o*");
    ck_assert(g.n == 2 && g.held && near(g.margins[0].value, 0));
    gate_free(&g);
    set_cell(&s, 1, 0, N, 0, 84); /* 4 more: chance */
    g = apply(&s, NULL, "spread <= 0.003 on own,ort");
    ck_assert(g.held && near(g.margins[0].value, 0.004) && strstr(g.margins[0].note, "within chance: own above ort"));
    gate_free(&g);
    g = apply(&s, NULL, "spread <= 0.003 on own,ort strict");
    ck_assert(!g.held);
    gate_free(&g);
    set_cell(&s, 1, 0, N, 0, 95);
    g = apply(&s, NULL, "spread <= 0.003 on own,ort");
    ck_assert(!g.held && near(g.margins[0].value, 0.015));
    gate_free(&g);
    matrix_free(&s.m);
}
END_TEST

/* ---- printing ---- */

START_TEST(the_table_fits_and_says_what_fails)
{
    matrix m;
    gate_result g;
    text t = {0}, js = {0};
    json j = {.out = &js};
    static const char *const rules[] = {"top1 >= 0.89", "top1 drop <= 0.005 vs fp32", "disagree <= 0.001", "p90_ms <= 12", "size_mb <= 1",
                                        "spread <= 0.003", "broken <= 0", "top1 drop <= 0 vs champion"};
    toy_matrix(&m, 25, 8, NULL);
    OK(gate_apply(&m, NULL, rules, 8, &g));
    ck_assert(!g.held);
    gate_print(&g, &t);
    OK(t.st);
    for (const char *line = t.s; *line;) {
        size_t n = strcspn(line, "\n");
        ck_assert_msg(n <= 80, "%zu columns: %.*s", n, (int)n, line);
        line += n + 1;
    }
    ck_assert_ptr_nonnull(strstr(t.s, "gate: does not hold: "));
    ck_assert_ptr_nonnull(strstr(t.s, "held    size_mb <= 1"));
    ck_assert_ptr_nonnull(strstr(t.s, "FAILS   broken <= 0"));
    json_put_object(&j, NULL);
    gate_json(&g, &j);
    json_end_object(&j);
    OK(js.st);
    ck_assert_ptr_nonnull(strstr(js.s, "\"held\":false"));
    text_free(&t);
    text_free(&js);
    gate_free(&g);
    gate_free(&g);
    matrix_free(&m);
}
END_TEST

START_TEST(the_table_fits_whatever_names_and_notes_are)
{
    const char *word;
    for (size_t i = 0; (word = toy_hostile_word(i)); i++)
        for (size_t failing = 0; failing < 3; failing++) {
            matrix m;
            gate_result g;
            text t = {0};
            toy_matrix(&m, 12, 6, word);
            toy_gate(&m, failing, word, &g);
            gate_print(&g, &t);
            OK(t.st);
            test_fits(t.s, 80);
            ck_assert_ptr_nonnull(strstr(t.s, failing ? "gate: does not hold: " : "gate: held"));
            text_free(&t);
            gate_free(&g);
            matrix_free(&m);
        }
}
END_TEST

/* ---- whatever is written ---- */

START_TEST(any_text_is_a_rule_or_refused)
{
    static const char *const words[] = {"top1", "spread", "broken", "drop", "rise", ">=", "<=", "<", "=", "0.9", "1e400", "-", "%", "vs", "teacher",
                                        "champion", "on", "all", "*", "own/int8,", "/", ",", ",,", "//", "o*/?*", "strict", " ", "\t", "\xff", "web"};
    enum { WORDS = sizeof words / sizeof *words };
    rng r = rng_make(8, RNG_TEST, 0, 0);
    int read = 0;
    small s;
    make_small(&s);
    for (int i = 0; i < 60000; i++) {
        char rule[400] = "";
        gate_result g;
        const char *one = rule;
        if (rng_below(&r, 2))
            strcat(rule, "top1 >= 0.5 ");
        for (uint32_t k = rng_below(&r, 8); k > 0; k--) {
            strcat(rule, words[rng_below(&r, WORDS)]);
            strcat(rule, rng_below(&r, 3) ? " " : "");
        }
        status st = gate_apply(&s.m, &s.m, &one, 1, &g);
        ck_assert_msg(st == ST_OK || st == ST_CONFIG, "'%s': %d", rule, (int)st);
        ck_assert_msg(st == gate_check_rule(rule) || strstr(status_message(), "the matrix has no") || st == ST_CONFIG, "'%s'", rule);
        ck_assert(st != ST_OK || g.n > 0);
        read += st == ST_OK;
        gate_free(&g);
    }
    ck_assert_int_gt(read, 1000);
    matrix_free(&s.m);
}
END_TEST

/* Every allocation fails once. */
START_TEST(without_memory_it_says_so)
{
    static const char *const rules[] = {"top1 >= 0.9", "top1 drop <= 0.005", "spread <= 0.003", "broken <= 0", "p90_ms <= 1 on all"};
    small s;
    int failed = 0;
    make_small(&s);
    for (uint64_t n = 1;; n++) {
        gate_result g;
        text t = {0};
        uint64_t before = mem_count();
        mem_fail_at(n, true);
        status st = gate_apply(&s.m, NULL, rules, 5, &g);
        if (st == ST_OK)
            gate_print(&g, &t);
        mem_fail_at(0, false);
        bool over = mem_count() - before < n;
        ck_assert_msg(st == ST_OK || st == ST_OOM, "%d", (int)st);
        ck_assert(st == ST_OK || (!g.held && g.n == 0)); /* nothing that failed holds */
        ck_assert(!over || (st == ST_OK && t.st == ST_OK));
        failed += st != ST_OK || t.st != ST_OK;
        text_free(&t);
        gate_free(&g);
        if (over)
            break;
    }
    ck_assert_int_gt(failed, 5);
    matrix_free(&s.m);
}
END_TEST

/* ---- the job's rules ---- */

START_TEST(rules_come_from_the_job_with_their_place)
{
    static const char good[] = "[gate]\ntop1 >= 0.92\nsize = size_mb <= 1\n", bad[] = "[gate]\ntop1 >= 0.92\nsize = size_gb <= 1\n";
    const config_sources nothing = {0};
    job *j;
    arena mem = {0};
    const char *const *rules;
    size_t n;
    OK(config_load_text("cfg.ini", good, sizeof good - 1, &nothing, &j));
    OK(gate_rules_of(j, &mem, &rules, &n));
    ck_assert(n == 2 && strcmp(rules[0], "top1 >= 0.92") == 0 && strcmp(rules[1], "size_mb <= 1") == 0);
    config_free(j);
    OK(config_load_text("cfg.ini", bad, sizeof bad - 1, &nothing, &j));
    FAILS(ST_CONFIG, "cfg.ini:3:8: error: gate: 'size_gb <= 1': no figure is called 'size_gb'; did you mean 'size_mb'?",
          gate_rules_of(j, &mem, &rules, &n));
    config_free(j);
    arena_free(&mem);
}
END_TEST

const test_entry test_table[] = {TEST(rules_that_are_read),
                                 TEST(rules_that_are_refused),
                                 TEST(rules_cover_cells_that_ran),
                                 TEST(every_figure_is_its_own),
                                 TEST(a_drop_counts_beyond_chance_only),
                                 TEST(the_champion_is_compared_cell_by_cell),
                                 TEST(spread_compares_the_same_samples),
                                 TEST(the_table_fits_and_says_what_fails), TEST(the_table_fits_whatever_names_and_notes_are),
                                 TEST(any_text_is_a_rule_or_refused),
                                 TEST(without_memory_it_says_so),
                                 TEST(rules_come_from_the_job_with_their_place),
                                 {0}};
