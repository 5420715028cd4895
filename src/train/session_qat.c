/* session_qat.c - opens the training with rounding upon a trained session. */
#include "train/session_qat.h"
#include "base/io.h"
#include "base/log.h"
#include "onnx/export.h"
#include "quant/insert.h"
#include "train/job_spec.h"
#include "train/session_ahead.h"
#include "train/variants.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { CALIBRATION_BYTES = 64 << 20 };

static const struct {
    const char *key;
    quant_profile profile;
} kinds[] = {{"int8-qat", PROFILE_NONE}, {"portable", PROFILE_PORTABLE}, {"portable-s8", PROFILE_PORTABLE_S8}};

static int kind_of(const char *key)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].key, key) == 0)
            return (int)i;
    return -1;
}

bool qat_variant(const char *key)
{
    return kind_of(key) >= 0;
}

quant_profile qat_profile(const char *key)
{
    const int kind = kind_of(key);
    return kind < 0 ? PROFILE_NONE : kinds[kind].profile;
}

/* ---- the student ---- */

/* In float, folded and rewritten, with the weights of the float session as constants. */
static status float_student(const session *s, int64_t rows, bool *pixel_input, graph **out)
{
    const session_qat *q = s->qat;
    const data_info *d = s->info;
    const qat_pixels px = {.mean = d->mean, .std = d->std, .channels = d->image ? d->input[0].sh.dim[0] : 0};
    graph *g = NULL;
    status st = ST_OK;
    TRY_DONE(student_build(&s->spec, rows, &g));
    g->n_output = 1;
    TRY_DONE(store_bake(q->base->judged, g));
    TRY_DONE(qat_mark_hints(s, g));
    TRY_DONE(quant_prepare(g));
    TRY_DONE(qat_unmark_hints(g));
    TRY_DONE(qat_rewrite(g, &q->o, d->image ? &px : NULL, pixel_input));
    *out = g;
    return ST_OK;
done:
    graph_free(g);
    return st;
}

/* The same again: its warnings were shown when the ranges were found. */
static status float_again(const session *s, int64_t rows, graph **out)
{
    bool pixels;
    log_hush(true);
    status st = float_student(s, rows, &pixels, out);
    log_hush(false);
    return st;
}

status qat_student(const session *s, int64_t rows, graph **out)
{
    graph *g = NULL;
    status st = ST_OK;
    TRY_DONE(float_again(s, rows, &g));
    TRY_DONE(qat_insert(g, &s->qat->o, &s->qat->ranges));
    *out = g;
    return ST_OK;
done:
    graph_free(g);
    return st;
}

status qat_leave(const session *s, int64_t rows, graph **out)
{
    graph *g = NULL;
    status st = ST_OK;
    TRY_DONE(qat_student(s, rows, &g));
    TRY_DONE(store_bake(s->judged, g));
    st = qat_to_qdq(g, &s->qat->o, out);
done:
    graph_free(g);
    return st;
}

status qat_export(const session *s, int64_t rows, const export_options *o, const char *path)
{
    graph *g = NULL;
    status st = ST_OK;
    TRY_DONE(qat_leave(s, rows, &g));
    st = onnx_export_file(g, o, path);
done:
    graph_free(g);
    return st;
}

/* ---- opening ---- */

static qat_options options_of(const job *j, quant_profile profile)
{
    static const qat_learn learn[] = {[QUANT_LEARN_NONE] = QAT_NONE, [QUANT_LEARN_EMA] = QAT_EMA, [QUANT_LEARN_LSQ] = QAT_LSQ};
    qat_options o = {.scheme = job_quant_scheme(j), .learn = learn[j->quant.learn], .momentum = j->quant.momentum};
    if (profile != PROFILE_NONE) {
        quant_scheme s = quant_scheme_portable(profile);
        s.keep_float = o.scheme.keep_float;
        s.n_keep_float = o.scheme.n_keep_float;
        o.scheme = s;
    }
    return o;
}

/* As many samples at once as keep what calibration looks at near the caches, and out of the memory's way. */
static status calibration_rows(const session *s, int64_t *rows)
{
    places p = {0};
    graph *g = NULL;
    status st = ST_OK;
    TRY_DONE(float_again(s, 1, &g));
    TRY_DONE(places_find(g, &s->qat->o.scheme, &p));
    *rows = calibration_batch(g, &p, 1, CALIBRATION_BYTES);
done:
    places_free(&p);
    graph_free(g);
    return st;
}

static status find_ranges(session *s)
{
    int64_t rows;
    calibration c = {0};
    calibration_data data = {0};
    graph *g = NULL;
    status st = ST_OK;
    TRY_DONE(calibration_rows(s, &rows));
    TRY_DONE(float_student(s, rows, &s->qat->pixel_input, &g));
    TRY_DONE(qat_open_calibration(g, &s->qat->o, s->b, &c));
    TRY_DONE(calibration_data_open(s->j, s->ds, g, "the student", &data));
    const sample_source from = calibration_data_source(&data);
    for (;;) {
        const void *const *x;
        size_t n;
        TRY_DONE(from.next(from.ctx, &x, &n));
        if (!n)
            break;
        TRY_DONE(calibration_add(&c, x, n));
    }
    st = qat_find_ranges(g, &s->qat->o, &c, &s->qat->ranges);
done:
    calibration_data_close(&data);
    calibration_close(&c);
    graph_free(g);
    return st;
}

static status open_hints(session *s)
{
    graph *was = NULL, *g = NULL;
    status st = ST_OK;
    TRY_DONE(student_build(&s->spec, 1, &was));
    TRY_DONE(float_again(s, 1, &g));
    TRY_DONE(qat_choose_hints(s, was, g));
    TRY_DONE(qat_insert(g, &s->qat->o, &s->qat->ranges));
    st = qat_round_hints(s, g);
done:
    graph_free(was);
    graph_free(g);
    return st;
}

/* Hints go on with the regressors that were trained with them. */
static void take_regressors(session *s)
{
    const session *base = s->qat->base;
    for (size_t i = 0; i < s->params.n; i++) {
        store_entry *to = &s->params.at[i];
        const store_entry *from = store_find(&base->params, to->t.name);
        if (to->kind == VALUE_PARAM && from && !graph_find(base->eval_graph, to->t.name) && from->t.type == to->t.type &&
            shape_equal(&from->t.sh, &to->t.sh))
            memcpy(to->t.data, from->t.data, tensor_bytes(&to->t));
    }
    store_changed(&s->params);
}

static void set_job(session_qat *q, const job *j)
{
    q->j = *j;
    job_train *t = &q->j.train;
    t->optimizer = OPTIMIZER_ADAM;
    t->weight_decay = 0;
    t->lr = j->quant.lr;
    t->warmup = 0;
    t->steps = 0;
    t->epochs = 1;
}

static status open_steps(session *s)
{
    TRY(session_open_loader(s));
    double steps = ceil(s->j->quant.epochs * (double)s->steps_per_epoch);
    s->steps = steps >= 1 ? (uint64_t)steps : 1;
    return job_schedule(s->j, s->steps_per_epoch, s->steps, &s->mem, &s->lr);
}

status session_open_qat(session *base, const char *key, session *out)
{
    session *s = out;
    session_qat *q;
    const int kind = kind_of(key);
    status st = ST_OK;
    *s = *base;
    s->mem = (arena){0};
    s->tg = (train_graph){0};
    s->params = s->copies = (store){0};
    s->judged = NULL;
    s->train = s->eval = NULL;
    s->eval_graph = NULL;
    s->in = NULL;
    s->taps = NULL;
    s->chain = NULL;
    s->group = NULL;
    group_forget(base);
    s->qat = NULL;
    s->narrow = DTYPE_NONE; /* rounding is that of integers */
    if (kind < 0)
        TRY_DONE(fail(ST_INTERNAL, "variant '%s' is not trained", key));
    TRY_DONE(session_sync_weights(base));
    TRY_DONE(arena_alloc(&s->mem, &q, 1, sizeof *q));
    q->key = kinds[kind].key;
    q->o = options_of(base->j, kinds[kind].profile);
    q->base = base;
    set_job(q, base->j);
    s->qat = q;
    s->j = &q->j;
    TRY_DONE(find_ranges(s));
    if (base->n_hint)
        TRY_DONE(open_hints(s));
    TRY_DONE(session_open_training(s));
    take_regressors(s);
    if (s->t.e)
        TRY_DONE(session_place_taps(s));
    TRY_DONE(session_open_evaluation(s));
    TRY_DONE(open_steps(s));
    TRY_DONE(group_open(s));
    TRY_DONE(session_open_chain(s));
done:
    if (st != ST_OK)
        session_close_qat(s);
    return st == ST_OK ? st : fail_within(st, "variant %s", key);
}

void session_close_qat(session *s)
{
    loader_close(s->in);
    exec_chain_close(s->chain);
    group_close(s);
    exec_close(s->eval);
    graph_free(s->eval_graph);
    store_free(&s->copies);
    exec_close(s->train);
    train_graph_free(&s->tg);
    store_free(&s->params);
    if (s->qat) {
        qat_ranges_free(&s->qat->ranges);
        s->qat->base->rows = s->rows; /* perhaps made here; the float session keeps them */
        if (s->teacher_val && !s->qat->base->teacher_val) /* made here; the float session keeps it */
            s->qat->base->teacher_val = s->teacher_val;
    }
    arena_free(&s->mem);
    *s = (session){0};
}

/* ---- from the float session to the file ---- */

void session_input_numbers(const session *s, float *mean, float *std)
{
    const bool pixels = s->qat && s->qat->pixel_input, halved = pixels && s->qat->o.scheme.activations == DTYPE_I8;
    const int64_t channels = s->info->image ? s->info->input[0].sh.dim[0] : 0;
    for (int64_t k = 0; k < channels && k < DATA_CHANNELS; k++) {
        mean[k] = pixels ? (halved ? 256.0f / 255.0f / 512.0f : 0.0f) : s->info->mean[k];
        std[k] = pixels ? 256.0f / 255.0f : s->info->std[k];
    }
}

static void print_numbers(const float *x, int64_t n, char *to, size_t room)
{
    size_t at = 0;
    for (int64_t k = 0; k < n && at + 32 < room; k++)
        at += (size_t)snprintf(to + at, room - at, "%s%.9g", k ? " " : "", (double)x[k]);
}

static status export_variant(session *s, const char *path, const export_pair *facts, size_t n_facts, const loop_result *r,
                             const float *mean, const float *std)
{
    static const char *const scales[] = {"pixel / 255, minus mean, divided by std", "pixel / 256 (rounded to 2^-8)",
                                         "(pixel >> 1) / 128 (rounded to 2^-7)"};
    const int64_t channels = s->info->image ? s->info->input[0].sh.dim[0] : 0;
    char means[400] = "0", stds[400] = "1", accuracy[NUMBER_ROOM];
    export_pair *all;
    size_t n = 0;
    TRY(mem_alloc(&all, n_facts + 5, sizeof *all));
    print_numbers(mean, channels, means, sizeof means);
    print_numbers(std, channels, stds, sizeof stds);
    for (; n < n_facts; n++)
        all[n] = facts[n];
    all[n++] = (export_pair){"distill.variant", s->qat->key};
    if (channels)
        all[n++] = (export_pair){"input.scale", scales[!s->qat->pixel_input ? 0 : s->qat->o.scheme.activations == DTYPE_I8 ? 2 : 1]};
    all[n++] = (export_pair){"input.mean", means};
    all[n++] = (export_pair){"input.std", stds};
    if (!isnan(r->last.accuracy))
        all[n++] = (export_pair){"validation.accuracy", format_double(r->last.accuracy, accuracy)};
    status st = session_export(s, path, all, n);
    mem_free(all);
    return st;
}

status session_train_variant(session *base, const char *key, const loop_options *o, const char *path, const export_pair *facts,
                             size_t n_facts, loop_result *out, float *mean, float *std)
{
    session s = {0};
    int lock = -1;
    status st = ST_OK;
    *out = (loop_result){0};
    TRY(session_open_qat(base, key, &s));
    TRY_DONE(loop_prepare(o, &lock));
    TRY_DONE(loop_run(&s, o, out));
    session_input_numbers(&s, mean, std);
    st = export_variant(&s, path, facts, n_facts, out, mean, std);
done:
    io_close(lock);
    session_close_qat(&s);
    return st;
}
