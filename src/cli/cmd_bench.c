/* cmd_bench.c - `distill bench`: how long a training step of a job takes here.
 *
 * The job is opened as train opens it. A step is everything from taking the next batch (augmented by the loader's
 * threads) to the updated weights. It is timed in up to two ways: with the teacher's outputs computed in every step
 * (fresh views, nothing can be remembered), and with outputs that an earlier pass left in memory (one fixed view: the
 * same batches are taken twice and the second time counts), which leaves the student's share. With --profile, steps of
 * the first kind are made again with a clock around every node (bench_profile.c), with --profile=FILE traced too
 * (bench_trace.c). With --variant the float step and one with rounding take turns (bench_rounding.c). */
#include "base/log.h"
#include "cli/bench.h"
#include "deploy/compare.h"
#include "train/job_spec.h"

#include <string.h>
#include <sys/resource.h>

#define WARM_STEPS    5
#define TIMED_STEPS   50
#define STEPS_AT_MOST 1000000
#define TRACED_STEPS  5 /* more of the same makes a file that no viewer likes */

typedef struct timing {
    const char *key, *name;
    double first; /* seconds from opening the job to the end of its first step */
    latency step;
    double samples_per_second; /* at the median */
    double *ms;                /* [steps], sorted in the end */
    size_t kernels, device_bytes; /* of a step on a device with memory of its own; else 0 */
    bool done;
} timing;

typedef struct bench_run {
    cli *c;
    uint64_t steps;
    timing computed, remembered;
    text device;
    char student[128];
    int threads;
    int64_t batch, student_parameters, teacher_parameters;
    text profile;
} bench_run;

status bench_load_job(cli *c, const char *views, job **out)
{
    config_override flags[CLI_FLAGS + 2];
    const options *o = &c->o;
    size_t n = cli_flags(c, flags);
    flags[n++] = (config_override){"cache.views", views, "bench"};
    flags[n++] = (config_override){"cache.disk", "false", "bench"};
    const config_sources from = {.file = o->student, .env = cli_environment(), .set = o->set.at, .n_set = o->set.n,
                                 .flags = flags, .n_flags = n};
    return config_load(&from, out);
}

status bench_steps(const cli *c, session *s, uint64_t begin, uint64_t end, double *ms)
{
    double hint[HINTS_MAX], last = clock_seconds();
    step_result r = {.hint = hint};
    uint64_t ended = begin;
    for (uint64_t step = begin; step < end; step++) {
        TRY(session_begin_step(s, step % s->steps));
        const uint64_t leave = step + 1 < end ? session_steps_ahead(s) : 0; /* under way, as in training */
        for (; step + 1 - ended > leave; ended++) {
            TRY(session_end_step(s, &r));
            const double now = clock_seconds();
            if (ms)
                ms[ended - begin] = (now - last) * 1e3;
            last = now;
        }
        if (*c->stop)
            return fail(ST_STOPPED, "stopped after %llu steps; nothing was measured", (unsigned long long)ended);
    }
    return ST_OK;
}

void bench_say_device(const session *s, json *j)
{
    if (!s->b->remote)
        return;
    json_put_int(j, "kernels", (int64_t)session_kernels(s));
    json_put_int(j, "device_bytes", (int64_t)s->b->most_taken);
}

static status take_facts(bench_run *b, const session *s)
{
    b->batch = s->j->train.batch * s->j->train.accumulate;
    b->threads = s->b->threads;
    b->student_parameters = s->student_stats.parameters;
    b->teacher_parameters = s->teacher_file ? s->teacher_stats.parameters : 0;
    snprintf(b->student, sizeof b->student, "%s", s->title);
    text_free(&b->device);
    s->b->describe(s->b, &b->device);
    return b->device.st;
}

static status trace(const bench_run *b, session *s, uint64_t from)
{
    const char *path = b->c->o.profile;
    bench_trace *t;
    TRY(bench_trace_begin(s, &t));
    status st = bench_steps(b->c, s, from, from + (b->steps < TRACED_STEPS ? b->steps : TRACED_STEPS), NULL);
    bench_trace_stop(t);
    if (st == ST_OK)
        st = bench_trace_write(t, path);
    if (st == ST_OK)
        log_info("trace for chrome://tracing or https://ui.perfetto.dev: %s", path);
    bench_trace_close(t);
    return st;
}

/* Makes the steps of the measurement once more, timed node by node. */
static status profile(bench_run *b, session *s, uint64_t from)
{
    if (*b->c->o.profile)
        TRY(trace(b, s, from));
    uint64_t teacher_runs = s->t.e ? s->t.runs : 0;
    exec_set_timing(s->train, true);
    if (s->t.e)
        exec_set_timing(s->t.e, true);
    TRY(bench_steps(b->c, s, from, from + b->steps, NULL));
    if (s->t.e)
        TRY(bench_profile_print("teacher", s->t.e, b->steps,
                                (s->t.runs - teacher_runs) / (uint64_t)s->t.batch, &b->profile));
    return bench_profile_print("training graph: student, losses, gradients, update", s->train, b->steps, b->steps,
                               &b->profile);
}

static status measure(bench_run *b, const char *views, timing *t)
{
    job *j = NULL;
    session s = {0};
    uint64_t all = WARM_STEPS + b->steps;
    bool again = t == &b->remembered;
    double began = clock_seconds();
    status st = ST_OK;
    TRY(bench_load_job(b->c, views, &j));
    TRY_DONE(session_choose_batch(j, NULL));
    TRY_DONE(session_open(j, &s));
    TRY_DONE(take_facts(b, &s));
    if (again && !s.t.cache)
        goto done;
    TRY_DONE(bench_steps(b->c, &s, 0, 1, NULL));
    t->first = clock_seconds() - began;
    if (again) {
        TRY_DONE(bench_steps(b->c, &s, 1, all, NULL));
        session_seek(&s, 0);
        TRY_DONE(bench_steps(b->c, &s, 0, 1, NULL));
    }
    TRY_DONE(bench_steps(b->c, &s, 1, WARM_STEPS, NULL));
    TRY_DONE(bench_steps(b->c, &s, WARM_STEPS, all, t->ms));
    t->step = latency_of(t->ms, b->steps);
    t->kernels = session_kernels(&s);
    t->device_bytes = s.b->remote ? s.b->most_taken : 0;
    t->samples_per_second = 1e3 * (double)b->batch / t->step.p50;
    t->done = true;
    if (b->c->o.profile && !again)
        st = profile(b, &s, all);
done:
    session_close(&s);
    config_free(j);
    return st;
}

/* Of the whole process. Linux counts in what the program that started this one used before it did. */
static double peak_bytes(void)
{
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) == 0 ? (double)u.ru_maxrss * 1024 : 0;
}

static status print_text(const bench_run *b)
{
    text t = {0};
    char buf[24];
    const timing *const all[] = {&b->computed, &b->remembered};
    text_printf(&t, "%s\n%s, %s parameters", b->device.s, b->student,
                human_count((double)b->student_parameters, buf));
    if (b->teacher_parameters)
        text_printf(&t, "; teacher %s", human_count((double)b->teacher_parameters, buf));
    text_printf(&t, "; batch %lld; %llu steps after %d\n\n", (long long)b->batch, (unsigned long long)b->steps,
                WARM_STEPS);
    text_printf(&t, "%-34s %9s %9s %9s %11s %14s\n", "ms per training step", "min", "p50", "p90", "samples/s",
                "first after s");
    for (int i = 0; i < 2; i++)
        if (all[i]->done)
            text_printf(&t, "%-34s %9.2f %9.2f %9.2f %11.0f %14.2f\n", all[i]->name, all[i]->step.min, all[i]->step.p50,
                        all[i]->step.p90, all[i]->samples_per_second, all[i]->first);
    if (b->teacher_parameters && !b->remembered.done)
        text_add(&t, "this job's teacher outputs cannot be remembered (mixup, cache.memory_limit)\n");
    text_printf(&t, "\npeak memory %s\n", human_bytes(peak_bytes(), buf));
    for (int i = 0; i < 2; i++)
        if (all[i]->done && all[i]->kernels)
            text_printf(&t, "%s: %zu kernels per step, %s of device memory\n", all[i]->name, all[i]->kernels,
                        human_bytes((double)all[i]->device_bytes, buf));
    if (b->profile.n)
        text_add_n(&t, b->profile.s, b->profile.n);
    return cli_print(&t);
}

static status print_json(const bench_run *b)
{
    text t = {0};
    json j = {.out = &t};
    const timing *const all[] = {&b->computed, &b->remembered};
    json_put_object(&j, NULL);
    json_put_int(&j, "schema", 1);
    json_put_string(&j, "device", b->device.s);
    json_put_int(&j, "threads", b->threads);
    json_put_string(&j, "student", b->student);
    json_put_int(&j, "student_parameters", b->student_parameters);
    json_put_int(&j, "teacher_parameters", b->teacher_parameters);
    json_put_int(&j, "batch", b->batch);
    json_put_int(&j, "steps", (int64_t)b->steps);
    for (int i = 0; i < 2; i++) {
        if (!all[i]->done)
            continue;
        json_put_object(&j, all[i]->key);
        json_put_number(&j, "min_ms", all[i]->step.min);
        json_put_number(&j, "p50_ms", all[i]->step.p50);
        json_put_number(&j, "p90_ms", all[i]->step.p90);
        json_put_number(&j, "samples_per_second", all[i]->samples_per_second);
        json_put_number(&j, "first_step_seconds", all[i]->first);
        if (all[i]->kernels) {
            json_put_int(&j, "kernels", (int64_t)all[i]->kernels);
            json_put_int(&j, "device_bytes", (int64_t)all[i]->device_bytes);
        }
        json_put_array(&j, "ms");
        for (uint64_t k = 0; k < b->steps; k++)
            json_put_number(&j, NULL, all[i]->ms[k]);
        json_end_array(&j);
        json_end_object(&j);
    }
    json_put_number(&j, "peak_bytes", peak_bytes());
    json_end_object(&j);
    text_add(&t, "\n");
    return cli_print(&t);
}

status cmd_bench(cli *c)
{
    bench_run b = {.c = c, .steps = c->o.steps ? (uint64_t)c->o.steps : TIMED_STEPS,
                   .computed = {.key = "computed", .name = "teacher computed in every step"},
                   .remembered = {.key = "remembered", .name = "teacher's outputs remembered"}};
    status st = ST_OK;
    if (!c->o.student)
        return fail(ST_USAGE, "which job? distill bench --teacher T.onnx --student cfg.ini [--steps N]");
    if (c->o.args.n)
        return fail(ST_USAGE, "what is '%s'? Options begin with --; see `distill help bench`", c->o.args.at[0]);
    if (c->o.steps < 0 || c->o.steps > STEPS_AT_MOST)
        return fail(ST_USAGE, "--steps %lld: it takes 1 to %d", (long long)c->o.steps, STEPS_AT_MOST);
    if (c->o.serve)
        return bench_serve(c);
    if (c->o.variant)
        return bench_rounding(c, b.steps);
    TRY_DONE(mem_alloc(&b.computed.ms, b.steps, sizeof *b.computed.ms));
    TRY_DONE(mem_alloc(&b.remembered.ms, b.steps, sizeof *b.remembered.ms));
    TRY_DONE(measure(&b, "fresh", &b.computed));
    if (b.teacher_parameters)
        TRY_DONE(measure(&b, "1", &b.remembered));
    else
        b.computed.name = "no teacher";
    st = c->o.json ? print_json(&b) : print_text(&b);
done:
    text_free(&b.device);
    text_free(&b.profile);
    mem_free(b.computed.ms);
    mem_free(b.remembered.ms);
    return st;
}
