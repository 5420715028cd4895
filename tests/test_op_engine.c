/* test_op_engine.c - the engine of op_case.h must see what it is there to see: rows that expect the wrong thing fail, and
 * kernels that misbehave in each way are caught. */
#include "exec/backend.h"
#include "exec/exec.h"
#include "harness.h"
#include "op_case.h"
#include "op_run.h"

#include <math.h>
#include <string.h>

/* ---- rows ---- */

static void expect_zero(const op_case *c, double *const *in, double *const *out)
{
    (void)c, (void)in;
    out[0][0] = 0;
}

/* floor(x + 1/2), whose gradient is zero: at x = 0.5 the differences step over an edge. */
static status step_function(graph *g, const op_case *c, const value_id *in, value_id *out)
{
    value_id half;
    (void)c;
    TRY(graph_add_fill(g, DTYPE_F32, (shape){0}, 0.5, &half));
    TRY(graph_add1(g, OP_ADD, NULL, in[0], half, 0, &half));
    return graph_add1(g, OP_FLOOR, NULL, half, 0, 0, out);
}

/* Each of these alone fails; `good` passes. */
static const op_case good[] = {{OP_RELU, .in = {{F32(4), FIXED(-1, 2, -3, 4)}}, .want = {WANT(0, 2, 0, 4)}}, OP_CASE_END};
static const op_case bad[][2] = {
    {{OP_RELU, "wrong result", .in = {{F32(2), FIXED(1, 2)}}, .want = {WANT(1, 3)}}, OP_CASE_END},
    {{OP_RELU, "wrong formula", .in = {{F32(1), FIXED(1)}}, .expect = expect_zero}, OP_CASE_END},
    {{OP_RELU, "at the kink the difference is half", .in = {{F32(2), FIXED(0, 1)}}}, OP_CASE_END},
    {{OP_FLOOR, "a step has no zero gradient", .in = {{F32(2), FIXED(0.5, 0.1)}}, .build = step_function}, OP_CASE_END},
    {{OP_SIGMOID, "tolerance that float32 cannot keep", .in = {{F32(500)}}, .fwd_tol = 1e-12, .bwd_tol = 1}, OP_CASE_END},
    {{OP_SIGMOID, "tolerance of the gradients", .in = {{F32(500)}}, .fwd_tol = 1, .bwd_tol = 1e-12}, OP_CASE_END},
    {{OP_RELU, "refused, but for another reason", .in = {{BOOL(2)}}, .refuse = "axis"}, OP_CASE_END},
    {{OP_RELU, "not refused", .in = {{F32(2)}}, .refuse = "axis"}, OP_CASE_END},
    {{OP_ADD, "refused, though it should run", .in = {{F32(2)}, {F32(3)}}}, OP_CASE_END},
};

START_TEST(wrong_rows_fail)
{
    ck_assert_int_eq(op_cases_run("good", good, NULL, DTYPE_NONE), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(op_cases_run("expected failure", bad[i], NULL, DTYPE_NONE) == 1, "row '%s' passed", bad[i][0].note);
}
END_TEST

/* ---- kernels of Add that misbehave ---- */

static int64_t count(const kernel_args *a)
{
    return shape_count(&a->out[0].sh);
}

static void add_right(const kernel_args *a)
{
    const float *x = a->in[0].data, *y = a->in[1].data;
    float *z = a->out[0].data;
    for (int64_t i = 0; i < count(a); i++)
        z[i] = x[i] + y[i];
}
static void add_writes_behind(const kernel_args *a)
{
    add_right(a);
    memset((float *)a->out[0].data + count(a), 0, 4);
}
static void add_writes_before(const kernel_args *a)
{
    add_right(a);
    memset((float *)a->out[0].data - 1, 0, 4);
}
static void add_changes_input(const kernel_args *a)
{
    add_right(a);
    ((float *)a->in[1].data)[0] += 1;
}
static void add_overruns_workspace(const kernel_args *a)
{
    add_right(a);
    memset(a->work, 0, a->work_size + 1);
}
static void add_not_in_place(const kernel_args *a)
{
    float *z = a->out[0].data;
    for (int64_t i = 0; i < count(a); i++)
        z[i] = 0;
    for (int64_t i = 0; i < count(a); i++)
        z[i] = ((const float *)a->in[0].data)[i] + ((const float *)a->in[1].data)[i];
}
static size_t some_bytes(const kernel_args *a)
{
    (void)a;
    return 40;
}

static const struct {
    kernel_row row;
    const char *message; /* NULL: nothing is wrong */
} kernels[] = {
    {{OP_ADD, DTYPE_F32, ISA_REF, "right", add_right, NULL, NULL}, NULL},
    {{OP_ADD, DTYPE_F32, ISA_REF, "writes behind", add_writes_behind, NULL, NULL}, "wrote outside output 0"},
    {{OP_ADD, DTYPE_F32, ISA_REF, "writes before", add_writes_before, NULL, NULL}, "wrote outside output 0"},
    {{OP_ADD, DTYPE_F32, ISA_REF, "changes an input", add_changes_input, NULL, NULL}, "changed input 1"},
    {{OP_ADD, DTYPE_F32, ISA_REF, "workspace", add_overruns_workspace, some_bytes, NULL}, "outside its workspace"},
    {{OP_ADD, DTYPE_F32, ISA_REF, "not in place", add_not_in_place, NULL, NULL}, "in place over input 0"},
};

typedef struct one_kernel {
    backend base;
    const kernel_row *row;
} one_kernel;
static const kernel_row *find_one(const backend *b, op_id op, const kernel_args *a)
{
    (void)op, (void)a;
    return ((const one_kernel *)b)->row;
}

START_TEST(misbehaving_kernels_are_seen)
{
    graph *g;
    value_id x, y, z;
    OK(graph_new(&g));
    OK(graph_add_input(g, "x", DTYPE_F32, SHAPE(3, 5), &x));
    OK(graph_add_input(g, "y", DTYPE_F32, SHAPE(3, 5), &y));
    OK(graph_add1(g, OP_ADD, NULL, x, y, 0, &z));
    for (size_t k = 0; k < sizeof kernels / sizeof *kernels; k++) {
        one_kernel b = {.base = {.name = "test", .find = find_one}, .row = &kernels[k].row};
        op_run r;
        OK(op_run_open(&r, g, &b.base, 1));
        for (int i = 0; i < 15; i++)
            ((float *)r.at[x].data)[i] = ((float *)r.at[y].data)[i] = (float)(i + 1);
#if defined(__SANITIZE_ADDRESS__)
        if (kernels[k].message && strstr(kernels[k].message, "outside")) { /* the sanitizer ends the program there */
            op_run_close(&r);
            continue;
        }
#endif
        if (kernels[k].message)
            FAILS(ST_INTERNAL, kernels[k].message, op_run_nodes(&r, g->n_node, true));
        else
            OK(op_run_nodes(&r, g->n_node, true));
        op_run_close(&r);
    }
    graph_free(g);
}
END_TEST

/* z = x + 2y, where 2y is prepared */
static size_t bytes_of_y(const kernel_args *a)
{
    return a->in[1].data && !a->in[0].data ? (size_t)count(a) * sizeof(float) : 0;
}
static void double_y(const kernel_args *a, void *to)
{
    for (int64_t i = 0; i < count(a); i++)
        ((float *)to)[i] = 2 * ((const float *)a->in[1].data)[i];
}
static void double_y_and_more(const kernel_args *a, void *to)
{
    double_y(a, to);
    ((float *)to)[count(a)] = 0;
}
static void add_prepared(const kernel_args *a)
{
    const float *x = a->in[0].data, *y = a->in[1].data, *twice = a->prepared;
    for (int64_t i = 0; i < count(a); i++)
        ((float *)a->out[0].data)[i] = x[i] + (twice ? twice[i] : 2 * y[i]);
}
static void add_only_prepared(const kernel_args *a)
{
    add_prepared(a);
    if (!a->prepared)
        ((float *)a->out[0].data)[1] = 0;
}

START_TEST(prepared_constants)
{
    static const float numbers[] = {1, 2, 3, 4, 5};
    static const kernel_row right = {OP_ADD, DTYPE_F32, ISA_REF, "right", add_prepared, .prepared = bytes_of_y, .prepare = double_y,
                                     .packed_in = 1 << 1},
                            missing = {OP_ADD, DTYPE_F32, ISA_REF, "missing", add_only_prepared, .prepared = bytes_of_y,
                                       .prepare = double_y, .packed_in = 1 << 1},
                            beyond = {OP_ADD, DTYPE_F32, ISA_REF, "beyond", add_prepared, .prepared = bytes_of_y,
                                      .prepare = double_y_and_more, .packed_in = 1 << 1};
    one_kernel b = {.base = {.name = "test", .threads = 1, .find = find_one}, .row = &right};
    backend *cpu;
    graph *g;
    value_id x, y, z;
    op_run r;
    exec *e;
    OK(backend_open("cpu", &(backend_options){.threads = 1}, &cpu));
    b.base.alloc = cpu->alloc;
    b.base.free = cpu->free;
    OK(graph_new(&g));
    OK(graph_add_input(g, "x", DTYPE_F32, SHAPE(5), &x));
    OK(graph_add_data(g, "y", VALUE_CONST, DTYPE_F32, SHAPE(5), numbers, &y));
    OK(graph_add1(g, OP_ADD, NULL, x, y, 0, &z));
    OK(graph_add_output(g, z));
    OK(op_run_open(&r, g, &b.base, 1));
    ck_assert_ptr_nonnull(r.prepared[1].data);
    OK(op_run_nodes(&r, g->n_node, true));
    op_run_close(&r);
    OK(exec_open(g, &b.base, NULL, 0, &e));
    ck_assert_uint_ge(exec_plan(e)->prepared_bytes, sizeof numbers);
    memcpy(exec_data(e, x), numbers, sizeof numbers);
    OK(exec_run(e, PHASE_MAIN));
    for (int i = 0; i < 5; i++)
        ck_assert_double_eq((double)((const float *)exec_data(e, z))[i], (double)(3 * numbers[i]));
    exec_close(e);
    b.row = &missing;
    OK(op_run_open(&r, g, &b.base, 1));
    FAILS(ST_INTERNAL, "without what was prepared", op_run_nodes(&r, g->n_node, true));
    op_run_close(&r);
#if !defined(__SANITIZE_ADDRESS__) /* it ends the program there */
    b.row = &beyond;
    FAILS(ST_INTERNAL, "outside what it prepares", op_run_open(&r, g, &b.base, 1));
    op_run_close(&r);
#else
    (void)beyond;
#endif
    graph_free(g);
    backend_close(cpu);
}
END_TEST

/* A level that is asked for is had, or refused where the processor lacks it: never another one in silence. */
START_TEST(instruction_sets_by_name)
{
    backend *best, *b;
    OK(backend_open("cpu", &(backend_options){.max_isa = ISA_AVX512}, &best));
    for (int level = ISA_REF; level <= ISA_AVX512; level++) {
        const backend_options o = {.threads = 1, .max_isa = (isa)level, .min_isa = (isa)level};
        if (level > (int)best->level) {
            FAILS(ST_UNAVAILABLE, "this processor has no", backend_open("cpu", &o, &b));
            continue;
        }
        OK(backend_open("cpu", &o, &b));
        ck_assert_int_eq(b->level, level);
        backend_close(b);
    }
    backend_close(best);
}
END_TEST

const test_entry test_table[] = {TEST(wrong_rows_fail), TEST(misbehaving_kernels_are_seen), TEST(instruction_sets_by_name),
                                 TEST(prepared_constants), {0}};
