/* bench_rounding.c - `distill bench --variant KEY`: what training with rounding costs beside training in float.
 *
 * Two sessions of the job: one steps in float, from the other the variant goes on as `distill` would. Both have the same batches,
 * teacher and threads, and take turns of a few steps in one run, so that both see the same machine. Twice: with the teacher
 * computed in every step, and with its outputs remembered, where the student's share is all there is. */
#include "cli/bench.h"
#include "deploy/compare.h"
#include "train/session_qat.h"

#include <stdlib.h>
#include <string.h>

enum { TURN = 5 }; /* steps */

typedef struct side {
    const char *key;
    session *s;
    double *ms; /* [steps] */
    latency step;
} side;

typedef struct pair {
    const char *key; /* "computed", "remembered" */
    bool done;
    side side[2];                 /* float, with rounding */
    double ratio, least, largest; /* of the medians of turns; the first is the median of those */
} pair;

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void judge(pair *p, uint64_t steps, double *ratios)
{
    size_t turns = 0;
    for (uint64_t at = 0; at + TURN <= steps; at += TURN) {
        double of[2];
        for (int i = 0; i < 2; i++)
            of[i] = latency_of(p->side[i].ms + at, TURN).p50;
        ratios[turns++] = of[1] / of[0];
    }
    qsort(ratios, turns, sizeof *ratios, by_size);
    p->ratio = ratios[turns / 2];
    p->least = ratios[0];
    p->largest = ratios[turns - 1];
    for (int i = 0; i < 2; i++)
        p->side[i].step = latency_of(p->side[i].ms, steps);
}

static status take_turns(const cli *c, pair *p, uint64_t steps, bool again)
{
    for (int i = 0; i < 2; i++) { /* to warm up; the remembered outputs are those of a first pass */
        TRY(bench_steps(c, p->side[i].s, 0, steps + TURN, NULL));
        if (again)
            session_seek(p->side[i].s, 0);
        TRY(bench_steps(c, p->side[i].s, again ? 0 : steps + TURN, again ? TURN : steps + 2 * TURN, NULL));
    }
    uint64_t from = again ? TURN : steps + 2 * TURN;
    for (uint64_t at = 0; at < steps; at += TURN)
        for (int i = 0; i < 2; i++)
            TRY(bench_steps(c, p->side[i].s, from + at, from + at + TURN, p->side[i].ms + at));
    return ST_OK;
}

static status measure(cli *c, const char *views, uint64_t steps, double *ratios, pair *p)
{
    job *j = NULL;
    session plain = {0}, base = {0}, rounded = {0};
    bool again = strcmp(p->key, "remembered") == 0;
    status st = ST_OK;
    TRY(bench_load_job(c, views, &j));
    TRY_DONE(session_open(j, &plain));
    if (again && !plain.t.cache)
        goto done;
    TRY_DONE(session_open(j, &base));
    TRY_DONE(session_open_qat(&base, c->o.variant, &rounded));
    p->side[0] = (side){.key = "float", .s = &plain};
    p->side[1] = (side){.key = "rounded", .s = &rounded};
    for (int i = 0; i < 2; i++)
        TRY_DONE(mem_alloc(&p->side[i].ms, steps, sizeof *p->side[i].ms));
    TRY_DONE(take_turns(c, p, steps, again));
    judge(p, steps, ratios);
    p->done = true;
done:
    session_close_qat(&rounded);
    session_close(&base);
    session_close(&plain);
    config_free(j);
    return st;
}

static void print_text(const cli *c, const pair *p, size_t n, uint64_t steps, text *t)
{
    text_printf(t, "ms per training step, %llu steps each in turns of %d\n%-28s %9s %9s %9s %9s\n", (unsigned long long)steps, TURN, "",
                "float p50", "p90", "rounded", "p90");
    for (size_t i = 0; i < n; i++)
        if (p[i].done)
            text_printf(t, "teacher %-20s %9.2f %9.2f %9.2f %9.2f   %s is %.3f (%.3f to %.3f) of float\n", p[i].key, p[i].side[0].step.p50,
                        p[i].side[0].step.p90, p[i].side[1].step.p50, p[i].side[1].step.p90, c->o.variant, p[i].ratio, p[i].least,
                        p[i].largest);
}

static void print_json(const cli *c, const pair *p, size_t n, uint64_t steps, text *t)
{
    json j = {.out = t};
    json_put_object(&j, NULL);
    json_put_int(&j, "schema", 1);
    json_put_string(&j, "variant", c->o.variant);
    json_put_int(&j, "steps", (int64_t)steps);
    for (size_t i = 0; i < n; i++) {
        if (!p[i].done)
            continue;
        json_put_object(&j, p[i].key);
        for (int k = 0; k < 2; k++) {
            json_put_object(&j, p[i].side[k].key);
            json_put_number(&j, "p50_ms", p[i].side[k].step.p50);
            json_put_number(&j, "p90_ms", p[i].side[k].step.p90);
            json_end_object(&j);
        }
        json_put_number(&j, "ratio", p[i].ratio);
        json_put_number(&j, "ratio_least", p[i].least);
        json_put_number(&j, "ratio_largest", p[i].largest);
        json_end_object(&j);
    }
    json_end_object(&j);
    text_add(t, "\n");
}

status bench_rounding(cli *c, uint64_t steps)
{
    pair p[2] = {{.key = "computed"}, {.key = "remembered"}};
    double *ratios = NULL;
    text t = {0};
    status st = ST_OK;
    if (!qat_variant(c->o.variant))
        return fail(ST_USAGE, "--variant %s: bench takes one that trains: int8-qat, portable, portable-s8", c->o.variant);
    steps = (steps + TURN - 1) / TURN * TURN;
    TRY(mem_alloc(&ratios, steps / TURN, sizeof *ratios));
    TRY_DONE(measure(c, "fresh", steps, ratios, &p[0]));
    TRY_DONE(measure(c, "1", steps, ratios, &p[1]));
    (c->o.json ? print_json : print_text)(c, p, 2, steps, &t);
    st = cli_print(&t);
done:
    for (int i = 0; i < 4; i++)
        mem_free(p[i / 2].side[i % 2].ms);
    mem_free(ratios);
    return st;
}
