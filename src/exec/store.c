/* store.c - parameters and states by name, shared by the executors of one student. */
#include "exec/internal.h"

#include <string.h>

store_entry *store_find(const store *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->at[i].t.name, name) == 0)
            return &s->at[i];
    return NULL;
}

status store_add_graph(store *s, const graph *g)
{
    char a[200], b[200];
    for (size_t v = 1; v < g->n_value; v++) {
        const value *x = &g->value[v];
        if (x->kind != VALUE_PARAM && x->kind != VALUE_STATE)
            continue;
        const store_entry *have = store_find(s, x->name);
        if (have) {
            if (have->t.type != x->type || !shape_equal(&have->t.sh, &x->sh))
                return fail(ST_INTERNAL, "parameter '%s' is %s %s in one graph and %s %s in another", x->name,
                            dtype_of(have->t.type)->name, shape_print(&have->t.sh, a), dtype_of(x->type)->name,
                            shape_print(&x->sh, b));
            continue;
        }
        TRY(mem_push(&s->at, &s->cap, s->n, sizeof *s->at));
        store_entry e = {.kind = x->kind, .flags = x->flags};
        TRY(tensor_new(&e.t, x->name, x->type, x->sh));
        if (x->data)
            memcpy(e.t.data, x->data, tensor_bytes(&e.t));
        s->at[s->n++] = e;
    }
    return ST_OK;
}

status store_bake(store *s, graph *g)
{
    TRY(store_pull(s));
    for (size_t v = 1; v < g->n_value; v++) {
        value *x = &g->value[v];
        if (x->kind != VALUE_PARAM && x->kind != VALUE_STATE)
            continue;
        const store_entry *e = store_find(s, x->name);
        if (!e)
            return fail(ST_INTERNAL, "parameter '%s' is not in the store", x->name);
        void *copy;
        TRY(graph_alloc_data(g, tensor_bytes(&e->t), &copy));
        memcpy(copy, e->t.data, tensor_bytes(&e->t));
        x->data = copy;
        x->kind = VALUE_CONST;
    }
    return ST_OK;
}

size_t store_bytes(const store *s)
{
    size_t total = 0;
    for (size_t i = 0; i < s->n; i++)
        total += tensor_bytes(&s->at[i].t);
    return total;
}

void store_free(store *s)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->remote)
            s->remote->free(s->remote, s->at[i].device, tensor_bytes(&s->at[i].t));
        tensor_free(&s->at[i].t);
    }
    mem_free(s->at);
    *s = (store){0};
}

/* ---- on a device ---- */

status store_place(store *s, backend *b)
{
    if (!b->remote)
        return ST_OK;
    if (s->remote && s->remote != b)
        return fail(ST_INTERNAL, "a store of one device is used on another");
    s->remote = b;
    for (size_t i = 0; i < s->n; i++) {
        store_entry *e = &s->at[i];
        if (e->device)
            continue;
        TRY(b->alloc(b, tensor_bytes(&e->t), &e->device));
        TRY(b->remote->copy(b, e->device, e->t.data, tensor_bytes(&e->t), COPY_TO_DEVICE));
    }
    return b->remote->wait(b);
}

static status store_move(store *s, copy_way way)
{
    for (size_t i = 0; i < s->n; i++) {
        store_entry *e = &s->at[i];
        size_t bytes = tensor_bytes(&e->t);
        TRY(way == COPY_TO_HOST ? s->remote->remote->copy(s->remote, e->t.data, e->device, bytes, way)
                                : s->remote->remote->copy(s->remote, e->device, e->t.data, bytes, way));
    }
    TRY(s->remote->remote->wait(s->remote));
    s->host_newer = s->device_newer = false;
    s->written += way == COPY_TO_DEVICE;
    return ST_OK;
}

status store_pull(store *s)
{
    return s->remote && s->device_newer ? store_move(s, COPY_TO_HOST) : ST_OK;
}

status store_push(store *s)
{
    return s->remote && s->host_newer ? store_move(s, COPY_TO_DEVICE) : ST_OK;
}

void store_changed(store *s)
{
    s->host_newer = true;
    s->device_newer = false;
}
