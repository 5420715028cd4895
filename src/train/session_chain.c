/* session_chain.c - a step on a device with memory of its own.
 *
 * Samples that are near (session_feed.c), teacher, main and update phase follow each other without the host where they can: the
 * teacher runs the training batch, its outputs and the samples are handed on by copies on the device, and what the host reads
 * afterwards are a few numbers. Teacher and student forward are parallel branches of what is recorded (exec.branches). With
 * accumulation the update is launched by itself; with remembered teacher outputs the teacher is asked as ever until these lie on
 * the device too (session_rows.c). Where it runs several batches at once (session_ahead.h) that is a launch of its own before. */
#include "train/job_spec.h"
#include "train/session_ahead.h"
#include "train/session_qat.h"

#define NUMBERS 1024 /* bytes of an output that the host looks at in every step: losses, norms, counts */

/* The samples from part 0, which makes them, to part `to`. */
static void link_samples(const session *s, const feed *f, size_t to, exec_link *link, size_t *n)
{
    for (size_t i = 0; i < f->n; i++)
        link[(*n)++] = (exec_link){0, to, s->near->x[f->port[i].from], f->port[i].to};
}

/* Inputs of the student that the teacher takes too come from there. Returns whether all do. */
static bool link_inputs(const session *s, exec_link *link, size_t *n)
{
    size_t before = *n;
    for (size_t i = 0; i < s->x.n; i++)
        for (size_t k = 0; k < s->t.in.n; k++) {
            const struct feed_port *mine = &s->x.port[i], *theirs = &s->t.in.port[k];
            if (mine->from != theirs->from || mine->bytes != theirs->bytes || mine->type != theirs->type)
                continue;
            link[(*n)++] = (exec_link){0, 1, theirs->to, mine->to};
            break;
        }
    bool all = *n - before == s->x.n;
    *n = all ? *n : before;
    return all;
}

/* The teacher's outputs of part `from`, where output k of the teacher is `out[k]`, to part `to`. */
static void link_taps(const session *s, const value_id *out, size_t from, size_t to, exec_link *link, size_t *n)
{
    if (s->tg.teacher_logits)
        link[(*n)++] = (exec_link){from, to, out[0], s->tg.teacher_logits};
    for (size_t i = 0; i < s->n_hint; i++)
        link[(*n)++] = (exec_link){from, to, out[s->qat ? s->qat->tap[i] : i + 1], s->tg.tap[i]};
}

/* Where a step asks nothing of the host, steps may be under way before the last one's numbers are read. */
static status open_ahead(session *s)
{
    const uint64_t n = (uint64_t)s->j->train.metrics_every;
    s->ahead = s->begun = s->ended = 0;
    if (!s->chain || n < 2 || !s->chain_update || ((s->kd || s->n_hint || s->t.cache) && !s->chain_teacher && !s->chain_rows))
        return ST_OK;
    TRY(arena_alloc(&s->mem, &s->waited, n, sizeof *s->waited));
    TRY(exec_chain_open_ring(s->chain, n));
    s->ahead = n;
    return ST_OK;
}

/* Where the teacher is ahead: rows of what it left, then the student. */
static status open_after_group(session *s)
{
    exec_link link[1 + HINTS_MAX + DATA_INPUTS];
    exec_part part[3];
    size_t n = 0, n_link = 0;
    s->chain_teacher = s->b->remote != NULL;
    if (!s->chain_teacher)
        return ST_OK;
    part[n++] = group_part(s, 1, link, &n_link);
    part[n++] = (exec_part){s->train, PHASE_MAIN, NUMBERS, false};
    if (s->chain_update)
        part[n++] = (exec_part){s->train, PHASE_UPDATE, NUMBERS, false};
    TRY(exec_chain_open(part, n, link, n_link, &s->chain));
    TRY(open_ahead(s));
    return s->ahead ? group_open_ring(s) : ST_OK;
}

status session_open_chain(session *s)
{
    exec_link link[1 + HINTS_MAX + 2 * DATA_INPUTS];
    exec_part part[4];
    size_t n = 0, n_link = 0;
    s->chain_rows = s->rows && s->rows->batch == s->j->train.batch;
    s->chain_update = s->j->train.accumulate == 1;
    if (s->group)
        return open_after_group(s);
    s->chain_teacher = s->t.e && (s->kd || s->n_hint) && !s->t.cache && s->t.batch == s->j->train.batch;
    s->chain_x = false;
    if (s->near)
        part[n++] = (exec_part){s->near->e, PHASE_MAIN, 0, false};
    if (s->chain_teacher) {
        if (s->near)
            link_samples(s, &s->t.in, n, link, &n_link);
        part[n++] = (exec_part){s->t.e, PHASE_MAIN, 0, s->j->exec.branches};
        link_taps(s, s->t.g->output, n - 1, n, link, &n_link);
        s->chain_x = !s->near && link_inputs(s, link, &n_link);
    }
    if (s->chain_rows) {
        link_taps(s, s->rows->out, n, n + 1, link, &n_link);
        part[n++] = (exec_part){s->rows->e, PHASE_MAIN, 0, false};
    }
    if (s->near) {
        link_samples(s, &s->x, n, link, &n_link);
        s->chain_x = true;
    }
    part[n++] = (exec_part){s->train, PHASE_MAIN, NUMBERS, false};
    if (s->chain_update)
        part[n++] = (exec_part){s->train, PHASE_UPDATE, NUMBERS, false};
    TRY(exec_chain_open(part, n, link, n_link, &s->chain));
    return open_ahead(s);
}

size_t session_kernels(const session *s)
{
    bool asked = s->t.e && (s->kd || s->n_hint) && !s->t.cache && !s->chain_teacher;
    int64_t runs = asked ? (s->j->train.batch + s->t.batch - 1) / s->t.batch : 0;
    size_t teacher = asked ? (size_t)runs * exec_kernels(s->t.e, PHASE_MAIN) : 0;
    size_t main = s->chain ? exec_chain_kernels(s->chain) : exec_kernels(s->train, PHASE_MAIN);
    size_t update = s->chain && s->chain_update ? 0 : exec_kernels(s->train, PHASE_UPDATE);
    if (s->group) /* what a pass over several batches launches is shared by their steps */
        teacher = (group_kernels(s) + (size_t)s->together - 1) / (size_t)s->together;
    return (size_t)s->j->train.accumulate * (teacher + main) + update;
}

void session_put_teacher(session *s, const batch *b)
{
    if (s->group)
        return;
    if (s->chain_rows) {
        tap_table_put(s->rows, b->view, b->index);
        cache_count_hits(s->t.cache, b->n);
    }
    if (s->chain_teacher && !s->near) {
        feed_put(&s->t.in, s->t.e, 0, b->x, 0, b->n);
        feed_clear(&s->t.in, s->t.e, b->n, (size_t)s->t.batch - b->n);
    }
    s->t.runs += s->chain_teacher ? b->n : 0;
}

status session_run_chain(session *s, const batch *b)
{
    if (s->group)
        TRY(group_launch(s));
    session_put_teacher(s, b);
    return exec_chain_run(s->chain);
}
