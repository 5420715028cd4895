/* job_spec.c - translation of a job, and the checks that need two sections at once. */
#include "train/job_spec.h"
#include "base/log.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

size_t job_memory_limit(const job *j)
{
    return (size_t)j->exec.memory_limit << 20;
}

backend_options job_backend_options(const job *j)
{
    static const char *const methods[] = {[EXEC_CONV_AUTO] = NULL, [EXEC_CONV_DIRECT] = "direct",
                                          [EXEC_CONV_WINOGRAD] = "winograd", [EXEC_CONV_REFERENCE] = "reference"};
    static const layout_choice layouts[] = {[EXEC_LAYOUT_AUTO] = LAYOUT_AUTO, [EXEC_LAYOUT_PLAIN] = LAYOUT_PLAIN,
                                            [EXEC_LAYOUT_BLOCKED] = LAYOUT_BLOCKED};
    static const struct {
        isa max, min;
    } levels[] = {[EXEC_KERNELS_FAST] = {ISA_AVX512, ISA_REF}, [EXEC_KERNELS_AVX512] = {ISA_AVX512, ISA_AVX512},
                  [EXEC_KERNELS_AVX2] = {ISA_AVX2, ISA_AVX2}, [EXEC_KERNELS_BASE] = {ISA_BASE, ISA_BASE},
                  [EXEC_KERNELS_REFERENCE] = {ISA_REF, ISA_REF}};
    return (backend_options){.threads = (int)j->exec.threads,
                             .max_isa = levels[j->exec.kernels].max,
                             .min_isa = levels[j->exec.kernels].min,
                             .method = methods[j->exec.conv],
                             .layout = layouts[j->exec.layout],
                             .deterministic = j->exec.deterministic,
                             .measure = j->exec.cudnn_plans == EXEC_CUDNN_PLANS_MEASURE,
                             .cache = j->cache.dir ? j->cache.dir : "",
                             .tf32 = j->exec.tf32};
}

static const char *or_null(const char *s)
{
    return s && *s ? s : NULL;
}

/* Back to the text that the data module reads; NULL: all. */
static status ranges_text(range_list l, arena *mem, const char **out)
{
    text t = {0};
    *out = NULL;
    if (l.n == 1 && l.at[0].begin == 0 && l.at[0].end == INT64_MAX)
        return ST_OK;
    if (l.n == 0)
        text_add(&t, "none");
    for (size_t i = 0; i < l.n; i++) {
        text_printf(&t, "%s%" PRId64 ":", i ? " " : "", l.at[i].begin);
        if (l.at[i].end != INT64_MAX)
            text_printf(&t, "%" PRId64, l.at[i].end);
    }
    status st = t.st;
    if (st == ST_OK)
        st = arena_strdup(mem, out, t.s);
    text_free(&t);
    return st;
}

static status augment_text(word_list l, text *t)
{
    char number[NUMBER_ROOM];
    for (size_t i = 0; i < l.n; i++) {
        text_printf(t, "%s%s", i ? " " : "", l.at[i].name);
        if (!isnan(l.at[i].value))
            text_printf(t, ":%s", format_double(l.at[i].value, number));
    }
    return t->st;
}

static status copy_floats(const job *j, const char *key, float_list from, float *to, uint32_t *n)
{
    if (from.n > DATA_CHANNELS)
        return config_fault(config_origin(j, key), "%zu values; at most %d channels have their own", from.n,
                            DATA_CHANNELS);
    for (size_t i = 0; i < from.n; i++)
        to[i] = (float)from.at[i];
    *n = (uint32_t)from.n;
    return ST_OK;
}

status job_data_options(const job *j, const graph *teacher, bool from_teacher, arena *mem, data_options *out)
{
    static const data_kind kinds[] = {[SOURCE_AUTO] = DATA_AUTO, [SOURCE_IDX] = DATA_ARRAYS, [SOURCE_NPY] = DATA_ARRAYS,
                                      [SOURCE_FOLDER] = DATA_FOLDER, [SOURCE_CSV] = DATA_MANIFEST};
    const job_data *d = &j->data;
    data_options o = data_options_default();
    text augment = {0};
    o.path = or_null(d->dir);
    o.train = or_null(d->train);
    o.labels = or_null(d->labels);
    o.val = or_null(d->val);
    o.val_labels = or_null(d->val_labels);
    o.kind = kinds[d->kind];
    o.val_ratio = d->split;
    o.split_seed = (uint64_t)d->split_seed;
    o.max_bad = d->max_bad;
    o.lim = j->limits;
    o.classes = d->classes;
    o.channels = (int32_t)d->channels;
    TRY(ranges_text(d->samples, mem, &o.samples));
    TRY(ranges_text(d->labelled, mem, &o.labelled));
    o.labelled_only = !from_teacher && o.labelled;
    TRY(copy_floats(j, "data.mean", d->mean, o.mean, &o.n_mean));
    TRY(copy_floats(j, "data.std", d->std, o.std, &o.n_std));
    if (d->size.n > 2)
        return config_fault(config_origin(j, "data.size"), "one number or height and width");
    if (d->size.n) {
        o.height = (int32_t)d->size.at[0];
        o.width = (int32_t)d->size.at[d->size.n - 1];
    }
    if (d->resize) {
        o.resize = RESIZE_CROP;
        o.resize_short = (int32_t)d->resize;
    }
    for (size_t i = 0; teacher && i < teacher->n_input; i++)
        if (graph_value(teacher, teacher->input[i])->type == DTYPE_I32)
            o.int_type = DTYPE_I32;
    const shape *in = teacher && teacher->n_input ? &teacher->value[teacher->input[0]].sh : NULL;
    if (in && in->rank == 4) { /* the teacher decides what the job leaves open */
        o.channels = o.channels ? o.channels : (int32_t)in->dim[1];
        o.height = o.height ? o.height : (int32_t)in->dim[2];
        o.width = o.width ? o.width : (int32_t)in->dim[3];
        if (o.channels != in->dim[1] || o.height != in->dim[2] || o.width != in->dim[3])
            return config_fault(config_origin(j, "data.size"), "the teacher takes %lld x %lld x %lld, the job says "
                                "%d x %d x %d", (long long)in->dim[1], (long long)in->dim[2], (long long)in->dim[3],
                                o.channels, o.height, o.width);
    }
    status st = augment_text(d->augment, &augment);
    if (st == ST_OK && augment.n)
        st = augment_parse(augment.s, &o.augment);
    text_free(&augment);
    *out = o;
    return st;
}

status job_student_spec(const job *j, const data_info *info, const graph *teacher, student_spec *out)
{
    student_spec o = {.job = j, .sample = info->input[0].sh, .type = info->input[0].type, .n_inputs = info->n_inputs,
                      .classes = j->student.classes};
    const shape *taught = teacher ? &graph_value(teacher, teacher->output[0])->sh : NULL;
    bool wide = (taught && taught->rank != 2) || (!taught && info->target.rank > 1); /* outputs of another shape */
    if (o.classes == 0 && taught && taught->rank == 2)
        o.classes = taught->dim[1];
    if (o.classes == 0 && !wide)
        o.classes = info->classes ? info->classes : info->target_size;
    if (o.classes == 0 && !(wide && j->student.arch == ARCH_AUTO))
        return fail(ST_CONFIG, "nothing tells how many outputs the student has: set student.classes");
    *out = o;
    return ST_OK;
}

/* Weights over the run; a hint whose weight is 0 throughout is left out. */
static bool hint_weights(const job_hint *h, double *from, double *to)
{
    *from = h->weight;
    *to = isnan(h->weight_end) ? h->weight : h->weight_end;
    return *from > 0 || *to > 0;
}

status job_hints(const job *j, const graph *student, const graph *teacher, arena *mem, session *s)
{
    TRY(arena_alloc(mem, &s->hint, HINTS_MAX, sizeof *s->hint));
    TRY(arena_alloc(mem, &s->hint_from, HINTS_MAX, sizeof *s->hint_from));
    TRY(arena_alloc(mem, &s->hint_to, HINTS_MAX, sizeof *s->hint_to));
    for (size_t i = 0; i < j->n_hint; i++) {
        const job_hint *h = &j->hint[i];
        double from, to;
        hint_spec found[HINTS_MAX];
        size_t n = 1;
        if (!hint_weights(h, &from, &to))
            continue;
        if (!teacher)
            return config_fault(&h->from, "[hint %s] needs a teacher", h->name);
        if (h->pairs) {
            TRY(hint_pairs(student, teacher, (size_t)h->pairs, found, &n));
            log_warn("[hint %s] pairs features by their place in the networks; across architectures that can cost "
                     "accuracy: compare with a run without it", h->name);
        } else if (!*h->student || !*h->teacher) {
            return config_fault(&h->from, "[hint %s] needs the keys student and teacher (or pairs)", h->name);
        } else {
            found[0] = (hint_spec){.student = h->student, .teacher = h->teacher};
        }
        for (size_t k = 0; k < n; k++) {
            if (s->n_hint == HINTS_MAX)
                return config_fault(&h->from, "more than %d hints", HINTS_MAX);
            hint_spec *to_spec = &s->hint[s->n_hint];
            *to_spec = found[k];
            to_spec->loss = h->loss;
            to_spec->regressor = h->regressor;
            TRY(arena_strdup(mem, &to_spec->student, found[k].student)); /* the graphs may go */
            TRY(arena_strdup(mem, &to_spec->teacher, found[k].teacher));
            if (h->pairs)
                TRY(arena_printf(mem, &to_spec->name, "%s%zu", h->name, k + 1));
            else
                to_spec->name = h->name;
            s->hint_from[s->n_hint] = from;
            s->hint_to[s->n_hint++] = to;
        }
    }
    return ST_OK;
}

bool job_gives_numbers(const job *j, const data_info *info, int rank)
{
    const job_distill *d = &j->distill;
    bool kd = d->kd > 0 || d->kd_end > 0;
    if (rank != 2)
        return true;
    if (info->classes || (kd && d->output_loss == OUTPUT_LOSS_KL))
        return false;
    return (d->task_loss != TASK_LOSS_CE && d->task_loss != TASK_LOSS_BCE) || kd;
}

static uint32_t no_decay_flags(name_list l)
{
    return (names_contain(l, "bias") ? VALUE_NO_DECAY_BIAS : 0u) | (names_contain(l, "norm") ? VALUE_NO_DECAY_NORM : 0u);
}

status job_train_spec(session *s, train_spec *out)
{
    const job *j = s->j;
    const job_train *t = &j->train;
    const job_distill *d = &j->distill;
    train_spec o = {.task = d->task > 0 || d->task_end > 0, .task_loss = d->task_loss, .kd = s->kd,
                    .output_loss = d->output_loss,
                    .label_smoothing = d->label_smoothing, .per_labelled = d->task_mean == TASK_MEAN_LABELLED,
                    .hint = s->hint, .n_hint = s->n_hint, .bn_momentum = 0.1, .seed = (uint64_t)t->seed,
                    .guard_total = s->b->remote != NULL};
    augment_options augment = {0};
    text words = {0};
    TRY(augment_text(j->data.augment, &words));
    status st = words.n ? augment_parse(words.s, &augment) : ST_OK;
    text_free(&words);
    TRY(st);
    o.mixup = augment.mixup > 0;
    if (d->class_weights.n) {
        if ((int64_t)d->class_weights.n != s->spec.classes)
            return config_fault(config_origin(j, "distill.class_weights"), "%zu weights for %lld classes",
                                d->class_weights.n, (long long)s->spec.classes);
        o.class_weights = d->class_weights.at;
    }
    if (o.task && s->info->part[DATA_TRAIN].labelled == 0)
        return config_fault(config_origin(j, "distill.task"), "the task loss needs labels and no training sample has "
                            "one; set distill.task = 0, or give labels (data.labels, data.labelled)");
    if (o.task && (d->task_loss == TASK_LOSS_CE) != (s->info->target_size == 0))
        return config_fault(config_origin(j, "distill.task_loss"), "%s", s->info->target_size
                            ? "the data have float targets: take bce, mse, l1 or smooth_l1"
                            : "the data have class labels: take ce, or give float targets");
    o.opt = (optimizer_spec){.kind = t->optimizer, .momentum = t->momentum, .weight_decay = t->weight_decay,
                             .beta1 = t->beta1, .beta2 = t->beta2, .eps = t->eps, .nesterov = t->nesterov,
                             .decoupled = t->decoupled, .no_decay = no_decay_flags(t->no_decay), .clip = t->clip,
                             .accumulate = (int)t->accumulate, .ema = t->ema,
                             .loss_scale = s->narrow == DTYPE_F16 ? LOSS_SCALE_START : 0};
    *out = o;
    return ST_OK;
}

loader_options job_loader_options(const job *j)
{
    loader_options o = loader_train_options((uint32_t)j->train.batch, (uint64_t)j->train.seed);
    o.shuffle = j->data.shuffle;
    o.tail = j->data.drop_last ? TAIL_AUTO : TAIL_CARRY;
    o.steps_per_epoch = (uint64_t)j->train.steps_per_epoch * (uint64_t)j->train.accumulate;
    o.views = (uint32_t)j->cache.views;
    o.threads = j->data.loaders ? (uint32_t)j->data.loaders : 1;
    return o;
}

status job_schedule(const job *j, uint64_t steps_per_epoch, uint64_t steps, arena *mem, schedule *out)
{
    const job_train *t = &j->train;
    double *milestones;
    TRY(arena_alloc(mem, &milestones, t->milestones.n, sizeof *milestones));
    for (size_t i = 0; i < t->milestones.n; i++)
        milestones[i] = t->milestones.at[i] * (double)steps_per_epoch;
    *out = (schedule){.kind = t->schedule, .peak = t->lr, .low = t->min_lr,
                      .warmup = (uint64_t)llround(t->warmup * (double)steps_per_epoch), .total = steps,
                      .milestones = milestones, .n_milestones = t->milestones.n, .gamma = t->gamma};
    return ST_OK;
}

status job_method(const session *s, arena *mem, const char **out)
{
    const job_distill *d = &s->j->distill;
    text t = {0};
    bool task = d->task > 0 || d->task_end > 0;
    if (task)
        text_printf(&t, "%g task loss on %u labelled samples", d->task, s->info->part[DATA_TRAIN].labelled);
    if (s->kd && d->output_loss == OUTPUT_LOSS_KL)
        text_printf(&t, "%s%g T^2 KL to the teacher on %u samples, T = %g", task ? " + " : "", d->kd,
                    s->info->part[DATA_TRAIN].n, d->temperature);
    else if (s->kd)
        text_printf(&t, "%s%g %s to the teacher's outputs on %u samples", task ? " + " : "", d->kd,
                    session_kd_name(s) + strlen("loss.teacher_"), s->info->part[DATA_TRAIN].n);
    if (s->n_hint)
        text_printf(&t, "%s%zu hint%s", t.n ? " + " : "", s->n_hint, s->n_hint > 1 ? "s" : "");
    if (!task)
        text_add(&t, "; no labels");
    if (!s->kd && !s->n_hint)
        text_add(&t, "; no teacher");
    if (s->narrow)
        text_printf(&t, "; in %s", session_precision_name(s));
    if (s->together > 1)
        text_printf(&t, "; the teacher runs %lld batches at once", (long long)s->together);
    status st = t.st == ST_OK ? arena_strdup(mem, out, t.s) : t.st;
    text_free(&t);
    return st;
}
