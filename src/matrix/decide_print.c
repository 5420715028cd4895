/* decide_print.c - a decision for people and as JSON. */
#include "matrix/decide.h"
#include "matrix/words.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define WIDTH 80
#define PARAGRAPH_MOST 2000 /* letters */

/* A paragraph of at most 80 columns: `head`, then words; later lines are indented as wide as the head. */
static void add_wrapped(text *t, const char *head, const char *words)
{
    size_t indent = strlen(head);
    text_add(t, head);
    words_wrap(t, words, indent, indent, WIDTH, PARAGRAPH_MOST);
}

static const char *minutes_text(double minutes, char buf[24])
{
    if (isnan(minutes))
        return "not run here";
    return human_seconds(minutes * 60, buf);
}

static void add_ways(const decision *d, text *t)
{
    char room[24], time[24];
    if (d->n_ways)
        text_printf(t, "\n%-22s %6s %12s %12s %12s\n", "an update costs", "files", "validations", "time", "bytes");
    for (size_t i = 0; i < d->n_ways; i++) {
        const decision_way *w = &d->ways[i];
        text_add(t, "  ");
        words_field(t, w->way, 20);
        text_printf(t, " %6zu %12zu %12s %12s\n", w->files, w->runs, minutes_text(w->minutes, time), human_bytes((double)w->bytes, room));
    }
}

void decision_print(const decision *d, text *t)
{
    add_wrapped(t, "decision: ", d->summary ? d->summary : "");
    add_wrapped(t, "rule:     ", d->rule ? d->rule : "");
    for (size_t i = 0; i < d->n_because; i++)
        add_wrapped(t, i ? "          " : "because:  ", d->because[i]);
    for (size_t i = 0; i < d->n_choices; i++) {
        const device_choice *c = &d->choices[i];
        text line = {0};
        text_printf(&line, "%s:", c->device);
        if (c->variant)
            text_printf(&line, " %s%s%s%s", c->variant, c->runtime && strcmp(c->runtime, c->device) ? " in " : "",
                        c->runtime && strcmp(c->runtime, c->device) ? c->runtime : "", c->why ? ";" : "");
        else
            text_add(&line, " NOTHING FITS;");
        text_printf(&line, " %s", c->why ? c->why : "");
        add_wrapped(t, i ? "          " : "devices:  ", line.s ? line.s : "");
        t->st = t->st == ST_OK ? line.st : t->st;
        text_free(&line);
    }
    for (size_t i = 0; i < d->n_would_change; i++)
        add_wrapped(t, i ? "          " : "changes:  ", d->would_change[i]);
    add_ways(d, t);
}

static void put_lines(json *j, const char *key, const char **lines, size_t n)
{
    json_put_array(j, key);
    for (size_t i = 0; i < n; i++)
        json_put_string(j, NULL, lines[i]);
    json_end_array(j);
}

void decision_json(const decision *d, json *j)
{
    json_put_string(j, "rule", d->rule);
    json_put_string(j, "variant", d->variant);
    json_put_string(j, "summary", d->summary);
    put_lines(j, "because", d->because, d->n_because);
    put_lines(j, "would_change", d->would_change, d->n_would_change);
    json_put_array(j, "choices");
    for (size_t i = 0; i < d->n_choices; i++) {
        json_put_object(j, NULL);
        json_put_string(j, "device", d->choices[i].device);
        json_put_string(j, "runtime", d->choices[i].runtime);
        json_put_string(j, "variant", d->choices[i].variant);
        json_put_string(j, "why", d->choices[i].why);
        json_end_object(j);
    }
    json_end_array(j);
    json_put_array(j, "ways");
    for (size_t i = 0; i < d->n_ways; i++) {
        json_put_object(j, NULL);
        json_put_string(j, "way", d->ways[i].way);
        json_put_int(j, "files", (int64_t)d->ways[i].files);
        json_put_int(j, "runs", (int64_t)d->ways[i].runs);
        json_put_number(j, "minutes", d->ways[i].minutes);
        json_put_int(j, "bytes", d->ways[i].bytes);
        json_end_object(j);
    }
    json_end_array(j);
    json_put_array(j, "rows");
    for (size_t i = 0; i < d->n_costs; i++) {
        json_put_object(j, NULL);
        json_put_string(j, "runtime", d->costs[i].runtime);
        json_put_string(j, "variant", d->costs[i].variant);
        json_put_int(j, "runs", (int64_t)d->costs[i].runs);
        json_put_number(j, "minutes", d->costs[i].minutes);
        json_put_int(j, "bytes", d->costs[i].bytes);
        json_end_object(j);
    }
    json_end_array(j);
}
