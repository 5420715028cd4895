/* frozen.c - runs a frozen model by full batches, and only over what is not remembered. */
#include "distill/frozen.h"
#include "graph/widen_half.h"

#include <math.h>
#include <string.h>

static status check_outputs(const graph *g)
{
    char buf[200];
    int64_t rows = g->value[g->input[0]].sh.dim[0];
    for (size_t i = 0; i < g->n_input; i++) {
        const value *v = &g->value[g->input[i]];
        if (v->sh.rank < 1 || v->sh.dim[0] != rows || rows < 1)
            return fail(ST_BAD_DATA, "input '%s' is %s; every input must be [batch, ...]", v->name, shape_print(&v->sh, buf));
    }
    if (g->n_output < 1)
        return fail(ST_BAD_DATA, "the model has no output");
    for (size_t i = 0; i < g->n_output; i++) {
        const value *v = &g->value[g->output[i]];
        if (v->type != DTYPE_F32 || v->sh.rank < 1 || v->sh.dim[0] != rows)
            return fail(ST_BAD_DATA, "value '%s' is %s %s; it must be float32 "
                        "[batch, ...]", v->name, dtype_of(v->type)->name, shape_print(&v->sh, buf));
    }
    return ST_OK;
}

status frozen_passes(graph *g)
{
    TRY(pass_drop_identity(g));
    TRY(pass_integer_groups(g));
    TRY(pass_fold_constants(g, SIZE_MAX)); /* quantised constants that float operators read */
    TRY(pass_fold_batch_norm(g));
    return pass_fuse_epilogues(g);
}

status frozen_open(graph *g, backend *b, size_t memory_limit, frozen_net *out)
{
    return frozen_open_in(g, b, memory_limit, &(frozen_rounding){0}, out);
}

status frozen_open_in(graph *g, backend *b, size_t memory_limit, const frozen_rounding *how, frozen_net *out)
{
    frozen_net *t = out;
    status st = ST_OK;
    *t = (frozen_net){.g = g, .bf16 = how->bf16, .narrow = b->narrow};
    TRY_DONE(pass_widen_half(g));
    TRY_DONE(feed_plain(g, &t->in));
    TRY_DONE(check_outputs(g));
    TRY_DONE(frozen_passes(g));
    if (b->narrow)
        TRY_DONE(pass_product_precision(g, b->narrow));
    else if (how->bf16)
        TRY_DONE(pass_linear_bf16(g));
    if (how->range)
        TRY_DONE(pass_linear_fp8(g, how->range, how->n_range, &t->fp8));
    TRY_DONE(graph_validate(g));
    TRY_DONE(exec_open_frozen(g, b, memory_limit, &t->e));
    t->batch = g->value[g->input[0]].sh.dim[0];
    t->n_out = g->n_output;
    TRY_DONE(mem_alloc(&t->width, t->n_out, sizeof *t->width));
    TRY_DONE(mem_alloc(&t->place, t->n_out, sizeof *t->place));
    for (size_t i = 0; i < t->n_out; i++)
        t->width[i] = (size_t)(shape_count(&g->value[g->output[i]].sh) / t->batch);
    return feed_plain(g, &t->in); /* the passes may have numbered the inputs anew */
done:
    frozen_close(t);
    return st;
}

status frozen_feed(frozen_net *t, const dataset *ds, const char *who)
{
    TRY(feed_match(t->g, t->g->input, t->g->n_input, dataset_info(ds), who, &t->in));
    return feed_check_ids(t->g, &t->in, ds, who);
}

const shape *frozen_shape(const frozen_net *t, size_t out)
{
    return &graph_value(t->g, t->g->output[out])->sh;
}

void frozen_close(frozen_net *t)
{
    exec_close(t->e);
    graph_free(t->g);
    mem_free(t->width);
    mem_free(t->place);
    cache_close(t->cache);
    *t = (frozen_net){0};
}

status frozen_remember(frozen_net *t, const cache_options *o)
{
    return cache_open(o, &t->cache);
}

status frozen_run(frozen_net *t, const void *const *x, size_t n, float *const *out)
{
    size_t batch = (size_t)t->batch;
    for (size_t at = 0; at < n; at += batch) {
        size_t count = n - at < batch ? n - at : batch;
        feed_put(&t->in, t->e, 0, x, at, count);
        feed_clear(&t->in, t->e, count, batch - count);
        TRY(exec_run(t->e, PHASE_MAIN));
        for (size_t i = 0; i < t->n_out; i++)
            if (out[i])
                memcpy(out[i] + at * t->width[i], exec_data(t->e, t->g->output[i]),
                       count * t->width[i] * sizeof(float));
    }
    t->runs += n;
    return ST_OK;
}

/* ---- ranges ---- */

typedef struct range_finder {
    frozen_net *t;
    float *range, *room;
    size_t left;  /* samples that this run and later ones begin with; the rest of a batch fills it up */
    node_id last; /* that was seen */
    status st;    /* the first failure */
} range_finder;

static status find_range(range_finder *f, const node *n)
{
    const graph *g = exec_graph(f->t->e);
    const value_id v = n->in[0];
    const shape *sh = &g->value[v].sh;
    const size_t batch = (size_t)f->t->batch;
    size_t count = (size_t)shape_count(sh);
    if (sh->dim[0] % f->t->batch == 0 && f->left < batch) /* of real samples alone */
        count = count / batch * f->left;
    if (v >= f->t->g->n_value || g->value[n->in[1]].kind != VALUE_CONST)
        return ST_OK;
    TRY(mem_grow(&f->room, count, sizeof *f->room));
    TRY(exec_get(f->t->e, v, f->room, count * sizeof *f->room));
    float most = f->range[v];
    for (size_t i = 0; i < count; i++) {
        const float x = fabsf(f->room[i]);
        most = x > most ? x : x != x ? INFINITY : most;
    }
    f->range[v] = most;
    return ST_OK;
}

static void see_product(void *ctx, node_id k, double begin, double end)
{
    range_finder *f = ctx;
    const node *n = &exec_graph(f->t->e)->node[k];
    (void)begin;
    (void)end;
    if (k <= f->last) /* the next batch */
        f->left -= (size_t)f->t->batch;
    f->last = k;
    if (f->st == ST_OK && n->op == OP_LINEAR)
        f->st = find_range(f, n);
}

status frozen_ranges(frozen_net *t, const void *const *x, size_t n, float *range)
{
    range_finder f = {.t = t, .range = range, .left = n};
    float **nowhere = NULL;
    status st = ST_OK;
    TRY_DONE(mem_alloc(&nowhere, t->n_out, sizeof *nowhere));
    exec_watch(t->e, see_product, &f);
    st = frozen_run(t, x, n, nowhere);
    exec_watch(t->e, NULL, NULL);
    if (st == ST_OK)
        st = f.st;
done:
    mem_free(nowhere);
    mem_free(f.room);
    return st;
}

/* ---- what is remembered ---- */

#define GATHER_MAX 256

/* Samples of one batch that wait in the model's input for a run, or for a trial. */
typedef struct gathered {
    frozen_net *t;
    tap_cache *cache;
    const uint32_t *index, *view;
    float *const *out;
    size_t n, room, at[GATHER_MAX]; /* places in the batch */
    uint64_t input[GATHER_MAX];
} gathered;

static float *const *place(const gathered *g, size_t i)
{
    for (size_t k = 0; k < g->t->n_out; k++)
        g->t->place[k] = g->out[k] ? g->out[k] + i * g->t->width[k] : NULL;
    return g->t->place;
}

static status run_gathered(gathered *g)
{
    frozen_net *t = g->t;
    feed_clear(&t->in, t->e, g->n, (size_t)t->batch - g->n);
    TRY(exec_run(t->e, PHASE_MAIN));
    t->runs += g->n;
    return ST_OK;
}

/* Computes what waits, files it and writes it where it is wanted. */
static status flush(gathered *g)
{
    frozen_net *t = g->t;
    if (!g->n)
        return ST_OK;
    TRY(run_gathered(g));
    for (size_t j = 0; j < g->n; j++) {
        size_t i = g->at[j];
        float *const *to = place(g, i);
        for (size_t k = 0; k < t->n_out; k++)
            if (to[k])
                memcpy(to[k], (const float *)exec_data(t->e, t->g->output[k]) + j * t->width[k], t->width[k] * sizeof(float));
        cache_put(g->cache, g->view[i], g->index[i], g->input[j], to);
    }
    g->n = 0;
    return ST_OK;
}

static bool waits(const gathered *g, size_t i)
{
    for (size_t j = 0; j < g->n; j++)
        if (g->index[g->at[j]] == g->index[i] && g->view[g->at[j]] == g->view[i])
            return true;
    return false;
}

static void gather(gathered *g, const void *const *x, size_t i, uint64_t input)
{
    feed_put(&g->t->in, g->t->e, g->n, x, i, 1);
    g->input[g->n] = input;
    g->at[g->n++] = i;
}

/* The first outputs from disk are computed again: another build or machine may round in another way. */
static status hold_trial(gathered *g)
{
    frozen_net *t = g->t;
    bool agreed = true;
    TRY(run_gathered(g));
    for (size_t j = 0; j < g->n && agreed; j++) {
        size_t i = g->at[j];
        for (size_t k = 0; k < t->n_out; k++)
            t->place[k] = (float *)exec_data(t->e, t->g->output[k]) + j * t->width[k];
        agreed = cache_agrees(g->cache, g->view[i], g->index[i], (const float *const *)t->place);
    }
    cache_end_trial(g->cache, agreed);
    return ST_OK;
}

/* Samples that are known already are written; *from_disk: one of them had to be read. */
static bool recall(gathered *g, const void *const *x, size_t i, uint64_t *input, bool *from_disk)
{
    tap_cache *c = g->cache;
    bool known = cache_known(c, g->view[i], g->index[i]);
    *input = known ? 0 : feed_hash(&g->t->in, x, i);
    *from_disk = !known && cache_load(c, g->view[i], g->index[i], *input);
    if (!known && !*from_disk)
        return false;
    if (cache_get(c, g->view[i], g->index[i], place(g, i)))
        return true;
    *input = feed_hash(&g->t->in, x, i);
    return false;
}

/* A pass over a batch in which disk is tried for the first time: gathers what it gave, and compares it. */
static status try_disk(frozen_net *t, tap_cache *cache, const void *const *x, size_t n, const uint32_t *index,
                       const uint32_t *view, float *const *out)
{
    gathered g = {.t = t, .cache = cache, .index = index, .view = view, .out = out,
                  .room = (size_t)t->batch < GATHER_MAX ? (size_t)t->batch : GATHER_MAX};
    for (size_t i = 0; i < n && g.n < g.room; i++) {
        uint64_t input;
        bool from_disk;
        if (recall(&g, x, i, &input, &from_disk) && from_disk)
            gather(&g, x, i, input);
    }
    return g.n ? hold_trial(&g) : ST_OK;
}

status frozen_run_remembered(frozen_net *t, tap_cache *cache, const void *const *x, size_t n, const uint32_t *index,
                             const uint32_t *view, float *const *out)
{
    gathered g = {.t = t, .cache = cache, .index = index, .view = view, .out = out,
                  .room = (size_t)t->batch < GATHER_MAX ? (size_t)t->batch : GATHER_MAX};
    if (cache_wants_trial(cache))
        TRY(try_disk(t, cache, x, n, index, view, out));
    for (size_t i = 0; i < n; i++) {
        uint64_t input;
        bool from_disk;
        if (waits(&g, i)) /* a carried batch may hold a sample twice */
            TRY(flush(&g));
        if (recall(&g, x, i, &input, &from_disk))
            continue;
        gather(&g, x, i, input);
        if (g.n == g.room)
            TRY(flush(&g));
    }
    return flush(&g);
}
