/* qat_hints.c - which hints go on while a student trains with rounding, and where they read it.
 *
 * A hint reads what the integer model computes: the rounded feature where it is rounded. Values that folding only renames (the result
 * of a batch norm that a convolution takes in, of a dropout) keep their names for it; a hint on what is no longer computed as such
 * is left out, and the log says so. */
#include "base/log.h"
#include "train/session_qat.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const bool norms[OP_COUNT] = {[OP_BATCH_NORM] = true}, rounds[OP_COUNT] = {[OP_FAKE_QUANT] = true},
                  convolves[OP_COUNT] = {[OP_CONV] = true};
/* Nodes that leave a factor as it is. */
static const bool passes_on[OP_COUNT] = {[OP_FLATTEN] = true, [OP_RESHAPE] = true, [OP_SQUEEZE] = true, [OP_TRANSPOSE] = true,
                                         [OP_MAX_POOL] = true, [OP_RELU] = true};

/* The node that makes v in this graph; 0: none does (any more). */
static node_id maker(const graph *g, value_id v)
{
    node_id k = v ? g->value[v].from : 0;
    for (int i = 0; k && k < g->n_node && i < g->node[k].n_out; i++)
        if (g->node[k].out[i] == v)
            return k;
    return 0;
}

status qat_mark_hints(const session *s, graph *g)
{
    for (size_t i = 0; i < s->qat->base->n_hint; i++) {
        const value_id v = graph_find(g, s->qat->base->hint[i].student);
        const node_id k = maker(g, v);
        bool marked = !k || !(norms[g->node[k].op] || (op_of(g->node[k].op)->flags & OP_SAME_VALUE));
        for (size_t o = 0; o < g->n_output; o++)
            marked |= g->output[o] == v;
        if (!marked)
            TRY(graph_add_output(g, v));
    }
    return ST_OK;
}

status qat_unmark_hints(graph *g)
{
    g->n_output = 1;
    return pass_dead_nodes(g);
}

/* The result of the batch norm that alone reads v; 0: there is none. */
static value_id normed(const graph *g, value_id v)
{
    value_id found = 0;
    for (size_t k = 1; k < g->n_node; k++)
        for (int i = 0; i < g->node[k].n_in; i++) {
            if (g->node[k].in[i] != v)
                continue;
            if (found || i != 0 || !norms[g->node[k].op])
                return 0;
            found = g->node[k].out[0];
        }
    return found;
}

/* The factor by which the portable form has v: an average over no power of two leaves a part of it to the weights behind. */
static double factor_of(const graph *g, value_id v)
{
    node_id k = maker(g, v);
    while (k && passes_on[g->node[k].op])
        k = maker(g, g->node[k].in[0]);
    if (!k || !convolves[g->node[k].op])
        return 1;
    const value *w = &g->value[g->node[k].in[1]];
    if (!(w->flags & VALUE_FIXED) || w->type != DTYPE_F32 || !w->data || w->sh.dim[0] < 1)
        return 1;
    return (double)((const float *)w->data)[0] * (double)(shape_count(&w->sh) / w->sh.dim[0]);
}

/* Why a hint on `name` cannot go on, into `why`; "": it can. was, g: the student as it was trained and as qat_insert gets it. */
static void judge(const graph *was, const graph *g, const char *name, char *why, size_t room)
{
    const value_id v = graph_find(g, name), behind = normed(was, graph_find(was, name));
    why[0] = 0;
    if (behind && !(maker(g, v) && maker(g, graph_find(g, was->value[behind].name))))
        snprintf(why, room, "the batch normalisation '%s' is folded into what makes it; that value can be hinted at", was->value[behind].name);
    else if (!maker(g, v))
        snprintf(why, room, "it is computed inside a product");
    else if (factor_of(g, v) != 1)
        snprintf(why, room, "the portable form has it times %.6g", factor_of(g, v));
}

status qat_choose_hints(session *s, const graph *was, const graph *g)
{
    const session *base = s->qat->base;
    const size_t n = base->n_hint;
    char why[600];
    s->n_hint = 0;
    TRY(arena_alloc(&s->mem, &s->hint, n + 1, sizeof *s->hint));
    TRY(arena_alloc(&s->mem, &s->hint_from, n + 1, sizeof *s->hint_from));
    TRY(arena_alloc(&s->mem, &s->hint_to, n + 1, sizeof *s->hint_to));
    TRY(arena_alloc(&s->mem, &s->qat->tap, n + 1, sizeof *s->qat->tap));
    for (size_t i = 0; i < n; i++) {
        judge(was, g, base->hint[i].student, why, sizeof why);
        if (*why) {
            log_warn("variant %s: [hint %s] is left out: the student's '%s' is not there as it was: %s", s->qat->key, base->hint[i].name,
                     base->hint[i].student, why);
            continue;
        }
        s->hint[s->n_hint] = base->hint[i];
        s->hint_from[s->n_hint] = base->hint_from[i];
        s->hint_to[s->n_hint] = base->hint_to[i];
        s->qat->tap[s->n_hint++] = i + 1;
    }
    return ST_OK;
}

status qat_round_hints(session *s, const graph *rounded)
{
    for (size_t i = 0; i < s->n_hint; i++) {
        const char *name;
        TRY(arena_printf(&s->mem, &name, "%s.rounded", s->hint[i].student));
        const node_id k = maker(rounded, graph_find(rounded, name));
        if (k && rounds[rounded->node[k].op])
            s->hint[i].student = name;
    }
    return ST_OK;
}
