/* wire.c - the guard over the bytes of an ONNX file, and the writer of such bytes.
 *
 * Format: protobuf encoding (https://protobuf.dev/programming-guides/encoding/) of onnx.proto3 of ONNX 1.20; fields that
 * newer versions add are skipped like any unknown field, their contents unseen, as protobuf-c keeps them as bytes. */
#include "onnx/wire.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define DEPTH_MAX 256 /* what protobuf-c takes on a small thread stack with room to spare */
#define FIELD_MAX 31

typedef enum field_kind {
    K_UNKNOWN,
    K_INT,    /* varint */
    K_FLOAT,  /* 4 bytes */
    K_DOUBLE, /* 8 bytes */
    K_NAME,   /* string that becomes a name: short, UTF-8, printable */
    K_TEXT,   /* other strings: no NUL, which would cut them short unseen */
    K_BYTES,
    K_MESSAGE
} field_kind;

/* clang-format off */
typedef enum message {
    M_MODEL, M_OPSET, M_PAIR, M_TRAINING, M_FUNCTION, M_GRAPH, M_NODE, M_ATTRIBUTE, M_TENSOR, M_SEGMENT, M_SPARSE,
    M_ANNOTATION, M_VALUE_INFO, M_TYPE, M_TYPE_TENSOR, M_TYPE_SEQUENCE, M_TYPE_MAP, M_TYPE_OPTIONAL, M_SHAPE,
    M_DIMENSION, MESSAGE_COUNT
} message;
/* clang-format on */

typedef struct field {
    const char *name;
    uint8_t kind;  /* field_kind */
    uint8_t child; /* message, of K_MESSAGE */
    uint8_t many;  /* repeated */
    uint8_t group; /* member of a oneof: they share this bit of "seen"; 0: the field number is the bit */
} field;

/* clang-format off */
#define ONE(kind, name)      {name, K_##kind, 0, 0, 0}
#define MANY(kind, name)     {name, K_##kind, 0, 1, 0}
#define SUB(child, name)     {name, K_MESSAGE, M_##child, 0, 0}
#define SUBS(child, name)    {name, K_MESSAGE, M_##child, 1, 0}
#define EITHER(child, name)  {name, K_MESSAGE, M_##child, 0, 31}

static const char *const message_name[MESSAGE_COUNT] = {
    "ModelProto", "OperatorSetIdProto", "StringStringEntryProto", "TrainingInfoProto", "FunctionProto", "GraphProto",
    "NodeProto", "AttributeProto", "TensorProto", "Segment", "SparseTensorProto", "TensorAnnotation", "ValueInfoProto",
    "TypeProto", "Tensor", "Sequence", "Map", "Optional", "TensorShapeProto", "Dimension",
};

/* [message][field number] */
static const field schema[MESSAGE_COUNT][FIELD_MAX + 1] = {
    [M_MODEL] = {[1] = ONE(INT, "ir_version"), [2] = ONE(TEXT, "producer_name"), [3] = ONE(TEXT, "producer_version"),
                 [4] = ONE(TEXT, "domain"), [5] = ONE(INT, "model_version"), [6] = ONE(TEXT, "doc_string"),
                 [7] = SUB(GRAPH, "graph"), [8] = SUBS(OPSET, "opset_import"), [14] = SUBS(PAIR, "metadata_props"),
                 [20] = SUBS(TRAINING, "training_info"), [25] = SUBS(FUNCTION, "functions")},
    [M_OPSET] = {[1] = ONE(NAME, "domain"), [2] = ONE(INT, "version")},
    [M_PAIR] = {[1] = ONE(TEXT, "key"), [2] = ONE(TEXT, "value")},
    [M_TRAINING] = {[1] = SUB(GRAPH, "initialization"), [2] = SUB(GRAPH, "algorithm"),
                    [3] = SUBS(PAIR, "initialization_binding"), [4] = SUBS(PAIR, "update_binding")},
    [M_FUNCTION] = {[1] = ONE(NAME, "name"), [4] = MANY(NAME, "input"), [5] = MANY(NAME, "output"),
                    [6] = MANY(NAME, "attribute"), [7] = SUBS(NODE, "node"), [8] = ONE(TEXT, "doc_string"),
                    [9] = SUBS(OPSET, "opset_import"), [10] = ONE(NAME, "domain"),
                    [11] = SUBS(ATTRIBUTE, "attribute_proto"), [12] = SUBS(VALUE_INFO, "value_info"),
                    [13] = ONE(NAME, "overload"), [14] = SUBS(PAIR, "metadata_props")},
    [M_GRAPH] = {[1] = SUBS(NODE, "node"), [2] = ONE(TEXT, "name"), [5] = SUBS(TENSOR, "initializer"),
                 [10] = ONE(TEXT, "doc_string"), [11] = SUBS(VALUE_INFO, "input"), [12] = SUBS(VALUE_INFO, "output"),
                 [13] = SUBS(VALUE_INFO, "value_info"), [14] = SUBS(ANNOTATION, "quantization_annotation"),
                 [15] = SUBS(SPARSE, "sparse_initializer"), [16] = SUBS(PAIR, "metadata_props")},
    [M_NODE] = {[1] = MANY(NAME, "input"), [2] = MANY(NAME, "output"), [3] = ONE(NAME, "name"),
                [4] = ONE(NAME, "op_type"), [5] = SUBS(ATTRIBUTE, "attribute"), [6] = ONE(TEXT, "doc_string"),
                [7] = ONE(NAME, "domain"), [8] = ONE(NAME, "overload"), [9] = SUBS(PAIR, "metadata_props")},
    [M_ATTRIBUTE] = {[1] = ONE(NAME, "name"), [2] = ONE(FLOAT, "f"), [3] = ONE(INT, "i"), [4] = ONE(BYTES, "s"),
                     [5] = SUB(TENSOR, "t"), [6] = SUB(GRAPH, "g"), [7] = MANY(FLOAT, "floats"),
                     [8] = MANY(INT, "ints"), [9] = MANY(BYTES, "strings"), [10] = SUBS(TENSOR, "tensors"),
                     [11] = SUBS(GRAPH, "graphs"), [13] = ONE(TEXT, "doc_string"), [14] = SUB(TYPE, "tp"),
                     [15] = SUBS(TYPE, "type_protos"), [20] = ONE(INT, "type"), [21] = ONE(NAME, "ref_attr_name"),
                     [22] = SUB(SPARSE, "sparse_tensor"), [23] = SUBS(SPARSE, "sparse_tensors")},
    [M_TENSOR] = {[1] = MANY(INT, "dims"), [2] = ONE(INT, "data_type"), [3] = SUB(SEGMENT, "segment"),
                  [4] = MANY(FLOAT, "float_data"), [5] = MANY(INT, "int32_data"), [6] = MANY(BYTES, "string_data"),
                  [7] = MANY(INT, "int64_data"), [8] = ONE(NAME, "name"), [9] = ONE(BYTES, "raw_data"),
                  [10] = MANY(DOUBLE, "double_data"), [11] = MANY(INT, "uint64_data"),
                  [12] = ONE(TEXT, "doc_string"), [13] = SUBS(PAIR, "external_data"),
                  [14] = ONE(INT, "data_location"), [16] = SUBS(PAIR, "metadata_props")},
    [M_SEGMENT] = {[1] = ONE(INT, "begin"), [2] = ONE(INT, "end")},
    [M_SPARSE] = {[1] = SUB(TENSOR, "values"), [2] = SUB(TENSOR, "indices"), [3] = MANY(INT, "dims")},
    [M_ANNOTATION] = {[1] = ONE(NAME, "tensor_name"), [2] = SUBS(PAIR, "quant_parameter_tensor_names")},
    [M_VALUE_INFO] = {[1] = ONE(NAME, "name"), [2] = SUB(TYPE, "type"), [3] = ONE(TEXT, "doc_string"),
                      [4] = SUBS(PAIR, "metadata_props")},
    [M_TYPE] = {[1] = EITHER(TYPE_TENSOR, "tensor_type"), [4] = EITHER(TYPE_SEQUENCE, "sequence_type"),
                [5] = EITHER(TYPE_MAP, "map_type"), [6] = ONE(TEXT, "denotation"),
                [8] = EITHER(TYPE_TENSOR, "sparse_tensor_type"), [9] = EITHER(TYPE_OPTIONAL, "optional_type")},
    [M_TYPE_TENSOR] = {[1] = ONE(INT, "elem_type"), [2] = SUB(SHAPE, "shape")},
    [M_TYPE_SEQUENCE] = {[1] = SUB(TYPE, "elem_type")},
    [M_TYPE_MAP] = {[1] = ONE(INT, "key_type"), [2] = SUB(TYPE, "value_type")},
    [M_TYPE_OPTIONAL] = {[1] = SUB(TYPE, "elem_type")},
    [M_SHAPE] = {[1] = SUBS(DIMENSION, "dim")},
    [M_DIMENSION] = {[1] = {"dim_value", K_INT, 0, 0, 31}, [2] = {"dim_param", K_NAME, 0, 0, 31},
                     [3] = ONE(TEXT, "denotation")},
};
/* clang-format on */

/* ---- the guard ---- */

typedef struct frame {
    size_t end;
    message kind;
    uint32_t seen; /* fields that may occur once and have */
} frame;

typedef struct guard {
    const char *path;
    const unsigned char *data;
    size_t pos;
    const limits *l;
    uint64_t messages;
} guard;

MUST_USE PRINTF_LIKE(3, 4) static status refuse(const guard *g, size_t at, const char *fmt, ...)
{
    char what[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return fail(ST_BAD_DATA, "%s: byte %zu: %s; the file is damaged or not an ONNX model", g->path, at, what);
}

/* A varint of at most `most` bytes that ends before `end`. */
static status read_varint(guard *g, size_t end, int most, uint64_t *out)
{
    uint64_t v = 0;
    size_t at = g->pos;
    for (int i = 0; i < most; i++) {
        if (g->pos == end)
            return refuse(g, at, "number cut off");
        unsigned char b = g->data[g->pos++];
        if (i == 9 && b > 1)
            break;
        v |= (uint64_t)(b & 0x7f) << (7 * i);
        if (b < 0x80) {
            *out = v;
            return ST_OK;
        }
    }
    return refuse(g, at, "number too long");
}

static status check_string(const guard *g, const field *f, message in, size_t n)
{
    const unsigned char *s = g->data + g->pos;
    if (f->kind == K_BYTES || n == 0)
        return ST_OK;
    if (memchr(s, 0, n))
        return refuse(g, g->pos, "%s.%s has a zero byte", message_name[in], f->name);
    if (f->kind != K_NAME)
        return ST_OK;
    if (n > g->l->name)
        return refuse(g, g->pos, "%s.%s has %zu bytes, the limit for names is %" PRIu64, message_name[in],
                      f->name, n, g->l->name);
    for (size_t i = 0; i < n;) {
        size_t k = utf8_length((const char *)s + i, n - i);
        if (k == 0 || s[i] < 0x20 || s[i] == 0x7f)
            return refuse(g, g->pos + i, "%s.%s has a %s", message_name[in], f->name,
                          k == 0 ? "byte that is not UTF-8" : "control character");
        i += k;
    }
    return ST_OK;
}

/* The payload of a length-delimited field of numbers: whole elements only. */
static status check_packed(guard *g, const field *f, message in, size_t n)
{
    size_t end = g->pos + n, width = f->kind == K_FLOAT ? 4 : 8;
    if (f->kind != K_INT) {
        if (n % width != 0)
            return refuse(g, g->pos, "%s.%s has a part of a number", message_name[in], f->name);
        g->pos = end;
        return ST_OK;
    }
    while (g->pos < end) {
        uint64_t v;
        TRY(read_varint(g, end, 10, &v));
    }
    return ST_OK;
}

static int wire_type_of(field_kind k)
{
    static const int type[] = {[K_INT] = 0,  [K_FLOAT] = 5, [K_DOUBLE] = 1, [K_NAME] = 2,
                               [K_TEXT] = 2, [K_BYTES] = 2, [K_MESSAGE] = 2};
    return type[k];
}

static status skip(guard *g, size_t at, size_t end, size_t n)
{
    if (n > end - g->pos)
        return refuse(g, at, "field of %zu bytes, %zu are left", n, end - g->pos);
    g->pos += n;
    return ST_OK;
}

/* One field of the message on top. A sub-message is not walked here but returned in *sub (end 0: none). */
static status check_field(guard *g, frame *top, frame *sub)
{
    size_t at = g->pos;
    uint64_t tag = 0, n = 0;
    sub->end = 0;
    TRY(read_varint(g, top->end, 5, &tag));
    unsigned type = tag & 7;
    if (tag >> 3 == 0 || tag > UINT32_MAX)
        return refuse(g, at, "field number %" PRIu64, tag >> 3);
    static const field unknown = {"field", K_UNKNOWN, 0, 1, 0};
    const field *f = tag >> 3 <= FIELD_MAX ? &schema[top->kind][tag >> 3] : &unknown;
    if (f->kind == K_UNKNOWN)
        f = &unknown;
    else if ((int)type != wire_type_of(f->kind) && !(type == 2 && f->many && f->kind <= K_DOUBLE))
        return refuse(g, at, "%s.%s has wire type %u", message_name[top->kind], f->name, type);
    if (!f->many) {
        uint32_t bit = (uint32_t)1 << (f->group ? f->group : tag >> 3);
        if (top->seen & bit)
            return refuse(g, at, "%s has a second %s", message_name[top->kind], f->name);
        top->seen |= bit;
    }
    switch (type) {
    case 0:
        return read_varint(g, top->end, 10, &n);
    case 1:
        return skip(g, at, top->end, 8);
    case 5:
        return skip(g, at, top->end, 4);
    case 2:
        break;
    default:
        return refuse(g, at, "wire type %u", type);
    }
    TRY(read_varint(g, top->end, 5, &n));
    if (n > top->end - g->pos)
        return refuse(g, at, "%s.%s of %" PRIu64 " bytes, %zu are left", message_name[top->kind], f->name, n,
                      top->end - g->pos);
    if (f->kind == K_MESSAGE) {
        *sub = (frame){g->pos + (size_t)n, (message)f->child, 0};
        return ST_OK;
    }
    if (f->kind != K_UNKNOWN && f->kind <= K_DOUBLE)
        return check_packed(g, f, top->kind, (size_t)n);
    if (f->kind != K_UNKNOWN)
        TRY(check_string(g, f, top->kind, (size_t)n));
    g->pos += (size_t)n;
    return ST_OK;
}

status wire_check(const char *path, const unsigned char *data, size_t n, wire_root root, const limits *l)
{
    frame stack[DEPTH_MAX];
    size_t depth_max = l->onnx_depth < DEPTH_MAX ? (size_t)l->onnx_depth : DEPTH_MAX, depth = 1;
    guard g = {path, data, 0, l, 1};
    if (n == 0)
        return fail(ST_BAD_DATA, "%s: the file is empty", path);
    if (n > 24 && memcmp(data, "version https://git-lfs", 23) == 0)
        return fail(ST_BAD_DATA, "%s: a Git LFS pointer, not the file itself; fetch it with 'git lfs pull'",
                    path);
    stack[0] = (frame){n, root == WIRE_MODEL ? M_MODEL : M_TENSOR, 0};
    while (depth > 0) {
        frame sub;
        if (g.pos == stack[depth - 1].end) {
            depth--;
            continue;
        }
        size_t at = g.pos;
        TRY(check_field(&g, &stack[depth - 1], &sub));
        if (sub.end == 0)
            continue;
        if (depth >= depth_max)
            return fail(ST_BAD_DATA, "%s: byte %zu: messages nested deeper than %zu (limits.onnx_depth)",
                        path, at, depth_max);
        if (++g.messages > l->onnx_messages)
            return fail(ST_BAD_DATA, "%s: byte %zu: more than %" PRIu64 " messages (limits.onnx_messages)",
                        path, at, l->onnx_messages);
        stack[depth++] = sub;
    }
    return ST_OK;
}

/* ---- the writer ---- */

void wire_put_varint(text *t, uint64_t v)
{
    unsigned char b[10];
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        b[n++] = (unsigned char)(v | 0x80);
    b[n++] = (unsigned char)v;
    text_add_n(t, b, n);
}

void wire_put_int(text *t, unsigned field_number, int64_t v)
{
    wire_put_varint(t, field_number << 3);
    wire_put_varint(t, (uint64_t)v);
}

void wire_put_float(text *t, unsigned field_number, float v)
{
    wire_put_varint(t, field_number << 3 | 5);
    text_add_n(t, &v, sizeof v);
}

void wire_put_bytes(text *t, unsigned field_number, const void *data, size_t n)
{
    wire_put_varint(t, field_number << 3 | 2);
    wire_put_varint(t, n);
    text_add_n(t, data, n);
}

void wire_put_string(text *t, unsigned field_number, const char *s)
{
    wire_put_bytes(t, field_number, s, strlen(s));
}

void wire_put_ints(text *t, unsigned field_number, const int64_t *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        wire_put_int(t, field_number, v[i]);
}

void wire_put_message(text *t, unsigned field_number, text *sub)
{
    wire_put_bytes(t, field_number, sub->n > 0 ? sub->s : "", sub->n);
    if (t->st == ST_OK)
        t->st = sub->st;
    text_free(sub);
    *sub = (text){0};
}
