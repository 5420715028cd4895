/* test_emulated_precision.c - jobs in float16 (with a scaled loss) and bfloat16 on the device, over the emulator: near the losses of
 * float32, resume bitwise, checkpoints that change places with the CPU, what is chosen, what is refused, what a run says of its
 * loss scale. */
#include "harness.h"
#include "base/io.h"
#include "toy.h"
#include "train/checkpoint.h"
#include "train/job_spec.h"
#include "train/loop.h"
#include "train/parity.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { STEPS = 20, MIDDLE = 9 };

#define MLP "student.arch=mlp", "student.widths=", "student.depth=auto", "student.hidden=24 16",

/* `apart`: distance of losses from those of float32, relative to the larger one, that rounding may make within STEPS steps. */
static const struct variant {
    const char *name;
    dtype type;
    double apart;
    const char *set[10];
} variants[] = {
    {"fp16, sgd with momentum", DTYPE_F16, 2e-3, {"train.precision=fp16", "train.clip=2"}},
    {"fp16, adam, accumulation, averages", DTYPE_F16, 2e-3,
     {"train.precision=fp16", "train.optimizer=adam", "train.lr=0.01", "train.accumulate=2", "train.batch=8", "train.ema=0.9"}},
    {"bf16, adamw, hint", DTYPE_BF16, 1e-2, {"train.precision=bf16", "train.optimizer=adamw", "train.lr=0.005", "hint.auto.pairs=1"}},
    {"fp16, rows, momentum", DTYPE_F16, 2e-3, {MLP "train.precision=fp16", "train.momentum=0.9"}},
    {"bf16, rows, adamw", DTYPE_BF16, 1e-2, {MLP "train.precision=bf16", "train.optimizer=adamw", "train.lr=0.005"}},
};
enum { VARIANTS = sizeof variants / sizeof *variants };

static bool is_scale(const char *name)
{
    return strncmp(name, LOSS_SCALE_STATE, strlen(LOSS_SCALE_STATE)) == 0;
}

static bool is_weight(const char *name)
{
    return !is_scale(name) && !strstr(name, "running_");
}

typedef struct trail { /* of a run, step by step */
    uint64_t after[STEPS + 1];
    double total[STEPS], hint[STEPS][4];
    double accuracy, ce;
} trail;

static job *job_on(const char *dir, const char *const *set, const char *device, const char *precision)
{
    char name[64], last[64];
    const char *all[24] = {name, "train.steps=20"};
    size_t n = 2;
    snprintf(name, sizeof name, "exec.device=%s", device);
    for (size_t i = 0; set[i]; i++)
        all[n++] = set[i];
    if (precision) {
        snprintf(last, sizeof last, "train.precision=%s", precision);
        all[n++] = last;
    }
    return toy_job(dir, all);
}

static void set_scale(session *s, float scale)
{
    store_entry *at = store_find(&s->params, LOSS_SCALE_STATE);
    ck_assert(at != NULL);
    OK(store_pull(&s->params));
    *(float *)at->t.data = scale;
    store_changed(&s->params);
}

static float get_scale(session *s)
{
    const store_entry *at = store_find(&s->params, LOSS_SCALE_STATE);
    ck_assert(at != NULL);
    OK(store_pull(&s->params));
    return *(const float *)at->t.data;
}

#define SCALE 1024 /* with which no step of these jobs overflows: one that is skipped would tell runs apart */

/* Values of the training graph as it runs that lie in the type. */
static size_t count_narrow(const session *s, dtype type)
{
    const graph *g = exec_graph(s->train);
    size_t n = 0;
    for (size_t v = 1; v < g->n_value; v++)
        n += g->value[v].narrow == type;
    return n;
}

static void judge(session *s, trail *t)
{
    evaluation e;
    OK(session_evaluate(s, &e));
    t->ce = e.ce;
    evaluation_free(&e);
}

/* Steps [from, STEPS); a checkpoint is written after MIDDLE steps where `keep` is not NULL. used: the session made a step before it went
 * back to `start`, and is judged between its steps too. */
static void run_on(job *j, const char *start, uint64_t from, const char *keep, bool used, trail *t)
{
    session s;
    OK(session_open(j, &s));
    if (used) {
        step_result r = {.hint = t->hint[0]};
        OK(session_step(&s, 0, &r));
    }
    if (start) {
        toy_restore(&s.params, start);
        session_seek(&s, from);
    }
    if (s.narrow)
        ck_assert_uint_ge(count_narrow(&s, s.narrow), 10); /* what lies between its layers, and its gradients */
    if (s.tg.loss_scale) { /* from the start, and from a checkpoint without one */
        float scale = get_scale(&s);
        ck_assert(scale == (float)LOSS_SCALE_START || (start && scale == SCALE));
        set_scale(&s, SCALE);
    }
    for (uint64_t k = from; k < STEPS; k++) {
        step_result r = {.hint = t->hint[k]};
        if (used && k == MIDDLE + 3)
            judge(&s, t);
        if (keep && k == MIDDLE)
            OK(checkpoint_write(keep, &s.params, NULL, 0));
        OK(session_step(&s, k, &r));
        ck_assert_msg(r.finite, "step %d: %s is not finite", (int)k, r.nonfinite);
        ck_assert_int_eq(isnan(r.loss_scale), s.narrow != DTYPE_F16);
        t->total[k] = r.total;
        t->after[k + 1] = toy_hash(&s.params);
    }
    judge(&s, t);
    session_close(&s);
    config_free(j);
}

static double compare(const trail *a, const trail *b, uint64_t from)
{
    double worst = fabs(a->ce - b->ce) / fmax(a->ce, b->ce);
    for (uint64_t k = from; k < STEPS; k++)
        worst = fmax(worst, fabs(a->total[k] - b->total[k]) / fmax(a->total[k], b->total[k]));
    return isnan(worst) ? HUGE_VAL : worst;
}

static void check_variant(const struct variant *v)
{
    static trail exact, near, again, crossed;
    const char *dir = test_tmp_dir(), *mid = test_path(dir, "mid.safetensors"), *mid_cpu = test_path(dir, "cpu.safetensors");
    toy_make(dir);
    run_on(job_on(dir, v->set, "cpu", "fp32"), NULL, 0, mid_cpu, false, &exact);
    run_on(job_on(dir, v->set, "emulated", NULL), NULL, 0, mid, false, &near);
    double apart = compare(&exact, &near, 0);
    test_max_error(v->name, apart, v->apart);
    ck_assert_msg(apart > 2e-6 && apart <= v->apart, "%s: losses are %g apart", v->name, apart); /* float32's are 6e-7 apart */
    run_on(job_on(dir, v->set, "emulated", NULL), mid, MIDDLE, NULL, true, &again); /* resume */
    for (uint64_t k = MIDDLE; k < STEPS; k++) {
        ck_assert_msg(memcmp(&near.total[k], &again.total[k], sizeof near.total[k]) == 0, "%s: the loss of step %d differs", v->name, (int)k);
        ck_assert_msg(near.after[k + 1] == again.after[k + 1], "%s: what step %d leaves differs", v->name, (int)k);
    }
    run_on(job_on(dir, v->set, "emulated", NULL), mid_cpu, MIDDLE, NULL, false, &crossed); /* the CPU's checkpoint, without a loss scale */
    apart = compare(&exact, &crossed, MIDDLE);
    ck_assert_msg(apart <= v->apart, "%s: from the CPU's checkpoint: %g apart", v->name, apart);
    run_on(job_on(dir, v->set, "cpu", "auto"), mid, MIDDLE, NULL, false, &crossed); /* and back */
    apart = compare(&near, &crossed, MIDDLE);
    ck_assert_msg(apart <= v->apart, "%s: from the device's checkpoint: %g apart", v->name, apart);
}

#define VARIANT_TEST(n)                                                                                          \
    START_TEST(variant_##n)                                                                                      \
    {                                                                                                            \
        check_variant(&variants[n]);                                                                             \
    }                                                                                                            \
    END_TEST
VARIANT_TEST(0)
VARIANT_TEST(1)
VARIANT_TEST(2)
VARIANT_TEST(3)
VARIANT_TEST(4)

/* A scale with which gradients overflow: that step leaves parameters, states of the optimizer and averages as they were, on the
 * device, and the scale falls; launched as one and part by part. */
static void ignore(void *ctx, session_part part, double begin, double end, const batch *b)
{
    (void)ctx;
    (void)part;
    (void)begin;
    (void)end;
    (void)b;
}
START_TEST(overflow_skips_the_step)
{
    const char *dir = test_tmp_dir();
    const char *const set[] = {"train.precision=fp16", "train.optimizer=adam", "train.lr=0.01", "train.ema=0.9", NULL};
    toy_make(dir);
    for (int parts = 0; parts < 2; parts++) {
        double hint[4];
        step_result r = {.hint = hint};
        session s;
        job *j = job_on(dir, set, "emulated", NULL);
        OK(session_open(j, &s));
        s.seen = parts ? ignore : NULL;
        set_scale(&s, SCALE);
        for (uint64_t k = 0; k < 6; k++) {
            const bool bad = k == 2 || k == 4;
            if (bad)
                set_scale(&s, k == 2 ? INFINITY : NAN);
            if (k == 3)
                set_scale(&s, 256);
            uint64_t before = toy_hash_of(&s.params, is_weight);
            OK(session_step(&s, k, &r));
            ck_assert_int_eq(r.finite, !bad);
            ck_assert_int_eq(r.overflow, bad);
            ck_assert_int_eq(toy_hash_of(&s.params, is_weight) == before, bad);
            ck_assert(r.skipped == (k >= 4 ? 2 : k >= 2 ? 1 : 0));
            ck_assert(r.loss_scale == (k < 2 ? SCALE : k == 2 ? LOSS_SCALE_LARGEST : k == 3 ? 256 : LOSS_SCALE_SMALLEST));
        }
        session_close(&s);
        config_free(j);
    }
}
END_TEST

static status open_with(const char *dir, const char *device, const char *precision, const char *more, dtype *taken)
{
    const char *const set[] = {more, NULL};
    session s;
    job *j = job_on(dir, set, device, precision);
    status st = session_open(j, &s);
    if (st == ST_OK) {
        *taken = s.narrow;
        ck_assert_int_eq(s.b->narrow, DTYPE_NONE); /* what is opened later is float32 */
        ck_assert_int_eq(s.tg.loss_scale != 0, s.narrow == DTYPE_F16);
        session_close(&s);
    }
    config_free(j);
    return st;
}

START_TEST(what_is_chosen)
{
    const char *dir = test_tmp_dir();
    dtype t;
    toy_make(dir);
    OK(open_with(dir, "emulated", "auto", "train.lr=0.1", &t));
    ck_assert_int_eq(t, DTYPE_F16);
    OK(open_with(dir, "emulated", "fp32", "train.lr=0.1", &t));
    ck_assert_int_eq(t, DTYPE_NONE);
    OK(open_with(dir, "emulated", "bf16", "teacher.precision=fp16", &t));
    ck_assert_int_eq(t, DTYPE_BF16);
    OK(open_with(dir, "cpu", "auto", "train.lr=0.1", &t));
    ck_assert_int_eq(t, DTYPE_NONE);
    FAILS(ST_UNAVAILABLE, "train.precision = fp16", open_with(dir, "cpu", "fp16", "train.lr=0.1", &t));
    FAILS(ST_UNAVAILABLE, "train.precision = bf16", open_with(dir, "cpu", "bf16", "train.lr=0.1", &t));
    FAILS(ST_UNAVAILABLE, "teacher.precision = fp16", open_with(dir, "cpu", "fp32", "teacher.precision=fp16", &t));
}
END_TEST

static tensor_list parity_on(const char *dir, const char *device, const char *precision)
{
    const char *const set[] = {"hint.auto.pairs=1", "train.momentum=0.9", NULL};
    tensor_list out = {0};
    job *j = job_on(dir, set, device, precision);
    OK(parity_run(&(parity_options){.j = j, .steps = 2}, &out));
    config_free(j);
    return out;
}

/* `distill step`: logits, losses and gradients are near float32's where another precision is asked for by name, and those of float32
 * where it is not. */
START_TEST(parity_steps)
{
    static const struct {
        const char *name;
        double apart;
    } row[] = {{"auto", 1e-4}, {"fp16", 1e-2}, {"bf16", 5e-2}};
    const char *dir = test_tmp_dir();
    toy_make(dir);
    tensor_list exact = parity_on(dir, "cpu", "fp32");
    for (size_t k = 0; k < sizeof row / sizeof *row; k++) {
        tensor_list near = parity_on(dir, "emulated", row[k].name);
        double worst = 0;
        ck_assert_uint_eq(exact.n, near.n);
        for (size_t i = 0; i < exact.n; i++) {
            const tensor *x = &exact.at[i], *y = tensor_list_find(&near, x->name);
            double sum = 0, norm = 1e-8;
            ck_assert_msg(y != NULL, "there is no '%s'", x->name);
            for (int64_t n = 0; n < shape_count(&x->sh); n++) {
                sum += pow(tensor_at(x, n) - tensor_at(y, n), 2);
                norm += pow(tensor_at(x, n), 2);
            }
            ck_assert_msg(sqrt(sum / norm) <= row[k].apart, "%s: '%s' is %g apart", row[k].name, x->name, sqrt(sum / norm));
            worst = fmax(worst, sqrt(sum / norm));
        }
        ck_assert_int_eq(worst > 1e-4, k > 0);
        test_max_error(row[k].name, worst, row[k].apart);
        tensor_list_free(&near);
    }
    tensor_list_free(&exact);
}
END_TEST

static bool has_line(const char *lines, const char *a, const char *b)
{
    for (const char *at = lines; (at = strstr(at, a)); at++) {
        const char *end = strchr(at, '\n'), *found = strstr(at, b);
        if (found && (!end || found < end))
            return true;
    }
    return false;
}

/* A run goes on from a checkpoint whose scale is no good: it skips, says so, and its lines have scale and skipped steps. */
START_TEST(what_a_run_says)
{
    const char *dir = test_tmp_dir(), *out = test_path(dir, "run");
    const char *const set[] = {"train.precision=fp16", "train.log_every=1", "train.steps=6", NULL};
    loop_options o = {.dir = out, .resume = true, .force_resume = true};
    loop_result r;
    session s;
    unsigned char *lines;
    size_t n;
    toy_make(dir);
    OK(io_make_dirs(test_path(out, "ckpt")));
    job *j = job_on(dir, set, "emulated", NULL);
    OK(session_open(j, &s));
    set_scale(&s, NAN);
    OK(checkpoint_write(test_path(out, "ckpt/step_00000002.safetensors"), &s.params, NULL, 0));
    OK(loop_run(&s, &o, &r));
    ck_assert_uint_eq(r.skipped, 1);
    evaluation_free(&r.last);
    session_close(&s);
    config_free(j);
    OK(io_read_file(test_path(out, "metrics.jsonl"), 1 << 20, &lines, &n));
    ck_assert_msg(has_line((char *)lines, "\"event\":\"overflow\"", "\"loss_scale\":1") ||
                      has_line((char *)lines, "\"event\": \"overflow\"", "\"loss_scale\": 1"), "%s", (char *)lines);
    ck_assert_msg(strstr((char *)lines, "\"skipped_steps\"") != NULL, "%s", (char *)lines);
    mem_free(lines);
    checkpoint c;
    const limits lim = limits_default();
    OK(checkpoint_read(test_path(out, "ckpt/step_00000006.safetensors"), &lim, &c));
    ck_assert_str_eq(checkpoint_fact(&c, "precision"), "fp16");
    ck_assert(tensor_at(tensor_list_find(&c.tensors, "loss_scale.skipped_steps"), 0) == 1);
    checkpoint_free(&c);
}
END_TEST

const test_entry test_table[] = {TEST(variant_0), TEST(variant_1), TEST(variant_2), TEST(variant_3), TEST(variant_4),
                                 TEST(overflow_skips_the_step), TEST(what_is_chosen),
                                 TEST(parity_steps), TEST(what_a_run_says), {0}};
