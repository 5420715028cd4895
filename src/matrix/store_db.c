/* store_db.c - see store_db.h. */
#include "matrix/store_db.h"
#include "base/io.h"
#include "base/log.h"
#include "base/text.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <string.h>
#include <time.h>

#define BUSY_MS     20000
#define TRY_MS      20 /* between attempts where SQLite does not wait by itself */
#define TRIES       1000
#define VERSION     1
#define APPLICATION 0x44534d31 /* "DSM1", in the file's head */
#define BYTES_MAX   ((int64_t)256 << 20) /* of all rows; beyond it an eighth of them, the oldest, goes */
#define ROW_MAX     (64 << 20)

static const char table_sql[] =
    "CREATE TABLE cell(id INTEGER PRIMARY KEY, key TEXT NOT NULL, runtime TEXT NOT NULL, variant TEXT NOT NULL, "
    "model TEXT NOT NULL, parts TEXT NOT NULL, cell TEXT NOT NULL, at INTEGER NOT NULL, \"check\" INTEGER NOT NULL)";
static const char key_sql[] = "CREATE INDEX cell_key ON cell(key)";
static const char name_sql[] = "CREATE INDEX cell_name ON cell(runtime, variant, model)";

/* ---- memory: SQLite's blocks come from mem.h, with their size in front ---- */

#define BLOCK_HEAD 16

static void *block_alloc(int n)
{
    char *p;
    if (mem_alloc(&p, (size_t)n + BLOCK_HEAD, 1) != ST_OK)
        return NULL;
    memcpy(p, &n, sizeof n);
    return p + BLOCK_HEAD;
}

static void block_free(void *p)
{
    mem_free(p ? (char *)p - BLOCK_HEAD : NULL);
}

static void *block_resize(void *old, int n)
{
    char *p = (char *)old - BLOCK_HEAD;
    if (mem_grow(&p, (size_t)n + BLOCK_HEAD, 1) != ST_OK)
        return NULL;
    memcpy(p, &n, sizeof n);
    return p + BLOCK_HEAD;
}

static int block_size(void *p)
{
    int n = 0;
    if (p)
        memcpy(&n, (char *)p - BLOCK_HEAD, sizeof n);
    return n;
}

static int block_round(int n)
{
    return (n + 7) & ~7;
}

static int block_begin(void *ctx)
{
    (void)ctx;
    return SQLITE_OK;
}

static void block_end(void *ctx)
{
    (void)ctx;
}

static void configure(void)
{
    static const sqlite3_mem_methods blocks = {block_alloc, block_free,  block_resize, block_size,
                                               block_round, block_begin, block_end,    NULL};
    (void)sqlite3_config(SQLITE_CONFIG_MALLOC, &blocks); /* refused where something else began SQLite: then its own serve */
    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

/* ---- calls ---- */

static status db_fail(const store_db *d, int code)
{
    int kind = code & 0xff;
    if (kind == SQLITE_NOMEM)
        return fail(ST_OOM, "out of memory in the cache of the matrix");
    if (kind == SQLITE_CORRUPT || kind == SQLITE_NOTADB)
        return fail(ST_BAD_DATA, "%s: damaged: %s", d->path, sqlite3_errstr(code));
    return fail(kind == SQLITE_BUSY || kind == SQLITE_LOCKED ? ST_STOPPED : ST_IO, "%s: %s", d->path,
                d->db ? sqlite3_errmsg(d->db) : sqlite3_errstr(code));
}

static status run_sql(const store_db *d, const char *sql)
{
    int code = sqlite3_exec(d->db, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? ST_OK : db_fail(d, code);
}

static status prepare(const store_db *d, const char *sql, sqlite3_stmt **out)
{
    int code = sqlite3_prepare_v2(d->db, sql, -1, out, NULL);
    return code == SQLITE_OK ? ST_OK : db_fail(d, code);
}

/* The next row; *row false: there is none. */
static status step(const store_db *d, sqlite3_stmt *q, bool *row)
{
    int code = sqlite3_step(q);
    *row = code == SQLITE_ROW;
    return code == SQLITE_ROW || code == SQLITE_DONE ? ST_OK : db_fail(d, code);
}

static status bind_text(const store_db *d, sqlite3_stmt *q, int at, const char *s)
{
    int code = s ? sqlite3_bind_text(q, at, s, -1, SQLITE_STATIC) : sqlite3_bind_null(q, at);
    return code == SQLITE_OK ? ST_OK : db_fail(d, code);
}

static status bind_int(const store_db *d, sqlite3_stmt *q, int at, int64_t v)
{
    int code = sqlite3_bind_int64(q, at, v);
    return code == SQLITE_OK ? ST_OK : db_fail(d, code);
}

/* One number. */
static status ask(const store_db *d, const char *sql, int64_t *out)
{
    sqlite3_stmt *q = NULL;
    bool row;
    status st = prepare(d, sql, &q);
    if (st == ST_OK)
        st = step(d, q, &row);
    if (st == ST_OK)
        *out = row ? sqlite3_column_int64(q, 0) : 0;
    (void)sqlite3_finalize(q);
    return st;
}

/* Is a statement's first answer this text? */
static status answers(const store_db *d, const char *sql, const char *want, bool *out)
{
    sqlite3_stmt *q = NULL;
    bool row;
    status st = prepare(d, sql, &q);
    if (st == ST_OK)
        st = step(d, q, &row);
    if (st == ST_OK) {
        const char *have = row ? (const char *)sqlite3_column_text(q, 0) : NULL;
        *out = have && strcmp(have, want) == 0;
    }
    (void)sqlite3_finalize(q);
    return st;
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = TRY_MS * 1000000L}, NULL);
}

/* ---- opening ---- */

static status settle(const store_db *d)
{
    (void)sqlite3_busy_timeout(d->db, BUSY_MS);
    (void)sqlite3_limit(d->db, SQLITE_LIMIT_LENGTH, ROW_MAX);
    (void)sqlite3_db_config(d->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(d->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    (void)sqlite3_db_config(d->db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    TRY(run_sql(d, "PRAGMA trusted_schema = OFF"));
    TRY(run_sql(d, "PRAGMA cell_size_check = ON"));
    TRY(run_sql(d, "PRAGMA mmap_size = 0")); /* a file that shrinks is an error, not a signal */
    TRY(run_sql(d, "PRAGMA journal_mode = WAL"));
    return run_sql(d, "PRAGMA synchronous = NORMAL"); /* a power cut may cost the last rows, never the file */
}

/* The file is ours and of this version, or empty. */
static status check_file(const store_db *d, bool *empty)
{
    int64_t objects, ours = 0, version, application;
    text sql = {0};
    bool whole;
    TRY(answers(d, "PRAGMA quick_check(1)", "ok", &whole));
    if (!whole)
        return fail(ST_BAD_DATA, "%s: damaged", d->path);
    TRY(ask(d, "PRAGMA user_version", &version));
    TRY(ask(d, "PRAGMA application_id", &application));
    TRY(ask(d, "SELECT count(*) FROM sqlite_schema", &objects));
    *empty = objects == 0;
    if (*empty)
        return ST_OK;
    if (application != APPLICATION) /* somebody's database: not ours to begin anew */
        return fail(ST_IO, "%s: not a file of this program", d->path);
    if (version > VERSION)
        return fail(ST_IO, "%s: a later version of distill made it", d->path);
    text_printf(&sql, "SELECT count(*) FROM sqlite_schema WHERE sql IN ('%s', '%s', '%s')", table_sql, key_sql, name_sql);
    status st = sql.st == ST_OK ? ask(d, sql.s, &ours) : sql.st;
    text_free(&sql);
    TRY(st);
    if (objects != 3 || ours != 3)
        return fail(ST_BAD_DATA, "%s: damaged: its tables are not what this program made", d->path);
    return ST_OK;
}

/* Under SQLite's write lock, so that one of several processes makes the tables. */
static status make_tables(const store_db *d)
{
    bool empty;
    TRY(run_sql(d, "BEGIN IMMEDIATE"));
    status st = check_file(d, &empty);
    if (st == ST_OK && empty) {
        text t = {0};
        text_printf(&t, "%s; %s; %s; PRAGMA user_version = %d; PRAGMA application_id = %d", table_sql, key_sql, name_sql, VERSION,
                    APPLICATION);
        st = t.st == ST_OK ? run_sql(d, t.s) : t.st;
        text_free(&t);
    }
    if (st == ST_OK)
        st = run_sql(d, "COMMIT");
    if (st != ST_OK)
        (void)sqlite3_exec(d->db, "ROLLBACK", NULL, NULL, NULL);
    return st;
}

static void shut(store_db *d)
{
    (void)sqlite3_close_v2(d->db);
    d->db = NULL;
}

static status open_once(store_db *d)
{
    bool empty;
    int code = sqlite3_open_v2(d->path, &d->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX, NULL);
    status st = code == SQLITE_OK ? ST_OK : db_fail(d, code);
    if (st == ST_OK)
        st = settle(d);
    if (st == ST_OK)
        st = check_file(d, &empty);
    if (st == ST_OK && empty)
        st = make_tables(d);
    if (st != ST_OK)
        shut(d);
    return st;
}

/* SQLite waits for other processes by itself, but not while they change the journal's mode. */
static status open_file(store_db *d)
{
    status st = open_once(d);
    for (int i = 0; i < TRIES && st == ST_STOPPED; i++) {
        nap();
        st = open_once(d);
    }
    return st;
}

/* Makes a damaged file an empty database in place, under SQLite's locks: moving it away would tear the journal from under
 * other processes. */
static status reset_file(store_db *d)
{
    int code = sqlite3_open_v2(d->path, &d->db, SQLITE_OPEN_READWRITE, NULL);
    status st = code == SQLITE_OK ? ST_OK : db_fail(d, code);
    if (st == ST_OK) {
        (void)sqlite3_busy_timeout(d->db, BUSY_MS);
        (void)sqlite3_db_config(d->db, SQLITE_DBCONFIG_RESET_DATABASE, 1, NULL);
        st = run_sql(d, "VACUUM");
        (void)sqlite3_db_config(d->db, SQLITE_DBCONFIG_RESET_DATABASE, 0, NULL);
    }
    shut(d);
    return st;
}

/* One process does it; the others find a whole file when they get the lock. */
static status open_anew(store_db *d)
{
    text path = {0};
    int lock = -1;
    text_printf(&path, "%s.lock", d->path);
    status st = path.st == ST_OK ? io_lock(path.s, &lock) : path.st;
    for (int i = 0; i < TRIES && st == ST_STOPPED; i++) {
        nap();
        st = io_lock(path.s, &lock);
    }
    if (st == ST_OK)
        st = open_file(d);
    if (st == ST_BAD_DATA) {
        log_warn("kept cells of the matrix: %s; it is begun anew", status_message());
        st = reset_file(d);
        if (st == ST_OK)
            st = open_file(d);
    }
    io_close(lock);
    text_free(&path);
    return st;
}

static status make_folder(const char *path)
{
    char *dir;
    TRY(mem_strdup(&dir, path));
    char *slash = strrchr(dir, '/');
    status st = ST_OK;
    if (slash && slash > dir) {
        *slash = 0;
        st = io_make_dirs(dir);
    }
    mem_free(dir);
    return st;
}

status store_db_open(const char *path, store_db *out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, configure);
    *out = (store_db){0};
    TRY(make_folder(path));
    TRY(mem_strdup(&out->path, path));
    (void)pthread_mutex_init(&out->lock, NULL);
    status st = open_file(out);
    if (st == ST_BAD_DATA)
        st = open_anew(out);
    if (st != ST_OK)
        store_db_close(out);
    return st;
}

void store_db_close(store_db *d)
{
    if (!d->path)
        return;
    shut(d);
    (void)pthread_mutex_destroy(&d->lock);
    mem_free(d->path);
    d->path = NULL;
}

/* ---- rows ---- */

#define COLUMNS "id, at, \"check\", key, runtime, variant, model, parts, cell"

/* Texts live until the next step. A text is never NULL (the columns are NOT NULL), unless memory is short. */
static status read_row(const store_db *d, sqlite3_stmt *q, store_row *r)
{
    const char *texts[6];
    for (int i = 0; i < 6; i++) {
        texts[i] = (const char *)sqlite3_column_text(q, 3 + i);
        if (!texts[i])
            return db_fail(d, SQLITE_NOMEM);
    }
    *r = (store_row){.id = sqlite3_column_int64(q, 0), .when = sqlite3_column_int64(q, 1), .check = sqlite3_column_int64(q, 2),
                     .key = texts[0], .runtime = texts[1], .variant = texts[2], .model = texts[3], .parts = texts[4], .cell = texts[5]};
    return ST_OK;
}

static status copy_row(const store_row *from, arena *mem, store_row *to)
{
    *to = *from;
    TRY(arena_strdup(mem, &to->key, from->key));
    TRY(arena_strdup(mem, &to->runtime, from->runtime));
    TRY(arena_strdup(mem, &to->variant, from->variant));
    TRY(arena_strdup(mem, &to->model, from->model));
    TRY(arena_strdup(mem, &to->parts, from->parts));
    return arena_strdup(mem, &to->cell, from->cell);
}

status store_db_find(store_db *d, const char *key, arena *mem, store_row *out, bool *found)
{
    sqlite3_stmt *q = NULL;
    store_row row;
    status st = ST_OK;
    *found = false;
    (void)pthread_mutex_lock(&d->lock);
    TRY_DONE(prepare(d, "SELECT " COLUMNS " FROM cell WHERE key = ?1 ORDER BY id DESC LIMIT 1", &q));
    TRY_DONE(bind_text(d, q, 1, key));
    TRY_DONE(step(d, q, found));
    if (*found)
        TRY_DONE(read_row(d, q, &row));
    if (*found)
        st = copy_row(&row, mem, out);
done:
    (void)sqlite3_finalize(q);
    (void)pthread_mutex_unlock(&d->lock);
    return st;
}

status store_db_remove(store_db *d, int64_t id)
{
    sqlite3_stmt *q = NULL;
    bool row;
    status st = ST_OK;
    (void)pthread_mutex_lock(&d->lock);
    TRY_DONE(prepare(d, "DELETE FROM cell WHERE id = ?1", &q));
    TRY_DONE(bind_int(d, q, 1, id));
    st = step(d, q, &row);
done:
    (void)sqlite3_finalize(q);
    (void)pthread_mutex_unlock(&d->lock);
    return st;
}

static status insert(const store_db *d, const store_row *r)
{
    const char *texts[6] = {r->key, r->runtime, r->variant, r->model, r->parts, r->cell};
    sqlite3_stmt *q = NULL;
    bool row;
    status st = ST_OK;
    TRY_DONE(prepare(d, "INSERT INTO cell(at, \"check\", key, runtime, variant, model, parts, cell) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)", &q));
    TRY_DONE(bind_int(d, q, 1, r->when));
    TRY_DONE(bind_int(d, q, 2, r->check));
    for (int i = 0; i < 6; i++)
        TRY_DONE(bind_text(d, q, 3 + i, texts[i]));
    st = step(d, q, &row);
done:
    (void)sqlite3_finalize(q);
    return st;
}

static status forget_old(const store_db *d, const store_row *r, int keep)
{
    sqlite3_stmt *q = NULL;
    bool row;
    int64_t pages, unused, size;
    status st = ST_OK;
    TRY_DONE(prepare(d, "DELETE FROM cell WHERE runtime = ?1 AND variant = ?2 AND model = ?3 AND id NOT IN "
                        "(SELECT id FROM cell WHERE runtime = ?1 AND variant = ?2 AND model = ?3 ORDER BY id DESC LIMIT ?4)", &q));
    TRY_DONE(bind_text(d, q, 1, r->runtime));
    TRY_DONE(bind_text(d, q, 2, r->variant));
    TRY_DONE(bind_text(d, q, 3, r->model));
    TRY_DONE(bind_int(d, q, 4, keep));
    TRY_DONE(step(d, q, &row));
    TRY_DONE(ask(d, "PRAGMA page_count", &pages));
    TRY_DONE(ask(d, "PRAGMA freelist_count", &unused));
    TRY_DONE(ask(d, "PRAGMA page_size", &size));
    if ((pages - unused) * size > BYTES_MAX)
        st = run_sql(d, "DELETE FROM cell WHERE id IN (SELECT id FROM cell ORDER BY id LIMIT (SELECT count(*) / 8 + 1 FROM cell))");
done:
    (void)sqlite3_finalize(q);
    return st;
}

status store_db_add(store_db *d, const store_row *r, int keep)
{
    status st = ST_OK;
    (void)pthread_mutex_lock(&d->lock);
    TRY_DONE(run_sql(d, "BEGIN IMMEDIATE"));
    st = insert(d, r);
    if (st == ST_OK)
        st = forget_old(d, r, keep);
    if (st == ST_OK)
        st = run_sql(d, "COMMIT");
    if (st != ST_OK)
        (void)sqlite3_exec(d->db, "ROLLBACK", NULL, NULL, NULL); /* after some failures SQLite did it already */
done:
    (void)pthread_mutex_unlock(&d->lock);
    return st;
}

status store_db_each(store_db *d, const char *runtime, const char *variant, const char *model,
                     status (*take)(const store_row *r, void *ctx), void *ctx)
{
    sqlite3_stmt *q = NULL;
    store_row row;
    bool more;
    status st = ST_OK;
    (void)pthread_mutex_lock(&d->lock);
    TRY_DONE(prepare(d, "SELECT " COLUMNS " FROM cell WHERE runtime = ?1 AND variant = ?2 AND (?3 IS NULL OR model = ?3) "
                        "ORDER BY at DESC, id DESC", &q));
    TRY_DONE(bind_text(d, q, 1, runtime));
    TRY_DONE(bind_text(d, q, 2, variant));
    TRY_DONE(bind_text(d, q, 3, model));
    for (;;) {
        TRY_DONE(step(d, q, &more));
        if (!more)
            break;
        TRY_DONE(read_row(d, q, &row));
        TRY_DONE(take(&row, ctx));
    }
done:
    (void)sqlite3_finalize(q);
    (void)pthread_mutex_unlock(&d->lock);
    return st;
}

status store_db_clean(store_db *d)
{
    (void)pthread_mutex_lock(&d->lock);
    status st = run_sql(d, "DELETE FROM cell");
    if (st == ST_OK) /* the room goes back to the system where nobody else reads just now */
        (void)sqlite3_exec(d->db, "VACUUM; PRAGMA wal_checkpoint(TRUNCATE)", NULL, NULL, NULL);
    (void)pthread_mutex_unlock(&d->lock);
    return st;
}
