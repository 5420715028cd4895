/* gate_print.c - the margins as a table for people and as JSON. */
#include "matrix/gate.h"
#include "matrix/words.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define LINES_MAX 12 /* of one rule; --json has all */
#define WIDTH     80
#define PLACE     36 /* columns of RUNTIME/VARIANT */
#define NOTE_MOST 1000 /* letters of a note, of a rule */
enum { RULE_INDENT = 8, NOTE_INDENT = 10 };

static size_t end_of_rule(const gate_result *g, size_t from)
{
    size_t to = from + 1;
    while (to < g->n && g->margins[to].rule == g->margins[from].rule)
        to++;
    return to;
}

static const char *number(double v, char buf[32])
{
    if (isnan(v))
        snprintf(buf, 32, "-");
    else
        snprintf(buf, 32, "%.5g", v);
    return buf;
}

static void place(const gate_margin *m, char *buf, size_t size)
{
    if (m->runtime)
        snprintf(buf, size, "%s%s%s", m->runtime, m->variant ? "/" : "", m->variant ? m->variant : "");
    else
        snprintf(buf, size, "%s", m->variant ? m->variant : "all");
}

static void add_margin(const gate_margin *m, text *t)
{
    char where[400], value[32], margin[32];
    place(m, where, sizeof where);
    text_printf(t, "  %-6s  ", m->held ? "" : "FAILS");
    words_field(t, where, PLACE);
    text_printf(t, " %10s  margin %s\n", number(m->value, value), number(m->margin, margin));
    if (m->note) {
        words_spaces(t, NOTE_INDENT);
        words_wrap(t, m->note, NOTE_INDENT, NOTE_INDENT, WIDTH, NOTE_MOST);
    }
}

/* A line as it stands, or wrapped where it is wider than a table. Takes the text. */
static void put_head(text *head, text *t)
{
    if (head->st != ST_OK)
        t->st = head->st;
    else if (head->n <= WIDTH)
        text_printf(t, "%s\n", head->s);
    else
        words_wrap(t, head->s, 0, RULE_INDENT, WIDTH, 2 * NOTE_MOST);
    text_free(head);
}

/* A rule that holds: its tightest cell. One that fails: what does not hold. */
static void add_rule(const gate_result *g, size_t from, size_t to, text *t)
{
    size_t failed = 0, shown = 0;
    const gate_margin *tight = NULL;
    for (size_t i = from; i < to; i++) {
        const gate_margin *m = &g->margins[i];
        failed += !m->held;
        if (!isnan(m->margin) && (!tight || m->margin < tight->margin))
            tight = m;
    }
    text head = {0};
    text_printf(&head, "%-6s  ", failed ? "FAILS" : "held");
    words_cut(&head, g->margins[from].rule, NOTE_MOST);
    if (to - from > 1 && failed)
        text_printf(&head, "  (%zu of %zu cells)", failed, to - from);
    else if (to - from > 1)
        text_printf(&head, "  (%zu cells; the nearest:)", to - from);
    put_head(&head, t);
    if (!failed)
        add_margin(tight ? tight : &g->margins[from], t);
    for (size_t i = from; i < to && failed; i++)
        if (!g->margins[i].held && ++shown <= LINES_MAX)
            add_margin(&g->margins[i], t);
    if (shown > LINES_MAX)
        text_printf(t, "          and %zu more; --json has all\n", shown - LINES_MAX);
}

void gate_print(const gate_result *g, text *t)
{
    size_t rules = 0, failed = 0;
    for (size_t i = 0, to; i < g->n; i = to, rules++) {
        bool held = true;
        to = end_of_rule(g, i);
        add_rule(g, i, to, t);
        for (size_t k = i; k < to; k++)
            held = held && g->margins[k].held;
        failed += !held;
    }
    if (failed)
        text_printf(t, "gate: does not hold: %zu of %zu rule%s\n", failed, rules, rules == 1 ? "" : "s");
    else
        text_printf(t, "gate: held (%zu rule%s)\n", rules, rules == 1 ? "" : "s");
}

void gate_json(const gate_result *g, json *j)
{
    json_put_bool(j, "held", g->held);
    json_put_array(j, "rules");
    for (size_t i = 0, to; i < g->n; i = to) {
        bool held = true;
        to = end_of_rule(g, i);
        for (size_t k = i; k < to; k++)
            held = held && g->margins[k].held;
        json_put_object(j, NULL);
        json_put_string(j, "rule", g->margins[i].rule);
        json_put_bool(j, "held", held);
        json_put_number(j, "limit", g->margins[i].limit);
        json_put_array(j, "cells");
        for (size_t k = i; k < to; k++) {
            const gate_margin *m = &g->margins[k];
            json_put_object(j, NULL);
            json_put_string(j, "runtime", m->runtime);
            json_put_string(j, "variant", m->variant);
            json_put_bool(j, "held", m->held);
            json_put_number(j, "value", m->value);
            json_put_number(j, "margin", m->margin);
            if (m->note)
                json_put_string(j, "note", m->note);
            json_end_object(j);
        }
        json_end_array(j);
        json_end_object(j);
    }
    json_end_array(j);
}
