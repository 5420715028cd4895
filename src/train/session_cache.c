/* session_cache.c - what the teacher's outputs of a job depend on, and where they are kept. */
#include "base/io.h"
#include "base/log.h"
#include "train/job_spec.h"
#include "train/session.h"

#include <string.h>

/* One line for each thing that a bit of the outputs depends on: the file's name is the SHA-256 of it (cache.h). The view's
 * own line comes last. What stands here wrongly would be found by the hash of the input that every record carries. */
static status identity_text(const session *s, data_part part, const size_t *width, text *t)
{
    const job *j = s->j;
    const data_info *d = s->info;
    bool changed = part == DATA_TRAIN && j->data.augment.n;
    cache_store_kind kept = part == DATA_TRAIN ? j->cache.store : CACHE_STORE_FP32;
    char sh[200], number[NUMBER_ROOM];
    text_printf(t, "distill teacher outputs, version %s\n", DISTILL_VERSION);
    s->b->identify(s->b, t);
    text_printf(t, "\nteacher %s batch %lld\n", s->teacher_file->sha256, (long long)s->t.batch);
    if (s->t.narrow)
        text_printf(t, "images %s\n", dtype_of(s->t.narrow)->name);
    if (s->t.bf16)
        text_add(t, "precision bf16\n");
    if (s->teacher_fp8)
        text_printf(t, "precision fp8 %016llx\n", (unsigned long long)s->teacher_fp8);
    if (s->teacher_int8)
        text_printf(t, "precision int8 %016llx\n", (unsigned long long)s->teacher_int8);
    for (size_t i = 0; i < s->t.n_out; i++)
        if (width[i])
            text_printf(t, "output %s %zu\n", graph_value(s->t.g, s->t.g->output[i])->name, width[i]);
    text_printf(t, "data %s %s source\n", d->sha256, part == DATA_TRAIN || d->split ? "training" : "validation");
    for (size_t i = 0; i < s->t.in.n; i++) {
        const data_input *in = &d->input[s->t.in.port[i].from];
        text_printf(t, "input %s %s %s\n", in->name, dtype_of(in->type)->name, shape_print(&in->sh, sh));
    }
    if (d->image) {
        text_printf(t, "resize %lld\n", (long long)j->data.resize);
        for (int64_t c = 0; c < d->input[0].sh.dim[0]; c++)
            text_printf(t, "mean %.9g std %.9g\n", (double)d->mean[c], (double)d->std[c]);
    }
    for (size_t i = 0; changed && i < j->data.augment.n; i++)
        text_printf(t, "augment %s %s\n", j->data.augment.at[i].name, format_double(j->data.augment.at[i].value, number));
    if (changed)
        text_printf(t, "seed %lld\n", (long long)j->train.seed);
    text_printf(t, "store %d", (int)kept);
    if (kept == CACHE_STORE_TOP)
        text_printf(t, " %lld at %s", (long long)j->cache.top, format_double(j->distill.temperature, number));
    return t->st;
}

static status about_text(const session *s, data_part part, text *t)
{
    cache_store_kind kept = part == DATA_TRAIN ? s->j->cache.store : CACHE_STORE_FP32;
    static const char *const stores[] = {[CACHE_STORE_FP32] = "fp32", [CACHE_STORE_FP16] = "fp16", [CACHE_STORE_TOP] = "top"};
    const char *teacher = strrchr(s->j->teacher.path, '/'), *data = strrchr(s->info->path, '/');
    text_printf(t, "%.160s on %.160s, %s", teacher ? teacher + 1 : s->j->teacher.path,
                data && data[1] ? data + 1 : s->info->path, stores[kept]);
    if (part == DATA_VAL)
        text_add(t, ", validation");
    else if (s->n_hint)
        text_printf(t, ", %zu hint%s", s->n_hint, s->n_hint == 1 ? "" : "s");
    return t->st;
}

/* Fills what tells one file from another; `width` and all texts live in s->mem. */
static status describe(session *s, data_part part, const size_t *width, cache_options *o)
{
    text id = {0}, about = {0};
    status st = ST_OK;
    uint32_t n = s->info->part[part].n, *row;
    o->code.n_out = s->t.n_out;
    o->code.width = width;
    o->samples = n;
    o->rows = dataset_source_size(s->ds, part);
    TRY_DONE(identity_text(s, part, width, &id));
    TRY_DONE(arena_strdup(&s->mem, &o->identity, id.s));
    TRY_DONE(about_text(s, part, &about));
    TRY_DONE(arena_strdup(&s->mem, &o->about, about.s));
    TRY_DONE(arena_alloc(&s->mem, &row, n, sizeof *row));
    for (uint32_t i = 0; i < n; i++)
        row[i] = dataset_source_index(s->ds, part, i);
    o->row = row;
done:
    text_free(&id);
    text_free(&about);
    return st;
}

static status choose_folder(session *s)
{
    const job_cache *c = &s->j->cache;
    if (!c->disk)
        return ST_OK;
    if (io_cache_folder(c->dir, &s->mem, &s->cache_dir) != ST_OK) {
        log_warn("%s; teacher outputs are kept in memory only", status_message());
        s->cache_dir = NULL;
    }
    return ST_OK;
}

status session_open_cache(session *s)
{
    const job *j = s->j;
    size_t *width;
    if (!j->cache.views || !(s->kd || s->n_hint) || s->tg.lambda) /* mixed samples never come again */
        return ST_OK;
    if (j->cache.store == CACHE_STORE_TOP && s->kd && (s->numbers || j->distill.output_loss != OUTPUT_LOSS_KL))
        return config_fault(config_origin(j, "cache.store"), "store: top is for logits; take fp16 or fp32");
    TRY(choose_folder(s));
    TRY(arena_alloc(&s->mem, &width, s->t.n_out, sizeof *width));
    for (size_t i = 0; i < s->t.n_out; i++) /* what the training graph takes */
        width[i] = s->taps[i] ? s->t.width[i] : 0;
    cache_options o = {.code = {.store = j->cache.store, .top = (size_t)j->cache.top, .temperature = j->distill.temperature},
                       .views = (uint32_t)j->cache.views, .memory_limit = (uint64_t)j->cache.memory_limit << 20,
                       .dir = s->cache_dir, .disk_limit = (uint64_t)j->cache.size << 20};
    TRY(describe(s, DATA_TRAIN, width, &o));
    TRY(frozen_remember(&s->t, &o));
    if (!o.dir && cache_measure(s->t.cache).memory < (uint64_t)o.views * o.samples * code_bytes(&o.code))
        log_warn("the teacher's outputs do not fit cache.memory_limit and there is no disk for them (cache.disk): they are "
                 "computed in every pass");
    return ST_OK;
}

status session_open_val_cache(session *s, tap_cache **out)
{
    size_t *width;
    *out = NULL;
    if (!s->cache_dir)
        return ST_OK;
    TRY(arena_alloc(&s->mem, &width, s->t.n_out, sizeof *width));
    width[0] = s->t.width[0];
    cache_options o = {.code = {.store = CACHE_STORE_FP32}, .views = 1, .memory_limit = 1, .dir = s->cache_dir,
                       .disk_limit = (uint64_t)s->j->cache.size << 20};
    TRY(describe(s, DATA_VAL, width, &o));
    return cache_open(&o, out);
}
