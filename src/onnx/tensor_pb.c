/* tensor_pb.c - ONNX TensorProto to tensor and back.
 *
 * Storage forms (onnx.proto, TensorProto): raw_data, little-endian; else the typed field of the element type, where
 * int32_data also carries the narrow integers, bool, and the bits of float16 and bfloat16; else a file beside the model. */
#include "onnx/tensor_pb.h"

#include "base/io.h"
#include "onnx/external.h"
#include "onnx/lift.h"
#include "onnx/unpack.h"
#include "onnx/wire.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "raw_data is little-endian");

/* Element types of ONNX that no tensor here can hold. */
/* clang-format off */
static const char *const unsupported[] = {
    [0] = "undefined", [8] = "string", [14] = "complex64", [15] = "complex128", [17] = "float8e4m3fn",
    [18] = "float8e4m3fnuz", [19] = "float8e5m2", [20] = "float8e5m2fnuz", [21] = "uint4", [22] = "int4",
    [23] = "float4e2m1", [24] = "float8e8m0", [25] = "uint2", [26] = "int2",
};
/* clang-format on */

typedef enum storage { STORE_FLOAT, STORE_INT32, STORE_INT64, STORE_DOUBLE, STORE_UINT64 } storage;
/* clang-format off */
static const uint8_t storage_of[DTYPE_COUNT] = {
    [DTYPE_F32] = STORE_FLOAT,  [DTYPE_F64] = STORE_DOUBLE, [DTYPE_F16] = STORE_INT32,  [DTYPE_BF16] = STORE_INT32,
    [DTYPE_I8] = STORE_INT32,   [DTYPE_U8] = STORE_INT32,   [DTYPE_I16] = STORE_INT32,  [DTYPE_U16] = STORE_INT32,
    [DTYPE_I32] = STORE_INT32,  [DTYPE_U32] = STORE_UINT64, [DTYPE_I64] = STORE_INT64,  [DTYPE_U64] = STORE_UINT64,
    [DTYPE_BOOL] = STORE_INT32,
};
/* clang-format on */

static status check_type(const tensor_source *src, const Onnx__TensorProto *p, const char *what, dtype *type)
{
    size_t known = sizeof unsupported / sizeof *unsupported;
    *type = p->has_data_type ? dtype_from_onnx(p->data_type) : DTYPE_NONE;
    if (*type != DTYPE_NONE)
        return ST_OK;
    int code = p->has_data_type ? p->data_type : 0;
    if (code >= 0 && (size_t)code < known && unsupported[code])
        return fail(ST_BAD_DATA, "%s: %s: element type %s is not supported", src->path, what,
                    unsupported[code]);
    return fail(ST_BAD_DATA, "%s: %s: unknown element type %d", src->path, what, code);
}

static status check_shape(const tensor_source *src, const Onnx__TensorProto *p, const char *what, dtype type,
                          shape *sh, size_t *bytes)
{
    if (p->n_dims > RANK_MAX)
        return fail(ST_BAD_DATA, "%s: %s: %zu dimensions, at most %d are supported", src->path, what,
                    p->n_dims, RANK_MAX);
    *sh = shape_from(p->dims, p->n_dims);
    status st = shape_bytes(sh, type, bytes);
    if (st != ST_OK)
        return fail_within(st, "%s: %s", src->path, what);
    if (*bytes / dtype_of(type)->size > src->lim->elements)
        return fail(ST_BAD_DATA, "%s: %s: more than %" PRIu64 " elements (limits.elements)", src->path, what,
                    src->lim->elements);
    return ST_OK;
}

/* The typed field of this storage: its elements, their number and size. */
static const void *typed_field(const Onnx__TensorProto *p, storage s, size_t *n, size_t *size)
{
    const void *data[] = {p->float_data, p->int32_data, p->int64_data, p->double_data, p->uint64_data};
    const size_t count[] = {p->n_float_data, p->n_int32_data, p->n_int64_data, p->n_double_data,
                            p->n_uint64_data};
    static const size_t width[] = {4, 4, 8, 8, 8};
    *n = count[s];
    *size = width[s];
    return data[s];
}

/* Bounds of what an int32_data or uint64_data element may be for a narrower type. */
static void range_of(dtype t, int64_t *low, int64_t *high)
{
    int bits = (int)dtype_of(t)->size * 8;
    bool is_signed = dtype_of(t)->is_signed;
    *low = is_signed ? -((int64_t)1 << (bits - 1)) : 0;
    *high = is_signed ? -*low - 1 : ((int64_t)1 << bits) - 1;
}

static status read_typed(const tensor_source *src, const Onnx__TensorProto *p, const char *what, tensor *t)
{
    size_t n, size, width = dtype_of(t->type)->size;
    const void *from = typed_field(p, (storage)storage_of[t->type], &n, &size);
    if (size == width && t->type != DTYPE_BOOL) {
        if (n)
            memcpy(t->data, from, n * size);
        return ST_OK;
    }
    int64_t low, high;
    range_of(t->type, &low, &high);
    for (size_t i = 0; i < n; i++) {
        int64_t v;
        if (size == 4) {
            v = ((const int32_t *)from)[i];
        } else {
            uint64_t u = ((const uint64_t *)from)[i];
            v = u > INT64_MAX ? INT64_MAX : (int64_t)u;
        }
        if (v < low || v > high)
            return fail(ST_BAD_DATA, "%s: %s: element %zu is %" PRId64 ", outside the range of %s", src->path,
                        what, i, v, dtype_of(t->type)->name);
        memcpy((char *)t->data + i * width, &v, width); /* little-endian: the low bytes */
    }
    return ST_OK;
}

/* Where the elements are, and whether there are as many bytes as shape and type need. Nothing is allocated before. */
static status check_storage(tensor_source *src, const Onnx__TensorProto *p, const char *what, dtype type,
                            size_t bytes)
{
    bool external = p->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    size_t typed = 0, right = 0, size, elements = bytes / dtype_of(type)->size;
    for (int s = STORE_FLOAT; s <= STORE_UINT64; s++) {
        size_t n;
        typed_field(p, (storage)s, &n, &size);
        typed += n;
        if (s == storage_of[type])
            right = n;
    }
    typed += p->n_string_data;
    if (p->segment)
        return fail(ST_BAD_DATA, "%s: %s: stored in segments, which is not supported", src->path, what);
    if (p->data_location != ONNX__TENSOR_PROTO__DATA_LOCATION__DEFAULT && !external)
        return fail(ST_BAD_DATA, "%s: %s: unknown data location %d", src->path, what, (int)p->data_location);
    if ((external || p->has_raw_data) && typed > 0)
        return fail(ST_BAD_DATA, "%s: %s: elements in two places", src->path, what);
    if (external && p->has_raw_data && p->raw_data.len > 0)
        return fail(ST_BAD_DATA, "%s: %s: elements in raw_data and in a file", src->path, what);
    if (external)
        return external_check(src, p, what, bytes);
    if (p->has_raw_data)
        return p->raw_data.len == bytes
                   ? ST_OK
                   : fail(ST_BAD_DATA, "%s: %s: raw_data has %zu bytes, type and shape need %zu", src->path,
                          what, p->raw_data.len, bytes);
    if (typed != right)
        return fail(ST_BAD_DATA, "%s: %s: elements are stored in a field that is not for %s", src->path, what,
                    dtype_of(type)->name);
    if (right != elements)
        return fail(ST_BAD_DATA, "%s: %s: %zu elements stored, its shape needs %zu", src->path, what, right,
                    elements);
    return ST_OK;
}

status tensor_in_place(tensor_source *src, const Onnx__TensorProto *p, const char *what, tensor *out)
{
    dtype type;
    shape sh;
    size_t bytes;
    *out = (tensor){0};
    if (!p->has_raw_data || (uintptr_t)p->raw_data.data % LIFT_ALIGNMENT)
        return ST_OK;
    TRY(check_type(src, p, what, &type));
    TRY(check_shape(src, p, what, type, &sh, &bytes));
    TRY(check_storage(src, p, what, type, bytes));
    if (type != DTYPE_BOOL) /* those are made 0 or 1 */
        *out = (tensor){.type = type, .sh = sh, .data = p->raw_data.data};
    return ST_OK;
}

status tensor_from_proto(tensor_source *src, const Onnx__TensorProto *p, const char *what, tensor *out)
{
    dtype type;
    shape sh;
    size_t bytes;
    status st = ST_OK;
    *out = (tensor){0};
    TRY(check_type(src, p, what, &type));
    TRY(check_shape(src, p, what, type, &sh, &bytes));
    TRY(check_storage(src, p, what, type, bytes));
    TRY(tensor_new(out, p->name && *p->name ? p->name : NULL, type, sh));
    if (p->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL)
        TRY_DONE(external_read(src, p, what, out->data, bytes));
    else if (p->has_raw_data && bytes > 0)
        memcpy(out->data, p->raw_data.data, bytes);
    else if (!p->has_raw_data)
        TRY_DONE(read_typed(src, p, what, out));
    if (type == DTYPE_BOOL) /* any other byte than 0 means true; kernels rely on 1 */
        for (size_t i = 0; i < bytes; i++)
            ((uint8_t *)out->data)[i] = ((const uint8_t *)out->data)[i] != 0;
    return ST_OK;
done:
    tensor_free(out);
    return st;
}

status tensor_read_pb(const char *path, const limits *l, tensor *out)
{
    limits lim = l ? *l : limits_default();
    unsigned char *data = NULL;
    ProtobufCMessage *proto = NULL;
    size_t n;
    status st = ST_OK;
    *out = (tensor){0};
    TRY(io_read_file(path, lim.onnx_file, &data, &n));
    TRY_DONE(wire_check(path, data, n, WIRE_TENSOR, &lim));
    TRY_DONE(unpack_message(path, &onnx__tensor_proto__descriptor, data, n, n, &proto));
    tensor_source src = {.path = path, .lim = &lim};
    TRY_DONE(tensor_from_proto(&src, (const Onnx__TensorProto *)proto, "tensor", out));
done:
    unpack_free(proto);
    mem_free(data);
    return st;
}

status tensor_put_pb(text *out, const char *name, dtype type, const shape *sh, const void *data)
{
    size_t bytes;
    TRY(shape_bytes(sh, type, &bytes));
    wire_put_ints(out, 1, sh->dim, (size_t)sh->rank);
    wire_put_int(out, 2, dtype_of(type)->onnx);
    if (name)
        wire_put_string(out, 8, name);
    wire_put_bytes(out, 9, data, bytes);
    return out->st;
}

status tensor_write_pb(const char *path, const tensor *t)
{
    text out = {0};
    status st = tensor_put_pb(&out, t->name, t->type, &t->sh, t->data);
    if (st == ST_OK)
        st = io_write_file(path, out.s, out.n);
    text_free(&out);
    return st;
}
