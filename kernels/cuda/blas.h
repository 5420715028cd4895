/* blas.h - matrix products by cuBLASLt: the functions used, and plans of products.
 *
 * The library is opened while the program runs (exec/cuda_libs.h fills the table; tests fill it with a twin on the host), so
 * what is used of its interface is declared here, as facts of cublasLt.h (CUDA 13); tests/test_cudnn_plans.c compares them
 * with the header where there is one. All functions return 0 or a status (cublasStatus_t).
 *
 * Matrices are row-major here and column-major there: y = A B is asked as y' = B' A'. */
#ifndef DISTILL_KERNELS_CUDA_BLAS_H
#define DISTILL_KERNELS_CUDA_BLAS_H

#include "kernels/cuda/api.h"

typedef struct blas_choice { /* cublasLtMatmulHeuristicResult_t: an algorithm and what it needs */
    uint64_t algorithm[8];
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
} blas_choice;

/* X(field, name in the library, parameters, arguments) */
#define BLAS_API(X)                                                                                                    \
    X(create, cublasLtCreate, (void **handle), (handle))                                                               \
    X(destroy, cublasLtDestroy, (void *handle), (handle))                                                              \
    X(product_create, cublasLtMatmulDescCreate, (void **out, int compute, int scale_type), (out, compute, scale_type)) \
    X(product_destroy, cublasLtMatmulDescDestroy, (void *product), (product))                                          \
    X(product_set, cublasLtMatmulDescSetAttribute, (void *product, int attribute, const void *from, size_t bytes),     \
      (product, attribute, from, bytes))                                                                               \
    X(layout_create, cublasLtMatrixLayoutCreate, (void **out, int type, uint64_t rows, uint64_t cols, int64_t step),   \
      (out, type, rows, cols, step))                                                                                   \
    X(layout_destroy, cublasLtMatrixLayoutDestroy, (void *layout), (layout))                                           \
    X(layout_set, cublasLtMatrixLayoutSetAttribute, (void *layout, int attribute, const void *from, size_t bytes),     \
      (layout, attribute, from, bytes))                                                                                \
    X(preference_create, cublasLtMatmulPreferenceCreate, (void **out), (out))                                          \
    X(preference_destroy, cublasLtMatmulPreferenceDestroy, (void *preference), (preference))                           \
    X(preference_set, cublasLtMatmulPreferenceSetAttribute,                                                            \
      (void *preference, int attribute, const void *from, size_t bytes), (preference, attribute, from, bytes))         \
    X(choose, cublasLtMatmulAlgoGetHeuristic,                                                                          \
      (void *handle, void *product, void *a, void *b, void *c, void *d, void *preference, int wanted, blas_choice *out, int *n), \
      (handle, product, a, b, c, d, preference, wanted, out, n))                                                       \
    X(multiply, cublasLtMatmul,                                                                                        \
      (void *handle, void *product, const void *alpha, const void *a, void *a_layout, const void *b, void *b_layout,   \
       const void *beta, const void *c, void *c_layout, void *d, void *d_layout, const uint64_t *algorithm, void *work, \
       size_t work_size, void *stream),                                                                                \
      (handle, product, alpha, a, a_layout, b, b_layout, beta, c, c_layout, d, d_layout, algorithm, work, work_size, stream))

typedef struct blas_api {
#define BLAS_API_FIELD(field, name, parameters, arguments) int (*field) parameters;
    BLAS_API(BLAS_API_FIELD)
#undef BLAS_API_FIELD
} blas_api;

enum { /* X of the enums in cublasLt.h, cublas_api.h and library_types.h */
    BLAS_R_32F = 0, BLAS_R_16F = 2, BLAS_R_16BF = 14, BLAS_R_8F_E4M3 = 28,
    BLAS_COMPUTE_32F = 68, BLAS_COMPUTE_32F_FAST_16F = 74, BLAS_COMPUTE_32F_FAST_16BF = 75, BLAS_COMPUTE_32F_FAST_TF32 = 77,
    BLAS_OP_N = 0, BLAS_OP_T = 1,
    BLAS_PRODUCT_TRANSA = 3, BLAS_PRODUCT_TRANSB = 4, BLAS_PRODUCT_EPILOGUE = 7, BLAS_PRODUCT_BIAS_POINTER = 8,
    BLAS_PRODUCT_AUX_POINTER = 11, BLAS_PRODUCT_AUX_LD = 12,
    BLAS_LAYOUT_BATCH_COUNT = 5, BLAS_LAYOUT_BATCH_STEP = 6,
    BLAS_PREFER_WORKSPACE = 1, BLAS_PREFER_REDUCTIONS = 3, BLAS_PREFER_ALIGNMENT_A = 5, BLAS_PREFER_ALIGNMENT_D = 8,
    BLAS_REDUCE_IN_WORKSPACE = 2 | 4, /* sums of parts in a fixed order */
    BLAS_EPILOGUE_NONE = 1, BLAS_EPILOGUE_RELU = 2, BLAS_EPILOGUE_BIAS = 4, BLAS_EPILOGUE_GELU_TANH = 32,
    BLAS_EPILOGUE_AUX = 128, BLAS_EPILOGUE_RELU_SLOPE = 8 | 128, BLAS_EPILOGUE_GELU_TANH_SLOPE = 64 | 128,
    BLAS_EPILOGUE_SUMS_FIRST = 256, BLAS_EPILOGUE_SUMS_SECOND = 512, /* of the library's A (our B), B (our A) over k */
    BLAS_EPILOGUE_SUMS = 256 | 512
};

/* What decides how a product is done. Compared byte by byte: start from zeros. */
typedef struct blas_key {
    int64_t m, n, k;                      /* y [m, n] = A [m, k] times B [k, n], each product of the batch */
    int64_t count, a_step, b_step;        /* products, and elements from one's operand to the next's (0: the same) */
    int32_t a_transposed, b_transposed;   /* lies as [k, m], [n, k] */
    int32_t type;                         /* of A and B: BLAS_R_32F, _16F, _16BF or _8F_E4M3; sums are float32 */
    int32_t y_type;                       /* of y, C, the bias and what AUX keeps: BLAS_R_32F, or `type` */
    int32_t epilogue;                     /* BLAS_EPILOGUE_*: relu, bias, gelu by tanh, and what it was made of kept (AUX); the
                                             slope by what was kept; sums over k of an operand */
    int32_t compute;                      /* BLAS_COMPUTE_* */
    int32_t adds;                         /* y = alpha A B + beta C */
    int32_t unused;                       /* 0: no byte is without a name */
} blas_key;

typedef struct blas_plan {
    blas_key key;
    void *product, *a, *b, *y;
    blas_choice choice;
    bool usable; /* false: the library has nothing for it */
} blas_plan;

typedef struct cuda_blas {
    const blas_api *api;
    void *handle;
    blas_plan **plan;
    size_t n_plan;
} cuda_blas;

typedef struct blas_operands {
    void *y;
    const void *a, *b, *c, *bias; /* c may be y */
    void *aux, *sums; /* aux: written, read for a slope */
    float alpha, beta;
    void *work;
} blas_operands;

#ifdef __cplusplus
extern "C" {
#endif
/* 0 and *out, or the library's status (-1: no memory). */
int cuda_blas_open(const blas_api *api, cuda_blas **out);
void cuda_blas_close(cuda_blas *b); /* NULL allowed */
/* The plan for such products, made when it is asked for the first time and kept; NULL: the library is not there or has none. */
const blas_plan *cuda_blas_plan(cuda_queue *q, const blas_key *key);
/* Puts the product on the queue's stream. */
void cuda_blas_run(cuda_queue *q, const blas_plan *p, const blas_operands *o);
#ifdef __cplusplus
}
#endif

#endif
