/* matrix_join.c - see matrix_join.h. */
#include "matrix/matrix_join.h"
#include "base/hash.h"
#include "matrix/matrix_json.h"
#include "matrix/runtimes.h"

#include <stdio.h>
#include <string.h>

static size_t find_row(const matrix *m, const char *key)
{
    size_t i = 0;
    while (i < m->n_rows && strcmp(m->rows[i].runtime, key) != 0)
        i++;
    return i;
}

static size_t find_column(const matrix *m, const char *key)
{
    size_t i = 0;
    while (i < m->n_columns && strcmp(m->columns[i].variant, key) != 0)
        i++;
    return i;
}

static bool same_file(const matrix_column *a, const matrix_column *b)
{
    return a->n_files && b->n_files && a->files[0].sha256 && b->files[0].sha256 && strcmp(a->files[0].sha256, b->files[0].sha256) == 0;
}

static bool foreign(const matrix_cell *c)
{
    return c->host && strcmp(c->host, "here") != 0;
}

/* A deep copy is made by way of the file's form: the writer knows every member. */
static status read_again(matrix *m, const matrix *from)
{
    json_in j = {0};
    text t = {0};
    matrix_put(&t, from, false);
    status st = t.st;
    if (st == ST_OK)
        st = matrix_parse(&j, "matrix", t.s, t.n, m);
    json_in_close(&j);
    text_free(&t);
    return st;
}

/* Is the column's ONNX file still what it was? */
static bool stands(const matrix_column *c, const char *run)
{
    char path[4096], sha[65];
    const matrix_file *f = c->files;
    if (!c->n_files || !f->sha256 ||
        (size_t)snprintf(path, sizeof path, "%s%s%s", *f->path == '/' ? "" : run, *f->path == '/' ? "" : "/", f->path) >= sizeof path)
        return false;
    if (hash_sha256_file(path, sha) == ST_OK)
        return strcmp(sha, f->sha256) == 0;
    status_clear();
    return false;
}

/* RUNTIME@HOST: what merge_apply.h makes of another machine's row. */
static bool is_guest(const char *key, const char *of)
{
    size_t n = strlen(of);
    return strncmp(key, of, n) == 0 && key[n] == '@';
}

/* Rows in the order of the table; columns of `m` first, then those that only `old` has. */
static status make_frame(const matrix *m, const matrix *old, const char *run, arena *mem, matrix *u)
{
    size_t n;
    const runtime_row *table = runtimes_all(&n);
    TRY(arena_alloc(mem, &u->rows, m->n_rows + old->n_rows, sizeof *u->rows));
    TRY(arena_alloc(mem, &u->columns, m->n_columns + old->n_columns, sizeof *u->columns));
    for (size_t i = 0; i < n; i++) {
        size_t a = find_row(m, table[i].key), b = find_row(old, table[i].key);
        if (a < m->n_rows)
            u->rows[u->n_rows++] = m->rows[a];
        else if (b < old->n_rows)
            u->rows[u->n_rows++] = old->rows[b];
        for (size_t k = 0; k < old->n_rows; k++)
            if (is_guest(old->rows[k].runtime, table[i].key))
                u->rows[u->n_rows++] = old->rows[k];
    }
    for (size_t c = 0; c < m->n_columns; c++)
        u->columns[u->n_columns++] = m->columns[c];
    for (size_t c = 0; c < old->n_columns; c++)
        if (find_column(m, old->columns[c].variant) == m->n_columns && stands(&old->columns[c], run))
            u->columns[u->n_columns++] = old->columns[c];
    return ST_OK;
}

static bool ran(const matrix_cell *c)
{
    return c && c->state != CELL_NOT_RUN;
}

static matrix_cell choose_cell(const matrix *m, const matrix *old, const matrix *u, size_t r, size_t c)
{
    const char *row = u->rows[r].runtime, *column = u->columns[c].variant;
    const matrix_cell *now = matrix_find(m, row, column), *was = matrix_find(old, row, column);
    const size_t a = find_column(m, column), b = find_column(old, column);
    const bool stale = a < m->n_columns && (b == old->n_columns || !same_file(&m->columns[a], &old->columns[b]));
    matrix_cell x = matrix_cell_empty();
    const bool kept = was && !stale && (!now || (ran(was) && !ran(now) && foreign(was)));
    if (kept)
        x = *was;
    else if (now)
        x = *now;
    x.runtime = row;
    x.variant = column;
    return x;
}

static status join(matrix *m, const matrix *old, const char *run)
{
    matrix u = *m, copy = {0};
    arena mem = {0};
    status st;
    u.n_rows = u.n_columns = 0;
    TRY_DONE(make_frame(m, old, run, &mem, &u));
    TRY_DONE(arena_alloc(&mem, &u.cells, u.n_rows * u.n_columns, sizeof *u.cells));
    for (size_t i = 0; i < u.n_rows * u.n_columns; i++)
        u.cells[i] = choose_cell(m, old, &u, i / u.n_columns, i % u.n_columns);
    u.mem = (arena){0};
    st = read_again(&copy, &u);
    if (st == ST_OK) {
        matrix_free(m);
        *m = copy;
    } else {
        matrix_free(&copy);
    }
done:
    arena_free(&mem);
    return st;
}

status matrix_join(matrix *m, const char *run)
{
    matrix old;
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/matrix.json", run) >= sizeof path)
        return ST_OK;
    status st = matrix_read(path, &old);
    if (st == ST_NO_INPUT || st == ST_BAD_DATA) { /* nothing to join with */
        matrix_free(&old);
        status_clear();
        return ST_OK;
    }
    if (st == ST_OK)
        st = join(m, &old, run);
    matrix_free(&old);
    return st;
}
