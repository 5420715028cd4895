/* report_text.c - words and numbers of the report, safe to stand in HTML. */
#include "deploy/report_page.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define DASH "\xe2\x80\x93"

void page_escaped(text *t, const char *s)
{
    size_t n = s ? strlen(s) : 0;
    if (!s)
        text_add(t, DASH);
    for (size_t i = 0, step; i < n; i += step) {
        unsigned char c = (unsigned char)s[i];
        step = utf8_length(s + i, n - i);
        if (step == 0 || (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f) {
            text_add(t, "\xef\xbf\xbd"); /* U+FFFD */
            step = step ? step : 1;
        } else if (strchr("&<>\"'", c)) {
            text_printf(t, "&#%d;", c);
        } else {
            text_add_n(t, s + i, step);
        }
    }
}

void page_count(text *t, int64_t n)
{
    char digits[24];
    if (n < 0) {
        text_add(t, DASH);
        return;
    }
    int length = snprintf(digits, sizeof digits, "%" PRId64, n);
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            text_add(t, ",");
        text_add_n(t, digits + i, 1);
    }
}

void page_number(text *t, double v, const char *format)
{
    char buf[64];
    if (isnan(v)) {
        text_add(t, "not a number");
    } else if (isinf(v)) {
        text_add(t, v > 0 ? "infinite" : "minus infinite");
    } else {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(buf, sizeof buf, format, v);
#pragma GCC diagnostic pop
        text_add(t, buf);
    }
}

void page_percent(text *t, double share)
{
    if (isnan(share))
        text_add(t, DASH);
    else
        text_printf(t, "%.2f\xc2\xa0%%", 100 * share);
}

void page_points(text *t, double share)
{
    double points = round(1e4 * share) / 100;
    text_printf(t, "%s%.2f", points < 0 ? "\xe2\x88\x92" : points > 0 ? "+" : "", fabs(points));
}

/* Letters that a shell leaves alone. */
static bool is_plain(const char *word)
{
    return *word &&
           strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./=:,+@%-") ==
               strlen(word);
}

static void put_quoted(text *t, const char *word)
{
    page_escaped(t, "'");
    for (const char *p = word; *p;) {
        size_t n = strcspn(p, "'");
        text part = {0};
        text_add_n(&part, p, n);
        page_escaped(t, part.s ? part.s : "");
        if (part.st != ST_OK)
            t->st = part.st;
        text_free(&part);
        p += n;
        if (*p) {
            page_escaped(t, "'\\''");
            p++;
        }
    }
    page_escaped(t, "'");
}

void page_command(text *t, const char *const *word, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            text_add(t, " ");
        if (is_plain(word[i]))
            page_escaped(t, word[i]);
        else
            put_quoted(t, word[i]);
    }
}

void page_tick(text *t, bool good, const char *yes, const char *no)
{
    text_printf(t, "<span class=\"%s\"><span aria-hidden=\"true\">%s</span> %s</span>", good ? "good" : "bad",
                good ? "\xe2\x9c\x93" : "\xe2\x9c\x97", good ? yes : no);
}

void page_heading(text *t, const char *id, const char *title)
{
    text_printf(t, "<h2 id=\"%s\">%s</h2>\n", id, title);
}
