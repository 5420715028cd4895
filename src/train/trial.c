/* trial.c - makes all variants of an untrained student. */
#include "train/trial.h"
#include "base/io.h"
#include "base/log.h"
#include "quant/portable.h"
#include "train/loop.h"
#include "train/session_qat.h"
#include "train/variants.h"

#include <string.h>

enum { TRIAL_SAMPLES = 32 }; /* of calibration */

static job few_samples(const job *j)
{
    job few = *j;
    if (few.quant.samples > TRIAL_SAMPLES)
        few.quant.samples = TRIAL_SAMPLES;
    return few;
}

/* Weights do not decide it: training keeps to the rules by construction, so what breaks one is the student's form. */
static status must_be_proven(session *q)
{
    portable_report r = {0};
    graph *g = NULL;
    status st = ST_OK;
    if (q->qat->o.scheme.profile == PROFILE_NONE)
        return ST_OK;
    TRY_DONE(session_sync_weights(q));
    TRY_DONE(qat_leave(q, 1, &g));
    TRY_DONE(portable_check(g, q->qat->o.scheme.profile, &r));
    if (r.n_fault)
        st = fail(ST_CONFIG, "the student cannot become portable: node '%s' breaks rule %d: %s (%zu faults); change the student%s, or "
                  "leave the variant out of export.variants", r.fault[0].node, r.fault[0].rule, r.fault[0].what, r.n_fault,
                  q->qat->o.scheme.n_keep_float ? " or quant.keep_float, which holds here too" : "");
done:
    portable_free(&r);
    graph_free(g);
    return st;
}

static status try_training(session *base, const char *key, const char *path)
{
    session q = {0};
    step_result r = {0};
    status st = ST_OK;
    TRY(session_open_qat(base, key, &q));
    TRY_DONE(arena_alloc(&q.mem, &r.hint, q.n_hint, sizeof *r.hint));
    for (uint64_t step = 0; step < 2; step++)
        TRY_DONE(session_step(&q, step, &r));
    TRY_DONE(session_export(&q, path, NULL, 0));
    st = must_be_proven(&q);
done:
    session_close_qat(&q);
    return st == ST_OK ? st : fail_within(st, "variant %s", key);
}

static status try_all(session *s, const char *dir, arena *mem)
{
    const char *student, *path;
    TRY(arena_printf(mem, &student, "%s/student.onnx", dir));
    TRY(arena_printf(mem, &path, "%s/variant.onnx", dir));
    const variant_job vj = {.j = s->j, .b = s->b, .ds = s->ds, .student = student,
                            .teacher = s->teacher_file ? s->teacher_file->path : NULL};
    TRY(session_export(s, student, NULL, 0));
    for (size_t i = 0; i < s->j->export.variants.n; i++) {
        const char *key = s->j->export.variants.at[i];
        TRY(qat_variant(key) ? try_training(s, key, path) : variant_write(&vj, key, path, NULL));
    }
    return ST_OK;
}

/* Only fp32: the trial of the training has exported that already. */
static bool plain(const job *j)
{
    for (size_t i = 0; i < j->export.variants.n; i++)
        if (strcmp(j->export.variants.at[i], "fp32") != 0)
            return false;
    return true;
}

status trial_variants(session *s, const char *dir)
{
    const job *whole = s->j, few = few_samples(whole);
    const char *folder;
    arena mem = {0};
    char *message = NULL;
    status st = ST_OK;
    if (plain(whole))
        return ST_OK;
    TRY_DONE(arena_printf(&mem, &folder, "%s/" LOOP_TRIAL_FOLDER, dir));
    TRY_DONE(io_make_dirs(folder));
    s->j = &few;
    log_hush(true);
    st = try_all(s, folder, &mem);
    log_hush(false);
    s->j = whole;
    if (st != ST_OK)
        st = fail_within(st, "the trial before the run failed");
    if (st != ST_OK && mem_strdup(&message, status_message()) != ST_OK)
        message = NULL;
    status removed = io_remove_tree(folder);
    if (st == ST_OK)
        st = removed;
    else if (message)
        st = fail(st, "%s", message);
done:
    mem_free(message);
    arena_free(&mem);
    return st;
}

status trial_memory(session *s, size_t *bytes)
{
    const job *whole = s->j, few = few_samples(whole);
    status st = ST_OK;
    *bytes = 0;
    s->j = &few;
    for (size_t i = 0; st == ST_OK && i < whole->export.variants.n; i++) {
        session q;
        if (!qat_variant(whole->export.variants.at[i]))
            continue;
        st = session_open_qat(s, whole->export.variants.at[i], &q);
        if (st != ST_OK)
            break;
        const session_memory m = session_measure_memory(&q);
        const size_t own = m.batches + m.parameters + m.optimizer + m.activations + m.workspace + m.evaluation;
        *bytes = own > *bytes ? own : *bytes;
        session_close_qat(&q);
    }
    s->j = whole;
    return st;
}
