/* op_case.h - one row proves an operator.
 *
 * A row says: operator, attributes, inputs, tolerances. The engine (op_case.c) makes a graph of it: inputs, the node, a
 * loss (the sum of every float output times random weights) and the gradients of that loss, and then checks
 *   refused    where `refuse` is set: adding the node fails with ST_BAD_DATA and a message that contains it
 *   forward    every output, kernels of every instruction set of this CPU and 1, 2 and 7 threads, against the same graph
 *              run in double by the reference kernels; integer outputs are equal
 *   backward   the same for every gradient
 *   threads    outputs and gradients of one instruction set are the same bits for 1, 2 and 7 threads
 *   numeric    every gradient in double against central differences, per element (large tensors: a sample), sign included;
 *              an input that autodiff gives no gradient must have a zero one
 *   expected   outputs (and what a mutating operator wrote) against `want` or `expect`, where given
 *   memory     every operand and the workspace lie between guard bytes, outputs and workspace begin as garbage, inputs
 *              are unchanged; operators that may run in place give the same bits over each input they may overwrite
 *   plan       the executor's run of the whole graph gives the same bits as node by node
 *   graph      graph_validate, so inference is idempotent
 * The error measured everywhere is |a - b| / max(1, |b|); infinities must be equal, NaN meets NaN.
 *
 * Rows of a family lie in tests/op_cases_FAMILY.c as `const op_case op_cases_FAMILY[]`, ended by OP_CASE_END, and the
 * family has a line in OP_CASE_FAMILIES. DISTILL_OP_CASE=Relu runs the rows of one operator only.
 *
 *     const op_case op_cases_unary[] = {
 *         {OP_RELU, .in = {{F32(2, 3, 5, 7), KINKS(0)}}},
 *         {OP_CLIP, .in = {{F32(4, 5), KINKS(-1, 2), .lo = -3, .hi = 4}}, .attr = &(const clip_attrs){-1, 2}},
 *         {OP_DIV, "row operand", .in = {{F32(4, 1, 5)}, {F32(3, 1), .lo = 0.5, .hi = 2}}, .bwd_tol = 1e-6},
 *         {OP_GATHER, .in = {{F32(5, 3)}, {I64(2, 2), .lo = -5, .hi = 5}}, .attr = &(const gather_attrs){.axis = 0}},
 *         {OP_CLIP, "int8", .in = {{I8(3), FIXED(-100, 3, 100)}}, .attr = &(const clip_attrs){-5, 5}, .want = {WANT(-5, 3, 5)}},
 *         {OP_SOFTMAX, "axis", .in = {{F32(2, 3)}}, .attr = &(const axis_attrs){2}, .refuse = "axis"},
 *         OP_CASE_END}; */
#ifndef DISTILL_TESTS_OP_CASE_H
#define DISTILL_TESTS_OP_CASE_H

#include "graph/graph.h"
#include "ops/attrs.h"

/* The families. Keep one name a line, sorted. */
#define OP_CASE_FAMILIES(X)                                                                                       \
    X(attention)                                                                                                  \
    X(binary)                                                                                                     \
    X(conv)                                                                                                       \
    X(fake_quant)                                                                                                 \
    X(loss)                                                                                                       \
    X(matmul)                                                                                                     \
    X(move)                                                                                                       \
    X(norm)                                                                                                       \
    X(pool)                                                                                                       \
    X(quant)                                                                                                      \
    X(reduce)                                                                                                     \
    X(unary)                                                                                                      \
    X(update)

#define OP_CASE_IN  16
#define OP_CASE_OUT 8

/* An input. Without more than a type and a shape it is random and, when float, has its gradient checked. */
typedef struct op_input {
    dtype type; /* DTYPE_NONE: absent optional input */
    shape sh;
    double lo, hi;       /* uniform in [lo, hi), integers too. Both 0: [-2, 2); int [-5, 5), unsigned [0, 10), bool 0 or 1 */
    const double *avoid; /* kinks: random numbers keep avoid_eps away from each of the n_avoid points */
    int n_avoid;
    double avoid_eps;    /* 0: 0.02 */
    bool distinct;       /* a random order of evenly spaced numbers: no two closer than (hi - lo) / count (max, sorting) */
    const double *fixed; /* these numbers instead, repeated when fewer than the elements */
    int n_fixed;
    value_kind kind; /* 0: a graph input; VALUE_CONST, VALUE_PARAM, VALUE_STATE */
    bool no_grad;    /* not to be differentiated (running statistics, targets of a loss) */
    int same_as;     /* k > 0: not an input of its own but input k - 1 once more */
} op_input;

#define DIMS_(...)     .sh = {(int32_t)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), {__VA_ARGS__}}
#define F32(...)       .type = DTYPE_F32, DIMS_(__VA_ARGS__)
#define F64(...)       .type = DTYPE_F64, DIMS_(__VA_ARGS__)
#define F16(...)       .type = DTYPE_F16, DIMS_(__VA_ARGS__)
#define BF16(...)      .type = DTYPE_BF16, DIMS_(__VA_ARGS__)
#define I8(...)        .type = DTYPE_I8, DIMS_(__VA_ARGS__)
#define U8(...)        .type = DTYPE_U8, DIMS_(__VA_ARGS__)
#define I16(...)       .type = DTYPE_I16, DIMS_(__VA_ARGS__)
#define U16(...)       .type = DTYPE_U16, DIMS_(__VA_ARGS__)
#define I32(...)       .type = DTYPE_I32, DIMS_(__VA_ARGS__)
#define U32(...)       .type = DTYPE_U32, DIMS_(__VA_ARGS__)
#define I64(...)       .type = DTYPE_I64, DIMS_(__VA_ARGS__)
#define U64(...)       .type = DTYPE_U64, DIMS_(__VA_ARGS__)
#define BOOL(...)      .type = DTYPE_BOOL, DIMS_(__VA_ARGS__)
#define SCALAR(t)      .type = DTYPE_##t /* rank 0: SCALAR(F32) */
#define KINKS(...)     .avoid = (const double[]){__VA_ARGS__}, .n_avoid = (int)(sizeof((const double[]){__VA_ARGS__}) / sizeof(double))
#define FIXED(...)     .fixed = (const double[]){__VA_ARGS__}, .n_fixed = (int)(sizeof((const double[]){__VA_ARGS__}) / sizeof(double))
#define SAME_AS(k)     .same_as = (k) + 1
#define WANT(...)      {(int)(sizeof((const double[]){__VA_ARGS__}) / sizeof(double)), (const double[]){__VA_ARGS__}}
#define INTS(...)      {(int64_t)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__}}
#define FLOATS(...)    {(int64_t)(sizeof((const double[]){__VA_ARGS__}) / sizeof(double)), (const double[]){__VA_ARGS__}}

typedef struct op_want { /* expected elements of one output; n = 0: not compared. Repeated when fewer than the elements */
    int n;
    const double *v;
} op_want;

typedef struct op_case op_case;
struct op_case {
    op_id op;
    const char *note; /* what is special about the row; printed when it fails */
    op_input in[OP_CASE_IN];
    int n_in;          /* 0: up to the last present one */
    int n_out;         /* 0: as many as the operator must have */
    const void *attr;  /* the complete attribute struct (fields left out are zero, not the default); NULL: all defaults */
    double fwd_tol;    /* outputs; 0: exact, that is the double result rounded once to float */
    double bwd_tol;    /* gradients of the fast kernels; 0: exact */
    double winograd_tol; /* outputs and gradients where kernels of method "winograd" may run; 0: like everywhere */
    double narrow_tol; /* outputs where a device computes in float16, with bfloat16 eight times that; 0: 1e-2, 6e-2 */
    double grad_tol;   /* numeric gradient; 0: 1e-7 */
    double step;       /* of the central differences; 0: 1e-5 */
    uint32_t loss_outs; /* bit i: output i is part of the loss; 0: every float32 output */
    bool no_grad;      /* forward only, though the operator has a gradient */
    op_want want[OP_CASE_OUT];
    /* Expected results by formula: in[i] are the inputs' elements as double (NULL: absent), out[k] to be filled. For an
     * operator that mutates, the callback writes the new contents into in[i]. want_tol as fwd_tol. */
    void (*expect)(const op_case *c, double *const *in, double *const *out);
    double want_tol;
    const char *refuse; /* adding the node must fail with ST_BAD_DATA and this in the message */
    /* Instead of the one node: a whole graph fragment (a decomposed form, a loss with its parts). */
    status (*build)(graph *g, const op_case *c, const value_id *in, value_id *out);
};
#define OP_CASE_END {.op = OP_NONE}

#define OP_CASE_DECLARE(family) extern const op_case op_cases_##family[];
OP_CASE_FAMILIES(OP_CASE_DECLARE)
#undef OP_CASE_DECLARE

/* Operators without a case of their own, each with the reason; ended by OP_NONE. */
typedef struct op_excuse {
    op_id op;
    const char *reason;
    bool elsewhere; /* it is proved there: nothing is missing */
} op_excuse;
extern const op_excuse op_excuses[];

/* Runs all rows of a family; failures and the largest errors (one line an operator) are printed; number of rows failed.
 * device NULL: on everything that the CPU has; "emulated": on the CUDA kernels, on the host, with threads in three orders. narrow: the
 * rows that compute in this type where images lie channels last (backend_narrow), within 1e-2 (float16) or 6e-2. */
int op_cases_run(const char *family, const op_case *rows, const char *device, dtype narrow);
/* The same where plain tensors lie in it (LAYOUT_NARROW). */
int op_cases_run_plain(const char *family, const op_case *rows, const char *device, dtype narrow);
/* Marks, in seen[OP_COUNT], every operator that the graphs of the rows use (their gradients' nodes included) and in
 * graded[OP_COUNT] those whose gradient is checked. */
MUST_USE status op_cases_cover(const op_case *rows, bool *seen, bool *graded);

#endif
