/* auto_batch.c - a batch that fills a share of the memory: what two small batches take says what a larger one will. */
#include "base/io.h"
#include "base/log.h"
#include "train/job_spec.h"
#include "train/session.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SHARE  0.8 /* of "auto" */
#define FEW    8
#define MORE   24
#define ROUNDS 3

typedef struct need {
    double used, room; /* bytes */
    double samples;    /* that there are to train on */
    bool fits;
    char where[160];
} need;

/* On the CPU: what a limit or the kernel leaves to us. */
static double host_room(const job *j)
{
    char info[4096] = "";
    unsigned long long kib = 0;
    if (j->exec.memory_limit)
        return (double)job_memory_limit(j);
    io_read_system("/proc/meminfo", info, sizeof info);
    const char *at = strstr(info, "MemAvailable:");
    return at && sscanf(at, "MemAvailable: %llu", &kib) == 1 ? (double)kib * 1024 : 0;
}

static status look(const session *s, need *n)
{
    size_t available, all;
    text device = {0};
    n->samples = (double)s->info->part[DATA_TRAIN].n;
    n->fits = true;
    s->b->describe(s->b, &device);
    snprintf(n->where, sizeof n->where, "%s", device.s ? device.s : s->b->name);
    text_free(&device);
    if (s->b->remote) {
        TRY(s->b->remote->memory(s->b, &available, &all));
        n->used = (double)s->b->taken;
        n->room = (double)(available + s->b->taken);
        return ST_OK;
    }
    const session_memory m = session_measure_memory(s);
    n->used = (double)(m.batches + m.parameters + m.optimizer + m.activations + m.workspace + m.teacher + m.evaluation);
    n->room = host_room(s->j);
    return ST_OK;
}

/* What the job takes with a batch; that it does not fit is no failure here. */
static status measure(const job *j, int64_t size, need *n)
{
    job with = *j;
    session s;
    with.train.batch = size;
    with.teacher.ahead = with.teacher.ahead ? with.teacher.ahead : 1; /* it is measured when there is a batch */
    with.cache.disk = false;
    with.exec.cudnn_plans = EXEC_CUDNN_PLANS_HEURISTIC; /* measuring engines takes up to a minute, for every batch that is tried */
    with.exec.memory_limit = 0; /* nothing is computed twice while it is measured */
    if (with.data.device == DATA_DEVICE_AUTO) /* samples take what plans leave */
        with.data.device = DATA_DEVICE_OFF;
    n->fits = false;
    log_hush(true); /* what is told of the job is told when it is opened for good */
    status st = session_open(&with, &s);
    log_hush(false);
    if (st == ST_OOM && n->room > 0) /* an earlier one fitted */
        return ST_OK;
    TRY(st);
    s.j = j;
    st = look(&s, n);
    session_close(&s);
    return st;
}

static status from_before(const char *path, job *j)
{
    job *was;
    TRY(config_load(&(config_sources){.file = path}, &was));
    j->train.batch = was->train.batch;
    config_free(was);
    return j->train.batch > 0 ? ST_OK : fail(ST_CONFIG, "%s: train.batch is no number", path);
}

static int64_t even(double size)
{
    int64_t b = (int64_t)fmin(size, 1048576), step = b >= 64 ? 32 : b >= 16 ? 8 : 1;
    return b / step * step;
}

status session_choose_batch(job *j, const char *before)
{
    need few = {0}, more = {0};
    char used[24], room[24];
    if (j->train.batch > 0)
        return ST_OK;
    if (before && io_exists(before))
        return from_before(before, j);
    double share = j->train.batch < 0 ? (double)-j->train.batch / 1000 : SHARE;
    TRY(measure(j, FEW, &few));
    more = few;
    TRY(measure(j, MORE, &more));
    double each = (more.used - few.used) / (MORE - FEW), base = few.used - FEW * each, want = share * few.room;
    double most = few.samples / (double)j->train.accumulate, size = FEW;
    if (more.fits && each > 0)
        size = fmin((want - base) / each, most);
    for (int i = 0; i < ROUNDS && even(size) >= 1; i++) { /* what grows otherwise than samples shows here */
        need at = few;
        TRY(measure(j, even(size), &at));
        if (at.fits && at.used <= want) {
            j->train.batch = even(size);
            log_info("batch = %lld: plans of %s, %.0f %% of %s that are free on %s", (long long)j->train.batch,
                     human_bytes(at.used, used), 100 * at.used / few.room, human_bytes(few.room, room), few.where);
            return ST_OK;
        }
        size = at.fits ? 0.95 * size * (want - base) / (at.used - base) : size / 2;
    }
    return fail(ST_OOM, "train.batch: a batch of %d takes %s, more than %.0f %% of the %s that are free on %s", FEW,
                human_bytes(few.used, used), 100 * share, human_bytes(few.room, room), few.where);
}
