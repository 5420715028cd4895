/* train_variant.c - proves the files of variants, and trains those that train: for runs and for `distill quant`. */
#include "base/io.h"
#include "base/io_shared.h"
#include "base/log.h"
#include "cli/cli.h"
#include "deploy/prove.h"
#include "onnx/export.h"
#include "onnx/import.h"
#include "quant/portable.h"
#include "tflite/write.h"
#include "train/session_qat.h"
#include "train/variants.h"

#include <inttypes.h>
#include <stdio.h>

/* The TFLite file, or why there is none. */
static status add_tflite(const job *j, const cli_variant *v, validation *out)
{
    const char *path, *file;
    text why = {0};
    io_facts facts = {0};
    arena mem = {0};
    status st = ST_OK;
    TRY_DONE(tflite_name_beside(&mem, v->path, &path));
    TRY_DONE(tflite_name_beside(&mem, v->file, &file));
    TRY_DONE(variant_write_tflite(j, v->path, &why));
    TRY_DONE(why.st);
    if (why.n == 0)
        TRY_DONE(io_look(path, &facts));
    st = prove_add_tflite(out, why.n ? NULL : file, (int64_t)facts.size, why.s);
done:
    text_free(&why);
    arena_free(&mem);
    return st;
}

/* A portable file has to be proven: the rules, on the file itself. */
static status add_portable(const job *j, const cli_variant *v, validation *out)
{
    const quant_profile profile = qat_profile(v->key);
    portable_report r = {0};
    onnx_model *m = NULL;
    graph *g = NULL;
    char name[80], detail[500] = "rules 1 to 6 of src/quant/portable.h, from the integers alone";
    status st = ST_OK;
    if (profile == PROFILE_NONE)
        return ST_OK;
    TRY_DONE(onnx_open(v->path, &j->limits, &m));
    TRY_DONE(onnx_import(m, &(import_options){0}, &g));
    TRY_DONE(portable_check(g, profile, &r));
    if (r.n_fault)
        snprintf(detail, sizeof detail, "node '%s' breaks rule %d: %s (%zu faults)", r.fault[0].node, r.fault[0].rule, r.fault[0].what,
                 r.n_fault);
    snprintf(name, sizeof name, "%.40s: portable is proven", v->key);
    st = prove_add_check(out, r.n_fault == 0, name, detail);
done:
    portable_free(&r);
    graph_free(g);
    onnx_close(m);
    return st;
}

status cli_prove_variant(const job *j, const cli_variant *v, const char *model, const prove_options *o, validation *out)
{
    TRY(prove_variant(o, v->key, model, v->file, v->path, v->reference, v->width, out));
    TRY(add_portable(j, v, out));
    return add_tflite(j, v, out);
}

/* The validation sees images as the file wants them. */
static status prove_file(session *s, const cli_variant *v, const prove_options *o, const float *mean, const float *std, validation *out)
{
    const data_info *d = s->info;
    const size_t channels = d->image ? (size_t)d->input[0].sh.dim[0] : 0;
    float own_mean[DATA_CHANNELS] = {0}, own_std[DATA_CHANNELS] = {0};
    for (size_t k = 0; k < channels && k < DATA_CHANNELS; k++) {
        own_mean[k] = d->mean[k];
        own_std[k] = d->std[k];
    }
    dataset_normalise(s->ds, mean, std);
    status st = cli_prove_variant(s->j, v, "student", o, out);
    dataset_normalise(s->ds, own_mean, own_std);
    return st;
}

status cli_train_variant(cli *c, session *s, const cli_variant *v, const prove_options *o, validation *out)
{
    const options *given = &c->o;
    arena mem = {0};
    const char *ckpt;
    float mean[DATA_CHANNELS] = {0}, std[DATA_CHANNELS] = {0};
    loop_result r = {0};
    status st = ST_OK;
    TRY_DONE(arena_printf(&mem, &ckpt, "%s/ckpt", v->dir));
    const bool resume = (v->run || given->resume) && io_is_dir(ckpt) && !given->force;
    const loop_options lo = {.dir = v->dir, .out = v->run ? v->run : v->path, .resume = resume, .force = v->run ? given->force : !resume,
                             .force_resume = given->force_resume, .sink = given->quiet ? NULL : &c->sink, .stop = c->stop};
    log_info("variant %s: training with rounding, %g epochs", v->key, s->j->quant.epochs);
    TRY_DONE(session_train_variant(s, v->key, &lo, v->path, v->facts, v->n_facts, &r, mean, std));
    cli_end_line(c);
    log_info("variant %s: trained %" PRIu64 " steps in %.1f s", v->key, r.steps_done, r.seconds);
    st = prove_file(s, v, o, mean, std, out);
done:
    evaluation_free(&r.last);
    arena_free(&mem);
    return st;
}
