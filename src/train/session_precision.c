/* session_precision.c - the teacher, opened in the precision that the job asks for (teacher.precision). */
#include "base/hash.h"
#include "base/log.h"
#include "train/job_spec.h"
#include "train/session.h"
#include "train/variants.h"

#include <math.h>

enum { CALIBRATION = 64 }; /* samples by which `auto` judges */
#define AGREE_WITHIN 0.05  /* largest difference, as a share of the largest output, that `auto` takes */

/* Of every constant: two teachers of one hash compute the same. */
static uint64_t hash_constants(const graph *g)
{
    uint64_t h = 0;
    for (size_t v = 1; v < g->n_value; v++) {
        const value *x = &g->value[v];
        if (x->kind == VALUE_CONST) {
            uint64_t pair[2] = {h, hash_xxh3(x->data, (size_t)shape_count(&x->sh) * dtype_of(x->type)->size)};
            h = hash_xxh3(pair, sizeof pair);
        }
    }
    return h ? h : 1;
}

status session_quantise_teacher(session *s, graph **g)
{
    quant_scheme scheme = job_quant_scheme(s->j);
    calibration_data data = {0};
    graph *made = NULL;
    ptq_facts f;
    status st = ST_OK;
    scheme.n_keep_float = 0; /* those are the student's */
    TRY_DONE(calibration_data_open(s->j, s->ds, *g, "the teacher", &data));
    sample_source from = calibration_data_source(&data);
    TRY_DONE(ptq_make(*g, &scheme, s->b, &from, &made, &f));
    graph_free(*g);
    *g = made;
    s->teacher_int8 = hash_constants(made);
    log_info("teacher in int8: %zu products (%zu stay float), ranges from %llu training samples in %.2f s", f.products, f.kept,
             (unsigned long long)f.samples, f.seconds);
done:
    calibration_data_close(&data);
    return st;
}

static status open_in(session *s, int64_t rows, teacher_precision_kind how, frozen_net *out)
{
    graph *g;
    TRY(session_import_teacher(s, rows, true, &g));
    s->teacher_stats = graph_measure(g, rows);
    s->teacher_int8 = 0;
    if (how == TEACHER_INT8) {
        status st = session_quantise_teacher(s, &g);
        if (st != ST_OK) {
            graph_free(g);
            return st;
        }
    }
    TRY(frozen_open_in(g, s->b, job_memory_limit(s->j), how == TEACHER_BF16, out));
    return frozen_feed(out, s->ds, "the teacher");
}

typedef struct agreement {
    size_t rows, same; /* samples, those whose largest output is the same one */
    double apart, largest;
} agreement;

static void compare(agreement *a, const float *x, const float *y, size_t rows, size_t width)
{
    for (size_t r = 0; r < rows; r++, x += width, y += width) {
        size_t best[2] = {0};
        for (size_t i = 0; i < width; i++) {
            double d = fabs((double)x[i] - (double)y[i]);
            a->apart = d > a->apart || d != d ? d : a->apart; /* a NaN stays */
            a->largest = fmax(a->largest, fabs((double)x[i]));
            best[0] = x[i] > x[best[0]] ? i : best[0];
            best[1] = y[i] > y[best[1]] ? i : best[1];
        }
        a->rows++;
        a->same += best[0] == best[1];
    }
}

/* Both teachers on the first training samples. */
static status calibrate(session *s, frozen_net *exact, frozen_net *rounded, agreement *a)
{
    loader *l = NULL;
    float *outputs = NULL;
    const batch *b;
    loader_options o = loader_eval_options(DATA_TRAIN, CALIBRATION);
    status st = ST_OK;
    TRY_DONE(mem_alloc(&outputs, 2 * CALIBRATION * exact->width[0], sizeof *outputs));
    TRY_DONE(loader_open(s->ds, &o, &l));
    TRY_DONE(loader_next(l, &b));
    float *to[2][1 + HINTS_MAX] = {{outputs}, {outputs + CALIBRATION * exact->width[0]}};
    TRY_DONE(frozen_run(exact, b->x, b->n, to[0]));
    TRY_DONE(frozen_run(rounded, b->x, b->n, to[1]));
    exact->runs = rounded->runs = 0;
    compare(a, to[0][0], to[1][0], b->n, exact->width[0]);
done:
    loader_close(l);
    mem_free(outputs);
    return st;
}

/* Integer products pay where the processor adds four of them at once. */
static bool has_fast_int8(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512vnni");
#else
    return false;
#endif
}

/* The teacher in a narrower precision replaces the exact one when their outputs agree. */
static status try_narrow(session *s, int64_t rows, teacher_precision_kind how, const char *name, bool *taken)
{
    frozen_net narrow = {0};
    agreement a = {0};
    uint64_t int8 = s->teacher_int8;
    status st = ST_OK;
    TRY_DONE(open_in(s, rows, how, &narrow));
    TRY_DONE(calibrate(s, &s->t, &narrow, &a));
    *taken = a.same == a.rows && a.apart <= AGREE_WITHIN * a.largest;
    log_info("teacher precision: %s %s; on %zu samples it differs from fp32 by %.3g at most (largest output %.3g), the largest "
             "output is the same one on %.1f %%", name, *taken ? "taken" : "not taken", a.rows, a.apart, a.largest,
             100.0 * (double)a.same / (double)a.rows);
    if (*taken) {
        frozen_close(&s->t);
        s->t = narrow;
        narrow = (frozen_net){0};
    } else {
        s->teacher_int8 = int8;
    }
done:
    frozen_close(&narrow);
    return st;
}

/* The narrowest precision whose outputs agree with those of fp32. */
static status open_auto(session *s, int64_t rows)
{
    bool taken = false;
    TRY(open_in(s, rows, TEACHER_FP32, &s->t));
    if (has_fast_int8())
        TRY(try_narrow(s, rows, TEACHER_INT8, "int8", &taken));
    if (!taken && backend_has_bf16(s->b))
        TRY(try_narrow(s, rows, TEACHER_BF16, "bf16", &taken));
    if (!taken)
        log_info("teacher precision: fp32");
    return ST_OK;
}

status session_open_frozen_teacher(session *s, int64_t rows)
{
    if (s->j->teacher.precision == TEACHER_AUTO)
        return open_auto(s, rows);
    if (s->j->teacher.precision == TEACHER_BF16 && !backend_has_bf16(s->b))
        return fail(ST_UNAVAILABLE, "teacher.precision = bf16: this processor has no bfloat16 products "
                    "(AVX512-BF16); take fp32 or auto");
    return open_in(s, rows, s->j->teacher.precision, &s->t);
}
