/* checkpoint.c - safetensors layout with hashes, written durably, distrusted when read. */
#include "train/checkpoint.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/log.h"
#include "base/text.h"
#include "distill/train_graph.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_MARK "\"header\":\"" /* followed by 16 hex digits */
#define MARK_LENGTH (sizeof HEADER_MARK - 1)
#define FORMAT      "distill 1"

/* ---- writing ---- */

static void put_hex(uint64_t h, char out[17])
{
    snprintf(out, 17, "%016" PRIx64, h);
}

static void put_metadata(json *j, const store *s, const fact *facts, size_t n_facts)
{
    char hex[17], key[1200];
    json_put_object(j, "__metadata__");
    json_put_string(j, "header", "0000000000000000");
    json_put_string(j, "format", FORMAT);
    for (size_t i = 0; i < n_facts; i++)
        json_put_string(j, facts[i].key, facts[i].value);
    for (size_t i = 0; i < s->n; i++) {
        put_hex(hash_xxh3(s->at[i].t.data, tensor_bytes(&s->at[i].t)), hex);
        snprintf(key, sizeof key, "xxh3.%s", s->at[i].t.name);
        json_put_string(j, key, hex);
    }
    json_end_object(j);
}

static void put_tensor(json *j, const tensor *t, uint64_t from)
{
    json_put_object(j, t->name);
    json_put_string(j, "dtype", dtype_of(t->type)->safetensors);
    json_put_array(j, "shape");
    for (int i = 0; i < t->sh.rank; i++)
        json_put_int(j, NULL, t->sh.dim[i]);
    json_end_array(j);
    json_put_array(j, "data_offsets");
    json_put_int(j, NULL, (int64_t)from);
    json_put_int(j, NULL, (int64_t)(from + tensor_bytes(t)));
    json_end_array(j);
    json_end_object(j);
}

status checkpoint_write(const char *path, store *s, const fact *facts, size_t n_facts)
{
    text header = {0};
    json j = {.out = &header};
    file_writer w = {0};
    status st = ST_OK;
    uint64_t offset = 0;
    TRY(store_pull(s));
    json_put_object(&j, NULL);
    put_metadata(&j, s, facts, n_facts);
    for (size_t i = 0; i < s->n; i++) {
        put_tensor(&j, &s->at[i].t, offset);
        offset += tensor_bytes(&s->at[i].t);
    }
    json_end_object(&j);
    while (header.st == ST_OK && (header.n + 8) % 64)
        text_add(&header, " ");
    TRY_DONE(header.st);
    char *mark = strstr(header.s, HEADER_MARK), hex[17];
    if (!mark) {
        st = fail(ST_INTERNAL, "%s: the header's own hash has no place", path);
        goto done;
    }
    put_hex(hash_xxh3(header.s, header.n), hex);
    memcpy(mark + MARK_LENGTH, hex, 16);
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)header.n >> (8 * i));
    TRY_DONE(file_begin(&w, path));
    file_write(&w, length, sizeof length);
    file_write(&w, header.s, header.n);
    for (size_t i = 0; i < s->n; i++)
        file_write(&w, s->at[i].t.data, tensor_bytes(&s->at[i].t));
    st = file_commit(&w);
done:
    file_abandon(&w);
    text_free(&header);
    return st;
}

/* ---- reading ---- */

typedef struct source { /* the file in memory */
    const char *path;
    unsigned char *bytes;
    size_t size, header, data; /* lengths of header and data */
} source;

static status check_header_hash(const source *f)
{
    char *head = (char *)f->bytes + 8, *mark = NULL, stored[17] = {0}, hex[17];
    for (size_t i = 0; i + MARK_LENGTH + 16 <= f->header && !mark; i++)
        if (memcmp(head + i, HEADER_MARK, MARK_LENGTH) == 0)
            mark = head + i + MARK_LENGTH;
    if (!mark)
        return fail(ST_BAD_DATA, "%s: not a checkpoint of distill (its header has no hash)", f->path);
    memcpy(stored, mark, 16);
    memset(mark, '0', 16);
    put_hex(hash_xxh3(head, f->header), hex);
    memcpy(mark, stored, 16);
    if (memcmp(hex, stored, 16) != 0)
        return fail(ST_BAD_DATA, "%s: the header is damaged (hash %s, expected %s)", f->path, hex, stored);
    return ST_OK;
}

static status read_shape(const source *f, const char *name, const json_t *list, shape *out)
{
    size_t rank = json_array_size(list);
    *out = (shape){0};
    if (!json_is_array(list) || rank > RANK_MAX)
        return fail(ST_BAD_DATA, "%s: tensor '%s': the shape must be a list of at most %d numbers", f->path, name,
                    RANK_MAX);
    out->rank = (int32_t)rank;
    for (size_t i = 0; i < rank; i++) {
        const json_t *d = json_array_get(list, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return fail(ST_BAD_DATA, "%s: tensor '%s': a dimension is not a whole number >= 0", f->path, name);
        out->dim[i] = json_integer_value(d);
    }
    return ST_OK;
}

/* `next`: where the data of the next tensor must begin; tensors lie one behind the other, in header order. */
static status read_tensor(const source *f, const char *name, const json_t *row, const json_t *metadata, size_t *next,
                          tensor_list *list)
{
    const char *type = json_string_value(json_object_get(row, "dtype"));
    const json_t *offsets = json_object_get(row, "data_offsets");
    const json_t *from = json_array_get(offsets, 0), *to = json_array_get(offsets, 1);
    tensor t = {0};
    shape sh;
    size_t bytes;
    char key[1200], hex[17];
    dtype dt = type ? dtype_from_safetensors(type) : DTYPE_NONE;
    if (dt == DTYPE_NONE)
        return fail(ST_BAD_DATA, "%s: tensor '%s': unknown dtype '%s'", f->path, name, type ? type : "");
    TRY(read_shape(f, name, json_object_get(row, "shape"), &sh));
    status st = shape_bytes(&sh, dt, &bytes);
    if (st != ST_OK)
        return fail_within(st, "%s: tensor '%s'", f->path, name);
    if (json_array_size(offsets) != 2 || !json_is_integer(from) || !json_is_integer(to) ||
        json_integer_value(from) < 0 || (uint64_t)json_integer_value(from) != *next ||
        json_integer_value(to) < json_integer_value(from) ||
        (uint64_t)(json_integer_value(to) - json_integer_value(from)) != bytes || bytes > f->data - *next)
        return fail(ST_BAD_DATA, "%s: tensor '%s': data_offsets leave a hole, overlap, leave the file or do not fit "
                    "the shape", f->path, name);
    const unsigned char *data = f->bytes + 8 + f->header + *next;
    snprintf(key, sizeof key, "xxh3.%s", name);
    const char *stored = json_string_value(json_object_get(metadata, key));
    put_hex(hash_xxh3(data, bytes), hex);
    if (!stored || strcmp(stored, hex) != 0)
        return fail(ST_BAD_DATA, "%s: tensor '%s' is damaged (its hash is not the stored one)", f->path, name);
    TRY(tensor_new(&t, name, dt, sh));
    memcpy(t.data, data, bytes);
    *next += bytes;
    return tensor_list_add(list, &t);
}

static status read_facts(const json_t *metadata, checkpoint *c)
{
    const char *key;
    const json_t *v;
    size_t n = 0;
    TRY(arena_alloc(&c->mem, &c->facts, json_object_size(metadata), sizeof *c->facts));
    json_object_foreach((json_t *)(uintptr_t)metadata, key, v) {
        if (!json_is_string(v) || strncmp(key, "xxh3.", 5) == 0)
            continue;
        TRY(arena_strdup(&c->mem, &c->facts[n].key, key));
        TRY(arena_strdup(&c->mem, &c->facts[n].value, json_string_value(v)));
        n++;
    }
    c->n_facts = n;
    return ST_OK;
}

static status read_all(source *f, const limits *lim, checkpoint *out)
{
    json_error_t e;
    json_t *root = NULL;
    const char *name;
    json_t *row;
    status st = ST_OK;
    uint64_t length = 0;
    size_t next = 0;
    if (f->size < 8)
        return fail(ST_BAD_DATA, "%s: %zu bytes are too few for a checkpoint", f->path, f->size);
    for (int i = 0; i < 8; i++)
        length |= (uint64_t)f->bytes[i] << (8 * i);
    if (length < 2 || length > f->size - 8 || length > lim->checkpoint_header)
        return fail(ST_BAD_DATA, "%s: the header is said to be %" PRIu64 " bytes long, the file has %zu", f->path,
                    length, f->size);
    f->header = (size_t)length;
    f->data = f->size - 8 - f->header;
    TRY(check_header_hash(f));
    root = json_loadb((const char *)f->bytes + 8, f->header, JSON_REJECT_DUPLICATES, &e);
    const json_t *metadata = json_object_get(root, "__metadata__");
    if (!json_is_object(root) || !json_is_object(metadata)) {
        st = fail(ST_BAD_DATA, "%s: the header is no JSON object with __metadata__: %s", f->path, root ? "" : e.text);
        goto done;
    }
    const char *format = json_string_value(json_object_get(metadata, "format"));
    if (!format || strcmp(format, FORMAT) != 0) {
        st = fail(ST_BAD_DATA, "%s: its format is '%s', this version reads '%s'", f->path, format ? format : "", FORMAT);
        goto done;
    }
    json_object_foreach(root, name, row)
        if (strcmp(name, "__metadata__") != 0)
            TRY_DONE(read_tensor(f, name, row, metadata, &next, &out->tensors));
    if (next != f->data) {
        st = fail(ST_BAD_DATA, "%s: %zu bytes follow the last tensor", f->path, f->data - next);
        goto done;
    }
    st = read_facts(metadata, out);
done:
    json_decref(root);
    return st;
}

#define CHECKPOINT_MAX ((uint64_t)1 << 40)

status checkpoint_read(const char *path, const limits *lim, checkpoint *out)
{
    source f = {.path = path};
    *out = (checkpoint){0};
    TRY(io_read_file(path, CHECKPOINT_MAX, &f.bytes, &f.size));
    status st = read_all(&f, lim, out);
    mem_free(f.bytes);
    if (st != ST_OK)
        checkpoint_free(out);
    return st;
}

void checkpoint_free(checkpoint *c)
{
    tensor_list_free(&c->tensors);
    arena_free(&c->mem);
    *c = (checkpoint){0};
}

const char *checkpoint_fact(const checkpoint *c, const char *key)
{
    for (size_t i = 0; i < c->n_facts; i++)
        if (strcmp(c->facts[i].key, key) == 0)
            return c->facts[i].value;
    return NULL;
}

/* The state of loss scaling is there where a run trains in float16: it may do so on one machine and not on another. */
static bool may_be_absent(const tensor *t)
{
    return strncmp(t->name, LOSS_SCALE_STATE, strlen(LOSS_SCALE_STATE)) == 0 && t->type == DTYPE_F32 && t->sh.rank == 0;
}

static size_t count_needed(const tensor_list *l)
{
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++)
        n += !may_be_absent(&l->at[i]);
    return n;
}

status checkpoint_restore(const checkpoint *c, store *s)
{
    size_t needed = 0;
    for (size_t i = 0; i < s->n; i++) {
        const tensor *want = &s->at[i].t, *have = tensor_list_find(&c->tensors, want->name);
        needed += !may_be_absent(want);
        if (!have && may_be_absent(want))
            continue;
        if (!have)
            return fail(ST_BAD_DATA, "the checkpoint lacks '%s': it is of another student or optimizer", want->name);
        if (have->type != want->type || !shape_equal(&have->sh, &want->sh))
            return fail(ST_BAD_DATA, "the checkpoint's '%s' has another type or shape: it is of another student",
                        want->name);
    }
    if (count_needed(&c->tensors) != needed)
        return fail(ST_BAD_DATA, "the checkpoint has %zu tensors, the run %zu: it is of another student or optimizer",
                    count_needed(&c->tensors), needed);
    for (size_t i = 0; i < s->n; i++) {
        const tensor *have = tensor_list_find(&c->tensors, s->at[i].t.name);
        if (have)
            memcpy(s->at[i].t.data, have->data, tensor_bytes(&s->at[i].t));
    }
    store_changed(s);
    return ST_OK;
}

/* ---- the folder ---- */

#define FILE_FORMAT "step_%08" PRIu64 ".safetensors"

static bool parse_file_name(const char *name, uint64_t *step)
{
    char again[64];
    if (strncmp(name, "step_", 5) != 0)
        return false;
    *step = strtoull(name + 5, NULL, 10);
    snprintf(again, sizeof again, FILE_FORMAT, *step);
    return strcmp(again, name) == 0;
}

status checkpoint_path(arena *mem, const char *dir, uint64_t step, const char **out)
{
    return arena_printf(mem, out, "%s/" FILE_FORMAT, dir, step);
}

status checkpoint_point(const char *dir, const char *pointer, uint64_t step)
{
    arena mem = {0};
    const char *path;
    char line[64];
    int n = snprintf(line, sizeof line, FILE_FORMAT "\n", step);
    status st = arena_printf(&mem, &path, "%s/%s", dir, pointer);
    if (st == ST_OK)
        st = io_write_file(path, line, (size_t)n);
    arena_free(&mem);
    return st;
}

bool checkpoint_pointed(const char *dir, const char *pointer, uint64_t *step)
{
    arena mem = {0};
    const char *path;
    unsigned char *data = NULL;
    size_t n;
    bool found = false;
    if (arena_printf(&mem, &path, "%s/%s", dir, pointer) == ST_OK && io_read_file(path, 256, &data, &n) == ST_OK) {
        data[strcspn((char *)data, "\n")] = 0;
        found = parse_file_name((char *)data, step);
    }
    mem_free(data);
    arena_free(&mem);
    return found;
}

#define FILES_MAX 100000

static int newest_first(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* Steps of the files in the folder, newest first; the caller frees with mem_free. */
static status list_steps(const char *dir, uint64_t **steps, size_t *n)
{
    char **names = NULL;
    size_t n_names = 0;
    status st = ST_OK;
    *steps = NULL;
    *n = 0;
    TRY(io_list(dir, FILES_MAX, &names, &n_names));
    st = mem_alloc(steps, n_names, sizeof **steps);
    for (size_t i = 0; st == ST_OK && i < n_names; i++)
        *n += parse_file_name(names[i], &(*steps)[*n]);
    if (*n)
        qsort(*steps, *n, sizeof **steps, newest_first);
    io_list_free(names, n_names);
    return st;
}

status checkpoint_find_newest(const char *dir, const limits *lim, checkpoint *out, uint64_t *step, bool *found)
{
    uint64_t *steps = NULL;
    size_t n = 0;
    arena mem = {0};
    status st = ST_OK;
    *found = false;
    if (!io_is_dir(dir))
        return ST_OK;
    TRY_DONE(list_steps(dir, &steps, &n));
    for (size_t i = 0; i < n && !*found; i++) {
        const char *path;
        TRY_DONE(checkpoint_path(&mem, dir, steps[i], &path));
        status read = checkpoint_read(path, lim, out);
        if (read == ST_OOM) {
            st = read;
            goto done;
        }
        if (read != ST_OK)
            log_warn("passed over a checkpoint: %s", status_message());
        *found = read == ST_OK;
        *step = steps[i];
    }
done:
    arena_free(&mem);
    mem_free(steps);
    return st;
}

status checkpoint_retain(const char *dir, size_t keep, uint64_t newest)
{
    uint64_t *steps = NULL, best = 0;
    size_t n = 0, seen = 0;
    bool has_best = checkpoint_pointed(dir, "best", &best);
    arena mem = {0};
    status st = ST_OK;
    TRY_DONE(list_steps(dir, &steps, &n));
    for (size_t i = 0; i < n; i++) {
        const char *path;
        if (steps[i] > newest || seen++ < keep || (has_best && steps[i] == best))
            continue;
        TRY_DONE(checkpoint_path(&mem, dir, steps[i], &path));
        TRY_DONE(io_remove(path));
    }
done:
    arena_free(&mem);
    mem_free(steps);
    return st;
}
