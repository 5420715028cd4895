/* calibrate.c - samples through a copy of the graph that gives its inner values. */
#include "quant/calibrate.h"

#include <string.h>

static status check_inputs(const graph *g)
{
    char buf[200];
    for (size_t i = 0; i < g->n_input; i++) {
        const value *v = &g->value[g->input[i]];
        if (v->sh.rank < 1 || v->sh.dim[0] < 1 || v->sh.dim[0] != g->value[g->input[0]].sh.dim[0])
            return fail(ST_BAD_DATA, "calibration: input '%s' is %s; every input must be [batch, ...]", v->name,
                        shape_print(&v->sh, buf));
    }
    return g->n_input ? ST_OK : fail(ST_BAD_DATA, "calibration: the model has no input");
}

status calibration_open(const graph *g, const watched *watch, size_t n_watch, size_t n_hist, bool bins, backend *b,
                        calibration *c)
{
    status st = ST_OK;
    size_t first = 0;
    *c = (calibration){.of = g, .n_watch = n_watch, .n_hist = n_hist};
    TRY_DONE(check_inputs(g));
    c->batch = g->value[g->input[0]].sh.dim[0];
    TRY_DONE(mem_alloc(&c->watch, n_watch, sizeof *c->watch));
    TRY_DONE(mem_alloc(&c->at, n_watch, sizeof *c->at));
    TRY_DONE(mem_alloc(&c->hist, n_hist, sizeof *c->hist));
    if (n_watch)
        memcpy(c->watch, watch, n_watch * sizeof *watch);
    for (size_t i = 0; i < n_hist; i++)
        TRY_DONE(histogram_new(&c->hist[i], bins));
    TRY_DONE(graph_share(g, &c->g));
    first = c->g->n_output;
    for (size_t i = 0; i < n_watch; i++)
        if (g->value[watch[i].v].kind == VALUE_TEMP)
            TRY_DONE(graph_add_output(c->g, watch[i].v));
    TRY_DONE(pass_fuse_epilogues(c->g)); /* what is watched stays as it is: outputs are not fused away */
    TRY_DONE(exec_open(c->g, b, NULL, 0, &c->e));
    for (size_t i = 0, k = first; i < n_watch; i++)
        if (g->value[watch[i].v].kind == VALUE_TEMP)
            c->at[i] = c->g->output[k++];
    for (size_t i = 0; i < n_watch; i++)
        for (size_t k = 0; k < g->n_input; k++)
            if (g->input[k] == watch[i].v)
                c->at[i] = c->g->input[k];
    return ST_OK;
done:
    calibration_close(c);
    return st;
}

status calibration_open_places(const graph *g, const places *p, backend *b, calibration *c)
{
    watched *watch = NULL;
    size_t n = 0;
    status st = ST_OK;
    *c = (calibration){0};
    TRY_DONE(mem_alloc(&watch, p->n_value, sizeof *watch));
    for (size_t v = 1; v < p->n_value; v++)
        if (p->value[v].rounded && !p->value[v].moved)
            watch[n++] = (watched){(value_id)v, p->value[v].group};
    st = calibration_open(g, watch, n, p->n_group, true, b, c);
done:
    mem_free(watch);
    return st;
}

void calibration_close(calibration *c)
{
    exec_close(c->e);
    graph_free(c->g);
    mem_free(c->watch);
    mem_free(c->at);
    for (size_t i = 0; c->hist && i < c->n_hist; i++)
        histogram_free(&c->hist[i]);
    mem_free(c->hist);
    *c = (calibration){0};
}

/* Samples [first, first + n) into the graph's inputs; the last one fills the batch up. */
static void put_inputs(const calibration *c, const void *const *x, size_t first, size_t n)
{
    for (size_t k = 0; k < c->g->n_input; k++) {
        const value *v = &c->g->value[c->g->input[k]];
        size_t each = (size_t)(shape_count(&v->sh) / c->batch) * dtype_of(v->type)->size;
        unsigned char *to = exec_data(c->e, c->g->input[k]);
        memcpy(to, (const unsigned char *)x[k] + first * each, n * each);
        for (size_t i = n; i < (size_t)c->batch; i++)
            memcpy(to + i * each, to + (n - 1) * each, each);
    }
}

static status count(calibration *c, size_t n)
{
    for (size_t i = 0; i < c->n_watch; i++) {
        const value *v = &c->of->value[c->watch[i].v];
        size_t numbers = (size_t)shape_count(&v->sh);
        if (v->sh.rank > 0 && v->sh.dim[0] % c->batch == 0) /* of real samples alone */
            numbers = numbers / (size_t)c->batch * n;
        if (v->kind != VALUE_CONST && v->type == DTYPE_F32 &&
            !histogram_add(&c->hist[c->watch[i].to], exec_data(c->e, c->at[i]), numbers))
            return fail(ST_BAD_DATA, "calibration: value '%s' is not finite on sample %llu to %llu", v->name,
                        (unsigned long long)c->samples, (unsigned long long)(c->samples + n - 1));
    }
    return ST_OK;
}

status calibration_add(calibration *c, const void *const *x, size_t n)
{
    for (size_t at = 0; at < n; at += (size_t)c->batch) {
        size_t part = n - at < (size_t)c->batch ? n - at : (size_t)c->batch;
        put_inputs(c, x, at, part);
        TRY(exec_run(c->e, PHASE_MAIN));
        TRY(count(c, part));
        c->samples += part;
    }
    return ST_OK;
}

status calibration_check_input(const calibration *c, size_t i)
{
    const histogram *h = &c->hist[c->watch[i].to];
    if (h->min != h->max)
        return ST_OK;
    return fail(ST_BAD_DATA, "calibration: input '%s' is %g everywhere in all %llu samples: no range can come from that; are these the "
                "right data?", c->of->value[c->watch[i].v].name, h->min, (unsigned long long)c->samples);
}

status calibration_params(const calibration *c, const places *p, const quant_scheme *s, quant_params *out)
{
    if (c->samples == 0)
        return fail(ST_BAD_DATA, "calibration: there are no samples; activations get their ranges from some hundred");
    for (size_t i = 0; i < c->n_watch; i++) {
        if (c->of->value[c->watch[i].v].kind == VALUE_INPUT)
            TRY(calibration_check_input(c, i));
    }
    for (size_t k = 0; k < p->n_group; k++) {
        quant_scheme of = *s;
        if (p->group[k].output && s->method != QUANT_MSE) /* logits that are cut are equal: no class could be told */
            of.method = QUANT_MINMAX;
        out[k] = histogram_params(&c->hist[k], &of, p->group[k].positive);
    }
    return ST_OK;
}

int64_t calibration_batch(const graph *g, const places *p, int64_t batch, size_t bytes)
{
    double each = 1;
    for (size_t v = 1; v < p->n_value; v++)
        if (p->value[v].rounded && !p->value[v].moved)
            each += (double)shape_count(&g->value[v].sh) * sizeof(float) / (double)batch;
    double fit = (double)bytes / each;
    return fit < 1 ? 1 : fit > 64 ? 64 : (int64_t)fit;
}
