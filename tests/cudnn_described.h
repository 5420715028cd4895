/* cudnn_described.h - cuDNN with a device that is described only (an H200), for tests that ask what it has engines for. */
#ifndef DISTILL_TESTS_CUDNN_DESCRIBED_H
#define DISTILL_TESTS_CUDNN_DESCRIBED_H

#include "exec/cuda_libs.h"

extern const char cudnn_h200[];
/* False, with a skip, where there is no cuDNN that serves. Close both in any case. */
bool cudnn_described(cuda_libs **libs, cuda_dnn **dnn);

/* Of cudnn_graph.h, besides kernels/cuda/dnn.h: what only test_cudnn_fused.c asks for. */
enum {
    FUSED_OP_ATTENTION_BACKWARD = 43,
    FUSED_BACKWARD_Q = 2851, FUSED_BACKWARD_K, FUSED_BACKWARD_V, FUSED_BACKWARD_Y, FUSED_BACKWARD_SUMS, FUSED_BACKWARD_SCALE,
    FUSED_BACKWARD_DQ = 2859, FUSED_BACKWARD_DK, FUSED_BACKWARD_DV, FUSED_BACKWARD_DY
};

#endif
