/* source.c - what the readers of all kinds share: release, class numbers, paths. */
#include "data/source.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void source_free(source *s)
{
    for (uint32_t j = 0; j < DATA_INPUTS; j++)
        tensor_free(&s->in[j]);
    tensor_free(&s->target);
    mem_free(s->place);
    mem_free(s->label);
    mem_free(s->weight);
    mem_free(s->file);
    mem_free(s->dir);
    arena_free(&s->names);
    *s = (source){0};
}

void source_set_free(source_set *set)
{
    for (int p = 0; p < DATA_PARTS; p++)
        source_free(&set->part[p]);
    mem_free(set->class_name);
    arena_free(&set->names);
    text_free(&set->identity);
    *set = (source_set){0};
}

status path_join(char **out, const char *dir, const char *name)
{
    size_t a = strlen(dir), b = strlen(name);
    bool slash = a > 0 && dir[a - 1] != '/';
    TRY(mem_alloc(out, a + b + 2, 1));
    memcpy(*out, dir, a);
    if (slash)
        (*out)[a++] = '/';
    memcpy(*out + a, name, b + 1);
    return ST_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Whole number >= -1 and < 2^31, nothing else. */
static bool whole_number(const char *s, int64_t *out)
{
    if (strcmp(s, "-1") == 0) {
        *out = -1;
        return true;
    }
    int64_t v = 0;
    size_t n = strlen(s);
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        v = v * 10 + (s[i] - '0');
        if (v > INT32_MAX)
            return false;
    }
    *out = v;
    return n > 0;
}

static status collect_classes(source_set *set, const char *const *name, uint32_t n)
{
    const char **all;
    TRY(mem_alloc(&all, n, sizeof *all));
    uint32_t m = 0;
    for (uint32_t i = 0; i < n; i++)
        if (name[i] && name[i][0])
            all[m++] = name[i];
    qsort(all, m, sizeof *all, by_name);
    uint32_t k = 0;
    for (uint32_t i = 0; i < m; i++)
        if (i == 0 || strcmp(all[i], all[k - 1]) != 0)
            all[k++] = all[i];
    status st = ST_OK;
    for (uint32_t i = 0; i < k && st == ST_OK; i++)
        st = arena_strdup(&set->names, &all[i], all[i]);
    if (st != ST_OK) {
        mem_free(all);
        return st;
    }
    set->class_name = all;
    set->n_classes = k;
    return ST_OK;
}

status classes_number(source_set *set, source *s, const char *const *name)
{
    TRY(mem_alloc(&s->label, s->n, sizeof *s->label));
    bool numbers = !set->class_name, any = false;
    for (uint32_t i = 0; i < s->n; i++) {
        s->label[i] = -1;
        if (name[i] && name[i][0]) {
            any = true;
            numbers = numbers && whole_number(name[i], &s->label[i]);
        }
    }
    if (numbers || !any)
        return ST_OK;
    if (!set->class_name)
        TRY(collect_classes(set, name, s->n));
    for (uint32_t i = 0; i < s->n; i++) {
        s->label[i] = -1;
        if (!name[i] || !name[i][0])
            continue;
        const char **hit =
            bsearch(&name[i], set->class_name, (size_t)set->n_classes, sizeof *set->class_name, by_name);
        if (!hit)
            return fail(ST_BAD_DATA,
                        "%s: class '%s' is not among the %" PRId64 " classes of the training part", s->place,
                        name[i], set->n_classes);
        s->label[i] = hit - set->class_name;
    }
    return ST_OK;
}
