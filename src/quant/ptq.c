/* ptq.c - prepare, find places, calibrate, insert. */
#include "quant/ptq.h"
#include "base/clock.h"

#include <string.h>

status ptq_calibrate(const graph *g, const places *p, const quant_scheme *s, backend *b, const sample_source *from,
                     quant_params *params, ptq_facts *facts)
{
    calibration c = {0};
    status st = ST_OK;
    double began = clock_seconds();
    TRY_DONE(calibration_open_places(g, p, b, &c));
    for (;;) {
        const void *const *x;
        size_t n;
        TRY_DONE(from->next(from->ctx, &x, &n));
        if (n == 0)
            break;
        TRY_DONE(calibration_add(&c, x, n));
    }
    TRY_DONE(calibration_params(&c, p, s, params));
    if (facts) {
        facts->samples = c.samples;
        facts->seconds = clock_seconds() - began;
    }
done:
    calibration_close(&c);
    return st;
}

static void count_places(const graph *g, const places *p, ptq_facts *f)
{
    for (size_t k = 1; k < g->n_node; k++) {
        const op_desc *d = op_of(g->node[k].op);
        f->products += p->product[k];
        f->kept += !p->product[k] && d->macs != NULL;
    }
    for (size_t v = 1; v < g->n_value; v++)
        f->rounded += p->value[v].rounded;
}

status ptq_make(graph *g, const quant_scheme *s, backend *b, const sample_source *from, graph **out, ptq_facts *facts)
{
    places p = {0};
    quant_params *params = NULL;
    ptq_facts f = {0};
    status st = ST_OK;
    *out = NULL;
    TRY_DONE(quant_prepare(g));
    TRY_DONE(places_find(g, s, &p));
    count_places(g, &p, &f);
    if (f.products == 0) {
        st = fail(ST_BAD_DATA, "there is nothing to quantise: no Conv, Gemm or MatMul with constant weights%s",
                  s->n_keep_float ? " that quant.keep_float leaves" : "");
        goto done;
    }
    TRY_DONE(mem_alloc(&params, p.n_group, sizeof *params));
    TRY_DONE(ptq_calibrate(g, &p, s, b, from, params, &f));
    TRY_DONE(quant_insert(g, &p, s, params, out));
    if (facts)
        *facts = f;
done:
    places_free(&p);
    mem_free(params);
    return st;
}
