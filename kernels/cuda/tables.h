/* tables.h - the kernel tables of the CUDA backend: one line a family, one file kernels/cuda/NAME.cu. */
#define CUDA_TABLES(X) \
    X(binary) \
    X(cast) \
    X(conv) \
    X(dropout) \
    X(gather) \
    X(gemm) \
    X(move) \
    X(pad) \
    X(pool) \
    X(reduce) \
    X(resize) \
    X(shape) \
    X(unary) \
    X(update)
