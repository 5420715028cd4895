/* scope.c - the names of a graph or function body, and the order in which its nodes are imported.
 *
 * ONNX wants nodes in topological order and each name made once. The second is demanded; of the first only that an order
 * exists: nodes are visited depth-first from the wanted values, in file order where several may come next. */
#include "onnx/importer.h"

#include <string.h>

symbol *scope_find(const scope *s, const char *name)
{
    uint32_t i = name_map_get(&s->names, name);
    return i ? &s->sym[i - 1] : NULL;
}

status scope_declare(importer *im, scope *s, const char *name, symbol **out)
{
    uint32_t *slot;
    if (s->n_sym >= im->m->lim.tensors)
        return fail(ST_BAD_DATA, "more than %llu tensors (limits.tensors)",
                    (unsigned long long)im->m->lim.tensors);
    TRY(name_map_put(&s->names, name, &slot));
    if (*slot)
        return fail(ST_BAD_DATA, "two things are called '%s'", name);
    TRY(mem_push(&s->sym, &s->cap_sym, s->n_sym, sizeof *s->sym));
    symbol *sym = &s->sym[s->n_sym++];
    *slot = (uint32_t)s->n_sym;
    *sym = (symbol){.name = name, .value_name = name};
    if (*s->prefix)
        TRY(arena_printf(&im->mem, &sym->value_name, "%s%s", s->prefix, name));
    *out = sym;
    return ST_OK;
}

void scope_free(scope *s)
{
    name_map_free(&s->names);
    mem_free(s->sym);
}

status scope_declare_nodes(importer *im, scope *s)
{
    if (s->n_node > im->m->lim.nodes || im->n_nodes + s->n_node > im->m->lim.nodes)
        return fail(ST_BAD_DATA, "more than %llu nodes (limits.nodes)", (unsigned long long)im->m->lim.nodes);
    im->n_nodes += s->n_node;
    for (size_t k = 0; k < s->n_node; k++) {
        const Onnx__NodeProto *n = s->node[k];
        for (size_t i = 0; i < n->n_output; i++) {
            symbol *sym;
            if (!*n->output[i])
                continue;
            if (scope_find(s, n->output[i]))
                return node_fail(s, n, "its output '%s' is made elsewhere too", n->output[i]);
            TRY(scope_declare(im, s, n->output[i], &sym));
            sym->node = (uint32_t)k + 1;
        }
    }
    return ST_OK;
}

/* ---- dependencies ---- */

typedef struct dependencies {
    uint32_t *on; /* indices of nodes of the same scope */
    size_t n, cap;
    const Onnx__GraphProto **todo; /* subgraphs still to be looked at */
    size_t n_todo, cap_todo;
} dependencies;

static status depend_on(const scope *s, dependencies *d, const char *name)
{
    symbol *sym = scope_find(s, name);
    if (!sym)
        return ST_OK; /* of an outer scope, or missing: the import of the node says so */
    sym->used = true;
    if (!sym->node)
        return ST_OK;
    TRY(mem_push(&d->on, &d->cap, d->n, sizeof *d->on));
    d->on[d->n++] = sym->node - 1;
    return ST_OK;
}

static status push_subgraphs(dependencies *d, const Onnx__NodeProto *n)
{
    for (size_t a = 0; a < n->n_attribute; a++) {
        const Onnx__AttributeProto *at = n->attribute[a];
        for (size_t i = 0; i < at->n_graphs + (at->g != NULL); i++) {
            TRY(mem_push(&d->todo, &d->cap_todo, d->n_todo, sizeof *d->todo));
            d->todo[d->n_todo++] = i < at->n_graphs ? at->graphs[i] : at->g;
        }
    }
    return ST_OK;
}

/* Names that a node reads: its inputs and what its subgraphs capture. */
static status find_dependencies(const scope *s, const Onnx__NodeProto *n, dependencies *d)
{
    for (size_t i = 0; i < n->n_input; i++)
        TRY(depend_on(s, d, n->input[i]));
    TRY(push_subgraphs(d, n));
    while (d->n_todo > 0) {
        const Onnx__GraphProto *g = d->todo[--d->n_todo];
        for (size_t k = 0; k < g->n_node; k++) {
            for (size_t i = 0; i < g->node[k]->n_input; i++)
                TRY(depend_on(s, d, g->node[k]->input[i]));
            TRY(push_subgraphs(d, g->node[k]));
        }
        for (size_t i = 0; i < g->n_output; i++)
            if (g->output[i]->name)
                TRY(depend_on(s, d, g->output[i]->name));
    }
    return ST_OK;
}

/* ---- order ---- */

enum { NEW, ACTIVE, DONE };

typedef struct walk {
    importer *im;
    const scope *s;
    dependencies d;
    uint8_t *known; /* [n_node] dependencies have been found: first[k] to last[k] of d.on */
    uint8_t *needed, *state;
    size_t *first, *last;
    uint32_t *stack, *next; /* stack of nodes; next[node]: which dependency comes next */
    size_t depth;
    uint32_t *order;
    size_t n_order;
} walk;

static status expand(walk *w, uint32_t k)
{
    if (w->known[k])
        return ST_OK;
    w->known[k] = 1;
    w->first[k] = w->d.n;
    TRY(find_dependencies(w->s, w->s->node[k], &w->d));
    w->last[k] = w->d.n;
    return ST_OK;
}

/* Marks everything that `k` needs. */
static status mark_needed(walk *w, uint32_t k)
{
    if (w->needed[k])
        return ST_OK;
    w->needed[k] = 1;
    w->stack[w->depth++] = k;
    while (w->depth > 0) {
        uint32_t at = w->stack[--w->depth];
        TRY(expand(w, at));
        for (size_t i = w->first[at]; i < w->last[at]; i++)
            if (!w->needed[w->d.on[i]]) {
                w->needed[w->d.on[i]] = 1;
                w->stack[w->depth++] = w->d.on[i];
            }
    }
    return ST_OK;
}

/* Puts `k` into the order, after what it needs. */
static status visit(walk *w, uint32_t k)
{
    if (w->state[k] != NEW)
        return ST_OK;
    w->state[k] = ACTIVE;
    w->stack[w->depth++] = k;
    while (w->depth > 0) {
        uint32_t at = w->stack[w->depth - 1];
        if (w->first[at] + w->next[at] == w->last[at]) {
            w->state[at] = DONE;
            w->order[w->n_order++] = at;
            w->depth--;
            continue;
        }
        uint32_t on = w->d.on[w->first[at] + w->next[at]++];
        if (w->state[on] == ACTIVE)
            return node_fail(w->s, w->s->node[at], "it depends on its own output (a cycle through node '%s')",
                             node_label(w->s->node[on]));
        if (w->state[on] == NEW) {
            w->state[on] = ACTIVE;
            w->stack[w->depth++] = on;
        }
    }
    return ST_OK;
}

status scope_order(importer *im, scope *s, symbol *const *wanted, size_t n_wanted, uint32_t **order,
                   size_t *n)
{
    walk w = {.im = im, .s = s};
    arena scratch = {0};
    status st = ST_OK;
    TRY_DONE(arena_alloc(&scratch, &w.known, s->n_node, 1));
    TRY_DONE(arena_alloc(&scratch, &w.needed, s->n_node, 1));
    TRY_DONE(arena_alloc(&scratch, &w.state, s->n_node, 1));
    TRY_DONE(arena_alloc(&scratch, &w.first, s->n_node, sizeof *w.first));
    TRY_DONE(arena_alloc(&scratch, &w.last, s->n_node, sizeof *w.last));
    TRY_DONE(arena_alloc(&scratch, &w.stack, s->n_node, sizeof *w.stack));
    TRY_DONE(arena_alloc(&scratch, &w.next, s->n_node, sizeof *w.next));
    TRY_DONE(arena_alloc(&im->mem, &w.order, s->n_node, sizeof *w.order));
    for (size_t i = 0; i < n_wanted; i++) {
        wanted[i]->used = true;
        if (wanted[i]->node)
            TRY_DONE(mark_needed(&w, wanted[i]->node - 1));
    }
    for (uint32_t k = 0; k < s->n_node; k++)
        if (w.needed[k])
            TRY_DONE(visit(&w, k));
    *order = w.order;
    *n = w.n_order;
done:
    mem_free(w.d.on);
    mem_free(w.d.todo);
    arena_free(&scratch);
    return st;
}

status scope_run(importer *im, scope *s, const uint32_t *order, size_t n)
{
    enum { DEPTH_MAX = 32 };
    if (im->depth >= DEPTH_MAX)
        return fail(ST_BAD_DATA,
                    "functions and subgraphs nested deeper than %d (does a function call itself?)",
                    DEPTH_MAX);
    im->depth++;
    for (size_t i = 0; i < n; i++)
        TRY(import_node(im, s, s->node[order[i]]));
    im->depth--;
    return ST_OK;
}

/* ---- values ---- */

#define IN_PLACE ((size_t)64 << 10) /* smaller ones are copied: they would keep the file's bytes from being given back */

/* A large weight is not copied: the graph shares the bytes of the file. */
static status add_in_place(importer *im, symbol *sym, const char *what)
{
    tensor t;
    if (!sym->init->has_raw_data || sym->init->raw_data.len < IN_PLACE)
        return ST_OK;
    const char *at = (const char *)sym->init->raw_data.data, *from = mem_shared_data(im->m->weights);
    if (at < from || at >= from + mem_shared_bytes(im->m->weights))
        return ST_OK;
    TRY(tensor_in_place(&im->src, sym->init, what, &t));
    if (!t.data)
        return ST_OK;
    sym->made = true;
    return graph_add_shared(im->g, sym->value_name, VALUE_CONST, t.type, t.sh, t.data, im->m->weights, &sym->v);
}

static status load_initializer(importer *im, symbol *sym)
{
    tensor t;
    const char *what;
    TRY(arena_printf(&im->mem, &what, "initializer '%s'", sym->name));
    TRY(add_in_place(im, sym, what));
    if (sym->made)
        return mark_from_init(im, sym->v);
    TRY(tensor_from_proto(&im->src, sym->init, what, &t));
    status st = graph_add_data(im->g, sym->value_name, VALUE_CONST, t.type, t.sh, t.data, &sym->v);
    tensor_free(&t);
    TRY(st);
    sym->made = true;
    return mark_from_init(im, sym->v);
}

status scope_value(importer *im, const scope *s, const char *name, value_id *v)
{
    for (; s; s = s->outer) {
        symbol *sym = scope_find(s, name);
        if (!sym)
            continue;
        if (!sym->made && sym->init)
            TRY(load_initializer(im, sym));
        if (!sym->made)
            break;
        *v = sym->v;
        return ST_OK;
    }
    return fail(ST_BAD_DATA, "the value '%s' is made by no node, initializer or input", name);
}
