/* champion.c - see champion.h. */
#include "matrix/champion.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/json_in.h"

#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SCHEMA      1
#define FILE_MAX    ((uint64_t)4 << 20)
#define HISTORY_MAX 100

/* ---- where ---- */

/* The folder that holds `path`; "" is here. */
static status parent_of(const char *path, arena *mem, const char **out)
{
    char *s;
    TRY(arena_printf(mem, (const char **)&s, "%s", path));
    size_t n = strlen(s);
    while (n > 1 && s[n - 1] == '/')
        s[--n] = 0;
    char *slash = strrchr(s, '/');
    const char *base = slash ? slash + 1 : s;
    if (strcmp(base, ".") == 0 || strcmp(base, "..") == 0 || !*base)
        return arena_printf(mem, out, "%s/../", s);
    if (slash)
        slash[1] = 0;
    else
        s[0] = 0;
    *out = s;
    return ST_OK;
}

status champion_path(const job *j, const char *run_dir, arena *mem, const char **out)
{
    const char *dir;
    if (*j->gate.champion)
        return arena_strdup(mem, out, j->gate.champion);
    TRY(parent_of(run_dir, mem, &dir));
    return arena_printf(mem, out, "%schampion.json", dir);
}

static status beside(const char *path, const char *name, arena *mem, const char **out)
{
    const char *dir;
    TRY(parent_of(path, mem, &dir));
    return arena_printf(mem, out, "%s%s", dir, name);
}

status champion_lock(const char *path, int *fd)
{
    arena mem = {0};
    const char *lock;
    *fd = -1;
    status st = arena_printf(&mem, &lock, "%s.lock", path);
    if (st == ST_OK)
        st = io_lock(lock, fd);
    arena_free(&mem);
    return st;
}

/* ---- in ---- */

/* champion-HEX.json and nothing else: the name comes from a file. */
static bool is_copy_name(const char *name)
{
    size_t n = strlen(name);
    return n > 14 && strncmp(name, "champion-", 9) == 0 && strcmp(name + n - 5, ".json") == 0 &&
           strspn(name + 9, "0123456789abcdef") == n - 14;
}

static status read_json(const char *path, champion *c)
{
    json_in j = {0};
    status st = json_in_open(&j, path, FILE_MAX, 8);
    if (st == ST_OK) {
        int64_t schema = json_in_int(&j, j.root, "schema", 0);
        if (schema != SCHEMA)
            json_in_fail(&j, "schema %lld is not known; this program reads schema %d", (long long)schema, SCHEMA);
        c->run = json_in_string(&j, &c->mem, j.root, "run");
        c->folder = json_in_string(&j, &c->mem, j.root, "folder");
        c->when = json_in_string(&j, &c->mem, j.root, "when");
        c->who = json_in_string(&j, &c->mem, j.root, "who");
        c->host = json_in_string(&j, &c->mem, j.root, "host");
        c->copy = json_in_string(&j, &c->mem, j.root, "matrix");
        c->sha256 = json_in_string(&j, &c->mem, j.root, "matrix_sha256");
        if (!c->copy || !c->sha256 || !is_copy_name(c->copy))
            json_in_fail(&j, "'matrix' must be champion-SHA.json, with its 'matrix_sha256'");
        st = j.st;
    }
    json_in_close(&j);
    return st;
}

status champion_read(const char *path, champion *out)
{
    const char *copy;
    char sha[65];
    *out = (champion){0};
    if (!io_exists(path))
        return ST_OK;
    TRY(read_json(path, out));
    TRY(beside(path, out->copy, &out->mem, &copy));
    status st = hash_sha256_file(copy, sha);
    if (st == ST_NO_INPUT)
        return fail(ST_BAD_DATA, "%s: its figures, %s, are missing; restore them, or remove %s and promote anew", path, copy, path);
    TRY(st);
    if (strcmp(sha, out->sha256) != 0)
        return fail(ST_BAD_DATA, "%s: was changed since it was promoted; restore it, or remove %s and promote anew", copy, path);
    TRY(matrix_read(copy, &out->m));
    out->present = true;
    return ST_OK;
}

void champion_free(champion *c)
{
    matrix_free(&c->m);
    arena_free(&c->mem);
    *c = (champion){0};
}

/* ---- out ---- */

typedef struct signature {
    char when[32], who[64], host[256];
} signature;

static void sign(signature *s)
{
    struct passwd pw, *found = NULL;
    char room[4096];
    time_t now = time(NULL);
    struct tm utc;
    s->when[0] = 0;
    if (gmtime_r(&now, &utc))
        strftime(s->when, sizeof s->when, "%Y-%m-%dT%H:%M:%SZ", &utc);
    if (getpwuid_r(geteuid(), &pw, room, sizeof room, &found) == 0 && found)
        snprintf(s->who, sizeof s->who, "%.60s", found->pw_name);
    else
        snprintf(s->who, sizeof s->who, "user %ld", (long)geteuid());
    if (gethostname(s->host, sizeof s->host) != 0)
        snprintf(s->host, sizeof s->host, "unknown");
    s->host[sizeof s->host - 1] = 0;
}

static void put_person(json *j, const char *run, const char *folder, const char *when, const char *who, const char *host, const char *sha)
{
    json_put_string(j, "run", run);
    json_put_string(j, "folder", folder);
    json_put_string(j, "when", when);
    json_put_string(j, "who", who);
    json_put_string(j, "host", host);
    json_put_string(j, "matrix_sha256", sha);
}

/* The champions before: `before` and those that its own file tells of. */
static status put_history(json *j, const char *path, const champion *before)
{
    json_in old = {0};
    arena mem = {0};
    size_t n = 0;
    json_put_array(j, "history");
    if (before->present) {
        json_put_object(j, NULL);
        put_person(j, before->run, before->folder, before->when, before->who, before->host, before->sha256);
        json_end_object(j);
        TRY(json_in_open(&old, path, FILE_MAX, 8));
        json_t *past = json_in_array(&old, old.root, "history", &n);
        for (size_t i = 0; past && i < n && i + 1 < HISTORY_MAX; i++) {
            json_t *o = json_array_get(past, i);
            if (!json_is_object(o))
                continue;
            json_put_object(j, NULL);
            put_person(j, json_in_string(&old, &mem, o, "run"), json_in_string(&old, &mem, o, "folder"), json_in_string(&old, &mem, o, "when"),
                       json_in_string(&old, &mem, o, "who"), json_in_string(&old, &mem, o, "host"), json_in_string(&old, &mem, o, "matrix_sha256"));
            json_end_object(j);
        }
    }
    json_end_array(j);
    status st = old.st;
    json_in_close(&old);
    arena_free(&mem);
    return st;
}

static void put_rules(json *j, const gate_result *g)
{
    json_put_array(j, "rules");
    for (size_t i = 0; i < g->n; i++)
        if (i == 0 || g->margins[i].rule != g->margins[i - 1].rule)
            json_put_string(j, NULL, g->margins[i].rule);
    json_end_array(j);
}

static void put_models(json *j, const matrix *m)
{
    json_put_array(j, "models");
    for (size_t i = 0; i < m->n_columns; i++)
        for (size_t k = 0; k < m->columns[i].n_files; k++) {
            const matrix_file *f = &m->columns[i].files[k];
            json_put_object(j, NULL);
            json_put_string(j, "variant", m->columns[i].variant);
            json_put_string(j, "path", f->path);
            json_put_int(j, "bytes", f->bytes);
            json_put_string(j, "sha256", f->sha256);
            json_end_object(j);
        }
    json_end_array(j);
}

static status write_json(const char *path, const char *run_dir, const char *copy, const char *sha, const matrix *m, const gate_result *g,
                         const champion *before)
{
    signature s;
    text t = {0};
    json j = {.out = &t, .pretty = true};
    sign(&s);
    json_put_object(&j, NULL);
    json_put_int(&j, "schema", SCHEMA);
    put_person(&j, m->run ? m->run : run_dir, run_dir, s.when, s.who, s.host, sha);
    json_put_string(&j, "matrix", copy);
    json_put_string(&j, "version", DISTILL_VERSION);
    put_rules(&j, g);
    put_models(&j, m);
    status st = put_history(&j, path, before);
    json_end_object(&j);
    text_add(&t, "\n");
    if (st == ST_OK)
        st = t.st == ST_OK ? io_write_file(path, t.s, t.n) : t.st;
    text_free(&t);
    return st;
}

status champion_promote(const char *path, const char *run_dir, const matrix *m, const gate_result *g, const champion *before)
{
    arena mem = {0};
    const char *fresh, *name, *copy, *old;
    char sha[65];
    status st = ST_OK;
    TRY_DONE(arena_printf(&mem, &fresh, "%s.new", path));
    TRY_DONE(matrix_write(fresh, m)); /* to know its hash, which is its name */
    TRY_DONE(hash_sha256_file(fresh, sha));
    TRY_DONE(arena_printf(&mem, &name, "champion-%.16s.json", sha));
    TRY_DONE(beside(path, name, &mem, &copy));
    TRY_DONE(matrix_write(copy, m));
    TRY_DONE(io_remove(fresh));
    TRY_DONE(write_json(path, run_dir, name, sha, m, g, before));
    if (before->present && strcmp(before->copy, name) != 0) {
        TRY_DONE(beside(path, before->copy, &mem, &old));
        st = io_remove(old);
    }
done:
    arena_free(&mem);
    return st;
}
