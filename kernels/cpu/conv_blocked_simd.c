/* conv_blocked_simd.c - Conv, ConvGradData and ConvTranspose over one and two spatial axes, data and result blocked: any
 * kernel, stride and dilation, groups that fill blocks by themselves or a few together.
 *
 * A tile of pixels times vectors of channels of the result stays in registers while the entries go by; the data of a task
 * stay in the second-level cache, the weights of a block of entries in the first. 1x1 kernels read the data where they
 * are: a matrix product over blocks of pixels. */
#include "kernels/cpu/simd.h"

#define PITCH LANES
#include "kernels/cpu/conv_blocked_run.h"

/* x [N, C, in] blocked, w [M, C/g, k], b [M], residual like y -> y [N, M, out] blocked */
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
    return plan_conv(&j, a);
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
    return job_cost(&j);
}

/* dy [N, M, out] blocked, w [M, C/g, k], b [C] -> dx [N, C, in] blocked */
static bool plan_data(job *j, const kernel_args *a)
{
    return plan(j, a, &a->out[0].sh, &a->in[0].sh, false);
}
static void conv_data(const kernel_args *a)
{
    job j;
    plan_data(&j, a);
    run(&j, a);
}
static bool conv_data_takes(const kernel_args *a)
{
    job j;
    return plan_data(&j, a);
}
static size_t conv_data_workspace(const kernel_args *a)
{
    job j;
    plan_data(&j, a);
    return carve_job(&j, a, NULL);
}
static size_t conv_data_prepared(const kernel_args *a)
{
    job j;
    plan_data(&j, a);
    return prepared_size(&j, a);
}
static void conv_data_prepare(const kernel_args *a, void *to)
{
    job j;
    plan_data(&j, a);
    prepare(&j, a, to);
}
static double conv_data_cost(const kernel_args *a)
{
    job j;
    plan_data(&j, a);
    return job_cost(&j);
}

KERNEL_TABLE(conv_blocked) = {
    {OP_CONV, REAL_DTYPE, REAL_ISA, "conv_blocked", conv, conv_workspace, conv_takes, "direct",
     .blocked_in = 1 | 1 << 3, .blocked_out = 1, .cost = conv_cost,
     .prepared = conv_prepared, .prepare = conv_prepare, .packed_in = 1 << 1},
    {OP_CONV_GRAD_DATA, REAL_DTYPE, REAL_ISA, "conv_grad_data_blocked", conv_data, conv_data_workspace, conv_data_takes,
     "direct", .blocked_in = 1, .blocked_out = 1, .cost = conv_data_cost,
     .prepared = conv_data_prepared, .prepare = conv_data_prepare, .packed_in = 1 << 1},
    {OP_CONV_TRANSPOSE, REAL_DTYPE, REAL_ISA, "conv_transpose_blocked", conv_data, conv_data_workspace, conv_data_takes,
     "direct", .blocked_in = 1, .blocked_out = 1, .cost = conv_data_cost,
     .prepared = conv_data_prepared, .prepare = conv_data_prepare, .packed_in = 1 << 1},
    {OP_NORM_CONV, REAL_DTYPE, REAL_ISA, "conv_blocked, norm", conv, conv_workspace, conv_takes, "direct",
     .blocked_in = 1 | 1 << 3, .blocked_out = 1, .cost = conv_cost,
     .prepared = conv_prepared, .prepare = conv_prepare, .packed_in = 1 << 1},
    KERNEL_END};
