/* types.c - the element type table, shape arithmetic and owned tensors. */
#include "graph/types.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define DTYPE_ROW(e, c, bytes, text, code, st, descr)                                                             \
    [DTYPE_##e] = {text, bytes, code, st, descr, (code) == 1 || (code) == 11 || (code) == 10 || (code) == 16,     \
                   (code) == 3 || (code) == 5 || (code) == 6 || (code) == 7},
static const dtype_info table[DTYPE_COUNT] = {[DTYPE_NONE] = {"none", 0, 0, "", "", false, false}, DTYPES(DTYPE_ROW)};

const dtype_info *dtype_of(dtype t)
{
    return &table[(unsigned)t < DTYPE_COUNT ? t : DTYPE_NONE];
}

dtype dtype_from_onnx(int onnx)
{
    for (int t = 1; t < DTYPE_COUNT; t++)
        if (table[t].onnx == onnx)
            return (dtype)t;
    return DTYPE_NONE;
}

dtype dtype_from_safetensors(const char *name)
{
    for (int t = 1; t < DTYPE_COUNT; t++)
        if (strcmp(table[t].safetensors, name) == 0)
            return (dtype)t;
    return DTYPE_NONE;
}

dtype dtype_from_npy(const char *descr)
{
    for (int t = 1; t < DTYPE_COUNT; t++)
        if (strcmp(table[t].npy, descr) == 0)
            return (dtype)t;
    return DTYPE_NONE;
}

shape shape_from(const int64_t *dim, size_t rank)
{
    shape s = {.rank = (int32_t)(rank < RANK_MAX ? rank : RANK_MAX)};
    for (int i = 0; i < s.rank; i++)
        s.dim[i] = dim[i];
    return s;
}

bool shape_equal(const shape *a, const shape *b)
{
    if (a->rank != b->rank)
        return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i])
            return false;
    return true;
}

int64_t shape_count(const shape *s)
{
    int64_t n = 1;
    for (int i = 0; i < s->rank; i++)
        n *= s->dim[i];
    return n;
}

#define ELEMENTS_MAX ((int64_t)1 << 40)

status shape_bytes(const shape *s, dtype t, size_t *bytes)
{
    int64_t n = 1;
    bool empty = false, overflow = false;
    char buf[200];
    for (int i = 0; i < s->rank; i++) {
        if (s->dim[i] < 0)
            return fail(ST_BAD_DATA, "shape %s has a negative dimension", shape_print(s, buf));
        empty |= s->dim[i] == 0;
        if (s->dim[i] > 0)
            overflow |= __builtin_mul_overflow(n, s->dim[i], &n) || n > ELEMENTS_MAX;
    }
    if (overflow)
        return fail(ST_BAD_DATA, "shape %s has more than 2^40 elements", shape_print(s, buf));
    *bytes = empty ? 0 : (size_t)n * dtype_of(t)->size;
    return ST_OK;
}

const char *shape_print(const shape *s, char *buf)
{
    size_t used = 0;
    buf[used++] = '[';
    for (int i = 0; i < s->rank; i++)
        used += (size_t)snprintf(buf + used, 24, "%s%" PRId64, i ? ", " : "", s->dim[i]);
    snprintf(buf + used, 2, "]");
    return buf;
}

int shape_axis(const shape *s, int64_t axis)
{
    if (axis < -s->rank || axis >= s->rank)
        return -1;
    return (int)(axis < 0 ? axis + s->rank : axis);
}

bool shape_broadcast(const shape *a, const shape *b, shape *out)
{
    shape r = {.rank = a->rank > b->rank ? a->rank : b->rank};
    for (int i = 1; i <= r.rank; i++) {
        int64_t x = i <= a->rank ? a->dim[a->rank - i] : 1, y = i <= b->rank ? b->dim[b->rank - i] : 1;
        if (x != y && x != 1 && y != 1)
            return false;
        r.dim[r.rank - i] = x == 1 ? y : x;
    }
    *out = r;
    return true;
}

status tensor_new(tensor *t, const char *name, dtype type, shape sh)
{
    size_t bytes;
    *t = (tensor){.type = type, .sh = sh};
    TRY(shape_bytes(&sh, type, &bytes));
    TRY(mem_alloc(&t->data, bytes, 1));
    status st = name ? mem_strdup(&t->name, name) : ST_OK;
    if (st != ST_OK)
        tensor_free(t);
    return st;
}

status tensor_copy(tensor *to, const tensor *from)
{
    TRY(tensor_new(to, from->name, from->type, from->sh));
    memcpy(to->data, from->data, tensor_bytes(from));
    return ST_OK;
}

void tensor_free(tensor *t)
{
    mem_free(t->name);
    mem_free(t->data);
    *t = (tensor){0};
}

size_t tensor_bytes(const tensor *t)
{
    return (size_t)shape_count(&t->sh) * dtype_of(t->type)->size;
}

static double bf16_to(uint16_t v)
{
    uint32_t bits = (uint32_t)v << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return (double)f;
}

double dtype_load(dtype t, const void *data, int64_t i)
{
    if (t == DTYPE_BF16)
        return bf16_to(((const uint16_t *)data)[i]);
    switch (t) {
#define LOAD(e, c, size, name, onnx, st, npy)                                                                     \
    case DTYPE_##e:                                                                                               \
        return (double)((const c *)data)[i];
        DTYPES(LOAD)
#undef LOAD
    case DTYPE_NONE:
    case DTYPE_COUNT:
        break;
    }
    return 0;
}

/* Round to nearest even to bfloat16; NaN stays NaN. */
static uint16_t bf16_from(double v)
{
    float f = (float)v;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if (f != f)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static int64_t clamp_i64(double v, int64_t lo, int64_t hi)
{
    if (v != v)
        return 0;
    return v <= (double)lo ? lo : v >= (double)hi ? hi : (int64_t)v;
}

void dtype_store(dtype t, void *data, int64_t i, double v)
{
    switch (t) {
    case DTYPE_F32: ((float *)data)[i] = (float)v; break;
    case DTYPE_F64: ((double *)data)[i] = v; break;
    case DTYPE_F16: ((_Float16 *)data)[i] = (_Float16)v; break;
    case DTYPE_BF16: ((uint16_t *)data)[i] = bf16_from(v); break;
    case DTYPE_I8: ((int8_t *)data)[i] = (int8_t)clamp_i64(v, INT8_MIN, INT8_MAX); break;
    case DTYPE_U8: ((uint8_t *)data)[i] = (uint8_t)clamp_i64(v, 0, UINT8_MAX); break;
    case DTYPE_I16: ((int16_t *)data)[i] = (int16_t)clamp_i64(v, INT16_MIN, INT16_MAX); break;
    case DTYPE_U16: ((uint16_t *)data)[i] = (uint16_t)clamp_i64(v, 0, UINT16_MAX); break;
    case DTYPE_I32: ((int32_t *)data)[i] = (int32_t)clamp_i64(v, INT32_MIN, INT32_MAX); break;
    case DTYPE_U32: ((uint32_t *)data)[i] = (uint32_t)clamp_i64(v, 0, UINT32_MAX); break;
    case DTYPE_I64: ((int64_t *)data)[i] = clamp_i64(v, INT64_MIN, INT64_MAX); break;
    case DTYPE_U64: ((uint64_t *)data)[i] = v <= 0 || v != v ? 0 : v >= 0x1p64 ? UINT64_MAX : (uint64_t)v; break;
    case DTYPE_BOOL: ((uint8_t *)data)[i] = v != 0; break;
    case DTYPE_NONE:
    case DTYPE_COUNT: break;
    }
}

double tensor_at(const tensor *t, int64_t i)
{
    return dtype_load(t->type, t->data, i);
}

void tensor_put(tensor *t, int64_t i, double v)
{
    dtype_store(t->type, t->data, i, v);
}

status tensor_convert(tensor *to, const tensor *from, dtype type)
{
    TRY(tensor_new(to, from->name, type, from->sh));
    if (type == from->type) {
        memcpy(to->data, from->data, tensor_bytes(from));
        return ST_OK;
    }
    int64_t n = shape_count(&from->sh);
    for (int64_t i = 0; i < n; i++)
        tensor_put(to, i, tensor_at(from, i));
    return ST_OK;
}

status tensor_list_add(tensor_list *l, tensor *t)
{
    status st = mem_push(&l->at, &l->cap, l->n, sizeof *l->at);
    if (st != ST_OK) {
        tensor_free(t);
        return st;
    }
    l->at[l->n++] = *t;
    *t = (tensor){0};
    return ST_OK;
}

const tensor *tensor_list_find(const tensor_list *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->at[i].name && strcmp(l->at[i].name, name) == 0)
            return &l->at[i];
    return NULL;
}

void tensor_list_free(tensor_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        tensor_free(&l->at[i]);
    mem_free(l->at);
    *l = (tensor_list){0};
}
