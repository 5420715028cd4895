/* session_precision.c - the teacher, opened in the precision that the job asks for (teacher.precision). */
#include "base/log.h"
#include "train/job_spec.h"
#include "train/session.h"

#include <math.h>

enum { CALIBRATION = 64 }; /* samples by which `auto` judges */
#define AGREE_WITHIN 0.05  /* largest difference, as a share of the largest output, that `auto` takes */

static status open_in(session *s, int64_t rows, bool bf16, frozen_net *out)
{
    graph *g;
    TRY(session_import_teacher(s, rows, true, &g));
    s->teacher_stats = graph_measure(g, rows);
    TRY(frozen_open_in(g, s->b, job_memory_limit(s->j), bf16, out));
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
    frozen_run(exact, b->x, b->n, to[0]);
    frozen_run(rounded, b->x, b->n, to[1]);
    exact->runs = rounded->runs = 0;
    compare(a, to[0][0], to[1][0], b->n, exact->width[0]);
done:
    loader_close(l);
    mem_free(outputs);
    return st;
}

/* The narrowest precision whose outputs agree with those of fp32. */
static status open_auto(session *s, int64_t rows)
{
    frozen_net rounded = {0};
    agreement a = {0};
    status st = ST_OK;
    TRY(open_in(s, rows, false, &s->t));
    if (!backend_has_bf16(s->b)) {
        log_info("teacher precision: fp32; this processor has no bfloat16 products");
        return ST_OK;
    }
    TRY_DONE(open_in(s, rows, true, &rounded));
    TRY_DONE(calibrate(s, &s->t, &rounded, &a));
    bool agrees = a.same == a.rows && a.apart <= AGREE_WITHIN * a.largest;
    log_info("teacher precision: %s; on %zu samples bf16 differs from fp32 by %.3g at most (largest output %.3g), the largest "
             "output is the same one on %.1f %%", agrees ? "bf16" : "fp32", a.rows, a.apart, a.largest,
             100.0 * (double)a.same / (double)a.rows);
    if (agrees) {
        frozen_close(&s->t);
        s->t = rounded;
        rounded = (frozen_net){0};
    }
done:
    frozen_close(&rounded);
    return st;
}

status session_open_frozen_teacher(session *s, int64_t rows)
{
    if (s->j->teacher.precision == TEACHER_AUTO)
        return open_auto(s, rows);
    if (s->j->teacher.precision == TEACHER_BF16 && !backend_has_bf16(s->b))
        return fail(ST_UNAVAILABLE, "teacher.precision = bf16: this processor has no bfloat16 products "
                    "(AVX512-BF16); take fp32 or auto");
    return open_in(s, rows, s->j->teacher.precision == TEACHER_BF16, &s->t);
}
