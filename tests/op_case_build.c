/* op_case_build.c - a row's numbers, and the graph that it becomes. */
#include "op_case_build.h"
#include "base/rng.h"
#include "harness.h"

#include <math.h>
#include <stdio.h>

/* ---- input values ---- */

static uint64_t name_seed(const char *s)
{
    uint64_t h = 14695981039346656037u;
    for (; s && *s; s++)
        h = (h ^ (unsigned char)*s) * 1099511628211u;
    return h;
}

double op_case_as_type(dtype t, double v)
{
    unsigned char one[8] = {0};
    dtype_store(t, one, 0, v);
    return dtype_load(t, one, 0);
}

static void default_range(const op_input *in, double *lo, double *hi)
{
    const dtype_info *t = dtype_of(in->type);
    *lo = in->lo;
    *hi = in->hi;
    if (*lo != 0 || *hi != 0)
        return;
    *lo = t->is_float ? -2 : t->is_signed ? -5 : 0;
    *hi = t->is_float ? 2 : t->is_signed ? 5 : in->type == DTYPE_BOOL ? 2 : 10;
}

static bool near_kink(const op_input *in, double v)
{
    double eps = in->avoid_eps > 0 ? in->avoid_eps : 0.02;
    for (int i = 0; i < in->n_avoid; i++)
        if (fabs(v - in->avoid[i]) < eps)
            return true;
    return false;
}

static status make_numbers(const op_input *in, rng *r, double *v)
{
    int64_t n = shape_count(&in->sh);
    double lo, hi;
    uint32_t *order = NULL;
    default_range(in, &lo, &hi);
    if (in->distinct) {
        TRY(mem_alloc(&order, (size_t)n, sizeof *order));
        for (int64_t i = 0; i < n; i++)
            order[i] = (uint32_t)i;
        rng_shuffle(r, order, (uint32_t)n);
    }
    for (int64_t i = 0; i < n; i++) {
        double x;
        if (in->fixed)
            x = in->fixed[i % in->n_fixed];
        else if (in->distinct)
            x = lo + (hi - lo) * ((double)order[i] + 0.5) / (double)n;
        else
            do
                x = lo + (hi - lo) * rng_uniform(r);
            while (near_kink(in, x));
        v[i] = op_case_as_type(in->type, dtype_of(in->type)->is_float || in->fixed ? x : floor(x));
    }
    mem_free(order);
    return ST_OK;
}

/* ---- building ---- */

static int count_inputs(const op_case *c)
{
    int n = c->n_in;
    for (int i = 0; i < OP_CASE_IN && !c->n_in; i++)
        if (c->in[i].type != DTYPE_NONE || c->in[i].same_as)
            n = i + 1;
    return n;
}

static status add_input(built *t, int i, const double *v)
{
    const op_input *in = &t->c->in[i];
    char name[16];
    unsigned char *data = NULL;
    size_t bytes;
    if (in->same_as) {
        t->in[i] = t->in[in->same_as - 1];
        return ST_OK;
    }
    if (in->type == DTYPE_NONE)
        return ST_OK;
    snprintf(name, sizeof name, "in%d", i);
    if (in->kind == VALUE_TEMP)
        return graph_add_input(t->g, name, in->type, in->sh, &t->in[i]);
    TRY(shape_bytes(&in->sh, in->type, &bytes));
    TRY(mem_alloc(&data, bytes, 1));
    for (int64_t e = 0; e < shape_count(&in->sh); e++)
        dtype_store(in->type, data, e, v[e]);
    status st = graph_add_data(t->g, name, in->kind, in->type, in->sh, data, &t->in[i]);
    mem_free(data);
    return st;
}

bool op_case_wants_grad(const built *t, int i)
{
    const op_input *in = &t->c->in[i];
    return in->type == DTYPE_F32 && !in->no_grad && !in->same_as && in->kind != VALUE_CONST && in->kind != VALUE_STATE;
}

/* loss = sum over outputs of sum(output * weight); then the gradients. */
static status add_loss(built *t)
{
    reduce_attrs all = {.keepdims = 0};
    value_id wrt[OP_CASE_IN], got[OP_CASE_IN];
    int which[OP_CASE_IN], n = 0;
    for (int k = 0; k < t->n_out; k++) {
        value_id part;
        char name[16];
        const value *y = graph_value(t->g, t->out[k]);
        if (y->type != DTYPE_F32 || (t->c->loss_outs && !(t->c->loss_outs >> k & 1)))
            continue;
        snprintf(name, sizeof name, "weight%d", k);
        TRY(graph_add_input(t->g, name, DTYPE_F32, y->sh, &t->weight[k]));
        TRY(graph_add1(t->g, OP_MUL, NULL, t->out[k], t->weight[k], 0, &part));
        TRY(graph_add1(t->g, OP_REDUCE_SUM, &all, part, 0, 0, &part));
        if (t->loss)
            TRY(graph_add1(t->g, OP_ADD, NULL, t->loss, part, 0, &part));
        t->loss = part;
    }
    t->forward_end = t->g->n_node;
    for (int i = 0; i < t->n_in; i++)
        if (op_case_wants_grad(t, i)) {
            which[n] = i;
            wrt[n++] = t->in[i];
        }
    if (!t->loss || n == 0)
        return ST_OK;
    t->graded = true;
    TRY(graph_gradients(t->g, t->loss, wrt, (size_t)n, got));
    for (int i = 0; i < n; i++)
        t->grad[which[i]] = got[i];
    return ST_OK;
}

status op_case_build(built *t, const op_case *c, double *const *values)
{
    const op_desc *d = op_of(c->op);
    *t = (built){.c = c, .n_in = count_inputs(c), .n_out = c->n_out ? c->n_out : d->out.min};
    TRY(graph_new(&t->g));
    for (int i = 0; i < t->n_in; i++)
        TRY(add_input(t, i, values[i]));
    if (c->build)
        TRY(c->build(t->g, c, t->in, t->out));
    else
        TRY(graph_add(t->g, c->op, c->attr, t->in, (size_t)t->n_in, t->out, (size_t)t->n_out));
    t->forward_end = t->g->n_node;
    if (!c->no_grad && (d->grad || c->build))
        TRY(add_loss(t));
    for (int k = 0; k < t->n_out; k++)
        TRY(graph_add_output(t->g, t->out[k]));
    for (int i = 0; i < t->n_in; i++)
        if (t->grad[i])
            TRY(graph_add_output(t->g, t->grad[i]));
    return graph_validate(t->g);
}

/* Numbers that the narrow type holds. */
static void round_to(dtype t, double *x, int64_t n)
{
    for (int64_t i = 0; t && i < n; i++)
        x[i] = op_case_as_type(t, x[i]);
}

status op_case_inputs(const op_case *c, dtype narrow, numbers *x)
{
    for (int i = 0; i < count_inputs(c); i++) {
        rng r = rng_make(name_seed(op_of(c->op)->name), RNG_TEST, name_seed(c->note) & 0xffffffff, (uint32_t)i);
        int64_t n = shape_count(&c->in[i].sh);
        TRY(mem_alloc(&x->in[i], (size_t)(n > 0 ? n : 1), sizeof **x->in));
        if (c->in[i].type != DTYPE_NONE && n > 0)
            TRY(make_numbers(&c->in[i], &r, x->in[i]));
        if (c->in[i].type == DTYPE_F32)
            round_to(narrow, x->in[i], n);
    }
    return ST_OK;
}

status op_case_weights(const built *t, dtype narrow, numbers *x)
{
    for (int k = 0; k < t->n_out; k++) {
        if (!t->weight[k])
            continue;
        rng r = rng_make(name_seed(op_of(t->c->op)->name), RNG_TEST, 0, 1000 + (uint32_t)k);
        op_input in = {.type = DTYPE_F32, .sh = t->g->value[t->weight[k]].sh, .lo = -1, .hi = 1};
        TRY(mem_alloc(&x->weight[k], (size_t)shape_count(&in.sh) + 1, sizeof **x->weight));
        TRY(make_numbers(&in, &r, x->weight[k]));
        round_to(narrow, x->weight[k], shape_count(&in.sh));
    }
    return ST_OK;
}
