/* session_rows.c - remembered teacher outputs on the device: once all of them are known (session_cache.c), steps take them there by
 * the numbers of their samples. Until then the host looks them up, has the teacher compute what is missing, and sends them up; they
 * are the same bits. */
#include "base/log.h"
#include "data/block.h"
#include "train/job_spec.h"
#include "train/session.h"

static uint64_t places(const tap_records *r)
{
    return (uint64_t)r->views * r->samples;
}

void session_weigh_rows(session *s, double room)
{
    char a[24], b[24];
    s->rows_fit = false;
    if (!s->t.cache || !s->b->remote || s->j->data.device == DATA_DEVICE_OFF)
        return;
    const tap_records r = cache_records(s->t.cache);
    const double bytes = (double)places(&r) * (double)r.bytes;
    s->rows_fit = r.data && bytes <= room;
    if (r.data && !s->rows_fit)
        log_info("remembered teacher outputs stay on the host: they take %s, and for them the job leaves %s on the device",
                 human_bytes(bytes, a), human_bytes(room > 0 ? room : 0, b));
}

/* Whether nobody knows outputs that a step may ask for. */
static bool is_missing(const session *s, uint64_t place)
{
    const tap_records r = cache_records(s->t.cache);
    const uint32_t view = (uint32_t)(place / r.samples), sample = (uint32_t)(place % r.samples);
    return !cache_known(s->t.cache, view, sample) && !dataset_is_bad(s->ds, DATA_TRAIN, sample);
}

/* What is known stays so: each place is looked at once. */
static bool all_known(session *s)
{
    const tap_records r = cache_records(s->t.cache);
    if (cache_wants_trial(s->t.cache))
        return false;
    while (s->rows_known < places(&r) && !is_missing(s, s->rows_known))
        s->rows_known++;
    return s->rows_known == places(&r);
}

/* No more than the last batches of a round of views, which are left out where they are not full. */
static bool few_missing(const session *s)
{
    const tap_records r = cache_records(s->t.cache);
    const uint64_t few = (uint64_t)r.views * (uint64_t)s->j->train.batch;
    uint64_t n = 0;
    for (uint64_t at = s->rows_known; at < places(&r) && n <= few; at++)
        n += is_missing(s, at);
    return n <= few;
}

/* Computes what is missing. The places of the student's inputs hold outputs meanwhile: every step fills them anew. */
static status fill_missing(session *s)
{
    const tap_records r = cache_records(s->t.cache);
    const uint32_t batch_most = (uint32_t)s->j->train.batch;
    const void *x[DATA_INPUTS] = {0};
    uint32_t *index, *view;
    batch b = {0};
    TRY(arena_alloc(&s->mem, &index, batch_most, sizeof *index));
    TRY(arena_alloc(&s->mem, &view, batch_most, sizeof *view));
    b.index = index;
    b.view = view;
    for (size_t k = 0; k < s->near->n_x; k++)
        x[k] = exec_data(s->near->e, s->near->x[k]);
    for (uint64_t at = s->rows_known; at < places(&r); at++) {
        if (is_missing(s, at)) {
            index[b.n] = (uint32_t)(at % r.samples);
            view[b.n++] = (uint32_t)(at / r.samples);
        }
        if (b.n < batch_most && (at + 1 < places(&r) || b.n == 0))
            continue;
        resident_put(s->near, s->ds, &b, 0);
        TRY(exec_run(s->near->e, PHASE_MAIN));
        TRY(frozen_run_remembered(&s->t, s->t.cache, x, b.n, index, view, s->taps));
        b.n = 0;
    }
    return ST_OK;
}

/* The records go to the device, where that has room for them still. */
static status open_rows(session *s)
{
    const tap_records r = cache_records(s->t.cache);
    const double bytes = (double)places(&r) * (double)r.bytes;
    char a[24];
    status st = tap_table_open(s->t.cache, s->j->train.batch, s->b, &s->rows);
    if (st == ST_OK) {
        log_info("all teacher outputs are known: %s of them lie on the device from now on", human_bytes(bytes, a));
        return ST_OK;
    }
    log_warn("remembered teacher outputs (%s) stay on the host: %s", human_bytes(bytes, a), status_message());
    status_clear();
    s->rows_fit = false;
    return s->b->remote->wait(s->b); /* where more is wrong than that */
}

status session_take_rows(session *s)
{
    if (!s->rows_fit || s->chain_rows || !session_is_chained(s))
        return ST_OK;
    if (!s->rows && !all_known(s)) {
        if (!s->near || !s->begun || s->begun % s->steps_per_epoch || cache_wants_trial(s->t.cache) || !few_missing(s))
            return ST_OK;
        TRY(fill_missing(s));
        if (!all_known(s)) {
            log_info("remembered teacher outputs stay on the host: some are not finite, and are computed in every pass");
            s->rows_fit = false;
            return ST_OK;
        }
    }
    if (!s->rows)
        TRY(open_rows(s));
    if (!s->rows)
        return ST_OK;
    exec_chain_close(s->chain);
    s->chain = NULL;
    return session_open_chain(s);
}
