/* text.h - growing text, JSON out, numbers in, nearest names. */
#ifndef DISTILL_BASE_TEXT_H
#define DISTILL_BASE_TEXT_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Growing byte string, always NUL-terminated once used. Zeroed is empty. The first failure sticks in `st`, so that a
 * caller may append freely and check once. Free with text_free. */
typedef struct text {
    char *s;
    size_t n, cap;
    status st;
} text;
void text_add(text *t, const char *s);
void text_add_n(text *t, const void *s, size_t n);
PRINTF_LIKE(2, 3) void text_printf(text *t, const char *fmt, ...);
void text_free(text *t);

/* JSON writer onto a text. Commas and nesting are kept here; keys are NULL inside arrays. A number that is not finite
 * becomes null plus a sibling "KEY_nonfinite": "nan" | "inf" | "-inf" (in arrays: the string). Bytes that are not
 * UTF-8 are written as U+FFFD. Start with {.out = &t}; a failure shows in t.st. (json_put_...: json_object, json_array
 * and json_string are jansson's, and its shared library would call ours.) */
typedef struct json {
    text *out;
    unsigned depth;
    bool first;
    bool pretty;
} json;
void json_put_object(json *j, const char *key);
void json_put_array(json *j, const char *key);
void json_end_object(json *j);
void json_end_array(json *j);
void json_put_string(json *j, const char *key, const char *value); /* NULL value: null */
void json_put_number(json *j, const char *key, double value);
void json_put_int(json *j, const char *key, int64_t value);
void json_put_bool(json *j, const char *key, bool value);

/* Whole string to number, C locale, no spaces, no hex; ST_CONFIG with a message naming `what` otherwise. Doubles must
 * be finite and not lose everything to underflow. */
MUST_USE status parse_double(const char *s, const char *what, double *out);
MUST_USE status parse_int(const char *s, const char *what, int64_t *out);
MUST_USE status parse_bool(const char *s, const char *what, bool *out); /* true false yes no on off 1 0 */

/* The shortest decimal text that reads back as exactly `v`; into buf (NUMBER_ROOM bytes), which it returns. */
#define NUMBER_ROOM 32
const char *format_double(double v, char *buf);

/* Bytes of the one well-formed UTF-8 character at the start of s (n bytes); 0 when it is none. */
size_t utf8_length(const char *s, size_t n);

/* The candidate nearest to `s` (edit distance of at most a third of its length, case ignored; else one that `s` is
 * the beginning of), or NULL. `stride` bytes lie between
 * one candidate pointer (const char *) and the next. */
const char *nearest_name(const char *s, const char *const *candidates, size_t n, size_t stride);

/* "1.2 k", "31.4 M"; "1.5 MiB"; "2 h 14 m". Writes into buf (at least 24 bytes) and returns it. */
const char *human_count(double n, char *buf);
const char *human_bytes(double n, char *buf);
const char *human_seconds(double s, char *buf);

#endif
