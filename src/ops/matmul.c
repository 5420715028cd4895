/* matmul.c - matrix products: Gemm, MatMul and, in fused graphs, Linear.
 *
 * Gradients are again Gemm and MatMul with the transposed operand said in the attributes: nothing is copied. A device's passes
 * make LinearGradData and LinearGradWeight of them and of what stands beside them. */
#include "ops/common.h"

#include <inttypes.h>
#include <stddef.h>

/* Rows and columns of a matrix after an optional transposition. */
typedef struct extent {
    int64_t rows, cols;
} extent;
static extent extent_of(const shape *s, bool transposed)
{
    int64_t r = s->dim[s->rank - 2], c = s->dim[s->rank - 1];
    return transposed ? (extent){c, r} : (extent){r, c};
}

/* ---- Gemm: y = alpha * A' * B' + beta * C (ONNX Gemm-13) ----
 * A' [M, K], B' [K, N], C broadcasts to [M, N]. */

static const attr_desc gemm_rows[] = {{ATTR(gemm_attrs, alpha), .type = ATTR_FLOAT, .def = 1},
                                      {ATTR(gemm_attrs, beta), .type = ATTR_FLOAT, .def = 1},
                                      {ATTR(gemm_attrs, transA), .type = ATTR_INT},
                                      {ATTR(gemm_attrs, transB), .type = ATTR_INT},
                                      {0}};

static status gemm_infer(graph *g, node *n)
{
    const gemm_attrs *a = n->attr;
    TRY(op_check_float(g, n, 0));
    TRY(op_check_same_type(g, n, 0, 1));
    TRY(op_check_same_type(g, n, 0, 2));
    for (int i = 0; i < 2; i++) {
        const value *v = op_in(g, n, i);
        if (!v || v->sh.rank != 2)
            return op_fail(n, "input '%s' has rank %d; it must be a matrix", v ? v->name : "", v ? v->sh.rank : 0);
    }
    extent x = extent_of(&op_in(g, n, 0)->sh, a->transA != 0), y = extent_of(&op_in(g, n, 1)->sh, a->transB != 0);
    if (x.cols != y.rows)
        return op_fail(n, "A' has %" PRId64 " columns and B' has %" PRId64 " rows", x.cols, y.rows);
    shape out = SHAPE(x.rows, y.cols), both;
    const value *c = op_in(g, n, 2);
    char one[200], two[200];
    if (c && (!shape_broadcast(&out, &c->sh, &both) || !shape_equal(&out, &both)))
        return op_fail(n, "C '%s' %s does not broadcast to %s", c->name, shape_print(&c->sh, one),
                       shape_print(&out, two));
    op_set_out(g, n, 0, op_in(g, n, 0)->type, out);
    return ST_OK;
}

static status add_gemm(graph *g, double alpha, value_id a, bool ta, value_id b, bool tb, value_id *out)
{
    gemm_attrs at = {.alpha = alpha, .beta = 1, .transA = ta, .transB = tb};
    return graph_add1(g, OP_GEMM, &at, a, b, 0, out);
}

/* dA' = alpha * dY B'^T, dB' = alpha * A'^T dY, dC = beta * dY; a transposed operand gets the transposed product. */
static status gemm_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    const gemm_attrs *at = n->attr;
    value_id a = n->in[0], b = n->in[1], d = dy[0];
    bool ta = at->transA != 0, tb = at->transB != 0;
    double alpha = at->alpha, beta = at->beta;
    TRY(ta ? add_gemm(g, alpha, b, tb, d, true, &dx[0]) : add_gemm(g, alpha, d, false, b, !tb, &dx[0]));
    TRY(tb ? add_gemm(g, alpha, d, true, a, ta, &dx[1]) : add_gemm(g, alpha, a, !ta, d, false, &dx[1]));
    if (n->n_in < 3 || !n->in[2])
        return ST_OK;
    dx[2] = d;
    if (beta != 1) {
        value_id factor;
        TRY(graph_add_fill(g, g->value[d].type, (shape){0}, beta, &factor));
        TRY(graph_add1(g, OP_MUL, NULL, d, factor, 0, &dx[2]));
    }
    return ST_OK;
}

static double gemm_macs(const graph *g, const node *n)
{
    const gemm_attrs *a = n->attr;
    extent x = extent_of(&op_in(g, n, 0)->sh, a->transA != 0);
    return (double)shape_count(&g->value[n->out[0]].sh) * (double)x.cols;
}

const op_desc op_gemm = {.name = "Gemm", .in = {2, 3}, .out = {1, 1}, .flags = OP_PORTABLE, .attrs = gemm_rows,
                         .attr_size = sizeof(gemm_attrs), .params = 1u << 1 | 1u << 2, .infer = gemm_infer,
                         .grad = gemm_grad, .macs = gemm_macs};

/* ---- MatMul: y[..., :, :] = A'[..., :, :] B'[..., :, :] (ONNX MatMul-13, as numpy.matmul) ----
 * Leading axes broadcast. A one-dimensional A is a row, a one-dimensional B a column; the axis added for that is
 * dropped from y. transA and transB (hidden) swap the last two axes; operands of rank 1 are never transposed. */

static const attr_desc matmul_rows[] = {{ATTR(matmul_attrs, transA), .type = ATTR_INT, .flags = ATTR_HIDDEN},
                                        {ATTR(matmul_attrs, transB), .type = ATTR_INT, .flags = ATTR_HIDDEN},
                                        {0}};

/* The shape with the axis added: [K] -> [1, K] (left) or [K, 1] (right). */
static shape as_matrix(const shape *s, bool left)
{
    return s->rank != 1 ? *s : left ? SHAPE(1, s->dim[0]) : SHAPE(s->dim[0], 1);
}

static status matmul_infer(graph *g, node *n)
{
    const matmul_attrs *at = n->attr;
    TRY(op_check_float(g, n, 0));
    TRY(op_check_same_type(g, n, 0, 1));
    const value *a = op_in(g, n, 0), *b = op_in(g, n, 1);
    if (!b)
        return op_fail(n, "input 1 is missing");
    if (a->sh.rank < 1 || b->sh.rank < 1)
        return op_fail(n, "input '%s' is a scalar", a->sh.rank < 1 ? a->name : b->name);
    if ((a->sh.rank == 1 && at->transA) || (b->sh.rank == 1 && at->transB))
        return op_fail(n, "an operand of rank 1 cannot be transposed");
    shape x = as_matrix(&a->sh, true), y = as_matrix(&b->sh, false), out;
    extent left = extent_of(&x, at->transA != 0), right = extent_of(&y, at->transB != 0);
    char one[200], two[200];
    shape xb = shape_from(x.dim, (size_t)x.rank - 2), yb = shape_from(y.dim, (size_t)y.rank - 2);
    if (left.cols != right.rows || !shape_broadcast(&xb, &yb, &out))
        return op_fail(n, "inputs '%s' %s and '%s' %s do not multiply", a->name, shape_print(&a->sh, one), b->name,
                       shape_print(&b->sh, two));
    if (a->sh.rank > 1)
        out.dim[out.rank++] = left.rows;
    if (b->sh.rank > 1)
        out.dim[out.rank++] = right.cols;
    op_set_out(g, n, 0, a->type, out);
    return ST_OK;
}

static status add_matmul(graph *g, value_id a, bool ta, value_id b, bool tb, value_id *out)
{
    matmul_attrs at = {.transA = ta, .transB = tb};
    return graph_add1(g, OP_MATMUL, &at, a, b, 0, out);
}

/* v with all axes but the last made one. */
static status fold_rows(graph *g, value_id v, value_id *out)
{
    shape s = g->value[v].sh;
    int64_t cols = s.dim[s.rank - 1], rows = 1;
    for (int i = 0; i < s.rank - 1; i++)
        rows *= s.dim[i];
    return op_add_reshape(g, v, SHAPE(rows, cols), out);
}

/* Adds or drops an axis of length 1 at `at` (from the end of the result or the operand). */
static status add_axis(graph *g, value_id *v, int at)
{
    shape s = g->value[*v].sh;
    for (int i = s.rank; i > s.rank - at; i--)
        s.dim[i] = s.dim[i - 1];
    s.dim[s.rank - at] = 1;
    s.rank++;
    return op_add_reshape(g, *v, s, v);
}
static status drop_axis(graph *g, value_id *v, int at)
{
    shape s = g->value[*v].sh;
    for (int i = s.rank - 1 - at; i < s.rank - 1; i++)
        s.dim[i] = s.dim[i + 1];
    s.rank--;
    return op_add_reshape(g, *v, s, v);
}

/* dA = dY B'^T and dB = A'^T dY, summed over broadcast axes by the caller. With a single matrix B (a linear layer on
 * a sequence) dB is one product over all rows instead of a sum of products. */
static status matmul_grad(graph *g, const node *n, const value_id *dy, value_id *dx)
{
    const matmul_attrs *at = n->attr;
    value_id a = n->in[0], b = n->in[1], d = dy[0];
    bool ta = at->transA != 0, tb = at->transB != 0;
    bool row = g->value[a].sh.rank == 1, col = g->value[b].sh.rank == 1;
    if (col)
        TRY(add_axis(g, &d, 0));
    if (row)
        TRY(add_axis(g, &d, 1));
    if (row)
        TRY(add_axis(g, &a, 1));
    if (col)
        TRY(add_axis(g, &b, 0));
    TRY(ta ? add_matmul(g, b, tb, d, true, &dx[0]) : add_matmul(g, d, false, b, !tb, &dx[0]));
    if (g->value[b].sh.rank == 2 && g->value[a].sh.rank > 2 && !ta) {
        TRY(fold_rows(g, a, &a));
        TRY(fold_rows(g, d, &d));
    }
    TRY(tb ? add_matmul(g, d, true, a, ta, &dx[1]) : add_matmul(g, a, !ta, d, false, &dx[1]));
    if (row)
        TRY(drop_axis(g, &dx[0], 1));
    if (col)
        TRY(drop_axis(g, &dx[1], 0));
    return ST_OK;
}

static double matmul_macs(const graph *g, const node *n)
{
    const matmul_attrs *at = n->attr;
    shape x = as_matrix(&op_in(g, n, 0)->sh, true);
    return (double)shape_count(&g->value[n->out[0]].sh) * (double)extent_of(&x, at->transA != 0).cols;
}

const op_desc op_matmul = {.name = "MatMul", .in = {2, 2}, .out = {1, 1}, .attrs = matmul_rows,
                           .attr_size = sizeof(matmul_attrs), .params = 1u << 1, .infer = matmul_infer,
                           .grad = matmul_grad, .macs = matmul_macs};

/* ---- Linear: pre = alpha * A' B' + bias + residual, y = activation(pre) (internal; made by pass_fuse_linear) ----
 * A' [..., M, K] (its leading axes are rows too; transposed only when it is a matrix), B' [K, N], bias of N elements,
 * residual like y [..., M, N]. Outputs: y and, where something reads it, pre. With precision bf16 (fp16) the elements of A
 * and B are rounded to bfloat16 (float16) first; with fp8 both are scaled, so that a_range and b_range become the largest number of
 * E4M3, rounded to it (kernels/e4m3.h), and the sum is scaled back. */

static const attr_desc linear_rows[] = {
    {ATTR(linear_attrs, alpha), .type = ATTR_FLOAT, .def = 1},
    {ATTR(linear_attrs, transA), .type = ATTR_INT},
    {ATTR(linear_attrs, transB), .type = ATTR_INT},
    {ATTR(linear_attrs, activation), .type = ATTR_CHOICE, .choices = "none relu gelu gelu_tanh tanh"},
    {ATTR(linear_attrs, precision), .type = ATTR_CHOICE, .choices = "fp32 bf16 fp16 fp8"},
    {ATTR(linear_attrs, a_range), .type = ATTR_FLOAT},
    {ATTR(linear_attrs, b_range), .type = ATTR_FLOAT},
    {0}};

/* A range by which numbers can be scaled, there and back. */
static bool is_range(double r)
{
    return r >= 1e-15 && r <= 1e15;
}

static status linear_infer(graph *g, node *n)
{
    const linear_attrs *at = n->attr;
    TRY(op_check_float(g, n, 0));
    for (int i = 1; i < 4; i++)
        TRY(op_check_same_type(g, n, 0, i));
    const value *a = op_in(g, n, 0), *b = op_in(g, n, 1), *bias = op_in(g, n, 2);
    if (!b || b->sh.rank != 2 || a->sh.rank < 2 || (at->transA && a->sh.rank != 2))
        return op_fail(n, "the operands must be matrices");
    if (at->precision == PRECISION_FP8 && (!is_range(at->a_range) || !is_range(at->b_range)))
        return op_fail(n, "fp8 needs the ranges of both matrices; they are %g and %g", at->a_range, at->b_range);
    extent x = extent_of(&a->sh, at->transA != 0), y = extent_of(&b->sh, at->transB != 0);
    if (x.cols != y.rows)
        return op_fail(n, "A' has %" PRId64 " columns and B' has %" PRId64 " rows", x.cols, y.rows);
    if (bias && shape_count(&bias->sh) != y.cols)
        return op_fail(n, "the bias '%s' must have %" PRId64 " elements", bias->name, y.cols);
    shape out = a->sh;
    out.dim[out.rank - 2] = x.rows;
    out.dim[out.rank - 1] = y.cols;
    dtype type = a->type;
    TRY(op_check_shape(g, n, 3, out, "residual"));
    op_set_out(g, n, 0, type, out);
    op_set_out(g, n, 1, type, out);
    return ST_OK;
}

static double linear_macs(const graph *g, const node *n)
{
    const linear_attrs *at = n->attr;
    return (double)shape_count(&g->value[n->out[0]].sh) * (double)extent_of(&op_in(g, n, 0)->sh, at->transA != 0).cols;
}

const op_desc op_linear = {.name = "Linear", .in = {2, 4}, .out = {1, 2}, .flags = OP_INTERNAL, .attrs = linear_rows,
                           .attr_size = sizeof(linear_attrs), .params = 1u << 1 | 1u << 2, .infer = linear_infer,
                           NO_GRAD("it is made after gradients"), .macs = linear_macs};

/* ---- LinearMasked: a Linear with relu, and where it is not flat (internal; made by pass_fuse_linear_grads) ----
 * Outputs: y and the mask, a bit for every element of y and rows of a multiple of 128 bits, for the gradient to read in place
 * of y. Who makes a mask and who reads it are kernels of one library: the order of the bits is its own. */

static status masked_infer(graph *g, node *n)
{
    if (((const linear_attrs *)n->attr)->activation != ACTIVATION_RELU)
        return op_fail(n, "relu alone has a mask");
    TRY(linear_infer(g, n));
    const shape *y = &g->value[n->out[0]].sh;
    const int64_t cols = y->dim[y->rank - 1];
    op_set_out(g, n, 1, DTYPE_U8, SHAPE(cols ? shape_count(y) / cols : 0, linear_mask_bytes(cols)));
    return ST_OK;
}

const op_desc op_linear_masked = {.name = "LinearMasked", .in = {2, 4}, .out = {2, 2}, .flags = OP_INTERNAL, .attrs = linear_rows,
                                  .attr_size = sizeof(linear_attrs), .params = 1u << 1 | 1u << 2, .infer = masked_infer,
                                  NO_GRAD("it is made after gradients"), .macs = linear_macs};

/* ---- LinearGradData: dx = (alpha * A B' + residual) * slope(kept) (internal; made by pass_fuse_linear_grads) ----
 * The gradient that enters an activation, of the one that leaves it: A [..., K], B' [K, N], kept [..., N] what the activation's
 * own gradient reads (y of Relu and Tanh, x of Gelu), or a LinearMasked's mask of relu; residual of as many elements. dx has the
 * shape of kept, by a mask that of A but for its columns. precision: as Linear. */

static const attr_desc grad_data_rows[] = {
    {ATTR(linear_grad_attrs, alpha), .type = ATTR_FLOAT, .def = 1},
    {ATTR(linear_grad_attrs, transB), .type = ATTR_INT},
    {ATTR(linear_grad_attrs, activation), .type = ATTR_CHOICE, .choices = "none relu gelu gelu_tanh tanh"},
    {ATTR(linear_grad_attrs, precision), .type = ATTR_CHOICE, .choices = "fp32 bf16 fp16"},
    {0}};

/* Rows of a matrix whose leading axes are rows too. */
static int64_t rows_of(const shape *s)
{
    int64_t rows = 1;
    for (int i = 0; i < s->rank - 1; i++)
        rows *= s->dim[i];
    return rows;
}

static status grad_data_infer(graph *g, node *n)
{
    const linear_grad_attrs *at = n->attr;
    TRY(op_check_float(g, n, 0));
    const value *a = op_in(g, n, 0), *b = op_in(g, n, 1), *kept = op_in(g, n, 2), *residual = op_in(g, n, 3);
    const bool masked = kept && kept->type == DTYPE_U8 && at->activation == ACTIVATION_RELU;
    for (int i = 1; i < 4; i++)
        if (i != 2 || !masked)
            TRY(op_check_same_type(g, n, 0, i));
    if (!b || !kept || a->sh.rank < 1 || b->sh.rank != 2 || kept->sh.rank < 1)
        return op_fail(n, "the operands must be matrices");
    extent y = extent_of(&b->sh, at->transB != 0);
    if (a->sh.dim[a->sh.rank - 1] != y.rows)
        return op_fail(n, "A has %" PRId64 " columns and B' has %" PRId64 " rows", a->sh.dim[a->sh.rank - 1], y.rows);
    const int64_t columns = masked ? linear_mask_bytes(y.cols) : y.cols;
    if (kept->sh.dim[kept->sh.rank - 1] != columns || rows_of(&kept->sh) != rows_of(&a->sh))
        return op_fail(n, "what the activation kept, '%s', must have %" PRId64 " rows of %" PRId64, kept->name, rows_of(&a->sh), columns);
    shape out = masked ? a->sh : kept->sh;
    out.dim[out.rank - 1] = y.cols;
    if (residual && shape_count(&residual->sh) != shape_count(&out))
        return op_fail(n, "the residual '%s' must have %" PRId64 " elements", residual->name, shape_count(&out));
    op_set_out(g, n, 0, a->type, out);
    return ST_OK;
}

static double grad_data_macs(const graph *g, const node *n)
{
    const shape *a = &op_in(g, n, 0)->sh;
    return (double)shape_count(&g->value[n->out[0]].sh) * (double)a->dim[a->rank - 1];
}

const op_desc op_linear_grad_data = {.name = "LinearGradData", .in = {3, 4}, .out = {1, 1}, .flags = OP_INTERNAL,
                                     .attrs = grad_data_rows, .attr_size = sizeof(linear_grad_attrs), .infer = grad_data_infer,
                                     NO_GRAD("it is made after gradients"), .macs = grad_data_macs};

/* ---- LinearGradWeight: dw = alpha * A^T B, sums = the rows of A or of B added up (internal; made by the same pass) ----
 * A [..., M] and B [..., N] of as many rows; dw [M, N]; sums [M] or [N]: the gradients of a weight and of the bias beside it.
 * precision: as Linear; the sums may be of rounded elements then. */

static const attr_desc grad_weight_rows[] = {
    {ATTR(linear_grad_attrs, alpha), .type = ATTR_FLOAT, .def = 1},
    {ATTR(linear_grad_attrs, sums_of), .type = ATTR_INT, .max = 1},
    {ATTR(linear_grad_attrs, precision), .type = ATTR_CHOICE, .choices = "fp32 bf16 fp16"},
    {0}};

static status grad_weight_infer(graph *g, node *n)
{
    const linear_grad_attrs *at = n->attr;
    TRY(op_check_float(g, n, 0));
    TRY(op_check_same_type(g, n, 0, 1));
    const value *a = op_in(g, n, 0), *b = op_in(g, n, 1);
    if (!b || a->sh.rank < 1 || b->sh.rank < 1)
        return op_fail(n, "the operands must be matrices");
    if (rows_of(&a->sh) != rows_of(&b->sh))
        return op_fail(n, "A has %" PRId64 " rows and B has %" PRId64, rows_of(&a->sh), rows_of(&b->sh));
    const int64_t rows = a->sh.dim[a->sh.rank - 1], cols = b->sh.dim[b->sh.rank - 1];
    const dtype type = a->type;
    op_set_out(g, n, 0, type, SHAPE(rows, cols));
    op_set_out(g, n, 1, type, SHAPE(at->sums_of ? cols : rows));
    return ST_OK;
}

static double grad_weight_macs(const graph *g, const node *n)
{
    return (double)shape_count(&g->value[n->out[0]].sh) * (double)rows_of(&op_in(g, n, 0)->sh);
}

const op_desc op_linear_grad_weight = {.name = "LinearGradWeight", .in = {2, 2}, .out = {2, 2}, .flags = OP_INTERNAL,
                                       .attrs = grad_weight_rows, .attr_size = sizeof(linear_grad_attrs), .infer = grad_weight_infer,
                                       NO_GRAD("it is made after gradients"), .macs = grad_weight_macs};
