/* names.c - hash map keyed by strings that live elsewhere. */
#include "onnx/names.h"

#include "base/hash.h"
#include <string.h>

struct name_slot {
    const char *name; /* NULL: empty */
    uint32_t number;
};

static struct name_slot *find_slot(const name_map *m, const char *name)
{
    size_t mask = m->cap - 1, i = hash_xxh3(name, strlen(name)) & mask;
    while (m->slot[i].name && strcmp(m->slot[i].name, name) != 0)
        i = (i + 1) & mask;
    return &m->slot[i];
}

static status reserve(name_map *m)
{
    if (m->used * 2 + 2 <= m->cap)
        return ST_OK;
    name_map bigger = {.cap = m->cap ? m->cap * 2 : 64, .used = m->used};
    TRY(mem_alloc(&bigger.slot, bigger.cap, sizeof *bigger.slot));
    for (size_t i = 0; i < m->cap; i++)
        if (m->slot[i].name)
            *find_slot(&bigger, m->slot[i].name) = m->slot[i];
    mem_free(m->slot);
    *m = bigger;
    return ST_OK;
}

status name_map_put(name_map *m, const char *name, uint32_t **out)
{
    TRY(reserve(m));
    struct name_slot *s = find_slot(m, name);
    if (!s->name) {
        s->name = name;
        m->used++;
    }
    *out = &s->number;
    return ST_OK;
}

uint32_t name_map_get(const name_map *m, const char *name)
{
    return m->cap ? find_slot(m, name)->number : 0;
}

void name_map_free(name_map *m)
{
    mem_free(m->slot);
    *m = (name_map){0};
}
