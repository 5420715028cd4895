/* prove_variant.c - what a network in fewer bits makes of the validation samples, here and in ONNX Runtime. */
#include "base/io.h"
#include "base/io_shared.h"
#include "deploy/prove.h"
#include "onnx/import.h"
#include "quant/saturate.h"

#include <math.h>
#include <stdio.h>

enum { VARIANTS_MAX = 16 };

static double accuracy_of(const prove_options *o, bool numbers, const float *x, size_t n, size_t width)
{
    size_t labelled = 0, correct = 0;
    if (numbers || !dataset_info(o->ds)->classes)
        return (double)NAN;
    for (size_t i = 0; i < n; i++) {
        int64_t label = dataset_label(o->ds, DATA_VAL, (uint32_t)i);
        labelled += label >= 0;
        correct += label >= 0 && compare_argmax(x + i * width, width) == (size_t)label;
    }
    return labelled ? (double)correct / (double)labelled : (double)NAN;
}

static status compare(bool numbers, const float *a, const float *b, size_t n, size_t width, difference *d)
{
    return numbers ? compare_numbers(a, b, n, width, d) : compare_logits(a, b, n, width, d);
}

/* In ONNX Runtime; that it is missing or refuses the file is a result. */
static status run_ort(const prove_options *o, const char *path, const float *own, size_t n, size_t width, bool numbers,
                      validation *v, variant_result *r)
{
    float *x = NULL;
    shape sh;
    char name[80], detail[300];
    bool held = false;
    status st = prove_outputs(o, path, true, &x, &sh, &r->time_ort);
    snprintf(name, sizeof name, "%.40s in ONNX Runtime", r->key);
    if (st == ST_BAD_DATA || st == ST_UNAVAILABLE) {
        TRY(arena_strdup(&v->mem, &r->message, status_message()));
        return prove_add_check(v, false, name, r->message);
    }
    TRY(st);
    r->has_latency_ort = r->has_difference = true;
    held = compare(numbers, own, x, n, width, &r->diff) == ST_OK;
    r->accuracy_ort = accuracy_of(o, numbers, x, n, width);
    int used = snprintf(detail, sizeof detail, "%s: largest difference from our executor %.3g on %zu samples",
                        held ? "finite" : "not finite", r->diff.max_abs, n);
    if (!numbers)
        snprintf(detail + used, sizeof detail - (size_t)used, ", %zu other classes", r->diff.disagreements);
    mem_free(x);
    return prove_add_check(v, held, name, detail);
}

/* Whether processors differ on it. */
static status note_saturation(const prove_options *o, const char *path, arena *mem, variant_result *r)
{
    onnx_model *m = NULL;
    graph *g = NULL;
    text t = {0};
    status st = ST_OK;
    TRY_DONE(onnx_open(path, o->lim, &m));
    TRY_DONE(onnx_import(m, &(import_options){0}, &g));
    saturation s = saturation_measure(g);
    if (s.may)
        saturation_print(&s, &t);
    TRY_DONE(t.st);
    if (t.n)
        st = arena_strdup(mem, &r->note, t.s);
done:
    text_free(&t);
    graph_free(g);
    onnx_close(m);
    return st;
}

status prove_variant(const prove_options *given, const char *key, const char *model, const char *file, const char *path,
                     const float *reference, size_t width, validation *v)
{
    prove_options plain = *given, *o = &plain;
    plain.teacher_output = NULL; /* the file has that output alone */
    float *own = NULL;
    shape sh;
    io_facts facts;
    size_t n = v->samples;
    status st = ST_OK;
    if (!v->variants)
        TRY(arena_alloc(&v->mem, &v->variants, VARIANTS_MAX, sizeof *v->variants));
    if (v->n_variants == VARIANTS_MAX)
        return fail(ST_INTERNAL, "more than %d variants", VARIANTS_MAX);
    variant_result *r = &v->variants[v->n_variants];
    *r = (variant_result){.accuracy = (double)NAN, .accuracy_ort = (double)NAN, .tflite_bytes = -1};
    TRY(arena_strdup(&v->mem, &r->key, key));
    TRY(arena_strdup(&v->mem, &r->model, model));
    TRY(arena_strdup(&v->mem, &r->file, file));
    TRY(io_look(path, &facts));
    r->bytes = (int64_t)facts.size;
    TRY(note_saturation(o, path, &v->mem, r));
    TRY(prove_outputs(o, path, false, &own, &sh, &r->time));
    r->has_latency = true;
    v->n_variants++;
    if (sh.rank < 1 || (size_t)shape_count(&sh) != n * width) {
        st = fail(ST_BAD_DATA, "%s: its output has another size than that of the %s in float32", path, model);
        goto done;
    }
    r->accuracy = accuracy_of(o, v->numbers, own, n, width);
    r->has_agreement = compare(v->numbers, reference, own, n, width, &r->agreement) == ST_OK;
    st = run_ort(o, path, own, n, width, v->numbers, v, r);
done:
    mem_free(own);
    return st;
}

status prove_add_tflite(validation *v, const char *file, int64_t bytes, const char *message)
{
    if (!v->n_variants)
        return fail(ST_INTERNAL, "a TFLite file of no variant");
    variant_result *r = &v->variants[v->n_variants - 1];
    r->tflite_bytes = file ? bytes : -1;
    if (file)
        return arena_strdup(&v->mem, &r->tflite, file);
    return arena_strdup(&v->mem, &r->tflite_message, message);
}
