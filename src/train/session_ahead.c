/* session_ahead.c - see session_ahead.h. */
#include "train/session_ahead.h"
#include "base/io.h"
#include "ops/attrs.h"
#include "ops/common.h"
#include "train/job_spec.h"
#include "train/session_qat.h"

#include <stdio.h>
#include <string.h>

#define TABLES (DATA_INPUTS + 1 + HINTS_MAX)

typedef struct table { /* what the steps of a group take rows of */
    value_id in, rows, out; /* of the graph of tables: [M * n], [M, n] (a view), [1, n] */
    value_id to;            /* of the training graph */
    int64_t n;              /* numbers of a batch */
    dtype type;
} table;

struct teacher_group {
    size_t m, rows;      /* batches of a group, samples of a batch */
    batch *b;            /* [m] the loader keeps them */
    uint64_t have, next; /* the group that is in b, UINT64_MAX: none; the next batch */
    size_t at;           /* the batch in hand: its place in the group */
    bool made, on_host, on_device; /* for this group: what is near, on the host; the teacher's outputs there; tables */
    graph *g; /* of tables; NULL: the backend has no memory of its own */
    exec *e;
    value_id turn;
    table t[TABLES];
    size_t n;
    exec_link link[2 * DATA_INPUTS + TABLES]; /* of `fill` */
    size_t n_link;
    exec_chain *fill;
    size_t room; /* runs of it that may be under way; 0: each is waited for */
};

/* ---- how many ---- */

static bool asks_teacher(const session *s)
{
    return s->teacher_file && (s->kd || s->n_hint);
}

static bool remembers(const session *s)
{
    return s->j->cache.views && !s->tg.lambda;
}

/* Where times mean something, and are allowed to decide. */
static bool is_measured(const session *s)
{
    const job *j = s->j;
    return j->teacher.ahead == 0 && s->b->remote && !s->b->untimed && !j->exec.deterministic && !j->teacher.batch && !remembers(s);
}

status group_choose(session *s)
{
    const job *j = s->j;
    s->together = 1;
    if (!asks_teacher(s))
        return ST_OK;
    if (is_measured(s))
        return group_measure(s);
    if (j->teacher.ahead <= 1)
        return ST_OK;
    if (j->teacher.batch)
        return config_fault(config_origin(j, "teacher.ahead"), "ahead: the teacher runs %lld batches at a time, and teacher.batch asks "
                            "for %lld samples; leave one of them out", (long long)j->teacher.ahead, (long long)j->teacher.batch);
    if (remembers(s))
        return config_fault(config_origin(j, "teacher.ahead"), "ahead: outputs that are remembered (cache.views) are computed where "
                            "they are missing; leave one of them out");
    s->together = j->teacher.ahead;
    return ST_OK;
}

status group_recall(job *j, const char *before)
{
    job *was;
    if (j->teacher.ahead || !before || !io_exists(before))
        return ST_OK;
    TRY(config_load(&(config_sources){.file = before}, &was));
    j->teacher.ahead = was->teacher.ahead ? was->teacher.ahead : 1; /* where it was 1, or there was no such key */
    config_free(was);
    return ST_OK;
}

void group_keep(const session *s, job *j)
{
    if (j->teacher.ahead == 0 && s->together > 1)
        j->teacher.ahead = s->together;
}

/* ---- opening ---- */

static void add_table(struct teacher_group *t, value_id to, int64_t n, dtype type)
{
    t->t[t->n++] = (table){.to = to, .n = n, .type = type};
}

/* Table i is filled from value `from` of a part of `fill`. */
static void fill_from(struct teacher_group *t, size_t part, value_id from)
{
    t->link[t->n_link++] = (exec_link){.from = part, .out = from};
}

/* The teacher's input that takes the same samples; NULL: none does. */
static const struct feed_port *same_input(const session *s, const struct feed_port *mine)
{
    for (size_t k = 0; k < s->t.in.n; k++) {
        const struct feed_port *p = &s->t.in.port[k];
        if (mine->from == p->from && mine->bytes == p->bytes && mine->type == p->type)
            return p;
    }
    return NULL;
}

/* The student's samples, where the device has all of them: of what is near, or as the teacher got them. */
static void list_samples(session *s)
{
    struct teacher_group *t = s->group;
    s->chain_x = true;
    for (size_t i = 0; i < s->x.n && !s->near; i++)
        s->chain_x = s->chain_x && same_input(s, &s->x.port[i]);
    for (size_t i = 0; i < s->x.n && s->chain_x; i++) {
        const struct feed_port *p = &s->x.port[i];
        fill_from(t, 0, s->near ? s->near->x[p->from] : same_input(s, p)->to);
        add_table(t, p->to, (int64_t)(t->rows * p->bytes / dtype_of(p->type)->size), p->type);
    }
}

static void list_taps(session *s, size_t teacher)
{
    struct teacher_group *t = s->group;
    for (size_t i = 0; i <= s->n_hint; i++) {
        const size_t k = i == 0 ? 0 : s->qat ? s->qat->tap[i - 1] : i;
        const value_id to = i == 0 ? s->tg.teacher_logits : s->tg.tap[i - 1];
        if (!to)
            continue;
        fill_from(t, teacher, s->t.g->output[k]);
        add_table(t, to, (int64_t)(t->rows * s->t.width[k]), DTYPE_F32);
    }
}

/* Tables are inputs that the main phase only looks at, so that nobody brings them; the update phase takes rows of them. */
static status build_tables(struct teacher_group *t)
{
    const gather_attrs by_turn = {.axis = 0};
    char name[32];
    TRY(graph_new(&t->g));
    TRY(graph_add_input(t->g, "turn", DTYPE_I64, SHAPE(1), &t->turn));
    for (size_t i = 0; i < t->n; i++) {
        table *x = &t->t[i];
        snprintf(name, sizeof name, "table.%zu", i);
        TRY(graph_add_input(t->g, name, x->type, SHAPE((int64_t)t->m * x->n), &x->in));
        TRY(op_add_reshape(t->g, x->in, SHAPE((int64_t)t->m, x->n), &x->rows));
    }
    t->g->when = PHASE_UPDATE;
    for (size_t i = 0; i < t->n; i++) {
        table *x = &t->t[i];
        TRY(graph_add1(t->g, OP_GATHER, &by_turn, x->rows, t->turn, 0, &x->out));
        TRY(graph_add_output(t->g, x->out));
    }
    return graph_validate(t->g);
}

static status open_tables(session *s)
{
    struct teacher_group *t = s->group;
    const size_t teacher = s->near ? 1 : 0;
    exec_part part[3];
    list_samples(s);
    list_taps(s, teacher);
    TRY(build_tables(t));
    TRY(exec_open(t->g, s->b, NULL, job_memory_limit(s->j), &t->e));
    for (size_t i = 0; i < t->n; i++) {
        t->link[i].to = teacher + 1;
        t->link[i].in = t->t[i].in;
    }
    for (size_t i = 0; i < s->t.in.n && s->near; i++)
        t->link[t->n_link++] = (exec_link){0, teacher, s->near->x[s->t.in.port[i].from], s->t.in.port[i].to};
    if (s->near)
        part[0] = (exec_part){s->near->e, PHASE_MAIN, 0, false};
    part[teacher] = (exec_part){s->t.e, PHASE_MAIN, 0, false};
    part[teacher + 1] = (exec_part){t->e, PHASE_MAIN, 0, false};
    return exec_chain_open(part, teacher + 2, t->link, t->n_link, &t->fill);
}

status group_open(session *s)
{
    s->group = NULL;
    if (s->together <= 1)
        return ST_OK;
    TRY(arena_alloc(&s->mem, &s->group, 1, sizeof *s->group));
    struct teacher_group *t = s->group;
    *t = (struct teacher_group){.m = (size_t)s->together, .rows = (size_t)s->j->train.batch, .have = UINT64_MAX};
    TRY(arena_alloc(&s->mem, &t->b, t->m, sizeof *t->b));
    return s->b->remote ? open_tables(s) : ST_OK;
}

void group_close(session *s)
{
    struct teacher_group *t = s->group;
    if (!t)
        return;
    exec_chain_close(t->fill);
    exec_close(t->e);
    graph_free(t->g);
    s->group = NULL;
}

size_t group_bytes(const session *s)
{
    const struct teacher_group *t = s->group;
    size_t sum = 0;
    for (size_t i = 0; t && i < t->n; i++)
        sum += (t->m + 1) * (size_t)t->t[i].n * dtype_of(t->t[i].type)->size;
    return sum;
}

exec_part group_part(const session *s, size_t part, exec_link *link, size_t *n)
{
    const struct teacher_group *t = s->group;
    for (size_t i = 0; i < t->n; i++)
        link[(*n)++] = (exec_link){0, part, t->t[i].out, t->t[i].to};
    return (exec_part){t->e, PHASE_UPDATE, 0, false};
}

status group_open_ring(session *s)
{
    struct teacher_group *t = s->group;
    t->room = (size_t)(s->ahead / t->m) + 2;
    return exec_chain_open_ring(t->fill, t->room);
}

size_t group_kernels(const session *s)
{
    return s->group && s->group->fill ? exec_chain_kernels(s->group->fill) : 0;
}

/* ---- running ---- */

void group_forget(session *s)
{
    if (s->group)
        s->group->made = s->group->on_host = false;
}

void group_seek(session *s, uint64_t k)
{
    struct teacher_group *t = s->group;
    loader_seek(s->in, k - k % t->m);
    t->have = UINT64_MAX;
    t->next = k;
}

status group_read(session *s)
{
    struct teacher_group *t = s->group;
    const batch *b;
    if (t->have == t->next / t->m)
        return ST_OK;
    group_forget(s);
    t->on_device = false;
    t->have = UINT64_MAX;
    for (size_t i = 0; i < t->m; i++) {
        TRY(loader_next(s->in, &b));
        t->b[i] = *b;
    }
    t->have = t->next / t->m;
    return ST_OK;
}

/* What the teacher or the graph that makes its batches takes from the host. */
static void put_group(session *s, bool near)
{
    const struct teacher_group *t = s->group;
    for (size_t i = 0; i < t->m; i++) {
        if (near)
            resident_put(s->near, s->ds, &t->b[i], i * t->rows);
        else
            feed_put(&s->t.in, s->t.e, i * t->rows, t->b[i].x, 0, t->rows);
    }
}

status group_launch(session *s)
{
    struct teacher_group *t = s->group;
    if (t->on_device || !session_is_chained(s))
        return ST_OK;
    for (; t->room && exec_chain_under_way(t->fill) == t->room; exec_chain_release(t->fill))
        TRY(exec_chain_finish(t->fill));
    if (t->room)
        TRY(exec_chain_begin(t->fill));
    put_group(s, s->near != NULL);
    TRY(t->room ? exec_chain_launch(t->fill) : exec_chain_run(t->fill));
    group_forget(s);
    s->t.runs += t->m * t->rows;
    t->on_device = true;
    return ST_OK;
}

status group_next(session *s, const batch **out)
{
    struct teacher_group *t = s->group;
    TRY(group_read(s));
    t->at = (size_t)(t->next++ % t->m);
    *out = &t->b[t->at];
    return ST_OK;
}

/* Samples of the whole group, which is near. */
static void near_samples(const session *s, const void **x)
{
    for (size_t k = 0; k < s->near->n_x; k++)
        x[k] = exec_data(s->near->e, s->near->x[k]);
}

status group_make(session *s, batch *out)
{
    struct teacher_group *t = s->group;
    if (!t->made) {
        put_group(s, true);
        TRY(exec_run(s->near->e, PHASE_MAIN));
        t->made = true;
    }
    near_samples(s, out->x);
    for (size_t k = 0; k < s->near->n_x; k++) {
        const value *v = graph_value(s->near->g, s->near->x[k]);
        out->x[k] = (const char *)out->x[k] + t->at * (size_t)shape_count(&v->sh) / t->m * dtype_of(v->type)->size;
    }
    return ST_OK;
}

static status run_teacher(session *s)
{
    struct teacher_group *t = s->group;
    const void *x[DATA_INPUTS];
    if (s->near) {
        near_samples(s, x); /* group_make was before */
        feed_put(&s->t.in, s->t.e, 0, x, 0, t->m * t->rows);
    } else {
        put_group(s, false);
    }
    TRY(exec_run(s->t.e, PHASE_MAIN));
    s->t.runs += t->m * t->rows;
    t->on_host = true;
    return ST_OK;
}

status group_ask(session *s)
{
    struct teacher_group *t = s->group;
    if (!t->on_host)
        TRY(run_teacher(s));
    for (size_t k = 0; k < s->t.n_out; k++) {
        const size_t n = t->rows * s->t.width[k];
        if (s->taps[k])
            memcpy(s->taps[k], (const float *)exec_data(s->t.e, s->t.g->output[k]) + t->at * n, n * sizeof(float));
    }
    return ST_OK;
}

void group_put_turn(session *s)
{
    const struct teacher_group *t = s->group;
    *(int64_t *)exec_data(t->e, t->turn) = (int64_t)t->at;
}
