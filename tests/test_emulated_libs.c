/* test_emulated_libs.c - the rows over cuBLASLt and cuDNN, on twins of these libraries on the host (tests/emulator/fake_*.cc): they
 * compute what our descriptors ask for, so every case row of products and convolutions proves the descriptors; and each of
 * their calls fails once: the job ends with an error or runs on other kernels, and nothing leaks. */
#include "emulator/fake.h"
#include "exec/exec.h"
#include "harness.h"
#include "kernels/cuda/dnn.h"
#include "op_case.h"

#include <stdio.h>

#define DEVICE "emulated-libs"

START_TEST(matmul_rows)
{
    int failed = op_cases_run("matmul", op_cases_matmul, DEVICE, DTYPE_NONE);
    ck_assert_msg(failed == 0, "%d rows of family matmul failed", failed);
    ck_assert_int_eq(fake_alive(), 0);
}
END_TEST

/* The mask of relu, made by a product and read by its gradient, in whole groups of bits. */
static const op_case mask_rows[] = {
    {OP_LINEAR_MASKED, "everything", .in = {{F32(3, 5, 9)}, {F32(9, 128)}, {F32(128)}, {F32(3, 5, 128)}},
     .attr = &(const linear_attrs){.alpha = 0.5, .activation = ACTIVATION_RELU}, .fwd_tol = 5e-6},
    {OP_LINEAR_MASKED, "plain", .in = {{F32(7, 20)}, {F32(256, 20)}},
     .attr = &(const linear_attrs){.alpha = 1, .transB = 1, .activation = ACTIVATION_RELU}, .fwd_tol = 5e-6},
    {OP_LINEAR_MASKED, "bf16", .in = {{F32(7, 20)}, {F32(20, 128)}, {F32(128)}},
     .attr = &(const linear_attrs){.alpha = 1, .precision = PRECISION_BF16, .activation = ACTIVATION_RELU}, .fwd_tol = 5e-6},
    {OP_LINEAR_GRAD_DATA, "masked", .in = {{F32(3, 5, 9)}, {F32(9, 100)}, {U8(15, 16), .lo = 0, .hi = 256}, {F32(3, 5, 100)}},
     .attr = &(const linear_grad_attrs){.alpha = 0.5, .activation = ACTIVATION_RELU}, .fwd_tol = 5e-6},
    {OP_LINEAR_GRAD_DATA, "masked, fp16", .in = {{F32(6, 12)}, {F32(130, 12)}, {U8(6, 32), .lo = 0, .hi = 256}},
     .attr = &(const linear_grad_attrs){.alpha = 1, .transB = 1, .activation = ACTIVATION_RELU, .precision = PRECISION_F16}, .fwd_tol = 5e-6},
    OP_CASE_END};

START_TEST(mask_rows_of_relu)
{
    int failed = op_cases_run("matmul", mask_rows, DEVICE, DTYPE_NONE);
    ck_assert_msg(failed == 0, "%d rows failed", failed);
    ck_assert_int_eq(fake_alive(), 0);
}
END_TEST

START_TEST(conv_rows)
{
    int failed = op_cases_run("conv", op_cases_conv, DEVICE, DTYPE_NONE);
    ck_assert_msg(failed == 0, "%d rows of family conv failed", failed);
    ck_assert_int_eq(fake_alive(), 0);
}
END_TEST

/* Channels last in half precision: bias, residual and relu, gradients with strides, groups, one axis and three, transposed. */
static const op_case narrow_rows[] = {
    {OP_CONV, "all fused", .in = {{F32(2, 8, 7, 6)}, {F32(16, 8, 3, 3)}, {F32(16)}, {F32(2, 16, 7, 6)}},
     .attr = &(const conv_attrs){.kernel_shape = INTS(3, 3), .pads = INTS(1, 1, 1, 1), .group = 1, .relu = 1}},
    {OP_CONV, "strided groups", .in = {{F32(2, 6, 9, 8)}, {F32(9, 2, 3, 2)}, {F32(9)}},
     .attr = &(const conv_attrs){.strides = INTS(2, 1), .dilations = INTS(1, 2), .pads = INTS(1, 0, 1, 2), .group = 3}},
    {OP_CONV, "one axis", .in = {{F32(2, 5, 20)}, {F32(7, 5, 4)}}, .attr = &(const conv_attrs){.pads = INTS(1, 2), .group = 1}},
    {OP_CONV, "three axes", .in = {{F32(1, 3, 4, 3, 5)}, {F32(4, 3, 2, 2, 3)}}, .attr = &(const conv_attrs){.group = 1}},
    {OP_CONV_MOMENTS, "moments", .in = {{F32(3, 8, 7, 6)}, {F32(16, 8, 3, 3)}},
     .attr = &(const conv_attrs){.pads = INTS(1, 1, 1, 1), .group = 1}},
    {OP_CONV_MOMENTS, "moments, strided, one axis", .in = {{F32(2, 6, 21)}, {F32(9, 6, 3)}},
     .attr = &(const conv_attrs){.strides = INTS(2), .group = 1}},
    {OP_CONV_TRANSPOSE, "transposed", .in = {{F32(2, 8, 4, 5)}, {F32(8, 3, 2, 2)}, {F32(3)}},
     .attr = &(const conv_attrs){.strides = INTS(2, 2), .group = 1}},
#define NORM8 {F32(8)}, {F32(8), .lo = 0.5, .hi = 2}, {F32(8), .lo = 0.5, .hi = 2}, {F32(8)}
    {OP_NORM_CONV, "a norm on the way in", .in = {{F32(3, 8, 7, 6)}, {F32(16, 8, 3, 3)}, {0}, {0}, NORM8}, .narrow_tol = 0.03,
     .attr = &(const conv_attrs){.strides = INTS(2, 1), .pads = INTS(1, 1, 1, 1), .group = 1, .norm_relu = 1, .norm_epsilon = 1e-5}},
    {OP_CONV_MOMENTS, "a norm on the way in, and moments", .in = {{F32(3, 8, 7, 6)}, {F32(16, 8, 3, 3)}, {0}, {0}, NORM8}, .narrow_tol = 0.03,
     .attr = &(const conv_attrs){.pads = INTS(1, 1, 1, 1), .group = 1, .norm_relu = 1, .norm_epsilon = 1e-5}},
#define DATA_SUMS(C, ...) {F32(__VA_ARGS__)}, {F32(C), .lo = 0.5, .hi = 2}, {F32(C)}, {F32(C), .lo = 0.5, .hi = 2}, {F32(C)}
    {OP_CONV_GRAD_DATA_SUMS, "a norm's sums", .in = {{F32(3, 16, 7, 6)}, {F32(16, 8, 3, 3)}, DATA_SUMS(8, 3, 8, 7, 6)},
     .attr = &(const conv_attrs){.kernel_shape = INTS(3, 3), .strides = INTS(1, 1), .dilations = INTS(1, 1), .pads = INTS(1, 1, 1, 1),
                                 .group = 1, .norm_relu = 1, .norm_epsilon = 1e-5, .data_shape = INTS(3, 8, 7, 6)}},
    {OP_CONV_GRAD_DATA_SUMS, "a norm's sums, strided, one axis", .in = {{F32(2, 8, 10)}, {F32(8, 16, 3)}, DATA_SUMS(16, 2, 16, 21)},
     .attr = &(const conv_attrs){.kernel_shape = INTS(3), .strides = INTS(2), .dilations = INTS(1), .pads = INTS(0, 0),
                                 .group = 1, .norm_relu = 1, .norm_epsilon = 1e-3, .data_shape = INTS(2, 16, 21)}},
    {OP_NORM_CONV_GRAD_WEIGHT, "a norm on the way in", .in = {{F32(3, 8, 7, 6)}, {F32(3, 16, 7, 6)}, NORM8}, .narrow_tol = 0.03,
     .attr = &(const conv_attrs){.kernel_shape = INTS(3, 3), .strides = INTS(1, 1), .dilations = INTS(1, 1), .pads = INTS(1, 1, 1, 1),
                                 .group = 1, .norm_relu = 1, .norm_epsilon = 1e-5}},
    OP_CASE_END};

START_TEST(conv_rows_of_halves)
{
    static const dtype types[] = {DTYPE_F16, DTYPE_BF16};
    for (int i = 0; i < 2; i++) {
        long before = fake_calls();
        int failed = op_cases_run("conv", narrow_rows, DEVICE, types[i]);
        ck_assert_msg(failed == 0, "%d rows of %s failed", failed, dtype_of(types[i])->name);
        ck_assert_int_gt(fake_calls() - before, 1000); /* they ran there */
        ck_assert_int_eq(fake_alive(), 0);
    }
}
END_TEST

/* Plain matrices in half precision: what the library finishes itself and what a pass after it does; transposed; attention. */
#define LINEAR(...) .attr = &(const linear_attrs){.alpha = 0.5, __VA_ARGS__}
#define MATMUL(...) .attr = &(const matmul_attrs){__VA_ARGS__}
static const op_case plain_rows[] = {
    {OP_LINEAR, "bias, residual", .in = {{F32(2, 9, 16)}, {F32(16, 24)}, {F32(24)}, {F32(2, 9, 24)}}, LINEAR(.transA = 0)},
    {OP_LINEAR, "constants", .in = {{F32(2, 9, 16)}, {F32(24, 16), .kind = VALUE_CONST}, {F32(24), .kind = VALUE_CONST}},
     LINEAR(.transB = 1, .activation = ACTIVATION_GELU_TANH)},
    {OP_LINEAR, "gelu, what it is made of kept", .in = {{F32(2, 9, 16)}, {F32(16, 24)}, {F32(24)}}, .n_out = 2,
     LINEAR(.activation = ACTIVATION_GELU)},
    {OP_LINEAR, "gelu by tanh, the same", .in = {{F32(2, 9, 16)}, {F32(16, 24)}, {F32(24)}, {F32(2, 9, 24)}}, .n_out = 2,
     LINEAR(.activation = ACTIVATION_GELU_TANH)},
    {OP_LINEAR, "tanh, odd sizes", .in = {{F32(3, 5, 7)}, {F32(7, 9)}, {F32(9)}, {F32(3, 5, 9)}}, .n_out = 2, LINEAR(.activation = ACTIVATION_TANH)},
    {OP_LINEAR, "relu", .in = {{F32(3, 5, 8)}, {F32(8, 8)}, {F32(8)}}, LINEAR(.activation = ACTIVATION_RELU)},
    {OP_LINEAR, "A transposed", .in = {{F32(40, 16)}, {F32(40, 24)}}, LINEAR(.transA = 1)},
    {OP_LINEAR, "both transposed", .in = {{F32(40, 16)}, {F32(24, 40)}, {F32(24)}}, LINEAR(.transA = 1, .transB = 1)},
    {OP_MATMUL, "heads", .in = {{F32(2, 3, 17, 16)}, {F32(2, 3, 17, 16)}}, MATMUL(.transB = 1)},
    {OP_MATMUL, "A transposed, groups share B", .in = {{F32(3, 4, 7, 5)}, {F32(3, 1, 7, 6)}}, MATMUL(.transA = 1)},
    {OP_MATMUL, "one left matrix", .in = {{F32(8, 16)}, {F32(3, 16, 9)}}, MATMUL(.transA = 0)},
    {OP_MATMUL, "steps that are none", .in = {{F32(2, 1, 5, 7)}, {F32(3, 7, 4)}}, MATMUL(.transA = 0)}, /* own kernels */
    {OP_ATTENTION, "many keys", .in = {{F32(2, 5, 2, 16)}, {F32(2, 70, 2, 16)}, {F32(2, 70, 2, 8)}}, .n_out = 1,
     .attr = &(const attention_attrs){.scale = 0.25, .q_tokens = 1, .k_tokens = 1, .v_tokens = 1, .y_tokens = 1}, .no_grad = true},
    {OP_ATTENTION, "many keys, a mask", .in = {{F32(2, 5, 2, 16)}, {F32(2, 70, 2, 16)}, {F32(2, 70, 2, 8)}, {F32(2, 1, 1, 70), .lo = -3, .hi = 3}}, .n_out = 1,
     .attr = &(const attention_attrs){.scale = 0.25, .q_tokens = 1, .k_tokens = 1, .v_tokens = 1, .y_tokens = 1}, .no_grad = true},
#define ATTENTION_GRAD(B, H, SQ, SK, D, DV) .in = {{F32(B, SQ, H, D)}, {F32(B, SK, H, D)}, {F32(B, H, SK, DV)}, {F32(B, SQ, H, DV)}, {F32(B, SQ, H, DV)}, \
    {F32(B, H, SQ), .lo = 4, .hi = 6}
    {OP_ATTENTION_GRAD, "many keys", ATTENTION_GRAD(2, 3, 5, 70, 16, 8)}, .n_out = 3, .no_grad = true,
     .attr = &(const attention_attrs){.scale = 0.25, .q_tokens = 1, .k_tokens = 1, .y_tokens = 1}},
    {OP_ATTENTION_GRAD, "many keys, a mask", ATTENTION_GRAD(2, 3, 5, 66, 24, 16), {F32(2, 1, 1, 66), .lo = -3, .hi = 3}}, .n_out = 3, .no_grad = true,
     .attr = &(const attention_attrs){.scale = 0.25, .q_tokens = 1, .k_tokens = 1, .y_tokens = 1}},
    OP_CASE_END};

START_TEST(plain_rows_of_halves)
{
    static const dtype types[] = {DTYPE_F16, DTYPE_BF16};
    for (int i = 0; i < 2; i++) {
        long before = fake_calls();
        int failed = op_cases_run_plain("matmul", plain_rows, DEVICE, types[i]);
        ck_assert_msg(failed == 0, "%d rows of %s failed", failed, dtype_of(types[i])->name);
        ck_assert_int_gt(fake_calls() - before, 200); /* they ran there */
        ck_assert_int_eq(fake_alive(), 0);
    }
}
END_TEST

/* The data's gradient with a norm's sums runs in the library in float16, with a plain relu, in whole pieces of 8 channels, and where
 * engines are timed only if it is no slower than the gradient and a pass. */
START_TEST(sums_that_fit)
{
    const fake_engine quick = {.number = 1, .mode = DNN_MODE_A, .seconds = 1e-5, .sums = 1e-6},
                      slow = {.number = 1, .mode = DNN_MODE_A, .seconds = 1e-5, .sums = 1e-4};
    const struct {
        dtype type;
        int64_t channels, relu;
        double ceiling;
        const fake_engine *engine; /* NULL: not timed */
        bool fits;
    } rows[] = {{DTYPE_F16, 16, 1, 0, NULL, true},   {DTYPE_F16, 16, 1, 0, &quick, true}, {DTYPE_F16, 16, 1, 0, &slow, false},
                {DTYPE_BF16, 16, 1, 0, NULL, false}, {DTYPE_F16, 12, 1, 0, NULL, false},  {DTYPE_F16, 16, 0, 0, NULL, false},
                {DTYPE_F16, 16, 1, 6, NULL, false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const backend_options how = {.threads = 1, .measure = rows[i].engine != NULL};
        const int64_t c = rows[i].channels;
        const conv_attrs at = {.kernel_shape = INTS(1, 1), .strides = INTS(1, 1), .dilations = INTS(1, 1), .pads = INTS(0, 0, 0, 0), .group = 1,
                               .norm_relu = rows[i].relu, .norm_ceiling = rows[i].ceiling, .data_shape = INTS(2, c, 5, 5)};
        const kernel_tensor of_norm = {.type = DTYPE_F32, .sh = SHAPE(c)};
        kernel_tensor in[7] = {{.type = rows[i].type, .sh = SHAPE(2, 8, 5, 5), .block = 8}, {.type = rows[i].type, .sh = SHAPE(8, c, 1, 1), .block = (int)c},
                               {.type = rows[i].type, .sh = SHAPE(2, c, 5, 5), .block = (int)c}, of_norm, of_norm, of_norm, of_norm};
        kernel_tensor out[3] = {in[2], of_norm, of_norm};
        const kernel_args a = {.in = in, .out = out, .n_in = 7, .n_out = 3, .attr = &at, .threads = 1};
        backend *b;
        fake_dnn_engines(rows[i].engine, rows[i].engine != NULL);
        OK(backend_open(DEVICE, &how, &b));
        OK(backend_narrow(b, rows[i].type));
        const kernel_row *r = b->find(b, OP_CONV_GRAD_DATA_SUMS, &a);
        ck_assert_msg((r && strstr(r->name, "cuDNN")) == rows[i].fits, "row %zu: %s", i, r ? r->name : "none");
        backend_close(b);
    }
    fake_dnn_engines(NULL, 0);
    ck_assert_int_eq(fake_alive(), 0);
}
END_TEST

START_TEST(attention_rows)
{
    int failed = op_cases_run("attention", op_cases_attention, DEVICE, DTYPE_NONE);
    ck_assert_msg(failed == 0, "%d rows of family attention failed", failed);
    ck_assert_int_eq(fake_alive(), 0);
}
END_TEST

/* Attention whose products may be rounded runs in the library, with and without the sums that a gradient reads, with and without a mask; with few
 * keys, odd widths or in float32 it does not. */
START_TEST(attention_that_fits)
{
    static const struct {
        int64_t keys, width, precision;
        bool mask, sums, fits;
    } rows[] = {{64, 16, PRECISION_BF16, false, false, true}, {64, 16, PRECISION_F16, false, true, true},
                {64, 128, PRECISION_F16, false, false, true}, {63, 16, PRECISION_BF16, false, false, false},
                {64, 12, PRECISION_BF16, false, false, false}, {64, 136, PRECISION_BF16, false, false, false},
                {64, 16, PRECISION_FP32, false, false, false}, {64, 16, PRECISION_BF16, true, false, true},
                {64, 16, PRECISION_F16, true, true, true},   {64, 16, PRECISION_FP32, true, false, false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const backend_options none = {.threads = 1};
        const attention_attrs at = {.scale = 1, .k_tokens = 1, .precision = rows[i].precision};
        kernel_tensor in[4] = {{.type = DTYPE_F32, .sh = SHAPE(2, 3, 5, rows[i].width)},
                               {.type = DTYPE_F32, .sh = SHAPE(2, rows[i].keys, 3, rows[i].width)},
                               {.type = DTYPE_F32, .sh = SHAPE(2, 3, rows[i].keys, 8)},
                               {.type = DTYPE_F32, .sh = SHAPE(1, 1, 1, rows[i].keys)}};
        kernel_tensor out[2] = {{.type = DTYPE_F32, .sh = SHAPE(2, 3, 5, 8)}, {.type = DTYPE_F32, .sh = SHAPE(2, 3, 5)}};
        const kernel_args a = {.in = in, .out = out, .n_in = rows[i].mask ? 4 : 3, .n_out = rows[i].sums ? 2 : 1, .attr = &at,
                               .threads = 1};
        backend *b;
        OK(backend_open(DEVICE, &none, &b));
        const kernel_row *r = b->find(b, OP_ATTENTION, &a);
        ck_assert_msg(r && (strstr(r->name, "cuDNN") != NULL) == rows[i].fits, "row %zu: %s", i, r ? r->name : "none");
        backend_close(b);
    }
    ck_assert_int_eq(fake_alive(), 0);
}
END_TEST

/* So does the gradient of attention whose operands lie in float16 or bfloat16. */
START_TEST(gradients_that_fit)
{
    static const struct {
        dtype type;
        int64_t keys, width;
        bool mask, fits;
    } rows[] = {{DTYPE_F16, 64, 16, false, true},  {DTYPE_BF16, 64, 128, true, true},   {DTYPE_F16, 63, 16, false, false},
                {DTYPE_F16, 64, 12, false, false}, {DTYPE_BF16, 64, 136, true, false}, {DTYPE_F32, 64, 16, false, false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const backend_options none = {.threads = 1};
        const attention_attrs at = {.scale = 1, .precision = PRECISION_FP32};
        const kernel_tensor few = {.type = rows[i].type, .sh = SHAPE(2, 3, 5, rows[i].width)},
                            many = {.type = rows[i].type, .sh = SHAPE(2, 3, rows[i].keys, rows[i].width)};
        kernel_tensor in[7] = {few, many, many, few, few, {.type = DTYPE_F32, .sh = SHAPE(2, 3, 5)}, {.type = DTYPE_F32, .sh = SHAPE(1, 1, 1, rows[i].keys)}};
        kernel_tensor out[3] = {few, many, many};
        const kernel_args a = {.in = in, .out = out, .n_in = rows[i].mask ? 7 : 6, .n_out = 3, .attr = &at, .threads = 1};
        backend *b;
        OK(backend_open(DEVICE, &none, &b));
        const kernel_row *r = b->find(b, OP_ATTENTION_GRAD, &a);
        ck_assert_msg((r && strstr(r->name, "cuDNN")) == rows[i].fits, "row %zu: %s", i, r ? r->name : "none");
        backend_close(b);
    }
    ck_assert_int_eq(fake_alive(), 0);
}
END_TEST

/* ---- a graph that both libraries run ---- */

/* A convolution with bias and relu, and a Linear layer with bias, residual and relu on its rows: [8, 4] [4, 6]; beside it products
 * as gradients have them: with the slope of gelu, the sums of rows, and relu by its mask. */
static status make_graph(graph **out, value_id *y)
{
    static const float numbers[512] = {1, -2, 3, 0.5f, -0.25f, 4, -1, 2};
    const conv_attrs conv = {.kernel_shape = {2, (const int64_t[]){3, 3}}, .strides = {2, (const int64_t[]){1, 1}},
                             .dilations = {2, (const int64_t[]){1, 1}}, .pads = {4, (const int64_t[]){1, 1, 1, 1}}, .group = 1,
                             .relu = 1};
    const linear_attrs linear = {.alpha = 0.5, .activation = ACTIVATION_RELU};
    const linear_grad_attrs slope = {.alpha = 1, .activation = ACTIVATION_GELU_TANH}, sums = {.alpha = 1, .sums_of = 1},
                            flat = {.alpha = 1, .activation = ACTIVATION_RELU};
    const shape shapes[] = {SHAPE(1, 3, 4, 4), SHAPE(2, 3, 3, 3), SHAPE(2), SHAPE(4, 6), SHAPE(6), SHAPE(1, 2, 4, 6), SHAPE(6, 8), SHAPE(8, 8)};
    enum { X, W, B, V, C, R, U, K, ALL };
    value_id in[ALL], c, d, w[2], m[2];
    TRY(graph_new(out));
    for (int i = 0; i < ALL; i++) {
        char name[2] = {(char)('a' + i), 0};
        TRY(graph_add_data(*out, name, VALUE_CONST, DTYPE_F32, shapes[i], numbers + i, &in[i]));
    }
    TRY(graph_add(*out, OP_CONV, &conv, (value_id[]){in[X], in[W], in[B]}, 3, &c, 1));
    TRY(graph_add(*out, OP_LINEAR, &linear, (value_id[]){c, in[V], in[C], in[R]}, 4, y, 1));
    TRY(graph_add(*out, OP_LINEAR_GRAD_DATA, &slope, (value_id[]){*y, in[U], in[K]}, 3, &d, 1));
    TRY(graph_add(*out, OP_LINEAR_GRAD_WEIGHT, &sums, (value_id[]){*y, d}, 2, w, 2));
    TRY(graph_add(*out, OP_LINEAR_MASKED, &linear, (value_id[]){c, in[V]}, 2, m, 2));
    TRY(graph_add(*out, OP_LINEAR_GRAD_DATA, &flat, (value_id[]){c, in[V], m[1]}, 3, &d, 1));
    for (int i = 0; i < 2; i++)
        TRY(graph_add_output(*out, w[i]));
    TRY(graph_add_output(*out, d));
    return graph_add_output(*out, *y);
}

typedef struct outcome {
    float y[48];
    bool blas, dnn; /* the libraries' rows ran */
} outcome;

/* The graph on the device, closed again whatever happens. */
static status run(const char *device, const graph *g, value_id y, outcome *o)
{
    const backend_options none = {.threads = 1};
    backend *b = NULL;
    plan *p = NULL;
    exec *e = NULL;
    status st = ST_OK;
    TRY_DONE(backend_open(device, &none, &b));
    TRY_DONE(plan_make(g, b, &p));
    for (size_t k = 1; k < g->n_node; k++) {
        o->blas = o->blas || strstr(p->kernel[k]->name, "cuBLASLt");
        o->dnn = o->dnn || strstr(p->kernel[k]->name, "cuDNN");
    }
    TRY_DONE(exec_open(g, b, NULL, 0, &e));
    TRY_DONE(exec_run(e, PHASE_MAIN));
    TRY_DONE(exec_get(e, y, o->y, sizeof o->y));
done:
    exec_close(e);
    plan_free(p);
    backend_close(b);
    return st;
}

static void check_close(const outcome *a, const outcome *b)
{
    for (size_t i = 0; i < sizeof a->y / sizeof *a->y; i++)
        ck_assert_msg(a->y[i] - b->y[i] < 1e-4f && b->y[i] - a->y[i] < 1e-4f, "element %zu: %g and %g", i, (double)a->y[i],
                      (double)b->y[i]);
}

START_TEST(libraries_run)
{
    outcome cpu = {0}, libs = {0};
    graph *g = NULL;
    value_id y;
    OK(make_graph(&g, &y));
    OK(run("cpu", g, y, &cpu));
    OK(run(DEVICE, g, y, &libs));
    ck_assert(libs.blas && libs.dnn && !cpu.blas && !cpu.dnn);
    check_close(&libs, &cpu);
    ck_assert_int_eq(fake_alive(), 0);
    graph_free(g);
}
END_TEST

/* Every call of the libraries fails once: an error, or another kernel and the right result; everything is given back. */
START_TEST(every_call_fails)
{
    outcome cpu = {0};
    graph *g = NULL;
    value_id y;
    long n = 0, errors = 0, others = 0;
    OK(make_graph(&g, &y));
    OK(run("cpu", g, y, &cpu));
    for (bool failed = true; failed; n += failed) {
        outcome libs = {0};
        fake_fail_at(n + 1);
        status st = run(DEVICE, g, y, &libs);
        failed = fake_failed();
        fake_fail_at(0);
        ck_assert_msg(fake_alive() == 0, "call %ld failed: %ld things were not given back", n + 1, fake_alive());
        if (st == ST_OK)
            check_close(&libs, &cpu);
        else if (!strstr(status_message(), "no kernel")) /* own kernels take what the libraries do not */
            ck_assert_msg(st == ST_OOM && strstr(status_message(), "cu"), "call %ld failed: status %d, %s", n + 1, (int)st,
                          status_message());
        errors += st != ST_OK;
        others += st == ST_OK && failed;
    }
    printf("libraries: each of %ld calls failed once: %ld errors, %ld times other kernels\n", n, errors, others);
    ck_assert_int_gt(n, 60);
    ck_assert_int_gt(errors, 3);
    graph_free(g);
}
END_TEST

const test_entry test_table[] = {TEST(matmul_rows), TEST(mask_rows_of_relu), TEST(conv_rows), TEST(conv_rows_of_halves), TEST(plain_rows_of_halves), TEST(sums_that_fit), TEST(attention_rows), TEST(attention_that_fits), TEST(gradients_that_fit), TEST(libraries_run), TEST(every_call_fails), {0}};
