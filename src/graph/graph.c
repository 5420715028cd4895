/* graph.c - making, finding and replacing values and nodes.
 *
 * Everything is in the graph's arena; arrays of values and nodes grow, so pointers into them die at the next add. */
#include "graph/graph.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Open addressing, keyed by the name's hash: name -> value. Slots hold value ids, 0 is empty. */
struct name_index {
    value_id *slot;
    size_t cap, used;
};

static uint64_t name_hash(const char *s)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 1099511628211u;
    return h;
}

static size_t index_slot(const graph *g, const char *name)
{
    size_t mask = g->names->cap - 1, i = name_hash(name) & mask;
    while (g->names->slot[i] && strcmp(g->value[g->names->slot[i]].name, name) != 0)
        i = (i + 1) & mask;
    return i;
}

static status index_reserve(graph *g)
{
    struct name_index *x = g->names;
    if (x->used * 2 + 2 <= x->cap)
        return ST_OK;
    size_t cap = x->cap ? x->cap * 2 : 256;
    value_id *old = x->slot, *slot;
    TRY(mem_alloc(&slot, cap, sizeof *slot));
    x->slot = slot;
    x->cap = cap;
    for (size_t v = 1; v < g->n_value; v++)
        if (g->value[v].name)
            x->slot[index_slot(g, g->value[v].name)] = (value_id)v;
    mem_free(old);
    return ST_OK;
}

void graph_index_names(graph *g)
{
    memset(g->names->slot, 0, g->names->cap * sizeof *g->names->slot);
    for (size_t v = 1; v < g->n_value; v++)
        g->names->slot[index_slot(g, g->value[v].name)] = (value_id)v;
    g->names->used = g->n_value - 1;
}

status graph_new(graph **out)
{
    graph *g;
    status st = ST_OK;
    TRY(mem_alloc(&g, 1, sizeof *g));
    TRY_DONE(mem_alloc(&g->names, 1, sizeof *g->names));
    TRY_DONE(mem_push(&g->value, &g->cap_value, 0, sizeof *g->value));
    TRY_DONE(mem_push(&g->node, &g->cap_node, 0, sizeof *g->node));
    g->value[0] = (value){.name = ""};
    g->node[0] = (node){.name = ""};
    g->n_value = g->n_node = 1;
    TRY_DONE(index_reserve(g));
    *out = g;
    return ST_OK;
done:
    graph_free(g);
    return st;
}

void graph_free(graph *g)
{
    if (!g)
        return;
    if (g->names)
        mem_free(g->names->slot);
    mem_free(g->names);
    mem_free(g->value);
    mem_free(g->node);
    mem_free(g->input);
    mem_free(g->output);
    for (size_t i = 0; i < g->n_held; i++)
        mem_drop(g->held[i]);
    mem_free(g->held);
    arena_free(&g->mem);
    mem_free(g);
}

value_id graph_find(const graph *g, const char *name)
{
    return g->names->slot[index_slot(g, name)];
}

static status unique_name(graph *g, const char *wanted, const char **out)
{
    if (!graph_find(g, wanted))
        return arena_strdup(&g->mem, out, wanted);
    char number[24];
    for (size_t k = 2;; k++) {
        const char *name;
        snprintf(number, sizeof number, "_%zu", k);
        TRY(arena_printf(&g->mem, &name, "%s%s", wanted, number));
        if (!graph_find(g, name)) {
            *out = name;
            return ST_OK;
        }
        if (k > 16) /* many of one name: jump, so that n of them do not cost n^2 */
            k += g->n_value / 4;
    }
}

status graph_add_value(graph *g, const char *name, dtype type, shape sh, value_kind kind, value_id *out)
{
    size_t bytes;
    char numbered[24];
    value v = {.type = type, .sh = sh, .kind = kind};
    TRY(shape_bytes(&sh, type, &bytes));
    TRY(mem_push(&g->value, &g->cap_value, g->n_value, sizeof *g->value));
    TRY(index_reserve(g));
    snprintf(numbered, sizeof numbered, "v%zu", g->n_value);
    TRY(unique_name(g, name && *name ? name : numbered, &v.name));
    g->value[g->n_value] = v;
    g->names->slot[index_slot(g, v.name)] = (value_id)g->n_value;
    g->names->used++;
    *out = (value_id)g->n_value++;
    return ST_OK;
}

status graph_add_input(graph *g, const char *name, dtype type, shape sh, value_id *out)
{
    TRY(mem_push(&g->input, &g->cap_input, g->n_input, sizeof *g->input));
    TRY(graph_add_value(g, name, type, sh, VALUE_INPUT, out));
    g->input[g->n_input++] = *out;
    return ST_OK;
}

status graph_add_output(graph *g, value_id v)
{
    TRY(mem_push(&g->output, &g->cap_output, g->n_output, sizeof *g->output));
    g->output[g->n_output++] = v;
    return ST_OK;
}

#define LARGE_DATA ((size_t)64 << 10) /* gets a buffer of its own, which other graphs may hold too */

/* The graph becomes a holder of `m`, once. */
static status hold(graph *g, mem_shared *m)
{
    for (size_t i = g->n_held; i-- > 0;) /* the last one is the likely one: all weights of a file lie in one buffer */
        if (g->held[i] == m)
            return ST_OK;
    TRY(mem_push(&g->held, &g->cap_held, g->n_held, sizeof *g->held));
    g->held[g->n_held++] = mem_hold(m);
    return ST_OK;
}

static bool lies_in(const mem_shared *m, const void *data)
{
    uintptr_t at = (uintptr_t)data, from = (uintptr_t)mem_shared_data(m);
    return at >= from && at < from + mem_shared_bytes(m);
}

static mem_shared *home_of(const graph *g, const void *data)
{
    for (size_t i = 0; data && i < g->n_held; i++)
        if (lies_in(g->held[i], data))
            return g->held[i];
    return NULL;
}

status graph_alloc_data(graph *g, size_t bytes, void *out)
{
    mem_shared *m;
    if (bytes < LARGE_DATA)
        return arena_alloc(&g->mem, out, bytes, 1);
    TRY(mem_share(bytes, &m));
    status st = hold(g, m);
    void *data = mem_shared_data(m);
    mem_drop(m);
    if (st == ST_OK)
        memcpy(out, &data, sizeof data);
    return st;
}

status graph_add_shared(graph *g, const char *name, value_kind kind, dtype type, shape sh, const void *data,
                        mem_shared *home, value_id *out)
{
    TRY(graph_add_value(g, name, type, sh, kind, out));
    TRY(hold(g, home));
    g->value[*out].data = data;
    return ST_OK;
}

static size_t data_bytes(const value *v)
{
    return (size_t)shape_count(&v->sh) * dtype_of(v->type)->size;
}

/* Of one buffer, which nobody else holds: returns the pages before the kept data that comes next after `at`, and where
 * that data ends; the buffer's end when there is none. */
static char *discard_to_next(const graph *g, const mem_shared *m, char *at)
{
    char *end = mem_shared_data(m) + mem_shared_bytes(m), *next = end, *after = end;
    for (size_t v = 1; v < g->n_value; v++) {
        const value *x = &g->value[v];
        if (!x->data || !lies_in(m, x->data))
            continue;
        char *from = (char *)(uintptr_t)x->data, *to = from + data_bytes(x);
        if (to <= at || from >= next)
            continue;
        next = from > at ? from : at;
        after = to;
    }
    mem_discard(at, next);
    return after;
}

void graph_keep_data(graph *g, const bool *keep)
{
    size_t left = 0;
    for (size_t v = 1; v < g->n_value; v++)
        if (!keep[v])
            g->value[v].data = NULL;
    for (size_t i = 0; i < g->n_held; i++) {
        mem_shared *m = g->held[i];
        bool used = false;
        for (size_t v = 1; v < g->n_value && !used; v++)
            used = g->value[v].data && lies_in(m, g->value[v].data);
        if (!used) {
            mem_drop(m);
            continue;
        }
        char *end = mem_shared_data(m) + mem_shared_bytes(m);
        for (char *at = mem_shared_data(m); mem_held_once(m) && at < end;)
            at = discard_to_next(g, m, at);
        g->held[left++] = m;
    }
    g->n_held = left;
}

status graph_add_data(graph *g, const char *name, value_kind kind, dtype type, shape sh, const void *data,
                      value_id *out)
{
    size_t bytes;
    void *copy = NULL;
    TRY(shape_bytes(&sh, type, &bytes));
    if (data || kind == VALUE_CONST) {
        TRY(graph_alloc_data(g, bytes, &copy));
        if (data)
            memcpy(copy, data, bytes);
    }
    TRY(graph_add_value(g, name, type, sh, kind, out));
    g->value[*out].data = copy;
    return ST_OK;
}

status graph_add_fill(graph *g, dtype type, shape sh, double number, value_id *out)
{
    TRY(graph_add_data(g, NULL, VALUE_CONST, type, sh, NULL, out));
    void *data = (void *)(uintptr_t)g->value[*out].data; /* our own copy, written once before anyone reads it */
    int64_t n = shape_count(&sh);
    for (int64_t i = 0; i < n; i++)
        dtype_store(type, data, i, number);
    return ST_OK;
}

/* Copies the lists that an attribute struct points to. */
static status copy_attrs(graph *g, const op_desc *d, const void *from, void **to)
{
    char *copy;
    TRY(arena_alloc(&g->mem, &copy, 1, d->attr_size));
    memcpy(copy, from, d->attr_size);
    for (const attr_desc *a = d->attrs; a && a->name; a++) {
        if (a->type != ATTR_INTS && a->type != ATTR_FLOATS)
            continue;
        attr_ints list; /* attr_floats has the same layout: a count and a pointer to 8-byte elements */
        memcpy(&list, copy + a->offset, sizeof list);
        if (!list.v)
            continue;
        int64_t *v;
        TRY(arena_alloc(&g->mem, &v, (size_t)(list.n ? list.n : 1), sizeof *v));
        memcpy(v, list.v, (size_t)list.n * sizeof *v);
        list.v = v;
        memcpy(copy + a->offset, &list, sizeof list);
    }
    *to = copy;
    return ST_OK;
}

void op_default_attrs(op_id op, void *attr)
{
    const op_desc *d = op_of(op);
    char *to = attr;
    memset(to, 0, d->attr_size);
    for (const attr_desc *a = d->attrs; a && a->name; a++) {
        int64_t whole = (int64_t)a->def;
        if (a->type == ATTR_FLOAT)
            memcpy(to + a->offset, &a->def, sizeof a->def);
        else if (a->type == ATTR_INT || a->type == ATTR_CHOICE || a->type == ATTR_DTYPE)
            memcpy(to + a->offset, &whole, sizeof whole);
    }
}

static status check_arity(const op_desc *d, const char *name, size_t n_in, size_t n_out)
{
    if ((int)n_in < d->in.min || (d->in.max >= 0 && (int)n_in > d->in.max))
        return fail(ST_BAD_DATA, "node '%s': %s takes %d to %d inputs, %zu given", name, d->name, d->in.min, d->in.max,
                    n_in);
    if ((int)n_out < d->out.min || (d->out.max >= 0 && (int)n_out > d->out.max))
        return fail(ST_BAD_DATA, "node '%s': %s has %d to %d outputs, %zu wanted", name, d->name, d->out.min,
                    d->out.max, n_out);
    return ST_OK;
}

status graph_add_named(graph *g, const char *name, op_id op, const void *attr, const value_id *in, size_t n_in,
                       const char *const *out_names, value_id *out, size_t n_out)
{
    const op_desc *d = op_of(op);
    node n = {.op = op, .n_in = (uint16_t)n_in, .n_out = (uint16_t)n_out, .when = g->when};
    void *attrs = NULL;
    if (name && *name)
        TRY(arena_strdup(&g->mem, &n.name, name));
    else
        TRY(arena_printf(&g->mem, &n.name, "%s_%zu", d->name, g->n_node));
    if (n_in > UINT16_MAX || n_out > UINT16_MAX)
        return fail(ST_BAD_DATA, "node '%s': %s with more than 65535 operands", n.name, d->name);
    TRY(check_arity(d, n.name, n_in, n_out));
    TRY(mem_push(&g->node, &g->cap_node, g->n_node, sizeof *g->node));
    TRY(arena_alloc(&g->mem, &n.in, n_in, sizeof *n.in));
    TRY(arena_alloc(&g->mem, &n.out, n_out, sizeof *n.out));
    if (d->attr_size && attr) {
        TRY(copy_attrs(g, d, attr, &attrs));
    } else if (d->attr_size) {
        TRY(arena_alloc(&g->mem, &attrs, 1, d->attr_size));
        op_default_attrs(op, attrs);
    }
    n.attr = attrs;
    for (size_t i = 0; i < n_in; i++) {
        n.in[i] = in[i];
        if (in[i] >= g->n_value || (in[i] == 0 && (int)i < d->in.min))
            return fail(ST_BAD_DATA, "node '%s': %s lacks its input %zu", n.name, d->name, i);
    }
    size_t first = g->n_value;
    for (size_t i = 0; i < n_out; i++) {
        if (out_names && (!out_names[i] || !*out_names[i]) && (int)i >= d->out.min)
            continue; /* an optional output nobody wants */
        const char *made = NULL;
        if (!out_names)
            TRY(arena_printf(&g->mem, &made, i ? "%s_out%zu" : "%s_out", n.name, i));
        TRY(graph_add_value(g, out_names ? out_names[i] : made, DTYPE_NONE, (shape){0}, VALUE_TEMP, &n.out[i]));
        g->value[n.out[i]].from = (node_id)g->n_node;
    }
    status st = d->infer(g, &n);
    size_t bytes;
    for (size_t i = 0; i < n_out && st == ST_OK; i++)
        if (n.out[i]) {
            st = shape_bytes(&g->value[n.out[i]].sh, g->value[n.out[i]].type, &bytes);
            if (st != ST_OK)
                st = fail_within(st, "node '%s' (%s)", n.name, d->name);
        }
    if (st != ST_OK) { /* take the half-made values back */
        g->n_value = first;
        graph_index_names(g);
        return st;
    }
    g->node[g->n_node++] = n;
    for (size_t i = 0; i < n_out; i++)
        if (out)
            out[i] = n.out[i];
    return ST_OK;
}

status graph_add(graph *g, op_id op, const void *attr, const value_id *in, size_t n_in, value_id *out, size_t n_out)
{
    return graph_add_named(g, NULL, op, attr, in, n_in, NULL, out, n_out);
}

status graph_add1(graph *g, op_id op, const void *attr, value_id a, value_id b, value_id c, value_id *out)
{
    value_id in[3] = {a, b, c};
    return graph_add(g, op, attr, in, c ? 3 : b ? 2 : 1, out, 1);
}

status graph_rename(graph *g, value_id v, const char *name)
{
    value_id other = graph_find(g, name);
    if (other && other != v)
        return fail(ST_INTERNAL, "value name '%s' is taken", name);
    TRY(arena_strdup(&g->mem, &g->value[v].name, name));
    graph_index_names(g);
    return ST_OK;
}

void graph_replace(graph *g, value_id from, value_id to)
{
    for (size_t k = 1; k < g->n_node; k++)
        for (int i = 0; i < g->node[k].n_in; i++)
            if (g->node[k].in[i] == from)
                g->node[k].in[i] = to;
    for (size_t i = 0; i < g->n_output; i++)
        if (g->output[i] == from)
            g->output[i] = to;
}

status graph_count_uses(const graph *g, uint32_t **uses)
{
    TRY(mem_alloc(uses, g->n_value, sizeof **uses));
    for (size_t k = 1; k < g->n_node; k++)
        for (int i = 0; i < g->node[k].n_in; i++)
            (*uses)[g->node[k].in[i]]++;
    for (size_t i = 0; i < g->n_output; i++)
        (*uses)[g->output[i]]++;
    return ST_OK;
}

status graph_splice(graph *dst, const graph *src, value_id *map, const char *prefix)
{
    arena scratch = {0};
    status st = ST_OK;
    for (size_t v = 1; v < src->n_value; v++) {
        const value *from = &src->value[v];
        const char *name;
        if (map[v] || from->kind == VALUE_TEMP)
            continue;
        TRY_DONE(arena_printf(&scratch, &name, "%s%s", prefix, from->name));
        if (from->kind == VALUE_INPUT)
            TRY_DONE(graph_add_input(dst, name, from->type, from->sh, &map[v]));
        else if (home_of(src, from->data))
            TRY_DONE(graph_add_shared(dst, name, from->kind, from->type, from->sh, from->data, home_of(src, from->data),
                                      &map[v]));
        else
            TRY_DONE(graph_add_data(dst, name, from->kind, from->type, from->sh, from->data, &map[v]));
        dst->value[map[v]].flags = from->flags;
    }
    for (size_t k = 1; k < src->n_node; k++) {
        const node *n = &src->node[k];
        value_id *in, *out;
        const char **names, *name;
        TRY_DONE(arena_alloc(&scratch, &in, n->n_in, sizeof *in));
        TRY_DONE(arena_alloc(&scratch, &out, n->n_out, sizeof *out));
        TRY_DONE(arena_alloc(&scratch, &names, n->n_out, sizeof *names));
        for (int i = 0; i < n->n_in; i++)
            in[i] = map[n->in[i]];
        for (int i = 0; i < n->n_out; i++)
            if (n->out[i])
                TRY_DONE(arena_printf(&scratch, &names[i], "%s%s", prefix, src->value[n->out[i]].name));
        TRY_DONE(arena_printf(&scratch, &name, "%s%s", prefix, n->name));
        phase before = dst->when;
        dst->when = n->when;
        st = graph_add_named(dst, name, n->op, n->attr, in, n->n_in, names, out, n->n_out);
        dst->when = before;
        if (st != ST_OK)
            goto done;
        for (int i = 0; i < n->n_out; i++)
            if (n->out[i])
                map[n->out[i]] = out[i];
    }
done:
    arena_free(&scratch);
    return st;
}

status graph_clone(const graph *g, graph **out)
{
    graph *copy = NULL;
    value_id *map = NULL;
    status st = ST_OK;
    TRY_DONE(mem_alloc(&map, g->n_value, sizeof *map));
    TRY_DONE(graph_new(&copy));
    TRY_DONE(graph_splice(copy, g, map, ""));
    for (size_t i = 0; i < g->n_output; i++)
        TRY_DONE(graph_add_output(copy, map[g->output[i]]));
    *out = copy;
    copy = NULL;
done:
    graph_free(copy);
    mem_free(map);
    return st;
}

static status copy_ids(graph *g, value_id **ids, size_t n)
{
    value_id *copy = NULL;
    TRY(arena_alloc(&g->mem, &copy, n, sizeof *copy));
    memcpy(copy, *ids, n * sizeof *copy);
    *ids = copy;
    return ST_OK;
}

static status copy_array(void *array, size_t *cap, const void *from, size_t n, size_t size)
{
    void *copy;
    TRY(mem_alloc(&copy, n + 1, size));
    if (n)
        memcpy(copy, from, n * size);
    *cap = n + 1;
    memcpy(array, &copy, sizeof copy);
    return ST_OK;
}

status graph_share(const graph *g, graph **out)
{
    graph *copy = NULL;
    size_t slots = 0;
    status st = ST_OK;
    TRY_DONE(mem_alloc(&copy, 1, sizeof *copy));
    TRY_DONE(copy_array(&copy->value, &copy->cap_value, g->value, g->n_value, sizeof *g->value));
    TRY_DONE(copy_array(&copy->node, &copy->cap_node, g->node, g->n_node, sizeof *g->node));
    TRY_DONE(copy_array(&copy->input, &copy->cap_input, g->input, g->n_input, sizeof *g->input));
    TRY_DONE(copy_array(&copy->output, &copy->cap_output, g->output, g->n_output, sizeof *g->output));
    TRY_DONE(mem_alloc(&copy->names, 1, sizeof *copy->names));
    *copy->names = (struct name_index){.cap = g->names->cap, .used = g->names->used};
    TRY_DONE(copy_array(&copy->names->slot, &slots, g->names->slot, g->names->cap, sizeof *g->names->slot));
    copy->n_value = g->n_value;
    copy->n_node = g->n_node;
    copy->n_input = g->n_input;
    copy->n_output = g->n_output;
    for (size_t k = 1; k < g->n_node; k++) { /* passes rewrite operands in place */
        TRY_DONE(copy_ids(copy, &copy->node[k].in, g->node[k].n_in));
        TRY_DONE(copy_ids(copy, &copy->node[k].out, g->node[k].n_out));
        if (g->node[k].attr) { /* inference completes attributes in place */
            void *attr;
            TRY_DONE(copy_attrs(copy, op_of(g->node[k].op), g->node[k].attr, &attr));
            copy->node[k].attr = attr;
        }
    }
    *out = copy;
    copy = NULL;
done:
    graph_free(copy);
    return st;
}

graph_stats graph_measure(const graph *g, int64_t batch)
{
    graph_stats s = {0};
    for (size_t v = 1; v < g->n_value; v++)
        if (g->value[v].kind == VALUE_PARAM)
            s.parameters += shape_count(&g->value[v].sh);
    for (size_t k = 1; k < g->n_node; k++) {
        const node *n = &g->node[k];
        const op_desc *d = op_of(n->op);
        bool has = false;
        for (int i = 0; i < n->n_in && i < 32; i++) {
            const value *v = &g->value[n->in[i]];
            if (!n->in[i] || !(d->params >> i & 1) || v->kind == VALUE_TEMP || v->kind == VALUE_INPUT)
                continue;
            has = true;
            if (v->kind == VALUE_CONST && dtype_of(v->type)->is_float)
                s.parameters += shape_count(&v->sh);
        }
        s.layers += has;
        if (d->macs)
            s.macs += d->macs(g, n) / (double)(batch > 0 ? batch : 1);
    }
    return s;
}
