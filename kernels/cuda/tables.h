/* tables.h - the kernel tables of the CUDA backend: one line a family, one file kernels/cuda/NAME.cu. */
#define CUDA_TABLES(X) \
    X(binary) \
    X(cast) \
    X(conv) \
    X(gemm) \
    X(move) \
    X(pool) \
    X(reduce) \
    X(unary)
