/* evaluate.c - the student (and once the teacher) on the validation part; the student as a file. */
#include "onnx/export.h"
#include "train/job_spec.h"
#include "train/session_ahead.h"
#include "train/session_qat.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

status session_sync_weights(session *s)
{
    char name[1200];
    TRY(store_pull(&s->params));
    for (size_t i = 0; i < s->copies.n; i++) {
        store_entry *to = &s->copies.at[i];
        const store_entry *from = NULL;
        if (to->kind == VALUE_PARAM && s->j->train.ema > 0) {
            snprintf(name, sizeof name, "%s.ema", to->t.name);
            from = store_find(&s->params, name);
        }
        if (!from)
            from = store_find(&s->params, to->t.name);
        if (!from)
            return fail(ST_INTERNAL, "parameter '%s' does not train", to->t.name);
        memcpy(to->t.data, from->t.data, tensor_bytes(&to->t));
    }
    store_changed(&s->copies);
    return ST_OK;
}

static uint32_t argmax(const float *x, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return (uint32_t)best;
}

static double cross_entropy(const float *x, int64_t n, int64_t label)
{
    double top = (double)x[argmax(x, n)], sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += exp((double)x[i] - top);
    return log(sum) + top - (double)x[label];
}

static double mean_distance(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += fabs((double)a[i] - (double)b[i]);
    return sum / (double)n;
}

/* Runs the validation part through the student, and the teacher where its logits are not there yet. */
static status collect_logits(session *s, float *student, float *teacher)
{
    loader *l = NULL;
    tap_cache *cache = NULL;
    loader_options o = loader_eval_options(DATA_VAL, (uint32_t)s->eval_batch);
    size_t width = (size_t)s->width, at = 0;
    status st = ST_OK;
    if (teacher) {
        group_forget(s);
        TRY_DONE(session_open_val_cache(s, &cache));
    }
    TRY_DONE(loader_open(s->ds, &o, &l));
    for (;;) {
        const batch *b;
        TRY_DONE(loader_next(l, &b));
        if (!b)
            break;
        feed_put(&s->eval_x, s->eval, 0, b->x, 0, b->n);
        feed_clear(&s->eval_x, s->eval, b->n, (size_t)s->eval_batch - b->n);
        TRY_DONE(exec_run(s->eval, PHASE_MAIN));
        memcpy(student + at * width, exec_data(s->eval, s->eval_graph->output[0]), b->n * width * sizeof *student);
        if (teacher) {
            float *out[1 + HINTS_MAX] = {teacher + at * s->t.width[0]};
            if (cache)
                TRY_DONE(frozen_run_remembered(&s->t, cache, b->x, b->n, b->index, b->view, out));
            else
                TRY_DONE(frozen_run(&s->t, b->x, b->n, out));
        }
        at += b->n;
    }
done:
    loader_close(l);
    cache_close(cache);
    return st;
}

static void judge_numbers(const session *s, evaluation *e)
{
    size_t width = (size_t)s->width;
    const float *t = s->teacher_val && s->t.width[0] == width ? s->teacher_val : NULL;
    double mine = 0, theirs = 0, apart = 0;
    bool targets = s->info->target_size == s->width;
    for (uint32_t i = 0; i < e->n; i++) {
        const float *x = e->logits + i * width, *y = targets ? dataset_target(s->ds, DATA_VAL, i) : NULL;
        apart += t ? mean_distance(x, t + i * width, s->width) : 0;
        if (!y)
            continue;
        e->labelled++;
        mine += mean_distance(x, y, s->width);
        theirs += t ? mean_distance(t + i * width, y, s->width) : 0;
    }
    double labelled = e->labelled ? (double)e->labelled : (double)NAN;
    e->error = mine / labelled;
    e->teacher_error = t ? theirs / labelled : (double)NAN;
    e->distance = t && e->n ? apart / (double)e->n : (double)NAN;
}

static void judge(const session *s, evaluation *e)
{
    e->error = e->teacher_error = e->distance = (double)NAN;
    e->accuracy = e->ce = e->agreement = e->teacher_accuracy = (double)NAN;
    if (s->numbers) {
        judge_numbers(s, e);
        return;
    }
    const float *t = s->teacher_val;
    uint32_t correct = 0, taught = 0, agree = 0;
    bool classes = s->info->classes > 0;
    double ce = 0;
    for (uint32_t i = 0; i < e->n; i++) {
        int64_t label = classes ? dataset_label(s->ds, DATA_VAL, i) : -1;
        const float *x = e->logits + (size_t)i * (size_t)s->width;
        uint32_t mine = argmax(x, s->width), theirs = t ? argmax(t + i * s->t.width[0], (int64_t)s->t.width[0]) : 0;
        agree += t && mine == theirs;
        if (label < 0 || label >= s->width)
            continue;
        e->labelled++;
        correct += mine == label;
        taught += t && theirs == label;
        ce += cross_entropy(x, s->width, label);
    }
    double labelled = e->labelled ? (double)e->labelled : (double)NAN;
    e->accuracy = correct / labelled;
    e->ce = ce / labelled;
    e->teacher_accuracy = t ? taught / labelled : (double)NAN;
    e->agreement = t && e->n ? agree / (double)e->n : (double)NAN;
}

status session_evaluate(session *s, evaluation *out)
{
    bool teach = s->t.e && !s->teacher_val;
    status st = ST_OK;
    *out = (evaluation){.n = s->info->part[DATA_VAL].n};
    TRY_DONE(session_sync_weights(s));
    TRY_DONE(mem_alloc(&out->logits, (size_t)out->n * (size_t)s->width, sizeof *out->logits));
    if (teach)
        TRY_DONE(mem_alloc(&s->teacher_val, (size_t)out->n * s->t.width[0], sizeof *s->teacher_val));
    st = collect_logits(s, out->logits, teach ? s->teacher_val : NULL);
    if (st != ST_OK && teach) { /* half-filled: the next evaluation starts anew */
        mem_free(s->teacher_val);
        s->teacher_val = NULL;
    }
    if (st == ST_OK)
        judge(s, out);
done:
    if (st != ST_OK)
        evaluation_free(out);
    return st;
}

void evaluation_free(evaluation *e)
{
    mem_free(e->logits);
    e->logits = NULL;
}

/* ---- the file ---- */

status session_export(session *s, const char *path, const struct export_pair *meta, size_t n_meta)
{
    const job_export *e = &s->j->export;
    graph *g = NULL;
    status st = ST_OK;
    export_options o = {.opset = e->opset, .fixed_batch = e->batch != 0, .meta = meta, .n_meta = n_meta};
    TRY_DONE(session_sync_weights(s));
    if (s->qat)
        return qat_export(s, e->batch ? e->batch : 1, &o, path);
    TRY_DONE(student_build(&s->spec, e->batch ? e->batch : 1, &g));
    g->n_output = 1;
    TRY_DONE(store_bake(s->judged, g));
    TRY_DONE(pass_drop_identity(g));
    if (e->fold_bn)
        TRY_DONE(pass_fold_batch_norm(g));
    TRY_DONE(graph_validate(g));
    st = onnx_export_file(g, &o, path);
done:
    graph_free(g);
    return st;
}
