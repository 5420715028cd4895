/* conv_launch.h - what the rows of a convolution need, for Conv (also with a norm before it) and, as a convolution too, for
 * ConvGradData and ConvTranspose. The file that includes it has a `job` with `end`, the epilogue, and
 *
 *     plan(job, args, x, y, forward)     x, y: shapes of the convolution's data and windows, whatever the direction; false: the
 *                                        shapes are not for this kernel
 *     carve_job(job, args, work)         bytes of the workspace
 *     run(job, args)
 *     prepared_size(job, args), prepare(job, args, to)
 *     job_cost(job) */
#ifndef DISTILL_KERNELS_CONV_LAUNCH_H
#define DISTILL_KERNELS_CONV_LAUNCH_H

#include "kernels/cpu/cpu.h"

/* NAME_takes, NAME_workspace ... of a row whose job plan_NAME fills. */
#define CONV_LAUNCHERS(NAME)                                      \
    static inline bool NAME##_takes(const kernel_args *a)         \
    {                                                             \
        job j;                                                    \
        return plan_##NAME(&j, a);                                \
    }                                                             \
    static inline size_t NAME##_workspace(const kernel_args *a)   \
    {                                                             \
        job j;                                                    \
        plan_##NAME(&j, a);                                       \
        return carve_job(&j, a, NULL);                            \
    }                                                             \
    static inline size_t NAME##_prepared(const kernel_args *a)    \
    {                                                             \
        job j;                                                    \
        plan_##NAME(&j, a);                                       \
        return prepared_size(&j, a);                              \
    }                                                             \
    static inline void NAME##_prepare(const kernel_args *a, void *to) \
    {                                                             \
        job j;                                                    \
        plan_##NAME(&j, a);                                       \
        prepare(&j, a, to);                                       \
    }                                                             \
    static inline double NAME##_cost(const kernel_args *a)        \
    {                                                             \
        job j;                                                    \
        plan_##NAME(&j, a);                                       \
        return job_cost(&j);                                      \
    }

/* x [N, C, in], w [M, C/g, k], b [M], residual like y -> y [N, M, out] */
static inline bool plan_conv(job *j, const kernel_args *a)
{
    return plan(j, a, &a->in[0].sh, &a->out[0].sh, true);
}
static inline void conv(const kernel_args *a)
{
    job j;
    plan_conv(&j, a);
    j.end.residual = a->n_in > 3 ? a->in[3].data : NULL;
    j.end.relu = ((const conv_attrs *)a->attr)->relu != 0;
    run(&j, a);
}
CONV_LAUNCHERS(conv)

/* dy [N, M, out], w [M, C/g, k], b [C] -> dx [N, C, in] */
static inline bool plan_conv_data(job *j, const kernel_args *a)
{
    return plan(j, a, &a->out[0].sh, &a->in[0].sh, false);
}
static inline void conv_data(const kernel_args *a)
{
    job j;
    plan_conv_data(&j, a);
    run(&j, a);
}
CONV_LAUNCHERS(conv_data)

#endif
