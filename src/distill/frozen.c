/* frozen.c - runs a frozen model by full batches and remembers logits. */
#include "distill/frozen.h"

#include <string.h>

static status check_outputs(const graph *g)
{
    char buf[200];
    if (g->n_input != 1 || g->value[g->input[0]].type != DTYPE_F32)
        return fail(ST_BAD_DATA, "a frozen model must have one float32 input, this one has %zu inputs", g->n_input);
    int64_t rows = g->value[g->input[0]].sh.dim[0];
    for (size_t i = 0; i < g->n_output; i++) {
        const value *v = &g->value[g->output[i]];
        if (v->type != DTYPE_F32 || v->sh.rank < 1 || v->sh.dim[0] != rows)
            return fail(ST_BAD_DATA, "value '%s' is %s %s; it must be float32 "
                        "[batch, ...]", v->name, dtype_of(v->type)->name, shape_print(&v->sh, buf));
    }
    if (g->n_output < 1 || g->value[g->output[0]].sh.rank != 2)
        return fail(ST_BAD_DATA, "the logits must be [batch, classes]; name the right value with "
                    "teacher.output");
    return ST_OK;
}

status frozen_open(graph *g, backend *b, size_t memory_limit, frozen_net *out)
{
    frozen_net *t = out;
    status st = ST_OK;
    *t = (frozen_net){.g = g};
    TRY_DONE(check_outputs(g));
    TRY_DONE(pass_drop_identity(g));
    TRY_DONE(pass_fold_batch_norm(g));
    TRY_DONE(pass_fuse_epilogues(g));
    TRY_DONE(graph_validate(g));
    TRY_DONE(exec_open(g, b, NULL, memory_limit, &t->e));
    t->batch = g->value[g->input[0]].sh.dim[0];
    t->sample = (size_t)(shape_count(&g->value[g->input[0]].sh) / t->batch);
    t->n_out = g->n_output;
    TRY_DONE(mem_alloc(&t->width, t->n_out, sizeof *t->width));
    for (size_t i = 0; i < t->n_out; i++)
        t->width[i] = (size_t)(shape_count(&g->value[g->output[i]].sh) / t->batch);
    t->classes = g->value[g->output[0]].sh.dim[1];
    return ST_OK;
done:
    frozen_close(t);
    return st;
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
    TRY(mem_alloc(&t->cache, rows, (size_t)t->classes * sizeof *t->cache));
    TRY(mem_alloc(&t->known, rows, 1));
    t->views = views;
    t->samples = samples;
    return ST_OK;
}

void frozen_run(frozen_net *t, const float *x, size_t n, float *const *out)
{
    size_t batch = (size_t)t->batch;
    float *in = exec_data(t->e, t->g->input[0]);
    for (size_t at = 0; at < n; at += batch) {
        size_t count = n - at < batch ? n - at : batch;
        memcpy(in, x + at * t->sample, count * t->sample * sizeof *in);
        memset(in + count * t->sample, 0, (batch - count) * t->sample * sizeof *in);
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
    float *in = exec_data(t->e, t->g->input[0]);
    size_t classes = (size_t)t->classes;
    memset(in + count * t->sample, 0, ((size_t)t->batch - count) * t->sample * sizeof *in);
    exec_run(t->e, PHASE_MAIN);
    const float *y = exec_data(t->e, t->g->output[0]);
    for (size_t i = 0; i < count; i++) {
        memcpy(t->cache + row[i] * classes, y + i * classes, classes * sizeof *y);
        t->known[row[i]] = 1;
    }
    t->runs += count;
}

#define GATHER_MAX 256

void frozen_run_remembered(frozen_net *t, const float *x, size_t n, const uint32_t *index, const uint32_t *view,
                        float *logits)
{
    size_t classes = (size_t)t->classes, room = (size_t)t->batch < GATHER_MAX ? (size_t)t->batch : GATHER_MAX;
    size_t row[GATHER_MAX], waiting = 0;
    float *in = exec_data(t->e, t->g->input[0]);
    for (size_t i = 0; i < n; i++) {
        size_t r = (size_t)view[i] * t->samples + index[i];
        bool again = t->known[r];
        for (size_t j = 0; j < waiting && !again; j++) /* a carried batch may hold a sample twice */
            again = row[j] == r;
        if (again) {
            t->hits++;
            continue;
        }
        memcpy(in + waiting * t->sample, x + i * t->sample, t->sample * sizeof *in);
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
