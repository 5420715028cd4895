/* bench_serve.c - `distill bench --serve`: a job opened once that makes steps when it is told to, so that a benchmark
 * can take turns with other programs without opening it again. */
#include "cli/bench.h"
#include "base/mem.h"
#include "train/job_spec.h"

#include <string.h>

#define STEPS_AT_MOST 100000

static status say_facts(const session *s, double first_seconds, double loss)
{
    text t = {0}, device = {0};
    json j = {.out = &t};
    s->b->describe(s->b, &device);
    json_put_object(&j, NULL);
    json_put_int(&j, "schema", 1);
    json_put_string(&j, "device", device.s);
    json_put_int(&j, "threads", s->b->threads);
    json_put_int(&j, "batch", s->j->train.batch * s->j->train.accumulate);
    json_put_int(&j, "student_parameters", s->student_stats.parameters);
    json_put_int(&j, "steps_per_pass", (int64_t)s->steps_per_epoch);
    json_put_bool(&j, "remembers", s->t.cache != NULL);
    json_put_number(&j, "first_step_seconds", first_seconds);
    json_put_number(&j, "loss", loss);
    json_end_object(&j);
    text_add(&t, "\n");
    status st = device.st;
    text_free(&device);
    if (st != ST_OK)
        text_free(&t);
    return st != ST_OK ? st : cli_print(&t);
}

static status say_times(const session *s, const double *ms, uint64_t n)
{
    text t = {0};
    json j = {.out = &t};
    json_put_object(&j, NULL);
    if (ms) {
        json_put_array(&j, "ms");
        for (uint64_t i = 0; i < n; i++)
            json_put_number(&j, NULL, ms[i]);
        json_end_array(&j);
        bench_say_device(s, &j);
    }
    json_end_object(&j);
    text_add(&t, "\n");
    return cli_print(&t);
}

static status obey(const cli *c, session *s)
{
    char line[64];
    double *ms;
    uint64_t at = 1;
    status st = ST_OK;
    TRY(mem_alloc(&ms, STEPS_AT_MOST, sizeof *ms));
    while (fgets(line, sizeof line, stdin)) {
        int64_t n;
        line[strcspn(line, "\n")] = 0;
        if (strcmp(line, "rewind") == 0) {
            session_seek(s, at = 0);
            TRY_DONE(say_times(s, NULL, 0));
            continue;
        }
        TRY_DONE(parse_int(line, "bench --serve: number of steps", &n));
        if (n < 1 || n > STEPS_AT_MOST) {
            st = fail(ST_USAGE, "bench --serve: %s steps: it takes 1 to %d", line, STEPS_AT_MOST);
            goto done;
        }
        TRY_DONE(bench_steps(c, s, at, at + (uint64_t)n, ms));
        at += (uint64_t)n;
        TRY_DONE(say_times(s, ms, (uint64_t)n));
    }
done:
    mem_free(ms);
    return st;
}

status bench_serve(cli *c)
{
    job *j = NULL;
    session s = {0};
    double hint[HINTS_MAX];
    step_result r = {.hint = hint};
    double began = clock_seconds();
    status st = ST_OK;
    TRY(cli_load_job(c, true, &j));
    j->cache.disk = false; /* nothing of another run may help */
    TRY_DONE(session_choose_batch(j, NULL));
    TRY_DONE(session_open(j, &s));
    TRY_DONE(session_step(&s, 0, &r));
    TRY_DONE(say_facts(&s, clock_seconds() - began, r.total));
    st = obey(c, &s);
done:
    session_close(&s);
    config_free(j);
    return st;
}
