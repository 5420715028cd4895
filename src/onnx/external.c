/* external.c - where external data may lie and how it is named (ONNX ExternalData.md). */
#include "onnx/external.h"

#include "base/hash.h"
#include "base/io.h"
#include "onnx/names.h"

#include <inttypes.h>
#include <string.h>

#define PIECE ((size_t)16 << 20)

typedef struct place {
    const char *location;
    uint64_t offset, length;
    bool has_offset, has_length;
} place;

/* Decimal digits only: no sign, space, exponent or hex, and within 64 bits. */
static bool parse_number(const char *s, uint64_t *out)
{
    uint64_t v = 0;
    if (!*s)
        return false;
    for (; *s; s++)
        if (*s < '0' || *s > '9' || __builtin_mul_overflow(v, (uint64_t)10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
            return false;
    *out = v;
    return true;
}

static status find_place(const char *path, const Onnx__TensorProto *p, const char *what, place *at)
{
    *at = (place){0};
    for (size_t i = 0; i < p->n_external_data; i++) {
        const char *key = p->external_data[i]->key, *value = p->external_data[i]->value;
        if (!key || !value)
            return fail(ST_BAD_DATA, "%s: %s: external data entry %zu lacks its key or value", path, what, i);
        bool is_offset = strcmp(key, "offset") == 0, is_length = strcmp(key, "length") == 0;
        if (strcmp(key, "location") == 0 ? at->location != NULL
                                         : (is_offset && at->has_offset) || (is_length && at->has_length))
            return fail(ST_BAD_DATA, "%s: %s: external data has '%s' twice", path, what, key);
        if (strcmp(key, "location") == 0) {
            at->location = value;
        } else if (is_offset || is_length) {
            if (!parse_number(value, is_offset ? &at->offset : &at->length))
                return fail(ST_BAD_DATA, "%s: %s: external data: %s '%.40s' is not a number of bytes", path,
                            what, key, value);
            at->has_offset |= is_offset;
            at->has_length |= is_length;
        } else {
            return fail(ST_BAD_DATA,
                        "%s: %s: external data has the key '%.40s'; location, offset and length are known",
                        path, what, key);
        }
    }
    if (!at->location || !*at->location)
        return fail(ST_BAD_DATA, "%s: %s: external data names no file", path, what);
    return ST_OK;
}

status external_check(tensor_source *src, const Onnx__TensorProto *p, const char *what, size_t bytes)
{
    place at;
    uint64_t size;
    TRY(find_place(src->path, p, what, &at));
    if (!src->dir)
        return fail(ST_BAD_DATA,
                    "%s: %s: its data lies in the file '%s', and the model does not come from a folder",
                    src->path, what, at.location);
    if (at.has_length && at.length != bytes)
        return fail(ST_BAD_DATA, "%s: %s: external data: length is %" PRIu64 ", type and shape need %zu",
                    src->path, what, at.length, bytes);
    status st = io_size_beneath(src->dir, at.location, &size);
    if (st != ST_OK)
        return fail_within(st, "%s: %s: external data", src->path, what);
    if (bytes > size || at.offset > size - bytes)
        return fail(ST_BAD_DATA, "%s: %s: external data: %zu bytes at %" PRIu64 " wanted, '%s' has %" PRIu64,
                    src->path, what, bytes, at.offset, at.location, size);
    if (bytes > src->lim->external_data || src->external > src->lim->external_data - bytes)
        return fail(ST_BAD_DATA, "%s: more than %" PRIu64 " bytes of external data (limits.external_data)",
                    src->path, src->lim->external_data);
    src->external += bytes;
    return ST_OK;
}

status external_read(tensor_source *src, const Onnx__TensorProto *p, const char *what, void *to, size_t bytes)
{
    place at;
    TRY(find_place(src->path, p, what, &at));
    status st = io_read_beneath(src->dir, at.location, at.offset, bytes, to);
    return st == ST_OK ? ST_OK : fail_within(st, "%s: %s: external data", src->path, what);
}

static status hash_pieces(const onnx_model *m, const char *location, char hex[65])
{
    text hashes = {0};
    unsigned char *piece = NULL;
    uint64_t size = 0;
    status st = ST_OK;
    TRY_DONE(io_size_beneath(m->dir, location, &size));
    if (size > m->lim.external_data) {
        st = fail(ST_BAD_DATA, "%s: '%s' has more than %" PRIu64 " bytes (limits.external_data)", m->path,
                  location, m->lim.external_data);
        goto done;
    }
    TRY_DONE(mem_alloc(&piece, size < PIECE ? (size_t)size : PIECE, 1));
    for (uint64_t at = 0; at < size; at += PIECE) {
        size_t n = size - at < PIECE ? (size_t)(size - at) : PIECE;
        TRY_DONE(io_read_beneath(m->dir, location, at, n, piece));
        TRY_DONE(hash_sha256_hex(piece, n, hex));
        text_add(&hashes, hex);
    }
    TRY_DONE(hashes.st);
    st = hash_sha256_hex(hashes.s ? hashes.s : "", hashes.n, hex);
done:
    mem_free(piece);
    text_free(&hashes);
    return st;
}

status external_identify(const onnx_model *m, Onnx__TensorProto *const *t, size_t n, text *list)
{
    name_map seen = {0};
    status st = ST_OK;
    for (size_t i = 0; i < n; i++) {
        char hex[65];
        place at;
        uint32_t *slot;
        if (t[i]->data_location != ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL)
            continue;
        const char *name = t[i]->name ? t[i]->name : "";
        TRY_DONE(find_place(m->path, t[i], name, &at));
        TRY_DONE(name_map_put(&seen, at.location, &slot));
        if (*slot)
            continue;
        *slot = 1;
        st = hash_pieces(m, at.location, hex);
        if (st != ST_OK) {
            st = fail_within(st, "%s: tensor '%s': external data", m->path, name);
            goto done;
        }
        text_printf(list, "%s %s\n", hex, at.location);
    }
    st = list->st;
done:
    name_map_free(&seen);
    return st;
}
