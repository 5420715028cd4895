/* session_precision.c - in what precision the student trains (train.precision), and the teacher, opened in the one that the job
 * asks for (teacher.precision). */
#include "base/hash.h"
#include "base/log.h"
#include "train/job_spec.h"
#include "train/session.h"
#include "train/variants.h"

#include <math.h>

enum { CALIBRATION = 64 }; /* samples by which `auto` judges */
#define AGREE_WITHIN 0.05  /* largest difference, as a share of the largest output, that `auto` takes */

/* ---- what trains ---- */

/* What is known to train well: the range of bfloat16 for attention, float16 with a scaled loss for convolutions. */
static const struct {
    op_id op;
    dtype narrow;
} kinds[] = {{OP_ATTENTION, DTYPE_BF16}, {OP_LAYER_NORM, DTYPE_BF16}, {OP_CONV, DTYPE_F16}, {OP_CONV_TRANSPOSE, DTYPE_F16}};

static dtype kind_of_network(const graph *g)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        for (size_t k = 1; k < g->n_node; k++)
            if (g->node[k].op == kinds[i].op)
                return kinds[i].narrow;
    return DTYPE_NONE;
}

static const char *narrow_name(dtype t)
{
    return t == DTYPE_F16 ? "fp16" : t == DTYPE_BF16 ? "bf16" : "fp32";
}

const char *session_precision_name(const session *s)
{
    return narrow_name(s->narrow);
}

status session_choose_precision(session *s, const graph *g)
{
    const dtype asked[] = {[TRAIN_AUTO] = DTYPE_NONE, [TRAIN_FP32] = DTYPE_NONE, [TRAIN_FP16] = DTYPE_F16, [TRAIN_BF16] = DTYPE_BF16};
    const train_precision_kind how = s->j->train.precision;
    s->narrow = asked[how];
    if (s->narrow && !s->b->set_narrow)
        return fail(ST_UNAVAILABLE, "train.precision = %s: the %s backend trains in float32 only; take fp32 or auto, or a CUDA device "
                    "(--device cuda)", narrow_name(s->narrow), s->b->name);
    if (!s->b->set_narrow)
        return ST_OK;
    if (how == TRAIN_AUTO)
        s->narrow = kind_of_network(g);
    log_info("precision: the student trains in %s%s%s; it is evaluated in fp32", narrow_name(s->narrow),
             s->narrow == DTYPE_F16 ? " with dynamic loss scaling" : "", how == TRAIN_AUTO ? " (train.precision = auto)" : "");
    return ST_OK;
}

/* ---- the teacher ---- */

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

/* The type in which a teacher's images lie on a device that has kernels for it. */
static dtype narrow_of(const session *s, const graph *g, teacher_precision_kind how)
{
    if (how == TEACHER_FP8)
        return kind_of_network(g);
    return !s->b->set_narrow ? DTYPE_NONE : how == TEACHER_FP16 ? DTYPE_F16 : how == TEACHER_BF16 ? DTYPE_BF16 : DTYPE_NONE;
}

/* Takes g. */
static status open_narrow(session *s, graph *g, teacher_precision_kind how, const frozen_rounding *fp8, frozen_net *out)
{
    const frozen_rounding products = {.bf16 = how == TEACHER_BF16 && backend_has_bf16(s->b)};
    status st = backend_narrow(s->b, narrow_of(s, g, how));
    if (st != ST_OK) {
        graph_free(g);
        return st;
    }
    st = frozen_open_in(g, s->b, job_memory_limit(s->j), fp8 ? fp8 : &products, out);
    status back = backend_narrow(s->b, DTYPE_NONE);
    return st != ST_OK ? st : back;
}

/* fp8: ranges where that is asked for, else NULL. */
static status open_in(session *s, int64_t rows, teacher_precision_kind how, const frozen_rounding *fp8, frozen_net *out)
{
    graph *g;
    TRY(session_import_teacher(s, rows, true, &g));
    s->teacher_stats = graph_measure(g, rows);
    s->teacher_int8 = s->teacher_fp8 = 0;
    if (how == TEACHER_INT8) {
        status st = session_quantise_teacher(s, &g);
        if (st != ST_OK) {
            graph_free(g);
            return st;
        }
    }
    TRY(open_narrow(s, g, how, fp8, out));
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

/* The samples by which precisions are judged: the first training samples, until the loader is closed (also after failure). */
static status open_samples(session *s, loader **l, const batch **b)
{
    loader_options o = loader_eval_options(DATA_TRAIN, CALIBRATION);
    TRY(loader_open(s->ds, &o, l));
    return loader_next(*l, b);
}

/* Both teachers on them. */
static status calibrate(session *s, frozen_net *exact, frozen_net *rounded, agreement *a)
{
    loader *l = NULL;
    float *outputs = NULL;
    const batch *b;
    status st = ST_OK;
    TRY_DONE(mem_alloc(&outputs, 2 * CALIBRATION * exact->width[0], sizeof *outputs));
    TRY_DONE(open_samples(s, &l, &b));
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

static bool agrees(const agreement *a)
{
    return a->same == a->rows && a->apart <= AGREE_WITHIN * a->largest;
}

/* The teacher in a narrower precision replaces the exact one when their outputs agree. */
static status try_narrow(session *s, int64_t rows, teacher_precision_kind how, const char *name, bool *taken)
{
    frozen_net narrow = {0};
    agreement a = {0};
    uint64_t int8 = s->teacher_int8;
    status st = ST_OK;
    TRY_DONE(open_in(s, rows, how, NULL, &narrow));
    TRY_DONE(calibrate(s, &s->t, &narrow, &a));
    *taken = agrees(&a);
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

/* ---- numbers of 8 bits ---- */

static status find_ranges(session *s, frozen_rounding *fp8, float **range)
{
    loader *l = NULL;
    const batch *b;
    status st = ST_OK;
    fp8->n_range = s->t.g->n_value;
    TRY_DONE(mem_alloc(range, fp8->n_range, sizeof **range));
    TRY_DONE(open_samples(s, &l, &b));
    TRY_DONE(frozen_ranges(&s->t, b->x, b->n, *range));
    s->t.runs = 0;
    fp8->range = *range;
done:
    loader_close(l);
    return st;
}

static status refuse_fp8(const agreement *a)
{
    return fail(ST_GATE, "teacher.precision = fp8: the teacher's outputs are not those of fp32: on %zu samples they differ by %.3g where "
                "%.3g (%g %% of the largest output) is allowed, and the largest output is the same one on %zu samples where all are "
                "wanted; take bf16, fp16 or auto", a->rows, a->apart, AGREE_WITHIN * a->largest, 100 * AGREE_WITHIN, a->same);
}

/* Products of 8 bits, where the device has them and the outputs agree with those of fp32. */
static status open_fp8(session *s, int64_t rows)
{
    frozen_net narrow = {0};
    frozen_rounding fp8 = {0};
    agreement a = {0};
    float *range = NULL;
    status st = ST_OK;
    if (!backend_has_fp8(s->b))
        return fail(ST_UNAVAILABLE, "teacher.precision = fp8: %s has no products of 8-bit floats, which take a CUDA device of compute "
                    "capability 8.9 or later (--device cuda); take int8, bf16 or auto", s->b->queue ? "this GPU" : "this processor");
    TRY_DONE(open_in(s, rows, TEACHER_FP32, NULL, &s->t));
    TRY_DONE(find_ranges(s, &fp8, &range));
    TRY_DONE(open_in(s, rows, TEACHER_FP8, &fp8, &narrow));
    if (!narrow.fp8)
        TRY_DONE(fail(ST_UNAVAILABLE, "teacher.precision = fp8: the teacher has no matrix product by a constant that could be rounded; take "
                      "fp32, fp16 or auto"));
    TRY_DONE(calibrate(s, &s->t, &narrow, &a));
    if (!agrees(&a))
        TRY_DONE(refuse_fp8(&a));
    s->teacher_fp8 = hash_xxh3(range, fp8.n_range * sizeof *range);
    log_info("teacher precision: fp8 in %zu products, %s elsewhere; on %zu samples it differs from fp32 by %.3g at most (largest output "
             "%.3g), the largest output is the same one on all", narrow.fp8, narrow_name(narrow.narrow), a.rows, a.apart, a.largest);
    frozen_close(&s->t);
    s->t = narrow;
    narrow = (frozen_net){0};
done:
    frozen_close(&narrow);
    mem_free(range);
    return st;
}

/* ---- which ---- */

/* The precision that a device is fast in: as the student trains, or by the kind of network. */
static status open_on_device(session *s, int64_t rows)
{
    const bool same = s->j->teacher.precision == TEACHER_SAME;
    bool taken = false;
    TRY(open_in(s, rows, TEACHER_FP32, NULL, &s->t));
    const dtype narrow = same ? s->narrow : kind_of_network(s->t.g);
    if (narrow)
        TRY(try_narrow(s, rows, narrow == DTYPE_F16 ? TEACHER_FP16 : TEACHER_BF16, narrow_name(narrow), &taken));
    return ST_OK;
}

/* The narrowest precision whose outputs agree with those of fp32. */
static status open_auto(session *s, int64_t rows)
{
    bool taken = false;
    TRY(open_in(s, rows, TEACHER_FP32, NULL, &s->t));
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
    teacher_precision_kind how = s->j->teacher.precision;
    if (s->b->set_narrow && (how == TEACHER_AUTO || how == TEACHER_SAME))
        return open_on_device(s, rows);
    if (how == TEACHER_AUTO)
        return open_auto(s, rows);
    if (how == TEACHER_FP16 && !s->b->set_narrow)
        return fail(ST_UNAVAILABLE, "teacher.precision = fp16: the %s backend has no float16 kernels; take fp32, int8 or auto, or a "
                    "CUDA device (--device cuda)", s->b->name);
    if (how == TEACHER_BF16 && !s->b->set_narrow && !backend_has_bf16(s->b))
        return fail(ST_UNAVAILABLE, "teacher.precision = bf16: this processor has no bfloat16 products "
                    "(AVX512-BF16); take fp32 or auto");
    if (how == TEACHER_FP8)
        return open_fp8(s, rows);
    return open_in(s, rows, how, NULL, &s->t);
}
