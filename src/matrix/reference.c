/* reference.c - see reference.h. */
#include "matrix/reference.h"

#include "base/io.h"
#include "base/log.h"
#include "data/npy.h"
#include "matrix/cell_run.h"
#include "matrix/feed.h"
#include "matrix/judge.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

status reference_open(const char *run, const job *j, dataset *ds, const char *const *patterns, size_t n,
                      const volatile sig_atomic_t *stop, reference_set *out)
{
    const data_info *d = dataset_info(ds);
    char absolute[4096];
    const char *dir;
    *out = (reference_set){.run = run, .j = j, .ds = ds, .stop = stop, .samples = d->part[DATA_VAL].n};
    if (j->matrix.samples > 0 && (uint64_t)j->matrix.samples < out->samples)
        out->samples = (size_t)j->matrix.samples;
    if (!out->samples)
        return fail(ST_BAD_DATA, "%s: its data has no validation samples", run);
    TRY(arena_printf(&out->m.mem, &dir, "%s/matrix/reference.%d", run, (int)getpid())); /* its own: others may be at work */
    TRY(io_make_dirs(dir));
    if (!realpath(dir, absolute))
        return fail(ST_CANNOT_CREATE, "%s: cannot be found: %m", dir);
    TRY(arena_strdup(&out->m.mem, &out->dir, absolute));
    TRY(runtimes_places(&out->m.mem, &out->places));
    TRY(files_find(run, j, patterns, n, d, &out->m, &out->facts));
    TRY(arena_alloc(&out->m.mem, &out->print, out->m.n_columns, sizeof *out->print));
    TRY(arena_alloc(&out->m.mem, &out->input, out->m.n_columns, sizeof *out->input));
    TRY(arena_alloc(&out->m.mem, &out->own, out->m.n_columns, sizeof *out->own));
    return feed_answers(out->ds, out->samples, &out->m.mem, &out->label, &out->target);
}

void reference_close(reference_set *s)
{
    if (s->dir && io_remove_tree(s->dir) != ST_OK)
        log_warn("%s", status_message());
    matrix_free(&s->m);
}

size_t reference_find(const reference_set *s, const char *variant)
{
    for (size_t k = 0; k < s->m.n_columns; k++)
        if (strcmp(s->m.columns[k].variant, variant) == 0)
            return k;
    return SIZE_MAX;
}

static status make_input(reference_set *s, size_t k)
{
    TRY(feed_print(dataset_info(s->ds), &s->facts[k], s->samples, &s->m.mem, &s->print[k]));
    for (size_t i = 0; i < s->m.n_columns; i++)
        if (s->input[i] && strcmp(s->print[i], s->print[k]) == 0) {
            s->input[k] = s->input[i];
            return ST_OK;
        }
    const char *path;
    TRY(arena_printf(&s->m.mem, &path, "%s/%s.input.npy", s->dir, s->m.columns[k].variant));
    TRY(feed_write(s->ds, &s->facts[k], 0, s->samples, path));
    s->input[k] = path;
    return ST_OK;
}

static status make_own(reference_set *s, size_t k)
{
    const runtime_row *row = runtimes_find("own");
    runtime_launch launch;
    matrix_cell c = matrix_cell_empty();
    tensor y = {0};
    const char *path, *model;
    char absolute[4096];
    TRY(arena_printf(&s->m.mem, &path, "%s/%s.own.npy", s->dir, s->m.columns[k].variant));
    TRY(runtimes_launch(row, &s->places, &s->m.mem, &launch));
    if (!realpath(s->facts[k].path, absolute))
        return fail(ST_NO_INPUT, "%s: cannot be found: %m", s->facts[k].path);
    TRY(arena_strdup(&s->m.mem, &model, absolute));
    const cell_job what = {.row = row, .launch = &launch, .model = model, .file = &s->facts[k], .inputs = &s->input[k], .output = path,
                          .samples = s->samples, .batch = (size_t)s->j->matrix.batch, .threads = (int)s->j->matrix.threads,
                          .seconds = row->seconds, .stop = s->stop};
    TRY(cell_run(&what, &s->m.mem, &c, &y));
    tensor_free(&y);
    if (c.state != CELL_OK)
        return fail(ST_BAD_DATA, "%s: our own executor does not run it: %s", s->facts[k].path, c.reason ? c.reason : "no reason given");
    s->own[k] = path;
    return ST_OK;
}

status reference_make(reference_set *s, size_t k)
{
    if (s->own[k])
        return ST_OK;
    if (s->facts[k].n_in != 1)
        return fail(ST_BAD_DATA, "%s: has %zu inputs; models of one input are packed", s->facts[k].path, s->facts[k].n_in);
    TRY(make_input(s, k));
    return make_own(s, k);
}

status reference_floats(reference_set *s, size_t k, float **out)
{
    limits lim = limits_default();
    tensor y = {0};
    *out = NULL;
    TRY(reference_make(s, k));
    TRY(npy_read(s->own[k], &lim, &y));
    status st = judge_floats(&s->facts[k], &y, s->samples, out);
    tensor_free(&y);
    return st;
}
