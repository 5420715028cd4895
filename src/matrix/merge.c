/* merge.c - see merge.h. Whatever the file says becomes a path only after it was found to be 32 hex digits. */
#include "matrix/merge.h"

#include "base/base64.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/json_in.h"
#include "matrix/pack.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define HEAD       "{\"signature\": \""
#define HEAD_BYTES (sizeof HEAD - 1)
enum { OUTPUT_LIMIT = 1 << 28, LATENCY_LIMIT = 100000, NAME_LIMIT = 200 };

typedef struct merging {
    const char *path;
    merge_result *r;
    unsigned char *bytes;
    size_t n;
    json_in in, kept; /* the result; the manifest at home */
} merging;

static bool is_hex(const char *s, size_t n)
{
    return s && strlen(s) == n && strspn(s, "0123456789abcdef") == n;
}

/* A string that is there, of bounded length, without control characters; NULL after a failure. */
static const char *plain(merging *m, json_in *in, json_t *o, const char *key)
{
    const char *s = json_in_string(in, &m->r->mem, o, key);
    for (size_t i = 0; s && s[i]; i++)
        if ((unsigned char)s[i] < ' ' || s[i] == 0x7f || i >= 4 * NAME_LIMIT) {
            json_in_fail(in, "'%s' is too long or has control characters", key);
            return NULL;
        }
    return s;
}

/* ---- the signature ---- */

static status check_signature(merging *m)
{
    char zeros[HEAD_BYTES + 64], found[65], want[65];
    unsigned char key[32];
    const char *hex = json_in_string(&m->kept, &m->r->mem, m->kept.root, "key");
    TRY(m->kept.st);
    if (!is_hex(hex, 64))
        return fail(ST_BAD_DATA, "%s: its key is damaged", m->kept.name);
    for (size_t i = 0; i < 32; i++) {
        unsigned v = 0;
        (void)sscanf(hex + 2 * i, "%2x", &v); /* hex digits, as checked */
        key[i] = (unsigned char)v;
    }
    memcpy(found, m->bytes + HEAD_BYTES, 64);
    found[64] = 0;
    memcpy(zeros, HEAD, HEAD_BYTES);
    memset(zeros + HEAD_BYTES, '0', 64);
    TRY(hash_hmac_hex(key, sizeof key, zeros, sizeof zeros, m->bytes + sizeof zeros, m->n - sizeof zeros, want));
    if (strcmp(found, want) != 0)
        return fail(ST_BAD_DATA,
                    "%s: its signature does not hold: the file was changed after the run, or damaged on the way; run the pack again or copy "
                    "result.json again", m->path);
    return ST_OK;
}

/* ---- the head ---- */

static status open_manifest(merging *m, const char *run_dir)
{
    const char *kept;
    char sha[65];
    TRY(arena_printf(&m->r->mem, &kept, "%s/%s/%s.json", run_dir, PACK_FOLDER, m->r->id));
    if (!io_exists(kept))
        return fail(ST_BAD_DATA, "%s: is of pack %s, which %s did not make; merge it into the run that was packed", m->path, m->r->id, run_dir);
    TRY(json_in_open(&m->kept, kept, 1 << 26, 32));
    TRY(check_signature(m));
    TRY(hash_sha256_file(kept, sha));
    const char *said = json_in_string(&m->in, &m->r->mem, m->in.root, "manifest_sha256");
    TRY(m->in.st);
    if (!said || strcmp(said, sha) != 0)
        return fail(ST_BAD_DATA, "%s: was made with another manifest.json than was packed", m->path);
    return ST_OK;
}

static status read_head(merging *m)
{
    json_in *j = &m->in;
    const char *format = json_in_string(j, &m->r->mem, j->root, "format");
    int64_t schema = json_in_int(j, j->root, "schema", -1), protocol = json_in_int(j, j->root, "protocol", -1);
    m->r->id = json_in_string(j, &m->r->mem, j->root, "pack");
    TRY(j->st);
    if (!format || strcmp(format, "distill matrix result") != 0 || !is_hex(m->r->id, 32))
        return fail(ST_BAD_DATA, "%s: not a result of run_pack.py", m->path);
    if (schema != PACK_SCHEMA || protocol != PACK_PROTOCOL)
        return fail(ST_BAD_DATA, "%s: schema %" PRId64 ", protocol %" PRId64 "; this program reads schema %d, protocol %d: pack the run again",
                    m->path, schema, protocol, PACK_SCHEMA, PACK_PROTOCOL);
    return ST_OK;
}

static status read_host(merging *m)
{
    json_in *j = &m->in;
    json_t *o = json_in_object(j, j->root, "host");
    merge_host *h = &m->r->host;
    h->name = plain(m, j, o, "name");
    h->system = plain(m, j, o, "system");
    h->machine = plain(m, j, o, "machine");
    h->cpu = plain(m, j, o, "cpu");
    h->cores = (int)json_in_int(j, o, "cores", 0);
    h->memory = json_in_int(j, o, "memory", 0);
    m->r->target = plain(m, j, j->root, "target");
    const char *version = plain(m, j, j->root, "version"), *packed = plain(m, &m->kept, m->kept.root, "version");
    TRY(j->st);
    TRY(m->kept.st);
    if (!h->name || !*h->name || !h->cpu || !h->system)
        return fail(ST_BAD_DATA, "%s: does not say which machine it comes from", m->path);
    if (!version || !packed || strcmp(version, packed) != 0)
        return fail(ST_BAD_DATA, "%s: was made by version %s, the pack by %s", m->path, version ? version : "?", packed ? packed : "?");
    return ST_OK;
}

/* ---- cells ---- */

/* The element of manifest's array `list` whose `key` is `name`; NULL: none. */
static json_t *find_packed(merging *m, json_t *of, const char *list, const char *key, const char *name)
{
    size_t n;
    json_t *a = json_in_array(&m->kept, of, list, &n);
    for (size_t i = 0; i < n; i++) {
        json_t *o = json_array_get(a, i);
        const char *has = json_string_value(json_object_get(o, key));
        if (has && name && strcmp(has, name) == 0)
            return o;
    }
    return NULL;
}

static status check_packed(merging *m, json_t *o, merge_cell *c)
{
    json_t *column = find_packed(m, m->kept.root, "columns", "variant", c->variant);
    if (!column || !find_packed(m, m->kept.root, "rows", "runtime", c->runtime))
        return fail(ST_BAD_DATA, "%s: a cell of a row or column that was not packed", m->path);
    if (!c->form)
        return ST_OK; /* it says that there was no file for it */
    json_t *file = find_packed(m, column, "files", "form", c->form), *input = json_in_object(&m->kept, column, "input");
    const char *model = json_in_string(&m->kept, &m->r->mem, file, "sha256"), *x = json_in_string(&m->kept, &m->r->mem, input, "sha256");
    int64_t samples = json_in_int(&m->in, o, "samples", -1), most = json_in_int(&m->kept, column, "samples", 0);
    c->model_sha256 = json_in_string(&m->in, &m->r->mem, o, "model_sha256");
    c->input_sha256 = json_in_string(&m->in, &m->r->mem, o, "input_sha256");
    TRY(m->kept.st);
    TRY(m->in.st);
    if (!model || !c->model_sha256 || strcmp(model, c->model_sha256) != 0)
        return fail(ST_BAD_DATA, "%s: cell %s, %s: it ran another model than was packed", m->path, c->runtime, c->variant);
    if (!x || !c->input_sha256 || strcmp(x, c->input_sha256) != 0)
        return fail(ST_BAD_DATA, "%s: cell %s, %s: it ran on other inputs than were packed", m->path, c->runtime, c->variant);
    if (samples < 1 || samples > most)
        return fail(ST_BAD_DATA, "%s: cell %s, %s: %" PRId64 " samples; 1 to %" PRId64 " were packed", m->path, c->runtime, c->variant, samples,
                    most);
    c->samples = (size_t)samples;
    if (strcmp(c->form, "ncnn") != 0)
        return ST_OK;
    const char *param = json_in_string(&m->kept, &m->r->mem, file, "path"), *bin;
    TRY(m->kept.st);
    size_t n = param ? strlen(param) : 0;
    TRY(arena_printf(&m->r->mem, &bin, "%.*s.bin", (int)(n > 6 ? n - 6 : 0), param ? param : ""));
    c->bin_sha256 = json_in_string(&m->kept, &m->r->mem, find_packed(m, m->kept.root, "files", "path", bin), "sha256");
    return m->kept.st;
}

static status read_shape(merging *m, json_t *o, const merge_cell *c, shape *sh)
{
    size_t n;
    json_t *a = json_in_array(&m->in, o, "shape", &n);
    bool ok = a && n >= 1 && n <= RANK_MAX;
    *sh = (shape){.rank = ok ? (int32_t)n : 0};
    for (size_t i = 0; ok && i < n; i++) {
        json_t *v = json_array_get(a, i);
        sh->dim[i] = json_is_integer(v) ? (int64_t)json_integer_value(v) : -1;
        ok = sh->dim[i] >= 1;
    }
    if (!ok || (size_t)sh->dim[0] != c->samples)
        return fail(ST_BAD_DATA, "%s: cell %s, %s: the shape of its outputs is not [%zu, ...]", m->path, c->runtime, c->variant, c->samples);
    return ST_OK;
}

static status read_output(merging *m, json_t *cell, merge_cell *c)
{
    json_t *o = json_in_object(&m->in, cell, "output");
    const char *type = plain(m, &m->in, o, "type"), *sha = json_in_string(&m->in, &m->r->mem, o, "sha256");
    json_t *data = o ? json_object_get(o, "data") : NULL;
    char found[65];
    size_t bytes;
    TRY(m->in.st);
    for (int t = 1; type && t < DTYPE_COUNT; t++)
        if (strcmp(dtype_of((dtype)t)->name, type) == 0)
            c->y.type = (dtype)t;
    if (c->y.type != DTYPE_F32 && c->y.type != DTYPE_I8 && c->y.type != DTYPE_U8)
        return fail(ST_BAD_DATA, "%s: cell %s, %s: outputs of type %s", m->path, c->runtime, c->variant, type ? type : "?");
    TRY(read_shape(m, o, c, &c->y.sh));
    TRY(shape_bytes(&c->y.sh, c->y.type, &bytes));
    if (!json_is_string(data) || bytes > OUTPUT_LIMIT || json_string_length(data) != (bytes + 2) / 3 * 4)
        return fail(ST_BAD_DATA, "%s: cell %s, %s: its outputs are not as many as their shape says", m->path, c->runtime, c->variant);
    TRY(arena_alloc(&m->r->mem, &c->y.data, bytes, 1));
    TRY(base64_decode(m->path, json_string_value(data), c->y.data, bytes));
    TRY(hash_sha256_hex(c->y.data, bytes, found));
    if (!sha || strcmp(sha, found) != 0)
        return fail(ST_BAD_DATA, "%s: cell %s, %s: its outputs are not what their hash says", m->path, c->runtime, c->variant);
    return ST_OK;
}

/* "CPUExecutionProvider 23, ..." */
static status read_providers(merging *m, json_t *answer, merge_cell *c)
{
    text t = {0};
    size_t n;
    json_t *a = json_in_array(&m->in, answer, "providers", &n);
    for (size_t i = 0; i < n && i < 16; i++) {
        json_t *o = json_array_get(a, i);
        const char *name = plain(m, &m->in, o, "name");
        int64_t nodes = json_in_int(&m->in, o, "nodes", -1);
        text_printf(&t, "%s%s", i ? ", " : "", name ? name : "?");
        if (nodes >= 0)
            text_printf(&t, " %" PRId64, nodes);
    }
    status st = t.st != ST_OK ? t.st : m->in.st;
    if (st == ST_OK && t.n)
        st = arena_strdup(&m->r->mem, &c->providers, t.s);
    text_free(&t);
    return st;
}

static status read_notes(merging *m, json_t *answer, merge_cell *c)
{
    text t = {0};
    size_t n;
    json_t *a = json_in_array(&m->in, answer, "notes", &n);
    for (size_t i = 0; i < n && i < 16; i++)
        text_printf(&t, "%s%.*s", i ? "; " : "", 4 * NAME_LIMIT, json_is_string(json_array_get(a, i)) ? json_string_value(json_array_get(a, i)) : "?");
    status st = t.st;
    if (st == ST_OK && t.n)
        st = arena_strdup(&m->r->mem, &c->notes, t.s);
    text_free(&t);
    return st;
}

static status read_latency(merging *m, json_t *answer, merge_cell *c)
{
    size_t n;
    json_t *a = json_in_array(&m->in, answer, "latency_ms", &n);
    double *v;
    if (n > LATENCY_LIMIT)
        return fail(ST_BAD_DATA, "%s: cell %s, %s: %zu latencies", m->path, c->runtime, c->variant, n);
    TRY(arena_alloc(&m->r->mem, &v, n, sizeof *v));
    for (size_t i = 0; i < n; i++) {
        v[i] = json_number_value(json_array_get(a, i));
        if (!json_is_number(json_array_get(a, i)) || !(v[i] >= 0))
            return fail(ST_BAD_DATA, "%s: cell %s, %s: a latency that is no time", m->path, c->runtime, c->variant);
    }
    c->latency_ms = v;
    c->n_latency = n;
    return ST_OK;
}

static status read_cell(merging *m, json_t *o, merge_cell *c)
{
    json_in *j = &m->in;
    *c = (merge_cell){.runtime = plain(m, j, o, "runtime"), .variant = plain(m, j, o, "variant"), .form = plain(m, j, o, "form")};
    json_t *answer = json_in_object(j, o, "answer");
    c->ok = json_in_bool(j, answer, "ok", false);
    c->kind = plain(m, j, answer, "kind");
    c->message = plain(m, j, answer, "message");
    c->engine = plain(m, j, answer, "runtime");
    c->version = plain(m, j, answer, "version");
    c->build = plain(m, j, answer, "build");
    c->device = plain(m, j, answer, "device");
    c->isa = plain(m, j, answer, "isa");
    c->log = json_in_string(j, &m->r->mem, o, "log");
    c->load_ms = json_in_number(j, answer, "load_ms");
    c->run_s = json_in_number(j, answer, "run_s");
    c->peak_mb = json_in_number(j, answer, "peak_mb");
    c->seconds = json_in_number(j, o, "seconds");
    c->when = json_in_int(j, o, "when", 0);
    TRY(j->st);
    if (!c->runtime || !c->variant || !answer)
        return fail(ST_BAD_DATA, "%s: a cell without runtime, variant or answer", m->path);
    for (merge_cell *b = m->r->cells; b < c; b++)
        if (strcmp(b->runtime, c->runtime) == 0 && strcmp(b->variant, c->variant) == 0)
            return fail(ST_BAD_DATA, "%s: cell %s, %s is there twice", m->path, c->runtime, c->variant);
    TRY(check_packed(m, o, c));
    TRY(read_providers(m, answer, c));
    TRY(read_notes(m, answer, c));
    TRY(read_latency(m, answer, c));
    if (!c->ok)
        return ST_OK;
    if (!c->form)
        return fail(ST_BAD_DATA, "%s: cell %s, %s: does not say which file ran", m->path, c->runtime, c->variant);
    return read_output(m, o, c);
}

static status read_cells(merging *m)
{
    size_t n, rows, columns;
    json_t *a = json_in_array(&m->in, m->in.root, "cells", &n);
    (void)json_in_array(&m->kept, m->kept.root, "rows", &rows);
    (void)json_in_array(&m->kept, m->kept.root, "columns", &columns);
    TRY(m->in.st);
    TRY(m->kept.st);
    if (n < 1 || n > rows * columns)
        return fail(ST_BAD_DATA, "%s: %zu cells; 1 to %zu were packed", m->path, n, rows * columns);
    TRY(arena_alloc(&m->r->mem, &m->r->cells, n, sizeof *m->r->cells));
    for (size_t i = 0; i < n; i++) {
        TRY(read_cell(m, json_array_get(a, i), &m->r->cells[i]));
        m->r->n = i + 1;
    }
    return ST_OK;
}

/* ---- the whole ---- */

status merge_read(const char *path, const char *run_dir, merge_result *out)
{
    merging m = {.path = path, .r = out};
    status st = ST_OK;
    *out = (merge_result){0};
    TRY_DONE(io_read_file(path, MERGE_LIMIT, &m.bytes, &m.n));
    if (m.n < HEAD_BYTES + 66 || memcmp(m.bytes, HEAD, HEAD_BYTES) != 0)
        st = fail(ST_BAD_DATA, "%s: not a result of run_pack.py: it does not begin with a signature", path);
    TRY_DONE(st);
    TRY_DONE(json_in_parse(&m.in, path, (const char *)m.bytes, m.n, 32));
    TRY_DONE(read_head(&m));
    TRY_DONE(open_manifest(&m, run_dir));
    TRY_DONE(read_host(&m));
    TRY_DONE(read_cells(&m));
done:
    json_in_close(&m.in);
    json_in_close(&m.kept);
    mem_free(m.bytes);
    return st;
}

void merge_free(merge_result *r)
{
    arena_free(&r->mem);
    r->cells = NULL;
    r->n = 0;
}
