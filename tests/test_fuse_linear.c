/* test_fuse_linear.c - products (and attention) and what follows them become one node, mean the same, and nothing else is touched. */
#include "exec/exec.h"
#include "harness.h"
#include "ops/attrs.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define ROWS 6
#define WIDTH 5

static float *numbers(float *to, int n, uint32_t seed)
{
    for (int i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        to[i] = (float)(int32_t)seed * 0x1p-31f;
    }
    return to;
}

static value_id constant(graph *g, shape sh, uint32_t seed)
{
    float data[256];
    value_id v;
    OK(graph_add_data(g, NULL, VALUE_CONST, DTYPE_F32, sh, numbers(data, (int)shape_count(&sh), seed), &v));
    return v;
}

static value_id scalar(graph *g, double number)
{
    value_id v;
    OK(graph_add_fill(g, DTYPE_F32, (shape){0}, number, &v));
    return v;
}

static value_id add(graph *g, op_id op, const void *attr, value_id a, value_id b)
{
    value_id v;
    OK(graph_add1(g, op, attr, a, b, 0, &v));
    return v;
}

static int count(const graph *g, op_id op)
{
    int n = 0;
    for (size_t k = 1; k < g->n_node; k++)
        n += g->node[k].op == op;
    return n;
}

/* All outputs of g one after the other. */
static void run(const graph *g, isa level, float *y)
{
    backend *b;
    exec *e;
    OK(backend_open("cpu", &(backend_options){.threads = 1, .max_isa = level}, &b));
    OK(exec_open(g, b, NULL, 0, &e));
    numbers(exec_data(e, g->input[0]), (int)shape_count(&g->value[g->input[0]].sh), 99);
    OK(exec_run(e, PHASE_MAIN));
    for (size_t i = 0; i < g->n_output; i++) {
        size_t n = (size_t)shape_count(&g->value[g->output[i]].sh);
        memcpy(y, exec_data(e, g->output[i]), n * sizeof *y);
        y += n;
    }
    exec_close(e);
    backend_close(b);
}

/* Fuses g and compares; floats: of all outputs. */
static void check_same(graph *g, int floats)
{
    float before[512] = {0}, after[512] = {0};
    run(g, ISA_REF, before);
    OK(pass_join_gelu(g));
    OK(pass_fuse_linear(g));
    OK(graph_validate(g));
    for (int level = ISA_REF; level <= ISA_AVX512; level++) {
        run(g, (isa)level, after);
        for (int i = 0; i < floats; i++)
            ck_assert_msg(fabsf(before[i] - after[i]) <= 2e-6f * fmaxf(1, fabsf(before[i])), "level %d element %d: %g, was %g",
                          level, i, (double)after[i], (double)before[i]);
    }
}

static graph *begin(value_id *x)
{
    graph *g;
    OK(graph_new(&g));
    OK(graph_add_input(g, "x", DTYPE_F32, SHAPE(2, ROWS / 2, WIDTH), x));
    return g;
}

START_TEST(everything_becomes_one_node)
{
    value_id x;
    graph *g = begin(&x);
    value_id y = add(g, OP_MATMUL, NULL, x, constant(g, SHAPE(WIDTH, WIDTH), 1));
    y = add(g, OP_ADD, NULL, constant(g, SHAPE(WIDTH), 2), y); /* bias on the left */
    y = add(g, OP_ADD, NULL, x, y);
    y = add(g, OP_TANH, NULL, y, 0);
    OK(graph_rename(g, y, "named"));
    OK(graph_add_output(g, y));
    check_same(g, ROWS * WIDTH);
    ck_assert_uint_eq(g->n_node, 2);
    ck_assert_int_eq(g->node[1].op, OP_LINEAR);
    ck_assert_int_eq(g->node[1].n_in, 4);
    ck_assert_str_eq(g->value[g->output[0]].name, "named");
    graph_free(g);
}
END_TEST

/* x * 0.5 * (1 + erf(x / sqrt 2)) in the orders that exporters use. */
START_TEST(gelu_in_every_order)
{
    for (int form = 0; form < 4; form++) {
        value_id x;
        graph *g = begin(&x);
        value_id y = add(g, OP_MATMUL, NULL, x, constant(g, SHAPE(WIDTH, 7), 1)), e;
        e = form & 1 ? add(g, OP_MUL, NULL, scalar(g, sqrt(0.5)), y) : add(g, OP_DIV, NULL, y, scalar(g, sqrt(2)));
        e = add(g, OP_ADD, NULL, add(g, OP_ERF, NULL, e, 0), scalar(g, 1));
        if (form == 0)
            e = add(g, OP_MUL, NULL, add(g, OP_MUL, NULL, y, e), scalar(g, 0.5));
        else if (form == 1)
            e = add(g, OP_MUL, NULL, add(g, OP_MUL, NULL, scalar(g, 0.5), y), e);
        else if (form == 2)
            e = add(g, OP_MUL, NULL, y, add(g, OP_MUL, NULL, e, scalar(g, 0.5)));
        else /* no gelu: another factor */
            e = add(g, OP_MUL, NULL, add(g, OP_MUL, NULL, y, e), scalar(g, 0.25));
        OK(graph_add_output(g, e));
        check_same(g, ROWS * 7);
        ck_assert_int_eq(count(g, OP_ERF), form == 3);
        ck_assert_uint_eq(g->n_node == 2, form < 3);
        graph_free(g);
    }
}
END_TEST

START_TEST(what_is_read_elsewhere_stays)
{
    value_id x;
    graph *g = begin(&x);
    value_id y = add(g, OP_MATMUL, NULL, x, constant(g, SHAPE(WIDTH, WIDTH), 1));
    value_id z = add(g, OP_ADD, NULL, y, constant(g, SHAPE(WIDTH), 2)), act = add(g, OP_RELU, NULL, z, 0);
    OK(graph_add_output(g, add(g, OP_MUL, NULL, act, z))); /* z is the second output now */
    OK(graph_add_output(g, add(g, OP_ADD, NULL, y, act))); /* y is read twice: its bias stays a node of its own */
    check_same(g, 2 * ROWS * WIDTH);
    ck_assert_int_eq(count(g, OP_ADD), 2);
    ck_assert_int_eq(count(g, OP_RELU), 1);
    graph_free(g);

    g = begin(&x);
    y = add(g, OP_MATMUL, NULL, x, constant(g, SHAPE(WIDTH, WIDTH), 1));
    act = add(g, OP_GELU, NULL, y, 0);
    OK(graph_add_output(g, add(g, OP_MUL, NULL, act, y)));
    check_same(g, ROWS * WIDTH);
    ck_assert_int_eq(count(g, OP_LINEAR), 1);
    ck_assert_int_eq(count(g, OP_GELU), 0);
    ck_assert_int_eq(g->node[1].n_out, 2);
    graph_free(g);
}
END_TEST

START_TEST(no_bias_no_residual)
{
    value_id x;
    graph *g = begin(&x);
    value_id y = add(g, OP_MATMUL, NULL, x, constant(g, SHAPE(WIDTH, WIDTH), 1));
    y = add(g, OP_ADD, NULL, y, constant(g, SHAPE(ROWS / 2, 1), 2)); /* a column is no bias */
    OK(graph_add_output(g, y));
    y = add(g, OP_MATMUL, NULL, y, constant(g, SHAPE(WIDTH, WIDTH), 3));
    value_id late = add(g, OP_MATMUL, NULL, x, constant(g, SHAPE(WIDTH, WIDTH), 4));
    OK(graph_add_output(g, add(g, OP_ADD, NULL, y, late))); /* the second product takes the first as residual */
    check_same(g, 2 * ROWS * WIDTH);
    ck_assert_int_eq(count(g, OP_ADD), 1);
    ck_assert_int_eq(count(g, OP_LINEAR), 3);
    graph_free(g);
}
END_TEST

/* Every level gives what the reference gives of rounded operands, which is near the exact result and not the same. */
START_TEST(rounded_to_bf16)
{
    float exact[ROWS * 40], want[ROWS * 40], got[ROWS * 40];
    value_id x;
    backend *b;
    graph *g = begin(&x);
    value_id y = add(g, OP_MATMUL, NULL, x, constant(g, SHAPE(WIDTH, 40), 1));
    OK(graph_add_output(g, add(g, OP_RELU, NULL, y, 0)));
    OK(pass_fuse_linear(g));
    run(g, ISA_REF, exact);
    OK(pass_linear_bf16(g));
    OK(graph_validate(g));
    run(g, ISA_REF, want);
    float apart = 0;
    for (int i = 0; i < ROWS * 40; i++)
        apart = fmaxf(apart, fabsf(exact[i] - want[i]));
    ck_assert(apart > 1e-4f && apart < 2e-2f);
    for (int level = ISA_BASE; level <= ISA_AVX512; level++) {
        run(g, (isa)level, got);
        for (int i = 0; i < ROWS * 40; i++)
            ck_assert(fabsf(got[i] - want[i]) <= 2e-6f);
    }
    OK(pass_product_precision(g, DTYPE_NONE));
    run(g, ISA_REF, got);
    ck_assert(memcmp(got, exact, sizeof got) == 0);
    OK(pass_product_precision(g, DTYPE_F16)); /* three bits more than bfloat16 */
    run(g, ISA_AVX512, got);
    float nearer = 0;
    for (int i = 0; i < ROWS * 40; i++)
        nearer = fmaxf(nearer, fabsf(exact[i] - got[i]));
    ck_assert(nearer > 0 && nearer < apart / 4);
    graph_free(g);
    OK(backend_open("cpu", &(backend_options){.threads = 1, .max_isa = ISA_AVX2}, &b));
    ck_assert(!backend_has_bf16(b)); /* slow ones do not count */
    backend_close(b);
}
END_TEST

/* To 10 bits of fraction, ties away from 0. */
static double tf32(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    bits = (bits + 0x1000) & 0xffffe000;
    memcpy(&v, &bits, sizeof v);
    return (double)v;
}

/* A device that may round products to TF32 and has no library does just that. */
START_TEST(rounded_to_tf32)
{
    for (int turned = 0; turned < 2; turned++) {
        float w[WIDTH * 40], in[ROWS * WIDTH];
        graph *g;
        value_id x;
        backend *b;
        exec *e;
        OK(graph_new(&g));
        OK(graph_add_input(g, "x", DTYPE_F32, SHAPE(ROWS, WIDTH), &x));
        const gemm_attrs at = {.alpha = 1, .beta = 1, .transB = turned};
        OK(graph_add_output(g, add(g, OP_GEMM, &at, x, constant(g, turned ? SHAPE(40, WIDTH) : SHAPE(WIDTH, 40), 1))));
        OK(backend_open("emulated", &(backend_options){.threads = 1, .tf32 = true}, &b));
        OK(exec_open(g, b, NULL, 0, &e));
        numbers(exec_data(e, g->input[0]), ROWS * WIDTH, 99);
        OK(exec_run(e, PHASE_MAIN));
        const float *y = exec_data(e, g->output[0]);
        numbers(w, WIDTH * 40, 1);
        numbers(in, ROWS * WIDTH, 99);
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < 40; j++) {
                double sum = 0;
                for (int k = 0; k < WIDTH; k++)
                    sum += tf32(in[i * WIDTH + k]) * tf32(w[turned ? j * WIDTH + k : k * 40 + j]);
                ck_assert_msg(fabs((double)y[i * 40 + j] - sum) < 1e-6, "[%d, %d]: %g, wanted %g", i, j, (double)y[i * 40 + j], sum);
            }
        exec_close(e);
        backend_close(b);
        graph_free(g);
    }
}
END_TEST

static value_id transposed(graph *g, value_id v, int64_t a, int64_t b, int64_t c, int64_t d)
{
    const int64_t perm[4] = {a, b, c, d};
    const transpose_attrs at = {.perm = {4, perm}};
    return add(g, OP_TRANSPOSE, &at, v, 0);
}

/* Tokens [2, 3, 4 heads, 5] attend to themselves, as exporters write it: keys transposed in one step or in two, scores
 * multiplied or divided, with a mask on either side or none; form 4 shares its scores with an output and must stay. */
START_TEST(attention_in_every_order)
{
    for (int form = 0; form < 5; form++) {
        float before[512] = {0}, after[512] = {0};
        value_id x, v, y;
        graph *g;
        OK(graph_new(&g));
        OK(graph_add_input(g, "x", DTYPE_F32, SHAPE(2, 3, 4, 5), &x));
        value_id k = form & 1 ? transposed(g, x, 0, 2, 3, 1) : transposed(g, transposed(g, x, 0, 2, 1, 3), 0, 1, 3, 2);
        value_id s = add(g, OP_MATMUL, NULL, transposed(g, x, 0, 2, 1, 3), k);
        s = form & 1 ? add(g, OP_DIV, NULL, s, scalar(g, 2)) : add(g, OP_MUL, NULL, scalar(g, 0.5), s);
        if (form == 1)
            s = add(g, OP_ADD, NULL, s, constant(g, SHAPE(2, 1, 1, 3), 3));
        if (form == 2)
            s = add(g, OP_ADD, NULL, constant(g, SHAPE(3, 3), 3), s);
        if (form == 4)
            OK(graph_add_output(g, s));
        s = add(g, OP_SOFTMAX, NULL, s, 0);
        v = form == 3 ? constant(g, SHAPE(2, 4, 3, 2), 5) : transposed(g, x, 0, 2, 1, 3);
        y = transposed(g, add(g, OP_MATMUL, NULL, s, v), 0, 2, 1, 3);
        OK(graph_add_output(g, y));
        run(g, ISA_REF, before);
        OK(pass_fuse_attention(g));
        OK(graph_validate(g));
        for (int level = ISA_REF; level <= ISA_AVX512; level++) {
            run(g, (isa)level, after);
            for (int i = 0; i < 512; i++)
                ck_assert_msg(fabsf(before[i] - after[i]) <= 2e-6f, "form %d level %d element %d: %g, was %g", form, level, i,
                              (double)after[i], (double)before[i]);
        }
        ck_assert_int_eq(count(g, OP_ATTENTION), form < 4);
        ck_assert_int_eq(count(g, OP_TRANSPOSE), form < 4 ? 0 : 5);
        graph_free(g);
    }
}
END_TEST

/* The gradient of a sum of squares of self attention with respect to its input, with the pass and without. */
START_TEST(attention_has_the_same_gradient)
{
    float before[512] = {0}, after[512] = {0};
    for (int fused = 0; fused < 2; fused++) {
        const reduce_attrs all = {.keepdims = 0};
        value_id x, y, s, dx;
        graph *g;
        OK(graph_new(&g));
        OK(graph_add_input(g, "x", DTYPE_F32, SHAPE(2, 3, 4, 5), &x));
        s = add(g, OP_MATMUL, NULL, transposed(g, x, 0, 2, 1, 3), transposed(g, x, 0, 2, 3, 1));
        s = add(g, OP_ADD, NULL, add(g, OP_MUL, NULL, scalar(g, 0.5), s), constant(g, SHAPE(3, 3), 3));
        y = add(g, OP_MATMUL, NULL, add(g, OP_SOFTMAX, NULL, s, 0), transposed(g, x, 0, 2, 1, 3));
        y = transposed(g, y, 0, 2, 1, 3);
        y = add(g, OP_REDUCE_SUM, &all, add(g, OP_MUL, NULL, y, y), 0);
        OK(graph_add_output(g, y));
        if (fused)
            OK(pass_fuse_attention_graded(g));
        OK(graph_gradients(g, y, &x, 1, &dx));
        OK(graph_add_output(g, dx));
        OK(pass_dead_nodes(g));
        OK(graph_validate(g));
        ck_assert_int_eq(count(g, OP_ATTENTION_GRAD), fused);
        ck_assert_int_eq(count(g, OP_SOFTMAX), !fused);
        run(g, ISA_AVX512, fused ? after : before);
        graph_free(g);
    }
    for (int i = 0; i < 512; i++)
        ck_assert_msg(fabsf(before[i] - after[i]) <= 1e-5f * fmaxf(1, fabsf(before[i])), "element %d: %g, was %g", i,
                      (double)after[i], (double)before[i]);
}
END_TEST

/* ---- gradients of linear layers on a device ---- */

enum { TOKENS = 10, WIDE = 24, UNITS = 6, LAYERS = 3 };

typedef struct step {
    graph *g;
    value_id grad[2 * LAYERS];
    float result[2 * LAYERS][WIDE * WIDE];
    size_t nodes, launches; /* nodes that run, kernels that a recorded step launches */
    int sums, slopes, weights, data; /* ReduceSum, gradients of activations; products with these in them */
    int masks;
} step;

static value_id parameter(graph *g, const char *name, shape sh, uint32_t seed)
{
    float data[WIDE * WIDE];
    value_id v;
    OK(graph_add_data(g, name, VALUE_PARAM, DTYPE_F32, sh, numbers(data, (int)shape_count(&sh), seed), &v));
    return v;
}

/* Two layers on tokens [2, 5, WIDE] with an activation between, a residual round both, a third one on all tokens; the loss is the
 * sum of the squares of what comes out. shared: what the activation makes is read once more. */
static void make_step(step *s, op_id activation, const void *attr, bool shared, dtype narrow)
{
    const gemm_attrs turned = {.alpha = 1, .beta = 1, .transB = 1};
    const reshape_attrs flat = {.shape = {2, (const int64_t[]){TOKENS, WIDE}}};
    const reduce_attrs all = {.keepdims = 0};
    value_id x, wrt[2 * LAYERS];
    OK(graph_new(&s->g));
    graph *g = s->g;
    OK(graph_add_input(g, "x", DTYPE_F32, SHAPE(2, TOKENS / 2, WIDE), &x));
    wrt[0] = parameter(g, "w0", SHAPE(WIDE, WIDE), 1);
    wrt[1] = parameter(g, "b0", SHAPE(WIDE), 2);
    wrt[2] = parameter(g, "w1", SHAPE(WIDE, WIDE), 3);
    wrt[3] = parameter(g, "b1", SHAPE(1, WIDE), 4);
    wrt[4] = parameter(g, "w2", SHAPE(UNITS, WIDE), 5);
    wrt[5] = parameter(g, "b2", SHAPE(UNITS), 6);
    value_id h = add(g, activation, attr, add(g, OP_ADD, NULL, add(g, OP_MATMUL, NULL, x, wrt[0]), wrt[1]), 0);
    value_id y = add(g, OP_ADD, NULL, add(g, OP_ADD, NULL, add(g, OP_MATMUL, NULL, h, wrt[2]), wrt[3]), shared ? h : x), z;
    OK(graph_add1(g, OP_GEMM, &turned, add(g, OP_RESHAPE, &flat, y, 0), wrt[4], wrt[5], &z));
    OK(graph_add_output(g, add(g, OP_REDUCE_SUM, &all, add(g, OP_MUL, NULL, z, z), 0)));
    OK(graph_gradients(g, g->output[0], wrt, 2 * LAYERS, s->grad));
    for (int i = 0; i < 2 * LAYERS; i++)
        OK(graph_add_output(g, s->grad[i]));
    OK(pass_fuse_linear(g));
    OK(pass_product_precision(g, narrow));
    for (int i = 0; i < 2 * LAYERS; i++)
        s->grad[i] = g->output[1 + i];
}

/* lies: what is between kernels is in this type too. */
static void run_step(step *s, const char *device, dtype lies)
{
    backend *b;
    exec *e;
    OK(backend_open(device, &(backend_options){.threads = 1, .max_isa = ISA_REF}, &b));
    OK(backend_narrow(b, lies));
    OK(exec_open(s->g, b, NULL, 0, &e));
    const graph *low = exec_graph(e);
    OK(graph_validate(low));
    numbers(exec_data(e, s->g->input[0]), TOKENS * WIDE, 99);
    for (int again = 0; again < 2; again++) /* the second time it is recorded */
        OK(exec_run(e, PHASE_MAIN));
    for (int i = 0; i < 2 * LAYERS; i++)
        memcpy(s->result[i], exec_data(e, s->grad[i]), (size_t)shape_count(&s->g->value[s->grad[i]].sh) * sizeof(float));
    s->nodes = 0;
    for (size_t k = 1; k < low->n_node; k++)
        s->nodes += !(op_of(low->node[k].op)->flags & OP_VIEW);
    s->launches = exec_kernels(e, PHASE_MAIN);
    s->sums = count(low, OP_REDUCE_SUM);
    s->slopes = count(low, OP_RELU_GRAD) + count(low, OP_GELU_GRAD) + count(low, OP_TANH_GRAD);
    s->weights = count(low, OP_LINEAR_GRAD_WEIGHT);
    s->data = count(low, OP_LINEAR_GRAD_DATA);
    s->masks = count(low, OP_LINEAR_MASKED);
    exec_close(e);
    backend_close(b);
}

/* Of gradient i, over its own length. */
static double distance(const step *a, const step *b, int i)
{
    double sum = 0, norm = 0;
    for (int64_t k = 0; k < shape_count(&a->g->value[a->grad[i]].sh); k++) {
        sum += pow((double)a->result[i][k] - (double)b->result[i][k], 2);
        norm += pow((double)a->result[i][k], 2);
    }
    return sqrt(sum / norm);
}

/* Three sums of rows and the slope of an activation are part of the products on a device, none on the CPU; cuBLASLt has the
 * slopes of relu and of gelu by tanh. In float32, of rounded operands, and with what lies between in bfloat16. Gradients are those of the CPU. */
START_TEST(gradients_on_a_device)
{
    static const gelu_attrs exact = {.approximate = GELU_NONE}, by_tanh = {.approximate = GELU_TANH};
    static const struct {
        op_id op;
        const void *attr;
        bool library;
    } rows[] = {{OP_RELU, NULL, true}, {OP_GELU, &exact, false}, {OP_GELU, &by_tanh, true}, {OP_TANH, NULL, false}};
    static const dtype types[] = {DTYPE_NONE, DTYPE_BF16, DTYPE_BF16};
    double worst[3] = {0};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
        for (int form = 0; form < 6; form++) {
            const bool shared = form & 1;
            const dtype lies = form < 4 ? DTYPE_NONE : DTYPE_BF16;
            static step cpu, far;
            make_step(&cpu, rows[r].op, rows[r].attr, shared, types[form / 2]);
            run_step(&cpu, "cpu", DTYPE_NONE);
            ck_assert_int_eq(cpu.sums, 1 + LAYERS); /* of the loss and of three biases */
            ck_assert_int_eq(cpu.slopes, 1);
            ck_assert_int_eq(cpu.weights + cpu.data, 0);
            for (int lib = 0; lib < 2; lib++) {
                const int slopes = !lib || rows[r].library;
                make_step(&far, rows[r].op, rows[r].attr, shared, types[form / 2]);
                run_step(&far, lib ? "emulated-libs" : "emulated", lies);
                ck_assert_int_eq(far.sums, 1);
                ck_assert_int_eq(far.weights, LAYERS);
                ck_assert_int_eq(far.slopes, 1 - slopes);
                ck_assert_int_eq(far.data, slopes);
                ck_assert_int_eq(far.masks, lib && rows[r].op == OP_RELU);
                if (!lies) /* else numbers are rounded in between */
                    ck_assert_uint_eq(far.nodes, cpu.nodes - LAYERS - (size_t)slopes);
                if (!lib) /* a kernel a node here */
                    ck_assert_uint_eq(far.launches, far.nodes);
                for (int i = 0; i < 2 * LAYERS; i++) {
                    const double apart = distance(&cpu, &far, i), allowed = form < 2 ? 1e-5 : form < 4 ? 1e-2 : 2e-2;
                    ck_assert_msg(apart <= allowed, "%s, form %d, on %s: gradient %d is %g apart", op_of(rows[r].op)->name, form,
                                  lib ? "cuBLASLt" : "own kernels", i, apart);
                    worst[form / 2] = fmax(worst[form / 2], apart);
                }
                graph_free(far.g);
            }
            if (!shared && form < 2)
                printf("%s: %zu nodes, on a device %zu with own kernels\n", op_of(rows[r].op)->name, cpu.nodes,
                       cpu.nodes - LAYERS - 1);
            graph_free(cpu.g);
        }
    printf("gradients are apart by %.2g, rounded products %.2g, bfloat16 between them %.2g\n", worst[0], worst[1], worst[2]);
}
END_TEST

/* What is read elsewhere, or belongs to no product, stays. */
START_TEST(sums_and_slopes_that_stay)
{
    const reduce_attrs rows = {.axes = {1, (const int64_t[]){0}}, .keepdims = 1}, cols = {.axes = {1, (const int64_t[]){1}}};
    const gemm_attrs left = {.alpha = 1, .beta = 1, .transA = 1}, plain = {.alpha = 1, .beta = 1};
    value_id x, y, w, d, s;
    graph *g;
    backend *b;
    exec *e;
    OK(graph_new(&g));
    OK(graph_add_input(g, "x", DTYPE_F32, SHAPE(8, 8), &x));
    w = constant(g, SHAPE(8, 8), 1);
    OK(graph_add1(g, OP_GEMM, &plain, x, w, 0, &d));
    OK(graph_add_output(g, add(g, OP_RELU_GRAD, NULL, d, x)));
    OK(graph_add_output(g, d)); /* wanted itself */
    OK(graph_add_output(g, add(g, OP_REDUCE_SUM, &cols, x, 0))); /* of the columns, as many */
    s = add(g, OP_TANH, NULL, add(g, OP_REDUCE_SUM, &rows, d, 0), 0); /* wanted before the product */
    OK(graph_add1(g, OP_GEMM, &left, x, add(g, OP_ADD, NULL, d, s), 0, &y));
    OK(graph_add_output(g, y));
    OK(graph_add1(g, OP_GEMM, &left, d, add(g, OP_ADD, NULL, x, s), 0, &y));
    OK(graph_add_output(g, y));
    OK(pass_fuse_linear(g));
    OK(backend_open("emulated", &(backend_options){.threads = 1}, &b));
    OK(exec_open(g, b, NULL, 0, &e));
    ck_assert_int_eq(count(exec_graph(e), OP_RELU_GRAD), 1);
    ck_assert_int_eq(count(exec_graph(e), OP_REDUCE_SUM), 2);
    ck_assert_int_eq(count(exec_graph(e), OP_LINEAR), 3);
    exec_close(e);
    backend_close(b);
    graph_free(g);
}
END_TEST

const test_entry test_table[] = {TEST(everything_becomes_one_node), TEST(gelu_in_every_order),
                                 TEST(what_is_read_elsewhere_stays), TEST(no_bias_no_residual),
                                 TEST(rounded_to_bf16),
                                 TEST(rounded_to_tf32),
                                 TEST(attention_in_every_order),
                                 TEST(attention_has_the_same_gradient),
                                 TEST(gradients_on_a_device),
                                 TEST(sums_and_slopes_that_stay), {0}};
