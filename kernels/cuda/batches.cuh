/* batches.cuh - which products a MatMul (src/ops/matmul.c) is, for the kernels of gemm.cu and gemm_half.cu: the leading axes of its
 * operands broadcast; where one B serves all rows of A it is a single product. */
#ifndef DISTILL_KERNELS_CUDA_BATCHES_CUH
#define DISTILL_KERNELS_CUDA_BATCHES_CUH

#include "kernels/cuda/cuda.cuh"

/* Leading axes of the result, and for either operand the elements from one entry of an axis to the next (0: the same matrices). */
struct batch_axes {
    int rank;
    int64_t dim[RANK_MAX], a[RANK_MAX], b[RANK_MAX];
};

/* Where the operands of a product of the batch begin, in elements. */
__device__ static inline void find_batch(const batch_axes &axes, int64_t batch, int64_t *a, int64_t *b)
{
    *a = *b = 0;
    for (int64_t axis = axes.rank - 1, i = batch; axis >= 0; axis--) {
        int64_t next = i / axes.dim[axis], here = i - next * axes.dim[axis];
        *a += here * axes.a[axis];
        *b += here * axes.b[axis];
        i = next;
    }
}

struct matmul_sizes {
    int64_t a_rows, a_cols, b_rows, b_cols; /* as the matrices lie; a single B: rows of A of all products, where they follow each other */
    bool ta, tb;
    int64_t batches;
    batch_axes axes;
};

static inline void batch_steps(const shape *s, int rank, int64_t *step)
{
    int64_t each = s->rank > 1 ? s->dim[s->rank - 2] * s->dim[s->rank - 1] : s->dim[0];
    for (int i = rank - 1, j = s->rank - 3; i >= 0; i--, j--) {
        step[i] = j >= 0 && s->dim[j] > 1 ? each : 0;
        each *= j >= 0 ? s->dim[j] : 1;
    }
}

static inline matmul_sizes matmul_sizes_of(const kernel_args *a)
{
    const matmul_attrs *at = (const matmul_attrs *)a->attr;
    const shape *x = &a->in[0].sh, *w = &a->in[1].sh;
    const int rx = x->rank, rw = w->rank, most = rx > rw ? rx : rw;
    matmul_sizes s = {};
    s.a_rows = rx > 1 ? x->dim[rx - 2] : 1;
    s.a_cols = x->dim[rx - 1];
    s.b_rows = rw > 1 ? w->dim[rw - 2] : w->dim[0];
    s.b_cols = rw > 1 ? w->dim[rw - 1] : 1;
    s.ta = at->transA != 0;
    s.tb = at->transB != 0;
    s.batches = 1;
    s.axes.rank = most > 2 ? most - 2 : 0;
    for (int i = 0; i < s.axes.rank; i++) {
        int ix = rx - 2 - s.axes.rank + i, iw = rw - 2 - s.axes.rank + i;
        int64_t dx = ix >= 0 ? x->dim[ix] : 1, dw = iw >= 0 ? w->dim[iw] : 1;
        s.axes.dim[i] = dx == 1 ? dw : dx;
        s.batches *= s.axes.dim[i];
    }
    batch_steps(x, s.axes.rank, s.axes.a);
    batch_steps(w, s.axes.rank, s.axes.b);
    bool shared = !s.ta; /* one B for all rows of A: one product */
    int64_t rows = s.a_rows;
    for (int i = s.axes.rank - 1; i >= 0; i--) {
        shared &= s.axes.b[i] == 0 && (s.axes.dim[i] == 1 || s.axes.a[i] == rows * s.a_cols);
        rows *= s.axes.dim[i];
    }
    if (shared) {
        s.a_rows = rows;
        s.batches = 1;
        s.axes.rank = 0;
    }
    return s;
}

#endif
