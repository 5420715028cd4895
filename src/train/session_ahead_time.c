/* session_ahead_time.c - over how many batches the teacher's passes are shortest, a sample (teacher.ahead = auto on a device). */
#include "base/clock.h"
#include "base/log.h"
#include "ops/attrs.h"
#include "train/session_ahead.h"

#include <stdio.h>

enum { MOST = 8, RUNS = 8, WARM = 3, ROUNDS = 12 };
#define LONG_ENOUGH 0.3   /* seconds of rounds */
#define GAIN        0.03  /* less than this share of a pass is not worth the memory */
#define STEP_COST   5e-6  /* seconds, an estimate: a step takes its rows out of tables */
#define ROOM_SHARE  0.25  /* of what is free; the samples, which may go there too, want half */

/* Samples of zeros that are made where the teacher runs: times are its own, not those of copies from the host. */
typedef struct zeros {
    graph *g;
    exec *e;
    exec_chain *c;
    exec_link link[DATA_INPUTS];
} zeros;

static status build_zeros(zeros *z, const frozen_net *t)
{
    char name[32];
    TRY(graph_new(&z->g));
    for (size_t i = 0; i < t->in.n; i++) {
        const value *v = graph_value(t->g, t->in.port[i].to);
        const shape_attrs all = {.shape = {v->sh.rank, v->sh.dim}};
        value_id x, y;
        snprintf(name, sizeof name, "zero.%zu", i);
        TRY(graph_add_input(z->g, name, v->type, SHAPE(1), &x));
        TRY(graph_add1(z->g, OP_EXPAND, &all, x, 0, 0, &y));
        TRY(graph_add_output(z->g, y));
        z->link[i] = (exec_link){0, 1, y, t->in.port[i].to};
    }
    return graph_validate(z->g);
}

static void close_zeros(zeros *z)
{
    exec_chain_close(z->c);
    exec_close(z->e);
    graph_free(z->g);
}

static status run_some(exec_chain *c, int n)
{
    for (int i = 0; i < n; i++) {
        TRY(exec_chain_begin(c));
        TRY(exec_chain_launch(c));
    }
    for (; exec_chain_under_way(c) > 0; exec_chain_release(c))
        TRY(exec_chain_finish(c));
    return ST_OK;
}

/* Seconds of a pass among others. */
static status time_runs(exec_chain *c, double *best)
{
    double begin = clock_seconds();
    *best = 0;
    for (int i = 0; i < ROUNDS && clock_seconds() - begin < LONG_ENOUGH; i++) {
        double at = clock_seconds();
        TRY(run_some(c, RUNS));
        at = (clock_seconds() - at) / RUNS;
        *best = i == 0 || at < *best ? at : *best;
    }
    return ST_OK;
}

static status time_teacher(session *s, double *seconds)
{
    zeros z = {0};
    status st = ST_OK;
    TRY_DONE(build_zeros(&z, &s->t));
    TRY_DONE(exec_open(z.g, s->b, NULL, 0, &z.e));
    const exec_part part[] = {{z.e, PHASE_MAIN, 0, false}, {s->t.e, PHASE_MAIN, 0, false}};
    TRY_DONE(exec_chain_open(part, 2, z.link, s->t.in.n, &z.c));
    TRY_DONE(exec_chain_open_ring(z.c, RUNS));
    TRY_DONE(run_some(z.c, WARM)); /* the first goes kernel by kernel, the second is recorded */
    st = time_runs(z.c, seconds);
done:
    close_zeros(&z);
    return st;
}

/* Seconds a sample of passes over m batches; *fits: they do not take more memory than they should. */
static status try_teacher(session *s, int64_t m, double *seconds, bool *fits)
{
    const int64_t rows = m * s->j->train.batch;
    const size_t taken = s->b->taken;
    size_t available, all;
    TRY(s->b->remote->memory(s->b, &available, &all));
    log_hush(true); /* what is told of the teacher is told when it is opened for good */
    status st = session_open_frozen_teacher(s, rows);
    log_hush(false);
    *fits = st == ST_OK && (m == 1 || (double)(s->b->taken - taken) <= ROOM_SHARE * (double)available);
    if (*fits) {
        st = time_teacher(s, seconds);
        *seconds /= (double)rows;
    }
    frozen_close(&s->t);
    if (m > 1 && st == ST_OOM) {
        *fits = false;
        status_clear();
        return s->b->remote->wait(s->b); /* where more is wrong than that */
    }
    return st;
}

status group_measure(session *s)
{
    double one, best, now;
    bool fits;
    s->together = 1;
    TRY(try_teacher(s, 1, &one, &fits));
    best = one;
    for (int64_t m = 2; m <= MOST; m *= 2) {
        TRY(try_teacher(s, m, &now, &fits));
        if (!fits || now > (1 - GAIN) * best || (one - now) * (double)s->j->train.batch < STEP_COST)
            break;
        best = now;
        s->together = m;
    }
    log_info("teacher: %lld batch%s at once (teacher.ahead = auto): %.3g us a sample, %.3g by single batches", (long long)s->together,
             s->together > 1 ? "es" : "", 1e6 * best, 1e6 * one);
    return ST_OK;
}
