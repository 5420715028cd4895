/* pack.c - writes the archive (libarchive) file by file, with the list of them as the manifest at the end. */
#include "matrix/pack.h"

#include "base/hash.h"
#include "base/io.h"
#include "base/io_shared.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

typedef struct packer {
    const pack_plan *p;
    arena mem;
    struct archive *a;
    file_writer w;
    text list;  /* "files" of the manifest */
    json files; /* onto it */
    const char **names;
    size_t n_names, cap_names;
    uint64_t left; /* of the file that is being copied */
} packer;

/* ---- the archive ---- */

/* A failure stays in k->w: libarchive, told of it, would never free its compressor. */
static la_ssize_t put_bytes(struct archive *a, void *ctx, const void *data, size_t n)
{
    packer *k = ctx;
    (void)a;
    file_write(&k->w, data, n);
    return (la_ssize_t)n;
}

static status check_archive(packer *k, la_ssize_t result, const char *name)
{
    if (k->w.st != ST_OK)
        return k->w.st;
    if (result >= ARCHIVE_OK)
        return ST_OK;
    const char *why = k->a ? archive_error_string(k->a) : NULL;
    return fail(ST_IO, "%s: the archive cannot be written: %s", name, why ? why : "no reason given");
}

static status open_archive(packer *k, const char *out)
{
    bool zip = strcmp(k->p->target->ending, ".zip") == 0;
    TRY(file_begin(&k->w, out));
    k->a = archive_write_new();
    if (!k->a)
        return fail(ST_OOM, "out of memory: the archive's writer");
    if (zip) {
        TRY(check_archive(k, archive_write_set_format_zip(k->a), out));
    } else {
        TRY(check_archive(k, archive_write_set_format_ustar(k->a), out));
        TRY(check_archive(k, archive_write_add_filter_gzip(k->a), out));
        TRY(check_archive(k, archive_write_set_options(k->a, "gzip:!timestamp,gzip:compression-level=3"), out));
    }
    TRY(check_archive(k, archive_write_set_bytes_per_block(k->a, 65536), out));
    return check_archive(k, archive_write_open(k->a, k, NULL, put_bytes, NULL), out);
}

static status begin_file(packer *k, const char *name, uint64_t bytes, bool executable)
{
    const char *full;
    TRY(arena_printf(&k->mem, &full, "distill-matrix-%s/%s", k->p->target->name, name));
    struct archive_entry *e = archive_entry_new();
    if (!e)
        return fail(ST_OOM, "out of memory: a file of the archive");
    archive_entry_set_pathname(e, full);
    archive_entry_set_size(e, (la_int64_t)bytes);
    archive_entry_set_filetype(e, AE_IFREG);
    archive_entry_set_perm(e, executable ? 0755 : 0644);
    archive_entry_set_mtime(e, 1767225600, 0); /* one date: 1 January 2026 */
    status st = check_archive(k, archive_write_header(k->a, e), name);
    archive_entry_free(e);
    return st;
}

static status put_piece(const void *data, size_t n, void *ctx)
{
    packer *k = ctx;
    if (n > k->left)
        return fail(ST_IO, "a file grew while it was packed");
    k->left -= n;
    la_ssize_t got = archive_write_data(k->a, data, n);
    return check_archive(k, got == (la_ssize_t)n ? ARCHIVE_OK : ARCHIVE_FATAL, "a file");
}

static bool is_packed(const packer *k, const char *name)
{
    for (size_t i = 0; i < k->n_names; i++)
        if (strcmp(k->names[i], name) == 0)
            return true;
    return false;
}

static status enlist(packer *k, const char *name, uint64_t bytes, const char *sha256)
{
    TRY(mem_push(&k->names, &k->cap_names, k->n_names, sizeof *k->names));
    TRY(arena_strdup(&k->mem, &k->names[k->n_names++], name));
    json_put_object(&k->files, NULL);
    json_put_string(&k->files, "path", name);
    json_put_int(&k->files, "bytes", (int64_t)bytes);
    json_put_string(&k->files, "sha256", sha256);
    json_end_object(&k->files);
    return k->list.st;
}

static status add_data(packer *k, const char *name, const void *data, size_t n, bool executable)
{
    char sha[65];
    TRY(hash_sha256_hex(data, n, sha));
    TRY(begin_file(k, name, n, executable));
    k->left = n;
    TRY(put_piece(data, n, k));
    return enlist(k, name, n, sha);
}

/* The same name again: it is there already. */
static status add_file(packer *k, const char *name, const char *path, bool executable)
{
    char sha[65];
    io_facts f;
    if (is_packed(k, name))
        return ST_OK;
    TRY(io_look(path, &f));
    TRY(hash_sha256_file(path, sha));
    TRY(begin_file(k, name, f.size, executable));
    k->left = f.size;
    TRY(io_read_chunks(path, put_piece, k));
    if (k->left)
        return fail(ST_IO, "%s: shrank while it was packed", path);
    return enlist(k, name, f.size, sha);
}

/* ---- contents ---- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static status pack_name(packer *k, const char *folder, const char *path, const char **name)
{
    return arena_printf(&k->mem, name, "%s/%s", folder, base_name(path));
}

static status put_models(packer *k, json *j, const pack_column *c)
{
    json_put_array(j, "files");
    for (size_t i = 0; i < c->n_models; i++) {
        const char *name, *bin, *path = c->models[i].path;
        char sha[65];
        TRY(pack_name(k, "models", path, &name));
        TRY(add_file(k, name, path, false));
        TRY(hash_sha256_file(path, sha));
        json_put_object(j, NULL);
        json_put_string(j, "form", c->models[i].form);
        json_put_string(j, "path", name);
        json_put_string(j, "sha256", sha);
        json_end_object(j);
        if (strcmp(c->models[i].form, "ncnn") != 0)
            continue;
        TRY(arena_printf(&k->mem, &bin, "%.*s.bin", (int)(strlen(path) - strlen(".param")), path));
        TRY(pack_name(k, "models", bin, &name));
        TRY(add_file(k, name, bin, false));
    }
    json_end_array(j);
    return ST_OK;
}

static status put_npy(packer *k, json *j, const char *key, const char *name, const char *file, const char *path)
{
    char sha[65];
    TRY(add_file(k, file, path, false));
    TRY(hash_sha256_file(path, sha));
    json_put_object(j, key);
    if (name)
        json_put_string(j, "name", name);
    json_put_string(j, "path", file);
    json_put_string(j, "sha256", sha);
    json_end_object(j);
    return ST_OK;
}

static status put_columns(packer *k, json *j)
{
    json_put_array(j, "columns");
    for (size_t i = 0; i < k->p->n_columns; i++) {
        const pack_column *c = &k->p->columns[i];
        const char *input, *expected;
        json_put_object(j, NULL);
        json_put_string(j, "variant", c->variant);
        json_put_int(j, "samples", (int64_t)c->samples);
        json_put_string(j, "output_name", c->output_name);
        TRY(put_models(k, j, c));
        TRY(pack_name(k, "inputs", c->input, &input));
        TRY(arena_printf(&k->mem, &expected, "expected/%s.npy", c->variant));
        TRY(put_npy(k, j, "input", c->input_name, input, c->input));
        TRY(put_npy(k, j, "expected", NULL, expected, c->expected));
        json_end_object(j);
    }
    json_end_array(j);
    return ST_OK;
}

static void put_words(json *j, const char *key, const char *words)
{
    json_put_array(j, key);
    for (size_t n; *words; words += n + (words[n] == ' ')) {
        char word[64];
        n = strcspn(words, " ");
        snprintf(word, sizeof word, "%.*s", (int)n, words);
        if (n)
            json_put_string(j, NULL, word);
    }
    json_end_array(j);
}

static void put_rows(const packer *k, json *j)
{
    json_put_array(j, "rows");
    for (size_t i = 0; i < k->p->n_rows; i++) {
        const pack_row *r = &k->p->rows[i];
        json_put_object(j, NULL);
        json_put_string(j, "runtime", r->runtime);
        json_put_string(j, "title", r->title);
        json_put_string(j, "how", r->how);
        json_put_array(j, "command");
        for (size_t w = 0; r->command[w]; w++)
            json_put_string(j, NULL, r->command[w]);
        json_end_array(j);
        json_put_object(j, "env");
        for (size_t w = 0; r->env && r->env[w]; w++) {
            char name[64];
            snprintf(name, sizeof name, "%.*s", (int)strcspn(r->env[w], "="), r->env[w]);
            json_put_string(j, name, r->env[w] + strcspn(r->env[w], "=") + 1);
        }
        json_end_object(j);
        put_words(j, "forms", r->forms);
        json_put_number(j, "seconds", r->seconds);
        json_put_int(j, "samples", (int64_t)r->samples);
        if (r->options) { /* an object as it stands */
            text_printf(j->out, ",\"options\":%s", r->options);
        }
        json_end_object(j);
    }
    json_end_array(j);
}

static status put_readme(packer *k)
{
    text t = {0};
    text_printf(&t, "The deployment matrix of %s, packed for %s by distill %s.\n\n", k->p->run, k->p->target->name, DISTILL_VERSION);
    text_add(&t, k->p->target->notes);
    text_add(&t,
             "\nThe result is one file, result.json. At home: distill matrix merge RUN_DIR result.json\n\n"
             "Every file is held against manifest.json before anything runs. result.json is signed with a key that lies in manifest.json:\n"
             "damage on the way, numbers that were changed afterwards and results of another pack are noticed. Whoever has this folder has\n"
             "the key too and could sign what they like: take results from people you trust.\n\n"
             "Outputs that something else has made: DIR/RUNTIME/VARIANT.npy, float32 or int8 (codes), [samples, ...] in the order of the\n"
             "input, for columns and rows of manifest.json; beside it, if you like, VARIANT.json with fields of a runner's answer:\n"
             "{\"runtime\": \"CoreML\", \"version\": \"9\", \"device\": \"...\", \"form\": \"onnx\", \"latency_ms\": [0.41, ...], \"peak_mb\": 31.5}.\n"
             "Then: python3 run.py --collect DIR --name DEVICE\n");
    status st = t.st;
    if (st == ST_OK)
        st = add_data(k, "README.txt", t.s, t.n, false);
    text_free(&t);
    return st;
}

static status random_hex(size_t bytes, char *hex)
{
    unsigned char raw[32];
    if (bytes > sizeof raw || getrandom(raw, bytes, 0) != (ssize_t)bytes)
        return fail(ST_IO, "the system gives no random numbers: %s", strerror(errno));
    for (size_t i = 0; i < bytes; i++)
        snprintf(hex + 2 * i, 3, "%02x", raw[i]);
    return ST_OK;
}

static status make_manifest(packer *k, const char *id, text *t)
{
    json j = {.out = t};
    char key[65];
    TRY(random_hex(32, key));
    json_put_object(&j, NULL);
    json_put_string(&j, "format", "distill matrix pack");
    json_put_int(&j, "schema", PACK_SCHEMA);
    json_put_int(&j, "protocol", PACK_PROTOCOL);
    json_put_string(&j, "version", DISTILL_VERSION);
    json_put_string(&j, "id", id);
    json_put_string(&j, "key", key);
    json_put_string(&j, "target", k->p->target->name);
    json_put_string(&j, "run", k->p->run);
    json_put_string(&j, "set", k->p->set);
    json_put_int(&j, "made", (int64_t)time(NULL));
    json_put_int(&j, "batch", k->p->batch);
    json_put_int(&j, "threads", k->p->threads);
    json_put_object(&j, "latency");
    json_put_int(&j, "batch", 1);
    json_put_int(&j, "warmup", 5);
    json_put_int(&j, "runs", (int64_t)k->p->latency_runs);
    json_put_number(&j, "seconds", k->p->latency_seconds);
    json_end_object(&j);
    put_rows(k, &j);
    TRY(put_columns(k, &j));
    for (size_t i = 0; i < k->p->n_extras; i++)
        TRY(add_file(k, k->p->extras[i].name, k->p->extras[i].path, k->p->extras[i].executable));
    TRY(add_data(k, k->p->target->script, k->p->target->script_text, strlen(k->p->target->script_text), true));
    TRY(put_readme(k));
    json_end_array(&k->files);
    TRY(k->list.st);
    text_printf(t, ",\"files\":%s", k->list.s);
    json_end_object(&j);
    text_add(t, "\n");
    return t->st;
}

/* ---- the whole ---- */

status pack_write(const pack_plan *p, const char *run_dir, const char *out, pack_facts *facts)
{
    packer k = {.p = p};
    text manifest = {0};
    char id[33];
    const char *folder, *kept;
    status st = ST_OK;
    k.files = (json){.out = &k.list};
    json_put_array(&k.files, NULL);
    TRY_DONE(random_hex(16, id));
    TRY_DONE(arena_printf(&k.mem, &folder, "%s/%s", run_dir, PACK_FOLDER));
    TRY_DONE(arena_printf(&k.mem, &kept, "%s/%s.json", folder, id));
    TRY_DONE(io_make_dirs(folder));
    TRY_DONE(open_archive(&k, out));
    TRY_DONE(make_manifest(&k, id, &manifest));
    size_t files = k.n_names + 1;
    TRY_DONE(add_data(&k, "manifest.json", manifest.s, manifest.n, false));
    TRY_DONE(check_archive(&k, archive_write_close(k.a), out));
    TRY_DONE(io_write_file(kept, manifest.s, manifest.n));
    uint64_t bytes = k.w.written;
    TRY_DONE(file_commit(&k.w));
    if (facts) {
        *facts = (pack_facts){.files = files, .bytes = bytes};
        memcpy(facts->id, id, sizeof id);
    }
done:
    if (k.a)
        archive_write_free(k.a);
    file_abandon(&k.w);
    text_free(&manifest);
    text_free(&k.list);
    mem_free(k.names);
    arena_free(&k.mem);
    return st;
}
