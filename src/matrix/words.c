/* words.c - see words.h. */
#include "matrix/words.h"

#include <string.h>

/* The code point of a well-formed character of n bytes. */
static uint32_t code_point(const char *s, size_t n)
{
    const unsigned char *p = (const unsigned char *)s;
    uint32_t c = n == 1 ? p[0] : p[0] & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++)
        c = c << 6 | (p[i] & 0x3F);
    return c;
}

/* One column wide, and moves nothing: Latin, Greek, Cyrillic, dashes and quotes. */
static bool is_plain(uint32_t c)
{
    return (c >= 0x20 && c < 0x7F) || (c >= 0xA0 && c < 0x300 && c != 0xAD) || (c >= 0x370 && c < 0x483) ||
           (c >= 0x48A && c < 0x530) || (c >= 0x2010 && c < 0x2028);
}

/* Appends the character at s (n bytes are left) as one column; returns the bytes it took. */
static size_t put_letter(text *t, const char *s, size_t n)
{
    size_t step = utf8_length(s, n);
    if (step && is_plain(code_point(s, step)))
        text_add_n(t, s, step);
    else
        text_add(t, *s == '\n' || *s == '\t' ? " " : "?");
    return step ? step : 1;
}

size_t words_cut(text *t, const char *s, size_t most)
{
    size_t n = strlen(s), columns = 0, used = 0;
    for (size_t i = 0, step; i < n; i += step, columns++) {
        step = utf8_length(s + i, n - i);
        step = step ? step : 1;
    }
    bool cut = columns > most;
    for (size_t i = 0; i < n && used < (cut && most > 2 ? most - 2 : most); used++)
        i += put_letter(t, s + i, n - i);
    if (cut && most > 2) {
        text_add(t, "..");
        used += 2;
    }
    return used;
}

void words_end_line(text *t)
{
    while (t->n && t->s[t->n - 1] == ' ')
        t->s[--t->n] = 0;
    text_add(t, "\n");
}

void words_spaces(text *t, size_t n)
{
    text_printf(t, "%*s", (int)n, "");
}

void words_wrap(text *t, const char *words, size_t at, size_t indent, size_t width, size_t most)
{
    size_t n = strlen(words), letters = 0;
    for (size_t i = 0; i < n && letters < most;) {
        size_t end = i, columns = 0;
        while (end < n && !strchr(" \n\t", words[end])) {
            size_t step = utf8_length(words + end, n - end);
            end += step ? step : 1;
            columns++;
        }
        if (columns && at + columns > width && at > indent) {
            words_end_line(t);
            words_spaces(t, indent);
            at = indent;
        }
        for (; i < end && letters < most; at++, letters++) { /* a word wider than a line is broken */
            if (at >= width) {
                words_end_line(t);
                words_spaces(t, indent);
                at = indent;
            }
            i += put_letter(t, words + i, n - i);
        }
        bool space = i < n;
        while (i < n && strchr(" \n\t", words[i]))
            i++;
        if (space && i < n && at < width) {
            text_add(t, " ");
            at++;
            letters++;
        }
    }
    text_add(t, letters >= most && at + 2 <= width ? ".." : "");
    words_end_line(t);
}

void words_field(text *t, const char *s, size_t width)
{
    words_spaces(t, width - words_cut(t, s, width));
}
