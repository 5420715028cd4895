/* test_cudnn_plans.c - what cuDNN says of our convolutions, without a GPU: the descriptors that kernels/cuda/dnn_plan.c builds for
 * the convolutions of benchmark networks are finalised for a described H200. Precompiled engines finalise whole; those that
 * the library compiles at run time are compiled, and only loading them needs the driver.
 *
 * Needs cuDNN 9.19 (tools/setup-cuda; newer ones want a newer description) and build/cuda_stub/libcuda.so.1, a driver whose every
 * function fails, which CMake makes of cuda.h. Where either is absent the tests are skipped. DISTILL_CUDNN_ALL=1: every row in
 * every type (minutes); else a selection. Columns: engine, workspace, p precompiled or r compiled at run time, heuristic. */
#include "base/clock.h"
#include "cudnn_described.h"
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef HAVE_CUDNN_HEADERS
#include <cudnn.h>
#endif
#ifdef HAVE_CUBLASLT_HEADERS
#include <cublasLt.h>
#endif

/* ---- our declarations against the libraries' headers ---- */

START_TEST(headers_agree)
{
    int compared = 0;
#define SAME(ours, theirs)                                                                                        \
    do {                                                                                                          \
        ck_assert_msg((int)(ours) == (int)(theirs), #ours " is %d, " #theirs " is %d", (int)(ours), (int)(theirs)); \
        compared++;                                                                                               \
    } while (0)
#ifdef HAVE_CUDNN_HEADERS
    SAME(DNN_POINTWISE, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    SAME(DNN_CONVOLUTION, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    SAME(DNN_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    SAME(DNN_ENGINE_CONFIG, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    SAME(DNN_HEURISTIC, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    SAME(DNN_PLAN, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    SAME(DNN_OP_FORWARD, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    SAME(DNN_OP_WEIGHT, CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR);
    SAME(DNN_OP_DATA, CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR);
    SAME(DNN_OP_POINTWISE, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    SAME(DNN_GRAPH, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    SAME(DNN_VARIANT, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    SAME(DNN_TENSOR, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    SAME(DNN_DEVICE, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    SAME(DNN_T_HANDLE, CUDNN_TYPE_HANDLE);
    SAME(DNN_T_DATA_TYPE, CUDNN_TYPE_DATA_TYPE);
    SAME(DNN_T_BOOL, CUDNN_TYPE_BOOLEAN);
    SAME(DNN_T_I64, CUDNN_TYPE_INT64);
    SAME(DNN_T_FLOAT, CUDNN_TYPE_FLOAT);
    SAME(DNN_T_POINTER, CUDNN_TYPE_VOID_PTR);
    SAME(DNN_T_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE);
    SAME(DNN_T_HEURISTIC_MODE, CUDNN_TYPE_HEUR_MODE);
    SAME(DNN_T_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE);
    SAME(DNN_T_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE);
    SAME(DNN_T_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR);
    SAME(DNN_T_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE);
    SAME(DNN_T_CHAR, CUDNN_TYPE_CHAR);
    SAME(DNN_KNOB, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    SAME(DNN_T_KNOB, CUDNN_TYPE_KNOB_TYPE);
    SAME(DNN_CONFIG_KNOBS, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES);
    SAME(DNN_KNOB_TYPE, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE);
    SAME(DNN_KNOB_VALUE, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE);
    SAME(DNN_ENGINE_GRAPH, CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
    SAME(DNN_ENGINE_DEVICE, CUDNN_ATTR_ENGINE_DEVICEPROP);
    ck_assert_int_le(CUDNN_KNOB_TYPE_COUNTS, DNN_MOST_KNOBS);
    SAME(DNN_POINTWISE_MODE, CUDNN_ATTR_POINTWISE_MODE);
    SAME(DNN_POINTWISE_TYPE, CUDNN_ATTR_POINTWISE_MATH_PREC);
    SAME(DNN_CONV_TYPE, CUDNN_ATTR_CONVOLUTION_COMP_TYPE);
    SAME(DNN_CONV_MODE, CUDNN_ATTR_CONVOLUTION_CONV_MODE);
    SAME(DNN_CONV_DILATIONS, CUDNN_ATTR_CONVOLUTION_DILATIONS);
    SAME(DNN_CONV_STRIDES, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES);
    SAME(DNN_CONV_PADS_AFTER, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS);
    SAME(DNN_CONV_PADS_BEFORE, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS);
    SAME(DNN_CONV_AXES, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS);
    SAME(DNN_HEURISTIC_MODE, CUDNN_ATTR_ENGINEHEUR_MODE);
    SAME(DNN_HEURISTIC_GRAPH, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    SAME(DNN_HEURISTIC_RESULTS, CUDNN_ATTR_ENGINEHEUR_RESULTS);
    SAME(DNN_HEURISTIC_DEVICE, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP);
    SAME(DNN_CONFIG_ENGINE, CUDNN_ATTR_ENGINECFG_ENGINE);
    SAME(DNN_PLAN_HANDLE, CUDNN_ATTR_EXECUTION_PLAN_HANDLE);
    SAME(DNN_PLAN_CONFIG, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    SAME(DNN_PLAN_WORKSPACE, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
    SAME(DNN_PLAN_DEVICE, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
    SAME(DNN_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA);
    SAME(DNN_FORWARD_CONV, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC);
    SAME(DNN_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W);
    SAME(DNN_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X);
    SAME(DNN_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y);
    SAME(DNN_DATA_BETA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA);
    SAME(DNN_DATA_CONV, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC);
    SAME(DNN_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W);
    SAME(DNN_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX);
    SAME(DNN_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY);
    SAME(DNN_WEIGHT_CONV, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC);
    SAME(DNN_WEIGHT_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW);
    SAME(DNN_WEIGHT_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X);
    SAME(DNN_WEIGHT_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY);
    SAME(DNN_OP_POINTWISE_HOW, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
    SAME(DNN_OP_POINTWISE_X, CUDNN_ATTR_OPERATION_POINTWISE_XDESC);
    SAME(DNN_OP_POINTWISE_B, CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
    SAME(DNN_OP_POINTWISE_Y, CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
    SAME(DNN_GRAPH_HANDLE, CUDNN_ATTR_OPERATIONGRAPH_HANDLE);
    SAME(DNN_GRAPH_OPS, CUDNN_ATTR_OPERATIONGRAPH_OPS);
    SAME(DNN_TENSOR_ALIGNMENT, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
    SAME(DNN_TENSOR_TYPE, CUDNN_ATTR_TENSOR_DATA_TYPE);
    SAME(DNN_TENSOR_DIMS, CUDNN_ATTR_TENSOR_DIMENSIONS);
    SAME(DNN_TENSOR_STEPS, CUDNN_ATTR_TENSOR_STRIDES);
    SAME(DNN_TENSOR_ID, CUDNN_ATTR_TENSOR_UNIQUE_ID);
    SAME(DNN_TENSOR_VIRTUAL, CUDNN_ATTR_TENSOR_IS_VIRTUAL);
    SAME(DNN_VARIANT_IDS, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    SAME(DNN_VARIANT_POINTERS, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    SAME(DNN_VARIANT_WORKSPACE, CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
    SAME(DNN_ENGINE_INDEX, CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
    SAME(DNN_ENGINE_NUMERICAL, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE);
    SAME(DNN_ENGINE_BEHAVIOR, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE);
    SAME(DNN_OP_ATTENTION, CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR);
    SAME(DNN_TENSOR_BY_VALUE, CUDNN_ATTR_TENSOR_IS_BY_VALUE);
    SAME(DNN_ATTENTION_Q, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC);
    SAME(DNN_ATTENTION_K, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC);
    SAME(DNN_ATTENTION_V, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC);
    SAME(DNN_ATTENTION_Y, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC);
    SAME(DNN_ATTENTION_SUMS, CUDNN_ATTR_OPERATION_SDPA_FWD_STATSDESC);
    SAME(DNN_ATTENTION_SCALE, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC);
    SAME(DNN_OP_STATS, CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR);
    SAME(DNN_OP_NORM_SUMS, CUDNN_BACKEND_OPERATION_BN_BWD_WEIGHTS_DESCRIPTOR);
    SAME(FUSED_OP_ATTENTION_BACKWARD, CUDNN_BACKEND_OPERATION_SDPA_BWD_DESCRIPTOR);
    SAME(DNN_T_STATS_MODE, CUDNN_TYPE_GENSTATS_MODE);
    SAME(DNN_MULTIPLY, CUDNN_POINTWISE_MUL);
    SAME(DNN_SUBTRACT, CUDNN_POINTWISE_SUB);
    SAME(DNN_RELU_BACKWARD, CUDNN_POINTWISE_RELU_BWD);
    SAME(DNN_OP_POINTWISE_DX, CUDNN_ATTR_OPERATION_POINTWISE_DXDESC);
    SAME(DNN_OP_POINTWISE_DY, CUDNN_ATTR_OPERATION_POINTWISE_DYDESC);
    SAME(DNN_STATS_MODE, CUDNN_ATTR_OPERATION_GENSTATS_MODE);
    SAME(DNN_STATS_SQUARES, CUDNN_ATTR_OPERATION_GENSTATS_SQSUMDESC);
    SAME(DNN_SUMS_TYPE, CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_MATH_PREC);
    SAME(DNN_OP_RESHAPE, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
    SAME(DNN_RESHAPE_X, CUDNN_ATTR_OPERATION_RESHAPE_XDESC);
    SAME(DNN_RESHAPE_Y, CUDNN_ATTR_OPERATION_RESHAPE_YDESC);
    SAME(DNN_MATMUL, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    SAME(DNN_OP_MATMUL, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    SAME(DNN_REDUCTION, CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
    SAME(DNN_OP_REDUCTION, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    SAME(DNN_T_REDUCTION, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE);
    SAME(DNN_MATMUL_TYPE, CUDNN_ATTR_MATMUL_COMP_TYPE);
    SAME(DNN_OP_MATMUL_A, CUDNN_ATTR_OPERATION_MATMUL_ADESC);
    SAME(DNN_OP_MATMUL_B, CUDNN_ATTR_OPERATION_MATMUL_BDESC);
    SAME(DNN_OP_MATMUL_C, CUDNN_ATTR_OPERATION_MATMUL_CDESC);
    SAME(DNN_OP_MATMUL_HOW, CUDNN_ATTR_OPERATION_MATMUL_DESC);
    SAME(DNN_REDUCTION_MODE, CUDNN_ATTR_REDUCTION_OPERATOR);
    SAME(DNN_REDUCTION_TYPE, CUDNN_ATTR_REDUCTION_COMP_TYPE);
    SAME(DNN_OP_REDUCTION_X, CUDNN_ATTR_OPERATION_REDUCTION_XDESC);
    SAME(DNN_OP_REDUCTION_Y, CUDNN_ATTR_OPERATION_REDUCTION_YDESC);
    SAME(DNN_OP_REDUCTION_HOW, CUDNN_ATTR_OPERATION_REDUCTION_DESC);
    SAME(DNN_DIVIDE, CUDNN_POINTWISE_DIV);
    SAME(DNN_EXP, CUDNN_POINTWISE_EXP);
    SAME(DNN_LOG, CUDNN_POINTWISE_LOG);
    SAME(DNN_REDUCE_ADD, CUDNN_REDUCE_TENSOR_ADD);
    SAME(DNN_REDUCE_MAX, CUDNN_REDUCE_TENSOR_MAX);
    SAME(DNN_SUMS_MEAN, CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_MEAN_DESC);
    SAME(DNN_SUMS_INV, CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_INVSTD_DESC);
    SAME(DNN_SUMS_SCALE, CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_BN_SCALE_DESC);
    SAME(DNN_SUMS_X, CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_X_DESC);
    SAME(DNN_SUMS_DY, CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_DY_DESC);
    SAME(DNN_SUMS_DSCALE, CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_DBN_SCALE_DESC);
    SAME(DNN_SUMS_DBIAS, CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_DBN_BIAS_DESC);
    SAME(DNN_SUMS_DY_FACTOR, CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_EQ_DY_SCALE_DESC);
    SAME(DNN_SUMS_X_FACTOR, CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_EQ_X_SCALE_DESC);
    SAME(DNN_SUMS_TERM, CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_EQ_BIAS);
    SAME(FUSED_BACKWARD_Q, CUDNN_ATTR_OPERATION_SDPA_BWD_QDESC);
    SAME(FUSED_BACKWARD_DY, CUDNN_ATTR_OPERATION_SDPA_BWD_DODDESC);
    SAME(DNN_DEVICE_JSON, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION);
    SAME(DNN_HALF, CUDNN_DATA_HALF);
    SAME(DNN_BFLOAT16, CUDNN_DATA_BFLOAT16);
    SAME(DNN_CROSS_CORRELATION, CUDNN_CROSS_CORRELATION);
    SAME(DNN_ADD, CUDNN_POINTWISE_ADD);
    SAME(DNN_IDENTITY, CUDNN_POINTWISE_IDENTITY);
    SAME(DNN_RELU, CUDNN_POINTWISE_RELU_FWD);
    SAME(DNN_MODE_A, CUDNN_HEUR_MODE_A);
    SAME(DNN_MODE_B, CUDNN_HEUR_MODE_B);
    SAME(DNN_MODE_FALLBACK, CUDNN_HEUR_MODE_FALLBACK);
    SAME(DNN_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_TENSOR_CORE);
    SAME(DNN_NOTE_DOWN_CONVERT, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS);
    SAME(DNN_NOTE_REDUCED_PRECISION, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION);
    SAME(DNN_NOTE_FFT, CUDNN_NUMERICAL_NOTE_FFT);
    SAME(DNN_NOTE_NONDETERMINISTIC, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC);
    SAME(DNN_NOTE_WINOGRAD, CUDNN_NUMERICAL_NOTE_WINOGRAD);
    SAME(DNN_NOTE_RUNTIME_COMPILATION, CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION);
    SAME(DNN_STATUS_DRIVER, CUDNN_STATUS_EXECUTION_FAILED_CUDA_DRIVER);
#endif
#ifdef HAVE_CUBLASLT_HEADERS
    SAME(sizeof(blas_choice), sizeof(cublasLtMatmulHeuristicResult_t));
    SAME(offsetof(blas_choice, workspace), offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
    SAME(offsetof(blas_choice, state), offsetof(cublasLtMatmulHeuristicResult_t, state));
    SAME(BLAS_R_32F, CUDA_R_32F);
    SAME(BLAS_R_16F, CUDA_R_16F);
    SAME(BLAS_R_16BF, CUDA_R_16BF);
    SAME(BLAS_R_8F_E4M3, CUDA_R_8F_E4M3);
    SAME(BLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F);
    SAME(BLAS_COMPUTE_32F_FAST_TF32, CUBLAS_COMPUTE_32F_FAST_TF32);
    SAME(BLAS_COMPUTE_32F_FAST_16F, CUBLAS_COMPUTE_32F_FAST_16F);
    SAME(BLAS_COMPUTE_32F_FAST_16BF, CUBLAS_COMPUTE_32F_FAST_16BF);
    SAME(BLAS_OP_N, CUBLAS_OP_N);
    SAME(BLAS_OP_T, CUBLAS_OP_T);
    SAME(BLAS_PRODUCT_TRANSA, CUBLASLT_MATMUL_DESC_TRANSA);
    SAME(BLAS_PRODUCT_TRANSB, CUBLASLT_MATMUL_DESC_TRANSB);
    SAME(BLAS_PRODUCT_EPILOGUE, CUBLASLT_MATMUL_DESC_EPILOGUE);
    SAME(BLAS_PRODUCT_BIAS_POINTER, CUBLASLT_MATMUL_DESC_BIAS_POINTER);
    SAME(BLAS_PRODUCT_AUX_POINTER, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER);
    SAME(BLAS_PRODUCT_AUX_LD, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD);
    SAME(BLAS_LAYOUT_BATCH_COUNT, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT);
    SAME(BLAS_LAYOUT_BATCH_STEP, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET);
    SAME(BLAS_PREFER_WORKSPACE, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
    SAME(BLAS_PREFER_REDUCTIONS, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK);
    SAME(BLAS_PREFER_ALIGNMENT_A, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
    SAME(BLAS_PREFER_ALIGNMENT_D, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
    SAME(BLAS_REDUCE_IN_WORKSPACE, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE);
    SAME(BLAS_EPILOGUE_RELU | BLAS_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_RELU_BIAS);
    SAME(BLAS_EPILOGUE_GELU_TANH | BLAS_EPILOGUE_AUX | BLAS_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_GELU_AUX_BIAS);
    SAME(BLAS_EPILOGUE_NONE, CUBLASLT_EPILOGUE_DEFAULT);
    SAME(BLAS_EPILOGUE_GELU_TANH_SLOPE, CUBLASLT_EPILOGUE_DGELU);
    SAME(BLAS_EPILOGUE_RELU_SLOPE, CUBLASLT_EPILOGUE_DRELU);
    SAME(BLAS_EPILOGUE_RELU | BLAS_EPILOGUE_AUX | BLAS_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_RELU_AUX_BIAS);
    SAME(BLAS_EPILOGUE_SUMS_FIRST, CUBLASLT_EPILOGUE_BGRADA);
    SAME(BLAS_EPILOGUE_SUMS_SECOND, CUBLASLT_EPILOGUE_BGRADB);
#endif
    if (compared == 0)
        test_skip("headers_agree", "no headers of cuDNN and cuBLASLt; tools/setup-cuda installs them");
    else
        printf("%d numbers of our declarations compared with the headers\n", compared);
}
END_TEST

/* ---- plans ---- */

typedef struct conv_row {
    const char *net;
    int64_t n, c, h, w, m, kh, kw, stride, dilation, group;
    bool selected; /* part of the fast run */
} conv_row;
static const conv_row rows[] = {
    {"ResNet-20/56 stem", 128, 3, 32, 32, 16, 3, 3, 1, 1, 1, true},
    {"ResNet-20/56 stage 1", 128, 16, 32, 32, 16, 3, 3, 1, 1, 1, true},
    {"ResNet-20/56 down", 128, 16, 32, 32, 32, 3, 3, 2, 1, 1, false},
    {"ResNet-20/56 stage 3", 128, 64, 8, 8, 64, 3, 3, 1, 1, 1, false},
    {"ResNet-50 stem", 64, 3, 224, 224, 64, 7, 7, 2, 1, 1, false},
    {"ResNet-18 stage 1", 64, 64, 56, 56, 64, 3, 3, 1, 1, 1, false},
    {"ResNet-50 expand", 64, 64, 56, 56, 256, 1, 1, 1, 1, 1, true},
    {"ResNet-50 stage 4", 64, 512, 7, 7, 512, 3, 3, 1, 1, 1, false},
    {"MobileNetV2 expand", 128, 24, 32, 32, 144, 1, 1, 1, 1, 1, false},
    {"MobileNetV2 depthwise", 128, 96, 32, 32, 96, 3, 3, 1, 1, 96, true},
    {"HiFi-GAN line of 7", 16, 80, 1, 32, 512, 1, 7, 1, 1, 1, false},
    {"HiFi-GAN dilated 11", 16, 128, 1, 2048, 128, 1, 11, 1, 5, 1, false},
};
typedef enum what { FORWARD, BIAS_RELU, BIAS_RELU_NARROW, BIAS_RESIDUAL_RELU, SUMS, NORM_SUMS, DATA, DATA_SUMS, WEIGHT, WEIGHT_NARROW,
               NORM_WEIGHT, WHATS } what;
static const struct {
    const char *name;
    dnn_kind kind;
    bool bias, residual, relu, must; /* must: in float32 some engine has to be there */
} whats[WHATS] = {
    [FORWARD] = {"conv", DNN_CONV_FORWARD, false, false, false, true},
    [BIAS_RELU] = {"conv+bias+relu", DNN_CONV_FORWARD, true, false, true, false},
    [BIAS_RELU_NARROW] = {"conv+bias+relu narrow", DNN_CONV_FORWARD, true, false, true, false},
    [BIAS_RESIDUAL_RELU] = {"conv+residual+bias+relu", DNN_CONV_FORWARD, true, true, true, false},
    [SUMS] = {"conv+sums", DNN_CONV_FORWARD, false, false, false, false}, /* of narrow images alone */
    [NORM_SUMS] = {"norm+relu+conv+sums", DNN_CONV_FORWARD, false, false, false, false}, /* of float16 alone, like DATA_SUMS and NORM_WEIGHT */
    [DATA] = {"backward-data", DNN_CONV_DATA, false, false, false, true},
    [DATA_SUMS] = {"backward-data+norm's sums", DNN_CONV_DATA, false, false, false, false},
    [WEIGHT] = {"backward-weights", DNN_CONV_WEIGHT, false, false, false, true},
    [WEIGHT_NARROW] = {"backward-weights narrow", DNN_CONV_WEIGHT, false, false, false, false},
    [NORM_WEIGHT] = {"norm+relu+backward-weights", DNN_CONV_WEIGHT, false, false, false, false},
};
static const struct {
    const char *name;
    int type;
    bool channels_last;
} types[] = {{"fp32", DNN_FLOAT, false}, {"bf16", DNN_BFLOAT16, true}, {"fp16", DNN_HALF, true}};

static dnn_key key_of(const conv_row *r, what k, size_t type)
{
    dnn_key key;
    memset(&key, 0, sizeof key);
    key.kind = whats[k].kind;
    key.type = types[type].type;
    key.channels_last = types[type].channels_last;
    key.axes = 2;
    key.bias = whats[k].bias;
    key.residual = whats[k].residual;
    key.relu = whats[k].relu;
    key.sums = k == SUMS || k == NORM_SUMS;
    key.norm = k == NORM_SUMS || k == NORM_WEIGHT || k == DATA_SUMS;
    key.narrow_w = k == WEIGHT_NARROW || k == NORM_WEIGHT;
    key.narrow_bias = k == BIAS_RELU_NARROW;
    const int64_t kernel[2] = {r->kh, r->kw}, in[2] = {r->h, r->w};
    key.x[0] = key.y[0] = r->n;
    key.x[1] = r->c;
    key.y[1] = key.w[0] = r->m;
    key.w[1] = r->c / r->group;
    for (int i = 0; i < 2; i++) {
        int64_t pad = (kernel[i] - 1) * r->dilation / 2;
        key.x[2 + i] = in[i];
        key.w[2 + i] = kernel[i];
        key.stride[i] = kernel[i] == 1 && r->kw > 1 ? 1 : r->stride;
        key.dilation[i] = kernel[i] == 1 ? 1 : r->dilation;
        key.before[i] = key.after[i] = pad;
        key.y[2 + i] = (in[i] + 2 * pad - (kernel[i] - 1) * key.dilation[i] - 1) / key.stride[i] + 1;
    }
    return key;
}

static bool plan_row(cuda_queue *q, const conv_row *r, what k, size_t type)
{
    const dnn_key key = key_of(r, k, type);
    double begin = clock_seconds();
    const dnn_plan *p = cuda_dnn_plan(q, &key);
    ck_assert_ptr_nonnull(p);
    printf("%-22s %-4s %-24s ", r->net, types[type].name, whats[k].name);
    if (p->usable)
        printf("engine %4lld  %9zu bytes  %c  mode %c  %4.1f s\n", (long long)p->choice.engine, p->workspace, p->runtime_compiled ? 'r' : 'p',
               p->mode == DNN_MODE_A ? 'A' : p->mode == DNN_MODE_B ? 'B' : 'F', clock_seconds() - begin);
    else
        printf("none of %d proposals (status %d)  %4.1f s\n", p->configs, p->code, clock_seconds() - begin);
    fflush(stdout);
    return p->usable;
}

START_TEST(plans)
{
    cuda_libs *libs = NULL;
    cuda_queue q = {0};
    const bool all = getenv("DISTILL_CUDNN_ALL") != NULL;
    int made = 0, tried = 0, lacking = 0;
    double begin = clock_seconds();
    if (cudnn_described(&libs, &q.dnn)) {
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
            for (size_t t = 0; t < sizeof types / sizeof *types; t++)
                for (int k = 0; k < WHATS; k++) {
                    const bool normed = k == NORM_SUMS || k == NORM_WEIGHT || k == DATA_SUMS;
                    const bool quick = t > 0 ? k == FORWARD || k == BIAS_RELU_NARROW || ((k == WEIGHT_NARROW || k == SUMS) && i == 1) || normed
                                             : k != WEIGHT_NARROW && k != BIAS_RELU_NARROW;
                    if ((k == SUMS && t == 0) || (normed && (types[t].type != DNN_HALF || rows[i].group > 1 || rows[i].c % 8)) || (!all && (!rows[i].selected || !quick || clock_seconds() - begin > 60)))
                        continue;
                    bool ok = plan_row(&q, &rows[i], (what)k, t);
                    tried++;
                    made += ok;
                    lacking += !ok && whats[k].must && t == 0;
                }
        printf("cuDNN has engines for %d of %d graphs\n", made, tried);
        ck_assert_msg(lacking == 0, "%d plain convolutions in float32 without an engine", lacking);
    }
    cuda_dnn_close(q.dnn);
    cuda_libs_close(libs);
}
END_TEST

/* A job that must give the same bits every time gets an engine that does. */
START_TEST(deterministic_plans)
{
    cuda_libs *libs = NULL;
    cuda_queue q = {0};
    if (cudnn_described(&libs, &q.dnn)) {
        dnn_key key = key_of(&rows[1], WEIGHT, 0);
        key.deterministic = 1;
        const dnn_plan *p = cuda_dnn_plan(&q, &key);
        ck_assert(p && p->usable);
        ck_assert_ptr_eq(cuda_dnn_plan(&q, &key), p); /* made once */
        ck_assert_uint_eq(q.dnn->n_plan, 1);
    }
    cuda_dnn_close(q.dnn);
    cuda_libs_close(libs);
}
END_TEST

static bool recall_one(void *ctx, const dnn_key *key, dnn_choice *out)
{
    (void)key;
    *out = *(const dnn_choice *)ctx;
    return true;
}

/* What is kept of a plan (engine, knobs) makes the same plan again, without asking a heuristic; what no engine knows does not. */
START_TEST(choices_make_plans_again)
{
    cuda_libs *libs = NULL;
    cuda_queue q = {0}, again = {0};
    int knobs = 0, remade = 0;
    if (cudnn_described(&libs, &q.dnn)) {
        static const what which[] = {FORWARD, BIAS_RELU, DATA};
        for (size_t i = 0; i < 6; i++) {
            dnn_key key = key_of(&rows[1 + i / 3], which[i % 3], i % 3 == 1 ? 1 : 0);
            const dnn_plan *p = cuda_dnn_plan(&q, &key), *r;
            if (!p->usable)
                continue;
            dnn_choice kept = p->choice;
            ck_assert_int_ge(kept.n_knob, 0);
            ck_assert_int_eq(cuda_dnn_open_described(cuda_libs_dnn(libs), cudnn_h200, &again.dnn), 0);
            again.dnn->memory = (dnn_memory){.ctx = &kept, .recall = recall_one};
            r = cuda_dnn_plan(&again, &key);
            ck_assert_msg(r->usable && r->mode == DNN_MODE_REMEMBERED && r->configs == 1, "row %zu: mode %d", i, r->mode);
            ck_assert(r->choice.engine == kept.engine && r->workspace == p->workspace && r->settled);
            cuda_dnn_close(again.dnn);
            remade++;
            knobs += kept.n_knob;
            kept.engine += 100000;
            ck_assert_int_eq(cuda_dnn_open_described(cuda_libs_dnn(libs), cudnn_h200, &again.dnn), 0);
            again.dnn->memory = (dnn_memory){.ctx = &kept, .recall = recall_one};
            r = cuda_dnn_plan(&again, &key);
            ck_assert(r->usable && r->mode != DNN_MODE_REMEMBERED && r->choice.engine == p->choice.engine);
            cuda_dnn_close(again.dnn);
        }
        printf("%d plans made again of engine and knobs (%d knobs)\n", remade, knobs);
        ck_assert_int_gt(remade, 3);
    }
    cuda_dnn_close(q.dnn);
    cuda_libs_close(libs);
}
END_TEST

START_TEST(libraries_are_described)
{
    cuda_libs *libs = NULL;
    text t = {0};
    OK(cuda_libs_open(&libs));
    cuda_libs_describe(libs, &t);
    OK(t.st);
    printf("%s", t.s);
    ck_assert(strstr(t.s, "cuBLASLt: ") && strstr(t.s, "cuDNN: ") && strstr(t.s, "NVRTC: "));
    ck_assert((cuda_libs_dnn(libs) != NULL) == (strstr(t.s, "cuDNN: 9.") != NULL));
    cuda_libs_close(libs);
    text_free(&t);
}
END_TEST

const test_entry test_table[] = {TEST(headers_agree), TEST(plans), TEST(deterministic_plans), TEST(choices_make_plans_again), TEST(libraries_are_described), {0}};
