/* test_quant_data.c - what post-training quantisation costs on real data. */
#include "data/loader.h"
#include "distill/frozen.h"
#include "harness.h"
#include "onnx/import.h"
#include "quant/ptq.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct pictures {
    loader *l;
    size_t left;
    const void *now;
} pictures;

static status next_pictures(void *ctx, const void *const **x, size_t *n)
{
    pictures *p = ctx;
    const batch *b = NULL;
    *n = 0;
    if (p->left)
        TRY(loader_next(p->l, &b));
    if (!b)
        return ST_OK;
    *n = b->n < p->left ? b->n : p->left;
    p->left -= *n;
    p->now = b->x[0];
    *x = &p->now;
    return ST_OK;
}

static graph *demonstration_teacher(void)
{
    onnx_model *m;
    graph *g;
    OK(onnx_open(SOURCE_DIR "/data/fashion-teacher.onnx", NULL, &m));
    OK(onnx_import(m, &(import_options){.batch = 50}, &g));
    onnx_close(m);
    return g;
}

/* Correct ones among the first 500 validation pictures; the graph is taken. */
static int correct_of(graph *g, backend *b, dataset *ds)
{
    enum { N = 500 };
    frozen_net net;
    loader *l;
    const batch *x;
    int correct = 0;
    loader_options o = loader_eval_options(DATA_VAL, N);
    float *y;
    OK(frozen_open(g, b, 0, &net));
    OK(mem_alloc(&y, N * net.width[0], sizeof *y));
    OK(loader_open(ds, &o, &l));
    OK(loader_next(l, &x));
    OK(frozen_run(&net, x->x, N, &y));
    for (size_t i = 0; i < N; i++) {
        size_t best = 0;
        for (size_t k = 1; k < net.width[0]; k++)
            best = y[i * net.width[0] + k] > y[i * net.width[0] + best] ? k : best;
        correct += (int64_t)best == x->label[i];
    }
    loader_close(l);
    mem_free(y);
    frozen_close(&net);
    return correct;
}

START_TEST(the_demonstration_teacher_in_int8)
{
    data_options d = data_options_default();
    loader_options o = loader_eval_options(DATA_TRAIN, 50);
    dataset *ds;
    backend *b;
    pictures p = {.left = 200};
    graph *g = demonstration_teacher(), *q;
    quant_scheme s = quant_scheme_default();
    ptq_facts f;
    d.path = SOURCE_DIR "/data/fashion-mnist";
    OK(dataset_open(&d, &ds));
    OK(backend_open("cpu", &(backend_options){.max_isa = ISA_AVX512}, &b));
    OK(loader_open(ds, &o, &p.l));
    sample_source from = {next_pictures, &p};
    OK(ptq_make(g, &s, b, &from, &q, &f));
    graph_free(g);
    int exact = correct_of(demonstration_teacher(), b, ds), rounded = correct_of(q, b, ds);
    printf("of 500 correct: float32 %d, int8 %d; calibration %.2f s on 200 samples\n", exact, rounded, f.seconds);
    ck_assert(exact > 450 && abs(exact - rounded) <= 5); /* one point; the whole set says more (tools/accuracy) */
    loader_close(p.l);
    dataset_close(ds);
    backend_close(b);
}
END_TEST

const test_entry test_table[] = {TEST(the_demonstration_teacher_in_int8), {0}};
