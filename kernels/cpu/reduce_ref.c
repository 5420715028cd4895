/* reduce_ref.c - reductions over axes: the reference. Sums are carried in double. NaN wins in Max and Min.
 *
 * x: any shape; y: x without the reduced axes (or with 1 there: the same elements in the same order). */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/reduce.h"

#include <math.h>

#define REDUCE(name, start, step, end)                                                                            \
    static void REF(name)(const kernel_args *a)                                                                   \
    {                                                                                                             \
        REDUCE_PLAIN(real, double, (double), (real), start, step, end)                                            \
    }
REDUCE(reduce_sum, 0, y + x, y)
REDUCE(reduce_mean, 0, y + x, y / (double)count)
REDUCE(reduce_max, (double)-INFINITY, x > y || x != x ? x : y, y)
REDUCE(reduce_min, (double)INFINITY, x < y || x != x ? x : y, y)
REDUCE(reduce_prod, 1, y *x, y)

/* dy, x, y; dy and y have 1 where x is reduced. dx = dy / k for the k elements that equal y, else 0. */
static void REF(reduce_minmax_grad)(const kernel_args *a)
{
    const real *dy = a->in[0].data, *x = a->in[1].data, *y = a->in[2].data;
    real *dx = a->out[0].data;
    reduction r;
    reduction_make(&r, &a->in[1].sh, reduction_mask_between(&a->in[1].sh, &a->in[0].sh));
    for (int64_t o = 0; o < r.outs; o++) {
        const int64_t base = reduction_offset(&r, false, o);
        int64_t ties = 0;
        for (int64_t i = 0; i < r.each; i++)
            ties += x[base + reduction_offset(&r, true, i)] == y[o];
        for (int64_t i = 0; i < r.each; i++) {
            const int64_t at = base + reduction_offset(&r, true, i);
            dx[at] = x[at] == y[o] ? dy[o] / (real)ties : 0;
        }
    }
}

/* dx = dy times the product of the others: y / x, or, where one element is 0, what the others give at its place. */
static void REF(reduce_prod_grad)(const kernel_args *a)
{
    const real *dy = a->in[0].data, *x = a->in[1].data;
    real *dx = a->out[0].data;
    reduction r;
    reduction_make(&r, &a->in[1].sh, reduction_mask_between(&a->in[1].sh, &a->in[0].sh));
    for (int64_t o = 0; o < r.outs; o++) {
        const int64_t base = reduction_offset(&r, false, o);
        double product = 1; /* of the elements that are not 0 */
        int64_t zeros = 0;
        for (int64_t i = 0; i < r.each; i++) {
            const double v = (double)x[base + reduction_offset(&r, true, i)];
            zeros += v == 0;
            product *= v == 0 ? 1 : v;
        }
        for (int64_t i = 0; i < r.each; i++) {
            const int64_t at = base + reduction_offset(&r, true, i);
            const double v = (double)x[at];
            const double others = zeros == 0 ? product / v : zeros == 1 && v == 0 ? product : 0;
            dx[at] = (real)((double)dy[o] * others);
        }
    }
}

#define ROW(E, name) {OP_##E, REAL_DTYPE, REAL_ISA, #name " reference", REF(name), NULL, NULL}
KERNEL_TABLE(reduce) = {ROW(REDUCE_SUM, reduce_sum), ROW(REDUCE_MEAN, reduce_mean), ROW(REDUCE_MAX, reduce_max),
                        ROW(REDUCE_MIN, reduce_min), ROW(REDUCE_PROD, reduce_prod),
                        ROW(REDUCE_MINMAX_GRAD, reduce_minmax_grad), ROW(REDUCE_PROD_GRAD, reduce_prod_grad), KERNEL_END};
