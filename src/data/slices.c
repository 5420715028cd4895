/* slices.c - "0:600 1000:" to a set of samples. */
#include "data/data.h"

#include "base/text.h"

#include <inttypes.h>
#include <string.h>

/* One bound of a slice: empty is `otherwise`; negative counts from the end; cut to [0, n]. */
static status read_bound(const char *s, size_t len, const char *what, uint32_t n, int64_t otherwise,
                         int64_t *out)
{
    char word[24];
    if (len == 0) {
        *out = otherwise;
        return ST_OK;
    }
    if (len >= sizeof word)
        return fail(ST_CONFIG, "%s: '%.*s' is no sample number", what, (int)len, s);
    memcpy(word, s, len);
    word[len] = 0;
    TRY(parse_int(word, what, out));
    if (*out < 0)
        *out += n;
    *out = *out < 0 ? 0 : *out > n ? n : *out;
    return ST_OK;
}

status slices_parse(const char *s, const char *what, uint32_t n, uint8_t *is_in)
{
    static const char blanks[] = " \t,";
    memset(is_in, 0, n);
    if (strcmp(s, "none") == 0)
        return ST_OK;
    for (s += strspn(s, blanks); *s; s += strspn(s, blanks)) {
        size_t len = strcspn(s, blanks);
        const char *colon = memchr(s, ':', len);
        int64_t from, to;
        if (colon) {
            TRY(read_bound(s, (size_t)(colon - s), what, n, 0, &from));
            TRY(read_bound(colon + 1, len - (size_t)(colon - s) - 1, what, n, n, &to));
        } else {
            TRY(read_bound(s, len, what, n, 0, &from));
            to = from + 1;
            if (from >= n)
                return fail(ST_CONFIG, "%s: there is no sample %.*s, the last one is %" PRIu32, what,
                            (int)len, s, n - 1);
        }
        for (int64_t i = from; i < to; i++)
            is_in[i] = 1;
        s += len;
    }
    return ST_OK;
}
