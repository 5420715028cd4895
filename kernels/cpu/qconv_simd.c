/* qconv_simd.c - integer convolutions and products by sums of two int16 products (vpmaddwd and its like): what every
 * processor has, and exact. */
#define HAS_QDOT true
#include "kernels/cpu/qconv_run.h"

KERNEL_TABLE(qconv) = {QCONV_ROWS("int16"), KERNEL_END};
