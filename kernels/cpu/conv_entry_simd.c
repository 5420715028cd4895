/* conv_entry_simd.c - where a network goes over to blocked tensors: Conv of plain data with few channels (images, signals)
 * with a blocked result. An entry of the sums is one channel and tap; nothing is wasted on blocks that are mostly empty. */
#include "kernels/cpu/simd.h"

#define PITCH 1
#include "kernels/cpu/conv_blocked_run.h"
#include "kernels/cpu/conv_launch.h"

static bool entry_takes(const kernel_args *a)
{
    return ((const conv_attrs *)a->attr)->group == 1 && a->in[0].sh.dim[1] <= LANES / 2 && conv_takes(a);
}
static double entry_cost(const kernel_args *a)
{
    return conv_cost(a) * 0.9; /* blocked data would have to be made first */
}

/* x plain, residual and y blocked */
KERNEL_TABLE(conv_entry) = {
    {OP_CONV, REAL_DTYPE, REAL_ISA, "conv_entry", conv, conv_workspace, entry_takes, "direct", .blocked_in = 1 << 3,
     .blocked_out = 1, .cost = entry_cost, .prepared = conv_prepared, .prepare = conv_prepare, .packed_in = 1 << 1},
    KERNEL_END};
