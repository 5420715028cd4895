/* test_onnx_hostile.c - broken, hostile and unsupported ONNX files: each gives a clear message and the right status, within
 * seconds and without touching memory it should not (run under ASan and UBSan too). */
#include "base/io.h"
#include "harness.h"
#include "onnx/export.h"
#include "onnx/import.h"
#include "onnx/tensor_pb.h"
#include "onnx_build.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Opens and imports, both ways. */
static status read_all(const void *data, size_t n)
{
    onnx_model *m = NULL;
    graph *g = NULL;
    status st = onnx_open_bytes("bad.onnx", data, n, NULL, &m);
    for (int trainable = 0; trainable < 2 && st == ST_OK; trainable++) {
        st = onnx_import(m, &(import_options){.trainable = trainable}, &g);
        graph_free(g);
        g = NULL;
    }
    onnx_close(m);
    return st;
}

static size_t cases;

static void expect(const char *name, const void *data, size_t n, const char *part)
{
    double start = now();
    status st = read_all(data, n);
    ck_assert_msg(st == ST_BAD_DATA, "%s: status %d, expected %d: %s", name, (int)st, (int)ST_BAD_DATA,
                  st == ST_OK ? "" : status_message());
    ck_assert_msg(strstr(status_message(), part) != NULL, "%s: message '%s' lacks '%s'", name,
                  status_message(), part);
    ck_assert_msg(strncmp(status_message(), "bad.onnx: ", 10) == 0, "%s: message '%s' does not name the file",
                  name, status_message());
    ck_assert_msg(now() - start < 5, "%s took %.1f s", name, now() - start);
    cases++;
}

static void expect_model(const char *name, model_builder *b, const char *part)
{
    text m = build_model(b);
    ck_assert_int_eq(m.st, ST_OK);
    expect(name, m.s, m.n, part);
    text_free(&m);
}

static void report(const char *what)
{
    printf("%s: %zu bad inputs\n", what, cases);
}

/* ---- the bytes ---- */

/* A message with `depth` levels inside: path of field numbers that lead from one level to the next. */
static text nested(const unsigned *fields, size_t n_fields, size_t depth)
{
    text t = {0}, outer = {0};
    for (size_t k = depth; k-- > 0;) {
        wire_put_message(&outer, fields[k % n_fields], &t);
        t = outer;
        outer = (text){0};
    }
    return t;
}

START_TEST(bytes)
{
    static const struct {
        const char *name, *bytes;
        size_t n;
        const char *part;
    } rows[] = {
        {"empty", "", 0, "empty"},
        {"one byte", "\x08", 1, "number cut off"},
        {"field 0", "\x00\x00", 2, "field number 0"},
        {"wire type 3", "\x0b", 1, "wire type 3"},
        {"wire type 4", "\x0c", 1, "wire type 4"},
        {"wire type 6", "\x0e", 1, "wire type 6"},
        {"wire type 7", "\x0f", 1, "wire type 7"},
        {"eleven byte number", "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12, "number too long"},
        {"number beyond 64 bits", "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11, "number too long"},
        {"six byte tag", "\x88\x80\x80\x80\x80\x00\x00", 7, "number too long"},
        {"length past the end", "\x3a\x7f\x00", 3, "of 127 bytes, 1 are left"},
        {"length 2^63", "\x3a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 11, "number too long"},
        {"length past its parent", "\x3a\x04\x0a\x04\x0a\x00\x00\x00", 8,
         "GraphProto.node of 4 bytes, 2 are left"},
        {"graph as a number", "\x38\x01", 2, "ModelProto.graph has wire type 0"},
        {"version as bytes", "\x0a\x01\x01", 3, "ModelProto.ir_version has wire type 2"},
        {"two graphs", "\x3a\x00\x3a\x00", 4, "second graph"},
        {"two versions", "\x08\x08\x08\x08", 4, "second ir_version"},
        {"cut off 64-bit field", "\xf9\x07\x00\x00", 4, "8 bytes, 2 are left"},
        {"text", "<html><body>not found</body></html>", 35, "not an ONNX model"},
        {"png", "\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 16, "not an ONNX model"},
        {"git lfs", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", 63, "git lfs pull"},
        {"only a version", "\x08\x08", 2, "no graph"},
        {"empty graph", "\x08\x08\x3a\x00\x42\x02\x10\x11", 8, "no outputs"},
        {"control character in a name", "\x3a\x08\x0a\x06\x0a\x01\x1b\x22\x01\x61", 10, "control character"},
        {"zero byte in a name", "\x3a\x09\x0a\x07\x0a\x02\x61\x00\x22\x01\x61", 11, "zero byte"},
        {"name that is not UTF-8", "\x3a\x09\x0a\x07\x0a\x02\xc0\x80\x22\x01\x61", 11, "not UTF-8"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        expect(rows[i].name, rows[i].bytes, rows[i].n, rows[i].part);
    report("bytes");
}
END_TEST

START_TEST(bombs)
{
    static const unsigned graphs[] = {5, 6, 1}; /* node -> attribute -> graph -> node */
    static const unsigned types[] = {4, 1};     /* TypeProto -> Sequence -> TypeProto */
    static const size_t depths[] = {64, 65, 3000, 50000};
    for (size_t i = 0; i < sizeof depths / sizeof *depths; i++) {
        text inner = nested(graphs, 3, depths[i] - 3), body = {0}, model = {0};
        wire_put_message(&body, 1, &inner);
        wire_put_message(&model, 7, &body);
        /* model, graph and node are three levels already; from 64 on it must be refused before it is unpacked */
        expect("nested graphs", model.s, model.n, depths[i] > 64 ? "nested deeper" : "IR version 0");
        text_free(&model);
    }
    text inner = nested(types, 2, 5000), type = {0}, info = {0}, body = {0}, model = {0};
    wire_put_message(&info, 2, &inner);
    wire_put_message(&body, 11, &info);
    wire_put_message(&model, 7, &body);
    expect("nested types", model.s, model.n, "nested deeper");
    text_free(&model);
    text_free(&type);

    text many = {0};
    for (int i = 0; i < 5000000; i++)
        text_add_n(&many, "\x2a\x00", 2); /* empty initializers */
    wire_put_message(&model, 7, &many);
    expect("5 million initializers", model.s, model.n, "more than 1000000 messages");
    text_free(&model);

    for (int i = 0; i < 5000000; i++)
        text_add_n(&many, "\xfa\x07\x00", 3); /* an unknown empty field */
    wire_put_message(&model, 7, &many);
    expect("5 million unknown fields", model.s, model.n, "unpacking needs more than");
    text_free(&model);

    for (int i = 0; i < 5000000; i++)
        text_add_n(&many, "\x0a\x00", 2); /* an empty input name each */
    text inputs = {0};
    wire_put_message(&inputs, 1, &many);
    wire_put_message(&model, 7, &inputs);
    expect("5 million inputs of a node", model.s, model.n, "unpacking needs more than");
    text_free(&model);
    report("bombs");
}
END_TEST

/* Every prefix and, at every place, three changed bytes: an error or a model, never a crash. */
START_TEST(damaged)
{
    model_builder b = {0};
    build_network(&b);
    text m = build_model(&b);
    size_t good = 0, bad = 0;
    OK(read_all(m.s, m.n));
    for (size_t n = 0; n < m.n; n++) {
        status st = read_all(m.s, n);
        ck_assert_msg(st == ST_OK || st == ST_BAD_DATA, "first %zu bytes: status %d: %s", n, (int)st,
                      status_message());
        bad += st != ST_OK;
        good += st == ST_OK;
    }
    ck_assert_uint_eq(good, 0); /* the opset stands last */
    for (size_t i = 0; i < m.n; i++)
        for (int k = 0; k < 3; k++) {
            static const char flips[] = {1, '\x80', '\xff'};
            m.s[i] = (char)(m.s[i] ^ flips[k]);
            status st = read_all(m.s, m.n);
            ck_assert_msg(st == ST_OK || st == ST_BAD_DATA || st == ST_OOM, "byte %zu: status %d: %s", i,
                          (int)st, status_message());
            bad += st != ST_OK;
            good += st == ST_OK;
            m.s[i] = (char)(m.s[i] ^ flips[k]);
        }
    printf("damaged: %zu refused, %zu read\n", bad, good);
    ck_assert_uint_gt(bad, m.n);
    text_free(&m);
}
END_TEST

/* ---- names, order, versions ---- */

static void one_relu(model_builder *b)
{
    build_input(b, "x", DTYPE_F32, "2 3");
    build_node(b, "Relu", "relu", "x", "y", NULL);
    build_output(b, "y", DTYPE_F32, "2 3");
}

START_TEST(structure)
{
    model_builder b = {0};
#define BAD(name, part, ...)                                                                                 \
    do {                                                                                                     \
        __VA_ARGS__;                                                                                         \
        expect_model(name, &b, part);                                                                        \
        b = (model_builder){0};                                                                              \
    } while (0)
    BAD("opset missing", "no opset", one_relu(&b); b.no_opset = true);
    BAD("opset -1", "opset -1", one_relu(&b); b.opset = -1);
    BAD("opset 2^31", "opset 2147483648", one_relu(&b); b.opset = 1LL << 31);
    BAD("ir 2", "IR version 2", one_relu(&b); b.ir = 2);
    BAD("ir huge", "IR version", one_relu(&b); b.ir = 1LL << 40);
    BAD("output never made", "output 'z' is made by no node", one_relu(&b);
        build_output(&b, "z", DTYPE_F32, "2 3"));
    BAD("output twice", "listed twice", one_relu(&b); build_output(&b, "y", DTYPE_F32, "2 3"));
    BAD("one value made twice", "'y' is made elsewhere", one_relu(&b);
        build_node(&b, "Relu", "r2", "x", "y", NULL));
    BAD("an input made again", "'x' is made elsewhere", one_relu(&b);
        build_node(&b, "Relu", "r2", "y", "x", NULL));
    BAD("two inputs of one name", "two things are called 'x'", one_relu(&b);
        build_input(&b, "x", DTYPE_F32, "2 3"));
    BAD("two initializers of one name", "two initializers are called 'w'", one_relu(&b);
        build_floats(&b, "w", "2", 0, 1); build_floats(&b, "w", "2", 0, 1));
    BAD("missing input", "'nobody' is made by no node", build_output(&b, "y", DTYPE_F32, "2");
        build_node(&b, "Relu", "relu", "nobody", "y", NULL));
    BAD("self-loop", "depends on its own output", build_output(&b, "y", DTYPE_F32, "2");
        build_node(&b, "Relu", "relu", "y", "y", NULL));
    BAD("cycle", "cycle", build_input(&b, "x", DTYPE_F32, "2"); build_output(&b, "y", DTYPE_F32, "2");
        build_node(&b, "Add", "a", "x z", "y", NULL); build_node(&b, "Relu", "b", "y", "z", NULL));
    BAD("node without an operator", "names no operator", build_input(&b, "x", DTYPE_F32, "2");
        build_output(&b, "y", DTYPE_F32, "2"); build_node(&b, "", "a", "x", "y", NULL));
    BAD("node without an input", "Identity takes 1 to 1 inputs, 0 given", one_relu(&b);
        build_node(&b, "Identity", "id", "", "q", NULL); build_output(&b, "q", DTYPE_F32, "2"));
    BAD("unknown operator",
        "operator Frobnicate is not supported; cut the graph before it with --teacher-output",
        build_input(&b, "x", DTYPE_F32, "2");
        build_output(&b, "y", DTYPE_F32, "2"); build_node(&b, "Frobnicate", "f", "x", "y", NULL));
    BAD("internal operator", "operator KdLoss is not supported", build_input(&b, "x", DTYPE_F32, "2");
        build_output(&b, "y", DTYPE_F32, "2"); build_node(&b, "KdLoss", "f", "x", "y", NULL));
    BAD("foreign domain", "domain 'com.example'", build_input(&b, "x", DTYPE_F32, "2");
        build_output(&b, "y", DTYPE_F32, "2");
        build_node_into(&b.graph, 1, "com.example", "Relu", "f", "x", "y", NULL));
    BAD("loop", "operator Loop is not supported", build_input(&b, "x", DTYPE_F32, "2");
        build_output(&b, "y", DTYPE_F32, "2"); build_node(&b, "Loop", "Loop_37", "x", "y", NULL));
    BAD("input without a shape", "has no shape", build_input(&b, "x", DTYPE_F32, NULL);
        build_output(&b, "y", DTYPE_F32, "2"); build_node(&b, "Relu", "r", "x", "y", NULL));
    BAD("input with a negative dimension", "dimension 1 is -5", build_input(&b, "x", DTYPE_F32, "2 -5");
        build_output(&b, "y", DTYPE_F32, "2"); build_node(&b, "Relu", "r", "x", "y", NULL));
    BAD("open dimension", "dimension 1 ('h') is open; give it as h=N", build_input(&b, "x", DTYPE_F32, "2 h");
        build_output(&b, "y", DTYPE_F32, "2"); build_node(&b, "Relu", "r", "x", "y", NULL));
    BAD("open dimension without a name", "give it as x[1]=N", build_input(&b, "x", DTYPE_F32, "2 ?");
        build_output(&b, "y", DTYPE_F32, "2"); build_node(&b, "Relu", "r", "x", "y", NULL));
    BAD("input of nine dimensions", "9 dimensions", build_input(&b, "x", DTYPE_F32, "1 1 1 1 1 1 1 1 1");
        build_output(&b, "y", DTYPE_F32, "2"); build_node(&b, "Relu", "r", "x", "y", NULL));
    BAD("input of 2^64 elements", "2^40 elements", build_input(&b, "x", DTYPE_F32, "4294967296 4294967296");
        build_output(&b, "y", DTYPE_F32, "2"); build_node(&b, "Relu", "r", "x", "y", NULL));
    BAD("too many inputs", "inputs", one_relu(&b); build_node(&b, "Relu", "r", "x x x", "q", NULL);
        build_output(&b, "q", DTYPE_F32, "2"));
    BAD("too many outputs", "outputs", one_relu(&b); build_node(&b, "Relu", "r", "x", "q q2", NULL);
        build_output(&b, "q", DTYPE_F32, "2"));

    text self = {0}, f = {0};
    wire_put_string(&f, 1, "f");
    wire_put_string(&f, 10, "here");
    wire_put_string(&f, 4, "a");
    wire_put_string(&f, 5, "b");
    build_node_into(&f, 7, "here", "f", "again", "a", "b", NULL);
    wire_put_message(&b.functions, 25, &f);
    BAD("function that calls itself", "nested deeper than 32", build_input(&b, "x", DTYPE_F32, "2");
        build_output(&b, "y", DTYPE_F32, "2");
        build_node_into(&b.graph, 1, "here", "f", "call", "x", "y", NULL));
    text_free(&self);
    char *name = NULL;
    OK(mem_alloc(&name, (1 << 20) + 1, 1));
    memset(name, 'a', 1 << 20);
    BAD("name of 1 MiB", "the limit for names is 4096", one_relu(&b);
        build_node(&b, "Relu", name, "x", "q", NULL));
    mem_free(name);
    report("structure");
}
END_TEST

/* ---- tensors ---- */

static text tensor_proto(const char *name, int64_t type, const int64_t *dims, size_t rank)
{
    text t = {0};
    wire_put_ints(&t, 1, dims, rank);
    if (type >= 0)
        wire_put_int(&t, 2, type);
    wire_put_string(&t, 8, name);
    return t;
}

/* A model that needs the initializer w. */
static void uses_w(model_builder *b)
{
    build_input(b, "x", DTYPE_F32, "2");
    build_node(b, "Add", "add", "x w", "y", NULL);
    build_output(b, "y", DTYPE_F32, "2");
}

START_TEST(tensors)
{
    static const struct {
        const char *name;
        int64_t type, dims[10];
        size_t rank, raw; /* raw: bytes of raw_data; SIZE_MAX: none */
        const char *part;
    } rows[] = {
        {"no type", -1, {2}, 1, 8, "undefined"},
        {"type 0", 0, {2}, 1, 8, "undefined"},
        {"type 99", 99, {2}, 1, 8, "unknown element type 99"},
        {"strings", 8, {2}, 1, 8, "string is not supported"},
        {"complex", 14, {2}, 1, 16, "complex64"},
        {"float8", 17, {2}, 1, 2, "float8e4m3fn"},
        {"int4 of odd count", 22, {3}, 1, 2, "int4"},
        {"negative dimension", 1, {-2}, 1, 8, "negative dimension"},
        {"INT64_MIN", 1, {INT64_MIN}, 1, 8, "negative dimension"},
        {"2^64 elements", 1, {1LL << 62, 4}, 2, 8, "2^40 elements"},
        {"2^32 x 2^32", 1, {1LL << 32, 1LL << 32}, 2, 8, "2^40 elements"},
        {"nine dimensions", 1, {1, 1, 1, 1, 1, 1, 1, 1, 2}, 9, 8, "9 dimensions"},
        {"raw data too short", 1, {2}, 1, 7, "raw_data has 7 bytes, type and shape need 8"},
        {"raw data too long", 1, {2}, 1, 12, "raw_data has 12 bytes"},
        {"no data", 1, {2}, 1, SIZE_MAX, "0 elements stored, its shape needs 2"},
        {"2^40 elements without data", 1, {1LL << 40}, 1, SIZE_MAX, "0 elements stored"},
    };
    model_builder b = {0};
    char zeros[16] = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        text t = tensor_proto("w", rows[i].type, rows[i].dims, rows[i].rank);
        if (rows[i].raw != SIZE_MAX)
            wire_put_bytes(&t, 9, zeros, rows[i].raw);
        uses_w(&b);
        build_init_raw(&b, &t);
        expect_model(rows[i].name, &b, rows[i].part);
        b = (model_builder){0};
    }
    const int64_t two = 2;
    text t;
#define BAD_TENSOR(name, type, part, ...)                                                                    \
    do {                                                                                                     \
        t = tensor_proto("w", type, &two, 1);                                                                \
        __VA_ARGS__;                                                                                         \
        uses_w(&b);                                                                                          \
        build_init_raw(&b, &t);                                                                              \
        expect_model(name, &b, part);                                                                        \
        b = (model_builder){0};                                                                              \
    } while (0)
    BAD_TENSOR("raw and typed data", 1, "elements in two places", wire_put_bytes(&t, 9, zeros, 8);
               wire_put_float(&t, 4, 1));
    BAD_TENSOR("float_data short", 1, "1 elements stored", wire_put_float(&t, 4, 1));
    BAD_TENSOR("integers in float_data", 7, "not for int64", wire_put_float(&t, 4, 1);
               wire_put_float(&t, 4, 1));
    BAD_TENSOR("uint8 out of range", 2, "outside the range of uint8", wire_put_int(&t, 5, 1);
               wire_put_int(&t, 5, 256));
    BAD_TENSOR("int8 out of range", 3, "outside the range of int8", wire_put_int(&t, 5, -129);
               wire_put_int(&t, 5, 0));
    BAD_TENSOR("float16 bits out of range", 10, "outside the range of float16", wire_put_int(&t, 5, 1);
               wire_put_int(&t, 5, 65536));
    BAD_TENSOR("uint32 out of range", 12, "outside the range of uint32", wire_put_int(&t, 11, 1);
               wire_put_int(&t, 11, 1LL << 32));
    BAD_TENSOR("segments", 1, "segments", text seg = {0}; wire_put_int(&seg, 1, 0);
               wire_put_message(&t, 3, &seg); wire_put_bytes(&t, 9, zeros, 8));
    BAD_TENSOR("unknown location", 1, "unknown data location 2", wire_put_int(&t, 14, 2));
    BAD_TENSOR("external data of a model from memory", 1, "does not come from a folder",
               wire_put_int(&t, 14, 1);
               text pair = {0}; wire_put_string(&pair, 1, "location"); wire_put_string(&pair, 2, "w.bin");
               wire_put_message(&t, 13, &pair));
    text sparse = {0};
    uses_w(&b);
    wire_put_message(&b.graph, 15, &sparse);
    expect_model("sparse initializer", &b, "sparse initializers are not supported");
    report("tensors");
}
END_TEST

/* ---- attributes ---- */

enum { I = 2, F = 1, S = 3, L = 7 }; /* ONNX attribute types */
#define BIG (1LL << 40)
#define MIN INT64_MIN

START_TEST(attributes)
{
    /* inputs: x [2, 3, 4, 4], w [5, 3, 3, 3], v [3] */
    static const struct {
        const char *op, *in, *attr;
        int type;
        int64_t v[8];
        size_t n;
        const char *part;
    } rows[] = {
        {"Softmax", "x", "axis", I, {4}, 1, "axis"},
        {"Softmax", "x", "axis", I, {-5}, 1, "axis"},
        {"Softmax", "x", "axis", I, {MIN}, 1, "axis"},
        {"Concat", "x x", "axis", I, {9}, 1, "axis"},
        {"Concat", "x w", "axis", I, {1}, 1, "does not fit"},
        {"Concat", "x x", "other", I, {9}, 1, "attribute 'other' is not supported"},
        {"Flatten", "x", "axis", I, {5}, 1, "axis"},
        {"Flatten", "x", "axis", L, {1}, 1, "is INTS, expected INT"},
        {"Transpose", "x", "perm", L, {0, 0, 1, 2}, 4, "axis 0 is given twice"},
        {"Transpose", "x", "perm", L, {0, 1, 2}, 3, "perm"},
        {"Transpose", "x", "perm", L, {0, 1, 2, MIN}, 4, "outside the rank"},
        {"Transpose", "x", "perm", L, {0, 1, 2, 4}, 4, "outside the rank"},
        {"Conv", "x w", "group", I, {0}, 1, "group"},
        {"Conv", "x w", "group", I, {-1}, 1, "group"},
        {"Conv", "x w", "group", I, {BIG}, 1, "group"},
        {"Conv", "x w", "group", I, {2}, 1, "group"},
        {"Conv", "x w", "strides", L, {0, 1}, 2, "strides"},
        {"Conv", "x w", "strides", L, {1, -1}, 2, "strides"},
        {"Conv", "x w", "strides", L, {1}, 1, "strides"},
        {"Conv", "x w", "strides", L, {MIN, 1}, 2, "strides"},
        {"Conv", "x w", "dilations", L, {BIG, 1}, 2, "dilations"},
        {"Conv", "x w", "dilations", L, {0, 1}, 2, "dilations"},
        {"Conv", "x w", "dilations", L, {1LL << 30, 1}, 2, "kernel spans"},
        {"Conv", "x w", "pads", L, {-1, 0, 0, 0}, 4, "pads"},
        {"Conv", "x w", "pads", L, {1, 1}, 2, "pads"},
        {"Conv", "x w", "pads", L, {BIG, 0, 0, 0}, 4, "pads"},
        {"Conv", "x w", "kernel_shape", L, {0, 3}, 2, "kernel_shape"},
        {"Conv", "x w", "kernel_shape", L, {5, 5}, 2, "kernel_shape"},
        {"Conv", "x v", "group", I, {1}, 1, "ranks 4 and 1"},
        {"ConvTranspose", "x w", "group", I, {1}, 1, "[3, 3, ...] is needed"},
        {"MaxPool", "x", "kernel_shape", L, {0, 2}, 2, "kernel_shape"},
        {"MaxPool", "x", "kernel_shape", L, {9, 9}, 2, "kernel spans 9"},
        {"MaxPool", "x", "kernel_shape", L, {2}, 1, "kernel_shape"},
        {"MaxPool", "x", "strides", L, {1, 1}, 2, "kernel_shape"},
        {"AveragePool", "x", "kernel_shape", L, {MIN, 2}, 2, "kernel_shape"},
        {"Gemm", "x v", "transA", I, {0}, 1, "must be a matrix"},
        {"Gather", "x v", "axis", I, {7}, 1, "axis 7"},
        {"ReduceMean", "x", "axes", L, {7}, 1, "axis"},
        {"ReduceMean", "x", "axes", L, {1, 1}, 2, "twice"},
        {"ReduceMean", "x", "axes", L, {MIN}, 1, "axis"},
        {"ArgMax", "x", "axis", I, {MIN}, 1, "axis"},
        {"Split", "x", "axis", I, {4}, 1, "axis"},
        {"LayerNormalization", "x v", "axis", I, {9}, 1, "axis"},
        {"LayerNormalization", "x v", "axis", I, {-1}, 1, "shape of the axes"},
        {"BatchNormalization", "x v v v w", "training_mode", I, {0}, 1, "[3] is needed"},
        {"Cast", "x", "to", I, {0}, 1, "element type 0"},
        {"Cast", "x", "to", I, {8}, 1, "element type 8"},
        {"Cast", "x", "to", I, {BIG}, 1, "element type"},
        {"Cast", "x", "saturate", I, {1}, 1, "'to' is missing"},
        {"MatMul", "x v", NULL, 0, {0}, 0, "do not multiply"},
        {"Add", "x v", NULL, 0, {0}, 0, "broadcast"},
        {"Add", "x", NULL, 0, {0}, 0, "inputs"},
        {"Relu", "-", NULL, 0, {0}, 0, "0 given"},
        {"Where", "x x x", NULL, 0, {0}, 0, "bool is needed"},
        {"Upsample", "x", "scales", L, {1}, 1, "scales"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        model_builder b = {.opset = 14};
        text at = {0};
        char name[100];
        if (rows[i].type == I)
            attr_int(&at, rows[i].attr, rows[i].v[0]);
        if (rows[i].type == L)
            attr_ints_list(&at, rows[i].attr, rows[i].v, rows[i].n);
        build_input(&b, "x", DTYPE_F32, "2 3 4 4");
        build_floats(&b, "w", "5 3 3 3", 0, 1);
        build_floats(&b, "v", "3", 0, 1);
        if (strcmp(rows[i].op, "LayerNormalization") == 0)
            b.opset = 17;
        build_node(&b, rows[i].op, "bad", rows[i].in, "y", &at);
        build_output(&b, "y", DTYPE_F32, NULL);
        snprintf(name, sizeof name, "row %zu: %s.%s", i, rows[i].op, rows[i].attr ? rows[i].attr : "-");
        expect_model(name, &b, rows[i].part);
        text m = build_model(&b);
        text_free(&m);
    }
    model_builder b = {0};
    text at = {0}, body = {0};
#define BAD_ATTR(name, part, ...)                                                                            \
    do {                                                                                                     \
        build_input(&b, "x", DTYPE_F32, "2 3");                                                              \
        __VA_ARGS__;                                                                                         \
        build_node(&b, "Softmax", "bad", "x", "y", &at);                                                     \
        build_output(&b, "y", DTYPE_F32, NULL);                                                              \
        expect_model(name, &b, part);                                                                        \
        b = (model_builder){0};                                                                              \
    } while (0)
    BAD_ATTR("given twice", "'axis' is given twice", attr_int(&at, "axis", 0); attr_int(&at, "axis", 1));
    BAD_ATTR("without a name", "attribute 0 has no name", wire_put_int(&body, 3, 1);
             wire_put_message(&at, 5, &body));
    BAD_ATTR("type 77", "unknown type 77", wire_put_string(&body, 1, "axis"); wire_put_int(&body, 20, 77);
             wire_put_message(&at, 5, &body));
    BAD_ATTR("says INT, holds FLOAT", "says it is INT but holds FLOAT", wire_put_string(&body, 1, "axis");
             wire_put_float(&body, 2, 1); wire_put_int(&body, 20, 2); wire_put_message(&at, 5, &body));
    BAD_ATTR("a reference outside a function", "refers to an attribute of a function",
             attr_reference(&at, "axis", "k", 2));
    BAD_ATTR("1001 attributes", "1001 attributes", for (int k = 0; k < 1001; k++) attr_int(&at, "axis", k));
    report("attributes");
}
END_TEST

/* ---- operands that are constants: shapes, indices, sizes ---- */

START_TEST(operands)
{
    /* x [2, 3, 4, 4]; k: the int64 list given */
    static const struct {
        const char *op, *in;
        int64_t v[8];
        int64_t n;
        const char *part;
    } rows[] = {
        {"Reshape", "x k", {-1, -1}, 2, "more than one -1"},
        {"Reshape", "x k", {-2, 3}, 2, "dimension -2"},
        {"Reshape", "x k", {7, 3}, 2, "elements"},
        {"Reshape", "x k", {-1, 7}, 2, "-1"},
        {"Reshape", "x k", {0, 0, 0, 0, 0}, 5, "copies dimension 4"},
        {"Reshape", "x k", {BIG, BIG, BIG}, 3, "elements"},
        {"Reshape", "x x", {1}, 1, "must be a constant"},
        {"Reshape", "x f", {1}, 1, "must have integers"},
        {"Reshape", "x kk", {1}, 1, "must be a list"},
        {"Reshape", "x", {1}, 1, "(shape) is missing"},
        {"Expand", "x k", {7, 1, 1, 1}, 4, "broadcast"},
        {"Expand", "x k", {-1}, 1, "dimension -1"},
        {"Expand", "x k", {BIG, 1, 1, 1, 1}, 5, "2^40"},
        {"Tile", "x k", {-1, 1, 1, 1}, 4, "repeats"},
        {"Tile", "x k", {BIG, BIG, 1, 1}, 4, "2^40"},
        {"Tile", "x k", {1}, 1, "repeats"},
        {"Squeeze", "x k", {0}, 1, "only 1 can be dropped"},
        {"Squeeze", "x k", {9}, 1, "axis"},
        {"Unsqueeze", "x k", {0, 0}, 2, "twice"},
        {"Unsqueeze", "x k", {0, 1, 2, 3, 4}, 5, "rank 9"},
        {"Split", "x k", {1, 2, 3}, 3, "outputs"},
        {"Pad", "x k", {1, 1}, 2, "pads"},
        {"Pad", "x k", {-9, 0, 0, 0, 0, 0, 0, 0}, 8, "pads"},
        {"Pad", "x k", {INT64_MAX, 0, 0, 0, 1, 0, 0, 0}, 8, "pads"},
        {"Pad", "x k", {BIG, 0, 0, 0, 0, 0, 0, 0}, 8, "2^40"},
        {"ConstantOfShape", "k", {BIG}, 1, "limits.fold_bytes"},
        {"ConstantOfShape", "k", {1LL << 28}, 1, "limits.fold_bytes"},
        {"ConstantOfShape", "k", {BIG, BIG}, 2, "2^40"},
        {"ConstantOfShape", "k", {-1}, 1, "dimension -1"},
        {"ConstantOfShape", "x", {1}, 1, "must be a constant"},
        {"Slice", "x k k k z", {0}, 1, "step"},
        {"Slice", "x k k k kk", {0}, 1, "must be a list"},
        {"Slice", "x k k big", {0}, 1, "axis"},
        {"Slice", "x k", {0}, 1, "(ends) is missing"},
        {"Gather", "x k", {2}, 1, "index"},
        {"Gather", "x k", {-3}, 1, "index"},
        {"Gather", "x k", {INT64_MIN}, 1, "index"},
        {"Gather", "x x", {0}, 1, "int64 or int32 is needed"},
        {"Gather", "f k", {9}, 1, "index"},
        {"Range", "s s z0", {0}, 1, "in steps of 0"},
        {"Range", "s big0 one0", {0}, 1, "a range from 0"},
        {"Resize", "x - huge", {0}, 1, "scales"},
        {"Resize", "x - zero", {0}, 1, "scales"},
        {"Resize", "x - - k", {0, 1, 1, 1}, 4, "sizes"},
        {"Resize", "x - - k", {BIG, 1, 1, 1}, 4, "sizes"},
        {"Resize", "x", {0}, 1, "scales and sizes"},
        {"ReduceSum", "x k", {8}, 1, "axis"},
        {"Clip", "x k", {8, 9}, 2, "one number"},
    };
    static const int64_t zero[1] = {0}, big[1] = {BIG}, one[1] = {1};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        model_builder b = {.opset = 18};
        char name[100];
        build_input(&b, "x", DTYPE_F32, "2 3 4 4");
        build_ints(&b, "k", rows[i].v, rows[i].n);
        build_ints(&b, "z", zero, 1);
        build_ints(&b, "big", big, 1);
        build_init(&b, "kk", DTYPE_I64, "1 1", zero);
        build_init(&b, "s", DTYPE_I64, "", zero);
        build_init(&b, "z0", DTYPE_I64, "", zero);
        build_init(&b, "big0", DTYPE_I64, "", big);
        build_init(&b, "one0", DTYPE_I64, "", one);
        build_floats(&b, "f", "2", 0, 1);
        build_floats(&b, "huge", "4", 1e9F, 0);
        build_floats(&b, "zero", "4", 0, 0);
        build_node(&b, rows[i].op, "bad", rows[i].in, "y", NULL);
        build_output(&b, "y", DTYPE_F32, NULL);
        snprintf(name, sizeof name, "row %zu: %s", i, rows[i].op);
        expect_model(name, &b, rows[i].part);
    }
    report("operands");
}
END_TEST

/* Many constants that are small each: their sum is bounded too. */
START_TEST(constants_add_up)
{
    model_builder b = {0};
    static const int64_t n[1] = {1 << 25}; /* 128 MiB of float each */
    char name[20], last[20] = "c0";
    build_ints(&b, "n", n, 1);
    for (int i = 0; i < 40; i++) {
        snprintf(last, sizeof last, "c%d", i);
        build_node(&b, "ConstantOfShape", NULL, "n", last, NULL);
    }
    text in = {0};
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "%sc%d", i ? " " : "", i);
        text_add(&in, name);
    }
    build_input(&b, "x", DTYPE_F32, "1");
    text_add(&in, " x");
    build_node(&b, "Sum", "sum", in.s, "y", NULL);
    build_output(&b, "y", DTYPE_F32, NULL);
    expect_model("40 constants of 128 MiB", &b, "computed constants take more than");
    text_free(&in);
}
END_TEST

const test_entry test_table[] = {TEST(bytes),
                                 TEST(bombs),
                                 TEST(damaged),
                                 TEST(structure),
                                 TEST(tensors),
                                 TEST(attributes),
                                 TEST(operands),
                                 TEST(constants_add_up),
                                 {0}};
