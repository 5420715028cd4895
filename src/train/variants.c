/* variants.c - imports a float32 file, makes the variant, exports it with the facts. */
#include "train/variants.h"
#include "base/log.h"
#include "onnx/export.h"
#include "onnx/import.h"
#include "quant/half.h"
#include "quant/operator_form.h"
#include "tflite/write.h"

#include <stdio.h>
#include <string.h>

enum { CALIBRATION_BYTES = 64 << 20, HALF_ROWS = 8 };

quant_scheme job_quant_scheme(const job *j)
{
    static const quant_method methods[] = {[QUANT_CALIBRATION_MINMAX] = QUANT_MINMAX,
                                           [QUANT_CALIBRATION_PERCENTILE] = QUANT_PERCENTILE,
                                           [QUANT_CALIBRATION_ENTROPY] = QUANT_ENTROPY,
                                           [QUANT_CALIBRATION_MSE] = QUANT_MSE};
    return (quant_scheme){.activations = j->quant.activations == QUANT_ACTIVATIONS_S8 ? DTYPE_I8 : DTYPE_U8,
                          .symmetric = j->quant.symmetric,
                          .per_channel = j->quant.per_channel,
                          .weight_limit = j->quant.reduce_range ? 64 : 127,
                          .method = methods[j->quant.calibration],
                          .percentile = j->quant.percentile,
                          .keep_float = j->quant.keep_float.at,
                          .n_keep_float = j->quant.keep_float.n};
}

/* ---- samples ---- */

status calibration_data_open(const job *j, dataset *ds, const graph *g, const char *who, calibration_data *out)
{
    const data_info *info = dataset_info(ds);
    loader_options o = loader_eval_options(DATA_TRAIN, 64);
    *out = (calibration_data){.left = (uint64_t)j->quant.samples};
    if (info->part[DATA_TRAIN].n == 0)
        return fail(ST_BAD_DATA, "%s: there are no training samples to calibrate with", info->path);
    o.shuffle = true;
    o.seed = (uint64_t)j->train.seed;
    TRY(feed_match(g, g->input, g->n_input, info, who, &out->f));
    return loader_open(ds, &o, &out->l);
}

void calibration_data_close(calibration_data *c)
{
    loader_close(c->l);
    c->l = NULL;
}

static status next_samples(void *ctx, const void *const **x, size_t *n)
{
    calibration_data *c = ctx;
    const batch *b = NULL;
    *n = 0;
    if (c->left)
        TRY(loader_next(c->l, &b));
    if (!b)
        return ST_OK;
    *n = b->n < c->left ? b->n : (size_t)c->left;
    c->left -= *n;
    for (size_t i = 0; i < c->f.n; i++)
        c->x[i] = b->x[c->f.port[i].from];
    *x = c->x;
    return ST_OK;
}

sample_source calibration_data_source(calibration_data *c)
{
    return (sample_source){next_samples, c};
}

/* ---- one variant ---- */

typedef struct maker {
    const variant_job *v;
    const char *key, *path; /* of the float32 file */
    onnx_model *m;
    graph *g;
    bool fixed; /* the file's batch is, or the job wants one */
    char facts[200];
} maker;

static status import_rows(maker *x, int64_t rows)
{
    const char *output = x->v->j->teacher.output;
    import_options o = {.batch = rows};
    if (variant_of_teacher(x->key) && *output) {
        o.outputs = &output;
        o.n_outputs = 1;
    }
    graph_free(x->g);
    x->g = NULL;
    status st = onnx_import(x->m, &o, &x->g);
    if (st == ST_CONFIG) { /* a file with a fixed batch keeps it */
        o.batch = 0;
        x->fixed = true;
        st = onnx_import(x->m, &o, &x->g);
    }
    if (st == ST_OK)
        x->g->n_output = 1;
    return st;
}

static status make_fp32(maker *x, graph **out)
{
    *out = x->g;
    x->g = NULL;
    return ST_OK;
}

/* As many samples at once as keep their activations near the caches. */
static status import_for_calibration(maker *x, const quant_scheme *s)
{
    places p = {0};
    int64_t rows;
    status st = ST_OK;
    TRY(quant_prepare(x->g));
    TRY_DONE(places_find(x->g, s, &p));
    rows = calibration_batch(x->g, &p, x->g->value[x->g->input[0]].sh.dim[0], CALIBRATION_BYTES);
done:
    places_free(&p);
    return st == ST_OK && rows > 1 && !x->fixed ? import_rows(x, rows) : st;
}

static status make_int8_ptq(maker *x, graph **out)
{
    quant_scheme s = job_quant_scheme(x->v->j);
    s.n_keep_float = variant_of_teacher(x->key) ? 0 : s.n_keep_float; /* the patterns are the student's */
    calibration_data data = {0};
    ptq_facts f;
    status st = ST_OK;
    TRY_DONE(import_for_calibration(x, &s));
    TRY_DONE(calibration_data_open(x->v->j, x->v->ds, x->g, x->path, &data));
    sample_source from = calibration_data_source(&data);
    TRY_DONE(ptq_make(x->g, &s, x->v->b, &from, out, &f));
    if (x->v->j->quant.form == QUANT_FORM_QOPERATOR)
        TRY_DONE(operator_form(*out)); /* what runs here is exported as it is */
    snprintf(x->facts, sizeof x->facts, "%zu products in int8, %zu in float, ranges from %llu samples in %.2f s", f.products, f.kept,
             (unsigned long long)f.samples, f.seconds);
done:
    calibration_data_close(&data);
    return st;
}

/* What float16 cannot hold is named; the file is written all the same. */
static void tell_over(const half_report *r, maker *x)
{
    for (size_t i = 0; i < r->n_over; i++)
        log_warn("variant %s: %s '%s' reaches %.4g, beyond float16 (%g): it becomes infinite", x->key,
                 r->over[i].weight ? "weight" : "value", r->over[i].name, r->over[i].largest, HALF_MAX);
    snprintf(x->facts, sizeof x->facts, "%zu tensors overflow float16 on %llu samples, %llu weights become 0", r->n_over,
             (unsigned long long)r->samples, (unsigned long long)r->tiny);
}

static status make_fp16(maker *x, graph **out)
{
    calibration_data data = {0};
    half_report report = {0};
    status st = ST_OK;
    if (!x->fixed)
        TRY_DONE(import_rows(x, HALF_ROWS));
    TRY_DONE(calibration_data_open(x->v->j, x->v->ds, x->g, x->path, &data));
    sample_source from = calibration_data_source(&data);
    TRY_DONE(half_check(x->g, x->v->b, &from, &report));
    tell_over(&report, x);
    st = half_make(x->g, x->v->j->quant.fp16_io == QUANT_IO_FLOAT16, out);
done:
    half_report_free(&report);
    calibration_data_close(&data);
    return st;
}

static const struct variant_kind_row {
    const char *key;
    status (*make)(maker *x, graph **out);
} kinds[] = {{"fp32", make_fp32},
             {"fp16", make_fp16},
             {"int8-ptq", make_int8_ptq},
             {"teacher-fp32", make_fp32},
             {"teacher-fp16", make_fp16},
             {"teacher-int8-ptq", make_int8_ptq}};

static const struct variant_kind_row *find_kind(const char *key)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].key, key) == 0)
            return &kinds[i];
    return NULL;
}

bool variant_of_teacher(const char *key)
{
    return strncmp(key, "teacher-", 8) == 0;
}

static status export_variant(maker *x, graph *g, const char *path)
{
    const job *j = x->v->j;
    export_pair *meta = NULL;
    size_t n = onnx_meta_count(x->m);
    status st = ST_OK;
    TRY_DONE(mem_alloc(&meta, n + 3, sizeof *meta));
    for (size_t i = 0; i < n; i++)
        onnx_meta(x->m, i, &meta[i].key, &meta[i].value);
    meta[n++] = (export_pair){"distill.variant", x->key};
    meta[n++] = (export_pair){"distill.variant.of", x->m->sha256};
    if (*x->facts)
        meta[n++] = (export_pair){"distill.variant.facts", x->facts};
    export_options o = {.opset = j->export.opset, .fixed_batch = x->fixed, .meta = meta, .n_meta = n};
    st = onnx_export_file(g, &o, path);
done:
    mem_free(meta);
    return st;
}

status variant_write_tflite(const job *j, const char *path, text *why)
{
    onnx_model *m = NULL;
    graph *g = NULL;
    export_pair *meta = NULL;
    status st = ST_OK;
    TRY_DONE(onnx_open(path, &j->limits, &m));
    TRY_DONE(onnx_import(m, &(import_options){0}, &g));
    size_t n = onnx_meta_count(m);
    TRY_DONE(mem_alloc(&meta, n, sizeof *meta));
    for (size_t i = 0; i < n; i++)
        onnx_meta(m, i, &meta[i].key, &meta[i].value);
    st = tflite_write_beside(g, &(tflite_options){.fixed_batch = j->export.batch != 0, .meta = meta, .n_meta = n}, path, why);
done:
    mem_free(meta);
    graph_free(g);
    onnx_close(m);
    return st;
}

status variant_write(const variant_job *v, const char *key, const char *path, text *done)
{
    maker x = {.v = v, .key = key, .fixed = v->j->export.batch != 0,
               .path = variant_of_teacher(key) ? v->teacher : v->student};
    const struct variant_kind_row *kind = find_kind(key);
    graph *made = NULL;
    status st = ST_OK;
    if (!kind)
        return fail(ST_CONFIG, "variant '%s' is unknown; it may be fp32, fp16, int8-ptq (teacher-KEY for the teacher's), or one "
                    "that trains: int8-qat, portable, portable-s8", key);
    if (!x.path)
        return fail(ST_CONFIG, "variant '%s': there is no teacher", key);
    TRY_DONE(onnx_open(x.path, &v->j->limits, &x.m));
    TRY_DONE(import_rows(&x, v->j->export.batch ? v->j->export.batch : 1));
    TRY_DONE(kind->make(&x, &made));
    TRY_DONE(export_variant(&x, made, path));
    if (done)
        text_printf(done, "%s%s%s", key, *x.facts ? ": " : "", x.facts);
done:
    graph_free(made);
    graph_free(x.g);
    onnx_close(x.m);
    return st == ST_OK ? st : fail_within(st, "variant %s", key);
}
