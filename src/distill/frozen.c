/* frozen.c - runs a frozen model by full batches and remembers logits. */
#include "distill/frozen.h"

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

status frozen_open(graph *g, backend *b, size_t memory_limit, frozen_net *out)
{
    frozen_net *t = out;
    status st = ST_OK;
    *t = (frozen_net){.g = g};
    TRY_DONE(feed_plain(g, &t->in));
    TRY_DONE(check_outputs(g));
    TRY_DONE(pass_drop_identity(g));
    TRY_DONE(pass_fold_batch_norm(g));
    TRY_DONE(pass_fuse_epilogues(g));
    TRY_DONE(graph_validate(g));
    TRY_DONE(exec_open(g, b, NULL, memory_limit, &t->e));
    t->batch = g->value[g->input[0]].sh.dim[0];
    t->n_out = g->n_output;
    TRY_DONE(mem_alloc(&t->width, t->n_out, sizeof *t->width));
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
    mem_free(t->cache);
    mem_free(t->known);
    *t = (frozen_net){0};
}

status frozen_remember(frozen_net *t, uint32_t views, uint32_t samples)
{
    size_t rows;
    if (!size_mul(views, samples, &rows))
        return fail(ST_OOM, "out of memory: %u views of %u samples cannot be remembered", views, samples);
    TRY(mem_alloc(&t->cache, rows, t->width[0] * sizeof *t->cache));
    TRY(mem_alloc(&t->known, rows, 1));
    t->views = views;
    t->samples = samples;
    return ST_OK;
}

void frozen_run(frozen_net *t, const void *const *x, size_t n, float *const *out)
{
    size_t batch = (size_t)t->batch;
    for (size_t at = 0; at < n; at += batch) {
        size_t count = n - at < batch ? n - at : batch;
        feed_put(&t->in, t->e, 0, x, at, count);
        feed_clear(&t->in, t->e, count, batch - count);
        exec_run(t->e, PHASE_MAIN);
        for (size_t i = 0; i < t->n_out; i++)
            if (out[i])
                memcpy(out[i] + at * t->width[i], exec_data(t->e, t->g->output[i]),
                       count * t->width[i] * sizeof(float));
    }
    t->runs += n;
}

/* Runs the `count` samples gathered in the teacher's input and files their logits. */
static void run_gathered(frozen_net *t, size_t count, const size_t *row)
{
    size_t classes = t->width[0];
    feed_clear(&t->in, t->e, count, (size_t)t->batch - count);
    exec_run(t->e, PHASE_MAIN);
    const float *y = exec_data(t->e, t->g->output[0]);
    for (size_t i = 0; i < count; i++) {
        memcpy(t->cache + row[i] * classes, y + i * classes, classes * sizeof *y);
        t->known[row[i]] = 1;
    }
    t->runs += count;
}

#define GATHER_MAX 256

void frozen_run_remembered(frozen_net *t, const void *const *x, size_t n, const uint32_t *index, const uint32_t *view,
                           float *logits)
{
    size_t classes = t->width[0], room = (size_t)t->batch < GATHER_MAX ? (size_t)t->batch : GATHER_MAX;
    size_t row[GATHER_MAX], waiting = 0;
    for (size_t i = 0; i < n; i++) {
        size_t r = (size_t)view[i] * t->samples + index[i];
        bool again = t->known[r];
        for (size_t j = 0; j < waiting && !again; j++) /* a carried batch may hold a sample twice */
            again = row[j] == r;
        if (again) {
            t->hits++;
            continue;
        }
        feed_put(&t->in, t->e, waiting, x, i, 1);
        row[waiting++] = r;
        if (waiting == room) {
            run_gathered(t, waiting, row);
            waiting = 0;
        }
    }
    if (waiting)
        run_gathered(t, waiting, row);
    for (size_t i = 0; i < n; i++)
        memcpy(logits + i * classes, t->cache + ((size_t)view[i] * t->samples + index[i]) * classes,
               classes * sizeof *logits);
}
