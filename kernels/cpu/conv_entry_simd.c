/* conv_entry_simd.c - where a network goes over to blocked tensors: Conv of plain data with few channels (images, signals)
 * with a blocked result. An entry of the sums is one channel and tap; nothing is wasted on blocks that are mostly empty. */
#include "kernels/cpu/simd.h"

#define PITCH 1
#include "kernels/cpu/conv_blocked_run.h"

/* x [N, C, in] plain, w [M, C, k], b [M], residual like y -> y [N, M, out] blocked */
static bool plan_conv(job *j, const kernel_args *a)
{
    return plan(j, a, &a->in[0].sh, &a->out[0].sh, true);
}
static void conv(const kernel_args *a)
{
    job j;
    plan_conv(&j, a);
    j.end.residual = a->n_in > 3 ? a->in[3].data : NULL;
    j.end.relu = ((const conv_attrs *)a->attr)->relu != 0;
    run(&j, a);
}
static bool conv_takes(const kernel_args *a)
{
    job j;
    return ((const conv_attrs *)a->attr)->group == 1 && a->in[0].sh.dim[1] <= LANES / 2 && plan_conv(&j, a);
}
static size_t conv_workspace(const kernel_args *a)
{
    job j;
    plan_conv(&j, a);
    return carve_job(&j, a, NULL);
}
static size_t conv_prepared(const kernel_args *a)
{
    job j;
    plan_conv(&j, a);
    return prepared_size(&j, a);
}
static void conv_prepare(const kernel_args *a, void *to)
{
    job j;
    plan_conv(&j, a);
    prepare(&j, a, to);
}
static double conv_cost(const kernel_args *a)
{
    job j;
    plan_conv(&j, a);
    return job_cost(&j) * 0.9; /* blocked data would have to be made first */
}

KERNEL_TABLE(conv_entry) = {
    {OP_CONV, REAL_DTYPE, REAL_ISA, "conv_entry", conv, conv_workspace, conv_takes, "direct", .blocked_in = 1 << 3,
     .blocked_out = 1, .cost = conv_cost, .prepared = conv_prepared, .prepare = conv_prepare, .packed_in = 1 << 1},
    KERNEL_END};
