/* test_emulated_jobs.c - whole jobs on the device, over the emulator: the same losses as on the CPU to float rounding,
 * resume bitwise, checkpoints that change places, evaluation, export, training with rounding, the program itself. */
#include "harness.h"
#include "base/io.h"
#include "base/log.h"
#include "data/npy.h"
#include "deploy/prove.h"
#include "emulator/emulator_control.h"
#include "program.h"
#include "toy.h"
#include "train/checkpoint.h"
#include "train/job_spec.h"
#include "train/loop.h"
#include "train/parity.h"
#include "train/session_qat.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum { STEPS = 12, HINTS = 4 };

#define MLP "student.arch=mlp", "student.widths=", "student.depth=auto", "student.hidden=12"

/* Between them: both kinds of student, every optimizer, teacher, hints, dropout, averages, accumulation, clipping, mixup,
 * remembered teacher outputs. `apart`: relative distance of the losses that rounding may make within STEPS steps. */
static const struct variant {
    const char *name;
    double apart;
    const char *set[12];
} variants[] = {
    {"mlp, sgd, teacher", 1e-4, {MLP, "train.clip=0.5"}},
    {"cnn, sgd with momentum, views", 1e-3, {"cache.views=2", "data.augment=crop:1 flip", "train.momentum=0.9"}},
    {"cnn, adam, accumulation, averages", 1e-3, {"train.optimizer=adam", "train.lr=0.01", "train.accumulate=2", "train.batch=8",
                                                 "train.ema=0.9", "distill.label_smoothing=0.1"}},
    {"cnn, adamw, hints, mixup, dropout", 2e-3, {"train.optimizer=adamw", "train.lr=0.005", "hint.auto.pairs=2", "student.dropout=0.3",
                                                 "data.augment=mixup:0.4", "distill.temperature_end=2"}},
};
enum { VARIANTS = sizeof variants / sizeof *variants };

typedef struct trail { /* of a run, step by step */
    uint64_t after[STEPS + 1];
    step_result r[STEPS];
    double hint[STEPS][HINTS];
    double accuracy, ce, agreement;
} trail;

static job *job_on(const char *dir, const char *const *set, const char *device)
{
    char name[64];
    const char *all[24] = {name, "train.steps=12", "train.precision=fp32"}; /* what comes later counts */
    snprintf(name, sizeof name, "exec.device=%s", device);
    for (size_t i = 0; set[i]; i++)
        all[i + 3] = set[i];
    return toy_job(dir, all);
}

static void one_step(session *s, uint64_t step, trail *t)
{
    t->r[step].hint = t->hint[step];
    OK(session_step(s, step, &t->r[step]));
    ck_assert_msg(t->r[step].finite, "step %d: %s is not finite", (int)step, t->r[step].nonfinite);
    t->after[step + 1] = toy_hash(&s->params);
}

static void judge(session *s, trail *t)
{
    evaluation e;
    OK(session_evaluate(s, &e));
    t->accuracy = e.accuracy;
    t->ce = e.ce;
    t->agreement = e.agreement;
    evaluation_free(&e);
}

/* Steps [from, STEPS) on a device, from a checkpoint unless `start` is NULL; writes one after `keep` steps. */
static void run_on(const char *dir, const struct variant *v, const char *device, const char *start, uint64_t from, const char *keep_path,
                   uint64_t keep, trail *t)
{
    session s;
    job *j = job_on(dir, v->set, device);
    OK(session_open(j, &s));
    ck_assert_uint_eq(s.steps, STEPS);
    if (start) {
        toy_restore(&s.params, start);
        session_seek(&s, from);
    }
    t->after[from] = toy_hash(&s.params);
    for (uint64_t k = from; k < STEPS; k++) {
        if (keep_path && k == keep)
            OK(checkpoint_write(keep_path, &s.params, NULL, 0));
        one_step(&s, k, t);
    }
    judge(&s, t);
    session_close(&s);
    config_free(j);
}

static double relative(double a, double b)
{
    return isnan(a) && isnan(b) ? 0 : fabs(a - b) / fmax(1e-2, fmax(fabs(a), fabs(b)));
}

static double compare(const trail *a, const trail *b, uint64_t from)
{
    double worst = 0;
    for (uint64_t k = from; k < STEPS; k++) {
        worst = fmax(worst, relative(a->r[k].total, b->r[k].total));
        worst = fmax(worst, relative(a->r[k].task, b->r[k].task));
        worst = fmax(worst, relative(a->r[k].kl, b->r[k].kl));
        worst = fmax(worst, relative(a->r[k].norm, b->r[k].norm));
        for (int h = 0; h < HINTS; h++)
            worst = fmax(worst, relative(a->hint[k][h], b->hint[k][h]));
        if (isnan(worst) || isnan(b->r[k].total))
            return INFINITY;
    }
    return fmax(worst, relative(a->ce, b->ce));
}

static void compare_bits(const trail *a, const trail *b, uint64_t from, const char *what)
{
    for (uint64_t k = from; k < STEPS; k++) {
        ck_assert_msg(memcmp(&a->r[k].total, &b->r[k].total, sizeof a->r[k].total) == 0, "%s: the loss of step %d differs", what, (int)k);
        ck_assert_msg(a->after[k + 1] == b->after[k + 1], "%s: weights after step %d differ", what, (int)k);
    }
}

/* Runs variant v on both devices, and on with the other's checkpoint. */
static void check_variant(const struct variant *v)
{
    static trail cpu, far, again, crossed;
    const char *dir = test_tmp_dir(), *mid_cpu = test_path(dir, "cpu.safetensors"), *mid_far = test_path(dir, "far.safetensors");
    const emulator_counts was = *emulator_count();
    toy_make(dir);
    memset(&cpu, 0, sizeof cpu);
    memset(&far, 0, sizeof far);
    memset(&again, 0, sizeof again);
    memset(&crossed, 0, sizeof crossed);
    run_on(dir, v, "cpu", NULL, 0, mid_cpu, STEPS / 2, &cpu);
    run_on(dir, v, "emulated", NULL, 0, mid_far, STEPS / 2, &far);
    ck_assert_msg(cpu.after[0] == far.after[0], "%s: the start differs", v->name);
    for (int k = 0; k < STEPS; k++)
        ck_assert_msg(far.after[k] != far.after[k + 1], "%s: step %d changed nothing", v->name, k);
    double apart = compare(&cpu, &far, 0);
    test_max_error(v->name, apart, v->apart);
    ck_assert_msg(apart <= v->apart, "%s: losses are %g apart", v->name, apart);
    run_on(dir, v, "emulated", mid_far, STEPS / 2, NULL, 0, &again); /* resume */
    compare_bits(&far, &again, STEPS / 2, v->name);
    run_on(dir, v, "emulated", mid_cpu, STEPS / 2, NULL, 0, &crossed); /* the CPU's checkpoint on the device */
    apart = compare(&cpu, &crossed, STEPS / 2);
    ck_assert_msg(apart <= v->apart, "%s: from the CPU's checkpoint: %g apart", v->name, apart);
    run_on(dir, v, "cpu", mid_far, STEPS / 2, NULL, 0, &crossed); /* and back */
    apart = compare(&far, &crossed, STEPS / 2);
    ck_assert_msg(apart <= v->apart, "%s: from the device's checkpoint: %g apart", v->name, apart);
    const emulator_counts *now = emulator_count();
    ck_assert_msg(now->memory == was.memory && now->host_memory == was.host_memory && now->graphs == was.graphs && now->damaged == was.damaged,
                  "%s: memory of the device was left, or written beside", v->name);
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

static void watch(void *ctx, session_part part, double begin, double end, const batch *b)
{
    int *seen = ctx;
    (void)begin;
    (void)end;
    (void)b;
    seen[part]++;
}

/* A step is one launch and one wait where nothing of the host is needed in between; watched part by part it is the same step,
 * bit for bit. */
START_TEST(one_launch_a_step)
{
    static const size_t launches[VARIANTS] = {1, 1, 3, 1}; /* with accumulation: two micro batches and the update */
    static trail once, parts;
    for (int v = 0; v < VARIANTS; v++) {
        const char *dir = test_tmp_dir();
        int seen[PART_STEP + 1] = {0};
        session s;
        toy_make(dir);
        job *j = job_on(dir, variants[v].set, "emulated");
        OK(session_open(j, &s));
        for (uint64_t k = 0; k < STEPS; k++) {
            double hint[HINTS];
            step_result r = {.hint = hint};
            emulator_counts was = *emulator_count();
            OK(session_step(&s, k, &r));
            if (k && !s.t.cache) { /* the first one records */
                ck_assert_uint_eq(emulator_count()->launches - was.launches, launches[v]);
                ck_assert_uint_eq(emulator_count()->waits - was.waits, launches[v]);
            }
            once.r[k] = r;
            once.after[k + 1] = toy_hash(&s.params);
        }
        session_close(&s);
        OK(session_open(j, &s));
        s.seen = watch;
        s.seen_ctx = seen;
        for (uint64_t k = 0; k < STEPS; k++)
            one_step(&s, k, &parts);
        compare_bits(&once, &parts, 0, variants[v].name);
        ck_assert_int_ge(seen[PART_TEACHER], STEPS);
        session_close(&s);
        config_free(j);
    }
}
END_TEST

/* Every order of threads gives the same run, bit for bit. */
START_TEST(order_of_threads)
{
    static trail forward, other;
    const char *dir = test_tmp_dir();
    toy_make(dir);
    emulator_order(EMULATOR_FORWARD);
    run_on(dir, &variants[3], "emulated", NULL, 0, NULL, 0, &forward);
    for (int order = EMULATOR_REVERSE; order <= EMULATOR_RANDOM; order++) {
        emulator_order((emulator_order_kind)order);
        run_on(dir, &variants[3], "emulated", NULL, 0, NULL, 0, &other);
        compare_bits(&forward, &other, 0, order == EMULATOR_REVERSE ? "reverse" : "random");
    }
    emulator_order(EMULATOR_FORWARD);
}
END_TEST

/* Teacher and student forward beside each other, in every order: the same run as one after the other. */
START_TEST(parallel_branches)
{
    static trail apart, other;
    const char *dir = test_tmp_dir();
    struct variant off = variants[0];
    size_t n = 0;
    toy_make(dir);
    while (off.set[n])
        n++;
    off.set[n] = "exec.branches=false";
    run_on(dir, &off, "emulated", NULL, 0, NULL, 0, &apart);
    for (int order = EMULATOR_FORWARD; order <= EMULATOR_RANDOM; order++) {
        emulator_order((emulator_order_kind)order);
        run_on(dir, &variants[0], "emulated", NULL, 0, NULL, 0, &other);
        compare_bits(&apart, &other, 0, "branches");
    }
    emulator_order(EMULATOR_FORWARD);
    size_t branches[2];
    for (int on = 0; on < 2; on++) { /* it is made so at all */
        const size_t was = emulator_count()->events, before = emulator_count()->branches;
        session s;
        job *j = job_on(dir, on ? variants[0].set : off.set, "emulated");
        OK(session_open(j, &s));
        for (uint64_t k = 0; k < 3; k++)
            one_step(&s, k, &other);
        branches[on] = emulator_count()->branches - before;
        ck_assert_uint_ge(session_kernels(&s), 20);
        session_close(&s);
        config_free(j);
        ck_assert_uint_eq(emulator_count()->events, was);
    }
    ck_assert_uint_eq(branches[0], 0);
    ck_assert_uint_eq(branches[1], 1);
}
END_TEST

/* Products of operands rounded to bfloat16, the teacher's, then the student's with its gradients: near the losses of
 * float32, and not the same. */
START_TEST(rounded_products)
{
#define PRECISION(teacher, train) MLP, "teacher.precision=" teacher, "train.precision=" train
    static const struct variant whole = {"", 0, {PRECISION("fp32", "fp32")}};
    static const struct variant rounded[] = {{"teacher in bfloat16", 2e-2, {PRECISION("bf16", "fp32")}},
                                             {"mlp in bfloat16", 5e-2, {PRECISION("fp32", "bf16")}}};
    static trail exact, near;
    const char *dir = test_tmp_dir();
    toy_make(dir);
    run_on(dir, &whole, "emulated", NULL, 0, NULL, 0, &exact);
    for (size_t i = 0; i < sizeof rounded / sizeof *rounded; i++) {
        run_on(dir, &rounded[i], "emulated", NULL, 0, NULL, 0, &near);
        double apart = compare(&exact, &near, 0);
        test_max_error(rounded[i].name, apart, rounded[i].apart);
        ck_assert_msg(apart > 1e-6 && apart <= rounded[i].apart, "%s: losses are %g apart", rounded[i].name, apart);
    }
}
END_TEST

/* A batch with a value that is not finite changes nothing but running statistics. */
START_TEST(steps_that_are_not_finite)
{
    const char *dir = test_tmp_dir();
    const char *const set[] = {"data.shuffle=false", MLP, "train.ema=0.9", "train.optimizer=adam", NULL};
    double hint[HINTS];
    step_result r = {.hint = hint};
    session s;
    toy_make_float(dir, 5, 3e38);
    job *j = job_on(dir, set, "emulated");
    OK(session_open(j, &s));
    for (uint64_t k = 0; k < 8; k++) {
        uint64_t before = toy_hash(&s.params);
        OK(session_step(&s, k, &r));
        ck_assert_int_eq(r.finite, k % 6 != 0);
        ck_assert_int_eq(toy_hash(&s.params) == before, k % 6 == 0);
        if (!r.finite)
            ck_assert_str_eq(r.nonfinite, "input");
    }
    session_close(&s);
    config_free(j);
}
END_TEST

static tensor_list parity_on(const char *dir, const char *device)
{
    const char *const set[] = {"hint.auto.pairs=1", "train.momentum=0.9", NULL};
    tensor_list out = {0};
    job *j = job_on(dir, set, device);
    OK(parity_run(&(parity_options){.j = j, .steps = 3}, &out));
    config_free(j);
    return out;
}

/* `distill step`: logits, losses and every gradient of three steps. */
START_TEST(parity_steps)
{
    const char *dir = test_tmp_dir();
    double worst = 0;
    toy_make(dir);
    tensor_list a = parity_on(dir, "cpu"), b = parity_on(dir, "emulated");
    ck_assert_uint_eq(a.n, b.n);
    for (size_t i = 0; i < a.n; i++) {
        const tensor *x = &a.at[i], *y = tensor_list_find(&b, x->name);
        double sum = 0, norm = 1e-8;
        ck_assert_msg(y != NULL, "there is no '%s'", x->name);
        for (int64_t k = 0; k < shape_count(&x->sh); k++) {
            sum += pow(tensor_at(x, k) - tensor_at(y, k), 2);
            norm += pow(tensor_at(x, k), 2);
        }
        double apart = sqrt(sum / norm);
        ck_assert_msg(apart <= 1e-3, "'%s' is %g apart", x->name, apart);
        worst = fmax(worst, apart);
    }
    test_max_error("parity", worst, 1e-3);
    tensor_list_free(&a);
    tensor_list_free(&b);
}
END_TEST

/* The exported file in our executor on the CPU and in the trained graph on the device. */
START_TEST(export_and_evaluation)
{
    const char *dir = test_tmp_dir(), *path = test_path(dir, "student.onnx");
    const char *const set[] = {"train.ema=0.8", NULL};
    double hint[HINTS];
    step_result r = {.hint = hint};
    const limits lim = limits_default();
    const backend_options bo = {.threads = 1, .max_isa = ISA_AVX512};
    session s;
    backend *cpu;
    evaluation e;
    float *y;
    shape sh;
    latency time;
    double worst = 0;
    toy_make(dir);
    job *j = job_on(dir, set, "emulated");
    OK(session_open(j, &s));
    for (uint64_t k = 0; k < 4; k++)
        OK(session_step(&s, k, &r));
    OK(session_evaluate(&s, &e));
    OK(session_export(&s, path, NULL, 0));
    OK(backend_open("cpu", &bo, &cpu));
    for (int on_device = 0; on_device < 2; on_device++) {
        const prove_options o = {.b = on_device ? s.b : cpu, .ds = s.ds, .lim = &lim};
        OK(prove_outputs(&o, path, false, &y, &sh, &time));
        ck_assert_int_eq(shape_count(&sh), (int64_t)e.n * s.width);
        for (int64_t i = 0; i < (int64_t)e.n * s.width; i++)
            worst = fmax(worst, relative((double)e.logits[i], (double)y[i]));
        mem_free(y);
    }
    test_max_error("exported file and trained graph", worst, 1e-3);
    ck_assert(worst <= 1e-3);
    evaluation_free(&e);
    session_close(&s);
    backend_close(cpu);
    config_free(j);
}
END_TEST

/* Training with rounding goes on from the float training, and resumes bitwise. */
START_TEST(training_with_rounding)
{
    const char *dir = test_tmp_dir(), *half = test_path(dir, "half.safetensors"), *path = test_path(dir, "q.onnx");
    const char *const set[] = {"quant.epochs=1", "quant.samples=48", "hint.auto.pairs=1", "train.ema=0.8", NULL};
    uint64_t whole[8] = {0}, part[8] = {0};
    double hint[HINTS], loss[2] = {0};
    const char *const devices[] = {"cpu", "emulated"};
    toy_make(dir);
    for (int d = 0; d < 2; d++) {
        session s, q;
        step_result r = {.hint = hint};
        job *j = job_on(dir, set, devices[d]);
        OK(session_open(j, &s));
        for (uint64_t k = 0; k < 4; k++)
            OK(session_step(&s, k, &r));
        OK(session_open_qat(&s, "int8-qat", &q));
        for (uint64_t k = 0; k < 4; k++) {
            if (k == 2)
                OK(checkpoint_write(half, &q.params, NULL, 0));
            OK(session_step(&q, k, &r));
            whole[k] = toy_hash(&q.params);
        }
        loss[d] = r.total;
        OK(session_export(&q, path, NULL, 0));
        session_close_qat(&q);
        OK(session_open_qat(&s, "int8-qat", &q));
        toy_restore(&q.params, half);
        session_seek(&q, 2);
        for (uint64_t k = 2; k < 4; k++) {
            OK(session_step(&q, k, &r));
            part[k] = toy_hash(&q.params);
            ck_assert_msg(whole[k] == part[k], "%s: resumed at 2, step %d differs", devices[d], (int)k);
        }
        session_close_qat(&q);
        session_close(&s);
        config_free(j);
    }
    test_max_error("loss with rounding", relative(loss[0], loss[1]), 5e-2); /* a value may round to the neighbour */
    ck_assert_msg(relative(loss[0], loss[1]) <= 5e-2, "%g on the CPU, %g on the device", loss[0], loss[1]);
}
END_TEST

/* The program: a whole run on the device, with variants, stopped by a signal and resumed. */
START_TEST(the_program)
{
    const char *dir = test_tmp_dir(), *out = test_path(dir, "run"), *ini = test_path(dir, "job.ini");
    const program_options o = {.kill_after = 300};
    toy_make(dir);
    const char *const args[] = {"--student", ini, "--out", out, "--device", "emulated", "--set", "train.epochs=8", "--set",
                                "train.log_every=1", "--set", "train.sanity=false", NULL};
    started s = program_start(&o, args);
    const char *metrics = test_path(out, "metrics.jsonl");
    for (int i = 0; i < 3000 && !io_exists(metrics); i++)
        usleep(10000);
    kill(s.pid, SIGINT);
    ran r = program_wait(&s);
    ck_assert_msg(r.code == 75, "stopped: exit %d, signal %d: %s", r.code, r.signal, r.err);
    ran_free(&r);
    r = program_run(&o, ARGS("--student", ini, "--out", out, "--device", "emulated", "--set", "train.epochs=8", "--set", "train.log_every=1",
                             "--set", "train.sanity=false", "--resume", "--json"));
    ck_assert_msg(r.code == 0, "resumed: exit %d, signal %d: %s", r.code, r.signal, r.err);
    unsigned char *run = NULL;
    size_t n;
    OK(io_read_file(test_path(out, "run.json"), 1 << 20, &run, &n));
    ck_assert_msg(strstr((const char *)run, "emulated GPU") != NULL, "run.json does not name the device");
    mem_free(run);
    ran_free(&r);
}
END_TEST

START_TEST(variants_of_the_program)
{
    const char *dir = test_tmp_dir(), *out = test_path(dir, "run"), *ini = test_path(dir, "job.ini");
    const program_options o = {.kill_after = 120};
    toy_make(dir);
    ran r = program_run(&o, ARGS("--student", ini, "--out", out, "--device", "emulated", "--set", "export.variants=fp32 fp16 int8-ptq int8-qat",
                                 "--set", "train.epochs=2", "--set", "quant.epochs=0.5", "--set", "quant.samples=32"));
    ck_assert_msg(r.code == 0, "exit %d, signal %d: %s", r.code, r.signal, r.err);
    ck_assert(io_exists(test_path(out, "export/student.int8-qat.onnx")));
    ran_free(&r);
}
END_TEST

/* Every command that takes a device. */
START_TEST(commands)
{
    const char *dir = test_tmp_dir(), *ini = test_path(dir, "job.ini"), *net = test_path(dir, "teacher.onnx"), *data = test_path(dir, "data");
    const char *quantised = test_path(dir, "q.onnx");
    const program_options o = {.kill_after = 120};
    const struct {
        int code;
        const char *says, *args[16];
    } rows[] = {
        {0, "ms: p50", {"run", net, "--data", data, "--device", "emulated", "--repeat", "2"}},
        {64, "--double computes on the CPU", {"run", net, "--data", data, "--device", "emulated", "--double"}},
        {0, "held   student is finite", {"validate", "--student", net, "--data", data, "--device", "emulated"}},
        {0, "int8-ptq", {"quant", net, "--variant", "int8-ptq", "--data", data, "--out", quantised, "--device", "emulated"}},
        {0, "only this layer in int8", {"quant", net, "--variant", "int8-ptq", "--sensitivity", "--data", data, "--device", "emulated"}},
        {0, "loss.total", {"step", "--teacher", net, "--student", net, "--data", data, "--batch", "8", "--steps", "2", "--device", "emulated"}},
        {0, "\"kernels\":", {"bench", "--student", ini, "--device", "emulated", "--steps", "2", "--json"}},
        {0, "kernels per step", {"bench", "--student", ini, "--device", "emulated", "--steps", "2", "--profile"}},
        {0, "emulated GPU", {"--student", ini, "--dry-run", "--device", "emulated"}},
    };
    toy_make(dir);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ran r = program_run(&o, rows[i].args);
        ck_assert_msg(r.code == rows[i].code, "%s: exit %d, signal %d: %s", rows[i].args[0], r.code, r.signal, r.err);
        ck_assert_msg(strstr(r.out, rows[i].says) || strstr(r.err, rows[i].says), "%s says: %s%s", rows[i].args[0], r.out, r.err);
        ck_assert_msg(strcmp(rows[i].args[0], "bench") != 0 || !strstr(r.out, "-nan"), "%s", r.out); /* shares of no time at all */
        ran_free(&r);
    }
}
END_TEST

const test_entry test_table[] = {TEST(variant_0), TEST(variant_1), TEST(variant_2), TEST(variant_3), TEST(one_launch_a_step), TEST(order_of_threads), TEST(parallel_branches),
                                 TEST(rounded_products),
                                 TEST(steps_that_are_not_finite), TEST(parity_steps), TEST(export_and_evaluation),
                                 TEST(training_with_rounding), TEST(commands), TEST(the_program), TEST(variants_of_the_program), {0}};
