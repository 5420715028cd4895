/* base64.c - see base64.h. */
#include "base/base64.h"

#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_add(text *t, const void *data, size_t n)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < n; i += 3) {
        size_t left = n - i;
        uint32_t v =
            (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (left > 2 ? p[i + 2] : 0u);
        char four[4] = {alphabet[v >> 18], alphabet[v >> 12 & 63], left > 1 ? alphabet[v >> 6 & 63] : '=',
                        left > 2 ? alphabet[v & 63] : '='};
        text_add_n(t, four, 4);
    }
}

/* 0 to 63, or 64 for what does not belong to the alphabet. */
static uint32_t digit(char c)
{
    const char *at = c ? strchr(alphabet, c) : NULL;
    return at ? (uint32_t)(at - alphabet) : 64;
}

status base64_decode(const char *what, const char *s, void *to, size_t n)
{
    uint8_t *p = to;
    size_t groups = n / 3 + (n % 3 != 0), used = strlen(s);
    if (used % 4 || used / 4 != groups)
        return fail(ST_BAD_DATA, "%s: %zu characters of base64 where %zu bytes are expected", what, used, n);
    for (size_t g = 0; g < groups; g++, s += 4) {
        size_t bytes = g + 1 < groups || n % 3 == 0 ? 3 : n % 3;
        uint32_t v = 0;
        for (size_t k = 0; k < 4; k++) {
            bool pad = k > bytes;
            uint32_t d = pad && s[k] == '=' ? 0 : digit(s[k]);
            if (d > 63 || (pad && s[k] != '='))
                return fail(ST_BAD_DATA, "%s: not base64 at character %zu", what, 4 * g + k);
            v = v << 6 | d;
        }
        for (size_t k = 0; k < bytes; k++)
            *p++ = (uint8_t)(v >> (16 - 8 * k));
    }
    return ST_OK;
}
