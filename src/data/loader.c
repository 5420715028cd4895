/* loader.c - the ring of batches and the threads that fill it.
 *
 * Batch k lives in slot k mod depth. Threads claim batches in order: under the lock a thread takes the next k
 * whose slot is free and writes down its samples (order.h), then fills the slot without the lock. The reader
 * takes slots in order and gives the previous one back with its next call; a batch that nobody has begun when it is asked
 * for is made by the reader itself. After an error the slot carries status and message to the reader. */
#include "data/loader.h"

#include "base/clock.h"
#include "base/mem.h"
#include "data/order.h"
#include "data/sample.h"

#include <signal.h>
#include <string.h>

#define AHEAD_MOST  16
#define AHEAD_BYTES ((size_t)4 << 20)

typedef enum slot_state { SLOT_FREE, SLOT_FILLING, SLOT_READY } slot_state;

typedef struct slot {
    slot_state state;
    batch b;
    void *x[DATA_INPUTS];
    int64_t *label, *label2;
    float *target, *weight, *lambda;
    uint32_t *index, *view, *other;
    uint64_t *pass; /* [n], from the order */
    status st;
    char message[512];
} slot;

struct loader {
    dataset *ds;
    loader_options o;
    order order;
    size_t x_row[DATA_INPUTS]; /* bytes of one sample of an input */
    size_t bytes;
    slot *slots;
    uint32_t depth;
    uint64_t next_claim, next_read; /* batch numbers */
    uint32_t held;                  /* the reader holds the slots of so many batches before next_read */
    bool stop, no_more;             /* no_more: the claim came past the last batch */
    uint32_t filling;
    pthread_mutex_t lock;
    pthread_cond_t free_slot, ready_slot;
    pthread_t *thread;
    uint32_t threads; /* started */
    sampler *sampler; /* [o.threads + 1], the last for loader_next */
    uint32_t samplers;
    bool sync_made;
};

loader_options loader_train_options(uint32_t n, uint64_t seed)
{
    return (loader_options){.part = DATA_TRAIN,
                            .batch = n,
                            .endless = true,
                            .shuffle = true,
                            .augment = true,
                            .seed = seed,
                            .threads = 1};
}

loader_options loader_eval_options(data_part part, uint32_t n)
{
    return (loader_options){.part = part, .batch = n, .threads = 1};
}

/* ---- filling ---- */

static const float *target_of(const loader *l, uint32_t i)
{
    const data_rows *part = &l->ds->part[l->o.part];
    return (const float *)part->src->target.data + (size_t)part->id[i] * (size_t)l->ds->info.target_size;
}

static void put_facts(const loader *l, slot *s, uint32_t j, uint32_t i)
{
    const data_rows *part = &l->ds->part[l->o.part];
    size_t T = (size_t)l->ds->info.target_size;
    s->index[j] = i;
    s->label[j] = dataset_label(l->ds, l->o.part, i);
    s->weight[j] = part->src->weight ? part->src->weight[part->id[i]] : 1.0f;
    if (!T)
        return;
    if (s->label[j] >= 0)
        memcpy(s->target + j * T, target_of(l, i), T * sizeof(float));
    else
        memset(s->target + j * T, 0, T * sizeof(float));
}

/* Mixup of sample j: partner and share are functions of (seed, view, sample). Float targets mix too; a pair
 * with only one target counts as unlabelled. */
static status mix(const loader *l, slot *s, sampler *sm, uint32_t j, uint32_t i, const sample_change *change)
{
    const dataset *ds = l->ds;
    data_part p = l->o.part;
    rng r = rng_make(change->seed, RNG_MIXUP, change->view, dataset_source_index(ds, p, i));
    uint32_t other = rng_below(&r, ds->part[p].n);
    float share = (float)rng_beta(&r, ds->o.augment.mixup), *x = s->x[0];
    TRY(l->o.places ? sample_find_good(ds, p, &other) : sample_make_good(sm, p, &other, change, (void *[]){sm->other}));
    size_t n = l->x_row[0] / sizeof(float), T = (size_t)ds->info.target_size;
    if (!l->o.places)
        picture_mix(x + j * n, sm->other, share, (int64_t)n);
    s->other[j] = other;
    s->lambda[j] = share;
    s->label2[j] = dataset_label(ds, p, other);
    if (T && s->label[j] >= 0 && s->label2[j] >= 0) {
        const float *t = target_of(l, other);
        for (size_t k = 0; k < T; k++)
            s->target[j * T + k] = share * s->target[j * T + k] + (1 - share) * t[k];
    } else if (T) {
        memset(s->target + j * T, 0, T * sizeof(float));
        s->label[j] = s->label2[j] = -1;
    }
    return ST_OK;
}

static status fill(const loader *l, slot *s, sampler *sm)
{
    const loader_options *o = &l->o;
    for (uint32_t j = 0; j < s->b.n; j++) {
        uint32_t i = s->index[j];
        sample_change change = {o->seed, o->views ? s->pass[j] % o->views : s->pass[j]};
        void *to[DATA_INPUTS] = {0};
        for (uint32_t k = 0; k < l->ds->info.n_inputs && !o->places; k++)
            to[k] = (unsigned char *)s->x[k] + j * l->x_row[k];
        s->view[j] = (uint32_t)change.view;
        TRY(o->places ? sample_find_good(l->ds, o->part, &i) : sample_make_good(sm, o->part, &i, o->augment ? &change : NULL, to));
        put_facts(l, s, j, i);
        if (s->lambda)
            TRY(mix(l, s, sm, j, i, &change));
    }
    return ST_OK;
}

/* Fills a claimed slot without the lock. */
static void fill_slot(const loader *l, slot *s, sampler *sm)
{
    status_clear();
    s->b.made_by = (uint32_t)(sm - l->sampler);
    s->b.made_from = clock_seconds();
    s->st = fill(l, s, sm);
    s->b.made_to = clock_seconds();
    if (s->st != ST_OK) {
        size_t n = strlen(status_message());
        n = n < sizeof s->message - 1 ? n : sizeof s->message - 1;
        memcpy(s->message, status_message(), n);
        s->message[n] = 0;
    }
}

/* With the lock (or alone): the slot of the next batch, marked, or NULL when it is not free or there are no
 * more. */
static slot *claim(loader *l)
{
    slot *s = &l->slots[l->next_claim % l->depth];
    if (l->no_more || s->state != SLOT_FREE)
        return NULL;
    s->b.step = l->next_claim;
    s->b.n = order_batch(&l->order, l->next_claim, s->index, s->pass);
    if (s->b.n == 0) {
        l->no_more = true;
        return NULL;
    }
    s->state = SLOT_FILLING;
    l->next_claim++;
    l->filling++;
    return s;
}

static void *work(void *arg)
{
    sampler *sm = arg;
    loader *l = sm->owner;
    pthread_mutex_lock(&l->lock);
    while (!l->stop) {
        slot *s = claim(l);
        if (!s) {
            if (l->no_more)
                pthread_cond_broadcast(&l->ready_slot);
            pthread_cond_wait(&l->free_slot, &l->lock);
            continue;
        }
        pthread_mutex_unlock(&l->lock);
        fill_slot(l, s, sm);
        pthread_mutex_lock(&l->lock);
        s->state = SLOT_READY;
        l->filling--;
        pthread_cond_broadcast(&l->ready_slot);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* ---- open and close ---- */

static status check_options(const dataset *ds, const loader_options *o)
{
    if (o->batch < 1 || o->batch > (1u << 24))
        return fail(ST_CONFIG, "loader: a batch of %u samples", o->batch);
    if (o->part >= DATA_PARTS || ds->part[o->part].n == 0)
        return fail(ST_BAD_DATA, "%s: the %s part has no samples", ds->path,
                    o->part == DATA_VAL ? "validation" : "training");
    if (o->threads > 1024 || o->ahead > 65536 || o->keep > 65536)
        return fail(ST_CONFIG, "loader: %u threads, %u batches ahead, %u kept", o->threads, o->ahead, o->keep);
    return ST_OK;
}

static status alloc_slot(loader *l, slot *s, bool mixes)
{
    const data_info *info = &l->ds->info;
    size_t B = l->o.batch;
    for (uint32_t k = 0; k < info->n_inputs && !l->o.places; k++)
        TRY(mem_map(&s->x[k], B * l->x_row[k]));
    TRY(mem_alloc(&s->label, B, sizeof *s->label));
    TRY(mem_alloc(&s->weight, B, sizeof *s->weight));
    TRY(mem_alloc(&s->index, B, sizeof *s->index));
    TRY(mem_alloc(&s->view, B, sizeof *s->view));
    TRY(mem_alloc(&s->pass, B, sizeof *s->pass));
    if (info->target_size)
        TRY(mem_alloc(&s->target, B, (size_t)info->target_size * sizeof *s->target));
    if (mixes) {
        TRY(mem_alloc(&s->label2, B, sizeof *s->label2));
        TRY(mem_alloc(&s->lambda, B, sizeof *s->lambda));
        TRY(mem_alloc(&s->other, B, sizeof *s->other));
    }
    for (uint32_t k = 0; k < info->n_inputs; k++)
        s->b.x[k] = s->x[k];
    s->b.label = s->label;
    s->b.label2 = s->label2;
    s->b.target = s->target;
    s->b.weight = s->weight;
    s->b.lambda = s->lambda;
    s->b.index = s->index;
    s->b.other = s->other;
    s->b.view = s->view;
    return ST_OK;
}

static void free_slot(const loader *l, slot *s)
{
    for (uint32_t k = 0; k < l->ds->info.n_inputs; k++)
        mem_unmap(s->x[k], l->o.batch * l->x_row[k]);
    mem_free(s->label);
    mem_free(s->label2);
    mem_free(s->target);
    mem_free(s->weight);
    mem_free(s->lambda);
    mem_free(s->other);
    mem_free(s->index);
    mem_free(s->view);
    mem_free(s->pass);
}

static bool drops_tail(const loader_options *o, uint32_t n)
{
    if (!o->endless || n < o->batch || o->tail == TAIL_CARRY)
        return false;
    return o->tail == TAIL_DROP || o->steps_per_epoch <= n / o->batch;
}

/* Signals go to the thread that knows what to do with them. */
static status start_threads(loader *l)
{
    sigset_t all, old;
    status st = ST_OK;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (; l->threads < l->o.threads && st == ST_OK; l->threads += st == ST_OK)
        if (pthread_create(&l->thread[l->threads], NULL, work, &l->sampler[l->threads]) != 0)
            st = fail(ST_OOM, "loader: thread %u of %u could not be started", l->threads + 1, l->o.threads);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return st;
}

/* More than one for each thread where batches are small: a step of some 100 us is shorter than what a thread may have to wait
 * for its turn on a core. */
static uint32_t batches_ahead(uint32_t threads, size_t batch_bytes)
{
    uint32_t n = threads + 1;
    while (n < AHEAD_MOST && (n + 1) * batch_bytes <= AHEAD_BYTES)
        n++;
    return n;
}

static status open_into(loader *l)
{
    const data_info *info = &l->ds->info;
    const loader_options *o = &l->o;
    uint32_t n = l->ds->part[o->part].n;
    bool mixes = o->augment && info->image && l->ds->o.augment.mixup > 0;
    TRY(order_open(&l->order, n, o->batch, o->endless, o->shuffle, drops_tail(o, n), o->seed));
    for (uint32_t k = 0; k < info->n_inputs; k++) {
        TRY(shape_bytes(&info->input[k].sh, info->input[k].type, &l->x_row[k]));
        size_t all;
        if (!size_mul(l->x_row[k], o->batch, &all))
            return fail(ST_OOM, "loader: a batch of %u samples of %zu bytes", o->batch, l->x_row[k]);
        l->bytes += o->places ? 0 : all;
    }
    uint32_t ahead = o->ahead ? o->ahead : batches_ahead(o->threads, l->bytes);
    if (!o->ahead && ahead < o->keep) /* who keeps several takes several at once */
        ahead = o->keep;
    l->depth = ahead + (o->keep ? o->keep : 1); /* those are in the reader's hands */
    l->bytes *= l->depth;
    TRY(mem_alloc(&l->slots, l->depth, sizeof *l->slots));
    for (uint32_t i = 0; i < l->depth; i++)
        TRY(alloc_slot(l, &l->slots[i], mixes));
    uint32_t samplers = o->threads + 1;
    TRY(mem_alloc(&l->sampler, samplers, sizeof *l->sampler));
    for (; l->samplers < samplers; l->samplers++) {
        TRY(sampler_open(&l->sampler[l->samplers], l->ds));
        l->sampler[l->samplers].owner = l;
    }
    TRY(mem_alloc(&l->thread, samplers, sizeof *l->thread));
    if (pthread_mutex_init(&l->lock, NULL) != 0)
        return fail(ST_OOM, "loader: no mutex");
    pthread_cond_init(&l->free_slot, NULL); /* cannot fail with default attributes on Linux */
    pthread_cond_init(&l->ready_slot, NULL);
    l->sync_made = true;
    return start_threads(l);
}

status loader_open(dataset *ds, const loader_options *o, loader **out)
{
    loader *l;
    *out = NULL;
    TRY(check_options(ds, o));
    TRY(mem_alloc(&l, 1, sizeof *l));
    l->ds = ds;
    l->o = *o;
    status st = open_into(l);
    if (st != ST_OK) {
        loader_close(l);
        return st;
    }
    *out = l;
    return ST_OK;
}

void loader_close(loader *l)
{
    if (!l)
        return;
    if (l->sync_made) {
        pthread_mutex_lock(&l->lock);
        l->stop = true;
        pthread_cond_broadcast(&l->free_slot);
        pthread_mutex_unlock(&l->lock);
        for (uint32_t i = 0; i < l->threads; i++)
            pthread_join(l->thread[i], NULL);
        pthread_cond_destroy(&l->free_slot);
        pthread_cond_destroy(&l->ready_slot);
        pthread_mutex_destroy(&l->lock);
    }
    for (uint32_t i = 0; i < l->samplers; i++)
        sampler_close(&l->sampler[i]);
    for (uint32_t i = 0; l->slots && i < l->depth; i++)
        free_slot(l, &l->slots[i]);
    mem_free(l->sampler);
    mem_free(l->slots);
    mem_free(l->thread);
    order_close(&l->order);
    mem_free(l);
}

/* ---- reading ---- */

/* All slots but the newest `most`. */
static void give_back(loader *l, uint32_t most)
{
    for (; l->held > most; l->held--) {
        l->slots[(l->next_read - l->held) % l->depth].state = SLOT_FREE;
        pthread_cond_broadcast(&l->free_slot);
    }
}

status loader_next(loader *l, const batch **out)
{
    *out = NULL;
    pthread_mutex_lock(&l->lock);
    give_back(l, l->o.keep ? l->o.keep - 1 : 0);
    slot *s = &l->slots[l->next_read % l->depth];
    while (s->state != SLOT_READY && !(l->no_more && l->next_read == l->next_claim)) {
        slot *mine = l->next_read == l->next_claim ? claim(l) : NULL; /* nobody has begun it */
        if (mine) {
            pthread_mutex_unlock(&l->lock);
            fill_slot(l, mine, &l->sampler[l->o.threads]);
            pthread_mutex_lock(&l->lock);
            mine->state = SLOT_READY;
            l->filling--;
        } else if (s->state == SLOT_FILLING) {
            pthread_cond_wait(&l->ready_slot, &l->lock);
        }
    }
    status st = ST_OK;
    if (s->state == SLOT_READY) {
        l->held++;
        l->next_read++;
        st = s->st;
        *out = st == ST_OK ? &s->b : NULL;
    }
    pthread_mutex_unlock(&l->lock);
    return st == ST_OK ? ST_OK : fail(st, "%s", s->message);
}

void loader_seek(loader *l, uint64_t step)
{
    pthread_mutex_lock(&l->lock);
    give_back(l, 0);
    l->no_more = true; /* nobody claims while the ring is emptied */
    while (l->filling)
        pthread_cond_wait(&l->ready_slot, &l->lock);
    for (uint32_t i = 0; i < l->depth; i++)
        l->slots[i].state = SLOT_FREE;
    l->next_claim = l->next_read = step;
    l->no_more = false;
    pthread_cond_broadcast(&l->free_slot);
    pthread_mutex_unlock(&l->lock);
}

uint64_t loader_pass_steps(const loader *l)
{
    uint32_t n = l->order.n, B = l->order.batch;
    if (!l->o.endless)
        return (n + (uint64_t)B - 1) / B;
    return n < B ? 1 : n / B;
}

bool loader_drops_tail(const loader *l)
{
    return l->order.drop;
}

size_t loader_bytes(const loader *l)
{
    return l->bytes;
}
