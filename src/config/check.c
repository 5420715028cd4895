/* check.c - faults that lie in no single value of a job but between them. */
#include "config/load.h"

#include <math.h>
#include <string.h>

/* Only values count here, never whether one was written: a run's config.ini writes all of them. */
#define FAULT(key, ...) faults_add(f, config_origin(j, key), __VA_ARGS__)

static void check_augment(const job *j, faults *f)
{
    static const struct {
        double lo, hi;
        const char *what; /* NULL: takes no number */
    } rules[] = {
        [AUGMENT_CROP] = {1, 1024, "pixels of padding, 1 to 1024"},
        [AUGMENT_CUTOUT] = {1, 1024, "pixels of the square, 1 to 1024"},
        [AUGMENT_JITTER] = {1e-6, 1, "a strength of at most 1"},
        [AUGMENT_MIXUP] = {1e-6, 100, "alpha of the beta distribution, at most 100"},
        [AUGMENT_FLIP] = {0, 0, NULL},
        [AUGMENT_RRC] = {0, 0, NULL},
    };
    for (size_t i = 0; i < j->data.augment.n; i++) {
        const word_number *w = &j->data.augment.at[i];
        bool has = !isnan(w->value), whole = w->kind == AUGMENT_CROP || w->kind == AUGMENT_CUTOUT;
        if (!rules[w->kind].what && has)
            FAULT("data.augment", "augment: %s takes no number", w->name);
        if (rules[w->kind].what && (!has || w->value < rules[w->kind].lo || w->value > rules[w->kind].hi ||
                                    (whole && floor(w->value) < w->value)))
            FAULT("data.augment", "augment: %s needs a number: %s, e.g. %s:%s", w->name, rules[w->kind].what,
                  w->name, whole ? "2" : "0.2");
        for (size_t k = 0; k < i; k++)
            if (j->data.augment.at[k].kind == w->kind)
                FAULT("data.augment", "augment: %s stands twice", w->name);
    }
}

static void check_data(const job *j, faults *f)
{
    const job_data *d = &j->data;
    if (d->mean.n > 1 && d->std.n > 1 && d->mean.n != d->std.n)
        FAULT("data.std", "std: has %zu values, mean has %zu", d->std.n, d->mean.n);
    if (d->size.n > 2)
        FAULT("data.size", "size: has %zu values; expected height and width", d->size.n);
    if (*d->labels && !*d->train)
        FAULT("data.labels", "labels: belong to data.train, which is empty");
    if (*d->val_labels && !*d->val)
        FAULT("data.val_labels", "val_labels: belong to data.val, which is empty");
    if (*d->dir && *d->train)
        FAULT("data.train", "train: data.dir is set too; one of them says where the training samples are");
    check_augment(j, f);
}

static void check_student(const job *j, faults *f)
{
    const job_student *s = &j->student;
    bool onnx = *s->onnx, arch = s->arch != ARCH_AUTO;
    if (onnx && arch)
        FAULT("student.onnx", "onnx: student.arch is set too; the student comes from one of them");
    if (j->n_layer && (onnx || arch))
        faults_add(f, &j->layer[0].from,
                   "a [layer NAME] section beside student.%s; the student comes from one of them",
                   onnx ? "onnx" : "arch");
    if (s->from_scratch && !onnx)
        FAULT("student.from_scratch", "from_scratch: has a meaning only with student.onnx");
    for (size_t i = 0; i < j->n_layer; i++)
        if (!*j->layer[i].op)
            faults_add(f, &j->layer[i].from, "[layer %s] has no op", j->layer[i].name);
}

static void check_train(const job *j, faults *f)
{
    const job_train *t = &j->train;
    for (size_t i = 1; i < t->milestones.n; i++)
        if (!(t->milestones.at[i] > t->milestones.at[i - 1])) {
            FAULT("train.milestones", "milestones: each must be above the one before");
            break;
        }
    if (t->schedule == SCHEDULE_STEP && t->milestones.n == 0)
        FAULT("train.schedule", "schedule: step needs milestones, e.g. milestones = 30 60 90");
    if (t->schedule != SCHEDULE_STEP && t->milestones.n)
        FAULT("train.milestones", "milestones: have a meaning only with schedule = step");
    if (t->steps == 0 && t->warmup >= (double)t->epochs)
        FAULT("train.warmup", "warmup: is as long as the whole training (%lld epochs)", (long long)t->epochs);
    if (t->schedule == SCHEDULE_ONECYCLE && t->warmup > 0)
        FAULT("train.warmup", "warmup: schedule = onecycle rises by itself in its first 30 %%");
    if (t->min_lr > t->lr)
        FAULT("train.min_lr", "min_lr: is above lr");
}

static void check_distill(const job *j, faults *f)
{
    const job_distill *d = &j->distill;
    bool ends = !isnan(d->temperature_end) || !isnan(d->task_end) || !isnan(d->kd_end);
    bool task = d->task > 0 || d->task_end > 0, kd = d->kd > 0 || d->kd_end > 0, hints = false;
    for (size_t i = 0; i < j->n_hint; i++) {
        ends = ends || !isnan(j->hint[i].weight_end);
        hints = hints || j->hint[i].weight > 0 || j->hint[i].weight_end > 0;
    }
    if (!task && !kd && !hints)
        FAULT("distill.kd",
              "distill.task, distill.kd and all hints have weight 0: there is nothing to learn from");
    if (ends && d->ramp == RAMP_CONSTANT)
        FAULT("distill.ramp", "ramp: constant, but an ..._end value is set; use linear or cosine");
    if (d->task_loss != TASK_LOSS_CE && d->label_smoothing > 0)
        FAULT("distill.label_smoothing", "label_smoothing: has a meaning only with task_loss = ce");
    if (d->task_loss != TASK_LOSS_CE && d->class_weights.n)
        FAULT("distill.class_weights", "class_weights: have a meaning only with task_loss = ce");
}

static void check_hints(const job *j, faults *f)
{
    for (size_t i = 0; i < j->n_hint; i++) {
        const job_hint *h = &j->hint[i];
        if (strcmp(h->name, "auto") == 0) {
            if (*h->student || *h->teacher)
                faults_add(f, &h->from,
                           "[hint auto] finds its layers by itself; name the section otherwise to give "
                           "student and teacher");
            else if (h->pairs == 0)
                faults_add(f, &h->from, "[hint auto] needs the number of pairs, e.g. pairs = 2");
        } else {
            if (!*h->student || !*h->teacher)
                faults_add(f, &h->from, "[hint %s] needs student = LAYER and teacher = VALUE", h->name);
            if (h->pairs)
                faults_add(f, &h->from, "[hint %s]: pairs has a meaning only in [hint auto]", h->name);
        }
    }
}

/* auto, cpu, cuda or cuda:N */
static bool is_device(const char *s)
{
    if (strcmp(s, "auto") == 0 || strcmp(s, "cpu") == 0 || strcmp(s, "cuda") == 0)
        return true;
#ifdef DISTILL_EMULATOR /* test builds */
    if (strcmp(s, "emulated") == 0)
        return true;
#endif
    size_t digits = strncmp(s, "cuda:", 5) == 0 ? strspn(s + 5, "0123456789") : 0;
    return digits > 0 && digits < 4 && s[5 + digits] == 0;
}

void config_check(const job *j, faults *f)
{
    check_data(j, f);
    check_student(j, f);
    check_train(j, f);
    check_distill(j, f);
    check_hints(j, f);
    if (j->export.variants.n == 0)
        FAULT("export.variants", "variants: none; write fp32 at least");
    if (!is_device(j->exec.device))
        FAULT("exec.device", "device: '%.80s' is unknown; it may be auto, cpu, cuda or cuda:N",
              j->exec.device);
}
