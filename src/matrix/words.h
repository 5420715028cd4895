/* words.h - words of unknown origin (of configs, runners, results, devices) in a table of known width.
 *
 * What is no plain letter is replaced: no escape sequence gets through, and a letter is a column. */
#ifndef DISTILL_MATRIX_WORDS_H
#define DISTILL_MATRIX_WORDS_H

#include "base/text.h"

/* At most `most` columns of s; cut ones end in "..". Returns the columns written. */
size_t words_cut(text *t, const char *s, size_t most);
/* The same, filled up with spaces to `width`. */
void words_field(text *t, const char *s, size_t width);
/* A paragraph: words from column `at`, later lines indented, none beyond `width`, words that are wider broken; at most `most`
 * letters. Ends the line. */
void words_wrap(text *t, const char *words, size_t at, size_t indent, size_t width, size_t most);
void words_spaces(text *t, size_t n);
void words_end_line(text *t); /* without the spaces at its end */

#endif
