/* matrix_make.c - every cell of the matrix, from the cache or from a runner. See matrix_make.h. */
#include "base/clock.h"
#include "matrix/maker.h"
#include "base/io.h"

#include <string.h>
#include <time.h>

#define PARTS_MAX 24

/* ---- one cell ---- */

static status make_key(const maker *k, size_t row, size_t column, const matrix_file *file, arena *mem, key_part *part, size_t *n, char hex[65])
{
    const runtime_row *r = k->rows[row];
    const runtime_facts *f = &k->facts[row];
    const job_matrix *jm = &k->o->j->matrix;
    const size_t plain = reference_plain(&k->ref, column);
    char number[NUMBER_ROOM];
    const char *text_of[5];
    TRY(arena_printf(mem, &text_of[0], "protocol 1, %s %s {%s}", r->key, r->engine, r->options));
    TRY(arena_printf(mem, &text_of[1], "%zu samples, batch %lld, latency of 1", maker_samples(k, r), (long long)jm->batch));
    TRY(arena_printf(mem, &text_of[2], "%lld threads, %lld runs in %s s", (long long)jm->threads, (long long)jm->latency_runs,
                     format_double(jm->latency_seconds, number)));
    TRY(arena_printf(mem, &text_of[3], "limits %s s, %lld MiB", format_double(jm->time_limit > 0 ? jm->time_limit : r->seconds, number),
                     (long long)jm->memory_limit));
    TRY(arena_printf(mem, &text_of[4], "%s %s", DISTILL_VERSION, k->ref.places.build));
    const key_part all[] = {
        {"model", file->sha256},
        {"reference", k->m->columns[column].files[0].sha256}, /* whose outputs in our executor are what others are held against */
        {"float32", plain != SIZE_MAX ? k->m->columns[plain].files[0].sha256 : NULL},
        {"variant", k->m->columns[column].variant},
        {"runner", text_of[0]}, {"runtime", f->runtime}, {"version", f->version}, {"build", f->build}, {"device", f->device},
        {"isa", f->isa}, {"emulator", f->emulator}, {"system", k->system}, {"form", file->form}, {"shapes", text_of[1]}, {"data", k->ref.print[column]},
        {"options", text_of[2]}, {"limits", text_of[3]}, {"distill", text_of[4]},
    };
    *n = sizeof all / sizeof *all;
    memcpy(part, all, sizeof all);
    return store_key(part, *n, hex);
}

static status refuse(maker *k, matrix_cell *c, cell_state state, const char *why)
{
    c->state = state;
    return arena_strdup(&k->m->mem, &c->reason, why);
}

static status measure_once(maker *k, size_t row, size_t column, const char *path, matrix_cell *c, bool *again)
{
    const runtime_row *r = k->rows[row];
    tensor y = {0};
    c->reason = NULL;
    c->state = CELL_OK;
    c->host = "here";
    c->when = (int64_t)time(NULL);
    status st = maker_run(k, r, &k->launch[row], column, path, true, c, &y, again);
    if (st == ST_OK && c->state == CELL_OK)
        st = maker_judge(k, r, column, &y, maker_samples(k, r), c);
    tensor_free(&y);
    return st;
}

/* What goes wrong in a runner that stayed, and is no known fault, may be an earlier file's doing: then a fresh one decides. */
static status measure(maker *k, size_t row, size_t column, const char *path, matrix_cell *c)
{
    const double began = clock_seconds();
    const matrix_cell empty = *c;
    bool again = false;
    TRY(measure_once(k, row, column, path, c, &again));
    bool known = c->state == CELL_DIFFERS && reference_known(&k->ref, column, k->rows[row]);
    if (again && !known && c->state != CELL_OK && c->state != CELL_UNSUPPORTED) {
        maker_dismiss(k);
        *c = empty;
        TRY(measure_once(k, row, column, path, c, &again));
    }
    c->seconds = clock_seconds() - began;
    return ST_OK;
}

static status take_cached(maker *k, const char *hex, matrix_cell *c, bool *hit)
{
    matrix_cell known;
    const char *log;
    TRY(store_get(k->o->cache, hex, &k->m->mem, &known, hit));
    if (!*hit)
        return ST_OK;
    known.runtime = c->runtime;
    known.variant = c->variant;
    known.cached = true;
    known.key = c->key;
    known.bytes = c->bytes;
    if (known.log) { /* measured for another run folder, perhaps */
        TRY(arena_printf(&k->m->mem, &log, "%s/%s", k->run, known.log));
        known.log = io_exists(log) ? known.log : NULL;
    }
    *c = known;
    return ST_OK;
}

static status make_cell(maker *k, size_t row, size_t column)
{
    const runtime_row *r = k->rows[row];
    const matrix_column *col = &k->m->columns[column];
    matrix_cell *c = matrix_at(k->m, row, column);
    arena *mem = &k->m->mem;
    const matrix_file *file;
    const char *path, *why, *form = runtimes_form(r, k->ref.facts[column].integers);
    key_part part[PARTS_MAX];
    size_t n_parts;
    char hex[65];
    bool hit = false;
    if (!k->facts[row].present)
        return refuse(k, c, CELL_NOT_RUN, k->facts[row].how ? k->facts[row].how : "it is not on this machine");
    if (r->slow && k->ref.facts[column].teacher)
        return refuse(k, c, CELL_NOT_RUN, "the teacher runs in native rows only");
    TRY(files_path(k->run, col, form, mem, &file, &path));
    if (!file) {
        why = files_why_not(&k->ref.facts[column], form);
        TRY(arena_printf(mem, &why, "there is no %s form of it%s%s", strcmp(form, "qoperator") == 0 ? "operator" : form, why ? ": " : "", why ? why : ""));
        return refuse(k, c, CELL_UNSUPPORTED, why);
    }
    c->bytes = file->bytes;
    TRY(make_key(k, row, column, file, mem, part, &n_parts, hex));
    TRY(arena_strdup(mem, &c->key, hex));
    if (k->o->cache && !k->o->refresh)
        TRY(take_cached(k, hex, c, &hit));
    if (hit)
        return ST_OK;
    TRY(measure(k, row, column, path, c));
    /* a busy machine may be the reason of a timeout: it is tried again */
    bool keep = k->o->cache && c->state != CELL_NOT_RUN && c->state != CELL_TIMEOUT;
    return keep ? store_put(k->o->cache, c, part, n_parts) : ST_OK;
}

/* ---- all ---- */

bool matrix_wants(const matrix_options *o, const char *key)
{
    const name_list *l = &o->j->matrix.variants;
    const char *const *patterns = o->n_variants ? o->variants : l->at;
    size_t n = o->n_variants ? o->n_variants : l->n;
    for (size_t i = 0; i < n; i++)
        if (runtimes_match(patterns[i], key))
            return true;
    return n == 0;
}

/* Columns that were only there to be held against go. */
static void keep_wanted(maker *k)
{
    matrix *m = k->m;
    size_t n = 0, all = m->n_columns;
    for (size_t c = 0; c < all; c++)
        n += matrix_wants(k->o, m->columns[c].variant);
    for (size_t r = 0, to = 0; r < m->n_rows; r++)
        for (size_t c = 0; c < all; c++)
            if (matrix_wants(k->o, m->columns[c].variant))
                m->cells[to++] = m->cells[r * all + c];
    for (size_t c = 0, to = 0; c < all; c++)
        if (matrix_wants(k->o, m->columns[c].variant))
            m->columns[to++] = m->columns[c];
    m->n_columns = n;
}

/* The cells of a row that are wanted: those of float16 files, or the others; total: cells of all rows. */
static status make_row(maker *k, size_t row, bool half, size_t total)
{
    matrix *m = k->m;
    for (size_t c = 0; c < m->n_columns; c++) {
        if (!matrix_wants(k->o, m->columns[c].variant) || k->ref.facts[c].half != half)
            continue;
        if (k->o->stop && *k->o->stop)
            return fail(ST_STOPPED, "stopped; the cells that are finished are kept");
        TRY(make_cell(k, row, c));
        if (k->o->tell)
            k->o->tell(k->o->ctx, matrix_at(m, row, c), ++k->done, total);
    }
    return ST_OK;
}

static status make_cells(maker *k)
{
    matrix *m = k->m;
    size_t total = 0;
    for (size_t c = 0; c < m->n_columns; c++)
        total += matrix_wants(k->o, m->columns[c].variant) * m->n_rows;
    if (total == 0)
        return fail(ST_CONFIG, "matrix.variants: no variant of %s fits", k->o->run);
    for (size_t r = 0; r < m->n_rows; r++) {
        TRY(make_row(k, r, false, total));
        TRY(make_row(k, r, true, total)); /* last: where shaders lack float16 the browser, with all that it has compiled, is given up */
        maker_dismiss(k);
    }
    return ST_OK;
}

status matrix_make(const matrix_options *o, matrix *out)
{
    maker k;
    double began = clock_seconds();
    status st = maker_open(&k, o, out);
    if (st == ST_OK)
        st = make_cells(&k);
    if (out->cells)
        keep_wanted(&k);
    else
        out->n_rows = out->n_columns = 0;
    out->seconds = clock_seconds() - began;
    maker_close(&k);
    return st;
}
