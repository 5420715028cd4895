/* widen_half.c - a float16 graph on kernels of float32.
 *
 * Every float16 value becomes float32, and what an operator computes is rounded to float16 and back: the numbers are those
 * of storage in float16 with arithmetic in float32, which is how processors without float16 arithmetic run such models.
 * Operators that only move or compare numbers need no rounding; a Relu that alone reads a result is rounded in its place. */
#include "graph/widen_half.h"
#include "ops/attrs.h"

#include <string.h>

/* Results of these are numbers that came in. */
static const bool moves[OP_COUNT] = {
    [OP_RELU] = true, [OP_CLIP] = true, [OP_MAX_POOL] = true, [OP_GLOBAL_MAX_POOL] = true, [OP_TRANSPOSE] = true,
    [OP_CONCAT] = true, [OP_SPLIT] = true, [OP_SLICE] = true, [OP_GATHER] = true, [OP_EXPAND] = true, [OP_TILE] = true,
    [OP_CAST] = true, [OP_DEQUANTIZE_LINEAR] = true};
static const bool waits_for_relu[OP_COUNT] = {[OP_RELU] = true};

typedef struct widener {
    const graph *g;
    graph *w;
    value_id *map;    /* [g->n_value] */
    uint32_t *uses;
    node_id *reader;  /* [g->n_value] a reader; the only one where uses is 1 */
    uint8_t *raw;     /* [g->n_value] not rounded yet: its Relu does it */
    arena scratch;
} widener;

static status widen_data(widener *x, value_id v)
{
    const value *from = &x->g->value[v];
    int64_t n = shape_count(&from->sh);
    float *wide = NULL;
    if (from->type != DTYPE_F16)
        return graph_add_data(x->w, from->name, from->kind, from->type, from->sh, from->data, &x->map[v]);
    if (from->data) {
        TRY(arena_alloc(&x->scratch, &wide, (size_t)n, sizeof *wide));
        for (int64_t i = 0; i < n; i++)
            wide[i] = (float)dtype_load(DTYPE_F16, from->data, i);
    }
    return graph_add_data(x->w, from->name, from->kind, DTYPE_F32, from->sh, wide, &x->map[v]);
}

static status round_trip(widener *x, value_id v, const char *name, value_id *out)
{
    const cast_attrs down = {.to = DTYPE_F16, .saturate = 1}, up = {.to = DTYPE_F32, .saturate = 1};
    value_id half;
    TRY(graph_add1(x->w, OP_CAST, &down, v, 0, 0, &half));
    return graph_add_named(x->w, NULL, OP_CAST, &up, &half, 1, &name, out, 1);
}

static status widen_node(widener *x, const node *n)
{
    const graph *g = x->g;
    value_id *in, *out;
    const char **names;
    const void *attr;
    bool raw_in = n->n_in && x->raw[n->in[0]], to_half = false;
    TRY(arena_alloc(&x->scratch, &in, n->n_in, sizeof *in));
    TRY(arena_alloc(&x->scratch, &out, n->n_out, sizeof *out));
    TRY(arena_alloc(&x->scratch, &names, n->n_out, sizeof *names));
    for (int i = 0; i < n->n_in; i++)
        in[i] = x->map[n->in[i]];
    for (int i = 0; i < n->n_out; i++)
        names[i] = n->out[i] ? g->value[n->out[i]].name : NULL;
    TRY(op_retype_attrs(n, DTYPE_F16, DTYPE_F32, &x->scratch, &attr));
    to_half = n->n_in && n->in[0] && g->value[n->in[0]].type != DTYPE_F16; /* a Cast to float16 rounds */
    bool rounds = !(op_of(n->op)->flags & OP_VIEW) && (!moves[n->op] || raw_in || to_half);
    bool wait = rounds && n->n_out == 1 && x->uses[n->out[0]] == 1 && waits_for_relu[g->node[x->reader[n->out[0]]].op];
    for (int i = 0; i < n->n_out; i++)
        if (rounds && !wait && n->out[i] && g->value[n->out[i]].type == DTYPE_F16)
            TRY(arena_printf(&x->scratch, &names[i], "%s_wide", g->value[n->out[i]].name));
    TRY(graph_add_named(x->w, n->name, n->op, attr, in, n->n_in, names, out, n->n_out));
    for (int i = 0; i < n->n_out; i++) {
        value_id v = n->out[i];
        if (!v)
            continue;
        x->map[v] = out[i];
        if (!rounds || g->value[v].type != DTYPE_F16)
            continue;
        x->raw[v] = wait;
        if (!wait)
            TRY(round_trip(x, out[i], g->value[v].name, &x->map[v]));
    }
    return ST_OK;
}

static status widen(widener *x)
{
    const graph *g = x->g;
    TRY(graph_count_uses(g, &x->uses));
    TRY(mem_alloc(&x->reader, g->n_value, sizeof *x->reader));
    TRY(mem_alloc(&x->raw, g->n_value, 1));
    TRY(mem_alloc(&x->map, g->n_value, sizeof *x->map));
    for (size_t k = 1; k < g->n_node; k++)
        for (int i = 0; i < g->node[k].n_in; i++)
            x->reader[g->node[k].in[i]] = (node_id)k;
    for (size_t i = 0; i < g->n_input; i++) {
        const value *v = &g->value[g->input[i]];
        bool half = v->type == DTYPE_F16;
        TRY(graph_add_input(x->w, v->name, half ? DTYPE_F32 : v->type, v->sh, &x->map[g->input[i]]));
        x->w->value[x->map[g->input[i]]].flags = v->flags;
        if (half)
            TRY(round_trip(x, x->map[g->input[i]], NULL, &x->map[g->input[i]]));
    }
    for (size_t v = 1; v < g->n_value; v++)
        if (g->value[v].kind != VALUE_TEMP && g->value[v].kind != VALUE_INPUT) {
            TRY(widen_data(x, (value_id)v));
            x->w->value[x->map[v]].flags = g->value[v].flags;
        }
    for (size_t k = 1; k < g->n_node; k++)
        TRY(widen_node(x, &g->node[k]));
    for (size_t i = 0; i < g->n_output; i++)
        TRY(graph_add_output(x->w, x->map[g->output[i]]));
    return pass_dead_nodes(x->w);
}

status pass_widen_half(graph *g)
{
    widener x = {.g = g};
    bool any = false;
    status st = ST_OK;
    for (size_t v = 1; v < g->n_value; v++)
        any |= g->value[v].type == DTYPE_F16;
    if (!any)
        return ST_OK;
    TRY_DONE(graph_new(&x.w));
    TRY_DONE(widen(&x));
    graph old = *g; /* the caller's graph takes the new contents */
    *g = *x.w;
    *x.w = old;
done:
    graph_free(x.w);
    mem_free(x.map);
    mem_free(x.uses);
    mem_free(x.reader);
    mem_free(x.raw);
    arena_free(&x.scratch);
    return st;
}
