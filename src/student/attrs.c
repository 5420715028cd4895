/* attrs.c - the value of an attribute from text, by the row that also tells ONNX import what it is. */
#include "student/builder.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_LIST = 1024 };

const attr_desc *attr_find(const attr_desc *rows, const char *name)
{
    for (const attr_desc *a = rows; a && a->name; a++)
        if (!(a->flags & ATTR_HIDDEN) && strcmp(a->name, name) == 0)
            return a;
    return NULL;
}

static status check_range(const attr_desc *a, double v)
{
    char low[NUMBER_ROOM], high[NUMBER_ROOM];
    if ((a->min == 0 && a->max == 0) || (v >= a->min && v <= a->max))
        return ST_OK;
    return fail(ST_CONFIG, "%s is outside %s to %s", a->name, format_double(a->min, low),
                format_double(a->max, high));
}

static status one_int(const attr_desc *a, const char *s, int64_t *out)
{
    TRY(parse_int(s, a->name, out));
    return check_range(a, (double)*out);
}

static status one_float(const attr_desc *a, const char *s, double *out)
{
    TRY(parse_double(s, a->name, out));
    return check_range(a, *out);
}

static status one_choice(const attr_desc *a, const char *s, int64_t *out)
{
    size_t len = strlen(s);
    int64_t index = 0;
    for (const char *c = a->choices; *c; index++) {
        size_t n = strcspn(c, " ");
        if (n == len && n > 0 && strncmp(c, s, n) == 0) {
            *out = index;
            return ST_OK;
        }
        c += n;
        c += strspn(c, " ");
    }
    return fail(ST_CONFIG, "%s = %s is none of: %s", a->name, s, a->choices);
}

static status one_dtype(const attr_desc *a, const char *s, int64_t *out)
{
    for (int t = DTYPE_NONE + 1; t < DTYPE_COUNT; t++)
        if (strcmp(dtype_of((dtype)t)->name, s) == 0) {
            *out = t;
            return ST_OK;
        }
    return fail(ST_CONFIG, "%s = %s is no element type (float32, int64 ...)", a->name, s);
}

/* A list separated by blanks or commas: copies of its words, and where each begins. */
typedef struct word {
    char *s;
    size_t at;
} word;
static const char blanks[] = " \t,";

static status list_words(const attr_desc *a, const char *s, arena *mem, word **words, size_t *n)
{
    *n = 0;
    for (const char *c = s + strspn(s, blanks); *c; c += strspn(c, blanks)) {
        c += strcspn(c, blanks);
        ++*n;
    }
    if (*n > MAX_LIST)
        return fail(ST_CONFIG, "%s has %zu numbers; at most %d are possible", a->name, *n, MAX_LIST);
    TRY(arena_alloc(mem, words, *n + 1, sizeof **words));
    word *w = *words;
    for (const char *c = s + strspn(s, blanks); *c; c += strspn(c, blanks), w++) {
        size_t len = strcspn(c, blanks);
        TRY(arena_alloc(mem, &w->s, len + 1, 1));
        memcpy(w->s, c, len);
        w->at = (size_t)(c - s);
        c += len;
    }
    return ST_OK;
}

static status parse_ints(arena *mem, const attr_desc *a, const char *s, attr_ints *out, size_t *at)
{
    word *w;
    size_t n;
    int64_t *v;
    TRY(list_words(a, s, mem, &w, &n));
    TRY(arena_alloc(mem, &v, n + 1, sizeof *v)); /* given and empty is not NULL */
    for (size_t i = 0; i < n; i++) {
        *at = w[i].at;
        TRY(one_int(a, w[i].s, &v[i]));
    }
    *out = (attr_ints){(int64_t)n, v};
    return ST_OK;
}

static status parse_floats(arena *mem, const attr_desc *a, const char *s, attr_floats *out, size_t *at)
{
    word *w;
    size_t n;
    double *v;
    TRY(list_words(a, s, mem, &w, &n));
    TRY(arena_alloc(mem, &v, n + 1, sizeof *v));
    for (size_t i = 0; i < n; i++) {
        *at = w[i].at;
        TRY(one_float(a, w[i].s, &v[i]));
    }
    *out = (attr_floats){(int64_t)n, v};
    return ST_OK;
}

status attr_parse(arena *mem, const attr_desc *a, const char *s, void *attr, size_t *at)
{
    void *field = (char *)attr + a->offset;
    attr_tensor *t = field;
    *at = 0;
    switch (a->type) {
    case ATTR_INT:
        return one_int(a, s, field);
    case ATTR_FLOAT:
        return one_float(a, s, field);
    case ATTR_CHOICE:
        return one_choice(a, s, field);
    case ATTR_DTYPE:
        return one_dtype(a, s, field);
    case ATTR_INTS:
        return parse_ints(mem, a, s, field, at);
    case ATTR_FLOATS:
        return parse_floats(mem, a, s, field, at);
    case ATTR_TENSOR:
        t->type = DTYPE_F32;
        return one_float(a, s, &t->v);
    }
    return fail(ST_INTERNAL, "attribute '%s' has a type that nobody reads", a->name);
}
