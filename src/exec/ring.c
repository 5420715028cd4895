/* ring.c - runs of a chain ahead of the host.
 *
 * A run's small inputs and outputs have a place in one of n blocks of pinned memory (slots) and are copied from and to it round the
 * chain's program, which knows no address of the host. A large input has two pinned places and one on the device (stage): the
 * copy of the next run's batch goes on beside the run before it, as soon as that has taken its own from the stage.
 *
 *     beside   ... copy k+1 ............ (waits until k is taken) copy k+2
 *     queue    take k | run k | figures k | (waits for copy k+1) take k+1 | run k+1 ...
 *     host     places k+1, k+2 ... figures k */
#include "exec/inside.h"

#include <string.h>

#define LARGE ((size_t)64 << 10) /* bytes of an input that is copied beside the runs */

typedef struct item { /* a value that the host gives or gets */
    exec *e;
    value_id v;
    void *was;     /* its place outside of runs */
    size_t bytes, at; /* in a slot; large: in the stage */
    bool up, large;
} item;

typedef struct slot {
    char *host;
    void *done; /* mark: its figures are there */
} slot;

struct chain_ring {
    backend *b;
    item *item;
    size_t n_item, n;
    slot *slot;
    size_t slot_bytes, stage_bytes;
    char *stage;        /* on the device */
    char *large[2];     /* on the host */
    void *copied[2];    /* marks: the copy from large[i] is over */
    void *taken;        /* mark: the stage is free */
    bool was_copied[2], was_taken;
    uint64_t launched, finished; /* runs */
    void *program;
    bool ran;
};

static size_t align(size_t n)
{
    return (n + 255) & ~(size_t)255;
}

/* ---- opening ---- */

static bool is_listed(const struct chain_ring *r, const exec *e, value_id v)
{
    for (size_t i = 0; i < r->n_item; i++)
        if (r->item[i].e == e && r->item[i].v == v)
            return true;
    return false;
}

/* All inputs, then all outputs, in the order in which they lie on the device. */
static status list_items(const exec_chain *c, struct chain_ring *r)
{
    size_t cap = 0;
    for (int down = 0; down < 2; down++)
        for (size_t i = 0; i < c->n; i++) {
            exec *e = c->part[i].e;
            for (value_id v = 1; v < e->g->n_value; v++) {
                if (!chain_moves(c, i, v, !down) || is_listed(r, e, v))
                    continue;
                const size_t bytes = plan_value_bytes(&e->g->value[v]);
                const bool large = !down && bytes >= LARGE;
                size_t *at = large ? &r->stage_bytes : &r->slot_bytes;
                TRY(mem_push(&r->item, &cap, r->n_item, sizeof *r->item));
                r->item[r->n_item++] = (item){e, v, e->far->host[v], bytes, *at, !down, large};
                *at += align(bytes);
            }
        }
    return ST_OK;
}

static status open_slots(struct chain_ring *r, size_t n)
{
    const backend_remote *far = r->b->remote;
    TRY(mem_alloc(&r->slot, n, sizeof *r->slot));
    for (; r->n < n; r->n++) {
        TRY(far->alloc_host(r->b, r->slot_bytes, (void **)&r->slot[r->n].host));
        status st = far->make_mark(r->b, &r->slot[r->n].done);
        if (st != ST_OK) {
            far->free_host(r->b, r->slot[r->n].host);
            return st;
        }
    }
    if (!r->stage_bytes)
        return ST_OK;
    TRY(r->b->alloc(r->b, r->stage_bytes, (void **)&r->stage));
    for (int i = 0; i < 2; i++) {
        TRY(far->alloc_host(r->b, r->stage_bytes, (void **)&r->large[i]));
        TRY(far->make_mark(r->b, &r->copied[i]));
    }
    return far->make_mark(r->b, &r->taken);
}

status exec_chain_open_ring(exec_chain *c, size_t n)
{
    struct chain_ring *r;
    TRY(mem_alloc(&r, 1, sizeof *r));
    r->b = c->part[0].e->b;
    c->ring = r;
    status st = list_items(c, r);
    if (st == ST_OK)
        st = open_slots(r, n);
    if (st == ST_OK) /* the memory is zeroed by the queue */
        st = r->b->remote->wait(r->b);
    if (st != ST_OK)
        ring_close(c);
    return st;
}

/* exec_data as it is outside of runs. */
static void put_back(const struct chain_ring *r)
{
    for (size_t i = 0; i < r->n_item; i++)
        r->item[i].e->far->host[r->item[i].v] = r->item[i].was;
}

void ring_close(exec_chain *c)
{
    struct chain_ring *r = c->ring;
    if (!r)
        return;
    const backend_remote *far = r->b->remote;
    put_back(r);
    if (exec_chain_under_way(c) > 0 && far->wait(r->b) != ST_OK)
        r->finished = r->launched; /* what failed is known already: it stays */
    far->forget(r->b, r->program);
    for (size_t i = 0; i < r->n; i++) {
        far->free_mark(r->b, r->slot[i].done);
        far->free_host(r->b, r->slot[i].host);
    }
    for (int i = 0; i < 2; i++) {
        far->free_mark(r->b, r->copied[i]);
        far->free_host(r->b, r->large[i]);
    }
    far->free_mark(r->b, r->taken);
    r->b->free(r->b, r->stage, r->stage_bytes);
    mem_free(r->slot);
    mem_free(r->item);
    mem_free(r);
    c->ring = NULL;
}

size_t exec_chain_under_way(const exec_chain *c)
{
    return c->ring ? (size_t)(c->ring->launched - c->ring->finished) : 0;
}

/* ---- a run ---- */

/* exec_data gives the places of run k. */
static void show_run(const struct chain_ring *r, uint64_t k)
{
    for (size_t i = 0; i < r->n_item; i++) {
        const item *x = &r->item[i];
        x->e->far->host[x->v] = (x->large ? r->large[k % 2] : r->slot[k % r->n].host) + x->at;
    }
}

status exec_chain_begin(exec_chain *c)
{
    struct chain_ring *r = c->ring;
    if (exec_chain_under_way(c) == r->n)
        return fail(ST_INTERNAL, "%zu runs are under way, there is room for no more", r->n);
    if (r->was_copied[r->launched % 2])
        TRY(r->b->remote->wait_mark(r->b, r->copied[r->launched % 2]));
    show_run(r, r->launched);
    return ST_OK;
}

/* Copies of one direction, neighbours together. */
static status copy_slot(const struct chain_ring *r, uint64_t k, bool up)
{
    char *host = r->slot[k % r->n].host;
    for (size_t i = 0; i < r->n_item;) {
        const item *x = &r->item[i++];
        if (x->large || x->up != up)
            continue;
        char *there = x->e->data[x->v];
        size_t bytes = x->bytes;
        for (; i < r->n_item && !r->item[i].large && r->item[i].up == up && r->item[i].e == x->e &&
               (char *)x->e->data[r->item[i].v] == there + align(bytes) && r->item[i].at == x->at + align(bytes); i++)
            bytes = align(bytes) + r->item[i].bytes; /* what is between is nobody's */
        TRY(r->b->remote->copy(r->b, up ? there : host + x->at, up ? host + x->at : there, bytes, up ? COPY_TO_DEVICE : COPY_TO_HOST));
    }
    return ST_OK;
}

/* Large inputs of run k: to the stage beside what runs, then, in its turn, to where the kernels want them. */
static status bring_large(struct chain_ring *r, uint64_t k)
{
    const backend_remote *far = r->b->remote;
    if (!r->stage_bytes)
        return ST_OK;
    if (r->was_taken)
        TRY(far->after_mark(r->b, r->taken, true));
    TRY(far->copy_beside(r->b, r->stage, r->large[k % 2], r->stage_bytes));
    TRY(far->set_mark(r->b, r->copied[k % 2], true));
    r->was_copied[k % 2] = true;
    TRY(far->after_mark(r->b, r->copied[k % 2], false));
    for (size_t i = 0; i < r->n_item; i++)
        if (r->item[i].large)
            TRY(far->copy(r->b, r->item[i].e->data[r->item[i].v], r->stage + r->item[i].at, r->item[i].bytes, COPY_ON_DEVICE));
    r->was_taken = true;
    return far->set_mark(r->b, r->taken, false);
}

static status record(exec_chain *c)
{
    struct chain_ring *r = c->ring;
    TRY(r->b->remote->record(r->b));
    status st = chain_put_bare(c, true);
    status end = r->b->remote->recorded(r->b, &r->program, &c->kernels);
    return st != ST_OK ? st : end;
}

/* Kernel by kernel the first time, as one launch from the second on. */
static status launch(exec_chain *c)
{
    struct chain_ring *r = c->ring;
    bool watched;
    TRY(chain_begin_run(c, &watched));
    const bool direct = watched || (!r->ran && !r->b->records_first);
    if (!direct && !r->program)
        TRY(record(c));
    TRY(bring_large(r, r->launched));
    TRY(copy_slot(r, r->launched, true));
    TRY(direct ? chain_put_bare(c, false) : r->b->remote->replay(r->b, r->program));
    r->ran = true;
    TRY(copy_slot(r, r->launched, false));
    return r->b->remote->set_mark(r->b, r->slot[r->launched % r->n].done, false);
}

status exec_chain_launch(exec_chain *c)
{
    put_back(c->ring);
    TRY(launch(c));
    c->ring->launched++;
    return ST_OK;
}

status exec_chain_finish(exec_chain *c)
{
    struct chain_ring *r = c->ring;
    if (exec_chain_under_way(c) == 0)
        return fail(ST_INTERNAL, "no run is under way");
    TRY(r->b->remote->wait_mark(r->b, r->slot[r->finished % r->n].done));
    show_run(r, r->finished);
    return ST_OK;
}

void exec_chain_release(exec_chain *c)
{
    put_back(c->ring);
    c->ring->finished++;
}
