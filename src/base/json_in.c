/* json_in.c - see json_in.h. */
#include "base/json_in.h"
#include "base/io.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void json_in_fail(json_in *j, const char *fmt, ...)
{
    char what[512];
    va_list ap;
    if (j->st != ST_OK)
        return;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    j->st = fail(ST_BAD_DATA, "%s: %s", j->name, what);
}

/* jansson's parser calls itself for each level: brackets are counted first. */
static status check_depth(const char *name, const char *s, size_t n, uint64_t limit)
{
    uint64_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (in_string) {
            i += c == '\\';
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > limit)
                return fail(ST_BAD_DATA, "%s: nested more than %llu deep at byte %zu", name,
                            (unsigned long long)limit, i);
        } else if (c == '}' || c == ']') {
            depth -= depth > 0;
        }
    }
    return ST_OK;
}

status json_in_parse(json_in *j, const char *name, const char *s, size_t n, uint64_t depth)
{
    json_error_t error;
    *j = (json_in){.name = name};
    TRY(check_depth(name, s, n, depth));
    j->root = json_loadb(s, n, 0, &error);
    if (!j->root)
        return fail(json_error_code(&error) == json_error_out_of_memory ? ST_OOM : ST_BAD_DATA,
                    "%s:%d:%d: %s", name, error.line, error.column, error.text);
    if (!json_is_object(j->root))
        return fail(ST_BAD_DATA, "%s: a JSON object is expected", name);
    return ST_OK;
}

status json_in_open(json_in *j, const char *path, uint64_t limit, uint64_t depth)
{
    unsigned char *data;
    size_t size;
    *j = (json_in){.name = path};
    TRY(io_read_file(path, limit, &data, &size));
    status st = json_in_parse(j, path, (const char *)data, size, depth);
    mem_free(data);
    return st;
}

void json_in_close(json_in *j)
{
    json_decref(j->root);
    j->root = NULL;
}

/* The member, or NULL when it is missing or null. */
static json_t *member(json_t *o, const char *key)
{
    json_t *v = o ? json_object_get(o, key) : NULL;
    return json_is_null(v) ? NULL : v;
}

json_t *json_in_object(json_in *j, json_t *o, const char *key)
{
    json_t *v = member(o, key);
    if (v && !json_is_object(v)) {
        json_in_fail(j, "'%s' must be an object", key);
        return NULL;
    }
    return v;
}

json_t *json_in_array(json_in *j, json_t *o, const char *key, size_t *n)
{
    json_t *v = member(o, key);
    *n = 0;
    if (v && !json_is_array(v)) {
        json_in_fail(j, "'%s' must be an array", key);
        return NULL;
    }
    *n = json_array_size(v);
    return v;
}

double json_in_number(json_in *j, json_t *o, const char *key)
{
    char sibling[128];
    json_t *v = member(o, key);
    if (json_is_number(v))
        return json_number_value(v);
    if (v) {
        json_in_fail(j, "'%s' must be a number", key);
        return (double)NAN;
    }
    snprintf(sibling, sizeof sibling, "%s_nonfinite", key);
    const char *name = json_string_value(member(o, sibling));
    if (name && strcmp(name, "inf") == 0)
        return (double)INFINITY;
    return name && strcmp(name, "-inf") == 0 ? (double)-INFINITY : (double)NAN;
}

int64_t json_in_int(json_in *j, json_t *o, const char *key, int64_t unknown)
{
    json_t *v = member(o, key);
    if (!v)
        return unknown;
    if (!json_is_integer(v)) {
        json_in_fail(j, "'%s' must be a whole number", key);
        return unknown;
    }
    return json_integer_value(v);
}

size_t json_in_count(json_in *j, json_t *o, const char *key, size_t most)
{
    int64_t v = json_in_int(j, o, key, 0);
    if (v < 0 || (uint64_t)v > most) {
        json_in_fail(j, "'%s' is %lld; 0 to %zu is possible", key, (long long)v, most);
        return 0;
    }
    return (size_t)v;
}

bool json_in_bool(json_in *j, json_t *o, const char *key, bool unknown)
{
    json_t *v = member(o, key);
    if (!v)
        return unknown;
    if (!json_is_boolean(v)) {
        json_in_fail(j, "'%s' must be true or false", key);
        return unknown;
    }
    return json_is_true(v);
}

const char *json_in_string(json_in *j, arena *mem, json_t *o, const char *key)
{
    json_t *v = member(o, key);
    const char *copy = NULL;
    if (!v)
        return NULL;
    if (!json_is_string(v)) {
        json_in_fail(j, "'%s' must be a string", key);
        return NULL;
    }
    status st = arena_strdup(mem, &copy, json_string_value(v));
    if (st != ST_OK && j->st == ST_OK)
        j->st = st;
    return copy;
}
