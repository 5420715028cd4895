/* show_gate.c - of the page: the decision with its reasons, and how near each rule of the gate is to its limit. */
#include "deploy/report_page.h"
#include "matrix/show_page.h"

#include <math.h>
#include <string.h>

#define RULES_MOST    64
#define FAILURES_MOST 100

/* ---- decision ---- */

static void put_list(text *t, const char *title, const char **items, size_t n)
{
    if (n == 0)
        return;
    text_printf(t, "<h4>%s</h4>\n<ul>\n", title);
    for (size_t i = 0; i < n && i < RULES_MOST; i++) {
        text_add(t, "<li>");
        put_words(t, items[i]);
        text_add(t, "</li>\n");
    }
    text_add(t, "</ul>\n");
}

static void put_choices(text *t, const decision *d)
{
    if (d->n_choices == 0)
        return;
    text_add(t, "<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr><th scope=\"col\">Device</th><th scope=\"col\" class=\"word\">"
                "Runtime</th><th scope=\"col\" class=\"word\">Variant</th><th scope=\"col\" class=\"word\">Why</th></tr></thead>\n"
                "<tbody>\n");
    for (size_t i = 0; i < d->n_choices; i++) {
        const device_choice *c = &d->choices[i];
        text_add(t, "<tr><th scope=\"row\">");
        put_words(t, c->device);
        text_add(t, "</th><td class=\"word\">");
        put_words(t, c->runtime);
        text_add(t, "</td><td class=\"word\">");
        if (c->variant)
            put_words(t, c->variant);
        else
            page_tick(t, false, "", "none fits");
        text_add(t, "</td><td class=\"word\">");
        put_words(t, c->why);
        text_add(t, "</td></tr>\n");
    }
    text_add(t, "</tbody></table></div>\n");
}

static void put_time(text *t, double minutes)
{
    char buf[24];
    text_add(t, !isfinite(minutes) ? "not run here" : minutes > 0 ? human_seconds(60 * minutes, buf) : "\xe2\x80\x93");
}

/* The ways to ship, side by side, then each row as decided. */
static void put_updates(text *t, const decision *d)
{
    char buf[24];
    if (d->n_ways)
        text_add(t, "<h4>What an update of the model costs</h4>\n<div class=\"scroll\" tabindex=\"0\"><table class=\"tight\">\n<thead><tr>"
                    "<th scope=\"col\">Way to ship</th><th scope=\"col\">Files</th><th scope=\"col\">Validation runs</th><th scope=\"col\">"
                    "Time</th><th scope=\"col\">Bytes</th></tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < d->n_ways; i++) {
        const decision_way *w = &d->ways[i];
        text_add(t, "<tr><th scope=\"row\">");
        put_words(t, w->way);
        text_printf(t, "</th><td>%zu</td><td>%zu</td><td>", w->files, w->runs);
        put_time(t, w->minutes);
        text_printf(t, "</td><td>%s</td></tr>\n", w->bytes >= 0 ? human_bytes((double)w->bytes, buf) : "\xe2\x80\x93");
    }
    text_add(t, d->n_ways ? "</tbody></table></div>\n" : "");
    if (d->n_costs == 0)
        return;
    text_add(t, "<details><summary>As decided, by runtime</summary>\n<div class=\"scroll\" tabindex=\"0\"><table class=\"tight\">\n"
                "<thead><tr><th scope=\"col\">Runtime</th><th scope=\"col\" class=\"word\">Variant</th><th scope=\"col\">Validation runs</th>"
                "<th scope=\"col\">Time</th><th scope=\"col\">To ship</th></tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < d->n_costs; i++) {
        const decision_cost *c = &d->costs[i];
        text_add(t, "<tr><th scope=\"row\">");
        put_words(t, c->runtime);
        text_add(t, "</th><td class=\"word\">");
        put_words(t, c->variant);
        text_printf(t, "</td><td>%zu</td><td>", c->runs);
        put_time(t, c->minutes);
        text_printf(t, "</td><td>%s</td></tr>\n", c->bytes >= 0 ? human_bytes((double)c->bytes, buf) : "\xe2\x80\x93");
    }
    text_add(t, "</tbody></table></div></details>\n");
}

void page_decision(text *t, const decision *d)
{
    text_add(t, "<h3>What ships</h3>\n<p class=\"decision\"><b>");
    put_words(t, d->variant ? d->variant : "Each platform its own");
    text_add(t, "</b>");
    put_words(t, d->summary);
    text_add(t, "</p>\n");
    if (d->rule) {
        text_add(t, "<p class=\"quiet\">The rule that decided: ");
        put_words(t, d->rule);
        text_add(t, ".</p>\n");
    }
    put_choices(t, d);
    text_add(t, "<div class=\"two\"><div>\n");
    put_list(t, "Because", d->because, d->n_because);
    text_add(t, "</div><div>\n");
    put_list(t, "What would change it", d->would_change, d->n_would_change);
    text_add(t, "</div></div>\n");
    put_updates(t, d);
}

/* ---- gate ---- */

/* Nearer to failing, or failing by more. A figure that is missing fails most. */
static bool is_tighter(const gate_margin *a, const gate_margin *b)
{
    if (a->held != b->held)
        return !a->held;
    if (isnan(a->margin) || isnan(b->margin))
        return isnan(a->margin) && !isnan(b->margin);
    return a->margin < b->margin;
}

static void put_where(text *t, const gate_margin *r)
{
    put_words(t, r->runtime ? r->runtime : "all cells");
    text_add(t, r->variant ? " / " : "");
    put_words(t, r->variant);
}

static void put_number(text *t, double x)
{
    if (isnan(x))
        text_add(t, "not measured");
    else
        page_number(t, x, "%.4g");
}

static void put_margin(text *t, const gate_margin *r, size_t figures, size_t failed)
{
    text_add(t, "<tr><th scope=\"row\" class=\"where\">");
    put_words(t, r->rule);
    text_add(t, "</th><td class=\"word where\">");
    if (failed && figures > 1)
        text_printf(t, "<span class=\"bad\"><span aria-hidden=\"true\">\xe2\x9c\x97</span> fails in %zu of %zu</span>", failed, figures);
    else
        page_tick(t, r->held, "holds", "fails");
    text_add(t, "</td><td class=\"word where\">");
    put_where(t, r);
    text_add(t, "</td><td>");
    put_number(t, r->value);
    text_add(t, "</td><td>");
    put_number(t, r->limit);
    text_add(t, "</td><td>");
    put_number(t, r->margin);
    text_add(t, "</td><td class=\"word quiet\">");
    put_words(t, r->note);
    text_add(t, "</td></tr>\n");
}

static void begin_table(text *t, const char *where)
{
    text_printf(t, "<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr><th scope=\"col\">Rule</th><th scope=\"col\" class=\"word\">"
                   "Result</th><th scope=\"col\" class=\"word\">%s</th><th scope=\"col\">Value</th><th scope=\"col\">Limit</th>"
                   "<th scope=\"col\">Margin</th><th scope=\"col\" class=\"word\">Note</th></tr></thead>\n<tbody>\n",
                where);
}

/* A line a rule, with the figure that is nearest to failing. Figures stand rule by rule (gate.h). */
static void put_rules(text *t, const gate_result *g)
{
    begin_table(t, "Tightest at");
    for (size_t i = 0, end, rules = 0; i < g->n && rules < RULES_MOST; i = end, rules++) {
        const gate_margin *tight = &g->margins[i];
        size_t failed = 0;
        for (end = i; end < g->n && strcmp(g->margins[end].rule, g->margins[i].rule) == 0; end++) {
            failed += !g->margins[end].held;
            tight = is_tighter(&g->margins[end], tight) ? &g->margins[end] : tight;
        }
        put_margin(t, tight, end - i, failed);
    }
    text_add(t, "</tbody></table></div>\n");
}

void page_gate(text *t, const gate_result *g)
{
    size_t failed = 0, shown = 0;
    for (size_t i = 0; i < g->n; i++)
        failed += !g->margins[i].held;
    text_add(t, "<h3>Gate</h3>\n<p>");
    page_tick(t, g->held, "Every rule holds.", "The gate does not hold.");
    text_printf(t, " %zu figure%s, %zu fail.</p>\n", g->n, g->n == 1 ? "" : "s", failed);
    if (g->n == 0)
        return;
    put_rules(t, g);
    if (failed < 2)
        return;
    text_printf(t, "<details><summary>All %zu that fail</summary>\n", failed);
    begin_table(t, "At");
    for (size_t i = 0; i < g->n && shown < FAILURES_MOST; i++)
        if (!g->margins[i].held) {
            put_margin(t, &g->margins[i], 1, 1);
            shown++;
        }
    text_add(t, "</tbody></table></div>\n");
    if (shown < failed)
        text_printf(t, "<p class=\"quiet\">The first %zu.</p>\n", shown);
    text_add(t, "</details>\n");
}
