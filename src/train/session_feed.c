/* session_feed.c - where the batches of a step come from: samples that stay on the device, or the loader's threads. What room they
 * leave there is for the teacher's remembered outputs (session_rows.c). */
#include "base/log.h"
#include "data/block.h"
#include "train/job_spec.h"
#include "train/session_ahead.h"

#include <stdio.h>

/* The largest part of the memory that is free when everything else has its place; the rest is for what the driver takes when
 * steps are recorded, and for other programs. */
#define NEAR_SHARE 0.5

bool session_is_chained(const session *s)
{
    return s->chain && !s->seen; /* not where somebody wants to see them one by one */
}

/* Says why batches are made on the host, which is an error where the device was asked for. */
static status stay_on_host(const session *s, const char *why)
{
    if (s->j->data.device == DATA_DEVICE_ON)
        return config_fault(config_origin(s->j, "data.device"), "on, but %s", why);
    log_info("the training samples stay on the host, which makes the batches: %s", why);
    return ST_OK;
}

static status open_samples(session *s, size_t available)
{
    const data_device_kind wanted = s->j->data.device;
    char why[200], a[24], b[24];
    const char *reason = dataset_keeps_host(s->ds, DATA_TRAIN);
    if (reason)
        return stay_on_host(s, reason);
    const size_t bytes = dataset_block_bytes(s->ds, DATA_TRAIN);
    if (wanted == DATA_DEVICE_AUTO && (double)bytes > NEAR_SHARE * (double)available) {
        snprintf(why, sizeof why, "they take %s, and half of the %s that the job leaves free on the device is for them",
                 human_bytes((double)bytes, a), human_bytes((double)available, b));
        return stay_on_host(s, why);
    }
    status st = resident_open(s->ds, DATA_TRAIN, s->together * s->j->train.batch, (uint64_t)s->j->train.seed, job_loader_options(s->j).threads,
                              s->b, &s->near);
    if (st == ST_OK || wanted == DATA_DEVICE_ON)
        return st;
    log_warn("the training samples (%s) stay on the host, which makes the batches: %s", human_bytes((double)bytes, a),
             status_message());
    status_clear();
    return s->b->remote->wait(s->b); /* where more is wrong than that */
}

status session_open_near(session *s)
{
    size_t available, all;
    if (!s->b->remote || s->j->data.device == DATA_DEVICE_OFF)
        return ST_OK;
    TRY(s->b->remote->memory(s->b, &available, &all));
    TRY(open_samples(s, available));
    session_weigh_rows(s, NEAR_SHARE * (double)available - (s->near ? (double)s->near->bytes : 0));
    return ST_OK;
}

/* Whether the host needs the samples themselves. */
static bool host_looks(const session *s, const batch *b)
{
    if (!session_is_chained(s))
        return true;
    if (s->chain_rows)
        return false;
    if (s->t.cache)
        return !cache_gives(s->t.cache, b->view, b->index, b->n);
    return (s->kd || s->n_hint) && !s->chain_teacher;
}

status session_make_batch(session *s, const batch *b, batch *out)
{
    *out = *b;
    if (!s->near)
        return ST_OK;
    if (s->group)
        return host_looks(s, b) ? group_make(s, out) : ST_OK;
    resident_put(s->near, s->ds, b, 0);
    if (!host_looks(s, b))
        return ST_OK;
    TRY(exec_run(s->near->e, PHASE_MAIN));
    for (size_t k = 0; k < s->near->n_x; k++)
        out->x[k] = exec_data(s->near->e, s->near->x[k]);
    return ST_OK;
}
