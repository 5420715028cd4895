/* model.c - opening an ONNX file: read, guard, hash, lift the weights out, unpack the rest. */
#include "onnx/model.h"

#include "base/hash.h"
#include "base/io.h"
#include "base/text.h"
#include "onnx/external.h"
#include "onnx/lift.h"
#include "onnx/names.h"
#include "onnx/unpack.h"
#include "onnx/wire.h"

#include <string.h>

/* The folder part of a path: "." when there is none. */
static status folder_of(const char *path, char **dir)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return mem_strdup(dir, ".");
    size_t n = slash == path ? 1 : (size_t)(slash - path);
    TRY(mem_alloc(dir, n + 1, 1));
    memcpy(*dir, path, n);
    return ST_OK;
}

/* With external data the identity is the hash of the list "HASH NAME" of the model and of those files. */
static status identify(onnx_model *m)
{
    const Onnx__GraphProto *g = m->proto->graph;
    text list = {0};
    status st = ST_OK;
    text_printf(&list, "%s model\n", m->sha256);
    size_t before = list.n;
    if (g)
        TRY_DONE(external_identify(m, g->initializer, g->n_initializer, &list));
    TRY_DONE(list.st);
    if (list.n > before)
        st = hash_sha256_hex(list.s, list.n, m->sha256);
done:
    text_free(&list);
    return st;
}

/* Weights that were lifted out stand in the unpacked message again, in the buffer where they lie. */
static void put_back_weights(onnx_model *m)
{
    for (size_t i = 0; i < m->n_lifted; i++) {
        Onnx__TensorProto *t = m->proto->graph->initializer[m->lifted[i].initializer];
        t->has_raw_data = 1;
        t->raw_data = (ProtobufCBinaryData){m->lifted[i].n, m->lifted[i].data};
    }
}

static void take_out_weights(onnx_model *m)
{
    for (size_t i = 0; m->proto && i < m->n_lifted; i++)
        m->proto->graph->initializer[m->lifted[i].initializer]->raw_data = (ProtobufCBinaryData){0, NULL};
}

static status unpack_model(onnx_model *m, size_t n)
{
    ProtobufCMessage *proto = NULL;
    text rest = {0};
    status st = ST_OK;
    unsigned char *data = (unsigned char *)mem_shared_data(m->weights);
    TRY_DONE(hash_sha256_hex(data, n, m->sha256));
    TRY_DONE(lift_weights(data, n, &rest, &m->lifted, &m->n_lifted));
    TRY_DONE(unpack_message(m->path, &onnx__model_proto__descriptor, rest.s, rest.n, n, &proto));
    m->proto = (Onnx__ModelProto *)proto;
    put_back_weights(m);
done:
    text_free(&rest);
    return st;
}

/* Takes `data`, also on failure. */
static status open_shared(const char *name, mem_shared *data, size_t n, const limits *l, onnx_model **out)
{
    onnx_model *m = NULL;
    status st = ST_OK;
    TRY_DONE(mem_alloc(&m, 1, sizeof *m));
    m->weights = mem_hold(data);
    m->lim = *l;
    m->bytes = n;
    TRY_DONE(mem_strdup(&m->path, name));
    TRY_DONE(wire_check(name, (const unsigned char *)mem_shared_data(data), n, WIRE_MODEL, l));
    TRY_DONE(unpack_model(m, n));
    *out = m;
    m = NULL;
done:
    mem_drop(data);
    onnx_close(m);
    return st;
}

status onnx_open_bytes(const char *name, const void *data, size_t n, const limits *l, onnx_model **out)
{
    limits lim = l ? *l : limits_default();
    mem_shared *copy;
    *out = NULL;
    if (n > lim.onnx_file)
        return fail(ST_BAD_DATA, "%s: %zu bytes, the limit is %llu (limits.onnx_file)", name, n,
                    (unsigned long long)lim.onnx_file);
    TRY(mem_share(n, &copy));
    if (n)
        memcpy(mem_shared_data(copy), data, n);
    return open_shared(name, copy, n, &lim, out);
}

status onnx_open(const char *path, const limits *l, onnx_model **out)
{
    limits lim = l ? *l : limits_default();
    mem_shared *data;
    onnx_model *m = NULL;
    size_t n;
    status st = ST_OK;
    *out = NULL;
    TRY(io_read_shared(path, lim.onnx_file, &data, &n));
    TRY_DONE(open_shared(path, data, n, &lim, &m));
    TRY_DONE(folder_of(path, &m->dir));
    TRY_DONE(identify(m));
    *out = m;
    m = NULL;
done:
    onnx_close(m);
    return st;
}

status onnx_input_names(const onnx_model *m, const char ***names, size_t *n)
{
    static const Onnx__GraphProto none = ONNX__GRAPH_PROTO__INIT;
    const Onnx__GraphProto *g = m->proto->graph ? m->proto->graph : &none;
    name_map given = {0};
    uint32_t *slot;
    status st = ST_OK;
    *n = 0;
    TRY(mem_alloc(names, g->n_input, sizeof **names));
    for (size_t i = 0; i < g->n_initializer; i++)
        if (g->initializer[i]->name) {
            TRY_DONE(name_map_put(&given, g->initializer[i]->name, &slot));
            *slot = 1;
        }
    for (size_t i = 0; i < g->n_input; i++)
        if (g->input[i]->name && !name_map_get(&given, g->input[i]->name))
            (*names)[(*n)++] = g->input[i]->name;
done:
    name_map_free(&given);
    if (st != ST_OK) {
        mem_free(*names);
        *names = NULL;
    }
    return st;
}

size_t onnx_meta_count(const onnx_model *m)
{
    return m->proto ? m->proto->n_metadata_props : 0;
}

void onnx_meta(const onnx_model *m, size_t i, const char **key, const char **value)
{
    const Onnx__StringStringEntryProto *p = m->proto->metadata_props[i];
    *key = p->key ? p->key : "";
    *value = p->value ? p->value : "";
}

void onnx_release(onnx_model *m)
{
    take_out_weights(m);
    unpack_free(m->proto ? &m->proto->base : NULL);
    m->proto = NULL;
    mem_free(m->lifted);
    m->lifted = NULL;
    m->n_lifted = 0;
    mem_drop(m->weights);
    m->weights = NULL;
}

void onnx_close(onnx_model *m)
{
    if (!m)
        return;
    onnx_release(m);
    mem_free(m->path);
    mem_free(m->dir);
    mem_free(m);
}
