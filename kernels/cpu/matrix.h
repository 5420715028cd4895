/* matrix.h - sizes and steps of Gemm and MatMul for the CPU kernels. */
#ifndef DISTILL_KERNELS_MATRIX_H
#define DISTILL_KERNELS_MATRIX_H

#include "kernels/cpu/cpu.h"

/* [m, k] times [k, n]; element (i, j) of A lies at i * a_row + j * a_col, of B likewise; the result is dense. */
typedef struct matrix_sizes {
    int64_t m, n, k, a_row, a_col, b_row, b_col;
} matrix_sizes;

static inline matrix_sizes matrix_sizes_of(int64_t a_rows, int64_t a_cols, bool ta, int64_t b_rows, int64_t b_cols,
                                           bool tb)
{
    return (matrix_sizes){.m = ta ? a_cols : a_rows, .k = ta ? a_rows : a_cols, .n = tb ? b_rows : b_cols,
                          .a_row = ta ? 1 : a_cols, .a_col = ta ? a_cols : 1,
                          .b_row = tb ? 1 : b_cols, .b_col = tb ? b_cols : 1};
}

static inline matrix_sizes gemm_sizes(const gemm_attrs *at, const shape *a, const shape *b)
{
    return matrix_sizes_of(a->dim[0], a->dim[1], at->transA != 0, b->dim[0], b->dim[1], at->transB != 0);
}

/* Linear: the leading axes of A are rows too. */
static inline matrix_sizes linear_sizes(const linear_attrs *at, const shape *a, const shape *b)
{
    int64_t cols = a->dim[a->rank - 1], rows = 1;
    for (int i = 0; i < a->rank - 1; i++)
        rows *= a->dim[i];
    return matrix_sizes_of(rows, cols, at->transA != 0, b->dim[0], b->dim[1], at->transB != 0);
}

/* Steps through Gemm's C, which broadcasts to [m, n]. */
typedef struct bias_steps {
    int64_t row, col;
} bias_steps;
static inline bias_steps gemm_bias_steps(const shape *c)
{
    int64_t cols = c->rank ? c->dim[c->rank - 1] : 1, rows = c->rank > 1 ? c->dim[0] : 1;
    return (bias_steps){.row = rows > 1 ? cols : 0, .col = cols > 1};
}

/* MatMul: `count` products of equal size; the leading axes of A and B broadcast. */
typedef struct matmul_batch {
    matrix_sizes each;
    int64_t count;
    int rank;                                                  /* leading axes of the result */
    int64_t dim[RANK_MAX], a_step[RANK_MAX], b_step[RANK_MAX]; /* step 0 where an operand is broadcast */
} matmul_batch;

static inline void matmul_steps(const shape *s, int rank, int64_t *step)
{
    int64_t each = s->rank > 1 ? s->dim[s->rank - 2] * s->dim[s->rank - 1] : s->dim[0];
    for (int i = rank - 1, j = s->rank - 3; i >= 0; i--, j--) {
        step[i] = j >= 0 && s->dim[j] > 1 ? each : 0;
        each *= j >= 0 ? s->dim[j] : 1;
    }
}

static inline matmul_batch matmul_batch_of(const matmul_attrs *at, const shape *a, const shape *b)
{
    int ra = a->rank, rb = b->rank;
    matmul_batch r = {.count = 1, .rank = (ra > rb ? ra : rb) > 2 ? (ra > rb ? ra : rb) - 2 : 0};
    r.each = matrix_sizes_of(ra > 1 ? a->dim[ra - 2] : 1, a->dim[ra - 1], at->transA != 0,
                             rb > 1 ? b->dim[rb - 2] : b->dim[0], rb > 1 ? b->dim[rb - 1] : 1, at->transB != 0);
    for (int i = 0; i < r.rank; i++) {
        int ia = ra - 2 - r.rank + i, ib = rb - 2 - r.rank + i;
        int64_t da = ia >= 0 ? a->dim[ia] : 1, db = ib >= 0 ? b->dim[ib] : 1;
        r.dim[i] = da == 1 ? db : da;
        r.count *= r.dim[i];
    }
    matmul_steps(a, r.rank, r.a_step);
    matmul_steps(b, r.rank, r.b_step);
    return r;
}

/* Where operand (a_step or b_step) of product i begins. */
static inline int64_t matmul_offset(const matmul_batch *b, const int64_t *step, int64_t i)
{
    int64_t at = 0;
    for (int axis = b->rank - 1; axis >= 0; axis--) {
        at += i % b->dim[axis] * step[axis];
        i /= b->dim[axis];
    }
    return at;
}

#endif
