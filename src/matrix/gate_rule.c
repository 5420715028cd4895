/* gate_rule.c - the text of a rule: words, then clauses in any order. */
#include "matrix/gate_rule.h"
#include "base/text.h"
#include "quant/places.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define WORD_MAX 200

/* ---- metrics ---- */

static double share(size_t part, size_t of)
{
    return of ? (double)part / (double)of : (double)NAN;
}

static double get_top1(const matrix *m, const matrix_cell *c) { return m->numbers ? (double)NAN : c->accuracy; }
static double get_worst_class(const matrix *m, const matrix_cell *c) { return m->numbers ? (double)NAN : c->worst_class_accuracy; }
static double get_disagree(const matrix *m, const matrix_cell *c) { return m->numbers ? (double)NAN : share(c->disagree, c->images); }
static double get_flips(const matrix *m, const matrix_cell *c) { return m->numbers ? (double)NAN : share(c->flips, c->images); }
static double get_size(const matrix *m, const matrix_cell *c) { (void)m; return c->bytes < 0 ? (double)NAN : (double)c->bytes / 1e6; }

#define GETTER(field)                                                                                             \
    static double get_##field(const matrix *m, const matrix_cell *c)                                              \
    {                                                                                                             \
        (void)m;                                                                                                  \
        return c->field;                                                                                          \
    }
GETTER(max_error)
GETTER(mean_error)
GETTER(p99_error)
GETTER(error)
GETTER(p50_ms)
GETTER(p90_ms)
GETTER(p99_ms)
GETTER(load_ms)
GETTER(throughput)
GETTER(peak_mb)

static const gate_metric metrics[] = {
    {"top1", GATE_ACCURACY, get_top1},       {"worst_class", GATE_SHARE, get_worst_class},
    {"disagree", GATE_FIGURE, get_disagree}, {"flips", GATE_FIGURE, get_flips},
    {"max_error", GATE_FIGURE, get_max_error}, {"mean_error", GATE_FIGURE, get_mean_error},
    {"p99_error", GATE_FIGURE, get_p99_error}, {"error", GATE_FIGURE, get_error},
    {"p50_ms", GATE_TIME, get_p50_ms},       {"p90_ms", GATE_TIME, get_p90_ms},
    {"p99_ms", GATE_TIME, get_p99_ms},       {"load_ms", GATE_TIME, get_load_ms},
    {"throughput", GATE_TIME, get_throughput}, {"size_mb", GATE_FILE, get_size},
    {"peak_mb", GATE_FIGURE, get_peak_mb},   {"spread", GATE_SPREAD, NULL},
    {"broken", GATE_BROKEN, NULL},
};
#define METRICS (sizeof metrics / sizeof *metrics)

/* ---- words ---- */

static bool is_sign(char c)
{
    return c == '<' || c == '>' || c == '=';
}

/* Takes the next word or operator; "" at the end. */
static status next_word(const char **at, const char *rule, char word[WORD_MAX])
{
    const char *p = *at + strspn(*at, " \t"), *from = p;
    if (is_sign(*p))
        while (is_sign(*p))
            p++;
    else
        while (*p && !is_sign(*p) && *p != ' ' && *p != '\t')
            p++;
    if (p - from >= WORD_MAX)
        return fail(ST_CONFIG, "gate: '%.40s...': a word is too long", rule);
    memcpy(word, from, (size_t)(p - from));
    word[p - from] = 0;
    *at = p;
    return ST_OK;
}

static status unknown_metric(const char *rule, const char *word)
{
    const char *near = nearest_name(word, &metrics[0].name, METRICS, sizeof *metrics);
    text all = {0};
    for (size_t i = 0; i < METRICS; i++)
        text_printf(&all, "%s%s", i ? " " : "", metrics[i].name);
    status st = fail(ST_CONFIG, "gate: '%.80s': no figure is called '%.40s'%s%s%s (%s)", rule, word, near ? "; did you mean '" : "",
                     near ? near : "", near ? "'?" : "", all.s ? all.s : "");
    text_free(&all);
    return st;
}

static status read_op(const char *rule, const char *word, gate_op *out)
{
    static const char *const ops[] = {[GATE_GE] = ">=", [GATE_LE] = "<=", [GATE_GT] = ">", [GATE_LT] = "<"};
    for (int i = 0; i < 4; i++)
        if (strcmp(word, ops[i]) == 0) {
            *out = (gate_op)i;
            return ST_OK;
        }
    return fail(ST_CONFIG, "gate: '%.80s': >=, <=, > or < is expected where '%.40s' stands; write it like top1 >= 0.92", rule, word);
}

static status read_limit(const char *rule, char *word, double *out)
{
    size_t n = strlen(word);
    bool percent = n && word[n - 1] == '%';
    if (percent)
        word[n - 1] = 0;
    if (parse_double(word, "number", out) != ST_OK)
        return fail(ST_CONFIG, "gate: '%.80s': '%.40s' is not a number", rule, word);
    if (percent)
        *out /= 100;
    return ST_OK;
}

static status read_reference(const char *rule, const char *word, gate_reference *out)
{
    static const char *const names[] = {[GATE_TEACHER] = "teacher", [GATE_FP32] = "fp32", [GATE_CHAMPION] = "champion"};
    for (int i = GATE_TEACHER; i <= GATE_CHAMPION; i++)
        if (strcmp(word, names[i]) == 0) {
            *out = (gate_reference)i;
            return ST_OK;
        }
    return fail(ST_CONFIG, "gate: '%.80s': 'vs' takes teacher, fp32 or champion, not '%.40s'", rule, word);
}

static status read_clauses(const char *rule, const char *at, arena *mem, gate_rule *r)
{
    char word[WORD_MAX];
    bool placed = false;
    for (;;) {
        TRY(next_word(&at, rule, word));
        if (!*word)
            return ST_OK;
        if (strcmp(word, "strict") == 0) {
            r->strict = true;
        } else if (strcmp(word, "vs") == 0 && r->against == GATE_NONE) {
            TRY(next_word(&at, rule, word));
            TRY(read_reference(rule, word, &r->against));
        } else if (strcmp(word, "on") == 0 && !placed) {
            TRY(next_word(&at, rule, word));
            placed = true;
            r->all = strcmp(word, "all") == 0;
            if (!*word)
                return fail(ST_CONFIG, "gate: '%.80s': 'on' needs RUNTIME, RUNTIME/VARIANT or all", rule);
            if (!r->all)
                TRY(arena_strdup(mem, &r->on, word));
        } else {
            return fail(ST_CONFIG, "gate: '%.80s': '%.40s' is not understood; after the number may stand: vs teacher|fp32|champion, on RUNTIME[/VARIANT]|all, strict", rule, word);
        }
    }
}

/* Whether the words of the rule make sense together. */
static status check_sense(const gate_rule *r, const char *change)
{
    gate_kind k = r->metric->kind;
    bool better_high = k == GATE_ACCURACY || k == GATE_SHARE, one = k == GATE_SPREAD || k == GATE_BROKEN;
    if (r->change && one)
        return fail(ST_CONFIG, "gate: '%.80s': %s has no %s", r->text, r->metric->name, change);
    if (r->change && better_high != (strcmp(change, "drop") == 0))
        return fail(ST_CONFIG, "gate: '%.80s': %s has a %s, no %s", r->text, r->metric->name, better_high ? "drop" : "rise", change);
    if (!r->change && r->against != GATE_NONE)
        return fail(ST_CONFIG, "gate: '%.80s': 'vs' needs drop or rise before the operator", r->text);
    return ST_OK;
}

status gate_rule_read(const char *rule, arena *mem, gate_rule *out)
{
    char word[WORD_MAX];
    const char *change = "";
    const char *at = rule;
    *out = (gate_rule){0};
    TRY(arena_strdup(mem, &out->text, rule));
    TRY(next_word(&at, rule, word));
    for (size_t i = 0; i < METRICS; i++)
        if (strcmp(metrics[i].name, word) == 0)
            out->metric = &metrics[i];
    if (!out->metric)
        return unknown_metric(rule, word);
    TRY(next_word(&at, rule, word));
    out->change = strcmp(word, "drop") == 0 || strcmp(word, "rise") == 0;
    if (out->change) {
        change = *word == 'd' ? "drop" : "rise";
        TRY(next_word(&at, rule, word));
    }
    TRY(read_op(rule, word, &out->op));
    TRY(next_word(&at, rule, word));
    TRY(read_limit(rule, word, &out->limit));
    TRY(read_clauses(rule, at, mem, out));
    TRY(check_sense(out, change));
    if (out->change && out->against == GATE_NONE)
        out->against = GATE_TEACHER;
    return ST_OK;
}

/* ---- places ---- */

typedef struct gate_place {
    char runtime[WORD_MAX], variant[WORD_MAX]; /* variant "": the student's */
} gate_place;

/* Takes the next place of a list. */
static bool next_place(const char **at, gate_place *out)
{
    char item[WORD_MAX];
    *at += strspn(*at, ",");
    size_t n = strcspn(*at, ",");
    if (n == 0 || n >= sizeof item)
        return false;
    memcpy(item, *at, n);
    item[n] = 0;
    *at += n;
    char *slash = strchr(item, '/');
    if (slash)
        *slash = 0;
    snprintf(out->runtime, sizeof out->runtime, "%s", item);
    snprintf(out->variant, sizeof out->variant, "%s", slash ? slash + 1 : "");
    return true;
}

static bool is_pattern(const char *s)
{
    return strpbrk(s, "*?") != NULL;
}

static bool of_student(const matrix_column *c)
{
    return !c->model || strcmp(c->model, "teacher") != 0;
}

int gate_rule_covers(const gate_rule *r, const matrix *m, size_t row, size_t column)
{
    const matrix_column *c = &m->columns[column];
    const char *at = r->on;
    gate_place p;
    int covers = 0;
    if (!r->on)
        return of_student(c);
    while (next_place(&at, &p)) {
        bool here = pattern_matches(p.runtime, m->rows[row].runtime) && (*p.variant ? pattern_matches(p.variant, c->variant) : of_student(c));
        if (here && !is_pattern(p.runtime) && *p.variant && !is_pattern(p.variant))
            return 2;
        covers = here ? 1 : covers;
    }
    return covers;
}

static status no_place(const gate_rule *r, const char *what, const char *pattern, const char *const *first, size_t n, size_t stride)
{
    const char *near = n ? nearest_name(pattern, first, n, stride) : NULL;
    return fail(ST_CONFIG, "gate: '%.80s': the matrix has no %s '%.40s'%s%s%s", r->text, what, pattern, near ? "; did you mean '" : "",
                near ? near : "", near ? "'?" : "");
}

status gate_rule_fits(const gate_rule *r, const matrix *m)
{
    const char *at = r->on;
    gate_place p;
    while (at && next_place(&at, &p)) {
        bool row = false, column = !*p.variant;
        for (size_t i = 0; i < m->n_rows; i++)
            row = row || pattern_matches(p.runtime, m->rows[i].runtime);
        for (size_t i = 0; i < m->n_columns; i++)
            column = column || pattern_matches(p.variant, m->columns[i].variant);
        if (!row)
            return no_place(r, "row", p.runtime, m->n_rows ? &m->rows[0].runtime : NULL, m->n_rows, sizeof *m->rows);
        if (!column)
            return no_place(r, "column", p.variant, m->n_columns ? &m->columns[0].variant : NULL, m->n_columns, sizeof *m->columns);
    }
    return ST_OK;
}
