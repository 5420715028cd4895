/* store.c - see store.h.
 *
 * One table, one row for each measurement: cells are JSON as in matrix.json (matrix_json.h), with a check over all of the
 * row. The newest row of a key is the cell; the others are history. */
#include "matrix/store.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/log.h"
#include "distill/cache_file.h"
#include "matrix/matrix_json.h"
#include "matrix/store_db.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HISTORY_MAX 200
#define CELL_DEPTH  8

struct store {
    store_db db;
    atomic_bool dead; /* its file is closed only at the end: another thread may be reading it */
};

/* ---- keys ---- */

static int by_name(const void *a, const void *b)
{
    const key_part *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* Parts in the order of their names, in mem. */
static status sort_parts(const key_part *parts, size_t n, arena *mem, key_part **out)
{
    TRY(arena_alloc(mem, out, n, sizeof **out));
    if (n)
        memcpy(*out, parts, n * sizeof **out);
    if (n > 1)
        qsort(*out, n, sizeof **out, by_name);
    for (size_t i = 1; i < n; i++)
        if (strcmp((*out)[i].name, (*out)[i - 1].name) == 0)
            return fail(ST_INTERNAL, "a cell's key has the part '%s' twice", (*out)[i].name);
    return ST_OK;
}

/* Each text with its length, so that no two lists of parts are the same bytes. */
static void add_sized(text *t, const char *s)
{
    if (s)
        text_printf(t, "%zu:%s", strlen(s), s);
    else
        text_add(t, "-");
}

status store_key(const key_part *parts, size_t n, char *hex)
{
    arena mem = {0};
    key_part *at;
    text t = {0};
    status st = ST_OK;
    TRY_DONE(sort_parts(parts, n, &mem, &at));
    text_add(&t, "distill cell 1\n");
    for (size_t i = 0; i < n; i++) {
        add_sized(&t, at[i].name);
        add_sized(&t, at[i].value);
    }
    TRY_DONE(t.st);
    st = hash_sha256_hex(t.s, t.n, hex);
done:
    text_free(&t);
    arena_free(&mem);
    return st;
}

static const char *part_of(const key_part *parts, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(parts[i].name, name) == 0)
            return parts[i].value;
    return NULL;
}

/* ---- open ---- */

/* The store goes on without its file. Only want of memory is passed up. */
static status give_up(store *s, status st, const char *consequence)
{
    if (st == ST_OOM)
        return st;
    if (!atomic_exchange(&s->dead, true))
        log_warn("kept cells of the matrix: %s; %s", status_message(), consequence);
    return ST_OK;
}

status store_path(const char *configured, arena *mem, const char **out)
{
    const char *dir;
    TRY(io_cache_folder(configured, mem, &dir));
    return arena_printf(mem, out, "%s/matrix.sqlite", dir);
}

/* path NULL: none was found, as the recorded message says. */
static status open_at(const char *path, store **out)
{
    store *s;
    *out = NULL;
    TRY(mem_alloc(&s, 1, sizeof *s));
    status st = path ? store_db_open(path, &s->db) : ST_CONFIG;
    if (st != ST_OK)
        st = give_up(s, st, "measuring all anew");
    if (st == ST_OK)
        *out = s;
    else
        store_close(s);
    return st;
}

status store_open(const char *path, store **out)
{
    return open_at(path, out);
}

status store_open_in(const char *configured, store **out)
{
    arena mem = {0};
    const char *path = NULL;
    *out = NULL;
    status st = store_path(configured, &mem, &path);
    if (st == ST_OK || st == ST_CONFIG)
        st = open_at(st == ST_OK ? path : NULL, out);
    arena_free(&mem);
    return st;
}

void store_close(store *s)
{
    if (!s)
        return;
    store_db_close(&s->db);
    mem_free(s);
}

bool store_works(const store *s)
{
    return s && !s->dead;
}

/* ---- cells ---- */

static int64_t check_of(const store_row *r)
{
    text t = {0};
    text_printf(&t, "%" PRId64 " ", r->when);
    add_sized(&t, r->key);
    add_sized(&t, r->runtime);
    add_sized(&t, r->variant);
    add_sized(&t, r->model);
    add_sized(&t, r->parts);
    add_sized(&t, r->cell);
    int64_t check = t.st == ST_OK ? (int64_t)hash_xxh3(t.s, t.n) : ~r->check;
    text_free(&t);
    return check;
}

/* A row's cell; ST_BAD_DATA when the row is not what was written. */
static status read_cell(const store_row *r, arena *mem, matrix_cell *out)
{
    json_in j = {0};
    if (r->check != check_of(r))
        return fail(ST_BAD_DATA, "its check does not hold");
    status st = json_in_parse(&j, "cell", r->cell, strlen(r->cell), CELL_DEPTH);
    if (st == ST_OK)
        st = matrix_cell_get(&j, mem, j.root, out);
    if (st == ST_OK && (!out->key || strcmp(out->key, r->key) != 0))
        st = fail(ST_BAD_DATA, "it is another cell's");
    json_in_close(&j);
    return st;
}

status store_get(store *s, const char *key, arena *mem, matrix_cell *out, bool *hit)
{
    store_row row = {0};
    arena own = {0};
    bool found = false;
    *hit = false;
    if (!store_works(s))
        return ST_OK;
    status st = store_db_find(&s->db, key, &own, &row, &found);
    if (st == ST_OK && found) {
        st = read_cell(&row, mem, out);
        *hit = st == ST_OK;
        if (st == ST_BAD_DATA) {
            log_warn("kept cells of the matrix: %s of %s/%s is damaged (%s); measuring it anew", key, row.runtime, row.variant,
                     status_message());
            st = store_db_remove(&s->db, row.id);
        }
    }
    arena_free(&own);
    return st == ST_OK ? ST_OK : give_up(s, st, "measuring anew from here on");
}

status store_marks(store *s, matrix *m)
{
    for (size_t i = 0; i < m->n_rows * m->n_columns; i++) {
        matrix_cell *c = &m->cells[i], kept;
        bool hit;
        if (c->right || !c->key)
            continue;
        TRY(store_get(s, c->key, &m->mem, &kept, &hit));
        if (hit && kept.images == c->images && kept.correct == c->correct)
            c->right = kept.right;
    }
    return ST_OK;
}

static status parts_text(const key_part *parts, size_t n, text *t)
{
    arena mem = {0};
    key_part *at;
    json j = {.out = t};
    status st = sort_parts(parts, n, &mem, &at);
    if (st == ST_OK) {
        json_put_object(&j, NULL);
        for (size_t i = 0; i < n; i++)
            json_put_string(&j, at[i].name, at[i].value);
        json_end_object(&j);
        st = t->st;
    }
    arena_free(&mem);
    return st;
}

status store_put(store *s, const matrix_cell *cell, const key_part *parts, size_t n)
{
    text body = {0}, said = {0};
    char key[65];
    status st = ST_OK;
    if (!store_works(s))
        return ST_OK;
    TRY_DONE(store_key(parts, n, key));
    if (!cell->key || strcmp(cell->key, key) != 0)
        TRY_DONE(fail(ST_INTERNAL, "the cell %s/%s has another key than its parts", cell->runtime, cell->variant));
    json j = {.out = &body};
    matrix_cell_put(&j, NULL, cell, true);
    TRY_DONE(body.st);
    TRY_DONE(parts_text(parts, n, &said));
    const char *model = part_of(parts, n, "model");
    store_row row = {.key = key, .runtime = cell->runtime, .variant = cell->variant, .model = model ? model : "",
                     .parts = said.s, .cell = body.s, .when = cell->when};
    row.check = check_of(&row);
    st = store_db_add(&s->db, &row, HISTORY_MAX);
    if (st != ST_OK && st != ST_INTERNAL)
        st = give_up(s, st, "nothing is kept from here on");
done:
    text_free(&body);
    text_free(&said);
    return st;
}

status store_clean(store *s)
{
    if (!store_works(s))
        return ST_OK;
    status st = store_db_clean(&s->db);
    return st == ST_OK ? ST_OK : give_up(s, st, "it is as it was");
}

/* ---- history ---- */

/* "version 1.30.0 -> 1.31.1, build a -> b": what is not the same in two objects of parts. */
static status compare_parts(const char *before, const char *after, arena *mem, const char **out)
{
    json_in a = {0}, b = {0};
    text t = {0};
    const char *name;
    json_t *now;
    *out = NULL;
    status st = json_in_parse(&a, "parts", before, strlen(before), 2);
    if (st == ST_OK)
        st = json_in_parse(&b, "parts", after, strlen(after), 2);
    if (st == ST_OK)
        json_object_foreach(b.root, name, now) {
            const char *x = json_string_value(json_object_get(a.root, name)), *y = json_string_value(now);
            x = x ? x : "unknown";
            y = y ? y : "unknown";
            if (strcmp(x, y) != 0)
                text_printf(&t, "%s%.40s %.40s -> %.40s", t.n ? ", " : "", name, x, y);
        }
    if (st == ST_OK)
        st = t.st;
    if (st == ST_OK && t.n)
        st = arena_strdup(mem, out, t.s);
    text_free(&t);
    json_in_close(&a);
    json_in_close(&b);
    return st == ST_BAD_DATA ? ST_OK : st;
}

typedef struct history {
    arena *mem, own;
    history_entry *at;
    size_t n, cap;
    const char *parts; /* of the entry before, which is newer */
} history;

static status take_row(const store_row *r, void *ctx)
{
    history *h = ctx;
    matrix_cell c;
    status st = read_cell(r, h->mem, &c);
    if (st == ST_BAD_DATA)
        return ST_OK;
    TRY(st);
    if (h->n)
        TRY(compare_parts(r->parts, h->parts, h->mem, &h->at[h->n - 1].changed));
    TRY(arena_strdup(&h->own, &h->parts, r->parts));
    TRY(mem_push(&h->at, &h->cap, h->n, sizeof *h->at));
    h->at[h->n++] = (history_entry){.when = r->when, .state = c.state, .version = c.version, .build = c.build, .reason = c.reason,
                                    .output_hash = c.output_hash, .accuracy = c.accuracy, .max_error = c.max_error, .p50_ms = c.p50_ms};
    return ST_OK;
}

status store_history(store *s, const char *runtime, const char *variant, const char *model, arena *mem, history_entry **out,
                     size_t *n)
{
    history h = {.mem = mem};
    *out = NULL;
    *n = 0;
    if (!store_works(s))
        return ST_OK;
    status st = store_db_each(&s->db, runtime, variant, model, take_row, &h);
    if (st == ST_OK && h.n)
        st = arena_alloc(mem, out, h.n, sizeof **out);
    if (st == ST_OK && h.n) {
        memcpy(*out, h.at, h.n * sizeof **out);
        *n = h.n;
    }
    mem_free(h.at);
    arena_free(&h.own);
    return st == ST_OK ? ST_OK : give_up(s, st, "its history is not known");
}

static void day_of(int64_t seconds, char buf[24])
{
    time_t t = (time_t)seconds;
    struct tm utc;
    snprintf(buf, 24, "an unknown day");
    if (gmtime_r(&t, &utc))
        strftime(buf, 24, "%Y-%m-%d", &utc);
}

status history_since(const history_entry *at, size_t n, arena *mem, const char **out)
{
    char day[24];
    size_t same = 1;
    if (n == 0)
        return arena_strdup(mem, out, "never measured before");
    while (same < n && at[same].state == at[0].state)
        same++;
    day_of(at[same - 1].when, day);
    if (same == n)
        return arena_printf(mem, out, "%s in %s%zu measurement%s, since %s", cell_state_name(at[0].state), n > 1 ? "all " : "", n,
                            n > 1 ? "s" : "", day);
    const char *changed = at[same - 1].changed;
    return arena_printf(mem, out, "%s since %s (%s); %s before", cell_state_name(at[0].state), day,
                        changed ? changed : "nothing that it depends on changed", cell_state_name(at[same].state));
}
