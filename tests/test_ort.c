/* test_ort.c - ONNX Runtime from C: right answers on a real model and on tiny ones made here, and every way to fail. */
#include "harness.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"
#include "data/npy.h"
#include "deploy/ort.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The library, or NULL after a visible skip. */
static ort_lib *open_or_skip(const char *test)
{
    ort_lib *lib;
    if (ort_open(NULL, &lib) == ST_OK)
        return lib;
    test_skip(test, status_message());
    return NULL;
}

/* ---- tiny models, written as protobuf bytes ---- */

static void varint(text *t, uint64_t v)
{
    for (; v > 127; v >>= 7)
        text_add_n(t, (uint8_t[]){(uint8_t)(v | 128)}, 1);
    text_add_n(t, (uint8_t[]){(uint8_t)v}, 1);
}

static void put_int(text *t, unsigned field, uint64_t v)
{
    varint(t, field << 3);
    varint(t, v);
}

static void put_bytes(text *t, unsigned field, const void *s, size_t n)
{
    varint(t, field << 3 | 2);
    varint(t, n);
    text_add_n(t, s, n);
}

static void put_text(text *t, unsigned field, text *inner)
{
    put_bytes(t, field, inner->s ? inner->s : "", inner->n);
    text_free(inner);
}

static void put_string(text *t, unsigned field, const char *s)
{
    put_bytes(t, field, s, strlen(s));
}

/* TypeProto of a tensor; a dimension below 0 is the free one "batch". */
static text tensor_type(int onnx_type, const shape *sh)
{
    text type = {0}, tensor_part = {0}, dims = {0};
    for (int i = 0; i < sh->rank; i++) {
        text dim = {0};
        if (sh->dim[i] < 0)
            put_string(&dim, 2, "batch");
        else
            put_int(&dim, 1, (uint64_t)sh->dim[i]);
        put_text(&dims, 1, &dim);
    }
    put_int(&tensor_part, 1, (uint64_t)onnx_type);
    put_text(&tensor_part, 2, &dims);
    put_text(&type, 1, &tensor_part);
    return type;
}

static text sequence_type(text *element)
{
    text type = {0}, sequence = {0};
    put_text(&sequence, 1, element);
    put_text(&type, 4, &sequence);
    return type;
}

/* A model of one node: y = op(x). Takes the types. */
static text model_of(const char *op, text *x_type, text *y_type)
{
    text model = {0}, graph = {0}, node = {0}, x = {0}, y = {0}, opset = {0};
    put_string(&node, 1, "x");
    put_string(&node, 2, "y");
    put_string(&node, 4, op);
    put_string(&x, 1, "x");
    put_text(&x, 2, x_type);
    put_string(&y, 1, "y");
    put_text(&y, 2, y_type);
    put_text(&graph, 1, &node);
    put_string(&graph, 2, "tiny");
    put_text(&graph, 11, &x);
    put_text(&graph, 12, &y);
    put_int(&opset, 2, 16);
    put_int(&model, 1, 8);
    put_text(&model, 7, &graph);
    put_text(&model, 8, &opset);
    ck_assert_int_eq(model.st, ST_OK);
    return model;
}

static ort_session *tiny_session(ort_lib *lib, const char *op, dtype type, shape sh)
{
    text x = tensor_type(dtype_of(type)->onnx, &sh), y = tensor_type(dtype_of(type)->onnx, &sh);
    text model = model_of(op, &x, &y);
    ort_session *s;
    OK(ort_session_open_bytes(lib, "tiny", model.s, model.n, &(ort_options){.threads = 1}, &s));
    text_free(&model);
    return s;
}

/* ---- the teacher ---- */

static tensor read_npy(const char *name)
{
    limits lim = limits_default();
    tensor t;
    OK(npy_read(test_path(SOURCE_DIR "/data/fashion-teacher", name), &lim, &t));
    return t;
}

static double max_difference(const tensor *a, const tensor *b)
{
    double worst = 0;
    ck_assert(shape_equal(&a->sh, &b->sh));
    for (int64_t i = 0; i < shape_count(&a->sh); i++) {
        double d = fabs(tensor_at(a, i) - tensor_at(b, i));
        worst = d <= worst ? worst : d; /* a NaN wins */
    }
    return worst;
}

START_TEST(teacher_gives_pytorch_logits)
{
    ort_lib *lib = open_or_skip("teacher_gives_pytorch_logits");
    if (!lib)
        return;
    tensor x = read_npy("test_input.npy"), want = read_npy("test_logits.npy");
    for (int variant = 0; variant < 3; variant++) {
        ort_options options = {.threads = variant < 2 ? 1 : 2, .no_optimizing = variant == 1};
        ort_session *s;
        tensor_list out = {0};
        OK(ort_session_open(lib, SOURCE_DIR "/data/fashion-teacher.onnx", variant ? &options : NULL, &s));
        ck_assert_uint_eq(ort_input_count(s), 1);
        ck_assert_uint_eq(ort_output_count(s), 1);
        ck_assert_str_eq(ort_input(s, 0)->name, "input");
        ck_assert_int_eq(ort_input(s, 0)->type, DTYPE_F32);
        shape any = SHAPE(-1, 1, 28, 28);
        ck_assert(shape_equal(&ort_input(s, 0)->sh, &any));
        ck_assert_str_eq(ort_output(s, 0)->name, "logits");
        OK(ort_run(s, &x, 1, &out));
        ck_assert_uint_eq(out.n, 1);
        ck_assert_str_eq(out.at[0].name, "logits");
        double worst = max_difference(&out.at[0], &want);
        test_max_error("teacher against PyTorch", worst, 5e-5);
        ck_assert(worst < 5e-5);

        tensor y;
        OK(tensor_new(&y, NULL, DTYPE_F32, want.sh));
        OK(ort_run_all(s, &x, 5, &y)); /* 5 5 5 1 */
        worst = max_difference(&y, &out.at[0]);
        test_max_error("by batches against at once", worst, 2e-5);
        ck_assert(worst < 2e-5);
        tensor_free(&y);
        tensor_list_free(&out);
        ort_session_close(s);
    }
    tensor_free(&x);
    tensor_free(&want);
    ort_close(lib);
}
END_TEST

/* ---- running ---- */

START_TEST(every_type_passes_unchanged)
{
    ort_lib *lib = open_or_skip("every_type_passes_unchanged");
    if (!lib)
        return;
    for (int type = DTYPE_NONE + 1; type < DTYPE_COUNT; type++) {
        ort_session *s = tiny_session(lib, "Identity", (dtype)type, SHAPE(-1, 3));
        tensor x;
        tensor_list out = {0};
        OK(tensor_new(&x, "x", (dtype)type, SHAPE(2, 3)));
        for (size_t i = 0; i < tensor_bytes(&x); i++)
            ((uint8_t *)x.data)[i] = type == DTYPE_BOOL ? i & 1 : (uint8_t)(17 * i + 1);
        OK(ort_run(s, &x, 1, &out));
        ck_assert_uint_eq(out.n, 1);
        ck_assert_int_eq(out.at[0].type, type);
        ck_assert(shape_equal(&out.at[0].sh, &x.sh));
        ck_assert_mem_eq(out.at[0].data, x.data, tensor_bytes(&x));
        tensor_free(&x);
        tensor_list_free(&out);
        ort_session_close(s);
    }
    ort_close(lib);
}
END_TEST

START_TEST(bound_calls_read_and_write_in_place)
{
    ort_lib *lib = open_or_skip("bound_calls_read_and_write_in_place");
    if (!lib)
        return;
    ort_session *s = tiny_session(lib, "Relu", DTYPE_F32, SHAPE(-1, 2));
    tensor x, y;
    ort_call *call;
    OK(tensor_new(&x, "x", DTYPE_F32, SHAPE(2, 2)));
    OK(tensor_new(&y, "y", DTYPE_F32, SHAPE(2, 2)));
    OK(ort_call_make(s, &x, 1, &y, 1, &call));
    uint64_t allocations = mem_count();
    for (int round = 0; round < 50; round++) {
        float *in = x.data, *out = y.data;
        for (int i = 0; i < 4; i++)
            in[i] = (float)(i - 2 + round);
        OK(ort_call_run(call));
        for (int i = 0; i < 4; i++)
            ck_assert(out[i] == (in[i] > 0 ? in[i] : 0));
    }
    ck_assert_uint_eq(mem_count(), allocations);
    ort_call_free(call);
    tensor_free(&x);
    tensor_free(&y);
    ort_session_close(s);
    ort_close(lib);
}
END_TEST

START_TEST(a_fixed_batch_is_padded)
{
    ort_lib *lib = open_or_skip("a_fixed_batch_is_padded");
    if (!lib)
        return;
    ort_session *s = tiny_session(lib, "Neg", DTYPE_F32, SHAPE(4, 3));
    for (int64_t n = 0; n <= 10; n++) {
        tensor x, y;
        OK(tensor_new(&x, NULL, DTYPE_F32, SHAPE(n, 3)));
        OK(tensor_new(&y, NULL, DTYPE_F32, SHAPE(n, 3)));
        for (int64_t i = 0; i < 3 * n; i++)
            tensor_put(&x, i, (double)(i + 1));
        OK(ort_run_all(s, &x, 7, &y));
        for (int64_t i = 0; i < 3 * n; i++)
            ck_assert_double_eq(tensor_at(&y, i), -(double)(i + 1));
        tensor_free(&x);
        tensor_free(&y);
    }
    ort_session_close(s);
    ort_close(lib);
}
END_TEST

/* ---- what does not work ---- */

START_TEST(a_missing_library_says_how_to_get_it)
{
    ort_lib *lib;
    FAILS(ST_UNAVAILABLE, "tools/setup", ort_open("/nonexistent/libonnxruntime.so", &lib));
    ck_assert_ptr_null(lib);
    FAILS(ST_UNAVAILABLE, "is not ONNX Runtime", ort_open("libm.so.6", &lib));
    ck_assert_int_eq(setenv("DISTILL_ORT", "/nonexistent/from-environment.so", 1), 0);
    FAILS(ST_UNAVAILABLE, "from-environment", ort_open(NULL, &lib));
    ort_close(NULL);
    ort_session_close(NULL);
    ort_call_free(NULL);
}
END_TEST

START_TEST(a_bad_model_is_refused)
{
    ort_lib *lib = open_or_skip("a_bad_model_is_refused");
    if (!lib)
        return;
    ort_session *s;
    const char *path = test_path(test_tmp_dir(), "junk.onnx");
    FAILS(ST_NO_INPUT, "none.onnx", ort_session_open(lib, "/nonexistent/none.onnx", NULL, &s));
    ck_assert_ptr_null(s);
    FAILS(ST_BAD_DATA, "garbage", ort_session_open_bytes(lib, "garbage", "this is no model", 16, NULL, &s));
    FAILS(ST_BAD_DATA, "empty", ort_session_open_bytes(lib, "empty", "", 0, NULL, &s));
    OK(io_write_file(path, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11));
    FAILS(ST_BAD_DATA, "junk.onnx", ort_session_open(lib, path, NULL, &s));

    shape sh = SHAPE(-1, 3);
    text x = tensor_type(1, &sh), y = tensor_type(1, &sh), model = model_of("NoSuchOperator", &x, &y);
    FAILS(ST_BAD_DATA, "NoSuchOperator", ort_session_open_bytes(lib, "unknown", model.s, model.n, NULL, &s));
    text_free(&model);

    x = tensor_type(1, &sh), y = tensor_type(1, &sh), model = model_of("Relu", &x, &y);
    for (size_t n = 0; n < model.n; n++) { /* every truncation: refused, or accepted and closed again */
        status st = ort_session_open_bytes(lib, "cut", model.s, n, NULL, &s);
        ck_assert(st == ST_BAD_DATA || st == ST_OK);
        ort_session_close(s);
    }
    text_free(&model);
    ort_close(lib);
}
END_TEST

START_TEST(types_we_do_not_carry_are_refused)
{
    ort_lib *lib = open_or_skip("types_we_do_not_carry_are_refused");
    if (!lib)
        return;
    ort_session *s;
    shape sh = SHAPE(2), scalar = {0};
    text x = tensor_type(8, &sh), y = tensor_type(8, &sh), model = model_of("Identity", &x, &y);
    FAILS(ST_BAD_DATA, "element type 8", ort_session_open_bytes(lib, "strings", model.s, model.n, NULL, &s));
    text_free(&model);

    text element = tensor_type(1, &sh);
    x = sequence_type(&element), y = tensor_type(7, &scalar), model = model_of("SequenceLength", &x, &y);
    FAILS(ST_BAD_DATA, "is not a tensor",
          ort_session_open_bytes(lib, "sequence", model.s, model.n, NULL, &s));
    text_free(&model);

    ort_close(lib);
}
END_TEST

START_TEST(inputs_that_do_not_fit_are_named)
{
    ort_lib *lib = open_or_skip("inputs_that_do_not_fit_are_named");
    if (!lib)
        return;
    ort_session *s = tiny_session(lib, "Relu", DTYPE_F32, SHAPE(-1, 3));
    tensor good = {0}, wide = {0}, flat = {0}, ints = {0}, stranger = {0};
    tensor_list out = {0};
    ort_call *call;
    OK(tensor_new(&good, "x", DTYPE_F32, SHAPE(2, 3)));
    OK(tensor_new(&wide, "x", DTYPE_F32, SHAPE(2, 4)));
    OK(tensor_new(&flat, NULL, DTYPE_F32, SHAPE(6)));
    OK(tensor_new(&ints, "x", DTYPE_I32, SHAPE(2, 3)));
    OK(tensor_new(&stranger, "z", DTYPE_F32, SHAPE(2, 3)));
    FAILS(ST_BAD_DATA, "[2, 4]", ort_run(s, &wide, 1, &out));
    FAILS(ST_BAD_DATA, "[6]", ort_run(s, &flat, 1, &out));
    FAILS(ST_BAD_DATA, "int32", ort_run(s, &ints, 1, &out));
    FAILS(ST_BAD_DATA, "no input 'z'", ort_run(s, &stranger, 1, &out));
    FAILS(ST_BAD_DATA, "0 inputs", ort_run(s, NULL, 0, &out));
    FAILS(ST_BAD_DATA, "2 inputs", ort_run(s, (tensor[]){good, good}, 2, &out));
    FAILS(
        ST_BAD_DATA, "[2, 4]",
        ort_call_make(s, &good, 1, &(tensor){.type = DTYPE_F32, .sh = wide.sh, .data = wide.data}, 1, &call));
    FAILS(ST_BAD_DATA, "no output 'x'", ort_call_make(s, &good, 1, &good, 1, &call));
    FAILS(ST_BAD_DATA, "same number", ort_run_all(s, &good, 1, &flat));
    ck_assert_uint_eq(out.n, 0);

    /* Shapes that only the run can find wrong: three rows of input, two bound for the output. */
    tensor three = {0}, y = {0};
    OK(tensor_new(&three, "x", DTYPE_F32, SHAPE(3, 3)));
    OK(tensor_new(&y, "y", DTYPE_F32, SHAPE(2, 3)));
    OK(ort_call_make(s, &three, 1, &y, 1, &call));
    FAILS(ST_BAD_DATA, "ONNX Runtime", ort_call_run(call));
    ort_call_free(call);
    tensor *all[] = {&good, &wide, &flat, &ints, &stranger, &three, &y};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        tensor_free(all[i]);
    ort_session_close(s);
    ort_close(lib);
}
END_TEST

/* From opening the library to the outputs, with the n-th of our allocations failing. */
static status open_and_run(const text *model)
{
    status st = ST_OK;
    ort_lib *lib = NULL;
    ort_session *s = NULL;
    tensor x = {0};
    tensor_list out = {0};
    TRY_DONE(ort_open(NULL, &lib));
    TRY_DONE(ort_session_open_bytes(lib, "tiny", model->s, model->n, NULL, &s));
    TRY_DONE(tensor_new(&x, "x", DTYPE_F32, SHAPE(2, 3)));
    TRY_DONE(ort_run(s, &x, 1, &out));
done:
    tensor_free(&x);
    tensor_list_free(&out);
    ort_session_close(s);
    ort_close(lib);
    return st;
}

START_TEST(any_allocation_may_fail)
{
    ort_lib *lib = open_or_skip("any_allocation_may_fail");
    if (!lib)
        return;
    char *path;
    OK(mem_strdup(&path, ort_path(lib)));
    ck_assert_int_eq(setenv("DISTILL_ORT", path, 1), 0); /* a search that runs out of memory finds nothing */
    mem_free(path);
    ort_close(lib);
    shape sh = SHAPE(-1, 3);
    text x = tensor_type(1, &sh), y = tensor_type(1, &sh), model = model_of("Relu", &x, &y);
    uint64_t before = mem_count();
    OK(open_and_run(&model));
    uint64_t n = mem_count() - before;
    ck_assert_uint_gt(n, 8);
    for (uint64_t i = 1; i <= n; i++) {
        mem_fail_at(i, true);
        FAILS(ST_OOM, "out of memory", open_and_run(&model));
        mem_fail_at(0, false);
    }
    OK(open_and_run(&model));
    text_free(&model);
}
END_TEST

const test_entry test_table[] = {TEST(teacher_gives_pytorch_logits),
                                 TEST(every_type_passes_unchanged),
                                 TEST(bound_calls_read_and_write_in_place),
                                 TEST(a_fixed_batch_is_padded),
                                 TEST(a_missing_library_says_how_to_get_it),
                                 TEST(a_bad_model_is_refused),
                                 TEST(types_we_do_not_carry_are_refused),
                                 TEST(inputs_that_do_not_fit_are_named),
                                 TEST(any_allocation_may_fail),
                                 {0}};
