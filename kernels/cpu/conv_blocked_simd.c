/* conv_blocked_simd.c - Conv, ConvGradData and ConvTranspose over one and two spatial axes, data and result blocked: any
 * kernel, stride and dilation, groups that fill blocks by themselves or a few together.
 *
 * A tile of pixels times vectors of channels of the result stays in registers while the entries go by; the data of a task
 * stay in the second-level cache, the weights of a block of entries in the first. 1x1 kernels read the data where they
 * are: a matrix product over blocks of pixels. */
#include "kernels/cpu/simd.h"

#define PITCH LANES
#include "kernels/cpu/conv_blocked_run.h"
#include "kernels/cpu/conv_launch.h"

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
