/* ini_reader.c - inih behind a line reader of our own.
 *
 * inih (as Debian builds it) cuts lines at 200 bytes, cuts section names at 49, does not tell line numbers, takes an indented
 * key for more of the value above, and accepts "[unclosed". So next_piece below hands it checked key lines only, one at a
 * time, and long ones in pieces: the rest of a line follows as indented continuation lines, which inih hands back one
 * by one. inih skips comments and separates key from value. Headers are read here. */
#include "config/ini_reader.h"
#include "base/text.h"

#include <ini.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define KEY_MAX 100 /* bytes; a key and its '=' must lie in the first piece */

typedef struct reader {
    const char *next, *end;  /* what was not read yet */
    const char *line, *stop; /* the current line without its end */
    unsigned number;         /* of the current line */
    size_t max_line;
    bool in_section, lost; /* lost: the last header was at fault, its keys belong nowhere */
    const char *sep;       /* its '=' or ':' */
    const char *rest;      /* what inih did not get of the current line; NULL: all given */
    const char *gap;       /* blanks between the last piece and the next: inih drops them */
    size_t gap_n;
    bool given, got; /* a key line was given to inih; it called back */
    text key, value; /* what it said */
    const ini_sink *sink;
    status st;
} reader;

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

unsigned utf8_count(const char *s, size_t n)
{
    unsigned count = 0;
    for (size_t i = 0; i < n; i++)
        count += ((unsigned char)s[i] & 0xC0) != 0x80;
    return count;
}

static unsigned column_of(const reader *r, const char *at)
{
    return utf8_count(r->line, (size_t)(at - r->line)) + 1;
}

static void fault(reader *r, const char *at, const char *message)
{
    if (r->st == ST_OK)
        r->st = r->sink->fault(r->sink->ctx, r->number, column_of(r, at), message);
}

static const char *skip_blanks(const char *p, const char *stop)
{
    while (p < stop && is_blank(*p))
        p++;
    return p;
}

static const char *trim_blanks(const char *p, const char *stop)
{
    while (stop > p && is_blank(stop[-1]))
        stop--;
    return stop;
}

/* The key that was given in pieces is complete: hand it on. */
static void finish_key(reader *r)
{
    if (!r->given || r->st != ST_OK)
        return;
    r->given = false;
    if (!r->got) {
        fault(r, r->line, "expected 'key = value', a comment or a [section]");
        return;
    }
    r->st = r->key.st != ST_OK ? r->key.st : r->value.st;
    if (r->st != ST_OK)
        return;
    const char *value = r->value.s;
    const char *end = trim_blanks(value, value + r->value.n);
    value = skip_blanks(value, end);
    r->value.s[end - r->value.s] = 0;
    r->st = r->sink->key(r->sink->ctx, r->key.s, value, r->number,
                         column_of(r, skip_blanks(r->sep + 1, r->stop)));
}

/* [section] or [section NAME] */
static void read_header(reader *r)
{
    const char *close = memchr(r->line, ']', (size_t)(r->stop - r->line));
    r->in_section = r->lost = true;
    if (!close) {
        fault(r, r->stop, "the section header has no ']'");
        return;
    }
    const char *after = skip_blanks(close + 1, r->stop);
    if (after < r->stop && *after != ';' && *after != '#') {
        fault(r, after, "something stands after the section header");
        return;
    }
    const char *name = skip_blanks(r->line + 1, close), *stop = trim_blanks(name, close), *name_end = name;
    while (name_end < stop && !is_blank(*name_end))
        name_end++;
    const char *arg = skip_blanks(name_end, stop);
    if (name == stop) {
        fault(r, r->line + 1, "the section has no name");
        return;
    }
    r->lost = false;
    text copy = {0};
    text_add_n(&copy, name, (size_t)(name_end - name));
    text_add_n(&copy, "", 1);
    text_add_n(&copy, arg, (size_t)(stop - arg));
    r->st = copy.st != ST_OK
                ? copy.st
                : r->sink->section(r->sink->ctx, copy.s, copy.s + (name_end - name) + 1, r->number);
    text_free(&copy);
}

/* Takes the next line; checks what it is made of. False: it is not to be looked at. */
static bool take_line(reader *r)
{
    const char *nl = memchr(r->next, '\n', (size_t)(r->end - r->next));
    r->line = r->next;
    r->stop = nl ? nl : r->end;
    r->next = nl ? nl + 1 : r->end;
    r->number++;
    if (r->number == 1 && r->stop - r->line >= 3 && memcmp(r->line, "\xEF\xBB\xBF", 3) == 0)
        r->line += 3;
    if (r->stop > r->line && r->stop[-1] == '\r')
        r->stop--;
    if ((size_t)(r->stop - r->line) > r->max_line) {
        char message[120];
        snprintf(message, sizeof message, "the line has %zu bytes; %zu are allowed",
                 (size_t)(r->stop - r->line), r->max_line);
        fault(r, r->line, message);
        return false;
    }
    for (const char *p = r->line; p < r->stop;) {
        size_t n = utf8_length(p, (size_t)(r->stop - p));
        unsigned char c = (unsigned char)*p;
        const char *message = n == 0                                 ? "a byte that is not UTF-8"
                              : c == 0                               ? "a NUL byte"
                              : c == '\r'                            ? "a carriage return without a line feed"
                              : (c < 0x20 && c != '\t') || c == 0x7f ? "a control character"
                                                                     : NULL;
        if (message) {
            fault(r, p, message);
            return false;
        }
        p += n;
    }
    return true;
}

/* Is the current line a key line? Headers are read, faults told. Its comment is cut off. */
static bool is_key_line(reader *r)
{
    const char *first = skip_blanks(r->line, r->stop);
    if (first == r->stop || *first == ';' || *first == '#')
        return false;
    if (first > r->line) {
        fault(r, first,
              "the line is indented; keys and sections begin in the first column, values are one line");
        return false;
    }
    if (*first == '[') {
        read_header(r);
        return false;
    }
    if (r->lost)
        return false;
    const char *sep = first;
    while (sep < r->stop && *sep != '=' && *sep != ':')
        sep++;
    if (trim_blanks(first, sep) - first > KEY_MAX)
        fault(r, first, "the line has no '=' or a very long key; expected 'key = value'");
    else if (sep == first)
        fault(r, first, "there is no key before the '='");
    else if (!r->in_section)
        fault(r, first, "the key stands before any [section]");
    else {
        for (const char *p = first; p + 1 < r->stop; p++)
            if ((is_blank(*p) || p == sep) && p[1] == ';')
                r->stop = p;
        r->stop = trim_blanks(first, r->stop);
        r->sep = sep;
        return true;
    }
    return false;
}

/* Where the next piece ends when at most `room` bytes fit: before no blank and no comment sign, as inih would eat it. */
static const char *cut(const char *from, const char *stop, size_t room)
{
    if ((size_t)(stop - from) <= room)
        return stop;
    const char *p = from + room;
    while (p > from && (is_blank(*p) || *p == ';' || *p == '#'))
        p--;
    return p;
}

/* Goes on to the next key line. False: there is none. */
static bool next_line(reader *r)
{
    do {
        finish_key(r);
        if (r->st != ST_OK || r->next == r->end)
            return false;
    } while (!take_line(r) || !is_key_line(r));
    r->given = true;
    r->got = false;
    r->key.n = r->value.n = 0;
    r->rest = r->gap = r->line;
    r->gap_n = 0;
    return true;
}

/* inih's reader: as fgets. */
static char *next_piece(char *to, int room, void *stream)
{
    reader *r = stream;
    const char *end;
    if (room < 2 * KEY_MAX) {
        r->st = fail(ST_INTERNAL, "inih was built with lines of %d bytes", room);
        return NULL;
    }
    for (;;) {
        if (!r->rest && !next_line(r))
            return NULL;
        end = cut(r->rest, r->stop, (size_t)room - 3);
        if (end > r->rest && (end == r->stop || end > r->sep))
            break;
        fault(r, end, "too many blanks or comment signs in a row");
        r->given = false;
        r->rest = NULL;
    }
    size_t lead = r->rest > r->line, n = (size_t)(end - r->rest); /* a blank makes it a continuation */
    to[0] = ' ';
    memcpy(to + lead, r->rest, n);
    memcpy(to + lead + n, "\n", 2);
    text_add_n(&r->value, r->gap, r->gap_n); /* the piece before was handed back meanwhile */
    r->gap = trim_blanks(r->rest, end);
    r->gap_n = (size_t)(end - r->gap);
    r->rest = end < r->stop ? end : NULL;
    return to;
}

static int take_piece(void *user, const char *section, const char *key, const char *value)
{
    reader *r = user;
    (void)section;
    if (!r->got)
        text_add(&r->key, key);
    text_add(&r->value, value);
    r->got = true;
    return 1;
}

status ini_read(const char *ini, size_t n, size_t max_line, const ini_sink *sink)
{
    reader r = {.next = ini, .end = ini + n, .max_line = max_line, .sink = sink};
    (void)ini_parse_stream(next_piece, &r, take_piece,
                           &r); /* its line numbers are of no use; faults are told above */
    finish_key(&r);
    text_free(&r.key);
    text_free(&r.value);
    return r.st;
}
