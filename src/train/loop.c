/* loop.c - drives a session through its steps and keeps its folder. */
#include "train/loop.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/log.h"
#include "train/checkpoint.h"
#include "train/job_spec.h"
#include "train/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct run {
    session *s;
    const loop_options *o;
    loop_result *r;
    arena mem;
    const char *ckpt;
    metrics m;
    progress p;
    char config_hash[65];
    double *sums; /* of the terms since the last line of metrics.jsonl */
    uint64_t summed;
    double line_time;
    int64_t nonfinite_row;
    char device_memory[64]; /* in use, after the first step: no step allocates */
    double loss_scale, skipped; /* as the last step left them; NAN: the loss is not scaled */
    uint64_t at_smallest; /* steps whose gradients overflowed with the smallest loss scale */
    uint64_t under_way; /* steps that began and of which nothing is known yet */
    uint64_t saved; /* step of the newest checkpoint of this process, UINT64_MAX: none */
} run;

/* ---- the folder ---- */

static const char *const run_files[] = {"config.ini",      "run.json",    "metrics.jsonl", "student.onnx",
                                        "validation.json", "report.html", "bad_samples.csv"};

/* Checkpoints, files of variants, and where those that train did so. */
static const char *const run_folders[] = {"ckpt", "export", "int8-qat", "portable", "portable-s8"};

static status below(arena *mem, const char *dir, const char *name, const char **out)
{
    return arena_printf(mem, out, "%s/%s", dir, name);
}

static status remove_old_run(const char *dir, arena *mem)
{
    const char *path;
    char **names;
    size_t n;
    for (size_t i = 0; i < sizeof run_files / sizeof *run_files; i++) {
        TRY(below(mem, dir, run_files[i], &path));
        TRY(io_remove(path));
    }
    for (size_t i = 0; i < sizeof run_folders / sizeof *run_folders; i++) {
        TRY(below(mem, dir, run_folders[i], &path));
        if (io_is_dir(path))
            TRY(io_remove_tree(path));
    }
    TRY(io_list(dir, 100000, &names, &n));
    status st = ST_OK;
    for (size_t i = 0; i < n && st == ST_OK; i++)
        if (strncmp(names[i], "events.out.tfevents.", 20) == 0) {
            st = below(mem, dir, names[i], &path);
            if (st == ST_OK)
                st = io_remove(path);
        }
    io_list_free(names, n);
    return st;
}

/* What a process that was killed here left half done: temporaries of durable files (".NAME.tmp.PID.N") and the trial. */
static status remove_leftovers(const char *dir, arena *mem)
{
    const char *path;
    char **names;
    size_t n;
    TRY(io_list(dir, 100000, &names, &n));
    status st = ST_OK;
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        if (names[i][0] != '.' || !strstr(names[i], ".tmp."))
            continue;
        st = below(mem, dir, names[i], &path);
        if (st == ST_OK)
            st = io_remove(path);
    }
    io_list_free(names, n);
    TRY(st);
    TRY(below(mem, dir, LOOP_TRIAL_FOLDER, &path));
    return io_is_dir(path) ? io_remove_tree(path) : ST_OK;
}

status loop_prepare(const loop_options *o, int *lock)
{
    arena mem = {0};
    const char *path, *ckpt;
    status st = ST_OK;
    *lock = -1;
    TRY_DONE(io_make_dirs(o->dir));
    TRY_DONE(below(&mem, o->dir, "run.lock", &path));
    TRY_DONE(io_lock(path, lock));
    TRY_DONE(below(&mem, o->dir, "metrics.jsonl", &path));
    TRY_DONE(below(&mem, o->dir, "ckpt", &ckpt));
    if ((io_exists(path) || io_is_dir(ckpt)) && !o->resume) {
        if (!o->force) {
            st = fail(ST_CANNOT_CREATE, "%s holds a run already; go on with it by --resume, replace it by --force, or "
                      "choose another folder by --out", o->dir);
            goto done;
        }
        TRY_DONE(remove_old_run(o->dir, &mem));
    }
    TRY_DONE(io_make_dirs(ckpt));
    TRY_DONE(remove_leftovers(o->dir, &mem));
    st = remove_leftovers(ckpt, &mem);
done:
    if (st != ST_OK) {
        io_close(*lock);
        *lock = -1;
    }
    arena_free(&mem);
    return st;
}

/* ---- checkpoints ---- */

static status save(run *x, uint64_t step)
{
    char step_text[24], best[NUMBER_ROOM], best_step[24];
    const char *path;
    if (x->saved == step)
        return ST_OK;
    snprintf(step_text, sizeof step_text, "%" PRIu64, step);
    snprintf(best_step, sizeof best_step, "%" PRIu64, x->r->best_step);
    const fact facts[] = {{"step", step_text},
                          {"config", x->config_hash},
                          {"teacher", x->s->teacher_file ? x->s->teacher_file->sha256 : "none"},
                          {"data", x->s->info->sha256},
                          {"best_accuracy", format_double(x->r->best_accuracy, best)},
                          {"best_step", best_step},
                          {"student", x->s->title},
                          {"precision", session_precision_name(x->s)},
                          {"version", DISTILL_VERSION}};
    TRY(checkpoint_path(&x->mem, x->ckpt, step, &path));
    TRY(checkpoint_write(path, &x->s->params, facts, sizeof facts / sizeof *facts));
    TRY(checkpoint_point(x->ckpt, "last", step));
    x->saved = step;
    TRY(metrics_event(&x->m, "checkpoint", step, NULL, 0, "path", path));
    TRY(metrics_sync(&x->m));
    log_debug("saved %s", path);
    return checkpoint_retain(x->ckpt, (size_t)x->s->j->train.keep, step);
}

/* What must be the same for a run to go on. */
static status same_run(const run *x, const checkpoint *c)
{
    const struct {
        const char *key, *now, *what;
    } facts[] = {{"config", x->config_hash, "the config changed"},
                 {"teacher", x->s->teacher_file ? x->s->teacher_file->sha256 : "none", "the teacher changed"},
                 {"data", x->s->info->sha256, "the data changed"}};
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++) {
        const char *then = checkpoint_fact(c, facts[i].key);
        if (then && strcmp(then, facts[i].now) == 0)
            continue;
        if (!x->o->force_resume)
            return fail(ST_CONFIG, "%s: %s since the checkpoint was written (config.ini there is the old one); "
                        "--force-resume goes on all the same, --force starts anew", x->o->dir, facts[i].what);
        log_warn("%s since the checkpoint was written; going on as asked", facts[i].what);
    }
    return ST_OK;
}

static status restore(run *x, uint64_t *step)
{
    checkpoint c = {0};
    bool found;
    status st = ST_OK;
    *step = 0;
    if (!x->o->resume)
        return ST_OK;
    TRY(checkpoint_find_newest(x->ckpt, &x->s->j->limits, &c, step, &found));
    if (!found) {
        log_warn("%s has no checkpoint to go on from: starting at step 0", x->o->dir);
        *step = 0;
        return ST_OK;
    }
    TRY_DONE(same_run(x, &c));
    TRY_DONE(checkpoint_restore(&c, &x->s->params));
    const char *then = checkpoint_fact(&c, "precision"), *now = session_precision_name(x->s);
    if (strcmp(then ? then : "fp32", now) != 0)
        log_info("the checkpoint was trained in %s; going on in %s", then ? then : "fp32", now);
    const char *best = checkpoint_fact(&c, "best_accuracy"), *at = checkpoint_fact(&c, "best_step");
    if (best)
        TRY_DONE(parse_double(best, "best_accuracy of the checkpoint", &x->r->best_accuracy));
    x->r->best_step = at ? strtoull(at, NULL, 10) : 0;
    x->saved = *step;
    session_seek(x->s, *step);
done:
    checkpoint_free(&c);
    return st;
}

/* ---- metrics ---- */

enum { SUM_TOTAL, SUM_TASK, SUM_KL, SUM_CORRECT, SUM_AGREE, SUM_NORM, SUM_WAITED, SUM_HINTS };

static void sum_step(run *x, const step_result *r)
{
    const double v[] = {r->total, r->task, r->kl, r->correct, r->agree, r->norm, r->waited};
    for (size_t i = 0; i < SUM_HINTS; i++)
        x->sums[i] += v[i];
    for (size_t i = 0; i < x->s->n_hint; i++)
        x->sums[SUM_HINTS + i] += r->hint[i];
    x->summed++;
}

static status step_line(run *x, uint64_t done, double lr)
{
    session *s = x->s;
    metric m[16 + HINTS_MAX];
    char hint[HINTS_MAX][80];
    size_t n = 0;
    double k = 1.0 / (double)x->summed, now = clock_seconds();
    double samples = (double)x->summed * (double)(s->j->train.batch * s->j->train.accumulate);
    m[n++] = (metric){"epoch", (double)done / (double)s->steps_per_epoch};
    m[n++] = (metric){"lr", lr};
    m[n++] = (metric){"grad_norm", x->sums[SUM_NORM] * k};
    m[n++] = (metric){"samples_per_second", samples / (now - x->line_time)};
    m[n++] = (metric){"data_wait", x->sums[SUM_WAITED] / (now - x->line_time)};
    if (s->tg.loss_scale) {
        m[n++] = (metric){"loss_scale", x->loss_scale};
        m[n++] = (metric){"skipped_steps", x->skipped};
    }
    if (s->tg.correct)
        m[n++] = (metric){"train_accuracy", x->sums[SUM_CORRECT] * k};
    if (s->tg.agree)
        m[n++] = (metric){"train_agreement", x->sums[SUM_AGREE] * k};
    m[n++] = (metric){"loss.total", x->sums[SUM_TOTAL] * k};
    if (s->tg.task)
        m[n++] = (metric){session_task_name(s), x->sums[SUM_TASK] * k};
    if (s->tg.kl)
        m[n++] = (metric){session_kd_name(s), x->sums[SUM_KL] * k};
    for (size_t i = 0; i < s->n_hint; i++) {
        snprintf(hint[i], sizeof hint[i], "loss.hint.%s", s->hint[i].name);
        m[n++] = (metric){hint[i], x->sums[SUM_HINTS + i] * k};
    }
    memset(x->sums, 0, (SUM_HINTS + s->n_hint) * sizeof *x->sums);
    x->summed = 0;
    x->line_time = now;
    return metrics_event(&x->m, "step", done, m, n, NULL, NULL);
}

/* What is in use on a device with memory of its own. */
static void measure_device(run *x)
{
    size_t available, all;
    char used[24], of[24];
    backend *b = x->s->b;
    if (!b->remote || *x->device_memory || b->remote->memory(b, &available, &all) != ST_OK)
        return;
    snprintf(x->device_memory, sizeof x->device_memory, "%s of %s", human_bytes((double)(all - available), used),
             human_bytes((double)all, of));
}

static void show_step(run *x, uint64_t done, const step_result *r)
{
    char terms[160] = "";
    size_t used = 0;
    const session *s = x->s;
    measure_device(x);
    if (s->tg.kl)
        used += (size_t)snprintf(terms + used, sizeof terms - used, "%s %.3g", session_kd_name(s) + 5, r->kl);
    if (s->tg.task)
        used += (size_t)snprintf(terms + used, sizeof terms - used, "%s%s %.3g", used ? " " : "", session_task_name(s) + 5,
                                 r->task);
    for (size_t i = 0; i < s->n_hint && used < sizeof terms; i++)
        used += (size_t)snprintf(terms + used, sizeof terms - used, " %.20s %.3g", s->hint[i].name, r->hint[i]);
    if (s->tg.loss_scale && used < sizeof terms)
        snprintf(terms + used, sizeof terms - used, r->skipped > 0 ? " scale %g skipped %g" : " scale %g", r->loss_scale, r->skipped);
    const progress_state p = {.step = done, .epoch = (double)done / (double)s->steps_per_epoch,
                              .epochs = (double)s->steps / (double)s->steps_per_epoch,
                              .batch = s->j->train.batch * s->j->train.accumulate, .loss = r->total, .lr = r->lr,
                              .terms = terms, .memory = x->device_memory};
    progress_step(&x->p, &p);
}

/* ---- evaluation ---- */

/* Which figure says that one state is better than another: accuracy, else agreement with the teacher, else closeness
 * in cross entropy; of numbers, closeness to the targets, else to the teacher. */
static double merit(const evaluation *e)
{
    if (!isnan(e->error) || !isnan(e->distance))
        return !isnan(e->error) ? -e->error : -e->distance;
    return !isnan(e->accuracy) ? e->accuracy : !isnan(e->agreement) ? e->agreement : !isnan(e->ce) ? -e->ce : 0;
}

static status evaluate(run *x, uint64_t done)
{
    session *s = x->s;
    evaluation e;
    metric m[8];
    size_t n = 0;
    TRY(session_evaluate(s, &e));
    double epoch = (double)done / (double)s->steps_per_epoch;
    m[n++] = (metric){"epoch", epoch};
    if (!isnan(e.accuracy)) {
        m[n++] = (metric){"accuracy", e.accuracy};
        m[n++] = (metric){"loss", e.ce};
    }
    if (!isnan(e.agreement))
        m[n++] = (metric){"agreement", e.agreement};
    if (!isnan(e.error))
        m[n++] = (metric){"error", e.error};
    if (!isnan(e.distance))
        m[n++] = (metric){"distance", e.distance};
    char agreement[64] = "";
    if (!isnan(e.agreement))
        snprintf(agreement, sizeof agreement, ", agrees with the teacher on %.2f %%", 100 * e.agreement);
    if (!isnan(e.accuracy))
        progress_note(&x->p, "epoch %g: validation accuracy %.2f %%, cross entropy %.4f%s", epoch, 100 * e.accuracy,
                      e.ce, agreement);
    else if (*agreement)
        progress_note(&x->p, "epoch %g: %s", epoch, agreement + 2);
    if (!isnan(e.error))
        progress_note(&x->p, "epoch %g: validation mean absolute error %.4g", epoch, e.error);
    if (!isnan(e.distance))
        progress_note(&x->p, "epoch %g: mean absolute distance from the teacher %.4g", epoch, e.distance);
    evaluation_free(&x->r->last);
    x->r->last = e;
    TRY(metrics_event(&x->m, "eval", done, m, n, NULL, NULL));
    if (x->r->best_step != 0 && merit(&e) <= x->r->best_accuracy)
        return ST_OK;
    x->r->best_accuracy = merit(&e);
    x->r->best_step = done;
    TRY(save(x, done));
    return checkpoint_point(x->ckpt, "best", done);
}

/* ---- the loop ---- */

/* Gradients that overflowed with the loss scale as it was: part of finding the scale, unless it cannot become smaller. */
static status after_overflow(run *x, uint64_t done, const step_result *r, bool *over)
{
    const metric m[] = {{"skipped", (double)x->r->skipped}, {"loss_scale", r->loss_scale}};
    *over = r->loss_scale > LOSS_SCALE_SMALLEST;
    TRY(metrics_event(&x->m, "overflow", done, m, 2, NULL, NULL));
    log_debug("step %" PRIu64 ": gradients overflow float16; the update is skipped, the loss scale is %g now", done, r->loss_scale);
    x->at_smallest += !*over;
    if (!*over && (x->at_smallest & (x->at_smallest - 1)) == 0) /* the first, second, fourth, eighth ... time */
        log_warn("step %" PRIu64 ": the loss scale fell to its smallest value %g, for the %" PRIu64 ". time: gradients overflow "
                 "float16 all the same; take train.precision = bf16 or fp32, lower train.lr or set train.clip", done,
                 LOSS_SCALE_SMALLEST, x->at_smallest);
    return ST_OK;
}

static status after_nonfinite(run *x, uint64_t done, const step_result *r)
{
    int64_t limit = x->s->j->train.nonfinite_limit;
    bool over = false;
    x->r->skipped++;
    if (r->overflow)
        TRY(after_overflow(x, done, r, &over));
    if (over)
        return ST_OK;
    x->nonfinite_row++;
    metric m = {"skipped", (double)x->r->skipped};
    TRY(metrics_event(&x->m, "nonfinite", done, &m, 1, "tensor", r->nonfinite));
    log_warn("step %" PRIu64 ": '%s' is not finite; the update is skipped", done, r->nonfinite);
    if (x->nonfinite_row < limit)
        return ST_OK;
    return fail(ST_DIVERGED, "training diverged: %" PRId64 " steps in a row were not finite (last: '%s'); %s%s; lower "
                "train.lr or set train.clip%s", limit, r->nonfinite,
                x->saved == UINT64_MAX ? "no checkpoint was written before" : "the last good checkpoint is in ",
                x->saved == UINT64_MAX ? "" : x->ckpt,
                x->s->narrow == DTYPE_F16 ? ", or take train.precision = bf16 or fp32" : "");
}

static bool stop_wanted(const run *x)
{
    return x->o->stop && *x->o->stop;
}

static status after_step(run *x, uint64_t done, const step_result *r)
{
    const session *s = x->s;
    const job_train *t = &s->j->train;
    bool last = done == s->steps, epoch_end = done % s->steps_per_epoch == 0 || last;
    uint64_t epoch = done / s->steps_per_epoch;
    if (x->summed && (done % (uint64_t)t->log_every == 0 || last || (stop_wanted(x) && !x->under_way)))
        TRY(step_line(x, done, r->lr));
    show_step(x, done, r);
    if (epoch_end && (last || epoch % (uint64_t)t->eval_every == 0)) {
        double began = clock_seconds();
        TRY(evaluate(x, done));
        x->line_time += clock_seconds() - began;
        x->r->seconds -= clock_seconds() - began;
    }
    if (last || (t->checkpoint_every ? done % (uint64_t)t->checkpoint_every == 0 : epoch_end))
        TRY(save(x, done));
    return ST_OK;
}

/* Whether after `done` steps the weights are looked at: then no later step may be under way. */
static bool looks_at_weights(const run *x, uint64_t done)
{
    const session *s = x->s;
    const job_train *t = &s->j->train;
    return done == s->steps || done % s->steps_per_epoch == 0 || stop_wanted(x) ||
           (t->checkpoint_every && done % (uint64_t)t->checkpoint_every == 0);
}

/* Hears of the oldest step under way, number `done` from 1. */
static status end_step(run *x, uint64_t done, step_result *r)
{
    TRY(session_end_step(x->s, r));
    x->under_way--;
    x->r->waited += r->waited;
    x->loss_scale = r->loss_scale;
    x->skipped = r->skipped;
    if (r->finite) {
        sum_step(x, r);
        x->nonfinite_row = 0;
    } else {
        TRY(after_nonfinite(x, done, r));
    }
    TRY(after_step(x, done, r));
    x->r->steps_done = done;
    return ST_OK;
}

static status train(run *x, uint64_t from)
{
    session *s = x->s;
    step_result r = {0};
    TRY(arena_alloc(&x->mem, &r.hint, s->n_hint, sizeof *r.hint));
    x->line_time = clock_seconds();
    for (uint64_t step = from; step < s->steps; step++) {
        double began = clock_seconds();
        TRY(session_begin_step(s, step));
        x->under_way++;
        /* While steps are not finite each is waited for, so that the tensor can be named. */
        const uint64_t leave = looks_at_weights(x, step + 1) || x->nonfinite_row ? 0 : session_steps_ahead(s);
        while (x->under_way > leave)
            TRY(end_step(x, step + 2 - x->under_way, &r));
        x->r->seconds += clock_seconds() - began;
        if (stop_wanted(x) && !x->under_way && step + 1 < s->steps) {
            TRY(save(x, step + 1));
            TRY(metrics_event(&x->m, "stop", step + 1, NULL, 0, NULL, NULL));
            return fail(ST_STOPPED, "stopped after step %" PRIu64 " of %" PRIu64 "; go on with --resume --out %s",
                        step + 1, s->steps, x->o->out ? x->o->out : x->o->dir);
        }
    }
    return ST_OK;
}

static status write_config(const run *x)
{
    text ini = {0};
    const char *path;
    config_write(x->s->j, &ini);
    status st = ini.st;
    if (st == ST_OK)
        st = below((arena *)&x->mem, x->o->dir, "config.ini", &path);
    if (st == ST_OK)
        st = io_write_file(path, ini.s, ini.n);
    text_free(&ini);
    return st;
}

static status write_bad_samples(const run *x)
{
    const char *path;
    if (dataset_bad_count(x->s->ds) == 0)
        return ST_OK;
    TRY(below((arena *)&x->mem, x->o->dir, "bad_samples.csv", &path));
    log_warn("%u samples could not be read: %s", dataset_bad_count(x->s->ds), path);
    return dataset_write_bad(x->s->ds, path);
}

status loop_run(session *s, const loop_options *o, loop_result *out)
{
    run x = {.s = s, .o = o, .r = out, .m = {.jsonl = -1, .events = -1}, .saved = UINT64_MAX};
    uint64_t from = 0;
    status st = ST_OK;
    *out = (loop_result){0};
    TRY_DONE(below(&x.mem, o->dir, "ckpt", &x.ckpt));
    TRY_DONE(arena_alloc(&x.mem, &x.sums, SUM_HINTS + s->n_hint, sizeof *x.sums));
    TRY_DONE(config_hash(s->j, x.config_hash));
    TRY_DONE(restore(&x, &from));
    TRY_DONE(write_config(&x));
    TRY_DONE(metrics_open(&x.m, o->dir));
    TRY_DONE(metrics_event(&x.m, from ? "resume" : "start", from, NULL, 0, "precision", session_precision_name(s)));
    progress_begin(&x.p, o->sink, from, s->steps);
    if (from)
        progress_note(&x.p, "resumed at step %" PRIu64 " of %" PRIu64, from, s->steps);
    out->steps_done = from;
    st = train(&x, from);
    if (st == ST_OK && !out->last.logits) /* nothing was left to do: judge what is there */
        st = session_evaluate(s, &out->last);
    if (st == ST_OK)
        st = metrics_event(&x.m, "end", s->steps, NULL, 0, NULL, NULL);
    if (st == ST_OK)
        st = metrics_sync(&x.m);
    if (st == ST_OK || st == ST_STOPPED || st == ST_BAD_DATA) {
        char *message = NULL; /* the list of bad samples must not hide why the run ended */
        if (st != ST_OK && mem_strdup(&message, status_message()) != ST_OK)
            message = NULL;
        status wrote = write_bad_samples(&x);
        if (st == ST_OK)
            st = wrote;
        else if (message)
            st = fail(st, "%s", message);
        mem_free(message);
    }
    if (out->seconds > 0)
        out->samples_per_second = (double)((out->steps_done - from) * (uint64_t)s->j->train.batch *
                                           (uint64_t)s->j->train.accumulate) / out->seconds;
done:
    metrics_close(&x.m);
    arena_free(&x.mem);
    if (st != ST_OK)
        evaluation_free(&out->last);
    return st;
}

/* ---- sanity ---- */

static status sanity_steps(session *s, const char *dir, arena *mem)
{
    const char *start, *after, *model;
    step_result r = {0};
    evaluation e = {0};
    checkpoint c = {0};
    status st = ST_OK;
    TRY(checkpoint_path(mem, dir, 0, &start));
    TRY(checkpoint_path(mem, dir, 2, &after));
    TRY(below(mem, dir, "student.onnx", &model));
    TRY(arena_alloc(mem, &r.hint, s->n_hint, sizeof *r.hint));
    TRY(checkpoint_write(start, &s->params, NULL, 0));
    for (uint64_t step = 0; step < 2; step++)
        TRY_DONE(session_step(s, step, &r));
    TRY_DONE(session_evaluate(s, &e));
    TRY_DONE(checkpoint_write(after, &s->params, NULL, 0));
    TRY_DONE(session_export(s, model, NULL, 0));
    TRY_DONE(checkpoint_read(after, &s->j->limits, &c));
    TRY_DONE(checkpoint_restore(&c, &s->params));
    checkpoint_free(&c);
    TRY_DONE(checkpoint_read(start, &s->j->limits, &c));
    TRY_DONE(checkpoint_restore(&c, &s->params));
    session_seek(s, 0);
done:
    checkpoint_free(&c);
    evaluation_free(&e);
    return st;
}

status loop_sanity(session *s, const char *dir)
{
    arena mem = {0};
    const char *path;
    status st = ST_OK;
    TRY_DONE(below(&mem, dir, LOOP_TRIAL_FOLDER, &path));
    TRY_DONE(io_make_dirs(path));
    st = sanity_steps(s, path, &mem);
    if (st != ST_OK)
        st = fail_within(st, "the trial before the run (two steps, evaluation, checkpoint, export) failed");
    char *message = NULL;
    if (st != ST_OK && mem_strdup(&message, status_message()) != ST_OK)
        message = NULL;
    status removed = io_remove_tree(path);
    if (st == ST_OK)
        st = removed;
    else if (message)
        st = fail(st, "%s", message);
    mem_free(message);
done:
    arena_free(&mem);
    return st;
}
