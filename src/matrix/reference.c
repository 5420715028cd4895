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

static status absolute(const char *path, arena *mem, const char **out)
{
    char to[4096];
    if (!realpath(path, to))
        return fail(ST_NO_INPUT, "%s: cannot be found: %m", path);
    return arena_strdup(mem, out, to);
}

static status make_folder(reference_set *s, bool locked)
{
    arena *mem = &s->m->mem;
    const char *dir;
    if (locked)
        TRY(arena_printf(mem, &dir, "%s/matrix/work", s->run));
    else
        TRY(arena_printf(mem, &dir, "%s/matrix/reference.%d", s->run, (int)getpid())); /* its own: others may be at work */
    TRY(io_make_dirs(dir));
    return absolute(dir, mem, &s->dir);
}

status reference_open(const char *run, const job *j, dataset *ds, const char *const *patterns, size_t n,
                      const volatile sig_atomic_t *stop, matrix *into, reference_set *out)
{
    reference_set *s = out;
    const data_info *d = dataset_info(ds);
    *s = (reference_set){.run = run, .j = j, .ds = ds, .stop = stop, .samples = d->part[DATA_VAL].n};
    s->m = into ? into : &s->kept;
    arena *mem = &s->m->mem;
    if (j->matrix.samples > 0 && (uint64_t)j->matrix.samples < s->samples)
        s->samples = (size_t)j->matrix.samples;
    if (!s->samples)
        return fail(ST_BAD_DATA, "%s: there are no validation samples", d->path);
    TRY(make_folder(s, into != NULL));
    TRY(runtimes_places(mem, &s->places));
    TRY(runtimes_launch(runtimes_find("own"), &s->places, mem, &s->launch));
    TRY(files_find(run, j, patterns, n, d, s->m, &s->facts));
    const size_t columns = s->m->n_columns;
    TRY(arena_alloc(mem, &s->print, columns, sizeof *s->print));
    TRY(arena_alloc(mem, &s->input, columns, sizeof *s->input));
    TRY(arena_alloc(mem, &s->own, columns, sizeof *s->own));
    TRY(arena_alloc(mem, &s->floats, columns, sizeof *s->floats));
    s->n = columns;
    for (size_t k = 0; k < columns; k++)
        TRY(feed_print(d, &s->facts[k], s->samples, mem, &s->print[k]));
    return feed_answers(ds, s->samples, mem, &s->label, &s->target);
}

void reference_close(reference_set *s)
{
    if (s->dir && io_remove_tree(s->dir) != ST_OK)
        log_warn("%s", status_message());
    for (size_t k = 0; k < s->n; k++)
        mem_free(s->floats[k]);
    matrix_free(&s->kept);
    *s = (reference_set){0};
}

size_t reference_find(const reference_set *s, const char *variant)
{
    for (size_t k = 0; k < s->n; k++)
        if (strcmp(s->m->columns[k].variant, variant) == 0)
            return k;
    return SIZE_MAX;
}

size_t reference_plain(const reference_set *s, size_t k)
{
    const size_t plain = reference_find(s, s->facts[k].teacher ? "teacher-fp32" : "fp32");
    return plain != SIZE_MAX && s->facts[plain].width == s->facts[k].width ? plain : SIZE_MAX;
}

/* ---- inputs and outputs ---- */

/* Columns that are fed alike share the files. */
status reference_inputs(reference_set *s, size_t k)
{
    const file_facts *x = &s->facts[k];
    for (size_t c = 0; !s->input[k][0] && c < s->n; c++)
        if (s->input[c][0] && strcmp(s->print[c], s->print[k]) == 0)
            memcpy(s->input[k], s->input[c], sizeof s->input[c]);
    for (size_t i = 0; i < x->n_in; i++) {
        const char *path;
        if (s->input[k][i])
            continue;
        TRY(arena_printf(&s->m->mem, &path, "%s/%s.input%zu.npy", s->dir, s->m->columns[k].variant, i));
        TRY(feed_write(s->ds, x, i, s->samples, path));
        s->input[k][i] = path;
    }
    return ST_OK;
}

status reference_outputs(reference_set *s, size_t k)
{
    const runtime_row *row = runtimes_find("own");
    arena *mem = &s->m->mem;
    matrix_cell c = matrix_cell_empty();
    tensor y = {0};
    const char *path;
    if (s->own[k])
        return ST_OK;
    TRY(reference_inputs(s, k));
    cell_job j = {.row = row, .launch = &s->launch, .file = &s->facts[k], .inputs = s->input[k], .samples = s->samples,
                  .batch = (size_t)s->j->matrix.batch, .threads = (int)s->j->matrix.threads, .seconds = row->seconds, .stop = s->stop};
    TRY(arena_printf(mem, &path, "%s/%s.own.npy", s->dir, s->m->columns[k].variant));
    j.output = path;
    TRY(absolute(s->facts[k].path, mem, &j.model));
    TRY(cell_run(&j, mem, &c, &y));
    if (c.state == CELL_OK && !s->floats[k])
        reference_learn(s, k, &y);
    tensor_free(&y);
    if (c.state != CELL_OK)
        return fail(ST_BAD_DATA, "%s: our own executor does not run it: %s", s->facts[k].path, c.reason ? c.reason : "no reason given");
    s->own[k] = path;
    return ST_OK;
}

/* Where the outputs are not what the file's facts say, the cell says so; nothing is learnt. */
void reference_learn(reference_set *s, size_t k, const tensor *y)
{
    if (!s->floats[k] && judge_floats(&s->facts[k], y, s->samples, &s->floats[k]) != ST_OK)
        status_clear();
}

status reference_floats(reference_set *s, size_t k, const float **out)
{
    const limits lim = limits_default();
    tensor y = {0};
    status st = ST_OK;
    if (!s->floats[k])
        TRY(reference_outputs(s, k));
    if (!s->floats[k]) { /* not learnt: the reason */
        TRY(npy_read(s->own[k], &lim, &y));
        st = judge_floats(&s->facts[k], &y, s->samples, &s->floats[k]);
        tensor_free(&y);
    }
    *out = s->floats[k];
    return st;
}

/* ---- cells ---- */

const char *reference_known(const reference_set *s, size_t k, const runtime_row *row)
{
    const file_facts *x = &s->facts[k];
    if (x->concat_conv && row->wrong_concat)
        return row->wrong_concat;
    return x->integers ? row->wrong_int8 : x->half ? row->wrong_half : row->wrong_float;
}

status reference_judge(reference_set *s, size_t k, const runtime_row *row, bool own, bool numbers, const tensor *y, size_t n, arena *mem,
                       matrix_cell *c)
{
    const file_facts *x = &s->facts[k];
    const size_t plain = reference_plain(s, k);
    judge_by by = {.file = x, .numbers = numbers, .label = s->label, .target = s->target, .isa = c->isa};
    if (own && n == s->samples)
        reference_learn(s, k, y);
    if (!own)
        TRY(reference_floats(s, k, &by.own));
    if (plain == k)
        by.plain = s->floats[k] ? s->floats[k] : NULL;
    else if (plain != SIZE_MAX)
        TRY(reference_floats(s, plain, &by.plain));
    if (row) {
        by.bf16 = row->bf16;
        by.known = reference_known(s, k, row);
        by.may_saturate = strncmp(row->key, "ort", 3) == 0 && (row->kind == RUNNER_NATIVE || row->kind == RUNNER_X86) && !strstr(row->options, "prec");
    }
    return judge_outputs(&by, y, n, mem, c);
}
