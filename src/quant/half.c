/* half.c - copies a graph with float16 for float32, and finds what float16 cannot hold. */
#include "quant/half.h"
#include "ops/attrs.h"

#include <math.h>
#include <string.h>

typedef struct halver {
    const graph *g;
    graph *h;
    value_id *map; /* [g->n_value] */
    arena scratch;
} halver;

void half_report_free(half_report *r)
{
    arena_free(&r->mem);
    *r = (half_report){0};
}

static status half_data(halver *x, value_id v)
{
    const value *from = &x->g->value[v];
    int64_t n = shape_count(&from->sh);
    _Float16 *half = NULL;
    if (from->type != DTYPE_F32)
        return graph_add_data(x->h, from->name, from->kind, from->type, from->sh, from->data, &x->map[v]);
    if (from->data) {
        TRY(arena_alloc(&x->scratch, &half, (size_t)n, sizeof *half));
        for (int64_t i = 0; i < n; i++)
            half[i] = (_Float16)((const float *)from->data)[i];
    }
    return graph_add_data(x->h, from->name, from->kind, DTYPE_F16, from->sh, half, &x->map[v]);
}

static status cast(halver *x, value_id v, dtype to, const char *name, value_id *out)
{
    const cast_attrs at = {.to = to, .saturate = 1};
    return graph_add_named(x->h, NULL, OP_CAST, &at, &v, 1, name ? &name : NULL, out, 1);
}

static status half_node(halver *x, const node *n, const uint8_t *is_output)
{
    value_id *in, *out;
    const char **names;
    const void *attr;
    TRY(arena_alloc(&x->scratch, &in, n->n_in, sizeof *in));
    TRY(arena_alloc(&x->scratch, &out, n->n_out, sizeof *out));
    TRY(arena_alloc(&x->scratch, &names, n->n_out, sizeof *names));
    for (int i = 0; i < n->n_in; i++) {
        value_id v = n->in[i];
        if (v && !x->map[v])
            TRY(half_data(x, v));
        in[i] = x->map[v];
    }
    for (int i = 0; i < n->n_out; i++) {
        value_id v = n->out[i];
        names[i] = v ? x->g->value[v].name : NULL;
        if (v && is_output[v]) /* its name goes to the float32 one */
            TRY(arena_printf(&x->scratch, &names[i], "%s_half", x->g->value[v].name));
    }
    TRY(op_retype_attrs(n, DTYPE_F32, DTYPE_F16, &x->scratch, &attr));
    TRY(graph_add_named(x->h, n->name, n->op, attr, in, n->n_in, names, out, n->n_out));
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i])
            x->map[n->out[i]] = out[i];
    return ST_OK;
}

static status half_graph(halver *x, bool half_io)
{
    const graph *g = x->g;
    uint8_t *is_output;
    status st = ST_OK;
    TRY(mem_alloc(&is_output, g->n_value, 1));
    for (size_t i = 0; i < g->n_output; i++)
        is_output[g->output[i]] = !half_io && g->value[g->output[i]].type == DTYPE_F32;
    for (size_t i = 0; i < g->n_input; i++) {
        const value *v = &g->value[g->input[i]];
        bool floats = v->type == DTYPE_F32;
        value_id *to = &x->map[g->input[i]];
        TRY_DONE(graph_add_input(x->h, v->name, floats && half_io ? DTYPE_F16 : v->type, v->sh, to));
        x->h->value[*to].flags = v->flags;
        if (floats && !half_io)
            TRY_DONE(cast(x, *to, DTYPE_F16, NULL, to));
    }
    for (size_t k = 1; k < g->n_node; k++)
        TRY_DONE(half_node(x, &g->node[k], is_output));
    for (size_t i = 0; i < g->n_output; i++) {
        value_id v = g->output[i], made = x->map[v];
        if (!made) {
            TRY_DONE(half_data(x, v));
            made = x->map[v];
        }
        if (is_output[v])
            TRY_DONE(cast(x, made, DTYPE_F32, g->value[v].name, &made));
        TRY_DONE(graph_add_output(x->h, made));
    }
    TRY_DONE(graph_validate(x->h));
done:
    mem_free(is_output);
    return st;
}

status half_make(graph *g, bool half_io, graph **out)
{
    halver x = {.g = g};
    status st = ST_OK;
    *out = NULL;
    TRY_DONE(pass_drop_identity(g));
    TRY_DONE(pass_fold_batch_norm(g));
    TRY_DONE(mem_alloc(&x.map, g->n_value, sizeof *x.map));
    TRY_DONE(graph_new(&x.h));
    TRY_DONE(half_graph(&x, half_io));
    *out = x.h;
    x.h = NULL;
done:
    graph_free(x.h);
    mem_free(x.map);
    arena_free(&x.scratch);
    return st;
}

/* ---- what does not fit ---- */

static status add_over(half_report *r, size_t room, const char *name, double largest, bool weight)
{
    if (!r->over)
        TRY(arena_alloc(&r->mem, &r->over, room, sizeof *r->over));
    half_tensor *t = &r->over[r->n_over++];
    *t = (half_tensor){.largest = largest, .weight = weight};
    return arena_strdup(&r->mem, &t->name, name);
}

static status check_weights(const graph *g, half_report *r)
{
    for (size_t v = 1; v < g->n_value; v++) {
        const value *w = &g->value[v];
        double largest = 0;
        if (w->kind != VALUE_CONST || w->type != DTYPE_F32)
            continue;
        for (int64_t i = 0; i < shape_count(&w->sh); i++) {
            float x = ((const float *)w->data)[i];
            largest = fmax(largest, fabs((double)x));
            r->tiny += x != 0.0f && (_Float16)x == 0;
        }
        if (largest > HALF_MAX)
            TRY(add_over(r, g->n_value, w->name, largest, true));
    }
    return ST_OK;
}

static status check_values(const graph *g, backend *b, const sample_source *from, half_report *r)
{
    calibration c = {0};
    watched *watch = NULL;
    size_t n = 0;
    status st = ST_OK;
    TRY_DONE(mem_alloc(&watch, g->n_value, sizeof *watch));
    for (size_t v = 1; v < g->n_value; v++) {
        const value *x = &g->value[v];
        bool made = x->kind == VALUE_TEMP && x->from && !(op_of(g->node[x->from].op)->flags & OP_VIEW);
        if (x->type == DTYPE_F32 && (made || x->kind == VALUE_INPUT)) {
            watch[n] = (watched){(value_id)v, (uint32_t)n};
            n++;
        }
    }
    TRY_DONE(calibration_open(g, watch, n, n, false, b, &c));
    for (;;) {
        const void *const *x;
        size_t count;
        TRY_DONE(from->next(from->ctx, &x, &count));
        if (count == 0)
            break;
        TRY_DONE(calibration_add(&c, x, count));
    }
    r->samples = c.samples;
    for (size_t i = 0; i < n; i++) {
        double largest = c.hist[i].n ? fmax(-c.hist[i].min, c.hist[i].max) : 0;
        if (largest > HALF_MAX)
            TRY_DONE(add_over(r, g->n_value, g->value[watch[i].v].name, largest, false));
    }
done:
    calibration_close(&c);
    mem_free(watch);
    return st;
}

status half_check(const graph *g, backend *b, const sample_source *from, half_report *out)
{
    *out = (half_report){0};
    status st = check_weights(g, out);
    if (st == ST_OK && from)
        st = check_values(g, b, from, out);
    if (st != ST_OK)
        half_report_free(out);
    return st;
}
