/* sensitivity.c - every layer alone in int8, on the same samples. */
#include "train/sensitivity.h"
#include "distill/frozen.h"
#include "onnx/import.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 50, SAMPLES = 1000 };

typedef struct ranker {
    const variant_job *v;
    sensitivity *s;
    graph *g;      /* prepared */
    places p;      /* of the whole scheme */
    quant_params *params;
    quant_scheme scheme;
    size_t n, width;
    float *exact, *got;
} ranker;

void sensitivity_free(sensitivity *s)
{
    arena_free(&s->mem);
    *s = (sensitivity){0};
}

static status import_rows(const variant_job *v, graph **out)
{
    onnx_model *m = NULL;
    status st = ST_OK;
    TRY_DONE(onnx_open(v->student, &v->j->limits, &m));
    import_options o = {.batch = ROWS};
    st = onnx_import(m, &o, out);
    if (st == ST_CONFIG) {
        o.batch = 0;
        st = onnx_import(m, &o, out);
    }
    if (st == ST_OK)
        (*out)->n_output = 1;
done:
    onnx_close(m);
    return st;
}

/* The first samples of the validation part through g, which is taken. */
static status run_graph(const ranker *r, graph *g, float **to, size_t *width)
{
    frozen_net net = {0};
    loader *l = NULL;
    loader_options o = loader_eval_options(DATA_VAL, ROWS);
    size_t at = 0;
    status st = frozen_open(g, r->v->b, 0, &net);
    if (st != ST_OK)
        return st;
    TRY_DONE(frozen_feed(&net, r->v->ds, r->v->student));
    *width = net.width[0];
    if (!*to)
        TRY_DONE(mem_alloc(to, r->n * *width, sizeof **to));
    TRY_DONE(loader_open(r->v->ds, &o, &l));
    while (at < r->n) {
        const batch *b;
        TRY_DONE(loader_next(l, &b));
        if (!b)
            break;
        size_t n = b->n < r->n - at ? b->n : r->n - at;
        float *out = *to + at * *width;
        TRY_DONE(frozen_run(&net, b->x, n, &out));
        at += n;
    }
done:
    loader_close(l);
    frozen_close(&net);
    return st;
}

static double accuracy_of(const ranker *r, const float *x)
{
    size_t labelled = 0, correct = 0;
    if (!dataset_info(r->v->ds)->classes)
        return (double)NAN;
    for (size_t i = 0; i < r->n; i++, x += r->width) {
        int64_t label = dataset_label(r->v->ds, DATA_VAL, (uint32_t)i);
        size_t best = 0;
        for (size_t k = 1; k < r->width; k++)
            best = x[k] > x[best] ? k : best;
        labelled += label >= 0;
        correct += label >= 0 && best == (size_t)label;
    }
    return labelled ? (double)correct / (double)labelled : (double)NAN;
}

/* log of the sum of exponentials, safe from overflow. */
static double log_sum(const float *x, size_t n)
{
    double top = (double)x[0], sum = 0;
    for (size_t i = 1; i < n; i++)
        top = fmax(top, (double)x[i]);
    for (size_t i = 0; i < n; i++)
        sum += exp((double)x[i] - top);
    return top + log(sum);
}

static void compare(const ranker *r, sensitivity_row *row)
{
    bool classes = dataset_info(r->v->ds)->classes > 0;
    for (size_t i = 0; i < r->n; i++) {
        const float *a = r->exact + i * r->width, *b = r->got + i * r->width;
        double la = classes ? log_sum(a, r->width) : 0, lb = classes ? log_sum(b, r->width) : 0;
        for (size_t k = 0; k < r->width; k++) {
            row->max_abs = fmax(row->max_abs, fabs((double)a[k] - (double)b[k]));
            if (classes)
                row->kl += exp((double)a[k] - la) * ((double)a[k] - la - (double)b[k] + lb) / (double)r->n;
        }
    }
    row->kl = classes ? row->kl : (double)NAN;
    row->accuracy = accuracy_of(r, r->got);
}

/* The places of one product alone: its data, its weight, its result. */
static status try_product(const ranker *r, node_id k, sensitivity_row *row)
{
    const node *n = &r->g->node[k];
    places one = r->p;
    graph *q = NULL;
    size_t width;
    float *got = r->got;
    status st = ST_OK;
    one.value = NULL;
    one.integer = one.product = NULL;
    TRY_DONE(mem_alloc(&one.value, r->p.n_value, sizeof *one.value));
    TRY_DONE(mem_alloc(&one.integer, r->p.n_node, 1));
    TRY_DONE(mem_alloc(&one.product, r->p.n_node, 1));
    one.integer[k] = one.product[k] = 1;
    one.value[n->in[0]] = r->p.value[n->in[0]];
    one.value[n->in[0]].made_int = false;
    if (r->p.tail[k])
        one.value[r->p.tail[k]] = r->p.value[r->p.tail[k]];
    TRY_DONE(quant_insert(r->g, &one, &r->scheme, r->params, &q));
    TRY_DONE(run_graph(r, q, &got, &width));
    TRY_DONE(arena_strdup(&r->s->mem, &row->name, n->name));
    compare(r, row);
done:
    mem_free(one.value);
    mem_free(one.integer);
    mem_free(one.product);
    return st;
}

static int by_cost(const void *a, const void *b)
{
    const sensitivity_row *x = a, *y = b;
    double d = isnan(x->kl) ? y->max_abs - x->max_abs : y->kl - x->kl;
    return d > 0 ? 1 : d < 0 ? -1 : strcmp(x->name, y->name);
}

static status rank(ranker *r)
{
    calibration_data data = {0};
    size_t products = 0;
    graph *copy = NULL;
    status st = ST_OK;
    r->scheme = job_quant_scheme(r->v->j);
    TRY_DONE(quant_prepare(r->g));
    TRY_DONE(places_find(r->g, &r->scheme, &r->p));
    TRY_DONE(mem_alloc(&r->params, r->p.n_group, sizeof *r->params));
    TRY_DONE(calibration_data_open(r->v->j, r->v->ds, r->g, r->v->student, &data));
    sample_source from = calibration_data_source(&data);
    TRY_DONE(ptq_calibrate(r->g, &r->p, &r->scheme, r->v->b, &from, r->params, NULL));
    TRY_DONE(graph_clone(r->g, &copy));
    TRY_DONE(run_graph(r, copy, &r->exact, &r->width));
    TRY_DONE(mem_alloc(&r->got, r->n * r->width, sizeof *r->got));
    r->s->accuracy = accuracy_of(r, r->exact);
    for (size_t k = 1; k < r->p.n_node; k++)
        products += r->p.product[k];
    TRY_DONE(arena_alloc(&r->s->mem, &r->s->row, products, sizeof *r->s->row));
    for (size_t k = 1; k < r->p.n_node; k++)
        if (r->p.product[k])
            TRY_DONE(try_product(r, (node_id)k, &r->s->row[r->s->n++]));
    qsort(r->s->row, r->s->n, sizeof *r->s->row, by_cost);
done:
    calibration_data_close(&data);
    return st;
}

status sensitivity_find(const variant_job *v, sensitivity *out)
{
    ranker r = {.v = v, .s = out};
    uint32_t n = dataset_info(v->ds)->part[DATA_VAL].n;
    *out = (sensitivity){0};
    out->samples = r.n = n < SAMPLES ? n : SAMPLES;
    status st = r.n ? import_rows(v, &r.g) : fail(ST_BAD_DATA, "%s: there are no validation samples", dataset_info(v->ds)->path);
    if (st == ST_OK)
        st = rank(&r);
    graph_free(r.g);
    places_free(&r.p);
    mem_free(r.params);
    mem_free(r.exact);
    mem_free(r.got);
    return st;
}
