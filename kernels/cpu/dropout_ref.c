/* dropout_ref.c - dropout while training. Blocks of fixed size have a random stream each, so that the mask depends
 * neither on the number of threads nor on the type; the generator dominates, there is no faster variant. */
#include "base/rng.h"
#include "kernels/cpu/cpu.h"

enum { DROPOUT_BLOCK = 4096 };

static void drop_block(const real *x, real *y, int64_t n, rng r, uint32_t below, double scale)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = rng_u32(&r) >= below ? (real)((double)x[i] * scale) : 0;
}

/* x, y: any shape, may be the same buffer; counter: one int64. */
static void dropout_train(const kernel_args *a)
{
    const dropout_attrs *at = a->attr;
    const real *x = a->in[0].data;
    real *y = a->out[0].data;
    int64_t n = shape_count(&a->in[0].sh), blocks = (n + DROPOUT_BLOCK - 1) / DROPOUT_BLOCK;
    uint64_t counter = (uint64_t) * (const int64_t *)a->in[1].data;
    uint32_t below = (uint32_t)(at->ratio * 0x1p32);
#pragma omp parallel for num_threads(a->threads) schedule(static) if (blocks > 1)
    for (int64_t b = 0; b < blocks; b++) {
        int64_t from = b * DROPOUT_BLOCK, len = n - from < DROPOUT_BLOCK ? n - from : DROPOUT_BLOCK;
        rng r = rng_make((uint64_t)at->seed, RNG_DROPOUT, counter, (uint32_t)b);
        drop_block(x + from, y + from, len, r, below, 1 / (1 - at->ratio));
    }
}

KERNEL_TABLE(dropout) = {
    {OP_DROPOUT_TRAIN, REAL_DTYPE, REAL_ISA, "dropout", dropout_train, NULL, NULL},
    KERNEL_END,
};
