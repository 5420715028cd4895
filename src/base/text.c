/* text.c - growing text, JSON out, numbers in, nearest names. */
#include "base/text.h"
#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- growing text -------------------------------------------------------------------------------------------- */

/* Room for n more bytes and the NUL. */
static bool reserve(text *t, size_t n)
{
    size_t need;
    if (t->st != ST_OK)
        return false;
    if (!size_add(t->n, n, &need) || !size_add(need, 1, &need)) {
        t->st = fail(ST_OOM, "out of memory: a text of more bytes than any machine has");
        return false;
    }
    if (need <= t->cap)
        return true;
    size_t room = t->cap ? t->cap : 64;
    while (room < need)
        room = room > SIZE_MAX / 2 ? need : room * 2;
    t->st = mem_grow(&t->s, room, 1);
    if (t->st != ST_OK)
        return false;
    t->cap = room;
    return true;
}

void text_add_n(text *t, const void *s, size_t n)
{
    if (!reserve(t, n))
        return;
    if (n)
        memcpy(t->s + t->n, s, n);
    t->n += n;
    t->s[t->n] = 0;
}

void text_add(text *t, const char *s)
{
    text_add_n(t, s, strlen(s));
}

void text_printf(text *t, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 && t->st == ST_OK)
        t->st = fail(ST_INTERNAL, "cannot format text");
    if (n >= 0 && reserve(t, (size_t)n)) {
        vsnprintf(t->s + t->n, (size_t)n + 1, fmt, again);
        t->n += (size_t)n;
    }
    va_end(again);
}

void text_free(text *t)
{
    mem_free(t->s);
    *t = (text){0};
}

/* ---- UTF-8 --------------------------------------------------------------------------------------------------- */

size_t utf8_length(const char *s, size_t n)
{
    const unsigned char *p = (const unsigned char *)s;
    if (n == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    /* lead byte -> length, lowest and highest second byte (Unicode 15, table 3-7) */
    size_t len = p[0] >= 0xC2 && p[0] <= 0xDF   ? 2
                 : p[0] >= 0xE0 && p[0] <= 0xEF ? 3
                 : p[0] >= 0xF0 && p[0] <= 0xF4 ? 4
                                                : 0;
    if (len == 0 || n < len)
        return 0;
    unsigned lo = p[0] == 0xE0 ? 0xA0 : p[0] == 0xF0 ? 0x90 : 0x80;
    unsigned hi = p[0] == 0xED ? 0x9F : p[0] == 0xF4 ? 0x8F : 0xBF;
    if (p[1] < lo || p[1] > hi)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    return len;
}

/* ---- JSON ---------------------------------------------------------------------------------------------------- */

static void json_quote(text *t, const char *s)
{
    size_t n = strlen(s);
    text_add(t, "\"");
    for (size_t i = 0, step; i < n; i += step) {
        unsigned char c = (unsigned char)s[i];
        step = utf8_length(s + i, n - i);
        if (step == 0) {
            text_add(t, "\\ufffd");
            step = 1;
        } else if (c == '"' || c == '\\') {
            text_printf(t, "\\%c", c);
        } else if (c == '\n') {
            text_add(t, "\\n");
        } else if (c == '\t') {
            text_add(t, "\\t");
        } else if (c < 0x20 || c == 0x7f) {
            text_printf(t, "\\u%04x", c);
        } else {
            text_add_n(t, s + i, step);
        }
    }
    text_add(t, "\"");
}

static void json_line(json *j)
{
    if (j->pretty)
        text_printf(j->out, "\n%*s", (int)(2 * j->depth), "");
}

/* What stands before a value: comma, new line, key. */
static void json_before(json *j, const char *key)
{
    if (j->depth) {
        if (!j->first)
            text_add(j->out, ",");
        json_line(j);
    }
    j->first = false;
    if (key) {
        json_quote(j->out, key);
        text_add(j->out, j->pretty ? ": " : ":");
    }
}

static void json_open(json *j, const char *key, const char *bracket)
{
    json_before(j, key);
    text_add(j->out, bracket);
    j->depth++;
    j->first = true;
}

static void json_close(json *j, const char *bracket)
{
    if (j->depth)
        j->depth--;
    if (!j->first)
        json_line(j);
    text_add(j->out, bracket);
    j->first = false;
}

void json_put_object(json *j, const char *key)
{
    json_open(j, key, "{");
}

void json_put_array(json *j, const char *key)
{
    json_open(j, key, "[");
}

void json_end_object(json *j)
{
    json_close(j, "}");
}

void json_end_array(json *j)
{
    json_close(j, "]");
}

void json_put_string(json *j, const char *key, const char *value)
{
    json_before(j, key);
    if (value)
        json_quote(j->out, value);
    else
        text_add(j->out, "null");
}

void json_put_number(json *j, const char *key, double value)
{
    char buf[NUMBER_ROOM];
    if (isfinite(value)) {
        json_before(j, key);
        text_add(j->out, format_double(value, buf));
        return;
    }
    const char *name = isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
    if (!key) {
        json_put_string(j, NULL, name);
        return;
    }
    json_put_string(j, key, NULL);
    json_before(j, NULL);
    text sibling = {0};
    text_printf(&sibling, "%s_nonfinite", key);
    if (sibling.st != ST_OK) {
        j->out->st = sibling.st;
    } else {
        json_quote(j->out, sibling.s);
        text_add(j->out, j->pretty ? ": " : ":");
        json_quote(j->out, name);
    }
    text_free(&sibling);
}

void json_put_int(json *j, const char *key, int64_t value)
{
    json_before(j, key);
    text_printf(j->out, "%" PRId64, value);
}

void json_put_bool(json *j, const char *key, bool value)
{
    json_before(j, key);
    text_add(j->out, value ? "true" : "false");
}

/* ---- numbers ------------------------------------------------------------------------------------------------- */

const char *format_double(double v, char *buf)
{
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(buf, NUMBER_ROOM, "%.*g", digits, v);
        if (strtod(buf, NULL) == v)
            break;
    }
    char *comma = strchr(buf, ','); /* a program that uses the library may have set a locale */
    if (comma)
        *comma = '.';
    return buf;
}

static size_t digits_at(const char *s)
{
    return strspn(s, "0123456789");
}

/* [+-] digits [. digits] [e [+-] digits], at least one digit before the exponent. *nonzero: some digit is not 0. */
static bool is_decimal(const char *s, bool *nonzero)
{
    s += *s == '+' || *s == '-';
    size_t mantissa = strcspn(s, "eE");
    *nonzero = strcspn(s, "123456789") < mantissa;
    size_t n = digits_at(s);
    s += n;
    if (*s == '.') {
        size_t m = digits_at(s + 1);
        s += 1 + m;
        n += m;
    }
    if (n == 0)
        return false;
    if (*s == 'e' || *s == 'E') {
        s++;
        s += *s == '+' || *s == '-';
        n = digits_at(s);
        if (n == 0)
            return false;
        s += n;
    }
    return *s == 0;
}

status parse_double(const char *s, const char *what, double *out)
{
    bool nonzero;
    if (!is_decimal(s, &nonzero))
        return fail(ST_CONFIG, "%s: '%.80s' is not a number; write it like 0.1 or 1e-3", what, s);
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (c == (locale_t)0)
        return fail(ST_OOM, "out of memory: the C locale cannot be made");
    double v = strtod_l(s, NULL, c);
    freelocale(c);
    if (!isfinite(v))
        return fail(ST_CONFIG, "%s: '%.80s' is too large for a number", what, s);
    if (nonzero && fpclassify(v) == FP_ZERO)
        return fail(ST_CONFIG, "%s: '%.80s' is too small for a number (it would become 0)", what, s);
    *out = v;
    return ST_OK;
}

status parse_int(const char *s, const char *what, int64_t *out)
{
    const char *digits = s + (*s == '+' || *s == '-');
    size_t n = digits_at(digits);
    if (n == 0 || digits[n] != 0)
        return fail(ST_CONFIG, "%s: '%.80s' is not a whole number", what, s);
    errno = 0;
    int64_t v = strtoll(s, NULL, 10);
    if (errno)
        return fail(ST_CONFIG, "%s: '%.80s' is too large for a whole number of 64 bits", what, s);
    *out = v;
    return ST_OK;
}

status parse_bool(const char *s, const char *what, bool *out)
{
    static const struct {
        const char *name;
        bool value;
    } names[] = {{"true", true}, {"false", false}, {"yes", true}, {"no", false},
                 {"on", true},   {"off", false},   {"1", true},   {"0", false}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcasecmp(s, names[i].name) == 0) {
            *out = names[i].value;
            return ST_OK;
        }
    return fail(ST_CONFIG, "%s: '%.80s' is neither true nor false (yes no on off 1 0 are read too)", what, s);
}

/* ---- nearest names ------------------------------------------------------------------------------------------- */

#define NAME_ROOM 64

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c == '-' ? '_' : c;
}

/* Edit distance with swaps of neighbours (optimal string alignment); case and - against _ cost nothing. */
static size_t distance(const char *a, size_t na, const char *b, size_t nb)
{
    size_t rows[3][NAME_ROOM + 1];
    for (size_t j = 0; j <= nb; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t *row = rows[i % 3], *up = rows[(i + 2) % 3], *up2 = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            bool same = lower(a[i - 1]) == lower(b[j - 1]);
            size_t best = up[j - 1] + !same;
            best = up[j] + 1 < best ? up[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) && lower(a[i - 2]) == lower(b[j - 1]) &&
                up2[j - 2] + 1 < best)
                best = up2[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[na % 3][nb];
}

const char *nearest_name(const char *s, const char *const *candidates, size_t n, size_t stride)
{
    size_t len = strlen(s);
    if (len == 0 || len > NAME_ROOM)
        return NULL;
    const char *found = NULL;
    size_t best = len < 3 ? 1 : (len + 1) / 3;
    for (size_t i = 0; i < n; i++) {
        const char *c;
        memcpy(&c, (const char *)candidates + i * stride, sizeof c);
        size_t nc = c ? strlen(c) : 0;
        if (nc == 0 || nc > NAME_ROOM)
            continue;
        size_t d = distance(s, len, c, nc);
        if (d < best || (d == best && !found)) {
            best = d;
            found = c;
        }
    }
    for (size_t i = 0; !found && len >= 3 && i < n; i++) { /* the beginning of a longer name */
        const char *c;
        memcpy(&c, (const char *)candidates + i * stride, sizeof c);
        if (c && strncasecmp(c, s, len) == 0)
            found = c;
    }
    return found;
}

/* ---- numbers for people -------------------------------------------------------------------------------------- */

#define HUMAN_ROOM 24

static const char *scaled(double n, double step, const char *const *units, char *buf)
{
    size_t u = 0;
    if (!isfinite(n)) {
        snprintf(buf, HUMAN_ROOM, "%s", isnan(n) ? "nan" : n > 0 ? "inf" : "-inf");
        return buf;
    }
    while (units[u + 1] && fabs(n) >= step * 0.9995) {
        n /= step;
        u++;
    }
    int digits = u == 0 ? 0 : fabs(n) < 9.995 ? 2 : fabs(n) < 99.95 ? 1 : 0;
    if (fabs(n) < 1e6)
        snprintf(buf, HUMAN_ROOM, "%.*f%s%s", digits, n, *units[u] ? " " : "", units[u]);
    else
        snprintf(buf, HUMAN_ROOM, "%.3g%s%s", n, *units[u] ? " " : "", units[u]);
    return buf;
}

const char *human_count(double n, char *buf)
{
    static const char *const units[] = {"", "k", "M", "G", "T", "P", NULL};
    return scaled(n, 1000, units, buf);
}

const char *human_bytes(double n, char *buf)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", NULL};
    return scaled(n, 1024, units, buf);
}

const char *human_seconds(double s, char *buf)
{
    if (!isfinite(s) || fabs(s) >= 1e10)
        snprintf(buf, HUMAN_ROOM, "unknown");
    else if (s < 0.9995e-3)
        snprintf(buf, HUMAN_ROOM, "%.3g us", s * 1e6);
    else if (s < 0.9995)
        snprintf(buf, HUMAN_ROOM, "%.3g ms", s * 1e3);
    else if (s < 59.95)
        snprintf(buf, HUMAN_ROOM, "%.1f s", s);
    else if (s < 3599.5)
        snprintf(buf, HUMAN_ROOM, "%.0f m %02.0f s", floor((s + 0.5) / 60), floor(fmod(s + 0.5, 60)));
    else
        snprintf(buf, HUMAN_ROOM, "%.0f h %02.0f m", floor((s + 30) / 3600), floor(fmod(s + 30, 3600) / 60));
    return buf;
}
